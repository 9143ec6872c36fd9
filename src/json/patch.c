/* patch.c -- JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7396), all or nothing.
 *
 * Every operation is one or two steps of undo.c. A moved value is taken out and put in, not copied:
 * its name and the refs to it stay.
 */
#include "json/undo.h"
#include "os/os.h"

#include <everheap/json_query.h>

struct patch {
    struct evh_json *json;
    struct undo undo;
    struct json_place place; /* of the target */
    size_t operation;
};

/* What an operation's path names: a place in a container that is, or may come to be. */
struct patch_place {
    struct json_step at; /* the value, if there is one */
    bool is_there;
    uint32_t number; /* the container that it is in, or would be */
    uint32_t position;
    struct pointer walk; /* its last token */
    bool is_target;      /* the whole target */
};

static evh_status patch_fail(const struct patch *patch, evh_status status, const char *what)
{
    assert(status != EVH_OK);
    return base_fail(status, NO_OFFSET, "json: operation %zu of the patch: %s", patch->operation,
                     what);
}

/* ---- finding ---- */

static evh_status patch_last_step(struct patch *patch, struct patch_place *place)
{
    assert(place->walk.next == place->walk.end);
    struct json_step *at = &place->at;
    const struct pointer *walk = &place->walk;
    const uint8_t type = at->slot.type;
    if (type != JSON_ARRAY && type != JSON_OBJECT)
        return patch_fail(patch, EVH_INVALID, "a path through a value that is no container");
    const struct json_container *container = container_in(patch->json, &at->slot);
    if (!container) return EVH_CORRUPT;
    place->number = at->slot.id;
    place->position = container->count;
    const evh_status status = path_step(patch->json, at, walk->token, walk->token_size, true);
    place->is_there = status == EVH_OK;
    if (place->is_there) place->position = at->position;
    if (status != EVH_NOT_FOUND || type == JSON_OBJECT)
        return status == EVH_NOT_FOUND ? EVH_OK : status;
    /* An item that may be put behind the last: "-", or the number of items. */
    uint64_t index = 0;
    if (walk->token_size == 1 && walk->token[0] == '-') return EVH_OK;
    if (pointer_index(walk->token, walk->token_size, &index) && index == container->count)
        return EVH_OK;
    return patch_fail(patch, EVH_NOT_FOUND, "no such item");
}

/* Walk to the place that place->walk leads to. */
static evh_status patch_walk(struct patch *patch, struct patch_place *place)
{
    const struct json_container *holder = container_of(patch->json, patch->place.number);
    const struct json_slot *slot =
        holder ? container_slot(patch->json, holder, patch->place.position) : NULL;
    if (!slot) return EVH_CORRUPT;
    place->at = (struct json_step){*slot, patch->place.number, patch->place.position};
    evh_status status = pointer_step(&place->walk);
    while (!status) {
        status = value_follow(patch->json, &place->at);
        if (status) break;
        if (place->walk.next == place->walk.end) return patch_last_step(patch, place);
        status =
            path_step(patch->json, &place->at, place->walk.token, place->walk.token_size, true);
        if (status == EVH_NOT_FOUND)
            return patch_fail(patch, EVH_NOT_FOUND, "a path that leads nowhere");
        if (!status) status = pointer_step(&place->walk);
    }
    return status == EVH_NOT_FOUND ? EVH_OK : status;
}

/* The place that a path names; after success end its walk. */
static evh_status patch_find(struct patch *patch, const char *path, size_t size,
                             struct patch_place *place)
{
    assert(place != NULL);
    size_t fault = 0;
    if (!pointer_check(path, size, &fault))
        return patch_fail(patch, EVH_SYNTAX, "a path that is no JSON Pointer");
    *place = (struct patch_place){.is_there = true, .is_target = size == 0};
    place->number = patch->place.number;
    place->position = patch->place.position;
    pointer_begin(&place->walk, path, size);
    const evh_status status = patch_walk(patch, place);
    if (status) pointer_end(&place->walk);
    return status;
}

/* ---- putting ---- */

/* Put `slot`, which is nobody's, where a path says: insert an item, add or replace a member. */
static evh_status patch_put(struct patch *patch, struct patch_place *place,
                            const struct json_slot *slot)
{
    struct evh_json *json = patch->json;
    const struct json_container *container = container_of(json, place->number);
    if (!container) return EVH_CORRUPT;
    evh_status status = EVH_OK;
    if (place->is_target || (container->kind == JSON_KIND_OBJECT && place->is_there)) {
        status = undo_replace(&patch->undo, place->number, place->position, slot);
    } else {
        uint32_t key = 0;
        if (container->kind == JSON_KIND_OBJECT) {
            key = key_intern(json, place->walk.token, place->walk.token_size);
            if (!key) return evh_last_error()->status;
        }
        status = undo_insert(&patch->undo, place->number, place->position, key, slot);
        if (status && key) key_release(json, key);
    }
    if (!status) value_adopt(json, slot, place->number);
    return status;
}

/* Put a copy of a value. */
static evh_status patch_put_copy(struct patch *patch, struct patch_place *place,
                                 const struct json_slot *source)
{
    assert(source != NULL);
    struct json_slot copy;
    evh_status status = value_copy(patch->json, source, place->number, &copy);
    if (status) return status;
    status = patch_put(patch, place, &copy);
    if (status) value_free(patch->json, &copy);
    return status;
}

/* Whether container `number` is in the value. */
static bool patch_is_inside(struct evh_json *json, uint32_t number, const struct json_slot *slot)
{
    if (slot->type != JSON_ARRAY && slot->type != JSON_OBJECT) return false;
    const uint32_t limit = json->root->containers.fresh;
    for (uint32_t level = 0; number && level <= limit; level++) {
        if (number == slot->id) return true;
        const struct json_container *container = container_peek(json, number);
        number = container ? container->parent : 0;
    }
    return false;
}

/* ---- operations ---- */

/* A string member of an operation. */
static evh_status patch_text(struct patch *patch, const struct json_container *operation,
                             const char *name, const char **text, uint64_t *size)
{
    assert(text != NULL);
    assert(size != NULL);
    const uint32_t key = key_find(patch->json, name, strlen(name));
    const struct json_slot *slot = key ? object_find(patch->json, operation, key, NULL) : NULL;
    if (!slot || slot->type != JSON_STRING)
        return patch_fail(patch, EVH_SYNTAX, "op, path or from is missing or no string");
    *text = text_of(patch->json, slot, size);
    return *text ? EVH_OK : EVH_CORRUPT;
}

static evh_status patch_value(struct patch *patch, const struct json_container *operation,
                              struct json_slot *value)
{
    assert(value != NULL);
    const uint32_t key = key_find(patch->json, "value", 5);
    const struct json_slot *slot = key ? object_find(patch->json, operation, key, NULL) : NULL;
    if (!slot) return patch_fail(patch, EVH_SYNTAX, "value is missing");
    *value = *slot;
    return EVH_OK;
}

static evh_status patch_remove(struct patch *patch, const struct patch_place *place)
{
    if (!place->is_there) return patch_fail(patch, EVH_NOT_FOUND, "nothing is there");
    if (!place->is_target) return undo_remove(&patch->undo, place->number, place->position);
    const struct json_slot null = {.type = JSON_NULL};
    const evh_status status = undo_replace(&patch->undo, place->number, place->position, &null);
    if (!status) json_count(patch->json, &null, 1);
    return status;
}

static evh_status patch_replace(struct patch *patch, const struct patch_place *place,
                                const struct json_slot *value)
{
    if (!place->is_there) return patch_fail(patch, EVH_NOT_FOUND, "nothing is there");
    struct json_slot copy;
    evh_status status = value_copy(patch->json, value, place->number, &copy);
    if (status) return status;
    status = undo_replace(&patch->undo, place->number, place->position, &copy);
    if (status) value_free(patch->json, &copy);
    return status;
}

static evh_status patch_test(struct patch *patch, const struct patch_place *place,
                             const struct json_slot *value)
{
    bool equal = false;
    if (!place->is_there) return patch_fail(patch, EVH_NOT_FOUND, "nothing is there");
    const evh_status status = value_equal(patch->json, &place->at.slot, value, &equal);
    if (status) return status;
    return equal ? EVH_OK : patch_fail(patch, EVH_INVALID, "the value is another one");
}

/* Move: out, and in. A value goes nowhere if it is there already. */
static evh_status patch_move(struct patch *patch, const struct json_container *operation,
                             const char *path, uint64_t size)
{
    assert(path != NULL);
    const char *from = NULL;
    uint64_t from_size = 0;
    struct patch_place source;
    struct patch_place target;
    evh_status status = patch_text(patch, operation, "from", &from, &from_size);
    if (!status) status = patch_find(patch, from, from_size, &source);
    if (!status && !source.is_there) status = patch_fail(patch, EVH_NOT_FOUND, "nothing is there");
    if (status) return status;
    pointer_end(&source.walk);
    if (from_size == size && memcmp(from, path, size) == 0) return EVH_OK;
    if (size > from_size && memcmp(from, path, from_size) == 0 && path[from_size] == '/')
        return patch_fail(patch, EVH_INVALID, "a value cannot be moved into itself");
    const struct json_slot moved = source.at.slot;
    status = patch_remove(patch, &source);
    if (!status) status = patch_find(patch, path, size, &target);
    if (status) return status;
    if (patch_is_inside(patch->json, target.number, &moved)) { /* by way of a ref */
        status = patch_fail(patch, EVH_INVALID, "a value cannot be moved into itself");
    } else {
        status = patch_put(patch, &target, &moved);
    }
    /* It is where it was put, and must not be freed as what was removed. */
    if (!status) {
        assert(patch->undo.count >= 2);
        struct undo_step *step = patch->undo.steps + patch->undo.count - 2;
        assert(step[0].kind != UNDO_INSERTED);
        assert(step[1].kind != UNDO_REMOVED);
        step[0].is_moved = true;
        step[1].is_moved_in = true;
    }
    pointer_end(&target.walk);
    return status;
}

static evh_status patch_copy(struct patch *patch, const struct json_container *operation,
                             struct patch_place *place)
{
    const char *from = NULL;
    uint64_t from_size = 0;
    struct patch_place source;
    evh_status status = patch_text(patch, operation, "from", &from, &from_size);
    if (!status) status = patch_find(patch, from, from_size, &source);
    if (status) return status;
    pointer_end(&source.walk);
    if (!source.is_there) return patch_fail(patch, EVH_NOT_FOUND, "nothing is there");
    return patch_put_copy(patch, place, &source.at.slot);
}

static evh_status patch_operation(struct patch *patch, const struct json_container *operation)
{
    static const char *const names[] = {"add", "remove", "replace", "move", "copy", "test"};
    const char *name = NULL;
    const char *path = NULL;
    uint64_t name_size = 0;
    uint64_t size = 0;
    evh_status status = patch_text(patch, operation, "op", &name, &name_size);
    if (!status) status = patch_text(patch, operation, "path", &path, &size);
    if (status) return status;
    unsigned which = 0;
    while (which < 6 && strcmp(name, names[which]) != 0) which++;
    if (which == 6 || strlen(name) != name_size)
        return patch_fail(patch, EVH_SYNTAX, "an unknown operation");
    if (which == 3) return patch_move(patch, operation, path, size);
    struct json_slot value = {.type = JSON_NULL};
    if (which == 0 || which == 2 || which == 5) status = patch_value(patch, operation, &value);
    if (status) return status;
    struct patch_place place;
    status = patch_find(patch, path, size, &place);
    if (!status) {
        switch (which) {
        case 0: status = patch_put_copy(patch, &place, &value); break;
        case 1: status = patch_remove(patch, &place); break;
        case 2: status = patch_replace(patch, &place, &value); break;
        case 4: status = patch_copy(patch, operation, &place); break;
        default: status = patch_test(patch, &place, &value); break;
        }
        pointer_end(&place.walk);
    }
    return status;
}

/* The patch as a detached copy if it is in what it changes: `*copy`, to be erased. */
static evh_status patch_isolate(evh_json *json, evh_value target, evh_value *source,
                                evh_value *copy)
{
    assert(source != NULL);
    assert(copy != NULL);
    const uint32_t limit = json->root->containers.fresh;
    uint32_t tops[2] = {target.container, source->container};
    *copy = value_none();
    for (int i = 0; i < 2; i++) {
        for (uint32_t level = 0; level <= limit; level++) {
            const struct json_container *container = container_peek(json, tops[i]);
            if (!container || !container->parent) break;
            tops[i] = container->parent;
        }
    }
    if (tops[0] != tops[1]) return EVH_OK;
    assert(evh_json_is(*source));
    *copy = evh_json_detached(json);
    if (!evh_json_is(*copy)) return evh_last_error()->status;
    const evh_status status = evh_json_copy(json, *copy, *source);
    *source = *copy;
    return status;
}

static evh_status patch_apply(struct patch *patch, evh_value operations)
{
    struct evh_json *json = patch->json;
    struct json_slot list;
    evh_status status = value_load(json, operations, &list);
    if (status) return status;
    if (list.type != JSON_ARRAY)
        return base_fail(EVH_SYNTAX, NO_OFFSET, "json: a patch is an array of operations");
    const struct json_container *container = container_in(json, &list);
    if (!container) return EVH_CORRUPT;
    for (uint32_t i = 0; !status && i < container->count; i++) {
        const struct json_slot *slot = container_slot(json, container, i);
        const struct json_container *operation = NULL;
        patch->operation = i;
        if (slot && slot->type == JSON_OBJECT) operation = container_in(json, slot);
        status = operation ? patch_operation(patch, operation)
                           : patch_fail(patch, EVH_SYNTAX, "an operation is an object");
    }
    return status;
}

/* ---- merge patch ---- */

struct merge_level {
    uint32_t target;                     /* an object */
    const struct json_container *source; /* of the patch */
    uint32_t done;
};

struct merge_stack {
    struct merge_level *levels;
    size_t count, capacity;
    uint64_t left; /* containers that there may be: a sound patch has each once */
};

static evh_status merge_push(struct merge_stack *stack, uint32_t target,
                             const struct json_container *source)
{
    assert(stack->count <= stack->capacity);
    if (!source) return EVH_CORRUPT;
    if (stack->left-- == 0) return json_corrupt(NO_OFFSET, "containers in a ring");
    if (stack->count == stack->capacity) {
        void *grown = json_grow(stack->levels, &stack->capacity, sizeof *stack->levels);
        if (!grown) return EVH_NO_MEMORY;
        stack->levels = grown;
    }
    stack->levels[stack->count++] = (struct merge_level){target, source, 0};
    return EVH_OK;
}

/* What a patch's value makes of nothing: an empty object, to be merged into, or a copy. */
static evh_status merge_make(struct evh_json *json, const struct json_slot *value, uint32_t owner,
                             struct json_slot *made)
{
    assert(made != NULL);
    if (value->type != JSON_OBJECT) return value_copy(json, value, owner, made);
    struct json_container *container = NULL;
    const uint32_t number = container_make(json, JSON_KIND_OBJECT, owner, &container);
    if (!number) return evh_last_error()->status;
    *made = (struct json_slot){
        .type = JSON_OBJECT, .id = number, .payload = json_offset(json, container)};
    json_count(json, made, 1);
    return EVH_OK;
}

/* Merge one value of the patch into what is at a place, `there` or nothing. */
static evh_status merge_value(struct patch *patch, struct merge_stack *stack, uint32_t number,
                              uint32_t position, const struct json_slot *there, uint32_t key,
                              const struct json_slot *value)
{
    struct evh_json *json = patch->json;
    if (there && there->type == JSON_OBJECT && value->type == JSON_OBJECT)
        return merge_push(stack, there->id, container_in(json, value));
    struct json_slot made;
    evh_status status = merge_make(json, value, number, &made);
    if (status) return status;
    if (there) {
        status = undo_replace(&patch->undo, number, position, &made);
    } else {
        key_retain(json, key, 1);
        status = undo_insert(&patch->undo, number, position, key, &made);
        if (status) key_release(json, key);
    }
    if (status) {
        value_free(json, &made);
        return status;
    }
    if (made.type != JSON_OBJECT) return EVH_OK;
    return merge_push(stack, made.id, container_in(json, value));
}

static evh_status merge_next(struct patch *patch, struct merge_stack *stack)
{
    assert(stack->count > 0);
    struct merge_level *level = stack->levels + stack->count - 1;
    const uint32_t number = level->target;
    struct json_span span;
    const struct json_container *target = container_of(patch->json, number);
    if (!target || !container_span(patch->json, level->source, level->done++, &span))
        return EVH_CORRUPT;
    uint32_t position = target->count;
    const struct json_slot *there = object_find(patch->json, target, span.keys[0], &position);
    if (span.slots[0].type == JSON_NULL)
        return there ? undo_remove(&patch->undo, number, position) : EVH_OK;
    return merge_value(patch, stack, number, position, there, span.keys[0], span.slots);
}

static evh_status merge_apply(struct patch *patch, evh_value source)
{
    struct json_slot value;
    evh_status status = value_load(patch->json, source, &value);
    if (status) return status;
    struct merge_stack stack = {.left = patch->json->root->containers.used_count};
    status = merge_value(patch, &stack, patch->place.number, patch->place.position,
                         patch->place.slot, 0, &value);
    while (!status && stack.count > 0) {
        if (stack.levels[stack.count - 1].done == stack.levels[stack.count - 1].source->count) {
            stack.count--;
        } else {
            status = merge_next(patch, &stack);
        }
    }
    os->memory_free(stack.levels);
    return status;
}

/* ---- the whole ---- */

static evh_status patch_run(evh_json *json, evh_value target, evh_value source,
                            evh_status (*apply)(struct patch *, evh_value))
{
    assert(apply != NULL);
    struct patch patch = {.json = json, .undo = {.json = json}};
    evh_value copy = value_none();
    evh_status status = json_writable(json);
    if (!status) status = value_place(json, target, &patch.place);
    if (!status) status = patch_isolate(json, target, &source, &copy);
    if (!status) {
        assert(!json->keeps_room);
        json->keeps_room = true;
        status = apply(&patch, source);
        if (status) {
            undo_take_back(&patch.undo);
        } else {
            undo_keep(&patch.undo);
        }
        json->keeps_room = false;
    }
    if (!evh_json_is(copy)) return status;
    const evh_error error = *evh_last_error();
    const evh_status erased = evh_json_erase(json, copy);
    return status ? base_fail(status, error.offset, "%s", error.message) : erased;
}

evh_status evh_json_patch(evh_json *json, evh_value target, evh_value patch)
{
    return patch_run(json, target, patch, patch_apply);
}

evh_status evh_json_merge(evh_json *json, evh_value target, evh_value patch)
{
    return patch_run(json, target, patch, merge_apply);
}

/* ---- from text ---- */

static evh_status patch_from_text(evh_json *json, evh_value target, const char *text, size_t size,
                                  evh_status (*apply)(evh_json *, evh_value, evh_value))
{
    assert(apply != NULL);
    const evh_value source = evh_json_detached(json);
    if (!evh_json_is(source)) return evh_last_error()->status;
    evh_status status = evh_json_parse(json, source, text, size, NULL, NULL);
    if (!status) status = apply(json, target, source);
    const evh_error error = *evh_last_error();
    const evh_status erased = evh_json_erase(json, source);
    if (!status) return erased;
    return base_fail(status, error.offset, "%s", error.message);
}

evh_status evh_json_patch_text(evh_json *json, evh_value target, const char *patch, size_t size)
{
    return patch_from_text(json, target, patch, size, evh_json_patch);
}

evh_status evh_json_merge_text(evh_json *json, evh_value target, const char *patch, size_t size)
{
    return patch_from_text(json, target, patch, size, evh_json_merge);
}
