/* damage_test.c -- a heap that rotted on the disk is not taken for a sound one.
 *
 * Strategy: a random heap is closed, or killed with commits waiting in its journal. Then bits of
 * its file flip, pages change places, pages go back to what they were, sectors vanish.
 * Invariant: it is refused or evh_check reports it; or what was damaged means nothing and the
 * content is the last commit's. Never a content that no commit had.
 */
#include "support/explore.h"
#include "region/region_layout.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static const struct workload_plan damage_plan = {.name = "damaged",
                                                 .steps = 60,
                                                 .slots = 40,
                                                 .mutate = 8,
                                                 .commit = 5,
                                                 .rollback = 1,
                                                 .checkpoint = 1,
                                                 .medium = 8,
                                                 .checkpoint_bytes = 24 << 10};

struct bench {
    struct sim *machine;
    unsigned char *good; /* the file as it was left */
    uint64_t size;
    struct workload work;
    uint64_t random;
};

static struct bench bench_new(uint64_t seed, bool is_closed)
{
    struct bench bench = {.machine = sim_create(seed), .random = seed};
    sim_use(bench.machine);
    if (!workload_run(&bench.work, bench.machine, &damage_plan, seed)) {
        test_fail(__FILE__, __LINE__, "%s", bench.work.problem);
        test_stop();
    }
    if (is_closed) CHECK_EQUAL(evh_close(bench.work.heap), EVH_OK);
    if (is_closed) bench.work.heap = NULL;
    workload_abandon(&bench.work);
    sim_revive(bench.machine);
    const unsigned char *bytes = sim_bytes(bench.machine, WORKLOAD_PATH, &bench.size);
    bench.good = malloc(bench.size);
    CHECK(bench.good);
    memcpy(bench.good, bytes, bench.size);
    return bench;
}

static void bench_end(struct bench *bench)
{
    free(bench->good);
    sim_end(bench->machine);
}

/* The file's bytes, whole again. */
static unsigned char *bench_bytes(struct bench *bench)
{
    uint64_t size;
    unsigned char *bytes = sim_bytes(bench->machine, WORKLOAD_PATH, &size);
    memcpy(bytes, bench->good, bench->size);
    if (size > bench->size) memset(bytes + bench->size, 0, size - bench->size);
    return bytes;
}

enum verdict { SOUND, REPORTED, WRONG };

static enum verdict verdict_of(struct bench *bench)
{
    evh_options options = workload_options(&damage_plan);
    options.must_exist = true;
    enum verdict verdict = REPORTED;
    evh_heap *heap = evh_open(WORKLOAD_PATH, &options);
    if (heap && evh_check(heap, NULL, NULL) == EVH_OK)
        verdict = content_hash(heap) == bench->work.last_hash ? SOUND : WRONG;
    sim_kill(bench->machine);
    (void)evh_close(heap);
    sim_revive(bench->machine);
    return verdict;
}

static void expect(const struct bench *bench, enum verdict verdict, bool must_be_reported,
                   const char *what, uint64_t offset)
{
    if (verdict != WRONG && !(must_be_reported && verdict == SOUND)) return;
    test_fail(__FILE__, __LINE__, "%s at 0x%llx of 0x%llx: %s", what, (unsigned long long)offset,
              (unsigned long long)bench->size,
              verdict == WRONG ? "a content that is not the last commit's" : "not reported");
    test_stop();
}

TEST(a_flipped_bit_in_a_closed_heap_is_reported)
{
    const uint64_t runs = test_effort(6);
    for (uint64_t run = 0; run < runs; run++) {
        struct bench bench = bench_new(test_seed() + run, true);
        uint64_t reported = 0;
        for (int i = 0; i < 1000; i++) {
            const uint64_t at = test_random(&bench.random) % bench.size;
            bench_bytes(&bench)[at] ^= (unsigned char)(1 << test_random(&bench.random) % 8);
            const enum verdict verdict = verdict_of(&bench);
            expect(&bench, verdict, false, "a flipped bit", at);
            reported += verdict == REPORTED;
        }
        CHECK(reported > 100);
        bench_end(&bench);
    }
}

/* Pages that hold blocks: every committed page has a checksum. */
TEST(two_pages_that_changed_places_are_reported)
{
    const uint64_t runs = test_effort(6);
    for (uint64_t run = 0; run < runs; run++) {
        struct bench bench = bench_new(test_seed() + run, true);
        const uint64_t pages = bench.size / PAGE_BYTES;
        for (int i = 0; i < 300; i++) {
            const uint64_t a = SLICE_PAGES + test_random(&bench.random) % (pages - SLICE_PAGES);
            const uint64_t b = SLICE_PAGES + test_random(&bench.random) % (pages - SLICE_PAGES);
            unsigned char *bytes = bench_bytes(&bench);
            memcpy(bytes + a * PAGE_BYTES, bench.good + b * PAGE_BYTES, PAGE_BYTES);
            memcpy(bytes + b * PAGE_BYTES, bench.good + a * PAGE_BYTES, PAGE_BYTES);
            expect(&bench, verdict_of(&bench), false, "a swapped page", a * PAGE_BYTES);
        }
        bench_end(&bench);
    }
}

TEST(a_lost_sector_of_a_closed_heap_is_reported)
{
    const uint64_t runs = test_effort(6);
    for (uint64_t run = 0; run < runs; run++) {
        struct bench bench = bench_new(test_seed() + run, true);
        for (uint64_t at = 0; at < bench.size; at += SIM_SECTOR_BYTES) {
            unsigned char *bytes = bench_bytes(&bench);
            memset(bytes + at, test_random(&bench.random) % 2 ? 0 : 0xa5, SIM_SECTOR_BYTES);
            expect(&bench, verdict_of(&bench), false, "a lost sector", at);
        }
        bench_end(&bench);
    }
}

/*
 * Here the newest commit's record may be what is hit: nothing tells that from one never finished.
 * Only header, status, checksums and the first extent are hit: the home of a page that the journal
 * holds ranges of has no checksum of its own until the next checkpoint.
 */
TEST(damage_to_a_journal_that_waits_never_makes_a_mixture)
{
    const uint64_t runs = test_effort(6);
    for (uint64_t run = 0; run < runs; run++) {
        struct bench bench = bench_new(test_seed() + run, false);
        const struct sim_log *log = sim_log(bench.machine);
        const size_t operations = log->count;
        for (int i = 0; i < 500; i++) {
            const uint64_t at = test_random(&bench.random) % SLICE_BYTES;
            bench_bytes(&bench)[at] ^= (unsigned char)(1 << test_random(&bench.random) % 8);
            evh_options options = workload_options(&damage_plan);
            options.must_exist = true;
            evh_heap *heap = evh_open(WORKLOAD_PATH, &options);
            if (heap && evh_check(heap, NULL, NULL) == EVH_OK) {
                const uint64_t hash = content_hash(heap);
                bool is_commit = false;
                for (size_t k = 0; k < operations; k++)
                    is_commit = is_commit || (log->operations[k].kind == SIM_MARK &&
                                              log->operations[k].extra == hash);
                if (!is_commit) expect(&bench, WRONG, false, "a flipped bit", at);
            }
            sim_kill(bench.machine);
            (void)evh_close(heap);
            sim_revive(bench.machine);
        }
        bench_end(&bench);
    }
}
