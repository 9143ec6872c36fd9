/* hostile_test.c -- files whose checksums are right and whose content cannot be.
 *
 * Strategy: each case changes one field of a sound heap's header or of its newest record, and makes
 * the checksums right again.
 * Invariants: opening is refused in every mode with EVH_CORRUPT (or the status of the case), the
 * offset of the field and a message that names path and reason; no byte of the file changes.
 */
#include "support/raw_heap.h"

#include <unistd.h>

static const evh_mode modes[] = {EVH_DURABLE, EVH_READ_ONLY, EVH_PRIVATE};

/* What the thread's last error must be. */
static void hostile_is_refused(const char *path, evh_status status, uint64_t offset,
                               const char *reason)
{
    const struct file_bytes before = file_bytes_read(path);
    for (unsigned i = 0; i < 3; i++) {
        struct raw raw = {0};
        const evh_status met = raw_try_open(&raw, path, modes[i]);
        const evh_error *error = evh_last_error();
        if (met != status || error->offset != offset || !strstr(error->message, reason))
            test_fail(__FILE__, __LINE__, "mode %u: %s at 0x%llx, not 0x%llx %s: %s", modes[i],
                      evh_status_name(met), (unsigned long long)error->offset,
                      (unsigned long long)offset, reason, error->message);
        CHECK_EQUAL(met, status);
        CHECK_EQUAL(error->offset, offset);
        CHECK(strstr(error->message, reason) != NULL);
        CHECK(strstr(error->message, path) != NULL);
        CHECK(file_bytes_are_same(path, &before));
    }
    struct file_bytes owned = before;
    file_bytes_end(&owned);
}

/* ---- records ---- */

/* A heap that was killed behind a commit of three pages: ranges, an image, zeroes. */
struct hostile {
    const char *path;
    struct file_bytes content;
    uint64_t record; /* of the newest commit */
};

enum { RANGES_ENTRY, IMAGE_ENTRY, ZERO_ENTRY };

static struct hostile hostile_make(void)
{
    struct hostile hostile = {.path = test_path("hostile")};
    struct raw raw = {.options = {.no_thread = true}};
    raw_create(&raw, hostile.path);
    memset(raw_word(&raw, 2, 0), 0x55, PAGE_BYTES);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    *raw_word(&raw, 0, 3) = 1; /* two ranges */
    *raw_word(&raw, 0, 9) = 2;
    memset(raw_word(&raw, 1, 0), 0x66, PAGE_BYTES);
    memset(raw_word(&raw, 2, 0), 0, PAGE_BYTES);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    hostile.record = raw.journal->live_last->offset;
    raw_kill(&raw);
    hostile.content = file_bytes_read(hostile.path);
    const struct journal_entry *entries =
        file_entries(file_record(&hostile.content, hostile.record));
    CHECK_EQUAL(entries[RANGES_ENTRY].kind, JOURNAL_RANGES);
    CHECK_EQUAL(entries[IMAGE_ENTRY].kind, JOURNAL_IMAGE);
    CHECK_EQUAL(entries[ZERO_ENTRY].kind, JOURNAL_ZERO);
    return hostile;
}

/* `bytes` of its newest record are covered by its checksum. */
static void hostile_write(const struct hostile *hostile, uint64_t bytes)
{
    file_record_seal(file_record(&hostile->content, hostile->record), bytes);
    file_bytes_write(hostile->path, &hostile->content);
}

static struct journal_range *hostile_ranges(struct journal_record *record)
{
    const struct journal_entry *entry = &file_entries(record)[RANGES_ENTRY];
    unsigned char *data = (unsigned char *)record + (size_t)entry->data_offset * 8;
    return (struct journal_range *)(void *)(data + sizeof(struct journal_ranges_head));
}

/* What a case does to the record. */
typedef void record_edit(struct journal_record *record);

static void edit_entries_odd(struct journal_record *record)
{
    record->entries_offset += 4;
}

static void edit_entries_low(struct journal_record *record)
{
    record->entries_offset = 64;
}

static void edit_entries_high(struct journal_record *record)
{
    record->entries_offset = record->record_bytes + 8;
}

static void edit_entries_many(struct journal_record *record)
{
    record->entry_count = UINT32_MAX;
}

static void edit_heap_odd(struct journal_record *record)
{
    record->heap_bytes += PAGE_BYTES;
}

static void edit_heap_small(struct journal_record *record)
{
    record->heap_bytes = SLICE_BYTES;
}

static void edit_heap_huge(struct journal_record *record)
{
    record->heap_bytes = REGION_SIZE_MAX + SLICE_BYTES;
}

static void edit_catalog_null(struct journal_record *record)
{
    record->catalog = 0;
}

static void edit_catalog_behind(struct journal_record *record)
{
    record->catalog = record->heap_bytes;
}

TEST(a_record_whose_header_cannot_be_is_refused_at_its_field)
{
    static const struct {
        record_edit *edit;
        uint64_t field;
        const char *reason;
    } cases[] = {
        {edit_entries_odd, offsetof(struct journal_record, entries_offset), "entries lie outside"},
        {edit_entries_low, offsetof(struct journal_record, entries_offset), "entries lie outside"},
        {edit_entries_high, offsetof(struct journal_record, entries_offset), "entries lie outside"},
        {edit_entries_many, offsetof(struct journal_record, entries_offset), "entries lie outside"},
        {edit_heap_odd, offsetof(struct journal_record, heap_bytes), "heap cannot end"},
        {edit_heap_small, offsetof(struct journal_record, heap_bytes), "heap cannot end"},
        {edit_heap_huge, offsetof(struct journal_record, heap_bytes), "heap cannot end"},
        {edit_catalog_null, offsetof(struct journal_record, catalog), "catalog cannot be"},
        {edit_catalog_behind, offsetof(struct journal_record, catalog), "catalog cannot be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hostile hostile = hostile_make();
        struct journal_record *record = file_record(&hostile.content, hostile.record);
        cases[i].edit(record);
        hostile_write(&hostile, record->record_bytes);
        hostile_is_refused(hostile.path, EVH_CORRUPT, hostile.record + cases[i].field,
                           cases[i].reason);
        file_bytes_end(&hostile.content);
    }
}

static void edit_page_low(struct journal_record *record)
{
    file_entries(record)[RANGES_ENTRY].page = SLICE_PAGES - 1;
}

static void edit_page_high(struct journal_record *record)
{
    file_entries(record)[ZERO_ENTRY].page = record->heap_bytes / PAGE_BYTES;
}

static void edit_page_twice(struct journal_record *record)
{
    file_entries(record)[IMAGE_ENTRY].page = file_entries(record)[RANGES_ENTRY].page;
}

static void edit_zero_count(struct journal_record *record)
{
    file_entries(record)[ZERO_ENTRY].count = 1;
}

static void edit_zero_data(struct journal_record *record)
{
    file_entries(record)[ZERO_ENTRY].data_offset = 16;
}

static void edit_image_count(struct journal_record *record)
{
    file_entries(record)[IMAGE_ENTRY].count = 1;
}

static void edit_image_low(struct journal_record *record)
{
    file_entries(record)[IMAGE_ENTRY].data_offset = 15;
}

static void edit_image_high(struct journal_record *record)
{
    file_entries(record)[IMAGE_ENTRY].data_offset =
        (uint32_t)((record->entries_offset - PAGE_BYTES) / 8 + 1);
}

static void edit_kind_none(struct journal_record *record)
{
    file_entries(record)[IMAGE_ENTRY].kind = 0;
}

static void edit_kind_unknown(struct journal_record *record)
{
    file_entries(record)[IMAGE_ENTRY].kind = 4;
}

static void edit_ranges_low(struct journal_record *record)
{
    file_entries(record)[RANGES_ENTRY].data_offset = 0;
}

static void edit_ranges_high(struct journal_record *record)
{
    file_entries(record)[RANGES_ENTRY].data_offset = (uint32_t)(record->entries_offset / 8);
}

static void edit_ranges_none(struct journal_record *record)
{
    file_entries(record)[RANGES_ENTRY].count = 0;
}

static void edit_ranges_too_many(struct journal_record *record)
{
    file_entries(record)[RANGES_ENTRY].count = JOURNAL_PAGE_WORDS + 1;
}

/* So near the entries that the list of ranges itself does not fit. */
static void edit_ranges_list_outside(struct journal_record *record)
{
    file_entries(record)[RANGES_ENTRY].data_offset = (uint32_t)(record->entries_offset / 8 - 2);
    file_entries(record)[RANGES_ENTRY].count = 4;
}

/* All ranges at the last words of the data: the words do not fit. */
static void edit_ranges_words_outside(struct journal_record *record)
{
    struct journal_entry *entry = &file_entries(record)[RANGES_ENTRY];
    const struct journal_range ranges[2] = {{0, 1}, {1, 511}};
    entry->data_offset = (uint32_t)(record->entries_offset / 8 - 4);
    memcpy((unsigned char *)record + entry->data_offset * 8u + sizeof(struct journal_ranges_head),
           ranges, sizeof ranges);
}

static void edit_range_empty(struct journal_record *record)
{
    hostile_ranges(record)[0].word_count = 0;
}

static void edit_range_backwards(struct journal_record *record)
{
    hostile_ranges(record)[1].first_word = hostile_ranges(record)[0].first_word;
}

static void edit_range_outside(struct journal_record *record)
{
    hostile_ranges(record)[1].first_word = JOURNAL_PAGE_WORDS;
}

TEST(an_entry_that_cannot_be_is_refused_at_its_place)
{
    static const struct {
        record_edit *edit;
        unsigned entry;
        const char *reason;
    } cases[] = {
        {edit_page_low, RANGES_ENTRY, "names a page that it may not"},
        {edit_page_high, ZERO_ENTRY, "names a page that it may not"},
        {edit_page_twice, IMAGE_ENTRY, "names a page that it may not"},
        {edit_zero_count, ZERO_ENTRY, "malformed"},
        {edit_zero_data, ZERO_ENTRY, "malformed"},
        {edit_image_count, IMAGE_ENTRY, "malformed"},
        {edit_image_low, IMAGE_ENTRY, "malformed"},
        {edit_image_high, IMAGE_ENTRY, "malformed"},
        {edit_kind_none, IMAGE_ENTRY, "malformed"},
        {edit_kind_unknown, IMAGE_ENTRY, "malformed"},
        {edit_ranges_low, RANGES_ENTRY, "malformed"},
        {edit_ranges_high, RANGES_ENTRY, "malformed"},
        {edit_ranges_none, RANGES_ENTRY, "malformed"},
        {edit_ranges_too_many, RANGES_ENTRY, "malformed"},
        {edit_ranges_list_outside, RANGES_ENTRY, "malformed"},
        {edit_ranges_words_outside, RANGES_ENTRY, "malformed"},
        {edit_range_empty, RANGES_ENTRY, "malformed"},
        {edit_range_backwards, RANGES_ENTRY, "malformed"},
        {edit_range_outside, RANGES_ENTRY, "malformed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hostile hostile = hostile_make();
        struct journal_record *record = file_record(&hostile.content, hostile.record);
        const uint64_t at = record->entries_offset + cases[i].entry * sizeof(struct journal_entry);
        cases[i].edit(record);
        hostile_write(&hostile, record->record_bytes);
        hostile_is_refused(hostile.path, EVH_CORRUPT, hostile.record + at, cases[i].reason);
        file_bytes_end(&hostile.content);
    }
}

static void edit_bytes_odd(struct journal_record *record)
{
    record->record_bytes += 8;
}

static void edit_bytes_none(struct journal_record *record)
{
    record->record_bytes = 0;
}

static void edit_bytes_many(struct journal_record *record)
{
    record->record_bytes = 1ull << 40;
}

static void edit_previous_salt(struct journal_record *record)
{
    record->previous_salt++;
}

static void edit_previous_crc(struct journal_record *record)
{
    record->previous_crc++;
}

static void edit_sequence(struct journal_record *record)
{
    record->sequence++;
}

static void edit_uuid(struct journal_record *record)
{
    record->uuid[15]++;
}

/* The status page says that the commit was durable: its record's absence is damage. */
TEST(a_durable_commit_whose_record_does_not_follow_is_missed)
{
    static record_edit *const cases[] = {edit_bytes_odd,     edit_bytes_none,   edit_bytes_many,
                                         edit_previous_salt, edit_previous_crc, edit_sequence,
                                         edit_uuid};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hostile hostile = hostile_make();
        struct journal_record *record = file_record(&hostile.content, hostile.record);
        const uint64_t bytes = record->record_bytes;
        cases[i](record);
        hostile_write(&hostile, bytes);
        hostile_is_refused(hostile.path, EVH_CORRUPT, hostile.record, "was durable");
        file_bytes_end(&hostile.content);
    }
}

TEST(a_page_that_its_ranges_do_not_make_is_damaged)
{
    struct hostile hostile = hostile_make();
    struct journal_record *record = file_record(&hostile.content, hostile.record);
    const uint64_t page = file_entries(record)[RANGES_ENTRY].page;
    hostile.content.bytes[page * PAGE_BYTES + 4095] ^= 1; /* its home, where no range lies */
    hostile_write(&hostile, record->record_bytes);
    hostile_is_refused(hostile.path, EVH_CORRUPT, page * PAGE_BYTES, "damaged on the disk");
    file_bytes_end(&hostile.content);
}

/* A commit that grew the heap beyond what the file holds. */
TEST(a_record_of_a_heap_that_is_longer_than_its_file_is_truncated)
{
    struct hostile hostile = hostile_make();
    struct journal_record *record = file_record(&hostile.content, hostile.record);
    record->heap_bytes = hostile.content.size + SLICE_BYTES;
    hostile_write(&hostile, record->record_bytes);
    hostile_is_refused(hostile.path, EVH_TRUNCATED, hostile.content.size, "its end was cut off");
    file_bytes_end(&hostile.content);
}

TEST(an_entry_that_names_the_journal_itself_is_refused)
{
    const char *path = test_path("extent");
    struct raw raw = {.options = {.no_thread = true}};
    raw_create(&raw, path);
    raw_grow(&raw, 1 << 20);
    memset(raw_word(&raw, 0, 0), 0x11, 512 << 10); /* too much for the first extent */
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    const struct region_extent extent = region_extent_at(raw.region, 0);
    CHECK(extent.slice_count > 0);
    raw_grow(&raw, ((uint64_t)extent.first_slice + extent.slice_count + 1) << SLICE_SHIFT);
    *raw_word(&raw, 0, 0) = 1;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    const uint64_t at = raw.journal->live_last->offset;
    raw_kill(&raw);
    struct file_bytes content = file_bytes_read(path);
    struct journal_record *record = file_record(&content, at);
    CHECK_EQUAL(record->entry_count, 1);
    file_entries(record)->page = (uint64_t)extent.first_slice * SLICE_PAGES + 1;
    file_record_seal(record, record->record_bytes);
    file_bytes_write(path, &content);
    hostile_is_refused(path, EVH_CORRUPT, at + record->entries_offset, "a page that it may not");
    file_bytes_end(&content);
}

/* ---- the same beneath an open heap: the check tells ---- */

struct findings {
    unsigned count, limit;
    evh_status status;
    uint64_t offset;
    const char *object;
};

static bool findings_count(const evh_finding *finding, void *context)
{
    struct findings *findings = context;
    CHECK(finding->message[0] != 0);
    if (findings->count++ == 0) {
        findings->status = finding->status;
        findings->offset = finding->offset;
        findings->object = finding->object;
    }
    return findings->count < findings->limit;
}

TEST(a_record_that_is_damaged_while_the_heap_is_open_is_found_by_the_check)
{
    for (int has_content = 0; has_content < 2; has_content++) {
        struct raw raw = {.options = {.no_thread = true}};
        const char *path = test_path("open");
        raw_create(&raw, path);
        *raw_word(&raw, 0, 0) = 1;
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
        const uint64_t at = raw.journal->live_last->offset;
        struct file_bytes content = file_bytes_read(path);
        struct journal_record *record = file_record(&content, at);
        record->catalog = 0;
        if (has_content) file_record_seal(record, record->record_bytes);
        file_bytes_patch(path, at, record, record->record_bytes);
        file_bytes_end(&content);

        struct findings findings = {.limit = 100};
        CHECK_EQUAL(journal_check(raw.journal, findings_count, &findings), EVH_CORRUPT);
        CHECK_EQUAL(findings.count, 1);
        CHECK(strcmp(findings.object, "journal") == 0);
        CHECK_EQUAL(findings.offset,
                    at + (has_content ? offsetof(struct journal_record, catalog) : 0));
        CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_CORRUPT); /* and nothing goes home */
        CHECK_EQUAL(raw.region->header.sequence, 0);
        raw_kill(&raw);
    }
}

/* A change that a checkpoint would bring home over a damaged page, with a checksum of its own.
 * Where the words alone go home, the checksum is the right page's: the damage still shows. */
TEST(a_checkpoint_does_not_bless_a_damaged_page)
{
    for (int is_sure = 0; is_sure < 2; is_sure++) {
        struct raw raw = {.options = {.no_thread = true}};
        const char *path = test_path("blessed");
        raw_create(&raw, path);
        *raw_word(&raw, 0, 0) = 1;
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
        raw.journal->home_is_sure = is_sure;
        const uint64_t home = 2 * SLICE_BYTES;
        const unsigned char damage = 0x77;
        file_bytes_patch(path, home + 3000, &damage, 1);
        if (is_sure) {
            CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
            struct findings findings = {.limit = 100};
            CHECK_EQUAL(journal_check(raw.journal, findings_count, &findings), EVH_CORRUPT);
            CHECK_EQUAL(findings.count, 1);
            CHECK_EQUAL(findings.offset, home);
        } else {
            CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_CORRUPT);
            CHECK_EQUAL(evh_last_error()->offset, home);
            CHECK(strstr(evh_last_error()->message, "damaged on the disk") != NULL);
            CHECK_EQUAL(raw.region->header.sequence, 0);
        }
        raw_kill(&raw);
    }
}

static void damage_header(const char *path, uint64_t slot)
{
    const unsigned char damage[8] = "damaged";
    file_bytes_patch(path, slot * REGION_SLOT_STRIDE + 100, damage, sizeof damage);
}

TEST(a_check_stops_when_it_is_told_to_and_goes_on_otherwise)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path("stops");
    raw_create(&raw, path);
    memset(raw_word(&raw, 0, 0), 0x11, 3 * PAGE_BYTES);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
    *raw_word(&raw, 3, 0) = 1;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    const uint64_t at = raw.journal->live_last->offset;
    const unsigned char damage = 0x77;
    damage_header(path, 0);
    damage_header(path, 1);
    file_bytes_patch(path, at + 200, &damage, 1);
    file_bytes_patch(path, 2 * SLICE_BYTES + 5, &damage, 1);
    /* Two headers, the record, the page. */
    for (unsigned limit = 1; limit <= 5; limit++) {
        struct findings findings = {.limit = limit};
        CHECK_EQUAL(journal_check(raw.journal, findings_count, &findings), EVH_CORRUPT);
        CHECK_EQUAL(findings.count, limit < 4 ? limit : 4);
        CHECK_EQUAL(findings.offset, 0);
        CHECK_EQUAL(evh_last_error()->offset, 0); /* the first finding is the result */
    }
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_CORRUPT);
    raw_kill(&raw);
}

TEST(a_heap_that_is_cut_off_while_it_is_open_is_found_by_the_check)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path("cut");
    raw_create(&raw, path);
    *raw_word(&raw, 0, 0) = 1;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK(truncate(path, REGION_SLOT_STRIDE + 100) == 0);
    struct findings findings = {.limit = 100};
    CHECK_EQUAL(journal_check(raw.journal, findings_count, &findings), EVH_IO);
    CHECK(strcmp(findings.object, "header") == 0);
    CHECK_EQUAL(findings.offset, REGION_SLOT_STRIDE);
    CHECK(findings.count >= 3); /* the header, the record, slices */
    raw_kill(&raw);
}

/* ---- headers ---- */

typedef void header_edit(struct region_header *header);

static void edit_no_order(struct region_header *header)
{
    header->byte_order = 0;
}

static void edit_other_order(struct region_header *header)
{
    header->byte_order = __builtin_bswap32(REGION_BYTE_ORDER);
}

static void edit_pages(struct region_header *header)
{
    header->page_bytes = 16384;
}

static void edit_slices(struct region_header *header)
{
    header->slice_shift = 20;
}

static void edit_heap_below(struct region_header *header)
{
    header->heap_bytes = REGION_NEW_BYTES - SLICE_BYTES;
}

static void edit_heap_above(struct region_header *header)
{
    header->heap_bytes = REGION_SIZE_MAX + SLICE_BYTES;
}

static void edit_limit_above(struct region_header *header)
{
    header->size_max_bytes = REGION_SIZE_MAX + 1;
}

static void edit_mark_odd(struct region_header *header)
{
    header->incompatible = REGION_FEATURE_BULK;
    header->bulk_bytes = header->heap_bytes + PAGE_BYTES;
}

static void edit_mark_above(struct region_header *header)
{
    header->incompatible = REGION_FEATURE_BULK;
    header->bulk_bytes = REGION_SIZE_MAX + SLICE_BYTES;
}

static void edit_no_catalog(struct region_header *header)
{
    header->catalog = 0;
}

static void edit_tail_odd(struct region_header *header)
{
    header->tail_offset += 8;
}

static void edit_tail_low(struct region_header *header)
{
    header->tail_offset = REGION_STATUS_OFFSET;
}

static void edit_tail_nowhere(struct region_header *header)
{
    header->tail_offset = 2 * SLICE_BYTES;
}

static void edit_tail_before_extent(struct region_header *header)
{
    header->extents[0] = (struct region_extent){3, 1};
    header->tail_offset = 2 * SLICE_BYTES;
}

static void edit_tail_behind_extents(struct region_header *header)
{
    for (uint32_t i = 0; i < REGION_EXTENT_MAX; i++)
        header->extents[i] = (struct region_extent){4 + i, 1};
    header->tail_offset = 21 * SLICE_BYTES;
}

static void edit_extent_gap(struct region_header *header)
{
    header->extents[1] = (struct region_extent){3, 1};
}

static void edit_extent_in_metadata(struct region_header *header)
{
    header->extents[0] = (struct region_extent){1, 1};
}

static void edit_extents_overlap(struct region_header *header)
{
    header->extents[0] = (struct region_extent){2, 2};
    header->extents[1] = (struct region_extent){3, 1};
}

static void edit_extents_apart(struct region_header *header)
{
    header->extents[0] = (struct region_extent){3, 1};
    header->extents[1] = (struct region_extent){2, 1};
    header->tail_offset += 8; /* the extents are fine: this is what is found */
}

#define FIELD(name) offsetof(struct region_header, name)

TEST(a_header_that_cannot_be_is_refused_at_its_field)
{
    enum { EXTENT = sizeof(struct region_extent) };
    static const struct {
        header_edit *edit;
        evh_status status;
        uint64_t field;
        const char *reason;
    } cases[] = {
        {edit_no_order, EVH_CORRUPT, FIELD(byte_order), "no byte order mark"},
        {edit_other_order, EVH_BYTE_ORDER, 0, "other byte order"},
        {edit_pages, EVH_VERSION, FIELD(page_bytes), "pages of 16384 bytes"},
        {edit_slices, EVH_VERSION, FIELD(page_bytes), "slices of 2^20"},
        {edit_heap_below, EVH_CORRUPT, FIELD(heap_bytes), "cannot be"},
        {edit_heap_above, EVH_CORRUPT, FIELD(heap_bytes), "cannot be"},
        {edit_limit_above, EVH_CORRUPT, FIELD(heap_bytes), "cannot be"},
        {edit_mark_odd, EVH_CORRUPT, FIELD(bulk_bytes), "cannot have been written up to"},
        {edit_mark_above, EVH_CORRUPT, FIELD(bulk_bytes), "cannot have been written up to"},
        {edit_no_catalog, EVH_CORRUPT, FIELD(catalog), "the catalog cannot be"},
        {edit_tail_odd, EVH_CORRUPT, FIELD(tail_offset), "cannot continue at"},
        {edit_tail_low, EVH_CORRUPT, FIELD(tail_offset), "cannot continue at"},
        {edit_tail_nowhere, EVH_CORRUPT, FIELD(tail_offset), "cannot continue at"},
        {edit_tail_before_extent, EVH_CORRUPT, FIELD(tail_offset), "cannot continue at"},
        {edit_tail_behind_extents, EVH_CORRUPT, FIELD(tail_offset), "cannot continue at"},
        {edit_extent_gap, EVH_CORRUPT, FIELD(extents) + EXTENT, "extent 1 is out of order"},
        {edit_extent_in_metadata, EVH_CORRUPT, FIELD(extents), "extent 0 is out of order"},
        {edit_extents_overlap, EVH_CORRUPT, FIELD(extents) + EXTENT, "0 and 1 overlap"},
        {edit_extents_apart, EVH_CORRUPT, FIELD(tail_offset), "cannot continue at"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = test_path("header");
        struct raw raw = {0};
        raw_create(&raw, path);
        raw_grow(&raw, 2 << 20);
        *raw_word(&raw, 0, 0) = 1;
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
        raw_close(&raw);
        struct file_bytes content = file_bytes_read(path);
        uint64_t slot = 0;
        struct region_header *header = file_header(&content, &slot);
        cases[i].edit(header);
        file_header_seal(header);
        /* Both slots: else the older one might serve. */
        memcpy(content.bytes + (REGION_SLOT_STRIDE - slot), header, sizeof *header);
        file_bytes_write(path, &content);
        hostile_is_refused(path, cases[i].status, cases[i].field, cases[i].reason);
        file_bytes_end(&content);
    }
}

static uint64_t largest_extent(const struct region *region)
{
    uint64_t largest = 0;
    for (uint32_t i = 0; i < ring_extent_count(region); i++) {
        uint64_t offset = 0, bytes = 0;
        ring_extent(region, i, &offset, &bytes);
        largest = base_max(largest, bytes);
    }
    return largest;
}

/* All the extents that there can be, of two slices each: commits would make them larger and
 * larger. */
static void add_all_extents(struct raw *raw)
{
    struct region *region = raw->region;
    bool flush_failed = false;
    region_plan_begin(region);
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++)
        CHECK_EQUAL(region_allocate_extent(region, raw->state.heap_bytes, 2, i), EVH_OK);
    struct region_header next = region->header;
    CHECK_EQUAL(region_write_header(region, &next, &flush_failed), EVH_OK);
    region_plan_end(region);
    region_adopt_header(region, &next);
}

TEST(a_journal_has_sixteen_extents_more_and_then_says_that_it_is_full)
{
    const char *path = test_path("extents");
    struct raw raw = {.options = {.no_thread = true, .checkpoint_bytes = SLICE_BYTES}};
    raw_create(&raw, path);
    raw_grow(&raw, 8 << 20);
    unsigned char *bytes = (unsigned char *)raw_word(&raw, 0, 0);
    memset(bytes, 1, largest_extent(raw.region)); /* and a header: it fits nowhere */
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(ring_extent_count(raw.region), 2);
    CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
    region_drop_extent(raw.region, 0);
    add_all_extents(&raw);
    CHECK_EQUAL(region_extent_at(raw.region, REGION_EXTENT_MAX).slice_count, 0);
    memset(bytes, REGION_EXTENT_MAX, largest_extent(raw.region));
    memset(bytes, 1, PAGE_BYTES);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    const uint64_t sequence = raw.journal->durable_sequence;
    const uint64_t size = largest_extent(raw.region);
    CHECK(size < 4 << 20);
    memset(bytes, 0x77, size);
    CHECK_EQUAL(raw_commit(&raw), EVH_LIMIT);
    CHECK(strstr(evh_last_error()->message, "has all 17 extents") != NULL);
    CHECK_EQUAL(raw.journal->durable_sequence, sequence);
    memset(bytes + PAGE_BYTES, REGION_EXTENT_MAX,
           size - PAGE_BYTES); /* as it was: a page is left */
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(raw.journal->durable_sequence, sequence + 1);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&raw);
    raw_open(&raw, path, EVH_READ_ONLY);
    bytes = (unsigned char *)raw_word(&raw, 0, 0);
    CHECK_EQUAL(bytes[0], 0x77);
    CHECK_EQUAL(bytes[PAGE_BYTES], REGION_EXTENT_MAX);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&raw);
}
