/* live.h -- live heaps: one heap, written to by any number of processes at once. */
#ifndef EVERHEAP_LIVE_H
#define EVERHEAP_LIVE_H

#include <everheap/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A heap that is made with EVH_LIVE is mapped shared, by every process that opens it, each at an
 * address of its own. What is stored is there for all of them at once, and stays when any of them
 * is killed, at whatever instruction. No call waits for another thread or process: one that is
 * killed or stopped in the middle of a call hinders nobody. There are no commits and no rollback.
 *
 *   evh_malloc, evh_free, ...   any process frees what another allocated; a double free is detected
 *                               across processes
 *   a killed process            leaves at most one block for each of its threads that nothing
 *                               names; none with evh_malloc_to() and evh_free_from(), if nobody
 *                               else changes the ref before they return, and if the program has
 *                               another way to know (a ref of its own that is changed last, say)
 *                               that the block is filled
 *   evh_root, ...               any process, at any time; who makes the same root at the same time
 *                               gets the same block; a kill in the middle leaks none
 *   a growing heap              others need do nothing. evh_at() takes any ref below the reserved
 *                               range for one inside the heap. Who has reserved fewer addresses
 *                               than the heap takes (size_max_bytes, or a limit of the system) goes
 *                               on with what is in sight: evh_at() of the rest is NULL, and what
 *                               would have to see it is EVH_NO_MEMORY: close and open it again
 *   fork                        the child goes on with the heap as one more process. (A child of
 *                               _Fork() or clone() must not use it.)
 *   signals                     no calls from a handler that may interrupt one of the same thread
 *   cancelled threads           end outside of all calls
 *   closed descriptors          a process that closes the library's descriptors (all above 2, as
 *                               daemons do) is taken for dead by the others: open the heap later
 *   a file that is cut off      by another program, while it is attached: SIGBUS, as of any mapping
 *   synchronisation             of the data in blocks is the program's: atomic operations work
 *                               across processes; a lock in a block outlives a killed holder
 *   power loss                  see evh_sync()
 *
 * While a heap is open there is a file `PATH.live` beside it, with what needs not survive; the last
 * process to close the heap removes it, and after a kill of all it may be deleted. All processes
 * open the heap by the same path, and are trusted: each can write anywhere in it.
 * EVH_READ_ONLY and EVH_PRIVATE open a live heap, used or not: its metadata is copied, its blocks
 * show what they hold at any moment. 512 processes, 704 threads at once.
 *
 * Errors of evh_open() besides the usual: EVH_MODE (a durable heap), EVH_BUSY (others use the heap,
 * but not by this path, or PATH.live was deleted), EVH_LIMIT (512 processes have it open).
 */

/**
 * Live heaps: write everything that was stored before to the disk. After a power cut that follows,
 * with no store in between, the heap is what it was. A store in between, by any process, and the
 * heap may be a mixture of pages of different moments, which evh_check() finds or not: what must
 * survive a power cut belongs in a durable heap. A killed process needs no evh_sync().
 * Errors    EVH_MODE (not a live heap), EVH_IO, EVH_READ_ONLY, EVH_INVALID.
 * Threads   any; what others store meanwhile may be written or not.
 * Crash     as without it.
 * Cost      the pages changed since the last one, by any process, and one flush.
 */
EVH_API evh_status evh_sync(evh_heap *heap);

#ifdef __cplusplus
}
#endif

#endif
