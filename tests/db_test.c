/* db_test.c -- the JSON database: paths, changes, search, metrics, watches, references. */
#include "support/documents.h"
#include "test.h"
#include "json/scan.h"

#include <everheap.h>

#include <stdlib.h>
#include <string.h>

static void close_memory(evh_db *db, evh_heap *heap)
{
    check_ok(evh_json_check(evh_db_json(db)));
    check_ok(evh_db_close(db));
    check_ok(evh_close(heap));
}

static void put_json(evh_db *db, const char *path, const char *text)
{
    check_ok(evh_db_put_json(db, path, text, strlen(text)));
}

static void check_json(evh_db *db, const char *path, const char *expected)
{
    const evh_node node = evh_db_peek(db, path);
    if (!evh_node_is(node)) {
        test_fail(__FILE__, __LINE__, "%s: %s", path, evh_last_error()->message);
        test_stop();
    }
    char *text = evh_json_print(node.json, node.value, NULL, NULL);
    CHECK(text != NULL);
    if (strcmp(text, expected) != 0)
        test_fail(__FILE__, __LINE__, "%s: %s, expected %s", path, text, expected);
    free(text);
}

static uint64_t metric(evh_db *db, const char *path)
{
    const evh_node node = evh_db_get(db, path);
    CHECK(evh_node_is(node));
    return evh_json_unsigned(node.json, node.value, NULL);
}

/* ---- paths and changes ---- */

TEST(a_put_makes_what_is_missing)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    check_ok(evh_db_put_text(db, "/a/b/0/c", "x", 1));
    check_json(db, "", "{\"a\":{\"b\":[{\"c\":\"x\"}]}}");
    check_ok(evh_db_put_integer(db, "/a/b/-", -5));
    check_ok(evh_db_put_bytes(db, "/bytes", "\0\1\2", 3));
    check_ok(evh_db_put_real(db, "/real", 0.5));
    check_ok(evh_db_put_boolean(db, "/a/b/0/c", true));
    check_ok(evh_db_put_unsigned(db, "/u", UINT64_MAX));
    check_ok(evh_db_put_null(db, "/null"));
    check_ok(evh_db_put_array(db, "/array"));
    check_ok(evh_db_put_object(db, "/object"));
    check_json(db, "",
               "{\"a\":{\"b\":[{\"c\":true},-5]},\"bytes\":{\"$base64\":\"AAEC\"},\"real\":0.5,"
               "\"u\":18446744073709551615,\"null\":null,\"array\":[],\"object\":{}}");
    CHECK(evh_db_exists(db, "/a/b/1"));
    CHECK(!evh_db_exists(db, "/a/b/2"));
    check_ok(evh_db_erase(db, "/a/b/0"));
    CHECK(evh_db_erase(db, "/a/b/1") == EVH_NOT_FOUND);
    check_json(db, "/a", "{\"b\":[-5]}");
    close_memory(db, heap);
}

TEST(a_put_that_fails_leaves_nothing_behind)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    put_json(db, "", "{\"a\":[1],\"n\":null,\"s\":\"x\"}");
    CHECK(evh_db_put_text(db, "/x/y/0/z", "\xff", 1) == EVH_SYNTAX);
    CHECK(evh_db_put_json(db, "/n/0", "[1,", 3) == EVH_SYNTAX);
    CHECK(evh_db_put_integer(db, "/a/5", 1) == EVH_NOT_FOUND);
    CHECK(evh_db_put_integer(db, "/s/x", 1) == EVH_INVALID);
    CHECK(evh_db_put_integer(db, "s", 1) == EVH_SYNTAX);
    CHECK(evh_db_put_integer(db, NULL, 1) == EVH_INVALID);
    CHECK(evh_db_put_ref(db, "/r/r", "no pointer") == EVH_SYNTAX);
    CHECK(evh_db_append(db, "/q", "\xff", 1) == EVH_SYNTAX);
    CHECK(evh_db_push(db, "/s", NULL) == EVH_INVALID);
    check_json(db, "", "{\"a\":[1],\"n\":null,\"s\":\"x\"}");
    close_memory(db, heap);
}

TEST(items_are_pushed_and_inserted)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    evh_value item;
    evh_json *json = evh_db_json(db);
    for (int i = 0; i < 3; i++) {
        check_ok(evh_db_push(db, "/list", &item));
        check_ok(evh_json_set_integer(json, item, i));
    }
    check_ok(evh_db_insert(db, "/list/0", &item));
    check_ok(evh_json_set_text(json, item, "first", 5));
    check_ok(evh_db_insert(db, "/list/-", NULL));
    check_ok(evh_db_insert(db, "/list/5", NULL));
    CHECK(evh_db_insert(db, "/list/7", NULL) == EVH_INVALID);
    CHECK(evh_db_insert(db, "/list/01", NULL) == EVH_INVALID);
    CHECK(evh_db_insert(db, "", NULL) == EVH_INVALID);
    check_json(db, "/list", "[\"first\",0,1,2,null,null]");
    close_memory(db, heap);
}

TEST(numbers_are_added_to_in_their_type)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    check_ok(evh_db_increment(db, "/n/count", 3));
    check_ok(evh_db_increment(db, "/n/count", -5));
    check_json(db, "/n/count", "-2");
    check_ok(evh_db_put_integer(db, "/n/max", INT64_MAX));
    check_ok(evh_db_increment(db, "/n/max", 1));
    check_json(db, "/n/max", "9223372036854775808");
    check_ok(evh_db_increment(db, "/n/max", -1));
    check_json(db, "/n/max", "9223372036854775807");
    check_ok(evh_db_put_unsigned(db, "/n/most", UINT64_MAX));
    CHECK(evh_db_increment(db, "/n/most", 1) == EVH_LIMIT);
    check_ok(evh_db_put_integer(db, "/n/least", INT64_MIN));
    CHECK(evh_db_increment(db, "/n/least", -1) == EVH_LIMIT);
    check_ok(evh_db_put_real(db, "/n/real", 0.5));
    check_ok(evh_db_increment(db, "/n/real", 1));
    check_json(db, "/n/real", "1.5");
    check_ok(evh_db_increment_real(db, "/n/count", 0.25));
    check_json(db, "/n/count", "-1.75");
    check_ok(evh_db_put_real(db, "/n/huge", 1.7e308));
    CHECK(evh_db_increment_real(db, "/n/huge", 1.7e308) == EVH_LIMIT);
    check_ok(evh_db_put_null(db, "/n/null"));
    CHECK(evh_db_increment(db, "/n/null", 1) == EVH_INVALID);
    close_memory(db, heap);
}

TEST(values_are_appended_to_renamed_moved_and_copied)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    check_ok(evh_db_append(db, "/s", "ab", 2));
    check_ok(evh_db_append(db, "/s", "cd", 2));
    put_json(db, "/o", "{\"x\":{\"y\":[1,2]},\"z\":3}");
    check_ok(evh_db_rename(db, "/o/x", "w"));
    CHECK(evh_db_rename(db, "/o/w", "z") == EVH_EXISTS);
    check_json(db, "", "{\"s\":\"abcd\",\"o\":{\"w\":{\"y\":[1,2]},\"z\":3}}");
    const evh_value name = evh_db_get(db, "/o/w").value;
    check_ok(evh_db_move(db, "/o/w", "/new/place"));
    CHECK(memcmp(&name, &(evh_value){0}, sizeof name) != 0);
    CHECK(evh_db_get(db, "/new/place").value.container == name.container);
    check_json(db, "", "{\"s\":\"abcd\",\"o\":{\"z\":3},\"new\":{\"place\":{\"y\":[1,2]}}}");
    CHECK(evh_db_move(db, "/new", "/new/place/below") == EVH_INVALID);
    CHECK(evh_db_move(db, "/new/place", "/new") == EVH_INVALID);
    CHECK(evh_db_move(db, "/nowhere", "/x") == EVH_NOT_FOUND);
    check_ok(evh_db_move(db, "/new", "/new"));
    check_ok(evh_db_copy(db, "/new", "/o/z"));
    check_ok(evh_db_move(db, "/new/place/y/0", "/new/place/y/-"));
    check_json(db, "",
               "{\"s\":\"abcd\",\"o\":{\"z\":{\"place\":{\"y\":[1,2]}}},"
               "\"new\":{\"place\":{\"y\":[2,1]}}}");
    close_memory(db, heap);
}

TEST(prepared_paths_and_cursors_read_what_changes)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    evh_json_path *path = evh_db_compile(db, "/a/0");
    CHECK(path != NULL);
    CHECK(!evh_node_is(evh_db_walk(db, path)));
    put_json(db, "", "{\"a\":[{\"$ref\":\"/b\"},1,2,3,4],\"b\":\"end\"}");
    CHECK(evh_node_type(evh_db_walk(db, path)) == EVH_JSON_STRING);
    evh_json_path_end(path);
    CHECK(evh_db_compile(db, "/$metrics/values") == NULL);
    evh_cursor cursor = evh_cursor_begin(evh_db_get(db, "/a"));
    while (evh_cursor_next(&cursor)) {
        bool exact = false;
        const int64_t number = evh_json_integer(cursor.json, cursor.value, &exact);
        if (!exact || number % 2 == 0) check_ok(evh_cursor_erase(&cursor));
    }
    CHECK(evh_cursor_erase(&cursor) == EVH_INVALID);
    check_json(db, "/a", "[1,3]");
    cursor = evh_cursor_begin(evh_db_get(db, ""));
    CHECK(evh_cursor_next(&cursor));
    CHECK(cursor.key_size == 1 && cursor.key[0] == 'a');
    close_memory(db, heap);
}

/* ---- the two names ---- */

TEST(metrics_are_read_and_cannot_be_changed)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    put_json(db, "",
             "{\"a\":[1,2.5,\"text\",true,null,{\"$base64\":\"AAEC\"}],"
             "\"r\":{\"$ref\":\"/a\"},\"o\":{}}");
    CHECK_EQUAL(metric(db, "/$metrics/values"), 10);
    CHECK_EQUAL(metric(db, "/$metrics/numbers"), 2);
    CHECK_EQUAL(metric(db, "/$metrics/strings"), 1);
    CHECK_EQUAL(metric(db, "/$metrics/string_bytes"), 4);
    CHECK_EQUAL(metric(db, "/$metrics/binary_bytes"), 3);
    CHECK_EQUAL(metric(db, "/$metrics/references"), 1);
    CHECK_EQUAL(metric(db, "/$metrics/objects"), 2);
    CHECK_EQUAL(metric(db, "/$metrics/keys"), 3);
    CHECK(metric(db, "/$metrics/heap/live_blocks") > 0);
    CHECK(evh_db_put_integer(db, "/$metrics/values", 1) == EVH_READ_ONLY);
    CHECK(evh_db_put_integer(db, "/$metrics", 1) == EVH_READ_ONLY);
    CHECK(evh_db_erase(db, "/$sys/x") == EVH_READ_ONLY);
    CHECK(evh_db_move(db, "/a", "/$sys") == EVH_READ_ONLY);
    CHECK(!evh_db_exists(db, "/$sys"));
    CHECK(!evh_db_exists(db, "/$metrics/none"));
    check_json(db, "/o", "{}");
    close_memory(db, heap);
}

TEST(members_with_reserved_names_have_an_escape)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    check_ok(evh_db_put_integer(db, "/$$metrics/x", 1));
    check_ok(evh_db_put_integer(db, "/$$$sys", 2));
    check_ok(evh_db_put_integer(db, "/$other", 3));
    check_ok(evh_db_put_integer(db, "/a/$sys", 4));
    check_json(db, "", "{\"$metrics\":{\"x\":1},\"$$sys\":2,\"$other\":3,\"a\":{\"$sys\":4}}");
    char path[100];
    const char *const paths[] = {"/$$metrics/x", "/$$$sys", "/$other", "/a/$sys", ""};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        const evh_node node = evh_db_get(db, paths[i]);
        CHECK(evh_node_is(node));
        CHECK_EQUAL(evh_db_path(db, node.value, path, sizeof path), strlen(paths[i]));
        CHECK(strcmp(path, paths[i]) == 0);
    }
    close_memory(db, heap);
}

/* ---- search ---- */

struct found {
    evh_db *db;
    char text[4000];
};

static bool note_hit(const evh_db_hit *hit, void *context)
{
    struct found *found = context;
    char path[200];
    CHECK(evh_db_path(found->db, hit->value, path, sizeof path) < sizeof path);
    const size_t used = strlen(found->text);
    snprintf(found->text + used, sizeof found->text - used, "%s%s ",
             hit->kind == EVH_DB_KEY ? "key:" : "", path);
    return true;
}

static void check_search(evh_db *db, const char *part, const evh_db_search_options *options,
                         const char *expected)
{
    struct found found = {db, ""};
    check_ok(evh_db_search(db, part, strlen(part), options, note_hit, &found, NULL));
    if (strcmp(found.text, expected) != 0)
        test_fail(__FILE__, __LINE__, "%s: %s, expected %s", part, found.text, expected);
}

TEST(keys_and_strings_are_found_with_their_paths)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    put_json(db, "",
             "{\"name\":\"Fox\",\"list\":[\"the fox\",\"hen\",{\"fox\":1,\"name\":\"x\"}],"
             "\"FOXES\":\"\"}");
    check_search(db, "fox", NULL, "key:/list/2/fox /list/0 ");
    check_search(db, "fox", &(evh_db_search_options){.ignore_case = true},
                 "key:/FOXES key:/list/2/fox /name /list/0 ");
    check_search(db, "fox", &(evh_db_search_options){.ignore_case = true, .skip = 1, .limit = 2},
                 "key:/list/2/fox /name ");
    check_search(db, "name", &(evh_db_search_options){.kinds = EVH_DB_KEY},
                 "key:/name key:/list/2/name ");
    check_search(db, "", &(evh_db_search_options){.kinds = EVH_DB_VALUE},
                 "/name /list/0 /list/1 /list/2/name /FOXES ");
    const evh_value outside = evh_json_detached(evh_db_json(db));
    check_ok(evh_json_set_text(evh_db_json(db), outside, "a fox outside", 13));
    check_search(db, "fox", NULL, "key:/list/2/fox /list/0 ");
    check_ok(evh_json_erase(evh_db_json(db), outside));
    uint64_t total = 0;
    check_ok(evh_db_search(db, "e", 1, NULL, NULL, NULL, &total));
    CHECK_EQUAL(total, 4);
    close_memory(db, heap);
}

struct told_hits {
    evh_json *json;
    uint64_t count;
    uint64_t wrong; /* told with a value that is another one */
};

static bool check_hit(const evh_db_hit *hit, void *context)
{
    struct told_hits *told = context;
    size_t size = 0;
    const char *text = evh_json_text(told->json, hit->value, &size);
    told->wrong += text != hit->text || size != hit->size;
    told->count++;
    return true;
}

/* Strategy: strings of two letters, so that there are many hits, of all lengths, erased and made
 * anew; a search, with and without wide vectors, against a plain loop over all of them. Invariants:
 * the same number of hits; each is told with its value. */
TEST(a_search_finds_what_a_plain_one_finds)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    evh_json *json = evh_db_json(db);
    uint64_t state = test_seed();
    enum { COUNT = 3000 };
    static char texts[COUNT][64];
    check_ok(evh_db_put_array(db, "/list"));
    for (uint64_t i = 0; i < COUNT + test_effort(20000); i++) {
        const uint64_t at = i < COUNT ? i : test_random(&state) % COUNT;
        const size_t size = test_random(&state) % 60;
        for (size_t k = 0; k < size; k++) texts[at][k] = "abAB"[test_random(&state) % 4];
        texts[at][size] = 0;
        evh_value item = evh_json_at(json, evh_db_get(db, "/list").value, at);
        if (i < COUNT) check_ok(evh_db_push(db, "/list", &item));
        if (i >= COUNT && size % 2) check_ok(evh_json_set_null(json, item));
        check_ok(evh_json_set_text(json, item, texts[at], size));
    }
    for (int round = 0; round < 300; round++) {
        char part[12] = "";
        const size_t size = 1 + test_random(&state) % 10;
        for (size_t k = 0; k < size; k++) part[k] = "abAB"[test_random(&state) % 4];
        const evh_db_search_options options = {.kinds = EVH_DB_VALUE,
                                               .ignore_case = round % 2 == 1};
        uint64_t expected = 0;
        for (size_t i = 0; i < COUNT; i++) {
            bool is_hit = false;
            for (const char *p = texts[i]; *p && !is_hit; p++) {
                size_t k = 0;
                while (
                    k < size && p[k] &&
                    (p[k] == part[k] || (options.ignore_case && (p[k] | 0x20) == (part[k] | 0x20))))
                    k++;
                is_hit = k == size;
            }
            expected += is_hit;
        }
        uint64_t total = 0;
        const bool was = scan_use_wide(round % 4 < 2);
        check_ok(evh_db_search(db, part, size, &options, NULL, NULL, &total));
        struct told_hits hits = {json, 0, 0};
        check_ok(evh_db_search(db, part, size, &options, check_hit, &hits, NULL));
        scan_use_wide(was);
        CHECK_EQUAL(total, expected);
        CHECK_EQUAL(hits.count, expected);
        CHECK_EQUAL(hits.wrong, 0);
    }
    close_memory(db, heap);
}

/* ---- watches ---- */

static void note_change(const char *path, void *context)
{
    char *text = context;
    const size_t used = strlen(text);
    snprintf(text + used, 1000 - used, "%s ", path[0] ? path : "(all)");
}

static void check_told(char *told, const char *expected)
{
    if (strcmp(told, expected) != 0)
        test_fail(__FILE__, __LINE__, "told of %s, expected %s", told, expected);
    told[0] = 0;
}

TEST(watches_are_told_after_a_commit)
{
    evh_db *db = evh_db_open(test_path("watched"), NULL);
    CHECK(db != NULL);
    char told[1000] = "";
    put_json(db, "", "{\"a\":{\"x\":1,\"list\":[1,2]},\"b\":2,\"ab\":{}}");
    check_ok(evh_db_commit(db));
    uint64_t watch = 0;
    check_ok(evh_db_watch(db, "/a", note_change, told, &watch));
    check_ok(evh_db_put_integer(db, "/a/x", 2));
    check_ok(evh_db_put_integer(db, "/b", 2));
    check_ok(evh_db_put_integer(db, "/ab/x", 2));
    check_told(told, "");
    check_ok(evh_db_commit(db));
    check_told(told, "/a/x ");
    check_ok(evh_db_commit(db));
    check_told(told, "");
    check_ok(evh_db_put_integer(db, "/a/x", 3));
    check_ok(evh_db_rollback(db));
    check_ok(evh_db_commit(db));
    check_told(told, "");
    check_ok(evh_db_push(db, "/a/list", NULL));
    check_ok(evh_db_rename(db, "/a/x", "y"));
    check_ok(evh_db_append(db, "/a/s", "x", 1));
    check_ok(evh_db_append(db, "/a/s", "y", 1));
    CHECK(evh_db_put_text(db, "/a/new", "\xff", 1) == EVH_SYNTAX);
    check_ok(evh_db_commit(db));
    check_told(told, "/a/list/2 /a/s /a/x /a/y ");
    const char *bad = "[{\"op\":\"add\",\"path\":\"/a/z\",\"value\":1},"
                      "{\"op\":\"remove\",\"path\":\"/none\"}]";
    evh_json *json = evh_db_json(db);
    CHECK(evh_json_patch_text(json, evh_json_root(json), bad, strlen(bad)) == EVH_NOT_FOUND);
    check_ok(evh_db_commit(db));
    check_told(told, "");
    const char *good = "[{\"op\":\"move\",\"from\":\"/b\",\"path\":\"/a/z\"}]";
    check_ok(evh_json_patch_text(json, evh_json_root(json), good, strlen(good)));
    check_ok(evh_db_commit(db));
    check_told(told, "/a/z ");
    check_ok(evh_db_erase(db, "/a"));
    check_ok(evh_db_put_integer(db, "/a/deep/er", 1));
    check_ok(evh_db_commit(db));
    check_told(told, "/a /a/deep /a/deep/er ");
    put_json(db, "", "{}");
    check_ok(evh_db_commit(db));
    check_told(told, "(all) ");
    check_ok(evh_db_unwatch(db, watch));
    CHECK(evh_db_unwatch(db, watch) == EVH_NOT_FOUND);
    check_ok(evh_db_put_integer(db, "/a/x", 9));
    check_ok(evh_db_commit(db));
    check_told(told, "");
    check_ok(evh_db_close(db));
}

/* ---- references ---- */

static bool note_reference(evh_value reference, evh_status status, void *context)
{
    struct found *found = context;
    char path[200];
    CHECK(evh_db_path(found->db, reference, path, sizeof path) < sizeof path);
    const size_t used = strlen(found->text);
    snprintf(found->text + used, sizeof found->text - used, "%s:%s ", path,
             status == EVH_OK         ? "ok"
             : status == EVH_DANGLING ? "dangling"
                                      : "cycle");
    return true;
}

TEST(references_that_dangle_or_turn_are_reported)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    put_json(db, "",
             "{\"t\":{\"x\":1},\"a\":{\"$ref\":\"/t\"},\"b\":{\"$ref\":\"/t/x\"},"
             "\"c\":{\"$ref\":\"/none\"},\"d\":{\"$ref\":\"/e\"},\"e\":{\"$ref\":\"/d\"},"
             "\"f\":[{\"$ref\":\"/f/0\"}]}");
    struct found found = {db, ""};
    check_ok(evh_db_references_check(db, true, note_reference, &found));
    CHECK(strcmp(found.text, "/c:dangling /d:cycle /e:cycle /f/0:cycle ") == 0);
    found.text[0] = 0;
    check_ok(evh_db_referrers(db, evh_db_get(db, "/t").value, note_reference, &found));
    CHECK(strcmp(found.text, "/b:ok /a:ok ") == 0 || strcmp(found.text, "/a:ok /b:ok ") == 0);
    CHECK(!evh_node_is(evh_db_get(db, "/d")));
    CHECK(evh_last_error()->status == EVH_CYCLE);
    check_ok(evh_db_erase(db, "/t"));
    CHECK(!evh_node_is(evh_db_get(db, "/a")));
    CHECK(evh_last_error()->status == EVH_DANGLING);
    check_ok(evh_db_erase(db, "/a"));
    CHECK(evh_db_referrers(db, evh_db_get(db, "/c").value, note_reference, &found) != EVH_OK);
    close_memory(db, heap);
}

/* ---- differences ---- */

/* A random value below `depth` levels, as text. */
static size_t random_json(uint64_t *state, int depth, char *text)
{
    char *at = text;
    const uint64_t random = test_random(state);
    const uint64_t count = random >> 8 & 3;
    switch (depth ? random % 6 : random % 4) {
    case 0: return (size_t)snprintf(at, 30, "%d", (int)(random >> 16 & 3));
    case 1: return (size_t)snprintf(at, 30, "\"s%d\"", (int)(random >> 16 & 3));
    case 2: return (size_t)snprintf(at, 30, "null");
    case 3: return (size_t)snprintf(at, 30, "{\"$ref\":\"/%d\"}", (int)(random >> 16 & 1));
    case 4:
        *at++ = '[';
        for (uint64_t i = 0; i < 2 * count; i++) {
            if (i) *at++ = ',';
            at += random_json(state, depth - 1, at);
        }
        *at++ = ']';
        break;
    default:
        *at++ = '{';
        for (uint64_t i = 0; i <= count; i++)
            if (test_random(state) % 2) {
                if (at[-1] != '{') *at++ = ',';
                at += snprintf(at, 30, "\"%s\":", (const char *[]){"a", "~/", "", "b"}[i]);
                at += random_json(state, depth - 1, at);
            }
        *at++ = '}';
    }
    *at = 0;
    return (size_t)(at - text);
}

/* Strategy: pairs of random values. Invariant: the patch makes one the other. */
TEST(a_difference_is_a_patch_that_makes_one_the_other)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    evh_json *json = evh_db_json(db);
    uint64_t state = test_seed();
    static char text[1 << 20];
    for (uint64_t round = 0; round < test_effort(1500); round++) {
        check_ok(evh_db_put_json(db, "/x/first", text, random_json(&state, 4, text)));
        check_ok(evh_db_put_json(db, "/second", text, random_json(&state, 4, text)));
        check_ok(evh_db_put_null(db, "/patch"));
        check_ok(evh_json_diff(json, evh_db_peek(db, "/x/first").value,
                               evh_db_peek(db, "/second").value, evh_db_peek(db, "/patch").value));
        check_ok(evh_json_patch(json, evh_db_peek(db, "/x/first").value,
                                evh_db_peek(db, "/patch").value));
        CHECK(evh_json_equal(json, evh_db_peek(db, "/x/first").value,
                             evh_db_peek(db, "/second").value));
        check_ok(evh_json_diff(json, evh_db_peek(db, "/x/first").value,
                               evh_db_peek(db, "/second").value, evh_db_peek(db, "/patch").value));
        CHECK_EQUAL(evh_json_count(json, evh_db_peek(db, "/patch").value), 0);
    }
    close_memory(db, heap);
}

/* ---- for interpreters ---- */

static evh_value entity(void *context, const char *segment, size_t size)
{
    evh_db *db = context;
    if (size == 4 && memcmp(segment, "$ent", 4) == 0) return evh_db_get(db, "/entities").value;
    return (evh_value){0, 0, 0};
}

TEST(relative_paths_read_and_make)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    evh_json *json = evh_db_json(db);
    evh_db_stop stop;
    put_json(db, "", "{\"a\":{\"b\":[1,2,{\"c\":3}]},\"entities\":{\"e\":5},\"n\":null}");
    const evh_value a = evh_db_get(db, "/a").value;
    CHECK(evh_json_integer(json, evh_db_rvalue(db, a, "b/2/c", &stop), NULL) == 3);
    CHECK(!evh_json_is(evh_db_rvalue(db, a, "b/7/c", &stop)));
    CHECK(evh_last_error()->status == EVH_NOT_FOUND);
    CHECK(stop.offset == 2 && stop.size == 1);
    CHECK(evh_json_type_of(json, stop.at) == EVH_JSON_ARRAY);
    evh_db_set_first(db, entity, db);
    CHECK(evh_json_integer(json, evh_db_rvalue(db, a, "$ent/e", NULL), NULL) == 5);
    const evh_value made = evh_db_lvalue(db, a, "b/5/x/1/y", NULL);
    check_ok(evh_json_set_text(json, made, "made", 4));
    CHECK(evh_json_is(evh_db_lvalue(db, evh_db_get(db, "/n").value, "k", NULL)));
    check_json(db, "",
               "{\"a\":{\"b\":[1,2,{\"c\":3},null,null,{\"x\":[null,{\"y\":\"made\"}]}]},"
               "\"entities\":{\"e\":5},\"n\":{\"k\":null}}");
    CHECK(!evh_json_is(evh_db_lvalue(db, a, "new/9/x/99999999/z", &stop)));
    CHECK(evh_last_error()->status == EVH_LIMIT);
    CHECK(!evh_json_is(evh_db_lvalue(db, a, "b/0/x", &stop)));
    CHECK(evh_last_error()->status == EVH_INVALID);
    CHECK(!evh_json_is(evh_db_lvalue(db, a, "b/8/~", &stop)));
    check_json(db, "/a", "{\"b\":[1,2,{\"c\":3},null,null,{\"x\":[null,{\"y\":\"made\"}]}]}");
    close_memory(db, heap);
}

TEST(references_among_other_members_are_followed_by_option)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_db *db = evh_db_open_in(heap, &(evh_db_options){.references = EVH_DB_REFERENCES_AMONG});
    CHECK(db != NULL);
    evh_json *json = evh_db_json(db);
    put_json(db, "",
             "{\"t\":{\"x\":7},\"a\":{\"$ref\":\"t\",\"why\":1},\"b\":{\"$ref\":\"/a\"},"
             "\"c\":{\"$ref\":\"c\",\"c\":1},\"d\":{\"$ref\":\"none\"}}");
    CHECK(evh_json_integer(json, evh_db_rvalue(db, evh_json_root(json), "b/x", NULL), NULL) == 7);
    CHECK(!evh_json_is(evh_db_rvalue(db, evh_json_root(json), "c/x", NULL)));
    CHECK(evh_last_error()->status == EVH_CYCLE);
    CHECK(!evh_json_is(evh_db_rvalue(db, evh_json_root(json), "d", NULL)));
    CHECK(evh_last_error()->status == EVH_DANGLING);
    close_memory(db, heap);
}

TEST(pointers_stay_with_containers_that_move)
{
    evh_heap *heap;
    evh_db *db = open_memory(&heap);
    static int marks[1000];
    char path[40];
    for (int i = 0; i < 1000; i++) {
        snprintf(path, sizeof path, "/o/%dx", i);
        check_ok(evh_db_put_object(db, path));
        check_ok(evh_db_attach(db, evh_db_get(db, path).value, marks + i));
    }
    check_ok(evh_db_move(db, "/o/500x", "/elsewhere"));
    CHECK(evh_db_attached(db, evh_db_get(db, "/elsewhere").value) == marks + 500);
    check_ok(evh_db_erase(db, "/o/501x"));
    check_ok(evh_db_put_object(db, "/o/501x"));
    CHECK(evh_db_attached(db, evh_db_get(db, "/o/501x").value) == NULL);
    check_ok(evh_db_attach(db, evh_db_get(db, "/o/502x").value, NULL));
    CHECK(evh_db_attached(db, evh_db_get(db, "/o/502x").value) == NULL);
    CHECK(evh_db_attached(db, evh_db_get(db, "/o/999x").value) == marks + 999);
    close_memory(db, heap);
}

TEST(a_database_is_there_again_when_it_is_opened)
{
    const char *path = test_path("again");
    evh_db *db = evh_db_open(path, NULL);
    CHECK(db != NULL);
    check_ok(evh_db_put_integer(db, "/kept", 1));
    check_ok(evh_db_commit(db));
    check_ok(evh_db_put_integer(db, "/lost", 1));
    check_ok(evh_db_close(db));
    db = evh_db_open(path, &(evh_db_options){.mode = EVH_READ_ONLY, .must_exist = true});
    CHECK(db != NULL);
    check_json(db, "", "{\"kept\":1}");
    CHECK_EQUAL(metric(db, "/$metrics/values"), 2);
    CHECK(metric(db, "/$metrics/last_commit") > 1500000000);
    CHECK(evh_db_put_integer(db, "/x", 1) == EVH_READ_ONLY);
    CHECK(evh_db_commit(db) == EVH_READ_ONLY);
    check_ok(evh_db_close(db));
    CHECK(evh_db_open(test_path("none"), &(evh_db_options){.must_exist = true}) == NULL);
    CHECK(evh_last_error()->status == EVH_NOT_FOUND);
}
