/* interleave_internal.h -- what the parts of the explorer offer each other. */
#ifndef EVERHEAP_TESTS_SUPPORT_INTERLEAVE_INTERNAL_H
#define EVERHEAP_TESTS_SUPPORT_INTERLEAVE_INTERNAL_H

#include "support/interleave.h"

enum { THREADS = INTERLEAVE_THREADS_MAX };

enum step_kind {
    STEP_LOAD,
    STEP_STORE,
    STEP_EXCHANGE,
    STEP_ADD,
    STEP_SUBTRACT,
    STEP_AND,
    STEP_OR,
    STEP_XOR,
    STEP_COMPARE,      /* compare and exchange */
    STEP_COMPARE_WEAK, /* the same, which may fail for no reason */
    STEP_WAIT,         /* a futex's: sleep while the word has the value */
    STEP_RESUME,       /* a wait returns */
    STEP_WAKE,
    STEP_LOCK, /* a mutex's */
    STEP_UNLOCK,
    STEP_BARRIER, /* of all threads: membarrier */
};

struct step {
    enum step_kind kind;
    unsigned size; /* bytes */
    uintptr_t address;
    uint64_t value;    /* stored, added, ...; what a wait waits on */
    uint64_t expected; /* STEP_COMPARE: receives what was found */
    int order, failure_order;
    bool succeeded; /* STEP_COMPARE */
    uint64_t found; /* result: the old value */
    const void *caller;
};

/* What threads know of each other: how far another one's steps are known to have happened. */
struct clock {
    uint32_t of[THREADS];
};

static inline void clock_join(struct clock *clock, const struct clock *other)
{
    for (unsigned i = 0; i < THREADS; i++)
        if (clock->of[i] < other->of[i]) clock->of[i] = other->of[i];
}

enum explore_mode {
    EXPLORE_OFF,    /* accesses go to memory, and leave no trace */
    EXPLORE_RECORD, /* what is written is noted, to be taken back */
    EXPLORE_ON,     /* inside a coroutine */
};

/* ---- interleave.c ---- */

extern enum explore_mode explore_mode;
extern bool explore_is_inside; /* interleave_hooks.c */

/** Take a step of the running thread: others may come first. The result is in `step`. */
void explore_step(struct step *step);
/** Choose among `count` outcomes of the running step: in the end, all. */
unsigned explore_choose(unsigned count);
/** The address of code, as addr2line takes it. */
void *explore_code(const void *address);
/** Whether there is a mutex at `address`: interleave_mutex(). */
bool explore_is_mutex(uintptr_t address);
/** Whether `address` is on the running stack or thread-local: nobody else's business. */
bool explore_is_private(uintptr_t address);

/* ---- interleave_memory.c ---- */

void memory_begin(bool is_weak);
/** Take back all that was written since memory_begin(). */
void memory_undo(void);
/** Note what is at [address, address + size) before it is written. */
void memory_save(uintptr_t address, size_t size);
/** Do a step of `thread`: LOAD to COMPARE_WEAK, BARRIER. */
void memory_step(unsigned thread, struct step *step);
/** Order this thread's past before what others do from now on, and theirs before its future, by way
 *  of `address`: what locks, and futexes, promise. */
void memory_acquire(unsigned thread, uintptr_t address);
void memory_release(unsigned thread, uintptr_t address);
/** A plain access of `thread`. */
void memory_plain(unsigned thread, uintptr_t address, size_t size, bool is_write,
                  const void *caller);
/** What a native load would find. */
uint64_t memory_native(uintptr_t address, unsigned size);

#endif
