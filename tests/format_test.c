/* format_test.c -- docs/format.md says what the structs say. */
#include "debug/debug_layout.h"
#include "test.h"

#include "arena/arena_layout.h"
#include "collect/collect_layout.h"
#include "debug/ring_layout.h"
#include "heap/compact_layout.h"
#include "heap/heap_layout.h"
#include "heap/types_layout.h"
#include "heap/live_layout.h"
#include "json/json_layout.h"
#include "journal/journal_layout.h"
#include "region/region_layout.h"

#include <stdlib.h>
#include <string.h>

/*
 * The document is read at run time. A table of a struct stands below a heading
 * "### `struct name`, N bytes"; its rows begin with "| offset | size | `field` |". A constant is a
 * row that begins with "| `NAME` | value |". Rows of neither form are prose.
 */
struct field {
    const char *in;
    const char *name;
    size_t offset;
    size_t size;
};

struct constant {
    const char *name;
    uint64_t value;
};

#define FIELD(type, name)                                                                          \
    {                                                                                              \
#type, #name, offsetof(struct type, name), sizeof(((struct type *)0)->name)                \
    }
#define WHOLE(type)                                                                                \
    {                                                                                              \
#type, NULL, 0, sizeof(struct type)                                                        \
    }
#define CONSTANT(name)                                                                             \
    {                                                                                              \
#name, (uint64_t)(name)                                                                    \
    }

static const struct field fields[] = {
    WHOLE(region_header),
    FIELD(region_header, magic),
    FIELD(region_header, format_version),
    FIELD(region_header, byte_order),
    FIELD(region_header, incompatible),
    FIELD(region_header, read_only_compatible),
    FIELD(region_header, compatible),
    FIELD(region_header, uuid),
    FIELD(region_header, page_bytes),
    FIELD(region_header, slice_shift),
    FIELD(region_header, mode),
    FIELD(region_header, reserved0),
    FIELD(region_header, generation),
    FIELD(region_header, created_ns),
    FIELD(region_header, preferred_address),
    FIELD(region_header, size_max_bytes),
    FIELD(region_header, sequence),
    FIELD(region_header, heap_bytes),
    FIELD(region_header, catalog),
    FIELD(region_header, earlier_addresses),
    FIELD(region_header, tail_offset),
    FIELD(region_header, chain_salt),
    FIELD(region_header, chain_crc),
    FIELD(region_header, reserved1),
    FIELD(region_header, extents),
    FIELD(region_header, bulk_bytes),
    FIELD(region_header, reserved2),
    FIELD(region_header, crc),
    WHOLE(region_extent),
    FIELD(region_extent, first_slice),
    FIELD(region_extent, slice_count),
    WHOLE(region_status),
    FIELD(region_status, magic),
    FIELD(region_status, uuid),
    FIELD(region_status, writer_process),
    FIELD(region_status, opened_ns),
    FIELD(region_status, durable_sequence),
    FIELD(region_status, revoked_sequence),
    FIELD(region_status, settled_sequence),
    FIELD(region_status, boot),
    FIELD(region_status, device),
    FIELD(region_status, inode),
    FIELD(region_status, generation),
    FIELD(region_status, settling_sequence),
    FIELD(region_status, reserved),
    FIELD(region_status, reserved1),
    FIELD(region_status, crc),
    WHOLE(journal_record),
    FIELD(journal_record, magic),
    FIELD(journal_record, uuid),
    FIELD(journal_record, sequence),
    FIELD(journal_record, salt),
    FIELD(journal_record, previous_salt),
    FIELD(journal_record, previous_crc),
    FIELD(journal_record, entry_count),
    FIELD(journal_record, record_bytes),
    FIELD(journal_record, entries_offset),
    FIELD(journal_record, heap_bytes),
    FIELD(journal_record, catalog),
    FIELD(journal_record, time_ns),
    FIELD(journal_record, changed_bytes),
    FIELD(journal_record, durable_sequence),
    FIELD(journal_record, reserved),
    FIELD(journal_record, body_crc),
    FIELD(journal_record, header_crc),
    WHOLE(journal_entry),
    FIELD(journal_entry, page),
    FIELD(journal_entry, data_offset),
    FIELD(journal_entry, kind),
    FIELD(journal_entry, count),
    WHOLE(journal_ranges_head),
    FIELD(journal_ranges_head, checksum),
    FIELD(journal_ranges_head, reserved),
    WHOLE(journal_range),
    FIELD(journal_range, first_word),
    FIELD(journal_range, word_count),
    WHOLE(heap_directory_entry),
    FIELD(heap_directory_entry, meta_slice),
    FIELD(heap_directory_entry, checksum_slice),
    WHOLE(heap_catalog),
    FIELD(heap_catalog, magic),
    FIELD(heap_catalog, root_count),
    FIELD(heap_catalog, types),
    FIELD(heap_catalog, symbols),
    FIELD(heap_catalog, reserved),
    FIELD(heap_catalog, root_chunks),
    FIELD(heap_catalog, root_filled),
    WHOLE(heap_root),
    FIELD(heap_root, hash),
    FIELD(heap_root, tag),
    FIELD(heap_root, block),
    FIELD(heap_root, size),
    FIELD(heap_root, name),
    WHOLE(live_area),
    FIELD(live_area, magic),
    FIELD(live_area, end_slices),
    FIELD(live_area, catalog),
    FIELD(live_area, session),
    FIELD(live_area, address),
    FIELD(live_area, earlier_addresses),
    WHOLE(live_intent),
    FIELD(live_intent, block),
    FIELD(live_intent, slot),
    FIELD(live_intent, kind),
    FIELD(live_intent, second),
    FIELD(live_intent, reserved),
    WHOLE(live_groups),
    FIELD(live_groups, slices),
    WHOLE(live_catalog),
    FIELD(live_catalog, magic),
    FIELD(live_catalog, reserved),
    FIELD(live_catalog, chunks),
    WHOLE(compact_header),
    FIELD(compact_header, magic),
    FIELD(compact_header, format_version),
    FIELD(compact_header, byte_order),
    FIELD(compact_header, size_bytes),
    FIELD(compact_header, granule_count),
    FIELD(compact_header, reserved0),
    FIELD(compact_header, crc),
    FIELD(compact_header, catalog),
    FIELD(compact_header, reserved1),
    WHOLE(arena_record),
    FIELD(arena_record, magic),
    FIELD(arena_record, chunk),
    FIELD(arena_record, current),
    FIELD(arena_record, chunk_count),
    FIELD(arena_record, next_bytes),
    FIELD(arena_record, size_max_bytes),
    FIELD(arena_record, alignment),
    FIELD(arena_record, is_fixed),
    FIELD(arena_record, reserved),
    WHOLE(arena_chunk_record),
    FIELD(arena_chunk_record, magic),
    FIELD(arena_chunk_record, previous),
    FIELD(arena_chunk_record, size_bytes),
    FIELD(arena_chunk_record, number),
    FIELD(arena_chunk_record, current),
    FIELD(arena_chunk_record, reserved),
    WHOLE(pool_record),
    FIELD(pool_record, magic),
    FIELD(pool_record, slab),
    FIELD(pool_record, count_max),
    FIELD(pool_record, block_bytes),
    FIELD(pool_record, alignment),
    FIELD(pool_record, slab_blocks),
    FIELD(pool_record, chain_count),
    FIELD(pool_record, reserved),
    WHOLE(pool_slab_record),
    FIELD(pool_slab_record, magic),
    FIELD(pool_slab_record, previous),
    FIELD(pool_slab_record, pool),
    FIELD(pool_slab_record, number),
    FIELD(pool_slab_record, first),
    FIELD(pool_slab_record, next),
    FIELD(pool_slab_record, reserved),
    FIELD(pool_slab_record, bits),
    WHOLE(debug_ring),
    FIELD(debug_ring, magic),
    FIELD(debug_ring, count),
    FIELD(debug_ring, reserved),
    FIELD(debug_ring, records),
    WHOLE(log_record),
    FIELD(log_record, magic),
    FIELD(log_record, operation),
    WHOLE(json_root),
    FIELD(json_root, magic),
    FIELD(json_root, version),
    FIELD(json_root, document),
    FIELD(json_root, keys),
    FIELD(json_root, key_epoch),
    FIELD(json_root, containers),
    FIELD(json_root, refs),
    FIELD(json_root, texts),
    FIELD(json_root, counts),
    FIELD(json_root, string_bytes),
    FIELD(json_root, blob_bytes),
    FIELD(json_root, changes),
    FIELD(json_root, commit_changes),
    FIELD(json_root, commit_time_ns),
    FIELD(json_root, index),
    FIELD(json_root, reserved),
    WHOLE(json_cells),
    FIELD(json_cells, directory),
    FIELD(json_cells, slab_count),
    FIELD(json_cells, slab_capacity),
    FIELD(json_cells, free_first),
    FIELD(json_cells, fresh),
    FIELD(json_cells, used_count),
    FIELD(json_cells, reserved),
    WHOLE(json_cell_slab),
    FIELD(json_cell_slab, magic),
    FIELD(json_cell_slab, number),
    FIELD(json_cell_slab, cell_bytes),
    FIELD(json_cell_slab, reserved),
    WHOLE(json_slot),
    FIELD(json_slot, type),
    FIELD(json_slot, flags),
    FIELD(json_slot, reserved),
    FIELD(json_slot, id),
    FIELD(json_slot, payload),
    WHOLE(json_blob),
    FIELD(json_blob, size),
    WHOLE(json_container),
    FIELD(json_container, serial),
    FIELD(json_container, kind),
    FIELD(json_container, form),
    FIELD(json_container, reserved),
    FIELD(json_container, count),
    FIELD(json_container, capacity),
    FIELD(json_container, body),
    FIELD(json_container, parent),
    FIELD(json_container, first_ref),
    WHOLE(json_tree),
    FIELD(json_tree, magic),
    FIELD(json_tree, root),
    FIELD(json_tree, height),
    FIELD(json_tree, directory),
    FIELD(json_tree, directory_depth),
    FIELD(json_tree, bucket_count),
    FIELD(json_tree, reserved),
    WHOLE(json_page),
    FIELD(json_page, kind),
    FIELD(json_page, height),
    FIELD(json_page, count),
    FIELD(json_page, parent),
    FIELD(json_page, owner),
    FIELD(json_page, reserved),
    WHOLE(json_entry),
    FIELD(json_entry, key),
    FIELD(json_entry, leaf),
    WHOLE(json_texts),
    FIELD(json_texts, first_slab),
    FIELD(json_texts, first_sparse),
    FIELD(json_texts, slab),
    FIELD(json_texts, hole),
    FIELD(json_texts, hole_end),
    FIELD(json_texts, first_large),
    FIELD(json_texts, slab_count),
    WHOLE(json_text_slab),
    FIELD(json_text_slab, magic),
    FIELD(json_text_slab, next),
    FIELD(json_text_slab, previous),
    FIELD(json_text_slab, next_sparse),
    FIELD(json_text_slab, previous_sparse),
    FIELD(json_text_slab, live_bytes),
    FIELD(json_text_slab, is_sparse),
    FIELD(json_text_slab, index_number),
    FIELD(json_text_slab, indexed_bytes),
    FIELD(json_text_slab, reserved),
    WHOLE(json_index),
    FIELD(json_index, groups),
    FIELD(json_index, group_count),
    FIELD(json_index, group_capacity),
    WHOLE(json_index_group),
    FIELD(json_index_group, words),
    FIELD(json_index_group, used),
    FIELD(json_index_group, stale),
    FIELD(json_index_group, reserved),
    FIELD(json_index_group, slabs),
    WHOLE(json_text),
    FIELD(json_text, units),
    FIELD(json_text, size),
    FIELD(json_text, owner),
    WHOLE(json_large_text),
    FIELD(json_large_text, magic),
    FIELD(json_large_text, next),
    FIELD(json_large_text, previous),
    FIELD(json_large_text, size),
    FIELD(json_large_text, capacity),
    FIELD(json_large_text, owner),
    FIELD(json_large_text, reserved),
    WHOLE(json_ref),
    FIELD(json_ref, serial),
    FIELD(json_ref, state),
    FIELD(json_ref, reserved1),
    FIELD(json_ref, owner),
    FIELD(json_ref, target),
    FIELD(json_ref, place),
    FIELD(json_ref, next),
    FIELD(json_ref, previous),
    FIELD(json_ref, path),
    FIELD(json_ref, reserved),
    WHOLE(collect_str),
    FIELD(collect_str, word),
    FIELD(collect_str, size),
    WHOLE(hash_table),
    FIELD(hash_table, count),
    FIELD(hash_table, root),
    FIELD(hash_table, item_size),
    FIELD(hash_table, depth),
    FIELD(hash_table, is_number),
    FIELD(hash_table, reserved),
    FIELD(hash_table, deep_count),
    FIELD(hash_table, key),
    WHOLE(hash_part),
    FIELD(hash_part, word),
    FIELD(hash_part, depth),
    FIELD(hash_part, group_bits),
    FIELD(hash_part, reserved),
    FIELD(hash_part, used_count),
    FIELD(hash_part, item_count),
    FIELD(hash_part, prefix),
    FIELD(hash_part, reserved2),
    WHOLE(collect_symbols),
    FIELD(collect_symbols, word),
    FIELD(collect_symbols, flags),
    FIELD(collect_symbols, filled),
    FIELD(collect_symbols, free),
    FIELD(collect_symbols, index),
    FIELD(collect_symbols, chunks),
    WHOLE(collect_symbol),
    FIELD(collect_symbol, text),
    FIELD(collect_symbol, references),
    FIELD(collect_symbol, reserved),
    WHOLE(collect_symbol_item),
    FIELD(collect_symbol_item, hash),
    FIELD(collect_symbol_item, symbol),
    FIELD(collect_symbol_item, reserved),
    WHOLE(collect_map),
    FIELD(collect_map, word),
    FIELD(collect_map, key_kind),
    FIELD(collect_map, value_size),
    FIELD(collect_map, reserved),
    FIELD(collect_map, table),
    WHOLE(collect_map_bytes),
    FIELD(collect_map_bytes, hash),
    FIELD(collect_map_bytes, text),
    WHOLE(collect_tree),
    FIELD(collect_tree, word),
    FIELD(collect_tree, key_kind),
    FIELD(collect_tree, value_size),
    FIELD(collect_tree, leaf_capacity),
    FIELD(collect_tree, levels),
    FIELD(collect_tree, reserved),
    FIELD(collect_tree, count),
    FIELD(collect_tree, root),
    FIELD(collect_tree, changes),
    FIELD(collect_tree, reserved2),
    WHOLE(tree_node),
    FIELD(tree_node, word),
    FIELD(tree_node, count),
    FIELD(tree_node, level),
    FIELD(tree_node, reserved),
    FIELD(tree_node, reserved2),
    WHOLE(collect_items),
    FIELD(collect_items, word),
    FIELD(collect_items, item_size),
    FIELD(collect_items, first),
    FIELD(collect_items, count),
    FIELD(collect_items, capacity),
    WHOLE(collect_bitset),
    FIELD(collect_bitset, word),
    FIELD(collect_bitset, reserved),
    FIELD(collect_bitset, count),
    FIELD(collect_bitset, word_count),
    FIELD(collect_bitset, reserved2),
    WHOLE(types_table),
    FIELD(types_table, magic),
    FIELD(types_table, reserved),
    FIELD(types_table, chunks),
    WHOLE(types_record),
    FIELD(types_record, magic),
    FIELD(types_record, size),
    FIELD(types_record, number),
    FIELD(types_record, field_count),
    FIELD(types_record, reserved),
    FIELD(types_record, name),
    WHOLE(types_field),
    FIELD(types_field, offset),
    FIELD(types_field, size),
    FIELD(types_field, count),
    FIELD(types_field, kind),
    FIELD(types_field, tag_size),
    FIELD(types_field, tag_offset),
    FIELD(types_field, reserved),
    FIELD(types_field, tag_value),
    FIELD(types_field, name),
    FIELD(types_field, target),
    WHOLE(ring_head),
    FIELD(ring_head, magic),
    FIELD(ring_head, record_count),
    FIELD(ring_head, next),
    FIELD(ring_head, created_ns),
    FIELD(ring_head, reserved),
    WHOLE(ring_record),
    FIELD(ring_record, state),
    FIELD(ring_record, time_ns),
    FIELD(ring_record, process),
    FIELD(ring_record, thread),
    FIELD(ring_record, format),
    FIELD(ring_record, size),
    FIELD(ring_record, reserved),
    FIELD(ring_record, crc),
    FIELD(ring_record, reserved2),
    FIELD(ring_record, data),
};

static const struct constant constants[] = {
    CONSTANT(PAGE_BYTES),
    CONSTANT(SLICE_BYTES),
    CONSTANT(SEGMENT_BYTES),
    CONSTANT(REGION_SLOT_BYTES),
    CONSTANT(REGION_SLOT_STRIDE),
    CONSTANT(REGION_STATUS_OFFSET),
    CONSTANT(REGION_CHECKSUM_OFFSET),
    CONSTANT(REGION_FIRST_EXTENT_OFFSET),
    CONSTANT(REGION_FIRST_EXTENT_BYTES),
    CONSTANT(REGION_EXTENT_MAX),
    CONSTANT(REGION_NEW_BYTES),
    CONSTANT(REGION_SIZE_MAX),
    CONSTANT(REGION_MAGIC),
    CONSTANT(REGION_FORMAT_VERSION),
    CONSTANT(REGION_FEATURE_BULK),
    CONSTANT(REGION_BYTE_ORDER),
    CONSTANT(REGION_SEQUENCE_MAX),
    CONSTANT(REGION_STATUS_MAGIC),
    CONSTANT(REGION_LOCK_WRITER),
    CONSTANT(REGION_LOCK_READY),
    CONSTANT(REGION_LOCK_ATTACHED),
    CONSTANT(REGION_LOCK_PROCESSES),
    CONSTANT(LIVE_INTENT_NAMED),
    CONSTANT(LIVE_INTENT_ROOT),
    CONSTANT(LIVE_INTENT_GONE),
    CONSTANT(LIVE_INTENT_MADE),
    CONSTANT(LIVE_INTENT_FREE),
    CONSTANT(LIVE_AREA_MAGIC),
    CONSTANT(LIVE_CATALOG_MAGIC),
    CONSTANT(LIVE_AREA_OFFSET),
    CONSTANT(LIVE_INTENTS_OFFSET),
    CONSTANT(LIVE_THREADS_MAX),
    CONSTANT(LIVE_GROUPS_OFFSET),
    CONSTANT(LIVE_PLACES_OFFSET),
    CONSTANT(LIVE_PLACE_BYTES),
    CONSTANT(LIVE_MIRROR_OFFSET),
    CONSTANT(LIVE_FIRST_PLACES),
    CONSTANT(LIVE_GROUP_PLACES),
    CONSTANT(LIVE_GROUP_COUNT),
    CONSTANT(LIVE_ROOT_WORDS),
    CONSTANT(LIVE_ROOT_PROBES),
    CONSTANT(LIVE_ROOT_CHUNKS),
    CONSTANT(LIVE_ROOT_REMOVED),
    CONSTANT(LIVE_ROOT_BUSY_SHIFT),
    CONSTANT(REGION_LOCK_VIEWS),
    CONSTANT(JOURNAL_SUM_NONE),
    CONSTANT(JOURNAL_SUM_UNKNOWN),
    CONSTANT(JOURNAL_SUM_FIRST),
    CONSTANT(JOURNAL_IMAGE),
    CONSTANT(JOURNAL_RANGES),
    CONSTANT(JOURNAL_ZERO),
    CONSTANT(JOURNAL_HOME),
    CONSTANT(JOURNAL_MAGIC),
    CONSTANT(JOURNAL_RANGES_BYTES_MAX),
    CONSTANT(HEAP_FIRST_META_SLICE),
    CONSTANT(HEAP_DESCRIPTORS_OFFSET),
    CONSTANT(HEAP_DIRECTORY_OFFSET),
    CONSTANT(HEAP_POOL_OFFSET),
    CONSTANT(HEAP_DIRECT_SEGMENTS),
    CONSTANT(HEAP_INDIRECT_ENTRIES),
    CONSTANT(HEAP_INDIRECT_SEGMENTS),
    CONSTANT(HEAP_FREE),
    CONSTANT(HEAP_SMALL),
    CONSTANT(HEAP_MEDIUM),
    CONSTANT(HEAP_LARGE),
    CONSTANT(HEAP_TAIL),
    CONSTANT(HEAP_BITMAP),
    CONSTANT(HEAP_META),
    CONSTANT(HEAP_DIRECTORY),
    CONSTANT(HEAP_CHECKSUM),
    CONSTANT(HEAP_JOURNAL),
    CONSTANT(HEAP_HOLE),
    CONSTANT(HEAP_TYPED),
    CONSTANT(HEAP_MEDIUM_SLICES),
    CONSTANT(HEAP_SMALL_MAX),
    CONSTANT(HEAP_MEDIUM_MAX),
    CONSTANT(HEAP_CLASS_COUNT),
    CONSTANT(HEAP_CATALOG_MAGIC),
    CONSTANT(HEAP_ROOT_CHUNKS),
    CONSTANT(HEAP_ROOT_FIRST),
    CONSTANT(COMPACT_MAGIC),
    CONSTANT(COMPACT_BYTE_ORDER),
    CONSTANT(COMPACT_FORMAT_VERSION),
    CONSTANT(COMPACT_GRANULE_BYTES),
    CONSTANT(COMPACT_HEADER_BYTES),
    CONSTANT(JSON_MAGIC),
    CONSTANT(JSON_VERSION),
    CONSTANT(JSON_SCAN_MAX),
    CONSTANT(JSON_FLAT_MAX),
    CONSTANT(JSON_TEXT_SMALL_MAX),
    CONSTANT(JSON_TEXT_FREE),
    CONSTANT(JSON_BUCKET_FULL),
    CONSTANT(COLLECT_STR),
    CONSTANT(COLLECT_SYMBOLS),
    CONSTANT(COLLECT_VEC),
    CONSTANT(COLLECT_MAP),
    CONSTANT(COLLECT_TREE),
    CONSTANT(COLLECT_QUEUE),
    CONSTANT(COLLECT_BITSET),
    CONSTANT(COLLECT_HASH_PART),
    CONSTANT(COLLECT_TREE_LEAF),
    CONSTANT(COLLECT_TREE_INNER),
    CONSTANT(HASH_SLOTS),
    CONSTANT(HASH_ITEMS),
    CONSTANT(HASH_DEPTH_MAX),
    CONSTANT(HASH_GROUPS_BITS_MAX),
    CONSTANT(HASH_EMPTY),
    CONSTANT(HASH_ERASED),
    CONSTANT(HASH_NO_SLOT),
    CONSTANT(SYMBOL_CHUNKS),
    CONSTANT(SYMBOL_CHUNK_BITS),
    CONSTANT(TREE_LEVELS_MAX),
    CONSTANT(TREE_INNER_NUMBERS),
    CONSTANT(TREE_INNER_BYTES),
    CONSTANT(TREE_LEAF_ITEMS_MIN),
    CONSTANT(TREE_NODE_BYTES),
    CONSTANT(TYPES_TABLE_MAGIC),
    CONSTANT(TYPES_RECORD_MAGIC),
    CONSTANT(TYPES_CHUNKS),
    CONSTANT(TYPES_FIRST),
    CONSTANT(TYPES_FIELDS_MAX),
    CONSTANT(RING_MAGIC),
    CONSTANT(RING_DATA_BYTES),
    CONSTANT(RING_FORMATS),
    CONSTANT(RING_RECORDS_MAX),
};

enum {
    FIELD_COUNT = sizeof fields / sizeof fields[0],
    CONSTANT_COUNT = sizeof constants / sizeof constants[0],
    LINE_SIZE = 1024,
};

/* The document, found beside this file's source; tests run in the root of the tree. */
static FILE *document_open(void)
{
    FILE *file = fopen("docs/format.md", "r");
    if (!file) test_fail(__FILE__, __LINE__, "docs/format.md: run this in the root of the tree");
    if (!file) test_stop();
    return file;
}

/* The field called `name` (NULL: the whole) of struct `in`; -1 if the table above lacks it. */
static int find_field(const char *in, const char *name)
{
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (strcmp(fields[i].in, in) != 0) continue;
        if (!name && !fields[i].name) return i;
        if (name && fields[i].name && strcmp(fields[i].name, name) == 0) return i;
    }
    return -1;
}

static int find_constant(const char *name)
{
    for (int i = 0; i < CONSTANT_COUNT; i++) {
        if (strcmp(constants[i].name, name) == 0) return i;
    }
    return -1;
}

/* Check one documented field or whole against the struct, and mark it as seen. */
static void check_field(const char *in, const char *name, size_t offset, size_t size, bool *seen)
{
    const int i = find_field(in, name);
    if (i < 0 || fields[i].offset != offset || fields[i].size != size) {
        test_fail(__FILE__, __LINE__, "docs/format.md: struct %s, %s: offset %zu, size %zu", in,
                  name ? name : "the whole", offset, size);
        test_stop();
    }
    seen[i] = true;
}

TEST(the_documented_structs_are_those_of_the_code)
{
    bool seen[FIELD_COUNT] = {false};
    char line[LINE_SIZE], in[64] = "", name[64];
    size_t offset, size;
    FILE *file = document_open();

    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#') in[0] = 0;
        if (sscanf(line, "### `struct %63[a-z_]`, %zu bytes", in, &size) == 2) {
            check_field(in, NULL, 0, size, seen);
        } else if (in[0] &&
                   sscanf(line, "| %zu | %zu | `%63[a-z0-9_]`", &offset, &size, name) == 3) {
            check_field(in, name, offset, size, seen);
        }
    }
    fclose(file);

    for (int i = 0; i < FIELD_COUNT; i++) {
        if (seen[i]) continue;
        test_fail(__FILE__, __LINE__, "docs/format.md lacks struct %s, %s", fields[i].in,
                  fields[i].name ? fields[i].name : "the whole");
        test_stop();
    }
}

TEST(the_structs_on_disk_have_no_padding)
{
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (fields[i].name) continue;
        size_t end = 0;
        for (int j = i + 1; j < FIELD_COUNT && fields[j].name; j++) {
            CHECK_EQUAL(fields[j].offset, end);
            end = fields[j].offset + fields[j].size;
        }
        CHECK_EQUAL(end, fields[i].size);
    }
}

TEST(the_documented_constants_are_those_of_the_code)
{
    bool seen[CONSTANT_COUNT] = {false};
    char line[LINE_SIZE], name[64], value[64];
    FILE *file = document_open();

    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "| `%63[A-Z0-9_]` | %63[0-9a-fx] |", name, value) != 2) continue;
        const int i = find_constant(name);
        if (i < 0 || constants[i].value != strtoull(value, NULL, 0)) {
            test_fail(__FILE__, __LINE__, "docs/format.md: constant %s is %s", name, value);
            test_stop();
        }
        seen[i] = true;
    }
    fclose(file);

    for (int i = 0; i < CONSTANT_COUNT; i++) {
        if (seen[i]) continue;
        test_fail(__FILE__, __LINE__, "docs/format.md lacks the constant %s", constants[i].name);
        test_stop();
    }
}
