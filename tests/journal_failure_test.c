/* journal_failure_test.c -- flushes that fail while opening, or halfway; journals that grow
 * slowly. */
#include "support/hooked_heap.h"
#include "support/os_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void words_fill(void *block, size_t size, uint64_t seed)
{
    uint64_t *words = block;
    for (size_t i = 0; i < size / 8; i++) words[i] = (seed + i) * 0x9e3779b97f4a7c15ull;
}

/* ---- a flush that fails while a heap is opened ---- */

enum { WITHDRAWN_PAGES = 20 };

static const evh_options settling = {.no_thread = true,
                                     .checkpoint_bytes = 64 << 10,
                                     .size_max_bytes = 64 << 20,
                                     .detect = EVH_DETECT_COMPARE};

/* A writer is killed with one commit settled, not flushed, and another in flight. */
static void withdrawn_make(struct sim *machine)
{
    evh_ticket ticket;
    evh_heap *heap = heap_open("heap", &settling);
    unsigned char *block = evh_malloc(heap, WITHDRAWN_PAGES * PAGE_BYTES);
    uint64_t *root = heap_root(heap);
    CHECK(block != NULL);
    root[0] = evh_ref_to(heap, block).offset;
    memset(block, 0x11, WITHDRAWN_PAGES * PAGE_BYTES);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    for (size_t i = 0; i < WITHDRAWN_PAGES; i++) block[i * PAGE_BYTES + 64] = 0x22;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    root[1] = 5;
    CHECK_EQUAL(evh_commit_begin(heap, &ticket), EVH_OK);
    CHECK(heap->journal->settled.sequence > heap->region->header.sequence);
    sim_kill(machine);
    (void)evh_close(heap);
    sim_revive(machine);
}

/* After a power cut: what the device has, and of what was not flushed some. */
static void withdrawn_cut(struct sim *machine, uint64_t seed)
{
    struct sim *after = sim_create(seed + 1000);
    struct sim_disk *disk = sim_disk_create();
    const struct sim_log *log = sim_log(machine);
    for (size_t i = 0; i < log->count; i++) sim_disk_step(disk, log, i);
    sim_image_begin(disk, after, seed);
    sim_set_boot(after, 77);
    sim_disk_end(disk);
    sim_use(after);
    evh_heap *heap = heap_open("heap", &settling);
    const unsigned char *block = (const unsigned char *)heap->view.base + heap_root(heap)[0];
    for (size_t i = 0; i < WITHDRAWN_PAGES; i++) CHECK_EQUAL(block[i * PAGE_BYTES + 64], 0x22);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    sim_end(after);
}

/* The flush tells of a lost write-back, and the opening fails. No later flush will tell. */
TEST(an_opening_that_fails_in_its_flush_loses_nothing)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct sim *machine = sim_create(seed);
        sim_keep_disk(machine);
        sim_use(machine);
        withdrawn_make(machine);
        sim_fail(machine, SIM_FAULT_FLUSH, 1, EIO, 1);
        CHECK(evh_open("heap", &settling) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_IO);
        CHECK(sim_has_failed(machine));

        evh_heap *heap = heap_open("heap", &settling);

        CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        withdrawn_cut(machine, seed);
        sim_end(machine);
        sim_use(NULL);
    }
}

/* ---- several commits flushed in one turn ---- */

enum { TURN_COMMITS = 80 }; /* more than one call to the system takes */

static unsigned turn_syncs;

static int turn_second_fails(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                             bool *flush_failed)
{
    *flush_failed = false;
    if (parts[0].size >= PAGE_BYTES && ++turn_syncs == 2) return ENOSPC;
    return os_linux()->write_sync(file, offset, parts, count, flush_failed);
}

/* Killed at the second page that goes home. */
static int turn_kill_at_home(int file, uint64_t offset, const void *data, size_t size)
{
    static unsigned writes;
    const int error = os_linux()->write(file, offset, data, size);
    if (offset >= 2 * SLICE_BYTES && ++writes == 2) kill(getpid(), SIGKILL);
    return error;
}

static void turn_make(struct raw *raw, const char *path)
{
    raw_create(raw, path);
    raw_grow(raw, 4 << 20);
    memset(raw_word(raw, 0, 0), 1, 1 << 20);
    CHECK_EQUAL(raw_commit(raw), EVH_OK);
    CHECK_EQUAL(journal_checkpoint(raw->journal), EVH_OK);
}

/* Begin many commits; of the turn that flushes them the first part succeeds, the second fails. */
static void turn_fail(struct raw *raw, uint64_t tickets[TURN_COMMITS])
{
    for (uint64_t i = 0; i < TURN_COMMITS; i++) {
        for (uint64_t page = 0; page < 8; page += 2) *raw_word(raw, page, 0) = i + 1000;
        CHECK_EQUAL(raw_begin(raw, &tickets[i]), EVH_OK);
    }
    hooked_begin();
    hooked.write_sync = turn_second_fails;
    turn_syncs = 0;
    CHECK_EQUAL(journal_wait(raw->journal, tickets[TURN_COMMITS - 1]), EVH_FULL);
    CHECK_EQUAL(journal_wait(raw->journal, tickets[10]), EVH_OK);
}

TEST(what_is_acknowledged_is_published)
{
    struct raw raw = {.options = {.no_thread = true}};
    uint64_t tickets[TURN_COMMITS];
    struct region_status status;
    turn_make(&raw, test_path("published"));

    turn_fail(&raw, tickets);

    CHECK(region_read_status(raw.region, &status));
    CHECK_EQUAL(status.durable_sequence, raw.journal->durable_sequence);
    os_use(NULL);
    raw_kill(&raw);
}

TEST(a_reader_after_a_kill_sees_no_mixture_though_a_later_commit_had_failed)
{
    struct raw raw = {.options = {.no_thread = true}};
    struct raw reader = {.options = {.no_thread = true}};
    const char *path = test_path("half-home");
    turn_make(&raw, path);
    raw_close(&raw);
    const pid_t child = fork();
    if (child == 0) {
        uint64_t tickets[TURN_COMMITS];
        raw_open(&raw, path, EVH_DURABLE);
        turn_fail(&raw, tickets);
        hooked.write = turn_kill_at_home;
        (void)journal_rollback(raw.journal, &raw.state);
        (void)journal_checkpoint(raw.journal);
        _exit(3);
    }
    int result = 0;
    CHECK(waitpid(child, &result, 0) == child);
    CHECK(WIFSIGNALED(result));

    raw_open(&reader, path, EVH_READ_ONLY);

    CHECK(*raw_word(&reader, 0, 0) >= 1000);
    for (uint64_t page = 2; page < 8; page += 2)
        CHECK_EQUAL(*raw_word(&reader, page, 0), *raw_word(&reader, 0, 0));
    CHECK_EQUAL(journal_check(reader.journal, NULL, NULL), EVH_OK);
    raw_close(&reader);
}

/* ---- headers that are written, and said not to be ---- */

static unsigned headers_to_fail;

static int header_lands_and_fails(int file, uint64_t offset, const struct os_part *parts,
                                  unsigned count, bool *flush_failed)
{
    const int error = os_linux()->write_sync(file, offset, parts, count, flush_failed);
    const bool is_header = offset < REGION_SLOT_COUNT * REGION_SLOT_STRIDE;
    if (error || !is_header || headers_to_fail == 0) return error;
    headers_to_fail--;
    return EIO;
}

/* The header that the next to open the file takes. */
static struct region_header newest_header(const char *path)
{
    struct region_header newest = {.generation = 0};
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    for (unsigned slot = 0; slot < REGION_SLOT_COUNT; slot++) {
        struct region_header header;
        CHECK_EQUAL(pread(file, &header, sizeof header, (off_t)(slot * REGION_SLOT_STRIDE)),
                    sizeof header);
        if (header.magic == REGION_MAGIC && header.generation > newest.generation) newest = header;
    }
    CHECK_EQUAL(close(file), 0);
    return newest;
}

TEST(a_header_that_could_not_be_written_is_not_found_by_who_comes_next)
{
    const char *path = test_path("header");
    evh_heap *heap = heap_open(path, &quietly);
    heap_root(heap)[0] = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const uint64_t before = newest_header(path).sequence;
    hooked_begin();
    hooked.write_sync = header_lands_and_fails;
    headers_to_fail = 1;
    CHECK_EQUAL(evh_checkpoint(heap), EVH_IO);
    CHECK_EQUAL(headers_to_fail, 0);

    CHECK_EQUAL(newest_header(path).sequence, before);
    CHECK_EQUAL(newest_header(path).generation, heap->region->header.generation);

    heap_root(heap)[0] = 2; /* it goes on */
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    CHECK(newest_header(path).sequence > before);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    os_use(NULL);
    heap_is_sound(path);
}

TEST(a_heap_whose_header_is_unsure_goes_no_further)
{
    const char *path = test_path("unsure");
    evh_heap *heap = heap_open(path, &quietly);
    heap_root(heap)[0] = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    hooked_begin();
    hooked.write_sync = header_lands_and_fails;
    headers_to_fail = 2; /* the second is the attempt to put the old one back */
    CHECK_EQUAL(evh_checkpoint(heap), EVH_IO);
    heap_root(heap)[0] = 2;
    CHECK_EQUAL(evh_commit(heap), EVH_POISONED);
    CHECK_EQUAL(evh_close(heap), EVH_POISONED);
    os_use(NULL);
    heap_is_sound(path);
}

/* ---- giving space back, halfway ---- */

static unsigned flushes, syncs, punches;

static int count_flush(int file)
{
    flushes++;
    return os_linux()->flush(file);
}

static int count_sync(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                      bool *flush_failed)
{
    syncs++;
    return os_linux()->write_sync(file, offset, parts, count, flush_failed);
}

static int punch_and_die(int file, uint64_t offset, uint64_t size)
{
    (void)os_linux()->punch(file, offset, size);
    (void)kill(getpid(), SIGKILL);
    return 0;
}

static int punch_one(int file, uint64_t offset, uint64_t size)
{
    flushes = 0;
    return ++punches == 2 ? EIO : os_linux()->punch(file, offset, size);
}

/* Free slices in two places. */
static evh_heap *punch_make(const char *path)
{
    void *blocks[5];
    evh_heap *heap = heap_open(path, &quietly);
    for (int i = 0; i < 5; i++) {
        blocks[i] = evh_malloc(heap, 1 << 20);
        CHECK(blocks[i] != NULL);
        words_fill(blocks[i], 1 << 20, (uint64_t)i);
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_free(heap, blocks[1]);
    evh_free(heap, blocks[3]);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    return heap;
}

TEST(who_comes_after_one_killed_while_giving_space_back_makes_the_holes_last_first)
{
    const char *path = test_path("holes");
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        evh_heap *heap = punch_make(path);
        hooked_begin();
        hooked.punch = punch_and_die;
        (void)evh_trim(heap, NULL);
        _exit(3);
    }
    int result = 0;
    CHECK(waitpid(child, &result, 0) == child);
    CHECK(WIFSIGNALED(result));

    hooked_begin();
    hooked.flush = count_flush;
    hooked.write_sync = count_sync;
    flushes = syncs = 0;
    evh_heap *heap = heap_open(path, &quietly);

    CHECK(flushes > 0);
    CHECK_EQUAL(syncs, 0);
    os_use(NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
}

TEST(holes_are_made_to_last_though_a_later_one_cannot_be_made)
{
    const char *path = test_path("holes");
    evh_heap *heap = punch_make(path);
    hooked_begin();
    hooked.punch = punch_one;
    hooked.flush = count_flush;
    punches = 0;
    CHECK_EQUAL(evh_trim(heap, NULL), EVH_IO);
    CHECK_EQUAL(punches, 2);
    CHECK(flushes > 0);
    os_use(NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
}

/* ---- journals that grow ---- */

/* Each commit is larger than every extent before it, by little. */
TEST(commits_that_grow_slowly_never_run_out_of_extents)
{
    evh_heap *heap = heap_open(test_path("slowly"), &quietly);
    size_t size = 16 << 10;
    for (int i = 0; i < 46; i++, size += size / 8 + 4096) {
        unsigned char *block = evh_malloc(heap, size);
        CHECK(block != NULL);
        words_fill(block, size, (uint64_t)i);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        evh_free(heap, block);
    }
    CHECK(size > 4 << 20);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* The file is longer, and its journal has extents, that were not there when the view was taken. */
TEST(a_reader_beside_a_journal_that_grows_finds_nothing_wrong)
{
    const char *path = test_path("beside");
    evh_heap *heap = heap_open(path, &quietly);
    unsigned char *block = evh_root(heap, "block", 4 << 20);
    CHECK(block != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    evh_heap *reader = heap_open(path, &reading);
    const uint64_t extents = ring_extent_count(heap->region);
    words_fill(block, 1 << 20, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK(ring_extent_count(heap->region) > extents);

    CHECK(evh_view_valid(reader));
    CHECK_EQUAL(evh_check(reader, NULL, NULL), EVH_OK);

    CHECK_EQUAL(evh_close(reader), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}
