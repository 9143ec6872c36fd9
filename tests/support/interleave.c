/* interleave.c -- every interleaving of a few threads: coroutines, and which is next. */
#include "support/interleave_internal.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

/*
 * An execution is a sequence of events. The event at place i keeps what is known of the state
 * before it: who could run (enabled), who shall have run there (backtrack), who has (done), and who
 * need not, because what would follow was seen elsewhere (sleep). Depth first: after an execution,
 * the last event that has something left to try is changed, and all behind it is forgotten.
 *
 * Two steps depend on each other if they access the same bytes and one of them writes; only the
 * order of such steps matters. If two depend, and nothing between them orders them, it is a race,
 * and the other order is tried: source sets say with which thread.
 */
enum {
    EVENTS_MAX = 8000,
    PLACES = 1 << 14,
    STACK_BYTES = 256 << 10,
    LOCALS_MAX = 4,
    LOCAL_BYTES_MAX = 1024,
    MUTEXES_MAX = 8,
    NOBODY = THREADS,
};

struct event {
    struct step step;
    unsigned thread, number;       /* `number`: among its thread's, from 1 */
    unsigned choice, choice_count; /* of the step's outcomes; 0: it has one */
    unsigned enabled, backtrack, done, sleep;
    struct step steps[THREADS]; /* what the threads in `sleep` and `done` would do */
    struct clock clock;         /* of the events that it depends on, with itself */
    unsigned same_place;        /* 1 + the event before it on the same 8 bytes, or near; 0: none */
    unsigned previous;          /* who ran before */
    unsigned preemptions;       /* before it */
};

enum status { IS_READY, IS_ASLEEP, IS_DEAD, IS_ENDED };

struct coroutine {
    enum status status;
    ucontext_t first;
    jmp_buf base, context;
    unsigned char *stack;
    struct step *pending;
    unsigned number; /* of its last event */
    struct clock clock;
    unsigned char locals[LOCALS_MAX][LOCAL_BYTES_MAX];
};

struct local {
    void *address;
    size_t size;
    unsigned char main[LOCAL_BYTES_MAX];             /* the calling thread's */
    unsigned char initial[THREADS][LOCAL_BYTES_MAX]; /* the coroutines' */
};

enum explore_mode explore_mode = EXPLORE_OFF;

static const struct interleave_plan *plan;
static struct interleave_result *result;
static struct coroutine coroutines[THREADS];
static struct event trace[EVENTS_MAX];
static unsigned depth;           /* events of the running execution */
static unsigned last_at[PLACES]; /* 1 + the last event there, if that is in this execution */
static bool has_barrier;         /* an event of the execution is everywhere */
static unsigned planned;         /* the first ones are given */
static unsigned running = NOBODY;
static unsigned switched_from;
static bool is_starting, is_redundant, has_killed;
static jmp_buf back; /* to execute_once() */
static struct local locals[LOCALS_MAX];
static unsigned local_count;
static uintptr_t mutexes[MUTEXES_MAX];
static unsigned mutex_count;
static uintptr_t main_stack_first, main_stack_end;

/* ---- small things ---- */

static unsigned bit(unsigned thread)
{
    return 1u << thread;
}

unsigned interleave_self(void)
{
    return running == NOBODY && plan ? plan->thread_count : running;
}

void interleave_outcome(unsigned number)
{
    if (number < INTERLEAVE_OUTCOMES_MAX) result->outcomes |= 1ull << number;
}

bool interleave_has_killed(void)
{
    return has_killed;
}

void interleave_local(void *address, size_t size)
{
    if (local_count == LOCALS_MAX || size > LOCAL_BYTES_MAX) abort();
    struct local *local = &locals[local_count++];
    local->address = address;
    local->size = size;
    for (unsigned i = 0; i < THREADS; i++) memcpy(local->initial[i], address, size);
}

void interleave_mutex(void *address)
{
    if (mutex_count == MUTEXES_MAX) abort();
    mutexes[mutex_count++] = (uintptr_t)address;
}

bool explore_is_mutex(uintptr_t address)
{
    for (unsigned i = 0; i < mutex_count; i++)
        if (mutexes[i] == address) return true;
    return false;
}

void interleave_forget(void)
{
    local_count = mutex_count = 0;
}

void interleave_as(unsigned thread, void (*prepare)(void))
{
    const bool is_judge = explore_mode == EXPLORE_RECORD;
    const bool was_inside = explore_is_inside;
    for (unsigned i = 0; i < local_count; i++) {
        struct local *local = &locals[i];
        unsigned char *bytes = is_judge ? coroutines[thread].locals[i] : local->initial[thread];
        explore_is_inside = true;
        memcpy(local->main, local->address, local->size);
        memcpy(local->address, bytes, local->size);
    }
    explore_is_inside = was_inside;
    prepare();
    for (unsigned i = 0; i < local_count; i++) {
        struct local *local = &locals[i];
        unsigned char *bytes = is_judge ? coroutines[thread].locals[i] : local->initial[thread];
        explore_is_inside = true;
        memcpy(bytes, local->address, local->size);
        memcpy(local->address, local->main, local->size);
    }
    explore_is_inside = was_inside;
}

static void find_main_stack(void)
{
    pthread_attr_t attributes;
    void *first = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes)) abort();
    if (pthread_attr_getstack(&attributes, &first, &size)) abort();
    pthread_attr_destroy(&attributes);
    main_stack_first = (uintptr_t)first;
    main_stack_end = main_stack_first + size;
}

bool explore_is_private(uintptr_t address)
{
    if (running != NOBODY) {
        const uintptr_t stack = (uintptr_t)coroutines[running].stack;
        if (address - stack < STACK_BYTES) return true;
        for (unsigned i = 0; i < local_count; i++)
            if (address - (uintptr_t)locals[i].address < locals[i].size) return true;
    }
    return address - main_stack_first < main_stack_end - main_stack_first;
}

static bool step_writes(const struct step *step)
{
    return step->kind != STEP_LOAD && step->kind != STEP_RESUME;
}

/* What an event did, unlike what a step may do. */
static bool event_writes(const struct event *event)
{
    const struct step *step = &event->step;
    const bool compares = step->kind == STEP_COMPARE || step->kind == STEP_COMPARE_WEAK;
    return compares ? step->succeeded : step_writes(step);
}

static bool steps_touch(const struct step *one, const struct step *other)
{
    if (one->kind == STEP_BARRIER || other->kind == STEP_BARRIER) return true;
    return one->address < other->address + other->size && other->address < one->address + one->size;
}

static bool steps_depend(const struct step *one, const struct step *other)
{
    return steps_touch(one, other) && (step_writes(one) || step_writes(other));
}

static bool events_depend(const struct event *one, const struct event *other)
{
    return steps_touch(&one->step, &other->step) && (event_writes(one) || event_writes(other));
}

/* ---- messages ---- */

extern char __executable_start[]; /* the linker's */

void *explore_code(const void *address)
{
    return (void *)((uintptr_t)address - (uintptr_t)__executable_start);
}

static const char *step_name(enum step_kind kind)
{
    static const char *const names[] = {
        "load",    "store",          "exchange", "add",    "subtract", "and",  "or",     "xor",
        "compare", "compare (weak)", "wait",     "resume", "wake",     "lock", "unlock", "barrier"};
    return names[kind];
}

static void print_trace(void)
{
    for (unsigned i = 0; i < depth; i++) {
        const struct step *step = &trace[i].step;
        printf("    %3u  thread %u  %-9s %u bytes at 0x%llx, order %d: found 0x%llx, value 0x%llx"
               "%s  (code at %p)\n",
               i, trace[i].thread, step_name(step->kind), step->size,
               (unsigned long long)step->address, step->order, (unsigned long long)step->found,
               (unsigned long long)step->value, trace[i].choice ? "  [not the newest]" : "",
               explore_code(step->caller));
    }
}

static void set_problem(const char *format, va_list arguments)
{
    vsnprintf(result->problem, sizeof result->problem, format, arguments);
    if (getenv("V")) print_trace();
}

__attribute__((format(printf, 1, 2))) static void note_problem(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    set_problem(format, arguments);
    va_end(arguments);
}

/* ---- coroutines ---- */

static void locals_swap(unsigned from, unsigned to)
{
    for (unsigned i = 0; i < local_count; i++) {
        const struct local *local = &locals[i];
        if (from != NOBODY) memcpy(coroutines[from].locals[i], local->address, local->size);
        memcpy(local->address, to == NOBODY ? local->main : coroutines[to].locals[i], local->size);
    }
}

/* Leave the running coroutine, or execute_once(), for another. */
static void switch_to(unsigned thread)
{
    locals_swap(running, thread);
    switched_from = running;
    running = thread;
    explore_mode = thread == NOBODY ? EXPLORE_OFF : EXPLORE_ON;
    if (thread == NOBODY) _longjmp(back, 1);
    _longjmp(coroutines[thread].context, 1);
}

void interleave_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    set_problem(format, arguments);
    va_end(arguments);
    if (running == NOBODY) abort(); /* the judge returns what is wrong */
    switch_to(NOBODY);
    abort();
}

static void run_next(void);

/* A coroutine's whole life: it comes back to `base` for every execution. */
static void coroutine_main(void)
{
    struct coroutine *self = &coroutines[running];
    if (_setjmp(self->base) == 0) _longjmp(back, 1);
    explore_is_inside = false;
    plan->run[running]();
    explore_is_inside = true;
    self = &coroutines[running];
    self->status = IS_ENDED;
    if (is_starting) switch_to(NOBODY);
    run_next();
}

static void coroutine_create(unsigned thread)
{
    struct coroutine *self = &coroutines[thread];
    if (self->stack) return;
    self->stack = aligned_alloc(4096, STACK_BYTES);
    if (!self->stack || getcontext(&self->first)) abort();
    self->first.uc_stack.ss_sp = self->stack;
    self->first.uc_stack.ss_size = STACK_BYTES;
    self->first.uc_link = NULL;
    makecontext(&self->first, coroutine_main, 0);
    running = thread;
    if (_setjmp(back) == 0) setcontext(&self->first);
    running = NOBODY;
}

/* ---- who is next ---- */

/* Whether a step can be taken now. */
static bool step_is_enabled(const struct step *step)
{
    return step->kind != STEP_LOCK || memory_native(step->address, step->size) == 0;
}

static unsigned enabled_threads(void)
{
    unsigned enabled = 0;
    for (unsigned i = 0; i < plan->thread_count; i++)
        if (coroutines[i].status == IS_READY && step_is_enabled(coroutines[i].pending))
            enabled |= bit(i);
    return enabled;
}

/* Those of `threads` that may run before event `at` without one preemption too many. */
static unsigned within_bound(const struct event *event, unsigned threads)
{
    if (!plan->is_bounded || event->preemptions < plan->preemptions) return threads;
    const bool could_go_on = event->previous != NOBODY && event->enabled & bit(event->previous);
    return could_go_on ? threads & bit(event->previous) : threads;
}

/* What sleeps before event `at`: what slept or was done before the one before it, unless that one
 * has made a difference to it. */
static void inherit_sleep(unsigned at)
{
    struct event *event = &trace[at];
    event->sleep = 0;
    if (at == 0 || plan->is_bounded || plan->is_naive) return;
    const struct event *before = &trace[at - 1];
    const unsigned asleep = (before->sleep | before->done) & ~bit(before->thread);
    for (unsigned i = 0; i < plan->thread_count; i++) {
        if (!(asleep & bit(i)) || steps_depend(&before->steps[i], &before->step)) continue;
        event->sleep |= bit(i);
        event->steps[i] = before->steps[i];
    }
}

/* A state that was not seen yet. Returns whether to go on from it. */
static bool begin_event(unsigned enabled)
{
    struct event *event = &trace[depth];
    inherit_sleep(depth);
    event->enabled = enabled;
    event->done = event->choice = 0;
    event->previous = depth ? trace[depth - 1].thread : NOBODY;
    event->preemptions = 0;
    if (depth) {
        const struct event *before = &trace[depth - 1];
        const bool preempted = before->previous != NOBODY && before->previous != before->thread &&
                               before->enabled & bit(before->previous);
        event->preemptions = before->preemptions + preempted;
    }
    const unsigned candidates = within_bound(event, enabled & ~event->sleep);
    if (!candidates) return false;
    event->thread =
        candidates & bit(event->previous) ? event->previous : (unsigned)__builtin_ctz(candidates);
    event->backtrack = plan->is_naive ? enabled : bit(event->thread);
    return true;
}

static bool is_waiting(void)
{
    for (unsigned i = 0; i < plan->thread_count; i++)
        if (coroutines[i].status == IS_ASLEEP || coroutines[i].status == IS_READY) return true;
    return false;
}

/* Choose who takes the next step; NOBODY: the execution ends here. */
static unsigned pick(void)
{
    struct coroutine *victim = &coroutines[0];
    if (plan->kills && victim->number == plan->kill_at && victim->status == IS_READY) {
        victim->status = IS_DEAD;
        has_killed = true;
    }
    const unsigned enabled = enabled_threads();
    if (!enabled) {
        if (is_waiting()) note_problem("deadlock: a thread waits, and nobody can wake it");
        return NOBODY;
    }
    if (depth == EVENTS_MAX) {
        note_problem("no end after %u steps", depth);
        return NOBODY;
    }
    if (depth >= planned && !begin_event(enabled)) {
        is_redundant = true;
        return NOBODY;
    }
    return trace[depth].thread;
}

/* The running thread has a pending step, sleeps or has ended: go on with whoever is next. Returns
 * when that is the running thread. */
static void run_next(void)
{
    const unsigned next = pick();
    if (next == running && next != NOBODY) return;
    const unsigned self = running;
    if (coroutines[self].status == IS_ENDED) switch_to(next);
    if (_setjmp(coroutines[self].context) == 0) switch_to(next);
}

/* ---- races ---- */

/* Let `threads` have run before event `at`; if none of them could, everybody. */
static void add_backtrack(unsigned at, unsigned threads)
{
    struct event *event = &trace[at];
    const unsigned possible = threads & event->enabled;
    if (!possible)
        event->backtrack |= event->enabled;
    else if (!(event->backtrack & possible))
        event->backtrack |= possible & (0u - possible);
}

/*
 * The events behind `first` that do not depend on it, then `final`: who could begin with them? One
 * of these has to run before `first`, for `final` to come before it.
 */
static unsigned race_initials(unsigned first, unsigned final)
{
    const struct event *early = &trace[first];
    unsigned firsts[THREADS] = {0}; /* the number of a thread's first such event */
    unsigned initials = 0;
    for (unsigned i = first + 1; i <= final; i++) {
        const struct event *event = &trace[i];
        if (i < final && event->clock.of[early->thread] >= early->number) continue;
        if (firsts[event->thread]) continue;
        bool is_initial = true;
        for (unsigned other = 0; other < plan->thread_count; other++)
            if (firsts[other] && event->clock.of[other] >= firsts[other]) is_initial = false;
        if (is_initial) initials |= bit(event->thread);
        firsts[event->thread] = event->number;
    }
    return initials;
}

static void race(unsigned first, unsigned final)
{
    const unsigned initials = trace[final].step.kind == STEP_LOCK ? 0 : race_initials(first, final);
    add_backtrack(first, initials);
    if (!plan->is_bounded) return;
    /* Also where the early thread's turn began: there it takes no preemption. */
    unsigned begin = first;
    while (begin > 0 && trace[begin - 1].thread == trace[first].thread) begin--;
    if (begin < first) add_backtrack(begin, initials);
}

/* Two steps that never wait for the same moment: one makes the other possible. */
static bool is_enabling(const struct event *early, const struct event *late)
{
    return (early->step.kind == STEP_UNLOCK && late->step.kind == STEP_LOCK) ||
           (early->step.kind == STEP_WAKE && late->step.kind == STEP_RESUME);
}

/* ---- events by place ---- */

static unsigned *place_of(const struct event *event)
{
    return &last_at[(event->step.address >> 3) * 0x9e3779b97f4a7c15u >> 50];
}

/* The newest event gets its place. */
static void place_add(unsigned at)
{
    struct event *event = &trace[at];
    unsigned *last = place_of(event);
    event->same_place = *last;
    *last = at + 1;
    if (event->step.kind == STEP_BARRIER) has_barrier = true;
}

/* 1 + the index of the next event before `at` that may depend on it; 0: there is none. */
static unsigned place_before(unsigned at)
{
    return has_barrier ? at : trace[at].same_place;
}

static void find_lock_race(unsigned at, const struct clock *known)
{
    const struct event *event = &trace[at];
    for (unsigned i = place_before(at); i > 0; i = place_before(i - 1)) {
        const struct event *early = &trace[i - 1];
        if (early->step.kind != STEP_LOCK || early->step.address != event->step.address) continue;
        if (early->thread != event->thread && known->of[early->thread] < early->number)
            race(i - 1, at);
        return;
    }
}

/* What the newest event depends on, and with which events it races. */
static void find_races(unsigned at)
{
    struct event *event = &trace[at];
    struct clock known = coroutines[event->thread].clock;
    static unsigned races[EVENTS_MAX];
    unsigned count = 0;
    place_add(at);
    if (event->step.kind == STEP_LOCK) find_lock_race(at, &known);
    for (unsigned i = place_before(at); i > 0; i = place_before(i - 1)) {
        const struct event *early = &trace[i - 1];
        if (early->thread == event->thread || !events_depend(early, event)) continue;
        if (known.of[early->thread] < early->number) {
            if (!is_enabling(early, event)) races[count++] = i - 1;
            clock_join(&known, &early->clock);
        }
    }
    known.of[event->thread] = event->number;
    event->clock = coroutines[event->thread].clock = known;
    for (unsigned i = 0; i < count; i++) race(races[i], at);
}

/* ---- steps ---- */

static void wake(uintptr_t address)
{
    for (unsigned i = 0; i < plan->thread_count; i++) {
        struct coroutine *other = &coroutines[i];
        if (other->status == IS_ASLEEP && other->pending->address == address)
            other->status = IS_READY;
    }
}

static void set_mutex(const struct step *step, uint64_t value)
{
    memory_save(step->address, step->size);
    memcpy((void *)step->address, &value, step->size);
}

/* Do what the step does; it is the running thread's turn. */
static void do_step(struct step *step)
{
    switch (step->kind) {
    case STEP_WAIT: step->found = memory_native(step->address, step->size); break;
    case STEP_RESUME: memory_acquire(running, step->address); break;
    case STEP_WAKE:
        memory_release(running, step->address);
        wake(step->address);
        break;
    case STEP_LOCK:
        memory_acquire(running, step->address);
        set_mutex(step, 1);
        break;
    case STEP_UNLOCK:
        memory_release(running, step->address);
        set_mutex(step, 0);
        break;
    default: memory_step(running, step); break;
    }
}

unsigned explore_choose(unsigned count)
{
    struct event *event = &trace[depth];
    event->choice_count = count;
    if (event->choice >= count) {
        note_problem("the program does not repeat itself: %u outcomes, not %u", count,
                     event->choice + 1);
        switch_to(NOBODY);
    }
    return event->choice;
}

static void take_step(struct step *step)
{
    struct coroutine *self = &coroutines[running];
    self->pending = step;
    if (is_starting) {
        if (_setjmp(self->context) == 0) switch_to(NOBODY);
    } else {
        run_next();
    }
    self = &coroutines[running]; /* after a jump nothing is certain but what is static */
    struct event *event = &trace[depth];
    step = self->pending;
    event->choice_count = 0;
    event->number = ++self->number;
    do_step(step);
    event->step = event->steps[running] = *step;
    find_races(depth);
    depth++;
    result->steps++;
}

void explore_step(struct step *step)
{
    take_step(step);
    if (step->kind != STEP_WAIT || step->found != step->value) return;
    struct step resume = *step;
    resume.kind = STEP_RESUME;
    coroutines[running].status = IS_ASLEEP;
    take_step(&resume);
}

/* ---- executions ---- */

static void start_threads(void)
{
    is_starting = true;
    for (unsigned i = 0; i < THREADS; i++) {
        struct coroutine *self = &coroutines[i];
        self->status = IS_READY;
        self->number = 0;
        self->clock = (struct clock){0};
        for (unsigned k = 0; k < local_count; k++)
            memcpy(self->locals[k], locals[k].initial[i], locals[k].size);
    }
    for (volatile unsigned i = 0; i < plan->thread_count && !result->problem[0]; i++) {
        memcpy(coroutines[i].context, coroutines[i].base, sizeof(jmp_buf));
        if (_setjmp(back) == 0) switch_to(i);
    }
    is_starting = false;
}

static void judge(void)
{
    if (!plan->judge) return;
    explore_mode = EXPLORE_RECORD;
    explore_is_inside = false;
    const char *problem = plan->judge();
    explore_mode = EXPLORE_OFF;
    if (problem) note_problem("%s", problem);
}

/* Once through all threads, from the same state of memory. */
static void execute_once(void)
{
    depth = 0;
    is_redundant = has_killed = has_barrier = false;
    memset(last_at, 0, sizeof last_at);
    memory_begin(plan->is_weak);
    start_threads();
    if (!result->problem[0] && _setjmp(back) == 0) {
        const unsigned next = pick();
        if (next != NOBODY) switch_to(next);
    }
    if (result->longest < depth) result->longest = depth;
    if (has_killed) result->was_killed = true;
    if (!result->problem[0] && !is_redundant) {
        result->executions++;
        judge();
    } else {
        result->redundant += is_redundant;
    }
    memory_undo();
}

/* Change the last event that has something left to try. False: all was tried. */
static bool plan_next(void)
{
    for (; depth > 0; depth--) {
        struct event *event = &trace[depth - 1];
        planned = depth;
        if (event->choice + 1 < event->choice_count) {
            event->choice++;
            return true;
        }
        event->done |= bit(event->thread);
        const unsigned left = within_bound(event, event->backtrack & ~event->done & ~event->sleep);
        if (!left) continue;
        event->thread = (unsigned)__builtin_ctz(left);
        event->choice = 0;
        return true;
    }
    return false;
}

bool interleave_run(const struct interleave_plan *wanted, struct interleave_result *receives)
{
    plan = wanted;
    result = receives;
    *result = (struct interleave_result){0};
    find_main_stack();
    for (unsigned i = 0; i < local_count; i++)
        memcpy(locals[i].main, locals[i].address, locals[i].size);
    for (unsigned i = 0; i < plan->thread_count; i++) coroutine_create(i);
    planned = 0;
    do {
        execute_once();
        if (result->problem[0]) return false;
        if (plan->executions_max && result->executions + result->redundant >= plan->executions_max)
            return true;
    } while (plan_next());
    result->is_complete = true;
    return true;
}
