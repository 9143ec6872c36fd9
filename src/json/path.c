/* path.c -- from a pointer to a value: as text, and prepared. */
#include "json/json.h"
#include "os/os.h"

/* One member or item down; refs are the caller's business. */
static evh_status path_down(struct evh_json *json, struct json_step *at, uint32_t key,
                            uint64_t index, bool wants_position)
{
    assert(at->slot.type == JSON_ARRAY || at->slot.type == JSON_OBJECT);
    const struct json_container *container = container_in(json, &at->slot);
    if (!container) return EVH_CORRUPT;
    const struct json_slot *slot = NULL;
    uint32_t position = 0;
    if (container->kind == JSON_KIND_OBJECT) {
        if (!key) return EVH_NOT_FOUND;
        const bool is_cheap = container->form == JSON_FLAT;
        slot = object_find(json, container, key, wants_position || is_cheap ? &position : NULL);
    } else {
        if (index >= container->count) return EVH_NOT_FOUND;
        position = (uint32_t)index;
        slot = container_slot(json, container, position);
    }
    if (!slot) return EVH_NOT_FOUND;
    at->number = at->slot.id;
    at->position = position;
    at->slot = *slot;
    return EVH_OK;
}

evh_status path_step(struct evh_json *json, struct json_step *at, const char *token, size_t size,
                     bool wants_position)
{
    assert(token != NULL);
    if (at->slot.type == JSON_OBJECT)
        return path_down(json, at, key_find(json, token, size), 0, wants_position);
    uint64_t index = 0;
    if (at->slot.type != JSON_ARRAY || !pointer_index(token, size, &index)) return EVH_NOT_FOUND;
    return path_down(json, at, 0, index, wants_position);
}

evh_status value_follow(struct evh_json *json, struct json_step *at)
{
    assert(at != NULL);
    for (int hops = 0; at->slot.type == JSON_REF; hops++) {
        if (hops == JSON_HOPS_MAX)
            return base_fail(EVH_CYCLE, NO_OFFSET, "json: more than %d references in a row",
                             JSON_HOPS_MAX);
        struct json_step target;
        const evh_status status = ref_step(json, &at->slot, &target);
        if (status) return status;
        *at = target;
    }
    assert(at->slot.type != JSON_REF);
    return EVH_OK;
}

/* Where a walk from `from` begins. */
static evh_status path_start(struct evh_json *json, evh_value from, struct json_step *at)
{
    assert(at != NULL);
    const evh_status status = value_load(json, from, &at->slot);
    at->number = from.container;
    at->position = (uint32_t)from.position;
    return status;
}

static evh_status path_absent(const char *pointer, size_t size, const char *stop)
{
    assert(stop >= pointer);
    assert(stop <= pointer + size);
    const int shown = size < 200 ? (int)size : 200;
    return base_fail(EVH_NOT_FOUND, NO_OFFSET, "json: nothing at %.*s (from byte %zu on)", shown,
                     pointer, (size_t)(stop - pointer));
}

static evh_status path_check(const char *pointer, size_t size)
{
    size_t fault = 0;
    if (!pointer && size) return base_fail(EVH_INVALID, NO_OFFSET, "json: no pointer");
    if (pointer_check(pointer, size, &fault)) return EVH_OK;
    return base_fail(EVH_SYNTAX, NO_OFFSET, "json: \"%.*s\" is no JSON Pointer, from byte %zu on",
                     size < 200 ? (int)size : 200, pointer, fault);
}

static evh_value path_find(struct evh_json *json, struct json_step at, const char *pointer,
                           size_t size)
{
    struct pointer walk;
    pointer_begin(&walk, pointer, size);
    evh_status status = EVH_OK;
    while (!status) {
        const char *here = walk.next;
        status = pointer_step(&walk);
        if (status) break;
        status = value_follow(json, &at);
        if (!status)
            status = path_step(json, &at, walk.token, walk.token_size, walk.next == walk.end);
        if (status == EVH_NOT_FOUND) {
            (void)path_absent(pointer, size, here);
            status = EVH_INVALID; /* not the end of the pointer */
        }
    }
    pointer_end(&walk);
    return status == EVH_NOT_FOUND ? value_of_step(json, &at) : value_none();
}

evh_value evh_json_find(evh_json *json, evh_value from, const char *pointer, size_t size)
{
    struct json_step at;
    if (json_ready(json)) return value_none();
    if (!pointer || size == 0 || pointer[0] != '#') {
        if (path_check(pointer, size) || path_start(json, from, &at)) return value_none();
        return path_find(json, at, pointer, size);
    }
    /* A URI fragment: RFC 6901, section 6. */
    char *decoded = os->memory_allocate(size);
    size_t bytes = 0;
    evh_value found = value_none();
    if (!decoded) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for a path");
    } else if (!pointer_from_fragment(pointer + 1, size - 1, decoded, &bytes)) {
        (void)base_fail(EVH_SYNTAX, NO_OFFSET, "json: %% without two hexadecimal digits in a path");
    } else if (!path_check(decoded, bytes) && !path_start(json, from, &at)) {
        found = path_find(json, at, decoded, bytes);
    }
    os->memory_free(decoded);
    return found;
}

evh_value evh_json_follow(evh_json *json, evh_value value)
{
    struct json_step at;
    if (json_ready(json) || path_start(json, value, &at) || value_follow(json, &at))
        return value_none();
    return value_of_step(json, &at);
}

/* ---- prepared ---- */

struct path_token {
    uint64_t index; /* as an item; UINT64_MAX: it is none */
    uint32_t key;   /* as a member; 0: no such key when it was looked up */
    uint32_t text;  /* where it begins in the path's text */
    uint32_t size;
};

struct evh_json_path {
    uint64_t stamp; /* of the heap's state in which the keys were looked up */
    uint64_t key_epoch;
    uint64_t key_count;
    uint32_t count;
    struct path_token *tokens; /* behind the struct; then the text */
    char *text;
};

/* Look the keys up. What changes their numbers changes the heap's stamp or the document's epoch;
 * new keys may be the ones that were not there. */
static void path_look_up(struct evh_json *json, evh_json_path *path)
{
    const evh_symbols keys = {json->root->keys};
    path->stamp = json->heap->stamp;
    path->key_epoch = json->root->key_epoch;
    path->key_count = keys.offset ? evh_symbols_count(json->heap, &keys) : 0;
    for (uint32_t i = 0; i < path->count; i++) {
        struct path_token *token = path->tokens + i;
        token->key = key_find(json, path->text + token->text, token->size);
    }
}

evh_json_path *evh_json_compile(evh_json *json, const char *pointer, size_t size)
{
    if (json_ready(json) || path_check(pointer, size)) return NULL;
    uint32_t count = 0;
    for (size_t i = 0; i < size; i++) count += pointer[i] == '/';
    evh_json_path *path = NULL;
    if (size <= UINT32_MAX / 2)
        path = os->memory_allocate(sizeof *path + count * sizeof *path->tokens + size + 1);
    if (!path) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for a path");
        return NULL;
    }
    path->tokens = (struct path_token *)(path + 1);
    path->text = (char *)(path->tokens + count);
    struct pointer walk;
    pointer_begin(&walk, pointer, size);
    uint32_t used = 0;
    while (!pointer_step(&walk) && path->count < count) {
        assert(used + walk.token_size <= size);
        struct path_token *token = path->tokens + path->count++;
        if (!pointer_index(walk.token, walk.token_size, &token->index)) token->index = UINT64_MAX;
        token->text = used;
        token->size = (uint32_t)walk.token_size;
        memcpy(path->text + used, walk.token, walk.token_size);
        used += token->size;
    }
    pointer_end(&walk);
    assert(path->count == count);
    path_look_up(json, path);
    return path;
}

void evh_json_path_end(evh_json_path *path)
{
    os->memory_free(path);
}

/* Whether a key was missing that may be there now. */
static bool path_may_have_come(struct evh_json *json, const evh_json_path *path)
{
    const evh_symbols keys = {json->root->keys};
    const uint64_t count = keys.offset ? evh_symbols_count(json->heap, &keys) : 0;
    return count != path->key_count;
}

evh_value evh_json_walk(evh_json *json, evh_value from, evh_json_path *path)
{
    struct json_step at;
    if (json_ready(json)) return value_none();
    if (!path) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "json: no path");
        return value_none();
    }
    if (path->stamp != json->heap->stamp || path->key_epoch != json->root->key_epoch)
        path_look_up(json, path);
    if (path_start(json, from, &at)) return value_none();
    for (uint32_t i = 0; i < path->count; i++) {
        struct path_token *token = path->tokens + i;
        if (UNLIKELY(at.slot.type == JSON_REF) && value_follow(json, &at)) return value_none();
        evh_status status = EVH_NOT_FOUND;
        if (LIKELY(at.slot.type == JSON_OBJECT || at.slot.type == JSON_ARRAY)) {
            if (at.slot.type == JSON_OBJECT && !token->key && path_may_have_come(json, path))
                path_look_up(json, path);
            status = path_down(json, &at, token->key, token->index, i + 1 == path->count);
        }
        if (status) {
            (void)base_fail(EVH_NOT_FOUND, NO_OFFSET, "json: nothing at step %u of a path", i + 1);
            return value_none();
        }
    }
    return value_of_step(json, &at);
}

/* ---- making what is missing ---- */

/* One step down from `value`, made if it is not there. A null becomes what the token asks for. */
static evh_status path_make_step(struct evh_json *json, evh_value *value, const char *token,
                                 size_t size, struct path_made *made)
{
    assert(value != NULL);
    assert(made != NULL);
    uint64_t index = 0;
    const bool is_item = pointer_index(token, size, &index) || (size == 1 && token[0] == '-');
    evh_status status = EVH_OK;
    evh_value at = evh_json_follow(json, *value);
    if (!evh_json_is(at)) return evh_last_error()->status;
    if (evh_json_type_of(json, at) == EVH_JSON_NULL) {
        status = is_item ? evh_json_set_array(json, at) : evh_json_set_object(json, at);
        if (status) return status;
        if (!evh_json_is(made->first)) {
            made->first = at;
            made->was_null = true;
        }
    }
    const size_t count = evh_json_count(json, at);
    if (evh_json_type_of(json, at) == EVH_JSON_OBJECT) {
        status = evh_json_put(json, at, token, size, value);
    } else if (evh_json_type_of(json, at) != EVH_JSON_ARRAY) {
        return base_fail(EVH_INVALID, NO_OFFSET,
                         "json: a path through a value that is no container");
    } else if (!is_item) {
        return base_fail(EVH_NOT_FOUND, NO_OFFSET, "json: \"%.*s\" is no item of an array",
                         (int)base_min(size, 100), token);
    } else if (token[0] == '-' || index == count) {
        status = evh_json_append(json, at, value);
    } else {
        *value = evh_json_at(json, at, index);
        if (!evh_json_is(*value))
            return base_fail(EVH_NOT_FOUND, NO_OFFSET, "json: item %llu of an array of %zu",
                             (unsigned long long)index, count);
    }
    if (!status) assert(evh_json_is(*value));
    if (!status && !evh_json_is(made->first) && evh_json_count(json, at) > count)
        made->first = *value;
    return status;
}

void path_unmake(struct evh_json *json, struct path_made *made)
{
    assert(made != NULL);
    if (!evh_json_is(made->first)) return;
    const evh_error error = *evh_last_error();
    if (json->observer) json->observer->count = made->observed;
    (void)(made->was_null ? evh_json_set_null(json, made->first)
                          : evh_json_erase(json, made->first));
    if (json->observer) json->observer->count = made->observed;
    made->first = value_none();
    (void)base_fail(error.status, error.offset, "%s", error.message);
}

evh_value path_make(struct evh_json *json, evh_value from, const char *pointer, size_t size,
                    struct path_made *made)
{
    assert(made != NULL);
    *made = (struct path_made){.observed = json->observer ? json->observer->count : 0};
    if (path_check(pointer, size)) return value_none();
    struct pointer walk;
    evh_value value = from;
    pointer_begin(&walk, pointer, size);
    evh_status status = pointer_step(&walk);
    while (!status) {
        status = path_make_step(json, &value, walk.token, walk.token_size, made);
        if (status == EVH_NOT_FOUND) status = EVH_INVALID; /* not the end of the pointer */
        if (!status) status = pointer_step(&walk);
    }
    pointer_end(&walk);
    if (status == EVH_NOT_FOUND) return value;
    path_unmake(json, made);
    return value_none();
}

evh_value evh_json_make(evh_json *json, evh_value from, const char *pointer, size_t size)
{
    struct path_made made;
    return json_writable(json) ? value_none() : path_make(json, from, pointer, size, &made);
}
