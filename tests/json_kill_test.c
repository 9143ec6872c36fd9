/* json_kill_test.c -- a program that changes a document is killed; the document is that of a
 * commit.
 *
 * Strategy: a child makes random changes, each followed by a commit and a word to the parent, who
 * kills it at a random moment, opens the heap, and makes the same changes from the same seed in
 * memory. Invariants: no commit that was acknowledged is lost; the text is that of one commit; the
 * document is sound.
 */
#include "json/json.h"
#include "support/documents.h"
#include "test.h"

#include <everheap/json_query.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_value item_of(evh_json *json, const char *pointer, uint64_t random)
{
    const evh_value container = evh_json_get(json, pointer);
    const size_t count = evh_json_count(json, container);
    return count ? evh_json_at(json, container, random % count) : (evh_value){0, 0, 0};
}

/* Change number `n`: some of them fail, always the same ones. */
static void change(evh_json *json, uint64_t seed, uint64_t n)
{
    uint64_t state = seed + n * 1000003;
    const uint64_t random = test_random(&state);
    char text[6000];
    evh_value value;
    if (n == 1) {
        static const char first[] = "{\"n\":0,\"list\":[],\"map\":{},\"refs\":[]}";
        check_ok(evh_json_parse(json, evh_json_root(json), first, sizeof first - 1, NULL, NULL));
    }
    switch (random % 8) {
    case 0: /* many at once: through the representations */
        for (int i = 0; i < 300; i++) {
            check_ok(evh_json_append(json, evh_json_get(json, "/list"), &value));
            check_ok(evh_json_set_integer(json, value, (int64_t)(n + (uint64_t)i)));
        }
        break;
    case 1:
        for (int i = 0; i < 200; i++) {
            const int size = snprintf(text, sizeof text, "k%llu",
                                      (unsigned long long)test_random(&state) % 3000);
            check_ok(evh_json_put(json, evh_json_get(json, "/map"), text, (size_t)size, &value));
            memset(text, 'a' + (int)(n % 26), sizeof text);
            check_ok(evh_json_set_text(json, value, text, test_random(&state) % 100));
        }
        break;
    case 2:
    case 3:
        for (int i = 0; i < 150; i++) {
            (void)evh_json_erase(json, item_of(json, "/list", test_random(&state)));
            (void)evh_json_erase(json, item_of(json, "/map", test_random(&state)));
        }
        break;
    case 4:
        snprintf(text, sizeof text, "/list/%llu", (unsigned long long)(random >> 8) % 500);
        check_ok(evh_json_append(json, evh_json_get(json, "/refs"), &value));
        check_ok(evh_json_set_ref(json, value, text, strlen(text)));
        check_ok(evh_json_resolve(json, NULL));
        break;
    case 5:
        snprintf(text, sizeof text,
                 "[{\"op\":\"add\",\"path\":\"/list/"
                 "0\",\"value\":{\"x\":[1,2]}},{\"op\":\"move\",\"from\":"
                 "\"/map/k%llu\",\"path\":\"/list/1\"}]",
                 (unsigned long long)(random >> 8) % 3000);
        (void)evh_json_patch_text(json, evh_json_root(json), text, strlen(text));
        break;
    case 6:
        memset(text, 'q', sizeof text);
        if (evh_json_count(json, evh_json_get(json, "/list")))
            check_ok(
                evh_json_set_text(json, item_of(json, "/list", random >> 8), text, sizeof text));
        break;
    default:
        if (random % 64 == 7) check_ok(evh_json_set_array(json, evh_json_get(json, "/list")));
        if (random % 64 == 15) check_ok(evh_json_set_object(json, evh_json_get(json, "/map")));
        break;
    }
    check_ok(evh_json_set_integer(json, evh_json_get(json, "/n"), (int64_t)n));
}

static void run_child(const char *path, uint64_t seed, int pipe_end)
{
    evh_heap *heap = evh_open(path, NULL);
    evh_json *json = heap ? evh_json_open(heap, NULL) : NULL;
    if (!json) _exit(2);
    for (uint64_t n = 1;; n++) {
        change(json, seed, n);
        if (evh_commit(heap) || write(pipe_end, &n, sizeof n) != sizeof n) _exit(3);
    }
}

TEST(a_killed_program_leaves_the_document_of_a_commit)
{
    uint64_t state = test_seed();
    for (uint64_t round = 0; round < test_effort(12); round++) {
        const char *path = test_path("killed");
        const uint64_t seed = test_random(&state);
        const uint64_t acknowledged = run_and_kill(
            run_child, path, seed, test_random(&state) % 3000, 1 + test_random(&state) % 60);
        evh_heap *heap = evh_open(path, NULL);
        CHECK(heap != NULL);
        evh_json *json = evh_json_open(heap, NULL);
        CHECK(json != NULL);
        check_ok(evh_json_check(json));
        const int64_t n = evh_json_integer(json, evh_json_get(json, "/n"), NULL);
        CHECK((uint64_t)n == acknowledged || (uint64_t)n == acknowledged + 1);
        evh_heap *other = evh_open_memory(NULL, 0, NULL);
        evh_json *model = evh_json_open(other, NULL);
        for (uint64_t i = 1; i <= (uint64_t)n; i++) change(model, seed, i);
        char *text = evh_json_print(json, evh_json_root(json), NULL, NULL);
        char *expected = evh_json_print(model, evh_json_root(model), NULL, NULL);
        CHECK(text != NULL && expected != NULL);
        CHECK(strcmp(text, expected) == 0);
        free(text);
        free(expected);
        evh_json_close(model);
        CHECK(evh_close(other) == EVH_OK);
        evh_json_close(json);
        CHECK(evh_close(heap) == EVH_OK);
    }
}
