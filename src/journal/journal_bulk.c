/* journal_bulk.c -- many new pages are written home at once, and not through the journal.
 *
 * Behind the end of the last commit's heap no commit and no view sees what the file holds. Pages
 * that a commit adds there need not be written twice. The order, each step after the one before is
 * durable or done:
 *   1. what was begun before is durable: "the end" is that of the last commit
 *   2. the header's mark: from the end up to the mark, the file may hold anything
 *   3. write the pages home, into the cache: from the working mapping, while all threads are still
 *   4. flush
 *   5. the record, which names each page and its checksum: the commit point, as ever
 *
 * The mark goes with a checkpoint of that record. Until then:
 *   - after a crash before 5, recovery zeroes the file from the end of the chain up to the mark,
 *     durably, before anything grows there again
 *   - a commit that fails after 3 does the same at once, or the heap is poisoned
 * Otherwise a page that is never stored to, and that therefore no record names, would not be zero.
 * A library that does not know such records refuses a file with a mark (REGION_FEATURE_BULK).
 *
 * Cost, estimated: per page 0.3 us to copy and checksum it and 0.5 us for the write into the cache;
 * the device works meanwhile. Two flushes more than another commit, and the page's second write
 * less.
 */
#include "journal/journal_internal.h"

/*
 * 8 MiB. Below, what the two flushes cost is more than what writing once saves
 * (docs/decisions/0014).
 */
EVH_INTERNAL uint64_t journal_bulk_pages_min = 2048;

enum {
    BULK_WRITE_BACK_BYTES = 4 << 20, /* handed to the device at once */
    BULK_ZERO_CHUNK = 256 * 1024,
};

/* ---- which commits ---- */

/* Pages of [first, limit) that are in the carry. */
static uint64_t bulk_count(const struct journal *journal, uint64_t first, uint64_t limit)
{
    uint64_t count = 0;
    for (size_t i = 0; i < journal->carry.count; i++) {
        const struct os_pages run = journal->carry.runs[i];
        const uint64_t from = base_max(run.first, first);
        const uint64_t to = base_min(run.first + run.count, limit);
        if (from < to) count += to - from;
    }
    assert(count <= pages_count(&journal->carry));
    assert(count <= limit - base_min(first, limit));
    return count;
}

/* Whether enough of them hold something: where the watch is not exact it names more pages than were
 * stored to. */
static bool bulk_is_worth_it(const struct journal *journal, uint64_t first, uint64_t limit)
{
    assert(journal->built == NULL);
    assert(first < limit);
    uint64_t count = 0;
    for (size_t i = 0; i < journal->carry.count; i++) {
        const struct os_pages run = journal->carry.runs[i];
        const uint64_t to = base_min(run.first + run.count, limit);
        for (uint64_t page = base_max(run.first, first); page < to; page++) {
            uint64_t behind = 0;
            if (checkpoint_owns_slice(journal, page / SLICE_PAGES, &behind))
                page = behind * SLICE_PAGES - 1;
            else if (!page_is_zero(journal->region->base + (page << PAGE_SHIFT)) &&
                     ++count >= journal_bulk_pages_min)
                return true;
        }
    }
    return false;
}

/* Step 2. The mutex is held, and released meanwhile. */
static evh_status bulk_mark(struct journal *journal, uint64_t end_bytes)
{
    struct region *region = journal->region;
    assert(end_bytes % SLICE_BYTES == 0);
    assert(end_bytes > journal->last_state.heap_bytes);
    checkpoint_claim(journal);
    evh_status status = flush_poisoned(journal);
    const bool is_marked = (region->header.incompatible & REGION_FEATURE_BULK) &&
                           region->header.bulk_bytes >= end_bytes;
    if (!status && !is_marked && !PLANTED(24)) {
        struct region_header next = region->header;
        next.incompatible |= REGION_FEATURE_BULK;
        next.bulk_bytes = end_bytes;
        os->mutex_unlock(journal->mutex);
        status = ring_write_header(journal, &next);
        os->mutex_lock(journal->mutex);
    }
    if (!status) journal->bulk_is_under_way = true;
    checkpoint_release(journal);
    return status;
}

evh_status bulk_begin(struct journal *journal, const struct journal_state *state, bool is_exact,
                      struct bulk *bulk)
{
    assert(journal_is_sound(journal));
    assert(state->heap_bytes >= journal->last_state.heap_bytes);
    assert(!journal->bulk_is_under_way);
    const uint64_t limit = state->heap_bytes >> PAGE_SHIFT;
    const uint64_t first = journal->last_state.heap_bytes >> PAGE_SHIFT;
    const uint64_t count = bulk_count(journal, first, limit);
    *bulk = (struct bulk){.first = limit, .end_bytes = state->heap_bytes};
    if (count < journal_bulk_pages_min || count == 0) return EVH_OK;
    if (!is_exact && !bulk_is_worth_it(journal, first, limit)) return EVH_OK;
    evh_status status = flush_all(journal);
    if (!status) status = bulk_mark(journal, state->heap_bytes);
    if (status) return status;
    assert(journal->last_state.heap_bytes >> PAGE_SHIFT == first);
    assert(journal->pending_first == NULL);
    bulk->first = first;
    bulk->page_count = count;
    return EVH_OK;
}

/* ---- writing ---- */

/* Neighbours that are written together. */
struct bulk_writer {
    struct commit_builder *builder;
    unsigned char *buffer; /* JOURNAL_HOME_RUN_BYTES */
    uint64_t first;        /* page */
    uint64_t bytes;
    uint64_t handed; /* to the device, up to this offset */
};

static evh_status bulk_write_run(struct bulk_writer *writer)
{
    const struct region *region = writer->builder->journal->region;
    assert(writer->bytes <= JOURNAL_HOME_RUN_BYTES);
    assert(writer->bytes % PAGE_BYTES == 0);
    const uint64_t offset = writer->first << PAGE_SHIFT;
    const uint64_t end = offset + writer->bytes;
    if (writer->bytes == 0) return EVH_OK;
    const int error = os->write(region->file, offset, writer->buffer, writer->bytes);
    if (error) return base_fail_os(error, offset, "%s: cannot write a commit", region->path);
    writer->bytes = 0;
    if (end - writer->handed >= BULK_WRITE_BACK_BYTES) {
        os->write_back(region->file, writer->handed, end - writer->handed);
        writer->handed = end;
    }
    return EVH_OK;
}

/* One page. What is zero is zero at home already, and needs no entry. */
static evh_status bulk_write_page(struct bulk_writer *writer, uint64_t page)
{
    const struct region *region = writer->builder->journal->region;
    assert((page + 1) << PAGE_SHIFT <= region->mapped_bytes);
    assert(writer->bytes == 0 || page >= writer->first + (writer->bytes >> PAGE_SHIFT));
    const unsigned char *image = region->base + (page << PAGE_SHIFT);
    if (page_is_zero(image)) return EVH_OK;
    if (writer->bytes == JOURNAL_HOME_RUN_BYTES ||
        page != writer->first + (writer->bytes >> PAGE_SHIFT)) {
        const evh_status status = bulk_write_run(writer);
        if (status) return status;
    }
    if (writer->bytes == 0) writer->first = page;
    /* The checksum is that of the bytes that are written, also if the program breaks its promise
     * and stores meanwhile. */
    unsigned char *copy = writer->buffer + writer->bytes;
    memcpy(copy, image, PAGE_BYTES);
    commit_home(writer->builder, page, page_checksum(region->header.uuid, page, copy));
    writer->bytes += PAGE_BYTES;
    return EVH_OK;
}

static evh_status bulk_write_pages(struct bulk_writer *writer, uint64_t page, uint64_t end)
{
    const struct journal *journal = writer->builder->journal;
    assert(journal->bulk_is_under_way);
    evh_status status = EVH_OK;
    while (page < end && !status) {
        uint64_t behind = 0;
        if (checkpoint_owns_slice(journal, page / SLICE_PAGES, &behind)) {
            page = behind * SLICE_PAGES;
            continue;
        }
        const uint64_t stop = base_min(end, (page / SLICE_PAGES + 1) * SLICE_PAGES);
        assert(stop > page);
        for (; page < stop && !status; page++) status = bulk_write_page(writer, page);
    }
    return status;
}

evh_status bulk_write(struct commit_builder *builder, const struct bulk *bulk)
{
    struct journal *journal = builder->journal;
    struct journal_pending *pending = builder->pending;
    assert(journal->bulk_is_under_way);
    assert(bulk->page_count > 0);
    const uint32_t before = pending->entry_count;
    struct bulk_writer writer = {.builder = builder, .handed = bulk->first << PAGE_SHIFT};
    writer.buffer = os->memory_allocate(JOURNAL_HOME_RUN_BYTES);
    if (!writer.buffer)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to commit",
                         journal->region->path);
    /* Nothing is pending that could fail and change the carry. */
    os->mutex_unlock(journal->mutex);
    const uint64_t limit = bulk->end_bytes >> PAGE_SHIFT;
    evh_status status = EVH_OK;
    for (size_t i = 0; i < journal->carry.count && !status; i++) {
        const struct os_pages run = journal->carry.runs[i];
        const uint64_t end = base_min(run.first + run.count, limit);
        status = bulk_write_pages(&writer, base_max(run.first, bulk->first), end);
    }
    if (!status) status = bulk_write_run(&writer);
    os->memory_free(writer.buffer);
    os->mutex_lock(journal->mutex);
    if (status) return status;
    assert(pending->entry_count - before <= bulk->page_count);
    if (pending->entry_count > before)
        pending->bulk_bytes = bulk->end_bytes;
    else
        journal->bulk_is_under_way = false;
    return EVH_OK;
}

/* ---- what is left behind ---- */

int bulk_write_zeroes(const struct region *region, uint64_t offset, uint64_t size)
{
    assert(offset % PAGE_BYTES == 0);
    assert(size > 0);
    unsigned char *zeroes = os->memory_allocate(BULK_ZERO_CHUNK);
    if (!zeroes) return ENOMEM;
    int error = 0;
    for (uint64_t done = 0; done < size && !error; done += BULK_ZERO_CHUNK)
        error =
            os->write(region->file, offset + done, zeroes, base_min(BULK_ZERO_CHUNK, size - done));
    os->memory_free(zeroes);
    return error;
}

evh_status bulk_zero(const struct region *region, uint64_t from, uint64_t end, bool keeps_space)
{
    assert(from % SLICE_BYTES == 0);
    assert(end % SLICE_BYTES == 0);
    if (from >= end) return EVH_OK;
    int error = 0;
    for (uint64_t slice = from >> SLICE_SHIFT; slice < end >> SLICE_SHIFT && !error;) {
        uint64_t behind = 0;
        if (region_is_journal(region, slice, &behind)) {
            slice = behind;
            continue;
        }
        uint64_t stop = slice + 1;
        while (stop < end >> SLICE_SHIFT && !region_is_journal(region, stop, NULL)) stop++;
        const uint64_t offset = slice << SLICE_SHIFT;
        const uint64_t size = (stop - slice) << SLICE_SHIFT;
        error = os->punch(region->file, offset, size);
        if (error == EOPNOTSUPP) error = bulk_write_zeroes(region, offset, size);
        /* The space was there. If it is gone now, a later write meets the full disk and says so. */
        if (!error && keeps_space) (void)os->allocate(region->file, offset, size);
        slice = stop;
    }
    if (!error) error = os->flush(region->file);
    if (!error) return EVH_OK;
    return base_fail_os(error, from, "%s: cannot take back what a failed commit has written",
                        region->path);
}

void bulk_clear(struct journal *journal, uint64_t end_bytes)
{
    assert(end_bytes % SLICE_BYTES == 0);
    assert(evh_last_error()->status != EVH_OK);
    journal->bulk_is_under_way = false;
    if (journal->is_poisoned || PLANTED(23)) return; /* reopening does it */
    const evh_error failure = *evh_last_error();
    if (bulk_zero(journal->region, journal->last_state.heap_bytes, end_bytes, true))
        (void)flush_poison(journal);
    (void)base_fail(failure.status, failure.offset, "%s", failure.message);
}

evh_status bulk_recover(struct journal *journal, uint64_t heap_bytes)
{
    const struct region *region = journal->region;
    assert(region->mode == EVH_DURABLE);
    assert(journal->watch == NULL);
    if (!(region->header.incompatible & REGION_FEATURE_BULK) || PLANTED(23)) return EVH_OK;
    /* Behind its end a file is zero, whatever the mark says. The region knows of whole slices only:
     * the power may have gone in the middle of one. */
    struct os_file_info info;
    const int error = os->information(region->file, &info);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot ask for its size", region->path);
    const uint64_t file_bytes = base_round_up(info.size_bytes, SLICE_BYTES);
    return bulk_zero(region, heap_bytes, base_min(region->header.bulk_bytes, file_bytes), true);
}

bool bulk_is_over(const struct journal *journal, uint64_t sequence)
{
    assert(sequence <= journal->durable_sequence);
    assert(journal->bulk_sequence <= journal->begun_sequence + 1);
    if (!(journal->region->header.incompatible & REGION_FEATURE_BULK)) return false;
    return !journal->bulk_is_under_way && journal->bulk_sequence <= sequence;
}

void bulk_unmark(struct region_header *next)
{
    assert(next->magic == REGION_MAGIC);
    assert(next->incompatible & REGION_FEATURE_BULK);
    next->incompatible &= ~(uint64_t)REGION_FEATURE_BULK;
    next->bulk_bytes = 0;
}
