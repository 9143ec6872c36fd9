/* block_model.h -- what must be live in a heap, kept outside it, and random work on both.
 *
 * The model knows of every block its place, its size, its alignment and a stamp from which its
 * contents follow. A map of 16-byte granules outside the heap says at each allocation whether the
 * new block overlaps a live one. The heap's own root, "model", holds the refs of the blocks, which
 * evh_malloc_to and evh_free_from change, and the number of the commit.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_BLOCK_MODEL_H
#define EVERHEAP_TESTS_SUPPORT_BLOCK_MODEL_H

#include <everheap/heap.h>

#include "test.h"

enum {
    MODEL_SLOTS = 12000,
    MODEL_ROOTS = 40, /* the first half named, the others tagged */
    MODEL_GRANULE_BYTES = 16,
    MODEL_ALIGNMENT_SHIFT_MAX = 22,
};
#define MODEL_SIZE_MAX_BYTES (512ull << 20) /* of the heap */

struct model_block {
    uint64_t offset; /* 0: there is none */
    uint64_t stamp;
    uint32_t size;            /* asked for */
    uint32_t usable;          /* got */
    uint32_t alignment_shift; /* asked for */
    uint32_t is_zero;         /* it was never written to */
};

/* All that a commit makes durable. */
struct model_state {
    uint64_t number; /* of the commit */
    struct model_block blocks[MODEL_SLOTS];
    struct model_block roots[MODEL_ROOTS];
    struct model_block table; /* the root "model" */
};

/* The blocks that are worked on for a while, and how. */
struct model_phase {
    uint64_t operations; /* left */
    uint32_t first_slot, slot_count;
    uint32_t sizes;      /* 0 tiny, 1 small, 2 all, 3 often large */
    uint32_t free_share; /* in 16ths, of the operations on a live block */
};

struct block_model {
    evh_heap *heap; /* the model's user opens and closes it */
    struct model_state *state;
    struct model_phase *phase;
    uint64_t *random;
};

/** Bind to an open heap, new or with a state: make the root, and mark what is live. */
void model_attach(struct block_model *model);
/** One random operation, checked. */
void model_step(struct block_model *model);
/** The number of the commit that the heap holds. */
uint64_t model_number(evh_heap *heap);
/** Store `number` in heap and state: the commit that comes is this one. */
void model_set_number(struct block_model *model, uint64_t number);
/** Compare heap and state: every block's place, size, alignment and contents, the refs, the roots,
 *  evh_walk, evh_get_info; with `is_thorough` also evh_check. */
void model_verify(struct block_model *model, bool is_thorough);
/** Free every block and remove every root but the model's own. */
void model_empty(struct block_model *model);

#endif
