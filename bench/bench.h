/* bench.h -- what the benchmarks share: time, samples, options, processes, the machine. */
#ifndef EVERHEAP_BENCH_BENCH_H
#define EVERHEAP_BENCH_BENCH_H

#include <everheap.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BENCH_KIB 1024ull
#define BENCH_MIB (1024ull * BENCH_KIB)
#define BENCH_GIB (1024ull * BENCH_MIB)

/** Print a message and exit with status 2: a benchmark that cannot go on has no result. */
void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/** Die of the last error of everheap unless `fine`. */
void bench_require(bool fine, const char *what);

/** Nanoseconds of a clock that never steps. */
uint64_t bench_now_ns(void);
/** splitmix64: the next number of the sequence in `*state`. */
uint64_t bench_random(uint64_t *state);
/** malloc and calloc that die instead of failing. */
void *bench_memory(size_t count, size_t size);

/* ---- samples ---- */

struct bench_samples {
    double *values;
    size_t count, limit;
    bool is_sorted;
};

void bench_samples_add(struct bench_samples *samples, double value);
/** The value that `part` (0 to 1) of the samples do not exceed; 0 if there is none. Sorts them. */
double bench_samples_at(struct bench_samples *samples, double part);
void bench_samples_free(struct bench_samples *samples);
/** The median of `count` values, which it sorts. */
double bench_median(double *values, size_t count);

/** "12.3 us" and the like, in one of eight static buffers. */
const char *bench_time_text(double nanoseconds);
/** "1.23 x", or "-" where either is 0. Likewise static. */
const char *bench_ratio_text(double numerator, double denominator);

/* ---- options: --name or --name=value ---- */

struct bench_option {
    const char *name;    /* without the dashes */
    const char *meaning; /* for --help */
    bool has_value;
    const char *value; /* what was given: "" for an option without value; NULL if not given */
};

/** Read the options into `options`, which end with a null name; dies on others, and prints `about`
 *  and exits at --help. */
void bench_options_read(int argc, char **argv, struct bench_option *options, const char *about);
/** The option's value, or NULL. */
const char *bench_option(const struct bench_option *options, const char *name);
/** The option's value as a number, or `otherwise`. */
uint64_t bench_option_number(const struct bench_option *options, const char *name,
                             uint64_t otherwise);

/* ---- files ---- */

/** Where the data goes: $BENCH_DIR, or build/bench-data. Made if it is not there. */
const char *bench_directory(void);
/** A path in it, owned by the caller. Another benchmark's leftover of that name is removed. */
char *bench_file(const char *name);
/** Remove the file at `path` and free `path`. NULL is fine. */
void bench_file_end(char *path);
/** Bytes that an unprivileged process may still write there. */
uint64_t bench_space_bytes(void);
/** Flush the file, then drop its pages from the cache. Returns how many of its bytes still are. */
uint64_t bench_file_make_cold(const char *path);
/** Read the file, so that its pages are in the cache. */
void bench_file_make_warm(const char *path);

/* ---- the record of the run ---- */

/** Print what the figures depend on: machine, kernel, file system, versions; and warn of what
 *  spoils them. */
void bench_print_machine(const char *title);
const char *bench_detect_name(evh_detect detect);
/** Print the command line that repeats this run. */
void bench_print_command(int argc, char **argv);

/* ---- processes ---- */

struct bench_result {
    char *output;   /* of its standard output, terminated; owned */
    double wall_ns; /* from before it was started until it was gone */
    int status;     /* as of waitpid() */
};

/** Run this program again with `arguments` (up to a null), LD_PRELOAD set to `preload` unless NULL,
 *  its errors hidden if `quiet`. End it with free(output). */
struct bench_result bench_run_self(const char *const *arguments, const char *preload, bool quiet);

/* ---- counting dirtied pages of a process: bench_dirty.c ---- */

/** Begin to count the pages of private anonymous memory that this process writes to. False if the
 *  kernel cannot (Linux 6.7, userfaultfd). Once per process. */
bool bench_dirty_begin(void);
/** Forget what was written until now. */
void bench_dirty_reset(void);
/** How many pages were written to since. */
uint64_t bench_dirty_count(void);

#endif
