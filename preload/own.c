/* own.c -- memory that lies in no heap: for the library's own structures.
 *
 * The library asks the C library for its structures; here, the C library's malloc() is this one. So
 * the library is compiled with other names for these calls (see the Makefile), and they end here.
 * It is a few kilobytes for each thread and each 64 MiB of the heap, and little of it ever ends:
 * blocks are powers of two, cut off a reservation and kept in lists by size.
 */
#include "preload.h"

#include <sys/mman.h>

#define OWN_RESERVED_BYTES (1ull << 32) /* of addresses: 4 GiB is the structures of 10 TiB */

enum { OWN_HEADER_BYTES = 16, OWN_SHIFT_MIN = 5, OWN_SHIFTS = 33 };

/* Before each block. */
struct own_block {
    uint32_t shift; /* its size, header included, is 2^shift */
    uint32_t padding[1];
    struct own_block *next; /* while it is free */
};

static_assert(sizeof(struct own_block) == OWN_HEADER_BYTES, "blocks are aligned to 16 bytes");

static struct {
    struct heap_lock lock;
    unsigned char *start; /* set once. Atomic. */
    uint64_t used_bytes;
    struct own_block *free[OWN_SHIFTS];
} own;

static struct own_block *own_block_of(const void *block)
{
    assert(own_has(block));
    return (struct own_block *)(void *)((unsigned char *)(uintptr_t)block - OWN_HEADER_BYTES);
}

static bool own_reserve(void)
{
    if (own.start) return true;
    void *got = mmap(NULL, OWN_RESERVED_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) return false;
    __atomic_store_n(&own.start, got, __ATOMIC_RELEASE);
    return true;
}

/* With the lock. The block's bytes may be anything. */
static struct own_block *own_take(uint32_t shift, bool *is_new)
{
    assert(shift >= OWN_SHIFT_MIN);
    struct own_block *block = own.free[shift];
    *is_new = block == NULL;
    if (block) {
        own.free[shift] = block->next;
        return block;
    }
    if (!own_reserve() || (1ull << shift) > OWN_RESERVED_BYTES - own.used_bytes) return NULL;
    block = (struct own_block *)(void *)(own.start + own.used_bytes);
    own.used_bytes += 1ull << shift;
    block->shift = shift;
    return block;
}

void *own_allocate(size_t size)
{
    if (size > OWN_RESERVED_BYTES / 2) return NULL;
    const uint64_t need = base_max(size + OWN_HEADER_BYTES, 1u << OWN_SHIFT_MIN);
    const uint32_t shift = base_highest_bit(need - 1) + 1;
    bool is_new = false;
    own_lock();
    struct own_block *block = own_take(shift, &is_new);
    own_unlock();
    if (!block) return NULL;
    assert(block->shift == shift);
    void *memory = (unsigned char *)block + OWN_HEADER_BYTES;
    return is_new ? memory : memset(memory, 0, own_size(memory));
}

void own_free(void *block)
{
    if (!block) return;
    if (!own_has(block)) { /* from strdup() and the like */
        free(block);
        return;
    }
    struct own_block *freed = own_block_of(block);
    assert(freed->shift < OWN_SHIFTS);
    own_lock();
    freed->next = own.free[freed->shift];
    own.free[freed->shift] = freed;
    own_unlock();
}

void *own_resize(void *block, size_t size)
{
    if (!block) return own_allocate(size);
    if (size <= own_size(block)) return block;
    void *moved = own_allocate(size);
    if (!moved) return NULL;
    memcpy(moved, block, own_size(block));
    own_free(block);
    return moved;
}

bool own_has(const void *block)
{
    const unsigned char *start = __atomic_load_n(&own.start, __ATOMIC_ACQUIRE);
    return start && (uintptr_t)block - (uintptr_t)start < OWN_RESERVED_BYTES;
}

size_t own_size(const void *block)
{
    const struct own_block *found = own_block_of(block);
    assert(found->shift >= OWN_SHIFT_MIN);
    return ((size_t)1 << found->shift) - OWN_HEADER_BYTES;
}

void own_lock(void)
{
    heap_lock_take(&own.lock);
}

void own_unlock(void)
{
    heap_lock_drop(&own.lock);
}

/* ---- what the library's files call instead of the C library ---- */

void *own_calloc(size_t count, size_t size)
{
    size_t total = 0;
    return __builtin_mul_overflow(count, size, &total) ? NULL : own_allocate(total);
}

void *own_malloc(size_t size)
{
    return own_allocate(size);
}

void *own_realloc(void *block, size_t size)
{
    return own_resize(block, size);
}
