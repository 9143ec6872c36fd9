/* typed.c -- blocks that carry the number of their type.
 *
 * They lie in slices of their own, taken by one cache that is the heap's and no thread's, so that
 * the threads' caches need no second bin for each class and their fast paths no test. Whoever wants
 * a typed block takes that cache's lock. Freed, it looks to every thread like a block that another
 * thread allocated: it goes to the slice's mirror, and back to the cache when that runs dry.
 *
 * Invariants
 *  1. Slices of the typed cache are typed, and no others are; no thread's cache ever adopts one.
 *  2. A block's number is written while the lock is held, before anybody has its address.
 */
#include "heap/heap.h"

static evh_status typed_allowed(evh_heap *heap, uint32_t type, size_t size)
{
    if (size > SIZE_MAX / 2) size = SIZE_MAX / 2; /* refused all the same */
    const evh_status status = allocate_check(heap, size ? size + SLICE_TYPE_BYTES : 0);
    if (status) return status;
    assert(heap != NULL);
    assert(size > 0);
    if (type == 0)
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: a block of type 0", heap_path(heap));
    if (heap->live || heap->compact || heap->has_magazines)
        return base_fail(EVH_MODE, NO_OFFSET, "%s: blocks carry no types in a %s", heap_path(heap),
                         heap->live ? "live heap" : "heap in a small buffer");
    return EVH_OK;
}

static void *typed_take(evh_heap *heap, uint64_t size, uint64_t *usable)
{
    assert(size > SLICE_TYPE_BYTES);
    assert(heap->compact == NULL);
    if (size > HEAP_MEDIUM_MAX) {
        *usable = base_round_up(size, SLICE_BYTES) - SLICE_TYPE_BYTES;
        return large_allocate(heap, size, SLICE_BYTES, true);
    }
    const uint32_t class_index = size_class_of(size);
    struct cache *cache = threads_typed_cache(heap);
    *usable = size_classes[class_index].block_bytes - SLICE_TYPE_BYTES;
    return cache ? heap_raw_allocate_in(cache, class_index) : NULL;
}

void *evh_malloc_typed(evh_heap *heap, uint32_t type, size_t size)
{
    uint64_t usable = 0;
    if (typed_allowed(heap, type, size)) return NULL;
    heap_lock_take(&heap->slices.typed_lock);
    unsigned char *block = typed_take(heap, size + SLICE_TYPE_BYTES, &usable);
    if (block) memcpy(block + usable, &type, sizeof type);
    heap_lock_drop(&heap->slices.typed_lock);
    assert(!block || usable >= size);
    return block;
}

void *evh_new(evh_heap *heap, uint32_t type)
{
    if (heap_writable(heap)) return NULL;
    assert(heap->is_writable);
    const evh_type *found = evh_type_get(heap, type);
    assert(heap != NULL);
    if (!found) {
        (void)base_fail(EVH_NOT_FOUND, NO_OFFSET, "%s: no type has the number %u", heap_path(heap),
                        type);
        return NULL;
    }
    assert(found->size > 0);
    void *block = evh_malloc_typed(heap, type, found->size);
    if (block) memset(block, 0, found->size);
    return block;
}

uint32_t evh_type_of(evh_heap *heap, const void *block)
{
    struct slice_place place;
    if (!heap || heap->live || heap->compact || !block) return 0;
    const uint64_t offset = evh_ref_to(heap, block).offset;
    if (offset == 0 || slices_find(heap, offset, &place)) return 0;
    assert(place.size > 0);
    assert(place.slice != NULL);
    return slice_type(place.slice, block, place.size);
}

void *typed_resize(evh_heap *heap, void *block, uint64_t old_size, size_t size)
{
    assert(old_size > 0);
    assert(size > 0);
    if (size <= old_size && size > old_size / 2) return block;
    void *moved = evh_malloc_typed(heap, evh_type_of(heap, block), size);
    if (!moved) return size <= old_size ? block : NULL;
    assert(moved != block);
    assert(evh_usable_size(heap, moved) >= size);
    memcpy(moved, block, base_min(old_size, size));
    evh_free(heap, block);
    return moved;
}
