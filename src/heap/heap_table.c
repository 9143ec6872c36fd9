/* heap_table.c -- the heaps that this process has open: who owns an address, and what fork() does.
 *
 * A fixed table, so that looking up needs no lock and no memory is ever reused under a reader.
 * Slots change under one mutex; each has a version, odd while it changes, and a reader that sees
 * another version afterwards looks at the slot again (a sequence lock: H.-J. Boehm, "Can seqlocks
 * get along with programming language memory models?", MSPC 2012; the orderings sit on the
 * accesses).
 *
 * In a forked child, heaps with a file are marked before fork() returns there: the child shares its
 * parent's lock description and may neither write nor keep it alive. Memory heaps go on: the child
 * has a copy of its own.
 */
#include "heap/heap.h"

enum { TABLE_SLOTS = 1024 };

struct table_slot {
    uint64_t version; /* odd: being changed */
    uintptr_t base;
    uint64_t range_bytes; /* addresses that no other heap can get while this one is open */
    evh_heap *heap;       /* NULL: free */
};

static struct table_slot table_slots[TABLE_SLOTS];
static uint32_t table_end; /* no slot at or behind it was ever used */
static struct os_mutex *table_mutex;
static bool table_is_watching_forks; /* under the mutex */

/* The child has one thread. Whoever held the table's mutex is gone: take a new one, later. */
static void table_forked(void)
{
    assert(table_end <= TABLE_SLOTS);
    table_mutex = NULL;
    for (uint32_t i = 0; i < table_end; i++) {
        evh_heap *heap = table_slots[i].heap;
        if (table_slots[i].version % 2 != 0 || !heap) continue;
        if (heap->region && region_has_file(heap->region)) {
            heap->is_forked = heap->live == NULL; /* a live heap's child becomes one more process */
            region_forked(heap->region);
        }
        heap->hooks_lock.state = HEAP_LOCK_OPEN; /* whoever ran hooks is gone */
        heap_debug_forked(heap);
        if (heap->compact)
            compact_forked(heap);
        else
            slices_forked(heap);
    }
}

evh_status heap_table_lock(void)
{
    struct os_mutex *mutex = base_load(&table_mutex, __ATOMIC_ACQUIRE);
    if (!mutex) {
        struct os_mutex *made = NULL;
        const int error = os->mutex_create(&made);
        if (error) return base_fail_os(error, NO_OFFSET, "cannot make a lock");
        if (base_compare_exchange(&table_mutex, &mutex, made, false, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE))
            mutex = made;
        else
            os->mutex_end(made);
    }
    assert(mutex != NULL);
    os->mutex_lock(mutex);
    if (!table_is_watching_forks) {
        os_at_fork(NULL, NULL, table_forked);
        table_is_watching_forks = true;
    }
    return EVH_OK;
}

void heap_table_unlock(void)
{
    assert(table_mutex != NULL);
    assert(table_is_watching_forks);
    os->mutex_unlock(table_mutex);
}

static void table_store(struct table_slot *slot, evh_heap *heap, uint64_t range_bytes)
{
    assert(slot >= table_slots);
    assert(slot < table_slots + TABLE_SLOTS);
    assert(!heap == (range_bytes == 0));
    const uint64_t version = base_load(&slot->version, __ATOMIC_RELAXED);
    assert(version % 2 == 0);
    base_store(&slot->version, version + 1, __ATOMIC_RELAXED);
    const uintptr_t base = heap ? (uintptr_t)heap->view.base : 0;
    /* Each release keeps the odd version before it; the last publishes them all. */
    base_store(&slot->base, base, __ATOMIC_RELEASE);
    base_store(&slot->range_bytes, range_bytes, __ATOMIC_RELEASE);
    base_store(&slot->heap, heap, __ATOMIC_RELEASE);
    base_store(&slot->version, version + 2, __ATOMIC_RELEASE);
}

evh_status heap_table_add(evh_heap *heap)
{
    assert(heap->open_count == 1);
    assert(heap != NULL);
    assert(heap->view.base != NULL);
    uint32_t i = 0;
    while (i < TABLE_SLOTS && table_slots[i].heap) i++;
    if (i == TABLE_SLOTS)
        return base_fail(EVH_LIMIT, NO_OFFSET, "%s: %d heaps are open in this process already",
                         heap_path(heap), TABLE_SLOTS);
    if (i >= table_end) base_store(&table_end, i + 1, __ATOMIC_RELEASE);
    const uint64_t range = heap->compact ? heap->view.end_bytes : heap->region->reserved_bytes;
    table_store(&table_slots[i], heap, range);
    return EVH_OK;
}

void heap_table_remove(evh_heap *heap)
{
    assert(heap->open_count == 0);
    assert(heap != NULL);
    for (uint32_t i = 0; i < table_end; i++) {
        if (table_slots[i].heap != heap) continue;
        table_store(&table_slots[i], NULL, 0);
        return;
    }
    assert(false); /* it was never added */
}

evh_heap *heap_table_find(const void *base)
{
    assert(table_end <= TABLE_SLOTS);
    assert(base != NULL);
    for (uint32_t i = 0; i < table_end; i++) {
        evh_heap *heap = table_slots[i].heap;
        if (heap && heap->view.base == base) return heap;
    }
    return NULL;
}

/* A consistent copy of one slot. */
static struct table_slot table_load(const struct table_slot *slot)
{
    assert(slot >= table_slots);
    assert(slot < table_slots + TABLE_SLOTS);
    for (;;) { /* again only if the slot changed meanwhile: some heap was opened or closed */
        const uint64_t version = base_load(&slot->version, __ATOMIC_ACQUIRE);
        const struct table_slot copy = {
            .version = version,
            .base = base_load(&slot->base, __ATOMIC_ACQUIRE),
            .range_bytes = base_load(&slot->range_bytes, __ATOMIC_ACQUIRE),
            .heap = base_load(&slot->heap, __ATOMIC_ACQUIRE),
        };
        if (version % 2 == 0 && base_load(&slot->version, __ATOMIC_RELAXED) == version) return copy;
    }
}

evh_heap *evh_heap_of(const void *address)
{
    evh_heap *found = NULL;
    uint64_t found_bytes = UINT64_MAX;
    const uint32_t end = base_load(&table_end, __ATOMIC_ACQUIRE);
    assert(end <= TABLE_SLOTS);
    for (uint32_t i = 0; i < end; i++) {
        const struct table_slot slot = table_load(&table_slots[i]);
        const uint64_t offset = (uint64_t)((uintptr_t)address - slot.base);
        if (!slot.heap || offset >= slot.range_bytes) continue;
        const uint64_t end_bytes = heap_end_bytes(slot.heap);
        /* A heap in a buffer that is a block of another heap: the inner one has it. */
        if (offset >= end_bytes || end_bytes >= found_bytes) continue;
        found = slot.heap;
        found_bytes = end_bytes;
    }
    return found;
}
