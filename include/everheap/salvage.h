/* salvage.h -- save what can be saved of a damaged heap, and mend what needs no guess. */
#ifndef EVERHEAP_SALVAGE_H
#define EVERHEAP_SALVAGE_H

#include <everheap/inspect.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum evh_salvage_kind {
    EVH_SALVAGE_FOUND = 1, /* damage, before anything is decided */
    EVH_SALVAGE_GUESSED,   /* metadata that was made up from what is around it */
    EVH_SALVAGE_LOST,      /* something of the program's is not in the new heap */
    EVH_SALVAGE_WROTE,     /* a file beside the new heap */
} evh_salvage_kind;

typedef struct evh_salvage_note {
    evh_salvage_kind kind;
    uint64_t offset;     /* in the file; UINT64_MAX: none */
    uint64_t size;       /* bytes that are concerned; 0: none */
    const char *message; /* borrowed until the callback returns */
} evh_salvage_note;

/** Called for each decision; returns false if it wants no more. */
typedef bool evh_salvage_visit(const evh_salvage_note *note, void *context);

typedef struct evh_salvage_result {
    uint64_t pages, bad_pages, unverified_pages; /* of the heap */
    uint64_t blocks, block_bytes;                /* in the new heap */
    uint64_t lost_blocks, lost_bytes;            /* known ones that lay on damaged pages */
    uint64_t cut_blocks;     /* long ones that are there, with pages of zeroes in them */
    uint64_t guessed_blocks; /* whose bit was damaged: kept for their type, or a reference */
    uint64_t lost_roots;
    uint64_t lost_commits; /* in the journal, behind a damaged record */
    uint64_t cleared_refs; /* fields that named what is lost, now null */
    uint64_t documents, document_values, lost_values;
    bool is_lossless;
} evh_salvage_result;

/**
 * Make a sound heap at `target` (which must not exist) of all that can be saved from the damaged
 * one at `source`, which is only read. Offsets do not change, so refs do not. Documents that are
 * damaged are written as JSON beside it, to `target`.NAME.json.
 * `visit` and `result` may be NULL.
 * Returns   EVH_OK also if something was lost: result->is_lossless tells.
 * Errors    EVH_NOT_FOUND, EVH_NOT_HEAP (nothing in it looks like a heap), EVH_EXISTS, EVH_IO,
 *           EVH_NO_MEMORY, EVH_MODE (the image of a small buffer), EVH_VERSION, EVH_CORRUPT (a live
 *           heap whose metadata is damaged).
 * Threads   any.
 * Crash     the target is there complete or not at all.
 * Cost      the file's length of memory, and a few passes over it.
 */
EVH_API evh_status evh_salvage(const char *source, const char *target, evh_salvage_visit *visit,
                               void *context, evh_salvage_result *result);

/**
 * Mend what needs no guess: a damaged header slot beside a good one, a status page that is none, a
 * `PATH.live` that nobody has open. With `write` false only tell what would be done.
 * Returns   EVH_OK; `*count` (may be NULL) of things that were or would be mended.
 * Errors    EVH_BUSY (somebody has it open), EVH_IO, EVH_NOT_FOUND; as evh_open().
 */
EVH_API evh_status evh_repair(const char *path, bool write, evh_salvage_visit *visit, void *context,
                              uint64_t *count);

#ifdef __cplusplus
}
#endif

#endif
