/* salvage_pages.c -- which bytes of a damaged file are what somebody wrote.
 *
 * The header is believed if its checksum is right, whatever the length of the file: what lies
 * behind its end is damaged. Records are laid over the pages in the order of their chain, up to the
 * first that is damaged: a later one may say less than the pages need. All other pages are compared
 * with their checksums, which have none themselves: where nearly all of one sector of them are
 * wrong, it is they that are.
 */
#include "autopsy/salvage.h"

/* The end of the extent that `offset` lies in, or at whose end; 0: in none. */
static uint64_t pages_extent_end(const struct salvage *salvage, uint64_t offset, unsigned *number)
{
    uint64_t first = REGION_FIRST_EXTENT_OFFSET, end = SLICE_BYTES;
    assert(offset % PAGE_BYTES == 0);
    for (*number = 0; *number <= REGION_EXTENT_MAX; ++*number) {
        if (offset >= first && offset <= end) return base_min(end, salvage->bytes_size);
        if (*number == REGION_EXTENT_MAX) break;
        first = (uint64_t)salvage->header.extents[*number].first_slice << SLICE_SHIFT;
        end = first + ((uint64_t)salvage->header.extents[*number].slice_count << SLICE_SHIFT);
        if (end == first) break;
    }
    return 0;
}

/* ---- the header ---- */

static bool pages_header_is_sound(const struct salvage *salvage, const struct region_header *header,
                                  uint64_t offset)
{
    /* As if the file were long enough: how much of it is there is another question. */
    assert(header != NULL);
    return region_check_header(header, salvage->path, offset, REGION_SIZE_MAX) == EVH_OK;
}

static bool pages_is_known_version(const struct region_header *header)
{
    assert(header != NULL);
    return header->magic == REGION_MAGIC && header->byte_order == REGION_BYTE_ORDER &&
           header->format_version == REGION_FORMAT_VERSION;
}

/* No slot is sound: what can be known without one. */
static evh_status pages_make_header(struct salvage *salvage)
{
    struct region_header *header = &salvage->header;
    const struct region_status *status =
        (const struct region_status *)(const void *)(salvage->bytes + REGION_STATUS_OFFSET);
    bool is_heap = status->magic == REGION_STATUS_MAGIC;
    assert(header->magic == 0);
    for (unsigned i = 0; i < REGION_SLOT_COUNT && !is_heap; i++) {
        const struct region_header *slot =
            (const struct region_header *)(const void *)(salvage->bytes +
                                                         (uint64_t)i * REGION_SLOT_STRIDE);
        is_heap = pages_is_known_version(slot);
        if (is_heap) memcpy(header->uuid, slot->uuid, sizeof header->uuid);
    }
    const uint64_t *entry =
        (const uint64_t *)(const void *)(salvage->bytes + SLICE_BYTES + HEAP_DIRECTORY_OFFSET);
    if (!is_heap && (uint32_t)*entry != HEAP_FIRST_META_SLICE)
        return base_fail(EVH_NOT_HEAP, 0, "%s: nothing in it looks like a heap", salvage->path);
    if (status->magic == REGION_STATUS_MAGIC)
        memcpy(header->uuid, status->uuid, sizeof header->uuid);
    header->mode = EVH_DURABLE;
    header->heap_bytes =
        base_max(base_round_down(salvage->file_bytes, SLICE_BYTES), REGION_NEW_BYTES);
    header->tail_offset = REGION_FIRST_EXTENT_OFFSET;
    salvage_note(salvage, EVH_SALVAGE_GUESSED, 0, REGION_SLOT_BYTES,
                 "no header is sound: its length is taken from the file's, its roots are lost");
    return EVH_OK;
}

/* The newer slot is damaged: the older one may tell of a shorter heap. Behind the end of a heap a
 * file is zero, so it reaches at least to what is not. */
static void pages_extend_header(struct salvage *salvage)
{
    uint64_t end = base_round_down(salvage->file_bytes, SLICE_BYTES);
    assert(salvage->header.magic == REGION_MAGIC);
    while (end > salvage->header.heap_bytes) {
        unsigned number = 0;
        const uint64_t slice = end - SLICE_BYTES;
        const bool is_journal = pages_extent_end(salvage, slice, &number) > slice;
        if (!is_journal && !heap_is_zero(salvage->bytes + slice, SLICE_BYTES)) break;
        end = slice;
    }
    if (end <= salvage->header.heap_bytes) return;
    salvage->header.heap_bytes = end;
    salvage_note(salvage, EVH_SALVAGE_GUESSED, 0, REGION_SLOT_BYTES,
                 "the header that is left is older: the heap is taken to end at %llu",
                 (unsigned long long)end);
}

EVH_INTERNAL evh_status salvage_header(struct salvage *salvage)
{
    const struct region_header *best = NULL;
    bool is_damaged = false;
    assert(salvage->bytes_size >= REGION_NEW_BYTES);
    for (unsigned i = 0; i < REGION_SLOT_COUNT; i++) {
        const uint64_t offset = (uint64_t)i * REGION_SLOT_STRIDE;
        const struct region_header *slot =
            (const struct region_header *)(const void *)(salvage->bytes + offset);
        if (heap_is_zero(slot, sizeof *slot)) continue;
        if (pages_header_is_sound(salvage, slot, offset)) {
            if (!best || slot->generation > best->generation) best = slot;
            continue;
        }
        if (evh_last_error()->status == EVH_VERSION) return EVH_VERSION;
        is_damaged = true;
        salvage_note(salvage, EVH_SALVAGE_FOUND, offset, REGION_SLOT_BYTES, "header: %s",
                     evh_last_error()->message);
    }
    if (best)
        salvage->header = *best;
    else if (pages_make_header(salvage))
        return EVH_NOT_HEAP;
    if (best && is_damaged && best->mode == EVH_DURABLE) pages_extend_header(salvage);
    salvage->heap_bytes = salvage->header.heap_bytes;
    salvage->catalog = salvage->header.catalog;
    assert(salvage->heap_bytes % SLICE_BYTES == 0);
    return EVH_OK;
}

/* ---- the journal ---- */

/* Where a chain of records is. */
struct pages_chain {
    uint64_t sequence, salt, tail;
    uint32_t crc;
};

/* The whole and sound record at `offset`; NULL: none is there. */
static const struct journal_record *pages_record(const struct salvage *salvage, uint64_t offset)
{
    unsigned number = 0;
    const uint64_t end = pages_extent_end(salvage, offset, &number);
    if (!base_in_range(offset, PAGE_BYTES, end)) return NULL;
    const struct journal_record *record =
        (const struct journal_record *)(const void *)(salvage->bytes + offset);
    assert(end <= salvage->bytes_size);
    if (record->magic != JOURNAL_MAGIC ||
        memcmp(record->uuid, salvage->header.uuid, sizeof record->uuid) != 0 ||
        base_crc32c(0, record, offsetof(struct journal_record, header_crc)) != record->header_crc)
        return NULL;
    const uint64_t entries_bytes = (uint64_t)record->entry_count * sizeof(struct journal_entry);
    if (record->record_bytes < PAGE_BYTES || record->record_bytes % PAGE_BYTES != 0 ||
        !base_in_range(offset, record->record_bytes, end) || record->entries_offset % 8 != 0 ||
        record->entries_offset < sizeof *record ||
        !base_in_range(record->entries_offset, entries_bytes, record->record_bytes))
        return NULL;
    const uint32_t body = base_crc32c(0, record + 1, record->record_bytes - sizeof *record);
    return body == record->body_crc ? record : NULL;
}

/* One page's change. */
static void pages_apply(struct salvage *salvage, const struct journal_record *record,
                        const struct journal_entry *entry)
{
    const unsigned char *data = (const unsigned char *)record + (uint64_t)entry->data_offset * 8;
    const uint64_t at = (uint64_t)entry->data_offset * 8;
    assert(record->magic == JOURNAL_MAGIC);
    if (entry->page < SLICE_PAGES || entry->page >= salvage->page_count) return;
    unsigned char *page = salvage->bytes + (entry->page << PAGE_SHIFT);
    bool is_good = true;
    switch (entry->kind) {
    case JOURNAL_ZERO: memset(page, 0, PAGE_BYTES); break;
    case JOURNAL_IMAGE:
        if (!base_in_range(at, PAGE_BYTES, record->entries_offset)) return;
        memcpy(page, data, PAGE_BYTES);
        break;
    case JOURNAL_RANGES:
        if (!base_in_range(at, sizeof(struct journal_ranges_head), record->entries_offset) ||
            !page_ranges_are_sound(data, record->entries_offset - at, entry->count))
            return;
        page_apply_ranges(page, data, entry->count, NULL);
        is_good =
            page_checksum(salvage->header.uuid, entry->page, page) == page_ranges_checksum(data);
        break;
    case JOURNAL_HOME:
        is_good = page_checksum(salvage->header.uuid, entry->page, page) == entry->data_offset;
        break;
    default: return;
    }
    salvage->pages[entry->page] = is_good ? SALVAGE_GOOD : SALVAGE_BAD;
}

/* Grow the states of pages to what a record says. */
static bool pages_extend(struct salvage *salvage, uint64_t heap_bytes)
{
    assert(salvage->page_count == salvage->heap_bytes >> PAGE_SHIFT);
    if (heap_bytes % SLICE_BYTES != 0 || heap_bytes > salvage->bytes_size) return false;
    if (heap_bytes <= salvage->heap_bytes) return true;
    uint8_t *pages = os->memory_resize(salvage->pages, heap_bytes >> PAGE_SHIFT);
    if (!pages) return false;
    memset(pages + salvage->page_count, SALVAGE_UNVERIFIED,
           (heap_bytes >> PAGE_SHIFT) - salvage->page_count);
    salvage->pages = pages;
    salvage->page_count = heap_bytes >> PAGE_SHIFT;
    salvage->heap_bytes = heap_bytes;
    return true;
}

/* The record that follows, where it may be: behind its predecessor, or at an extent's start. */
static const struct journal_record *pages_next(const struct salvage *salvage,
                                               const struct pages_chain *chain, uint64_t *offset)
{
    assert(offset != NULL);
    assert(chain->tail % PAGE_BYTES == 0);
    for (unsigned i = 0; i < REGION_EXTENT_MAX + 2; i++) {
        if (i == 0) *offset = chain->tail;
        if (i == 1) *offset = REGION_FIRST_EXTENT_OFFSET;
        if (i > 1) {
            const struct region_extent extent = salvage->header.extents[i - 2];
            if (extent.slice_count == 0) break;
            *offset = (uint64_t)extent.first_slice << SLICE_SHIFT;
        }
        const struct journal_record *record = pages_record(salvage, *offset);
        if (record && record->sequence == chain->sequence + 1 &&
            record->previous_salt == chain->salt && record->previous_crc == chain->crc)
            return record;
    }
    return NULL;
}

/* Commits behind the end of the chain: their records are there, one before them is not. */
static void pages_count_lost(struct salvage *salvage, uint64_t sequence)
{
    uint64_t highest = sequence;
    assert(salvage->bytes_size >= REGION_NEW_BYTES);
    for (unsigned i = 0; i <= REGION_EXTENT_MAX; i++) {
        uint64_t at = REGION_FIRST_EXTENT_OFFSET, end = SLICE_BYTES;
        if (i > 0) {
            const struct region_extent extent = salvage->header.extents[i - 1];
            at = (uint64_t)extent.first_slice << SLICE_SHIFT;
            end = at + ((uint64_t)extent.slice_count << SLICE_SHIFT);
        }
        for (end = base_min(end, salvage->bytes_size); at < end; at += PAGE_BYTES) {
            const struct journal_record *record = pages_record(salvage, at);
            if (record) highest = base_max(highest, record->sequence);
        }
    }
    if (highest == sequence || highest >= REGION_SEQUENCE_MAX) return;
    salvage->result.lost_commits = highest - sequence;
    salvage_note(salvage, EVH_SALVAGE_LOST, NO_OFFSET, 0,
                 "commits %llu to %llu: a record before the last of them is damaged",
                 (unsigned long long)sequence + 1, (unsigned long long)highest);
}

EVH_INTERNAL void salvage_journal(struct salvage *salvage)
{
    const struct region_header *header = &salvage->header;
    struct pages_chain chain = {header->sequence, header->chain_salt, header->tail_offset,
                                header->chain_crc};
    uint64_t offset = 0;
    const struct journal_record *record;
    assert(salvage->pages != NULL);
    while (header->magic && (record = pages_next(salvage, &chain, &offset)) != NULL) {
        if (!pages_extend(salvage, record->heap_bytes)) break;
        const struct journal_entry *entries =
            (const struct journal_entry *)(const void *)((const unsigned char *)record +
                                                         record->entries_offset);
        for (uint32_t i = 0; i < record->entry_count; i++)
            pages_apply(salvage, record, &entries[i]);
        salvage->catalog = record->catalog;
        chain = (struct pages_chain){record->sequence, record->salt, offset + record->record_bytes,
                                     record->header_crc};
    }
    salvage->header.sequence = chain.sequence;
    if (header->magic) pages_count_lost(salvage, chain.sequence);
    assert(salvage->page_count == salvage->heap_bytes >> PAGE_SHIFT);
}

/* ---- checksums ---- */

/* The checksum of a page; NULL: it has none that can be found. */
static uint32_t *pages_sum(struct salvage *salvage, uint64_t page)
{
    assert(page >= SLICE_PAGES);
    uint64_t at = REGION_CHECKSUM_OFFSET + page * 4;
    if (page >= PAGE_BYTES / 4) {
        const uint64_t slice = salvage_entry(salvage, page / SEGMENT_PAGES).checksum_slice;
        if (slice == 0) return NULL;
        at = (slice << SLICE_SHIFT) + page % SEGMENT_PAGES * 4;
    }
    if (!base_in_range(at, 4, salvage->bytes_size)) return NULL;
    return (uint32_t *)(void *)(salvage->bytes + at);
}

/* Whether a page belongs to the journal or holds checksums: neither has a home of its own. */
static bool pages_has_no_home(struct salvage *salvage, uint64_t page)
{
    const uint64_t slice = page / SLICE_PAGES;
    assert(page < salvage->page_count);
    if (slice == 0) return true;
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent extent = salvage->header.extents[i];
        if (slice >= extent.first_slice && slice - extent.first_slice < extent.slice_count)
            return true;
    }
    /* A segment's checksums lie in it or, seldom, in the one before. */
    const uint64_t segment = slice / SEGMENT_SLICES;
    const uint64_t segments = (salvage->heap_bytes + SEGMENT_BYTES - 1) >> SEGMENT_SHIFT;
    for (uint64_t i = segment; i <= segment + 1 && i < segments; i++)
        if (salvage_entry(salvage, i).checksum_slice == slice) return true;
    return false;
}

/* Verify a page that no record covers. */
static enum salvage_page pages_verify(struct salvage *salvage, uint64_t page)
{
    const unsigned char *image = salvage->bytes + (page << PAGE_SHIFT);
    const uint32_t *sum = pages_sum(salvage, page);
    assert(page < salvage->page_count);
    if (((page + 1) << PAGE_SHIFT) > salvage->file_bytes) return SALVAGE_BAD;
    if (!sum || *sum == JOURNAL_SUM_UNKNOWN) return SALVAGE_UNVERIFIED;
    if (*sum == JOURNAL_SUM_NONE) return page_is_zero(image) ? SALVAGE_GOOD : SALVAGE_UNVERIFIED;
    return page_checksum(salvage->header.uuid, page, image) == *sum ? SALVAGE_GOOD : SALVAGE_BAD;
}

/* A sector of checksums: that of pages [first, end). */
static void pages_verify_group(struct salvage *salvage, uint64_t first, uint64_t end)
{
    enum salvage_page states[SALVAGE_SUM_GROUP];
    uint64_t bad = 0, known = 0;
    assert(first < end);
    assert(end - first <= SALVAGE_SUM_GROUP);
    for (uint64_t page = first; page < end; page++) {
        enum salvage_page *state = &states[page - first];
        *state = SALVAGE_GOOD;
        if (salvage->pages[page] != SALVAGE_UNVERIFIED || pages_has_no_home(salvage, page))
            continue;
        *state = pages_verify(salvage, page);
        salvage->pages[page] = (uint8_t)*state;
        known += *state != SALVAGE_UNVERIFIED;
        bad += *state == SALVAGE_BAD;
    }
    if (bad < 8 || bad * SALVAGE_SUM_GROUP < known * SALVAGE_SUM_BAD ||
        end << PAGE_SHIFT > salvage->file_bytes)
        return;
    for (uint64_t page = first; page < end; page++)
        if (states[page - first] == SALVAGE_BAD) salvage->pages[page] = SALVAGE_UNVERIFIED;
    salvage_note(salvage, EVH_SALVAGE_FOUND, first << PAGE_SHIFT, (end - first) << PAGE_SHIFT,
                 "the checksums of pages %llu to %llu are damaged: they are kept unverified",
                 (unsigned long long)first, (unsigned long long)end - 1);
}

EVH_INTERNAL void salvage_checksums(struct salvage *salvage)
{
    assert(salvage->page_count >= SLICE_PAGES);
    /* The directory, which says where the other checksums are, has its own in slice 0. */
    for (uint64_t first = 0; first < salvage->page_count; first += SALVAGE_SUM_GROUP)
        pages_verify_group(salvage, first,
                           base_min(first + SALVAGE_SUM_GROUP, salvage->page_count));
    for (uint64_t page = SLICE_PAGES; page < salvage->page_count; page++) {
        if (pages_has_no_home(salvage, page)) salvage->pages[page] = SALVAGE_GOOD;
        salvage->result.bad_pages += salvage->pages[page] == SALVAGE_BAD;
        salvage->result.unverified_pages += salvage->pages[page] == SALVAGE_UNVERIFIED;
        if (salvage->pages[page] == SALVAGE_BAD)
            salvage_note(salvage, EVH_SALVAGE_FOUND, page << PAGE_SHIFT, PAGE_BYTES,
                         "page %llu is not what was written", (unsigned long long)page);
    }
    salvage->result.pages = salvage->page_count;
}

/* ---- the end ---- */

EVH_INTERNAL evh_status salvage_seal(struct salvage *salvage)
{
    struct region_header *header = &salvage->header;
    assert(salvage->heap_bytes >= REGION_NEW_BYTES);
    memset(salvage->bytes, 0, REGION_CHECKSUM_OFFSET);
    for (uint64_t page = 0; page < salvage->page_count; page++) {
        uint32_t *sum = page < SLICE_PAGES ? NULL : pages_sum(salvage, page);
        if (sum) *sum = JOURNAL_SUM_UNKNOWN;
    }
    header->magic = REGION_MAGIC;
    header->format_version = REGION_FORMAT_VERSION;
    header->byte_order = REGION_BYTE_ORDER;
    header->incompatible = 0;
    header->bulk_bytes = 0;
    header->page_bytes = PAGE_BYTES;
    header->slice_shift = SLICE_SHIFT;
    header->generation = 1;
    header->heap_bytes = salvage->heap_bytes;
    /* One that cannot be is none, and another is made when the heap is open. */
    if (salvage->catalog < 2 * SLICE_BYTES || salvage->catalog % 16 != 0 ||
        salvage->catalog >= salvage->heap_bytes)
        salvage->catalog = SLICE_BYTES;
    header->catalog = salvage->catalog;
    header->tail_offset = REGION_FIRST_EXTENT_OFFSET;
    header->crc = 0;
    os->random(&header->chain_salt, sizeof header->chain_salt); /* old records do not follow */
    os->random(header->uuid, sizeof header->uuid);
    header->crc = base_crc32c(0, header, offsetof(struct region_header, crc));
    memcpy(salvage->bytes, header, sizeof *header);
    return pages_header_is_sound(salvage, header, 0) ? EVH_OK : evh_last_error()->status;
}
