/* journal.h -- a set of page changes becomes atomic: append, replay, checkpoint, rollback, views.
 *
 * The journal owns atomicity: it alone flushes, and it alone writes home pages, the header and the
 * status page. It knows pages, not blocks. docs/journal.md explains it; the invariants are there.
 */
#ifndef EVERHEAP_JOURNAL_JOURNAL_H
#define EVERHEAP_JOURNAL_JOURNAL_H

#include "region/region.h"

struct journal; /* of one open region */

/** What a commit carries beside pages. */
struct journal_state {
    uint64_t heap_bytes; /* the heap's end, a multiple of the slice size */
    uint64_t catalog;    /* ref */
};

/* ---- opening ---- */

/**
 * Begin the journal of a region that region_create() made and the heap layer has filled (through
 * region->base, `state` tells how far): writes the filled pages home, the zeroed first extent and
 * the header, and flushes; after region_publish() the caller calls journal_published().
 */
EVH_INTERNAL evh_status journal_create(struct region *region, const struct journal_state *state,
                                       const evh_options *options, struct journal **journal);

/** Flush the directory, so that the name lasts. */
EVH_INTERNAL evh_status journal_published(struct journal *journal);

/**
 * Open the journal of an opened region, map the region, and lay every valid record over the
 * mapping: for a writer all of them, for readers and private heaps the newest durable commit (a
 * view, which they hold until closed).
 * Returns   EVH_OK, `*journal` owned, `*state` that of the last commit.
 */
EVH_INTERNAL evh_status journal_open(struct region *region, const evh_options *options,
                                     struct journal **journal, struct journal_state *state);

/** Tell other processes, in the status page, that this writer has the heap: once everything has
 *  accepted it, and before the first commit. Until then the page is its predecessor's. */
EVH_INTERNAL void journal_announce(struct journal *journal);

/** Finish: wait for flushes, checkpoint (writers; not if poisoned), stop the thread, release the
 *  view. The region stays open. NULL is fine. In a forked child it only frees memory. */
EVH_INTERNAL evh_status journal_close(struct journal *journal);

/** Free the journal's memory and leave the file as it is, as a killed process would. */
EVH_INTERNAL void journal_abandon(struct journal *journal);

/* ---- writing: one writer process ---- */

/** Tell the journal that the heap's mapping grew by [from, region->mapped_bytes). */
EVH_INTERNAL evh_status journal_region_grew(struct journal *journal, uint64_t from);

/**
 * The first half of a commit: find the dirty pages and copy what changed. The caller holds all
 * writers still from before this call until it returns; `state` is the heap's at this moment.
 * `*ticket` receives the commit's number (not its sequence: failed commits have numbers too); if
 * nothing changed, the number of the last commit.
 * Calls are serialised by the caller.
 * Errors    EVH_FULL, EVH_NO_MEMORY (nothing lost: the pages stay dirty), EVH_POISONED, EVH_IO.
 */
EVH_INTERNAL evh_status journal_copy(struct journal *journal, const struct journal_state *state,
                                     uint64_t *ticket);

/**
 * The second half: hand what journal_copy() took to the file. Writers may run. With `flush` it
 * returns when the commit is durable; otherwise journal_wait() does. Must follow journal_copy() by
 * the same thread before any other copy; the caller's serialisation ends when it calls
 * `release(context)`, which journal_write does as soon as the next copy may begin.
 */
EVH_INTERNAL evh_status journal_write(struct journal *journal, uint64_t ticket, bool flush,
                                      void (*release)(void *context), void *context);

/** Wait until commit `ticket` is durable, flushing it if nobody else does. Any thread. */
EVH_INTERNAL evh_status journal_wait(struct journal *journal, uint64_t ticket);

/** Put every dirty page back to the last begun commit. All threads are still.
 *  `*state` receives that commit's. */
EVH_INTERNAL evh_status journal_rollback(struct journal *journal, struct journal_state *state);

/** Write home what is durable and free the journal. Any thread. EVH_BUSY if a view prevents it. */
EVH_INTERNAL evh_status journal_checkpoint(struct journal *journal);

/** One word of a patch: an 8-byte word at an 8-byte-aligned offset. */
struct journal_word {
    uint64_t offset;
    uint64_t value;
};

/**
 * Commit exactly these words (ascending offsets), durably, on top of the last commit, and none of
 * the uncommitted stores around them: for marks that the library makes on its own account. The
 * words are stored in the working mapping too. All threads are still.
 */
EVH_INTERNAL evh_status journal_patch(struct journal *journal, const struct journal_word *words,
                                      size_t word_count);

/* Bytes of the file. */
struct journal_run {
    uint64_t offset, size;
};

/** Return the space of runs of slices (free in the last commit, marked by journal_patch() and
 *  checkpointed; ascending) to the file system, durably. `*freed_bytes` grows by what was. */
EVH_INTERNAL evh_status journal_punch(struct journal *journal, const struct journal_run *runs,
                                      size_t count, uint64_t *freed_bytes);

/** Give back what the ring has grown to for the sake of one commit: the last extents, where they
 *  lie behind the heap and nothing is live. The file gets shorter. While a reader has a view,
 *  nothing happens. All threads are still. `*freed_bytes` is what was freed. */
EVH_INTERNAL evh_status journal_shrink(struct journal *journal, uint64_t *freed_bytes);

/** The committed bytes of a page: composed from its home and the journal. */
EVH_INTERNAL evh_status journal_committed_page(struct journal *journal, uint64_t page,
                                               unsigned char image[PAGE_BYTES]);

/** The last failure that poisoned the heap is set as the thread's error. EVH_OK if none. */
EVH_INTERNAL evh_status journal_status(const struct journal *journal);

/* ---- reading ---- */

/** Move a reader's view to the newest durable commit; its pages change in place. */
EVH_INTERNAL evh_status journal_refresh(struct journal *journal, struct journal_state *state);

/** Whether the view has not been revoked. True for writers. */
EVH_INTERNAL bool journal_view_valid(const struct journal *journal);

/** Visit the commits held, oldest first. */
EVH_INTERNAL evh_status journal_log(struct journal *journal, evh_commit_visit *visit,
                                    void *context);

/** Verify header slots, records, and every home page against its checksum. */
EVH_INTERNAL evh_status journal_check(struct journal *journal, evh_report *report, void *context);

/** Verify the home of one slice (as far as it is not covered by the journal) before its first use.
 *  EVH_CORRUPT names the page. */
EVH_INTERNAL evh_status journal_verify_slice(struct journal *journal, uint64_t slice);

/** Fill what the journal knows: sequences, sizes, counts, tier. */
EVH_INTERNAL void journal_info(struct journal *journal, evh_info *info);

/** The state of the last begun commit. */
EVH_INTERNAL struct journal_state journal_last_state(struct journal *journal);

/** What failed commits carry, in bytes; for dirty_max_bytes. */
EVH_INTERNAL uint64_t journal_dirty_bytes(struct journal *journal);

/**
 * Where the checksum of `page` is kept, for pages beyond the first 1024: the heap layer answers
 * with the file offset of the segment's checksum slice, from its directory in the committed image,
 * or 0 if the segment has none. Set before the first checkpoint.
 */
typedef uint64_t journal_checksum_slice(void *context, uint64_t segment);
/** And whether a slice holds checksums: the journal writes those by itself, and no commit may. */
typedef bool journal_is_checksum(void *context, uint64_t slice);
EVH_INTERNAL void journal_set_checksums(struct journal *journal, journal_checksum_slice *find,
                                        journal_is_checksum *is_checksum, void *context);

/* ---- pages (journal_page.c), for whoever reads a file without a journal ---- */

EVH_INTERNAL bool page_is_zero(const unsigned char *page);
/** Whether `size` bytes hold `count` sound ranges. */
EVH_INTERNAL bool page_ranges_are_sound(const unsigned char *ranges, uint64_t size, uint32_t count);
/** The checksum of the page that ranges make. */
EVH_INTERNAL uint32_t page_ranges_checksum(const unsigned char *ranges);
/** Lay sound ranges over a page (NULL: none); their words are added to `mask` if it is not NULL. */
EVH_INTERNAL void page_apply_ranges(unsigned char *page, const unsigned char *ranges,
                                    uint32_t count, uint64_t *mask);
/** The checksum of a page, never 0: CRC-32C over uuid, page number and contents. */
EVH_INTERNAL uint32_t page_checksum(const uint8_t uuid[16], uint64_t page,
                                    const unsigned char *image);

/* ---- writing images (evh_save) ---- */

/** Write a whole heap with all its checksums (from `region`'s mapping up to state->heap_bytes) as a
 *  new durable heap file at `path`: temporary file, flush, rename, flush of the directory.
 *  `journal` is the region's, or NULL: a view that is revoked meanwhile is EVH_STALE. */
EVH_INTERNAL evh_status journal_save(const struct region *region, const struct journal_state *state,
                                     const char *path, unsigned permissions,
                                     journal_checksum_slice *find, void *context,
                                     struct journal *journal);

/** Write `size` bytes as a file, as safely. */
EVH_INTERNAL evh_status journal_save_bytes(const void *data, uint64_t size, const char *path,
                                           unsigned permissions, bool replace);

/** Everything that was stored into a live heap's file before is durable (evh_sync). A failure says
 *  nothing about which pages are; never tried again by the library. EVH_IO. */
EVH_INTERNAL evh_status journal_flush_shared(struct region *region);

#endif
