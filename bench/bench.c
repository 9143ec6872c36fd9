/* bench.c -- what the benchmarks share: time, samples, options, processes, the machine. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* ---- failure, time, chance ---- */

void bench_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    _exit(2);
}

void bench_require(bool fine, const char *what)
{
    if (!fine) bench_die("%s: %s", what, evh_last_error()->message);
}

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_random(uint64_t *state)
{
    uint64_t value = *state += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

void *bench_memory(size_t count, size_t size)
{
    void *const memory = calloc(count, size);
    if (!memory) bench_die("no memory for %zu x %zu bytes", count, size);
    return memory;
}

/* ---- samples ---- */

void bench_samples_add(struct bench_samples *samples, double value)
{
    if (samples->count == samples->limit) {
        samples->limit = samples->limit ? 2 * samples->limit : 256;
        samples->values = realloc(samples->values, samples->limit * sizeof *samples->values);
        if (!samples->values) bench_die("no memory for samples");
    }
    samples->values[samples->count++] = value;
    samples->is_sorted = false;
}

static int compare_doubles(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double bench_samples_at(struct bench_samples *samples, double part)
{
    if (samples->count == 0) return 0;
    if (!samples->is_sorted) {
        qsort(samples->values, samples->count, sizeof *samples->values, compare_doubles);
        samples->is_sorted = true;
    }
    return samples->values[(size_t)(part * (double)(samples->count - 1) + 0.5)];
}

void bench_samples_free(struct bench_samples *samples)
{
    free(samples->values);
    *samples = (struct bench_samples){0};
}

double bench_median(double *values, size_t count)
{
    if (count == 0) return 0;
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* ---- text ---- */

/* One of eight buffers in turn, so that a printf() may use several. */
static char *text_buffer(void)
{
    static char buffers[8][40];
    static unsigned next;
    return buffers[next++ % 8];
}

const char *bench_time_text(double nanoseconds)
{
    char *const text = text_buffer();
    if (nanoseconds <= 0)
        snprintf(text, 40, "-");
    else if (nanoseconds < 1e3)
        snprintf(text, 40, "%.1f ns", nanoseconds);
    else if (nanoseconds < 1e6)
        snprintf(text, 40, "%.1f us", nanoseconds / 1e3);
    else if (nanoseconds < 1e9)
        snprintf(text, 40, "%.2f ms", nanoseconds / 1e6);
    else
        snprintf(text, 40, "%.2f s", nanoseconds / 1e9);
    return text;
}

const char *bench_ratio_text(double numerator, double denominator)
{
    char *const text = text_buffer();
    if (numerator <= 0 || denominator <= 0)
        snprintf(text, 40, "-");
    else
        snprintf(text, 40, "%.2f x", numerator / denominator);
    return text;
}

/* ---- options ---- */

static void options_print(const struct bench_option *options, const char *about)
{
    printf("%s\n\n", about);
    for (; options->name; options++) {
        char left[40];
        snprintf(left, sizeof left, "--%s%s", options->name, options->has_value ? "=..." : "");
        printf("  %-20s %s\n", left, options->meaning);
    }
    printf("  %-20s %s\n", "BENCH_DIR", "environment: where the data goes (build/bench-data)");
}

void bench_options_read(int argc, char **argv, struct bench_option *options, const char *about)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            options_print(options, about);
            exit(0);
        }
        struct bench_option *option = options;
        for (; option->name; option++) {
            const size_t size = strlen(option->name);
            if (strncmp(argv[i], "--", 2) != 0 || strncmp(argv[i] + 2, option->name, size) != 0)
                continue;
            const char *const rest = argv[i] + 2 + size;
            if (option->has_value ? *rest != '=' : *rest != 0) continue;
            option->value = option->has_value ? rest + 1 : "";
            break;
        }
        if (!option->name) bench_die("%s: no such option; see --help", argv[i]);
    }
}

const char *bench_option(const struct bench_option *options, const char *name)
{
    for (; options->name; options++)
        if (strcmp(options->name, name) == 0) return options->value;
    bench_die("option %s is not declared", name);
}

uint64_t bench_option_number(const struct bench_option *options, const char *name,
                             uint64_t otherwise)
{
    const char *const text = bench_option(options, name);
    if (!text) return otherwise;
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno || *text == 0 || *end != 0) bench_die("--%s=%s: a number is needed", name, text);
    return value;
}

/* ---- files ---- */

const char *bench_directory(void)
{
    static char directory[1024];
    if (directory[0]) return directory;
    const char *const given = getenv("BENCH_DIR");
    snprintf(directory, sizeof directory, "%s", given && *given ? given : "build/bench-data");
    for (char *slash = directory + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(directory, 0777);
        *slash = '/';
    }
    mkdir(directory, 0777);
    struct stat status;
    if (stat(directory, &status) != 0 || !S_ISDIR(status.st_mode))
        bench_die("%s: no directory, and it cannot be made", directory);
    return directory;
}

char *bench_file(const char *name)
{
    const size_t size = strlen(bench_directory()) + strlen(name) + 2;
    char *const path = bench_memory(1, size);
    snprintf(path, size, "%s/%s", bench_directory(), name);
    unlink(path);
    return path;
}

void bench_file_end(char *path)
{
    if (!path) return;
    unlink(path);
    free(path);
}

uint64_t bench_space_bytes(void)
{
    struct statfs system;
    if (statfs(bench_directory(), &system) != 0) return 0;
    return (uint64_t)system.f_bavail * (uint64_t)system.f_bsize;
}

/* How many bytes of an open file are in the page cache. */
static uint64_t cached_bytes(int file, uint64_t size)
{
    if (size == 0) return 0;
    void *const map = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) return 0;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t pages = (size + page - 1) / page;
    unsigned char *const present = bench_memory(pages, 1);
    uint64_t count = 0;
    if (mincore(map, size, present) == 0)
        for (size_t i = 0; i < pages; i++) count += present[i] & 1;
    free(present);
    munmap(map, size);
    return count * page;
}

uint64_t bench_file_make_cold(const char *path)
{
    const int file = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) bench_die("%s: %s", path, strerror(errno));
    if (fsync(file) != 0) bench_die("%s: fsync: %s", path, strerror(errno));
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    const uint64_t cached = cached_bytes(file, (uint64_t)status.st_size);
    close(file);
    return cached;
}

void bench_file_make_warm(const char *path)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) bench_die("%s: %s", path, strerror(errno));
    char *const buffer = bench_memory(1, BENCH_MIB);
    while (read(file, buffer, BENCH_MIB) > 0) continue;
    free(buffer);
    close(file);
}

/* ---- the record of the run ---- */

/* The rest of the first line of `path` that begins with `key`, without ": ". Static. */
static const char *line_of(const char *path, const char *key)
{
    static char line[256];
    FILE *const file = fopen(path, "re");
    const char *found = "unknown";
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, key, strlen(key)) != 0) continue;
        found = line + strlen(key);
        found += strspn(found, " \t:");
        break;
    }
    if (file) fclose(file);
    return found;
}

static const char *file_system_name(long type)
{
    switch ((unsigned long)type) {
    case 0xef53: return "ext2/3/4";
    case 0x58465342: return "xfs";
    case 0x9123683e: return "btrfs";
    case 0x01021994: return "tmpfs";
    case 0x794c7630: return "overlayfs";
    case 0xf2f52010: return "f2fs";
    case 0x2fc12fc1: return "zfs";
    default: return "another file system";
    }
}

void bench_print_machine(const char *title)
{
    struct utsname names;
    uname(&names);
    char day[32];
    const time_t now = time(NULL);
    struct tm parts;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&now, &parts));
    struct statfs system = {0};
    statfs(bench_directory(), &system);
    const double memory_gib =
        (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (double)BENCH_GIB;

    printf("%s\n\n", title);
    printf("  everheap     %s, %s, compiled by %s\n", evh_version(), day, __VERSION__);
    printf("  processor    %s, %ld in use\n", line_of("/proc/cpuinfo", "model name"),
           sysconf(_SC_NPROCESSORS_ONLN));
    printf("  memory       %.1f GiB\n", memory_gib);
    printf("  kernel       %s %s %s\n", names.sysname, names.release, names.machine);
    printf("  data in      %s (%s, %.0f GiB free)\n", bench_directory(),
           file_system_name(system.f_type), (double)bench_space_bytes() / (double)BENCH_GIB);
    if (system.f_type == 0x01021994)
        printf("  WARNING      this is memory, not a disk: flushes are free. Set BENCH_DIR.\n");
    double load = 0;
    if (getloadavg(&load, 1) == 1 && load > 0.5)
        printf("  WARNING      other work is running (load %.1f): expect noise\n", load);
#ifndef NDEBUG
    printf("  WARNING      compiled with assertions\n");
#endif
    fflush(stdout);
}

const char *bench_detect_name(evh_detect detect)
{
    switch (detect) {
    case EVH_DETECT_AUTO: break;
    case EVH_DETECT_WATCH: return "watch (userfaultfd, PAGEMAP_SCAN)";
    case EVH_DETECT_SCAN: return "scan (PAGEMAP_SCAN)";
    case EVH_DETECT_PAGEMAP: return "pagemap (/proc/self/pagemap)";
    case EVH_DETECT_PROTECT: return "protect (mprotect, SIGSEGV)";
    case EVH_DETECT_COMPARE: return "compare";
    }
    return "none";
}

void bench_print_command(int argc, char **argv)
{
    printf("\nTo repeat: make, then");
    const char *const directory = getenv("BENCH_DIR");
    if (directory && *directory) printf(" BENCH_DIR=%s", directory);
    for (int i = 0; i < argc; i++) printf(" %s", argv[i]);
    printf("\n");
}

/* ---- processes ---- */

/* The environment, in which LD_PRELOAD is `preload`, or missing if that is NULL. Owned; so is its
 * last string but one. */
static char **environment_with(const char *preload)
{
    size_t count = 0;
    while (environ[count]) count++;
    char **const copy = bench_memory(count + 2, sizeof *copy);
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0) copy[used++] = environ[i];
    if (preload) {
        const size_t size = strlen(preload) + 12;
        copy[used] = bench_memory(1, size);
        snprintf(copy[used], size, "LD_PRELOAD=%s", preload);
    }
    return copy;
}

static void environment_free(char **copy, bool has_preload)
{
    size_t count = 0;
    while (copy[count]) count++;
    if (has_preload) free(copy[count - 1]);
    free(copy);
}

/* All that can be read from `file`, terminated, owned. */
static char *read_all(int file)
{
    size_t size = 0, limit = 4096;
    char *text = bench_memory(1, limit);
    for (ssize_t got; (got = read(file, text + size, limit - size - 1)) != 0;) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) bench_die("reading from a process: %s", strerror(errno));
        size += (size_t)got;
        if (limit - size < 2) {
            limit *= 2;
            text = realloc(text, limit);
            if (!text) bench_die("no memory");
        }
    }
    text[size] = 0;
    return text;
}

struct bench_result bench_run_self(const char *const *arguments, const char *preload, bool quiet)
{
    char *argv[16] = {(char *)(uintptr_t) "/proc/self/exe"};
    size_t count = 1;
    for (; arguments[count - 1] && count < 15; count++)
        argv[count] = (char *)(uintptr_t)arguments[count - 1];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) bench_die("pipe: %s", strerror(errno));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    if (quiet) posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    char **const environment = environment_with(preload);
    fflush(stdout);

    const uint64_t start = bench_now_ns();
    pid_t process;
    const int error = posix_spawn(&process, argv[0], &actions, NULL, argv, environment);
    if (error) bench_die("cannot start a process: %s", strerror(error));
    close(ends[1]);
    struct bench_result result = {.output = read_all(ends[0])};
    while (waitpid(process, &result.status, 0) < 0 && errno == EINTR) continue;
    result.wall_ns = (double)(bench_now_ns() - start);

    close(ends[0]);
    environment_free(environment, preload != NULL);
    posix_spawn_file_actions_destroy(&actions);
    return result;
}
