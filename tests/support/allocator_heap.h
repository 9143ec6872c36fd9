/* allocator_heap.h -- heaps for the tests of the allocator: in memory, and in a buffer that they
 * attach to again. */
#ifndef EVERHEAP_TESTS_SUPPORT_ALLOCATOR_HEAP_H
#define EVERHEAP_TESTS_SUPPORT_ALLOCATOR_HEAP_H

#include "heap/heap.h"
#include "test.h"

/** A heap in anonymous memory that answers misuse with a status. */
evh_heap *allocator_open(void);
/** Check it and close it. */
void allocator_close(evh_heap *heap);
evh_info allocator_info(evh_heap *heap);

evh_status last_status(void);
/** Set a status that none of the allocator's calls gives. */
void forget_error(void);

/** Bytes that depend on `seed` and on their place. */
void fill(void *block, size_t size, uint64_t seed);
bool is_filled(const void *block, size_t size, uint64_t seed);

/** A heap in a buffer that can be closed and attached again, so that its segments are loaded
 * anew. */
struct buffer_heap {
    void *buffer;
    uint64_t size;
    evh_heap *heap;
};

struct buffer_heap buffer_open(uint64_t size);
/** Open what the buffer holds: `heap` is NULL if that fails. */
void buffer_attach(struct buffer_heap *made);
void buffer_reopen(struct buffer_heap *made);
void buffer_close(struct buffer_heap *made);

/** What a walk saw. */
struct walk_count {
    evh_heap *heap;
    uint64_t blocks, bytes, last;
    bool ascends, does_free;
};

/** An evh_visit for it. With `does_free` it frees every block but the catalog. */
bool walk_count_block(const evh_block *block, void *context);

/** How much slices_check() finds. */
unsigned findings(evh_heap *heap);

#endif
