/* commit_floor.c -- the floor under every store: overwrite blocks of a file that has them all. */
#include "commit_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * As many 4 KiB blocks as the heap changes pages, one behind the other, in one system call, into
 * space that was written before; then their flush. Nothing that changes so many pages and keeps
 * whole pages can be faster; what keeps less than whole pages can.
 */
enum { FLOOR_BUFFER_BYTES = 1 << 20, FLOOR_PARTS_MAX = 1024 };

struct floor_thread {
    uint64_t first, end, at; /* its part of the file */
    unsigned char *buffer;
};

struct floor {
    int file;
    uint64_t size;
    struct floor_thread threads[STORE_THREADS_MAX];
};

static void floor_write(const struct floor *floor, struct floor_thread *thread, uint64_t size,
                        bool dsync)
{
    struct iovec parts[FLOOR_PARTS_MAX];
    int count = 0;
    for (uint64_t done = 0; done < size; count++) {
        if (count == FLOOR_PARTS_MAX) bench_die("floor: too many bytes in one commit");
        const uint64_t rest = size - done;
        parts[count].iov_base = thread->buffer;
        parts[count].iov_len = rest < FLOOR_BUFFER_BYTES ? rest : FLOOR_BUFFER_BYTES;
        done += parts[count].iov_len;
    }
    const ssize_t written =
        pwritev2(floor->file, parts, count, (off_t)thread->at, dsync ? RWF_DSYNC : 0);
    if (written != (ssize_t)size) bench_die("floor: write: %s", strerror(errno));
}

static void floor_open(struct store *store, bool create)
{
    struct floor *const floor = bench_memory(1, sizeof *floor);
    store->state = floor;
    floor->file = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (floor->file < 0) bench_die("%s: %s", store->path, strerror(errno));
    floor->size = store->record_count / STORE_RECORDS_PER_PAGE * STORE_PAGE_BYTES;
    if (floor->size > 256 * BENCH_MIB) floor->size = 256 * BENCH_MIB;
    floor->threads[0].end = floor->size;
    for (unsigned i = 0; i < STORE_THREADS_MAX; i++)
        floor->threads[i].buffer = bench_memory(1, FLOOR_BUFFER_BYTES);
    snprintf(store->note, sizeof store->note, "%s",
             store->variant == STORE_DSYNC ? "pwritev2(RWF_DSYNC)" : "pwritev, fdatasync");
    if (!create) return;
    for (; floor->threads[0].at < floor->size; floor->threads[0].at += FLOOR_BUFFER_BYTES)
        floor_write(floor, &floor->threads[0], FLOOR_BUFFER_BYTES, false);
    if (fsync(floor->file) != 0) bench_die("%s: fsync: %s", store->path, strerror(errno));
    floor->threads[0].at = 0;
}

static void floor_close(struct store *store)
{
    struct floor *const floor = store->state;
    for (unsigned i = 0; i < STORE_THREADS_MAX; i++) free(floor->threads[i].buffer);
    close(floor->file);
    free(floor);
}

/* Each thread has its part of the file, so that none overwrites another's blocks. */
static void floor_begin(struct store *store, unsigned number)
{
    struct floor *const floor = store->state;
    struct floor_thread *const thread = &floor->threads[number];
    const uint64_t part = floor->size / store->thread_count / STORE_PAGE_BYTES * STORE_PAGE_BYTES;
    thread->first = number * part;
    thread->end = thread->first + part;
    if (thread->at < thread->first || thread->at >= thread->end) thread->at = thread->first;
}

static void floor_update(struct store *store, unsigned number, uint64_t record, uint64_t value)
{
    struct floor *const floor = store->state;
    memcpy(floor->threads[number].buffer + record % 512 * 8, &value, sizeof value);
}

static void floor_commit(struct store *store, unsigned number)
{
    struct floor *const floor = store->state;
    struct floor_thread *const thread = &floor->threads[number];
    const uint64_t size = store->pages_per_commit * STORE_PAGE_BYTES;
    if (thread->at + size > thread->end) thread->at = thread->first;
    if (thread->at + size > thread->end) bench_die("floor: the file is too small");
    floor_write(floor, thread, size, store->variant == STORE_DSYNC);
    if (store->variant != STORE_DSYNC && fdatasync(floor->file) != 0)
        bench_die("floor: fdatasync: %s", strerror(errno));
    thread->at += size;
}

static void floor_settle(struct store *store)
{
    (void)store;
}

const struct store_calls store_floor_calls = {
    .open = floor_open,
    .close = floor_close,
    .begin = floor_begin,
    .update = floor_update,
    .commit = floor_commit,
    .settle = floor_settle,
};
