/* malloc_programs.h -- programs that allocate as those of the field's suites do. */
#ifndef EVERHEAP_BENCH_MALLOC_PROGRAMS_H
#define EVERHEAP_BENCH_MALLOC_PROGRAMS_H

#include <stdbool.h>
#include <stdint.h>

struct malloc_program {
    const char *name;
    const char *pattern; /* what it does, and after which program of the field */
    bool has_threads;
    /* `scale` is 1000 for a full run. Returns a checksum that no allocator changes. */
    uint64_t (*run)(uint64_t scale);
};

/** Those of one thread, and those of several; likewise. */
extern const struct malloc_program malloc_single_programs[];
extern const struct malloc_program malloc_thread_programs[];

#endif
