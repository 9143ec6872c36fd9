/* value.c -- what values are, and where: names of values, reading, going up and down. */
#include "json/json.h"

#include <everheap/json_query.h>

/* ---- names and places ---- */

evh_value value_of_container(uint32_t number, const struct json_container *container)
{
    assert(container != NULL);
    const evh_value value = {number, container->serial, JSON_SELF};
    return number ? value : value_none();
}

evh_value value_of(struct evh_json *json, uint32_t number, uint32_t position,
                   const struct json_slot *slot)
{
    assert(slot != NULL);
    if (slot->type == JSON_ARRAY || slot->type == JSON_OBJECT) {
        const struct json_container *container = container_in(json, slot);
        return container ? value_of_container(slot->id, container) : value_none();
    }
    const struct json_container *holder = container_peek(json, number);
    if (!holder) return value_none();
    const evh_value value = {number, holder->serial, position};
    return value;
}

evh_value value_of_step(struct evh_json *json, const struct json_step *at)
{
    return value_of(json, at->number, at->position, &at->slot);
}

static evh_status value_absent(void)
{
    return base_fail(EVH_NOT_FOUND, NO_OFFSET, "json: no such value");
}

/* The container that a name's number and serial mean. */
static inline struct json_container *value_cell(struct evh_json *json, evh_value value)
{
    struct json_container *container = container_peek(json, value.container);
    return container && container->serial == value.serial ? container : NULL;
}

evh_status value_load(struct evh_json *json, evh_value value, struct json_slot *slot)
{
    assert(slot != NULL);
    struct json_container *container = value_cell(json, value);
    if (!container) return value_absent();
    if (value.position == JSON_SELF) {
        *slot = (struct json_slot){.type = container->kind,
                                   .id = value.container,
                                   .payload = json_offset(json, container)};
        return EVH_OK;
    }
    if (value.position >= container->count) return value_absent();
    const struct json_slot *found = container_slot(json, container, (uint32_t)value.position);
    if (!found) return EVH_CORRUPT;
    *slot = *found;
    return EVH_OK;
}

bool value_position(struct evh_json *json, uint32_t number, uint32_t parent, uint32_t *position)
{
    assert(position != NULL);
    const struct json_container *holder = container_peek(json, parent);
    if (!holder) {
        (void)json_corrupt(NO_OFFSET, "a container without its parent");
        return false;
    }
    const struct json_container *container = container_peek(json, number);
    if (container && container_seek(json, holder, parent, JSON_KINDS_BOTH,
                                    json_offset(json, container), position))
        return true;
    (void)json_corrupt(json_offset(json, holder), "a container that its parent lacks");
    return false;
}

evh_status value_place(struct evh_json *json, evh_value value, struct json_place *place)
{
    assert(place != NULL);
    struct json_container *container = value_cell(json, value);
    if (!container) return value_absent();
    place->holder = container;
    place->number = value.container;
    place->position = (uint32_t)value.position;
    if (value.position == JSON_SELF) {
        place->number = container->parent;
        if (!value_position(json, value.container, container->parent, &place->position))
            return EVH_CORRUPT;
        place->holder = container_peek(json, place->number);
    } else if (value.position >= container->count) {
        return value_absent();
    }
    assert(place->holder != NULL);
    place->slot = container_slot(json, place->holder, place->position);
    return place->slot ? EVH_OK : EVH_CORRUPT;
}

struct json_container *value_container(struct evh_json *json, evh_value value, uint32_t kinds,
                                       uint32_t *number)
{
    assert(kinds != 0);
    struct json_slot slot;
    if (value_load(json, value, &slot)) return NULL;
    if (slot.type > JSON_OBJECT || !(kinds & 1u << slot.type) || slot.type < JSON_ARRAY) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "json: %s where %s is needed",
                        evh_json_type_name((evh_json_type)slot.type),
                        kinds == JSON_KINDS_BOTH        ? "an array or object"
                        : kinds == 1 << JSON_KIND_ARRAY ? "an array"
                                                        : "an object");
        return NULL;
    }
    if (number) *number = slot.id;
    return container_in(json, &slot);
}

/* ---- reading ---- */

evh_json_type evh_json_type_of(evh_json *json, evh_value value)
{
    struct json_slot slot;
    if (json_ready(json) || value_load(json, value, &slot)) return EVH_JSON_NONE;
    return slot.type < JSON_TYPE_COUNT ? (evh_json_type)slot.type : EVH_JSON_NONE;
}

const char *evh_json_type_name(evh_json_type type)
{
    static const char *const names[JSON_TYPE_COUNT] = {"none",     "null",  "boolean", "integer",
                                                       "unsigned", "real",  "digits",  "string",
                                                       "bytes",    "array", "object",  "ref"};
    return (unsigned)type < JSON_TYPE_COUNT ? names[type] : "?";
}

static_assert((int)EVH_JSON_REF == (int)JSON_REF, "the public types are those on disk");

size_t evh_json_count(evh_json *json, evh_value value)
{
    struct json_slot slot;
    if (json_ready(json) || value_load(json, value, &slot)) return 0;
    if (slot.type != JSON_ARRAY && slot.type != JSON_OBJECT) return 0;
    const struct json_container *container = container_in(json, &slot);
    return container ? container->count : 0;
}

bool evh_json_boolean(evh_json *json, evh_value value, bool *exact)
{
    struct json_slot slot = {0};
    const bool is_boolean =
        !json_ready(json) && !value_load(json, value, &slot) && slot.type == JSON_BOOLEAN;
    if (exact) *exact = is_boolean;
    return is_boolean && slot.payload != 0;
}

/* A number as a double; `*exact` whether it is one. */
static double value_real(struct evh_json *json, const struct json_slot *slot, bool *exact)
{
    assert(exact != NULL);
    double real = 0;
    *exact = true;
    if (slot->type == JSON_REAL) {
        memcpy(&real, &slot->payload, sizeof real);
        return real;
    }
    if (slot->type == JSON_INTEGER) {
        const int64_t integer = (int64_t)slot->payload;
        real = (double)integer;
        *exact = real < 9223372036854775808.0 && (int64_t)real == integer;
        return real;
    }
    if (slot->type == JSON_UNSIGNED) {
        real = (double)slot->payload;
        *exact = real < 18446744073709551616.0 && (uint64_t)real == slot->payload;
        return real;
    }
    *exact = false;
    uint64_t size = 0;
    const char *digits = NULL;
    if (slot->type == JSON_DIGITS) digits = blob_of(json, slot->payload, &size);
    return digits ? number_as_real(digits, digits + size) : 0;
}

double evh_json_real(evh_json *json, evh_value value, bool *exact)
{
    struct json_slot slot;
    bool is_exact = false;
    double real = 0;
    if (!json_ready(json) && !value_load(json, value, &slot))
        real = value_real(json, &slot, &is_exact);
    if (exact) *exact = is_exact;
    return real;
}

int64_t evh_json_integer(evh_json *json, evh_value value, bool *exact)
{
    struct json_slot slot;
    bool is_exact = false;
    if (!exact) exact = &is_exact;
    *exact = false;
    if (json_ready(json) || value_load(json, value, &slot)) return 0;
    if (slot.type == JSON_INTEGER) {
        *exact = true;
        return (int64_t)slot.payload;
    }
    if (slot.type == JSON_UNSIGNED) return INT64_MAX;
    bool is_real = false;
    const double real = value_real(json, &slot, &is_real);
    if (real >= 9223372036854775808.0) return INT64_MAX;
    if (!(real >= -9223372036854775808.0)) return INT64_MIN;
    *exact = is_real && (double)(int64_t)real == real;
    return (int64_t)real;
}

uint64_t evh_json_unsigned(evh_json *json, evh_value value, bool *exact)
{
    struct json_slot slot;
    bool is_exact = false;
    if (!exact) exact = &is_exact;
    *exact = false;
    if (json_ready(json) || value_load(json, value, &slot)) return 0;
    if (slot.type == JSON_UNSIGNED || (slot.type == JSON_INTEGER && slot.payload <= INT64_MAX)) {
        *exact = true;
        return slot.payload;
    }
    bool is_real = false;
    const double real = value_real(json, &slot, &is_real);
    if (real >= 18446744073709551616.0) return UINT64_MAX;
    if (!(real > 0)) {
        *exact = is_real && real == 0;
        return 0;
    }
    *exact = is_real && (double)(uint64_t)real == real;
    return (uint64_t)real;
}

const char *evh_json_text(evh_json *json, evh_value value, size_t *size)
{
    struct json_slot slot;
    uint64_t bytes = 0;
    const char *text = NULL;
    if (!json_ready(json) && !value_load(json, value, &slot)) {
        if (slot.type == JSON_STRING) text = text_of(json, &slot, &bytes);
        if (slot.type == JSON_DIGITS) text = blob_of(json, slot.payload, &bytes);
        if (slot.type == JSON_REF) {
            const struct json_ref *ref = ref_of(json, &slot);
            if (ref) text = blob_of(json, ref->path, &bytes);
        }
    }
    if (size) *size = bytes;
    return text;
}

const void *evh_json_bytes(evh_json *json, evh_value value, size_t *size)
{
    struct json_slot slot;
    uint64_t bytes = 0;
    const void *found = NULL;
    if (!json_ready(json) && !value_load(json, value, &slot) && slot.type == JSON_BYTES)
        found = blob_of(json, slot.payload, &bytes);
    if (size) *size = bytes;
    return found;
}

/* ---- down ---- */

evh_value evh_json_at(evh_json *json, evh_value container, size_t position)
{
    if (json_ready(json)) return value_none();
    uint32_t number = 0;
    const struct json_container *found = value_container(json, container, JSON_KINDS_BOTH, &number);
    if (!found || position >= found->count) return value_none();
    const struct json_slot *slot = container_slot(json, found, (uint32_t)position);
    return slot ? value_of(json, number, (uint32_t)position, slot) : value_none();
}

evh_value evh_json_member(evh_json *json, evh_value object, const char *key, size_t size)
{
    if (json_ready(json)) return value_none();
    uint32_t number = 0;
    const struct json_container *found =
        value_container(json, object, 1 << JSON_KIND_OBJECT, &number);
    if (!found) return value_none();
    const uint32_t symbol = key_find(json, key, size);
    if (!symbol) return value_none();
    uint32_t position = 0;
    const struct json_slot *slot = object_find(json, found, symbol, &position);
    return slot ? value_of(json, number, position, slot) : value_none();
}

const char *evh_json_key(evh_json *json, evh_value object, size_t position, size_t *size)
{
    if (json_ready(json)) return NULL;
    const struct json_container *found = value_container(json, object, 1 << JSON_KIND_OBJECT, NULL);
    struct json_span span;
    if (!found || position >= found->count ||
        !container_span(json, found, (uint32_t)position, &span))
        return NULL;
    uint64_t bytes = 0;
    const char *text = key_text(json, span.keys[0], &bytes);
    if (size) *size = bytes;
    return text;
}

/* ---- up ---- */

evh_value evh_json_parent(evh_json *json, evh_value value)
{
    if (json_ready(json)) return value_none();
    const struct json_container *cell = value_cell(json, value);
    if (!cell) return value_none();
    uint32_t number = value.container;
    if (value.position == JSON_SELF) number = cell->parent;
    const struct json_container *parent = container_peek(json, number);
    if (!parent || parent->kind == JSON_KIND_HOLDER) return value_none();
    return value_of_container(number, parent);
}

size_t evh_json_position(evh_json *json, evh_value value)
{
    struct json_place place;
    if (json_ready(json) || value_place(json, value, &place)) return SIZE_MAX;
    return place.position;
}

/* Text that is written from its end, where it fits, and counted. */
struct value_text {
    char *buffer;
    size_t room, used;
};

static void value_put_back(struct value_text *text, const char *bytes, size_t size)
{
    if (text->room > 0) assert(text->buffer != NULL);
    for (size_t i = size; i-- > 0;) {
        if (text->used < text->room) text->buffer[text->room - 1 - text->used] = bytes[i];
        text->used++;
    }
}

/* A byte of a key in a JSON Pointer. */
static void value_put_pointer_byte(struct value_text *text, char byte)
{
    if (byte == '~') {
        value_put_back(text, "~0", 2);
    } else if (byte == '/') {
        value_put_back(text, "~1", 2);
    } else {
        value_put_back(text, &byte, 1);
    }
}

/* A byte of a key in a normalized path: RFC 9535, section 2.7. */
static void value_put_quoted_byte(struct value_text *text, char byte)
{
    char escaped[ESCAPE_BYTES_MAX] = {'\\', '\''};
    size_t size = 2;
    if (byte == '"' || (byte != '\'' && byte != '\\' && (unsigned char)byte >= 0x20)) {
        escaped[0] = byte;
        size = 1;
    } else if (byte != '\'') {
        size = escape_put(escaped, (unsigned char)byte);
    }
    value_put_back(text, escaped, size);
}

/* One step of a path, before what is there. */
static bool value_put_step(struct evh_json *json, const struct json_container *holder,
                           uint32_t position, bool is_normalized, struct value_text *text)
{
    if (holder->kind == JSON_KIND_ARRAY) {
        char digits[NUMBER_TEXT_MAX];
        if (is_normalized) value_put_back(text, "]", 1);
        value_put_back(text, digits, number_write_unsigned(digits, position));
        value_put_back(text, is_normalized ? "[" : "/", 1);
        return true;
    }
    struct json_span span;
    uint64_t size = 0;
    if (!container_span(json, holder, position, &span)) return false;
    const char *key = key_text(json, span.keys[0], &size);
    if (!key) return false;
    if (is_normalized) value_put_back(text, "']", 2);
    for (uint64_t i = size; i-- > 0;) {
        if (is_normalized) {
            value_put_quoted_byte(text, key[i]);
        } else {
            value_put_pointer_byte(text, key[i]);
        }
    }
    value_put_back(text, is_normalized ? "['" : "/", is_normalized ? 2 : 1);
    return true;
}

/* The path of a value, found upwards. */
static size_t value_path(struct evh_json *json, evh_value value, char *buffer, size_t size,
                         bool is_normalized)
{
    struct json_place place;
    if (json_ready(json) || value_place(json, value, &place)) return SIZE_MAX;
    struct value_text text = {buffer, size && buffer ? size - 1 : 0, 0};
    const uint32_t limit = json->root->containers.fresh; /* no chain of parents is longer */
    for (uint32_t level = 0; place.holder->kind != JSON_KIND_HOLDER; level++) {
        if (level > limit) {
            (void)json_corrupt(json_offset(json, place.holder), "containers in a ring");
            return SIZE_MAX;
        }
        if (!value_put_step(json, place.holder, place.position, is_normalized, &text))
            return SIZE_MAX;
        const evh_value up = value_of_container(place.number, place.holder);
        if (value_place(json, up, &place)) return SIZE_MAX;
    }
    if (is_normalized) value_put_back(&text, "$", 1);
    if (!buffer || size == 0) return text.used;
    const size_t kept = text.used < text.room ? text.used : text.room;
    memmove(buffer, buffer + text.room - kept, kept);
    buffer[kept] = 0;
    return text.used;
}

size_t evh_json_pointer(evh_json *json, evh_value value, char *buffer, size_t size)
{
    return value_path(json, value, buffer, size, false);
}

size_t evh_json_normalized_path(evh_json *json, evh_value value, char *buffer, size_t size)
{
    return value_path(json, value, buffer, size, true);
}
