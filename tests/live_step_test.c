/* live_step_test.c -- a process on a live heap is killed at every instruction of every operation.
 *
 * Strategy: a child prepares a live heap (with other processes that own slices, have freed its
 * blocks, are dead or go on) and is stepped through one operation (step.h). At every instruction
 * what its death would leave is a pair of files: the heap, and the ephemeral file. Where they
 * changed, copies are opened twice: as by a survivor that joins the session, with and without
 * reaping the dead one first, and as by the next one after all were killed, with and without the
 * ephemeral file. Each recovery then does 50 operations of its own.
 * Invariants: evh_check finds nothing; every block that was live and not the operation's is live
 * and keeps its contents; at most one block is live that nothing names, none with evh_malloc_to,
 * evh_free_from and new roots; what the survivor allocates and frees is right.
 */
#include "support/live_scenarios.h"
#include "support/step_copy.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SURVIVOR_OPERATIONS = 50, SURVIVOR_BLOCKS = 16 };

static struct scenario_world *world;
static struct step_copy copy;

/* ---- the parent: recovering ---- */

static char why[400];
static const struct scenario *scenario;
static uint64_t recoveries, judged;

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            snprintf(why, sizeof why, "%s (line %d; last error: %.200s)", #condition, __LINE__,    \
                     evh_last_error()->message);                                                   \
            return why;                                                                            \
        }                                                                                          \
    } while (0)

struct survivor {
    evh_heap *heap;
    uint64_t random;
    struct kept own[SURVIVOR_BLOCKS];
    /* What a walk of the heap found. */
    uint64_t visited, kept_seen, extra;
    bool target_seen;
};

static void *block_of(const struct survivor *survivor, uint64_t offset)
{
    return evh_at(survivor->heap, (evh_ref){offset});
}

static const char *check_kept(const struct survivor *survivor)
{
    for (uint32_t i = 0; i < world->kept_count; i++) {
        const struct kept *kept = &world->kept[i];
        if (kept->is_freed || kept->offset == world->target) continue;
        const void *block = block_of(survivor, kept->offset);
        REQUIRE(evh_usable_size(survivor->heap, block) >= kept->size);
        REQUIRE(scenario_is_stamped(block, kept->offset, kept->size));
    }
    return NULL;
}

static const char *survivor_allocate(struct survivor *survivor, struct kept *own)
{
    static const uint32_t sizes[] = {SIZE_SMALL, SIZE_SMALL,  SIZE_OTHER, 1000,
                                     24,         SIZE_MEDIUM, SIZE_LARGE, 5000};
    const uint64_t kind = test_random(&survivor->random) % 16;
    own->size = sizes[test_random(&survivor->random) % (sizeof sizes / sizeof sizes[0])];
    evh_ref ref = {0};
    if (kind < 4) {
        REQUIRE(evh_malloc_to(survivor->heap, &ref, own->size) == EVH_OK);
    } else {
        void *block = evh_malloc(survivor->heap, own->size);
        REQUIRE(block != NULL);
        ref = evh_ref_to(survivor->heap, block);
    }
    own->offset = ref.offset;
    scenario_stamp(block_of(survivor, own->offset), own->offset, own->size);
    return NULL;
}

static const char *survivor_free(struct survivor *survivor, struct kept *own)
{
    void *block = block_of(survivor, own->offset);
    evh_ref ref = {own->offset};
    REQUIRE(scenario_is_stamped(block, own->offset, own->size));
    if (test_random(&survivor->random) % 4 == 0) {
        REQUIRE(evh_free_from(survivor->heap, &ref) == EVH_OK);
    } else {
        evh_free(survivor->heap, block);
        REQUIRE(evh_usable_size(survivor->heap, block) == 0);
    }
    own->offset = 0;
    return NULL;
}

/* Free a block that the dead one, or another, left. */
static const char *survivor_free_kept(struct survivor *survivor)
{
    struct kept *kept = &world->kept[test_random(&survivor->random) % world->kept_count];
    if (kept->is_freed || kept->offset == world->target) return NULL;
    struct kept freed = *kept;
    kept->is_freed = true;
    return survivor_free(survivor, &freed);
}

static const char *survivor_work(struct survivor *survivor)
{
    for (unsigned i = 0; i < SURVIVOR_OPERATIONS; i++) {
        struct kept *own = &survivor->own[test_random(&survivor->random) % SURVIVOR_BLOCKS];
        const char *wrong = NULL;
        if (test_random(&survivor->random) % 6 == 0)
            wrong = survivor_free_kept(survivor);
        else if (own->offset)
            wrong = survivor_free(survivor, own);
        else
            wrong = survivor_allocate(survivor, own);
        if (wrong) return wrong;
    }
    return NULL;
}

/* What the survivor has made is its own, whatever was done for the dead meanwhile. */
static const char *survivor_clear(struct survivor *survivor)
{
    for (unsigned i = 0; i < SURVIVOR_BLOCKS; i++) {
        struct kept *own = &survivor->own[i];
        if (!own->offset) continue;
        REQUIRE(evh_usable_size(survivor->heap, block_of(survivor, own->offset)) >= own->size);
        const char *wrong = survivor_free(survivor, own);
        if (wrong) return wrong;
    }
    return NULL;
}

/* ---- what is live at the end ---- */

/* Of each 16 bytes of the heap: what the block there is. */
enum mark { MARK_NONE, MARK_KEPT, MARK_NAMED };

static unsigned char marks[SCENARIO_HEAP_BYTES_MAX / 16];

static void mark_internal(uint64_t offset, void *context)
{
    (void)context;
    marks[offset / 16] = MARK_NAMED;
}

static void mark_all(struct survivor *survivor, enum mark kept_mark, enum mark named_mark)
{
    const evh_ref *refs = world->slots ? block_of(survivor, world->slots) : NULL;
    for (uint32_t i = 0; i < world->kept_count; i++)
        if (!world->kept[i].is_freed) marks[world->kept[i].offset / 16] = (unsigned char)kept_mark;
    for (unsigned i = 0; refs && i < SCENARIO_SLOTS; i++)
        marks[refs[i].offset / 16] = (unsigned char)named_mark;
    for (evh_root_info root = {0}; evh_root_next(survivor->heap, &root);)
        marks[root.block.offset / 16] = (unsigned char)named_mark;
    if (named_mark == MARK_NAMED) live_roots_each_internal(survivor->heap, mark_internal, NULL);
}

static bool classify(const evh_block *block, void *context)
{
    struct survivor *survivor = context;
    const unsigned char mark = marks[block->ref.offset / 16];
    survivor->visited++;
    if (block->ref.offset == world->target) survivor->target_seen = true;
    if (mark == MARK_KEPT) survivor->kept_seen++;
    if (mark == MARK_NONE) {
        survivor->extra++;
        if (getenv("V"))
            printf("    not named: 0x%llx, %zu bytes\n", (unsigned long long)block->ref.offset,
                   block->size);
    }
    return true;
}

/* Nothing was lost, and nothing is there that nobody names. */
static const char *check_blocks(struct survivor *survivor)
{
    uint64_t kept = 0;
    for (uint32_t i = 0; i < world->kept_count; i++) kept += !world->kept[i].is_freed;
    memset(marks, MARK_NONE, base_min(sizeof marks, live_end(survivor->heap->live) << 12));
    mark_all(survivor, MARK_KEPT, MARK_NAMED);
    REQUIRE(evh_walk(survivor->heap, classify, survivor) == EVH_OK);
    const bool target_ended = world->target != 0 && !survivor->target_seen;
    REQUIRE(survivor->kept_seen + target_ended == kept);
    REQUIRE(survivor->extra <= (scenario->flags & LEAKS));
    REQUIRE(!target_ended || !(scenario->flags & MOVES) || survivor->extra == 1);
    if (world->slots) {
        const evh_ref *refs = block_of(survivor, world->slots);
        for (unsigned i = 0; i < SCENARIO_SLOTS; i++)
            REQUIRE(!refs[i].offset ||
                    evh_usable_size(survivor->heap, block_of(survivor, refs[i].offset)) > 0);
    }
    return NULL;
}

static const char *recover_in(struct survivor *survivor, bool reaps_first)
{
    if (reaps_first) (void)live_reap(survivor->heap->live);
    REQUIRE(evh_check(survivor->heap, NULL, NULL) == EVH_OK);
    const char *wrong = check_kept(survivor);
    if (!wrong) wrong = survivor_work(survivor);
    if (wrong) return wrong;
    (void)live_reap(survivor->heap->live);
    wrong = survivor_clear(survivor);
    if (!wrong) wrong = check_blocks(survivor);
    if (!wrong) wrong = check_kept(survivor);
    if (wrong) return wrong;
    REQUIRE(evh_check(survivor->heap, NULL, NULL) == EVH_OK);
    return NULL;
}

static const char *recover(const struct step_image images[], bool joins, bool variant)
{
    struct survivor survivor = {.random = judged};
    for (uint32_t i = 0; i < world->kept_count; i++) world->kept[i].is_freed = false;
    survivor.heap = step_copy_open(&copy, images, joins, variant, SCENARIO_HEAP_BYTES_MAX);
    REQUIRE(survivor.heap != NULL);
    const char *wrong = recover_in(&survivor, variant);
    const evh_status status = evh_close(survivor.heap);
    if (wrong) return wrong;
    REQUIRE(status == EVH_OK);
    recoveries++;
    return NULL;
}

/* Both as a survivor, and as who comes when nobody survived. */
static const char *judge(const struct step_image images[], void *context)
{
    (void)context;
    judged++;
    if (!images[0].exists) return NULL;
    const char *wrong = NULL;
    for (unsigned i = 0; i < 2 && !wrong; i++) {
        if (!(scenario->flags & ALONE)) wrong = recover(images, true, i);
        if (!wrong) wrong = recover(images, false, i);
    }
    return wrong;
}

/* ---- running ---- */

static void prepare_child(void *context)
{
    (void)context;
    scenario->prepare();
}

static void operate_child(void *context)
{
    (void)context;
    scenario->operate();
}

static void run_scenario(struct step_result *result, bool compares_always)
{
    const struct step_plan plan = {.paths = {copy.live_path, copy.live_session_path},
                                   .prepare = prepare_child,
                                   .operate = operate_child,
                                   .judge = judge,
                                   .skip = &world->skip,
                                   .compares_always = compares_always};
    step_copy_clear(&copy);
    memset(world, 0, sizeof *world);
    const bool fine = step_run(&plan, result);
    if (!fine)
        test_fail(__FILE__, __LINE__, "%s: %s %s", scenario->name, result->problem, world->error);
    CHECK(fine);
    if (getenv("V"))
        printf("    %-40s %7llu points, %5llu images\n", scenario->name,
               (unsigned long long)result->points, (unsigned long long)result->images);
}

static void set_up(void)
{
    step_copy_begin(&copy);
    world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(world != MAP_FAILED);
    scenario_use(copy.live_path, world);
}

static void tear_down(void)
{
    munmap(world, sizeof *world);
    step_copy_end(&copy);
}

TEST(a_kill_at_any_instruction_of_a_live_heap_breaks_nothing)
{
    uint64_t points = 0, images = 0;
    set_up();
    for (unsigned i = 0; i < scenario_count; i++) {
        struct step_result result;
        scenario = &scenarios[i];
        if (getenv("SCENARIO") && !strstr(scenario->name, getenv("SCENARIO"))) continue;
        if (scenario->flags & LONG && test_effort(1) < 2) continue;
        run_scenario(&result, false);
        points += result.points;
        images += result.images;
    }
    tear_down();
    printf("    %llu points, %llu different images, %llu recoveries, 0 bad\n",
           (unsigned long long)points, (unsigned long long)images, (unsigned long long)recoveries);
}

/* ---- a process that is stopped in the middle, and goes on ---- */

static struct survivor bystander;

/* Roots that the operation may be about come and go, and are there at the end as before. */
static const char *beside_roots(void)
{
    evh_heap *heap = bystander.heap;
    const bool was_there = evh_root_find(heap, "another root", NULL) != NULL;
    for (unsigned i = 0; i < 3; i++) {
        REQUIRE(evh_root(heap, "another root", i % 2 ? 16 : 100) != NULL ||
                evh_last_error()->status == EVH_INVALID);
        if (i == 2 && was_there) break;
        REQUIRE(evh_root_remove(heap, "another root") == EVH_OK);
    }
    return NULL;
}

static const char *act_beside(void *context)
{
    (void)context;
    const evh_options options = {.mode = EVH_LIVE,
                                 .misuse = EVH_MISUSE_STATUS,
                                 .must_exist = true,
                                 .size_max_bytes = SCENARIO_HEAP_BYTES_MAX};
    bystander = (struct survivor){.random = judged, .heap = evh_open(copy.live_path, &options)};
    REQUIRE(bystander.heap != NULL);
    const char *wrong = check_kept(&bystander);
    if (!wrong) wrong = survivor_work(&bystander);
    if (!wrong) wrong = beside_roots();
    if (!wrong) wrong = survivor_work(&bystander);
    (void)live_sweep(threads_attach(bystander.heap), 0, NULL);
    if (!wrong) REQUIRE(evh_trim(bystander.heap, NULL) == EVH_OK);
    return wrong;
}

/* The child is through, and lives. */
static const char *act_behind(void *context)
{
    (void)context;
    REQUIRE(!world->has_failed);
    REQUIRE(evh_check(bystander.heap, NULL, NULL) == EVH_OK);
    const char *wrong = check_kept(&bystander);
    if (!wrong) wrong = survivor_work(&bystander);
    return wrong;
}

/* The child is dead. */
static const char *act_at_last(void)
{
    (void)live_reap(bystander.heap->live);
    const char *wrong = survivor_clear(&bystander);
    if (!wrong) wrong = check_blocks(&bystander);
    if (!wrong) wrong = check_kept(&bystander);
    if (wrong) return wrong;
    REQUIRE(evh_check(bystander.heap, NULL, NULL) == EVH_OK);
    REQUIRE(evh_close(bystander.heap) == EVH_OK);
    bystander.heap = NULL;
    return NULL;
}

static void run_beside(uint64_t stop_at, struct step_result *result)
{
    static const struct step_others others = {act_beside, act_behind};
    const struct step_plan plan = {.paths = {copy.live_path, copy.live_session_path},
                                   .prepare = prepare_child,
                                   .operate = operate_child};
    step_copy_clear(&copy);
    memset(world, 0, sizeof *world);
    judged++;
    const bool fine = step_run_beside(&plan, stop_at, &others, result);
    const char *wrong = fine ? act_at_last() : result->problem;
    if (wrong)
        test_fail(__FILE__, __LINE__, "%s, stopped at store %llu: %s %s", scenario->name,
                  (unsigned long long)stop_at, wrong, world->error);
    CHECK(wrong == NULL);
}

TEST(a_process_that_is_stopped_before_any_store_goes_on_whatever_others_do)
{
    enum { STOPS = 4, STOPS_ALL = 100, STORES_MAX = 3000, SHARE = 4 };
    uint64_t random = test_seed(), stops = 0;
    set_up();
    for (unsigned i = 0; i < scenario_count; i++) {
        struct step_result result;
        scenario = &scenarios[i];
        if (getenv("SCENARIO") && !strstr(scenario->name, getenv("SCENARIO"))) continue;
        if (scenario->flags & (LONG | ALONE | VARIES)) continue;
        if (!getenv("SCENARIO") && test_effort(1) < 2 && i % SHARE != test_seed() % SHARE) continue;
        run_beside(UINT64_MAX, &result); /* to its end: others come afterwards */
        const uint64_t stores = base_min(result.stores, STORES_MAX);
        const char *asked = getenv("STOPS");
        const uint64_t wanted = asked                ? strtoull(asked, NULL, 10)
                                : test_effort(1) > 1 ? STOPS_ALL
                                                     : STOPS;
        const uint64_t count = base_min(wanted, stores);
        for (uint64_t k = 0; k < count; k++, stops++) /* all of them, if there are so few */
            run_beside(count == stores ? k + 1 : 1 + test_random(&random) % stores, &result);
    }
    tear_down();
    printf("    %llu stops\n", (unsigned long long)stops);
}

/* Files are compared only behind instructions that may store: that must not miss any. */
TEST(no_store_to_a_live_heap_is_missed_between_instructions)
{
    set_up();
    for (unsigned i = 0; i < scenario_count; i++) {
        struct step_result result, careful;
        scenario = &scenarios[i];
        if (i % 5 != test_seed() % 5 || scenario->flags & (LONG | VARIES)) continue;
        run_scenario(&result, false);
        if (result.points > 8000) continue;
        run_scenario(&careful, true);
        CHECK_EQUAL(result.images, careful.images);
    }
    tear_down();
}
