/* interleave_os.h -- the system as the explorer of interleavings needs it. */
#ifndef EVERHEAP_TESTS_SUPPORT_INTERLEAVE_OS_H
#define EVERHEAP_TESTS_SUPPORT_INTERLEAVE_OS_H

/**
 * From now on the library's memory comes from arenas, one for each thread, so that an execution
 * leaves nothing behind and addresses do not depend on who came first; its mutexes, futexes and
 * barriers are steps of the explorer. Mapped memory, files and locks are the real ones.
 */
void interleave_os_use(void);
/** Back to the real system. No heap is open meanwhile. */
void interleave_os_end(void);

#endif
