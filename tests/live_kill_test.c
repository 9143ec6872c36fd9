/* live_kill_test.c -- processes on one live heap are killed while the others go on.
 *
 * Strategy: four processes with two threads each allocate and free through a board in the heap, so
 * that most blocks are freed by another process than the one that allocated them. Every few
 * milliseconds one is killed and replaced by a new one. Now and then all are killed, and the heap
 * is checked by a process that attaches alone; half of these times the ephemeral file is deleted
 * before. One test uses evh_malloc_to() and evh_free_from() only.
 * Invariants: every block that a slot names is live, is named once, and holds what was stored in
 * it; evh_check() finds nothing; after each kill every survivor gets on; at most one block for each
 * killed thread is live and not named, none with the calls in one step; the heap does not grow
 * without bound.
 *
 * 200 kills in all, scaled by EFFORT or set by KILLS.
 */
#include "live_board.h"
#include "test.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PROCESSES = 4,
    THREADS = 2,
    KILLS_DEFAULT = 200,
    KILLS_PER_ROUND = 10,
    HEAP_BYTES_MAX = 400 << 20, /* the board holds 4 MiB on average */
};

static_assert(PROCESSES * THREADS <= BOARD_WORKERS, "one counter each");

/* What parent and children share beside the heap. */
struct shared {
    char error[256];
    uint64_t addresses[PROCESSES];
    uint64_t is_ready[PROCESSES];
};

static struct shared *shared;
static char heap_path[512];
static bool in_one_step;
static evh_heap *child_heap;
static struct board *child_board;

/* ---- a child ---- */

struct worker {
    unsigned number;
    uint64_t seed;
};

__attribute__((noreturn)) static void child_failed(const char *what)
{
    snprintf(shared->error, sizeof shared->error, "%.250s", what);
    _exit(1);
}

static void *worker_run(void *context)
{
    const struct worker *worker = context;
    uint64_t random = worker->seed;
    for (;;) { /* until killed */
        const char *wrong =
            board_step(child_heap, child_board, worker->number, &random, in_one_step);
        if (wrong) child_failed(wrong);
    }
    return NULL;
}

__attribute__((noreturn)) static void child_run(unsigned process, uint64_t seed)
{
    const evh_options options = {.mode = EVH_LIVE};
    child_heap = evh_open(heap_path, &options);
    if (!child_heap) child_failed(evh_last_error()->message);
    child_board = board_open(child_heap);
    if (!child_board) child_failed(evh_last_error()->message);
    shared->addresses[process] = (uint64_t)(uintptr_t)child_board;
    __atomic_store_n(&shared->is_ready[process], 1, __ATOMIC_RELEASE);
    static struct worker workers[THREADS];
    pthread_t thread;
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){process * THREADS + i, seed + i};
        if (i + 1 < THREADS && pthread_create(&thread, NULL, worker_run, &workers[i]))
            child_failed("no thread");
    }
    (void)worker_run(&workers[THREADS - 1]);
    _exit(0);
}

/* ---- the parent ---- */

static void wait_a_moment(uint64_t microseconds)
{
    const struct timespec time = {.tv_nsec = (long)(microseconds * 1000)};
    nanosleep(&time, NULL);
}

static pid_t start(unsigned process, uint64_t *random)
{
    shared->is_ready[process] = 0;
    const uint64_t seed = test_random(random);
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) child_run(process, seed);
    return child;
}

/* Kill a child; it must have been running. */
static void stop(pid_t child)
{
    int status = 0;
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        test_fail(__FILE__, __LINE__, "a child ended by itself: %s", shared->error);
    CHECK(WIFSIGNALED(status));
    CHECK_EQUAL(WTERMSIG(status), SIGKILL);
}

/* Every worker of the children that live does something more. */
static void expect_progress(const struct board *board, const pid_t *children)
{
    uint64_t before[PROCESSES * THREADS];
    for (unsigned i = 0; i < PROCESSES * THREADS; i++)
        before[i] = __atomic_load_n(&board->operations[i], __ATOMIC_RELAXED);
    for (unsigned i = 0; i < PROCESSES * THREADS; i++) {
        if (children[i / THREADS] == 0) continue;
        uint64_t waits = 0;
        while (__atomic_load_n(&board->operations[i], __ATOMIC_RELAXED) == before[i]) {
            int status = 0;
            if (waitpid(children[i / THREADS], &status, WNOHANG) != 0) {
                test_fail(__FILE__, __LINE__, "a child ended by itself: %s", shared->error);
                test_stop();
            }
            if (++waits == 600000) {
                test_fail(__FILE__, __LINE__, "worker %u does not get on", i);
                test_stop();
            }
            wait_a_moment(100);
        }
    }
}

/* Look at the heap, alone. */
static uint64_t check_alone(uint64_t *heap_bytes)
{
    const evh_options options = {.mode = EVH_LIVE, .must_exist = true};
    evh_heap *heap = evh_open(heap_path, &options);
    uint64_t leaked = 0;
    evh_info info;
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    const char *wrong = board_check(heap, &leaked);
    if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
    CHECK(wrong == NULL);
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    *heap_bytes = info.heap_bytes;
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    return leaked;
}

/* The parent's view of the board: the file's pages, found through a handle that is closed when all
 * children are gone. */
static evh_heap *watch(struct board **board)
{
    const evh_options options = {.mode = EVH_LIVE};
    evh_heap *heap = evh_open(heap_path, &options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    *board = board_open(heap);
    CHECK(*board != NULL);
    return heap;
}

/* What happened in all rounds. */
struct figures {
    uint64_t kills, threads;  /* processes killed, and their threads */
    uint64_t rounds, deleted; /* of which began without the ephemeral file */
    uint64_t operations;
};

static uint64_t count_operations(const struct board *board)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < PROCESSES * THREADS; i++)
        count += __atomic_load_n(&board->operations[i], __ATOMIC_RELAXED);
    return count;
}

/* A round: some kills among survivors, then all. */
static void run_round(uint64_t kills, uint64_t *random, struct figures *figures)
{
    pid_t children[PROCESSES] = {0};
    struct board *board = NULL;
    evh_heap *heap = watch(&board);
    for (unsigned i = 0; i < PROCESSES; i++) children[i] = start(i, random);
    expect_progress(board, children);
    for (uint64_t i = 0; i < kills; i++) {
        const unsigned victim = (unsigned)(test_random(random) % PROCESSES);
        wait_a_moment(test_random(random) % 8000);
        stop(children[victim]);
        children[victim] = 0;
        for (unsigned k = 0; k < THREADS; k++) board_release(board, victim * THREADS + k);
        expect_progress(board, children);
        children[victim] = start(victim, random);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        stop(children[i]);
        for (unsigned k = 0; k < THREADS; k++) board_release(board, i * THREADS + k);
    }
    figures->rounds++;
    figures->kills += kills + PROCESSES;
    figures->threads += (kills + PROCESSES) * THREADS;
    figures->operations = count_operations(board); /* since the heap was made */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static void kill_and_check(const char *name, bool one_step)
{
    uint64_t random = test_seed();
    const char *asked = getenv("KILLS");
    uint64_t kills = (asked ? strtoull(asked, NULL, 10) : test_effort(KILLS_DEFAULT)) / 2;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    memset(shared, 0, sizeof *shared);
    snprintf(heap_path, sizeof heap_path, "%s", test_path(name));
    in_one_step = one_step;
    struct figures figures = {0};
    uint64_t leaked = 0, heap_bytes = 0, heap_bytes_half = 0;
    const uint64_t half = kills / 2;
    while (kills > 0) {
        const uint64_t part = kills < KILLS_PER_ROUND ? kills : KILLS_PER_ROUND;
        run_round(part, &random, &figures);
        char ephemeral[sizeof heap_path + 8];
        snprintf(ephemeral, sizeof ephemeral, "%s.live", heap_path);
        if (test_random(&random) % 2) {
            (void)unlink(ephemeral);
            figures.deleted++;
        }
        leaked = check_alone(&heap_bytes);
        CHECK(leaked <= (one_step ? 0 : figures.threads));
        CHECK(heap_bytes <= HEAP_BYTES_MAX);
        kills -= part;
        if (kills >= half) heap_bytes_half = heap_bytes;
        if (getenv("V"))
            printf("    %llu kills: %llu MiB, %llu leaked\n", (unsigned long long)figures.kills,
                   (unsigned long long)heap_bytes >> 20, (unsigned long long)leaked);
    }
    printf("  %llu processes with %llu threads killed, %llu operations; %llu rounds, %llu without "
           "the ephemeral file; %llu blocks leaked, %llu MiB of heap (%llu at half time)\n",
           (unsigned long long)figures.kills, (unsigned long long)figures.threads,
           (unsigned long long)figures.operations, (unsigned long long)figures.rounds,
           (unsigned long long)figures.deleted, (unsigned long long)leaked,
           (unsigned long long)heap_bytes >> 20, (unsigned long long)heap_bytes_half >> 20);
    CHECK_EQUAL(munmap(shared, sizeof *shared), 0);
}

TEST(survivors_go_on_and_nothing_breaks_when_processes_are_killed)
{
    kill_and_check("plain", false);
}

TEST(nothing_leaks_when_processes_are_killed_between_allocating_and_naming)
{
    kill_and_check("one_step", true);
}
