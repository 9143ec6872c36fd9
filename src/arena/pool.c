/* pool.c -- blocks of one size: the handle, and pools over the system.
 *
 * A volatile pool is a list of free blocks, linked through them, last in first out: the block that
 * was put last is in the cache. Blocks that were never handed out are not linked yet, so that a
 * slab's pages are touched when they are needed. Estimate: get is two loads and a store, put two
 * stores; a slab of 64 KiB costs a mapping, about a microsecond, for a thousand blocks of 64 bytes.
 *
 * Pools on a heap are pool_heap.c's, what threads keep of a shared one is pool_shared.c's.
 */
#include "arena/pool.h"

#include <stdlib.h>

/* ---- options ---- */

evh_status pool_usable(const evh_pool *pool)
{
    if (!pool) return base_fail(EVH_INVALID, NO_OFFSET, "no pool: it is null");
    assert(pool->stride > 0);
    assert(pool->is_stale || !pool->options.heap || pool->heap);
    if (!pool->is_stale) return EVH_OK;
    return base_fail(EVH_STALE, NO_OFFSET,
                     "pool '%s': its heap was closed, or rolled back to before it was made",
                     pool->name);
}

static evh_status pool_refuse(const char *name, const char *why)
{
    assert(name != NULL);
    assert(why != NULL);
    return base_fail(EVH_INVALID, NO_OFFSET, "pool '%s': options: %s", name, why);
}

static evh_status pool_check_options(const char *name, const evh_pool_options *options)
{
    assert(name != NULL);
    assert(options != NULL);
    for (size_t i = 0; i < sizeof options->reserved / sizeof options->reserved[0]; i++)
        if (options->reserved[i]) return pool_refuse(name, "a reserved field is not zero");
    if (options->size_bytes == 0 || options->size_bytes > POOL_SIZE_MAX)
        return pool_refuse(name, "blocks of 0 bytes, or above 1 MiB");
    if (options->alignment &&
        (!base_is_power_of_two(options->alignment) || options->alignment > POOL_ALIGNMENT_MAX))
        return pool_refuse(name, "an alignment that is no power of two to 4096");
    if ((unsigned)options->misuse > EVH_MISUSE_STATUS)
        return pool_refuse(name, "no such answer to misuse");
    if (options->heap && options->guards)
        return base_fail(EVH_MODE, NO_OFFSET, "pool '%s': on a heap it has no guards", name);
    return EVH_OK;
}

evh_status pool_misuse(const evh_pool *pool, evh_status status, const void *block, const char *what)
{
    assert(status != EVH_OK);
    assert(what != NULL);
    return debug_misuse(pool->options.misuse, status, NO_OFFSET, "pool '%s': %p: %s", pool->name,
                        block, what);
}

/* ---- the handle ---- */

/* From one block to the next, and how many a slab has. */
static void pool_set_layout(evh_pool *pool)
{
    const uint64_t alignment = pool->options.alignment ? pool->options.alignment : 16;
    pool->alignment = base_max(alignment, sizeof(void *));
    uint64_t bytes = base_max(pool->options.size_bytes, sizeof(void *));
    const struct pool_debug *debug = pool->debug;
    if (debug && !pool->heap && (debug->settings.letters & DEBUG_GUARD)) {
        const uint64_t page = os_page_bytes();
        bytes = base_round_up(bytes, page) + page;
    } else if (debug && debug->front_bytes) {
        bytes = debug->front_bytes + base_round_up(bytes, pool->alignment) + DEBUG_CANARY_BYTES;
    }
    pool->stride = base_round_up(bytes, pool->alignment);
    pool->reciprocal = UINT64_MAX / pool->stride + 1;
    pool->slab_blocks = base_max(POOL_SLAB_BYTES / pool->stride, POOL_SLAB_BLOCKS_MIN);
    pool->slab_blocks = base_min(pool->slab_blocks, POOL_SLAB_BLOCKS_MAX);
    assert(pool->stride % pool->alignment == 0);
    assert(pool->slab_blocks > 0);
}

/* Other processes get and put, unseen by this one's table. */
static evh_status pool_limit_letters(const char *name, const evh_pool_options *options,
                                     struct debug_settings *settings)
{
    assert(options->heap != NULL);
    assert(options->heap->live != NULL);
    const unsigned refused = settings->letters & ~(unsigned)(DEBUG_REPORT_ONLY | DEBUG_VALIDATE);
    if (refused && options->debug)
        return base_fail(EVH_MODE, NO_OFFSET, "pool '%s': in a live heap it is not debugged", name);
    settings->letters &= DEBUG_REPORT_ONLY; /* pointers are validated anyway */
    return EVH_OK;
}

evh_pool *pool_new_handle(const evh_pool_options *options)
{
    struct debug_settings settings;
    char name[EVH_OBJECT_NAME_MAX + 1];
    assert(options != NULL);
    object_set_name(name, options->name, "pool");
    if (pool_check_options(name, options)) return NULL;
    if (debug_read(options->debug, name, &settings)) return NULL;
    if (options->heap && options->heap->live && pool_limit_letters(name, options, &settings))
        return NULL;
    evh_pool *pool = os->memory_allocate(sizeof *pool);
    if (!pool) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory", name);
        return NULL;
    }
    static uint32_t last_id; /* atomic */
    memcpy(pool->name, name, sizeof name);
    pool->options = *options;
    pool->options.name = pool->name;
    pool->options.debug = NULL;
    pool->heap = options->heap;
    pool->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
    pool->stamp = arena_new_stamp();
    pool->is_annotated = os_is_annotated();
    if (settings.letters & DEBUG_REPORT_ONLY) pool->options.misuse = EVH_MISUSE_STATUS;
    if ((settings.letters & ~(unsigned)DEBUG_REPORT_ONLY) && pool_debug_create(pool, &settings)) {
        os->memory_free(pool);
        return NULL;
    }
    pool_set_layout(pool);
    assert(pool->view.free == NULL);
    return pool;
}

static void pool_end_slab(struct pool_slab *slab)
{
    assert(slab != NULL);
    assert(slab->count > 0);
    if (slab->fault) fault_remove(slab->fault);
    if (slab->mapping) {
        os_annotate_open(slab->mapping, slab->mapping_bytes);
        (void)os->release(slab->mapping, slab->mapping_bytes);
    }
    os->memory_free(slab);
}

void pool_free_handle(evh_pool *pool)
{
    assert(pool != NULL);
    assert(pool->hooked == NULL);
    if (pool->debug) pool_debug_end(pool);
    if (pool->options.is_shared) pool_shared_end(pool);
    struct pool_slab *slab = pool->slabs;
    while (slab) {
        struct pool_slab *previous = slab->previous;
        pool_end_slab(slab);
        slab = previous;
    }
    os->memory_free(pool->places);
    os->memory_free(pool->tails);
    os->memory_free(pool);
}

evh_pool *evh_pool_create(const evh_pool_options *options)
{
    if (!options) {
        (void)pool_refuse("pool", "there are none: size_bytes is needed");
        return NULL;
    }
    evh_pool *pool = pool_new_handle(options);
    if (!pool) return NULL;
    const bool has_guards =
        options->guards || (pool->debug && (pool->debug->settings.letters & DEBUG_GUARD));
    assert(!has_guards || !pool->heap || pool->debug);
    evh_status status = has_guards ? fault_install() : EVH_OK;
    if (!status && pool->heap) status = pool_heap_create(pool);
    if (status) {
        pool_free_handle(pool);
        return NULL;
    }
    if (options->is_shared) pool_shared_begin(pool);
    if (options->is_shared && !pool->heap && !pool->debug) pool->way = POOL_WAY_MAGAZINES;
    pool->view.is_open = !pool->heap && !options->is_shared && !pool->debug && !os_is_annotated();
    assert(pool->view.free == NULL);
    return pool;
}

void evh_pool_close(evh_pool *pool)
{
    if (!pool) return;
    assert(pool->stride > 0);
    if (pool->options.heap)
        pool_heap_close(pool);
    else
        pool_free_handle(pool);
}

/* ---- slabs over the system ---- */

/* Guard pages before and behind a slab. */
static evh_status pool_guard_slab(const evh_pool *pool, struct pool_slab *slab, uint64_t page)
{
    unsigned char *mapping = slab->mapping;
    assert(mapping != NULL);
    assert(slab->mapping_bytes > 2 * page);
    int error = os->guard(mapping, page, OS_GUARD_PROTECT);
    if (!error) error = os->guard(mapping + slab->mapping_bytes - page, page, OS_GUARD_PROTECT);
    if (error) return base_fail_os(error, NO_OFFSET, "pool '%s': cannot guard a slab", pool->name);
    struct fault_range range = {.kind = "pool",
                                .start = (uintptr_t)mapping,
                                .end = (uintptr_t)mapping + slab->mapping_bytes,
                                .guard_bytes = page};
    memcpy(range.name, pool->name, sizeof range.name);
    slab->fault = fault_add(&range);
    return EVH_OK;
}

/* A guard page behind each block: letter G. */
static evh_status pool_guard_blocks(const evh_pool *pool, struct pool_slab *slab, uint64_t page)
{
    assert(pool->stride % page == 0);
    assert(pool->stride > page);
    for (uint64_t i = 0; i < slab->count; i++) {
        unsigned char *guard = slab->blocks + (i + 1) * pool->stride - page;
        int error = os->guard(guard, page, OS_GUARD_MARK);
        if (error == EINVAL) error = os->guard(guard, page, OS_GUARD_PROTECT);
        if (error)
            return base_fail_os(error, NO_OFFSET, "pool '%s': cannot guard a block", pool->name);
    }
    struct fault_range range = {.kind = "block of pool",
                                .start = (uintptr_t)slab->blocks + pool->stride - page,
                                .end = (uintptr_t)slab->blocks + slab->count * pool->stride,
                                .stride = pool->stride,
                                .guard_bytes = page};
    memcpy(range.name, pool->name, sizeof range.name);
    slab->fault = fault_add(&range);
    return EVH_OK;
}

static evh_status pool_map_slab(const evh_pool *pool, struct pool_slab *slab)
{
    assert(slab->count > 0);
    assert(!pool->heap);
    const uint64_t page = os_page_bytes();
    const uint64_t edge = pool->options.guards ? page : 0;
    const uint64_t size = base_round_up(slab->count * pool->stride, page) + 2 * edge;
    const int error = os->memory_map(size, false, &slab->mapping);
    if (error)
        return base_fail_os(error, NO_OFFSET, "pool '%s': no slab of %llu bytes", pool->name,
                            (unsigned long long)size);
    slab->mapping_bytes = size;
    slab->blocks = (unsigned char *)slab->mapping + edge;
    if (pool->debug && (pool->debug->settings.letters & DEBUG_GUARD))
        return pool_guard_blocks(pool, slab, page);
    return edge ? pool_guard_slab(pool, slab, page) : EVH_OK;
}

/* Another slab becomes the newest, all of it fresh. */
static evh_status pool_add_slab(evh_pool *pool)
{
    assert(pool->fresh == pool->fresh_end);
    uint64_t count = pool->slab_blocks;
    const uint64_t limit = pool->options.count_max;
    if (limit && limit - pool->capacity < count) count = limit - pool->capacity;
    if (count == 0)
        return base_fail(EVH_LIMIT, NO_OFFSET, "pool '%s': all of its %llu blocks are in use",
                         pool->name, (unsigned long long)limit);
    struct pool_slab *slab = os->memory_allocate(sizeof *slab);
    if (!slab) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory", pool->name);
    slab->count = count;
    const evh_status status = pool_map_slab(pool, slab);
    if (status) {
        pool_end_slab(slab);
        return status;
    }
    slab->previous = pool->slabs;
    pool->slabs = slab;
    pool->slab_count++;
    pool->capacity += count;
    pool->fresh = slab->blocks;
    pool->fresh_end = slab->blocks + count * pool->stride;
    assert(pool->fresh < pool->fresh_end);
    return EVH_OK;
}

void *pool_take_fresh(evh_pool *pool, uint32_t limit, uint32_t *count)
{
    assert(limit > 0);
    assert(count != NULL);
    if (pool->fresh == pool->fresh_end && pool_add_slab(pool)) return NULL;
    const uint64_t left = (uint64_t)(pool->fresh_end - pool->fresh) / pool->stride;
    *count = (uint32_t)base_min(limit, left);
    unsigned char *first = pool->fresh;
    pool->fresh += *count * pool->stride;
    if (limit == 1) return first; /* unlinked: a debugged pool's blocks are not written to */
    for (uint32_t i = 0; i < *count; i++) {
        unsigned char *block = first + i * pool->stride;
        pool_link(block, i + 1 < *count ? block + pool->stride : NULL);
    }
    return first;
}

/* ---- get and put ---- */

/* A pool whose inline way is open, but has no block; or that ASan or Valgrind watch. */
static void *pool_plain_get(evh_pool *pool)
{
    assert(!pool->debug);
    assert(!pool->options.is_shared);
    uint32_t count = 0;
    void *block = pool->view.free;
    if (!block) block = pool->free; /* where the inline way is closed */
    if (!block) block = pool_take_fresh(pool, POOL_BATCH, &count);
    if (!block) return NULL;
    if (!pool->view.is_open) {
        pool->free = pool_next(block);
        pool_open_block(pool, block);
        return block;
    }
    pool->view.free = pool_next(block);
    return block;
}

void *evh_pool_get_slow(evh_pool *pool)
{
    if (LIKELY(pool != NULL)) {
        if (pool->way == POOL_WAY_HEAP) return pool_heap_get(pool);
        if (pool->way == POOL_WAY_LIVE) return pool_live_get(pool);
        if (pool->way == POOL_WAY_MAGAZINES) return pool_shared_get(pool);
    }
    if (pool_usable(pool) || NEVER(!pool)) return NULL;
    const bool is_locked = pool->options.is_shared;
    assert(!pool->is_stale);
    if (is_locked) heap_lock_take(&pool->lock);
    void *block = pool->debug                      ? pool_debug_get(pool)
                  : pool->heap && pool->heap->live ? pool_live_get(pool)
                  : pool->heap                     ? pool_heap_get(pool)
                                                   : pool_plain_get(pool);
    if (is_locked) heap_lock_drop(&pool->lock);
    return block;
}

static void pool_plain_put(evh_pool *pool, void *block)
{
    assert(!pool->view.is_open);
    assert(block != NULL);
    pool_link(block, pool->free);
    pool->free = block;
    pool_close_block(pool, block);
}

void evh_pool_put_slow(evh_pool *pool, void *block)
{
    if (LIKELY(pool != NULL && block != NULL)) {
        if (pool->way == POOL_WAY_HEAP) {
            (void)pool_heap_put(pool, block);
            return;
        }
        if (pool->way == POOL_WAY_LIVE) {
            (void)pool_live_put(pool, block);
            return;
        }
        if (pool->way == POOL_WAY_MAGAZINES) {
            pool_shared_put(pool, block);
            return;
        }
    }
    assert(pool == NULL || pool->stride > 0);
    assert(pool == NULL || pool->view.is_open == 0 || block == NULL);
    if (!block || pool_usable(pool)) return;
    if (pool->options.is_shared) heap_lock_take(&pool->lock);
    if (pool->debug)
        pool_debug_put(pool, block);
    else if (pool->heap && pool->heap->live)
        (void)pool_live_put(pool, block);
    else if (pool->heap)
        (void)pool_heap_put(pool, block);
    else
        pool_plain_put(pool, block);
    if (pool->options.is_shared) heap_lock_drop(&pool->lock);
}

/* ---- looking ---- */

bool pool_index_of(const evh_pool *pool, const struct pool_slab *slab, const void *block,
                   uint64_t *index)
{
    assert(slab->count > 0);
    assert(index != NULL);
    const uint64_t offset = (uint64_t)((uintptr_t)block - (uintptr_t)slab->blocks);
    if (offset >= slab->count * pool->stride) return false;
    *index = offset / pool->stride;
    return offset % pool->stride == 0;
}

/* The bits of the blocks that are free in a slab, of a volatile pool. */
static void pool_mark_free(const evh_pool *pool, const struct pool_slab *slab, const void *list,
                           uint64_t *bits, uint64_t *found)
{
    assert(slab->count <= POOL_SLAB_BLOCKS_MAX);
    assert(bits != NULL);
    uint64_t index = 0;
    for (const void *block = list; block; block = pool_next(block)) {
        if (!pool_index_of(pool, slab, block, &index)) continue;
        bits[index / 64] |= 1ull << index % 64;
        ++*found;
    }
}

/* Which blocks of a slab are in use, as bits; returns how many. */
static uint64_t pool_live_bits(const evh_pool *pool, const struct pool_slab *slab, uint64_t *bits)
{
    assert(slab->count <= POOL_SLAB_BLOCKS_MAX);
    assert(bits != NULL);
    uint64_t live = 0;
    memset(bits, 0, POOL_SLAB_WORDS * sizeof *bits);
    if (pool->heap && !pool->debug) {
        for (uint64_t w = 0; w * 64 < slab->count; w++) {
            bits[w] = base_load(&slab->bits[w], __ATOMIC_RELAXED);
            live += base_count_bits(bits[w]);
        }
        return live;
    }
    if (pool->debug) {
        for (uint64_t i = 0; i < slab->count; i++) {
            if (!pool_debug_is_live(pool, pool_debug_block(pool, slab->blocks + i * pool->stride)))
                continue;
            bits[i / 64] |= 1ull << i % 64;
            live++;
        }
        return live;
    }
    uint64_t free_count = 0;
    pool_mark_free(pool, slab, pool->view.free, bits, &free_count);
    pool_mark_free(pool, slab, pool->free, bits, &free_count);
    for (const struct pool_magazine *m = pool->magazines; m; m = m->next)
        pool_mark_free(pool, slab, m->free, bits, &free_count);
    uint64_t made = slab->count;
    if (slab == pool->slabs) made = (uint64_t)(pool->fresh - slab->blocks) / pool->stride;
    for (uint64_t i = 0; i < made; i++) bits[i / 64] ^= 1ull << i % 64;
    assert(made >= free_count);
    return made - free_count;
}

evh_status evh_pool_each(evh_pool *pool, evh_pool_visit *visit, void *context)
{
    const evh_status status = pool_usable(pool);
    if (status) return status;
    if (!visit) return base_fail(EVH_INVALID, NO_OFFSET, "pool '%s': no visit: null", pool->name);
    uint64_t bits[POOL_SLAB_WORDS];
    const evh_status looked = pool->tails ? pool_live_look(pool) : EVH_OK;
    assert(pool->stride > 0);
    assert(!pool->tails || pool->heap);
    if (looked) return looked;
    for (const struct pool_slab *slab = pool->slabs; slab; slab = slab->previous) {
        if (pool_live_bits(pool, slab, bits) == 0) continue;
        for (uint64_t i = 0; i < slab->count; i++) {
            if (!(bits[i / 64] >> i % 64 & 1)) continue;
            unsigned char *place = slab->blocks + i * pool->stride;
            if (!visit(pool->debug ? pool_debug_block(pool, place) : place, context)) return EVH_OK;
        }
    }
    return EVH_OK;
}

void evh_pool_get_stats(evh_pool *pool, evh_pool_stats *stats)
{
    if (!stats) return;
    *stats = (evh_pool_stats){0};
    if (!pool || pool->is_stale || (pool->tails && pool_live_look(pool))) return;
    uint64_t bits[POOL_SLAB_WORDS];
    stats->size_bytes = pool->options.size_bytes;
    stats->capacity = pool->capacity;
    stats->slabs = pool->slab_count;
    assert(pool->capacity >= pool->slab_count);
    assert((pool->slabs == NULL) == (pool->slab_count == 0));
    for (const struct pool_slab *slab = pool->slabs; slab; slab = slab->previous) {
        stats->live += pool_live_bits(pool, slab, bits);
        stats->reserved_bytes += slab->mapping ? slab->mapping_bytes : slab->count * pool->stride;
    }
}
