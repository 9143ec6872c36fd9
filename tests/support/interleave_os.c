/* interleave_os.c -- the system as the explorer of interleavings needs it. */
#include "support/interleave_os.h"

#include "os/os.h"
#include "support/interleave_internal.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 8 << 20, ARENAS = INTERLEAVE_THREADS_MAX + 1, ALIGNMENT = 64 };

static unsigned char *arenas[ARENAS];
static uint64_t arena_used[ARENAS];

struct os_mutex {
    uint64_t is_taken;
};

/* The explorer's own accesses, made for the program by this file. */
static void set(uint64_t *word, uint64_t value)
{
    if (explore_mode != EXPLORE_OFF) memory_save((uintptr_t)word, sizeof *word);
    *word = value;
}

/* What is freed is not used again before the execution ends. */
static void *arena_allocate(size_t size)
{
    const unsigned self = explore_mode == EXPLORE_ON ? interleave_self() : ARENAS - 1;
    if (!arenas[self]) arenas[self] = calloc(1, ARENA_BYTES);
    const uint64_t used = arena_used[self];
    const uint64_t whole = base_round_up(size, ALIGNMENT);
    if (!arenas[self] || used + whole + ALIGNMENT > ARENA_BYTES) abort();
    set(&arena_used[self], used + whole + ALIGNMENT);
    unsigned char *memory = arenas[self] + used + ALIGNMENT;
    set((uint64_t *)(void *)memory - 1, size); /* for resizing */
    return memory;
}

static void *arena_resize(void *memory, size_t size)
{
    unsigned char *moved = arena_allocate(size);
    if (!memory) return moved;
    const uint64_t old_size = ((uint64_t *)memory)[-1];
    if (explore_mode != EXPLORE_OFF) memory_save((uintptr_t)moved, size);
    memcpy(moved, memory, old_size < size ? old_size : size);
    return moved;
}

static void arena_free(void *memory)
{
    (void)memory;
}

static int step_mutex_create(struct os_mutex **mutex)
{
    *mutex = arena_allocate(sizeof **mutex);
    return 0;
}

static void step_mutex_end(struct os_mutex *mutex)
{
    (void)mutex;
}

/* A step on a word, if this is a coroutine. */
static void step_on(enum step_kind kind, void *word, unsigned size, uint64_t value)
{
    if (explore_mode != EXPLORE_ON) return;
    struct step step = {.kind = kind,
                        .size = size,
                        .address = (uintptr_t)word,
                        .value = value,
                        .caller = __builtin_return_address(0)};
    const bool was_inside = explore_is_inside;
    explore_is_inside = true;
    explore_step(&step);
    explore_is_inside = was_inside;
}

static void step_mutex_lock(struct os_mutex *mutex)
{
    step_on(STEP_LOCK, mutex, 8, 0);
}

static void step_mutex_unlock(struct os_mutex *mutex)
{
    step_on(STEP_UNLOCK, mutex, 8, 0);
}

static void step_mutex_wait(struct os_mutex *mutex)
{
    (void)mutex;
    interleave_fail("a condition was waited for");
}

static void step_mutex_signal(struct os_mutex *mutex)
{
    (void)mutex;
}

static void step_wait(uint32_t *word, uint32_t value)
{
    step_on(STEP_WAIT, word, sizeof *word, value);
}

static void step_wake(uint32_t *word)
{
    step_on(STEP_WAKE, word, sizeof *word, 0);
}

static int step_barrier_all_threads(void)
{
    static uint64_t everything;
    step_on(STEP_BARRIER, &everything, sizeof everything, 0);
    return 0;
}

static int no_thread_start(void (*run)(void *), void *context, struct os_thread **thread)
{
    (void)run, (void)context, (void)thread;
    return EAGAIN;
}

void interleave_os_use(void)
{
    static struct os_calls calls;
    calls = *os_linux();
    calls.memory_allocate = arena_allocate;
    calls.memory_resize = arena_resize;
    calls.memory_free = arena_free;
    calls.mutex_create = step_mutex_create;
    calls.mutex_end = step_mutex_end;
    calls.mutex_lock = step_mutex_lock;
    calls.mutex_unlock = step_mutex_unlock;
    calls.mutex_wait = step_mutex_wait;
    calls.mutex_signal = step_mutex_signal;
    calls.wait = step_wait;
    calls.wake = step_wake;
    calls.barrier_all_threads = step_barrier_all_threads;
    calls.thread_start = no_thread_start;
    for (unsigned i = 0; i < ARENAS; i++) {
        if (arenas[i]) memset(arenas[i], 0, arena_used[i]);
        arena_used[i] = 0;
    }
    os_use(&calls);
}

void interleave_os_end(void)
{
    os_use(NULL);
}
