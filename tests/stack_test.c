/* stack_test.c -- guarded stacks: get, put, limits, use by fibers, threads. */
#include <everheap.h>

#include "support/status.h"
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

static evh_stacks *make(const evh_stacks_options *options)
{
    evh_stacks *stacks = evh_stacks_create(options);
    CHECK(stacks != NULL);
    return stacks;
}

static evh_stacks_stats stats_of(evh_stacks *stacks)
{
    evh_stacks_stats stats;
    evh_stacks_get_stats(stacks, &stats);
    return stats;
}

static uint64_t count_mappings(void)
{
    uint64_t count = 0;
    char line[512];
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file)) count++;
    fclose(file);
    return count;
}

TEST(stacks_do_not_overlap_and_the_last_one_put_is_the_next)
{
    enum { COUNT = 3000 };
    static evh_stack *all[COUNT];
    const size_t size = 4 * (size_t)sysconf(_SC_PAGESIZE);
    for (evh_guard guard = EVH_GUARD_AUTO; guard <= EVH_GUARD_NONE; guard++) {
        evh_stacks *stacks = evh_stacks_create(
            &(evh_stacks_options){.size_bytes = size, .guard = guard, .debug = ""});
        if (!stacks) {
            CHECK_EQUAL(last_status(), EVH_UNSUPPORTED);
            continue;
        }
        for (unsigned i = 0; i < COUNT; i++) {
            all[i] = evh_stack_get(stacks);
            CHECK(all[i] != NULL);
            CHECK_EQUAL(all[i]->size_bytes, size);
            CHECK_EQUAL(all[i]->number, i);
            CHECK_EQUAL((uintptr_t)all[i]->base % 4096, 0);
            CHECK_EQUAL(all[i]->label[0], 0);
            unsigned char *top = (unsigned char *)all[i]->base + all[i]->size_bytes;
            top[-1] = (unsigned char)i;
            if (i % 100 == 0) *(unsigned char *)all[i]->base = (unsigned char)(i + 1);
        }
        CHECK_EQUAL(stats_of(stacks).live, COUNT);
        for (unsigned i = 0; i < COUNT; i++) {
            const unsigned char *base = all[i]->base;
            CHECK_EQUAL(base[all[i]->size_bytes - 1], i & 0xff);
            if (i % 100 == 0) CHECK_EQUAL(*base, (i + 1) & 0xff);
        }
        for (unsigned i = 0; i < COUNT; i++) evh_stack_put(stacks, all[i]);
        CHECK(evh_stack_get(stacks) == all[COUNT - 1]);
        evh_stack_put(stacks, all[COUNT - 1]);
        CHECK_EQUAL(stats_of(stacks).live, 0);
        CHECK_EQUAL(stats_of(stacks).made, COUNT);
        evh_stacks_close(stacks);
    }
}

TEST(a_hundred_thousand_guarded_stacks_are_a_few_hundred_mappings)
{
    enum { COUNT = 100000 };
    evh_stacks *stacks = evh_stacks_create(&(evh_stacks_options){.guard = EVH_GUARD_MARK});
    if (!stacks) SKIP("this kernel has no guard marks");
    const uint64_t before = count_mappings();
    for (unsigned i = 0; i < COUNT; i++) CHECK(evh_stack_get(stacks) != NULL);
    CHECK(count_mappings() < before + 500);
    CHECK_EQUAL(stats_of(stacks).live, COUNT);
    evh_stacks_close(stacks);
}

TEST(options_that_no_stacks_have_are_refused)
{
    const evh_stacks_options wrong[] = {
        {.size_bytes = (size_t)2 << 30},
        {.guard = (evh_guard)9},
        {.misuse = (evh_misuse)9},
        {.reserved = {0, 1}},
        {.debug = "!"},
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK(evh_stacks_create(&wrong[i]) == NULL);
    CHECK(evh_stack_get(NULL) == NULL);
    evh_stack_put(NULL, NULL);
    evh_stacks_close(NULL);
    CHECK_EQUAL(evh_stacks_trim(NULL), 0);
    CHECK_EQUAL(evh_stack_used(NULL), 0);
}

TEST(a_limit_on_stacks_is_kept)
{
    evh_stacks *stacks = make(&(evh_stacks_options){.count_max = 3});
    evh_stack *last = NULL;
    for (unsigned i = 0; i < 3; i++) CHECK((last = evh_stack_get(stacks)) != NULL);
    CHECK(evh_stack_get(stacks) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    evh_stack_put(stacks, last);
    CHECK(evh_stack_get(stacks) == last);
    evh_stacks_close(stacks);
}

TEST(what_a_stack_used_is_seen_and_trimmed)
{
    evh_stacks *stacks = make(&(evh_stacks_options){.size_bytes = 256 * 1024, .debug = ""});
    evh_stack *stack = evh_stack_get(stacks);
    CHECK_EQUAL(evh_stack_used(stack), 0);
    unsigned char *top = (unsigned char *)stack->base + stack->size_bytes;
    top[-1] = 1;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    CHECK_EQUAL(evh_stack_used(stack), page);
    top[-100000] = 1;
    CHECK(evh_stack_used(stack) >= 100000 && evh_stack_used(stack) <= 100000 + page);
    CHECK_EQUAL(evh_stacks_trim(stacks), 0); /* it is in use */
    evh_stack_put(stacks, stack);
    CHECK_EQUAL(evh_stacks_trim(stacks), 1);
    CHECK_EQUAL(evh_stack_used(stack), 0);
    CHECK_EQUAL(top[-1], 0);
    evh_stacks_close(stacks);
}

TEST(wrong_puts_change_nothing)
{
    evh_stacks *stacks = make(&(evh_stacks_options){.misuse = EVH_MISUSE_STATUS});
    evh_stacks *others = make(NULL);
    evh_stack *stack = evh_stack_get(stacks);
    evh_stack *other = evh_stack_get(others);
    evh_stack_put(stacks, other);
    CHECK_EQUAL(last_status(), EVH_BAD_POINTER);
    evh_stack_put(stacks, stack);
    CHECK_EQUAL(stats_of(stacks).live, 0);
    evh_stack_put(stacks, stack);
    CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
    CHECK_EQUAL(stats_of(stacks).live, 0);
    CHECK_EQUAL(stats_of(others).live, 1);
    evh_stacks_close(stacks);
    evh_stacks_close(others);
}

/* ---- fibers ---- */

static ucontext_t scheduler;
static uint64_t sum;

static uint64_t add_up(uint64_t depth)
{
    volatile char frame[512];
    frame[0] = (char)depth;
    return depth == 0 ? 0 : depth + add_up(depth - 1) + (uint64_t)(frame[0] - (char)depth);
}

static void fiber_main(void)
{
    sum += add_up(50);
}

TEST(fibers_run_on_the_stacks)
{
    enum { FIBERS = 500 };
    static ucontext_t contexts[FIBERS];
    static evh_stack *all[FIBERS];
    evh_stacks *stacks = make(&(evh_stacks_options){.size_bytes = 128 * 1024});
    sum = 0;
    for (unsigned i = 0; i < FIBERS; i++) {
        all[i] = evh_stack_get(stacks);
        CHECK_EQUAL(getcontext(&contexts[i]), 0);
        contexts[i].uc_stack.ss_sp = all[i]->base;
        contexts[i].uc_stack.ss_size = all[i]->size_bytes;
        contexts[i].uc_link = &scheduler;
        makecontext(&contexts[i], fiber_main, 0);
    }
    for (unsigned i = 0; i < FIBERS; i++) CHECK_EQUAL(swapcontext(&scheduler, &contexts[i]), 0);
    CHECK_EQUAL(sum, FIBERS * 1275);
    for (unsigned i = 0; i < FIBERS; i++) evh_stack_put(stacks, all[i]);
    evh_stacks_close(stacks);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 20000, EXCHANGE = 40 };

struct exchange {
    evh_stacks *stacks;
    evh_stack *slots[EXCHANGE]; /* atomic */
};

static void *exchange_stacks(void *context)
{
    struct exchange *exchange = context;
    uint64_t random = (uintptr_t)&random;
    for (unsigned i = 0; i < ROUNDS; i++) {
        evh_stack *stack = evh_stack_get(exchange->stacks);
        if (!stack) return context;
        uint64_t *top = (uint64_t *)(void *)((unsigned char *)stack->base + stack->size_bytes) - 1;
        *top = stack->number;
        const uint64_t slot = test_random(&random) % EXCHANGE;
        stack = __atomic_exchange_n(&exchange->slots[slot], stack, __ATOMIC_ACQ_REL);
        if (!stack) continue;
        top = (uint64_t *)(void *)((unsigned char *)stack->base + stack->size_bytes) - 1;
        if (*top != stack->number) return context;
        evh_stack_put(exchange->stacks, stack);
    }
    return NULL;
}

TEST(threads_put_stacks_that_others_got)
{
    struct exchange exchange = {.stacks = make(&(evh_stacks_options){.size_bytes = 4096})};
    for (unsigned round = 0; round < 2; round++) {
        pthread_t threads[THREADS];
        for (unsigned i = 0; i < THREADS; i++)
            CHECK_EQUAL(pthread_create(&threads[i], NULL, exchange_stacks, &exchange), 0);
        for (unsigned i = 0; i < THREADS; i++) {
            void *failed = NULL;
            pthread_join(threads[i], &failed);
            CHECK(failed == NULL);
        }
    }
    uint64_t left = 0;
    for (unsigned i = 0; i < EXCHANGE; i++) left += exchange.slots[i] != NULL;
    CHECK_EQUAL(stats_of(exchange.stacks).live, left);
    CHECK(stats_of(exchange.stacks).made <= 200);
    evh_stacks_close(exchange.stacks);
}

static void *borrow_stacks(void *stacks)
{
    evh_stack *borrowed[10];
    for (unsigned i = 0; i < 10; i++) {
        borrowed[i] = evh_stack_get(stacks);
        ((char *)borrowed[i]->base)[borrowed[i]->size_bytes - 1] = 1;
    }
    for (unsigned i = 0; i < 10; i++) evh_stack_put(stacks, borrowed[i]);
    return NULL;
}

TEST(what_an_ended_thread_kept_is_for_all)
{
    evh_stacks *stacks = make(&(evh_stacks_options){.count_max = 11, .debug = ""});
    pthread_t thread;
    CHECK(evh_stack_get(stacks) != NULL); /* this thread has a magazine of its own already */
    CHECK_EQUAL(pthread_create(&thread, NULL, borrow_stacks, stacks), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(evh_stacks_trim(stacks), 10);
    for (unsigned i = 1; i < 11; i++) CHECK(evh_stack_get(stacks) != NULL);
    CHECK(evh_stack_get(stacks) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    evh_stacks_close(stacks);
}
