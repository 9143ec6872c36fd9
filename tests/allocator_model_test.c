/* allocator_model_test.c -- random operations beside a shadow of what must be live. */
#include "allocator_heap.h"

#include <stdlib.h>

/*
 * Strategy: random operations of all kinds on a heap in a buffer, beside a shadow of what must be
 * live; now and then the ephemeral state is dropped, or the heap closed and attached again.
 * Invariants: blocks are aligned, inside the heap, keep their contents, hold their size, overlap
 * nothing; walk, info and check agree with the shadow.
 */
struct shadow {
    unsigned char *block;
    size_t size;
    uint64_t seed;
};

enum { MODEL_BLOCKS = 4000 };

struct model {
    struct buffer_heap made;
    struct shadow blocks[MODEL_BLOCKS];
    uint64_t live;
    uint64_t seed;
};

static size_t model_size(struct model *model)
{
    const uint64_t r = test_random(&model->seed);
    if (r % 200 == 0) return (r >> 16) % 400000 + 1;
    if (r % 20 == 0) return (r >> 16) % 70000 + 1;
    return (r >> 16) % (16u << (r >> 8) % 7) + 1;
}

/* The first and last bytes of a block tell whose they are. */
static void model_fill(struct shadow *shadow)
{
    const size_t part = shadow->size < 64 ? shadow->size : 64;
    fill(shadow->block, part, shadow->seed);
    fill(shadow->block + shadow->size - part, part, shadow->seed);
}

static bool model_is_filled(const struct shadow *shadow)
{
    const size_t part = shadow->size < 64 ? shadow->size : 64;
    return is_filled(shadow->block + shadow->size - part, part, shadow->seed) &&
           (shadow->size < 128 || is_filled(shadow->block, part, shadow->seed));
}

static void model_allocate(struct model *model, struct shadow *shadow)
{
    const uint64_t r = test_random(&model->seed);
    size_t alignment = 16;
    shadow->size = model_size(model);
    if (r % 10 == 0) {
        alignment = (size_t)1 << (r >> 8) % 18;
        shadow->block = evh_aligned_alloc(model->made.heap, alignment, shadow->size);
    } else if (r % 10 == 1) {
        shadow->block = evh_calloc(model->made.heap, 1, shadow->size);
        if (shadow->block)
            for (size_t i = 0; i < shadow->size; i++) CHECK_EQUAL(shadow->block[i], 0);
    } else {
        shadow->block = evh_malloc(model->made.heap, shadow->size);
    }
    if (!shadow->block) {
        CHECK_EQUAL(last_status(), EVH_FULL);
        return;
    }
    CHECK_EQUAL((uintptr_t)shadow->block % alignment, 0);
    CHECK(evh_usable_size(model->made.heap, shadow->block) >= shadow->size);
    CHECK(evh_ref_to(model->made.heap, shadow->block).offset >= 2 * SLICE_BYTES);
    shadow->seed = r;
    model_fill(shadow);
    model->live++;
}

static void model_resize(struct model *model, struct shadow *shadow)
{
    const size_t size = model_size(model);
    const size_t kept = size < shadow->size ? size : shadow->size;
    const size_t part = kept < 64 ? kept : 64;
    fill(shadow->block, part, shadow->seed);
    unsigned char *moved = evh_realloc(model->made.heap, shadow->block, size);
    if (!moved) {
        CHECK_EQUAL(last_status(), EVH_FULL);
        model_fill(shadow);
        return;
    }
    CHECK(is_filled(moved, part, shadow->seed));
    *shadow = (struct shadow){.block = moved, .size = size, .seed = shadow->seed};
    model_fill(shadow);
}

static void model_free(struct model *model, struct shadow *shadow)
{
    CHECK(model_is_filled(shadow));
    evh_free(model->made.heap, shadow->block);
    model->live--;
    if (test_random(&model->seed) % 50 == 0) {
        forget_error();
        evh_free(model->made.heap, shadow->block);
        CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
    }
    *shadow = (struct shadow){0};
}

static void model_verify(struct model *model)
{
    struct walk_count count = {.heap = model->made.heap, .ascends = true};
    for (unsigned i = 0; i < MODEL_BLOCKS; i++)
        if (model->blocks[i].block) CHECK(model_is_filled(&model->blocks[i]));
    CHECK_EQUAL(evh_walk(model->made.heap, walk_count_block, &count), EVH_OK);
    CHECK(count.ascends);
    CHECK_EQUAL(count.blocks, model->live + 1);
    CHECK_EQUAL(allocator_info(model->made.heap).live_blocks, model->live + 1);
    CHECK_EQUAL(findings(model->made.heap), 0);
}

TEST(random_operations_agree_with_a_shadow)
{
    struct model *model = calloc(1, sizeof *model);
    const char *effort = getenv("EFFORT");
    const uint64_t operations = 300000ull * (effort ? strtoull(effort, NULL, 10) : 1);
    model->seed = test_seed();
    model->made = buffer_open(96 << 20);
    for (uint64_t i = 0; i < operations; i++) {
        const uint64_t r = test_random(&model->seed);
        struct shadow *shadow = &model->blocks[(r >> 8) % MODEL_BLOCKS];
        if (!shadow->block)
            model_allocate(model, shadow);
        else if (r % 4 == 0)
            model_resize(model, shadow);
        else
            model_free(model, shadow);
        if (r % 30000 == 0) model_verify(model);
        if (r % 40000 == 1) buffer_reopen(&model->made);
        if (r % 40000 == 2) slices_reset(model->made.heap);
    }
    model_verify(model);
    for (unsigned i = 0; i < MODEL_BLOCKS; i++)
        if (model->blocks[i].block) model_free(model, &model->blocks[i]);
    model_verify(model);
    buffer_close(&model->made);
    free(model);
}
