/* slices_pool.c -- where bitmaps lie: slots of words, packed by size.
 *
 * A commit writes the pages that changed; bitmaps change with every allocation and free. So they
 * are packed: the bitmaps of 512 slices of 64-byte blocks fill 16 pages, wherever the slices are. A
 * slot of 1, 2 or 4 words shares a cache line with slots of its size; larger ones take whole lines.
 * Slots of different owners do not share a line while there is room: two threads that allocate
 * would pass it back and forth (measured: half the throughput).
 *
 * What is in use is the set of slots that descriptors name, never stored: it is rebuilt here when a
 * segment is loaded.
 */
#include "heap/heap.h"

enum {
    POOL_WORDS = SLICE_LINES / 64,
    POOL_UNITS = SLICE_LINES * SLICE_LINE_UNITS,
    POOL_TRIES = 8, /* partial lines looked at before a new line is begun */
};

/* Which of the three small sizes: 1, 2, 4 words. */
static uint32_t pool_size_index(uint32_t slot_words)
{
    assert(slot_words > 0);
    assert(slot_words < SLICE_LINE_UNITS);
    assert(base_is_power_of_two(slot_words));
    return base_lowest_bit(slot_words);
}

/* The units of a line that a slot of `slot_words` at `unit` takes. */
static uint8_t pool_mask(uint32_t unit, uint32_t slot_words)
{
    assert(slot_words > 0);
    assert(slot_words < SLICE_LINE_UNITS);
    return (uint8_t)(((1u << slot_words) - 1) << unit % SLICE_LINE_UNITS);
}

static void pool_set_bit(uint64_t *words, uint32_t bit, bool value)
{
    assert(words != NULL);
    assert(bit < SLICE_LINES);
    if (value)
        words[bit / 64] |= 1ull << bit % 64;
    else
        words[bit / 64] &= ~(1ull << bit % 64);
}

EVH_INTERNAL struct pool *pool_new(struct segment *segment, uint64_t slice, uint32_t relative,
                                   uint32_t first_unit)
{
    assert(slice > 0);
    assert(first_unit < POOL_UNITS);
    assert(first_unit % SLICE_LINE_UNITS == 0);
    struct pool *pool = os->memory_allocate(sizeof *pool);
    if (!pool) return NULL;
    pool->slice = slice;
    pool->relative = relative;
    for (uint32_t line = 0; line < SLICE_LINES; line++) {
        const bool is_usable = line >= first_unit / SLICE_LINE_UNITS;
        if (!is_usable) pool->units[line] = UINT8_MAX;
        pool_set_bit(pool->free_lines, line, is_usable);
    }
    struct pool **last = &segment->pools;
    while (*last) last = &(*last)->next;
    *last = pool;
    return pool;
}

static struct pool *pool_find(const struct segment *segment, uint32_t relative)
{
    assert(segment != NULL);
    assert(relative < SEGMENT_SLICES);
    for (struct pool *pool = segment->pools; pool; pool = pool->next)
        if (pool->relative == relative) return pool;
    return NULL;
}

/* Whether the line has room for one more slot of the size; its first unit. */
static bool pool_line_room(const struct pool *pool, uint32_t line, uint32_t slot_words,
                           uint32_t *unit)
{
    assert(slot_words > 0);
    assert(line < SLICE_LINES);
    for (uint32_t i = 0; i < SLICE_LINE_UNITS; i += slot_words) {
        if (pool->units[line] & pool_mask(i, slot_words)) continue;
        *unit = line * SLICE_LINE_UNITS + i;
        return true;
    }
    return false;
}

/* Mark a small slot, and keep the sets of free and partial lines. */
static void pool_mark_small(struct pool *pool, uint32_t unit, uint32_t slot_words)
{
    assert(unit < POOL_UNITS);
    const uint32_t line = unit / SLICE_LINE_UNITS;
    uint32_t next = 0;
    assert((pool->units[line] & pool_mask(unit, slot_words)) == 0);
    pool->units[line] |= pool_mask(unit, slot_words);
    pool_set_bit(pool->free_lines, line, false);
    pool_set_bit(pool->partial[pool_size_index(slot_words)], line,
                 pool_line_room(pool, line, slot_words, &next));
}

static void pool_mark_lines(struct pool *pool, uint32_t unit, uint32_t slot_words)
{
    assert(unit + slot_words <= POOL_UNITS);
    assert(unit % SLICE_LINE_UNITS == 0);
    assert(slot_words % SLICE_LINE_UNITS == 0);
    for (uint32_t i = 0; i < slot_words / SLICE_LINE_UNITS; i++) {
        const uint32_t line = unit / SLICE_LINE_UNITS + i;
        assert(pool->units[line] == 0);
        pool->units[line] = UINT8_MAX;
        pool_set_bit(pool->free_lines, line, false);
    }
}

/* The units are any numbers from a file. */
EVH_INTERNAL bool pool_claim(struct segment *segment, uint32_t relative, uint32_t unit,
                             uint32_t slot_words)
{
    assert(slot_words > 0);
    struct pool *pool = pool_find(segment, relative);
    if (!pool || !base_in_range(unit, slot_words, POOL_UNITS)) return false;
    if (slot_words >= SLICE_LINE_UNITS) {
        if (unit % SLICE_LINE_UNITS) return false;
        for (uint32_t i = 0; i < slot_words / SLICE_LINE_UNITS; i++)
            if (pool->units[unit / SLICE_LINE_UNITS + i]) return false;
        pool_mark_lines(pool, unit, slot_words);
        return true;
    }
    if (unit % slot_words) return false;
    const uint32_t line = unit / SLICE_LINE_UNITS;
    if (pool->units[line] & pool_mask(unit, slot_words)) return false;
    pool_mark_small(pool, unit, slot_words);
    return true;
}

/* ---- taking ---- */

/* The lowest `count` free lines in a row, inside one word of the set. */
static bool pool_find_lines(const struct pool *pool, uint32_t count, uint32_t *line)
{
    assert(count > 0);
    assert(count <= SLICE_MIRROR_BYTES / SLICE_LINE_BYTES);
    for (uint32_t i = 0; i < POOL_WORDS; i++) {
        uint64_t starts = pool->free_lines[i];
        for (uint32_t k = 1; k < count && starts; k++) starts &= pool->free_lines[i] >> k;
        if (!starts) continue;
        *line = i * 64 + base_lowest_bit(starts);
        return true;
    }
    return false;
}

static bool pool_take_lines(struct segment *segment, uint32_t slot_words, uint32_t id,
                            struct pool **found, uint32_t *unit)
{
    assert(slot_words % SLICE_LINE_UNITS == 0);
    assert(id > 0);
    uint32_t line = 0;
    const uint32_t count = slot_words / SLICE_LINE_UNITS;
    for (struct pool *pool = segment->pools; pool; pool = pool->next) {
        if (!pool_find_lines(pool, count, &line)) continue;
        pool_mark_lines(pool, line * SLICE_LINE_UNITS, slot_words);
        for (uint32_t i = 0; i < count; i++) pool->owners[line + i] = id;
        *found = pool;
        *unit = line * SLICE_LINE_UNITS;
        return true;
    }
    return false;
}

/* A line with room for a small slot: of the cache's own if `id` is not 0, else anybody's. */
static bool pool_find_partial(const struct segment *segment, uint32_t slot_words, uint32_t id,
                              struct pool **found, uint32_t *unit)
{
    assert(segment->pools != NULL);
    assert(slot_words < SLICE_LINE_UNITS);
    const uint32_t size_index = pool_size_index(slot_words);
    uint32_t tries = 0;
    for (struct pool *pool = segment->pools; pool; pool = pool->next)
        for (uint32_t i = 0; i < POOL_WORDS; i++)
            for (uint64_t set = pool->partial[size_index][i]; set; set &= set - 1) {
                const uint32_t line = i * 64 + base_lowest_bit(set);
                if (id && pool->owners[line] != id) {
                    if (++tries == POOL_TRIES) return false;
                    continue;
                }
                *found = pool;
                return pool_line_room(pool, line, slot_words, unit);
            }
    return false;
}

/* The line that the cache's last slot of the size was taken from. */
static bool pool_find_hinted(const struct segment *segment, const struct cache *cache,
                             uint32_t slot_words, struct pool **found, uint32_t *unit)
{
    assert(slot_words < SLICE_LINE_UNITS);
    assert(cache->id > 0);
    const struct slot_hint *hint = &cache->hints[pool_size_index(slot_words)];
    const struct pool *pool = segment->pools;
    while (pool && pool != hint->pool) pool = pool->next;
    if (!pool || pool->owners[hint->line] != cache->id) return false;
    const uint64_t partial = pool->partial[pool_size_index(slot_words)][hint->line / 64];
    if (!(partial >> hint->line % 64 & 1)) return false;
    *found = hint->pool;
    return pool_line_room(pool, hint->line, slot_words, unit);
}

static bool pool_find_free_line(const struct segment *segment, uint32_t id, struct pool **found,
                                uint32_t *unit)
{
    assert(segment->pools != NULL);
    assert(id > 0);
    uint32_t line = 0;
    for (struct pool *pool = segment->pools; pool; pool = pool->next) {
        if (!pool_find_lines(pool, 1, &line)) continue;
        pool->owners[line] = id;
        *found = pool;
        *unit = line * SLICE_LINE_UNITS;
        return true;
    }
    return false;
}

static bool pool_take_small(struct segment *segment, struct cache *cache, uint32_t slot_words,
                            struct pool **found, uint32_t *unit, bool share)
{
    assert(slot_words < SLICE_LINE_UNITS);
    assert(cache->id > 0);
    const bool got = pool_find_hinted(segment, cache, slot_words, found, unit) ||
                     pool_find_partial(segment, slot_words, cache->id, found, unit) ||
                     pool_find_free_line(segment, cache->id, found, unit) ||
                     (share && pool_find_partial(segment, slot_words, 0, found, unit));
    if (!got) return false;
    pool_mark_small(*found, *unit, slot_words);
    cache->hints[pool_size_index(slot_words)] =
        (struct slot_hint){.pool = *found, .line = *unit / SLICE_LINE_UNITS};
    return true;
}

EVH_INTERNAL bool pool_add(evh_heap *heap, struct segment *segment)
{
    assert(segment->pools != NULL);
    const uint64_t slice = runs_take_in(heap, segment);
    if (slice == 0) return false;
    assert(slice / SEGMENT_SLICES == segment->number);
    if (!pool_new(segment, slice, (uint32_t)(slice % SEGMENT_SLICES), 0)) {
        runs_give(heap, slice, 1);
        return false;
    }
    slices_set_descriptor(heap, slice, HEAP_BITMAP);
    return true;
}

EVH_INTERNAL uint32_t pool_take(evh_heap *heap, struct segment *segment, struct cache *cache,
                                uint32_t slot_words)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(slot_words > 0);
    struct pool *pool = NULL;
    uint32_t unit = 0;
    for (unsigned try = 0; try < 2; try++) {
        const bool got = slot_words < SLICE_LINE_UNITS
                             ? pool_take_small(segment, cache, slot_words, &pool, &unit, true)
                             : pool_take_lines(segment, slot_words, cache->id, &pool, &unit);
        if (got) return pool->relative << 13 | unit;
        if (try == 0 && !pool_add(heap, segment)) break;
    }
    return POOL_NONE;
}

EVH_INTERNAL void pool_give(evh_heap *heap, struct segment *segment, const uint64_t *bits,
                            uint32_t slot_words)
{
    assert(bits != NULL);
    assert(heap_lock_is_taken(&heap->slices.lock));
    const uint64_t offset = (uint64_t)((const unsigned char *)bits - heap->view.base);
    struct pool *pool = segment->pools;
    while (pool && pool->slice != offset >> SLICE_SHIFT) pool = pool->next;
    assert(pool != NULL);
    const uint32_t unit = (uint32_t)(offset % SLICE_BYTES) / 8;
    const uint32_t line = unit / SLICE_LINE_UNITS;
    if (slot_words >= SLICE_LINE_UNITS) {
        for (uint32_t i = 0; i < slot_words / SLICE_LINE_UNITS; i++) {
            assert(pool->units[line + i] == UINT8_MAX);
            pool->units[line + i] = 0;
            pool_set_bit(pool->free_lines, line + i, true);
        }
        return;
    }
    const uint8_t mask = pool_mask(unit, slot_words);
    assert((pool->units[line] & mask) == mask);
    pool->units[line] &= (uint8_t)~mask;
    pool_set_bit(pool->free_lines, line, pool->units[line] == 0);
    pool_set_bit(pool->partial[pool_size_index(slot_words)], line, pool->units[line] != 0);
}

EVH_INTERNAL uint64_t *pool_bits(evh_heap *heap, const struct segment *segment, uint32_t slot)
{
    assert(segment != NULL);
    const struct pool *pool = pool_find(segment, slot_relative(slot));
    assert(pool != NULL);
    assert(pool->slice < slices_count(heap->state.heap_bytes));
    unsigned char *bytes = heap->view.base + (pool->slice << SLICE_SHIFT);
    return (uint64_t *)(void *)bytes + slot_unit(slot);
}
