/* container.c -- arrays and objects: cells that stay, and bodies that grow.
 *
 * Up to JSON_FLAT_MAX values the body is one block; beyond, a tree (pages.c). An object's members
 * are in the order in which they came. Up to 16 keys are looked through; more have a hash table of
 * positions beside them. Taking a member out moves the ones behind it and makes that table anew:
 * both are a few KiB at most.
 */
#include "json/json.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

struct container_flat {
    uint32_t *keys; /* objects */
    void *index;    /* objects of a larger capacity than JSON_SCAN_MAX */
    struct json_slot *slots;
    uint32_t index_mask;
    bool is_wide; /* the index: of uint16_t */
};

static uint32_t container_index_size(uint32_t capacity)
{
    if (capacity <= JSON_SCAN_MAX) return 0;
    return 2u << base_highest_bit(2 * (uint64_t)capacity - 1);
}

static inline bool container_is_wide(uint32_t capacity)
{
    return capacity > 255;
}

/* Bytes of keys and index, and of a whole body. */
static uint64_t container_keys_bytes(uint32_t kind, uint32_t capacity)
{
    return kind == JSON_KIND_OBJECT ? base_round_up(4ull * capacity, 16) : 0;
}

static uint64_t container_index_bytes(uint32_t kind, uint32_t capacity)
{
    if (kind != JSON_KIND_OBJECT) return 0;
    return (uint64_t)container_index_size(capacity) << container_is_wide(capacity);
}

static uint64_t container_body_bytes(uint32_t kind, uint32_t capacity)
{
    assert(capacity <= JSON_FLAT_MAX);
    return container_keys_bytes(kind, capacity) + container_index_bytes(kind, capacity) +
           16ull * capacity;
}

static void container_lay(void *body, uint32_t kind, uint32_t capacity, struct container_flat *flat)
{
    assert(body != NULL);
    assert(capacity <= JSON_FLAT_MAX);
    assert(flat != NULL);
    char *next = body;
    flat->keys = kind == JSON_KIND_OBJECT ? (uint32_t *)body : NULL;
    next += container_keys_bytes(kind, capacity);
    flat->index = next;
    const uint32_t size = container_index_size(capacity);
    flat->index_mask = kind == JSON_KIND_OBJECT && size ? size - 1 : 0;
    flat->is_wide = container_is_wide(capacity);
    next += container_index_bytes(kind, capacity);
    flat->slots = (struct json_slot *)(void *)next;
}

/* The parts of a flat body that has values. False on damage. */
static inline bool container_flat(const struct evh_json *json,
                                  const struct json_container *container,
                                  struct container_flat *flat)
{
    assert(flat != NULL);
    const uint32_t capacity = container->capacity;
    void *body = NULL;
    if (LIKELY(capacity <= JSON_FLAT_MAX && container->count <= capacity))
        body = json_at(json, container->body, container_body_bytes(container->kind, capacity));
    if (UNLIKELY(!body)) {
        (void)json_corrupt(container->body, "the body of a container outside the heap");
        return false;
    }
    container_lay(body, container->kind, capacity, flat);
    return true;
}

/* ---- cells ---- */

struct json_container *container_of(struct evh_json *json, uint32_t number)
{
    struct json_container *container = container_peek(json, number);
    if (!container) (void)json_corrupt(NO_OFFSET, "the number of a container that is none");
    return container;
}

bool container_is_inside(const struct evh_json *json, uint32_t number, uint32_t above)
{
    const uint32_t limit = json->root->containers.fresh; /* no chain of parents is longer */
    for (uint32_t level = 0; number && level <= limit; level++) {
        if (number == above) return true;
        const struct json_container *container = container_peek(json, number);
        if (!container) return false;
        number = container->parent;
    }
    return false;
}

uint32_t container_make(struct evh_json *json, uint32_t kind, uint32_t parent,
                        struct json_container **container)
{
    assert(kind != JSON_KIND_FREE);
    assert(container != NULL);
    void *cell = NULL;
    const uint32_t number = cell_take(json, &json->root->containers, JSON_CONTAINER_SHIFT, &cell);
    if (!number) return 0;
    *container = cell;
    const uint32_t serial = (*container)->serial + ((*container)->serial == 0);
    **container = (struct json_container){
        .serial = serial, .kind = (uint8_t)kind, .form = JSON_FLAT, .parent = parent};
    return number;
}

void container_end(struct evh_json *json, uint32_t number, struct json_container *container)
{
    assert(container->kind != JSON_KIND_FREE);
    assert(number != 0);
    struct json_cells *cells = &json->root->containers;
    *container = (struct json_container){
        .serial = container->serial + 1 + (container->serial == UINT32_MAX),
        .kind = JSON_KIND_FREE,
        .body = cells->free_first,
    };
    assert(container->serial != 0);
    cells->free_first = number;
    cells->used_count--;
}

/* ---- reading ---- */

bool container_span(struct evh_json *json, const struct json_container *container,
                    uint32_t position, struct json_span *span)
{
    assert(span != NULL);
    if (position >= container->count) return false;
    if (container->form == JSON_TREE) return json_tree_span(json, container, position, span);
    struct container_flat flat;
    if (!container_flat(json, container, &flat)) return false;
    span->slots = flat.slots + position;
    span->keys = flat.keys ? flat.keys + position : NULL;
    span->count = container->count - position;
    return true;
}

/* The same in [first, end) alone. */
static bool container_seek_in(struct evh_json *json, const struct json_container *container,
                              uint32_t first, uint32_t end, uint32_t types, uint64_t payload,
                              uint32_t *position)
{
    assert(first <= end);
    struct json_span span;
    for (uint32_t done = first; done < end && container_span(json, container, done, &span);) {
        const uint32_t count = (uint32_t)base_min(span.count, end - done);
        for (uint32_t i = 0; i < count; i++) {
            const struct json_slot *slot = span.slots + i;
            if (slot->payload != payload || slot->type >= JSON_TYPE_COUNT) continue;
            if (!(types >> slot->type & 1)) continue;
            *position = done + i;
            return true;
        }
        done += count;
    }
    return false;
}

bool container_seek(struct evh_json *json, const struct json_container *container, uint32_t number,
                    uint32_t types, uint64_t payload, uint32_t *position)
{
    assert(types != 0);
    const uint32_t part = 256;
    const uint32_t count = container->count;
    uint64_t *seek = json->seeks + number % JSON_SEEKS;
    const uint64_t last = __atomic_load_n(seek, __ATOMIC_RELAXED);
    uint32_t low = last >> 32 == number ? (uint32_t)base_min((uint32_t)last, count) : 0;
    uint32_t high = low;
    bool is_found = false;
    while (!is_found && (low > 0 || high < count)) { /* in turns behind that place and before it */
        const uint32_t behind = (uint32_t)base_min(part, count - high);
        const uint32_t before = (uint32_t)base_min(part, low);
        is_found =
            container_seek_in(json, container, high, high + behind, types, payload, position) ||
            container_seek_in(json, container, low - before, low, types, payload, position);
        high += behind;
        low -= before;
    }
    if (is_found) __atomic_store_n(seek, (uint64_t)number << 32 | *position, __ATOMIC_RELAXED);
    return is_found;
}

uint32_t keys_scan(const uint32_t *keys, uint32_t count, uint32_t key)
{
    assert(keys != NULL || count == 0);
#if defined(__x86_64__)
    const __m128i wanted = _mm_set1_epi32((int)key);
    for (uint32_t i = 0; i < count; i += 4) {
        const __m128i four = _mm_loadu_si128((const __m128i *)(const void *)(keys + i));
        const uint32_t mask =
            (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(four, wanted)));
        if (!mask) continue;
        const uint32_t at = i + base_lowest_bit(mask);
        return at < count ? at : count;
    }
#else
    for (uint32_t i = 0; i < count; i++)
        if (keys[i] == key) return i;
#endif
    return count;
}

static inline uint32_t container_index_get(const struct container_flat *flat, uint32_t at)
{
    assert(at <= flat->index_mask);
    return flat->is_wide ? ((const uint16_t *)flat->index)[at] : ((const uint8_t *)flat->index)[at];
}

static inline void container_index_set(const struct container_flat *flat, uint32_t at,
                                       uint32_t value)
{
    assert(at <= flat->index_mask);
    if (!flat->is_wide) assert(value <= UINT8_MAX);
    if (flat->is_wide) {
        ((uint16_t *)flat->index)[at] = (uint16_t)value;
    } else {
        ((uint8_t *)flat->index)[at] = (uint8_t)value;
    }
}

static inline uint32_t container_search(const struct container_flat *flat, uint32_t count,
                                        uint32_t key)
{
    assert(count <= JSON_FLAT_MAX);
    if (flat->index_mask == 0) return keys_scan(flat->keys, count, key);
    uint32_t at = key_hash(key) & flat->index_mask;
    for (uint32_t probes = 0; probes <= flat->index_mask; probes++) {
        const uint32_t position = container_index_get(flat, at) - 1;
        if (position >= count) return count; /* empty */
        if (flat->keys[position] == key) return position;
        at = (at + 1) & flat->index_mask;
    }
    return count;
}

struct json_slot *object_find(struct evh_json *json, const struct json_container *object,
                              uint32_t key, uint32_t *position)
{
    assert(object->kind == JSON_KIND_OBJECT);
    assert(object != NULL);
    if (object->count == 0 || key == 0) return NULL;
    if (object->form == JSON_TREE) return json_tree_find(json, object, key, position);
    struct container_flat flat;
    if (!container_flat(json, object, &flat)) return NULL;
    /* Objects of one shape have a key at one place: there the slot need not wait for index and
     * keys. */
    uint16_t *hint = json->hints + key % JSON_HINTS;
    uint32_t at = __atomic_load_n(hint, __ATOMIC_RELAXED);
    if (UNLIKELY(at >= object->count || flat.keys[at] != key)) {
        at = container_search(&flat, object->count, key);
        if (at == object->count) return NULL;
        __atomic_store_n(hint, (uint16_t)at, __ATOMIC_RELAXED);
    }
    if (position) *position = at;
    return flat.slots + at;
}

/* ---- flat bodies ---- */

static void container_index_add(const struct container_flat *flat, uint32_t position)
{
    assert(flat->keys != NULL);
    assert(flat->index_mask != 0);
    uint32_t at = key_hash(flat->keys[position]) & flat->index_mask;
    for (uint32_t probes = 0; probes <= flat->index_mask; probes++) {
        if (container_index_get(flat, at) == 0) break;
        at = (at + 1) & flat->index_mask;
    }
    container_index_set(flat, at, position + 1);
}

static void container_index_all(const struct container_flat *flat, uint32_t kind, uint32_t capacity,
                                uint32_t count)
{
    assert(count <= capacity);
    if (kind != JSON_KIND_OBJECT || flat->index_mask == 0) return;
    memset(flat->index, 0, container_index_bytes(kind, capacity));
    for (uint32_t i = 0; i < count; i++) container_index_add(flat, i);
}

/* Give it a body of another capacity, with the same values. */
static evh_status container_resize(struct evh_json *json, struct json_container *container,
                                   uint32_t capacity)
{
    assert(capacity <= JSON_FLAT_MAX);
    struct container_flat old = {0};
    if (container->count && !container_flat(json, container, &old)) return EVH_CORRUPT;
    assert(capacity >= container->count);
    uint64_t body = 0;
    if (capacity) {
        void *address = NULL;
        body = json_allocate(json, container_body_bytes(container->kind, capacity), &address);
        if (!body) return evh_last_error()->status;
        struct container_flat flat;
        container_lay(address, container->kind, capacity, &flat);
        const uint32_t count = container->count;
        if (count) memcpy(flat.slots, old.slots, sizeof *flat.slots * count);
        if (count && flat.keys) memcpy(flat.keys, old.keys, sizeof *flat.keys * count);
        container_index_all(&flat, container->kind, capacity, count);
    }
    const uint64_t before = container->body;
    container->body = body;
    container->capacity = capacity;
    assert((body == 0) == (capacity == 0));
    return json_free(json, before);
}

evh_status container_reserve(struct evh_json *json, struct json_container *container,
                             uint32_t capacity)
{
    assert(container->count == 0);
    assert(container->form != JSON_TREE);
    if (capacity > JSON_FLAT_MAX || capacity <= container->capacity) return EVH_OK;
    return container_resize(json, container, capacity);
}

static evh_status container_to_tree(struct evh_json *json, struct json_container *container,
                                    uint32_t number)
{
    assert(container->form != JSON_TREE);
    assert(number != 0);
    struct container_flat flat;
    if (!container_flat(json, container, &flat)) return EVH_CORRUPT;
    const struct json_container before = *container;
    container->count = 0;
    evh_status status = json_tree_make(json, container, number);
    if (!status) {
        status = json_tree_append(json, container, number, flat.slots, flat.keys, before.count);
        if (status) json_tree_clear(json, container);
        if (!status) assert(container->count == before.count);
    }
    if (status) {
        *container = before;
        return status;
    }
    return json_free(json, before.body);
}

/* A tree that has become small. That there is no memory for it is no failure. */
static void container_to_flat(struct evh_json *json, struct json_container *container)
{
    assert(container->form == JSON_TREE);
    const uint32_t kind = container->kind;
    const uint32_t capacity = JSON_FLAT_MAX / 2;
    void *address = NULL;
    const uint64_t body = json_allocate(json, container_body_bytes(kind, capacity), &address);
    if (!body) return;
    struct container_flat flat;
    container_lay(address, kind, capacity, &flat);
    const uint32_t count = container->count;
    struct json_span span;
    uint32_t done = 0;
    while (done < count && json_tree_span(json, container, done, &span)) {
        const uint32_t part = (uint32_t)base_min(span.count, count - done);
        memcpy(flat.slots + done, span.slots, sizeof *flat.slots * part);
        if (flat.keys) memcpy(flat.keys + done, span.keys, sizeof *flat.keys * part);
        done += part;
    }
    if (done < count) { /* damage, reported */
        (void)json_free(json, body);
        return;
    }
    container_index_all(&flat, kind, capacity, count);
    json_tree_clear(json, container);
    container->form = JSON_FLAT;
    container->count = count;
    container->capacity = capacity;
    container->body = body;
}

evh_status container_insert(struct evh_json *json, struct json_container *container,
                            uint32_t number, uint32_t position, uint32_t key,
                            const struct json_slot *slot)
{
    assert(slot != NULL);
    if (UNLIKELY((key != 0) != (container->kind == JSON_KIND_OBJECT)))
        return json_corrupt(json_offset(json, container), "a key that is none");
    if (UNLIKELY(position > container->count)) /* a cell that two have, of which one changed it */
        return json_corrupt(json_offset(json, container), "a container that miscounts");
    if (container->form != JSON_TREE && container->count == JSON_FLAT_MAX) {
        const evh_status status = container_to_tree(json, container, number);
        if (status) return status;
    }
    if (container->form == JSON_TREE)
        return json_tree_insert(json, container, number, position, key, slot);
    if (container->count == container->capacity) {
        const uint64_t more = base_max(4, 2ull * container->capacity);
        const uint32_t capacity = (uint32_t)base_min(more, JSON_FLAT_MAX);
        const evh_status status = container_resize(json, container, capacity);
        if (status) return status;
    }
    struct container_flat flat;
    if (!container_flat(json, container, &flat)) return EVH_CORRUPT;
    memmove(flat.slots + position + 1, flat.slots + position,
            sizeof *flat.slots * (container->count - position));
    flat.slots[position] = *slot;
    const uint32_t behind = container->count++ - position;
    if (!flat.keys) return EVH_OK;
    memmove(flat.keys + position + 1, flat.keys + position, sizeof *flat.keys * behind);
    flat.keys[position] = key;
    if (flat.index_mask && behind == 0) container_index_add(&flat, position);
    if (behind) container_index_all(&flat, container->kind, container->capacity, container->count);
    return EVH_OK;
}

evh_status container_remove(struct evh_json *json, struct json_container *container,
                            uint32_t number, uint32_t position, uint32_t *key,
                            struct json_slot *slot)
{
    assert(key != NULL);
    assert(slot != NULL);
    (void)number;
    if (UNLIKELY(position >= container->count))
        return json_corrupt(json_offset(json, container), "a container that miscounts");
    if (container->form == JSON_TREE) {
        const evh_status status = json_tree_remove(json, container, position, key, slot);
        if (!status && container->count < JSON_FLAT_MIN && !json->keeps_room)
            container_to_flat(json, container);
        return status;
    }
    struct container_flat flat;
    if (!container_flat(json, container, &flat)) return EVH_CORRUPT;
    *slot = flat.slots[position];
    *key = flat.keys ? flat.keys[position] : 0;
    const uint32_t behind = container->count - position - 1;
    memmove(flat.slots + position, flat.slots + position + 1, sizeof *flat.slots * behind);
    if (flat.keys) memmove(flat.keys + position, flat.keys + position + 1, 4ull * behind);
    container->count--;
    container_index_all(&flat, container->kind, container->capacity, container->count);
    if (json->keeps_room) return EVH_OK;
    if (container->count == 0) return container_resize(json, container, 0);
    if (container->count <= container->capacity / 4)
        (void)container_resize(json, container, container->capacity / 2);
    return EVH_OK;
}

evh_status container_fill(struct evh_json *json, struct json_container *container, uint32_t number,
                          const struct json_slot *slots, const uint32_t *keys, uint32_t count)
{
    assert(container->count == 0);
    assert(container->body == 0);
    assert(slots != NULL || count == 0);
    if (count == 0) return EVH_OK;
    if (count > JSON_FLAT_MAX) {
        evh_status status = json_tree_make(json, container, number);
        if (status) return status;
        status = json_tree_append(json, container, number, slots, keys, count);
        if (status) container_clear(json, container);
        return status;
    }
    const uint32_t kind = container->kind;
    void *address = NULL;
    const uint64_t body = json_allocate(json, container_body_bytes(kind, count), &address);
    if (UNLIKELY(!body)) return evh_last_error()->status;
    struct container_flat flat;
    container_lay(address, kind, count, &flat);
    memcpy(flat.slots, slots, sizeof *slots * count);
    if (flat.keys) memcpy(flat.keys, keys, sizeof *keys * count);
    container_index_all(&flat, kind, count, count);
    container->body = body;
    container->capacity = count;
    container->count = count;
    return EVH_OK;
}

evh_status object_rename(struct evh_json *json, struct json_container *object, uint32_t position,
                         uint32_t key)
{
    assert(position < object->count);
    assert(key != 0);
    if (object->form == JSON_TREE) return json_tree_rename(json, object, position, key);
    struct container_flat flat;
    if (!container_flat(json, object, &flat)) return EVH_CORRUPT;
    flat.keys[position] = key;
    container_index_all(&flat, object->kind, object->capacity, object->count);
    return EVH_OK;
}

void container_clear(struct evh_json *json, struct json_container *container)
{
    if (container->form == JSON_TREE) {
        json_tree_clear(json, container);
    } else {
        (void)json_free(json, container->body);
    }
    container->form = JSON_FLAT;
    container->body = 0;
    container->capacity = 0;
    container->count = 0;
}
