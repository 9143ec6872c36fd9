/* os.h -- the contract with the system: files, locks, maps, threads, and which pages are dirty.
 *
 * Only this folder makes system calls. The library calls through the table `os`, so that a test
 * puts another system underneath: tests/os_sim.c (files in memory whose unflushed writes can be
 * lost and torn) and tests/os_fail.c (the real one, whose n-th call fails).
 *
 * Every function that can fail returns 0 or an errno (positive). All loops over EINTR and over
 * short reads and writes are in here, and nowhere else. A "file" is a small integer that open()
 * gave. A thread that is cancelled (pthread_cancel) does not end inside any of them.
 */
#ifndef EVERHEAP_OS_OS_H
#define EVERHEAP_OS_OS_H

#include "base/base.h"

#include <errno.h> /* the numbers that its functions return */

enum os_open_flags {
    OS_OPEN_WRITE = 1,     /* else read-only */
    OS_OPEN_CREATE = 2,    /* make it; EEXIST if it is there (O_EXCL) */
    OS_OPEN_NO_FOLLOW = 4, /* ELOOP if the last component is a symbolic link */
};

struct os_file_info {
    uint64_t size_bytes;
    uint64_t allocated_bytes; /* on the device */
    uint64_t device, inode;   /* identity */
    bool is_regular;
    bool is_directory;
    bool is_network; /* NFS, SMB, FUSE network kinds, 9p, ... */
};

struct os_part {
    const void *data;
    size_t size;
};

enum os_lock_kind { OS_UNLOCK, OS_LOCK_SHARED, OS_LOCK_EXCLUSIVE };

enum os_map_kind {
    OS_MAP_NOTHING,     /* reserve: no access */
    OS_MAP_PRIVATE,     /* the file, copy on write: stores never reach it */
    OS_MAP_SHARED_READ, /* the file as it is at any moment, read-only */
    OS_MAP_SHARED,      /* the file itself: stores are in it at once. May reach beyond its end:
                           what is added there later can be used without mapping again */
    OS_MAP_ANONYMOUS,   /* zero memory, readable and writable */
};

/** A run of pages, counted from the base of a mapping. */
struct os_pages {
    uint64_t first;
    uint64_t count;
};

/** How a page is guarded: a store or load there is a fault. */
enum os_guard_kind {
    OS_GUARD_MARK,    /* a mark in the page table, no mapping of its own (MADV_GUARD_INSTALL) */
    OS_GUARD_PROTECT, /* no access: two mappings more for a guard in the middle of one */
    OS_GUARD_NONE,    /* no guard of either kind any more: the page can be used again */
};

struct os_watch;  /* finds the dirty pages of one private mapping */
struct os_thread; /* a background thread */
struct os_mutex;

struct os_calls {
    /* -- files -- */
    /** Open `path`. Never follows into a FIFO or device: ENXIO-safe (O_NONBLOCK), O_CLOEXEC.
     *  With OS_OPEN_CREATE the file gets `permissions` (the umask applies). */
    int (*open)(const char *path, unsigned flags, unsigned permissions, int *file);
    /** A new nameless or temporarily named file in `path`'s directory, to become `path`. */
    int (*open_temporary)(const char *path, unsigned permissions, int *file);
    /** Give a temporary file its name. Without `replace`: EEXIST if it is taken, atomically.
     *  The caller flushes the directory. */
    int (*publish)(int file, const char *path, bool replace);
    /** Close; a temporary file that was never published is gone. Errors are reported, and the file
     *  is closed all the same. */
    int (*close)(int file);
    int (*information)(int file, struct os_file_info *info);
    /** Information about `path` itself; symbolic links are followed. */
    int (*information_at)(const char *path, struct os_file_info *info);
    /** Read up to `size` bytes; `*done` is smaller only at the end of the file. */
    int (*read)(int file, uint64_t offset, void *buffer, size_t size, size_t *done);
    /** Write all `size` bytes into the system's cache. After an error an unknown part of
     *  them is written. */
    int (*write)(int file, uint64_t offset, const void *data, size_t size);
    /** Write the parts one behind the other at `offset`, and return when exactly that range is
     *  durable (pwritev2 with RWF_DSYNC; elsewhere write and fdatasync). Nothing else is promised
     *  to be durable. `*flush_failed` tells whether bytes may have been lost by a failed flush
     *  (then never retry), or only the writing failed. */
    int (*write_sync)(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                      bool *flush_failed);
    /** Everything written to the file before is durable (fdatasync, size included). Never retry. */
    int (*flush)(int file);
    /** Make the name `path` durable: flush its directory. */
    int (*flush_directory)(const char *path);
    /** Start writing a range back, without waiting: a hint. */
    void (*write_back)(int file, uint64_t offset, uint64_t size);
    /** Forget clean cached pages of a range, so that the next read comes from the device: a
     *  hint. */
    void (*drop_cache)(int file, uint64_t offset, uint64_t size);
    /** Allocate space for a range, extending the file; what was not written reads as zero. */
    int (*allocate)(int file, uint64_t offset, uint64_t size);
    /** Give a range's space back; it reads as zero. EOPNOTSUPP where impossible. */
    int (*punch)(int file, uint64_t offset, uint64_t size);
    int (*truncate)(int file, uint64_t size);
    /** Take a name away; who has the file open keeps it. ENOENT: there was none. */
    int (*remove)(const char *path);
    /** Where the lowest hole in [offset, offset + size) begins; offset + size if there is none. */
    int (*find_hole)(int file, uint64_t offset, uint64_t size, uint64_t *hole);

    /* -- locks: of the open file description, dropped by the kernel when its last holder dies -- */
    /** Take, change or drop a lock on [offset, offset + size) without waiting. EAGAIN: refused. */
    int (*lock)(int file, uint64_t offset, uint64_t size, enum os_lock_kind kind);
    /** Whether an exclusive lock on the range by another description would be refused now. */
    int (*lock_is_taken)(int file, uint64_t offset, uint64_t size, bool *taken);

    /* -- maps -- */
    /** Reserve `size` bytes of addresses, a multiple of `alignment` (a power of two), at
     *  `preferred` if that is not 0 and free. */
    int (*reserve)(uint64_t size, uint64_t alignment, uint64_t preferred, void **address);
    /** Map over a part of a reservation. `file` and `offset` are ignored for kinds without one. */
    int (*map)(void *address, uint64_t size, enum os_map_kind kind, int file, uint64_t offset);
    /** Make a mapped range read-only, or writable again. */
    int (*protect)(void *address, uint64_t size, bool writable);
    /** A hint for mapped file space that was never read: pages of it will be touched in no order,
     *  so reading ahead would only fill the cache with large folios, in which later scattered
     *  writes are slow. NULL where there is no such hint. */
    void (*expect_scattered)(void *address, uint64_t size);
    /** Bytes of a page of this system's memory: 4096, or more. */
    uint64_t (*page_bytes)(void);
    /** Drop private copies: the range shows the file again (zeroes if anonymous). EINVAL unless it
     *  is of whole page_bytes(): a system drops nothing less, and would drop what lies beside. */
    int (*discard)(void *address, uint64_t size);
    /** End a reservation and all maps in it. */
    int (*release)(void *address, uint64_t size);

    /* -- memory for arenas and stacks (os_linux_guard.c); sizes in whole os_page_bytes() -- */
    /** Zero memory anywhere, taken page by page when it is touched; ended by release().
     *  `is_stack`: in small pages, so that a stack costs what it touches. */
    int (*memory_map)(uint64_t size, bool is_stack, void **address);
    /** Guard pages that memory_map() gave, or private ones of a mapping. EINVAL: this system has no
     *  such kind. */
    int (*guard)(void *address, uint64_t size, enum os_guard_kind kind);
    /** OS_GUARD_MARK of `count` guards, each `stride` behind the one before: in one call where the
     *  system has such a one. After an error some of them may be set. */
    int (*guard_marks)(void *first, uint64_t size, uint64_t stride, unsigned count);
    /** The contents are not needed: the system takes the pages when it wants. A hint. */
    void (*discard_later)(void *address, uint64_t size);
    /** The offset of the first page with memory behind it; `size` if there is none. */
    int (*find_resident)(void *address, uint64_t size, uint64_t *offset);

    /* -- dirty pages (os_watch*.c) -- */
    /**
     * Watch the private mapping at `base`, whose reservation is `reserved_bytes`. EVH_DETECT_AUTO
     * takes the first tier that works here, tried on a page of its own. ENOTSUP: this tier does
     * not.
     */
    int (*watch_open)(void *base, uint64_t reserved_bytes, evh_detect detect, bool guards,
                      struct os_watch **watch);
    void (*watch_close)(struct os_watch *watch);
    /** The tier in use. */
    evh_detect (*watch_tier)(const struct os_watch *watch);
    /** The private file mapping now also covers [offset, offset + size) (unwatched, untouched);
     *  multiples of 64 KiB. To be called again when map() replaced a part of it. */
    int (*watch_add)(struct os_watch *watch, uint64_t offset, uint64_t size);
    /**
     * Collect the dirty pages below `end` and watch them again, as one step. No other thread stores
     * into the mapping meanwhile. `*runs` (owned by the watch, borrowed until the next call), in
     * ascending order, disjoint; a superset of the pages stored to since the previous collect (or
     * since the mapping was made), so the caller compares where `*is_exact` is false.
     * After ENOMEM what was not returned is still dirty, and returned by the next call; what was
     * returned counts.
     */
    int (*watch_collect)(struct os_watch *watch, uint64_t end, const struct os_pages **runs,
                         size_t *run_count, bool *is_exact);
    /** The program called discard() on these pages: they are clean. Called by whoever discards. */
    void (*watch_discarded)(struct os_watch *watch, uint64_t offset, uint64_t size);
    /** Make a range safe for a system call that writes into it (evh_touch). */
    int (*watch_touch)(struct os_watch *watch, uint64_t offset, uint64_t size);

    /* -- memory, threads, time -- */
    /** Memory for the library's own structures: zeroed, or NULL. Freed by memory_free. */
    void *(*memory_allocate)(size_t size);
    void *(*memory_resize)(void *memory, size_t size); /* realloc: the growth is not zeroed */
    void (*memory_free)(void *memory);
    int (*mutex_create)(struct os_mutex **mutex);
    void (*mutex_end)(struct os_mutex *mutex);
    void (*mutex_lock)(struct os_mutex *mutex);
    void (*mutex_unlock)(struct os_mutex *mutex);
    /** Wait for a signal to the mutex's condition; spurious returns happen. The mutex is held. */
    void (*mutex_wait)(struct os_mutex *mutex);
    void (*mutex_signal)(struct os_mutex *mutex); /* wakes all waiters */
    int (*thread_start)(void (*run)(void *), void *context, struct os_thread **thread);
    void (*thread_join)(struct os_thread *thread);
    /** Wait while *word == value (a futex); returns at any time. wake wakes all. */
    void (*wait)(uint32_t *word, uint32_t value);
    void (*wake)(uint32_t *word);
    /** Let others run for about that long. */
    void (*pause)(uint64_t nanoseconds);
    /** A full memory barrier on every running thread of the process (membarrier). ENOSYS if not. */
    int (*barrier_all_threads)(void);
    void (*random)(void *buffer, size_t size);
    uint64_t (*time_ns)(void); /* wall clock since 1970, for labels only */
    uint64_t (*process)(void); /* this process's id: changes in a forked child */
    /** What names this boot of the system: another after a restart. False if it cannot be told. */
    bool (*boot)(uint8_t id[16]);
};

/* The system in use. Tests replace it before they open a heap. */
EVH_INTERNAL_DATA const struct os_calls *os;

/** The real system. */
EVH_INTERNAL const struct os_calls *os_linux(void);

/** Use `calls` from now on; NULL is the real system. No heap is open meanwhile. */
EVH_INTERNAL void os_use(const struct os_calls *calls);

/** Not 0 while the process has had one thread only, where the C library tells; it may turn to 0 at
 *  any call that can make a thread. */
EVH_INTERNAL_DATA const char *const os_single_threaded;
static inline bool os_is_single_threaded(void)
{
#if defined(BASE_ATOMIC_HEADER) || defined(EVERHEAP_EXPLORE)
    return false; /* a test's scheduler runs its threads in one */
#else
    return __atomic_load_n(os_single_threaded, __ATOMIC_RELAXED) != 0;
#endif
}

/** Call `child` in every forked child, before fork() returns there; `prepare` before each fork, and
 *  `parent` after it, unless they are NULL (pthread_atfork, once for each `child`). */
EVH_INTERNAL void os_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

/** Call `exit(value)` when the calling thread ends, unless it returns from main(). Once per thread
 *  and `exit`; a thread that asks again while it ends is called again. Four different functions for
 *  the process. ENOMEM. */
EVH_INTERNAL int os_at_thread_exit(void (*exit)(void *), void *value);

/** `path` from the root on, so that it means the same file from another working directory. Owned:
 *  os->memory_free(). NULL: no memory. Where the directory has no name, the path as it is. */
EVH_INTERNAL char *os_absolute_path(const char *path);

enum { OS_FILE_PATH_SIZE = 32 };
/** A path by which this process can open an open file again (another description of the same
 *  inode), whatever has become of the name that it was opened by. False: this system has none. */
EVH_INTERNAL bool os_path_of_file(int file, char path[OS_FILE_PATH_SIZE]);

/** A new empty file in memory that only this process has; close() ends it. An errno. */
EVH_INTERNAL int os_memory_file(int *file);

/** Bytes of a page of this system's memory: 4096, or more. */
EVH_INTERNAL uint64_t os_page_bytes(void);

/** The most mappings that a process may have (vm.max_map_count). */
EVH_INTERNAL uint64_t os_map_limit(void);

/* ---- faults (os_linux_fault.c) ---- */

/** Writes what happened at `address` to `message`; false: nothing that it knows of. Called from a
 *  signal handler: takes no lock, allocates nothing. */
typedef bool os_explain(const void *address, char *message, size_t size);

/**
 * From now on a fault (SIGSEGV, SIGBUS) that `explain` knows prints its message before it goes the
 * way it would have gone. One function for the process. An errno if the handler cannot be set.
 */
EVH_INTERNAL int os_at_fault(os_explain *explain);

/** Give the calling thread an alternate signal stack, unless it has one: without it a thread whose
 *  stack has overflowed cannot say so. It ends with the thread. An errno. */
EVH_INTERNAL int os_fault_stack(void);

/* ---- telling ASan and Valgrind (os_linux_annotate.c): nothing without them ---- */

/** Whether one of them watches this process. */
EVH_INTERNAL bool os_is_annotated(void);
/** Nobody may touch these bytes; they may be used again, contents undefined; contents defined. */
EVH_INTERNAL void os_annotate_closed(const void *address, size_t size);
EVH_INTERNAL void os_annotate_open(const void *address, size_t size);
EVH_INTERNAL void os_annotate_defined(const void *address, size_t size);
/** Memory that a stack pointer may move to; returns what os_annotate_stack_end() takes. */
EVH_INTERNAL unsigned os_annotate_stack(const void *lowest, size_t size);
EVH_INTERNAL void os_annotate_stack_end(unsigned number);

#endif
