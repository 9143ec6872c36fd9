/* live_intents.c -- what a thread is in the middle of, so that its death can be mended.
 *
 * An intent names a block that is about to be made, or freed, and the word that decides. Its thread
 * writes it; and who wants to change that word, and has to decide first, writes its kind. When the
 * thread is dead, a reaper does what is left to do, and may die in the middle and leave it to the
 * next.
 *
 * Freeing twice must be harmless: so from before the free until the intent is void, nobody gets the
 * block's place. The thread says that it frees (`freeing`, a bit in the session). Who folds a
 * mirror leaves the blocks of such intents in it; who takes slices leaves those alone where such a
 * block begins.
 */
#include "heap/heap.h"

#define INTENT_KIND_BITS 8

/* ---- making ---- */

EVH_INTERNAL enum live_intent_kind live_intent_kind(uint64_t kind)
{
    static_assert(LIVE_INTENT_KINDS < 1 << INTENT_KIND_BITS, "the others count");
    return (enum live_intent_kind)(kind & ((1 << INTENT_KIND_BITS) - 1));
}

EVH_INTERNAL void live_intent_begin(struct live_intent *intent, enum live_intent_kind kind,
                                    uint64_t slot, uint64_t second)
{
    assert(kind < LIVE_INTENT_KINDS);
    assert(base_load(&intent->block, __ATOMIC_RELAXED) == 0);
    const uint64_t before = base_load(&intent->kind, __ATOMIC_RELAXED);
    const uint64_t count = (before >> INTENT_KIND_BITS) + 1;
    base_store(&intent->kind, count << INTENT_KIND_BITS | (uint64_t)kind, __ATOMIC_RELEASE);
    base_store(&intent->slot, slot, __ATOMIC_RELEASE);
    base_store(&intent->second, second, __ATOMIC_RELEASE);
}

EVH_INTERNAL void live_intent_end(struct live_intent *intent)
{
    assert(intent != NULL);
    base_store(&intent->block, 0, __ATOMIC_SEQ_CST);
    base_store(&intent->second, 0, __ATOMIC_RELEASE);
    assert(base_load(&intent->block, __ATOMIC_RELAXED) == 0);
}

EVH_INTERNAL void live_intent_decide(struct live_intent *intent, uint64_t slot, uint64_t record)
{
    assert(slot != 0);
    assert(record != 0);
    /* The count in the kind tells this intent from the thread's next one. */
    uint64_t kind = base_load(&intent->kind, __ATOMIC_ACQUIRE);
    const uint64_t block = base_load(&intent->block, __ATOMIC_ACQUIRE);
    if (block == 0 || base_load(&intent->slot, __ATOMIC_ACQUIRE) != slot) return;
    enum live_intent_kind decided;
    switch (live_intent_kind(kind)) {
    case LIVE_INTENT_ROOT: decided = LIVE_INTENT_MADE; break;
    case LIVE_INTENT_GONE: decided = LIVE_INTENT_FREE; break;
    default: return;
    }
    if (decided == LIVE_INTENT_MADE && block != record) return;
    (void)base_compare_exchange(&intent->kind, &kind,
                                (kind >> INTENT_KIND_BITS << INTENT_KIND_BITS) | (uint64_t)decided,
                                false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

EVH_INTERNAL void live_set_freeing(struct live *live, uint32_t thread_slot, bool value)
{
    assert(thread_slot < LIVE_THREADS_MAX);
    assert(live->session != NULL);
    uint64_t *word = &live->session->freeing[thread_slot / 64];
    const uint64_t bit = 1ull << thread_slot % 64;
    if (value)
        (void)base_fetch_or(word, bit, __ATOMIC_SEQ_CST);
    else
        (void)base_fetch_and(word, ~bit, __ATOMIC_SEQ_CST);
}

/* ---- those of others ---- */

/* The blocks that those who say that they free name: at most `found_max` of them that lie in [from,
 * to). */
static uint32_t intents_find(const struct live *live, uint64_t from, uint64_t to, uint64_t *found,
                             uint32_t found_max)
{
    assert(from < to);
    assert(found_max > 0);
    uint32_t count = 0;
    for (uint32_t i = 0; i < LIVE_THREADS_MAX / 64; i++)
        for (uint64_t set = base_load(&live->session->freeing[i], __ATOMIC_SEQ_CST); set;
             set &= set - 1) {
            const struct live_intent *intent = &live->intents[i * 64 + base_lowest_bit(set)];
            const uint64_t blocks[] = {base_load(&intent->block, __ATOMIC_SEQ_CST),
                                       base_load(&intent->second, __ATOMIC_SEQ_CST)};
            for (unsigned k = 0; k < 2; k++)
                if (blocks[k] >= from && blocks[k] < to && count < found_max)
                    found[count++] = blocks[k];
        }
    return count;
}

EVH_INTERNAL uint64_t live_held_bits(struct live *live, const struct slice *slice, uint32_t word)
{
    assert(word < slice->word_count);
    assert(slice->block_bytes > 0);
    const uint64_t start = (uint64_t)(slice - live->heap->slices.table) << SLICE_SHIFT;
    const uint64_t from = start + word * 64ull * slice->block_bytes;
    const uint64_t to = from + 64ull * slice->block_bytes;
    uint64_t held = 0, found[64];
    const uint32_t count = intents_find(live, from, to, found, 64);
    if (count == 64) return UINT64_MAX; /* perhaps there are more: all wait */
    for (uint32_t i = 0; i < count; i++) held |= 1ull << (found[i] - from) / slice->block_bytes;
    return held;
}

EVH_INTERNAL bool live_is_anybody_freeing(const struct live *live)
{
    static_assert(LIVE_THREADS_MAX % 64 == 0, "whole words");
    assert(live->session != NULL);
    uint64_t any = 0;
    for (uint32_t i = 0; i < LIVE_THREADS_MAX / 64; i++)
        any |= base_load(&live->session->freeing[i], __ATOMIC_SEQ_CST);
    assert(live->heap != NULL);
    return any != 0;
}

EVH_INTERNAL uint64_t live_held_slice(const struct live *live, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(count > 0);
    uint64_t found = 0;
    const uint64_t from = first << SLICE_SHIFT;
    const uint64_t to = (first + count) << SLICE_SHIFT;
    if (LIKELY(!intents_find(live, from, to, &found, 1))) return 0;
    return found >> SLICE_SHIFT;
}

/* ---- of the dead ---- */

/* Whether the ref at `slot` in the heap names `block`. */
static bool intents_names(const struct live *live, uint64_t slot, uint64_t block)
{
    assert(block != 0);
    assert(live->area != NULL);
    const uint64_t end_bytes = live_end(live) << SLICE_SHIFT;
    const uint64_t catalog = LIVE_AREA_OFFSET + offsetof(struct live_area, catalog);
    if (slot < SLICE_BYTES && slot != catalog) return false; /* no other ref is there */
    if (slot % 8 || !base_in_range(slot, 8, end_bytes)) return false;
    const uint64_t *ref = (const uint64_t *)(const void *)(live->heap->view.base + slot);
    return base_load(ref, __ATOMIC_ACQUIRE) == block;
}

EVH_INTERNAL void live_resolve(struct live *live, uint32_t slot)
{
    assert(slot < LIVE_THREADS_MAX);
    assert(live->intents != NULL);
    struct live_intent *intent = &live->intents[slot];
    const uint64_t block = base_load(&intent->block, __ATOMIC_ACQUIRE);
    if (block) {
        /* Should we die, too, and the block be somebody else's by then, the next one frees it. */
        live_set_freeing(live, slot, true);
        const uint64_t ref = base_load(&intent->slot, __ATOMIC_RELAXED);
        const uint64_t kind = base_load(&intent->kind, __ATOMIC_RELAXED);
        if (live_intent_kind(kind) != LIVE_INTENT_NAMED)
            live_root_resolve(live, slot);
        else if (!intents_names(live, ref, block))
            live_free_quietly(live, block);
    }
    live_intent_end(intent);
    live_set_freeing(live, slot, false);
}

EVH_INTERNAL void live_resolve_all(struct live *live)
{
    assert(live->intents != NULL);
    assert(live->segments != NULL);
    for (uint32_t i = 0; i < LIVE_THREADS_MAX; i++) live_resolve(live, i);
}
