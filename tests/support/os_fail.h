/* os_fail.h -- the real system, whose n-th call fails.
 *
 * os_fail_use() puts a table in front of the real one that counts the calls that can fail, fails
 * the ones it was told to, and keeps account of descriptors, reservations and memory, so that a
 * test sees what a failure leaked.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_OS_FAIL_H
#define EVERHEAP_TESTS_SUPPORT_OS_FAIL_H

#include "os/os.h"

enum os_fail_kind {
    OS_FAIL_OPEN = 1, /* open, open_temporary, publish, information, locks */
    OS_FAIL_READ = 2,
    OS_FAIL_WRITE = 4,   /* write, and write_sync before its flush: half is written */
    OS_FAIL_FLUSH = 8,   /* flush, flush_directory, and write_sync in its flush */
    OS_FAIL_SPACE = 16,  /* allocate, punch, truncate */
    OS_FAIL_MAP = 32,    /* reserve, map, protect, discard, and the dirty pages' watch */
    OS_FAIL_MEMORY = 64, /* memory_allocate, memory_resize, mutex_create */
    OS_FAIL_THREAD = 128,
    OS_FAIL_CLOSE = 256,
    OS_FAIL_SHORT = 512, /* a read ends half-way without an error, as if the file ended there */
    OS_FAIL_SYSTEM = OS_FAIL_OPEN | OS_FAIL_READ | OS_FAIL_WRITE | OS_FAIL_FLUSH | OS_FAIL_SPACE |
                     OS_FAIL_MAP | OS_FAIL_THREAD | OS_FAIL_CLOSE,
};

struct os_fail_account {
    int64_t files, reservations, memory, mutexes, watches;
};

/** Use the counting table; nothing fails yet, and the account begins at zero. */
void os_fail_use(void);
/** Back to the real system. */
void os_fail_end(void);
/** From now on fail the n-th call (1: the next) of the kinds, with `error`; with `is_sticky` every
 *  later one too. n 0 fails nothing, and counts. */
void os_fail_at(unsigned kinds, uint64_t n, int error, bool is_sticky);
/** Calls of the kinds since os_fail_at(). */
uint64_t os_fail_calls(void);
/** Whether one failed. */
bool os_fail_struck(void);
/** What the last call that failed was, for messages. */
const char *os_fail_name(void);
/** The process is as good as dead: nothing reaches a file any more (EIO, which does not count as a
 *  planned failure), until another one comes: os_fail_revive(). */
void os_fail_kill(void);
void os_fail_revive(void);
struct os_fail_account os_fail_account(void);

#endif
