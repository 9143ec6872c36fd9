/* text.h -- strings that live in a heap: str, which changes, and symbol, which is interned. */
#ifndef EVERHEAP_TEXT_H
#define EVERHEAP_TEXT_H

#include <everheap/heap.h>

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * For these collections and for those in vec.h, map.h and tree.h:
 *
 *   Handle   a struct of the size of a ref. All zero is an empty collection; the first change that
 *            needs space makes it. A handle lies in the heap (in a root, in another collection) or
 *            outside. It is the collection: a copy of it goes stale with the next change.
 *   Ends     evh_..._clear() frees all that the collection owns and makes the handle zero. Blocks
 *            that its items refer to are the program's. Of a damaged one it frees what it finds,
 *            makes the handle zero, and returns EVH_CORRUPT.
 *   Errors   of every change: EVH_FULL, EVH_NO_MEMORY, EVH_LIMIT, EVH_READ_ONLY, EVH_FORKED,
 *            EVH_POISONED, EVH_INVALID (null heap or handle), EVH_CORRUPT (bytes that cannot be
 *            right; evh_last_error()->offset says where). The collection is unchanged after any of
 *            them. A call that asks answers for damage as for absence, and the last error is
 *            EVH_CORRUPT; absence leaves the last error as it was.
 *   Threads  one thread changes a collection while no other uses it; different collections, also of
 *            one heap, are independent.
 *   Crash    as everything in the heap: the last commit stands. Rollback undoes.
 *   Damage   whatever a file holds, no call reads or writes outside the heap or fails to end;
 *            evh_..._check() tells whether a collection is sound.
 *   Borrowed pointers into a collection are valid until it changes, if not said otherwise.
 */

/* ---- str: a string that changes ------------------------------------------------------------- */

/** Bytes of any value, their number known, a zero behind them. A zero handle is "". */
typedef struct evh_str {
    uint64_t offset;
} evh_str;

#define EVH_STR_SIZE_MAX 0xfffffff0u /* bytes */
#define EVH_NOWHERE SIZE_MAX         /* what a search answers that found nothing */

/** The bytes, borrowed, and in `*size` (may be NULL) their number. Never NULL: "" for an empty
 *  string, and for a damaged one. */
EVH_API const char *evh_str_text(const evh_heap *heap, const evh_str *string, size_t *size);
/** How many bytes it has. */
EVH_API size_t evh_str_size(const evh_heap *heap, const evh_str *string);

/** Make it `size` bytes at `bytes`, which may be a part of it. Size 0 leaves a zero handle. */
EVH_API evh_status evh_str_set(evh_heap *heap, evh_str *string, const void *bytes, size_t size);
/** Append `size` bytes, which may be a part of it. Cost: constant per byte, amortised. */
EVH_API evh_status evh_str_append(evh_heap *heap, evh_str *string, const void *bytes, size_t size);
/** Replace the `erase_size` bytes from `at` on by `size` others: erases, inserts, overwrites.
 *  EVH_INVALID if that reaches beyond the end. */
EVH_API evh_status evh_str_splice(evh_heap *heap, evh_str *string, size_t at, size_t erase_size,
                                  const void *bytes, size_t size);
/** Make room for `size` bytes in all, so that growing to that size allocates nothing more. */
EVH_API evh_status evh_str_reserve(evh_heap *heap, evh_str *string, size_t size);
/** Free it: "". */
EVH_API evh_status evh_str_clear(evh_heap *heap, evh_str *string);

/** Below, equal to or above 0 as memcmp() of the common part, then by size. */
EVH_API int evh_str_compare(const evh_heap *heap, const evh_str *first, const evh_str *second);
/** Whether it is these bytes. */
EVH_API bool evh_str_equals(const evh_heap *heap, const evh_str *string, const void *bytes,
                            size_t size);
/** Where the first `needle` of `size` bytes at or behind `from` begins, or EVH_NOWHERE. */
EVH_API size_t evh_str_find(const evh_heap *heap, const evh_str *string, size_t from,
                            const void *needle, size_t size);
/** EVH_OK or EVH_CORRUPT. */
EVH_API evh_status evh_str_check(evh_heap *heap, const evh_str *string);

/** Make it the bytes of a C string; append those of one. */
static inline evh_status evh_str_assign(evh_heap *heap, evh_str *string, const char *text)
{
    return evh_str_set(heap, string, text, text ? strlen(text) : 0);
}
static inline evh_status evh_str_add(evh_heap *heap, evh_str *string, const char *text)
{
    return evh_str_append(heap, string, text, text ? strlen(text) : 0);
}

/* ---- symbol: a string that is there once ---------------------------------------------------- */

/** A table of strings, each there once. */
typedef struct evh_symbols {
    uint64_t offset;
} evh_symbols;

/** Names a string of a table: equal strings have equal numbers. From 1 on, dense; 0 is none. The
 *  number stays while the symbol is referenced, also over reopening, and is then given anew. */
typedef uint32_t evh_symbol;

enum {
    EVH_SYMBOLS_KEEP = 1, /* accumulate: nothing is counted, nothing is freed but by clear */
};

/**
 * Make an empty table with `flags`. Not needed for a table with no flags.
 * Errors    EVH_EXISTS (the handle is not zero), EVH_INVALID (unknown flags).
 */
EVH_API evh_status evh_symbols_create(evh_heap *heap, evh_symbols *symbols, uint32_t flags);

/**
 * The symbol of `size` bytes, interned if it is not there, with one reference more.
 * Returns   the symbol; 0 on failure. Owned: end it with evh_symbol_release().
 * Errors    as above; EVH_LIMIT (size above EVH_STR_SIZE_MAX, 2^32 symbols, 2^32 references).
 * Cost      one SipHash-1-3 of the bytes, keyed, so that nobody chooses strings that collide.
 */
EVH_API evh_symbol evh_symbol_intern(evh_heap *heap, evh_symbols *symbols, const void *bytes,
                                     size_t size);
/** The symbol of `size` bytes, or 0. Counts no reference. */
EVH_API evh_symbol evh_symbol_find(const evh_heap *heap, const evh_symbols *symbols,
                                   const void *bytes, size_t size);
/** The symbol's bytes with a zero behind them, borrowed until it is released for the last time.
 *  NULL if there is no such symbol. `size` may be NULL. Cost: two memory accesses. */
EVH_API const char *evh_symbol_text(const evh_heap *heap, const evh_symbols *symbols,
                                    evh_symbol symbol, size_t *size);
/** One reference more. Errors: EVH_NOT_FOUND, EVH_LIMIT. */
EVH_API evh_status evh_symbol_retain(evh_heap *heap, evh_symbols *symbols, evh_symbol symbol);
/** One reference less: with the last the string is freed and its number may be given anew. Does
 *  nothing in a table that keeps. Errors: EVH_NOT_FOUND. */
EVH_API evh_status evh_symbol_release(evh_heap *heap, evh_symbols *symbols, evh_symbol symbol);
/** How many references there are; 1 in a table that keeps, 0 if there is no such symbol. */
EVH_API uint32_t evh_symbol_references(const evh_heap *heap, const evh_symbols *symbols,
                                       evh_symbol symbol);
/** How many symbols the table has. */
EVH_API uint64_t evh_symbols_count(const evh_heap *heap, const evh_symbols *symbols);

/** What a search looks for; all zero finds every symbol. */
typedef enum evh_match {
    EVH_MATCH_SUBSTRING = 0,
    EVH_MATCH_PREFIX,
} evh_match;

/**
 * The first symbol above `after` (begin with 0) that begins with, or contains, `size` bytes at
 * `part`; 0 at the end. Size 0 finds all. Symbols may be released and interned meanwhile.
 * Cost      it looks at the symbols one by one, at the speed of memory.
 */
EVH_API evh_symbol evh_symbol_next(const evh_heap *heap, const evh_symbols *symbols,
                                   evh_symbol after, evh_match match, const void *part,
                                   size_t size);

/** Free the table with all its symbols. */
EVH_API evh_status evh_symbols_clear(evh_heap *heap, evh_symbols *symbols);
/** EVH_OK or EVH_CORRUPT. Cost: reads all of it. */
EVH_API evh_status evh_symbols_check(evh_heap *heap, const evh_symbols *symbols);

#ifdef __cplusplus
}
#endif

#endif
