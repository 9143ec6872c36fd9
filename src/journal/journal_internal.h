/* journal_internal.h -- what the files of the journal share.
 *
 * Words
 *   base        of a page: its newest image in the journal, or its home if there is none
 *   live        a record that is not yet at home: its ring space may not be reused
 *   pending     a record that is not yet flushed
 *   settled     of a commit: its pages are written home, into the system's cache, flushed or not
 *   carry       pages that a failed commit took from the watch and that are dirty still
 *   bulk        of a commit: pages behind the end of the last commit's heap are written home first
 *   mark        in the header: up to where such a commit may have written (`bulk_bytes`)
 *
 * Invariants
 *  1. Sequences: header.sequence <= durable_sequence <= begun_sequence; live records are exactly
 *     those of header.sequence + 1 .. begun_sequence, in order.
 *  2. A page has an index node if and only if a live record changed it; the node describes its
 *     newest change. Base and ranges of the node make the page as of begun_sequence.
 *  3. header.sequence <= settled.sequence <= durable_sequence. On the device, home holds each page
 *     as of some commit from header.sequence on; in the cache, as of settled.sequence, or newer
 *     while a settling runs. Every word in which these differ lies in the image or ranges of a live
 *     record.
 *  4. A working page without private copy equals its home in the cache; if it has a node, its
 *     newest change is settled.
 *  5. No byte of a live record is overwritten; no header refers to space that is not its own.
 *  6. Behind the end of the last commit's heap, and outside the journal, the file is zero, except
 *     below the mark while `bulk_is_under_way`, or a record that names pages at home is pending.
 *
 * The mutex guards everything in the struct. It is held while the system is asked only for what a
 * commit's copy needs; never during a write or a flush. `is_checkpointing` gives whoever set it the
 * header and the home pages.
 */
#ifndef EVERHEAP_JOURNAL_JOURNAL_INTERNAL_H
#define EVERHEAP_JOURNAL_JOURNAL_INTERNAL_H

#include "journal/journal.h"
#include "journal/journal_layout.h"

enum {
    JOURNAL_MASK_WORDS = JOURNAL_PAGE_WORDS / 64,
    /* Home writes of neighbours go out together, up to this. Longer writes make the system cache
     * the file in large folios, and later scattered writes into those are slow: measured on ext4,
     * 1.5 us per page after writes of 16 KiB, 3.0 after 64 KiB, 11.7 after 1 MiB (1 GiB file). */
    JOURNAL_HOME_RUN_BYTES = 16 * 1024,
};

/* A record in the ring that is not at home yet. */
struct journal_live {
    uint64_t sequence;
    uint64_t offset; /* in the file */
    uint64_t bytes;
    uint64_t entries_total;    /* entries of all records so far, this one included */
    const unsigned char *data; /* the record: in the pending buffer, then in the home mapping */
    struct journal_live *next;
};

/* The newest change of one page. */
struct journal_node {
    uint64_t page;
    uint64_t sequence;              /* of the record that holds `ranges`, or the image if none */
    struct journal_live *image_in;  /* where the base image is; NULL: home is the base */
    struct journal_live *ranges_in; /* NULL: no ranges over the base */
    uint64_t image_at;              /* byte offset in the record; UINT64_MAX: the zero page */
    uint64_t ranges_at;
    uint32_t ranges_count;
    uint32_t checksum; /* of the page with the ranges, or of one that was written home at once */
    uint32_t next;     /* index of the next node in its bucket, or of the free list */
    uint64_t mask[JOURNAL_MASK_WORDS]; /* words held by ranges */
};

#define JOURNAL_ZERO_IMAGE UINT64_MAX
#define JOURNAL_NO_NODE UINT32_MAX

/* Page number -> node. Chained hash table over an array of nodes. */
struct journal_index {
    struct journal_node *nodes;
    uint32_t *buckets;
    uint32_t bucket_count; /* a power of two, or 0 */
    uint32_t node_count;   /* in use */
    uint32_t node_limit;   /* allocated */
    uint32_t node_top;     /* ever used */
    uint32_t free_list;
};

/* How the pages of one record were before it, to take it back. */
struct journal_undo {
    struct journal_node before; /* before.sequence 0: there was no node */
};

/* A record that is built or written, and not flushed yet. */
struct journal_pending {
    uint64_t ticket;
    unsigned char *buffer; /* owned: the record */
    uint64_t buffer_bytes; /* allocated */
    uint64_t bytes;        /* of the record */
    struct journal_state state;
    uint64_t bulk_bytes; /* it names pages at home, below this offset; 0: none */
    uint32_t entry_count;
    struct journal_live *live; /* owned until placed */
    struct journal_undo *undo; /* entry_count of them, owned */
    bool is_written;           /* in the system's cache */
    struct journal_pending *next;
};

/* Tickets of commits that failed: one, or several that were told alike. */
struct journal_failure {
    uint64_t first_ticket, last_ticket;
    evh_status status;
    bool is_reported; /* whoever began or waited for it was told */
};

/* A set of pages as a bitmap. */
struct journal_bits {
    uint64_t *words;
    uint64_t word_count;
    uint64_t count; /* of pages in it */
};

/* A growing set of pages: runs in ascending order, disjoint. */
struct journal_pages {
    struct os_pages *runs;
    size_t count, limit;
};

/* A place in the chain: behind a record. */
struct journal_position {
    uint64_t sequence;
    uint64_t salt;
    uint32_t crc;
    uint64_t tail;
    struct journal_state state;
};

struct journal {
    struct region *region;
    evh_options options;
    struct os_mutex *mutex;
    struct os_watch *watch; /* writers */
    struct journal_checksums {
        uint32_t *slices; /* of each segment of the committed heap; NULL: ask `find` */
        uint64_t count;
        journal_checksum_slice *find;
        journal_is_checksum *is_checksum;
        void *context;
    } checksums;
    uint64_t sums_heap_bytes; /* the heap's end for which checksums.slices were found */
    uint64_t patch_sequence;  /* of the last patch */

    /* The chain. */
    uint64_t salt; /* of this opening */
    uint64_t begun_sequence;
    uint64_t durable_sequence;
    uint64_t last_salt; /* of the record begun_sequence (or of the checkpoint's) */
    uint32_t last_crc;
    struct journal_state last_state;    /* of begun_sequence */
    struct journal_state durable_state; /* of durable_sequence */

    uint64_t sized_bytes; /* the file is durably at least so long */

    struct journal_position settled; /* changed by whoever has claimed home */
    uint64_t settled_entries;        /* entries_total of its record */
    bool home_is_sure;               /* what the cache shows of home is there or on its way: */
                                     /* nothing that an earlier process wrote can have been lost */
    uint64_t entries_total;          /* of begun_sequence */
    bool was_closed;                 /* recovery: the last writer closed it: nothing is in flight */
    bool cache_is_known;             /* recovery: after a killed process, not after a power cut; */
    uint64_t flushed_sequence;       /* then commits up to this one are on the device, */
    uint64_t hint;                   /* recovery: commits up to this one are settled already */

    /* The ring. */
    uint32_t extent;     /* where the next record goes: extent number, */
    uint64_t tail;       /* file offset, */
    uint64_t tail_limit; /* and the end of the free space there */
    struct journal_live *live_first, *live_last;
    uint64_t live_bytes;

    struct journal_index index;
    struct journal_pages carry;
    struct journal_bits private_pages; /* that have a private copy, as far as is known */
    uint64_t dirty_count;              /* pages in the last look */

    struct journal_pending *built; /* between copy and write */
    struct journal_pending *pending_first, *pending_last;
    unsigned char *spare; /* a buffer to use again */
    uint64_t spare_bytes;
    bool is_flushing;
    bool is_checkpointing;
    uint64_t last_ticket;    /* handed out */
    uint64_t durable_ticket; /* of durable_sequence */
    uint64_t failures;       /* how often pending commits were taken back */
    uint64_t built_failures; /* the same, when `built` was copied */
    bool must_compare_all;   /* the watch's last answer was lost: every page may be dirty */
    struct journal_failure *failure;
    size_t failure_count, failure_limit;

    /* Poison. */
    bool is_poisoned;
    evh_error poison;

    /* The background checkpointer. */
    struct os_thread *thread;
    uint32_t thread_wanted; /* it waits while this is 0, on its own: commits do not wake it */
    bool thread_stops;
    evh_status background_status; /* of its last round */
    uint64_t quiet_until_bytes;   /* of live records: no attempt before, after one that failed */

    /* Pages that are written home at once. */
    bool bulk_is_under_way; /* the mark is made, and the record not yet in the ring */
    uint64_t
        bulk_sequence; /* of the last record that names such pages; 0: none since the opening */

    /* Readers. */
    uint64_t view_sequence;
    bool has_view;                /* and its lock */
    struct journal_bits overlaid; /* pages that the view lies over */
    struct journal_bits at_home;  /* pages that its records name at home: their checksums are */
                                  /* perhaps not */

    /* Figures. */
    uint64_t commits, checkpoints, pages_committed;
};

/**
 * The invariants that can be seen at a glance; for assertions. The mutex is held, or no other
 * thread knows the journal.
 */
static inline bool journal_is_sound(const struct journal *journal)
{
    const uint64_t home = journal->region->header.sequence;
    const struct journal_live *first = journal->live_first;
    const struct journal_live *last = journal->live_last;
    if (journal->durable_sequence < home) return false;
    if (journal->begun_sequence < journal->durable_sequence) return false;
    if ((first == NULL) != (last == NULL)) return false;
    if ((first == NULL) != (journal->live_bytes == 0)) return false;
    if (first && first->sequence != home + 1 && !PLANTED(5)) return false;
    if (last && last->sequence != journal->begun_sequence) return false;
    if ((journal->pending_first == NULL) != (journal->pending_last == NULL)) return false;
    if (journal->pending_first &&
        journal->pending_first->live->sequence != journal->durable_sequence + 1)
        return false;
    if (journal->index.node_count > journal->index.node_limit) return false;
    return journal->tail <= journal->tail_limit;
}

/* ---- journal_page.c: one page ---- */

/** The words in which two pages differ. */
EVH_INTERNAL void page_compare(const unsigned char *a, const unsigned char *b,
                               uint64_t mask[JOURNAL_MASK_WORDS]);
/** The page that a node's base is; `page_number` tells which home. */
EVH_INTERNAL const unsigned char *page_base(const struct journal *journal,
                                            const struct journal_node *node, uint64_t page_number);
/** Put ranges of `mask` from `page` at `out` (JOURNAL_PAGE_WORDS * 8 + 1024 bytes at most).
 *  Returns the bytes used (a multiple of 8); `*count` the ranges. */
EVH_INTERNAL uint32_t page_write_ranges(const unsigned char *page,
                                        const uint64_t mask[JOURNAL_MASK_WORDS], unsigned char *out,
                                        uint32_t *count);
/** How many bytes page_write_ranges() would take. */
EVH_INTERNAL uint32_t page_ranges_bytes(const uint64_t mask[JOURNAL_MASK_WORDS]);
/** Where ranges differ from `page`: all words that do lie in [*first, *behind). Both 0: nowhere. */
EVH_INTERNAL void page_ranges_span(const unsigned char *page, const unsigned char *ranges,
                                   uint32_t count, uint32_t *first, uint32_t *behind);
/** The page as of the node: base and ranges. */
EVH_INTERNAL void page_compose(const struct journal *journal, const struct journal_node *node,
                               uint64_t page_number, unsigned char image[PAGE_BYTES]);

/** Hints, some steps before index_find(): the bucket will be needed; then the node in it. */
EVH_INTERNAL void index_expect(const struct journal_index *index, uint64_t page);
EVH_INTERNAL void index_expect_node(const struct journal_index *index, uint64_t page);
/** Whether a page is in the set. */
static inline bool bits_has(const struct journal_bits *bits, uint64_t page)
{
    return page / 64 < bits->word_count && (bits->words[page / 64] >> (page % 64) & 1);
}

/* ---- journal_index.c ---- */

EVH_INTERNAL struct journal_node *index_find(struct journal_index *index, uint64_t page);
/** Make room for `more` nodes, so that index_add cannot fail. */
EVH_INTERNAL evh_status index_reserve(struct journal_index *index, uint32_t more);
EVH_INTERNAL struct journal_node *index_add(struct journal_index *index, uint64_t page);
EVH_INTERNAL void index_remove(struct journal_index *index, uint64_t page);
/** Make a node say what `entry` of the record `live` (whose bytes are at `record`) does to its
 *  page. */
EVH_INTERNAL void index_note(struct journal_node *node, struct journal_live *live,
                             const struct journal_entry *entry, const unsigned char *record);
/** Forget changes up to `sequence`: they are home. */
EVH_INTERNAL void index_forget(struct journal_index *index, uint64_t sequence);
EVH_INTERNAL void index_end(struct journal_index *index);

EVH_INTERNAL evh_status bits_add(struct journal_bits *bits, const struct os_pages *runs,
                                 size_t count);
EVH_INTERNAL void bits_remove(struct journal_bits *bits, uint64_t page);
EVH_INTERNAL void bits_end(struct journal_bits *bits);

EVH_INTERNAL evh_status pages_add(struct journal_pages *pages, uint64_t first, uint64_t count);
/** Merge `more` into `pages`; both are ascending. On failure `pages` is as before. */
EVH_INTERNAL evh_status pages_merge(struct journal_pages *pages, const struct os_pages *more,
                                    size_t count);
EVH_INTERNAL uint64_t pages_count(const struct journal_pages *pages);
EVH_INTERNAL void pages_end(struct journal_pages *pages);

/* ---- journal_record.c: reading records ---- */

/** A position in the chain of records. */
struct record_walk {
    struct journal *journal;
    uint64_t sequence; /* of the last record */
    uint64_t salt;
    uint32_t crc;
    uint64_t tail; /* where its successor may be */
    struct journal_state state;
    const unsigned char *record; /* the last record: in the window, borrowed until the next step */
    uint64_t record_offset;
    unsigned char *window; /* a stretch of the file read at once */
    uint64_t window_offset, window_bytes, window_limit;
    bool from_device; /* distrust the cache: what earlier processes failed to flush is there */
    uint64_t durable; /* the highest durable_sequence that a record named */
    uint64_t time_ns;
};

/** Begin behind the commit that the header calls checkpointed. */
EVH_INTERNAL void walk_begin(struct record_walk *walk, struct journal *journal);
/** Begin behind any commit. */
EVH_INTERNAL void walk_begin_at(struct record_walk *walk, struct journal *journal,
                                const struct journal_position *position);
/** Where the walk is. */
EVH_INTERNAL struct journal_position walk_position(const struct record_walk *walk);
/** Go to the next record: EVH_OK and `*found`; the record is at walk->record. `*found` false: the
 *  chain ends here. Errors: EVH_IO, EVH_NO_MEMORY, EVH_CORRUPT (sound checksums, impossible
 *  content). */
EVH_INTERNAL evh_status walk_next(struct record_walk *walk, bool *found);
/**
 * The highest `durable_sequence` that any record of this heap names, later than the walk's last:
 * what lies behind the end of the chain was made after commits up to there were flushed. If that is
 * more than the walk found, a record is damaged, for none that was flushed can be torn. Records
 * that are not flushed themselves count, too: whatever becomes of them, what they say was true.
 * Looks at the first `limit_bytes` of each extent, and behind the walk's tail.
 * Errors    EVH_IO, EVH_NO_MEMORY.
 */
EVH_INTERNAL evh_status walk_find_later(const struct record_walk *walk, uint64_t limit_bytes,
                                        uint64_t *durable);
/** Where the chain ends, overwrite the header of a successor that is not whole, durably: the torn
 *  write of another successor at the same place could make it whole, and bring back a commit that
 *  recovery has said is not there. Before the first record that a writer appends. */
EVH_INTERNAL evh_status walk_void_torn(struct record_walk *walk);
EVH_INTERNAL void walk_end(struct record_walk *walk);
/** The entries of the walk's record. */
EVH_INTERNAL const struct journal_entry *walk_entries(const struct record_walk *walk,
                                                      uint32_t *count);
EVH_INTERNAL const struct journal_record *walk_record(const struct record_walk *walk);

/* ---- journal_ring.c: where records go ---- */

EVH_INTERNAL uint32_t ring_extent_count(const struct region *region);
EVH_INTERNAL void ring_extent(const struct region *region, uint32_t number, uint64_t *offset,
                              uint64_t *bytes);
EVH_INTERNAL uint64_t ring_capacity(const struct region *region);
/** The size that suits the heap. A smaller ring grows when it is full. */
EVH_INTERNAL uint64_t ring_suitable(const struct journal *journal);
/** Continue behind `tail`: sets extent, tail and tail_limit. */
EVH_INTERNAL void ring_seek(struct journal *journal, uint64_t tail);
/** Find room for a record; false if there is none. Moves the tail behind it. */
EVH_INTERNAL bool ring_place(struct journal *journal, uint64_t bytes, uint64_t *offset);
/** Make room for a record: grow, checkpoint, or revoke a view. The mutex is held, and released
 *  meanwhile. */
EVH_INTERNAL evh_status ring_make_room(struct journal *journal, uint64_t bytes);
EVH_INTERNAL void ring_add_live(struct journal *journal, struct journal_live *live);
/** Write, adopt and publish a header that leaves its commit as it is; poisons the heap if a flush
 *  fails. Header and home are claimed; the mutex is not held. */
EVH_INTERNAL evh_status ring_write_header(struct journal *journal, struct region_header *next);

/* ---- journal_commit.c: building records ---- */

/* A record under construction. The entries are collected behind the largest data that there can be,
 * and moved to the end of the data when that is known. */
struct commit_builder {
    struct journal *journal;
    bool is_exact; /* every page was stored to: a new one need not be compared with its home */
    struct journal_pending *pending;
    struct journal_entry *entries;
    uint64_t at; /* end of the data */
    uint64_t changed_bytes;
};

/** Ask the watch; what it says joins the carry, which is then the set of dirty pages. All threads
 *  are still. */
EVH_INTERNAL evh_status collect_dirty(struct journal *journal, bool *is_exact);
/** The ticket of the record just built, or of the last begun commit if there is none. */
EVH_INTERNAL uint64_t commit_hand_out(struct journal *journal);
/** Room for a record of up to `pages` pages, and `home_pages` that are at home. */
EVH_INTERNAL struct journal_pending *commit_new_pending(struct journal *journal, uint64_t pages,
                                                        uint64_t home_pages);
EVH_INTERNAL void commit_builder_begin(struct commit_builder *builder, struct journal *journal,
                                       struct journal_pending *pending, uint64_t pages);
/** Write one page's change into the record. `page` is its content to be committed. */
EVH_INTERNAL void commit_page(struct commit_builder *builder, uint64_t number,
                              const unsigned char *page);
/** Close the record: entries behind the data, zeroes to the end of the page, the header but for its
 *  place in the chain. */
EVH_INTERNAL void commit_builder_end(struct commit_builder *builder,
                                     const struct journal_state *state);

/** Note that a page is at home. Room for its entry is there. */
EVH_INTERNAL void commit_home(struct commit_builder *builder, uint64_t page, uint32_t checksum);

/* ---- journal_bulk.c: pages behind the end of the last commit's heap, written home at once ---- */

/* Which pages of a commit: those from `first` on, up to the end of the heap. */
struct bulk {
    uint64_t first;
    uint64_t page_count; /* at most so many; 0: none, all go through the journal */
    uint64_t end_bytes;  /* of the heap */
};

/** From how many such pages on; tests make it small. */
EVH_INTERNAL_DATA uint64_t journal_bulk_pages_min;
/** Whether the commit of what the carry holds is a bulk commit. If so, what was begun before is
 *  made durable, and the mark. The mutex is held, and released meanwhile. */
EVH_INTERNAL evh_status bulk_begin(struct journal *journal, const struct journal_state *state,
                                   bool is_exact, struct bulk *bulk);
/** Write the pages home, into the cache, and note them in the record. All threads are still. The
 *  mutex is held, and released meanwhile. After an error bulk_clear() is due. */
EVH_INTERNAL evh_status bulk_write(struct commit_builder *builder, const struct bulk *bulk);
/** What a bulk commit that failed has left behind the end of the last commit's heap, below
 *  `end_bytes`, is zeroed, durably; if that fails, the heap is poisoned. The mutex is held. The
 *  thread's last error stays. */
EVH_INTERNAL void bulk_clear(struct journal *journal, uint64_t end_bytes);
/** The same for what a crash has left: `heap_bytes` is the end of the last commit's heap. */
EVH_INTERNAL evh_status bulk_recover(struct journal *journal, uint64_t heap_bytes);
/** Write zeroes to `size` bytes of the file. Returns an errno value, 0 if it succeeded. */
EVH_INTERNAL int bulk_write_zeroes(const struct region *region, uint64_t offset, uint64_t size);
/** Zero [from, end) of the file but for the journal's own slices, durably; what a flush that fails
 *  means is the caller's to say. `keeps_space`: the space stays allocated, if it can. */
EVH_INTERNAL evh_status bulk_zero(const struct region *region, uint64_t from, uint64_t end,
                                  bool keeps_space);
/** Whether the header's mark is not needed any more, once commits up to `sequence` are at home. The
 *  mutex is held, or no other thread knows the journal. */
EVH_INTERNAL bool bulk_is_over(const struct journal *journal, uint64_t sequence);
/** Take the mark out of a header that is to be written. */
EVH_INTERNAL void bulk_unmark(struct region_header *next);
/** Whether a node says that the page was written home at once, and nothing newer. */
static inline bool bulk_is_at_home(const struct journal_node *node)
{
    return !node->image_in && !node->ranges_in;
}

/* ---- journal_flush.c: pending records, tickets, poison ---- */

/** Poison the heap for what the thread's last error says; returns its status. The mutex is held. */
EVH_INTERNAL evh_status flush_poison(struct journal *journal);
/** The same where the mutex is not held. */
EVH_INTERNAL evh_status flush_poison_unlocked(struct journal *journal);
/** EVH_POISONED if it is. */
EVH_INTERNAL evh_status flush_poisoned(const struct journal *journal);
/** Hand a queued record to the system without flushing it. The mutex is held, and released
 *  meanwhile. */
EVH_INTERNAL evh_status flush_write_only(struct journal *journal, struct journal_pending *pending);
/** As journal_wait(). Only the ticket's owner counts as told of its failure: a commit that found
 *  nothing changed waits for another's ticket. */
EVH_INTERNAL evh_status flush_wait(struct journal *journal, uint64_t ticket, bool is_owner);
/** Flush everything that is pending. The mutex is held, and released meanwhile. */
EVH_INTERNAL evh_status flush_all(struct journal *journal);
/** Room for the failures of the tickets that are out, before another is given: noting one cannot
 *  fail. */
EVH_INTERNAL evh_status journal_reserve_failures(struct journal *journal);
/** Note that a ticket's commit failed. Room for it was reserved. */
EVH_INTERNAL void journal_note_failure(struct journal *journal, uint64_t ticket, evh_status status,
                                       bool is_reported);
/** A failure that nobody was told of: closing must not hide it. EVH_OK if there is none. */
EVH_INTERNAL evh_status flush_unreported(const struct journal *journal);
EVH_INTERNAL void pending_end(struct journal_pending *pending, struct journal *journal);
/** Take a record's changes to the index back, and its pages into the carry. */
EVH_INTERNAL void pending_take_back(struct journal *journal, struct journal_pending *pending,
                                    bool was_placed);

/* ---- journal_checkpoint.c ---- */

/* How far a checkpoint goes. */
enum checkpoint_kind {
    CHECKPOINT_SETTLE, /* write home, into the cache: a killed process leaves little to recover */
    CHECKPOINT_WHOLE,  /* and flush, and free the ring */
    CHECKPOINT_FORCE,  /* the same; views that prevent it are revoked */
};

/** Bring commits up to the newest durable one home. The mutex is held, and released meanwhile.
 *  EVH_BUSY: a reader's view prevents it, and nothing was gained. */
EVH_INTERNAL evh_status checkpoint_run(struct journal *journal, enum checkpoint_kind kind);
/** Take or release the right to header and home. The mutex is held. */
EVH_INTERNAL void checkpoint_claim(struct journal *journal);
EVH_INTERNAL void checkpoint_release(struct journal *journal);
/** Start or wake the background checkpointer if enough waits; or checkpoint at once. Mutex held. */
EVH_INTERNAL void checkpoint_consider(struct journal *journal);
EVH_INTERNAL void checkpoint_stop(struct journal *journal);
/** Where the checksum of a page is kept; 0: nowhere. */
EVH_INTERNAL uint64_t checksum_offset(const struct journal_checksums *checksums, uint64_t page);

/** Note where the committed heap's segments keep their checksums. All threads are still: the
 *  working directory is about to be committed. The mutex is held. */
EVH_INTERNAL evh_status checksum_find_slices(struct journal *journal, uint64_t heap_bytes);
/** A copy for use without the mutex, which is held now. End it with checksum_snapshot_end(). */
EVH_INTERNAL evh_status checksum_snapshot(const struct journal *journal,
                                          struct journal_checksums *snapshot);
EVH_INTERNAL void checksum_snapshot_end(struct journal_checksums *snapshot);
/** Whether the journal itself keeps a slice: an extent, or checksums. `*behind`: the slice after
 *  it. */
EVH_INTERNAL bool checkpoint_owns_slice(const struct journal *journal, uint64_t slice,
                                        uint64_t *behind);

/* A page of checksums while they are being changed. */
struct checksum_writer {
    struct region *region;
    const struct journal_checksums *checksums;
    uint64_t at; /* file offset of the page in `entries`; 0: none */
    bool is_dirty;
    uint32_t entries[PAGE_BYTES / 4];
};

EVH_INTERNAL evh_status checksum_put(struct checksum_writer *writer, uint64_t page, uint32_t value);
EVH_INTERNAL evh_status checksum_finish(struct checksum_writer *writer);

/* ---- journal_view.c: what recovery and readers do ---- */

/** A writer's opening: find the end of the chain, map the region, lay every record over it. */
EVH_INTERNAL evh_status view_recover(struct journal *journal, struct journal_state *state);
/** A reader's opening: the newest durable commit, held by a lock. */
EVH_INTERNAL evh_status view_open(struct journal *journal, struct journal_state *state);
EVH_INTERNAL void view_close(struct journal *journal);
/** A flush failed while opening, and the next one will not be told of what was lost: the status
 *  page no longer says that what the cache shows of home is there. */
EVH_INTERNAL void view_withdraw(struct region *region);
/** A writer's home may be ahead of its header: lock out views of the commits between. */
EVH_INTERNAL void view_lock_settled(struct journal *journal);

#endif
