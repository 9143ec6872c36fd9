/* flush_test.c -- commits that meet: one is flushed while another is begun, or fails meanwhile.
 *
 * The system is the simulator or the real one, with the moment of one call taken apart: a hook runs
 * inside it, so that what another thread does "meanwhile" happens exactly there.
 */
#include "heap/heap.h"
#include "support/os_sim.h"
#include "support/raw_heap.h"

#include <pthread.h>
#include <semaphore.h>

/* ---- a system with a hook ---- */

static struct {
    struct os_calls calls;
    const struct os_calls *below;
    void (*inside_sync)(void *context); /* once, before the next write_sync; NULL: never */
    void (*inside_write)(void *context);
    void *context;
    int sync_error, write_error; /* of that call, which then writes nothing */
    int second_sync_error;       /* of the write_sync after it */
} hook;

/* A hook for its call's error alone. */
static void hook_nothing(void *context)
{
    (void)context;
}

/* The hook, once. */
static void hook_run(void (**which)(void *context))
{
    void (*run)(void *context) = *which;
    *which = NULL;
    if (run) run(hook.context);
}

static int hook_write_sync(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                           bool *flush_failed)
{
    int error = hook.inside_sync ? hook.sync_error : hook.second_sync_error;
    *flush_failed = false;
    if (!hook.inside_sync) hook.second_sync_error = 0;
    hook_run(&hook.inside_sync);
    return error ? error : hook.below->write_sync(file, offset, parts, count, flush_failed);
}

static int hook_write(int file, uint64_t offset, const void *data, size_t size)
{
    const bool is_record = size >= PAGE_BYTES; /* not the status page's */
    const int error = is_record && hook.inside_write ? hook.write_error : 0;
    if (is_record) hook_run(&hook.inside_write);
    return error ? error : hook.below->write(file, offset, data, size);
}

static void hook_use(const struct os_calls *below)
{
    memset(&hook, 0, sizeof hook);
    hook.below = below;
    hook.calls = *below;
    hook.calls.write_sync = hook_write_sync;
    hook.calls.write = hook_write;
    os_use(&hook.calls);
}

/* The next write_sync runs `inside`, and then fails with `error` if that is not 0. */
static void hook_next_sync(const struct os_calls *below, void (*inside)(void *context),
                           void *context, int error)
{
    hook_use(below);
    hook.inside_sync = inside;
    hook.context = context;
    hook.sync_error = error;
}

/* ---- a heap with a number in it ---- */

static evh_heap *number_open(const char *path, evh_mode mode)
{
    const evh_options options = {
        .mode = mode, .no_thread = true, .size_max_bytes = 64 << 20, .detect = EVH_DETECT_COMPARE};
    evh_heap *heap = evh_open(path, &options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

static uint64_t *number_of(evh_heap *heap)
{
    uint64_t *number = evh_root(heap, "number", sizeof *number);
    CHECK(number != NULL);
    return number;
}

static evh_info info_of(evh_heap *heap)
{
    evh_info info = {0};
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    return info;
}

/* A commit of another thread: of a heap's number, or of a word of raw pages. */
struct other {
    evh_heap *heap; /* NULL: raw */
    struct raw *raw;
    uint64_t number;
    evh_ticket ticket;
    evh_status status;
    pthread_t thread;
    sem_t wrote; /* of raw pages: posted in its write */
};

static void *other_begin(void *context)
{
    struct other *other = context;
    if (other->heap) {
        *number_of(other->heap) = other->number;
        other->status = evh_commit_begin(other->heap, &other->ticket);
    } else {
        *raw_word(other->raw, 2, 0) = other->number;
        other->status = raw_begin(other->raw, &other->ticket);
    }
    return NULL;
}

/* The whole of it happens inside the hooked call. */
static void other_within(void *context)
{
    struct other *other = context;
    CHECK(pthread_create(&other->thread, NULL, other_begin, other) == 0);
    CHECK(pthread_join(other->thread, NULL) == 0);
}

/* ---- what a flush covers ---- */

/* What a power cut leaves of the machine's files if only what was flushed is there. */
static void cut_power(struct sim *machine, struct sim *after)
{
    struct sim_disk *disk = sim_disk_create();
    const struct sim_log *log = sim_log(machine);
    for (size_t i = 0; i < log->count; i++) sim_disk_step(disk, log, i);
    sim_image_begin(disk, after, 1);
    sim_disk_end(disk);
}

static void number_is_after_power_cut(struct sim *machine, uint64_t number)
{
    struct sim *after = sim_create(2);
    cut_power(machine, after);
    sim_use(after);
    evh_heap *heap = number_open("heap", EVH_DURABLE);
    CHECK_EQUAL(*number_of(heap), number);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    sim_end(after);
}

TEST(a_commit_that_queues_up_during_a_flush_is_not_taken_for_flushed)
{
    struct sim *machine = sim_create(1);
    sim_use(machine);
    evh_heap *heap = number_open("heap", EVH_DURABLE);
    struct other other = {.heap = heap, .number = 2};
    *number_of(heap) = 1;
    hook_next_sync(os_sim(), other_within, &other, 0);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK(hook.inside_sync == NULL);
    CHECK_EQUAL(other.status, EVH_OK);
    CHECK_EQUAL(heap->journal->begun_sequence, 2);
    CHECK_EQUAL(info_of(heap).commit_sequence, 1);
    number_is_after_power_cut(machine, 1);

    sim_use(machine);
    CHECK_EQUAL(evh_commit_wait(heap, other.ticket), EVH_OK);
    CHECK_EQUAL(info_of(heap).commit_sequence, 2);
    number_is_after_power_cut(machine, 2);
    sim_use(machine);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    sim_end(machine);
    sim_use(NULL);
}

TEST(a_commit_that_queues_up_during_a_flush_that_fails_fails_with_it)
{
    const char *path = test_path("queued");
    evh_heap *heap = number_open(path, EVH_DURABLE);
    *number_of(heap) = 5;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    struct other other = {.heap = heap, .number = 2};
    *number_of(heap) = 1;
    hook_next_sync(os_linux(), other_within, &other, ENOSPC);
    CHECK_EQUAL(evh_commit(heap), EVH_FULL);
    os_use(NULL);
    CHECK_EQUAL(other.status, EVH_OK); /* so far */
    CHECK_EQUAL(evh_commit_wait(heap, other.ticket), EVH_FULL);
    CHECK(strstr(evh_last_error()->message, "a commit that was begun has failed") != NULL);
    CHECK_EQUAL(evh_commit_wait(heap, other.ticket), EVH_FULL); /* the answer stays */
    CHECK_EQUAL(info_of(heap).commit_sequence, 1);
    CHECK(!info_of(heap).is_poisoned);
    CHECK_EQUAL(*number_of(heap), 2); /* the stores are still there */
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK_EQUAL(*number_of(heap), 5);
    *number_of(heap) = 6;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = number_open(path, EVH_READ_ONLY);
    CHECK_EQUAL(*(uint64_t *)evh_root_find(heap, "number", NULL), 6);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* Close tells of commits that nobody waited for, and that failed. */
TEST(closing_reports_a_begun_commit_that_failed_behind_ones_back)
{
    const char *path = test_path("unreported");
    evh_heap *heap = number_open(path, EVH_DURABLE);
    struct other other = {.heap = heap, .number = 2};
    *number_of(heap) = 1;
    hook_next_sync(os_linux(), other_within, &other, ENOSPC);
    CHECK_EQUAL(evh_commit(heap), EVH_FULL);
    os_use(NULL);
    CHECK_EQUAL(evh_close(heap), EVH_FULL);
    CHECK(strstr(evh_last_error()->message, "a commit that was begun has failed") != NULL);
    heap = number_open(path, EVH_READ_ONLY);
    CHECK(evh_root_find(heap, "number", NULL) == NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- a begun commit whose own write fails ---- */

TEST(a_commit_whose_own_write_failed_is_taken_back_alone)
{
    const char *path = test_path("alone");
    evh_heap *heap = number_open(path, EVH_DURABLE);
    *number_of(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    struct other other = {.heap = heap, .number = 2};
    hook_use(os_linux());
    hook.inside_write = hook_nothing;
    hook.write_error = ENOSPC;
    other_within(&other);
    os_use(NULL);
    CHECK_EQUAL(other.status, EVH_FULL);
    CHECK_EQUAL(info_of(heap).commit_sequence, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK); /* its stores are dirty still */
    CHECK_EQUAL(info_of(heap).commit_sequence, 2);
    CHECK_EQUAL(evh_close(heap), EVH_OK); /* it was told */
    heap = number_open(path, EVH_READ_ONLY);
    CHECK_EQUAL(*(uint64_t *)evh_root_find(heap, "number", NULL), 2);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static void unlucky_write(void *context)
{
    struct other *unlucky = context;
    CHECK(sem_post(&unlucky->wrote) == 0);
}

/* Another thread begins a commit whose write fails while this one flushes: it goes on once that
 * write has failed. That thread holds the journal's mutex from there on until it waits for the
 * flusher. */
static void unlucky_within(void *context)
{
    struct other *unlucky = context;
    CHECK(pthread_create(&unlucky->thread, NULL, other_begin, unlucky) == 0);
    CHECK(sem_wait(&unlucky->wrote) == 0);
}

/*
 * Two commits wait, the second at the ring's start again: two writes flush them. During the first
 * write a third one queues up behind the second: the second write covers it, and may fail.
 */
static void unlucky_run(int second_error, evh_status third, uint64_t durable)
{
    enum { RING_PAGES = REGION_FIRST_EXTENT_BYTES / PAGE_BYTES };
    struct raw raw = {.options = {.no_thread = true, .detect = EVH_DETECT_COMPARE}};
    struct other unlucky = {.raw = &raw, .number = 3};
    uint64_t tickets[2] = {0};
    raw_create(&raw, test_path("unlucky"));
    for (uint64_t i = 1; i < RING_PAGES; i++) {
        *raw_word(&raw, 0, 0) = i;
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    }
    CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
    for (uint64_t i = 0; i < 2; i++) {
        *raw_word(&raw, 1, 0) = i + 1;
        CHECK_EQUAL(raw_begin(&raw, &tickets[i]), EVH_OK);
    }
    CHECK_EQUAL(raw.journal->live_last->offset, REGION_FIRST_EXTENT_OFFSET);
    CHECK(sem_init(&unlucky.wrote, 0, 0) == 0);
    hook_next_sync(os_linux(), unlucky_within, &unlucky, 0);
    hook.inside_write = unlucky_write;
    hook.write_error = ENOSPC;
    hook.second_sync_error = second_error;
    CHECK_EQUAL(journal_wait(raw.journal, tickets[1]), second_error ? EVH_FULL : EVH_OK);
    CHECK(pthread_join(unlucky.thread, NULL) == 0);
    os_use(NULL);
    CHECK(sem_destroy(&unlucky.wrote) == 0);
    CHECK_EQUAL(unlucky.status, third);
    CHECK_EQUAL(raw.journal->durable_sequence, RING_PAGES - 1 + durable);
    CHECK_EQUAL(raw.journal->begun_sequence, raw.journal->durable_sequence);
    CHECK_EQUAL(journal_wait(raw.journal, tickets[0]), EVH_OK);
    CHECK_EQUAL(journal_wait(raw.journal, unlucky.ticket), third);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&raw);
}

TEST(a_commit_whose_write_failed_is_durable_if_a_flush_wrote_it_meanwhile)
{
    unlucky_run(0, EVH_OK, 3);
}

TEST(a_commit_whose_write_failed_is_taken_back_once_if_the_flush_failed_as_well)
{
    unlucky_run(ENOSPC, EVH_FULL, 1);
}

/* ---- several pending commits, below the allocator ---- */

/* Three begun commits; the write of number `failing` fails. What is before it stays. */
TEST(of_pending_commits_the_one_that_fails_and_those_behind_it_are_taken_back)
{
    for (uint64_t failing = 1; failing <= 3; failing++) {
        struct raw raw = {.options = {.no_thread = true}};
        uint64_t tickets[4] = {0};
        raw_create(&raw, test_path("pending"));
        hook_use(os_linux());
        for (uint64_t i = 1; i <= 3; i++) {
            memset(raw_word(&raw, 0, 0), (int)(0x10 * i), PAGE_BYTES); /* an image, then another */
            raw_word(&raw, 1, 0)[i] = i;                               /* ranges over ranges */
            hook.inside_write = i == failing ? hook_nothing : NULL;
            hook.write_error = ENOSPC;
            const evh_status status = raw_begin(&raw, &tickets[i]);
            CHECK_EQUAL(status, i == failing ? EVH_FULL : EVH_OK);
        }
        CHECK_EQUAL(raw.journal->begun_sequence, 2);
        for (uint64_t i = 1; i <= 3; i++)
            CHECK_EQUAL(journal_wait(raw.journal, tickets[i]), i == failing ? EVH_FULL : EVH_OK);
        struct journal_state state;
        CHECK_EQUAL(journal_rollback(raw.journal, &state), EVH_OK);
        const uint64_t last = failing == 3 ? 2 : 3; /* the third has the second's stores too */
        CHECK_EQUAL(*raw_word(&raw, 0, 7) & 0xff, 0x10 * last);
        CHECK_EQUAL(raw_word(&raw, 1, 0)[last], last);
        CHECK_EQUAL(raw_word(&raw, 1, 0)[3], last == 3 ? 3 : 0);
        CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
        os_use(NULL);
        raw_close(&raw);
    }
}

TEST(a_flush_of_pending_commits_that_fails_takes_all_of_them_back)
{
    struct raw raw = {.options = {.no_thread = true}};
    uint64_t tickets[4] = {0};
    const char *path = test_path("all");
    raw_create(&raw, path);
    memset(raw_word(&raw, 0, 0), 0x77, PAGE_BYTES);
    *raw_word(&raw, 1, 0) = 77;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    for (int round = 0; round < 3; round++) {
        hook_use(os_linux());
        for (uint64_t i = 1; i <= 3; i++) {
            memset(raw_word(&raw, 0, 0), (int)i, PAGE_BYTES);
            *raw_word(&raw, 1, 0) = i;
            *raw_word(&raw, 1 + i, 0) = i;
            CHECK_EQUAL(raw_begin(&raw, &tickets[i]), EVH_OK);
        }
        hook.inside_sync = hook_nothing;
        hook.sync_error = ENOSPC;
        CHECK_EQUAL(journal_wait(raw.journal, tickets[2]), EVH_FULL);
        CHECK_EQUAL(journal_wait(raw.journal, tickets[1]), EVH_FULL);
        CHECK_EQUAL(journal_wait(raw.journal, tickets[3]), EVH_FULL);
        os_use(NULL);
        CHECK_EQUAL(raw.journal->begun_sequence, 1);
        CHECK_EQUAL(raw.journal->pending_first == NULL, 1);
    }
    CHECK_EQUAL(journal_wait(raw.journal, tickets[3] + 1), EVH_INVALID);
    CHECK(strstr(evh_last_error()->message, "no commit was begun with ticket") != NULL);
    CHECK_EQUAL(journal_rollback(raw.journal, &raw.state), EVH_OK);
    CHECK_EQUAL(*raw_word(&raw, 0, 7) & 0xff, 0x77);
    CHECK_EQUAL(*raw_word(&raw, 1, 0), 77);
    CHECK_EQUAL(*raw_word(&raw, 3, 0), 0);
    *raw_word(&raw, 1, 0) = 78;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    raw_kill(&raw);
    raw_open(&raw, path, EVH_DURABLE);
    CHECK_EQUAL(raw.journal->durable_sequence, 2);
    CHECK_EQUAL(*raw_word(&raw, 1, 0), 78);
    CHECK_EQUAL(*raw_word(&raw, 2, 0), 0);
    raw_close(&raw);
}

TEST(a_hundred_pending_commits_are_flushed)
{
    struct raw raw = {.options = {.no_thread = true}};
    uint64_t ticket = 0;
    raw_create(&raw, test_path("hundred"));
    raw_grow(&raw, 4 << 20);
    memset(raw_word(&raw, 0, 0), 1, 1 << 20); /* the ring grows to more than a hundred pages */
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
    for (uint64_t i = 0; i < 100; i++) {
        *raw_word(&raw, 0, 0) = i + 2;
        CHECK_EQUAL(raw_begin(&raw, &ticket), EVH_OK);
    }
    CHECK_EQUAL(journal_wait(raw.journal, ticket), EVH_OK);
    CHECK_EQUAL(raw.journal->durable_sequence, 101);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&raw);
}

/* ---- a disk that lies ---- */

/*
 * The disk acknowledges flushes and keeps what it likes. A checkpoint's home write of one page is
 * lost, the header behind it is not. Later commits log only what changed in the page, and only
 * their ranges' head tells that the base is not what it was.
 */
TEST(a_home_write_that_a_lying_disk_lost_is_found_under_later_ranges)
{
    struct sim *machine = sim_create(1);
    struct sim *after = sim_create(2);
    struct sim_disk *disk = sim_disk_create();
    sim_use(machine);
    evh_heap *heap = number_open("heap", EVH_DURABLE);
    uint64_t *number = number_of(heap);
    unsigned char *block = evh_malloc(heap, 16 * PAGE_BYTES);
    CHECK(block != NULL);
    unsigned char *page = block + 5 * PAGE_BYTES;
    const uint64_t offset = evh_ref_to(heap, page).offset;
    memset(block, 0x11, 16 * PAGE_BYTES);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    const size_t home_end = sim_log(machine)->count;
    *page = 0x22;
    *number = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    sim_kill(machine);
    (void)evh_close(heap);

    const struct sim_log *log = sim_log(machine);
    disk->ignores_flushes = true;
    for (size_t i = 0; i < log->count; i++) sim_disk_step(disk, log, i);
    sim_image_begin(disk, after, 1);
    unsigned lost = 0;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct sim_operation *operation = sim_pending_operation(disk, i);
        const bool is_home = disk->pending[i].operation < home_end &&
                             operation->kind == SIM_WRITE && operation->offset <= offset &&
                             offset < operation->offset + operation->size;
        if (!is_home) {
            sim_image_apply(disk, after, i);
            continue;
        }
        /* All but the page's own sectors. */
        const uint64_t first = (offset - operation->offset) / SIM_SECTOR_BYTES;
        const uint64_t end = first + PAGE_BYTES / SIM_SECTOR_BYTES;
        sim_image_apply_sectors(disk, after, i, 0, first);
        sim_image_apply_sectors(disk, after, i, end, sim_pending_sectors(disk, i));
        lost++;
    }
    CHECK(lost > 0);
    sim_use(after);
    const evh_options options = {.must_exist = true, .no_thread = true};
    for (unsigned i = 0; i < 2; i++) {
        const evh_options reading = {.mode = EVH_READ_ONLY};
        CHECK(evh_open("heap", i ? &reading : &options) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
        CHECK_EQUAL(evh_last_error()->offset, offset);
        CHECK(strstr(evh_last_error()->message, "damaged on the disk") != NULL);
    }
    sim_disk_end(disk);
    sim_end(after);
    sim_end(machine);
    sim_use(NULL);
}

/* Whoever heard of a failure, and made up for it, closes in peace. */
TEST(a_failure_that_was_told_is_not_told_again_by_close)
{
    evh_heap *heap = number_open(test_path("told"), EVH_DURABLE);
    *number_of(heap) = 1;
    hook_next_sync(os_linux(), hook_nothing, NULL, ENOSPC);
    CHECK_EQUAL(evh_commit(heap), EVH_FULL);
    os_use(NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- saving ---- */

TEST(a_saved_heap_is_whole_after_a_power_cut)
{
    struct sim *machine = sim_create(1);
    struct sim *after = sim_create(2);
    sim_use(machine);
    evh_heap *heap = evh_open_memory(NULL, 0, &(evh_options){.size_max_bytes = 64 << 20});
    CHECK(heap != NULL);
    unsigned char *block = evh_malloc(heap, 3 << 20);
    CHECK(block != NULL);
    memset(block, 0x33, 3 << 20);
    *number_of(heap) = 9;
    CHECK_EQUAL(evh_save(heap, "saved"), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    cut_power(machine, after);
    sim_use(after);
    heap = number_open("saved", EVH_DURABLE);
    CHECK_EQUAL(*number_of(heap), 9);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    sim_end(after);
    sim_end(machine);
    sim_use(NULL);
}
