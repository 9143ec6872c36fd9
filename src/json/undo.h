/* undo.h -- changes that are taken back if one of them fails. */
#ifndef EVERHEAP_JSON_UNDO_H
#define EVERHEAP_JSON_UNDO_H

#include "json/json.h"

enum undo_kind { UNDO_INSERTED, UNDO_REMOVED, UNDO_REPLACED };

struct undo_step {
    enum undo_kind kind;
    uint32_t number; /* of the container */
    uint32_t position;
    uint32_t key;          /* of what was removed */
    bool is_moved;         /* what was there is elsewhere now, by the step behind this one */
    bool is_moved_in;      /* what came is what the step before this one took out */
    struct json_slot slot; /* what was there: kept until the end */
};

struct undo {
    struct evh_json *json;
    struct undo_step *steps; /* owned */
    size_t count, capacity;
};

/** Put a value in, take one out, put one in the place of another. A value that was put in belongs
 *  to the container; its key has its reference already. Nothing has changed after a failure. */
EVH_INTERNAL evh_status undo_insert(struct undo *undo, uint32_t number, uint32_t position,
                                    uint32_t key, const struct json_slot *slot);
EVH_INTERNAL evh_status undo_remove(struct undo *undo, uint32_t number, uint32_t position);
EVH_INTERNAL evh_status undo_replace(struct undo *undo, uint32_t number, uint32_t position,
                                     const struct json_slot *slot);

/** End: keep the changes, freeing what they replaced; or take them back. */
EVH_INTERNAL void undo_keep(struct undo *undo);
EVH_INTERNAL void undo_take_back(struct undo *undo);

#endif
