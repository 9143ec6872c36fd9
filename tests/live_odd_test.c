/* live_odd_test.c -- live heaps: what programs and systems do that nobody expects.
 *
 * Calls of the system that fail, threads that are cancelled inside a call, more processes than
 * there is room for, two heaps at once.
 */
#include "heap/heap.h"
#include "live_board.h"
#include "support/os_fail.h"
#include "support/live_heap.h"
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

/* ---- calls that fail ---- */

enum { LIFE_SLOTS = 12, FAULTS_MAX = 3000, LIFE_BYTES_MAX = 256 << 20 };

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
        .mode = EVH_LIVE, .misuse = EVH_MISUSE_STATUS, .size_max_bytes = LIFE_BYTES_MAX};
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
    evh_heap *heap = live_open_sized(path, LIFE_BYTES_MAX);
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

/* What threads are told that end. */
struct ending {
    evh_heap *heap;
    pthread_barrier_t *barrier;
    bool was_through;
};

static void *cancel_run(void *context)
{
    struct ending *ending = context;
    (void)pthread_cancel(pthread_self()); /* at the next call at which a thread may end */
    void *block = evh_malloc(ending->heap, 40 << 20);
    if (block) evh_free(ending->heap, block);
    (void)evh_trim(ending->heap, NULL);
    ending->was_through = block != NULL;
    pthread_testcancel();
    return NULL;
}

static void expect_no_cancel_inside(evh_heap *heap)
{
    struct ending ending = {.heap = heap};
    pthread_t thread;
    void *ended = NULL;
    CHECK(heap != NULL);
    CHECK_EQUAL(pthread_create(&thread, NULL, cancel_run, &ending), 0);
    CHECK_EQUAL(pthread_join(thread, &ended), 0);
    CHECK(ended == PTHREAD_CANCELED);
    CHECK(ending.was_through);
    void *block = evh_malloc(heap, 50 << 20); /* nobody has left a lock behind */
    CHECK(block != NULL);
    evh_free(heap, block);
}

TEST(no_thread_ends_inside_an_allocation)
{
    (void)alarm(120); /* a lock that a cancelled thread has is waited for for ever */
    evh_heap *heap = live_open_sized(test_path("live"), LIFE_BYTES_MAX);
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
    evh_heap *heap = live_open_sized(path, LIFE_BYTES_MAX);
    void *block = evh_malloc(heap, 100);
    CHECK(block != NULL);
    evh_free(heap, block);
    live_close(heap);
}

/* ---- threads that have ended, of a process that goes on ---- */

static void *ended_run(void *context)
{
    struct ending *all = context;
    if (!evh_malloc(all->heap, 5000))
        test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    pthread_barrier_wait(all->barrier); /* all at once: each has a slot of its own */
    return NULL;
}

TEST(slots_of_ended_threads_are_there_for_other_processes)
{
    if (BASE_THREAD_SANITIZER) SKIP("so many threads take too long under ThreadSanitizer");
    static pthread_t threads[LIVE_THREADS_MAX];
    pthread_attr_t small;
    pthread_barrier_t barrier;
    struct ending all = {.heap = live_open_sized(test_path("heap"), LIFE_BYTES_MAX),
                         .barrier = &barrier};
    CHECK_EQUAL(pthread_barrier_init(&barrier, NULL, LIVE_THREADS_MAX), 0);
    CHECK_EQUAL(pthread_attr_init(&small), 0);
    CHECK_EQUAL(pthread_attr_setstacksize(&small, 256 << 10), 0);
    for (unsigned i = 0; i < LIVE_THREADS_MAX; i++)
        CHECK_EQUAL(pthread_create(&threads[i], &small, ended_run, &all), 0);
    for (unsigned i = 0; i < LIVE_THREADS_MAX; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    /* One slice of 64 KiB each, and what a heap of that size grows by once or twice. */
    CHECK(live_end(all.heap->live) < 2 * LIVE_THREADS_MAX);
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(evh_malloc(all.heap, 100) ? 0 : (int)evh_last_error()->status);
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 0);
    CHECK(evh_malloc(all.heap, 100) != NULL);
    live_close(all.heap);
}

/* ---- all grow at once ---- */

TEST(a_heap_that_others_have_let_grow_meanwhile_is_looked_at_again)
{
    evh_heap *heap = live_open_sized(test_path("heap"), LIFE_BYTES_MAX);
    CHECK(evh_malloc(heap, 5000) != NULL);
    const uint64_t before = live_end(heap->live);
    while (live_end(heap->live) == before) CHECK(evh_malloc(heap, 5000) != NULL);
    const uint64_t after = live_end(heap->live);
    uint64_t first = 1;
    CHECK_EQUAL(live_grow(heap_thread.cache, 1, 1, before, &first), EVH_OK);
    CHECK_EQUAL(first, 0);
    CHECK_EQUAL(live_end(heap->live), after);
    CHECK_EQUAL(live_grow(heap_thread.cache, 1, 1, after, &first), EVH_OK);
    CHECK(first >= after);
    CHECK(live_end(heap->live) > after);
    live_let_go(heap->live, first);
    live_close(heap);
}

enum { GROWERS = 48 };

static void *grow_run(void *context)
{
    struct ending *all = context;
    pthread_barrier_wait(all->barrier);
    void *block = evh_malloc(all->heap, 300000);
    if (!block) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    return NULL;
}

TEST(those_who_grow_at_once_take_what_they_need)
{
    enum { ROUNDS = 10, FIRST = 62 << 20, BYTES_MAX = 128 << 20 };
    pthread_barrier_t barrier;
    CHECK_EQUAL(pthread_barrier_init(&barrier, NULL, GROWERS), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_t threads[GROWERS];
        char path[512];
        snprintf(path, sizeof path, "%s", test_path("heap"));
        struct ending all = {.heap = live_open_sized(path, LIFE_BYTES_MAX), .barrier = &barrier};
        CHECK(evh_malloc(all.heap, FIRST) != NULL); /* next is another segment */
        for (unsigned i = 0; i < GROWERS; i++)
            CHECK_EQUAL(pthread_create(&threads[i], NULL, grow_run, &all), 0);
        for (unsigned i = 0; i < GROWERS; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
        evh_info info;
        CHECK_EQUAL(evh_get_info(all.heap, &info), EVH_OK);
        CHECK_EQUAL(info.live_blocks, GROWERS + 1);
        /* There is room for all in the second segment: nobody goes on in a third. */
        if (info.heap_bytes > BYTES_MAX)
            test_fail(__FILE__, __LINE__, "%llu MiB", (unsigned long long)info.heap_bytes >> 20);
        live_close(all.heap);
        CHECK_EQUAL(unlink(path), 0);
    }
}

/* Somebody is stopped in the middle of growing into a new segment: he has claimed its first slices,
 * also the one where its metadata should lie. */
TEST(who_grows_beside_a_stopped_grower_skips_no_segment)
{
    enum { FIRST = 60 << 20, CLAIMED = 300 };
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    evh_heap *heap = live_open_sized(path, LIFE_BYTES_MAX),
             *other = live_open_sized(path, LIFE_BYTES_MAX);
    CHECK(evh_malloc(heap, FIRST) != NULL);
    CHECK(evh_malloc(other, 100) != NULL);
    const struct cache *stopped = threads_attach(other);
    const uint64_t end = live_end(heap->live);
    CHECK(end < SEGMENT_SLICES);
    CHECK_EQUAL(live_extend_file(heap->live, 2 * SEGMENT_SLICES), EVH_OK);
    for (uint64_t i = end; i < SEGMENT_SLICES + CLAIMED; i++)
        CHECK(live_claim(other->live, stopped, i));
    for (unsigned i = 0; i < 7; i++) CHECK(evh_malloc(heap, 5 << 20) != NULL);
    CHECK(live_end(heap->live) < 2 * SEGMENT_SLICES);
    CHECK_EQUAL(evh_close(other), EVH_OK);
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
