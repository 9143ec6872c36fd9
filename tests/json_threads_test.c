/* json_threads_test.c -- several threads read one document at once.
 *
 * Strategy: threads read the same values through one open document, each in an order of its own: by
 * path, by key, by position, upwards, and by searching. What a document remembers of earlier reads
 * is shared by them. Invariant: every thread sees what was stored; ThreadSanitizer sees no race.
 */
#include "support/documents.h"
#include "test.h"

#include <everheap.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, OBJECTS = 300, MEMBERS = 40 };

struct reader {
    evh_db *db;
    uint64_t seed;
    uint64_t wrong;
};

/* Object `object` has its members in an order that depends on it: what one thread remembers of a
 * key is often wrong for the next. */
static uint32_t member_at(uint32_t object, uint32_t position)
{
    return (object * 7 + position) % MEMBERS;
}

static void fill(evh_db *db)
{
    char path[64];
    for (uint32_t object = 0; object < OBJECTS; object++) {
        for (uint32_t position = 0; position < MEMBERS; position++) {
            const uint32_t member = member_at(object, position);
            char text[32];
            snprintf(path, sizeof path, "/list/%u/m%u", object, member);
            const int size = snprintf(text, sizeof text, "text %u of %u", member, object);
            check_ok(evh_db_put_text(db, path, text, (size_t)size));
        }
    }
}

static void read_one(struct reader *reader)
{
    evh_json *json = evh_db_json(reader->db);
    const uint64_t random = test_random(&reader->seed);
    const uint32_t object = (uint32_t)(random % OBJECTS);
    const uint32_t position = (uint32_t)(random >> 32) % MEMBERS;
    char path[64];
    char expected[32];
    char found[64];
    snprintf(path, sizeof path, "/list/%u/m%u", object, member_at(object, position));
    snprintf(expected, sizeof expected, "text %u of %u", member_at(object, position), object);
    const evh_node node = evh_db_get(reader->db, path);
    const char *text = evh_json_text(json, node.value, NULL);
    reader->wrong += !text || strcmp(text, expected) != 0;
    reader->wrong += evh_json_position(json, node.value) != position;
    (void)evh_json_pointer(json, node.value, found, sizeof found);
    reader->wrong += strcmp(found, path) != 0;
    const evh_value parent = evh_json_parent(json, node.value);
    reader->wrong += evh_json_position(json, parent) != object;
    if (random >> 58) return; /* one in 64 searches */
    uint64_t total = 0;
    reader->wrong +=
        evh_db_search(reader->db, expected, strlen(expected), NULL, NULL, NULL, &total);
    reader->wrong += total == 0;
}

static void *read_all(void *context)
{
    struct reader *reader = context;
    for (uint64_t i = test_effort(3000); i > 0; i--) read_one(reader);
    return NULL;
}

TEST(threads_read_one_document)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    uint64_t state = test_seed();
    fill(db);
    pthread_t threads[THREADS];
    struct reader readers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        readers[i] = (struct reader){db, test_random(&state), 0};
        CHECK(pthread_create(&threads[i], NULL, read_all, &readers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK_EQUAL(readers[i].wrong, 0);
    }
    check_ok(evh_db_close(db));
    check_ok(evh_close(heap));
}
