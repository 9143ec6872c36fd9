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
#include "support/explore_operations.h"
#include "support/interleave_os.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    TRIPLES_SHARE = 20, /* one of so many, by chance; all with EFFORT=20 */
    TRIPLES_EXECUTIONS_MAX = 4000,
};

/* ---- the heap before ---- */

/* A thread that ends and leaves what it has to whoever comes. */
static void *prepare_and_end(void *context)
{
    (void)context;
    need(evh_malloc(heap, SIZE_HOT));
    need(evh_malloc(heap, SIZE_FRESH + 200));
    return NULL;
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
    static evh_ref refs[SLOTS];
    if (!interleave_is_built()) SKIP("only the build of `make explore` is instrumented");
    interleave_os_use();
    memset(refs, 0, sizeof refs);
    slots = refs;
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

/* One of `share`, by chance, times EFFORT. */
static bool is_chosen(uint64_t *random, unsigned share)
{
    return test_random(random) % (100ull * share) < test_effort(100);
}

static void explore_pairs(bool is_loaded, bool is_weak)
{
    struct totals totals = {0};
    uint64_t random = test_seed();
    unsigned count = 0;
    open_heap(is_loaded);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        for (unsigned k = i; k < OPERATIONS; k++) {
            char what[160];
            if (!is_chosen(&random, 1)) continue;
            count++;
            snprintf(what, sizeof what, "%s / %s", operations[i].name, operations[k].name);
            const struct interleave_plan plan = {.thread_count = 2,
                                                 .run = {operations[i].run, operations[k].run},
                                                 .judge = judge,
                                                 .is_weak = is_weak};
            explore(&plan, what, &totals);
        }
    }
    close_heap();
    print_totals(count, "pairs", &totals);
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
                if (!is_chosen(&random, TRIPLES_SHARE)) continue;
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

/* ---- brackets ---- */

/* Plain: what a thread stores in its bracket, and a commit copies. The last is nobody's. */
static uint64_t halves[THREADS + 1][2];

static void bracket(void)
{
    evh_enter(heap);
    halves[interleave_self()][0]++;
    halves[interleave_self()][1]++;
    evh_leave(heap);
}

static void bracket_nested(void)
{
    evh_enter(heap);
    bracket();
    evh_leave(heap);
}

static bool is_half(void)
{
    for (unsigned i = 0; i < THREADS; i++)
        if (halves[i][0] != halves[i][1]) return true;
    return false;
}

/* What a commit does before and after it copies. */
static void close_and_open_gate(void)
{
    if (gate_close(heap)) interleave_fail("the gate was not closed");
    if (is_half()) interleave_fail("half of a bracket is seen");
    gate_open(heap);
}

static const char *judge_brackets(void)
{
    return is_half() ? "half of a bracket is left" : NULL;
}

static void explore_gate(bool is_prepared, bool is_bounded, unsigned count,
                         void (*const run[])(void))
{
    struct totals totals = {0};
    struct interleave_plan plan = {.thread_count = count,
                                   .judge = judge_brackets,
                                   .is_weak = true,
                                   .is_bounded = is_bounded,
                                   .preemptions = 2,
                                   .executions_max = test_effort(20000)};
    for (unsigned i = 0; i < count; i++) plan.run[i] = run[i];
    open_heap(true);
    CHECK_EQUAL(heap->slices.gate, 0);
    if (!is_prepared) heap->slices.gate = GATE_UNPREPARED; /* nobody has asked for barriers yet */
    explore(&plan, "brackets beside a commit", &totals);
    close_heap();
    print_totals(count, "threads at the gate", &totals);
}

TEST(a_commit_sees_no_half_of_a_bracket_and_nobody_waits_for_ever)
{
    explore_gate(true, false, 2, (void (*const[])(void)){bracket, close_and_open_gate});
    explore_gate(false, false, 2, (void (*const[])(void)){bracket, close_and_open_gate});
    explore_gate(true, false, 2, (void (*const[])(void)){bracket_nested, close_and_open_gate});
    explore_gate(true, true, 3, (void (*const[])(void)){bracket, bracket, close_and_open_gate});
}
