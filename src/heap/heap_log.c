/* heap_log.c -- letter O in a live heap: a log of operations that survives every process.
 *
 * The log is the block of a root: the stores that fill it are in the file's pages at once, like all
 * others. Blocks are not watched otherwise, because other processes free them and use them again.
 */
#include "debug/debug_layout.h"
#include "heap/checked.h"

#include <everheap/inspect.h>

evh_status heap_log_begin(evh_heap *heap)
{
    assert(heap->live != NULL);
    if (!heap->debug || !checked_has(heap, DEBUG_LOG)) return EVH_OK;
    assert(heap->debug->ring == NULL);
    struct debug_ring *ring = evh_root_tagged(heap, EVH_DEBUG_LOG_TAG, sizeof *ring);
    if (!ring) return evh_last_error()->status;
    debug_ring_begin(ring);
    heap->debug->ring = ring;
    return EVH_OK;
}

void heap_log_operation(evh_heap *heap, const char *operation, const void *address, uint64_t size)
{
    assert(heap->live != NULL);
    assert(heap->debug != NULL);
    const char *site = debug_take_site();
    struct debug_ring *ring = heap->debug->ring;
    if (ring)
        debug_ring_add(ring, operation, heap_path(heap), evh_ref_to(heap, address).offset, size,
                       site);
}

void *heap_log_allocate(evh_heap *heap, size_t size, size_t alignment)
{
    assert(size > 0);
    assert(base_is_power_of_two(alignment));
    void *block = heap_raw_allocate(heap, size, alignment);
    if (!block) return NULL;
    heap_log_operation(heap, "alloc", block, size);
    (void)base_add_fetch(&heap->debug->allocations, 1, __ATOMIC_RELAXED);
    return block;
}

/* Before it is freed: afterwards another may have it, and be logged first. */
evh_status heap_log_free(evh_heap *heap, void *block)
{
    uint64_t size = 0;
    assert(block != NULL);
    assert(heap->live != NULL);
    (void)slices_block_at(heap, evh_ref_to(heap, block).offset, &size);
    heap_log_operation(heap, "free", block, size);
    const evh_status status = heap_raw_free(heap, block);
    if (!status) (void)base_add_fetch(&heap->debug->frees, 1, __ATOMIC_RELAXED);
    return status;
}

evh_status evh_debug_heap_log(evh_heap *heap, evh_debug_operation_visit *visit, void *context)
{
    assert(!heap || heap->view.base);
    size_t size = 0;
    if (!heap) return base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
    if (!visit) return base_fail(EVH_INVALID, NO_OFFSET, "no visit of the log: it is null");
    const struct debug_ring *ring = evh_root_find_tagged(heap, EVH_DEBUG_LOG_TAG, &size);
    if (!ring)
        return base_fail(EVH_NOT_FOUND, NO_OFFSET, "%s: no operation was ever logged in it",
                         heap_path(heap));
    assert(heap->view.base != NULL);
    return debug_ring_visit(ring, size, visit, context);
}
