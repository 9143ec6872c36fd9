/* collect_odd_test.c -- what holds for all collections: handles that are none, kinds, modes. */
#include "test.h"

#include <everheap.h>

#include <string.h>

/* A durable heap whose journal has grown an extent within it, so that slices without access lie
 * between the others. */
static evh_heap *open_with_extent(void)
{
    evh_heap *heap = evh_open(test_path("odd.heap"), &(evh_options){.no_thread = true});
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
    evh_heap *heap = open_with_extent();
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
