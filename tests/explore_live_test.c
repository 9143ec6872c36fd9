/* explore_live_test.c -- pairs of operations on a live heap, in every interleaving, with kills.
 *
 * Strategy: threads of one process on a live heap, in which a dead process has left slices and
 * blocks. As in explore_heap_test.c, pairs of operations are run in all orders that make a
 * difference, with all values that C11 lets loads find (in `make explore`, all pairs). Then again
 * with the first thread dying before its first step, its second, and so on: what it leaves in the
 * shared files is what a killed process leaves; its slot is given to a process that does not exist,
 * and is reaped.
 * Invariants: no data race; nobody waits, whoever dies; of two frees of one block, one is refused;
 * blocks that were returned are live and distinct; a sweep finds all that the dead left; nothing
 * was lost or made but one block of a killed thread, and none if a ref in the heap should name it;
 * evh_check finds nothing, at the end and after the sweep.
 */
#include "support/explore_operations.h"
#include "support/interleave_os.h"

#include <everheap/live.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    DEAD_PROCESS = LIVE_PROCESSES_MAX - 1, /* whose slot a killed thread's is given to */
    SIZE_NOBODYS = SIZE_FRESH + 200,       /* a dead process had slices of it */
    /* Of how many cases one is explored, by chance, and how far; times EFFORT. */
    PAIRS_SHARE = 8,
    PAIR_EXECUTIONS_MAX = 1000,
    TRIPLES_SHARE = 100,
    TRIPLE_EXECUTIONS_MAX = 500,
    KILLS_SHARE = 1000,
    KILL_EXECUTIONS_MAX = 40,
    INTENT_EXECUTIONS_MAX = 20000,
};

static char live_path[256];
static uint64_t victims_tag; /* of thread 0 */
static void (*victims_run)(void), (*others_run)(void);

/* ---- operations of live heaps only ---- */

static void op_malloc_nobodys(void)
{
    got(evh_malloc(heap, SIZE_NOBODYS));
}

static void op_reap(void)
{
    (void)live_reap(heap->live);
}

static void op_sweep(void)
{
    (void)live_sweep(heap_thread.cache, 0, NULL);
}

static void op_drain(void)
{
    live_drain(heap_thread.cache);
}

static void *nobodys; /* a block of the dead process */

static void op_free_nobodys(void)
{
    gave(nobodys);
}

static const struct operation live_operations[] = {
    {"malloc in a class of nobody's slices", op_malloc_nobodys},
    {"reaping", op_reap},
    {"sweeping", op_sweep},
    {"draining", op_drain},
    {"free in nobody's slice", op_free_nobodys},
};

enum {
    LIVE_OPERATIONS = sizeof live_operations / sizeof live_operations[0],
    ALL_OPERATIONS = OPERATIONS + LIVE_OPERATIONS,
};

static const struct operation *operation_at(unsigned i)
{
    return i < OPERATIONS ? &operations[i] : &live_operations[i - OPERATIONS];
}

/* ---- the heap before ---- */

static void count_internal(uint64_t offset, void *context)
{
    (void)offset;
    ++*(uint64_t *)context;
}

/* Live blocks, without those that the library needs for roots. */
static uint64_t count_blocks(void)
{
    uint64_t count = 0, internal = 0;
    if (evh_walk(heap, count_block, &count)) return UINT64_MAX;
    live_roots_each_internal(heap, count_internal, &internal);
    return count - internal;
}

static evh_heap *open_live(void)
{
    const evh_options options = {
        .mode = EVH_LIVE, .misuse = EVH_MISUSE_STATUS, .size_max_bytes = 128 << 20};
    return evh_open(live_path, &options);
}

/* Another process comes, takes slices, and dies. Block 0 is what it tells. */
static void other_dies(void)
{
    int ends[2];
    evh_ref ref = {0};
    CHECK_EQUAL(pipe(ends), 0);
    fflush(NULL);
    const pid_t other = fork();
    CHECK(other >= 0);
    if (other == 0) {
        for (unsigned i = 0; i < 3; i++) (void)evh_malloc(heap, SIZE_HOT);
        ref = evh_ref_to(heap, need(evh_malloc(heap, SIZE_NOBODYS)));
        (void)evh_malloc(heap, SIZE_NOBODYS);
        _exit(write(ends[1], &ref, sizeof ref) != sizeof ref);
    }
    CHECK_EQUAL(read(ends[0], &ref, sizeof ref), sizeof ref);
    CHECK_EQUAL(waitpid(other, NULL, 0), other);
    close(ends[0]);
    close(ends[1]);
    nobodys = need(evh_at(heap, ref));
}

/* Slices for what roots need, so that it is about roots. */
static void prepare_roots(void)
{
    need(evh_malloc(heap, sizeof(struct heap_root)));
    need(evh_malloc(heap, 100));
}

static void note_tag(void)
{
    victims_tag = heap_thread.cache->tag;
}

static void open_heap(bool is_reaped)
{
    if (!interleave_is_built()) SKIP("only the build of `make explore` is instrumented");
    const char *directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : test_directory();
    snprintf(live_path, sizeof live_path, "%s/everheap-explore.%d", directory, getpid());
    interleave_os_use();
    interleave_local(&heap_thread, sizeof heap_thread);
    interleave_local(&errno, sizeof errno);
    interleave_local((void *)(uintptr_t)evh_last_error(), sizeof(evh_error));
    heap = need(open_live());
    interleave_mutex(&heap->slices.lock.state);
    slots = need(evh_root(heap, "slots", SLOTS * sizeof *slots));
    need(evh_root(heap, "old", 40));
    evh_free(heap, need(evh_malloc(heap, 4 << 20))); /* room, so that nobody has to grow */
    other_dies();
    if (is_reaped) CHECK(live_reap(heap->live));
    for (preparing = 0; preparing < THREADS; preparing++) interleave_as(preparing, prepare_blocks);
    for (preparing = 0; preparing < THREADS; preparing++) interleave_as(preparing, prepare_roots);
    for (preparing = 0; preparing < THREADS; preparing++) interleave_as(preparing, prepare_mail);
    interleave_as(0, note_tag);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    blocks_before = count_blocks();
}

static void close_heap(void)
{
    CHECK_EQUAL(count_blocks(), blocks_before);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    (void)unlink(live_path);
    interleave_forget();
    interleave_os_end();
}

/* ---- judging ---- */

static bool is_root(const void *block, const char *name)
{
    return block && evh_root_find(heap, name, NULL) == block;
}

/* The first thread is dead: as if it had been alone in a process of its own. */
static void bury(void)
{
    struct live *live = heap->live;
    live->threads[live_tag_slot(victims_tag)].word =
        victims_tag >> 32 << 32 | (uint64_t)DEAD_PROCESS << 8 | LIVE_THREAD_USED;
    live->processes[DEAD_PROCESS].state = 1;
    live->reaping = 0; /* if it was the victim's, it is gone with its process */
    (void)live_reap(live);
}

/* Whether nobody can be kept from the victim's slices. */
static bool all_is_inherited(void)
{
    struct live *live = heap->live;
    for (uint64_t i = 1; i < live_end(live); i++)
        if (*live_owner(live, i) == victims_tag && !live_is_stale(live, victims_tag)) return false;
    return true;
}

/* The blocks that the victim may have made, or ended (-1), at the moment of its death. */
static bool victim_may_have_made(int64_t count)
{
    if (victims_run == op_malloc_to) return count == (slots[SLOTS_NONE].offset != 0);
    if (victims_run == op_free_from) return count == -(int64_t)(slots[SLOTS_OWN].offset == 0);
    if (victims_run == op_free_from_others)
        return count == -(int64_t)(slots[SLOTS_FULL + 1].offset == 0);
    if (victims_run == op_free_from_last) return count == -(int64_t)(slots[SLOTS_LAST].offset == 0);
    if (victims_run == op_root) return count == (evh_root_find(heap, "zero", NULL) != NULL);
    if (victims_run == op_root_same && others_run != op_root_same)
        return count == (evh_root_find(heap, "same", NULL) != NULL);
    if (victims_run == op_root_same) return count == 0; /* whose it is, the other one has counted */
    if (victims_run == op_root_remove) {
        const bool is_others = others_run == op_root_remove && made[1] == -1;
        return count == -(int64_t)(!is_others && !evh_root_find(heap, "old", NULL));
    }
    return count >= -1 && count <= 1;
}

/* Whether all frees by others have reached the bitmaps of slices that somebody has. (Those of
 * nobody's are folded by who adopts them.) */
static bool all_is_folded(void)
{
    struct live *live = heap->live;
    for (uint64_t i = 1; i < live_end(live); i++) {
        const uint64_t descriptor = *live_descriptor(live, i);
        if (descriptor_kind(descriptor) != HEAP_SMALL) continue;
        if (live_is_stale(live, *live_owner(live, i))) continue;
        const uint64_t *mirror = live_mirror((uint64_t *)(void *)live_place_of(live, i));
        /* What evh_free_from() holds stays pending for the next time that the owner is told. */
        const uint64_t pending = live_segment(live, i)->pending[i % SEGMENT_SLICES / 64];
        const bool has_held = !slots[SLOTS_FULL].offset || !slots[SLOTS_FULL + 1].offset;
        if (has_held && pending >> i % 64 & 1) continue;
        for (uint32_t word = 0; word < SLICE_MIRROR_WORDS; word++)
            if (mirror[word]) return false;
    }
    return true;
}

/* Who is left hears of what was freed, and looks at everything. */
static void look_around(void)
{
    for (struct cache *cache = heap->slices.caches; cache; cache = cache->next_of_heap)
        if (!interleave_has_killed() || cache->tag != victims_tag) live_drain(cache);
    (void)live_sweep(heap_thread.cache, 0, NULL);
}

static const char *judge_returned(int64_t *expected)
{
    bool has_same = false;
    for (unsigned i = 0; i < thread_count; i++) {
        *expected += made[i];
        if (!returned[i]) continue;
        if (evh_usable_size(heap, returned[i]) == 0) return "a returned block is not live";
        if (is_root(returned[i], "same")) {
            *expected -= has_same; /* several made it, and it is one */
            has_same = true;
        }
        for (unsigned k = 0; k < i; k++)
            if (returned[k] == returned[i] && !is_root(returned[i], "same"))
                return "two threads got the same block";
    }
    return NULL;
}

static const char *judge_count(int64_t expected)
{
    const int64_t count = (int64_t)count_blocks();
    if (evh_check(heap, NULL, NULL)) return evh_last_error()->message;
    if (!interleave_has_killed() && count != expected) return "blocks were lost, or made by nobody";
    if (interleave_has_killed() && !victim_may_have_made(count - expected))
        return "the victim left more, or less, than one block";
    return NULL;
}

static const char *judge(void)
{
    int64_t expected = (int64_t)blocks_before;
    const char *wrong = judge_returned(&expected);
    if (wrong) return wrong;
    if (interleave_has_killed()) {
        if (evh_check(heap, NULL, NULL)) return evh_last_error()->message;
        bury();
        if (!all_is_inherited()) return "a slice of the victim's is nobody's to take";
    }
    wrong = judge_count(expected);
    if (wrong) return wrong;
    look_around();
    /* Who is killed between a free and telling of it leaves that to the next one. */
    if (!interleave_has_killed() && !all_is_folded()) return "the owner was not told of a free";
    return judge_count(expected);
}

/* ---- exploring ---- */

static void explore_pairs(bool is_reaped, bool is_weak)
{
    struct totals totals = {0};
    const char *wanted = getenv("PAIR"); /* as it is printed with V=1 */
    uint64_t random = test_seed();
    unsigned count = 0;
    open_heap(is_reaped);
    for (unsigned i = 0; i < ALL_OPERATIONS; i++) {
        for (unsigned k = i; k < ALL_OPERATIONS; k++) {
            char what[160];
            const bool is_chosen = test_random(&random) % PAIRS_SHARE < test_effort(1);
            snprintf(what, sizeof what, "%s / %s", operation_at(i)->name, operation_at(k)->name);
            if (wanted && wanted[0] ? strcmp(what, wanted) != 0 : !is_chosen) continue;
            count++;
            const struct interleave_plan plan = {
                .thread_count = 2,
                .run = {operation_at(i)->run, operation_at(k)->run},
                .judge = judge,
                .is_weak = is_weak,
                .executions_max = test_effort(PAIR_EXECUTIONS_MAX)};
            explore(&plan, what, &totals);
        }
    }
    close_heap();
    print_totals(count, "pairs", &totals);
}

TEST(pairs_of_operations_on_a_live_heap_are_right_in_every_order)
{
    explore_pairs(true, false);
}

TEST(pairs_of_operations_on_a_live_heap_are_right_with_every_value_that_C11_allows)
{
    explore_pairs(true, true);
}

/* Operations that meet in the middle: the owner's, and two others'. */
static void explore_triples(bool is_weak)
{
    static void (*const chosen[])(void) = {
        op_free_others,  op_free_others_mail, op_free_others_lone, op_malloc_nobodys,
        op_free_nobodys, op_root_same,        op_malloc_large};
    enum { OTHERS = sizeof chosen / sizeof chosen[0] };
    struct totals totals = {0};
    unsigned count = 0;
    uint64_t random = test_seed();
    open_heap(true);
    for (unsigned i = 0; i < ALL_OPERATIONS * OTHERS * OTHERS; i++) {
        const unsigned first = i / OTHERS / OTHERS, second = i / OTHERS % OTHERS;
        const unsigned third = i % OTHERS;
        char what[160];
        if (second > third || test_random(&random) % TRIPLES_SHARE >= test_effort(1)) continue;
        if (operation_at(first)->run == op_free_nobodys) continue;
        snprintf(what, sizeof what, "%s / %u / %u", operation_at(first)->name, second, third);
        const struct interleave_plan plan = {
            .thread_count = 3,
            .run = {operation_at(first)->run, chosen[second], chosen[third]},
            .judge = judge,
            .is_weak = is_weak,
            .is_bounded = true,
            .preemptions = is_weak ? 1 : 2,
            .executions_max = TRIPLE_EXECUTIONS_MAX};
        explore(&plan, what, &totals);
        count++;
    }
    close_heap();
    print_totals(count, "triples", &totals);
}

TEST(triples_of_operations_on_a_live_heap_are_right_with_two_preemptions)
{
    explore_triples(false);
}

TEST(triples_of_operations_on_a_live_heap_are_right_with_one_and_what_C11_allows)
{
    explore_triples(true);
}

/* The first dies before step `at`. False: it was through before. */
static bool explore_kill(const struct operation *victim, const struct operation *other, unsigned at,
                         bool is_weak, struct totals *totals)
{
    char what[200];
    struct interleave_result result;
    const struct interleave_plan plan = {.thread_count = 2,
                                         .run = {victim->run, other->run},
                                         .judge = judge,
                                         .is_weak = is_weak,
                                         .kills = true,
                                         .kill_at = at,
                                         .executions_max = KILL_EXECUTIONS_MAX};
    snprintf(what, sizeof what, "%s, killed at step %u / %s", victim->name, at, other->name);
    victims_run = victim->run;
    others_run = other->run;
    explore_into(&plan, what, totals, &result);
    return result.was_killed;
}

TEST(a_thread_killed_at_any_step_hinders_nobody_and_leaves_at_most_one_block)
{
    struct totals totals = {0};
    uint64_t random = test_seed(), kills = 0;
    open_heap(true);
    for (unsigned i = 0; i < ALL_OPERATIONS; i++) {
        const struct operation *victim = operation_at(i);
        if (victim->run == op_malloc_first) continue; /* it would have two slots */
        for (unsigned k = 0; k < ALL_OPERATIONS; k++) {
            unsigned at = 0;
            do at += (unsigned)(test_random(&random) % (2 * KILLS_SHARE / test_effort(1) + 1));
            while (explore_kill(victim, operation_at(k), at, test_random(&random) % 2, &totals) &&
                   ++kills);
        }
    }
    close_heap();
    print_totals((unsigned)kills, "kills", &totals);
}

/* ---- intents that others end ---- */

/* A root of the first thread's own, in slices of its own. */
static void prepare_own_root(void)
{
    need(evh_root(heap, "own", 100));
}

/* Its block is free, and is the next one's at once. */
static void op_remove_own_and_malloc_to(void)
{
    evh_ref *slot = &slots[THREADS];
    if (evh_root_remove(heap, "own")) interleave_fail("%s", evh_last_error()->message);
    if (evh_malloc_to(heap, slot, 100)) interleave_fail("%s", evh_last_error()->message);
}

static void op_root_own(void)
{
    (void)need(evh_root(heap, "own", 100));
}

static const char *judge_removed(void)
{
    if (evh_check(heap, NULL, NULL)) return evh_last_error()->message;
    if (evh_usable_size(heap, evh_at(heap, slots[THREADS])) == 0) return "a block was taken away";
    const bool is_made = evh_root_find(heap, "own", NULL) != NULL;
    if (count_blocks() != blocks_before + is_made) return "blocks were lost, or made by nobody";
    return NULL;
}

/* Whoever wants to change a root's word ends the intent of the thread that stored it: that one, and
 * not one that the thread has begun about the same block meanwhile. */
TEST(an_intent_is_not_taken_for_the_next_one_about_the_same_block)
{
    struct totals totals = {0};
    open_heap(true);
    interleave_as(0, prepare_own_root);
    blocks_before = count_blocks();
    const struct interleave_plan plan = {.thread_count = 2,
                                         .run = {op_remove_own_and_malloc_to, op_root_own},
                                         .judge = judge_removed,
                                         .is_weak = true,
                                         .is_bounded = true,
                                         .preemptions = 2,
                                         .executions_max = test_effort(INTENT_EXECUTIONS_MAX)};
    explore(&plan, "root_remove and malloc_to / the same root", &totals);
    close_heap();
    print_totals(1, "intents", &totals);
}

/* The word of the root that is called "own". */
static uint64_t *word_of_own(void)
{
    const uint64_t at = heap->live->area->catalog;
    const struct live_catalog *catalog = (const void *)(heap->view.base + at);
    uint64_t *words = (uint64_t *)(void *)(heap->view.base + catalog->chunks[0]);
    for (unsigned i = 0; i < LIVE_ROOT_WORDS; i++) {
        const struct heap_root *record = (const void *)(heap->view.base + words[i]);
        if (words[i] && strcmp(record->name, "own") == 0) return &words[i];
    }
    return NULL;
}

/* A dead thread was about to free the block of a root that it had removed. */
static void prepare_removed_by_the_dead(void)
{
    enum { SLOT = LIVE_THREADS_MAX - 1 };
    struct live *live = heap->live;
    uint64_t *word = word_of_own();
    CHECK(word != NULL);
    const struct heap_root *record = (const void *)(heap->view.base + *word);
    live->processes[DEAD_PROCESS].state = 1;
    live->threads[SLOT].word = 1ull << 32 | (uint64_t)DEAD_PROCESS << 8 | LIVE_THREAD_USED;
    live->intents[SLOT] =
        (struct live_intent){.block = record->block.offset,
                             .slot = (uint64_t)((unsigned char *)word - heap->view.base),
                             .kind = LIVE_INTENT_GONE};
    *word |= LIVE_ROOT_REMOVED | (uint64_t)(SLOT + 1) << LIVE_ROOT_BUSY_SHIFT;
}

static void op_root_own_and_malloc(void)
{
    (void)need(evh_root(heap, "own", 100));
    got(evh_malloc(heap, 100));
}

static const char *judge_freed_once(void)
{
    if (evh_check(heap, NULL, NULL)) return evh_last_error()->message;
    if (evh_usable_size(heap, returned[0]) == 0) return "a block was taken away";
    /* The old root's block is gone; the new root's has come, and the one that was returned. */
    return count_blocks() == blocks_before + 1 ? NULL : "blocks were lost, or made by nobody";
}

TEST(what_a_dead_thread_was_about_to_free_is_freed_by_one_of_two)
{
    struct totals totals = {0};
    open_heap(true);
    interleave_as(0, prepare_own_root);
    blocks_before = count_blocks();
    prepare_removed_by_the_dead();
    const struct interleave_plan plan = {.thread_count = 2,
                                         .run = {op_root_own_and_malloc, op_reap},
                                         .judge = judge_freed_once,
                                         .is_weak = true,
                                         .is_bounded = true,
                                         .preemptions = 2,
                                         .executions_max = test_effort(INTENT_EXECUTIONS_MAX)};
    explore(&plan, "the same root and malloc / reaping", &totals);
    (void)live_reap(heap->live);
    blocks_before--;
    close_heap();
    print_totals(1, "intents", &totals);
}
