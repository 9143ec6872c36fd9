/* discard_test.c -- memory of a heap in memory goes back to the system where no live block lies. */
#include <everheap.h>
#include <everheap/inspect.h>

#include "os/os.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
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
