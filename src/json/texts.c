/* texts.c -- the strings, apart from everything else, so that a search reads nothing else.
 *
 * Short strings fill slabs of 64 KiB end to end. One slab is being filled, from `hole` to
 * `hole_end`; what remains of the hole is an entry too, a free one, so that a slab can be walked at
 * any moment. A slab of which a quarter becomes free is put into the list of sparse ones and is
 * filled again, hole by hole, when the current one is full: neighbouring free entries are joined
 * while it is walked. A slab without strings is freed.
 */
#include "json/json.h"

enum {
    TEXT_UNIT = 8,
    TEXT_FIRST = (int)sizeof(struct json_text_slab),
    TEXT_TRIES = 4, /* sparse slabs that are looked through for a hole before a new one is made */
    TEXT_SPARSE_BYTES = (JSON_SLAB_BYTES - TEXT_FIRST) / 4, /* free bytes that make it worthwhile */
};

static_assert(TEXT_FIRST % TEXT_UNIT == 0, "entries are multiples of a unit");
static_assert(JSON_TEXT_SMALL_MAX + 16 <= TEXT_SPARSE_BYTES, "a sparse slab may take any");

struct json_text_slab *text_slab_at(const struct evh_json *json, uint64_t offset)
{
    assert(json != NULL);
    struct json_text_slab *slab = NULL;
    if (offset % JSON_SLAB_BYTES == 0) slab = json_at(json, offset, JSON_SLAB_BYTES);
    if (LIKELY(slab && slab->magic == (JSON_MAGIC ^ offset))) return slab;
    (void)json_corrupt(offset, "a slab of strings that is none");
    return NULL;
}

static inline struct json_text *text_entry(struct json_text_slab *slab, uint32_t at)
{
    assert(at < JSON_SLAB_BYTES);
    return (struct json_text *)(void *)((char *)slab + at);
}

static void text_write_free(struct json_text_slab *slab, uint32_t from, uint32_t to)
{
    assert(from <= to);
    if (from == to) return;
    *text_entry(slab, from) =
        (struct json_text){(uint16_t)((to - from) / TEXT_UNIT), JSON_TEXT_FREE, 0};
}

/* ---- the lists of slabs ---- */

static void text_link(struct evh_json *json, struct json_text_slab *slab, uint64_t offset)
{
    assert(slab->next == 0);
    assert(offset % JSON_SLAB_BYTES == 0);
    struct json_texts *texts = &json->root->texts;
    slab->previous = 0;
    slab->next = texts->first_slab;
    struct json_text_slab *next = slab->next ? text_slab_at(json, slab->next) : NULL;
    if (next) next->previous = offset;
    texts->first_slab = offset;
    texts->slab_count++;
}

static void text_unlink(struct evh_json *json, struct json_text_slab *slab)
{
    struct json_texts *texts = &json->root->texts;
    struct json_text_slab *next = slab->next ? text_slab_at(json, slab->next) : NULL;
    struct json_text_slab *previous = slab->previous ? text_slab_at(json, slab->previous) : NULL;
    if (next) next->previous = slab->previous;
    if (previous) {
        previous->next = slab->next;
    } else {
        texts->first_slab = slab->next;
    }
    texts->slab_count--;
}

static void text_link_sparse(struct evh_json *json, struct json_text_slab *slab, uint64_t offset)
{
    assert(!slab->is_sparse);
    struct json_texts *texts = &json->root->texts;
    slab->is_sparse = 1;
    slab->previous_sparse = 0;
    slab->next_sparse = texts->first_sparse;
    struct json_text_slab *next = slab->next_sparse ? text_slab_at(json, slab->next_sparse) : NULL;
    if (next) next->previous_sparse = offset;
    texts->first_sparse = offset;
}

static void text_unlink_sparse(struct evh_json *json, struct json_text_slab *slab)
{
    struct json_texts *texts = &json->root->texts;
    struct json_text_slab *next = slab->next_sparse ? text_slab_at(json, slab->next_sparse) : NULL;
    struct json_text_slab *previous =
        slab->previous_sparse ? text_slab_at(json, slab->previous_sparse) : NULL;
    if (next) next->previous_sparse = slab->previous_sparse;
    if (previous) {
        previous->next_sparse = slab->next_sparse;
    } else {
        texts->first_sparse = slab->next_sparse;
    }
    slab->is_sparse = 0;
    slab->next_sparse = 0;
    slab->previous_sparse = 0;
}

/* ---- filling ---- */

static inline bool text_hole_is_sound(const struct json_texts *texts)
{
    return texts->hole >= TEXT_FIRST && texts->hole <= texts->hole_end &&
           texts->hole_end <= JSON_SLAB_BYTES && (texts->hole | texts->hole_end) % TEXT_UNIT == 0;
}

/* Find the next hole of at least `bytes` behind `from` in the current slab, joining free
 * neighbours. */
static bool text_next_hole(struct evh_json *json, struct json_text_slab *slab, uint32_t from,
                           uint32_t bytes)
{
    assert(from % TEXT_UNIT == 0);
    assert(bytes > 0);
    struct json_texts *texts = &json->root->texts;
    for (uint32_t at = from; at < JSON_SLAB_BYTES;) {
        uint32_t end = at;
        while (end < JSON_SLAB_BYTES) {
            const struct json_text *entry = text_entry(slab, end);
            if (entry->size != JSON_TEXT_FREE || entry->units == 0) break;
            end += (uint32_t)entry->units * TEXT_UNIT;
        }
        if (end > JSON_SLAB_BYTES) break; /* damage */
        if (end > at) {
            text_write_free(slab, at, end);
            if (end - at >= bytes) {
                texts->hole = at;
                texts->hole_end = end;
                return true;
            }
            at = end;
            continue;
        }
        const uint32_t units = text_entry(slab, at)->units;
        if (units == 0) break; /* damage */
        at += units * TEXT_UNIT;
    }
    texts->slab = 0;
    return false;
}

/* Make a slab current that has a hole of `bytes`: the rest of this one, a sparse one, a new one. */
static evh_status text_refill(struct evh_json *json, uint32_t bytes)
{
    assert(bytes <= TEXT_SPARSE_BYTES);
    assert(bytes % TEXT_UNIT == 0);
    struct json_texts *texts = &json->root->texts;
    struct json_text_slab *slab = NULL;
    if (texts->slab) {
        slab = text_slab_at(json, texts->slab);
        if (!slab || !text_hole_is_sound(texts))
            return json_corrupt(texts->slab, "a slab of strings that is none");
        const uint64_t offset = texts->slab;
        if (text_next_hole(json, slab, texts->hole_end, bytes)) return EVH_OK;
        if (slab->live_bytes == 0) { /* all of it went while it was filled */
            text_unlink(json, slab);
            if (trigrams_is_on(json)) trigrams_leave(json, slab);
            slab->magic = 0;
            (void)json_free(json, offset);
        }
    }
    for (int tries = 0; texts->first_sparse && tries < TEXT_TRIES; tries++) {
        const uint64_t offset = texts->first_sparse;
        slab = text_slab_at(json, offset);
        if (!slab) return EVH_CORRUPT;
        text_unlink_sparse(json, slab);
        texts->slab = offset;
        if (text_next_hole(json, slab, TEXT_FIRST, bytes)) return EVH_OK;
    }
    void *address = NULL;
    const uint64_t offset = json_allocate_aligned(json, JSON_SLAB_BYTES, &address);
    if (!offset) return evh_last_error()->status;
    slab = address;
    *slab = (struct json_text_slab){.magic = JSON_MAGIC ^ offset};
    const evh_status joined = trigrams_is_on(json) ? trigrams_join(json, slab) : EVH_OK;
    if (joined) {
        const evh_error error = *evh_last_error();
        slab->magic = 0;
        (void)json_free(json, offset);
        return base_fail(error.status, error.offset, "%s", error.message);
    }
    text_write_free(slab, TEXT_FIRST, JSON_SLAB_BYTES);
    text_link(json, slab, offset);
    texts->slab = offset;
    texts->hole = TEXT_FIRST;
    texts->hole_end = JSON_SLAB_BYTES;
    return EVH_OK;
}

static evh_status text_make_large(struct evh_json *json, uint32_t owner, uint64_t size,
                                  struct json_slot *slot, char **room)
{
    assert(size > JSON_TEXT_SMALL_MAX);
    if (size > UINT64_MAX / 4) return base_fail(EVH_LIMIT, NO_OFFSET, "json: a string too long");
    void *address = NULL;
    const uint64_t offset =
        json_allocate(json, sizeof(struct json_large_text) + size + 1, &address);
    if (!offset) return evh_last_error()->status;
    struct json_large_text *large = address;
    const uint64_t capacity = evh_usable_size(json->heap, address) - sizeof *large - 1;
    *large = (struct json_large_text){
        .magic = JSON_MAGIC ^ offset,
        .next = json->root->texts.first_large,
        .size = size,
        .capacity = capacity,
        .owner = owner,
    };
    struct json_large_text *next = json_at(json, large->next, sizeof *next);
    if (next) next->previous = offset;
    json->root->texts.first_large = offset;
    *slot = (struct json_slot){
        .type = JSON_STRING, .flags = JSON_TEXT_IS_LARGE, .payload = offset + sizeof *large};
    *room = (char *)(large + 1);
    (*room)[size] = 0;
    return EVH_OK;
}

/* The bytes of a string are there now: the index, which there is, learns of them. */
static void text_index(struct evh_json *json, const struct json_slot *slot, const char *bytes,
                       uint64_t size)
{
    assert(trigrams_is_on(json));
    if (slot->flags & JSON_TEXT_IS_LARGE) return;
    struct json_text_slab *slab =
        text_slab_at(json, base_round_down(slot->payload, JSON_SLAB_BYTES));
    if (slab) trigrams_add(json, slab, bytes, size);
}

evh_status text_make(struct evh_json *json, uint32_t owner, const char *bytes, uint64_t size,
                     struct json_slot *slot, char **room)
{
    assert(slot != NULL);
    assert(bytes != NULL || room != NULL);
    char *target = NULL;
    if (UNLIKELY(size > JSON_TEXT_SMALL_MAX)) {
        const evh_status status = text_make_large(json, owner, size, slot, &target);
        if (status) return status;
    } else {
        struct json_texts *texts = &json->root->texts;
        const uint32_t need = (uint32_t)(sizeof(struct json_text) + size + TEXT_UNIT) & ~7u;
        if (!texts->slab || texts->hole_end - texts->hole < need) {
            const evh_status status = text_refill(json, need);
            if (status) return status;
        }
        struct json_text_slab *slab = text_slab_at(json, texts->slab);
        if (!slab || !text_hole_is_sound(texts) || texts->hole_end - texts->hole < need)
            return json_corrupt(texts->slab, "a slab of strings that is none");
        struct json_text *entry = text_entry(slab, texts->hole);
        *entry = (struct json_text){(uint16_t)(need / TEXT_UNIT), (uint16_t)size, owner};
        target = (char *)(entry + 1);
        target[size] = 0;
        texts->hole += need;
        text_write_free(slab, texts->hole, texts->hole_end);
        slab->live_bytes += need;
        *slot = (struct json_slot){.type = JSON_STRING, .payload = json_offset(json, target)};
    }
    json->root->string_bytes += size;
    if (bytes) {
        memcpy(target, bytes, size);
        if (UNLIKELY(trigrams_is_on(json))) text_index(json, slot, target, size);
    }
    if (room) *room = target;
    return EVH_OK;
}

/* ---- looking at one ---- */

static struct json_large_text *text_large_of(const struct evh_json *json,
                                             const struct json_slot *slot)
{
    assert(slot->flags & JSON_TEXT_IS_LARGE);
    const uint64_t offset = slot->payload - sizeof(struct json_large_text);
    struct json_large_text *large = json_at(json, offset, sizeof *large);
    if (LIKELY(large && large->magic == (JSON_MAGIC ^ offset) && large->size <= large->capacity &&
               json_has_text(json, slot->payload, large->capacity)))
        return large;
    (void)json_corrupt(slot->payload, "a string that is none");
    return NULL;
}

/* The header of a short string; it and its bytes lie in its slab. */
static inline struct json_text *text_short_of(const struct evh_json *json,
                                              const struct json_slot *slot)
{
    assert(!(slot->flags & JSON_TEXT_IS_LARGE));
    const uint64_t at = slot->payload % JSON_SLAB_BYTES;
    struct json_text *text = json_at(json, slot->payload - sizeof *text, sizeof *text);
    if (LIKELY(text && at >= TEXT_FIRST + sizeof *text &&
               text->size + sizeof *text < (uint64_t)text->units * TEXT_UNIT &&
               at - sizeof *text + (uint64_t)text->units * TEXT_UNIT <= JSON_SLAB_BYTES &&
               json_has_text(json, slot->payload, text->size)))
        return text;
    (void)json_corrupt(slot->payload, "a string that is none");
    return NULL;
}

const char *text_of(const struct evh_json *json, const struct json_slot *slot, uint64_t *size)
{
    assert(slot->type == JSON_STRING);
    assert(size != NULL);
    *size = 0;
    if (UNLIKELY(slot->flags & JSON_TEXT_IS_LARGE)) {
        const struct json_large_text *large = text_large_of(json, slot);
        if (!large) return NULL;
        *size = large->size;
        return (const char *)(large + 1);
    }
    const struct json_text *text = text_short_of(json, slot);
    if (!text) return NULL;
    *size = text->size;
    return (const char *)(text + 1);
}

uint64_t text_capacity(const struct evh_json *json, const struct json_slot *slot)
{
    assert(slot->type == JSON_STRING);
    if (slot->flags & JSON_TEXT_IS_LARGE) {
        const struct json_large_text *large = text_large_of(json, slot);
        return large ? large->capacity : 0;
    }
    const struct json_text *text = text_short_of(json, slot);
    if (!text) return 0;
    return base_min((uint64_t)text->units * TEXT_UNIT - sizeof *text - 1, JSON_TEXT_SMALL_MAX);
}

void text_resize(struct evh_json *json, const struct json_slot *slot, uint64_t size)
{
    assert(size <= text_capacity(json, slot));
    json->root->string_bytes += size;
    char *bytes = (char *)json->heap->view.base + slot->payload;
    if (slot->flags & JSON_TEXT_IS_LARGE) {
        struct json_large_text *large = text_large_of(json, slot);
        if (!large) return;
        json->root->string_bytes -= large->size;
        large->size = size;
    } else {
        struct json_text *text = text_short_of(json, slot);
        if (!text) return;
        json->root->string_bytes -= text->size;
        text->size = (uint16_t)size;
    }
    bytes[size] = 0;
    if (UNLIKELY(trigrams_is_on(json))) text_index(json, slot, bytes, size);
}

void text_own(struct evh_json *json, const struct json_slot *slot, uint32_t owner)
{
    assert(slot->type == JSON_STRING);
    if (slot->flags & JSON_TEXT_IS_LARGE) {
        struct json_large_text *large = text_large_of(json, slot);
        if (large) large->owner = owner;
        return;
    }
    struct json_text *text = text_short_of(json, slot);
    if (text) text->owner = owner;
}

/* ---- freeing ---- */

static evh_status text_free_large(struct evh_json *json, const struct json_slot *slot)
{
    assert(slot->type == JSON_STRING);
    const struct json_large_text *large = text_large_of(json, slot);
    if (!large) return EVH_CORRUPT;
    json->root->string_bytes -= large->size;
    struct json_large_text *next = json_at(json, large->next, sizeof *next);
    struct json_large_text *previous = json_at(json, large->previous, sizeof *previous);
    if (next) next->previous = large->previous;
    if (previous) {
        previous->next = large->next;
    } else {
        json->root->texts.first_large = large->next;
    }
    return json_free(json, slot->payload - sizeof *large);
}

evh_status text_free(struct evh_json *json, const struct json_slot *slot)
{
    assert(slot->type == JSON_STRING);
    if (slot->flags & JSON_TEXT_IS_LARGE) return text_free_large(json, slot);
    struct json_text *text = text_short_of(json, slot);
    if (!text) return EVH_CORRUPT;
    const uint64_t offset = base_round_down(slot->payload, JSON_SLAB_BYTES);
    struct json_text_slab *slab = text_slab_at(json, offset);
    if (!slab) return EVH_CORRUPT;
    const uint32_t bytes = (uint32_t)text->units * TEXT_UNIT;
    if (slab->live_bytes < bytes) return json_corrupt(offset, "a slab of strings miscounts");
    json->root->string_bytes -= text->size;
    text->size = JSON_TEXT_FREE;
    text->owner = 0;
    slab->live_bytes -= bytes;
    if (offset == json->root->texts.slab) return EVH_OK;
    if (slab->live_bytes == 0) {
        if (slab->is_sparse) text_unlink_sparse(json, slab);
        text_unlink(json, slab);
        if (trigrams_is_on(json)) trigrams_leave(json, slab);
        slab->magic = 0;
        return json_free(json, offset);
    }
    if (!slab->is_sparse && JSON_SLAB_BYTES - TEXT_FIRST - slab->live_bytes >= TEXT_SPARSE_BYTES)
        text_link_sparse(json, slab, offset);
    return EVH_OK;
}

/* ---- blobs ---- */

uint64_t blob_make(struct evh_json *json, const void *bytes, uint64_t size)
{
    assert(bytes != NULL || size == 0);
    void *address = NULL;
    const uint64_t offset = json_allocate(json, sizeof(struct json_blob) + size + 1, &address);
    if (!offset) return 0;
    struct json_blob *blob = address;
    blob->size = size;
    char *target = (char *)(blob + 1);
    if (size) memcpy(target, bytes, size);
    target[size] = 0;
    return offset;
}

const char *blob_of(const struct evh_json *json, uint64_t offset, uint64_t *size)
{
    assert(size != NULL);
    *size = 0;
    const struct json_blob *blob = json_at(json, offset, sizeof *blob);
    if (!blob || !json_has_text(json, offset + sizeof *blob, blob->size)) {
        (void)json_corrupt(offset, "bytes outside the heap");
        return NULL;
    }
    *size = blob->size;
    return (const char *)(blob + 1);
}
