/* json_model_test.c -- random changes of documents, beside a model that is simple enough to trust.
 *
 * Strategy: containers of all sizes, from none to tens of thousands of values, are changed at
 * random positions through all their forms, and compared with plain arrays; whole documents are
 * changed at random beside a tree of malloc'd nodes, with commits, rollbacks and reopening between.
 *
 * Invariants: what is read is what the model has, in its order; evh_json_check() finds nothing.
 */
#include "json/json.h"
#include "support/documents.h"
#include "test.h"

#include <stdlib.h>

/* ---- arrays ---- */

static void check_array(evh_json *json, evh_value array, const int64_t *model, size_t count)
{
    CHECK_EQUAL(evh_json_count(json, array), count);
    for (size_t i = 0; i < count; i++)
        CHECK_EQUAL(evh_json_integer(json, evh_json_at(json, array, i), NULL), model[i]);
    check_ok(evh_json_check(json));
}

TEST(an_array_is_changed_anywhere_at_any_size)
{
    enum { MAX = 30000 };
    static int64_t model[MAX + 1];
    size_t count = 0;
    uint64_t state = test_seed();
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    check_ok(evh_json_set_array(json, evh_json_root(json)));
    const evh_value array = evh_json_root(json);
    int64_t fresh = 0;
    for (uint64_t round = 0; round < test_effort(60); round++) {
        /* Phases of growing at one place, growing anywhere, shrinking at one place and anywhere. */
        const uint64_t phase = test_random(&state) % 6;
        const uint64_t place = test_random(&state) % 3;
        for (uint64_t step = test_random(&state) % 6000; step > 0; step--) {
            size_t at = count ? test_random(&state) % count : 0;
            if (place == 1) at = 0;
            if (place == 2 && count) at = count - 1;
            if (phase < 3 ? count < MAX : false) {
                if (place == 2 && count) at = count;
                evh_value item;
                check_ok(evh_json_insert(json, array, at, &item));
                check_ok(evh_json_set_integer(json, item, ++fresh));
                memmove(model + at + 1, model + at, (count - at) * sizeof *model);
                model[at] = fresh;
                count++;
            } else if (phase < 5 && count) {
                check_ok(evh_json_erase(json, evh_json_at(json, array, at)));
                count--;
                memmove(model + at, model + at + 1, (count - at) * sizeof *model);
            } else if (count) {
                check_ok(evh_json_set_integer(json, evh_json_at(json, array, at), ++fresh));
                model[at] = fresh;
            }
        }
        check_array(json, array, model, count);
    }
    while (count > 0) check_ok(evh_json_erase(json, evh_json_at(json, array, --count)));
    check_array(json, array, model, 0);
    evh_json_close(json);
    CHECK(evh_close(heap) == EVH_OK);
}

/* ---- objects ---- */

struct member {
    uint32_t key;
    int64_t value;
};

static size_t key_name(char *text, uint32_t key)
{
    return (size_t)snprintf(text, 16, "key %x", key * 2654435761u);
}

static void check_object(evh_json *json, evh_value object, const struct member *model, size_t count)
{
    CHECK_EQUAL(evh_json_count(json, object), count);
    for (size_t i = 0; i < count; i++) {
        char name[16];
        const size_t size = key_name(name, model[i].key);
        const evh_value member = evh_json_member(json, object, name, size);
        CHECK_EQUAL(evh_json_integer(json, member, NULL), model[i].value);
        CHECK_EQUAL(evh_json_position(json, member), i);
        size_t key_size = 0;
        const char *key = evh_json_key(json, object, i, &key_size);
        CHECK(key_size == size && memcmp(key, name, size) == 0);
    }
    check_ok(evh_json_check(json));
}

TEST(an_object_is_changed_anywhere_at_any_size)
{
    enum { KEYS = 20000 };
    static struct member model[KEYS];
    static bool is_there[KEYS];
    memset(is_there, 0, sizeof is_there);
    size_t count = 0;
    uint64_t state = test_seed();
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    check_ok(evh_json_set_object(json, evh_json_root(json)));
    const evh_value object = evh_json_root(json);
    int64_t fresh = 0;
    for (uint64_t round = 0; round < test_effort(40); round++) {
        const uint64_t phase = test_random(&state) % 5;
        const uint64_t place = test_random(&state) % 3;
        for (uint64_t step = test_random(&state) % 4000; step > 0; step--) {
            char name[16];
            evh_value member;
            if (phase < 3) {
                const uint32_t key = (uint32_t)(test_random(&state) % KEYS);
                check_ok(evh_json_put(json, object, name, key_name(name, key), &member));
                check_ok(evh_json_set_integer(json, member, ++fresh));
                size_t at = count;
                if (is_there[key])
                    for (at = 0; model[at].key != key;) at++;
                if (!is_there[key]) count++;
                is_there[key] = true;
                model[at] = (struct member){key, fresh};
            } else if (count) {
                size_t at = test_random(&state) % count;
                if (place == 1) at = 0;
                if (place == 2) at = count - 1;
                const uint32_t key = (uint32_t)(test_random(&state) % KEYS);
                member = evh_json_at(json, object, at);
                if (test_random(&state) % 8 == 0 && !is_there[key]) {
                    check_ok(evh_json_rename(json, member, name, key_name(name, key)));
                    is_there[model[at].key] = false;
                    is_there[key] = true;
                    model[at].key = key;
                    continue;
                }
                check_ok(evh_json_erase(json, member));
                is_there[model[at].key] = false;
                count--;
                memmove(model + at, model + at + 1, (count - at) * sizeof *model);
            }
        }
        check_object(json, object, model, count);
    }
    while (count > 0) check_ok(evh_json_erase(json, evh_json_at(json, object, --count)));
    check_object(json, object, model, 0);
    evh_json_close(json);
    CHECK(evh_close(heap) == EVH_OK);
}

TEST(large_containers_are_read_from_text_and_written)
{
    enum { COUNT = 30000 };
    char *text = malloc(COUNT * 32);
    CHECK(text != NULL);
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    for (int count = 1; count <= COUNT; count = count < 20 ? count + 1 : count * 3 / 2 + 1) {
        for (int is_object = 0; is_object < 2; is_object++) {
            size_t size = 0;
            text[size++] = is_object ? '{' : '[';
            for (int i = 0; i < count; i++) {
                if (i) text[size++] = ',';
                if (is_object) size += (size_t)snprintf(text + size, 32, "\"k%d\":", i);
                size += (size_t)snprintf(text + size, 32, i % 7 ? "%d" : "[%d]", i);
            }
            text[size++] = is_object ? '}' : ']';
            text[size] = 0;
            check_ok(evh_json_parse(json, evh_json_root(json), text, size, NULL, NULL));
            CHECK_EQUAL(evh_json_count(json, evh_json_root(json)), count);
            size_t written = 0;
            char *back = evh_json_print(json, evh_json_root(json), NULL, &written);
            CHECK(written == size && memcmp(back, text, size) == 0);
            free(back);
            check_ok(evh_json_check(json));
            /* A copy of a large container, and its end. */
            const evh_value copy = evh_json_detached(json);
            check_ok(evh_json_copy(json, copy, evh_json_root(json)));
            CHECK(evh_json_equal(json, copy, evh_json_root(json)));
            check_ok(evh_json_erase(json, copy));
            check_ok(evh_json_check(json));
        }
    }
    free(text);
    evh_json_close(json);
    CHECK(evh_close(heap) == EVH_OK);
}

TEST(a_key_twice_in_a_large_object_is_found)
{
    enum { COUNT = 5000 };
    char *text = malloc(COUNT * 16 + 64);
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    for (int twice = 1; twice < COUNT; twice = twice * 2 + 3) {
        size_t size = (size_t)snprintf(text, 32, "{");
        for (int i = 0; i < COUNT; i++)
            size += (size_t)snprintf(text + size, 32, "\"k%d\":%d,", i, i);
        size += (size_t)snprintf(text + size, 32, "\"k%d\":\"again\"}", twice);
        evh_json_fault fault;
        CHECK(evh_json_parse(json, evh_json_root(json), text, size, NULL, &fault) == EVH_SYNTAX);
        CHECK(fault.offset == size - strlen(strrchr(text, ',') + 1));
        check_ok(evh_json_check(json));
        const evh_json_read_options last = {.duplicates = EVH_JSON_DUPLICATES_LAST};
        check_ok(evh_json_parse(json, evh_json_root(json), text, size, &last, NULL));
        CHECK(
            strcmp(evh_json_text(json, evh_json_at(json, evh_json_root(json), (size_t)twice), NULL),
                   "again") == 0);
        check_ok(evh_json_check(json));
    }
    free(text);
    evh_json_close(json);
    CHECK(evh_close(heap) == EVH_OK);
}

/* ---- strings ---- */

TEST(strings_of_all_sizes_come_and_go_without_losing_space)
{
    enum { COUNT = 3000 };
    uint64_t state = test_seed();
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    check_ok(evh_json_set_array(json, evh_json_root(json)));
    const evh_value array = evh_json_root(json);
    static char text[20000];
    static struct {
        size_t size;
        char first;
    } model[COUNT];
    memset(model, 0, sizeof model);
    for (int i = 0; i < COUNT; i++) check_ok(evh_json_append(json, array, NULL));
    for (uint64_t round = 0; round < test_effort(40000); round++) {
        const size_t at = test_random(&state) % COUNT;
        size_t size = test_random(&state) % (round % 50 == 0 ? sizeof text : 200);
        if (round % 3 == 0) size %= 20;
        const char first = (char)('a' + test_random(&state) % 26);
        memset(text, first, size);
        const evh_value value = evh_json_at(json, array, at);
        if (test_random(&state) % 4 == 0) {
            check_ok(evh_json_set_null(json, value));
            size = 0;
        } else if (size) {
            check_ok(evh_json_set_text(json, value, text, size));
        } else {
            continue;
        }
        model[at].size = size;
        model[at].first = first;
        if (round % 4096 == 0) check_ok(evh_json_check(json));
    }
    uint64_t total = 0;
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = 0;
        const char *got = evh_json_text(json, evh_json_at(json, array, i), &size);
        CHECK_EQUAL(size, model[i].size);
        for (size_t j = 0; j < size; j++) CHECK(got[j] == model[i].first);
        total += size > JSON_TEXT_SMALL_MAX ? 0 : size;
    }
    check_ok(evh_json_check(json));
    if (getenv("SHOW"))
        printf("slabs %llu bytes %llu\n", (unsigned long long)json->root->texts.slab_count * 65536,
               (unsigned long long)total);
    /* The slabs are filled again: not much more than three times what is there. */
    CHECK(json->root->texts.slab_count * JSON_SLAB_BYTES < 3 * (total + 32 * COUNT) + 4 * 65536);
    check_ok(evh_json_set_null(json, array));
    check_ok(evh_json_check(json));
    CHECK(json->root->texts.slab_count <= 1);
    evh_json_close(json);
    CHECK(evh_close(heap) == EVH_OK);
}

/* ---- whole documents ---- */

/* The model: nodes with children, keys and a number or text. */
struct node {
    int kind; /* 0 null, 1 integer, 2 string, 3 array, 4 object */
    int64_t number;
    char text[64];
    struct node **children;
    char (*keys)[8];
    size_t count;
};

static struct node *node_new(void)
{
    struct node *node = calloc(1, sizeof *node);
    CHECK(node != NULL);
    return node;
}

static void node_clear(struct node *node)
{
    for (size_t i = 0; i < node->count; i++) {
        node_clear(node->children[i]);
        free(node->children[i]);
    }
    free(node->children);
    free(node->keys);
    memset(node, 0, sizeof *node);
}

static struct node *node_add(struct node *parent, size_t at, const char *key)
{
    parent->children = realloc(parent->children, (parent->count + 1) * sizeof *parent->children);
    parent->keys = realloc(parent->keys, (parent->count + 1) * sizeof *parent->keys);
    memmove(parent->children + at + 1, parent->children + at,
            (parent->count - at) * sizeof *parent->children);
    memmove(parent->keys + at + 1, parent->keys + at, (parent->count - at) * sizeof *parent->keys);
    parent->children[at] = node_new();
    snprintf(parent->keys[at], sizeof parent->keys[at], "%s", key);
    parent->count++;
    return parent->children[at];
}

static void node_remove(struct node *parent, size_t at)
{
    node_clear(parent->children[at]);
    free(parent->children[at]);
    parent->count--;
    memmove(parent->children + at, parent->children + at + 1,
            (parent->count - at) * sizeof *parent->children);
    memmove(parent->keys + at, parent->keys + at + 1, (parent->count - at) * sizeof *parent->keys);
}

static void node_copy(struct node *target, const struct node *source)
{
    target->kind = source->kind;
    target->number = source->number;
    memcpy(target->text, source->text, sizeof target->text);
    for (size_t i = 0; i < source->count; i++)
        node_copy(node_add(target, i, source->keys[i]), source->children[i]);
}

static void node_print(const struct node *node, char **text)
{
    static const char brackets[2][2] = {{'[', ']'}, {'{', '}'}};
    if (node->kind == 0) *text += snprintf(*text, 80, "null");
    if (node->kind == 1) *text += snprintf(*text, 80, "%lld", (long long)node->number);
    if (node->kind == 2) *text += snprintf(*text, 80, "\"%s\"", node->text);
    if (node->kind < 3) return;
    *(*text)++ = brackets[node->kind - 3][0];
    for (size_t i = 0; i < node->count; i++) {
        if (i) *(*text)++ = ',';
        if (node->kind == 4) *text += snprintf(*text, 80, "\"%s\":", node->keys[i]);
        node_print(node->children[i], text);
    }
    *(*text)++ = brackets[node->kind - 3][1];
    **text = 0;
}

struct pair {
    struct node *root, *committed;
    evh_heap *heap;
    evh_json *json;
    const char *path;
    uint64_t state;
};

/* A random node and its value, by the same steps down. */
static struct node *pick(struct pair *pair, evh_value *value)
{
    struct node *node = pair->root;
    *value = evh_json_root(pair->json);
    while (node->count > 0 && test_random(&pair->state) % 4) {
        const size_t at = test_random(&pair->state) % node->count;
        if (node->kind == 4) {
            *value = evh_json_member(pair->json, *value, node->keys[at], strlen(node->keys[at]));
        } else {
            *value = evh_json_at(pair->json, *value, at);
        }
        node = node->children[at];
        CHECK(evh_json_is(*value));
    }
    return node;
}

static void change_scalar(struct pair *pair, struct node *node, evh_value value)
{
    node_clear(node);
    node->kind = (int)(test_random(&pair->state) % 3);
    if (node->kind == 0) check_ok(evh_json_set_null(pair->json, value));
    if (node->kind == 1) {
        node->number = (int64_t)test_random(&pair->state);
        check_ok(evh_json_set_integer(pair->json, value, node->number));
    }
    if (node->kind != 2) return;
    const size_t size = test_random(&pair->state) % 60;
    memset(node->text, 'a' + (int)(size % 26), size);
    check_ok(evh_json_set_text(pair->json, value, node->text, size));
}

static void change_container(struct pair *pair, struct node *node, evh_value value)
{
    const uint64_t what = test_random(&pair->state);
    if (node->kind < 3) {
        node_clear(node);
        node->kind = 3 + (int)(what % 2);
        check_ok(what % 2 ? evh_json_set_object(pair->json, value)
                          : evh_json_set_array(pair->json, value));
        return;
    }
    if (node->count > 0 && what % 4 == 0) {
        const size_t at = test_random(&pair->state) % node->count;
        check_ok(evh_json_erase(pair->json, evh_json_at(pair->json, value, at)));
        node_remove(node, at);
        return;
    }
    evh_value item;
    if (node->kind == 3) {
        const size_t at = test_random(&pair->state) % (node->count + 1);
        check_ok(evh_json_insert(pair->json, value, at, &item));
        change_scalar(pair, node_add(node, at, ""), item);
        return;
    }
    char key[8];
    const int size = snprintf(key, sizeof key, "k%d", (int)(what >> 8) % 50 + 50);
    check_ok(evh_json_put(pair->json, value, key, (size_t)size, &item));
    size_t at = 0;
    while (at < node->count && strcmp(node->keys[at], key) != 0) at++;
    change_scalar(pair, at < node->count ? node->children[at] : node_add(node, at, key), item);
}

static void change_copy(struct pair *pair)
{
    evh_value source;
    evh_value target;
    const struct node *from = pick(pair, &source);
    struct node *to = pick(pair, &target);
    struct node *copy = node_new();
    node_copy(copy, from);
    char *text = malloc(1 << 22);
    char *next = text;
    node_print(copy, &next);
    if (next - text < 2000) {
        node_clear(to);
        node_copy(to, copy);
        check_ok(evh_json_copy(pair->json, target, source));
    }
    free(text);
    node_clear(copy);
    free(copy);
}

static void change(struct pair *pair)
{
    evh_value value;
    struct node *node = pick(pair, &value);
    const uint64_t what = test_random(&pair->state) % 40;
    if (what == 0) {
        change_copy(pair);
    } else if (what < 10) {
        if (node != pair->root) change_scalar(pair, node, value);
    } else {
        change_container(pair, node, value);
    }
}

static void compare(struct pair *pair)
{
    char *expected = malloc(1 << 24);
    char *next = expected;
    node_print(pair->root, &next);
    size_t size = 0;
    char *text = evh_json_print(pair->json, evh_json_root(pair->json), NULL, &size);
    CHECK(text != NULL);
    CHECK_EQUAL(size, next - expected);
    CHECK(memcmp(text, expected, size) == 0);
    free(text);
    free(expected);
    check_ok(evh_json_check(pair->json));
}

static void replace_node(struct node *target, const struct node *source)
{
    node_clear(target);
    node_copy(target, source);
}

TEST(random_changes_of_documents_follow_the_model_through_commits_and_rollbacks)
{
    struct pair pair = {.path = test_path("model"), .state = test_seed()};
    pair.heap = evh_open(pair.path, NULL);
    pair.json = evh_json_open(pair.heap, NULL);
    pair.root = node_new();
    pair.committed = node_new();
    check_ok(evh_commit(pair.heap));
    for (uint64_t round = 0; round < test_effort(60); round++) {
        for (int step = 0; step < 500; step++) change(&pair);
        compare(&pair);
        const uint64_t what = test_random(&pair.state) % 4;
        if (what < 2) {
            check_ok(evh_commit(pair.heap));
            replace_node(pair.committed, pair.root);
        }
        if (what == 2) {
            check_ok(evh_rollback(pair.heap));
            replace_node(pair.root, pair.committed);
            compare(&pair);
        }
        if (what == 1) {
            evh_json_close(pair.json);
            check_ok(evh_close(pair.heap));
            pair.heap = evh_open(pair.path, NULL);
            CHECK(pair.heap != NULL);
            pair.json = evh_json_open(pair.heap, NULL);
            compare(&pair);
        }
        if (pair.root->count > 400) {
            check_ok(evh_json_erase(pair.json, evh_json_root(pair.json)));
            node_clear(pair.root);
        }
    }
    node_clear(pair.root);
    node_clear(pair.committed);
    free(pair.root);
    free(pair.committed);
    evh_json_close(pair.json);
    check_ok(evh_close(pair.heap));
}
