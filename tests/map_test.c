/* map_test.c -- hash tables. */
#include "collect/map_find.h"
#include "support/collect_model.h"

#include <stdlib.h>
#include <string.h>

EVH_MAP(counts, uint64_t, uint32_t);
EVH_MAP_STR(ages, uint64_t);

TEST(a_zero_handle_is_an_empty_map)
{
    evh_heap *heap = collect_open_memory();
    evh_map map = {0};
    evh_map_cursor cursor = {0};
    CHECK(!evh_map_get(heap, &map, 7));
    CHECK(!evh_map_get_str(heap, &map, "seven"));
    CHECK(!evh_map_erase(heap, &map, 7));
    CHECK(!evh_map_next(heap, &map, &cursor));
    CHECK_EQUAL(evh_map_count(heap, &map), 0);
    CHECK_EQUAL(evh_map_key_kind(heap, &map), EVH_KEY_NONE);
    CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
    CHECK_EQUAL(evh_map_clear(heap, &map), EVH_OK);
    evh_close(heap);
}

TEST(typed_maps_keep_what_is_put)
{
    evh_heap *heap = collect_open_memory();
    const uint64_t blocks = collect_live_blocks(heap);
    counts numbers = {0};
    ages people = {0};
    for (uint64_t i = 0; i < 3000; i++) *counts_put(heap, &numbers, i * i) = (uint32_t)i;
    for (uint64_t i = 0; i < 3000; i++) CHECK_EQUAL(*counts_get(heap, &numbers, i * i), i);
    CHECK(!counts_get(heap, &numbers, 2));
    *ages_put(heap, &people, "Ann") = 40;
    *ages_put(heap, &people, "") = 41;
    ++*ages_put(heap, &people, "Ann");
    CHECK_EQUAL(*ages_get(heap, &people, "Ann"), 41);
    CHECK_EQUAL(ages_count(heap, &people), 2);
    CHECK(ages_erase(heap, &people, ""));
    CHECK(!ages_erase(heap, &people, ""));
    CHECK(counts_erase(heap, &numbers, 9));
    CHECK_EQUAL(counts_count(heap, &numbers), 2999);
    CHECK_EQUAL(counts_clear(heap, &numbers), EVH_OK);
    CHECK_EQUAL(ages_clear(heap, &people), EVH_OK);
    CHECK_EQUAL(collect_live_blocks(heap), blocks);
    evh_close(heap);
}

TEST(a_key_of_another_kind_is_refused)
{
    evh_heap *heap = collect_open_memory();
    evh_map map = {0};
    CHECK(evh_map_put_symbol(heap, &map, 7, 8));
    CHECK_EQUAL(evh_map_key_kind(heap, &map), EVH_KEY_SYMBOL);
    CHECK(!evh_map_put(heap, &map, 7, 8));
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(!evh_map_put_str(heap, &map, "7", 8));
    CHECK(!evh_map_get_str(heap, &map, "7"));
    CHECK(!evh_map_put_symbol(heap, &map, 7, 16));
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_map_get_symbol(heap, &map, 7));
    CHECK_EQUAL(evh_map_count(heap, &map), 1);
    CHECK(!evh_map_put(heap, &(evh_map){0}, 7, EVH_ITEM_SIZE_MAX + 1));
    evh_close(heap);
}

TEST(a_set_is_a_map_to_nothing)
{
    evh_heap *heap = collect_open_memory();
    evh_map set = {0};
    for (uint64_t i = 0; i < 10000; i += 3) CHECK(evh_map_put(heap, &set, i, 0));
    for (uint64_t i = 0; i < 10000; i++)
        CHECK_EQUAL(evh_map_get(heap, &set, i) != NULL, i % 3 == 0);
    CHECK_EQUAL(evh_map_check(heap, &set), EVH_OK);
    evh_close(heap);
}

TEST(values_of_many_sizes_are_kept)
{
    static const size_t sizes[] = {1, 7, 8, 9, 100, 4096, EVH_ITEM_SIZE_MAX};
    evh_heap *heap = collect_open_memory();
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        evh_map map = {0};
        const uint64_t count = sizes[s] > 4096 ? 100 : 1000;
        for (uint64_t i = 0; i < count; i++) {
            unsigned char *value = evh_map_put(heap, &map, i, sizes[s]);
            CHECK(value);
            for (size_t k = 0; k < sizes[s]; k++) CHECK_EQUAL(value[k], 0);
            memset(value, (int)i, sizes[s]);
        }
        for (uint64_t i = 0; i < count; i++) {
            const unsigned char *value = evh_map_get(heap, &map, i);
            CHECK(value && value[0] == (unsigned char)i && value[sizes[s] - 1] == value[0]);
        }
        CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
        CHECK_EQUAL(evh_map_clear(heap, &map), EVH_OK);
    }
    evh_close(heap);
}

TEST(an_iteration_may_erase_what_it_sees)
{
    enum { ITEMS = 30000 };
    evh_heap *heap = collect_open_memory();
    evh_map map = {0};
    for (uint64_t i = 0; i < ITEMS; i++) CHECK(evh_map_put(heap, &map, i, 8));
    static unsigned char seen[ITEMS];
    memset(seen, 0, sizeof seen);
    evh_map_cursor cursor = {0};
    while (evh_map_next(heap, &map, &cursor)) {
        CHECK(cursor.key < ITEMS);
        CHECK_EQUAL(seen[cursor.key]++, 0);
        CHECK(evh_map_erase(heap, &map, cursor.key));
    }
    for (uint64_t i = 0; i < ITEMS; i++) CHECK_EQUAL(seen[i], 1);
    CHECK_EQUAL(evh_map_count(heap, &map), 0);
    CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
    CHECK_EQUAL(collect_live_blocks(heap), 1 + 2); /* the catalog; the head and one part */
    evh_close(heap);
}

/*
 * Strategy: iterate, and erase random items meanwhile, among them the present one, until parts
 * merge.
 * Invariants: no item is seen twice or after it was erased; none that was not erased is missed.
 */
TEST(an_iteration_misses_and_repeats_nothing_while_others_are_erased)
{
    enum { ITEMS = 6000 };
    uint64_t random = test_seed();
    for (int round = 0; round < 20; round++) {
        evh_heap *heap = collect_open_memory();
        evh_map map = {0};
        static unsigned char seen[ITEMS], erased[ITEMS];
        memset(seen, 0, sizeof seen);
        memset(erased, 0, sizeof erased);
        for (uint64_t i = 0; i < ITEMS; i++) CHECK(evh_map_put(heap, &map, i, 8));
        evh_map_cursor cursor = {0};
        while (evh_map_next(heap, &map, &cursor)) {
            CHECK(!erased[cursor.key]);
            CHECK_EQUAL(seen[cursor.key]++, 0);
            for (int k = 0; k < round; k++) {
                const uint64_t key = k == 0 ? cursor.key : test_random(&random) % ITEMS;
                CHECK_EQUAL(evh_map_erase(heap, &map, key), !erased[key]);
                erased[key] = 1;
            }
        }
        for (uint64_t i = 0; i < ITEMS; i++) CHECK(seen[i] || erased[i]);
        CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
        evh_close(heap);
    }
}

/*
 * Strategy: the same, but what is erased lies together in the order of the iteration: whole parts
 * ahead of it, so that the part it is in takes over their share.
 */
TEST(an_iteration_shows_nothing_twice_when_the_parts_ahead_of_it_empty)
{
    enum { ITEMS = 6000 };
    uint64_t random = test_seed();
    for (int round = 0; round < 200; round++) {
        evh_heap *heap = collect_open_memory();
        evh_map map = {0};
        static uint64_t order[ITEMS];
        static unsigned char seen[ITEMS];
        memset(seen, 0, sizeof seen);
        for (uint64_t i = 0; i < ITEMS; i++) CHECK(evh_map_put(heap, &map, i, 8));
        evh_map_cursor cursor = {0};
        for (uint64_t i = 0; evh_map_next(heap, &map, &cursor); i++) order[i] = cursor.key;
        const uint64_t at = test_random(&random) % 3000;
        const uint64_t from = at + 1 + test_random(&random) % 500;
        const uint64_t to = from + test_random(&random) % 2000;
        memset(&cursor, 0, sizeof cursor);
        uint64_t count = 0;
        for (; evh_map_next(heap, &map, &cursor); count++) {
            CHECK_EQUAL(seen[cursor.key]++, 0);
            for (uint64_t i = from; count == at && i < to; i++)
                CHECK(evh_map_erase(heap, &map, order[i]));
        }
        CHECK_EQUAL(count, ITEMS - (to - from));
        CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
        evh_close(heap);
    }
}

TEST(a_map_that_empties_gives_its_parts_back)
{
    evh_heap *heap = collect_open_memory();
    evh_map map = {0};
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 20000; i++) CHECK(evh_map_put(heap, &map, i, 8));
        CHECK(collect_live_blocks(heap) > 40);
        CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
        for (uint64_t i = 0; i < 20000; i++) CHECK(evh_map_erase(heap, &map, i));
        CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
        CHECK_EQUAL(collect_live_blocks(heap), 1 + 2);
    }
    evh_close(heap);
}

/* One put may dirty two parts and the directory, never the table: of a map of some 250 pages, a few
 * at a time. */
TEST(one_put_never_dirties_the_whole_table)
{
    evh_heap *heap = evh_open(test_path("map.heap"), NULL);
    CHECK(heap);
    evh_map *map = evh_root(heap, "map", sizeof *map);
    CHECK(map);
    for (uint64_t i = 0; i < 40000; i++) CHECK(evh_map_put(heap, map, i, 8));
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_info info;
    uint64_t pages_max = 0;
    for (uint64_t i = 40000; i < 40600; i++) {
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        const uint64_t before = info.pages_committed;
        CHECK(evh_map_put(heap, map, i, 8));
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        if (info.pages_committed - before > pages_max) pages_max = info.pages_committed - before;
    }
    CHECK(pages_max > 0);
    CHECK(pages_max <= 16);
    evh_close(heap);
}

/* ---- the hash functions ---- */

/* Computed by a program in Python that gives the authors' vector for SipHash-2-4. */
TEST(siphash_13_is_what_others_compute)
{
    const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    unsigned char bytes[16];
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)i;
    CHECK_EQUAL(collect_hash_bytes(key, bytes, 0), 0xabac0158050fc4dcu);
    CHECK_EQUAL(collect_hash_bytes(key, bytes, 1), 0xc9f49bf37d57ca93u);
    CHECK_EQUAL(collect_hash_bytes(key, bytes, 8), 0x369095118d299a8eu);
    CHECK_EQUAL(collect_hash_bytes(key, bytes, 15), 0xd320d86d2a519956u);
}

/* Computed in Python, as format.md says. */
TEST(a_number_has_the_hash_that_the_format_says)
{
    const uint64_t key[2] = {0x0123456789abcdefu, 0xfedcba9876543211u};
    CHECK_EQUAL(collect_hash_number(key, 0), 0xfd50b8ad3d1d9aa9u);
    CHECK_EQUAL(collect_hash_number(key, 1), 0xcb6fe2942fc544adu);
    CHECK_EQUAL(collect_hash_number((uint64_t[]){1, 3}, UINT64_MAX), 0x76dde6d9fcc1ef86u);
}

/* The largest number of keys that share some bits of the hash, for keys that step by `step`. */
static unsigned most_in_a_bucket(uint64_t step, unsigned shift)
{
    enum { KEYS = 1 << 16, BUCKETS = 1 << 12 };
    static unsigned counts_of[BUCKETS];
    uint64_t key[2];
    unsigned most = 0;
    collect_new_key(key);
    memset(counts_of, 0, sizeof counts_of);
    for (uint64_t i = 0; i < KEYS; i++) {
        const unsigned bucket = collect_hash_number(key, i * step) >> shift & (BUCKETS - 1);
        if (++counts_of[bucket] > most) most = counts_of[bucket];
    }
    return most;
}

/* Of 2^16 random numbers in 2^12 buckets, 16 each, a bucket with 52 has a probability of 1e-8. */
TEST(numbers_in_patterns_hash_as_random_ones)
{
    for (unsigned bit = 0; bit < 48; bit++) {
        CHECK(most_in_a_bucket(1ull << bit, 0) < 52);
        CHECK(most_in_a_bucket(1ull << bit, 7) < 52);
        CHECK(most_in_a_bucket(1ull << bit, 52) < 52);
        CHECK(most_in_a_bucket((1ull << bit) + 1, 52) < 52);
        CHECK(most_in_a_bucket((1ull << bit) * 10007, 40) < 52);
    }
}

TEST(no_two_maps_hash_alike)
{
    uint64_t first[2], second[2];
    collect_new_key(first);
    collect_new_key(second);
    CHECK(first[0] != second[0] && first[1] != second[1]);
    CHECK(collect_hash_number(first, 1) != collect_hash_number(second, 1));
}

/* ---- beside a model ---- */

enum { KEYS = 5000 };

/* Keys in patterns: small numbers, multiples, large ones. */
static uint64_t number_key(uint64_t i)
{
    return i % 3 == 0 ? i : i % 3 == 1 ? i << 32 : i * 0x9e3779b97f4a7c15u;
}

static size_t text_key(uint64_t i, char text[64])
{
    return i == 0
               ? 0
               : (size_t)snprintf(text, 64, "%.*s%llu", (int)(i % 37),
                                  "/a/rather/long/prefix/of/a/path/to/it", (unsigned long long)i);
}

#include "support/collect_keyed.h"

KEYED_CALLS(map);

static bool map_step(evh_heap *heap, void *root, void *model, uint64_t random, bool is_text)
{
    return change_key(heap, root, model, is_text, (random >> 8) % ((random >> 50) % 3 ? KEYS : 20),
                      random);
}

static void map_verify(evh_heap *heap, void *root, const void *model, bool is_text)
{
    const struct keyed_model *const all = model;
    uint64_t count = 0;
    for (uint64_t i = 0; i < KEYS; i++) {
        const uint64_t *const value = get_key(heap, root, is_text, i);
        CHECK_EQUAL(value ? *value : 0, all->values[i]);
        count += value != NULL;
    }
    CHECK_EQUAL(evh_map_count(heap, root), count);
    evh_map_cursor cursor = {0};
    while (evh_map_next(heap, root, &cursor)) {
        CHECK_EQUAL(cursor.bytes != NULL, is_text);
        const void *const value = is_text ? evh_map_get_bytes(heap, root, cursor.bytes, cursor.size)
                                          : evh_map_get(heap, root, cursor.key);
        CHECK(value == cursor.value);
        count--;
    }
    CHECK_EQUAL(count, 0);
}

static void map_exercise(evh_heap *heap, void *root, uint64_t random, bool is_text)
{
    (void)put_key(heap, root, is_text, random % KEYS);
    (void)get_key(heap, root, is_text, (random >> 16) % KEYS);
    (void)erase_key(heap, root, is_text, (random >> 32) % KEYS);
    if (random % 8) return;
    evh_map_cursor cursor = {0};
    for (uint64_t i = 0; evh_map_next(heap, root, &cursor); i++)
        if (i % 7 == 0) (void)erase_key(heap, root, is_text, i % KEYS);
}

KEYED_KIND(map_of_numbers, map, false);
KEYED_KIND(map_of_texts, map, true);

TEST(maps_of_numbers_agree_with_a_model_over_commits_rollbacks_and_kills)
{
    collect_model_run(&map_of_numbers, test_effort(100000));
}

TEST(maps_of_texts_agree_with_a_model_over_commits_rollbacks_and_kills)
{
    collect_model_run(&map_of_texts, test_effort(100000));
}

TEST(maps_in_a_full_heap_are_unchanged)
{
    collect_full_run(&map_of_numbers, test_effort(40000), 32 << 10);
    collect_full_run(&map_of_texts, test_effort(40000), 64 << 10);
}

/* A map whose first item found no room has a head and no part. Zeroes at the begin of a small heap
 * are no items of it, whatever the keys' hashes: one in 128 would match. */
TEST(a_map_whose_first_item_found_no_room_is_empty)
{
    enum { TRIES = 3000, HEAD_BYTES = 128 };
    const size_t heap_bytes = 32 << 10;
    void *const buffer = aligned_alloc(65536, 65536);
    CHECK(buffer);
    evh_heap *heap = evh_open_memory(buffer, heap_bytes, &(evh_options){.must_create = true});
    evh_map *const map = evh_root(heap, "map", sizeof *map);
    CHECK(map);
    void *room = evh_malloc(heap, HEAD_BYTES);
    for (size_t size = 1024; size >= 16; size /= 2)
        while (evh_malloc(heap, size)) continue;
    for (unsigned i = 0; i < TRIES; i++) {
        evh_free(heap, room);
        CHECK(evh_map_put(heap, map, 0, 8) == NULL);
        CHECK(map->offset != 0);
        CHECK(evh_map_get(heap, map, 0) == NULL);
        CHECK(!evh_map_erase(heap, map, 0));
        CHECK_EQUAL(evh_map_count(heap, map), 0);
        CHECK_EQUAL(evh_map_clear(heap, map), EVH_OK);
        room = evh_malloc(heap, HEAD_BYTES);
        CHECK(room);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    free(buffer);
}

/* A group has seven items. Its eighth control byte, if damaged, must not name one more: behind the
 * last group of a part anything may lie. */
TEST(an_eighth_slot_of_a_group_is_never_an_item)
{
    enum { ITEMS = 5 };
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_map map = {0};
    for (uint64_t key = 1; key <= ITEMS; key++) CHECK(evh_map_put(heap, &map, key, 8));
    const struct collect_map *head = evh_at(heap, (evh_ref){map.offset});
    CHECK_EQUAL(head->table.depth, 0);
    CHECK_EQUAL(head->table.root & 15, 0); /* one group */
    unsigned char *part = evh_at(heap, (evh_ref){head->table.root});
    unsigned char *group = part + sizeof(struct hash_part);
    CHECK_EQUAL(group[HASH_SLOTS - 1], HASH_NO_SLOT);
    const uint64_t absent = 77;
    memcpy(group + 8 + HASH_ITEMS * 16, &absent, sizeof absent); /* where its item would be */
    group[HASH_SLOTS - 1] = collect_hash_number(head->table.key, absent) & 0x7f;
    CHECK(!evh_map_get(heap, &map, absent));
    evh_map_cursor cursor = {0};
    uint64_t count = 0;
    while (evh_map_next(heap, &map, &cursor)) count++;
    CHECK_EQUAL(count, ITEMS);
    CHECK_EQUAL(evh_map_check(heap, &map), EVH_CORRUPT);
    for (uint64_t key = ITEMS + 1; key <= 4 * ITEMS; key++) CHECK(evh_map_put(heap, &map, key, 8));
    CHECK(!evh_map_get(heap, &map, absent)); /* a part that grows does not take it along */
    CHECK_EQUAL(evh_map_check(heap, &map), EVH_OK);
    evh_close(heap);
}

TEST(damaged_maps_are_survived)
{
    collect_damage_run(&map_of_numbers, test_effort(300));
    collect_damage_run(&map_of_texts, test_effort(300));
}
