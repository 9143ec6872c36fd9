/* edit.c -- changing a document: every call makes what it needs before it changes anything. */
#include "json/json.h"

enum { EDIT_KEEP_BYTES = 64 }; /* places of strings that are not given up for shorter ones */

/* ---- freeing ---- */

/* Free what a slot that is no container owns. */
static void value_free_leaf(struct evh_json *json, const struct json_slot *slot)
{
    assert(slot->type != JSON_ARRAY);
    assert(slot->type != JSON_OBJECT);
    uint64_t size = 0;
    if (slot->type == JSON_STRING) (void)text_free(json, slot);
    if (slot->type == JSON_REF) ref_free(json, slot);
    if (slot->type != JSON_DIGITS && slot->type != JSON_BYTES) return;
    if (!blob_of(json, slot->payload, &size)) return;
    if (slot->type == JSON_BYTES) json->root->blob_bytes -= size;
    (void)json_free(json, slot->payload);
}

/* Free the values of a container; those that are containers are put before `chain`, a list by their
 * parents' numbers. Returns the list. */
static uint32_t value_free_values(struct evh_json *json, const struct json_container *container,
                                  uint32_t chain)
{
    struct json_span span;
    for (uint32_t done = 0; container_span(json, container, done, &span); done += span.count) {
        for (uint32_t i = 0; i < span.count; i++) {
            const struct json_slot *slot = span.slots + i;
            json_count(json, slot, -1);
            if (span.keys) key_release(json, span.keys[i]);
            if (slot->type != JSON_ARRAY && slot->type != JSON_OBJECT) {
                value_free_leaf(json, slot);
                continue;
            }
            struct json_container *below = container_in(json, slot);
            if (!below || container_peek(json, slot->id) != below) continue; /* damage: leaks */
            below->parent = chain;
            chain = slot->id;
        }
    }
    return chain;
}

void value_free(struct evh_json *json, const struct json_slot *slot)
{
    json_count(json, slot, -1);
    if (slot->type != JSON_ARRAY && slot->type != JSON_OBJECT) {
        value_free_leaf(json, slot);
        return;
    }
    struct json_container *container = container_in(json, slot);
    if (!container || container_peek(json, slot->id) != container) return;
    container->parent = 0;
    uint32_t chain = slot->id;
    while (chain) { /* each step ends a container: a ring ends too */
        container = container_peek(json, chain);
        if (!container) return;
        const uint32_t number = chain;
        chain = value_free_values(json, container, container->parent);
        ref_loosen(json, container);
        container_clear(json, container);
        container_end(json, number, container);
    }
}

/* ---- putting ---- */

void value_adopt(struct evh_json *json, const struct json_slot *slot, uint32_t owner)
{
    assert(slot != NULL);
    assert(owner != 0);
    if (slot->type == JSON_STRING) text_own(json, slot, owner);
    if (slot->type == JSON_REF) {
        struct json_ref *ref = ref_of(json, slot);
        if (ref) ref->owner = owner;
    }
    if (slot->type != JSON_ARRAY && slot->type != JSON_OBJECT) return;
    struct json_container *container = container_in(json, slot);
    if (container) container->parent = owner;
}

void value_replace(struct evh_json *json, const struct json_place *place,
                   const struct json_slot *slot)
{
    assert(place->slot != NULL);
    const struct json_slot old = *place->slot;
    json_observe(json, place->number, place->position);
    *place->slot = *slot;
    json_count(json, slot, 1);
    value_free(json, &old);
}

static evh_status edit_check_text(const char *text, size_t size)
{
    if (!text && size) return base_fail(EVH_INVALID, NO_OFFSET, "json: no text");
    const char *bad = text ? utf8_check(text, text + size) : NULL;
    if (!text || bad == text + size) return EVH_OK;
    return base_fail(EVH_SYNTAX, NO_OFFSET, "json: text that is not UTF-8, from byte %zu on",
                     (size_t)(bad - text));
}

/* Begin to set `value`: its place. */
static evh_status edit_begin(struct evh_json *json, evh_value value, struct json_place *place)
{
    assert(place != NULL);
    const evh_status status = json_writable(json);
    return status ? status : value_place(json, value, place);
}

/* The same for a change by `text`, which has to be UTF-8. */
static evh_status edit_begin_text(struct evh_json *json, evh_value value, const char *text,
                                  size_t size, struct json_place *place)
{
    const evh_status status = edit_check_text(text, size);
    return status ? status : edit_begin(json, value, place);
}

static evh_status edit_set(struct evh_json *json, evh_value value, const struct json_slot *slot)
{
    assert(slot->type < JSON_STRING);
    struct json_place place;
    const evh_status status = edit_begin(json, value, &place);
    if (status) return status;
    value_replace(json, &place, slot);
    return EVH_OK;
}

evh_status evh_json_set_null(evh_json *json, evh_value value)
{
    return edit_set(json, value, &(struct json_slot){.type = JSON_NULL});
}

evh_status evh_json_set_boolean(evh_json *json, evh_value value, bool boolean)
{
    return edit_set(json, value, &(struct json_slot){.type = JSON_BOOLEAN, .payload = boolean});
}

evh_status evh_json_set_integer(evh_json *json, evh_value value, int64_t integer)
{
    return edit_set(json, value,
                    &(struct json_slot){.type = JSON_INTEGER, .payload = (uint64_t)integer});
}

evh_status evh_json_set_unsigned(evh_json *json, evh_value value, uint64_t natural)
{
    const uint8_t type = natural > INT64_MAX ? JSON_UNSIGNED : JSON_INTEGER;
    return edit_set(json, value, &(struct json_slot){.type = type, .payload = natural});
}

evh_status evh_json_set_real(evh_json *json, evh_value value, double real)
{
    struct json_slot slot = {.type = JSON_REAL};
    memcpy(&slot.payload, &real, sizeof real);
    if ((slot.payload >> 52 & 0x7ff) == 0x7ff)
        return base_fail(EVH_INVALID, NO_OFFSET, "json: a number that is not finite");
    return edit_set(json, value, &slot);
}

evh_status evh_json_set_number(evh_json *json, evh_value value, const char *text, size_t size)
{
    struct number number;
    enum number_fault fault = NUMBER_NO_DIGIT;
    const char *stop = text;
    if (text) stop = number_read(text, text + size, &number, &fault);
    if (fault || stop != text + size)
        return base_fail(EVH_SYNTAX, NO_OFFSET, "json: \"%.*s\" is no number",
                         text ? (int)base_min(size, 100) : 0, text ? text : "");
    struct json_place place;
    const evh_status status = edit_begin(json, value, &place);
    if (status) return status;
    struct json_slot slot = {.payload = number.natural};
    static const uint8_t types[] = {JSON_INTEGER, JSON_UNSIGNED, JSON_REAL, JSON_DIGITS};
    assert(number.kind < sizeof types);
    slot.type = types[number.kind];
    if (number.kind == NUMBER_REAL && number.is_plain) slot.flags = JSON_NO_POINT;
    if (number.kind == NUMBER_DIGITS) {
        slot.payload = blob_make(json, text, size);
        if (!slot.payload) return evh_last_error()->status;
    }
    value_replace(json, &place, &slot);
    return EVH_OK;
}

/* ---- strings and bytes ---- */

evh_status evh_json_set_text(evh_json *json, evh_value value, const char *text, size_t size)
{
    struct json_place place;
    evh_status status = edit_begin_text(json, value, text, size, &place);
    if (status) return status;
    if (!text) text = "";
    if (place.slot->type == JSON_STRING) {
        const uint64_t capacity = text_capacity(json, place.slot);
        /* In place, unless more than half of a large place would be left over. */
        if (size <= capacity && (capacity < EDIT_KEEP_BYTES || size >= capacity / 2)) {
            json_observe(json, place.number, place.position);
            assert(size <= JSON_TEXT_SMALL_MAX || place.slot->flags & JSON_TEXT_IS_LARGE);
            memmove(json->heap->view.base + place.slot->payload, text, size);
            text_resize(json, place.slot, size);
            return EVH_OK;
        }
    }
    struct json_slot slot;
    status = text_make(json, place.number, text, size, &slot, NULL);
    if (status) return status;
    value_replace(json, &place, &slot);
    return EVH_OK;
}

evh_status evh_json_append_text(evh_json *json, evh_value string, const char *text, size_t size)
{
    struct json_place place;
    evh_status status = edit_begin_text(json, string, text, size, &place);
    if (status) return status;
    if (place.slot->type != JSON_STRING)
        return base_fail(EVH_INVALID, NO_OFFSET, "json: %s where a string is needed",
                         evh_json_type_name((evh_json_type)place.slot->type));
    if (size == 0) return EVH_OK;
    uint64_t old_size = 0;
    const char *old = text_of(json, place.slot, &old_size);
    if (!old) return EVH_CORRUPT;
    uint64_t total = 0;
    if (!base_add(old_size, size, &total)) return base_fail(EVH_LIMIT, NO_OFFSET, "json: too long");
    if (total <= text_capacity(json, place.slot)) {
        json_observe(json, place.number, place.position);
        memmove(json->heap->view.base + place.slot->payload + old_size, text, size);
        text_resize(json, place.slot, total);
        return EVH_OK;
    }
    /* Room for as much again, so that appending stays constant per byte. */
    const uint64_t room_bytes = total + total / 2;
    struct json_slot slot;
    char *room = NULL;
    status = text_make(json, place.number, NULL, room_bytes, &slot, &room);
    if (status) return status;
    assert(room != NULL);
    assert(room_bytes >= total);
    memcpy(room, old, old_size);
    memcpy(room + old_size, text, size);
    text_resize(json, &slot, total);
    value_replace(json, &place, &slot);
    return EVH_OK;
}

evh_status evh_json_set_bytes(evh_json *json, evh_value value, const void *bytes, size_t size)
{
    if (!bytes && size) return base_fail(EVH_INVALID, NO_OFFSET, "json: no bytes");
    struct json_place place;
    const evh_status status = edit_begin(json, value, &place);
    if (status) return status;
    const struct json_slot slot = {.type = JSON_BYTES, .payload = blob_make(json, bytes, size)};
    if (!slot.payload) return evh_last_error()->status;
    json->root->blob_bytes += size;
    value_replace(json, &place, &slot);
    return EVH_OK;
}

evh_status evh_json_set_ref(evh_json *json, evh_value value, const char *pointer, size_t size)
{
    size_t fault = 0;
    if (!pointer || !pointer_check(pointer, size, &fault))
        return base_fail(EVH_SYNTAX, NO_OFFSET, "json: a reference that is no JSON Pointer");
    struct json_place place;
    evh_status status = edit_begin_text(json, value, pointer, size, &place);
    if (status) return status;
    struct json_slot slot;
    status = ref_make(json, place.number, pointer, size, &slot);
    if (status) return status;
    value_replace(json, &place, &slot);
    return EVH_OK;
}

/* ---- containers ---- */

static evh_status edit_set_container(struct evh_json *json, evh_value value, uint32_t kind)
{
    assert(kind == JSON_KIND_ARRAY || kind == JSON_KIND_OBJECT);
    struct json_place place;
    const evh_status status = edit_begin(json, value, &place);
    if (status) return status;
    struct json_container *container = NULL;
    if (place.slot->type == kind) { /* the same one, emptied: its name and its refs stay */
        container = container_in(json, place.slot);
        if (!container) return EVH_CORRUPT;
        json_observe(json, place.slot->id, JSON_ALL);
        uint32_t chain = value_free_values(json, container, 0);
        while (chain) {
            struct json_container *below = container_peek(json, chain);
            if (!below) break;
            const uint32_t next = below->parent;
            const struct json_slot slot = {
                .type = below->kind, .id = chain, .payload = json_offset(json, below)};
            json_count(json, &slot, 1); /* it was counted off, and will be again */
            value_free(json, &slot);
            chain = next;
        }
        container_clear(json, container);
        assert(container->count == 0);
        return EVH_OK;
    }
    const uint32_t number = container_make(json, kind, place.number, &container);
    if (!number) return evh_last_error()->status;
    assert(container->count == 0);
    assert(container->parent == place.number);
    const struct json_slot slot = {
        .type = (uint8_t)kind, .id = number, .payload = json_offset(json, container)};
    value_replace(json, &place, &slot);
    return EVH_OK;
}

evh_status evh_json_set_array(evh_json *json, evh_value value)
{
    return edit_set_container(json, value, JSON_KIND_ARRAY);
}

evh_status evh_json_set_object(evh_json *json, evh_value value)
{
    return edit_set_container(json, value, JSON_KIND_OBJECT);
}

evh_status evh_json_insert(evh_json *json, evh_value array, size_t position, evh_value *item)
{
    const evh_status status = json_writable(json);
    if (status) return status;
    uint32_t number = 0;
    struct json_container *found = value_container(json, array, 1 << JSON_KIND_ARRAY, &number);
    if (!found) return evh_last_error()->status;
    if (position > found->count)
        return base_fail(EVH_INVALID, NO_OFFSET, "json: item %zu of an array of %u", position,
                         found->count);
    const struct json_slot null = {.type = JSON_NULL};
    const evh_status inserted = container_insert(json, found, number, (uint32_t)position, 0, &null);
    if (inserted) return inserted;
    json_observe(json, number, (uint32_t)position);
    json_count(json, &null, 1);
    assert(found->count > position);
    if (item) *item = (evh_value){number, found->serial, position};
    return EVH_OK;
}

evh_status evh_json_append(evh_json *json, evh_value array, evh_value *item)
{
    const evh_status status = json_writable(json);
    if (status) return status;
    const struct json_container *found = value_container(json, array, 1 << JSON_KIND_ARRAY, NULL);
    return found ? evh_json_insert(json, array, found->count, item) : evh_last_error()->status;
}

evh_status evh_json_put(evh_json *json, evh_value object, const char *key, size_t size,
                        evh_value *member)
{
    evh_status status = edit_check_text(key, size);
    if (!status) status = json_writable(json);
    if (status) return status;
    uint32_t number = 0;
    struct json_container *found = value_container(json, object, 1 << JSON_KIND_OBJECT, &number);
    if (!found) return evh_last_error()->status;
    const uint32_t symbol = key_intern(json, key ? key : "", size);
    if (!symbol) return evh_last_error()->status;
    uint32_t position = 0;
    const struct json_slot *slot = object_find(json, found, symbol, &position);
    if (slot) {
        key_release(json, symbol);
        if (member) *member = value_of(json, number, position, slot);
        return EVH_OK;
    }
    const struct json_slot null = {.type = JSON_NULL};
    position = found->count;
    status = container_insert(json, found, number, position, symbol, &null);
    if (status) {
        key_release(json, symbol);
        return status;
    }
    json_observe(json, number, position);
    json_count(json, &null, 1);
    assert(found->count > position);
    if (member) *member = (evh_value){number, found->serial, position};
    return EVH_OK;
}

evh_status evh_json_rename(evh_json *json, evh_value member, const char *key, size_t size)
{
    struct json_place place;
    evh_status status = edit_begin_text(json, member, key, size, &place);
    if (status) return status;
    if (place.holder->kind != JSON_KIND_OBJECT)
        return base_fail(EVH_INVALID, NO_OFFSET, "json: a value without a key");
    struct json_span span;
    if (!container_span(json, place.holder, place.position, &span)) return EVH_CORRUPT;
    const uint32_t old = span.keys[0];
    const uint32_t symbol = key_intern(json, key ? key : "", size);
    if (!symbol) return evh_last_error()->status;
    if (symbol == old) {
        key_release(json, symbol);
        return EVH_OK;
    }
    if (object_find(json, place.holder, symbol, NULL))
        status = base_fail(EVH_EXISTS, NO_OFFSET, "json: the object has that key already");
    if (!status) {
        json_observe(json, place.number, place.position);
        status = object_rename(json, place.holder, place.position, symbol);
    }
    if (!status) json_observe(json, place.number, place.position);
    key_release(json, status ? symbol : old);
    return status;
}

evh_status evh_json_erase(evh_json *json, evh_value value)
{
    struct json_place place;
    evh_status status = edit_begin(json, value, &place);
    if (status) return status;
    if (place.holder->kind == JSON_KIND_HOLDER) {
        if (place.number == json->root->document)
            return edit_set(json, value, &(struct json_slot){.type = JSON_NULL});
        const struct json_slot slot = *place.slot;
        container_clear(json, place.holder);
        container_end(json, place.number, place.holder);
        value_free(json, &slot);
        return EVH_OK;
    }
    uint32_t key = 0;
    struct json_slot slot;
    json_observe(json, place.number, place.position);
    status = container_remove(json, place.holder, place.number, place.position, &key, &slot);
    if (status) return status;
    if (key) key_release(json, key);
    value_free(json, &slot);
    return EVH_OK;
}

evh_status evh_json_move(evh_json *json, evh_value target, evh_value source)
{
    struct json_place from;
    struct json_place to;
    evh_status status = edit_begin(json, source, &from);
    if (!status) status = value_place(json, target, &to);
    if (status) return status;
    if (from.slot == to.slot) return EVH_OK;
    assert(from.number != to.number || from.position != to.position);
    const struct json_slot moved = *from.slot;
    if ((moved.type == JSON_ARRAY || moved.type == JSON_OBJECT) &&
        container_is_inside(json, to.number, moved.id))
        return base_fail(EVH_INVALID, NO_OFFSET, "json: a value cannot be moved into itself");
    const struct json_slot null = {.type = JSON_NULL};
    json_observe(json, from.number, from.position);
    json_observe(json, to.number, to.position);
    *from.slot = null;
    json_count(json, &null, 1);
    const struct json_slot old = *to.slot;
    *to.slot = moved;
    value_adopt(json, &moved, to.number);
    value_free(json, &old);
    return EVH_OK;
}

evh_status evh_json_copy(evh_json *json, evh_value target, evh_value source)
{
    struct json_place place;
    struct json_slot slot;
    evh_status status = edit_begin(json, target, &place);
    if (!status) status = value_load(json, source, &slot);
    if (status) return status;
    struct json_slot copy;
    status = value_copy(json, &slot, place.number, &copy);
    if (status) return status;
    json_count(json, &copy, -1); /* value_replace() counts it */
    value_replace(json, &place, &copy);
    return EVH_OK;
}
