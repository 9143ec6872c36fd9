/* scan.h -- the text of JSON below its grammar: strings, UTF-8, escapes, base64, pointers. */
#ifndef EVERHEAP_JSON_SCAN_H
#define EVERHEAP_JSON_SCAN_H

#include "base/base.h"

/* ---- scan.c: vectors where the processor has them ---- */

enum {
    SCAN_OVER_BYTES = 64, /* what scan_string() may read at and behind its end */
};

/**
 * The first byte of [text, end) that a string cannot hold as it is: a quote, a backslash, a control
 * character; `end` if there is none. `*high` gets its highest bit set if a byte before it is not
 * ASCII. Reads up to SCAN_OVER_BYTES behind `end`: they must be readable, and do not matter but
 * that `high` may be set for them too where `end` is returned.
 */
EVH_INTERNAL const char *scan_string(const char *text, const char *end, uint32_t *high);

/** The same without reading behind `end`, and without `high`. */
EVH_INTERNAL const char *scan_exact(const char *text, const char *end);

/** Whether the 32-byte vectors of AVX2 are used, here and by searches: the processor has them. */
EVH_INTERNAL bool scan_has_wide(void);

/** For tests: sets it where the processor has them, and returns what it was. */
EVH_INTERNAL bool scan_use_wide(bool wide);

/** The portable scan, for tests and for processors without vectors. */
EVH_INTERNAL const char *scan_portable(const char *text, const char *end, uint32_t *high);

/** How many line feeds [text, end) has; `*last` is behind the last one, untouched without one. */
EVH_INTERNAL uint64_t scan_lines(const char *text, const char *end, const char **last);

/* ---- utf8.c ---- */

/** The first byte of [text, end) that begins no well-formed UTF-8 (RFC 3629: shortest form, no
 *  surrogates, up to U+10FFFF), or `end`. */
EVH_INTERNAL const char *utf8_check(const char *text, const char *end);

/** Store a code point, 1 to 4 bytes. Returns how many. */
EVH_INTERNAL size_t utf8_put(char *target, uint32_t code);

/** The code point at `text` of well-formed UTF-8, and how many bytes it has. */
EVH_INTERNAL uint32_t utf8_get(const char *text, const char *end, size_t *size);

/* ---- escape.c ---- */

/**
 * Decode what stands between the quotes of a string: `text` to `end` holds no quote that is not
 * escaped. `target` has room for end - text bytes and may be `text` itself.
 * Returns NULL, `*size` the bytes stored, or where an escape is wrong, with `*expected` saying what
 * should be there (static).
 */
EVH_INTERNAL const char *escape_decode(const char *text, const char *end, char *target,
                                       size_t *size, const char **expected);

enum { ESCAPE_BYTES_MAX = 6 };

/** Store the escape of a byte that scan_string() stops at. Returns its size, 2 or 6. */
EVH_INTERNAL size_t escape_put(char *target, unsigned char byte);

/* ---- base64.c: RFC 4648, section 4 ---- */

/** Decode canonical, padded base64 of `size` characters into `target` (room for size / 4 x 3), NULL
 *  only to check. False if it is not canonical. */
EVH_INTERNAL bool base64_decode(const char *text, size_t size, unsigned char *target,
                                size_t *target_size);

/** Characters that `size` bytes make. */
static inline uint64_t base64_size(uint64_t size)
{
    return (size + 2) / 3 * 4;
}

EVH_INTERNAL void base64_encode(const unsigned char *bytes, size_t size, char *target);

/* ---- pointer.c: RFC 6901 ---- */

/** Steps through the reference tokens of a JSON Pointer. */
struct pointer {
    const char *next, *end; /* what is left; begins with / or is empty */
    const char *token;      /* the current token, decoded; borrowed until the next step */
    size_t token_size;
    char *memory; /* owned, of a long token with escapes; pointer_end() */
    char short_token[128];
};

/** Whether `text` is a JSON Pointer: empty, or beginning with / and with no ~ but ~0 and ~1.
 *  Otherwise `*fault` is where it is wrong. */
EVH_INTERNAL bool pointer_check(const char *text, size_t size, size_t *fault);

/** Begin; the text is borrowed, and was checked. */
EVH_INTERNAL void pointer_begin(struct pointer *pointer, const char *text, size_t size);
/** The next token: EVH_OK, EVH_NOT_FOUND (there is none) or EVH_NO_MEMORY. */
EVH_INTERNAL evh_status pointer_step(struct pointer *pointer);
EVH_INTERNAL void pointer_end(struct pointer *pointer);

/** Whether a token is an array index: 0, or digits without a leading 0; and below 2^63. */
EVH_INTERNAL bool pointer_index(const char *token, size_t size, uint64_t *index);

/** Bytes that a token has when it is escaped; store it so. */
EVH_INTERNAL size_t pointer_escaped_size(const char *token, size_t size);
EVH_INTERNAL size_t pointer_escape(const char *token, size_t size, char *target);

/** Decode the %xx of a URI fragment (without its #) in place or into `target` of `size` bytes.
 *  False if one is wrong. */
EVH_INTERNAL bool pointer_from_fragment(const char *text, size_t size, char *target,
                                        size_t *target_size);

#endif
