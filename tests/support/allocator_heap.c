/* allocator_heap.c -- heaps for the tests of the allocator. */
#include "allocator_heap.h"

evh_heap *allocator_open(void)
{
    const evh_options options = {.misuse = EVH_MISUSE_STATUS};
    evh_heap *heap = evh_open_memory(NULL, 0, &options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

void allocator_close(evh_heap *heap)
{
    if (evh_check(heap, NULL, NULL))
        test_fail(__FILE__, __LINE__, "check: %s", evh_last_error()->message);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

evh_info allocator_info(evh_heap *heap)
{
    evh_info info = {0};
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    return info;
}

evh_status last_status(void)
{
    return evh_last_error()->status;
}

void forget_error(void)
{
    (void)base_fail(EVH_UNSUPPORTED, NO_OFFSET, "none");
}

struct buffer_heap buffer_open(uint64_t size)
{
    struct buffer_heap made = {.size = size};
    const evh_options options = {.misuse = EVH_MISUSE_STATUS};
    CHECK_EQUAL(os->reserve(size, SEGMENT_BYTES, 0, &made.buffer), 0);
    CHECK_EQUAL(os->map(made.buffer, size, OS_MAP_ANONYMOUS, -1, 0), 0);
    made.heap = evh_open_memory(made.buffer, size, &options);
    CHECK(made.heap != NULL);
    CHECK(made.heap->compact == NULL);
    return made;
}

void buffer_attach(struct buffer_heap *made)
{
    const evh_options options = {.misuse = EVH_MISUSE_STATUS, .must_exist = true};
    made->heap = evh_open_memory(made->buffer, made->size, &options);
}

void buffer_reopen(struct buffer_heap *made)
{
    slices_fold(made->heap);
    CHECK_EQUAL(evh_close(made->heap), EVH_OK);
    buffer_attach(made);
    if (!made->heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(made->heap != NULL);
}

void buffer_close(struct buffer_heap *made)
{
    if (made->heap) allocator_close(made->heap);
    CHECK_EQUAL(os->release(made->buffer, made->size), 0);
}

void fill(void *block, size_t size, uint64_t seed)
{
    unsigned char *bytes = block;
    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(seed + i * 7 + (i >> 8));
}

bool is_filled(const void *block, size_t size, uint64_t seed)
{
    const unsigned char *bytes = block;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)(seed + i * 7 + (i >> 8))) return false;
    return true;
}

bool walk_count_block(const evh_block *block, void *context)
{
    struct walk_count *count = context;
    if (block->ref.offset <= count->last) count->ascends = false;
    count->last = block->ref.offset;
    count->blocks++;
    count->bytes += block->size;
    if (evh_usable_size(count->heap, block->address) != block->size) count->ascends = false;
    const bool is_catalog = block->ref.offset == count->heap->state.catalog;
    if (count->does_free && !is_catalog) evh_free(count->heap, block->address);
    return true;
}

static bool count_finding(const evh_finding *finding, void *context)
{
    CHECK_EQUAL(finding->status, EVH_CORRUPT);
    CHECK(finding->message[0] != '\0');
    (*(unsigned *)context)++;
    return true;
}

unsigned findings(evh_heap *heap)
{
    unsigned count = 0;
    (void)slices_check(heap, count_finding, &count);
    return count;
}
