/* live_arena_step_test.c -- a process is killed at every instruction of what it does with an arena
 * or a pool of a live heap.
 *
 * Strategy: as live_step_test.c: a child is stepped through one operation; wherever its death would
 * leave other files, copies are opened, as by a survivor and as by the next one after all were
 * killed.
 * Invariants: evh_check() finds nothing; what was handed out before is there and keeps its bytes,
 * and nobody gets it again; every block of the heap is a chunk, a slab or a record of the two, or
 * was there before; of a pool at most one block more is in use than was got.
 */
#include "support/step_copy.h"
#include "test.h"

#include <everheap.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { KEPT_MAX = 64, HEAP_BYTES_MAX = 64 << 20, POOL_BYTES = 8000, PIECE = 200, NEW_BLOCKS = 40 };

/* What the child tells its parent. */
struct world {
    evh_ref arena, pool;
    evh_ref arena_kept[KEPT_MAX], pool_kept[KEPT_MAX];
    uint32_t arena_count, pool_count;
    evh_ref pool_target;   /* the block that the operation puts; 0: none */
    uint64_t other_blocks; /* of the heap, but for what is the arena's and the pool's */
    bool has_failed;
};

struct arena_scenario {
    const char *name;
    void (*prepare)(void);
    void (*operate)(void);
    bool ends_arena, ends_pool;
};

static struct world *world;
static struct step_copy copy;
static const struct arena_scenario *scenario;
static uint64_t recoveries;

/* ---- the child ---- */

static evh_heap *heap;
static evh_arena *arena;
static evh_pool *pool;
static evh_mark mark;

static void need(bool fine)
{
    if (fine) return;
    world->has_failed = true;
    _exit(1);
}

static void stamp(void *block, uint64_t offset)
{
    memset(block, (int)(offset >> 4 & 0xff), PIECE);
}

static bool is_stamped(const unsigned char *block, uint64_t offset)
{
    for (unsigned i = 0; i < PIECE; i++)
        if (block[i] != (offset >> 4 & 0xff)) return false;
    return true;
}

static void keep_in_arena(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        void *block = evh_arena_alloc(arena, PIECE, 16);
        need(block != NULL);
        const evh_ref ref = evh_ref_to(heap, block);
        stamp(block, ref.offset);
        world->arena_kept[world->arena_count++] = ref;
    }
}

static void *keep_in_pool(void)
{
    void *block = evh_pool_get(pool);
    need(block != NULL);
    const evh_ref ref = evh_ref_to(heap, block);
    stamp(block, ref.offset);
    world->pool_kept[world->pool_count++] = ref;
    return block;
}

static uint64_t own_blocks(evh_arena *of_arena, evh_pool *of_pool)
{
    evh_arena_stats chunks = {0};
    evh_pool_stats slabs = {0};
    if (of_arena) evh_arena_get_stats(of_arena, &chunks);
    if (of_pool) evh_pool_get_stats(of_pool, &slabs);
    return (of_arena ? 1 + chunks.chunks : 0) + (of_pool ? 1 + slabs.slabs : 0);
}

static bool count_block(const evh_block *block, void *context)
{
    (void)block;
    ++*(uint64_t *)context;
    return true;
}

static void prepare(void *context)
{
    (void)context;
    heap = evh_open(copy.live_path,
                    &(evh_options){.mode = EVH_LIVE, .size_max_bytes = HEAP_BYTES_MAX});
    need(heap != NULL);
    arena = evh_arena_create(&(evh_arena_options){.heap = heap, .size_bytes = 16384});
    pool = evh_pool_create(&(evh_pool_options){.heap = heap, .size_bytes = POOL_BYTES});
    need(arena && pool);
    world->arena = evh_arena_ref(arena);
    world->pool = evh_pool_ref(pool);
    keep_in_arena(10);
    for (unsigned i = 0; i < 3; i++) (void)keep_in_pool();
    scenario->prepare();
    uint64_t blocks = 0;
    need(evh_walk(heap, count_block, &blocks) == EVH_OK);
    world->other_blocks = blocks - own_blocks(arena, pool);
}

static void operate(void *context)
{
    (void)context;
    scenario->operate();
}

/* ---- scenarios ---- */

static void prepare_nothing(void)
{
}

/* What was set apart is used up. */
static void prepare_used_up(void)
{
    while (evh_arena_alloc(arena, 16, 16) != NULL) {
        const struct evh_arena_view *view = (const struct evh_arena_view *)(const void *)arena;
        if (view->current == view->start) return;
    }
    need(false);
}

static void operate_alloc(void)
{
    need(evh_arena_alloc(arena, 100, 16) != NULL);
}

static void operate_alloc_chunk(void)
{
    need(evh_arena_alloc(arena, 15000, 16) != NULL);
}

static void operate_alloc_large(void)
{
    need(evh_arena_alloc(arena, 200000, 16) != NULL);
}

static void prepare_mark(void)
{
    mark = evh_arena_mark(arena);
    for (unsigned i = 0; i < 10; i++) need(evh_arena_alloc(arena, 300, 16) != NULL);
}

static void prepare_mark_chunks(void)
{
    mark = evh_arena_mark(arena);
    need(evh_arena_alloc(arena, 20000, 16) && evh_arena_alloc(arena, 150000, 16));
    need(evh_arena_alloc(arena, 200000, 16) != NULL);
}

static void operate_release(void)
{
    need(evh_arena_release(arena, mark) == EVH_OK);
}

/* The largest is in the middle. */
static void prepare_chunks(void)
{
    world->arena_count = 0;
    need(evh_arena_alloc(arena, 20000, 16) && evh_arena_alloc(arena, 300000, 16));
    need(evh_arena_alloc(arena, 290000, 16) && evh_arena_alloc(arena, 280000, 16));
}

static void operate_reset(void)
{
    evh_arena_reset(arena);
}

static void operate_remove_arena(void)
{
    need(evh_arena_remove(arena) == EVH_OK);
}

static void operate_close_arena(void)
{
    evh_arena_close(arena);
}

static void operate_get(void)
{
    need(evh_pool_get(pool) != NULL);
}

static void prepare_full_slab(void)
{
    while (own_blocks(NULL, pool) < 3) (void)keep_in_pool();
    evh_pool_stats stats;
    evh_pool_get_stats(pool, &stats);
    while (stats.live++ < stats.capacity) (void)keep_in_pool();
}

static void prepare_put(void)
{
    world->pool_target = world->pool_kept[--world->pool_count];
}

static void operate_put(void)
{
    evh_pool_put(pool, evh_at(heap, world->pool_target));
}

static void prepare_remove_pool(void)
{
    prepare_full_slab();
    world->pool_count = 0;
}

static void operate_remove_pool(void)
{
    need(evh_pool_remove(pool) == EVH_OK);
}

static const struct arena_scenario arena_scenarios[] = {
    {"arena: set memory apart", prepare_used_up, operate_alloc, false, false},
    {"arena: another chunk", prepare_nothing, operate_alloc_chunk, false, false},
    {"arena: another chunk, large", prepare_nothing, operate_alloc_large, false, false},
    {"arena: release", prepare_mark, operate_release, false, false},
    {"arena: release of chunks", prepare_mark_chunks, operate_release, false, false},
    {"arena: reset", prepare_chunks, operate_reset, false, false},
    {"arena: close", prepare_nothing, operate_close_arena, false, false},
    {"arena: remove", prepare_chunks, operate_remove_arena, true, false},
    {"pool: get", prepare_nothing, operate_get, false, false},
    {"pool: get, another slab", prepare_full_slab, operate_get, false, false},
    {"pool: put", prepare_put, operate_put, false, false},
    {"pool: remove", prepare_remove_pool, operate_remove_pool, false, true},
};

/* ---- the parent: recovering ---- */

static char why[400];

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            snprintf(why, sizeof why, "%s (line %d; last error: %.200s)", #condition, __LINE__,    \
                     evh_last_error()->message);                                                   \
            return why;                                                                            \
        }                                                                                          \
    } while (0)

static const char *check_arena(const evh_heap *found, evh_arena *of)
{
    for (uint32_t i = 0; i < world->arena_count; i++) {
        const evh_ref ref = world->arena_kept[i];
        REQUIRE(evh_arena_holds(of, evh_at(found, ref), PIECE));
        REQUIRE(is_stamped(evh_at(found, ref), ref.offset));
    }
    return NULL;
}

static const char *check_pool(const evh_heap *found, evh_pool *of)
{
    evh_pool_stats stats;
    evh_pool_get_stats(of, &stats);
    REQUIRE(stats.live >= world->pool_count && stats.live <= world->pool_count + 1);
    for (uint32_t i = 0; i < world->pool_count; i++)
        REQUIRE(is_stamped(evh_at(found, world->pool_kept[i]), world->pool_kept[i].offset));
    return NULL;
}

/* Use both: nothing that was kept is handed out again. */
static const char *use_both(const evh_heap *found, evh_arena *of_arena, evh_pool *of_pool)
{
    void *blocks[NEW_BLOCKS];
    for (unsigned i = 0; i < NEW_BLOCKS; i++) {
        blocks[i] = of_pool ? evh_pool_get(of_pool) : NULL;
        REQUIRE(!of_pool || blocks[i]);
        if (blocks[i]) memset(blocks[i], 0xee, POOL_BYTES);
        void *piece = of_arena ? evh_arena_alloc(of_arena, i == 20 ? 100000 : 900, 8) : NULL;
        REQUIRE(!of_arena || piece);
        if (piece) memset(piece, 0xee, 900);
    }
    if (of_arena) {
        const char *wrong = check_arena(found, of_arena);
        if (wrong) return wrong;
    }
    for (unsigned i = 0; i < NEW_BLOCKS; i++)
        if (blocks[i]) evh_pool_put(of_pool, blocks[i]);
    return of_pool ? check_pool(found, of_pool) : NULL;
}

static const char *check_blocks(evh_heap *found, evh_arena *of_arena, evh_pool *of_pool)
{
    uint64_t blocks = 0;
    REQUIRE(evh_walk(found, count_block, &blocks) == EVH_OK);
    REQUIRE(blocks == world->other_blocks + own_blocks(of_arena, of_pool));
    return NULL;
}

static const char *recover_in(evh_heap *found, bool joins)
{
    REQUIRE(evh_check(found, NULL, NULL) == EVH_OK);
    if (joins) (void)live_reap(found->live);
    evh_arena *of_arena = evh_arena_open(found, world->arena, NULL);
    evh_pool *of_pool = evh_pool_open(found, world->pool, NULL);
    REQUIRE(of_arena || scenario->ends_arena);
    REQUIRE(of_pool || scenario->ends_pool);
    const char *wrong = of_arena ? check_arena(found, of_arena) : NULL;
    if (!wrong && of_pool && !scenario->ends_pool) wrong = check_pool(found, of_pool);
    if (!wrong) wrong = check_blocks(found, of_arena, of_pool);
    if (!wrong && !scenario->ends_pool) wrong = use_both(found, of_arena, of_pool);
    if (!wrong) wrong = check_blocks(found, of_arena, of_pool);
    if (wrong) return wrong;
    REQUIRE(evh_arena_remove(of_arena) == EVH_OK);
    REQUIRE(evh_pool_remove(of_pool) == EVH_OK);
    wrong = check_blocks(found, NULL, NULL);
    if (wrong) return wrong;
    REQUIRE(evh_check(found, NULL, NULL) == EVH_OK);
    return NULL;
}

static const char *judge(const struct step_image images[], void *context)
{
    (void)context;
    for (unsigned i = 0; i < 2; i++) {
        const bool joins = i == 0;
        evh_heap *found = step_copy_open(&copy, images, joins, true, HEAP_BYTES_MAX);
        REQUIRE(found != NULL);
        const char *wrong = recover_in(found, joins);
        const evh_status status = evh_close(found);
        if (wrong) return wrong;
        REQUIRE(status == EVH_OK);
        recoveries++;
    }
    return NULL;
}

TEST(a_kill_at_any_instruction_leaves_arenas_and_pools_whole)
{
    uint64_t points = 0, images = 0;
    step_copy_begin(&copy);
    world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(world != MAP_FAILED);
    for (unsigned i = 0; i < sizeof arena_scenarios / sizeof arena_scenarios[0]; i++) {
        struct step_result result;
        scenario = &arena_scenarios[i];
        if (getenv("SCENARIO") && !strstr(scenario->name, getenv("SCENARIO"))) continue;
        const struct step_plan plan = {.paths = {copy.live_path, copy.live_session_path},
                                       .prepare = prepare,
                                       .operate = operate,
                                       .judge = judge};
        step_copy_clear(&copy);
        memset(world, 0, sizeof *world);
        const bool fine = step_run(&plan, &result) && !world->has_failed;
        if (!fine) test_fail(__FILE__, __LINE__, "%s: %s", scenario->name, result.problem);
        CHECK(fine);
        CHECK(result.images > 0);
        if (getenv("V"))
            printf("    %-32s %7llu points, %5llu images\n", scenario->name,
                   (unsigned long long)result.points, (unsigned long long)result.images);
        points += result.points;
        images += result.images;
    }
    munmap(world, sizeof *world);
    step_copy_end(&copy);
    printf("    %llu points, %llu different images, %llu recoveries, 0 bad\n",
           (unsigned long long)points, (unsigned long long)images, (unsigned long long)recoveries);
}
