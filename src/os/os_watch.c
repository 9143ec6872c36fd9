/* os_watch.c -- which pages of a private mapping were stored to: the tiers, and what they share.
 *
 * The mapping is private (copy on write), so a store makes the kernel give the page a copy of its
 * own. The tiers, best first; all give a superset of the pages stored to since the last collect:
 *
 *   WATCH    userfaultfd write-protects pages, without signals or waiting; PAGEMAP_SCAN reports and
 *            protects again in one step. Exact. 1.1 ns for each resident page.
 *   SCAN     PAGEMAP_SCAN lists pages that are private. Not watched again: they stay in the list
 *            until they are dropped. 24 ns for each resident page.
 *   PAGEMAP  the same, read from /proc/self/pagemap. 27 ns for each page.
 *   PROTECT  mprotect() and a signal handler, 64 KiB at a time.
 *   COMPARE  everything that is mapped; the caller compares.
 *
 * With guards the first three look only where a signal handler saw a first store.
 *
 * Invariants
 *  1. A page that was stored to and not returned since is returned by the next successful collect.
 *     Room for results is made before each step that forgets (watches again), so that no failure
 *     loses pages: those returned count, the others are still known to the kernel.
 *  2. If a tier stops working (the program closed the descriptors), the next lower one takes over
 *     for good. Its set contains the truth, because a stored page is a private page.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- results ---- */

EVH_INTERNAL int watch_runs_reserve(struct os_watch *watch, size_t more)
{
    const size_t need = watch->run_count + more;
    if (need <= watch->run_capacity) return 0;
    const size_t capacity = base_max(need, 2 * watch->run_capacity);
    struct os_pages *runs = realloc(watch->runs, capacity * sizeof *runs);
    if (runs == NULL) return ENOMEM;
    watch->runs = runs;
    watch->run_capacity = capacity;
    return 0;
}

EVH_INTERNAL void watch_runs_append(struct os_watch *watch, uint64_t first_byte, uint64_t end_byte)
{
    assert(first_byte % PAGE_BYTES == 0);
    assert(end_byte > first_byte);
    const uint64_t first = first_byte >> PAGE_SHIFT;
    const uint64_t count = (end_byte - first_byte + PAGE_BYTES - 1) >> PAGE_SHIFT;
    if (watch->run_count > 0) {
        struct os_pages *last = &watch->runs[watch->run_count - 1];
        assert(last->first + last->count <= first);
        if (last->first + last->count == first) {
            last->count += count;
            return;
        }
    }
    assert(watch->run_count < watch->run_capacity);
    watch->runs[watch->run_count++] = (struct os_pages){.first = first, .count = count};
}

/* ---- what is covered ---- */

/* Add [first, end) to the ranges, joined with what it overlaps or touches. */
static int watch_ranges_add(struct os_watch *watch, uint64_t first, uint64_t end)
{
    if (watch->range_count == watch->range_capacity) {
        const size_t capacity = watch->range_capacity != 0 ? 2 * watch->range_capacity : 16;
        struct watch_range *ranges = realloc(watch->ranges, capacity * sizeof *ranges);
        if (ranges == NULL) return ENOMEM;
        watch->ranges = ranges;
        watch->range_capacity = capacity;
    }
    struct watch_range *ranges = watch->ranges;
    size_t from = 0;
    while (from < watch->range_count && ranges[from].end < first) from++;
    size_t to = from; /* [from, to): what is joined */
    while (to < watch->range_count && ranges[to].first <= end) {
        first = base_min(first, ranges[to].first);
        end = base_max(end, ranges[to].end);
        to++;
    }
    memmove(&ranges[from + 1], &ranges[to], (watch->range_count - to) * sizeof *ranges);
    watch->range_count -= to - from;
    watch->range_count++;
    ranges[from] = (struct watch_range){.first = first, .end = end};
    return 0;
}

EVH_INTERNAL int os_watch_add(struct os_watch *watch, uint64_t offset, uint64_t size)
{
    assert(offset % SLICE_BYTES == 0 && size % SLICE_BYTES == 0);
    assert(base_in_range(offset, size, watch->reserved_bytes));
    if (size == 0) return 0;

    int error = watch_ranges_add(watch, offset, offset + size);
    if (error == 0 && watch->granules != NULL) {
        error = watch_protect_added(watch, offset, offset + size);
    }
    if (error == 0 && watch->armed != NULL) watch_scan_added(watch, offset, offset + size);
    return error;
}

/* ---- collecting ---- */

static bool watch_tier_scans(const struct os_watch *watch)
{
    return watch->tier == EVH_DETECT_WATCH || watch->tier == EVH_DETECT_SCAN ||
           watch->tier == EVH_DETECT_PAGEMAP;
}

/* Everything in [first, end), for the tiers that know no better. */
static int watch_collect_all(struct os_watch *watch, uint64_t first, uint64_t end)
{
    const int error = watch_runs_reserve(watch, 1);
    if (error != 0) return error;
    watch_runs_append(watch, first, end);
    watch->is_exact = false;
    return 0;
}

static int watch_collect_part(struct os_watch *watch, uint64_t first, uint64_t end)
{
    return watch_tier_scans(watch) ? watch_scan_collect(watch, first, end)
                                   : watch_collect_all(watch, first, end);
}

/* As watch_collect_part(), of what the signal handler has opened. */
static int watch_collect_opened(struct os_watch *watch, uint64_t first, uint64_t end)
{
    struct watch_range open;
    for (uint64_t at = first; watch_protect_next(watch, at, end, &open); at = open.end) {
        assert(open.end > at);
        const int error = watch_collect_part(watch, open.first, open.end);
        if (error != 0) return error;
        watch_protect_again(watch, open.first, open.end);
    }
    return 0;
}

EVH_INTERNAL int os_watch_collect(struct os_watch *watch, uint64_t end,
                                  const struct os_pages **runs, size_t *run_count, bool *is_exact)
{
    assert(end <= watch->reserved_bytes);
    end = base_round_up(end, (uint64_t)sysconf(_SC_PAGESIZE)); /* the kernel knows only its own */
    watch->run_count = 0;
    watch->is_exact = true;

    int error = watch->process == os_process() ? 0 : EPERM;
    if (error == 0 && watch->granules != NULL) watch_protect_settle(watch);
    for (size_t i = 0; i < watch->range_count && error == 0; i++) {
        const uint64_t first = watch->ranges[i].first;
        const uint64_t range_end = base_min(watch->ranges[i].end, end);
        if (first >= range_end) break;
        error = watch->granules != NULL ? watch_collect_opened(watch, first, range_end)
                                        : watch_collect_part(watch, first, range_end);
    }
    if (error == 0 && !watch->has_collected) {
        watch->has_collected = true;
        if (watch->range_count > 0) watch->settled = watch->ranges[watch->range_count - 1].end;
    }
    *runs = watch->runs;
    *run_count = watch->run_count;
    *is_exact = watch->is_exact;
    return error;
}

EVH_INTERNAL void os_watch_discarded(struct os_watch *watch, uint64_t offset, uint64_t size)
{
    assert(base_in_range(offset, size, watch->reserved_bytes));
    if (size == 0 || watch->process != os_process()) return;
    if (watch->tier == EVH_DETECT_WATCH) watch_scan_discarded(watch, offset, offset + size);
}

EVH_INTERNAL int os_watch_touch(struct os_watch *watch, uint64_t offset, uint64_t size)
{
    assert(base_in_range(offset, size, watch->reserved_bytes));
    if (size == 0 || watch->granules == NULL) return 0;
    return watch_protect_touch(watch, offset, offset + size);
}

/* ---- opening ---- */

EVH_INTERNAL evh_detect os_watch_tier(const struct os_watch *watch)
{
    return watch->tier;
}

EVH_INTERNAL void os_watch_close(struct os_watch *watch)
{
    OS_UNCANCELLED;
    if (watch == NULL) return;
    watch_protect_close(watch);
    watch_scan_close(watch);
    free(watch->ranges);
    free(watch->runs);
    free(watch);
}

/* A watch of exactly `tier`, whether it works or not. */
static int watch_open_tier(void *base, uint64_t reserved_bytes, evh_detect tier, bool guards,
                           struct os_watch **watch)
{
    struct os_watch *made = calloc(1, sizeof *made);
    if (made == NULL) return ENOMEM;
    made->base = base;
    made->reserved_bytes = reserved_bytes;
    made->tier = tier;
    made->process = os_process();
    made->pagemap = -1;
    made->uffd = -1;
    int error = 0;
    if (watch_tier_scans(made)) {
        made->has_guards = guards;
        error = watch_scan_open(made);
    }
    if (error == 0 && (made->has_guards || tier == EVH_DETECT_PROTECT)) {
        error = watch_protect_open(made);
    }
    if (error != 0) {
        os_watch_close(made);
        return error;
    }
    *watch = made;
    return 0;
}

/* ---- trying a tier on pages of its own ---- */

enum { TRIAL_PAGES = SLICE_BYTES / PAGE_BYTES };

static bool trial_contains(const struct os_pages *runs, size_t run_count, uint64_t page)
{
    for (size_t i = 0; i < run_count; i++) {
        if (page >= runs[i].first && page - runs[i].first < runs[i].count) return true;
    }
    return false;
}

/* Store to one page, read another; whether the store is found, and by tier WATCH nothing else. */
static bool trial_round(struct os_watch *watch, uint64_t stored, uint64_t only_read)
{
    volatile unsigned char *pages = watch->base;
    pages[stored * PAGE_BYTES] = 1;
    (void)pages[only_read * PAGE_BYTES];
    const struct os_pages *runs;
    size_t run_count;
    bool is_exact;
    if (os_watch_collect(watch, SLICE_BYTES, &runs, &run_count, &is_exact) != 0) return false;
    if (!trial_contains(runs, run_count, stored)) return false;
    const uint64_t system_page = (uint64_t)sysconf(_SC_PAGESIZE);
    return !is_exact || (run_count == 1 && runs[0].count == base_max(1, system_page / PAGE_BYTES));
}

/* Two rounds, because only the second one meets pages that are watched. */
static bool trial_passes(void *pages, evh_detect tier)
{
    struct os_watch *watch;
    if (watch_open_tier(pages, SLICE_BYTES, tier, false, &watch) != 0) return false;
    bool passes = os_watch_add(watch, 0, SLICE_BYTES) == 0 && trial_round(watch, 2, 3) &&
                  trial_round(watch, 5, 2) && os_watch_tier(watch) == tier;
    os_watch_close(watch);
    return passes;
}

/* Whether a tier works in this process, on a private mapping of a file in memory. */
static bool watch_tier_works(evh_detect tier)
{
    if (tier == EVH_DETECT_COMPARE) return true;
    const int file = memfd_create("everheap-trial", MFD_CLOEXEC);
    if (file < 0) return false;
    bool passes = false;
    if (os_file_truncate(file, SLICE_BYTES) == 0) {
        void *pages = mmap(NULL, SLICE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
        if (pages != MAP_FAILED) {
            passes = trial_passes(pages, tier);
            munmap(pages, SLICE_BYTES);
        }
    }
    close(file);
    return passes;
}

static const struct watch_name {
    const char *name;
    evh_detect tier;
} watch_names[] = {
    {"auto", EVH_DETECT_AUTO},       {"watch", EVH_DETECT_WATCH},
    {"scan", EVH_DETECT_SCAN},       {"pagemap", EVH_DETECT_PAGEMAP},
    {"protect", EVH_DETECT_PROTECT}, {"compare", EVH_DETECT_COMPARE},
};

/* What the environment says in place of AUTO; ENOTSUP for a tier that is none. */
static int watch_tier_from_environment(evh_detect *tier)
{
    const char *text = secure_getenv("EVERHEAP_DETECT");
    if (text == NULL || *text == '\0') return 0;
    for (size_t i = 0; i < sizeof watch_names / sizeof watch_names[0]; i++) {
        if (strcmp(text, watch_names[i].name) == 0) {
            *tier = watch_names[i].tier;
            return 0;
        }
    }
    return ENOTSUP;
}

EVH_INTERNAL int os_watch_open(void *base, uint64_t reserved_bytes, evh_detect detect, bool guards,
                               struct os_watch **watch)
{
    OS_UNCANCELLED;
    assert(base != NULL);
    assert(reserved_bytes % PAGE_BYTES == 0);

    if (detect == EVH_DETECT_AUTO) {
        const int error = watch_tier_from_environment(&detect);
        if (error != 0) return error;
    }
    if ((unsigned)detect > EVH_DETECT_COMPARE) return ENOTSUP;
    const bool is_free = detect == EVH_DETECT_AUTO;
    for (unsigned tier = is_free ? EVH_DETECT_WATCH : detect; tier <= EVH_DETECT_COMPARE; tier++) {
        if (!watch_tier_works((evh_detect)tier)) {
            if (!is_free) return ENOTSUP;
            continue;
        }
        return watch_open_tier(base, reserved_bytes, (evh_detect)tier, guards, watch);
    }
    return ENOTSUP;
}
