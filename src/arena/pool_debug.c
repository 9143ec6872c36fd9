/* pool_debug.c -- a pool that is debugged.
 *
 * Every block in use or in quarantine is in a table, with the sites that made and freed it. Over
 * the system, a block lies between canaries (C), or at the end of a page with a guard behind it
 * (G), and free blocks are not linked through their memory, so that all of it is junk (J) that can
 * be checked. On a heap the layout is the stored one: canaries and guards are for volatile pools.
 */
#include "arena/pool.h"

#include <stdio.h>

static bool pool_debug_has(const evh_pool *pool, unsigned letter)
{
    assert(pool->debug != NULL);
    assert(letter != 0);
    return (pool->debug->settings.letters & letter) != 0;
}

/* Canaries exist over the system; a guard page takes their place behind the block. */
static bool pool_debug_has_canaries(const evh_pool *pool)
{
    assert(!pool->heap || pool->debug->front_bytes == 0);
    assert(pool->debug != NULL);
    return pool->debug->front_bytes > 0;
}

evh_status pool_debug_create(evh_pool *pool, const struct debug_settings *settings)
{
    assert(pool->debug == NULL);
    struct pool_debug *debug = os->memory_allocate(sizeof *debug);
    if (!debug) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory", pool->name);
    debug->settings = *settings;
    const bool has_canaries =
        (settings->letters & DEBUG_CANARY) && !(settings->letters & DEBUG_GUARD) && !pool->heap;
    const size_t alignment = pool->options.alignment ? pool->options.alignment : 16;
    if (has_canaries) debug->front_bytes = base_max(alignment, DEBUG_CANARY_BYTES);
    if (settings->letters & DEBUG_QUARANTINE) {
        debug->quarantine =
            os->memory_allocate(settings->quarantine_blocks * sizeof *debug->quarantine);
        if (!debug->quarantine) {
            os->memory_free(debug);
            return base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory", pool->name);
        }
    }
    pool->debug = debug;
    assert(!pool->heap || debug->front_bytes == 0);
    return EVH_OK;
}

void *pool_debug_block(const evh_pool *pool, unsigned char *place)
{
    assert(pool->debug != NULL);
    assert(place != NULL);
    if (pool->heap || !pool_debug_has(pool, DEBUG_GUARD)) return place + pool->debug->front_bytes;
    /* Its end at the guard page, as near as the alignment allows. */
    unsigned char *guard = place + pool->stride - os_page_bytes();
    return guard - base_round_up(pool->options.size_bytes, pool->alignment);
}

static unsigned char *pool_debug_place(const evh_pool *pool, void *block)
{
    assert(pool->debug != NULL);
    assert(block != NULL);
    if (pool->heap || !pool_debug_has(pool, DEBUG_GUARD))
        return (unsigned char *)block - pool->debug->front_bytes;
    unsigned char *guard =
        (unsigned char *)block + base_round_up(pool->options.size_bytes, pool->alignment);
    return guard + os_page_bytes() - pool->stride;
}

bool pool_debug_is_live(const evh_pool *pool, const void *block)
{
    assert(block != NULL);
    assert(pool->debug != NULL);
    const struct debug_block *known = debug_table_find(&pool->debug->table, (uintptr_t)block);
    if (known) return !known->is_free;
    if (!pool->heap) return false;
    struct pool_slab *slab = NULL; /* on a heap: made before this handle */
    uint64_t index = 0;
    return pool_heap_find(pool, block, &slab, &index) == EVH_OK;
}

/* ---- verifying ---- */

/* A text for messages: where a block comes from. */
struct pool_debug_text {
    char text[240];
};

static struct pool_debug_text pool_debug_text(const evh_pool *pool, const struct debug_block *known)
{
    struct pool_debug_text made = {{0}};
    assert(known != NULL);
    if (!pool_debug_has(pool, DEBUG_SITES)) return made;
    if (known->is_free)
        (void)snprintf(made.text, sizeof made.text, " (made at %s, freed at %s)", known->made_at,
                       known->freed_at);
    else
        (void)snprintf(made.text, sizeof made.text, " (made at %s)", known->made_at);
    assert(made.text[0] != 0);
    return made;
}

static evh_status pool_debug_verify(const evh_pool *pool, const struct debug_block *known)
{
    assert(pool->debug != NULL);
    size_t first = 0;
    assert(known->key != 0);
    unsigned char *block = (unsigned char *)(uintptr_t)known->key;
    const size_t size = pool->options.size_bytes;
    if (pool_debug_has_canaries(pool)) {
        unsigned char *place = pool_debug_place(pool, block);
        const size_t behind = (size_t)(place + pool->stride - (block + size));
        if (!debug_has_canary(block + size, behind, &first))
            return debug_misuse(pool->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                                "pool '%s': overflow: byte %zu behind block %p was written%s",
                                pool->name, first, (void *)block,
                                pool_debug_text(pool, known).text);
        if (!debug_has_canary(place, pool->debug->front_bytes, &first))
            return debug_misuse(pool->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                                "pool '%s': underflow: byte %zu before block %p was written%s",
                                pool->name, pool->debug->front_bytes - first, (void *)block,
                                pool_debug_text(pool, known).text);
    }
    if (!known->is_free || !pool_debug_has(pool, DEBUG_JUNK)) return EVH_OK;
    os_annotate_defined(block, size);
    const bool is_junk = debug_is_filled(block, size, DEBUG_FREE_BYTE, &first);
    os_annotate_closed(block, pool->heap ? 0 : size);
    if (is_junk) return EVH_OK;
    return debug_misuse(pool->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                        "pool '%s': use after free: byte %zu of block %p was written%s", pool->name,
                        first, (void *)block, pool_debug_text(pool, known).text);
}

static void pool_debug_every(evh_pool *pool)
{
    struct pool_debug *debug = pool->debug;
    assert(debug != NULL);
    debug->operations++;
    if (!pool_debug_has(pool, DEBUG_EVERY)) return;
    assert(debug->settings.verify_every > 0);
    if (debug->operations % debug->settings.verify_every != 0) return;
    for (size_t i = 0; i < debug->table.slots; i++)
        if (debug->table.blocks[i].key && pool_debug_verify(pool, &debug->table.blocks[i])) return;
}

/* ---- get ---- */

/* A block that may be used, junk where it was used before. NULL: there is none. */
static void *pool_debug_take(evh_pool *pool, bool *is_junk)
{
    struct pool_debug *debug = pool->debug;
    assert(debug != NULL);
    uint32_t count = 0;
    *is_junk = false;
    if (pool->heap) return pool_heap_get(pool);
    if (debug->spare_count > 0) {
        *is_junk = pool_debug_has(pool, DEBUG_JUNK);
        return debug->spare[--debug->spare_count];
    }
    unsigned char *place = pool_take_fresh(pool, 1, &count);
    assert(!place || count == 1);
    return place ? pool_debug_block(pool, place) : NULL;
}

/* A block that was taken and cannot be handed out: there is no memory to remember it. */
static void pool_debug_untake(evh_pool *pool, void *block, bool was_used)
{
    assert(block != NULL);
    assert(pool->debug != NULL);
    if (pool->heap)
        (void)pool_heap_put(pool, block);
    else if (was_used)
        pool->debug->spare[pool->debug->spare_count++] = block; /* where it was */
    else
        pool->fresh -= pool->stride;
    (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory to remember a block",
                    pool->name);
}

void *pool_debug_get(evh_pool *pool)
{
    struct pool_debug *debug = pool->debug;
    bool is_junk = false;
    assert(debug != NULL);
    const char *site = debug_take_site();
    pool_debug_every(pool);
    const size_t spare_count = debug->spare_count;
    assert(spare_count <= debug->spare_limit);
    unsigned char *block = pool_debug_take(pool, &is_junk);
    if (!block) return NULL;
    struct debug_block *known = debug_table_add(&debug->table, (uintptr_t)block);
    if (!known) {
        pool_debug_untake(pool, block, debug->spare_count < spare_count);
        return NULL;
    }
    *known = (struct debug_block){.key = (uintptr_t)block,
                                  .size = pool->options.size_bytes,
                                  .made_at = site,
                                  .operation = debug->operations,
                                  .thread = debug_thread()};
    const size_t size = pool->options.size_bytes;
    os_annotate_defined(block, size);
    size_t first = 0;
    if (is_junk && !debug_is_filled(block, size, DEBUG_FREE_BYTE, &first))
        (void)debug_misuse(pool->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                           "pool '%s': use after free: byte %zu of block %p was written",
                           pool->name, first, (void *)block);
    if (pool_debug_has_canaries(pool)) {
        unsigned char *place = pool_debug_place(pool, block);
        debug_set_canary(place, debug->front_bytes);
        debug_set_canary(block + size, (size_t)(place + pool->stride - (block + size)));
    }
    if (pool_debug_has(pool, DEBUG_JUNK)) memset(block, DEBUG_NEW_BYTE, size);
    os_annotate_open(block, size);
    if (pool_debug_has(pool, DEBUG_LOG)) (void)debug_log("get", pool->name, block, size, site);
    return block;
}

/* ---- put ---- */

/* The block can be used again. */
static void pool_debug_give(evh_pool *pool, void *block)
{
    struct pool_debug *debug = pool->debug;
    struct debug_block *known = debug_table_find(&debug->table, (uintptr_t)block);
    assert(block != NULL);
    if (known) {
        (void)pool_debug_verify(pool, known);
        debug_table_remove(&debug->table, known);
    }
    if (pool->heap) {
        (void)pool_heap_put(pool, block);
        return;
    }
    os_annotate_closed(block, pool->options.size_bytes);
    if (debug->spare_count == debug->spare_limit) {
        const size_t limit = debug->spare_limit ? debug->spare_limit * 2 : 64;
        void **grown = os->memory_resize(debug->spare, limit * sizeof *grown);
        if (!grown) return; /* the block is lost until the pool ends: no memory to remember it */
        debug->spare = grown;
        debug->spare_limit = limit;
    }
    debug->spare[debug->spare_count++] = block;
    assert(debug->spare_count <= debug->spare_limit);
}

void pool_debug_drain(evh_pool *pool)
{
    struct pool_debug *debug = pool->debug;
    assert(debug != NULL);
    assert(debug->count <= debug->settings.quarantine_blocks);
    for (; debug->count > 0; debug->count--) {
        pool_debug_give(pool, debug->quarantine[debug->first]);
        debug->first = (debug->first + 1) % debug->settings.quarantine_blocks;
    }
}

/* The block waits behind those that were freed before it. */
static void pool_debug_quarantine(evh_pool *pool, void *block)
{
    struct pool_debug *debug = pool->debug;
    assert(debug->quarantine != NULL);
    const uint32_t limit = debug->settings.quarantine_blocks;
    if (debug->count == limit) {
        pool_debug_give(pool, debug->quarantine[debug->first]);
        debug->first = (debug->first + 1) % limit;
        debug->count--;
    }
    debug->quarantine[(debug->first + debug->count++) % limit] = block;
    os_annotate_closed(block, pool->heap ? 0 : pool->options.size_bytes);
    assert(debug->count <= limit);
}

/* Whether the pool ever handed out a block at this address. */
static bool pool_debug_is_place(const evh_pool *pool, void *block)
{
    assert(pool->debug != NULL);
    uint64_t index = 0;
    assert(block != NULL);
    for (const struct pool_slab *slab = pool->slabs; slab; slab = slab->previous) {
        if (!pool_index_of(pool, slab, pool_debug_place(pool, block), &index)) continue;
        return slab != pool->slabs || pool->heap ||
               slab->blocks + index * pool->stride < pool->fresh;
    }
    return false;
}

/* A pointer that is no block in use. */
static void pool_debug_bad_put(const evh_pool *pool, void *block, const struct debug_block *known)
{
    char text[300];
    assert(!known || known->is_free);
    assert(block != NULL);
    const bool is_free = known || pool_debug_is_place(pool, block);
    if (is_free)
        (void)snprintf(text, sizeof text, "it is free already%s",
                       known ? pool_debug_text(pool, known).text : "");
    else
        (void)snprintf(text, sizeof text, "no block of this pool begins there");
    (void)pool_misuse(pool, is_free ? EVH_DOUBLE_FREE : EVH_BAD_POINTER, block, text);
}

void pool_debug_put(evh_pool *pool, void *block)
{
    assert(block != NULL);
    struct pool_debug *debug = pool->debug;
    assert(debug != NULL);
    const char *site = debug_take_site();
    pool_debug_every(pool);
    if (pool_debug_has(pool, DEBUG_LOG))
        (void)debug_log("put", pool->name, block, pool->options.size_bytes, site);
    struct debug_block *known = debug_table_find(&debug->table, (uintptr_t)block);
    if (!pool_debug_is_live(pool, block)) {
        pool_debug_bad_put(pool, block, known);
        return;
    }
    if (known && pool_debug_verify(pool, known)) return;
    if (pool_debug_has(pool, DEBUG_JUNK)) memset(block, DEBUG_FREE_BYTE, pool->options.size_bytes);
    if (!known) known = debug_table_add(&debug->table, (uintptr_t)block);
    if (known) {
        if (!known->made_at) known->made_at = "?";
        known->freed_at = site;
        known->is_free = true;
    }
    if (debug->quarantine && known)
        pool_debug_quarantine(pool, block);
    else
        pool_debug_give(pool, block);
}

/* ---- the heap, and the end ---- */

void pool_debug_rolled_back(evh_pool *pool)
{
    struct pool_debug *debug = pool->debug;
    assert(debug != NULL);
    /* Blocks came back and went: nothing that is known of them holds. */
    debug_table_end(&debug->table);
    debug->first = debug->count = 0;
    assert(debug->table.count == 0);
}

static void pool_debug_report_leaks(const evh_pool *pool)
{
    const struct pool_debug *debug = pool->debug;
    uint64_t leaks = 0;
    assert(debug != NULL);
    for (size_t i = 0; i < debug->table.slots; i++)
        if (debug->table.blocks[i].key && !debug->table.blocks[i].is_free) leaks++;
    if (leaks == 0) return;
    assert(leaks <= debug->table.count);
    debug_print("pool '%s': %llu blocks of %zu bytes were never put back", pool->name,
                (unsigned long long)leaks, pool->options.size_bytes);
    if (!pool_debug_has(pool, DEBUG_SITES)) return;
    enum { LINES = 20 };
    uint64_t printed = 0;
    for (size_t i = 0; i < debug->table.slots && printed < LINES; i++) {
        const struct debug_block *known = &debug->table.blocks[i];
        if (known->key && !known->is_free && printed++ < LINES)
            debug_print("  %p, made at %s, operation %llu", (void *)(uintptr_t)known->key,
                        known->made_at, (unsigned long long)known->operation);
    }
}

void pool_debug_end(evh_pool *pool)
{
    assert(pool->hooked == NULL);
    struct pool_debug *debug = pool->debug;
    assert(debug != NULL);
    for (size_t i = 0; i < debug->table.slots && !pool->options.heap; i++)
        if (debug->table.blocks[i].key && pool_debug_verify(pool, &debug->table.blocks[i])) break;
    if (pool_debug_has(pool, DEBUG_LEAKS) && !pool->options.heap) pool_debug_report_leaks(pool);
    debug_table_end(&debug->table);
    os->memory_free(debug->quarantine);
    os->memory_free(debug->spare);
    os->memory_free(debug);
    pool->debug = NULL;
}
