/* commit_test.c -- commit, rollback, tickets, save, trim, views and forks, as a program
 * sees them. */
#include "heap/heap.h"
#include "test.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const evh_options reading = {.mode = EVH_READ_ONLY};
static const evh_options privately = {.mode = EVH_PRIVATE};

static evh_heap *commit_open(const char *path, const evh_options *options)
{
    evh_heap *heap = evh_open(path, options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

static uint64_t *commit_root(evh_heap *heap)
{
    uint64_t *root = evh_root(heap, "root", 64);
    if (!root) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(root != NULL);
    return root;
}

static void commit_close(evh_heap *heap)
{
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- commit ---- */

TEST(what_was_committed_is_there_again_and_what_was_not_is_gone)
{
    const char *path = test_path("commit.heap");
    evh_heap *heap = commit_open(path, NULL);
    *commit_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    *commit_root(heap) = 2;
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = commit_open(path, NULL);
    CHECK_EQUAL(*commit_root(heap), 1);
    commit_close(heap);
}

TEST(a_commit_of_nothing_is_fine)
{
    evh_heap *heap = commit_open(test_path("nothing.heap"), NULL);
    for (unsigned i = 0; i < 3; i++) CHECK_EQUAL(evh_commit(heap), EVH_OK);
    (void)commit_root(heap);
    for (unsigned i = 0; i < 3; i++) CHECK_EQUAL(evh_commit(heap), EVH_OK);
    commit_close(heap);
}

TEST(heaps_that_cannot_commit_say_so)
{
    const char *path = test_path("modes.heap");
    evh_heap *heap = commit_open(path, NULL);
    *commit_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    commit_close(heap);
    const evh_options *modes[] = {&reading, &privately};
    for (unsigned i = 0; i < 2; i++) {
        evh_ticket ticket;
        heap = commit_open(path, modes[i]);
        CHECK_EQUAL(evh_commit(heap), EVH_READ_ONLY);
        CHECK_EQUAL(evh_commit_begin(heap, &ticket), EVH_READ_ONLY);
        CHECK_EQUAL(evh_rollback(heap), EVH_READ_ONLY);
        CHECK_EQUAL(evh_checkpoint(heap), EVH_READ_ONLY);
        CHECK_EQUAL(evh_trim(heap, NULL), EVH_READ_ONLY);
        commit_close(heap);
    }
    heap = evh_open_memory(NULL, 0, NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_rollback(heap), EVH_MODE);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    CHECK_EQUAL(evh_commit_wait(heap, 0), EVH_OK);
    CHECK_EQUAL(evh_commit_wait(heap, 1), EVH_INVALID);
    commit_close(heap);
}

TEST(a_null_heap_or_argument_is_invalid)
{
    evh_ticket ticket = 0;
    CHECK_EQUAL(evh_commit(NULL), EVH_INVALID);
    CHECK_EQUAL(evh_commit_begin(NULL, &ticket), EVH_INVALID);
    CHECK_EQUAL(evh_commit_wait(NULL, 0), EVH_INVALID);
    CHECK_EQUAL(evh_rollback(NULL), EVH_INVALID);
    CHECK_EQUAL(evh_checkpoint(NULL), EVH_INVALID);
    CHECK_EQUAL(evh_save(NULL, "x"), EVH_INVALID);
    CHECK_EQUAL(evh_refresh(NULL), EVH_INVALID);
    CHECK_EQUAL(evh_trim(NULL, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_touch(NULL, NULL, 0), EVH_INVALID);
    CHECK(evh_view_valid(NULL));
    evh_heap *heap = commit_open(test_path("null.heap"), NULL);
    CHECK_EQUAL(evh_commit_begin(heap, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_save(heap, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_save(heap, ""), EVH_INVALID);
    commit_close(heap);
}

TEST(a_commit_survives_every_way_of_finding_dirty_pages)
{
    const evh_detect tiers[] = {EVH_DETECT_WATCH, EVH_DETECT_SCAN, EVH_DETECT_PAGEMAP,
                                EVH_DETECT_PROTECT, EVH_DETECT_COMPARE};
    for (unsigned i = 0; i < 5; i++) {
        const char *path = test_path("tier.heap");
        evh_heap *heap = evh_open(path, &(evh_options){.detect = tiers[i]});
        if (!heap) {
            CHECK_EQUAL(evh_last_error()->status, EVH_UNSUPPORTED);
            continue;
        }
        for (uint64_t value = 1; value < 20; value++) {
            commit_root(heap)[value % 8] = value;
            CHECK(evh_malloc(heap, 5000 * value) != NULL);
            CHECK_EQUAL(evh_commit(heap), EVH_OK);
        }
        commit_root(heap)[0] = 1000;
        CHECK_EQUAL(evh_rollback(heap), EVH_OK);
        CHECK_EQUAL(commit_root(heap)[0], 16);
        commit_close(heap);
        heap = commit_open(path, NULL);
        for (uint64_t value = 12; value < 20; value++)
            CHECK_EQUAL(commit_root(heap)[value % 8], value);
        commit_close(heap);
        CHECK(unlink(path) == 0);
    }
}

/* ---- tickets ---- */

TEST(tickets_are_waited_for_in_any_order_and_again)
{
    const char *path = test_path("tickets.heap");
    evh_heap *heap = commit_open(path, NULL);
    evh_ticket tickets[10];
    for (unsigned i = 0; i < 10; i++) {
        *commit_root(heap) = i + 1;
        CHECK_EQUAL(evh_commit_begin(heap, &tickets[i]), EVH_OK);
        CHECK(i == 0 || tickets[i] > tickets[i - 1]);
    }
    CHECK_EQUAL(evh_commit_wait(heap, tickets[9]), EVH_OK);
    CHECK_EQUAL(evh_commit_wait(heap, tickets[3]), EVH_OK);
    CHECK_EQUAL(evh_commit_wait(heap, tickets[9]), EVH_OK);
    CHECK_EQUAL(evh_commit_wait(heap, tickets[9] + 1), EVH_INVALID);
    CHECK_EQUAL(evh_commit_wait(heap, UINT64_MAX), EVH_INVALID);
    commit_close(heap);
    heap = commit_open(path, NULL);
    CHECK_EQUAL(*commit_root(heap), 10);
    commit_close(heap);
}

TEST(closing_keeps_commits_that_nobody_waited_for)
{
    const char *path = test_path("unwaited.heap");
    evh_heap *heap = commit_open(path, NULL);
    evh_ticket ticket;
    *commit_root(heap) = 5;
    CHECK_EQUAL(evh_commit_begin(heap, &ticket), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = commit_open(path, NULL);
    CHECK_EQUAL(*commit_root(heap), 5);
    commit_close(heap);
}

/* ---- rollback ---- */

TEST(rollback_undoes_contents_allocations_frees_and_growth)
{
    evh_heap *heap = commit_open(test_path("rollback.heap"), NULL);
    uint64_t *root = commit_root(heap);
    unsigned char *kept = evh_malloc(heap, 300000);
    CHECK(kept != NULL);
    memset(kept, 3, 300000);
    root[0] = evh_ref_to(heap, kept).offset;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_info before;
    evh_info after;
    CHECK_EQUAL(evh_get_info(heap, &before), EVH_OK);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 100; i++) CHECK(evh_malloc(heap, 1000 * i + 1) != NULL);
        memset(kept, 4, 300000);
        evh_free(heap, kept);
        void *large = evh_malloc(heap, 20 << 20);
        CHECK(large != NULL);
        memset(large, 9, 20 << 20);
        CHECK_EQUAL(evh_rollback(heap), EVH_OK);
        CHECK_EQUAL(evh_get_info(heap, &after), EVH_OK);
        CHECK_EQUAL(after.live_blocks, before.live_blocks);
        CHECK_EQUAL(after.live_bytes, before.live_bytes);
        CHECK_EQUAL(after.heap_bytes, before.heap_bytes);
        CHECK_EQUAL(evh_usable_size(heap, kept) >= 300000, true);
        for (unsigned i = 0; i < 300000; i++)
            if (kept[i] != 3) CHECK_EQUAL(kept[i], 3);
        CHECK(evh_at(heap, (evh_ref){after.heap_bytes}) == NULL);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    }
    commit_close(heap);
}

TEST(rollback_goes_to_the_last_commit_that_was_begun)
{
    evh_heap *heap = commit_open(test_path("begun.heap"), NULL);
    evh_ticket ticket;
    uint64_t *root = commit_root(heap);
    *root = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    *root = 2;
    CHECK_EQUAL(evh_commit_begin(heap, &ticket), EVH_OK);
    *root = 3;
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK_EQUAL(*root, 2);
    CHECK_EQUAL(evh_commit_wait(heap, ticket), EVH_OK);
    commit_close(heap);
}

/* ---- brackets ---- */

TEST(committing_inside_ones_own_bracket_is_busy)
{
    evh_heap *heap = commit_open(test_path("bracket.heap"), NULL);
    evh_ticket ticket;
    *commit_root(heap) = 1;
    evh_enter(heap);
    evh_enter(heap);
    CHECK_EQUAL(evh_commit(heap), EVH_BUSY);
    CHECK_EQUAL(evh_commit_begin(heap, &ticket), EVH_BUSY);
    CHECK_EQUAL(evh_rollback(heap), EVH_BUSY);
    CHECK_EQUAL(evh_trim(heap, NULL), EVH_BUSY);
    evh_leave(heap);
    CHECK_EQUAL(evh_commit(heap), EVH_BUSY);
    evh_leave(heap);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    commit_close(heap);
}

struct waiting_committer {
    evh_heap *heap;
    evh_status status;
};

static void *waiting_commit(void *context)
{
    struct waiting_committer *committer = context;
    committer->status = evh_commit(committer->heap);
    return NULL;
}

/* The other thread's commit waits for our bracket: ours must not wait for it in turn. */
TEST(committing_inside_a_bracket_that_another_commit_waits_for_is_busy_and_no_deadlock)
{
    struct waiting_committer committer = {commit_open(test_path("deadlock.heap"), NULL), EVH_OK};
    pthread_t thread;
    *commit_root(committer.heap) = 1;
    evh_enter(committer.heap);
    CHECK(pthread_create(&thread, NULL, waiting_commit, &committer) == 0);
    bool is_busy = true;
    for (unsigned i = 0; i < 20000; i++) {
        is_busy &= evh_commit(committer.heap) == EVH_BUSY;
        (void)sched_yield();
    }
    evh_leave(committer.heap);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(is_busy);
    CHECK_EQUAL(committer.status, EVH_OK);
    commit_close(committer.heap);
}

enum { PAIR_THREADS = 4 };

struct pair_thread {
    evh_heap *heap;
    uint64_t *pair;
    bool *stop;
    bool commits;
    evh_status status;
};

/* Two words that are the same except within a bracket, a root that comes and goes with them. */
static void *pair_run(void *context)
{
    struct pair_thread *thread = context;
    char name[24];
    (void)snprintf(name, sizeof name, "pair %p", (void *)thread->pair);
    for (uint64_t i = 1; !__atomic_load_n(thread->stop, __ATOMIC_ACQUIRE); i++) {
        evh_enter(thread->heap);
        thread->pair[0]++;
        void *block = evh_malloc(thread->heap, 16 + i % 3000);
        if (i % 2)
            (void)evh_root(thread->heap, name, 32);
        else
            (void)evh_root_remove(thread->heap, name);
        evh_free(thread->heap, block);
        thread->pair[1]++;
        evh_leave(thread->heap);
        if (!thread->commits || i % 50) continue;
        const evh_status status = evh_commit(thread->heap);
        if (status) thread->status = status;
    }
    return NULL;
}

TEST(commits_beside_bracketed_threads_never_see_half_of_a_bracket)
{
    const char *path = test_path("pairs.heap");
    evh_heap *heap = commit_open(path, NULL);
    uint64_t *root = commit_root(heap);
    struct pair_thread threads[PAIR_THREADS];
    pthread_t ids[PAIR_THREADS];
    bool stop = false;
    for (unsigned i = 0; i < PAIR_THREADS; i++) {
        threads[i] = (struct pair_thread){heap, root + 2 * i, &stop, i == 0, EVH_OK};
        CHECK(pthread_create(&ids[i], NULL, pair_run, &threads[i]) == 0);
    }
    /* No CHECK before the threads have ended: it would leave them on this stack. */
    bool is_whole = true;
    unsigned view_count = 0;
    for (unsigned i = 0; i < 100; i++) {
        is_whole &= !evh_commit(heap);
        evh_heap *reader = evh_open(path, &reading);
        is_whole &= reader || evh_last_error()->status == EVH_BUSY; /* overtaken by checkpoints */
        if (!reader) continue;
        const uint64_t *pairs = evh_root_find(reader, "root", NULL);
        for (unsigned j = 0; pairs && j < PAIR_THREADS; j++)
            is_whole &= pairs[2 * j] == pairs[2 * j + 1];
        is_whole &= pairs != NULL;
        is_whole &= !evh_close(reader);
        view_count++;
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < PAIR_THREADS; i++) CHECK(pthread_join(ids[i], NULL) == 0);
    CHECK(is_whole);
    CHECK(view_count > 0);
    CHECK_EQUAL(threads[0].status, EVH_OK);
    commit_close(heap);
}

/* ---- save ---- */

TEST(a_saved_copy_has_what_was_not_committed)
{
    const char *path = test_path("saved.heap");
    evh_heap *heaps[] = {commit_open(test_path("original.heap"), NULL),
                         evh_open_memory(NULL, 0, NULL)};
    for (unsigned i = 0; i < 2; i++) {
        *commit_root(heaps[i]) = 1;
        CHECK_EQUAL(evh_commit(heaps[i]), EVH_OK);
        *commit_root(heaps[i]) = 2;
        unsigned char *large = evh_malloc(heaps[i], 10 << 20); /* beyond the first checksums */
        CHECK(large != NULL);
        memset(large, 6, 10 << 20);
        CHECK_EQUAL(evh_save(heaps[i], path), EVH_OK);
        commit_close(heaps[i]);
        evh_heap *copy = commit_open(path, &(evh_options){.must_exist = true});
        CHECK_EQUAL(*commit_root(copy), 2);
        *commit_root(copy) = 3;
        CHECK(evh_malloc(copy, 3 << 20) != NULL);
        CHECK_EQUAL(evh_commit(copy), EVH_OK);
        commit_close(copy);
        copy = commit_open(path, &reading);
        CHECK_EQUAL(*(uint64_t *)evh_root_find(copy, "root", NULL), 3);
        commit_close(copy);
    }
}

TEST(an_open_heap_is_not_saved_over)
{
    const char *path = test_path("target.heap");
    evh_heap *target = commit_open(path, NULL);
    *commit_root(target) = 7;
    CHECK_EQUAL(evh_commit(target), EVH_OK);
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK_EQUAL(evh_save(heap, path), EVH_BUSY);
    CHECK(strstr(evh_last_error()->message, path) != NULL);
    CHECK_EQUAL(evh_save(target, path), EVH_BUSY);
    commit_close(target);
    target = commit_open(path, &reading);
    CHECK_EQUAL(evh_save(heap, path), EVH_BUSY);
    CHECK_EQUAL(*(uint64_t *)evh_root_find(target, "root", NULL), 7);
    commit_close(target);
    CHECK_EQUAL(evh_save(heap, path), EVH_OK);
    target = commit_open(path, NULL);
    CHECK(evh_root_find(target, "root", NULL) == NULL);
    commit_close(target);
    commit_close(heap);
}

TEST(saving_where_nothing_can_be_written_leaves_nothing)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/no/such/directory.heap", test_directory());
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK_EQUAL(evh_save(heap, path), EVH_NOT_FOUND);
    CHECK(strstr(evh_last_error()->message, path) != NULL);
    commit_close(heap);
}

TEST(a_private_heap_changes_only_its_own_copy_and_can_be_saved)
{
    const char *path = test_path("base.heap");
    const char *copy_path = test_path("copy.heap");
    evh_heap *heap = commit_open(path, NULL);
    *commit_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_heap *copy = commit_open(path, &privately);
    *commit_root(copy) = 50;
    unsigned char *large = evh_malloc(copy, 5 << 20); /* it grows, in memory */
    CHECK(large != NULL);
    memset(large, 1, 5 << 20);
    CHECK_EQUAL(evh_save(copy, copy_path), EVH_OK);
    commit_close(copy);
    CHECK_EQUAL(*commit_root(heap), 1);
    commit_close(heap);
    heap = commit_open(path, NULL);
    CHECK_EQUAL(*commit_root(heap), 1);
    commit_close(heap);
    copy = commit_open(copy_path, NULL);
    CHECK_EQUAL(*commit_root(copy), 50);
    commit_close(copy);
}

/* ---- views ---- */

TEST(a_reader_sees_one_commit_until_it_refreshes)
{
    const char *path = test_path("view.heap");
    evh_heap *heap = commit_open(path, NULL);
    uint64_t *root = commit_root(heap);
    for (unsigned i = 0; i < 8; i++) root[i] = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_heap *reader = commit_open(path, &reading);
    const uint64_t *seen = evh_root_find(reader, "root", NULL);
    CHECK(seen != NULL);
    for (uint64_t value = 2; value < 30; value++) {
        for (unsigned i = 0; i < 8; i++) root[i] = value;
        CHECK(evh_malloc(heap, 30000) != NULL); /* the heap grows beside its reader */
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(seen[0], value - 1);
        CHECK_EQUAL(seen[7], value - 1);
        CHECK(evh_view_valid(reader));
        CHECK_EQUAL(evh_refresh(reader), EVH_OK);
        CHECK_EQUAL(seen[0], value);
        CHECK(evh_root_find(reader, "root", NULL) == seen);
        CHECK_EQUAL(evh_check(reader, NULL, NULL), EVH_OK);
    }
    CHECK_EQUAL(evh_refresh(heap), EVH_MODE);
    CHECK(evh_view_valid(heap));
    commit_close(reader);
    commit_close(heap);
}

/* ---- touch ---- */

TEST(a_system_call_may_write_into_what_was_touched)
{
    const evh_options options[] = {{.detect = EVH_DETECT_PROTECT}, {.guards = true}, {0}};
    for (unsigned i = 0; i < 3; i++) {
        const char *path = test_path("touch.heap");
        evh_heap *heap = evh_open(path, &options[i]);
        if (!heap) {
            CHECK_EQUAL(evh_last_error()->status, EVH_UNSUPPORTED);
            continue;
        }
        char *buffer = evh_malloc(heap, 50000);
        CHECK(buffer != NULL);
        *commit_root(heap) = evh_ref_to(heap, buffer).offset;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        int pipes[2];
        CHECK(pipe(pipes) == 0);
        CHECK_EQUAL(write(pipes[1], "from the system", 15), 15);
        CHECK_EQUAL(evh_touch(heap, buffer + 4090, 15), EVH_OK);
        CHECK_EQUAL(read(pipes[0], buffer + 4090, 15), 15);
        CHECK(close(pipes[0]) == 0 && close(pipes[1]) == 0);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_touch(heap, &heap, 8), EVH_INVALID);
        CHECK_EQUAL(evh_touch(heap, buffer, SIZE_MAX), EVH_INVALID);
        commit_close(heap);
        heap = commit_open(path, NULL);
        buffer = evh_at(heap, (evh_ref){*commit_root(heap)});
        CHECK(memcmp(buffer + 4090, "from the system", 15) == 0);
        commit_close(heap);
        CHECK(unlink(path) == 0);
    }
}

/* ---- trim ---- */

static uint64_t commit_disk_bytes(const char *path)
{
    struct stat info;
    CHECK(stat(path, &info) == 0);
    return (uint64_t)info.st_blocks * 512;
}

TEST(trim_gives_back_what_is_free_in_the_last_commit_and_it_can_be_used_again)
{
    enum { LARGE = 16 << 20 };
    const char *path = test_path("trim.heap");
    evh_heap *heap = commit_open(path, NULL);
    unsigned char *block = evh_malloc(heap, LARGE);
    void *behind = evh_malloc(heap, 100000); /* so that the free run lies inside */
    CHECK(block && behind);
    memset(block, 0xab, LARGE);
    *commit_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    uint64_t freed = 1;
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK(freed < 2 << 20); /* nothing but what growth left over */
    const uint64_t before = commit_disk_bytes(path);
    evh_free(heap, block);
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK(freed < 2 << 20); /* free, but not in the last commit */
    for (size_t i = 0; i < LARGE; i += 4096) CHECK_EQUAL(block[i], 0xab);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK(freed >= LARGE - (64 << 10) && freed < LARGE + (4 << 20));
    CHECK(commit_disk_bytes(path) + LARGE - (1 << 20) <= before);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK_EQUAL(freed, 0);
    block = evh_malloc(heap, LARGE);
    CHECK(block != NULL);
    uint64_t hole = 0; /* the disk had room before the first store */
    const uint64_t place = evh_ref_to(heap, block).offset;
    CHECK_EQUAL(os->find_hole(heap->region->file, place, LARGE, &hole), 0);
    CHECK_EQUAL(hole, place + LARGE);
    memset(block, 0xcd, LARGE);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const uint64_t at = evh_ref_to(heap, block).offset;
    commit_close(heap);
    CHECK(commit_disk_bytes(path) >= LARGE);
    heap = commit_open(path, NULL);
    block = evh_at(heap, (evh_ref){at});
    for (size_t i = 0; i < LARGE; i += 512) CHECK_EQUAL(block[i], 0xcd);
    commit_close(heap);
}

TEST(trim_keeps_uncommitted_stores_uncommitted)
{
    const char *path = test_path("trim.heap");
    evh_heap *heap = commit_open(path, NULL);
    void *block = evh_malloc(heap, 4 << 20);
    *commit_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_free(heap, block);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    *commit_root(heap) = 2;
    uint64_t freed = 0;
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK(freed >= 3 << 20);
    CHECK_EQUAL(*commit_root(heap), 2);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK_EQUAL(*commit_root(heap), 1);
    void *again = evh_malloc(heap, 4 << 20);
    CHECK(again != NULL);
    memset(again, 1, 4 << 20);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    commit_close(heap);
    heap = commit_open(path, NULL);
    CHECK_EQUAL(*commit_root(heap), 1);
    commit_close(heap);
}

TEST(trim_waits_for_no_reader_and_takes_nothing_from_it)
{
    const char *path = test_path("trim.heap");
    evh_heap *heap = commit_open(path, NULL);
    unsigned char *block = evh_malloc(heap, 8 << 20);
    memset(block, 0x77, 8 << 20);
    *commit_root(heap) = evh_ref_to(heap, block).offset;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_heap *reader = commit_open(path, &reading);
    evh_free(heap, block);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    uint64_t freed = 1;
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_BUSY);
    CHECK_EQUAL(freed, 0);
    const uint64_t *root = evh_root_find(reader, "root", NULL);
    const unsigned char *seen = evh_at(reader, (evh_ref){*root});
    for (size_t i = 0; i < 8 << 20; i += 4096) CHECK_EQUAL(seen[i], 0x77);
    CHECK(evh_view_valid(reader));
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    commit_close(heap);
}

TEST(trimming_memory_gives_it_back_to_the_system)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    unsigned char *block = evh_malloc(heap, 8 << 20);
    CHECK(block != NULL);
    memset(block, 1, 8 << 20);
    evh_free(heap, block);
    uint64_t freed = 0;
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK(freed >= 7 << 20);
    commit_close(heap);
    heap = evh_open_memory(NULL, 8192, NULL);
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK_EQUAL(freed, 0);
    commit_close(heap);
}

/* ---- forks ---- */

static void child_check(bool condition, int code)
{
    if (condition) return;
    fprintf(stderr, "child: check %d: %s\n", code, evh_last_error()->message);
    _exit(code);
}

static void child_is_refused(evh_heap *heap, void *block)
{
    evh_ticket ticket;
    evh_info info;
    evh_ref slot = {0};
    child_check(evh_malloc(heap, 100) == NULL, 10);
    child_check(evh_last_error()->status == EVH_FORKED, 11);
    child_check(evh_realloc(heap, block, 100000) == NULL, 12);
    child_check(evh_malloc_to(heap, &slot, 100) == EVH_FORKED, 13);
    child_check(evh_commit(heap) == EVH_FORKED, 14);
    child_check(evh_commit_begin(heap, &ticket) == EVH_FORKED, 15);
    child_check(evh_commit_wait(heap, 0) == EVH_FORKED, 16);
    child_check(evh_rollback(heap) == EVH_FORKED, 17);
    child_check(evh_checkpoint(heap) == EVH_FORKED, 18);
    child_check(evh_trim(heap, NULL) == EVH_FORKED, 19);
    child_check(evh_save(heap, "never") == EVH_FORKED, 20);
    child_check(evh_root(heap, "new", 8) == NULL, 21);
    child_check(evh_last_error()->status == EVH_FORKED, 22);
    child_check(evh_root_remove(heap, "root") == EVH_FORKED, 23);
    child_check(evh_check(heap, NULL, NULL) == EVH_FORKED, 24);
    child_check(evh_get_info(heap, &info) == EVH_FORKED, 25);
    child_check(evh_refresh(heap) == EVH_FORKED, 26);
    child_check(evh_close(heap) == EVH_OK, 27);
}

TEST(a_forked_child_may_not_use_the_heap_and_the_parent_goes_on)
{
    const char *path = test_path("fork.heap");
    evh_heap *heap = commit_open(path, NULL);
    void *block = evh_malloc(heap, 100);
    *commit_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    *commit_root(heap) = 2;
    (void)fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        child_is_refused(heap, block);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 0);
    CHECK(evh_open(path, NULL) == NULL); /* the child's close has not dropped the lock */
    CHECK_EQUAL(evh_last_error()->status, EVH_BUSY);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    commit_close(heap);
    heap = commit_open(path, NULL);
    CHECK_EQUAL(*commit_root(heap), 2);
    commit_close(heap);
}

TEST(a_child_that_lives_on_does_not_keep_its_parents_lock)
{
    const char *path = test_path("fork.heap");
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    evh_heap *heap = commit_open(path, NULL);
    *commit_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    (void)fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        (void)close(pipes[1]);
        (void)!read(pipes[0], &byte, 1); /* until the parent has closed its end */
        _exit(0);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = commit_open(path, NULL); /* the child still has the mapping */
    CHECK_EQUAL(*commit_root(heap), 1);
    commit_close(heap);
    CHECK(close(pipes[1]) == 0);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(close(pipes[0]) == 0);
}

TEST(a_forked_child_has_its_own_copy_of_a_memory_heap)
{
    evh_heap *heaps[] = {evh_open_memory(NULL, 0, NULL), evh_open_memory(NULL, 65536, NULL)};
    for (unsigned i = 0; i < 2; i++) {
        *commit_root(heaps[i]) = 1;
        (void)fflush(NULL);
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (unsigned j = 0; j < 100; j++) {
                void *block = evh_malloc(heaps[i], 100);
                child_check(block != NULL, 30);
                if (j % 2) evh_free(heaps[i], block);
            }
            *commit_root(heaps[i]) = 2;
            child_check(evh_check(heaps[i], NULL, NULL) == EVH_OK, 31);
            child_check(evh_close(heaps[i]) == EVH_OK, 32);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK_EQUAL(*commit_root(heaps[i]), 1);
        commit_close(heaps[i]);
    }
}

/* ---- everything at once ---- */

/*
 * Strategy: random allocations, changes, frees, commits, begun commits, rollbacks, trims, refreshed
 * readers and reopenings of one heap.
 * Invariant: what the heap holds is what a model in ordinary memory holds, at its last commit after
 * a rollback or a reopening.
 */
enum { STEPS_SLOTS = 64, STEPS_SIZE_MAX = 200000 };

struct steps_slot {
    uint64_t size; /* 0: no block */
    uint64_t value;
};

struct steps {
    evh_heap *heap;
    const char *path;
    uint64_t random;
    struct steps_slot now[STEPS_SLOTS];
    struct steps_slot committed[STEPS_SLOTS];
};

static evh_ref *steps_refs(evh_heap *heap)
{
    evh_ref *refs = evh_root(heap, "slots", STEPS_SLOTS * sizeof *refs);
    CHECK(refs != NULL);
    return refs;
}

static void steps_verify(struct steps *steps)
{
    const evh_ref *refs = steps_refs(steps->heap);
    for (unsigned i = 0; i < STEPS_SLOTS; i++) {
        const uint64_t *words = evh_at(steps->heap, refs[i]);
        CHECK_EQUAL(words != NULL, steps->now[i].size != 0);
        for (uint64_t j = 0; words && j < steps->now[i].size / 8; j += 61)
            CHECK_EQUAL(words[j], steps->now[i].value + j);
    }
    CHECK_EQUAL(evh_check(steps->heap, NULL, NULL), EVH_OK);
}

static void steps_change(struct steps *steps)
{
    const unsigned i = (unsigned)(test_random(&steps->random) % STEPS_SLOTS);
    evh_ref *ref = &steps_refs(steps->heap)[i];
    struct steps_slot *slot = &steps->now[i];
    if (slot->size && test_random(&steps->random) % 2) {
        CHECK_EQUAL(evh_free_from(steps->heap, ref), EVH_OK);
        *slot = (struct steps_slot){0};
        return;
    }
    if (slot->size) CHECK_EQUAL(evh_free_from(steps->heap, ref), EVH_OK);
    const uint64_t shift = test_random(&steps->random) % 14;
    slot->size = 8 + test_random(&steps->random) % (STEPS_SIZE_MAX >> shift) / 8 * 8;
    slot->value = test_random(&steps->random);
    CHECK_EQUAL(evh_malloc_to(steps->heap, ref, slot->size), EVH_OK);
    uint64_t *words = evh_at(steps->heap, *ref);
    for (uint64_t j = 0; j < slot->size / 8; j++) words[j] = slot->value + j;
}

static void steps_reopen(struct steps *steps)
{
    CHECK_EQUAL(evh_close(steps->heap), EVH_OK);
    steps->heap =
        commit_open(steps->path, &(evh_options){.verify = test_random(&steps->random) % 2});
    memcpy(steps->now, steps->committed, sizeof steps->now);
    steps_verify(steps);
}

static void steps_step(struct steps *steps)
{
    const uint64_t kind = test_random(&steps->random) % 100;
    if (kind < 80) {
        steps_change(steps);
    } else if (kind < 92) {
        evh_ticket ticket;
        if (kind % 2)
            CHECK_EQUAL(evh_commit(steps->heap), EVH_OK);
        else
            CHECK_EQUAL(evh_commit_begin(steps->heap, &ticket), EVH_OK);
        memcpy(steps->committed, steps->now, sizeof steps->now);
    } else if (kind < 96) {
        CHECK_EQUAL(evh_rollback(steps->heap), EVH_OK);
        memcpy(steps->now, steps->committed, sizeof steps->now);
        steps_verify(steps);
    } else if (kind < 98) {
        CHECK_EQUAL(evh_trim(steps->heap, NULL), EVH_OK);
    } else if (kind < 99) {
        CHECK_EQUAL(evh_checkpoint(steps->heap), EVH_OK);
    } else {
        steps_reopen(steps);
    }
}

TEST(random_commits_rollbacks_and_reopenings_agree_with_a_model)
{
    static struct steps steps;
    steps.path = test_path("steps.heap");
    steps.random = test_seed();
    steps.heap = commit_open(steps.path, NULL);
    (void)steps_refs(steps.heap);
    CHECK_EQUAL(evh_commit(steps.heap), EVH_OK);
    const uint64_t count = test_effort(3000);
    for (uint64_t i = 0; i < count; i++) {
        steps_step(&steps);
        if (i % 100 == 99) steps_verify(&steps);
    }
    steps_reopen(&steps);
    commit_close(steps.heap);
}
