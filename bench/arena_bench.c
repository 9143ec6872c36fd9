/* arena_bench.c -- arenas, pools and guarded stacks beside what else there is. */
#include "bench.h"

#include <everheap.h>

#include <obstack.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef HAVE_APR
#include <apr_general.h>
#include <apr_pools.h>
#endif

/*
 * Method
 *   A contender does a fixed number of operations and returns nanoseconds for each. Contenders of a
 *   workload take turns, ROUNDS times; shown is the median, and in brackets the lowest. Blocks are
 *   not written to, unless the line says so: what is compared is the allocator. Boost's and the C++
 *   library's are measured by arena_boost, a program of its own in C++, with the same loops.
 */

enum { ROUNDS = 15, BLOCKS = 20000, BATCH = 1000, PAIRS = 200000, STACKS = 4000 };

#define obstack_chunk_alloc malloc
#define obstack_chunk_free free

typedef double contender_run(void);

struct contender {
    const char *name;
    contender_run *run;
};

/* The compiler may not leave the allocation out, nor believe anything about its memory. */
static inline void keep(void *block)
{
    __asm__ volatile("" : : "r"(block) : "memory");
}

static double per(uint64_t start, uint64_t operations)
{
    return (double)(bench_now_ns() - start) / (double)operations;
}

/* ---- arenas ---- */

static evh_arena *arena, *shared_arena, *heap_arena, *live_arena;
static struct obstack obstack;
static evh_heap *heap, *live_heap;
static char *live_path;
static volatile size_t run_time_size = 24;

static double arena_constant(void)
{
    evh_arena_reset(arena);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS; i++) keep(evh_arena_alloc(arena, 24, 8));
    return per(start, BLOCKS);
}

static double arena_run_time(void)
{
    evh_arena_reset(arena);
    size_t size = run_time_size, alignment = run_time_size / 3;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS; i++) {
        __asm__ volatile("" : "+r"(size), "+r"(alignment));
        keep(evh_arena_alloc(arena, size, alignment));
    }
    return per(start, BLOCKS);
}

static double arena_shared(void)
{
    evh_arena_reset(shared_arena);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS; i++) keep(evh_arena_alloc(shared_arena, 24, 8));
    return per(start, BLOCKS);
}

static double arena_constant_of(evh_arena *other)
{
    evh_arena_reset(other);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS; i++) keep(evh_arena_alloc(other, 24, 8));
    return per(start, BLOCKS);
}

static double arena_on_heap(void)
{
    return arena_constant_of(heap_arena);
}

static double arena_in_live(void)
{
    return arena_constant_of(live_arena);
}

static double arena_written(void)
{
    evh_arena_reset(arena);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS / 2; i++) memset(evh_arena_alloc(arena, 64, 16), 1, 64);
    return per(start, BLOCKS / 2);
}

static double obstack_constant(void)
{
    void *first = obstack_alloc(&obstack, 24);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS; i++) keep(obstack_alloc(&obstack, 24));
    const double result = per(start, BLOCKS);
    obstack_free(&obstack, first);
    return result;
}

static double obstack_run_time(void)
{
    void *first = obstack_alloc(&obstack, 24);
    int size = (int)run_time_size;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS; i++) {
        __asm__ volatile("" : "+r"(size));
        keep(obstack_alloc(&obstack, size));
    }
    const double result = per(start, BLOCKS);
    obstack_free(&obstack, first);
    return result;
}

static double malloc_constant(void)
{
    static void *blocks[BLOCKS];
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS; i++) keep(blocks[i] = malloc(24));
    const double result = per(start, BLOCKS);
    for (unsigned i = 0; i < BLOCKS; i++) free(blocks[i]);
    return result;
}

static double arena_reset_one(void)
{
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < PAIRS; i++) {
        keep(evh_arena_alloc(arena, 24, 8));
        evh_arena_reset(arena);
    }
    return per(start, PAIRS);
}

static double arena_release_one(void)
{
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < PAIRS; i++) {
        const evh_mark mark = evh_arena_mark(arena);
        keep(evh_arena_alloc(arena, 24, 8));
        (void)evh_arena_release(arena, mark);
    }
    return per(start, PAIRS);
}

static double obstack_reset_one(void)
{
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < PAIRS; i++) {
        void *block = obstack_alloc(&obstack, 24);
        keep(block);
        obstack_free(&obstack, block);
    }
    return per(start, PAIRS);
}

#ifdef HAVE_APR
static apr_pool_t *apr_pool;

static double apr_constant(void)
{
    apr_pool_clear(apr_pool);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS; i++) keep(apr_palloc(apr_pool, 24));
    return per(start, BLOCKS);
}

static double apr_run_time(void)
{
    apr_pool_clear(apr_pool);
    size_t size = run_time_size;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BLOCKS; i++) {
        __asm__ volatile("" : "+r"(size));
        keep(apr_palloc(apr_pool, size));
    }
    return per(start, BLOCKS);
}

static double apr_reset_one(void)
{
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < PAIRS; i++) {
        keep(apr_palloc(apr_pool, 24));
        apr_pool_clear(apr_pool);
    }
    return per(start, PAIRS);
}
#endif

/* ---- pools ---- */

enum { POOL_VOLATILE, POOL_SHARED, POOL_HEAP, POOL_HEAP_SHARED, POOL_LIVE, POOL_KINDS };
static evh_pool *pools[POOL_KINDS];

static double pool_pair(evh_pool *pool)
{
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < PAIRS; i++) {
        void *block = evh_pool_get(pool);
        keep(block);
        evh_pool_put(pool, block);
    }
    return per(start, PAIRS);
}

static double pool_batch(evh_pool *pool)
{
    static void *blocks[BATCH];
    const uint64_t start = bench_now_ns();
    for (unsigned round = 0; round < PAIRS / BATCH; round++) {
        for (unsigned i = 0; i < BATCH; i++) blocks[i] = evh_pool_get(pool);
        for (unsigned i = 0; i < BATCH; i++) evh_pool_put(pool, blocks[i]);
    }
    return per(start, PAIRS);
}

#define POOL_CONTENDER(name, kind)                                                                 \
    static double name##_pair(void)                                                                \
    {                                                                                              \
        return pool_pair(pools[kind]);                                                             \
    }                                                                                              \
    static double name##_batch(void)                                                               \
    {                                                                                              \
        return pool_batch(pools[kind]);                                                            \
    }
POOL_CONTENDER(volatile_pool, POOL_VOLATILE)
POOL_CONTENDER(shared_pool, POOL_SHARED)
POOL_CONTENDER(heap_pool, POOL_HEAP)
POOL_CONTENDER(heap_shared_pool, POOL_HEAP_SHARED)
POOL_CONTENDER(live_pool, POOL_LIVE)

static double malloc_pair(void)
{
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < PAIRS; i++) {
        void *block = malloc(64);
        keep(block);
        free(block);
    }
    return per(start, PAIRS);
}

static double malloc_batch(void)
{
    static void *blocks[BATCH];
    const uint64_t start = bench_now_ns();
    for (unsigned round = 0; round < PAIRS / BATCH; round++) {
        for (unsigned i = 0; i < BATCH; i++) keep(blocks[i] = malloc(64));
        for (unsigned i = 0; i < BATCH; i++) free(blocks[i]);
    }
    return per(start, PAIRS);
}

static double heap_pair(void)
{
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < PAIRS; i++) {
        void *block = evh_malloc(heap, 64);
        keep(block);
        evh_free(heap, block);
    }
    return per(start, PAIRS);
}

/* ---- stacks ---- */

enum { STACK_SIZE = 64 * 1024, PAGE = 4096 };
static evh_stacks *hot_stacks;

static double stack_hot(void)
{
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < PAIRS; i++) {
        evh_stack *stack = evh_stack_get(hot_stacks);
        keep(stack);
        evh_stack_put(hot_stacks, stack);
    }
    return per(start, PAIRS);
}

static unsigned char *map_stack(void)
{
    unsigned char *memory = mmap(NULL, STACK_SIZE + PAGE, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, PAGE, PROT_NONE) != 0) bench_die("no stack");
    return memory;
}

static double mapped_pair(void)
{
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < STACKS; i++) {
        unsigned char *stack = map_stack();
        stack[STACK_SIZE + PAGE - 1] = 1;
        munmap(stack, STACK_SIZE + PAGE);
    }
    return per(start, STACKS);
}

static double new_stacks(evh_guard guard)
{
    evh_stacks *stacks = evh_stacks_create(&(evh_stacks_options){.guard = guard});
    bench_require(stacks != NULL, "stacks");
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < STACKS; i++) {
        evh_stack *stack = evh_stack_get(stacks);
        bench_require(stack != NULL, "a stack");
        ((unsigned char *)stack->base)[stack->size_bytes - 1] = 1;
    }
    const double result = per(start, STACKS);
    evh_stacks_close(stacks);
    return result;
}

static double new_marked(void)
{
    return new_stacks(EVH_GUARD_AUTO);
}

static double new_protected(void)
{
    return new_stacks(EVH_GUARD_PROTECT);
}

static double new_mapped(void)
{
    static unsigned char *stacks[STACKS];
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < STACKS; i++) {
        stacks[i] = map_stack();
        stacks[i][STACK_SIZE + PAGE - 1] = 1;
    }
    const double result = per(start, STACKS);
    for (unsigned i = 0; i < STACKS; i++) munmap(stacks[i], STACK_SIZE + PAGE);
    return result;
}

static uint64_t mapping_count(void)
{
    uint64_t count = 0;
    char line[512];
    FILE *file = fopen("/proc/self/maps", "re");
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) count++;
    (void)fclose(file);
    return count;
}

/* How many guarded stacks there can be at once, and what they cost in mappings. */
static void print_many_stacks(evh_guard guard, const char *name)
{
    enum { MANY = 100000 };
    evh_stacks *stacks = evh_stacks_create(&(evh_stacks_options){.guard = guard, .name = "many"});
    if (!stacks) {
        printf("  %-34s %s\n", name, evh_last_error()->message);
        return;
    }
    const uint64_t before = mapping_count();
    const uint64_t start = bench_now_ns();
    unsigned got = 0;
    while (got < MANY && evh_stack_get(stacks)) got++;
    const uint64_t elapsed = bench_now_ns() - start;
    printf("  %-34s %6u stacks, %llu mappings before, %llu after, %s each\n", name, got,
           (unsigned long long)before, (unsigned long long)mapping_count(),
           bench_time_text((double)elapsed / (got ? got : 1)));
    if (got < MANY) printf("      %s\n", evh_last_error()->message);
    evh_stacks_close(stacks);
}

/* ---- the debug layer: what each letter costs ---- */

static double letters_pair(evh_heap *debugged, size_t size)
{
    enum { DEBUG_PAIRS = 20000 };
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < DEBUG_PAIRS; i++) {
        void *block = evh_malloc(debugged, size);
        keep(block);
        evh_free(debugged, block);
    }
    return per(start, DEBUG_PAIRS);
}

static void print_letters(void)
{
    static const char *const letters[] = {"", "V", "C", "J", "Q", "S", "L", "O", "X1000", "G", "A"};
    printf("\nheap, evh_malloc + evh_free of 64 and of 1024 bytes, by debug letter\n");
    for (unsigned i = 0; i < sizeof letters / sizeof letters[0]; i++) {
        evh_heap *debugged = evh_open_memory(NULL, 0, &(evh_options){.debug = letters[i]});
        bench_require(debugged != NULL, "a heap");
        double small[ROUNDS], large[ROUNDS];
        for (unsigned round = 0; round < ROUNDS; round++) {
            small[round] = letters_pair(debugged, 64);
            large[round] = letters_pair(debugged, 1024);
        }
        printf("  %-34s %10s %10s\n", letters[i][0] ? letters[i] : "(none)",
               bench_time_text(bench_median(small, ROUNDS)),
               bench_time_text(bench_median(large, ROUNDS)));
        evh_close(debugged);
    }
}

/* ---- printing ---- */

static void print_workload(const char *title, const struct contender *contenders, size_t count)
{
    enum { CONTENDERS_MAX = 12 };
    static double figures[CONTENDERS_MAX][ROUNDS];
    printf("\n%s\n", title);
    for (unsigned round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < count; i++) figures[i][round] = contenders[i].run();
    for (size_t i = 0; i < count; i++) {
        const char *median = bench_time_text(bench_median(figures[i], ROUNDS)); /* sorts them */
        printf("  %-34s %10s   (%s)\n", contenders[i].name, median, bench_time_text(figures[i][0]));
    }
}

#define PRINT(title, ...)                                                                          \
    do {                                                                                           \
        const struct contender list[] = {__VA_ARGS__};                                             \
        print_workload(title, list, sizeof list / sizeof list[0]);                                 \
    } while (0)

#ifdef HAVE_APR
#define APR(name, run) {name, run},
#else
#define APR(name, run)
#endif

static void prepare(void)
{
    heap = evh_open_memory(NULL, 0, NULL);
    arena = evh_arena_create(&(evh_arena_options){.size_bytes = BENCH_MIB});
    shared_arena =
        evh_arena_create(&(evh_arena_options){.size_bytes = BENCH_MIB, .is_shared = true});
    live_path = bench_file("arena_live");
    live_heap = evh_open(live_path, &(evh_options){.mode = EVH_LIVE});
    live_arena = evh_arena_create(&(evh_arena_options){.heap = live_heap, .size_bytes = BENCH_MIB});
    bench_require(live_heap && live_arena, "a live heap");
    heap_arena = evh_arena_create(&(evh_arena_options){.heap = heap, .size_bytes = BENCH_MIB});
    for (unsigned i = 0; i < POOL_KINDS; i++)
        pools[i] = evh_pool_create(
            &(evh_pool_options){.size_bytes = 64,
                                .heap = i == POOL_LIVE   ? live_heap
                                        : i >= POOL_HEAP ? heap
                                                         : NULL,
                                .is_shared = i == POOL_SHARED || i == POOL_HEAP_SHARED});
    hot_stacks = evh_stacks_create(NULL);
    bench_require(heap && arena && shared_arena && heap_arena && hot_stacks, "the objects");
    obstack_begin(&obstack, BENCH_MIB);
#ifdef HAVE_APR
    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&apr_pool, NULL) != APR_SUCCESS)
        bench_die("no APR pool");
#else
    printf("APR is not installed (libapr1-dev): left out\n");
#endif
}

/* Boost's figures come from a program in C++, where there is one. */
static void print_boost(const char *self)
{
    char path[4096];
    const char *slash = strrchr(self, '/');
    const int length = slash ? (int)(slash - self + 1) : 0;
    (void)snprintf(path, sizeof path, "%.*sarena_boost", length, self);
    (void)fflush(stdout);
    if (access(path, X_OK) != 0 || system(path) != 0)
        printf("\nBoost is not installed (libboost-dev): left out\n");
}

int main(int argc, char **argv)
{
    struct bench_option options[] = {{.name = NULL}};
    bench_options_read(argc, argv, options, "arenas, pools and guarded stacks");
    bench_print_machine("arenas, pools, stacks");
    prepare();
    PRINT("allocate 24 bytes, size known to the compiler", {"everheap arena", arena_constant},
          {"everheap arena on a heap", arena_on_heap},
          {"everheap arena in a live heap", arena_in_live},
          {"everheap arena, shared", arena_shared}, {"GNU obstack", obstack_constant},
          APR("APR pool", apr_constant){"glibc malloc, never freed", malloc_constant});
    PRINT("allocate 24 bytes, size and alignment known at run time",
          {"everheap arena", arena_run_time}, {"GNU obstack", obstack_run_time},
          APR("APR pool", apr_run_time));
    PRINT("allocate 64 bytes and write them", {"everheap arena", arena_written});
    PRINT("allocate once and take everything back", {"everheap arena, reset", arena_reset_one},
          {"everheap arena, mark and release", arena_release_one},
          {"GNU obstack, free", obstack_reset_one}, APR("APR pool, clear", apr_reset_one));
    PRINT("one block of 64 bytes, got and put", {"everheap pool", volatile_pool_pair},
          {"everheap pool, shared", shared_pool_pair}, {"everheap pool on a heap", heap_pool_pair},
          {"everheap pool on a heap, shared", heap_shared_pool_pair},
          {"everheap pool in a live heap", live_pool_pair}, {"evh_malloc, evh_free", heap_pair},
          {"glibc malloc, free", malloc_pair});
    PRINT("a thousand blocks of 64 bytes, got, then put", {"everheap pool", volatile_pool_batch},
          {"everheap pool, shared", shared_pool_batch},
          {"everheap pool on a heap", heap_pool_batch},
          {"everheap pool on a heap, shared", heap_shared_pool_batch},
          {"everheap pool in a live heap", live_pool_batch}, {"glibc malloc, free", malloc_batch});
    PRINT("a stack of 64 KiB that was used before, got and put", {"everheap stacks", stack_hot},
          {"mmap, mprotect, munmap", mapped_pair});
    PRINT("a new guarded stack of 64 KiB and its first touch", {"everheap stacks", new_marked},
          {"everheap stacks, mprotect", new_protected}, {"mmap, mprotect", new_mapped});
    print_boost(argv[0]);
    printf("\na hundred thousand guarded stacks of 64 KiB\n");
    print_many_stacks(EVH_GUARD_MARK, "guard marks (MADV_GUARD_INSTALL)");
    print_many_stacks(EVH_GUARD_PROTECT, "mprotect()");
    print_letters();
    bench_print_command(argc, argv);
    (void)evh_close(live_heap);
    bench_file_end(live_path);
    return 0;
}
