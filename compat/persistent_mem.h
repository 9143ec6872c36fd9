/* persistent_mem.h -- the calls of a lock-free allocator in a mapped file, over everheap. */
#ifndef PERSISTENT_MEM_H
#define PERSISTENT_MEM_H

#include <everheap.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * For programs written for `persistent_malloc()` and its family, in C or C++: they compile
 * unchanged and link libeverheap. docs/migration.md says what is different underneath, and how to
 * go on.
 *
 * A space is a live heap (live.h): a file that any processes and threads may use at once,
 * lock-free, and of which a killed process loses nothing that was stored. The space's struct is a
 * block of the heap, its root "persistent_mem". Offsets count from the heap's start, as an evh_ref
 * does.
 *
 * A space has the size that it was created with: the blocks that are in use never take more, and it
 * never grows; but PERSISTENT_UNLIMITED as the size makes one that grows as it is used. The file is
 * larger than a small space: 256 KiB at least, and 64 KiB for each size class of each thread. What
 * is in use is counted, with an atomic operation per call (none in an unlimited space), and counted
 * anew when the file is opened by nobody else, because a kill may leave it wrong.
 *
 * Null pointers, a space that is none or was destroyed, blocks that are free and pointers that are
 * no block are refused: NULL, false or no effect, and the reason in evh_last_error() where the heap
 * met it.
 */

typedef uint64_t persistent_offset_t; /* 0 is null */

enum { PERSISTENT_CLASSES = 20 };

#define PERSISTENT_MAGIC 0x6d656d7473726570ull /* "perstmem" */
#define PERSISTENT_UNLIMITED SIZE_MAX
#define PERSISTENT_SIZE_MAX (1ull << 44)
#define PERSISTENT_ROOT_NAME "persistent_mem"

/** Read these; change nothing. */
typedef struct allocator_space {
    uint64_t magic;
    uint64_t origin;                /* where the heap's start was mapped when it was created */
    uint64_t total_size;            /* bytes that blocks may take; UINT64_MAX: unlimited */
    persistent_offset_t heap_start; /* blocks lie from here */
    persistent_offset_t heap_end;   /* to here, as of the last opening */
    persistent_offset_t roots_head; /* the newest root */
    persistent_offset_t self;       /* of this struct */
    uint64_t used;                  /* bytes in blocks, where they are counted */
    uint64_t baseline;              /* live bytes of the heap when the space was empty */
    persistent_offset_t free_lists[PERSISTENT_CLASSES]; /* always 0: free space is not listed */
} allocator_space_t;

/* What lies before the memory of a root. */
struct persistent_root {
    persistent_offset_t next;
    uint64_t root_class;
    uint64_t size;
    uint64_t reserved;
};

/* Addresses at which the heap's start was ever mapped: roots "persistent_mem.origins.N". */
enum { PERSISTENT_ORIGINS = 62, PERSISTENT_ORIGIN_CHUNKS = 4096 };

struct persistent_origins {
    uint64_t base[PERSISTENT_ORIGINS]; /* 0: none yet, nor behind it */
};

/* ---- from a space to its heap ---- */

/** The heap that a space lies in, borrowed: all of everheap.h works on it. NULL if it is no
 *  space. */
static inline evh_heap *persistent_heap(const allocator_space_t *space)
{
    evh_heap *heap = space ? evh_heap_of(space) : NULL;
    if (!heap || (uintptr_t)space % sizeof(uint64_t)) return NULL;
    const evh_ref ref = evh_ref_to(heap, space);
    if (__atomic_load_n(&space->magic, __ATOMIC_ACQUIRE) != PERSISTENT_MAGIC) return NULL;
    return space->self == ref.offset ? heap : NULL;
}

static inline unsigned char *persistent_base(const allocator_space_t *space)
{
    return (unsigned char *)(uintptr_t)space - space->self;
}

/** The offset of a pointer into the space; 0 for NULL, the space itself, and what lies outside. */
static inline persistent_offset_t ptr_to_persistent_offset(const allocator_space_t *space,
                                                           const void *ptr)
{
    const evh_heap *heap = persistent_heap(space);
    return heap && ptr != space ? evh_ref_to(heap, ptr).offset : 0;
}

/** The pointer of an offset; NULL for 0 and for one that lies outside. */
static inline void *persistent_offset_to_ptr(const allocator_space_t *space,
                                             persistent_offset_t offset)
{
    const evh_heap *heap = persistent_heap(space);
    const evh_ref ref = {offset};
    return heap ? evh_at(heap, ref) : NULL;
}

/* ---- counting ---- */

static inline bool persistent_is_counted(const allocator_space_t *space)
{
    return space->total_size != UINT64_MAX;
}

/* Add to what is in use; false if it would be more than there is. */
static inline bool persistent_reserve(allocator_space_t *space, uint64_t size)
{
    uint64_t used = __atomic_load_n(&space->used, __ATOMIC_RELAXED);
    do {
        if (used > space->total_size || size > space->total_size - used) return false;
    } while (!__atomic_compare_exchange_n(&space->used, &used, used + size, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return true;
}

static inline void persistent_unreserve(allocator_space_t *space, uint64_t size)
{
    (void)__atomic_fetch_sub(&space->used, size, __ATOMIC_RELAXED);
}

/* What was counted may differ from what is there after a process was killed. */
static inline void persistent_recount(evh_heap *heap, allocator_space_t *space)
{
    uint64_t used = __atomic_load_n(&space->used, __ATOMIC_RELAXED);
    evh_info info;
    if (evh_get_info(heap, &info)) return;
    __atomic_store_n(&space->heap_end, info.heap_bytes, __ATOMIC_RELAXED);
    if (info.processes > 1 || !persistent_is_counted(space)) return;
    const uint64_t found =
        info.live_bytes > space->baseline ? info.live_bytes - space->baseline : 0;
    (void)__atomic_compare_exchange_n(&space->used, &used, found, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED); /* another one came: it counts along */
}

/* ---- origins ---- */

static inline struct persistent_origins *persistent_origins_chunk(evh_heap *heap, unsigned index,
                                                                  bool make)
{
    char name[EVH_NAME_SIZE_MAX + 1];
    size_t size = 0;
    (void)snprintf(name, sizeof name, PERSISTENT_ROOT_NAME ".origins.%u", index);
    if (make)
        return (struct persistent_origins *)evh_root(heap, name, sizeof(struct persistent_origins));
    void *chunk = evh_root_find(heap, name, &size);
    return size >= sizeof(struct persistent_origins) ? (struct persistent_origins *)chunk : NULL;
}

/* Note that the heap is mapped at `base`. Any processes at once: an entry is set once. */
static inline bool persistent_origins_add(evh_heap *heap, uint64_t base)
{
    for (unsigned i = 0; i < PERSISTENT_ORIGIN_CHUNKS; i++) {
        struct persistent_origins *chunk = persistent_origins_chunk(heap, i, true);
        if (!chunk) return false;
        for (unsigned k = 0; k < PERSISTENT_ORIGINS; k++) {
            uint64_t found = 0;
            if (__atomic_compare_exchange_n(&chunk->base[k], &found, base, false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED) ||
                found == base)
                return true;
        }
    }
    return true; /* 253,952 addresses are enough: the newest is forgotten */
}

/* The offset that `address` had in the heap when it was mapped at `base`, or 0. */
static inline persistent_offset_t persistent_offset_from(const allocator_space_t *space,
                                                         uint64_t base, uint64_t address)
{
    const uint64_t offset = address - base;
    const uint64_t end = __atomic_load_n(&space->heap_end, __ATOMIC_RELAXED);
    if (base == 0 || address < base) return 0;
    return offset >= space->heap_start && offset < end ? offset : 0;
}

/* The heap's end moves while it is in use. */
static inline bool persistent_update_end(evh_heap *heap, allocator_space_t *space)
{
    evh_info info;
    if (evh_get_info(heap, &info)) return false;
    return __atomic_exchange_n(&space->heap_end, info.heap_bytes, __ATOMIC_RELAXED) !=
           info.heap_bytes;
}

/* ---- opening ---- */

static inline evh_options persistent_options(evh_mode mode, uint64_t total_size)
{
    evh_options options;
    memset(&options, 0, sizeof options);
    options.mode = mode;
    options.misuse = EVH_MISUSE_STATUS;
    options.must_exist = mode == EVH_PRIVATE;
    /* Counting limits a space; its heap needs room for more, in slices that are partly used. */
    if (total_size <= PERSISTENT_SIZE_MAX) options.size_max_bytes = 4 * total_size + (256ull << 20);
    options.size_max_bytes = options.size_max_bytes >> 16 << 16;
    return options;
}

/* A file that is empty holds nothing that could be lost: it makes way. */
static inline void persistent_remove_empty(const char *filename)
{
    struct stat status;
    if (stat(filename, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0)
        (void)remove(filename);
}

static inline void persistent_set_once(uint64_t *field, uint64_t value)
{
    uint64_t unset = 0;
    (void)__atomic_compare_exchange_n(field, &unset, value, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED);
}

/* Fill a new space; who comes at the same time fills in the same, or what was first. */
static inline bool persistent_fill(evh_heap *heap, allocator_space_t *space, uint64_t total_size)
{
    evh_info info;
    if (evh_get_info(heap, &info)) return false;
    persistent_set_once(&space->total_size, total_size);
    persistent_set_once(&space->heap_start, 65536);
    persistent_set_once(&space->origin, info.address);
    persistent_set_once(&space->self, evh_ref_to(heap, space).offset);
    persistent_set_once(&space->baseline, info.live_bytes);
    __atomic_store_n(&space->magic, PERSISTENT_MAGIC, __ATOMIC_RELEASE);
    return true;
}

/* The space of an open heap; NULL if it holds another thing of that name. */
static inline allocator_space_t *persistent_attach(evh_heap *heap, uint64_t total_size)
{
    allocator_space_t *space =
        (allocator_space_t *)evh_root(heap, PERSISTENT_ROOT_NAME, sizeof *space);
    if (!space) return NULL;
    const uint64_t base = (uint64_t)(uintptr_t)space - evh_ref_to(heap, space).offset;
    if (!persistent_origins_add(heap, base)) return NULL;
    const uint64_t magic = __atomic_load_n(&space->magic, __ATOMIC_ACQUIRE);
    if (magic == 0 && !persistent_fill(heap, space, total_size)) return NULL;
    if (!persistent_heap(space)) return NULL;
    persistent_recount(heap, space);
    return space;
}

/* Open the heap where its space was mapped first, if that is free: raw pointers hold there. */
static inline evh_heap *persistent_open(const char *filename, evh_options options)
{
    evh_heap *heap = evh_open(filename, &options);
    size_t size = 0;
    const allocator_space_t *space =
        heap ? (allocator_space_t *)evh_root_find(heap, PERSISTENT_ROOT_NAME, &size) : NULL;
    if (size < sizeof *space || !persistent_heap(space)) return heap;
    if (space->origin == (uint64_t)(uintptr_t)persistent_base(space)) return heap;
    options.preferred_address = space->origin;
    (void)evh_close(heap);
    return evh_open(filename, &options);
}

/**
 * Open a space, or create one of `requested_size` bytes (4 KiB at least). What an existing file
 * holds is not altered. End it with destroy_persistent_allocator(). NULL on failure, and for a file
 * that holds something else.
 */
static inline allocator_space_t *create_persistent_allocator(const char *filename,
                                                             size_t requested_size)
{
    const uint64_t minimum = sizeof(allocator_space_t) + 4096;
    uint64_t total_size = requested_size < minimum ? minimum : requested_size;
    if (requested_size == PERSISTENT_UNLIMITED) total_size = UINT64_MAX;
    if (total_size != UINT64_MAX && total_size > PERSISTENT_SIZE_MAX) return NULL;
    const evh_options options = persistent_options(EVH_LIVE, total_size);
    if (!filename) return NULL;
    persistent_remove_empty(filename);
    evh_heap *heap = persistent_open(filename, options);
    allocator_space_t *space = heap ? persistent_attach(heap, total_size) : NULL;
    if (!space) (void)evh_close(heap);
    return space;
}

/** Open a copy of a space whose changes stay in this process, as often as wanted, also while others
 *  use the file. NULL if there is no file, or no space in it. */
static inline allocator_space_t *load_private_persistent_allocator(const char *filename)
{
    const evh_options options = persistent_options(EVH_PRIVATE, UINT64_MAX);
    evh_heap *heap = filename ? persistent_open(filename, options) : NULL;
    size_t size = 0;
    evh_info info;
    allocator_space_t *space =
        heap ? (allocator_space_t *)evh_root_find(heap, PERSISTENT_ROOT_NAME, &size) : NULL;
    if (size < sizeof *space || !persistent_heap(space) || evh_get_info(heap, &info)) {
        (void)evh_close(heap);
        return NULL;
    }
    space->heap_end = info.heap_bytes;
    return space;
}

/** Close a space; its file stays. No effect on NULL and on what is no space. */
static inline void destroy_persistent_allocator(allocator_space_t *space)
{
    (void)evh_close(persistent_heap(space));
}

/* ---- blocks ---- */

/** A block of `size` bytes, not initialised. NULL for 0, without room, and for what is no space.
 *  Any thread, lock-free. */
static inline void *persistent_malloc(allocator_space_t *space, size_t size)
{
    evh_heap *heap = persistent_heap(space);
    if (!heap || size == 0) return NULL;
    if (!persistent_is_counted(space)) return evh_malloc(heap, size);
    if (!persistent_reserve(space, size)) return NULL; /* before the file grows for nothing */
    void *block = evh_malloc(heap, size);
    const uint64_t usable = block ? evh_usable_size(heap, block) : 0;
    if (block && persistent_reserve(space, usable - size)) return block;
    evh_free(heap, block);
    persistent_unreserve(space, size);
    return NULL;
}

/** The same, zeroed. */
static inline void *persistent_calloc(allocator_space_t *space, size_t count, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    void *block = persistent_malloc(space, total);
    if (block) memset(block, 0, total);
    return block;
}

/** Free a block. NULL, free blocks, roots and pointers that are no block are ignored. */
static inline void persistent_free(allocator_space_t *space, void *ptr)
{
    evh_heap *heap = persistent_heap(space);
    if (!heap || !ptr || ptr == space) return;
    const uint64_t size = persistent_is_counted(space) ? evh_usable_size(heap, ptr) : 0;
    evh_free(heap, ptr);
    if (size) persistent_unreserve(space, size);
}

/* Resize the block `ptr` of `old_size` bytes, which may move; NULL and no change without room. */
static inline void *persistent_resize(evh_heap *heap, allocator_space_t *space, void *ptr,
                                      uint64_t old_size, size_t size)
{
    if (!persistent_is_counted(space)) return evh_realloc(heap, ptr, size);
    const uint64_t more = size > old_size ? size - old_size : 0;
    if (!persistent_reserve(space, more)) return NULL;
    void *resized = evh_realloc(heap, ptr, size);
    const uint64_t new_size = resized ? evh_usable_size(heap, resized) : old_size;
    /* What the size was rounded up to is counted, even where it does not fit any more. */
    (void)__atomic_fetch_add(&space->used, new_size - old_size - more, __ATOMIC_RELAXED);
    return resized;
}

/**
 * Resize `*ptr`, which may move and then is rewritten; it shrinks where that frees something.
 * False, and nothing is changed, for a null `*ptr`, size 0, a root, and without room.
 */
static inline bool persistent_realloc_impl(allocator_space_t *space, void **ptr, size_t size)
{
    evh_heap *heap = persistent_heap(space);
    if (!heap || !ptr || !*ptr || *ptr == space || size == 0) return false;
    const uint64_t old_size = evh_usable_size(heap, *ptr);
    if (old_size == 0) return false;
    if (size <= old_size && size > old_size / 2) return true;
    void *resized = persistent_resize(heap, space, *ptr, old_size, size);
    if (resized) *ptr = resized;
    return resized != NULL;
}

/** Resize a block: NULL allocates, size 0 frees and gives NULL, what fits stays where it is. NULL,
 *  and the block as it was, without room. */
static inline void *persistent_realloc(allocator_space_t *space, void *ptr, size_t size)
{
    evh_heap *heap = persistent_heap(space);
    if (!heap || ptr == (void *)space) return NULL;
    if (!ptr) return persistent_malloc(space, size);
    if (size == 0) {
        persistent_free(space, ptr);
        return NULL;
    }
    const uint64_t old_size = evh_usable_size(heap, ptr);
    if (old_size == 0) return NULL;
    return size <= old_size ? ptr : persistent_resize(heap, space, ptr, old_size, size);
}

/* The later form, `bool persistent_realloc(space, lvalue, size)`: define this before including. */
#ifdef PERSISTENT_REALLOC_LVALUE
#define persistent_realloc(space, lvalue, size)                                                    \
    persistent_realloc_impl((space), (void **)(void *)&(lvalue), (size))
#endif

/* ---- roots ---- */

/** A block of `size` zero bytes that later runs find by `root_class`; of several of a class, the
 *  newest. It cannot be freed or resized. NULL for size 0 and without room. Lock-free. */
static inline void *persistent_malloc_root(allocator_space_t *space, uint64_t root_class,
                                           size_t size)
{
    evh_heap *heap = persistent_heap(space);
    if (!heap || size == 0 || size > SIZE_MAX - sizeof(struct persistent_root)) return NULL;
    struct persistent_root *root =
        (struct persistent_root *)persistent_calloc(space, 1, sizeof *root + size);
    if (!root) return NULL;
    root->root_class = root_class;
    root->size = size;
    root->next = __atomic_load_n(&space->roots_head, __ATOMIC_ACQUIRE);
    const persistent_offset_t offset = evh_ref_to(heap, root).offset;
    while (!__atomic_compare_exchange_n(&space->roots_head, &root->next, offset, true,
                                        __ATOMIC_RELEASE, __ATOMIC_ACQUIRE)) {
    }
    return root + 1;
}

/** The newest root of the class, or NULL. As many steps as there are newer roots. */
static inline void *persistent_find_root(allocator_space_t *space, uint64_t root_class)
{
    evh_heap *heap = persistent_heap(space);
    evh_ref ref = {heap ? __atomic_load_n(&space->roots_head, __ATOMIC_ACQUIRE) : 0};
    /* A damaged list may be a ring: one root of each power of two is waited for (R. Brent). */
    persistent_offset_t awaited = 0;
    for (uint64_t step = 1; ref.offset && ref.offset != awaited; step++) {
        struct persistent_root *root = (struct persistent_root *)evh_at(heap, ref);
        if (!root || evh_usable_size(heap, root) < sizeof *root) return NULL;
        if (root->root_class == root_class) return root + 1;
        if ((step & (step - 1)) == 0) awaited = ref.offset;
        ref.offset = root->next;
    }
    return NULL;
}

/* ---- pointers of earlier runs ---- */

/* The offset of an address in any mapping, the present one first; 0 if it was in none. */
static inline persistent_offset_t persistent_find_origin(evh_heap *heap,
                                                         const allocator_space_t *space,
                                                         uint64_t address)
{
    const uint64_t base = (uint64_t)(uintptr_t)persistent_base(space);
    persistent_offset_t offset = persistent_offset_from(space, base, address);
    for (unsigned i = 0; !offset && i < PERSISTENT_ORIGIN_CHUNKS; i++) {
        struct persistent_origins *chunk = persistent_origins_chunk(heap, i, false);
        if (!chunk) break;
        for (unsigned k = 0; !offset && k < PERSISTENT_ORIGINS; k++)
            offset = persistent_offset_from(
                space, __atomic_load_n(&chunk->base[k], __ATOMIC_RELAXED), address);
    }
    return offset;
}

/**
 * What a raw pointer that an earlier process stored in the space points at in this one, wherever
 * the heap was mapped then. Unchanged if it points into the space as it is mapped now; NULL if it
 * is NULL or points into none of its mappings. Treat as read-only.
 */
static inline void *persistent_ptr(allocator_space_t *space, const void *ptr)
{
    evh_heap *heap = persistent_heap(space);
    if (!heap || !ptr) return NULL;
    const uint64_t address = (uint64_t)(uintptr_t)ptr;
    persistent_offset_t offset = persistent_find_origin(heap, space, address);
    if (!offset && persistent_update_end(heap, space))
        offset = persistent_find_origin(heap, space, address);
    return offset ? persistent_base(space) + offset : NULL;
}

#ifdef __cplusplus
}
#include "persistent_mem.hpp"
#endif

#endif
