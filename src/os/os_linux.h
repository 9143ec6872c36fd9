/* os_linux.h -- the functions behind the table of the real system, one group for each file. */
#ifndef EVERHEAP_OS_OS_LINUX_H
#define EVERHEAP_OS_OS_LINUX_H

#include "os/os.h"

#include <pthread.h>

/*
 * At the head of a function that makes system calls at which a thread may be cancelled: it is not,
 * there. The library holds locks around them, has written half of something, or owns what they
 * return.
 */
#define OS_UNCANCELLED                                                                             \
    int cancel_state __attribute__((unused, cleanup(os_cancel_as_before))) = os_cancel_never()

static inline int os_cancel_never(void)
{
    int before = PTHREAD_CANCEL_ENABLE;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

static inline void os_cancel_as_before(const int *before)
{
    (void)pthread_setcancelstate(*before, NULL);
}

/* The table (os_linux.c). What each function promises stands in os.h. */
EVH_INTERNAL_DATA const struct os_calls os_linux_calls;

/* os_linux_file.c, os_linux_write.c */
EVH_INTERNAL_DATA size_t os_write_chunk_bytes; /* the most that one call moves */
EVH_INTERNAL int os_file_open(const char *path, unsigned flags, unsigned permissions, int *file);
EVH_INTERNAL int os_file_close(int file);
EVH_INTERNAL int os_file_information(int file, struct os_file_info *info);
EVH_INTERNAL int os_file_information_at(const char *path, struct os_file_info *info);
EVH_INTERNAL int os_file_read(int file, uint64_t offset, void *buffer, size_t size, size_t *done);
EVH_INTERNAL int os_file_write(int file, uint64_t offset, const void *data, size_t size);
EVH_INTERNAL int os_file_write_sync(int file, uint64_t offset, const struct os_part *parts,
                                    unsigned count, bool *flush_failed);
EVH_INTERNAL int os_file_flush(int file);
EVH_INTERNAL int os_file_flush_directory(const char *path);
EVH_INTERNAL void os_file_write_back(int file, uint64_t offset, uint64_t size);
EVH_INTERNAL void os_file_drop_cache(int file, uint64_t offset, uint64_t size);
EVH_INTERNAL int os_file_allocate(int file, uint64_t offset, uint64_t size);
EVH_INTERNAL int os_file_punch(int file, uint64_t offset, uint64_t size);
EVH_INTERNAL int os_file_truncate(int file, uint64_t size);
EVH_INTERNAL int os_file_remove(const char *path);
EVH_INTERNAL int os_file_find_hole(int file, uint64_t offset, uint64_t size, uint64_t *hole);
EVH_INTERNAL int os_file_lock(int file, uint64_t offset, uint64_t size, enum os_lock_kind kind);
EVH_INTERNAL int os_file_lock_is_taken(int file, uint64_t offset, uint64_t size, bool *taken);
/** Whether a file of so many bytes is above RLIMIT_FSIZE. There the system sends a signal that ends
 *  the process before it answers EFBIG: so the answer is given without asking it. */
EVH_INTERNAL bool os_file_is_over_limit(uint64_t end_bytes);
/** What os_file_allocate() does where the file system cannot: write zeroes into the holes. */
EVH_INTERNAL int os_file_allocate_by_writing(int file, uint64_t offset, uint64_t size);
/** The directory of `path`, to free(); NULL without memory. */
EVH_INTERNAL char *os_file_directory(const char *path);
/** Whether the file system of an open file lives on another machine (os_linux_network.c). */
EVH_INTERNAL bool os_file_is_network(int file);

/* os_linux_temporary.c */
EVH_INTERNAL int os_temporary_open(const char *path, unsigned permissions, int *file);
/** As it does where there are no nameless files. */
EVH_INTERNAL int os_temporary_open_named(const char *path, unsigned permissions, int *file);
EVH_INTERNAL int os_temporary_publish(int file, const char *path, bool replace);
/** `file` is about to be closed: if it still has its temporary name, remove that. */
EVH_INTERNAL void os_temporary_forget(int file);

/* os_linux_map.c */
EVH_INTERNAL int os_map_reserve(uint64_t size, uint64_t alignment, uint64_t preferred,
                                void **address);
EVH_INTERNAL int os_map_map(void *address, uint64_t size, enum os_map_kind kind, int file,
                            uint64_t offset);
EVH_INTERNAL int os_map_protect(void *address, uint64_t size, bool writable);
EVH_INTERNAL void os_map_expect_scattered(void *address, uint64_t size);
EVH_INTERNAL int os_map_discard(void *address, uint64_t size);
EVH_INTERNAL int os_map_release(void *address, uint64_t size);
/** madvise() whose effect is relied on: EINVAL where the system takes any advice and follows
 *  none. */
EVH_INTERNAL int os_map_advise(void *address, uint64_t size, int advice);

/* os_linux_guard.c */
EVH_INTERNAL int os_guard_map(uint64_t size, bool is_stack, void **address);
EVH_INTERNAL int os_guard_set(void *address, uint64_t size, enum os_guard_kind kind);
EVH_INTERNAL int os_guard_set_marks(void *first, uint64_t size, uint64_t stride, unsigned count);
EVH_INTERNAL void os_guard_discard_later(void *address, uint64_t size);
EVH_INTERNAL int os_guard_find_resident(void *address, uint64_t size, uint64_t *offset);

/* os_linux_fault.c */
struct sigaction;
/** Give a signal to whom it would have gone without us: the handler that was there `before`.
 *  `info` is its siginfo_t. */
EVH_INTERNAL void os_signal_pass_on(const struct sigaction *before, int number, void *info,
                                    void *context);

/* os_linux_thread.c */
EVH_INTERNAL void *os_memory_allocate(size_t size);
EVH_INTERNAL void *os_memory_resize(void *memory, size_t size);
EVH_INTERNAL void os_memory_free(void *memory);
EVH_INTERNAL int os_mutex_create(struct os_mutex **mutex);
EVH_INTERNAL void os_mutex_end(struct os_mutex *mutex);
EVH_INTERNAL void os_mutex_lock(struct os_mutex *mutex);
EVH_INTERNAL void os_mutex_unlock(struct os_mutex *mutex);
EVH_INTERNAL void os_mutex_wait(struct os_mutex *mutex);
EVH_INTERNAL void os_mutex_signal(struct os_mutex *mutex);
EVH_INTERNAL int os_thread_start(void (*run)(void *), void *context, struct os_thread **thread);
EVH_INTERNAL void os_thread_join(struct os_thread *thread);
EVH_INTERNAL void os_thread_wait(uint32_t *word, uint32_t value);
EVH_INTERNAL void os_thread_wake(uint32_t *word);
EVH_INTERNAL void os_thread_pause(uint64_t nanoseconds);
EVH_INTERNAL int os_thread_barrier_all(void);
EVH_INTERNAL void os_random(void *buffer, size_t size);
EVH_INTERNAL uint64_t os_time_ns(void);
EVH_INTERNAL bool os_boot(uint8_t id[16]);
EVH_INTERNAL uint64_t os_process(void);

/** The lock of what is one for the process (lists, handlers). Whole across fork(). */
EVH_INTERNAL void os_process_lock(void);
EVH_INTERNAL void os_process_unlock(void);

/* os_watch.c */
EVH_INTERNAL int os_watch_open(void *base, uint64_t reserved_bytes, evh_detect detect, bool guards,
                               struct os_watch **watch);
EVH_INTERNAL void os_watch_close(struct os_watch *watch);
EVH_INTERNAL evh_detect os_watch_tier(const struct os_watch *watch);
EVH_INTERNAL int os_watch_add(struct os_watch *watch, uint64_t offset, uint64_t size);
EVH_INTERNAL int os_watch_collect(struct os_watch *watch, uint64_t end,
                                  const struct os_pages **runs, size_t *run_count, bool *is_exact);
EVH_INTERNAL void os_watch_discarded(struct os_watch *watch, uint64_t offset, uint64_t size);
EVH_INTERNAL int os_watch_touch(struct os_watch *watch, uint64_t offset, uint64_t size);

#endif
