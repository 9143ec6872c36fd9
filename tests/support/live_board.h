/* live_board.h -- a table in a live heap that several processes allocate into and free from. */
#ifndef EVERHEAP_TESTS_LIVE_BOARD_H
#define EVERHEAP_TESTS_LIVE_BOARD_H

#include <everheap/heap.h>

enum { BOARD_SLOTS = 400, BOARD_WORKERS = 16 };

struct board_slot {
    evh_ref block;
    uint64_t size;  /* of the block, written before it is stamped */
    uint64_t stamp; /* what fills the block, 0: it is not filled yet */
    uint64_t busy;  /* worker + 1 who changes this slot */
};

struct board {
    struct board_slot slots[BOARD_SLOTS];
    uint64_t operations[BOARD_WORKERS];
};

/** The board of the heap, made if it is not there; NULL on failure. */
struct board *board_open(evh_heap *heap);
/** One operation of a worker, on a random slot: allocate and fill, or verify and free. What is
 *  wrong, or NULL. With `in_one_step`, evh_malloc_to() and evh_free_from() only. */
const char *board_step(evh_heap *heap, struct board *board, unsigned worker, uint64_t *random,
                       bool in_one_step);
/** Slots that a worker, now dead, was changing are free to be changed again. */
void board_release(struct board *board, unsigned worker);
/** Verify the whole board beside all live blocks. What is wrong, or NULL; `*leaked` is how many
 *  live blocks nothing names. Nobody changes anything meanwhile. */
const char *board_check(evh_heap *heap, uint64_t *leaked);

#endif
