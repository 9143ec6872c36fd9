/* db.h -- a JSON database: one file, one document, values by path, changes by commits. */
#ifndef EVERHEAP_DB_H
#define EVERHEAP_DB_H

#include <everheap/inspect.h>
#include <everheap/json.h>
#include <everheap/json_query.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A database is a document (json.h) and what surrounds it: values by path, search, metrics,
 * watches. Everything that json.h and json_query.h offer works on it too: see evh_db_json().
 *
 *   Paths    are JSON Pointers (RFC 6901) from the outermost value, as C strings. Two names at the
 *            top are not the document's: /$metrics, which tells numbers and cannot be changed, and
 *            /$sys, which is reserved. A member that has such a key is at /$$metrics, one with the
 *            key "$$metrics" at /$$$metrics, and so on. Pointers within the document (references,
 *            patches, json.h) know nothing of this: there "/$metrics" is the member.
 *   Errors   as in json.h; EVH_READ_ONLY for a path to one of the two.
 *   Threads  one thread changes a database while no other uses it; any number may read what is not
 *            under /$metrics.
 *   Crash    the last commit stands, in all of it: values, references, metrics.
 */

typedef struct evh_db evh_db;

/** What counts as a reference for evh_db_rvalue() and evh_db_lvalue(). */
typedef enum evh_db_references {
    EVH_DB_REFERENCES_ALONE = 0, /* {"$ref": "/path"}: json.h's, with no other member */
    EVH_DB_REFERENCES_AMONG,     /* likewise any object with a string member "$ref", whose path may
                                    do without its first / */
} evh_db_references;

typedef struct evh_db_options {
    evh_mode mode;   /* EVH_DURABLE, EVH_READ_ONLY or EVH_PRIVATE */
    bool must_exist; /* EVH_NOT_FOUND otherwise */
    bool guards; /* as in evh_options: a durable change of a large database takes half the time */
    const char *name; /* of the document in the heap; NULL: "json" */
    evh_db_references references;
    uint64_t commit_sequence; /* to read that past commit, see evh_options; 0: the newest */
    uint64_t reserved[3];     /* zero */
} evh_db_options;

/** A value with its document, which is one in memory for a path under /$metrics. All zero: none. */
typedef struct evh_node {
    evh_json *json;
    evh_value value;
} evh_node;

/* ---- databases ------------------------------------------------------------------------------ */

/**
 * Open the database in a heap file, making the file if it is not there. `options` may be NULL.
 * Returns   the database, owned: end it with evh_db_close(). NULL on failure.
 * Errors    as evh_open() and evh_json_open().
 * Cost      constant.
 */
EVH_API evh_db *evh_db_open(const char *path, const evh_db_options *options);
/** The same in a heap that is open, which stays the caller's; `mode`, `must_exist` and `guards` do
 *  not count. */
EVH_API evh_db *evh_db_open_in(evh_heap *heap, const evh_db_options *options);
/** Close it: what was not committed is gone if the heap was opened by evh_db_open(). NULL is fine.
 *  EVH_OK, or as evh_close(). */
EVH_API evh_status evh_db_close(evh_db *db);
/** Make every change durable, then call what watches. As evh_commit(). */
EVH_API evh_status evh_db_commit(evh_db *db);
/** Undo every change since the last commit. As evh_rollback(). */
EVH_API evh_status evh_db_rollback(evh_db *db);
/** Its heap; its document. Borrowed until it is closed. */
EVH_API evh_heap *evh_db_heap(evh_db *db);
EVH_API evh_json *evh_db_json(evh_db *db);

/* ---- reading -------------------------------------------------------------------------------- */

/** The value at a path, references followed. None: EVH_NOT_FOUND, EVH_SYNTAX, EVH_DANGLING,
 *  EVH_CYCLE. What is under /$metrics is as of this call; /$metrics/heap walks the heap's
 *  metadata. */
EVH_API evh_node evh_db_get(evh_db *db, const char *path);
/** The same, but a reference at the end is itself. */
EVH_API evh_node evh_db_peek(evh_db *db, const char *path);
/** Whether there is something at a path. Sets no error that matters. */
EVH_API bool evh_db_exists(evh_db *db, const char *path);
/** Prepare a path of the document, for evh_db_walk(). Owned: end it with evh_json_path_end(). */
EVH_API evh_json_path *evh_db_compile(evh_db *db, const char *path);
/** As evh_db_get(), by a prepared path. */
EVH_API evh_node evh_db_walk(evh_db *db, evh_json_path *path);
/** The path of a value of the document, as evh_json_pointer() gives it but for the two names. */
EVH_API size_t evh_db_path(evh_db *db, evh_value value, char *buffer, size_t size);

static inline bool evh_node_is(evh_node node)
{
    return node.json && node.value.container;
}
static inline evh_json_type evh_node_type(evh_node node)
{
    return evh_node_is(node) ? evh_json_type_of(node.json, node.value) : EVH_JSON_NONE;
}

/** Steps through the values of a container; begin with evh_cursor_begin(). */
typedef struct evh_cursor {
    evh_json *json;
    evh_value container;
    size_t position; /* of `value` */
    evh_value value;
    const char *key; /* NULL in an array; borrowed until it is erased */
    size_t key_size;
    bool has_begun;
} evh_cursor;

/** Before the first value. Other values of the container may change, be appended or be erased
 *  through the cursor meanwhile; those before it must not come or go. */
EVH_API evh_cursor evh_cursor_begin(evh_node container);
/** The next value; false at the end. */
EVH_API bool evh_cursor_next(evh_cursor *cursor);
/** Erase the value that the cursor is at; the next one is next. */
EVH_API evh_status evh_cursor_erase(evh_cursor *cursor);

/* ---- changing ------------------------------------------------------------------------------- */

/*
 * Family: evh_db_put_...  Set the value at a path, whatever it was; what is missing on the way is
 * made, as evh_json_make() does. A reference on the way is followed, one at the end is replaced.
 */
EVH_API evh_status evh_db_put_null(evh_db *db, const char *path);
EVH_API evh_status evh_db_put_boolean(evh_db *db, const char *path, bool boolean);
EVH_API evh_status evh_db_put_integer(evh_db *db, const char *path, int64_t integer);
EVH_API evh_status evh_db_put_unsigned(evh_db *db, const char *path, uint64_t natural);
EVH_API evh_status evh_db_put_real(evh_db *db, const char *path, double real);
EVH_API evh_status evh_db_put_text(evh_db *db, const char *path, const char *text, size_t size);
EVH_API evh_status evh_db_put_bytes(evh_db *db, const char *path, const void *bytes, size_t size);
EVH_API evh_status evh_db_put_ref(evh_db *db, const char *path, const char *pointer);
EVH_API evh_status evh_db_put_array(evh_db *db, const char *path);
EVH_API evh_status evh_db_put_object(evh_db *db, const char *path);
/** What a JSON text says. */
EVH_API evh_status evh_db_put_json(evh_db *db, const char *path, const char *text, size_t size);
/** A copy of a value of the document. */
EVH_API evh_status evh_db_put_value(evh_db *db, const char *path, evh_value value);

/** The value at a path, made if nothing is there. None: as evh_json_make(). */
EVH_API evh_value evh_db_make(evh_db *db, const char *path);
/** Take the value at a path out, with all below it. A reference is erased, not what it leads to. */
EVH_API evh_status evh_db_erase(evh_db *db, const char *path);
/** Append a null to the array at a path, which is made if nothing or null is there. `*item`
 *  receives it. */
EVH_API evh_status evh_db_push(evh_db *db, const char *path, evh_value *item);
/** Insert a null before the item that a path names: /list/0; its end is its count, or "-". */
EVH_API evh_status evh_db_insert(evh_db *db, const char *path, evh_value *item);
/** Add to the number at a path, 0 if nothing is there. Integers stay integers, reals reals.
 *  EVH_LIMIT if the sum fits neither int64 nor uint64, or is not finite. */
EVH_API evh_status evh_db_increment(evh_db *db, const char *path, int64_t by);
/** Likewise; an integer becomes a real. */
EVH_API evh_status evh_db_increment_real(evh_db *db, const char *path, double by);
/** Append to the string at a path, "" if nothing is there. */
EVH_API evh_status evh_db_append(evh_db *db, const char *path, const char *text, size_t size);
/** Give the member at a path another key, in its place. EVH_EXISTS. */
EVH_API evh_status evh_db_rename(evh_db *db, const char *path, const char *key);
/** Put what is at `from` at `to`, in place of what is there; it keeps its name. EVH_INVALID if `to`
 *  is below `from`. */
EVH_API evh_status evh_db_move(evh_db *db, const char *from, const char *to);
/** Put a copy of what is at `from` at `to`. */
EVH_API evh_status evh_db_copy(evh_db *db, const char *from, const char *to);

/* ---- searching ------------------------------------------------------------------------------ */

typedef enum evh_db_hit_kind {
    EVH_DB_KEY = 1,   /* of the value */
    EVH_DB_VALUE = 2, /* the value is a string */
} evh_db_hit_kind;

typedef struct evh_db_search_options {
    bool ignore_case; /* of the letters A to Z */
    uint32_t kinds;   /* EVH_DB_KEY | EVH_DB_VALUE; 0: both */
    uint64_t skip;    /* hits before the first that is told */
    uint64_t limit;   /* hits that are told; 0: all */
    uint64_t reserved[2];
} evh_db_search_options;

typedef struct evh_db_hit {
    evh_db_hit_kind kind;
    evh_value value;  /* the member with that key; the string */
    const char *text; /* the whole key or string, borrowed until the database changes */
    size_t size;
} evh_db_hit;

/** Called for each hit; returns false to stop. Must not change the database. */
typedef bool evh_db_found(const evh_db_hit *hit, void *context);

/**
 * Call `found` for the keys and strings that contain `size` bytes at `part`; size 0: for all. Keys
 * come first; the order is otherwise that of storage, the same until the database changes.
 * `total` (may be NULL) receives how many hits there are, told or not; without it the search ends
 * with the last that is told.
 * Errors    EVH_INVALID, EVH_NO_MEMORY, EVH_CORRUPT.
 * Cost      reads the strings at the speed of memory; the keys likewise, and of those that match
 *           all objects.
 */
EVH_API evh_status evh_db_search(evh_db *db, const char *part, size_t size,
                                 const evh_db_search_options *options, evh_db_found *found,
                                 void *context, uint64_t *total);

/**
 * Keep an index of the strings from now on, or stop. It is part of the database: changed with every
 * string, committed and rolled back with it. A search for three bytes or more then reads only the
 * pieces of 64 KiB that may have them; hits come in another order. Strings above 4000 bytes, and
 * keys, are always looked through.
 * Errors    EVH_FULL and as every change: nothing has changed.
 * Cost      an eighth of the strings' size, and once their size in time; then a nanosecond or two
 *           for each byte that is written, and a few more pages in a commit.
 */
EVH_API evh_status evh_db_set_index(evh_db *db, bool on);
/** Whether there is one. */
EVH_API bool evh_db_has_index(evh_db *db);

/* ---- watching ------------------------------------------------------------------------------- */

/** Called after a commit for each path that changed at, below or above what is watched. Paths are
 *  those of the moment of the change, told once each, sorted, and up to 65536 of one commit: after
 *  more, the path that is watched. May change the database, but not watch or unwatch. */
typedef void evh_db_changed(const char *path, void *context);

/** Call `changed` for what changes at `path` or below it. `*watch` receives its number. */
EVH_API evh_status evh_db_watch(evh_db *db, const char *path, evh_db_changed *changed,
                                void *context, uint64_t *watch);
/** Stop. EVH_NOT_FOUND. */
EVH_API evh_status evh_db_unwatch(evh_db *db, uint64_t watch);

/* ---- references ----------------------------------------------------------------------------- */

/** Called for each reference, with EVH_OK, EVH_DANGLING or EVH_CYCLE; returns false to stop. Must
 *  not change the database. */
typedef bool evh_db_reference(evh_value reference, evh_status status, void *context);

/** Visit the references that lead to a container or to a value in it. In a heap that cannot be
 *  written only those that were resolved are known. EVH_INVALID: no container. */
EVH_API evh_status evh_db_referrers(evh_db *db, evh_value container, evh_db_reference *visit,
                                    void *context);
/** Visit all references, or only those that lead nowhere or in a ring. */
EVH_API evh_status evh_db_references_check(evh_db *db, bool only_bad, evh_db_reference *visit,
                                           void *context);

/* ---- for interpreters ----------------------------------------------------------------------- */

/*
 * Relative paths: segments, separated by /, with the escapes of RFC 6901; no / at the beginning. A
 * path with one begins at the outermost value. References on the way are followed.
 */

/** Gives the value that the first segment of a relative path means; none: a member of `from`. */
typedef evh_value evh_db_first(void *context, const char *segment, size_t size);
/** Ask `first` for first segments from now on; NULL: nobody. */
EVH_API void evh_db_set_first(evh_db *db, evh_db_first *first, void *context);

/** Where a path failed. */
typedef struct evh_db_stop {
    size_t offset; /* of the segment in the path */
    size_t size;   /* of it */
    evh_value at;  /* the value that has no such member or item */
} evh_db_stop;

/** The value at a relative path. None, and `*stop` (may be NULL): EVH_NOT_FOUND, EVH_DANGLING,
 *  EVH_CYCLE, EVH_SYNTAX. */
EVH_API evh_value evh_db_rvalue(evh_db *db, evh_value from, const char *path, evh_db_stop *stop);
/** The same, making what is missing: a null becomes an array or an object as the segment asks for;
 *  an array is extended with nulls, by up to 65536 (EVH_LIMIT). EVH_INVALID: a value in the way. */
EVH_API evh_value evh_db_lvalue(evh_db *db, evh_value from, const char *path, evh_db_stop *stop);

/** Remember a pointer of the program's for a value, until the database is closed; NULL forgets it.
 *  It belongs to the name: that of a container is its own, any other is a place. EVH_NO_MEMORY. */
EVH_API evh_status evh_db_attach(evh_db *db, evh_value value, void *pointer);
/** What was remembered for a value that is still there, or NULL. Cost: constant. */
EVH_API void *evh_db_attached(evh_db *db, evh_value value);

#ifdef __cplusplus
}
#endif

#endif
