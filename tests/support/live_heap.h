/* live_heap.h -- opening and closing live heaps in tests, with what goes wrong said. */
#ifndef EVERHEAP_TESTS_LIVE_HEAP_H
#define EVERHEAP_TESTS_LIVE_HEAP_H

#include <everheap.h>

/** Open or make a live heap of at most `size_max_bytes`; 0: the default. Fails the test if it
 *  cannot be. Misuse of it returns a status. */
evh_heap *live_open_sized(const char *path, uint64_t size_max_bytes);
evh_heap *live_open(const char *path);
/** Check it, each finding a failure of the test, and close it. */
void live_close(evh_heap *heap);
/** A visitor for evh_check(): the finding is a failure. */
bool live_finding(const evh_finding *finding, void *context);
evh_info live_look(evh_heap *heap);

#endif
