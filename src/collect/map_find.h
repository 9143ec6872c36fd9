/* map_find.h -- the lookup of a number in a map: the hash, and the fast path.
 *
 * The fast path is for maps that no cache holds. Their lookups wait for memory, and several wait at
 * once if the processor can see so far ahead: some 300 instructions. So each counts: there are 85,
 * and with twice as many a lookup among a million takes half as long again. Hence one comparison
 * for each place that the map names, constants for the common size of items, no calls. What is
 * unusual is left to the long way.
 */
#ifndef EVERHEAP_COLLECT_MAP_FIND_H
#define EVERHEAP_COLLECT_MAP_FIND_H

#include "collect/collect.h"

#define HASH_LOW_BITS 0x0101010101010101u
#define HASH_HIGH_BITS 0x8080808080808080u
#define HASH_ITEM_BITS (HASH_HIGH_BITS >> 8) /* of slots that may have an item: not the eighth */

/**
 * The hash of a number: twice, the 128-bit product with a secret or odd constant, folded. One
 * folding alone leaves patterns in some bits for numbers that differ in few; two pass as random in
 * tests/map_test.c for counters, multiples and single bits. Who does not know the key cannot choose
 * numbers that collide; SipHash would take three times as long.
 */
static inline uint64_t collect_hash_number(const uint64_t key[2], uint64_t number)
{
    assert(key != NULL);
    __extension__ typedef unsigned __int128 wide;
    const wide first = (wide)(number ^ key[0]) * key[1];
    const uint64_t folded = (uint64_t)first ^ (uint64_t)(first >> 64);
    const wide second = (wide)(folded ^ key[1]) * 0x9e3779b97f4a7c15u;
    return (uint64_t)second ^ (uint64_t)(second >> 64);
}

/** Bytes of a group of slots: a word of control bytes and seven items, filled up to whole cache
 *  lines if that takes an eighth more at most. */
static inline uint64_t collect_group_bytes(uint64_t item_size)
{
    assert(item_size >= 8);
    assert(item_size % 8 == 0);
    const uint64_t bytes = 8 + HASH_ITEMS * item_size;
    const uint64_t filled = base_round_up(bytes, 64);
    return filled - bytes <= bytes / 8 ? filled : bytes;
}

/* What a lookup takes from the table and its directory; where that leads is not yet checked. */
struct map_place {
    uint64_t first; /* offset of the part's groups */
    uint64_t mask;  /* groups - 1 */
    uint64_t group; /* where the probe begins */
    uint64_t tags;  /* the hash's control byte, eight times */
};

/** Where items of `hash` begin; false for what is unusual. What is damaged leads out of the heap or
 *  to a wrong place in it. */
static inline __attribute__((always_inline)) bool map_place_of(const evh_heap *heap,
                                                               struct heap_starts starts,
                                                               const struct hash_table *table,
                                                               uint64_t hash,
                                                               struct map_place *place)
{
    assert(table != NULL);
    assert(place != NULL);
    static_assert(HASH_DEPTH_MAX < 64, "the shift counts modulo 64");
    uint64_t word = table->root;
    if (table->depth > 0) {
        const uint64_t at = word + 8 * (hash >> ((64u - table->depth) & 63));
        if (UNLIKELY(!heap_starts_have(starts, at, sizeof word))) return false;
        memcpy(&word, heap->view.base + at, sizeof word);
    }
    /* No part yet. What lies at the heap's begin would be taken for one, if that is in a span. */
    if (UNLIKELY(word == 0)) return false;
    place->first = (word & ~15ull) + sizeof(struct hash_part);
    place->mask = (1ull << (word & 15)) - 1;
    place->tags = (hash & 0x7f) * HASH_LOW_BITS;
    place->group = hash >> 7 & place->mask;
    return true;
}

/** The bytes from a group to the item whose control byte is the lowest of `matches`. */
static inline uint64_t map_item_at(uint64_t matches, uint64_t item_size)
{
    assert(matches != 0);
    assert((matches & ~HASH_ITEM_BITS) == 0);
    const uint64_t bit = base_lowest_bit(matches); /* 8 * slot + 7 */
    return item_size == 16 ? 2 * bit - 6 : 8 + bit / 8 * item_size;
}

/** The item of `key` in a group whose control word is `control`, and in `*control_of` its control
 *  byte; NULL. */
static inline __attribute__((always_inline)) unsigned char *map_find_in(unsigned char *group,
                                                                        uint64_t control,
                                                                        uint64_t item_size,
                                                                        uint64_t tags, uint64_t key,
                                                                        unsigned char **control_of)
{
    assert(group != NULL);
    assert(item_size >= 8);
    const uint64_t x = control ^ tags;
    uint64_t matches = (x - HASH_LOW_BITS) & ~x & HASH_ITEM_BITS;
    for (; matches != 0; matches &= matches - 1) {
        unsigned char *const item = group + map_item_at(matches, item_size);
        uint64_t found;
        memcpy(&found, item, sizeof found);
        *control_of = group + base_lowest_bit(matches) / 8;
        if (LIKELY(found == key)) return item;
    }
    return NULL;
}

/** Whether a probe ends at a group: a slot is empty. */
static inline bool map_ends_at(uint64_t control)
{
    return (control & ~(control << 6) & HASH_HIGH_BITS) != 0;
}

/** The item of `key`, and in `*control_of` its control byte. NULL and `*is_absent` if there is
 *  none; NULL alone for what is unusual. */
static inline unsigned char *map_find(const evh_heap *heap, const struct collect_map *head,
                                      uint64_t hash, uint64_t key, bool *is_absent,
                                      unsigned char **control_of)
{
    assert(head != NULL);
    assert(is_absent != NULL);
    const uint64_t item_size = 8 + ((head->value_size & 0x1ffff) + 7) / 8 * 8;
    const uint64_t stride = collect_group_bytes(item_size);
    struct map_place place;
    *is_absent = false;
    if (!map_place_of(heap, heap_find_starts(heap), &head->table, hash, &place)) return NULL;
    for (uint64_t step = 0; step <= place.mask;) {
        const uint64_t at = place.first + place.group * stride;
        if (UNLIKELY(!heap_span_has(heap, at, stride))) return NULL;
        unsigned char *const group = heap->view.base + at;
        uint64_t control;
        memcpy(&control, group, sizeof control);
        unsigned char *const item =
            map_find_in(group, control, item_size, place.tags, key, control_of);
        if (item) return item;
        if (map_ends_at(control)) break;
        place.group = (place.group + ++step) & place.mask;
    }
    *is_absent = true;
    return NULL;
}

/** As map_find() of a map with values of 1 to 8 bytes, where the probe begins: in most cases the
 *  item is there. */
static inline __attribute__((always_inline)) unsigned char *map_find_first(
    const evh_heap *heap, struct heap_starts starts, const struct collect_map *head, uint64_t hash,
    uint64_t key, bool *is_absent)
{
    assert(head != NULL);
    assert(is_absent != NULL);
    enum { ITEM_SIZE = 16, STRIDE = 128 }; /* as collect_group_bytes() has it */
    static_assert((int)STRIDE <= (int)HEAP_SPAN_SMALL, "one comparison");
    struct map_place place;
    unsigned char *control_of;
    *is_absent = false;
    if (UNLIKELY(head->value_size - 1 >= 8)) return NULL;
    if (UNLIKELY(!map_place_of(heap, starts, &head->table, hash, &place))) return NULL;
    const uint64_t at = place.first + place.group * STRIDE;
    if (UNLIKELY(!heap_starts_have(starts, at, STRIDE))) return NULL;
    unsigned char *const group = heap->view.base + at;
    __builtin_prefetch(group + STRIDE / 2); /* half of the items are in the second line */
    uint64_t control;
    memcpy(&control, group, sizeof control);
    unsigned char *const item =
        map_find_in(group, control, ITEM_SIZE, place.tags, key, &control_of);
    *is_absent = !item && map_ends_at(control);
    return item;
}

#endif
