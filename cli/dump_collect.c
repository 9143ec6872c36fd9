/* dump_collect.c -- the collections that a block has handles of, as `everheap dump` shows them. */
#include "dump.h"

#include <stdlib.h>
#include <string.h>

enum { VALUE_BYTES_MAX = 64, TEXT_BYTES_MAX = 200 };

/* ---- collecting: copies, because printing does not touch the heap ---- */

static struct dump_bytes copy_bytes(const void *bytes, size_t size, size_t size_max)
{
    struct dump_bytes copy = {.size = size, .kept = size < size_max ? size : size_max};
    copy.bytes = cli_resize(NULL, copy.kept ? copy.kept : 1, 1);
    if (copy.kept > 0) memcpy(copy.bytes, bytes, copy.kept);
    return copy;
}

/* A value is its bytes, or the text of the str that it is a handle of. */
static struct dump_bytes copy_value(evh_heap *heap, const void *value, size_t size, bool *is_text)
{
    evh_str string = {0};
    evh_collection collection;
    if (size == sizeof string) memcpy(&string, value, sizeof string);
    *is_text = evh_collection_at(heap, (evh_ref){string.offset}, &collection) &&
               collection.kind == EVH_KIND_STR;
    if (!*is_text) return copy_bytes(value, size, VALUE_BYTES_MAX);
    size_t text_size;
    const char *const text = evh_str_text(heap, &string, &text_size);
    return copy_bytes(text, text_size, TEXT_BYTES_MAX);
}

/* Room for one item more, zeroed; NULL when enough are shown. */
static struct dump_item *add_item(struct dump_collection *shown, const struct cli_request *request)
{
    if (shown->item_count >= request->values[DUMP_LIMIT].number) return NULL;
    shown->items = cli_resize(shown->items, shown->item_count + 1, sizeof *shown->items);
    struct dump_item *const item = &shown->items[shown->item_count++];
    *item = (struct dump_item){0};
    return item;
}

/* An item with a number or bytes as its key, and a value unless it has none. */
static bool add_pair(evh_heap *heap, struct dump_collection *shown,
                     const struct cli_request *request, uint64_t key, const char *bytes,
                     size_t size, const void *value)
{
    struct dump_item *const item = add_item(shown, request);
    if (!item) return false;
    item->number = key;
    item->has_key_text = bytes != NULL;
    item->key = copy_bytes(bytes ? bytes : "", bytes ? size : 0, TEXT_BYTES_MAX);
    item->value =
        copy_value(heap, value, value ? shown->collection.item_size : 0, &item->is_value_text);
    return true;
}

static void collect_row(evh_heap *heap, struct dump_collection *shown,
                        const struct cli_request *request, uint64_t handle)
{
    const evh_vec vec = {handle};
    const evh_queue queue = {handle};
    const bool is_vec = shown->collection.kind == EVH_KIND_VEC;
    for (size_t i = 0; i < shown->collection.count; i++) {
        const void *const value =
            is_vec ? evh_vec_at(heap, &vec, i) : evh_queue_at(heap, &queue, i);
        if (!value || !add_pair(heap, shown, request, i, NULL, 0, value)) return;
    }
}

static void collect_map(evh_heap *heap, struct dump_collection *shown,
                        const struct cli_request *request, uint64_t handle)
{
    const evh_map map = {handle};
    evh_map_cursor cursor = {0};
    while (evh_map_next(heap, &map, &cursor))
        if (!add_pair(heap, shown, request, cursor.key, cursor.bytes, cursor.size, cursor.value))
            return;
}

static void collect_tree(evh_heap *heap, struct dump_collection *shown,
                         const struct cli_request *request, uint64_t handle)
{
    const evh_tree tree = {handle};
    evh_tree_cursor cursor = {0};
    while (evh_tree_next(heap, &tree, &cursor))
        if (!add_pair(heap, shown, request, cursor.key, cursor.bytes, cursor.size, cursor.value))
            return;
}

static void collect_symbols(evh_heap *heap, struct dump_collection *shown,
                            const struct cli_request *request, uint64_t handle)
{
    const evh_symbols symbols = {handle};
    evh_symbol symbol = 0;
    while ((symbol = evh_symbol_next(heap, &symbols, symbol, EVH_MATCH_PREFIX, NULL, 0))) {
        struct dump_item *const item = add_item(shown, request);
        if (!item) return;
        size_t size;
        const char *const text = evh_symbol_text(heap, &symbols, symbol, &size);
        item->number = symbol;
        item->key = copy_bytes("", 0, 1);
        item->value = copy_bytes(text ? text : "", size, TEXT_BYTES_MAX);
        item->is_value_text = true;
    }
}

static void collect_bits(evh_heap *heap, struct dump_collection *shown,
                         const struct cli_request *request, uint64_t handle)
{
    const evh_bitset bits = {handle};
    uint64_t bit = evh_bitset_next(heap, &bits, 0);
    for (; bit != EVH_NO_BIT; bit = evh_bitset_next(heap, &bits, bit + 1))
        if (!add_pair(heap, shown, request, bit, NULL, 0, NULL)) return;
}

static void collect_str(evh_heap *heap, struct dump_collection *shown, uint64_t handle)
{
    const evh_str string = {handle};
    size_t size;
    const char *const text = evh_str_text(heap, &string, &size);
    shown->items = cli_resize(NULL, 1, sizeof *shown->items);
    shown->items[0] = (struct dump_item){.key = copy_bytes("", 0, 1),
                                         .value = copy_bytes(text, size, TEXT_BYTES_MAX),
                                         .is_value_text = true};
    shown->item_count = 1;
}

static void collect_items(evh_heap *heap, struct dump_collection *shown,
                          const struct cli_request *request, uint64_t handle)
{
    switch (shown->collection.kind) {
    case EVH_KIND_STR: collect_str(heap, shown, handle); break;
    case EVH_KIND_SYMBOLS: collect_symbols(heap, shown, request, handle); break;
    case EVH_KIND_VEC:
    case EVH_KIND_QUEUE: collect_row(heap, shown, request, handle); break;
    case EVH_KIND_MAP: collect_map(heap, shown, request, handle); break;
    case EVH_KIND_TREE: collect_tree(heap, shown, request, handle); break;
    case EVH_KIND_BITSET: collect_bits(heap, shown, request, handle); break;
    case EVH_KIND_NONE: break;
    }
}

void dump_collect_collections(evh_heap *heap, struct dump_report *report, size_t node_index)
{
    const struct dump_node *const node = &report->nodes[node_index];
    for (size_t at = 0; at + 8 <= node->data_bytes; at += 8) {
        uint64_t handle;
        evh_collection collection;
        memcpy(&handle, node->data + at, sizeof handle);
        if (!dump_find(report, handle)) continue;
        if (!evh_collection_at(heap, (evh_ref){handle}, &collection)) continue;
        report->collections = cli_resize(report->collections, report->collection_count + 1,
                                         sizeof *report->collections);
        struct dump_collection *const shown = &report->collections[report->collection_count++];
        *shown = (struct dump_collection){
            .node_index = node_index, .at = at, .offset = handle, .collection = collection};
        collect_items(heap, shown, report->request, handle);
    }
}

void dump_clear_collections(struct dump_report *report)
{
    for (size_t i = 0; i < report->collection_count; i++) {
        for (size_t k = 0; k < report->collections[i].item_count; k++) {
            free(report->collections[i].items[k].key.bytes);
            free(report->collections[i].items[k].value.bytes);
        }
        free(report->collections[i].items);
    }
    report->collection_count = 0;
}

/* ---- text ---- */

static void print_text(const struct dump_bytes *text)
{
    printf("\"");
    cli_put_escaped(stdout, (const char *)text->bytes, text->kept);
    printf(text->kept < text->size ? "\"..." : "\"");
}

/* A value of 1, 2, 4 or 8 bytes as a number, others as hexadecimal digits. */
static void print_value(const struct dump_item *item)
{
    const struct dump_bytes *const value = &item->value;
    uint64_t number = 0;
    if (item->is_value_text) {
        print_text(value);
    } else if (value->size == 1 || value->size == 2 || value->size == 4 || value->size == 8) {
        memcpy(&number, value->bytes, value->size);
        printf("%llu", (unsigned long long)number);
    } else {
        for (size_t i = 0; i < value->kept; i++) printf("%02x", value->bytes[i]);
        if (value->kept < value->size) printf("...");
    }
}

static void print_item(const struct dump_collection *shown, const struct dump_item *item)
{
    printf("    ");
    if (shown->collection.kind == EVH_KIND_STR) {
        print_text(&item->value);
    } else {
        if (item->has_key_text)
            print_text(&item->key);
        else
            printf("%llu", (unsigned long long)item->number);
        if (item->value.size > 0 || item->is_value_text) {
            printf(": ");
            print_value(item);
        }
    }
    printf("\n");
}

void dump_text_collections(const struct dump_report *report, size_t node_index)
{
    for (size_t i = 0; i < report->collection_count; i++) {
        const struct dump_collection *const shown = &report->collections[i];
        if (shown->node_index != node_index) continue;
        const bool is_str = shown->collection.kind == EVH_KIND_STR;
        printf("  +%zx  %s, %s\n", shown->at, evh_kind_name(shown->collection.kind),
               cli_plural(shown->collection.count, is_str ? "byte" : "item"));
        for (size_t k = 0; k < shown->item_count; k++) print_item(shown, &shown->items[k]);
        if (!is_str && shown->item_count < shown->collection.count)
            printf("    ... %s more; see --limit\n",
                   cli_count(shown->collection.count - shown->item_count));
    }
}

/* ---- JSON ---- */

static void json_item(struct cli_json *json, const struct dump_item *item)
{
    cli_json_object(json, NULL);
    if (item->has_key_text)
        cli_json_bytes(json, "key", (const char *)item->key.bytes, item->key.kept);
    else
        cli_json_number(json, "key", item->number);
    if (item->is_value_text)
        cli_json_bytes(json, "text", (const char *)item->value.bytes, item->value.kept);
    else
        cli_json_hex(json, "value", item->value.bytes, item->value.kept);
    cli_json_close(json);
}

void dump_json_collections(struct cli_json *json, const struct dump_report *report,
                           size_t node_index)
{
    cli_json_array(json, "collections");
    for (size_t i = 0; i < report->collection_count; i++) {
        const struct dump_collection *const shown = &report->collections[i];
        if (shown->node_index != node_index) continue;
        cli_json_object(json, NULL);
        cli_json_number(json, "at", shown->at);
        cli_json_number(json, "offset", shown->offset);
        cli_json_string(json, "kind", evh_kind_name(shown->collection.kind));
        cli_json_number(json, "count", shown->collection.count);
        cli_json_number(json, "item_bytes", shown->collection.item_size);
        cli_json_array(json, "items");
        for (size_t k = 0; k < shown->item_count; k++) json_item(json, &shown->items[k]);
        cli_json_close(json);
        cli_json_close(json);
    }
    cli_json_close(json);
}
