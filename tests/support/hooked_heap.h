/* hooked_heap.h -- heaps on the real system, with one of its calls replaced.
 *
 * A test that needs something to happen at exactly one moment replaces the call that is made there:
 * it fails, or does in between what another thread or process would.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_HOOKED_HEAP_H
#define EVERHEAP_TESTS_SUPPORT_HOOKED_HEAP_H

#include "heap/heap.h"
#include "support/raw_heap.h"

/* The system in use from hooked_begin() on. */
extern struct os_calls hooked;

/** Start from the real system; the caller then replaces calls in `hooked`. */
void hooked_begin(void);

extern const evh_options quietly;   /* without a thread */
extern const evh_options reading;   /* read-only */
extern const evh_options verifying; /* all checks at opening; it must exist */

/** Open, or fail the test. */
evh_heap *heap_open(const char *path, const evh_options *options);
/** The root "root": 8 words. */
uint64_t *heap_root(evh_heap *heap);
/** A copy of the file: what a process that is killed now leaves. Its path, as test_path()'s. */
const char *heap_killed(const char *path);
/** The heap opens with all checks, checks clean, and closes. */
void heap_is_sound(const char *path);

/* Of the next write_sync calls that write records, so many fail as on a full disk, writing nothing:
 * hooked.write_sync = hooked_fail_record. */
extern unsigned records_to_fail;
int hooked_fail_record(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                       bool *flush_failed);

#endif
