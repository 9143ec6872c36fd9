/* str_test.c -- strings that change. */
#include "support/collect_model.h"

#include <stdlib.h>
#include <string.h>

TEST(a_zero_handle_is_the_empty_string)
{
    evh_heap *heap = collect_open_memory();
    evh_str string = {0};
    size_t size = 1;
    CHECK_EQUAL(strcmp(evh_str_text(heap, &string, &size), ""), 0);
    CHECK_EQUAL(size, 0);
    CHECK(evh_str_equals(heap, &string, NULL, 0));
    CHECK_EQUAL(evh_str_clear(heap, &string), EVH_OK);
    CHECK_EQUAL(evh_str_assign(heap, &string, ""), EVH_OK);
    CHECK_EQUAL(string.offset, 0);
    CHECK_EQUAL(evh_str_check(heap, &string), EVH_OK);
    evh_close(heap);
}

TEST(a_string_is_assigned_appended_and_spliced)
{
    evh_heap *heap = collect_open_memory();
    evh_str string = {0};
    CHECK_EQUAL(evh_str_assign(heap, &string, "heap"), EVH_OK);
    CHECK_EQUAL(evh_str_add(heap, &string, " that lasts"), EVH_OK);
    CHECK_EQUAL(evh_str_splice(heap, &string, 0, 0, "a ", 2), EVH_OK);
    CHECK_EQUAL(evh_str_splice(heap, &string, 7, 4, "really", 6), EVH_OK);
    CHECK_EQUAL(strcmp(evh_str_text(heap, &string, NULL), "a heap really lasts"), 0);
    CHECK_EQUAL(evh_str_splice(heap, &string, 6, 7, NULL, 0), EVH_OK);
    CHECK_EQUAL(strcmp(evh_str_text(heap, &string, NULL), "a heap lasts"), 0);
    CHECK_EQUAL(evh_str_splice(heap, &string, 13, 0, "x", 1), EVH_INVALID);
    CHECK_EQUAL(evh_str_splice(heap, &string, 5, SIZE_MAX, "x", 1), EVH_INVALID);
    CHECK_EQUAL(evh_str_clear(heap, &string), EVH_OK);
    CHECK_EQUAL(string.offset, 0);
    evh_close(heap);
}

TEST(a_string_may_be_made_of_its_own_parts)
{
    evh_heap *heap = collect_open_memory();
    evh_str string = {0};
    CHECK_EQUAL(evh_str_assign(heap, &string, "0123456789abcdef"), EVH_OK);
    for (int i = 0; i < 6; i++) {
        size_t size;
        const char *text = evh_str_text(heap, &string, &size);
        CHECK_EQUAL(evh_str_append(heap, &string, text, size), EVH_OK);
    }
    CHECK_EQUAL(evh_str_size(heap, &string), 16 << 6);
    CHECK_EQUAL(evh_str_splice(heap, &string, 2, 1, evh_str_text(heap, &string, NULL) + 4, 3),
                EVH_OK);
    CHECK_EQUAL(evh_str_set(heap, &string, evh_str_text(heap, &string, NULL) + 1, 6), EVH_OK);
    CHECK_EQUAL(strcmp(evh_str_text(heap, &string, NULL), "145634"), 0);
    evh_close(heap);
}

TEST(strings_compare_as_bytes_then_by_size)
{
    evh_heap *heap = collect_open_memory();
    evh_str a = {0}, b = {0}, none = {0};
    CHECK_EQUAL(evh_str_set(heap, &a, "a\0b", 3), EVH_OK);
    CHECK_EQUAL(evh_str_set(heap, &b, "a\0", 2), EVH_OK);
    CHECK(evh_str_compare(heap, &a, &b) > 0);
    CHECK(evh_str_compare(heap, &none, &b) < 0);
    CHECK_EQUAL(evh_str_compare(heap, &a, &a), 0);
    CHECK_EQUAL(evh_str_set(heap, &b, "a\0\xff", 3), EVH_OK);
    CHECK(evh_str_compare(heap, &a, &b) < 0);
    CHECK(evh_str_equals(heap, &a, "a\0b", 3));
    CHECK(!evh_str_equals(heap, &a, "a\0c", 3));
    evh_close(heap);
}

TEST(a_search_finds_the_first_place)
{
    evh_heap *heap = collect_open_memory();
    evh_str string = {0};
    CHECK_EQUAL(evh_str_assign(heap, &string, "abababc"), EVH_OK);
    CHECK_EQUAL(evh_str_find(heap, &string, 0, "abc", 3), 4);
    CHECK_EQUAL(evh_str_find(heap, &string, 1, "ab", 2), 2);
    CHECK_EQUAL(evh_str_find(heap, &string, 0, "", 0), 0);
    CHECK_EQUAL(evh_str_find(heap, &string, 7, "", 0), 7);
    CHECK_EQUAL(evh_str_find(heap, &string, 8, "", 0), EVH_NOWHERE);
    CHECK_EQUAL(evh_str_find(heap, &string, 5, "abc", 3), EVH_NOWHERE);
    CHECK_EQUAL(evh_str_find(heap, &string, 0, "abababcd", 8), EVH_NOWHERE);
    evh_close(heap);
}

TEST(a_string_in_a_read_only_heap_is_not_changed)
{
    const char *path = test_path("str.heap");
    evh_heap *heap = evh_open(path, NULL);
    CHECK(heap);
    evh_str *string = evh_root(heap, "string", sizeof *string);
    CHECK(string);
    CHECK_EQUAL(evh_str_assign(heap, string, "kept"), EVH_OK);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    CHECK(heap);
    string = evh_root_find(heap, "string", NULL);
    CHECK(string);
    CHECK_EQUAL(evh_str_assign(heap, string, "lost"), EVH_READ_ONLY);
    CHECK_EQUAL(evh_str_clear(heap, string), EVH_READ_ONLY);
    CHECK(evh_str_equals(heap, string, "kept", 4));
    evh_close(heap);
}

TEST(room_that_was_reserved_is_used_in_place)
{
    evh_heap *heap = collect_open_memory();
    evh_str string = {0};
    CHECK_EQUAL(evh_str_reserve(heap, &string, 1000), EVH_OK);
    const uint64_t place = string.offset;
    for (int i = 0; i < 1000; i++) CHECK_EQUAL(evh_str_append(heap, &string, "x", 1), EVH_OK);
    CHECK_EQUAL(string.offset, place);
    CHECK_EQUAL(evh_str_size(heap, &string), 1000);
    CHECK_EQUAL(evh_str_reserve(heap, &string, (size_t)EVH_STR_SIZE_MAX + 1), EVH_LIMIT);
    evh_close(heap);
}

/* ---- beside a model ---- */

enum { STRINGS = 16, STRING_MAX = 700 };

struct str_model {
    struct {
        size_t size;
        char text[STRING_MAX];
    } strings[STRINGS];
};

static bool str_step(evh_heap *heap, void *root, void *model, uint64_t random)
{
    evh_str *const string = heap ? (evh_str *)root + random % STRINGS : NULL;
    struct str_model *const all = model;
    char *const text = all->strings[random % STRINGS].text;
    size_t *const size = &all->strings[random % STRINGS].size;
    char bytes[64];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)test_random(&random);
    const uint64_t r = test_random(&random);
    const size_t at = *size ? (r >> 8) % (*size + 1) : 0;
    size_t erase_size = r % 4 ? (r >> 20) % (*size - at + 1) : 0;
    size_t made = r % 3 ? (r >> 40) % sizeof bytes : 0;
    if (r % 50 == 0) erase_size = *size - at;
    if (*size - erase_size + made > STRING_MAX) made = 0;
    evh_status status = EVH_OK;
    if (r % 40 == 7) {
        if (heap) status = evh_str_set(heap, string, bytes, made);
        if (!status) memcpy(text, bytes, made);
        if (!status) *size = made;
    } else {
        if (heap) status = evh_str_splice(heap, string, at, erase_size, bytes, made);
        if (status) return false;
        memmove(text + at + made, text + at + erase_size, *size - at - erase_size);
        memcpy(text + at, bytes, made);
        *size += made - erase_size;
    }
    return !status;
}

static void str_verify(evh_heap *heap, void *root, const void *model)
{
    const struct str_model *const all = model;
    for (int i = 0; i < STRINGS; i++) {
        const evh_str *const string = (evh_str *)root + i;
        CHECK(evh_str_equals(heap, string, all->strings[i].text, all->strings[i].size));
        CHECK_EQUAL(evh_str_text(heap, string, NULL)[all->strings[i].size], 0);
    }
}

static void str_exercise(evh_heap *heap, void *root, uint64_t random)
{
    evh_str *const string = (evh_str *)root + random % STRINGS;
    size_t size;
    const char *text = evh_str_text(heap, string, &size);
    for (size_t i = 0; i < size; i++) random += (unsigned char)text[i];
    (void)evh_str_compare(heap, string, (evh_str *)root);
    (void)evh_str_append(heap, string, "more than it had", 16);
    (void)evh_str_splice(heap, string, random % 64, 3, "x", 1);
    if (random % 5 == 0) (void)evh_str_set(heap, string, "short", 5);
}

static evh_status str_check(evh_heap *heap, void *root)
{
    evh_status status = EVH_OK;
    for (int i = 0; i < STRINGS && !status; i++) status = evh_str_check(heap, (evh_str *)root + i);
    return status;
}

static evh_status str_clear(evh_heap *heap, void *root)
{
    evh_status status = EVH_OK;
    for (int i = 0; i < STRINGS; i++) {
        const evh_status one = evh_str_clear(heap, (evh_str *)root + i);
        if (one) status = one;
    }
    return status;
}

static const struct collect_kind strings = {
    .name = "str",
    .model_bytes = sizeof(struct str_model),
    .root_bytes = STRINGS * sizeof(evh_str),
    .step = str_step,
    .verify = str_verify,
    .exercise = str_exercise,
    .check = str_check,
    .clear = str_clear,
};

TEST(strings_agree_with_a_model_over_commits_rollbacks_and_kills)
{
    collect_model_run(&strings, test_effort(100000));
}

TEST(strings_in_a_full_heap_are_unchanged)
{
    collect_full_run(&strings, test_effort(40000), 5120);
}

TEST(damaged_strings_are_survived)
{
    collect_damage_run(&strings, test_effort(300));
}
