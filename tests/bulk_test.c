/* bulk_test.c -- commits whose new pages are written home at once, and a journal that shrinks
 * again.
 *
 * Crashes at every point are crash_test.c's. Here: what is written where, what a failure leaves,
 * what readers and check see, and what is refused.
 */
#include "support/hooked_heap.h"
#include "support/os_sim.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BULK_BYTES = 16 << 20 };

static void fill(void *block, size_t size, uint64_t seed)
{
    uint64_t *words = block;
    for (size_t i = 0; i < size / 8; i++) words[i] = (seed + i) * 0x9e3779b97f4a7c15ull | 1;
}

static bool is_filled(const void *block, size_t size, uint64_t seed)
{
    const uint64_t *words = block;
    for (size_t i = 0; i < size / 8; i++)
        if (words[i] != ((seed + i) * 0x9e3779b97f4a7c15ull | 1)) return false;
    return true;
}

static bool is_zero(const void *block, size_t size)
{
    const unsigned char *bytes = block;
    for (size_t i = 0; i < size; i++)
        if (bytes[i]) return false;
    return true;
}

/* A filled block, named by root word `word`. */
static unsigned char *block_new(evh_heap *heap, int word, size_t size, uint64_t seed)
{
    unsigned char *block = evh_malloc(heap, size);
    CHECK(block != NULL);
    fill(block, size, seed);
    heap_root(heap)[word] = evh_ref_to(heap, block).offset;
    return block;
}

static const unsigned char *block_at(evh_heap *heap, int word)
{
    const unsigned char *block = evh_at(heap, (evh_ref){heap_root(heap)[word]});
    CHECK(block != NULL);
    return block;
}

/* The mark in the file's newest header; 0: none. */
static uint64_t mark_of(const char *path)
{
    struct file_bytes bytes = file_bytes_read(path);
    uint64_t offset = 0;
    const struct region_header *header = file_header(&bytes, &offset);
    const uint64_t mark = header->bulk_bytes;
    CHECK_EQUAL(header->incompatible, mark ? REGION_FEATURE_BULK : 0);
    file_bytes_end(&bytes);
    return mark;
}

static uint64_t file_size(const char *path)
{
    struct stat status;
    CHECK(stat(path, &status) == 0);
    return (uint64_t)status.st_size;
}

/* ---- what is written ---- */

TEST(new_pages_of_a_large_commit_are_written_once)
{
    const evh_options options = {
        .no_thread = true, .detect = EVH_DETECT_COMPARE, .size_max_bytes = 64 << 20};
    struct sim *machine = sim_create(1);
    sim_use(machine);
    evh_heap *heap = heap_open("heap", &options);
    (void)heap_root(heap);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const unsigned char *block = block_new(heap, 0, BULK_BYTES, 1);
    const uint64_t before = sim_counts(machine)->write_bytes;

    CHECK_EQUAL(evh_commit(heap), EVH_OK);

    CHECK(sim_counts(machine)->write_bytes - before < BULK_BYTES + BULK_BYTES / 16);
    CHECK(is_filled(block, BULK_BYTES, 1));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK(sim_counts(machine)->write_bytes - before < BULK_BYTES + BULK_BYTES / 16);
    heap = heap_open("heap", &options);
    CHECK(is_filled(block_at(heap, 0), BULK_BYTES, 1));
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    sim_use(NULL);
    sim_end(machine);
}

TEST(a_large_commit_of_old_pages_goes_through_the_journal)
{
    const char *path = test_path("old.heap");
    evh_heap *heap = heap_open(path, &quietly);
    unsigned char *block = block_new(heap, 0, BULK_BYTES, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    fill(block, BULK_BYTES, 2);

    CHECK_EQUAL(evh_commit(heap), EVH_OK);

    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK(info.journal_bytes > BULK_BYTES);
    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = heap_open(path, &verifying);
    CHECK(is_filled(block_at(heap, 0), BULK_BYTES, 2));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* Its pages are bases for what is stored later, before and after a checkpoint and a kill. */
TEST(words_stored_into_pages_at_home_are_ranges_over_them)
{
    const char *path = test_path("ranges.heap");
    evh_heap *heap = heap_open(path, &quietly);
    unsigned char *block = block_new(heap, 0, BULK_BYTES, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    for (size_t at = 0; at < BULK_BYTES; at += 64 * 1024) block[at] ^= 0xff;

    CHECK_EQUAL(evh_commit(heap), EVH_OK);

    CHECK(heap->journal->live_last->bytes < 64 * 1024);
    const char *copy = heap_killed(path);
    for (int i = 0; i < 2; i++) {
        evh_heap *after = heap_open(copy, &verifying);
        const unsigned char *found = block_at(after, 0);
        CHECK(memcmp(found, block, BULK_BYTES) == 0);
        CHECK_EQUAL(evh_check(after, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(after), EVH_OK);
    }
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    heap_is_sound(heap_killed(path));
    block[100] ^= 1;
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_rollback_goes_back_to_pages_at_home)
{
    const char *path = test_path("rollback.heap");
    evh_heap *heap = heap_open(path, &quietly);
    unsigned char *block = block_new(heap, 0, BULK_BYTES, 1);
    evh_ticket ticket = 0;
    CHECK_EQUAL(evh_commit_begin(heap, &ticket), EVH_OK);
    fill(block, BULK_BYTES, 2);

    CHECK_EQUAL(evh_rollback(heap), EVH_OK);

    CHECK(is_filled(block, BULK_BYTES, 1));
    CHECK_EQUAL(evh_commit_wait(heap, ticket), EVH_OK);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
}

/* ---- the mark ---- */

TEST(the_mark_goes_with_the_checkpoint_of_the_last_large_commit)
{
    const char *path = test_path("mark.heap");
    evh_heap *heap = heap_open(path, &quietly);
    (void)heap_root(heap);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(mark_of(path), 0);
    (void)block_new(heap, 0, BULK_BYTES, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(mark_of(path), heap->state.heap_bytes);
    (void)block_new(heap, 1, BULK_BYTES, 2);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(mark_of(path), heap->state.heap_bytes);

    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);

    CHECK_EQUAL(mark_of(path), 0);
    (void)block_new(heap, 2, BULK_BYTES, 3);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK(mark_of(path) != 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK_EQUAL(mark_of(path), 0);
    heap_is_sound(path);
}

/* A program of before has no such feature: it is told so, and does not take the record for
 * damaged. */
TEST(a_file_with_a_mark_is_no_image_in_memory)
{
    const char *path = test_path("image.heap");
    evh_heap *heap = heap_open(path, &quietly);
    (void)block_new(heap, 0, BULK_BYTES, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    struct file_bytes bytes = file_bytes_read(path);
    void *buffer = aligned_alloc(SLICE_BYTES, base_round_up(bytes.size, SLICE_BYTES));
    CHECK(buffer != NULL);
    memcpy(buffer, bytes.bytes, bytes.size);

    CHECK(evh_open_memory(buffer, bytes.size, NULL) == NULL);

    CHECK_EQUAL(evh_last_error()->status, EVH_MODE);
    free(buffer);
    file_bytes_end(&bytes);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- failures ---- */

static unsigned home_writes_left; /* until one fails */
static int home_error;

/* Writes behind the first segment's metadata and journal. */
static int fail_home(int file, uint64_t offset, const void *data, size_t size)
{
    if (offset >= 1 << 20 && home_writes_left > 0 && --home_writes_left == 0) return home_error;
    return os_linux()->write(file, offset, data, size);
}

static int cannot_punch(int file, uint64_t offset, uint64_t size)
{
    (void)file;
    (void)offset;
    (void)size;
    return EOPNOTSUPP;
}

/* The heap goes on from its last commit; what it grows over is zero, in memory and in the file. */
static void is_as_before(evh_heap *heap, const char *path)
{
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK(is_filled(block_at(heap, 1), 4096, 7));
    unsigned char *block = evh_calloc(heap, 1, BULK_BYTES);
    CHECK(block != NULL);
    CHECK(is_zero(block, BULK_BYTES));
    block[BULK_BYTES / 2] = 1;
    heap_root(heap)[0] = evh_ref_to(heap, block).offset;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
    CHECK_EQUAL(mark_of(path), 0);
}

static evh_heap *heap_begin(const char *path)
{
    evh_heap *heap = heap_open(path, &quietly);
    (void)block_new(heap, 1, 4096, 7);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    return heap;
}

TEST(what_a_write_that_failed_has_left_is_zero)
{
    static const struct {
        int error;
        evh_status status;
    } cases[] = {{ENOSPC, EVH_FULL}, {EIO, EVH_IO}};
    for (int i = 0; i < 4; i++) {
        const char *path = test_path(i % 2 ? "failed.1" : "failed.0");
        (void)unlink(path);
        hooked_begin();
        if (i >= 2) hooked.punch = cannot_punch;
        evh_heap *heap = heap_begin(path);
        (void)block_new(heap, 0, BULK_BYTES, 1);
        hooked.write = fail_home;
        home_writes_left = 100;
        home_error = cases[i % 2].error;

        CHECK_EQUAL(evh_commit(heap), cases[i % 2].status);

        CHECK_EQUAL(home_writes_left, 0);
        is_as_before(heap, path);
        os_use(NULL);
    }
}

/* The pages are still there to be committed. */
TEST(after_a_write_that_failed_the_commit_can_be_repeated)
{
    const char *path = test_path("repeated.heap");
    hooked_begin();
    evh_heap *heap = heap_begin(path);
    const unsigned char *block = block_new(heap, 0, BULK_BYTES, 1);
    hooked.write = fail_home;
    home_writes_left = 100;
    home_error = ENOSPC;
    CHECK_EQUAL(evh_commit(heap), EVH_FULL);

    CHECK_EQUAL(evh_commit(heap), EVH_OK);

    CHECK(is_filled(block, BULK_BYTES, 1));
    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = heap_open(path, &verifying);
    CHECK(is_filled(block_at(heap, 0), BULK_BYTES, 1));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(what_a_record_that_failed_named_at_home_is_zero)
{
    const char *path = test_path("record.heap");
    hooked_begin();
    hooked.write_sync = hooked_fail_record;
    evh_heap *heap = heap_begin(path);
    (void)block_new(heap, 0, BULK_BYTES, 1);
    records_to_fail = 1;

    CHECK_EQUAL(evh_commit(heap), EVH_FULL);

    CHECK_EQUAL(records_to_fail, 0);
    is_as_before(heap, path);
}

static unsigned flushes_left;

static int fail_flush(int file)
{
    if (flushes_left > 0 && --flushes_left == 0) return EIO;
    return os_linux()->flush(file);
}

TEST(a_flush_of_pages_at_home_that_fails_poisons_and_reopening_zeroes_them)
{
    const char *path = test_path("poisoned.heap");
    hooked_begin();
    evh_heap *heap = heap_begin(path);
    (void)block_new(heap, 0, BULK_BYTES, 1);
    hooked.flush = fail_flush;
    flushes_left = 1;

    CHECK_EQUAL(evh_commit(heap), EVH_IO);

    CHECK_EQUAL(evh_commit(heap), EVH_POISONED);
    CHECK_EQUAL(evh_close(heap), EVH_POISONED);
    CHECK(mark_of(path) != 0);
    heap = heap_open(path, &quietly);
    CHECK_EQUAL(mark_of(path), 0);
    is_as_before(heap, path);
}

/* Killed at a write home, at the flush, at the record. */
static unsigned kill_after;

static int kill_at_home(int file, uint64_t offset, const void *data, size_t size)
{
    const int error = os_linux()->write(file, offset, data, size);
    if (offset >= 1 << 20 && kill_after > 0 && --kill_after == 0) kill(getpid(), SIGKILL);
    return error;
}

static int kill_at_flush(int file)
{
    (void)file;
    kill(getpid(), SIGKILL);
    return EIO;
}

static void killed_child(const char *path, int at)
{
    hooked_begin();
    evh_heap *heap = heap_begin(path);
    (void)block_new(heap, 0, BULK_BYTES, 1);
    kill_after = at == 0 ? 1 : at == 1 ? 200 : 0;
    hooked.write = kill_at_home;
    if (at == 2) hooked.flush = kill_at_flush;
    (void)evh_commit(heap);
    _exit(1);
}

TEST(what_a_killed_process_has_left_is_zero_when_the_heap_is_opened_again)
{
    for (int at = 0; at < 3; at++) {
        const char *path = test_path(at == 0 ? "killed.0" : at == 1 ? "killed.1" : "killed.2");
        const pid_t process = fork();
        CHECK(process >= 0);
        if (process == 0) killed_child(path, at);
        int status = 0;
        CHECK_EQUAL(waitpid(process, &status, 0), process);
        CHECK(WIFSIGNALED(status));
        CHECK(mark_of(path) != 0);

        evh_heap *heap = heap_open(path, &quietly);

        CHECK_EQUAL(mark_of(path), 0);
        is_as_before(heap, path);
    }
}

/* A checkpoint beside the flush of the pages writes a header. */
static evh_heap *checkpoint_heap;
static const char *checkpoint_copy;

static int checkpoint_at_flush(int file)
{
    evh_heap *heap = checkpoint_heap;
    checkpoint_heap = NULL;
    if (heap) {
        CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
        checkpoint_copy = heap_killed(heap->region->path);
    }
    return os_linux()->flush(file);
}

TEST(a_checkpoint_beside_a_large_commit_leaves_the_mark)
{
    const char *path = test_path("beside.heap");
    hooked_begin();
    evh_heap *heap = heap_begin(path);
    (void)block_new(heap, 0, BULK_BYTES, 1);
    const uint64_t before = heap->region->header.sequence;
    checkpoint_heap = heap;
    hooked.flush = checkpoint_at_flush;

    CHECK_EQUAL(evh_commit(heap), EVH_OK);

    CHECK(heap->region->header.sequence > before);
    CHECK(mark_of(path) != 0);
    CHECK(mark_of(checkpoint_copy) != 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = heap_open(checkpoint_copy, &quietly);
    is_as_before(heap, checkpoint_copy);
    heap_is_sound(path);
}

/* ---- readers ---- */

TEST(a_reader_sees_new_pages_at_home_when_it_refreshes)
{
    const char *path = test_path("reader.heap");
    evh_heap *heap = heap_begin(path);
    evh_heap *reader = heap_open(path, &reading);
    (void)block_new(heap, 0, BULK_BYTES, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK(evh_view_valid(reader));
    CHECK(is_filled(evh_at(reader, (evh_ref){heap_root(heap)[1]}), 4096, 7));
    CHECK_EQUAL(evh_check(reader, NULL, NULL), EVH_OK);

    CHECK_EQUAL(evh_refresh(reader), EVH_OK);

    const evh_ref ref = {heap_root(heap)[0]};
    CHECK(is_filled(evh_at(reader, ref), BULK_BYTES, 1));
    CHECK_EQUAL(evh_check(reader, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    CHECK(evh_view_valid(reader));
    CHECK(is_filled(evh_at(reader, ref), BULK_BYTES, 1));
    CHECK_EQUAL(evh_check(reader, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    evh_options privately = {.mode = EVH_PRIVATE};
    (void)block_new(heap, 2, BULK_BYTES, 3);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_heap *copy = heap_open(path, &privately);
    CHECK(is_filled(evh_at(copy, (evh_ref){heap_root(heap)[2]}), BULK_BYTES, 3));
    CHECK_EQUAL(evh_close(copy), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- damage ---- */

/* Before a checkpoint the record names the checksum, after it the checksum slice does. */
TEST(damage_on_a_page_at_home_is_found)
{
    const char *path = test_path("damage.heap");
    evh_heap *heap = heap_begin(path);
    (void)block_new(heap, 0, BULK_BYTES, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const uint64_t offset = heap_root(heap)[0] + 5 * PAGE_BYTES;
    for (int i = 0; i < 2; i++) {
        const char *copy = heap_killed(path);
        file_bytes_patch(copy, offset, "damage", 6);
        evh_heap *damaged = heap_open(copy, &quietly);

        CHECK_EQUAL(evh_check(damaged, NULL, NULL), EVH_CORRUPT);

        CHECK_EQUAL(evh_last_error()->offset, base_round_down(offset, PAGE_BYTES));
        CHECK_EQUAL(evh_close(damaged), EVH_OK);
        CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* A page that an older commit has cannot be at home already, and no checksum is below the first. */
TEST(an_entry_that_cannot_be_at_home_is_refused)
{
    const uint64_t pages_min = journal_bulk_pages_min;
    for (int i = 0; i < 3; i++) {
        const char *path = test_path(i == 0 ? "hostile.0" : i == 1 ? "hostile.1" : "hostile.2");
        struct raw raw = {.options = {.no_thread = true}};
        raw_create(&raw, path);
        journal_bulk_pages_min = 1;
        raw_grow(&raw, raw.state.heap_bytes + 16 * SLICE_BYTES);
        unsigned char *page = raw.region->base + raw.state.heap_bytes - PAGE_BYTES;
        memset(page, 0x55, PAGE_BYTES);
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
        journal_bulk_pages_min = pages_min;
        const uint64_t record = raw.journal->live_last->offset;
        raw_kill(&raw);
        struct file_bytes content = file_bytes_read(path);
        struct journal_record *hostile = file_record(&content, record);
        struct journal_entry *entry = &file_entries(hostile)[hostile->entry_count - 1];
        CHECK_EQUAL(entry->kind, JOURNAL_HOME);
        if (i == 0) entry->page = (hostile->heap_bytes >> PAGE_SHIFT) - 17 * SLICE_PAGES;
        if (i == 1) entry->data_offset = 1;
        if (i == 2) entry->count = 1;
        hostile->entry_count = 1;
        file_entries(hostile)[0] = *entry;
        file_record_seal(hostile, hostile->record_bytes);
        file_bytes_write(path, &content);
        file_bytes_end(&content);

        CHECK_EQUAL(raw_try_open(&raw, path, EVH_DURABLE), EVH_CORRUPT);

        CHECK(strstr(evh_last_error()->message, "an entry is malformed") != NULL);
    }
}

/* ---- a journal that shrinks ---- */

enum { LARGE_BYTES = 80 << 20 };

TEST(trim_gives_back_what_one_commit_made_of_the_journal)
{
    const char *path = test_path("shrinks.heap");
    const evh_options options = {.no_thread = true, .size_max_bytes = 1 << 30};
    evh_heap *heap = heap_open(path, &options);
    unsigned char *block = block_new(heap, 0, LARGE_BYTES, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    fill(block, LARGE_BYTES, 2);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK(file_size(path) > 2 * (uint64_t)LARGE_BYTES);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    evh_heap *reader = heap_open(path, &reading);
    CHECK_EQUAL(evh_trim(heap, NULL), EVH_OK);
    CHECK(file_size(path) > 2 * (uint64_t)LARGE_BYTES);
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    uint64_t freed = 0;

    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);

    CHECK(freed >= LARGE_BYTES);
    CHECK(file_size(path) < heap->region->mapped_bytes + LARGE_BYTES / 16);
    CHECK_EQUAL(mark_of(path), 0);
    heap_is_sound(heap_killed(path));
    block[5] ^= 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    /* It grows over the place where the journal was. */
    unsigned char *more = evh_calloc(heap, 1, LARGE_BYTES);
    CHECK(more != NULL);
    CHECK(is_zero(more, LARGE_BYTES));
    more[77] = 1;
    heap_root(heap)[1] = evh_ref_to(heap, more).offset;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    fill(block, LARGE_BYTES, 3);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = heap_open(path, &verifying);
    CHECK(is_filled(block_at(heap, 0), LARGE_BYTES, 3));
    CHECK_EQUAL(block_at(heap, 1)[77], 1);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_journal_that_suits_its_heap_stays)
{
    const char *path = test_path("stays.heap");
    evh_heap *heap = heap_open(path, &quietly);
    unsigned char *block = block_new(heap, 0, 16 << 20, 1);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    for (size_t i = 0; i < 3; i++) {
        fill(block, 3 << 20, 2 + i);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    evh_info before, after;
    CHECK_EQUAL(evh_get_info(heap, &before), EVH_OK);

    CHECK_EQUAL(evh_trim(heap, NULL), EVH_OK);

    CHECK_EQUAL(evh_get_info(heap, &after), EVH_OK);
    CHECK(after.journal_bytes > REGION_FIRST_EXTENT_BYTES);
    CHECK_EQUAL(after.journal_bytes, before.journal_bytes);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
}
