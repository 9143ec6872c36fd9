/* vec_test.c -- arrays that grow, rings and bits. */
#include "support/collect_model.h"

#include <stdlib.h>
#include <string.h>

struct point {
    int32_t x, y;
};

EVH_VEC(points, struct point);

static int compare_numbers(const void *first, const void *second, void *context)
{
    uint64_t a, b;
    memcpy(&a, first, sizeof a);
    memcpy(&b, second, sizeof b);
    ++*(int *)context;
    return (a > b) - (a < b);
}

/* ---- vec ---- */

TEST(a_zero_handle_is_an_empty_vec)
{
    evh_heap *heap = collect_open_memory();
    evh_vec vec = {0};
    size_t count = 7;
    CHECK(!evh_vec_at(heap, &vec, 0));
    CHECK(!evh_vec_data(heap, &vec, &count));
    CHECK_EQUAL(count, 0);
    CHECK(!evh_vec_pop(heap, &vec, NULL));
    CHECK_EQUAL(evh_vec_erase(heap, &vec, 0, 0), EVH_OK);
    CHECK_EQUAL(evh_vec_erase(heap, &vec, 0, 1), EVH_INVALID);
    CHECK_EQUAL(evh_vec_check(heap, &vec), EVH_OK);
    CHECK_EQUAL(evh_vec_clear(heap, &vec), EVH_OK);
    CHECK_EQUAL(vec.offset, 0);
    evh_close(heap);
}

TEST(a_typed_vec_keeps_what_is_pushed)
{
    evh_heap *heap = collect_open_memory();
    const uint64_t blocks = collect_live_blocks(heap);
    points all = {0};
    for (int i = 0; i < 1000; i++) CHECK(points_push(heap, &all, (struct point){i, -i}));
    CHECK(points_insert(heap, &all, 0, (struct point){-1, 1}));
    CHECK_EQUAL(points_count(heap, &all), 1001);
    for (int i = 0; i <= 1000; i++) CHECK_EQUAL(points_at(heap, &all, (size_t)i)->x, i - 1);
    CHECK(!points_at(heap, &all, 1001));
    struct point last;
    CHECK(points_pop(heap, &all, &last));
    CHECK_EQUAL(last.x, 999);
    CHECK_EQUAL(points_erase(heap, &all, 0, 500), EVH_OK);
    size_t count;
    const struct point *data = points_data(heap, &all, &count);
    CHECK_EQUAL(count, 500);
    CHECK_EQUAL(data->x, 499);
    CHECK_EQUAL(points_clear(heap, &all), EVH_OK);
    CHECK_EQUAL(collect_live_blocks(heap), blocks);
    evh_close(heap);
}

TEST(items_of_another_size_are_refused)
{
    evh_heap *heap = collect_open_memory();
    evh_vec vec = {0};
    CHECK(!evh_vec_push(heap, &vec, 0, NULL));
    CHECK(!evh_vec_push(heap, &vec, EVH_ITEM_SIZE_MAX + 1, NULL));
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_vec_push(heap, &vec, 4, "abc"));
    CHECK(!evh_vec_push(heap, &vec, 8, "abcdefg"));
    CHECK(!evh_vec_insert(heap, &vec, 4, 2, "abc", 1));
    CHECK(!evh_vec_insert(heap, &vec, 4, 0, "abc", 0));
    CHECK(!evh_vec_insert(heap, &vec, 4, 0, NULL, SIZE_MAX / 2));
    CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
    CHECK_EQUAL(evh_vec_resize(heap, &vec, 8, 3), EVH_INVALID);
    CHECK_EQUAL(evh_vec_count(heap, &vec), 1);
    CHECK_EQUAL(evh_vec_item_size(heap, &vec), 4);
    evh_close(heap);
}

TEST(a_reserved_vec_does_not_move)
{
    evh_heap *heap = collect_open_memory();
    evh_vec vec = {0};
    CHECK_EQUAL(evh_vec_reserve(heap, &vec, 8, 5000), EVH_OK);
    const uint64_t place = vec.offset;
    for (int i = 0; i < 5000; i++) CHECK(evh_vec_push(heap, &vec, 8, NULL));
    CHECK_EQUAL(vec.offset, place);
    evh_close(heap);
}

TEST(a_vec_that_is_resized_is_cut_off_or_filled_with_zeroes)
{
    evh_heap *heap = collect_open_memory();
    evh_vec vec = {0};
    for (uint64_t i = 1; i <= 100; i++) CHECK(evh_vec_push(heap, &vec, 8, &i));
    CHECK_EQUAL(evh_vec_resize(heap, &vec, 8, 10), EVH_OK);
    CHECK_EQUAL(evh_vec_resize(heap, &vec, 8, 300), EVH_OK);
    for (uint64_t i = 0; i < 300; i++)
        CHECK_EQUAL(*(uint64_t *)evh_vec_at(heap, &vec, i), i < 10 ? i + 1 : 0);
    evh_close(heap);
}

TEST(a_sorted_vec_is_searched_and_kept_sorted)
{
    evh_heap *heap = collect_open_memory();
    evh_vec vec = {0};
    int comparisons = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        const uint64_t item = i * 7919 % 1000;
        CHECK(evh_vec_insert_sorted(heap, &vec, 8, &item, compare_numbers, &comparisons));
        CHECK(evh_vec_insert_sorted(heap, &vec, 8, &item, compare_numbers, &comparisons));
    }
    CHECK_EQUAL(evh_vec_count(heap, &vec), 1000);
    comparisons = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        bool is_there;
        CHECK_EQUAL(evh_vec_search(heap, &vec, &i, compare_numbers, &comparisons, &is_there), i);
        CHECK(is_there);
    }
    CHECK(comparisons <= 11000);
    const uint64_t beyond = 5000;
    bool is_there = true;
    CHECK_EQUAL(evh_vec_search(heap, &vec, &beyond, compare_numbers, &comparisons, &is_there),
                1000);
    CHECK(!is_there);
    evh_close(heap);
}

/* Erasing at the front moves a number, not the items: a vec of a million is emptied from the front
 * with as many stores, and one that is filled behind and emptied before stays small. */
TEST(the_front_of_a_vec_is_as_cheap_as_its_end)
{
    evh_heap *heap = collect_open_memory();
    evh_vec vec = {0};
    for (uint64_t i = 0; i < 1000000; i++) CHECK(evh_vec_push(heap, &vec, 8, &i));
    for (uint64_t i = 0; i < 999000; i++) {
        CHECK_EQUAL(*(uint64_t *)evh_vec_at(heap, &vec, 0), i);
        CHECK_EQUAL(evh_vec_erase(heap, &vec, 0, 1), EVH_OK);
    }
    CHECK_EQUAL(evh_vec_clear(heap, &vec), EVH_OK);
    for (uint64_t i = 0; i < 300000; i++) {
        CHECK(evh_vec_push(heap, &vec, 8, &i));
        if (i >= 100) CHECK_EQUAL(evh_vec_erase(heap, &vec, 0, 1), EVH_OK);
    }
    CHECK(evh_usable_size(heap, evh_at(heap, (evh_ref){vec.offset})) < 8192);
    evh_close(heap);
}

/* ---- beside models ---- */

enum { ITEMS_MAX = 4000, VECS = 2 };

struct vec_model {
    struct {
        uint64_t count;
        uint64_t items[ITEMS_MAX][2];
    } vecs[VECS]; /* the first of items of 16 bytes, the second of 3 */
};

static bool vec_step(evh_heap *heap, void *root, void *model, uint64_t random)
{
    const unsigned which = random % VECS;
    const size_t size = which ? 3 : 16;
    evh_vec *const vec = heap ? (evh_vec *)root + which : NULL;
    uint64_t *const count = &((struct vec_model *)model)->vecs[which].count;
    uint64_t(*items)[2] = ((struct vec_model *)model)->vecs[which].items;
    const uint64_t r = test_random(&random);
    uint64_t place = *count ? (r >> 16) % (*count + 1) : 0;
    if (r % 4 == 0) place = 0;
    if (r % 4 == 1) place = *count;
    const uint64_t some = (r >> 8) % 50 == 0 ? (r >> 40) % 200 : 1;

    if ((r >> 32) % 100 < (*items[0] & 1 ? 55 : 45)) {
        uint64_t made[200][2] = {{0}};
        unsigned char bytes[200 * 16];
        if (some == 0 || *count + some > ITEMS_MAX) return true;
        for (uint64_t i = 0; i < some; i++) {
            memset(made[i], 0, 16);
            made[i][0] = test_random(&random) & (which ? 0xffffff : UINT64_MAX);
            if (!which) made[i][1] = test_random(&random);
            memcpy(bytes + i * size, made[i], size);
        }
        if (heap && some == 1 && place == *count) {
            if (!evh_vec_push(heap, vec, size, bytes)) return false;
        } else if (heap && !evh_vec_insert(heap, vec, size, place, bytes, some)) {
            return false;
        }
        memmove(items[place + some], items[place], (*count - place) * 16);
        memcpy(items[place], made, some * 16);
        *count += some;
        return true;
    }
    const uint64_t less = some <= *count - place ? some : *count - place;
    if (heap) CHECK_EQUAL(evh_vec_erase(heap, vec, place, less), EVH_OK);
    memmove(items[place], items[place + less], (*count - place - less) * 16);
    *count -= less;
    return true;
}

static void vec_verify(evh_heap *heap, void *root, const void *model)
{
    const struct vec_model *const all = model;
    for (unsigned which = 0; which < VECS; which++) {
        const evh_vec *const vec = (evh_vec *)root + which;
        const size_t size = which ? 3 : 16;
        CHECK_EQUAL(evh_vec_count(heap, vec), all->vecs[which].count);
        for (uint64_t i = 0; i < all->vecs[which].count; i++)
            CHECK(memcmp(evh_vec_at(heap, vec, i), all->vecs[which].items[i], size) == 0);
        CHECK(!evh_vec_at(heap, vec, all->vecs[which].count));
    }
}

static void vec_exercise(evh_heap *heap, void *root, uint64_t random)
{
    evh_vec *const vec = (evh_vec *)root + random % VECS;
    const size_t size = random % VECS ? 3 : 16;
    size_t count;
    const unsigned char *data = evh_vec_data(heap, vec, &count);
    const size_t item_size = evh_vec_item_size(heap, vec);
    for (size_t i = 0; data && i < count; i++) random += data[i * item_size];
    (void)evh_vec_push(heap, vec, size, NULL);
    (void)evh_vec_insert(heap, vec, size, random % 100, NULL, 3);
    (void)evh_vec_erase(heap, vec, random % 100, 5);
    (void)evh_vec_resize(heap, vec, size, random % 5000);
}

static evh_status vec_check(evh_heap *heap, void *root)
{
    const evh_status status = evh_vec_check(heap, root);
    return status ? status : evh_vec_check(heap, (evh_vec *)root + 1);
}

static evh_status vec_clear(evh_heap *heap, void *root)
{
    const evh_status status = evh_vec_clear(heap, root);
    const evh_status second = evh_vec_clear(heap, (evh_vec *)root + 1);
    return status ? status : second;
}

static const struct collect_kind vecs = {
    .name = "vec",
    .model_bytes = sizeof(struct vec_model),
    .root_bytes = VECS * sizeof(evh_vec),
    .step = vec_step,
    .verify = vec_verify,
    .exercise = vec_exercise,
    .check = vec_check,
    .clear = vec_clear,
};

TEST(vecs_agree_with_a_model_over_commits_rollbacks_and_kills)
{
    collect_model_run(&vecs, test_effort(100000));
}

TEST(vecs_in_a_full_heap_are_unchanged)
{
    collect_full_run(&vecs, test_effort(60000), 24 << 10);
}

TEST(damaged_vecs_are_survived)
{
    collect_damage_run(&vecs, test_effort(300));
}

/* ---- queue ---- */

struct queue_model {
    uint64_t count;
    uint64_t first;
    uint64_t pushed;
};

static uint64_t queue_item(uint64_t number)
{
    return number * 0x9e3779b97f4a7c15u;
}

static bool queue_step(evh_heap *heap, void *root, void *model, uint64_t random)
{
    struct queue_model *const all = model;
    const bool pushes = random % 100 < (all->pushed / 3000 % 2 ? 35 : 65);
    if (pushes) {
        uint64_t item[3] = {queue_item(all->pushed), all->pushed, 0};
        if (heap && evh_queue_push(heap, root, sizeof item, item)) return false;
        all->pushed++;
        return true;
    }
    uint64_t item[3];
    const bool is_there = all->first < all->pushed;
    if (heap) CHECK_EQUAL(evh_queue_pop(heap, root, item), is_there);
    if (heap && is_there) CHECK_EQUAL(item[0], queue_item(all->first));
    all->first += is_there;
    return true;
}

static void queue_verify(evh_heap *heap, void *root, const void *model)
{
    const struct queue_model *const all = model;
    CHECK_EQUAL(evh_queue_count(heap, root), all->pushed - all->first);
    for (uint64_t i = all->first; i < all->pushed; i++)
        CHECK_EQUAL(*(uint64_t *)evh_queue_at(heap, root, i - all->first), queue_item(i));
    CHECK(!evh_queue_at(heap, root, all->pushed - all->first));
}

static void queue_exercise(evh_heap *heap, void *root, uint64_t random)
{
    unsigned char item[EVH_ITEM_SIZE_MAX];
    const unsigned char *at = evh_queue_at(heap, root, random % 1000);
    for (size_t i = 0; at && i < evh_queue_item_size(heap, root); i++) random += at[i];
    (void)evh_queue_push(heap, root, 24, NULL);
    (void)evh_queue_pop(heap, root, item);
}

static evh_status queue_check(evh_heap *heap, void *root)
{
    return evh_queue_check(heap, root);
}

static evh_status queue_clear(evh_heap *heap, void *root)
{
    return evh_queue_clear(heap, root);
}

static const struct collect_kind queues = {
    .name = "queue",
    .model_bytes = sizeof(struct queue_model),
    .root_bytes = sizeof(evh_queue),
    .step = queue_step,
    .verify = queue_verify,
    .exercise = queue_exercise,
    .check = queue_check,
    .clear = queue_clear,
};

TEST(queues_agree_with_a_model_over_commits_rollbacks_and_kills)
{
    collect_model_run(&queues, test_effort(100000));
}

TEST(queues_in_a_full_heap_are_unchanged)
{
    collect_full_run(&queues, test_effort(60000), 16 << 10);
}

TEST(damaged_queues_are_survived)
{
    collect_damage_run(&queues, test_effort(300));
}

/* ---- bitset ---- */

enum { BITS = 30000 };

struct bitset_model {
    unsigned char bits[BITS];
};

TEST(bits_are_set_found_and_cleared)
{
    evh_heap *heap = collect_open_memory();
    evh_bitset bits = {0};
    CHECK(!evh_bitset_get(heap, &bits, 5));
    CHECK_EQUAL(evh_bitset_next(heap, &bits, 0), EVH_NO_BIT);
    CHECK_EQUAL(evh_bitset_put(heap, &bits, 1000000, false), EVH_OK);
    CHECK_EQUAL(bits.offset, 0);
    CHECK_EQUAL(evh_bitset_put(heap, &bits, 1000000, true), EVH_OK);
    CHECK_EQUAL(evh_bitset_put(heap, &bits, 63, true), EVH_OK);
    CHECK_EQUAL(evh_bitset_next(heap, &bits, 0), 63);
    CHECK_EQUAL(evh_bitset_next(heap, &bits, 64), 1000000);
    CHECK_EQUAL(evh_bitset_next(heap, &bits, 1000001), EVH_NO_BIT);
    CHECK_EQUAL(evh_bitset_next(heap, &bits, UINT64_MAX), EVH_NO_BIT);
    CHECK_EQUAL(evh_bitset_count(heap, &bits), 2);
    CHECK_EQUAL(evh_bitset_put(heap, &bits, EVH_BIT_MAX + 1, true), EVH_LIMIT);
    CHECK_EQUAL(evh_bitset_clear(heap, &bits), EVH_OK);
    CHECK_EQUAL(evh_bitset_count(heap, &bits), 0);
    evh_close(heap);
}

static bool bitset_step(evh_heap *heap, void *root, void *model, uint64_t random)
{
    struct bitset_model *const all = model;
    const uint64_t index = (random >> 16) % ((random >> 8) % 50 ? 5000 : BITS);
    const bool value = random % 3 == 0;
    if (heap && evh_bitset_put(heap, root, index, value)) return false;
    all->bits[index] = value;
    return true;
}

static void bitset_verify(evh_heap *heap, void *root, const void *model)
{
    const struct bitset_model *const all = model;
    uint64_t count = 0, next = evh_bitset_next(heap, root, 0);
    for (uint64_t i = 0; i < BITS; i++) {
        CHECK_EQUAL(evh_bitset_get(heap, root, i), all->bits[i]);
        if (!all->bits[i]) continue;
        CHECK_EQUAL(next, i);
        next = evh_bitset_next(heap, root, i + 1);
        count++;
    }
    CHECK_EQUAL(next, EVH_NO_BIT);
    CHECK_EQUAL(evh_bitset_count(heap, root), count);
}

static void bitset_exercise(evh_heap *heap, void *root, uint64_t random)
{
    (void)evh_bitset_put(heap, root, random % BITS, random >> 60 & 1);
    (void)evh_bitset_get(heap, root, (random >> 20) % BITS);
    (void)evh_bitset_next(heap, root, (random >> 40) % BITS);
}

static evh_status bitset_check(evh_heap *heap, void *root)
{
    return evh_bitset_check(heap, root);
}

static evh_status bitset_clear(evh_heap *heap, void *root)
{
    return evh_bitset_clear(heap, root);
}

static const struct collect_kind bitsets = {
    .name = "bitset",
    .model_bytes = sizeof(struct bitset_model),
    .root_bytes = sizeof(evh_bitset),
    .step = bitset_step,
    .verify = bitset_verify,
    .exercise = bitset_exercise,
    .check = bitset_check,
    .clear = bitset_clear,
};

TEST(bitsets_agree_with_a_model_over_commits_rollbacks_and_kills)
{
    collect_model_run(&bitsets, test_effort(100000));
}

TEST(bitsets_in_a_full_heap_are_unchanged)
{
    collect_full_run(&bitsets, test_effort(60000), 4 << 10);
}

TEST(damaged_bitsets_are_survived)
{
    collect_damage_run(&bitsets, test_effort(300));
}
