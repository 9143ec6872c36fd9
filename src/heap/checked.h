/* checked.h -- what a heap that is debugged knows, for the files that check it. */
#ifndef EVERHEAP_HEAP_CHECKED_H
#define EVERHEAP_HEAP_CHECKED_H

#include "heap/heap.h"

struct heap_debug {
    struct debug_settings settings;
    struct heap_lock lock; /* of all that follows */
    struct debug_table table;
    uint64_t *quarantine; /* a ring of offsets */
    uint32_t first, count;
    uint64_t epoch; /* commits so far */
    uint64_t operations;
    uint64_t allocations, frees;
    struct heap_hook hook;
    bool is_annotated;       /* ASan or Valgrind are told which bytes are closed */
    bool is_bare;            /* nothing is closed or guarded for now: the image is read as it is */
    uint32_t fault;          /* letter G: the slot in the table of faults */
    struct debug_ring *ring; /* letter O in a live heap: in the image */
};

/** Whether the heap has that letter. */
static inline bool checked_has(const evh_heap *heap, unsigned letter)
{
    assert(heap->debug != NULL);
    assert(letter != 0);
    return (heap->debug->settings.letters & letter) != 0;
}

/* ---- heap_annotate.c: nothing unless it is annotated ---- */

/** Whether blocks of such a heap can be told to ASan and Valgrind, and one of them listens. */
EVH_INTERNAL bool annotate_is_wanted(const evh_heap *heap);
/** All of a block, its rest included, may be read and written by the checks. */
EVH_INTERNAL void annotate_checking(const evh_heap *heap, const void *block, uint64_t usable);
/** A block was handed out: new, contents undefined; or looked at. Its rest is closed. */
EVH_INTERNAL void annotate_made(const evh_heap *heap, const void *block, uint64_t size,
                                uint64_t usable);
EVH_INTERNAL void annotate_checked(const evh_heap *heap, const void *block, uint64_t size,
                                   uint64_t usable);
/** A block was freed: nobody may touch it. */
EVH_INTERNAL void annotate_freed(const evh_heap *heap, const void *block, uint64_t usable);
/** Free slices are used again, for whatever it be. */
EVH_INTERNAL void annotate_taken(const evh_heap *heap, uint64_t first, uint64_t count);
/** The image will be read and written as it is; and no longer. With the lock. `is_still`: nobody
 *  allocates or frees, so that what is free can be told. */
EVH_INTERNAL void annotate_open_all(evh_heap *heap);
EVH_INTERNAL void annotate_close_all(evh_heap *heap, bool is_still);

/* ---- heap_guard.c: letter G ---- */

/** Whether such a heap can have guards. */
EVH_INTERNAL bool guards_are_possible(const evh_heap *heap);
/** EVH_MODE, and says why. */
EVH_INTERNAL evh_status guards_refuse(const evh_heap *heap);
/** Sets the handler of faults. */
EVH_INTERNAL evh_status guards_begin(evh_heap *heap);
EVH_INTERNAL void guards_end(evh_heap *heap);
/** The bytes that a block of `size` takes with its guard; 0: too many. */
EVH_INTERNAL uint64_t guards_bytes(uint64_t size);
/** Where the guard of a block of `size` bytes begins, from its start. */
EVH_INTERNAL uint64_t guards_offset(uint64_t size);
/** Set the guard of a block, or close all of one that is in quarantine; drop whatever was set. */
EVH_INTERNAL evh_status guards_set(evh_heap *heap, void *block, uint64_t size, bool is_free);
EVH_INTERNAL void guards_drop(void *block, uint64_t size);
/** All of them. With the lock. */
EVH_INTERNAL void guards_drop_all(evh_heap *heap);
EVH_INTERNAL void guards_set_all(evh_heap *heap);

/* ---- heap_log.c: where heap->debug is set in a live heap ---- */

EVH_INTERNAL void *heap_log_allocate(evh_heap *heap, size_t size, size_t alignment);
EVH_INTERNAL evh_status heap_log_free(evh_heap *heap, void *block);

#endif
