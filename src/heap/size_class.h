/* size_class.h -- which sizes blocks have, and how a slice divides into them. */
#ifndef EVERHEAP_HEAP_SIZE_CLASS_H
#define EVERHEAP_HEAP_SIZE_CLASS_H

#include "heap/heap_layout.h"

enum {
    SIZE_TABLE_MAX = 1024, /* sizes up to here are looked up */
    SIZE_TABLE_ENTRIES = SIZE_TABLE_MAX / 16 + 1,
    SIZE_TABLE_UNIT = 64,
};

struct size_class {
    /* 2^64 / block_bytes, rounded up: see size_class_divide(). */
    uint64_t reciprocal;
    uint32_t block_bytes;
    uint16_t block_count; /* in a slice, or in a MEDIUM run */
    uint8_t word_count;   /* of the bitmap */
    uint8_t slot_words;   /* of the bitmap's slot: 1, 2, 4, or a multiple of 8 */
};

EVH_INTERNAL_DATA const struct size_class size_classes[HEAP_CLASS_COUNT];
/* Entry (size + 15) / 16 is the class of `size`, times SIZE_TABLE_UNIT: where its bin is. The class
 * of size 0 is HEAP_CLASS_COUNT, which is none. */
EVH_INTERNAL_DATA const uint16_t size_class_table[SIZE_TABLE_ENTRIES];

/**
 * Divide an offset below 2^19 (a MEDIUM run) by the block size whose reciprocal is given. Returns
 * the quotient; `*is_multiple` tells whether nothing remained. With p = offset x reciprocal, the
 * quotient is p / 2^64, and the offset is a multiple if and only if the rest of p is below the
 * reciprocal (Lemire, Kaser, Kurz: "Faster remainder by direct computation"). One multiplication;
 * tests/allocator_test.c tries every offset of every class.
 */
static inline uint64_t size_class_divide(uint64_t offset, uint64_t reciprocal, bool *is_multiple)
{
    assert(offset < (uint64_t)SLICE_BYTES * HEAP_MEDIUM_SLICES);
    assert(reciprocal > 0);
    __extension__ typedef unsigned __int128 wide;
    const wide product = (wide)offset * reciprocal;
    *is_multiple = (uint64_t)product < reciprocal;
    return (uint64_t)(product >> 64);
}

/** The smallest class that holds `size` bytes, 1 to HEAP_MEDIUM_MAX. */
static inline uint32_t size_class_of(size_t size)
{
    assert(size > 0);
    assert(size <= HEAP_MEDIUM_MAX);
    if (LIKELY(size <= SIZE_TABLE_MAX)) return size_class_table[(size + 15) >> 4] / SIZE_TABLE_UNIT;
    const uint64_t last = size - 1;
    const uint32_t high = base_highest_bit(last);
    return (uint32_t)(8 + (high - 7) * 8 + ((last >> (high - 3)) & 7));
}

/** The smallest class that holds `size` bytes and whose blocks are all aligned to `alignment`, a
 *  power of two up to 64 KiB. */
EVH_INTERNAL uint32_t size_class_aligned(size_t size, size_t alignment);

static inline bool size_class_is_medium(uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    return size_classes[class_index].block_bytes > HEAP_SMALL_MAX;
}

/** How many slices one bitmap of the class describes. */
static inline uint32_t size_class_slices(uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    return size_class_is_medium(class_index) ? HEAP_MEDIUM_SLICES : 1;
}

/** A slice with at least this many free blocks is worth allocating from: 1/8 of it. Below that,
 *  each new block would dirty a page for itself. */
static inline uint32_t size_class_dense(uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    const uint32_t eighth = size_classes[class_index].block_count / 8u;
    return eighth ? eighth : 1;
}

/** Likewise where dirty pages are not committed: as soon as looking for it is worth the time. */
static inline uint32_t size_class_dense_in_memory(uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    const uint32_t part = size_classes[class_index].block_count / 32u;
    return part ? part : 1;
}

#endif
