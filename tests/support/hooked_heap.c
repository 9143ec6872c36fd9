/* hooked_heap.c -- heaps on the real system, with one of its calls replaced. */
#include "support/hooked_heap.h"

#include <errno.h>

struct os_calls hooked;

void hooked_begin(void)
{
    hooked = *os_linux();
    os_use(&hooked);
}

const evh_options quietly = {.no_thread = true};
const evh_options reading = {.mode = EVH_READ_ONLY};
const evh_options verifying = {.no_thread = true, .must_exist = true, .verify = true};

evh_heap *heap_open(const char *path, const evh_options *options)
{
    evh_heap *heap = evh_open(path, options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

uint64_t *heap_root(evh_heap *heap)
{
    uint64_t *root = evh_root(heap, "root", 64);
    if (!root) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(root != NULL);
    return root;
}

const char *heap_killed(const char *path)
{
    const char *copy = test_path("killed.heap");
    struct file_bytes bytes = file_bytes_read(path);
    file_bytes_write(copy, &bytes);
    file_bytes_end(&bytes);
    return copy;
}

void heap_is_sound(const char *path)
{
    evh_heap *heap = heap_open(path, &verifying);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

unsigned records_to_fail;

int hooked_fail_record(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                       bool *flush_failed)
{
    if (records_to_fail && offset >= REGION_FIRST_EXTENT_OFFSET && parts[0].size >= PAGE_BYTES) {
        records_to_fail--;
        *flush_failed = false;
        return ENOSPC;
    }
    return os_linux()->write_sync(file, offset, parts, count, flush_failed);
}
