/* live_test.c -- live heaps: what one process, its threads and its children see of them.
 *
 * Killing is the business of live_kill_test.c. Here is what holds while nobody is killed in the
 * middle, or exactly where the test says.
 */
#include "heap/heap.h"
#include "live_board.h"
#include "support/live_heap.h"
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

TEST(a_live_heap_comes_back_to_its_address_if_nothing_is_there)
{
    if (BASE_THREAD_SANITIZER) SKIP("ThreadSanitizer says which addresses there are");
    if (getenv("EVERHEAP_EMULATOR")) SKIP("the emulator says which addresses there are");
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    live_close(live_open(path));
    const evh_options there = {.mode = EVH_LIVE, .preferred_address = 0x5a0000000000};
    evh_heap *heap = evh_open(path, &there);
    CHECK(heap != NULL);
    unsigned char *base = heap->view.base;
    CHECK_EQUAL((uint64_t)(uintptr_t)base, there.preferred_address);
    live_close(heap);
    heap = live_open(path);
    CHECK(heap->view.base == base);
    live_close(heap);
    void *other = mmap(base, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(other == base);
    heap = live_open(path); /* what is there stays */
    CHECK(heap->view.base != base);
    live_close(heap);
    CHECK_EQUAL(munmap(other, 4096), 0);
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

/* The word of the one root in chunk 0 of the heap's catalog. */
static uint64_t *live_root_word(evh_heap *heap)
{
    const struct live_catalog *catalog = evh_at(heap, (evh_ref){heap->live->area->catalog});
    uint64_t *words = evh_at(heap, (evh_ref){catalog->chunks[0]});
    for (unsigned i = 0; i < LIVE_ROOT_WORDS; i++)
        if (words[i]) return &words[i];
    test_fail(__FILE__, __LINE__, "no root");
    return words;
}

TEST(a_damaged_word_of_a_root_is_corruption)
{
    const char *path = test_path("heap");
    evh_heap *heap = live_open(path);
    CHECK(evh_root(heap, "numbers", 800) != NULL);
    uint64_t *word = live_root_word(heap);
    const uint64_t good = *word;
    const uint64_t bad[] = {LIVE_ROOT_REMOVED, 5ull << LIVE_ROOT_BUSY_SHIFT, UINT64_MAX, good + 16,
                            SLICE_BYTES};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        *word = bad[i];
        CHECK(evh_root_find(heap, "numbers", NULL) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
        CHECK(evh_root(heap, "numbers", 800) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_CORRUPT);
        const evh_options modes[] = {{.mode = EVH_READ_ONLY}, {.mode = EVH_PRIVATE}};
        for (unsigned k = 0; k < 2; k++) {
            evh_heap *copy = evh_open(path, &modes[k]);
            CHECK(copy != NULL);
            CHECK(evh_root_find(copy, "numbers", NULL) == NULL);
            CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
            CHECK_EQUAL(evh_close(copy), EVH_OK);
        }
    }
    *word = good;
    live_close(heap);
}

static bool walk_on(const evh_block *block, void *context)
{
    (void)block;
    (void)context;
    return true;
}

TEST(a_block_longer_than_the_heap_is_corruption)
{
    evh_heap *heap = live_open(test_path("heap"));
    const evh_ref ref = evh_ref_to(heap, evh_malloc(heap, 3 * SLICE_BYTES));
    unsigned char digest[32];
    uint64_t *descriptor = live_descriptor(heap->live, ref.offset >> SLICE_SHIFT);
    const uint64_t good = *descriptor;
    const uint64_t bad[] = {descriptor_of_run(HEAP_LARGE, 0),
                            descriptor_of_run(HEAP_LARGE, UINT32_MAX)};
    for (unsigned i = 0; i < 2; i++) {
        *descriptor = bad[i];
        CHECK_EQUAL(evh_walk(heap, walk_on, NULL), EVH_CORRUPT);
        CHECK_EQUAL(evh_digest(heap, digest), EVH_CORRUPT);
        CHECK_EQUAL(evh_get_info(heap, &(evh_info){0}), EVH_CORRUPT);
        CHECK(evh_check(heap, NULL, NULL) != EVH_OK);
    }
    /* Two that overlap are more than the heap holds. */
    const evh_ref next = evh_ref_to(heap, evh_malloc(heap, 3 * SLICE_BYTES));
    uint64_t *other = live_descriptor(heap->live, next.offset >> SLICE_SHIFT);
    const uint64_t others = *other;
    const uint64_t end = live_end(heap->live);
    *descriptor =
        descriptor_of_run(HEAP_LARGE, (uint32_t)(end - (ref.offset >> SLICE_SHIFT)));
    *other = descriptor_of_run(HEAP_LARGE, (uint32_t)(end - (next.offset >> SLICE_SHIFT)));
    CHECK_EQUAL(evh_get_info(heap, &(evh_info){0}), EVH_OK);
    CHECK(evh_check(heap, NULL, NULL) != EVH_OK);
    *descriptor = good;
    *other = others;
    live_close(heap);
}

TEST(a_segment_without_metadata_is_not_trimmed)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    evh_heap *heap = live_open(path);
    evh_free(heap, evh_malloc(heap, 4 << 20));
    live_close(heap);
    const uint64_t nothing = 0;
    const int file = open(path, O_RDWR);
    CHECK_EQUAL(pwrite(file, &nothing, 8, SLICE_BYTES + HEAP_DIRECTORY_OFFSET), 8);
    CHECK_EQUAL(close(file), 0);
    heap = live_open(path);
    uint64_t freed = 1;
    (void)evh_trim(heap, &freed);
    CHECK_EQUAL(freed, 0);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_CORRUPT);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
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

/* What the process has in memory: an emulator keeps 300 KiB of each thread that there was. */
static uint64_t resident_bytes(void)
{
    unsigned long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    if (fscanf(file, "%lu %lu", &pages, &resident) != 2) resident = 0;
    fclose(file);
    return (uint64_t)resident * 4096;
}

TEST(a_hundred_thousand_short_threads_leave_no_growth)
{
    enum { RESIDENT_MAX = 1 << 30 };
    evh_heap *heap = live_open(test_path("heap"));
    const uint64_t rounds = BASE_THREAD_SANITIZER ? 2000 : 100000;
    uint64_t heap_bytes = 0, used = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        pthread_t thread;
        CHECK_EQUAL(pthread_create(&thread, NULL, churn_run, heap), 0);
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
        if (i == 100) heap_bytes = live_look(heap).heap_bytes;
        if (i == 100) used = live_look(heap).threads;
        if (i % 500 == 499 && resident_bytes() > RESIDENT_MAX) break;
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

TEST(a_live_heap_is_saved_as_a_durable_one)
{
    char path[512], saved[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    snprintf(saved, sizeof saved, "%s", test_path("saved"));
    evh_heap *mine = live_open(path);
    evh_heap *theirs = live_open(path);
    uint64_t *refs = evh_root(mine, "refs", 3000 * sizeof *refs);
    uint64_t live = 0;
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t *block = evh_malloc(mine, 16 + i * 13 % 40000);
        CHECK(block != NULL);
        *block = i;
        refs[i] = evh_ref_to(mine, block).offset;
    }
    for (unsigned i = 0; i < 3000; i += 3) {
        evh_free(theirs, evh_at(theirs, (evh_ref){refs[i]}));
        refs[i] = 0;
    }
    for (uint64_t tag = 0; tag < 20; tag++) *(uint64_t *)evh_root_tagged(mine, tag, 8) = tag;
    CHECK_EQUAL(evh_root_remove_tagged(mine, 7), EVH_OK);
    CHECK_EQUAL(evh_save(mine, path), EVH_BUSY);
    CHECK_EQUAL(evh_save(mine, saved), EVH_OK);
    live = live_look(mine).live_blocks;
    live_close(theirs);
    live_close(mine);
    evh_heap *heap = evh_open(saved, NULL);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
    refs = evh_root_find(heap, "refs", NULL);
    CHECK(refs != NULL);
    for (unsigned i = 0; i < 3000; i++) {
        if (refs[i]) CHECK_EQUAL(*(uint64_t *)evh_at(heap, (evh_ref){refs[i]}), i);
        if (refs[i]) evh_free(heap, evh_at(heap, (evh_ref){refs[i]}));
    }
    for (uint64_t tag = 0; tag < 20; tag++) {
        const uint64_t *root = evh_root_find_tagged(heap, tag, NULL);
        if (tag == 7) CHECK(root == NULL);
        if (tag != 7) CHECK_EQUAL(*root, tag);
    }
    CHECK_EQUAL(live_look(heap).roots, 20);
    CHECK(live > live_look(heap).live_blocks);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_live_heap_without_a_free_slice_is_saved)
{
    char path[512], saved[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    snprintf(saved, sizeof saved, "%s", test_path("saved"));
    evh_heap *heap = live_open(path);
    unsigned char before[32], after[32];
    evh_ref *large = evh_root(heap, "large", sizeof *large);
    CHECK_EQUAL(evh_malloc_to(heap, large, 200 << 20), EVH_OK); /* all of two segments */
    *(uint64_t *)evh_at(heap, *large) = 77;
    CHECK_EQUAL(evh_save(heap, saved), EVH_OK);
    CHECK_EQUAL(evh_digest(heap, before), EVH_OK);
    uint64_t *entries = slices_directory_entry(heap, 0);
    const uint64_t good = entries[2];
    entries[2] = entries[1]; /* no two segments have the same metadata */
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_CORRUPT);
    entries[2] = good;
    live_close(heap);
    heap = evh_open(saved, NULL);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
    CHECK_EQUAL(evh_digest(heap, after), EVH_OK);
    CHECK(memcmp(before, after, sizeof before) == 0);
    large = evh_root_find(heap, "large", NULL);
    CHECK(large != NULL);
    unsigned char *bytes = evh_at(heap, *large);
    for (size_t i = 0; i < 200 << 20; i += 1 << 20) bytes[i] = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = evh_open(saved, NULL);
    CHECK(heap != NULL);
    CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_damaged_root_is_not_saved_and_aborts_nothing)
{
    evh_heap *heap = live_open(test_path("heap"));
    CHECK(evh_root(heap, "numbers", 800) != NULL);
    uint64_t *word = live_root_word(heap);
    uint64_t *twin = word;
    const struct live_catalog *catalog = evh_at(heap, (evh_ref){heap->live->area->catalog});
    uint64_t *words = evh_at(heap, (evh_ref){catalog->chunks[0]});
    while (*twin) twin = twin == words + LIVE_ROOT_WORDS - 1 ? words : twin + 1;
    *twin = *word;
    CHECK_EQUAL(evh_save(heap, test_path("saved")), EVH_CORRUPT);
    CHECK(strstr(evh_last_error()->message, "/proc") == NULL);
    CHECK(strstr(evh_last_error()->message, "heap") != NULL);
    *twin = 0;
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
