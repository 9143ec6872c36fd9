/* types_test.c -- types that a heap knows, and blocks that carry their number. */
#include "heap/heap.h"
#include "heap/types_layout.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>

struct note {
    uint64_t when;
    evh_ref next;
    char title[32];
    int32_t sizes[4];
    double weight;
    bool is_read;
    uint8_t which;
    union {
        evh_ref other;
        uint64_t number;
    } more;
};

EVH_TYPE(note, struct note, EVH_FIELD(struct note, when), EVH_FIELD_REF(struct note, next, "note"),
         EVH_FIELD_TEXT(struct note, title), EVH_FIELD_ARRAY(struct note, sizes),
         EVH_FIELD(struct note, weight), EVH_FIELD(struct note, is_read),
         EVH_FIELD(struct note, which),
         EVH_FIELD_IF(struct note, more.other, EVH_FIELD_REFERENCE, "note", which, 1),
         EVH_FIELD_IF(struct note, more.number, EVH_FIELD_UNSIGNED, NULL, which, 2))

static evh_heap *types_open(const char *path)
{
    evh_heap *heap = evh_open(path, NULL);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

static void types_close(evh_heap *heap)
{
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- the registry ---- */

static void types_check_note(const evh_type *type)
{
    CHECK(type != NULL);
    CHECK(strcmp(type->name, "note") == 0);
    CHECK_EQUAL(type->size, sizeof(struct note));
    CHECK_EQUAL(type->field_count, 9);
    CHECK(strcmp(type->fields[1].name, "next") == 0);
    CHECK_EQUAL(type->fields[1].kind, EVH_FIELD_REFERENCE);
    CHECK_EQUAL(type->fields[1].offset, offsetof(struct note, next));
    CHECK(strcmp(type->fields[1].target, "note") == 0);
    CHECK_EQUAL(type->fields[0].kind, EVH_FIELD_UNSIGNED);
    CHECK_EQUAL(type->fields[2].kind, EVH_FIELD_CHARS);
    CHECK_EQUAL(type->fields[3].kind, EVH_FIELD_SIGNED);
    CHECK_EQUAL(type->fields[3].size, 4);
    CHECK_EQUAL(type->fields[3].count, 4);
    CHECK_EQUAL(type->fields[4].kind, EVH_FIELD_REAL);
    CHECK_EQUAL(type->fields[5].kind, EVH_FIELD_BOOLEAN);
    CHECK_EQUAL(type->fields[8].tag_value, 2);
    CHECK_EQUAL(type->fields[8].tag_offset, offsetof(struct note, which));
    CHECK_EQUAL(type->fields[8].tag_size, 1);
    CHECK(type->fields[8].target == NULL);
}

TEST(a_type_is_found_by_the_next_run)
{
    const char *path = test_path("types");
    evh_heap *heap = types_open(path);
    const uint32_t number = evh_type_register(heap, &note_type);
    CHECK_EQUAL(number, 1);
    CHECK_EQUAL(evh_type_register(heap, &note_type), number);
    types_check_note(evh_type_get(heap, number));
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    types_close(heap);

    heap = types_open(path);
    CHECK_EQUAL(evh_type_count(heap), 1);
    CHECK_EQUAL(evh_type_find(heap, "note"), 1);
    CHECK_EQUAL(evh_type_find(heap, "other"), 0);
    types_check_note(evh_type_get(heap, 1));
    CHECK(evh_type_get(heap, 0) == NULL);
    CHECK(evh_type_get(heap, 2) == NULL);
    CHECK(evh_type_get(heap, UINT32_MAX) == NULL);
    types_close(heap);
}

TEST(another_layout_is_another_type)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    const evh_field field = {"x", EVH_FIELD_UNSIGNED, 0, 8, 1, NULL, 0, 0, 0};
    const evh_type one = {"point", 8, &field, 1};
    const evh_type two = {"point", 16, &field, 1};
    CHECK_EQUAL(evh_type_register(heap, &one), 1);
    CHECK_EQUAL(evh_type_register(heap, &two), 2);
    CHECK_EQUAL(evh_type_register(heap, &one), 1);
    CHECK_EQUAL(evh_type_find(heap, "point"), 2);
    CHECK_EQUAL(evh_type_get(heap, 1)->size, 8);
    types_close(heap);
}

TEST(types_are_known_in_every_kind_of_heap)
{
    evh_options live = {.mode = EVH_LIVE};
    evh_heap *heaps[] = {evh_open(test_path("live"), &live), evh_open_memory(NULL, 200000, NULL),
                         evh_open_memory(NULL, 0, NULL)};
    for (unsigned i = 0; i < 3; i++) {
        CHECK(heaps[i] != NULL);
        CHECK_EQUAL(evh_type_register(heaps[i], &note_type), 1);
        types_check_note(evh_type_get(heaps[i], 1));
        types_close(heaps[i]);
    }
}

TEST(as_many_types_as_there_are)
{
    enum { COUNT = 1000 };
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    for (unsigned i = 0; i < COUNT; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "type %u", i);
        const evh_type type = {name, 8 + i, NULL, 0};
        CHECK_EQUAL(evh_type_register(heap, &type), i + 1);
    }
    CHECK_EQUAL(evh_type_count(heap), COUNT);
    CHECK_EQUAL(evh_type_get(heap, 777)->size, 8 + 776);
    CHECK(strcmp(evh_type_get(heap, 777)->name, "type 776") == 0);
    types_close(heap);
}

TEST(a_description_that_cannot_be_is_refused)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    char long_name[80];
    memset(long_name, 'n', sizeof long_name);
    long_name[79] = 0;
    const evh_field good = {"x", EVH_FIELD_UNSIGNED, 0, 8, 1, NULL, 0, 0, 0};
    const evh_field outside = {"x", EVH_FIELD_UNSIGNED, 4, 8, 1, NULL, 0, 0, 0};
    const evh_field many = {"x", EVH_FIELD_UNSIGNED, 0, 8, 2, NULL, 0, 0, 0};
    const evh_field odd = {"x", EVH_FIELD_UNSIGNED, 0, 3, 1, NULL, 0, 0, 0};
    const evh_field kind = {"x", (evh_field_kind)99, 0, 8, 1, NULL, 0, 0, 0};
    const evh_field tag = {"x", EVH_FIELD_UNSIGNED, 0, 8, 1, NULL, 8, 1, 0};
    const evh_field tag_size = {"x", EVH_FIELD_UNSIGNED, 0, 8, 1, NULL, 0, 65537, 0};
    const evh_field field_name = {long_name, EVH_FIELD_UNSIGNED, 0, 8, 1, NULL, 0, 0, 0};
    const evh_type bad[] = {
        {NULL, 8, &good, 1},     {"", 8, &good, 1},      {long_name, 8, &good, 1},
        {"t", 0, NULL, 0},       {"t", 8, NULL, 1},      {"t", 8, &outside, 1},
        {"t", 8, &many, 1},      {"t", 8, &odd, 1},      {"t", 8, &kind, 1},
        {"t", 8, &tag, 1},       {"t", 8, &tag_size, 1}, {"t", 8, &field_name, 1},
        {"t", UINT64_MAX, 0, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQUAL(evh_type_register(heap, &bad[i]), 0);
        CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    }
    CHECK_EQUAL(evh_type_register(NULL, &note_type), 0);
    CHECK_EQUAL(evh_type_register(heap, NULL), 0);
    CHECK_EQUAL(evh_type_count(heap), 0);
    types_close(heap);
}

TEST(a_rollback_takes_types_back)
{
    evh_heap *heap = types_open(test_path("rollback"));
    CHECK_EQUAL(evh_type_register(heap, &note_type), 1);
    CHECK(evh_type_get(heap, 1) != NULL);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK(evh_type_get(heap, 1) == NULL);
    CHECK_EQUAL(evh_type_count(heap), 0);
    types_close(heap);
}

TEST(a_damaged_record_has_no_type_and_no_effect_on_others)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    const evh_type other = {"other", 8, NULL, 0};
    CHECK_EQUAL(evh_type_register(heap, &note_type), 1);
    CHECK_EQUAL(evh_type_register(heap, &other), 2);
    const struct types_table *table = evh_root_find(heap, TYPES_ROOT, NULL);
    evh_ref *refs = evh_at(heap, table->chunks[0]);
    const uint64_t good = refs[0].offset;
    unsigned char *record = evh_at(heap, refs[0]);
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < 2000; i++) {
        const size_t at = test_random(&seed) % (sizeof(struct types_record) + 320);
        const unsigned char byte = record[at];
        record[at] ^= (unsigned char)(1 << test_random(&seed) % 8);
        if (i % 10 == 0) refs[0].offset = test_random(&seed);
        heap->stamp = heap_new_stamp(); /* load it anew */
        heap_thread.stamp = 0;
        const evh_type *type = evh_type_get(heap, 1);
        for (uint32_t k = 0; type && k < type->field_count; k++)
            CHECK(type->fields[k].offset <= type->size);
        CHECK(evh_type_get(heap, 2) != NULL);
        record[at] = byte;
        refs[0].offset = good;
    }
    heap->stamp = heap_new_stamp();
    slices_reset(heap);
    types_check_note(evh_type_get(heap, 1));
    types_close(heap);
}

/* ---- typed blocks ---- */

struct types_seen {
    uint64_t blocks, typed, bytes;
};

static bool types_see(const evh_block *block, void *context)
{
    struct types_seen *seen = context;
    seen->blocks++;
    if (block->type != 7) return true;
    seen->typed++;
    const unsigned char *bytes = block->address;
    for (uint64_t i = 0; i < block->size; i++) CHECK_EQUAL(bytes[i], 0x5a);
    return true;
}

TEST(a_block_keeps_its_type_over_commits_and_runs)
{
    static const size_t sizes[] = {1,    12,   13,    28,    100,   1000,
                                   8188, 8189, 40000, 65532, 65533, 300000};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    const char *path = test_path("typed");
    uint64_t offsets[COUNT];
    evh_heap *heap = types_open(path);
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned char *block = evh_malloc_typed(heap, 7, sizes[i]);
        CHECK(block != NULL);
        CHECK_EQUAL((uintptr_t)block % 16, 0);
        CHECK(evh_usable_size(heap, block) >= sizes[i]);
        memset(block, 0x5a, evh_usable_size(heap, block));
        CHECK_EQUAL(evh_type_of(heap, block), 7);
        offsets[i] = evh_ref_to(heap, block).offset;
        void *plain = evh_malloc(heap, sizes[i]);
        memset(plain, 0xff, evh_usable_size(heap, plain));
        CHECK_EQUAL(evh_type_of(heap, plain), 0);
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    types_close(heap);

    heap = types_open(path);
    struct types_seen seen = {0};
    CHECK_EQUAL(evh_walk(heap, types_see, &seen), EVH_OK);
    CHECK_EQUAL(seen.typed, COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQUAL(evh_type_of(heap, evh_at(heap, (evh_ref){offsets[i]})), 7);
    for (unsigned i = 0; i < COUNT; i++) evh_free(heap, evh_at(heap, (evh_ref){offsets[i]}));
    seen = (struct types_seen){0};
    CHECK_EQUAL(evh_walk(heap, types_see, &seen), EVH_OK);
    CHECK_EQUAL(seen.typed, 0);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    types_close(heap);
}

TEST(a_resized_block_keeps_its_type)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    unsigned char *block = evh_malloc_typed(heap, 9, 40);
    memset(block, 1, 40);
    static const size_t sizes[] = {41, 100, 5000, 70000, 500000, 2000000, 66000, 30, 1};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        block = evh_realloc(heap, block, sizes[i]);
        CHECK(block != NULL);
        CHECK_EQUAL(evh_type_of(heap, block), 9);
        CHECK_EQUAL(block[0], 1);
        CHECK(evh_usable_size(heap, block) >= sizes[i]);
    }
    evh_free(heap, block);
    types_close(heap);
}

TEST(a_typed_block_is_zero_where_it_is_new_and_found_as_a_root)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    const uint32_t number = evh_type_register(heap, &note_type);
    struct note *note = evh_new(heap, number);
    for (size_t i = 0; i < sizeof *note; i++) CHECK_EQUAL(((unsigned char *)note)[i], 0);
    CHECK(evh_new(heap, 2) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
    struct note *root = evh_root_typed(heap, "first", number, sizeof *root);
    CHECK(root != NULL);
    CHECK_EQUAL(evh_type_of(heap, root), number);
    CHECK(evh_root_typed(heap, "first", number, sizeof *root) == root);
    CHECK(evh_root(heap, "first", sizeof *root) == root);
    CHECK_EQUAL(evh_root_remove(heap, "first"), EVH_OK);
    types_close(heap);
}

TEST(misuse_of_typed_blocks_is_detected)
{
    const evh_options options = {.misuse = EVH_MISUSE_STATUS};
    evh_heap *heap = evh_open_memory(NULL, 0, &options);
    char *block = evh_malloc_typed(heap, 1, 40);
    evh_free(heap, block);
    evh_free(heap, block);
    CHECK_EQUAL(evh_last_error()->status, EVH_DOUBLE_FREE);
    block = evh_malloc_typed(heap, 1, 40);
    evh_free(heap, block + 16);
    CHECK_EQUAL(evh_last_error()->status, EVH_BAD_POINTER);
    CHECK(evh_malloc_typed(heap, 0, 40) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_malloc_typed(heap, 1, 0) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_malloc_typed(heap, 1, SIZE_MAX) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
    CHECK(evh_malloc_typed(heap, 1, SIZE_MAX - 3) == NULL);
    types_close(heap);
    evh_options live = {.mode = EVH_LIVE};
    heap = evh_open(test_path("live"), &live);
    CHECK(evh_malloc_typed(heap, 1, 40) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_MODE);
    types_close(heap);
}

/* Strategy: typed and untyped blocks of random sizes come and go, with commits, rollbacks and
 * reopening. Invariants: every live block has its type and its content, evh_check() is clean, and
 * no untyped block is in a typed slice. */
struct types_model {
    uint64_t offset, size;
    uint32_t type;
    unsigned char fill;
};

enum { MODEL_BLOCKS = 400 };

static void types_model_check(evh_heap *heap, const struct types_model *models)
{
    for (unsigned i = 0; i < MODEL_BLOCKS; i++) {
        if (!models[i].offset) continue;
        const unsigned char *block = evh_at(heap, (evh_ref){models[i].offset});
        CHECK_EQUAL(evh_type_of(heap, block), models[i].type);
        CHECK_EQUAL(block[0], models[i].fill);
        CHECK_EQUAL(block[models[i].size - 1], models[i].fill);
    }
}

static void types_model_step(evh_heap *heap, struct types_model *model, uint64_t *seed)
{
    if (model->offset) {
        evh_free(heap, evh_at(heap, (evh_ref){model->offset}));
        model->offset = 0;
        return;
    }
    const uint64_t random = test_random(seed);
    model->size = 1 + test_random(seed) % (random % 50 == 0 ? 200000 : random % 5 ? 200 : 9000);
    model->type = random % 3 ? 1 + (uint32_t)(random % 1000) : 0;
    model->fill = (unsigned char)random;
    void *block = model->type ? evh_malloc_typed(heap, model->type, model->size)
                              : evh_malloc(heap, model->size);
    CHECK(block != NULL);
    memset(block, model->fill, model->size);
    model->offset = evh_ref_to(heap, block).offset;
}

TEST(typed_and_untyped_blocks_come_and_go_at_random)
{
    uint64_t seed = test_seed();
    struct types_model models[MODEL_BLOCKS] = {{0}}, committed[MODEL_BLOCKS] = {{0}};
    const char *path = test_path("model");
    evh_heap *heap = types_open(path);
    for (uint64_t i = 0; i < test_effort(30000); i++) {
        types_model_step(heap, &models[test_random(&seed) % MODEL_BLOCKS], &seed);
        const uint64_t event = test_random(&seed) % 1000;
        if (event < 2) {
            CHECK_EQUAL(evh_commit(heap), EVH_OK);
            memcpy(committed, models, sizeof models);
        } else if (event == 2) {
            CHECK_EQUAL(evh_rollback(heap), EVH_OK);
            memcpy(models, committed, sizeof models);
            types_model_check(heap, models);
        } else if (event == 3) {
            types_close(heap);
            heap = types_open(path);
            memcpy(models, committed, sizeof models);
            types_model_check(heap, models);
        }
    }
    types_model_check(heap, models);
    types_close(heap);
}

static void *types_thread(void *context)
{
    evh_heap *heap = context;
    uint64_t seed = test_seed() + (uintptr_t)pthread_self() % 1021;
    unsigned char *blocks[64] = {NULL};
    for (unsigned i = 0; i < 20000; i++) {
        const unsigned at = test_random(&seed) % 64;
        if (blocks[at]) CHECK_EQUAL(evh_type_of(heap, blocks[at]), at + 1);
        evh_free(heap, blocks[at]);
        blocks[at] = evh_malloc_typed(heap, at + 1, 1 + at * 7);
        memset(blocks[at], (int)at, 1 + at * 7);
        evh_free(heap, evh_malloc(heap, 1 + at * 7));
    }
    for (unsigned at = 0; at < 64; at++) evh_free(heap, blocks[at]);
    return NULL;
}

TEST(threads_share_the_typed_slices)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, types_thread, heap), 0);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    struct types_seen seen = {0};
    CHECK_EQUAL(evh_walk(heap, types_see, &seen), EVH_OK);
    CHECK_EQUAL(seen.typed, 0);
    types_close(heap);
}

/* ---- where it was mapped ---- */

/* The model: the addresses, the latest first, each once. */
static void addresses_note(uint64_t addresses[16], uint64_t address)
{
    unsigned last = 0;
    while (last < 15 && addresses[last] != 0 && addresses[last] != address) last++;
    for (; last > 0; last--) addresses[last] = addresses[last - 1];
    addresses[0] = address;
}

TEST(the_addresses_of_earlier_runs_are_remembered)
{
    const char *path = test_path("addresses");
    uint64_t addresses[16] = {0};
    static const unsigned wishes[] = {0, 1, 2, 3, 4, 5, 3, 3, 0};
    for (unsigned i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        const evh_options options = {.preferred_address =
                                         0x200000000000ull + wishes[i] * 0x10000000000ull};
        evh_heap *heap = evh_open(path, &options);
        CHECK(heap != NULL);
        addresses_note(addresses, (uintptr_t)heap->view.base);
        const struct region_header *header = &heap->region->header;
        CHECK_EQUAL(header->preferred_address, addresses[0]);
        for (unsigned k = 0; k < 4; k++)
            CHECK_EQUAL(header->earlier_addresses[k], addresses[k + 1]);
        *(uint32_t *)evh_root(heap, "runs", 4) += 1;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        types_close(heap);
    }
}
