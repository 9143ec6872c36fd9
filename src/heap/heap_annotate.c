/* heap_annotate.c -- ASan and Valgrind see the blocks of a heap.
 *
 * A heap that is watched by one of them is debugged, without letters: its fast path is closed, and
 * the table of blocks knows the bytes that were asked for. What is behind them is closed, and so is
 * a freed block until its place is handed out again.
 *
 * A commit, a save and a rollback read and write whole pages: before them everything is opened, and
 * closed again afterwards, by a walk over the live blocks: what lies between two of them in one
 * slice is free, and so are free slices, which are opened when they are taken.
 *
 * Not annotated are live heaps, whose blocks other processes free, and memory that is the caller's:
 * small heaps and buffers, which he may copy as they are.
 */
#include "heap/checked.h"

/* Set where the library's own tests run under ASan: on the fast paths, too. */
#ifndef EVERHEAP_HEAPS_UNANNOTATED
#define EVERHEAP_HEAPS_UNANNOTATED 0
#endif

bool annotate_is_wanted(const evh_heap *heap)
{
    assert(heap != NULL);
    assert(heap->debug == NULL);
    if (!os_is_annotated() || EVERHEAP_HEAPS_UNANNOTATED) return false;
    return heap->is_writable && !heap->compact && !heap->live && !heap->has_magazines &&
           !heap->region->is_borrowed;
}

void annotate_checking(const evh_heap *heap, const void *block, uint64_t usable)
{
    assert(heap->debug != NULL);
    assert(block != NULL);
    if (heap->debug->is_annotated) os_annotate_defined(block, usable);
}

void annotate_checked(const evh_heap *heap, const void *block, uint64_t size, uint64_t usable)
{
    assert(heap->debug != NULL);
    assert(size <= usable);
    if (!heap->debug->is_annotated || heap->debug->is_bare) return;
    os_annotate_closed((const unsigned char *)block + size, usable - size);
}

void annotate_made(const evh_heap *heap, const void *block, uint64_t size, uint64_t usable)
{
    assert(block != NULL);
    assert(size > 0);
    if (heap->debug->is_annotated) os_annotate_open(block, size);
    annotate_checked(heap, block, size, usable);
}

void annotate_freed(const evh_heap *heap, const void *block, uint64_t usable)
{
    assert(heap->debug != NULL);
    assert(block != NULL);
    annotate_checked(heap, block, 0, usable);
}

void annotate_taken(const evh_heap *heap, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(count > 0);
    if (heap->debug->is_annotated)
        os_annotate_defined(heap->view.base + (first << SLICE_SHIFT), count << SLICE_SHIFT);
}

void annotate_open_all(evh_heap *heap)
{
    assert(heap_lock_is_taken(&heap->debug->lock));
    assert(heap->view.base != NULL);
    if (heap->debug->is_annotated) os_annotate_defined(heap->view.base, heap_end_bytes(heap));
}

struct annotate_walk {
    evh_heap *heap;
    uint64_t end; /* of the block before */
};

static bool annotate_visit(const evh_block *block, void *context)
{
    struct annotate_walk *walk = context;
    const evh_heap *heap = walk->heap;
    const uint64_t offset = block->ref.offset;
    assert(offset >= walk->end);
    if (walk->end >> SLICE_SHIFT == offset >> SLICE_SHIFT)
        os_annotate_closed(heap->view.base + walk->end, offset - walk->end);
    walk->end = offset + block->size;
    const struct debug_block *known = debug_table_find(&heap->debug->table, offset);
    if (!known) return true;
    assert(known->size <= block->size);
    annotate_checked(heap, block->address, known->is_free ? 0 : known->size, block->size);
    return true;
}

static evh_status annotate_close_run(uint64_t first_slice, uint64_t count, void *context)
{
    const evh_heap *heap = context;
    assert(first_slice > 0);
    assert(count > 0);
    os_annotate_closed(heap->view.base + (first_slice << SLICE_SHIFT), count << SLICE_SHIFT);
    return EVH_OK;
}

/* The rests of the blocks that are known, and those that were freed. */
static void annotate_close_known(evh_heap *heap)
{
    const struct debug_table *table = &heap->debug->table;
    assert(heap_lock_is_taken(&heap->debug->lock));
    for (size_t i = 0; i < table->slots; i++) {
        const struct debug_block *block = &table->blocks[i];
        uint64_t usable = 0;
        if (!block->key || !heap_block_at(heap, block->key, &usable)) continue;
        assert(block->size <= usable);
        annotate_checked(heap, heap->view.base + block->key, block->is_free ? 0 : block->size,
                         usable);
    }
}

void annotate_close_all(evh_heap *heap, bool is_still)
{
    assert(heap_lock_is_taken(&heap->debug->lock));
    assert(!heap->debug->is_bare);
    struct annotate_walk walk = {heap, 0};
    if (!heap->debug->is_annotated) return;
    if (!is_still) {
        annotate_close_known(heap);
        return;
    }
    (void)slices_walk(heap, annotate_visit, &walk);
    (void)slices_each_free_run(heap, annotate_close_run, heap);
}
