/* malloc_suite.c -- whole programs on everheap's malloc() beside other allocators. */
#include "bench.h"
#include "malloc_programs.h"
#include "malloc_real.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Method
 *   Every program runs as a process of its own with LD_PRELOAD naming the allocator (glibc's:
 *   none), from its start to its end. The allocators take turns within each repetition, and the
 *   order turns; shown are medians. Time is the processor's (user and system) for programs of one
 *   thread, because it is what other work on the machine disturbs least, and the clock's for those
 *   of several. Memory is the largest resident set that the kernel saw.
 *
 *   The noise is what the same figure varies by between repetitions: the median over all programs
 *   and allocators of (largest - smallest) / median.
 *
 *   A program of our own prints a checksum, which has to be the same under each allocator.
 */

enum { REPETITIONS_MAX = 9, FULL_SCALE = 1000, PROGRAMS_MAX = 40 };

struct allocator {
    const char *name;
    const char *preloads[4]; /* file names to try; none: glibc's */
    const char *preload;     /* the one that worked */
    bool is_there;
};

static char everheap_path[4096];

static struct allocator allocators[] = {
    {.name = "everheap", .preloads = {everheap_path}},
    {.name = "glibc", .is_there = true},
    {.name = "mimalloc", .preloads = {"libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so"}},
    {.name = "jemalloc", .preloads = {"libjemalloc.so.2", "libjemalloc.so"}},
    {.name = "tcmalloc", .preloads = {"libtcmalloc_minimal.so.4", "libtcmalloc.so.4"}},
};

enum { ALLOCATORS = sizeof allocators / sizeof allocators[0], EVERHEAP = 0, MIMALLOC = 2 };

struct program {
    const char *name;
    bool has_threads;
    char scale[32];
    const char *arguments[9];
    const char *environment;
    double seconds[ALLOCATORS], mebibytes[ALLOCATORS], spread[ALLOCATORS];
};

static struct program programs[PROGRAMS_MAX];
static unsigned program_count;

static const char about[] =
    "Run programs on everheap's malloc() beside glibc's and what else is installed.\n"
    "usage: malloc_suite [options]";

static struct bench_option options[] = {
    {"quick", "3 repetitions, a third of the work", false, NULL},
    {"tiny", "seconds: only to see that it works", false, NULL},
    {"only", "programs whose name has this text", true, NULL},
    {"repeat", "repetitions (5 by default, 9 at most)", true, NULL},
    {"versus", "only everheap and the allocator whose name has this text", true, NULL},
    {"child", "internal: run this program of our own", true, NULL},
    {"scale", "internal: how much of it", true, NULL},
    {0},
};

/* ---- one run ---- */

struct run {
    double seconds, mebibytes;
    char output[64]; /* the first bytes */
};

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

/* Becomes the program; does not return. */
static void become(const struct program *program, const char *preload, int output)
{
    char *environment = NULL;
    if (preload) setenv("LD_PRELOAD", preload, 1);
    if (program->environment && (environment = strdup(program->environment)) != NULL)
        putenv(environment);
    /* Where it is allowed. Threads of such a priority may end up on one processor. */
    const struct sched_param priority = {.sched_priority = 10};
    if (!program->has_threads) (void)sched_setscheduler(0, SCHED_RR, &priority);
    dup2(output, STDOUT_FILENO);
    if (program->arguments[0][0] == '/') {
        execv(program->arguments[0], (char **)(uintptr_t)program->arguments);
    } else {
        if (chdir(bench_directory()) != 0) _exit(126);
        execvp(program->arguments[0], (char **)(uintptr_t)program->arguments);
    }
    _exit(127);
}

static struct run run_once(const struct program *program, const char *preload)
{
    struct run run = {0};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) bench_die("pipe: %s", strerror(errno));
    fflush(stdout);
    const uint64_t start = bench_now_ns();
    const pid_t process = fork();
    if (process < 0) bench_die("fork: %s", strerror(errno));
    if (process == 0) become(program, preload, ends[1]);
    close(ends[1]);
    size_t size = 0;
    static char buffer[65536];
    for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
        for (ssize_t i = 0; i < got && size + 1 < sizeof run.output; i++)
            run.output[size++] = buffer[i];
    close(ends[0]);
    int status = 0;
    struct rusage usage;
    while (wait4(process, &status, 0, &usage) < 0 && errno == EINTR) continue;
    if (status != 0) bench_die("%s on %s: status %d", program->name, preload, status);
    run.seconds = program->has_threads ? (double)(bench_now_ns() - start) / 1e9
                                       : seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
    run.mebibytes = (double)usage.ru_maxrss / 1024;
    return run;
}

/* ---- all of them ---- */

static void measure(struct program *program, unsigned repetitions)
{
    double seconds[ALLOCATORS][REPETITIONS_MAX], mebibytes[ALLOCATORS][REPETITIONS_MAX];
    char first[64] = "";
    for (unsigned repetition = 0; repetition < repetitions; repetition++)
        for (unsigned turn = 0; turn < ALLOCATORS; turn++) {
            const unsigned i = (repetition + turn) % ALLOCATORS;
            if (!allocators[i].is_there) continue;
            const struct run run = run_once(program, allocators[i].preload);
            seconds[i][repetition] = run.seconds;
            mebibytes[i][repetition] = run.mebibytes;
            if (!first[0]) snprintf(first, sizeof first, "%s", run.output);
            if (strcmp(first, run.output) != 0)
                bench_die("%s on %s prints something else", program->name, allocators[i].name);
        }
    for (unsigned i = 0; i < ALLOCATORS; i++) {
        if (!allocators[i].is_there) continue;
        program->seconds[i] = bench_median(seconds[i], repetitions);
        program->spread[i] = (seconds[i][repetitions - 1] - seconds[i][0]) / program->seconds[i];
        program->mebibytes[i] = bench_median(mebibytes[i], repetitions);
    }
}

static bool is_wanted(const char *name)
{
    const char *const only = bench_option(options, "only");
    return (!only || strstr(name, only)) && program_count < PROGRAMS_MAX;
}

static void add_own(const struct malloc_program *own, unsigned scale)
{
    static char self[4096];
    if (!self[0] && readlink("/proc/self/exe", self, sizeof self - 1) < 0) bench_die("no /proc");
    for (; own->name; own++) {
        if (!is_wanted(own->name)) continue;
        struct program *const made = &programs[program_count++];
        char *const child = bench_memory(1, 64);
        snprintf(child, 64, "--child=%s", own->name);
        *made = (struct program){.name = own->name, .has_threads = own->has_threads};
        snprintf(made->scale, sizeof made->scale, "--scale=%u", scale);
        made->arguments[0] = self;
        made->arguments[1] = child;
        made->arguments[2] = made->scale;
    }
}

/* Run a shell command in the directory of the data. */
static bool run_shell(const char *command)
{
    const pid_t process = fork();
    if (process < 0) bench_die("fork: %s", strerror(errno));
    if (process == 0) {
        if (chdir(bench_directory()) != 0) _exit(126);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    while (waitpid(process, &status, 0) < 0 && errno == EINTR) continue;
    return status == 0;
}

static void add_real(void)
{
    for (const struct malloc_real *real = malloc_reals; real->name; real++) {
        char check[64];
        if (!is_wanted(real->name)) continue;
        snprintf(check, sizeof check, "command -v %s >/dev/null", real->name);
        if (!run_shell(check)) {
            printf("  %s is not installed: left out\n", real->name);
            continue;
        }
        if (!run_shell(real->prepare)) bench_die("cannot make the input of %s", real->name);
        struct program *const made = &programs[program_count++];
        *made = (struct program){.name = real->name, .environment = real->environment};
        memcpy(made->arguments, real->arguments, sizeof real->arguments);
    }
}

/* ---- finding the allocators ---- */

/* Whether the dynamic loader finds the file, and a program works with it. */
static bool works(const char *preload)
{
    char command[4300];
    snprintf(command, sizeof command,
             "test -z \"$(LD_PRELOAD=%s /bin/true 2>&1)\" && LD_PRELOAD=%s /bin/true", preload,
             preload);
    return run_shell(command);
}

static void find_allocators(void)
{
    const ssize_t size = readlink("/proc/self/exe", everheap_path, sizeof everheap_path - 64);
    if (size < 0) bench_die("no /proc");
    everheap_path[size] = 0;
    for (unsigned up = 0; up < 2; up++) *strrchr(everheap_path, '/') = 0;
    strncat(everheap_path, "/libeverheap-malloc.so", 60);
    const char *const versus = bench_option(options, "versus");
    for (unsigned i = 0; i < ALLOCATORS; i++) {
        struct allocator *const a = &allocators[i];
        for (unsigned k = 0; k < 4 && !a->is_there && a->preloads[k]; k++) {
            a->is_there = works(a->preloads[k]);
            a->preload = a->preloads[k];
        }
        if (i != EVERHEAP && versus && !strstr(a->name, versus)) a->is_there = false;
        printf("  %-12s %s\n", a->name,
               !a->is_there ? "left out"
               : a->preload ? a->preload
                            : "the C library's");
    }
    if (!allocators[EVERHEAP].is_there) bench_die("no %s: run make", everheap_path);
}

/* ---- the table ---- */

static void print_header(const char *what, const char *unit)
{
    printf("\n## %s\n\n  %-14s", what, unit);
    for (unsigned i = 0; i < ALLOCATORS; i++)
        if (allocators[i].is_there) printf(" %10s", allocators[i].name);
    printf("   everheap / mimalloc\n");
}

static void print_means(const char *what, const double logarithms[ALLOCATORS], unsigned count)
{
    printf("  %-14s", what);
    for (unsigned i = 0; i < ALLOCATORS; i++)
        if (allocators[i].is_there) printf(" %10.3f", exp(logarithms[i] / count));
    printf("\n");
}

static void print_table(bool is_memory)
{
    double logarithms[ALLOCATORS] = {0};
    unsigned count = 0;
    const unsigned base = allocators[MIMALLOC].is_there ? MIMALLOC : 1;
    print_header(is_memory ? "peak memory" : "time (processor's; -2: the clock's)",
                 is_memory ? "MiB" : "seconds");
    for (unsigned k = 0; k < program_count; k++) {
        const struct program *const p = &programs[k];
        const double *const figures = is_memory ? p->mebibytes : p->seconds;
        printf("  %-14s", p->name);
        for (unsigned i = 0; i < ALLOCATORS; i++) {
            if (!allocators[i].is_there) continue;
            printf(is_memory ? " %10.1f" : " %10.3f", figures[i]);
            logarithms[i] += log(figures[i] / figures[base]);
        }
        printf("   %6.2f x\n", figures[EVERHEAP] / figures[base]);
        count++;
    }
    if (count) print_means(is_memory ? "mean memory" : "mean time", logarithms, count);
}

static void print_noise(unsigned repetitions)
{
    double spreads[PROGRAMS_MAX * ALLOCATORS];
    size_t count = 0;
    for (unsigned k = 0; k < program_count; k++)
        for (unsigned i = 0; i < ALLOCATORS; i++)
            if (allocators[i].is_there) spreads[count++] = programs[k].spread[i];
    if (count == 0) return;
    const double median = bench_median(spreads, count);
    printf("\n  noise: the same time varies by %.1f %% in the median, by %.1f %% at the 90th "
           "percentile "
           "(largest - smallest of %u)\n",
           median * 100, spreads[count * 9 / 10] * 100, repetitions);
}

/* Twice the work in how much of the time. */
static void print_scaling(void)
{
    const struct program *one = NULL, *two = NULL;
    for (unsigned k = 0; k < program_count; k++) {
        if (strcmp(programs[k].name, "own-1") == 0) one = &programs[k];
        if (strcmp(programs[k].name, "own-2") == 0) two = &programs[k];
    }
    if (!one || !two) return;
    printf("\n  two threads against one, on %ld processors (own):", sysconf(_SC_NPROCESSORS_ONLN));
    for (unsigned i = 0; i < ALLOCATORS; i++)
        if (allocators[i].is_there)
            printf(" %s %.2f", allocators[i].name, 2 * one->seconds[i] / two->seconds[i]);
    printf("\n");
}

static int run_child(const char *name, uint64_t scale)
{
    static const struct malloc_program *const lists[] = {malloc_single_programs,
                                                         malloc_thread_programs};
    for (unsigned i = 0; i < 2; i++)
        for (const struct malloc_program *own = lists[i]; own->name; own++) {
            if (strcmp(own->name, name) != 0) continue;
            printf("%llu\n", (unsigned long long)own->run(scale));
            return 0;
        }
    bench_die("no such program");
}

int main(int argc, char **argv)
{
    bench_options_read(argc, argv, options, about);
    const char *const child = bench_option(options, "child");
    if (child) return run_child(child, bench_option_number(options, "scale", FULL_SCALE));

    bench_print_machine("# Programs on everheap's malloc() beside other allocators");
    find_allocators();
    const bool is_tiny = bench_option(options, "tiny") != NULL;
    const bool is_quick = bench_option(options, "quick") != NULL;
    const unsigned scale = is_tiny ? FULL_SCALE / 50 : is_quick ? FULL_SCALE / 3 : FULL_SCALE;
    uint64_t repetitions = bench_option_number(options, "repeat", is_tiny ? 1 : is_quick ? 3 : 5);
    if (repetitions < 1 || repetitions > REPETITIONS_MAX) bench_die("repeat: 1 to 9");
    add_own(malloc_single_programs, scale);
    add_own(malloc_thread_programs, scale);
    add_real();
    for (unsigned i = 0; i < program_count; i++) measure(&programs[i], (unsigned)repetitions);
    print_table(true);
    print_table(false);
    print_noise((unsigned)repetitions);
    print_scaling();
    bench_print_command(argc, argv);
    return 0;
}
