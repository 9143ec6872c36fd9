/* heap_model_test.c -- a durable heap under random operations beside a model of it.
 *
 * Strategy: a child process works on a heap file: operations of all kinds, from three threads that
 * take turns and now and then end and are replaced, with commits, begun commits, rollbacks,
 * checkpoints, trims, clean closes and reopenings. It is killed at the n-th call to the system
 * after a random operation, or soon after one by a timer; some kills meet it while it recovers.
 * Every opening is at an address where the heap was not before. The model lies in memory that
 * parent and children share, with copies of the last two commits: the number in the heap that is
 * found says which of them it must equal.
 * Invariants: those of model_verify() and of every step (block_model.h); the commit found after a
 * kill is the last one that was begun successfully, or the one in flight; after a close and after
 * a rollback, the last one begun.
 *
 * 300,000 operations, scaled by EFFORT or set by OPERATIONS (`make model`: 20 million).
 */
#include "support/block_model.h"
#include "support/os_kill.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    OPERATIONS_DEFAULT = 300000,
    THREADS = 3,
    TURN_MAX = 3000, /* operations of one thread before the next one's turn */
    TICKETS_MAX = 4,
    KILL_INTERVAL = 8000, /* operations between kills, on average */
    KILL_CALLS_MAX = 120,
    KILL_DELAY_MAX_US = 8000,
    RESERVATION_BYTES = 1 << 30, /* more than the heap takes */
};

/* How often, in operations. */
enum {
    EVERY_COMMIT = 1500,
    EVERY_ROLLBACK = 8000,
    EVERY_REOPENING = 10000,
    EVERY_CHECKPOINT = 20000,
    EVERY_TRIM = 20000,
    EVERY_VERIFICATION = 40000,
};

struct counts {
    uint64_t commits, rollbacks, reopenings, verifications, in_flight, threads;
};

/* Shared between parent and children; the children write. */
struct shared {
    struct model_state working;
    struct model_state commits[2]; /* commit n at n % 2 */
    struct model_phase phase;
    uint64_t random, operations, target;
    uint64_t begun;   /* number of the newest commit whose state is in `commits` */
    uint64_t handed;  /* number of the newest commit that the library accepted */
    uint64_t address; /* where the heap was the last time */
    struct counts counts;
};

static struct shared *shared;
static const char *heap_file;
static struct block_model model;
static evh_ticket tickets[TICKETS_MAX];
static unsigned ticket_count;
static uint64_t kill_at; /* operation */

static uint64_t chance(uint64_t one_in)
{
    return (test_random(&shared->random) >> 8) % one_in;
}

static void must(evh_status status, const char *what)
{
    if (status) test_fail(__FILE__, __LINE__, "%s: %s", what, evh_last_error()->message);
    CHECK(!status);
}

/* ---- opening ---- */

/* A free place for the heap that is not where it was the last time; 0, for any, if it was nowhere
 * yet. ThreadSanitizer leaves no choice, and emulators little. */
static uint64_t another_address(void)
{
    if (BASE_THREAD_SANITIZER || shared->address == 0) return 0;
    for (unsigned i = 0; i < 64; i++) {
        const uint64_t distance = (chance(64) + 1) * RESERVATION_BYTES;
        const uint64_t wanted = shared->address + (chance(2) ? distance : 0 - distance);
        void *address = NULL;
        CHECK_EQUAL(os_linux()->reserve(RESERVATION_BYTES, 64 << 20, wanted, &address), 0);
        CHECK_EQUAL(os_linux()->release(address, RESERVATION_BYTES), 0);
        if ((uint64_t)(uintptr_t)address == wanted) return wanted;
    }
    if (!test_has_addresses(128ull * RESERVATION_BYTES)) return 0; /* the system gives few: any */
    test_fail(__FILE__, __LINE__, "no other address is free");
    test_stop();
}

static evh_options random_options(void)
{
    static const evh_detect tiers[] = {EVH_DETECT_SCAN, EVH_DETECT_PAGEMAP, EVH_DETECT_PROTECT};
    const uint64_t tier = chance(10);
    return (evh_options){
        .misuse = EVH_MISUSE_STATUS,
        .must_exist = shared->address != 0,
        .no_thread = chance(2) == 0,
        .verify = chance(8) == 0,
        .detect = tier < sizeof tiers / sizeof tiers[0] ? tiers[tier] : EVH_DETECT_AUTO,
        .size_max_bytes = MODEL_SIZE_MAX_BYTES,
        .checkpoint_bytes = (64u << 10) << chance(9),
        .private_max_bytes = chance(4) ? 0 : (1u << 20) << chance(6),
        .preferred_address = another_address(),
    };
}

/* Open and find the commit that must be there. Returns whether it was in flight. */
static void open_heap(bool was_killed)
{
    evh_options options = random_options();
    model.heap = evh_open(heap_file, &options);
    if (!model.heap && evh_last_error()->status == EVH_UNSUPPORTED) {
        options.detect = EVH_DETECT_AUTO; /* a system without that tier */
        model.heap = evh_open(heap_file, &options);
    }
    if (!model.heap) test_fail(__FILE__, __LINE__, "evh_open: %s", evh_last_error()->message);
    CHECK(model.heap != NULL);
    evh_info info;
    must(evh_get_info(model.heap, &info), "evh_get_info");
    if (options.preferred_address) {
        CHECK_EQUAL(info.address, options.preferred_address);
        CHECK(info.address != shared->address);
    }
    shared->address = info.address;

    const uint64_t number = model_number(model.heap);
    CHECK(number == shared->handed || (was_killed && number == shared->begun));
    if (number != shared->handed) shared->counts.in_flight++;
    shared->begun = shared->handed = number;
    shared->working = shared->commits[number % 2];
    model.state = &shared->working;
    model.phase = &shared->phase;
    model.random = &shared->random;
    model_attach(&model);
    if (number > 0) model_verify(&model, chance(2));
    shared->counts.verifications++;
}

/* ---- what befalls the whole heap ---- */

static void wait_for_commits(void)
{
    for (unsigned i = 0; i < ticket_count; i++)
        must(evh_commit_wait(model.heap, tickets[i]), "evh_commit_wait");
    ticket_count = 0;
}

static void commit(void)
{
    const uint64_t number = shared->handed + 1;
    model_set_number(&model, number);
    shared->commits[number % 2] = shared->working;
    __atomic_store_n(&shared->begun, number, __ATOMIC_SEQ_CST);
    if (chance(4) == 0) {
        if (ticket_count == TICKETS_MAX) wait_for_commits();
        must(evh_commit_begin(model.heap, &tickets[ticket_count++]), "evh_commit_begin");
    } else {
        must(evh_commit(model.heap), "evh_commit");
    }
    __atomic_store_n(&shared->handed, number, __ATOMIC_SEQ_CST);
    shared->counts.commits++;
    if (chance(2)) wait_for_commits();
}

static void roll_back(void)
{
    must(evh_rollback(model.heap), "evh_rollback");
    shared->working = shared->commits[shared->handed % 2];
    model_attach(&model);
    model_verify(&model, chance(4) == 0);
    shared->counts.rollbacks++;
    shared->counts.verifications++;
}

static void reopen(void)
{
    if (chance(2)) commit();
    if (chance(2)) wait_for_commits();
    ticket_count = 0; /* closing waits for them */
    must(evh_close(model.heap), "evh_close");
    open_heap(false);
    shared->counts.reopenings++;
}

/* SIGKILL from outside, so to say: from the kernel, some time from now. */
static void kill_after(uint64_t delay_us)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    const struct itimerspec when = {.it_value = {0, (long)(delay_us * 1000 + 1)}};
    CHECK_EQUAL(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    CHECK_EQUAL(timer_settime(timer, 0, &when, NULL), 0);
}

static void plan_kill(void)
{
    kill_at = UINT64_MAX;
    if (chance(4) == 0)
        kill_after(chance(KILL_DELAY_MAX_US));
    else
        os_kill_at(1 + chance(KILL_CALLS_MAX));
}

static void work(uint64_t count)
{
    for (; count > 0 && shared->operations < shared->target; count--) {
        model_step(&model);
        shared->operations++;
        if (shared->operations == kill_at) plan_kill();
        if (chance(EVERY_COMMIT) == 0) commit();
        if (chance(EVERY_ROLLBACK) == 0) roll_back();
        if (chance(EVERY_REOPENING) == 0) reopen();
        if (chance(EVERY_CHECKPOINT) == 0) must(evh_checkpoint(model.heap), "evh_checkpoint");
        if (chance(EVERY_TRIM) == 0) must(evh_trim(model.heap, NULL), "evh_trim");
        if (chance(EVERY_VERIFICATION) == 0) model_verify(&model, chance(4) == 0);
    }
}

/* ---- threads that take turns ---- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned turn;  /* 0: the main thread's */
    uint64_t count; /* operations of this turn */
    bool ends;      /* the thread ends behind its turn */
} baton = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *take_turns(void *context)
{
    const unsigned self = (unsigned)(uintptr_t)context;
    bool ends = false;
    while (!ends) {
        pthread_mutex_lock(&baton.mutex);
        while (baton.turn != self) pthread_cond_wait(&baton.changed, &baton.mutex);
        pthread_mutex_unlock(&baton.mutex);
        work(baton.count);
        ends = baton.ends;
        pthread_mutex_lock(&baton.mutex);
        baton.turn = 0;
        pthread_cond_broadcast(&baton.changed);
        pthread_mutex_unlock(&baton.mutex);
    }
    return NULL;
}

static void give_turn(unsigned thread, uint64_t count, bool ends)
{
    pthread_mutex_lock(&baton.mutex);
    baton.turn = thread;
    baton.count = count;
    baton.ends = ends;
    pthread_cond_broadcast(&baton.changed);
    while (baton.turn != 0) pthread_cond_wait(&baton.changed, &baton.mutex);
    pthread_mutex_unlock(&baton.mutex);
}

static void work_in_turns(void)
{
    pthread_t threads[THREADS];
    bool is_started[THREADS] = {false};
    while (shared->operations < shared->target) {
        const uintptr_t thread = chance(THREADS);
        const uint64_t count = 1 + chance(TURN_MAX);
        const bool ends = chance(8) == 0;
        if (thread == 0) {
            work(count);
            continue;
        }
        if (!is_started[thread]) {
            CHECK_EQUAL(pthread_create(&threads[thread], NULL, take_turns, (void *)thread), 0);
            shared->counts.threads++;
        }
        give_turn((unsigned)thread, count, ends);
        is_started[thread] = !ends;
        if (ends) CHECK_EQUAL(pthread_join(threads[thread], NULL), 0);
    }
    for (unsigned i = 1; i < THREADS; i++) {
        if (!is_started[i]) continue;
        give_turn(i, 0, true);
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
}

/* ---- processes ---- */

/* The work of one process: until it is killed, or all is done. */
static void child(void)
{
    os_kill_use();
    kill_at = shared->operations + 1 + chance(2 * KILL_INTERVAL);
    if (chance(6) == 0) os_kill_at(1 + chance(40)); /* in the midst of recovery */
    open_heap(true);
    work_in_turns();
    os_kill_at(0);
    commit();
    reopen();
    model_empty(&model);
    commit();
    reopen();
    must(evh_close(model.heap), "evh_close");
}

static bool run_child(void)
{
    fflush(stdout);
    const pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        child();
        fflush(stdout);
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(process, &status, 0), process);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        test_fail(__FILE__, __LINE__, "the child ended with status 0x%x at operation %llu",
                  (unsigned)status, (unsigned long long)shared->operations);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return false;
}

/* The heap as every child will find it: made, and committed once. */
static void create_heap(void)
{
    os_kill_use();
    open_heap(false);
    commit();
    wait_for_commits();
    must(evh_close(model.heap), "evh_close");
    os_use(NULL);
}

static uint64_t operations_wanted(void)
{
    const char *text = getenv("OPERATIONS");
    return text ? strtoull(text, NULL, 0) : test_effort(OPERATIONS_DEFAULT);
}

TEST(random_operations_commits_rollbacks_reopenings_and_kills_agree_with_a_model)
{
    uint64_t kills = 0;
    heap_file = test_path("model");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    shared->random = test_seed();
    shared->target = operations_wanted();
    create_heap();
    while (!run_child()) kills++;
    const struct counts *counts = &shared->counts;
    printf("model: %llu operations, %llu commits, %llu rollbacks, %llu reopenings, %llu kills, "
           "0 differences\n",
           (unsigned long long)shared->operations, (unsigned long long)counts->commits,
           (unsigned long long)counts->rollbacks, (unsigned long long)counts->reopenings,
           (unsigned long long)kills);
    printf("    seed %llu, %llu threads, %llu verifications, %llu kills left the commit in "
           "flight\n",
           (unsigned long long)test_seed(), (unsigned long long)counts->threads,
           (unsigned long long)counts->verifications, (unsigned long long)counts->in_flight);
    CHECK(shared->operations >= shared->target);
    if (shared->target >= OPERATIONS_DEFAULT) {
        CHECK(counts->commits > 0);
        CHECK(counts->rollbacks > 0);
        CHECK(counts->reopenings > 0);
        CHECK(kills > 0);
    }
    munmap(shared, sizeof *shared);
}
