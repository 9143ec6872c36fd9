/* check.c -- whether a document is sound: everything that is counted is counted again.
 *
 * From the holders down every value is visited once; then what was seen is compared with what the
 * root, the slabs, the symbols and the lists of refs say.
 *
 *   1  a container is reached once, and names the container that it was reached from
 *   2  each key of an object is found, at its position
 *   3  the pages of a tree count what is below them, and know their parents
 *   4  a string's entry names its container; the entries of a slab fill it, and add up
 *   5  a symbol has as many references as there are members (and refs) with that key
 *   6  a resolved ref is in the list of its target, once
 *   7  the root's counts are those of the values seen
 */
#include "json/json.h"
#include "os/os.h"

struct check {
    struct evh_json *json;
    uint8_t *seen;      /* of containers by number */
    uint8_t *seen_refs; /* likewise */
    uint32_t *uses;     /* of symbols */
    uint32_t symbols;   /* the highest, and one more */
    uint32_t *queue;    /* containers to visit */
    uint32_t queued;
    uint64_t counts[JSON_TYPE_COUNT];
    uint64_t string_bytes, blob_bytes, large_texts;
    uint64_t short_bytes; /* of entries of strings in slabs */
};

static bool check_is_number(const char *text, uint64_t size)
{
    assert(text != NULL);
    struct number number;
    enum number_fault fault = NUMBER_GOOD;
    return number_read(text, text + size, &number, &fault) == text + size && !fault;
}

static evh_status check_value(struct check *check, const struct json_slot *slot, uint32_t number)
{
    assert(slot->type != JSON_ARRAY);
    assert(slot->type != JSON_OBJECT);
    struct evh_json *json = check->json;
    uint64_t size = 0;
    if (slot->type == JSON_STRING) {
        const char *text = text_of(json, slot, &size);
        if (!text) return EVH_CORRUPT;
        if (text[size] != 0 || utf8_check(text, text + size) != text + size)
            return json_corrupt(slot->payload, "a string that is not UTF-8, or has no end");
        check->string_bytes += size;
        if (slot->flags & JSON_TEXT_IS_LARGE) {
            check->large_texts++;
            const struct json_large_text *large = (const void *)text;
            if (large[-1].owner != number)
                return json_corrupt(slot->payload, "a string that names another container");
            return EVH_OK;
        }
        const struct json_text *entry = (const void *)text;
        check->short_bytes += 8u * entry[-1].units;
        if (entry[-1].owner != number)
            return json_corrupt(slot->payload, "a string that names another container");
    }
    if (slot->type == JSON_REAL && (slot->payload >> 52 & 0x7ff) == 0x7ff)
        return json_corrupt(json_offset(json, slot), "a number that is not finite");
    if (slot->type == JSON_DIGITS || slot->type == JSON_BYTES) {
        const char *bytes = blob_of(json, slot->payload, &size);
        if (!bytes) return EVH_CORRUPT;
        if (slot->type == JSON_BYTES) check->blob_bytes += size;
        if (slot->type == JSON_DIGITS && !check_is_number(bytes, size))
            return json_corrupt(slot->payload, "digits that are no number");
    }
    if (slot->type == JSON_REF) {
        const struct json_ref *ref = ref_of(json, slot);
        if (!ref || !blob_of(json, ref->path, &size)) return EVH_CORRUPT;
        if (json_offset(json, ref) != slot->payload || ref->owner != number)
            return json_corrupt(slot->payload, "a reference that names another container");
        if (check->seen_refs[slot->id]++ & 0x7f) /* 0x80: it is in a list */
            return json_corrupt(slot->payload, "a reference that is there twice");
        if (ref->state == JSON_REF_MEMBER && ref->place < check->symbols) check->uses[ref->place]++;
    }
    return EVH_OK;
}

static evh_status check_slot(struct check *check, const struct json_slot *slot, uint32_t number)
{
    assert(number != 0);
    struct evh_json *json = check->json;
    if (slot->type == JSON_NONE || slot->type >= JSON_TYPE_COUNT || slot->reserved)
        return json_corrupt(json_offset(json, slot), "a value of no type");
    check->counts[slot->type]++;
    if (slot->type != JSON_ARRAY && slot->type != JSON_OBJECT)
        return check_value(check, slot, number);
    const struct json_container *container = container_in(json, slot);
    if (!container) return EVH_CORRUPT;
    if (container_peek(json, slot->id) != container || container->parent != number ||
        check->seen[slot->id])
        return json_corrupt(slot->payload, "a container in two places, or in none");
    check->seen[slot->id] = 1;
    check->queue[check->queued++] = slot->id;
    return EVH_OK;
}

/* ---- trees ---- */

/* An inner page: what its children count, and that they know it. */
static evh_status check_inner(struct check *check, struct json_page *inner, uint32_t number,
                              uint32_t leaf_kind)
{
    assert(inner->kind == JSON_PAGE_INNER);
    assert(leaf_kind == JSON_PAGE_ITEMS || leaf_kind == JSON_PAGE_MEMBERS);
    const uint32_t *ends = (const uint32_t *)(const void *)(inner + 1);
    const uint32_t *children = ends + JSON_CHILDREN_MAX;
    uint32_t before = 0;
    for (uint32_t i = 0; i < inner->count; i++) {
        const uint32_t kind = inner->height > 1 ? JSON_PAGE_INNER : leaf_kind;
        struct json_page *child = page_at(check->json, children[i], kind);
        if (!child) return EVH_CORRUPT;
        uint32_t below = child->count;
        if (kind == JSON_PAGE_INNER) {
            if (child->count == 0 || child->height != inner->height - 1)
                return json_corrupt(page_offset(children[i]), "a page at the wrong height");
            below = ((const uint32_t *)(const void *)(child + 1))[child->count - 1];
        }
        if (child->parent != number || below == 0 || ends[i] - before != below)
            return json_corrupt(page_offset(children[i]), "a page that its parent miscounts");
        before = ends[i];
    }
    return EVH_OK;
}

static evh_status check_tree(struct check *check, const struct json_container *container)
{
    assert(container->form == JSON_TREE);
    struct evh_json *json = check->json;
    const struct json_tree *tree = json_tree_of(json, container);
    if (!tree) return EVH_CORRUPT;
    const uint32_t leaf_kind =
        container->kind == JSON_KIND_OBJECT ? JSON_PAGE_MEMBERS : JSON_PAGE_ITEMS;
    uint32_t path[JSON_HEIGHT_MAX + 1];
    uint32_t index[JSON_HEIGHT_MAX + 1] = {0};
    uint32_t height = tree->height;
    path[height] = tree->root;
    const struct json_page *root = json_at(json, page_offset(tree->root), JSON_PAGE_BYTES);
    if (!root || root->parent != 0)
        return json_corrupt(container->body, "a large container without a root");
    while (height > 0 && height <= tree->height) {
        struct json_page *inner = page_at(json, path[height], JSON_PAGE_INNER);
        if (!inner) return EVH_CORRUPT;
        if (inner->height != height)
            return json_corrupt(page_offset(path[height]), "a page at the wrong height");
        if (index[height] == 0) {
            const evh_status status = check_inner(check, inner, path[height], leaf_kind);
            if (status) return status;
        }
        if (height == 1 || index[height] == inner->count) {
            height++;
            continue;
        }
        const uint32_t *children = (const uint32_t *)(const void *)(inner + 1) + JSON_CHILDREN_MAX;
        path[height - 1] = children[index[height]++];
        index[--height] = 0;
    }
    return EVH_OK;
}

static evh_status check_container(struct check *check, uint32_t number)
{
    assert(number != 0);
    struct evh_json *json = check->json;
    const struct json_container *container = container_of(json, number);
    if (!container) return EVH_CORRUPT;
    evh_status status = EVH_OK;
    if (container->form == JSON_TREE) status = check_tree(check, container);
    struct json_span span;
    uint32_t done = 0;
    for (; !status && container_span(json, container, done, &span); done += span.count) {
        for (uint32_t i = 0; !status && i < span.count; i++) {
            status = check_slot(check, span.slots + i, number);
            if (status || !span.keys) continue;
            uint32_t position = UINT32_MAX;
            const struct json_slot *found = NULL;
            if (span.keys[i] && span.keys[i] < check->symbols) {
                found = object_find(json, container, span.keys[i], &position);
                check->uses[span.keys[i]]++;
            }
            if (found != span.slots + i || position != done + i)
                status = json_corrupt(json_offset(json, container), "a key that is not found");
        }
    }
    if (!status && done != container->count)
        status = json_corrupt(json_offset(json, container), "a container that miscounts");
    /* Its list of refs. */
    uint32_t ref_number = container->first_ref;
    uint32_t previous = 0;
    for (uint32_t i = 0; !status && ref_number && i <= json->root->refs.used_count; i++) {
        const struct json_ref *ref = cell_at(json, &json->root->refs, ref_number, JSON_REF_SHIFT);
        if (!ref || ref->state <= JSON_REF_LOOSE || ref->target != number ||
            ref->previous != previous || check->seen_refs[ref_number] & 0x80)
            return json_corrupt(json_offset(json, container), "a list of references is broken");
        check->seen_refs[ref_number] |= 0x80;
        previous = ref_number;
        ref_number = ref->next;
    }
    return status;
}

/* ---- slabs ---- */

static evh_status check_texts(struct check *check)
{
    struct evh_json *json = check->json;
    const struct json_texts *texts = &json->root->texts;
    uint64_t slabs = 0;
    uint64_t bytes = 0;
    uint64_t previous = 0;
    for (uint64_t offset = texts->first_slab; offset; slabs++) {
        const struct json_text_slab *slab = NULL;
        if (offset % JSON_SLAB_BYTES == 0) slab = json_at(json, offset, JSON_SLAB_BYTES);
        if (!slab || slab->magic != (JSON_MAGIC ^ offset) || slab->previous != previous ||
            slabs >= texts->slab_count)
            return json_corrupt(offset, "a slab of strings that is none");
        if (trigrams_is_on(json) ? !trigrams_knows(json, slab) : slab->index_number != 0)
            return json_corrupt(offset, "a slab of strings that the index does not know");
        uint32_t live = 0;
        uint32_t at = sizeof *slab;
        while (at < JSON_SLAB_BYTES) {
            const struct json_text *entry = (const void *)((const char *)slab + at);
            if (entry->units == 0 || at + 8u * entry->units > JSON_SLAB_BYTES)
                return json_corrupt(offset + at, "an entry of a slab that is none");
            if (entry->size != JSON_TEXT_FREE) live += 8u * entry->units;
            if (entry->size != JSON_TEXT_FREE && trigrams_is_on(json) &&
                sizeof *entry + entry->size < 8u * entry->units &&
                !trigrams_has(json, slab, (const char *)(entry + 1), entry->size))
                return json_corrupt(offset + at, "a string that the index does not have");
            at += 8u * entry->units;
        }
        if (live != slab->live_bytes) return json_corrupt(offset, "a slab of strings miscounts");
        bytes += live;
        previous = offset;
        offset = slab->next;
    }
    if (trigrams_is_on(json) && trigrams_slabs(json) != slabs)
        return json_corrupt(json->root->index.groups, "an index of slabs that are gone");
    if (slabs != texts->slab_count || bytes != check->short_bytes)
        return json_corrupt(NO_OFFSET, "strings that are no values");
    uint64_t large_count = 0;
    for (uint64_t offset = texts->first_large; offset; large_count++) {
        const struct json_large_text *large = json_at(json, offset, sizeof *large);
        if (!large || large->magic != (JSON_MAGIC ^ offset) || large_count >= check->large_texts)
            return json_corrupt(offset, "a large string that is no value");
        offset = large->next;
    }
    if (large_count != check->large_texts)
        return json_corrupt(NO_OFFSET, "large strings that are not listed");
    return EVH_OK;
}

/* ---- the whole ---- */

static evh_status check_totals(struct check *check)
{
    assert(check->queued == 0);
    struct evh_json *json = check->json;
    const struct json_root *root = json->root;
    for (int type = 0; type < JSON_TYPE_COUNT; type++)
        if (check->counts[type] != root->counts[type])
            return base_fail(EVH_CORRUPT, json_offset(json, root),
                             "json: %llu values of type %s, %llu are counted",
                             (unsigned long long)check->counts[type],
                             evh_json_type_name((evh_json_type)type),
                             (unsigned long long)root->counts[type]);
    if (check->string_bytes != root->string_bytes || check->blob_bytes != root->blob_bytes)
        return json_corrupt(json_offset(json, root), "bytes of strings or blobs are miscounted");
    uint32_t containers = 0;
    for (uint32_t i = 1; i < root->containers.fresh; i++) {
        const struct json_container *container = container_peek(json, i);
        containers += container != NULL;
        if (container && !check->seen[i])
            return json_corrupt(json_offset(json, container), "a container that nothing leads to");
    }
    if (containers != root->containers.used_count)
        return json_corrupt(json_offset(json, root), "containers are miscounted");
    for (uint32_t i = 1; i < root->refs.fresh; i++) {
        const struct json_ref *ref = cell_at(json, &root->refs, i, JSON_REF_SHIFT);
        if (!ref || ref->state == JSON_REF_FREE) continue;
        const uint8_t expected = ref->state == JSON_REF_LOOSE ? 1 : 0x81;
        if (check->seen_refs[i] != expected)
            return json_corrupt(json_offset(json, ref), "a reference in no list, or no value");
    }
    const evh_symbols keys = {root->keys};
    for (uint32_t i = 1; i < check->symbols; i++)
        if (evh_symbol_references(json->heap, &keys, i) != check->uses[i])
            return base_fail(EVH_CORRUPT, root->keys, "json: key %u is used %u times, not %u", i,
                             check->uses[i], evh_symbol_references(json->heap, &keys, i));
    return check_texts(check);
}

static evh_status check_all(struct check *check)
{
    assert(check->seen != NULL);
    assert(check->queue != NULL);
    struct evh_json *json = check->json;
    evh_status status = EVH_OK;
    for (uint32_t i = 1; !status && i < json->root->containers.fresh; i++) {
        const struct json_container *holder = container_peek(json, i);
        if (!holder || holder->kind != JSON_KIND_HOLDER) continue;
        check->seen[i] = 1;
        if (holder->count != 1 || holder->parent)
            return json_corrupt(json_offset(json, holder), "a holder without a value");
        status = check_container(check, i);
        while (!status && check->queued > 0)
            status = check_container(check, check->queue[--check->queued]);
    }
    return status ? status : check_totals(check);
}

/* The highest symbol, and one more: they are dense, so the number there are with those that are
 * free; found by looking. */
static uint32_t check_symbol_limit(const struct evh_json *json)
{
    const evh_symbols keys = {json->root->keys};
    uint32_t last = 0;
    if (!keys.offset) return 1;
    for (;;) {
        const evh_symbol next =
            evh_symbol_next(json->heap, &keys, last, EVH_MATCH_SUBSTRING, "", 0);
        if (!next) return last + 1;
        last = next;
    }
}

evh_status evh_json_check(evh_json *json)
{
    evh_status status = json_ready(json);
    if (!status) status = json_find_root(json);
    if (status) return status;
    const evh_symbols keys = {json->root->keys};
    if (keys.offset) status = evh_symbols_check(json->heap, &keys);
    if (status) return status;
    struct check check = {.json = json, .symbols = check_symbol_limit(json)};
    check.seen = os->memory_allocate(json->root->containers.fresh + 1ull);
    check.seen_refs = os->memory_allocate(json->root->refs.fresh + 1ull);
    check.uses = os->memory_allocate(check.symbols * sizeof *check.uses);
    check.queue = os->memory_allocate((json->root->containers.fresh + 1ull) * sizeof *check.queue);
    if (check.seen && check.seen_refs && check.uses && check.queue) {
        status = check_all(&check);
    } else {
        status = base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory to check");
    }
    os->memory_free(check.seen);
    os->memory_free(check.seen_refs);
    os->memory_free(check.uses);
    os->memory_free(check.queue);
    return status;
}
