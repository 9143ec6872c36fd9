/* reach.c -- which blocks are reached from which root, and which references are no good.
 *
 * Breadth-first, so that a block's parent is on a shortest way to it; the queue is an array of as
 * many places as there are blocks, since each enters once. A block whose type is known leads where
 * its fields say. Of every other one each word may be a reference: an offset, an address of a
 * process that mapped the heap, or the distance that C++'s pointers store. The first two count if
 * they lie anywhere in a block (documents and hash tables name the insides of blocks, and put
 * numbers into the low bits); a distance, which small numbers look like, only if it leads exactly
 * to a block's start.
 */
#include "autopsy/autopsy.h"

struct reach {
    evh_autopsy *autopsy;
    int64_t parent; /* AUTOPSY_NONE: a root */
    int32_t root;
    uint32_t depth;
};

/* A reference leads to the object. `type`: what it says of it, 0 nothing. */
static void reach_object(const struct reach *reach, int64_t index, uint32_t type)
{
    evh_autopsy *autopsy = reach->autopsy;
    assert(index >= 0);
    assert((uint64_t)index < autopsy->count);
    struct autopsy_object *object = &autopsy->objects[index];
    if (object->references < UINT32_MAX) object->references++;
    if (object->type == 0) object->type = type;
    if (object->root != EVH_NO_ROOT) return;
    object->root = reach->root;
    object->depth = reach->depth;
    object->parent = reach->parent;
    assert(autopsy->queue_end < autopsy->count);
    autopsy->queue[autopsy->queue_end++] = (uint64_t)index;
}

static bool reach_field(const evh_field_value *value, void *context)
{
    const struct reach *reach = context;
    assert(value != NULL);
    if (value->ref.offset == 0) return true;
    const int64_t index = autopsy_index(reach->autopsy, value->ref.offset);
    if (index < 0) return true;
    const bool is_start = reach->autopsy->objects[index].offset == value->ref.offset;
    const bool is_named = is_start && value->target && value->kind != EVH_FIELD_HANDLE;
    reach_object(reach, index, is_named ? evh_type_find(reach->autopsy->heap, value->target) : 0);
    return true;
}

static void reach_word(const struct reach *reach, uint64_t place, uint64_t word)
{
    const evh_autopsy *autopsy = reach->autopsy;
    const uint64_t end = heap_end_bytes(autopsy->heap);
    assert(place < end);
    if (word == 0) return;
    int64_t index = word < end ? autopsy_index(autopsy, word) : AUTOPSY_NONE;
    if (index < 0) {
        const uint64_t offset = autopsy_follow_address(autopsy, word);
        if (offset) index = autopsy_index(autopsy, offset);
    }
    if (index >= 0 && index != reach->parent) reach_object(reach, index, 0);
    const uint64_t target = place + word + 1;
    if (target >= end) return;
    index = autopsy_index(autopsy, target);
    if (index >= 0 && index != reach->parent && autopsy->objects[index].offset == target)
        reach_object(reach, index, 0);
}

/* Whether a document's page is the whole block: then other pages, trees and directories name it by
 * the number of its 4096 bytes. */
static bool reach_is_json_page(const evh_autopsy *autopsy, uint64_t index)
{
    const struct autopsy_object *object = &autopsy->objects[index];
    uint16_t kind = 0;
    assert(index < autopsy->count);
    if (object->size != JSON_PAGE_BYTES || object->offset % JSON_PAGE_BYTES != 0) return false;
    memcpy(&kind, autopsy_bytes(autopsy, object), sizeof kind);
    return kind == JSON_PAGE_ITEMS || kind == JSON_PAGE_MEMBERS || kind == JSON_PAGE_INNER ||
           kind == JSON_PAGE_BUCKET;
}

static void reach_json_page(const struct reach *reach, uint32_t number)
{
    const evh_autopsy *autopsy = reach->autopsy;
    static_assert((int)JSON_PAGE_BYTES == (int)PAGE_BYTES, "objects are indexed by it");
    if (number == 0 || number >= autopsy->page_count) return;
    /* Most numbers end here: no block begins with that page. */
    const uint32_t index = autopsy->page_first[number];
    if (index >= autopsy->count) return;
    if (autopsy->objects[index].offset != (uint64_t)number << JSON_PAGE_SHIFT) return;
    if (index != reach->parent && reach_is_json_page(autopsy, index)) reach_object(reach, index, 0);
}

/* Blocks that hold text and nothing else. */
static bool reach_is_text(const unsigned char *bytes, uint64_t size)
{
    uint32_t word = 0;
    assert(bytes != NULL);
    if (size < sizeof word) return true;
    memcpy(&word, bytes, sizeof word);
    return word == COLLECT_WORD(COLLECT_STR, 1);
}

static void reach_scan(evh_autopsy *autopsy, uint64_t index)
{
    const struct autopsy_object object = autopsy->objects[index];
    const struct reach reach = {autopsy, (int64_t)index, object.root, object.depth + 1};
    assert(object.root != EVH_NO_ROOT);
    if (evh_type_get(autopsy->heap, object.type)) {
        fields_visit(autopsy, index, object.type, reach_field, (void *)(uintptr_t)&reach);
        return;
    }
    const unsigned char *bytes = autopsy_bytes(autopsy, &object);
    if (reach_is_text(bytes, object.size)) return;
    for (uint64_t at = 0; at + sizeof(uint64_t) <= object.size; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, bytes + at, sizeof word);
        reach_word(&reach, object.offset + at, word);
        reach_json_page(&reach, (uint32_t)word);
        reach_json_page(&reach, (uint32_t)(word >> 32));
    }
    assert(autopsy->queue_end <= autopsy->count);
}

static void reach_internal(uint64_t offset, void *context)
{
    evh_autopsy *autopsy = context;
    const struct reach reach = {autopsy, AUTOPSY_NONE, EVH_INTERNAL_ROOT, 0};
    const int64_t index = autopsy_index(autopsy, offset);
    assert(autopsy->queue != NULL);
    if (index >= 0) reach_object(&reach, index, 0);
}

/* From all roots at once, so that a block belongs to the root that is nearest. */
static void reach_drain(evh_autopsy *autopsy, uint64_t next)
{
    assert(next <= autopsy->queue_end);
    for (; next < autopsy->queue_end; next++) reach_scan(autopsy, autopsy->queue[next]);
    assert(next <= autopsy->count);
}

EVH_INTERNAL evh_status reach_all(evh_autopsy *autopsy)
{
    assert(autopsy->queue == NULL);
    assert(autopsy->page_first != NULL);
    autopsy->queue = os->memory_allocate((autopsy->count + 1) * sizeof *autopsy->queue);
    if (!autopsy->queue)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to follow references");
    for (uint32_t i = 0; i < autopsy->root_count; i++) {
        const struct reach reach = {autopsy, AUTOPSY_NONE, (int32_t)i, 0};
        const int64_t index = autopsy_index(autopsy, autopsy->roots[i].block.offset);
        if (index >= 0) reach_object(&reach, index, 0);
    }
    reach_drain(autopsy, 0);
    const uint64_t next = autopsy->queue_end;
    roots_each_internal(autopsy->heap, reach_internal, autopsy);
    reach_drain(autopsy, next);
    os->memory_free(autopsy->queue);
    autopsy->queue = NULL;
    return EVH_OK;
}

/* ---- references that are no good ---- */

struct dangling_search {
    evh_autopsy *autopsy;
    evh_dangling dangling;
    evh_dangling_visit *visit;
    void *context;
    bool is_stopped;
};

/* Whether the block is of a type that a field does not say: both know a name, and they differ. */
static bool dangling_is_other(const struct dangling_search *search, const evh_field_value *value)
{
    evh_object object;
    assert(search->autopsy != NULL);
    if (value->ref.offset == 0 || !value->target || value->kind == EVH_FIELD_HANDLE ||
        value->kind == EVH_FIELD_STRUCT)
        return false;
    if (!evh_autopsy_find(search->autopsy, value->ref, &object)) return false;
    assert(object.kind != NULL);
    return object.type && object.ref.offset == value->ref.offset &&
           strcmp(object.kind, value->target) != 0;
}

static bool dangling_field(const evh_field_value *value, void *context)
{
    struct dangling_search *search = context;
    evh_dangling *dangling = &search->dangling;
    assert(!search->is_stopped);
    assert(value->size > 0);
    if (value->is_dangling)
        dangling->kind = value->ref.offset ? EVH_DANGLING_INSIDE : EVH_DANGLING_FREE;
    else if (dangling_is_other(search, value))
        dangling->kind = EVH_DANGLING_TYPE;
    else
        return true;
    dangling->field = *value;
    search->is_stopped = !search->visit(dangling, search->context);
    return !search->is_stopped;
}

void evh_autopsy_dangling(evh_autopsy *autopsy, evh_dangling_visit *visit, void *context)
{
    if (!autopsy || !visit) return;
    struct dangling_search search = {.autopsy = autopsy, .visit = visit, .context = context};
    assert(autopsy->heap != NULL);
    for (uint64_t i = 0; i < autopsy->count && !search.is_stopped; i++) {
        if (!autopsy->objects[i].type) continue;
        search.dangling.object = autopsy_tell(autopsy, i);
        fields_visit(autopsy, i, autopsy->objects[i].type, dangling_field, &search);
    }
}
