/* slices_runs.c -- free slices: found first fit, taken, given back.
 *
 * Every loaded segment has a bitmap of its free slices, so neighbours merge by nature. The search
 * goes over the bitmaps from the lowest address, which keeps the heap dense and its end free; a
 * hint skips the full segments at the front. Runs cross segments. Slices whose space was given back
 * (holes) are taken only when nothing else is left, before the heap grows.
 */
#include "heap/checked.h"

/* A run of free slices while it is looked for. */
struct runs_search {
    uint64_t count;
    uint64_t alignment;
    bool in_one_segment;
    uint64_t start;  /* of the present run */
    uint64_t length; /* 0: there is none */
};

static void runs_extend(struct runs_search *search, uint64_t slice, uint64_t length)
{
    assert(length > 0);
    assert(search->length == 0 || search->start + search->length == slice);
    if (search->length == 0) search->start = slice;
    search->length += length;
}

/* Whether the present run is enough; `*first` is where to take. */
static bool runs_fits(const struct runs_search *search, uint64_t *first)
{
    assert(base_is_power_of_two(search->alignment));
    if (search->length < search->count) return false;
    const uint64_t aligned = base_round_up(search->start, search->alignment);
    const uint64_t before = aligned - search->start;
    *first = aligned;
    assert(search->count > 0);
    return before <= search->length && search->length - before >= search->count;
}

/* Go over the runs in 64 slices beginning with `slice`. */
static bool runs_search_word(struct runs_search *search, uint64_t slice, uint64_t free,
                             uint64_t *first)
{
    assert(first != NULL);
    assert(slice % 64 == 0);
    uint32_t bit = 0;
    while (bit < 64) {
        const uint64_t rest = free >> bit;
        if (rest & 1) {
            const uint32_t ones = ~rest ? base_lowest_bit(~rest) : 64;
            const uint32_t length = ones < 64 - bit ? ones : 64 - bit;
            runs_extend(search, slice + bit, length);
            if (runs_fits(search, first)) return true;
            bit += length;
        } else {
            search->length = 0;
            bit += rest ? base_lowest_bit(rest) : 64 - bit;
        }
    }
    return false;
}

static bool runs_search_segment(struct runs_search *search, const struct segment *segment,
                                bool with_holes, uint64_t *first)
{
    assert(first != NULL);
    assert(segment != NULL);
    assert(segment->free_count <= SEGMENT_SLICES);
    for (uint32_t i = 0; i < SLICE_WORDS; i++) {
        const uint64_t free = segment->free[i] & (with_holes ? UINT64_MAX : ~segment->holes[i]);
        if (free == 0) {
            search->length = 0;
            continue;
        }
        if (runs_search_word(search, segment->number * SEGMENT_SLICES + i * 64, free, first))
            return true;
    }
    return false;
}

/* First fit over the loaded segments. 0: none. */
static uint64_t runs_find(evh_heap *heap, struct runs_search search, bool with_holes)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    struct heap_slices *slices = &heap->slices;
    const uint64_t segments = slices_segment_count(slices_count(heap->state.heap_bytes));
    assert(base_is_power_of_two(search.alignment));
    uint64_t first = 0;
    bool is_front = true; /* every loaded segment so far was full */
    for (uint64_t i = slices->free_hint; i < segments; i++) {
        const struct segment *segment = slices->segments[i];
        if (!segment || segment->free_count == 0) {
            search.length = 0;
            if (is_front) slices->free_hint = i + 1;
            continue;
        }
        is_front = false;
        if (search.in_one_segment) search.length = 0;
        if (runs_search_segment(&search, segment, with_holes, &first)) return first;
    }
    return 0;
}

/* Give the holes of a run their space again. */
static evh_status runs_fill_holes(evh_heap *heap, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(count > 0);
    for (uint64_t slice = first; slice < first + count; slice++) {
        if (!runs_is_hole(heap, slice)) continue;
        /* A private copy needs no space in the file. */
        if (heap->mode != EVH_DURABLE || !region_has_file(heap->region)) continue;
        const uint64_t offset = slice << SLICE_SHIFT;
        const int error = os->allocate(heap->region->file, offset, SLICE_BYTES);
        if (error)
            return base_fail_os(error, offset, "%s: cannot allocate a slice that was given back",
                                heap_path(heap));
    }
    return EVH_OK;
}

EVH_INTERNAL void runs_mark_taken(evh_heap *heap, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(heap_lock_is_taken(&heap->slices.lock));
    for (uint64_t slice = first; slice < first + count; slice++) {
        struct segment *segment = heap->slices.segments[slice / SEGMENT_SLICES];
        const uint32_t index = slice % SEGMENT_SLICES;
        const uint64_t bit = 1ull << index % 64;
        assert(segment->free[index / 64] & bit);
        assert(segment->free_count > 0);
        segment->free[index / 64] &= ~bit;
        segment->holes[index / 64] &= ~bit;
        segment->free_count--;
    }
    if (heap->debug) annotate_taken(heap, first, count);
}

EVH_INTERNAL bool runs_is_free(evh_heap *heap, uint64_t slice)
{
    assert(heap->slices.reserved != NULL);
    const struct segment *segment = heap->slices.segments[slice / SEGMENT_SLICES];
    const uint32_t index = slice % SEGMENT_SLICES;
    assert(slice < slices_count(heap->state.heap_bytes));
    return segment && (segment->free[index / 64] >> index % 64 & 1);
}

EVH_INTERNAL bool runs_is_hole(evh_heap *heap, uint64_t slice)
{
    assert(slice < slices_count(heap->state.heap_bytes));
    const struct segment *segment = heap->slices.segments[slice / SEGMENT_SLICES];
    const uint32_t index = slice % SEGMENT_SLICES;
    assert(segment != NULL);
    return segment->holes[index / 64] >> index % 64 & 1;
}

EVH_INTERNAL uint64_t runs_take_loaded(evh_heap *heap, uint64_t count, uint64_t alignment,
                                       bool in_one_segment)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(count > 0);
    const struct runs_search search = {
        .count = count, .alignment = alignment, .in_one_segment = in_one_segment};
    const uint64_t first = runs_find(heap, search, false);
    if (first) runs_mark_taken(heap, first, count);
    return first;
}

EVH_INTERNAL bool runs_load_more(evh_heap *heap, evh_status *status)
{
    assert(status != NULL);
    struct heap_slices *slices = &heap->slices;
    const uint64_t segments = slices_segment_count(slices_count(heap->state.heap_bytes));
    assert(heap_lock_is_taken(&slices->lock));
    *status = EVH_OK;
    while (slices->unloaded_hint < segments && slices->segments[slices->unloaded_hint])
        slices->unloaded_hint++;
    if (slices->unloaded_hint == segments) return false;
    *status = slices_load(heap, slices->unloaded_hint);
    return *status == EVH_OK;
}

EVH_INTERNAL uint64_t runs_take(evh_heap *heap, uint64_t count, uint64_t alignment,
                                bool in_one_segment)
{
    assert(count > 0);
    assert(heap_lock_is_taken(&heap->slices.lock));
    evh_status status = EVH_OK;
    const struct runs_search search = {
        .count = count, .alignment = alignment, .in_one_segment = in_one_segment};
    uint64_t first = runs_take_loaded(heap, count, alignment, in_one_segment);
    while (!first && runs_load_more(heap, &status))
        first = runs_take_loaded(heap, count, alignment, in_one_segment);
    if (first) return first;
    if (status) return 0;

    first = runs_find(heap, search, true);
    if (!first) {
        if (grow_heap(heap, count, alignment, in_one_segment)) return 0;
        first = runs_find(heap, search, true);
        if (NEVER(!first)) return 0;
    }
    if (runs_fill_holes(heap, first, count)) return 0;
    runs_mark_taken(heap, first, count);
    return first;
}

EVH_INTERNAL bool runs_take_at(evh_heap *heap, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(count > 0);
    for (uint64_t slice = first; slice < first + count; slice++) {
        if (slice == slices_count(heap->state.heap_bytes) && !grow_to(heap, first + count))
            return false;
        if (!heap->slices.segments[slice / SEGMENT_SLICES] &&
            slices_load(heap, slice / SEGMENT_SLICES))
            return false;
        if (!runs_is_free(heap, slice)) return false;
    }
    if (runs_fill_holes(heap, first, count)) return false;
    runs_mark_taken(heap, first, count);
    return true;
}

EVH_INTERNAL uint64_t runs_take_in(evh_heap *heap, struct segment *segment)
{
    assert(segment != NULL);
    assert(heap_lock_is_taken(&heap->slices.lock));
    uint64_t first = 0;
    for (unsigned holes = 0; holes < 2 && !first; holes++)
        for (uint32_t i = 0; i < SLICE_WORDS && !first; i++) {
            uint64_t free = segment->free[i] & (holes ? UINT64_MAX : ~segment->holes[i]);
            if (i == 0) free &= ~1ull; /* in a descriptor's slot, 0 means the metadata slice */
            if (free) first = segment->number * SEGMENT_SLICES + i * 64 + base_lowest_bit(free);
        }
    if (!first || runs_fill_holes(heap, first, 1)) return 0;
    assert(first % SEGMENT_SLICES != 0);
    runs_mark_taken(heap, first, 1);
    return first;
}

EVH_INTERNAL void runs_give(evh_heap *heap, uint64_t first, uint64_t count)
{
    assert(first > 0);
    struct heap_slices *slices = &heap->slices;
    assert(heap_lock_is_taken(&slices->lock));
    assert(count > 0);
    for (uint64_t slice = first; slice < first + count; slice++) {
        struct segment *segment = slices->segments[slice / SEGMENT_SLICES];
        const uint32_t index = slice % SEGMENT_SLICES;
        assert(!(segment->free[index / 64] >> index % 64 & 1));
        segment->free[index / 64] |= 1ull << index % 64;
        segment->free_count++;
    }
    slices->free_hint = base_min(slices->free_hint, first / SEGMENT_SLICES);
}
