/* collect.c -- blocks of collections, looked up before they are freed; what a handle leads to. */
#include "collect/collect.h"

evh_status collect_corrupt(uint64_t offset, const char *what)
{
    assert(what != NULL);
    return base_fail(EVH_CORRUPT, offset, "%s: at offset %llu", what, (unsigned long long)offset);
}

bool collect_is_mapped(const evh_heap *heap, uint64_t offset, uint64_t bytes)
{
    assert(heap != NULL);
    const uint64_t begin = heap->compact ? 16 : SLICE_BYTES; /* slice 0 of a file is not mapped */
    if (offset < begin || !base_in_range(offset, bytes, collect_end(heap))) return false;
    /* Another process made this live heap grow. */
    assert(offset >= 16);
    if (heap->live) heap_find_span((evh_heap *)(uintptr_t)heap);
    heap_want_ranges((evh_heap *)(uintptr_t)heap);
    for (unsigned i = 0; heap->journal && i < REGION_EXTENT_MAX; i++) {
        const struct region_extent extent = region_extent_at(heap->region, i);
        const uint64_t first = (uint64_t)extent.first_slice << SLICE_SHIFT;
        const uint64_t end = first + ((uint64_t)extent.slice_count << SLICE_SHIFT);
        if (offset < end && first < offset + bytes) return false;
    }
    return true;
}

evh_status collect_writable(evh_heap *heap, const void *handle)
{
    const evh_status status = heap_writable(heap);
    if (status) return status;
    assert(heap != NULL);
    if (!handle) return base_fail(EVH_INVALID, NO_OFFSET, "no collection: its handle is null");
    assert(heap->is_writable);
    return EVH_OK;
}

uint64_t collect_block_bytes(evh_heap *heap, uint64_t offset)
{
    uint64_t bytes = 0;
    assert(heap != NULL);
    if (!collect_is_in(heap, offset, 1) || !heap_block_room(heap, offset, &bytes)) {
        (void)collect_corrupt(offset, "no block of a collection begins here");
        return 0;
    }
    assert(bytes > 0);
    return bytes;
}

evh_status collect_free(evh_heap *heap, uint64_t offset)
{
    assert(heap != NULL);
    if (offset == 0) return EVH_OK;
    if (collect_block_bytes(heap, offset) == 0) return EVH_CORRUPT;
    assert(offset % 16 == 0);
    evh_free(heap, heap->view.base + offset);
    return EVH_OK;
}

evh_status collect_check_block(evh_heap *heap, uint64_t ref, uint64_t bytes)
{
    assert(heap != NULL);
    assert(bytes > 0);
    const uint64_t usable_bytes = collect_block_bytes(heap, ref);
    if (usable_bytes == 0) return EVH_CORRUPT;
    assert(ref % 16 == 0);
    if (usable_bytes < bytes) return collect_corrupt(ref, "a block of a collection is too small");
    return EVH_OK;
}

/* ---- what a handle leads to ---- */

const char *evh_kind_name(evh_kind kind)
{
    static const char *const names[] = {"none", "str",  "symbols", "vec",
                                        "map",  "tree", "queue",   "bitset"};
    const unsigned index = (unsigned)kind;
    return index < sizeof names / sizeof names[0] ? names[index] : "?";
}

/* Sizes and counts; a kind fills in those it has. */
static void collection_describe(const evh_heap *heap, uint64_t handle, evh_collection *collection)
{
    assert(handle != 0);
    assert(collection->kind != EVH_KIND_NONE);
    assert(collection->kind <= EVH_KIND_BITSET);
    switch (collection->kind) {
    case EVH_KIND_STR:
        collection->count = evh_str_size(heap, &(evh_str){handle});
        collection->item_size = 1;
        break;
    case EVH_KIND_SYMBOLS:
        collection->count = evh_symbols_count(heap, &(evh_symbols){handle});
        break;
    case EVH_KIND_VEC:
        collection->count = evh_vec_count(heap, &(evh_vec){handle});
        collection->item_size = evh_vec_item_size(heap, &(evh_vec){handle});
        break;
    case EVH_KIND_MAP:
        collection->count = evh_map_count(heap, &(evh_map){handle});
        collection->key_kind = evh_map_key_kind(heap, &(evh_map){handle});
        collection->item_size = evh_map_value_size(heap, &(evh_map){handle});
        break;
    case EVH_KIND_TREE:
        collection->count = evh_tree_count(heap, &(evh_tree){handle});
        collection->key_kind = evh_tree_key_kind(heap, &(evh_tree){handle});
        collection->item_size = evh_tree_value_size(heap, &(evh_tree){handle});
        break;
    case EVH_KIND_QUEUE:
        collection->count = evh_queue_count(heap, &(evh_queue){handle});
        collection->item_size = evh_queue_item_size(heap, &(evh_queue){handle});
        break;
    case EVH_KIND_BITSET: collection->count = evh_bitset_count(heap, &(evh_bitset){handle}); break;
    case EVH_KIND_NONE: break;
    }
}

bool evh_collection_at(const evh_heap *heap, evh_ref ref, evh_collection *collection)
{
    *collection = (evh_collection){0};
    if (!collect_is_in(heap, ref.offset, 16)) return false;
    const uint32_t word = *(const uint32_t *)(const void *)(heap->view.base + ref.offset);
    const uint32_t kind = word >> 16 & 0xff;
    if (word != COLLECT_WORD(kind, 1) || kind == 0 || kind > EVH_KIND_BITSET) return false;

    assert(heap != NULL);
    assert(ref.offset % 16 == 0);
    collection->kind = (evh_kind)kind;
    collection_describe(heap, ref.offset, collection);
    return true;
}
