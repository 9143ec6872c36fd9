/* tree.h -- ordered maps that live in a heap.
 *
 * What holds for all collections stands at the head of text.h.
 */
#ifndef EVERHEAP_TREE_H
#define EVERHEAP_TREE_H

#include <everheap/map.h>

#ifdef __cplusplus
extern "C" {
#endif

/** From keys to values of one size, in the order of the keys: a B+ tree. */
typedef struct evh_tree {
    uint64_t offset;
} evh_tree;

/*
 * Families: evh_tree_put, evh_tree_get, evh_tree_erase, as those of map.h, for numbers (in their
 * order; evh_tree_signed() and evh_tree_real() make numbers of others), bytes (in the order of
 * memcmp(), then by size) and C strings.
 * Cost      logarithmic. A put changes one or two nodes of 1 KiB, rarely one for each level. A
 *           borrowed value stays valid until the tree changes.
 */
/** The value of a number, zeroed if it was not there. */
EVH_API void *evh_tree_put(evh_heap *heap, evh_tree *tree, uint64_t key, size_t value_size);
/** The value of a number; NULL if it is not there. */
EVH_API void *evh_tree_get(const evh_heap *heap, const evh_tree *tree, uint64_t key);
/** Remove a number. True if it was there. */
EVH_API bool evh_tree_erase(evh_heap *heap, evh_tree *tree, uint64_t key);

/** The value of `size` bytes, zeroed if they were not there. */
EVH_API void *evh_tree_put_bytes(evh_heap *heap, evh_tree *tree, const void *key, size_t size,
                                 size_t value_size);
/** The value of `size` bytes; NULL if they are not there. */
EVH_API void *evh_tree_get_bytes(const evh_heap *heap, const evh_tree *tree, const void *key,
                                 size_t size);
/** Remove `size` bytes. True if they were there. */
EVH_API bool evh_tree_erase_bytes(evh_heap *heap, evh_tree *tree, const void *key, size_t size);

static inline void *evh_tree_put_str(evh_heap *heap, evh_tree *tree, const char *key,
                                     size_t value_size)
{
    return evh_tree_put_bytes(heap, tree, key, strlen(key), value_size);
}
static inline void *evh_tree_get_str(const evh_heap *heap, const evh_tree *tree, const char *key)
{
    return evh_tree_get_bytes(heap, tree, key, strlen(key));
}
static inline bool evh_tree_erase_str(evh_heap *heap, evh_tree *tree, const char *key)
{
    return evh_tree_erase_bytes(heap, tree, key, strlen(key));
}

/** A number whose order is that of signed numbers; the same again gives back the signed one. */
static inline uint64_t evh_tree_signed(int64_t number)
{
    return (uint64_t)number ^ 0x8000000000000000u;
}
/** A number whose order is that of doubles, -0 below +0 and no NaN assumed. */
static inline uint64_t evh_tree_real(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits >> 63 ? ~bits : bits | 0x8000000000000000u;
}

/** How many keys it has. */
EVH_API uint64_t evh_tree_count(const evh_heap *heap, const evh_tree *tree);
/** What its keys are; EVH_KEY_NONE of a zero handle. */
EVH_API evh_key_kind evh_tree_key_kind(const evh_heap *heap, const evh_tree *tree);
/** The size of a value. */
EVH_API size_t evh_tree_value_size(const evh_heap *heap, const evh_tree *tree);
/** Free it. */
EVH_API evh_status evh_tree_clear(evh_heap *heap, evh_tree *tree);
/** EVH_OK or EVH_CORRUPT. Cost: reads all of it. */
EVH_API evh_status evh_tree_check(evh_heap *heap, const evh_tree *tree);

/** Where a cursor is: the library's own. */
typedef struct evh_tree_place {
    uint64_t leaf;
    uint64_t changes;
    uint64_t number;
    uint64_t text;
    uint64_t visited;
    uint32_t index;
    uint32_t flags;
} evh_tree_place;

/** A place between two items, or at either end, and the item that was stepped over last. */
typedef struct evh_tree_cursor {
    uint64_t key;      /* a number; of bytes the first eight */
    const char *bytes; /* bytes, with a zero behind them, borrowed until the key is removed */
    size_t size;       /* of them */
    void *value;       /* borrowed */
    evh_tree_place place;
} evh_tree_cursor;

/*
 * A range is a seek to its lower end and calls of evh_tree_next() until the key is beyond its upper
 * end; backwards, a seek to its upper end and evh_tree_previous(). A zeroed cursor is before the
 * first item. The tree may change meanwhile: the item stepped over last may be erased, and others
 * be put (one that belongs between the item stepped over last and the next is behind the cursor).
 * After other items were erased, seek.
 */
/** Go to the place before the first key that is not below `key`. */
EVH_API void evh_tree_seek(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor,
                           uint64_t key);
/** Go to the place before the first key that is not below `size` bytes. */
EVH_API void evh_tree_seek_bytes(const evh_heap *heap, const evh_tree *tree,
                                 evh_tree_cursor *cursor, const void *key, size_t size);
/** Go behind the last key. */
EVH_API void evh_tree_seek_end(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor);
/** Step over the item after the cursor and fill it in. False at the end. Cost: amortised constant.
 */
EVH_API bool evh_tree_next(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor);
/** Step back over the item before the cursor and fill it in. False at the beginning. */
EVH_API bool evh_tree_previous(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor);

#ifdef __cplusplus
}
#endif

#endif
