/* json_large.c -- an array of ten million items, an object of a million members, changed. */
#include "json_ours.h"

#include "bench.h"

#include <stdlib.h>

enum { ITEMS = 10000000, MEMBERS = 1000000, OPERATIONS = 20000 };

struct large {
    evh_json *json;
    evh_value array, object;
    uint64_t random;
};

static void must(evh_status status)
{
    bench_require(status == EVH_OK, "change");
}

static void find_item(struct large *large)
{
    const size_t at = (size_t)(bench_random(&large->random) % ITEMS);
    bench_require(evh_json_is(evh_json_at(large->json, large->array, at)), "find");
}

static void insert_item(struct large *large)
{
    evh_value item;
    const size_t at = (size_t)(bench_random(&large->random) % ITEMS);
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
    const size_t at = (size_t)(bench_random(&large->random) % ITEMS);
    must(evh_json_erase(large->json, evh_json_at(large->json, large->array, at)));
}

static size_t key_text(char *key, uint64_t number)
{
    return (size_t)snprintf(key, 32, "member-%llu", (unsigned long long)number);
}

static void find_member(struct large *large)
{
    char key[32];
    const size_t size = key_text(key, bench_random(&large->random) % MEMBERS);
    (void)evh_json_member(large->json, large->object, key, size);
}

static void put_member(struct large *large)
{
    char key[32];
    evh_value member;
    const size_t size = key_text(key, MEMBERS + bench_random(&large->random) % (1ull << 40));
    must(evh_json_put(large->json, large->object, key, size, &member));
    must(evh_json_set_integer(large->json, member, 1));
}

static void erase_member(struct large *large)
{
    char key[32];
    const size_t size = key_text(key, bench_random(&large->random) % MEMBERS);
    const evh_value member = evh_json_member(large->json, large->object, key, size);
    if (evh_json_is(member)) must(evh_json_erase(large->json, member));
}

/* The time of an operation among many, and the pages that one alone changes, on average. */
static void measure(struct large *large, const char *what, void (*operation)(struct large *),
                    bool counts)
{
    const uint64_t start = bench_now_ns();
    for (int i = 0; i < OPERATIONS; i++) operation(large);
    const double time = (double)(bench_now_ns() - start) / OPERATIONS;
    uint64_t pages = 0;
    for (int i = 0; counts && i < 200; i++) {
        bench_dirty_reset();
        operation(large);
        pages += bench_dirty_count();
    }
    printf("%-40s%12s", what, bench_time_text(time));
    if (counts) printf("%12.1f", (double)pages / 200);
    printf("\n");
}

void json_large_run(void)
{
    evh_heap *const heap = evh_open_memory(NULL, 0, NULL);
    struct large large = {.json = evh_json_open(heap, NULL), .random = 5};
    bench_require(large.json != NULL, "open");
    evh_value root = evh_json_root(large.json);
    evh_value item;
    must(evh_json_set_object(large.json, root));
    root = evh_json_root(large.json);
    must(evh_json_put(large.json, root, "array", 5, &item));
    must(evh_json_set_array(large.json, item));
    must(evh_json_put(large.json, root, "object", 6, &item));
    must(evh_json_set_object(large.json, item));
    large.array = evh_json_get(large.json, "/array");
    large.object = evh_json_get(large.json, "/object");
    for (int i = 0; i < ITEMS; i++) {
        must(evh_json_append(large.json, large.array, &item));
        must(evh_json_set_integer(large.json, item, i));
    }
    for (uint64_t i = 0; i < MEMBERS; i++) {
        char key[32];
        const size_t size = key_text(key, i);
        must(evh_json_put(large.json, large.object, key, size, &item));
        must(evh_json_set_integer(large.json, item, (int64_t)i));
    }
    const bool counts = bench_dirty_begin();
    printf("\n%-40s%12s%12s\n", "one operation", "time", counts ? "pages" : "");
    measure(&large, "10,000,000 items: find by position", find_item, counts);
    measure(&large, "  insert anywhere", insert_item, counts);
    measure(&large, "  insert before the first", insert_first, counts);
    measure(&large, "  erase anywhere", erase_item, counts);
    measure(&large, "1,000,000 members: find by key", find_member, counts);
    measure(&large, "  add", put_member, counts);
    measure(&large, "  erase", erase_member, counts);
    bench_require(evh_json_check(large.json) == EVH_OK, "check");
    evh_json_close(large.json);
    evh_close(heap);
}
