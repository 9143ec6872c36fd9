/* collect_odd_test.c -- what holds for all collections: handles that are none, kinds, modes. */
#include "heap/heap.h"
#include "test.h"

#include <everheap.h>

#include <pthread.h>
#include <string.h>

/* A durable heap whose journal has grown an extent within it, so that slices without access lie
 * between the others. */
static evh_heap *open_with_extent(const char *path)
{
    evh_heap *heap = evh_open(path, &(evh_options){.no_thread = true});
    CHECK(heap);
    for (int i = 0; i < 12; i++) {
        unsigned char *block = evh_malloc(heap, 1 << 20);
        CHECK(block);
        for (size_t at = 0; at < 1 << 20; at += 64) block[at] = (unsigned char)(at + 1);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    return heap;
}

static void use_handle(evh_heap *heap, uint64_t offset)
{
    evh_collection collection;
    evh_map_cursor item = {0};
    evh_tree_cursor place = {0};
    (void)evh_collection_at(heap, (evh_ref){offset}, &collection);
    (void)evh_str_text(heap, &(evh_str){offset}, NULL);
    (void)evh_symbol_find(heap, &(evh_symbols){offset}, "x", 1);
    (void)evh_vec_at(heap, &(evh_vec){offset}, 0);
    (void)evh_queue_at(heap, &(evh_queue){offset}, 0);
    (void)evh_bitset_next(heap, &(evh_bitset){offset}, 0);
    (void)evh_map_get(heap, &(evh_map){offset}, 1);
    (void)evh_map_get_str(heap, &(evh_map){offset}, "x");
    (void)evh_map_next(heap, &(evh_map){offset}, &item);
    (void)evh_tree_get(heap, &(evh_tree){offset}, 1);
    (void)evh_tree_next(heap, &(evh_tree){offset}, &place);
    if (offset == 0) return;
    CHECK_EQUAL(evh_str_set(heap, &(evh_str){offset}, "x", 1), EVH_CORRUPT);
    CHECK(!evh_symbol_intern(heap, &(evh_symbols){offset}, "x", 1));
    CHECK(!evh_vec_push(heap, &(evh_vec){offset}, 8, NULL));
    CHECK_EQUAL(evh_queue_push(heap, &(evh_queue){offset}, 8, NULL), EVH_CORRUPT);
    CHECK_EQUAL(evh_bitset_put(heap, &(evh_bitset){offset}, 1, true), EVH_CORRUPT);
    CHECK(!evh_map_put(heap, &(evh_map){offset}, 1, 8));
    CHECK(!evh_map_erase(heap, &(evh_map){offset}, 1));
    CHECK(!evh_tree_put(heap, &(evh_tree){offset}, 1, 8));
    CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
    CHECK_EQUAL(evh_map_check(heap, &(evh_map){offset}), EVH_CORRUPT);
    CHECK_EQUAL(evh_tree_check(heap, &(evh_tree){offset}), EVH_CORRUPT);
}

TEST(any_number_as_a_handle_is_an_error_and_no_fault)
{
    evh_heap *heap = open_with_extent(test_path("odd.heap"));
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    for (uint64_t offset = 0; offset < info.heap_bytes + (1 << 20); offset += 4096 - 16)
        use_handle(heap, offset);
    const uint64_t odd[] = {0,
                            1,
                            8,
                            15,
                            16,
                            24,
                            4096,
                            65536,
                            65537,
                            UINT64_MAX,
                            UINT64_MAX - 15,
                            1ull << 63,
                            info.heap_bytes - 16,
                            info.heap_bytes};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) use_handle(heap, odd[i]);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    evh_close(heap);
}

TEST(any_number_as_a_handle_is_an_error_in_a_live_heap_too)
{
    evh_heap *heap = evh_open(test_path("live.heap"), &(evh_options){.mode = EVH_LIVE});
    CHECK(heap);
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    for (uint64_t offset = 0; offset < info.heap_bytes + (1 << 20); offset += 4096 - 16)
        use_handle(heap, offset);
    const uint64_t odd[] = {0, 65537, 1ull << 40, (1ull << 40) - 4096, UINT64_MAX - 15, 1ull << 63};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) use_handle(heap, odd[i]);
    evh_map map = {0};
    for (uint64_t key = 1; key < 5000; key++) CHECK(evh_map_put(heap, &map, key, 8));
    CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static uint64_t heap_known_end(const evh_heap *heap)
{
    return heap->live ? live_end(heap->live) << SLICE_SHIFT : heap_end_bytes(heap);
}

/* Whether a slice may hold blocks, looked up in the list of the journal's extents. */
static bool slice_is_mapped(const evh_heap *heap, uint64_t slice)
{
    if (slice == 0 || slice >= (heap_known_end(heap) >> SLICE_SHIFT)) return false;
    for (unsigned i = 0; heap->journal && i < REGION_EXTENT_MAX; i++) {
        const struct region_extent extent = region_extent_at(heap->region, i);
        if (slice - extent.first_slice < extent.slice_count) return false;
    }
    return true;
}

/* The span is a range of such slices, and no other is longer. Returns how many ranges there are. */
static unsigned check_span(const evh_heap *heap)
{
    uint64_t length = 0, longest = 0;
    unsigned ranges = 0;
    for (uint64_t slice = 0; slice <= (heap_known_end(heap) >> SLICE_SHIFT); slice++) {
        const bool is_mapped = slice_is_mapped(heap, slice);
        const uint64_t offset = slice << SLICE_SHIFT;
        if (heap_span_has(heap, offset, SLICE_BYTES)) CHECK(is_mapped);
        if (heap_span_has(heap, offset + SLICE_BYTES - 512, HEAP_SPAN_SMALL))
            CHECK(is_mapped && slice_is_mapped(heap, slice + 1));
        ranges += is_mapped && length == 0;
        length = is_mapped ? length + 1 : 0;
        longest = longest > length ? longest : length;
    }
    CHECK_EQUAL(heap->span_bytes, longest << SLICE_SHIFT);
    CHECK_EQUAL(heap->span_starts, heap->span_bytes - HEAP_SPAN_SMALL);
    CHECK(heap_span_has(heap, heap->span_begin, heap->span_bytes));
    CHECK(!heap_span_has(heap, heap->span_begin, heap->span_bytes + 1));
    CHECK(!heap_span_has(heap, heap->span_begin - 1, 1));
    CHECK(!heap_span_has(heap, heap->span_begin + heap->span_bytes, 1));
    CHECK(!heap_span_has(heap, UINT64_MAX, 16));
    return ranges;
}

TEST(refs_are_compared_with_the_widest_range_that_is_mapped)
{
    const char *path = test_path("odd.heap");
    evh_heap *heap = open_with_extent(path);
    CHECK(check_span(heap) > 1);
    const uint64_t before = heap->span_bytes;
    CHECK(evh_malloc(heap, 40 << 20)); /* behind the extents: a wider range */
    (void)check_span(heap);
    CHECK(heap->span_bytes > before);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    (void)check_span(heap);
    CHECK_EQUAL(heap->span_bytes, before);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    for (int mode = 0; mode < 3; mode++) {
        const evh_mode modes[] = {EVH_DURABLE, EVH_READ_ONLY, EVH_PRIVATE};
        heap = evh_open(path, &(evh_options){.mode = modes[mode]});
        CHECK(heap && check_span(heap) > 1);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
    heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap && evh_malloc(heap, 5 << 20));
    CHECK_EQUAL(check_span(heap), 1);
    evh_close(heap);
    heap = evh_open(test_path("live.heap"), &(evh_options){.mode = EVH_LIVE});
    CHECK(heap && check_span(heap) == 1);
    evh_close(heap);
}

/* As check_span(), once a ref lay outside: what is asked of any two places is answered exactly. */
static void check_ranges(evh_heap *heap)
{
    const uint64_t end = heap_known_end(heap);
    for (uint64_t slice = 0; slice <= (end >> SLICE_SHIFT) + 1; slice++) {
        const uint64_t offset = slice << SLICE_SHIFT;
        const bool is_mapped = slice_is_mapped(heap, slice);
        const bool goes_on = is_mapped && slice_is_mapped(heap, slice + 1);
        const struct heap_starts starts = heap_find_starts(heap);
        CHECK_EQUAL(heap_span_has(heap, offset, SLICE_BYTES), is_mapped);
        CHECK_EQUAL(heap_span_has(heap, offset, SLICE_BYTES + 1), goes_on);
        CHECK_EQUAL(heap_span_has(heap, offset + SLICE_BYTES - 512, HEAP_SPAN_SMALL), goes_on);
        CHECK_EQUAL(heap_starts_have(starts, offset + SLICE_BYTES - 16, 16), is_mapped);
        CHECK_EQUAL(heap_starts_have(starts, offset + SLICE_BYTES - 16, 32), goes_on);
        CHECK(!heap_span_has(heap, offset, end));
    }
    CHECK(!heap_span_has(heap, 0, 0));
    CHECK(!heap_span_has(heap, UINT64_MAX, 16));
    CHECK(!heap_span_has(heap, SLICE_BYTES, UINT64_MAX));
}

TEST(refs_are_compared_with_every_range_once_one_lay_outside_the_widest)
{
    const char *path = test_path("odd.heap");
    evh_heap *heap = open_with_extent(path);
    (void)evh_map_get(heap, &(evh_map){heap->span_begin - 4096}, 1);
    check_ranges(heap);
    CHECK(evh_malloc(heap, 40 << 20)); /* behind the extents: a wider range */
    check_ranges(heap);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    check_ranges(heap);
    evh_heap *const reader = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    CHECK(reader && !evh_map_get(reader, &(evh_map){reader->span_begin - 4096}, 1));
    check_ranges(reader);
    for (int i = 0; i < 3; i++) { /* and an extent more */
        unsigned char *const block = evh_malloc(heap, 30 << 20);
        CHECK(block);
        memset(block, i + 1, 30 << 20);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        for (size_t at = 0; at < 30 << 20; at += 64) block[at] = (unsigned char)at;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        check_ranges(heap);
        CHECK_EQUAL(evh_refresh(reader), EVH_OK);
        check_ranges(reader);
    }
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    CHECK_EQUAL(evh_trim(heap, NULL), EVH_OK);
    check_ranges(heap);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(the_table_of_ranges_follows_the_list_of_extents)
{
    evh_heap *heap = open_with_extent(test_path("odd.heap"));
    heap_want_ranges(heap);
    check_ranges(heap);
    struct region_extent *const extents = heap->region->header.extents;
    const struct region_extent kept = extents[0];
    const struct region_extent others[] = {
        {kept.first_slice, kept.slice_count - 1},     {kept.first_slice, kept.slice_count + 1},
        {kept.first_slice + 1, kept.slice_count - 1}, {kept.first_slice - 1, kept.slice_count + 1},
        {kept.first_slice + 3, kept.slice_count},     kept,
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        extents[0] = others[i];
        heap_find_span(heap);
        check_ranges(heap);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_heap_that_is_rolled_back_to_one_range_has_no_other)
{
    evh_heap *heap = evh_open(test_path("one.heap"), &(evh_options){.no_thread = true});
    CHECK(heap);
    uint64_t *const block = evh_malloc(heap, 1 << 20);
    CHECK(block);
    for (uint64_t round = 1; region_extent_at(heap->region, 0).slice_count == 0; round++) {
        for (size_t i = 0; i < 131072; i += 8) block[i] = round;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    CHECK_EQUAL(check_span(heap), 1);
    const uint64_t end = heap_known_end(heap);
    CHECK(evh_malloc(heap, 40 << 20));
    heap_want_ranges(heap);
    CHECK_EQUAL(heap->span_bytes, 0);
    check_ranges(heap);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK_EQUAL(check_span(heap), 1);
    CHECK_EQUAL(heap_known_end(heap), end);
    for (uint64_t offset = end; offset < end + (40 << 20); offset += SLICE_BYTES)
        CHECK(!heap_span_has(heap, offset, 16));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

struct lookups {
    evh_heap *heap;
    evh_map map;
    uint64_t count;
    uint32_t is_done; /* atomic */
};

static void *look_up(void *argument)
{
    struct lookups *const lookups = argument;
    for (uint64_t i = 0; !__atomic_load_n(&lookups->is_done, __ATOMIC_RELAXED); i++)
        CHECK(evh_map_get(lookups->heap, &lookups->map, i % lookups->count));
    return NULL;
}

/* Strategy: threads look items up on both sides of an extent, while this one makes the heap
 * grow. */
TEST(a_heap_may_grow_while_threads_look_items_up)
{
    evh_heap *heap = open_with_extent(test_path("odd.heap"));
    struct lookups lookups = {.heap = heap, .count = 20000};
    pthread_t threads[2];
    for (uint64_t i = 0; i < lookups.count; i++) CHECK(evh_map_put(heap, &lookups.map, i, 8));
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, look_up, &lookups), 0);
    for (int i = 0; i < 100; i++) CHECK(evh_malloc(heap, 1 << 20));
    __atomic_store_n(&lookups.is_done, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    check_ranges(heap);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* Strategy: maps made before and after the journal took its extents, so that their parts lie on
 * both sides. */
TEST(a_collection_on_both_sides_of_the_journal_is_one)
{
    enum { ITEMS = 20000 };
    const char *path = test_path("odd.heap");
    evh_heap *heap = evh_open(path, &(evh_options){.no_thread = true});
    CHECK(heap);
    evh_map map = {0};
    evh_tree tree = {0};
    for (uint64_t i = 0; i < ITEMS; i++) {
        CHECK(evh_map_put(heap, &map, i, 8) && evh_tree_put(heap, &tree, i, 8));
        if (i != 5000) continue;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        heap = open_with_extent(path);
    }
    check_ranges(heap);
    CHECK_EQUAL(heap->span_bytes, 0); /* there are several */
    for (uint64_t i = 0; i < 2 * ITEMS; i++) {
        CHECK_EQUAL(evh_map_get(heap, &map, i) != NULL, i < ITEMS);
        CHECK_EQUAL(evh_tree_get(heap, &tree, i) != NULL, i < ITEMS);
    }
    CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
    CHECK_EQUAL(evh_tree_check(heap, &tree), EVH_OK);
    evh_close(heap);
}

TEST(a_handle_of_another_kind_is_an_error)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap);
    evh_str string = {0};
    evh_vec vec = {0};
    CHECK_EQUAL(evh_str_assign(heap, &string, "text"), EVH_OK);
    CHECK(evh_vec_push(heap, &vec, 8, NULL));
    CHECK(!evh_map_put(heap, &(evh_map){vec.offset}, 1, 8));
    CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
    CHECK_EQUAL(evh_last_error()->offset, vec.offset);
    CHECK(!evh_vec_push(heap, &(evh_vec){string.offset}, 8, NULL));
    CHECK_EQUAL(evh_queue_push(heap, &(evh_queue){vec.offset}, 8, NULL), EVH_CORRUPT);
    CHECK_EQUAL(strcmp(evh_str_text(heap, &(evh_str){vec.offset}, NULL), ""), 0);
    evh_close(heap);
}

TEST(a_handle_tells_what_it_leads_to)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap);
    evh_tree tree = {0};
    evh_collection collection;
    CHECK(!evh_collection_at(heap, (evh_ref){tree.offset}, &collection));
    CHECK(evh_tree_put_str(heap, &tree, "key", 12));
    CHECK(evh_collection_at(heap, (evh_ref){tree.offset}, &collection));
    CHECK_EQUAL(collection.kind, EVH_KIND_TREE);
    CHECK_EQUAL(collection.key_kind, EVH_KEY_BYTES);
    CHECK_EQUAL(collection.item_size, 12);
    CHECK_EQUAL(collection.count, 1);
    CHECK_EQUAL(strcmp(evh_kind_name(EVH_KIND_TREE), "tree"), 0);
    CHECK_EQUAL(strcmp(evh_kind_name((evh_kind)77), "?"), 0);
    evh_close(heap);
}

TEST(a_private_copy_is_changed_and_the_file_is_not)
{
    const char *path = test_path("private.heap");
    evh_heap *heap = evh_open(path, NULL);
    CHECK(heap);
    evh_map *map = evh_root(heap, "map", sizeof *map);
    CHECK(map);
    for (uint64_t i = 0; i < 2000; i++) CHECK(evh_map_put(heap, map, i, 8));
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    for (int mode = 0; mode < 2; mode++) {
        heap = evh_open(path, &(evh_options){.mode = mode ? EVH_READ_ONLY : EVH_PRIVATE});
        CHECK(heap);
        map = evh_root_find(heap, "map", NULL);
        CHECK(map);
        CHECK_EQUAL(evh_map_count(heap, map), 2000);
        CHECK_EQUAL(evh_map_erase(heap, map, 7), mode == 0);
        CHECK_EQUAL(evh_map_put(heap, map, 5000, 8) != NULL, mode == 0);
        CHECK_EQUAL(evh_map_put(heap, map, 8, 8) != NULL, mode == 0);
        evh_close(heap);
    }
}
