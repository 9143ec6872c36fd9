/* arena.h -- what the files of this layer offer each other. */
#ifndef EVERHEAP_ARENA_ARENA_INTERNAL_H
#define EVERHEAP_ARENA_ARENA_INTERNAL_H

#include "arena/arena_layout.h"
#include "debug/debug.h"
#include "heap/heap.h"

#include <everheap/arena.h>

enum {
    ARENA_CHUNK_FIRST_BYTES = 64 * 1024,
    ARENA_CHUNK_MAX_BYTES = 4 * 1024 * 1024,
    ARENA_CHUNK_MIN_BYTES = 256,
    ARENA_KEEP_BYTES = 16 * 1024 * 1024,
    ARENA_EDGE_BYTES = 64, /* header and footer of a chunk with guards or canaries */
    /* A closed view: above every size that evh_arena_alloc() takes for small, so that no
     * subtraction wraps; start is UINTPTR_MAX, which nothing reaches. */
    ARENA_CLOSED_CURSOR = 8192,
    ARENA_CHUNK_COUNT_MAX = 1 << 30,
};

/* A lock that fork() takes: fork.c. Zero: none. */
struct fork_node {
    struct heap_lock *lock;
    struct fork_node *next;
    struct fork_node **link; /* what points to this */
    bool is_registry;
};

/* A chunk, oldest last. The memory is a mapping, the caller's buffer, or a block of a heap. */
struct arena_chunk {
    struct arena_chunk *previous;
    uintptr_t start, end; /* what the arena hands out */
    uintptr_t low;        /* the deepest the cursor has been since the pages were given back */
    void *mapping;        /* of the system; NULL: not ours to unmap */
    uint64_t mapping_bytes;
    uint64_t offset; /* of its block in the heap; 0: not on a heap */
    uint64_t number; /* on a heap: from 1 */
    uint32_t fault;  /* the guards' slot in the table of faults; 0: none */
};

/* In debug mode: the blocks since the last reset, in the order in which they were made. */
struct arena_debug {
    struct debug_settings settings;
    struct debug_block *blocks;
    size_t count, limit;
    struct arena_debug_mark {
        uint64_t serial;
        size_t count; /* blocks at the mark */
    } * marks;
    size_t mark_count, mark_limit;
    uint64_t serial;
    uint64_t operations;
};

static_assert((int)FAULT_NAME_SIZE == (int)EVH_OBJECT_NAME_MAX + 1, "names are copied whole");

struct evh_arena {
    struct evh_arena_view view;   /* first: evh_arena_alloc() reads it */
    struct evh_arena_view hidden; /* the truth while the view is closed */
    struct evh_arena_view *bump;  /* the one that is the truth */
    struct arena_chunk *chunk;    /* the newest; NULL: none yet */
    struct arena_chunk *spare;    /* one that a release gave back, kept for the next */
    uint64_t older_bytes;         /* of all chunks but the newest */
    uint64_t chunk_count;
    uint64_t next_bytes;
    uint64_t peak_bytes;
    uint64_t resets;
    struct evh_arena_options options;
    char name[EVH_OBJECT_NAME_MAX + 1];
    bool is_fixed;
    bool is_stale; /* its heap is closed, or its creation was rolled back */
    /* On a heap. */
    evh_heap *heap;
    uint64_t record; /* offset of its record */
    struct heap_hook hook;
    evh_heap *hooked;  /* the heap that the hook is linked to; NULL: none */
    bool is_committed; /* a commit has begun since it was made */
    bool is_live;      /* the heap is: arena_live.c */
    /* Shared. */
    struct heap_lock lock;
    struct fork_node fork;
    uint64_t stamp; /* of what threads' pieces belong to; never used twice */
    uint32_t id;
    struct arena_debug *debug;
};

/* ---- arena.c ---- */

/** A handle with copied, checked options and no chunk; owned. */
EVH_INTERNAL evh_arena *arena_new(const evh_arena_options *options);
/** Free handle and chunks of the system. */
EVH_INTERNAL void arena_free(evh_arena *arena);
/** Allocate by the cursor, from a new chunk if need be. `alignment` is a power of two. */
EVH_INTERNAL void *arena_bump(evh_arena *arena, size_t size, size_t alignment);
/** The cursor goes on in `chunk` at `current`. */
EVH_INTERNAL void arena_set_cursor(evh_arena *arena, struct arena_chunk *chunk, uintptr_t current);
/** Give a chunk's memory back, and the node. NULL is fine. */
EVH_INTERNAL void arena_end_chunk(evh_arena *arena, struct arena_chunk *chunk);
/** Note the peak. */
EVH_INTERNAL uint64_t arena_used(evh_arena *arena);
/** EVH_OK if the handle can be used. */
EVH_INTERNAL evh_status arena_usable(const evh_arena *arena);
EVH_INTERNAL uint64_t arena_new_stamp(void);
/** Names: cut to what fits; `fallback` for NULL. */
EVH_INTERNAL void object_set_name(char name[EVH_OBJECT_NAME_MAX + 1], const char *given,
                                  const char *fallback);

/* ---- fork.c ---- */

/** From now on fork() takes the lock; without effect if it does so already. No other lock of this
 *  layer is held. */
EVH_INTERNAL void fork_add(struct fork_node *node, struct heap_lock *lock);
/** No longer. A node that was never added is fine. */
EVH_INTERNAL void fork_remove(struct fork_node *node);

/* ---- arena_shared.c ---- */
EVH_INTERNAL void *arena_shared_alloc(evh_arena *arena, size_t size, size_t alignment);

/* ---- arena_heap.c ---- */
EVH_INTERNAL evh_status arena_heap_create(evh_arena *arena);
/** A block of the heap as a chunk of `bytes`. */
EVH_INTERNAL evh_status arena_heap_add(evh_arena *arena, struct arena_chunk *chunk, uint64_t bytes);
EVH_INTERNAL void arena_heap_close(evh_arena *arena);
/** After a reset: the chunk that is left is the first. */
EVH_INTERNAL void arena_heap_renumber(evh_arena *arena);
EVH_INTERNAL struct arena_record *arena_record_of(const evh_arena *arena);
EVH_INTERNAL struct arena_chunk_record *arena_chunk_record_of(const evh_arena *arena,
                                                              uint64_t offset);

/* ---- arena_live.c: all of them only where arena->is_live is set ---- */
/** Whether the image is as this handle has left it; EVH_STALE, and says that it is not. */
EVH_INTERNAL bool arena_live_is_ours(const evh_arena *arena);
EVH_INTERNAL evh_status arena_live_refuse(const evh_arena *arena);
/** Store in the image that the cursor is there; nothing is set apart. */
EVH_INTERNAL void arena_live_set(evh_arena *arena, struct arena_chunk *chunk, uintptr_t current);
/** Set memory of the newest chunk apart for a block, and some more. False: it does not fit. */
EVH_INTERNAL bool arena_live_reserve(evh_arena *arena, size_t size, size_t alignment);
/** As arena_heap_add(); the record names the chunk. */
EVH_INTERNAL evh_status arena_live_add(evh_arena *arena, struct arena_chunk *chunk, uint64_t size);
/** Free the chunk before `newer`, or the newest if that is NULL; what names it then names the one
 *  before. */
EVH_INTERNAL void arena_live_drop(evh_arena *arena, struct arena_chunk *newer);
/** Bring what only a clean end stores up to date. */
EVH_INTERNAL void arena_live_store(evh_arena *arena);

/* ---- arena_debug.c: all of them only where arena->debug is set ---- */
EVH_INTERNAL evh_status arena_debug_create(evh_arena *arena, const struct debug_settings *settings);
EVH_INTERNAL void arena_debug_end(evh_arena *arena);
EVH_INTERNAL void *arena_debug_alloc(evh_arena *arena, size_t size, size_t alignment);
EVH_INTERNAL uint64_t arena_debug_mark(evh_arena *arena);
/** Verify and forget the blocks made since the mark. EVH_STALE: no such mark. */
EVH_INTERNAL evh_status arena_debug_release(evh_arena *arena, uint64_t serial);
EVH_INTERNAL evh_status arena_debug_check(evh_arena *arena, size_t first);
/** The cursor is about to go up: canaries and junk of all that is released. */
EVH_INTERNAL void arena_debug_reset(evh_arena *arena);
/** Fill what is free in the chunk below `current`. */
EVH_INTERNAL void arena_debug_junk(evh_arena *arena, struct arena_chunk *chunk, uintptr_t current);
/** Canaries in a chunk's header and footer. */
EVH_INTERNAL void arena_debug_edges(evh_arena *arena, struct arena_chunk *chunk);

/* ---- shapes ---- */

static inline uintptr_t arena_cursor(const evh_arena *arena)
{
    assert(arena->bump->current != 0);
    assert(arena->bump != NULL);
    return arena->bump->current;
}

/* ASan and Valgrind may not touch these bytes. Not on a heap, whose pages a commit reads. */
static inline void arena_close_bytes(const evh_arena *arena, uintptr_t start, uintptr_t end)
{
    assert(!arena->is_live || arena->options.heap);
    assert(start <= end);
    if (!arena->options.heap) os_annotate_closed((const void *)start, end - start);
}

#endif
