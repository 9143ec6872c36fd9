/* json.c -- opening a document, and what all of this layer stands on: places, blocks, keys. */
#include "json/json.h"
#include "os/os.h"

evh_status json_corrupt(uint64_t offset, const char *what)
{
    assert(what != NULL);
    return base_fail(EVH_CORRUPT, offset, "json: %s", what);
}

/* ---- blocks ---- */

uint64_t json_allocate(struct evh_json *json, uint64_t size, void **address)
{
    assert(size > 0);
    void *block = evh_malloc(json->heap, size);
    if (!block) return 0;
    if (address) *address = block;
    return json_offset(json, block);
}

uint64_t json_allocate_aligned(struct evh_json *json, uint64_t size, void **address)
{
    assert(base_is_power_of_two(size));
    void *block = evh_aligned_alloc(json->heap, size, size);
    if (!block) return 0;
    assert(json_offset(json, block) % size == 0);
    *address = block;
    return json_offset(json, block);
}

evh_status json_free(struct evh_json *json, uint64_t offset)
{
    if (offset == 0) return EVH_OK;
    uint64_t size = 0;
    if (offset % 16 || !heap_block_at(json->heap, offset, &size))
        return json_corrupt(offset, "a block that is none");
    assert(size > 0);
    evh_free(json->heap, json->heap->view.base + offset);
    return EVH_OK;
}

void *json_grow(void *items, size_t *capacity, size_t item_bytes)
{
    assert((items == NULL) == (*capacity == 0));
    const size_t doubled = *capacity ? 2 * *capacity : 32;
    void *grown = os->memory_resize(items, doubled * item_bytes);
    if (grown) {
        *capacity = doubled;
    } else {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for %zu items", doubled);
    }
    return grown;
}

/* ---- documents ---- */

/* Whether there is room for the cells that there are said to be, which bound walks by number. */
static bool json_has_cells(const struct evh_json *json, const struct json_cells *cells,
                           uint32_t shift)
{
    assert(shift < JSON_SLAB_SHIFT);
    assert(cells != NULL);
    return cells->slab_count <= heap_end_bytes(json->heap) / JSON_SLAB_BYTES &&
           cells->slab_count <= cells->slab_capacity &&
           cells->fresh <= (uint64_t)cells->slab_count << (JSON_SLAB_SHIFT - shift);
}

/* Whether a root is one of a version that is known. */
static evh_status json_check_root(struct evh_json *json)
{
    assert(json->root != NULL);
    const struct json_root *root = json->root;
    if (root->magic != JSON_MAGIC)
        return json_corrupt(json_offset(json, root), "a root that is no document");
    if (root->version != JSON_VERSION)
        return base_fail(EVH_VERSION, json_offset(json, root), "json: version %u of a document",
                         root->version);
    if (!json_has_cells(json, &root->containers, JSON_CONTAINER_SHIFT) ||
        !json_has_cells(json, &root->refs, JSON_REF_SHIFT))
        return json_corrupt(json_offset(json, root), "more containers or references than fit");
    const struct json_container *document = container_peek(json, root->document);
    if (!document || document->kind != JSON_KIND_HOLDER || document->count != 1)
        return json_corrupt(json_offset(json, root), "a document without a value");
    return EVH_OK;
}

evh_status json_find_root(struct evh_json *json)
{
    assert(json->name[0] != 0);
    size_t size = 0;
    json->root = evh_root_find(json->heap, json->name, &size);
    if (!json->root) return evh_last_error()->status;
    if (size < sizeof *json->root)
        return json_corrupt(json_offset(json, json->root), "a root too small for a document");
    json->stamp = json->heap->stamp;
    return json_check_root(json);
}

evh_status json_writable(struct evh_json *json)
{
    const evh_status status = json_ready(json);
    if (status) return status;
    const evh_status writable = heap_writable(json->heap);
    if (!writable) json->root->changes++;
    return writable;
}

/* A container that holds one null. */
static uint32_t json_make_holder(struct evh_json *json)
{
    struct json_container *holder = NULL;
    const uint32_t number = container_make(json, JSON_KIND_HOLDER, 0, &holder);
    if (!number) return 0;
    const struct json_slot null = {.type = JSON_NULL};
    if (container_fill(json, holder, number, &null, NULL, 1)) {
        container_end(json, number, holder);
        return 0;
    }
    assert(holder->count == 1);
    assert(holder->parent == 0);
    json_count(json, &null, 1);
    return number;
}

static evh_status json_create(struct evh_json *json)
{
    assert(json->root == NULL);
    const evh_status status = heap_writable(json->heap);
    if (status) {
        if (status != EVH_READ_ONLY) return status;
        return base_fail(EVH_NOT_FOUND, NO_OFFSET, "%s: it has no document \"%s\"",
                         heap_path(json->heap), json->name);
    }
    json->root = evh_root(json->heap, json->name, sizeof *json->root);
    if (!json->root) return evh_last_error()->status;
    *json->root = (struct json_root){.magic = JSON_MAGIC, .version = JSON_VERSION};
    json->root->document = json_make_holder(json);
    if (json->root->document) return EVH_OK;
    const evh_error error = *evh_last_error();
    (void)json_free(json, json->root->containers.directory);
    (void)evh_root_remove(json->heap, json->name);
    return base_fail(error.status, error.offset, "%s", error.message);
}

evh_json *evh_json_open(evh_heap *heap, const char *name)
{
    if (!name) name = "json";
    const size_t size = strlen(name);
    if (!heap || size == 0 || size > EVH_NAME_SIZE_MAX) {
        (void)base_fail(EVH_INVALID, NO_OFFSET,
                        heap ? "json: a name of 1 to 63 bytes is needed" : "json: no heap");
        return NULL;
    }
    struct evh_json *json = os->memory_allocate(sizeof *json);
    if (!json) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory to open a document");
        return NULL;
    }
    json->heap = heap;
    memcpy(json->name, name, size + 1);
    evh_status status = json_find_root(json);
    if (status == EVH_NOT_FOUND) {
        json->stamp = heap->stamp;
        status = json_create(json);
    }
    if (!status) return json;
    os->memory_free(json);
    return NULL;
}

void evh_json_close(evh_json *json)
{
    os->memory_free(json);
}

evh_value evh_json_root(evh_json *json)
{
    if (json_ready(json)) return value_none();
    const struct json_container *document = container_peek(json, json->root->document);
    if (!document) return value_none();
    const struct json_slot *slot = container_slot(json, document, 0);
    return slot ? value_of(json, json->root->document, 0, slot) : value_none();
}

evh_value evh_json_detached(evh_json *json)
{
    if (json_writable(json)) return value_none();
    const uint32_t number = json_make_holder(json);
    if (!number) return value_none();
    const evh_value value = {number, container_peek(json, number)->serial, 0};
    return value;
}

/* Free the slabs of cells; every cell is free. */
static void json_free_cells(struct evh_json *json, const struct json_cells *cells)
{
    const uint64_t *directory = json_at(json, cells->directory, 8ull * cells->slab_count);
    for (uint32_t i = 0; directory && i < cells->slab_count; i++)
        if (json_free(json, directory[i])) return;
    (void)json_free(json, cells->directory);
}

evh_status evh_json_remove(evh_heap *heap, const char *name)
{
    if (!name) name = "json";
    size_t size = 0;
    if (!evh_root_find(heap, name, &size)) return evh_last_error()->status;
    struct evh_json *json = evh_json_open(heap, name);
    if (!json) return evh_last_error()->status;
    evh_status status = json_writable(json);
    if (!status) {
        /* Every value in a container, detached ones too, one container after the other. */
        struct json_root *root = json->root;
        for (uint32_t number = 1; number < root->containers.fresh; number++) {
            struct json_container *holder = container_peek(json, number);
            if (!holder || holder->kind != JSON_KIND_HOLDER) continue;
            const struct json_slot *slot = container_slot(json, holder, 0);
            if (slot) value_free(json, slot);
            container_clear(json, holder);
            container_end(json, number, holder);
        }
        if (trigrams_is_on(json)) status = trigrams_drop(json);
        (void)json_free(json, root->texts.slab);
        json_free_cells(json, &root->containers);
        json_free_cells(json, &root->refs);
        evh_symbols keys = {root->keys};
        const evh_status cleared = evh_symbols_clear(heap, &keys);
        if (!status) status = cleared;
        const evh_status removed = evh_root_remove(heap, name);
        if (!status) status = removed;
    }
    evh_json_close(json);
    return status;
}

/* ---- keys ---- */

uint32_t key_intern(struct evh_json *json, const char *text, uint64_t size)
{
    assert(text != NULL || size == 0);
    evh_symbols keys = {json->root->keys};
    const uint32_t key = evh_symbol_intern(json->heap, &keys, text, size);
    json->root->keys = keys.offset;
    return key;
}

uint32_t key_find(struct evh_json *json, const char *text, uint64_t size)
{
    assert(text != NULL || size == 0);
    const evh_symbols keys = {json->root->keys};
    return keys.offset ? evh_symbol_find(json->heap, &keys, text, size) : 0;
}

void key_retain(struct evh_json *json, uint32_t key, uint64_t count)
{
    assert(count <= UINT32_MAX);
    evh_symbols keys = {json->root->keys};
    if (key && count) (void)collect_symbol_retain(json->heap, &keys, key, (uint32_t)count);
}

void key_release(struct evh_json *json, uint32_t key)
{
    if (key == 0) return; /* damage, seen by whoever looks for it */
    evh_symbols keys = {json->root->keys};
    /* With the last reference the number may be given anew: prepared paths look again. */
    if (evh_symbol_references(json->heap, &keys, key) == 1) json->root->key_epoch++;
    (void)evh_symbol_release(json->heap, &keys, key);
    json->root->keys = keys.offset;
}

const char *key_text(struct evh_json *json, uint32_t key, uint64_t *size)
{
    assert(size != NULL);
    const evh_symbols keys = {json->root->keys};
    size_t bytes = 0;
    const char *text = evh_symbol_text(json->heap, &keys, key, &bytes);
    *size = bytes;
    if (!text) (void)json_corrupt(json->root->keys, "a key that is no symbol");
    return text;
}
