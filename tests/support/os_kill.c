/* os_kill.c -- the real system, in which the process is killed at its n-th call. */
#include "support/os_kill.h"

#include <signal.h>
#include <unistd.h>

static uint64_t calls_left; /* until the kill; 0: none is planned */

__attribute__((noreturn)) static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Background threads call too. */
static bool is_last_call(void)
{
    uint64_t left = __atomic_load_n(&calls_left, __ATOMIC_RELAXED);
    while (left > 0 && !__atomic_compare_exchange_n(&calls_left, &left, left - 1, false,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return left == 1;
}

static int kill_publish(int file, const char *path, bool replace)
{
    if (is_last_call()) die();
    return os_linux()->publish(file, path, replace);
}

static int kill_close(int file)
{
    if (is_last_call()) die();
    return os_linux()->close(file);
}

static int kill_write(int file, uint64_t offset, const void *data, size_t size)
{
    if (is_last_call()) {
        (void)os_linux()->write(file, offset, data, size / 2);
        die();
    }
    return os_linux()->write(file, offset, data, size);
}

static int kill_write_sync(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                           bool *flush_failed)
{
    if (is_last_call()) {
        if (count > 0) (void)os_linux()->write(file, offset, parts[0].data, parts[0].size / 2);
        die();
    }
    const int error = os_linux()->write_sync(file, offset, parts, count, flush_failed);
    if (is_last_call()) die();
    return error;
}

static int kill_flush(int file)
{
    if (is_last_call()) die();
    return os_linux()->flush(file);
}

static int kill_allocate(int file, uint64_t offset, uint64_t size)
{
    if (is_last_call()) {
        (void)os_linux()->allocate(file, offset, size / 2 + 1);
        die();
    }
    return os_linux()->allocate(file, offset, size);
}

static int kill_punch(int file, uint64_t offset, uint64_t size)
{
    if (is_last_call()) die();
    return os_linux()->punch(file, offset, size);
}

static int kill_truncate(int file, uint64_t size)
{
    if (is_last_call()) die();
    return os_linux()->truncate(file, size);
}

static int kill_lock(int file, uint64_t offset, uint64_t size, enum os_lock_kind kind)
{
    const int error = os_linux()->lock(file, offset, size, kind);
    if (is_last_call()) die();
    return error;
}

static int kill_map(void *address, uint64_t size, enum os_map_kind kind, int file, uint64_t offset)
{
    if (is_last_call()) die();
    return os_linux()->map(address, size, kind, file, offset);
}

void os_kill_use(void)
{
    static struct os_calls calls;
    calls = *os_linux();
    calls.publish = kill_publish;
    calls.close = kill_close;
    calls.write = kill_write;
    calls.write_sync = kill_write_sync;
    calls.flush = kill_flush;
    calls.allocate = kill_allocate;
    calls.punch = kill_punch;
    calls.truncate = kill_truncate;
    calls.lock = kill_lock;
    calls.map = kill_map;
    os_kill_at(0);
    os_use(&calls);
}

void os_kill_at(uint64_t n)
{
    __atomic_store_n(&calls_left, n, __ATOMIC_RELAXED);
}
