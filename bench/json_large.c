/* json_large.c -- arrays of up to ten million items, objects of up to a million members, changed:
 * what an operation costs must hardly grow with them. */
#include "json_ours.h"

#include "bench.h"

#include <stdlib.h>

enum { OPERATIONS = 20000, SIZES = 3 };

static const uint64_t item_counts[SIZES] = {100000, 1000000, 10000000};
static const uint64_t member_counts[SIZES] = {10000, 100000, 1000000};

struct large {
    evh_json *json;
    evh_value array, object;
    uint64_t items, members; /* at the beginning */
    uint64_t random;
};

static void must(evh_status status)
{
    bench_require(status == EVH_OK, "change");
}

static void find_item(struct large *large)
{
    const size_t at = (size_t)(bench_random(&large->random) % large->items);
    bench_require(evh_json_is(evh_json_at(large->json, large->array, at)), "find");
}

static void insert_item(struct large *large)
{
    evh_value item;
    const size_t at = (size_t)(bench_random(&large->random) % large->items);
    must(evh_json_insert(large->json, large->array, at, &item));
    must(evh_json_set_integer(large->json, item, 1));
}

static void insert_first(struct large *large)
{
    evh_value item;
    must(evh_json_insert(large->json, large->array, 0, &item));
}

static void erase_item(struct large *large)
{
    const size_t at = (size_t)(bench_random(&large->random) % large->items);
    must(evh_json_erase(large->json, evh_json_at(large->json, large->array, at)));
}

static size_t key_text(char *key, uint64_t number)
{
    return (size_t)snprintf(key, 32, "member-%llu", (unsigned long long)number);
}

static void find_member(struct large *large)
{
    char key[32];
    const size_t size = key_text(key, bench_random(&large->random) % large->members);
    (void)evh_json_member(large->json, large->object, key, size);
}

static void put_member(struct large *large)
{
    char key[32];
    evh_value member;
    const size_t size = key_text(key, large->members + bench_random(&large->random) % (1ull << 40));
    must(evh_json_put(large->json, large->object, key, size, &member));
    must(evh_json_set_integer(large->json, member, 1));
}

static void erase_member(struct large *large)
{
    char key[32];
    const size_t size = key_text(key, bench_random(&large->random) % large->members);
    const evh_value member = evh_json_member(large->json, large->object, key, size);
    if (evh_json_is(member)) must(evh_json_erase(large->json, member));
}

/* What an operation takes: the time, and the pages that one alone changes, on average. */
struct cost {
    double time, pages;
};

static struct cost measure(struct large *large, void (*operation)(struct large *), bool counts)
{
    struct cost cost = {0, 0};
    const uint64_t start = bench_now_ns();
    for (int i = 0; i < OPERATIONS; i++) operation(large);
    cost.time = (double)(bench_now_ns() - start) / OPERATIONS;
    for (int i = 0; counts && i < 200; i++) {
        bench_dirty_reset();
        operation(large);
        cost.pages += (double)bench_dirty_count() / 200;
    }
    return cost;
}

static const struct {
    const char *what;
    void (*operation)(struct large *);
} operations[] = {
    {"an item found by its position", find_item},
    {"  inserted anywhere", insert_item},
    {"  inserted before the first", insert_first},
    {"  erased anywhere", erase_item},
    {"a member found by its key", find_member},
    {"  added", put_member},
    {"  erased", erase_member},
};

enum { OPERATION_KINDS = sizeof operations / sizeof operations[0] };

static void fill(struct large *large)
{
    evh_value root = evh_json_root(large->json);
    evh_value item;
    must(evh_json_set_object(large->json, root));
    root = evh_json_root(large->json);
    must(evh_json_put(large->json, root, "array", 5, &item));
    must(evh_json_set_array(large->json, item));
    must(evh_json_put(large->json, root, "object", 6, &item));
    must(evh_json_set_object(large->json, item));
    large->array = evh_json_get(large->json, "/array");
    large->object = evh_json_get(large->json, "/object");
    for (uint64_t i = 0; i < large->items; i++) {
        must(evh_json_append(large->json, large->array, &item));
        must(evh_json_set_integer(large->json, item, (int64_t)i));
    }
    for (uint64_t i = 0; i < large->members; i++) {
        char key[32];
        const size_t size = key_text(key, i);
        must(evh_json_put(large->json, large->object, key, size, &item));
        must(evh_json_set_integer(large->json, item, (int64_t)i));
    }
}

static void measure_size(size_t which, bool counts, struct cost costs[OPERATION_KINDS])
{
    evh_heap *const heap = evh_open_memory(NULL, 0, NULL);
    struct large large = {.json = evh_json_open(heap, NULL), .random = 5};
    bench_require(large.json != NULL, "open");
    large.items = item_counts[which];
    large.members = member_counts[which];
    fill(&large);
    for (size_t i = 0; i < OPERATION_KINDS; i++)
        costs[i] = measure(&large, operations[i].operation, counts);
    bench_require(evh_json_check(large.json) == EVH_OK, "check");
    evh_json_close(large.json);
    evh_close(heap);
}

void json_large_run(void)
{
    static struct cost costs[SIZES][OPERATION_KINDS];
    const bool counts = bench_dirty_begin();
    for (size_t i = 0; i < SIZES; i++) measure_size(i, counts, costs[i]);
    printf("\n%-32s", "one operation");
    for (size_t i = 0; i < SIZES; i++)
        printf("%10llu items,%8llu members", (unsigned long long)item_counts[i],
               (unsigned long long)member_counts[i]);
    printf("\n");
    for (size_t kind = 0; kind < OPERATION_KINDS; kind++) {
        printf("%-32s", operations[kind].what);
        for (size_t i = 0; i < SIZES; i++) {
            printf("%16s", bench_time_text(costs[i][kind].time));
            if (counts) printf("%11.1f pages", costs[i][kind].pages);
        }
        printf("\n");
    }
}
