/* base.h -- what every layer stands on: status, last error, checked arithmetic, bits, CRC-32C. */
#ifndef EVERHEAP_BASE_BASE_H
#define EVERHEAP_BASE_BASE_H

#include <everheap/heap.h>

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base_atomic.h"

/*
 * EVH_INTERNAL marks what one file offers the others of the library, EVH_INTERNAL_DATA the
 * declaration of such a variable. Hidden in the shared library; static in the amalgamation, where
 * all files are one.
 */
#ifndef EVH_INTERNAL
#define EVH_INTERNAL __attribute__((visibility("hidden")))
#define EVH_INTERNAL_DATA extern __attribute__((visibility("hidden")))
#else
#define EVH_INTERNAL_DATA static __attribute__((unused)) /* tentative: the definition follows */
#endif

/* Whether this is a build with ThreadSanitizer. */
#if defined(__SANITIZE_THREAD__)
#define BASE_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BASE_THREAD_SANITIZER 1
#endif
#endif
#ifndef BASE_THREAD_SANITIZER
#define BASE_THREAD_SANITIZER 0
#endif

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A belief, not a proof: debug builds stop on it, release builds take the branch. */
#ifdef NDEBUG
#define NEVER(x) UNLIKELY(x)
#else
#define NEVER(x) (assert(!(x)), false)
#endif

/*
 * Planted bugs: `make crash` builds the library with -DEVERHEAP_PLANT=n and expects the simulator
 * to find each one. In every other build PLANTED(n) is the constant false. docs/crash-model.md
 * lists the numbers.
 */
#ifndef EVERHEAP_PLANT
#define EVERHEAP_PLANT 0
#endif
#define PLANTED(number) (EVERHEAP_PLANT == (number))

/*
 * The format's units, the same on every system: refs and offsets count bytes from the start of the
 * file; a page is what a commit logs, a slice what the allocator divides, a segment what carries
 * its own metadata.
 */
enum {
    PAGE_SHIFT = 12,
    PAGE_BYTES = 1 << PAGE_SHIFT,
    SLICE_SHIFT = 16,
    SLICE_BYTES = 1 << SLICE_SHIFT,
    SLICE_PAGES = SLICE_BYTES / PAGE_BYTES,
    SEGMENT_SHIFT = 26,
    SEGMENT_BYTES = 1 << SEGMENT_SHIFT,
    SEGMENT_SLICES = SEGMENT_BYTES / SLICE_BYTES,
    SEGMENT_PAGES = SEGMENT_BYTES / PAGE_BYTES,
};

#define NO_OFFSET UINT64_MAX /* an error that has no place in the file */

/* ---- status and last error (base_status.c) ---- */

/** Set the thread's last error and return `status`. The message is "what: why", no full stop. */
EVH_INTERNAL evh_status base_fail(evh_status status, uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** As base_fail() after the system refused with `os_error` (an errno): the status follows from it
 *  (ENOSPC is EVH_FULL, ENOMEM EVH_NO_MEMORY, ...), the system's reason is appended. */
EVH_INTERNAL evh_status base_fail_os(int os_error, uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** The status that stands for an errno; EVH_IO for one without a better. */
EVH_INTERNAL evh_status base_status_of(int os_error);

/* ---- checked arithmetic: true when the result fits ---- */

static inline bool base_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool base_multiply(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/** Whether [offset, offset + size) lies in [0, limit): the only form of this test here. */
static inline bool base_in_range(uint64_t offset, uint64_t size, uint64_t limit)
{
    return offset <= limit && size <= limit - offset;
}

/* ---- bits ---- */

static inline bool base_is_power_of_two(uint64_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

/** `x` rounded up to `unit`, a power of two. The caller knows that it does not overflow. */
static inline uint64_t base_round_up(uint64_t x, uint64_t unit)
{
    assert(base_is_power_of_two(unit));
    assert(x <= UINT64_MAX - (unit - 1));
    return (x + unit - 1) & ~(unit - 1);
}

static inline uint64_t base_round_down(uint64_t x, uint64_t unit)
{
    assert(base_is_power_of_two(unit));
    return x & ~(unit - 1);
}

static inline uint64_t base_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t base_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/** The index of the lowest, of the highest set bit. `x` is not 0. */
static inline uint32_t base_lowest_bit(uint64_t x)
{
    assert(x != 0);
    return (uint32_t)__builtin_ctzll(x);
}

static inline uint32_t base_highest_bit(uint64_t x)
{
    assert(x != 0);
    return 63u - (uint32_t)__builtin_clzll(x);
}

/* Where the processor may lack an instruction, compilers call a function that looks bytes up; this
 * is the usual sum of sums (Warren, "Hacker's Delight", 5-1). */
static inline uint32_t base_count_bits(uint64_t x)
{
#if defined(__POPCNT__) || !defined(__x86_64__)
    return (uint32_t)__builtin_popcountll(x);
#else
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (uint32_t)((x * 0x0101010101010101u) >> 56);
#endif
}

/* ---- CRC-32C (base_crc.c) ---- */

/**
 * CRC-32C (Castagnoli, polynomial 0x1EDC6F41, RFC 3720 appendix B.4) of `size` bytes, continuing
 * from `crc` (0 to begin). crc32c("123456789") is 0xe3069283. Hardware instructions where the
 * processor has them (SSE4.2, ARMv8 CRC), else slicing by 8.
 */
EVH_INTERNAL uint32_t base_crc32c(uint32_t crc, const void *data, size_t size);

/** The portable one, for tests and for processors without the instruction. */
EVH_INTERNAL uint32_t base_crc32c_portable(uint32_t crc, const void *data, size_t size);

#endif
