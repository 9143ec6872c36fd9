/* heap.h -- an open heap, and what the files of this layer offer each other. */
#ifndef EVERHEAP_HEAP_HEAP_H
#define EVERHEAP_HEAP_HEAP_H

#include "debug/debug.h"
#include "heap/fault.h"
#include "heap/heap_layout.h"
#include "heap/live.h"
#include "heap/slices.h"
#include "heap/types_layout.h"
#include "journal/journal.h"

#include <everheap/types.h>

struct compact; /* the layout for small buffers: compact.c */

struct heap_hook;
struct heap_debug; /* heap_debug.c */
struct types;      /* types.c */

/* Which range of a heap that is divided by the journal's extents a slice lies in. */
struct heap_ranges {
    uint64_t slice_count;                 /* labelled; 0: heap_span_has() alone is asked. Atomic */
    unsigned char *labels;                /* by slice number; 0: no blocks there. NULL: none */
    uint64_t ends[REGION_EXTENT_MAX + 2]; /* by label, in bytes; of label 0: 0. Atomic */
    struct region_extent extents[REGION_EXTENT_MAX]; /* as they were when slices were labelled */
    uint32_t is_wanted; /* a ref lay outside the widest range. Atomic */
};

struct evh_heap {
    struct evh_heap_view view; /* first: evh_at() reads it. end_bytes grows, atomically (relaxed) */

    /* The widest range of offsets in which all is mapped and blocks may lie: of the ranges between
     * slice 0, the journal's extents and the heap's end. Where a table tells of several ranges,
     * this one is empty: then a processor guesses rightly where to look. heap_span_has() reads
     * both, and heap_find_span() sets them. */
    uint64_t span_begin;
    uint64_t span_bytes;
    uint64_t span_starts; /* bytes of it where HEAP_SPAN_SMALL more follow */
    struct heap_ranges ranges;

    /* What the allocation fast path reads. A thread's cache belongs to this heap in its present
     * state if and only if the stamps agree: every open and every rollback takes a stamp that no
     * heap of this process ever had. */
    uint64_t stamp;
    struct heap_slices slices; /* the allocator's ephemeral state: slices.h */

    struct live *live;       /* not NULL: attached to a live heap */
    struct live *quick_live; /* the same, unless it is debugged: frees need no other test */
    struct compact *compact; /* not NULL: the compact layout, and `slices` is unused */
    struct region *region;
    struct journal *journal; /* NULL in memory heaps */
    /* Locks, in the order in which they are taken; slices.lock, or that of the compact layout,
     * comes last. A caller's evh_enter() bracket comes before the last two; the gate is closed
     * under commit_mutex, never under them. */
    struct os_mutex *commit_mutex; /* commits, rollbacks and trims, one at a time */
    struct os_mutex *roots_mutex;  /* roots: they allocate */
    struct journal_state state;    /* working state: heap_set_end() changes heap_bytes */
    uint64_t looked_bytes;         /* the heap's end at the last look for dirty pages. Atomic */
    uint64_t begun;                /* the ticket of that commit; 0: none yet. Atomic. */
    evh_options options;
    evh_mode mode;
    bool is_live_copy;         /* private or read-only, of a live heap's file */
    bool is_writable;          /* stores are allowed: durable, private, memory */
    bool is_committed_by_save; /* private and memory heaps: nothing to commit to */
    uint32_t open_count;       /* of a buffer that was opened several times */
    uint64_t process;          /* who opened it; another process is a forked child */
    bool is_forked;            /* set in a forked child, before fork() returns there */
    bool has_magazines;        /* in memory: magazine.c, and double frees are found late or never */
    bool needs_touch;          /* evh_touch() has something to do */
    bool has_slices;           /* slices_open() succeeded: slices_close() ends it */
    uint64_t commits;          /* made through this handle; atomic */
    struct heap_lock types_lock;
    struct types *types;      /* what is loaded of the registry: types.c */
    struct heap_debug *debug; /* not NULL: debugged, and no thread's present cache is this heap's */
    struct heap_lock hooks_lock;
    struct heap_hook *hooks; /* linked; each is its owner's memory */
    void *memory;            /* of a compact heap: owned; NULL in a caller's buffer */
    uint64_t memory_bytes;
};

/* ---- heap_open.c ---- */

/** EVH_OK if this process may change the heap: EVH_INVALID (null), EVH_FORKED, EVH_READ_ONLY,
 *  EVH_POISONED. Cheap: no system call in the common case. */
EVH_INTERNAL evh_status heap_writable(evh_heap *heap);

/** Report a misuse (EVH_DOUBLE_FREE, EVH_BAD_POINTER) as the heap's option says: message and abort,
 *  or the last error. */
EVH_INTERNAL evh_status heap_misuse(const evh_heap *heap, evh_status status, const void *pointer,
                                    const char *what);

/** A stamp that nobody had. */
EVH_INTERNAL uint64_t heap_new_stamp(void);

/** The heap's end is now `heap_bytes`: sets state.heap_bytes and view.end_bytes and, in memory
 *  heaps, the header in slice 0, so that a copy of the buffer is an image. The only way to change
 *  them while a heap is open. Under slices.lock, or with all other threads still. */
EVH_INTERNAL void heap_set_end(evh_heap *heap, uint64_t heap_bytes);

/** What messages call the heap: its path, or "memory". */
EVH_INTERNAL const char *heap_path(const evh_heap *heap);

/** Check `given` (NULL: all default) and copy it. `path` is for the message. */
EVH_INTERNAL evh_status heap_options(const char *path, const evh_options *given,
                                     evh_options *options);

/** An empty heap with its locks, owned: end it with heap_end(), which also ends what was put into
 *  it (journal, slices, region, memory) and returns the first failure. NULL without memory. */
EVH_INTERNAL evh_heap *heap_new(const evh_options *options);
EVH_INTERNAL evh_status heap_end(evh_heap *heap);

/** End a heap that did not open, keeping the error that says why. Its file stays as it is. */
EVH_INTERNAL void heap_abandon(evh_heap *heap);

/* ---- heap_ranges.c: where blocks may lie ---- */

/** Find the ranges of offsets for heap_span_has(), after the heap's end has changed and when it was
 *  opened. Under slices.lock or with all other threads still; of a live heap at any time, where
 *  there is one range, which only becomes longer. */
EVH_INTERNAL void heap_find_span(evh_heap *heap);

/** A ref lay outside the widest range: have a table of all ranges. Any thread. */
EVH_INTERNAL void heap_want_ranges(evh_heap *heap);

/* ---- heap_hooks.c: who is told of commits ---- */

enum heap_event {
    HEAP_BEFORE_COMMIT, /* the image is about to be collected or saved. A memory heap is told at
                           every evh_commit(), so that its buffer can be copied */
    HEAP_COMMITTED,     /* it was collected: a rollback goes back to this state */
    HEAP_ROLLING_BACK,  /* pages are about to be restored; may fail, and then nothing follows */
    HEAP_ROLLED_BACK,   /* the image is that of the last commit again */
    HEAP_CLOSING,       /* the last event */
};

struct heap_hook {
    struct heap_hook *next;
    void (*run)(struct heap_hook *hook, evh_heap *heap, enum heap_event event);
};

/** Link a hook, which stays its owner's memory, until it is removed or the heap is closed. */
EVH_INTERNAL void heap_hook_add(evh_heap *heap, struct heap_hook *hook);
EVH_INTERNAL void heap_hook_remove(evh_heap *heap, struct heap_hook *hook);
/** Tell all hooks. Writers are still. */
EVH_INTERNAL void heap_run_hooks(evh_heap *heap, enum heap_event event);

/* ---- heap_debug.c ---- */

/** Read the letters of the options or the environment, and debug the heap if there are any. */
EVH_INTERNAL evh_status heap_debug_begin(evh_heap *heap);
EVH_INTERNAL void heap_debug_end(evh_heap *heap);
/** In a forked child, before fork() returns there. */
EVH_INTERNAL void heap_debug_forked(evh_heap *heap);
/* The next three where heap->debug is set: as evh_aligned_alloc() and evh_free(); and the bytes
 * that were asked for, 0 if that is not known. */
EVH_INTERNAL void *heap_debug_allocate(evh_heap *heap, size_t size, size_t alignment);
EVH_INTERNAL evh_status heap_debug_free(evh_heap *heap, void *block);
EVH_INTERNAL uint64_t heap_debug_size(evh_heap *heap, const void *block);
/** As evh_walk(), of a heap that is debugged: the sizes are those that were asked for. */
EVH_INTERNAL evh_status heap_debug_walk(evh_heap *heap, evh_visit *visit, void *context);
/** The image is about to be read as it is; until the next operation. Nothing for other heaps. */
EVH_INTERNAL void heap_debug_bare(evh_heap *heap);
EVH_INTERNAL void heap_debug_counts(const evh_heap *heap, uint64_t *allocations, uint64_t *frees);

/* ---- heap_log.c: letter O in a live heap ---- */

/** The heap is open: find its log, or make it. Nothing without the letter. As evh_root(). */
EVH_INTERNAL evh_status heap_log_begin(evh_heap *heap);
/** Note an operation of a live heap that is debugged. */
EVH_INTERNAL void heap_log_operation(evh_heap *heap, const char *operation, const void *address,
                                     uint64_t size);

/* ---- allocate.c: for heap_debug.c and typed.c, behind their checks ---- */

/** The requests that no heap can meet. */
EVH_INTERNAL evh_status allocate_check(evh_heap *heap, size_t size);
/** A block of the class from the heap's cache for typed blocks, under typed_lock. */
EVH_INTERNAL void *heap_raw_allocate_in(struct cache *cache, uint32_t class_index);

/** A block of `size` bytes, at most what allocate_check() let through and a canary. */
EVH_INTERNAL void *heap_raw_allocate(evh_heap *heap, size_t size, size_t alignment);
/** Free any pointer, with all checks. */
EVH_INTERNAL evh_status heap_raw_free(evh_heap *heap, void *block);

/* ---- typed.c ---- */

/** A typed block resized, in place or moved; its type stays. `old_size` is its usable size. */
EVH_INTERNAL void *typed_resize(evh_heap *heap, void *block, uint64_t old_size, size_t size);

/* ---- types.c ---- */

/** Forget what was loaded of the registry: the heap is closed. */
EVH_INTERNAL void types_end(evh_heap *heap);

/* ---- heap_memory.c ---- */

/** Write the header of a memory heap's image into its slice 0. */
EVH_INTERNAL void heap_store_header(evh_heap *heap);

/** As evh_open_memory() of new memory, with magazines. */
EVH_INTERNAL evh_heap *heap_open_magazines(uint64_t size_bytes, const evh_options *options);

/* ---- heap_discard.c ---- */

/** Give the memory of a heap in memory back to the system where no live block lies. `is_still`: no
 *  other thread is in the heap, so that its slices can be looked at, too. EVH_NO_MEMORY. */
EVH_INTERNAL evh_status heap_discard(evh_heap *heap, bool is_still, uint64_t *freed_bytes);

/** As heap_discard(), of the slices of this thread's cache and those that nobody owns, if enough is
 *  idle there to be worth the time. Not under the lock. Of other heaps: nothing. */
EVH_INTERNAL void heap_discard_before_growth(struct cache *cache);

/* ---- heap_table.c: the heaps that this process has open ---- */

/** The table's lock, for opening a buffer that may be open already. EVH_NO_MEMORY. */
EVH_INTERNAL evh_status heap_table_lock(void);
EVH_INTERNAL void heap_table_unlock(void);

/* The next three with the table locked. */

/** The heap becomes known to evh_heap_of() and to the fork handler. EVH_LIMIT: 1024 are open. */
EVH_INTERNAL evh_status heap_table_add(evh_heap *heap);
EVH_INTERNAL void heap_table_remove(evh_heap *heap);
/** The heap whose base is `base`, or NULL. */
EVH_INTERNAL evh_heap *heap_table_find(const void *base);

/* ---- slices*.c, threads.c: the allocator (slices.h has its types) ---- */

/** Format the metadata of a new image: segment 0 over heap->state.heap_bytes (4 slices or more). */
EVH_INTERNAL evh_status slices_create(evh_heap *heap);

/** Set up the ephemeral state over an existing image of heap->state.heap_bytes. O(1): segments are
 *  loaded and validated at first use, all of them at once if options.verify. */
EVH_INTERNAL evh_status slices_open(evh_heap *heap);

EVH_INTERNAL void slices_close(evh_heap *heap);

/** Forget all ephemeral state and take a new stamp: the image changed under it (rollback, refresh).
 *  No other thread is in the heap. */
EVH_INTERNAL void slices_reset(evh_heap *heap);

/** Fold every pending remote free into the bitmaps. All other threads are still. */
EVH_INTERNAL void slices_fold(evh_heap *heap);

/** As evh_walk, evh_check (descriptors and bitmaps), evh_get_info (counts). They read the image and
 *  the pending frees; they change nothing. */
EVH_INTERNAL evh_status slices_walk(evh_heap *heap, evh_visit *visit, void *context);
EVH_INTERNAL evh_status slices_check(evh_heap *heap, evh_report *report, void *context);
EVH_INTERNAL evh_status slices_info(evh_heap *heap, evh_info *info);

/** Call `run` for every maximal run of free slices that are no holes. */
EVH_INTERNAL evh_status slices_each_free_run(evh_heap *heap,
                                             evh_status (*run)(uint64_t first_slice, uint64_t count,
                                                               void *context),
                                             void *context);

/** Mark or unmark free slices as holes in the ephemeral state (the image's words are the caller's
 *  journal_patch). Allocation of a hole calls os->allocate first. */
EVH_INTERNAL void slices_set_hole(evh_heap *heap, uint64_t first_slice, uint64_t count, bool hole);

/** The offset of a slice's descriptor in the image; 0 if its segment does not exist. */
EVH_INTERNAL uint64_t slices_descriptor_offset(evh_heap *heap, uint64_t slice);

/** The file offset of a segment's checksum slice, or 0. For journal_set_checksums(). */
EVH_INTERNAL uint64_t slices_checksum_slice(void *heap, uint64_t segment);
/** Whether a slice holds checksums. As above. */
EVH_INTERNAL bool slices_is_checksum(void *heap, uint64_t slice);

/** The live block that begins at `offset`: true, and its usable size. */
EVH_INTERNAL bool slices_block_at(evh_heap *heap, uint64_t offset, uint64_t *size);

/* ---- threads.c: thread caches, and the gate that lets a commit run beside threads ---- */

/** Wait until no other thread is inside evh_enter(), and keep new ones out. EVH_BUSY if the calling
 *  thread is inside itself. gate_open() ends it. */
EVH_INTERNAL evh_status gate_close(evh_heap *heap);
EVH_INTERNAL void gate_open(evh_heap *heap);

/** Whether the calling thread is inside evh_enter() of this heap. */
EVH_INTERNAL bool gate_is_inside(evh_heap *heap);

/** In a forked child, before fork() returns there: the other threads are gone. */
EVH_INTERNAL void slices_forked(evh_heap *heap);

/** The heap is debugged from now on: the calling thread's cache of it is not its present one, and
 *  frees take the slow way. No other thread has been in the heap. */
EVH_INTERNAL void threads_close_fast_path(evh_heap *heap);

/* ---- compact.c: heaps in small or unaligned buffers ---- */

/* These take the layout's lock themselves; the caller does not hold it. Failures are set as the
 * thread's error; compact_free() and compact_resize() report a misuse through heap_misuse(). */

EVH_INTERNAL bool compact_is_image(const void *buffer, uint64_t size);
/** Format `buffer`. */
EVH_INTERNAL evh_status compact_create(evh_heap *heap, void *buffer, uint64_t size);
/** Attach to the image in `buffer` and verify its structure. */
EVH_INTERNAL evh_status compact_open(evh_heap *heap, void *buffer, uint64_t size);
EVH_INTERNAL void compact_close(evh_heap *heap);
/** In a forked child, before fork() returns there: whoever held the lock is gone. */
EVH_INTERNAL void compact_forked(evh_heap *heap);
EVH_INTERNAL void *compact_allocate(evh_heap *heap, uint64_t size, uint64_t alignment);
EVH_INTERNAL void *compact_resize(evh_heap *heap, void *block, uint64_t size);
EVH_INTERNAL evh_status compact_free(evh_heap *heap, void *block);
EVH_INTERNAL uint64_t compact_usable_size(evh_heap *heap, const void *block);
EVH_INTERNAL evh_status compact_walk(evh_heap *heap, evh_visit *visit, void *context);
EVH_INTERNAL evh_status compact_check(evh_heap *heap, evh_report *report, void *context);
EVH_INTERNAL evh_status compact_info(evh_heap *heap, evh_info *info);
EVH_INTERNAL bool compact_block_at(evh_heap *heap, uint64_t offset, uint64_t *size);
/** The catalog's ref, kept in the compact header. */
EVH_INTERNAL uint64_t compact_catalog(evh_heap *heap);
EVH_INTERNAL void compact_set_catalog(evh_heap *heap, uint64_t catalog);
/** The bytes of the image, for evh_save(). */
EVH_INTERNAL const void *compact_image(evh_heap *heap, uint64_t *size);

/* ---- inspect.c ---- */

/**
 * A check met corruption: sets the thread's error and `*first` if it is the first, and passes it to
 * `report`. Returns whether to look for more.
 */
EVH_INTERNAL bool heap_finding(evh_report *report, void *context, evh_status *first,
                               uint64_t offset, const char *object, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/** As evh_walk(), of all that is live in the image, also where the heap is debugged. */
EVH_INTERNAL evh_status heap_walk(evh_heap *heap, evh_visit *visit, void *context);

/* ---- roots.c ---- */

/* What is looked for: a name, or a tag if `name` is NULL. */
struct root_key {
    const char *name;
    uint64_t tag;
    uint64_t hash;
    size_t name_size;
    uint32_t type; /* that a new block is to carry; 0: none */
};

/** The key of a record or entry; its name is borrowed. */
EVH_INTERNAL struct root_key roots_key_of_record(const struct heap_root *record);
/** What evh_root_next() tells of it. */
EVH_INTERNAL void roots_describe(const struct heap_root *entry, evh_root_info *root);

/** A block that exists becomes a root, whose key is none yet. */
EVH_INTERNAL evh_status roots_enter(evh_heap *heap, const evh_root_info *root);

/** Allocate the catalog of a new heap. */
EVH_INTERNAL evh_status roots_create(evh_heap *heap);
EVH_INTERNAL evh_status roots_check(evh_heap *heap, evh_report *report, void *context);
/** As evh_root_next(), telling a failure from the end: EVH_OK and `*is_found` false. */
EVH_INTERNAL evh_status roots_next(evh_heap *heap, evh_root_info *root, bool *is_found);
/** How many roots there are. */
EVH_INTERNAL evh_status roots_count(evh_heap *heap, uint64_t *count);
/** Call `visit` for the catalog's block and for each of its chunks. */
EVH_INTERNAL void roots_each_internal(evh_heap *heap, void (*visit)(uint64_t offset, void *context),
                                      void *context);

/* ---- both layouts ---- */

/** The heap's end, also while other threads make it grow. */
static inline uint64_t heap_end_bytes(const evh_heap *heap)
{
    return base_load(&heap->view.end_bytes, __ATOMIC_RELAXED);
}

/* What one comparison suffices for: nodes, heads, groups of items. */
enum { HEAP_SPAN_SMALL = 1024 };

/** Whether all of [offset, offset + bytes) lies in one labelled range. */
static inline __attribute__((always_inline)) bool heap_ranges_have(const evh_heap *heap,
                                                                   uint64_t offset, uint64_t bytes)
{
    const struct heap_ranges *const ranges = &heap->ranges;
    const uint64_t slice = offset >> SLICE_SHIFT;
    if (slice >= base_load(&ranges->slice_count, __ATOMIC_ACQUIRE)) return false;
    const uint64_t end = base_load(&ranges->ends[ranges->labels[slice]], __ATOMIC_RELAXED);
    return offset < end && bytes <= end - offset;
}

/**
 * Whether all of [offset, offset + bytes) is mapped and blocks may lie there: in the widest range
 * of such offsets, or in one that is labelled; false tells nothing. Refs that come from the file
 * are compared with them, so it is short. While other threads use the heap a new widest range is
 * never shorter than the one before, or empty; and its lengths are stored last and loaded first:
 * begin and length that do not belong together name a part of the new one.
 */
static inline __attribute__((always_inline)) bool heap_span_has(const evh_heap *heap,
                                                                uint64_t offset, uint64_t bytes)
{
    assert(heap != NULL);
    const bool is_small = __builtin_constant_p(bytes) && bytes <= HEAP_SPAN_SMALL;
    const uint64_t length =
        base_load(is_small ? &heap->span_starts : &heap->span_bytes, __ATOMIC_ACQUIRE);
    const uint64_t distance = offset - base_load(&heap->span_begin, __ATOMIC_RELAXED);
    if (is_small ? distance < length : base_in_range(distance, bytes, length)) return true;
    return heap_ranges_have(heap, offset, bytes);
}

/** The widest range for several small comparisons: heap_starts_have(). */
struct heap_starts {
    const evh_heap *heap;
    uint64_t begin;
    uint64_t bytes;
};

static inline struct heap_starts heap_find_starts(const evh_heap *heap)
{
    struct heap_starts starts = {.heap = heap};
    assert(heap != NULL);
    starts.bytes = base_load(&heap->span_starts, __ATOMIC_ACQUIRE);
    starts.begin = base_load(&heap->span_begin, __ATOMIC_RELAXED);
    return starts;
}

/** As heap_span_has() of at most HEAP_SPAN_SMALL bytes. */
static inline __attribute__((always_inline)) bool heap_starts_have(struct heap_starts starts,
                                                                   uint64_t offset, uint64_t bytes)
{
    assert(bytes <= HEAP_SPAN_SMALL);
    return offset - starts.begin < starts.bytes || heap_ranges_have(starts.heap, offset, bytes);
}

static inline bool heap_is_zero(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        if (bytes[i]) return false;
    return true;
}

static inline bool heap_block_at(evh_heap *heap, uint64_t offset, uint64_t *size)
{
    return heap->compact ? compact_block_at(heap, offset, size)
                         : slices_block_at(heap, offset, size);
}

/** As heap_block_at(), but of a debugged heap only the bytes that were asked for: what lies behind
 *  them is not the owner's. */
static inline bool heap_block_room(evh_heap *heap, uint64_t offset, uint64_t *size)
{
    if (!heap_block_at(heap, offset, size)) return false;
    const uint64_t asked = heap->debug ? heap_debug_size(heap, heap->view.base + offset) : 0;
    assert(asked <= *size);
    if (asked) *size = asked;
    return true;
}

#endif
