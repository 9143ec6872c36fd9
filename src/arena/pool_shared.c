/* pool_shared.c -- what threads keep of a shared pool: magazines of free blocks.
 *
 * A thread gets and puts in its own magazine (Bonwick, Adams: "Magazines and vmem", USENIX 2001),
 * without a lock; a magazine that is empty or full moves a batch from or to the pool, under the
 * pool's lock. Magazines belong to the pool. A thread finds its one in a slot that the pool's
 * number chooses, if the slot's stamp is the pool's: stamps are never used twice, so that nothing
 * has to be told to threads when a pool is closed. When a thread ends, its magazines are left to
 * the next thread; the registry says which pools are still there.
 */
#include "arena/pool.h"

enum { SHARED_POOL_SLOTS = 8 }; /* few, for the reason that SHARED_SLOTS is */

struct pool_slot {
    uint64_t stamp; /* of the pool; 0: none */
    evh_pool *pool;
    struct pool_magazine *magazine;
};

static _Thread_local struct pool_slot pool_slots[SHARED_POOL_SLOTS];

static struct heap_lock pool_registry_lock;
static struct fork_node pool_registry_fork = {.is_registry = true};
static evh_pool *pool_registry; /* the shared pools that are open, linked by next_pool */

void pool_shared_begin(evh_pool *pool)
{
    assert(pool->options.is_shared);
    assert(pool->next_pool == NULL);
    fork_add(&pool_registry_fork, &pool_registry_lock);
    fork_add(&pool->fork, &pool->lock);
    heap_lock_take(&pool_registry_lock);
    pool->next_pool = pool_registry;
    pool_registry = pool;
    heap_lock_drop(&pool_registry_lock);
}

void pool_shared_end(evh_pool *pool)
{
    assert(pool->options.is_shared);
    heap_lock_take(&pool_registry_lock);
    evh_pool **link = &pool_registry;
    while (*link && *link != pool) link = &(*link)->next_pool;
    if (*link) *link = pool->next_pool;
    heap_lock_drop(&pool_registry_lock);
    fork_remove(&pool->fork);
    struct pool_magazine *magazine = pool->magazines;
    while (magazine) {
        struct pool_magazine *next = magazine->next;
        os->memory_free(magazine->memory);
        magazine = next;
    }
    pool->magazines = NULL;
    assert(pool->magazines == NULL);
}

/* Nobody has the magazine any more: its blocks are for all. */
static void pool_empty_all(evh_pool *pool, struct pool_magazine *magazine)
{
    assert(heap_lock_is_taken(&pool->lock));
    assert(!magazine->has_thread);
    if (!magazine->free) return;
    void *last = magazine->free;
    while (pool_next(last)) last = pool_next(last); /* POOL_MAGAZINE_BLOCKS at most */
    pool_link(last, pool->free);
    pool->free = magazine->free;
    magazine->free = NULL;
    magazine->count = 0;
}

/* The slot's magazine goes back to its pool, if that is still there. */
static void pool_leave_slot(struct pool_slot *slot)
{
    assert(slot != NULL);
    if (slot->stamp == 0) return;
    assert(slot->magazine != NULL);
    heap_lock_take(&pool_registry_lock);
    const evh_pool *pool = pool_registry;
    while (pool && (pool != slot->pool || pool->stamp != slot->stamp)) pool = pool->next_pool;
    if (pool) {
        heap_lock_take(&slot->pool->lock);
        slot->magazine->has_thread = false;
        pool_empty_all(slot->pool, slot->magazine);
        heap_lock_drop(&slot->pool->lock);
    }
    heap_lock_drop(&pool_registry_lock);
    *slot = (struct pool_slot){0};
}

static void pool_thread_ends(void *unused)
{
    assert(unused == pool_slots);
    (void)unused;
    for (unsigned i = 0; i < SHARED_POOL_SLOTS; i++) pool_leave_slot(&pool_slots[i]);
    assert(pool_slots[0].stamp == 0);
}

static struct pool_magazine *pool_new_magazine(evh_pool *pool)
{
    assert(heap_lock_is_taken(&pool->lock));
    void *memory = os->memory_allocate(2 * EVH_LINE_BYTES);
    if (!memory) return NULL;
    struct pool_magazine *magazine = (void *)base_round_up((uintptr_t)memory, EVH_LINE_BYTES);
    magazine->memory = memory;
    magazine->next = pool->magazines;
    pool->magazines = magazine;
    assert(magazine->count == 0);
    return magazine;
}

/* A magazine for the calling thread, in its slot. NULL and EVH_NO_MEMORY. */
static struct pool_magazine *pool_attach(evh_pool *pool)
{
    struct pool_slot *slot = &pool_slots[pool->id % SHARED_POOL_SLOTS];
    assert(slot->stamp != pool->stamp);
    pool_leave_slot(slot);
    struct pool_magazine *found = NULL;
    if (!os_at_thread_exit(pool_thread_ends, pool_slots)) {
        heap_lock_take(&pool->lock);
        found = pool->magazines;
        while (found && found->has_thread) found = found->next;
        if (!found) found = pool_new_magazine(pool);
        if (found) found->has_thread = true;
        heap_lock_drop(&pool->lock);
    }
    if (!found) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory for a thread", pool->name);
        return NULL;
    }
    assert(found->has_thread);
    *slot = (struct pool_slot){pool->stamp, pool, found};
    return found;
}

static inline struct pool_magazine *pool_magazine_of(evh_pool *pool)
{
    assert(pool->options.is_shared);
    assert(pool->stamp != 0);
    const struct pool_slot *slot = &pool_slots[pool->id % SHARED_POOL_SLOTS];
    return LIKELY(slot->stamp == pool->stamp) ? slot->magazine : pool_attach(pool);
}

/* A batch of blocks for a magazine that has none. */
static bool pool_fill(evh_pool *pool, struct pool_magazine *magazine)
{
    assert(magazine->count == 0);
    assert(magazine->free == NULL);
    heap_lock_take(&pool->lock);
    if (pool->free) {
        void *last = pool->free;
        magazine->free = last;
        magazine->count = 1;
        for (; magazine->count < POOL_BATCH && pool_next(last); magazine->count++)
            last = pool_next(last);
        pool->free = pool_next(last);
        pool_link(last, NULL);
    } else {
        magazine->free = pool_take_fresh(pool, POOL_BATCH, &magazine->count);
        if (!magazine->free) magazine->count = 0;
    }
    heap_lock_drop(&pool->lock);
    return magazine->free != NULL;
}

/* A magazine is its thread's alone: a pool with count_max says EVH_LIMIT while up to 64 free blocks
 * lie with each other thread. */
void *pool_shared_get(evh_pool *pool)
{
    struct pool_magazine *magazine = pool_magazine_of(pool);
    if (UNLIKELY(!magazine)) return NULL;
    if (UNLIKELY(!magazine->free) && !pool_fill(pool, magazine)) return NULL;
    void *block = magazine->free;
    magazine->free = pool_next(block);
    assert(block != NULL);
    assert(magazine->count > 0);
    magazine->count--;
    pool_open_block(pool, block);
    return block;
}

/* Half of a full magazine goes to the pool. */
static __attribute__((noinline)) void pool_empty(evh_pool *pool, struct pool_magazine *magazine)
{
    assert(magazine->count > POOL_BATCH);
    void *first = magazine->free;
    void *last = first;
    for (unsigned i = 1; i < POOL_BATCH; i++) last = pool_next(last);
    assert(last != NULL);
    magazine->free = pool_next(last);
    magazine->count -= POOL_BATCH;
    heap_lock_take(&pool->lock);
    pool_link(last, pool->free);
    pool->free = first;
    heap_lock_drop(&pool->lock);
}

void pool_shared_put(evh_pool *pool, void *block)
{
    assert(!pool->heap);
    assert(block != NULL);
    struct pool_magazine *magazine = pool_magazine_of(pool);
    if (UNLIKELY(!magazine)) { /* no memory for a magazine: straight to the pool */
        heap_lock_take(&pool->lock);
        pool_link(block, pool->free);
        pool->free = block;
        heap_lock_drop(&pool->lock);
        return;
    }
    pool_link(block, magazine->free);
    magazine->free = block;
    pool_close_block(pool, block);
    if (UNLIKELY(++magazine->count >= POOL_MAGAZINE_BLOCKS)) pool_empty(pool, magazine);
}
