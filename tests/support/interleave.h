/* interleave.h -- every interleaving of a few threads, and every value that C11 lets them read.
 *
 * The code under test is compiled with -fsanitize=thread, and linked with interleave_hooks.c
 * instead of the sanitizer's library: every atomic operation and every plain access becomes a call.
 * So nothing in the sources knows of the explorer, and no access can be forgotten.
 *
 * Threads are coroutines. Each atomic operation is a step; between steps any thread may be next.
 * interleave_run() executes the threads again and again from the same state of memory, until every
 * order of steps that can make a difference was taken:
 *
 *  - Orders: dynamic partial-order reduction with source sets and sleep sets (Abdulla, Aronis,
 *    Jonsson, Sagonas: "Optimal dynamic partial order reduction", POPL 2014, algorithm 1). With a
 *    bound on preemptions: conservative backtracking after Coons, Musuvathi, McKinley: "Bounded
 *    partial-order reduction", OOPSLA 2013, without sleep sets.
 *  - Values: interleave_memory.c.
 *
 * What a thread's steps write is taken back before the next execution, also what the judge writes;
 * for what comes from other sources (the system, the C library) see interleave_os.c.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_INTERLEAVE_H
#define EVERHEAP_TESTS_SUPPORT_INTERLEAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INTERLEAVE_THREADS_MAX = 4, INTERLEAVE_OUTCOMES_MAX = 64 };

struct interleave_plan {
    const char *name;
    unsigned thread_count;
    void (*run[INTERLEAVE_THREADS_MAX])(void);
    /* After each execution, in the calling thread: NULL, or what is wrong. */
    const char *(*judge)(void);
    bool is_weak;            /* values as C11 allows; else sequentially consistent */
    bool is_bounded;         /* at most `preemptions`: */
    unsigned preemptions;    /* a thread that could go on is made to wait */
    bool is_naive;           /* all orders, without reduction: to test the explorer */
    bool kills;              /* thread 0 dies before its step number kill_at */
    unsigned kill_at;        /* 0: its first */
    uint64_t executions_max; /* 0: all */
};

struct interleave_result {
    uint64_t executions; /* complete ones */
    uint64_t redundant;  /* given up, because all that could follow was seen (sleep sets) */
    uint64_t steps;
    uint64_t outcomes; /* bit n: interleave_outcome(n) was called */
    unsigned longest;  /* steps of an execution */
    bool is_complete;  /* all that the plan asks for was seen */
    bool was_killed;   /* kill_at was reached in some execution */
    char problem[512]; /* "" or what is wrong in the last execution */
};

/** Whether the calling binary was built for exploring; otherwise nothing can be. */
bool interleave_is_built(void);

/** Explore. False: result->problem says what is wrong. With the environment's V=1 the steps of that
 *  execution are printed. */
bool interleave_run(const struct interleave_plan *plan, struct interleave_result *result);

/* ---- for the threads and the judge ---- */

/** The judge saw this outcome. */
void interleave_outcome(unsigned number);
/** The number of the running thread; thread_count in the judge and before. */
unsigned interleave_self(void);
/** Whether a thread was killed in this execution. For the judge. */
bool interleave_has_killed(void);
/** Something is wrong: the execution ends here, the exploration too. */
void interleave_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/** `size` bytes at `address` are thread-local: each thread has its own. They begin as they are now,
 *  or as interleave_as() leaves them. */
void interleave_local(void *address, size_t size);
/** The 32-bit word at `address` is a mutex: a compare-and-exchange takes it, an exchange with 0
 *  drops it. It is explored as that, one step each, and not how it waits. */
void interleave_mutex(void *address);
/** Forget all of these. */
void interleave_forget(void);
/** Run `prepare` with that thread's locals, at once and for ever, before exploring; in the judge:
 *  with the locals that the thread ended with. */
void interleave_as(unsigned thread, void (*prepare)(void));

#endif
