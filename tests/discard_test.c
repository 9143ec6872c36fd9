/* discard_test.c -- memory of a heap in memory goes back to the system where no live block lies. */
#include <everheap.h>
#include <everheap/inspect.h>

#include "os/os.h"
#include "support/hooked_heap.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCKS = 20000 };

struct owned {
    unsigned char *bytes;
    size_t size;
    unsigned char mark;
};

/* Sizes of every kind: small, medium, and a few large ones. */
static size_t any_size(uint64_t *random)
{
    const uint64_t kind = test_random(random) % 200;
    if (kind == 0) return 65536 + test_random(random) % 300000;
    if (kind < 20) return 1 + test_random(random) % 60000;
    return 1 + test_random(random) % 1500;
}

static void allocate_marked(evh_heap *heap, struct owned *owned, uint64_t *random)
{
    owned->size = any_size(random);
    owned->mark = (unsigned char)(1 + test_random(random) % 255);
    owned->bytes = evh_malloc(heap, owned->size);
    CHECK(owned->bytes != NULL);
    memset(owned->bytes, owned->mark, owned->size);
}

static void check_marked(const struct owned *owned)
{
    for (size_t i = 0; i < owned->size; i++)
        if (owned->bytes[i] != owned->mark)
            test_fail(__FILE__, __LINE__, "byte %zu of %zu is lost", i, owned->size);
}

/*
 * Strategy   Allocate and free at random, trim, and compare all that lives; several times over.
 * Invariants Live blocks keep their bytes, evh_check() finds nothing, most of the space goes back:
 *            one part in `share` of what is free, at least.
 */
static void trim_at_random(uint64_t share)
{
    static struct owned blocks[BLOCKS];
    uint64_t random = test_seed();
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap != NULL);
    for (unsigned i = 0; i < BLOCKS; i++) allocate_marked(heap, &blocks[i], &random);
    for (uint64_t round = test_effort(4); round > 0; round--) {
        for (unsigned i = 0; i < BLOCKS; i++) {
            if (test_random(&random) % 10 == 0) continue;
            evh_free(heap, blocks[i].bytes);
            blocks[i].bytes = NULL;
        }
        uint64_t freed = 0;
        evh_info info;
        CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        CHECK(freed > (info.heap_bytes - info.live_bytes) / share);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        for (unsigned i = 0; i < BLOCKS; i++) {
            if (blocks[i].bytes)
                check_marked(&blocks[i]);
            else
                allocate_marked(heap, &blocks[i], &random);
        }
        for (unsigned i = 0; i < BLOCKS; i++) check_marked(&blocks[i]);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(pages_without_live_blocks_go_back_and_live_blocks_keep_their_bytes)
{
    trim_at_random(3);
}

/* ---- where the system's pages are larger than the format's ---- */

enum { LARGE_PAGE_BYTES = 64 << 10 };

static uint64_t large_page_bytes(void)
{
    return LARGE_PAGE_BYTES;
}

/* As a kernel with such pages does it. */
static int large_discard(void *address, uint64_t size)
{
    if ((uintptr_t)address % LARGE_PAGE_BYTES != 0) return EINVAL;
    size = base_round_up(size, LARGE_PAGE_BYTES);
    return madvise(address, size, MADV_DONTNEED) ? errno : 0;
}

TEST(with_pages_of_64_kib_live_blocks_keep_their_bytes_too)
{
    static struct os_calls calls;
    calls = *os_linux();
    calls.page_bytes = large_page_bytes;
    calls.discard = large_discard;
    os_use(&calls);
    trim_at_random(1000); /* free slices, and few others */
    os_use(NULL);
}

TEST(a_block_that_was_given_back_can_be_zeroed_and_used)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap != NULL);
    void *keep = evh_malloc(heap, 5000);
    unsigned char *block = evh_malloc(heap, 5000);
    memset(block, 7, 5000);
    evh_free(heap, block);
    CHECK_EQUAL(evh_trim(heap, NULL), EVH_OK);
    unsigned char *again = evh_calloc(heap, 1, 5000);
    CHECK(again != NULL);
    for (unsigned i = 0; i < 5000; i++) CHECK(again[i] == 0);
    evh_free(heap, again);
    evh_free(heap, keep);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- before the heap grows ---- */

static uint64_t discarded_bytes; /* atomic */

/* Others get a chance to run between the look at the bitmaps and this. */
static int counted_discard(void *address, uint64_t size)
{
    for (unsigned i = 0; i < 20; i++) (void)sched_yield();
    (void)__atomic_fetch_add(&discarded_bytes, size, __ATOMIC_RELAXED);
    return os_linux()->discard(address, size);
}

enum { CHANGING_BLOCKS = 12000 };

struct changing {
    evh_heap *heap;
    uint64_t random;
    struct owned blocks[CHANGING_BLOCKS];
};

/* A byte of each page that the block reaches into, and its last. */
static void check_pages(const struct owned *owned)
{
    for (size_t i = 0; i < owned->size; i += 512) CHECK_EQUAL(owned->bytes[i], owned->mark);
    CHECK_EQUAL(owned->bytes[owned->size - 1], owned->mark);
}

/* Again and again, nine in ten blocks are freed, and blocks of another size take their place. */
static void *change_sizes(void *context)
{
    static const size_t sizes[] = {2000, 3000, 1500, 2500};
    struct changing *work = context;
    for (unsigned phase = 0; phase < 4; phase++) {
        for (unsigned i = 0; i < CHANGING_BLOCKS; i++) {
            struct owned *owned = &work->blocks[i];
            if (!owned->bytes || test_random(&work->random) % 10 == 0) continue;
            check_pages(owned);
            evh_free(work->heap, owned->bytes);
            owned->bytes = NULL;
        }
        for (unsigned i = 0; i < CHANGING_BLOCKS; i++) {
            struct owned *owned = &work->blocks[i];
            if (owned->bytes) continue;
            owned->bytes = evh_malloc(work->heap, sizes[phase]);
            CHECK(owned->bytes != NULL);
            owned->size = sizes[phase];
            owned->mark = (unsigned char)(1 + test_random(&work->random) % 255);
            memset(owned->bytes, owned->mark, owned->size);
        }
    }
    for (unsigned i = 0; i < CHANGING_BLOCKS; i++) check_pages(&work->blocks[i]);
    return NULL;
}

TEST(a_heap_whose_blocks_change_sizes_gives_memory_back_before_it_grows)
{
    static struct changing work;
    hooked_begin();
    hooked.discard = counted_discard;
    discarded_bytes = 0;
    work = (struct changing){.heap = evh_open_memory(NULL, 0, NULL), .random = test_seed()};
    CHECK(work.heap != NULL);

    (void)change_sizes(&work);

    CHECK(discarded_bytes > CHANGING_BLOCKS * 2000 / 2);
    CHECK_EQUAL(evh_check(work.heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(work.heap), EVH_OK);
}

/* A page that was given back reads as zero: junk there that is looked at would seem written to. */
TEST(junk_that_is_looked_at_later_is_not_given_back)
{
    static struct changing work;
    hooked_begin();
    hooked.discard = counted_discard;
    discarded_bytes = 0;
    const evh_options options = {.debug = "CJQ4000X20000", .misuse = EVH_MISUSE_STATUS};
    work = (struct changing){.heap = evh_open_memory(NULL, 0, &options), .random = test_seed()};
    CHECK(work.heap != NULL);

    (void)change_sizes(&work);
    CHECK(discarded_bytes > CHANGING_BLOCKS * 2000 / 4);
    for (unsigned i = 0; i < CHANGING_BLOCKS; i++)
        if (i % 8) evh_free(work.heap, work.blocks[i].bytes);
    uint64_t trimmed = 0;
    CHECK_EQUAL(evh_trim(work.heap, &trimmed), EVH_OK);
    CHECK(trimmed > 0);

    CHECK_EQUAL(evh_debug_check(work.heap), EVH_OK);
    for (unsigned i = 0; i < CHANGING_BLOCKS; i += 8) check_pages(&work.blocks[i]);
    for (unsigned i = 0; i < CHANGING_BLOCKS; i += 8) evh_free(work.heap, work.blocks[i].bytes);
    for (unsigned i = 0; i < 4000; i++) evh_free(work.heap, evh_malloc(work.heap, 1000));
    CHECK_EQUAL(evh_last_error()->status, EVH_OK);
    CHECK_EQUAL(evh_close(work.heap), EVH_OK);
}

TEST(threads_keep_their_bytes_when_one_of_them_gives_memory_back)
{
    enum { THREADS = 3 };
    static struct changing works[THREADS];
    const uint64_t seed = test_seed();
    hooked_begin();
    hooked.discard = counted_discard;
    discarded_bytes = 0;
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap != NULL);
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        works[i] = (struct changing){.heap = heap, .random = seed + i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, change_sizes, &works[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);

    CHECK(__atomic_load_n(&discarded_bytes, __ATOMIC_RELAXED) > 0);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}
