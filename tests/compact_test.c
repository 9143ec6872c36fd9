/* compact_test.c -- heaps in small and unaligned buffers: every size, every alignment,
 * every bit. */
#include "heap/compact_layout.h"
#include "heap/heap.h"
#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BUFFER_BYTES = 64 * 1024 };

/* A buffer at an address that is `misaligned` more than a multiple of 4096. Tests stop anywhere, so
 * nobody frees it before the process ends; the array keeps it from being called a leak. */
static unsigned char *compact_buffer(size_t size, size_t misaligned)
{
    static unsigned char *buffers[128];
    static size_t buffer_count;
    unsigned char *buffer = aligned_alloc(4096, (size + misaligned + 8191) / 4096 * 4096);
    CHECK(buffer != NULL);
    CHECK(buffer_count < sizeof buffers / sizeof buffers[0]);
    buffers[buffer_count++] = buffer;
    memset(buffer, 0xa5, size + misaligned); /* a used buffer, not a clean one */
    return buffer + misaligned;
}

static const evh_options report_misuse = {.misuse = EVH_MISUSE_STATUS};

static evh_heap *compact_open_in(void *buffer, size_t size)
{
    evh_heap *heap = evh_open_memory(buffer, size, &report_misuse);
    CHECK(heap != NULL);
    return heap;
}

static uint64_t compact_free_bytes(evh_heap *heap)
{
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK(info.is_compact);
    return info.free_bytes;
}

/* ---- geometry and placement ---- */

TEST(every_size_from_1_kib_makes_a_heap_that_uses_its_whole_buffer)
{
    unsigned char *buffer = compact_buffer(BUFFER_BYTES, 0);
    for (size_t size = 1024; size <= 16384; size += 1 + size % 7) {
        evh_options options = {.must_create = true};
        evh_heap *heap = evh_open_memory(buffer, size, &options);
        CHECK(heap != NULL);
        evh_info info;
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        CHECK(info.free_bytes + info.metadata_bytes <= size);
        CHECK(info.free_bytes + info.metadata_bytes + 64 > size); /* bitmap words and rounding */
        void *all = evh_malloc(heap, info.free_bytes);
        CHECK(all != NULL);
        memset(all, 0x5a, info.free_bytes);
        CHECK(buffer[size] == 0xa5 || size == BUFFER_BYTES);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        memset(buffer, 0xa5, size);
    }
}

TEST(a_buffer_below_1_kib_is_refused)
{
    unsigned char *buffer = compact_buffer(4096, 0);
    CHECK(evh_open_memory(buffer, 1023, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_open_memory(NULL, 1, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK_EQUAL(buffer[0], 0xa5);
}

TEST(blocks_are_aligned_to_their_absolute_address_wherever_the_buffer_lies)
{
    for (size_t misaligned = 0; misaligned < 40; misaligned++) {
        evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, misaligned), BUFFER_BYTES);
        for (size_t alignment = 16; alignment <= 4096; alignment *= 2) {
            void *block = evh_aligned_alloc(heap, alignment, 24);
            CHECK(block != NULL);
            CHECK_EQUAL((uintptr_t)block % alignment, 0);
        }
        CHECK_EQUAL((uintptr_t)evh_malloc(heap, 1) % 16, 0);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
}

TEST(an_alignment_that_is_no_power_of_two_or_too_large_is_invalid)
{
    evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    const size_t alignments[] = {0, 3, 24, 8192, SIZE_MAX, (size_t)1 << 63};
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
        CHECK(evh_aligned_alloc(heap, alignments[i], 16) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(the_lowest_free_run_that_fits_is_taken)
{
    evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    void *first = evh_malloc(heap, 64);
    void *second = evh_malloc(heap, 256);
    void *third = evh_malloc(heap, 64);
    CHECK(first < second && second < third);
    evh_free(heap, first);
    evh_free(heap, second); /* merges with the first: 320 bytes */
    CHECK(evh_malloc(heap, 320) == first);
    evh_free(heap, first);
    CHECK(evh_malloc(heap, 336) > third);
    CHECK(evh_malloc(heap, 16) == first);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/*
 * Strategy: random requests of a few granules up to whole KiB, a quarter of them aligned, random
 * frees and resizes, in a buffer that is full and nearly empty in turn, beside an array that says
 * which granule is used.
 * Invariant: a block lies in the lowest run that holds it; a request fails only if none does.
 */
enum { FIT_GRANULES = 4096, FIT_BLOCKS = 512 };

struct fit_model {
    bool used[FIT_GRANULES];
    size_t count;        /* granules */
    unsigned char *base; /* address of the first */
};

/* Where a block belongs; model->count if nowhere. */
static size_t fit_expected(const struct fit_model *model, size_t count, size_t alignment)
{
    for (size_t first = 0, run = 0; first + count <= model->count; first++) {
        if (((uintptr_t)model->base + first * 16) % alignment) continue;
        for (run = 0; run < count && !model->used[first + run]; run++) {
        }
        if (run == count) return first;
    }
    return model->count;
}

static void fit_set(struct fit_model *model, const void *block, size_t size, bool used)
{
    const size_t first = (size_t)((const unsigned char *)block - model->base) / 16;
    for (size_t i = first; i < first + (size + 15) / 16; i++) {
        CHECK(model->used[i] != used);
        model->used[i] = used;
    }
}

static size_t fit_size(uint64_t *random)
{
    const uint64_t kind = test_random(random) % 8;
    const uint64_t limit = kind < 5 ? 320 : kind < 7 ? 3000 : 12000;
    return 1 + (size_t)(test_random(random) % limit);
}

static void *fit_allocate(struct fit_model *model, evh_heap *heap, uint64_t *random, size_t *size)
{
    const size_t alignment = test_random(random) % 4 ? 16 : 32u << test_random(random) % 6;
    *size = fit_size(random);
    const size_t expected = fit_expected(model, (*size + 15) / 16, alignment);
    unsigned char *block = evh_aligned_alloc(heap, alignment, *size);
    CHECK_EQUAL(block ? (size_t)(block - model->base) / 16 : model->count, expected);
    if (block) fit_set(model, block, *size, true);
    return block;
}

TEST(the_lowest_run_that_fits_is_taken_whatever_was_freed_before)
{
    static struct fit_model model;
    void *blocks[FIT_BLOCKS] = {0};
    size_t sizes[FIT_BLOCKS] = {0};
    uint64_t random = test_seed();
    evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 16), BUFFER_BYTES);
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    memset(&model, 0, sizeof model);
    model.count = (size_t)info.free_bytes / 16;
    CHECK(model.count < FIT_GRANULES);
    model.base = evh_malloc(heap, 16);
    evh_free(heap, model.base);
    for (uint64_t round = 0; round < test_effort(20000); round++) {
        const size_t i = (size_t)(test_random(&random) % FIT_BLOCKS);
        const bool is_emptying = round / 512 % 2;
        if (!blocks[i]) {
            if (!is_emptying || test_random(&random) % 8 == 0)
                blocks[i] = fit_allocate(&model, heap, &random, &sizes[i]);
        } else if (is_emptying || test_random(&random) % 4) {
            fit_set(&model, blocks[i], sizes[i], false);
            evh_free(heap, blocks[i]);
            blocks[i] = NULL;
        } else {
            const size_t size = fit_size(&random);
            void *moved = evh_realloc(heap, blocks[i], size);
            if (!moved) continue;
            fit_set(&model, blocks[i], sizes[i], false);
            fit_set(&model, moved, size, true);
            blocks[i] = moved;
            sizes[i] = size;
        }
    }
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/*
 * Strategy: fill a buffer with blocks of one size, free all of them in order, in reverse or at
 * random, and now and then ask for a block of any size, which is freed at once.
 * Invariant: as above. A full buffer has no run of any length: each free must say what it made.
 */
TEST(a_full_heap_that_is_freed_in_any_order_gives_its_lowest_run)
{
    static struct fit_model model;
    static unsigned char *blocks[FIT_GRANULES];
    uint64_t random = test_seed();
    for (size_t kind = 0; kind < 24; kind++) {
        const size_t size = 16 * (1 + test_random(&random) % (kind % 4 == 3 ? 80 : 8));
        evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 16), BUFFER_BYTES);
        size_t count = 0, probe_size = 0;
        memset(&model, 0, sizeof model);
        for (unsigned char *block; (block = evh_malloc(heap, size)); blocks[count++] = block) {
            if (count == 0) model.base = block;
            fit_set(&model, block, size, true);
            model.count = (size_t)(block + size - model.base) / 16;
        }
        evh_info info;
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        model.count += (size_t)info.free_bytes / 16; /* too little for one more, at the end */
        for (size_t i = 0; i < count; i++) {
            const size_t other = i + test_random(&random) % (count - i);
            unsigned char **const next = &blocks[kind % 3 == 0   ? i
                                                 : kind % 3 == 1 ? count - 1 - i
                                                                 : other];
            fit_set(&model, *next, size, false);
            evh_free(heap, *next);
            if (kind % 3 == 2) *next = blocks[i];
            if (test_random(&random) % 8) continue;
            void *const probe = fit_allocate(&model, heap, &random, &probe_size);
            if (probe) fit_set(&model, probe, probe_size, false);
            evh_free(heap, probe);
        }
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
}

TEST(a_large_aligned_buffer_can_have_the_layout_of_small_ones)
{
    const size_t size = 4 << 20;
    unsigned char *buffer = aligned_alloc(64 * 1024, size);
    CHECK(buffer != NULL);
    const evh_options options = {.must_create = true, .compact = true};
    evh_heap *heap = evh_open_memory(buffer, size, &options);
    CHECK(heap != NULL);
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK(info.is_compact);
    CHECK_EQUAL(info.free_runs, 1);
    CHECK(info.free_bytes > size - size / 32);
    void *block = evh_malloc(heap, 3 << 20);
    CHECK(block != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = evh_open_memory(NULL, size, &(evh_options){.compact = true});
    CHECK(heap != NULL);
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK(info.is_compact);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK(evh_open_memory(NULL, 0, &(evh_options){.compact = true}) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    free(buffer);
}

TEST(an_unlisted_heap_is_known_to_who_opened_it_only)
{
    unsigned char *buffer = compact_buffer(BUFFER_BYTES, 0);
    const evh_options options = {.unlisted = true};
    evh_heap *heap = evh_open_memory(buffer, BUFFER_BYTES, &options);
    CHECK(heap != NULL);
    void *block = evh_malloc(heap, 100);
    CHECK(block != NULL);
    CHECK(evh_heap_of(block) == NULL);
    evh_heap *listed = evh_open_memory(buffer, BUFFER_BYTES, NULL);
    CHECK(listed != NULL && listed != heap);
    CHECK(evh_heap_of(block) == listed);
    CHECK_EQUAL(evh_usable_size(listed, block), 112);
    CHECK_EQUAL(evh_close(listed), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(more_unlisted_heaps_than_any_table_holds_can_be_open)
{
    enum { HEAPS = 1500 };
    static unsigned char buffers[HEAPS][1024];
    static evh_heap *heaps[HEAPS];
    const evh_options options = {.unlisted = true};
    for (size_t i = 0; i < HEAPS; i++) {
        heaps[i] = evh_open_memory(buffers[i], sizeof buffers[i], &options);
        CHECK(heaps[i] != NULL);
        CHECK(evh_malloc(heaps[i], 32) != NULL);
    }
    for (size_t i = 0; i < HEAPS; i++) CHECK_EQUAL(evh_close(heaps[i]), EVH_OK);
}

TEST(a_header_that_is_damaged_while_the_heap_is_open_is_found_by_check)
{
    unsigned char *buffer = compact_buffer(4096, 0);
    evh_heap *heap = compact_open_in(buffer, 4096);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    buffer[offsetof(struct compact_header, granule_count)] ^= 1;
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_CORRUPT);
    CHECK_EQUAL(evh_last_error()->offset, offsetof(struct compact_header, crc));
    buffer[offsetof(struct compact_header, granule_count)] ^= 1;
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(freeing_everything_leaves_one_free_run)
{
    evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    const uint64_t free_before = compact_free_bytes(heap);
    void *blocks[200];
    for (size_t i = 0; i < 200; i++) blocks[i] = evh_malloc(heap, 1 + i);
    for (size_t i = 0; i < 200; i += 2) evh_free(heap, blocks[i]);
    for (size_t i = 1; i < 200; i += 2) evh_free(heap, blocks[i]);
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK_EQUAL(info.free_bytes, free_before);
    CHECK_EQUAL(info.free_runs, 1);
    CHECK_EQUAL(info.largest_free_bytes, free_before);
    CHECK_EQUAL(info.live_blocks, 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- sizes, fullness, realloc ---- */

TEST(sizes_of_zero_and_beyond_the_buffer_have_their_own_status)
{
    evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    CHECK(evh_malloc(heap, 0) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_malloc(heap, BUFFER_BYTES) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK(evh_malloc(heap, SIZE_MAX) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
    CHECK(evh_malloc(heap, SIZE_MAX - 14) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
    while (evh_malloc(heap, 16)) continue;
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK_EQUAL(compact_free_bytes(heap), 0);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(realloc_stays_in_place_while_the_granules_behind_are_free)
{
    evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    unsigned char *block = evh_malloc(heap, 16);
    for (size_t size = 17; size < 4000; size += 123) {
        CHECK(evh_realloc(heap, block, size) == block);
        CHECK_EQUAL(evh_usable_size(heap, block), (size + 15) / 16 * 16);
    }
    CHECK(evh_realloc(heap, block, 100) == block); /* smaller: the rest is free again */
    void *next = evh_malloc(heap, 16);
    CHECK(next == block + 112);
    memset(block, 7, 112);
    unsigned char *moved = evh_realloc(heap, block, 200);
    CHECK(moved != NULL && moved != block);
    for (size_t i = 0; i < 112; i++) CHECK_EQUAL(moved[i], 7);
    CHECK_EQUAL(evh_usable_size(heap, block), 0); /* no block any more */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_realloc_that_fails_leaves_the_block_untouched)
{
    evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    unsigned char *block = evh_malloc(heap, 100);
    memset(block, 9, 100);
    CHECK(evh_realloc(heap, block, BUFFER_BYTES) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK(evh_realloc(heap, block, SIZE_MAX) == NULL);
    CHECK_EQUAL(evh_usable_size(heap, block), 112);
    for (size_t i = 0; i < 100; i++) CHECK_EQUAL(block[i], 9);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- misuse ---- */

TEST(double_foreign_and_interior_frees_are_told_apart_and_change_nothing)
{
    evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    unsigned char *block = evh_malloc(heap, 100);
    unsigned char *freed = evh_malloc(heap, 100);
    int outside = 0;
    evh_free(heap, freed);
    const uint64_t free_bytes = compact_free_bytes(heap);
    const struct {
        void *pointer;
        evh_status status;
    } cases[] = {
        {freed, EVH_DOUBLE_FREE},
        {block + 16, EVH_BAD_POINTER},
        {block + 1, EVH_BAD_POINTER},
        {&outside, EVH_BAD_POINTER},
        {heap->view.base, EVH_BAD_POINTER},
        {heap->view.base + heap->view.end_bytes, EVH_BAD_POINTER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        evh_ref slot = {(uint64_t)((uintptr_t)cases[i].pointer - (uintptr_t)heap->view.base)};
        evh_free(heap, cases[i].pointer);
        CHECK_EQUAL(evh_last_error()->status, cases[i].status);
        CHECK_EQUAL(compact_free(heap, heap->view.base + slot.offset), cases[i].status);
        CHECK(evh_realloc(heap, cases[i].pointer, 5) == NULL);
        CHECK_EQUAL(compact_free_bytes(heap), free_bytes);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_double_free_aborts_by_default)
{
    (void)fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)freopen("/dev/null", "w", stderr);
        evh_heap *heap = evh_open_memory(NULL, 8192, NULL);
        void *block = evh_malloc(heap, 16);
        evh_free(heap, block);
        evh_free(heap, block);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* ---- images ---- */

TEST(an_image_works_at_another_address)
{
    unsigned char *first = compact_buffer(BUFFER_BYTES, 8);
    unsigned char *second = compact_buffer(2 * BUFFER_BYTES, 16 + 8);
    evh_heap *heap = compact_open_in(first, BUFFER_BYTES);
    evh_ref *root = evh_root(heap, "list", sizeof *root);
    CHECK(root != NULL);
    char *text = evh_malloc(heap, 20);
    memcpy(text, "still here", 11);
    *root = evh_ref_to(heap, text);
    memcpy(second, first, BUFFER_BYTES);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    memset(first, 0, BUFFER_BYTES);
    heap = evh_open_memory(second, 2 * BUFFER_BYTES, &(evh_options){.must_exist = true});
    CHECK(heap != NULL);
    root = evh_root_find(heap, "list", NULL);
    CHECK(root != NULL);
    CHECK(strcmp(evh_at(heap, *root), "still here") == 0);
    CHECK(evh_malloc(heap, 100) != NULL);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(an_image_at_an_address_where_it_cannot_be_used_is_refused_and_not_formatted)
{
    unsigned char *first = compact_buffer(BUFFER_BYTES, 0);
    unsigned char *second = compact_buffer(BUFFER_BYTES, 4);
    evh_heap *heap = compact_open_in(first, BUFFER_BYTES);
    CHECK(evh_malloc(heap, 100) != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    memcpy(second, first, BUFFER_BYTES);
    CHECK(evh_open_memory(second, BUFFER_BYTES, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(memcmp(first, second, BUFFER_BYTES) == 0);
}

TEST(a_buffer_that_is_open_gives_the_same_heap_counted)
{
    unsigned char *buffer = compact_buffer(BUFFER_BYTES, 3);
    evh_heap *heap = compact_open_in(buffer, BUFFER_BYTES);
    void *block = evh_malloc(heap, 50);
    CHECK(evh_open_memory(buffer, BUFFER_BYTES, NULL) == heap);
    CHECK(evh_open_memory(buffer, BUFFER_BYTES, &(evh_options){.must_create = true}) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_BUSY);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK_EQUAL(evh_usable_size(heap, block), 64); /* still open */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK(evh_heap_of(block) == NULL);
}

TEST(must_exist_and_must_create_choose_between_attaching_and_formatting)
{
    unsigned char *buffer = compact_buffer(BUFFER_BYTES, 0);
    const evh_options exist = {.must_exist = true};
    const evh_options create = {.must_create = true};
    CHECK(evh_open_memory(buffer, BUFFER_BYTES, &exist) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_HEAP);
    CHECK_EQUAL(buffer[0], 0xa5);
    evh_heap *heap = evh_open_memory(buffer, BUFFER_BYTES, &create);
    CHECK(evh_root(heap, "a", 8) != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = evh_open_memory(buffer, BUFFER_BYTES, NULL);
    CHECK(evh_root_find(heap, "a", NULL) != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = evh_open_memory(buffer, BUFFER_BYTES, &create);
    CHECK(evh_root_find(heap, "a", NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_heap_in_a_block_of_another_heap_is_found_by_its_addresses)
{
    /* The first heap's place in the table becomes the inner heap's, before the outer one's. */
    evh_heap *first = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    evh_heap *outer = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    void *buffer = evh_malloc(outer, 8192);
    void *beside = evh_malloc(outer, 16);
    CHECK_EQUAL(evh_close(first), EVH_OK);
    evh_heap *inner = compact_open_in(buffer, 8192);
    CHECK(evh_heap_of(evh_malloc(inner, 16)) == inner);
    CHECK(evh_heap_of(beside) == outer);
    CHECK_EQUAL(evh_close(inner), EVH_OK);
    CHECK(evh_heap_of(buffer) == outer);
    CHECK_EQUAL(evh_close(outer), EVH_OK);
}

TEST(a_truncated_image_and_one_of_another_version_or_order_say_so)
{
    unsigned char *buffer = compact_buffer(BUFFER_BYTES, 0);
    CHECK_EQUAL(evh_close(compact_open_in(buffer, BUFFER_BYTES)), EVH_OK);
    CHECK(evh_open_memory(buffer, BUFFER_BYTES - 16, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_TRUNCATED);

    struct compact_header header;
    memcpy(&header, buffer, sizeof header);
    struct compact_header changed = header;
    changed.format_version = 2;
    changed.crc = base_crc32c(0, &changed, offsetof(struct compact_header, crc));
    memcpy(buffer, &changed, sizeof changed);
    CHECK(evh_open_memory(buffer, BUFFER_BYTES, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_VERSION);

    changed = header;
    changed.magic = __builtin_bswap64(changed.magic);
    memcpy(buffer, &changed, sizeof changed);
    CHECK(evh_open_memory(buffer, BUFFER_BYTES, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_BYTE_ORDER);
}

/* Every single bit of the metadata flipped: refused, or a heap that can be walked and used without
 * leaving the buffer (ASan watches). The header's bits are all caught. */
TEST(no_flipped_metadata_bit_is_accepted_in_the_header_or_harms_in_the_bitmaps)
{
    enum { SIZE = 8192 };
    unsigned char *image = compact_buffer(SIZE, 0);
    evh_heap *heap = compact_open_in(image, SIZE);
    CHECK(evh_root(heap, "root", 40) != NULL);
    for (size_t i = 0; i < 20; i++) CHECK(evh_malloc(heap, 16 + 16 * i) != NULL);
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    unsigned char *buffer = compact_buffer(SIZE, 0);
    for (size_t bit = 0; bit < info.metadata_bytes * 8; bit++) {
        memcpy(buffer, image, SIZE);
        buffer[bit / 8] ^= (unsigned char)(1u << bit % 8);
        heap = evh_open_memory(buffer, SIZE,
                               &(evh_options){.must_exist = true, .misuse = EVH_MISUSE_STATUS});
        const size_t catalog_at = offsetof(struct compact_header, catalog);
        if (bit / 8 < sizeof(struct compact_header)) {
            /* A catalog ref may name another live block: that is for the check of the roots. */
            CHECK(heap == NULL || bit / 8 / 8 == catalog_at / 8);
        }
        if (!heap) continue;
        (void)evh_check(heap, NULL, NULL);
        (void)evh_root_find(heap, "root", NULL);
        unsigned char digest[32];
        (void)evh_digest(heap, digest);
        void *block = evh_malloc(heap, 64);
        if (block) memset(block, 1, 64);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
}

TEST(bitmaps_that_contradict_each_other_are_corrupt)
{
    enum { SIZE = 8192 };
    unsigned char *image = compact_buffer(SIZE, 0);
    unsigned char *buffer = compact_buffer(SIZE, 0);
    evh_heap *heap = compact_open_in(image, SIZE);
    CHECK(evh_malloc(heap, 64) != NULL); /* granules 0 to 3 */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    struct compact_header header;
    memcpy(&header, image, sizeof header);
    const uint64_t words = (header.granule_count + 63) / 64;
    const struct {
        uint64_t bitmap; /* 0 used, 1 start, 2 both */
        uint64_t bit;
    } cases[] = {
        {0, 5},                    /* a used granule without a block before it */
        {0, 64},                   /* likewise, at a word's first bit */
        {1, 5},                    /* a block that begins in a free granule */
        {0, 0},                    /* the block's first granule is free */
        {1, 0},                    /* the block does not begin */
        {2, header.granule_count}, /* a block behind the last granule */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memcpy(buffer, image, SIZE);
        const uint64_t bit = cases[i].bit;
        unsigned char *byte = buffer + COMPACT_HEADER_BYTES + bit / 8;
        CHECK(bit < words * 64);
        if (cases[i].bitmap != 1) byte[0] ^= (unsigned char)(1u << bit % 8);
        if (cases[i].bitmap != 0) byte[words * 8] ^= (unsigned char)(1u << bit % 8);
        CHECK(evh_open_memory(buffer, SIZE, NULL) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
        CHECK_EQUAL(evh_last_error()->offset, COMPACT_HEADER_BYTES + cases[i].bit / 64 * 8);
    }
}

/* ---- files ---- */

TEST(a_saved_image_opens_private_and_read_only_but_not_durable)
{
    const char *path = test_path("compact.heap");
    evh_heap *heap = compact_open_in(compact_buffer(BUFFER_BYTES, 0), BUFFER_BYTES);
    uint32_t *value = evh_root(heap, "value", sizeof *value);
    CHECK(value != NULL);
    *value = 42;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_save(heap, path), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    CHECK(evh_open(path, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_MODE);
    CHECK(strstr(evh_last_error()->message, path) != NULL);

    heap = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    CHECK(heap != NULL);
    value = evh_root_find(heap, "value", NULL);
    CHECK(value != NULL && *value == 42);
    CHECK(evh_malloc(heap, 16) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_READ_ONLY);
    CHECK(evh_root(heap, "other", 8) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_READ_ONLY);
    CHECK_EQUAL(evh_refresh(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    heap = evh_open(path, &(evh_options){.mode = EVH_PRIVATE});
    CHECK(heap != NULL);
    value = evh_root_find(heap, "value", NULL);
    CHECK(value != NULL);
    *value = 43;
    CHECK(evh_malloc(heap, 16) != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_READ_ONLY);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    heap = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    value = evh_root_find(heap, "value", NULL);
    CHECK(value != NULL && *value == 42);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- model ---- */

/*
 * Strategy: random allocations, frees, resizings and moves of the image to another address, against
 * a list of what is live.
 * Invariants: aligned, inside, contents kept (so no overlap), usable size exact, count exact, and
 * evh_check() has nothing to say.
 */
enum { MODEL_BLOCKS = 300, MODEL_BUFFER = 40000 };

struct model_block {
    evh_ref ref;
    size_t size;
    unsigned char fill;
};

static size_t model_random_size(uint64_t *random)
{
    const uint64_t kind = test_random(random) % 8;
    if (kind == 0) return 1 + test_random(random) % 3000;
    return 1 + test_random(random) % 200;
}

static void model_verify(evh_heap *heap, const struct model_block *block)
{
    const unsigned char *bytes = evh_at(heap, block->ref);
    CHECK(bytes != NULL);
    CHECK_EQUAL(evh_usable_size(heap, bytes), (block->size + 15) / 16 * 16);
    for (size_t i = 0; i < block->size; i++) CHECK_EQUAL(bytes[i], block->fill);
}

static void model_step(evh_heap *heap, struct model_block *block, uint64_t *random)
{
    unsigned char *bytes = block->size ? evh_at(heap, block->ref) : NULL;
    const size_t size = model_random_size(random);
    if (bytes && test_random(random) % 2) {
        model_verify(heap, block);
        evh_free(heap, bytes);
        block->size = 0;
        return;
    }
    const size_t alignment = (size_t)16 << test_random(random) % 9;
    unsigned char *made =
        bytes ? evh_realloc(heap, bytes, size) : evh_aligned_alloc(heap, alignment, size);
    if (!made) {
        CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
        if (bytes) model_verify(heap, block);
        return;
    }
    CHECK_EQUAL((uintptr_t)made % (bytes ? 16 : alignment), 0);
    const size_t kept = bytes ? (block->size < size ? block->size : size) : 0;
    for (size_t i = 0; i < kept; i++) CHECK_EQUAL(made[i], block->fill);
    block->ref = evh_ref_to(heap, made);
    block->size = size;
    block->fill = (unsigned char)test_random(random);
    memset(made, block->fill, size);
}

TEST(random_operations_agree_with_a_model_across_moves_of_the_image)
{
    static struct model_block blocks[MODEL_BLOCKS];
    uint64_t random = test_seed();
    unsigned char *buffers[2] = {compact_buffer(MODEL_BUFFER, 0), compact_buffer(MODEL_BUFFER, 48)};
    unsigned which = 0;
    evh_heap *heap = compact_open_in(buffers[which], MODEL_BUFFER);
    const uint64_t steps = test_effort(200000);
    for (uint64_t step = 0; step < steps; step++) {
        model_step(heap, &blocks[test_random(&random) % MODEL_BLOCKS], &random);
        if (step % 1000 != 999) continue;
        uint64_t live = 0;
        for (size_t i = 0; i < MODEL_BLOCKS; i++) {
            if (!blocks[i].size) continue;
            model_verify(heap, &blocks[i]);
            live++;
        }
        evh_info info;
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        CHECK_EQUAL(info.live_blocks, live);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        if (step % 5000 != 4999) continue;
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        memcpy(buffers[!which], buffers[which], MODEL_BUFFER);
        memset(buffers[which], 0xee, MODEL_BUFFER);
        which = !which;
        heap = evh_open_memory(buffers[which], MODEL_BUFFER,
                               &(evh_options){.must_exist = true, .misuse = EVH_MISUSE_STATUS});
        CHECK(heap != NULL);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}
