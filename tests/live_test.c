/* live_test.c -- live heaps: what one process, its threads and its children see of them.
 *
 * Killing is the business of live_kill_test.c. Here is what holds while nobody is killed in the
 * middle, or exactly where the test says.
 */
#include "heap/heap.h"
#include "live_board.h"
#include "test.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_heap *live_open(const char *path)
{
    const evh_options options = {.mode = EVH_LIVE, .misuse = EVH_MISUSE_STATUS};
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

static evh_info live_look(evh_heap *heap)
{
    evh_info info = {0};
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    return info;
}

/* Run in a forked child, which ends with what `run` returns: 0 is success. */
static int run_child(int (*run)(void *), void *context)
{
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(run(context));
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

/* ---- opening ---- */

TEST(a_live_heap_is_made_and_found_again)
{
    const char *path = test_path("heap");
    evh_heap *heap = live_open(path);
    uint64_t *root = evh_root(heap, "numbers", 800);
    CHECK(root != NULL);
    for (uint64_t i = 0; i < 100; i++) CHECK_EQUAL(root[i], 0);
    for (uint64_t i = 0; i < 100; i++) root[i] = i;
    CHECK_EQUAL(live_look(heap).mode, EVH_LIVE);
    CHECK_EQUAL(live_look(heap).processes, 1);
    live_close(heap);
    heap = live_open(path);
    root = evh_root_find(heap, "numbers", NULL);
    CHECK(root != NULL);
    for (uint64_t i = 0; i < 100; i++) CHECK_EQUAL(root[i], i);
    live_close(heap);
}

TEST(the_ephemeral_file_goes_with_the_last_one_who_leaves)
{
    char path[512], ephemeral[600];
    struct stat info;
    snprintf(path, sizeof path, "%s", test_path("heap"));
    snprintf(ephemeral, sizeof ephemeral, "%s.live", path);
    evh_heap *first = live_open(path);
    evh_heap *second = live_open(path);
    CHECK_EQUAL(live_look(first).processes, 2);
    CHECK_EQUAL(evh_close(first), EVH_OK);
    CHECK_EQUAL(stat(ephemeral, &info), 0);
    CHECK_EQUAL(evh_close(second), EVH_OK);
    CHECK(stat(ephemeral, &info) != 0);
}

TEST(two_handles_at_two_addresses_share_all_blocks)
{
    const char *path = test_path("heap");
    evh_heap *first = live_open(path);
    evh_heap *second = live_open(path);
    uint64_t *a = evh_malloc(first, 100);
    CHECK(a != NULL);
    *a = 77;
    const evh_ref ref = evh_ref_to(first, a);
    uint64_t *b = evh_at(second, ref);
    CHECK(b != NULL);
    CHECK(a != b);
    CHECK_EQUAL(*b, 77);
    CHECK_EQUAL(evh_usable_size(second, b), 112);
    evh_free(second, b);
    CHECK_EQUAL(evh_usable_size(first, a), 0);
    live_close(second);
    live_close(first);
}

TEST(a_deleted_ephemeral_file_keeps_newcomers_out_until_all_have_left)
{
    char path[512], ephemeral[600];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    snprintf(ephemeral, sizeof ephemeral, "%s.live", path);
    evh_heap *heap = live_open(path);
    CHECK_EQUAL(unlink(ephemeral), 0);
    const evh_options options = {.mode = EVH_LIVE};
    CHECK(evh_open(path, &options) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_BUSY);
    CHECK(evh_malloc(heap, 10) != NULL);
    live_close(heap);
    heap = live_open(path);
    live_close(heap);
}

TEST(another_name_of_the_same_heap_is_refused_while_it_is_attached)
{
    char path[512], other[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    snprintf(other, sizeof other, "%s", test_path("other"));
    evh_heap *heap = live_open(path);
    CHECK_EQUAL(link(path, other), 0);
    const evh_options options = {.mode = EVH_LIVE};
    CHECK(evh_open(other, &options) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_BUSY);
    live_close(heap);
    heap = live_open(other);
    live_close(heap);
}

TEST(a_heap_keeps_the_mode_that_it_was_made_for)
{
    char live[512], durable[512];
    snprintf(live, sizeof live, "%s", test_path("live"));
    snprintf(durable, sizeof durable, "%s", test_path("durable"));
    live_close(live_open(live));
    CHECK_EQUAL(evh_close(evh_open(durable, NULL)), EVH_OK);
    CHECK(evh_open(live, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_MODE);
    CHECK(strstr(evh_last_error()->message, "EVH_LIVE") != NULL);
    const evh_options options = {.mode = EVH_LIVE};
    CHECK(evh_open(durable, &options) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_MODE);
    const evh_options both = {.mode = EVH_LIVE, .must_create = true};
    CHECK(evh_open(live, &both) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_EXISTS);
}

TEST(what_belongs_to_commits_is_refused)
{
    evh_heap *heap = live_open(test_path("heap"));
    evh_ticket ticket = 0;
    CHECK_EQUAL(evh_commit(heap), EVH_MODE);
    CHECK_EQUAL(evh_commit_begin(heap, &ticket), EVH_MODE);
    CHECK_EQUAL(evh_rollback(heap), EVH_MODE);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_MODE);
    CHECK_EQUAL(evh_refresh(heap), EVH_MODE);
    CHECK(evh_view_valid(heap));
    CHECK_EQUAL(evh_sync(heap), EVH_OK);
    evh_enter(heap);
    CHECK(evh_malloc(heap, 100) != NULL);
    evh_leave(heap);
    live_close(heap);
    heap = evh_open(test_path("durable"), NULL);
    CHECK_EQUAL(evh_sync(heap), EVH_MODE);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_damaged_live_area_is_refused)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    live_close(live_open(path));
    const evh_options modes[] = {
        {.mode = EVH_LIVE}, {.mode = EVH_READ_ONLY}, {.mode = EVH_PRIVATE}};
    const uint64_t ends[] = {0, 3, UINT64_MAX, 1ull << 40};
    for (unsigned i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const int file = open(path, O_RDWR);
        CHECK_EQUAL(pwrite(file, &ends[i], 8, LIVE_AREA_OFFSET + 8), 8);
        CHECK_EQUAL(close(file), 0);
        for (unsigned k = 0; k < 3; k++) {
            CHECK(evh_open(path, &modes[k]) == NULL);
            CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
        }
    }
    const uint64_t beyond = 100;
    const int file = open(path, O_RDWR);
    CHECK_EQUAL(pwrite(file, &beyond, 8, LIVE_AREA_OFFSET + 8), 8);
    CHECK_EQUAL(close(file), 0);
    for (unsigned k = 0; k < 3; k++) {
        CHECK(evh_open(path, &modes[k]) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_TRUNCATED);
    }
}

/* ---- blocks ---- */

TEST(misuse_is_detected_across_processes)
{
    const char *path = test_path("heap");
    evh_heap *mine = live_open(path);
    evh_heap *theirs = live_open(path);
    char *a = evh_malloc(mine, 100);
    char *in_theirs = evh_at(theirs, evh_ref_to(mine, a));
    evh_free(theirs, in_theirs);
    evh_free(mine, a); /* its own slice, and the free is in the mirror only */
    CHECK_EQUAL(evh_last_error()->status, EVH_DOUBLE_FREE);
    char *b = evh_malloc(mine, 100);
    char *b_theirs = evh_at(theirs, evh_ref_to(mine, b));
    evh_free(theirs, b_theirs + 16);
    CHECK_EQUAL(evh_last_error()->status, EVH_BAD_POINTER);
    evh_free(mine, b);
    evh_free(theirs, b_theirs);
    CHECK_EQUAL(evh_last_error()->status, EVH_DOUBLE_FREE);
    char *large = evh_malloc(mine, 1 << 20);
    char *large_theirs = evh_at(theirs, evh_ref_to(mine, large));
    evh_free(theirs, large_theirs + SLICE_BYTES);
    CHECK_EQUAL(evh_last_error()->status, EVH_BAD_POINTER);
    evh_free(theirs, large_theirs);
    evh_free(mine, large);
    CHECK_EQUAL(evh_last_error()->status, EVH_DOUBLE_FREE);
    evh_free(mine, &large);
    CHECK_EQUAL(evh_last_error()->status, EVH_BAD_POINTER);
    live_close(theirs);
    live_close(mine);
}

TEST(blocks_of_every_size_come_and_go)
{
    enum { SIZES = 200 };
    evh_heap *heap = live_open(test_path("heap"));
    uint64_t random = test_seed();
    char *blocks[SIZES] = {0};
    size_t sizes[SIZES] = {0};
    for (uint64_t i = 0; i < test_effort(20000); i++) {
        const unsigned k = (unsigned)(test_random(&random) % SIZES);
        if (blocks[k]) {
            CHECK_EQUAL(blocks[k][0], (char)k);
            CHECK_EQUAL(blocks[k][sizes[k] - 1], (char)k);
        }
        const size_t size = 1 + test_random(&random) % (1u << (4 + test_random(&random) % 18));
        switch (test_random(&random) % 4) {
        case 0:
            evh_free(heap, blocks[k]);
            blocks[k] = NULL;
            continue;
        case 1: blocks[k] = evh_realloc(heap, blocks[k], size); break;
        case 2:
            evh_free(heap, blocks[k]);
            blocks[k] = evh_aligned_alloc(heap, 1ull << (test_random(&random) % 18), size);
            break;
        default:
            evh_free(heap, blocks[k]);
            blocks[k] = evh_malloc(heap, size);
            break;
        }
        CHECK(blocks[k] != NULL);
        CHECK(evh_usable_size(heap, blocks[k]) >= size);
        sizes[k] = size;
        blocks[k][0] = blocks[k][size - 1] = (char)k;
    }
    uint64_t live = 0;
    for (unsigned k = 0; k < SIZES; k++) live += blocks[k] != NULL;
    CHECK_EQUAL(live_look(heap).live_blocks, live);
    for (unsigned k = 0; k < SIZES; k++) evh_free(heap, blocks[k]);
    CHECK_EQUAL(live_look(heap).live_blocks, 0);
    live_close(heap);
}

TEST(a_block_larger_than_a_segment_lies_across_several)
{
    evh_heap *heap = live_open(test_path("heap"));
    const size_t size = (size_t)200 << 20;
    unsigned char *block = evh_malloc(heap, size);
    CHECK(block != NULL);
    for (size_t i = 0; i < size; i += 1 << 20) block[i] = (unsigned char)(i >> 20);
    char *small = evh_malloc(heap, 100);
    CHECK(small != NULL);
    CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
    for (size_t i = 0; i < size; i += 1 << 20) CHECK_EQUAL(block[i], (unsigned char)(i >> 20));
    evh_free(heap, block);
    /* The space serves small blocks now, in all the segments. */
    const uint64_t heap_bytes = live_look(heap).heap_bytes;
    for (unsigned i = 0; i < 180; i++) CHECK(evh_malloc(heap, 1 << 20) != NULL);
    CHECK_EQUAL(live_look(heap).heap_bytes, heap_bytes);
    live_close(heap);
}

TEST(a_large_block_grows_and_shrinks_where_it_lies)
{
    evh_heap *heap = live_open(test_path("heap"));
    char *space = evh_malloc(heap, 40 << 20);
    evh_free(heap, space);
    char *block = evh_malloc(heap, 1 << 20);
    for (size_t size = 2 << 20; size <= 32 << 20; size += 1 << 20) {
        block[0] = block[size - (1 << 20) - 1] = (char)(size >> 20);
        char *grown = evh_realloc(heap, block, size);
        CHECK(grown == block);
        CHECK_EQUAL(block[0], (char)(size >> 20));
    }
    CHECK(evh_realloc(heap, block, 1 << 20) == block);
    CHECK_EQUAL(live_look(heap).live_bytes, 1 << 20);
    evh_free(heap, block);
    live_close(heap);
}

TEST(space_that_is_empty_goes_back_to_the_file_system)
{
    const char *path = test_path("heap");
    evh_heap *heap = live_open(path);
    unsigned char *block = evh_malloc(heap, 32 << 20);
    memset(block, 1, 32 << 20);
    evh_free(heap, block);
    uint64_t freed = 0;
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK(freed >= 32 << 20);
    struct stat info;
    CHECK_EQUAL(stat(path, &info), 0);
    CHECK(info.st_blocks * 512 < 8 << 20);
    CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
    block = evh_malloc(heap, 32 << 20); /* allocated on the disk again before it is handed out */
    CHECK(block != NULL);
    CHECK_EQUAL(stat(path, &info), 0);
    CHECK(info.st_blocks * 512 >= 32 << 20);
    memset(block, 2, 32 << 20);
    evh_free(heap, block);
    live_close(heap);
}

TEST(a_step_that_names_or_frees_a_block_is_whole)
{
    evh_heap *heap = live_open(test_path("heap"));
    evh_ref *slots = evh_root(heap, "slots", 3 * sizeof *slots);
    const size_t sizes[] = {100, 20000, 3 << 20};
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQUAL(evh_malloc_to(heap, &slots[i], sizes[i]), EVH_OK);
        CHECK(evh_usable_size(heap, evh_at(heap, slots[i])) >= sizes[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        const evh_ref before = slots[i];
        CHECK_EQUAL(evh_free_from(heap, &slots[i]), EVH_OK);
        CHECK_EQUAL(slots[i].offset, 0);
        CHECK_EQUAL(evh_free_from(heap, &slots[i]), EVH_OK);
        CHECK_EQUAL(evh_usable_size(heap, evh_at(heap, before)), 0);
        slots[i] = before;
        CHECK_EQUAL(evh_free_from(heap, &slots[i]), EVH_DOUBLE_FREE);
        slots[i].offset = 0;
    }
    evh_ref outside = {0};
    CHECK_EQUAL(evh_malloc_to(heap, &outside, 100), EVH_OK);
    CHECK_EQUAL(evh_free_from(heap, &outside), EVH_OK);
    CHECK_EQUAL(evh_malloc_to(heap, &outside, 0), EVH_INVALID);
    live_close(heap);
}

/* ---- threads ---- */

enum { CROWD = 4 };

struct crowd {
    evh_heap *heap;
    struct board *board;
    uint64_t steps, seed;
    unsigned number;
};

static void *crowd_run(void *context)
{
    struct crowd *crowd = context;
    uint64_t random = crowd->seed;
    for (uint64_t i = 0; i < crowd->steps; i++) {
        const char *wrong = board_step(crowd->heap, crowd->board, crowd->number, &random, i % 2);
        if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
        if (wrong) return NULL;
    }
    return NULL;
}

TEST(threads_free_each_others_blocks)
{
    const uint64_t seed = test_seed();
    evh_heap *heap = live_open(test_path("heap"));
    struct crowd crowd[CROWD];
    pthread_t threads[CROWD];
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = (struct crowd){heap, board_open(heap), test_effort(30000), seed + i, i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, crowd_run, &crowd[i]), 0);
    }
    for (unsigned i = 0; i < CROWD; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    uint64_t leaked = 0;
    const char *wrong = board_check(heap, &leaked);
    if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
    CHECK_EQUAL(leaked, 0);
    live_close(heap);
}

static void *churn_run(void *context)
{
    evh_heap *heap = context;
    void *blocks[20];
    for (unsigned i = 0; i < 20; i++) blocks[i] = evh_malloc(heap, 16 + i * 40);
    for (unsigned i = 0; i < 20; i++) {
        if (!blocks[i]) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        evh_free(heap, blocks[i]);
    }
    return NULL;
}

TEST(a_hundred_thousand_short_threads_leave_no_growth)
{
    evh_heap *heap = live_open(test_path("heap"));
    const uint64_t rounds = BASE_THREAD_SANITIZER ? 2000 : 100000;
    uint64_t heap_bytes = 0, used = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        pthread_t thread;
        CHECK_EQUAL(pthread_create(&thread, NULL, churn_run, heap), 0);
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
        if (i == 100) heap_bytes = live_look(heap).heap_bytes;
        if (i == 100) used = live_look(heap).threads;
    }
    CHECK_EQUAL(live_look(heap).heap_bytes, heap_bytes);
    CHECK_EQUAL(live_look(heap).threads, used);
    CHECK_EQUAL(live_look(heap).live_blocks, 0);
    live_close(heap);
}

static void *cancelled_run(void *context)
{
    evh_heap *heap = context;
    for (;;) {
        evh_free(heap, evh_malloc(heap, 100));
        pthread_testcancel();
    }
    return NULL;
}

TEST(what_a_cancelled_thread_had_serves_the_next)
{
    evh_heap *heap = live_open(test_path("heap"));
    uint64_t heap_bytes = 0;
    for (unsigned i = 0; i < 50; i++) {
        pthread_t thread;
        CHECK_EQUAL(pthread_create(&thread, NULL, cancelled_run, heap), 0);
        for (unsigned k = 0; k < i % 5; k++) sched_yield();
        CHECK_EQUAL(pthread_cancel(thread), 0);
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
        if (i == 10) heap_bytes = live_look(heap).heap_bytes;
    }
    CHECK_EQUAL(live_look(heap).heap_bytes, heap_bytes);
    live_close(heap);
}

struct many {
    evh_heap *heap;
    pthread_barrier_t *barrier;
    uint64_t refused;
};

static void *many_run(void *context)
{
    struct many *many = context;
    void *block = evh_malloc(many->heap, 64);
    if (!block && evh_last_error()->status == EVH_LIMIT)
        (void)__atomic_fetch_add(&many->refused, 1, __ATOMIC_RELAXED);
    else if (!block)
        test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    pthread_barrier_wait(many->barrier);
    evh_free(many->heap, block);
    return NULL;
}

TEST(more_threads_than_there_are_slots_are_refused_and_nothing_else)
{
    if (BASE_THREAD_SANITIZER) SKIP("so many threads take too long under ThreadSanitizer");
    enum { MORE = LIVE_THREADS_MAX + 20 };
    evh_heap *heap = live_open(test_path("heap"));
    static pthread_t threads[MORE];
    pthread_barrier_t barrier;
    CHECK_EQUAL(pthread_barrier_init(&barrier, NULL, MORE), 0);
    struct many many = {heap, &barrier, 0};
    pthread_attr_t small;
    CHECK_EQUAL(pthread_attr_init(&small), 0);
    CHECK_EQUAL(pthread_attr_setstacksize(&small, 256 << 10), 0);
    for (unsigned i = 0; i < MORE; i++)
        CHECK_EQUAL(pthread_create(&threads[i], &small, many_run, &many), 0);
    for (unsigned i = 0; i < MORE; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    CHECK_EQUAL(many.refused, MORE - LIVE_THREADS_MAX);
    CHECK_EQUAL(live_look(heap).live_blocks, 0);
    void *block = evh_malloc(heap, 64); /* those that have ended made room */
    CHECK(block != NULL);
    evh_free(heap, block);
    live_close(heap);
}

/* ---- roots ---- */

TEST(roots_are_made_found_removed_and_made_again)
{
    enum { ROOTS = 500 };
    const char *path = test_path("heap");
    evh_heap *heap = live_open(path);
    char name[64];
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < ROOTS; i++) {
            snprintf(name, sizeof name, "root %llu", (unsigned long long)i);
            uint64_t *root = evh_root(heap, name, 16 + i);
            uint64_t *tagged = evh_root_tagged(heap, i, 8);
            CHECK(root != NULL);
            CHECK(tagged != NULL);
            CHECK_EQUAL(*root, 0);
            *root = i;
            *tagged = i * 3;
        }
        CHECK_EQUAL(live_look(heap).roots, 2 * ROOTS);
        CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        heap = live_open(path);
        uint64_t seen = 0;
        for (evh_root_info root = {0}; evh_root_next(heap, &root);) seen++;
        CHECK_EQUAL(seen, 2 * ROOTS);
        for (uint64_t i = 0; i < ROOTS; i++) {
            size_t size = 0;
            snprintf(name, sizeof name, "root %llu", (unsigned long long)i);
            const uint64_t *root = evh_root_find(heap, name, &size);
            CHECK(root != NULL);
            CHECK_EQUAL(size, 16 + i);
            CHECK_EQUAL(*root, i);
            CHECK_EQUAL(*(uint64_t *)evh_root_find_tagged(heap, i, NULL), i * 3);
            CHECK_EQUAL(evh_root_remove(heap, name), EVH_OK);
            CHECK_EQUAL(evh_root_remove_tagged(heap, i), EVH_OK);
            CHECK_EQUAL(evh_root_remove(heap, name), EVH_NOT_FOUND);
            CHECK(evh_root_find(heap, name, NULL) == NULL);
            CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
        }
        CHECK_EQUAL(live_look(heap).roots, 0);
    }
    CHECK(evh_root(heap, "x", 10) != NULL);
    CHECK(evh_root(heap, "x", 11) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    live_close(heap);
}

struct root_race {
    const char *path;
    evh_heap *heap;
    uint64_t seed;
    uint64_t *found; /* the ref of each root, as each racer saw it */
};

enum { RACE_ROOTS = 100 };

static void *root_race_run(void *context)
{
    struct root_race *race = context;
    uint64_t random = race->seed;
    for (unsigned i = 0; i < RACE_ROOTS * 4; i++) {
        const unsigned k = (unsigned)(test_random(&random) % RACE_ROOTS);
        const void *root = evh_root_tagged(race->heap, k, 24);
        if (!root) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        if (root) race->found[k] = evh_ref_to(race->heap, root).offset;
    }
    return NULL;
}

TEST(who_makes_the_same_root_at_the_same_time_gets_the_same_block)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    for (uint64_t round = 0; round < test_effort(20); round++) {
        struct root_race races[CROWD];
        pthread_t threads[CROWD];
        static uint64_t found[CROWD][RACE_ROOTS];
        memset(found, 0, sizeof found);
        for (unsigned i = 0; i < CROWD; i++) {
            races[i] = (struct root_race){path, live_open(path), test_seed() + round * CROWD + i,
                                          found[i]};
            CHECK_EQUAL(pthread_create(&threads[i], NULL, root_race_run, &races[i]), 0);
        }
        for (unsigned i = 0; i < CROWD; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
        for (unsigned k = 0; k < RACE_ROOTS; k++) {
            uint64_t ref = 0;
            for (unsigned i = 0; i < CROWD; i++) {
                if (found[i][k] && ref) CHECK_EQUAL(found[i][k], ref);
                if (found[i][k]) ref = found[i][k];
            }
        }
        /* Catalog, a chunk or two, and for each root a record and a block: nothing else. */
        const evh_info info = live_look(races[0].heap);
        uint64_t chunks = 0;
        struct live_catalog *catalog =
            evh_at(races[0].heap, (evh_ref){races[0].heap->live->area->catalog});
        for (unsigned i = 0; i < LIVE_ROOT_CHUNKS; i++) chunks += catalog->chunks[i] != 0;
        CHECK_EQUAL(info.live_blocks, 1 + chunks + 2 * info.roots);
        for (unsigned i = 0; i < CROWD; i++) live_close(races[i].heap);
        CHECK_EQUAL(unlink(path), 0);
    }
}

static void *root_churn_run(void *context)
{
    struct root_race *race = context;
    uint64_t random = race->seed;
    for (uint64_t i = 0; i < test_effort(3000); i++) {
        const uint64_t tag = test_random(&random) % 5;
        if (test_random(&random) % 2) {
            if (!evh_root_tagged(race->heap, tag, 40))
                test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        } else {
            const evh_status status = evh_root_remove_tagged(race->heap, tag);
            if (status && status != EVH_NOT_FOUND)
                test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        }
    }
    return NULL;
}

TEST(roots_that_are_made_and_removed_at_once_leave_nothing_behind)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    struct root_race races[CROWD];
    pthread_t threads[CROWD];
    for (unsigned i = 0; i < CROWD; i++) {
        races[i] = (struct root_race){path, live_open(path), test_seed() + i, NULL};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, root_churn_run, &races[i]), 0);
    }
    for (unsigned i = 0; i < CROWD; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    for (uint64_t tag = 0; tag < 5; tag++) (void)evh_root_remove_tagged(races[0].heap, tag);
    const evh_info info = live_look(races[0].heap);
    CHECK_EQUAL(info.roots, 0);
    CHECK(info.live_blocks <= 1 + 1 + 5); /* catalog, chunk, a record for each name ever made */
    for (unsigned i = 0; i < CROWD; i++) live_close(races[i].heap);
}

/* ---- processes ---- */

struct family {
    evh_heap *heap;
    struct board *board;
    uint64_t seed;
};

static int family_run(void *context)
{
    const struct family *family = context;
    uint64_t random = family->seed;
    for (unsigned i = 0; i < 5000; i++)
        if (board_step(family->heap, family->board, 1, &random, true)) return 1;
    return evh_close(family->heap) ? 2 : 0;
}

TEST(a_forked_child_goes_on_with_its_parents_heap)
{
    evh_heap *heap = live_open(test_path("heap"));
    struct family family = {heap, board_open(heap), test_seed()};
    uint64_t random = test_seed() + 1;
    for (unsigned i = 0; i < 10; i++) {
        fflush(NULL);
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) _exit(family_run(&family));
        for (unsigned k = 0; k < 5000; k++) {
            const char *wrong = board_step(heap, family.board, 0, &random, true);
            if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
            CHECK(wrong == NULL);
        }
        int status = 0;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK_EQUAL(status, 0);
        family.seed++;
    }
    uint64_t leaked = 0;
    const char *wrong = board_check(heap, &leaked);
    if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
    CHECK_EQUAL(leaked, 0);
    CHECK_EQUAL(live_look(heap).processes, 1);
    live_close(heap);
}

static int orphan_run(void *context)
{
    evh_heap *heap = context;
    char byte = 0;
    if (read(*(int *)evh_root_find(heap, "pipe", NULL), &byte, 1) != 0) return 3;
    /* The parent has closed the heap, and with it the session. */
    if (evh_malloc(heap, 100)) return 4;
    if (evh_last_error()->status != EVH_FORKED) return 5;
    return evh_close(heap) ? 6 : 0;
}

TEST(a_forked_child_that_comes_too_late_is_told_to_open_again)
{
    evh_heap *heap = live_open(test_path("heap"));
    int pipe_ends[2];
    CHECK_EQUAL(pipe(pipe_ends), 0);
    *(int *)evh_root(heap, "pipe", sizeof(int)) = pipe_ends[0];
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(pipe_ends[1]);
        _exit(orphan_run(heap));
    }
    live_close(heap);
    CHECK_EQUAL(close(pipe_ends[1]), 0);
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(close(pipe_ends[0]), 0);
}

/* Allocate a lot, and end without a word. */
static int vanish_run(void *context)
{
    evh_heap *heap = live_open(context);
    for (unsigned i = 0; i < 3000; i++)
        if (!evh_malloc(heap, 1000)) return 1;
    for (unsigned i = 0; i < 5; i++)
        if (!evh_malloc(heap, 30000)) return 1;
    return 0;
}

TEST(slices_of_processes_that_ended_without_closing_are_adopted)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    evh_heap *heap = live_open(path);
    uint64_t heap_bytes = 0;
    for (unsigned i = 0; i < 20; i++) {
        CHECK_EQUAL(run_child(vanish_run, path), 0);
        if (i == 3) heap_bytes = live_look(heap).heap_bytes;
        /* All that it left is freed, by us, who own none of its slices. */
        evh_info info = live_look(heap);
        CHECK_EQUAL(info.live_blocks, 3005);
        static evh_ref refs[4000];
        size_t count = 0;
        for (uint64_t offset = 0; offset < info.heap_bytes; offset += 16) {
            struct live_place place;
            if (live_find_block(heap->live, offset, &place)) continue;
            CHECK(count < 4000);
            refs[count++].offset = offset;
        }
        CHECK_EQUAL(count, 3005);
        for (size_t k = 0; k < count; k++) evh_free(heap, evh_at(heap, refs[k]));
        CHECK_EQUAL(live_look(heap).live_blocks, 0);
    }
    CHECK_EQUAL(live_look(heap).heap_bytes, heap_bytes);
    live_close(heap);
}

static int exec_run(void *context)
{
    evh_heap *heap = live_open(context);
    if (!evh_malloc(heap, 100)) return 1;
    execl("/bin/sleep", "sleep", "100", (char *)NULL);
    return 2;
}

TEST(a_process_that_becomes_another_program_has_left)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    evh_heap *heap = live_open(path);
    struct live_process *second = &heap->live->processes[1];
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(exec_run(path));
    /* Reaped while the process goes on living: its locks went with exec(). */
    for (unsigned i = 0; i < 100000; i++) {
        if (__atomic_load_n(&second->state, __ATOMIC_ACQUIRE)) {
            (void)live_reap(heap->live);
            if (!__atomic_load_n(&second->state, __ATOMIC_ACQUIRE)) break;
        }
        sched_yield();
        usleep(100);
    }
    CHECK_EQUAL(second->state, 0);
    CHECK_EQUAL(second->pid, child);
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    live_close(heap);
}

static int wait_to_be_killed(void *context)
{
    evh_heap *heap = live_open(context);
    evh_root(heap, "there", 8);
    for (;;) pause();
    return 0;
}

TEST(a_process_number_that_is_used_again_means_nothing)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    evh_heap *heap = live_open(path);
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(wait_to_be_killed(path));
    while (!evh_root_find(heap, "there", NULL)) usleep(100);
    CHECK(!live_reap(heap->live));
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    heap->live->processes[1].pid = (uint64_t)getpid(); /* of one who is alive */
    CHECK(live_reap(heap->live));
    CHECK_EQUAL(heap->live->processes[1].state, 0);
    live_close(heap);
}

static int stopped_run(void *context)
{
    evh_heap *heap = live_open(context);
    struct board *board = board_open(heap);
    uint64_t random = 1;
    for (;;)
        if (board_step(heap, board, 1, &random, true)) return 1;
}

TEST(a_process_that_is_stopped_anywhere_stops_nobody)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    evh_heap *heap = live_open(path);
    struct board *board = board_open(heap);
    uint64_t random = test_seed();
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(stopped_run(path));
    while (__atomic_load_n(&board->operations[1], __ATOMIC_RELAXED) < 100) sched_yield();
    for (unsigned i = 0; i < 100; i++) {
        int status = 0;
        CHECK_EQUAL(kill(child, SIGSTOP), 0);
        CHECK_EQUAL(waitpid(child, &status, WUNTRACED), child);
        CHECK(WIFSTOPPED(status));
        for (unsigned k = 0; k < 300; k++) {
            const char *wrong = board_step(heap, board, 0, &random, true);
            if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
            CHECK(wrong == NULL);
        }
        void *large = evh_malloc(heap, 5 << 20);
        CHECK(large != NULL);
        evh_free(heap, large);
        CHECK(evh_root_tagged(heap, i, 10) != NULL);
        CHECK_EQUAL(kill(child, SIGCONT), 0);
        const uint64_t before = __atomic_load_n(&board->operations[1], __ATOMIC_RELAXED);
        while (__atomic_load_n(&board->operations[1], __ATOMIC_RELAXED) == before) sched_yield();
    }
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    live_close(heap);
}

struct growth {
    evh_heap *heap;
    uint64_t seed;
    uint64_t blocks[200];
};

static int grow_run(void *context)
{
    struct growth *growth = context;
    uint64_t random = growth->seed;
    for (unsigned i = 0; i < 200; i++) {
        const size_t size =
            test_random(&random) % 20 ? 100000 + test_random(&random) % 1000000 : 80 << 20;
        uint64_t *block = evh_malloc(growth->heap, size);
        if (!block) return 1;
        block[0] = block[size / 8 - 1] = growth->seed * 1000 + i;
        growth->blocks[i] = evh_ref_to(growth->heap, block).offset;
        if (size < 80 << 20) continue;
        evh_free(growth->heap, block);
        growth->blocks[i] = 0;
    }
    return 0;
}

static void *grow_thread(void *context)
{
    return (void *)(uintptr_t)grow_run(context);
}

TEST(growth_by_several_at_once_gives_everybody_his_own)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    static struct growth growths[CROWD];
    pthread_t threads[CROWD];
    for (unsigned i = 0; i < CROWD; i++) {
        growths[i] = (struct growth){.heap = live_open(path), .seed = test_seed() % 1000 + i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, grow_thread, &growths[i]), 0);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        void *result = NULL;
        CHECK_EQUAL(pthread_join(threads[i], &result), 0);
        CHECK(result == NULL);
    }
    CHECK_EQUAL(evh_check(growths[0].heap, live_finding, NULL), EVH_OK);
    for (unsigned i = 0; i < CROWD; i++)
        for (unsigned k = 0; k < 200; k++) {
            if (!growths[i].blocks[k]) continue;
            const uint64_t *block = evh_at(growths[0].heap, (evh_ref){growths[i].blocks[k]});
            CHECK(evh_usable_size(growths[0].heap, block) > 0);
            CHECK_EQUAL(*block, growths[i].seed * 1000 + k);
        }
    for (unsigned i = 0; i < CROWD; i++) live_close(growths[i].heap);
    CHECK_EQUAL(unlink(path), 0);
}

/* ---- a full disk ---- */

static struct os_calls full_calls;
static uint64_t full_from; /* no space at or behind it */

static int full_allocate(int file, uint64_t offset, uint64_t size)
{
    if (offset + size > full_from) return ENOSPC;
    return os_linux()->allocate(file, offset, size);
}

TEST(a_full_disk_is_an_error_and_the_heap_goes_on)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    full_calls = *os_linux();
    full_calls.allocate = full_allocate;
    full_from = 3 << 20;
    os_use(&full_calls);
    evh_heap *heap = live_open(path);
    static void *blocks[1000];
    unsigned count = 0;
    while (count < 1000 && (blocks[count] = evh_malloc(heap, 10000)) != NULL) count++;
    CHECK(count > 10);
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK(evh_malloc(heap, 10 << 20) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK_EQUAL(live_look(heap).live_blocks, count);
    CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
    for (unsigned i = 0; i < 100; i++) evh_free(heap, blocks[--count]);
    for (unsigned i = 0; i < 20; i++) CHECK((blocks[count++] = evh_malloc(heap, 10000)) != NULL);
    full_from = UINT64_MAX;
    CHECK((blocks[count++] = evh_malloc(heap, 10 << 20)) != NULL);
    while (count) evh_free(heap, blocks[--count]);
    live_close(heap);
    os_use(NULL);
}

TEST(a_heap_does_not_grow_beyond_its_limit)
{
    const evh_options options = {.mode = EVH_LIVE, .size_max_bytes = 4 << 20};
    evh_heap *heap = evh_open(test_path("heap"), &options);
    CHECK(heap != NULL);
    CHECK(evh_malloc(heap, 5 << 20) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
    uint64_t count = 0;
    while (evh_malloc(heap, 1000)) count++;
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK(count > 3500);
    live_close(heap);
}

/* ---- private and read-only ---- */

static void *beside_run(void *context)
{
    struct crowd *crowd = context;
    uint64_t random = crowd->seed;
    while (__atomic_load_n(&crowd->steps, __ATOMIC_RELAXED)) {
        const char *wrong = board_step(crowd->heap, crowd->board, 0, &random, true);
        if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
        if (wrong) break;
    }
    return NULL;
}

TEST(private_and_read_only_copies_are_sound_beside_writers)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    evh_heap *heap = live_open(path);
    struct crowd crowd = {heap, board_open(heap), 1, test_seed(), 0};
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, beside_run, &crowd), 0);
    for (unsigned i = 0; i < 40; i++) {
        const evh_options options = {.mode = i % 2 ? EVH_PRIVATE : EVH_READ_ONLY};
        evh_heap *copy = evh_open(path, &options);
        if (!copy) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        CHECK(copy != NULL);
        CHECK_EQUAL(evh_check(copy, live_finding, NULL), EVH_OK);
        CHECK(evh_root_find(copy, "board", NULL) != NULL);
        CHECK_EQUAL(live_look(copy).roots, 1);
        if (i % 2) {
            void *block = evh_malloc(copy, 1000);
            CHECK(block != NULL);
            memset(block, 1, 1000);
            CHECK(evh_root(copy, "mine", 100) != NULL);
            evh_free(copy, block);
            CHECK_EQUAL(evh_commit(copy), EVH_READ_ONLY);
        } else {
            CHECK(evh_malloc(copy, 100) == NULL);
            CHECK_EQUAL(evh_last_error()->status, EVH_READ_ONLY);
        }
        CHECK_EQUAL(evh_check(copy, live_finding, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(copy), EVH_OK);
    }
    __atomic_store_n(&crowd.steps, 0, __ATOMIC_RELAXED);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK(evh_root_find(heap, "mine", NULL) == NULL);
    live_close(heap);
}

TEST(a_copy_has_the_blocks_of_the_heap_and_the_frees_that_are_not_folded)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    evh_heap *mine = live_open(path);
    evh_heap *theirs = live_open(path);
    evh_ref refs[100];
    for (unsigned i = 0; i < 100; i++) refs[i] = evh_ref_to(mine, evh_malloc(mine, 50));
    for (unsigned i = 0; i < 100; i += 2) evh_free(theirs, evh_at(theirs, refs[i]));
    const evh_options options = {.mode = EVH_PRIVATE, .misuse = EVH_MISUSE_STATUS};
    evh_heap *copy = evh_open(path, &options);
    CHECK(copy != NULL);
    CHECK_EQUAL(live_look(copy).live_blocks, 50);
    for (unsigned i = 0; i < 100; i++)
        CHECK_EQUAL(evh_usable_size(copy, evh_at(copy, refs[i])), i % 2 ? 64 : 0);
    for (unsigned i = 1; i < 100; i += 2) evh_free(copy, evh_at(copy, refs[i]));
    CHECK_EQUAL(live_look(copy).live_blocks, 0);
    evh_free(copy, evh_at(copy, refs[0]));
    CHECK_EQUAL(evh_last_error()->status, EVH_DOUBLE_FREE);
    for (unsigned i = 0; i < 2000; i++) CHECK(evh_malloc(copy, 50) != NULL);
    CHECK_EQUAL(evh_check(copy, live_finding, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(copy), EVH_OK);
    CHECK_EQUAL(live_look(mine).live_blocks, 50);
    live_close(theirs);
    live_close(mine);
}
