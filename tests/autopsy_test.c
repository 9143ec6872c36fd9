/* autopsy_test.c -- a heap is read by somebody who believes nothing: blocks, roots, leaks,
 * changes. */
#include <everheap.h>

#include "test.h"

#include <stdlib.h>
#include <string.h>

struct item {
    evh_ref next;
    evh_ref other;
    uint64_t number;
    char name[16];
    void *address;
    evh_ref refs[3];
};

EVH_TYPE(item, struct item, EVH_FIELD_REF(struct item, next, "item"),
         EVH_FIELD_REF(struct item, other, NULL), EVH_FIELD(struct item, number),
         EVH_FIELD_TEXT(struct item, name), EVH_FIELD_ADDRESS(struct item, address, "item"),
         EVH_FIELD_REFS(struct item, refs, "item"))

static evh_heap *autopsy_heap(const char *path)
{
    evh_heap *heap = evh_open(path, NULL);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

static evh_autopsy *autopsy_begin(const char *path, evh_autopsy_info *info)
{
    evh_autopsy *autopsy = evh_autopsy_open(path, NULL);
    if (!autopsy) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(autopsy != NULL);
    evh_autopsy_describe(autopsy, info);
    CHECK_EQUAL(info->damage.status, EVH_OK);
    CHECK_EQUAL(info->reached + info->orphans + info->internal, info->blocks);
    return autopsy;
}

static struct item *autopsy_item(evh_heap *heap, uint32_t type, uint64_t number)
{
    struct item *item = evh_new(heap, type);
    CHECK(item != NULL);
    item->number = number;
    return item;
}

/* ---- reachability ---- */

TEST(planted_leaks_are_counted_exactly)
{
    enum { LISTED = 1000, LEAKED = 137 };
    const char *path = test_path("leaks");
    evh_heap *heap = autopsy_heap(path);
    const uint32_t type = evh_type_register(heap, &item_type);
    struct item *last = evh_root_typed(heap, "list", type, sizeof *last);
    for (unsigned i = 0; i < LISTED; i++) {
        struct item *item = autopsy_item(heap, type, i);
        last->next = evh_ref_to(heap, item);
        last = item;
        /* A number that looks like the next leak's offset is none: fields say what is a ref. */
        if (i < LEAKED) item->number = evh_ref_to(heap, autopsy_item(heap, type, i)).offset;
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    evh_autopsy_info info;
    evh_autopsy *autopsy = autopsy_begin(path, &info);
    CHECK_EQUAL(info.orphans, LEAKED);
    CHECK_EQUAL(info.orphan_bytes,
                LEAKED * sizeof(struct item) / sizeof(struct item) *
                    evh_usable_size(evh_autopsy_heap(autopsy),
                                    evh_root_find(evh_autopsy_heap(autopsy), "list", NULL)));
    CHECK_EQUAL(info.typed, LISTED + LEAKED + 1);
    CHECK_EQUAL(info.dangling, 0);
    CHECK(info.is_copy);
    evh_autopsy_close(autopsy);
}

static bool autopsy_count_root(const evh_object *object, void *context)
{
    uint64_t *counts = context;
    if (object->root >= 0 && object->root < 8) counts[object->root]++;
    return true;
}

TEST(each_object_belongs_to_the_root_that_is_nearest)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    const uint32_t type = evh_type_register(heap, &item_type);
    struct item *a = evh_root_typed(heap, "a", type, sizeof *a);
    struct item *b = evh_root_typed(heap, "b", type, sizeof *b);
    struct item *chain = a;
    for (unsigned i = 0; i < 10; i++) {
        struct item *item = autopsy_item(heap, type, i);
        chain->next = evh_ref_to(heap, item);
        chain = item;
    }
    b->other = evh_ref_to(heap, chain); /* the last is nearer to b */
    evh_autopsy *autopsy = evh_autopsy_of(heap, NULL);
    CHECK(autopsy != NULL);
    evh_object object;
    CHECK(evh_autopsy_find(autopsy, evh_ref_to(heap, chain), &object));
    CHECK(strcmp(evh_autopsy_root(autopsy, object.root)->name, "b") == 0);
    CHECK_EQUAL(object.depth, 1);
    CHECK_EQUAL(object.parent.offset, evh_ref_to(heap, b).offset);
    CHECK_EQUAL(object.references, 2);
    CHECK(strcmp(object.kind, "item") == 0);
    uint64_t counts[8] = {0};
    evh_autopsy_each(autopsy, autopsy_count_root, counts);
    CHECK_EQUAL(counts[0] + counts[1] + counts[2], 2 + 10 + 3); /* and the registry's three */
    CHECK(evh_autopsy_root(autopsy, 99) == NULL);
    evh_autopsy_close(autopsy);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static void autopsy_fill_document(evh_heap *heap)
{
    enum { BYTES_MAX = 200000 };
    char *text = malloc(BYTES_MAX);
    size_t size = 0;
    evh_json *json = evh_json_open(heap, NULL);
    CHECK(json != NULL);
    text[size++] = '[';
    for (unsigned i = 0; i < 2000; i++)
        size += (size_t)snprintf(
            text + size, BYTES_MAX - size,
            "%s{\"id\": %u, \"name\": \"a string of some length\", \"k%u\": [1, 2]}", i ? "," : "",
            i, i % 50);
    text[size++] = ']';
    CHECK_EQUAL(evh_json_parse(json, evh_json_root(json), text, size, NULL, NULL), EVH_OK);
    evh_json_close(json);
    free(text);
}

TEST(collections_and_documents_are_reached_and_nothing_of_them_is_an_orphan)
{
    const char *path = test_path("collections");
    evh_heap *heap = autopsy_heap(path);
    uint64_t *handles = evh_root(heap, "handles", 64);
    evh_map *map = (evh_map *)&handles[0];
    evh_tree *tree = (evh_tree *)&handles[1];
    evh_vec *vec = (evh_vec *)&handles[2];
    evh_str *str = (evh_str *)&handles[3];
    for (uint32_t i = 0; i < 5000; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "key %u", i);
        CHECK(evh_map_put_bytes(heap, map, key, strlen(key), 8) != NULL);
        CHECK(evh_tree_put_bytes(heap, tree, key, strlen(key), 8) != NULL);
        CHECK(evh_vec_push(heap, vec, sizeof i, &i) != NULL);
    }
    CHECK_EQUAL(evh_str_set(heap, str, "some text", 9), EVH_OK);
    autopsy_fill_document(heap);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    evh_autopsy_info info;
    evh_autopsy *autopsy = autopsy_begin(path, &info);
    CHECK(info.blocks > 10000);
    CHECK_EQUAL(info.orphans, 0);
    evh_autopsy_close(autopsy);
}

TEST(untyped_blocks_are_reached_by_any_word)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    uint64_t *root = evh_root(heap, "root", 64);
    unsigned char *blocks[5];
    for (unsigned i = 0; i < 5; i++) {
        blocks[i] = evh_calloc(heap, 1, 1000);
        CHECK(blocks[i] != NULL);
    }
    root[0] = evh_ref_to(heap, blocks[0]).offset;                    /* an offset */
    root[1] = (uintptr_t)blocks[1] + 500;                            /* an address, inside */
    root[2] = (uint64_t)(blocks[2] - (unsigned char *)&root[2]) - 1; /* a distance, as evh::ptr */
    *(evh_ref *)(void *)(blocks[0] + 992) = evh_ref_to(heap, blocks[3] + 8);
    evh_autopsy *autopsy = evh_autopsy_of(heap, NULL);
    evh_autopsy_info info;
    evh_autopsy_describe(autopsy, &info);
    CHECK_EQUAL(info.orphans, 1);
    for (unsigned i = 0; i < 5; i++) {
        evh_object object;
        CHECK(evh_autopsy_find(autopsy, evh_ref_to(heap, blocks[i] + 999), &object));
        CHECK_EQUAL(object.root, i == 4 ? EVH_NO_ROOT : 0);
        CHECK(strcmp(object.kind, "block") == 0);
    }
    CHECK_EQUAL(evh_autopsy_relocate(autopsy, (uintptr_t)blocks[4] + 3).offset,
                evh_ref_to(heap, blocks[4]).offset + 3);
    evh_autopsy_close(autopsy);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- dangling references ---- */

struct autopsy_bad {
    unsigned free, inside, type;
    char names[8][64];
    unsigned count;
};

static bool autopsy_see_dangling(const evh_dangling *dangling, void *context)
{
    struct autopsy_bad *bad = context;
    bad->free += dangling->kind == EVH_DANGLING_FREE;
    bad->inside += dangling->kind == EVH_DANGLING_INSIDE;
    bad->type += dangling->kind == EVH_DANGLING_TYPE;
    if (bad->count < 8)
        (void)snprintf(bad->names[bad->count++], 64, "%.20s.%.40s", dangling->object.kind,
                       dangling->field.name);
    return true;
}

TEST(planted_dangling_references_are_named)
{
    const char *path = test_path("dangling");
    evh_heap *heap = autopsy_heap(path);
    const uint32_t type = evh_type_register(heap, &item_type);
    const evh_type other_type = {"other", 24, NULL, 0};
    const uint32_t other = evh_type_register(heap, &other_type);
    struct item *item = evh_root_typed(heap, "item", type, sizeof *item);
    struct item *freed = autopsy_item(heap, type, 1);
    struct item *good = autopsy_item(heap, type, 2);
    item->refs[0] = evh_ref_to(heap, good);
    item->refs[1] = evh_ref_to(heap, freed);
    item->refs[2] = evh_ref_to(heap, &good->number);
    item->next = evh_ref_to(heap, evh_new(heap, other));
    item->other = evh_ref_to(heap, evh_new(heap, other)); /* of any type: good */
    item->address = freed;
    good->address = &good->name; /* into a block: good */
    good->next.offset = UINT64_MAX;
    evh_free(heap, freed);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    evh_autopsy_info info;
    evh_autopsy *autopsy = autopsy_begin(path, &info);
    struct autopsy_bad bad = {0};
    evh_autopsy_dangling(autopsy, autopsy_see_dangling, &bad);
    CHECK_EQUAL(info.dangling, 5);
    CHECK_EQUAL(bad.free, 3);
    CHECK_EQUAL(bad.inside, 1);
    CHECK_EQUAL(bad.type, 1);
    const char *names[] = {"item.next", "item.address", "item.refs[1]", "item.refs[2]",
                           "item.next"};
    for (unsigned i = 0; i < 5; i++) {
        unsigned found = 0;
        for (unsigned k = 0; k < bad.count; k++) found += strcmp(bad.names[k], names[i]) == 0;
        CHECK(found > 0);
    }
    evh_autopsy_close(autopsy);
}

/* ---- pointers of the dead ---- */

TEST(pointers_of_dead_processes_are_followed_through_every_address)
{
    const char *path = test_path("pointers");
    uint64_t addresses[3];
    for (unsigned i = 0; i < 3; i++) {
        const evh_options options = {.preferred_address = 0x300000000000ull + i * 0x10000000000ull};
        evh_heap *heap = evh_open(path, &options);
        const uint32_t type = evh_type_register(heap, &item_type);
        char name[8];
        (void)snprintf(name, sizeof name, "r%u", i);
        struct item *root = evh_root_typed(heap, name, type, sizeof *root);
        struct item *item = autopsy_item(heap, type, 100 + i);
        root->address = item;
        addresses[i] = (uintptr_t)item;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
    evh_autopsy_info info;
    evh_autopsy *autopsy = autopsy_begin(path, &info);
    CHECK_EQUAL(info.orphans, 0);
    CHECK_EQUAL(info.dangling, 0);
    for (unsigned i = 0; i < 3; i++) {
        evh_object object;
        CHECK(evh_autopsy_find(autopsy, evh_autopsy_relocate(autopsy, addresses[i]), &object));
        CHECK_EQUAL(((const struct item *)object.bytes)->number, 100 + i);
    }
    CHECK_EQUAL(evh_autopsy_relocate(autopsy, 12345).offset, 0);
    evh_autopsy_close(autopsy);
}

/* ---- fields ---- */

struct inner {
    int16_t low;
    float real;
};

struct outer {
    uint8_t tag;
    bool truth;
    union {
        evh_ref ref;
        double number;
    } value;
    struct inner inner[2];
    unsigned char bytes[5];
};

EVH_TYPE(inner, struct inner, EVH_FIELD(struct inner, low), EVH_FIELD(struct inner, real))
EVH_TYPE(outer, struct outer, EVH_FIELD(struct outer, tag), EVH_FIELD(struct outer, truth),
         EVH_FIELD_IF(struct outer, value.ref, EVH_FIELD_REFERENCE, NULL, tag, 1),
         EVH_FIELD_IF(struct outer, value.number, EVH_FIELD_REAL, NULL, tag, 2),
         EVH_FIELDS_OF_(struct outer, inner, EVH_FIELD_STRUCT, 2, "inner"),
         EVH_FIELD(struct outer, bytes))

static bool autopsy_print_field(const evh_field_value *value, void *context)
{
    char *text = context;
    const size_t size = strlen(text);
    if (value->kind == EVH_FIELD_REAL)
        (void)snprintf(text + size, 500 - size, "%s=%g ", value->name, value->real);
    else if (value->kind == EVH_FIELD_STRUCT || value->kind == EVH_FIELD_BYTES)
        (void)snprintf(text + size, 500 - size, "%s ", value->name);
    else
        (void)snprintf(text + size, 500 - size, "%s=%lld ", value->name, (long long)value->number);
    return true;
}

TEST(fields_are_decoded_with_structs_arrays_and_unions)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(evh_type_register(heap, &inner_type) != 0);
    const uint32_t type = evh_type_register(heap, &outer_type);
    struct outer *outer = evh_new(heap, type);
    *outer = (struct outer){.tag = 2, .truth = true, .value.number = 0.5};
    outer->inner[1] = (struct inner){-7, 2.5f};
    evh_autopsy *autopsy = evh_autopsy_of(heap, NULL);
    evh_object object;
    char text[500] = "";
    CHECK(evh_autopsy_find(autopsy, evh_ref_to(heap, outer), &object));
    evh_autopsy_fields(autopsy, &object, autopsy_print_field, text);
    CHECK(strcmp(text, "tag=2 truth=1 value.number=0.5 inner[0] inner[0].low=0 inner[0].real=0 "
                       "inner[1] inner[1].low=-7 inner[1].real=2.5 bytes ") == 0);
    evh_autopsy_close(autopsy);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- differences ---- */

struct autopsy_changes {
    unsigned made, freed, changed;
    uint64_t offset, bytes;
};

static bool autopsy_see_change(const evh_difference *difference, void *context)
{
    struct autopsy_changes *changes = context;
    changes->made += difference->change == EVH_MADE;
    changes->freed += difference->change == EVH_FREED;
    if (difference->change != EVH_CHANGED || difference->object.type != 1) return true;
    changes->changed++;
    changes->offset = difference->changed_offset;
    changes->bytes = difference->changed_bytes;
    return true;
}

TEST(the_difference_of_two_commits_is_told_block_by_block)
{
    const char *path = test_path("compare");
    evh_heap *heap = autopsy_heap(path);
    const uint32_t type = evh_type_register(heap, &item_type);
    struct item *root = evh_root_typed(heap, "root", type, sizeof *root);
    struct item *first = autopsy_item(heap, type, 1);
    struct item *second = autopsy_item(heap, type, 2);
    root->refs[0] = evh_ref_to(heap, first);
    root->refs[1] = evh_ref_to(heap, second);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_info before;
    CHECK_EQUAL(evh_get_info(heap, &before), EVH_OK);
    first->number = 0x1001; /* two bytes */
    root->refs[1].offset = 0;
    evh_free(heap, second);
    root->refs[2] = evh_ref_to(heap, evh_calloc(heap, 1, 5000));
    root->refs[1] = evh_ref_to(heap, evh_calloc(heap, 1, 6000));
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const evh_autopsy_options options = {.commit_sequence = before.commit_sequence};
    evh_autopsy *older = evh_autopsy_open(path, &options);
    evh_autopsy *newer = evh_autopsy_open(path, NULL);
    CHECK(older != NULL);
    CHECK(newer != NULL);
    evh_autopsy_info info;
    evh_autopsy_describe(newer, &info);
    CHECK(info.is_in_use);
    CHECK(!info.is_copy);
    struct autopsy_changes changes = {0};
    evh_autopsy_compare(older, newer, autopsy_see_change, &changes);
    CHECK_EQUAL(changes.made, 2);
    CHECK_EQUAL(changes.freed, 1);
    CHECK_EQUAL(changes.changed, 2); /* and the root */
    changes = (struct autopsy_changes){0};
    evh_autopsy_compare(newer, newer, autopsy_see_change, &changes);
    CHECK_EQUAL(changes.made + changes.freed + changes.changed, 0);
    evh_autopsy_close(older);
    evh_autopsy_close(newer);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(live_heaps_are_read_beside_their_users_and_typed_by_their_fields)
{
    const char *path = test_path("live");
    const evh_options options = {.mode = EVH_LIVE};
    evh_heap *heap = evh_open(path, &options);
    const uint32_t type = evh_type_register(heap, &item_type);
    struct item *root = evh_root_typed(heap, "root", type, sizeof *root);
    CHECK(root != NULL);
    struct item *item = evh_calloc(heap, 1, sizeof *item);
    root->next = evh_ref_to(heap, item);
    CHECK(evh_calloc(heap, 1, sizeof *item) != NULL); /* a leak */
    evh_autopsy_info info;
    evh_autopsy *autopsy = autopsy_begin(path, &info);
    CHECK(info.is_in_use);
    CHECK(info.heap.is_live);
    CHECK_EQUAL(info.orphans, 1);
    evh_autopsy_close(autopsy);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    autopsy = autopsy_begin(path, &info);
    CHECK(!info.is_in_use);
    CHECK_EQUAL(info.orphans, 1);
    evh_autopsy_close(autopsy);
}

TEST(what_cannot_be_opened_is_refused_with_the_name_that_was_given)
{
    CHECK(evh_autopsy_open(NULL, NULL) == NULL);
    CHECK(evh_autopsy_of(NULL, NULL) == NULL);
    CHECK(evh_autopsy_open("/nowhere/at/all", NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
    const char *path = test_path("text");
    FILE *file = fopen(path, "w");
    fputs("this is no heap", file);
    fclose(file);
    CHECK(evh_autopsy_open(path, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_HEAP);
    CHECK(strncmp(evh_last_error()->message, path, strlen(path)) == 0);
    evh_autopsy_close(NULL);
    evh_autopsy_each(NULL, NULL, NULL);
    CHECK(evh_autopsy_heap(NULL) == NULL);
}
