/* open_bench.c -- how long it takes to open a heap: after a close, after a kill, warm and cold. */
#include "bench.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Method
 *   A heap of a million live blocks is built once, with plain stores and several commits. Then a
 *   process of its own opens it, again and again: the time from evh_open() to the content of its
 *   root is taken inside; the time of the whole process, from its start to its end, the heap
 *   closed again, by who started it, beside that of a process which does nothing. Another process
 *   then compares what is there with the last commits.
 *
 *   Killed: a process commits until its journal is as full as it gets. The journal is brought
 *   home in the foreground (no_thread), at the whole limit instead of half of it, so this is the
 *   worst case. How many commits that is, it finds out by going through one such cycle; it stops
 *   just before the end of the next, and kills itself. Two kinds of commits: single words on many
 *   pages, which make a short record that changes much, and whole pages.
 *
 *   Cold: the file's pages are dropped from the cache before (not those of the program).
 */

enum { BLOCKS = 1000000, CHANGES = 8, RUNS_MAX = 64, PAGE_BYTES = 4096, AREA_PAGES = 8192 };

struct open_root {
    uint64_t magic;
    uint64_t block_count;
    uint64_t sequence; /* of the filler's last commit */
    uint64_t is_whole; /* whether the filler changes pages of the area, or words of blocks */
    evh_ref blocks;    /* the array of all */
    evh_ref area;      /* one large block besides */
};

/* What a block begins with. */
struct open_block {
    uint64_t number;
    uint64_t sequence; /* of the commit that changed it last */
};

#define OPEN_MAGIC 0x6e65706f68637562ull

static const char about[] = "Measure the opening of large heaps.\n"
                            "usage: open_bench [options]";

static struct bench_option options[] = {
    {"quick", "1 GiB only, fewer runs", false, NULL},
    {"tiny", "96 MiB only: to see that it works", false, NULL},
    {"large", "10 GiB also if less than 30 GB are free", false, NULL},
    {"child", "internal: open, verify, fill or nothing", true, NULL},
    {"path", "internal: the heap", true, NULL},
    {"whole", "internal: fill with whole pages", false, NULL},
    {0},
};

/* ---- the heap ---- */

/* The size of a block, so that their sum is about `total`; some are half as large, some by half
 * larger. */
static size_t block_size(uint64_t number, uint64_t total)
{
    uint64_t random = number;
    const uint64_t mean = total / BLOCKS;
    return (size_t)(mean / 2 + bench_random(&random) % mean) / 8 * 8;
}

static void build_heap(const char *path, uint64_t total)
{
    evh_heap *const heap = evh_open(path, NULL);
    bench_require(heap != NULL, "open");
    struct open_root *const root = evh_root(heap, "open", sizeof *root);
    bench_require(root != NULL, "root");
    evh_ref *const refs = evh_malloc(heap, BLOCKS * sizeof *refs);
    bench_require(refs != NULL, "array");
    const size_t area_bytes = (size_t)AREA_PAGES * PAGE_BYTES;
    void *const area = evh_aligned_alloc(heap, PAGE_BYTES, area_bytes);
    bench_require(area != NULL, "area");
    memset(area, 0, area_bytes);
    uint64_t uncommitted = 0;
    for (uint64_t i = 0; i < BLOCKS; i++) {
        const size_t size = block_size(i, total - area_bytes);
        struct open_block *const block = evh_malloc(heap, size);
        bench_require(block != NULL, "block");
        memset(block, 0, size);
        block->number = i;
        refs[i] = evh_ref_to(heap, block);
        uncommitted += size;
        if (uncommitted < 32 * BENCH_MIB) continue;
        uncommitted = 0;
        bench_require(evh_commit(heap) == EVH_OK, "commit");
    }
    *root = (struct open_root){
        OPEN_MAGIC, BLOCKS, 0, 0, evh_ref_to(heap, refs), evh_ref_to(heap, area)};
    bench_require(evh_commit(heap) == EVH_OK, "commit");
    bench_require(evh_close(heap) == EVH_OK, "close");
}

/* The `i`-th place that commit `sequence` changes: a word, or the first of a page of words. */
static uint64_t *changed_place(evh_heap *heap, const struct open_root *root, uint64_t sequence,
                               uint64_t i)
{
    uint64_t random = (sequence * CHANGES + i) * 3;
    const uint64_t chosen = bench_random(&random);
    if (root->is_whole)
        return (uint64_t *)evh_at(heap, root->area) + chosen % AREA_PAGES * (PAGE_BYTES / 8);
    const evh_ref *const refs = evh_at(heap, root->blocks);
    struct open_block *const block = evh_at(heap, refs[chosen % root->block_count]);
    if (block->number != chosen % root->block_count) bench_die("a block is another");
    return &block->sequence;
}

static size_t changed_words(const struct open_root *root)
{
    return root->is_whole ? PAGE_BYTES / 8 : 1;
}

/* Whether everything is as the last commits left it. */
static void verify_heap(evh_heap *heap, const struct open_root *root)
{
    if (root->magic != OPEN_MAGIC || root->block_count != BLOCKS) bench_die("the root is wrong");
    for (uint64_t back = 0; back < 100 && back < root->sequence; back++) {
        const uint64_t sequence = root->sequence - back;
        for (uint64_t i = 0; i < CHANGES; i++) {
            const uint64_t *const words = changed_place(heap, root, sequence, i);
            /* A later commit may have changed it again. */
            if (words[0] < sequence || words[0] > root->sequence)
                bench_die("commit %llu is where %llu should be", (unsigned long long)words[0],
                          (unsigned long long)sequence);
            for (size_t k = 1; k < changed_words(root); k++)
                if (words[k] != words[0]) bench_die("a page is a mixture of commits");
        }
    }
}

/* ---- children ---- */

static int child_open(const char *path)
{
    const evh_options open_options = {.must_exist = true};
    const uint64_t start = bench_now_ns();
    evh_heap *const heap = evh_open(path, &open_options);
    const uint64_t opened = bench_now_ns();
    bench_require(heap != NULL, "open");
    const struct open_root *const root = evh_root_find(heap, "open", NULL);
    bench_require(root != NULL, "root");
    const uint64_t sequence = root->sequence;
    const uint64_t reached = bench_now_ns();
    printf("%llu %llu %llu", (unsigned long long)(opened - start),
           (unsigned long long)(reached - start), (unsigned long long)sequence);
    bench_require(evh_close(heap) == EVH_OK, "close");
    return 0;
}

static int child_verify(const char *path)
{
    evh_heap *const heap = evh_open(path, NULL);
    bench_require(heap != NULL, "open");
    const struct open_root *const root = evh_root_find(heap, "open", NULL);
    bench_require(root != NULL, "root");
    verify_heap(heap, root);
    bench_require(evh_close(heap) == EVH_OK, "close");
    return 0;
}

static evh_info info_of(evh_heap *heap)
{
    evh_info info;
    bench_require(evh_get_info(heap, &info) == EVH_OK, "info");
    return info;
}

static void fill_commit(evh_heap *heap, struct open_root *root)
{
    root->sequence++;
    for (uint64_t i = 0; i < CHANGES; i++) {
        uint64_t *const words = changed_place(heap, root, root->sequence, i);
        for (size_t k = 0; k < changed_words(root); k++) words[k] = root->sequence;
    }
    bench_require(evh_commit(heap) == EVH_OK, "commit");
}

/* Commit until the next checkpoint was made; how many that took. It asks at every eighth commit,
 * because asking takes time. */
static uint64_t fill_cycle(evh_heap *heap, struct open_root *root)
{
    const uint64_t checkpoints = info_of(heap).checkpoints;
    for (uint64_t count = 1;; count++) {
        fill_commit(heap, root);
        if (count % 8 == 0 && info_of(heap).checkpoints != checkpoints) return count;
        if (count > 1000000) bench_die("no checkpoint in a million commits");
    }
}

static int child_fill(const char *path)
{
    /* Guards spare the thousands of commits here their look at every page of the heap. */
    const evh_options open_options = {.must_exist = true, .no_thread = true, .guards = true};
    evh_heap *const heap = evh_open(path, &open_options);
    bench_require(heap != NULL, "open");
    struct open_root *const root = evh_root_find(heap, "open", NULL);
    bench_require(root != NULL, "root");
    root->is_whole = bench_option(options, "whole") != NULL;
    bench_require(evh_commit(heap) == EVH_OK, "commit");
    bench_require(evh_checkpoint(heap) == EVH_OK, "checkpoint");
    const uint64_t cycle = fill_cycle(heap, root);
    bench_require(evh_checkpoint(heap) == EVH_OK, "checkpoint");

    const evh_info before = info_of(heap);
    for (uint64_t count = 0; count + 10 + cycle / 50 < cycle; count++) fill_commit(heap, root);
    const evh_info info = info_of(heap);
    if (info.checkpoints != before.checkpoints) bench_die("the journal was not to be emptied");
    printf("%llu %llu %llu", (unsigned long long)root->sequence,
           (unsigned long long)info.journal_used_bytes,
           (unsigned long long)(info.pages_committed - before.pages_committed));
    fflush(stdout);
    raise(SIGKILL);
    return 1;
}

/* ---- the driver ---- */

struct runs {
    double opened[RUNS_MAX], reached[RUNS_MAX], process[RUNS_MAX];
    unsigned count;
    uint64_t journal_bytes, pages; /* at the kill */
    uint64_t cached_bytes;         /* that could not be dropped */
};

enum before { AFTER_CLOSE, AFTER_KILL_WORDS, AFTER_KILL_WHOLE };

static char *path_argument(const char *path)
{
    const size_t size = strlen(path) + 8;
    char *const argument = bench_memory(1, size);
    snprintf(argument, size, "--path=%s", path);
    return argument;
}

/* Run a process that fills the journal and kills itself; the number of its last commit. */
static uint64_t run_fill(const char *argument, enum before before, struct runs *runs)
{
    const char *const arguments[] = {"--child=fill", argument,
                                     before == AFTER_KILL_WHOLE ? "--whole" : NULL, NULL};
    struct bench_result result = bench_run_self(arguments, NULL, false);
    unsigned long long sequence, bytes, pages;
    if (!WIFSIGNALED(result.status) || WTERMSIG(result.status) != SIGKILL ||
        sscanf(result.output, "%llu %llu %llu", &sequence, &bytes, &pages) != 3)
        bench_die("filling the journal failed (status %d)", result.status);
    runs->journal_bytes = bytes;
    runs->pages = pages;
    free(result.output);
    return sequence;
}

static uint64_t run_open(const char *argument, struct runs *runs)
{
    const char *const arguments[] = {"--child=open", argument, NULL};
    struct bench_result result = bench_run_self(arguments, NULL, false);
    unsigned long long opened, reached, sequence;
    if (result.status != 0 ||
        sscanf(result.output, "%llu %llu %llu", &opened, &reached, &sequence) != 3)
        bench_die("opening failed (status %d)", result.status);
    free(result.output);
    runs->opened[runs->count] = (double)opened;
    runs->reached[runs->count] = (double)reached;
    runs->process[runs->count++] = result.wall_ns;
    return sequence;
}

static void run_verify(const char *argument)
{
    const char *const arguments[] = {"--child=verify", argument, NULL};
    struct bench_result result = bench_run_self(arguments, NULL, false);
    if (result.status != 0) bench_die("what was committed is not there");
    free(result.output);
}

static double run_nothing(unsigned count)
{
    static const char *const arguments[] = {"--child=nothing", NULL};
    double values[RUNS_MAX];
    for (unsigned i = 0; i < count; i++) {
        struct bench_result result = bench_run_self(arguments, NULL, false);
        values[i] = result.wall_ns;
        free(result.output);
    }
    return bench_median(values, count);
}

static void print_runs(const char *name, struct runs *runs, double nothing_ns, double target_ns)
{
    const double opened = bench_median(runs->opened, runs->count);
    const double reached = bench_median(runs->reached, runs->count);
    const double process = bench_median(runs->process, runs->count);
    printf("  %-34s %5u %10s %10s %10s %10s %8s  %s\n", name, runs->count, bench_time_text(opened),
           bench_time_text(reached), bench_time_text(runs->reached[runs->count - 1]),
           bench_time_text(process), bench_ratio_text(process, nothing_ns),
           target_ns <= 0         ? ""
           : reached <= target_ns ? "within target"
                                  : "ABOVE TARGET");
    if (runs->journal_bytes)
        printf("  %-34s journal of %.1f MiB, %llu pages in its records\n", "",
               (double)runs->journal_bytes / (double)BENCH_MIB, (unsigned long long)runs->pages);
    if (runs->cached_bytes)
        printf("  %-34s %.1f MiB stayed in the cache\n", "",
               (double)runs->cached_bytes / (double)BENCH_MIB);
    fflush(stdout);
}

static void measure(const char *path, enum before before, bool is_cold, unsigned count,
                    double nothing_ns)
{
    static const char *const names[] = {"after a close", "after a kill, words",
                                        "after a kill, whole pages"};
    struct runs runs = {0};
    char *const argument = path_argument(path);
    for (unsigned i = 0; i < count; i++) {
        uint64_t sequence = 0;
        if (before != AFTER_CLOSE) sequence = run_fill(argument, before, &runs);
        if (is_cold) runs.cached_bytes = bench_file_make_cold(path);
        const uint64_t found = run_open(argument, &runs);
        if (before != AFTER_CLOSE && found != sequence)
            bench_die("commit %llu was acknowledged, commit %llu was found",
                      (unsigned long long)sequence, (unsigned long long)found);
        if (before != AFTER_CLOSE) run_verify(argument);
    }
    char name[64];
    snprintf(name, sizeof name, "%s, %s", names[before], is_cold ? "cold" : "warm");
    const double target_ns = is_cold ? 0 : before == AFTER_CLOSE ? 1e6 : 20e6;
    print_runs(name, &runs, nothing_ns, target_ns);
    free(argument);
}

static void check_heap(const char *path)
{
    evh_heap *const heap = evh_open(path, NULL);
    bench_require(heap != NULL, "open");
    bench_require(evh_check(heap, NULL, NULL) == EVH_OK, "check");
    const uint64_t blocks = info_of(heap).live_blocks;
    if (blocks < BLOCKS || blocks > BLOCKS + 16) /* array, area, root, the heap's own */
        bench_die("%llu live blocks", (unsigned long long)blocks);
    printf("  verified: every last commit was there; `check` finds nothing wrong with %llu live "
           "blocks\n",
           (unsigned long long)blocks);
    bench_require(evh_close(heap) == EVH_OK, "close");
}

static void run_size(const char *title, uint64_t total, unsigned closes, unsigned kills)
{
    char *const path = bench_file("open");
    const uint64_t start = bench_now_ns();
    build_heap(path, total);
    evh_heap *const heap = evh_open(path, NULL);
    bench_require(heap != NULL, "open");
    const evh_info info = info_of(heap);
    bench_require(evh_close(heap) == EVH_OK, "close");
    printf("\n## %s: %llu live blocks, %.2f GiB in them, a file of %.2f GiB (built in %s)\n\n",
           title, (unsigned long long)info.live_blocks, (double)info.live_bytes / (double)BENCH_GIB,
           (double)info.file_bytes / (double)BENCH_GIB,
           bench_time_text((double)(bench_now_ns() - start)));
    printf("  %-34s %5s %10s %10s %10s %10s %8s\n", "", "", "evh_open", "to root", "to root",
           "whole", "/ empty");
    printf("  %-34s %5s %10s %10s %10s %10s %8s\n", "", "runs", "median", "median", "worst",
           "process", "process");
    bench_file_make_warm(path);
    const double nothing_ns = run_nothing(closes);
    printf("  %-34s %5u %10s %10s %10s %10s\n", "a process that does nothing", closes, "", "", "",
           bench_time_text(nothing_ns));
    for (unsigned is_cold = 0; is_cold < 2; is_cold++) {
        measure(path, AFTER_CLOSE, is_cold, closes, nothing_ns);
        measure(path, AFTER_KILL_WORDS, is_cold, kills, nothing_ns);
        measure(path, AFTER_KILL_WHOLE, is_cold, kills, nothing_ns);
    }
    check_heap(path);
    bench_file_end(path);
}

static int run_as_child(const char *child)
{
    const char *const path = bench_option(options, "path");
    if (strcmp(child, "open") == 0) return child_open(path);
    if (strcmp(child, "verify") == 0) return child_verify(path);
    if (strcmp(child, "fill") == 0) return child_fill(path);
    return 0;
}

int main(int argc, char **argv)
{
    bench_options_read(argc, argv, options, about);
    const char *const child = bench_option(options, "child");
    if (child) return run_as_child(child);

    const bool is_quick = bench_option(options, "quick") != NULL;
    bench_print_machine("# Opening a heap: a million live blocks");
    if (bench_option(options, "tiny")) {
        run_size("96 MiB", 96 * BENCH_MIB, 3, 1);
    } else {
        run_size("1 GiB", BENCH_GIB, is_quick ? 11 : 21, is_quick ? 3 : 5);
        const bool has_space = bench_space_bytes() > 30000000000u;
        if (bench_option(options, "large") || (!is_quick && has_space))
            run_size("10 GiB", 10 * BENCH_GIB, is_quick ? 11 : 21, is_quick ? 3 : 5);
        else
            printf("\nleft out: 10 GiB (%s)\n",
                   is_quick ? "--large includes it" : "30 GB should be free, or give --large");
    }
    printf(
        "\nTargets: the root's content within 1 ms after a close, within 20 ms after a kill with a "
        "full journal,\nwarm (medians). Whole process: from its start to its end, the heap closed "
        "again.\n");
    bench_print_command(argc, argv);
    return 0;
}
