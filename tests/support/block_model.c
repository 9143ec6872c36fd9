/* block_model.c -- what must be live in a heap, kept outside it, and random work on both. */
#include "support/block_model.h"

#include "heap/heap.h"

#include <string.h>

enum {
    STAMP_PART_BYTES = 64,     /* written at both ends of a block */
    STAMP_STRIDE_BYTES = 4096, /* at least */
    STAMP_STRIDES_MAX = 16,
    GRANULES = MODEL_SIZE_MAX_BYTES / MODEL_GRANULE_BYTES,
    PHASE_OPERATIONS_MAX = 200000,
};

struct model_table {
    uint64_t number;
    evh_ref refs[MODEL_SLOTS];
};

/* The granules of live blocks, one bit each. */
static uint64_t granules[GRANULES / 64];

static uint64_t chance(struct block_model *model, uint64_t one_in)
{
    return (test_random(model->random) >> 8) % one_in;
}

/* ---- granules ---- */

/* Set the bits of a block, which were clear, or clear them, which were set. */
static void granules_claim(const struct model_block *block, bool is_claim)
{
    uint64_t first = block->offset / MODEL_GRANULE_BYTES;
    const uint64_t end = first + block->usable / MODEL_GRANULE_BYTES;
    CHECK(end <= GRANULES);
    while (first < end) {
        const uint64_t low = first % 64;
        const uint64_t count = base_min(64 - low, end - first);
        const uint64_t mask = (count == 64 ? UINT64_MAX : (1ull << count) - 1) << low;
        const uint64_t present = granules[first / 64] & mask;
        if (present != (is_claim ? 0 : mask))
            test_fail(__FILE__, __LINE__, "the block of %u bytes at 0x%llx overlaps another",
                      block->usable, (unsigned long long)block->offset);
        CHECK(present == (is_claim ? 0 : mask));
        granules[first / 64] ^= mask;
        first += count;
    }
}

static void granules_rebuild(const struct model_state *state)
{
    memset(granules, 0, sizeof granules);
    for (unsigned i = 0; i < MODEL_SLOTS; i++)
        if (state->blocks[i].offset) granules_claim(&state->blocks[i], true);
    for (unsigned i = 0; i < MODEL_ROOTS; i++)
        if (state->roots[i].offset) granules_claim(&state->roots[i], true);
    granules_claim(&state->table, true);
}

/* ---- contents: a stream of words that follows from the stamp, written here and there ---- */

static uint64_t stamp_word(uint64_t stamp, uint64_t position)
{
    return stamp ^ (position + 1) * 0x9e3779b97f4a7c15u;
}

/* Write the stream from `first`, a multiple of 8, to `end`. */
static void stamp_write(unsigned char *bytes, uint64_t stamp, uint64_t first, uint64_t end)
{
    for (uint64_t at = first; at < end; at += 8) {
        const uint64_t word = stamp_word(stamp, at);
        memcpy(bytes + at, &word, base_min(8, end - at));
    }
}

static bool stamp_matches(const unsigned char *bytes, uint64_t stamp, uint64_t first, uint64_t end)
{
    for (uint64_t at = first; at < end; at += 8) {
        const uint64_t word = stamp_word(stamp, at);
        if (memcmp(bytes + at, &word, base_min(8, end - at)) != 0) return false;
    }
    return true;
}

static uint64_t stamp_tail(uint64_t size)
{
    return size > STAMP_PART_BYTES ? (size - STAMP_PART_BYTES) & ~7ull : 0;
}

/* Between the ends a few pages have a word each, so that a step dirties few pages. */
static uint64_t stamp_stride(uint64_t size)
{
    return base_max(STAMP_STRIDE_BYTES,
                    size / STAMP_STRIDES_MAX / STAMP_STRIDE_BYTES * STAMP_STRIDE_BYTES);
}

static void model_fill(struct block_model *model, struct model_block *block)
{
    unsigned char *bytes = evh_at(model->heap, (evh_ref){block->offset});
    block->stamp = test_random(model->random);
    block->is_zero = false;
    stamp_write(bytes, block->stamp, 0, base_min(STAMP_PART_BYTES, block->size));
    const uint64_t stride = stamp_stride(block->size);
    for (uint64_t at = stride; at + 8 <= block->size; at += stride)
        stamp_write(bytes, block->stamp, at, at + 8);
    stamp_write(bytes, block->stamp, stamp_tail(block->size), block->size);
}

static bool is_zero(const unsigned char *bytes, uint64_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Whether the first `kept` bytes of a block's contents are at `bytes`. */
static bool model_is_filled(const struct model_block *block, const unsigned char *bytes,
                            uint64_t kept)
{
    if (block->is_zero) return is_zero(bytes, kept);
    if (!stamp_matches(bytes, block->stamp, 0, base_min(STAMP_PART_BYTES, kept))) return false;
    const uint64_t stride = stamp_stride(block->size);
    for (uint64_t at = stride; at + 8 <= kept; at += stride)
        if (!stamp_matches(bytes, block->stamp, at, at + 8)) return false;
    return stamp_matches(bytes, block->stamp, stamp_tail(block->size), kept);
}

static void model_check_contents(struct block_model *model, const struct model_block *block)
{
    const unsigned char *bytes = evh_at(model->heap, (evh_ref){block->offset});
    const bool is_filled = bytes && model_is_filled(block, bytes, block->size);
    if (!is_filled)
        test_fail(__FILE__, __LINE__, "the block of %u bytes at 0x%llx has lost its contents",
                  block->size, (unsigned long long)block->offset);
    CHECK(is_filled);
}

/* ---- blocks ---- */

static void check_status(evh_status status, const char *what)
{
    if (status) test_fail(__FILE__, __LINE__, "%s: %s", what, evh_last_error()->message);
    CHECK(!status);
}

static struct model_table *model_table(struct block_model *model)
{
    return evh_at(model->heap, (evh_ref){model->state->table.offset});
}

static uint32_t model_size(struct block_model *model)
{
    const uint64_t r = test_random(model->random);
    const uint64_t kind = r % 1000;
    const uint32_t sizes = model->phase->sizes;
    if (sizes == 0) return (uint32_t)((r >> 16) % 128 + 1);
    if (kind < 1 || (sizes == 3 && kind < 8)) return (uint32_t)((r >> 16) % (2u << 20) + 1);
    if (kind < 4 || (sizes == 3 && kind < 40)) return (uint32_t)((r >> 16) % 300000 + 1);
    if (sizes >= 2 && kind < 80) return (uint32_t)((r >> 16) % 66000 + 1);
    return (uint32_t)((r >> 16) % (16u << (r >> 10) % 8) + 1);
}

/* A block was allocated: check it, and take it into the model. */
static void model_take(struct block_model *model, struct model_block *block,
                       const unsigned char *bytes)
{
    if (!bytes) test_fail(__FILE__, __LINE__, "no block: %s", evh_last_error()->message);
    CHECK(bytes != NULL);
    const uint64_t alignment = 1ull << block->alignment_shift;
    block->offset = evh_ref_to(model->heap, bytes).offset;
    block->usable = (uint32_t)evh_usable_size(model->heap, bytes);
    CHECK(block->offset != 0);
    CHECK(block->usable >= block->size);
    CHECK_EQUAL(block->usable % MODEL_GRANULE_BYTES, 0);
    CHECK_EQUAL((uintptr_t)bytes % base_max(16, alignment), 0);
    CHECK_EQUAL(block->offset % base_max(16, alignment), 0);
    CHECK(evh_at(model->heap, (evh_ref){block->offset + block->usable - 1}) != NULL);
    granules_claim(block, true);
}

static void model_allocate(struct block_model *model, struct model_block *block, evh_ref *ref)
{
    const uint64_t kind = chance(model, 16);
    unsigned char *bytes = NULL;
    *block = (struct model_block){.size = model_size(model)};
    if (kind == 0) {
        block->alignment_shift = (uint32_t)chance(model, chance(model, 40) ? 17 : 23);
        bytes = evh_aligned_alloc(model->heap, (size_t)1 << block->alignment_shift, block->size);
    } else if (kind <= 2) {
        bytes = evh_calloc(model->heap, 1, block->size);
        block->is_zero = true;
        if (bytes) CHECK(is_zero(bytes, block->size));
    } else if (kind <= 6) {
        check_status(evh_malloc_to(model->heap, ref, block->size), "evh_malloc_to");
        bytes = evh_at(model->heap, *ref);
    } else if (kind == 7) {
        bytes = evh_realloc(model->heap, NULL, block->size);
    } else {
        bytes = evh_malloc(model->heap, block->size);
    }
    model_take(model, block, bytes);
    *ref = evh_ref_to(model->heap, bytes);
    if (!block->is_zero || chance(model, 2)) model_fill(model, block);
}

static void model_resize(struct block_model *model, struct model_block *block, evh_ref *ref)
{
    const struct model_block old = *block;
    model_check_contents(model, block);
    granules_claim(block, false);
    /* Mostly near the old size: that may stay in place. */
    block->size = chance(model, 2) ? model_size(model)
                                   : (uint32_t)(1 + chance(model, (uint64_t)old.size * 2));
    block->alignment_shift = 0;
    unsigned char *bytes = evh_realloc(model->heap, evh_at(model->heap, *ref), block->size);
    model_take(model, block, bytes);
    CHECK(model_is_filled(&old, bytes, base_min(old.size, block->size)));
    *ref = evh_ref_to(model->heap, bytes);
    model_fill(model, block);
}

/* What must be refused is refused, and changes nothing. */
static void model_misuse(struct block_model *model, void *freed, const struct model_block *other)
{
    evh_free(model->heap, freed);
    const evh_status status = evh_last_error()->status;
    CHECK(status == EVH_DOUBLE_FREE || status == EVH_BAD_POINTER);
    if (!other->offset || other->usable <= 16) return;
    unsigned char *bytes = evh_at(model->heap, (evh_ref){other->offset});
    evh_free(model->heap, bytes + 16 * (1 + chance(model, other->usable / 16 - 1)));
    CHECK_EQUAL(evh_last_error()->status, EVH_BAD_POINTER);
    CHECK_EQUAL(evh_usable_size(model->heap, bytes), other->usable);
}

static void model_free(struct block_model *model, struct model_block *block, evh_ref *ref)
{
    model_check_contents(model, block);
    granules_claim(block, false);
    unsigned char *bytes = evh_at(model->heap, *ref);
    if (chance(model, 4) == 0) {
        check_status(evh_free_from(model->heap, ref), "evh_free_from");
        CHECK_EQUAL(ref->offset, 0);
    } else {
        evh_free(model->heap, bytes);
        *ref = (evh_ref){0};
    }
    *block = (struct model_block){0};
    if (chance(model, 64) == 0)
        model_misuse(model, bytes, &model->state->blocks[chance(model, MODEL_SLOTS)]);
}

/* ---- roots ---- */

static void root_name(unsigned root, char name[32])
{
    snprintf(name, 32, "root number %u", root);
}

static unsigned char *root_find(evh_heap *heap, unsigned root, size_t *size)
{
    char name[32];
    root_name(root, name);
    return root < MODEL_ROOTS / 2 ? evh_root_find(heap, name, size)
                                  : evh_root_find_tagged(heap, root * 0x10001ull, size);
}

static void model_add_root(struct block_model *model, unsigned root, struct model_block *block)
{
    char name[32];
    root_name(root, name);
    CHECK(!root_find(model->heap, root, NULL));
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
    *block = (struct model_block){.size = (uint32_t)(1 + chance(model, 3000)), .is_zero = true};
    unsigned char *bytes = root < MODEL_ROOTS / 2
                               ? evh_root(model->heap, name, block->size)
                               : evh_root_tagged(model->heap, root * 0x10001ull, block->size);
    model_take(model, block, bytes);
    CHECK(is_zero(bytes, block->size));
    if (chance(model, 4)) model_fill(model, block);
}

static void model_check_root(struct block_model *model, unsigned root)
{
    const struct model_block *block = &model->state->roots[root];
    size_t size = 0;
    const unsigned char *bytes = root_find(model->heap, root, &size);
    CHECK_EQUAL(evh_ref_to(model->heap, bytes).offset, block->offset);
    if (!block->offset) return;
    CHECK_EQUAL(size, block->size);
    model_check_contents(model, block);
}

static void model_remove_root(struct block_model *model, unsigned root)
{
    char name[32];
    root_name(root, name);
    model_check_root(model, root);
    granules_claim(&model->state->roots[root], false);
    check_status(root < MODEL_ROOTS / 2 ? evh_root_remove(model->heap, name)
                                        : evh_root_remove_tagged(model->heap, root * 0x10001ull),
                 "evh_root_remove");
    model->state->roots[root] = (struct model_block){0};
}

static void model_step_root(struct block_model *model)
{
    const unsigned root = (unsigned)chance(model, MODEL_ROOTS);
    struct model_block *block = &model->state->roots[root];
    if (!block->offset) {
        model_add_root(model, root, block);
    } else if (chance(model, 3) == 0) {
        model_remove_root(model, root);
    } else {
        model_check_root(model, root);
        model_fill(model, block);
    }
}

/* ---- steps ---- */

static void model_next_phase(struct block_model *model)
{
    static const uint32_t counts[] = {16, 200, 2000, MODEL_SLOTS, MODEL_SLOTS};
    struct model_phase *phase = model->phase;
    phase->operations = 1 + chance(model, PHASE_OPERATIONS_MAX);
    phase->slot_count = counts[chance(model, sizeof counts / sizeof counts[0])];
    phase->first_slot = (uint32_t)chance(model, MODEL_SLOTS - phase->slot_count + 1);
    phase->sizes = (uint32_t)chance(model, 4);
    phase->free_share = 2 + (uint32_t)chance(model, 10);
}

void model_step(struct block_model *model)
{
    struct model_phase *phase = model->phase;
    if (phase->operations == 0) model_next_phase(model);
    phase->operations--;
    if (chance(model, 200) == 0) {
        model_step_root(model);
        return;
    }
    const uint64_t slot = phase->first_slot + chance(model, phase->slot_count);
    struct model_block *block = &model->state->blocks[slot];
    evh_ref *ref = &model_table(model)->refs[slot];
    CHECK_EQUAL(ref->offset, block->offset);
    if (!block->offset) {
        model_allocate(model, block, ref);
        return;
    }
    const uint64_t kind = chance(model, 16);
    if (kind < phase->free_share) {
        model_free(model, block, ref);
    } else if (kind < 13) {
        model_resize(model, block, ref);
    } else {
        model_check_contents(model, block);
        CHECK_EQUAL(evh_usable_size(model->heap, evh_at(model->heap, *ref)), block->usable);
        model_fill(model, block);
    }
}

void model_empty(struct block_model *model)
{
    for (unsigned i = 0; i < MODEL_SLOTS; i++)
        if (model->state->blocks[i].offset)
            model_free(model, &model->state->blocks[i], &model_table(model)->refs[i]);
    for (unsigned i = 0; i < MODEL_ROOTS; i++)
        if (model->state->roots[i].offset) model_remove_root(model, i);
}

/* ---- the whole ---- */

uint64_t model_number(evh_heap *heap)
{
    const struct model_table *table = evh_root_find(heap, "model", NULL);
    return table ? table->number : 0;
}

void model_set_number(struct block_model *model, uint64_t number)
{
    model->state->number = number;
    model_table(model)->number = number;
}

void model_attach(struct block_model *model)
{
    struct model_block *block = &model->state->table;
    unsigned char *bytes = evh_root(model->heap, "model", sizeof(struct model_table));
    if (block->offset) {
        CHECK_EQUAL(evh_ref_to(model->heap, bytes).offset, block->offset);
        granules_rebuild(model->state);
        return;
    }
    memset(granules, 0, sizeof granules);
    block->size = sizeof(struct model_table);
    model_take(model, block, bytes);
}

/* A sum over a set of blocks: of which the order does not matter. */
struct model_sum {
    uint64_t blocks, bytes, mixed, end;
    bool overlaps;
};

static void sum_add(struct model_sum *sum, uint64_t offset, uint64_t usable)
{
    uint64_t mixed = offset ^ usable << 40;
    sum->blocks++;
    sum->bytes += usable;
    sum->mixed += test_random(&mixed);
}

static bool sum_visit(const evh_block *block, void *context)
{
    struct model_sum *sum = context;
    sum_add(sum, block->ref.offset, block->size);
    if (block->ref.offset < sum->end) sum->overlaps = true;
    sum->end = block->ref.offset + block->size;
    return true;
}

/* The library's own blocks: the catalog of roots and its chunks. */
static void sum_add_catalog(evh_heap *heap, struct model_sum *sum)
{
    struct heap_catalog *catalog = evh_at(heap, (evh_ref){heap->state.catalog});
    CHECK(catalog != NULL);
    sum_add(sum, heap->state.catalog, evh_usable_size(heap, catalog));
    for (unsigned i = 0; i < HEAP_ROOT_CHUNKS && catalog->root_chunks[i].offset; i++)
        sum_add(sum, catalog->root_chunks[i].offset,
                evh_usable_size(heap, evh_at(heap, catalog->root_chunks[i])));
}

static void model_verify_block(struct block_model *model, const struct model_block *block,
                               struct model_sum *sum)
{
    const uint64_t alignment = 1ull << block->alignment_shift;
    model_check_contents(model, block);
    CHECK_EQUAL((uintptr_t)evh_at(model->heap, (evh_ref){block->offset}) % alignment, 0);
    sum_add(sum, block->offset, block->usable);
}

static uint64_t model_verify_roots(struct block_model *model, struct model_sum *sum)
{
    uint64_t roots = 1; /* the model's own */
    for (unsigned i = 0; i < MODEL_ROOTS; i++) {
        model_check_root(model, i);
        if (!model->state->roots[i].offset) continue;
        model_verify_block(model, &model->state->roots[i], sum);
        roots++;
    }
    uint64_t seen = 0;
    for (evh_root_info root = {0}; evh_root_next(model->heap, &root);) seen++;
    CHECK_EQUAL(seen, roots);
    return roots;
}

void model_verify(struct block_model *model, bool is_thorough)
{
    struct model_sum expected = {0}, walked = {0};
    const struct model_table *table = model_table(model);
    CHECK_EQUAL(evh_ref_to(model->heap, evh_root_find(model->heap, "model", NULL)).offset,
                model->state->table.offset);
    CHECK_EQUAL(table->number, model->state->number);
    for (unsigned i = 0; i < MODEL_SLOTS; i++) {
        CHECK_EQUAL(table->refs[i].offset, model->state->blocks[i].offset);
        if (table->refs[i].offset) model_verify_block(model, &model->state->blocks[i], &expected);
    }
    sum_add(&expected, model->state->table.offset, model->state->table.usable);
    const uint64_t roots = model_verify_roots(model, &expected);
    sum_add_catalog(model->heap, &expected);
    check_status(evh_walk(model->heap, sum_visit, &walked), "evh_walk");
    CHECK_EQUAL(walked.blocks, expected.blocks);
    CHECK_EQUAL(walked.bytes, expected.bytes);
    CHECK_EQUAL(walked.mixed, expected.mixed);
    CHECK(!walked.overlaps);
    evh_info info;
    check_status(evh_get_info(model->heap, &info), "evh_get_info");
    CHECK_EQUAL(info.live_blocks, expected.blocks);
    CHECK_EQUAL(info.live_bytes, expected.bytes);
    CHECK_EQUAL(info.roots, roots);
    if (is_thorough) check_status(evh_check(model->heap, NULL, NULL), "evh_check");
}
