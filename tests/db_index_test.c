/* db_index_test.c -- a search finds the same with an index and without.
 *
 * Strategy: slabs of random strings, which come, change in place, grow and go, with an index that
 * was made before or in between; commits, rollbacks, reopenings. Invariants: the hits are those of
 * a plain search of all values; the check finds every string's bits in the index.
 */
#include "db/db.h"
#include "support/documents.h"
#include "test.h"

#include <stdlib.h>

enum { STRINGS = 3000, TEXT_MAX = 6000 };

/* Letters of both cases, digits, and some that are not ASCII: most words occur once. */
static size_t make_text(uint64_t *state, char *text, size_t size_max)
{
    static const char *const letters[] = {"a", "B", "c", "D", "e", "7", "\xc3\xa9", "\xe2\x82\xac"};
    size_t size = 0;
    const size_t wanted = test_random(state) % size_max;
    while (size < wanted) {
        const uint64_t random = test_random(state);
        const char *letter = letters[random % 8];
        const char plain[2] = {(char)('a' + (random >> 8) % 26), 0};
        if (random >> 16 & 3) letter = plain;
        memcpy(text + size, letter, strlen(letter));
        size += strlen(letter);
    }
    return size;
}

static evh_value list_of(evh_db *db)
{
    return evh_json_get(evh_db_json(db), "/list");
}

/* Change a string, or some. */
static void change(evh_db *db, uint64_t *state)
{
    evh_json *const json = evh_db_json(db);
    char text[TEXT_MAX + 4];
    const uint64_t random = test_random(state);
    const evh_value item = evh_json_at(json, list_of(db), random % STRINGS);
    const size_t size = make_text(state, text, random >> 20 & 31 ? 300 : TEXT_MAX);
    switch (random >> 32 & 7) {
    case 0: check_ok(evh_json_set_null(json, item)); break;
    case 1:
        if (evh_json_type_of(json, item) == EVH_JSON_STRING)
            check_ok(evh_json_append_text(json, item, text, size));
        break;
    case 2:
        check_ok(evh_json_set_array(json, item));
        check_ok(evh_json_copy(json, item, evh_json_at(json, list_of(db), random % 97)));
        break;
    default: check_ok(evh_json_set_text(json, item, text, size)); break;
    }
}

/* Many strings end at once, so that slabs do, and their places in the index are given anew. */
static void change_many(evh_db *db, uint64_t *state)
{
    evh_json *const json = evh_db_json(db);
    for (size_t i = 0; i < STRINGS; i++)
        check_ok(evh_json_set_null(json, evh_json_at(json, list_of(db), i)));
    for (size_t i = 0; i < 2 * STRINGS; i++) change(db, state);
}

static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool contains(const char *text, size_t size, const char *part, size_t part_size, bool folds)
{
    for (size_t at = 0; at + part_size <= size; at++) {
        size_t i = 0;
        while (i < part_size &&
               (folds ? fold(text[at + i]) == fold(part[i]) : text[at + i] == part[i]))
            i++;
        if (i == part_size) return true;
    }
    return false;
}

/* Search for a part of a string that is there, or for one that may not be. */
static void check_search(evh_db *db, uint64_t *state)
{
    evh_json *const json = evh_db_json(db);
    const evh_value list = list_of(db);
    char part[40];
    size_t part_size = make_text(state, part, 10);
    const uint64_t random = test_random(state);
    size_t size = 0;
    const char *text = evh_json_text(json, evh_json_at(json, list, random % STRINGS), &size);
    if (random >> 32 & 3 && text && size > 20) {
        part_size = (random >> 34) % 20;
        memcpy(part, text + (random >> 40) % (size - part_size), part_size);
    }
    const evh_db_search_options options = {.kinds = EVH_DB_VALUE, .ignore_case = random >> 60 & 1};
    uint64_t expected = 0;
    for (size_t i = 0; i < evh_json_count(json, list); i++) {
        text = evh_json_text(json, evh_json_at(json, list, i), &size);
        expected += text && contains(text, size, part, part_size, options.ignore_case);
    }
    uint64_t total = 0;
    check_ok(evh_db_search(db, part, part_size, &options, NULL, NULL, &total));
    CHECK_EQUAL(total, expected);
}

static evh_db *open_again(evh_db *db, const char *path)
{
    check_ok(evh_db_close(db));
    db = evh_db_open(path, NULL);
    CHECK(db != NULL);
    return db;
}

static void check_all(evh_db *db, uint64_t *state)
{
    check_ok(evh_json_check(evh_db_json(db)));
    for (int i = 0; i < 20; i++) check_search(db, state);
}

TEST(an_index_finds_what_a_plain_search_finds)
{
    uint64_t state = test_seed();
    const char *const path = test_path("index");
    evh_db *db = evh_db_open(path, NULL);
    CHECK(db != NULL);
    check_ok(evh_db_put_array(db, "/list"));
    evh_value item;
    for (size_t i = 0; i < STRINGS; i++) check_ok(evh_db_push(db, "/list", &item));
    check_ok(evh_db_commit(db));
    bool is_on = false; /* as of the last commit, and now */
    bool was_on = false;
    for (uint64_t round = 0; round < test_effort(60); round++) {
        const uint64_t random = test_random(&state);
        if (random % 8 == 0) change_many(db, &state);
        for (uint64_t i = 0; i < (random >> 8) % 1000; i++) change(db, &state);
        if (round == 2 || (random >> 24) % 8 == 0) {
            is_on = round == 2 || !is_on;
            check_ok(evh_db_set_index(db, is_on));
        }
        CHECK_EQUAL(evh_db_has_index(db), is_on);
        if (random >> 40 & 1) check_all(db, &state);
        switch (random >> 44 & 7) {
        case 0: check_ok(evh_db_rollback(db)); break;
        case 1: db = open_again(db, path); break;
        case 2: continue;
        default:
            check_ok(evh_db_commit(db));
            was_on = is_on;
            break;
        }
        is_on = was_on;
        CHECK_EQUAL(evh_db_has_index(db), is_on);
        if (random >> 41 & 1) check_all(db, &state);
    }
    check_all(db, &state);
    check_ok(evh_db_close(db));
}

/* More than 64 slabs of strings, so more than one group; those with a rare word are few. */
TEST(an_index_reads_only_where_a_word_may_be)
{
    evh_heap *const heap = evh_open_memory(NULL, 0, NULL);
    evh_db *const db = evh_db_open_in(heap, NULL);
    evh_json *const json = evh_db_json(db);
    check_ok(evh_db_set_index(db, true));
    check_ok(evh_db_put_array(db, "/list"));
    uint64_t state = 5;
    char text[600];
    evh_value item;
    for (int i = 0; i < 15000; i++) {
        memset(text, 0, sizeof text);
        for (int word = 0; word < 60; word++)
            snprintf(
                text + strlen(text), 10, "%s ",
                (const char *[]){"the", "heap", "of", "quick", "foxes"}[test_random(&state) % 5]);
        if (i % 5000 == 17) memcpy(text + 40, "Zebra", 5);
        check_ok(evh_db_push(db, "/list", &item));
        check_ok(evh_json_set_text(json, item, text, strlen(text)));
    }
    CHECK(json->root->index.group_count > 1);
    uint64_t candidates = 0;
    for (uint32_t i = 0; i < json->root->index.group_count; i++) {
        uint64_t bits = 0;
        const uint64_t *slabs = NULL;
        CHECK(trigrams_select(json, i, "zebra", 5, &bits, &slabs));
        candidates += base_count_bits(bits);
    }
    CHECK_EQUAL(candidates, 3);
    uint64_t total = 0;
    check_ok(evh_db_search(db, "Zebra", 5, NULL, NULL, NULL, &total));
    CHECK_EQUAL(total, 3);
    check_ok(evh_db_search(db, "zebra", 5, NULL, NULL, NULL, &total));
    CHECK_EQUAL(total, 0);
    check_ok(evh_json_check(json));
    CHECK(trigrams_bytes(json) > 0);
    check_ok(evh_db_set_index(db, false));
    CHECK_EQUAL(trigrams_bytes(json), 0);
    check_ok(evh_json_check(json));
    evh_db_close(db);
    evh_close(heap);
}

/* What the index wrongly lacks, or wrongly names, is found by the check; a search stays within. */
TEST(a_damaged_index_is_noticed)
{
    evh_heap *const heap = evh_open_memory(NULL, 0, NULL);
    evh_db *const db = evh_db_open_in(heap, NULL);
    evh_json *const json = evh_db_json(db);
    check_ok(evh_db_put_text(db, "/a", "everheap", 8));
    check_ok(evh_db_set_index(db, true));
    struct json_index *const index = &json->root->index;
    struct json_index_group *const group = evh_at(heap, (evh_ref){index->groups});
    uint64_t *const words = evh_at(heap, (evh_ref){group->words});
    uint64_t *const kept_words = malloc(8 * JSON_INDEX_HASHES);
    CHECK(kept_words != NULL);
    memcpy(kept_words, words, 8 * JSON_INDEX_HASHES);
    const struct json_index kept_index = *index;
    const struct json_index_group kept = *group;
    uint64_t total = 0;
    for (int i = 0; i < 6; i++) {
        if (i == 0) memset(words, 0, 8 * JSON_INDEX_HASHES);
        if (i == 1) group->used = 0;
        if (i == 2) group->slabs[0] += JSON_SLAB_BYTES;
        if (i == 3) group->words = UINT64_MAX - 7;
        if (i == 4) index->group_count = UINT32_MAX;
        if (i == 5) index->groups = 1ull << 50;
        CHECK_EQUAL(evh_json_check(json), EVH_CORRUPT);
        (void)evh_db_search(db, "everheap", 8, NULL, NULL, NULL, &total);
        *index = kept_index;
        *group = kept;
        memcpy(words, kept_words, 8 * JSON_INDEX_HASHES);
        check_ok(evh_json_check(json));
    }
    free(kept_words);
    check_ok(evh_db_search(db, "everheap", 8, NULL, NULL, NULL, &total));
    CHECK_EQUAL(total, 1);
    evh_db_close(db);
    evh_close(heap);
}
