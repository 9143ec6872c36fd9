/* pool_live.c -- a pool in a live heap: any processes take blocks from it and put them back.
 *
 * The bitmaps of the slabs are the truth, as in every heap, and are changed by atomic operations:
 * who turns a bit from 0 to 1 has the block, who turns one from 1 to 0 has freed it, and whoever
 * finds it as it should become was too late, or frees twice. No step waits for another process: a
 * kill leaves at most one block for each thread in use, the one that it was about to get or put.
 *
 * What a handle knows besides (its mask, which words may have free blocks, the slabs that it has
 * seen) is memory of the process, and goes stale when others get and put: a bit that another has
 * taken is skipped, blocks that others have put are looked for before the pool grows, and a block
 * of a slab that was never seen makes it look for more.
 *
 * Slabs are chained, a chain for each of the heap's threads, and only thread n adds to chain n: the
 * word that names the new slab is nobody else's, as evh_malloc_to() wants it, so that a kill leaves
 * no slab that nothing names.
 */
#include "arena/pool.h"

static struct pool_live_record *pool_live_record_of(const evh_pool *pool)
{
    assert(pool->tails != NULL);
    assert(pool->record != 0);
    return (struct pool_live_record *)(void *)(pool->heap->view.base + pool->record);
}

/* The word that names the slab behind the last one seen of a chain. */
static uint64_t *pool_live_link(const evh_pool *pool, uint32_t chain)
{
    assert(chain < POOL_CHAINS);
    const uint64_t tail = pool->tails[chain].offset;
    if (tail == 0) return &pool_live_record_of(pool)->chains[chain];
    assert(pool->tails[chain].number > 0);
    return &pool_slab_record_of(pool, tail)->next;
}

evh_status pool_live_look(evh_pool *pool)
{
    assert(pool->tails != NULL);
    assert(pool->heap != NULL);
    for (uint32_t chain = 0; chain < POOL_CHAINS; chain++) {
        uint64_t offset = 0;
        while ((offset = base_load(pool_live_link(pool, chain), __ATOMIC_ACQUIRE)) != 0) {
            /* Numbers rise by one, and a slab has one: the loop ends. The first may be any, if a
             * removal was killed. */
            const uint64_t last = pool->tails[chain].number;
            const evh_status status = pool_learn_slab(pool, offset, last ? last + 1 : 0);
            if (status) return status;
            pool->tails[chain] =
                (struct pool_tail){offset, pool_slab_record_of(pool, offset)->number};
        }
    }
    return EVH_OK;
}

/* ---- get and put ---- */

/* Look for blocks that others have put. Returns how many there are now. */
static uint64_t pool_live_recount(evh_pool *pool)
{
    assert(pool->heap->live != NULL);
    uint64_t found = 0;
    assert(pool->mask == 0);
    for (struct pool_slab *slab = pool->slabs; slab; slab = slab->previous) {
        slab->free_words = 0;
        for (uint64_t w = 0; w * 64 < slab->count; w++) {
            const uint64_t free =
                ~base_load(&slab->bits[w], __ATOMIC_RELAXED) & pool_valid_bits(slab, w);
            if (free) slab->free_words |= 1ull << w;
            found += base_count_bits(free);
        }
        if (slab->free_words) pool_set_partial(pool, slab);
    }
    return found;
}

static void pool_live_fill(void *block, void *context)
{
    const evh_pool *pool = context;
    assert(pool->record != 0);
    assert(pool->growing < POOL_CHAINS);
    *(struct pool_slab_record *)block = (struct pool_slab_record){
        .magic = POOL_SLAB_MAGIC,
        .pool = pool->record,
        .number = pool->tails[pool->growing].number + 1,
        .first = pool_first_bytes(pool),
    };
}

static evh_status pool_live_add(evh_pool *pool)
{
    evh_status status = pool_check_limit(pool);
    assert(pool->mask == 0);
    if (!status) status = live_thread_slot(pool->heap, &pool->growing);
    if (status) return status;
    static_assert((int)POOL_CHAINS == (int)LIVE_THREADS_MAX, "a chain for each thread");
    const struct live_request request = {
        .size = pool_first_bytes(pool) + pool->slab_blocks * pool->stride,
        .alignment = base_max(pool->alignment, EVH_LINE_BYTES),
        .fill = pool_live_fill,
        .context = pool,
    };
    uint64_t *link = pool_live_link(pool, pool->growing);
    assert(*link == 0);
    status = live_malloc_into(pool->heap, (evh_ref *)(void *)link, &request);
    return status ? status : pool_live_look(pool);
}

/* The pool has no more blocks that it knows of. */
static evh_status pool_live_refill(evh_pool *pool)
{
    assert(pool->mask == 0);
    assert(pool->tails != NULL);
    if (pool_refill_known(pool)) return EVH_OK;
    evh_status status = pool_live_look(pool);
    if (status) return status;
    /* Some blocks here and there are not worth a look at everything each time. */
    const uint64_t found = pool_live_recount(pool);
    if (found < pool->slab_blocks / 8 || found == 0) {
        status = pool_live_add(pool);
        if (status && found == 0) return status;
    }
    return pool_refill_known(pool) ? EVH_OK : EVH_BUSY; /* others were faster */
}

void *pool_live_get(evh_pool *pool)
{
    assert(pool->heap != NULL);
    assert(pool->tails != NULL);
    for (;;) {
        if (UNLIKELY(pool->mask == 0)) {
            if (heap_writable(pool->heap)) return NULL;
            const evh_status status = pool_live_refill(pool);
            if (status == EVH_BUSY) continue; /* who was has a block for it: that is progress */
            if (status) return NULL;
        }
        const uint64_t bit = pool->mask & (~pool->mask + 1);
        const uint64_t was = base_fetch_or(pool->word, bit, __ATOMIC_ACQ_REL);
        pool->mask &= ~(was | bit);
        if (LIKELY(!(was & bit))) return pool->at + (size_t)base_lowest_bit(bit) * pool->stride;
    }
}

evh_status pool_live_put(evh_pool *pool, void *block)
{
    assert(block != NULL);
    struct pool_slab *slab = NULL;
    uint64_t index = 0;
    assert(pool->tails != NULL);
    evh_status status = pool_heap_find(pool, block, &slab, &index);
    if (UNLIKELY(!slab)) { /* of a slab that another process has added? */
        const evh_status looked = pool_live_look(pool);
        if (looked) return looked;
        status = pool_heap_find(pool, block, &slab, &index);
    }
    if (UNLIKELY(status == EVH_BAD_POINTER))
        return pool_misuse(pool, status, block, "no block of this pool begins there");
    uint64_t *word = &slab->bits[index / 64];
    const uint64_t bit = 1ull << index % 64;
    if (UNLIKELY(!(base_fetch_and(word, ~bit, __ATOMIC_ACQ_REL) & bit)))
        return pool_misuse(pool, EVH_DOUBLE_FREE, block, "it is free already");
    if (word == pool->word) {
        pool->mask |= bit;
        return EVH_OK;
    }
    slab->free_words |= 1ull << index / 64;
    pool_set_partial(pool, slab);
    return EVH_OK;
}

/* ---- ending ---- */

evh_status pool_live_remove(evh_pool *pool)
{
    assert(pool->tails != NULL);
    evh_status status = pool_live_look(pool);
    assert(pool->heap != NULL);
    struct pool_live_record *record = pool_live_record_of(pool);
    for (uint32_t chain = 0; chain < POOL_CHAINS && !status; chain++)
        while (record->chains[chain] != 0 && !status) {
            const uint64_t next = pool_slab_record_of(pool, record->chains[chain])->next;
            status = live_free_from(pool->heap, (evh_ref *)(void *)&record->chains[chain], next);
        }
    if (status) return status;
    evh_free(pool->heap, record);
    return EVH_OK;
}
