/* os_linux_map.c -- reservations of addresses, and what is mapped over them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * Where a heap without a wish goes: one of 48 slots of 1 TiB from 0x200000000000 on, so that the
 * address it got is likely to be free in the next process too. Between 0x200000000000 and
 * 0x50ffffffffff every one of 400 runs found its address free, as PIE, static and with ASan; above
 * are programs and the system's own choices, below are the shadows of sanitizers. ThreadSanitizer
 * and processors with 39-bit addresses refuse the slots: then the system chooses.
 */
#define MAP_SLOT_FIRST 0x200000000000u
enum { MAP_SLOT_SHIFT = 40, MAP_SLOT_COUNT = 48, MAP_SLOT_TRIES = 3 };

static void *map_nothing(uint64_t wish, uint64_t size)
{
    return mmap((void *)(uintptr_t)wish, size, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/* Reserve exactly at `wish`; NULL if it is taken. Only a hint goes to the system, which follows it
 * where the range is free: MAP_FIXED_NOREPLACE would say the same, but older kernels do not know it
 * and ThreadSanitizer turns it into a mapping at address 0. */
static void *map_reserve_at(uint64_t wish, uint64_t size)
{
    void *got = map_nothing(wish, size);
    if (got == MAP_FAILED) return NULL;
    if ((uintptr_t)got == wish) return got;
    munmap(got, size);
    return NULL;
}

static void *map_reserve_slot(uint64_t size)
{
    uint64_t random;
    os_random(&random, sizeof random);
    for (unsigned try = 0; try < MAP_SLOT_TRIES; try++) {
        const uint64_t slot = (random >> (16 * try)) % MAP_SLOT_COUNT;
        void *got = map_reserve_at(MAP_SLOT_FIRST + (slot << MAP_SLOT_SHIFT), size);
        if (got != NULL) return got;
    }
    return NULL;
}

/* Reserve where the system likes: more than asked for, and trimmed to the alignment. */
static int map_reserve_anywhere(uint64_t size, uint64_t alignment, void **address)
{
    uint64_t padded;
    if (!base_add(size, alignment, &padded)) return ENOMEM;
    void *got = map_nothing(0, padded);
    if (got == MAP_FAILED) return errno;

    const uint64_t start = (uintptr_t)got;
    const uint64_t aligned = base_round_up(start, alignment);
    const uint64_t before = aligned - start;
    const uint64_t after = padded - before - size;
    if (before != 0) munmap(got, before);
    if (after != 0) munmap((void *)(uintptr_t)(aligned + size), after);
    *address = (void *)(uintptr_t)aligned;
    return 0;
}

EVH_INTERNAL int os_map_reserve(uint64_t size, uint64_t alignment, uint64_t preferred,
                                void **address)
{
    assert(base_is_power_of_two(alignment));
    assert(size != 0 && size % PAGE_BYTES == 0);

    const uint64_t page = os_page_bytes();
    if (alignment < page) alignment = page;
    size = base_round_up(size, page); /* as munmap() will */
    void *got = NULL;
    /* ThreadSanitizer ends the program when a mapping comes to lie outside its few ranges. */
    if (BASE_THREAD_SANITIZER) return map_reserve_anywhere(size, alignment, address);
    if (preferred != 0 && preferred % alignment == 0) got = map_reserve_at(preferred, size);
    if (got == NULL && alignment <= (uint64_t)1 << MAP_SLOT_SHIFT) got = map_reserve_slot(size);
    if (got == NULL) return map_reserve_anywhere(size, alignment, address);
    *address = got;
    return 0;
}

EVH_INTERNAL int os_map_map(void *address, uint64_t size, enum os_map_kind kind, int file,
                            uint64_t offset)
{
    assert(address != NULL);
    assert(size != 0);

    int protection = PROT_READ | PROT_WRITE;
    int flags = MAP_FIXED | MAP_NORESERVE;
    switch (kind) {
    case OS_MAP_NOTHING:
        protection = PROT_NONE;
        flags |= MAP_PRIVATE | MAP_ANONYMOUS;
        break;
    case OS_MAP_PRIVATE: flags |= MAP_PRIVATE; break;
    case OS_MAP_SHARED_READ:
        protection = PROT_READ;
        flags |= MAP_SHARED;
        break;
    case OS_MAP_SHARED: flags |= MAP_SHARED; break;
    case OS_MAP_ANONYMOUS: flags |= MAP_PRIVATE | MAP_ANONYMOUS; break;
    }
    const bool has_file = (flags & MAP_ANONYMOUS) == 0;
    if (offset > INT64_MAX) return EOVERFLOW;
    void *got =
        mmap(address, size, protection, flags, has_file ? file : -1, has_file ? (off_t)offset : 0);
    if (got == MAP_FAILED) return errno;
    assert(got == address);
    /* Private pages stay 4 KiB, so that one store makes one page dirty and the fast scan for dirty
     * pages is exact. Kernels without huge pages answer EINVAL. */
    if (kind == OS_MAP_PRIVATE) (void)madvise(address, size, MADV_NOHUGEPAGE);
    return 0;
}

EVH_INTERNAL int os_map_protect(void *address, uint64_t size, bool writable)
{
    const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    return mprotect(address, size, protection) == 0 ? 0 : errno;
}

EVH_INTERNAL void os_map_expect_scattered(void *address, uint64_t size)
{
    assert(address != NULL);
    assert(size != 0);
    (void)madvise(address, size, MADV_RANDOM);
}

EVH_INTERNAL int os_map_discard(void *address, uint64_t size)
{
    assert(address != NULL);
    /* The kernel would round the end up to a page of its own, and drop what lies there too. */
    if (((uintptr_t)address | size) % os_page_bytes() != 0) return EINVAL;
    return madvise(address, size, MADV_DONTNEED) == 0 ? 0 : errno;
}

/*
 * Whether advice is followed or refused. Emulators answer success to advice that they have never
 * heard of (qemu's user mode to any but MADV_DONTNEED); a kernel refuses nonsense before it looks
 * at the range, which may be empty.
 */
static bool map_advice_is_heard(void)
{
    enum { NO_ADVICE = -1 };
    static uint32_t known; /* 0 not asked yet, 1 no, 2 yes */
    uint32_t answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (UNLIKELY(answer == 0)) {
        answer = madvise(NULL, 0, NO_ADVICE) == 0 ? 1 : 2;
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }
    return answer == 2;
}

EVH_INTERNAL int os_map_advise(void *address, uint64_t size, int advice)
{
    assert(address != NULL);
    assert(size != 0);
    if (!map_advice_is_heard()) return EINVAL; /* as a kernel that is older than the advice */
    return madvise(address, size, advice) == 0 ? 0 : errno;
}

EVH_INTERNAL int os_map_release(void *address, uint64_t size)
{
    return munmap(address, size) == 0 ? 0 : errno;
}
