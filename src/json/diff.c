/* diff.c -- what makes one value another, as a JSON Patch (RFC 6902).
 *
 * Pairs of containers wait on a stack. Of two objects the members are compared by their keys; of
 * two arrays what is equal at both ends stays, and the rest is compared item by item, so that all
 * positions that are still waiting stay what they are: only the middle's end grows or shrinks.
 */
#include "json/json.h"
#include "os/os.h"

#include <everheap/json_query.h>

struct diff_pair {
    evh_value source, target;
};

struct diff {
    struct evh_json *json;
    evh_value patch;         /* the array */
    size_t prefix;           /* bytes of the path of the value where all began */
    struct diff_pair *pairs; /* owned */
    size_t count, capacity;
};

static evh_status diff_push(struct diff *diff, evh_value source, evh_value target)
{
    assert(evh_json_is(source));
    assert(evh_json_is(target));
    assert(diff->count <= diff->capacity);
    if (diff->count == diff->capacity) {
        void *grown = json_grow(diff->pairs, &diff->capacity, sizeof *diff->pairs);
        if (!grown) return EVH_NO_MEMORY;
        diff->pairs = grown;
    }
    diff->pairs[diff->count++] = (struct diff_pair){source, target};
    return EVH_OK;
}

/* Set member `key` of an operation to a text. */
static evh_status diff_put_text(struct diff *diff, evh_value operation, const char *key,
                                const char *text, size_t size)
{
    assert(key != NULL);
    assert(text != NULL);
    evh_value member;
    const evh_status status = evh_json_put(diff->json, operation, key, strlen(key), &member);
    return status ? status : evh_json_set_text(diff->json, member, text, size);
}

/* Set "path" to the path of `at`, and then a token if there is one. */
static evh_status diff_put_path(struct diff *diff, evh_value operation, evh_value at,
                                const char *token, size_t token_size)
{
    assert(evh_json_is(operation));
    const size_t size = evh_json_pointer(diff->json, at, NULL, 0);
    if (size == SIZE_MAX || size < diff->prefix) return evh_last_error()->status;
    const size_t more = token ? 1 + pointer_escaped_size(token, token_size) : 0;
    char *path = os->memory_allocate(size + more + 1);
    if (!path) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for a path");
    (void)evh_json_pointer(diff->json, at, path, size + 1);
    if (token) {
        path[size] = '/';
        (void)pointer_escape(token, token_size, path + size + 1);
    }
    const evh_status status =
        diff_put_text(diff, operation, "path", path + diff->prefix, size + more - diff->prefix);
    os->memory_free(path);
    return status;
}

/* Append an operation. `value` may be none. */
static evh_status diff_add(struct diff *diff, const char *name, evh_value at, const char *token,
                           size_t token_size, evh_value value)
{
    assert(name != NULL);
    assert(evh_json_is(diff->patch));
    evh_value operation;
    evh_value item;
    evh_status status = evh_json_append(diff->json, diff->patch, &item);
    if (!status) status = evh_json_set_object(diff->json, item);
    if (status) return status;
    operation = evh_json_at(diff->json, diff->patch, item.position);
    status = diff_put_text(diff, operation, "op", name, strlen(name));
    if (!status) status = diff_put_path(diff, operation, at, token, token_size);
    if (status || !evh_json_is(value)) return status;
    evh_value member;
    status = evh_json_put(diff->json, operation, "value", 5, &member);
    return status ? status : evh_json_copy(diff->json, member, value);
}

/* Two values that are to become equal: containers of one kind wait, others are replaced. */
static evh_status diff_values(struct diff *diff, evh_value source, evh_value target)
{
    const evh_json_type type = evh_json_type_of(diff->json, source);
    const bool is_container = type == EVH_JSON_ARRAY || type == EVH_JSON_OBJECT;
    if (is_container && type == evh_json_type_of(diff->json, target))
        return diff_push(diff, source, target);
    if (evh_json_equal(diff->json, source, target)) return EVH_OK;
    return diff_add(diff, "replace", source, NULL, 0, target);
}

static evh_status diff_objects(struct diff *diff, evh_value source, evh_value target)
{
    struct evh_json *json = diff->json;
    evh_status status = EVH_OK;
    for (size_t i = 0; i < evh_json_count(json, source) && !status; i++) {
        size_t size = 0;
        const char *key = evh_json_key(json, source, i, &size);
        if (!key) return evh_last_error()->status;
        const evh_value mine = evh_json_at(json, source, i);
        const evh_value other = evh_json_member(json, target, key, size);
        status = evh_json_is(other) ? diff_values(diff, mine, other)
                                    : diff_add(diff, "remove", mine, NULL, 0, value_none());
    }
    for (size_t i = 0; i < evh_json_count(json, target) && !status; i++) {
        size_t size = 0;
        const char *key = evh_json_key(json, target, i, &size);
        if (!key) return evh_last_error()->status;
        if (evh_json_is(evh_json_member(json, source, key, size))) continue;
        status = diff_add(diff, "add", source, key, size, evh_json_at(json, target, i));
    }
    return status;
}

static bool diff_same(struct diff *diff, evh_value source, size_t i, evh_value target, size_t k)
{
    return evh_json_equal(diff->json, evh_json_at(diff->json, source, i),
                          evh_json_at(diff->json, target, k));
}

static evh_status diff_arrays(struct diff *diff, evh_value source, evh_value target)
{
    struct evh_json *json = diff->json;
    const size_t source_count = evh_json_count(json, source);
    const size_t target_count = evh_json_count(json, target);
    const size_t common = base_min(source_count, target_count);
    size_t head = 0;
    while (head < common && diff_same(diff, source, head, target, head)) head++;
    size_t tail = 0;
    while (tail < common - head &&
           diff_same(diff, source, source_count - 1 - tail, target, target_count - 1 - tail))
        tail++;
    evh_status status = EVH_OK;
    const size_t pairs = common - tail; /* items from head to here are compared one by one */
    for (size_t i = head; i < pairs && !status; i++)
        status = diff_values(diff, evh_json_at(json, source, i), evh_json_at(json, target, i));
    for (size_t i = source_count - tail; i > pairs && !status; i--)
        status = diff_add(diff, "remove", evh_json_at(json, source, i - 1), NULL, 0, value_none());
    for (size_t i = pairs; i < target_count - tail && !status; i++) {
        char token[24];
        const int size = snprintf(token, sizeof token, "%zu", i);
        status = diff_add(diff, "add", source, token, (size_t)size, evh_json_at(json, target, i));
    }
    return status;
}

/* The patch is made in a value of its own: it may not be in what is compared. */
static evh_status diff_run(struct diff *diff, evh_value first, evh_value second)
{
    assert(evh_json_is(diff->patch));
    assert(diff->count == 0);
    evh_status status = diff_values(diff, first, second);
    while (!status && diff->count > 0) {
        const struct diff_pair pair = diff->pairs[--diff->count];
        status = evh_json_type_of(diff->json, pair.source) == EVH_JSON_OBJECT
                     ? diff_objects(diff, pair.source, pair.target)
                     : diff_arrays(diff, pair.source, pair.target);
    }
    os->memory_free(diff->pairs);
    return status;
}

evh_status evh_json_diff(evh_json *json, evh_value first, evh_value second, evh_value patch)
{
    evh_status status = json_writable(json);
    if (status) return status;
    const size_t prefix = evh_json_pointer(json, first, NULL, 0);
    if (prefix == SIZE_MAX || evh_json_type_of(json, second) == EVH_JSON_NONE ||
        evh_json_type_of(json, patch) == EVH_JSON_NONE)
        return base_fail(EVH_NOT_FOUND, NO_OFFSET, "json: a value that is no more");
    const evh_value made = evh_json_detached(json);
    if (!evh_json_is(made)) return evh_last_error()->status;
    struct json_place place;
    status = value_place(json, made, &place);
    if (!status) status = evh_json_set_array(json, made);
    struct diff diff = {.json = json, .prefix = prefix};
    if (!status) {
        diff.patch = value_of(json, place.number, 0, place.slot);
        status = diff_run(&diff, first, second);
    }
    if (!status) status = evh_json_move(json, patch, diff.patch);
    const evh_error error = *evh_last_error();
    (void)evh_json_erase(json, value_of(json, place.number, 0, place.slot));
    if (status) (void)base_fail(error.status, error.offset, "%s", error.message);
    return status;
}
