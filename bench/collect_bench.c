/* collect_bench.c -- map and tree beside the containers of C++, and beside LMDB and SQLite. */
#include "bench.h"
#include "collect_std.h"

#include <stdlib.h>
#include <string.h>

/*
 * Keys are random numbers, new ones in each round, and looked up in another order than they were
 * put: with the same keys and order again and again, a processor learns the branches of a small
 * tree by heart. Rounds of the two sides alternate; the best of each is shown, for what disturbs a
 * round (most of all others who use the third-level cache) only makes it slower. The heap is a file
 * that is not committed meanwhile; commits are measured with the batches below.
 */
EVH_MAP(numbers, uint64_t, uint64_t);

enum { ROUNDS = 7, ROUND_ITEMS = 1000000, COLLIDING = 20000 };

static struct bench_option options[] = {
    {"max", "largest number of items (default 1000000)", true, NULL},
    {"items", "largest number of items of the stores that batches update (default 1000000)", true,
     NULL},
    {"sorted", "update the keys of a batch in ascending order", false, NULL},
    {"only", "std, fronts or stores: measure nothing else", true, NULL},
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

static double best_of(const struct collect_times *times, size_t rounds, unsigned which)
{
    double best = phase(&times[0], which);
    for (size_t i = 1; i < rounds; i++)
        if (phase(&times[i], which) < best) best = phase(&times[i], which);
    return best;
}

/* Nanoseconds per item of the best of `rounds` rounds: ours, theirs, ratio. */
static void print_row(const struct collect_times *ours, const struct collect_times *theirs,
                      size_t rounds, size_t count)
{
    printf("%10zu", count);
    for (unsigned which = 0; which < 5; which++) {
        const double a = best_of(ours, rounds, which) / (double)count;
        const double b = best_of(theirs, rounds, which) / (double)count;
        printf("  %6.1f %7.1f %5.2f", a, b, b > 0 ? a / b : 0);
    }
    printf("\n");
    fflush(stdout);
}

static void beside_std(bool is_ordered, size_t count_max)
{
    printf("\n%s beside %s: ns per item, best round, ours / theirs / ratio\n",
           is_ordered ? "tree" : "map", is_ordered ? "std::map" : "std::unordered_map");
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

/*
 * Values of keys that are there are changed, a batch in a transaction. The stores take turns batch
 * by batch, so that what disturbs one disturbs all, and each batch has keys and values of its own.
 * Durable batches wait for the disk; the others may be lost by a power cut (LMDB's MDB_NOSYNC,
 * SQLite's synchronous=OFF, evh_commit_begin() without a wait). Shown is the median.
 */
struct heap_store {
    evh_heap *heap;
    bool is_relaxed;
};

static void *open_heap_store(const char *path)
{
    struct heap_store *const store = bench_memory(1, sizeof *store);
    store->heap = evh_open(path, NULL);
    bench_require(store->heap && evh_root(store->heap, "map", sizeof(numbers)), "open");
    bench_require(evh_root(store->heap, "tree", sizeof(evh_tree)), "root");
    return store;
}

static void commit_heap_store(struct heap_store *store)
{
    evh_ticket ticket;
    bench_require((store->is_relaxed ? evh_commit_begin(store->heap, &ticket)
                                     : evh_commit(store->heap)) == EVH_OK,
                  "commit");
}

static void put_map(void *store, const uint64_t *keys, const uint64_t *values, size_t count)
{
    evh_heap *const stored = ((struct heap_store *)store)->heap;
    numbers *const map = evh_root_find(stored, "map", NULL);
    for (size_t i = 0; i < count; i++) {
        uint64_t *const value = numbers_put(stored, map, keys[i]);
        bench_require(value, "put");
        *value = values[i];
    }
    commit_heap_store(store);
}

static void put_tree(void *store, const uint64_t *keys, const uint64_t *values, size_t count)
{
    evh_heap *const stored = ((struct heap_store *)store)->heap;
    evh_tree *const tree = evh_root_find(stored, "tree", NULL);
    for (size_t i = 0; i < count; i++) {
        uint64_t *const value = evh_tree_put(stored, tree, keys[i], sizeof *value);
        bench_require(value, "put");
        *value = values[i];
    }
    commit_heap_store(store);
}

static void relax_heap_store(void *store, bool is_relaxed)
{
    struct heap_store *const relaxed = store;
    relaxed->is_relaxed = is_relaxed;
    if (!is_relaxed) commit_heap_store(relaxed);
}

static void close_heap_store(void *store)
{
    bench_require(evh_close(((struct heap_store *)store)->heap) == EVH_OK, "close");
    free(store);
}

static const struct collect_store heap_map = {"map", open_heap_store, put_map, relax_heap_store,
                                              close_heap_store};
static const struct collect_store heap_tree = {"tree", open_heap_store, put_tree, relax_heap_store,
                                               close_heap_store};

enum { STORES = 4, OURS = 2, BATCH_KINDS = 4, LOADED = 100000 };

static const struct collect_store *const kinds[STORES] = {&heap_map, &heap_tree, &collect_lmdb,
                                                          &collect_sqlite};

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Medians of `rounds` batches, in nanoseconds per update. */
static void batches(void *const stores[STORES], const uint64_t *keys, size_t count,
                    size_t batch_items, size_t rounds, double medians[STORES])
{
    static uint64_t random = 7;
    uint64_t *const some = bench_memory(batch_items, sizeof *some);
    uint64_t *const values = bench_memory(batch_items, sizeof *values);
    double *const times[STORES] = {
        bench_memory(rounds, sizeof(double)), bench_memory(rounds, sizeof(double)),
        bench_memory(rounds, sizeof(double)), bench_memory(rounds, sizeof(double))};
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < batch_items; i++) {
            some[i] = keys[bench_random(&random) % count];
            values[i] = bench_random(&random);
        }
        if (bench_option(options, "sorted"))
            qsort(some, batch_items, sizeof *some, compare_numbers);
        for (unsigned i = 0; i < STORES; i++) {
            if (!stores[i]) continue;
            const uint64_t start = bench_now_ns();
            kinds[i]->put(stores[i], some, values, batch_items);
            times[i][round] = (double)(bench_now_ns() - start) / (double)batch_items;
        }
    }
    for (unsigned i = 0; i < STORES; i++) {
        medians[i] = bench_median(times[i], rounds);
        free(times[i]);
    }
    free(values);
    free(some);
}

static void print_batches(size_t count, size_t batch_items, bool is_relaxed,
                          const double medians[STORES])
{
    printf("%9zu %7zu  %-7s", count, batch_items, is_relaxed ? "relaxed" : "durable");
    for (unsigned i = 0; i < STORES; i++) printf(" %10s", bench_time_text(medians[i]));
    for (unsigned i = 0; i < OURS; i++)
        for (unsigned k = OURS; k < STORES; k++)
            printf(" %8s", bench_ratio_text(medians[k], medians[i]));
    printf("\n");
    fflush(stdout);
}

static void store_path(unsigned number, const char *suffix, char *name, size_t size)
{
    snprintf(name, size, "collect-%u.data%s", number, suffix);
}

static void end_store_files(unsigned number)
{
    static const char *const suffixes[] = {"", "-lock", "-wal", "-shm"};
    char name[32];
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        store_path(number, suffixes[i], name, sizeof name);
        bench_file_end(bench_file(name));
    }
}

static void beside_stores(size_t count)
{
    static const size_t sizes[BATCH_KINDS] = {1, 100, 10000, 100000};
    static const size_t rounds[BATCH_KINDS] = {101, 51, 15, 7};
    uint64_t *const keys = bench_memory(count, sizeof *keys);
    uint64_t random = 3;
    for (size_t i = 0; i < count; i++) keys[i] = bench_random(&random);
    void *stores[STORES] = {0};
    for (unsigned i = 0; i < STORES; i++) {
        char name[32];
        store_path(i, "", name, sizeof name);
        char *const path = bench_file(name);
        if (kinds[i]->open) stores[i] = kinds[i]->open(path);
        for (size_t k = 0; stores[i] && k < count; k += LOADED)
            kinds[i]->put(stores[i], keys + k, keys + k, count - k < LOADED ? count - k : LOADED);
        free(path);
    }
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        for (unsigned i = 0; i < STORES; i++)
            if (stores[i]) kinds[i]->relax(stores[i], relaxed);
        for (unsigned kind = 0; kind < BATCH_KINDS; kind++) {
            double medians[STORES];
            batches(stores, keys, count, sizes[kind], rounds[kind], medians);
            print_batches(count, sizes[kind], relaxed, medians);
        }
    }
    for (unsigned i = 0; i < STORES; i++) {
        if (stores[i]) kinds[i]->close(stores[i]);
        end_store_files(i);
    }
    free(keys);
}

static void beside_all_stores(size_t count_max)
{
    printf("\nupdates of random keys%s in batches, time per update (median)\n",
           bench_option(options, "sorted") ? ", in ascending order," : "");
    printf("%9s %7s  %-7s %10s %10s %10s %10s   LMDB, SQLite / map     / tree\n", "items", "batch",
           "", "map", "tree", "LMDB", "SQLite");
    for (size_t count = 10000; count <= count_max; count *= 10) beside_stores(count);
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

static bool is_wanted(const char *part)
{
    const char *const only = bench_option(options, "only");
    return !only || strcmp(only, part) == 0;
}

int main(int argc, char **argv)
{
    bench_options_read(argc, argv, options,
                       "Measure map and tree beside std::unordered_map and std::map, and batches "
                       "beside LMDB and SQLite.");
    bench_print_machine("collections");
    const size_t count_max = bench_option_number(options, "max", 1000000);
    if (is_wanted("std") || is_wanted("fronts")) {
        char *const path = bench_file("collect.heap");
        heap = evh_open(path, NULL);
        bench_require(heap, "open");
        if (is_wanted("std")) beside_std(false, count_max);
        if (is_wanted("std")) beside_std(true, count_max);
        if (is_wanted("fronts")) fronts();
        if (is_wanted("fronts")) collisions();
        evh_close(heap);
        bench_file_end(path);
    }
    if (is_wanted("stores")) beside_all_stores(bench_option_number(options, "items", 1000000));
    bench_print_command(argc, argv);
    return 0;
}
