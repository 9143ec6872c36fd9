/* arena_fault_test.c -- arenas, pools and stacks when the system refuses memory at any one call.
 *
 * Strategy: the same work again and again; the n-th call for memory fails, for all n.
 * Invariants: a call that fails says EVH_NO_MEMORY or EVH_LIMIT and changes nothing that is in use;
 * at the end nothing is left: no memory, no mapping, no live block of the heap.
 */
#include "support/os_fail.h"
#include "test.h"

#include <everheap.h>

#include <pthread.h>

/* Whether a failure said why. */
static void check_reason(void)
{
    const evh_status status = evh_last_error()->status;
    CHECK(status == EVH_NO_MEMORY || status == EVH_LIMIT || status == EVH_FULL);
}

/* Use an arena; whether all of it succeeded. */
static bool use_arena(const evh_arena_options *options)
{
    evh_arena *arena = evh_arena_create(options);
    bool fine = arena != NULL;
    if (!arena) {
        check_reason();
        return false;
    }
    const evh_mark mark = evh_arena_mark(arena);
    for (unsigned i = 0; i < 40; i++) {
        unsigned char *memory = evh_arena_alloc(arena, 5000, 16);
        if (memory)
            memset(memory, (int)i, 5000);
        else
            check_reason();
        fine = fine && memory;
    }
    if (!options->is_shared && evh_arena_release(arena, mark)) {
        check_reason();
        fine = false;
    }
    fine = evh_arena_alloc(arena, 100000, 16) && fine;
    evh_arena_reset(arena);
    CHECK_EQUAL(evh_arena_remove(arena), EVH_OK);
    return fine;
}

static bool use_pool(const evh_pool_options *options)
{
    enum { BLOCKS = 700 };
    static unsigned char *blocks[BLOCKS];
    evh_pool *pool = evh_pool_create(options);
    bool fine = pool != NULL;
    if (!pool) {
        check_reason();
        return false;
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = evh_pool_get(pool);
        if (blocks[i])
            memset(blocks[i], (int)i, options->size_bytes);
        else
            check_reason();
        fine = fine && blocks[i];
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (blocks[i]) CHECK_EQUAL(blocks[i][options->size_bytes - 1], i & 0xff);
        evh_pool_put(pool, blocks[i]);
    }
    CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    return fine;
}

static bool use_stacks(const evh_stacks_options *options)
{
    enum { STACKS = 40 };
    evh_stack *all[STACKS];
    evh_stacks *stacks = evh_stacks_create(options);
    bool fine = stacks != NULL;
    if (!stacks) {
        check_reason();
        return false;
    }
    for (unsigned i = 0; i < STACKS; i++) {
        all[i] = evh_stack_get(stacks);
        if (all[i])
            *(unsigned char *)all[i]->base = 1;
        else
            check_reason();
        fine = fine && all[i];
    }
    for (unsigned i = 0; i < STACKS; i++) evh_stack_put(stacks, all[i]);
    evh_stacks_close(stacks);
    return fine;
}

static evh_heap *test_heap;

static bool use_everything(void)
{
    bool fine = use_arena(&(evh_arena_options){.size_bytes = 4096, .debug = ""});
    fine = use_arena(&(evh_arena_options){.guards = true, .debug = "CJV"}) && fine;
    fine = use_arena(&(evh_arena_options){.is_shared = true, .debug = ""}) && fine;
    fine = use_arena(&(evh_arena_options){.heap = test_heap, .debug = ""}) && fine;
    fine = use_pool(&(evh_pool_options){.size_bytes = 200, .debug = ""}) && fine;
    fine = use_pool(&(evh_pool_options){.size_bytes = 200, .guards = true, .debug = "A"}) && fine;
    fine = use_pool(&(evh_pool_options){.size_bytes = 200, .is_shared = true, .debug = ""}) && fine;
    fine = use_pool(&(evh_pool_options){.size_bytes = 200, .heap = test_heap, .debug = ""}) && fine;
    fine =
        use_pool(&(evh_pool_options){.size_bytes = 200, .heap = test_heap, .debug = "JQS"}) && fine;
    fine = use_stacks(&(evh_stacks_options){.size_bytes = 2 << 20, .debug = ""}) && fine;
    return use_stacks(&(evh_stacks_options){.guard = EVH_GUARD_PROTECT, .debug = "L"}) && fine;
}

static void *use_in_a_thread(void *context)
{
    *(bool *)context = use_everything();
    return NULL;
}

/* Work in a thread that ends, so that what it keeps is left as well. */
static bool work(void)
{
    pthread_t thread;
    bool fine = false;
    CHECK_EQUAL(pthread_create(&thread, NULL, use_in_a_thread, &fine), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    return fine;
}

TEST(memory_may_be_refused_at_any_one_call)
{
    os_fail_use();
    test_heap = evh_open_memory(NULL, 0, &(evh_options){.debug = ""});
    CHECK(test_heap != NULL);
    CHECK(work()); /* the heap has grown, and its caches are there */
    evh_info before, after;
    CHECK_EQUAL(evh_get_info(test_heap, &before), EVH_OK);
    const struct os_fail_account account = os_fail_account();
    uint64_t n = 1;
    for (; n < 10000; n++) {
        os_fail_at(OS_FAIL_MEMORY, n, ENOMEM, false);
        const bool fine = work();
        const bool has_struck = os_fail_struck();
        os_fail_at(0, 0, 0, false);
        const struct os_fail_account left = os_fail_account();
        CHECK_EQUAL(left.memory, account.memory);
        CHECK_EQUAL(left.reservations, account.reservations);
        CHECK_EQUAL(evh_get_info(test_heap, &after), EVH_OK);
        CHECK_EQUAL(after.live_blocks, before.live_blocks);
        if (!has_struck) {
            CHECK(fine);
            break;
        }
    }
    printf("%llu calls for memory\n", (unsigned long long)n - 1);
    CHECK(n > 50 && n < 10000);
    CHECK_EQUAL(evh_close(test_heap), EVH_OK);
    os_fail_end();
}
