/* os_linux_temporary.c -- files that get their name when they are complete.
 *
 * Best is a file without a name (O_TMPFILE): a crash leaves nothing behind. Where the file system
 * has none, it gets a random name beside its place, which is remembered here until it is published
 * or closed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

enum { TEMPORARY_TRIES = 16 };

struct temporary {
    int file;
    uint64_t process; /* a forked child that closes its copy leaves the name alone */
    char *name;
    struct temporary *next;
};

static struct temporary *temporary_list;

static void temporary_free(struct temporary *temporary)
{
    if (temporary == NULL) return;
    free(temporary->name);
    free(temporary);
}

static void temporary_remember(struct temporary *temporary)
{
    os_process_lock();
    temporary->next = temporary_list;
    temporary_list = temporary;
    os_process_unlock();
}

/* Take the entry of `file` out of the list; NULL if it has none. Owned: temporary_free(). */
static struct temporary *temporary_take(int file)
{
    os_process_lock();
    struct temporary **link = &temporary_list;
    while (*link != NULL && (*link)->file != file) link = &(*link)->next;
    struct temporary *found = *link;
    if (found != NULL) *link = found->next;
    os_process_unlock();
    return found;
}

EVH_INTERNAL char *os_file_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return strdup(".");
    if (slash == path) return strdup("/");
    return strndup(path, (size_t)(slash - path));
}

/* A name that no file should have, in `path`'s directory. Owned: free(). NULL without memory. */
static char *temporary_name(const char *path)
{
    uint64_t random;
    os_random(&random, sizeof random);
    char *directory = os_file_directory(path);
    if (directory == NULL) return NULL;
    const size_t size = strlen(directory) + sizeof "/.everheap-0123456789abcdef";
    char *name = malloc(size);
    if (name != NULL) {
        (void)snprintf(name, size, "%s/.everheap-%016llx", directory, (unsigned long long)random);
    }
    free(directory);
    return name;
}

static int temporary_open_nameless(const char *path, unsigned permissions, int *file)
{
    OS_UNCANCELLED;
    /* Without /proc a nameless file could not be given its name. */
    if (access("/proc/self/fd", F_OK) != 0) return EOPNOTSUPP;
    char *directory = os_file_directory(path);
    if (directory == NULL) return ENOMEM;
    do {
        *file = open(directory, O_RDWR | O_TMPFILE | O_CLOEXEC, (mode_t)permissions);
    } while (*file < 0 && errno == EINTR);
    const int error = *file >= 0 ? 0 : errno;
    free(directory);
    return error;
}

EVH_INTERNAL int os_temporary_open_named(const char *path, unsigned permissions, int *file)
{
    int error = EEXIST;
    for (unsigned try = 0; try < TEMPORARY_TRIES && error == EEXIST; try++) {
        struct temporary *temporary = calloc(1, sizeof *temporary);
        if (temporary == NULL) return ENOMEM;
        temporary->name = temporary_name(path);
        error =
            temporary->name == NULL
                ? ENOMEM
                : os_file_open(temporary->name, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_NO_FOLLOW,
                               permissions, file);
        if (error == 0) {
            temporary->file = *file;
            temporary->process = os_process();
            temporary_remember(temporary);
            return 0;
        }
        temporary_free(temporary);
    }
    return error;
}

EVH_INTERNAL int os_temporary_open(const char *path, unsigned permissions, int *file)
{
    const int error = temporary_open_nameless(path, permissions, file);
    /* Which error a file system without O_TMPFILE gives is its own choice: EOPNOTSUPP, EISDIR (the
     * flag contains O_DIRECTORY), EINVAL. The errors that matter come again. */
    if (error == 0 || error == ENOMEM || error == EMFILE || error == ENFILE) return error;
    return os_temporary_open_named(path, permissions, file);
}

static int temporary_link_nameless(int file, const char *path)
{
    char self[sizeof "/proc/self/fd/" + 12];
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", file);
    return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

/* Move `name` to `path`, which must be free. */
static int temporary_rename_to_free(const char *name, const char *path)
{
    if (renameat2(AT_FDCWD, name, AT_FDCWD, path, RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return errno;
    /* An older kernel or file system: a link is as atomic. */
    if (link(name, path) != 0) return errno;
    (void)unlink(name); /* a second name left over harms nothing */
    return 0;
}

static int temporary_publish_named(const char *name, const char *path, bool replace)
{
    if (!replace) return temporary_rename_to_free(name, path);
    return rename(name, path) == 0 ? 0 : errno;
}

/* Only rename() replaces: the nameless file gets a name for a moment. */
static int temporary_replace_nameless(int file, const char *path)
{
    int error = EEXIST;
    for (unsigned try = 0; try < TEMPORARY_TRIES && error == EEXIST; try++) {
        char *name = temporary_name(path);
        if (name == NULL) return ENOMEM;
        error = temporary_link_nameless(file, name);
        if (error == 0 && rename(name, path) != 0) {
            error = errno == EEXIST ? ENOTEMPTY : errno; /* a directory is there: no use to retry */
            (void)unlink(name);
        }
        free(name);
    }
    return error;
}

EVH_INTERNAL int os_temporary_publish(int file, const char *path, bool replace)
{
    struct temporary *temporary = temporary_take(file);
    if (temporary == NULL) {
        return replace ? temporary_replace_nameless(file, path)
                       : temporary_link_nameless(file, path);
    }
    const int error = temporary_publish_named(temporary->name, path, replace);
    if (error != 0)
        temporary_remember(temporary); /* close() will remove it */
    else
        temporary_free(temporary);
    return error;
}

EVH_INTERNAL void os_temporary_forget(int file)
{
    struct temporary *temporary = temporary_take(file);
    if (temporary != NULL && temporary->process == os_process()) (void)unlink(temporary->name);
    temporary_free(temporary);
}

EVH_INTERNAL int os_memory_file(int *file)
{
    assert(file != NULL);
    *file = memfd_create("everheap", MFD_CLOEXEC);
    return *file >= 0 ? 0 : errno;
}
