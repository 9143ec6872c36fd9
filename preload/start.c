/* start.c -- the process's heap: opened by the first allocation, through forks, to the exit.
 *
 * The first allocation may come before any constructor has run, and opening the heap makes the C
 * library allocate, as does attaching a thread. Both happen inside preload_enter(), which a thread
 * does not enter twice: what is asked for meanwhile lies in memory of its own (own.c).
 *
 *   EVERHEAP_FILE=path   the heap is a new file, committed when the process exits, for the tools to
 *                        look at; "%p" in the path is the process's number. If it cannot be made
 *                        the heap is in memory, and a message says why.
 *   EVERHEAP_STATS=1     print a summary when the process exits
 *   EVERHEAP_CHECK=1     no magazines: each free is checked exactly
 */
#include "preload.h"

#include <everheap/inspect.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { START_PATH_SIZE = 4096 };

EVH_INTERNAL evh_heap preload_nobody;
EVH_INTERNAL evh_heap *preload_heap = &preload_nobody;
EVH_INTERNAL evh_heap *preload_inherited;

static uint32_t start_is_begun; /* by one thread. Atomic. */
static _Thread_local bool start_is_inside __attribute__((tls_model("initial-exec")));

/* ---- forks ---- */

/*
 * The lock of glibc's list of streams. fork() takes it after our handlers have run, and its holder
 * may wait for a stream whose holder allocates (getline()): so it comes before the heap's, as
 * glibc takes it before those of its own malloc(). It is recursive, and exported though it is in no
 * header; other C libraries have none.
 */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

static bool start_has_stream_lock(void)
{
    return &_IO_list_lock != NULL && &_IO_list_unlock != NULL && &_IO_list_resetlock != NULL;
}

/* Held across a fork, so that the child does not get a lock whose holder it does not have. */
static void start_before_fork(void)
{
    if (start_has_stream_lock()) _IO_list_lock();
    heap_lock_take(&preload_heap->slices.lock);
    own_lock();
}

static void start_drop_locks(void)
{
    own_unlock();
    heap_lock_drop(&preload_heap->slices.lock);
}

static void start_in_parent(void)
{
    start_drop_locks();
    if (start_has_stream_lock()) _IO_list_unlock();
}

/* A file is its parent's: the child goes on in memory. */
static void start_in_child(void)
{
    start_drop_locks();
    if (start_has_stream_lock()) _IO_list_resetlock(); /* as fork() does beside other threads */
    if (preload_heap == &preload_nobody || preload_heap->mode == EVH_MEMORY) return;
    preload_inherited = preload_heap;
    preload_heap = &preload_nobody;
    start_is_begun = 0;
    heap_thread.stamp = 0;
    heap_thread.cache = &threads_nobody;
}

/*
 * Before all other constructors (the library is linked with -z initfirst), and so before any other
 * handler is set: ours runs last before the fork, and first after it. Handlers that allocate find
 * the heap's lock open. They are set before those of the library, too, which in the child need it.
 */
static __attribute__((constructor)) void start_watch_forks(void)
{
    static bool is_watching;
    if (is_watching) return;
    is_watching = true;
    (void)pthread_atfork(start_before_fork, start_in_parent, start_in_child);
}

/* ---- opening ---- */

/* The path in `format` with every "%p" replaced. False: too long. */
static bool start_expand(const char *format, char path[START_PATH_SIZE])
{
    size_t size = 0;
    while (*format) {
        if (format[0] == '%' && format[1] == 'p') {
            const int added = snprintf(path + size, START_PATH_SIZE - size, "%ld", (long)getpid());
            if (added < 0 || (size_t)added >= START_PATH_SIZE - size) return false;
            size += (size_t)added;
            format += 2;
        } else {
            if (size + 1 >= START_PATH_SIZE) return false;
            path[size++] = *format++;
        }
    }
    path[size] = 0;
    return true;
}

static evh_heap *start_open_file(const char *format)
{
    char path[START_PATH_SIZE];
    if (!start_expand(format, path)) {
        (void)dprintf(STDERR_FILENO,
                      "everheap: EVERHEAP_FILE: longer than %d bytes; memory is used instead\n",
                      START_PATH_SIZE - 1);
        return NULL;
    }
    const evh_options options = {.must_create = true, .no_thread = true, .debug = ""};
    evh_heap *heap = evh_open(path, &options);
    if (!heap)
        (void)dprintf(STDERR_FILENO, "everheap: EVERHEAP_FILE: %s; memory is used instead\n",
                      evh_last_error()->message);
    return heap;
}

/* As large as the limits of the process allow, with a quarter of them for everything else. */
static evh_heap *start_open_memory(void)
{
    enum { STEP_BYTES = 1 << 20 };
    evh_heap *heap = NULL;
    const char *wants = getenv("EVERHEAP_CHECK");
    const bool check = wants && *wants && strcmp(wants, "0") != 0;
    const evh_options options = {.debug = ""}; /* EVERHEAP_DEBUG is for the program's own heaps */
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    (void)getrlimit(RLIMIT_AS, &limit);
    uint64_t size = base_min(1ull << 40, limit.rlim_cur / 4 * 3);
    for (; !heap && size >= 1ull << 24; size = size / 4 * 3) {
        const uint64_t bytes = base_round_down(size, STEP_BYTES);
        heap =
            check ? evh_open_memory(NULL, bytes, &options) : heap_open_magazines(bytes, &options);
    }
    return heap;
}

/* NULL: another thread is at it, or there is no memory. */
static evh_heap *start_open(void)
{
    if (__atomic_exchange_n(&start_is_begun, 1, __ATOMIC_ACQUIRE)) return NULL;
    start_watch_forks(); /* the first allocation may come before any constructor */
    /* Not for a program that runs with rights which its caller has not. */
    const char *file = preload_inherited ? NULL : secure_getenv("EVERHEAP_FILE");
    evh_heap *heap = file && *file ? start_open_file(file) : NULL;
    if (!heap) heap = start_open_memory();
    if (heap) __atomic_store_n(&preload_heap, heap, __ATOMIC_RELEASE);
    return heap;
}

evh_heap *preload_enter(void)
{
    evh_heap *heap = __atomic_load_n(&preload_heap, __ATOMIC_ACQUIRE);
    if (LIKELY(heap != &preload_nobody && heap_thread.stamp == heap->stamp)) return heap;
    if (start_is_inside) return NULL;
    start_is_inside = true;
    if (heap == &preload_nobody) heap = start_open();
    if (heap && !threads_attach(heap)) heap = NULL;
    start_is_inside = false;
    return heap;
}

/* ---- the exit ---- */

static void start_print(const evh_info *info)
{
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    const double mib = 1024.0 * 1024.0;
    (void)dprintf(STDERR_FILENO,
                  "everheap: process %ld: heap %.1f MiB, of which free %.1f MiB in %llu runs\n"
                  "everheap: live at exit: %llu blocks, %.1f MiB; metadata %.2f MiB; "
                  "threads that allocated: %llu\n"
                  "everheap: peak memory of the process %.1f MiB; page faults %ld, %ld from disk\n",
                  (long)getpid(), (double)info->heap_bytes / mib, (double)info->free_bytes / mib,
                  (unsigned long long)info->free_runs, (unsigned long long)info->live_blocks,
                  (double)info->live_bytes / mib, (double)info->metadata_bytes / mib,
                  (unsigned long long)info->threads, (double)usage.ru_maxrss / 1024,
                  usage.ru_minflt, usage.ru_majflt);
}

static __attribute__((destructor)) void start_end(void)
{
    evh_heap *heap = __atomic_load_n(&preload_heap, __ATOMIC_ACQUIRE);
    const char *wants = getenv("EVERHEAP_STATS");
    evh_info info;
    if (heap == &preload_nobody) return;
    if (wants && *wants && strcmp(wants, "0") != 0 && !evh_get_info(heap, &info))
        start_print(&info);
    if (heap->mode != EVH_MEMORY && evh_commit(heap))
        (void)dprintf(STDERR_FILENO, "everheap: EVERHEAP_FILE: %s\n", evh_last_error()->message);
}
