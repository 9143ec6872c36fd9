/* base_atomic.h -- the atomic operations of the allocator, in one place.
 *
 * Thin names over the compiler's built-in functions: any integer or pointer type, the memory order
 * as __ATOMIC_RELAXED and so on, always given. They are here so that a test can put itself between:
 * compiled with -DBASE_ATOMIC_HEADER='"file.h"', that file defines these names instead, as calls to
 * a scheduler which tries the interleavings (and kills) at every one of them.
 *
 * There are no stand-alone fences: ThreadSanitizer cannot see them, and an order that belongs to an
 * operation says what it is for.
 */
#ifndef EVERHEAP_BASE_BASE_ATOMIC_H
#define EVERHEAP_BASE_BASE_ATOMIC_H

#ifdef BASE_ATOMIC_HEADER
#include BASE_ATOMIC_HEADER
#else

#define base_load(place, order) __atomic_load_n(place, order)
#define base_store(place, value, order) __atomic_store_n(place, value, order)
#define base_exchange(place, value, order) __atomic_exchange_n(place, value, order)
/* True if `*place` was `*expected` and is `desired` now; else `*expected` is what it was. A weak
 * one may fail without a reason. */
#define base_compare_exchange(place, expected, desired, weak, success, failure)                    \
    __atomic_compare_exchange_n(place, expected, desired, weak, success, failure)
/* What `*place` was before. */
#define base_fetch_add(place, value, order) __atomic_fetch_add(place, value, order)
#define base_fetch_sub(place, value, order) __atomic_fetch_sub(place, value, order)
#define base_fetch_or(place, value, order) __atomic_fetch_or(place, value, order)
#define base_fetch_and(place, value, order) __atomic_fetch_and(place, value, order)
/* What `*place` is now. */
#define base_add_fetch(place, value, order) __atomic_add_fetch(place, value, order)

#endif

#endif
