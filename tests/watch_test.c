/* watch_test.c -- no tier of the dirty-page detection ever misses a store.
 *
 * Strategy: a private mapping of a real file, a set of the pages that were stored to (the shadow),
 * random stores, reads, system calls, growth, drops and forks, and a collect now and then.
 * Invariants: what is collected contains the shadow; where the watch says it is exact, both are
 * equal; what a failed collect returned and what the next one returns together miss nothing.
 */
#include "os/os.h"
#include "support/tiers.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static const evh_detect all_tiers[] = {EVH_DETECT_WATCH, EVH_DETECT_SCAN, EVH_DETECT_PAGEMAP,
                                       EVH_DETECT_PROTECT, EVH_DETECT_COMPARE};
enum { TIERS = sizeof all_tiers / sizeof all_tiers[0] };

/* A mapping under watch, and which of its pages are dirty. */
struct field {
    int file;
    unsigned char *base;
    uint64_t reserved_bytes;
    uint64_t covered_bytes; /* mapped, but for the hole */
    uint64_t hole_first, hole_end;
    struct os_watch *watch;
    bool *dirty; /* for each page */
    uint64_t collects;
};

static void field_cover(struct field *field, uint64_t first, uint64_t end)
{
    if (first >= end) return;
    CHECK_EQUAL(os->map(field->base + first, end - first, OS_MAP_PRIVATE, field->file, first), 0);
    CHECK_EQUAL(os->watch_add(field->watch, first, end - first), 0);
}

/* Cover up to `bytes`, leaving out the hole. */
static void field_grow(struct field *field, uint64_t bytes)
{
    const uint64_t from = field->covered_bytes;
    field_cover(field, from, base_min(bytes, base_max(from, field->hole_first)));
    field_cover(field, base_max(from, base_min(field->hole_end, bytes)), bytes);
    field->covered_bytes = bytes;
}

/* False if this system does not have the tier. */
static bool field_open(struct field *field, evh_detect tier, bool guards, uint64_t reserved_bytes,
                       uint64_t covered_bytes)
{
    *field = (struct field){
        .reserved_bytes = reserved_bytes, .hole_first = reserved_bytes, .hole_end = reserved_bytes};
    const char *path = test_path("field");
    CHECK_EQUAL(os->open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, 0600, &field->file), 0);
    CHECK_EQUAL(os->truncate(field->file, reserved_bytes), 0);
    void *base;
    CHECK_EQUAL(os->reserve(reserved_bytes, SEGMENT_BYTES, 0, &base), 0);
    field->base = base;
    const int error = os->watch_open(base, reserved_bytes, tier, guards, &field->watch);
    if (error != 0) {
        CHECK_EQUAL(error, ENOTSUP);
        os->release(base, reserved_bytes);
        os->close(field->file);
        return false;
    }
    CHECK_EQUAL(os->watch_tier(field->watch), tier);
    field->dirty = calloc(reserved_bytes / PAGE_BYTES, sizeof *field->dirty);
    CHECK(field->dirty != NULL);
    field_grow(field, covered_bytes);
    return true;
}

static void field_close(struct field *field)
{
    os->watch_close(field->watch);
    os->release(field->base, field->reserved_bytes);
    os->close(field->file);
    free(field->dirty);
}

static bool field_is_covered(const struct field *field, uint64_t page)
{
    const uint64_t offset = page * PAGE_BYTES;
    return offset < field->covered_bytes &&
           (offset < field->hole_first || offset >= field->hole_end);
}

static uint64_t field_random_page(const struct field *field, uint64_t *state)
{
    for (;;) {
        const uint64_t page = test_random(state) % (field->covered_bytes / PAGE_BYTES);
        if (field_is_covered(field, page)) return page;
    }
}

static void field_store(struct field *field, uint64_t page)
{
    volatile unsigned char *at = field->base + page * PAGE_BYTES;
    at[page % PAGE_BYTES]++;
    field->dirty[page] = true;
}

/* Collect below `end` and compare; afterwards everything below is clean. */
static void field_check(struct field *field, uint64_t end, bool *is_exact)
{
    const struct os_pages *runs;
    size_t run_count;
    CHECK_EQUAL(os->watch_collect(field->watch, end, &runs, &run_count, is_exact), 0);
    field->collects++;
    /* Pages of the system's, which may be larger, are found whole. */
    const uint64_t pages = base_round_up(end, os->page_bytes()) / PAGE_BYTES;
    bool *seen = calloc(pages + 1, sizeof *seen);
    CHECK(seen != NULL);
    uint64_t behind = 0;
    for (size_t i = 0; i < run_count; i++) {
        CHECK(runs[i].count > 0);
        CHECK(runs[i].first >= behind);
        behind = runs[i].first + runs[i].count;
        CHECK(behind <= pages);
        for (uint64_t p = runs[i].first; p < behind; p++) {
            CHECK(field_is_covered(field, p));
            seen[p] = true;
        }
    }
    for (uint64_t p = 0; p < pages; p++) {
        if (field->dirty[p] && !seen[p]) {
            test_fail(__FILE__, __LINE__, "page %llu was stored to and is missing, collect %llu",
                      (unsigned long long)p, (unsigned long long)field->collects);
            test_stop();
        }
        if (*is_exact && seen[p] && !field->dirty[p]) {
            test_fail(__FILE__, __LINE__, "page %llu is clean and was reported, collect %llu",
                      (unsigned long long)p, (unsigned long long)field->collects);
            test_stop();
        }
        field->dirty[p] = false;
    }
    free(seen);
}

/* ---- random ---- */

/* A system call that stores into the mapping. */
static void field_read_into(struct field *field, uint64_t page)
{
    int pipes[2];
    CHECK_EQUAL(pipe(pipes), 0);
    CHECK_EQUAL(write(pipes[1], "evh", 3), 3);
    unsigned char *at = field->base + page * PAGE_BYTES + 100;
    CHECK_EQUAL(os->watch_touch(field->watch, page * PAGE_BYTES + 100, 3), 0);
    CHECK_EQUAL(read(pipes[0], at, 3), 3);
    close(pipes[0]);
    close(pipes[1]);
    field->dirty[page] = true;
}

/* Drop the stores to some pages, as a rollback does. */
static void field_drop(struct field *field, uint64_t page)
{
    uint64_t count = 1;
    while (count < 9 && field_is_covered(field, page + count)) count++;
    CHECK_EQUAL(os->discard(field->base + page * PAGE_BYTES, count * PAGE_BYTES), 0);
    os->watch_discarded(field->watch, page * PAGE_BYTES, count * PAGE_BYTES);
    for (uint64_t i = 0; i < count; i++) field->dirty[page + i] = false;
}

/* A child that stores everywhere and looks at its watch: the parent must not notice. */
static void field_fork(struct field *field, uint64_t *state)
{
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 20; i++) field_store(field, field_random_page(field, state));
        const struct os_pages *runs;
        size_t run_count;
        bool is_exact;
        const int error =
            os->watch_collect(field->watch, field->covered_bytes, &runs, &run_count, &is_exact);
        os->watch_close(field->watch);
        _exit(error == EPERM && run_count == 0 ? 0 : 1);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

static void random_round(struct field *field, uint64_t *state)
{
    volatile unsigned char sink = 0;
    const uint64_t stores = test_random(state) % 64 == 0 ? 600 : test_random(state) % 12;
    for (uint64_t i = 0; i < stores; i++) {
        uint64_t page = field_random_page(field, state);
        field_store(field, page);
        for (uint64_t n = test_random(state) % 4; n > 0; n--) {
            if (field_is_covered(field, ++page))
                field_store(field, page);
            else
                break;
        }
    }
    if (test_random(state) % 8 == 0) { /* a page just stored to, read again after it was dropped */
        const uint64_t page = field_random_page(field, state);
        field_store(field, page);
        field_drop(field, page);
        sink ^= field->base[page * PAGE_BYTES];
    }
    for (uint64_t i = test_random(state) % 8; i > 0; i--) {
        sink ^= field->base[field_random_page(field, state) * PAGE_BYTES];
    }
    const uint64_t what = test_random(state) % 100;
    if (what < 10)
        field_read_into(field, field_random_page(field, state));
    else if (what < 20)
        field_drop(field, field_random_page(field, state));
    else if (what < 22)
        field_fork(field, state);
    else if (what < 25 && field->covered_bytes < field->reserved_bytes) {
        const uint64_t slices = 1 + (test_random(state) % 8 == 0 ? test_random(state) % 1500 : 3);
        field_grow(field,
                   base_min(field->reserved_bytes, field->covered_bytes + slices * SLICE_BYTES));
    }
    (void)sink;
}

/* Random rounds over several segments with a hole. Returns how many collects said they were
 * exact. */
static uint64_t random_run(struct field *field, uint64_t rounds)
{
    uint64_t state = test_seed();
    uint64_t exact = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        random_round(field, &state);
        bool is_exact;
        const bool is_partial = test_random(&state) % 10 == 0;
        const uint64_t end =
            is_partial ? (field_random_page(field, &state) + 1) * PAGE_BYTES : field->covered_bytes;
        field_check(field, end, &is_exact);
        exact += is_exact;
    }
    return exact;
}

static void random_tier(evh_detect tier, bool guards, uint64_t rounds)
{
    struct field field;
    const uint64_t reserved = 5 * (uint64_t)SEGMENT_BYTES;
    if (!field_open(&field, tier, guards, reserved, 0)) SKIP(tier_lacks(tier));
    field.hole_first = 37 * (uint64_t)SLICE_BYTES;
    field.hole_end = 41 * (uint64_t)SLICE_BYTES;
    field_grow(&field, 900 * (uint64_t)SLICE_BYTES);
    const uint64_t exact = random_run(&field, test_effort(rounds));
    CHECK_EQUAL(os->watch_tier(field.watch), tier);
    if (tier == EVH_DETECT_WATCH) CHECK(exact > field.collects / 2);
    field_close(&field);
}

TEST(tier_watch_reports_exactly_the_pages_stored_to)
{
    random_tier(EVH_DETECT_WATCH, false, 2000);
}

TEST(tier_scan_misses_no_store)
{
    random_tier(EVH_DETECT_SCAN, false, 300);
}

TEST(tier_pagemap_misses_no_store)
{
    random_tier(EVH_DETECT_PAGEMAP, false, 200);
}

TEST(tier_protect_misses_no_store)
{
    random_tier(EVH_DETECT_PROTECT, false, 1000);
}

TEST(tier_compare_misses_no_store)
{
    random_tier(EVH_DETECT_COMPARE, false, 100);
}

TEST(guards_over_tier_watch_miss_no_store)
{
    random_tier(EVH_DETECT_WATCH, true, 1000);
}

TEST(guards_over_tier_scan_miss_no_store)
{
    random_tier(EVH_DETECT_SCAN, true, 300);
}

/* ---- one thing each ---- */

static bool tier_opens(evh_detect tier)
{
    static unsigned char memory[2 * SLICE_BYTES];
    struct os_watch *watch;
    void *base = memory + SLICE_BYTES - (uintptr_t)memory % SLICE_BYTES;
    const int error = os->watch_open(base, SLICE_BYTES, tier, false, &watch);
    if (error == 0)
        os->watch_close(watch);
    else
        CHECK_EQUAL(error, ENOTSUP);
    return error == 0;
}

/* Emulators hand out the pagemap of their own process, in which our addresses mean nothing. */
static bool pagemap_knows_us(int pagemap)
{
    static volatile unsigned char page[2 * PAGE_BYTES];
    page[PAGE_BYTES] = 1;
    uint64_t entry = 0;
    const uint64_t at = (uintptr_t)(page + PAGE_BYTES) / (uint64_t)sysconf(_SC_PAGESIZE);
    const ssize_t got = pread(pagemap, &entry, sizeof entry, (off_t)(at * sizeof entry));
    return got == (ssize_t)sizeof entry && entry >> 63 != 0; /* present */
}

/* Else the tests above would be skipped and nobody would notice. */
TEST(a_tier_is_there_where_the_system_has_what_it_needs)
{
    CHECK(tier_opens(EVH_DETECT_COMPARE));
    CHECK(tier_opens(EVH_DETECT_PROTECT));
    const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) SKIP("no /proc/self/pagemap");
    const bool knows_us = pagemap_knows_us(pagemap);
    close(pagemap);
    if (!knows_us) SKIP("/proc/self/pagemap is that of another process");
    CHECK(tier_opens(EVH_DETECT_PAGEMAP));
    struct utsname name;
    unsigned major, minor;
    CHECK_EQUAL(uname(&name), 0);
    CHECK_EQUAL(sscanf(name.release, "%u.%u", &major, &minor), 2);
    if (major < 6 || (major == 6 && minor < 10)) SKIP("an older kernel");
    CHECK(tier_opens(EVH_DETECT_SCAN));
    const int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);
    if (uffd < 0) SKIP("userfaultfd is not allowed");
    close(uffd);
    CHECK(tier_opens(EVH_DETECT_WATCH));
}

TEST(a_watch_without_a_wish_takes_a_tier_that_works)
{
    unsetenv("EVERHEAP_DETECT");
    struct field field = {.file = -1};
    void *base;
    CHECK_EQUAL(os->reserve(SEGMENT_BYTES, SEGMENT_BYTES, 0, &base), 0);

    CHECK_EQUAL(os->watch_open(base, SEGMENT_BYTES, EVH_DETECT_AUTO, false, &field.watch), 0);

    CHECK(os->watch_tier(field.watch) != EVH_DETECT_AUTO);
    os->watch_close(field.watch);
    os->release(base, SEGMENT_BYTES);
}

TEST(the_environment_forces_a_tier)
{
    struct os_watch *watch;
    void *base;
    CHECK_EQUAL(os->reserve(SEGMENT_BYTES, SEGMENT_BYTES, 0, &base), 0);

    setenv("EVERHEAP_DETECT", "compare", 1);
    CHECK_EQUAL(os->watch_open(base, SEGMENT_BYTES, EVH_DETECT_AUTO, false, &watch), 0);
    CHECK_EQUAL(os->watch_tier(watch), EVH_DETECT_COMPARE);
    os->watch_close(watch);
    setenv("EVERHEAP_DETECT", "guess", 1);
    CHECK_EQUAL(os->watch_open(base, SEGMENT_BYTES, EVH_DETECT_AUTO, false, &watch), ENOTSUP);
    setenv("EVERHEAP_DETECT", "compare", 1);
    if (os->watch_open(base, SEGMENT_BYTES, EVH_DETECT_PROTECT, false, &watch) == 0) {
        CHECK_EQUAL(os->watch_tier(watch), EVH_DETECT_PROTECT);
        os->watch_close(watch);
    }

    unsetenv("EVERHEAP_DETECT");
    os->release(base, SEGMENT_BYTES);
}

TEST(nothing_stored_is_nothing_collected)
{
    struct field field;
    if (!field_open(&field, EVH_DETECT_WATCH, false, SEGMENT_BYTES, SEGMENT_BYTES)) {
        SKIP(tier_lacks(EVH_DETECT_WATCH));
    }
    bool is_exact;
    field_store(&field, 7);
    field_check(&field, SEGMENT_BYTES, &is_exact);
    volatile unsigned char sink = 0;
    for (uint64_t p = 0; p < 1000; p++) sink ^= field.base[p * PAGE_BYTES];
    (void)sink;

    field_check(&field, SEGMENT_BYTES, &is_exact);

    CHECK(is_exact);
    field_close(&field);
}

TEST(pages_above_the_end_of_a_collect_stay_dirty)
{
    for (int t = 0; t < TIERS; t++) {
        struct field field;
        if (!field_open(&field, all_tiers[t], false, SEGMENT_BYTES, SEGMENT_BYTES)) continue;
        for (uint64_t p = 0; p < 100; p++) field_store(&field, p);
        bool is_exact;
        for (uint64_t p = 10; p <= 100; p += 10) field_check(&field, p * PAGE_BYTES, &is_exact);
        field_close(&field);
    }
}

TEST(space_mapped_anew_is_watched_again)
{
    for (int t = 0; t < TIERS; t++) {
        struct field field;
        if (!field_open(&field, all_tiers[t], false, 2 * SEGMENT_BYTES, 2 * SEGMENT_BYTES))
            continue;
        bool is_exact;
        for (uint64_t p = 0; p < 2 * SEGMENT_PAGES; p += 100) field_store(&field, p);
        field_check(&field, 2 * SEGMENT_BYTES, &is_exact);

        field_cover(&field, 3 * SLICE_BYTES, SEGMENT_BYTES + 5 * SLICE_BYTES);
        for (uint64_t p = 0; p < 2 * SEGMENT_PAGES; p += 77) field_store(&field, p);

        field_check(&field, 2 * SEGMENT_BYTES, &is_exact);
        field_store(&field, SEGMENT_PAGES + 9);
        field_check(&field, 2 * SEGMENT_BYTES, &is_exact);
        field_close(&field);
    }
}

TEST(a_range_taken_out_of_the_mapping_costs_no_tier)
{
    struct field field;
    if (!field_open(&field, EVH_DETECT_WATCH, false, SEGMENT_BYTES, SEGMENT_BYTES)) {
        SKIP(tier_lacks(EVH_DETECT_WATCH));
    }
    bool is_exact;
    for (uint64_t p = 0; p < 2000; p += 3) field_store(&field, p);
    field_check(&field, SEGMENT_BYTES, &is_exact);

    /* Behind the watch's back: the kernel forgets that the range is watched. */
    CHECK_EQUAL(
        os->map(field.base + SLICE_BYTES, SLICE_BYTES, OS_MAP_PRIVATE, field.file, SLICE_BYTES), 0);
    for (uint64_t p = 0; p < 2000; p += 7) field_store(&field, p);

    field_check(&field, SEGMENT_BYTES, &is_exact);
    CHECK(!is_exact);
    CHECK_EQUAL(os->watch_tier(field.watch), EVH_DETECT_WATCH);
    field_store(&field, 17);
    field_check(&field, SEGMENT_BYTES, &is_exact);
    CHECK(is_exact);
    field_close(&field);
}

/* In a child, because every descriptor of the process is closed. */
static int after_closing_all(evh_detect tier)
{
    struct field field;
    if (!field_open(&field, tier, false, 2 * SEGMENT_BYTES, SEGMENT_BYTES)) return 0;
    uint64_t state = test_seed();
    bool is_exact;
    for (int i = 0; i < 50; i++) field_store(&field, field_random_page(&field, &state));
    field_check(&field, field.covered_bytes, &is_exact);

    for (int i = 0; i < 50; i++) field_store(&field, field_random_page(&field, &state));
    for (int fd = 3; fd < 256; fd++) close(fd);
    /* The numbers now mean other things. */
    for (int i = 0; i < 8; i++) (void)!open("/dev/zero", O_RDWR);
    for (int round = 0; round < 5; round++) {
        field_check(&field, field.covered_bytes, &is_exact);
        CHECK(!is_exact);
        for (int i = 0; i < 50; i++) field_store(&field, field_random_page(&field, &state));
    }
    os->watch_close(field.watch);
    for (int fd = 3; fd < 11; fd++) { /* what the program opened is still open */
        if (fcntl(fd, F_GETFD) < 0) return 1;
    }
    return 0;
}

TEST(a_program_that_closes_all_descriptors_loses_no_store)
{
    for (int t = 0; t < TIERS; t++) {
        const evh_detect tier = all_tiers[t];
        if (tier == EVH_DETECT_PROTECT || tier == EVH_DETECT_COMPARE) continue; /* have none */
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) _exit(after_closing_all(tier));
        int status;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK_EQUAL(status, 0);
    }
}

TEST(several_heaps_are_protected_at_once)
{
    enum { FIELDS = 5 };
    struct field fields[FIELDS];
    uint64_t state = test_seed();
    for (int i = 0; i < FIELDS; i++) {
        if (!field_open(&fields[i], EVH_DETECT_PROTECT, false, SEGMENT_BYTES, SEGMENT_BYTES)) {
            SKIP(tier_lacks(EVH_DETECT_PROTECT));
        }
    }
    for (int round = 0; round < 200; round++) {
        struct field *field = &fields[test_random(&state) % FIELDS];
        field_store(field, field_random_page(field, &state));
        bool is_exact;
        if (test_random(&state) % 4 == 0) field_check(field, SEGMENT_BYTES, &is_exact);
        if (round == 100) {
            field_close(&fields[2]);
            CHECK(field_open(&fields[2], EVH_DETECT_PROTECT, false, SEGMENT_BYTES, SEGMENT_BYTES));
        }
    }
    for (int i = 0; i < FIELDS; i++) field_close(&fields[i]);
}

/* ---- threads ---- */

enum { RACERS = 3, RACE_ROUNDS = 60, RACE_STORES = 400 };

struct racer {
    struct field *field;
    pthread_barrier_t *barrier;
    uint64_t state;
    uint32_t *counts; /* of all racers: how often each page was stored to */
};

static void *racer_run(void *context)
{
    struct racer *racer = context;
    for (int round = 0; round < RACE_ROUNDS; round++) {
        for (int i = 0; i < RACE_STORES; i++) {
            const uint64_t page = field_random_page(racer->field, &racer->state);
            uint32_t *at = (uint32_t *)(void *)(racer->field->base + page * PAGE_BYTES);
            __atomic_fetch_add(at, 1, __ATOMIC_RELAXED);
            __atomic_fetch_add(&racer->counts[page], 1, __ATOMIC_RELAXED);
        }
        pthread_barrier_wait(racer->barrier); /* the main thread collects */
        pthread_barrier_wait(racer->barrier);
    }
    return NULL;
}

/* Threads store at the same time between collects; a copy kept from what was collected stays equal
 * to the mapping. */
static void race(evh_detect tier, bool guards)
{
    struct field field;
    const uint64_t bytes = 100 * (uint64_t)SLICE_BYTES;
    if (!field_open(&field, tier, guards, bytes, bytes)) return;
    const uint64_t pages = bytes / PAGE_BYTES;
    uint32_t *counts = calloc(pages, sizeof *counts);
    uint32_t *copied = calloc(pages, sizeof *copied);
    CHECK(counts != NULL && copied != NULL);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, RACERS + 1);
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){&field, &barrier, test_seed() + (uint64_t)i, counts};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, racer_run, &racers[i]), 0);
    }
    uint64_t missed = 0;
    for (int round = 0; round < RACE_ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        const struct os_pages *runs = NULL;
        size_t run_count = 0;
        bool is_exact;
        if (os->watch_collect(field.watch, bytes, &runs, &run_count, &is_exact) != 0) missed++;
        for (size_t i = 0; i < run_count; i++) {
            for (uint64_t p = runs[i].first; p < runs[i].first + runs[i].count; p++) {
                memcpy(&copied[p], field.base + p * PAGE_BYTES, sizeof copied[p]);
            }
        }
        for (uint64_t p = 0; p < pages; p++) missed += copied[p] != counts[p];
        pthread_barrier_wait(&barrier);
    }
    for (int i = 0; i < RACERS; i++) pthread_join(threads[i], NULL);
    CHECK_EQUAL(missed, 0);
    pthread_barrier_destroy(&barrier);
    free(counts);
    free(copied);
    field_close(&field);
}

TEST(stores_of_racing_threads_are_found)
{
    for (int t = 0; t < TIERS; t++) race(all_tiers[t], false);
    race(EVH_DETECT_WATCH, true);
}

/* Use up the process's mappings, by pages that alternate in protection. */
static void *exhaust_mappings(size_t *size)
{
    enum { PAGES = 150000 };
    *size = (size_t)PAGES * PAGE_BYTES;
    unsigned char *pages = mmap(NULL, *size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    for (size_t i = 1; i < PAGES; i += 2) {
        if (mprotect(pages + i * PAGE_BYTES, PAGE_BYTES, PROT_READ) != 0) return pages;
    }
    munmap(pages, *size);
    return NULL;
}

TEST(protection_survives_a_process_without_mappings_left)
{
    struct field field;
    const uint64_t bytes = 2 * (uint64_t)SEGMENT_BYTES;
    if (!field_open(&field, EVH_DETECT_PROTECT, false, bytes, 0)) {
        SKIP(tier_lacks(EVH_DETECT_PROTECT));
    }
    field.hole_first = 37 * (uint64_t)SLICE_BYTES;
    field.hole_end = 41 * (uint64_t)SLICE_BYTES;
    field_grow(&field, bytes);
    uint64_t state = test_seed();
    bool is_exact;
    size_t size;
    void *pages = exhaust_mappings(&size);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 20; i++) field_store(&field, field_random_page(&field, &state));
        const uint64_t end =
            round % 3 == 0 ? (field_random_page(&field, &state) + 1) * PAGE_BYTES : bytes;
        field_check(&field, end, &is_exact);
        if (round == 10 && pages != NULL) munmap(pages, size);
    }
    const bool could_exhaust = pages != NULL;
    field_close(&field);
    if (!could_exhaust) SKIP("the system gives more mappings than this test asks for");
}

/* More scattered slices than the system has mappings for: the handler grows coarser. */
TEST(protection_survives_the_limit_of_mappings)
{
    struct field field;
    const uint64_t bytes = 40 * (uint64_t)SEGMENT_BYTES;
    if (!test_has_addresses(2 * bytes)) SKIP("addresses are limited here");
    if (!field_open(&field, EVH_DETECT_PROTECT, false, bytes, bytes)) {
        SKIP(tier_lacks(EVH_DETECT_PROTECT));
    }
    madvise(field.base, bytes, MADV_RANDOM); /* else every store fills a megabyte of cache */
    bool is_exact;
    for (uint64_t slice = 0; slice < bytes / SLICE_BYTES; slice += 2) {
        field_store(&field, slice * SLICE_PAGES);
    }
    field_check(&field, bytes, &is_exact);
    for (uint64_t slice = 0; slice < bytes / SLICE_BYTES; slice += 3) {
        field_store(&field, slice * SLICE_PAGES + 1);
    }
    field_check(&field, bytes, &is_exact);
    field_close(&field);
}
