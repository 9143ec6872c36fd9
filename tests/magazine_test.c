/* magazine_test.c -- heaps whose threads keep freed blocks for themselves. */
#include "allocator_heap.h"
#include "heap/fast.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_heap *magazines_open(void)
{
    const evh_options options = {.misuse = EVH_MISUSE_STATUS};
    evh_heap *heap = heap_open_magazines(0, &options);
    CHECK(heap != NULL);
    CHECK(heap->has_magazines);
    return heap;
}

static void *take(evh_heap *heap, size_t size)
{
    void *block = evh_malloc(heap, size);
    CHECK(block != NULL);
    return block;
}

/* As the free() of libeverheap-malloc.so. */
static void give_other(evh_heap *heap, void *block)
{
    if (!fast_push_rare(heap, block)) evh_free(heap, block);
}

static void give_full(struct cache *cache, struct slice *slice, void *block)
{
    fast_push_own(cache, slice, (uintptr_t)block % SLICE_BYTES, block);
}

static void give(evh_heap *heap, void *block)
{
    fast_push(heap, block, give_full, give_other);
}

/* Without those in magazines; the catalog is one. */
static uint64_t live_blocks(evh_heap *heap)
{
    return allocator_info(heap).live_blocks - 1;
}

static uint64_t kept_blocks(size_t size)
{
    return magazine_count(heap_thread.cache, size_class_of(size));
}

static uint64_t walked_blocks(evh_heap *heap)
{
    struct walk_count count = {.heap = heap, .ascends = true};
    CHECK_EQUAL(evh_walk(heap, walk_count_block, &count), EVH_OK);
    CHECK(count.ascends);
    return count.blocks - 1;
}

TEST(what_was_freed_last_comes_first)
{
    void *blocks[1000];
    evh_heap *heap = magazines_open();
    for (unsigned i = 0; i < 1000; i++) blocks[i] = take(heap, 64);
    for (unsigned i = 0; i < 50; i++) give(heap, blocks[i]);
    for (unsigned i = 50; i > 0; i--) CHECK(take(heap, 64) == blocks[i - 1]);
    allocator_close(heap);
}

TEST(blocks_in_magazines_count_as_free)
{
    enum { COUNT = 3000 };
    static void *blocks[COUNT];
    evh_heap *heap = magazines_open();
    for (unsigned i = 0; i < COUNT; i++) blocks[i] = take(heap, 1 + i * 40 % 60000);
    CHECK_EQUAL(live_blocks(heap), COUNT);
    for (unsigned i = 0; i < COUNT; i += 2) give(heap, blocks[i]);
    CHECK(kept_blocks(81) > 0);
    CHECK_EQUAL(live_blocks(heap), COUNT / 2);
    CHECK_EQUAL(walked_blocks(heap), COUNT / 2);
    CHECK_EQUAL(kept_blocks(81), 0);
    for (unsigned i = 1; i < COUNT; i += 2) give(heap, blocks[i]);
    CHECK_EQUAL(live_blocks(heap), 0);
    const uint64_t bytes = allocator_info(heap).live_bytes;
    slices_fold(heap);
    CHECK_EQUAL(allocator_info(heap).live_bytes, bytes);
    CHECK_EQUAL(live_blocks(heap), 0);
    CHECK_EQUAL(findings(heap), 0);
    allocator_close(heap);
}

TEST(a_copy_of_the_heap_has_no_block_that_was_freed)
{
    static void *blocks[5000];
    const evh_options options = {.mode = EVH_READ_ONLY};
    const char *path = test_path("magazines.heap");
    evh_heap *heap = magazines_open();
    for (unsigned i = 0; i < 5000; i++) blocks[i] = take(heap, 100);
    for (unsigned i = 0; i < 4000; i++) give(heap, blocks[i]);
    CHECK(kept_blocks(100) > 0);
    CHECK_EQUAL(evh_save(heap, path), EVH_OK);
    allocator_close(heap);
    heap = evh_open(path, &options);
    CHECK(heap != NULL);
    CHECK_EQUAL(live_blocks(heap), 1000);
    allocator_close(heap);
}

TEST(a_magazine_keeps_so_much_and_the_rest_is_for_other_sizes)
{
    enum { COUNT = 200000 };
    void **blocks = calloc(COUNT, sizeof *blocks);
    evh_heap *heap = magazines_open();
    for (unsigned round = 0; round < 6; round++) {
        const size_t size = 48 + round * 16;
        const unsigned count = COUNT * 48 / (unsigned)size;
        for (unsigned i = 0; i < count; i++) blocks[i] = take(heap, size);
        for (unsigned i = 0; i < count; i++) give(heap, blocks[i]);
        CHECK(kept_blocks(size) * size <= 128 << 10);
        CHECK_EQUAL(live_blocks(heap), 0);
    }
    CHECK(allocator_info(heap).heap_bytes < 16 << 20);
    allocator_close(heap);
    free(blocks);
}

/* ---- misuse ---- */

TEST(a_second_free_is_found_when_the_block_is_given_back)
{
    evh_heap *heap = magazines_open();
    char *block = take(heap, 64);
    void *other = take(heap, 64);
    give(heap, block);
    give(heap, block);
    forget_error();
    slices_fold(heap);
    CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
    forget_error();
    give(heap, block);
    slices_fold(heap);
    CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
    CHECK_EQUAL(live_blocks(heap), 1);
    CHECK_EQUAL(findings(heap), 0);
    give(heap, other);
    slices_fold(heap);
    CHECK_EQUAL(live_blocks(heap), 0);
    allocator_close(heap);
}

TEST(a_pointer_into_a_block_is_found_when_it_is_given_back)
{
    evh_heap *heap = magazines_open();
    char *block = take(heap, 64);
    give(heap, block + 16);
    forget_error();
    slices_fold(heap);
    CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
    forget_error();
    give(heap, (char *)heap);
    CHECK_EQUAL(last_status(), EVH_BAD_POINTER);
    CHECK_EQUAL(live_blocks(heap), 1);
    CHECK_EQUAL(findings(heap), 0);
    allocator_close(heap);
}

/* ---- random operations ---- */

/*
 * Strategy: blocks of all sizes are taken and given in random order, by the calls that use
 * magazines and those that do not. Invariants: blocks keep their contents; whoever looks sees what
 * is live; at the end nothing is.
 */
enum { SLOTS = 3000 };

struct kept {
    unsigned char *block;
    size_t size;
    uint64_t seed;
};

static size_t random_size(uint64_t random)
{
    if (random % 100 == 0) return (random >> 16) % 300000 + 1;
    if (random % 10 == 0) return (random >> 16) % 60000 + 1;
    return (random >> 16) % (16u << (random >> 8) % 7) + 1;
}

static void random_take(evh_heap *heap, struct kept *kept, uint64_t random)
{
    kept->size = random_size(random);
    kept->seed = random;
    kept->block = take(heap, kept->size);
    CHECK(evh_usable_size(heap, kept->block) >= kept->size);
    fill(kept->block, kept->size < 64 ? kept->size : 64, kept->seed);
}

static void random_give(evh_heap *heap, struct kept *kept, uint64_t random)
{
    CHECK(is_filled(kept->block, kept->size < 64 ? kept->size : 64, kept->seed));
    if (random % 16 == 0)
        evh_free(heap, kept->block);
    else
        give(heap, kept->block);
    kept->block = NULL;
}

TEST(random_operations_with_magazines_agree_with_a_shadow)
{
    static struct kept slots[SLOTS];
    uint64_t seed = test_seed(), live = 0;
    evh_heap *heap = magazines_open();
    for (unsigned i = 0; i < 400000; i++) {
        const uint64_t random = test_random(&seed);
        /* By turns most are taken and most are given. */
        const bool wants = (random >> 40) % 100 < (i / 20000 % 2 ? 80 : 20);
        struct kept *kept = &slots[(random >> 32) % SLOTS];
        if (!kept->block && wants) {
            random_take(heap, kept, random);
            live++;
        } else if (kept->block && !wants) {
            random_give(heap, kept, random);
            live--;
        }
        if (i % 20000 == 7) CHECK_EQUAL(live_blocks(heap), live);
        if (i % 20000 == 8) CHECK_EQUAL(findings(heap), 0);
        if (i % 20000 == 9) CHECK_EQUAL(walked_blocks(heap), live);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i].block) random_give(heap, &slots[i], i);
    CHECK_EQUAL(live_blocks(heap), 0);
    slices_fold(heap);
    CHECK_EQUAL(live_blocks(heap), 0);
    allocator_close(heap);
}

/* ---- threads ---- */

enum { WORKERS = 4, EXCHANGED = 500, ROUNDS = 20000 };

struct exchange {
    evh_heap *heap;
    uint64_t *slots[EXCHANGED];
    uint64_t seed;
    bool is_over; /* atomic */
};

struct worker {
    struct exchange *exchange;
    uint64_t seed;
    pthread_t thread;
};

/* The first and the second word of a block say how large it is. */
static void *exchange_blocks(void *context)
{
    struct worker *worker = context;
    struct exchange *exchange = worker->exchange;
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint64_t random = test_random(&worker->seed);
        const size_t size = 16 + random_size(random) % 2000;
        uint64_t *block = take(exchange->heap, size);
        block[0] = size;
        block[1] = ~(uint64_t)size;
        block = base_exchange(&exchange->slots[random >> 40 & 255], block, __ATOMIC_ACQ_REL);
        if (!block) continue;
        CHECK_EQUAL(block[0], ~block[1]);
        CHECK(evh_usable_size(exchange->heap, block) >= block[0]);
        give(exchange->heap, block);
    }
    return NULL;
}

static void run_workers(struct exchange *exchange, void *(*run)(void *))
{
    struct worker workers[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.exchange = exchange, .seed = test_random(&exchange->seed)};
        CHECK_EQUAL(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) CHECK_EQUAL(pthread_join(workers[i].thread, NULL), 0);
}

static uint64_t exchange_end(struct exchange *exchange)
{
    for (unsigned i = 0; i < EXCHANGED; i++)
        if (exchange->slots[i]) give(exchange->heap, exchange->slots[i]);
    slices_fold(exchange->heap);
    const uint64_t live = live_blocks(exchange->heap);
    CHECK_EQUAL(walked_blocks(exchange->heap), live);
    allocator_close(exchange->heap);
    return live;
}

TEST(threads_free_each_others_blocks_and_nothing_is_lost)
{
    struct exchange exchange = {.heap = magazines_open(), .seed = test_seed()};
    for (unsigned round = 0; round < 5; round++) run_workers(&exchange, exchange_blocks);
    CHECK_EQUAL(exchange_end(&exchange), 0);
}

static void *use_briefly(void *context)
{
    struct worker *worker = context;
    void *blocks[100];
    for (unsigned i = 0; i < 100; i++) blocks[i] = take(worker->exchange->heap, 10 + i * 10);
    for (unsigned i = 0; i < 100; i++) give(worker->exchange->heap, blocks[i]);
    return NULL;
}

TEST(a_thread_that_comes_takes_over_the_magazines_of_one_that_went)
{
    struct exchange exchange = {.heap = magazines_open(), .seed = test_seed()};
    for (unsigned round = 0; round < 500; round++) run_workers(&exchange, use_briefly);
    CHECK(allocator_info(exchange.heap).heap_bytes < 16 << 20);
    CHECK(allocator_info(exchange.heap).threads <= WORKERS + 1);
    CHECK_EQUAL(exchange_end(&exchange), 0);
}

static void *look(void *context)
{
    struct exchange *exchange = context;
    while (!base_load(&exchange->is_over, __ATOMIC_RELAXED)) (void)allocator_info(exchange->heap);
    return NULL;
}

TEST(counts_can_be_asked_for_while_others_allocate)
{
    struct exchange exchange = {.heap = magazines_open(), .seed = test_seed()};
    pthread_t looker;
    CHECK_EQUAL(pthread_create(&looker, NULL, look, &exchange), 0);
    run_workers(&exchange, exchange_blocks);
    base_store(&exchange.is_over, true, __ATOMIC_RELAXED);
    CHECK_EQUAL(pthread_join(looker, NULL), 0);
    CHECK_EQUAL(exchange_end(&exchange), 0);
}

/* ---- forks ---- */

struct fork_state {
    evh_heap *heap;
    pthread_barrier_t barrier;
};

static void *hold_blocks(void *context)
{
    struct fork_state *state = context;
    for (unsigned i = 0; i < 10; i++) give(state->heap, take(state->heap, 64));
    pthread_barrier_wait(&state->barrier);
    pthread_barrier_wait(&state->barrier);
    return NULL;
}

/* What was in the other thread's magazine is lost: at most what it had claimed. */
static bool is_good_in_child(evh_heap *heap, void **blocks, unsigned count)
{
    const uint64_t before = live_blocks(heap);
    if (before < count || before > count + 64) return false;
    for (unsigned i = 0; i < count; i++) give(heap, blocks[i]);
    slices_fold(heap);
    if (live_blocks(heap) != before - count) return false;
    for (unsigned i = 0; i < count; i++) blocks[i] = evh_malloc(heap, 64);
    for (unsigned i = 1; i < count; i++)
        if (!blocks[i] || blocks[i] == blocks[i - 1]) return false;
    return findings(heap) == 0;
}

TEST(a_forked_child_has_the_magazines_of_its_thread)
{
    enum { COUNT = 300 };
    void *blocks[COUNT + 50];
    struct fork_state state = {.heap = magazines_open()};
    pthread_t thread;
    for (unsigned i = 0; i < COUNT + 50; i++) blocks[i] = take(state.heap, 64);
    for (unsigned i = COUNT; i < COUNT + 50; i++) give(state.heap, blocks[i]);
    for (unsigned threads = 0; threads < 2; threads++) {
        CHECK_EQUAL(pthread_barrier_init(&state.barrier, NULL, 2), 0);
        if (threads) {
            CHECK_EQUAL(pthread_create(&thread, NULL, hold_blocks, &state), 0);
            pthread_barrier_wait(&state.barrier);
        }
        const pid_t child = fork();
        if (child == 0) _exit(is_good_in_child(state.heap, blocks, COUNT) ? 0 : 1);
        if (threads) {
            pthread_barrier_wait(&state.barrier);
            CHECK_EQUAL(pthread_join(thread, NULL), 0);
        }
        int status = 0;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status));
        CHECK_EQUAL(WEXITSTATUS(status), 0);
        pthread_barrier_destroy(&state.barrier);
    }
    allocator_close(state.heap);
}
