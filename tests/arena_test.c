/* arena_test.c -- arenas: over the system, a buffer and a heap; marks, resets, limits, threads. */
#include <everheap.h>

#include "support/status.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static evh_arena *make(const evh_arena_options *options)
{
    evh_arena *arena = evh_arena_create(options);
    CHECK(arena != NULL);
    return arena;
}

static evh_arena_stats stats_of(evh_arena *arena)
{
    evh_arena_stats stats;
    evh_arena_get_stats(arena, &stats);
    return stats;
}

/* ---- allocating ---- */

TEST(allocations_do_not_overlap_and_are_aligned)
{
    /* Strategy: random sizes and alignments; each block is filled with its number.
     * Invariants: every block is aligned and keeps its bytes. */
    enum { COUNT = 5000 };
    static unsigned char *blocks[COUNT];
    static size_t sizes[COUNT];
    uint64_t random = test_seed();
    evh_arena *arena = make(&(evh_arena_options){.size_bytes = 1024});
    for (unsigned i = 0; i < COUNT; i++) {
        const uint64_t number = test_random(&random);
        const size_t alignment = (size_t)1 << number % 9;
        sizes[i] = number >> 8 & 0x1ff;
        blocks[i] = evh_arena_alloc(arena, sizes[i], alignment);
        CHECK(blocks[i] != NULL);
        CHECK_EQUAL((uintptr_t)blocks[i] % alignment, 0);
        memset(blocks[i], (int)(i & 0xff), sizes[i]);
    }
    for (unsigned i = 0; i < COUNT; i++)
        for (size_t j = 0; j < sizes[i]; j++) CHECK_EQUAL(blocks[i][j], i & 0xff);
    evh_arena_close(arena);
}

TEST(an_alignment_of_0_is_the_arenas)
{
    evh_arena *arena = make(NULL);
    evh_arena *packed = make(&(evh_arena_options){.alignment = 1});
    evh_arena *wide = make(&(evh_arena_options){.alignment = 256});
    volatile size_t zero = 0;
    CHECK_EQUAL((uintptr_t)evh_arena_alloc(arena, 3, 0) % 16, 0);
    const uintptr_t first = (uintptr_t)evh_arena_alloc(packed, 3, zero);
    CHECK_EQUAL((uintptr_t)evh_arena_alloc(packed, 5, zero), first - 5);
    CHECK_EQUAL((uintptr_t)evh_arena_alloc(wide, 3, zero) % 256, 0);
    evh_arena_close(arena);
    evh_arena_close(packed);
    evh_arena_close(wide);
}

TEST(vectors_and_lines_begin_at_multiples_of_64)
{
    evh_arena *arena = make(NULL);
    (void)evh_arena_alloc(arena, 3, 1);
    CHECK_EQUAL((uintptr_t)evh_arena_simd(arena, 100) % 64, 0);
    unsigned char *line = evh_arena_line(arena, 10);
    unsigned char *next = evh_arena_line(arena, 10);
    CHECK_EQUAL((uintptr_t)line % 64, 0);
    CHECK_EQUAL((uintptr_t)line - (uintptr_t)next, 64);
    CHECK(evh_arena_line(arena, SIZE_MAX - 5) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    evh_arena_close(arena);
}

TEST(sizes_that_nobody_has_are_refused)
{
    evh_arena *arena = make(&(evh_arena_options){.misuse = EVH_MISUSE_STATUS});
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 4096, SIZE_MAX / 2, (size_t)1 << 50};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        CHECK(evh_arena_alloc(arena, sizes[i], 16) == NULL);
        CHECK_EQUAL(last_status(), EVH_LIMIT);
    }
    CHECK(evh_arena_calloc(arena, SIZE_MAX / 2, 3, 16) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    const size_t alignments[] = {3, 24, 100, (size_t)1 << 27, SIZE_MAX};
    for (unsigned i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
        CHECK(evh_arena_alloc(arena, 16, alignments[i]) == NULL);
        CHECK_EQUAL(last_status(), EVH_INVALID);
    }
    CHECK(evh_arena_alloc(arena, 16, 16) != NULL);
    evh_arena_close(arena);
}

TEST(an_allocation_of_0_bytes_succeeds)
{
    evh_arena *arena = make(&(evh_arena_options){.size_bytes = 4096, .is_fixed = true});
    CHECK(evh_arena_alloc(arena, 0, 1) != NULL);
    volatile size_t zero = 0;
    CHECK(evh_arena_alloc(arena, zero, 64) != NULL);
    evh_arena_close(arena);
}

TEST(options_that_contradict_are_refused)
{
    static unsigned char buffer[1024];
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    const evh_arena_options wrong[] = {
        {.alignment = 3},
        {.buffer = buffer, .size_bytes = 255},
        {.buffer = buffer, .size_bytes = 1024, .guards = true},
        {.is_fixed = true},
        {.heap = heap, .is_shared = true},
        {.heap = heap, .guards = true},
        {.heap = heap, .buffer = buffer, .size_bytes = 1024},
        {.reserved = {1}},
        {.misuse = (evh_misuse)7},
        {.debug = "Z"},
        {.size_bytes = (size_t)1 << 60},
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK(evh_arena_create(&wrong[i]) == NULL);
    CHECK(evh_arena_alloc_slow(NULL, 1, 1) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    evh_close(heap);
}

TEST(a_fixed_arena_ends_where_it_was_said)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    evh_arena *arena = make(&(evh_arena_options){.size_bytes = page, .is_fixed = true});
    for (size_t i = 0; i < page / 16; i++) CHECK(evh_arena_alloc(arena, 16, 16) != NULL);
    CHECK(evh_arena_alloc(arena, 1, 1) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    evh_arena_reset(arena);
    CHECK(evh_arena_alloc(arena, page, 16) != NULL);
    CHECK(evh_arena_alloc(arena, 1, 1) == NULL);
    evh_arena_close(arena);
}

TEST(an_arena_in_a_buffer_stays_in_it)
{
    static unsigned char memory[3000];
    unsigned char *buffer = memory + 1; /* not aligned */
    memset(memory, 0x55, sizeof memory);
    evh_arena *arena = make(&(evh_arena_options){.buffer = buffer, .size_bytes = 2000});
    size_t got = 0;
    for (;;) {
        unsigned char *block = evh_arena_alloc(arena, 7, 8);
        if (!block) break;
        CHECK(block >= buffer && block + 7 <= buffer + 2000);
        memset(block, 0xaa, 7);
        got++;
    }
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    CHECK(got >= 2000 / 8 - 2);
    CHECK_EQUAL(memory[0], 0x55);
    CHECK_EQUAL(buffer[2000], 0x55);
    evh_arena_close(arena);
}

TEST(a_limit_is_kept)
{
    evh_arena *arena = make(&(evh_arena_options){.size_bytes = 4096, .size_max_bytes = 64 * 1024});
    uint64_t got = 0;
    while (evh_arena_alloc(arena, 64, 64)) got += 64;
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    CHECK(got >= 60 * 1024 && got <= 68 * 1024);
    CHECK(stats_of(arena).reserved_bytes <= 68 * 1024);
    evh_arena_close(arena);
}

TEST(texts_are_copied_and_formatted)
{
    evh_arena *arena = make(NULL);
    char longer[1000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    CHECK(strcmp(evh_arena_strdup(arena, "hello"), "hello") == 0);
    CHECK(strcmp(evh_arena_strdup(arena, ""), "") == 0);
    CHECK(strcmp(evh_arena_printf(arena, "%d-%s", 42, "x"), "42-x") == 0);
    const char *both = evh_arena_printf(arena, "%s%s", longer, longer);
    CHECK_EQUAL(strlen(both), 1998);
    CHECK(evh_arena_strdup(arena, NULL) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    const unsigned char *zeroes = evh_arena_calloc(arena, 10, 30, 16);
    for (unsigned i = 0; i < 300; i++) CHECK_EQUAL(zeroes[i], 0);
    evh_arena_close(arena);
}

/* ---- going back ---- */

TEST(a_release_takes_back_what_was_allocated_since_the_mark)
{
    evh_arena *arena = make(NULL);
    (void)evh_arena_alloc(arena, 100, 16);
    const evh_mark mark = evh_arena_mark(arena);
    const uint64_t used = stats_of(arena).used_bytes;
    void *first = evh_arena_alloc(arena, 100, 16);
    for (unsigned i = 0; i < 10000; i++) CHECK(evh_arena_alloc(arena, 1000, 16) != NULL);
    CHECK_EQUAL(evh_arena_release(arena, mark), EVH_OK);
    CHECK_EQUAL(stats_of(arena).used_bytes, used);
    CHECK_EQUAL(stats_of(arena).chunks, 1);
    CHECK(evh_arena_alloc(arena, 100, 16) == first);
    CHECK_EQUAL(evh_arena_release(arena, mark), EVH_OK); /* a mark may be used again */
    evh_arena_close(arena);
}

TEST(a_mark_of_an_empty_arena_takes_back_everything)
{
    evh_arena *arena = make(NULL);
    const evh_mark mark = evh_arena_mark(arena);
    for (unsigned i = 0; i < 1000; i++) CHECK(evh_arena_alloc(arena, 1000, 16) != NULL);
    CHECK_EQUAL(evh_arena_release(arena, mark), EVH_OK);
    CHECK_EQUAL(stats_of(arena).used_bytes, 0);
    CHECK(evh_arena_alloc(arena, 16, 16) != NULL);
    evh_arena_close(arena);
}

TEST(a_mark_that_ended_is_stale)
{
    evh_arena *arena = make(&(evh_arena_options){.misuse = EVH_MISUSE_STATUS});
    evh_arena *other = make(NULL);
    (void)evh_arena_alloc(arena, 10, 1);
    (void)evh_arena_alloc(other, 10, 1);
    const evh_mark before = evh_arena_mark(arena);
    (void)evh_arena_alloc(arena, 10, 1);
    const evh_mark later = evh_arena_mark(arena);
    CHECK_EQUAL(evh_arena_release(arena, before), EVH_OK);
    CHECK_EQUAL(evh_arena_release(arena, later), EVH_STALE);
    CHECK_EQUAL(evh_arena_release(arena, evh_arena_mark(other)), EVH_STALE);
    evh_arena_reset(arena);
    CHECK_EQUAL(evh_arena_release(arena, before), EVH_STALE);
    CHECK_EQUAL(evh_arena_release(arena, (evh_mark){0}), EVH_STALE);
    evh_arena_close(arena);
    evh_arena_close(other);
}

static void work_in_a_scope(evh_arena *arena)
{
    EVH_ARENA_SCOPE(arena);
    EVH_ARENA_SCOPE(arena);
    CHECK(evh_arena_alloc(arena, 100, 1) != NULL);
}

TEST(a_scope_releases_at_its_end)
{
    evh_arena *arena = make(NULL);
    (void)evh_arena_alloc(arena, 1, 1);
    const uint64_t used = stats_of(arena).used_bytes;
    for (unsigned i = 0; i < 1000; i++) work_in_a_scope(arena);
    CHECK_EQUAL(stats_of(arena).used_bytes, used);
    evh_arena_close(arena);
}

TEST(after_a_few_resets_the_working_set_is_one_chunk)
{
    evh_arena *arena = make(NULL);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 3000; i++) CHECK(evh_arena_alloc(arena, 1000, 16) != NULL);
        if (round == 3) CHECK_EQUAL(stats_of(arena).chunks, 1);
        evh_arena_reset(arena);
        CHECK_EQUAL(stats_of(arena).used_bytes, 0);
        CHECK_EQUAL(stats_of(arena).chunks, 1);
    }
    CHECK_EQUAL(stats_of(arena).resets, 4);
    CHECK(stats_of(arena).peak_bytes >= 3000 * 1000);
    evh_arena_close(arena);
}

TEST(an_arena_knows_what_it_holds)
{
    evh_arena *arena = make(NULL);
    unsigned char outside;
    unsigned char *block = evh_arena_alloc(arena, 100, 16);
    CHECK(evh_arena_holds(arena, block, 100));
    CHECK(!evh_arena_holds(arena, block - 1, 1));
    CHECK(!evh_arena_holds(arena, &outside, 1));
    CHECK(!evh_arena_holds(arena, block, SIZE_MAX));
    evh_arena_close(arena);
}

/* ---- threads ---- */

enum { THREADS = 4, THREAD_BLOCKS = 20000 };

struct thread_work {
    evh_arena *arena;
    uint64_t *blocks[THREAD_BLOCKS];
    uint64_t number;
};

static void *allocate_in_a_thread(void *context)
{
    struct thread_work *work = context;
    for (unsigned i = 0; i < THREAD_BLOCKS; i++) {
        work->blocks[i] = evh_arena_alloc(work->arena, 8 + i % 100, 8);
        if (work->blocks[i]) *work->blocks[i] = work->number + i;
    }
    return NULL;
}

TEST(threads_share_an_arena)
{
    static struct thread_work work[THREADS];
    evh_arena *arena = make(&(evh_arena_options){.is_shared = true});
    for (unsigned round = 0; round < 3; round++) {
        pthread_t threads[THREADS];
        for (uint64_t i = 0; i < THREADS; i++) {
            work[i] = (struct thread_work){.arena = arena, .number = i << 32};
            CHECK_EQUAL(pthread_create(&threads[i], NULL, allocate_in_a_thread, &work[i]), 0);
        }
        for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
        for (unsigned i = 0; i < THREADS; i++)
            for (unsigned j = 0; j < THREAD_BLOCKS; j++)
                CHECK_EQUAL(*work[i].blocks[j], work[i].number + j);
        evh_arena_reset(arena);
        CHECK(evh_arena_alloc(arena, 16, 16) != NULL); /* not from a piece of before */
        CHECK(stats_of(arena).used_bytes <= 20000);
    }
    CHECK_EQUAL(evh_arena_release(arena, evh_arena_mark(arena)), EVH_MODE);
    evh_arena_close(arena);
}

TEST(a_fixed_shared_arena_gives_all_it_has)
{
    const size_t size = 2 * (size_t)sysconf(_SC_PAGESIZE);
    evh_arena *arena =
        make(&(evh_arena_options){.size_bytes = size, .is_fixed = true, .is_shared = true});
    for (size_t i = 0; i < size / 16; i++) CHECK(evh_arena_alloc(arena, 16, 16) != NULL);
    CHECK(evh_arena_alloc(arena, 16, 16) == NULL);
    CHECK_EQUAL(last_status(), EVH_LIMIT);
    evh_arena_close(arena);
}

/* ---- on a heap ---- */

static uint64_t live_blocks(evh_heap *heap)
{
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    return info.live_blocks;
}

/* A list in the arena: what a program would keep there. */
struct node {
    evh_ref next;
    uint64_t value;
};

struct list_root {
    evh_ref arena;
    evh_ref first;
};

static void push(evh_heap *heap, evh_arena *arena, struct list_root *root, uint64_t value)
{
    struct node *node = evh_arena_alloc(arena, sizeof *node, 8);
    CHECK(node != NULL);
    node->value = value;
    node->next = root->first;
    root->first = evh_ref_to(heap, node);
}

/* The values from `count` down to 1 are there. */
static void check_list(evh_heap *heap, const struct list_root *root, uint64_t count)
{
    evh_ref ref = root->first;
    for (; count > 0; count--) {
        const struct node *node = evh_at(heap, ref);
        CHECK(node != NULL);
        CHECK_EQUAL(node->value, count);
        ref = node->next;
    }
    CHECK_EQUAL(ref.offset, 0);
}

TEST(an_arena_survives_reopening)
{
    const char *path = test_path("arena");
    for (uint64_t round = 0; round < 5; round++) {
        evh_heap *heap = evh_open(path, NULL);
        struct list_root *root = evh_root(heap, "list", sizeof *root);
        evh_arena *arena = round ? evh_arena_open(heap, root->arena, NULL)
                                 : evh_arena_create(&(evh_arena_options){.heap = heap});
        CHECK(arena != NULL);
        if (!round) root->arena = evh_arena_ref(arena);
        check_list(heap, root, round * 10000);
        for (uint64_t i = 1; i <= 10000; i++) push(heap, arena, root, round * 10000 + i);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        for (uint64_t i = 1; i <= 500; i++) push(heap, arena, root, i); /* lost */
        if (round % 2) evh_arena_close(arena);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        if (round % 2) continue;
        CHECK(evh_arena_alloc(arena, 16, 16) == NULL);
        CHECK_EQUAL(last_status(), EVH_STALE);
        evh_arena_close(arena);
    }
}

TEST(what_is_allocated_after_closing_the_handle_and_opening_it_again_is_apart)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_arena *arena = make(&(evh_arena_options){.heap = heap});
    const evh_ref ref = evh_arena_ref(arena);
    unsigned char *first = evh_arena_alloc(arena, 1000, 16);
    memset(first, 1, 1000);
    evh_arena_close(arena);
    arena = evh_arena_open(heap, ref, NULL);
    CHECK(arena != NULL);
    unsigned char *next = evh_arena_alloc(arena, 1000, 16);
    memset(next, 2, 1000);
    for (unsigned i = 0; i < 1000; i++) CHECK_EQUAL(first[i], 1);
    CHECK_EQUAL(evh_arena_remove(arena), EVH_OK);
    evh_close(heap);
}

TEST(a_rollback_takes_back_allocations)
{
    evh_heap *heap = evh_open(test_path("arena"), NULL);
    struct list_root *root = evh_root(heap, "list", sizeof *root);
    evh_arena *arena = make(&(evh_arena_options){.heap = heap});
    root->arena = evh_arena_ref(arena);
    for (uint64_t i = 1; i <= 5000; i++) push(heap, arena, root, i);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const uint64_t live = live_blocks(heap);
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 1; i <= 50000; i++) push(heap, arena, root, i);
        if (round == 2) evh_arena_reset(arena);
        CHECK_EQUAL(evh_rollback(heap), EVH_OK);
        CHECK_EQUAL(live_blocks(heap), live);
        check_list(heap, root, 5000);
    }
    for (uint64_t i = 1; i <= 5000; i++) push(heap, arena, root, 5000 + i);
    check_list(heap, root, 10000);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_arena_remove(arena), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_rollback_of_its_creation_leaves_the_handle_stale)
{
    evh_heap *heap = evh_open(test_path("arena"), NULL);
    evh_arena *arena = make(&(evh_arena_options){.heap = heap});
    CHECK(evh_arena_alloc(arena, 16, 16) != NULL);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK(evh_arena_alloc(arena, 16, 16) == NULL);
    CHECK_EQUAL(last_status(), EVH_STALE);
    CHECK_EQUAL(evh_arena_ref(arena).offset, 0);
    CHECK_EQUAL(evh_arena_remove(arena), EVH_STALE);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(removing_an_arena_frees_its_blocks)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    const uint64_t live = live_blocks(heap);
    evh_arena *arena = make(&(evh_arena_options){.heap = heap});
    for (unsigned i = 0; i < 10000; i++) CHECK(evh_arena_alloc(arena, 1000, 16) != NULL);
    CHECK(live_blocks(heap) > live + 3);
    evh_arena_reset(arena);
    CHECK_EQUAL(live_blocks(heap), live + 2);
    CHECK_EQUAL(evh_arena_remove(arena), EVH_OK);
    CHECK_EQUAL(live_blocks(heap), live);
    evh_close(heap);
}

TEST(bumping_dirties_payload_pages_alone)
{
    evh_heap *heap = evh_open(test_path("arena"), NULL);
    evh_arena *arena = make(&(evh_arena_options){.heap = heap, .size_bytes = 1 << 20});
    evh_info before, after;
    memset(evh_arena_alloc(arena, 16, 16), 1, 16);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_get_info(heap, &before), EVH_OK);
    for (unsigned i = 0; i < 10; i++) memset(evh_arena_alloc(arena, 16, 16), 1, 16);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_get_info(heap, &after), EVH_OK);
    CHECK_EQUAL(after.pages_committed - before.pages_committed,
                2); /* the payload's, the record's */
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_get_info(heap, &before), EVH_OK);
    CHECK_EQUAL(after.pages_committed, before.pages_committed); /* nothing was allocated */
    evh_arena_close(arena);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_buffer_keeps_the_arena_of_its_heap)
{
    enum { SIZE = 4 << 20 };
    unsigned char *buffer = aligned_alloc(65536, SIZE);
    unsigned char *copy = aligned_alloc(65536, SIZE);
    evh_heap *heap = evh_open_memory(buffer, SIZE, NULL);
    struct list_root *root = evh_root(heap, "list", sizeof *root);
    evh_arena *arena = make(&(evh_arena_options){.heap = heap});
    root->arena = evh_arena_ref(arena);
    for (uint64_t i = 1; i <= 1000; i++) push(heap, arena, root, i);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    memcpy(copy, buffer, SIZE);
    for (uint64_t i = 1001; i <= 2000; i++) push(heap, arena, root, i);
    evh_close(heap);
    evh_arena_close(arena);
    for (unsigned i = 0; i < 2; i++) {
        heap = evh_open_memory(i ? copy : buffer, SIZE, NULL);
        root = evh_root_find(heap, "list", NULL);
        arena = evh_arena_open(heap, root->arena, NULL);
        CHECK(arena != NULL);
        check_list(heap, root, i ? 1000 : 2000);
        push(heap, arena, root, i ? 1001 : 2001);
        check_list(heap, root, i ? 1001 : 2001);
        evh_arena_close(arena);
        evh_close(heap);
    }
    free(buffer);
    free(copy);
}

TEST(an_arena_works_in_a_small_buffer_heap)
{
    static unsigned char buffer[16384];
    evh_heap *heap = evh_open_memory(buffer, sizeof buffer, NULL);
    evh_arena *arena = make(&(evh_arena_options){.heap = heap, .size_bytes = 1024});
    unsigned got = 0;
    while (evh_arena_alloc(arena, 16, 16)) got++;
    CHECK(got > 300);
    CHECK_EQUAL(evh_arena_remove(arena), EVH_OK);
    evh_close(heap);
}

TEST(an_arena_uses_the_room_that_a_heap_has_left)
{
    for (unsigned is_live = 0; is_live < 2; is_live++) {
        const evh_options options = {.mode = is_live ? EVH_LIVE : EVH_DURABLE,
                                     .size_max_bytes = 8 << 20};
        evh_heap *heap = evh_open(test_path("room"), &options);
        CHECK(heap != NULL);
        evh_arena *arena = make(&(evh_arena_options){.heap = heap});
        uint64_t got = 0;
        while (evh_arena_alloc(arena, 1000, 8)) got++;
        /* Chunks double: the one of 4 MiB does not fit any more, smaller ones do. */
        CHECK(got > 5500);
        CHECK_EQUAL(evh_arena_remove(arena), EVH_OK);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
}

TEST(a_ref_that_is_no_arena_is_refused)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    unsigned char *block = evh_calloc(heap, 1, 64);
    const evh_ref refs[] = {{0}, {1}, evh_ref_to(heap, block), {UINT64_MAX}, {65536}};
    for (unsigned i = 0; i < sizeof refs / sizeof refs[0]; i++) {
        CHECK(evh_arena_open(heap, refs[i], NULL) == NULL);
        CHECK_EQUAL(last_status(), EVH_NOT_FOUND);
    }
    evh_close(heap);
}

TEST(every_damaged_byte_of_a_record_is_noticed_or_harmless)
{
    /* Strategy: change each byte of the arena's and of its chunks' records; open; allocate.
     * Invariants: it is refused, or what it hands out lies in the heap. */
    evh_heap *heap = evh_open_memory(NULL, 16 << 20, &(evh_options){.misuse = EVH_MISUSE_STATUS});
    evh_arena *arena = make(&(evh_arena_options){.heap = heap, .size_bytes = 4096});
    unsigned refused = 0;
    unsigned char *last = NULL;
    for (unsigned i = 0; i < 100; i++) last = evh_arena_alloc(arena, 100, 16);
    const evh_ref ref = evh_arena_ref(arena);
    evh_arena_close(arena);
    unsigned char *record = evh_at(heap, ref);
    uint64_t chunk;
    memcpy(&chunk, record + 8, sizeof chunk);
    for (unsigned i = 0; i < 128; i++) {
        unsigned char *byte =
            i < 64 ? record + i : (unsigned char *)evh_at(heap, (evh_ref){chunk}) + (i - 64);
        const unsigned char kept = *byte;
        *byte ^= (unsigned char)(1u << i % 8);
        unsigned char saved[64];
        memcpy(saved, record, sizeof saved);
        arena = evh_arena_open(heap, ref, NULL);
        if (!arena) refused++;
        unsigned char *block = arena ? evh_arena_alloc(arena, 64, 16) : NULL;
        if (block) CHECK(evh_heap_of(block) == heap);
        evh_arena_close(arena);
        memcpy(record, saved, sizeof saved);
        *byte = kept;
    }
    CHECK(refused >= 60);
    CHECK(last != NULL);
    evh_close(heap);
}
