/* json_fault_test.c -- no memory, a full heap, a source or sink that fails: nothing has changed. */
#include "json/json.h"
#include "os_fail.h"
#include "test.h"

#include <everheap/json_query.h>

#include <stdlib.h>

static char *print(evh_json *json)
{
    char *text = evh_json_print(json, evh_json_root(json), NULL, NULL);
    CHECK(text != NULL);
    return text;
}

static void check_sound(evh_json *json, const char *what)
{
    if (!evh_json_check(json)) return;
    test_fail(__FILE__, __LINE__, "%s: %s", what, evh_last_error()->message);
    test_stop();
}

static void check_unchanged(evh_json *json, const char *before, const char *what)
{
    char *after = print(json);
    if (strcmp(before, after) != 0) {
        test_fail(__FILE__, __LINE__, "%s left a trace", what);
        test_stop();
    }
    free(after);
    check_sound(json, what);
}

/* ---- the changes that are tried ---- */

static evh_status do_parse(evh_json *json)
{
    static const char text[] =
        "{\"new\":[1,\"text\\u00e4\",{\"$ref\":\"/a\"},{\"$base64\":\"AAEC\"},1e999,"
        "[[[[]]]]],\"other\":{\"a\":{\"b\":{\"c\":null}}}}";
    return evh_json_parse(json, evh_json_root(json), text, sizeof text - 1, NULL, NULL);
}

static evh_status do_patch(evh_json *json)
{
    static const char patch[] =
        "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b/c\"},{\"op\":\"copy\",\"from\":"
        "\"/b\",\"path\":\"/d\"},{\"op\":\"remove\",\"path\":\"/list/0\"},{\"op\":\"add\","
        "\"path\":\"/list/-\",\"value\":{\"x\":[1,2,3]}}]";
    return evh_json_patch_text(json, evh_json_root(json), patch, sizeof patch - 1);
}

static evh_status do_merge(evh_json *json)
{
    static const char patch[] =
        "{\"a\":{\"x\":null,\"y\":{\"z\":1}},\"list\":null,\"deep\":{\"er\":{\"e\":[1]}}}";
    return evh_json_merge_text(json, evh_json_root(json), patch, sizeof patch - 1);
}

static evh_status do_copy(evh_json *json)
{
    return evh_json_copy(json, evh_json_get(json, "/b"), evh_json_root(json));
}

static evh_status do_put(evh_json *json)
{
    evh_value member;
    return evh_json_put(json, evh_json_root(json), "a key that was never seen", 25, &member);
}

static evh_status do_text(evh_json *json)
{
    static char text[6000];
    memset(text, 'z', sizeof text);
    return evh_json_set_text(json, evh_json_get(json, "/b"), text, sizeof text);
}

static evh_status do_ref(evh_json *json)
{
    return evh_json_set_ref(json, evh_json_get(json, "/b"), "/list/0", 7);
}

static const struct {
    const char *name;
    evh_status (*run)(evh_json *json);
} changes[] = {{"parse", do_parse}, {"patch", do_patch}, {"merge", do_merge}, {"copy", do_copy},
               {"put", do_put},     {"text", do_text},   {"ref", do_ref}};

static void load(evh_json *json)
{
    static const char text[] = "{\"a\":{\"x\":1},\"b\":{\"y\":[1,2]},\"list\":[\"one\",\"two\"]}";
    CHECK(evh_json_parse(json, evh_json_root(json), text, sizeof text - 1, NULL, NULL) == EVH_OK);
}

TEST(a_change_that_gets_no_memory_changes_nothing)
{
    os_fail_use();
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap != NULL);
    evh_json *json = evh_json_open(heap, NULL);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        for (uint64_t n = 1;; n++) {
            os_fail_at(0, 0, 0, false);
            load(json);
            char *before = print(json);
            os_fail_at(OS_FAIL_MEMORY, n, ENOMEM, false);
            const evh_status status = changes[i].run(json);
            const bool struck = os_fail_struck();
            os_fail_at(0, 0, 0, false);
            if (status) {
                check_unchanged(json, before, changes[i].name);
            } else {
                check_sound(json, changes[i].name);
            }
            free(before);
            if (!struck) break;
            CHECK(n < 10000);
        }
    }
    evh_json_close(json);
    CHECK(evh_close(heap) == EVH_OK);
    os_fail_end();
}

/* Strategy: the heap is filled until nothing fits, then a little is freed again and again, so that
 * every change fails at every place that allocates, sooner or later. */
TEST(a_change_of_a_full_heap_changes_nothing)
{
    enum { ROUNDS_MAX = 50 };
    uint64_t state = test_seed();
    for (int i = 0; i < (int)(sizeof changes / sizeof changes[0]); i++) {
        size_t failed = 0;
        size_t succeeded = 0;
        /* Until both were seen, also where few rounds are asked for. */
        for (uint64_t round = 0;
             round < test_effort(12) || (failed * succeeded == 0 && round < ROUNDS_MAX); round++) {
            evh_heap *heap = evh_open_memory(NULL, 3 << 20, NULL);
            CHECK(heap != NULL);
            evh_json *json = evh_json_open(heap, NULL);
            CHECK(json != NULL);
            load(json);
            char *before = print(json);
            static void *blocks[250000];
            size_t count = 0;
            for (size_t size = 65536; size >= 16; size /= 2)
                while (count < 250000 && (blocks[count] = evh_malloc(heap, size))) count++;
            for (size_t left = count; left > 0; left--) {
                const evh_status status = changes[i].run(json);
                if (!status) {
                    succeeded++;
                    check_sound(json, changes[i].name);
                    break;
                }
                CHECK(status == EVH_FULL || status == EVH_LIMIT || status == EVH_NO_MEMORY);
                failed++;
                check_unchanged(json, before, changes[i].name);
                const size_t at = test_random(&state) % left;
                evh_free(heap, blocks[at]);
                blocks[at] = blocks[left - 1];
            }
            free(before);
            evh_json_close(json);
            CHECK(evh_close(heap) == EVH_OK);
        }
        CHECK(failed > 0 && succeeded > 0);
    }
}

/* ---- sources and sinks ---- */

static int bad_source(void *context, char *buffer, size_t size, size_t *done)
{
    CHECK(size > 8);
    memcpy(buffer, "[1,2,[3,", 8);
    *done = 8;
    return (*(int *)context)-- > 0 ? 0 : EIO;
}

static int bad_sink(void *context, const char *text, size_t size)
{
    (void)text;
    (void)size;
    return (*(int *)context)-- > 0 ? 0 : ENOSPC;
}

TEST(a_source_or_sink_that_fails_is_told)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    load(json);
    char *before = print(json);
    for (int pieces = 0; pieces < 5; pieces++) {
        int left = pieces;
        CHECK(evh_json_read(json, evh_json_root(json), bad_source, &left, NULL, NULL) == EVH_IO);
        check_unchanged(json, before, "a source");
    }
    int left = 0;
    CHECK(evh_json_write(json, evh_json_root(json), bad_sink, &left, NULL) == EVH_FULL);
    free(before);
    evh_json_close(json);
    CHECK(evh_close(heap) == EVH_OK);
}
