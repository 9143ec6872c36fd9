/* copy.c -- deep copies and deep comparison, with a stack of their own. */
#include "json/json.h"
#include "os/os.h"

/* A pair of containers that is being walked. */
struct copy_level {
    const struct json_container *source;
    struct json_container *target; /* of a copy; of a comparison the other one */
    uint32_t number;               /* of the target */
    uint32_t done;
};

struct copy_stack {
    struct copy_level *levels;
    size_t count, capacity;
    uint64_t left; /* containers that there may be: a sound document has each once */
};

static evh_status copy_push(struct copy_stack *stack, const struct copy_level *level)
{
    assert(level->source != NULL);
    assert(level->target != NULL);
    assert(stack->count <= stack->capacity);
    if (stack->left-- == 0) return json_corrupt(NO_OFFSET, "containers in a ring");
    if (stack->count == stack->capacity) {
        void *grown = json_grow(stack->levels, &stack->capacity, sizeof *stack->levels);
        if (!grown) return EVH_NO_MEMORY;
        stack->levels = grown;
    }
    stack->levels[stack->count++] = *level;
    return EVH_OK;
}

/* ---- copies ---- */

static evh_status copy_leaf(struct evh_json *json, const struct json_slot *source, uint32_t owner,
                            struct json_slot *copy)
{
    assert(source->type != JSON_ARRAY);
    assert(source->type != JSON_OBJECT);
    uint64_t size = 0;
    *copy = *source;
    if (source->type == JSON_STRING) {
        const char *text = text_of(json, source, &size);
        return text ? text_make(json, owner, text, size, copy, NULL) : EVH_CORRUPT;
    }
    if (source->type == JSON_DIGITS || source->type == JSON_BYTES) {
        const char *bytes = blob_of(json, source->payload, &size);
        if (!bytes) return EVH_CORRUPT;
        copy->payload = blob_make(json, bytes, size);
        if (!copy->payload) return evh_last_error()->status;
        if (source->type == JSON_BYTES) json->root->blob_bytes += size;
    }
    if (source->type == JSON_REF) {
        const struct json_ref *ref = ref_of(json, source);
        const char *path = ref ? blob_of(json, ref->path, &size) : NULL;
        return path ? ref_make(json, owner, path, size, copy) : EVH_CORRUPT;
    }
    return EVH_OK;
}

/* Copy one value; a container is made empty and pushed. */
static evh_status copy_one(struct evh_json *json, struct copy_stack *stack,
                           const struct json_slot *source, uint32_t owner, struct json_slot *copy)
{
    assert(copy != NULL);
    evh_status status = EVH_OK;
    if (source->type != JSON_ARRAY && source->type != JSON_OBJECT) {
        status = copy_leaf(json, source, owner, copy);
        if (!status) json_count(json, copy, 1);
        return status;
    }
    struct copy_level level = {.source = container_in(json, source)};
    if (!level.source) return EVH_CORRUPT;
    level.number = container_make(json, source->type, owner, &level.target);
    if (!level.number) return evh_last_error()->status;
    status = container_reserve(json, level.target, level.source->count);
    if (!status) status = copy_push(stack, &level);
    if (status) {
        container_clear(json, level.target);
        container_end(json, level.number, level.target);
        return status;
    }
    *copy = (struct json_slot){
        .type = source->type, .id = level.number, .payload = json_offset(json, level.target)};
    json_count(json, copy, 1);
    return EVH_OK;
}

/* The next value of the topmost level, into its target. */
static evh_status copy_next(struct evh_json *json, struct copy_stack *stack)
{
    assert(stack->count > 0);
    struct copy_level *level = &stack->levels[stack->count - 1];
    struct json_container *target = level->target;
    const uint32_t number = level->number;
    const uint32_t position = level->done++;
    struct json_span span;
    if (!container_span(json, level->source, position, &span)) return EVH_CORRUPT;
    struct json_slot copy;
    const uint32_t key = span.keys ? span.keys[0] : 0;
    evh_status status = copy_one(json, stack, span.slots, number, &copy);
    if (status) return status;
    status = container_insert(json, target, number, position, key, &copy);
    if (status) {
        value_free(json, &copy);
        return status;
    }
    if (key) key_retain(json, key, 1);
    return EVH_OK;
}

evh_status value_copy(struct evh_json *json, const struct json_slot *source, uint32_t owner,
                      struct json_slot *copy)
{
    assert(source != copy);
    assert(owner != 0);
    struct copy_stack stack = {.left = json->root->containers.used_count};
    evh_status status = copy_one(json, &stack, source, owner, copy);
    const bool is_made = !status;
    while (!status && stack.count > 0) {
        const struct copy_level *level = &stack.levels[stack.count - 1];
        if (level->done == level->source->count) {
            stack.count--;
        } else {
            status = copy_next(json, &stack);
        }
    }
    os->memory_free(stack.levels);
    if (status && is_made) {
        const evh_error error = *evh_last_error();
        value_free(json, copy);
        (void)base_fail(error.status, error.offset, "%s", error.message);
    }
    return status;
}

/* ---- comparison ---- */

static bool equal_is_number(const struct json_slot *slot)
{
    return slot->type >= JSON_INTEGER && slot->type <= JSON_DIGITS;
}

static bool equal_blobs(struct evh_json *json, const struct json_slot *first,
                        const struct json_slot *second)
{
    assert(first->type == second->type);
    uint64_t first_size = 0;
    uint64_t second_size = 0;
    const char *one = blob_of(json, first->payload, &first_size);
    const char *other = blob_of(json, second->payload, &second_size);
    return one && other && first_size == second_size && memcmp(one, other, first_size) == 0;
}

/* By value: an integer and a double are equal if both are the same number exactly. */
static bool equal_numbers(struct evh_json *json, const struct json_slot *first,
                          const struct json_slot *second)
{
    assert(equal_is_number(first));
    assert(equal_is_number(second));
    if (first->type == JSON_DIGITS || second->type == JSON_DIGITS)
        return first->type == second->type && equal_blobs(json, first, second);
    double real = 0;
    if (first->type == JSON_REAL && second->type == JSON_REAL) {
        double other = 0;
        memcpy(&real, &first->payload, sizeof real);
        memcpy(&other, &second->payload, sizeof other);
        return real == other;
    }
    if (first->type != JSON_REAL && second->type != JSON_REAL)
        return first->type == second->type && first->payload == second->payload;
    const struct json_slot *whole = first->type == JSON_REAL ? second : first;
    memcpy(&real, first->type == JSON_REAL ? &first->payload : &second->payload, sizeof real);
    if (whole->type == JSON_UNSIGNED)
        return real >= 0 && real < 18446744073709551616.0 && (uint64_t)real == whole->payload &&
               (double)(uint64_t)real == real;
    return real >= -9223372036854775808.0 && real < 9223372036854775808.0 &&
           (int64_t)real == (int64_t)whole->payload && (double)(int64_t)real == real;
}

static bool equal_leaves(struct evh_json *json, const struct json_slot *first,
                         const struct json_slot *second)
{
    if (equal_is_number(first) && equal_is_number(second))
        return equal_numbers(json, first, second);
    if (first->type != second->type) return false;
    if (first->type == JSON_NULL) return true;
    if (first->type == JSON_BOOLEAN) return first->payload == second->payload;
    if (first->type == JSON_BYTES) return equal_blobs(json, first, second);
    uint64_t first_size = 0;
    uint64_t second_size = 0;
    const char *one = NULL;
    const char *other = NULL;
    if (first->type == JSON_STRING) {
        one = text_of(json, first, &first_size);
        other = text_of(json, second, &second_size);
    } else if (first->type == JSON_REF) {
        const struct json_ref *ref = ref_of(json, first);
        const struct json_ref *other_ref = ref_of(json, second);
        if (ref) one = blob_of(json, ref->path, &first_size);
        if (other_ref) other = blob_of(json, other_ref->path, &second_size);
    }
    return one && other && first_size == second_size && memcmp(one, other, first_size) == 0;
}

static evh_status equal_one(struct evh_json *json, struct copy_stack *stack,
                            const struct json_slot *first, const struct json_slot *second,
                            bool *equal)
{
    if (first->type != second->type || (first->type != JSON_ARRAY && first->type != JSON_OBJECT)) {
        *equal = equal_leaves(json, first, second);
        return EVH_OK;
    }
    struct copy_level level = {.source = container_in(json, first),
                               .target = container_in(json, second)};
    if (!level.source || !level.target) return EVH_CORRUPT;
    *equal = level.source->count == level.target->count;
    if (!*equal || level.source == level.target) return EVH_OK;
    return copy_push(stack, &level);
}

evh_status value_equal(struct evh_json *json, const struct json_slot *first,
                       const struct json_slot *second, bool *equal)
{
    assert(equal != NULL);
    struct copy_stack stack = {.left = json->root->containers.used_count};
    evh_status status = equal_one(json, &stack, first, second, equal);
    while (!status && *equal && stack.count > 0) {
        struct copy_level *level = &stack.levels[stack.count - 1];
        if (level->done == level->source->count) {
            stack.count--;
            continue;
        }
        const struct json_container *other = level->target;
        const uint32_t position = level->done++;
        struct json_span span;
        if (!container_span(json, level->source, position, &span)) {
            status = EVH_CORRUPT;
            break;
        }
        const struct json_slot *slot = span.keys ? object_find(json, other, span.keys[0], NULL)
                                                 : container_slot(json, other, position);
        *equal = slot != NULL;
        if (slot) status = equal_one(json, &stack, span.slots, slot, equal);
    }
    os->memory_free(stack.levels);
    return status;
}

bool evh_json_equal(evh_json *json, evh_value first, evh_value second)
{
    struct json_slot one;
    struct json_slot other;
    bool equal = false;
    if (json_ready(json) || value_load(json, first, &one) || value_load(json, second, &other))
        return false;
    return !value_equal(json, &one, &other, &equal) && equal;
}
