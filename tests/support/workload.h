/* workload.h -- random work on a heap in a simulated machine, and what may be left of it.
 *
 * The workload drives a real heap through the public interface and writes marks into the machine's
 * log: a commit begins (with a hash of the content it commits), it is handed to the system, it is
 * acknowledged, it has failed. At any point of the log the marks so far make a `struct window`: the
 * contents that a crash there may leave.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_WORKLOAD_H
#define EVERHEAP_TESTS_SUPPORT_WORKLOAD_H

#include "support/os_sim.h"

#define WORKLOAD_PATH "heap"

enum { WINDOW_MAX = 32 };

/* Contents that may be found, the oldest first. */
struct window {
    uint64_t ids[WINDOW_MAX];
    uint64_t hashes[WINDOW_MAX];
    uint32_t count;
    uint64_t handed;    /* a killed process leaves this id or a later one */
    bool may_be_absent; /* the file was not created yet */
};

/* All contents there ever were. */
struct window_history {
    uint64_t *hashes;
    size_t count, capacity;
};

enum mark { MARK_BEGIN = 1, MARK_HANDED, MARK_ACKNOWLEDGED, MARK_FAILED, MARK_ONLY };

/** Take the window over a mark. */
void window_step(struct window *window, const struct sim_operation *mark);
/** Whether the content may be found; after a kill, only what was handed over, or later. */
bool window_allows(const struct window *window, uint64_t hash, bool is_kill);

/** A hash of the live blocks, where they lie and what they hold, and of the roots. */
uint64_t content_hash(evh_heap *heap);

/* How much of what a workload does. Weights are relative. */
struct workload_plan {
    const char *name;
    unsigned steps; /* operations */
    unsigned slots; /* blocks at most */
    unsigned commit, group, rollback, checkpoint, trim, reopen, kill, save;
    unsigned mutate; /* weight of a change */
    unsigned large;  /* of blocks above 64 KiB among changes, in percent */
    unsigned medium; /* of blocks of 4 to 60 KiB, in percent */
    bool varied;     /* blocks of all sizes, else of a few */
    unsigned fault;  /* weight of a planned fault */
    unsigned fault_kinds;
    uint64_t checkpoint_bytes, journal_max_bytes, size_max_bytes, private_max_bytes;
    uint64_t bulk_pages; /* new pages from which on they are written home at once; 0: as ever */
    bool background;            /* a background thread checkpoints */
    uint64_t system_page_bytes; /* 0: 4096 */
    bool real_tiers;            /* dirty pages by the kernel's means instead of comparing all */
};

struct workload {
    struct sim *machine;
    const struct workload_plan *plan;
    evh_heap *heap; /* NULL: it could not be opened */
    evh_options options;
    uint64_t random;
    uint64_t next_id;
    uint64_t last_hash; /* of the last commit that was begun and did not fail */
    uint64_t pending_ids[WINDOW_MAX / 2];
    evh_ticket tickets[WINDOW_MAX / 2];
    unsigned pending_count; /* begun, not waited for */
    struct window window;   /* followed while working, to check what a reopening finds */
    size_t window_stepped;
    uint64_t commits;
    char problem[256]; /* "" or what was wrong: the workload stops */
};

/** The options of a plan. */
evh_options workload_options(const struct workload_plan *plan);
/** Create the heap in `machine`, which is in use, and work. False: see problem. */
bool workload_run(struct workload *work, struct sim *machine, const struct workload_plan *plan,
                  uint64_t seed);
/** Go on in a heap that is open, with `steps` operations; ids continue from the window's. */
bool workload_continue(struct workload *work, struct sim *machine, evh_heap *heap,
                       const struct workload_plan *plan, const struct window *window, uint64_t seed,
                       unsigned steps);
/** Close what is open as a killed process would: nothing reaches the machine. */
void workload_abandon(struct workload *work);

#endif
