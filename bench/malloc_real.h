/* malloc_real.h -- real programs to run on an allocator, and what they work on. */
#ifndef EVERHEAP_BENCH_MALLOC_REAL_H
#define EVERHEAP_BENCH_MALLOC_REAL_H

struct malloc_real {
    const char *name;    /* of the program, as it is found in PATH */
    const char *what;    /* it does */
    const char *prepare; /* a shell command that makes its input in the present directory */
    const char *arguments[8];
    const char *environment; /* NAME=value, or NULL */
};

/** Up to one with a null name. */
extern const struct malloc_real malloc_reals[];

#endif
