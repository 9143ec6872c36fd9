/* json_peers.h -- what JSON documents are measured beside: parsers, databases, programs. */
#ifndef EVERHEAP_BENCH_JSON_PEERS_H
#define EVERHEAP_BENCH_JSON_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A parser: from text to a tree in memory, and back. Lists of them end with a null name. */
struct json_parser {
    const char *name;
    /** The tree of a text, owned: end it with end(). NULL: refused. */
    void *(*parse)(const char *text, size_t size);
    /** Write it without white space. Returns how many bytes that are. */
    size_t (*write)(void *tree);
    void (*end)(void *tree);
};

extern const struct json_parser json_parsers_c[];   /* jansson, yyjson */
extern const struct json_parser json_parsers_cxx[]; /* simdjson, RapidJSON, nlohmann */

/** What is searched for. */
struct json_part {
    const char *what;
    const char *text;
};

/**
 * A database that holds {"statuses": [...]}, each status in whatever way suits it. Lists end with a
 * null name.
 */
struct json_store {
    const char *name;
    /** Open it, to be filled by load() if `is_new`. Owned: end it with close(). */
    void *(*open)(const char *path, bool is_new);
    /** Fill it, durably. */
    void (*load)(void *store, const char *text, size_t size);
    void (*begin)(void *store);
    void (*commit)(void *store); /* durably */
    /** Change the language of a status to two letters. NULL: it is not for that; likewise below. */
    void (*update)(void *store, size_t status, const char letters[2]);
    /** Read /statuses/STATUS/user/screen_name: how many bytes it has, and the first ones. */
    size_t (*read)(void *store, size_t status, char *start, size_t start_size);
    /** Count the rows in which a text occurs. */
    uint64_t (*search)(void *store, const char *part);
    void (*close)(void *store);
};

extern const struct json_store json_stores[]; /* SQLite, LMDB */

/** The part of a text that is item `number`, by brackets and quotes alone, for who stores texts:
 *  calls `each` for the items of the first array in it. */
void json_each_item(const char *text, size_t size,
                    void (*each)(size_t number, const char *item, size_t size, void *context),
                    void *context);

/** What a program takes from its start to its end to print one path of the file at `path`, in
 *  nanoseconds; 0: it is not installed, or failed. The first two read databases, others text. */
double json_program_run(int program, const char *path, size_t status);
const char *json_program_name(int program);
enum { JSON_OURS, JSON_SQLITE, JSON_TEXTS, JSON_PROGRAMS = 5 };

#ifdef __cplusplus
}
#endif

#endif
