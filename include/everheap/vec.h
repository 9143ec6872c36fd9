/* vec.h -- items in a row, in a heap: vec (an array that grows), queue (a ring), bitset.
 *
 * What holds for all collections stands at the head of text.h.
 */
#ifndef EVERHEAP_VEC_H
#define EVERHEAP_VEC_H

#include <everheap/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- vec: an array that grows --------------------------------------------------------------- */

/** Items of one size, one behind the other, aligned to 16 bytes as a whole. */
typedef struct evh_vec {
    uint64_t offset;
} evh_vec;

enum { EVH_ITEM_SIZE_MAX = 65536 }; /* bytes of an item of any collection */

/*
 * `item_size` is given with every call that may make the vec: 1 to EVH_ITEM_SIZE_MAX, and the same
 * each time (EVH_INVALID). Items that go in are `items`, or zeroes if that is NULL; they must not
 * lie in the vec itself.
 * Cost      at either end constant, amortised; elsewhere the shorter side is moved.
 */
/** The item at `index`, borrowed; NULL beyond the end. */
EVH_API void *evh_vec_at(const evh_heap *heap, const evh_vec *vec, size_t index);
/** All items, borrowed, and in `*count` (may be NULL) their number. NULL if there are none. */
EVH_API void *evh_vec_data(const evh_heap *heap, const evh_vec *vec, size_t *count);
/** How many items it has. */
EVH_API size_t evh_vec_count(const evh_heap *heap, const evh_vec *vec);
/** The size of an item; 0 of a zero handle. */
EVH_API size_t evh_vec_item_size(const evh_heap *heap, const evh_vec *vec);

/** Append one item. Returns it in its place, borrowed, or NULL. */
EVH_API void *evh_vec_push(evh_heap *heap, evh_vec *vec, size_t item_size, const void *item);
/** Insert `count` items before `index`. Returns the first, borrowed, or NULL. EVH_INVALID if
 *  `index` is beyond the end, or nothing is to be inserted. */
EVH_API void *evh_vec_insert(evh_heap *heap, evh_vec *vec, size_t item_size, size_t index,
                             const void *items, size_t count);
/** Remove `count` items from `index` on. EVH_INVALID if there are not so many. */
EVH_API evh_status evh_vec_erase(evh_heap *heap, evh_vec *vec, size_t index, size_t count);
/** Remove the last item, copied to `item` unless that is NULL. False if there is none. */
EVH_API bool evh_vec_pop(evh_heap *heap, evh_vec *vec, void *item);
/** Make it `count` items: cut off, or filled up with zeroes. */
EVH_API evh_status evh_vec_resize(evh_heap *heap, evh_vec *vec, size_t item_size, size_t count);
/** Make room for `count` items in all, so that growing to that number moves nothing. */
EVH_API evh_status evh_vec_reserve(evh_heap *heap, evh_vec *vec, size_t item_size, size_t count);
/** Free it. */
EVH_API evh_status evh_vec_clear(evh_heap *heap, evh_vec *vec);
/** EVH_OK or EVH_CORRUPT. */
EVH_API evh_status evh_vec_check(evh_heap *heap, const evh_vec *vec);

/** Below, equal to or above 0, as qsort() wants it; `context` is the caller's. */
typedef int evh_compare(const void *first, const void *second, void *context);

/** In a vec that is sorted: the index of the first item that is not below `item` (its size if all
 *  are), and in `*is_there` (may be NULL) whether that one is equal. Cost: logarithmic. */
EVH_API size_t evh_vec_search(const evh_heap *heap, const evh_vec *vec, const void *item,
                              evh_compare *compare, void *context, bool *is_there);
/** In a vec that is sorted: insert `item` where it belongs, or copy it over the one that is equal.
 *  Returns it in its place, borrowed, or NULL. */
EVH_API void *evh_vec_insert_sorted(evh_heap *heap, evh_vec *vec, size_t item_size,
                                    const void *item, evh_compare *compare, void *context);

/**
 * EVH_VEC(notes, struct note) declares a handle type `notes` and its calls with the item's type:
 * notes_at, notes_data, notes_count, notes_push, notes_insert, notes_erase, notes_pop, notes_clear.
 */
#define EVH_VEC(name, type)                                                                        \
    typedef struct name {                                                                          \
        evh_vec vec;                                                                               \
    } name;                                                                                        \
    static inline __attribute__((unused))                                                          \
    type *name##_at(const evh_heap *heap, const name *items, size_t index)                         \
    {                                                                                              \
        return (type *)evh_vec_at(heap, &items->vec, index);                                       \
    }                                                                                              \
    static inline __attribute__((unused))                                                          \
    type *name##_data(const evh_heap *heap, const name *items, size_t *count)                      \
    {                                                                                              \
        return (type *)evh_vec_data(heap, &items->vec, count);                                     \
    }                                                                                              \
    static inline __attribute__((unused))                                                          \
    size_t name##_count(const evh_heap *heap, const name *items)                                   \
    {                                                                                              \
        return evh_vec_count(heap, &items->vec);                                                   \
    }                                                                                              \
    static inline __attribute__((unused))                                                          \
    type *name##_push(evh_heap *heap, name *items, type item)                                      \
    {                                                                                              \
        return (type *)evh_vec_push(heap, &items->vec, sizeof(type), &item);                       \
    }                                                                                              \
    static inline __attribute__((unused))                                                          \
    type *name##_insert(evh_heap *heap, name *items, size_t index, type item)                      \
    {                                                                                              \
        return (type *)evh_vec_insert(heap, &items->vec, sizeof(type), index, &item, 1);           \
    }                                                                                              \
    static inline __attribute__((unused))                                                          \
    evh_status name##_erase(evh_heap *heap, name *items, size_t index, size_t count)               \
    {                                                                                              \
        return evh_vec_erase(heap, &items->vec, index, count);                                     \
    }                                                                                              \
    static inline __attribute__((unused)) bool name##_pop(evh_heap *heap, name *items, type *item) \
    {                                                                                              \
        return evh_vec_pop(heap, &items->vec, item);                                               \
    }                                                                                              \
    static inline __attribute__((unused)) evh_status name##_clear(evh_heap *heap, name *items)     \
    {                                                                                              \
        return evh_vec_clear(heap, &items->vec);                                                   \
    }                                                                                              \
    struct name /* the macro ends in a declaration: write a semicolon after it */

/* ---- queue: a ring -------------------------------------------------------------------------- */

/** First in, first out: a ring of items of one size that doubles when it is full. */
typedef struct evh_queue {
    uint64_t offset;
} evh_queue;

/** Append one item, which does not lie in the queue; zeroes if `item` is NULL. Cost: constant,
 *  amortised. */
EVH_API evh_status evh_queue_push(evh_heap *heap, evh_queue *queue, size_t item_size,
                                  const void *item);
/** Remove the oldest item, copied to `item` unless that is NULL. False if there is none. */
EVH_API bool evh_queue_pop(evh_heap *heap, evh_queue *queue, void *item);
/** The item at `index`, borrowed, counted from the oldest; NULL beyond the end. */
EVH_API void *evh_queue_at(const evh_heap *heap, const evh_queue *queue, size_t index);
EVH_API size_t evh_queue_count(const evh_heap *heap, const evh_queue *queue); /* items in it */
/** The size of an item; 0 of a zero handle. */
EVH_API size_t evh_queue_item_size(const evh_heap *heap, const evh_queue *queue);
/** Free it. */
EVH_API evh_status evh_queue_clear(evh_heap *heap, evh_queue *queue);
/** EVH_OK or EVH_CORRUPT. */
EVH_API evh_status evh_queue_check(evh_heap *heap, const evh_queue *queue);

/* ---- bitset --------------------------------------------------------------------------------- */

/** Bits from 0 on, without an end: those never set are 0. It takes space up to the highest one that
 *  was ever set. */
typedef struct evh_bitset {
    uint64_t offset;
} evh_bitset;

#define EVH_BIT_MAX 0xfffffffffffull /* the highest bit: 2 TiB of them */
#define EVH_NO_BIT UINT64_MAX

/** Set or clear bit `index`. EVH_LIMIT above EVH_BIT_MAX. */
EVH_API evh_status evh_bitset_put(evh_heap *heap, evh_bitset *bits, uint64_t index, bool value);
/** Bit `index`. */
EVH_API bool evh_bitset_get(const evh_heap *heap, const evh_bitset *bits, uint64_t index);
/** How many bits are 1. Cost: constant. */
EVH_API uint64_t evh_bitset_count(const evh_heap *heap, const evh_bitset *bits);
/** The lowest bit at or above `from` that is 1, or EVH_NO_BIT. */
EVH_API uint64_t evh_bitset_next(const evh_heap *heap, const evh_bitset *bits, uint64_t from);
/** Free it: all bits are 0. */
EVH_API evh_status evh_bitset_clear(evh_heap *heap, evh_bitset *bits);
/** EVH_OK or EVH_CORRUPT. */
EVH_API evh_status evh_bitset_check(evh_heap *heap, const evh_bitset *bits);

#ifdef __cplusplus
}
#endif

#endif
