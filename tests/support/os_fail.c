/* os_fail.c -- the real system, whose n-th call fails. */
#include "support/os_fail.h"

#include <errno.h>
#include <stdlib.h>

static struct {
    unsigned kinds;
    uint64_t wanted, calls;
    int error;
    bool is_sticky, struck, is_killed;
    const char *name;
    struct os_fail_account account;
} plan;

/* Background threads call too: the counters are atomic, the plan is made while they rest. */
static void account_add(int64_t *counter, int64_t change)
{
    __atomic_fetch_add(counter, change, __ATOMIC_RELAXED);
}

static bool is_killed(void)
{
    return __atomic_load_n(&plan.is_killed, __ATOMIC_RELAXED);
}

static int fails(unsigned kind, const char *name)
{
    if (!(plan.kinds & kind) || is_killed()) return 0;
    const uint64_t call = __atomic_add_fetch(&plan.calls, 1, __ATOMIC_RELAXED);
    if (plan.wanted == 0 || call < plan.wanted) return 0;
    if (call > plan.wanted && !plan.is_sticky) return 0;
    __atomic_store_n(&plan.name, name, __ATOMIC_RELAXED);
    __atomic_store_n(&plan.struck, true, __ATOMIC_RELAXED);
    return plan.error;
}

#define FAIL(kind)                                                                                 \
    do {                                                                                           \
        const int failure = fails(kind, __func__);                                                 \
        if (failure) return failure;                                                               \
    } while (0)

/* ---- files ---- */

static int fail_open(const char *path, unsigned flags, unsigned permissions, int *file)
{
    FAIL(OS_FAIL_OPEN);
    const int error = os_linux()->open(path, flags, permissions, file);
    if (!error) account_add(&plan.account.files, 1);
    return error;
}

static int fail_open_temporary(const char *path, unsigned permissions, int *file)
{
    FAIL(OS_FAIL_OPEN);
    const int error = os_linux()->open_temporary(path, permissions, file);
    if (!error) account_add(&plan.account.files, 1);
    return error;
}

static int fail_publish(int file, const char *path, bool replace)
{
    FAIL(OS_FAIL_OPEN);
    return is_killed() ? EIO : os_linux()->publish(file, path, replace);
}

static int fail_close(int file)
{
    const int error = os_linux()->close(file); /* it is closed all the same */
    account_add(&plan.account.files, -1);
    FAIL(OS_FAIL_CLOSE);
    return error;
}

static int fail_information(int file, struct os_file_info *info)
{
    FAIL(OS_FAIL_OPEN);
    return os_linux()->information(file, info);
}

static int fail_information_at(const char *path, struct os_file_info *info)
{
    FAIL(OS_FAIL_OPEN);
    return os_linux()->information_at(path, info);
}

static int fail_read(int file, uint64_t offset, void *buffer, size_t size, size_t *done)
{
    *done = 0;
    FAIL(OS_FAIL_READ);
    if (fails(OS_FAIL_SHORT, __func__)) size /= 2;
    return os_linux()->read(file, offset, buffer, size, done);
}

static int fail_write(int file, uint64_t offset, const void *data, size_t size)
{
    if (is_killed()) return EIO;
    const int failure = fails(OS_FAIL_WRITE, __func__);
    if (!failure) return os_linux()->write(file, offset, data, size);
    (void)os_linux()->write(file, offset, data, size / 2);
    return failure;
}

static int fail_write_sync(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                           bool *flush_failed)
{
    *flush_failed = false;
    if (is_killed()) return EIO;
    const int write_failure = fails(OS_FAIL_WRITE, __func__);
    if (write_failure) {
        if (count > 0) (void)os_linux()->write(file, offset, parts[0].data, parts[0].size / 2);
        return write_failure;
    }
    const int flush_failure = fails(OS_FAIL_FLUSH, __func__);
    const int error = os_linux()->write_sync(file, offset, parts, count, flush_failed);
    *flush_failed = *flush_failed || flush_failure;
    return flush_failure ? flush_failure : error;
}

static int fail_flush(int file)
{
    if (is_killed()) return EIO;
    FAIL(OS_FAIL_FLUSH);
    return os_linux()->flush(file);
}

static int fail_flush_directory(const char *path)
{
    if (is_killed()) return EIO;
    FAIL(OS_FAIL_FLUSH);
    return os_linux()->flush_directory(path);
}

static int fail_allocate(int file, uint64_t offset, uint64_t size)
{
    if (is_killed()) return EIO;
    FAIL(OS_FAIL_SPACE);
    return os_linux()->allocate(file, offset, size);
}

static int fail_punch(int file, uint64_t offset, uint64_t size)
{
    if (is_killed()) return EIO;
    FAIL(OS_FAIL_SPACE);
    return os_linux()->punch(file, offset, size);
}

static int fail_truncate(int file, uint64_t size)
{
    if (is_killed()) return EIO;
    FAIL(OS_FAIL_SPACE);
    return os_linux()->truncate(file, size);
}

static int fail_find_hole(int file, uint64_t offset, uint64_t size, uint64_t *hole)
{
    FAIL(OS_FAIL_SPACE);
    return os_linux()->find_hole(file, offset, size, hole);
}

static int fail_lock(int file, uint64_t offset, uint64_t size, enum os_lock_kind kind)
{
    if (kind != OS_UNLOCK) FAIL(OS_FAIL_OPEN);
    return os_linux()->lock(file, offset, size, kind);
}

static int fail_lock_is_taken(int file, uint64_t offset, uint64_t size, bool *taken)
{
    FAIL(OS_FAIL_OPEN);
    return os_linux()->lock_is_taken(file, offset, size, taken);
}

/* ---- maps ---- */

static int fail_reserve(uint64_t size, uint64_t alignment, uint64_t preferred, void **address)
{
    FAIL(OS_FAIL_MAP);
    const int error = os_linux()->reserve(size, alignment, preferred, address);
    if (!error) account_add(&plan.account.reservations, 1);
    return error;
}

static int fail_map(void *address, uint64_t size, enum os_map_kind kind, int file, uint64_t offset)
{
    FAIL(OS_FAIL_MAP);
    return os_linux()->map(address, size, kind, file, offset);
}

static int fail_protect(void *address, uint64_t size, bool writable)
{
    FAIL(OS_FAIL_MAP);
    return os_linux()->protect(address, size, writable);
}

static int fail_discard(void *address, uint64_t size)
{
    FAIL(OS_FAIL_MAP);
    return os_linux()->discard(address, size);
}

static int fail_release(void *address, uint64_t size)
{
    account_add(&plan.account.reservations, -1);
    return os_linux()->release(address, size);
}

/* ---- dirty pages ---- */

static int fail_watch_open(void *base, uint64_t reserved_bytes, evh_detect detect, bool guards,
                           struct os_watch **watch)
{
    FAIL(OS_FAIL_MAP);
    const int error = os_linux()->watch_open(base, reserved_bytes, detect, guards, watch);
    if (!error) account_add(&plan.account.watches, 1);
    return error;
}

static void fail_watch_close(struct os_watch *watch)
{
    if (watch) account_add(&plan.account.watches, -1);
    os_linux()->watch_close(watch);
}

static int fail_watch_add(struct os_watch *watch, uint64_t offset, uint64_t size)
{
    FAIL(OS_FAIL_MAP);
    return os_linux()->watch_add(watch, offset, size);
}

static int fail_watch_collect(struct os_watch *watch, uint64_t end, const struct os_pages **runs,
                              size_t *run_count, bool *is_exact)
{
    /* Only ENOMEM may leave it undone: the contract says what happens then. */
    if (fails(OS_FAIL_MAP, __func__)) {
        *runs = NULL;
        *run_count = 0;
        *is_exact = false;
        return ENOMEM;
    }
    return os_linux()->watch_collect(watch, end, runs, run_count, is_exact);
}

/* ---- memory and threads ---- */

static int fail_memory_map(uint64_t size, bool is_stack, void **address)
{
    FAIL(OS_FAIL_MEMORY);
    const int error = os_linux()->memory_map(size, is_stack, address);
    if (!error) account_add(&plan.account.reservations, 1);
    return error;
}

static int fail_guard(void *address, uint64_t size, enum os_guard_kind kind)
{
    FAIL(OS_FAIL_MEMORY);
    return os_linux()->guard(address, size, kind);
}

static int fail_guard_marks(void *first, uint64_t size, uint64_t stride, unsigned count)
{
    FAIL(OS_FAIL_MEMORY);
    return os_linux()->guard_marks(first, size, stride, count);
}

static void *fail_memory_allocate(size_t size)
{
    if (fails(OS_FAIL_MEMORY, __func__)) return NULL;
    void *memory = os_linux()->memory_allocate(size);
    if (memory) account_add(&plan.account.memory, 1);
    return memory;
}

static void *fail_memory_resize(void *memory, size_t size)
{
    if (fails(OS_FAIL_MEMORY, __func__)) return NULL;
    void *resized = os_linux()->memory_resize(memory, size);
    if (resized && !memory) account_add(&plan.account.memory, 1);
    return resized;
}

static void fail_memory_free(void *memory)
{
    if (memory) account_add(&plan.account.memory, -1);
    os_linux()->memory_free(memory);
}

static int fail_mutex_create(struct os_mutex **mutex)
{
    FAIL(OS_FAIL_MEMORY);
    const int error = os_linux()->mutex_create(mutex);
    if (!error) account_add(&plan.account.mutexes, 1);
    return error;
}

static void fail_mutex_end(struct os_mutex *mutex)
{
    if (mutex) account_add(&plan.account.mutexes, -1);
    os_linux()->mutex_end(mutex);
}

static int fail_thread_start(void (*run)(void *), void *context, struct os_thread **thread)
{
    FAIL(OS_FAIL_THREAD);
    return os_linux()->thread_start(run, context, thread);
}

/* ---- control ---- */

void os_fail_use(void)
{
    static struct os_calls calls;
    calls = *os_linux();
    calls.open = fail_open;
    calls.open_temporary = fail_open_temporary;
    calls.publish = fail_publish;
    calls.close = fail_close;
    calls.information = fail_information;
    calls.information_at = fail_information_at;
    calls.read = fail_read;
    calls.write = fail_write;
    calls.write_sync = fail_write_sync;
    calls.flush = fail_flush;
    calls.flush_directory = fail_flush_directory;
    calls.allocate = fail_allocate;
    calls.punch = fail_punch;
    calls.truncate = fail_truncate;
    calls.find_hole = fail_find_hole;
    calls.lock = fail_lock;
    calls.lock_is_taken = fail_lock_is_taken;
    calls.reserve = fail_reserve;
    calls.map = fail_map;
    calls.protect = fail_protect;
    calls.discard = fail_discard;
    calls.release = fail_release;
    calls.watch_open = fail_watch_open;
    calls.watch_close = fail_watch_close;
    calls.watch_add = fail_watch_add;
    calls.watch_collect = fail_watch_collect;
    calls.memory_map = fail_memory_map;
    calls.guard = fail_guard;
    calls.guard_marks = fail_guard_marks;
    calls.memory_allocate = fail_memory_allocate;
    calls.memory_resize = fail_memory_resize;
    calls.memory_free = fail_memory_free;
    calls.mutex_create = fail_mutex_create;
    calls.mutex_end = fail_mutex_end;
    calls.thread_start = fail_thread_start;
    memset(&plan, 0, sizeof plan);
    os_use(&calls);
}

void os_fail_end(void)
{
    os_use(NULL);
}

void os_fail_at(unsigned kinds, uint64_t n, int error, bool is_sticky)
{
    plan.kinds = kinds;
    plan.wanted = n;
    plan.calls = 0;
    plan.error = error;
    plan.is_sticky = is_sticky;
    plan.struck = plan.is_killed = false;
    plan.name = "nothing";
}

uint64_t os_fail_calls(void)
{
    return __atomic_load_n(&plan.calls, __ATOMIC_RELAXED);
}

bool os_fail_struck(void)
{
    return __atomic_load_n(&plan.struck, __ATOMIC_RELAXED);
}

const char *os_fail_name(void)
{
    return plan.name;
}

void os_fail_kill(void)
{
    __atomic_store_n(&plan.is_killed, true, __ATOMIC_RELAXED);
}

void os_fail_revive(void)
{
    __atomic_store_n(&plan.is_killed, false, __ATOMIC_RELAXED);
}

struct os_fail_account os_fail_account(void)
{
    return plan.account;
}
