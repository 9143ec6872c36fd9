/* size_class.c -- the table of size classes, computed by the compiler. */
#include "heap/size_class.h"

/* 16, 32, ... 128, then eight per doubling. */
#define GROUP(c) (((c)-8) / 8)
#define BYTES(c)                                                                                   \
    ((c) < 8 ? 16u * ((unsigned)(c) + 1)                                                           \
             : (128u << GROUP((c) < 8 ? 8 : (c))) +                                                \
                   ((unsigned)(c) % 8 + 1) * (16u << GROUP((c) < 8 ? 8 : (c))))
#define SPAN(c)                                                                                    \
    (BYTES(c) <= HEAP_SMALL_MAX ? (unsigned)SLICE_BYTES                                            \
                                : (unsigned)SLICE_BYTES * HEAP_MEDIUM_SLICES)
#define COUNT(c) (SPAN(c) / BYTES(c))
#define WORDS(c) ((COUNT(c) + 63) / 64)
/* Below a cache line slots are powers of two, so that they pack; above, whole lines. */
#define SLOT(c) (WORDS(c) <= 2 ? WORDS(c) : WORDS(c) <= 4 ? 4 : (WORDS(c) + 7) / 8 * 8)
#define RECIPROCAL(c) (UINT64_MAX / BYTES(c) + 1)
#define ROW(c)                                                                                     \
    {                                                                                              \
        RECIPROCAL(c), BYTES(c), (uint16_t)COUNT(c), (uint8_t)WORDS(c), (uint8_t)SLOT(c)           \
    }
#define ROWS(c)                                                                                    \
    ROW(c), ROW(c + 1), ROW(c + 2), ROW(c + 3), ROW(c + 4), ROW(c + 5), ROW(c + 6), ROW(c + 7)

EVH_INTERNAL const struct size_class size_classes[HEAP_CLASS_COUNT] = {
    ROWS(0),  ROWS(8),  ROWS(16), ROWS(24), ROWS(32),
    ROWS(40), ROWS(48), ROWS(56), ROWS(64), ROWS(72),
};

static_assert(BYTES(0) == 16 && BYTES(7) == 128 && BYTES(8) == 144, "16-byte steps to 128");
static_assert(BYTES(HEAP_CLASS_COUNT - 1) == HEAP_MEDIUM_MAX, "the last class is the largest");
static_assert(WORDS(0) == 64, "a summary of one bit per bitmap word fits a word");

static_assert(HEAP_CLASS_COUNT == 80, "the class of size 0 below");

/* In 16-byte steps up to 128, 16 up to 256, 32 up to 512, 64 up to 1024. */
#define ENTRY(c) ((c)*SIZE_TABLE_UNIT)
#define ONCE(c)                                                                                    \
    ENTRY(c), ENTRY(c + 1), ENTRY(c + 2), ENTRY(c + 3), ENTRY(c + 4), ENTRY(c + 5), ENTRY(c + 6),  \
        ENTRY(c + 7)
#define TWICE(c) ENTRY(c), ENTRY(c), ENTRY(c + 1), ENTRY(c + 1)
#define FOUR_TIMES(c) ENTRY(c), ENTRY(c), ENTRY(c), ENTRY(c)
EVH_INTERNAL const uint16_t size_class_table[SIZE_TABLE_ENTRIES] = {
    ENTRY(80),      ONCE(0),        ONCE(8),        TWICE(16),      TWICE(18),
    TWICE(20),      TWICE(22),      FOUR_TIMES(24), FOUR_TIMES(25), FOUR_TIMES(26),
    FOUR_TIMES(27), FOUR_TIMES(28), FOUR_TIMES(29), FOUR_TIMES(30), FOUR_TIMES(31),
};
#undef ENTRY
#undef ONCE
#undef TWICE
#undef FOUR_TIMES

#undef GROUP
#undef BYTES
#undef SPAN
#undef COUNT
#undef WORDS
#undef SLOT
#undef RECIPROCAL
#undef ROW
#undef ROWS

EVH_INTERNAL uint32_t size_class_aligned(size_t size, size_t alignment)
{
    assert(size > 0);
    assert(base_is_power_of_two(alignment));
    assert(alignment <= HEAP_MEDIUM_MAX);

    /* Blocks lie at multiples of their size from a slice's start. The last class is a multiple of
     * every such alignment, so the loop ends. */
    uint32_t class_index = size_class_of(size > alignment ? size : alignment);
    while (size_classes[class_index].block_bytes % alignment != 0) class_index++;
    assert(class_index < HEAP_CLASS_COUNT);
    return class_index;
}
