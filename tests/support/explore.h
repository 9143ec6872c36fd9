/* explore.h -- power cuts and kills at every point of a log, and what the heap is after each.
 *
 * At every operation of a machine's log, images of the device are built (explore.c says which);
 * each is opened by the library in a machine of its own, checked, and its content compared with the
 * window of contents that the log's marks allow. Some of the machines go on: their recovery and a
 * few more commits are recorded, and explored in turn, to depth EXPLORE_DEPTH.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_EXPLORE_H
#define EVERHEAP_TESTS_SUPPORT_EXPLORE_H

#include "support/workload.h"

enum { EXPLORE_DEPTH = 2 };

struct explore_counts {
    uint64_t images; /* opened and checked, all different or under a different window */
    uint64_t nested[EXPLORE_DEPTH + 1]; /* of these, by depth: 0 is a crash of the workload */
    uint64_t kills;                     /* of these, without loss */
    uint64_t torn;                      /* of these, with a torn write */
    uint64_t repeated;                  /* that had been seen before, left out */
    uint64_t cuts;                      /* points of the log */
    uint64_t commits;                   /* of the workloads */
    uint64_t workloads;
    uint64_t refused;  /* images of a disk that lies that were refused, or did not check clean; */
    uint64_t older;    /* that had an older commit than was acknowledged; */
    uint64_t mixtures; /* that had what no commit had, and nothing told */
};

struct explore_plan {
    const struct workload_plan *work;
    unsigned images_per_cut;
    unsigned nested_every;  /* every n-th image is continued and its log explored */
    unsigned nested_images; /* of such a log, about */
    bool disk_lies;         /* flushes are ignored: what a power cut leaves is only counted */
};

struct explorer {
    const struct explore_plan *plan;
    struct sim *machines[EXPLORE_DEPTH + 2];
    struct sim_disk *disks[EXPLORE_DEPTH + 1];
    struct explore_counts counts;
    uint64_t *seen; /* a set of identities: open addressing */
    size_t seen_count;
    uint64_t random;
    uint64_t seed;   /* of the workload: repeats everything */
    uint64_t wanted; /* images */
    struct window_history history;
    char violation[1024]; /* "" while none was found */
};

struct explorer *explorer_create(const struct explore_plan *plan);
void explorer_end(struct explorer *explorer);
/** Workload upon workload with seeds from `seed` on, until `images` are done or one is wrong.
 *  False: see violation. */
bool explore(struct explorer *explorer, uint64_t seed, uint64_t images);
/** One line about the figures. */
void explore_report(const struct explore_counts *counts, const char *name, double seconds);

#endif
