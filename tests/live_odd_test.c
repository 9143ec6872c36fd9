/* live_odd_test.c -- live heaps: what programs and systems do that nobody expects.
 *
 * Calls of the system that fail, threads that are cancelled inside a call, more processes than
 * there is room for, two heaps at once.
 */
#include "heap/heap.h"
#include "live_board.h"
#include "support/os_fail.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_heap *live_open(const char *path)
{
    const evh_options options = {
        .mode = EVH_LIVE, .misuse = EVH_MISUSE_STATUS, .size_max_bytes = 256 << 20};
    evh_heap *heap = evh_open(path, &options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

static bool live_finding(const evh_finding *finding, void *context)
{
    (void)context;
    test_fail(__FILE__, __LINE__, "%s at 0x%llx: %s", finding->object,
              (unsigned long long)finding->offset, finding->message);
    return true;
}

static void live_close(evh_heap *heap)
{
    CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- calls that fail ---- */

enum { LIFE_SLOTS = 12, FAULTS_MAX = 3000 };

static evh_status life_of(evh_heap *heap)
{
    const size_t sizes[] = {16,    5000, 30000, 70000, 70 << 20, 64,
                            20000, 700,  1000,  1000,  300000,   24};
    evh_ref *slots = evh_root(heap, "slots", LIFE_SLOTS * sizeof *slots);
    if (!slots) return evh_last_error()->status;
    evh_status status = EVH_OK;
    for (unsigned i = 0; i < LIFE_SLOTS && !status; i++)
        if (!slots[i].offset) status = evh_malloc_to(heap, &slots[i], sizes[i]);
    if (!status && !evh_root(heap, "again", 70000)) status = evh_last_error()->status;
    if (!status) status = evh_root_remove(heap, "again");
    if (!status && !evh_root_tagged(heap, 7, 100)) status = evh_last_error()->status;
    for (unsigned i = 0; i < LIFE_SLOTS && !status; i += 3) status = evh_free_from(heap, &slots[i]);
    if (!status) status = evh_trim(heap, NULL);
    if (!status) status = evh_malloc_to(heap, &slots[0], 2 << 20);
    if (!status) status = evh_sync(heap);
    return status;
}

static evh_status life_run(const char *path)
{
    const evh_options options = {
        .mode = EVH_LIVE, .misuse = EVH_MISUSE_STATUS, .size_max_bytes = 256 << 20};
    evh_heap *heap = evh_open(path, &options);
    if (!heap) return evh_last_error()->status;
    const evh_status status = life_of(heap);
    const evh_status closed = evh_close(heap);
    return status ? status : closed;
}

static bool life_count(const evh_block *block, void *context)
{
    (void)block;
    ++*(int64_t *)context;
    return true;
}

static void life_count_internal(uint64_t offset, void *context)
{
    (void)offset;
    --*(int64_t *)context;
}

/* All blocks are named. */
static void life_check(const char *path, const char *what)
{
    evh_heap *heap = live_open(path);
    int64_t count = 0;
    CHECK_EQUAL(evh_walk(heap, life_count, &count), EVH_OK);
    live_roots_each_internal(heap, life_count_internal, &count);
    const evh_ref *slots = evh_root_find(heap, "slots", NULL);
    for (unsigned i = 0; slots && i < LIFE_SLOTS; i++) count -= slots[i].offset != 0;
    for (evh_root_info root = {0}; evh_root_next(heap, &root);) count--;
    if (count) {
        test_fail(__FILE__, __LINE__, "%s: %lld blocks that nothing names", what, (long long)count);
        test_stop();
    }
    live_close(heap);
}

/* Whether a call failed. */
static bool life_fault(const char *path, unsigned kinds, uint64_t n, int error, bool is_sticky)
{
    char what[128];
    const struct os_fail_account before = os_fail_account();
    os_fail_at(kinds, n, error, is_sticky);
    const evh_status status = life_run(path);
    const bool struck = os_fail_struck();
    snprintf(what, sizeof what, "call %llu, %s, error %d, %s", (unsigned long long)n,
             os_fail_name(), error, is_sticky ? "and all later ones" : "once");
    os_fail_at(0, 0, 0, false);
    const struct os_fail_account now = os_fail_account();
    if (status && (!struck || status == EVH_CORRUPT)) {
        test_fail(__FILE__, __LINE__, "%s: %s", what, evh_last_error()->message);
        test_stop();
    }
    if (memcmp(&now, &before, sizeof now) != 0) {
        test_fail(__FILE__, __LINE__, "%s: files or memory are not given back", what);
        test_stop();
    }
    life_check(path, what);
    return struck;
}

TEST(any_call_of_the_system_may_fail_and_the_heap_goes_on)
{
    const struct {
        unsigned kinds;
        int error;
        bool is_sticky;
    } faults[] = {{OS_FAIL_SYSTEM | OS_FAIL_MEMORY, EIO, false},
                  {OS_FAIL_SPACE, ENOSPC, true},
                  {OS_FAIL_MEMORY | OS_FAIL_MAP, ENOMEM, true}};
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    os_fail_use();
    CHECK_EQUAL(life_run(path), EVH_OK); /* the library keeps what it keeps for ever */
    for (unsigned i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        uint64_t n = 1;
        (void)unlink(path); /* then each goes on where the one before failed */
        while (n < FAULTS_MAX &&
               life_fault(path, faults[i].kinds, n, faults[i].error, faults[i].is_sticky))
            if (++n % 8 == 0) (void)unlink(path);
        CHECK(n > 1);
        CHECK(n < FAULTS_MAX);
    }
    os_fail_end();
}

/* ---- cancelled threads ---- */

struct cancelled {
    evh_heap *heap;
    evh_ref *slots;
    bool was_through;
};

static void *cancel_run(void *context)
{
    struct cancelled *cancelled = context;
    (void)pthread_cancel(pthread_self()); /* at the next call at which a thread may end */
    void *block = evh_malloc(cancelled->heap, 40 << 20);
    if (block) evh_free(cancelled->heap, block);
    (void)evh_trim(cancelled->heap, NULL);
    cancelled->was_through = block != NULL;
    pthread_testcancel();
    return NULL;
}

static void expect_no_cancel_inside(evh_heap *heap)
{
    struct cancelled cancelled = {.heap = heap};
    pthread_t thread;
    void *ended = NULL;
    CHECK(heap != NULL);
    CHECK_EQUAL(pthread_create(&thread, NULL, cancel_run, &cancelled), 0);
    CHECK_EQUAL(pthread_join(thread, &ended), 0);
    CHECK(ended == PTHREAD_CANCELED);
    CHECK(cancelled.was_through);
    void *block = evh_malloc(heap, 50 << 20); /* nobody has left a lock behind */
    CHECK(block != NULL);
    evh_free(heap, block);
}

TEST(no_thread_ends_inside_an_allocation)
{
    (void)alarm(120); /* a lock that a cancelled thread has is waited for for ever */
    evh_heap *heap = live_open(test_path("live"));
    expect_no_cancel_inside(heap);
    live_close(heap);
    heap = evh_open(test_path("durable"), NULL);
    expect_no_cancel_inside(heap);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    (void)alarm(0);
}

/* ---- many processes ---- */

enum { CROWD = LIVE_PROCESSES_MAX + 8 };

struct crowd {
    uint64_t attached, refused, other;
};

__attribute__((noreturn)) static void crowd_child(const char *path, struct crowd *crowd)
{
    const evh_options options = {.mode = EVH_LIVE, .size_max_bytes = 64 << 20};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    evh_heap *heap = evh_open(path, &options);
    uint64_t *counter = heap                                    ? &crowd->attached
                        : evh_last_error()->status == EVH_LIMIT ? &crowd->refused
                                                                : &crowd->other;
    /* Every 64th has a thread, and a block that it names. */
    (void)__atomic_fetch_add(counter, 1, __ATOMIC_RELEASE);
    for (;;) pause();
}

TEST(more_processes_than_there_are_slots_are_refused_and_nothing_else)
{
    if (BASE_THREAD_SANITIZER) SKIP("so many processes take too long under ThreadSanitizer");
    char path[512];
    static pid_t children[CROWD];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    struct crowd *crowd =
        mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(crowd != MAP_FAILED);
    fflush(NULL);
    for (unsigned i = 0; i < CROWD; i++) {
        children[i] = fork();
        if (children[i] < 0) break; /* the system has enough */
        if (children[i] == 0) crowd_child(path, crowd);
    }
    const bool is_crowded = children[CROWD - 1] > 0;
    while (is_crowded && crowd->attached + crowd->refused + crowd->other < CROWD) usleep(1000);
    const struct crowd seen = *crowd;
    /* All are killed; who comes now has their slots. */
    for (unsigned i = 0; i < CROWD && children[i] > 0; i++) (void)kill(children[i], SIGKILL);
    for (unsigned i = 0; i < CROWD && children[i] > 0; i++) (void)waitpid(children[i], NULL, 0);
    CHECK_EQUAL(munmap(crowd, sizeof *crowd), 0);
    if (!is_crowded) SKIP("the system does not let so many processes run");
    CHECK_EQUAL(seen.attached, LIVE_PROCESSES_MAX);
    CHECK_EQUAL(seen.refused, CROWD - LIVE_PROCESSES_MAX);
    evh_heap *heap = live_open(path);
    void *block = evh_malloc(heap, 100);
    CHECK(block != NULL);
    evh_free(heap, block);
    live_close(heap);
}

/* ---- two heaps ---- */

struct pair {
    evh_heap *heaps[2];
    struct board *boards[2];
    unsigned worker;
    uint64_t seed;
};

static void *pair_run(void *context)
{
    const struct pair *pair = context;
    uint64_t random = pair->seed;
    for (unsigned i = 0; i < 20000; i++) {
        const uint64_t which = test_random(&random) % 2;
        const char *wrong = board_step(pair->heaps[which], pair->boards[which], pair->worker,
                                       &random, test_random(&random) % 2);
        if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
        if (wrong) break;
    }
    return NULL;
}

TEST(threads_use_two_live_heaps_in_turn)
{
    enum { THREADS = 3 };
    struct pair pairs[THREADS];
    pthread_t threads[THREADS];
    const char *names[] = {"one", "two"};
    struct pair shared = {.worker = 0};
    for (unsigned i = 0; i < 2; i++) {
        shared.heaps[i] = live_open(test_path(names[i]));
        shared.boards[i] = board_open(shared.heaps[i]);
        CHECK(shared.boards[i] != NULL);
    }
    evh_free(shared.heaps[0], shared.boards[1]); /* of the other heap */
    CHECK_EQUAL(evh_last_error()->status, EVH_BAD_POINTER);
    for (unsigned i = 0; i < THREADS; i++) {
        pairs[i] = shared;
        pairs[i].worker = i;
        pairs[i].seed = test_seed() + i;
        CHECK_EQUAL(pthread_create(&threads[i], NULL, pair_run, &pairs[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t leaked = 0;
        const char *wrong = board_check(shared.heaps[i], &leaked);
        if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
        CHECK_EQUAL(leaked, 0);
        live_close(shared.heaps[i]);
    }
}
