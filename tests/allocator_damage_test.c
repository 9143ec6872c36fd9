/* allocator_damage_test.c -- metadata that cannot be right is found, and never used. */
#include "allocator_heap.h"

#include <stdlib.h>

/* A heap of two segments in which every kind of slice occurs. */
static void damage_fill(struct buffer_heap *made)
{
    static const size_t sizes[] = {16, 48, 64, 200, 1000, 8192, 9000, 65536, 65537, 1 << 20};
    for (unsigned round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            CHECK(evh_malloc(made->heap, sizes[i]) != NULL);
    for (unsigned i = 0; i < 500000; i++) CHECK(evh_malloc(made->heap, 16) != NULL);
    void *run = evh_malloc(made->heap, 70 << 20);
    CHECK(run != NULL);
    evh_free(made->heap, evh_malloc(made->heap, 5 << 20));
    slices_fold(made->heap);
    CHECK_EQUAL(findings(made->heap), 0);
}

TEST(check_finds_every_flipped_bit_of_a_descriptor_that_says_what_a_slice_is)
{
    struct buffer_heap made = buffer_open(160 << 20);
    damage_fill(&made);
    unsigned seen[16] = {0}, missed = 0;
    const uint64_t slices = made.heap->state.heap_bytes >> SLICE_SHIFT;
    for (uint64_t slice = 1; slice < slices; slice++) {
        uint64_t *descriptor = slices_descriptor(made.heap, slice);
        const uint64_t before = *descriptor;
        const uint32_t kind = descriptor_kind(before);
        if (++seen[kind] > 4) continue;
        for (unsigned bit = 0; bit < 64; bit++) {
            /* Class and bitmap slot of a slice of blocks are plausible in many ways; the page's
             * checksum guards them. */
            if ((kind == HEAP_SMALL || kind == HEAP_MEDIUM) && bit >= HEAP_CLASS_SHIFT && bit < 38)
                continue;
            if (kind == HEAP_FREE && bit == HEAP_ATTRIBUTE_SHIFT)
                continue; /* a hole is free, too */
            *descriptor = before ^ 1ull << bit;
            if (findings(made.heap) == 0) {
                printf("    slice %llu kind %u bit %u\n", (unsigned long long)slice, kind, bit);
                missed++;
            }
        }
        *descriptor = before;
    }
    for (uint32_t kind = HEAP_FREE; kind <= HEAP_CHECKSUM; kind++)
        if (kind != HEAP_DIRECTORY) CHECK(seen[kind] > 0);
    CHECK_EQUAL(missed, 0);
    CHECK_EQUAL(findings(made.heap), 0);
    buffer_close(&made);
}

TEST(check_finds_every_flipped_bit_of_the_directory)
{
    struct buffer_heap made = buffer_open(160 << 20);
    damage_fill(&made);
    uint64_t *entries = slices_directory_entry(made.heap, 0);
    for (unsigned entry = 0; entry < 512; entry++)
        for (unsigned bit = 0; bit < 64; bit += entry < 4 ? 1 : 13) {
            entries[entry] ^= 1ull << bit;
            const unsigned count = findings(made.heap);
            entries[entry] ^= 1ull << bit;
            if (!count) test_fail(__FILE__, __LINE__, "entry %u, bit %u", entry, bit);
            CHECK(count > 0);
        }
    buffer_close(&made);
}

TEST(check_finds_bits_behind_the_last_block_and_bitmaps_that_overlap)
{
    struct buffer_heap made = buffer_open(16 << 20);
    void *block = evh_malloc(made.heap, 48); /* 1365 blocks in a slice: 43 bits are to spare */
    void *other = evh_malloc(made.heap, 80);
    const uint64_t slice = evh_ref_to(made.heap, block).offset >> SLICE_SHIFT;
    const uint64_t other_slice = evh_ref_to(made.heap, other).offset >> SLICE_SHIFT;
    uint64_t *bits = made.heap->slices.table[slice].bits;
    bits[21] |= 1ull << 63;
    CHECK_EQUAL(findings(made.heap), 1);
    bits[21] &= ~(1ull << 63);
    CHECK_EQUAL(findings(made.heap), 0);
    uint64_t *descriptor = slices_descriptor(made.heap, slice);
    uint64_t *other_descriptor = slices_descriptor(made.heap, other_slice);
    const uint64_t before = *other_descriptor;
    *other_descriptor =
        descriptor_of_blocks(descriptor_class(before), descriptor_slot(*descriptor));
    CHECK_EQUAL(findings(made.heap), 1);
    *other_descriptor = before;
    buffer_close(&made);
}

TEST(check_finds_small_bitmaps_that_overlap)
{
    struct buffer_heap made = buffer_open(16 << 20);
    static const size_t sizes[] = {1000, 1100, 400, 200}; /* slots of 1, 1, 4 and 8 words */
    uint64_t *descriptors[4];
    for (unsigned i = 0; i < 4; i++) {
        const uint64_t offset = evh_ref_to(made.heap, evh_malloc(made.heap, sizes[i])).offset;
        descriptors[i] = slices_descriptor(made.heap, offset >> SLICE_SHIFT);
    }
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 4; k++) {
            if (i == k) continue;
            const uint64_t before = *descriptors[i];
            *descriptors[i] =
                descriptor_of_blocks(descriptor_class(before), descriptor_slot(*descriptors[k]));
            CHECK(findings(made.heap) > 0);
            *descriptors[i] = before;
        }
    CHECK_EQUAL(findings(made.heap), 0);
    buffer_close(&made);
}

TEST(check_finds_segments_that_share_their_metadata)
{
    struct buffer_heap made = buffer_open(260 << 20);
    for (unsigned i = 0; i < 200; i++) CHECK(evh_malloc(made.heap, 1 << 20) != NULL);
    uint64_t *entries = slices_directory_entry(made.heap, 0);
    CHECK(entries[3] != 0);
    for (unsigned i = 1; i < 4; i++)
        for (unsigned k = 1; k < 4; k++) {
            if (i == k) continue;
            const uint64_t before = entries[i];
            entries[i] = entries[k];
            CHECK(findings(made.heap) > 0);
            entries[i] = before;
        }
    CHECK_EQUAL(findings(made.heap), 0);
    buffer_close(&made);
}

TEST(a_run_whose_tail_is_missing_in_the_next_segment_is_refused)
{
    struct buffer_heap made = buffer_open(160 << 20);
    void *run = evh_malloc(made.heap, 70 << 20);
    const uint64_t place = slices_descriptor_offset(made.heap, SEGMENT_SLICES);
    CHECK_EQUAL(evh_close(made.heap), EVH_OK);
    memset((unsigned char *)made.buffer + place, 0, 8);
    buffer_attach(&made);
    CHECK(made.heap != NULL);
    CHECK_EQUAL(evh_usable_size(made.heap, run), 0);
    CHECK_EQUAL(last_status(), EVH_CORRUPT);
    CHECK_EQUAL(evh_last_error()->offset, place);
    CHECK_EQUAL(evh_close(made.heap), EVH_OK);
    made.heap = NULL;
    buffer_close(&made);
}

/* A damaged segment is found at first use; nothing is handed out of it, and nothing crashes. */
TEST(a_damaged_segment_is_refused_when_it_is_loaded)
{
    struct buffer_heap made = buffer_open(16 << 20);
    void *block = evh_malloc(made.heap, 48);
    const uint64_t slice = evh_ref_to(made.heap, block).offset >> SLICE_SHIFT;
    const uint64_t place = slices_descriptor_offset(made.heap, slice);
    unsigned char *bytes = made.buffer;
    CHECK_EQUAL(evh_close(made.heap), EVH_OK);
    bytes[place + 7] ^= 0x40;

    buffer_attach(&made);
    CHECK(made.heap != NULL); /* opening reads the header only */
    CHECK(evh_malloc(made.heap, 16) == NULL);
    CHECK_EQUAL(last_status(), EVH_CORRUPT);
    CHECK_EQUAL(evh_last_error()->offset, place);
    CHECK(evh_malloc(made.heap, 1 << 20) == NULL);
    CHECK_EQUAL(last_status(), EVH_CORRUPT);
    CHECK_EQUAL(evh_usable_size(made.heap, block), 0);
    CHECK_EQUAL(last_status(), EVH_CORRUPT);
    forget_error();
    evh_free(made.heap, block);
    CHECK_EQUAL(last_status(), EVH_CORRUPT);
    CHECK_EQUAL(evh_close(made.heap), EVH_OK);

    const evh_options verify = {.must_exist = true, .verify = true};
    CHECK(evh_open_memory(made.buffer, made.size, &verify) == NULL);
    CHECK_EQUAL(last_status(), EVH_CORRUPT);
    CHECK_EQUAL(evh_last_error()->offset, place);
    bytes[place + 7] ^= 0x40;
    buffer_attach(&made);
    CHECK(made.heap != NULL);
    CHECK_EQUAL(evh_usable_size(made.heap, block), 48);
    buffer_close(&made);
}

/* Strategy: flip random bits anywhere in the metadata, then use the heap. Invariant: no crash,
 * no hang. */
TEST(random_damage_never_crashes)
{
    uint64_t seed = test_seed();
    struct buffer_heap made = buffer_open(160 << 20);
    damage_fill(&made);
    unsigned char *bytes = made.buffer;
    enum { META_BYTES = 16384 };
    const uint64_t metas[2] = {slices_descriptor_offset(made.heap, 0),
                               slices_descriptor_offset(made.heap, SEGMENT_SLICES)};
    CHECK_EQUAL(evh_close(made.heap), EVH_OK);
    unsigned char *copies = malloc(2 * META_BYTES);
    for (unsigned i = 0; i < 2; i++) memcpy(copies + i * META_BYTES, bytes + metas[i], META_BYTES);
    for (unsigned round = 0; round < 500; round++) {
        for (uint64_t i = test_random(&seed) % 8; i-- > 0;) {
            const uint64_t r = test_random(&seed);
            bytes[metas[r & 1] + (r >> 8) % META_BYTES] ^= (unsigned char)(1u << (r >> 60) % 8);
        }
        buffer_attach(&made);
        if (!made.heap) continue;
        (void)evh_check(made.heap, NULL, NULL);
        struct walk_count count = {.heap = made.heap};
        (void)evh_walk(made.heap, walk_count_block, &count);
        for (uint64_t i = 0; i < 50; i++) {
            const uint64_t r = test_random(&seed);
            void *block = evh_malloc(made.heap, r % 3000 + 1);
            if (block && r % 2) evh_free(made.heap, block);
            evh_free(made.heap, bytes + (r >> 20) % (140 << 20) / 16 * 16);
        }
        (void)evh_close(made.heap);
        for (unsigned i = 0; i < 2; i++)
            memcpy(bytes + metas[i], copies + i * META_BYTES, META_BYTES);
    }
    free(copies);
    made.heap = NULL;
    buffer_close(&made);
}
