/* live_slots.c -- who is there: processes, threads, what they were doing, and who died.
 *
 * A process slot belongs to whoever holds the kernel's lock on its byte: the kernel drops it when
 * the process dies, and not before. A thread slot's word holds its generation; a slice's owner word
 * holds a tag with the generation that it was taken in. Raising the generation makes every slice of
 * that thread nobody's, by one store.
 *
 * Reaping is done with the dead process's byte locked, so by one at a time; all of its steps may be
 * repeated, because a reaper may die, too.
 */
#include "heap/heap.h"

static uint64_t slots_word(uint64_t generation, uint32_t process, enum live_thread_state state)
{
    assert(generation > 0);
    assert(generation <= UINT32_MAX);
    return generation << 32 | (uint64_t)process << 8 | (uint64_t)state;
}

static uint64_t slots_generation(uint64_t word)
{
    return word >> 32;
}

static uint32_t slots_process(uint64_t word)
{
    return (uint32_t)(word >> 8) & 0xffff;
}

static enum live_thread_state slots_state(uint64_t word)
{
    return (enum live_thread_state)(word & 0xff);
}

/* A free slot of the next generation: its tags are stale. */
static uint64_t slots_next(uint64_t word)
{
    assert(slots_state(word) != LIVE_THREAD_FREE);
    const uint64_t generation = slots_generation(word) + !PLANTED(16);
    assert(slots_process(word) < LIVE_PROCESSES_MAX);
    return slots_word(generation > UINT32_MAX ? 1 : generation, 0, LIVE_THREAD_FREE);
}

EVH_INTERNAL bool live_is_stale(const struct live *live, uint64_t tag)
{
    assert(live->threads != NULL);
    assert(live->heap != NULL);
    if (tag == 0) return true;
    const uint32_t slot = live_tag_slot(tag);
    if (NEVER(slot >= LIVE_THREADS_MAX)) return true;
    return slots_generation(base_load(&live->threads[slot].word, __ATOMIC_ACQUIRE)) != tag >> 32;
}

/* ---- processes ---- */

static bool slots_lock(const struct live *live, uint32_t process)
{
    assert(process < LIVE_PROCESSES_MAX);
    assert(live->heap->region->lock_file >= 0);
    return os->lock(live->heap->region->lock_file, REGION_LOCK_PROCESSES + process, 1,
                    OS_LOCK_EXCLUSIVE) == 0;
}

static void slots_unlock(const struct live *live, uint32_t process)
{
    assert(process < LIVE_PROCESSES_MAX);
    assert(live->heap->region->lock_file >= 0);
    (void)os->lock(live->heap->region->lock_file, REGION_LOCK_PROCESSES + process, 1, OS_UNLOCK);
}

/* All that the process had becomes nobody's. Its byte is locked by us. False: not by us, because
 * the refs in the intents of another may be where we have no addresses, and would seem to name
 * nothing. */
static bool slots_reap(struct live *live, uint32_t process, bool is_own)
{
    assert(process < LIVE_PROCESSES_MAX);
    assert(live->session != NULL);
    if (!is_own && live_is_beyond(live)) return false;
    for (uint32_t i = 0; i < LIVE_THREADS_MAX; i++) {
        struct live_thread *thread = &live->threads[i];
        const uint64_t word = base_load(&thread->word, __ATOMIC_ACQUIRE);
        if (slots_state(word) == LIVE_THREAD_FREE || slots_process(word) != process) continue;
        if (PLANTED(18)) base_store(&thread->word, slots_next(word), __ATOMIC_RELEASE);
        live_resolve(live, i);
        base_store(&thread->announced, 0, __ATOMIC_RELAXED);
        if (!PLANTED(18)) base_store(&thread->word, slots_next(word), __ATOMIC_RELEASE);
    }
    base_store(&live->processes[process].state, 0, __ATOMIC_RELEASE);
    return true;
}

EVH_INTERNAL bool live_reap(struct live *live)
{
    assert(live->session != NULL);
    assert(live->process < LIVE_PROCESSES_MAX);
    /* Our own locks do not keep our own threads apart. */
    uint32_t nobody = 0;
    if (!base_compare_exchange(&live->reaping, &nobody, 1, false, __ATOMIC_ACQUIRE,
                               __ATOMIC_RELAXED))
        return false;
    bool found = false;
    for (uint32_t i = 0; i < LIVE_PROCESSES_MAX; i++) {
        if (i == live->process || !base_load(&live->processes[i].state, __ATOMIC_ACQUIRE)) continue;
        if (!slots_lock(live, i)) continue;
        if (base_load(&live->processes[i].state, __ATOMIC_ACQUIRE) && slots_reap(live, i, false))
            found = true;
        slots_unlock(live, i);
    }
    base_store(&live->reaping, 0, __ATOMIC_RELEASE);
    return found;
}

EVH_INTERNAL evh_status live_take_process(struct live *live)
{
    assert(live->session != NULL);
    assert(live->processes != NULL);
    for (unsigned round = 0; round < 2; round++)
        for (uint32_t i = 0; i < LIVE_PROCESSES_MAX; i++) {
            struct live_process *process = &live->processes[i];
            const bool is_used = base_load(&process->state, __ATOMIC_ACQUIRE) != 0;
            if ((round == 0 && is_used) || !slots_lock(live, i)) continue;
            if (!slots_reap(live, i, false)) { /* whoever had it is dead */
                slots_unlock(live, i);
                return live_refuse_beyond(live);
            }
            base_store(&process->pid, os->process(), __ATOMIC_RELAXED);
            base_store(&process->since, os->time_ns(), __ATOMIC_RELAXED);
            base_store(&process->state, 1, __ATOMIC_RELEASE);
            live->process = i;
            return EVH_OK;
        }
    return base_fail(EVH_LIMIT, NO_OFFSET, "%s: %d processes are attached already",
                     heap_path(live->heap), LIVE_PROCESSES_MAX);
}

/* ---- threads ---- */

/* A free thread slot for the cache. */
static evh_status slots_take(struct live *live, struct cache *cache)
{
    assert(cache->tag == 0);
    assert(!base_load(&live->is_child, __ATOMIC_RELAXED));
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < LIVE_THREADS_MAX; i++) {
            uint64_t word = base_load(&live->threads[i].word, __ATOMIC_ACQUIRE);
            if (slots_state(word) != LIVE_THREAD_FREE) continue;
            const uint64_t generation = base_max(slots_generation(word), 1);
            const uint64_t mine = slots_word(generation, live->process, LIVE_THREAD_USED);
            if (!base_compare_exchange(&live->threads[i].word, &word, mine, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED))
                continue;
            cache->thread_slot = i;
            cache->tag = live_tag(generation, i);
            return EVH_OK;
        }
        const bool has_reaped = live_reap(live);
        if (!live_dissolve_parked(live) && !has_reaped) break;
    }
    return base_fail(EVH_LIMIT, NO_OFFSET, "%s: %d threads use it already", heap_path(live->heap),
                     LIVE_THREADS_MAX);
}

EVH_INTERNAL evh_status live_need_slot(struct cache *cache)
{
    assert(cache->heap != NULL);
    assert(cache->heap->live != NULL);
    struct live *live = cache->heap->live;
    const evh_status status = live_join(live);
    if (status) return status;
    if (cache->tag != 0) {
        struct live_thread *thread = &live->threads[cache->thread_slot];
        uint64_t word = base_load(&thread->word, __ATOMIC_ACQUIRE);
        if (slots_generation(word) == cache->tag >> 32) {
            if (slots_state(word) == LIVE_THREAD_USED) return EVH_OK;
            const uint64_t used =
                slots_word(slots_generation(word), live->process, LIVE_THREAD_USED);
            if (base_compare_exchange(&thread->word, &word, used, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED))
                return EVH_OK;
        }
        owners_forget(cache); /* it was dissolved while it was parked */
        cache->tag = 0;
    }
    return slots_take(live, cache);
}

static struct cache *slots_new_cache(evh_heap *heap)
{
    assert(heap->live != NULL);
    enum { ALIGNMENT = 64 };
    void *memory = os->memory_allocate(sizeof(struct cache) + ALIGNMENT);
    if (!memory) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory for a thread's cache",
                        heap_path(heap));
        return NULL;
    }
    struct cache *cache = (void *)base_round_up((uintptr_t)memory, ALIGNMENT);
    cache->memory = memory;
    cache->heap = heap;
    cache->stamp = heap->stamp;
    cache->in_use = 1;
    owners_begin(cache);
    cache->id = base_add_fetch(&heap->slices.cache_count, 1, __ATOMIC_RELAXED);
    assert(cache->id > 0);
    struct cache *first = base_load(&heap->slices.caches, __ATOMIC_RELAXED);
    do cache->next_of_heap = first;
    while (!base_compare_exchange(&heap->slices.caches, &first, cache, true, __ATOMIC_RELEASE,
                                  __ATOMIC_RELAXED));
    return cache;
}

EVH_INTERNAL struct cache *live_take_cache(evh_heap *heap)
{
    assert(heap->live != NULL);
    struct cache *cache = base_load(&heap->slices.caches, __ATOMIC_ACQUIRE);
    for (; cache; cache = cache->next_of_heap) {
        uint32_t unused = 0;
        if (base_load(&cache->in_use, __ATOMIC_RELAXED) == 0 &&
            base_compare_exchange(&cache->in_use, &unused, 1, false, __ATOMIC_ACQUIRE,
                                  __ATOMIC_RELAXED))
            break;
    }
    if (!cache) cache = slots_new_cache(heap);
    if (!cache) return NULL;
    assert(cache->heap == heap);
    if (live_need_slot(cache)) {
        base_store(&cache->in_use, 0, __ATOMIC_RELEASE);
        return NULL;
    }
    cache->has_thread = true;
    return cache;
}

/* The thread was cancelled inside a call: what it had is nobody's, like a dead process's. */
static void slots_abandon(struct live *live, struct cache *cache)
{
    assert(cache->tag != 0);
    assert(!base_load(&live->is_child, __ATOMIC_RELAXED));
    const uint32_t slot = cache->thread_slot;
    uint64_t *word = &live->threads[slot].word;
    live_resolve(live, slot);
    base_store(word, slots_next(base_load(word, __ATOMIC_RELAXED)), __ATOMIC_RELEASE);
    owners_forget(cache);
    cache->tag = 0;
}

EVH_INTERNAL void live_park(struct cache *cache)
{
    assert(cache->heap != NULL);
    struct live *live = cache->heap->live;
    assert(cache->has_thread);
    if (cache->tag != 0 && base_load(&live->intents[cache->thread_slot].block, __ATOMIC_RELAXED))
        slots_abandon(live, cache);
    if (cache->tag != 0) {
        uint64_t word = slots_word(cache->tag >> 32, live->process, LIVE_THREAD_USED);
        const uint64_t parked = slots_word(cache->tag >> 32, live->process, LIVE_THREAD_PARKED);
        (void)base_compare_exchange(&live->threads[cache->thread_slot].word, &word, parked, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    cache->has_thread = false;
    base_store(&cache->in_use, 0, __ATOMIC_RELEASE);
}

EVH_INTERNAL bool live_dissolve_parked(struct live *live)
{
    assert(live->threads != NULL);
    assert(live->process < LIVE_PROCESSES_MAX);
    bool found = false;
    for (uint32_t i = 0; i < LIVE_THREADS_MAX; i++) {
        uint64_t word = base_load(&live->threads[i].word, __ATOMIC_RELAXED);
        if (slots_state(word) != LIVE_THREAD_PARKED) continue;
        if (base_compare_exchange(&live->threads[i].word, &word, slots_next(word), false,
                                  __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            found = true;
    }
    return found;
}

EVH_INTERNAL void live_drop_process(struct live *live)
{
    assert(live->session != NULL);
    if (base_load(&live->is_child, __ATOMIC_RELAXED)) return; /* it never had one */
    assert(live->process < LIVE_PROCESSES_MAX);
    (void)slots_reap(live, live->process, true);
    slots_unlock(live, live->process);
}
