/* commit_bench.c -- what a commit costs, beside the raw disk, LMDB and SQLite. */
#include "commit_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Method
 *   All stores hold the same records (commit_store.h), and take turns in one run: round by round,
 *   each makes commits for the same time, so that a slow minute of the machine meets them all.
 *   The first round is not counted. Measured is everything from the first change of a commit to
 *   its durability: the stores to memory, page faults, look-ups, row encoding. What to change is
 *   chosen before.
 *
 *   Each turn ends, inside the measured time, with the store's own checkpoint, so that nothing
 *   put off is done in another's turn or not at all; the checkpoints that a store makes on its
 *   own account run as they do in use. The mean is all time over all commits: the honest figure.
 *   p50 and p99 are of single commits.
 *
 *   At the end every store is closed, opened and compared, record by record, with what it was told.
 */

enum { ROUNDS = 10, ROUNDS_MAX = 40, CHECKPOINTS_WANTED = 10 };

static const char about[] =
    "Measure commits of everheap beside raw writes, LMDB and SQLite, in one run.\n"
    "usage: commit_bench [options]";

static struct bench_option options[] = {
    {"quick", "about a minute: less time and data for each figure", false, NULL},
    {"tiny", "seconds: only to see that it works", false, NULL},
    {"percent", "of the usual time for each figure", true, NULL},
    {"size-mib", "data under the scattered changes (256; 64 and 1024 are of interest)", true, NULL},
    {"only", "workloads whose title has this text", true, NULL},
    {"store", "stores whose name has this text, and everheap; all by default", true, NULL},
    {0},
};

static bool is_quick, is_tiny;
static uint64_t seed = 1;

/* ---- the stores ---- */

static struct store stores[] = {
    {.name = "floor: write + fdatasync", .calls = &store_floor_calls, .is_floor = true},
    {.name = "floor: RWF_DSYNC",
     .calls = &store_floor_calls,
     .variant = STORE_DSYNC,
     .is_floor = true},
    {.name = "everheap", .calls = &store_everheap_calls},
    {.name = "everheap, guards",
     .calls = &store_everheap_calls,
     .variant = STORE_GUARDS,
     .is_one_page_only = true},
    {.name = "LMDB", .calls = &store_lmdb_calls},
    {.name = "LMDB NOMETASYNC", .calls = &store_lmdb_calls, .variant = STORE_NO_META_SYNC},
    {.name = "SQLite WAL FULL", .calls = &store_sqlite_calls},
};

enum { STORES = sizeof stores / sizeof stores[0], EVERHEAP = 2 };

static bool is_part(const struct store *store, bool one_page)
{
    const char *const wanted = bench_option(options, "store");
    if (wanted && store != &stores[EVERHEAP] && !strstr(store->name, wanted)) return false;
    return store->calls->open && (one_page || !store->is_one_page_only);
}

/* Other files of a store that an interrupted run has left. */
static void remove_companions(const char *path)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal", "-lock"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        char name[1100];
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        unlink(name);
    }
}

static void open_stores(uint64_t record_count, bool one_page)
{
    for (unsigned i = 0; i < STORES; i++) {
        struct store *const store = &stores[i];
        if (!is_part(store, one_page)) continue;
        char name[32];
        snprintf(name, sizeof name, "commit_%u", i);
        store->path = bench_file(name);
        remove_companions(store->path);
        store->record_count = record_count;
        store->thread_count = 1;
        store->pages_per_commit = 1;
        store->expected = bench_memory(record_count, sizeof *store->expected);
        store->calls->open(store, true);
        store->calls->settle(store);
    }
    sync(); /* what was written to make them is not to be flushed on another's time */
}

static void verify_store(struct store *store)
{
    struct store_record content, expected;
    for (uint64_t i = 0; i < store->record_count; i++) {
        store_record_fill(&expected, i);
        expected.value = store->expected[i];
        store->calls->read(store, i, &content);
        if (memcmp(&content, &expected, sizeof content) == 0) continue;
        bench_die("%s: record %llu has value %llu instead of %llu, or another body", store->name,
                  (unsigned long long)i, (unsigned long long)content.value,
                  (unsigned long long)expected.value);
    }
}

/* Close them all; compare what the next opening finds with what was committed. */
static void close_stores(bool one_page)
{
    unsigned verified = 0;
    uint64_t records = 0;
    for (unsigned i = 0; i < STORES; i++) {
        struct store *const store = &stores[i];
        if (!is_part(store, one_page)) continue;
        store->thread_count = 1;
        store->calls->close(store);
        if (store->calls->read) {
            store->calls->open(store, false);
            verify_store(store);
            store->calls->close(store);
            verified++;
            records = store->record_count;
        }
        remove_companions(store->path);
        bench_file_end(store->path);
        free(store->expected);
        store->path = NULL;
        store->expected = NULL;
        store->state = NULL;
    }
    printf("\nverified after reopening: %llu records in each of %u stores, all as committed\n",
           (unsigned long long)records, verified);
}

/* ---- one figure ---- */

struct figure {
    struct bench_samples commits; /* ns */
    double total_ns;              /* with the checkpoints at the end of each turn */
    double changes_ns;            /* of that: before the commit itself */
    uint64_t checkpoints, pages;
    bool is_part;
};

struct work {
    const char *title;
    uint64_t size_mib;
    uint64_t updates;  /* in one commit */
    bool is_scattered; /* each on a page of its own */
    double seconds;    /* for each store, in all rounds */
};

/* The records that a commit changes, and how many pages they lie on. */
struct choice {
    uint64_t *records;
    uint64_t count, pages;
    uint32_t *stamps; /* of each page: the choice that took it */
    uint32_t stamp;
    uint64_t random;
};

static void choose(struct choice *choice, const struct work *work, uint64_t record_count)
{
    const uint64_t page_count = record_count / STORE_RECORDS_PER_PAGE;
    choice->stamp++;
    choice->count = choice->pages = 0;
    while (choice->count < work->updates) {
        const uint64_t random = bench_random(&choice->random);
        const uint64_t page = (random >> 8) % page_count;
        const bool is_new = choice->stamps[page] != choice->stamp;
        if (work->is_scattered && !is_new) continue;
        choice->stamps[page] = choice->stamp;
        choice->pages += is_new;
        choice->records[choice->count++] =
            page * STORE_RECORDS_PER_PAGE + random % STORE_RECORDS_PER_PAGE;
    }
}

static double commit_once(struct store *store, const struct choice *choice, uint64_t value,
                          struct figure *figure)
{
    store->pages_per_commit = choice->pages;
    const uint64_t start = bench_now_ns();
    store->calls->begin(store, 0);
    for (uint64_t i = 0; i < choice->count; i++)
        store->calls->update(store, 0, choice->records[i], value);
    const uint64_t changed = bench_now_ns();
    store->calls->commit(store, 0);
    const double elapsed = (double)(bench_now_ns() - start);
    bench_samples_add(&figure->commits, elapsed);
    figure->changes_ns += (double)(changed - start);
    for (uint64_t i = 0; i < choice->count; i++) store->expected[choice->records[i]] = value;
    return elapsed;
}

static uint64_t checkpoints_of(struct store *store)
{
    return store->calls->checkpoints ? store->calls->checkpoints(store) : 0;
}

static uint64_t pages_of(struct store *store)
{
    return store->calls->pages ? store->calls->pages(store) : 0;
}

/* A store's turn: commits for `turn_ns`, at least one, then its checkpoint. */
static void take_turn(struct store *store, const struct work *work, struct choice *choice,
                      double turn_ns, struct figure *figure)
{
    static uint64_t value;
    const uint64_t checkpoints = checkpoints_of(store), pages = pages_of(store);
    double elapsed = 0;
    while (elapsed < turn_ns) {
        choose(choice, work, store->record_count);
        elapsed += commit_once(store, choice, ++value, figure);
    }
    const uint64_t start = bench_now_ns();
    store->calls->settle(store);
    figure->total_ns += elapsed + (double)(bench_now_ns() - start);
    figure->checkpoints += checkpoints_of(store) - checkpoints;
    figure->pages += pages_of(store) - pages;
}

/* ---- the table ---- */

static double mean_of(const struct figure *figure)
{
    return figure->commits.count ? figure->total_ns / (double)figure->commits.count : 0;
}

/* The smaller of the two floors. */
static double floor_of(struct figure *figures, double (*value)(struct figure *))
{
    double smallest = 0;
    for (unsigned i = 0; i < STORES; i++) {
        if (!stores[i].is_floor || !figures[i].is_part) continue;
        const double here = value(&figures[i]);
        if (smallest <= 0 || here < smallest) smallest = here;
    }
    return smallest;
}

static double median_value(struct figure *figure)
{
    return bench_samples_at(&figure->commits, 0.5);
}

static double mean_value(struct figure *figure)
{
    return mean_of(figure);
}

static void print_row(const char *name, struct figure *figure, struct figure *figures,
                      bool is_floor)
{
    const double floor_mean = floor_of(figures, mean_value);
    const double floor_median = floor_of(figures, median_value);
    printf("  %-24s %8zu %10s %10s %10s %10s %8s %8s %8s %8s", name, figure->commits.count,
           bench_time_text(mean_of(figure)),
           bench_time_text(figure->changes_ns / (double)figure->commits.count),
           bench_time_text(median_value(figure)),
           bench_time_text(bench_samples_at(&figure->commits, 0.99)),
           bench_ratio_text(mean_of(figure), mean_of(&figures[EVERHEAP])),
           bench_ratio_text(median_value(figure), median_value(&figures[EVERHEAP])),
           bench_ratio_text(mean_of(figure), floor_mean),
           bench_ratio_text(median_value(figure), floor_median));
    if (figure->checkpoints)
        printf(" %7llu%s", (unsigned long long)figure->checkpoints,
               figure->checkpoints < CHECKPOINTS_WANTED ? " (few)" : "");
    else
        printf(" %7s", is_floor ? "-" : "none");
    printf("\n");
}

static void print_figures(const struct work *work, struct figure *figures, unsigned rounds)
{
    printf("\n## %s, %llu MiB resident (%u rounds)\n\n", work->title,
           (unsigned long long)work->size_mib, rounds);
    printf("  %-24s %8s %10s %10s %10s %10s %17s %17s %7s\n", "", "", "", "of that", "", "",
           "/ everheap", "/ floor", "check-");
    printf("  %-24s %8s %10s %10s %10s %10s %8s %8s %8s %8s %7s\n", "", "commits", "mean",
           "changes", "p50", "p99", "mean", "p50", "mean", "p50", "points");
    for (unsigned i = 0; i < STORES; i++)
        if (figures[i].is_part) print_row(stores[i].name, &figures[i], figures, stores[i].is_floor);
    printf("  everheap changed %.1f pages per commit\n",
           (double)figures[EVERHEAP].pages / (double)figures[EVERHEAP].commits.count);
    fflush(stdout);
}

/* Whether a store that checkpoints has made too few for the mean to include their true share. */
static bool needs_more(struct store *store, const struct figure *figure)
{
    return figure->is_part && store->calls->checkpoints && figure->checkpoints < CHECKPOINTS_WANTED;
}

static void run_work(const struct work *work, unsigned rounds)
{
    const bool one_page = work->updates == 1;
    struct figure figures[STORES] = {0};
    struct choice choice = {.random = seed};
    choice.records = bench_memory(work->updates, sizeof *choice.records);
    choice.stamps = bench_memory(work->size_mib * BENCH_MIB / STORE_PAGE_BYTES, sizeof(uint32_t));
    const double turn_ns = work->seconds / rounds * 1e9;

    for (unsigned round = 0; round <= rounds; round++) {
        for (unsigned turn = 0; turn < STORES; turn++) {
            const unsigned i = (round + turn) % STORES;
            if (!is_part(&stores[i], one_page)) continue;
            struct figure warming = {0};
            take_turn(&stores[i], work, &choice, turn_ns, round ? &figures[i] : &warming);
            bench_samples_free(&warming.commits);
            figures[i].is_part = true;
        }
        if (round != rounds || rounds >= ROUNDS_MAX || is_quick) continue;
        for (unsigned i = 0; i < STORES; i++)
            if (needs_more(&stores[i], &figures[i])) rounds = round + 1;
    }

    print_figures(work, figures, rounds);
    for (unsigned i = 0; i < STORES; i++) bench_samples_free(&figures[i].commits);
    free(choice.records);
    free(choice.stamps);
}

/* ---- several commits in flight ---- */

struct flight {
    struct store *store;
    unsigned number, count; /* this one of so many */
    uint64_t until_ns;
    uint64_t random;
    struct bench_samples commits;
};

/* Threads change different records, so that what must be there afterwards is known. */
static uint64_t own_record(struct flight *flight)
{
    const uint64_t share = flight->store->record_count / flight->count;
    return bench_random(&flight->random) % share * flight->count + flight->number;
}

/* One of several threads that commit at once. */
static void *fly_thread(void *context)
{
    struct flight *const flight = context;
    struct store *const store = flight->store;
    for (uint64_t start; (start = bench_now_ns()) < flight->until_ns;) {
        const uint64_t record = own_record(flight), value = start;
        store->calls->begin(store, flight->number);
        store->calls->update(store, flight->number, record, value);
        store->calls->commit(store, flight->number);
        store->expected[record] = value;
        bench_samples_add(&flight->commits, (double)(bench_now_ns() - start));
    }
    return NULL;
}

static void fly_in_threads(struct store *store, struct flight *flights, unsigned count)
{
    pthread_t threads[STORE_THREADS_MAX];
    store->thread_count = count;
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, fly_thread, &flights[i])) bench_die("no thread");
    for (unsigned i = 0; i < count; i++) pthread_join(threads[i], NULL);
    store->thread_count = 1;
}

/* One thread with `count` commits begun and not waited for. */
static void fly_in_window(struct store *store, struct flight *flight, unsigned count)
{
    uint64_t tickets[STORE_THREADS_MAX], starts[STORE_THREADS_MAX];
    uint64_t begun = 0, ended = 0;
    for (bool is_late = false; !is_late || ended < begun;) {
        const uint64_t now = bench_now_ns();
        is_late = now >= flight->until_ns;
        if (!is_late && begun - ended < count) {
            const uint64_t record = bench_random(&flight->random) % store->record_count;
            store->calls->begin(store, 0);
            store->calls->update(store, 0, record, now);
            store->expected[record] = now;
            starts[begun % count] = now;
            tickets[begun++ % count] = store->calls->commit_begin(store);
        } else {
            store->calls->commit_wait(store, tickets[ended % count]);
            bench_samples_add(&flight->commits, (double)(bench_now_ns() - starts[ended++ % count]));
        }
    }
}

/* A store's turn with `count` commits in flight. */
static void fly(struct store *store, unsigned count, bool in_window, double turn_ns,
                struct figure *figure)
{
    static uint64_t flown;
    struct flight flights[STORE_THREADS_MAX] = {0};
    const uint64_t checkpoints = checkpoints_of(store), pages = pages_of(store);
    store->pages_per_commit = 1;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < count; i++)
        flights[i] = (struct flight){.store = store,
                                     .number = i,
                                     .count = count,
                                     .until_ns = start + (uint64_t)turn_ns,
                                     .random = seed + ++flown};
    if (in_window)
        fly_in_window(store, &flights[0], count);
    else
        fly_in_threads(store, flights, count);
    store->calls->settle(store);
    figure->total_ns += (double)(bench_now_ns() - start);
    for (unsigned i = 0; i < count; i++) {
        for (size_t k = 0; k < flights[i].commits.count; k++)
            bench_samples_add(&figure->commits, flights[i].commits.values[k]);
        bench_samples_free(&flights[i].commits);
    }
    figure->checkpoints += checkpoints_of(store) - checkpoints;
    figure->pages += pages_of(store) - pages;
}

static void print_flight_row(const char *name, struct figure *figure, double everheap_mean,
                             bool has_checkpoints)
{
    const double mean = mean_of(figure);
    printf("  %-34s %8zu %12.0f %10s %10s %10s %10s", name, figure->commits.count,
           mean > 0 ? 1e9 / mean : 0, bench_time_text(mean), bench_time_text(median_value(figure)),
           bench_time_text(bench_samples_at(&figure->commits, 0.99)),
           bench_ratio_text(mean, everheap_mean));
    if (has_checkpoints) printf(" %7llu", (unsigned long long)figure->checkpoints);
    printf("\n");
}

/* Stores, and behind them everheap once more: in a window of one thread. */
static void run_flights(unsigned count, double seconds, uint64_t size_mib)
{
    struct figure figures[STORES + 1] = {0};
    for (unsigned round = 0; round <= ROUNDS; round++) {
        for (unsigned turn = 0; turn <= STORES; turn++) {
            const unsigned i = (round + turn) % (STORES + 1);
            const bool in_window = i == STORES;
            struct store *const store = &stores[in_window ? EVERHEAP : i];
            if (!is_part(store, false)) continue;
            struct figure warming = {0};
            fly(store, count, in_window, seconds / ROUNDS * 1e9, round ? &figures[i] : &warming);
            bench_samples_free(&warming.commits);
        }
    }
    printf("\n## group commit: one 8-byte change each, %u in flight, %llu MiB resident\n\n", count,
           (unsigned long long)size_mib);
    printf("  %-34s %8s %12s %10s %10s %10s %10s %7s\n", "", "", "", "time per", "latency", "",
           "/ everheap", "check-");
    printf("  %-34s %8s %12s %10s %10s %10s %10s %7s\n", "", "commits", "per second", "commit",
           "p50", "p99", "begin/wait", "points");
    const double mean = mean_of(&figures[STORES]);
    print_flight_row("everheap, begin/wait, 1 thread", &figures[STORES], mean, true);
    for (unsigned i = 0; i < STORES; i++) {
        if (!is_part(&stores[i], false)) continue;
        char name[64];
        snprintf(name, sizeof name, "%s, %u thread%s", stores[i].name, count, count > 1 ? "s" : "");
        print_flight_row(name, &figures[i], mean, stores[i].calls->checkpoints != NULL);
    }
    fflush(stdout);
    for (unsigned i = 0; i <= STORES; i++) bench_samples_free(&figures[i].commits);
}

/* ---- all of it ---- */

static bool is_wanted(const char *title)
{
    const char *const only = bench_option(options, "only");
    return !only || strstr(title, only) != NULL;
}

static double scaled(double seconds)
{
    const double percent = (double)bench_option_number(options, "percent", 100);
    return seconds * (is_tiny ? 0.005 : is_quick ? 0.12 : 1.0) * percent / 100;
}

static bool has_space(uint64_t size_mib)
{
    const uint64_t needed = 12 * size_mib * BENCH_MIB + 2 * BENCH_GIB;
    if (bench_space_bytes() >= needed) return true;
    printf("\nleft out: %llu MiB resident, for which %.0f GiB should be free\n",
           (unsigned long long)size_mib, (double)needed / (double)BENCH_GIB);
    return false;
}

/* Workloads of the same size share the stores. */
static void run_group(struct work *works, unsigned work_count, bool has_flights)
{
    bool any = has_flights && is_wanted("group commit");
    for (unsigned i = 0; i < work_count; i++) any |= is_wanted(works[i].title);
    const uint64_t size_mib = works[0].size_mib;
    if (!any || !has_space(size_mib)) return;
    const bool one_page = works[0].updates == 1;
    open_stores(size_mib * BENCH_MIB / STORE_PAGE_BYTES * STORE_RECORDS_PER_PAGE, one_page);

    static bool is_told;
    if (!is_told && one_page) {
        for (unsigned i = 0; i < STORES; i++)
            if (stores[i].path) printf("  %-26s %s\n", stores[i].name, stores[i].note);
        is_told = true;
    }
    for (unsigned i = 0; i < work_count; i++) {
        works[i].seconds = scaled(works[i].seconds);
        if (is_wanted(works[i].title)) run_work(&works[i], is_tiny ? 2 : ROUNDS);
    }
    for (unsigned count = 1; has_flights && is_wanted("group commit") && count <= 64; count *= 4)
        run_flights(count, scaled(4), size_mib);
    close_stores(one_page);
}

int main(int argc, char **argv)
{
    bench_options_read(argc, argv, options, about);
    is_tiny = bench_option(options, "tiny") != NULL;
    is_quick = is_tiny || bench_option(options, "quick");
    bench_print_machine("# Commits of everheap beside the disk, LMDB and SQLite");
    if (!store_lmdb_calls.open) printf("  LMDB is left out: lmdb.h was not found (liblmdb-dev)\n");
    if (!store_sqlite_calls.open)
        printf("  SQLite is left out: sqlite3.h was not found (libsqlite3-dev)\n");

    const uint64_t size = bench_option_number(options, "size-mib", is_tiny ? 128 : 256);
    if (size < 128)
        printf("  note: 10,000 of %llu pages is not scattered\n", (unsigned long long)size * 256);
    struct work small[] = {{"one 8-byte change per commit", 64, 1, true, 6}};
    struct work scattered[] = {
        {"100 scattered pages per commit", size, 100, true, 8},
        {"1000 scattered pages per commit", size, 1000, true, 30},
        {"10,000 scattered pages per commit", size, 10000, true, 15},
        {"100,000 scattered updates per commit", size, 100000, false, 20},
    };
    struct work large[] = {{"one 8-byte change per commit", is_tiny ? 96 : 1024, 1, true, 6}};
    run_group(small, 1, true);
    run_group(scattered, sizeof scattered / sizeof scattered[0], false);
    run_group(large, 1, false);

    printf("\nThe floor overwrites as many 4 KiB blocks as the heap changes pages, one behind the "
           "other, in\na file that has them; ratios are to the better of the two. LMDB and SQLite "
           "have no commit that\nis begun and awaited later: for several in flight they run in as "
           "many threads, one at a time\ninside. LMDB writes pages to their place at once and has "
           "no checkpoints.\n");
    bench_print_command(argc, argv);
    return 0;
}
