/* json_patch_test.c -- JSON Patch and Merge Patch: the published cases, and all or nothing. */
#include "data.h"
#include "json/json.h"
#include "test.h"

#include <everheap/json_query.h>

#include <stdlib.h>

struct fixture {
    evh_heap *heap;
    evh_json *json;
};

static struct fixture begin(void)
{
    struct fixture f = {evh_open_memory(NULL, 0, NULL), NULL};
    CHECK(f.heap != NULL);
    f.json = evh_json_open(f.heap, NULL);
    CHECK(f.json != NULL);
    return f;
}

static void end(struct fixture *f)
{
    CHECK(evh_json_check(f->json) == EVH_OK);
    evh_json_close(f->json);
    CHECK(evh_close(f->heap) == EVH_OK);
}

static evh_value load(struct fixture *f, evh_value value, const char *text)
{
    const evh_status status = evh_json_parse(f->json, value, text, strlen(text), NULL, NULL);
    if (status) {
        test_fail(__FILE__, __LINE__, "%s: %s", text, evh_last_error()->message);
        test_stop();
    }
    return evh_json_root(f->json);
}

static void check_document(struct fixture *f, const char *expected)
{
    const evh_value other = evh_json_detached(f->json);
    CHECK(evh_json_parse(f->json, other, expected, strlen(expected), NULL, NULL) == EVH_OK);
    if (!evh_json_equal(f->json, other, evh_json_root(f->json))) {
        char *text = evh_json_print(f->json, evh_json_root(f->json), NULL, NULL);
        test_fail(__FILE__, __LINE__, "%s, expected %s", text, expected);
        free(text);
    }
    CHECK(evh_json_erase(f->json, other) == EVH_OK);
    if (evh_json_check(f->json)) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
}

/* ---- patch ---- */

static void run_cases(const char *name, size_t *ran)
{
    struct fixture f = begin();
    size_t size = 0;
    char *text = data_read(data_path(name), &size);
    const evh_json_read_options lenient = {.plain = true, .duplicates = EVH_JSON_DUPLICATES_LAST};
    const evh_value cases = evh_json_detached(f.json);
    CHECK(evh_json_parse(f.json, cases, text, size, &lenient, NULL) == EVH_OK);
    free(text);
    for (size_t i = 0; i < evh_json_count(f.json, cases); i++) {
        const evh_value item = evh_json_at(f.json, cases, i);
        if (evh_json_boolean(f.json, evh_json_member(f.json, item, "disabled", 8), NULL)) continue;
        const evh_value patch = evh_json_member(f.json, item, "patch", 5);
        const evh_value expected = evh_json_member(f.json, item, "expected", 8);
        const evh_value error = evh_json_member(f.json, item, "error", 5);
        if (!evh_json_is(patch)) continue;
        const evh_value doc = evh_json_member(f.json, item, "doc", 3);
        CHECK(evh_json_copy(f.json, evh_json_root(f.json), doc) == EVH_OK);
        const evh_status status = evh_json_patch(f.json, evh_json_root(f.json), patch);
        const evh_value root = evh_json_root(f.json);
        bool is_right = evh_json_is(error) ? status != EVH_OK && evh_json_equal(f.json, root, doc)
                                           : status == EVH_OK;
        if (evh_json_is(expected)) is_right = is_right && evh_json_equal(f.json, root, expected);
        if (!is_right) {
            char *shown = evh_json_print(f.json, item, NULL, NULL);
            test_fail(__FILE__, __LINE__, "%s: %s, %s", shown, evh_status_name(status),
                      evh_last_error()->message);
            free(shown);
        }
        if (evh_json_check(f.json)) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        ++*ran;
    }
    CHECK(evh_json_erase(f.json, cases) == EVH_OK);
    end(&f);
}

TEST(the_patch_test_suites_are_passed)
{
    size_t ran = 0;
    run_cases("json/json-patch/tests.json", &ran);
    run_cases("json/json-patch/spec_tests.json", &ran);
    CHECK_EQUAL(ran, 108);
}

#define TEN_PARTS "k~1k~1k~1k~1k~1k~1k~1k~1k~1k~1"
#define LONG_TOKEN TEN_PARTS TEN_PARTS TEN_PARTS TEN_PARTS TEN_PARTS

static const struct {
    const char *document, *patch, *expected; /* NULL: refused */
} patches[] = {
    /* RFC 6902, appendix A, and beyond. */
    {"{\"foo\":\"bar\"}", "[{\"op\":\"add\",\"path\":\"/baz\",\"value\":\"qux\"}]",
     "{\"baz\":\"qux\",\"foo\":\"bar\"}"},
    {"{\"foo\":[\"bar\",\"baz\"]}", "[{\"op\":\"add\",\"path\":\"/foo/1\",\"value\":\"qux\"}]",
     "{\"foo\":[\"bar\",\"qux\",\"baz\"]}"},
    {"{\"baz\":\"qux\",\"foo\":\"bar\"}", "[{\"op\":\"remove\",\"path\":\"/baz\"}]",
     "{\"foo\":\"bar\"}"},
    {"{\"foo\":{\"bar\":\"baz\",\"waldo\":\"fred\"},\"qux\":{\"corge\":\"grault\"}}",
     "[{\"op\":\"move\",\"from\":\"/foo/waldo\",\"path\":\"/qux/thud\"}]",
     "{\"foo\":{\"bar\":\"baz\"},\"qux\":{\"corge\":\"grault\",\"thud\":\"fred\"}}"},
    {"{\"foo\":[\"all\",\"grass\",\"cows\",\"eat\"]}",
     "[{\"op\":\"move\",\"from\":\"/foo/1\",\"path\":\"/foo/3\"}]",
     "{\"foo\":[\"all\",\"cows\",\"eat\",\"grass\"]}"},
    {"{\"a\":1}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a/b\"}]", NULL},
    /* A token whose decoded form is allocated: a failure must free it. */
    {"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"/" LONG_TOKEN "/b\"}]", NULL},
    {"{\"a\":1}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/" LONG_TOKEN "/b\"}]", NULL},
    {"{\"a\":{\"b\":{}}}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a/b/c\"}]", NULL},
    {"{\"a\":{\"b\":1}}", "[{\"op\":\"move\",\"from\":\"/a/b\",\"path\":\"\"}]", "1"},
    {"{\"a\":{\"b\":1}}", "[{\"op\":\"copy\",\"from\":\"\",\"path\":\"/a/c\"}]",
     "{\"a\":{\"b\":1,\"c\":{\"a\":{\"b\":1}}}}"},
    {"[1,2]", "[{\"op\":\"add\",\"path\":\"/-\",\"value\":{\"$ref\":\"/0\"}}]",
     "[1,2,{\"$ref\":\"/0\"}]"},
    {"[1]", "[{\"op\":\"add\",\"path\":\"/2\",\"value\":0}]", NULL},
    {"[1]", "[{\"op\":\"remove\",\"path\":\"/-\"}]", NULL},
    {"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"\"}]", "null"},
    {"{\"a\":1}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":1.0}]", "{\"a\":1}"},
    /* What was done before the failure is taken back, in order and in full. */
    {"{\"a\":1,\"b\":{\"c\":[1,2,3]},\"d\":\"text\"}",
     "[{\"op\":\"remove\",\"path\":\"/a\"},{\"op\":\"remove\",\"path\":\"/b/c/1\"},"
     "{\"op\":\"add\",\"path\":\"/e\",\"value\":[{}]},{\"op\":\"move\",\"from\":\"/b\",\"path\":\"/"
     "e/0/f\"},"
     "{\"op\":\"replace\",\"path\":\"/d\",\"value\":{\"x\":\"y\"}},{\"op\":\"move\",\"from\":\"/"
     "e\","
     "\"path\":\"\"},{\"op\":\"copy\",\"from\":\"/0\",\"path\":\"/"
     "1\"},{\"op\":\"test\",\"path\":\"/0\","
     "\"value\":0}]",
     NULL},
    {"{\"a\":{\"x\":1},\"b\":2}",
     "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b\"},{\"op\":\"move\",\"from\":\"/"
     "b\",\"path\":\"/c\"},"
     "{\"op\":\"add\",\"path\":\"/c/y\",\"value\":3},{\"op\":\"move\",\"from\":\"/c/"
     "x\",\"path\":\"/x\"},"
     "{\"op\":\"nonsense\",\"path\":\"\"}]",
     NULL},
    {"1", "{}", NULL},
    {"1", "[1]", NULL},
    {"1", "[{\"path\":\"\"}]", NULL},
    {"1", "[{\"op\":\"add\",\"path\":\"\"}]", NULL},
    {"1", "[{\"op\":5,\"path\":\"\"}]", NULL},
    {"1", "[{\"op\":\"add\",\"path\":\"a\",\"value\":1}]", NULL},
    {"1", "[{\"op\":\"add\",\"path\":\"/a\",\"value\":1}]", NULL},
};

TEST(patches_do_all_or_nothing)
{
    struct fixture f = begin();
    for (size_t i = 0; i < sizeof patches / sizeof patches[0]; i++) {
        const evh_value root = load(&f, evh_json_root(f.json), patches[i].document);
        char *before = evh_json_print(f.json, root, NULL, NULL);
        const evh_status status =
            evh_json_patch_text(f.json, root, patches[i].patch, strlen(patches[i].patch));
        if ((status == EVH_OK) != (patches[i].expected != NULL))
            test_fail(__FILE__, __LINE__, "%s: %s", patches[i].patch, evh_status_name(status));
        if (status) { /* also the order of the members */
            char *after = evh_json_print(f.json, evh_json_root(f.json), NULL, NULL);
            if (strcmp(before, after) != 0)
                test_fail(__FILE__, __LINE__, "%s became %s", before, after);
            free(after);
        }
        check_document(&f, status ? patches[i].document : patches[i].expected);
        free(before);
    }
    end(&f);
}

TEST(a_patch_may_be_a_part_of_what_it_changes)
{
    struct fixture f = begin();
    const evh_value root = load(&f, evh_json_root(f.json),
                                "{\"p\":[{\"op\":\"remove\",\"path\":\"/p\"},"
                                "{\"op\":\"add\",\"path\":\"/q\",\"value\":7}]}");
    CHECK(evh_json_patch(f.json, root, evh_json_get(f.json, "/p")) == EVH_OK);
    check_document(&f, "{\"q\":7}");
    end(&f);
}

TEST(a_moved_container_keeps_its_name_and_its_refs)
{
    struct fixture f = begin();
    const evh_value root =
        load(&f, evh_json_root(f.json), "{\"a\":[1],\"b\":{},\"r\":{\"$ref\":\"/a\"}}");
    const evh_value a = evh_json_get(f.json, "/a");
    CHECK(evh_json_resolve(f.json, NULL) == EVH_OK);
    static const char move[] = "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b/c\"}]";
    CHECK(evh_json_patch_text(f.json, root, move, sizeof move - 1) == EVH_OK);
    char pointer[16];
    evh_json_pointer(f.json, a, pointer, sizeof pointer);
    CHECK(strcmp(pointer, "/b/c") == 0);
    evh_json_pointer(f.json, evh_json_follow(f.json, evh_json_get(f.json, "/r")), pointer,
                     sizeof pointer);
    CHECK(strcmp(pointer, "/b/c") == 0);
    end(&f);
}

/* Strategy: random patches, most of which fail somewhere, on a document with large containers.
 * Invariant: after a failure the text of the document is what it was. */
TEST(random_patches_that_fail_leave_no_trace)
{
    struct fixture f = begin();
    uint64_t state = test_seed();
    static const char *const paths[] = {"/a",          "/a/0",      "/a/5",   "/a/-",
                                        "/b",          "/b/x",      "/b/y/0", "/b/y",
                                        "/big/7",      "/big/1500", "/big/-", "/many/k3",
                                        "/many/k1999", "/many/new", "/n",     "/a/2/q"};
    enum { PATHS = sizeof paths / sizeof paths[0] };
    static const char *const names[] = {"add", "remove", "replace", "move", "copy", "test"};
    static const char *const values[] = {"1", "\"text\"", "[1,{\"q\":2}]", "{\"x\":{\"y\":[]}}",
                                         "null"};
    char *text = malloc(1 << 17);
    size_t size = (size_t)snprintf(
        text, 1 << 17, "{\"a\":[1,2,{\"q\":[]},3],\"b\":{\"x\":1,\"y\":[0]},\"big\":[0");
    for (int i = 0; i < 1600; i++) size += (size_t)snprintf(text + size, 32, ",%d", i);
    size += (size_t)snprintf(text + size, 32, "],\"many\":{\"k\":0");
    for (int i = 0; i < 2000; i++)
        size += (size_t)snprintf(text + size, 32, ",\"k%d\":\"%d\"", i, i);
    snprintf(text + size, 32, "}}");
    load(&f, evh_json_root(f.json), text);
    size_t failed = 0;
    for (uint64_t round = 0; round < test_effort(400); round++) {
        if (round % 100 == 0) load(&f, evh_json_root(f.json), text);
        char patch[4000] = "[";
        size_t length = 1;
        for (uint64_t i = 0; i < 1 + test_random(&state) % 12; i++) {
            length += (size_t)snprintf(
                patch + length, sizeof patch - length,
                "%s{\"op\":\"%s\",\"path\":\"%s\",\"from\":\"%s\",\"value\":%s}", i ? "," : "",
                names[test_random(&state) % 6], paths[test_random(&state) % PATHS],
                paths[test_random(&state) % PATHS], values[test_random(&state) % 5]);
        }
        snprintf(patch + length, sizeof patch - length, "]");
        char *before = evh_json_print(f.json, evh_json_root(f.json), NULL, NULL);
        const evh_status status =
            evh_json_patch_text(f.json, evh_json_root(f.json), patch, strlen(patch));
        char *after = evh_json_print(f.json, evh_json_root(f.json), NULL, NULL);
        failed += status != EVH_OK;
        if (status && strcmp(before, after) != 0) {
            test_fail(__FILE__, __LINE__, "%s left a trace (%s)", patch, evh_last_error()->message);
            test_stop();
        }
        if (evh_json_check(f.json)) {
            test_fail(__FILE__, __LINE__, "%s: %s", patch, evh_last_error()->message);
            test_stop();
        }
        free(before);
        free(after);
    }
    CHECK(failed > 10);
    free(text);
    end(&f);
}

/* ---- merge patch ---- */

TEST(the_merge_patches_of_rfc_7396_do_what_it_says)
{
    static const char *const cases[][3] = {
        /* appendix A */
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
    };
    struct fixture f = begin();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const evh_value root = load(&f, evh_json_root(f.json), cases[i][0]);
        CHECK(evh_json_merge_text(f.json, root, cases[i][1], strlen(cases[i][1])) == EVH_OK);
        check_document(&f, cases[i][2]);
    }
    end(&f);
}
