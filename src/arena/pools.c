/* pools.c -- a family of pools, one for each size. */
#include "arena/pool.h"

enum {
    POOLS_FINE_MAX = 64, /* to here in steps of 16 */
    POOLS_STEPS = 4,     /* above, this many sizes to each doubling: at most a quarter is waste */
    POOLS_MAX = 64,
};

struct evh_pools {
    evh_pool *pools[POOLS_MAX]; /* made when they are first asked for; atomic */
    uint64_t sizes[POOLS_MAX];
    unsigned count;
    evh_pool_options options;
    char name[EVH_OBJECT_NAME_MAX + 1];
};

/* The next size after `size`. */
static uint64_t pools_next_size(uint64_t size)
{
    assert(size >= 16);
    if (size < POOLS_FINE_MAX) return size + 16;
    const uint64_t doubling = 1ull << base_highest_bit(size);
    assert(doubling >= POOLS_FINE_MAX);
    return size + doubling / POOLS_STEPS;
}

evh_pools *evh_pools_create(size_t size_max, const evh_pool_options *options)
{
    if (size_max == 0 || size_max > POOL_SIZE_MAX) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "pools: blocks of 0 bytes, or above 1 MiB");
        return NULL;
    }
    if (options && options->heap) {
        (void)base_fail(EVH_MODE, NO_OFFSET,
                        "pools: a family is over the system: a heap has sizes");
        return NULL;
    }
    evh_pools *pools = os->memory_allocate(sizeof *pools);
    if (!pools) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "pools: no memory");
        return NULL;
    }
    if (options) pools->options = *options;
    object_set_name(pools->name, pools->options.name, "pools");
    pools->options.name = pools->name;
    for (uint64_t size = 16; pools->count < POOLS_MAX; size = pools_next_size(size)) {
        pools->sizes[pools->count++] = size;
        if (size >= size_max) break;
    }
    assert(pools->sizes[pools->count - 1] >= size_max);
    assert(pools->count <= POOLS_MAX);
    return pools;
}

/* The index of the smallest size that holds `size`; count if there is none. */
static unsigned pools_index(const evh_pools *pools, size_t size)
{
    assert(size > 0);
    if (size <= POOLS_FINE_MAX) return (unsigned)((size - 1) / 16);
    const uint32_t high = base_highest_bit(size - 1);
    assert(high >= 6);
    const uint64_t step = (size - 1) >> (high - 2) & 3;
    return (unsigned)base_min(4 + (high - 6) * POOLS_STEPS + step, pools->count);
}

evh_pool *evh_pools_of(evh_pools *pools, size_t size)
{
    if (!pools || size == 0) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, pools ? "pools '%s': a block of 0 bytes" : "%s",
                        pools ? pools->name : "no pools: they are null");
        return NULL;
    }
    const unsigned index = size > POOL_SIZE_MAX ? pools->count : pools_index(pools, size);
    if (index >= pools->count) {
        (void)base_fail(EVH_LIMIT, NO_OFFSET, "pools '%s': %zu bytes: they hold %llu at most",
                        pools->name, size, (unsigned long long)pools->sizes[pools->count - 1]);
        return NULL;
    }
    assert(pools->sizes[index] >= size);
    assert(index == 0 || pools->sizes[index - 1] < size);
    evh_pool *pool = __atomic_load_n(&pools->pools[index], __ATOMIC_ACQUIRE);
    if (LIKELY(pool != NULL)) return pool;
    evh_pool_options options = pools->options;
    options.size_bytes = pools->sizes[index];
    evh_pool *made = evh_pool_create(&options);
    if (!made) return NULL;
    if (__atomic_compare_exchange_n(&pools->pools[index], &pool, made, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return made;
    evh_pool_close(made); /* another thread was faster */
    return pool;
}

void evh_pools_close(evh_pools *pools)
{
    assert(!pools || pools->count > 0);
    if (!pools) return;
    assert(pools->count <= POOLS_MAX);
    for (unsigned i = 0; i < pools->count; i++) evh_pool_close(pools->pools[i]);
    os->memory_free(pools);
}
