/* collect_bench.c -- map and tree beside the containers of C++, and beside LMDB and SQLite. */
#include "bench.h"
#include "collect_std.h"

#include <stdlib.h>
#include <string.h>

/*
 * Keys are random numbers, new ones in each round, and looked up in another order than they were
 * put: with the same keys and order again and again, a processor learns the branches of a small
 * tree by heart. Rounds of the two sides alternate; medians are shown. The heap is a file that is
 * not committed meanwhile; commits are measured with the batches below.
 */
EVH_MAP(numbers, uint64_t, uint64_t);

enum { ROUNDS = 5, ROUND_ITEMS = 300000, BATCHES = 5, BATCH_ITEMS = 100000, COLLIDING = 20000 };

static struct bench_option options[] = {
    {"max", "largest number of items (default 1000000)", true, NULL},
    {"items", "items of the stores that batches update (default 1000000)", true, NULL},
    {NULL, NULL, false, NULL},
};

static evh_heap *heap;

/* ---- map and tree beside std ---- */

static void map_run(const uint64_t *keys, const uint64_t *queries, size_t count,
                    struct collect_times *times)
{
    numbers map = {{0}};
    uint64_t sum = 0;
    const uint64_t start = bench_now_ns();
    for (size_t i = 0; i < count; i++) *numbers_put(heap, &map, keys[i]) = keys[i];
    const uint64_t put = bench_now_ns();
    for (size_t i = 0; i < count; i++) sum += *numbers_get(heap, &map, queries[i]);
    const uint64_t get = bench_now_ns();
    for (size_t i = 0; i < count; i++) sum += numbers_get(heap, &map, queries[i] + 1) != NULL;
    const uint64_t absent = bench_now_ns();
    evh_map_cursor cursor = {0};
    while (evh_map_next(heap, &map.map, &cursor)) sum += cursor.key;
    const uint64_t scan = bench_now_ns();
    for (size_t i = 0; i < count; i++) numbers_erase(heap, &map, queries[i]);
    const uint64_t erase = bench_now_ns();
    bench_require(evh_map_clear(heap, &map.map) == EVH_OK, "clear");
    __asm__ volatile("" : : "r"(sum));
    *times =
        (struct collect_times){(double)(put - start), (double)(get - put), (double)(absent - get),
                               (double)(scan - absent), (double)(erase - scan)};
}

static void tree_run(const uint64_t *keys, const uint64_t *queries, size_t count,
                     struct collect_times *times)
{
    evh_tree tree = {0};
    uint64_t sum = 0;
    const uint64_t start = bench_now_ns();
    for (size_t i = 0; i < count; i++) *(uint64_t *)evh_tree_put(heap, &tree, keys[i], 8) = keys[i];
    const uint64_t put = bench_now_ns();
    for (size_t i = 0; i < count; i++) sum += *(uint64_t *)evh_tree_get(heap, &tree, queries[i]);
    const uint64_t get = bench_now_ns();
    for (size_t i = 0; i < count; i++) sum += evh_tree_get(heap, &tree, queries[i] + 1) != NULL;
    const uint64_t absent = bench_now_ns();
    evh_tree_cursor cursor = {0};
    while (evh_tree_next(heap, &tree, &cursor)) sum += cursor.key;
    const uint64_t scan = bench_now_ns();
    for (size_t i = 0; i < count; i++) evh_tree_erase(heap, &tree, queries[i]);
    const uint64_t erase = bench_now_ns();
    bench_require(evh_tree_clear(heap, &tree) == EVH_OK, "clear");
    __asm__ volatile("" : : "r"(sum));
    *times =
        (struct collect_times){(double)(put - start), (double)(get - put), (double)(absent - get),
                               (double)(scan - absent), (double)(erase - scan)};
}

static void make_keys(uint64_t *keys, uint64_t *queries, size_t count, uint64_t *random)
{
    for (size_t i = 0; i < count; i++) keys[i] = queries[i] = bench_random(random);
    for (size_t i = count; i > 1; i--) {
        const size_t k = bench_random(random) % i;
        const uint64_t key = queries[i - 1];
        queries[i - 1] = queries[k];
        queries[k] = key;
    }
}

static double phase(const struct collect_times *times, unsigned which)
{
    const double phases[] = {times->put, times->get, times->absent, times->scan, times->erase};
    return phases[which];
}

/* Nanoseconds per item of `rounds` rounds, medians: ours, theirs, ratio. */
static void print_row(const struct collect_times *ours, const struct collect_times *theirs,
                      size_t rounds, size_t count)
{
    printf("%10zu", count);
    for (unsigned which = 0; which < 5; which++) {
        double *const mine = bench_memory(rounds, sizeof *mine);
        double *const other = bench_memory(rounds, sizeof *other);
        for (size_t i = 0; i < rounds; i++) {
            mine[i] = phase(&ours[i], which) / (double)count;
            other[i] = phase(&theirs[i], which) / (double)count;
        }
        const double a = bench_median(mine, rounds), b = bench_median(other, rounds);
        printf("  %6.1f %7.1f %5.2f", a, b, b > 0 ? a / b : 0);
        free(mine);
        free(other);
    }
    printf("\n");
    fflush(stdout);
}

static void beside_std(bool is_ordered, size_t count_max)
{
    printf("\n%s beside %s: ns per item, ours / theirs / ratio\n", is_ordered ? "tree" : "map",
           is_ordered ? "std::map" : "std::unordered_map");
    printf("%10s  %20s  %20s  %20s  %20s  %20s\n", "items", "put", "get", "get, absent", "scan",
           "erase");
    uint64_t random = 1;
    for (size_t count = 1000; count <= count_max; count *= 10) {
        const size_t some = ROUND_ITEMS / count;
        const size_t rounds = count > 1000000 ? 1 : some > ROUNDS ? some : ROUNDS;
        uint64_t *const keys = bench_memory(count, sizeof *keys);
        uint64_t *const queries = bench_memory(count, sizeof *queries);
        struct collect_times *const ours = bench_memory(rounds, sizeof *ours);
        struct collect_times *const theirs = bench_memory(rounds, sizeof *theirs);
        for (size_t i = 0; i < rounds; i++) {
            make_keys(keys, queries, count, &random);
            (is_ordered ? tree_run : map_run)(keys, queries, count, &ours[i]);
            if (!collect_std_run(is_ordered, keys, queries, count, &theirs[i]))
                memset(&theirs[i], 0, sizeof theirs[i]);
        }
        print_row(ours, theirs, rounds, count);
        free(theirs);
        free(ours);
        free(queries);
        free(keys);
    }
}

/* ---- batches beside LMDB and SQLite ---- */

static void *open_heap_store(const char *path)
{
    evh_heap *const opened = evh_open(path, NULL);
    bench_require(opened && evh_root(opened, "map", sizeof(numbers)), "open");
    bench_require(evh_root(opened, "tree", sizeof(evh_tree)), "root");
    return opened;
}

static void put_map(void *store, const uint64_t *keys, const uint64_t *values, size_t count)
{
    numbers *const map = evh_root_find(store, "map", NULL);
    for (size_t i = 0; i < count; i++) {
        uint64_t *const value = numbers_put(store, map, keys[i]);
        bench_require(value, "put");
        *value = values[i];
    }
    bench_require(evh_commit(store) == EVH_OK, "commit");
}

static void put_tree(void *store, const uint64_t *keys, const uint64_t *values, size_t count)
{
    evh_tree *const tree = evh_root_find(store, "tree", NULL);
    for (size_t i = 0; i < count; i++) {
        uint64_t *const value = evh_tree_put(store, tree, keys[i], sizeof *value);
        bench_require(value, "put");
        *value = values[i];
    }
    bench_require(evh_commit(store) == EVH_OK, "commit");
}

static void close_heap_store(void *store)
{
    bench_require(evh_close(store) == EVH_OK, "close");
}

static const struct collect_store heap_map = {"everheap map", open_heap_store, put_map,
                                              close_heap_store};
static const struct collect_store heap_tree = {"everheap tree", open_heap_store, put_tree,
                                               close_heap_store};

/* Thousands of updates per second, over batches of values for random keys that are there. */
static void batches(const struct collect_store *kind, const uint64_t *keys, size_t count)
{
    if (!kind->open) {
        printf("%-20s not built in\n", kind->name);
        return;
    }
    char *const path = bench_file("collect.data");
    void *const store = kind->open(path);
    uint64_t *const some = bench_memory(BATCH_ITEMS, sizeof *some);
    double times[BATCHES];
    uint64_t random = 7;
    for (size_t i = 0; i < count; i += BATCH_ITEMS)
        kind->put(store, keys + i, keys + i, count - i < BATCH_ITEMS ? count - i : BATCH_ITEMS);
    for (unsigned batch = 0; batch < BATCHES; batch++) {
        for (size_t i = 0; i < BATCH_ITEMS; i++) some[i] = keys[bench_random(&random) % count];
        uint64_t *const values = bench_memory(BATCH_ITEMS, sizeof *values);
        for (size_t i = 0; i < BATCH_ITEMS; i++) values[i] = bench_random(&random);
        const uint64_t start = bench_now_ns();
        kind->put(store, some, values, BATCH_ITEMS);
        times[batch] = (double)(bench_now_ns() - start);
        free(values);
    }
    const double median = bench_median(times, BATCHES);
    printf("%-20s %10s a batch  %10.0f thousand updates/s\n", kind->name, bench_time_text(median),
           BATCH_ITEMS / median * 1e6);
    fflush(stdout);
    kind->close(store);
    free(some);
    bench_file_end(path);
    bench_file_end(bench_file("collect.data-lock"));
    bench_file_end(bench_file("collect.data-wal"));
    bench_file_end(bench_file("collect.data-shm"));
}

static void beside_stores(size_t count)
{
    printf("\nbatches of %d updates of random keys among %zu, each durable (median of %d)\n",
           BATCH_ITEMS, count, BATCHES);
    uint64_t *const keys = bench_memory(count, sizeof *keys);
    uint64_t random = 3;
    for (size_t i = 0; i < count; i++) keys[i] = bench_random(&random);
    const struct collect_store *const kinds[] = {&heap_map, &heap_tree, &collect_lmdb,
                                                 &collect_sqlite};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) batches(kinds[i], keys, count);
    free(keys);
}

/* ---- the front of a vec and of a tree ---- */

static void fronts(void)
{
    evh_vec vec = {0};
    evh_tree tree = {0};
    for (uint64_t i = 0; i < 100000; i++) {
        bench_require(evh_vec_push(heap, &vec, 8, &i), "push");
        bench_require(evh_tree_put(heap, &tree, i, 8), "put");
    }
    uint64_t start = bench_now_ns();
    for (uint64_t i = 0; i < 100000; i++) bench_require(!evh_vec_erase(heap, &vec, 0, 1), "erase");
    const double of_vec = (double)(bench_now_ns() - start);
    start = bench_now_ns();
    for (uint64_t i = 0; i < 100000; i++) bench_require(evh_tree_erase(heap, &tree, i), "erase");
    const double of_tree = (double)(bench_now_ns() - start);
    printf("\n100000 items erased from the front: vec %s, tree %s\n", bench_time_text(of_vec),
           bench_time_text(of_tree));
    evh_vec_clear(heap, &vec);
    evh_tree_clear(heap, &tree);
}

/* ---- keys that collide under FNV-1a ---- */

static uint32_t fnv1a(uint32_t hash, const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

/* Two blocks of 8 bytes that lead from `*state` to one state: found by birthday among 2^18. */
static void find_pair(uint32_t *state, unsigned char pair[2][8], uint64_t *random)
{
    enum { SLOTS = 1 << 20 };
    struct entry {
        uint64_t block;
        uint32_t hash;
        bool is_used;
    } *const table = bench_memory(SLOTS, sizeof *table);
    for (;;) {
        const uint64_t block = bench_random(random);
        const uint32_t hash = fnv1a(*state, (const unsigned char *)&block, 8);
        struct entry *entry = &table[hash % SLOTS];
        if (entry->is_used && entry->hash == hash && entry->block != block) {
            memcpy(pair[0], &entry->block, 8);
            memcpy(pair[1], &block, 8);
            *state = hash;
            free(table);
            return;
        }
        *entry = (struct entry){block, hash, true};
    }
}

static double put_texts(const unsigned char (*texts)[120], size_t count)
{
    evh_map map = {0};
    const uint64_t start = bench_now_ns();
    for (size_t i = 0; i < count; i++)
        bench_require(evh_map_put_bytes(heap, &map, texts[i], 120, 8), "put");
    for (size_t i = 0; i < count; i++)
        bench_require(evh_map_get_bytes(heap, &map, texts[i], 120), "get");
    const double time = (double)(bench_now_ns() - start);
    bench_require(evh_map_clear(heap, &map) == EVH_OK, "clear");
    return time;
}

static void collisions(void)
{
    unsigned char(*const texts)[120] = bench_memory(COLLIDING, sizeof *texts);
    unsigned char pairs[15][2][8];
    uint32_t state = 2166136261u;
    uint64_t random = 5;
    for (unsigned i = 0; i < 15; i++) find_pair(&state, pairs[i], &random);
    for (unsigned i = 0; i < COLLIDING; i++)
        for (unsigned k = 0; k < 15; k++) memcpy(texts[i] + 8 * k, pairs[k][i >> k & 1], 8);
    if (fnv1a(2166136261u, texts[1], 120) != fnv1a(2166136261u, texts[COLLIDING - 1], 120))
        bench_die("the keys do not collide");
    double colliding[ROUNDS], others[ROUNDS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        colliding[round] = put_texts((const unsigned char(*)[120])texts, COLLIDING);
        unsigned char(*const made)[120] = bench_memory(COLLIDING, sizeof *made);
        for (size_t i = 0; i < COLLIDING; i++)
            for (unsigned k = 0; k < 120; k++) made[i][k] = (unsigned char)bench_random(&random);
        others[round] = put_texts((const unsigned char(*)[120])made, COLLIDING);
        free(made);
    }
    const double a = bench_median(colliding, ROUNDS), b = bench_median(others, ROUNDS);
    printf("%d keys put and got: colliding under FNV-1a %s, random %s (%s)\n", COLLIDING,
           bench_time_text(a), bench_time_text(b), bench_ratio_text(a, b));
    free(texts);
}

int main(int argc, char **argv)
{
    bench_options_read(argc, argv, options,
                       "Measure map and tree beside std::unordered_map and std::map, and batches "
                       "beside LMDB and SQLite.");
    bench_print_machine("collections");
    char *const path = bench_file("collect.heap");
    heap = evh_open(path, NULL);
    bench_require(heap, "open");
    const size_t count_max = bench_option_number(options, "max", 1000000);
    beside_std(false, count_max);
    beside_std(true, count_max);
    fronts();
    collisions();
    evh_close(heap);
    bench_file_end(path);
    beside_stores(bench_option_number(options, "items", 1000000));
    bench_print_command(argc, argv);
    return 0;
}
