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

/* Held across a fork, so that the child does not get a lock whose holder it does not have. */
static void start_before_fork(void)
{
    heap_lock_take(&preload_heap->slices.lock);
    own_lock();
}

static void start_after_fork(void)
{
    own_unlock();
    heap_lock_drop(&preload_heap->slices.lock);
}

/* A file is its parent's: the child goes on in memory. */
static void start_in_child(void)
{
    start_after_fork();
    if (preload_heap == &preload_nobody || preload_heap->mode == EVH_MEMORY) return;
    preload_inherited = preload_heap;
    preload_heap = &preload_nobody;
    start_is_begun = 0;
    heap_thread.stamp = 0;
    heap_thread.cache = &threads_nobody;
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
    if (!start_expand(format, path)) return NULL;
    const evh_options options = {.must_create = true, .no_thread = true, .debug = ""};
    evh_heap *heap = evh_open(path, &options);
    if (!heap)
        (void)dprintf(STDERR_FILENO, "everheap: EVERHEAP_FILE: %s; memory is used instead\n",
                      evh_last_error()->message);
    return heap;
}

/* As large as the limits of the process allow. */
static evh_heap *start_open_memory(void)
{
    evh_heap *heap = NULL;
    const char *wants = getenv("EVERHEAP_CHECK");
    const bool check = wants && *wants && strcmp(wants, "0") != 0;
    const evh_options options = {.debug = ""}; /* EVERHEAP_DEBUG is for the program's own heaps */
    for (uint64_t size = 1ull << 40; !heap && size >= 1ull << 24; size >>= 2)
        heap = check ? evh_open_memory(NULL, size, &options) : heap_open_magazines(size, &options);
    return heap;
}

/* NULL: another thread is at it, or there is no memory. */
static evh_heap *start_open(void)
{
    if (__atomic_exchange_n(&start_is_begun, 1, __ATOMIC_ACQUIRE)) return NULL;
    /* Before those of the library, which in the child run after this one and need its locks. */
    static bool is_watching_forks;
    if (!is_watching_forks)
        (void)pthread_atfork(start_before_fork, start_after_fork, start_in_child);
    is_watching_forks = true;
    const char *file = preload_inherited ? NULL : getenv("EVERHEAP_FILE");
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
