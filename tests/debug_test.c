/* debug_test.c -- the debug layer does no harm: heaps work as they should under every letter;
 * sites, leaks, regions, the log and the monitor say what is so. */
#define EVH_DEBUG_SITES
#include <everheap.h>

#include "support/status.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_heap *open_debugged(const char *path, const char *letters)
{
    const evh_options options = {.debug = letters};
    evh_heap *heap = path ? evh_open(path, &options) : evh_open_memory(NULL, 0, &options);
    CHECK(heap != NULL);
    return heap;
}

/* ---- a heap under letters is a heap ---- */

enum { BLOCKS = 300 };

struct shadow {
    evh_ref refs[BLOCKS];
    uint64_t sizes[BLOCKS];
};

static void fill_block(unsigned char *block, uint64_t size, uint64_t i)
{
    for (uint64_t j = 0; j < size; j++) block[j] = (unsigned char)(i + j);
}

static void check_blocks(evh_heap *heap, const struct shadow *shadow)
{
    for (uint64_t i = 0; i < BLOCKS; i++) {
        const unsigned char *block = evh_at(heap, shadow->refs[i]);
        for (uint64_t j = 0; j < shadow->sizes[i]; j++)
            CHECK_EQUAL(block[j], (unsigned char)(i + j));
    }
}

static void change_block(evh_heap *heap, struct shadow *shadow, uint64_t *random)
{
    const uint64_t i = test_random(random) % BLOCKS;
    const uint64_t size = 1 + test_random(random) % (test_random(random) % 50 ? 500 : 100000);
    unsigned char *block = evh_at(heap, shadow->refs[i]);
    const uint64_t kind = test_random(random) % 3;
    if (!block) {
        block = kind ? evh_malloc(heap, size) : evh_aligned_alloc(heap, 256, size);
    } else if (kind == 0) {
        block = evh_realloc(heap, block, size);
    } else {
        evh_free(heap, block);
        shadow->refs[i].offset = shadow->sizes[i] = 0;
        return;
    }
    CHECK(block != NULL);
    CHECK(evh_usable_size(heap, block) >= size);
    fill_block(block, size, i);
    shadow->refs[i] = evh_ref_to(heap, block);
    shadow->sizes[i] = size;
}

TEST(a_debugged_heap_commits_rolls_back_and_reopens)
{
    /* Strategy: random changes, commits, rollbacks and reopenings under changing letters.
     * Invariants: blocks keep their bytes; the heap checks clean; nothing is reported. */
    static const char *const letters[] = {"",      "C",       "J", "Q5",   "CJQS",
                                          "CJQSV", "CJQSX50", "V", "CQ300"};
    uint64_t random = test_seed();
    const char *path = test_path("debugged");
    struct shadow shadow = {0}, committed = {0};
    for (uint64_t round = 0; round < test_effort(18); round++) {
        evh_heap *heap = open_debugged(path, letters[round % 9]);
        shadow = committed;
        check_blocks(heap, &shadow);
        for (unsigned step = 0; step < 400; step++) {
            const uint64_t kind = test_random(&random) % 100;
            if (kind == 0) {
                CHECK_EQUAL(evh_rollback(heap), EVH_OK);
                shadow = committed;
                check_blocks(heap, &shadow);
            } else if (kind <= 2) {
                CHECK_EQUAL(evh_commit(heap), EVH_OK);
                committed = shadow;
            } else {
                change_block(heap, &shadow, &random);
            }
        }
        check_blocks(heap, &shadow);
        CHECK_EQUAL(evh_debug_check(heap), EVH_OK);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        committed = shadow;
        evh_info info;
        uint64_t live = 0;
        for (unsigned i = 0; i < BLOCKS; i++) live += shadow.refs[i].offset != 0;
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        CHECK_EQUAL(info.live_blocks, live + 1); /* the catalog; a commit empties the quarantine */
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
}

/*
 * Strategy   Random changes of a heap with guards, which is checked, trimmed and saved in between;
 *            then of the saved file, opened privately.
 * Invariants Blocks keep their bytes, nothing is reported, the saved image holds all of it.
 */
TEST(a_heap_with_guards_is_saved_and_reopened_privately)
{
    const char *path = test_path("guarded");
    uint64_t random = test_seed();
    struct shadow shadow = {0};
    for (unsigned round = 0; round < 4; round++) {
        const char *letters = round % 2 ? "GJQ20" : "GCQ9X100";
        evh_heap *heap = round
                             ? evh_open(path, &(evh_options){.mode = EVH_PRIVATE, .debug = letters})
                             : evh_open_memory(NULL, 0, &(evh_options){.debug = letters});
        CHECK(heap != NULL);
        check_blocks(heap, &shadow);
        for (unsigned step = 0; step < 600; step++) change_block(heap, &shadow, &random);
        CHECK_EQUAL(evh_debug_check(heap), EVH_OK);
        if (round == 0) CHECK_EQUAL(evh_trim(heap, NULL), EVH_OK);
        unlink(path);
        CHECK_EQUAL(evh_save(heap, path), EVH_OK);
        const struct shadow saved = shadow;
        for (unsigned step = 0; step < 50; step++) change_block(heap, &shadow, &random);
        check_blocks(heap, &shadow);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        shadow = saved;
    }
}

/* A string's room is what its block holds, but not where the canary is. */
TEST(collections_leave_the_canaries_of_their_blocks_alone)
{
    evh_heap *heap = evh_open_memory(NULL, 0, &(evh_options){.debug = "CJQX1"});
    CHECK(heap != NULL);
    evh_str text = {0};
    evh_vec numbers = {0};
    evh_map map = {0};
    for (unsigned i = 0; i < 300; i++) {
        char key[32];
        const int length = snprintf(key, sizeof key, "word %u ", i);
        CHECK_EQUAL(evh_str_append(heap, &text, key, (size_t)length), EVH_OK);
        if (i % 3 == 0) CHECK_EQUAL(evh_str_splice(heap, &text, 0, 2, NULL, 0), EVH_OK);
        CHECK(evh_vec_push(heap, &numbers, sizeof(uint32_t), &i) != NULL);
        CHECK(evh_map_put_str(heap, &map, key, 5) != NULL);
        if (i % 4 == 0) CHECK(evh_map_erase_str(heap, &map, key));
    }
    CHECK_EQUAL(evh_debug_check(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(guards_are_refused_where_pages_are_collected)
{
    const char *path = test_path("collected");
    CHECK(evh_open(path, &(evh_options){.debug = "G"}) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_MODE);
    setenv("EVERHEAP_DEBUG", "CG", 1); /* what is meant for others does not stop this one */
    evh_heap *heap = evh_open(path, NULL);
    unsetenv("EVERHEAP_DEBUG");
    CHECK(heap != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static void *use_in_a_thread(void *context)
{
    evh_heap *heap = context;
    uint64_t random = (uintptr_t)&random;
    unsigned char *blocks[50] = {NULL};
    for (unsigned i = 0; i < 5000; i++) {
        unsigned char **block = &blocks[test_random(&random) % 50];
        evh_free(heap, *block);
        *block = evh_malloc(heap, 1 + test_random(&random) % 300);
        if (!*block) return context;
    }
    for (unsigned i = 0; i < 50; i++) evh_free(heap, blocks[i]);
    return NULL;
}

TEST(letters_that_nobody_knows_are_refused)
{
    const evh_options options = {.debug = "CZ"};
    CHECK(evh_open_memory(NULL, 0, &options) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
    CHECK(evh_open(test_path("letters"), &(evh_options){.debug = "Q9999999999"}) == NULL);
    CHECK_EQUAL(last_status(), EVH_INVALID);
}

TEST(the_environment_gives_letters_to_what_has_none)
{
    setenv("EVERHEAP_DEBUG", "J", 1);
    evh_heap *heap = open_debugged(NULL, NULL);
    evh_heap *other = open_debugged(NULL, "");
    unsetenv("EVERHEAP_DEBUG");
    const unsigned char *block = evh_malloc(heap, 100);
    CHECK_EQUAL(block[50], 0xd0);
    block = evh_calloc(other, 1, 100);
    CHECK_EQUAL(block[50], 0);
    evh_close(heap);
    evh_close(other);
}

TEST(freed_blocks_wait_in_quarantine)
{
    evh_heap *heap = open_debugged(NULL, "Q10");
    void *first = evh_malloc(heap, 64);
    evh_free(heap, first);
    for (unsigned i = 0; i < 10; i++) {
        void *other = evh_malloc(heap, 64);
        CHECK(other != first);
        evh_free(heap, other);
    }
    evh_close(heap);
}

TEST(threads_and_a_forked_child_use_a_debugged_heap)
{
    enum { THREADS = 3 };
    evh_heap *heap = open_debugged(NULL, "CJQSVX500");
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, use_in_a_thread, heap), 0);
    for (unsigned i = 0; i < 20; i++) {
        int status = 0;
        const pid_t child = fork(); /* while the others are somewhere inside */
        CHECK(child >= 0);
        if (child == 0) {
            unsigned char *block = evh_malloc(heap, 100);
            evh_free(heap, block);
            _exit(block ? 0 : 1);
        }
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK_EQUAL(status, 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        CHECK(failed == NULL);
    }
    CHECK_EQUAL(evh_debug_check(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- what it knows ---- */

static bool find_leak(const evh_debug_leak *leak, void *context)
{
    evh_debug_leak *found = context;
    *found = *leak;
    return true;
}

/* Frees a block with a spoilt canary, in a thread that never had a cache. */
static void *free_spoilt(void *heap)
{
    evh_free(heap, evh_root_find(heap, "spoilt", NULL));
    return last_status() == EVH_OVERWRITTEN ? heap : NULL;
}

TEST(frees_of_a_thread_that_never_allocated_are_checked)
{
    evh_heap *heap = open_debugged(test_path("heap"), "CR");
    for (unsigned i = 0; i < 100; i++)
        CHECK(evh_malloc(heap, 40) != NULL); /* its slice has an owner */
    char *block = evh_root(heap, "spoilt", 40);
    pthread_t thread;
    void *told = NULL;
    block[40] = 'x';
    CHECK_EQUAL(pthread_create(&thread, NULL, free_spoilt, heap), 0);
    CHECK_EQUAL(pthread_join(thread, &told), 0);
    CHECK(told == heap);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_live_heap_is_not_debugged)
{
    const evh_options options = {.mode = EVH_LIVE, .debug = "C"};
    CHECK(evh_open(test_path("live"), &options) == NULL);
    CHECK_EQUAL(last_status(), EVH_MODE);
    CHECK_EQUAL(setenv("EVERHEAP_DEBUG", "A", 1), 0);
    const evh_options plain = {.mode = EVH_LIVE};
    evh_heap *heap = evh_open(test_path("live"), &plain);
    CHECK(heap != NULL);
    CHECK_EQUAL(unsetenv("EVERHEAP_DEBUG"), 0);
    char *block = evh_malloc(heap, 40);
    CHECK_EQUAL(evh_usable_size(heap, block), 48);
    evh_free(heap, block);
    CHECK(evh_malloc(heap, 40) == block); /* no quarantine */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    const evh_options report = {.mode = EVH_LIVE, .debug = "R"};
    heap = evh_open(test_path("live"), &report);
    CHECK(heap != NULL);
    evh_free(heap, block + 1);
    CHECK_EQUAL(last_status(), EVH_BAD_POINTER);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

struct live_log {
    evh_ref block;
    uint64_t operations, last_number;
    unsigned allocs, frees;
    uint32_t process;
    char site[56];
};

static bool note_live_operation(const evh_debug_operation *operation, void *context)
{
    struct live_log *log = context;
    CHECK(operation->number > log->last_number);
    log->last_number = operation->number;
    log->operations++;
    if (operation->address != log->block.offset) return true;
    log->process = operation->process;
    if (strcmp(operation->operation, "alloc") == 0) log->allocs++;
    if (strcmp(operation->operation, "free") == 0) log->frees++;
    memcpy(log->site, operation->site, sizeof log->site);
    return true;
}

TEST(the_log_of_a_live_heap_survives_whoever_wrote_it)
{
    const char *path = test_path("live");
    const evh_options logging = {.mode = EVH_LIVE, .debug = "OS"};
    const evh_options plain = {.mode = EVH_LIVE};
    evh_heap *heap = evh_open(path, &plain);
    CHECK(heap != NULL);
    CHECK_EQUAL(evh_debug_heap_log(heap, note_live_operation, NULL), EVH_NOT_FOUND);
    struct live_log *shared = evh_root(heap, "block", sizeof *shared);
    CHECK(shared != NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        evh_heap *own = evh_open(path, &logging);
        if (!own) _exit(1);
        for (unsigned i = 0; i < 3000; i++) evh_free(own, evh_malloc(own, 1 + i % 3000));
        void *block = evh_malloc(own, 100000);
        evh_free(own, block);
        struct live_log *mine = evh_root(own, "block", sizeof *mine);
        mine->block = evh_ref_to(own, block);
        kill(getpid(), SIGKILL);
    }
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    struct live_log log = {.block = shared->block};
    CHECK(log.block.offset != 0);
    CHECK_EQUAL(evh_debug_heap_log(heap, note_live_operation, &log), EVH_OK);
    CHECK_EQUAL(log.operations, 2048);
    CHECK(log.allocs > 0 && log.allocs == log.frees);
    CHECK_EQUAL(log.process, child);
    CHECK(strstr(log.site, "debug_test.c:") != NULL); /* EVH_DEBUG_SITES */
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    heap = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    struct live_log again = {.block = log.block};
    CHECK_EQUAL(evh_debug_heap_log(heap, note_live_operation, &again), EVH_OK);
    CHECK_EQUAL(again.last_number, log.last_number);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(every_way_to_allocate_in_a_live_heap_is_logged_once)
{
    const evh_options logging = {.mode = EVH_LIVE, .debug = "O"};
    evh_heap *heap = evh_open(test_path("live"), &logging);
    CHECK(heap != NULL);
    evh_ref *slot = evh_root(heap, "slot", sizeof *slot);
    CHECK(slot != NULL);
    struct live_log before = {0}, after = {0};
    CHECK_EQUAL(evh_debug_heap_log(heap, note_live_operation, &before), EVH_OK);
    evh_free(heap, evh_malloc(heap, 10));
    evh_free(heap, evh_calloc(heap, 3, 5000));
    evh_free(heap, evh_aligned_alloc(heap, 4096, 100));
    CHECK_EQUAL(evh_malloc_to(heap, slot, 100), EVH_OK);
    CHECK_EQUAL(evh_free_from(heap, slot), EVH_OK);
    CHECK_EQUAL(evh_debug_heap_log(heap, note_live_operation, &after), EVH_OK);
    CHECK_EQUAL(after.operations, before.operations + 8);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_damaged_log_is_refused)
{
    const evh_options logging = {.mode = EVH_LIVE, .debug = "O"};
    evh_heap *heap = evh_open(test_path("live"), &logging);
    size_t size = 0;
    struct live_log log = {0};
    for (unsigned i = 0; i < 100; i++) CHECK(evh_malloc(heap, 16) != NULL);
    unsigned char *ring = evh_root_find_tagged(heap, EVH_DEBUG_LOG_TAG, &size);
    CHECK(ring != NULL);
    uint64_t random = test_seed();
    for (size_t i = 64; i < size; i++) ring[i] = (unsigned char)test_random(&random);
    CHECK_EQUAL(evh_debug_heap_log(heap, note_live_operation, &log), EVH_OK);
    CHECK_EQUAL(log.operations, 0); /* no record says that it is one */
    ring[0] ^= 1;
    CHECK_EQUAL(evh_debug_heap_log(heap, note_live_operation, &log), EVH_CORRUPT);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(leaks_are_blocks_that_nothing_refers_to)
{
    evh_heap *heap = open_debugged(NULL, "S");
    evh_debug_leak leak = {0};
    evh_ref *root = evh_root(heap, "root", 64);
    root[0] = evh_ref_to(heap, evh_malloc(heap, 32));
    evh_ref *inner = evh_at(heap, root[0]);
    *inner = evh_ref_to(heap, evh_calloc(heap, 1, 48));
    void **pointer = (void **)(void *)&root[1];
    *pointer = evh_calloc(heap, 1, 56); /* by its address: a memory heap may */
    CHECK_EQUAL(evh_debug_leaks(heap, find_leak, &leak), 0);

    const void *lost = evh_calloc(heap, 1, 80);

    CHECK_EQUAL(evh_debug_leaks(heap, find_leak, &leak), 1);
    CHECK(leak.address == lost);
    CHECK_EQUAL(leak.size, 80);
    CHECK(strncmp(leak.site, "tests/debug_test.c:", 19) == 0);
    inner->offset = 0; /* its block is lost now */
    CHECK_EQUAL(evh_debug_leaks(heap, find_leak, &leak), 2);
    evh_close(heap);
}

TEST(a_region_is_in_one_live_block_or_in_none)
{
    for (unsigned i = 0; i < 2; i++) {
        evh_heap *heap = open_debugged(NULL, i ? "SCQ" : "");
        evh_debug_region region;
        unsigned char *block = evh_malloc(heap, 100);
        CHECK_EQUAL(evh_debug_validate(heap, block + 10, 90, &region), EVH_OK);
        CHECK_EQUAL(region.block.offset, evh_ref_to(heap, block).offset);
        CHECK_EQUAL(region.offset, 10);
        CHECK_EQUAL(region.size, i ? 100 : 112);
        CHECK_EQUAL(evh_debug_validate(heap, block + 10, 110, NULL), EVH_BAD_POINTER);
        if (i) CHECK_EQUAL(evh_debug_validate(heap, block + 10, 91, NULL), EVH_BAD_POINTER);
        CHECK_EQUAL(evh_debug_validate(heap, &region, 1, NULL), EVH_BAD_POINTER);
        evh_free(heap, block);
        CHECK_EQUAL(evh_debug_validate(heap, block, 1, NULL), EVH_BAD_POINTER);
        evh_close(heap);
    }
}

struct log_count {
    uint64_t operations, last;
    bool has_site;
};

static bool count_operation(const evh_debug_operation *operation, void *context)
{
    struct log_count *count = context;
    if (operation->number <= count->last) return false;
    count->last = operation->number;
    count->operations++;
    count->has_site |= strstr(operation->site, "debug_test.c:") != NULL;
    return true;
}

TEST(the_log_survives_its_process)
{
    const char *path = test_path("operations.log");
    struct log_count count = {0};
    int status = 0;
    /* No test before this one logs: a process asks for the file once. */
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        setenv("EVERHEAP_DEBUG_LOG", path, 1);
        evh_heap *heap = evh_open_memory(NULL, 0, &(evh_options){.debug = "O"});
        for (unsigned i = 0; heap && i < 70000; i++) evh_free(heap, evh_malloc(heap, 64));
        _Exit(heap ? 0 : 1); /* without a word to anybody */
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(evh_debug_log(path, count_operation, &count), EVH_OK);
    CHECK_EQUAL(count.operations, 65536);
    CHECK_EQUAL(count.last, 140000);
    CHECK(count.has_site);
}

TEST(a_file_that_is_no_log_is_refused)
{
    const char *path = test_path("no.log");
    struct log_count count = {0};
    CHECK_EQUAL(evh_debug_log(path, count_operation, &count), EVH_NOT_FOUND);
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    for (unsigned i = 0; i < 1000; i++) fputs("no log at all ", file);
    fclose(file);
    CHECK_EQUAL(evh_debug_log(path, count_operation, &count), EVH_CORRUPT);
    CHECK_EQUAL(evh_debug_log(path, NULL, NULL), EVH_INVALID);
    CHECK_EQUAL(count.operations, 0);
}

TEST(a_process_reads_its_own_log)
{
    struct log_count count = {0};
    evh_heap *heap = open_debugged(NULL, "O");
    for (unsigned i = 0; i < 100; i++) evh_free(heap, evh_malloc(heap, 64));
    CHECK_EQUAL(evh_debug_log(NULL, count_operation, &count), EVH_OK);
    CHECK(count.operations >= 200 && count.operations <= 4096);
    evh_close(heap);
}

/* ---- the monitor ---- */

TEST(the_monitor_counts_blocks_by_size)
{
    evh_heap *heap = open_debugged(NULL, "V");
    evh_monitor monitor = {0};
    void *blocks[100];
    for (unsigned i = 0; i < 100; i++) blocks[i] = evh_malloc(heap, 1000);
    CHECK_EQUAL(evh_monitor_read(heap, &monitor), EVH_OK);
    CHECK_EQUAL(monitor.allocations, 100);
    CHECK(monitor.size_blocks[10] >= 100);
    CHECK(monitor.live_blocks >= 100);
    CHECK(monitor.utilisation > 0 && monitor.utilisation <= 1);
    const uint64_t peak = monitor.live_bytes;
    for (unsigned i = 0; i < 100; i++) evh_free(heap, blocks[i]);
    CHECK_EQUAL(evh_monitor_read(heap, &monitor), EVH_OK);
    CHECK_EQUAL(monitor.peak_bytes, peak);
    CHECK(monitor.live_bytes < peak);
    CHECK_EQUAL(monitor.frees, 100);
    CHECK_EQUAL(evh_monitor_read(NULL, &monitor), EVH_INVALID);
    CHECK_EQUAL(evh_monitor_read(heap, NULL), EVH_INVALID);
    evh_close(heap);
}

TEST(the_monitors_text_is_cut_where_the_buffer_ends)
{
    evh_heap *heap = open_debugged(NULL, "");
    evh_monitor monitor = {0};
    CHECK_EQUAL(evh_monitor_read(heap, &monitor), EVH_OK);
    const size_t length = evh_monitor_text(&monitor, "a\"b\\c\n", NULL, 0);
    char *text = malloc(length + 1);
    CHECK_EQUAL(evh_monitor_text(&monitor, "a\"b\\c\n", text, length + 1), length);
    CHECK_EQUAL(strlen(text), length);
    CHECK(strstr(text, "everheap_live_blocks{heap=\"a\\\"b\\\\c\\n\"} 1\n") != NULL);
    CHECK(strcmp(text + length - 6, "# EOF\n") == 0);
    CHECK_EQUAL(evh_monitor_text(&monitor, "a\"b\\c\n", text, 20), length);
    CHECK_EQUAL(strlen(text), 19);
    CHECK_EQUAL(evh_monitor_text(NULL, "x", text, 20), 0);
    free(text);
    evh_close(heap);
}

TEST(a_read_only_heap_is_watched_too)
{
    const char *path = test_path("watched");
    evh_heap *heap = open_debugged(path, "");
    for (unsigned i = 0; i < 10; i++) CHECK(evh_malloc(heap, 100) != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_heap *reader = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY, .debug = "A"});
    evh_monitor monitor = {0};
    CHECK_EQUAL(evh_monitor_read(reader, &monitor), EVH_OK);
    CHECK_EQUAL(monitor.live_blocks, 11);
    evh_close(reader);
    evh_close(heap);
}
