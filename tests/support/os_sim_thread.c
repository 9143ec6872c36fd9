/* os_sim_thread.c -- the simulated machine's threads: coroutines, switched at random, by the seed.
 *
 * All run in one real thread, and only calls to the system switch between them: so a heap with a
 * background checkpointer runs the same way each time, and every order of its calls and the
 * program's can come up. What is in order within a thread of the library stays in order; its atomic
 * operations are not tried against each other (ThreadSanitizer and the other tests do that).
 */
#include "support/os_sim_machine.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { THREAD_STACK_BYTES = 256 << 10, THREAD_PATIENCE = 1000000 };

struct sim_mutex {
    bool is_held;
};

struct sim_thread {
    ucontext_t context;
    void *stack;
    void (*run)(void *);
    void *argument;
    const struct sim_mutex *waits_for; /* a signal to its condition */
    bool is_running;
    evh_error last_error; /* while another one runs: the library has it for each thread */
};

/* The first is the program itself. */
struct sim_threads {
    struct sim_thread all[SIM_THREAD_MAX];
    unsigned current;
    uint64_t random;
    uint64_t idle; /* turns in which nobody got on: too many are a deadlock */
};

static struct sim_threads *threads(void)
{
    if (sim->threads) return sim->threads;
    sim->threads = calloc(1, sizeof *sim->threads);
    if (!sim->threads) sim_die("no memory for threads");
    sim->threads->all[0].is_running = true;
    return sim->threads;
}

void sim_threads_reset(struct sim *machine, uint64_t seed)
{
    if (!machine->threads) return;
    for (int i = 1; i < SIM_THREAD_MAX; i++)
        if (machine->threads->all[i].is_running) sim_die("a thread was never joined");
    machine->threads->random = seed;
    machine->threads->idle = 0;
}

void sim_threads_end(struct sim *machine)
{
    if (!machine->threads) return;
    for (int i = 1; i < SIM_THREAD_MAX; i++)
        if (machine->threads->all[i].stack)
            munmap(machine->threads->all[i].stack, THREAD_STACK_BYTES);
    free(machine->threads);
}

static void switch_to(struct sim_threads *set, unsigned next)
{
    struct sim_thread *from = &set->all[set->current];
    struct sim_thread *to = &set->all[next];
    if (from == to) return;
    evh_error *error = (evh_error *)(uintptr_t)evh_last_error();
    from->last_error = *error;
    *error = to->last_error;
    set->current = next;
    if (swapcontext(&from->context, &to->context)) sim_die("swapcontext");
}

/* Another thread's turn, perhaps this one's again. With `must`, this one cannot go on. */
static void turn(bool must)
{
    struct sim_threads *set = threads();
    unsigned candidates[SIM_THREAD_MAX], count = 0;
    for (unsigned i = 0; i < SIM_THREAD_MAX; i++) {
        const struct sim_thread *thread = &set->all[i];
        if (!thread->is_running || thread->waits_for || (must && i == set->current)) continue;
        candidates[count++] = i;
    }
    if (must && (count == 0 || ++set->idle > THREAD_PATIENCE))
        sim_die("every thread waits for another: a deadlock");
    if (!must) set->idle = 0;
    if (count) switch_to(set, candidates[sim_random_next(&set->random) % count]);
}

void sim_turn(void)
{
    if (sim->threads) turn(false);
}

/* ---- the calls ---- */

static void thread_main(void)
{
    struct sim_threads *set = sim->threads;
    struct sim_thread *self = &set->all[set->current];
    self->run(self->argument);
    self->is_running = false;
    turn(true);
    sim_die("a thread that has ended goes on");
}

static int call_thread_start(void (*run)(void *), void *context, struct os_thread **thread)
{
    if (!sim->has_threads) return ENOTSUP;
    if (sim_fault(SIM_FAULT_MEMORY)) return ENOMEM;
    struct sim_threads *set = threads();
    unsigned i = 1;
    while (i < SIM_THREAD_MAX && set->all[i].is_running) i++;
    if (i == SIM_THREAD_MAX) return EAGAIN;
    struct sim_thread *fresh = &set->all[i];
    if (!fresh->stack)
        fresh->stack = mmap(NULL, THREAD_STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh->stack == MAP_FAILED || getcontext(&fresh->context)) sim_die("no stack");
    fresh->context.uc_stack.ss_sp = fresh->stack;
    fresh->context.uc_stack.ss_size = THREAD_STACK_BYTES;
    fresh->run = run;
    fresh->argument = context;
    fresh->waits_for = NULL;
    fresh->is_running = true;
    fresh->last_error = (evh_error){0};
    makecontext(&fresh->context, thread_main, 0);
    *thread = (struct os_thread *)(void *)fresh;
    return 0;
}

static void call_thread_join(struct os_thread *thread)
{
    const struct sim_thread *other = (const struct sim_thread *)(void *)thread;
    while (other->is_running) turn(true);
}

static int call_mutex_create(struct os_mutex **mutex)
{
    struct sim_mutex *mine = sim_fault(SIM_FAULT_MEMORY) ? NULL : calloc(1, sizeof *mine);
    *mutex = (struct os_mutex *)(void *)mine;
    return mine ? 0 : ENOMEM;
}

static void call_mutex_end(struct os_mutex *mutex)
{
    free(mutex);
}

static void call_mutex_lock(struct os_mutex *mutex)
{
    struct sim_mutex *mine = (struct sim_mutex *)(void *)mutex;
    sim_turn();
    while (mine->is_held) turn(true);
    mine->is_held = true;
}

static void call_mutex_unlock(struct os_mutex *mutex)
{
    struct sim_mutex *mine = (struct sim_mutex *)(void *)mutex;
    if (!mine->is_held) sim_die("a mutex is unlocked that nobody holds");
    mine->is_held = false;
    sim_turn();
}

static void call_mutex_wait(struct os_mutex *mutex)
{
    struct sim_mutex *mine = (struct sim_mutex *)(void *)mutex;
    struct sim_threads *set = threads();
    mine->is_held = false;
    set->all[set->current].waits_for = mine;
    turn(true);
    while (mine->is_held) turn(true);
    mine->is_held = true;
}

static void call_mutex_signal(struct os_mutex *mutex)
{
    struct sim_mutex *mine = (struct sim_mutex *)(void *)mutex;
    for (unsigned i = 0; sim->threads && i < SIM_THREAD_MAX; i++)
        if (sim->threads->all[i].waits_for == mine) sim->threads->all[i].waits_for = NULL;
}

static void call_wait(uint32_t *word, uint32_t value)
{
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) turn(true);
}

static void call_wake(uint32_t *word)
{
    (void)word;
}

static int call_barrier_all_threads(void)
{
    return 0;
}

void sim_thread_calls(struct os_calls *calls)
{
    calls->mutex_create = call_mutex_create;
    calls->mutex_end = call_mutex_end;
    calls->mutex_lock = call_mutex_lock;
    calls->mutex_unlock = call_mutex_unlock;
    calls->mutex_wait = call_mutex_wait;
    calls->mutex_signal = call_mutex_signal;
    calls->thread_start = call_thread_start;
    calls->thread_join = call_thread_join;
    calls->wait = call_wait;
    calls->wake = call_wake;
    calls->barrier_all_threads = call_barrier_all_threads;
}
