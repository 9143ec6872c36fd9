/* live_bench.c -- live heaps: attaching a process, and what a dead one leaves to do. */
#include "bench.h"
#include "heap/heap.h" /* for the sweep alone */

#include <everheap/inspect.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Method
 *   Attach: this process has a heap open that another has filled; processes of their own open it,
 *   one after the other: the time of evh_open(), and until the content of a root is there, is
 *   taken inside.
 *
 *   Death: for each run a new heap. This process attaches; another fills the heap with blocks
 *   (random ones freed again, so that slices are partly full) and is killed. What there is to do
 *   after a death is nothing, in the sense that any block may be freed and any size allocated at
 *   once: shown is the first allocation, which sees that a process has died only if it has to look
 *   for a slice. All that the dead left is put in order by a sweep: its slices are nobody's, what
 *   was freed in them by others is folded, empty ones are free again. The heap does it before it
 *   grows; evh_trim() does it on demand. Shown is the time for one slice: of this process's first
 *   look, in which the kernel maps their bitmaps; of the second; and of one after another process
 *   has freed all blocks and was killed, so that each slice becomes free. Nothing else in a heap is
 *   recovered, and nothing of it when a heap is opened.
 *
 *   The same for a durable heap, where opening with options.verify does all that is otherwise done
 *   segment by segment at first use: the difference to an opening without, for one slice.
 */

enum { RUNS_MAX = 64, BLOCK_BYTES = 320, SLICE_BLOCKS = 65536 / BLOCK_BYTES };

static const char about[] = "Measure live heaps: attaching, and after a death.\n"
                            "usage: live_bench [options]";

static struct bench_option options[] = {
    {"tiny", "64 MiB only, fewer runs: to see that it works", false, NULL},
    {"child", "internal: attach, fill or free", true, NULL},
    {"path", "internal: the heap", true, NULL},
    {"slices", "internal: how much to fill", true, NULL},
    {0},
};

static const evh_options live = {.mode = EVH_LIVE};

/* ---- children ---- */

static int child_attach(const char *path)
{
    const uint64_t start = bench_now_ns();
    evh_heap *const heap = evh_open(path, &live);
    const uint64_t opened = bench_now_ns();
    bench_require(heap != NULL, "open");
    const uint64_t *const root = evh_root_find(heap, "live", NULL);
    bench_require(root != NULL && *root == 42, "root");
    const uint64_t reached = bench_now_ns();
    printf("%llu %llu", (unsigned long long)(opened - start),
           (unsigned long long)(reached - start));
    bench_require(evh_close(heap) == EVH_OK, "close");
    return 0;
}

/* Blocks in so many slices; a fifth is freed again. */
static void fill(evh_heap *heap, uint64_t slices)
{
    uint64_t random = 3;
    void *blocks[SLICE_BLOCKS];
    for (uint64_t i = 0; i < slices; i++) {
        for (unsigned k = 0; k < SLICE_BLOCKS; k++) {
            blocks[k] = evh_malloc(heap, BLOCK_BYTES);
            bench_require(blocks[k] != NULL, "block");
        }
        for (unsigned k = 0; k < SLICE_BLOCKS / 10; k++) {
            const size_t chosen = bench_random(&random) % SLICE_BLOCKS;
            evh_free(heap, blocks[chosen]);
            blocks[chosen] = NULL;
        }
    }
}

static int child_fill(const char *path)
{
    evh_heap *const heap = evh_open(path, &live);
    bench_require(heap != NULL, "open");
    uint64_t *const root = evh_root(heap, "live", sizeof *root);
    bench_require(root != NULL, "root");
    *root = 42;
    fill(heap, bench_option_number(options, "slices", 1));
    raise(SIGKILL);
    return 1;
}

static bool free_block(const evh_block *block, void *heap)
{
    if (block->size == BLOCK_BYTES) evh_free(heap, block->address);
    return true;
}

static int child_free(const char *path)
{
    evh_heap *const heap = evh_open(path, &live);
    bench_require(heap != NULL, "open");
    bench_require(evh_walk(heap, free_block, heap) == EVH_OK, "walk");
    raise(SIGKILL);
    return 1;
}

/* ---- the driver ---- */

struct figures {
    double values[RUNS_MAX];
    unsigned count;
};

static void add(struct figures *figures, double value)
{
    figures->values[figures->count++] = value;
}

/* Run a process that kills itself in the end. */
static void run_killed(const char *path, const char *child, uint64_t slices)
{
    char path_word[4096], slices_word[64];
    snprintf(path_word, sizeof path_word, "--path=%s", path);
    snprintf(slices_word, sizeof slices_word, "--slices=%llu", (unsigned long long)slices);
    const char *const arguments[] = {child, path_word, slices_word, NULL};
    struct bench_result result = bench_run_self(arguments, NULL, false);
    if (!WIFSIGNALED(result.status) || WTERMSIG(result.status) != SIGKILL)
        bench_die("%s failed (status %d)", child, result.status);
    free(result.output);
}

static void run_attach(const char *path, struct figures *opened, struct figures *reached)
{
    char path_word[4096];
    snprintf(path_word, sizeof path_word, "--path=%s", path);
    const char *const arguments[] = {"--child=attach", path_word, NULL};
    struct bench_result result = bench_run_self(arguments, NULL, false);
    double times[2];
    if (result.status != 0 || sscanf(result.output, "%lf %lf", &times[0], &times[1]) != 2)
        bench_die("attaching failed (status %d)", result.status);
    add(opened, times[0]);
    add(reached, times[1]);
    free(result.output);
}

static double timed_sweep(evh_heap *heap)
{
    struct cache *const cache = threads_attach(heap);
    bench_require(cache != NULL, "attach");
    const uint64_t start = bench_now_ns();
    (void)live_sweep(cache, 0, NULL);
    return (double)(bench_now_ns() - start);
}

struct deaths {
    struct figures first, sweep, again, empty;
};

/* A heap in which a process has died. */
static void run_death(evh_heap *heap, const char *path, uint64_t slices, struct deaths *deaths)
{
    (void)timed_sweep(heap); /* its code is there */
    run_killed(path, "--child=fill", slices);
    const uint64_t start = bench_now_ns();
    bench_require(evh_malloc(heap, 2 * BLOCK_BYTES) != NULL, "malloc");
    add(&deaths->first, (double)(bench_now_ns() - start));
    add(&deaths->sweep, timed_sweep(heap) / (double)slices);
    add(&deaths->again, timed_sweep(heap) / (double)slices);
}

/* Another one has freed everything and died. */
static void run_free(evh_heap *heap, const char *path, uint64_t slices, struct deaths *deaths)
{
    run_killed(path, "--child=free", slices);
    add(&deaths->empty, timed_sweep(heap) / (double)slices);
    evh_info info;
    bench_require(evh_get_info(heap, &info) == EVH_OK, "info");
    if (info.free_bytes < slices << 16) bench_die("slices were not given back");
}

static void print_figure(const char *name, struct figures *figures, double target_ns)
{
    const double median = bench_median(figures->values, figures->count);
    printf("  %-52s %10s %10s  %s\n", name, bench_time_text(median),
           bench_time_text(figures->values[figures->count - 1]),
           target_ns <= 0        ? ""
           : median <= target_ns ? "within target"
                                 : "ABOVE TARGET");
}

static void run_live(uint64_t slices, unsigned runs)
{
    static struct deaths deaths;
    static struct figures opened, reached;
    memset(&deaths, 0, sizeof deaths);
    opened.count = reached.count = 0;
    for (unsigned i = 0; i < runs; i++) {
        char *const path = bench_file("live");
        evh_heap *const heap = evh_open(path, &live);
        bench_require(heap != NULL, "open");
        run_death(heap, path, slices, &deaths);
        if (i + 1 == runs)
            for (unsigned k = 0; k < 21; k++) run_attach(path, &opened, &reached);
        run_free(heap, path, slices, &deaths);
        bench_require(evh_check(heap, NULL, NULL) == EVH_OK, "check");
        bench_require(evh_close(heap) == EVH_OK, "close");
        bench_file_end(path);
    }
    printf("\n## a live heap of %llu slices (%.0f MiB)\n\n  %-52s %10s %10s\n",
           (unsigned long long)slices, (double)slices / 16, "", "median", "worst");
    print_figure("attach a second process: evh_open", &opened, 1e6);
    print_figure("  and find a root", &reached, 1e6);
    print_figure("first allocation after a kill", &deaths.first, 0);
    print_figure("sweep, per slice: mapped by the kernel meanwhile", &deaths.sweep, 0);
    print_figure("  mapped already", &deaths.again, 50);
    print_figure("  mapped already, and each becomes free", &deaths.empty, 50);
}

static double timed_open(const char *path, bool verify)
{
    const evh_options how = {.must_exist = true, .verify = verify};
    const uint64_t start = bench_now_ns();
    evh_heap *const heap = evh_open(path, &how);
    const uint64_t end = bench_now_ns();
    bench_require(heap != NULL, "open");
    bench_require(evh_close(heap) == EVH_OK, "close");
    return (double)(end - start);
}

static void run_durable(uint64_t slices, unsigned runs)
{
    static struct figures plain, verified;
    plain.count = verified.count = 0;
    char *const path = bench_file("live_durable");
    evh_heap *const heap = evh_open(path, NULL);
    bench_require(heap != NULL, "open");
    fill(heap, slices);
    bench_require(evh_commit(heap) == EVH_OK, "commit");
    bench_require(evh_close(heap) == EVH_OK, "close");
    for (unsigned i = 0; i < runs; i++) {
        const double without = timed_open(path, false);
        add(&plain, without);
        add(&verified, (timed_open(path, true) - without) / (double)slices);
    }
    bench_file_end(path);
    printf("\n## a durable heap of as many slices\n\n");
    print_figure("open", &plain, 0);
    print_figure("validate and load all segments, for one slice", &verified, 50);
}

int main(int argc, char **argv)
{
    bench_options_read(argc, argv, options, about);
    const char *const child = bench_option(options, "child");
    const char *const path = bench_option(options, "path");
    if (child && strcmp(child, "attach") == 0) return child_attach(path);
    if (child) return strcmp(child, "fill") == 0 ? child_fill(path) : child_free(path);

    const bool is_tiny = bench_option(options, "tiny") != NULL;
    bench_print_machine("# Live heaps: attaching, and after a death");
    run_live(is_tiny ? 1024 : 10240, is_tiny ? 3 : 7);
    run_durable(is_tiny ? 1024 : 10240, is_tiny ? 3 : 11);
    printf("\nTargets: 1 ms to attach; 50 ns for a slice.\n");
    bench_print_command(argc, argv);
    return 0;
}
