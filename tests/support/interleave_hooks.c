/* interleave_hooks.c -- what code compiled with -fsanitize=thread calls, for the explorer.
 *
 * The interface is that of the compilers' runtime library (gcc's libtsan, LLVM's compiler-rt:
 * tsan_interface.h, tsan_interface_atomic.h), of which gcc 12 and clang 14 emit the calls below.
 * The C library's memory functions, which it does not instrument, are wrapped by the linker
 * (--wrap). In binaries without instrumented code nothing of this is called.
 */
#include "support/interleave_internal.h"

#include <stdlib.h>
#include <string.h>

static bool is_built;
/* The explorer itself is at work: what it calls is not the program's doing. */
bool explore_is_inside;

bool interleave_is_built(void)
{
    return is_built;
}

#if defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif
#ifndef HAS_SANITIZER /* its own library has these */

void __tsan_init(void)
{
    is_built = true;
}

void __tsan_func_entry(void *caller)
{
    (void)caller;
}

void __tsan_func_exit(void)
{
}

/* ---- plain accesses ---- */

static inline void plain(const void *address, size_t size, bool is_write, const void *caller)
{
    if (explore_mode == EXPLORE_OFF || explore_is_inside || size == 0) return;
    if (explore_is_private((uintptr_t)address)) return;
    explore_is_inside = true;
    if (explore_mode == EXPLORE_ON)
        memory_plain(interleave_self(), (uintptr_t)address, size, is_write, caller);
    else if (is_write)
        memory_save((uintptr_t)address, size);
    explore_is_inside = false;
}

#define CALLER __builtin_return_address(0)
#define PLAIN(name, size)                                                                          \
    void __tsan_read##name(void *address)                                                          \
    {                                                                                              \
        plain(address, size, false, CALLER);                                                       \
    }                                                                                              \
    void __tsan_write##name(void *address)                                                         \
    {                                                                                              \
        plain(address, size, true, CALLER);                                                        \
    }                                                                                              \
    void __tsan_unaligned_read##name(void *address)                                                \
    {                                                                                              \
        plain(address, size, false, CALLER);                                                       \
    }                                                                                              \
    void __tsan_unaligned_write##name(void *address)                                               \
    {                                                                                              \
        plain(address, size, true, CALLER);                                                        \
    }                                                                                              \
    void __tsan_volatile_read##name(void *address)                                                 \
    {                                                                                              \
        plain(address, size, false, CALLER);                                                       \
    }                                                                                              \
    void __tsan_volatile_write##name(void *address)                                                \
    {                                                                                              \
        plain(address, size, true, CALLER);                                                        \
    }                                                                                              \
    void __tsan_read_write##name(void *address)                                                    \
    {                                                                                              \
        plain(address, size, false, CALLER);                                                       \
        plain(address, size, true, CALLER);                                                        \
    }                                                                                              \
    void __tsan_unaligned_read_write##name(void *address)                                          \
    {                                                                                              \
        plain(address, size, false, CALLER);                                                       \
        plain(address, size, true, CALLER);                                                        \
    }

PLAIN(1, 1)
PLAIN(2, 2)
PLAIN(4, 4)
PLAIN(8, 8)
PLAIN(16, 16)

void __tsan_read_range(void *address, size_t size)
{
    plain(address, size, false, CALLER);
}

void __tsan_write_range(void *address, size_t size)
{
    plain(address, size, true, CALLER);
}

/* ---- atomic operations ---- */

/* Outside of coroutines an operation is done at once. */
static void step_native(struct step *step)
{
    void *address = (void *)step->address;
    uint64_t value = step->value;
    if (explore_mode == EXPLORE_RECORD && step->kind != STEP_LOAD &&
        !explore_is_private(step->address))
        memory_save(step->address, step->size);
    step->found = memory_native(step->address, step->size);
    switch (step->kind) {
    case STEP_LOAD: return;
    case STEP_ADD: value = step->found + value; break;
    case STEP_SUBTRACT: value = step->found - value; break;
    case STEP_AND: value = step->found & value; break;
    case STEP_OR: value = step->found | value; break;
    case STEP_XOR: value = step->found ^ value; break;
    case STEP_COMPARE:
    case STEP_COMPARE_WEAK:
        step->succeeded = step->found == step->expected;
        if (!step->succeeded) return;
        break;
    default: break;
    }
    memcpy(address, &value, step->size);
}

/* An operation on a word that stands for a mutex. */
static void mutex_step(struct step *step)
{
    step->found = memory_native(step->address, step->size);
    if (step->kind == STEP_LOAD) return;
    const bool takes = step->kind == STEP_COMPARE || step->kind == STEP_COMPARE_WEAK;
    step->found = takes ? 0 : 1;
    step->kind = takes ? STEP_LOCK : STEP_UNLOCK;
    step->succeeded = true;
    explore_step(step);
}

static void atomic_step(struct step *step)
{
    explore_is_inside = true;
    if (explore_mode != EXPLORE_ON || explore_is_private(step->address))
        step_native(step);
    else if (explore_is_mutex(step->address))
        mutex_step(step);
    else
        explore_step(step);
    explore_is_inside = false;
}

static uint64_t atomic(enum step_kind kind, const volatile void *address, unsigned size,
                       uint64_t value, int order, const void *caller)
{
    struct step step = {.kind = kind,
                        .size = size,
                        .address = (uintptr_t)address,
                        .value = value,
                        .order = order,
                        .caller = caller};
    atomic_step(&step);
    return step.found;
}

static bool compare(enum step_kind kind, const volatile void *address, unsigned size,
                    uint64_t *expected, uint64_t value, const int orders[2], const void *caller)
{
    struct step step = {.kind = kind,
                        .size = size,
                        .address = (uintptr_t)address,
                        .value = value,
                        .expected = *expected,
                        .order = orders[0],
                        .failure_order = orders[1],
                        .caller = caller};
    atomic_step(&step);
    if (!step.succeeded) *expected = step.found;
    return step.succeeded;
}

#define UPDATE(bits, name, kind)                                                                   \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *address,                  \
                                                uint##bits##_t value, int order)                   \
    {                                                                                              \
        return (uint##bits##_t)atomic(kind, address, bits / 8, value, order, CALLER);              \
    }

#define COMPARE(bits, name, kind)                                                                  \
    int __tsan_atomic##bits##_compare_exchange_##name(                                             \
        volatile uint##bits##_t *address, uint##bits##_t *expected, uint##bits##_t value,          \
        int order, int failure_order)                                                              \
    {                                                                                              \
        const int orders[2] = {order, failure_order};                                              \
        uint64_t found = *expected;                                                                \
        const bool done = compare(kind, address, bits / 8, &found, value, orders, CALLER);         \
        if (!done) *expected = (uint##bits##_t)found;                                              \
        return done;                                                                               \
    }

#define ATOMIC(bits)                                                                               \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *address, int order)   \
    {                                                                                              \
        return (uint##bits##_t)atomic(STEP_LOAD, address, bits / 8, 0, order, CALLER);             \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *address, uint##bits##_t value,       \
                                     int order)                                                    \
    {                                                                                              \
        (void)atomic(STEP_STORE, address, bits / 8, value, order, CALLER);                         \
    }                                                                                              \
    UPDATE(bits, exchange, STEP_EXCHANGE)                                                          \
    UPDATE(bits, fetch_add, STEP_ADD)                                                              \
    UPDATE(bits, fetch_sub, STEP_SUBTRACT)                                                         \
    UPDATE(bits, fetch_and, STEP_AND)                                                              \
    UPDATE(bits, fetch_or, STEP_OR)                                                                \
    UPDATE(bits, fetch_xor, STEP_XOR)                                                              \
    COMPARE(bits, strong, STEP_COMPARE)                                                            \
    COMPARE(bits, weak, STEP_COMPARE_WEAK)                                                         \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                     \
        volatile uint##bits##_t *address, uint##bits##_t expected, uint##bits##_t value,           \
        int order, int failure_order)                                                              \
    {                                                                                              \
        const int orders[2] = {order, failure_order};                                              \
        uint64_t found = expected;                                                                 \
        (void)compare(STEP_COMPARE, address, bits / 8, &found, value, orders, CALLER);             \
        return (uint##bits##_t)found;                                                              \
    }

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

/* The house rule forbids them; nothing here understands them. */
void __tsan_atomic_thread_fence(int order)
{
    (void)order;
    abort();
}

void __tsan_atomic_signal_fence(int order)
{
    (void)order;
}

/* ---- the C library's ---- */

/* Weak: there is nothing to call where the linker wraps nothing. */
#define REAL __attribute__((weak))
REAL void *__real_memcpy(void *target, const void *source, size_t size);
REAL void *__real_memmove(void *target, const void *source, size_t size);
REAL void *__real_memset(void *target, int value, size_t size);
REAL int __real_memcmp(const void *one, const void *other, size_t size);

void *__wrap_memcpy(void *target, const void *source, size_t size)
{
    plain(source, size, false, CALLER);
    plain(target, size, true, CALLER);
    return __real_memcpy(target, source, size);
}

void *__wrap_memmove(void *target, const void *source, size_t size)
{
    plain(source, size, false, CALLER);
    plain(target, size, true, CALLER);
    return __real_memmove(target, source, size);
}

void *__wrap_memset(void *target, int value, size_t size)
{
    plain(target, size, true, CALLER);
    return __real_memset(target, value, size);
}

int __wrap_memcmp(const void *one, const void *other, size_t size)
{
    plain(one, size, false, CALLER);
    plain(other, size, false, CALLER);
    return __real_memcmp(one, other, size);
}

#endif
