/* arena.h -- arenas, pools and guarded stacks: over the system, a buffer, or a heap. */
#ifndef EVERHEAP_ARENA_H
#define EVERHEAP_ARENA_H

#include <everheap/heap.h>

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The calls have the four shapes of heap.h. Letters that an option called `debug` takes, and the
 * environment variable EVERHEAP_DEBUG for all that give none: debug.h. Names are for messages, and
 * copied to 31 bytes.
 *
 * A null arena or pool is EVH_INVALID, as a null heap is; but evh_arena_alloc(), evh_pool_get() and
 * evh_pool_put(), which are inline, do not ask.
 *
 * Over a heap, an object's content is part of the heap's commits: rolled back, saved and reopened
 * with it. The object's handle is not; when the heap is closed, or a rollback takes back the
 * object's creation, every call on the handle but its close answers EVH_STALE.
 *
 * Over a live heap the content is there at any moment, and survives a kill: an arena loses up to 4
 * KiB of room, a pool at most the block that each killed thread was getting or putting. A pool may
 * have handles in several processes, an arena has one at a time. In the durable heap that a live
 * one is saved as, they go on.
 */

enum { EVH_OBJECT_NAME_MAX = 31, EVH_LINE_BYTES = 64, EVH_SIMD_BYTES = 64 };

/* ---- arenas --------------------------------------------------------------------------------- */

/** Memory that is handed out by moving a cursor, and taken back all at once or down to a mark. */
typedef struct evh_arena evh_arena;

typedef struct evh_arena_options {
    evh_heap *heap;        /* its blocks are the memory; NULL: the system's */
    void *buffer;          /* the caller's, of size_bytes, is the memory; never grows */
    size_t size_bytes;     /* of the buffer, of a fixed arena, of the first chunk; 0: 64 KiB.
                              Chunks double to 4 MiB */
    size_t size_max_bytes; /* of all chunks; EVH_LIMIT beyond. 0: none */
    size_t keep_bytes;     /* memory that a reset leaves resident; 0: 16 MiB */
    size_t alignment;      /* of allocations that ask for 0; a power of two. 0: 16, 1: packed */
    bool is_fixed;         /* one chunk: EVH_LIMIT when it is used up */
    bool is_shared;        /* threads may allocate at once; no marks; not on a heap */
    bool guards; /* a page without access before and behind each chunk; the system's only */
    evh_misuse misuse;
    const char *name;
    const char *debug;
    uint64_t reserved[4]; /* zero */
} evh_arena_options;

/* Policies: options to start from. */
#define EVH_ARENA_FAST                                                                             \
    {                                                                                              \
        .alignment = 64                                                                            \
    }
#define EVH_ARENA_SAFE                                                                             \
    {                                                                                              \
        .alignment = 16, .guards = true, .debug = "CJV"                                            \
    }

/**
 * Make an arena. `options` may be NULL: growing, over the system.
 * Returns   the arena, owned: end it with evh_arena_close() or evh_arena_remove().
 * Errors    EVH_INVALID (what contradicts, an alignment that is no power of two, a buffer below 256
 *           bytes), EVH_NO_MEMORY, EVH_MODE, EVH_UNSUPPORTED; on a heap as
 *           evh_malloc().
 * Threads   per object, as all calls on an arena; any where is_shared.
 * Crash     an arena on a heap exists from the next commit on; on a live heap from the moment that
 *           its ref is stored, before which a kill leaks one block of 64 bytes.
 */
EVH_API evh_arena *evh_arena_create(const evh_arena_options *options);

/** The ref under which the heap keeps an arena: store it in a root. Asks: null for other arenas. */
EVH_API evh_ref evh_arena_ref(const evh_arena *arena);

/**
 * The arena that `heap` keeps under `ref`, with its content. Of `options` (may be NULL) name,
 * debug, keep_bytes and misuse count; size_bytes, alignment and limits are the stored ones.
 * Errors    EVH_CORRUPT, EVH_NOT_FOUND (no arena there), EVH_READ_ONLY, EVH_NO_MEMORY.
 */
EVH_API evh_arena *evh_arena_open(evh_heap *heap, evh_ref ref, const evh_arena_options *options);

/** End the handle. Memory of the system is freed; what is on a heap stays there. NULL is fine. */
EVH_API void evh_arena_close(evh_arena *arena);
/** End the arena: on a heap its blocks are freed, elsewhere as evh_arena_close(). NULL is fine.
 *  Errors  EVH_READ_ONLY, EVH_STALE, EVH_CORRUPT; the handle is gone after them, too. */
EVH_API evh_status evh_arena_remove(evh_arena *arena);

/* The first members of every arena, so that evh_arena_alloc() is inline. Use them only there. */
struct evh_arena_view {
    uintptr_t current; /* allocations end here: it moves down */
    uintptr_t start;   /* down to here; UINTPTR_MAX sends every allocation the slow way */
    uintptr_t alignment;
};

/** What evh_arena_alloc() does when its chunk is used up, and with all that is unusual. */
EVH_API void *evh_arena_alloc_slow(evh_arena *arena, size_t size, size_t alignment);

/**
 * Memory of `size` bytes at a multiple of `alignment`, a power of two to 64 MiB; 0: the arena's.
 * `size` 0 gives an address that may be that of the next allocation.
 * Returns   memory borrowed until the arena is released below it, reset or ended; contents
 *           undefined. NULL on failure.
 * Errors    EVH_INVALID (alignment), EVH_LIMIT (used up, or too large), EVH_NO_MEMORY, EVH_STALE;
 *           on a heap as evh_malloc().
 * Crash     on a heap: undone unless committed; on a live one see above.
 * Cost      a few instructions; both sizes constant: a subtraction, a mask, a comparison, a store.
 */
static inline void *evh_arena_alloc(evh_arena *arena, size_t size, size_t alignment)
{
    struct evh_arena_view *view = (struct evh_arena_view *)(void *)arena;
    const uintptr_t current = view->current;
    if (alignment == 0) alignment = view->alignment;
    const uintptr_t found = (current - size) & ~(uintptr_t)(alignment - 1);
    /* No address below 4096 is mapped, so that a small size cannot wrap around. */
    const bool is_small = __builtin_constant_p(size) && size <= 4096;
    if (__builtin_expect((alignment & (alignment - 1)) != 0, 0) ||
        __builtin_expect(!is_small && size > current, 0) ||
        __builtin_expect(found < view->start, 0))
        return evh_arena_alloc_slow(arena, size, alignment);
    view->current = found;
    return (void *)found;
}

/** As evh_arena_alloc(), for vectors: a multiple of 64, so that AVX-512 loads are aligned. */
static inline void *evh_arena_simd(evh_arena *arena, size_t size)
{
    return evh_arena_alloc(arena, size, EVH_SIMD_BYTES);
}

/** As evh_arena_alloc(), in cache lines of its own. */
static inline void *evh_arena_line(evh_arena *arena, size_t size)
{
    if (size > SIZE_MAX - EVH_LINE_BYTES) return evh_arena_alloc_slow(arena, size, EVH_LINE_BYTES);
    return evh_arena_alloc(arena, (size + EVH_LINE_BYTES - 1) & ~(size_t)(EVH_LINE_BYTES - 1),
                           EVH_LINE_BYTES);
}

/** As evh_arena_alloc(), of `count` x `size` zero bytes. EVH_LIMIT if the product overflows. */
EVH_API void *evh_arena_calloc(evh_arena *arena, size_t count, size_t size, size_t alignment);
/** A copy of `text`, or NULL. */
EVH_API char *evh_arena_strdup(evh_arena *arena, const char *text);
/** The text that printf() would print, or NULL; EVH_INVALID where printf() fails. */
EVH_API char *evh_arena_printf(evh_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Where an arena stood. */
typedef struct evh_mark {
    void *chunk;
    uintptr_t current;
    uint64_t serial;
} evh_mark;

/** Remember where the arena stands. Asks. */
EVH_API evh_mark evh_arena_mark(evh_arena *arena);
/**
 * Take back all that was allocated since `mark`. Marks nest: releasing one ends the later ones.
 * Errors    EVH_STALE (a mark that ended, or of another arena: a misuse), EVH_MODE (shared);
 *           EVH_NO_MEMORY (a debugged arena could not remember the mark; nothing is released).
 * Crash     on a live heap: newer chunks are taken back one by one, then what is in this one.
 * Cost      constant, and the chunks taken since.
 */
EVH_API evh_status evh_arena_release(evh_arena *arena, evh_mark mark);

/** Take back everything. The largest chunk stays, `keep_bytes` of it resident.
 *  Threads  of a shared arena: no other thread allocates or uses its memory meanwhile.
 *  Crash    on a live heap: some chunks may be taken back and others not.
 *  Cost     constant; after growth, the chunks that grew. */
EVH_API void evh_arena_reset(evh_arena *arena);

/** Release at the end of the enclosing block what is allocated in the arena from here on. */
#define EVH_ARENA_SCOPE(arena) EVH_ARENA_SCOPE_NAMED(arena, __COUNTER__)
#define EVH_ARENA_SCOPE_NAMED(arena, number) EVH_ARENA_SCOPE_JOINED(arena, number)
#define EVH_ARENA_SCOPE_JOINED(arena, number)                                                      \
    struct evh_arena_scope evh_arena_scope_##number                                                \
        __attribute__((cleanup(evh_arena_scope_end), unused)) = {(arena), evh_arena_mark(arena)}
struct evh_arena_scope {
    evh_arena *arena;
    evh_mark mark;
};
static inline void evh_arena_scope_end(struct evh_arena_scope *scope)
{
    (void)evh_arena_release(scope->arena, scope->mark);
}

/** Hint that `address` will be read soon. */
#define EVH_PREFETCH(address) __builtin_prefetch(address)

typedef struct evh_arena_stats {
    uint64_t used_bytes;     /* between the cursor and the end, padding included */
    uint64_t peak_bytes;     /* the most that was used, as far as slow paths, marks and this saw */
    uint64_t free_bytes;     /* in the present chunk */
    uint64_t reserved_bytes; /* of all chunks */
    uint64_t chunks;
    uint64_t resets;
} evh_arena_stats;

/** Fill `stats`. A null arena gives zeroes. */
EVH_API void evh_arena_get_stats(evh_arena *arena, evh_arena_stats *stats);
/** Whether [address, address + size) lies in memory that the arena has handed out. Asks. */
EVH_API bool evh_arena_holds(const evh_arena *arena, const void *address, size_t size);
/** Verify the canaries that debug letter C set; without it EVH_OK. A misuse: EVH_OVERWRITTEN. */
EVH_API evh_status evh_arena_check(evh_arena *arena);

/* ---- pools ---------------------------------------------------------------------------------- */

/** Blocks of one size. */
typedef struct evh_pool evh_pool;

typedef struct evh_pool_options {
    evh_heap *heap;     /* the blocks are part of it, kill-safe; NULL: the system's, the last one
                           put is the next one got */
    size_t size_bytes;  /* of a block */
    size_t alignment;   /* a power of two to 4096; 0: 16 */
    uint64_t count_max; /* blocks; EVH_LIMIT beyond. 0: no limit. On a heap: in whole slabs; in a
                           live one, processes that grow it at once may exceed it by one each */
    bool is_shared;     /* threads may get and put at once; each may keep 64 free blocks, which
                           then are no other's, also if count_max is reached */
    bool guards;        /* a page without access before and behind each slab; the system's only */
    evh_misuse misuse;
    const char *name;
    const char *debug;
    uint64_t reserved[4]; /* zero */
} evh_pool_options;

/**
 * Make a pool.
 * Returns   the pool, owned: end it with evh_pool_close() or evh_pool_remove().
 * Errors    EVH_INVALID (size 0 or above 1 MiB, alignment), EVH_NO_MEMORY, EVH_MODE (guards on a
 *           heap, debug letters in a live heap); on a heap as evh_malloc().
 * Threads   per object, as all calls on a pool; any where is_shared.
 */
EVH_API evh_pool *evh_pool_create(const evh_pool_options *options);
/** As evh_arena_ref(). */
EVH_API evh_ref evh_pool_ref(const evh_pool *pool);
/** As evh_arena_open(). Of `options` name, debug, is_shared and misuse count. EVH_MODE: in a live
 *  heap, a pool that was not made in one. */
EVH_API evh_pool *evh_pool_open(evh_heap *heap, evh_ref ref, const evh_pool_options *options);
/** End the handle; the system's memory is freed with every block. NULL is fine. */
EVH_API void evh_pool_close(evh_pool *pool);
/** End the pool with every block: as evh_arena_remove(). */
EVH_API evh_status evh_pool_remove(evh_pool *pool);

/* The first member of every pool: the blocks that are free, linked by their first word. */
struct evh_pool_view {
    void *free;        /* NULL also where the inline way is closed */
    uintptr_t is_open; /* evh_pool_put() may link a block here */
};

/** What evh_pool_get() and evh_pool_put() do where the inline way is closed. */
EVH_API void *evh_pool_get_slow(evh_pool *pool);
EVH_API void evh_pool_put_slow(evh_pool *pool, void *block);

/**
 * A block, contents undefined.
 * Returns   the block, owned: evh_pool_put(), or the pool's end. NULL on failure.
 * Errors    EVH_LIMIT (count_max are in use), EVH_NO_MEMORY, EVH_STALE; on a heap as evh_malloc().
 * Crash     on a heap: undone unless committed; on a live one a block may be in use that nobody was
 *           told of.
 */
static inline void *evh_pool_get(evh_pool *pool)
{
    struct evh_pool_view *view = (struct evh_pool_view *)(void *)pool;
    void *block = view->free;
    if (__builtin_expect(block == NULL, 0)) return evh_pool_get_slow(pool);
    memcpy(&view->free, block, sizeof view->free);
    return block;
}

/**
 * Give a block back. NULL is fine. On a heap, and with debug letter V, a block that is free
 * already and a pointer that is none are detected exactly: see evh_misuse.
 */
static inline void evh_pool_put(evh_pool *pool, void *block)
{
    struct evh_pool_view *view = (struct evh_pool_view *)(void *)pool;
    if (__builtin_expect(!view->is_open || block == NULL, 0)) {
        evh_pool_put_slow(pool, block);
        return;
    }
    memcpy(block, &view->free, sizeof view->free);
    view->free = block;
}

/** Called for each block in use; returns false to stop. */
typedef bool evh_pool_visit(void *block, void *context);

/** Visit the blocks in use in order of address within each slab. The callback may put the block it
 *  is given. Threads: nobody gets or puts meanwhile. Errors  EVH_NO_MEMORY, EVH_STALE. */
EVH_API evh_status evh_pool_each(evh_pool *pool, evh_pool_visit *visit, void *context);

typedef struct evh_pool_stats {
    size_t size_bytes;       /* of a block */
    uint64_t live;           /* blocks in use */
    uint64_t capacity;       /* blocks in all slabs */
    uint64_t reserved_bytes; /* of all slabs */
    uint64_t slabs;
} evh_pool_stats;

/** Fill `stats`. Threads: as evh_pool_each(). Cost: the free blocks. */
EVH_API void evh_pool_get_stats(evh_pool *pool, evh_pool_stats *stats);

/** Pools for sizes up to a limit: 16, 32, 48, 64, then four to each doubling. */
typedef struct evh_pools evh_pools;
/** Make a family for blocks to `size_max` bytes (1 MiB at most). Of `options` (may be NULL)
 *  size_bytes does not count, count_max is each pool's. On a heap: EVH_MODE. Owned. */
EVH_API evh_pools *evh_pools_create(size_t size_max, const evh_pool_options *options);
/** The pool for blocks of `size` bytes, borrowed until the family's end. EVH_LIMIT. */
EVH_API evh_pool *evh_pools_of(evh_pools *pools, size_t size);
/** End the family with every block. NULL is fine. */
EVH_API void evh_pools_close(evh_pools *pools);

/* ---- stacks --------------------------------------------------------------------------------- */

/** Stacks of one size for fibers, each between two guards. */
typedef struct evh_stacks evh_stacks;

typedef enum evh_guard {
    EVH_GUARD_AUTO = 0, /* marks where the kernel has them, else protection */
    EVH_GUARD_MARK,     /* MADV_GUARD_INSTALL (Linux 6.13): no mapping of its own */
    EVH_GUARD_PROTECT,  /* mprotect(): two mappings for each stack; vm.max_map_count limits it */
    EVH_GUARD_NONE,
} evh_guard;

typedef struct evh_stacks_options {
    size_t size_bytes;  /* of a stack, rounded up to pages; 0: 64 KiB, at most 1 GiB */
    uint64_t count_max; /* stacks in use at once; EVH_LIMIT beyond. 0: no limit. Each thread may
                           keep 16 that it put, which count for the others */
    evh_guard guard;
    evh_misuse misuse;
    const char *name;
    const char *debug;
    uint64_t reserved[4]; /* zero */
} evh_stacks_options;

/* A stack in use. What is not said to be the program's is read only. */
typedef struct evh_stack {
    void *base;        /* its lowest byte; a new stack pointer is base + size_bytes */
    size_t size_bytes; /* between the guards */
    uint64_t number;   /* among the stacks of its size, from 0 */
    char label[32];    /* the program's: who runs on it; an overflow's message names it */
    void *user;        /* the program's */
    uint64_t reserved[3];
} evh_stack;

/**
 * Make a family of stacks. A handler for SIGSEGV and SIGBUS is set, once for the process, that says
 * which stack has overflowed before the signal takes its way.
 * Returns   the stacks, owned: end them with evh_stacks_close().
 * Errors    EVH_INVALID, EVH_UNSUPPORTED (this kernel has no such guard), EVH_NO_MEMORY.
 * Threads   any, as all calls on stacks.
 */
EVH_API evh_stacks *evh_stacks_create(const evh_stacks_options *options);
/** Unmap all stacks; none is in use. NULL is fine. */
EVH_API void evh_stacks_close(evh_stacks *stacks);

/**
 * A stack; the one put last by this thread, if there is one. The calling thread gets an alternate
 * signal stack if it has none, so that it can say that a stack overflowed.
 * Returns   the stack, owned: evh_stack_put(). Its label is "". NULL on failure.
 * Errors    EVH_LIMIT (count_max; or the system's limit on mappings, named), EVH_NO_MEMORY.
 * Cost      under 10 ns for one that was put; a new one costs its guard and its first touch.
 */
EVH_API evh_stack *evh_stack_get(evh_stacks *stacks);
/** Give a stack back. NULL is fine. A stack that is free already, or of others: see evh_misuse. */
EVH_API void evh_stack_put(evh_stacks *stacks, evh_stack *stack);

/** Give a thread that only runs fibers its alternate signal stack. EVH_NO_MEMORY. */
EVH_API evh_status evh_stack_thread(void);
/** Bytes of the stack, from its top, that have memory behind them: the deepest that it was used
 *  since it was made or trimmed, rounded up to pages. Asks; 0 if the system does not tell. */
EVH_API size_t evh_stack_used(const evh_stack *stack);
/** Give the memory of stacks that nobody uses back to the system; not of those that other running
 *  threads keep, 16 each at most. Returns how many. */
EVH_API uint64_t evh_stacks_trim(evh_stacks *stacks);

typedef struct evh_stacks_stats {
    uint64_t live;           /* stacks in use */
    uint64_t made;           /* so far: the most that were in use or kept by threads */
    uint64_t reserved_bytes; /* addresses */
    evh_guard guard;         /* what there is */
} evh_stacks_stats;

/** Fill `stats`. */
EVH_API void evh_stacks_get_stats(evh_stacks *stacks, evh_stacks_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
