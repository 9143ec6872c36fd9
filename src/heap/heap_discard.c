/* heap_discard.c -- memory that holds no live block goes back to the system: in heaps in memory.
 *
 * Free slices go as they are. In a slice of blocks, a page goes if no live block reaches into it;
 * what is there reads as zero afterwards, and a block that is free has no content to lose. (A page
 * of a durable heap stays: giving parts of slices back would need a mark for each.)
 *
 * Other threads may go on meanwhile. Whoever takes a free slice needs the lock, which is held here;
 * and in a slice of blocks only its owner allocates, so that others' slices are left alone, unless
 * the caller says that all other threads are still. Frees do no harm: they make more pages dead.
 */
#include "heap/heap.h"

enum {
    DISCARD_SLICES_MIN = 256, /* 16 MiB: smaller heaps grow as they are */
    DISCARD_GROWTH = 8,       /* looked at again when the heap has grown by an eighth */
};

struct discard {
    evh_heap *heap;
    uint64_t start; /* of the present run of dead pages */
    uint64_t end;
    uint64_t bytes;
    int error; /* the first of the system's refusals; nothing more is tried after it */
};

/* Give the present run back: whole pages of the system's, which may be larger than ours. */
static void discard_run(struct discard *discard)
{
    assert(discard->start <= discard->end);
    assert(discard->end % PAGE_BYTES == 0);
    const uint64_t page = base_max(os->page_bytes(), PAGE_BYTES);
    assert(page <= SLICE_BYTES);
    const uint64_t start = base_round_up(discard->start, page);
    const uint64_t end = base_round_down(discard->end, page);
    if (start < end && !discard->error) {
        discard->error = os->discard(discard->heap->view.base + start, end - start);
        if (!discard->error) discard->bytes += end - start;
    }
    discard->start = discard->end = 0;
}

/* [offset, offset + size) holds nothing. Called in ascending order. */
static void discard_add(struct discard *discard, uint64_t offset, uint64_t size)
{
    assert(offset > 0);
    assert(offset >= discard->end);
    if (discard->end != offset) {
        discard_run(discard);
        discard->start = offset;
    }
    discard->end = offset + size;
}

/* Whether one of the blocks [first, final] of the slice is live. */
static bool discard_has_live(const evh_heap *heap, const struct slice *slice, uint64_t first,
                             uint64_t final)
{
    assert(first <= final);
    assert(final < slice->block_count);
    for (uint64_t word = first / 64; word <= final / 64; word++) {
        uint64_t live = remote_live_bits(heap, slice, (uint32_t)word);
        if (word == first / 64) live &= UINT64_MAX << first % 64;
        if (word == final / 64) live &= UINT64_MAX >> (63 - final % 64);
        if (live) return true;
    }
    return false;
}

static void discard_pages(struct discard *discard, const struct slice *slice, uint64_t number)
{
    assert(slice->block_bytes > 0);
    assert(number > 0);
    const uint64_t size = (uint64_t)size_class_slices(slice->class_index) << SLICE_SHIFT;
    for (uint64_t page = 0; page < size; page += PAGE_BYTES) {
        const uint64_t first = page / slice->block_bytes;
        const uint64_t final =
            base_min((page + PAGE_BYTES - 1) / slice->block_bytes, slice->block_count - 1u);
        if (first <= final && discard_has_live(discard->heap, slice, first, final)) continue;
        discard_add(discard, (number << SLICE_SHIFT) + page, PAGE_BYTES);
    }
}

/* Whether the slice is of blocks, and nobody allocates from it meanwhile: it is nobody's, and the
 * lock is held, or this thread's. What this thread allocates from next is left alone. */
static bool discard_may_look(const struct slice *slice, const struct cache *cache)
{
    assert(cache != NULL);
    if (slice->kind != HEAP_SMALL && slice->kind != HEAP_MEDIUM) return false;
    const struct cache *owner = slice_owner(slice);
    assert(slice->bits != NULL);
    if (owner == NULL) return true;
    const uint64_t number = (uint64_t)(slice - cache->heap->slices.table);
    return owner == cache && cache->bins[slice->class_index].slice != number;
}

/* Everything that is dead. The lock is taken for one segment after the other. */
static void discard_all(struct discard *discard, const struct cache *cache, bool is_still)
{
    evh_heap *heap = discard->heap;
    struct heap_slices *slices = &heap->slices;
    assert(!heap_lock_is_taken(&slices->lock) || !is_still);
    bool is_over = false;
    for (uint64_t segment = 0; !is_over; segment++) {
        heap_lock_take(&slices->lock);
        const uint64_t end = slices_count(heap->state.heap_bytes);
        const uint64_t first = segment * SEGMENT_SLICES;
        const uint64_t behind = base_min(first + SEGMENT_SLICES, end);
        is_over = behind == end;
        for (uint64_t number = base_max(first, 1); number < behind; number++) {
            if (!slices->segments[segment]) break;
            const struct slice *slice = &slices->table[number];
            const bool has_blocks = slice->kind == HEAP_SMALL || slice->kind == HEAP_MEDIUM;
            if (runs_is_free(heap, number))
                discard_add(discard, number << SLICE_SHIFT, SLICE_BYTES);
            else if (has_blocks && (is_still || discard_may_look(slice, cache)))
                discard_pages(discard, slice, number);
        }
        discard_run(discard);
        heap_lock_drop(&slices->lock);
    }
}

EVH_INTERNAL evh_status heap_discard(evh_heap *heap, bool is_still, uint64_t *freed_bytes)
{
    assert(heap->mode == EVH_MEMORY);
    assert(heap->compact == NULL);
    *freed_bytes = 0;
    if (heap->region->is_borrowed) return EVH_OK; /* the caller's to give */
    struct cache *cache = threads_attach(heap);
    if (!cache) return evh_last_error()->status;
    (void)owners_reclaim(cache);
    struct discard discard = {.heap = heap};
    discard_all(&discard, cache, is_still);
    *freed_bytes = discard.bytes;
    if (!discard.error) return EVH_OK;
    return base_fail_os(discard.error, NO_OFFSET, "%s: cannot give memory back", heap_path(heap));
}

/* ---- before the heap grows ---- */

/* Whether giving back may pay, by the counts: slices with blocks hold more that is idle than
 * blocks. (Less idle, and the same is in use again soon: a fifth of the time of threads that come
 * and go.) Under the lock. */
static bool discard_pays(evh_heap *heap, const struct cache *cache)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    struct heap_slices *slices = &heap->slices;
    const uint64_t end = slices_count(heap->state.heap_bytes);
    uint64_t used = 0, unused = 0;
    if (end < base_max(slices->discard_end, DISCARD_SLICES_MIN)) return false;
    slices->discard_end = end + end / DISCARD_GROWTH;
    for (uint64_t number = 1; number < end; number++) {
        const struct slice *slice = &slices->table[number];
        if (!discard_may_look(slice, cache)) continue;
        const uint64_t blocks = slice_used(slice);
        used += blocks * slice->block_bytes;
        /* Less has hardly a page to itself. */
        const uint64_t rest = (slice->block_count - blocks) * slice->block_bytes;
        if (rest >= 2 * PAGE_BYTES) unused += rest;
    }
    return unused > used;
}

EVH_INTERNAL void heap_discard_before_growth(struct cache *cache)
{
    assert(cache->heap != NULL);
    evh_heap *heap = cache->heap;
    if (heap->mode != EVH_MEMORY || heap->region->is_borrowed) return;
    heap_lock_take(&heap->slices.lock);
    const bool pays = discard_pays(heap, cache);
    heap_lock_drop(&heap->slices.lock);
    struct discard discard = {.heap = heap};
    if (pays) discard_all(&discard, cache, false);
    assert(!heap->compact);
}
