/* base_status.c -- the thread's last error, the names of the statuses, the version. */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>

/* One for each thread, so that reporting needs no lock and an error survives other threads'
 * errors. */
static _Thread_local evh_error status_last = {.status = EVH_OK, .offset = NO_OFFSET};

#define STATUS_TEXT_(x) #x
#define STATUS_TEXT(x) STATUS_TEXT_(x)

const char *evh_version(void)
{
    return STATUS_TEXT(EVH_VERSION_MAJOR) "." STATUS_TEXT(EVH_VERSION_MINOR) "." STATUS_TEXT(
        EVH_VERSION_PATCH);
}

const evh_error *evh_last_error(void)
{
    return &status_last;
}

const char *evh_status_name(evh_status status)
{
    static const char *const names[] = {
        [EVH_OK] = "EVH_OK",
        [EVH_READ_ONLY] = "EVH_READ_ONLY",
        [EVH_INVALID] = "EVH_INVALID",
        [EVH_NO_MEMORY] = "EVH_NO_MEMORY",
        [EVH_FULL] = "EVH_FULL",
        [EVH_IO] = "EVH_IO",
        [EVH_POISONED] = "EVH_POISONED",
        [EVH_NOT_FOUND] = "EVH_NOT_FOUND",
        [EVH_EXISTS] = "EVH_EXISTS",
        [EVH_ACCESS] = "EVH_ACCESS",
        [EVH_NOT_FILE] = "EVH_NOT_FILE",
        [EVH_NOT_HEAP] = "EVH_NOT_HEAP",
        [EVH_TRUNCATED] = "EVH_TRUNCATED",
        [EVH_VERSION] = "EVH_VERSION",
        [EVH_BYTE_ORDER] = "EVH_BYTE_ORDER",
        [EVH_CORRUPT] = "EVH_CORRUPT",
        [EVH_MODE] = "EVH_MODE",
        [EVH_BUSY] = "EVH_BUSY",
        [EVH_FORKED] = "EVH_FORKED",
        [EVH_STALE] = "EVH_STALE",
        [EVH_LIMIT] = "EVH_LIMIT",
        [EVH_BAD_POINTER] = "EVH_BAD_POINTER",
        [EVH_DOUBLE_FREE] = "EVH_DOUBLE_FREE",
        [EVH_UNSUPPORTED] = "EVH_UNSUPPORTED",
        [EVH_OVERWRITTEN] = "EVH_OVERWRITTEN",
        [EVH_SYNTAX] = "EVH_SYNTAX",
        [EVH_DANGLING] = "EVH_DANGLING",
        [EVH_CYCLE] = "EVH_CYCLE",
    };
    static_assert(sizeof names / sizeof names[0] == EVH_STATUS_COUNT, "a status without a name");

    const unsigned index = (unsigned)status; /* a number that is none may be negative */
    return index < EVH_STATUS_COUNT ? names[index] : "EVH_?";
}

/* Format into the thread's error; returns how many bytes of the message are used. A message may
 * quote the one before it (base_fail(..., "%s: ...", evh_last_error()->message)), hence the
 * copy. */
static size_t status_set(evh_status status, int os_error, uint64_t offset, const char *format,
                         va_list arguments)
{
    evh_error error = {.status = status, .os_error = os_error, .offset = offset};
    const int length = vsnprintf(error.message, sizeof error.message, format, arguments);
    status_last = error;
    if (length < 0) return 0;
    return (size_t)base_min((uint64_t)length, sizeof error.message - 1);
}

EVH_INTERNAL evh_status base_fail(evh_status status, uint64_t offset, const char *format, ...)
{
    assert(status != EVH_OK);
    assert((unsigned)status < EVH_STATUS_COUNT);

    const int kept_errno = errno;
    va_list arguments;
    va_start(arguments, format);
    (void)status_set(status, 0, offset, format, arguments);
    va_end(arguments);
    errno = kept_errno;
    return status;
}

EVH_INTERNAL evh_status base_fail_os(int os_error, uint64_t offset, const char *format, ...)
{
    assert(os_error > 0);

    const int kept_errno = errno;
    const evh_status status = base_status_of(os_error);
    va_list arguments;
    va_start(arguments, format);
    const size_t used = status_set(status, os_error, offset, format, arguments);
    va_end(arguments);
    /* strerror() is safe in threads for every number that has a text, in glibc and in musl. */
    (void)snprintf(status_last.message + used, sizeof status_last.message - used, ": %s",
                   strerror(os_error));
    errno = kept_errno;
    return status;
}

EVH_INTERNAL evh_status base_status_of(int os_error)
{
    switch (os_error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: /* the process's limit on file sizes: a quota too */ return EVH_FULL;
    case ENOMEM:
    case EMFILE: /* no file descriptors left: a resource of the system like memory */
    case ENFILE: return EVH_NO_MEMORY;
    case ENOENT:
    case ENOTDIR: return EVH_NOT_FOUND;
    case EEXIST: return EVH_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS: return EVH_ACCESS;
    case EISDIR:
    case ELOOP: /* a symbolic link where none is allowed, or a circle of them */
    case ENXIO:
    case ENODEV: return EVH_NOT_FILE;
    case EAGAIN:
    case EBUSY:
    case ETXTBSY: return EVH_BUSY;
    case ENAMETOOLONG: return EVH_INVALID;
    case ENOSYS:
    case EOPNOTSUPP: return EVH_UNSUPPORTED;
    default: return EVH_IO;
    }
}
