/* explore_operations.h -- what threads do to a heap when their interleavings are explored.
 *
 * Included by the tests, which are compiled for the explorer (interleave.h); hence the definitions.
 * Threads have blocks of their own in slices of several states. An operation notes what it returned
 * and how many blocks it made, for the judge.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_EXPLORE_OPERATIONS_H
#define EVERHEAP_TESTS_SUPPORT_EXPLORE_OPERATIONS_H

#include "heap/heap.h"
#include "support/interleave.h"
#include "test.h"

#include <stdlib.h>

enum {
    THREADS = 3,
    SIZE_HOT = 64,     /* each thread has a slice of it, and free bits in its bin */
    SIZE_FULL = 8192,  /* eight in a slice: each thread has a full one */
    SIZE_LONE = 4096,  /* each thread has two slices with one block each, which are in no bin */
    SIZE_MAIL = 2048,  /* each thread has a slice in which others freed blocks, */
    SIZE_POST = 1024,  /* and one of this class */
    SIZE_FRESH = 1600, /* nobody has a slice of it */
    SIZE_LARGE = 70000,
    FULL_BLOCKS = 8,
    LONE_BLOCKS = 16,
    HOT_BLOCKS = 6,
};

/* What a thread has before the exploration begins. */
struct belongings {
    void *hot[HOT_BLOCKS], *full[FULL_BLOCKS], *mail[HOT_BLOCKS], *post[HOT_BLOCKS];
    void *large;
    void *lone[LONE_BLOCKS], *lonely[LONE_BLOCKS]; /* the first of each */
};

static evh_heap *heap;
static struct belongings belongings[THREADS];
static evh_ref *slots; /* two for each thread: of the first half, each names a block */
static unsigned thread_count;
static uint64_t blocks_before;
static unsigned preparing; /* the thread whose belongings are made */

/* What happened in an execution. */
static void *returned[THREADS];
static int64_t made[THREADS]; /* blocks, less those freed */
static uint32_t told;

/* ---- operations of thread t ---- */

static struct belongings *mine(void)
{
    return &belongings[interleave_self()];
}

static struct belongings *others(void)
{
    return &belongings[(interleave_self() + 1) % thread_count];
}

static void got(void *block)
{
    if (!block) interleave_fail("no block: %s", evh_last_error()->message);
    returned[interleave_self()] = block;
    made[interleave_self()]++;
}

static void forget(void)
{
    ((evh_error *)(uintptr_t)evh_last_error())->status = EVH_OK;
}

/* A free that may be the second one of its block. */
static void gave(void *block)
{
    forget();
    evh_free(heap, block);
    const evh_status status = evh_last_error()->status;
    if (status == EVH_OK)
        made[interleave_self()]--;
    else if (status != EVH_DOUBLE_FREE && status != EVH_BAD_POINTER)
        interleave_fail("a free failed: %s", evh_last_error()->message);
}

static void moved(void *block)
{
    got(block);
    made[interleave_self()]--;
}

static void op_malloc(void)
{
    got(evh_malloc(heap, SIZE_HOT));
}

static void op_malloc_full(void)
{
    got(evh_malloc(heap, SIZE_FULL));
}

static void op_malloc_mail(void)
{
    got(evh_malloc(heap, SIZE_MAIL));
}

static void op_malloc_fresh(void)
{
    got(evh_malloc(heap, SIZE_FRESH));
}

static void op_malloc_large(void)
{
    got(evh_malloc(heap, SIZE_LARGE));
}

static void op_aligned(void)
{
    got(evh_aligned_alloc(heap, 1 << 17, 100));
}

/* By a thread that has just begun. */
static void op_malloc_first(void)
{
    heap_thread = (struct heap_thread){.cache = &threads_nobody};
    got(evh_malloc(heap, SIZE_HOT));
}

static void op_free(void)
{
    gave(mine()->hot[0]);
}

static void op_free_full(void)
{
    gave(mine()->full[3]);
}

static void op_free_lone(void)
{
    gave(mine()->lone[0]);
}

static void op_free_mail(void)
{
    gave(mine()->mail[0]);
}

static void op_free_large(void)
{
    gave(mine()->large);
}

static void op_free_others(void)
{
    gave(others()->hot[1]);
}

static void op_free_others_full(void)
{
    gave(others()->full[4]);
}

static void op_free_others_lone(void)
{
    gave(others()->lonely[0]);
}

static void op_free_others_mail(void)
{
    gave(others()->mail[1]);
}

/* By the other thread too: one of the two is refused. That cannot be promised if one of them is the
 * slice's owner, or becomes it, and nothing orders the two. */
static void op_free_thirds(void)
{
    if (heap_thread.stamp != heap->stamp) return;
    gave(belongings[THREADS - 1].hot[0]);
}

static void op_free_others_post(void)
{
    gave(others()->post[1]);
}

static void op_free_and_tell(void)
{
    gave(others()->hot[2]);
    __atomic_store_n(&told, 1, __ATOMIC_RELEASE);
}

/* What another has freed for certain, is not freed again. */
static void op_free_when_told(void)
{
    if (!__atomic_load_n(&told, __ATOMIC_ACQUIRE)) return;
    forget();
    evh_free(heap, mine()->hot[2]);
    if (evh_last_error()->status != EVH_DOUBLE_FREE) interleave_fail("a second free was believed");
}

static void op_free_twice(void)
{
    gave(others()->hot[2]);
    gave(others()->hot[2]);
}

static void op_realloc(void)
{
    moved(evh_realloc(heap, mine()->hot[3], SIZE_FULL));
}

static void op_realloc_large(void)
{
    moved(evh_realloc(heap, mine()->large, (size_t)2 * SIZE_LARGE));
}

static void op_realloc_others(void)
{
    moved(evh_realloc(heap, others()->hot[4], SIZE_FRESH));
}

static void op_malloc_to(void)
{
    evh_ref *slot = &slots[THREADS + interleave_self()];
    if (evh_malloc_to(heap, slot, SIZE_FULL)) interleave_fail("%s", evh_last_error()->message);
    got(evh_at(heap, *slot));
}

static void op_free_from(void)
{
    evh_ref *slot = &slots[interleave_self()];
    if (evh_free_from(heap, slot)) interleave_fail("%s", evh_last_error()->message);
    if (slot->offset) interleave_fail("evh_free_from left a ref");
    made[interleave_self()]--;
}

static void op_usable_size(void)
{
    if (evh_usable_size(heap, others()->hot[5]) != SIZE_HOT) interleave_fail("another size");
}

static void op_root(void)
{
    static const char *const names[THREADS] = {"zero", "one", "two"};
    got(evh_root(heap, names[interleave_self()], 100));
}

static void op_root_same(void)
{
    got(evh_root(heap, "same", 100)); /* the judge knows that it is one */
}

static void op_root_remove(void)
{
    if (evh_root_remove(heap, "old") == EVH_OK) made[interleave_self()]--;
}

static void op_root_find(void)
{
    (void)evh_root_find(heap, "old", NULL);
}

static const struct operation {
    const char *name;
    void (*run)(void);
} operations[] = {
    {"malloc", op_malloc},
    {"malloc in a class with a full slice", op_malloc_full},
    {"malloc in a class with pending frees", op_malloc_mail},
    {"malloc in a new class", op_malloc_fresh},
    {"malloc of a large block", op_malloc_large},
    {"malloc by a new thread", op_malloc_first},
    {"aligned_alloc", op_aligned},
    {"free", op_free},
    {"free in a full slice", op_free_full},
    {"free of a slice's last block", op_free_lone},
    {"free in a slice with pending frees", op_free_mail},
    {"free of a large block", op_free_large},
    {"free of another's block", op_free_others},
    {"free in another's full slice", op_free_others_full},
    {"free of another's slice's last block", op_free_others_lone},
    {"free in another's slice with pending frees", op_free_others_mail},
    {"free in another's other slice with pending frees", op_free_others_post},
    {"free of another's block, and telling", op_free_and_tell},
    {"free when told that it was freed", op_free_when_told},
    {"free of another's block, twice", op_free_twice},
    {"free of a third thread's block", op_free_thirds},
    {"realloc", op_realloc},
    {"realloc of a large block", op_realloc_large},
    {"realloc of another's block", op_realloc_others},
    {"malloc_to", op_malloc_to},
    {"free_from", op_free_from},
    {"usable_size", op_usable_size},
    {"root", op_root},
    {"the same root", op_root_same},
    {"root_remove", op_root_remove},
    {"root_find", op_root_find},
};

enum { OPERATIONS = sizeof operations / sizeof operations[0] };

/* ---- the heap before ---- */

static void *need(void *block)
{
    CHECK(block != NULL);
    return block;
}

static void prepare_blocks(void)
{
    struct belongings *own = &belongings[preparing];
    for (unsigned i = 0; i < HOT_BLOCKS; i++) own->hot[i] = need(evh_malloc(heap, SIZE_HOT));
    for (unsigned i = 0; i < HOT_BLOCKS; i++) own->mail[i] = need(evh_malloc(heap, SIZE_MAIL));
    for (unsigned i = 0; i < HOT_BLOCKS; i++) own->post[i] = need(evh_malloc(heap, SIZE_POST));
    for (unsigned i = 0; i < FULL_BLOCKS; i++) own->full[i] = need(evh_malloc(heap, SIZE_FULL));
    for (unsigned i = 0; i < LONE_BLOCKS; i++) own->lone[i] = need(evh_malloc(heap, SIZE_LONE));
    for (unsigned i = 0; i < LONE_BLOCKS; i++) own->lonely[i] = need(evh_malloc(heap, SIZE_LONE));
    need(evh_malloc(heap, SIZE_LONE)); /* now neither slice is in the bin */
    for (unsigned i = 1; i < LONE_BLOCKS; i++) evh_free(heap, own->lone[i]);
    for (unsigned i = 1; i < LONE_BLOCKS; i++) evh_free(heap, own->lonely[i]);
    own->large = need(evh_malloc(heap, SIZE_LARGE));
    CHECK_EQUAL(evh_malloc_to(heap, &slots[preparing], SIZE_HOT), EVH_OK);
}

static void prepare_mail(void)
{
    for (unsigned i = 2; i < 4; i++) evh_free(heap, belongings[(preparing + 1) % THREADS].mail[i]);
}

static bool count_block(const evh_block *block, void *context)
{
    (void)block;
    ++*(uint64_t *)context;
    return true;
}

/* ---- exploring ---- */

struct totals {
    uint64_t executions, redundant, steps, longest, incomplete;
};

static void explore_into(const struct interleave_plan *plan, const char *what,
                         struct totals *totals, struct interleave_result *result)
{
    thread_count = plan->thread_count;
    if (!interleave_run(plan, result)) {
        test_fail(__FILE__, __LINE__, "%s: %s", what, result->problem);
        test_stop();
    }
    if (getenv("V"))
        printf("    %s: %llu executions, %llu redundant, %u steps%s\n", what,
               (unsigned long long)result->executions, (unsigned long long)result->redundant,
               result->longest, result->is_complete ? "" : ", not complete");
    CHECK(result->is_complete || plan->executions_max);
    totals->executions += result->executions;
    totals->redundant += result->redundant;
    totals->steps += result->steps;
    totals->incomplete += !result->is_complete;
    totals->longest = base_max(totals->longest, result->longest);
}

static inline void explore(const struct interleave_plan *plan, const char *what,
                           struct totals *totals)
{
    struct interleave_result result;
    explore_into(plan, what, totals, &result);
}

static void print_totals(unsigned count, const char *what, const struct totals *totals)
{
    printf("    %u %s: %llu executions, %llu redundant, %llu steps, %llu the longest, "
           "%llu cut short\n",
           count, what, (unsigned long long)totals->executions,
           (unsigned long long)totals->redundant, (unsigned long long)totals->steps,
           (unsigned long long)totals->longest, (unsigned long long)totals->incomplete);
}

#endif
