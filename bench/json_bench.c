/* json_bench.c -- JSON documents: parsing, writing, loading durably, changing, reading paths.
 *
 * json_bench [--file=PATH]... measures one text: how fast it is parsed into memory and written, how
 * much it takes, how long it takes until it is durable in a new heap, what one durable change
 * costs, and what a path costs, prepared and as text. Without --file the text is made: statuses of
 * a shape that is common, 64 MiB.
 */
#include "bench.h"

#include <everheap.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 5, READS = 50000, UPDATES = 300, BATCH = 100000 };

/* Processor time of this process: parsing and reading wait for nothing. */
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
            "ber-quick fox did to dog %llu\","
            "\"user\":{\"screen_name\":\"u_%d\",\"name\":\"name "
            "%llu\",\"followers_count\":%llu,\"verified\":"
            "false,\"url\":null,\"lang\":\"en\"},\"entities\":{\"hashtags\":[],\"urls\":[\"http://"
            "t.co/%llx\"]},"
            "\"geo\":%s,\"retweet_count\":%llu,\"favorited\":false,\"lang\":\"de\"}",
            i ? "," : "", (unsigned long long)(number >> 4), i, (unsigned long long)(number % 977),
            i, (unsigned long long)(number % 100000), (unsigned long long)(number % 7919),
            (unsigned long long)number, i % 3 ? "null" : "{\"coordinates\":[13.3777,52.5163]}",
            (unsigned long long)(number % 500));
    }
    at += (size_t)snprintf(text + at, 2000, "]}");
    *size = at;
    return text;
}

static evh_json *open_json(evh_heap *heap)
{
    bench_require(heap != NULL, "open");
    evh_json *const json = evh_json_open(heap, NULL);
    bench_require(json != NULL, "open a document");
    return json;
}

static int swallow(void *context, const char *text, size_t size)
{
    (void)text;
    *(size_t *)context += size;
    return 0;
}

/* Parse into memory, and write. */
static void measure_text(const char *text, size_t size)
{
    double parse[ROUNDS];
    double write[ROUNDS];
    evh_heap *const heap = evh_open_memory(NULL, 0, NULL);
    evh_json *const json = open_json(heap);
    for (int round = 0; round < ROUNDS; round++) {
        double start = work_ns();
        bench_require(!evh_json_parse(json, evh_json_root(json), text, size, NULL, NULL), "parse");
        parse[round] = work_ns() - start;
        size_t written = 0;
        start = work_ns();
        bench_require(!evh_json_write(json, evh_json_root(json), swallow, &written, NULL), "write");
        write[round] = (work_ns() - start) * (double)size / (double)written;
        if (round + 1 < ROUNDS) evh_json_set_null(json, evh_json_root(json));
    }
    evh_info info;
    bench_require(!evh_get_info(heap, &info), "count");
    printf("parse, memory there        %.2f GB/s\n", (double)size / bench_median(parse, ROUNDS));
    printf("write                      %.2f GB/s\n", (double)size / bench_median(write, ROUNDS));
    printf("in the heap                %.2f bytes per byte of text\n",
           (double)info.live_bytes / (double)size);
    evh_json_close(json);
    evh_close(heap);
}

/* Reads of the member screen_name of random statuses. */
static void measure_paths(evh_json *json)
{
    const size_t count = evh_json_count(json, evh_json_get(json, "/statuses"));
    if (count == 0) return;
    char(*const texts)[64] = bench_memory(READS, sizeof *texts);
    evh_json_path **const paths = bench_memory(READS, sizeof(evh_json_path *));
    uint64_t state = 7;
    for (int i = 0; i < READS; i++) {
        snprintf(texts[i], sizeof texts[i], "/statuses/%zu/user/screen_name",
                 (size_t)(bench_random(&state) % count));
        paths[i] = evh_json_compile(json, texts[i], strlen(texts[i]));
    }
    const evh_value root = evh_json_root(json);
    double spent[3][ROUNDS];
    size_t sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int kind = 0; kind < 3; kind++) {
            const double start = work_ns();
            for (int i = 0; i < READS; i++) {
                const evh_value value = kind == 2
                                            ? evh_json_find(json, root, texts[i], strlen(texts[i]))
                                            : evh_json_walk(json, root, paths[kind ? i : 0]);
                size_t size = 0;
                sum += evh_json_text(json, value, &size) != NULL ? size : 0;
            }
            spent[kind][round] = (work_ns() - start) / READS;
        }
    }
    printf("path of 4 levels, prepared %s one again and again, %s random\n",
           bench_time_text(bench_median(spent[0], ROUNDS)),
           bench_time_text(bench_median(spent[1], ROUNDS)));
    printf("the same as text           %s random (%zu)\n",
           bench_time_text(bench_median(spent[2], ROUNDS)), sum % 10);
    for (int i = 0; i < READS; i++) evh_json_path_end(paths[i]);
    free(paths);
    free(texts);
}

/* Change a string of two letters somewhere. */
static void change_one(evh_json *json, evh_value statuses, size_t count, uint64_t *state)
{
    const uint64_t random = bench_random(state);
    const char text[2] = {(char)('a' + random % 26), (char)('a' + random / 26 % 26)};
    const evh_value status = evh_json_at(json, statuses, (size_t)(random >> 16) % count);
    const evh_value lang = evh_json_member(json, status, "lang", 4);
    bench_require(!evh_json_set_text(json, lang, text, 2), "change");
}

/* Changes with a commit each; and very many with one. */
static void measure_updates(evh_heap *heap, evh_json *json)
{
    const evh_value statuses = evh_json_get(json, "/statuses");
    const size_t count = evh_json_count(json, statuses);
    if (count == 0) return;
    struct bench_samples samples = {0};
    uint64_t state = 3;
    for (int i = 0; i < UPDATES; i++) {
        const uint64_t start = bench_now_ns();
        change_one(json, statuses, count, &state);
        bench_require(!evh_commit(heap), "commit");
        bench_samples_add(&samples, (double)(bench_now_ns() - start));
    }
    const uint64_t begin = bench_now_ns();
    for (int i = 0; i < BATCH; i++) change_one(json, statuses, count, &state);
    bench_require(!evh_commit(heap), "commit");
    printf("a durable change           %s median, %s at 99 %%\n",
           bench_time_text(bench_samples_at(&samples, 0.5)),
           bench_time_text(bench_samples_at(&samples, 0.99)));
    printf("%d changes, one commit %s\n", (int)BATCH,
           bench_time_text((double)(bench_now_ns() - begin)));
    bench_samples_free(&samples);
}

static void measure_heap(const char *text, size_t size)
{
    char *const path = bench_file("json.heap");
    uint64_t start = bench_now_ns();
    evh_heap *heap = evh_open(path, NULL);
    evh_json *json = open_json(heap);
    bench_require(!evh_json_parse(json, evh_json_root(json), text, size, NULL, NULL), "parse");
    const uint64_t parsed = bench_now_ns();
    bench_require(!evh_commit(heap), "commit");
    const uint64_t committed = bench_now_ns();
    printf("into a new heap            %s parsed, %s more until durable\n",
           bench_time_text((double)(parsed - start)),
           bench_time_text((double)(committed - parsed)));
    evh_json_close(json);
    bench_require(!evh_close(heap), "close");
    start = bench_now_ns();
    heap = evh_open(path, NULL);
    json = open_json(heap);
    printf("open                       %s\n", bench_time_text((double)(bench_now_ns() - start)));
    measure_paths(json);
    measure_updates(heap, json);
    evh_json_close(json);
    evh_close(heap);
    bench_file_end(path);
}

int main(int argc, char **argv)
{
    struct bench_option options[] = {{"file", "a JSON text", true, NULL},
                                     {NULL, NULL, false, NULL}};
    bench_options_read(argc, argv, options, "Measure JSON documents in a heap.");
    bench_print_machine("JSON documents");
    const char *const path = bench_option(options, "file");
    size_t size = 0;
    char *const text = path ? read_text(path, &size) : make_text(&size);
    printf("\n%s, %.1f MB\n", path ? path : "statuses that were made", (double)size / 1e6);
    measure_text(text, size);
    measure_heap(text, size);
    free(text);
    bench_print_command(argc, argv);
    return 0;
}
