/* live_process_test.c -- live heaps and processes: fork, exec, stopping, ending without a word.
 *
 * Killing at random is the business of live_kill_test.c.
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

enum {
    CROWD = 4,
    CHILD_SECONDS_MAX = 120, /* a child whose test has failed ends by itself */
};

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
    (void)alarm(CHILD_SECONDS_MAX);
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
    (void)alarm(CHILD_SECONDS_MAX);
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
    if (!test_has_addresses(CROWD * (1ull << 40))) SKIP("addresses are limited here");
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

/* ---- what a thread was in the middle of ---- */

/* How far a thread came with evh_malloc_to() or evh_free_from() when it died. */
enum stage {
    STAGE_NOT_LIVE, /* the intent is written, the block's bit is not set */
    STAGE_LIVE,     /* it is set, the ref does not name the block */
    STAGE_NAMED,    /* it does, the intent stands still */
    STAGE_FREED,    /* freed, and not named: the end of evh_free_from() */
    STAGE_COUNT,
};

struct half {
    const char *path;
    enum stage stage;
    size_t size;
};

/* Bring the heap to where the stage leaves it, by the same words that the calls write, and die. */
static int die_half_way(void *context)
{
    const struct half *half = context;
    evh_heap *heap = live_open(half->path);
    evh_ref *refs = evh_root(heap, "refs", 4 * sizeof *refs);
    void *block = evh_malloc(heap, half->size);
    if (!refs || !block) return 1;
    struct live_intent *intent = &heap->live->intents[heap_thread.cache->thread_slot];
    const evh_ref ref = evh_ref_to(heap, block);
    refs[1] = ref; /* for the parent, who looks what became of it */
    intent->kind = LIVE_INTENT_NAMED;
    intent->slot = evh_ref_to(heap, &refs[0]).offset;
    intent->block = ref.offset;
    refs[0] = half->stage == STAGE_NAMED ? ref : (evh_ref){0};
    if (half->stage == STAGE_NOT_LIVE || half->stage == STAGE_FREED) evh_free(heap, block);
    (void)kill(getpid(), SIGKILL);
    return 2;
}

static void expect_mended(const char *path, enum stage stage, size_t size, bool survivor)
{
    evh_heap *heap = survivor ? live_open(path) : NULL;
    struct half half = {path, stage, size};
    CHECK_EQUAL(run_child(die_half_way, &half), 1000 + SIGKILL);
    if (!heap) heap = live_open(path);
    (void)live_reap(heap->live);
    evh_ref *refs = evh_root_find(heap, "refs", NULL);
    CHECK(refs != NULL);
    const bool is_live = evh_usable_size(heap, evh_at(heap, refs[1])) > 0;
    CHECK_EQUAL(is_live, stage == STAGE_NAMED);
    for (unsigned i = 0; i < LIVE_THREADS_MAX; i++)
        CHECK_EQUAL(heap->live->intents[i].block, 0);
    if (is_live) CHECK_EQUAL(evh_free_from(heap, &refs[0]), EVH_OK);
    /* The space serves others, and nobody takes it away again. */
    evh_ref *mine = evh_root(heap, "mine", 200 * sizeof *mine);
    for (unsigned i = 0; i < 200; i++) CHECK_EQUAL(evh_malloc_to(heap, &mine[i], size), EVH_OK);
    (void)live_reap(heap->live);
    for (unsigned i = 0; i < 200; i++) CHECK_EQUAL(evh_free_from(heap, &mine[i]), EVH_OK);
    CHECK_EQUAL(evh_root_remove(heap, "refs"), EVH_OK);
    live_close(heap);
}

TEST(a_block_that_a_dead_thread_had_not_named_is_freed_once)
{
    char path[512];
    const size_t sizes[] = {100, 30000, 1 << 20};
    snprintf(path, sizeof path, "%s", test_path("heap"));
    for (unsigned survivor = 0; survivor < 2; survivor++)
        for (unsigned i = 0; i < 3; i++)
            for (unsigned stage = 0; stage < STAGE_COUNT; stage++)
                expect_mended(path, (enum stage)stage, sizes[i], survivor);
}

static int hold_one(void *context)
{
    evh_heap *heap = live_open(context);
    evh_ref *refs = evh_root_find(heap, "refs", NULL);
    struct cache *cache = threads_attach(heap);
    if (!refs || !cache) return 1;
    /* Inside evh_free_from() of another's block, behind the free, before the intent is void. */
    struct live *live = heap->live;
    const uint32_t slot = cache->thread_slot;
    live->session->freeing[slot / 64] |= 1ull << slot % 64;
    live->intents[slot].slot = evh_ref_to(heap, &refs[0]).offset;
    live->intents[slot].block = refs[0].offset;
    void *block = evh_at(heap, refs[0]);
    refs[0].offset = 0;
    evh_free(heap, block);
    refs[1].offset = 1;
    (void)alarm(CHILD_SECONDS_MAX);
    for (;;) pause();
    return 0;
}

TEST(a_block_is_not_handed_out_while_the_one_who_freed_it_could_free_it_again)
{
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("heap"));
    evh_heap *heap = live_open(path);
    evh_ref *refs = evh_root(heap, "refs", 2 * sizeof *refs);
    refs[0] = evh_ref_to(heap, evh_malloc(heap, 5000));
    const evh_ref ref = refs[0];
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(hold_one(path));
    while (!__atomic_load_n(&refs[1].offset, __ATOMIC_ACQUIRE)) usleep(100);
    CHECK_EQUAL(evh_usable_size(heap, evh_at(heap, ref)), 0);
    for (unsigned i = 0; i < 500; i++) {
        const evh_ref got = evh_ref_to(heap, evh_malloc(heap, 5000));
        CHECK(got.offset != 0);
        CHECK(got.offset != ref.offset);
    }
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    CHECK(live_reap(heap->live));
    bool is_used_again = false;
    for (unsigned i = 0; i < 1000 && !is_used_again; i++)
        is_used_again = evh_ref_to(heap, evh_malloc(heap, 5000)).offset == ref.offset;
    CHECK_EQUAL(evh_usable_size(heap, evh_at(heap, ref)) > 0, is_used_again);
    live_close(heap);
}
