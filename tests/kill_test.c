/* kill_test.c -- a program of several threads is killed at random moments and loses nothing.
 *
 * Strategy: a child process runs three threads that push, pop and hand over blocks between
 * evh_enter() and evh_leave(), and one that commits. It keeps the parent informed through shared
 * memory: which commit was begun, which was acknowledged, and how far each thread had come before
 * that. SIGKILL comes at a random moment, also during creation and recovery. Then the parent opens
 * the heap and looks, and the next child goes on with it.
 * Invariants: the commit found was begun, and is not older than the last acknowledged one; every
 * thread's work up to that one is there; lists, counts and sums agree; every live block is
 * reachable (no leaks); evh_check finds nothing.
 *
 * 200 kills, scaled by EFFORT or set by KILLS.
 */
#include "journal/journal_internal.h"
#include "test.h"

#include <everheap/heap.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 3, KILLS_DEFAULT = 200, LIST_MAX = 150, MOMENT_MAX_US = 40000 };

EVH_REF(node);

struct node {
    node_ref next;
    uint64_t size;
    uint64_t value; /* also in the last 8 bytes of the block */
};

struct list {
    node_ref first;
    uint64_t count, sum;
};

struct root {
    uint64_t number; /* of the commit; only the committer writes it */
    struct list lists[THREADS];
    struct list mail[THREADS]; /* blocks for another thread, which will free them */
    uint64_t steps[THREADS];
};

/* Shared with the parent. The child writes, and only the last value counts: relaxed is enough. */
struct oracle {
    uint64_t begun, acknowledged;
    uint64_t steps[THREADS];      /* done, perhaps uncommitted */
    uint64_t steps_safe[THREADS]; /* done before the last acknowledged commit began */
    uint64_t commits, opened;
    char error[256];
};

static struct oracle *oracle;
static evh_heap *heap;
static struct root *root;
static pthread_mutex_t mail_mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* ---- the child ---- */

__attribute__((noreturn)) static void child_failed(const char *what)
{
    snprintf(oracle->error, sizeof oracle->error, "%.60s: %.180s", what, evh_last_error()->message);
    _exit(1);
}

static size_t node_size(uint64_t *random)
{
    const uint64_t kind = test_random(random) % 100;
    if (kind == 0) return 70000 + test_random(random) % 100000;
    return kind < 10 ? 1000 + test_random(random) % 9000 : 32 + test_random(random) % 400;
}

static void list_push(struct list *list, uint64_t *random)
{
    evh_ref ref = {0};
    const size_t size = node_size(random);
    if (evh_malloc_to(heap, &ref, size)) child_failed("evh_malloc_to");
    node *fresh = evh_at(heap, ref);
    fresh->next = list->first;
    fresh->size = size;
    fresh->value = test_random(random);
    memcpy((unsigned char *)fresh + size - 8, &fresh->value, 8);
    list->first = node_ref_to(heap, fresh);
    list->count++;
    list->sum += fresh->value;
}

static node *list_take(struct list *list)
{
    node *first = node_at(heap, list->first);
    list->first = first->next;
    list->count--;
    list->sum -= first->value;
    return first;
}

/* Give the first block of a list to the next thread; free what another gave. */
static void mail_exchange(unsigned self)
{
    struct list *to = &root->mail[(self + 1) % THREADS];
    struct list *mine = &root->mail[self];
    pthread_mutex_lock(&mail_mutex);
    if (mine->count > 0) evh_free(heap, list_take(mine));
    if (root->lists[self].count > 0 && to->count < LIST_MAX) {
        node *given = list_take(&root->lists[self]);
        given->next = to->first;
        to->first = node_ref_to(heap, given);
        to->count++;
        to->sum += given->value;
    }
    pthread_mutex_unlock(&mail_mutex);
}

static void *work(void *context)
{
    const unsigned self = (unsigned)(uintptr_t)context;
    uint64_t random = load(&oracle->begun) * THREADS + self + test_seed();
    for (;;) {
        struct list *list = &root->lists[self];
        evh_enter(heap);
        const uint64_t action = test_random(&random) % 8;
        if (action < 3 && list->count < LIST_MAX)
            list_push(list, &random);
        else if (action < 5 && list->count > 0)
            evh_free(heap, list_take(list));
        else
            mail_exchange(self);
        root->steps[self]++;
        store(&oracle->steps[self], root->steps[self]);
        evh_leave(heap);
    }
    return NULL;
}

static void commit_for_ever(void)
{
    uint64_t random = test_seed() + root->number;
    for (;;) {
        uint64_t steps[THREADS];
        evh_enter(heap);
        const uint64_t number = ++root->number;
        evh_leave(heap);
        store(&oracle->begun, number);
        for (int i = 0; i < THREADS; i++) steps[i] = load(&oracle->steps[i]);
        evh_ticket ticket = 0;
        if (test_random(&random) % 4 == 0) {
            if (evh_commit_begin(heap, &ticket)) child_failed("evh_commit_begin");
            if (evh_commit_wait(heap, ticket)) child_failed("evh_commit_wait");
        } else if (evh_commit(heap)) {
            child_failed("evh_commit");
        }
        for (int i = 0; i < THREADS; i++) store(&oracle->steps_safe[i], steps[i]);
        __atomic_store_n(&oracle->acknowledged, number, __ATOMIC_RELEASE);
        store(&oracle->commits, load(&oracle->commits) + 1);
        if (test_random(&random) % 20 == 0 && evh_checkpoint(heap)) child_failed("evh_checkpoint");
    }
}

__attribute__((noreturn)) static void child(const char *path, const evh_options *options)
{
    heap = evh_open(path, options);
    if (!heap) child_failed("evh_open");
    root = evh_root(heap, "root", sizeof *root);
    if (!root) child_failed("evh_root");
    for (int i = 0; i < THREADS; i++) store(&oracle->steps[i], root->steps[i]);
    store(&oracle->opened, load(&oracle->opened) + 1);
    for (uintptr_t i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)i)) child_failed("pthread_create");
    }
    commit_for_ever();
    _exit(1);
}

/* ---- the parent ---- */

static bool count_block(const evh_block *block, void *context)
{
    (void)block;
    ++*(uint64_t *)context;
    return true;
}

/* Walk a list: what it counts is there, and nothing else. */
static uint64_t check_list(const struct list *list)
{
    uint64_t count = 0, sum = 0;
    for (node *at = node_at(heap, list->first); at && count <= list->count;
         at = node_at(heap, at->next)) {
        uint64_t last;
        memcpy(&last, (unsigned char *)at + at->size - 8, sizeof last);
        CHECK_EQUAL(last, at->value);
        count++;
        sum += at->value;
    }
    CHECK_EQUAL(count, list->count);
    CHECK_EQUAL(sum, list->sum);
    return count;
}

/* What the kill left. Blocks that belong to the library itself were counted in an empty heap. */
static void check_heap(const char *path, const evh_options *options, uint64_t own_blocks)
{
    heap = evh_open(path, options);
    if (!heap && evh_last_error()->status == EVH_NOT_FOUND && oracle->acknowledged == 0) return;
    if (!heap || evh_check(heap, NULL, NULL)) {
        test_fail(__FILE__, __LINE__, "after a kill: %s", evh_last_error()->message);
        test_stop();
    }
    root = evh_root_find(heap, "root", NULL);
    const uint64_t number = root ? root->number : 0;
    CHECK(number >= oracle->acknowledged);
    CHECK(number <= oracle->begun);
    uint64_t blocks = 0, reachable = own_blocks;
    CHECK_EQUAL(evh_walk(heap, count_block, &blocks), EVH_OK);
    for (int i = 0; root && i < THREADS; i++) {
        CHECK(root->steps[i] >= oracle->steps_safe[i]);
        reachable += check_list(&root->lists[i]) + check_list(&root->mail[i]);
    }
    if (root) CHECK_EQUAL(blocks, reachable);
    oracle->begun = oracle->acknowledged = number;
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static uint64_t own_blocks_of(const evh_options *options)
{
    uint64_t blocks = 0;
    evh_options create = *options;
    create.must_exist = false;
    evh_heap *empty = evh_open(test_path("empty"), &create);
    CHECK(empty);
    CHECK(evh_root(empty, "root", sizeof *root));
    CHECK_EQUAL(evh_walk(empty, count_block, &blocks), EVH_OK);
    CHECK_EQUAL(evh_close(empty), EVH_OK);
    return blocks;
}

/* How long the program may live: an emulator takes longer to open a heap than it works else. */
static uint64_t moment_max_us(const evh_options *options, uint64_t *own_blocks)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    *own_blocks = own_blocks_of(options);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const int64_t us = (end.tv_sec - start.tv_sec) * 1000000 + (end.tv_nsec - start.tv_nsec) / 1000;
    return 4 * us > MOMENT_MAX_US ? (uint64_t)(4 * us) : MOMENT_MAX_US;
}

static void kill_once(const char *path, const evh_options *options, uint64_t moment_us,
                      uint64_t *random)
{
    fflush(stdout);
    const pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) child(path, options);
    /* Mostly while it works; sometimes while it opens. */
    const uint64_t limit = test_random(random) % 4 ? moment_us : moment_us / 10;
    const uint64_t us = test_random(random) % limit;
    const struct timespec moment = {(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};
    nanosleep(&moment, NULL);
    kill(process, SIGKILL);
    int status;
    CHECK_EQUAL(waitpid(process, &status, 0), process);
    if (oracle->error[0] || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        test_fail(__FILE__, __LINE__, "the program ended by itself (status %d): %s", status,
                  oracle->error);
        test_stop();
    }
}

static void kill_many(uint64_t kills, const evh_options *options)
{
    uint64_t random = test_seed();
    const char *path = test_path("killed");
    evh_options look = *options;
    look.must_exist = true;
    oracle = mmap(NULL, sizeof *oracle, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(oracle != MAP_FAILED);
    uint64_t own_blocks = 0;
    const uint64_t moment_us = moment_max_us(options, &own_blocks);
    for (uint64_t i = 0; i < kills; i++) {
        kill_once(path, options, moment_us, &random);
        check_heap(path, &look, own_blocks);
    }
    printf("    %llu kills, %llu after opening, %llu commits, 0 lost, 0 leaks\n",
           (unsigned long long)kills, (unsigned long long)oracle->opened,
           (unsigned long long)oracle->commits);
    CHECK(oracle->opened > 0);
    munmap(oracle, sizeof *oracle);
}

static uint64_t kills_wanted(void)
{
    const char *text = getenv("KILLS");
    return text ? strtoull(text, NULL, 0) : test_effort(KILLS_DEFAULT);
}

TEST(a_killed_program_of_several_threads_loses_no_acknowledged_commit)
{
    const evh_options options = {.checkpoint_bytes = 1 << 20};
    kill_many(kills_wanted() * 3 / 4 + 1, &options);
}

TEST(a_killed_program_without_background_thread_loses_no_acknowledged_commit)
{
    const evh_options options = {.checkpoint_bytes = 64 << 10, .no_thread = true};
    kill_many(kills_wanted() / 4 + 1, &options);
}

/* Commits of few new pages are large ones here: they are written home at once. */
TEST(a_killed_program_that_adds_many_pages_loses_no_acknowledged_commit)
{
    const evh_options options = {.checkpoint_bytes = 1 << 20};
    journal_bulk_pages_min = 2;
    kill_many(kills_wanted() / 4 + 1, &options);
}
