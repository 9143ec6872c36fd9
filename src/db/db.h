/* db.h -- the JSON database: what the files of this layer offer each other. */
#ifndef EVERHEAP_DB_DB_H
#define EVERHEAP_DB_DB_H

#include "json/json.h"

#include <everheap/db.h>

/* A path that somebody watches. */
struct db_watch {
    uint64_t number;
    char *path; /* owned; without a / at its end */
    size_t size;
    evh_db_changed *changed;
    void *context;
};

/* Paths that changed since the last commit, matched with a watch. */
struct db_watches {
    struct json_observer observer; /* its count is that of `paths` */
    struct db_watch *list;         /* owned */
    size_t count, capacity;
    uint64_t numbers;  /* given */
    char **paths;      /* owned, as the array */
    size_t paths_kept; /* paths from observer.count on are forgotten ones, to be freed */
    size_t paths_capacity;
    bool overflows; /* more changed than could be written down */
};

/* Pointers of the program's, by value: a hash table with linear probing. */
struct db_attached {
    evh_value value;
    void *pointer; /* NULL with a value: forgotten */
};

struct db_side {
    struct db_attached *table; /* owned */
    size_t capacity;           /* a power of two, or 0 */
    size_t used;               /* forgotten ones included */
};

struct evh_db {
    evh_heap *heap;
    bool owns_heap;
    evh_json *json;
    evh_db_references references;
    evh_heap *metrics_heap; /* in memory; made when first asked for */
    evh_json *metrics;
    struct db_watches watches;
    struct db_side side;
    evh_db_first *first;
    void *first_context;
};

enum db_realm { DB_DOCUMENT, DB_METRICS, DB_SYSTEM };

/** A path, as the document knows it: `text` and `size`. End it with db_route_end(). */
struct db_route {
    enum db_realm realm;
    const char *text; /* DB_METRICS: behind the name */
    size_t size;
    char *memory; /* owned; NULL: `text` is the caller's */
};

/** Whose a path is. EVH_INVALID (none), EVH_NO_MEMORY. */
EVH_INTERNAL evh_status db_route(const char *path, struct db_route *route);
EVH_INTERNAL void db_route_end(struct db_route *route);

/** The numbers at `text`, a pointer below /$metrics. */
EVH_INTERNAL evh_node db_metrics(struct evh_db *db, const char *text, size_t size);

/* ---- watch.c ---- */

/** Call what watches, after a commit; forget the changes, after a rollback; free everything. */
EVH_INTERNAL void db_watches_tell(struct evh_db *db);
EVH_INTERNAL void db_watches_forget(struct db_watches *watches);
EVH_INTERNAL void db_watches_end(struct evh_db *db);

/** The path of a value, owned: free it with os->memory_free. NULL without an error if it has none;
 *  with `*size` its bytes. */
EVH_INTERNAL char *db_path_text(struct evh_db *db, evh_value value, size_t *size);

/* ---- match.c: substrings ---- */

struct db_pattern {
    const unsigned char *bytes; /* owned; folded if the case does not count */
    size_t size;
    bool folds;
    unsigned char first, last;           /* of `bytes` */
    unsigned char first_mask, last_mask; /* 0x20 for a letter that folds */
};

/** Prepare `part`. EVH_NO_MEMORY. */
EVH_INTERNAL evh_status db_pattern_begin(struct db_pattern *pattern, const char *part, size_t size,
                                         bool folds);
EVH_INTERNAL void db_pattern_end(struct db_pattern *pattern);
/** Where the pattern, not empty, is first found in `size` bytes, or NULL. */
EVH_INTERNAL const char *db_pattern_find(const struct db_pattern *pattern, const char *text,
                                         size_t size);

#endif
