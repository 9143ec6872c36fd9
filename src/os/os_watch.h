/* os_watch.h -- what the files of the dirty-page detection share. */
#ifndef EVERHEAP_OS_OS_WATCH_H
#define EVERHEAP_OS_OS_WATCH_H

#include "os/os_linux.h"

enum {
    WATCH_GRANULE_SHIFT = 21, /* 2 MiB: what one page table maps, and what one signal opens */
    WATCH_GRANULE_BYTES = 1 << WATCH_GRANULE_SHIFT,
    WATCH_GRANULE_SLICES = WATCH_GRANULE_BYTES / SLICE_BYTES,
};
static_assert(WATCH_GRANULE_SLICES == 32, "a granule's slices are the bits of a 32-bit word");

/* [first, end) in bytes from the base: a part of the reservation that the file is mapped over. */
struct watch_range {
    uint64_t first;
    uint64_t end;
};

/* 2 MiB under write protection: a bit for each slice. Changed by the signal handler, hence
 * atomic. */
struct watch_granule {
    uint32_t covered; /* the file is mapped there */
    uint32_t open;    /* it is writable: stored to, or about to be */
};

struct os_watch {
    unsigned char *base;
    uint64_t reserved_bytes;
    evh_detect tier;
    uint64_t process; /* that opened it; a forked child's calls do nothing */

    /* What the mapping covers: ascending, disjoint, not adjacent. */
    struct watch_range *ranges;
    size_t range_count;
    size_t range_capacity;

    /* The result of a collect. */
    struct os_pages *runs;
    size_t run_count;
    size_t run_capacity;
    bool is_exact;

    /* Private pages (os_watch_scan.c). */
    int pagemap;       /* /proc/self/pagemap */
    uint64_t *entries; /* tier PAGEMAP: a buffer to read into */

    /* Tier WATCH (os_watch_scan.c). */
    int uffd;
    uint32_t *armed;  /* for each segment: its bytes below this are watched */
    uint64_t settled; /* what was covered at the first collect ends here */
    bool has_collected;
    bool may_repeat; /* what is unwatched may hold pages that were returned before */

    /* Tier PROTECT and guards (os_watch_protect.c). */
    bool has_guards;
    bool is_protecting; /* registered with the signal handler */
    bool all_open;      /* atomic: the handler had to open everything at once */
    unsigned slot;      /* where the signal handler finds it */
    struct watch_granule *granules;
};

/* ---- os_watch.c: results ---- */

/** Make room for `more` runs. */
EVH_INTERNAL int watch_runs_reserve(struct os_watch *watch, size_t more);

/** Append pages behind all others; room is there. */
EVH_INTERNAL void watch_runs_append(struct os_watch *watch, uint64_t first_byte, uint64_t end_byte);

/* ---- os_watch_scan.c: tiers WATCH, SCAN, PAGEMAP ---- */

EVH_INTERNAL int watch_scan_open(struct os_watch *watch);
EVH_INTERNAL void watch_scan_close(struct os_watch *watch);
/** [first, end) was mapped anew: nothing in it is watched. */
EVH_INTERNAL void watch_scan_added(struct os_watch *watch, uint64_t first, uint64_t end);
EVH_INTERNAL void watch_scan_discarded(struct os_watch *watch, uint64_t first, uint64_t end);
/** Append the dirty pages of [first, end), a part of one range, and watch them again. */
EVH_INTERNAL int watch_scan_collect(struct os_watch *watch, uint64_t first, uint64_t end);

/* ---- os_watch_protect.c: tier PROTECT, and guards for the tiers above ---- */

EVH_INTERNAL int watch_protect_open(struct os_watch *watch);
EVH_INTERNAL void watch_protect_close(struct os_watch *watch);
EVH_INTERNAL int watch_protect_added(struct os_watch *watch, uint64_t first, uint64_t end);
EVH_INTERNAL int watch_protect_touch(struct os_watch *watch, uint64_t first, uint64_t end);
/** Begin a collect: what the handler opened in a hurry is noted slice by slice. */
EVH_INTERNAL void watch_protect_settle(struct os_watch *watch);
/** The next run of open slices in [first, end): true, and where it lies. */
EVH_INTERNAL bool watch_protect_next(const struct os_watch *watch, uint64_t first, uint64_t end,
                                     struct watch_range *open);
/** Close what is open in [first, end) again, except a slice that `end` cuts. What the system cannot
 *  protect stays open. */
EVH_INTERNAL void watch_protect_again(struct os_watch *watch, uint64_t first, uint64_t end);

#endif
