/* os_linux_thread.c -- memory, mutexes, threads, waiting, random numbers, time, the process. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__has_include)
#if __has_include(<sys/single_threaded.h>) /* glibc 2.32 */
#include <sys/single_threaded.h>
#define HAS_SINGLE_THREADED 1
#endif
#endif

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

struct os_mutex {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
};

struct os_thread {
    pthread_t thread;
    void (*run)(void *);
    void *context;
};

EVH_INTERNAL void *os_memory_allocate(size_t size)
{
    return calloc(1, size != 0 ? size : 1);
}

EVH_INTERNAL void *os_memory_resize(void *memory, size_t size)
{
    return realloc(memory, size != 0 ? size : 1);
}

EVH_INTERNAL void os_memory_free(void *memory)
{
    free(memory);
}

/* ---- mutexes ---- */

EVH_INTERNAL int os_mutex_create(struct os_mutex **mutex)
{
    struct os_mutex *made = calloc(1, sizeof *made);
    if (made == NULL) return ENOMEM;
    int error = pthread_mutex_init(&made->mutex, NULL);
    if (error != 0) goto free_memory;
    error = pthread_cond_init(&made->condition, NULL);
    if (error != 0) goto end_mutex;
    *mutex = made;
    return 0;

end_mutex:
    pthread_mutex_destroy(&made->mutex);
free_memory:
    free(made);
    return error;
}

EVH_INTERNAL void os_mutex_end(struct os_mutex *mutex)
{
    if (mutex == NULL) return;
    pthread_cond_destroy(&mutex->condition);
    pthread_mutex_destroy(&mutex->mutex);
    free(mutex);
}

EVH_INTERNAL void os_mutex_lock(struct os_mutex *mutex)
{
    const int error = pthread_mutex_lock(&mutex->mutex);
    assert(error == 0);
    (void)error;
}

EVH_INTERNAL void os_mutex_unlock(struct os_mutex *mutex)
{
    const int error = pthread_mutex_unlock(&mutex->mutex);
    assert(error == 0);
    (void)error;
}

EVH_INTERNAL void os_mutex_wait(struct os_mutex *mutex)
{
    OS_UNCANCELLED;
    const int error = pthread_cond_wait(&mutex->condition, &mutex->mutex);
    assert(error == 0);
    (void)error;
}

EVH_INTERNAL void os_mutex_signal(struct os_mutex *mutex)
{
    const int error = pthread_cond_broadcast(&mutex->condition);
    assert(error == 0);
    (void)error;
}

/* ---- threads ---- */

#ifdef HAS_SINGLE_THREADED
EVH_INTERNAL const char *const os_single_threaded = &__libc_single_threaded;
#else
static const char thread_unknown = 0;
EVH_INTERNAL const char *const os_single_threaded = &thread_unknown;
#endif

static void *thread_main(void *context)
{
    struct os_thread *thread = context;
    thread->run(thread->context);
    return NULL;
}

EVH_INTERNAL int os_thread_start(void (*run)(void *), void *context, struct os_thread **thread)
{
    assert(run != NULL);

    struct os_thread *made = calloc(1, sizeof *made);
    if (made == NULL) return ENOMEM;
    made->run = run;
    made->context = context;

    /* The program's signal handlers run in the program's threads, never in ours. A fault must still
     * reach its handler: os_watch_protect.c lives from it. */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&made->thread, NULL, thread_main, made);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        free(made);
        return error == EAGAIN ? ENOMEM : error; /* EAGAIN here means: no resources */
    }
    *thread = made;
    return 0;
}

EVH_INTERNAL void os_thread_join(struct os_thread *thread)
{
    OS_UNCANCELLED;
    if (thread == NULL) return;
    const int error = pthread_join(thread->thread, NULL);
    assert(error == 0);
    (void)error;
    free(thread);
}

EVH_INTERNAL void os_thread_wait(uint32_t *word, uint32_t value)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

EVH_INTERNAL void os_thread_wake(uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

EVH_INTERNAL void os_thread_pause(uint64_t nanoseconds)
{
    OS_UNCANCELLED;
    const struct timespec time = {.tv_sec = (time_t)(nanoseconds / 1000000000u),
                                  .tv_nsec = (long)(nanoseconds % 1000000000u)};
    (void)nanosleep(&time, NULL);
}

static int thread_membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0) == 0 ? 0 : errno;
}

EVH_INTERNAL int os_thread_barrier_all(void)
{
    const int error = thread_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    if (error != EPERM) return error == EINVAL ? ENOSYS : error;
    /* EPERM: this process has not registered yet. */
    if (thread_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0) return ENOSYS;
    return thread_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0 ? 0 : ENOSYS;
}

/* ---- random numbers, time, the process ---- */

/* What is left when the system has no random numbers: distinct, not secret. */
static uint64_t random_weak(void)
{
    static uint64_t counter;
    const uint64_t count = __atomic_add_fetch(&counter, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
    uint64_t mixed = os_time_ns() ^ count ^ ((uint64_t)getpid() << 32) ^ (uintptr_t)&count;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

EVH_INTERNAL void os_random(void *buffer, size_t size)
{
    OS_UNCANCELLED;
    unsigned char *next = buffer;
    while (size > 0) {
        ssize_t got = getrandom(next, size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            const uint64_t weak = random_weak();
            got = (ssize_t)base_min(size, sizeof weak);
            memcpy(next, &weak, (size_t)got);
        }
        next += got;
        size -= (size_t)got;
    }
}

EVH_INTERNAL uint64_t os_time_ns(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0 || now.tv_sec < 0) return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The kernel draws a random UUID when it starts: 36 characters, of which the dashes say nothing. */
EVH_INTERNAL bool os_boot(uint8_t id[16])
{
    OS_UNCANCELLED;
    char text[37] = "";
    const int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    const ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    if (got < 36) return false;
    unsigned digits = 0;
    memset(id, 0, 16);
    for (unsigned i = 0; i < 36 && digits < 32; i++) {
        const char c = text[i];
        if (c == '-') continue;
        const int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (value < 0) return false;
        id[digits / 2] = (uint8_t)(id[digits / 2] << 4 | value);
        digits++;
    }
    return digits == 32;
}

/* A word that the kernel zeroes in every forked child, also one made without the C library's
 * fork(); NULL if there is none. Mapped once, kept until the process ends. */
static uint64_t *process_word;
static pthread_once_t process_word_once = PTHREAD_ONCE_INIT;

static void process_word_make(void)
{
    const size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return;
    if (os_map_advise(page, size, MADV_WIPEONFORK) != 0) {
        munmap(page, size);
        return;
    }
    process_word = page;
}

EVH_INTERNAL uint64_t os_process(void)
{
    pthread_once(&process_word_once, process_word_make);
    if (process_word == NULL) return (uint64_t)getpid();
    uint64_t process = __atomic_load_n(process_word, __ATOMIC_RELAXED);
    if (UNLIKELY(process == 0)) {
        process = (uint64_t)getpid();
        __atomic_store_n(process_word, process, __ATOMIC_RELAXED);
    }
    return process;
}

/* ---- what is one for the process ---- */

static pthread_mutex_t process_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t process_mutex_once = PTHREAD_ONCE_INIT;

static void process_mutex_lock(void)
{
    pthread_mutex_lock(&process_mutex);
}

static void process_mutex_unlock(void)
{
    pthread_mutex_unlock(&process_mutex);
}

/* A child must not inherit the mutex from a thread that it does not have. */
static void process_mutex_prepare(void)
{
    (void)pthread_atfork(process_mutex_lock, process_mutex_unlock, process_mutex_unlock);
}

EVH_INTERNAL void os_process_lock(void)
{
    pthread_once(&process_mutex_once, process_mutex_prepare);
    process_mutex_lock();
}

EVH_INTERNAL void os_process_unlock(void)
{
    process_mutex_unlock();
}

EVH_INTERNAL void os_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    enum { AT_FORK_MAX = 16 };
    static void (*known[AT_FORK_MAX])(void);

    assert(child != NULL);
    os_process_lock();
    unsigned index = 0;
    while (index < AT_FORK_MAX && known[index] != NULL && known[index] != child) index++;
    const bool is_new = !NEVER(index == AT_FORK_MAX) && known[index] == NULL;
    if (is_new) known[index] = child;
    os_process_unlock();
    /* Not under the lock, which fork() takes while it holds the C library's. */
    if (is_new) (void)pthread_atfork(prepare, parent, child);
}
