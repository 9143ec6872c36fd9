/* live_free.c -- frees in a live heap, and the calls that allocate or free and change a ref in one
 * step.
 *
 * A thread frees blocks of its own slices with plain stores. All others go into the mirror beside
 * the bitmap, in the image: after that store the block is free, whoever dies. That the owner hears
 * of it (pending, announced) is a matter of two bits that are set again by the next free.
 */
#include "heap/heap.h"

/* ---- finding ---- */

/* The head of the run that `slice` is in, as far as blocks may begin there. */
static evh_status free_find_head(struct live *live, uint64_t *slice, uint64_t *descriptor)
{
    assert(slice != NULL);
    assert(descriptor != NULL);
    const uint64_t *place = live_descriptor(live, *slice);
    if (!place) return evh_last_error()->status;
    *descriptor = base_load(place, __ATOMIC_ACQUIRE);
    if (descriptor_kind(*descriptor) != HEAP_TAIL) return EVH_OK;
    const uint64_t distance = descriptor_count(*descriptor);
    if (distance == 0 || distance >= *slice) return EVH_BAD_POINTER;
    place = live_descriptor(live, *slice - distance);
    if (!place) return evh_last_error()->status;
    const uint64_t head = base_load(place, __ATOMIC_ACQUIRE);
    const uint32_t kind = descriptor_kind(head);
    if (kind == HEAP_LARGE && descriptor_count(head) > distance) return EVH_BAD_POINTER;
    if (kind != HEAP_MEDIUM || distance >= HEAP_MEDIUM_SLICES) {
        *descriptor = HEAP_FREE; /* an orphan */
        return EVH_OK;
    }
    *slice -= distance;
    *descriptor = head;
    return EVH_OK;
}

static evh_status free_find_in_blocks(struct live *live, uint64_t offset, struct live_place *place)
{
    assert(place->head > 0);
    const uint32_t class_index = descriptor_class(place->descriptor);
    if (class_index >= HEAP_CLASS_COUNT ||
        place->descriptor != live_blocks_descriptor(live, place->head, class_index))
        return base_fail(EVH_CORRUPT, place->head << SLICE_SHIFT,
                         "%s: slice %llu: descriptor 0x%016llx cannot be", heap_path(live->heap),
                         (unsigned long long)place->head, (unsigned long long)place->descriptor);
    const struct size_class *class = &size_classes[class_index];
    bool is_block = false;
    const uint64_t within = offset - (place->head << SLICE_SHIFT);
    const uint64_t index = size_class_divide(within, class->reciprocal, &is_block);
    if (!is_block || index >= class->block_count) return EVH_BAD_POINTER;
    place->index = (uint32_t)index;
    place->size = class->block_bytes;
    place->bits = (uint64_t *)(void *)live_place_of(live, place->head);
    assert(place->bits != NULL);
    /* The mirror first: a fold clears the bitmap first, so who finds the mirror folded finds the
     * bitmap cleared. In the other order a block that is being folded would look live. */
    const uint64_t freed = base_load(&live_mirror(place->bits)[index / 64], __ATOMIC_ACQUIRE);
    const uint64_t bits = base_load(&place->bits[index / 64], __ATOMIC_RELAXED);
    return (bits & ~freed) >> index % 64 & 1 ? EVH_OK : EVH_DOUBLE_FREE;
}

EVH_INTERNAL evh_status live_find_block(struct live *live, uint64_t offset,
                                        struct live_place *place)
{
    assert(place != NULL);
    *place = (struct live_place){.head = offset >> SLICE_SHIFT};
    if (place->head == 0 || place->head >= live_end(live)) return EVH_BAD_POINTER;
    const evh_status status = free_find_head(live, &place->head, &place->descriptor);
    if (status) return status;
    assert(place->head <= offset >> SLICE_SHIFT);
    switch (descriptor_kind(place->descriptor)) {
    case HEAP_SMALL:
    case HEAP_MEDIUM: return free_find_in_blocks(live, offset, place);
    case HEAP_LARGE:
        place->size = (uint64_t)descriptor_count(place->descriptor) << SLICE_SHIFT;
        if (offset % SLICE_BYTES) return EVH_BAD_POINTER;
        return live_check_run(live, place->head, descriptor_count(place->descriptor));
    case HEAP_FREE: return offset % 16 ? EVH_BAD_POINTER : EVH_DOUBLE_FREE;
    default: return EVH_BAD_POINTER;
    }
}

/* ---- freeing ---- */

/* In a slice that is the cache's own. */
static evh_status free_own(struct cache *cache, struct slice *slice, uint32_t index)
{
    assert(slice_owner(slice) == cache);
    assert(index < slice->block_count);
    uint64_t *word = &slice->bits[index / 64];
    const uint64_t bit = 1ull << index % 64;
    const uint64_t bits = base_load(word, __ATOMIC_RELAXED);
    if (UNLIKELY(!(bits & bit) || (base_load(live_mirror(word), __ATOMIC_RELAXED) & bit)))
        return EVH_DOUBLE_FREE;
    base_store(word, bits & ~bit, __ATOMIC_RELEASE);
    struct bin *bin = &cache->bins[slice->class_index];
    if (bin->word == word)
        bin->mask |= bit; /* claimed again: still used */
    else if (UNLIKELY(--slice->countdown == 0))
        owners_settle(cache, slice);
    return EVH_OK;
}

/* The owner of a slice with bits in its mirror hears of them. */
static void free_announce(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    assert(slice < live->slice_max);
    live_set_pending(live, slice);
    const uint64_t owner = base_load(live_owner(live, slice), __ATOMIC_SEQ_CST);
    const uint32_t thread_slot = live_tag_slot(owner);
    if (owner == 0 || thread_slot >= LIVE_THREADS_MAX) return; /* who adopts it folds */
    uint64_t *announced = &live->threads[thread_slot].announced;
    const uint64_t bit = 1ull << slice / SEGMENT_SLICES % 64;
    if (!(base_load(announced, __ATOMIC_SEQ_CST) & bit))
        (void)base_fetch_or(announced, bit, __ATOMIC_SEQ_CST);
}

static evh_status free_remote(struct live *live, const struct live_place *place)
{
    assert(place->bits != NULL);
    const uint64_t bit = 1ull << place->index % 64;
    uint64_t *mirror = &live_mirror(place->bits)[place->index / 64];
    assert(place->head > 0);
    if (base_fetch_or(mirror, bit, __ATOMIC_SEQ_CST) & bit) return EVH_DOUBLE_FREE;
    free_announce(live, place->head);
    return EVH_OK;
}

EVH_INTERNAL void live_free_quietly(struct live *live, uint64_t offset)
{
    assert(offset >= SLICE_BYTES || live->segments != NULL);
    struct live_place place;
    if (live_find_block(live, offset, &place)) return;
    assert(place.head > 0);
    if (place.bits) {
        (void)free_remote(live, &place);
        return;
    }
    /* Its tails are orphans from here on. */
    uint64_t *descriptor = live_descriptor(live, place.head);
    (void)base_compare_exchange(descriptor, &place.descriptor, HEAP_FREE, false, __ATOMIC_ACQ_REL,
                                __ATOMIC_RELAXED);
}

/* A block that may be anywhere. */
static evh_status free_anywhere(struct cache *cache, uint64_t offset)
{
    assert(cache->tag != 0);
    struct live *live = cache->heap->live;
    struct live_place place;
    const evh_status status = live_find_block(live, offset, &place);
    if (status) return status;
    if (!place.bits) return live_large_free(live, cache, place.head);
    assert(place.head > 0);
    if (base_load(live_owner(live, place.head), __ATOMIC_RELAXED) == cache->tag)
        return free_own(cache, &cache->heap->slices.table[place.head], place.index);
    return free_remote(live, &place);
}

/* The calling thread's cache, with a thread slot. */
static struct cache *free_cache(evh_heap *heap)
{
    assert(heap->live != NULL);
    if (LIKELY(heap_thread.stamp == heap->stamp)) return heap_thread.cache;
    const evh_status status = heap_writable(heap);
    assert(heap->mode == EVH_LIVE);
    return status ? NULL : threads_attach(heap);
}

EVH_INTERNAL evh_status live_free(evh_heap *heap, uint64_t offset)
{
    assert(heap->live != NULL);
    struct cache *cache = free_cache(heap);
    if (UNLIKELY(!cache)) return evh_last_error()->status;
    struct live *live = heap->live;
    assert(cache->heap == heap);
    const uint64_t number = offset >> SLICE_SHIFT;
    if (UNLIKELY(number == 0 || number >= live_end(live))) return EVH_BAD_POINTER;
    if (base_load(live_owner(live, number), __ATOMIC_RELAXED) == cache->tag) {
        struct slice *slice = &heap->slices.table[number];
        bool is_block = false;
        const uint64_t index =
            size_class_divide(offset % SLICE_BYTES, slice->reciprocal, &is_block);
        if (LIKELY(is_block && index < slice->block_count))
            return free_own(cache, slice, (uint32_t)index);
        return EVH_BAD_POINTER;
    }
    return free_anywhere(cache, offset);
}

/* ---- in one step with a ref ---- */

EVH_INTERNAL evh_status live_free_intended(struct cache *cache, uint64_t offset, uint64_t second)
{
    assert(offset != 0);
    assert(cache->tag != 0);
    struct live *live = cache->heap->live;
    live_set_freeing(live, cache->thread_slot, true);
    evh_status status = free_anywhere(cache, offset);
    if (second && !status) status = free_anywhere(cache, second);
    live_intent_end(&live->intents[cache->thread_slot]);
    live_set_freeing(live, cache->thread_slot, false);
    return status;
}

/* The offset of a ref that an intent can name; 0 if it is not in the heap. */
static uint64_t free_slot_offset(const evh_heap *heap, const evh_ref *slot)
{
    assert(slot != NULL);
    const uint64_t offset = evh_ref_to(heap, slot).offset;
    assert(heap->live != NULL);
    return base_in_range(offset, sizeof *slot, live_end(heap->live) << SLICE_SHIFT) ? offset : 0;
}

/* A block of a class: its intent, its bit, its contents, its name. */
static evh_status free_malloc_small(struct cache *cache, struct live_intent *intent, evh_ref *slot,
                                    const struct live_request *request)
{
    assert(request->size > 0);
    assert(request->size <= HEAP_MEDIUM_MAX);
    const uint32_t class_index = size_class_aligned(request->size, request->alignment);
    struct bin *bin = &cache->bins[class_index];
    const evh_status status = bin->mask ? EVH_OK : owners_refill(cache, class_index);
    if (status) return status;
    const uint64_t bit = bin->mask & (~bin->mask + 1);
    unsigned char *block = bin->blocks + (size_t)base_lowest_bit(bit) * bin->block_bytes;
    const uint64_t offset = (uint64_t)(block - cache->heap->view.base);
    if (!PLANTED(17) && !PLANTED(19)) base_store(&intent->block, offset, __ATOMIC_RELEASE);
    bin->mask ^= bit;
    base_store(bin->word, base_load(bin->word, __ATOMIC_RELAXED) | bit, __ATOMIC_RELEASE);
    if (PLANTED(19)) base_store(&intent->block, offset, __ATOMIC_RELEASE); /* too late */
    if (request->fill) request->fill(block, request->context);
    base_store(&slot->offset, offset, __ATOMIC_RELEASE);
    return EVH_OK;
}

EVH_INTERNAL evh_status live_malloc_into(evh_heap *heap, evh_ref *slot,
                                         const struct live_request *request)
{
    assert(slot != NULL);
    assert(heap->live != NULL);
    struct cache *cache = free_cache(heap);
    if (!cache) return evh_last_error()->status;
    if (request->size == 0)
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: a block of 0 bytes", heap_path(heap));
    struct live_intent *intent = &heap->live->intents[cache->thread_slot];
    live_intent_begin(intent, LIVE_INTENT_NAMED, free_slot_offset(heap, slot), 0);
    if (request->size <= HEAP_MEDIUM_MAX) {
        const evh_status status = free_malloc_small(cache, intent, slot, request);
        if (!status) base_store(&intent->block, 0, __ATOMIC_RELEASE);
        return status;
    }
    void *block = live_large_allocate(heap, request->size, SLICE_BYTES, &intent->block);
    if (!block) return evh_last_error()->status;
    const uint64_t offset = evh_ref_to(heap, block).offset;
    if (request->fill) request->fill(block, request->context);
    base_store(&slot->offset, offset, __ATOMIC_RELEASE);
    base_store(&intent->block, 0, __ATOMIC_RELEASE);
    live_let_go(heap->live, offset >> SLICE_SHIFT);
    return EVH_OK;
}

EVH_INTERNAL evh_status live_malloc_to(evh_heap *heap, evh_ref *slot, size_t size)
{
    const struct live_request request = {.size = size, .alignment = 16};
    assert(slot != NULL);
    assert(heap->live != NULL);
    return live_malloc_into(heap, slot, &request);
}

EVH_INTERNAL evh_status live_thread_slot(evh_heap *heap, uint32_t *thread_slot)
{
    assert(thread_slot != NULL);
    assert(heap->live != NULL);
    const struct cache *cache = free_cache(heap);
    if (!cache) return evh_last_error()->status;
    *thread_slot = cache->thread_slot;
    return EVH_OK;
}

EVH_INTERNAL evh_status live_free_from(evh_heap *heap, evh_ref *slot, uint64_t next)
{
    assert(slot != NULL);
    assert(next == 0 || next != slot->offset);
    struct cache *cache = free_cache(heap);
    if (!cache) return evh_last_error()->status;
    struct live *live = heap->live;
    struct live_place place;
    const uint64_t offset = base_load(&slot->offset, __ATOMIC_ACQUIRE);
    if (offset == 0) return EVH_OK;
    const evh_status status = live_find_block(live, offset, &place);
    if (status) return status;
    struct live_intent *intent = &live->intents[cache->thread_slot];
    assert(base_load(&intent->block, __ATOMIC_RELAXED) == 0);
    live_intent_begin(intent, LIVE_INTENT_NAMED, free_slot_offset(heap, slot), 0);
    base_store(&intent->block, offset, __ATOMIC_RELEASE);
    base_store(&slot->offset, next, __ATOMIC_RELEASE);
    return live_free_intended(cache, offset, 0);
}
