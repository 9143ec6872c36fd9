/* os_test.c -- the real system keeps the contract of os.h. */
#include "os/os.h"
#include "os/os_linux.h"
#include "test.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int make_file(const char *path)
{
    int file;
    CHECK_EQUAL(os->open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, 0600, &file), 0);
    return file;
}

static bool file_shows(int file, uint64_t offset, const char *text)
{
    char seen[256];
    size_t done;
    const size_t size = strlen(text);
    return os->read(file, offset, seen, size, &done) == 0 && done == size &&
           memcmp(seen, text, size) == 0;
}

/* What `run` exits with in a child. */
static int in_child(int (*run)(void))
{
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(run());
    int status = -1;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return status;
}

/* ---- the table ---- */

TEST(the_real_system_has_every_call)
{
    void *calls[sizeof(struct os_calls) / sizeof(void *)];
    memcpy(calls, os_linux(), sizeof calls);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) CHECK(calls[i] != NULL);
}

TEST(another_system_is_used_until_the_real_one_returns)
{
    const struct os_calls other = *os_linux();
    os_use(&other);
    CHECK(os == &other);
    os_use(NULL);
    CHECK(os == os_linux());
}

/* ---- opening ---- */

TEST(a_file_is_created_once_with_its_permissions)
{
    const char *path = test_path("new");
    const mode_t before = umask(022);
    int file;
    CHECK_EQUAL(os->open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, 0666, &file), 0);
    umask(before);
    struct stat status;
    CHECK_EQUAL(stat(path, &status), 0);
    CHECK_EQUAL(status.st_mode & 0777, 0644);
    int second;
    CHECK_EQUAL(os->open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, 0666, &second), EEXIST);
    CHECK_EQUAL(os->close(file), 0);
}

TEST(opening_says_why_it_failed)
{
    int file;
    CHECK_EQUAL(os->open(test_path("nothing"), 0, 0, &file), ENOENT);
    CHECK_EQUAL(os->open(test_directory(), OS_OPEN_WRITE, 0, &file), EISDIR);
    const char *link = test_path("link");
    CHECK_EQUAL(symlink("/dev/null", link), 0);
    CHECK_EQUAL(os->open(link, OS_OPEN_NO_FOLLOW, 0, &file), ELOOP);
    CHECK_EQUAL(os->close(987654), EBADF);
}

TEST(opening_a_fifo_never_waits)
{
    const char *path = test_path("fifo");
    CHECK_EQUAL(mkfifo(path, 0600), 0);
    int file;
    CHECK_EQUAL(os->open(path, OS_OPEN_WRITE, 0, &file), 0);
    struct os_file_info info;
    CHECK_EQUAL(os->information(file, &info), 0);
    CHECK(!info.is_regular);
    CHECK(!info.is_directory);
    os->close(file);
    CHECK_EQUAL(os->information_at(path, &info), 0);
    CHECK(!info.is_regular);
}

TEST(descriptors_are_closed_by_exec)
{
    const int file = make_file(test_path("exec"));
    char command[64];
    snprintf(command, sizeof command, "test ! -e /proc/self/fd/%d", file);
    CHECK_EQUAL(system(command), 0);
    os->close(file);
}

TEST(information_tells_size_space_and_identity)
{
    const char *path = test_path("info");
    const int file = make_file(path);
    CHECK_EQUAL(os->allocate(file, 0, 1 << 20), 0);
    struct os_file_info info, at;
    CHECK_EQUAL(os->information(file, &info), 0);
    CHECK_EQUAL(os->information_at(path, &at), 0);
    CHECK(info.is_regular);
    CHECK(!info.is_directory);
    CHECK_EQUAL(info.size_bytes, 1 << 20);
    CHECK(info.allocated_bytes >= 1 << 20);
    CHECK_EQUAL(info.inode, at.inode);
    CHECK_EQUAL(info.device, at.device);
    CHECK_EQUAL(info.is_network, at.is_network);
    CHECK_EQUAL(os->information_at(test_directory(), &at), 0);
    CHECK(at.is_directory);
    CHECK_EQUAL(os->information_at(test_path("nothing"), &at), ENOENT);
    os->close(file);
}

TEST(files_of_the_kernel_are_on_no_network)
{
    struct os_file_info info;
    CHECK_EQUAL(os->information_at("/proc/self/stat", &info), 0);
    CHECK(!info.is_network);
}

/* ---- temporary files ---- */

static void publish_both_ways(int (*open_temporary)(const char *, unsigned, int *))
{
    const char *path = test_path("published");
    int first, second, third, seen;
    CHECK_EQUAL(open_temporary(path, 0600, &first), 0);
    CHECK_EQUAL(os->write(first, 0, "first", 5), 0);
    CHECK_EQUAL(access(path, F_OK), -1);
    CHECK_EQUAL(os->publish(first, path, false), 0);
    CHECK_EQUAL(os->flush_directory(path), 0);

    CHECK_EQUAL(open_temporary(path, 0600, &second), 0);
    CHECK_EQUAL(os->write(second, 0, "second", 6), 0);
    CHECK_EQUAL(os->publish(second, path, false), EEXIST);
    CHECK_EQUAL(os->open(path, 0, 0, &seen), 0);
    CHECK(file_shows(seen, 0, "first"));
    CHECK_EQUAL(os->close(seen), 0);

    CHECK_EQUAL(os->publish(second, path, true), 0);
    CHECK_EQUAL(os->open(path, 0, 0, &seen), 0);
    CHECK(file_shows(seen, 0, "second"));
    CHECK_EQUAL(os->close(seen), 0);

    CHECK_EQUAL(open_temporary(path, 0600, &third), 0);
    CHECK_EQUAL(os->close(third), 0);
    CHECK_EQUAL(os->close(second), 0);
    CHECK_EQUAL(os->close(first), 0);
    CHECK_EQUAL(access(path, F_OK), 0);
    CHECK_EQUAL(unlink(path), 0);
}

/* How many names in the test directory a temporary file has left. */
static int leftovers(void)
{
    char command[600];
    snprintf(command, sizeof command, "test -z \"$(ls -A '%s' | grep '^.everheap-')\"",
             test_directory());
    return system(command);
}

TEST(a_temporary_file_gets_its_name_when_it_is_published)
{
    publish_both_ways(os->open_temporary);
    CHECK_EQUAL(leftovers(), 0);
}

TEST(a_named_temporary_file_gets_its_name_when_it_is_published)
{
    publish_both_ways(os_temporary_open_named);
    CHECK_EQUAL(leftovers(), 0);
}

TEST(a_named_temporary_file_survives_a_child_that_closes_it)
{
    const char *path = test_path("forked");
    int file;
    CHECK_EQUAL(os_temporary_open_named(path, 0600, &file), 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(os->close(file));
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(os->publish(file, path, false), 0);
    os->close(file);
    CHECK_EQUAL(access(path, F_OK), 0);
}

TEST(a_temporary_file_without_its_directory_is_refused)
{
    int file;
    CHECK_EQUAL(os->open_temporary("/nowhere/at/all", 0600, &file), ENOENT);
}

TEST(paths_without_a_directory_are_in_the_current_one)
{
    char *here = os_file_directory("name");
    char *root = os_file_directory("/name");
    char *deep = os_file_directory("/a/b/name");
    CHECK(strcmp(here, ".") == 0);
    CHECK(strcmp(root, "/") == 0);
    CHECK(strcmp(deep, "/a/b") == 0);
    free(here);
    free(root);
    free(deep);
}

/* ---- reading and writing ---- */

TEST(a_read_is_short_only_at_the_end)
{
    const int file = make_file(test_path("read"));
    char buffer[16];
    size_t done = 99;
    CHECK_EQUAL(os->write(file, 0, "0123456789", 10), 0);
    CHECK_EQUAL(os->read(file, 4, buffer, 16, &done), 0);
    CHECK_EQUAL(done, 6);
    CHECK_EQUAL(os->read(file, 100, buffer, 16, &done), 0);
    CHECK_EQUAL(done, 0);
    CHECK_EQUAL(os->read(file, UINT64_MAX - 3, buffer, 16, &done), EOVERFLOW);
    os->close(file);
}

TEST(parts_are_written_one_behind_the_other)
{
    const int file = make_file(test_path("parts"));
    enum { PARTS = 200 }; /* more than one call takes */
    struct os_part parts[PARTS];
    char *texts = malloc(PARTS * 16);
    CHECK(texts != NULL);
    char all[PARTS * 16];
    size_t size = 0;
    for (int i = 0; i < PARTS; i++) {
        const int length = i % 7 == 3 ? 0 : snprintf(texts + i * 16, 16, "<%d>", i);
        parts[i] = (struct os_part){texts + i * 16, (size_t)length};
        memcpy(all + size, texts + i * 16, (size_t)length);
        size += (size_t)length;
    }
    bool flush_failed = true;

    CHECK_EQUAL(os->write_sync(file, 100, parts, PARTS, &flush_failed), 0);

    CHECK(!flush_failed);
    char seen[sizeof all];
    size_t done;
    CHECK_EQUAL(os->read(file, 100, seen, sizeof seen, &done), 0);
    CHECK_EQUAL(done, size);
    CHECK(memcmp(seen, all, size) == 0);
    free(texts);
    os->close(file);
}

TEST(short_writes_and_reads_are_continued)
{
    const int file = make_file(test_path("short"));
    const struct os_part parts[] = {
        {"everheap", 8}, {"", 0}, {" is a heap", 10}, {" that lasts", 11}};
    const size_t before = os_write_chunk_bytes;
    for (size_t chunk = 1; chunk < 32; chunk++) {
        os_write_chunk_bytes = chunk;
        bool flush_failed;
        CHECK_EQUAL(os->write(file, 0, "-----------------------------", 29), 0);
        CHECK_EQUAL(os->write_sync(file, 0, parts, 4, &flush_failed), 0);
        CHECK(file_shows(file, 0, "everheap is a heap that lasts"));
    }
    os_write_chunk_bytes = before;
    os->close(file);
}

TEST(write_sync_of_nothing_succeeds)
{
    const int file = make_file(test_path("nothing"));
    const struct os_part empty = {"", 0};
    bool flush_failed = true;
    CHECK_EQUAL(os->write_sync(file, 0, &empty, 1, &flush_failed), 0);
    CHECK_EQUAL(os->write_sync(file, 0, NULL, 0, &flush_failed), 0);
    CHECK(!flush_failed);
    os->close(file);
}

TEST(a_refused_write_is_no_failed_flush)
{
    const struct os_part part = {"x", 1};
    bool flush_failed = true;
    CHECK_EQUAL(os->write_sync(987654, 0, &part, 1, &flush_failed), EBADF);
    CHECK(!flush_failed);
    const char *path = test_path("refused");
    os->close(make_file(path));
    int file;
    CHECK_EQUAL(os->open(path, 0, 0, &file), 0);
    CHECK_EQUAL(os->write_sync(file, 0, &part, 1, &flush_failed), EBADF);
    CHECK(!flush_failed);
    CHECK_EQUAL(os->write_sync(file, UINT64_MAX - 1, &part, 1, &flush_failed), EFBIG);
    CHECK(!flush_failed);
    os->close(file);
}

/* A file system of 1 MiB that is full, seen only by this process. False: not allowed here. */
static bool mount_small(const char *path)
{
    if (mkdir(path, 0700) != 0) return false;
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return false;
    return mount("everheap", path, "tmpfs", 0, "size=1m") == 0;
}

enum { NOT_ALLOWED = 99 };

static int fill_a_disk(void)
{
    const char *path = test_path("small");
    if (!mount_small(path)) return NOT_ALLOWED;
    char name[700];
    snprintf(name, sizeof name, "%s/file", path);
    int file;
    if (os->open(name, OS_OPEN_WRITE | OS_OPEN_CREATE, 0600, &file) != 0) return 1;
    static char data[1 << 16];
    memset(data, 7, sizeof data);
    const struct os_part part = {data, sizeof data};
    bool flush_failed = true;
    int error = 0;
    uint64_t offset = 0;
    for (int i = 0; i < 100 && error == 0; i++) {
        error = os->write_sync(file, offset, &part, 1, &flush_failed);
        if (error == 0) offset += sizeof data;
    }
    if (error != ENOSPC || flush_failed) return 2;
    if (os->write(file, 2 << 20, data, 1) != ENOSPC) return 3;
    if (os->allocate(file, 0, 4 << 20) != ENOSPC) return 4;
    /* What is there can be overwritten. */
    return os->write_sync(file, 0, &part, 1, &flush_failed) == 0 ? 0 : 5;
}

TEST(a_full_disk_is_an_error_and_no_failed_flush)
{
    const int status = in_child(fill_a_disk);
    if (WEXITSTATUS(status) == NOT_ALLOWED) SKIP("no rights to mount a file system");
    CHECK_EQUAL(status, 0);
}

static int write_over_the_size_limit(void)
{
    const int file = make_file(test_path("limit"));
    const struct rlimit limit = {1 << 16, 1 << 16};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 0;
    static char data[1 << 17];
    const struct os_part part = {data, sizeof data};
    bool flush_failed = true;
    if (os->write(file, 0, data, sizeof data) != EFBIG) return 1;
    if (os->write_sync(file, 0, &part, 1, &flush_failed) != EFBIG || flush_failed) return 2;
    if (os->allocate(file, 0, 1 << 20) != EFBIG) return 3;
    if (os->truncate(file, 1 << 20) != EFBIG) return 4;
    return 0;
}

TEST(a_limit_on_file_sizes_is_an_error_and_no_failed_flush)
{
    CHECK_EQUAL(in_child(write_over_the_size_limit), 0);
}

TEST(flushing_a_file_and_a_directory_succeeds)
{
    const char *path = test_path("flushed");
    const int file = make_file(path);
    CHECK_EQUAL(os->write(file, 0, "x", 1), 0);
    CHECK_EQUAL(os->flush(file), 0);
    CHECK_EQUAL(os->flush_directory(path), 0);
    CHECK_EQUAL(os->flush(987654), EBADF);
    CHECK_EQUAL(os->flush_directory("/nowhere/at/all"), ENOENT);
    os->write_back(file, 0, 1);
    os->drop_cache(file, 0, 1);
    CHECK(file_shows(file, 0, "x"));
    os->close(file);
}

/* ---- space ---- */

TEST(allocated_space_reads_as_zero_and_keeps_what_was_there)
{
    const int file = make_file(test_path("space"));
    CHECK_EQUAL(os->write(file, 70000, "kept", 4), 0);
    CHECK_EQUAL(os->allocate(file, 0, 1 << 20), 0);
    struct os_file_info info;
    CHECK_EQUAL(os->information(file, &info), 0);
    CHECK_EQUAL(info.size_bytes, 1 << 20);
    CHECK(file_shows(file, 70000, "kept"));
    char byte = 1;
    size_t done;
    CHECK_EQUAL(os->read(file, (1 << 20) - 1, &byte, 1, &done), 0);
    CHECK_EQUAL(done, 1);
    CHECK_EQUAL(byte, 0);
    CHECK_EQUAL(os->allocate(file, UINT64_MAX - 10, 100), EFBIG);
    os->close(file);
}

TEST(allocating_by_writing_fills_holes_only)
{
    const int file = make_file(test_path("written"));
    CHECK_EQUAL(os->truncate(file, 300000), 0);
    CHECK_EQUAL(os->write(file, 70000, "kept", 4), 0);
    CHECK_EQUAL(os->write(file, 200000, "also", 4), 0);

    CHECK_EQUAL(os_file_allocate_by_writing(file, 4096, 500000), 0);

    uint64_t hole = 0;
    CHECK_EQUAL(os->find_hole(file, 4096, 500000, &hole), 0);
    CHECK_EQUAL(hole, 504096);
    CHECK(file_shows(file, 70000, "kept"));
    CHECK(file_shows(file, 200000, "also"));
    os->close(file);
}

TEST(punched_space_is_a_hole_that_reads_as_zero)
{
    const int file = make_file(test_path("holes"));
    char *data = malloc(1 << 20);
    CHECK(data != NULL);
    memset(data, 7, 1 << 20);
    CHECK_EQUAL(os->write(file, 0, data, 1 << 20), 0);
    CHECK_EQUAL(os->flush(file), 0);
    uint64_t hole = 0;
    CHECK_EQUAL(os->find_hole(file, 0, 1 << 20, &hole), 0);
    CHECK_EQUAL(hole, 1 << 20);

    const int error = os->punch(file, 1 << 18, 1 << 18);
    if (error == EOPNOTSUPP) SKIP("the file system punches no holes");
    CHECK_EQUAL(error, 0);

    CHECK_EQUAL(os->find_hole(file, 0, 1 << 20, &hole), 0);
    CHECK_EQUAL(hole, 1 << 18);
    CHECK_EQUAL(os->find_hole(file, 1 << 19, 1 << 19, &hole), 0);
    CHECK_EQUAL(hole, 1 << 20);
    CHECK_EQUAL(os->find_hole(file, 1 << 20, 1 << 19, &hole), 0);
    CHECK_EQUAL(hole, 1 << 20); /* beyond the end nothing is there */
    size_t done;
    CHECK_EQUAL(os->read(file, (1 << 18) + 5, data, 1, &done), 0);
    CHECK_EQUAL(data[0], 0);
    struct os_file_info info;
    CHECK_EQUAL(os->information(file, &info), 0);
    CHECK_EQUAL(info.size_bytes, 1 << 20);
    free(data);
    os->close(file);
}

/* ---- locks ---- */

#define LOCK_FAR (((uint64_t)1 << 62) + ((uint64_t)1 << 61))

TEST(a_lock_belongs_to_its_description_not_to_the_process)
{
    const char *path = test_path("lock");
    const int first = make_file(path);
    int second, third;
    CHECK_EQUAL(os->open(path, OS_OPEN_WRITE, 0, &second), 0);
    CHECK_EQUAL(os->open(path, OS_OPEN_WRITE, 0, &third), 0);

    CHECK_EQUAL(os->lock(first, LOCK_FAR, 1, OS_LOCK_EXCLUSIVE), 0);
    CHECK_EQUAL(os->lock(second, LOCK_FAR, 1, OS_LOCK_SHARED), EAGAIN);
    CHECK_EQUAL(os->lock(second, LOCK_FAR + 1, 1, OS_LOCK_EXCLUSIVE), 0);
    CHECK_EQUAL(os->close(third), 0); /* drops no lock of others */
    bool taken = false;
    CHECK_EQUAL(os->lock_is_taken(second, LOCK_FAR, 1, &taken), 0);
    CHECK(taken);
    CHECK_EQUAL(os->lock_is_taken(first, LOCK_FAR, 1, &taken), 0);
    CHECK(!taken); /* its own lock refuses nothing */

    CHECK_EQUAL(os->close(first), 0);
    CHECK_EQUAL(os->lock_is_taken(second, LOCK_FAR, 1, &taken), 0);
    CHECK(!taken);
    os->close(second);
}

TEST(shared_locks_go_together_and_keep_an_exclusive_one_out)
{
    const char *path = test_path("shared");
    const int first = make_file(path);
    int second;
    CHECK_EQUAL(os->open(path, OS_OPEN_WRITE, 0, &second), 0);
    CHECK_EQUAL(os->lock(first, 10, 1, OS_LOCK_SHARED), 0);
    CHECK_EQUAL(os->lock(second, 10, 1, OS_LOCK_SHARED), 0);
    CHECK_EQUAL(os->lock(second, 0, 20, OS_LOCK_EXCLUSIVE), EAGAIN);
    bool taken = false;
    CHECK_EQUAL(os->lock_is_taken(second, 0, 20, &taken), 0);
    CHECK(taken);
    CHECK_EQUAL(os->lock(first, 10, 1, OS_UNLOCK), 0);
    CHECK_EQUAL(os->lock(second, 0, 20, OS_LOCK_EXCLUSIVE), 0);
    os->close(first);
    os->close(second);
}

TEST(a_lock_beyond_all_offsets_is_refused)
{
    const int file = make_file(test_path("beyond"));
    CHECK_EQUAL(os->lock(file, INT64_MAX, 2, OS_LOCK_SHARED), EOVERFLOW);
    os->close(file);
}

/* ---- maps ---- */

TEST(a_reservation_is_aligned_and_takes_a_free_wish)
{
    void *first, *second, *third;
    CHECK_EQUAL(os->reserve(SEGMENT_BYTES, SEGMENT_BYTES, 0, &first), 0);
    CHECK_EQUAL((uintptr_t)first % SEGMENT_BYTES, 0);
    CHECK_EQUAL(os->reserve(SEGMENT_BYTES, SEGMENT_BYTES, (uintptr_t)first, &second), 0);
    CHECK(second != first); /* taken */
    CHECK_EQUAL((uintptr_t)second % SEGMENT_BYTES, 0);
    CHECK_EQUAL(os->release(first, SEGMENT_BYTES), 0);
    CHECK_EQUAL(os->reserve(SEGMENT_BYTES, SEGMENT_BYTES, (uintptr_t)first, &third), 0);
    CHECK(third == first);
    CHECK_EQUAL(os->release(second, SEGMENT_BYTES), 0);
    CHECK_EQUAL(os->release(third, SEGMENT_BYTES), 0);
}

TEST(a_wish_that_is_not_aligned_is_ignored)
{
    void *address;
    CHECK_EQUAL(os->reserve(SLICE_BYTES, SEGMENT_BYTES, 0x300000001000u, &address), 0);
    CHECK_EQUAL((uintptr_t)address % SEGMENT_BYTES, 0);
    CHECK_EQUAL(os->release(address, SLICE_BYTES), 0);
}

TEST(a_terabyte_is_reserved_for_nothing)
{
    void *address;
    const uint64_t size = (uint64_t)1 << 40;
    const int error = os->reserve(size, SEGMENT_BYTES, 0, &address);
    if (error == ENOMEM) SKIP("addresses are limited here");
    CHECK_EQUAL(error, 0);
    CHECK_EQUAL(os->release(address, size), 0);
}

TEST(more_than_all_addresses_is_no_memory)
{
    void *address;
    CHECK_EQUAL(os->reserve((uint64_t)1 << 60, SEGMENT_BYTES, 0, &address), ENOMEM);
}

TEST(a_private_mapping_keeps_stores_from_the_file)
{
    const int file = make_file(test_path("map"));
    CHECK_EQUAL(os->truncate(file, SLICE_BYTES), 0);
    CHECK_EQUAL(os->write(file, 5, "file", 4), 0);
    void *address;
    CHECK_EQUAL(os->reserve(2 * SLICE_BYTES, SLICE_BYTES, 0, &address), 0);
    unsigned char *working = address;
    unsigned char *home = working + SLICE_BYTES;
    CHECK_EQUAL(os->map(working, SLICE_BYTES, OS_MAP_PRIVATE, file, 0), 0);
    CHECK_EQUAL(os->map(home, SLICE_BYTES, OS_MAP_SHARED_READ, file, 0), 0);

    memcpy(working + 5, "mine", 4);

    CHECK(file_shows(file, 5, "file"));
    CHECK(memcmp(home + 5, "file", 4) == 0);
    CHECK_EQUAL(os->write(file, 5, "next", 4), 0);
    CHECK(memcmp(home + 5, "next", 4) == 0);
    CHECK(memcmp(working + 5, "mine", 4) == 0);
    CHECK_EQUAL(os->discard(working, SLICE_BYTES), 0);
    CHECK(memcmp(working + 5, "next", 4) == 0);
    CHECK_EQUAL(os->release(address, 2 * SLICE_BYTES), 0);
    os->close(file);
}

TEST(anonymous_memory_is_zero_and_zero_again_when_discarded)
{
    void *address;
    CHECK_EQUAL(os->reserve(SLICE_BYTES, SLICE_BYTES, 0, &address), 0);
    CHECK_EQUAL(os->map(address, SLICE_BYTES, OS_MAP_ANONYMOUS, -1, 0), 0);
    unsigned char *memory = address;
    CHECK_EQUAL(memory[100], 0);
    memory[100] = 1;
    CHECK_EQUAL(os->discard(address, SLICE_BYTES), 0);
    CHECK_EQUAL(memory[100], 0);
    CHECK_EQUAL(os->release(address, SLICE_BYTES), 0);
}

TEST(nothing_less_than_a_page_is_dropped)
{
    void *address;
    const uint64_t page = os->page_bytes();
    CHECK_EQUAL(os->reserve(SLICE_BYTES, SLICE_BYTES, 0, &address), 0);
    CHECK_EQUAL(os->map(address, SLICE_BYTES, OS_MAP_ANONYMOUS, -1, 0), 0);
    unsigned char *memory = address;
    memset(memory, 1, SLICE_BYTES);
    CHECK_EQUAL(os->discard(memory, page / 2), EINVAL);
    CHECK_EQUAL(os->discard(memory + page / 2, page / 2), EINVAL);
    CHECK_EQUAL(memory[0] + memory[page / 2] + memory[page - 1], 3);
    CHECK_EQUAL(os->discard(memory, page), 0);
    CHECK_EQUAL(memory[0] + memory[page - 1], 0);
    CHECK_EQUAL(os->release(address, SLICE_BYTES), 0);
}

static unsigned char *touched;

static int touch(void)
{
    signal(SIGSEGV, SIG_DFL); /* not the harness's */
    touched[0] = 1;
    return 0;
}

TEST(a_reservation_cannot_be_touched_and_protection_refuses_stores)
{
    void *address;
    CHECK_EQUAL(os->reserve(SLICE_BYTES, SLICE_BYTES, 0, &address), 0);
    touched = address;
    CHECK(in_child(touch) != 0);
    CHECK_EQUAL(os->map(address, SLICE_BYTES, OS_MAP_ANONYMOUS, -1, 0), 0);
    CHECK_EQUAL(in_child(touch), 0);
    CHECK_EQUAL(os->protect(address, SLICE_BYTES, false), 0);
    CHECK(in_child(touch) != 0);
    CHECK_EQUAL(os->protect(address, SLICE_BYTES, true), 0);
    CHECK_EQUAL(in_child(touch), 0);
    CHECK_EQUAL(os->map(address, SLICE_BYTES, OS_MAP_NOTHING, -1, 0), 0);
    CHECK(in_child(touch) != 0);
    CHECK_EQUAL(os->release(address, SLICE_BYTES), 0);
}

/* ---- memory, threads, time ---- */

TEST(memory_is_zeroed_and_grows)
{
    unsigned char *memory = os->memory_allocate(1000);
    CHECK(memory != NULL);
    for (int i = 0; i < 1000; i++) CHECK_EQUAL(memory[i], 0);
    memory[999] = 9;
    memory = os->memory_resize(memory, 100000);
    CHECK(memory != NULL);
    CHECK_EQUAL(memory[999], 9);
    os->memory_free(memory);
    os->memory_free(NULL);
}

struct counter {
    struct os_mutex *mutex;
    int value;
    int waiting_for;
};

static void count_up(void *context)
{
    struct counter *counter = context;
    for (int i = 0; i < 1000; i++) {
        os->mutex_lock(counter->mutex);
        counter->value++;
        os->mutex_signal(counter->mutex);
        os->mutex_unlock(counter->mutex);
    }
}

TEST(a_mutex_excludes_and_its_condition_wakes)
{
    struct counter counter = {0};
    struct os_thread *threads[3];
    CHECK_EQUAL(os->mutex_create(&counter.mutex), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(os->thread_start(count_up, &counter, &threads[i]), 0);
    }
    os->mutex_lock(counter.mutex);
    while (counter.value < 3000) os->mutex_wait(counter.mutex);
    os->mutex_unlock(counter.mutex);
    for (int i = 0; i < 3; i++) os->thread_join(threads[i]);
    CHECK_EQUAL(counter.value, 3000);
    os->mutex_end(counter.mutex);
    os->mutex_end(NULL);
    os->thread_join(NULL);
}

static void ping(void *context)
{
    uint32_t *word = context;
    for (uint32_t turn = 1; turn < 200; turn += 2) {
        while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != turn) os->wait(word, turn - 1);
        __atomic_store_n(word, turn + 1, __ATOMIC_RELEASE);
        os->wake(word);
    }
}

TEST(threads_wait_for_a_word_and_wake_each_other)
{
    uint32_t word = 0;
    struct os_thread *thread;
    CHECK_EQUAL(os->thread_start(ping, &word, &thread), 0);
    for (uint32_t turn = 0; turn < 200; turn += 2) {
        __atomic_store_n(&word, turn + 1, __ATOMIC_RELEASE);
        os->wake(&word);
        while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) != turn + 2) os->wait(&word, turn + 1);
    }
    os->thread_join(thread);
    CHECK_EQUAL(word, 200);
    os->wait(&word, 7); /* another value: returns at once */
}

static void read_mask(void *context)
{
    pthread_sigmask(SIG_SETMASK, NULL, context);
}

TEST(a_background_thread_takes_no_signals_of_the_program)
{
    sigset_t mask;
    struct os_thread *thread;
    CHECK_EQUAL(os->thread_start(read_mask, &mask, &thread), 0);
    os->thread_join(thread);
    CHECK(sigismember(&mask, SIGTERM));
    CHECK(sigismember(&mask, SIGUSR1));
    CHECK(!sigismember(&mask, SIGSEGV));
    sigset_t mine;
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    CHECK(!sigismember(&mine, SIGTERM));
}

static int barrier_in_child(void)
{
    const int error = os->barrier_all_threads();
    return error == 0 || error == ENOSYS ? 0 : 1;
}

TEST(the_barrier_works_or_is_missing_also_in_a_child)
{
    const long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    const bool is_there = commands > 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0;
    CHECK_EQUAL(os->barrier_all_threads(), is_there ? 0 : ENOSYS);
    CHECK_EQUAL(os->barrier_all_threads(), is_there ? 0 : ENOSYS);
    CHECK_EQUAL(in_child(barrier_in_child), 0);
}

TEST(random_numbers_differ)
{
    uint64_t numbers[64];
    os->random(numbers, sizeof numbers);
    for (int i = 0; i < 64; i++) {
        for (int j = 0; j < i; j++) CHECK(numbers[i] != numbers[j]);
    }
}

TEST(the_time_is_after_this_was_written)
{
    CHECK(os->time_ns() > 1700000000000000000u);
}

static uint64_t parent_process;
static int prepare_calls, parent_calls, child_calls;

static void before_fork(void)
{
    prepare_calls++;
}

static void behind_fork(void)
{
    parent_calls++;
}

static void on_fork(void)
{
    child_calls++;
}

static int look_as_child(void)
{
    if (os->process() == parent_process || os->process() != (uint64_t)getpid()) return 1;
    return child_calls == 1 && prepare_calls == 1 && parent_calls == 0 ? 0 : 2;
}

TEST(a_forked_child_is_another_process_and_is_told)
{
    os_at_fork(before_fork, behind_fork, on_fork);
    os_at_fork(before_fork, behind_fork, on_fork); /* once */
    parent_process = os->process();
    CHECK_EQUAL(parent_process, getpid());
    CHECK_EQUAL(os->process(), parent_process);
    CHECK_EQUAL(in_child(look_as_child), 0);
    CHECK_EQUAL(child_calls, 0);
    CHECK_EQUAL(prepare_calls, 1);
    CHECK_EQUAL(parent_calls, 1);
}
