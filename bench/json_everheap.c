/* json_everheap.c -- everheap among the parsers and databases. */
#include "bench.h"
#include "json_ours.h"

#include <stdlib.h>
#include <string.h>

/* ---- as a parser: a document in a heap in memory, which stays for the next text ---- */

static evh_heap *text_heap;

static void *ours_parse(const char *text, size_t size)
{
    if (!text_heap) text_heap = evh_open_memory(NULL, 0, NULL);
    bench_require(text_heap != NULL, "open memory");
    evh_json *const json = evh_json_open(text_heap, NULL);
    bench_require(json != NULL, "open a document");
    if (!evh_json_parse(json, evh_json_root(json), text, size, NULL, NULL)) return json;
    evh_json_close(json);
    return NULL;
}

static int swallow(void *context, const char *text, size_t size)
{
    (void)text;
    *(size_t *)context += size;
    return 0;
}

static size_t ours_write(void *tree)
{
    size_t size = 0;
    bench_require(!evh_json_write(tree, evh_json_root(tree), swallow, &size, NULL), "write");
    return size;
}

static void ours_end(void *tree)
{
    bench_require(!evh_json_set_null(tree, evh_json_root(tree)), "empty");
    evh_json_close(tree);
}

uint64_t json_ours_bytes(void)
{
    evh_info info;
    bench_require(!evh_get_info(text_heap, &info), "count");
    return info.live_bytes;
}

uint64_t json_ours_values(void *tree)
{
    evh_db *const db = evh_db_open_in(text_heap, NULL);
    const evh_node node = evh_db_get(db, "/$metrics/values");
    const uint64_t count = evh_json_unsigned(node.json, node.value, NULL);
    bench_require(tree != NULL && !evh_db_close(db), "count");
    return count;
}

const struct json_parser json_ours_parser = {"everheap", ours_parse, ours_write, ours_end};

/* ---- as a database ---- */

struct ours {
    evh_db *db;
    evh_value statuses; /* none before they are there */
};

static void *open_with(const char *path, const evh_db_options *with)
{
    struct ours *const ours = bench_memory(1, sizeof *ours);
    ours->db = evh_db_open(path, with);
    bench_require(ours->db != NULL, "open");
    return ours;
}

static void *ours_open(const char *path, bool is_new)
{
    (void)is_new;
    return open_with(path, NULL);
}

static void *guarded_open(const char *path, bool is_new)
{
    (void)is_new;
    return open_with(path, &(evh_db_options){.guards = true});
}

static void ours_begin(void *store)
{
    (void)store;
}

static void ours_commit(void *store)
{
    bench_require(!evh_db_commit(((struct ours *)store)->db), "commit");
}

static void ours_load(void *store, const char *text, size_t size)
{
    struct ours *const ours = store;
    bench_require(!evh_db_put_json(ours->db, "", text, size), "load");
    ours_commit(store);
}

static void ours_update(void *store, size_t status, const char letters[2])
{
    struct ours *const ours = store;
    evh_json *const json = evh_db_json(ours->db);
    if (!evh_json_is(ours->statuses)) ours->statuses = evh_json_get(json, "/statuses");
    const evh_value item = evh_json_at(json, ours->statuses, status);
    const evh_value lang = evh_json_member(json, item, "lang", 4);
    bench_require(!evh_json_set_text(json, lang, letters, 2), "change");
}

static size_t ours_read(void *store, size_t status, char *start, size_t start_size)
{
    struct ours *const ours = store;
    char path[64];
    snprintf(path, sizeof path, "/statuses/%zu/user/screen_name", status);
    const evh_node node = evh_db_get(ours->db, path);
    size_t size = 0;
    const char *const text = evh_json_text(node.json, node.value, &size);
    bench_require(text != NULL, "read");
    memcpy(start, text, size < start_size ? size : start_size);
    return size;
}

static uint64_t ours_search(void *store, const char *part)
{
    uint64_t total = 0;
    const evh_db_search_options options = {.kinds = EVH_DB_VALUE};
    bench_require(!evh_db_search(((struct ours *)store)->db, part, strlen(part), &options, NULL,
                                 NULL, &total),
                  "search");
    return total;
}

static void ours_close(void *store)
{
    bench_require(!evh_db_close(((struct ours *)store)->db), "close");
    free(store);
}

evh_db *json_ours_db(void *store)
{
    return ((struct ours *)store)->db;
}

const struct json_store json_ours_store = {"everheap", ours_open,   ours_load,
                                           ours_begin, ours_commit, ours_update,
                                           ours_read,  ours_search, ours_close};
const struct json_store json_guarded_store = {
    "everheap, guards", guarded_open, ours_load, ours_begin, ours_commit,
    ours_update,        NULL,         NULL,      ours_close};
