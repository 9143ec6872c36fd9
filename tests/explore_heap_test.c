/* explore_heap_test.c -- every pair of operations of two threads on a heap, in every interleaving.
 *
 * Strategy: a heap in memory with blocks of several threads, some slices full, some empty but for
 * one block, some with frees that wait to be folded. For every pair of operations the explorer
 * (interleave.h) runs all orders of their atomic steps that can make a difference, with what C11
 * lets loads find; for triples, with a bound on preemptions.
 * Invariants: no data race; nobody waits for ever; of two frees of one block, one is refused; the
 * blocks that were returned are live and distinct; nothing else was lost or made; evh_check finds
 * nothing.
 */
#include "heap/heap.h"
#include "support/interleave.h"
#include "support/interleave_os.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

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
    TRIPLES_SHARE = 20, /* one of so many, by chance; all with EFFORT=20 */
    TRIPLES_EXECUTIONS_MAX = 4000,
};

/* What a thread has before the exploration begins. */
struct belongings {
    void *hot[HOT_BLOCKS], *full[FULL_BLOCKS], *mail[HOT_BLOCKS], *post[HOT_BLOCKS];
    void *large;
    void *lone[LONE_BLOCKS], *lonely[LONE_BLOCKS]; /* the first of each */
};

static evh_heap *heap;
static struct belongings belongings[THREADS];
static evh_ref slots[2 * THREADS]; /* the first half names blocks */
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
    heap_thread = (struct heap_thread){.cache = THREADS_NONE};
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

/* A thread that ends and leaves what it has to whoever comes. */
static void *prepare_and_end(void *context)
{
    (void)context;
    need(evh_malloc(heap, SIZE_HOT));
    need(evh_malloc(heap, SIZE_FRESH + 200));
    return NULL;
}

static bool count_block(const evh_block *block, void *context)
{
    (void)block;
    ++*(uint64_t *)context;
    return true;
}

static uint64_t count_blocks(void)
{
    uint64_t count = 0;
    return evh_walk(heap, count_block, &count) ? UINT64_MAX : count;
}

static void open_heap(bool is_loaded)
{
    const evh_options options = {.misuse = EVH_MISUSE_STATUS, .size_max_bytes = 64 << 20};
    pthread_t thread;
    if (!interleave_is_built()) SKIP("only the build of `make explore` is instrumented");
    interleave_os_use();
    interleave_local(&heap_thread, sizeof heap_thread);
    interleave_local(&errno, sizeof errno);
    interleave_local((void *)(uintptr_t)evh_last_error(), sizeof(evh_error));
    heap = need(evh_open_memory(NULL, 0, &options));
    interleave_mutex(&heap->slices.lock.state);
    need(evh_root(heap, "old", 40));
    CHECK_EQUAL(pthread_create(&thread, NULL, prepare_and_end, NULL), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    for (preparing = 0; preparing < THREADS; preparing++) interleave_as(preparing, prepare_blocks);
    for (preparing = 0; preparing < THREADS; preparing++) interleave_as(preparing, prepare_mail);
    if (!is_loaded) {
        slices_fold(heap);
        slices_reset(heap);
    }
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    blocks_before = count_blocks();
}

static void close_heap(void)
{
    CHECK_EQUAL(count_blocks(), blocks_before);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    interleave_forget();
    interleave_os_end();
}

/* ---- judging ---- */

static bool is_root(const void *block, const char *name)
{
    return block && evh_root_find(heap, name, NULL) == block;
}

/* Whether every free by another thread reaches the bitmaps once the owners look. */
static bool all_is_folded(void)
{
    for (struct cache *cache = heap->slices.caches; cache; cache = cache->next_of_heap)
        remote_drain(cache);
    for (uint64_t i = 0; i < slices_count(heap->state.heap_bytes); i++) {
        const struct slice *slice = &heap->slices.table[i];
        if (slice->kind != HEAP_SMALL && slice->kind != HEAP_MEDIUM) continue;
        for (uint32_t word = 0; word < slice->word_count; word++)
            if (remote_live_bits(heap, slice, word) != slice->bits[word]) return false;
    }
    return true;
}

static const char *judge(void)
{
    int64_t expected = (int64_t)blocks_before;
    bool has_same = false;
    for (unsigned i = 0; i < thread_count; i++) {
        expected += made[i];
        if (!returned[i]) continue;
        if (evh_usable_size(heap, returned[i]) == 0) return "a returned block is not live";
        if (is_root(returned[i], "same")) {
            expected -= has_same; /* several made it, and it is one */
            has_same = true;
        }
        for (unsigned k = 0; k < i; k++)
            if (returned[k] == returned[i] && !is_root(returned[i], "same"))
                return "two threads got the same block";
    }
    if (evh_check(heap, NULL, NULL)) return evh_last_error()->message;
    if (count_blocks() != (uint64_t)expected) return "blocks were lost, or made by nobody";
    if (!all_is_folded()) return "the owner was not told of a free";
    if (evh_check(heap, NULL, NULL)) return evh_last_error()->message;
    return count_blocks() == (uint64_t)expected ? NULL : "a fold lost or made blocks";
}

struct totals {
    uint64_t executions, redundant, steps, longest, incomplete;
};

static void explore(const struct interleave_plan *plan, const char *what, struct totals *totals)
{
    struct interleave_result result;
    thread_count = plan->thread_count;
    if (!interleave_run(plan, &result)) {
        test_fail(__FILE__, __LINE__, "%s: %s", what, result.problem);
        test_stop();
    }
    if (getenv("V"))
        printf("    %s: %llu executions, %llu redundant, %u steps%s\n", what,
               (unsigned long long)result.executions, (unsigned long long)result.redundant,
               result.longest, result.is_complete ? "" : ", not complete");
    CHECK(result.is_complete || plan->executions_max);
    totals->executions += result.executions;
    totals->redundant += result.redundant;
    totals->steps += result.steps;
    totals->incomplete += !result.is_complete;
    totals->longest = base_max(totals->longest, result.longest);
}

static void print_totals(unsigned count, const char *what, const struct totals *totals)
{
    printf("    %u %s: %llu executions, %llu redundant, %llu steps, %llu the longest, "
           "%llu cut short\n",
           count, what, (unsigned long long)totals->executions,
           (unsigned long long)totals->redundant, (unsigned long long)totals->steps,
           (unsigned long long)totals->longest, (unsigned long long)totals->incomplete);
}

static void explore_pairs(bool is_loaded, bool is_weak)
{
    struct totals totals = {0};
    open_heap(is_loaded);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        for (unsigned k = i; k < OPERATIONS; k++) {
            char what[160];
            snprintf(what, sizeof what, "%s / %s", operations[i].name, operations[k].name);
            const struct interleave_plan plan = {.thread_count = 2,
                                                 .run = {operations[i].run, operations[k].run},
                                                 .judge = judge,
                                                 .is_weak = is_weak};
            explore(&plan, what, &totals);
        }
    }
    close_heap();
    print_totals(OPERATIONS * (OPERATIONS + 1) / 2, "pairs", &totals);
}

TEST(every_pair_of_operations_is_right_in_every_order)
{
    explore_pairs(true, false);
}

TEST(every_pair_of_operations_is_right_with_every_value_that_C11_allows)
{
    explore_pairs(true, true);
}

TEST(every_pair_of_operations_is_right_in_a_heap_just_opened)
{
    explore_pairs(false, false);
}

/* Operations that meet in the middle: the owner's, and two others'. */
static void explore_triples(bool is_weak, unsigned preemptions)
{
    static void (*const others_run[])(void) = {op_free_others,      op_free_others_mail,
                                               op_free_others_post, op_free_others_lone,
                                               op_realloc_others,   op_malloc_large};
    enum { OTHERS = sizeof others_run / sizeof others_run[0] };
    struct totals totals = {0};
    unsigned count = 0;
    uint64_t random = test_seed();
    open_heap(true);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        for (unsigned k = 0; k < OTHERS; k++) {
            for (unsigned m = k; m < OTHERS; m++) {
                char what[160];
                if (test_random(&random) % TRIPLES_SHARE >= test_effort(1)) continue;
                snprintf(what, sizeof what, "%s / %u / %u", operations[i].name, k, m);
                const struct interleave_plan plan = {
                    .thread_count = 3,
                    .run = {operations[i].run, others_run[k], others_run[m]},
                    .judge = judge,
                    .is_weak = is_weak,
                    .is_bounded = true,
                    .preemptions = preemptions,
                    .executions_max = is_weak ? TRIPLES_EXECUTIONS_MAX : 0,
                };
                explore(&plan, what, &totals);
                count++;
            }
        }
    }
    close_heap();
    print_totals(count, "triples", &totals);
}

TEST(triples_of_operations_are_right_with_one_preemption_and_what_C11_allows)
{
    explore_triples(true, 1);
}

TEST(triples_of_operations_are_right_with_two_preemptions)
{
    explore_triples(false, 2);
}
