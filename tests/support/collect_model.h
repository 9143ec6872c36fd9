/* collect_model.h -- a collection beside a plain one in memory: commits, rollbacks, kills, damage.
 *
 * A kind tells how one random operation changes a collection and its model, and how the two are
 * compared. The model is plain memory without pointers, so that a copy of it is a snapshot.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_COLLECT_MODEL_H
#define EVERHEAP_TESTS_SUPPORT_COLLECT_MODEL_H

#include <everheap.h>

#include "test.h"

struct collect_kind {
    const char *name;
    size_t model_bytes; /* all zero: empty */
    size_t root_bytes;  /* the root that holds the handle; all zero: empty */
    /** One operation, determined by `random` and the model. With a null heap it changes the model
     *  alone. False if the heap was full: nothing has changed then. */
    bool (*step)(evh_heap *heap, void *root, void *model, uint64_t random);
    /** CHECK that the collection is what the model is. */
    void (*verify)(evh_heap *heap, void *root, const void *model);
    /** Read and change a collection that may be damaged; nothing is expected but that it ends. */
    void (*exercise)(evh_heap *heap, void *root, uint64_t random);
    evh_status (*check)(evh_heap *heap, void *root);
    evh_status (*clear)(evh_heap *heap, void *root);
};

/** A heap in memory, the caller's to close. */
evh_heap *collect_open_memory(void);

uint64_t collect_live_blocks(evh_heap *heap);

/*
 * Strategy: random operations on a durable heap, with commits, rollbacks, closing without a commit
 * and reopening elsewhere; now and then another process goes on and is killed after a random number
 * of its commits, at whatever it then does.
 * Invariants: the collection is what the model is; its check and the heap's find nothing; what the
 * killed process left is one of its commits; clearing it leaves no block behind.
 */
void collect_model_run(const struct collect_kind *kind, uint64_t operations);

/*
 * Strategy: the same in a heap that is too small, so that operations fail half-way.
 * Invariants: one that failed has changed nothing; there is space again after clearing.
 */
void collect_full_run(const struct collect_kind *kind, uint64_t operations, size_t heap_bytes);

/*
 * Strategy: the blocks of a collection are damaged at random; then it is read and changed.
 * Invariants: nothing crashes, hangs, or (under a sanitizer) reads outside the heap; the check
 * ends.
 */
void collect_damage_run(const struct collect_kind *kind, uint64_t rounds);

#endif
