/* map_find.h -- the lookup of a number in a map: the hash, and the fast path.
 *
 * The fast path calls nothing, so that it saves no registers, and masks what it takes from the map
 * where that suffices to stay in the heap: as the processor works ahead over several lookups,
 * instructions count also where it waits for memory. What is unusual is left to the long way.
 */
#ifndef EVERHEAP_COLLECT_MAP_FIND_H
#define EVERHEAP_COLLECT_MAP_FIND_H

#include "collect/collect.h"

#define MAP_REF_MASK 0x0000fffffffffff0u /* addresses have 47 bits; refs are multiples of 16 */
#define HASH_LOW_BITS 0x0101010101010101u
#define HASH_HIGH_BITS 0x8080808080808080u

/**
 * The hash of a number: twice, the 128-bit product with a secret or odd constant, folded. One
 * folding alone leaves patterns in some bits for numbers that differ in few; two pass as random in
 * tests/map_test.c for counters, multiples and single bits. Who does not know the key cannot choose
 * numbers that collide; SipHash would take three times as long.
 */
static inline uint64_t collect_hash_number(const uint64_t key[2], uint64_t number)
{
    __extension__ typedef unsigned __int128 wide;
    const wide first = (wide)(number ^ key[0]) * (key[1] | 1);
    const uint64_t folded = (uint64_t)first ^ (uint64_t)(first >> 64);
    const wide second = (wide)(folded ^ key[1]) * 0x9e3779b97f4a7c15u;
    return (uint64_t)second ^ (uint64_t)(second >> 64);
}

/** Bytes of a group of slots: a word of control bytes and seven items, filled up to whole cache
 *  lines if that takes an eighth more at most. */
static inline uint64_t collect_group_bytes(uint64_t item_size)
{
    const uint64_t bytes = 8 + HASH_ITEMS * item_size;
    const uint64_t filled = base_round_up(bytes, 64);
    return filled - bytes <= bytes / 8 ? filled : bytes;
}

/** The item of `key`, and in `*control_of` its control byte. NULL and `*is_absent` if there is
 *  none; NULL alone for what is unusual. */
static inline __attribute__((always_inline)) unsigned char *map_find(const evh_heap *heap,
                                                                     const struct collect_map *head,
                                                                     uint64_t hash, uint64_t key,
                                                                     bool *is_absent,
                                                                     unsigned char **control_of)
{
    const struct hash_table *const table = &head->table;
    const uint64_t begin = collect_begin(heap);
    const uint64_t end = collect_quick_end(heap);
    const uint64_t item_size = 8 + ((head->value_size & 0x1ffff) + 7) / 8 * 8;
    const uint64_t stride = collect_group_bytes(item_size);
    uint64_t word = table->root;
    *is_absent = false;
    if (table->depth > 0) {
        const uint64_t at = (word & MAP_REF_MASK) + 8 * (hash >> 1 >> (63 - (table->depth & 31)));
        if (UNLIKELY(at < begin || at + 8 > end)) return NULL;
        memcpy(&word, heap->view.base + at, sizeof word);
    }
    const uint64_t part = word & MAP_REF_MASK;
    const uint64_t mask = (1ull << (word & 15)) - 1; /* of groups */
    const uint64_t tags = (hash & 0x7f) * HASH_LOW_BITS;
    uint64_t number = hash >> 7 & mask;
    if (UNLIKELY(part < begin)) return NULL;
    for (uint64_t step = 0; step <= mask;) {
        const uint64_t at = part + sizeof(struct hash_part) + number * stride;
        if (UNLIKELY(at + stride > end)) return NULL;
        unsigned char *const group = heap->view.base + at;
        uint64_t control;
        memcpy(&control, group, sizeof control);
        const uint64_t x = control ^ tags;
        uint64_t matches = (x - HASH_LOW_BITS) & ~x & HASH_HIGH_BITS;
        for (; matches != 0; matches &= matches - 1) {
            const uint64_t slot = base_lowest_bit(matches) / 8;
            unsigned char *const item = group + 8 + slot * item_size;
            uint64_t found;
            memcpy(&found, item, sizeof found);
            *control_of = group + slot;
            if (LIKELY(found == key)) return item;
        }
        if (LIKELY((control & ~(control << 6) & HASH_HIGH_BITS) != 0)) break;
        number = (number + ++step) & mask;
    }
    *is_absent = true;
    return NULL;
}

#endif
