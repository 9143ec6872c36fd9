/* os_linux_file.c -- open, inspect, allocate, lock and close files. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static bool file_range_is_valid(uint64_t offset, uint64_t size)
{
    return base_in_range(offset, size, INT64_MAX);
}

EVH_INTERNAL int os_file_open(const char *path, unsigned flags, unsigned permissions, int *file)
{
    OS_UNCANCELLED;
    assert(path != NULL);
    assert(file != NULL);

    /* O_NONBLOCK: a FIFO without a partner would block; on a regular file it changes nothing. */
    int open_flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    open_flags |= (flags & OS_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    if ((flags & OS_OPEN_CREATE) != 0) open_flags |= O_CREAT | O_EXCL;
    if ((flags & OS_OPEN_NO_FOLLOW) != 0) open_flags |= O_NOFOLLOW;
    for (;;) {
        const int got = open(path, open_flags, (mode_t)permissions);
        if (got >= 0) {
            *file = got;
            return 0;
        }
        if (errno != EINTR) return errno;
    }
}

EVH_INTERNAL int os_file_close(int file)
{
    OS_UNCANCELLED;
    os_temporary_forget(file);
    if (close(file) == 0) return 0;
    return errno == EINTR ? 0 : errno; /* Linux has closed it then, and may have given it away */
}

static void file_fill_information(const struct stat *status, struct os_file_info *info)
{
    memset(info, 0, sizeof *info);
    info->size_bytes = (uint64_t)status->st_size;
    info->allocated_bytes = (uint64_t)status->st_blocks * 512; /* st_blocks counts 512, always */
    info->device = (uint64_t)status->st_dev;
    info->inode = (uint64_t)status->st_ino;
    info->is_regular = S_ISREG(status->st_mode);
    info->is_directory = S_ISDIR(status->st_mode);
}

EVH_INTERNAL int os_file_information(int file, struct os_file_info *info)
{
    struct stat status;
    if (fstat(file, &status) != 0) return errno;
    file_fill_information(&status, info);
    info->is_network = os_file_is_network(file);
    return 0;
}

EVH_INTERNAL int os_file_information_at(const char *path, struct os_file_info *info)
{
    OS_UNCANCELLED;
    struct stat status;
    if (stat(path, &status) != 0) return errno;
    file_fill_information(&status, info);
    /* O_PATH reads nothing and needs no permission on the file, also for a FIFO. */
    const int file = open(path, O_PATH | O_CLOEXEC);
    if (file >= 0) {
        info->is_network = os_file_is_network(file);
        close(file);
    }
    return 0;
}

/* ---- names ---- */

EVH_INTERNAL char *os_absolute_path(const char *path)
{
    assert(path != NULL);
    char *directory = path[0] == '/' ? NULL : getcwd(NULL, 0);
    /* One that cannot be named any more begins with "(unreachable)". */
    const bool has_directory = directory != NULL && directory[0] == '/';
    const size_t size = (has_directory ? strlen(directory) + 1 : 0) + strlen(path) + 1;
    char *whole = os->memory_allocate(size);
    if (whole != NULL)
        (void)snprintf(whole, size, "%s%s%s", has_directory ? directory : "",
                       has_directory ? "/" : "", path);
    free(directory);
    return whole;
}

EVH_INTERNAL bool os_path_of_file(int file, char path[static OS_FILE_PATH_SIZE])
{
    assert(file >= 0);
    (void)snprintf(path, OS_FILE_PATH_SIZE, "/proc/self/fd/%d", file);
    return access(path, F_OK) == 0;
}

/* ---- space ---- */

EVH_INTERNAL bool os_file_is_over_limit(uint64_t end_bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    return limit.rlim_cur != RLIM_INFINITY && end_bytes > limit.rlim_cur;
}

/* Make the range exist where the file system cannot allocate: write zeroes where nothing is. Bytes
 * that are there are kept: only holes, and what lies beyond the end, are written. */
EVH_INTERNAL int os_file_allocate_by_writing(int file, uint64_t offset, uint64_t size)
{
    /* Not constant: it would be 64 KiB of the library. */
    static unsigned char zeroes[SLICE_BYTES];
    const uint64_t end = offset + size;
    while (offset < end) {
        struct stat status;
        if (fstat(file, &status) != 0) return errno;
        const uint64_t length = (uint64_t)status.st_size;
        uint64_t hole_end = end;
        if (offset < length) {
            const off_t hole = lseek(file, (off_t)offset, SEEK_HOLE);
            if (hole < 0) return errno;
            offset = base_max(offset, (uint64_t)hole);
            const off_t data = lseek(file, (off_t)offset, SEEK_DATA);
            if (data >= 0) hole_end = base_min(end, (uint64_t)data);
        }
        while (offset < hole_end) {
            const size_t part = base_min(hole_end - offset, sizeof zeroes);
            const int error = os_file_write(file, offset, zeroes, part);
            if (error != 0) return error;
            offset += part;
        }
    }
    return 0;
}

EVH_INTERNAL int os_file_allocate(int file, uint64_t offset, uint64_t size)
{
    OS_UNCANCELLED;
    if (size == 0) return 0;
    if (!file_range_is_valid(offset, size)) return EFBIG;
    if (os_file_is_over_limit(offset + size)) return EFBIG;
    for (;;) {
        if (fallocate(file, 0, (off_t)offset, (off_t)size) == 0) return 0;
        if (errno == EOPNOTSUPP || errno == ENOSYS) {
            return os_file_allocate_by_writing(file, offset, size);
        }
        if (errno != EINTR) return errno;
    }
}

EVH_INTERNAL int os_file_punch(int file, uint64_t offset, uint64_t size)
{
    OS_UNCANCELLED;
    if (size == 0) return 0;
    if (!file_range_is_valid(offset, size)) return EFBIG;
    for (;;) {
        const int flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        if (fallocate(file, flags, (off_t)offset, (off_t)size) == 0) return 0;
        if (errno == ENOSYS) return EOPNOTSUPP;
        if (errno != EINTR) return errno;
    }
}

EVH_INTERNAL int os_file_truncate(int file, uint64_t size)
{
    if (size > INT64_MAX || os_file_is_over_limit(size)) return EFBIG;
    for (;;) {
        if (ftruncate(file, (off_t)size) == 0) return 0;
        if (errno != EINTR) return errno;
    }
}

EVH_INTERNAL int os_file_remove(const char *path)
{
    return unlink(path) == 0 ? 0 : errno;
}

EVH_INTERNAL int os_file_find_hole(int file, uint64_t offset, uint64_t size, uint64_t *hole)
{
    if (!file_range_is_valid(offset, size)) return EFBIG;
    const uint64_t end = offset + size;
    *hole = end;
    if (size == 0) return 0;
    const off_t found = lseek(file, (off_t)offset, SEEK_HOLE);
    if (found >= 0)
        *hole = base_min(end, (uint64_t)found);
    else if (errno == ENXIO)
        *hole = offset; /* beyond the end of the file: nothing is there */
    else
        return errno;
    return 0;
}

/* ---- locks ---- */

/* Locks of the open file description: of all kinds the only one that a close() of another
 * descriptor of the same file in this process leaves alone. */
static int file_lock_call(int file, int command, struct flock *lock, uint64_t offset, uint64_t size)
{
    if (!file_range_is_valid(offset, size)) return EOVERFLOW;
    assert(size != 0); /* 0 would mean: to the end of the file */
    lock->l_whence = SEEK_SET;
    lock->l_start = (off_t)offset;
    lock->l_len = (off_t)size;
    lock->l_pid = 0;
    for (;;) {
        if (fcntl(file, command, lock) == 0) return 0;
        if (errno != EINTR) return errno == EACCES ? EAGAIN : errno;
    }
}

EVH_INTERNAL int os_file_lock(int file, uint64_t offset, uint64_t size, enum os_lock_kind kind)
{
    struct flock lock = {.l_type = F_UNLCK};
    if (kind == OS_LOCK_SHARED) lock.l_type = F_RDLCK;
    if (kind == OS_LOCK_EXCLUSIVE) lock.l_type = F_WRLCK;
    return file_lock_call(file, F_OFD_SETLK, &lock, offset, size);
}

EVH_INTERNAL int os_file_lock_is_taken(int file, uint64_t offset, uint64_t size, bool *taken)
{
    struct flock lock = {.l_type = F_WRLCK};
    const int error = file_lock_call(file, F_OFD_GETLK, &lock, offset, size);
    if (error == 0) *taken = lock.l_type != F_UNLCK;
    return error;
}
