/* os_linux_write.c -- read and write files, and make what was written durable. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_DSYNC
#define RWF_DSYNC 2
#endif

enum { WRITE_PARTS = 512 }; /* at once: each call of write_sync is a flush, so rather many */
static_assert(WRITE_PARTS <= IOV_MAX, "as many parts as the system takes at once");

/* Linux moves at most 0x7ffff000 bytes in one call; a power of two below keeps chunks aligned.
 * Tests make it small. */
EVH_INTERNAL size_t os_write_chunk_bytes = (size_t)1 << 30;

EVH_INTERNAL int os_file_read(int file, uint64_t offset, void *buffer, size_t size, size_t *done)
{
    OS_UNCANCELLED;
    *done = 0;
    if (!base_in_range(offset, size, INT64_MAX)) return EOVERFLOW;
    while (*done < size) {
        const size_t chunk = base_min(size - *done, os_write_chunk_bytes);
        const ssize_t got =
            pread(file, (unsigned char *)buffer + *done, chunk, (off_t)(offset + *done));
        if (got == 0) return 0; /* the end of the file */
        if (got > 0)
            *done += (size_t)got;
        else if (errno != EINTR)
            return errno;
    }
    return 0;
}

EVH_INTERNAL int os_file_write(int file, uint64_t offset, const void *data, size_t size)
{
    OS_UNCANCELLED;
    if (!base_in_range(offset, size, INT64_MAX)) return EFBIG;
    if (os_file_is_over_limit(offset + size)) return EFBIG;
    for (size_t done = 0; done < size;) {
        const size_t chunk = base_min(size - done, os_write_chunk_bytes);
        const ssize_t got =
            pwrite(file, (const unsigned char *)data + done, chunk, (off_t)(offset + done));
        if (got > 0)
            done += (size_t)got;
        else if (got == 0)
            return EIO; /* never seen; without this an endless loop */
        else if (errno != EINTR)
            return errno;
    }
    return 0;
}

/* ---- write_sync ---- */

/* How far the parts are written: `index` whole parts, and `skip` bytes of the next. */
struct write_place {
    uint64_t offset; /* in the file */
    unsigned index;
    size_t skip;
};

/* The next vectors to write from `place`; returns how many, 0 at the end. */
static int write_gather(const struct os_part *parts, unsigned count, struct write_place place,
                        struct iovec vectors[static WRITE_PARTS])
{
    int used = 0;
    size_t room = os_write_chunk_bytes;
    size_t skip = place.skip;
    for (unsigned i = place.index; i < count && used < WRITE_PARTS && room > 0; i++) {
        const size_t size = base_min(parts[i].size - skip, room);
        if (size > 0) {
            unsigned char *start = (unsigned char *)(uintptr_t)parts[i].data + skip;
            vectors[used++] = (struct iovec){.iov_base = start, .iov_len = size};
        }
        room -= size;
        skip = 0;
    }
    return used;
}

static void write_advance(const struct os_part *parts, unsigned count, struct write_place *place,
                          size_t written)
{
    place->offset += written;
    while (place->index < count) {
        const size_t left = parts[place->index].size - place->skip;
        if (written < left) {
            place->skip += written;
            return;
        }
        written -= left;
        place->index++;
        place->skip = 0;
    }
    assert(written == 0);
}

/* Whether the file shows what `vector` should have brought to `offset`. */
static bool write_has_arrived(int file, uint64_t offset, const struct iovec *vector)
{
    unsigned char seen[PAGE_BYTES];
    const size_t size = base_min(vector->iov_len, sizeof seen);
    size_t done;
    if (os_file_read(file, offset, seen, size, &done) != 0) return true; /* believe the worst */
    return done == size && memcmp(seen, vector->iov_base, size) == 0;
}

/*
 * Whether bytes may have been lost by a failed flush, after a call that writes and flushes in one
 * failed with `error`. A call that refuses to write has lost nothing; one that wrote and could not
 * flush has, and so may have earlier writes whose failure it reports in passing. Some errors are
 * only ever refusals. A full disk can be both: then what the file shows decides. All others count
 * as a loss.
 */
static bool write_may_be_lost(int error, int file, uint64_t offset, const struct iovec *vector)
{
    switch (error) {
    case EBADF:
    case EFAULT:
    case EFBIG:
    case EINVAL:
    case EPERM:
    case ESPIPE: return false;
    case ENOSPC:
    case EDQUOT: return write_has_arrived(file, offset, vector);
    default: return true;
    }
}

/* Write and flush as two steps, for systems and file systems without RWF_DSYNC. */
static int write_then_flush(int file, const struct os_part *parts, unsigned count,
                            struct write_place place, bool *flush_failed)
{
    struct iovec vectors[WRITE_PARTS];
    for (;;) {
        const int used = write_gather(parts, count, place, vectors);
        if (used == 0) break;
        const ssize_t got = pwritev(file, vectors, used, (off_t)place.offset);
        if (got > 0)
            write_advance(parts, count, &place, (size_t)got);
        else if (got == 0)
            return EIO;
        else if (errno != EINTR)
            return errno;
    }
    const int error = os_file_flush(file);
    *flush_failed = error != 0;
    return error;
}

EVH_INTERNAL int os_file_write_sync(int file, uint64_t offset, const struct os_part *parts,
                                    unsigned count, bool *flush_failed)
{
    OS_UNCANCELLED;
    *flush_failed = false;
    uint64_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!base_add(size, parts[i].size, &size)) return EFBIG;
    }
    if (!base_in_range(offset, size, INT64_MAX)) return EFBIG;
    if (os_file_is_over_limit(offset + size)) return EFBIG;

    struct iovec vectors[WRITE_PARTS];
    struct write_place place = {.offset = offset};
    for (;;) {
        const int used = write_gather(parts, count, place, vectors);
        if (used == 0) return 0;
        const ssize_t got = pwritev2(file, vectors, used, (off_t)place.offset, RWF_DSYNC);
        if (got > 0) {
            write_advance(parts, count, &place, (size_t)got);
            continue;
        }
        const int error = got == 0 ? EIO : errno;
        if (error == EINTR) continue; /* written and flushed again: nothing is taken for durable */
        if (error == EOPNOTSUPP || error == ENOSYS || error == EINVAL) {
            return write_then_flush(file, parts, count, place, flush_failed);
        }
        *flush_failed = write_may_be_lost(error, file, place.offset, &vectors[0]);
        return error;
    }
}

/* ---- flushing ---- */

EVH_INTERNAL int os_file_flush(int file)
{
    OS_UNCANCELLED;
    for (;;) {
        if (fdatasync(file) == 0) return 0;
        /* EINTR comes before anything was reported as done or lost: asking again is safe. */
        if (errno != EINTR) return errno;
    }
}

EVH_INTERNAL int os_file_flush_directory(const char *path)
{
    OS_UNCANCELLED;
    char *directory = os_file_directory(path);
    if (directory == NULL) return ENOMEM;
    int error = 0;
    const int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    if (file < 0) return errno;
    while (fsync(file) != 0) {
        if (errno == EINTR) continue;
        /* EINVAL: a file system that has no directories to flush. */
        error = errno == EINVAL ? 0 : errno;
        break;
    }
    close(file);
    return error;
}

EVH_INTERNAL void os_file_write_back(int file, uint64_t offset, uint64_t size)
{
    OS_UNCANCELLED;
    if (!base_in_range(offset, size, INT64_MAX) || size == 0) return;
    (void)sync_file_range(file, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);
}

EVH_INTERNAL void os_file_drop_cache(int file, uint64_t offset, uint64_t size)
{
    if (!base_in_range(offset, size, INT64_MAX) || size == 0) return;
    (void)posix_fadvise(file, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
}
