/* bitset.c -- bits in one block behind a head of 32 bytes; those behind the block are 0. */
#include "collect/collect.h"

static const uint32_t bitset_word = COLLECT_WORD(COLLECT_BITSET, 1);

static struct collect_bitset *bitset_head(const evh_heap *heap, const evh_bitset *bits)
{
    if (!bits || bits->offset == 0) return NULL;
    struct collect_bitset *const head = collect_find(heap, bits->offset, sizeof *head, bitset_word);
    if (!head) return NULL;
    assert(heap != NULL);
    assert(bits->offset % 16 == 0);
    if (head->word_count <= EVH_BIT_MAX / 64 + 1 &&
        collect_is_in(heap, bits->offset, sizeof *head + 8 * head->word_count))
        return head;
    (void)collect_corrupt(bits->offset, "the head of a bitset is not one");
    return NULL;
}

static uint64_t *bitset_words(struct collect_bitset *head)
{
    assert(head->word == bitset_word);
    assert(head != NULL);
    return (uint64_t *)(void *)(head + 1);
}

static uint64_t bitset_bytes(uint64_t word_count)
{
    assert(word_count < UINT64_MAX / 8);
    assert(word_count <= EVH_BIT_MAX / 32 + 4);
    return sizeof(struct collect_bitset) + 8 * word_count;
}

/* A block with room for the word `index`, what is new of it zero; the head, or NULL. */
static struct collect_bitset *bitset_grow(evh_heap *heap, evh_bitset *bits,
                                          struct collect_bitset *head, uint64_t index)
{
    assert(heap != NULL);
    assert(index <= EVH_BIT_MAX / 64);
    assert(!head || index >= head->word_count);
    const uint64_t old_count = head ? head->word_count : 0;
    const uint64_t ample = base_min(old_count + old_count / 2, EVH_BIT_MAX / 64 + 1);
    const uint64_t count = base_max(index + 1, base_max(ample, 4));
    if (head && collect_check_block(heap, bits->offset, bitset_bytes(old_count))) return NULL;
    struct collect_bitset *const made = evh_realloc(heap, head, bitset_bytes(count));
    if (!made) return NULL;
    if (!head) *made = (struct collect_bitset){.word = bitset_word};
    assert(count > old_count);
    memset(bitset_words(made) + old_count, 0, 8 * (count - old_count));
    made->word_count = count;
    bits->offset = collect_offset(heap, made);
    assert(index < made->word_count);
    return made;
}

evh_status evh_bitset_put(evh_heap *heap, evh_bitset *bits, uint64_t index, bool value)
{
    const evh_status status = collect_writable(heap, bits);
    if (status) return status;
    if (index > EVH_BIT_MAX)
        return base_fail(EVH_LIMIT, NO_OFFSET, "bit %llu: there is none so high",
                         (unsigned long long)index);
    struct collect_bitset *head = bitset_head(heap, bits);
    if (!head && bits->offset) return EVH_CORRUPT;
    if (!head || index / 64 >= head->word_count) {
        if (!value) return EVH_OK;
        head = bitset_grow(heap, bits, head, index / 64);
        if (!head) return collect_failed();
    }
    assert(index / 64 < head->word_count);
    assert(bits->offset != 0);
    uint64_t *const word = &bitset_words(head)[index / 64];
    const uint64_t bit = 1ull << index % 64;
    const bool is_set = (*word & bit) != 0;
    if (is_set == value) return EVH_OK; /* a store would dirty the page */
    *word ^= bit;
    head->count += value ? 1 : UINT64_MAX;
    return EVH_OK;
}

bool evh_bitset_get(const evh_heap *heap, const evh_bitset *bits, uint64_t index)
{
    struct collect_bitset *const head = bitset_head(heap, bits);
    if (!head || index / 64 >= head->word_count) return false;
    assert(heap != NULL);
    assert(head->word_count <= EVH_BIT_MAX / 64 + 1);
    return bitset_words(head)[index / 64] >> index % 64 & 1;
}

uint64_t evh_bitset_count(const evh_heap *heap, const evh_bitset *bits)
{
    const struct collect_bitset *const head = bitset_head(heap, bits);
    if (head) assert(heap != NULL);
    if (head) assert(bits->offset != 0);
    return head ? head->count : 0;
}

uint64_t evh_bitset_next(const evh_heap *heap, const evh_bitset *bits, uint64_t from)
{
    struct collect_bitset *const head = bitset_head(heap, bits);
    if (!head) return EVH_NO_BIT;
    assert(heap != NULL);
    assert(head->word_count <= EVH_BIT_MAX / 64 + 1);
    uint64_t unwanted = (1ull << from % 64) - 1;
    for (uint64_t i = from / 64; i < head->word_count; i++) {
        const uint64_t word = bitset_words(head)[i] & ~unwanted;
        if (word) return i * 64 + base_lowest_bit(word);
        unwanted = 0;
    }
    return EVH_NO_BIT;
}

evh_status evh_bitset_clear(evh_heap *heap, evh_bitset *bits)
{
    evh_status status = collect_writable(heap, bits);
    if (status) return status;
    assert(heap != NULL);
    assert(bits != NULL);
    status = collect_free(heap, bits->offset);
    bits->offset = 0;
    return status;
}

evh_status evh_bitset_check(evh_heap *heap, const evh_bitset *bits)
{
    if (!heap || !bits) return base_fail(EVH_INVALID, NO_OFFSET, "no bitset: it is null");
    if (bits->offset == 0) return EVH_OK;
    struct collect_bitset *const head = bitset_head(heap, bits);
    if (!head || collect_check_block(heap, bits->offset, bitset_bytes(head->word_count)))
        return EVH_CORRUPT;
    assert(head->word_count <= EVH_BIT_MAX / 64 + 1);
    assert(bits->offset % 16 == 0);
    uint64_t count = 0;
    for (uint64_t i = 0; i < head->word_count; i++) count += base_count_bits(bitset_words(head)[i]);
    if (count == head->count && head->reserved == 0 && head->reserved2 == 0) return EVH_OK;
    return collect_corrupt(bits->offset, "a bitset counts wrongly");
}
