/* fault_table.c -- which heap, arena, pool or stack a guard page belongs to.
 *
 * Read by a signal handler at any moment: a fixed table, slots with a version that is odd while
 * they change, no lock and no memory. The text is put together by hand, since printf() may not be
 * called there.
 */
#include "heap/heap.h"

enum { FAULT_SLOTS = 4096 };

enum { FAULT_WORDS = sizeof(struct fault_range) / 8 };
static_assert(sizeof(struct fault_range) == FAULT_WORDS * 8, "words hold all of it");

union fault_content {
    struct fault_range range;
    uint64_t words[FAULT_WORDS]; /* as others see it. Atomic. */
};

struct fault_slot {
    uint64_t version; /* odd: being changed; 0: never used. Atomic. */
    union fault_content content;
};

static struct fault_slot fault_slots[FAULT_SLOTS];
static uint32_t fault_end;          /* no slot at or behind it was ever used; atomic */
static struct heap_lock fault_lock; /* of changes */

/* With the lock. Each release keeps the odd version before it; the last publishes them all. */
static void fault_store(struct fault_slot *slot, const struct fault_range *range)
{
    assert(heap_lock_is_taken(&fault_lock));
    const union fault_content from = {.range = *range};
    const uint64_t version = base_load(&slot->version, __ATOMIC_RELAXED);
    assert(version % 2 == 0);
    base_store(&slot->version, version + 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < FAULT_WORDS; i++)
        base_store(&slot->content.words[i], from.words[i], __ATOMIC_RELEASE);
    base_store(&slot->version, version + 2, __ATOMIC_RELEASE);
}

/* A copy of a slot; false if it changes: then it is not the one that a fault is about. */
static bool fault_load(const struct fault_slot *slot, union fault_content *copy)
{
    assert(slot < fault_slots + FAULT_SLOTS);
    assert(slot > fault_slots);
    const uint64_t version = base_load(&slot->version, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < FAULT_WORDS; i++)
        copy->words[i] = base_load(&slot->content.words[i], __ATOMIC_ACQUIRE);
    return version % 2 == 0 && base_load(&slot->version, __ATOMIC_RELAXED) == version;
}

uint32_t fault_add(const struct fault_range *range)
{
    assert(range->start < range->end);
    assert(range->guard_bytes > 0 || range->describe);
    uint32_t found = 0;
    heap_lock_take(&fault_lock);
    for (uint32_t i = 1; i < FAULT_SLOTS && !found; i++)
        if (fault_slots[i].content.range.end == 0) found = i;
    if (found) {
        fault_store(&fault_slots[found], range);
        if (found >= fault_end) base_store(&fault_end, found + 1, __ATOMIC_RELEASE);
    }
    heap_lock_drop(&fault_lock);
    return found;
}

void fault_remove(uint32_t number)
{
    if (number == 0) return;
    assert(number < FAULT_SLOTS);
    const struct fault_range nothing = {.end = 0};
    heap_lock_take(&fault_lock);
    assert(fault_slots[number].content.range.end != 0);
    fault_store(&fault_slots[number], &nothing);
    heap_lock_drop(&fault_lock);
}

/* ---- the message ---- */

void fault_put(struct fault_text *out, const char *text)
{
    assert(out->length < out->size);
    assert(text != NULL);
    for (size_t i = 0; text[i] && out->length + 1 < out->size; i++)
        out->text[out->length++] = text[i];
    out->text[out->length] = 0;
}

void fault_put_number(struct fault_text *out, uint64_t number)
{
    char digits[21];
    size_t at = sizeof digits - 1;
    assert(out != NULL);
    digits[at] = 0;
    do {
        assert(at > 0);
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    fault_put(out, digits + at);
}

/* An edge: of which two there are, or, with a stride, one behind each block. */
static void fault_put_edge(struct fault_text *out, const struct fault_range *range,
                           uintptr_t address)
{
    assert(range->kind != NULL);
    const bool is_behind = range->stride || address >= range->end - range->guard_bytes;
    assert(is_behind || address < range->start + range->guard_bytes);
    fault_put(out, range->kind);
    fault_put(out, is_behind ? " overflow: '" : " underflow: '");
    fault_put(out, range->name);
    fault_put(out, is_behind ? "': an access in the guard behind it, "
                             : "': an access in the guard before it, ");
    uint64_t distance = range->start + range->guard_bytes - address;
    if (range->stride)
        distance = (address - range->start) % range->stride;
    else if (is_behind)
        distance = address - (range->end - range->guard_bytes);
    fault_put_number(out, distance);
    fault_put(out, is_behind ? " bytes from its end\n" : " bytes from its start\n");
}

/* Whether `address` lies in a guard of the range. */
static bool fault_is_guard(const struct fault_range *range, uintptr_t address)
{
    assert(range->end == 0 || range->start < range->end);
    assert(range->end == 0 || range->guard_bytes || range->describe);
    if (address < range->start || address >= range->end) return false;
    if (range->guard_bytes == 0) return true; /* whoever describes it knows */
    const uintptr_t offset = address - range->start;
    if (range->stride) return offset % range->stride < range->guard_bytes;
    return offset < range->guard_bytes || address >= range->end - range->guard_bytes;
}

/* An os_explain: runs in a signal handler. */
static bool fault_explain_guard(const void *pointer, char *message, size_t size)
{
    assert(message != NULL);
    const uintptr_t address = (uintptr_t)pointer;
    const uint32_t end = base_load(&fault_end, __ATOMIC_ACQUIRE);
    assert(end <= FAULT_SLOTS);
    for (uint32_t i = 1; i < end; i++) {
        union fault_content copy;
        const struct fault_range *range = &copy.range;
        struct fault_text out = {message, 0, size};
        if (!fault_load(&fault_slots[i], &copy) || !fault_is_guard(range, address)) continue;
        fault_put(&out, "everheap: ");
        if (!range->describe)
            fault_put_edge(&out, range, address);
        else if (!range->describe(range, address, &out))
            continue;
        return true;
    }
    return false;
}

/* In a forked child there is one thread; whoever held the lock is gone, perhaps in the middle of a
 * slot, which is nobody's then. */
static void fault_forked(void)
{
    const struct fault_range nothing = {.end = 0};
    fault_lock.state = HEAP_LOCK_TAKEN;
    for (uint32_t i = 1; i < FAULT_SLOTS; i++) {
        if (fault_slots[i].version % 2 == 0) continue;
        fault_slots[i].version++;
        fault_store(&fault_slots[i], &nothing);
    }
    fault_lock.state = HEAP_LOCK_OPEN;
    assert(!heap_lock_is_taken(&fault_lock));
}

evh_status fault_install(void)
{
    os_at_fork(NULL, NULL, fault_forked);
    const int error = os_at_fault(fault_explain_guard);
    assert(error >= 0);
    if (error) return base_fail_os(error, NO_OFFSET, "cannot set a handler for faults");
    assert(fault_end <= FAULT_SLOTS);
    return EVH_OK;
}
