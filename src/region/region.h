/* region.h -- one heap's bytes: the file or memory, its header, its growth, and where it is mapped.
 *
 * Invariants
 *  1. base + offset is the byte at `offset` of the file, for every offset below mapped_bytes that
 *     lies neither in slice 0 nor in a journal extent (those are mapped without access).
 *  2. Every mapped byte has space allocated for it, except in slices that the heap marked as holes.
 *  3. Stores through base never reach the file: the mapping is private. A live heap's is shared,
 *     over all reserved addresses, and mapped_bytes is reserved_bytes.
 *  4. header is the valid slot with the highest generation; the other slot is the next to be
 *     written.
 *  5. Only the journal writes the header, status and home pages, and flushes.
 *  6. header.extents only grows while the region is open, and while threads run: an entry's
 *     slice_count is stored last (release), so that any thread may look it up without a lock. While
 *     all are still, the last entries may go (evh_trim()).
 */
#ifndef EVERHEAP_REGION_REGION_H
#define EVERHEAP_REGION_REGION_H

#include "os/os.h"
#include "region/region_layout.h"

struct region {
    /* The first two stand in for struct evh_heap_view: the heap copies them. */
    unsigned char *base;   /* working mapping, 64 MiB-aligned (caller's buffers: as they come) */
    uint64_t mapped_bytes; /* usable addresses: base .. base + mapped_bytes */
    uint64_t reserved_bytes;
    uint64_t file_bytes;       /* space allocated in the file */
    const unsigned char *home; /* the file as it is, read-only; NULL in memory heaps and readers */
    int file;                  /* -1 in memory */
    int lock_file;             /* a description of its own, never mapped; -1 if none */
    struct os_mutex *plan_mutex; /* who plans growth over several steps; taken before `mutex` */
    struct os_mutex *mutex; /* of growth and extents: mapped_bytes, file_bytes, header.extents */
    uint64_t preferred_address; /* asked for; 0: where the header says */
    evh_mode mode;
    unsigned slot;     /* of the header in use */
    bool is_slot_torn; /* the other one holds no sound header: a write of it was cut short */
    struct region_header header;
    struct region_status status; /* as last published (writer) or read (reader) */
    char *path;                  /* owned; for messages. "memory" in memory heaps */
    uint64_t device, inode;
    uint64_t process; /* who opened it */
    bool is_borrowed; /* base is a caller's buffer */
};

/* ---- opening (region_open.c) ---- */

/**
 * Create the file of a new durable heap under a temporary name, REGION_NEW_BYTES long, space
 * allocated, nothing written yet, mapped; takes the writer's lock. The caller fills it, has the
 * journal flush it, and calls region_publish().
 * Returns   EVH_OK and `*region`, owned: end it with region_close().
 */
EVH_INTERNAL evh_status region_create(const char *path, const evh_options *options,
                                      struct region **region);

/** Give the new file its name. EVH_EXISTS if another was faster (nothing is lost: close, and open
 *  the winner). The caller flushes the directory. */
EVH_INTERNAL evh_status region_publish(struct region *region);

/**
 * Open an existing file in options->mode: identity and kind, the header slots, the writer's lock
 * (durable mode). Nothing is mapped yet: the journal decides how much there is, then
 * region_map() maps it.
 */
EVH_INTERNAL evh_status region_open(const char *path, const evh_options *options,
                                    struct region **region);

/** Ask again how long a reader's file is: its writer may have let it grow. */
EVH_INTERNAL evh_status region_measure(struct region *region);

/** Map an opened file up to `heap_bytes` (a multiple of the slice size, within the file), or as far
 *  beyond what is mapped, in the region's mode. Journal extents and slice 0 stay without access. */
EVH_INTERNAL evh_status region_map(struct region *region, uint64_t heap_bytes);

/** A region in anonymous memory: reserves `size_max` (0: the default) of addresses; the first
 *  `heap_bytes` are mapped. No file, no header. */
EVH_INTERNAL evh_status region_open_memory(uint64_t size_max, uint64_t heap_bytes,
                                           uint64_t preferred, struct region **region);

/** A region in a caller's buffer: nothing is mapped or owned. */
EVH_INTERNAL evh_status region_open_buffer(void *buffer, uint64_t size, struct region **region);

/** Unmap, unlock, close; a created file that was not published vanishes. NULL is fine. */
EVH_INTERNAL evh_status region_close(struct region *region);

/** In a forked child of a process that is attached to a live heap: a lock description of its
 *  own. */
EVH_INTERNAL evh_status region_lock_again(struct region *region);

/** In a forked child: drop the lock description, so that the parent's death frees the lock. */
EVH_INTERNAL void region_forked(struct region *region);

/* ---- growth (region_grow.c) ---- */

/**
 * Make [0, need_bytes) usable: allocate space (64 KiB steps, doubling, at most 64 MiB ahead), map
 * it. Never moves anything. `*mapped_from` .. mapped_bytes is what was added (it may be more than
 * was needed); nothing is mapped over journal extents.
 * Errors    EVH_FULL (disk, or size_max_bytes: nothing changed), EVH_IO, EVH_NO_MEMORY.
 */
EVH_INTERNAL evh_status region_grow(struct region *region, uint64_t need_bytes,
                                    uint64_t *mapped_from);

/** Between these no other thread makes or drops an extent, or lets the heap grow: what
 *  region_is_journal() says while growth is planned holds until it is made, and an extent that
 *  cannot be used goes before the heap has left it out. Taken before the region's own mutex, after
 *  the allocator's locks. */
EVH_INTERNAL void region_plan_begin(struct region *region);
EVH_INTERNAL void region_plan_end(struct region *region);

/** The file has grown to `file_bytes`: map its new end into home. Called by this layer. */
EVH_INTERNAL evh_status region_extend_home(struct region *region, uint64_t file_bytes);

/** Allocate `slice_count` slices for the journal, behind everything in use and behind
 *  `floor_bytes`, and append them to header.extents as entry `number`, so that growth leaves them
 *  out from now on. The caller writes the header; it holds the plan from before this call until
 *  then, or until it has dropped the extent. */
EVH_INTERNAL evh_status region_allocate_extent(struct region *region, uint64_t floor_bytes,
                                               uint32_t slice_count, unsigned number);

/** Take extent `number`, the last, off the list again: its header could not be written, or no
 *  header names it any more. It lies behind what is mapped. The plan is held. */
EVH_INTERNAL void region_drop_extent(struct region *region, unsigned number);

/** Cut the file off behind everything that is mapped, and behind the last extent: what lies there
 *  is zero, and nobody's. The plan is held. The caller flushes. */
EVH_INTERNAL evh_status region_shrink_file(struct region *region);

/** The slices of extent entry `number`; count 0 if there is none. Any thread. */
static inline struct region_extent region_extent_at(const struct region *region, unsigned number)
{
    struct region_extent extent = {0, 0};
    if (number >= REGION_EXTENT_MAX) return extent;
    const struct region_extent *stored = &region->header.extents[number];
    extent.slice_count = __atomic_load_n(&stored->slice_count, __ATOMIC_ACQUIRE);
    if (extent.slice_count) extent.first_slice = stored->first_slice;
    return extent;
}

/** Whether `slice` belongs to the journal (slice 0 counts). `*end`, if not NULL, receives the slice
 *  behind that extent. */
EVH_INTERNAL bool region_is_journal(const struct region *region, uint64_t slice, uint64_t *end);

/** How many bytes of [0, mapped_bytes) can be read through base, in runs: calls `run` for each
 *  maximal run outside the journal. */
EVH_INTERNAL void region_each_run(const struct region *region, uint64_t end_bytes,
                                  void (*run)(uint64_t offset, uint64_t size, void *context),
                                  void *context);

/* ---- header and status (region_header.c) ---- */

/** What every new heap's header says; all else in it is zero. */
EVH_INTERNAL struct region_header region_new_header(uint32_t mode, uint64_t size_max_bytes);
/** Read both slots, keep the newest valid one. EVH_NOT_HEAP, EVH_TRUNCATED, EVH_VERSION,
 *  EVH_BYTE_ORDER, EVH_CORRUPT, EVH_IO; the message names file and offset. */
EVH_INTERNAL evh_status region_read_header(struct region *region);

/** Write `next` (a changed copy of region->header; generation and crc are set here) into the slot
 *  that is not in use, durably, and make that the one in use. Called by the journal only, one at a
 *  time. Errors    EVH_IO; `*flush_failed` as in os->write_sync. The slot in use is untouched. */
EVH_INTERNAL evh_status region_write_header(struct region *region, struct region_header *next,
                                            bool *flush_failed);

/** The heap is mapped at `address`: where it was mapped before is remembered. */
EVH_INTERNAL void region_note_address(struct region_header *header, uint64_t address);

/** region->header becomes the written `next`, but for the extents, which are there already. */
EVH_INTERNAL void region_adopt_header(struct region *region, const struct region_header *next);

/** Publish region->status for other processes (no flush). Failure is ignored: it is a courtesy. */
EVH_INTERNAL void region_publish_status(struct region *region);

/** Read the status page another process published; false if there is none to believe. */
EVH_INTERNAL bool region_read_status(struct region *region, struct region_status *status);

/** Verify one header record found at `offset`: magic, order, version, flags, sizes, extents, crc.
 *  `file_bytes` bounds every offset in it. */
EVH_INTERNAL evh_status region_check_header(const struct region_header *header, const char *path,
                                            uint64_t offset, uint64_t file_bytes);

/* ---- between offsets and pointers: the only place ---- */

/** The address of `size` bytes at `offset`, or NULL if they are not all mapped. */
static inline void *region_at(const struct region *region, uint64_t offset, uint64_t size)
{
    if (UNLIKELY(!base_in_range(offset, size, region->mapped_bytes))) return NULL;
    return region->base + offset;
}

/** The file's length. Any thread, also while another lets it grow. */
static inline uint64_t region_file_bytes(const struct region *region)
{
    return __atomic_load_n(&region->file_bytes, __ATOMIC_RELAXED);
}

static inline bool region_has_file(const struct region *region)
{
    return region->file >= 0;
}

#endif
