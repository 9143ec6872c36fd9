/* tree_test.c -- ordered maps. */
#include "support/collect_model.h"

#include <stdlib.h>
#include <string.h>

static void put_number(evh_heap *heap, evh_tree *tree, uint64_t key)
{
    uint64_t *value = evh_tree_put(heap, tree, key, sizeof *value);
    CHECK(value);
    *value = ~key;
}

TEST(a_zero_handle_is_an_empty_tree)
{
    evh_heap *heap = collect_open_memory();
    evh_tree tree = {0};
    evh_tree_cursor cursor = {0};
    CHECK(!evh_tree_get(heap, &tree, 7));
    CHECK(!evh_tree_get_str(heap, &tree, "seven"));
    CHECK(!evh_tree_erase(heap, &tree, 7));
    CHECK(!evh_tree_next(heap, &tree, &cursor));
    CHECK(!evh_tree_previous(heap, &tree, &cursor));
    evh_tree_seek(heap, &tree, &cursor, 3);
    CHECK(!evh_tree_next(heap, &tree, &cursor));
    CHECK_EQUAL(evh_tree_count(heap, &tree), 0);
    CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
    CHECK_EQUAL(evh_tree_clear(heap, &tree), EVH_OK);
    evh_close(heap);
}

TEST(keys_come_in_order_forwards_and_backwards)
{
    enum { KEYS = 20000 };
    evh_heap *heap = collect_open_memory();
    evh_tree tree = {0};
    for (uint64_t i = 0; i < KEYS; i++) put_number(heap, &tree, i * 7919 % KEYS * 3);
    CHECK_EQUAL(evh_tree_count(heap, &tree), KEYS);
    CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
    evh_tree_cursor cursor = {0};
    for (uint64_t i = 0; i < KEYS; i++) {
        CHECK(evh_tree_next(heap, &tree, &cursor));
        CHECK_EQUAL(cursor.key, i * 3);
        CHECK_EQUAL(*(uint64_t *)cursor.value, ~(i * 3));
    }
    CHECK(!evh_tree_next(heap, &tree, &cursor));
    for (uint64_t i = KEYS; i > 0; i--) {
        CHECK(evh_tree_previous(heap, &tree, &cursor));
        CHECK_EQUAL(cursor.key, (i - 1) * 3);
    }
    CHECK(!evh_tree_previous(heap, &tree, &cursor));
    CHECK(evh_tree_next(heap, &tree, &cursor));
    CHECK_EQUAL(cursor.key, 0);
    evh_tree_seek_end(heap, &tree, &cursor);
    CHECK(!evh_tree_next(heap, &tree, &cursor));
    CHECK(evh_tree_previous(heap, &tree, &cursor));
    CHECK_EQUAL(cursor.key, (KEYS - 1) * 3);
    evh_close(heap);
}

TEST(a_seek_stands_before_the_first_key_that_is_not_below)
{
    evh_heap *heap = collect_open_memory();
    evh_tree tree = {0};
    for (uint64_t i = 1; i <= 5000; i++) put_number(heap, &tree, i * 10);
    evh_tree_cursor cursor;
    for (uint64_t key = 0; key <= 50010; key++) {
        evh_tree_seek(heap, &tree, &cursor, key);
        const bool has_next = evh_tree_next(heap, &tree, &cursor);
        CHECK_EQUAL(has_next, key <= 50000);
        if (has_next) CHECK_EQUAL(cursor.key, key <= 10 ? 10 : (key + 9) / 10 * 10);
        evh_tree_seek(heap, &tree, &cursor, key);
        const bool has_previous = evh_tree_previous(heap, &tree, &cursor);
        CHECK_EQUAL(has_previous, key > 10);
        if (has_previous) CHECK_EQUAL(cursor.key, (key - 1) / 10 * 10);
    }
    evh_close(heap);
}

TEST(the_largest_numbers_are_keys_like_others)
{
    evh_heap *heap = collect_open_memory();
    evh_tree tree = {0};
    for (uint64_t i = 0; i < 1000; i++) put_number(heap, &tree, UINT64_MAX - i);
    put_number(heap, &tree, 0);
    for (uint64_t i = 0; i < 1000; i++)
        CHECK_EQUAL(*(uint64_t *)evh_tree_get(heap, &tree, UINT64_MAX - i), i);
    evh_tree_cursor cursor = {0};
    evh_tree_seek(heap, &tree, &cursor, UINT64_MAX);
    CHECK(evh_tree_next(heap, &tree, &cursor));
    CHECK_EQUAL(cursor.key, UINT64_MAX);
    CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
    evh_close(heap);
}

TEST(signed_numbers_and_reals_keep_their_order)
{
    CHECK(evh_tree_signed(-2) < evh_tree_signed(-1));
    CHECK(evh_tree_signed(-1) < evh_tree_signed(0));
    CHECK(evh_tree_signed(INT64_MIN) < evh_tree_signed(INT64_MAX));
    CHECK_EQUAL(evh_tree_signed((int64_t)evh_tree_signed(-77)), (uint64_t)-77);
    CHECK(evh_tree_real(-1e300) < evh_tree_real(-1.5));
    CHECK(evh_tree_real(-1.5) < evh_tree_real(-0.0));
    CHECK(evh_tree_real(-0.0) < evh_tree_real(0.0));
    CHECK(evh_tree_real(0.0) < evh_tree_real(1e-300));
    CHECK(evh_tree_real(1.5) < evh_tree_real(1.6));
}

TEST(bytes_are_in_the_order_of_memcmp_then_of_size)
{
    static const struct {
        const char *bytes;
        size_t size;
    } keys[] = {{"", 0},
                {"\0", 1},
                {"\0\0", 2},
                {"a", 1},
                {"a\0", 2},
                {"abcdefgh", 8},
                {"abcdefgh\0", 9},
                {"abcdefgha", 9},
                {"abcdefgi", 8},
                {"b", 1},
                {"b\xff", 2},
                {"\xff\xff\xff\xff\xff\xff\xff\xff", 8},
                {"\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9}};
    enum { KEYS = sizeof keys / sizeof keys[0] };
    evh_heap *heap = collect_open_memory();
    evh_tree tree = {0};
    for (size_t i = 0; i < KEYS; i++) {
        const size_t k = i * 5 % KEYS;
        CHECK(evh_tree_put_bytes(heap, &tree, keys[k].bytes, keys[k].size, 8));
    }
    CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
    evh_tree_cursor cursor = {0};
    for (size_t i = 0; i < KEYS; i++) {
        CHECK(evh_tree_next(heap, &tree, &cursor));
        CHECK_EQUAL(cursor.size, keys[i].size);
        CHECK(memcmp(cursor.bytes, keys[i].bytes, keys[i].size) == 0);
        CHECK(evh_tree_get_bytes(heap, &tree, keys[i].bytes, keys[i].size) == cursor.value);
    }
    CHECK(!evh_tree_next(heap, &tree, &cursor));
    evh_close(heap);
}

TEST(a_key_of_another_kind_is_refused)
{
    evh_heap *heap = collect_open_memory();
    evh_tree tree = {0};
    put_number(heap, &tree, 7);
    CHECK(!evh_tree_put_str(heap, &tree, "7", 8));
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(!evh_tree_put(heap, &tree, 8, 4));
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(!evh_tree_get_str(heap, &tree, "7"));
    CHECK(!evh_tree_erase_str(heap, &tree, "7"));
    evh_tree_cursor cursor;
    evh_tree_seek_bytes(heap, &tree, &cursor, "7", 1);
    CHECK(!evh_tree_next(heap, &tree, &cursor));
    CHECK(!evh_tree_put(heap, &(evh_tree){0}, 8, EVH_ITEM_SIZE_MAX + 1));
    CHECK_EQUAL(evh_tree_count(heap, &tree), 1);
    evh_close(heap);
}

TEST(values_of_many_sizes_are_kept)
{
    static const size_t sizes[] = {0, 1, 7, 9, 100, 4096, EVH_ITEM_SIZE_MAX};
    evh_heap *heap = collect_open_memory();
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        evh_tree tree = {0};
        const uint64_t count = sizes[s] > 4096 ? 50 : 1000;
        for (uint64_t i = 0; i < count; i++) {
            unsigned char *value = evh_tree_put(heap, &tree, i * 77 % count, sizes[s]);
            CHECK(value);
            for (size_t k = 0; k < sizes[s]; k++) CHECK_EQUAL(value[k], 0);
            memset(value, (int)(i * 77 % count), sizes[s]);
        }
        for (uint64_t i = 0; i < count; i++) {
            const unsigned char *value = evh_tree_get(heap, &tree, i);
            CHECK(value);
            if (sizes[s] > 0)
                CHECK(value[0] == (unsigned char)i && value[sizes[s] - 1] == value[0]);
        }
        CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
        CHECK_EQUAL(evh_tree_clear(heap, &tree), EVH_OK);
    }
    evh_close(heap);
}

TEST(ascending_keys_fill_their_leaves)
{
    enum { KEYS = 63 * 500 };
    evh_heap *heap = collect_open_memory();
    evh_tree tree = {0};
    for (uint64_t i = 0; i < KEYS; i++) put_number(heap, &tree, i);
    CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
    CHECK(collect_live_blocks(heap) <= 1 + 1 + 500 + 500 / 63 + 2);
    evh_close(heap);
}

TEST(an_iteration_may_erase_the_item_it_is_at)
{
    enum { KEYS_OF_EACH = 10000 };
    evh_heap *heap = collect_open_memory();
    const uint64_t blocks = collect_live_blocks(heap);
    for (int is_back = 0; is_back < 2; is_back++) {
        evh_tree tree = {0};
        for (uint64_t i = 0; i < KEYS_OF_EACH; i++) put_number(heap, &tree, i);
        evh_tree_cursor cursor = {0};
        if (is_back) evh_tree_seek_end(heap, &tree, &cursor);
        for (uint64_t i = 0; i < KEYS_OF_EACH; i++) {
            CHECK(is_back ? evh_tree_previous(heap, &tree, &cursor)
                          : evh_tree_next(heap, &tree, &cursor));
            CHECK_EQUAL(cursor.key, is_back ? KEYS_OF_EACH - 1 - i : i);
            if (i % 3) CHECK(evh_tree_erase(heap, &tree, cursor.key));
        }
        CHECK(is_back ? !evh_tree_previous(heap, &tree, &cursor)
                      : !evh_tree_next(heap, &tree, &cursor));
        CHECK_EQUAL(evh_tree_count(heap, &tree), (KEYS_OF_EACH + 2) / 3);
        CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
        CHECK_EQUAL(evh_tree_clear(heap, &tree), EVH_OK);
    }
    CHECK_EQUAL(collect_live_blocks(heap), blocks);
    evh_close(heap);
}

/* Blocks of erased keys are overwritten at once, so that a cursor that still looked at one would
 * lose its way. */
TEST(an_iteration_over_bytes_may_erase_the_item_it_is_at)
{
    enum { KEYS_OF_EACH = 3000 };
    evh_heap *heap = collect_open_memory();
    char text[64];
    for (int is_back = 0; is_back < 2; is_back++) {
        evh_tree tree = {0};
        for (int i = 0; i < KEYS_OF_EACH; i++) {
            snprintf(text, sizeof text, "a key like others %05d", i);
            CHECK(evh_tree_put_str(heap, &tree, text, 0));
        }
        evh_tree_cursor cursor = {0};
        if (is_back) evh_tree_seek_end(heap, &tree, &cursor);
        for (int i = 0; i < KEYS_OF_EACH; i++) {
            CHECK(is_back ? evh_tree_previous(heap, &tree, &cursor)
                          : evh_tree_next(heap, &tree, &cursor));
            snprintf(text, sizeof text, "a key like others %05d",
                     is_back ? KEYS_OF_EACH - 1 - i : i);
            CHECK_EQUAL(strcmp(cursor.bytes, text), 0);
            if (i % 3 == 0) continue;
            char *const freed = (char *)(uintptr_t)cursor.bytes;
            CHECK(evh_tree_erase_bytes(heap, &tree, cursor.bytes, cursor.size));
            memset(freed, 'z', strlen(text));
        }
        CHECK(is_back ? !evh_tree_previous(heap, &tree, &cursor)
                      : !evh_tree_next(heap, &tree, &cursor));
        CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
        CHECK_EQUAL(evh_tree_clear(heap, &tree), EVH_OK);
    }
    evh_close(heap);
}

TEST(an_iteration_sees_what_is_put_ahead_of_it)
{
    evh_heap *heap = collect_open_memory();
    evh_tree tree = {0};
    put_number(heap, &tree, 1);
    put_number(heap, &tree, 2);
    evh_tree_cursor cursor = {0};
    uint64_t count = 0;
    while (evh_tree_next(heap, &tree, &cursor) && count < 5000) {
        put_number(heap, &tree, cursor.key + 2);
        CHECK(evh_tree_erase(heap, &tree, cursor.key));
        CHECK_EQUAL(cursor.key, ++count);
    }
    CHECK_EQUAL(count, 5000);
    evh_close(heap);
}

TEST(a_tree_that_empties_keeps_no_node)
{
    evh_heap *heap = collect_open_memory();
    const uint64_t blocks = collect_live_blocks(heap);
    uint64_t random = test_seed();
    evh_tree tree = {0};
    static uint64_t keys[20000];
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 20000; i++) put_number(heap, &tree, keys[i] = i * 2);
        for (uint64_t i = 20000; i > 1; i--) {
            const uint64_t k = test_random(&random) % i;
            const uint64_t key = keys[k];
            keys[k] = keys[i - 1];
            CHECK(evh_tree_erase(heap, &tree, key));
            if (i == 1000) CHECK(collect_live_blocks(heap) - blocks < 1000 / 15 + 20);
        }
        CHECK(evh_tree_erase(heap, &tree, keys[0]));
        CHECK_EQUAL(evh_tree_count(heap, &tree), 0);
        CHECK_EQUAL(collect_live_blocks(heap), blocks + 1);
        CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
    }
    evh_close(heap);
}

/* Strategy: a heap that holds little but one tree's leaves, of each size that leaves can have. */
TEST(a_tree_that_fills_its_heap_is_walked_to_both_ends)
{
    for (size_t value_size = 0; value_size <= 400; value_size += 8) {
        evh_heap *heap = evh_open_memory(NULL, 200 << 10, &(evh_options){.compact = true});
        CHECK(heap);
        evh_tree tree = {0};
        uint64_t count = 0;
        while (evh_tree_put(heap, &tree, count, value_size)) count++;
        CHECK(count > 100);
        evh_tree_cursor cursor = {0};
        for (uint64_t i = 0; i < count; i++) {
            CHECK(evh_tree_next(heap, &tree, &cursor));
            CHECK_EQUAL(cursor.key, i);
        }
        CHECK(!evh_tree_next(heap, &tree, &cursor));
        for (uint64_t i = count; i > 0; i--) {
            CHECK(evh_tree_previous(heap, &tree, &cursor));
            CHECK_EQUAL(cursor.key, i - 1);
        }
        for (uint64_t i = 0; i < count; i++) CHECK(evh_tree_next(heap, &tree, &cursor));
        CHECK(!evh_tree_next(heap, &tree, &cursor));
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
}

TEST(a_cursor_goes_to_and_fro_as_often_as_one_likes)
{
    evh_heap *heap = evh_open_memory(NULL, 64 << 10, &(evh_options){.compact = true});
    CHECK(heap);
    evh_tree tree = {0};
    for (uint64_t key = 0; key < 1000; key++) put_number(heap, &tree, key);
    for (uint64_t key = 0; key < 1000; key++) { /* two of them on both sides of a boundary */
        evh_tree_cursor cursor;
        evh_tree_seek(heap, &tree, &cursor, key);
        for (int i = 0; i < 200; i++) {
            CHECK(evh_tree_next(heap, &tree, &cursor));
            CHECK_EQUAL(cursor.key, key);
            CHECK(evh_tree_previous(heap, &tree, &cursor));
            CHECK_EQUAL(cursor.key, key);
        }
    }
    evh_close(heap);
}

/* ---- beside a model ---- */

enum { KEYS = 4000 }; /* in their order */

static uint64_t number_key(uint64_t i)
{
    return i * i * i; /* dense and sparse */
}

/* Ascending with i: long common prefixes, short ones, keys that others begin with. */
static size_t text_key(uint64_t i, char text[64])
{
    if (i == 0) return 0;
    const char letter = (char)('a' + i / 1000);
    const char *const prefix = i / 1000 % 2 ? "/a/prefix/that/is/common/" : "";
    const int size = i % 10 == 0
                         ? snprintf(text, 64, "%c%s%05u", letter, prefix, (unsigned)(i / 10 * 10))
                         : snprintf(text, 64, "%c%s%05u%c%u", letter, prefix,
                                    (unsigned)(i / 10 * 10), 0, (unsigned)(i % 10));
    return (size_t)size;
}

#include "support/collect_keyed.h"

KEYED_CALLS(tree);

static void seek_key(evh_heap *heap, const evh_tree *tree, bool is_text, uint64_t i,
                     evh_tree_cursor *cursor)
{
    char text[64];
    if (!is_text) {
        evh_tree_seek(heap, tree, cursor, number_key(i));
        return;
    }
    const size_t size = text_key(i, text);
    evh_tree_seek_bytes(heap, tree, cursor, text, size);
}

/* Step a few items forwards or backwards from a random key, beside the model. */
static void range_agrees(evh_heap *heap, const evh_tree *tree, const struct keyed_model *all,
                         bool is_text, uint64_t random)
{
    evh_tree_cursor cursor;
    uint64_t i = random % KEYS;
    const bool is_back = random >> 40 & 1;
    seek_key(heap, tree, is_text, i, &cursor);
    for (int steps = 0; steps < 10; steps++) {
        if (is_back) {
            while (i > 0 && all->values[i - 1] == 0) i--;
            CHECK_EQUAL(evh_tree_previous(heap, tree, &cursor), i > 0);
            if (i-- == 0) return;
        } else {
            while (i < KEYS && all->values[i] == 0) i++;
            CHECK_EQUAL(evh_tree_next(heap, tree, &cursor), i < KEYS);
            if (i == KEYS) return;
        }
        CHECK_EQUAL(*(uint64_t *)cursor.value, all->values[i]);
        i += !is_back;
    }
}

static bool tree_step(evh_heap *heap, void *root, void *model, uint64_t random, bool is_text)
{
    uint64_t i = (random >> 8) % KEYS;
    if ((random >> 50) % 4 == 0) i = i / 200 * 200; /* some keys more often */
    if (heap && random % 7 == 0) range_agrees(heap, root, model, is_text, random >> 3);
    return change_key(heap, root, model, is_text, i, random);
}

static void tree_verify(evh_heap *heap, void *root, const void *model, bool is_text)
{
    const struct keyed_model *const all = model;
    uint64_t count = 0;
    evh_tree_cursor cursor = {0};
    for (uint64_t i = 0; i < KEYS; i++) {
        const uint64_t *const value = get_key(heap, root, is_text, i);
        CHECK_EQUAL(value ? *value : 0, all->values[i]);
        if (!value) continue;
        count++;
        CHECK(evh_tree_next(heap, root, &cursor));
        CHECK(cursor.value == value);
        CHECK_EQUAL(cursor.bytes != NULL, is_text);
    }
    CHECK(!evh_tree_next(heap, root, &cursor));
    CHECK_EQUAL(evh_tree_count(heap, root), count);
}

static void tree_exercise(evh_heap *heap, void *root, uint64_t random, bool is_text)
{
    (void)put_key(heap, root, is_text, random % KEYS);
    (void)get_key(heap, root, is_text, (random >> 16) % KEYS);
    (void)erase_key(heap, root, is_text, (random >> 32) % KEYS);
    evh_tree_cursor cursor;
    seek_key(heap, root, is_text, (random >> 20) % KEYS, &cursor);
    for (int i = 0; i < 100 && evh_tree_previous(heap, root, &cursor); i++)
        if (i % 7 == 0) (void)erase_key(heap, root, is_text, (random + (uint64_t)i) % KEYS);
    if (random % 8) return;
    memset(&cursor, 0, sizeof cursor);
    while (evh_tree_next(heap, root, &cursor)) random += cursor.key;
}

KEYED_KIND(tree_of_numbers, tree, false);
KEYED_KIND(tree_of_texts, tree, true);

TEST(trees_of_numbers_agree_with_a_model_over_commits_rollbacks_and_kills)
{
    collect_model_run(&tree_of_numbers, test_effort(100000));
}

TEST(trees_of_texts_agree_with_a_model_over_commits_rollbacks_and_kills)
{
    collect_model_run(&tree_of_texts, test_effort(100000));
}

TEST(trees_in_a_full_heap_are_unchanged)
{
    collect_full_run(&tree_of_numbers, test_effort(60000), 24 << 10);
    collect_full_run(&tree_of_texts, test_effort(60000), 64 << 10);
}

TEST(damaged_trees_are_survived)
{
    collect_damage_run(&tree_of_numbers, test_effort(300));
    collect_damage_run(&tree_of_texts, test_effort(300));
}
