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

/* A relaxed load of what other threads write, as the operand of a comparison: compilers make two
 * instructions of the atomic one. Read once, aligned, of a word: on the processors that this is for
 * no different. ThreadSanitizer gets to see the atomic one. */
#if BASE_THREAD_SANITIZER || !defined(__x86_64__)
#define FAST_LOAD(pointer) base_load(pointer, __ATOMIC_RELAXED)
#else
#define FAST_LOAD(pointer) (*(pointer))
#endif

/* Hand out the lowest free block of the bin, which has one: the store into the bitmap is what makes
 * it live. */
FAST_INLINE void *fast_take(struct bin *bin)
{
    assert(bin->word != NULL);
    const uint64_t mask = bin->mask;
    assert(mask != 0);
    const uint64_t bit = mask & (~mask + 1);
    const uint64_t live = base_load(bin->word, __ATOMIC_RELAXED);
    assert((live & bit) == 0);
    bin->mask = mask ^ bit;
    base_store(bin->word, live | bit, __ATOMIC_RELAXED);
    return bin->blocks + (uint64_t)base_lowest_bit(mask) * bin->block_bytes;
}

/* Hand out the block that was freed last: the bin has one. */
FAST_INLINE void *fast_take_hot(struct bin *bin)
{
    struct hot *hot = bin->hot - 1;
    assert(hot >= bin->hot_start);
    void *block = hot->block;
    const uint64_t place = hot->place;
    uint64_t *word = hot_word(place);
    const uint64_t live = base_load(word, __ATOMIC_RELAXED);
    assert((live >> place % 64 & 1) == 0);
    bin->hot = hot;
    base_store(word, live | 1ull << place % 64, __ATOMIC_RELAXED);
    return block;
}

/* Whether a magazine is full: its end is aligned. */
FAST_INLINE bool fast_is_full(void *const *top)
{
    static_assert(MAGAZINE_SLOTS * sizeof *top == 1024, "what is looked at");
    assert(top != NULL);
    return ((uintptr_t)top & (MAGAZINE_SLOTS * sizeof *top - 1)) == 0;
}

/* Pop a block of the magazine; NULL if it is empty. The block's bit is 1 already. */
FAST_INLINE void *fast_pop(struct bin *bin)
{
    void **top = bin->top;
    assert(top != NULL);
    void *block = top[-1];
    if (UNLIKELY(block == NULL)) return NULL;
    base_store(&bin->top, top - 1, __ATOMIC_RELAXED);
    return block;
}

/* The bin of a size up to SIZE_TABLE_MAX. That of size 0 is always empty. */
FAST_INLINE struct bin *fast_bin(struct cache *cache, size_t size)
{
    assert(size <= SIZE_TABLE_MAX);
    assert(cache != NULL);
    unsigned char *bins = (unsigned char *)cache;
    static_assert(offsetof(struct cache, bins) == 0, "bins come first");
    static_assert(sizeof(struct bin) == SIZE_TABLE_UNIT, "the table counts in bins");
    return (struct bin *)(void *)(bins + size_class_table[(size + 15) / 16]);
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
    uint64_t index;   /* of the block */
    uint64_t cleared; /* what the word holds without it */
};

/* Clear bit `index` modulo 64. Whether it was 1. One instruction does both, but no compiler sees
 * it. */
FAST_INLINE bool fast_clear_bit(uint64_t *word, uint64_t index)
{
#if defined(__x86_64__)
    bool was;
    __asm__("btrq %2, %0" : "+r"(*word), "=@ccc"(was) : "r"(index));
    return was;
#else
    const uint64_t bit = 1ull << index % 64;
    const bool was = (*word & bit) != 0;
    *word &= ~bit;
    return was;
#endif
}

/* Find the block `within` bytes behind the start of a slice or run of the thread's own. False if no
 * live one begins there. */
FAST_INLINE bool fast_find_in(struct slice *slice, uint64_t within, struct fast_place *place)
{
    /* The slice is the thread's own: its words and lists are nobody else's business. */
    bool is_block = false;
    const uint64_t index = size_class_divide(within, slice->reciprocal, &is_block);
    if (UNLIKELY(!is_block)) return false;
    assert(index / 64 <= slice->word_count);
    place->slice = slice;
    place->index = index;
    place->word = &slice->bits[index / 64];
    place->cleared = base_load(place->word, __ATOMIC_RELAXED);
    return LIKELY(fast_clear_bit(&place->cleared, index));
}

/* Find any pointer, NULL included. */
FAST_INLINE bool fast_find(const evh_heap *heap, const void *block, const struct cache *cache,
                           struct fast_place *place)
{
    const uint64_t offset = fast_offset(heap, block);
    if (UNLIKELY(offset >= FAST_LOAD(&heap->slices.end_bytes))) return false;
    struct slice *slice = &heap->slices.table[offset >> SLICE_SHIFT];
    if (UNLIKELY(FAST_LOAD(&slice->owner) != (uintptr_t)cache)) return false;
    return fast_find_in(slice, offset % SLICE_BYTES, place);
}

/* Whether a block's bit in the slice's mirror is set: another thread has freed it. */
static inline bool fast_is_pending(const evh_heap *heap, const struct fast_place *place)
{
    const uint64_t number = (uint64_t)(place->slice - heap->slices.table);
    assert(number < heap->slices.slice_max);
    const uint64_t *mirror =
        (const uint64_t *)(const void *)(heap->slices.mirrors + number * SLICE_MIRROR_BYTES);
    return base_load(&mirror[place->index / 64], __ATOMIC_RELAXED) >> place->index % 64 & 1;
}

/* Where a pointer points to: a slice or run, and how far behind its start. */
struct fast_target {
    struct slice *slice;
    uint64_t within;
};

/* The slice of any pointer, of a MEDIUM run its head; false if there is none. `heap` may be
 * NULL. */
static inline bool fast_aim(const evh_heap *heap, const void *block, struct fast_target *target)
{
    if (heap == NULL) return false;
    const uint64_t offset = fast_offset(heap, block);
    if (offset >= base_load(&heap->slices.end_bytes, __ATOMIC_RELAXED)) return false;
    target->slice = &heap->slices.table[offset >> SLICE_SHIFT];
    target->within = offset % SLICE_BYTES;
    const uint32_t kind = base_load(&target->slice->kind, __ATOMIC_RELAXED);
    if (kind == HEAP_SMALL || kind == HEAP_MEDIUM) return true;
    if (kind != HEAP_TAIL) return false;
    assert(target->slice > heap->slices.table);
    /* Whatever is read here of a slice that changes meanwhile: it leads to one in the table, and
     * what holds a live block does not change. */
    const uint32_t run = base_load(&target->slice->run, __ATOMIC_RELAXED);
    if (run == 0 || run >= HEAP_MEDIUM_SLICES || run > offset >> SLICE_SHIFT) return false;
    target->slice -= run;
    target->within += (uint64_t)run << SLICE_SHIFT;
    return base_load(&target->slice->kind, __ATOMIC_RELAXED) == HEAP_MEDIUM;
}

/* As fast_find(), where that fails but no lock is needed: of a block that begins in a tail of a
 * MEDIUM run, where the slice has no owner of its own, or in a slice with remote frees. */
static inline bool fast_find_rare(const evh_heap *heap, const struct fast_target *target,
                                  const struct cache *cache, struct fast_place *place)
{
    const uint64_t owner = base_load(&target->slice->owner, __ATOMIC_RELAXED);
    if ((owner & ~(uint64_t)SLICE_PENDING) != (uintptr_t)cache) return false;
    if (!fast_find_in(target->slice, target->within, place)) return false;
    return !(owner & SLICE_PENDING) || !fast_is_pending(heap, place);
}

/* The block is live no longer. Whether that is all: it is a hot block, and still counts as used. */
FAST_INLINE bool fast_free_hot(struct cache *cache, void *block, const struct fast_place *place,
                               struct bin **bin)
{
    base_store(place->word, place->cleared, __ATOMIC_RELAXED);
    *bin = (struct bin *)(void *)((unsigned char *)cache + place->slice->bin_offset);
    assert(*bin == &cache->bins[place->slice->class_index]);
    struct hot *hot = (*bin)->hot;
    if (hot == (*bin)->hot_end) return false;
    assert(hot >= (*bin)->hot_start);
    *hot = (struct hot){block, hot_place(place->slice->bits, place->index)};
    (*bin)->hot = hot + 1;
    return true;
}

FAST_INLINE void fast_free_place(struct cache *cache, void *block, const struct fast_place *place)
{
    struct slice *slice = place->slice;
    struct bin *bin = NULL;
    if (fast_free_hot(cache, block, place, &bin)) return;
    /* Back into the mask if it is the bin's word: that is as good. Without a branch: where a class
     * has few words, it would be unpredictable. (Measured: a third of the throughput.) */
    const uint64_t is_other = bin->word != place->word;
    bin->mask |= (is_other ^ 1) << place->index % 64;
    slice->countdown -= (uint32_t)is_other;
    if (UNLIKELY(slice->countdown == 0)) owners_settle(cache, slice);
}

/* Push a block on the magazine of its slice. `full` does so where it is full, or there is none;
 * `other` where the pointer is into no slice of the thread's own. */
FAST_INLINE __attribute__((unused)) void fast_push(evh_heap *heap, void *block,
                           void (*full)(struct cache *, struct slice *, void *),
                           void (*other)(evh_heap *, void *))
{
    struct cache *cache = heap_thread.cache;
    const uint64_t offset = fast_offset(heap, block);
    if (UNLIKELY(offset >= FAST_LOAD(&heap->slices.end_bytes))) {
        other(heap, block);
        return;
    }
    struct slice *slice = &heap->slices.table[offset >> SLICE_SHIFT];
    if (UNLIKELY(FAST_LOAD(&slice->owner) != (uintptr_t)cache)) {
        other(heap, block);
        return;
    }
    struct bin *bin = (struct bin *)(void *)((unsigned char *)cache + slice->bin_offset);
    void **top = bin->top;
    if (UNLIKELY(fast_is_full(top))) {
        full(cache, slice, block);
        return;
    }
    assert(block != NULL);
    assert(bin == &cache->bins[slice->class_index]);
    *top = block;
    base_store(&bin->top, top + 1, __ATOMIC_RELAXED);
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
    fast_free_place(cache, block, &place);
}

/* Free a block of a slice that another cache owns. False: it needs a closer look. */
static inline bool fast_free_remote(evh_heap *heap, const struct fast_target *target)
{
    struct slice *slice = target->slice;
    bool is_block = false;
    assert(slice > heap->slices.table);
    assert(slice < heap->slices.table + heap->slices.slice_max);
    if (slice_owner(slice) == NULL) return false;
    const uint64_t index = size_class_divide(target->within, slice->reciprocal, &is_block);
    if (!is_block || index >= slice->block_count) return false;
    const uint64_t live = remote_live_bits(heap, slice, (uint32_t)(index / 64));
    if (!(live >> index % 64 & 1)) return false;
    return remote_free(heap, slice, (uint32_t)index) == EVH_OK;
}

/* Free a block of the thread's own in a heap with magazines: where its own is full, the block makes
 * room there, or goes back to its slice. */
static inline void fast_push_own(struct cache *cache, struct slice *slice, uint64_t within,
                                 void *block)
{
    struct fast_place place;
    const uint32_t class_index = slice->class_index;
    const struct magazine *magazine = &cache->magazines[class_index];
    assert(class_index < HEAP_CLASS_COUNT);
    const bool has_room = !fast_is_full(cache->bins[class_index].top) ||
                          magazine->packet_count < magazine->packet_max;
    if (has_room || !fast_find_in(slice, within, &place)) {
        magazine_push(cache, class_index, block);
        return;
    }
    base_store(place.word, place.cleared, __ATOMIC_RELAXED);
    if (UNLIKELY(--slice->countdown == 0)) owners_settle(cache, slice);
}

/* As fast_push(), where that fails but no lock is needed. False: it needs a closer look. */
static inline bool fast_push_rare(evh_heap *heap, void *block)
{
    struct fast_target target;
    struct cache *cache = heap_thread.cache;
    assert(cache != NULL);
    if (!cache->magazines || !fast_aim(heap, block, &target)) return false;
    if (slice_owner(target.slice) != cache) return fast_free_remote(heap, &target);
    fast_push_own(cache, target.slice, target.within, block);
    return true;
}

/* Free a block where the fast path cannot, but no lock is needed. False: it needs a closer look. */
static inline bool fast_free_rare(evh_heap *heap, void *block)
{
    struct fast_place place;
    struct fast_target target;
    struct cache *cache = heap_thread.cache;
    assert(cache != NULL);
    if (!fast_aim(heap, block, &target)) return false;
    /* What is the thread's own may look like another's while it is in another heap. */
    if (heap_thread.stamp != heap->stamp && heap_thread.caches) return false;
    if (!fast_find_rare(heap, &target, cache, &place))
        return slice_owner(target.slice) != cache && fast_free_remote(heap, &target);
    assert(place.slice->class_index < HEAP_CLASS_COUNT);
    fast_free_place(cache, block, &place);
    return true;
}

/* The size of a live block in a slice of the calling thread's own; 0 if that needs a closer
 * look. */
FAST_INLINE uint64_t fast_size(const evh_heap *heap, const void *block)
{
    struct fast_place place;
    struct fast_target target;
    struct cache *cache = heap_thread.cache;
    assert(cache != NULL);
    const bool is_found =
        fast_find(heap, block, cache, &place) ||
        (fast_aim(heap, block, &target) && fast_find_rare(heap, &target, cache, &place));
    return is_found ? place.slice->block_bytes : 0;
}

#endif
