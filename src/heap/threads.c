/* threads.c -- a thread's caches, and the gate that lets a commit run beside threads.
 *
 * A thread has one cache per heap; `heap_thread` holds the one it used last. It is valid for a heap
 * if the stamps agree. Stamps change when a heap is opened and rolled back and are never used
 * twice, so nothing has to be told to other threads. When a thread ends, its caches are parked with
 * all they own, for the next thread that comes; when a heap is closed, its caches are left to the
 * threads that still have them. The registry's lock stands between these two.
 *
 * The gate: evh_enter() counts the thread's brackets in its cache, then looks at the gate; a commit
 * closes the gate, then looks at all counts. One of the two sees the other, because the commit has
 * the system put a memory barrier into every running thread in between (membarrier); so a bracket
 * costs no barrier. Where the system has none, evh_enter() brings its own.
 */
#include "heap/heap.h"

EVH_INTERNAL struct cache threads_nobody = {
    .bins = {[0 ... HEAP_CLASS_COUNT] = {.top = &magazine_none[MAGAZINE_SLOTS]}}};

EVH_INTERNAL _Thread_local struct heap_thread heap_thread = {.cache = &threads_nobody};

/* Protects the links between heaps and threads: cache->heap, and has_thread when either ends. */
static struct heap_lock threads_lock;

/* ThreadSanitizer does not know membarrier. (The explorer of interleavings does.) */
#if defined(EVERHEAP_EXPLORE)
enum { THREADS_SANITIZED = 0 };
#elif defined(__SANITIZE_THREAD__)
enum { THREADS_SANITIZED = 1 };
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
enum { THREADS_SANITIZED = 1 };
#else
enum { THREADS_SANITIZED = 0 };
#endif
#else
enum { THREADS_SANITIZED = 0 };
#endif

EVH_INTERNAL void heap_lock_wait(struct heap_lock *lock)
{
    assert(lock != NULL);
    for (unsigned i = 0; i < HEAP_LOCK_SPINS; i++) {
        uint32_t open = HEAP_LOCK_OPEN;
        if (base_load(&lock->state, __ATOMIC_RELAXED) != HEAP_LOCK_OPEN) continue;
        if (base_compare_exchange(&lock->state, &open, HEAP_LOCK_TAKEN, false, __ATOMIC_ACQUIRE,
                                  __ATOMIC_RELAXED))
            return;
    }
    while (base_exchange(&lock->state, HEAP_LOCK_AWAITED, __ATOMIC_ACQUIRE) != HEAP_LOCK_OPEN)
        os->wait(&lock->state, HEAP_LOCK_AWAITED);
    assert(heap_lock_is_taken(lock));
}

/* ---- attaching ---- */

static void threads_use(struct cache *cache)
{
    assert(cache->heap != NULL);
    assert(cache->has_thread);
    heap_thread.stamp = cache->stamp;
    heap_thread.cache = cache;
}

static void threads_end_cache(struct cache *cache)
{
    assert(heap_lock_is_taken(&threads_lock) || cache->heap == NULL);
    assert(cache != heap_thread.cache);
    assert(cache->memory != NULL);
    magazine_end(cache);
    os->memory_free(cache->memory);
}

/* Wake a committer that waits for brackets to close. */
static void gate_wake_committer(evh_heap *heap)
{
    assert(heap != NULL);
    assert(heap->compact == NULL);
    (void)base_fetch_add(&heap->slices.gate_wakes, 1, __ATOMIC_SEQ_CST);
    os->wake(&heap->slices.gate_wakes);
}

/* The next thread may have the cache, with all it owns. */
static void threads_park(evh_heap *heap, struct cache *cache)
{
    assert(heap_lock_is_taken(&threads_lock));
    assert(cache->has_thread);
    if (heap->live) {
        live_park(cache);
        return;
    }
    if (cache->magazines) { /* nobody is in a hurry for it now */
        magazine_give_all(cache);
        remote_drain(cache);
    }
    heap_lock_take(&heap->slices.lock);
    cache->has_thread = false;
    cache->next_parked = heap->slices.parked;
    heap->slices.parked = cache;
    heap_lock_drop(&heap->slices.lock);
}

/* The thread ends: park what it has in open heaps, end what closed heaps left it. */
static void threads_exit(void *unused)
{
    assert(unused == &heap_thread);
    (void)unused;
    heap_lock_take(&threads_lock);
    struct cache *cache = heap_thread.caches;
    heap_thread = (struct heap_thread){.cache = &threads_nobody};
    while (cache) {
        struct cache *next = cache->next_of_thread;
        evh_heap *heap = base_load(&cache->heap, __ATOMIC_RELAXED);
        cache->next_of_thread = NULL;
        if (!heap) {
            threads_end_cache(cache);
        } else {
            /* A thread that ends inside its bracket must not hold up commits for ever. */
            if (base_exchange(&cache->depth, 0, __ATOMIC_SEQ_CST)) gate_wake_committer(heap);
            threads_park(heap, cache);
        }
        cache = next;
    }
    heap_lock_drop(&threads_lock);
}

static struct cache *threads_new_cache(evh_heap *heap)
{
    assert(heap->compact == NULL);
    assert(heap_lock_is_taken(&heap->slices.lock));
    enum { ALIGNMENT = 64 };
    /* A hot block is handed out again wherever it lies, and so dirties a page of its own: not where
     * dirty pages are committed. */
    const bool has_hots = heap->mode == EVH_MEMORY && !heap->has_magazines;
    const size_t hot_bytes = has_hots ? owners_hot_total() * sizeof(struct hot) : 0;
    const size_t more_bytes = heap->has_magazines ? magazine_bytes() : hot_bytes;
    void *memory = os->memory_allocate(sizeof(struct cache) + more_bytes + ALIGNMENT);
    if (!memory) return NULL;
    struct cache *cache = (void *)base_round_up((uintptr_t)memory, ALIGNMENT);
    assert(cache != NULL);
    cache->memory = memory;
    cache->heap = heap;
    cache->stamp = heap->stamp;
    cache->hots = has_hots ? (struct hot *)(void *)(cache + 1) : NULL;
    cache->magazines = heap->has_magazines ? (struct magazine *)(void *)(cache + 1) : NULL;
    owners_begin(cache);
    return cache;
}

/* A cache for the calling thread: a parked one, or a new one. */
static struct cache *threads_take_cache(evh_heap *heap)
{
    assert(heap->compact == NULL);
    struct heap_slices *slices = &heap->slices;
    heap_lock_take(&slices->lock);
    struct cache *cache = slices->parked;
    if (cache) {
        slices->parked = cache->next_parked;
        cache->next_parked = NULL;
    } else if ((cache = threads_new_cache(heap)) != NULL) {
        cache->id = slices->cache_count + 1;
        base_store(&slices->cache_count, cache->id, __ATOMIC_RELAXED);
        cache->next_of_heap = slices->caches;
        slices->caches = cache;
    }
    if (cache) {
        assert(!cache->has_thread);
        cache->has_thread = true;
    }
    heap_lock_drop(&slices->lock);
    return cache;
}

EVH_INTERNAL struct cache *threads_typed_cache(evh_heap *heap)
{
    assert(heap->live == NULL);
    assert(heap_lock_is_taken(&heap->slices.typed_lock));
    struct heap_slices *slices = &heap->slices;
    if (slices->typed) return slices->typed;
    heap_lock_take(&slices->lock);
    struct cache *cache = threads_new_cache(heap);
    if (cache) {
        cache->id = slices->cache_count + 1;
        base_store(&slices->cache_count, cache->id, __ATOMIC_RELAXED);
        cache->is_typed = true;
        cache->has_thread = true;
        cache->next_of_heap = slices->caches;
        slices->caches = cache;
        slices->typed = cache;
    }
    heap_lock_drop(&slices->lock);
    if (!cache)
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory for typed blocks",
                        heap_path(heap));
    return cache;
}

/* In a forked child there is one thread; whoever held the registry's lock is gone. */
static void threads_at_fork(void)
{
    threads_lock.state = HEAP_LOCK_OPEN;
}

/* Take a cache out of the calling thread's list, if it is there. */
static bool threads_forget_own(struct cache *cache)
{
    assert(cache != NULL);
    struct cache **link = &heap_thread.caches;
    while (*link && *link != cache) link = &(*link)->next_of_thread;
    if (!*link) return false;
    *link = cache->next_of_thread;
    if (heap_thread.cache == cache) {
        heap_thread.cache = &threads_nobody;
        heap_thread.stamp = 0;
    }
    assert(heap_thread.cache != cache);
    return true;
}

/* The calling thread's cache in the heap, or NULL. Caches of closed heaps end on the way. */
static struct cache *threads_find_cache(const evh_heap *heap)
{
    assert(heap_thread.stamp != heap->stamp);
    assert(heap != NULL);
    struct cache *next = NULL;
    for (struct cache *cache = heap_thread.caches; cache; cache = next) {
        const evh_heap *owner = base_load(&cache->heap, __ATOMIC_ACQUIRE);
        next = cache->next_of_thread;
        assert(cache->has_thread);
        if (owner == heap) return cache;
        if (!owner && threads_forget_own(cache)) threads_end_cache(cache);
    }
    return NULL;
}

/* Once for the process, and without a lock afterwards. */
static void threads_watch_forks(void)
{
    static uint32_t is_watching;
    if (base_load(&is_watching, __ATOMIC_ACQUIRE)) return;
    os_at_fork(NULL, NULL, threads_at_fork);
    base_store(&is_watching, 1, __ATOMIC_RELEASE);
    assert(base_load(&is_watching, __ATOMIC_RELAXED));
}

EVH_INTERNAL struct cache *threads_present(evh_heap *heap)
{
    assert(heap->compact == NULL);
    if (heap_thread.stamp == heap->stamp) return heap_thread.cache;
    struct cache *cache = threads_find_cache(heap);
    /* Of a debugged heap each call comes by here: its cache is nobody's present one. */
    if (cache && !heap->debug) threads_use(cache);
    assert(!cache || cache->stamp == heap->stamp);
    return cache;
}

EVH_INTERNAL struct cache *threads_attach(evh_heap *heap)
{
    assert(heap->compact == NULL);
    struct cache *cache = threads_present(heap);
    if (!cache) {
        threads_watch_forks();
        const int error = os_at_thread_exit(threads_exit, &heap_thread);
        if (!error) cache = heap->live ? live_take_cache(heap) : threads_take_cache(heap);
        if (!cache && heap->live && !error) return NULL;
        if (!cache) {
            (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory for a thread's cache",
                            heap_path(heap));
            return NULL;
        }
        cache->next_of_thread = heap_thread.caches;
        heap_thread.caches = cache;
    } else if (heap->live && live_need_slot(cache)) {
        return NULL;
    }
    assert(cache->stamp == heap->stamp);
    if (!heap->debug) threads_use(cache);
    return cache;
}

EVH_INTERNAL void threads_close_fast_path(evh_heap *heap)
{
    assert(heap->debug != NULL);
    assert(heap->quick_live == NULL);
    base_store(&heap->slices.end_bytes, 0, __ATOMIC_RELAXED);
    if (heap_thread.stamp != heap->stamp) return;
    heap_thread.stamp = 0;
    heap_thread.cache = &threads_nobody;
    assert(heap_thread.stamp != heap->stamp);
}

EVH_INTERNAL void threads_detach_heap(evh_heap *heap)
{
    assert(heap->compact == NULL);
    heap_lock_take(&threads_lock);
    struct cache *cache = heap->slices.caches;
    heap->slices.caches = NULL;
    heap->slices.parked = NULL;
    heap->slices.typed = NULL;
    while (cache) {
        struct cache *next = cache->next_of_heap;
        assert(cache->heap == heap);
        /* Another thread ends the cache when it meets it, or when it ends itself. */
        if (cache->has_thread && !cache->is_typed && !threads_forget_own(cache))
            base_store(&cache->heap, NULL, __ATOMIC_RELEASE);
        else
            threads_end_cache(cache);
        cache = next;
    }
    heap_lock_drop(&threads_lock);
}

EVH_INTERNAL void threads_restamp(evh_heap *heap)
{
    assert(heap->stamp != 0);
    assert(heap_lock_is_taken(&heap->slices.lock));
    for (struct cache *cache = heap->slices.caches; cache; cache = cache->next_of_heap) {
        assert(cache->heap == heap);
        assert(cache->stamp != heap->stamp);
        owners_forget(cache);
        cache->stamp = heap->stamp;
    }
}

static bool threads_is_own(const struct cache *cache)
{
    assert(cache != NULL);
    const struct cache *own = heap_thread.caches;
    while (own && own != cache) own = own->next_of_thread;
    assert(!own || own->has_thread);
    return own != NULL;
}

EVH_INTERNAL bool threads_is_alone(const evh_heap *heap)
{
    assert(heap != NULL);
    assert(heap->compact == NULL);
    for (const struct cache *cache = heap->slices.caches; cache; cache = cache->next_of_heap)
        if (cache->has_thread && !cache->is_typed && !threads_is_own(cache)) return false;
    return true;
}

EVH_INTERNAL void threads_forked(evh_heap *heap)
{
    assert(!heap->is_forked);
    assert(heap->compact == NULL);
    struct heap_slices *slices = &heap->slices;
    slices->parked = NULL;
    for (struct cache *cache = slices->caches; cache; cache = cache->next_of_heap) {
        cache->has_thread = cache->is_typed || threads_is_own(cache);
        if (cache->has_thread) continue;
        cache->depth = 0;
        cache->next_parked = slices->parked;
        slices->parked = cache;
    }
}

EVH_INTERNAL void threads_forked_live(evh_heap *heap)
{
    assert(heap->live != NULL);
    assert(heap->stamp != 0);
    for (struct cache *cache = heap->slices.caches; cache; cache = cache->next_of_heap) {
        bool is_own = false;
        for (struct cache *own = heap_thread.caches; own && !is_own; own = own->next_of_thread)
            is_own = own == cache;
        owners_forget(cache);
        cache->stamp = heap->stamp;
        cache->tag = 0;
        cache->has_thread = is_own;
        cache->in_use = is_own;
        if (!is_own) cache->depth = 0;
    }
}

/* ---- the gate ---- */

/* The accesses of one side stay in order for the other by the committer's barrier; for the
 * compiler, by this. */
static inline void gate_compiler_barrier(void)
{
    __asm__ volatile("" ::: "memory");
}

static uint32_t gate_read(const evh_heap *heap)
{
    assert(heap->compact == NULL);
    return base_load(&heap->slices.gate, __ATOMIC_SEQ_CST);
}

/* Find out, once per heap, whether the system has a barrier for all threads. */
static void gate_prepare(evh_heap *heap)
{
    assert(heap->is_writable);
    struct heap_slices *slices = &heap->slices;
    heap_lock_take(&slices->lock);
    if (gate_read(heap) & GATE_UNPREPARED) {
        if (THREADS_SANITIZED || os->barrier_all_threads())
            (void)base_fetch_or(&slices->gate, GATE_FENCED, __ATOMIC_SEQ_CST);
        (void)base_fetch_and(&slices->gate, (uint32_t)~GATE_UNPREPARED, __ATOMIC_SEQ_CST);
    }
    heap_lock_drop(&slices->lock);
    assert((gate_read(heap) & GATE_UNPREPARED) == 0);
}

static void gate_wait_open(evh_heap *heap)
{
    assert(heap->is_writable);
    assert(heap->compact == NULL);
    /* Counted before looking: whoever opens the gate looks at the count after opening it. */
    (void)base_fetch_add(&heap->slices.gate_waiters, 1, __ATOMIC_SEQ_CST);
    for (;;) { /* until the committer has copied */
        const uint32_t gate = gate_read(heap);
        if (!(gate & GATE_CLOSED)) break;
        os->wait(&heap->slices.gate, gate);
    }
    (void)base_fetch_sub(&heap->slices.gate_waiters, 1, __ATOMIC_SEQ_CST);
}

/* A thread for which there was no memory: counted with its like. */
static void gate_enter_guest(evh_heap *heap)
{
    assert(gate_read(heap) != GATE_UNPREPARED);
    assert(heap->is_writable);
    for (;;) { /* until no commit is between us and the gate */
        (void)base_fetch_add(&heap->slices.gate_guests, 1, __ATOMIC_SEQ_CST);
        if (!(gate_read(heap) & GATE_CLOSED)) return;
        (void)base_fetch_sub(&heap->slices.gate_guests, 1, __ATOMIC_SEQ_CST);
        gate_wake_committer(heap);
        gate_wait_open(heap);
    }
}

static __attribute__((noinline)) void gate_enter_slow(evh_heap *heap)
{
    if (!heap || heap->compact || !heap->is_writable || heap->is_forked) return;
    if (gate_read(heap) & GATE_UNPREPARED) gate_prepare(heap);
    assert(!(gate_read(heap) & GATE_UNPREPARED));
    struct cache *cache = threads_attach(heap);
    if (!cache) {
        gate_enter_guest(heap);
        return;
    }
    const uint32_t depth = base_load(&cache->depth, __ATOMIC_RELAXED);
    assert(depth < UINT32_MAX);
    if (depth > 0) { /* nested: the committer waits for the outer one */
        base_store(&cache->depth, depth + 1, __ATOMIC_RELAXED);
        return;
    }
    for (;;) { /* until no commit is between us and the gate */
        (void)base_exchange(&cache->depth, 1, __ATOMIC_SEQ_CST);
        if (!(gate_read(heap) & GATE_CLOSED)) return;
        base_store(&cache->depth, 0, __ATOMIC_SEQ_CST);
        gate_wake_committer(heap);
        gate_wait_open(heap);
    }
}

void evh_enter(evh_heap *heap)
{
    if (UNLIKELY(heap == NULL || heap_thread.stamp != heap->stamp)) {
        gate_enter_slow(heap);
        return;
    }
    struct cache *cache = heap_thread.cache;
    const uint32_t depth = base_load(&cache->depth, __ATOMIC_RELAXED);
    base_store(&cache->depth, depth + 1, __ATOMIC_RELAXED);
    gate_compiler_barrier();
    if (LIKELY(base_load(&heap->slices.gate, __ATOMIC_ACQUIRE) == 0)) return;
    base_store(&cache->depth, depth, __ATOMIC_RELEASE);
    if (depth == 0 && (gate_read(heap) & GATE_CLOSED)) gate_wake_committer(heap);
    gate_enter_slow(heap);
}

static __attribute__((noinline)) void gate_leave_slow(evh_heap *heap)
{
    if (!heap || heap->compact || !heap->is_writable || heap->is_forked) return;
    assert(heap->has_slices);
    struct cache *cache = threads_attach(heap);
    assert(!cache || cache->heap == heap);
    const uint32_t depth = cache ? base_load(&cache->depth, __ATOMIC_RELAXED) : 0;
    if (depth > 0) {
        base_store(&cache->depth, depth - 1, __ATOMIC_SEQ_CST);
        if (depth == 1 && (gate_read(heap) & GATE_CLOSED)) gate_wake_committer(heap);
        return;
    }
    const uint32_t guests = base_load(&heap->slices.gate_guests, __ATOMIC_RELAXED);
    if (guests == 0) return; /* more leaves than enters: the program's mistake */
    (void)base_fetch_sub(&heap->slices.gate_guests, 1, __ATOMIC_SEQ_CST);
    gate_wake_committer(heap);
}

void evh_leave(evh_heap *heap)
{
    struct cache *cache = heap_thread.cache;
    if (UNLIKELY(heap == NULL || heap_thread.stamp != heap->stamp || cache->depth == 0)) {
        gate_leave_slow(heap);
        return;
    }
    const uint32_t depth = base_load(&cache->depth, __ATOMIC_RELAXED) - 1;
    base_store(&cache->depth, depth, __ATOMIC_RELEASE);
    gate_compiler_barrier();
    if (LIKELY(base_load(&heap->slices.gate, __ATOMIC_RELAXED) == 0)) return;
    if (depth == 0) {
        (void)base_exchange(&cache->depth, 0, __ATOMIC_SEQ_CST);
        if (gate_read(heap) & GATE_CLOSED) gate_wake_committer(heap);
    }
}

/* Whether any bracket is open. The caller's own is not. */
static bool gate_is_occupied(evh_heap *heap)
{
    assert(heap->is_writable);
    assert(heap->compact == NULL);
    assert(gate_read(heap) & GATE_CLOSED);
    bool found = false;
    heap_lock_take(&heap->slices.lock);
    for (struct cache *cache = heap->slices.caches; cache && !found; cache = cache->next_of_heap)
        found = base_load(&cache->depth, __ATOMIC_SEQ_CST) > 0;
    heap_lock_drop(&heap->slices.lock);
    return found;
}

EVH_INTERNAL bool gate_is_inside(evh_heap *heap)
{
    assert(heap != NULL);
    if (heap->compact) return false;
    for (const struct cache *cache = heap_thread.caches; cache; cache = cache->next_of_thread)
        if (base_load(&cache->heap, __ATOMIC_RELAXED) == heap)
            return base_load(&cache->depth, __ATOMIC_RELAXED) > 0;
    return false;
}

/* Whether no other thread has a cache: one that comes later takes the lock, and sees the gate. */
static bool gate_is_alone(evh_heap *heap)
{
    assert(gate_read(heap) & GATE_CLOSED);
    assert(heap->is_writable);
    const struct cache *mine = heap_thread.stamp == heap->stamp ? heap_thread.cache : NULL;
    heap_lock_take(&heap->slices.lock);
    const struct cache *first = heap->slices.caches;
    const bool is_alone = !first || (first == mine && !first->next_of_heap);
    heap_lock_drop(&heap->slices.lock);
    return is_alone;
}

EVH_INTERNAL evh_status gate_close(evh_heap *heap)
{
    assert(heap != NULL);
    struct heap_slices *slices = &heap->slices;
    if (heap->compact || !heap->is_writable) return EVH_OK;
    if (gate_is_inside(heap))
        return base_fail(EVH_BUSY, NO_OFFSET, "%s: not inside one's own evh_enter()",
                         heap_path(heap));
    if (gate_read(heap) & GATE_UNPREPARED) gate_prepare(heap);
    assert((gate_read(heap) & GATE_CLOSED) == 0);
    (void)base_fetch_or(&slices->gate, GATE_CLOSED, __ATOMIC_SEQ_CST);
    if (!(gate_read(heap) & GATE_FENCED) && !gate_is_alone(heap) &&
        NEVER(os->barrier_all_threads()))
        (void)base_fetch_or(&slices->gate, GATE_FENCED, __ATOMIC_SEQ_CST);
    for (;;) { /* until all brackets are closed: the program's own doing */
        const uint32_t wakes = base_load(&slices->gate_wakes, __ATOMIC_SEQ_CST);
        if (base_load(&slices->gate_guests, __ATOMIC_SEQ_CST)) {
            /* Whether one of them is the caller's own, nobody knows. */
            gate_open(heap);
            return base_fail(EVH_NO_MEMORY, NO_OFFSET,
                             "%s: a thread inside evh_enter() got no memory", heap_path(heap));
        }
        if (!gate_is_occupied(heap)) return EVH_OK;
        os->wait(&slices->gate_wakes, wakes);
    }
}

EVH_INTERNAL void gate_open(evh_heap *heap)
{
    assert(heap != NULL);
    struct heap_slices *slices = &heap->slices;
    if (heap->compact || !heap->is_writable) return;
    assert(gate_read(heap) & GATE_CLOSED);
    (void)base_fetch_and(&slices->gate, (uint32_t)~GATE_CLOSED, __ATOMIC_SEQ_CST);
    if (base_load(&slices->gate_waiters, __ATOMIC_SEQ_CST)) os->wake(&slices->gate);
}
