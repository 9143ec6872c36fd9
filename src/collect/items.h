/* items.h -- what vec and queue share: one block with a head and items of one size. */
#ifndef EVERHEAP_COLLECT_ITEMS_H
#define EVERHEAP_COLLECT_ITEMS_H

#include "collect/collect.h"

/* Fewer than 2^46 items, as many as a heap has bytes: times a size below 2^17 it does not
 * overflow. */
enum { ITEMS_COUNT_BITS = 46 };

static inline unsigned char *items_at(struct collect_items *head, uint64_t index)
{
    assert(head->item_size > 0);
    assert(index <= head->capacity);
    return (unsigned char *)(head + 1) + index * head->item_size;
}

/** The head of the collection at `offset`, checked so that every item lies in the heap; NULL if
 *  `offset` is 0 or the head is damaged. */
static inline struct collect_items *items_head(const evh_heap *heap, uint64_t offset, uint32_t word)
{
    assert(word >> 24 == 1);
    if (offset == 0) return NULL;
    struct collect_items *const head = collect_find(heap, offset, sizeof *head, word);
    if (UNLIKELY(!head)) return NULL;
    assert(offset % 16 == 0);
    if (LIKELY(head->item_size - 1 < EVH_ITEM_SIZE_MAX && head->capacity >> ITEMS_COUNT_BITS == 0 &&
               collect_is_in(heap, offset,
                             sizeof *head + head->capacity * (uint64_t)head->item_size) &&
               head->count <= head->capacity && head->first <= head->capacity))
        return head;
    (void)collect_corrupt(offset, "the head of a row of items is not one");
    return NULL;
}

/** Whether `item_size` is that of the head (which may be NULL); EVH_INVALID. */
EVH_INTERNAL bool items_size_fits(const struct collect_items *head, size_t item_size);

/** How many items of a size fit into a block that is to hold `count` of them. */
EVH_INTERNAL evh_status items_block_bytes(size_t item_size, uint64_t count, uint64_t *bytes);

/** A new block of `bytes` bytes without items, with capacity for what fits; NULL. */
EVH_INTERNAL struct collect_items *items_make(evh_heap *heap, uint32_t word, size_t item_size,
                                              uint64_t bytes);

/** Free the block, which is looked up. */
EVH_INTERNAL evh_status items_clear(evh_heap *heap, uint64_t *offset);

/** Verify head and block. */
EVH_INTERNAL evh_status items_check(evh_heap *heap, uint64_t offset, uint32_t word, bool is_ring);

#endif
