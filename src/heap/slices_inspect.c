/* slices_inspect.c -- questions about slices and blocks: what begins here, what is live, what is
 * free.
 *
 * Everything is answered from loaded segments; payload is never read. Remote frees that are not
 * folded yet count as free.
 */
#include "heap/heap.h"

/* ---- one block ---- */

static evh_status inspect_find_block(evh_heap *heap, struct slice *slice, uint64_t within,
                                     struct slice_place *place)
{
    assert(slice->bits != NULL);
    bool is_block = false;
    assert(within < (uint64_t)SLICE_BYTES * HEAP_MEDIUM_SLICES);
    const uint64_t index = size_class_divide(within, slice->reciprocal, &is_block);
    if (!is_block || index >= slice->block_count) return EVH_BAD_POINTER;
    assert(index / 64 < slice->word_count);
    const uint64_t live = remote_live_bits(heap, slice, (uint32_t)(index / 64));
    if (!(live >> index % 64 & 1)) return EVH_DOUBLE_FREE;
    *place = (struct slice_place){.slice = slice, .index = (uint32_t)index};
    place->size = slice_usable(slice, slice->block_bytes);
    return EVH_OK;
}

static evh_status inspect_find_live(evh_heap *heap, uint64_t offset, struct slice_place *place)
{
    struct live_place found;
    const evh_status status = live_find_block(heap->live, offset, &found);
    assert(heap->live != NULL);
    if (status) return status;
    assert(found.size > 0);
    *place = (struct slice_place){.slice = &heap->slices.table[found.head],
                                  .index = found.index,
                                  .size = found.size,
                                  .is_large = found.bits == NULL};
    return EVH_OK;
}

EVH_INTERNAL evh_status slices_find(evh_heap *heap, uint64_t offset, struct slice_place *place)
{
    assert(place != NULL);
    const uint64_t end_bytes = base_load(&heap->view.end_bytes, __ATOMIC_RELAXED);
    assert(heap->compact == NULL);
    if (offset >= end_bytes) return EVH_BAD_POINTER;
    if (heap->live) return inspect_find_live(heap, offset, place);
    uint64_t number = offset >> SLICE_SHIFT;
    const evh_status status = slices_need(heap, number / SEGMENT_SLICES);
    if (status) return status;
    struct slice *slice = &heap->slices.table[number];
    uint32_t kind = base_load(&slice->kind, __ATOMIC_RELAXED);
    if (kind == HEAP_TAIL) {
        /* Of a medium run: its blocks may begin here. Its head is in this segment. */
        if (slice->run >= HEAP_MEDIUM_SLICES) return EVH_BAD_POINTER;
        slice -= slice->run;
        number -= (uint64_t)(&heap->slices.table[number] - slice);
        kind = base_load(&slice->kind, __ATOMIC_RELAXED);
        if (kind != HEAP_MEDIUM) return EVH_BAD_POINTER;
    }
    const uint64_t within = offset - (number << SLICE_SHIFT);
    switch (kind) {
    case HEAP_SMALL:
    case HEAP_MEDIUM: return inspect_find_block(heap, slice, within, place);
    case HEAP_LARGE:
        if (within) return EVH_BAD_POINTER;
        *place = (struct slice_place){.slice = slice, .is_large = true};
        place->size = slice_usable(slice, (uint64_t)slice->run << SLICE_SHIFT);
        return EVH_OK;
    case HEAP_FREE: /* whatever it was when a block began there */
        return offset % 16 ? EVH_BAD_POINTER : EVH_DOUBLE_FREE;
    default: return EVH_BAD_POINTER;
    }
}

EVH_INTERNAL bool slices_block_at(evh_heap *heap, uint64_t offset, uint64_t *size)
{
    struct slice_place place;
    assert(size != NULL);
    *size = 0;
    if (slices_find(heap, offset, &place)) return false;
    assert(place.size > 0);
    *size = place.size;
    return true;
}

/* ---- all blocks ---- */

static evh_block inspect_block(const evh_heap *heap, const struct slice *slice, uint64_t offset,
                               uint64_t block_bytes)
{
    assert(offset < heap_end_bytes(heap));
    assert(block_bytes > 0);
    unsigned char *address = heap->view.base + offset;
    const uint64_t size = slice_usable(slice, block_bytes);
    return (evh_block){.address = address,
                       .ref = {offset},
                       .size = size,
                       .type = slice_type(slice, address, size)};
}

/* Visit the live blocks of one slice or medium run. The callback may free them, and with the
 * last the slice; its bitmap's memory stays, all zero. */
static bool inspect_walk_slice(evh_heap *heap, uint64_t number, evh_visit *visit, void *context)
{
    assert(visit != NULL);
    const struct slice *slice = &heap->slices.table[number];
    const uint32_t word_count = slice->word_count;
    const uint64_t block_bytes = slice->block_bytes;
    assert(word_count <= SLICE_MIRROR_WORDS);
    for (uint32_t word = 0; word < word_count; word++) {
        if (slice->kind != HEAP_SMALL && slice->kind != HEAP_MEDIUM) break;
        for (uint64_t live = remote_live_bits(heap, slice, word); live; live &= live - 1) {
            const uint64_t index = word * 64u + base_lowest_bit(live);
            const uint64_t offset = (number << SLICE_SHIFT) + index * block_bytes;
            const evh_block block = inspect_block(heap, slice, offset, block_bytes);
            if (!visit(&block, context)) return false;
        }
    }
    return true;
}

EVH_INTERNAL evh_status slices_walk(evh_heap *heap, evh_visit *visit, void *context)
{
    assert(heap->compact == NULL);
    assert(visit != NULL);
    if (heap->live) return live_walk(heap, visit, context);
    const uint64_t end = slices_count(heap->state.heap_bytes);
    /* No other thread allocates or frees. */
    for (struct cache *cache = slices_first_cache(heap); cache; cache = cache->next_of_heap)
        magazine_give_all(cache);
    for (uint64_t number = 0; number < end; number++) {
        const evh_status status = slices_need(heap, number / SEGMENT_SLICES);
        if (status) return status;
        const struct slice *slice = &heap->slices.table[number];
        if (slice->kind == HEAP_SMALL || slice->kind == HEAP_MEDIUM) {
            if (!inspect_walk_slice(heap, number, visit, context)) return EVH_OK;
        } else if (slice->kind == HEAP_LARGE) {
            const uint64_t run = slice->run;
            const evh_block block =
                inspect_block(heap, slice, number << SLICE_SHIFT, run << SLICE_SHIFT);
            assert(run > 0);
            if (!visit(&block, context)) return EVH_OK;
            number += run - 1;
        }
    }
    return EVH_OK;
}

/* Whether a segment that others are changing is sound at least once: what is read of it is not of
 * one moment. */
static bool inspect_audits_clean(evh_heap *heap, uint64_t segment)
{
    assert(heap->live != NULL);
    enum { AUDIT_TRIES = 50 };
    for (unsigned i = 0; i < AUDIT_TRIES; i++) {
        evh_status first = EVH_OK;
        (void)slices_audit(heap, segment, NULL, NULL, &first);
        if (!first) return true;
        assert(first == EVH_CORRUPT || first == EVH_NO_MEMORY);
    }
    return false;
}

EVH_INTERNAL evh_status slices_check(evh_heap *heap, evh_report *report, void *context)
{
    assert(heap->compact == NULL);
    evh_status first = EVH_OK;
    if (heap->live) {
        if (live_is_beyond(heap->live)) return live_refuse_beyond(heap->live);
        const uint64_t end = live_end(heap->live);
        base_store(&heap->state.heap_bytes, end << SLICE_SHIFT, __ATOMIC_RELAXED);
    }
    const uint64_t segments = slices_segment_count(slices_count(heap->state.heap_bytes));
    assert(segments > 0);
    for (uint64_t i = 0; i < segments; i++) {
        if (heap->live && inspect_audits_clean(heap, i)) continue;
        if (!slices_audit(heap, i, report, context, &first)) break;
    }
    return first;
}

/* ---- counting ---- */

static void inspect_count_blocks(evh_heap *heap, const struct slice *slice, evh_info *info)
{
    assert(slice->bits != NULL);
    assert(slice->word_count <= SLICE_MIRROR_WORDS);
    uint64_t live = 0;
    for (uint32_t word = 0; word < slice->word_count; word++)
        live += base_count_bits(remote_live_bits(heap, slice, word));
    assert(live <= slice->block_count);
    info->live_blocks += live;
    info->live_bytes += live * slice->block_bytes;
}

static void inspect_end_run(evh_info *info, uint64_t *run)
{
    assert(info != NULL);
    if (*run == 0) return;
    info->free_runs++;
    info->free_bytes += *run << SLICE_SHIFT;
    info->largest_free_bytes = base_max(info->largest_free_bytes, *run << SLICE_SHIFT);
    assert(info->largest_free_bytes <= info->free_bytes);
    *run = 0;
}

/* Count slices [first, end) of one segment. Under the lock: no slice changes its kind. */
static void inspect_count(evh_heap *heap, uint64_t first, uint64_t end, uint64_t *run,
                          evh_info *info)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(first < end);
    for (uint64_t number = first; number < end; number++) {
        const struct slice *slice = &heap->slices.table[number];
        if (slice->kind != HEAP_FREE) inspect_end_run(info, run);
        switch (slice->kind) {
        case HEAP_FREE: ++*run; break;
        case HEAP_SMALL:
        case HEAP_MEDIUM: inspect_count_blocks(heap, slice, info); break;
        case HEAP_LARGE:
            info->live_blocks++;
            info->live_bytes += (uint64_t)slice->run << SLICE_SHIFT;
            break;
        case HEAP_TAIL: break;
        default: info->metadata_bytes += SLICE_BYTES; break;
        }
    }
}

/* The journal's extents that lie behind the heap's end: no descriptor tells of them. */
static uint64_t inspect_extents_behind(const evh_heap *heap, uint64_t heap_end)
{
    assert(heap->region != NULL);
    assert(heap_end > 0);
    uint64_t slices = 0;
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent e = region_extent_at(heap->region, i);
        const uint64_t end = (uint64_t)e.first_slice + e.slice_count;
        const uint64_t first = base_max(e.first_slice, heap_end);
        if (end > first) slices += end - first;
    }
    return slices << SLICE_SHIFT;
}

/* What lies in magazines is not live, whatever its bits say. Threads may move blocks meanwhile. */
static void inspect_count_magazines(evh_heap *heap, evh_info *info)
{
    assert(heap->has_magazines);
    assert(info->live_bytes >= info->live_blocks);
    for (const struct cache *cache = slices_first_cache(heap); cache; cache = cache->next_of_heap)
        for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
            const uint64_t count = base_min(magazine_count(cache, i), info->live_blocks);
            const uint64_t size = count * size_classes[i].block_bytes;
            info->live_blocks -= count;
            info->live_bytes -= base_min(size, info->live_bytes);
        }
}

EVH_INTERNAL evh_status slices_info(evh_heap *heap, evh_info *info)
{
    assert(heap->compact == NULL);
    uint64_t run = 0;
    assert(info != NULL);
    if (heap->live) return live_info(heap, info);
    /* Others may allocate meanwhile, and the heap may grow; it does not shrink. */
    bool is_last = false;
    for (uint64_t segment = 0; !is_last; segment++) {
        const evh_status status = slices_need(heap, segment);
        if (status) return status;
        heap_lock_take(&heap->slices.lock);
        const uint64_t heap_end = slices_count(heap->state.heap_bytes);
        const uint64_t first = segment * SEGMENT_SLICES;
        const uint64_t end = base_min(heap_end, first + SEGMENT_SLICES);
        inspect_count(heap, first, end, &run, info);
        heap_lock_drop(&heap->slices.lock);
        is_last = end == heap_end;
        if (!is_last) continue;
        info->metadata_bytes += inspect_extents_behind(heap, heap_end);
        info->heap_bytes = heap_end << SLICE_SHIFT; /* it may have grown since this began */
    }
    inspect_end_run(info, &run);
    if (heap->has_magazines) inspect_count_magazines(heap, info);
    info->threads = base_load(&heap->slices.cache_count, __ATOMIC_RELAXED);
    return EVH_OK;
}

/* ---- free runs, for trimming ---- */

EVH_INTERNAL evh_status slices_each_free_run(evh_heap *heap,
                                             evh_status (*run)(uint64_t first_slice, uint64_t count,
                                                               void *context),
                                             void *context)
{
    assert(heap->compact == NULL);
    const uint64_t end = slices_count(heap->state.heap_bytes);
    uint64_t count = 0;
    assert(run != NULL);
    for (uint64_t i = 0; i < slices_segment_count(end); i++) {
        const evh_status status = slices_need(heap, i);
        if (status) return status;
    }
    /* All other threads are still: what their caches keep empty is free, too. */
    if (heap->is_writable) {
        for (struct cache *cache = slices_first_cache(heap); cache; cache = cache->next_of_heap)
            (void)owners_release_empty(cache);
        (void)owners_release_loaded(heap);
    }
    for (uint64_t number = 0; number <= end; number++) {
        if (number < end && runs_is_free(heap, number) && !runs_is_hole(heap, number)) {
            count++;
            continue;
        }
        if (count > 0) {
            const evh_status status = run(number - count, count, context);
            if (status) return status;
        }
        count = 0;
    }
    return EVH_OK;
}

EVH_INTERNAL void slices_set_hole(evh_heap *heap, uint64_t first_slice, uint64_t count, bool hole)
{
    assert(first_slice > 0);
    assert(count > 0);
    heap_lock_take(&heap->slices.lock);
    for (uint64_t number = first_slice; number < first_slice + count; number++) {
        struct segment *segment = heap->slices.segments[number / SEGMENT_SLICES];
        const uint32_t index = number % SEGMENT_SLICES;
        if (!segment) continue; /* it will be loaded from the image */
        assert(segment->free[index / 64] >> index % 64 & 1);
        if (hole)
            segment->holes[index / 64] |= 1ull << index % 64;
        else
            segment->holes[index / 64] &= ~(1ull << index % 64);
    }
    heap_lock_drop(&heap->slices.lock);
}
