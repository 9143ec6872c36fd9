/* allocate.c -- evh_malloc, evh_free and their family: the fast paths, and the ways off them.
 *
 * The fast paths are in fast.h. The checks of a null heap, of the caller's rights, of the compact
 * layout and of a loaded segment cost nothing there: whatever needs one has no valid stamp, no
 * owned slice, or an end of 0.
 */
#include "heap/fast.h"

#define SLOW __attribute__((noinline, cold))

/* ---- allocating ---- */

static void *allocate_class(struct cache *cache, uint32_t class_index)
{
    assert(cache->has_thread);
    assert(cache->heap != NULL);
    assert(cache->stamp == cache->heap->stamp);
    struct bin *bin = &cache->bins[class_index];
    assert(class_index < HEAP_CLASS_COUNT);
    if (UNLIKELY(cache->magazines != NULL)) {
        void *block = fast_pop(bin);
        if (block || owners_refill(cache, class_index)) return block;
        return fast_pop(bin);
    }
    const bool is_empty = bin->hot == bin->hot_start && bin->mask == 0;
    if (is_empty && owners_refill(cache, class_index)) return NULL;
    return bin->hot != bin->hot_start ? fast_take_hot(bin) : fast_take(bin);
}

EVH_INTERNAL evh_status allocate_check(evh_heap *heap, size_t size)
{
    const evh_status status = heap_writable(heap);
    if (status) return status;
    if (size == 0)
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: a block of 0 bytes", heap_path(heap));
    const uint64_t limit = heap->compact ? heap->view.end_bytes : heap->region->reserved_bytes;
    if (size <= limit) return EVH_OK;
    return base_fail(EVH_LIMIT, NO_OFFSET, "%s: a block of %llu bytes: the heap holds %llu at most",
                     heap_path(heap), (unsigned long long)size, (unsigned long long)limit);
}

static void *allocate_large(evh_heap *heap, size_t size, size_t alignment)
{
    assert(size > 0);
    assert(heap->compact == NULL);
    if (heap->live) return live_large_allocate(heap, size, alignment, NULL);
    return large_allocate(heap, size, alignment, false);
}

static SLOW void *allocate_slow(evh_heap *heap, size_t size)
{
    if (allocate_check(heap, size)) return NULL;
    if (heap->debug) return heap_debug_allocate(heap, size, 16);
    if (heap->compact) return compact_allocate(heap, size, 16);
    if (size > HEAP_MEDIUM_MAX) return allocate_large(heap, size, SLICE_BYTES);
    struct cache *cache = threads_attach(heap);
    assert(!cache || cache->heap == heap);
    return cache ? allocate_class(cache, size_class_of(size)) : NULL;
}

/* The bin is empty: by use, or because it is that of size 0. The thread's cache is valid. */
static __attribute__((noinline)) void *allocate_refill(evh_heap *heap, struct bin *bin)
{
    assert(heap != NULL);
    assert(bin->mask == 0);
    struct cache *cache = heap_thread.cache;
    const uint32_t class_index = (uint32_t)(bin - cache->bins);
    if (UNLIKELY(class_index == HEAP_CLASS_COUNT)) return allocate_slow(heap, 0);
    return allocate_class(cache, class_index);
}

/* Sizes that are not looked up. */
static __attribute__((noinline)) void *allocate_more(evh_heap *heap, size_t size)
{
    if (UNLIKELY(heap == NULL || heap_thread.stamp != heap->stamp || size > HEAP_MEDIUM_MAX))
        return allocate_slow(heap, size);
    return allocate_class(heap_thread.cache, size_class_of(size));
}

void *evh_malloc(evh_heap *heap, size_t size)
{
    if (UNLIKELY(size > SIZE_TABLE_MAX)) return allocate_more(heap, size);
    if (UNLIKELY(heap == NULL || heap_thread.stamp != heap->stamp))
        return allocate_slow(heap, size);
    struct bin *bin = fast_bin(heap_thread.cache, size);
    assert(heap_thread.cache->heap == heap);
    if (bin->hot != bin->hot_start) return fast_take_hot(bin);
    if (UNLIKELY(bin->mask == 0)) return allocate_refill(heap, bin);
    return fast_take(bin);
}

void *evh_calloc(evh_heap *heap, size_t count, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total)) {
        const evh_status status = heap_writable(heap);
        if (!status)
            (void)base_fail(EVH_LIMIT, NO_OFFSET, "%s: %llu x %llu bytes: the product overflows",
                            heap_path(heap), (unsigned long long)count, (unsigned long long)size);
        return NULL;
    }
    void *block = evh_malloc(heap, total);
    assert(!block || total > 0);
    if (block) memset(block, 0, total);
    return block;
}

void *heap_raw_allocate(evh_heap *heap, size_t size, size_t alignment)
{
    assert(base_is_power_of_two(alignment));
    assert(size > 0);
    if (heap->compact) return compact_allocate(heap, size, base_max(alignment, 16));
    if (size > HEAP_MEDIUM_MAX || alignment > HEAP_MEDIUM_MAX)
        return allocate_large(heap, size, alignment);
    const uint32_t class_index = size_class_aligned(size, alignment);
    struct cache *cache = threads_attach(heap);
    assert(size_classes[class_index].block_bytes >= size);
    assert(size_classes[class_index].block_bytes % alignment == 0);
    return cache ? allocate_class(cache, class_index) : NULL;
}

void *evh_aligned_alloc(evh_heap *heap, size_t alignment, size_t size)
{
    /* At once, because it is the common call on a compact heap, which checks the alignment. */
    if (heap && heap->compact && heap->is_writable && !heap->debug &&
        size - 1 < heap->view.end_bytes)
        return compact_allocate(heap, size, alignment);
    if (allocate_check(heap, size)) return NULL;
    if (!base_is_power_of_two(alignment) || alignment > SEGMENT_BYTES) {
        (void)base_fail(EVH_INVALID, NO_OFFSET,
                        "%s: an alignment of %llu: no power of two to 64 MiB", heap_path(heap),
                        (unsigned long long)alignment);
        return NULL;
    }
    if (!heap->compact && alignment > SLICE_BYTES && (uintptr_t)heap->view.base % alignment) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "%s: an alignment of %llu: its buffer has less",
                        heap_path(heap), (unsigned long long)alignment);
        return NULL;
    }
    if (heap->debug) return heap_debug_allocate(heap, size, alignment);
    return heap_raw_allocate(heap, size, alignment);
}

void *heap_raw_allocate_in(struct cache *cache, uint32_t class_index)
{
    assert(cache->is_typed);
    assert(heap_lock_is_taken(&cache->heap->slices.typed_lock));
    return allocate_class(cache, class_index);
}

/* ---- freeing ---- */

/* What a pointer that is no live block gets. `status` is slices_find()'s. */
static evh_status free_misuse(const evh_heap *heap, evh_status status, const void *pointer)
{
    assert(heap->compact == NULL);
    assert(heap != NULL);
    assert(status != EVH_OK);
    if (status == EVH_DOUBLE_FREE) return heap_misuse(heap, status, pointer, "it is free already");
    if (status == EVH_BAD_POINTER)
        return heap_misuse(heap, status, pointer, "no block of this heap begins there");
    return status; /* set already */
}

evh_status heap_raw_free(evh_heap *heap, void *block)
{
    evh_status status = EVH_OK;
    assert(heap->view.base != NULL);
    if (heap->compact) return compact_free(heap, block);
    if (heap->live) {
        status = live_free(heap, fast_offset(heap, block));
        return status ? free_misuse(heap, status, block) : EVH_OK;
    }
    struct slice_place place;
    status = slices_find(heap, fast_offset(heap, block), &place);
    if (status) return free_misuse(heap, status, block);
    /* A thread that only frees needs no cache: one that ends may free after it gave its own
     * back. */
    struct cache *cache = threads_present(heap);
    assert(!cache || cache->heap == heap);
    assert(place.slice > heap->slices.table);
    if (base_load(&place.slice->kind, __ATOMIC_RELAXED) == HEAP_LARGE)
        status = large_free(heap, fast_offset(heap, block) >> SLICE_SHIFT);
    else
        status = owners_free(heap, cache, place.slice, place.index);
    return status ? free_misuse(heap, status, block) : EVH_OK;
}

/* Free any pointer by any thread, with all checks. */
static SLOW evh_status free_checked(evh_heap *heap, void *block)
{
    const evh_status status = heap_writable(heap);
    if (status) return status;
    return heap->debug ? heap_debug_free(heap, block) : heap_raw_free(heap, block);
}

/* Off the fast path: it may need no lock yet, or all checks. */
static __attribute__((noinline)) void free_slow(evh_heap *heap, void *block)
{
    assert(!block || !heap || heap->view.base != NULL);
    if (!block) return;
    /* The common way in a live heap, whose end_bytes is 0. */
    if (heap && heap->quick_live) {
        const evh_status status = live_free(heap, fast_offset(heap, block));
        if (UNLIKELY(status)) (void)free_misuse(heap, status, block);
        return;
    }
    if (heap && heap->compact && heap->is_writable && !heap->debug)
        (void)compact_free(heap, block); /* memory: no child of a fork is kept out */
    else if (!fast_free_rare(heap, block))
        (void)free_checked(heap, block);
}

void evh_free(evh_heap *heap, void *block)
{
    if (UNLIKELY(heap == NULL)) {
        free_slow(heap, block);
        return;
    }
    fast_free(heap, block, free_slow);
}

/* ---- the rest of the family ---- */

size_t evh_usable_size(evh_heap *heap, const void *block)
{
    struct slice_place place;
    if (!heap) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
        return 0;
    }
    const uint64_t asked = heap->debug ? heap_debug_size(heap, block) : 0;
    if (asked) return asked;
    if (heap->compact) return compact_usable_size(heap, block);
    const uint64_t own = fast_size(heap, block);
    if (own) return own;
    const evh_status status = slices_find(heap, fast_offset(heap, block), &place);
    assert(status || place.size > 0);
    if (!status) return place.size;
    if (status == EVH_DOUBLE_FREE || status == EVH_BAD_POINTER)
        (void)base_fail(EVH_BAD_POINTER, evh_ref_to(heap, block).offset,
                        "%s: %p: no live block begins there", heap_path(heap), block);
    return 0;
}

/* Whether a block of `old_size` may stay for `size` bytes: it holds them, and not half of it
 * idles. */
static bool realloc_fits(uint64_t old_size, size_t size)
{
    assert(old_size > 0);
    assert(size > 0);
    return size <= old_size && (size > old_size / 2 || old_size <= 16);
}

/* The block's contents in another one. A block that cannot be moved to a smaller one stays. */
static void *realloc_move(evh_heap *heap, void *block, uint64_t old_size, size_t size)
{
    assert(old_size > 0);
    assert(block != NULL);
    assert(size > 0);
    void *moved = evh_malloc(heap, size);
    if (!moved) return size <= old_size ? block : NULL;
    assert(moved != block);
    memcpy(moved, block, base_min(old_size, size));
    evh_free(heap, block);
    return moved;
}

void *evh_realloc(evh_heap *heap, void *block, size_t size)
{
    struct slice_place place;
    if (!block) return evh_malloc(heap, size);
    if (LIKELY(heap != NULL && size - 1 < SIZE_MAX / 2)) {
        const uint64_t own = fast_size(heap, block);
        if (own && realloc_fits(own, size)) return block;
    }
    if (allocate_check(heap, size)) return NULL;
    if (heap->debug && !heap->live) {
        /* Moved always, so that a pointer to the old place is found out. */
        const uint64_t asked = evh_usable_size(heap, block);
        if (asked) return realloc_move(heap, block, asked, size);
        (void)free_checked(heap, block); /* it is none: say so */
        return NULL;
    }
    if (heap->compact) return compact_resize(heap, block, size);
    const evh_status status = slices_find(heap, fast_offset(heap, block), &place);
    assert(status || place.slice != NULL);
    if (status) {
        (void)free_misuse(heap, status, block);
        return NULL;
    }
    if (place.slice->is_typed && !heap->live) return typed_resize(heap, block, place.size, size);
    if (!place.is_large) {
        if (realloc_fits(place.size, size)) return block;
    } else if (size > HEAP_MEDIUM_MAX) {
        const uint64_t first = fast_offset(heap, block) >> SLICE_SHIFT;
        if (heap->live ? live_large_resize(heap, first, size)
                       : (size <= place.size || !owners_check_dirty(heap)) &&
                             large_resize(heap, first, size))
            return block;
    }
    return realloc_move(heap, block, place.size, size);
}

evh_status evh_malloc_to(evh_heap *heap, evh_ref *slot, size_t size)
{
    if (!slot) return base_fail(EVH_INVALID, NO_OFFSET, "no place for the ref: it is null");
    if (heap && heap->live) {
        evh_status status = allocate_check(heap, size);
        if (!status) status = live_malloc_to(heap, slot, size);
        if (!status && heap->debug)
            heap_log_operation(heap, "alloc", heap->view.base + slot->offset, size);
        return status;
    }
    const void *block = evh_malloc(heap, size);
    if (!block) return evh_last_error()->status;
    /* Rollback and recovery take back both stores or none: a commit is between calls. */
    base_store(&slot->offset, fast_offset(heap, block), __ATOMIC_RELEASE);
    assert(slot->offset != 0);
    return EVH_OK;
}

evh_status evh_free_from(evh_heap *heap, evh_ref *slot)
{
    if (!slot) return base_fail(EVH_INVALID, NO_OFFSET, "no ref to free: its place is null");
    evh_status status = heap_writable(heap);
    if (status) return status;
    const uint64_t offset = base_load(&slot->offset, __ATOMIC_ACQUIRE);
    if (offset == 0) return EVH_OK;
    void *block = heap->view.base + offset;
    assert(block != NULL);
    if (heap->live) {
        if (heap->debug) heap_log_operation(heap, "free", block, 0);
        status = live_free_from(heap, slot, 0);
        return status ? free_misuse(heap, status, block) : EVH_OK;
    }
    uint64_t size = 0;
    const bool is_live = heap->compact ? compact_block_at(heap, offset, &size)
                                       : slices_block_at(heap, offset, &size);
    if (is_live) base_store(&slot->offset, 0, __ATOMIC_RELEASE);
    status = free_checked(heap, block);
    assert(!status || !is_live || status != EVH_BAD_POINTER);
    /* It could not be freed (no memory for this thread's cache): it is the caller's still. */
    if (status && is_live) base_store(&slot->offset, offset, __ATOMIC_RELEASE);
    return status;
}
