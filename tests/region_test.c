/* region_test.c -- files, addresses and growth beneath a heap, where the system is unusual: other
 * file systems, few addresses, files that are replaced, copied or locked into memory. */
#include "heap/heap.h"
#include "support/raw_heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- a system with peculiarities ---- */

static struct {
    struct os_calls calls;
    bool is_network;
    uint64_t reserve_max; /* 0: no limit */
    const char *replaced; /* another file takes this one's name once it has been opened */
    const char *other;
    bool has_no_boot;
} odd;

static int odd_information(int file, struct os_file_info *info)
{
    const int error = os_linux()->information(file, info);
    if (odd.is_network) info->is_network = true;
    return error;
}

static int odd_reserve(uint64_t size, uint64_t alignment, uint64_t preferred, void **address)
{
    if (odd.reserve_max && size > odd.reserve_max) return ENOMEM;
    return os_linux()->reserve(size, alignment, preferred, address);
}

static int odd_open(const char *path, unsigned flags, unsigned permissions, int *file)
{
    const int error = os_linux()->open(path, flags, permissions, file);
    if (!error && odd.replaced && strcmp(path, odd.replaced) == 0) {
        odd.replaced = NULL;
        CHECK(rename(odd.other, path) == 0);
    }
    return error;
}

static bool odd_boot(uint8_t id[16])
{
    return !odd.has_no_boot && os_linux()->boot(id);
}

static void odd_use(void)
{
    memset(&odd, 0, sizeof odd);
    odd.calls = *os_linux();
    odd.calls.information = odd_information;
    odd.calls.reserve = odd_reserve;
    odd.calls.open = odd_open;
    odd.calls.boot = odd_boot;
    os_use(&odd.calls);
}

/* A closed heap of raw pages whose first word is `value`. */
static const char *region_file(const char *name, uint64_t value)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path(name);
    raw_create(&raw, path);
    *raw_word(&raw, 0, 0) = value;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    raw_close(&raw);
    return path;
}

/* ---- files ---- */

TEST(a_network_file_system_is_refused_for_writing_unless_it_is_vouched_for)
{
    const char *path = region_file("network", 5);
    struct raw raw = {0};
    odd_use();
    odd.is_network = true;
    CHECK_EQUAL(raw_try_open(&raw, path, EVH_DURABLE), EVH_NOT_FILE);
    CHECK(strstr(evh_last_error()->message, "network_file_system accepts it") != NULL);
    raw_open(&raw, path, EVH_READ_ONLY);
    CHECK_EQUAL(*raw_word(&raw, 0, 0), 5);
    raw_close(&raw);
    CHECK(evh_open(test_path("new"), NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FILE);
    raw.options.network_file_system = true;
    raw_open(&raw, path, EVH_DURABLE);
    CHECK_EQUAL(*raw_word(&raw, 0, 0), 5);
    raw_close(&raw);
    os_use(NULL);
}

TEST(a_file_that_is_replaced_while_it_is_opened_is_busy)
{
    const char *path = region_file("replaced", 1);
    struct raw raw = {0};
    odd_use();
    odd.replaced = path;
    odd.other = region_file("other", 2);
    CHECK_EQUAL(raw_try_open(&raw, path, EVH_DURABLE), EVH_BUSY);
    CHECK(strstr(evh_last_error()->message, "replaced by another file") != NULL);
    raw_open(&raw, path, EVH_DURABLE); /* now it is the other one */
    CHECK_EQUAL(*raw_word(&raw, 0, 0), 2);
    raw_close(&raw);
    os_use(NULL);
}

/* The status page's hint that home is settled is about this file in this system's cache. A copy of
 * the device's blocks has the page and not the cache. */
TEST(a_copy_of_a_killed_heap_believes_its_journal_and_not_the_originals_cache)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path("original");
    const char *copy = test_path("copy");
    raw_create(&raw, path);
    *raw_word(&raw, 0, 0) = 5;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    os->mutex_lock(raw.journal->mutex);
    CHECK_EQUAL(checkpoint_run(raw.journal, CHECKPOINT_SETTLE), EVH_OK);
    os->mutex_unlock(raw.journal->mutex);
    CHECK_EQUAL(raw.region->status.settled_sequence, 1);
    raw_kill(&raw);
    struct file_bytes content = file_bytes_read(path);
    unsigned char *home = content.bytes + 2 * SLICE_BYTES;
    CHECK_EQUAL(home[0], 5);
    memset(home, 0, PAGE_BYTES); /* it was in the cache only */
    file_bytes_write(copy, &content);
    file_bytes_end(&content);
    raw_open(&raw, copy, EVH_DURABLE);
    CHECK_EQUAL(*raw_word(&raw, 0, 0), 5);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&raw);
}

TEST(where_nothing_names_a_boot_nothing_is_hinted)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path("boot");
    odd_use();
    odd.has_no_boot = true;
    raw_create(&raw, path);
    *raw_word(&raw, 0, 0) = 5;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    raw_kill(&raw);
    raw_open(&raw, path, EVH_DURABLE);
    CHECK_EQUAL(raw.journal->hint, 0);
    CHECK_EQUAL(*raw_word(&raw, 0, 0), 5);
    raw_close(&raw);
    os_use(NULL);
}

/* A status page that is whole, and of another heap: say, a file system's stale block. */
TEST(the_status_page_of_another_heap_is_not_believed)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path("status");
    raw_create(&raw, path);
    *raw_word(&raw, 0, 0) = 5;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    raw_kill(&raw);
    struct file_bytes content = file_bytes_read(path);
    struct region_status status;
    memcpy(&status, content.bytes + REGION_STATUS_OFFSET, sizeof status);
    file_bytes_end(&content);
    status.durable_sequence = 1000; /* which would mean that commits are missing */
    for (int is_other = 0; is_other < 2; is_other++) {
        if (is_other) status.uuid[0]++;
        status.crc = base_crc32c(0, &status, offsetof(struct region_status, crc));
        file_bytes_patch(path, REGION_STATUS_OFFSET, &status, sizeof status);
        const evh_status opened = raw_try_open(&raw, path, EVH_DURABLE);
        CHECK_EQUAL(opened, is_other ? EVH_OK : EVH_CORRUPT);
    }
    CHECK_EQUAL(*raw_word(&raw, 0, 0), 5);
    raw_close(&raw);
}

/* ---- addresses ---- */

TEST(a_heap_that_gets_fewer_addresses_than_it_wants_takes_what_there_is)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = region_file("few", 5);
    odd_use();
    odd.reserve_max = 300 << 20;
    raw_open(&raw, path, EVH_DURABLE);
    CHECK(raw.region->reserved_bytes <= 300 << 20);
    CHECK(raw.region->reserved_bytes >= 64 << 20);
    uint64_t from = 0;
    CHECK_EQUAL(region_grow(raw.region, raw.region->reserved_bytes + SLICE_BYTES, &from), EVH_FULL);
    CHECK(strstr(evh_last_error()->message, "it may grow to") != NULL);
    CHECK_EQUAL(from, raw.region->mapped_bytes);
    raw_close(&raw);
    odd.reserve_max = 1 << 20; /* less than anything is worth */
    CHECK_EQUAL(raw_try_open(&raw, path, EVH_DURABLE), EVH_NO_MEMORY);
    CHECK(strstr(evh_last_error()->message, "cannot reserve") != NULL);
    os_use(NULL);
}

TEST(a_heap_is_mapped_at_the_preferred_address_if_that_is_free)
{
    void *there = NULL;
    const char *path = region_file("preferred", 5);
    CHECK_EQUAL(os->reserve(256 << 20, SEGMENT_BYTES, 0, &there), 0);
    CHECK_EQUAL(os->release(there, 256 << 20), 0);
    struct raw raw = {
        .options = {.size_max_bytes = 128 << 20, .preferred_address = (uint64_t)(uintptr_t)there}};
    raw_open(&raw, path, EVH_READ_ONLY);
    CHECK(raw.region->base == there);
    struct raw second = raw; /* it is taken now */
    raw_open(&second, path, EVH_READ_ONLY);
    CHECK(second.region->base != there);
    CHECK_EQUAL(*raw_word(&second, 0, 0), 5);
    raw_close(&second);
    raw_close(&raw);
}

TEST(a_reader_whose_heap_outgrew_its_addresses_is_told_so)
{
    struct raw writer = {.options = {.no_thread = true, .size_max_bytes = 64 << 20}};
    struct raw reader = {.options = {.size_max_bytes = 1 << 20}};
    const char *path = test_path("outgrown");
    raw_create(&writer, path);
    *raw_word(&writer, 0, 0) = 1;
    CHECK_EQUAL(raw_commit(&writer), EVH_OK);
    raw_open(&reader, path, EVH_READ_ONLY);
    CHECK_EQUAL(reader.region->reserved_bytes, 1 << 20);
    raw_grow(&writer, 4 << 20);
    *raw_word(&writer, 40, 0) = 2;
    CHECK_EQUAL(raw_commit(&writer), EVH_OK);
    CHECK_EQUAL(journal_refresh(reader.journal, &reader.state), EVH_NO_MEMORY);
    CHECK(strstr(evh_last_error()->message, "close and open it again") != NULL);
    CHECK(!journal_view_valid(reader.journal));
    raw_close(&reader);
    raw_open(&reader, path, EVH_READ_ONLY);
    CHECK_EQUAL(*raw_word(&reader, 40, 0), 2);
    raw_close(&reader);
    raw_close(&writer);
}

/* ---- growth ---- */

TEST(a_journal_that_finds_no_room_below_the_limit_leaves_the_commit_undone)
{
    struct raw raw = {.options = {.no_thread = true, .size_max_bytes = 1 << 20}};
    const char *path = test_path("limit");
    raw_create(&raw, path);
    raw_grow(&raw, 1 << 20);
    memset(raw_word(&raw, 0, 0), 0x11, 512 << 10); /* its record is larger than the first extent */
    CHECK_EQUAL(raw_commit(&raw), EVH_FULL);
    CHECK(strstr(evh_last_error()->message, "no room for a journal") != NULL);
    CHECK_EQUAL(raw.journal->durable_sequence, 0);
    CHECK_EQUAL(journal_rollback(raw.journal, &raw.state), EVH_OK);
    CHECK_EQUAL(*raw_word(&raw, 0, 0), 0);
    *raw_word(&raw, 0, 0) = 7;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&raw);
}

/* ---- the journal's small questions ---- */

TEST(only_a_reader_is_refreshed)
{
    const char *path = region_file("modes", 5);
    struct raw raw = {0};
    raw_open(&raw, path, EVH_PRIVATE);
    *raw_word(&raw, 0, 0) = 6; /* its own copy */
    CHECK_EQUAL(journal_refresh(raw.journal, &raw.state), EVH_MODE);
    CHECK_EQUAL(*raw_word(&raw, 0, 0), 6);
    raw_close(&raw);
}

TEST(the_committed_page_is_composed_from_home_and_journal_or_refused_behind_the_end)
{
    struct raw raw = {.options = {.no_thread = true}};
    unsigned char image[PAGE_BYTES];
    raw_create(&raw, test_path("page"));
    *raw_word(&raw, 0, 1) = 5;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    *raw_word(&raw, 0, 1) = 6;
    CHECK_EQUAL(journal_committed_page(raw.journal, 2 * SLICE_PAGES, image), EVH_OK);
    CHECK_EQUAL(image[8], 5);
    const uint64_t behind = raw.region->file_bytes / PAGE_BYTES;
    CHECK_EQUAL(journal_committed_page(raw.journal, behind - 1, image), EVH_OK);
    CHECK_EQUAL(journal_committed_page(raw.journal, behind, image), EVH_INVALID);
    CHECK_EQUAL(evh_last_error()->offset, behind * PAGE_BYTES);
    raw_close(&raw);
}

static bool log_first(const evh_commit_info *commit, void *context)
{
    *(uint64_t *)context += commit->sequence;
    return false;
}

TEST(a_log_ends_when_its_visitor_has_seen_enough)
{
    struct raw raw = {.options = {.no_thread = true}};
    uint64_t sum = 0;
    raw_create(&raw, test_path("log"));
    for (uint64_t i = 1; i <= 3; i++) {
        *raw_word(&raw, 0, 0) = i;
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    }
    CHECK_EQUAL(journal_log(raw.journal, log_first, &sum), EVH_OK);
    CHECK_EQUAL(sum, 1);
    raw_close(&raw);
}

TEST(a_log_whose_record_is_damaged_says_so)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path("log");
    uint64_t sum = 0;
    raw_create(&raw, path);
    for (uint64_t i = 1; i <= 3; i++) {
        *raw_word(&raw, 0, 0) = i;
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    }
    const uint64_t at = raw.journal->live_first->next->offset;
    const unsigned char damage = 0x77;
    file_bytes_patch(path, at + 130, &damage, 1);
    CHECK_EQUAL(journal_log(raw.journal, log_first, &sum), EVH_CORRUPT);
    CHECK_EQUAL(evh_last_error()->offset, at);
    CHECK(strstr(evh_last_error()->message, "the record of commit 2 is damaged") != NULL);
    CHECK_EQUAL(sum, 0); /* all or nothing */
    raw_kill(&raw);
}

/* A program that locks its memory (mlock): the system then refuses to drop private copies. */
TEST(a_reader_whose_pages_are_locked_in_memory_sees_the_newest_commit_when_it_refreshes)
{
    struct raw writer = {.options = {.no_thread = true}};
    struct raw reader = {0};
    const char *path = test_path("locked");
    raw_create(&writer, path);
    for (uint64_t i = 0; i < 4; i++) *raw_word(&writer, i, 0) = 1;
    CHECK_EQUAL(raw_commit(&writer), EVH_OK);
    raw_open(&reader, path, EVH_READ_ONLY); /* all pages lie over the file's */
    CHECK_EQUAL(*raw_word(&reader, 0, 0), 1);
    if (mlock(raw_word(&reader, 0, 0), 4 * PAGE_BYTES)) SKIP("no memory may be locked");
    for (uint64_t round = 2; round < 6; round++) {
        for (uint64_t i = 0; i < 4; i += 2) *raw_word(&writer, i, 0) = round;
        CHECK_EQUAL(raw_commit(&writer), EVH_OK);
        CHECK_EQUAL(journal_refresh(reader.journal, &reader.state), EVH_OK);
        CHECK_EQUAL(*raw_word(&reader, 0, 0), round);
        if (round % 2) CHECK_EQUAL(journal_checkpoint(writer.journal), EVH_OK);
        *raw_word(&writer, 1, 0) = round; /* home, and not in the journal at the next refresh */
        CHECK_EQUAL(raw_commit(&writer), EVH_OK);
        CHECK_EQUAL(journal_refresh(reader.journal, &reader.state), EVH_OK);
        CHECK_EQUAL(journal_checkpoint(writer.journal), EVH_OK);
        CHECK_EQUAL(journal_refresh(reader.journal, &reader.state), EVH_OK);
        CHECK_EQUAL(*raw_word(&reader, 0, 0), round);
        CHECK_EQUAL(*raw_word(&reader, 1, 0), round);
        CHECK_EQUAL(*raw_word(&reader, 3, 0), 1);
    }
    raw_close(&reader);
    raw_close(&writer);
}
