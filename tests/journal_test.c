/* journal_test.c -- the journal below the allocator: pages in, the same pages out. */
#include "support/raw_heap.h"
#include "support/tiers.h"

#include <stdlib.h>

TEST(a_committed_word_is_there_after_a_kill)
{
    struct raw raw = {0};
    const char *path = test_path("word");
    raw_create(&raw, path);
    *raw_word(&raw, 1, 7) = 42;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    *raw_word(&raw, 1, 8) = 43;
    raw_kill(&raw);
    raw_open(&raw, path, EVH_DURABLE);
    CHECK_EQUAL(*raw_word(&raw, 1, 7), 42);
    CHECK_EQUAL(*raw_word(&raw, 1, 8), 0);
    raw_close(&raw);
}

TEST(a_closed_heap_opens_from_its_headers_alone)
{
    struct raw raw = {0};
    const char *path = test_path("closed");
    raw_create(&raw, path);
    for (uint64_t i = 0; i < 100; i++) {
        *raw_word(&raw, i % 30, i) = i + 1;
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    }
    raw_close(&raw);
    raw_open(&raw, path, EVH_DURABLE);
    CHECK_EQUAL(raw.journal->live_bytes, 0);
    CHECK_EQUAL(raw.region->header.sequence, 100);
    for (uint64_t i = 0; i < 100; i++) CHECK_EQUAL(*raw_word(&raw, i % 30, i), i + 1);
    raw_close(&raw);
}

TEST(one_changed_word_makes_a_record_of_one_page)
{
    struct raw raw = {0};
    raw_create(&raw, test_path("small"));
    memset(raw_word(&raw, 3, 0), 0x55, PAGE_BYTES);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    const uint64_t before = raw.journal->live_bytes;
    *raw_word(&raw, 3, 9) = 1;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(raw.journal->live_bytes - before, PAGE_BYTES);
    raw_close(&raw);
}

TEST(rollback_restores_the_last_begun_commit)
{
    struct raw raw = {0};
    raw_create(&raw, test_path("rollback"));
    *raw_word(&raw, 0, 0) = 1;
    *raw_word(&raw, 5, 0) = 2;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    *raw_word(&raw, 0, 0) = 10;
    *raw_word(&raw, 0, 300) = 11;
    *raw_word(&raw, 6, 1) = 12;
    struct journal_state state;
    CHECK_EQUAL(journal_rollback(raw.journal, &state), EVH_OK);
    CHECK_EQUAL(*raw_word(&raw, 0, 0), 1);
    CHECK_EQUAL(*raw_word(&raw, 0, 300), 0);
    CHECK_EQUAL(*raw_word(&raw, 6, 1), 0);
    CHECK_EQUAL(*raw_word(&raw, 5, 0), 2);
    const uint64_t sequence = raw.journal->begun_sequence;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(raw.journal->begun_sequence, sequence); /* nothing is left to commit */
    raw_close(&raw);
}

/*
 * Strategy: random stores, commits, rollbacks, checkpoints, growth, kills and reopenings against a
 * shadow copy in ordinary memory.
 * Invariants: after a rollback or a kill the pages equal the shadow of the last commit; before, the
 * working shadow; the check is clean.
 */
enum { MODEL_PAGES = 600 };

struct model {
    struct raw raw;
    const char *path;
    unsigned char *working, *committed;
    uint64_t pages, committed_pages;
    uint64_t random;
};

static void model_compare(struct model *model, const unsigned char *expected, uint64_t pages)
{
    for (uint64_t page = 0; page < pages; page++)
        if (memcmp(raw_word(&model->raw, page, 0), expected + page * PAGE_BYTES, PAGE_BYTES) != 0) {
            test_fail(__FILE__, __LINE__, "page %llu differs", (unsigned long long)page);
            test_stop();
        }
}

static void model_store(struct model *model)
{
    const uint64_t count = 1 + test_random(&model->random) % 40;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t page = test_random(&model->random) % model->pages;
        const uint64_t kind = test_random(&model->random) % 20;
        uint64_t word = test_random(&model->random) % JOURNAL_PAGE_WORDS;
        uint64_t words = kind == 0 ? JOURNAL_PAGE_WORDS - word : kind < 4 ? 8 : 1;
        for (; words && word < JOURNAL_PAGE_WORDS; words--, word++) {
            const uint64_t value = kind == 5 ? 0 : test_random(&model->random) % 3;
            *raw_word(&model->raw, page, word) = value;
            memcpy(model->working + page * PAGE_BYTES + word * 8, &value, 8);
        }
    }
}

static void model_grow(struct model *model)
{
    if (model->pages + SLICE_PAGES > MODEL_PAGES) return;
    const uint64_t slices = model->raw.state.heap_bytes / SLICE_BYTES;
    uint64_t behind = 0;
    uint64_t next = slices + 1;
    if (region_is_journal(model->raw.region, slices, &behind))
        return; /* the test's pages are one run */
    raw_grow(&model->raw, next * SLICE_BYTES);
    model->pages += SLICE_PAGES;
}

static void model_reopen(struct model *model, bool kill)
{
    if (kill)
        raw_kill(&model->raw);
    else
        raw_close(&model->raw);
    raw_open(&model->raw, model->path, EVH_DURABLE);
    memcpy(model->working, model->committed, MODEL_PAGES * PAGE_BYTES);
    model->pages = model->committed_pages;
    model_compare(model, model->committed, model->pages);
    const evh_status status = journal_check(model->raw.journal, NULL, NULL);
    if (status) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK_EQUAL(status, EVH_OK);
}

static void model_commit(struct model *model)
{
    CHECK_EQUAL(raw_commit(&model->raw), EVH_OK);
    memcpy(model->committed, model->working, MODEL_PAGES * PAGE_BYTES);
    model->committed_pages = model->pages;
}

static void model_rollback(struct model *model)
{
    CHECK_EQUAL(journal_rollback(model->raw.journal, &model->raw.state), EVH_OK);
    memcpy(model->working, model->committed, MODEL_PAGES * PAGE_BYTES);
    model->pages = model->committed_pages;
    model_compare(model, model->committed, model->pages);
}

static void model_run(evh_detect detect, bool no_thread, unsigned steps)
{
    struct model model = {.random = test_seed() + (uint64_t)detect};
    model.path = test_path("model");
    model.working = calloc(MODEL_PAGES, PAGE_BYTES);
    model.committed = calloc(MODEL_PAGES, PAGE_BYTES);
    model.raw.options.detect = detect;
    model.raw.options.no_thread = no_thread;
    model.raw.options.private_max_bytes = 40 * PAGE_BYTES;
    raw_create(&model.raw, model.path);
    model.pages = model.committed_pages = 2 * SLICE_PAGES;
    for (unsigned i = 0; i < steps; i++) {
        const uint64_t what = test_random(&model.random) % 100;
        model_store(&model);
        if (what < 60)
            model_commit(&model);
        else if (what < 75)
            model_rollback(&model);
        else if (what < 80)
            CHECK_EQUAL(journal_checkpoint(model.raw.journal), EVH_OK);
        else if (what < 90)
            model_grow(&model);
        else
            model_reopen(&model, what < 97);
        model_compare(&model, model.working, model.pages);
    }
    raw_close(&model.raw);
    free(model.working);
    free(model.committed);
}

static void model_run_tier(evh_detect detect)
{
    /* A tier that this system lacks is no failure. */
    struct raw raw = {.options = {.detect = detect}};
    CHECK_EQUAL(region_create(test_path("probe"), &raw.options, &raw.region), EVH_OK);
    struct os_watch *watch = NULL;
    const int error =
        os->watch_open(raw.region->base, raw.region->reserved_bytes, detect, false, &watch);
    if (!error) os->watch_close(watch);
    CHECK_EQUAL(region_close(raw.region), EVH_OK);
    if (error) SKIP(tier_lacks(detect));
    const unsigned steps = (unsigned)base_max(test_effort(1500), 100);
    model_run(detect, true, steps);
    model_run(detect, false, steps);
}

TEST(the_model_holds_with_write_protection_watched)
{
    model_run_tier(EVH_DETECT_WATCH);
}
TEST(the_model_holds_with_private_pages_scanned)
{
    model_run_tier(EVH_DETECT_SCAN);
}
TEST(the_model_holds_with_pagemap_read)
{
    model_run_tier(EVH_DETECT_PAGEMAP);
}
TEST(the_model_holds_with_pages_protected)
{
    model_run_tier(EVH_DETECT_PROTECT);
}
TEST(the_model_holds_with_pages_compared)
{
    model_run_tier(EVH_DETECT_COMPARE);
}

TEST(every_flipped_byte_of_a_live_record_is_reported_and_none_believed)
{
    struct raw raw = {0};
    const char *path = test_path("flip");
    raw_create(&raw, path);
    for (uint64_t i = 0; i < 4; i++) {
        *raw_word(&raw, i, i) = i + 1;
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    }
    const uint64_t first = raw.journal->live_first->offset;
    const uint64_t end = raw.journal->tail;
    raw_kill(&raw);
    unsigned char *image = malloc(REGION_NEW_BYTES);
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL);
    CHECK_EQUAL(fread(image, 1, REGION_NEW_BYTES, file), REGION_NEW_BYTES);
    for (uint64_t at = first; at < end; at += at % 4096 < 256 ? 1 : 97) {
        fseek(file, (long)at, SEEK_SET);
        fputc(image[at] ^ 0x40, file);
        fflush(file);
        const evh_options options = {.mode = EVH_DURABLE};
        struct journal_state state;
        struct region *region = NULL;
        struct journal *journal = NULL;
        CHECK_EQUAL(region_open(path, &options, &region), EVH_OK);
        const evh_status status = journal_open(region, &options, &journal, &state);
        CHECK_EQUAL(status, EVH_CORRUPT);
        CHECK_EQUAL(region_close(region), EVH_OK);
        fseek(file, (long)at, SEEK_SET);
        fputc(image[at], file);
        fflush(file);
    }
    fclose(file);
    free(image);
}

/* ---- damage behind which the status page is lost, too ---- */

/* As the file is after a power cut: no status page to be believed. One byte is damaged. */
static void damage_at(const char *path, uint64_t offset)
{
    static const unsigned char nothing[PAGE_BYTES];
    struct file_bytes content = file_bytes_read(path);
    const unsigned char byte = content.bytes[offset] ^ 0x10;
    file_bytes_end(&content);
    file_bytes_patch(path, REGION_STATUS_OFFSET, nothing, sizeof nothing);
    file_bytes_patch(path, offset, &byte, 1);
}

/* Readers and writers are refused at the record of the first commit that is missing. */
static void damage_is_told(const char *path, uint64_t record, bool verify)
{
    static const evh_mode modes[] = {EVH_READ_ONLY, EVH_PRIVATE, EVH_DURABLE};
    for (unsigned i = 0; i < 3; i++) {
        struct raw raw = {.options = {.no_thread = true, .verify = verify}};
        CHECK_EQUAL(raw_try_open(&raw, path, modes[i]), EVH_CORRUPT);
        CHECK_EQUAL(evh_last_error()->offset, record);
        CHECK(strstr(evh_last_error()->message, "was durable") != NULL);
    }
}

static void damage_opens_at(const char *path, uint64_t sequence)
{
    struct raw raw = {.options = {.no_thread = true}};
    raw_open(&raw, path, EVH_READ_ONLY);
    CHECK_EQUAL(raw.journal->view_sequence, sequence);
    raw_close(&raw);
    raw_open(&raw, path, EVH_DURABLE);
    CHECK_EQUAL(raw.journal->durable_sequence, sequence);
    raw_kill(&raw);
}

/* Commits of one page each, one behind the other; the file is left as by a kill. Returns where
 * commit `number` has its record. */
static uint64_t damage_make(const char *path, uint64_t home, uint64_t commits, uint64_t number)
{
    struct raw raw = {.options = {.no_thread = true}};
    uint64_t offset = 0;
    raw_create(&raw, path);
    for (uint64_t i = 1; i <= commits; i++) {
        *raw_word(&raw, 0, 0) = i;
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
        if (i == number) offset = raw.journal->live_last->offset;
        if (i == home) CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
    }
    raw_kill(&raw);
    return offset;
}

TEST(a_damaged_record_before_one_that_knew_it_durable_is_told_without_a_status_page)
{
    enum { RING_PAGES = REGION_FIRST_EXTENT_BYTES / PAGE_BYTES };
    /* Its header, its body; in the middle, and last in the extent: the next is at its start. */
    const uint64_t cases[][3] = {{0, 5, 3}, {0, 5, 1}, {2, 8, 4}, {5, RING_PAGES + 2, RING_PAGES}};
    for (unsigned i = 0; i < 8; i++) {
        const uint64_t *c = cases[i / 2];
        const char *path = test_path("damaged");
        const uint64_t record = damage_make(path, c[0], c[1], c[2]);
        damage_at(path, record + (i % 2 ? 8 : sizeof(struct journal_record) + 3));
        damage_is_told(path, record, false);
    }
}

/* Nothing tells the last record from one that a power cut tore. */
TEST(a_damaged_last_record_counts_as_torn_without_a_status_page)
{
    const char *path = test_path("last");
    const uint64_t record = damage_make(path, 0, 5, 5);
    damage_at(path, record + 8);
    damage_opens_at(path, 4);
}

/* Commits that were begun together: that later ones are whole does not prove that this one was. */
TEST(a_torn_record_before_others_in_flight_is_no_damage)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path("flight");
    uint64_t ticket = 0;
    raw_create(&raw, path);
    for (uint64_t i = 1; i <= 6; i++) {
        *raw_word(&raw, 0, 0) = i;
        CHECK_EQUAL(i <= 3 ? raw_commit(&raw) : raw_begin(&raw, &ticket), EVH_OK);
    }
    const uint64_t record = raw.journal->live_first->next->next->next->offset; /* of commit 4 */
    raw_kill(&raw);
    damage_at(path, record + 8);
    damage_opens_at(path, 3);
}

/* Opening looks 1 MiB far behind the end of the chain, or, asked to verify, everywhere. */
TEST(a_damaged_record_of_megabytes_is_told_where_everything_is_verified)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path("large");
    raw_create(&raw, path);
    raw_grow(&raw, 8 << 20);
    memset(raw_word(&raw, 0, 0), 0x33, 6 << 20); /* the journal gets an extent of that size */
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
    const uint64_t tail = raw.journal->tail;
    memset(raw_word(&raw, 0, 0), 0x44, 3 << 20);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    const uint64_t record = raw.journal->live_last->offset;
    *raw_word(&raw, 0, 0) = 2;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK(raw.journal->live_last->offset > record + (2 << 20));
    raw_kill(&raw);
    damage_at(path, record + 8);
    damage_is_told(path, tail, true);
    damage_opens_at(path, 1);
}

TEST(a_reader_sees_the_newest_commit_and_stays_there)
{
    struct raw writer = {0};
    struct raw reader = {0};
    const char *path = test_path("reader");
    raw_create(&writer, path);
    *raw_word(&writer, 0, 0) = 1;
    CHECK_EQUAL(raw_commit(&writer), EVH_OK);
    raw_open(&reader, path, EVH_READ_ONLY);
    CHECK_EQUAL(*raw_word(&reader, 0, 0), 1);
    for (uint64_t i = 2; i < 60; i++) {
        *raw_word(&writer, 0, 0) = i;
        CHECK_EQUAL(raw_commit(&writer), EVH_OK);
    }
    CHECK_EQUAL(*raw_word(&reader, 0, 0), 1);
    CHECK(journal_view_valid(reader.journal));
    CHECK_EQUAL(journal_checkpoint(writer.journal), EVH_BUSY);
    CHECK_EQUAL(journal_refresh(reader.journal, &reader.state), EVH_OK);
    CHECK_EQUAL(*raw_word(&reader, 0, 0), 59);
    CHECK_EQUAL(journal_checkpoint(writer.journal), EVH_OK);
    CHECK_EQUAL(*raw_word(&reader, 0, 0), 59);
    raw_close(&writer);
    CHECK(journal_view_valid(reader.journal));
    raw_close(&reader);
}

TEST(a_reader_that_lags_too_far_is_told_so_and_the_writer_goes_on)
{
    struct raw writer = {.options = {.journal_max_bytes = 256 * 1024, .no_thread = true}};
    struct raw reader = {0};
    const char *path = test_path("stale");
    raw_create(&writer, path);
    raw_open(&reader, path, EVH_READ_ONLY);
    for (uint64_t i = 1; i < 200; i++) {
        memset(raw_word(&writer, i % 30, 0), (int)i, PAGE_BYTES);
        CHECK_EQUAL(raw_commit(&writer), EVH_OK);
    }
    CHECK(!journal_view_valid(reader.journal));
    CHECK_EQUAL(journal_refresh(reader.journal, &reader.state), EVH_OK);
    CHECK(journal_view_valid(reader.journal));
    CHECK_EQUAL(*raw_word(&reader, 199 % 30, 5) & 0xff, 199);
    raw_close(&reader);
    raw_close(&writer);
}

TEST(a_second_writer_is_refused_with_the_pid)
{
    struct raw raw = {0};
    const char *path = test_path("second");
    raw_create(&raw, path);
    const evh_options options = {.mode = EVH_DURABLE};
    struct region *other = NULL;
    CHECK_EQUAL(region_open(path, &options, &other), EVH_BUSY);
    char pid[32];
    snprintf(pid, sizeof pid, "process %llu", (unsigned long long)os->process());
    CHECK(strstr(evh_last_error()->message, pid) != NULL);
    raw_close(&raw);
}
