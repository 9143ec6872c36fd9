/* allocator_test.c -- evh_malloc and its family, on one thread: sizes, places, misuse, damage. */
#include "allocator_heap.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- size classes ---- */

TEST(every_size_gets_the_smallest_class_that_holds_it)
{
    for (size_t size = 1; size <= HEAP_MEDIUM_MAX; size++) {
        const uint32_t class_index = size_class_of(size);
        CHECK(class_index < HEAP_CLASS_COUNT);
        CHECK(size_classes[class_index].block_bytes >= size);
        if (class_index) CHECK(size_classes[class_index - 1].block_bytes < size);
    }
    CHECK_EQUAL(size_class_table[0] / SIZE_TABLE_UNIT, HEAP_CLASS_COUNT);
}

TEST(dividing_by_a_reciprocal_is_exact_for_every_offset_of_every_class)
{
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        const struct size_class *class = &size_classes[i];
        const uint64_t end = (uint64_t)SLICE_BYTES * size_class_slices(i);
        uint64_t quotient = 0, rest = 0;
        for (uint64_t offset = 0; offset < end; offset++) {
            bool is_multiple = false;
            const uint64_t index = size_class_divide(offset, class->reciprocal, &is_multiple);
            if (index != quotient || is_multiple != (rest == 0)) {
                test_fail(__FILE__, __LINE__, "class %u, offset %llu", i,
                          (unsigned long long)offset);
                test_stop();
            }
            if (++rest == class->block_bytes) {
                rest = 0;
                quotient++;
            }
        }
    }
}

/* What the fast path of evh_free() relies on: the bit of the first place behind the last block
 * lies in the bitmap, and is 0. */
TEST(a_class_that_wastes_room_has_bits_to_spare)
{
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        const struct size_class *class = &size_classes[i];
        const uint64_t end = (uint64_t)SLICE_BYTES * size_class_slices(i);
        const uint64_t waste = end - (uint64_t) class->block_count * class->block_bytes;
        CHECK(waste < class->block_bytes);
        if (waste) CHECK(class->block_count % 64 != 0);
        CHECK_EQUAL(class->word_count, (class->block_count + 63) / 64);
        CHECK(class->slot_words >= class->word_count);
        CHECK(class->block_count >= 8);
    }
}

/* ---- sizes ---- */

TEST(a_block_holds_what_was_asked_for_at_every_boundary)
{
    static const size_t sizes[] = {
        1,      2,      15,      16,      17,      128,           129,       144,   145,
        1023,   1024,   1025,    8191,    8192,    8193,          65535,     65536, 65537,
        131072, 131073, 1000000, 1 << 20, 1 << 26, (1 << 26) + 1, 200u << 20};
    evh_heap *heap = allocator_open();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *block = evh_malloc(heap, sizes[i]);
        CHECK(block != NULL);
        CHECK((uintptr_t)block % 16 == 0);
        const size_t usable = evh_usable_size(heap, block);
        CHECK(usable >= sizes[i]);
        const size_t step = sizes[i] > HEAP_MEDIUM_MAX ? SLICE_BYTES : 16;
        CHECK(usable < sizes[i] + sizes[i] / 8 + step);
        block[0] = 1;
        block[usable - 1] = 2;
        evh_free(heap, block);
    }
    allocator_close(heap);
}

TEST(sizes_that_no_heap_holds_are_refused)
{
    evh_heap *heap = allocator_open();
    const uint64_t live = allocator_info(heap).live_blocks;
    CHECK(evh_malloc(heap, 0) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    CHECK(evh_malloc(heap, SIZE_MAX) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    const uint64_t limit = heap->region->reserved_bytes; /* 1 TiB where the system has it */
    CHECK(evh_malloc(heap, limit + 1) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    CHECK(evh_malloc(heap, limit) == NULL); /* all of it: the heap's own slices are in it */
    CHECK_EQUAL(last_status(), EVH_FULL);
    CHECK(evh_calloc(heap, SIZE_MAX / 2, 3) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    CHECK(evh_calloc(heap, 0, 8) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    CHECK(evh_calloc(heap, 8, 0) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    CHECK_EQUAL(allocator_info(heap).live_blocks, live);
    allocator_close(heap);
}

TEST(a_null_heap_is_an_error_and_no_crash)
{
    int local = 0;
    evh_ref ref = {0};
    CHECK(evh_malloc(NULL, 8) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    CHECK(evh_malloc(NULL, 5000) == NULL);
    CHECK(evh_malloc(NULL, 0) == NULL);
    CHECK(evh_calloc(NULL, 1, 8) == NULL);
    CHECK(evh_calloc(NULL, SIZE_MAX, 8) == NULL);
    CHECK(evh_realloc(NULL, NULL, 8) == NULL);
    CHECK(evh_realloc(NULL, &local, 8) == NULL);
    CHECK(evh_aligned_alloc(NULL, 64, 8) == NULL);
    CHECK_EQUAL(evh_usable_size(NULL, &local), 0);
    CHECK_EQUAL(evh_malloc_to(NULL, &ref, 8), EVH_INVALID);
    CHECK_EQUAL(evh_free_from(NULL, &ref), EVH_INVALID);
    evh_free(NULL, NULL);
    evh_free(NULL, &local);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    evh_enter(NULL);
    evh_leave(NULL);
}

TEST(calloc_gives_zeroes_also_where_something_lay)
{
    evh_heap *heap = allocator_open();
    for (size_t size = 8; size <= 300000; size = size * 2 + 8) {
        void *used = evh_malloc(heap, size);
        CHECK(used != NULL);
        memset(used, 0xab, size);
        evh_free(heap, used);
        const unsigned char *block = evh_calloc(heap, size / 8, 8);
        CHECK(block != NULL);
        for (size_t i = 0; i < size / 8 * 8; i++) CHECK_EQUAL(block[i], 0);
        evh_free(heap, (void *)(uintptr_t)block);
    }
    allocator_close(heap);
}

/* ---- alignment ---- */

TEST(every_alignment_is_met_by_address_and_offset)
{
    static const size_t sizes[] = {1, 24, 100, 4096, 5000, 65536, 70000, 1 << 20};
    evh_heap *heap = allocator_open();
    for (size_t alignment = 1; alignment <= SEGMENT_BYTES; alignment *= 2)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            void *blocks[3];
            for (unsigned k = 0; k < 3; k++) {
                blocks[k] = evh_aligned_alloc(heap, alignment, sizes[i]);
                CHECK(blocks[k] != NULL);
                CHECK_EQUAL((uintptr_t)blocks[k] % alignment, 0);
                CHECK_EQUAL(evh_ref_to(heap, blocks[k]).offset % alignment, 0);
                CHECK(evh_usable_size(heap, blocks[k]) >= sizes[i]);
            }
            for (unsigned k = 0; k < 3; k++) evh_free(heap, blocks[k]);
        }
    allocator_close(heap);
}

TEST(alignments_that_are_none_are_refused)
{
    static const size_t bad[] = {0, 3, 24, 4097, (size_t)SEGMENT_BYTES * 2, SIZE_MAX};
    evh_heap *heap = allocator_open();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(evh_aligned_alloc(heap, bad[i], 64) == NULL);
        CHECK_EQUAL(last_status(), EVH_INVALID);
    }
    CHECK(evh_aligned_alloc(heap, 64, 0) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    CHECK(evh_aligned_alloc(heap, 64, SIZE_MAX - 10) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    allocator_close(heap);
}

/* ---- realloc ---- */

TEST(realloc_keeps_the_contents_to_the_smaller_size)
{
    static const size_t sizes[] = {1, 16, 17, 100, 1000, 8192, 8193, 65536, 65537, 400000, 3 << 20};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    evh_heap *heap = allocator_open();
    for (unsigned from = 0; from < COUNT; from++)
        for (unsigned to = 0; to < COUNT; to++) {
            const size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
            void *block = evh_realloc(heap, NULL, sizes[from]);
            CHECK(block != NULL);
            fill(block, sizes[from], from);
            block = evh_realloc(heap, block, sizes[to]);
            CHECK(block != NULL);
            CHECK(is_filled(block, kept, from));
            CHECK(evh_usable_size(heap, block) >= sizes[to]);
            evh_free(heap, block);
        }
    allocator_close(heap);
}

TEST(a_run_is_resized_in_place_where_the_slices_behind_it_are_free)
{
    evh_heap *heap = allocator_open();
    void *block = evh_malloc(heap, 10 * SLICE_BYTES);
    CHECK(evh_realloc(heap, block, 3 * SLICE_BYTES) == block);
    CHECK_EQUAL(evh_usable_size(heap, block), 3 * SLICE_BYTES);
    CHECK(evh_realloc(heap, block, 8 * SLICE_BYTES + 1) == block);
    CHECK_EQUAL(evh_usable_size(heap, block), 9 * SLICE_BYTES);
    /* At the heap's end it grows with the heap. */
    CHECK(evh_realloc(heap, block, 40 * SLICE_BYTES) == block);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    void *wall = evh_malloc(heap, 20 * SLICE_BYTES);
    CHECK(wall != NULL);
    CHECK(evh_realloc(heap, block, 80 * SLICE_BYTES) != block);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    allocator_close(heap);
}

TEST(realloc_that_fails_leaves_the_block)
{
    evh_heap *heap = allocator_open();
    void *block = evh_malloc(heap, 100000);
    fill(block, 100000, 5);
    CHECK(evh_realloc(heap, block, 0) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    CHECK(evh_realloc(heap, block, SIZE_MAX) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    CHECK(evh_realloc(heap, block, heap->region->reserved_bytes - 1) == NULL);
    CHECK_EQUAL(last_status(), EVH_FULL);
    CHECK(is_filled(block, 100000, 5));
    CHECK_EQUAL(evh_usable_size(heap, block), 2 * SLICE_BYTES);
    allocator_close(heap);
}

/* ---- misuse ---- */

TEST(freeing_twice_is_detected_in_every_kind_of_slice)
{
    static const size_t sizes[] = {16, 48, 1000, 8192, 9000, 65536, 65537, 1 << 20};
    evh_heap *heap = allocator_open();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *keep = evh_malloc(heap, sizes[i]);
        void *block = evh_malloc(heap, sizes[i]);
        const uint64_t live = allocator_info(heap).live_blocks;
        evh_free(heap, block);
        forget_error();
        evh_free(heap, block);
        CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
        CHECK_EQUAL(evh_last_error()->offset, evh_ref_to(heap, block).offset);
        CHECK_EQUAL(evh_usable_size(heap, block), 0);
        CHECK(evh_realloc(heap, block, 10) == NULL);
        CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
        CHECK_EQUAL(allocator_info(heap).live_blocks, live - 1);
        evh_free(heap, keep);
        forget_error();
        evh_free(heap, keep);
        CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
    }
    allocator_close(heap);
}

static void expect_bad_pointer(evh_heap *heap, void *pointer)
{
    forget_error();
    evh_free(heap, pointer);
    CHECK_EQUAL(last_status(), EVH_BAD_POINTER);
    CHECK_EQUAL(evh_usable_size(heap, pointer), 0);
    CHECK_EQUAL(last_status(), EVH_BAD_POINTER);
    CHECK(evh_realloc(heap, pointer, 32) == NULL);
    CHECK_EQUAL(last_status(), EVH_BAD_POINTER);
}

TEST(pointers_into_blocks_and_of_others_are_detected)
{
    static const size_t sizes[] = {16, 48, 1000, 8192, 9000, 65536, 65537, 1 << 20};
    evh_heap *heap = allocator_open();
    evh_heap *other = allocator_open();
    int local = 0;
    void *foreign = evh_malloc(other, 64);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *block = evh_malloc(heap, sizes[i]);
        for (size_t inside = 1; inside < sizes[i]; inside = inside * 3 + 1)
            expect_bad_pointer(heap, block + inside);
        CHECK(evh_usable_size(heap, block) >= sizes[i]);
    }
    expect_bad_pointer(heap, &local);
    expect_bad_pointer(heap, foreign);
    expect_bad_pointer(heap, heap->view.base);                        /* slice 0 */
    expect_bad_pointer(heap, heap->view.base + SLICE_BYTES);          /* metadata */
    expect_bad_pointer(heap, heap->view.base + heap->view.end_bytes); /* the end */
    CHECK(evh_usable_size(other, foreign) == 64);
    allocator_close(heap);
    allocator_close(other);
}

TEST(the_place_behind_the_last_block_of_a_slice_is_no_block)
{
    evh_heap *heap = allocator_open();
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        const struct size_class *class = &size_classes[i];
        unsigned char *block = evh_malloc(heap, class->block_bytes);
        const uint64_t offset = evh_ref_to(heap, block).offset;
        const uint64_t span = (uint64_t) class->block_bytes * class->block_count;
        if (span == (uint64_t)SLICE_BYTES * size_class_slices(i)) continue;
        /* Blocks come in ascending order: this one is in the first slice of its run. */
        expect_bad_pointer(heap, heap->view.base + offset / SLICE_BYTES * SLICE_BYTES + span);
    }
    allocator_close(heap);
}

TEST(a_double_free_aborts_by_default)
{
    const pid_t child = fork();
    if (child == 0) {
        evh_heap *heap = evh_open_memory(NULL, 0, NULL);
        void *block = evh_malloc(heap, 40);
        (void)!freopen("/dev/null", "w", stderr);
        evh_free(heap, block);
        evh_free(heap, block);
        _exit(0);
    }
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    CHECK_EQUAL(WTERMSIG(status), SIGABRT);
}

TEST(a_free_into_a_slice_that_was_loaded_is_checked_as_well)
{
    struct buffer_heap made = buffer_open(32 << 20);
    void *live = evh_malloc(made.heap, 48), *dead = evh_malloc(made.heap, 48);
    evh_free(made.heap, dead);
    buffer_reopen(&made);
    evh_free(made.heap, dead);
    CHECK_EQUAL(last_status(), EVH_DOUBLE_FREE);
    expect_bad_pointer(made.heap, (char *)live + 16);
    CHECK_EQUAL(evh_usable_size(made.heap, live), 48);
    evh_free(made.heap, live);
    CHECK_EQUAL(evh_usable_size(made.heap, live), 0);
    buffer_close(&made);
}

/* ---- refs ---- */

TEST(malloc_to_and_free_from_keep_block_and_ref_together)
{
    evh_heap *heap = allocator_open();
    evh_ref *inside = evh_calloc(heap, 1, sizeof *inside);
    evh_ref outside = {0};
    CHECK_EQUAL(evh_malloc_to(heap, inside, 100), EVH_OK);
    CHECK_EQUAL(evh_malloc_to(heap, &outside, 100000), EVH_OK);
    CHECK(evh_usable_size(heap, evh_at(heap, *inside)) >= 100);
    CHECK(evh_usable_size(heap, evh_at(heap, outside)) >= 100000);
    const evh_ref stale = *inside;
    CHECK_EQUAL(evh_free_from(heap, inside), EVH_OK);
    CHECK_EQUAL(evh_free_from(heap, &outside), EVH_OK);
    CHECK_EQUAL(inside->offset, 0);
    CHECK_EQUAL(outside.offset, 0);
    CHECK_EQUAL(evh_free_from(heap, inside), EVH_OK); /* null is fine */
    *inside = stale;
    CHECK_EQUAL(evh_free_from(heap, inside), EVH_DOUBLE_FREE);
    CHECK_EQUAL(inside->offset, stale.offset);
    inside->offset = stale.offset + 1;
    CHECK_EQUAL(evh_free_from(heap, inside), EVH_BAD_POINTER);
    inside->offset = UINT64_MAX - 7;
    CHECK_EQUAL(evh_free_from(heap, inside), EVH_BAD_POINTER);
    inside->offset = 0;
    CHECK_EQUAL(evh_malloc_to(heap, NULL, 8), EVH_INVALID);
    CHECK_EQUAL(evh_free_from(heap, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_malloc_to(heap, inside, 0), EVH_INVALID);
    CHECK_EQUAL(inside->offset, 0);
    allocator_close(heap);
}

/* ---- runs, growth, merging ---- */

TEST(runs_cross_segments_and_the_metadata_lies_before_them)
{
    evh_heap *heap = allocator_open();
    unsigned char *small = evh_malloc(heap, 100);
    unsigned char *run = evh_malloc(heap, 300u << 20);
    CHECK(small && run);
    for (uint64_t i = 0; i < (300u << 20); i += SEGMENT_BYTES / 2) run[i] = 1;
    const uint64_t first = evh_ref_to(heap, run).offset >> SLICE_SHIFT;
    const uint64_t end = first + (300u << 20) / SLICE_BYTES;
    for (uint64_t i = 1; i * SEGMENT_SLICES < end; i++)
        CHECK(slices_descriptor_offset(heap, i * SEGMENT_SLICES) >> SLICE_SHIFT < first);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    /* The space is good for anything else afterwards. */
    evh_free(heap, run);
    const uint64_t heap_bytes = heap->state.heap_bytes;
    for (unsigned i = 0; i < 290; i++) CHECK(evh_malloc(heap, 1 << 20) != NULL);
    CHECK_EQUAL(heap->state.heap_bytes, heap_bytes);
    allocator_close(heap);
}

TEST(segments_beyond_16_gib_are_reached_through_the_indirect_directory)
{
    evh_heap *heap = allocator_open();
    void *run = evh_malloc(heap, 17ull << 30);
    if (!run && heap->region->reserved_bytes < 18ull << 30)
        SKIP("the system gives no 17 GiB of addresses");
    CHECK(run != NULL);
    CHECK(heap->state.heap_bytes >> SEGMENT_SHIFT > HEAP_DIRECT_SEGMENTS);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK(slices_checksum_slice(heap, HEAP_DIRECT_SEGMENTS + 1) != 0);
    unsigned char *behind = evh_malloc(heap, 5000);
    memset(behind, 1, 5000);
    evh_free(heap, run);
    slices_reset(heap);
    CHECK_EQUAL(evh_usable_size(heap, behind), 5120);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    allocator_close(heap);
}

TEST(growth_goes_around_the_journals_extents)
{
    evh_heap *heap = allocator_open();
    struct region_extent *extents = heap->region->header.extents;
    extents[0] = (struct region_extent){.first_slice = 70, .slice_count = 5};
    extents[1] = (struct region_extent){.first_slice = 1020, .slice_count = 10};
    extents[2] = (struct region_extent){.first_slice = 2048, .slice_count = 3};
    for (unsigned i = 0; i < 40; i++) {
        const uint64_t size = (i % 5 + 1) << 20;
        const uint64_t first = evh_ref_to(heap, evh_malloc(heap, size)).offset >> SLICE_SHIFT;
        CHECK(first != 0);
        for (unsigned k = 0; k < 3; k++)
            CHECK(first >= extents[k].first_slice + extents[k].slice_count ||
                  first + (size >> SLICE_SHIFT) <= extents[k].first_slice);
        for (unsigned k = 0; k < 100; k++) CHECK(evh_malloc(heap, 4000) != NULL);
    }
    CHECK(heap->state.heap_bytes > (uint64_t)2 * SEGMENT_BYTES);
    allocator_close(heap);
}

static evh_status count_run(uint64_t first, uint64_t count, void *context)
{
    uint64_t *runs = context;
    (void)first;
    runs[0]++;
    runs[1] += count;
    return EVH_OK;
}

TEST(everything_that_is_freed_becomes_one_run_again)
{
    evh_heap *heap = allocator_open();
    uint64_t seed = test_seed();
    enum { COUNT = 20000 };
    void **blocks = malloc(COUNT * sizeof *blocks);
    CHECK(blocks != NULL);
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = evh_malloc(heap, test_random(&seed) % (i % 100 ? 2000 : 200000) + 1);
        CHECK(blocks[i] != NULL);
    }
    for (unsigned i = COUNT; i > 0; i--) {
        const uint64_t k = test_random(&seed) % i;
        evh_free(heap, blocks[k]);
        blocks[k] = blocks[i - 1];
    }
    uint64_t runs[2] = {0};
    CHECK_EQUAL(slices_each_free_run(heap, count_run, runs), EVH_OK);
    const evh_info info = allocator_info(heap);
    const uint64_t slices = heap->state.heap_bytes >> SLICE_SHIFT;
    free(blocks);
    CHECK_EQUAL(runs[1], info.free_bytes >> SLICE_SHIFT);
    /* What stays: slice 0, metadata, checksums, bitmap slices, and the catalog's slice. */
    CHECK(runs[0] <= 3);
    CHECK(runs[1] >= slices - 8);
    CHECK_EQUAL(info.live_blocks, 1);
    allocator_close(heap);
}

TEST(slices_that_become_empty_are_free_at_once)
{
    enum { COUNT = 100 * 1024 };
    evh_heap *heap = allocator_open();
    void **blocks = malloc(COUNT * sizeof *blocks);
    for (unsigned i = 0; i < COUNT; i++) blocks[i] = evh_malloc(heap, 64);
    const uint64_t before = allocator_info(heap).free_bytes;
    for (unsigned i = 0; i < COUNT; i++) evh_free(heap, blocks[i]);
    CHECK(allocator_info(heap).free_bytes >= before + (uint64_t)97 * SLICE_BYTES);
    free(blocks);
    allocator_close(heap);
}

TEST(bitmap_slots_are_used_again)
{
    evh_heap *heap = allocator_open();
    uint64_t metadata = 0;
    for (unsigned round = 0; round < 3000; round++) {
        void *blocks[64];
        for (unsigned i = 0; i < 64; i++) {
            blocks[i] = evh_malloc(heap, i % 2 ? 3000 : 8192);
            CHECK(blocks[i] != NULL);
        }
        for (unsigned i = 0; i < 64; i++) evh_free(heap, blocks[i]);
        if (round == 0) metadata = allocator_info(heap).metadata_bytes;
    }
    CHECK_EQUAL(allocator_info(heap).metadata_bytes, metadata);
    allocator_close(heap);
}

TEST(medium_runs_lie_in_one_segment)
{
    evh_heap *heap = allocator_open();
    void *run = evh_malloc(heap, 130 << 20);
    CHECK(run != NULL);
    evh_free(heap, run); /* now free slices lie on both sides of segment borders */
    for (unsigned i = 0; i < 2000; i++) CHECK(evh_malloc(heap, 60000) != NULL);
    CHECK(heap->state.heap_bytes < (uint64_t)200 << 20);
    allocator_close(heap);
}

TEST(what_lay_in_the_memory_before_does_not_matter)
{
    struct buffer_heap made = buffer_open(160 << 20);
    CHECK_EQUAL(evh_close(made.heap), EVH_OK);
    memset(made.buffer, 0xa5, made.size);
    const evh_options options = {.misuse = EVH_MISUSE_STATUS, .must_create = true};
    made.heap = evh_open_memory(made.buffer, made.size, &options);
    CHECK(made.heap != NULL);
    CHECK(evh_malloc(made.heap, 70 << 20) != NULL);
    for (unsigned i = 0; i < 20000; i++) CHECK(evh_malloc(made.heap, i % 3000 + 1) != NULL);
    CHECK(made.heap->state.heap_bytes > SEGMENT_BYTES);
    CHECK_EQUAL(allocator_info(made.heap).live_blocks, 20002);
    buffer_reopen(&made);
    CHECK_EQUAL(allocator_info(made.heap).live_blocks, 20002);
    buffer_close(&made);
}

TEST(slices_of_a_heap_that_was_opened_are_allocated_from_before_it_grows)
{
    enum { COUNT = 50000 };
    struct buffer_heap made = buffer_open(64 << 20);
    uint64_t *places = malloc(COUNT * sizeof *places);
    for (unsigned i = 0; i < COUNT; i++)
        places[i] = evh_ref_to(made.heap, evh_malloc(made.heap, 100)).offset;
    for (unsigned i = 0; i < COUNT; i += 2)
        evh_free(made.heap, evh_at(made.heap, (evh_ref){places[i]}));
    free(places);
    const uint64_t heap_bytes = made.heap->state.heap_bytes;
    buffer_reopen(&made);
    for (unsigned i = 0; i < COUNT / 2 - COUNT / 50; i++) CHECK(evh_malloc(made.heap, 100) != NULL);
    CHECK_EQUAL(made.heap->state.heap_bytes, heap_bytes);
    buffer_close(&made);
}

TEST(a_full_heap_says_so_and_goes_on_when_something_is_freed)
{
    const evh_options options = {.misuse = EVH_MISUSE_STATUS, .size_max_bytes = 8 << 20};
    evh_heap *heap = evh_open_memory(NULL, 0, &options);
    CHECK(heap != NULL);
    enum { COUNT = 100000 };
    void **blocks = malloc(COUNT * sizeof *blocks);
    for (unsigned round = 0; round < 3; round++) {
        unsigned count = 0;
        while (count < COUNT && (blocks[count] = evh_malloc(heap, 1000)) != NULL) count++;
        CHECK_EQUAL(last_status(), EVH_FULL);
        CHECK(count > 7500); /* of 8388 that 8 MiB would hold */
        CHECK(evh_malloc(heap, 1 << 20) == NULL);
        CHECK_EQUAL(last_status(), EVH_FULL);
        for (unsigned i = 0; i < count; i++) evh_free(heap, blocks[i]);
        /* The checksum slice, made when the heap passed 4 MiB, stays in the middle. */
        void *large = evh_malloc(heap, 3 << 20);
        CHECK(large != NULL);
        evh_free(heap, large);
    }
    free(blocks);
    allocator_close(heap);
}

TEST(a_new_heap_stays_small)
{
    evh_heap *heap = allocator_open();
    CHECK(evh_malloc(heap, 100) != NULL);
    CHECK(heap->state.heap_bytes <= 256 << 10);
    for (unsigned i = 0; i < 1000; i++) CHECK(evh_malloc(heap, 1000) != NULL);
    CHECK(heap->state.heap_bytes <= 2 << 20);
    allocator_close(heap);
}

/* ---- walking ---- */

TEST(walking_sees_exactly_the_live_blocks_and_may_free_them)
{
    evh_heap *heap = allocator_open();
    uint64_t seed = test_seed();
    struct walk_count count = {.heap = heap, .ascends = true};
    uint64_t bytes = 0;
    for (unsigned i = 0; i < 5000; i++) {
        void *block = evh_malloc(heap, test_random(&seed) % (i % 50 ? 3000 : 300000) + 1);
        if (i % 3 == 0)
            evh_free(heap, block);
        else
            bytes += evh_usable_size(heap, block);
    }
    const evh_info info = allocator_info(heap);
    CHECK_EQUAL(evh_walk(heap, walk_count_block, &count), EVH_OK);
    CHECK(count.ascends);
    CHECK_EQUAL(count.blocks, 5000 - 1667 + 1); /* and the catalog */
    CHECK_EQUAL(info.live_blocks, count.blocks);
    CHECK_EQUAL(info.live_bytes, count.bytes);
    CHECK(count.bytes > bytes);
    count = (struct walk_count){.heap = heap, .ascends = true, .does_free = true};
    CHECK_EQUAL(evh_walk(heap, walk_count_block, &count), EVH_OK);
    CHECK_EQUAL(count.blocks, info.live_blocks);
    CHECK_EQUAL(allocator_info(heap).live_blocks, 1);
    allocator_close(heap);
}

/* ---- dirty pages ---- */

TEST(a_thousand_random_frees_in_a_million_blocks_dirty_at_most_50_pages)
{
    uint64_t seed = test_seed();
    struct buffer_heap made = buffer_open(256 << 20);
    enum { COUNT = 1000000 };
    unsigned char **blocks = malloc(COUNT * sizeof *blocks);
    for (unsigned i = 0; i < COUNT; i++) blocks[i] = evh_malloc(made.heap, 64);
    const uint64_t size = made.heap->state.heap_bytes;
    unsigned char *copy = malloc(size);
    memcpy(copy, made.buffer, size);
    for (unsigned i = 0; i < 1000; i++) {
        const uint64_t k = i + test_random(&seed) % (COUNT - i);
        unsigned char *block = blocks[k];
        blocks[k] = blocks[i];
        evh_free(made.heap, block);
    }
    unsigned pages = 0;
    for (uint64_t i = 0; i < size; i += PAGE_BYTES)
        pages += memcmp(copy + i, (unsigned char *)made.buffer + i, PAGE_BYTES) != 0;
    free(copy);
    free(blocks);
    CHECK(pages <= 50);
    CHECK(pages > 0);
    buffer_close(&made);
}

/* ---- forks ---- */

TEST(a_memory_heap_goes_on_in_a_forked_child)
{
    evh_heap *heap = allocator_open();
    void *before = evh_malloc(heap, 64);
    const pid_t child = fork();
    if (child == 0) {
        bool good = evh_usable_size(heap, before) == 64;
        evh_free(heap, before);
        good = good && evh_usable_size(heap, before) == 0;
        for (unsigned i = 0; i < 1000; i++) good = good && evh_malloc(heap, 100) != NULL;
        good = good && evh_check(heap, NULL, NULL) == EVH_OK;
        _exit(good ? 0 : 1);
    }
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQUAL(evh_usable_size(heap, before), 64);
    allocator_close(heap);
}
