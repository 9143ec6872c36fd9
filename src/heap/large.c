/* large.c -- runs of slices that are one block each: live by their descriptor, without a bitmap.
 *
 * A run's tails are written before its head, and its head is taken back before its tails, so that
 * one store makes the block live or free. Runs are taken first fit, may cross segments, and are
 * resized in place where the slices behind them are free.
 */
#include "heap/heap.h"

static uint64_t large_slices(size_t size)
{
    assert(size > 0);
    assert(size <= REGION_SIZE_MAX);
    return (size + SLICE_BYTES - 1) >> SLICE_SHIFT;
}

/* Slices [from, to) of the run at `first` become its tails. */
static void large_write_tails(evh_heap *heap, uint64_t first, uint64_t from, uint64_t to)
{
    assert(first > 0);
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(from > 0);
    for (uint64_t i = from; i < to; i++) {
        heap->slices.table[first + i].run = (uint32_t)i;
        slices_set_descriptor(heap, first + i, descriptor_of_run(HEAP_TAIL, (uint32_t)i));
    }
}

static void large_publish(evh_heap *heap, uint64_t first, uint64_t count, bool is_typed)
{
    assert(first + count <= slices_count(heap->state.heap_bytes));
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(count > 0);
    assert(count <= UINT32_MAX);
    heap->slices.table[first].run = (uint32_t)count;
    heap->slices.table[first].is_typed = is_typed;
    slices_set_descriptor(
        heap, first, descriptor_typed(descriptor_of_run(HEAP_LARGE, (uint32_t)count), is_typed));
}

/* Slices [from, to) of the run at `first` are free. */
static void large_give(evh_heap *heap, uint64_t first, uint64_t from, uint64_t to)
{
    assert(first > 0);
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(from < to);
    for (uint64_t i = from; i < to; i++) {
        heap->slices.table[first + i].run = 0;
        slices_set_descriptor(heap, first + i, HEAP_FREE);
    }
    runs_give(heap, first + from, to - from);
}

/* Slices for a run: free ones, then reclaimed ones, then new ones. Takes the lock and keeps it. */
static uint64_t large_take(struct cache *cache, uint64_t count, uint64_t alignment)
{
    assert(count > 0);
    assert(base_is_power_of_two(alignment));
    evh_heap *heap = cache->heap;
    struct heap_slices *slices = &heap->slices;
    evh_status status = EVH_OK;
    heap_lock_take(&slices->lock);
    uint64_t first = runs_take_loaded(heap, count, alignment, false);
    while (!first && runs_load_more(heap, &status))
        first = runs_take_loaded(heap, count, alignment, false);
    if (first || status) return first;
    heap_lock_drop(&slices->lock);
    if (!owners_reclaim(cache)) heap_discard_before_growth(cache);
    heap_lock_take(&slices->lock);
    first = runs_take(heap, count, alignment, false);
    assert(first % alignment == 0);
    return first;
}

EVH_INTERNAL void *large_allocate(evh_heap *heap, size_t size, size_t alignment, bool is_typed)
{
    assert(size > 0);
    assert(base_is_power_of_two(alignment));
    struct cache *cache = threads_attach(heap);
    if (!cache || owners_check_dirty(heap)) return NULL;
    const uint64_t count = large_slices(size);
    const uint64_t first = large_take(cache, count, base_max(alignment >> SLICE_SHIFT, 1));
    if (first) {
        large_write_tails(heap, first, 1, count);
        large_publish(heap, first, count, is_typed);
    }
    heap_lock_drop(&heap->slices.lock);
    return first ? heap->view.base + (first << SLICE_SHIFT) : NULL;
}

/* All segments that the run reaches into: their loading validates it from both ends. */
static evh_status large_need(evh_heap *heap, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(heap_lock_is_taken(&heap->slices.lock));
    const uint64_t final = (first + count - 1) / SEGMENT_SLICES;
    assert(count > 0);
    for (uint64_t i = first / SEGMENT_SLICES; i <= final; i++) {
        if (heap->slices.segments[i]) continue;
        const evh_status status = slices_load(heap, i);
        if (status) return status;
    }
    return EVH_OK;
}

EVH_INTERNAL evh_status large_free(evh_heap *heap, uint64_t first)
{
    assert(first > 0);
    assert(first < heap->slices.slice_max);
    evh_status status = EVH_DOUBLE_FREE;
    struct heap_slices *slices = &heap->slices;
    heap_lock_take(&slices->lock);
    if (slices->table[first].kind == HEAP_LARGE) { /* still */
        const uint64_t count = slices->table[first].run;
        status = large_need(heap, first, count);
        if (!status) large_give(heap, first, 0, count);
    }
    heap_lock_drop(&slices->lock);
    assert(status != EVH_OK || first != 0);
    return status;
}

EVH_INTERNAL bool large_resize(evh_heap *heap, uint64_t first, size_t size)
{
    assert(first > 0);
    assert(size > HEAP_MEDIUM_MAX);
    assert(!heap->slices.table[first].is_typed);
    struct heap_slices *slices = &heap->slices;
    const uint64_t count = large_slices(size);
    bool done = false;
    heap_lock_take(&slices->lock);
    const uint64_t old_count = slices->table[first].run;
    if (slices->table[first].kind != HEAP_LARGE || large_need(heap, first, old_count)) {
        done = false;
    } else if (count <= old_count) {
        large_publish(heap, first, count, false);
        if (count < old_count) large_give(heap, first, count, old_count);
        done = true;
    } else if (runs_take_at(heap, first + old_count, count - old_count)) {
        large_write_tails(heap, first, old_count, count);
        large_publish(heap, first, count, false);
        done = true;
    }
    assert(!done || slices->table[first].run == count);
    heap_lock_drop(&slices->lock);
    return done;
}
