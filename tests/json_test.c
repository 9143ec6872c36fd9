/* json_test.c -- documents: read, written, looked at and changed. */
#include "json/json.h"
#include "support/documents.h"
#include "test.h"

#include <stdlib.h>

struct fixture {
    evh_heap *heap;
    evh_json *json;
    const char *path;
};

static struct fixture begin(void)
{
    struct fixture f = {NULL, NULL, test_path("json")};
    f.heap = evh_open(f.path, NULL);
    CHECK(f.heap != NULL);
    f.json = evh_json_open(f.heap, NULL);
    CHECK(f.json != NULL);
    return f;
}

static void end(struct fixture *f)
{
    evh_json_close(f->json);
    CHECK(evh_close(f->heap) == EVH_OK);
}

static void load(struct fixture *f, const char *text)
{
    check_ok(evh_json_parse(f->json, evh_json_root(f->json), text, strlen(text), NULL, NULL));
}

static void check_text(evh_json *json, evh_value value, const char *expected)
{
    char *text = evh_json_print(json, value, NULL, NULL);
    CHECK(text != NULL);
    if (strcmp(text, expected) != 0) {
        test_fail(__FILE__, __LINE__, "%s, expected %s", text, expected);
        test_stop();
    }
    free(text);
}

static void check_document(struct fixture *f, const char *expected)
{
    check_text(f->json, evh_json_root(f->json), expected);
}

static evh_value get(struct fixture *f, const char *pointer)
{
    const evh_value value = evh_json_get(f->json, pointer);
    if (!evh_json_is(value)) {
        test_fail(__FILE__, __LINE__, "%s: %s", pointer, evh_last_error()->message);
        test_stop();
    }
    return value;
}

static evh_value put(struct fixture *f, evh_value object, const char *key)
{
    evh_value member;
    check_ok(evh_json_put(f->json, object, key, strlen(key), &member));
    return member;
}

/* ---- documents ---- */

TEST(a_new_document_is_null)
{
    struct fixture f = begin();
    CHECK(evh_json_type_of(f.json, evh_json_root(f.json)) == EVH_JSON_NULL);
    check_document(&f, "null");
    end(&f);
}

TEST(a_document_is_there_after_reopening)
{
    struct fixture f = begin();
    load(&f, "{\"a\":[1,2.5,\"three\",null,true,{\"x\":\"y\"}]}");
    check_ok(evh_commit(f.heap));
    end(&f);
    f.heap = evh_open(f.path, NULL);
    f.json = evh_json_open(f.heap, NULL);
    check_document(&f, "{\"a\":[1,2.5,\"three\",null,true,{\"x\":\"y\"}]}");
    end(&f);
}

TEST(what_was_not_committed_is_gone_after_a_rollback)
{
    struct fixture f = begin();
    load(&f, "{\"a\":1}");
    check_ok(evh_commit(f.heap));
    load(&f, "[\"other\",{\"b\":\"long enough to be somewhere else\"}]");
    check_ok(evh_rollback(f.heap));
    check_document(&f, "{\"a\":1}");
    end(&f);
}

TEST(a_heap_that_cannot_be_written_has_only_documents_that_are_there)
{
    struct fixture f = begin();
    load(&f, "[1,{\"$ref\":\"/0\"}]");
    check_ok(evh_commit(f.heap));
    evh_heap *reader = evh_open(f.path, &(evh_options){.mode = EVH_READ_ONLY});
    CHECK(reader != NULL);
    evh_json *json = evh_json_open(reader, NULL);
    CHECK(json != NULL);
    check_text(json, evh_json_root(json), "[1,{\"$ref\":\"/0\"}]");
    CHECK_EQUAL(evh_json_integer(json, evh_json_follow(json, evh_json_get(json, "/1")), NULL), 1);
    CHECK(evh_json_set_null(json, evh_json_root(json)) == EVH_READ_ONLY);
    CHECK(evh_json_open(reader, "other") == NULL);
    CHECK(evh_last_error()->status == EVH_NOT_FOUND);
    evh_json_close(json);
    evh_close(reader);
    end(&f);
}

TEST(removing_a_document_frees_all_of_it)
{
    struct fixture f = begin();
    evh_info before;
    evh_info after;
    CHECK(evh_json_remove(f.heap, NULL) == EVH_OK);
    check_ok(evh_get_info(f.heap, &before));
    evh_json_close(f.json);
    f.json = evh_json_open(f.heap, NULL);
    load(&f, "{\"a\":[1,2,{\"b\":\"text\"},{\"$ref\":\"/a\"},{\"$base64\":\"AAEC\"},1e400]}");
    check_ok(evh_json_resolve(f.json, NULL));
    CHECK(evh_json_is(evh_json_detached(f.json)));
    CHECK(evh_json_remove(f.heap, NULL) == EVH_OK);
    check_ok(evh_get_info(f.heap, &after));
    CHECK_EQUAL(after.live_blocks, before.live_blocks);
    end(&f);
}

/* ---- parsing ---- */

TEST(every_kind_of_value_is_read_and_written)
{
    static const char *const texts[] = {
        "null",
        "true",
        "false",
        "0",
        "-1",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "-0",
        "-0.0",
        "1.5",
        "1e+100",
        "1e400",
        "\"\"",
        "\"text\"",
        "\"\\\"\\\\\\n\\u0001\"",
        "\"\xc3\xa4\xf0\x9f\x98\x80\"",
        "[]",
        "{}",
        "[[],{}]",
        "[1,2,3]",
        "{\"\":1}",
        "{\"a\":{\"b\":[null]}}",
        "{\"$base64\":\"AAEC\"}",
        "{\"$ref\":\"/a/b\"}",
        "{\"$ref\":5}",
        "{\"$ref\":\"http://x\"}",
        "{\"$ref\":\"/a\",\"b\":1}",
        "{\"$base64\":\"A\"}",
        "{\"$ref\":\"#/a\"}",
        "{\"$ref\":\"/~2\"}",
        "\"a\\u0000b\"",
        "{\"a\\u0000b\":1}",
    };
    struct fixture f = begin();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        load(&f, texts[i]);
        check_document(&f, texts[i]);
    }
    end(&f);
}

TEST(white_space_and_escapes_are_read_and_not_written)
{
    struct fixture f = begin();
    load(&f, " \n\t\r{ \"\\u0061\" : [ 1 , \"\\u00e4\\/\" ] } \n");
    check_document(&f, "{\"a\":[1,\"\xc3\xa4/\"]}");
    end(&f);
}

static const struct {
    const char *text;
    unsigned line, column;
    const char *expected;
} wrong_texts[] = {
    {"", 1, 1, "a value"},
    {"[1,\n  2,\n  x]", 3, 3, "a value"},
    {"[1 2]", 1, 4, ", or ]"},
    {"[1,]", 1, 4, "a value"},
    {"{\"a\" 1}", 1, 6, "a colon"},
    {"{\"a\":1,}", 1, 8, "a key"},
    {"{a:1}", 1, 2, "a key or }"},
    {"{\"a\":1]", 1, 7, ", or }"},
    {"[1", 1, 3, ", or the end of the container"},
    {"\"abc", 1, 5, "the quote that ends the string"},
    {"\"a\nb\"", 1, 3, "no control character in a string"},
    {"\"\\x\"", 1, 2, "one of \"\\/bfnrtu behind the backslash"},
    {"\"\\ud800\"", 1, 2, "a high surrogate followed by a low one"},
    {"\"\xff\"", 1, 2, "well-formed UTF-8"},
    {"01", 1, 2, "no digit behind a leading 0"},
    {"1.", 1, 3, "a digit"},
    {"tru", 1, 4, "true"},
    {"truth", 1, 4, "true"},
    {"1 2", 1, 3, "nothing behind the value"},
    {"\xef\xbb\xbf[]", 1, 1, "a value, not a byte order mark"},
    {"{\"a\":1,\"b\":2,\"a\":3}", 1, 14, "a key that is not there yet"},
    {"\n\n\n  [", 4, 4, "a value or ]"},
};

/* A source that gives one byte at a time, or some. */
struct drip {
    const char *text;
    size_t left, step;
};

static int drip_source(void *context, char *buffer, size_t size, size_t *done)
{
    struct drip *drip = context;
    *done = drip->left < drip->step ? drip->left : drip->step;
    if (*done > size) *done = size;
    memcpy(buffer, drip->text, *done);
    drip->text += *done;
    drip->left -= *done;
    return 0;
}

TEST(wrong_text_is_refused_with_its_place_and_changes_nothing)
{
    struct fixture f = begin();
    load(&f, "[\"before\"]");
    evh_info before;
    check_ok(evh_get_info(f.heap, &before));
    for (size_t i = 0; i < 2 * (sizeof wrong_texts / sizeof wrong_texts[0]); i++) {
        const char *text = wrong_texts[i / 2].text;
        evh_json_fault fault;
        struct drip drip = {text, strlen(text), 1};
        const evh_value root = evh_json_root(f.json);
        const evh_status status =
            i % 2 ? evh_json_read(f.json, root, drip_source, &drip, NULL, &fault)
                  : evh_json_parse(f.json, root, text, strlen(text), NULL, &fault);
        CHECK(status == EVH_SYNTAX);
        if (fault.line != wrong_texts[i / 2].line || fault.column != wrong_texts[i / 2].column ||
            strcmp(fault.expected, wrong_texts[i / 2].expected) != 0)
            test_fail(__FILE__, __LINE__, "%s: line %llu, column %llu, expected %s", text,
                      (unsigned long long)fault.line, (unsigned long long)fault.column,
                      fault.expected);
        check_document(&f, "[\"before\"]");
    }
    evh_info after;
    check_ok(evh_get_info(f.heap, &after));
    CHECK(after.live_blocks <= before.live_blocks + 6); /* the table of keys, made meanwhile */
    end(&f);
}

TEST(text_that_comes_in_pieces_is_the_same_text)
{
    static const char text[] =
        "{\"key\":[1,22,333.5,\"text with \\u00e4 and \\ud83d\\ude00\",null,true,"
        "false,{\"another key\":\"\xe2\x82\xac\"}],\"last\":-1e-5}";
    struct fixture f = begin();
    load(&f, text);
    char *expected = evh_json_print(f.json, evh_json_root(f.json), NULL, NULL);
    for (size_t step = 1; step < sizeof text; step++) {
        struct drip drip = {text, sizeof text - 1, step};
        check_ok(evh_json_read(f.json, evh_json_root(f.json), drip_source, &drip, NULL, NULL));
        check_document(&f, expected);
    }
    free(expected);
    end(&f);
}

TEST(every_beginning_of_a_text_is_refused)
{
    static const char text[] = "{\"key\":[1,-2.5e3,\"t\\u00e4\\n\",null,true,{\"$ref\":\"/a\"}]}";
    struct fixture f = begin();
    for (size_t size = 0; size < sizeof text - 1; size++) {
        char *copy = malloc(size + 1); /* so that a sanitizer sees what is read behind it */
        memcpy(copy, text, size);
        CHECK(evh_json_parse(f.json, evh_json_root(f.json), copy, size, NULL, NULL) == EVH_SYNTAX);
        free(copy);
    }
    check_document(&f, "null");
    end(&f);
}

TEST(lines_may_be_nested_as_deep_as_anything)
{
    static const char text[] = "[1]\n[[2]]\n";
    struct fixture f = begin();
    check_ok(evh_json_parse(f.json, evh_json_root(f.json), text, sizeof text - 1,
                            &(evh_json_read_options){.depth_max = UINT32_MAX, .lines = true},
                            NULL));
    check_document(&f, "[[1],[[2]]]");
    end(&f);
}

TEST(tokens_larger_than_the_window_are_read)
{
    const size_t size = 5u << 20;
    char *text = malloc(size + 64);
    struct fixture f = begin();
    memset(text, 'x', size);
    text[0] = '[';
    text[1] = '"';
    memcpy(text + size - 3, "\",7]", 5);
    /* Limits as large as their types are none. */
    const evh_json_read_options limits = {.string_bytes_max = 1ull << 63, .depth_max = UINT32_MAX};
    for (size_t step = 100000; step <= 10 << 20; step *= 10) {
        struct drip drip = {text, size + 1, step};
        check_ok(evh_json_read(f.json, evh_json_root(f.json), drip_source, &drip,
                               step < 1000000 ? NULL : &limits, NULL));
        size_t got = 0;
        CHECK(memcmp(evh_json_text(f.json, get(&f, "/0"), &got), text + 2, size - 5) == 0);
        CHECK_EQUAL(got, size - 5);
        CHECK_EQUAL(evh_json_integer(f.json, get(&f, "/1"), NULL), 7);
    }
    free(text);
    end(&f);
}

TEST(limits_are_kept)
{
    struct fixture f = begin();
    const evh_value root = evh_json_root(f.json);
    char text[2000];
    memset(text, '[', 512);
    memset(text + 512, ']', 512);
    check_ok(evh_json_parse(f.json, root, text, 1024, NULL, NULL));
    memset(text, '[', 513);
    memset(text + 513, ']', 513);
    evh_json_fault fault;
    CHECK(evh_json_parse(f.json, root, text, 1026, NULL, &fault) == EVH_LIMIT);
    CHECK_EQUAL(fault.column, 513);
    evh_json_read_options options = {
        .depth_max = 1000, .string_bytes_max = 3, .number_bytes_max = 4};
    check_ok(evh_json_parse(f.json, root, text, 1026, &options, NULL));
    check_ok(evh_json_parse(f.json, root, "[\"abc\",1234]", 12, &options, NULL));
    CHECK(evh_json_parse(f.json, root, "[\"abcd\"]", 8, &options, NULL) == EVH_LIMIT);
    CHECK(evh_json_parse(f.json, root, "[12345]", 7, &options, NULL) == EVH_LIMIT);
    end(&f);
}

TEST(a_depth_bomb_is_refused_without_deep_recursion)
{
    struct fixture f = begin();
    const size_t size = 1u << 20;
    char *text = malloc(size);
    memset(text, '[', size);
    CHECK(evh_json_parse(f.json, evh_json_root(f.json), text, size, NULL, NULL) == EVH_LIMIT);
    for (size_t i = 0; i < size; i++) text[i] = "[{\"a\":"[i % 6];
    const evh_json_read_options deep = {.depth_max = UINT32_MAX};
    CHECK(evh_json_parse(f.json, evh_json_root(f.json), text, size, &deep, NULL) == EVH_SYNTAX);
    check_document(&f, "null");
    free(text);
    end(&f);
}

TEST(keys_that_are_there_already_are_treated_as_asked)
{
    static const char text[] = "{\"a\":1,\"b\":[2],\"a\":{\"c\":\"three\"},\"b\":4,\"d\":5}";
    struct fixture f = begin();
    const evh_value root = evh_json_root(f.json);
    evh_json_read_options options = {.duplicates = EVH_JSON_DUPLICATES_FIRST};
    check_ok(evh_json_parse(f.json, root, text, sizeof text - 1, &options, NULL));
    check_document(&f, "{\"a\":1,\"b\":[2],\"d\":5}");
    options.duplicates = EVH_JSON_DUPLICATES_LAST;
    check_ok(evh_json_parse(f.json, root, text, sizeof text - 1, &options, NULL));
    check_document(&f, "{\"a\":{\"c\":\"three\"},\"b\":4,\"d\":5}");
    CHECK(evh_json_parse(f.json, root, text, sizeof text - 1, NULL, NULL) == EVH_SYNTAX);
    check_document(&f, "{\"a\":{\"c\":\"three\"},\"b\":4,\"d\":5}");
    end(&f);
}

/* The last member with a key goes with a value that a later one replaces: the key is made anew. */
TEST(a_key_that_went_with_a_replaced_value_may_come_again)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    static const char text[] =
        "[{\"a\":{\"only here\":1},\"a\":2},{\"another\":3},{\"only here\":4}]";
    const evh_json_read_options options = {.duplicates = EVH_JSON_DUPLICATES_LAST};
    check_ok(evh_json_parse(json, evh_json_root(json), text, sizeof text - 1, &options, NULL));
    check_ok(evh_json_check(json));
    CHECK_EQUAL(evh_json_integer(json, evh_json_get(json, "/2/only here"), NULL), 4);
    evh_json_close(json);
    evh_close(heap);
}

TEST(lines_of_values_become_an_array)
{
    struct fixture f = begin();
    const evh_json_read_options lines = {.lines = true};
    static const char *const cases[][2] = {{"", "[]"},
                                           {" \n", "[]"},
                                           {"1\n[2]\n{\"a\":3}\n", "[1,[2],{\"a\":3}]"},
                                           {"1", "[1]"},
                                           {"\"a\"\r\n\"b\"", "[\"a\",\"b\"]"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_ok(evh_json_parse(f.json, evh_json_root(f.json), cases[i][0], strlen(cases[i][0]),
                                &lines, NULL));
        check_document(&f, cases[i][1]);
    }
    CHECK(evh_json_parse(f.json, evh_json_root(f.json), "1\n]", 3, &lines, NULL) == EVH_SYNTAX);
    CHECK(evh_json_parse(f.json, evh_json_root(f.json), "1\n[2", 4, &lines, NULL) == EVH_SYNTAX);
    end(&f);
}

TEST(options_of_reading_do_what_they_say)
{
    struct fixture f = begin();
    const evh_value root = evh_json_root(f.json);
    check_ok(evh_json_parse(f.json, root, "[1.50,1e5,-0.0]", 15,
                            &(evh_json_read_options){.keep_digits = true}, NULL));
    check_document(&f, "[1.50,1e5,-0.0]");
    CHECK(evh_json_real(f.json, get(&f, "/0"), NULL) == 1.5);
    check_ok(evh_json_parse(f.json, root, "{\"$ref\":\"/a\"}", 13,
                            &(evh_json_read_options){.plain = true}, NULL));
    CHECK(evh_json_type_of(f.json, evh_json_root(f.json)) == EVH_JSON_OBJECT);
    check_ok(evh_json_parse(f.json, evh_json_root(f.json), "{\"$ref\":\"#/a%20b\"}", 18,
                            &(evh_json_read_options){.fragments = true}, NULL));
    check_document(&f, "{\"$ref\":\"/a b\"}");
    const evh_json_read_options strict = {.strict = true};
    CHECK(evh_json_parse(f.json, evh_json_root(f.json), "{\"$ref\":5}", 10, &strict, NULL) ==
          EVH_SYNTAX);
    CHECK(evh_json_parse(f.json, evh_json_root(f.json), "{\"$base64\":\"A\"}", 15, &strict, NULL) ==
          EVH_SYNTAX);
    check_ok(evh_json_parse(f.json, evh_json_root(f.json), "\xef\xbb\xbf[]", 5,
                            &(evh_json_read_options){.byte_order_mark = true}, NULL));
    end(&f);
}

/* ---- writing ---- */

TEST(text_is_indented_sorted_and_ascii_as_asked)
{
    struct fixture f = begin();
    load(&f, "{\"b\":[1,[],{}],\"a\":\"\xc3\xa4\xf0\x9f\x98\x80\\n\",\"ab\":{\"$base64\":\"AA==\"},"
             "\"\":0}");
    evh_json_write_options options = {.indent = 2};
    char *text = evh_json_print(f.json, evh_json_root(f.json), &options, NULL);
    CHECK(strcmp(text, "{\n  \"b\": [\n    1,\n    [],\n    {}\n  ],\n  \"a\": "
                       "\"\xc3\xa4\xf0\x9f\x98\x80\\n\","
                       "\n  \"ab\": {\"$base64\": \"AA==\"},\n  \"\": 0\n}") == 0);
    free(text);
    options = (evh_json_write_options){.sort_keys = true, .ascii = true};
    text = evh_json_print(f.json, evh_json_root(f.json), &options, NULL);
    CHECK(strcmp(text, "{\"\":0,\"a\":\"\\u00e4\\ud83d\\ude00\\n\",\"ab\":{\"$base64\":\"AA==\"},"
                       "\"b\":[1,[],{}]}") == 0);
    free(text);
    end(&f);
}

/* ---- looking ---- */

TEST(pointers_of_rfc_6901_find_what_they_name)
{
    struct fixture f = begin();
    load(&f, "{\"foo\":[\"bar\",\"baz\"],\"\":0,\"a/b\":1,\"c%d\":2,\"e^f\":3,\"g|h\":4,"
             "\"i\\\\j\":5,\"k\\\"l\":6,\" \":7,\"m~n\":8}");
    static const char *const cases[][2] = {{"/foo", "[\"bar\",\"baz\"]"},
                                           {"/foo/0", "\"bar\""},
                                           {"/", "0"},
                                           {"/a~1b", "1"},
                                           {"/c%d", "2"},
                                           {"/e^f", "3"},
                                           {"/g|h", "4"},
                                           {"/i\\j", "5"},
                                           {"/k\"l", "6"},
                                           {"/ ", "7"},
                                           {"/m~0n", "8"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_text(f.json, get(&f, cases[i][0]), cases[i][1]);
        evh_json_path *path = evh_json_compile(f.json, cases[i][0], strlen(cases[i][0]));
        check_text(f.json, evh_json_walk(f.json, evh_json_root(f.json), path), cases[i][1]);
        evh_json_path_end(path);
        char back[32];
        CHECK_EQUAL(evh_json_pointer(f.json, get(&f, cases[i][0]), back, sizeof back),
                    strlen(cases[i][0]));
        CHECK(strcmp(back, cases[i][0]) == 0);
    }
    CHECK(evh_json_is(evh_json_get(f.json, "")));
    static const char *const absent[] = {"/x",     "/foo/2",   "/foo/00",
                                         "/foo/-", "/foo/bar", "/a~1b/x"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        CHECK(!evh_json_is(evh_json_get(f.json, absent[i])));
        CHECK(evh_last_error()->status == EVH_NOT_FOUND);
    }
    static const char *const fragments[][2] = {
        /* RFC 6901, section 6 */
        {"#/foo/0", "\"bar\""}, {"#/", "0"},      {"#/a~1b", "1"},  {"#/c%25d", "2"},
        {"#/e%5Ef", "3"},       {"#/g%7Ch", "4"}, {"#/i%5Cj", "5"}, {"#/k%22l", "6"},
        {"#/%20", "7"},         {"#/m~0n", "8"}};
    for (size_t i = 0; i < sizeof fragments / sizeof fragments[0]; i++)
        check_text(f.json, get(&f, fragments[i][0]), fragments[i][1]);
    CHECK(evh_json_type_of(f.json, get(&f, "#")) == EVH_JSON_OBJECT);
    CHECK(!evh_json_is(evh_json_get(f.json, "#/%2")));
    CHECK(!evh_json_is(evh_json_get(f.json, "foo")));
    CHECK(evh_last_error()->status == EVH_SYNTAX);
    end(&f);
}

TEST(a_prepared_path_finds_keys_that_come_and_go)
{
    struct fixture f = begin();
    load(&f, "{\"a\":{\"b\":1}}");
    check_ok(evh_commit(f.heap));
    evh_json_path *path = evh_json_compile(f.json, "/a/c", 4);
    CHECK(!evh_json_is(evh_json_walk(f.json, evh_json_root(f.json), path)));
    check_ok(evh_json_set_integer(f.json, put(&f, get(&f, "/a"), "c"), 7));
    CHECK_EQUAL(evh_json_integer(f.json, evh_json_walk(f.json, evh_json_root(f.json), path), NULL),
                7);
    check_ok(evh_json_erase(f.json, get(&f, "/a/c")));
    check_ok(evh_json_set_integer(f.json, put(&f, get(&f, "/a"), "d"), 8)); /* may get c's number */
    CHECK(!evh_json_is(evh_json_walk(f.json, evh_json_root(f.json), path)));
    check_ok(evh_rollback(f.heap));
    CHECK(!evh_json_is(evh_json_walk(f.json, evh_json_root(f.json), path)));
    evh_json_path_end(path);
    end(&f);
}

TEST(numbers_are_converted_and_say_whether_exactly)
{
    struct fixture f = begin();
    load(&f, "[1,-1,18446744073709551615,2.5,1e300,9007199254740993,123456789012345678901,\"1\"]");
    bool exact = false;
    CHECK(evh_json_integer(f.json, get(&f, "/0"), &exact) == 1 && exact);
    CHECK(evh_json_unsigned(f.json, get(&f, "/1"), &exact) == 0 && !exact);
    CHECK(evh_json_integer(f.json, get(&f, "/2"), &exact) == INT64_MAX && !exact);
    CHECK(evh_json_unsigned(f.json, get(&f, "/2"), &exact) == UINT64_MAX && exact);
    CHECK(evh_json_integer(f.json, get(&f, "/3"), &exact) == 2 && !exact);
    CHECK(evh_json_integer(f.json, get(&f, "/4"), &exact) == INT64_MAX && !exact);
    CHECK(evh_json_real(f.json, get(&f, "/5"), &exact) == 9007199254740992.0 && !exact);
    CHECK(evh_json_real(f.json, get(&f, "/6"), &exact) == 123456789012345678901.0 && !exact);
    CHECK(evh_json_real(f.json, get(&f, "/7"), &exact) == 0 && !exact);
    end(&f);
}

/* ---- changing ---- */

TEST(values_are_set_to_every_type)
{
    struct fixture f = begin();
    check_ok(evh_json_set_object(f.json, evh_json_root(f.json)));
    const evh_value root = evh_json_root(f.json);
    check_ok(evh_json_set_boolean(f.json, put(&f, root, "boolean"), true));
    check_ok(evh_json_set_integer(f.json, put(&f, root, "integer"), -5));
    check_ok(evh_json_set_unsigned(f.json, put(&f, root, "unsigned"), UINT64_MAX));
    check_ok(evh_json_set_real(f.json, put(&f, root, "real"), 0.1));
    check_ok(evh_json_set_number(f.json, put(&f, root, "digits"), "1e999", 5));
    check_ok(evh_json_set_text(f.json, put(&f, root, "text"), "x\0y", 3));
    check_ok(evh_json_set_bytes(f.json, put(&f, root, "bytes"), "\1\2", 2));
    check_ok(evh_json_set_ref(f.json, put(&f, root, "ref"), "/text", 5));
    check_ok(evh_json_set_array(f.json, put(&f, root, "array")));
    evh_value item;
    check_ok(evh_json_append(f.json, get(&f, "/array"), &item));
    check_ok(evh_json_insert(f.json, get(&f, "/array"), 0, &item));
    check_ok(evh_json_set_text(f.json, item, "first", 5));
    check_document(
        &f, "{\"boolean\":true,\"integer\":-5,\"unsigned\":18446744073709551615,\"real\":0.1,"
            "\"digits\":1e999,\"text\":\"x\\u0000y\",\"bytes\":{\"$base64\":\"AQI=\"},"
            "\"ref\":{\"$ref\":\"/text\"},\"array\":[\"first\",null]}");
    CHECK(evh_json_set_real(f.json, item, 1.0 / 0.0) == EVH_INVALID);
    CHECK(evh_json_set_text(f.json, item, "\xff", 1) == EVH_SYNTAX);
    CHECK(evh_json_set_number(f.json, item, "0x1", 3) == EVH_SYNTAX);
    CHECK(evh_json_append(f.json, root, &item) == EVH_INVALID);
    CHECK(evh_json_put(f.json, get(&f, "/array"), "a", 1, &item) == EVH_INVALID);
    end(&f);
}

TEST(a_string_is_changed_in_place_and_grows)
{
    struct fixture f = begin();
    load(&f, "[\"some text\",\"neighbour\"]");
    const char *before = evh_json_text(f.json, get(&f, "/0"), NULL);
    check_ok(evh_json_set_text(f.json, get(&f, "/0"), "other", 5));
    CHECK(evh_json_text(f.json, get(&f, "/0"), NULL) == before);
    check_document(&f, "[\"other\",\"neighbour\"]");
    for (int i = 0; i < 1000; i++)
        check_ok(evh_json_append_text(f.json, get(&f, "/0"), "0123456789", 10));
    size_t size = 0;
    const char *text = evh_json_text(f.json, get(&f, "/0"), &size);
    CHECK_EQUAL(size, 10005);
    CHECK(memcmp(text + 9995, "0123456789", 11) == 0);
    CHECK_EQUAL(f.json->root->string_bytes, 10005 + 9);
    end(&f);
}

TEST(containers_keep_their_names_while_others_change)
{
    struct fixture f = begin();
    load(&f, "{\"list\":[[1],[2],[3]]}");
    const evh_value last = get(&f, "/list/2");
    const evh_value list = get(&f, "/list");
    for (int i = 0; i < 3000; i++) {
        evh_value item;
        check_ok(evh_json_insert(f.json, list, 0, &item));
        check_ok(evh_json_set_array(f.json, item));
    }
    char pointer[32];
    evh_json_pointer(f.json, last, pointer, sizeof pointer);
    CHECK(strcmp(pointer, "/list/3002") == 0);
    check_text(f.json, last, "[3]");
    check_ok(evh_json_erase(f.json, last));
    CHECK(evh_json_type_of(f.json, last) == EVH_JSON_NONE);
    CHECK_EQUAL(evh_json_count(f.json, list), 3002);
    end(&f);
}

TEST(what_is_missing_on_a_path_is_made_or_nothing_is)
{
    struct fixture f = begin();
    static const char *const paths[] = {"/a/b/0/c", "/a/b/-", "/a/b/2", "/a/d", "/a/b/0/c"};
    for (int i = 0; i < 5; i++) {
        const evh_value value =
            evh_json_make(f.json, evh_json_root(f.json), paths[i], strlen(paths[i]));
        check_ok(evh_json_set_integer(f.json, value, i));
    }
    check_document(&f, "{\"a\":{\"b\":[{\"c\":4},1,2],\"d\":3}}");
    static const char *const wrong[] = {"/a/b/9",   "/a/b/x",   "/a/d/e",
                                        "/a/new/1", "/a/b/-/1", "/~2"};
    for (int i = 0; i < 6; i++) {
        CHECK(
            !evh_json_is(evh_json_make(f.json, evh_json_root(f.json), wrong[i], strlen(wrong[i]))));
        check_document(&f, "{\"a\":{\"b\":[{\"c\":4},1,2],\"d\":3}}");
    }
    check_ok(evh_json_check(f.json));
    end(&f);
}

TEST(members_are_renamed_erased_and_keep_their_order)
{
    struct fixture f = begin();
    load(&f, "{\"a\":1,\"b\":2,\"c\":3}");
    const evh_value root = evh_json_root(f.json);
    check_ok(evh_json_rename(f.json, get(&f, "/b"), "B", 1));
    check_document(&f, "{\"a\":1,\"B\":2,\"c\":3}");
    CHECK(evh_json_rename(f.json, get(&f, "/B"), "c", 1) == EVH_EXISTS);
    check_ok(evh_json_erase(f.json, get(&f, "/a")));
    check_ok(evh_json_set_integer(f.json, put(&f, root, "a"), 9));
    check_document(&f, "{\"B\":2,\"c\":3,\"a\":9}");
    check_ok(evh_json_erase(f.json, root));
    check_document(&f, "null");
    end(&f);
}

TEST(values_are_copied_moved_and_compared)
{
    struct fixture f = begin();
    load(&f, "{\"a\":{\"x\":[1,\"t\",{\"$ref\":\"/b\"},1e999,{\"$base64\":\"AA==\"}]},\"b\":0}");
    const evh_value root = evh_json_root(f.json);
    check_ok(evh_json_copy(f.json, get(&f, "/b"), get(&f, "/a")));
    CHECK(evh_json_equal(f.json, get(&f, "/a"), get(&f, "/b")));
    check_ok(evh_json_copy(f.json, get(&f, "/b/x/0"), root)); /* into itself */
    CHECK(!evh_json_equal(f.json, get(&f, "/a"), get(&f, "/b")));
    check_ok(evh_json_move(f.json, get(&f, "/a"), get(&f, "/b/x/0/b")));
    check_document(
        &f, "{\"a\":{\"x\":[1,\"t\",{\"$ref\":\"/b\"},1e999,{\"$base64\":\"AA==\"}]},\"b\":{\"x\":["
            "{\"a\":{\"x\":[1,\"t\",{\"$ref\":\"/b\"},1e999,{\"$base64\":\"AA==\"}]},\"b\":null},"
            "\"t\",{\"$ref\":\"/b\"},1e999,{\"$base64\":\"AA==\"}]}}");
    CHECK(evh_json_move(f.json, get(&f, "/b/x"), get(&f, "/b")) == EVH_INVALID);
    check_ok(evh_json_move(f.json, root, get(&f, "/b/x/1")));
    check_document(&f, "\"t\"");
    load(&f, "[1,1.0,1e0,2,{\"a\":1,\"b\":2},{\"b\":2,\"a\":1.0},18446744073709551615,-1]");
    CHECK(evh_json_equal(f.json, get(&f, "/0"), get(&f, "/1")));
    CHECK(evh_json_equal(f.json, get(&f, "/4"), get(&f, "/5")));
    CHECK(!evh_json_equal(f.json, get(&f, "/0"), get(&f, "/3")));
    CHECK(!evh_json_equal(f.json, get(&f, "/6"), get(&f, "/7")));
    end(&f);
}

TEST(a_detached_value_is_built_and_moved_in)
{
    struct fixture f = begin();
    load(&f, "{\"a\":1}");
    const evh_value value = evh_json_detached(f.json);
    check_ok(evh_json_parse(f.json, value, "[\"new\"]", 7, NULL, NULL));
    check_document(&f, "{\"a\":1}");
    check_ok(evh_json_move(f.json, get(&f, "/a"), value));
    check_document(&f, "{\"a\":[\"new\"]}");
    CHECK(evh_json_type_of(f.json, value) == EVH_JSON_NULL);
    check_ok(evh_json_erase(f.json, value));
    CHECK(evh_json_type_of(f.json, value) == EVH_JSON_NONE);
    end(&f);
}

/* ---- refs ---- */

TEST(refs_are_followed_to_containers_and_to_other_values)
{
    struct fixture f = begin();
    load(&f, "{\"a\":{\"b\":[10,20]},\"r\":{\"$ref\":\"/a\"},\"s\":{\"$ref\":\"/a/b/1\"},"
             "\"t\":{\"$ref\":\"/r/b\"},\"u\":{\"$ref\":\"/s\"}}");
    CHECK(evh_json_type_of(f.json, get(&f, "/r")) == EVH_JSON_REF);
    check_text(f.json, evh_json_follow(f.json, get(&f, "/r")), "{\"b\":[10,20]}");
    check_text(f.json, evh_json_follow(f.json, get(&f, "/s")), "20");
    check_text(f.json, evh_json_follow(f.json, get(&f, "/t")), "[10,20]");
    check_text(f.json, evh_json_follow(f.json, get(&f, "/u")), "20");
    check_text(f.json, get(&f, "/r/b/0"), "10");
    check_ok(evh_json_set_integer(f.json, get(&f, "/a/b/1"), 21));
    check_text(f.json, evh_json_follow(f.json, get(&f, "/u")), "21");
    size_t loose = 9;
    check_ok(evh_json_resolve(f.json, &loose));
    CHECK_EQUAL(loose, 0);
    check_ok(evh_json_check(f.json)); /* a ref to a member holds its key */
    end(&f);
}

TEST(refs_that_lead_nowhere_or_in_rings_are_errors)
{
    struct fixture f = begin();
    load(&f, "{\"a\":{\"$ref\":\"/b\"},\"b\":{\"$ref\":\"/a\"},\"self\":{\"$ref\":\"/self\"},"
             "\"below\":{\"$ref\":\"/below/x\"},\"gone\":{\"$ref\":\"/"
             "nowhere\"},\"up\":{\"$ref\":\"/\"},"
             "\"p\":{\"$ref\":\"/q/x\"},\"q\":{\"$ref\":\"/p/x\"}}");
    static const struct {
        const char *pointer;
        evh_status status;
    } cases[] = {{"/a", EVH_CYCLE},       {"/self", EVH_CYCLE},  {"/below", EVH_CYCLE},
                 {"/gone", EVH_DANGLING}, {"/up", EVH_DANGLING}, {"/p", EVH_CYCLE}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK(!evh_json_is(evh_json_follow(f.json, get(&f, cases[i].pointer))));
        CHECK_EQUAL(evh_last_error()->status, cases[i].status);
    }
    check_ok(evh_json_set_integer(f.json, put(&f, evh_json_root(f.json), "nowhere"), 5));
    check_text(f.json, evh_json_follow(f.json, get(&f, "/gone")), "5");
    end(&f);
}

TEST(a_ring_of_a_thousand_refs_is_a_cycle)
{
    struct fixture f = begin();
    check_ok(evh_json_set_array(f.json, evh_json_root(f.json)));
    for (int i = 0; i < 1000; i++) {
        evh_value item;
        char path[16];
        snprintf(path, sizeof path, "/%d", (i + 1) % 1000);
        check_ok(evh_json_append(f.json, evh_json_root(f.json), &item));
        check_ok(evh_json_set_ref(f.json, item, path, strlen(path)));
    }
    CHECK(!evh_json_is(evh_json_follow(f.json, get(&f, "/0"))));
    CHECK_EQUAL(evh_last_error()->status, EVH_CYCLE);
    size_t loose = 0;
    check_ok(evh_json_resolve(f.json, &loose));
    CHECK_EQUAL(loose, 1000);
    end(&f);
}

TEST(a_ref_knows_when_its_target_goes_and_comes_back)
{
    struct fixture f = begin();
    load(&f, "{\"a\":{\"b\":{\"c\":1}},\"r\":{\"$ref\":\"/a/b\"},\"s\":{\"$ref\":\"/a/b/c\"}}");
    check_ok(evh_json_resolve(f.json, NULL));
    check_ok(evh_json_erase(f.json, get(&f, "/a/b")));
    CHECK(!evh_json_is(evh_json_follow(f.json, get(&f, "/r"))));
    CHECK_EQUAL(evh_last_error()->status, EVH_DANGLING);
    CHECK(!evh_json_is(evh_json_follow(f.json, get(&f, "/s"))));
    check_ok(
        evh_json_parse(f.json, put(&f, get(&f, "/a"), "b"), "{\"x\":[],\"c\":2}", 14, NULL, NULL));
    check_text(f.json, evh_json_follow(f.json, get(&f, "/s")), "2");
    check_text(f.json, evh_json_follow(f.json, get(&f, "/r")), "{\"x\":[],\"c\":2}");
    check_ok(evh_json_erase(f.json, get(&f, "/r")));
    check_text(f.json, get(&f, "/a/b"), "{\"x\":[],\"c\":2}");
    check_ok(evh_json_rename(f.json, get(&f, "/a/b/c"), "d", 1));
    CHECK(!evh_json_is(evh_json_follow(f.json, get(&f, "/s"))));
    check_ok(evh_json_check(f.json));
    end(&f);
}

TEST(a_check_may_meet_a_target_before_its_references)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    CHECK(json != NULL);
    static const char text[] =
        "{\"q\":[{\"$ref\":\"/t\"}],\"t\":{\"x\":1},\"r\":[{\"$ref\":\"/t\"}],"
        "\"s\":{\"y\":[{\"$ref\":\"/t\"}]}}";
    CHECK(evh_json_parse(json, evh_json_root(json), text, sizeof text - 1, NULL, NULL) == EVH_OK);
    CHECK(evh_json_resolve(json, NULL) == EVH_OK);
    CHECK(evh_json_check(json) == EVH_OK);
    evh_json_close(json);
    CHECK(evh_close(heap) == EVH_OK);
}
