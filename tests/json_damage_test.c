/* json_damage_test.c -- documents in damaged heaps: an error, never a crash, an endless loop or a
 * store elsewhere.
 *
 * Strategy: a heap in a buffer holds a document of every kind of value and container. Bytes of what
 * the document owns are changed at random, near the truth and far from it; then everything is read,
 * written, queried and changed. Under AddressSanitizer the buffer's ends are guarded.
 *
 * Invariants: every call returns; a check says EVH_CORRUPT or nothing is wrong.
 */
#include "json/json.h"
#include "support/documents.h"
#include "test.h"

#include <everheap/json_query.h>

#include <stdlib.h>

enum { HEAP_BYTES = 4 << 20, BLOCKS_MAX = 4096 };

struct image {
    unsigned char *bytes;
    evh_block blocks[BLOCKS_MAX];
    size_t block_count;
};

static bool note_block(const evh_block *block, void *context)
{
    struct image *image = context;
    if (image->block_count < BLOCKS_MAX) image->blocks[image->block_count++] = *block;
    return true;
}

static char *make_text(void)
{
    char *text = malloc(200000);
    CHECK(text != NULL);
    size_t size = (size_t)snprintf(
        text, 1000,
        "{\"a\":{\"b\":[1,2.5,\"short\",null,true,1e999,{\"$base64\":\"AAEC\"}]},"
        "\"r\":{\"$ref\":\"/a\"},\"s\":{\"$ref\":\"/a/b/2\"},\"t\":{\"$ref\":\"/a/x\"},"
        "\"list\":[");
    for (int i = 0; i < 3000; i++)
        size +=
            (size_t)snprintf(text + size, 64, i % 3 ? "%s%d" : "%s[\"item %d\"]", i ? "," : "", i);
    size += (size_t)snprintf(text + size, 64, "],\"many\":{");
    for (int i = 0; i < 2000; i++)
        size += (size_t)snprintf(text + size, 64, "%s\"key %d\":%d", i ? "," : "", i, i);
    size += (size_t)snprintf(text + size, 64, "},\"some\":{");
    for (int i = 0; i < 40; i++)
        size += (size_t)snprintf(text + size, 64, "%s\"k%d\":{\"x\":%d}", i ? "," : "", i, i);
    size += (size_t)snprintf(text + size, 64, "},\"large\":\"");
    memset(text + size, 'y', 5000);
    snprintf(text + size + 5000, 64, "\"}");
    return text;
}

static evh_heap *open_image(unsigned char *buffer)
{
    return evh_open_memory(buffer, HEAP_BYTES, &(evh_options){.misuse = EVH_MISUSE_STATUS});
}

static void make_image(struct image *image, unsigned char *buffer)
{
    memset(buffer, 0, HEAP_BYTES);
    evh_heap *heap = open_image(buffer);
    CHECK(heap != NULL);
    evh_json *json = evh_json_open(heap, NULL);
    char *text = make_text();
    check_ok(evh_json_parse(json, evh_json_root(json), text, strlen(text), NULL, NULL));
    free(text);
    check_ok(evh_json_resolve(json, NULL));
    check_ok(evh_json_erase(json, evh_json_get(json, "/list/7")));
    check_ok(evh_json_check(json));
    evh_json_close(json);
    image->block_count = 0;
    check_ok(evh_walk(heap, note_block, image));
    check_ok(evh_close(heap));
    image->bytes = malloc(HEAP_BYTES);
    CHECK(image->bytes != NULL);
    memcpy(image->bytes, buffer, HEAP_BYTES);
}

/* Change a word of a block: a little, to a small number, to another word of the image, to noise. */
static void damage(const struct image *image, unsigned char *buffer, uint64_t *state)
{
    const evh_block *block = image->blocks + test_random(state) % image->block_count;
    uint64_t size = block->size;
    if (size > 8192 && test_random(state) % 2) size = 8192; /* slabs: mostly their beginnings */
    const uint64_t width = 1ull << test_random(state) % 4;
    const uint64_t at = block->ref.offset + test_random(state) % (size / width) * width;
    uint64_t word = 0;
    memcpy(&word, buffer + at, width);
    switch (test_random(state) % 5) {
    case 0: word += test_random(state) % 33 - 16; break;
    case 1: word = test_random(state) % 5; break;
    case 2: word ^= 1ull << test_random(state) % 64; break;
    case 3: memcpy(&word, image->bytes + test_random(state) % (HEAP_BYTES / 8) * 8, 8); break;
    default: word = test_random(state); break;
    }
    memcpy(buffer + at, &word, width);
}

static bool ignore(evh_value value, void *context)
{
    (void)value;
    return ++*(size_t *)context < 100000;
}

static int swallow(void *context, const char *text, size_t size)
{
    (void)text;
    *(size_t *)context += size;
    return *(size_t *)context > 8u << 20 ? EFBIG : 0;
}

static void read_all(evh_json *json)
{
    const evh_value root = evh_json_root(json);
    size_t count = 0;
    (void)evh_json_write(json, root, swallow, &count, NULL);
    count = 0;
    (void)evh_json_write(json, root, swallow, &count,
                         &(evh_json_write_options){.sort_keys = true, .indent = 1, .ascii = true});
    static const char *const pointers[] = {
        "/a/b/2", "/r/b/0", "/s", "/list/1500/0", "/many/key 1000", "/some/k17/x", "/large", "/t"};
    for (size_t i = 0; i < 8; i++) {
        const evh_value value = evh_json_get(json, pointers[i]);
        char path[64];
        (void)evh_json_text(json, value, NULL);
        (void)evh_json_pointer(json, value, path, sizeof path);
        (void)evh_json_follow(json, value);
    }
    evh_json_query *query = evh_json_query_compile("$..[?@.x > 3 || length(@) > 2]", 30);
    CHECK(query != NULL);
    count = 0;
    (void)evh_json_query_run(json, root, query, ignore, &count);
    evh_json_query_end(query);
    (void)evh_json_equal(json, evh_json_get(json, "/a"), evh_json_get(json, "/r"));
}

static void change_all(evh_json *json, uint64_t *state)
{
    const evh_value list = evh_json_get(json, "/list");
    const evh_value many = evh_json_get(json, "/many");
    evh_value value;
    for (int i = 0; i < 20; i++) {
        const size_t at = test_random(state) % 3000;
        (void)evh_json_insert(json, list, at, &value);
        (void)evh_json_erase(json, evh_json_at(json, list, at + 1));
        char key[16];
        const int size = snprintf(key, sizeof key, "key %d", (int)(test_random(state) % 2500));
        if (!evh_json_put(json, many, key, (size_t)size, &value))
            (void)evh_json_set_text(json, value, "some text", 9);
        (void)evh_json_erase(json, evh_json_at(json, many, at % 1000));
    }
    (void)evh_json_set_text(json, evh_json_get(json, "/a/b/2"), "longer than it was before", 25);
    const evh_value copy = evh_json_detached(json);
    (void)evh_json_copy(json, copy, evh_json_get(json, "/some"));
    (void)evh_json_erase(json, copy);
    static const char patch[] =
        "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/some/k3\"},"
        "{\"op\":\"remove\",\"path\":\"/list\"},{\"op\":\"test\",\"path\":\"/r\","
        "\"value\":5}]";
    (void)evh_json_patch_text(json, evh_json_root(json), patch, sizeof patch - 1);
    (void)evh_json_set_null(json, evh_json_root(json));
}

static bool count_hit(const evh_db_hit *hit, void *context)
{
    (void)hit;
    return ++*(size_t *)context < 1000;
}

/* Search as it is, with an index, and after it was made anew. */
static void search_all(evh_heap *heap)
{
    evh_db *db = evh_db_open_in(heap, NULL);
    if (!db) return;
    static const char *const parts[] = {"item 2", "e", "", "yy"};
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            uint64_t total = 0;
            size_t count = 0;
            (void)evh_db_search(db, parts[i], strlen(parts[i]), NULL, NULL, NULL, &total);
            (void)evh_db_search(db, parts[i], strlen(parts[i]), NULL, count_hit, &count, NULL);
        }
        (void)evh_db_set_index(db, round % 2 == 0);
    }
    (void)evh_db_close(db);
}

TEST(containers_in_a_ring_are_damage)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    static const char text[] = "{\"a\":{\"b\":{\"c\":1}},\"d\":0}";
    check_ok(evh_json_parse(json, evh_json_root(json), text, sizeof text - 1, NULL, NULL));
    struct json_place root;
    struct json_place inner;
    check_ok(value_place(json, evh_json_get(json, "/a"), &root));
    check_ok(value_place(json, evh_json_get(json, "/a/b/c"), &inner));
    *inner.slot = *root.slot; /* c leads to a */
    size_t count = 0;
    const evh_value d = evh_json_get(json, "/d");
    CHECK(evh_json_check(json) == EVH_CORRUPT);
    CHECK(evh_json_write(json, evh_json_root(json), swallow, &count, NULL) == EVH_CORRUPT);
    CHECK(evh_json_copy(json, d, evh_json_get(json, "/a")) == EVH_CORRUPT);
    evh_json_query *query = evh_json_query_compile("$..c", 4);
    CHECK(evh_json_query_run(json, evh_json_root(json), query, ignore, &count) == EVH_CORRUPT);
    evh_json_query_end(query);
    CHECK(evh_json_merge(json, d, evh_json_get(json, "/a")) == EVH_CORRUPT);
    check_ok(evh_json_set_null(json, evh_json_root(json))); /* freeing ends too */
    evh_json_close(json);
    CHECK(evh_close(heap) == EVH_OK);
}

/* A document in memory, made of `text`. */
static evh_json *open_text(evh_heap **heap, const char *text)
{
    *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(*heap, NULL);
    CHECK(json != NULL);
    check_ok(evh_json_parse(json, evh_json_root(json), text, strlen(text), NULL, NULL));
    return json;
}

static void close_text(evh_json *json, evh_heap *heap)
{
    evh_json_close(json);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(slabs_of_strings_in_a_ring_end_what_walks_along_them)
{
    evh_heap *heap;
    evh_json *json = open_text(&heap, "[\"one\",\"two\"]");
    struct json_texts *texts = &json->root->texts;
    text_slab_at(json, texts->first_slab)->next = texts->first_slab;
    texts->slab_count = UINT64_MAX;
    evh_db *db = evh_db_open_in(heap, NULL);
    uint64_t total = 0;
    (void)evh_db_search(db, "two", 3, NULL, NULL, NULL, &total);
    CHECK(total > 0);
    (void)evh_db_set_index(db, true);
    (void)evh_db_set_index(db, false);
    CHECK(evh_json_check(json) == EVH_CORRUPT);
    check_ok(evh_db_close(db));
    close_text(json, heap);
}

TEST(a_container_that_claims_more_than_it_can_have_is_damage)
{
    evh_heap *heap;
    evh_json *json = open_text(&heap, "{\"a\":[1,2,3]}");
    const evh_value array = evh_json_get(json, "/a");
    struct json_container *const container = container_peek(json, array.container);
    const struct json_container sound = *container;
    container->count = 5000;
    container->capacity = 5000;
    CHECK(evh_json_append(json, array, NULL) == EVH_CORRUPT);
    *container = sound;
    /* Numbers of containers are given in order: what is free is not what somebody has. */
    const uint32_t free_first = json->root->containers.free_first;
    json->root->containers.free_first = array.container;
    CHECK(!evh_json_is(evh_json_detached(json)));
    CHECK(evh_last_error()->status == EVH_CORRUPT);
    json->root->containers.free_first = free_first;
    check_ok(evh_json_check(json));
    json->root->containers.fresh = UINT32_MAX; /* walks by number would take minutes */
    CHECK(evh_json_open(heap, NULL) == NULL);
    CHECK(evh_last_error()->status == EVH_CORRUPT);
    close_text(json, heap);
}

TEST(a_page_is_on_the_way_to_a_value_once)
{
    evh_heap *heap;
    evh_json *json = open_text(&heap, "[]");
    const evh_value array = evh_json_root(json);
    for (int i = 0; i < 3000; i++) check_ok(evh_json_append(json, array, NULL));
    struct json_container *const container = container_peek(json, array.container);
    struct json_page *const root =
        page_at(json, json_tree_of(json, container)->root, JSON_PAGE_INNER);
    CHECK(root != NULL);
    CHECK(root->height == 1);
    root->height = 2;
    CHECK(!evh_json_is(evh_json_at(json, array, 5)));
    CHECK(evh_last_error()->status == EVH_CORRUPT);
    root->height = 1;
    /* No more than 2^32 values. */
    const struct json_slot slots[8] = {{.type = JSON_NULL}};
    container->count = UINT32_MAX - 7;
    CHECK(json_tree_append(json, container, array.container, slots, NULL, 8) == EVH_LIMIT);
    container->count = 3000;
    check_ok(evh_json_check(json));
    close_text(json, heap);
}

TEST(a_member_without_a_key_is_not_written)
{
    evh_heap *heap;
    evh_json *json = open_text(&heap, "{\"a\":1}");
    const evh_value object = evh_json_root(json);
    struct json_span span;
    CHECK(container_span(json, container_peek(json, object.container), 0, &span));
    ((uint32_t *)(uintptr_t)span.keys)[0] = 0;
    size_t count = 0;
    CHECK(evh_json_write(json, object, swallow, &count, NULL) == EVH_CORRUPT);
    CHECK(evh_json_check(json) == EVH_CORRUPT);
    close_text(json, heap);
}

TEST(a_check_finds_numbers_that_are_none)
{
    evh_heap *heap;
    evh_json *json = open_text(&heap, "[1.5,1e999]");
    struct json_place place;
    check_ok(value_place(json, evh_json_get(json, "/0"), &place));
    const struct json_slot sound = *place.slot;
    place.slot->payload = 0x7ff8000000000000u;
    CHECK(evh_json_check(json) == EVH_CORRUPT);
    CHECK_EQUAL(evh_json_integer(json, evh_json_get(json, "/0"), NULL), INT64_MIN);
    *place.slot = sound;
    check_ok(evh_json_check(json));
    check_ok(value_place(json, evh_json_get(json, "/1"), &place));
    struct json_blob *const digits = json_at(json, place.slot->payload, sizeof *digits);
    memcpy(digits + 1, "],[", 3);
    CHECK(evh_json_check(json) == EVH_CORRUPT);
    close_text(json, heap);
}

/* Texts that end with their blocks, in a heap file whose journal grows between them. */
static void fill_to_the_ends(evh_heap *heap, evh_json *json)
{
    const size_t size = (16u << 16) - sizeof(struct json_large_text) - 1;
    char *text = malloc(size);
    CHECK(text != NULL);
    memset(text, 'e', size);
    check_ok(evh_json_set_array(json, evh_json_root(json)));
    for (int i = 0; i < 12; i++) {
        evh_value item;
        check_ok(evh_json_append(json, evh_json_root(json), &item));
        check_ok(evh_json_set_text(json, item, text, size));
        if (heap->journal) check_ok(evh_commit(heap));
    }
    free(text);
}

static int count_text(void *context, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) *(size_t *)context += text[i] == 'e';
    return 0;
}

static void places_are_in_the_heap(const evh_options *options)
{
    evh_heap *heap = evh_open(test_path("places.heap"), options);
    CHECK(heap != NULL);
    evh_json *json = evh_json_open(heap, NULL);
    fill_to_the_ends(heap, json);
    size_t count = 0;
    check_ok(evh_json_write(json, evh_json_root(json), count_text, &count, NULL));
    CHECK_EQUAL(count, 12 * ((16u << 16) - sizeof(struct json_large_text) - 1));
    evh_info info;
    check_ok(evh_get_info(heap, &info));
    volatile unsigned char sum = 0;
    size_t outside = 0;
    for (uint64_t offset = 0; offset < info.heap_bytes + (2 << 20); offset += 4096 - 8) {
        const unsigned char *bytes = json_at(json, offset, 64);
        for (int i = 0; bytes && i < 64; i++) sum += bytes[i]; /* a fault here is the failure */
        outside += bytes == NULL;
        uint64_t size = 0;
        const char *blob = blob_of(json, offset, &size); /* some words are plausible sizes */
        if (blob) sum += (unsigned char)blob[size];
    }
    (void)sum;
    CHECK(outside >= (2 << 20) / 4096);
    evh_json_close(json);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(no_place_is_outside_of_a_heap_or_in_its_journal)
{
    places_are_in_the_heap(&(evh_options){.no_thread = true});
    places_are_in_the_heap(&(evh_options){.mode = EVH_LIVE});
}

TEST(damage_of_a_document_is_an_error_and_never_a_crash)
{
    static struct image image;
    uint64_t state = test_seed();
    unsigned char *buffer = aligned_alloc(65536, HEAP_BYTES);
    CHECK(buffer != NULL);
    make_image(&image, buffer);
    size_t found = 0;
    const uint64_t rounds = test_effort(150);
    for (uint64_t round = 0; round < rounds; round++) {
        memcpy(buffer, image.bytes, HEAP_BYTES);
        for (uint64_t i = 0; i <= test_random(&state) % 4; i++) damage(&image, buffer, &state);
        evh_heap *heap = open_image(buffer);
        if (!heap) continue;
        evh_json *json = evh_json_open(heap, NULL);
        if (json) {
            const evh_status status = evh_json_check(json);
            CHECK(status == EVH_OK || status == EVH_CORRUPT || status == EVH_VERSION);
            found += status == EVH_CORRUPT;
            read_all(json);
            search_all(heap);
            change_all(json, &state);
            evh_json_close(json);
        }
        (void)evh_json_remove(heap, NULL);
        (void)evh_close(heap);
    }
    CHECK(found > rounds / 4); /* the rest hit text, numbers, and what is free */
    free(image.bytes);
    free(buffer);
}
