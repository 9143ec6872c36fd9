/* heap_ranges.c -- where in a heap blocks may lie: what refs from the file are compared with.
 *
 * Between slice 0, the journal's extents and the heap's end lie ranges in which all is mapped. Most
 * heaps have one, and a ref is compared with that: heap_span_has(). The journal of a heap that is
 * committed to grows with it, though, and then there are ranges between its extents, and what a
 * collection consists of lies in several. Comparing with the widest one fails often, and by chance:
 * so a table says for each slice in which range it lies, and the ranges' ends are kept beside it.
 * A lookup in a map takes 9 ns with the table where it took 45 with a walk over the extents.
 *
 * The table is made when a ref is first found outside the widest range: opening a heap labels no
 * slice, and a heap without collections never has one.
 *
 * Threads look at all of this while another one lets the heap grow: then labels of slices below
 * slice_count stay, ends only rise, and slice_count is stored last. All else (a rollback, a
 * reader's refresh) has the threads still.
 */
#include "heap/compact_layout.h"
#include "heap/heap.h"

static_assert(REGION_EXTENT_MAX + 1 < UINT8_MAX, "a label is a byte");

/* Where range `number` begins: behind slice 0, or behind an extent. 0 if there is none. */
static uint64_t range_begin(const evh_heap *heap, unsigned number)
{
    assert(number <= REGION_EXTENT_MAX);
    if (number == 0) return heap->compact ? COMPACT_GRANULE_BYTES : SLICE_BYTES;
    if (!heap->journal) return 0;
    const struct region_extent extent = region_extent_at(heap->region, number - 1);
    if (extent.slice_count == 0) return 0;
    assert(extent.first_slice > 0);
    return ((uint64_t)extent.first_slice + extent.slice_count) << SLICE_SHIFT;
}

/* Where the range that begins at `begin` ends: at a journal extent, or at `end`. */
static uint64_t range_end(const evh_heap *heap, uint64_t begin, uint64_t end)
{
    assert(begin > 0);
    assert(!heap->journal || heap->region);
    for (unsigned i = 0; heap->journal && i < REGION_EXTENT_MAX; i++) {
        const struct region_extent extent = region_extent_at(heap->region, i);
        const uint64_t first = (uint64_t)extent.first_slice << SLICE_SHIFT;
        const uint64_t behind = first + ((uint64_t)extent.slice_count << SLICE_SHIFT);
        if (behind > begin) end = base_min(end, base_max(first, begin));
    }
    return base_max(begin, end);
}

/* Whether the extents that begin below `slice` are those for which slices were labelled. */
static bool ranges_are_known(const evh_heap *heap, uint64_t slice)
{
    assert(heap->journal != NULL);
    assert(heap->region != NULL);
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent now = region_extent_at(heap->region, i);
        const struct region_extent then = heap->ranges.extents[i];
        const bool is_below = (now.slice_count && now.first_slice < slice) ||
                              (then.slice_count && then.first_slice < slice);
        if (!is_below) continue;
        if (now.first_slice != then.first_slice || now.slice_count != then.slice_count)
            return false;
    }
    return true;
}

/* Label the slices below `end` with their ranges; false without memory. */
static bool ranges_label(evh_heap *heap, uint64_t end)
{
    assert(heap->journal != NULL);
    assert(end % SLICE_BYTES == 0);
    struct heap_ranges *const ranges = &heap->ranges;
    if (!ranges->labels) ranges->labels = slices_map_labels(heap);
    if (!ranges->labels) return false;
    const uint64_t slice_count = end >> SLICE_SHIFT;
    uint64_t from = base_min(ranges->slice_count, slice_count);
    if (!ranges_are_known(heap, from)) from = 0;
    if (from < ranges->slice_count) base_store(&ranges->slice_count, from, __ATOMIC_RELEASE);
    memset(ranges->labels + from, 0, slice_count - from);
    for (unsigned number = 0; number <= REGION_EXTENT_MAX; number++) {
        const uint64_t begin = range_begin(heap, number);
        if (begin == 0 || begin >= end) continue;
        const uint64_t range_slices = range_end(heap, begin, end) >> SLICE_SHIFT;
        const uint64_t first = base_max(begin >> SLICE_SHIFT, from);
        if (first < range_slices)
            memset(ranges->labels + first, (int)number + 1, range_slices - first);
        base_store(&ranges->ends[number + 1], range_slices << SLICE_SHIFT, __ATOMIC_RELAXED);
    }
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++)
        ranges->extents[i] = region_extent_at(heap->region, i);
    assert(ranges->ends[0] == 0);
    base_store(&ranges->slice_count, slice_count, __ATOMIC_RELEASE);
    return true;
}

void heap_find_span(evh_heap *heap)
{
    assert(heap->view.base != NULL);
    const uint64_t end = heap->live ? live_end(heap->live) << SLICE_SHIFT : heap_end_bytes(heap);
    uint64_t widest_begin = range_begin(heap, 0);
    uint64_t widest_bytes = 0;
    unsigned count = 0;
    for (unsigned number = 0; number <= REGION_EXTENT_MAX; number++) {
        const uint64_t begin = range_begin(heap, number);
        const uint64_t bytes = begin ? range_end(heap, begin, end) - begin : 0;
        count += bytes > 0;
        if (bytes <= widest_bytes) continue;
        widest_begin = begin;
        widest_bytes = bytes;
    }
    assert(heap->compact || widest_begin % SLICE_BYTES == 0);
    if (widest_bytes > 0) assert(widest_begin + widest_bytes <= end);
    if (count > 1 && heap->ranges.is_wanted && ranges_label(heap, end)) {
        widest_begin = heap->span_begin; /* a thread may have loaded the former length */
        widest_bytes = 0;
    } else {
        base_store(&heap->ranges.slice_count, 0, __ATOMIC_RELEASE);
    }
    base_store(&heap->span_begin, widest_begin, __ATOMIC_RELAXED);
    base_store(&heap->span_bytes, widest_bytes, __ATOMIC_RELEASE);
    const uint64_t small = base_min(widest_bytes, HEAP_SPAN_SMALL);
    base_store(&heap->span_starts, widest_bytes - small, __ATOMIC_RELEASE);
}

void heap_want_ranges(evh_heap *heap)
{
    assert(heap != NULL);
    if (!heap->journal || base_load(&heap->ranges.is_wanted, __ATOMIC_RELAXED)) return;
    assert(!heap->live);
    heap_lock_take(&heap->slices.lock);
    base_store(&heap->ranges.is_wanted, 1, __ATOMIC_RELAXED);
    heap_find_span(heap);
    heap_lock_drop(&heap->slices.lock);
}
