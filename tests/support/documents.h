/* documents.h -- what tests of documents and databases have in common. */
#ifndef EVERHEAP_TESTS_DOCUMENTS_H
#define EVERHEAP_TESTS_DOCUMENTS_H

#include <everheap.h>

/** End the test with the last error, unless `status` is EVH_OK. */
void check_ok(evh_status status);

/** A database in a heap in memory, both owned. */
evh_db *open_memory(evh_heap **heap);

/**
 * Run `child` in a process of its own until it has told of `least` commits, and kill it
 * `kill_after_us` later, anywhere within the changes behind that one. It writes the number of each
 * commit, as a uint64_t, to `pipe_end`.
 * Returns the number of the last commit that it told of.
 */
uint64_t run_and_kill(void (*child)(const char *path, uint64_t seed, int pipe_end),
                      const char *path, uint64_t seed, uint64_t kill_after_us, uint64_t least);

#endif
