/* os_kill.h -- the real system, in which the process is killed at its n-th call.
 *
 * Only calls that leave a trace outside the process count: what becomes of a file, its space and
 * its locks. The process dies before such a call, or in the middle of a write.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_OS_KILL_H
#define EVERHEAP_TESTS_SUPPORT_OS_KILL_H

#include "os/os.h"

/** Use the counting table; nobody is killed yet. */
void os_kill_use(void);
/** SIGKILL at the n-th call from now on (1: the next), of this thread or any other; 0: never. */
void os_kill_at(uint64_t n);

#endif
