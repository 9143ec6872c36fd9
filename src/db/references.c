/* references.c -- which references lead to a value, and which lead nowhere. */
#include "db/db.h"

evh_status evh_db_referrers(evh_db *db, evh_value container, evh_db_reference *visit, void *context)
{
    if (!db || !visit) return base_fail(EVH_INVALID, NO_OFFSET, "db: nobody to tell");
    struct evh_json *json = db->json;
    evh_status status = heap_writable(json->heap) ? EVH_OK : evh_json_resolve(json, NULL);
    if (status) return status;
    if (json_ready(json)) return evh_last_error()->status;
    const struct json_container *target = value_container(json, container, JSON_KINDS_BOTH, NULL);
    if (!target) return evh_last_error()->status;
    assert(target->kind != JSON_KIND_HOLDER);
    uint32_t number = target->first_ref;
    const uint32_t limit = json->root->refs.fresh;
    for (uint32_t i = 0; number && i < limit; i++) {
        const struct json_ref *ref = cell_at(json, &json->root->refs, number, JSON_REF_SHIFT);
        const evh_value value = ref_value(json, number);
        if (!ref || !evh_json_is(value))
            return json_corrupt(json_offset(json, target), "a reference that is nowhere");
        if (!visit(value, EVH_OK, context)) return EVH_OK;
        number = ref->next;
    }
    return EVH_OK;
}

evh_status evh_db_references_check(evh_db *db, bool only_bad, evh_db_reference *visit,
                                   void *context)
{
    if (!db || !visit) return base_fail(EVH_INVALID, NO_OFFSET, "db: nobody to tell");
    struct evh_json *json = db->json;
    const evh_status status = json_ready(json);
    if (status) return status;
    for (uint32_t number = 1; number < json->root->refs.fresh; number++) {
        const struct json_ref *ref = cell_at(json, &json->root->refs, number, JSON_REF_SHIFT);
        if (!ref || ref->state == JSON_REF_FREE) continue;
        struct json_step at = {
            .slot = {.type = JSON_REF, .id = number, .payload = json_offset(json, ref)}};
        const evh_status followed = value_follow(json, &at);
        if (followed && followed != EVH_DANGLING && followed != EVH_CYCLE) return followed;
        if (!followed) assert(at.slot.type != JSON_REF);
        if (only_bad && !followed) continue;
        const evh_value value = ref_value(json, number);
        if (!evh_json_is(value))
            return json_corrupt(json_offset(json, ref), "a reference that is nowhere");
        if (!visit(value, followed, context)) return EVH_OK;
    }
    return EVH_OK;
}
