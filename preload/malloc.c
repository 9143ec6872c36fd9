/* malloc.c -- the C library's allocation functions, on a heap: for LD_PRELOAD.
 *
 * For measuring and for looking: any program runs on the allocator, and its heap can be inspected.
 * It makes no program's data last; that takes a program that knows its roots.
 *
 * The fast paths are those of fast.h for heaps with magazines (magazine.c). A thread that is not
 * attached has a cache whose bins are all empty, so that malloc() needs to ask neither for the heap
 * nor for the thread; free() meets a heap that ends at 0. The magazines of a heap that has none are
 * empty and full: everything takes the slow paths, which are those of the library.
 *
 * Semantics are glibc's: errno is ENOMEM or EINVAL on failure, a block of 0 bytes is a block,
 * realloc() to 0 bytes frees, free() keeps errno.
 */
#include "preload.h"

#include <errno.h>
#include <malloc.h>
#include <unistd.h>

#define PRELOAD_API __attribute__((visibility("default")))
#define PRELOAD_SLOW __attribute__((noinline))

/* ---- allocating ---- */

static void *preload_none(int error)
{
    errno = error;
    return NULL;
}

/* The size table has no entry for these; nor have programs a use for more. */
static inline bool preload_is_too_large(size_t size)
{
    return size > PTRDIFF_MAX;
}

static PRELOAD_SLOW void *preload_malloc_slow(size_t size)
{
    if (preload_is_too_large(size)) return preload_none(ENOMEM);
    const int before = errno;
    evh_heap *heap = preload_enter();
    void *block = heap ? evh_malloc(heap, size ? size : 1) : own_allocate(size);
    if (!block) return preload_none(ENOMEM);
    errno = before;
    return block;
}

/* The bin is empty, or there is none for the size in the table. */
static PRELOAD_SLOW void *preload_malloc_more(size_t size)
{
    struct cache *cache = heap_thread.cache;
    if (UNLIKELY(size - 1 >= HEAP_MEDIUM_MAX || !cache->magazines))
        return preload_malloc_slow(size);
    const uint32_t class_index = size_class_of(size);
    struct bin *bin = &cache->bins[class_index];
    void *block = fast_pop(bin);
    if (block) return block;
    return LIKELY(magazine_refill(cache, class_index)) ? fast_pop(bin) : preload_malloc_slow(size);
}

PRELOAD_API void *malloc(size_t size)
{
    if (LIKELY(size <= SIZE_TABLE_MAX)) {
        struct bin *bin = fast_bin(heap_thread.cache, size);
        void *block = fast_pop(bin);
        if (LIKELY(block != NULL)) return block;
    }
    return preload_malloc_more(size);
}

/*
 * Zero bytes that need not be touched: tables that programs take large and use sparsely cost what
 * they use. Below, clearing is cheaper than new pages are. 32 MiB is where glibc ends at the latest
 * to clear what it has, too (M_MMAP_THRESHOLD's greatest value).
 */
static void *preload_zeroed(evh_heap *heap, size_t size)
{
    enum { UNTOUCHED_BYTES = 32 << 20 };
    if (size < UNTOUCHED_BYTES || heap->mode != EVH_MEMORY) return evh_calloc(heap, 1, size);
    void *block = evh_malloc(heap, size); /* whole slices */
    if (block && os->discard(block, base_round_up(size, PAGE_BYTES))) memset(block, 0, size);
    return block;
}

PRELOAD_API void *calloc(size_t count, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total)) return preload_none(ENOMEM);
    if (LIKELY(total <= SIZE_TABLE_MAX)) {
        void *block = malloc(total);
        return LIKELY(block != NULL) ? memset(block, 0, total) : NULL;
    }
    if (preload_is_too_large(total)) return preload_none(ENOMEM);
    const int before = errno;
    evh_heap *heap = preload_enter();
    void *block = heap ? preload_zeroed(heap, total) : own_allocate(total);
    if (!block) return preload_none(ENOMEM);
    errno = before;
    return block;
}

/* NULL if `alignment` is no power of two, without an error. */
static void *preload_aligned(size_t alignment, size_t size)
{
    if (preload_is_too_large(size)) return NULL;
    if (alignment <= 16) return malloc(size);
    const int before = errno;
    evh_heap *heap = preload_enter();
    if (!heap || !base_is_power_of_two(alignment)) return NULL;
    void *block = evh_aligned_alloc(heap, alignment, size ? size : 1);
    errno = before;
    return block;
}

PRELOAD_API void *memalign(size_t alignment, size_t size)
{
    if (alignment > PTRDIFF_MAX) return preload_none(EINVAL);
    if (alignment > 16 && !base_is_power_of_two(alignment))
        alignment = (size_t)2 << base_highest_bit(alignment); /* as glibc does */
    void *block = preload_aligned(alignment, size);
    return block ? block : preload_none(ENOMEM);
}

PRELOAD_API void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

PRELOAD_API int posix_memalign(void **block, size_t alignment, size_t size)
{
    if (alignment % sizeof(void *) != 0 || !base_is_power_of_two(alignment)) return EINVAL;
    void *got = preload_aligned(alignment, size);
    if (!got) return ENOMEM;
    *block = got;
    return 0;
}

static size_t preload_page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

PRELOAD_API void *valloc(size_t size)
{
    return memalign(preload_page_bytes(), size);
}

PRELOAD_API void *pvalloc(size_t size)
{
    const size_t page = preload_page_bytes();
    if (preload_is_too_large(size)) return preload_none(ENOMEM);
    return memalign(page, base_round_up(size, page));
}

/* ---- freeing ---- */

static inline evh_heap *preload_get(void)
{
    return __atomic_load_n(&preload_heap, __ATOMIC_RELAXED);
}

/* Whether the block is of a heap that this process may only read. */
static bool preload_is_inherited(const void *block)
{
    const evh_heap *heap = preload_inherited;
    return heap && fast_offset(heap, block) < heap->region->reserved_bytes;
}

static PRELOAD_SLOW void preload_free_slow(void *block)
{
    evh_heap *heap = preload_get();
    if (fast_free_rare(heap, block)) return;
    const int before = errno;
    if (heap == &preload_nobody) heap = preload_enter();
    if (own_has(block))
        own_free(block);
    else if (!preload_is_inherited(block))
        evh_free(heap, block);
    errno = before;
}

/* Of another thread, in a tail of a MEDIUM run, or not in the heap. */
static PRELOAD_SLOW void preload_free_other(evh_heap *heap, void *block)
{
    if (UNLIKELY(!fast_push_rare(heap, block))) preload_free_slow(block);
}

static PRELOAD_SLOW void preload_free_full(struct cache *cache, struct slice *slice, void *block)
{
    if (LIKELY(cache->magazines != NULL))
        fast_push_own(cache, slice, (uintptr_t)block % SLICE_BYTES, block);
    else
        preload_free_slow(block);
}

PRELOAD_API void free(void *block)
{
    if (UNLIKELY(!block)) return; /* first: programs do so more often than is thought */
    fast_push(preload_get(), block, preload_free_full, preload_free_other);
}

PRELOAD_API void cfree(void *block)
{
    free(block);
}

/* ---- the rest of the family ---- */

PRELOAD_API size_t malloc_usable_size(void *block)
{
    if (!block) return 0;
    if (own_has(block)) return own_size(block);
    if (preload_is_inherited(block)) return evh_usable_size(preload_inherited, block);
    return evh_usable_size(preload_get(), block);
}

/* Of a block that is not in the heap. */
static void *preload_realloc_foreign(void *block, size_t size)
{
    const size_t old_size = malloc_usable_size(block);
    if (size <= old_size) return block;
    void *moved = malloc(size);
    if (!moved) return NULL;
    memcpy(moved, block, old_size);
    free(block);
    return moved;
}

PRELOAD_API void *realloc(void *block, size_t size)
{
    if (!block) return malloc(size);
    if (size == 0) {
        free(block);
        return NULL;
    }
    if (preload_is_too_large(size)) return preload_none(ENOMEM);
    if (UNLIKELY(own_has(block) || preload_is_inherited(block)))
        return preload_realloc_foreign(block, size);
    const int before = errno;
    evh_heap *heap = preload_enter();
    void *moved = heap ? evh_realloc(heap, block, size) : NULL;
    if (!moved) return preload_none(ENOMEM);
    errno = before;
    return moved;
}

PRELOAD_API void *reallocarray(void *block, size_t count, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total)) return preload_none(ENOMEM);
    return realloc(block, total);
}

/** As glibc's: whether memory went back to the system. What is live stays where it is. */
PRELOAD_API int malloc_trim(size_t unused)
{
    (void)unused;
    uint64_t freed_bytes = 0;
    evh_heap *heap = preload_enter();
    if (!heap || heap->mode != EVH_MEMORY) return 0;
    return !heap_discard(heap, false, &freed_bytes) && freed_bytes > 0;
}
