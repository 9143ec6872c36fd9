/* os_watch_scan.c -- dirty pages from the page tables: tiers WATCH, SCAN and PAGEMAP.
 *
 * Tier WATCH divides the mapping into segments of 64 MiB. A segment starts unwatched: a scan finds
 * its private pages, and costs nothing while nobody looked into it. The collect that finds anything
 * in it registers it with userfaultfd and write-protects every page, also those that were never
 * there (else the kernel reports them as written). From then on a scan asks for one bit that the
 * kernel keeps apart from all else, exactly and 20 times faster.
 *
 * What the kernel's interface does not say, found by measurement: `walk_end` is stale when the
 * vector did not fill up; a watched range that the program unregistered, or whose descriptor it
 * closed, answers EPERM (PM_SCAN_CHECK_WPASYNC), also in the middle of a scan that has already
 * protected pages: hence after any failure of such a scan all private pages count.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From Linux 6.7 (include/uapi/linux/fs.h, userfaultfd.h): the headers may be older. */
struct scan_region {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};

struct scan_request {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
};
static_assert(sizeof(struct scan_region) == 24, "as the kernel has it");
static_assert(sizeof(struct scan_request) == 96, "as the kernel has it");

#define SCAN_IOCTL _IOWR('f', 16, struct scan_request)
#define SCAN_FLAG_PROTECT 1u /* PM_SCAN_WP_MATCHING */
#define SCAN_FLAG_CHECK 2u   /* PM_SCAN_CHECK_WPASYNC */
#define SCAN_WRITTEN 2u      /* PAGE_IS_WRITTEN */
#define SCAN_FILE 4u         /* PAGE_IS_FILE */
#define SCAN_PRESENT 8u      /* PAGE_IS_PRESENT */
#define SCAN_SWAPPED 16u     /* PAGE_IS_SWAPPED */

#define SCAN_UFFD_USER_MODE_ONLY 1
#define SCAN_UFFD_WP_UNPOPULATED ((uint64_t)1 << 13)
#define SCAN_UFFD_WP_ASYNC ((uint64_t)1 << 15)

enum {
    SCAN_REGIONS = 512, /* results of one call: 12 KiB on the stack; the kernel buffers as many */
    SCAN_ENTRIES = 8192 /* of /proc/self/pagemap read at once: 64 KiB */
};

/* ---- opening ---- */

static int scan_open_pagemap(struct os_watch *watch)
{
    watch->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return watch->pagemap >= 0 ? 0 : ENOTSUP;
}

/* Without privileges the kernel gives only descriptors that ignore faults of its own (system calls
 * that write into the heap). In asynchronous mode there are no faults to handle. */
static int scan_open_uffd(struct os_watch *watch)
{
    watch->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | SCAN_UFFD_USER_MODE_ONLY);
    if (watch->uffd < 0) return ENOTSUP;
    struct uffdio_api api = {.api = UFFD_API,
                             .features = SCAN_UFFD_WP_ASYNC | SCAN_UFFD_WP_UNPOPULATED};
    if (ioctl(watch->uffd, UFFDIO_API, &api) != 0) return ENOTSUP;
    const uint64_t segments = (watch->reserved_bytes + SEGMENT_BYTES - 1) >> SEGMENT_SHIFT;
    watch->armed = calloc(segments, sizeof *watch->armed);
    return watch->armed != NULL ? 0 : ENOMEM;
}

EVH_INTERNAL int watch_scan_open(struct os_watch *watch)
{
    int error = scan_open_pagemap(watch);
    if (error == 0 && watch->tier == EVH_DETECT_WATCH) error = scan_open_uffd(watch);
    if (error == 0 && watch->tier == EVH_DETECT_PAGEMAP) {
        watch->entries = malloc(SCAN_ENTRIES * sizeof *watch->entries);
        if (watch->entries == NULL) error = ENOMEM;
    }
    return error;
}

/* Whether `file` is still what this file opened: a program that closes all descriptors may have
 * given the number to something else. `text` is how /proc shows it begins. */
static bool scan_is_still(int file, const char *text)
{
    char link[sizeof "/proc/self/fd/" + 12];
    char target[64];
    memcpy(link, "/proc/self/fd/", sizeof "/proc/self/fd/");
    char digits[12];
    size_t count = 0;
    for (int rest = file; rest > 0 || count == 0; rest /= 10)
        digits[count++] = (char)('0' + rest % 10);
    size_t length = sizeof "/proc/self/fd/" - 1;
    while (count > 0) link[length++] = digits[--count];
    link[length] = '\0';
    const ssize_t got = readlink(link, target, sizeof target - 1);
    if (got < 0) return false;
    target[got] = '\0';
    return strstr(target, text) != NULL;
}

EVH_INTERNAL void watch_scan_close(struct os_watch *watch)
{
    if (watch->uffd >= 0 && scan_is_still(watch->uffd, "userfaultfd")) close(watch->uffd);
    if (watch->pagemap >= 0 && scan_is_still(watch->pagemap, "/pagemap")) close(watch->pagemap);
    free(watch->armed);
    free(watch->entries);
}

/* ---- private pages ---- */

/* One call for PAGEMAP_SCAN over [first, end), offsets. Returns how many regions it filled, or -1
 * and errno. `*next` is where to go on; `end` when it is done. */
static long scan_call(const struct os_watch *watch, struct scan_request *request, uint64_t first,
                      uint64_t end, struct scan_region *regions, uint64_t *next)
{
    const uint64_t base = (uintptr_t)watch->base;
    request->size = sizeof *request;
    request->start = base + first;
    request->end = base + end;
    request->walk_end = 0;
    request->vec = (uintptr_t)regions;
    request->vec_len = SCAN_REGIONS;
    const long count = ioctl(watch->pagemap, SCAN_IOCTL, request);
    if (count > 0) os_annotate_defined(regions, (size_t)count * sizeof *regions);
    os_annotate_defined(request, sizeof *request); /* Valgrind does not know this call */
    *next = count == SCAN_REGIONS ? request->walk_end - base : end;
    return count;
}

/* The descriptor for /proc/self/pagemap again, after the program closed it; else the tier COMPARE,
 * which needs none. Where it is still there, it is the kernel that lacks the call. */
static void scan_restore_pagemap(struct os_watch *watch)
{
    if (scan_is_still(watch->pagemap, "/pagemap") || scan_open_pagemap(watch) != 0)
        watch->tier = EVH_DETECT_COMPARE;
}

static int scan_everything(struct os_watch *watch, uint64_t first, uint64_t end)
{
    const int error = watch_runs_reserve(watch, 1);
    if (error != 0) return error;
    watch_runs_append(watch, first, end);
    watch->is_exact = false;
    return 0;
}

/* A page that was found private without being watched: stored to at some time since it was mapped.
 * In space that came after the first collect that is exact (what was there before may have been
 * laid over by recovery). */
static void scan_found_private(struct os_watch *watch, uint64_t first, uint64_t end)
{
    watch_runs_append(watch, first, end);
    const bool is_new = watch->has_collected && first >= watch->settled;
    if (watch->tier != EVH_DETECT_WATCH || !is_new || watch->may_repeat) watch->is_exact = false;
}

#define SCAN_SEEN ((uint32_t)1 << 31) /* in armed[]: the running collect found pages there */
static_assert(SEGMENT_BYTES < INT32_MAX, "the bit is free");

static void scan_mark_seen(struct os_watch *watch, uint64_t first, uint64_t end)
{
    if (watch->armed == NULL) return;
    for (uint64_t i = first >> SEGMENT_SHIFT; i <= (end - 1) >> SEGMENT_SHIFT; i++) {
        watch->armed[i] |= SCAN_SEEN;
    }
}

/* Append the private pages of [first, end); mark the segments in which there is any page at all. */
static int scan_private(struct os_watch *watch, uint64_t first, uint64_t end)
{
    const uint64_t base = (uintptr_t)watch->base;
    bool is_restored = false;
    while (first < end) {
        const int error = watch_runs_reserve(watch, SCAN_REGIONS);
        if (error != 0) return error;
        struct scan_region regions[SCAN_REGIONS];
        struct scan_request request = {
            .category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
            .return_mask = SCAN_PRESENT | SCAN_SWAPPED | SCAN_FILE,
        };
        if (watch->tier != EVH_DETECT_WATCH) { /* shared pages are of no interest */
            request.category_inverted = SCAN_FILE;
            request.category_mask = SCAN_FILE;
        }
        uint64_t next;
        const long count = scan_call(watch, &request, first, end, regions, &next);
        if (count < 0) {
            if (errno == ENOMEM || errno == EINTR) return ENOMEM;
            if (is_restored)
                watch->tier = EVH_DETECT_COMPARE;
            else
                scan_restore_pagemap(watch);
            if (watch->tier == EVH_DETECT_COMPARE) return scan_everything(watch, first, end);
            is_restored = true;
            continue;
        }
        for (long i = 0; i < count; i++) {
            const uint64_t from = regions[i].start - base;
            const uint64_t to = regions[i].end - base;
            scan_mark_seen(watch, from, to);
            if ((regions[i].categories & SCAN_FILE) == 0) scan_found_private(watch, from, to);
        }
        first = next;
    }
    return 0;
}

/* ---- tier WATCH ---- */

static uint64_t scan_armed_end(const struct os_watch *watch, uint64_t segment)
{
    return (segment << SEGMENT_SHIFT) + (watch->armed[segment] & ~SCAN_SEEN);
}

static int scan_write_protect(const struct os_watch *watch, uint64_t first, uint64_t end)
{
    struct uffdio_writeprotect protect = {
        .range = {.start = (uintptr_t)watch->base + first, .len = end - first},
        .mode = UFFDIO_WRITEPROTECT_MODE_WP,
    };
    int tries = 64; /* EAGAIN: another thread is changing the process's mappings */
    while (ioctl(watch->uffd, UFFDIO_WRITEPROTECT, &protect) != 0) {
        if (errno != EAGAIN || --tries == 0) return errno;
    }
    return 0;
}

/* Watch a segment up to `end`. What cannot be watched stays as it is, and is found private
 * again. */
static void scan_arm(struct os_watch *watch, uint64_t segment, uint64_t end)
{
    const uint64_t first = scan_armed_end(watch, segment);
    if (first >= end) return;
    struct uffdio_register request = {
        .range = {.start = (uintptr_t)watch->base + first, .len = end - first},
        .mode = UFFDIO_REGISTER_MODE_WP,
    };
    int error = 0;
    if (!scan_is_still(watch->uffd, "userfaultfd"))
        error = EBADF;
    else if (ioctl(watch->uffd, UFFDIO_REGISTER, &request) != 0)
        error = errno;
    else
        error = scan_write_protect(watch, first, end);
    if (error == 0) {
        watch->armed[segment] = (uint32_t)(end - (segment << SEGMENT_SHIFT));
        return;
    }
    watch->may_repeat = true;
    if (error != ENOMEM && error != EAGAIN) watch->tier = EVH_DETECT_SCAN;
}

/* Collect what is not watched yet, and watch those segments that are in use. */
static int scan_collect_unarmed(struct os_watch *watch, uint64_t first, uint64_t end)
{
    const int error = scan_private(watch, first, end);
    for (uint64_t i = first >> SEGMENT_SHIFT; i <= (end - 1) >> SEGMENT_SHIFT; i++) {
        const bool is_seen = (watch->armed[i] & SCAN_SEEN) != 0;
        watch->armed[i] &= ~SCAN_SEEN;
        if (error == 0 && is_seen && watch->tier == EVH_DETECT_WATCH) {
            scan_arm(watch, i, base_min(end, (i + 1) << SEGMENT_SHIFT));
        }
    }
    return error;
}

/* Nothing in [first, end) counts as watched any more. */
static void scan_disarm(struct os_watch *watch, uint64_t first, uint64_t end)
{
    for (uint64_t i = first >> SEGMENT_SHIFT; i <= (end - 1) >> SEGMENT_SHIFT; i++) {
        const uint64_t start = i << SEGMENT_SHIFT;
        const uint32_t keep = first > start ? (uint32_t)(first - start) : 0;
        if ((watch->armed[i] & ~SCAN_SEEN) <= keep) continue;
        watch->armed[i] = keep;
        watch->may_repeat = true;
    }
}

/* Collect a watched range. After a failure some pages may have been protected again without being
 * reported, so the range counts as unwatched: EAGAIN, and the caller goes over it once more. */
static int scan_collect_armed(struct os_watch *watch, uint64_t first, uint64_t end)
{
    const uint64_t base = (uintptr_t)watch->base;
    const size_t kept_count = watch->run_count;
    const struct os_pages kept =
        kept_count > 0 ? watch->runs[kept_count - 1] : (struct os_pages){0, 0};
    const uint64_t all_first = first;
    while (first < end) {
        const int error = watch_runs_reserve(watch, SCAN_REGIONS);
        if (error != 0) return error;
        struct scan_region regions[SCAN_REGIONS];
        struct scan_request request = {
            .flags = SCAN_FLAG_PROTECT | SCAN_FLAG_CHECK,
            .category_mask = SCAN_WRITTEN,
            .return_mask = SCAN_WRITTEN,
        };
        uint64_t next;
        const long count = scan_call(watch, &request, first, end, regions, &next);
        if (count < 0) {
            watch->run_count = kept_count;
            if (kept_count > 0) watch->runs[kept_count - 1] = kept;
            scan_disarm(watch, all_first, end);
            return EAGAIN;
        }
        for (long i = 0; i < count; i++) {
            watch_runs_append(watch, regions[i].start - base, regions[i].end - base);
        }
        first = next;
    }
    return 0;
}

/* Where the watched part that begins at `first` ends; `first` if it is not watched. */
static uint64_t scan_end_of_armed(const struct os_watch *watch, uint64_t first, uint64_t end)
{
    uint64_t at = first;
    while (at < end) {
        const uint64_t segment = at >> SEGMENT_SHIFT;
        const uint64_t armed_end = scan_armed_end(watch, segment);
        if (armed_end <= at) break;
        at = armed_end;
        if (at < (segment + 1) << SEGMENT_SHIFT) break;
    }
    return base_min(at, end);
}

/* Where the unwatched part that begins at `first` ends. */
static uint64_t scan_end_of_unarmed(const struct os_watch *watch, uint64_t first, uint64_t end)
{
    uint64_t segment = (first >> SEGMENT_SHIFT) + 1;
    while (segment << SEGMENT_SHIFT < end && watch->armed[segment] == 0) segment++;
    return base_min(segment << SEGMENT_SHIFT, end);
}

static int scan_collect_watch(struct os_watch *watch, uint64_t first, uint64_t end)
{
    while (first < end && watch->tier == EVH_DETECT_WATCH) {
        uint64_t next = scan_end_of_armed(watch, first, end);
        int error;
        if (next > first) {
            error = scan_collect_armed(watch, first, next);
            if (error == EAGAIN) continue; /* now it is unwatched: that branch goes forward */
        } else {
            next = scan_end_of_unarmed(watch, first, end);
            error = scan_collect_unarmed(watch, first, next);
        }
        if (error != 0) return error;
        first = next;
    }
    return first < end ? watch_scan_collect(watch, first, end) : 0; /* by the tier it fell to */
}

EVH_INTERNAL void watch_scan_added(struct os_watch *watch, uint64_t first, uint64_t end)
{
    scan_disarm(watch, first, end);
}

EVH_INTERNAL void watch_scan_discarded(struct os_watch *watch, uint64_t first, uint64_t end)
{
    for (uint64_t i = first >> SEGMENT_SHIFT; i <= (end - 1) >> SEGMENT_SHIFT; i++) {
        const uint64_t from = base_max(first, i << SEGMENT_SHIFT);
        const uint64_t to = base_min(end, scan_armed_end(watch, i));
        /* A page without a copy has lost its protection: put it back, or it would be reported. */
        if (from < to) (void)scan_write_protect(watch, from, to);
    }
}

/* ---- tier PAGEMAP ---- */

/* An entry of /proc/self/pagemap: bit 63 present, 62 swapped, 61 a page of a file. */
static bool scan_entry_is_private(uint64_t entry)
{
    return entry >> 62 != 0 && (entry >> 61 & 1) == 0;
}

static int scan_collect_pagemap(struct os_watch *watch, uint64_t first, uint64_t end)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (!scan_is_still(watch->pagemap, "/pagemap")) scan_restore_pagemap(watch);
    while (first < end && watch->tier == EVH_DETECT_PAGEMAP) {
        const size_t count = base_min((end - first + page - 1) / page, SCAN_ENTRIES);
        const int error = watch_runs_reserve(watch, count);
        if (error != 0) return error;
        const uint64_t at = ((uintptr_t)watch->base + first) / page * sizeof *watch->entries;
        size_t done;
        if (os_file_read(watch->pagemap, at, watch->entries, count * sizeof *watch->entries,
                         &done) != 0 ||
            done != count * sizeof *watch->entries) {
            watch->tier = EVH_DETECT_COMPARE;
            break;
        }
        for (size_t i = 0; i < count; i++) {
            if (!scan_entry_is_private(watch->entries[i])) continue;
            scan_found_private(watch, first + i * page, first + (i + 1) * page);
        }
        first += count * page;
    }
    return first < end ? scan_everything(watch, first, end) : 0;
}

EVH_INTERNAL int watch_scan_collect(struct os_watch *watch, uint64_t first, uint64_t end)
{
    assert(first < end);
    switch (watch->tier) {
    case EVH_DETECT_WATCH: return scan_collect_watch(watch, first, end);
    case EVH_DETECT_SCAN: return scan_private(watch, first, end);
    case EVH_DETECT_PAGEMAP: return scan_collect_pagemap(watch, first, end);
    default: return scan_everything(watch, first, end);
    }
}
