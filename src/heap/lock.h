/* lock.h -- a lock of one word, for the slow paths: no memory, nothing to create, zero is open. */
#ifndef EVERHEAP_HEAP_LOCK_H
#define EVERHEAP_HEAP_LOCK_H

#include "os/os.h"

/*
 * The three states of a futex lock (Drepper, "Futexes are tricky", mutex 2): open, taken, taken
 * with somebody waiting. It lies inside the structure that it protects, so a slow path can never
 * find it missing, and a forked child opens it by storing 0.
 *
 * While the process has one thread, plain loads and stores change the state (as in glibc's own
 * locks): of the 12 ns that the two locked instructions take, 1 is left. A lock that is taken so
 * and dropped beside other threads is in the same three states.
 */
struct heap_lock {
    uint32_t state;
};

enum { HEAP_LOCK_OPEN, HEAP_LOCK_TAKEN, HEAP_LOCK_AWAITED, HEAP_LOCK_SPINS = 100 };

/** Take a lock that was not open: spin a little (its holders are short), then sleep. */
EVH_INTERNAL void heap_lock_wait(struct heap_lock *lock);

static inline bool heap_lock_is_taken(const struct heap_lock *lock)
{
    assert(lock != NULL);
    return base_load(&lock->state, __ATOMIC_RELAXED) != HEAP_LOCK_OPEN;
}

static inline void heap_lock_take(struct heap_lock *lock)
{
    assert(lock != NULL);
    if (os_is_single_threaded() && !heap_lock_is_taken(lock)) {
        base_store(&lock->state, HEAP_LOCK_TAKEN, __ATOMIC_RELAXED);
        return;
    }
    uint32_t open = HEAP_LOCK_OPEN;
    if (UNLIKELY(!base_compare_exchange(&lock->state, &open, HEAP_LOCK_TAKEN, false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
        heap_lock_wait(lock);
}

/** Take a lock if it is open; for signal handlers. */
static inline bool heap_lock_try(struct heap_lock *lock)
{
    assert(lock != NULL);
    uint32_t open = HEAP_LOCK_OPEN;
    return base_compare_exchange(&lock->state, &open, HEAP_LOCK_TAKEN, false, __ATOMIC_ACQUIRE,
                                 __ATOMIC_RELAXED);
}

static inline void heap_lock_drop(struct heap_lock *lock)
{
    if (os_is_single_threaded() && base_load(&lock->state, __ATOMIC_RELAXED) == HEAP_LOCK_TAKEN) {
        base_store(&lock->state, HEAP_LOCK_OPEN, __ATOMIC_RELEASE);
        return;
    }
    const uint32_t state = base_exchange(&lock->state, HEAP_LOCK_OPEN, __ATOMIC_RELEASE);
    assert(state != HEAP_LOCK_OPEN);
    if (UNLIKELY(state == HEAP_LOCK_AWAITED)) os->wake(&lock->state);
}

#endif
