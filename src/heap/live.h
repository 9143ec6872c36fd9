/* live.h -- a live heap in this process: what its files offer each other and the rest of the layer.
 *
 * docs/live.md has the design: which words there are, who may change them, what a kill between two
 * steps leaves. Everything here is lock-free: no function waits for another thread or process,
 * except for opening, and for a thread's end beside closing.
 */
#ifndef EVERHEAP_HEAP_LIVE_H
#define EVERHEAP_HEAP_LIVE_H

#include "heap/live_layout.h"
#include "heap/slices.h"

struct live {
    evh_heap *heap;
    /* In the image. */
    struct live_area *area;
    struct live_intent *intents;
    /* In the ephemeral file. */
    struct live_session *session;
    struct live_process *processes;
    struct live_thread *threads;
    struct live_slices *segments;
    /* This process's own. */
    void *mapped; /* the ephemeral file */
    uint64_t mapped_bytes;
    int file;
    char *path;       /* of the ephemeral file; owned */
    uint64_t **metas; /* descriptors by segment; NULL: not looked up yet. Atomic */
    uint64_t metas_bytes;
    uint64_t number; /* of the session */
    uint64_t slice_max;
    uint64_t free_from; /* a hint: no slice below is free. Atomic */
    uint32_t process;   /* slot */
    uint32_t cursor;    /* where the last look for slices without an owner ended. Atomic */
    uint32_t reaping;   /* a thread of this process is reaping. Atomic */
    uint32_t has_swept; /* some thread has looked at all slices. Atomic */
    uint32_t is_child;  /* forked, and not attached again yet. Atomic */
    uint32_t joining;   /* a thread of a forked child is attaching it. Atomic */
};

/* Where a block is, as the image tells. */
struct live_place {
    uint64_t head;       /* slice; of a run its first */
    uint64_t descriptor; /* of the head */
    uint32_t index;      /* of the block in it */
    uint64_t size;       /* of the block */
    uint64_t *bits;      /* NULL: a large run */
};

/* ---- live_open.c ---- */

/** Make the file of a new live heap. EVH_EXISTS: another was faster. */
EVH_INTERNAL evh_status live_create(const char *path, const evh_options *options);
/** The region is open: map it, join or begin a session. Sets heap->live. */
EVH_INTERNAL evh_status live_attach(evh_heap *heap);
/** Give up everything that this process has in the session. NULL is fine. */
EVH_INTERNAL void live_detach(struct live *live);
/** In a forked child, before fork() returns there. */
EVH_INTERNAL void live_forked(evh_heap *heap);
/** At a forked child's first operation: attach it. At once if it is none. */
EVH_INTERNAL evh_status live_join(struct live *live);

/* ---- live_copy.c: private and read-only opening of a live heap's file ---- */

/** Map a copy of it: metadata copied, payload as it is. Sets heap->state. */
EVH_INTERNAL evh_status live_copy_open(evh_heap *heap);
/** How many processes are attached to the file. */
EVH_INTERNAL uint64_t live_copy_processes(evh_heap *heap);
/** Copy the frees that are in the image's mirrors to the segment's, in memory. */
EVH_INTERNAL void live_copy_mirrors(evh_heap *heap, uint64_t slice, struct slice *described);
/** A private copy becomes what a durable heap is, so that it can be saved. It grows where there is
 *  no free slice for the checksums. */
EVH_INTERNAL evh_status live_copy_convert(evh_heap *heap);
/** As evh_save(), of an attached heap or a read-only copy: of a private copy of it. */
EVH_INTERNAL evh_status live_save(evh_heap *heap, const char *path);

/* ---- live_slots.c: processes, threads, death ---- */

/** Whether nobody has that tag any more. 0 counts. It was loaded with acquire order: else a new
 *  thread's tag may be seen before its slot's generation, and be taken for stale. */
EVH_INTERNAL bool live_is_stale(const struct live *live, uint64_t tag);
/** Lock a process slot, reaping who had it. EVH_LIMIT: all are taken. */
EVH_INTERNAL evh_status live_take_process(struct live *live);
/** Reap processes that died. Whether one was. */
EVH_INTERNAL bool live_reap(struct live *live);
/** A cache for the calling thread, with a thread slot. NULL, and the error says why. */
EVH_INTERNAL struct cache *live_take_cache(evh_heap *heap);
/** The thread ends: the next one may have its cache. */
EVH_INTERNAL void live_park(struct cache *cache);
/** The cache has a thread slot, or gets one: also after fork(). EVH_LIMIT. */
EVH_INTERNAL evh_status live_need_slot(struct cache *cache);
/** Everything that parked caches own, of any process, is nobody's. Whether there was one. */
EVH_INTERNAL bool live_dissolve_parked(struct live *live);
/** Give up this process's slot, and all that its threads have. */
EVH_INTERNAL void live_drop_process(struct live *live);

/* ---- live_intents.c: what threads are in the middle of ---- */

/** An intent of the calling thread, void until its block is stored. */
EVH_INTERNAL void live_intent_begin(struct live_intent *intent, enum live_intent_kind kind,
                                    uint64_t slot, uint64_t second);
/** Its kind, without the count. */
EVH_INTERNAL enum live_intent_kind live_intent_kind(uint64_t kind);
/** It is void. */
EVH_INTERNAL void live_intent_end(struct live_intent *intent);
/** The root's word at `slot` has what the intent wanted to be there (for one being made: `record`),
 *  and may now become something else: that no longer decides. By anyone; without effect on any
 *  other intent. */
EVH_INTERNAL void live_intent_decide(struct live_intent *intent, uint64_t slot, uint64_t record);
/** The thread frees what its intent names, or has done so: nobody gets its place meanwhile. */
EVH_INTERNAL void live_set_freeing(struct live *live, uint32_t thread_slot, bool value);
/** The bits of word `word` of the slice's bitmap that somebody has not done with freeing. */
EVH_INTERNAL uint64_t live_held_bits(struct live *live, const struct slice *slice, uint32_t word);
/** A slice of the run in which such a block begins; 0: none. */
EVH_INTERNAL uint64_t live_held_slice(const struct live *live, uint64_t first, uint64_t count);
/** The thread in that slot is dead: do what its intent says. By one at a time; may be repeated. */
EVH_INTERNAL void live_resolve(struct live *live, uint32_t slot);
/** All intents of the image: nobody is attached. */
EVH_INTERNAL void live_resolve_all(struct live *live);
/** Whether any thread is in the middle of freeing what its intent names. */
EVH_INTERNAL bool live_is_anybody_freeing(const struct live *live);

/* ---- live_slices.c: descriptors, places, claims ---- */

/** The slice's descriptor in the image; NULL and EVH_CORRUPT if its segment is damaged. It is below
 *  the end, or in a prepared segment. */
EVH_INTERNAL uint64_t *live_descriptor(struct live *live, uint64_t slice);
/** Its bitmap's place; NULL if it has none yet. */
EVH_INTERNAL unsigned char *live_place_of(struct live *live, uint64_t slice);
/** The descriptor that a slice of blocks has. */
EVH_INTERNAL uint64_t live_blocks_descriptor(struct live *live, uint64_t slice,
                                             uint32_t class_index);
/** Try to have the slice to oneself. False: another has, who is alive. */
EVH_INTERNAL bool live_claim(struct live *live, const struct cache *cache, uint64_t slice);
/** No longer. */
EVH_INTERNAL void live_let_go(struct live *live, uint64_t slice);
/** Whether a slice is free, or an orphan. Means something only for one that is claimed. */
EVH_INTERNAL bool live_is_takable(struct live *live, uint64_t slice);
/** Claim a run of takable slices; false: none is. `*stopped_at` is the one that was not. */
EVH_INTERNAL bool live_claim_run(struct live *live, const struct cache *cache, uint64_t first,
                                 uint64_t count, uint64_t *stopped_at);
/** Let go of a run of claimed slices that stay free. */
EVH_INTERNAL void live_release_run(struct live *live, uint64_t first, uint64_t count);
/** Slices [from, to) of the run at `first` are no longer in it: whoever is still an orphan is
 *  free. */
EVH_INTERNAL void live_free_tails(struct live *live, const struct cache *cache, uint64_t first,
                                  uint64_t from, uint64_t to);
/** The end of the heap, in slices. */
EVH_INTERNAL uint64_t live_end(const struct live *live);
/** Whether others have let it grow beyond the addresses that this process has reserved: it sees
 *  only a part, and must not judge what it cannot see. */
EVH_INTERNAL bool live_is_beyond(const struct live *live);
/** EVH_NO_MEMORY, and says so. */
EVH_INTERNAL evh_status live_refuse_beyond(const struct live *live);
/** Whether a large block lies in the heap: EVH_CORRUPT; or is not all in sight: EVH_NO_MEMORY. */
EVH_INTERNAL evh_status live_check_run(const struct live *live, uint64_t head, uint64_t count);
/** What is known of `slice` besides: hints. */
EVH_INTERNAL void live_hint_taken(struct live *live, uint64_t slice, bool taken);
EVH_INTERNAL void live_hint_free_from(struct live *live, uint64_t slice);
/** The slice's mirror may have bits, or is about to be folded. */
EVH_INTERNAL void live_set_pending(struct live *live, uint64_t slice);
EVH_INTERNAL void live_clear_pending(struct live *live, uint64_t slice);
/** Give the holes of a claimed run their space again. EVH_FULL. */
EVH_INTERNAL evh_status live_fill_holes(struct live *live, uint64_t first, uint64_t count);
/** A place for the bitmap of a claimed slice. If there is none, the slice itself becomes the
 *  group's (`*is_used`): it is claimed still, and to be let go of. */
EVH_INTERNAL evh_status live_need_place(struct live *live, uint64_t slice, bool *is_used);

/* ---- live_find.c: space for the owners ---- */

/** A slice of the class for the cache, in no list. */
EVH_INTERNAL evh_status live_find_slice(struct cache *cache, uint32_t class_index,
                                        struct slice **slice);
/** `count` claimed slices in a row; 0: none, and the error says why. Their descriptors are FREE or
 *  orphaned. */
EVH_INTERNAL uint64_t live_find_run(struct cache *cache, uint64_t count, uint64_t alignment);
/** Give an empty slice, in no list, back to the heap. */
EVH_INTERNAL void live_give(struct cache *cache, struct slice *slice);
/** Put the mirror into the bitmap of a slice of one's own. How many blocks became free. */
EVH_INTERNAL uint32_t live_fold(evh_heap *heap, struct slice *slice);
/** Fold what was announced to the cache. */
EVH_INTERNAL void live_drain(struct cache *cache);
/** Look at everything: reap, dissolve, mend, give back. Whether anything came of it. `*slice`, if
 *  not NULL, may receive one of the class. */
EVH_INTERNAL bool live_sweep(struct cache *cache, uint32_t class_index, struct slice **slice);

/* ---- live_grow.c ---- */

/** The heap gets `count` more slices in a row, claimed, the first a multiple of `alignment`: in
 *  `*first`. `end`: where the heap ended when they were looked for in vain; if it has grown since,
 *  `*first` is 0, and it is time to look again. EVH_FULL and so on. */
EVH_INTERNAL evh_status live_grow(struct cache *cache, uint64_t count, uint64_t alignment,
                                  uint64_t end, uint64_t *first);
/** Let the ephemeral file reach over `slice_count` slices. */
EVH_INTERNAL evh_status live_extend_file(struct live *live, uint64_t slice_count);

/* ---- live_free.c ---- */

/** The live block that begins at `offset`, any number: as slices_find(). */
EVH_INTERNAL evh_status live_find_block(struct live *live, uint64_t offset,
                                        struct live_place *place);
/** As evh_free(), of a pointer that is not NULL. EVH_DOUBLE_FREE, EVH_BAD_POINTER: not reported. */
EVH_INTERNAL evh_status live_free(evh_heap *heap, uint64_t offset);
/** Free whatever live block is at `offset`, by its mirror: for reapers. */
EVH_INTERNAL void live_free_quietly(struct live *live, uint64_t offset);
/** Free the block at `offset`, which the calling thread's intent says is to be freed, and perhaps
 *  `second`, which may be 0; then the intent is void. */
EVH_INTERNAL evh_status live_free_intended(struct cache *cache, uint64_t offset, uint64_t second);
/** evh_malloc_to(), evh_free_from(). */
EVH_INTERNAL evh_status live_malloc_to(evh_heap *heap, evh_ref *slot, size_t size);
/** `next` takes the place of the ref: that of a list's next block, whose ref is in the block. */
EVH_INTERNAL evh_status live_free_from(evh_heap *heap, evh_ref *slot, uint64_t next);

struct live_request {
    size_t size;
    size_t alignment;                         /* to HEAP_MEDIUM_MAX */
    void (*fill)(void *block, void *context); /* before anybody sees it; NULL: contents undefined */
    void *context;
};
/** As evh_malloc_to(). */
EVH_INTERNAL evh_status live_malloc_into(evh_heap *heap, evh_ref *slot,
                                         const struct live_request *request);
/** The number of the calling thread, below LIVE_THREADS_MAX: nobody has the same at the same time,
 *  in any process, until it ends, and what it was in the middle of is mended before another has. */
EVH_INTERNAL evh_status live_thread_slot(evh_heap *heap, uint32_t *thread_slot);

/* ---- live_large.c ---- */

/** A large block. `*note`, if `note` is not NULL, has its offset before it is live; then its head
 *  stays claimed, for the caller to let go of when the note is void. */
EVH_INTERNAL void *live_large_allocate(evh_heap *heap, size_t size, size_t alignment,
                                       uint64_t *note);
EVH_INTERNAL evh_status live_large_free(struct live *live, const struct cache *cache,
                                        uint64_t head);
EVH_INTERNAL bool live_large_resize(evh_heap *heap, uint64_t head, size_t size);
EVH_INTERNAL evh_status live_trim(evh_heap *heap, uint64_t *freed_bytes);

/* ---- live_roots.c: both attached heaps and copies ---- */

struct root_key;
/** The thread in that slot died making or removing a root. */
EVH_INTERNAL void live_root_resolve(struct live *live, uint32_t slot);
EVH_INTERNAL evh_status live_root_open(evh_heap *heap, const struct root_key *key, size_t size,
                                       bool make, void **block, size_t *found_size);
EVH_INTERNAL evh_status live_root_remove(evh_heap *heap, const struct root_key *key);
EVH_INTERNAL evh_status live_root_next(evh_heap *heap, evh_root_info *root, bool *is_found);
EVH_INTERNAL evh_status live_roots_count(evh_heap *heap, uint64_t *count);
EVH_INTERNAL evh_status live_roots_check(evh_heap *heap, evh_report *report, void *context);
EVH_INTERNAL void live_roots_each_internal(evh_heap *heap,
                                           void (*visit)(uint64_t offset, void *context),
                                           void *context);

/* ---- live_inspect.c ---- */

EVH_INTERNAL evh_status live_walk(evh_heap *heap, evh_visit *visit, void *context);
EVH_INTERNAL evh_status live_info(evh_heap *heap, evh_info *info);

/* ---- small things ---- */

static inline struct live_slices *live_segment(const struct live *live, uint64_t slice)
{
    assert(slice < live->slice_max);
    return &live->segments[slice / SEGMENT_SLICES];
}

static inline uint64_t *live_owner(const struct live *live, uint64_t slice)
{
    return &live_segment(live, slice)->owners[slice % SEGMENT_SLICES];
}

static inline uint64_t live_tag(uint64_t generation, uint32_t thread_slot)
{
    assert(generation > 0);
    assert(thread_slot < LIVE_THREADS_MAX);
    return generation << 32 | (uint64_t)thread_slot << 8 | 1;
}

static inline uint32_t live_tag_slot(uint64_t tag)
{
    return (uint32_t)(tag >> 8) & 0xffff;
}

static inline uint64_t *live_mirror(uint64_t *bits)
{
    assert((uintptr_t)bits % 8 == 0);
    return bits + LIVE_MIRROR_OFFSET / 8;
}

#endif
