/* live_scenarios.h -- operations on live heaps at which a process is killed, and what they find.
 *
 * A child prepares a heap, perhaps with other processes that have slices of it, live on or are
 * dead, and is then stepped through one operation. What must be there whatever happens, it tells
 * its parent through shared memory.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_LIVE_SCENARIOS_H
#define EVERHEAP_TESTS_SUPPORT_LIVE_SCENARIOS_H

#include "heap/heap.h"
#include "support/step.h"

enum {
    SCENARIO_KEPT_MAX = 1200,
    SCENARIO_HEAP_BYTES_MAX = 256 << 20,
    SCENARIO_SLOTS = 8,
    SIZE_SMALL = 64,
    SIZE_OTHER = 700,
    SIZE_MEDIUM = 20000,
    SIZE_LARGE = 70000,
    SIZE_LARGER = 200000,
};

/* A block that must survive, and hold its stamp. */
struct kept {
    uint64_t offset;
    uint32_t size;
    bool is_freed; /* by the survivor of this recovery */
};

/* What the child tells its parent. */
/* What the child tells its parent. */
struct scenario_world {
    struct kept kept[SCENARIO_KEPT_MAX];
    uint32_t kept_count;
    uint64_t target; /* the block that the operation ends, or moves; 0: none */
    uint64_t slots;  /* the block of refs */
    struct step_skip skip;
    bool has_failed;
    char error[256];
};

enum scenario_flags {
    EXACT = 0,
    LEAKS = 1,   /* a block may be live that nothing names */
    MOVES = 2,   /* the target may end only when another block took its place */
    ALONE = 4,   /* nobody else is attached */
    LONG = 8,    /* hundreds of thousands of instructions: only with EFFORT=2 and more */
    VARIES = 16, /* the clock, or others, change what it does */
};

struct scenario {
    const char *name;
    void (*prepare)(void);
    void (*operate)(void);
    unsigned flags;
};

extern const struct scenario scenarios[];
extern const unsigned scenario_count;

/** The file that the child works on, and where it tells: before it is forked. */
void scenario_use(const char *path, struct scenario_world *world);
/** A pattern that depends on the block's place, in its first bytes. */
void scenario_stamp(void *block, uint64_t offset, size_t size);
bool scenario_is_stamped(const void *block, uint64_t offset, size_t size);

#endif
