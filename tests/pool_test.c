/* pool_test.c -- pools: over the system, shared, on a heap; families of them. */
#include <everheap.h>

#include "support/status.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_pool *make(const evh_pool_options *options)
{
    evh_pool *pool = evh_pool_create(options);
    CHECK(pool != NULL);
    return pool;
}

static evh_pool_stats stats_of(evh_pool *pool)
{
    evh_pool_stats stats;
    evh_pool_get_stats(pool, &stats);
    return stats;
}

/* What each kind of pool must do. */
struct kind {
    evh_pool_options options;
    bool is_on_heap;
};

static const struct kind kinds[] = {
    {{.size_bytes = 24}, false},
    {{.size_bytes = 24, .is_shared = true}, false},
    {{.size_bytes = 24, .guards = true}, false},
    {{.size_bytes = 24, .debug = "CJVQ10S"}, false},
    {{.size_bytes = 24, .debug = "JVG", .count_max = 3000}, false},
    {{.size_bytes = 24}, true},
    {{.size_bytes = 24, .is_shared = true}, true},
    {{.size_bytes = 24, .debug = "AX100"}, true},
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

static evh_pool *make_kind(unsigned i, evh_heap *heap)
{
    evh_pool_options options = kinds[i].options;
    if (kinds[i].is_on_heap) options.heap = heap;
    return make(&options);
}

static bool count_block(void *block, void *context)
{
    CHECK(block != NULL);
    ++*(uint64_t *)context;
    return true;
}

struct forked {
    evh_pool *pool;
    evh_stacks *stacks;
    evh_arena *arena;
    bool ends; /* atomic */
};

enum { FORKED_BLOCKS = 300, FORKED_STACKS = 40 };

static bool use_all(const struct forked *forked)
{
    void *blocks[FORKED_BLOCKS];
    evh_stack *stacks[FORKED_STACKS];
    bool fine = true;
    for (unsigned i = 0; i < FORKED_BLOCKS; i++) {
        blocks[i] = evh_pool_get(forked->pool);
        fine = fine && blocks[i];
    }
    for (unsigned i = 0; i < FORKED_STACKS; i++) {
        stacks[i] = evh_stack_get(forked->stacks);
        fine = fine && stacks[i];
    }
    for (unsigned i = 0; i < 10; i++) fine = fine && evh_arena_alloc(forked->arena, 100, 16);
    for (unsigned i = 0; i < FORKED_BLOCKS; i++) evh_pool_put(forked->pool, blocks[i]);
    for (unsigned i = 0; i < FORKED_STACKS; i++) evh_stack_put(forked->stacks, stacks[i]);
    return fine;
}

static void *use_all_until_told(void *context)
{
    struct forked *forked = context;
    while (!__atomic_load_n(&forked->ends, __ATOMIC_RELAXED))
        if (!use_all(forked)) return context;
    return NULL;
}

TEST(a_forked_child_uses_what_other_threads_were_in_the_middle_of)
{
    enum { THREADS = 3, FORKS = 60 };
    struct forked forked = {
        .pool = make(&(evh_pool_options){.size_bytes = 64, .is_shared = true}),
        .stacks = evh_stacks_create(NULL),
        .arena = evh_arena_create(&(evh_arena_options){.is_shared = true}),
    };
    pthread_t threads[THREADS];
    CHECK(forked.stacks && forked.arena);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, use_all_until_told, &forked), 0);
    for (unsigned i = 0; i < FORKS; i++) {
        int status = 0;
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60); /* rather than for ever */
            _exit(use_all(&forked) ? 0 : 1);
        }
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK_EQUAL(status, 0);
    }
    __atomic_store_n(&forked.ends, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed = NULL;
        CHECK_EQUAL(pthread_join(threads[i], &failed), 0);
        CHECK(failed == NULL);
    }
    evh_pool_close(forked.pool);
    evh_stacks_close(forked.stacks);
    evh_arena_close(forked.arena);
}

TEST(random_gets_and_puts_agree_with_a_model)
{
    /* Strategy: a random walk of gets and puts over every kind of pool; each block holds its
     * number. Invariants: blocks are aligned and keep their bytes; counts and iteration agree. */
    enum { COUNT = 2000, ROUNDS = 40000 };
    static uint64_t *blocks[COUNT];
    uint64_t random = test_seed();
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    for (unsigned k = 0; k < KINDS; k++) {
        evh_pool *pool = make_kind(k, heap);
        uint64_t live = 0, seen = 0;
        memset(blocks, 0, sizeof blocks);
        for (uint64_t round = 0; round < test_effort(ROUNDS); round++) {
            const uint64_t i = test_random(&random) % COUNT;
            if (blocks[i]) {
                CHECK_EQUAL(blocks[i][0], i);
                CHECK_EQUAL(blocks[i][2], ~i);
                evh_pool_put(pool, blocks[i]);
                blocks[i] = NULL;
                live--;
            } else {
                blocks[i] = evh_pool_get(pool);
                CHECK(blocks[i] != NULL);
                CHECK_EQUAL((uintptr_t)blocks[i] % 16, 0);
                blocks[i][0] = i;
                blocks[i][2] = ~i;
                live++;
            }
        }
        CHECK_EQUAL(evh_pool_each(pool, count_block, &seen), EVH_OK);
        CHECK_EQUAL(seen, live);
        CHECK_EQUAL(stats_of(pool).live, live);
        CHECK(stats_of(pool).capacity >= live);
        CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    }
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    evh_close(heap);
}

TEST(the_last_block_put_is_the_next_one_got)
{
    evh_pool *pool = make(&(evh_pool_options){.size_bytes = 64});
    void *first = evh_pool_get(pool);
    void *next = evh_pool_get(pool);
    evh_pool_put(pool, first);
    evh_pool_put(pool, next);
    CHECK(evh_pool_get(pool) == next);
    CHECK(evh_pool_get(pool) == first);
    evh_pool_put(pool, NULL);
    evh_pool_close(pool);
}

TEST(a_pool_gives_no_more_than_its_limit)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    for (unsigned on_heap = 0; on_heap < 2; on_heap++) {
        evh_pool *pool = make(&(evh_pool_options){
            .heap = on_heap ? heap : NULL, .size_bytes = 100, .count_max = 777, .name = "few"});
        void *last = NULL;
        uint64_t got = 0;
        for (void *block = evh_pool_get(pool); block; block = evh_pool_get(pool), got++)
            last = block;
        CHECK_EQUAL(last_status(), EVH_LIMIT);
        if (!on_heap) CHECK_EQUAL(got, 777);
        CHECK(got >= 777 && got < 777 * 2);
        evh_pool_put(pool, last);
        CHECK(evh_pool_get(pool) == last);
        CHECK(evh_pool_get(pool) == NULL);
        CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    }
    evh_close(heap);
}

TEST(sizes_and_alignments_of_every_kind)
{
    const size_t sizes[] = {1, 7, 8, 9, 100, 4096, 5000, 65536, 100000, 1 << 20};
    const size_t alignments[] = {1, 8, 16, 64, 256, 4096};
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (unsigned a = 0; a < sizeof alignments / sizeof alignments[0]; a++) {
            for (unsigned on_heap = 0; on_heap < 2; on_heap++) {
                evh_pool *pool = make(&(evh_pool_options){.heap = on_heap ? heap : NULL,
                                                          .size_bytes = sizes[s],
                                                          .alignment = alignments[a]});
                unsigned char *blocks[12];
                for (unsigned i = 0; i < 12; i++) {
                    blocks[i] = evh_pool_get(pool);
                    CHECK(blocks[i] != NULL);
                    CHECK_EQUAL((uintptr_t)blocks[i] % alignments[a], 0);
                    memset(blocks[i], (int)i, sizes[s]);
                }
                for (unsigned i = 0; i < 12; i++) {
                    CHECK_EQUAL(blocks[i][0], i);
                    CHECK_EQUAL(blocks[i][sizes[s] - 1], i);
                    evh_pool_put(pool, blocks[i]);
                }
                CHECK_EQUAL(stats_of(pool).live, 0);
                CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
            }
        }
    }
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    evh_close(heap);
}

TEST(options_that_no_pool_has_are_refused)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    const evh_pool_options wrong[] = {
        {.size_bytes = 0},
        {.size_bytes = (1 << 20) + 1},
        {.size_bytes = 8, .alignment = 3},
        {.size_bytes = 8, .alignment = 8192},
        {.size_bytes = 8, .heap = heap, .guards = true},
        {.size_bytes = 8, .reserved = {1}},
        {.size_bytes = 8, .misuse = (evh_misuse)9},
        {.size_bytes = 8, .debug = "C?"},
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK(evh_pool_create(&wrong[i]) == NULL);
    CHECK(evh_pool_create(NULL) == NULL);
    CHECK(evh_pool_get_slow(NULL) == NULL);
    evh_pool_put_slow(NULL, NULL);
    CHECK_EQUAL(evh_pool_remove(NULL), EVH_OK);
    evh_pool_close(NULL);
    evh_close(heap);
}

TEST(wrong_pointers_are_told_exactly_on_a_heap)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_pool *pool =
        make(&(evh_pool_options){.heap = heap, .size_bytes = 48, .misuse = EVH_MISUSE_STATUS});
    unsigned char *block = evh_pool_get(pool);
    unsigned char local;
    unsigned char *wrong[] = {block + 1,  block + 8, block + 16,
                              block - 16, &local,    evh_malloc(heap, 48)};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        evh_pool_put(pool, wrong[i]);
        CHECK_EQUAL(last_status(), EVH_BAD_POINTER);
        CHECK_EQUAL(stats_of(pool).live, 1);
    }
    evh_pool_put(pool, block + 48);
    CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
    evh_pool_put(pool, block);
    CHECK_EQUAL(stats_of(pool).live, 0);
    evh_pool_put(pool, block);
    CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
    CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    evh_close(heap);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 30000, EXCHANGE = 64 };

struct exchange {
    evh_pool *pool;
    uint64_t *slots[EXCHANGE]; /* atomic: blocks that threads hand to each other */
};

static void *exchange_blocks(void *context)
{
    struct exchange *exchange = context;
    uint64_t random = (uintptr_t)&random;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t *block = evh_pool_get(exchange->pool);
        if (!block) return context;
        block[0] = (uintptr_t)block;
        block[1] = ~block[0];
        const uint64_t slot = test_random(&random) % EXCHANGE;
        block = __atomic_exchange_n(&exchange->slots[slot], block, __ATOMIC_ACQ_REL);
        if (!block) continue;
        if (block[0] != (uintptr_t)block || block[1] != ~block[0]) return context;
        evh_pool_put(exchange->pool, block);
    }
    return NULL;
}

TEST(threads_put_what_others_got)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    for (unsigned kind = 0; kind < 3; kind++) {
        struct exchange exchange = {
            .pool = make(&(evh_pool_options){.size_bytes = 40,
                                             .is_shared = true,
                                             .heap = kind == 1 ? heap : NULL,
                                             .debug = kind == 2 ? "CJVQ20" : ""})};
        for (unsigned round = 0; round < 2; round++) {
            pthread_t threads[THREADS];
            for (unsigned i = 0; i < THREADS; i++)
                CHECK_EQUAL(pthread_create(&threads[i], NULL, exchange_blocks, &exchange), 0);
            for (unsigned i = 0; i < THREADS; i++) {
                void *failed = NULL;
                pthread_join(threads[i], &failed);
                CHECK(failed == NULL);
            }
        }
        uint64_t left = 0;
        for (unsigned i = 0; i < EXCHANGE; i++) left += exchange.slots[i] != NULL;
        CHECK_EQUAL(stats_of(exchange.pool).live, left);
        /* Magazines are left to the next threads: the pool does not grow with their number. */
        CHECK(stats_of(exchange.pool).capacity < 10000);
        CHECK_EQUAL(evh_pool_remove(exchange.pool), EVH_OK);
    }
    evh_close(heap);
}

TEST(a_thread_may_end_after_its_pool)
{
    for (unsigned i = 0; i < 100; i++) { /* many pools meet in a thread's slots */
        evh_pool *pool = make(&(evh_pool_options){.size_bytes = 8, .is_shared = true});
        void *block = evh_pool_get(pool);
        CHECK(block != NULL);
        evh_pool_put(pool, block);
        evh_pool_close(pool);
    }
}

/* ---- on a heap ---- */

struct pool_root {
    evh_ref pool;
    uint64_t count;
    evh_ref blocks[1000];
};

static void check_blocks(evh_heap *heap, evh_pool *pool, const struct pool_root *root)
{
    uint64_t seen = 0;
    CHECK_EQUAL(evh_pool_each(pool, count_block, &seen), EVH_OK);
    CHECK_EQUAL(seen, root->count);
    for (uint64_t i = 0; i < root->count; i++) {
        const uint64_t *block = evh_at(heap, root->blocks[i]);
        CHECK_EQUAL(block[0], i);
    }
}

static void fill_blocks(evh_heap *heap, evh_pool *pool, struct pool_root *root, uint64_t count)
{
    for (; root->count < count; root->count++) {
        uint64_t *block = evh_pool_get(pool);
        CHECK(block != NULL);
        block[0] = root->count;
        root->blocks[root->count] = evh_ref_to(heap, block);
    }
    for (; root->count > count; root->count--)
        evh_pool_put(pool, evh_at(heap, root->blocks[root->count - 1]));
}

TEST(a_pool_survives_reopening)
{
    const char *path = test_path("pool");
    const uint64_t counts[] = {500, 1000, 300, 0, 700};
    uint64_t capacity = 0;
    for (unsigned round = 0; round < 5; round++) {
        evh_heap *heap = evh_open(path, NULL);
        struct pool_root *root = evh_root(heap, "root", sizeof *root);
        evh_pool *pool = round ? evh_pool_open(heap, root->pool, NULL)
                               : make(&(evh_pool_options){.heap = heap, .size_bytes = 600});
        CHECK(pool != NULL);
        root->pool = evh_pool_ref(pool);
        check_blocks(heap, pool, root);
        fill_blocks(heap, pool, root, counts[round]);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        fill_blocks(heap, pool, root, 900); /* lost */
        if (round % 2) evh_pool_close(pool);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        if (round % 2 == 0) {
            CHECK(evh_pool_get(pool) == NULL);
            CHECK_EQUAL(last_status(), EVH_STALE);
            evh_pool_close(pool);
        }
        capacity++;
    }
    CHECK_EQUAL(capacity, 5);
}

TEST(a_rollback_takes_back_gets_and_puts)
{
    evh_heap *heap = evh_open(test_path("pool"), NULL);
    struct pool_root *root = evh_root(heap, "root", sizeof *root);
    evh_pool *pools[] = {
        make(&(evh_pool_options){.heap = heap, .size_bytes = 600}),
        make(&(evh_pool_options){.heap = heap, .size_bytes = 600, .debug = "JQS"})};
    for (unsigned i = 0; i < 2; i++) {
        evh_pool *pool = pools[i];
        fill_blocks(heap, pool, root, 400);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        fill_blocks(heap, pool, root, 1000);
        CHECK_EQUAL(evh_rollback(heap), EVH_OK);
        check_blocks(heap, pool, root);
        fill_blocks(heap, pool, root, 100);
        CHECK_EQUAL(evh_rollback(heap), EVH_OK);
        CHECK_EQUAL(root->count, 400);
        check_blocks(heap, pool, root);
        fill_blocks(heap, pool, root, 1000);
        check_blocks(heap, pool, root);
        fill_blocks(heap, pool, root, 0);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    evh_pool *late = make(&(evh_pool_options){.heap = heap, .size_bytes = 600});
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK(evh_pool_get(late) == NULL);
    CHECK_EQUAL(last_status(), EVH_STALE);
    evh_pool_close(late);
    evh_pool_close(pools[0]);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    evh_pool_close(pools[1]);
}

TEST(a_pool_works_in_a_small_buffer_heap)
{
    static unsigned char buffer[65536];
    evh_heap *heap = evh_open_memory(buffer, sizeof buffer, NULL);
    evh_pool *pool = make(&(evh_pool_options){.heap = heap, .size_bytes = 64});
    void *blocks[1000];
    unsigned got = 0;
    while (got < 1000 && (blocks[got] = evh_pool_get(pool)) != NULL) got++;
    CHECK(got > 500);
    for (unsigned i = 0; i < got; i++) evh_pool_put(pool, blocks[i]);
    CHECK_EQUAL(stats_of(pool).live, 0);
    CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    evh_close(heap);
}

TEST(every_damaged_byte_of_a_pool_is_noticed_or_harmless)
{
    /* Strategy: change each byte of the records of pool and slab; open; get.
     * Invariants: it is refused, or what it hands out lies in the heap. */
    evh_heap *heap = evh_open_memory(NULL, 16 << 20, &(evh_options){.misuse = EVH_MISUSE_STATUS});
    evh_pool *pool = make(&(evh_pool_options){.heap = heap, .size_bytes = 100});
    for (unsigned i = 0; i < 100; i++) CHECK(evh_pool_get(pool) != NULL);
    const evh_ref ref = evh_pool_ref(pool);
    unsigned refused = 0;
    evh_pool_close(pool);
    unsigned char *record = evh_at(heap, ref);
    uint64_t slab;
    memcpy(&slab, record + 8, sizeof slab);
    for (unsigned i = 0; i < 64 + 64 + 512; i++) {
        unsigned char *byte =
            i < 64 ? record + i : (unsigned char *)evh_at(heap, (evh_ref){slab}) + (i - 64);
        const unsigned char kept = *byte;
        *byte ^= (unsigned char)(1u << i % 8);
        pool = evh_pool_open(heap, ref, NULL);
        if (!pool) refused++;
        unsigned char *block = pool ? evh_pool_get(pool) : NULL;
        if (block) CHECK(evh_heap_of(block) == heap);
        if (pool) evh_pool_put(pool, block);
        evh_pool_close(pool);
        *byte = kept;
    }
    CHECK(refused > 64 + 40);
    evh_close(heap);
}

/* ---- sanitizers ---- */

#if defined(__SANITIZE_ADDRESS__)
static bool child_dies(void (*run)(evh_pool *pool), evh_pool *pool)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        run(pool);
        _exit(0);
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void write_after_put(evh_pool *pool)
{
    volatile unsigned char *block = evh_pool_get(pool);
    evh_pool_put(pool, (void *)(uintptr_t)block);
    block[20] = 1;
}

static void write_before_put(evh_pool *pool)
{
    volatile unsigned char *block = evh_pool_get(pool);
    block[20] = 1;
    evh_pool_put(pool, (void *)(uintptr_t)block);
}

TEST(address_sanitizer_is_told_of_blocks_that_were_put)
{
    for (unsigned is_shared = 0; is_shared < 2; is_shared++) {
        evh_pool *pool = make(&(evh_pool_options){.size_bytes = 64, .is_shared = is_shared != 0});
        CHECK(!child_dies(write_before_put, pool));
        CHECK(child_dies(write_after_put, pool));
        evh_pool_close(pool);
    }
}
#endif

/* ---- families ---- */

TEST(a_family_has_a_pool_for_every_size)
{
    evh_pools *pools = evh_pools_create(10000, &(evh_pool_options){.name = "sizes"});
    CHECK(pools != NULL);
    for (size_t size = 1; size <= 10000; size++) {
        evh_pool *pool = evh_pools_of(pools, size);
        CHECK(pool != NULL);
        const size_t got = stats_of(pool).size_bytes;
        CHECK(got >= size);
        CHECK(got <= size + (size > 64 ? size / 4 : 15));
    }
    void *block = evh_pool_get(evh_pools_of(pools, 100));
    CHECK(block != NULL);
    CHECK(evh_pools_of(pools, 20000) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    CHECK(evh_pools_of(pools, 0) == NULL);
    CHECK(evh_pools_of(NULL, 5) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    CHECK(evh_pools_of(pools, SIZE_MAX) == NULL);
    CHECK(evh_pools_create(0, NULL) == NULL);
    CHECK(evh_pools_create(2 << 20, NULL) == NULL);
    evh_pools_close(pools);
    evh_pools_close(NULL);
}

static void *borrow_blocks(void *pool)
{
    void *blocks[40];
    for (unsigned i = 0; i < 40; i++) blocks[i] = evh_pool_get(pool);
    for (unsigned i = 0; i < 40; i++) evh_pool_put(pool, blocks[i]);
    return NULL;
}

TEST(what_an_ended_thread_kept_is_for_all)
{
    evh_pool *pool =
        make(&(evh_pool_options){.size_bytes = 24, .is_shared = true, .count_max = 64});
    pthread_t thread;
    void *block = evh_pool_get(pool); /* this thread has a magazine of its own already */
    CHECK(block != NULL);
    CHECK_EQUAL(pthread_create(&thread, NULL, borrow_blocks, pool), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    for (unsigned i = 1; i < 64; i++) CHECK(evh_pool_get(pool) != NULL);
    CHECK(evh_pool_get(pool) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    CHECK_EQUAL(stats_of(pool).live, 64);
    evh_pool_close(pool);
}
