/* fast.h -- the fast paths of allocating and freeing, for every interface that leads to them.
 *
 * Estimate, and what makes them common: a thread keeps, per size class, the free bits of one bitmap
 * word (64 blocks), so 63 of 64 allocations are a few loads, one store into the bitmap and one into
 * the mask. A free finds its slice by the offset's upper bits; if the thread owns the slice, and it
 * has no remote frees, one multiplication finds the bit and proves that a block begins there, one
 * test that it is live, one store frees it. Neither writes into the block.
 *
 * Whatever needs another check has no owned slice, an empty bin, or an end of 0. The slow functions
 * are tail calls that begin anew from the arguments, so that the fast paths save no registers.
 */
#ifndef EVERHEAP_HEAP_FAST_H
#define EVERHEAP_HEAP_FAST_H

#include "heap/heap.h"

#define FAST_INLINE static inline __attribute__((always_inline))

/* Hand out the lowest free block of the bin, which has one: the store into the bitmap is what makes
 * it live. */
FAST_INLINE void *fast_take(struct bin *bin)
{
    assert(bin->word != NULL);
    const uint64_t mask = bin->mask;
    const uint64_t bit = mask & (~mask + 1);
    assert(mask != 0);
    const uint64_t live = __atomic_load_n(bin->word, __ATOMIC_RELAXED);
    assert((live & bit) == 0);
    bin->mask = mask ^ bit;
    __atomic_store_n(bin->word, live | bit, __ATOMIC_RELAXED);
    return bin->blocks + (size_t)base_lowest_bit(mask) * bin->block_bytes;
}

FAST_INLINE uint64_t fast_offset(const evh_heap *heap, const void *pointer)
{
    assert(heap != NULL);
    assert(heap->view.base != NULL);
    return (uint64_t)((uintptr_t)pointer - (uintptr_t)heap->view.base);
}

/* A live block of the calling thread's own. */
struct fast_place {
    struct slice *slice; /* of a MEDIUM run: its head */
    uint64_t *word;
    uint64_t bit;
};

/* Find the block `within` bytes behind the start of the slice or run. False if that needs a closer
 * look. */
FAST_INLINE bool fast_find_in(struct slice *slice, uint64_t within, const struct cache *cache,
                              struct fast_place *place)
{
    if (UNLIKELY(__atomic_load_n(&slice->owner, __ATOMIC_RELAXED) != (uintptr_t)cache))
        return false;
    /* The slice is the thread's own: its words and lists are nobody else's business. */
    bool is_block = false;
    const uint64_t index = size_class_divide(within, slice->reciprocal, &is_block);
    if (UNLIKELY(!is_block)) return false;
    place->slice = slice;
    place->word = &slice->bits[index / 64];
    place->bit = 1ull << index % 64;
    assert(index / 64 < slice->word_count);
    return LIKELY((__atomic_load_n(place->word, __ATOMIC_RELAXED) & place->bit) != 0);
}

/* Find any pointer, NULL included. */
FAST_INLINE bool fast_find(const evh_heap *heap, const void *block, const struct cache *cache,
                           struct fast_place *place)
{
    const uint64_t offset = fast_offset(heap, block);
    if (UNLIKELY(offset >= __atomic_load_n(&heap->slices.end_bytes, __ATOMIC_RELAXED)))
        return false;
    struct slice *slice = &heap->slices.table[offset >> SLICE_SHIFT];
    return fast_find_in(slice, offset % SLICE_BYTES, cache, place);
}

/* As fast_find(), of a block that begins in a tail of a MEDIUM run, where the slice has no owner of
 * its own. `heap` may be NULL. */
static inline bool fast_find_tail(const evh_heap *heap, const void *block,
                                  const struct cache *cache, struct fast_place *place)
{
    if (heap == NULL) return false;
    const uint64_t offset = fast_offset(heap, block);
    if (offset >= __atomic_load_n(&heap->slices.end_bytes, __ATOMIC_RELAXED)) return false;
    struct slice *slice = &heap->slices.table[offset >> SLICE_SHIFT];
    /* Whatever is read here of a slice that changes meanwhile: it leads to one in the table, and if
     * that is a MEDIUM run of the thread's own, it stays so. */
    if (__atomic_load_n(&slice->kind, __ATOMIC_RELAXED) != HEAP_TAIL) return false;
    const uint32_t run = __atomic_load_n(&slice->run, __ATOMIC_RELAXED);
    if (run == 0 || run >= HEAP_MEDIUM_SLICES || run > offset >> SLICE_SHIFT) return false;
    slice -= run;
    if (__atomic_load_n(&slice->kind, __ATOMIC_RELAXED) != HEAP_MEDIUM) return false;
    return fast_find_in(slice, ((uint64_t)run << SLICE_SHIFT) + offset % SLICE_BYTES, cache, place);
}

FAST_INLINE void fast_free_place(struct cache *cache, const struct fast_place *place)
{
    struct slice *slice = place->slice;
    const uint64_t live = __atomic_load_n(place->word, __ATOMIC_RELAXED);
    __atomic_store_n(place->word, live & ~place->bit, __ATOMIC_RELAXED);
    /* Back into the mask if it is the bin's word: the block is hot. Without a branch: where a class
     * has few words, it would be unpredictable. (Measured: a third of the throughput.) */
    struct bin *bin = (struct bin *)(void *)((unsigned char *)cache + slice->bin_offset);
    assert(bin == &cache->bins[slice->class_index]);
    const uint64_t other = 0 - (uint64_t)(((uintptr_t)bin->word ^ (uintptr_t)place->word) != 0);
    bin->mask |= place->bit & ~other;
    slice->countdown += (uint32_t)other;
    if (UNLIKELY(slice->countdown == 0)) owners_settle(cache, slice);
}

/* Free a block; `slow` does so where the fast path cannot. */
FAST_INLINE void fast_free(evh_heap *heap, void *block, void (*slow)(evh_heap *, void *))
{
    struct fast_place place;
    struct cache *cache = heap_thread.cache;
    if (UNLIKELY(!fast_find(heap, block, cache, &place))) {
        slow(heap, block);
        return;
    }
    fast_free_place(cache, &place);
}

/* Free a block that begins in a tail of a MEDIUM run. False if it is none of the thread's own. */
static inline bool fast_free_tail(evh_heap *heap, void *block)
{
    struct fast_place place;
    struct cache *cache = heap_thread.cache;
    if (!fast_find_tail(heap, block, cache, &place)) return false;
    fast_free_place(cache, &place);
    return true;
}

/* The size of a live block in a slice of the calling thread's own; 0 if that needs a closer
 * look. */
FAST_INLINE uint64_t fast_size(const evh_heap *heap, const void *block)
{
    struct fast_place place;
    struct cache *cache = heap_thread.cache;
    const bool is_found =
        fast_find(heap, block, cache, &place) || fast_find_tail(heap, block, cache, &place);
    return is_found ? place.slice->block_bytes : 0;
}

#endif
