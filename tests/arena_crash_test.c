/* arena_crash_test.c -- arenas and pools on a durable heap, after every crash and after kills.
 *
 * Strategy: random work (pushing to a list in an arena, releasing and resetting it, getting and
 * putting blocks of a pool, commits, rollbacks) in a simulated machine; at every operation of its
 * log, images of what a power cut may leave: nothing of what was not flushed, all of it, random
 * parts of it. Each is opened, checked, and worked in. The same work is done by a real process that
 * is killed.
 * Invariants: the commit found was begun and is not older than the last acknowledged one; the
 * arena holds the list that the root counts and sums, the pool exactly the blocks that the root
 * names; what is allocated next overlaps none of it; evh_check finds nothing.
 */
#include "support/os_sim.h"
#include "test.h"

#include <everheap.h>

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 60, STEPS = 120, MARK_BEGUN = 1, MARK_DONE = 2, IMAGES_EACH = 4 };

struct item {
    evh_ref next;
    uint64_t value;
};

struct state {
    evh_ref arena, pool;
    uint64_t commit;
    evh_ref first;
    uint64_t count, sum;
    evh_ref slots[SLOTS];
};

struct work {
    evh_heap *heap;
    evh_arena *arena;
    evh_pool *pool;
    struct state *state;
    uint64_t random;
};

/* ---- the work ---- */

static bool work_open(struct work *work, const char *path, uint64_t seed)
{
    const evh_options options = {.no_thread = true, .checkpoint_bytes = 32 << 10};
    *work = (struct work){.random = seed};
    work->heap = evh_open(path, &options);
    if (!work->heap) return false;
    struct state *state = work->state = evh_root(work->heap, "state", sizeof *state);
    if (!state) return false;
    if (state->arena.offset == 0) {
        work->arena = evh_arena_create(
            &(evh_arena_options){.heap = work->heap, .size_bytes = 4096, .debug = ""});
        work->pool = evh_pool_create(
            &(evh_pool_options){.heap = work->heap, .size_bytes = 4000, .debug = ""});
        if (!work->arena || !work->pool) return false;
        state->arena = evh_arena_ref(work->arena);
        state->pool = evh_pool_ref(work->pool);
        return evh_commit(work->heap) == EVH_OK; /* so that no rollback takes them back */
    }
    work->arena = evh_arena_open(work->heap, state->arena, &(evh_arena_options){.debug = ""});
    work->pool = evh_pool_open(work->heap, state->pool, &(evh_pool_options){.debug = ""});
    return work->arena && work->pool;
}

static void work_close(struct work *work)
{
    (void)evh_close(work->heap);
    evh_arena_close(work->arena);
    evh_pool_close(work->pool);
}

static void work_push(struct work *work)
{
    struct item *item = evh_arena_alloc(work->arena, sizeof *item, 8);
    if (!item) return;
    item->value = test_random(&work->random);
    item->next = work->state->first;
    work->state->first = evh_ref_to(work->heap, item);
    work->state->count++;
    work->state->sum += item->value;
}

static void work_clear(struct work *work)
{
    evh_arena_reset(work->arena);
    work->state->first.offset = 0;
    work->state->count = work->state->sum = 0;
}

/* Things that are gone before anyone looks. */
static void work_release(struct work *work)
{
    const evh_mark mark = evh_arena_mark(work->arena);
    for (unsigned i = 0; i < 40; i++) {
        unsigned char *memory = evh_arena_alloc(work->arena, 100, 16);
        if (memory) memset(memory, 0x77, 100);
    }
    (void)evh_arena_release(work->arena, mark);
}

static void work_exchange(struct work *work)
{
    evh_ref *slot = &work->state->slots[test_random(&work->random) % SLOTS];
    if (slot->offset) {
        evh_pool_put(work->pool, evh_at(work->heap, *slot));
        slot->offset = 0;
        return;
    }
    uint64_t *block = evh_pool_get(work->pool);
    if (!block) return;
    *slot = evh_ref_to(work->heap, block);
    for (unsigned i = 0; i < 25; i++) block[i] = slot->offset;
}

/* One step; true: it was none of the others, the caller commits. */
static bool work_step(struct work *work)
{
    const uint64_t kind = test_random(&work->random) % 100;
    if (kind < 40)
        for (unsigned i = 0; i < 30; i++) work_push(work);
    else if (kind < 70)
        for (unsigned i = 0; i < 20; i++) work_exchange(work);
    else if (kind < 74)
        work_clear(work);
    else if (kind < 80)
        work_release(work);
    else if (kind < 84)
        (void)evh_rollback(work->heap);
    else
        return true;
    return false;
}

/* ---- the check ---- */

static bool count_block(void *block, void *context)
{
    if (block) ++*(uint64_t *)context;
    return true;
}

/* NULL, or what is wrong. */
static const char *work_check(const struct work *work)
{
    const struct state *state = work->state;
    uint64_t count = 0, sum = 0, named = 0, seen = 0;
    for (evh_ref ref = state->first; ref.offset && count <= state->count; count++) {
        const struct item *item = evh_at(work->heap, ref);
        if (!item || !evh_arena_holds(work->arena, item, sizeof *item)) return "an item's place";
        sum += item->value;
        ref = item->next;
    }
    if (count != state->count || sum != state->sum) return "the list";
    for (unsigned i = 0; i < SLOTS; i++) {
        if (!state->slots[i].offset) continue;
        const uint64_t *block = evh_at(work->heap, state->slots[i]);
        named++;
        for (unsigned j = 0; j < 25; j++)
            if (!block || block[j] != state->slots[i].offset) return "a block of the pool";
    }
    if (evh_pool_each(work->pool, count_block, &seen) || seen != named) return "the pool's count";
    return evh_check(work->heap, NULL, NULL) ? evh_last_error()->message : NULL;
}

/* Check, work on, check again. */
static const char *work_verify(struct work *work)
{
    const char *wrong = work_check(work);
    for (unsigned i = 0; i < 5 && !wrong; i++) {
        work_push(work);
        work_exchange(work);
    }
    return wrong ? wrong : work_check(work);
}

/* ---- crashes ---- */

struct crash {
    struct sim *machine, *after;
    struct sim_disk *disk;
    uint64_t begun, done, images, random;
};

static void check_image(struct crash *crash, unsigned which)
{
    struct work work;
    sim_image_begin(crash->disk, crash->after, crash->random);
    for (size_t i = 0; i < crash->disk->pending_count; i++)
        if (which == 1 || (which > 1 && test_random(&crash->random) % 2))
            sim_image_apply(crash->disk, crash->after, i);
    sim_use(crash->after);
    sim_set_boot(crash->after, 7 + crash->images);
    crash->images++;
    const bool is_open = work_open(&work, "heap", 5);
    if (!is_open) test_fail(__FILE__, __LINE__, "it does not open: %s", evh_last_error()->message);
    const uint64_t commit = is_open ? work.state->commit : 0;
    const char *wrong = is_open ? work_verify(&work) : NULL;
    if (wrong) test_fail(__FILE__, __LINE__, "commit %llu: %s", (unsigned long long)commit, wrong);
    if (is_open && (commit < crash->done || commit > crash->begun))
        test_fail(__FILE__, __LINE__, "commit %llu, of %llu to %llu", (unsigned long long)commit,
                  (unsigned long long)crash->done, (unsigned long long)crash->begun);
    work_close(&work);
    sim_use(crash->machine);
    if (!is_open || wrong || commit < crash->done || commit > crash->begun) test_stop();
}

static void explore_log(struct crash *crash)
{
    const struct sim_log *log = sim_log(crash->machine);
    for (size_t i = 0; i < log->count; i++) {
        const struct sim_operation *operation = &log->operations[i];
        if (operation->kind == SIM_MARK) {
            if (operation->value == MARK_BEGUN) crash->begun = operation->extra;
            if (operation->value == MARK_DONE) crash->done = operation->extra;
        }
        sim_disk_begin(crash->disk, log, i);
        for (unsigned which = 0; which < IMAGES_EACH; which++) check_image(crash, which);
        sim_disk_unbegin(crash->disk);
        sim_disk_step(crash->disk, log, i);
    }
}

TEST(a_crash_leaves_arenas_and_pools_as_one_commit_had_them)
{
    const uint64_t seed = test_seed();
    struct crash crash = {.machine = sim_create(seed),
                          .after = sim_create(seed + 1),
                          .disk = sim_disk_create(),
                          .random = seed};
    for (uint64_t round = 0; round < test_effort(4); round++) {
        struct work work;
        sim_reset(crash.machine, seed + round);
        sim_disk_reset(crash.disk);
        crash.begun = crash.done = 0;
        sim_use(crash.machine);
        CHECK(work_open(&work, "heap", seed + round));
        for (unsigned step = 0; step < STEPS; step++) {
            if (!work_step(&work)) continue;
            const uint64_t number = ++work.state->commit;
            sim_mark(crash.machine, MARK_BEGUN, number);
            CHECK_EQUAL(evh_commit(work.heap), EVH_OK);
            sim_mark(crash.machine, MARK_DONE, number);
        }
        work_close(&work);
        explore_log(&crash);
    }
    printf("%llu images of arenas and pools\n", (unsigned long long)crash.images);
    sim_use(NULL);
    sim_disk_end(crash.disk);
    sim_end(crash.after);
    sim_end(crash.machine);
    CHECK(crash.images > 500);
}

/* ---- kills ---- */

struct oracle {
    uint64_t begun, done; /* atomic */
};

__attribute__((noreturn)) static void work_until_killed(const char *path, struct oracle *oracle,
                                                        uint64_t seed)
{
    struct work work;
    if (!work_open(&work, path, seed) || work_verify(&work)) _exit(1);
    for (;;) { /* until the parent kills it */
        if (!work_step(&work)) continue;
        const uint64_t number = ++work.state->commit;
        __atomic_store_n(&oracle->begun, number, __ATOMIC_RELEASE);
        if (evh_commit(work.heap)) _exit(2);
        __atomic_store_n(&oracle->done, number, __ATOMIC_RELEASE);
    }
}

TEST(a_killed_process_leaves_arenas_and_pools_as_one_commit_had_them)
{
    const char *path = test_path("killed");
    uint64_t random = test_seed();
    struct oracle *oracle =
        mmap(NULL, sizeof *oracle, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(oracle != MAP_FAILED);
    enum { KILLS_MAX = 1000 };
    uint64_t moment_us = 20000;
    for (uint64_t number = 0; number < test_effort(60) || (oracle->done == 0 && number < KILLS_MAX);
         number++) {
        struct work work;
        int status = 0;
        const uint64_t seed = test_random(&random);
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) work_until_killed(path, oracle, seed);
        /* The moment, not a synchronisation: longer on a system where it was too early for all. */
        usleep((useconds_t)(test_random(&random) % moment_us));
        CHECK_EQUAL(kill(child, SIGKILL), 0);
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status));
        CHECK(work_open(&work, path, seed));
        const char *wrong = work_check(&work);
        if (wrong) test_fail(__FILE__, __LINE__, "%s", wrong);
        CHECK(wrong == NULL);
        CHECK(work.state->commit >= __atomic_load_n(&oracle->done, __ATOMIC_ACQUIRE));
        CHECK(work.state->commit <= __atomic_load_n(&oracle->begun, __ATOMIC_ACQUIRE));
        __atomic_store_n(&oracle->begun, work.state->commit, __ATOMIC_RELEASE);
        __atomic_store_n(&oracle->done, work.state->commit, __ATOMIC_RELEASE);
        if (work.state->commit == 0 && moment_us < 1000000) moment_us *= 2;
        work_close(&work);
    }
    CHECK(oracle->done > 0);
    munmap(oracle, sizeof *oracle);
}
