/* thread_test.c -- many threads in one heap: remote frees, threads that come and go, the gate. */
#include "heap/heap.h"
#include "test.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_heap *threads_open(void)
{
    const evh_options options = {.misuse = EVH_MISUSE_STATUS};
    evh_heap *heap = evh_open_memory(NULL, 0, &options);
    CHECK(heap != NULL);
    return heap;
}

static void threads_close(evh_heap *heap)
{
    slices_fold(heap);
    if (evh_check(heap, NULL, NULL))
        test_fail(__FILE__, __LINE__, "check: %s", evh_last_error()->message);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static uint64_t live_blocks(evh_heap *heap)
{
    evh_info info = {0};
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    return info.live_blocks;
}

static void run_thread(void *(*run)(void *), void *context)
{
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, run, context), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
}

/* ---- remote frees ---- */

enum { PIPE_SIZE = 512 };

struct pipe {
    evh_heap *heap;
    uint64_t count;
    size_t size; /* 0: random */
    uint64_t *slots[PIPE_SIZE];
};

static void *pipe_consume(void *context)
{
    struct pipe *pipe = context;
    for (uint64_t i = 0; i < pipe->count; i++) {
        uint64_t **slot = &pipe->slots[i % PIPE_SIZE];
        uint64_t *block = NULL;
        while (!(block = __atomic_load_n(slot, __ATOMIC_ACQUIRE))) sched_yield();
        CHECK_EQUAL(*block, i);
        evh_free(pipe->heap, block);
        __atomic_store_n(slot, NULL, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void pipe_produce(struct pipe *pipe)
{
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < pipe->count; i++) {
        uint64_t **slot = &pipe->slots[i % PIPE_SIZE];
        while (__atomic_load_n(slot, __ATOMIC_ACQUIRE)) sched_yield();
        const size_t size = pipe->size ? pipe->size : test_random(&seed) % 20000 + 8;
        uint64_t *block = evh_malloc(pipe->heap, size);
        CHECK(block != NULL);
        *block = i;
        __atomic_store_n(slot, block, __ATOMIC_RELEASE);
    }
}

TEST(blocks_freed_by_another_thread_are_used_again)
{
    static const size_t sizes[] = {16, 64, 8192, 20000, 100000, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct pipe pipe = {.heap = threads_open(), .count = test_effort(20000), .size = sizes[i]};
        pthread_t consumer;
        CHECK_EQUAL(pthread_create(&consumer, NULL, pipe_consume, &pipe), 0);
        pipe_produce(&pipe);
        CHECK_EQUAL(pthread_join(consumer, NULL), 0);
        CHECK(pipe.heap->state.heap_bytes < (uint64_t)160 << 20);
        slices_fold(pipe.heap);
        CHECK_EQUAL(live_blocks(pipe.heap), 1);
        threads_close(pipe.heap);
    }
}

struct one_block {
    evh_heap *heap;
    void *block;
    unsigned frees;
    evh_status last;
};

static void *free_elsewhere(void *context)
{
    struct one_block *one = context;
    for (unsigned i = 0; i < one->frees; i++) {
        (void)base_fail(EVH_UNSUPPORTED, NO_OFFSET, "none");
        evh_free(one->heap, one->block);
    }
    one->last = evh_last_error()->status;
    return NULL;
}

TEST(freeing_twice_is_detected_whoever_frees)
{
    static const size_t sizes[] = {16, 1000, 8192, 30000, 200000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct one_block one = {.heap = threads_open(), .frees = 2};
        /* Twice by the other thread. */
        one.block = evh_malloc(one.heap, sizes[i]);
        void *keep = evh_malloc(one.heap, sizes[i]);
        run_thread(free_elsewhere, &one);
        CHECK_EQUAL(one.last, EVH_DOUBLE_FREE);
        CHECK_EQUAL(evh_usable_size(one.heap, one.block), 0);
        /* Once there, then here, before anything was folded. */
        one.block = keep;
        one.frees = 1;
        run_thread(free_elsewhere, &one);
        CHECK_EQUAL(one.last, EVH_UNSUPPORTED);
        evh_free(one.heap, one.block);
        CHECK_EQUAL(evh_last_error()->status, EVH_DOUBLE_FREE);
        /* Once here, then there. */
        one.block = evh_malloc(one.heap, sizes[i]);
        evh_free(one.heap, one.block);
        run_thread(free_elsewhere, &one);
        CHECK_EQUAL(one.last, EVH_DOUBLE_FREE);
        slices_fold(one.heap);
        CHECK_EQUAL(live_blocks(one.heap), 1);
        threads_close(one.heap);
    }
}

TEST(folding_puts_every_remote_free_into_the_bitmaps)
{
    enum { COUNT = 5000 };
    struct one_block one = {.heap = threads_open(), .frees = 1};
    void **blocks = malloc(COUNT * sizeof *blocks);
    for (unsigned i = 0; i < COUNT; i++) blocks[i] = evh_malloc(one.heap, i % 3000 + 1);
    for (unsigned i = 0; i < COUNT; i += 100) {
        one.block = blocks[i];
        run_thread(free_elsewhere, &one);
    }
    CHECK_EQUAL(live_blocks(one.heap), 1 + COUNT - COUNT / 100);
    slices_fold(one.heap);
    slices_reset(one.heap); /* from here on only the bitmaps count */
    CHECK_EQUAL(live_blocks(one.heap), 1 + COUNT - COUNT / 100);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQUAL(evh_usable_size(one.heap, blocks[i]) != 0, i % 100 != 0);
    free(blocks);
    threads_close(one.heap);
}

struct race {
    evh_heap *heap;
    pthread_barrier_t barrier;
    void *block;
    uint32_t refused;
};

static void *free_in_race(void *context)
{
    struct race *race = context;
    for (unsigned i = 0; i < 2000; i++) {
        pthread_barrier_wait(&race->barrier);
        (void)base_fail(EVH_UNSUPPORTED, NO_OFFSET, "none");
        evh_free(race->heap, race->block);
        if (evh_last_error()->status == EVH_DOUBLE_FREE)
            __atomic_fetch_add(&race->refused, 1, __ATOMIC_RELAXED);
        pthread_barrier_wait(&race->barrier);
    }
    return NULL;
}

TEST(of_two_threads_that_free_a_block_at_once_one_is_refused)
{
    struct race race = {.heap = threads_open()};
    pthread_t threads[2];
    CHECK_EQUAL(pthread_barrier_init(&race.barrier, NULL, 3), 0);
    for (unsigned i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, free_in_race, &race), 0);
    for (unsigned i = 0; i < 2000; i++) {
        race.block = evh_malloc(race.heap, 64);
        pthread_barrier_wait(&race.barrier);
        pthread_barrier_wait(&race.barrier);
        CHECK_EQUAL(race.refused, i + 1);
    }
    for (unsigned i = 0; i < 2; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    pthread_barrier_destroy(&race.barrier);
    threads_close(race.heap);
}

static void *own_one(void *context)
{
    struct one_block *one = context;
    one->block = evh_malloc(one->heap, 64);
    CHECK(evh_malloc(one->heap, 64) != NULL);
    return NULL;
}

/* A thread looked up a slice's owner, was delayed, and announces its free to a cache that has
 * given the slice up meanwhile. */
TEST(a_remote_free_announced_to_a_former_owner_reaches_the_present_one)
{
    struct one_block one = {.heap = threads_open(), .frees = 1};
    run_thread(own_one, &one);
    struct slice *slice = &one.heap->slices.table[evh_ref_to(one.heap, one.block).offset >> 16];
    struct cache *former = slice->cache;
    CHECK(slice_owner(slice) == former);
    struct cache *own = threads_attach(one.heap);
    CHECK(own != former);
    CHECK(owners_reclaim(own));
    CHECK(slice_owner(slice) == NULL);
    const uint64_t live = live_blocks(one.heap);

    slice->cache = former;
    CHECK_EQUAL(remote_free(one.heap, slice, 0), EVH_OK);
    CHECK_EQUAL(remote_free(one.heap, slice, 0), EVH_DOUBLE_FREE);
    CHECK_EQUAL(live_blocks(one.heap), live - 1);
    slices_fold(one.heap); /* nobody owns it: folded under the lock */
    CHECK_EQUAL(slice->bits[0] & 3, 2);

    evh_free(one.heap, evh_malloc(one.heap, 64)); /* adopts the slice */
    CHECK(slice_owner(slice) == own);
    slice->cache = former;
    CHECK_EQUAL(remote_free(one.heap, slice, 1), EVH_OK);
    slice->cache = own;
    CHECK(former->pending != 0);
    slices_fold(one.heap); /* forwarded to its owner, and folded there */
    CHECK_EQUAL(slice->bits[0] & 3, 0);
    CHECK_EQUAL(live_blocks(one.heap), live - 2);
    threads_close(one.heap);
}

TEST(a_reset_forgets_remote_frees_that_were_not_folded)
{
    struct one_block one = {.heap = threads_open(), .frees = 1};
    one.block = evh_malloc(one.heap, 64);
    CHECK(evh_malloc(one.heap, 64) != NULL);
    for (unsigned i = 0; i < 3; i++) {
        run_thread(free_elsewhere, &one);
        CHECK_EQUAL(evh_usable_size(one.heap, one.block), 0);
        slices_reset(one.heap); /* as a rollback does: the image says that the block is live */
        CHECK_EQUAL(evh_usable_size(one.heap, one.block), 64);
        /* The main thread owns the slice again. */
        evh_free(one.heap, evh_malloc(one.heap, 64));
    }
    run_thread(free_elsewhere, &one);
    slices_fold(one.heap);
    slices_reset(one.heap);
    CHECK_EQUAL(live_blocks(one.heap), 2);
    threads_close(one.heap);
}

/* ---- threads that come and go ---- */

enum { CHURN_BLOCKS = 64 };

struct churn {
    evh_heap *heap;
    void *left[CHURN_BLOCKS]; /* what the last thread left to others */
    uint64_t seed;
};

static void *churn_once(void *context)
{
    struct churn *churn = context;
    for (unsigned i = 0; i < CHURN_BLOCKS; i++) {
        evh_free(churn->heap, churn->left[i]);
        churn->left[i] = evh_malloc(churn->heap, test_random(&churn->seed) % 3000 + 1);
        CHECK(churn->left[i] != NULL);
    }
    return NULL;
}

TEST(thousands_of_short_threads_leave_nothing_behind)
{
    struct churn churn = {.heap = threads_open(), .seed = test_seed()};
    for (unsigned i = 0; i < test_effort(2000); i++) run_thread(churn_once, &churn);
    CHECK_EQUAL(live_blocks(churn.heap), 1 + CHURN_BLOCKS);
    CHECK(churn.heap->state.heap_bytes <= 8 << 20);
    CHECK(churn.heap->slices.cache_count <= 3); /* caches are inherited */
    threads_close(churn.heap);
}

enum { MANY = 16 };

struct owner {
    evh_heap *heap;
    pthread_barrier_t *barrier;
    void *blocks[2000];
};

static void *own_blocks(void *context)
{
    struct owner *owner = context;
    pthread_barrier_wait(owner->barrier); /* all at once, so that each has a cache of its own */
    for (unsigned i = 0; i < 2000; i++) {
        owner->blocks[i] = evh_malloc(owner->heap, 64);
        CHECK(owner->blocks[i] != NULL);
    }
    pthread_barrier_wait(owner->barrier);
    return NULL;
}

TEST(what_ended_threads_owned_is_taken_over_before_the_heap_grows)
{
    evh_heap *heap = threads_open();
    pthread_barrier_t barrier;
    pthread_t threads[MANY];
    struct owner *owners = calloc(MANY, sizeof *owners);
    CHECK_EQUAL(pthread_barrier_init(&barrier, NULL, MANY), 0);
    for (unsigned i = 0; i < MANY; i++) {
        owners[i].heap = heap;
        owners[i].barrier = &barrier;
        CHECK_EQUAL(pthread_create(&threads[i], NULL, own_blocks, &owners[i]), 0);
    }
    for (unsigned i = 0; i < MANY; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    CHECK(heap->slices.cache_count >= MANY);
    for (unsigned i = 0; i < MANY; i++)
        for (unsigned k = 0; k < 2000; k++) evh_free(heap, owners[i].blocks[k]);
    const uint64_t heap_bytes = heap->state.heap_bytes;
    void **blocks = calloc(MANY * 2000, sizeof *blocks);
    for (unsigned i = 0; i < MANY * 1900; i++) {
        blocks[i] = evh_malloc(heap, 64);
        CHECK(blocks[i] != NULL);
    }
    CHECK_EQUAL(heap->state.heap_bytes, heap_bytes);
    for (unsigned i = 0; i < MANY * 1900; i++) evh_free(heap, blocks[i]);
    slices_fold(heap);
    CHECK_EQUAL(live_blocks(heap), 1);
    free(blocks);
    free(owners);
    pthread_barrier_destroy(&barrier);
    threads_close(heap);
}

/* A thread that outlives heaps it has used, and a heap that may lie where another lay. */
static void *outlive(void *context)
{
    pthread_barrier_t *barrier = context;
    for (unsigned i = 0; i < 20; i++) {
        pthread_barrier_wait(barrier); /* the heap is open */
        evh_heap *heap = *(evh_heap *volatile *)((void **)(void *)(barrier + 1));
        void *block = evh_malloc(heap, 100);
        CHECK(block != NULL);
        evh_free(heap, block);
        CHECK(evh_malloc(heap, 200) != NULL);
        pthread_barrier_wait(barrier); /* and is closed by the other thread */
    }
    return NULL;
}

TEST(a_heap_is_closed_while_other_threads_keep_its_caches)
{
    struct {
        pthread_barrier_t barrier;
        evh_heap *heap;
    } shared;
    pthread_t thread;
    CHECK_EQUAL(pthread_barrier_init(&shared.barrier, NULL, 2), 0);
    CHECK_EQUAL(pthread_create(&thread, NULL, outlive, &shared), 0);
    for (unsigned i = 0; i < 20; i++) {
        shared.heap = threads_open();
        CHECK(evh_malloc(shared.heap, 50) != NULL);
        pthread_barrier_wait(&shared.barrier);
        pthread_barrier_wait(&shared.barrier);
        CHECK_EQUAL(live_blocks(shared.heap), 3);
        threads_close(shared.heap);
    }
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    pthread_barrier_destroy(&shared.barrier);
}

struct bystander {
    evh_heap *heap;
    pthread_barrier_t barrier;
    void *own;     /* a block of this thread's */
    void *foreign; /* a block of the main thread's, which this thread frees */
};

static void *stand_by(void *context)
{
    struct bystander *bystander = context;
    bystander->own = evh_malloc(bystander->heap, 64);
    evh_free(bystander->heap, bystander->foreign);
    pthread_barrier_wait(&bystander->barrier); /* now the main thread forks */
    pthread_barrier_wait(&bystander->barrier);
    return NULL;
}

/* In the child, everything is as it was, and nobody's slices are stuck. */
static bool is_good_after_fork(struct bystander *bystander)
{
    evh_heap *heap = bystander->heap;
    bool good = evh_usable_size(heap, bystander->foreign) == 0;
    good = good && evh_usable_size(heap, bystander->own) == 64;
    for (const struct cache *cache = heap->slices.caches; cache; cache = cache->next_of_heap)
        good = good && cache->has_thread == (cache == heap_thread.caches);
    evh_free(heap, bystander->own);
    slices_fold(heap);
    good = good && evh_usable_size(heap, bystander->own) == 0;
    slices_reset(heap);
    return good && evh_usable_size(heap, bystander->own) == 0 && live_blocks(heap) == 2 &&
           evh_check(heap, NULL, NULL) == EVH_OK;
}

TEST(a_child_takes_over_what_its_parents_threads_had)
{
    struct bystander bystander = {.heap = threads_open()};
    pthread_t thread;
    CHECK_EQUAL(pthread_barrier_init(&bystander.barrier, NULL, 2), 0);
    bystander.foreign = evh_malloc(bystander.heap, 64);
    CHECK(evh_malloc(bystander.heap, 64) != NULL);
    CHECK_EQUAL(pthread_create(&thread, NULL, stand_by, &bystander), 0);
    pthread_barrier_wait(&bystander.barrier);
    const pid_t child = fork();
    if (child == 0) _exit(is_good_after_fork(&bystander) ? 0 : 1);
    pthread_barrier_wait(&bystander.barrier);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 0);
    pthread_barrier_destroy(&bystander.barrier);
    threads_close(bystander.heap);
}

TEST(one_thread_uses_many_heaps_in_turn)
{
    evh_heap *heaps[MANY];
    void *blocks[MANY][10];
    for (unsigned i = 0; i < MANY; i++) heaps[i] = threads_open();
    for (unsigned k = 0; k < 10; k++)
        for (unsigned i = 0; i < MANY; i++) {
            blocks[i][k] = evh_malloc(heaps[i], 64);
            CHECK(blocks[i][k] != NULL);
        }
    for (unsigned k = 0; k < 10; k++)
        for (unsigned i = 0; i < MANY; i++) {
            (void)base_fail(EVH_UNSUPPORTED, NO_OFFSET, "none");
            evh_free(heaps[(i + 1) % MANY], blocks[i][k]);
            CHECK_EQUAL(evh_last_error()->status, EVH_BAD_POINTER);
            evh_free(heaps[i], blocks[i][k]);
        }
    for (unsigned i = 0; i < MANY; i++) {
        CHECK_EQUAL(live_blocks(heaps[i]), 1);
        threads_close(heaps[i]);
    }
}

/* ---- everything at once ---- */

/*
 * Strategy: threads exchange blocks through a shared table: each takes what it finds in a slot,
 * checks and frees it (mostly another thread's), and leaves a new block; now and then a thread ends
 * and another one begins. Invariants: contents stay, nothing is handed out twice, and at the end
 * exactly the blocks in the table are live.
 */
enum { TABLE = 1000, WORKERS = 4 };

struct exchange {
    evh_heap *heap;
    uint64_t *table[TABLE];
    uint64_t seed;
    uint64_t operations;
};

struct worker {
    struct exchange *exchange;
    uint64_t number;
};

static void exchange_end(evh_heap *heap, uint64_t *block)
{
    if (!block) return;
    const uint64_t size = block[0];
    CHECK(size >= 16);
    CHECK_EQUAL(block[size / 8 - 1], (uintptr_t)block);
    block[size / 8 - 1] = 0;
    evh_free(heap, block);
}

static uint64_t *exchange_make(evh_heap *heap, uint64_t random)
{
    const uint64_t mask = random % 500 ? 0x7ff : 0x3ffff;
    const uint64_t size = (random >> 16 & mask) / 8 * 8 + 16;
    uint64_t *block = evh_malloc(heap, size);
    CHECK(block != NULL);
    block[0] = size;
    block[size / 8 - 1] = (uint64_t)(uintptr_t)block;
    return block;
}

static void *exchange_work(void *context)
{
    struct worker *worker = context;
    struct exchange *exchange = worker->exchange;
    uint64_t seed = exchange->seed + worker->number;
    for (uint64_t i = 0; i < exchange->operations; i++) {
        const uint64_t random = test_random(&seed);
        uint64_t *made = random % 7 ? exchange_make(exchange->heap, random) : NULL;
        uint64_t **slot = &exchange->table[(random >> 40) % TABLE];
        exchange_end(exchange->heap, __atomic_exchange_n(slot, made, __ATOMIC_ACQ_REL));
    }
    return NULL;
}

TEST(threads_exchange_blocks)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    exchange->heap = threads_open();
    exchange->seed = test_seed();
    exchange->operations = test_effort(5000);
    for (unsigned round = 0; round < 10; round++) {
        pthread_t threads[WORKERS];
        struct worker workers[WORKERS];
        for (unsigned i = 0; i < WORKERS; i++) {
            workers[i] = (struct worker){exchange, round * WORKERS + i};
            CHECK_EQUAL(pthread_create(&threads[i], NULL, exchange_work, &workers[i]), 0);
        }
        for (unsigned i = 0; i < WORKERS; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
        uint64_t live = 1;
        for (unsigned i = 0; i < TABLE; i++) live += exchange->table[i] != NULL;
        CHECK_EQUAL(live_blocks(exchange->heap), live);
        slices_fold(exchange->heap);
        CHECK_EQUAL(live_blocks(exchange->heap), live);
        if (round % 3 == 2) slices_reset(exchange->heap);
        CHECK_EQUAL(live_blocks(exchange->heap), live);
    }
    CHECK(exchange->heap->state.heap_bytes < (uint64_t)256 << 20);
    for (unsigned i = 0; i < TABLE; i++) exchange_end(exchange->heap, exchange->table[i]);
    slices_fold(exchange->heap);
    CHECK_EQUAL(live_blocks(exchange->heap), 1);
    threads_close(exchange->heap);
    free(exchange);
}

/* ---- the gate ---- */

struct counters {
    evh_heap *heap;
    uint64_t first, second; /* equal outside brackets */
    uint32_t stop;
    uint32_t entered;
};

static void *count_in_brackets(void *context)
{
    struct counters *counters = context;
    while (!__atomic_load_n(&counters->stop, __ATOMIC_RELAXED)) {
        evh_enter(counters->heap);
        __atomic_fetch_add(&counters->first, 1, __ATOMIC_RELAXED);
        evh_free(counters->heap, evh_malloc(counters->heap, 64));
        evh_enter(counters->heap); /* nested: never waits */
        __atomic_fetch_add(&counters->second, 1, __ATOMIC_RELAXED);
        evh_leave(counters->heap);
        evh_leave(counters->heap);
        __atomic_store_n(&counters->entered, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

TEST(nobody_is_inside_a_bracket_while_the_gate_is_closed)
{
    struct counters counters = {.heap = threads_open()};
    pthread_t threads[3];
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, count_in_brackets, &counters), 0);
    for (unsigned i = 0; i < test_effort(2000); i++) {
        CHECK_EQUAL(gate_close(counters.heap), EVH_OK);
        const uint64_t first = __atomic_load_n(&counters.first, __ATOMIC_RELAXED);
        const uint64_t second = __atomic_load_n(&counters.second, __ATOMIC_RELAXED);
        slices_fold(counters.heap);
        CHECK_EQUAL(__atomic_load_n(&counters.first, __ATOMIC_RELAXED), second);
        gate_open(counters.heap);
        CHECK_EQUAL(first, second);
        if (i % 16 == 0) sched_yield();
    }
    __atomic_store_n(&counters.stop, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 3; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    CHECK(counters.entered);
    CHECK_EQUAL(counters.first, counters.second);
    threads_close(counters.heap);
}

TEST(the_gate_is_not_closed_from_inside)
{
    evh_heap *heap = threads_open();
    evh_enter(heap);
    evh_enter(heap);
    CHECK(gate_is_inside(heap));
    CHECK_EQUAL(gate_close(heap), EVH_BUSY);
    evh_leave(heap);
    CHECK_EQUAL(gate_close(heap), EVH_BUSY);
    evh_leave(heap);
    CHECK(!gate_is_inside(heap));
    CHECK_EQUAL(gate_close(heap), EVH_OK);
    gate_open(heap);
    threads_close(heap);
}

struct inside {
    evh_heap *heap;
    pthread_barrier_t barrier;
};

/* Enter the heap, and come back when a committer waits. */
static void inside_until_closing(struct inside *inside)
{
    evh_enter(inside->heap);
    pthread_barrier_wait(&inside->barrier);
    while (!(__atomic_load_n(&inside->heap->slices.gate, __ATOMIC_SEQ_CST) & GATE_CLOSED))
        sched_yield();
}

/* Close the gate beside a thread that runs `stay`: 50 times. */
static void inside_run(void *(*stay)(void *context))
{
    struct inside inside = {.heap = threads_open()};
    pthread_t thread;
    CHECK_EQUAL(pthread_barrier_init(&inside.barrier, NULL, 2), 0);
    for (unsigned i = 0; i < 50; i++) {
        CHECK_EQUAL(pthread_create(&thread, NULL, stay, &inside), 0);
        pthread_barrier_wait(&inside.barrier);
        CHECK_EQUAL(gate_close(inside.heap), EVH_OK);
        CHECK(!gate_is_inside(inside.heap));
        gate_open(inside.heap);
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
    }
    pthread_barrier_destroy(&inside.barrier);
    threads_close(inside.heap);
}

/* Inside one heap, at work in another when it leaves. */
static void *stay_elsewhere(void *context)
{
    struct inside *inside = context;
    evh_heap *other = threads_open();
    inside_until_closing(inside);
    CHECK(evh_malloc(other, 64) != NULL);
    evh_leave(inside->heap);
    threads_close(other);
    return NULL;
}

TEST(a_committer_hears_of_a_thread_that_was_in_another_heap_meanwhile)
{
    inside_run(stay_elsewhere);
}

/* Inside, and inside once more after the committer began to wait. */
static void *stay_inside(void *context)
{
    struct inside *inside = context;
    inside_until_closing(inside);
    for (unsigned i = 0; i < 100; i++) {
        evh_enter(inside->heap);
        evh_leave(inside->heap);
    }
    evh_leave(inside->heap);
    return NULL;
}

TEST(a_nested_bracket_does_not_wait_for_a_committer_that_waits_for_it)
{
    inside_run(stay_inside);
}

/* Ends inside its bracket, while a committer waits. */
static void *end_inside(void *context)
{
    inside_until_closing(context);
    return NULL;
}

TEST(a_thread_that_ends_inside_its_bracket_does_not_hold_up_commits)
{
    inside_run(end_inside);
}

/* The system of the test, without membarrier. */
static int no_barrier(void)
{
    return 38; /* ENOSYS */
}

TEST(the_gate_works_without_membarrier)
{
    static struct os_calls calls;
    calls = *os_linux();
    calls.barrier_all_threads = no_barrier;
    os_use(&calls);
    struct counters counters = {.heap = threads_open()};
    pthread_t threads[3];
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, count_in_brackets, &counters), 0);
    bool is_equal = true;
    for (unsigned i = 0; i < test_effort(1000); i++) {
        CHECK_EQUAL(gate_close(counters.heap), EVH_OK);
        is_equal = is_equal && __atomic_load_n(&counters.first, __ATOMIC_RELAXED) ==
                                   __atomic_load_n(&counters.second, __ATOMIC_RELAXED);
        gate_open(counters.heap);
    }
    __atomic_store_n(&counters.stop, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 3; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    CHECK(counters.heap->slices.gate & GATE_FENCED);
    CHECK(is_equal);
    threads_close(counters.heap);
    os_use(NULL);
}

/* ---- cancelled threads ---- */

struct cancelled {
    evh_heap *heap;
    uint32_t rounds; /* begun. Atomic */
};

static void *cancelled_run(void *context)
{
    struct cancelled *cancelled = context;
    for (;;) {
        pthread_testcancel();
        for (unsigned i = 0; i < 8; i++) {
            void *block = evh_malloc(cancelled->heap, 100000 + i * 30000);
            if (block) memset(block, (int)i, 50000);
            if (i % 2) evh_free(cancelled->heap, block);
        }
        __atomic_add_fetch(&cancelled->rounds, 1, __ATOMIC_RELAXED);
        (void)evh_commit(cancelled->heap);
    }
    return NULL;
}

/* The thread is in a commit nearly all of the time, and most of that in a system call. */
TEST(a_thread_that_is_cancelled_in_a_commit_holds_up_nobody)
{
    const evh_options options = {.no_thread = true, .checkpoint_bytes = 1 << 20};
    struct cancelled cancelled = {.heap = evh_open(test_path("heap"), &options)};
    CHECK(cancelled.heap != NULL);
    alarm(120); /* whoever waits for ever ends */
    for (unsigned i = 0; i < 20; i++) {
        pthread_t thread;
        const uint32_t before = __atomic_load_n(&cancelled.rounds, __ATOMIC_RELAXED);
        CHECK_EQUAL(pthread_create(&thread, NULL, cancelled_run, &cancelled), 0);
        while (__atomic_load_n(&cancelled.rounds, __ATOMIC_RELAXED) < before + 2) sched_yield();
        CHECK_EQUAL(pthread_cancel(thread), 0);
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
        CHECK_EQUAL(evh_commit(cancelled.heap), EVH_OK);
    }
    alarm(0);
    CHECK_EQUAL(evh_check(cancelled.heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(cancelled.heap), EVH_OK);
}
