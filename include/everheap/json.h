/* json.h -- JSON documents that live in a heap: nothing is parsed when it opens. */
#ifndef EVERHEAP_JSON_H
#define EVERHEAP_JSON_H

#include <everheap/heap.h>

#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A document is a tree of values in a heap, under a named root. It is changed in place;
 * evh_commit() makes the changes durable and evh_rollback() undoes them, with everything else in
 * the heap.
 *
 *   Values   evh_value names a value. Of an array or object it stays valid until that is erased,
 *            whatever else changes. Of any other value it is a place in its container: valid until
 *            something is inserted into or erased from *that* container. A name that is not valid
 *            any more is EVH_NOT_FOUND, as long as its number has not been given anew 2^32 times.
 *   Text     is UTF-8 of any bytes but malformed ones; keys and strings may hold U+0000. `size` is
 *            in bytes.
 *   Refs     {"$ref": "/path"} is a reference to what is at that path (EVH_JSON_REF);
 *            {"$base64": "AAEC"} is bytes (EVH_JSON_BYTES).
 *   Errors   of every call that changes: EVH_FULL, EVH_NO_MEMORY, EVH_LIMIT, EVH_READ_ONLY,
 *            EVH_FORKED, EVH_POISONED, EVH_INVALID (a null argument, a value of the wrong type),
 *            EVH_NOT_FOUND (the value is no more), EVH_CORRUPT (the file is damaged; the offset
 *            says where). Nothing has changed after any of them but EVH_CORRUPT.
 *   Threads  one thread changes a document while no other uses it; any number may read. Following a
 *            reference that was never followed is a change: evh_json_resolve() follows all.
 *   Crash    as everything in the heap: the last commit stands.
 *   Cost     a member of an object: constant. An item of an array: constant up to 1024 items, then
 *            logarithmic. Inserting and erasing: likewise, after at most 1024 moved values.
 */

/** A document, open. */
typedef struct evh_json evh_json;

/** Names a value. All zero: none. */
typedef struct evh_value {
    uint32_t container;
    uint32_t serial;
    uint64_t position;
} evh_value;

typedef enum evh_json_type {
    EVH_JSON_NONE = 0, /* no value */
    EVH_JSON_NULL,
    EVH_JSON_BOOLEAN,
    EVH_JSON_INTEGER,  /* fits int64_t */
    EVH_JSON_UNSIGNED, /* fits uint64_t only */
    EVH_JSON_REAL,     /* a double */
    EVH_JSON_DIGITS,   /* a number that fits none of these, kept as it was written */
    EVH_JSON_STRING,
    EVH_JSON_BYTES,
    EVH_JSON_ARRAY,
    EVH_JSON_OBJECT,
    EVH_JSON_REF,
} evh_json_type;

/* ---- documents ------------------------------------------------------------------------------ */

/**
 * Open the document called `name` in a heap (NULL: "json"), making it, a null, if it is not there.
 * Returns   the document, owned: end it with evh_json_close() before the heap. NULL on failure.
 * Errors    EVH_NOT_FOUND (a heap that cannot be written has none), EVH_INVALID, EVH_CORRUPT,
 *           EVH_VERSION; as evh_malloc().
 * Threads   any.
 * Cost      constant. Several may open one document in turn; one at a time may change it.
 */
EVH_API evh_json *evh_json_open(evh_heap *heap, const char *name);
/** End it; NULL is fine. The document stays in the heap. */
EVH_API void evh_json_close(evh_json *json);
/** Verify that the document is sound, counting everything again. EVH_OK or EVH_CORRUPT. */
EVH_API evh_status evh_json_check(evh_json *json);
/** Free the document called `name` with all its values. EVH_NOT_FOUND. */
EVH_API evh_status evh_json_remove(evh_heap *heap, const char *name);

/** The document's outermost value. */
EVH_API evh_value evh_json_root(evh_json *json);
/** A new null outside the document, to build a value that is moved into it later. Owned: end it
 *  with evh_json_erase(). A value of EVH_JSON_NONE on failure. */
EVH_API evh_value evh_json_detached(evh_json *json);

/* ---- reading -------------------------------------------------------------------------------- */

/** What a value is; EVH_JSON_NONE if it is no more. */
EVH_API evh_json_type evh_json_type_of(evh_json *json, evh_value value);
/** The name of a type, such as "object". Static. */
EVH_API const char *evh_json_type_name(evh_json_type type);
/** Items of an array, members of an object; 0 of others. */
EVH_API size_t evh_json_count(evh_json *json, evh_value value);

/* Numbers are converted among each other: `*exact` (may be NULL) tells whether nothing was lost.
 * What is no number is 0, false, and not exact. */
EVH_API bool evh_json_boolean(evh_json *json, evh_value value, bool *exact);
EVH_API int64_t evh_json_integer(evh_json *json, evh_value value, bool *exact);
EVH_API uint64_t evh_json_unsigned(evh_json *json, evh_value value, bool *exact);
EVH_API double evh_json_real(evh_json *json, evh_value value, bool *exact);

/** The bytes of a string, of digits, the path of a ref, with a zero behind them; borrowed until the
 *  value changes. NULL if it is none of these. `size` may be NULL. */
EVH_API const char *evh_json_text(evh_json *json, evh_value value, size_t *size);
/** The bytes of an EVH_JSON_BYTES, borrowed as above; NULL if it is none. */
EVH_API const void *evh_json_bytes(evh_json *json, evh_value value, size_t *size);

/** Item `position` of an array; value `position` of an object, in the order in which they came. */
EVH_API evh_value evh_json_at(evh_json *json, evh_value container, size_t position);
/** The member `key` of an object. Absence sets no error. */
EVH_API evh_value evh_json_member(evh_json *json, evh_value object, const char *key, size_t size);
/** The key of the member at `position`, with a zero behind it; borrowed until it is erased. */
EVH_API const char *evh_json_key(evh_json *json, evh_value object, size_t position, size_t *size);
/** The container that holds a value; none of the outermost. */
EVH_API evh_value evh_json_parent(evh_json *json, evh_value value);
/** Where in its container a value is. SIZE_MAX if it is no more. Cost: of an item or member that is
 *  a container, the values before it. */
EVH_API size_t evh_json_position(evh_json *json, evh_value value);

/**
 * The value at a JSON Pointer (RFC 6901) below `from`, also in the form of a URI fragment
 * ("#/a%20b"); "" is `from`. References on the way are followed, one at the end is not.
 * Returns   the value, or none and EVH_NOT_FOUND, EVH_SYNTAX (no pointer), EVH_DANGLING, EVH_CYCLE.
 */
EVH_API evh_value evh_json_find(evh_json *json, evh_value from, const char *pointer, size_t size);

/** A pointer, prepared: keys are looked up once. */
typedef struct evh_json_path evh_json_path;
/** Prepare a pointer. Returns it, owned: end it with evh_json_path_end(). EVH_SYNTAX. */
EVH_API evh_json_path *evh_json_compile(evh_json *json, const char *pointer, size_t size);
EVH_API void evh_json_path_end(evh_json_path *path);
/** As evh_json_find(). Threads: one at a time for each path. */
EVH_API evh_value evh_json_walk(evh_json *json, evh_value from, evh_json_path *path);

/** Follow references until a value is none, at most 32. EVH_DANGLING, EVH_CYCLE. */
EVH_API evh_value evh_json_follow(evh_json *json, evh_value value);
/** The JSON Pointer of a value, with a zero behind it: stores at most `size` bytes, the end of it
 *  if it is longer. Returns how many bytes it has, SIZE_MAX if the value is no more. */
EVH_API size_t evh_json_pointer(evh_json *json, evh_value value, char *buffer, size_t size);
/** Whether two values are equal: numbers by value, objects in any order, refs by their text. */
EVH_API bool evh_json_equal(evh_json *json, evh_value first, evh_value second);

/* ---- changing ------------------------------------------------------------------------------- */

/*
 * Family: evh_json_set_...  Give a value another content; what was there is freed. A string that
 * fits is changed in place. A container that is set to itself again is emptied.
 */
EVH_API evh_status evh_json_set_null(evh_json *json, evh_value value);
EVH_API evh_status evh_json_set_boolean(evh_json *json, evh_value value, bool boolean);
EVH_API evh_status evh_json_set_integer(evh_json *json, evh_value value, int64_t integer);
EVH_API evh_status evh_json_set_unsigned(evh_json *json, evh_value value, uint64_t natural);
/** NaN and infinities are EVH_INVALID. */
EVH_API evh_status evh_json_set_real(evh_json *json, evh_value value, double real);
/** Any number as JSON spells it; kept as digits if it fits nothing else. EVH_SYNTAX. */
EVH_API evh_status evh_json_set_number(evh_json *json, evh_value value, const char *text,
                                       size_t size);
/** EVH_SYNTAX if it is not UTF-8. */
EVH_API evh_status evh_json_set_text(evh_json *json, evh_value value, const char *text,
                                     size_t size);
/** Bytes of any value. */
EVH_API evh_status evh_json_set_bytes(evh_json *json, evh_value value, const void *bytes,
                                      size_t size);
/** A reference to what is, or will be, at a JSON Pointer below the outermost value. EVH_SYNTAX. */
EVH_API evh_status evh_json_set_ref(evh_json *json, evh_value value, const char *pointer,
                                    size_t size);
/** An empty array; an empty object. */
EVH_API evh_status evh_json_set_array(evh_json *json, evh_value value);
EVH_API evh_status evh_json_set_object(evh_json *json, evh_value value);

/** Append bytes to a string, in place if it has room. EVH_SYNTAX. */
EVH_API evh_status evh_json_append_text(evh_json *json, evh_value string, const char *text,
                                        size_t size);
/** Insert a null before `position` of an array; at its end if it is their number. `*item` receives
 *  it. */
EVH_API evh_status evh_json_insert(evh_json *json, evh_value array, size_t position,
                                   evh_value *item);
/** Append a null to an array. `*item` receives it. */
EVH_API evh_status evh_json_append(evh_json *json, evh_value array, evh_value *item);
/** The member `key` of an object, a new null if there was none. `*member` receives it.
 *  EVH_SYNTAX. */
EVH_API evh_status evh_json_put(evh_json *json, evh_value object, const char *key, size_t size,
                                evh_value *member);
/**
 * The value at a JSON Pointer below `from`; what is missing on the way is made: a null becomes an
 * array if the next token is a number or "-", else an object; a new member or item is a null. An
 * item is appended at the array's end, by its number or by "-". References are followed.
 * Returns   the value, or none, and nothing has changed: as evh_json_find() and every change.
 */
EVH_API evh_value evh_json_make(evh_json *json, evh_value from, const char *pointer, size_t size);
/** Give a member another key, in its place. EVH_EXISTS. */
EVH_API evh_status evh_json_rename(evh_json *json, evh_value member, const char *key, size_t size);
/** Take a value out of its container and free it. The outermost becomes null; a detached one ends.
 *  References that led to it dangle. Cost: all that is below it. */
EVH_API evh_status evh_json_erase(evh_json *json, evh_value value);
/** `target` becomes a copy of `source`, which may contain it or be below it. */
EVH_API evh_status evh_json_copy(evh_json *json, evh_value target, evh_value source);
/** `target` becomes `source`, which becomes null, without copying. EVH_INVALID if `target` is in
 *  `source`. */
EVH_API evh_status evh_json_move(evh_json *json, evh_value target, evh_value source);
/** Resolve every reference now. `*loose` (may be NULL) receives how many lead nowhere. */
EVH_API evh_status evh_json_resolve(evh_json *json, size_t *loose);

/* ---- from text and to text ------------------------------------------------------------------ */

typedef enum evh_json_duplicates {
    EVH_JSON_DUPLICATES_REFUSED = 0, /* a key twice in an object is EVH_SYNTAX */
    EVH_JSON_DUPLICATES_FIRST,       /* the first one stays */
    EVH_JSON_DUPLICATES_LAST,        /* the last one stays, in the place of the first */
} evh_json_duplicates;

typedef struct evh_json_read_options {
    evh_json_duplicates duplicates;
    uint32_t depth_max;        /* nesting; 0 means 512 */
    uint64_t string_bytes_max; /* of one string or key; 0 means 1 GiB */
    uint64_t number_bytes_max; /* of one number; 0 means 64 KiB */
    bool lines;                /* any number of values, one behind the other, become an array */
    bool keep_digits;          /* numbers that would be written otherwise are kept as digits */
    bool plain;                /* $ref and $base64 are ordinary keys */
    bool fragments;            /* {"$ref": "#/path"} is a reference too */
    bool strict;               /* a $ref that is no pointer, a $base64 that is not canonical:
                                  EVH_SYNTAX, not an ordinary object */
    bool byte_order_mark;      /* accept U+FEFF at the beginning */
    uint64_t reserved[4];      /* zero */
} evh_json_read_options;

/** Where text was wrong. The last error has the same as a message. */
typedef struct evh_json_fault {
    uint64_t offset; /* bytes before it */
    uint64_t line;   /* from 1 */
    uint64_t column; /* from 1, in bytes */
    char expected[64];
} evh_json_fault;

/** Gives text piece by piece: stores up to `size` bytes, `*done` how many; 0 at the end. Returns 0,
 *  or an errno, which ends the reading. */
typedef int evh_json_source(void *context, char *buffer, size_t size, size_t *done);
/** Takes text piece by piece. Returns 0, or an errno, which ends the writing. */
typedef int evh_json_sink(void *context, const char *text, size_t size);

/*
 * Family: evh_json_parse, evh_json_read, evh_json_read_file.
 * `value` becomes what the JSON text (RFC 8259) says. `options` and `fault` may be NULL.
 * Errors    EVH_SYNTAX, EVH_LIMIT (deeper or longer than an option allows), EVH_IO; `value` is
 *           unchanged after any.
 * Cost      one pass. Memory besides the heap: a window of 1 MiB, and what is open.
 */
/** From memory. */
EVH_API evh_status evh_json_parse(evh_json *json, evh_value value, const char *text, size_t size,
                                  const evh_json_read_options *options, evh_json_fault *fault);
/** From a source. */
EVH_API evh_status evh_json_read(evh_json *json, evh_value value, evh_json_source *source,
                                 void *context, const evh_json_read_options *options,
                                 evh_json_fault *fault);
/** From a stream, from where it stands to its end. */
EVH_API evh_status evh_json_read_file(evh_json *json, evh_value value, FILE *file,
                                      const evh_json_read_options *options, evh_json_fault *fault);

typedef struct evh_json_write_options {
    uint32_t indent;      /* spaces for each level; 0: no white space at all */
    bool sort_keys;       /* by their bytes */
    bool ascii;           /* everything else as \u escapes */
    uint64_t reserved[4]; /* zero */
} evh_json_write_options;

/*
 * Family: evh_json_write, evh_json_write_file, evh_json_print.
 * Write a value as JSON text. `options` may be NULL. References are written as such.
 * Errors    EVH_IO and what else the sink's errno stands for, EVH_NO_MEMORY, EVH_NOT_FOUND.
 */
/** To a sink. */
EVH_API evh_status evh_json_write(evh_json *json, evh_value value, evh_json_sink *sink,
                                  void *context, const evh_json_write_options *options);
/** To a stream; it is flushed. */
EVH_API evh_status evh_json_write_file(evh_json *json, evh_value value, FILE *file,
                                       const evh_json_write_options *options);
/** To memory, with a zero behind it. Returns the text, owned: end it with free(). NULL on failure.
 *  `size` may be NULL. */
EVH_API char *evh_json_print(evh_json *json, evh_value value, const evh_json_write_options *options,
                             size_t *size);

/* ---- the same with C strings ---------------------------------------------------------------- */

static inline evh_value evh_json_get(evh_json *json, const char *pointer)
{
    return evh_json_find(json, evh_json_root(json), pointer, pointer ? strlen(pointer) : 0);
}
static inline bool evh_json_is(evh_value value)
{
    return value.container != 0;
}

#ifdef __cplusplus
}
#endif

#endif
