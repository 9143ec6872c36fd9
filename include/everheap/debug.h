/* debug.h -- finding misuse of heaps, arenas, pools and stacks; watching a heap while it runs. */
#ifndef EVERHEAP_DEBUG_H
#define EVERHEAP_DEBUG_H

#include <everheap/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Debugging is chosen when an object is made: by the letters in its option `debug`, or, where that
 * is NULL, in the environment variable EVERHEAP_DEBUG. An object without letters costs nothing.
 * A live heap has none but O, S and R: EVH_MODE for the option, what else the environment says is
 * not meant for it. Its log is in the heap: evh_debug_heap_log().
 *
 *   C    canaries behind blocks (before them too in arenas and pools): EVH_OVERWRITTEN at the
 *        block's free and at each verification
 *   J    junk in new and in freed memory; freed memory that changed is EVH_OVERWRITTEN when it is
 *        used again
 *   Q    quarantine: a freed block is used again only after 256 others (Q<n>: n) were freed
 *   G    a guard page behind each block of a volatile pool: an overflow faults where it happens.
 *        Behind the last page of each block of a heap in memory, or opened with EVH_PRIVATE: so
 *        does an overflow that leaves that page, and any access to a block in quarantine. EVH_MODE
 *        for other heaps, if it is the option that asks for it
 *   S    sites: messages name where a block was made and freed; see EVH_DEBUG_SITES
 *   L    a report of leaks when the object is closed
 *   V    validate pointers and marks exactly, also where the normal way takes them on trust
 *   O    log operations in a ring; EVERHEAP_DEBUG_LOG=PATH keeps it in a file that survives the
 *        process; a live heap's is in the heap
 *   X<n> verify everything after each n operations (X: 1000)
 *   R    report only: a misuse sets the last error and does not abort (as EVH_MISUSE_STATUS)
 *   A    all of C J Q S L V
 *
 * In a program that is compiled for AddressSanitizer or runs under Valgrind, a heap, arena, pool or
 * stack tells them what may be touched, whatever the letters: bytes behind what was asked for, and
 * what was freed, may not. (Not of blocks in live heaps, in small heaps and in the caller's
 * buffers; a freed block's place may be another's soon: letter Q delays that.)
 */

/**
 * Name the place from which this thread's next operation is called. The string is kept, not copied.
 * Compile with -DEVH_DEBUG_SITES, and the calls below do it by themselves with file and line.
 */
EVH_API void evh_debug_here(const char *site);

/**
 * Verify every block, canary and byte of quarantine of a heap that is debugged; EVH_OK for others.
 * Errors    EVH_OVERWRITTEN, as a misuse: see evh_misuse.
 * Threads   per heap: no other thread may allocate or free meanwhile.
 */
EVH_API evh_status evh_debug_check(evh_heap *heap);

/** What is known of a region of memory. */
typedef struct evh_debug_region {
    evh_ref block;    /* the live block that it lies in; null: none */
    size_t size;      /* of that block */
    size_t offset;    /* of the region in it */
    const char *site; /* where it was made; "?" if that is not known */
} evh_debug_region;

/**
 * Find out whether [address, address + size) lies in one live block of the heap. `region` may be
 * NULL. For any heap, debugged or not.
 * Errors    EVH_BAD_POINTER (no live block holds it all).
 * Threads   per heap: no other thread may allocate or free meanwhile.
 * Cost      the number of live blocks in the worst case.
 */
EVH_API evh_status evh_debug_validate(evh_heap *heap, const void *address, size_t size,
                                      evh_debug_region *region);

typedef struct evh_debug_leak {
    void *address;
    evh_ref ref;
    size_t size;
    const char *site;
    uint64_t operation; /* the number of the call that made it, in this process */
} evh_debug_leak;

/** Called for each leak; returns false to stop. */
typedef bool evh_debug_leak_visit(const evh_debug_leak *leak, void *context);

/**
 * Visit the blocks that this process allocated in a debugged heap, that are live, and that no ref
 * in a live block or root names. Returns how many.
 * Threads   per heap: no other thread may use it meanwhile.
 * Cost      reads every live block.
 */
EVH_API uint64_t evh_debug_leaks(evh_heap *heap, evh_debug_leak_visit *visit, void *context);

typedef struct evh_debug_operation {
    uint64_t number; /* from 1, in the process; in a live heap's log, of all processes */
    char operation[8];
    char object[32];  /* its name */
    uint64_t address; /* in a live heap's log: the ref */
    uint64_t size;
    uint32_t thread; /* from 1, in the process */
    uint32_t process;
    char site[56];
} evh_debug_operation;

/** Called for each operation; returns false to stop. */
typedef bool evh_debug_operation_visit(const evh_debug_operation *operation, void *context);

/**
 * Visit the logged operations, oldest first: of this process where `path` is NULL, else those that
 * a process, dead or alive, left in the file.
 * Errors    EVH_NOT_FOUND, EVH_IO, EVH_CORRUPT (no log).
 */
EVH_API evh_status evh_debug_log(const char *path, evh_debug_operation_visit *visit, void *context);

/* The tag of the root that holds a live heap's log. */
#define EVH_DEBUG_LOG_TAG 0x45564f2d474f4c31u

/**
 * Visit the last 2048 operations that are logged in a live heap (letter O), by all processes,
 * oldest first. The log is part of the heap: it survives every process, and can be read by another
 * one, also from a copy or read-only. An operation that a process was killed in may be missing.
 * Errors    EVH_NOT_FOUND (nothing was ever logged there), EVH_CORRUPT, EVH_INVALID.
 * Threads   any.
 */
EVH_API evh_status evh_debug_heap_log(evh_heap *heap, evh_debug_operation_visit *visit,
                                      void *context);

/* ---- watching a heap ------------------------------------------------------------------------ */

enum { EVH_MONITOR_SIZES = 32 };

typedef struct evh_monitor {
    uint64_t live_blocks, live_bytes;
    uint64_t peak_bytes;     /* the most that was live at any call on this monitor */
    uint64_t heap_bytes;     /* up to the highest slice ever used */
    uint64_t free_bytes;     /* whole free slices in it */
    uint64_t metadata_bytes; /* headers, journal, descriptors, bitmaps, checksums */
    double fragmentation;    /* 1 - largest free run / free bytes; 0 if nothing is free */
    double utilisation;      /* live bytes / bytes that are neither free nor metadata */
    uint64_t commits, commit_sequence;
    uint64_t size_blocks[EVH_MONITOR_SIZES]; /* live blocks of 2^(i-1) < bytes <= 2^i */
    uint64_t allocations, frees;             /* of a debugged heap, in this process; else 0 */
} evh_monitor;

/**
 * Fill `monitor`; zero it before the first call. Works on any heap, also on one that another
 * process writes, opened read-only (evh_refresh() moves on).
 * Errors    EVH_INVALID, EVH_CORRUPT.
 * Threads   per heap: no other thread may allocate or free meanwhile.
 * Cost      2 ns for each live block.
 */
EVH_API evh_status evh_monitor_read(evh_heap *heap, evh_monitor *monitor);

/** Write the monitor as OpenMetrics text, all of it or as much as fits with a terminating zero.
 *  Returns the bytes of the whole text, as snprintf(). `heap_label` is the label's value. */
EVH_API size_t evh_monitor_text(const evh_monitor *monitor, const char *heap_label, char *buffer,
                                size_t size);

#ifdef __cplusplus
}
#endif

/* ---- sites ---------------------------------------------------------------------------------- */

#define EVH_SITE_TEXT_(line) #line
#define EVH_SITE_TEXT(line) EVH_SITE_TEXT_(line)
/** The place in the source where this stands. */
#define EVH_SITE __FILE__ ":" EVH_SITE_TEXT(__LINE__)

#ifdef EVH_DEBUG_SITES
#include <everheap/arena.h> /* before its names are macros */
#define evh_malloc(heap, size) (evh_debug_here(EVH_SITE), evh_malloc(heap, size))
#define evh_calloc(heap, count, size) (evh_debug_here(EVH_SITE), evh_calloc(heap, count, size))
#define evh_realloc(heap, block, size) (evh_debug_here(EVH_SITE), evh_realloc(heap, block, size))
#define evh_aligned_alloc(heap, alignment, size)                                                   \
    (evh_debug_here(EVH_SITE), evh_aligned_alloc(heap, alignment, size))
#define evh_free(heap, block) (evh_debug_here(EVH_SITE), evh_free(heap, block))
#define evh_malloc_to(heap, slot, size) (evh_debug_here(EVH_SITE), evh_malloc_to(heap, slot, size))
#define evh_free_from(heap, slot) (evh_debug_here(EVH_SITE), evh_free_from(heap, slot))
#define evh_arena_alloc(arena, size, alignment)                                                    \
    (evh_debug_here(EVH_SITE), evh_arena_alloc(arena, size, alignment))
#define evh_pool_get(pool) (evh_debug_here(EVH_SITE), evh_pool_get(pool))
#define evh_pool_put(pool, block) (evh_debug_here(EVH_SITE), evh_pool_put(pool, block))
#define evh_stack_get(stacks) (evh_debug_here(EVH_SITE), evh_stack_get(stacks))
#define evh_stack_put(stacks, stack) (evh_debug_here(EVH_SITE), evh_stack_put(stacks, stack))
#endif

#endif
