/* undo.c -- a list of small changes, each with what takes it back.
 *
 * What a change removes is kept until all of them have succeeded, so that taking back needs no
 * copies. Bodies keep their room meanwhile, so that taking back allocates only pages that were
 * freed.
 */
#include "json/undo.h"
#include "os/os.h"

static evh_status undo_room(struct undo *undo)
{
    assert(undo->count <= undo->capacity);
    const struct json_observer *observer = undo->json->observer;
    if (undo->count == 0 && observer) undo->observed = observer->count;
    if (undo->count < undo->capacity) return EVH_OK;
    void *grown = json_grow(undo->steps, &undo->capacity, sizeof *undo->steps);
    if (grown) undo->steps = grown;
    return grown ? EVH_OK : EVH_NO_MEMORY;
}

evh_status undo_insert(struct undo *undo, uint32_t number, uint32_t position, uint32_t key,
                       const struct json_slot *slot)
{
    struct json_container *container = container_of(undo->json, number);
    if (!container) return EVH_CORRUPT;
    evh_status status = undo_room(undo);
    if (!status) status = container_insert(undo->json, container, number, position, key, slot);
    if (status) return status;
    json_observe(undo->json, number, position);
    undo->steps[undo->count++] =
        (struct undo_step){.kind = UNDO_INSERTED, .number = number, .position = position};
    return EVH_OK;
}

evh_status undo_remove(struct undo *undo, uint32_t number, uint32_t position)
{
    struct json_container *container = container_of(undo->json, number);
    if (!container) return EVH_CORRUPT;
    struct undo_step step = {.kind = UNDO_REMOVED, .number = number, .position = position};
    evh_status status = undo_room(undo);
    if (!status) json_observe(undo->json, number, position);
    if (!status)
        status = container_remove(undo->json, container, number, position, &step.key, &step.slot);
    if (status) return status;
    assert(undo->count < undo->capacity);
    undo->steps[undo->count++] = step;
    return EVH_OK;
}

evh_status undo_replace(struct undo *undo, uint32_t number, uint32_t position,
                        const struct json_slot *slot)
{
    const struct json_container *container = container_of(undo->json, number);
    struct json_slot *place = container ? container_slot(undo->json, container, position) : NULL;
    if (!place) return EVH_CORRUPT;
    const evh_status status = undo_room(undo);
    if (status) return status;
    json_observe(undo->json, number, position);
    undo->steps[undo->count++] = (struct undo_step){
        .kind = UNDO_REPLACED, .number = number, .position = position, .slot = *place};
    *place = *slot;
    return EVH_OK;
}

void undo_keep(struct undo *undo)
{
    assert(undo->json->keeps_room);
    for (size_t i = 0; i < undo->count; i++) {
        const struct undo_step *step = undo->steps + i;
        if (step->kind == UNDO_INSERTED) continue;
        if (step->key) key_release(undo->json, step->key);
        if (!step->is_moved) value_free(undo->json, &step->slot);
    }
    os->memory_free(undo->steps);
    undo->steps = NULL;
}

void undo_take_back(struct undo *undo)
{
    assert(undo->json->keeps_room);
    struct evh_json *json = undo->json;
    const evh_error error = *evh_last_error();
    if (undo->count > 0 && json->observer) json->observer->count = undo->observed;
    while (undo->count > 0) {
        const struct undo_step step = undo->steps[--undo->count];
        struct json_container *container = container_of(json, step.number);
        if (!container) break;
        uint32_t key = 0;
        struct json_slot slot = {.type = JSON_NONE};
        if (step.kind == UNDO_INSERTED) {
            if (container_remove(json, container, step.number, step.position, &key, &slot)) break;
            if (key) key_release(json, key);
        } else if (step.kind == UNDO_REMOVED) {
            if (container_insert(json, container, step.number, step.position, step.key, &step.slot))
                break;
            value_adopt(json, &step.slot, step.number);
            continue;
        } else {
            struct json_slot *place = container_slot(json, container, step.position);
            if (!place) break;
            slot = *place;
            *place = step.slot;
            value_adopt(json, &step.slot, step.number);
        }
        if (!step.is_moved_in) value_free(json, &slot);
    }
    os->memory_free(undo->steps);
    undo->steps = NULL;
    (void)base_fail(error.status, error.offset, "%s", error.message);
}
