/* live_heap.c -- opening and closing live heaps in tests, with what goes wrong said. */
#include "support/live_heap.h"
#include "test.h"

evh_heap *live_open_sized(const char *path, uint64_t size_max_bytes)
{
    const evh_options options = {
        .mode = EVH_LIVE, .misuse = EVH_MISUSE_STATUS, .size_max_bytes = size_max_bytes};
    evh_heap *heap = evh_open(path, &options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

evh_heap *live_open(const char *path)
{
    return live_open_sized(path, 0);
}

bool live_finding(const evh_finding *finding, void *context)
{
    (void)context;
    test_fail(__FILE__, __LINE__, "%s at 0x%llx: %s", finding->object,
              (unsigned long long)finding->offset, finding->message);
    return true;
}

void live_close(evh_heap *heap)
{
    CHECK_EQUAL(evh_check(heap, live_finding, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

evh_info live_look(evh_heap *heap)
{
    evh_info info = {0};
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    return info;
}
