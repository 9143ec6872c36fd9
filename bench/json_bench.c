/* json_bench.c -- JSON documents beside parsers, databases and programs, in one run. */
#include "bench.h"
#include "json_ours.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/*
 * Method
 *   Texts: parsed from memory into a tree and written to memory again, the median of several
 *   rounds, in processor time. Memory that a round frees stays for the next, in every allocator:
 *   faults of new pages would cost most otherwise.
 *   Databases: a text with many statuses is loaded until it is durable; then changed durably one by
 *   one, changed very often in one transaction, read at random, searched; by the clock, since they
 *   wait for the disk. Reading and searching: all of it is in memory.
 *   Processes: from the start of a process to its end, one path read in between; with the file in
 *   the system's cache, and after it was dropped from there.
 *   Peers are those that were installed when this was built; versions are those of the system.
 */

enum { ROUNDS = 5, READS = 20000, UPDATES = 300, BATCH = 100000, STATUSES_MIN = 1000 };

static struct bench_option options[] = {
    {"file", "a JSON text; otherwise one is made, of 64 MiB", true, NULL},
    {"only", "text, stores, processes or large", true, NULL},
    {0},
};

/* Processor time of this process: parsing waits for nothing. */
static double work_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static char *read_text(const char *path, size_t *size)
{
    FILE *const file = fopen(path, "rb");
    if (!file) bench_die("%s cannot be opened", path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *const text = bench_memory(1, *size + 1);
    if (fread(text, 1, *size, file) != *size) bench_die("%s cannot be read", path);
    fclose(file);
    return text;
}

static char *make_text(size_t *size)
{
    const size_t limit = 64 * BENCH_MIB;
    char *const text = bench_memory(1, limit + 2000);
    uint64_t state = 1;
    size_t at = (size_t)snprintf(text, 2000, "{\"statuses\":[");
    for (int i = 0; at < limit; i++) {
        const uint64_t number = bench_random(&state);
        at += (size_t)snprintf(
            text + at, 2000,
            "%s{\"id\":%llu,\"text\":\"status %d says what the \xc3\xbc"
            "ber-quick fox did to dog %llu%s\","
            "\"user\":{\"screen_name\":\"u_%d\",\"name\":\"name "
            "%llu\",\"followers_count\":%llu,\"verified\":"
            "false,\"url\":null,\"lang\":\"en\"},\"entities\":{\"hashtags\":[],\"urls\":[\"http://"
            "t.co/%llx\"]},"
            "\"geo\":%s,\"retweet_count\":%llu,\"favorited\":false,\"lang\":\"de\"}",
            i ? "," : "", (unsigned long long)(number >> 4), i, (unsigned long long)(number % 977),
            i % 20000 == 1234 ? " zqxneedle" : "", i, (unsigned long long)(number % 100000),
            (unsigned long long)(number % 7919), (unsigned long long)number,
            i % 3 ? "null" : "{\"coordinates\":[13.3777,52.5163]}",
            (unsigned long long)(number % 500));
    }
    at += (size_t)snprintf(text + at, 2000, "]}");
    *size = at;
    return text;
}

/* ---- texts ---- */

static uint64_t malloc_bytes(void)
{
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static uint64_t values; /* of the text, as ours counts them */

static void measure_parser(const struct json_parser *parser, const char *text, size_t size)
{
    double parse[ROUNDS];
    double write[ROUNDS];
    const bool is_ours = parser == &json_ours_parser;
    const int rounds = size > 100 * BENCH_MIB ? 3 : ROUNDS;
    uint64_t bytes = 0;
    for (int round = -1; round < rounds; round++) { /* the first one warms up */
        const uint64_t before = malloc_bytes();
        double start = work_ns();
        void *const tree = parser->parse(text, size);
        if (!tree) {
            printf("%-20s refuses the text\n", parser->name);
            return;
        }
        if (round >= 0) parse[round] = work_ns() - start;
        bytes = is_ours ? json_ours_bytes() : malloc_bytes() - before;
        if (is_ours && !values) values = json_ours_values(tree);
        start = work_ns();
        const size_t written = parser->write(tree);
        if (round >= 0) write[round] = (work_ns() - start) * (double)size / (double)written;
        parser->end(tree);
    }
    printf("%-20s %9.2f GB/s %7.2f GB/s %9.0f bytes\n", parser->name,
           (double)size / bench_median(parse, (size_t)rounds),
           (double)size / bench_median(write, (size_t)rounds), (double)bytes / (double)values);
}

static void measure_texts(const char *text, size_t size)
{
    printf("\n%-20s %14s %12s %15s\n", "text", "parse", "write", "per value");
    measure_parser(&json_ours_parser, text, size);
    for (const struct json_parser *p = json_parsers_cxx; p->name; p++)
        measure_parser(p, text, size);
    for (const struct json_parser *p = json_parsers_c; p->name; p++) measure_parser(p, text, size);
}

/* ---- databases ---- */

static const struct json_part parts[] = {
    {"rare", "zqxneedle"},
    {"common", "quick"},
    {"everywhere", "e"},
};

enum { PARTS = sizeof parts / sizeof parts[0] };

/* What one database took. */
struct outcome {
    const char *name;
    char *path;
    uint64_t file_bytes;
    double load, update, update_99, batch, read, search[PARTS];
    uint64_t found[PARTS];
};

enum { STORES_MAX = 8 };

static struct outcome outcomes[STORES_MAX];
static size_t outcome_count;

static void update_one(const struct json_store *store, void *open, size_t count, uint64_t *state)
{
    const uint64_t random = bench_random(state);
    const char letters[2] = {(char)('a' + random % 26), (char)('a' + random / 26 % 26)};
    store->update(open, (size_t)(random >> 16) % count, letters);
}

static void measure_updates(const struct json_store *store, void *open, size_t count,
                            struct outcome *outcome)
{
    struct bench_samples samples = {0};
    uint64_t state = 3;
    for (int i = 0; i < UPDATES; i++) {
        const uint64_t start = bench_now_ns();
        store->begin(open);
        update_one(store, open, count, &state);
        store->commit(open);
        bench_samples_add(&samples, (double)(bench_now_ns() - start));
    }
    outcome->update = bench_samples_at(&samples, 0.5);
    outcome->update_99 = bench_samples_at(&samples, 0.99);
    bench_samples_free(&samples);
    const uint64_t begin = bench_now_ns();
    store->begin(open);
    for (int i = 0; i < BATCH; i++) update_one(store, open, count, &state);
    store->commit(open);
    outcome->batch = (double)(bench_now_ns() - begin);
}

static void measure_reads(const struct json_store *store, void *open, size_t count,
                          struct outcome *outcome)
{
    double spent[ROUNDS];
    char start[16];
    size_t sum = 0;
    for (int round = -1; round < ROUNDS && store->read; round++) {
        uint64_t state = 7;
        const double begin = work_ns();
        for (int i = 0; i < READS; i++)
            sum += store->read(open, (size_t)(bench_random(&state) % count), start, sizeof start);
        if (round >= 0) spent[round] = (work_ns() - begin) / READS;
    }
    bench_require(sum > 0 || !store->read, "read");
    if (store->read) outcome->read = bench_median(spent, ROUNDS);
    for (int part = 0; part < PARTS && store->search; part++) {
        double times[3];
        for (int round = 0; round < 3; round++) {
            const uint64_t begin = bench_now_ns();
            outcome->found[part] = store->search(open, parts[part].text);
            times[round] = (double)(bench_now_ns() - begin);
        }
        outcome->search[part] = bench_median(times, 3);
    }
}

/* On the disk. */
static uint64_t size_of_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? (uint64_t)status.st_blocks * 512 : 0;
}

/* What the index of strings costs, and spares. */
static void measure_index(void *open)
{
    evh_db *const db = json_ours_db(open);
    uint64_t start = bench_now_ns();
    bench_require(!evh_db_set_index(db, true) && !evh_db_commit(db), "make an index");
    const uint64_t made = bench_now_ns() - start;
    const evh_node bytes = evh_db_get(db, "/$metrics/index_bytes");
    printf("an index of strings         %s to make and commit, %.1f MB\n",
           bench_time_text((double)made),
           (double)evh_json_unsigned(bytes.json, bytes.value, NULL) / 1e6);
    for (int part = 0; part < PARTS; part++) {
        double times[ROUNDS];
        uint64_t found = 0;
        for (int round = 0; round < ROUNDS; round++) {
            start = bench_now_ns();
            found = json_ours_store.search(open, parts[part].text);
            times[round] = (double)(bench_now_ns() - start);
        }
        printf("  search \"%s\" with it %*s %s for %llu\n", parts[part].text,
               (int)(12 - strlen(parts[part].text)), "",
               bench_time_text(bench_median(times, ROUNDS)), (unsigned long long)found);
    }
    bench_require(!evh_db_set_index(db, false) && !evh_db_commit(db), "free an index");
}

/* What a prepared path costs, which only ours has; and its dump. */
static void measure_ours(void *open, size_t count)
{
    evh_json *const json = evh_db_json(json_ours_db(open));
    const evh_node counted = evh_db_get(json_ours_db(open), "/$metrics/values");
    values = evh_json_unsigned(counted.json, counted.value, NULL);
    evh_json_path **const paths = bench_memory(READS, sizeof(evh_json_path *));
    uint64_t state = 7;
    for (int i = 0; i < READS; i++) {
        char text[64];
        const size_t status = (size_t)(bench_random(&state) % count);
        snprintf(text, sizeof text, "/statuses/%zu/user/screen_name", status);
        paths[i] = evh_json_compile(json, text, strlen(text));
    }
    double spent[2][ROUNDS];
    size_t sum = 0;
    for (int round = -1; round < ROUNDS; round++)
        for (int kind = 0; kind < 2; kind++) {
            const double start = work_ns();
            for (int i = 0; i < READS; i++) {
                size_t size = 0;
                const evh_value value =
                    evh_json_walk(json, evh_json_root(json), paths[kind ? i : 0]);
                if (evh_json_text(json, value, &size)) sum += size;
            }
            if (round >= 0) spent[kind][round] = (work_ns() - start) / READS;
        }
    printf("\na prepared path             %s again and again, %s at random (%zu)\n",
           bench_time_text(bench_median(spent[0], ROUNDS)),
           bench_time_text(bench_median(spent[1], ROUNDS)), sum % 10);
    for (int i = 0; i < READS; i++) evh_json_path_end(paths[i]);
    free(paths);
    const double start = work_ns();
    const size_t size = json_ours_parser.write(json);
    printf("dump                        %s for %.1f MB\n", bench_time_text(work_ns() - start),
           (double)size / 1e6);
}

static size_t status_count;

static void count_item(size_t number, const char *item, size_t size, void *context)
{
    (void)item;
    (void)size;
    *(size_t *)context = number + 1;
}

static void measure_store(const struct json_store *store, const char *text, size_t size)
{
    struct outcome *const outcome = &outcomes[outcome_count];
    char name[40];
    snprintf(name, sizeof name, "json-%zu", outcome_count);
    *outcome = (struct outcome){.name = store->name, .path = bench_file(name)};
    uint64_t start = bench_now_ns();
    void *open = store->open(outcome->path, true);
    store->load(open, text, size);
    outcome->load = (double)(bench_now_ns() - start);
    store->close(open);
    outcome->file_bytes = size_of_file(outcome->path);
    open = store->open(outcome->path, false);
    measure_reads(store, open, status_count, outcome);
    if (store == &json_ours_store) measure_ours(open, status_count);
    if (store->update) measure_updates(store, open, status_count, outcome);
    if (store == &json_ours_store) measure_index(open);
    store->close(open);
    outcome_count++;
}

static void print_row(const char *what, size_t at)
{
    printf("%-28s", what);
    for (size_t i = 0; i < outcome_count; i++)
        printf("%24s", bench_time_text(*(const double *)((const char *)&outcomes[i] + at)));
    printf("\n");
}

static void print_stores(void)
{
    printf("\n%-28s", "database");
    for (size_t i = 0; i < outcome_count; i++) printf("%24s", outcomes[i].name);
    printf("\n");
    print_row("load, until durable", offsetof(struct outcome, load));
    printf("%-28s", "file, bytes per value");
    for (size_t i = 0; i < outcome_count; i++)
        printf("%24.1f", (double)outcomes[i].file_bytes / (double)(values ? values : 1));
    printf("\n");
    print_row("read a path, random", offsetof(struct outcome, read));
    print_row("a durable change, median", offsetof(struct outcome, update));
    print_row("a durable change, 99 %", offsetof(struct outcome, update_99));
    print_row("100,000 in one commit", offsetof(struct outcome, batch));
    for (int part = 0; part < PARTS; part++) {
        char what[40];
        snprintf(what, sizeof what, "search \"%s\", %s", parts[part].text, parts[part].what);
        print_row(what, offsetof(struct outcome, search) + (size_t)part * sizeof(double));
        printf("%-28s", "  found");
        for (size_t i = 0; i < outcome_count; i++)
            printf("%24.0llu", (unsigned long long)outcomes[i].found[part]);
        printf("\n");
    }
}

static void measure_stores(const char *text, size_t size)
{
    measure_store(&json_ours_store, text, size);
    measure_store(&json_guarded_store, text, size);
    for (const struct json_store *s = json_stores; s->name && outcome_count < STORES_MAX; s++)
        measure_store(s, text, size);
    print_stores();
}

/* ---- processes ---- */

static void measure_program(int program, const char *path, size_t runs)
{
    struct bench_samples warm = {0};
    struct bench_samples cold = {0};
    for (size_t i = 0; i < 2 * runs; i++) {
        if (i >= runs) (void)bench_file_make_cold(path);
        const double time = json_program_run(program, path, status_count / 2);
        if (time == 0) return;
        bench_samples_add(i < runs ? &warm : &cold, time);
    }
    printf("%-28s%14s%14s\n", json_program_name(program),
           bench_time_text(bench_samples_at(&warm, 0.5)),
           bench_time_text(bench_samples_at(&cold, 0.5)));
    bench_samples_free(&warm);
    bench_samples_free(&cold);
}

static void measure_processes(const char *text, size_t size)
{
    printf("\n%-28s%14s%14s\n", "a process, one path", "cached", "not cached");
    measure_program(JSON_OURS, outcomes[0].path, 21);
    for (size_t i = 1; i < outcome_count; i++)
        if (strcmp(outcomes[i].name, "SQLite, a row each") == 0)
            measure_program(JSON_SQLITE, outcomes[i].path, 21);
    char *const path = bench_file("json.text");
    FILE *const file = fopen(path, "wb");
    if (!file || fwrite(text, 1, size, file) != size || fclose(file)) bench_die("%s: full", path);
    for (int program = JSON_TEXTS; program < JSON_PROGRAMS; program++)
        measure_program(program, path, 1);
    bench_file_end(path);
}

int main(int argc, char **argv)
{
    bench_options_read(argc, argv, options, "Measure JSON documents beside others.");
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, INT32_MAX);
    mallopt(M_TOP_PAD, 64 << 20);
    bench_print_machine("JSON documents");
    const char *const path = bench_option(options, "file");
    const char *const only = bench_option(options, "only");
    if (!only || strcmp(only, "large") == 0) json_large_run();
    if (only && strcmp(only, "large") == 0) return 0;
    size_t size = 0;
    char *const text = path ? read_text(path, &size) : make_text(&size);
    printf("\n%s, %.1f MB\n", path ? path : "statuses that were made", (double)size / 1e6);
    const bool has_statuses = size > 13 && memcmp(text, "{\"statuses\":[", 13) == 0;
    if (has_statuses) json_each_item(text, size, count_item, &status_count);
    if (!only || strcmp(only, "text") == 0) measure_texts(text, size);
    if (status_count >= STATUSES_MIN && (!only || strcmp(only, "text") != 0)) {
        measure_stores(text, size);
        if (!only || strcmp(only, "processes") == 0) measure_processes(text, size);
    }
    for (size_t i = 0; i < outcome_count; i++) bench_file_end(outcomes[i].path);
    free(text);
    bench_print_command(argc, argv);
    return 0;
}
