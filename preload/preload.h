/* preload.h -- what the files of libeverheap-malloc.so offer each other. */
#ifndef EVERHEAP_PRELOAD_PRELOAD_H
#define EVERHEAP_PRELOAD_PRELOAD_H

#include "heap/fast.h"

/* ---- start.c: the process's heap ---- */

/* The process's heap; preload_nobody, which has no blocks, until the first allocation is under way.
 * Atomic; set once, but for a forked child that cannot go on with its parent's file. */
EVH_INTERNAL_DATA evh_heap *preload_heap;
EVH_INTERNAL_DATA evh_heap preload_nobody;

/* The heap that a forked child inherited and may only read: blocks of it can be looked at and are
 * never freed. Else NULL. */
EVH_INTERNAL_DATA evh_heap *preload_inherited;

/** The process's heap, with the calling thread attached to it. NULL: the caller is inside its own
 *  opening or attaching (the C library allocates there), and gets own_allocate(). */
evh_heap *preload_enter(void);

/* ---- own.c: memory that lies in no heap ---- */

/**
 * Memory for the library's own structures, and for what the C library asks for while the heap is
 * opened or a thread attached. Zeroed, aligned to 16 bytes; NULL if there is none.
 * Threads   any; a forked child may go on.
 */
void *own_allocate(size_t size);
void *own_resize(void *block, size_t size);
void own_free(void *block);
/** Whether it is such a block; how large. */
bool own_has(const void *block);
size_t own_size(const void *block);
/** Before and after a fork: no other thread is in the middle of it. */
void own_lock(void);
void own_unlock(void);

#endif
