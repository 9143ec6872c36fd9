/* live_arena_test.c -- arenas and pools in a live heap: several processes, and kills. */
#include <everheap.h>

#include "support/live_heap.h"
#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_ref *ref_root(evh_heap *heap, const char *name)
{
    evh_ref *ref = evh_root(heap, name, sizeof *ref);
    CHECK(ref != NULL);
    return ref;
}

/* Wait until a child, which counts its operations, has come that far; it must not end by itself. */
static void wait_until(const pid_t *children, unsigned count, const uint64_t *operations,
                       uint64_t until)
{
    while (__atomic_load_n(operations, __ATOMIC_RELAXED) < until) {
        for (unsigned i = 0; i < count; i++)
            if (children[i]) CHECK_EQUAL(waitpid(children[i], NULL, WNOHANG), 0);
        usleep(100);
    }
}

static void kill_child(pid_t child)
{
    int status = 0;
    kill(child, SIGKILL);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
}

/* ---- arenas ---- */

enum { NOTES = 4000 };

/* What a process that is about to be killed says, in memory shared with its parent: a block is
 * noted when it is filled. */
struct note {
    evh_ref block;
    uint32_t size;
    uint32_t serial;
};

struct notes {
    uint32_t count; /* atomic: of the notes below that hold */
    uint64_t operations;
    struct note notes[NOTES];
};

static void fill(unsigned char *bytes, const struct note *note)
{
    for (uint32_t i = 0; i < note->size; i++) bytes[i] = (unsigned char)(note->serial * 7 + i);
}

static void lost(uint32_t byte, uint32_t note)
{
    test_fail(__FILE__, __LINE__, "byte %u of note %u is lost", byte, note);
    test_stop();
}

static void check_notes(evh_heap *heap, const evh_arena *arena, const struct notes *notes)
{
    for (uint32_t n = 0; n < notes->count; n++) {
        const struct note *note = &notes->notes[n];
        const unsigned char *bytes = evh_at(heap, note->block);
        CHECK(evh_arena_holds(arena, bytes, note->size));
        for (uint32_t i = 0; i < note->size; i++)
            if (bytes[i] != (unsigned char)(note->serial * 7 + i)) lost(i, n);
    }
}

static void allocate_noted(evh_heap *heap, evh_arena *arena, struct notes *notes, uint64_t *random)
{
    struct note *note = &notes->notes[notes->count];
    note->size = (uint32_t)(test_random(random) % 40 ? 1 + test_random(random) % 300
                                                     : 1 + test_random(random) % 60000);
    note->serial = (uint32_t)notes->operations;
    unsigned char *bytes = evh_arena_alloc(arena, note->size, 1u << test_random(random) % 7);
    CHECK(bytes != NULL);
    fill(bytes, note);
    note->block = evh_ref_to(heap, bytes);
    __atomic_store_n(&notes->count, notes->count + 1, __ATOMIC_RELEASE);
}

/* Allocate, release and reset, until killed. */
static void use_arena(const char *path, struct notes *notes, uint64_t random)
{
    struct {
        evh_mark mark;
        uint32_t count;
    } marks[8];
    unsigned mark_count = 0;
    evh_heap *heap = live_open(path);
    evh_arena *arena = evh_arena_open(heap, *ref_root(heap, "arena"), NULL);
    CHECK(arena != NULL);
    check_notes(heap, arena, notes);
    for (;; notes->operations++) {
        const uint64_t kind = test_random(&random) % 100;
        if (kind < 2 && mark_count < 8) {
            marks[mark_count].mark = evh_arena_mark(arena);
            marks[mark_count++].count = notes->count;
        } else if (kind < 3 && mark_count > 0) {
            /* What is about to end is forgotten first. */
            __atomic_store_n(&notes->count, marks[--mark_count].count, __ATOMIC_RELEASE);
            CHECK_EQUAL(evh_arena_release(arena, marks[mark_count].mark), EVH_OK);
        } else if (notes->count == NOTES || test_random(&random) % 3000 == 0) {
            __atomic_store_n(&notes->count, 0, __ATOMIC_RELEASE);
            evh_arena_reset(arena);
            mark_count = 0;
        } else {
            allocate_noted(heap, arena, notes, &random);
        }
    }
}

/*
 * Strategy   A process uses an arena of a live heap and is killed at some moment; the next one goes
 *            on with it. Again and again.
 * Invariants What was handed out keeps its bytes and is not handed out again; the heap holds the
 *            arena's blocks and no others; it does not grow without end.
 */
TEST(an_arena_in_a_live_heap_survives_whoever_is_killed)
{
    const char *path = test_path("live");
    uint64_t random = test_seed(), most = 0;
    struct notes *notes =
        mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(notes != MAP_FAILED);
    evh_heap *heap = live_open(path);
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.heap = heap, .size_bytes = 20000});
    CHECK(arena != NULL);
    *ref_root(heap, "arena") = evh_arena_ref(arena);
    const uint64_t others = live_look(heap).live_blocks; /* with the arena's record */
    evh_arena_close(arena);
    for (uint64_t round = 0; round < test_effort(40); round++) {
        const uint64_t seed = test_random(&random);
        const uint64_t until = notes->operations + test_random(&random) % 3000;
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) use_arena(path, notes, seed);
        wait_until(&child, 1, &notes->operations, until);
        kill_child(child);

        evh_heap *look = live_open(path);
        arena = evh_arena_open(look, *ref_root(look, "arena"), NULL);
        CHECK(arena != NULL);
        check_notes(look, arena, notes);
        evh_arena_stats stats;
        evh_arena_get_stats(arena, &stats);
        if (stats.reserved_bytes > most) most = stats.reserved_bytes;
        evh_arena_close(arena);
        /* The dead one is mended when its slot is taken, or when the heap would grow. */
        live_close(look);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = live_open(path); /* nobody is attached: all is mended */
    arena = evh_arena_open(heap, *ref_root(heap, "arena"), NULL);
    evh_arena_stats stats;
    evh_arena_get_stats(arena, &stats);
    CHECK_EQUAL(live_look(heap).live_blocks, others + stats.chunks);
    CHECK_EQUAL(evh_arena_remove(arena), EVH_OK);
    CHECK_EQUAL(live_look(heap).live_blocks, others - 1);
    CHECK(most < 256u << 20);
    live_close(heap);
    munmap(notes, sizeof *notes);
}

TEST(what_was_set_apart_and_not_handed_out_is_lost_to_a_kill_only)
{
    const char *path = test_path("live");
    evh_heap *heap = live_open(path);
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.heap = heap});
    unsigned char *first = evh_arena_alloc(arena, 100, 1);
    CHECK(first != NULL);
    const evh_ref ref = evh_arena_ref(arena), at = evh_ref_to(heap, first);
    evh_arena_close(arena);
    arena = evh_arena_open(heap, ref, NULL);
    CHECK_EQUAL(evh_ref_to(heap, evh_arena_alloc(arena, 100, 1)).offset, at.offset - 100);

    const pid_t child = fork();
    if (child == 0) {
        arena = evh_arena_open(heap, ref, NULL); /* as it was before this handle set memory apart */
        (void)evh_arena_alloc(arena, 50, 1);
        kill(getpid(), SIGKILL);
    }
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    evh_arena *next = evh_arena_open(heap, ref, NULL);
    const uint64_t after = evh_ref_to(heap, evh_arena_alloc(next, 100, 1)).offset;
    CHECK(after <= at.offset - 350 && after > at.offset - 9000);
    evh_arena_close(next);
    evh_arena_close(arena);
    live_close(heap);
}

/* What two handles have handed out, they may not hand out again, nor may what comes after them. */
TEST(a_handle_that_was_overtaken_by_another_is_told_and_changes_nothing)
{
    evh_heap *heap = live_open(test_path("live"));
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.heap = heap});
    CHECK(evh_arena_alloc(arena, 100, 1) != NULL);
    const evh_mark mark = evh_arena_mark(arena);
    evh_arena *second = evh_arena_open(heap, evh_arena_ref(arena), NULL);
    unsigned char *block = evh_arena_alloc(second, 1000, 1);
    CHECK(block != NULL);

    CHECK(evh_arena_alloc(arena, 8000, 1) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_STALE);
    CHECK_EQUAL(evh_arena_release(arena, mark), EVH_STALE);
    evh_arena_reset(arena);
    CHECK(evh_arena_holds(second, block, 1000));
    evh_arena_close(arena);
    evh_arena_close(second);
    arena = evh_arena_open(heap, evh_ref_to(heap, block), NULL);
    CHECK(arena == NULL);
    live_close(heap);
}

TEST(an_arena_goes_on_after_its_live_heap_was_saved)
{
    evh_heap *heap = live_open(test_path("live"));
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.heap = heap});
    const evh_ref ref = evh_arena_ref(arena);
    unsigned char *first = evh_arena_alloc(arena, 100, 1);
    CHECK_EQUAL(evh_save(heap, test_path("saved")), EVH_OK);
    unsigned char *block = evh_arena_alloc(arena, 100, 1); /* of what was set apart before */
    CHECK(block < first);
    evh_arena *next = evh_arena_open(heap, ref, NULL); /* as after a kill of whoever had it */
    CHECK(evh_arena_holds(next, block, 100));
    evh_arena_close(next);
    evh_arena_close(arena);
    live_close(heap);
}

TEST(an_arena_in_a_live_heap_answers_stale_when_that_is_closed)
{
    evh_heap *heap = live_open(test_path("live"));
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.heap = heap});
    evh_pool *pool = evh_pool_create(&(evh_pool_options){.heap = heap, .size_bytes = 32});
    CHECK(evh_arena_alloc(arena, 10, 0) != NULL);
    CHECK(evh_pool_get(pool) != NULL);
    live_close(heap);
    CHECK(evh_arena_alloc(arena, 10, 0) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_STALE);
    CHECK(evh_pool_get(pool) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_STALE);
    evh_arena_close(arena);
    evh_pool_close(pool);
}

TEST(a_debugged_arena_in_a_live_heap_finds_misuse)
{
    evh_heap *heap = live_open(test_path("live"));
    evh_arena *arena =
        evh_arena_create(&(evh_arena_options){.heap = heap, .debug = "CJVR", .name = "frame"});
    unsigned char *block = evh_arena_alloc(arena, 100, 16);
    const evh_mark mark = evh_arena_mark(arena);
    for (unsigned i = 0; i < 2000; i++) CHECK(evh_arena_alloc(arena, 100, 16) != NULL);
    CHECK_EQUAL(evh_arena_check(arena), EVH_OK);
    CHECK_EQUAL(evh_arena_release(arena, mark), EVH_OK);
    block[100] = 1;
    CHECK_EQUAL(evh_arena_check(arena), EVH_OVERWRITTEN);
    evh_arena_close(arena);
    live_close(heap);
}

/* ---- pools ---- */

enum { PROCESSES = 3, HELD = 200, POOL_BLOCK_BYTES = 48 };

/* The first word of a block says who has it: nobody, or one process. */
struct owned_block {
    uint64_t owner; /* atomic */
    unsigned char rest[POOL_BLOCK_BYTES - 8];
};

static void take(evh_pool *pool, struct owned_block **held, uint64_t me)
{
    struct owned_block *block = evh_pool_get(pool);
    CHECK(block != NULL);
    const uint64_t before = __atomic_exchange_n(&block->owner, me, __ATOMIC_RELAXED);
    CHECK_EQUAL(before, 0); /* else another process has it, too */
    memset(block->rest, (int)me, sizeof block->rest);
    *held = block;
}

static void give(evh_pool *pool, struct owned_block **held, uint64_t me)
{
    struct owned_block *block = *held;
    for (size_t i = 0; i < sizeof block->rest; i++) CHECK_EQUAL(block->rest[i], me % 256);
    const uint64_t before = __atomic_exchange_n(&block->owner, 0, __ATOMIC_RELAXED);
    CHECK_EQUAL(before, me);
    evh_pool_put(pool, block);
    *held = NULL;
}

static void use_pool(const char *path, uint64_t me, uint64_t random, uint64_t *operations)
{
    struct owned_block *held[HELD] = {NULL};
    evh_heap *heap = live_open(path);
    evh_pool *pool = evh_pool_open(heap, *ref_root(heap, "pool"), NULL);
    CHECK(pool != NULL);
    for (;;) {
        struct owned_block **one = &held[test_random(&random) % HELD];
        if (*one)
            give(pool, one, me);
        else
            take(pool, one, me);
        (void)__atomic_fetch_add(operations, 1, __ATOMIC_RELAXED);
    }
}

struct counting {
    uint64_t of_nobody, of_somebody;
};

static bool count_owners(void *block, void *context)
{
    struct counting *counting = context;
    const struct owned_block *owned = block;
    if (owned->owner)
        counting->of_somebody++;
    else
        counting->of_nobody++;
    return true;
}

/*
 * Strategy   Processes get and put blocks of one pool; now and then one is killed, and another
 *            comes.
 * Invariants No block has two owners; of a killed process at most one block is in use that says it
 *            is nobody's (it was about to be filled, or to be put); all slabs are the pool's.
 */
TEST(processes_share_a_pool_and_may_be_killed)
{
    const char *path = test_path("live");
    uint64_t random = test_seed(), kills = 0;
    uint64_t *operations =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[PROCESSES];
    evh_heap *heap = live_open(path);
    evh_pool *pool = evh_pool_create(
        &(evh_pool_options){.heap = heap, .size_bytes = POOL_BLOCK_BYTES, .name = "shared"});
    CHECK(pool != NULL);
    *ref_root(heap, "pool") = evh_pool_ref(pool);
    const uint64_t others = live_look(heap).live_blocks;
    for (unsigned i = 0; i < PROCESSES; i++) children[i] = 0;
    for (uint64_t round = 0; round < test_effort(30); round++) {
        const unsigned who = (unsigned)(test_random(&random) % PROCESSES);
        if (children[who]) {
            kill_child(children[who]);
            kills++;
        }
        const uint64_t seed = test_random(&random);
        children[who] = fork();
        CHECK(children[who] >= 0);
        if (children[who] == 0) use_pool(path, 1 + round % 250, seed, operations);
        const uint64_t until =
            __atomic_load_n(operations, __ATOMIC_RELAXED) + test_random(&random) % 5000;
        wait_until(children, PROCESSES, operations, until);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (!children[i]) continue;
        kill_child(children[i]);
        kills++;
    }
    evh_pool_close(pool);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = live_open(path);
    pool = evh_pool_open(heap, *ref_root(heap, "pool"), NULL);
    CHECK(pool != NULL);
    struct counting counting = {0, 0};
    CHECK_EQUAL(evh_pool_each(pool, count_owners, &counting), EVH_OK);
    CHECK(counting.of_nobody <= kills);
    CHECK(counting.of_somebody <= kills * HELD);
    evh_pool_stats stats;
    evh_pool_get_stats(pool, &stats);
    CHECK_EQUAL(stats.live, counting.of_nobody + counting.of_somebody);
    CHECK_EQUAL(live_look(heap).live_blocks, others + stats.slabs);
    CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    CHECK_EQUAL(live_look(heap).live_blocks, others - 1);
    live_close(heap);
    munmap(operations, 4096);
}

static void in_child(void (*run)(void *), void *context)
{
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run(context);
        _exit(0);
    }
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct other_side {
    const char *path;
    evh_ref block;
};

static void put_twice(void *context)
{
    const struct other_side *other = context;
    evh_heap *heap = live_open(other->path);
    const evh_pool_options options = {.misuse = EVH_MISUSE_STATUS, .name = "shared"};
    evh_pool *pool = evh_pool_open(heap, *ref_root(heap, "pool"), &options);
    void *block = evh_at(heap, other->block);
    evh_pool_put(pool, block); /* another process got it, of a slab that this one never saw */
    evh_pool_stats stats;
    evh_pool_get_stats(pool, &stats);
    CHECK_EQUAL(stats.live, 0);
    evh_pool_put(pool, block);
    CHECK_EQUAL(evh_last_error()->status, EVH_DOUBLE_FREE);
    evh_pool_put(pool, (unsigned char *)block + 8);
    CHECK_EQUAL(evh_last_error()->status, EVH_BAD_POINTER);
    evh_pool_close(pool);
    live_close(heap);
}

TEST(a_double_put_is_detected_across_processes)
{
    struct other_side other = {.path = test_path("live")};
    evh_heap *heap = live_open(other.path);
    const evh_pool_options options = {
        .heap = heap, .size_bytes = 32, .misuse = EVH_MISUSE_STATUS, .name = "shared"};
    evh_pool *pool = evh_pool_create(&options);
    *ref_root(heap, "pool") = evh_pool_ref(pool);
    void *block = evh_pool_get(pool);
    other.block = evh_ref_to(heap, block);
    in_child(put_twice, &other);
    evh_pool_put(pool, block);
    CHECK_EQUAL(evh_last_error()->status, EVH_DOUBLE_FREE);
    CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    live_close(heap);
}

static void get_many(void *context)
{
    const struct other_side *other = context;
    evh_heap *heap = live_open(other->path);
    evh_pool *pool = evh_pool_open(heap, *ref_root(heap, "pool"), NULL);
    for (unsigned i = 0; i < 3000; i++) CHECK(evh_pool_get(pool) != NULL);
    evh_pool_close(pool);
    live_close(heap);
}

static bool put_visited(void *block, void *context)
{
    evh_pool_put(context, block);
    return true;
}

TEST(blocks_that_another_process_has_put_are_used_before_the_pool_grows)
{
    struct other_side other = {.path = test_path("live")};
    evh_heap *heap = live_open(other.path);
    const evh_pool_options options = {.heap = heap, .size_bytes = 64, .count_max = 4000};
    evh_pool *pool = evh_pool_create(&options);
    *ref_root(heap, "pool") = evh_pool_ref(pool);
    in_child(get_many, &other);
    evh_pool_stats stats;
    evh_pool_get_stats(pool, &stats);
    CHECK_EQUAL(stats.live, 3000);
    uint64_t got = 0;
    while (evh_pool_get(pool)) got++;
    CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
    evh_pool_get_stats(pool, &stats);
    CHECK_EQUAL(stats.live, 3000 + got);
    CHECK_EQUAL(stats.live, stats.capacity);
    const uint64_t slabs = stats.slabs;
    evh_pool *second = evh_pool_open(heap, *ref_root(heap, "pool"), NULL);
    CHECK_EQUAL(evh_pool_each(second, put_visited, second), EVH_OK);
    evh_pool_close(second);
    in_child(get_many, &other);
    while (evh_pool_get(pool)) got++;
    evh_pool_get_stats(pool, &stats);
    CHECK_EQUAL(stats.slabs, slabs);
    CHECK_EQUAL(stats.live, stats.capacity);
    CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    live_close(heap);
}

TEST(letters_for_a_pool_in_a_live_heap_are_refused)
{
    evh_heap *heap = live_open(test_path("live"));
    CHECK(evh_pool_create(&(evh_pool_options){.heap = heap, .size_bytes = 32, .debug = "J"}) ==
          NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_MODE);
    evh_pool *pool =
        evh_pool_create(&(evh_pool_options){.heap = heap, .size_bytes = 32, .debug = "RV"});
    CHECK(pool != NULL);
    evh_pool_put(pool, heap); /* told, not fatal */
    CHECK_EQUAL(evh_last_error()->status, EVH_BAD_POINTER);
    CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    live_close(heap);
}

/* ---- a live heap that is saved is a durable one ---- */

TEST(arenas_and_pools_of_a_live_heap_go_on_in_the_durable_one_that_it_is_saved_as)
{
    const char *path = test_path("live");
    const char *saved = test_path("saved");
    void *blocks[2000];
    evh_heap *heap = live_open(path);
    evh_pool *pool = evh_pool_create(&(evh_pool_options){.heap = heap, .size_bytes = 100});
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.heap = heap, .size_bytes = 4096});
    *ref_root(heap, "pool") = evh_pool_ref(pool);
    *ref_root(heap, "arena") = evh_arena_ref(arena);
    for (unsigned i = 0; i < 2000; i++) {
        blocks[i] = evh_pool_get(pool);
        memcpy(blocks[i], &i, sizeof i);
    }
    for (unsigned i = 0; i < 2000; i += 2) evh_pool_put(pool, blocks[i]);
    char *text = NULL;
    for (unsigned i = 0; i < 3000; i++) text = evh_arena_printf(arena, "text %u", i);
    const evh_ref last = evh_ref_to(heap, text);
    CHECK_EQUAL(evh_save(heap, saved), EVH_OK);
    evh_arena_close(arena);
    evh_pool_close(pool);
    live_close(heap);

    for (unsigned round = 0; round < 3; round++) {
        heap = evh_open(saved, NULL);
        CHECK(heap != NULL);
        pool = evh_pool_open(heap, *ref_root(heap, "pool"), NULL);
        arena = evh_arena_open(heap, *ref_root(heap, "arena"), NULL);
        CHECK(pool != NULL);
        CHECK(arena != NULL);
        evh_pool_stats stats;
        evh_pool_get_stats(pool, &stats);
        CHECK_EQUAL(stats.live, 1000 + round * 3000);
        CHECK_EQUAL(strcmp(evh_at(heap, last), "text 2999"), 0);
        for (unsigned i = 0; i < 3000; i++) CHECK(evh_pool_get(pool) != NULL);
        for (unsigned i = 0; i < 3000; i++) CHECK(evh_arena_printf(arena, "more %u", i) != NULL);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK(evh_pool_get(pool) != NULL);
        for (unsigned i = 0; i < 3000; i++) CHECK(evh_arena_printf(arena, "lost %u", i) != NULL);
        CHECK_EQUAL(evh_rollback(heap), EVH_OK);
        evh_pool_get_stats(pool, &stats);
        CHECK_EQUAL(stats.live, 1000 + (round + 1) * 3000);
        evh_pool_close(pool);
        evh_arena_close(arena);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
    heap = evh_open(saved, NULL);
    pool = evh_pool_open(heap, *ref_root(heap, "pool"), NULL);
    arena = evh_arena_open(heap, *ref_root(heap, "arena"), NULL);
    CHECK_EQUAL(evh_pool_remove(pool), EVH_OK);
    CHECK_EQUAL(evh_arena_remove(arena), EVH_OK);
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK(info.live_blocks < 20); /* the catalog, roots */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}
