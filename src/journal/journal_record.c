/* journal_record.c -- walk the chain of records, believing nothing that is not proven.
 *
 * A record follows another if it is where it may be (behind it, or at the start of an extent),
 * whole (two checksums), of this heap (uuid), the next in sequence, and names its predecessor's
 * salt and checksum. The first record that fails one of these ends the chain: it was never
 * acknowledged, or it is damaged; journal_view.c and journal.c tell which.
 */
#include "journal/journal_internal.h"

enum {
    WALK_WINDOW_MIN = 16 * 1024,
    WALK_WINDOW_MAX = 1024 * 1024,
    WALK_LATER_CHUNK = 64 * 1024,
};

void walk_begin_at(struct record_walk *walk, struct journal *journal,
                   const struct journal_position *position)
{
    assert(journal != NULL);
    assert(position->sequence >= journal->region->header.sequence);
    *walk = (struct record_walk){
        .journal = journal,
        .sequence = position->sequence,
        .salt = position->salt,
        .crc = position->crc,
        .tail = position->tail,
        .state = position->state,
        .durable = position->sequence,
    };
}

void walk_begin(struct record_walk *walk, struct journal *journal)
{
    const struct region_header *header = &journal->region->header;
    assert(header->magic == REGION_MAGIC);
    assert(header->tail_offset % PAGE_BYTES == 0);
    const struct journal_position position = {
        .sequence = header->sequence,
        .salt = header->chain_salt,
        .crc = header->chain_crc,
        .tail = header->tail_offset,
        .state = {header->heap_bytes, header->catalog},
    };
    walk_begin_at(walk, journal, &position);
}

struct journal_position walk_position(const struct record_walk *walk)
{
    assert(walk != NULL);
    assert(walk->tail % PAGE_BYTES == 0);
    return (struct journal_position){walk->sequence, walk->salt, walk->crc, walk->tail,
                                     walk->state};
}

void walk_end(struct record_walk *walk)
{
    assert(walk != NULL);
    assert(walk->window != NULL || walk->window_limit == 0);
    os->memory_free(walk->window);
    walk->window = NULL;
    walk->record = NULL;
}

const struct journal_record *walk_record(const struct record_walk *walk)
{
    assert(walk->record != NULL);
    assert(walk->record_offset % PAGE_BYTES == 0);
    return (const struct journal_record *)(const void *)walk->record;
}

const struct journal_entry *walk_entries(const struct record_walk *walk, uint32_t *count)
{
    assert(count != NULL);
    const struct journal_record *record = walk_record(walk);
    *count = record->entry_count;
    return (const struct journal_entry *)(const void *)(walk->record + record->entries_offset);
}

/* Whether it is the whole header of some record of this heap. */
static bool walk_is_header(const struct record_walk *walk, const struct journal_record *record)
{
    assert(record != NULL);
    assert(walk->journal != NULL);
    if (record->magic != JOURNAL_MAGIC) return false;
    if (memcmp(record->uuid, walk->journal->region->header.uuid, sizeof record->uuid) != 0)
        return false;
    const uint32_t crc = base_crc32c(0, record, offsetof(struct journal_record, header_crc));
    return record->header_crc == crc;
}

/* Whether a record header is the successor that the walk looks for. */
static bool walk_follows(const struct record_walk *walk, const struct journal_record *record)
{
    assert(record != NULL);
    if (!walk_is_header(walk, record)) return false;
    if (PLANTED(8)) return record->sequence > walk->sequence;
    if (record->sequence != walk->sequence + 1) return false;
    return record->previous_salt == walk->salt && record->previous_crc == walk->crc;
}

/* Read a stretch of the file that begins at `offset`: at least `need` bytes, and while the chain
 * goes on more and more at once, up to the extent's end. */
static evh_status walk_read_window(struct record_walk *walk, uint64_t offset, uint64_t need,
                                   uint64_t limit)
{
    assert(need > 0);
    assert(need <= limit - offset);
    struct region *region = walk->journal->region;
    const uint64_t ahead =
        base_min(base_max(WALK_WINDOW_MIN, 4 * walk->window_bytes), WALK_WINDOW_MAX);
    const uint64_t size = base_min(base_max(need, ahead), limit - offset);
    assert(size >= need);
    walk->window_bytes = 0;
    if (size > walk->window_limit) {
        const uint64_t grown = base_max(size, 2 * walk->window_limit);
        os->memory_free(walk->window);
        walk->window_limit = 0;
        walk->window = os->memory_resize(NULL, grown); /* not zeroed */
        if (!walk->window)
            return base_fail(EVH_NO_MEMORY, NO_OFFSET,
                             "%s: no memory to read a commit of %llu bytes", region->path,
                             (unsigned long long)size);
        walk->window_limit = grown;
    }
    if (walk->from_device) os->drop_cache(region->file, offset, size);
    size_t done = 0;
    const int error = os->read(region->file, offset, walk->window, size, &done);
    if (error) return base_fail_os(error, offset, "%s: cannot read its journal", region->path);
    walk->window_offset = offset;
    walk->window_bytes = done;
    return EVH_OK;
}

/* The record header at `offset`: NULL if the file ends before it, or it does not follow. */
static evh_status walk_look(struct record_walk *walk, uint64_t offset, uint64_t limit,
                            struct journal_record *record, bool *follows)
{
    assert(offset % PAGE_BYTES == 0);
    assert(follows != NULL);
    struct region *region = walk->journal->region;
    *follows = false;
    if (offset < walk->window_offset ||
        !base_in_range(offset - walk->window_offset, sizeof *record, walk->window_bytes)) {
        /* Look before reading much: mostly there is nothing. What the cache does not show as a
         * successor, the device does not have either. */
        size_t done = 0;
        const int error = os->read(region->file, offset, record, sizeof *record, &done);
        if (error) return base_fail_os(error, offset, "%s: cannot read its journal", region->path);
        if (done < sizeof *record || !walk_follows(walk, record)) return EVH_OK;
        const uint64_t bytes = base_max(record->record_bytes, PAGE_BYTES);
        const evh_status status =
            walk_read_window(walk, offset, base_min(bytes, limit - offset), limit);
        if (status || walk->window_bytes < sizeof *record) return status;
    }
    memcpy(record, walk->window + (offset - walk->window_offset), sizeof *record);
    *follows = walk_follows(walk, record);
    return EVH_OK;
}

static evh_status walk_corrupt(const struct record_walk *walk, uint64_t at, const char *what)
{
    assert(walk->record != NULL);
    assert(what != NULL);
    return base_fail(EVH_CORRUPT, walk->record_offset + at, "%s: journal: commit %llu: %s",
                     walk->journal->region->path, (unsigned long long)(walk->sequence + 1), what);
}

/* `end_bytes`: of the heap before this record. */
static bool walk_entry_is_sound(const struct journal_record *record,
                                const struct journal_entry *entry, const unsigned char *data,
                                uint64_t end_bytes)
{
    assert(record->entries_offset <= record->record_bytes);
    assert(data != NULL);
    const uint64_t at = (uint64_t)entry->data_offset * 8;
    switch (entry->kind) {
    case JOURNAL_ZERO: return entry->count == 0 && entry->data_offset == 0;
    case JOURNAL_HOME:
        return entry->count == 0 && entry->data_offset >= JOURNAL_SUM_FIRST &&
               entry->page >= end_bytes >> PAGE_SHIFT;
    case JOURNAL_IMAGE:
        return entry->count == 0 && at >= sizeof *record &&
               base_in_range(at, PAGE_BYTES, record->entries_offset);
    case JOURNAL_RANGES:
        return at >= sizeof *record && at < record->entries_offset &&
               page_ranges_are_sound(data + at, record->entries_offset - at, entry->count);
    default: return false;
    }
}

/* The content of a record whose checksums are right: a hostile file can have those too. */
static evh_status walk_check_content(const struct record_walk *walk)
{
    assert(walk->record_offset % PAGE_BYTES == 0);
    assert(walk_record(walk)->magic == JOURNAL_MAGIC);
    const struct journal_record *record = walk_record(walk);
    const struct region *region = walk->journal->region;
    if (record->entries_offset % 8 != 0 || record->entries_offset < sizeof *record ||
        !base_in_range(record->entries_offset,
                       (uint64_t)record->entry_count * sizeof(struct journal_entry),
                       record->record_bytes))
        return walk_corrupt(walk, offsetof(struct journal_record, entries_offset),
                            "its entries lie outside it");
    if (record->heap_bytes % SLICE_BYTES != 0 || record->heap_bytes < walk->state.heap_bytes ||
        record->heap_bytes > REGION_SIZE_MAX)
        return walk_corrupt(walk, offsetof(struct journal_record, heap_bytes),
                            "the heap cannot end there");
    if (record->catalog == 0 || record->catalog >= record->heap_bytes)
        return walk_corrupt(walk, offsetof(struct journal_record, catalog),
                            "the catalog cannot be there");
    uint32_t count = 0;
    const struct journal_entry *entries = walk_entries(walk, &count);
    uint64_t lowest = SLICE_PAGES;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t at = record->entries_offset + i * sizeof *entries;
        if (entries[i].page < lowest || entries[i].page >= record->heap_bytes >> PAGE_SHIFT ||
            region_is_journal(region, entries[i].page / SLICE_PAGES, NULL))
            return walk_corrupt(walk, at, "an entry names a page that it may not");
        if (!walk_entry_is_sound(record, &entries[i], walk->record, walk->state.heap_bytes))
            return walk_corrupt(walk, at, "an entry is malformed");
        lowest = entries[i].page + 1;
    }
    return EVH_OK;
}

/* Try the successor at `offset`, whose extent ends at `limit`. */
static evh_status walk_try(struct record_walk *walk, uint64_t offset, uint64_t limit, bool *found)
{
    assert(found != NULL);
    assert(offset % PAGE_BYTES == 0);
    struct journal_record record;
    bool follows = false;
    *found = false;
    if (limit < offset || limit - offset < PAGE_BYTES) return EVH_OK;
    evh_status status = walk_look(walk, offset, limit, &record, &follows);
    if (status || !follows) return status;
    const uint64_t bytes = record.record_bytes;
    if (bytes % PAGE_BYTES != 0 || bytes == 0 || bytes > limit - offset) return EVH_OK;
    if (!base_in_range(offset - walk->window_offset, bytes, walk->window_bytes)) {
        status = walk_read_window(walk, offset, bytes, limit);
        if (status) return status;
        if (walk->window_bytes < bytes || memcmp(walk->window, &record, sizeof record) != 0)
            return EVH_OK;
    }
    const unsigned char *start = walk->window + (offset - walk->window_offset);
    if (!PLANTED(7) &&
        base_crc32c(0, start + sizeof record, bytes - sizeof record) != record.body_crc)
        return EVH_OK;
    *found = true;
    walk->record = start;
    walk->record_offset = offset;
    return walk_check_content(walk);
}

evh_status walk_next(struct record_walk *walk, bool *found)
{
    assert(found != NULL);
    assert(walk->sequence >= walk->journal->region->header.sequence);
    struct region *region = walk->journal->region;
    const uint32_t extents = ring_extent_count(region);
    evh_status status = EVH_OK;
    *found = false;
    /* Behind the predecessor first, then at the start of every extent: the writer goes on in any of
     * them when the next one has no room. The chain tells a successor from everything else. */
    for (uint32_t i = 0; i < extents && !*found && !status; i++) {
        uint64_t first = 0, bytes = 0;
        ring_extent(region, i, &first, &bytes);
        if (walk->tail >= first && walk->tail <= first + bytes)
            status = walk_try(walk, walk->tail, first + bytes, found);
    }
    for (uint32_t i = 0; i < extents && !*found && !status; i++) {
        uint64_t first = 0, bytes = 0;
        ring_extent(region, i, &first, &bytes);
        if (walk->tail != first) status = walk_try(walk, first, first + bytes, found);
    }
    if (status) return status;
    if (!*found) return EVH_OK;
    const struct journal_record *record = walk_record(walk);
    walk->sequence = record->sequence;
    walk->salt = record->salt;
    walk->crc = record->header_crc;
    walk->tail = walk->record_offset + record->record_bytes;
    assert(walk->sequence > walk->journal->region->header.sequence);
    assert(walk->tail > walk->record_offset);
    walk->state = (struct journal_state){record->heap_bytes, record->catalog};
    walk->time_ns = record->time_ns;
    walk->durable = base_max(walk->durable, record->durable_sequence);
    return EVH_OK;
}

/* Look at the headers on the page boundaries of [from, end). */
static evh_status walk_look_later(const struct record_walk *walk, uint64_t from, uint64_t end,
                                  unsigned char *chunk, uint64_t *durable)
{
    assert(from % PAGE_BYTES == 0);
    assert(durable != NULL);
    struct region *region = walk->journal->region;
    for (uint64_t at = from; at < end; at += WALK_LATER_CHUNK) {
        const uint64_t size = base_min(WALK_LATER_CHUNK, end - at);
        size_t done = 0;
        if (walk->from_device) os->drop_cache(region->file, at, size);
        const int error = os->read(region->file, at, chunk, size, &done);
        if (error) return base_fail_os(error, at, "%s: cannot read its journal", region->path);
        for (uint64_t page = 0; page + PAGE_BYTES <= done; page += PAGE_BYTES) {
            struct journal_record record;
            memcpy(&record, chunk + page, sizeof record);
            if (!walk_is_header(walk, &record) || record.sequence <= walk->sequence) continue;
            *durable = base_max(*durable, record.durable_sequence);
        }
    }
    return EVH_OK;
}

evh_status walk_find_later(const struct record_walk *walk, uint64_t limit_bytes, uint64_t *durable)
{
    assert(limit_bytes >= PAGE_BYTES);
    assert(durable != NULL);
    const struct region *region = walk->journal->region;
    *durable = walk->durable;
    unsigned char *chunk = os->memory_allocate(WALK_LATER_CHUNK);
    if (!chunk)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to read its journal",
                         region->path);
    evh_status status = EVH_OK;
    for (uint32_t i = 0; i < ring_extent_count(region) && !status; i++) {
        uint64_t first = 0, bytes = 0;
        ring_extent(region, i, &first, &bytes);
        const uint64_t end = first + bytes;
        const bool has_tail = walk->tail > first && walk->tail < end;
        const uint64_t stop = has_tail ? walk->tail : end;
        status = walk_look_later(walk, first, first + base_min(limit_bytes, stop - first), chunk,
                                 durable);
        if (!status && has_tail)
            status = walk_look_later(walk, walk->tail,
                                     walk->tail + base_min(limit_bytes, end - walk->tail), chunk,
                                     durable);
    }
    os->memory_free(chunk);
    return status;
}

/* Whether a record that counts lies at `offset`. */
static bool walk_is_live(const struct journal *journal, uint64_t offset)
{
    assert(offset % PAGE_BYTES == 0);
    for (const struct journal_live *live = journal->live_first; live; live = live->next)
        if (offset >= live->offset && offset - live->offset < live->bytes) return true;
    return false;
}

/* Clear one place where a successor may lie. What is read from the device and does not follow is
 * left alone; of a cache that a killed process filled it is not known what the device has
 * instead. */
static evh_status walk_void_at(struct record_walk *walk, uint64_t offset, uint64_t limit)
{
    assert(walk->record_offset % PAGE_BYTES == 0);
    assert(offset % PAGE_BYTES == 0);
    static const struct journal_record nothing;
    struct region *region = walk->journal->region;
    struct journal_record record;
    size_t done = 0;
    if (limit < offset || limit - offset < PAGE_BYTES) return EVH_OK;
    if (walk_is_live(walk->journal, offset)) return EVH_OK;
    int error = os->read(region->file, offset, &record, sizeof record, &done);
    if (error) return base_fail_os(error, offset, "%s: cannot read its journal", region->path);
    if (walk->from_device && (done < sizeof record || !walk_follows(walk, &record))) return EVH_OK;
    const struct os_part part = {&nothing, sizeof nothing};
    bool flush_failed = false;
    error = os->write_sync(region->file, offset, &part, 1, &flush_failed);
    if (!error) return EVH_OK;
    return base_fail_os(error, offset, "%s: journal: cannot clear what a crash left of a commit",
                        region->path);
}

evh_status walk_void_torn(struct record_walk *walk)
{
    assert(walk->journal->region->mode == EVH_DURABLE);
    const struct region *region = walk->journal->region;
    evh_status status = EVH_OK;
    for (uint32_t i = 0; i < ring_extent_count(region) && !status; i++) {
        uint64_t first = 0, bytes = 0;
        ring_extent(region, i, &first, &bytes);
        status = walk_void_at(walk, first, first + bytes);
        if (!status && walk->tail > first && walk->tail < first + bytes)
            status = walk_void_at(walk, walk->tail, first + bytes);
    }
    return status;
}
