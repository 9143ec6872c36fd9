/* step.h -- a process is stepped through an operation, and what it would leave is looked at.
 *
 * A child runs one operation under ptrace, one instruction at a time. At every instruction the
 * contents of some files that it maps are what a SIGKILL there would leave; wherever they differ
 * from those an instruction before, the parent gets a copy to judge. Instructions that left them as
 * they were need no judgement of their own, but are points at which the child could have been
 * killed, and are counted.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_STEP_H
#define EVERHEAP_TESTS_SUPPORT_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STEP_FILES_MAX = 2 };

/* A part of the first file that nothing stores to: it is not looked at, and not copied. */
struct step_skip {
    uint64_t first, end;
};

/* A file's contents at one moment. */
struct step_image {
    bool exists;
    size_t size;
    unsigned char *bytes; /* borrowed until the judge returns */
    struct step_skip skip;
};

struct step_plan {
    const char *paths[STEP_FILES_MAX];
    void (*prepare)(void *context); /* in the child, at full speed */
    void (*operate)(void *context); /* in the child, stepped */
    /* In the parent: NULL, or what is wrong with what a kill leaves. */
    const char *(*judge)(const struct step_image images[STEP_FILES_MAX], void *context);
    void *context;
    const struct step_skip
        *skip;            /* shared with the child, which sets it when it prepares; or NULL */
    bool compares_always; /* at every instruction, not only behind those that may store */
};

/* What others do while the child is stopped in the middle, and when it is through. They return
 * NULL, or what is wrong. */
struct step_others {
    const char *(*beside)(void *context);
    const char *(*behind)(void *context);
};

struct step_result {
    uint64_t points; /* instructions at which the child was stopped */
    uint64_t stores; /* of these, before one that may store */
    uint64_t images; /* different ones, in a row */
    char problem[512];
};

/** What keeps processes from being stepped on this system; NULL if nothing does. Static. */
const char *step_obstacle(void);
/** Step a child through plan->operate. False: result->problem says what is wrong. */
bool step_run(const struct step_plan *plan, struct step_result *result);
/** Stop a child in plan->operate before the instruction that is the `stop_at`-th of those that may
 *  store, let others act, and let it go on at full speed. Nothing is judged. False: as above. */
bool step_run_beside(const struct step_plan *plan, uint64_t stop_at,
                     const struct step_others *others, struct step_result *result);

#endif
