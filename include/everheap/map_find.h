/* map_find.h -- the lookup of a number in a map, inline: what EVH_MAP's get calls.
 *
 * The library's own: include map.h. A lookup is some sixty instructions when the size of a value is
 * a constant, twice as many when it is not; and as the processor works ahead over several lookups,
 * that counts also where it waits for memory. What is read lies in the file, whose format does not
 * change within a version (docs/collect.md draws it). Whatever is unusual is left to evh_map_get().
 */
#ifndef EVERHEAP_MAP_FIND_H
#define EVERHEAP_MAP_FIND_H

#include <everheap/heap.h>

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EVH_MAP_BEGIN_(key_kind) (0x01044365u | (uint64_t)(key_kind) << 32)
#define EVH_MAP_WORD_MASK_ 0x0000fffffffffff0u /* addresses have 47 bits, refs no last four */
#define EVH_MAP_LOW_BITS_ 0x0101010101010101u
#define EVH_MAP_HIGH_BITS_ 0x8080808080808080u

/** The head of a map. */
struct evh_map_head_ {
    uint64_t begin; /* EVH_MAP_BEGIN_ of its kind of keys */
    uint32_t value_size;
    uint32_t reserved;
    uint64_t count;
    uint64_t root;
    uint32_t item_size;
    uint8_t depth;
    uint8_t is_number;
    uint16_t reserved2;
    uint64_t deep_count;
    uint64_t key[2];
};

/**
 * The hash of a number: twice, the 128-bit product with a secret or odd constant, folded. One
 * folding alone leaves patterns in some bits for numbers that differ in few; two pass as random in
 * tests/map_test.c for counters, multiples and single bits. Who does not know the key cannot choose
 * numbers that collide; SipHash would take three times as long.
 */
static inline uint64_t evh_map_hash_(const uint64_t key[2], uint64_t number)
{
    __extension__ typedef unsigned __int128 wide;
    const wide first = (wide)(number ^ key[0]) * (key[1] | 1);
    const uint64_t folded = (uint64_t)first ^ (uint64_t)(first >> 64);
    const wide second = (wide)(folded ^ key[1]) * 0x9e3779b97f4a7c15u;
    return (uint64_t)second ^ (uint64_t)(second >> 64);
}

/** Bytes of a group of slots: a word of control bytes and seven items, filled up to whole cache
 *  lines if that takes an eighth more at most. */
static inline uint64_t evh_map_stride_(uint64_t item_size)
{
    const uint64_t bytes = 8 + 7 * item_size;
    const uint64_t filled = (bytes + 63) / 64 * 64;
    return filled - bytes <= bytes / 8 ? filled : bytes;
}

/** The map's head, if it is in the heap and begins as it must; else NULL. */
static inline struct evh_map_head_ *evh_map_head_of_(const evh_heap *heap, uint64_t offset,
                                                     uint64_t begin)
{
    if (__builtin_expect(!heap, 0)) return NULL;
    const struct evh_heap_view *const view = (const struct evh_heap_view *)(const void *)heap;
    const uint64_t end = __atomic_load_n(&view->end_bytes, __ATOMIC_RELAXED);
    /* Rotated, an offset that is 0 or no multiple of 16 is beyond any heap. */
    if ((offset >> 4 | offset << 60) - 1 >= (end - sizeof(struct evh_map_head_)) >> 4) return NULL;
    struct evh_map_head_ *const head = (struct evh_map_head_ *)(void *)(view->base + offset);
    return head->begin == begin ? head : NULL;
}

/**
 * The item of `key`, and in `*control` its control byte. NULL and `*is_absent` if there is none;
 * NULL alone for what is unusual. What is taken from the map is masked rather than compared where
 * that suffices to stay in the heap.
 */
static inline __attribute__((always_inline)) unsigned char *evh_map_find_(
    const evh_heap *heap, const struct evh_map_head_ *head, uint64_t hash, uint64_t key,
    size_t value_size, bool *is_absent, unsigned char **control_of)
{
    const struct evh_heap_view *const view = (const struct evh_heap_view *)(const void *)heap;
    const uint64_t end = __atomic_load_n(&view->end_bytes, __ATOMIC_RELAXED);
    const uint64_t item_size = 8 + ((value_size & 0x1ffff) + 7) / 8 * 8;
    const uint64_t stride = evh_map_stride_(item_size);
    uint64_t word = head->root;
    *is_absent = false;
    if (head->depth > 0) {
        const uint64_t at =
            (word & EVH_MAP_WORD_MASK_) + 8 * (hash >> 1 >> (63 - (head->depth & 31)));
        if (__builtin_expect(at + 8 > end, 0)) return NULL;
        memcpy(&word, view->base + at, sizeof word);
    }
    const uint64_t part = word & EVH_MAP_WORD_MASK_;
    const uint64_t mask = (1ull << (word & 15)) - 1; /* of groups; a part's head has 64 bytes */
    uint64_t number = hash >> 7 & mask;
    uint64_t at = part + 64 + number * stride;
    const uint64_t tags = (hash & 0x7f) * EVH_MAP_LOW_BITS_;
    for (uint64_t step = 0; part != 0 && step <= mask;) {
        if (__builtin_expect(at + stride > end, 0)) return NULL;
        unsigned char *const group = view->base + at;
        uint64_t control;
        memcpy(&control, group, sizeof control);
        const uint64_t x = control ^ tags;
        uint64_t matches = (x - EVH_MAP_LOW_BITS_) & ~x & EVH_MAP_HIGH_BITS_;
        for (; matches != 0; matches &= matches - 1) {
            const uint64_t slot = (uint64_t)__builtin_ctzll(matches) / 8;
            unsigned char *const item = group + 8 + slot * item_size;
            uint64_t found;
            memcpy(&found, item, sizeof found);
            *control_of = group + slot;
            if (__builtin_expect(found == key, 1)) return item;
        }
        if (__builtin_expect((control & ~(control << 6) & EVH_MAP_HIGH_BITS_) != 0, 1)) break;
        number = (number + ++step) & mask;
        at = part + 64 + number * stride;
    }
    *is_absent = true;
    return NULL;
}

#ifdef __cplusplus
}
#endif

#endif
