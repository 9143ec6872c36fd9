/* crash_test.c -- a heap survives every crash that the simulated machine can think of.
 *
 * Strategy: random workloads drive a heap through the public interface in a simulated machine
 * (support/os_sim.h). At every write and flush of its log, images of what a power cut or a kill may
 * leave are built, opened by the library and checked (support/explore.h); some go on working and
 * are crashed again, in their recovery too, to depth 2.
 * Invariants: the heap opens; evh_check finds nothing; its content is that of the last acknowledged
 * commit or of one begun later, never an older one, never a failed one, never a mixture; a killed
 * process leaves all that it handed to the system; nothing leaks.
 *
 * 200,000 images, scaled by EFFORT or set by CRASH_IMAGES. CRASH_JOBS processes (one per processor)
 * share them. A violation names the SEED that repeats it, with CRASH_JOBS=1.
 */
#include "support/explore.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IMAGES = 200000, JOBS_MAX = 16, SEEDS_PER_JOB = 1000003 };

/* What a process that explores sends its parent. */
struct outcome {
    struct explore_counts counts;
    char violation[1024];
};

static uint64_t images_wanted(uint64_t percent)
{
    const char *text = getenv("CRASH_IMAGES");
    const uint64_t all = text ? strtoull(text, NULL, 0) : test_effort(IMAGES);
    return all * percent / 100 + 1;
}

static unsigned jobs_wanted(void)
{
    const char *text = getenv("CRASH_JOBS");
    const long jobs = text ? strtol(text, NULL, 0) : sysconf(_SC_NPROCESSORS_ONLN);
    return jobs < 1 ? 1 : jobs > JOBS_MAX ? JOBS_MAX : (unsigned)jobs;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void job(const struct explore_plan *plan, uint64_t seed, uint64_t images, int pipe_end)
{
    struct explorer *explorer = explorer_create(plan);
    struct outcome outcome = {.violation = ""};
    explore(explorer, seed, images);
    outcome.counts = explorer->counts;
    memcpy(outcome.violation, explorer->violation, sizeof outcome.violation);
    explorer_end(explorer);
    if (write(pipe_end, &outcome, sizeof outcome) != (ssize_t)sizeof outcome) _exit(2);
    _exit(0);
}

static void counts_add(struct explore_counts *sum, const struct explore_counts *counts)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)counts;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) to[i] += from[i];
}

/* Explore in processes of their own. The first violation is the test's; the counts are summed
 * up. */
static struct explore_counts run(const struct explore_plan *plan, uint64_t percent)
{
    const unsigned jobs = jobs_wanted();
    const uint64_t seed = test_seed(), images = images_wanted(percent) / jobs + 1;
    const double start = now();
    int ends[JOBS_MAX];
    pid_t processes[JOBS_MAX];
    fflush(stdout);
    for (unsigned i = 0; i < jobs; i++) {
        int pair[2];
        CHECK(pipe(pair) == 0);
        processes[i] = fork();
        CHECK(processes[i] >= 0);
        if (processes[i] == 0) job(plan, seed + (uint64_t)i * SEEDS_PER_JOB, images, pair[1]);
        close(pair[1]);
        ends[i] = pair[0];
    }
    struct explore_counts sum = {0};
    char violation[1024] = "";
    for (unsigned i = 0; i < jobs; i++) {
        struct outcome outcome = {.violation = "an exploring process ended without a word"};
        const ssize_t got = read(ends[i], &outcome, sizeof outcome);
        close(ends[i]);
        waitpid(processes[i], NULL, 0);
        if (got == (ssize_t)sizeof outcome) counts_add(&sum, &outcome.counts);
        if (!violation[0]) memcpy(violation, outcome.violation, sizeof violation);
    }
    explore_report(&sum, plan->work->name, now() - start);
    if (violation[0]) {
        test_fail(__FILE__, __LINE__, "%s", violation);
        test_stop();
    }
    return sum;
}

TEST(a_crash_leaves_the_last_commit_or_the_one_in_flight)
{
    static const struct workload_plan work = {.name = "small ring",
                                              .steps = 120,
                                              .slots = 40,
                                              .mutate = 10,
                                              .commit = 6,
                                              .rollback = 1,
                                              .checkpoint = 1,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 6,
                                              .checkpoint_bytes = 24 << 10,
                                              .private_max_bytes = 48 << 10};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 12, .nested_every = 50, .nested_images = 30};
    run(&plan, 30);
}

TEST(pages_of_64_kib_lose_nothing_that_lies_beside_what_is_dropped)
{
    static const struct workload_plan work = {.name = "large pages",
                                              .steps = 160,
                                              .slots = 60,
                                              .mutate = 10,
                                              .commit = 6,
                                              .group = 1,
                                              .rollback = 2,
                                              .checkpoint = 3,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 20,
                                              .checkpoint_bytes = 24 << 10,
                                              .private_max_bytes = 64 << 10,
                                              .system_page_bytes = 64 << 10};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 4, .nested_every = 50, .nested_images = 20};
    run(&plan, 5);
}

TEST(commits_in_flight_survive_in_the_order_they_were_begun)
{
    static const struct workload_plan work = {.name = "group commit",
                                              .steps = 120,
                                              .slots = 24,
                                              .mutate = 8,
                                              .commit = 1,
                                              .group = 9,
                                              .rollback = 1,
                                              .checkpoint = 1,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 2,
                                              .checkpoint_bytes = 32 << 10};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 12, .nested_every = 50, .nested_images = 30};
    run(&plan, 15);
}

TEST(a_crash_while_the_journal_and_the_heap_grow_loses_nothing)
{
    static const struct workload_plan work = {.name = "growing",
                                              .steps = 80,
                                              .slots = 40,
                                              .mutate = 8,
                                              .commit = 6,
                                              .group = 2,
                                              .rollback = 1,
                                              .checkpoint = 1,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 25,
                                              .varied = true,
                                              .large = 4,
                                              .checkpoint_bytes = 512 << 10};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 8, .nested_every = 50, .nested_images = 24};
    run(&plan, 15);
}

/* New pages are written home at once, and what a crash leaves of them lies where the heap grows
 * next: by rollbacks and recoveries it grows there again and again. */
TEST(a_crash_while_new_pages_are_written_home_at_once_loses_nothing)
{
    static const struct workload_plan work = {.name = "bulk",
                                              .steps = 14,
                                              .slots = 24,
                                              .mutate = 10,
                                              .commit = 6,
                                              .group = 2,
                                              .rollback = 3,
                                              .checkpoint = 2,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 10,
                                              .large = 60,
                                              .bulk_pages = 2,
                                              .checkpoint_bytes = 24 << 10,
                                              .background = true};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 6, .nested_every = 20, .nested_images = 20};
    run(&plan, 8);
}

TEST(a_failure_while_new_pages_are_written_home_at_once_loses_nothing)
{
    static const struct workload_plan work = {.name = "bulk faults",
                                              .steps = 24,
                                              .slots = 16,
                                              .mutate = 10,
                                              .commit = 6,
                                              .group = 2,
                                              .rollback = 3,
                                              .checkpoint = 1,
                                              .trim = 2,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 10,
                                              .large = 40,
                                              .bulk_pages = 2,
                                              .fault = 6,
                                              .fault_kinds = SIM_FAULT_WRITE | SIM_FAULT_FLUSH |
                                                             SIM_FAULT_ALLOCATE | SIM_FAULT_MEMORY,
                                              .checkpoint_bytes = 24 << 10};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 8, .nested_every = 40, .nested_images = 24};
    run(&plan, 6);
}

TEST(a_crash_beside_the_background_checkpointer_loses_nothing)
{
    static const struct workload_plan work = {.name = "background",
                                              .steps = 150,
                                              .slots = 32,
                                              .mutate = 10,
                                              .commit = 8,
                                              .group = 3,
                                              .rollback = 1,
                                              .checkpoint = 1,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 4,
                                              .checkpoint_bytes = 64 << 10,
                                              .private_max_bytes = 64 << 10,
                                              .background = true};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 10, .nested_every = 50, .nested_images = 24};
    run(&plan, 15);
}

TEST(a_crash_while_space_is_given_back_loses_nothing)
{
    static const struct workload_plan work = {.name = "trimming",
                                              .steps = 60,
                                              .slots = 12,
                                              .mutate = 8,
                                              .commit = 5,
                                              .rollback = 1,
                                              .checkpoint = 1,
                                              .trim = 3,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 10,
                                              .large = 60,
                                              .checkpoint_bytes = 256 << 10};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 6, .nested_every = 50, .nested_images = 20};
    run(&plan, 4);
}

/* The ring grows for every commit that is larger than what suits the heap, which is its first
 * extent, and gives that back. The heap grows over the place. */
TEST(a_crash_while_the_journal_shrinks_loses_nothing)
{
    static const struct workload_plan work = {.name = "shrinking",
                                              .steps = 30,
                                              .slots = 16,
                                              .mutate = 12,
                                              .commit = 6,
                                              .rollback = 1,
                                              .checkpoint = 1,
                                              .trim = 6,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 10,
                                              .large = 40,
                                              .bulk_pages = 48,
                                              .checkpoint_bytes = 24 << 10};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 6, .nested_every = 30, .nested_images = 24};
    run(&plan, 5);
}

TEST(a_failed_write_or_flush_never_loses_or_resurrects_a_commit)
{
    static const struct workload_plan work = {.name = "faults",
                                              .steps = 120,
                                              .slots = 32,
                                              .mutate = 10,
                                              .commit = 6,
                                              .group = 2,
                                              .rollback = 2,
                                              .checkpoint = 1,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 6,
                                              .fault = 6,
                                              .fault_kinds = SIM_FAULT_WRITE | SIM_FAULT_FLUSH |
                                                             SIM_FAULT_ALLOCATE | SIM_FAULT_MEMORY,
                                              .checkpoint_bytes = 24 << 10};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 10, .nested_every = 50, .nested_images = 24};
    run(&plan, 15);
}

TEST(the_kernels_dirty_pages_are_all_committed)
{
    static const struct workload_plan work = {.name = "real tiers",
                                              .steps = 120,
                                              .slots = 40,
                                              .mutate = 10,
                                              .commit = 6,
                                              .group = 1,
                                              .rollback = 2,
                                              .checkpoint = 2,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 6,
                                              .checkpoint_bytes = 24 << 10,
                                              .private_max_bytes = 24 << 10,
                                              .real_tiers = true};
    static const struct explore_plan plan = {
        .work = &work, .images_per_cut = 10, .nested_every = 50, .nested_images = 30};
    run(&plan, 6);
}

/*
 * A disk that acknowledges every flush and keeps what it likes: after a power cut nothing is
 * promised, but that the library neither crashes nor leaks. A killed process loses nothing.
 */
TEST(a_disk_that_lies_about_flushes_takes_nothing_from_a_killed_process)
{
    static const struct workload_plan work = {.name = "lying disk",
                                              .steps = 60,
                                              .slots = 24,
                                              .mutate = 8,
                                              .commit = 6,
                                              .group = 2,
                                              .rollback = 1,
                                              .checkpoint = 2,
                                              .reopen = 1,
                                              .kill = 1,
                                              .medium = 6,
                                              .checkpoint_bytes = 24 << 10};
    static const struct explore_plan plan = {.work = &work, .images_per_cut = 6, .disk_lies = true};
    const struct explore_counts counts = run(&plan, 5);
    enum { ENOUGH = 2000 }; /* images for the rarest of these to be among them */
    CHECK(counts.kills > 0);
    CHECK(counts.refused > 0 || counts.images < ENOUGH);
    CHECK(counts.older > 0 || counts.images < ENOUGH);
}

/* ---- readers in the simulated machine: every interleaving is one thread's ---- */

enum { VIEWS = 3, WRITER_PROCESS = 1, VIEW_HISTORY = 4096 };

struct view {
    evh_heap *heap;
    uint64_t hash; /* what it showed first; 0: it was not read yet */
    size_t floor;  /* commits older than this one may not be seen */
};

struct stage {
    struct sim *machine;
    struct workload work;
    struct view views[VIEWS];
    uint64_t history[VIEW_HISTORY];
    size_t commits;
    uint64_t random;
};

static const struct workload_plan view_plan = {.name = "views",
                                               .slots = 32,
                                               .mutate = 6,
                                               .commit = 5,
                                               .checkpoint = 3,
                                               .medium = 10,
                                               .checkpoint_bytes = 32 << 10,
                                               .journal_max_bytes = 256 << 10,
                                               .size_max_bytes = 32 << 20};

static evh_options view_options(void)
{
    evh_options options = workload_options(&view_plan);
    options.mode = EVH_READ_ONLY;
    options.must_exist = true;
    return options;
}

/* Read everything. If the view says that it is valid afterwards, what it showed must be one
 * commit. */
static void view_look(struct stage *stage, struct view *view)
{
    const uint64_t hash = content_hash(view->heap);
    if (!evh_view_valid(view->heap)) {
        CHECK_EQUAL(evh_refresh(view->heap), EVH_OK);
        CHECK(evh_view_valid(view->heap));
        view->hash = 0;
        view->floor = stage->commits - 1;
        return;
    }
    if (view->hash) CHECK_EQUAL(hash, view->hash);
    size_t at = view->floor;
    while (at < stage->commits && stage->history[at] != hash) at++;
    CHECK(at < stage->commits);
    view->hash = hash;
}

static void view_act(struct stage *stage, struct view *view, uint64_t process)
{
    const evh_options options = view_options();
    sim_set_process(stage->machine, process);
    if (!view->heap) {
        view->heap = evh_open(WORKLOAD_PATH, &options);
        if (!view->heap) {
            test_fail(__FILE__, __LINE__, "a reader cannot open: %s", evh_last_error()->message);
            test_stop();
        }
        *view = (struct view){.heap = view->heap, .floor = stage->commits - 1};
    } else if (test_random(&stage->random) % 4 == 0) {
        CHECK_EQUAL(evh_close(view->heap), EVH_OK);
        view->heap = NULL;
    } else if (test_random(&stage->random) % 3 == 0) {
        CHECK_EQUAL(evh_refresh(view->heap), EVH_OK);
        view->hash = 0;
        view->floor = stage->commits - 1;
    } else {
        view_look(stage, view);
    }
    sim_set_process(stage->machine, WRITER_PROCESS);
}

static void stage_write(struct stage *stage)
{
    struct workload *work = &stage->work;
    const struct workload_plan *plan = work->plan;
    struct workload_plan one = *plan;
    one.mutate = 1;
    one.commit = one.checkpoint = 0;
    if (test_random(&stage->random) % 4 == 0) {
        const evh_status status = evh_checkpoint(work->heap);
        CHECK(status == EVH_OK || status == EVH_BUSY);
        return;
    }
    /* Some changes and a commit: the continued workload ends with one. */
    struct workload next;
    const bool is_right =
        workload_continue(&next, stage->machine, work->heap, &one, &work->window,
                          test_random(&stage->random), 1 + (unsigned)(stage->random % 6));
    if (!is_right) {
        test_fail(__FILE__, __LINE__, "%s", next.problem);
        test_stop();
    }
    CHECK(stage->commits < VIEW_HISTORY);
    stage->history[stage->commits++] = next.last_hash;
}

static void stage_run(uint64_t seed, unsigned steps)
{
    struct stage stage = {.machine = sim_create(seed), .random = seed};
    struct workload_plan start = view_plan;
    start.steps = 4;
    start.checkpoint = 0;
    sim_use(stage.machine);
    if (!workload_run(&stage.work, stage.machine, &start, seed)) {
        test_fail(__FILE__, __LINE__, "%s", stage.work.problem);
        test_stop();
    }
    stage.work.plan = &view_plan;
    stage.history[stage.commits++] = stage.work.last_hash;
    for (unsigned i = 0; i < steps; i++) {
        const uint64_t which = test_random(&stage.random) % (2 * VIEWS);
        if (which < VIEWS)
            view_act(&stage, &stage.views[which], WRITER_PROCESS + 1 + which);
        else
            stage_write(&stage);
    }
    for (uint64_t i = 0; i < VIEWS; i++) {
        sim_set_process(stage.machine, WRITER_PROCESS + 1 + i);
        CHECK_EQUAL(evh_close(stage.views[i].heap), EVH_OK);
    }
    sim_set_process(stage.machine, WRITER_PROCESS);
    CHECK_EQUAL(evh_close(stage.work.heap), EVH_OK);
    sim_end(stage.machine);
}

/*
 * Strategy: a writer commits and checkpoints; three readers open, look, look again, refresh and
 * close in between, in random order.
 * Invariant: a view that is valid after it was read showed one commit, none older than the newest
 * durable one when it was taken, and the same one each time.
 */
TEST(a_view_stays_whole_while_the_writer_checkpoints)
{
    const uint64_t runs = test_effort(40);
    for (uint64_t i = 0; i < runs; i++) stage_run(test_seed() + i, 200);
}
