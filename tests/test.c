/* test.c -- the test harness: runs the registered tests one by one and counts. */
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef TEST_COVERAGE
#include <sys/syscall.h>
#endif
#include <time.h>
#include <unistd.h>

/*
 * Usage: x_test [-v] [--list] [--first] [SEED=n] [text]     only tests whose name contains text
 * --first stops at the first failure.
 *
 * A failed CHECK leaves its test by longjmp and the next one runs. In another thread, or in a
 * forked child, there is nowhere to jump to: the process ends with status 1, after saying why.
 */
enum { PATH_BUFFERS = 8, PATH_SIZE = 4096 };

static struct test *first_test;
static struct test **last_test = &first_test;
static struct test *running;
static jmp_buf test_end;
static bool has_failed;
static bool is_skipped;
static bool is_verbose;
static uint64_t seed;
static bool seed_was_read;
static pid_t harness_process;
static _Thread_local bool is_harness_thread;
static char directory[PATH_SIZE];

/* ---- what a test calls ---- */

void test_register(struct test *test)
{
    *last_test = test;
    last_test = &test->next;
}

void test_fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char message[1024];
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    printf("FAILED %s\n    %s:%d: %s\n", running ? running->name : "?", file, line, message);
    if (seed_was_read) printf("    SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    has_failed = true;
}

void test_stop(void)
{
    if (is_harness_thread && getpid() == harness_process) longjmp(test_end, 1);
    fprintf(stderr, "    in another thread or process: everything stops here\n");
    _exit(1);
}

void test_skip(const char *why)
{
    printf("skipped %s: %s\n", running ? running->name : "?", why);
    fflush(stdout);
    is_skipped = true;
    test_stop();
}

uint64_t test_seed(void)
{
    if (seed_was_read) return seed;
    const char *text = getenv("SEED");
    if (text) {
        seed = strtoull(text, NULL, 0);
    } else {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        uint64_t mixed = (uint64_t)now.tv_nsec ^ ((uint64_t)now.tv_sec << 20) ^ (uint64_t)getpid();
        seed = test_random(&mixed) >> 32; /* short enough to type */
    }
    seed_was_read = true;
    return seed;
}

uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t test_effort(uint64_t count)
{
    const char *text = getenv("EFFORT");
    const double effort = text ? strtod(text, NULL) : 1;
    const double scaled = (double)count * effort;
    return scaled < 1 ? 1 : (uint64_t)scaled;
}

bool test_has_addresses(uint64_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *reserved = mmap(NULL, bytes, PROT_NONE, flags, -1, 0);
    if (reserved == MAP_FAILED) return false;
    munmap(reserved, bytes);
    return true;
}

#ifdef TEST_COVERAGE
/* `make cover` renames every _exit() to this, so that forked children leave their counts. */
void __gcov_dump(void);

void test_exit(int status)
{
    __gcov_dump();
    syscall(SYS_exit_group, status);
    abort();
}
#endif

/* ---- the directory ---- */

/* Remove `path` with what is in it. Depth is bounded: tests make at most a few levels. */
static void directory_remove(const char *path, unsigned depth)
{
    DIR *listing = depth < 8 ? opendir(path) : NULL;
    for (struct dirent *entry; listing && (entry = readdir(listing));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char child[PATH_SIZE];
        if (snprintf(child, sizeof child, "%s/%s", path, entry->d_name) >= (int)sizeof child)
            continue;
        struct stat status;
        if (lstat(child, &status)) continue;
        if (S_ISDIR(status.st_mode)) {
            if (chmod(child, 0700)) continue;
            directory_remove(child, depth + 1);
        } else {
            unlink(child);
        }
    }
    if (listing) closedir(listing);
    rmdir(path);
}

/* Remove what runs that were killed left behind. */
static void directory_remove_leftovers(const char *parent)
{
    DIR *listing = opendir(parent);
    if (!listing) return;
    for (struct dirent *entry; (entry = readdir(listing));) {
        if (strncmp(entry->d_name, "test-data.", 10) != 0) continue;
        const long process = strtol(entry->d_name + 10, NULL, 10);
        if (process <= 0 || kill((pid_t)process, 0) == 0 || errno != ESRCH) continue;
        char path[PATH_SIZE];
        if (snprintf(path, sizeof path, "%s/%s", parent, entry->d_name) < (int)sizeof path) {
            directory_remove(path, 0);
        }
    }
    closedir(listing);
}

static void directory_end(void)
{
    if (directory[0] && getpid() == harness_process) directory_remove(directory, 0);
}

const char *test_directory(void)
{
    if (directory[0]) return directory;
    const char *parent = getenv("EVERHEAP_TEST_DIR");
    if (!parent || !*parent) parent = "build";
    mkdir(parent, 0777);
    directory_remove_leftovers(parent);
    char absolute[PATH_SIZE - 64];
    const char *full = realpath(parent, NULL);
    snprintf(absolute, sizeof absolute, "%s", full ? full : parent);
    free((void *)(uintptr_t)full);
    snprintf(directory, sizeof directory, "%s/test-data.%ld", absolute, (long)harness_process);
    if (mkdir(directory, 0777) && errno != EEXIST) {
        fprintf(stderr, "cannot make %s: %s\n", directory, strerror(errno));
        _exit(1);
    }
    return directory;
}

const char *test_beside(const char *relative)
{
    static char paths[4][2 * PATH_SIZE];
    static unsigned next;
    char self[PATH_SIZE];
    char *path = paths[next++ % 4];
    const ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    self[size > 0 ? size : 0] = 0;
    char *end = strrchr(self, '/');
    if (end) *end = 0;
    snprintf(path, sizeof paths[0], "%s/%s", self, relative);
    return path;
}

const char *test_path(const char *name)
{
    static char buffers[PATH_BUFFERS][PATH_SIZE + 256];
    static unsigned next_buffer;
    static unsigned number;
    char *buffer = buffers[next_buffer++ % PATH_BUFFERS];
    do { /* a name of its own for each test that asks for the same */
        snprintf(buffer, sizeof buffers[0], "%s/%u-%.200s", test_directory(), number++, name);
    } while (access(buffer, F_OK) == 0);
    return buffer;
}

/* ---- the run ---- */

/* A test that dies takes the run with it, but not without its name, and leaves no files. */
static void died(int signal_number)
{
    if (getpid() == harness_process) {
        static const char before[] = "\nDIED in ";
        const char *name = running ? running->name : "no test";
        if (write(STDOUT_FILENO, before, sizeof before - 1) < 0) _exit(1);
        if (write(STDOUT_FILENO, name, strlen(name)) < 0) _exit(1);
        if (write(STDOUT_FILENO, "\n", 1) < 0) _exit(1);
        directory_end();
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* Sanitizers report deaths better than we do; SIGABRT is what they and assert() end in. */
static void catch_deaths(void)
{
    static const int signals[] = {SIGABRT, SIGTERM, SIGINT,  SIGHUP,
                                  SIGFPE,  SIGILL,  SIGSEGV, SIGBUS};
    size_t count = sizeof signals / sizeof signals[0];
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    count -= 4;
#endif
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = died;
    for (size_t i = 0; i < count; i++) sigaction(signals[i], &action, NULL);
}

static void run_test(struct test *test, unsigned counts[3])
{
    running = test;
    has_failed = is_skipped = false;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    if (is_verbose) {
        printf("%s ...\n", test->name);
        fflush(stdout);
    }
    if (setjmp(test_end) == 0) test->run();
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (is_verbose) {
        const double seconds =
            (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
        printf("    %s, %.2f s\n",
               has_failed   ? "failed"
               : is_skipped ? "skipped"
                            : "passed",
               seconds);
    }
    counts[has_failed ? 1 : is_skipped ? 2 : 0]++;
    fflush(stdout);
    running = NULL;
}

/* Weak, so that a helper program (tests/programs) can have its own and use the rest. */
__attribute__((weak)) int main(int argument_count, char **arguments)
{
    const char *wanted = "";
    bool only_list = false;
    bool stops_at_first = false;
    harness_process = getpid();
    is_harness_thread = true;
    for (int i = 1; i < argument_count; i++) {
        if (strcmp(arguments[i], "-v") == 0) {
            is_verbose = true;
        } else if (strcmp(arguments[i], "--list") == 0) {
            only_list = true;
        } else if (strcmp(arguments[i], "--first") == 0) {
            stops_at_first = true;
        } else if (strncmp(arguments[i], "SEED=", 5) == 0) {
            setenv("SEED", arguments[i] + 5, 1);
        } else {
            wanted = arguments[i];
        }
    }
    atexit(directory_end);
    catch_deaths();

    unsigned counts[3] = {0, 0, 0};
    for (struct test *test = first_test; test; test = test->next) {
        if (!strstr(test->name, wanted)) continue;
        if (only_list) {
            puts(test->name);
        } else {
            run_test(test, counts);
            if (stops_at_first && counts[1] > 0) break;
        }
    }
    if (only_list) return 0;
    printf("%u passed, %u failed, %u skipped\n", counts[0], counts[1], counts[2]);
    return counts[1] > 0;
}
