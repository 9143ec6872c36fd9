/* parse.h -- JSON text on its way into a heap: what parse.c, parse_text.c and parse_window.c share.
 */
#ifndef EVERHEAP_JSON_PARSE_H
#define EVERHEAP_JSON_PARSE_H

#include "json/json.h"

enum {
    PARSE_DEPTH_MAX = 512,
    PARSE_WINDOW_BYTES = 1 << 20,
    PARSE_PADDING_BYTES = SCAN_OVER_BYTES,
    PARSE_KEY_CACHE = 1024, /* keys whose symbols are known without hashing them in the heap */
    PARSE_ITEMS_MAX = 4096, /* values of one container that wait, before they are put into it */
};

/* What a step of the parser came to. */
enum parse_result {
    PARSE_DONE,
    PARSE_MORE, /* the text ends here, but it is not all: nothing was consumed */
    PARSE_FAILED,
};

enum parse_state {
    PARSE_VALUE,       /* a value comes */
    PARSE_FIRST_VALUE, /* a value, or the end of an array */
    PARSE_FIRST_KEY,   /* a key, or the end of an object */
    PARSE_KEY,         /* a key */
    PARSE_COLON,       /* a colon */
    PARSE_BEHIND,      /* behind a value: a comma, or the end of what it is in */
    PARSE_END,         /* behind the outermost value: white space */
};

/* A key whose symbol is known. */
struct parse_key {
    uint64_t first, last; /* its first and last 8 bytes, zero-padded; shorter: first only */
    const char *text;     /* in the heap */
    uint32_t size;
    uint32_t key;  /* symbol; 0: this entry is empty */
    uint32_t uses; /* references that the symbol has yet to be told of */
};

/* A container that is open. Its values wait on a stack until it is closed. */
struct parse_frame {
    struct json_container *container;
    uint32_t number;
    uint32_t kind;
    size_t first;       /* its first value on the stack */
    uint64_t seen;      /* a bit for each key's hash: a key whose bit is 0 is new */
    uint64_t duplicate; /* the key that comes is there already: its position + 1 */
};

struct parser {
    struct evh_json *json;
    evh_json_read_options options;
    evh_json_fault *fault;
    evh_status status;
    enum parse_state state;
    bool has_key; /* the key of the value that comes is on the stack */

    /* The text. */
    const char *next, *end; /* what is to be read; behind it PARSE_PADDING_BYTES are readable */
    bool is_final;          /* nothing comes behind it */
    const char *window;     /* where it begins */
    uint64_t window_offset; /* bytes before the window */
    uint64_t lines;         /* line feeds before it */
    uint64_t line_offset;   /* where its first line begins */
    evh_json_source *source;
    void *context;
    char *buffer; /* owned */
    size_t buffer_bytes;
    const char *rest; /* of a text in memory: what follows the window */
    size_t rest_bytes;

    /* What is open. */
    uint32_t owner; /* the container that the outermost value goes to */
    struct parse_frame *frames;
    size_t depth, frame_capacity;
    struct json_slot *slots; /* the stack of values, and their keys */
    uint32_t *keys;
    size_t count, capacity;
    struct json_slot result;

    char *scratch; /* strings with escapes */
    size_t scratch_bytes;
    uint32_t ref_key, base64_key; /* symbols; 0: they mean nothing */
    uint64_t special_uses[2];     /* of base64_key, ref_key: by objects that are none any more */
    uint64_t counts[JSON_TYPE_COUNT];
    struct parse_key cache[PARSE_KEY_CACHE];
};

/* ---- parse_window.c ---- */

/** Get more text behind `next`. False at its end (then is_final is set), or after a failure. */
EVH_INTERNAL bool parse_refill(struct parser *parser);

/** Fail at a place of the window. Returns PARSE_FAILED. */
EVH_INTERNAL enum parse_result parse_fail(struct parser *parser, const char *at, evh_status status,
                                          const char *expected);
/** Fail with the last error, which has no place in the text. */
EVH_INTERNAL enum parse_result parse_fail_with(struct parser *parser, evh_status status);

/* ---- parse_text.c ---- */

/** Find the end of the string that begins behind the quote at next. `*text` and `*size` are its
 *  bytes, decoded; they are in the window or in the scratch memory. `*stop` is behind its quote. */
EVH_INTERNAL enum parse_result parse_string(struct parser *parser, const char **text, size_t *size,
                                            const char **stop);

/** The symbol of a key, counted as used once. 0 after a failure. */
EVH_INTERNAL uint32_t parse_key(struct parser *parser, const char *text, size_t size,
                                bool is_in_window);
/** Tell the symbols of their uses. */
EVH_INTERNAL void parse_flush_keys(struct parser *parser);

EVH_INTERNAL enum parse_result parse_number(struct parser *parser, struct json_slot *slot);

/** Make {"$ref": ...} and {"$base64": ...} of an object with this one member: `*slot` becomes the
 *  ref or the bytes, `*is_special` says so. */
EVH_INTERNAL enum parse_result parse_special(struct parser *parser, uint32_t key, uint32_t owner,
                                             struct json_slot *slot, bool *is_special);

#endif
