/* compat_mem_test.c -- persistent_malloc() and its family behave as their programs know them. */
#include "persistent_mem.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define main vector_main
#include "../examples/vector_of_strings.c"
#undef main

enum { SMALL = 8192, LARGE = 1 << 20 };

static allocator_space_t *space_of(const char *path, size_t size)
{
    allocator_space_t *space = create_persistent_allocator(path, size);
    if (!space) printf("    %s\n", evh_last_error()->message);
    CHECK(space != NULL);
    return space;
}

static allocator_space_t *space_reopened(allocator_space_t *space, const char *path)
{
    destroy_persistent_allocator(space);
    return space_of(path, LARGE);
}

/* Keep the next mapping from getting the address that the last one had. */
static void occupy(uint64_t address)
{
    void *taken = mmap((void *)(uintptr_t)address, 4096, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(taken == MAP_FAILED || taken == (void *)(uintptr_t)address);
}

static void release(uint64_t address)
{
    (void)munmap((void *)(uintptr_t)address, 4096);
}

static uint64_t base_address(const allocator_space_t *space)
{
    return (uint64_t)(uintptr_t)persistent_base(space);
}

/* ---- opening ---- */

TEST(a_new_space_says_what_it_is)
{
    allocator_space_t *space = space_of(test_path("new"), LARGE);
    CHECK_EQUAL(space->magic, PERSISTENT_MAGIC);
    CHECK_EQUAL(space->total_size, LARGE);
    CHECK_EQUAL(space->origin, base_address(space));
    CHECK(space->heap_start > 0 && space->heap_end > space->heap_start);
    CHECK_EQUAL(space->roots_head, 0);
    for (int i = 0; i < PERSISTENT_CLASSES; i++) CHECK_EQUAL(space->free_lists[i], 0);
    destroy_persistent_allocator(space);
}

TEST(create_refuses_null_directories_and_paths_that_do_not_exist)
{
    CHECK(create_persistent_allocator(NULL, LARGE) == NULL);
    CHECK(create_persistent_allocator("/nowhere/at/all", LARGE) == NULL);
    CHECK(create_persistent_allocator(test_directory(), LARGE) == NULL);
    CHECK(create_persistent_allocator(test_path("huge"), (size_t)1 << 50) == NULL);
}

TEST(create_refuses_a_file_that_holds_something_else_and_leaves_it)
{
    const char *path = test_path("foreign");
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    for (int i = 0; i < 100000; i++) fputs("text", file);
    CHECK_EQUAL(fclose(file), 0);
    CHECK(create_persistent_allocator(path, LARGE) == NULL);
    CHECK(load_private_persistent_allocator(path) == NULL);
    struct stat status;
    CHECK(stat(path, &status) == 0 && status.st_size == 400000);
}

TEST(an_empty_file_becomes_a_space)
{
    const char *path = test_path("empty");
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    CHECK_EQUAL(fclose(file), 0);
    destroy_persistent_allocator(space_of(path, SMALL));
}

TEST(a_size_that_is_too_small_is_raised_to_a_header_and_4_kib)
{
    const char *path = test_path("tiny");
    allocator_space_t *space = space_of(path, 1);
    CHECK_EQUAL(space->total_size, sizeof *space + 4096);
    CHECK(persistent_malloc(space, 4096) != NULL);
    CHECK(persistent_malloc(space, 4096) == NULL);
    destroy_persistent_allocator(space);
}

TEST(opening_an_existing_space_does_not_alter_it)
{
    const char *path = test_path("existing");
    allocator_space_t *space = space_of(path, SMALL);
    const uint64_t origin = space->origin;
    char *block = persistent_malloc(space, 100);
    const persistent_offset_t offset = ptr_to_persistent_offset(space, block);
    memcpy(block, "still here", 11);
    space = space_reopened(space, path);
    CHECK_EQUAL(space->total_size, SMALL);
    CHECK_EQUAL(space->origin, origin);
    CHECK(strcmp(persistent_offset_to_ptr(space, offset), "still here") == 0);
    CHECK_EQUAL(space->used,
                evh_usable_size(persistent_heap(space), persistent_offset_to_ptr(space, offset)));
    destroy_persistent_allocator(space);
}

TEST(destroy_has_no_effect_on_null_and_on_what_is_no_space)
{
    allocator_space_t zero;
    memset(&zero, 0, sizeof zero);
    destroy_persistent_allocator(NULL);
    destroy_persistent_allocator(&zero);
    zero.magic = PERSISTENT_MAGIC;
    destroy_persistent_allocator(&zero);
}

TEST(nothing_works_on_null_and_on_what_is_no_space)
{
    allocator_space_t zero;
    memset(&zero, 0, sizeof zero);
    allocator_space_t *spaces[] = {NULL, &zero};
    for (int i = 0; i < 2; i++) {
        int value = 0;
        void *pointer = &value;
        CHECK(persistent_malloc(spaces[i], 10) == NULL);
        CHECK(persistent_calloc(spaces[i], 1, 10) == NULL);
        CHECK(persistent_realloc(spaces[i], NULL, 10) == NULL);
        CHECK(persistent_realloc(spaces[i], &value, 10) == NULL);
        CHECK(!persistent_realloc_impl(spaces[i], &pointer, 10));
        CHECK(persistent_malloc_root(spaces[i], 1, 10) == NULL);
        CHECK(persistent_find_root(spaces[i], 1) == NULL);
        CHECK(persistent_ptr(spaces[i], &value) == NULL);
        CHECK_EQUAL(ptr_to_persistent_offset(spaces[i], &value), 0);
        CHECK(persistent_offset_to_ptr(spaces[i], 64) == NULL);
        persistent_free(spaces[i], &value);
    }
}

/* ---- blocks ---- */

TEST(malloc_gives_distinct_aligned_blocks)
{
    allocator_space_t *space = space_of(test_path("blocks"), LARGE);
    unsigned char *blocks[200];
    for (size_t i = 0; i < 200; i++) {
        blocks[i] = persistent_malloc(space, 1 + i * 7);
        CHECK(blocks[i] != NULL);
        CHECK_EQUAL((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)i, 1 + i * 7);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < 1 + i * 7; k++) CHECK_EQUAL(blocks[i][k], i);
    destroy_persistent_allocator(space);
}

TEST(malloc_refuses_0_and_more_than_there_is)
{
    allocator_space_t *space = space_of(test_path("sizes"), SMALL);
    CHECK(persistent_malloc(space, 0) == NULL);
    CHECK(persistent_malloc(space, 10 << 20) == NULL);
    CHECK(persistent_malloc(space, SIZE_MAX) == NULL);
    CHECK(persistent_calloc(space, SIZE_MAX / 2, 4) == NULL);
    CHECK_EQUAL(space->used, 0);
    destroy_persistent_allocator(space);
}

TEST(blocks_of_512_bytes_run_out_in_8_kib)
{
    allocator_space_t *space = space_of(test_path("small"), SMALL);
    void *blocks[101] = {0};
    int count = 0;
    while (count < 101 && (blocks[count] = persistent_malloc(space, 512)) != NULL) count++;
    CHECK(count >= 8 && count < 101);
    persistent_free(space, blocks[3]);
    CHECK(persistent_malloc(space, 512) != NULL);
    CHECK(persistent_malloc(space, 512) == NULL);
    destroy_persistent_allocator(space);
}

TEST(calloc_gives_zeros_where_something_was)
{
    allocator_space_t *space = space_of(test_path("calloc"), LARGE);
    for (int i = 0; i < 100; i++) {
        unsigned char *block = persistent_calloc(space, 10, 50);
        CHECK(block != NULL);
        for (int k = 0; k < 500; k++) CHECK_EQUAL(block[k], 0);
        memset(block, 0xff, 500);
        persistent_free(space, block);
    }
    destroy_persistent_allocator(space);
}

TEST(free_ignores_null_foreign_interior_and_free_pointers)
{
    allocator_space_t *space = space_of(test_path("free"), SMALL);
    char *block = persistent_malloc(space, 100);
    char *other = persistent_malloc(space, 100);
    int on_the_stack = 0;
    const uint64_t used = space->used;
    persistent_free(space, NULL);
    persistent_free(space, &on_the_stack);
    persistent_free(space, block + 16);
    persistent_free(space, block + 1);
    persistent_free(space, space);
    CHECK_EQUAL(space->used, used);
    persistent_free(space, block);
    persistent_free(space, block);
    CHECK_EQUAL(space->used, used / 2);
    persistent_free(space, other);
    CHECK_EQUAL(space->used, 0);
    CHECK_EQUAL(evh_check(persistent_heap(space), NULL, NULL), EVH_OK);
    destroy_persistent_allocator(space);
}

TEST(large_blocks_of_a_large_space_are_limited_by_its_size)
{
    allocator_space_t *space = space_of(test_path("large"), 100 << 20);
    char *block = persistent_malloc(space, 20 << 20);
    CHECK(block != NULL);
    block[(20 << 20) - 1] = 1;
    CHECK(persistent_malloc(space, (size_t)200 << 20) == NULL);
    block = persistent_realloc(space, block, 30 << 20);
    CHECK(block != NULL && block[(20 << 20) - 1] == 1);
    persistent_free(space, block);
    persistent_free(space, block);
    CHECK(persistent_malloc(space, 90 << 20) != NULL);
    CHECK(persistent_malloc(space, 11 << 20) == NULL);
    destroy_persistent_allocator(space);
}

TEST(an_unlimited_space_grows)
{
    const char *path = test_path("unlimited");
    allocator_space_t *space = space_of(path, PERSISTENT_UNLIMITED);
    for (int i = 0; i < 20; i++) CHECK(persistent_malloc(space, 1 << 20) != NULL);
    space = space_reopened(space, path);
    CHECK_EQUAL(space->total_size, UINT64_MAX);
    CHECK(persistent_malloc(space, 1 << 20) != NULL);
    CHECK(space->heap_end > 20 << 20);
    destroy_persistent_allocator(space);
}

/* ---- realloc ---- */

TEST(realloc_of_null_allocates_and_to_0_frees)
{
    allocator_space_t *space = space_of(test_path("realloc"), SMALL);
    void *block = persistent_realloc(space, NULL, 100);
    CHECK(block != NULL);
    CHECK(persistent_realloc(space, block, 0) == NULL);
    CHECK_EQUAL(space->used, 0);
    CHECK(persistent_realloc(space, block, 50) == NULL);
    destroy_persistent_allocator(space);
}

TEST(realloc_that_fits_keeps_the_pointer)
{
    allocator_space_t *space = space_of(test_path("fits"), LARGE);
    void *block = persistent_malloc(space, 1000);
    CHECK(persistent_realloc(space, block, 1000) == block);
    CHECK(persistent_realloc(space, block, 1) == block);
    CHECK(persistent_realloc(space, block, 500) == block);
    destroy_persistent_allocator(space);
}

TEST(realloc_that_does_not_fit_keeps_the_contents)
{
    allocator_space_t *space = space_of(test_path("grows"), LARGE);
    unsigned char *block = persistent_malloc(space, 100);
    memset(block, 0x5c, 100);
    for (size_t size = 200; size < 400000; size *= 2) {
        block = persistent_realloc(space, block, size);
        CHECK(block != NULL);
        for (int i = 0; i < 100; i++) CHECK_EQUAL(block[i], 0x5c);
    }
    CHECK_EQUAL(space->used, evh_usable_size(persistent_heap(space), block));
    destroy_persistent_allocator(space);
}

TEST(realloc_without_room_keeps_the_block)
{
    allocator_space_t *space = space_of(test_path("kept"), SMALL);
    char *block = persistent_malloc(space, 3000);
    memset(block, 'x', 3000);
    const uint64_t used = space->used;
    CHECK(persistent_realloc(space, block, 100000) == NULL);
    void *pointer = block;
    CHECK(!persistent_realloc_impl(space, &pointer, 100000));
    CHECK(pointer == block && block[2999] == 'x');
    CHECK_EQUAL(space->used, used);
    destroy_persistent_allocator(space);
}

TEST(the_form_that_takes_a_pointer_to_the_pointer_rewrites_it)
{
    allocator_space_t *space = space_of(test_path("form"), LARGE);
    void *pointer = NULL;
    CHECK(!persistent_realloc_impl(space, &pointer, 10));
    CHECK(!persistent_realloc_impl(space, NULL, 10));
    pointer = persistent_malloc(space, 64);
    memcpy(pointer, "contents", 9);
    CHECK(!persistent_realloc_impl(space, &pointer, 0));
    CHECK(persistent_realloc_impl(space, &pointer, 100000));
    CHECK(strcmp(pointer, "contents") == 0);
    CHECK(persistent_realloc_impl(space, &pointer, 20));
    CHECK(strcmp(pointer, "contents") == 0);
    CHECK_EQUAL(space->used, evh_usable_size(persistent_heap(space), pointer));
    CHECK(space->used < 1000);
    persistent_free(space, pointer);
    CHECK(!persistent_realloc_impl(space, &pointer, 20));
    destroy_persistent_allocator(space);
}

/* ---- roots ---- */

TEST(a_root_is_found_by_its_class_in_another_run)
{
    const char *path = test_path("roots");
    allocator_space_t *space = space_of(path, LARGE);
    CHECK(persistent_find_root(space, 7) == NULL);
    int *root = persistent_malloc_root(space, 7, sizeof *root);
    CHECK(root != NULL && *root == 0);
    *root = 77;
    CHECK(persistent_malloc_root(space, UINT64_MAX, 10) != NULL);
    CHECK(persistent_malloc_root(space, 0, 10) != NULL);
    CHECK(persistent_malloc_root(space, 8, 0) == NULL);
    CHECK(persistent_malloc_root(space, 8, SIZE_MAX) == NULL);
    space = space_reopened(space, path);
    root = persistent_find_root(space, 7);
    CHECK(root != NULL && *root == 77);
    CHECK(persistent_find_root(space, 8) == NULL);
    CHECK(persistent_find_root(space, 0) != NULL);
    destroy_persistent_allocator(space);
}

TEST(of_several_roots_of_a_class_the_newest_is_found)
{
    allocator_space_t *space = space_of(test_path("newest"), LARGE);
    for (int i = 0; i < 100; i++) {
        int *root = persistent_malloc_root(space, 5, sizeof *root);
        CHECK(root != NULL);
        *root = i;
        CHECK(persistent_find_root(space, 5) == root);
        CHECK(persistent_malloc_root(space, 6, 8) != NULL);
    }
    CHECK_EQUAL(*(int *)persistent_find_root(space, 5), 99);
    destroy_persistent_allocator(space);
}

TEST(a_root_is_neither_freed_nor_resized)
{
    allocator_space_t *space = space_of(test_path("firm"), LARGE);
    int *root = persistent_malloc_root(space, 3, 100);
    *root = 5;
    void *pointer = root;
    persistent_free(space, root);
    CHECK(persistent_realloc(space, root, 1000) == NULL);
    CHECK(!persistent_realloc_impl(space, &pointer, 1000));
    CHECK(persistent_find_root(space, 3) == root && *root == 5);
    destroy_persistent_allocator(space);
}

TEST(a_damaged_list_of_roots_ends)
{
    allocator_space_t *space = space_of(test_path("ring"), LARGE);
    struct persistent_root *roots[5];
    for (int i = 0; i < 5; i++)
        roots[i] = (struct persistent_root *)persistent_malloc_root(space, (uint64_t)i, 8) - 1;
    roots[0]->next = ptr_to_persistent_offset(space, roots[3]);
    CHECK(persistent_find_root(space, 99) == NULL);
    CHECK(persistent_find_root(space, 2) == roots[2] + 1);
    roots[2]->next = UINT64_MAX - 64;
    CHECK(persistent_find_root(space, 99) == NULL);
    roots[2]->next = space->heap_end + 64;
    CHECK(persistent_find_root(space, 99) == NULL);
    destroy_persistent_allocator(space);
}

/* ---- offsets and pointers of earlier runs ---- */

TEST(offsets_and_pointers_convert_both_ways)
{
    allocator_space_t *space = space_of(test_path("offsets"), LARGE);
    char *block = persistent_malloc(space, 100);
    int on_the_stack = 0;
    const persistent_offset_t offset = ptr_to_persistent_offset(space, block);
    CHECK(offset != 0);
    CHECK(persistent_offset_to_ptr(space, offset) == block);
    CHECK(persistent_offset_to_ptr(space, offset + 50) == block + 50);
    CHECK_EQUAL(ptr_to_persistent_offset(space, NULL), 0);
    CHECK_EQUAL(ptr_to_persistent_offset(space, space), 0);
    CHECK_EQUAL(ptr_to_persistent_offset(space, &on_the_stack), 0);
    CHECK(persistent_offset_to_ptr(space, 0) == NULL);
    CHECK(persistent_offset_to_ptr(space, UINT64_MAX) == NULL);
    destroy_persistent_allocator(space);
}

struct node {
    struct node *next; /* a raw pointer of the process that stored it */
    int value;
};

TEST(raw_pointers_of_every_earlier_run_lead_to_their_targets)
{
    enum { RUNS = 5 };
    const char *path = test_path("archaeology");
    uint64_t taken[RUNS];
    uint64_t stored[RUNS];
    for (int run = 0; run < RUNS; run++) {
        allocator_space_t *space = space_of(path, LARGE);
        taken[run] = base_address(space);
        for (int earlier = 0; earlier < run; earlier++) {
            CHECK(taken[earlier] != taken[run]);
            struct node *node = persistent_ptr(space, (void *)(uintptr_t)stored[earlier]);
            CHECK(node != NULL && node->value == earlier);
            node = persistent_ptr(space, node->next);
            CHECK(node != NULL && node->value == 100 + earlier);
        }
        struct node *first = persistent_malloc(space, sizeof *first);
        first->next = persistent_malloc(space, sizeof *first);
        first->value = run;
        first->next->value = 100 + run;
        CHECK(persistent_ptr(space, first) == first);
        stored[run] = (uint64_t)(uintptr_t)first;
        destroy_persistent_allocator(space);
        occupy(taken[run]);
    }
    for (int run = 0; run < RUNS; run++) release(taken[run]);
}

TEST(a_pointer_from_outside_is_null)
{
    allocator_space_t *space = space_of(test_path("outside"), LARGE);
    int on_the_stack = 0;
    CHECK(persistent_ptr(space, NULL) == NULL);
    CHECK(persistent_ptr(space, &on_the_stack) == NULL);
    CHECK(persistent_ptr(space, (void *)1) == NULL);
    CHECK(persistent_ptr(space, (void *)UINTPTR_MAX) == NULL);
    CHECK(persistent_ptr(space, (char *)persistent_base(space) + 64) == NULL);
    CHECK(persistent_ptr(space, (char *)persistent_base(space) + space->heap_end) == NULL);
    destroy_persistent_allocator(space);
}

TEST(a_space_that_is_mapped_where_it_was_leaves_pointers_as_they_are)
{
    const char *path = test_path("same");
    allocator_space_t *space = space_of(path, LARGE);
    char *block = persistent_malloc(space, 10);
    space = space_reopened(space, path);
    if (base_address(space) != space->origin) SKIP("the address was taken by another mapping");
    CHECK(persistent_ptr(space, block) == block);
    destroy_persistent_allocator(space);
}

/* ---- private copies ---- */

TEST(a_private_copy_changes_nothing_and_can_be_opened_again_and_again)
{
    const char *path = test_path("private");
    allocator_space_t *space = space_of(path, LARGE);
    int *root = persistent_malloc_root(space, 1, sizeof *root);
    *root = 5;
    destroy_persistent_allocator(space);
    for (int i = 0; i < 3; i++) {
        allocator_space_t *copy = load_private_persistent_allocator(path);
        CHECK(copy != NULL);
        root = persistent_find_root(copy, 1);
        CHECK(root != NULL && *root == 5);
        *root = 6;
        CHECK(persistent_malloc(copy, 1000) != NULL);
        CHECK(persistent_malloc_root(copy, 2, 10) != NULL);
        destroy_persistent_allocator(copy);
    }
    space = space_of(path, LARGE);
    CHECK_EQUAL(*(int *)persistent_find_root(space, 1), 5);
    CHECK(persistent_find_root(space, 2) == NULL);
    destroy_persistent_allocator(space);
    CHECK(load_private_persistent_allocator(test_path("none")) == NULL);
    CHECK(load_private_persistent_allocator(NULL) == NULL);
}

TEST(a_private_copy_is_opened_beside_the_process_that_writes)
{
    const char *path = test_path("beside");
    allocator_space_t *space = space_of(path, LARGE);
    struct node *node = persistent_malloc_root(space, 1, sizeof *node);
    node->next = persistent_malloc(space, sizeof *node);
    node->next->value = 9;
    allocator_space_t *copy = load_private_persistent_allocator(path);
    CHECK(copy != NULL && copy != space);
    struct node *found = persistent_find_root(copy, 1);
    CHECK(found != NULL && found != node);
    struct node *next = persistent_ptr(copy, found->next);
    CHECK(next != NULL && next != node->next && next->value == 9);
    destroy_persistent_allocator(copy);
    destroy_persistent_allocator(space);
}

/* ---- crashes, processes, threads ---- */

TEST(what_a_killed_process_stored_is_there)
{
    const char *path = test_path("killed");
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        allocator_space_t *space = space_of(path, LARGE);
        uint64_t *root = persistent_malloc_root(space, 1, 2 * sizeof *root);
        char *text = persistent_malloc(space, 100);
        memcpy(text, "a last message", 15);
        root[0] = ptr_to_persistent_offset(space, text);
        root[1] = (uint64_t)(uintptr_t)text;
        (void)kill(getpid(), SIGKILL);
    }
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    allocator_space_t *space = space_of(path, LARGE);
    const uint64_t *root = persistent_find_root(space, 1);
    CHECK(root != NULL);
    CHECK(strcmp(persistent_offset_to_ptr(space, root[0]), "a last message") == 0);
    CHECK(strcmp(persistent_ptr(space, (void *)(uintptr_t)root[1]), "a last message") == 0);
    CHECK_EQUAL(evh_check(persistent_heap(space), NULL, NULL), EVH_OK);
    destroy_persistent_allocator(space);
}

TEST(two_processes_use_a_space_at_once)
{
    const char *path = test_path("two");
    allocator_space_t *space = space_of(path, LARGE);
    uint64_t *counter = persistent_malloc_root(space, 1, sizeof *counter);
    const pid_t child = fork();
    CHECK(child >= 0);
    allocator_space_t *mine = child ? space : space_of(path, LARGE);
    uint64_t *shared = child ? counter : persistent_find_root(mine, 1);
    CHECK(shared != NULL);
    for (int i = 0; i < 5000; i++) {
        void *block = persistent_malloc(mine, 50);
        CHECK(block != NULL);
        (void)__atomic_fetch_add(shared, 1, __ATOMIC_RELAXED);
        persistent_free(mine, block);
    }
    if (child == 0) {
        destroy_persistent_allocator(mine);
        _exit(0);
    }
    int status = 1;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(*counter, 10000);
    destroy_persistent_allocator(space);
}

/* What a thread needs to know; its results are counted. */
struct worker {
    allocator_space_t *space;
    uint64_t seed;
    unsigned number;
    uint64_t failures;
};

/* Allocate, fill, verify, resize and free: no byte of a block is another thread's. */
static void *worker_churn(void *context)
{
    struct worker *worker = context;
    unsigned char *blocks[4] = {0};
    size_t sizes[4] = {0};
    uint64_t random = worker->seed + worker->number;
    for (uint64_t round = 0; round < test_effort(3000); round++) {
        const size_t i = (size_t)(test_random(&random) % 4);
        for (size_t k = 0; k < sizes[i]; k++) CHECK_EQUAL(blocks[i][k], worker->number + 1);
        if (blocks[i] && test_random(&random) % 3) {
            persistent_free(worker->space, blocks[i]);
            blocks[i] = NULL;
            sizes[i] = 0;
            continue;
        }
        const size_t size = 1 + (size_t)(test_random(&random) % 400);
        unsigned char *block = persistent_realloc(worker->space, blocks[i], size);
        if (!block) {
            worker->failures++;
            continue;
        }
        blocks[i] = block;
        sizes[i] = size;
        memset(block, (int)worker->number + 1, size);
    }
    for (int i = 0; i < 4; i++) persistent_free(worker->space, blocks[i]);
    return NULL;
}

static void eight_threads(allocator_space_t *space, void *(*run)(void *), uint64_t *failures)
{
    pthread_t threads[8];
    struct worker workers[8];
    const uint64_t seed = test_seed();
    *failures = 0;
    for (unsigned i = 0; i < 8; i++) {
        workers[i] = (struct worker){space, seed, i, 0};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, run, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
        *failures += workers[i].failures;
    }
}

TEST(eight_threads_keep_their_patterns_in_8_kib)
{
    const char *path = test_path("patterns");
    allocator_space_t *space = space_of(path, SMALL);
    uint64_t failures = 0;
    eight_threads(space, worker_churn, &failures);
    CHECK_EQUAL(space->used, 0);
    CHECK_EQUAL(evh_check(persistent_heap(space), NULL, NULL), EVH_OK);
    int count = 0;
    while (persistent_malloc(space, 512) != NULL) count++;
    CHECK_EQUAL(count, 16); /* all of it is there again */
    destroy_persistent_allocator(space);
}

static void *worker_fixed(void *context)
{
    struct worker *worker = context;
    for (uint64_t round = 0; round < test_effort(3000); round++) {
        unsigned char *block = persistent_malloc(worker->space, 512);
        if (!block) {
            worker->failures++;
            continue;
        }
        memset(block, (int)worker->number, 512);
        for (int k = 0; k < 512; k += 64) CHECK_EQUAL(block[k], worker->number);
        persistent_free(worker->space, block);
    }
    return NULL;
}

TEST(contention_makes_no_space_grow_and_no_request_fail_that_has_room)
{
    const char *path = test_path("contention");
    allocator_space_t *space = space_of(path, SMALL); /* 16 blocks; 8 threads hold one each */
    uint64_t failures = 0;
    eight_threads(space, worker_fixed, &failures);
    for (int round = 0; round < 9; round++) {
        uint64_t more = 0;
        eight_threads(space, worker_fixed, &more);
        failures += more;
    }
    /* The first four slices, and one for each thread that allocates at the same time, in steps that
     * leave as many spare; however many threads came and went. */
    struct stat status;
    CHECK_EQUAL(stat(path, &status), 0);
    CHECK(status.st_size <= (4 + 2 * 8) * 65536);
    CHECK_EQUAL(failures, 0);
    CHECK_EQUAL(space->used, 0);
    destroy_persistent_allocator(space);
}

static void *worker_roots(void *context)
{
    struct worker *worker = context;
    for (uint64_t i = 0; i < 50; i++) {
        uint64_t *root =
            persistent_malloc_root(worker->space, worker->number * 1000 + i, sizeof *root);
        CHECK(root != NULL);
        *root = worker->number * 1000 + i;
        CHECK(persistent_find_root(worker->space, worker->number * 1000 + i) == root);
    }
    return NULL;
}

TEST(eight_threads_push_roots_and_none_is_lost)
{
    allocator_space_t *space = space_of(test_path("pushed"), LARGE);
    uint64_t failures = 0;
    eight_threads(space, worker_roots, &failures);
    for (uint64_t number = 0; number < 8; number++)
        for (uint64_t i = 0; i < 50; i++) {
            const uint64_t *root = persistent_find_root(space, number * 1000 + i);
            CHECK(root != NULL);
            CHECK_EQUAL(*root, number * 1000 + i);
        }
    destroy_persistent_allocator(space);
}

/* Strategy: processes allocate and free in a small space until they are killed. Invariant: whoever
 * opens it alone afterwards counts what is really in use. */
TEST(what_is_in_use_is_counted_anew_after_kills)
{
    const char *path = test_path("recount");
    destroy_persistent_allocator(space_of(path, SMALL));
    uint64_t random = test_seed();
    for (int round = 0; round < 10; round++) {
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            allocator_space_t *space = space_of(path, SMALL);
            for (;;) persistent_free(space, persistent_malloc(space, 100));
        }
        usleep((useconds_t)(test_random(&random) % 10000)); /* a moment of its life */
        CHECK_EQUAL(kill(child, SIGKILL), 0);
        CHECK_EQUAL(waitpid(child, NULL, 0), child);
        allocator_space_t *space = space_of(path, SMALL);
        evh_info info;
        CHECK_EQUAL(evh_get_info(persistent_heap(space), &info), EVH_OK);
        CHECK_EQUAL(space->used, info.live_bytes - space->baseline);
        destroy_persistent_allocator(space);
    }
}

TEST(the_vector_of_strings_runs_unchanged)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s", test_path("strings"));
    char program[] = "strings";
    char add[] = "add";
    char word[] = "word";
    char del[] = "del";
    char index[] = "3";
    char gc[] = "gc";
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(vector_main(4, (char *[]){program, path, add, word, NULL}), 0);
    CHECK_EQUAL(vector_main(4, (char *[]){program, path, del, index, NULL}), 0);
    CHECK_EQUAL(vector_main(3, (char *[]){program, path, gc, NULL}), 0);
    allocator_space_t *space = space_of(path, LARGE);
    const struct vector *vector = persistent_find_root(space, VECTOR_CLASS);
    CHECK(vector != NULL);
    CHECK_EQUAL(vector->count, 19);
    destroy_persistent_allocator(space);
}
