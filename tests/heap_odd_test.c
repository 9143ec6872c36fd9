/* heap_odd_test.c -- heaps in places and shapes that are rare: images whose fields cannot be,
 * journals in images, runs across segments that are not loaded, many holes, forks. */
#include "heap/compact_layout.h"
#include "heap/heap.h"
#include "support/allocator_heap.h"
#include "support/os_fail.h"
#include "support/raw_heap.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_heap *odd_open(const char *path, const evh_options *options)
{
    evh_heap *heap = evh_open(path, options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

/* ---- images of the compact layout ---- */

typedef void compact_edit(struct compact_header *header);

static void edit_order(struct compact_header *header)
{
    header->byte_order = 7;
}

static void edit_order_swapped(struct compact_header *header)
{
    header->byte_order = __builtin_bswap32(COMPACT_BYTE_ORDER);
}

static void edit_reserved(struct compact_header *header)
{
    header->reserved0[6] = 1;
}

static void edit_reserved_behind(struct compact_header *header)
{
    header->reserved1[6] = 1;
}

static void edit_small(struct compact_header *header)
{
    header->size_bytes = COMPACT_SIZE_MIN - 16;
}

static void edit_huge(struct compact_header *header)
{
    header->size_bytes = COMPACT_SIZE_MAX + 16;
}

static void edit_odd(struct compact_header *header)
{
    header->size_bytes -= 8;
}

static void edit_granules(struct compact_header *header)
{
    header->granule_count++;
}

TEST(a_compact_image_whose_header_cannot_be_is_refused_in_buffers_and_files)
{
    static const struct {
        compact_edit *edit;
        evh_status status;
    } cases[] = {
        {edit_order, EVH_CORRUPT},    {edit_order_swapped, EVH_BYTE_ORDER},
        {edit_reserved, EVH_CORRUPT}, {edit_reserved_behind, EVH_CORRUPT},
        {edit_small, EVH_CORRUPT},    {edit_huge, EVH_CORRUPT},
        {edit_odd, EVH_CORRUPT},      {edit_granules, EVH_CORRUPT},
    };
    enum { SIZE = 8192 };
    static _Alignas(16) unsigned char image[SIZE], buffer[SIZE], before[SIZE];
    evh_heap *heap = evh_open_memory(image, SIZE, NULL);
    CHECK(heap != NULL);
    CHECK(evh_root(heap, "root", 8) != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = test_path("compact");
        struct compact_header header;
        memcpy(&header, image, sizeof header);
        cases[i].edit(&header);
        header.crc = base_crc32c(0, &header, offsetof(struct compact_header, crc));
        memcpy(buffer, image, SIZE);
        memcpy(buffer, &header, sizeof header);
        memcpy(before, buffer, SIZE);
        CHECK(evh_open_memory(buffer, SIZE, NULL) == NULL);
        CHECK_EQUAL(evh_last_error()->status, cases[i].status);
        CHECK(memcmp(buffer, before, SIZE) == 0);
        file_bytes_write(path, &(struct file_bytes){buffer, SIZE});
        CHECK(evh_open(path, &(evh_options){.mode = EVH_PRIVATE}) == NULL);
        CHECK_EQUAL(evh_last_error()->status, cases[i].status);
        CHECK(strstr(evh_last_error()->message, path) != NULL);
    }
}

/* ---- images of durable heaps in buffers ---- */

/* A closed durable heap with "value" 5 whose journal has an extent of its own; or killed, with a
 * record in it. */
static const char *image_with_extent(const char *name, bool is_killed)
{
    const char *path = test_path(name);
    evh_heap *heap = odd_open(path, &(evh_options){.no_thread = true});
    uint64_t *value = evh_root(heap, "value", 8);
    unsigned char *block = evh_malloc(heap, 1 << 20);
    CHECK(value && block);
    *value = 5;
    memset(block, 1, 1 << 20);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK(region_extent_at(heap->region, 0).slice_count > 0);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    memset(block, 2, 1 << 20);
    CHECK_EQUAL(evh_commit(heap), EVH_OK); /* into the extent: it fits nowhere else */
    CHECK(heap->journal->live_first->offset >= SLICE_BYTES);
    struct file_bytes content = file_bytes_read(path);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    if (is_killed) file_bytes_write(path, &content);
    file_bytes_end(&content);
    return path;
}

static struct buffer_heap image_in_buffer(const char *path)
{
    struct buffer_heap made = {.size = 8 << 20};
    struct file_bytes content = file_bytes_read(path);
    CHECK(content.size <= made.size);
    CHECK_EQUAL(os->reserve(made.size, SEGMENT_BYTES, 0, &made.buffer), 0);
    CHECK_EQUAL(os->map(made.buffer, made.size, OS_MAP_ANONYMOUS, -1, 0), 0);
    memcpy(made.buffer, content.bytes, content.size);
    file_bytes_end(&content);
    return made;
}

TEST(the_image_of_a_heap_whose_journal_has_extents_works_in_a_buffer)
{
    struct buffer_heap made = image_in_buffer(image_with_extent("closed", false));
    buffer_attach(&made);
    CHECK(made.heap != NULL);
    const uint64_t *value = evh_root_find(made.heap, "value", NULL);
    CHECK(value != NULL);
    CHECK_EQUAL(*value, 5);
    while (evh_malloc(made.heap, 100000)) continue; /* around the extent */
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    buffer_close(&made);
}

TEST(an_image_with_a_commit_in_an_extent_is_for_recovery_not_for_a_buffer)
{
    struct buffer_heap made = image_in_buffer(image_with_extent("killed", true));
    buffer_attach(&made);
    CHECK(made.heap == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_MODE);
    CHECK(strstr(evh_last_error()->message, "which brings them home") != NULL);
    buffer_close(&made);
}

/* Either slot may be the newer one, and either may be torn. */
TEST(an_image_in_a_buffer_is_what_its_newest_sound_header_says)
{
    const char *path = image_with_extent("slots", false);
    for (uint64_t torn = 0; torn < REGION_SLOT_COUNT; torn++) {
        struct buffer_heap made = image_in_buffer(path);
        unsigned char *bytes = made.buffer;
        const struct file_bytes content = {bytes, made.size};
        uint64_t slot = 0;
        struct region_header header = *file_header(&content, &slot);
        const uint64_t older = REGION_SLOT_STRIDE - slot;
        /* Both say the same; `torn` is damaged. */
        header.generation += 1;
        file_header_seal(&header);
        memcpy(bytes + older, &header, sizeof header);
        bytes[torn * REGION_SLOT_STRIDE + 50] ^= 1;
        buffer_attach(&made);
        if (!made.heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        CHECK(made.heap != NULL);
        CHECK_EQUAL(*(const uint64_t *)evh_root_find(made.heap, "value", NULL), 5);
        buffer_close(&made);
        made = image_in_buffer(path);
        bytes = made.buffer;
        bytes[50] ^= 1;
        bytes[REGION_SLOT_STRIDE + 50] ^= 1;
        buffer_attach(&made);
        CHECK(made.heap == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
        buffer_close(&made);
    }
}

/* ---- buffers ---- */

TEST(arguments_that_no_buffer_has_are_refused)
{
    unsigned char byte;
    CHECK(evh_open_memory(&byte, 1023, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_open_memory((void *)(UINTPTR_MAX - 4096), 1 << 20, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(strstr(evh_last_error()->message, "ends behind all memory") != NULL);
    CHECK(evh_open_memory(NULL, SIZE_MAX, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_open_memory(NULL, 0, &(evh_options){.mode = EVH_PRIVATE}) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
}

TEST(a_large_buffer_at_an_odd_address_gets_the_layout_for_small_ones)
{
    unsigned char *memory = malloc((4 << 20) + 16);
    CHECK(memory != NULL);
    evh_heap *heap = evh_open_memory(memory + 16, 4 << 20, NULL);
    CHECK(heap != NULL);
    CHECK(heap->compact != NULL);
    CHECK(evh_malloc(heap, 3 << 20) != NULL);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    uint64_t freed = 1;
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK); /* the caller's to give */
    CHECK_EQUAL(freed, 0);
    CHECK(evh_view_valid(heap));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    free(memory);
}

/* ---- runs across segments ---- */

TEST(a_run_across_segments_is_resized_and_freed_after_an_opening)
{
    for (int frees = 0; frees < 2; frees++) {
        struct buffer_heap made = buffer_open(512 << 20);
        evh_ref *root = evh_root(made.heap, "root", 8);
        CHECK(root != NULL);
        CHECK_EQUAL(evh_malloc_to(made.heap, root, 150 << 20), EVH_OK);
        buffer_reopen(&made);
        root = evh_root_find(made.heap, "root", NULL);
        CHECK(root != NULL);
        void *block = evh_at(made.heap, *root);
        if (frees) {
            const uint64_t live = allocator_info(made.heap).live_blocks;
            evh_free(made.heap, block);
            CHECK_EQUAL(allocator_info(made.heap).live_blocks, live - 1);
        } else {
            CHECK(evh_realloc(made.heap, block, 70 << 20) == block);
            CHECK(evh_realloc(made.heap, block, 140 << 20) == block);
            CHECK_EQUAL(evh_usable_size(made.heap, block), 140 << 20);
        }
        buffer_close(&made);
    }
}

/* ---- holes ---- */

TEST(trim_gives_back_many_runs_and_all_can_be_used_again)
{
    enum { RUNS = 70, SIZE = 1 << 20 };
    const char *path = test_path("holes");
    evh_heap *heap = odd_open(path, &(evh_options){.no_thread = true});
    unsigned char *blocks[2 * RUNS];
    for (unsigned i = 0; i < 2 * RUNS; i++) {
        blocks[i] = evh_malloc(heap, SIZE);
        CHECK(blocks[i] != NULL);
        blocks[i][SIZE - 1] = (unsigned char)(i + 1);
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    for (unsigned i = 0; i < 2 * RUNS; i += 2) evh_free(heap, blocks[i]);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    uint64_t freed = 0;
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK(freed >= (uint64_t)RUNS * SIZE);
    uint64_t again = 0;
    CHECK_EQUAL(evh_trim(heap, &again), EVH_OK);
    for (unsigned i = 1; i < 2 * RUNS; i += 2) CHECK_EQUAL(blocks[i][SIZE - 1], (i + 1) % 256);
    for (unsigned i = 0; i < 2 * RUNS; i += 2) {
        blocks[i] = evh_calloc(heap, 1, SIZE);
        CHECK(blocks[i] != NULL);
        CHECK_EQUAL(blocks[i][SIZE - 1], 0);
        blocks[i][0] = 1;
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = odd_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* A heap that cannot grow has nothing but its holes, and the disk has no room to fill them. */
TEST(a_hole_that_cannot_be_filled_is_not_handed_out)
{
    enum { SIZE = 4 << 20 };
    os_fail_use();
    evh_heap *heap =
        odd_open(test_path("full"), &(evh_options){.no_thread = true, .size_max_bytes = 8 << 20});
    unsigned char *block = evh_malloc(heap, SIZE);
    CHECK(block != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_free(heap, block);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    uint64_t freed = 0;
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    CHECK(freed >= SIZE / 2);
    os_fail_at(OS_FAIL_SPACE, 1, ENOSPC, true);
    CHECK(evh_malloc(heap, SIZE) == NULL);
    CHECK(os_fail_struck());
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    os_fail_at(0, 0, 0, false);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    block = evh_malloc(heap, SIZE);
    CHECK(block != NULL);
    block[SIZE - 1] = 1; /* all of it were too much for this heap's journal */
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    os_fail_end();
}

/* ---- many blocks, many roots ---- */

TEST(segments_full_of_the_smallest_blocks_get_the_bitmaps_they_need)
{
    enum { BLOCKS = 5000000 };
    struct buffer_heap made = buffer_open(160 << 20);
    const uint64_t before = allocator_info(made.heap).live_blocks;
    evh_ref *root = evh_root(made.heap, "last", sizeof *root);
    CHECK(root != NULL);
    uint64_t **last = NULL; /* a chain of blocks of 16 bytes: the one before, and a number */
    for (uint64_t i = 0; i < BLOCKS; i++) {
        uint64_t *block = evh_malloc(made.heap, 16);
        CHECK(block != NULL);
        memcpy(block, &last, sizeof last);
        block[1] = i;
        last = (uint64_t **)(void *)block;
    }
    CHECK(allocator_info(made.heap).live_blocks >= before + BLOCKS);
    CHECK_EQUAL(evh_check(made.heap, NULL, NULL), EVH_OK);
    buffer_reopen(&made);
    CHECK_EQUAL(evh_check(made.heap, NULL, NULL), EVH_OK);
    for (uint64_t i = BLOCKS; i > 0; i--) {
        uint64_t *block = (uint64_t *)(void *)last;
        CHECK_EQUAL(block[1], i - 1);
        memcpy(&last, block, sizeof last);
        evh_free(made.heap, block);
    }
    CHECK(last == NULL);
    CHECK(evh_malloc(made.heap, 40 << 20) != NULL); /* in one piece again */
    buffer_close(&made);
}

TEST(roots_that_find_no_room_are_not_half_made)
{
    evh_heap *heap = evh_open_memory(NULL, 1 << 20, &(evh_options){.misuse = EVH_MISUSE_STATUS});
    CHECK(heap != NULL);
    char name[32];
    uint64_t count = 0;
    for (;; count++) {
        snprintf(name, sizeof name, "root-%llu", (unsigned long long)count);
        if (!evh_root(heap, name, 100)) break;
    }
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK(count > 100);
    CHECK(evh_root_find(heap, name, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
    CHECK_EQUAL(allocator_info(heap).roots, count);
    CHECK_EQUAL(evh_root_remove(heap, "root-0"), EVH_OK);
    CHECK(evh_root(heap, "root-0", 100) != NULL);
    evh_root_info root = {0};
    uint64_t seen = 0;
    while (evh_root_next(heap, &root)) seen++;
    CHECK_EQUAL(seen, count);
    allocator_close(heap);
}

TEST(a_block_that_grows_to_the_limit_keeps_its_content_and_stays_when_it_can)
{
    evh_heap *heap = evh_open_memory(NULL, 16 << 20, NULL);
    CHECK(heap != NULL);
    unsigned stayed = 0;
    size_t size = 1 << 20;
    unsigned char *block = evh_malloc(heap, size);
    CHECK(block != NULL);
    memset(block, 5, size);
    for (;;) {
        unsigned char *grown = evh_realloc(heap, block, size + SLICE_BYTES);
        if (!grown) break;
        stayed += grown == block;
        block = grown;
        size += SLICE_BYTES;
        CHECK_EQUAL(block[(1 << 20) - 1], 5);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    }
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK(stayed > 50);
    CHECK_EQUAL(evh_usable_size(heap, block), size);
    CHECK_EQUAL(block[(1 << 20) - 1], 5);
    allocator_close(heap);
}

/* ---- forks ---- */

TEST(a_child_uses_all_its_memory_heaps_and_none_of_its_files)
{
    evh_heap *durable = odd_open(test_path("forked"), NULL);
    evh_heap *memory = evh_open_memory(NULL, 0, NULL);
    evh_heap *small = evh_open_memory(NULL, 8192, NULL);
    CHECK(memory && small);
    CHECK_EQUAL(evh_close(evh_open_memory(NULL, 0, NULL)), EVH_OK); /* a gap among the heaps */
    struct buffer_heap made = buffer_open(4 << 20);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        bool is_right = evh_malloc(durable, 100) == NULL;
        is_right = is_right && evh_last_error()->status == EVH_FORKED;
        is_right = is_right && evh_malloc(memory, 100) && evh_malloc(small, 100);
        is_right = is_right && evh_malloc(made.heap, 100);
        is_right = is_right && evh_check(memory, NULL, NULL) == EVH_OK;
        is_right = is_right && evh_close(durable) == EVH_OK && evh_close(memory) == EVH_OK;
        is_right = is_right && evh_close(small) == EVH_OK && evh_close(made.heap) == EVH_OK;
        _exit(is_right ? 0 : 1);
    }
    int ended = 0;
    CHECK(waitpid(child, &ended, 0) == child);
    CHECK(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    CHECK(evh_malloc(durable, 100) != NULL);
    CHECK_EQUAL(evh_commit(durable), EVH_OK);
    CHECK_EQUAL(evh_close(durable), EVH_OK);
    CHECK_EQUAL(evh_close(memory), EVH_OK);
    CHECK_EQUAL(evh_close(small), EVH_OK);
    uint64_t freed = 1;
    CHECK_EQUAL(evh_trim(made.heap, &freed), EVH_OK); /* a buffer is its caller's to give */
    CHECK_EQUAL(freed, 0);
    buffer_close(&made);
}

/* ---- calls at their edges ---- */

TEST(a_heap_is_saved_neither_to_a_directory_nor_to_no_path)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    const char *directory = test_path("directory");
    CHECK(heap != NULL);
    CHECK(mkdir(directory, 0700) == 0);
    CHECK(evh_save(heap, directory) != EVH_OK);
    CHECK(evh_last_error()->message[0] != 0);
    CHECK(rmdir(directory) == 0); /* it is still a directory, and empty */
    CHECK_EQUAL(evh_save(heap, ""), EVH_INVALID);
    CHECK_EQUAL(evh_save(heap, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_heap_is_saved_with_the_permissions_that_it_was_opened_with)
{
    const char *path = test_path("permissions");
    evh_heap *heap = evh_open_memory(NULL, 0, &(evh_options){.permissions = 0640});
    CHECK(heap != NULL);
    const mode_t mask = umask(0);
    CHECK_EQUAL(evh_save(heap, path), EVH_OK);
    (void)umask(mask);
    struct stat info;
    CHECK(stat(path, &info) == 0);
    CHECK_EQUAL(info.st_mode & 0777, 0640);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_touch_of_nothing_is_fine_and_of_what_is_not_in_the_heap_refused)
{
    evh_heap *heap = odd_open(test_path("touch"), &(evh_options){.detect = EVH_DETECT_PROTECT});
    unsigned char *block = evh_malloc(heap, 3 * PAGE_BYTES);
    CHECK(block != NULL);
    CHECK_EQUAL(evh_touch(heap, block, 0), EVH_OK);
    CHECK_EQUAL(evh_touch(heap, block + 100, 2 * PAGE_BYTES), EVH_OK);
    CHECK_EQUAL(evh_touch(heap, &heap, sizeof heap), EVH_INVALID);
    CHECK_EQUAL(evh_touch(heap, block, SIZE_MAX), EVH_INVALID);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_root_of_nothing_has_no_successor)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_root_info root = {0};
    CHECK(heap != NULL);
    CHECK(!evh_root_next(NULL, &root));
    CHECK(!evh_root_next(heap, NULL));
    CHECK(!evh_root_next(heap, &root)); /* there is none */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(tickets_of_heaps_without_a_journal_are_done_at_once)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap != NULL);
    evh_ticket ticket = 7;
    CHECK_EQUAL(evh_commit_begin(heap, &ticket), EVH_OK);
    CHECK_EQUAL(ticket, 0);
    CHECK_EQUAL(evh_commit_wait(heap, ticket), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}
