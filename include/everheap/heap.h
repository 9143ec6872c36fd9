/* heap.h -- open a heap, allocate in it, commit it. Its roots and inspection: inspect.h. */
#ifndef EVERHEAP_HEAP_H
#define EVERHEAP_HEAP_H

#include <everheap/status.h>

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. The version of the file format is separate: see evh_info. */
#define EVH_VERSION_MAJOR 0
#define EVH_VERSION_MINOR 1
#define EVH_VERSION_PATCH 0

/*
 * Four shapes of call, here and in every other header:
 *
 *   makes   returns what it made, or NULL and evh_last_error() says why     evh_open, evh_malloc
 *   does    returns an evh_status; 0 is success                             evh_commit, evh_close
 *   asks    cannot fail                                                     evh_at, evh_status_name
 *   ends    returns nothing, accepts NULL                                   evh_free
 *
 * Zero is the default in every options struct. Unless a call says otherwise, any thread may make it
 * at any time ("Threads any"); a call on a heap that another thread is closing is an error of the
 * program. A null heap is EVH_INVALID, never a crash. No call is a cancellation point of
 * pthread_cancel(), so that a thread that is cancelled holds no lock of a heap.
 */

typedef struct evh_heap evh_heap;

/** What is stored in a heap instead of a pointer: the block's offset in the file. 0 is null. */
typedef struct evh_ref {
    uint64_t offset;
} evh_ref;

/* How a heap is opened. EVH_READ_ONLY (above) is the mode of a reader as well as the status that a
 * reader gets when it tries to write; hence an integer and not an enum of its own. */
typedef uint32_t evh_mode;
enum {
    EVH_DURABLE = 0, /* one process writes; evh_commit() makes durable all its changes or none */
    /* EVH_READ_ONLY = 1: the newest commit, beside a writer or without one */
    EVH_LIVE = 3,    /* any processes write; every store survives all of them: live.h */
    EVH_PRIVATE = 2, /* as read-only, but this process may change its copy; never written back */
    EVH_MEMORY = 4,  /* what evh_open_memory() makes; evh_open() refuses it */
};

/** How dirty pages are found. EVH_DETECT_AUTO takes the first that this system has. */
typedef enum evh_detect {
    EVH_DETECT_AUTO = 0,
    EVH_DETECT_WATCH,   /* userfaultfd write protection and PAGEMAP_SCAN (Linux 6.7) */
    EVH_DETECT_SCAN,    /* PAGEMAP_SCAN for private pages (Linux 6.7, also in containers) */
    EVH_DETECT_PAGEMAP, /* /proc/self/pagemap (Linux 4.2) */
    EVH_DETECT_PROTECT, /* mprotect and SIGSEGV; see evh_touch() */
    EVH_DETECT_COMPARE, /* compare every page with the committed one: slow, always right */
} evh_detect;

typedef enum evh_misuse {
    EVH_MISUSE_ABORT = 0, /* a double or foreign free prints a message and aborts */
    EVH_MISUSE_STATUS,    /* it changes nothing; evh_last_error() tells */
} evh_misuse;

typedef struct evh_options {
    evh_mode mode;
    evh_detect detect; /* environment variable EVERHEAP_DETECT overrides EVH_DETECT_AUTO */
    evh_misuse misuse;
    bool must_exist;            /* never create: EVH_NOT_FOUND */
    bool must_create;           /* never open: EVH_EXISTS */
    bool no_thread;             /* checkpoint inside evh_commit, not in a background thread */
    bool verify;                /* check all metadata while opening, not at first use, and
                                   search the whole journal for signs of lost commits */
    bool guards;                /* find dirty 2 MiB granules by write protection and a signal:
                                   faster one-page commits in large heaps; see evh_touch() */
    bool network_file_system;   /* accept one: the caller vouches for its locks and flushes */
    bool no_follow;             /* refuse a path that ends in a symbolic link */
    bool compact;               /* evh_open_memory: the layout of small buffers at any size: free
                                   areas merge at once, lowest address first, one lock */
    bool unlisted;              /* evh_open_memory: unknown to evh_heap_of(), and another opening of
                                   the buffer is not counted but another heap; any number may be
                                   open, and one whose buffer is gone disturbs nobody */
    bool scattered;             /* little of the file will be read, in no order: a page that is not
                                   in the system's cache is read alone, not with what follows */
    unsigned permissions;       /* of a new file; 0 means 0600 */
    uint64_t size_max_bytes;    /* the heap never grows beyond; 0 means 1 TiB */
    uint64_t preferred_address; /* map there if that is free; 0 means where it was the last time */
    uint64_t checkpoint_bytes;  /* journal that may wait for a checkpoint; 0 means 16 MiB */
    uint64_t journal_max_bytes; /* the journal grows to this for a lagging reader, then the reader
                                   goes stale; 0 means 64 MiB. A single commit may exceed it. */
    uint64_t dirty_max_bytes;   /* evh_malloc fails with EVH_LIMIT when more is uncommitted: how
                                   much the heap has grown since the last commit or rollback, and
                                   what failed commits left; changes in place are not counted.
                                   0 means no limit */
    uint64_t private_max_bytes; /* memory kept in private copies of pages that are home already,
                                   so that the next store to them is cheap; 0 means 512 MiB */
    const char *debug;          /* letters, see debug.h; borrowed until the heap is open. NULL: the
                                   environment variable EVERHEAP_DEBUG */
    uint64_t commit_sequence;   /* read-only and private modes: show this commit (evh_info's
                                   commit_sequence after it), as long as the journal has what came
                                   later and home has not: EVH_STALE then, EVH_NOT_FOUND if there
                                   was none yet. 0 means the newest. Held like any view. */
    uint64_t reserved[6];       /* zero */
} evh_options;

/* ---- opening and closing -------------------------------------------------------------------- */

/**
 * Open a heap, creating or recovering it. `options` may be NULL.
 * Returns   the heap, owned: end it with evh_close(). NULL on failure.
 * Errors    EVH_NOT_FOUND, EVH_EXISTS, EVH_ACCESS, EVH_NOT_FILE, EVH_NOT_HEAP, EVH_TRUNCATED,
 *           EVH_VERSION, EVH_BYTE_ORDER, EVH_CORRUPT, EVH_MODE, EVH_BUSY, EVH_FULL, EVH_NO_MEMORY,
 *           EVH_IO, EVH_LIMIT, EVH_INVALID. The file is unchanged after any of them.
 * Threads   any.
 * Crash     a new file appears complete or not at all; recovery may be interrupted and repeated.
 * Cost      constant after a close (under 1 ms); after a crash, the journal that waits for its
 *           checkpoint is read once (16 MiB at most by default).
 */
EVH_API evh_heap *evh_open(const char *path, const evh_options *options);

/**
 * Make a heap in memory. `buffer` NULL: anonymous memory that grows to `size_bytes` (0: 1 TiB).
 * Otherwise the heap lives in the caller's `buffer` of `size_bytes` (at least 1 KiB), which stays
 * the caller's: if it already holds the image of a heap, that heap is attached (`must_create`
 * formats it anew, `must_exist` refuses to format). A buffer that is open already gives the same
 * heap, counted.
 * Returns   the heap, owned: end it with evh_close(). The buffer keeps the image.
 * Errors    EVH_INVALID (buffer below 1 KiB), EVH_NOT_HEAP, EVH_CORRUPT, EVH_VERSION,
 *           EVH_NO_MEMORY.
 * Threads   any.
 * Crash     nothing is kept; evh_save() writes an image.
 */
EVH_API evh_heap *evh_open_memory(void *buffer, size_t size_bytes, const evh_options *options);

/**
 * Close a heap: discard what was not committed, wait for pending commits, checkpoint, unmap.
 * NULL is fine. Pointers into the heap are invalid afterwards, also when it reports an error.
 * Returns   EVH_OK, or what the checkpoint met: nothing committed is lost by it.
 * Errors    EVH_IO, EVH_POISONED.
 * Threads   no other thread may use the heap.
 * Crash     the last commit stands.
 */
EVH_API evh_status evh_close(evh_heap *heap);

/**
 * Write the heap as it is now, committed or not, to a new file at `path`, replacing one that is
 * there. The file is a durable heap that evh_open() opens; from a heap in a small buffer it is an
 * image for evh_open_memory() and for private or read-only opening.
 * Errors    EVH_IO, EVH_FULL, EVH_ACCESS, EVH_BUSY (path is an open heap), EVH_NO_MEMORY,
 *           EVH_STALE (a view that was left behind).
 * Threads   per heap: no other thread may write to the heap meanwhile.
 * Crash     the old file or the new one, complete.
 * Cost      the size of the heap.
 */
EVH_API evh_status evh_save(evh_heap *heap, const char *path);

/* ---- commit and rollback -------------------------------------------------------------------- */

/**
 * Make every change since the previous commit durable, all or nothing.
 * Returns   EVH_OK once the commit is on the disk. In a memory heap there is nothing to do: EVH_OK.
 * Errors    EVH_READ_ONLY, EVH_FULL or EVH_NO_MEMORY (nothing committed, changes still in memory:
 *           commit again or roll back), EVH_IO or EVH_POISONED (a flush failed: the outcome is
 *           known only after reopening), EVH_BUSY (inside the caller's evh_enter()), EVH_FORKED.
 * Threads   per heap: no other thread may write to the heap meanwhile, unless all of them bracket
 *           their writes with evh_enter(). Several threads may commit at once: they share flushes.
 * Crash     before it returns EVH_OK: the previous commit or this one, never a mixture.
 * Cost      one flush, and the bytes that changed. They are written twice, now and when they go
 *           home; but 8 MiB and more by which the heap has grown are written once, with three
 *           flushes, while threads in evh_enter() wait.
 */
EVH_API evh_status evh_commit(evh_heap *heap);

/** Names a commit that was begun. */
typedef uint64_t evh_ticket;

/**
 * Begin a commit: its content is fixed and handed to the system, its flush is not awaited.
 * `ticket` receives what evh_commit_wait() takes. Commits become durable in the order they began.
 * Errors, Threads   as evh_commit().
 * Cost      what evh_commit() costs but its last flush.
 * Crash     a killed process keeps it; a power cut keeps a prefix of the commits that were begun.
 */
EVH_API evh_status evh_commit_begin(evh_heap *heap, evh_ticket *ticket);

/**
 * Wait until the commit of `ticket`, and so every earlier one, is on the disk. Tickets that wait
 * together share one flush.
 * Errors    EVH_IO, EVH_POISONED, EVH_FULL (that commit failed), EVH_INVALID (no such ticket).
 */
EVH_API evh_status evh_commit_wait(evh_heap *heap, evh_ticket ticket);

/**
 * Undo every change since the last commit that was begun: contents, allocations, roots, growth.
 * Pointers to blocks allocated since are invalid.
 * Errors    EVH_READ_ONLY, EVH_MODE (memory heap), EVH_BUSY, EVH_POISONED, EVH_FORKED,
 *           EVH_NO_MEMORY, EVH_IO. Nothing is undone after any of them.
 * Threads   per heap: no other thread may use the heap meanwhile.
 * Crash     the last commit stands.
 * Cost      the pages that changed.
 */
EVH_API evh_status evh_rollback(evh_heap *heap);

/**
 * Bring the committed state home into the file now and free the journal. The library does it by
 * itself; a program may choose a quiet moment. Uncommitted changes are untouched.
 * Errors    EVH_IO, EVH_POISONED, EVH_READ_ONLY, EVH_FORKED, EVH_BUSY (a reader holds an old view).
 * Cost      two flushes and the pages changed since the last checkpoint.
 */
EVH_API evh_status evh_checkpoint(evh_heap *heap);

/**
 * Bracket stores, allocations and system calls into the heap, so that another thread may commit
 * meanwhile: a commit waits for open brackets, and new ones wait while it copies (not while it
 * flushes). Brackets nest. Never commit, and never wait for a thread that commits, inside one.
 * Cost      under a nanosecond when nobody commits.
 */
EVH_API void evh_enter(evh_heap *heap);
EVH_API void evh_leave(evh_heap *heap);

/**
 * Prepare [address, address + size_bytes) for a system call that writes into the heap (read(2) and
 * the like). Needed only under EVH_DETECT_PROTECT or `guards`; free of charge otherwise.
 * Errors    EVH_INVALID (not in this heap), EVH_READ_ONLY.
 */
EVH_API evh_status evh_touch(evh_heap *heap, void *address, size_t size_bytes);

/**
 * Move a read-only view to the newest commit. Pointers stay valid as addresses; what they point at
 * changes to the newer commit.
 * Errors    EVH_MODE (not a read-only heap), EVH_BUSY, EVH_IO, EVH_CORRUPT, EVH_NO_MEMORY. The old
 *           view is gone after them: refresh again, or close.
 * Threads   per heap: no other thread may read meanwhile.
 */
EVH_API evh_status evh_refresh(evh_heap *heap);

/**
 * Whether everything read through this read-only view so far belongs to one commit. False when the
 * writer could wait no longer and moved on (see journal_max_bytes): then evh_refresh().
 * Always true in other modes.
 */
EVH_API bool evh_view_valid(const evh_heap *heap);

/* ---- allocation ----------------------------------------------------------------------------- */

/*
 * Family: evh_malloc, evh_calloc, evh_realloc, evh_aligned_alloc.
 * Returns   a block of at least `size` bytes, owned: end it with evh_free(). Aligned to 16 bytes,
 *           or as asked. Contents are undefined unless said otherwise. NULL on failure.
 * Errors    EVH_INVALID (size 0; alignment no power of two or above 64 MiB), EVH_LIMIT (size above
 *           the heap's maximum, or a product that overflows), EVH_FULL, EVH_NO_MEMORY,
 *           EVH_READ_ONLY, EVH_FORKED, EVH_CORRUPT.
 * Threads   any; no locks on the common path.
 * Crash     an allocation that is not committed is undone.
 * Cost      constant up to 64 KiB; above, the number of 64 KiB slices.
 */
/** A block of `size` bytes. */
EVH_API void *evh_malloc(evh_heap *heap, size_t size);
/** A block of `count` x `size` zero bytes. */
EVH_API void *evh_calloc(evh_heap *heap, size_t count, size_t size);
/** `block` resized to `size` bytes, in place where possible, else moved; the contents are kept to
 *  the smaller size. NULL `block` allocates. On failure `block` is untouched. */
EVH_API void *evh_realloc(evh_heap *heap, void *block, size_t size);
/** A block of `size` bytes at an address and an offset that are multiples of `alignment`. */
EVH_API void *evh_aligned_alloc(evh_heap *heap, size_t alignment, size_t size);

/**
 * Free a block. NULL is fine. A block that is free already, a pointer into a block and a pointer of
 * another heap are detected exactly: see evh_misuse.
 * Threads   any thread may free what another allocated.
 * Crash     a free that is not committed is undone.
 * Cost      constant.
 */
EVH_API void evh_free(evh_heap *heap, void *block);

/** How many bytes `block` holds, at least what was asked for. 0, and an error, if it is no block.
 */
EVH_API size_t evh_usable_size(evh_heap *heap, const void *block);

/**
 * Allocate a block and store its ref in `*slot`, a ref that lies in the heap or outside it, in one
 * step: no crash leaves a block that nothing names. What `*slot` held before is not freed.
 * Errors    as evh_malloc(); EVH_INVALID (null slot).
 */
EVH_API evh_status evh_malloc_to(evh_heap *heap, evh_ref *slot, size_t size);
/**
 * Free the block that `*slot` names and store null in `*slot`, in one step: no crash leaves a ref
 * to a free block. A null ref is fine.
 * Errors    EVH_BAD_POINTER, EVH_DOUBLE_FREE, EVH_INVALID (null slot), EVH_READ_ONLY, EVH_FORKED.
 */
EVH_API evh_status evh_free_from(evh_heap *heap, evh_ref *slot);

/* ---- refs ----------------------------------------------------------------------------------- */

/* The first two members of every evh_heap, so that evh_at() is inline. Read them only there. */
struct evh_heap_view {
    unsigned char *base;
    uint64_t end_bytes;
};

/**
 * The address of what `ref` names, in this process. Asks: NULL for a null ref and for one outside
 * the heap. It does not check that a block begins there.
 */
static inline void *evh_at(const evh_heap *heap, evh_ref ref)
{
    const struct evh_heap_view *view = (const struct evh_heap_view *)(const void *)heap;
    const uint64_t end_bytes = __atomic_load_n(&view->end_bytes, __ATOMIC_RELAXED);
    return ref.offset - 1 < end_bytes - 1 ? view->base + ref.offset : NULL;
}

/** The ref of an address in the heap. Asks: a null ref for NULL and for an address outside it. */
static inline evh_ref evh_ref_to(const evh_heap *heap, const void *address)
{
    const struct evh_heap_view *view = (const struct evh_heap_view *)(const void *)heap;
    evh_ref ref = {(uint64_t)((uintptr_t)address - (uintptr_t)view->base)};
    if (ref.offset - 1 >= __atomic_load_n(&view->end_bytes, __ATOMIC_RELAXED) - 1) ref.offset = 0;
    return ref;
}

/** The open heap that `address` lies in, borrowed until it is closed. NULL if in none. */
EVH_API evh_heap *evh_heap_of(const void *address);

/**
 * Declare a type and its ref: EVH_REF(note) declares `note` (a struct you define), `note_ref`,
 * `note_at(heap, ref)` and `note_ref_to(heap, pointer)`, so that the compiler tells a ref to a note
 * from a ref to anything else.
 */
#define EVH_REF(type)                                                                              \
    typedef struct type type;                                                                      \
    typedef struct type##_ref {                                                                    \
        uint64_t offset;                                                                           \
    } type##_ref;                                                                                  \
    static inline type *type##_at(const evh_heap *heap, type##_ref ref)                            \
    {                                                                                              \
        evh_ref plain;                                                                             \
        plain.offset = ref.offset;                                                                 \
        return (type *)evh_at(heap, plain);                                                        \
    }                                                                                              \
    static inline type##_ref type##_ref_to(const evh_heap *heap, const type *pointer)              \
    {                                                                                              \
        type##_ref ref;                                                                            \
        ref.offset = evh_ref_to(heap, pointer).offset;                                             \
        return ref;                                                                                \
    }                                                                                              \
    struct type##_ref /* the macro ends in a declaration: write a semicolon after it */

/* ---- version -------------------------------------------------------------------------------- */

/** The version of the library that is linked, such as "0.1.0". Static. */
EVH_API const char *evh_version(void);

#ifdef __cplusplus
}
#endif

#include <everheap/inspect.h>
#include <everheap/live.h>

#endif
