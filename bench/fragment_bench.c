/* fragment_bench.c -- how much space a heap takes whose blocks change sizes, and what it gives
 * back.
 */
#include "bench.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Method
 *   64 MiB of live blocks. Six times, a random 75 % of the blocks are freed, and blocks of another
 *   range of sizes fill the heap up again; all bytes are written. Then a random 90 % of the blocks
 *   are freed, and the allocator is asked to give back what it can; then all are freed, likewise.
 *   Space is the process's private anonymous memory (RssAnon), and of a durable heap what its file
 *   takes on the disk, without the journal. Each allocator runs in a process of its own; what is
 *   live counts as it was asked for. The work and its order are the same for all.
 */

enum { PHASES = 6, FIGURES = PHASES + 3, BLOCKS_MAX = 1 << 22 };

static const uint64_t live_target = 64 * BENCH_MIB;

static const struct {
    uint32_t smallest, largest;
} ranges[PHASES + 1] = {
    {16, 128}, {100, 1000}, {24, 64}, {1000, 8000}, {200, 400}, {4000, 40000}, {16, 1024},
};

static evh_heap *heap; /* NULL: malloc() */
static const char *heap_file;

static void *get(size_t size)
{
    void *const block = heap ? evh_malloc(heap, size) : malloc(size);
    if (!block) bench_die("no memory");
    return memset(block, 1, size);
}

static void drop(void *block)
{
    if (heap)
        evh_free(heap, block);
    else
        free(block);
}

/* ---- the space that is taken ---- */

static uint64_t resident_bytes(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *const file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1) break;
    if (file) fclose(file);
    return kib * BENCH_KIB;
}

static uint64_t space_bytes(void)
{
    struct stat info;
    if (!heap_file) return resident_bytes();
    bench_require(evh_commit(heap) == EVH_OK, "commit");
    bench_require(evh_checkpoint(heap) == EVH_OK, "checkpoint");
    if (stat(heap_file, &info) != 0) bench_die("no file");
    evh_info heap_info;
    bench_require(evh_get_info(heap, &heap_info) == EVH_OK, "info");
    return (uint64_t)info.st_blocks * 512 - heap_info.journal_bytes;
}

/* Ask the allocator to give back what it can, now. */
static void give_back(void)
{
    if (heap) {
        bench_require(evh_commit(heap) == EVH_OK, "commit");
        bench_require(evh_trim(heap, NULL) == EVH_OK, "trim");
        return;
    }
    void (*const collect)(bool) = (void (*)(bool))dlsym(RTLD_DEFAULT, "mi_collect");
    int (*const control)(const char *, void *, size_t *, void *, size_t) =
        (int (*)(const char *, void *, size_t *, void *, size_t))dlsym(RTLD_DEFAULT, "mallctl");
    void (*const release)(void) =
        (void (*)(void))dlsym(RTLD_DEFAULT, "MallocExtension_ReleaseFreeMemory");
    if (collect)
        collect(true);
    else if (control)
        control("arena.4096.purge", NULL, NULL, NULL, 0); /* all arenas */
    else if (release)
        release();
    else
        malloc_trim(0);
}

/* ---- the work ---- */

struct block {
    void *address;
    uint64_t size;
};

struct store {
    struct block *blocks; /* shared memory: no allocator's */
    size_t count;
    uint64_t live_bytes, random;
};

static uint64_t below(uint64_t *random, uint64_t limit)
{
    return (uint64_t)(((unsigned __int128)bench_random(random) * limit) >> 64);
}

static void fill(struct store *store, uint32_t smallest, uint32_t largest)
{
    while (store->live_bytes < live_target && store->count < BLOCKS_MAX) {
        const uint64_t size = smallest + below(&store->random, largest - smallest + 1);
        store->blocks[store->count++] = (struct block){get(size), size};
        store->live_bytes += size;
    }
}

static void free_some(struct store *store, size_t part, size_t whole)
{
    for (size_t count = store->count * part / whole; count > 0; count--) {
        const size_t k = below(&store->random, store->count);
        drop(store->blocks[k].address);
        store->live_bytes -= store->blocks[k].size;
        store->blocks[k] = store->blocks[--store->count];
    }
}

/* Space over what is live, after each phase; the last is in bytes. */
static void work(double figures[FIGURES])
{
    struct store store = {.random = 5};
    store.blocks = mmap(NULL, BLOCKS_MAX * sizeof *store.blocks, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (store.blocks == MAP_FAILED) bench_die("no memory");
    fill(&store, ranges[0].smallest, ranges[0].largest);
    for (unsigned i = 0; i < PHASES; i++) {
        free_some(&store, 3, 4);
        fill(&store, ranges[i + 1].smallest, ranges[i + 1].largest);
        figures[i] = (double)space_bytes() / (double)store.live_bytes;
    }
    free_some(&store, 9, 10);
    figures[PHASES] = (double)space_bytes() / (double)live_target;
    give_back();
    figures[PHASES + 1] = (double)space_bytes() / (double)live_target;
    free_some(&store, 1, 1);
    give_back();
    figures[PHASES + 2] = (double)space_bytes() / (double)live_target;
}

/* ---- the driver ---- */

static char everheap_path[4096];

static struct allocator {
    const char *name;
    const char *kind;    /* of a heap, or malloc */
    const char *preload; /* NULL: none */
} allocators[] = {
    {"everheap", "memory", NULL},
    {"durable", "durable", NULL},
    {"as malloc", "malloc", everheap_path},
    {"glibc", "malloc", NULL},
    {"mimalloc", "malloc", "libmimalloc.so.2"},
    {"jemalloc", "malloc", "libjemalloc.so.2"},
    {"tcmalloc", "malloc", "libtcmalloc_minimal.so.4"},
};

enum { ALLOCATORS = sizeof allocators / sizeof allocators[0] };

static struct bench_option options[] = {
    {"child", "internal: memory, durable or malloc", true, NULL},
    {0},
};

static int run_child(const char *kind)
{
    double figures[FIGURES];
    char *path = NULL;
    if (strcmp(kind, "memory") == 0) {
        heap = evh_open_memory(NULL, 0, NULL);
    } else if (strcmp(kind, "durable") == 0) {
        heap_file = path = bench_file("fragment_durable");
        heap = evh_open(path, NULL);
    }
    if (strcmp(kind, "malloc") != 0) bench_require(heap != NULL, "open");
    work(figures);
    for (unsigned i = 0; i < FIGURES; i++) printf("%.3f ", figures[i]);
    if (heap) bench_require(evh_close(heap) == EVH_OK, "close");
    bench_file_end(path);
    return 0;
}

static void find_everheap(void)
{
    const ssize_t size = readlink("/proc/self/exe", everheap_path, sizeof everheap_path - 64);
    if (size < 0) bench_die("no /proc");
    everheap_path[size] = 0;
    for (unsigned up = 0; up < 2; up++) *strrchr(everheap_path, '/') = 0;
    strncat(everheap_path, "/libeverheap-malloc.so", 60);
}

static void print_row(const char *name, const double figures[ALLOCATORS])
{
    printf("  %-34s", name);
    for (unsigned i = 0; i < ALLOCATORS; i++) {
        if (figures[i] > 0)
            printf(" %9.3f", figures[i]);
        else
            printf(" %9s", "?");
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    static double figures[FIGURES][ALLOCATORS];
    bench_options_read(argc, argv, options,
                       "Measure fragmentation beside other allocators.\n"
                       "usage: fragment_bench");
    const char *const child = bench_option(options, "child");
    if (child) return run_child(child);
    bench_print_machine("# Fragmentation");
    find_everheap();
    for (unsigned i = 0; i < ALLOCATORS; i++) {
        char word[32];
        snprintf(word, sizeof word, "--child=%s", allocators[i].kind);
        const char *const arguments[] = {word, NULL};
        struct bench_result result = bench_run_self(arguments, allocators[i].preload, true);
        char *cursor = result.output;
        for (unsigned k = 0; k < FIGURES; k++) figures[k][i] = strtod(cursor, &cursor);
        free(result.output);
    }
    printf("\n## space over live bytes (64 MiB)\n\n  %-34s", "");
    for (unsigned i = 0; i < ALLOCATORS; i++) printf(" %9s", allocators[i].name);
    printf("\n");
    for (unsigned i = 0; i < PHASES; i++) {
        char name[64];
        snprintf(name, sizeof name, "75 %% freed, %u to %u bytes", ranges[i + 1].smallest,
                 ranges[i + 1].largest);
        print_row(name, figures[i]);
    }
    printf("\n  over what was live before\n");
    print_row("90 % freed", figures[PHASES]);
    print_row("90 % freed, given back", figures[PHASES + 1]);
    print_row("all freed, given back", figures[PHASES + 2]);
    printf("\n  as malloc: libeverheap-malloc.so. durable: the file on the disk, without its "
           "journal; the others: private "
           "memory.\n");
    bench_print_command(argc, argv);
    return 0;
}
