/* live_large.c -- runs of slices of a live heap that are one block each; and trimming.
 *
 * A run lives and dies by the descriptor of its head, which goes from LARGE to something else only
 * by compare-exchange: of two who free it, one succeeds. Its tails are written before its head, and
 * are orphans, which anybody may take, as long as no head reaches them.
 */
#include "heap/heap.h"

static void live_large_tails(struct live *live, uint64_t first, uint64_t from, uint64_t to)
{
    assert(first > 0);
    assert(from > 0);
    for (uint64_t i = from; i < to; i++)
        base_store(live_descriptor(live, first + i), descriptor_of_run(HEAP_TAIL, (uint32_t)i),
                   __ATOMIC_RELEASE);
}

static void live_large_let_go(struct live *live, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(count > 0);
    for (uint64_t i = 0; i < count; i++) live_let_go(live, first + i);
}

EVH_INTERNAL void *live_large_allocate(evh_heap *heap, size_t size, size_t alignment,
                                       uint64_t *note)
{
    assert(size > 0);
    assert(base_is_power_of_two(alignment));
    struct cache *cache = threads_attach(heap);
    if (!cache) return NULL;
    struct live *live = heap->live;
    const uint64_t count = ((uint64_t)size + SLICE_BYTES - 1) >> SLICE_SHIFT;
    if (count > UINT32_MAX) {
        (void)base_fail(EVH_LIMIT, NO_OFFSET, "%s: a block of %llu bytes", heap_path(heap),
                        (unsigned long long)size);
        return NULL;
    }
    const uint64_t first = live_find_run(cache, count, base_max(alignment >> SLICE_SHIFT, 1));
    if (!first) return NULL;
    live_large_tails(live, first, 1, count);
    if (note) base_store(note, first << SLICE_SHIFT, __ATOMIC_RELEASE);
    base_store(live_descriptor(live, first), descriptor_of_run(HEAP_LARGE, (uint32_t)count),
               __ATOMIC_RELEASE);
    /* Whoever notes it keeps the head claimed as long as the note stands: should he die, and the
     * block be freed before he is reaped, no other block begins there. */
    if (!note) live_let_go(live, first);
    if (count > 1) live_large_let_go(live, first + 1, count - 1);
    return heap->view.base + (first << SLICE_SHIFT);
}

EVH_INTERNAL evh_status live_large_free(struct live *live, const struct cache *cache, uint64_t head)
{
    assert(head > 0);
    assert(cache->tag != 0);
    uint64_t *descriptor = live_descriptor(live, head);
    if (!descriptor) return evh_last_error()->status;
    uint64_t before = base_load(descriptor, __ATOMIC_ACQUIRE);
    if (descriptor_kind(before) != HEAP_LARGE) return EVH_DOUBLE_FREE;
    const uint64_t count = descriptor_count(before);
    const evh_status status = live_check_run(live, head, count);
    if (status) return status;
    if (!base_compare_exchange(descriptor, &before, HEAP_FREE, false, __ATOMIC_ACQ_REL,
                               __ATOMIC_RELAXED))
        return EVH_DOUBLE_FREE;
    live_hint_taken(live, head, false);
    live_hint_free_from(live, head);
    live_free_tails(live, cache, head, 1, count);
    return EVH_OK;
}

/* The block's length, by its owner in the program. */
static bool live_large_set_count(struct live *live, uint64_t head, uint64_t from, uint64_t to)
{
    assert(from > 0);
    assert(to > 0);
    uint64_t before = descriptor_of_run(HEAP_LARGE, (uint32_t)from);
    return base_compare_exchange(live_descriptor(live, head), &before,
                                 descriptor_of_run(HEAP_LARGE, (uint32_t)to), false,
                                 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

EVH_INTERNAL bool live_large_resize(evh_heap *heap, uint64_t head, size_t size)
{
    assert(head > 0);
    assert(size > HEAP_MEDIUM_MAX);
    struct cache *cache = threads_attach(heap);
    if (!cache) return false;
    struct live *live = heap->live;
    const uint64_t count = ((uint64_t)size + SLICE_BYTES - 1) >> SLICE_SHIFT;
    const uint64_t old = descriptor_count(base_load(live_descriptor(live, head), __ATOMIC_ACQUIRE));
    if (count == old) return true;
    if (count < old) {
        if (!live_large_set_count(live, head, old, count)) return false;
        live_free_tails(live, cache, head, count, old);
        return true;
    }
    uint64_t stopped_at = 0;
    const uint64_t more = count - old;
    if (count > UINT32_MAX || !base_in_range(head, count, live_end(live))) return false;
    if (!live_claim_run(live, cache, head + old, more, &stopped_at)) return false;
    if (live_fill_holes(live, head + old, more)) {
        live_release_run(live, head + old, more);
        return false;
    }
    live_large_tails(live, head, old, count);
    const bool done = live_large_set_count(live, head, old, count);
    if (!done) {
        live_release_run(live, head + old, more);
        return false;
    }
    for (uint64_t i = old; i < count; i++) live_hint_taken(live, head + i, true);
    live_large_let_go(live, head + old, more);
    return true;
}

/* ---- trimming ---- */

/* Give the space of a claimed run back: marked first, so that whoever takes it asks for space. */
static evh_status live_trim_run(struct live *live, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(count > 0);
    for (uint64_t i = 0; i < count; i++)
        base_store(live_descriptor(live, first + i),
                   HEAP_FREE | (uint64_t)HEAP_HOLE << HEAP_ATTRIBUTE_SHIFT, __ATOMIC_RELEASE);
    const uint64_t offset = first << SLICE_SHIFT;
    const int error = os->punch(live->heap->region->file, offset, count << SLICE_SHIFT);
    live_release_run(live, first, count);
    if (!error) return EVH_OK;
    return base_fail_os(error, offset, "%s: cannot give space back", heap_path(live->heap));
}

EVH_INTERNAL evh_status live_trim(evh_heap *heap, uint64_t *freed_bytes)
{
    assert(heap->live != NULL);
    assert(freed_bytes != NULL);
    struct cache *cache = threads_attach(heap);
    if (!cache) return evh_last_error()->status;
    struct live *live = heap->live;
    (void)live_sweep(cache, 0, NULL);
    const uint64_t end = live_end(live);
    evh_status status = EVH_OK;
    uint64_t count = 0;
    for (uint64_t slice = 1; slice <= end && !status; slice++) {
        uint64_t stopped_at = 0;
        /* In a segment that is damaged nothing is free. */
        const uint64_t *descriptor = slice < end ? live_descriptor(live, slice) : NULL;
        const bool is_free = descriptor && base_load(descriptor, __ATOMIC_RELAXED) == HEAP_FREE &&
                             live_claim_run(live, cache, slice, 1, &stopped_at);
        if (is_free) {
            count++;
            continue;
        }
        if (count > 0) {
            status = live_trim_run(live, slice - count, count);
            if (!status) *freed_bytes += count << SLICE_SHIFT;
        }
        count = 0;
    }
    return status;
}
