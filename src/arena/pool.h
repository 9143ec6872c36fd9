/* pool.h -- pools, as their files know them. */
#ifndef EVERHEAP_ARENA_POOL_H
#define EVERHEAP_ARENA_POOL_H

#include "arena/arena.h"

enum {
    POOL_SIZE_MAX = 1024 * 1024,
    POOL_ALIGNMENT_MAX = 4096,
    POOL_SLAB_BYTES = 64 * 1024,
    POOL_SLAB_BLOCKS_MIN = 8,  /* so that a slab of large blocks is larger */
    POOL_BATCH = 32,           /* blocks that move between a thread and the pool */
    POOL_MAGAZINE_BLOCKS = 64, /* the most that a thread keeps */
    POOL_SLAB_BLOCKS_MAX = POOL_SLAB_WORDS * 64,
};

/* A slab: a mapping of the system, or a block of the heap. */
struct pool_slab {
    struct pool_slab *previous; /* older */
    unsigned char *blocks;      /* the first */
    uint64_t count;             /* blocks */
    void *mapping;
    uint64_t mapping_bytes;
    uint32_t fault;
    /* On a heap. */
    uint64_t offset; /* of its block */
    uint64_t number;
    uint64_t *bits;                 /* in the image */
    uint64_t free_words;            /* bit w: word w may have free blocks */
    struct pool_slab *next_partial; /* in the list of slabs with free blocks */
    bool is_partial;
};

/* What a thread keeps of a shared pool. */
struct pool_magazine {
    void *free; /* linked by their first words */
    uint32_t count;
    bool has_thread; /* under the pool's lock */
    struct pool_magazine *next;
    void *memory; /* what it was carved from: it begins at a cache line */
};

struct pool_debug {
    struct debug_settings settings;
    struct debug_table table; /* live and quarantined blocks, by address */
    void **quarantine;        /* a ring of freed blocks */
    uint32_t first, count;
    void **spare; /* volatile pools: blocks that may be used again */
    size_t spare_count, spare_limit;
    uint64_t operations;
    size_t front_bytes; /* of canary before each block */
};

/* The ways that need no check but this. */
enum pool_way { POOL_WAY_OTHER, POOL_WAY_HEAP, POOL_WAY_LIVE, POOL_WAY_MAGAZINES };

/* The last slab that a handle has seen of a chain. */
struct pool_tail {
    uint64_t offset;
    uint64_t number; /* in the chain, from 1 */
};

struct evh_pool {
    struct evh_pool_view view; /* first: evh_pool_get() reads it */
    /* On a heap: where the next blocks come from. */
    uint8_t way;         /* enum pool_way */
    bool is_annotated;   /* ASan or Valgrind are told */
    uint64_t mask;       /* free bits of `word` */
    uint64_t *word;      /* in the image */
    unsigned char *at;   /* the block of the word's bit 0 */
    uint64_t stride;     /* from one block to the next */
    uint64_t reciprocal; /* 2^64 / stride, rounded up */
    struct pool_slab *current;
    struct pool_slab *partial; /* more slabs with free blocks */
    struct pool_slab **places; /* hash of slices: which slab is there */
    uint64_t place_count;      /* a power of two */
    uint64_t places_used;
    struct pool_tail *tails; /* not NULL: there are POOL_CHAINS chains of slabs */
    uint32_t growing;        /* the chain that a slab is being added to */

    struct pool_slab *slabs; /* newest first */
    uint64_t slab_count;
    uint64_t slab_blocks;
    uint64_t capacity;                /* blocks in all slabs */
    unsigned char *fresh, *fresh_end; /* of the newest slab: never handed out (volatile) */
    void *free;                       /* shared: what is in no magazine */
    struct pool_magazine *magazines;
    struct evh_pool_options options;
    char name[EVH_OBJECT_NAME_MAX + 1];
    size_t alignment;
    bool is_stale;
    evh_heap *heap;
    uint64_t record;
    struct heap_hook hook;
    evh_heap *hooked;
    bool is_committed;
    struct heap_lock lock;
    struct fork_node fork;
    uint64_t stamp;
    uint32_t id;
    evh_pool *next_pool; /* in the registry of shared pools */
    struct pool_debug *debug;
};

/* ---- pool.c ---- */
EVH_INTERNAL evh_pool *pool_new_handle(const evh_pool_options *options);
EVH_INTERNAL void pool_free_handle(evh_pool *pool);
EVH_INTERNAL evh_status pool_usable(const evh_pool *pool);
/** Up to `limit` blocks that nobody has, linked; `*count` of them. NULL: EVH_LIMIT,
 *  EVH_NO_MEMORY. */
EVH_INTERNAL void *pool_take_fresh(evh_pool *pool, uint32_t limit, uint32_t *count);
/** Misuse of a pointer, as the pool's option says. */
EVH_INTERNAL evh_status pool_misuse(const evh_pool *pool, evh_status status, const void *block,
                                    const char *what);
/** Where `block` lies in the slab: true, and its index, if it begins there. */
EVH_INTERNAL bool pool_index_of(const evh_pool *pool, const struct pool_slab *slab,
                                const void *block, uint64_t *index);

/* ---- pool_shared.c ---- */
EVH_INTERNAL void *pool_shared_get(evh_pool *pool);
EVH_INTERNAL void pool_shared_put(evh_pool *pool, void *block);
EVH_INTERNAL void pool_shared_begin(evh_pool *pool);
EVH_INTERNAL void pool_shared_end(evh_pool *pool);

/* ---- pool_heap.c ---- */
EVH_INTERNAL evh_status pool_heap_create(evh_pool *pool);
EVH_INTERNAL void *pool_heap_get(evh_pool *pool);
EVH_INTERNAL evh_status pool_heap_put(evh_pool *pool, void *block);
EVH_INTERNAL void pool_heap_close(evh_pool *pool);
/** EVH_OK: a block in use begins there. EVH_DOUBLE_FREE, EVH_BAD_POINTER; not set as the error. */
EVH_INTERNAL evh_status pool_heap_find(const evh_pool *pool, const void *block,
                                       struct pool_slab **slab, uint64_t *index);

/** EVH_LIMIT if count_max forbids another slab. */
EVH_INTERNAL evh_status pool_check_limit(const evh_pool *pool);
/** A slab of a chain, with that number (0: any), becomes known. */
EVH_INTERNAL evh_status pool_learn_slab(evh_pool *pool, uint64_t offset, uint64_t number);
/** Put the next word with free blocks, of the slabs that are known, into the mask; false: none. */
EVH_INTERNAL bool pool_refill_known(evh_pool *pool);
/** The slab has free words: it is in the list of such, unless it is the current one. */
EVH_INTERNAL void pool_set_partial(evh_pool *pool, struct pool_slab *slab);
/** Bytes before a slab's first block. */
EVH_INTERNAL uint64_t pool_first_bytes(const evh_pool *pool);
EVH_INTERNAL struct pool_slab_record *pool_slab_record_of(const evh_pool *pool, uint64_t offset);

/* ---- pool_live.c: where pool->tails is set; get, put and remove in a live heap only ---- */

/** Learn the slabs that were added to chains, by whomever. EVH_CORRUPT, EVH_NO_MEMORY. */
EVH_INTERNAL evh_status pool_live_look(evh_pool *pool);
EVH_INTERNAL void *pool_live_get(evh_pool *pool);
EVH_INTERNAL evh_status pool_live_put(evh_pool *pool, void *block);
/** Free all slabs, then the record. */
EVH_INTERNAL evh_status pool_live_remove(evh_pool *pool);

/** The bits of a word that stand for blocks. */
static inline uint64_t pool_valid_bits(const struct pool_slab *slab, uint64_t word)
{
    assert(word * 64 < slab->count);
    const uint64_t rest = slab->count - word * 64;
    assert(slab->count <= POOL_SLAB_BLOCKS_MAX);
    return rest >= 64 ? UINT64_MAX : (1ull << rest) - 1;
}

/* ---- pool_debug.c ---- */
EVH_INTERNAL evh_status pool_debug_create(evh_pool *pool, const struct debug_settings *settings);
EVH_INTERNAL void pool_debug_end(evh_pool *pool);
EVH_INTERNAL void *pool_debug_get(evh_pool *pool);
EVH_INTERNAL void pool_debug_put(evh_pool *pool, void *block);
/** The pool's blocks, from a slab's: what lies before them is canary. */
EVH_INTERNAL void *pool_debug_block(const evh_pool *pool, unsigned char *place);
/** Whether the block is in use. */
EVH_INTERNAL bool pool_debug_is_live(const evh_pool *pool, const void *block);
EVH_INTERNAL void pool_debug_rolled_back(evh_pool *pool);
EVH_INTERNAL void pool_debug_drain(evh_pool *pool);

static inline void *pool_next(const void *block)
{
    void *next;
    memcpy(&next, block, sizeof next);
    assert(block != NULL);
    assert(next != block);
    return next;
}

/* ASan and Valgrind may not touch a free block, but for the word that links it. */
static inline void pool_open_block(const evh_pool *pool, void *block)
{
    assert(block != NULL);
    assert(!pool->heap);
    if (UNLIKELY(pool->is_annotated)) os_annotate_open(block, pool->options.size_bytes);
}

static inline void pool_close_block(const evh_pool *pool, unsigned char *block)
{
    assert(block != NULL);
    assert(!pool->heap);
    const size_t link = sizeof(void *);
    if (UNLIKELY(pool->is_annotated) && pool->options.size_bytes > link)
        os_annotate_closed(block + link, pool->options.size_bytes - link);
}

static inline void pool_link(void *block, void *next)
{
    assert(block != NULL);
    assert(block != next);
    memcpy(block, &next, sizeof next);
}

#endif
