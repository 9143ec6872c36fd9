/* heap_guard.c -- letter G: a page without access behind each block of a heap.
 *
 * A block takes whole pages and one more, the guard; it begins where its first page does, because a
 * block is known by where it begins, in the image too. So an overflow faults where it happens once
 * it leaves the last page: at once for sizes that are whole pages; for others, canaries (letter C)
 * fill the rest. A block in quarantine is closed altogether: whoever touches it faults, and nothing
 * of it has to be verified.
 *
 * For heaps whose pages nobody collects: in memory, and those opened privately. Guards are dropped
 * while the image is saved or rolled back, and set again at the next operation.
 */
#include "heap/checked.h"

uint64_t guards_offset(uint64_t size)
{
    assert(size > 0);
    assert(size <= REGION_SIZE_MAX);
    return base_round_up(size, os_page_bytes());
}

uint64_t guards_bytes(uint64_t size)
{
    const uint64_t page = os_page_bytes();
    assert(size > 0);
    assert(base_is_power_of_two(page));
    return size <= REGION_SIZE_MAX - 2 * page ? guards_offset(size) + page : 0;
}

evh_status guards_set(evh_heap *heap, void *block, uint64_t size, bool is_free)
{
    assert(block != NULL);
    assert((uintptr_t)block % os_page_bytes() == 0);
    unsigned char *guard = (unsigned char *)block + (is_free ? 0 : guards_offset(size));
    const uint64_t bytes = is_free ? guards_bytes(size) : os_page_bytes();
    int error = os->guard(guard, bytes, OS_GUARD_MARK);
    if (error == EINVAL) error = os->guard(guard, bytes, OS_GUARD_PROTECT);
    if (!error) return EVH_OK;
    return base_fail_os(error, evh_ref_to(heap, block).offset, "%s: cannot guard a block",
                        heap_path(heap));
}

void guards_drop(void *block, uint64_t size)
{
    assert(block != NULL);
    assert((uintptr_t)block % os_page_bytes() == 0);
    (void)os->guard(block, guards_bytes(size), OS_GUARD_NONE);
}

/* ---- all of them ---- */

void guards_drop_all(evh_heap *heap)
{
    assert(heap_lock_is_taken(&heap->debug->lock));
    assert(heap->view.base != NULL);
    if (!checked_has(heap, DEBUG_GUARD)) return;
    const struct debug_table *table = &heap->debug->table;
    for (size_t i = 0; i < table->slots; i++)
        if (table->blocks[i].key)
            guards_drop(heap->view.base + table->blocks[i].key, table->blocks[i].size);
}

void guards_set_all(evh_heap *heap)
{
    assert(heap_lock_is_taken(&heap->debug->lock));
    assert(heap->view.base != NULL);
    if (!checked_has(heap, DEBUG_GUARD)) return;
    const struct debug_table *table = &heap->debug->table;
    for (size_t i = 0; i < table->slots; i++) {
        const struct debug_block *block = &table->blocks[i];
        if (block->key)
            (void)guards_set(heap, heap->view.base + block->key, block->size, block->is_free);
    }
}

/* ---- what a fault means ---- */

/* The block in whose guard the address lies. */
static const struct debug_block *guards_find(const evh_heap *heap, uint64_t offset)
{
    assert(heap->debug != NULL);
    assert(offset > 0);
    const struct debug_table *table = &heap->debug->table;
    for (size_t i = 0; i < table->slots; i++) {
        const struct debug_block *block = &table->blocks[i];
        if (!block->key || offset < block->key) continue;
        const uint64_t first = block->is_free ? 0 : guards_offset(block->size);
        if (base_in_range(first, 1, offset - block->key + 1) &&
            offset - block->key < guards_bytes(block->size))
            return block;
    }
    return NULL;
}

static void guards_put(const evh_heap *heap, const struct fault_range *range,
                       const struct debug_block *block, uint64_t distance, struct fault_text *out)
{
    assert(block->size > 0);
    assert(block->is_free || distance >= block->size);
    fault_put(out, block->is_free ? "heap use after free: " : "heap overflow: ");
    fault_put(out, range->name);
    fault_put(out, ": an access ");
    fault_put_number(out, block->is_free ? distance : distance - block->size);
    fault_put(out, block->is_free ? " bytes into a freed block of " : " bytes behind a block of ");
    fault_put_number(out, block->size);
    if (checked_has(heap, DEBUG_SITES)) {
        fault_put(out, " (made at ");
        fault_put(out, block->made_at);
        if (block->is_free) fault_put(out, ", freed at ");
        if (block->is_free) fault_put(out, block->freed_at);
        fault_put(out, ")");
    }
    fault_put(out, "\n");
}

/* Runs in a signal handler: of whoever holds the lock nothing can be asked. */
static bool guards_describe(const struct fault_range *range, uintptr_t address,
                            struct fault_text *out)
{
    const evh_heap *heap = range->owner;
    assert(heap != NULL);
    assert(address >= range->start);
    struct heap_debug *debug = heap->debug;
    if (!debug || !heap_lock_try(&debug->lock)) return false;
    const struct debug_block *block = guards_find(heap, address - range->start);
    if (block) guards_put(heap, range, block, address - range->start - block->key, out);
    heap_lock_drop(&debug->lock);
    return block != NULL;
}

/* ---- making and ending ---- */

bool guards_are_possible(const evh_heap *heap)
{
    assert(heap->view.base != NULL);
    assert(heap->is_writable);
    if (heap->compact || heap->live || heap->region->is_borrowed) return false;
    return heap->mode == EVH_MEMORY || heap->mode == EVH_PRIVATE;
}

evh_status guards_refuse(const evh_heap *heap)
{
    assert(heap->view.base != NULL);
    assert(!guards_are_possible(heap));
    return base_fail(EVH_MODE, NO_OFFSET,
                     "%s: guard pages (letter G) are for heaps in the system's memory and those "
                     "opened with EVH_PRIVATE",
                     heap_path(heap));
}

evh_status guards_begin(evh_heap *heap)
{
    assert(heap->debug != NULL);
    assert(heap->view.base != NULL);
    const evh_status status = fault_install();
    if (status) return status;
    struct fault_range range = {.kind = "heap",
                                .start = (uintptr_t)heap->view.base,
                                .end = (uintptr_t)heap->view.base + heap->region->reserved_bytes,
                                .describe = guards_describe,
                                .owner = heap};
    const char *path = heap_path(heap);
    const size_t length = strlen(path);
    const size_t kept = base_min(length, FAULT_NAME_SIZE - 1);
    memcpy(range.name, path + (length - kept), kept); /* its end tells more */
    heap->debug->fault = fault_add(&range);
    return EVH_OK;
}

void guards_end(evh_heap *heap)
{
    assert(heap->debug != NULL);
    fault_remove(heap->debug->fault);
    heap->debug->fault = 0;
    assert(heap->debug->fault == 0);
}
