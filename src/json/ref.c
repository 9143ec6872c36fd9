/* ref.c -- {"$ref": "/path"}: a reference that knows its target, and is known by it.
 *
 * A reference is resolved when it is first followed: to a container by its number, to any other
 * value by its container and its key or position there. It is then in the list of refs of that
 * container; a container that is freed makes those in its list loose, so that no reference ever
 * leads to what is gone. A loose one is resolved again, by its path, when it is followed next.
 * Where the heap cannot be written, resolving leaves no trace.
 */
#include "json/json.h"

struct json_ref *ref_of(const struct evh_json *json, const struct json_slot *slot)
{
    assert(slot->type == JSON_REF);
    struct json_ref *ref = cell_at(json, &json->root->refs, slot->id, JSON_REF_SHIFT);
    if (LIKELY(ref && ref->state != JSON_REF_FREE)) return ref;
    (void)json_corrupt(slot->payload, "a reference that is none");
    return NULL;
}

static struct json_ref *ref_peek(const struct evh_json *json, uint32_t number)
{
    struct json_ref *ref = cell_at(json, &json->root->refs, number, JSON_REF_SHIFT);
    return ref && ref->state != JSON_REF_FREE ? ref : NULL;
}

evh_status ref_make(struct evh_json *json, uint32_t owner, const char *path, uint64_t size,
                    struct json_slot *slot)
{
    assert(path != NULL || size == 0);
    assert(owner != 0);
    assert(slot != NULL);
    const uint64_t blob = blob_make(json, path, size);
    if (!blob) return evh_last_error()->status;
    void *cell = NULL;
    const uint32_t number = cell_take(json, &json->root->refs, JSON_REF_SHIFT, &cell);
    if (!number) {
        (void)json_free(json, blob);
        return evh_last_error()->status;
    }
    struct json_ref *ref = cell;
    *ref = (struct json_ref){
        .serial = ref->serial + 1, .state = JSON_REF_LOOSE, .owner = owner, .path = blob};
    *slot = (struct json_slot){.type = JSON_REF, .id = number, .payload = json_offset(json, ref)};
    return EVH_OK;
}

/* ---- the list of a target ---- */

static void ref_link(struct evh_json *json, uint32_t number, struct json_ref *ref,
                     struct json_container *target, uint32_t target_number)
{
    assert(ref->state == JSON_REF_LOOSE);
    assert(number != 0);
    assert(target_number != 0);
    ref->target = target_number;
    ref->previous = 0;
    ref->next = target->first_ref;
    struct json_ref *next = ref_peek(json, ref->next);
    if (next) next->previous = number;
    target->first_ref = number;
}

static void ref_unlink(struct evh_json *json, struct json_ref *ref)
{
    if (ref->state == JSON_REF_LOOSE) return;
    struct json_container *target = container_peek(json, ref->target);
    struct json_ref *next = ref_peek(json, ref->next);
    struct json_ref *previous = ref_peek(json, ref->previous);
    if (next) next->previous = ref->previous;
    if (previous) {
        previous->next = ref->next;
    } else if (target) {
        target->first_ref = ref->next;
    }
    if (ref->state == JSON_REF_MEMBER && ref->place) key_release(json, (uint32_t)ref->place);
    ref->state = JSON_REF_LOOSE;
    ref->target = 0;
    ref->place = 0;
    ref->next = 0;
    ref->previous = 0;
}

void ref_free(struct evh_json *json, const struct json_slot *slot)
{
    struct json_ref *ref = ref_of(json, slot);
    if (!ref) return;
    ref_unlink(json, ref);
    (void)json_free(json, ref->path);
    struct json_cells *cells = &json->root->refs;
    *ref = (struct json_ref){
        .serial = ref->serial + 1, .state = JSON_REF_FREE, .owner = cells->free_first};
    cells->free_first = slot->id;
    cells->used_count--;
}

void ref_loosen(struct evh_json *json, struct json_container *container)
{
    const uint32_t limit = json->root->refs.fresh;
    for (uint32_t i = 0; container->first_ref && i < limit; i++) {
        struct json_ref *ref = ref_peek(json, container->first_ref);
        if (!ref || ref->state == JSON_REF_LOOSE) break; /* damage */
        ref_unlink(json, ref);
    }
    container->first_ref = 0;
}

/* ---- resolving ---- */

/* Where the resolved ref `number` leads; false if that is no more. */
static bool ref_target(struct evh_json *json, const struct json_ref *ref, struct json_step *target)
{
    assert(target != NULL);
    struct json_container *container = container_peek(json, ref->target);
    if (!container) return false;
    const struct json_slot *slot = NULL;
    target->number = ref->target;
    target->position = 0;
    switch (ref->state) {
    case JSON_REF_WHOLE:
        if (container->kind == JSON_KIND_HOLDER) return false;
        target->slot = (struct json_slot){
            .type = container->kind, .id = ref->target, .payload = json_offset(json, container)};
        return true;
    case JSON_REF_MEMBER:
        if (container->kind != JSON_KIND_OBJECT || ref->place == 0) return false;
        slot = object_find(json, container, (uint32_t)ref->place, &target->position);
        break;
    case JSON_REF_ITEM:
        if (container->kind == JSON_KIND_OBJECT || ref->place >= container->count) return false;
        target->position = (uint32_t)ref->place;
        slot = container_slot(json, container, target->position);
        break;
    default: return false;
    }
    if (slot) target->slot = *slot;
    return slot != NULL;
}

/* Remember where a ref leads. */
static void ref_remember(struct evh_json *json, uint32_t number, struct json_ref *ref,
                         const struct json_step *target)
{
    assert(number != 0);
    if (!json->heap->is_writable || heap_writable(json->heap)) return;
    ref_unlink(json, ref);
    uint32_t holder = target->number;
    uint32_t state = JSON_REF_ITEM;
    if (target->slot.type == JSON_ARRAY || target->slot.type == JSON_OBJECT) {
        holder = target->slot.id;
        state = JSON_REF_WHOLE;
    }
    struct json_container *container = container_peek(json, holder);
    if (!container) return;
    uint64_t place = target->position;
    struct json_span span;
    if (state == JSON_REF_ITEM && container->kind == JSON_KIND_OBJECT) {
        if (!container_span(json, container, target->position, &span)) return;
        state = JSON_REF_MEMBER;
        place = span.keys[0];
        key_retain(json, span.keys[0], 1); /* so that its number keeps its meaning */
    }
    ref_link(json, number, ref, container, holder);
    ref->state = (uint8_t)state;
    ref->place = state == JSON_REF_WHOLE ? 0 : place;
}

/* Refs that are being resolved: one may need another on its way. */
struct ref_stack {
    uint32_t numbers[JSON_HOPS_MAX];
    struct json_step targets[JSON_HOPS_MAX]; /* of those that are done */
    bool is_done[JSON_HOPS_MAX];
    uint32_t count;
};

/* One hop without resolving: what is known of a ref. EVH_BUSY: `*blocker` has to be resolved. */
static evh_status ref_hop(struct evh_json *json, const struct ref_stack *stack,
                          struct json_step *at, uint32_t *blocker)
{
    assert(at->slot.type == JSON_REF);
    assert(blocker != NULL);
    const struct json_ref *ref = ref_of(json, &at->slot);
    if (!ref) return EVH_CORRUPT;
    const uint32_t number = at->slot.id;
    for (uint32_t i = 0; i < stack->count; i++) {
        if (stack->numbers[i] != number) continue;
        if (!stack->is_done[i])
            return base_fail(EVH_CYCLE, NO_OFFSET, "json: references that lead in a ring");
        *at = stack->targets[i];
        return EVH_OK;
    }
    if (ref_target(json, ref, at)) return EVH_OK;
    *blocker = number;
    return EVH_BUSY;
}

/* Walk a ref's path from the document's outermost value. */
static evh_status ref_walk(struct evh_json *json, const struct ref_stack *stack, const char *path,
                           uint64_t size, struct json_step *at, uint32_t *blocker)
{
    assert(path != NULL);
    assert(stack->count > 0);
    size_t fault = 0;
    const struct json_container *document = container_of(json, json->root->document);
    const struct json_slot *outermost = document ? container_slot(json, document, 0) : NULL;
    if (!outermost) return EVH_CORRUPT;
    *at = (struct json_step){*outermost, json->root->document, 0};
    if (!pointer_check(path, size, &fault))
        return base_fail(EVH_DANGLING, NO_OFFSET, "json: a reference that is no JSON Pointer");
    struct pointer walk;
    pointer_begin(&walk, path, size);
    evh_status status = pointer_step(&walk);
    while (!status) {
        for (int hops = 0; !status && at->slot.type == JSON_REF; hops++) {
            status = ref_hop(json, stack, at, blocker);
            if (hops == JSON_HOPS_MAX)
                status = base_fail(EVH_CYCLE, NO_OFFSET, "json: references that lead in a ring");
        }
        if (status) break;
        status = path_step(json, at, walk.token, walk.token_size, true);
        if (status == EVH_NOT_FOUND)
            status =
                base_fail(EVH_DANGLING, NO_OFFSET, "json: a reference to %.*s, where nothing is",
                          size < 200 ? (int)size : 200, path);
        if (!status) status = pointer_step(&walk);
    }
    pointer_end(&walk);
    return status == EVH_NOT_FOUND ? EVH_OK : status;
}

static evh_status ref_resolve(struct evh_json *json, uint32_t number, struct json_step *target)
{
    assert(number != 0);
    struct ref_stack stack = {.count = 1};
    stack.numbers[0] = number;
    while (!stack.is_done[0]) {
        uint32_t top = stack.count;
        while (top > 0 && stack.is_done[top - 1]) top--;
        top--;
        struct json_ref *ref = ref_peek(json, stack.numbers[top]);
        uint64_t size = 0;
        const char *path = ref ? blob_of(json, ref->path, &size) : NULL;
        if (!path) return EVH_CORRUPT;
        uint32_t blocker = 0;
        const evh_status status = ref_walk(json, &stack, path, size, &stack.targets[top], &blocker);
        if (status == EVH_BUSY) {
            if (stack.count == JSON_HOPS_MAX)
                return base_fail(EVH_CYCLE, NO_OFFSET, "json: more than %d references in a row",
                                 JSON_HOPS_MAX);
            stack.is_done[stack.count] = false;
            stack.numbers[stack.count++] = blocker;
            continue;
        }
        if (status) return status;
        stack.is_done[top] = true;
        ref_remember(json, stack.numbers[top], ref, &stack.targets[top]);
    }
    *target = stack.targets[0];
    return EVH_OK;
}

evh_status ref_step(struct evh_json *json, const struct json_slot *slot, struct json_step *target)
{
    assert(slot->type == JSON_REF);
    assert(target != NULL);
    const struct json_ref *ref = ref_of(json, slot);
    if (!ref) return EVH_CORRUPT;
    if (LIKELY(ref_target(json, ref, target))) return EVH_OK;
    return ref_resolve(json, slot->id, target);
}

evh_value ref_value(struct evh_json *json, uint32_t number)
{
    const struct json_ref *ref = ref_peek(json, number);
    const struct json_container *owner = ref ? container_peek(json, ref->owner) : NULL;
    if (!owner) return value_none();
    uint32_t position = 0;
    if (!container_seek(json, owner, ref->owner, 1u << JSON_REF, json_offset(json, ref), &position))
        return value_none();
    return (evh_value){ref->owner, owner->serial, position};
}

evh_status evh_json_resolve(evh_json *json, size_t *loose)
{
    const evh_status status = json_ready(json);
    if (status) return status;
    size_t count = 0;
    for (uint32_t number = 1; number < json->root->refs.fresh; number++) {
        const struct json_ref *ref = ref_peek(json, number);
        if (!ref) continue;
        struct json_step target = {
            .slot = {.type = JSON_REF, .id = number, .payload = json_offset(json, ref)}};
        const evh_status followed = value_follow(json, &target);
        if (followed == EVH_CORRUPT) return followed;
        if (followed) count++;
    }
    if (loose) *loose = count;
    return EVH_OK;
}
