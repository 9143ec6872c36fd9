/* alloc_bench.c -- what allocation costs, in time and in pages dirtied, beside other allocators. */
#include "bench.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

/*
 * Method
 *   Every figure is measured in a process of its own, so that no test meets what another left.
 *   The allocators take turns at each test, and all tests are repeated; shown is the median.
 *   Others than glibc's replace malloc by LD_PRELOAD, which is how they are meant to be used;
 *   everheap is linked statically. A process asks the allocator for its version, and so proves
 *   that it is there.
 *
 *   After a test everheap's heap is checked, and must have as many live blocks as before it.
 */

/* ---- what is measured ---- */

enum alloc_kind {
    ALLOC_PAIR,
    ALLOC_RING,
    ALLOC_BATCH,
    ALLOC_MIXED,
    ALLOC_ZEROED,
    ALLOC_ALIGNED,
    ALLOC_GROWTH,
    ALLOC_TWO,
    ALLOC_PRODUCER,
    ALLOC_CHURN,
};

enum alloc_order { ORDER_FIRST, ORDER_LAST, ORDER_RANDOM };

struct alloc_test {
    const char *name;
    enum alloc_kind kind;
    size_t size; /* of a block; of mixed sizes the largest */
    size_t live; /* blocks; also the alignment, or by how much a block grows */
    size_t smallest;
    enum alloc_order order;
    bool times_free;
    enum alloc_kind thread_kind; /* of two threads */
};

enum { KIB = 1024, BATCH = 100000 };

static const struct alloc_test tests[] = {
    {"pair 16", ALLOC_PAIR, .size = 16},
    {"pair 64", ALLOC_PAIR, .size = 64},
    {"pair 1024", ALLOC_PAIR, .size = KIB},
    {"pair 4096", ALLOC_PAIR, .size = 4 * KIB},
    {"pair 32K", ALLOC_PAIR, .size = 32 * KIB},
    {"pair 256K", ALLOC_PAIR, .size = 256 * KIB},
    {"ring 64 x 1000", ALLOC_RING, .size = 64, .live = 1000},
    {"ring 64 x 100K", ALLOC_RING, .size = 64, .live = BATCH},
    {"batch 100K FIFO, alloc", ALLOC_BATCH, 64, BATCH, .order = ORDER_FIRST},
    {"batch 100K FIFO, free", ALLOC_BATCH, 64, BATCH, .order = ORDER_FIRST, .times_free = true},
    {"batch 100K LIFO, alloc", ALLOC_BATCH, 64, BATCH, .order = ORDER_LAST},
    {"batch 100K LIFO, free", ALLOC_BATCH, 64, BATCH, .order = ORDER_LAST, .times_free = true},
    {"batch 100K random, alloc", ALLOC_BATCH, 64, BATCH, .order = ORDER_RANDOM},
    {"batch 100K random, free", ALLOC_BATCH, 64, BATCH, .order = ORDER_RANDOM, .times_free = true},
    {"mixed 16-1K, 10K live", ALLOC_MIXED, KIB - 1, 10000, .smallest = 16},
    {"mixed 16-1K, 500K live", ALLOC_MIXED, KIB - 1, 500000, .smallest = 16},
    {"mixed 1K-128K, 1K live", ALLOC_MIXED, 128 * KIB, 1000, .smallest = KIB},
    {"2 threads, pair 64", ALLOC_TWO, .size = 64, .thread_kind = ALLOC_PAIR},
    {"2 threads, ring 64", ALLOC_TWO, .size = 64, .live = 1000, .thread_kind = ALLOC_RING},
    {"2 threads, mixed", ALLOC_TWO, KIB - 1, 10000, 16, .thread_kind = ALLOC_MIXED},
    {"producer-consumer 64", ALLOC_PRODUCER, .size = 64},
    {"producer-consumer 1024", ALLOC_PRODUCER, .size = KIB},
    {"calloc 64", ALLOC_ZEROED, .size = 64},
    {"calloc 4096", ALLOC_ZEROED, .size = 4 * KIB},
    {"aligned 64, 64", ALLOC_ALIGNED, .size = 64, .live = 64},
    {"aligned 64, 256", ALLOC_ALIGNED, .size = 256, .live = 64},
    {"aligned 4096, 4096", ALLOC_ALIGNED, .size = 4 * KIB, .live = 4 * KIB},
    {"realloc x 1.5 to 1M", ALLOC_GROWTH, .size = KIB * KIB},
    {"realloc + 16 to 64K", ALLOC_GROWTH, .size = 64 * KIB, .live = 16},
    {"thread, 100 blocks", ALLOC_CHURN, .size = 64},
};

enum { TESTS = sizeof tests / sizeof tests[0] };

struct dirty_figure {
    const char *name;
    size_t count;
    bool is_replace;
};

enum { DIRTY_FIGURES = 6, AGED_BLOCKS = 1000000 };

static const struct dirty_figure dirty_figures[DIRTY_FIGURES] = {
    {"100 frees", 100, false},   {"1000 frees", 1000, false},   {"10,000 frees", 10000, false},
    {"100 replaces", 100, true}, {"1000 replaces", 1000, true}, {"10,000 replaces", 10000, true},
};

/* ---- what the workloads use ---- */

/* A workload's own arrays: no allocator's business, and not counted as dirtied. */
static void *shared_memory(size_t size)
{
    void *const memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) bench_die("no memory");
    return memory;
}

/* Time in chunks until it is enough; the first chunk is not counted. */
struct alloc_clock {
    uint64_t target_ns, start, elapsed_ns, operations;
    bool is_warm;
};

static struct alloc_clock clock_start(uint64_t target_ns)
{
    return (struct alloc_clock){.target_ns = target_ns, .start = bench_now_ns()};
}

static void clock_pause(struct alloc_clock *clock)
{
    clock->elapsed_ns += bench_now_ns() - clock->start;
}

static void clock_resume(struct alloc_clock *clock)
{
    clock->start = bench_now_ns();
}

static bool clock_goes_on(struct alloc_clock *clock, uint64_t operations)
{
    clock_pause(clock);
    if (!clock->is_warm) {
        clock->is_warm = true;
        clock->elapsed_ns = 0;
    } else {
        clock->operations += operations;
    }
    clock_resume(clock);
    return clock->elapsed_ns < clock->target_ns || clock->operations == 0;
}

static double clock_result(const struct alloc_clock *clock)
{
    return (double)clock->elapsed_ns / (double)clock->operations;
}

static void fill_order(uint32_t *order, size_t count, enum alloc_order kind)
{
    uint64_t random = 7;
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)(kind == ORDER_LAST ? count - 1 - i : i);
    if (kind != ORDER_RANDOM) return;
    for (size_t i = count; i > 1; i--) {
        const size_t k = bench_random(&random) % i;
        const uint32_t other = order[k];
        order[k] = order[i - 1];
        order[i - 1] = other;
    }
}

enum { SIZES = 1 << 16 };

/* Sizes from `smallest` to `largest` whose logarithms are evenly spread. */
static const uint32_t *make_sizes(size_t smallest, size_t largest)
{
    uint32_t *const sizes = shared_memory(SIZES * sizeof *sizes);
    uint64_t random = 3;
    for (size_t i = 0; i < SIZES; i++) {
        const double part = (double)(bench_random(&random) >> 11) / 9007199254740992.0;
        sizes[i] = (uint32_t)((double)smallest * pow((double)largest / (double)smallest, part));
    }
    return sizes;
}

static const uint32_t *alloc_sizes(const struct alloc_test *test)
{
    return make_sizes(test->smallest, test->size);
}

/* Blocks on their way from one thread to another: a ring, an index for each side. */
enum { QUEUE_SLOTS = 1024 };

struct alloc_queue {
    _Alignas(64) uint64_t put;
    _Alignas(64) uint64_t taken;
    _Alignas(64) void *slots[QUEUE_SLOTS];
};

static void queue_put(struct alloc_queue *queue, void *block)
{
    while (queue->put - __atomic_load_n(&queue->taken, __ATOMIC_ACQUIRE) == QUEUE_SLOTS)
        sched_yield();
    queue->slots[queue->put % QUEUE_SLOTS] = block;
    __atomic_store_n(&queue->put, queue->put + 1, __ATOMIC_RELEASE);
}

static void *queue_take(struct alloc_queue *queue)
{
    while (__atomic_load_n(&queue->put, __ATOMIC_ACQUIRE) == queue->taken) sched_yield();
    void *const block = queue->slots[queue->taken % QUEUE_SLOTS];
    __atomic_store_n(&queue->taken, queue->taken + 1, __ATOMIC_RELEASE);
    return block;
}

struct dirty_pages {
    uint64_t all;
    uint64_t written; /* by the program, into blocks */
    uint64_t least;   /* that so many bytes can lie in */
};

/* A heap whose dirtied pages are counted. */
struct alloc_aged {
    void **blocks;
    const uint32_t *sizes;
    uint64_t next, random, before;
    evh_heap *heap; /* NULL: malloc() */
    /* What the program wrote since aged_begin(). */
    bool is_counting;
    uint64_t *pages; /* their numbers, some twice */
    size_t page_count;
    uint64_t bytes;
};

enum { AGED_PAGES = 1 << 16 };

static void aged_note(struct alloc_aged *aged, const void *block, size_t size)
{
    const uint64_t first = (uintptr_t)block / 4096, final = ((uintptr_t)block + size - 1) / 4096;
    for (uint64_t page = first; page <= final && aged->page_count < AGED_PAGES; page++)
        aged->pages[aged->page_count++] = page;
    aged->bytes += size;
}

static int compare_pages(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static uint64_t aged_written(struct alloc_aged *aged)
{
    uint64_t count = 0;
    qsort(aged->pages, aged->page_count, sizeof *aged->pages, compare_pages);
    for (size_t i = 0; i < aged->page_count; i++)
        count += i == 0 || aged->pages[i] != aged->pages[i - 1];
    return count;
}

static size_t aged_pick(struct alloc_aged *aged)
{
    return (size_t)(bench_random(&aged->random) % AGED_BLOCKS);
}

static uint64_t committed_pages(evh_heap *heap)
{
    evh_info info;
    bench_require(evh_commit(heap) == EVH_OK, "commit");
    bench_require(evh_get_info(heap, &info) == EVH_OK, "info");
    return info.pages_committed;
}

static void aged_begin(struct alloc_aged *aged)
{
    if (aged->heap)
        aged->before = committed_pages(aged->heap);
    else
        bench_dirty_reset();
    aged->is_counting = true;
    aged->page_count = 0;
    aged->bytes = 0;
}

static struct dirty_pages aged_end(struct alloc_aged *aged)
{
    aged->is_counting = false;
    const uint64_t all =
        aged->heap ? committed_pages(aged->heap) - aged->before : bench_dirty_count();
    return (struct dirty_pages){all, aged_written(aged), aged->bytes / 4096};
}

/* ---- the workloads, for both interfaces ---- */

static evh_heap *heap;

#define WORK(name) heap_##name
#define ALLOCATE(size) evh_malloc(heap, size)
#define ALLOCATE_ZERO(size) evh_calloc(heap, 1, size)
#define ALLOCATE_ALIGNED(alignment, size) evh_aligned_alloc(heap, alignment, size)
#define RESIZE(block, size) evh_realloc(heap, block, size)
#define RELEASE(block) evh_free(heap, block)
#include "alloc_work.h"
#undef WORK
#undef ALLOCATE
#undef ALLOCATE_ZERO
#undef ALLOCATE_ALIGNED
#undef RESIZE
#undef RELEASE

#define WORK(name) libc_##name
#define ALLOCATE(size) malloc(size)
#define ALLOCATE_ZERO(size) calloc(1, size)
#define ALLOCATE_ALIGNED(alignment, size) aligned_alloc(alignment, size)
#define RESIZE(block, size) realloc(block, size)
#define RELEASE(block) free(block)
#include "alloc_work.h"

/* ---- the allocators ---- */

struct allocator {
    const char *name;
    const char *heap;        /* "memory", "durable", or NULL: malloc() */
    const char *preloads[4]; /* file names to try */
    const char *preload;     /* the one that worked */
    bool is_there;
    char version[64];
};

static struct allocator allocators[] = {
    {.name = "everheap", .heap = "memory"},
    {.name = "durable", .heap = "durable"},
    {.name = "glibc"},
    {.name = "mimalloc", .preloads = {"libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so"}},
    {.name = "jemalloc", .preloads = {"libjemalloc.so.2", "libjemalloc.so"}},
    {.name = "tcmalloc", .preloads = {"libtcmalloc_minimal.so.4", "libtcmalloc.so.4"}},
};

enum { ALLOCATORS = sizeof allocators / sizeof allocators[0], MIMALLOC = 3 };

/* In a child: the name and version of what stands for malloc() here. */
static int child_which(void)
{
    int (*const mimalloc)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "mi_version");
    const char *(*const tcmalloc)(int *, int *, const char **) =
        (const char *(*)(int *, int *, const char **))dlsym(RTLD_DEFAULT, "tc_version");
    int (*const jemalloc)(const char *, void *, size_t *, void *, size_t) =
        (int (*)(const char *, void *, size_t *, void *, size_t))dlsym(RTLD_DEFAULT, "mallctl");
    const char *(*const glibc)(void) =
        (const char *(*)(void))dlsym(RTLD_DEFAULT, "gnu_get_libc_version");
    const char *version = NULL;
    size_t size = sizeof version;
    if (mimalloc)
        printf("mimalloc %d.%d.%d", mimalloc() / 100, mimalloc() / 10 % 10, mimalloc() % 10);
    else if (tcmalloc)
        printf("tcmalloc %s", tcmalloc(NULL, NULL, NULL));
    else if (jemalloc && jemalloc("version", &version, &size, NULL, 0) == 0)
        printf("jemalloc %.12s", version);
    else
        printf("glibc %s", glibc ? glibc() : "(another C library)");
    return 0;
}

static void find_allocators(void)
{
    static const char *const arguments[] = {"--child=which", NULL};
    for (unsigned i = 0; i < ALLOCATORS; i++) {
        struct allocator *const a = &allocators[i];
        if (a->heap) {
            a->is_there = true;
            snprintf(a->version, sizeof a->version, "everheap, %s heap", a->heap);
            continue;
        }
        for (unsigned k = 0; k < 4 && !a->is_there; k++) {
            if (k > 0 && !a->preloads[k]) break;
            struct bench_result result = bench_run_self(arguments, a->preloads[k], true);
            a->is_there =
                result.status == 0 && strncmp(result.output, a->name, strlen(a->name)) == 0;
            a->preload = a->preloads[k];
            snprintf(a->version, sizeof a->version, "%.60s", result.output);
            free(result.output);
        }
        printf("  %-12s %s\n", a->name, a->is_there ? a->version : "not installed: left out");
    }
}

/* ---- in a child: one figure ---- */

static uint64_t live_blocks(void)
{
    evh_info info;
    bench_require(evh_get_info(heap, &info) == EVH_OK, "info");
    return info.live_blocks;
}

static char *open_heap(const char *kind)
{
    char *path = NULL;
    if (strcmp(kind, "memory") == 0) {
        heap = evh_open_memory(NULL, 0, NULL);
    } else {
        path = bench_file("alloc_durable");
        heap = evh_open(path, NULL);
    }
    bench_require(heap != NULL, "open");
    return path;
}

static void close_heap(char *path)
{
    bench_require(evh_check(heap, NULL, NULL) == EVH_OK, "check");
    bench_require(evh_close(heap) == EVH_OK, "close");
    bench_file_end(path);
}

static int child_test(const char *kind, uint64_t number, uint64_t target_ns)
{
    if (number >= TESTS) bench_die("no such test");
    if (strcmp(kind, "malloc") == 0) {
        printf("%.3f", libc_run(&tests[number], target_ns));
        return 0;
    }
    char *const path = open_heap(kind);
    const uint64_t blocks = live_blocks();
    printf("%.3f", heap_run(&tests[number], target_ns));
    if (live_blocks() != blocks) bench_die("%s: blocks were lost", tests[number].name);
    close_heap(path);
    return 0;
}

static int child_dirty(const char *kind, uint64_t largest)
{
    struct alloc_aged aged = {.random = 11};
    struct dirty_pages pages[DIRTY_FIGURES];
    aged.blocks = shared_memory(AGED_BLOCKS * sizeof *aged.blocks);
    aged.pages = shared_memory(AGED_PAGES * sizeof *aged.pages);
    aged.sizes = make_sizes(largest == 64 ? 64 : 16, largest);
    if (strcmp(kind, "malloc") == 0) {
        if (!bench_dirty_begin()) return 0; /* no figures */
        libc_dirty(&aged, pages);
    } else {
        char *const path = open_heap(kind);
        aged.heap = heap;
        heap_dirty(&aged, pages);
        close_heap(path);
    }
    for (unsigned i = 0; i < DIRTY_FIGURES; i++)
        printf("%llu %llu %llu ", (unsigned long long)pages[i].all,
               (unsigned long long)pages[i].written, (unsigned long long)pages[i].least);
    return 0;
}

/* ---- the driver ---- */

static const char about[] =
    "Measure allocation with everheap beside glibc and what else is installed.\n"
    "usage: alloc_bench [options]";

static struct bench_option options[] = {
    {"quick", "about a minute: 3 repetitions, less time for each", false, NULL},
    {"tiny", "seconds: only to see that it works", false, NULL},
    {"only", "tests whose name has this text", true, NULL},
    {"no-dirty", "leave the count of dirtied pages out", false, NULL},
    {"child", "internal: memory, durable, malloc or which", true, NULL},
    {"test", "internal: number of the test", true, NULL},
    {"dirty", "internal: largest size", true, NULL},
    {"ns", "internal: time for it", true, NULL},
    {0},
};

/* Run one child and return what it printed; owned. */
static char *run_child(const struct allocator *a, const char *what)
{
    char child[64];
    char time[64];
    const bool is_quick = bench_option(options, "quick") != NULL;
    const bool is_tiny = bench_option(options, "tiny") != NULL;
    snprintf(child, sizeof child, "--child=%s", a->heap ? a->heap : "malloc");
    snprintf(time, sizeof time, "--ns=%d", is_tiny ? 2000000 : is_quick ? 25000000 : 100000000);
    const char *const arguments[] = {child, what, time, NULL};
    struct bench_result result = bench_run_self(arguments, a->preload, false);
    if (result.status != 0)
        bench_die(
            "%s %s failed (%s %d)", a->name, what, WIFSIGNALED(result.status) ? "signal" : "status",
            WIFSIGNALED(result.status) ? WTERMSIG(result.status) : WEXITSTATUS(result.status));
    return result.output;
}

enum { REPETITIONS_MAX = 5 };

/* All repetitions of a test. Repeating one test at once keeps its rows comparable; the order of the
 * allocators turns. */
static void run_test(unsigned number, unsigned repetitions, double medians[ALLOCATORS])
{
    double values[ALLOCATORS][REPETITIONS_MAX] = {0};
    char what[32];
    snprintf(what, sizeof what, "--test=%u", number);
    for (unsigned repetition = 0; repetition < repetitions; repetition++) {
        for (unsigned turn = 0; turn < ALLOCATORS; turn++) {
            const unsigned i = (repetition + turn) % ALLOCATORS;
            if (!allocators[i].is_there) continue;
            char *const output = run_child(&allocators[i], what);
            values[i][repetition] = strtod(output, NULL);
            free(output);
        }
    }
    for (unsigned i = 0; i < ALLOCATORS; i++)
        medians[i] = allocators[i].is_there ? bench_median(values[i], repetitions) : 0;
}

static void print_names(const char *first)
{
    printf("  %-26s", first);
    for (unsigned i = 0; i < ALLOCATORS; i++)
        if (allocators[i].is_there) printf(" %10s", allocators[i].name);
}

static bool is_wanted(const char *name)
{
    const char *const only = bench_option(options, "only");
    return !only || strstr(name, only) != NULL;
}

static void run_tests(unsigned repetitions)
{
    double logarithms[2] = {0};
    unsigned count = 0;
    printf("\n## time for one operation (median of %u processes)\n\n", repetitions);
    print_names("ns");
    printf("  %19s\n  %-26s", "/ mimalloc", "");
    for (unsigned i = 0; i < ALLOCATORS; i++)
        if (allocators[i].is_there) printf(" %10s", "");
    printf("  %9s %9s\n", "everheap", "durable");
    for (unsigned number = 0; number < TESTS; number++) {
        if (!is_wanted(tests[number].name)) continue;
        double medians[ALLOCATORS];
        run_test(number, repetitions, medians);
        printf("  %-26s", tests[number].name);
        for (unsigned i = 0; i < ALLOCATORS; i++)
            if (allocators[i].is_there) printf(" %10.1f", medians[i]);
        printf("  %9s %9s\n", bench_ratio_text(medians[0], medians[MIMALLOC]),
               bench_ratio_text(medians[1], medians[MIMALLOC]));
        fflush(stdout);
        if (!allocators[MIMALLOC].is_there) continue;
        logarithms[0] += log(medians[0] / medians[MIMALLOC]);
        logarithms[1] += log(medians[1] / medians[MIMALLOC]);
        count++;
    }
    if (count == 0) return;
    printf("\n  geometric mean of the ratios to mimalloc: everheap %.2f, durable %.2f\n",
           exp(logarithms[0] / count), exp(logarithms[1] / count));
}

/* One line of figures, of the allocators that can be counted: not of heaps in memory. */
static void print_dirty(const char *name, const double figures[ALLOCATORS])
{
    printf("  %-26s", name);
    for (unsigned i = 1; i < ALLOCATORS; i++) {
        if (!allocators[i].is_there) continue;
        if (figures[i] >= 0)
            printf(" %10.0f", figures[i]);
        else
            printf(" %10s", "?");
    }
    printf("\n");
}

static void run_dirty(unsigned largest)
{
    char what[32];
    snprintf(what, sizeof what, "--dirty=%u", largest);
    double all[DIRTY_FIGURES][ALLOCATORS], written[DIRTY_FIGURES][ALLOCATORS];
    double least[DIRTY_FIGURES] = {0};
    for (unsigned i = 0; i < ALLOCATORS; i++) {
        const struct allocator *const a = &allocators[i];
        for (unsigned k = 0; k < DIRTY_FIGURES; k++) all[k][i] = written[k][i] = -1;
        if (!a->is_there || (a->heap && strcmp(a->heap, "durable") != 0)) continue;
        char *const output = run_child(a, what);
        char *cursor = output;
        for (unsigned k = 0; k < DIRTY_FIGURES && *cursor; k++) {
            all[k][i] = strtod(cursor, &cursor);
            written[k][i] = strtod(cursor, &cursor);
            least[k] = strtod(cursor, &cursor);
            cursor += strspn(cursor, " ");
        }
        free(output);
    }
    printf("\n## pages dirtied, a million live blocks of %s\n\n",
           largest == 64 ? "64 bytes" : "16 to 1023 bytes (logarithms evenly spread)");
    printf("  %-26s", "4 KiB pages");
    for (unsigned i = 1; i < ALLOCATORS; i++)
        if (allocators[i].is_there) printf(" %10s", allocators[i].name);
    printf("\n");
    for (unsigned k = 0; k < DIRTY_FIGURES; k++) {
        char name[64];
        print_dirty(dirty_figures[k].name, all[k]);
        if (!dirty_figures[k].is_replace) continue;
        snprintf(name, sizeof name, "  with new blocks (>= %.0f)", least[k]);
        print_dirty(name, written[k]);
    }
    fflush(stdout);
}

static int run_as_child(const char *kind)
{
    if (strcmp(kind, "which") == 0) return child_which();
    if (bench_option(options, "dirty"))
        return child_dirty(kind, bench_option_number(options, "dirty", 64));
    return child_test(kind, bench_option_number(options, "test", TESTS),
                      bench_option_number(options, "ns", 1000000));
}

int main(int argc, char **argv)
{
    bench_options_read(argc, argv, options, about);
    const char *const child = bench_option(options, "child");
    if (child) return run_as_child(child);

    bench_print_machine("# Allocation with everheap beside other allocators");
    find_allocators();
    const bool is_short = bench_option(options, "quick") || bench_option(options, "tiny");
    run_tests(bench_option(options, "tiny") ? 1 : is_short ? 3 : REPETITIONS_MAX);
    if (!bench_option(options, "no-dirty") && !bench_option(options, "only")) {
        run_dirty(64);
        run_dirty(1023);
        printf(
            "\n  durable: the pages of one commit. Others: private anonymous pages written to. A "
            "replace frees a\n  block, allocates one and fills it; of its pages those are shown "
            "that the program itself wrote into,\n  and how many the new blocks would fill side "
            "by side. The rest is the allocator's own. ? means that\n  the kernel cannot count "
            "(Linux 6.7, userfaultfd).\n");
    }
    printf(
        "\nEach operation writes the first word of its block. everheap: a heap in memory. durable: "
        "a heap in a\nfile, without commits meanwhile. An operation is a pair, a replacement, a "
        "block's way through a\nqueue, one resizing, or the life of one thread.\n");
    bench_print_command(argc, argv);
    return 0;
}
