/* slices.h -- the allocator's ephemeral state: what is rebuilt after every opening.
 *
 * A block is live if and only if its bit in a bitmap of the image is 1 (a LARGE run: if its
 * descriptor says so). Everything here is derived from the image, never trusted after a restart,
 * and lies outside it. Invariants:
 *
 *  1. A slice's bits are changed by one thread: that of the cache in `owner`, or, where nobody owns
 *     it, whoever holds the lock. Others free through the slice's mirror; the owner folds the
 *     mirror into the bits.
 *  2. slice_used() counts the bits that are 1 and the bits that the owner's bin has claimed: in its
 *     mask, or of its hot blocks. Claimed bits are 0. So a slice whose count is 0 holds nothing. A
 *     bin claims anew only when it has no hot blocks, so that it claims none twice.
 *  3. A slice that is owned is its class's current one (in the bin), or in the class's dense list
 *     (at least an eighth is free), or in the cache's list of full slices. `countdown` is the
 *     number of frees until this changes: down to 0 used, or, of a full slice, to `floor`, where it
 *     is dense.
 *  4. A cache's memory is not used for another while a thread may still hold its address: so a
 *     slice whose owner is the thread's present cache is the thread's. Stamps are never used twice.
 *  5. The slice of a live or claimed block is loaded: `segments` has its segment.
 *  6. What is not marked as a cache's own or as atomic is under the lock.
 */
#ifndef EVERHEAP_HEAP_SLICES_H
#define EVERHEAP_HEAP_SLICES_H

#include "heap/lock.h"
#include "heap/size_class.h"

enum {
    SLICE_PENDING = 1,        /* in `owner`: the mirror has bits. Makes frees go the slow way. */
    SLICE_MIRROR_BYTES = 512, /* the largest bitmap */
    SLICE_MIRROR_WORDS = SLICE_MIRROR_BYTES / 8,
    SLICE_LINE_UNITS = 8, /* bitmap pools are divided into cache lines of eight words */
    SLICE_LINE_BYTES = 64,
    SLICE_LINES = SLICE_BYTES / SLICE_LINE_BYTES,
    SLICE_WORDS = SEGMENT_SLICES / 64, /* of a bitmap with a bit per slice of a segment */
    SLICE_SMALL_SLOTS = 3,             /* slots of 1, 2 and 4 words share lines */
    SLICE_HOT_MAX = 128,               /* hot blocks that a bin keeps */
    SLICE_HOT_MIN = 4,
    MAGAZINE_SLOTS = 128,  /* of a magazine's array; a power of two, aligned to its size */
    MAGAZINE_BLOCKS = 126, /* that a magazine holds, beside its packets */
    MAGAZINE_PACKED = 63,  /* that a packet holds: half a magazine, with the link 512 bytes */
    MAGAZINE_PACKETS = 7,  /* that are allocated at a time: a page, with what leads to them */
    SLICE_FIRST_CHECKSUM_SLICES = 64, /* 4 MiB: so far slice 0 holds the page checksums */
};

enum slice_list {
    SLICE_IN_NONE,
    SLICE_IN_DENSE,
    SLICE_IN_FULL,
    SLICE_IN_ADOPTABLE,
    SLICE_IN_EMPTY,
};

/* What freeing needs to know about a slice: one cache line, indexed by slice number. */
struct slice {
    uint64_t owner; /* struct cache * that allocates here, 0: nobody; and SLICE_PENDING. Atomic. */
    uint64_t reciprocal; /* of the block size: struct size_class */
    uint64_t *bits;      /* the bitmap, in the image */
    struct cache *cache; /* of the last owner: announce remote frees there. Atomic. */
    uint32_t block_bytes;
    uint32_t countdown; /* the owner's, as all that follow */
    uint32_t next;      /* in a list, by slice number; 0 ends it */
    uint32_t previous;
    uint32_t run; /* TAIL: slices back to the head. LARGE: slices of the run. */
    uint16_t block_count;
    uint16_t floor; /* what is used besides `countdown`: not 0 in full slices */
    uint8_t class_index;
    uint8_t kind;   /* enum heap_kind; 0 too where the segment is not loaded. Atomic. */
    uint8_t list;   /* enum slice_list */
    uint8_t cursor; /* the bitmap word that the next refill looks at */
    uint8_t word_count;
    uint8_t is_typed;    /* blocks end in the number of their type */
    uint16_t bin_offset; /* of the class's bin in a cache */
};

static_assert(sizeof(struct slice) == 64, "a cache line");

/* What other threads write when they free a block of the slice: a line of its own. All atomic. */
struct remote {
    uint64_t summary;    /* bit w: word w of the mirror may have bits */
    uint32_t is_pending; /* the slice is on a cache's stack of pending slices, exactly once */
    uint32_t next;       /* on that stack */
    uint64_t reserved[6];
};

static_assert(sizeof(struct remote) == 64, "a cache line");

/* The bitmaps in one slice: a metadata slice's pool, or a slice of kind BITMAP. */
struct pool {
    struct pool *next;
    uint64_t slice;               /* where it is */
    uint32_t relative;            /* as descriptors name it: 0 for the metadata slice */
    uint32_t owners[SLICE_LINES]; /* the id of the cache whose slots are in the line; 0: mixed */
    uint8_t units[SLICE_LINES];   /* used words of each line */
    uint64_t free_lines[SLICE_LINES / 64];
    uint64_t partial[SLICE_SMALL_SLOTS][SLICE_LINES / 64]; /* lines with free slots of that size */
};

/* A loaded segment. */
struct segment {
    uint64_t number;
    uint64_t *descriptors;       /* in the image */
    uint64_t free[SLICE_WORDS];  /* bit: the slice is free, inside the heap */
    uint64_t holes[SLICE_WORDS]; /* bit: free, and its space was given back */
    uint32_t free_count;
    struct pool *pools; /* owned; the metadata slice's first */
};

/* A block that was freed a moment ago, claimed: likely to be in the processor's cache still. */
struct hot {
    void *block;
    uint64_t place; /* of its bit: as if bits had addresses */
};

/* Where the next blocks of a class come from: hot blocks first, last in, first out; then the mask.
 * A mask of 0 with a null word is an empty bin. */
struct bin {
    struct hot *hot; /* behind the last hot block */
    struct hot *hot_start;
    struct hot *hot_end; /* as hot_start: none are kept */
    uint64_t mask;       /* free bits of `word`, claimed: nobody else hands them out */
    uint64_t *word;
    unsigned char *blocks; /* the block of the word's bit 0 */
    uint32_t block_bytes;
    uint32_t slice; /* the current slice, 0: none */
    void **top;     /* of the magazine: behind its last block. Others may read it. Atomic. */
};

static_assert(sizeof(struct bin) == 64, "a cache line");

/* Half a magazine, put aside. */
struct packet {
    struct packet *next;
    void *blocks[MAGAZINE_PACKED];
};

static_assert(sizeof(struct packet) == 512, "what MAGAZINE_PACKED says");

struct packets {
    struct packets *next;
    struct packet packet[MAGAZINE_PACKETS];
};

/* What a bin needs to know of its magazine, but not at once. */
struct magazine {
    void **start; /* of the array; behind a null */
    struct packet *packets;
    uint32_t packet_count; /* others may read it. Atomic. */
    uint32_t packet_max;
};

/* A hint where the next bitmap slot of a size comes from. */
struct slot_hint {
    struct pool *pool;
    uint32_t line;
};

/*
 * A thread's allocation state in one heap. It lives as long as the heap and the thread: a thread
 * that ends parks it, with the slices it owns, for the next thread; a heap that is closed first
 * leaves it to the thread.
 */
struct cache {
    struct bin bins[HEAP_CLASS_COUNT + 1]; /* first; the last is that of size 0, always empty */
    uint64_t stamp;                        /* of the heap's state it belongs to */
    evh_heap *heap;                        /* NULL: closed. Under the registry's lock. */
    struct cache *next_of_heap;
    struct cache *next_of_thread;
    struct cache *next_parked;
    void *memory;               /* what the cache was carved from */
    struct hot *hots;           /* of all bins; NULL: none are kept */
    struct magazine *magazines; /* of all bins; NULL: there are none */
    struct packets *packets;    /* owned: all that were allocated, linked */
    struct packet *free_packets;
    uint32_t dense[HEAP_CLASS_COUNT]; /* lists */
    uint32_t full;                    /* list */
    uint32_t id;                      /* in its heap, from 1 */
    bool has_thread;
    bool is_typed; /* the heap's own, for typed blocks: under typed_lock, and in no thread's list */
    uint32_t thread_slot; /* of a live heap: live.h, as the next two */
    uint64_t tag;         /* what says in a slice's owner word that it is this cache's; 0: none */
    uint32_t in_use;      /* a thread has it, or takes it. Atomic */
    struct slot_hint hints[SLICE_SMALL_SLOTS];
    /* Written by other threads. */
    uint32_t pending
        __attribute__((aligned(64))); /* the stack of slices with remote frees. Atomic. */
    /* Read by a thread that commits. */
    uint32_t depth __attribute__((aligned(64))); /* of evh_enter(). Atomic. */
};

/* The calling thread's present cache. */
struct heap_thread {
    uint64_t stamp;       /* of the heap that `cache` belongs to; 0: none */
    struct cache *cache;  /* threads_nobody before the first */
    struct cache *caches; /* of all heaps, linked by next_of_thread */
};

/* Of threads that have no cache: owns no slice, and all its bins are empty for ever. */
EVH_INTERNAL_DATA struct cache threads_nobody;

EVH_INTERNAL_DATA _Thread_local struct heap_thread heap_thread
    __attribute__((tls_model("initial-exec")));

struct heap_slices {
    uint64_t end_bytes;  /* evh_free()'s fast path works below; 0 while it must not. Atomic. */
    struct slice *table; /* by slice number; reserved for the heap's largest size */
    struct remote *remotes;
    unsigned char *mirrors;    /* SLICE_MIRROR_BYTES per slice, mapped where segments are loaded */
    struct segment **segments; /* by number; NULL: not loaded. Atomic. */
    unsigned char *labels;     /* a byte per slice, mapped when they are asked for */
    void *reserved;            /* all five lie in one reservation */
    uint64_t reserved_bytes;
    uint64_t slice_max;       /* slices of the largest heap */
    uint64_t mapped_segments; /* table and remotes are mapped so far */
    uint64_t told_bytes;      /* region->mapped_bytes as far as the journal knows */
    struct heap_lock lock;
    uint64_t free_hint;     /* no loaded segment below has a free slice */
    uint64_t unloaded_hint; /* all segments below are loaded */
    uint64_t reclaimed_end; /* the heap's slices when empty ones were last collected */
    uint64_t discard_end;   /* at how many slices dead pages are looked for again */
    uint64_t taken_end;     /* no slice from here on ever held blocks */
    uint64_t reclaim_at;    /* what `taken_end` is when magazines are given back the next time */
    uint32_t adoptable[HEAP_CLASS_COUNT];       /* lists of dense slices that nobody owns */
    uint32_t adoptable_typed[HEAP_CLASS_COUNT]; /* likewise, of typed ones */
    struct heap_lock typed_lock;                /* taken before `lock` */
    struct cache *typed;                        /* one of `caches`; NULL: not made yet */
    uint32_t empty;       /* list of slices that were empty when they were loaded; nobody's */
    struct cache *caches; /* all, linked by next_of_heap */
    struct cache *parked;
    uint32_t cache_count;
    /* The gate. All atomic. */
    uint32_t gate;         /* enum gate_bit; 0: evh_enter() has nothing to do */
    uint32_t gate_wakes;   /* counts what the thread that closes the gate waits for */
    uint32_t gate_guests;  /* brackets of threads that got no cache */
    uint32_t gate_waiters; /* threads that wait for the gate to open */
};

enum gate_bit {
    GATE_CLOSED = 1,     /* a commit is copying, or about to */
    GATE_FENCED = 2,     /* no membarrier here: evh_enter() orders its own accesses */
    GATE_UNPREPARED = 4, /* until the first evh_enter() or commit asks the system for its barrier */
};

/* ---- slices.c: the tables, descriptors and the directory ---- */

/** Zeroed memory for a byte per slice of the largest heap, part of the tables; NULL without. */
EVH_INTERNAL unsigned char *slices_map_labels(evh_heap *heap);

/** The slice's descriptor in the image. Its segment is loaded. */
EVH_INTERNAL uint64_t *slices_descriptor(evh_heap *heap, uint64_t slice);

/** Publish a descriptor: one store. */
EVH_INTERNAL void slices_set_descriptor(evh_heap *heap, uint64_t slice, uint64_t descriptor);

/** The descriptors of a segment, wherever it keeps them, found through the directory; NULL and
 *  EVH_CORRUPT if that is damaged. The segment need not be loaded. */
EVH_INTERNAL uint64_t *slices_find_descriptors(evh_heap *heap, uint64_t segment);

/** The directory entry of a segment in the image, or NULL (EVH_CORRUPT). */
EVH_INTERNAL uint64_t *slices_directory_entry(evh_heap *heap, uint64_t segment);

/** Map the tables for a heap of `slice_count` slices. EVH_NO_MEMORY. */
EVH_INTERNAL evh_status slices_map_tables(evh_heap *heap, uint64_t slice_count);

/** The heap ends at `slice_count`, in the image and for evh_free(). Under the lock. */
EVH_INTERNAL void slices_set_end(evh_heap *heap, uint64_t slice_count);

/** The list of the heap's caches, that of a thread which begins now left out. */
EVH_INTERNAL struct cache *slices_first_cache(evh_heap *heap);

/** Zero `size` bytes of the image, storing only into pages that are not zero. */
EVH_INTERNAL void slices_zero(void *bytes, uint64_t size);

static inline uint64_t slices_count(uint64_t heap_bytes)
{
    assert(heap_bytes % SLICE_BYTES == 0);
    return heap_bytes >> SLICE_SHIFT;
}

static inline uint64_t slices_segment_count(uint64_t slice_count)
{
    assert(slice_count <= UINT64_MAX - SEGMENT_SLICES);
    return (slice_count + SEGMENT_SLICES - 1) / SEGMENT_SLICES;
}

/* ---- slices_inspect.c: what lies where ---- */

/* Where a block is. */
struct slice_place {
    struct slice *slice; /* of a MEDIUM or LARGE run: its head */
    uint32_t index;      /* of the block in it; 0 if LARGE */
    uint64_t size;       /* of the block, without the number of its type */
    bool is_large;
};

enum { SLICE_TYPE_BYTES = 4 }; /* that the number of a typed block's type takes, at its end */

/** How much of a block of the slice a program may use. */
static inline uint64_t slice_usable(const struct slice *slice, uint64_t block_bytes)
{
    assert(block_bytes > SLICE_TYPE_BYTES);
    return block_bytes - (slice->is_typed ? SLICE_TYPE_BYTES : 0);
}

/** The number of the type of a block with so many usable bytes. */
static inline uint32_t slice_type(const struct slice *slice, const unsigned char *block,
                                  uint64_t usable_bytes)
{
    uint32_t type = 0;
    assert(block != NULL);
    if (slice->is_typed) memcpy(&type, block + usable_bytes, sizeof type);
    return type;
}

/** The list of slices like this one that nobody owns. */
static inline uint32_t *slices_adoptable(struct heap_slices *slices, const struct slice *slice)
{
    assert(slice->class_index < HEAP_CLASS_COUNT);
    return slice->is_typed ? &slices->adoptable_typed[slice->class_index]
                           : &slices->adoptable[slice->class_index];
}

/** Find the live block that begins at `offset`, any number. EVH_DOUBLE_FREE: a block could begin
 *  there, but none does; EVH_BAD_POINTER: none can. These two are not set as the thread's
 *  error; others (EVH_CORRUPT, EVH_NO_MEMORY: the segment cannot be loaded) are. */
EVH_INTERNAL evh_status slices_find(evh_heap *heap, uint64_t offset, struct slice_place *place);

/* ---- slices_load.c: from the image to the ephemeral state ---- */

/** Load a segment: validate it and build its ephemeral state. EVH_CORRUPT, EVH_NO_MEMORY. */
EVH_INTERNAL evh_status slices_load(evh_heap *heap, uint64_t segment);

/** As slices_load(), taking the lock; at once if it is loaded. */
EVH_INTERNAL evh_status slices_need(evh_heap *heap, uint64_t segment);

/** Validate a segment and report all that is wrong; nothing changes. Returns whether to go on. */
EVH_INTERNAL bool slices_audit(evh_heap *heap, uint64_t segment, evh_report *report, void *context,
                               evh_status *first);

EVH_INTERNAL void slices_end_segment(struct segment *segment);

/* ---- slices_pool.c: bitmap slots; under the lock ---- */

/** A pool of the bitmaps in `slice`, the first unit that may be used given. NULL: no memory. */
EVH_INTERNAL struct pool *pool_new(struct segment *segment, uint64_t slice, uint32_t relative,
                                   uint32_t first_unit);

/** Note that a slot is in use. False if one of its units was already, or cannot be. */
EVH_INTERNAL bool pool_claim(struct segment *segment, uint32_t relative, uint32_t unit,
                             uint32_t slot_words);

/** Take a slot of `slot_words` in the segment for slices of `cache`, from a BITMAP slice made
 *  for it if need be. Its content is undefined. The slot as descriptors hold it, or POOL_NONE. */
EVH_INTERNAL uint32_t pool_take(evh_heap *heap, struct segment *segment, struct cache *cache,
                                uint32_t slot_words);
#define POOL_NONE UINT32_MAX

/** Give a slot back, found by its bitmap. */
EVH_INTERNAL void pool_give(evh_heap *heap, struct segment *segment, const uint64_t *bits,
                            uint32_t slot_words);

/** One more slice of the segment becomes a pool. False: it has none. */
EVH_INTERNAL bool pool_add(evh_heap *heap, struct segment *segment);

/** The bitmap of a slot that pool_claim() or pool_take() gave. */
EVH_INTERNAL uint64_t *pool_bits(evh_heap *heap, const struct segment *segment, uint32_t slot);

/* ---- slices_runs.c: free slices; under the lock ---- */

/**
 * Take `count` free slices in a row whose first is a multiple of `alignment`: from loaded
 * segments, then unloaded ones, then holes, then by growing the heap. `in_one_segment`: they lie
 * in one segment. They are no longer free and keep their descriptors until the caller publishes
 * others. 0: none, and the error says why.
 */
EVH_INTERNAL uint64_t runs_take(evh_heap *heap, uint64_t count, uint64_t alignment,
                                bool in_one_segment);

/** As runs_take(), of free slices in loaded segments that are no holes. 0: none, and no error. */
EVH_INTERNAL uint64_t runs_take_loaded(evh_heap *heap, uint64_t count, uint64_t alignment,
                                       bool in_one_segment);

/** Load one more segment. False: all are loaded, or this one failed (`*status`). */
EVH_INTERNAL bool runs_load_more(evh_heap *heap, evh_status *status);

/** Take exactly these slices if all are free: for growing a run in place. Grows the heap if the run
 *  ends at its end. */
EVH_INTERNAL bool runs_take_at(evh_heap *heap, uint64_t first, uint64_t count);

/** Take one free slice of this segment, not its first. 0: none. */
EVH_INTERNAL uint64_t runs_take_in(evh_heap *heap, struct segment *segment);

/** Give slices back; their descriptors are FREE. */
EVH_INTERNAL void runs_give(evh_heap *heap, uint64_t first, uint64_t count);

/** Whether a slice is free, in a loaded segment; and whether it is a hole. */
EVH_INTERNAL bool runs_is_free(evh_heap *heap, uint64_t slice);
EVH_INTERNAL bool runs_is_hole(evh_heap *heap, uint64_t slice);

/** These slices are free and no holes: now they are not. */
EVH_INTERNAL void runs_mark_taken(evh_heap *heap, uint64_t first, uint64_t count);

/* ---- slices_grow.c ---- */

/** Grow the heap until it ends in `count` free slices in a row, the first a multiple of
 *  `alignment`. All segments are loaded. EVH_FULL and what region_grow() says. Under the lock. */
EVH_INTERNAL evh_status grow_heap(evh_heap *heap, uint64_t count, uint64_t alignment,
                                  bool in_one_segment);

/** Grow the heap to `end` slices within its last segment. False: not possible so. */
EVH_INTERNAL bool grow_to(evh_heap *heap, uint64_t end);

/* ---- owners.c: slices of blocks, and who allocates from them; none of it under the lock ---- */

/** Free bits for the class into its bin, which has none. EVH_FULL and the like. */
EVH_INTERNAL evh_status owners_refill(struct cache *cache, uint32_t class_index);

/** Free block `index` of a slice, whoever owns it. `cache`: the calling thread's, or NULL if it has
 *  none. EVH_DOUBLE_FREE: nothing changed. */
EVH_INTERNAL evh_status owners_free(evh_heap *heap, struct cache *cache, struct slice *slice,
                                    uint32_t index);

/** The countdown of a slice that `cache` owns is at 0, or remote frees are pending: fold them,
 *  and put the slice where it belongs. */
EVH_INTERNAL void owners_settle(struct cache *cache, struct slice *slice);

/** As owners_settle(), of a slice that nobody owns. Under the lock. */
EVH_INTERNAL void owners_settle_nobodys(evh_heap *heap, struct slice *slice);

/** Give everything back that is empty, and take from parked caches what they own: before the heap
 *  grows. Whether anything was found. */
EVH_INTERNAL bool owners_reclaim(struct cache *cache);

/** Give the cache's empty slices back to the heap. Whether there were any. */
EVH_INTERNAL bool owners_release_empty(struct cache *cache);

/** Give the slices back that were loaded empty. Whether there were any. */
EVH_INTERNAL bool owners_release_loaded(evh_heap *heap);

/** How many hot blocks all bins of a cache keep. */
EVH_INTERNAL uint32_t owners_hot_total(void);

/** Begin with empty bins. */
EVH_INTERNAL void owners_begin(struct cache *cache);

/** Forget all slices: the tables are about to be dropped. */
EVH_INTERNAL void owners_forget(struct cache *cache);

/** EVH_LIMIT if more is uncommitted than options.dirty_max_bytes. */
EVH_INTERNAL evh_status owners_check_dirty(evh_heap *heap);

/* ---- magazine.c: of heaps that have them (heap->has_magazines), by the cache's thread ---- */

/* Behind its last element is the top of a bin without a magazine: it is empty, and it is full. */
EVH_INTERNAL_DATA void *magazine_none[MAGAZINE_SLOTS] __attribute__((aligned(1024)));

/** The memory behind a cache that its magazines need. */
EVH_INTERNAL size_t magazine_bytes(void);

/** All magazines are empty; the blocks that were in them are forgotten, live for ever. */
EVH_INTERNAL void magazine_begin(struct cache *cache);

/** Free what magazine_begin() did not bring along. */
EVH_INTERNAL void magazine_end(struct cache *cache);

/** In a forked child, of its only thread: as magazine_give_all(), but only the bitmaps are right
 *  afterwards. */
EVH_INTERNAL void magazine_forked(struct cache *cache);

/** How many blocks are in the magazine, by any thread; of another's, about. */
EVH_INTERNAL uint64_t magazine_count(const struct cache *cache, uint32_t class_index);

/** Push a block that is the cache's, whether or not there is room. */
EVH_INTERNAL void magazine_push(struct cache *cache, uint32_t class_index, void *block);

/** Refill an empty magazine from its packets. False: there are none. */
EVH_INTERNAL bool magazine_unpack(struct cache *cache, uint32_t class_index);

/** Refill an empty magazine from what is at hand. False: owners_refill() has to find a slice. */
EVH_INTERNAL bool magazine_refill(struct cache *cache, uint32_t class_index);

/** Refill an empty magazine from the slice, which becomes current. False: it has nothing behind
 *  its cursor. */
EVH_INTERNAL bool magazine_fill(struct cache *cache, struct bin *bin, struct slice *slice);

/** Give all blocks back to their slices. Not under the lock. */
EVH_INTERNAL void magazine_give_all(struct cache *cache);

/* ---- remote.c: frees by threads that do not own the slice ---- */

/** Free a block through the slice's mirror, and tell its owner. The caller has seen it live.
 *  EVH_DOUBLE_FREE: another thread was faster. */
EVH_INTERNAL evh_status remote_free(evh_heap *heap, struct slice *slice, uint32_t index);

/** Put the mirror's bits into the slice's: by its owner, or under the lock if it has none. Returns
 *  how many blocks became free; what is used is the caller's to count. */
EVH_INTERNAL uint32_t remote_fold(evh_heap *heap, struct slice *slice);

/** Fold the remote frees that were announced to a cache. Not under the lock. */
EVH_INTERNAL void remote_drain(struct cache *cache);

/** The bits of bitmap word `word` that are live: neither free nor pending in the mirror. */
EVH_INTERNAL uint64_t remote_live_bits(const evh_heap *heap, const struct slice *slice,
                                       uint32_t word);

/* ---- large.c: runs of slices that are one block ---- */

EVH_INTERNAL void *large_allocate(evh_heap *heap, size_t size, size_t alignment, bool is_typed);
EVH_INTERNAL evh_status large_free(evh_heap *heap, uint64_t slice);
/** Resize in place. False: impossible there. */
EVH_INTERNAL bool large_resize(evh_heap *heap, uint64_t slice, size_t size);

/* ---- threads.c ---- */

/** The calling thread's cache in the heap, made or found, and now its present one. NULL: no
 * memory. */
EVH_INTERNAL struct cache *threads_attach(evh_heap *heap);

/** The heap's cache for typed blocks, made or found. Under typed_lock. NULL: no memory. */
EVH_INTERNAL struct cache *threads_typed_cache(evh_heap *heap);

/** The calling thread's cache in the heap, now its present one; NULL if it has none. */
EVH_INTERNAL struct cache *threads_present(evh_heap *heap);

/** Detach all caches of a heap that is being closed. */
EVH_INTERNAL void threads_detach_heap(evh_heap *heap);

/** In a forked child: the caches of all threads but the caller's are nobody's. */
EVH_INTERNAL void threads_forked(evh_heap *heap);

/** Whether no other thread has a cache in the heap. In a forked child: had one. */
EVH_INTERNAL bool threads_is_alone(const evh_heap *heap);

/** In a forked child, of a live heap: no cache has anything any more. */
EVH_INTERNAL void threads_forked_live(evh_heap *heap);

/** Empty every cache and give it the stamp, after heap->stamp changed. */
EVH_INTERNAL void threads_restamp(evh_heap *heap);

/* ---- descriptors ---- */

static inline uint32_t descriptor_kind(uint64_t descriptor)
{
    return (uint32_t)(descriptor & 15);
}

static inline uint32_t descriptor_attributes(uint64_t descriptor)
{
    return (uint32_t)(descriptor >> HEAP_ATTRIBUTE_SHIFT) & 15;
}

static inline uint32_t descriptor_class(uint64_t descriptor)
{
    return (uint32_t)(descriptor >> HEAP_CLASS_SHIFT) & 127;
}

static inline uint32_t descriptor_slot(uint64_t descriptor)
{
    return (uint32_t)(descriptor >> HEAP_SLOT_SHIFT) & 0x7fffff;
}

/* LARGE: slices of the run. TAIL: distance to its head. */
static inline uint32_t descriptor_count(uint64_t descriptor)
{
    return (uint32_t)(descriptor >> HEAP_COUNT_SHIFT);
}

static inline uint64_t descriptor_of_blocks(uint32_t class_index, uint32_t slot)
{
    assert(class_index < HEAP_CLASS_COUNT);
    assert(slot <= 0x7fffff);
    const uint64_t kind = size_class_is_medium(class_index) ? HEAP_MEDIUM : HEAP_SMALL;
    return kind | (uint64_t)class_index << HEAP_CLASS_SHIFT | (uint64_t)slot << HEAP_SLOT_SHIFT;
}

static inline bool descriptor_is_typed(uint64_t descriptor)
{
    return descriptor_attributes(descriptor) == HEAP_TYPED;
}

/* As descriptor_of_blocks() and descriptor_of_run() make it, of typed blocks. */
static inline uint64_t descriptor_typed(uint64_t descriptor, bool is_typed)
{
    assert(descriptor_attributes(descriptor) == 0);
    return descriptor | (is_typed ? (uint64_t)HEAP_TYPED << HEAP_ATTRIBUTE_SHIFT : 0);
}

static inline uint64_t descriptor_of_run(enum heap_kind kind, uint32_t count)
{
    assert(count > 0 || kind == HEAP_LARGE);
    assert(kind == HEAP_LARGE || kind == HEAP_TAIL);
    return (uint64_t)kind | (uint64_t)count << HEAP_COUNT_SHIFT;
}

/* A hot block's place, of bit `index` of the bitmap; and where its word is. */
static inline uint64_t hot_place(const uint64_t *bits, uint64_t index)
{
    assert((uintptr_t)bits % 8 == 0);
    assert((uintptr_t)bits >> 61 == 0);
    return (uint64_t)(uintptr_t)bits * 8 + index;
}

static inline uint64_t *hot_word(uint64_t place)
{
    assert(place / 64 != 0);
    return (uint64_t *)(uintptr_t)(place / 64 * 8);
}

/* Who owns the slice; NULL: nobody. */
static inline struct cache *slice_owner(const struct slice *slice)
{
    assert(slice != NULL);
    const uint64_t owner = base_load(&slice->owner, __ATOMIC_ACQUIRE);
    return (struct cache *)(uintptr_t)(owner & ~(uint64_t)SLICE_PENDING);
}

/* Live and claimed blocks. */
static inline uint32_t slice_used(const struct slice *slice)
{
    assert(slice->floor + slice->countdown <= slice->block_count);
    return slice->floor + slice->countdown;
}

/* What a slice of the class looks like; its bitmap and counts are the caller's. */
static inline void slice_set_class(struct slice *slice, uint32_t class_index)
{
    assert(slice != NULL);
    const struct size_class *class = &size_classes[class_index];
    assert(class_index < HEAP_CLASS_COUNT);
    slice->reciprocal = class->reciprocal;
    slice->block_bytes = class->block_bytes;
    slice->block_count = class->block_count;
    slice->word_count = class->word_count;
    slice->class_index = (uint8_t)class_index;
    slice->bin_offset = (uint16_t)(class_index * sizeof(struct bin));
    assert(slice->block_count <= slice->word_count * 64u);
    assert(slice->word_count <= SLICE_MIRROR_WORDS);
}

static inline void slice_set_used(struct slice *slice, uint32_t used)
{
    assert(slice->block_count > 0);
    assert(used <= slice->block_count);
    slice->floor = 0;
    slice->countdown = used;
}

/* The bits of bitmap word `word` that stand for blocks. */
static inline uint64_t slice_valid_bits(const struct slice *slice, uint32_t word)
{
    assert(slice->block_count > word * 64u);
    const uint32_t rest = slice->block_count - word * 64u;
    assert(word < slice->word_count);
    return rest >= 64 ? UINT64_MAX : (1ull << rest) - 1;
}

static inline uint32_t slot_unit(uint32_t slot)
{
    assert(slot <= 0x7fffff);
    return slot & 0x1fff;
}

static inline uint32_t slot_relative(uint32_t slot)
{
    assert(slot <= 0x7fffff);
    return slot >> 13;
}

#endif
