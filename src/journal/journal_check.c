/* journal_check.c -- verify what the journal keeps: header slots, records, page checksums. */
#include "journal/journal_internal.h"

/* Collects findings: the first becomes the result. */
struct check_report {
    struct journal *journal;
    evh_report *report;
    void *context;
    evh_error first; /* EVH_OK: none */
    bool is_stopped;
};

/* Report the thread's last error as a finding. */
static void check_found(struct check_report *check, const char *object)
{
    assert(object != NULL);
    assert(evh_last_error()->status != EVH_OK);
    const evh_error *error = evh_last_error();
    if (check->first.status == EVH_OK) check->first = *error;
    const evh_finding finding = {error->status, error->offset, object, error->message};
    if (check->report && !check->report(&finding, check->context)) check->is_stopped = true;
    if (!check->report) check->is_stopped = true;
}

static bool check_is_blank(const void *data, size_t size)
{
    assert(data != NULL);
    assert(size > 0);
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        if (bytes[i]) return false;
    return true;
}

static void check_headers(struct check_report *check)
{
    assert(check->journal->is_checkpointing);
    assert(region_has_file(check->journal->region));
    struct region *region = check->journal->region;
    /* Beside a reader the file grows, and a header tells of new extents whatever views there
     * are. */
    if (region->mode != EVH_DURABLE) (void)region_measure(region);
    for (unsigned slot = 0; slot < REGION_SLOT_COUNT && !check->is_stopped; slot++) {
        struct region_header header;
        size_t done = 0;
        const uint64_t offset = (uint64_t)slot * REGION_SLOT_STRIDE;
        const int error = os->read(region->file, offset, &header, sizeof header, &done);
        if (error || done < sizeof header)
            (void)base_fail_os(error ? error : EIO, offset, "%s: cannot read header slot %u",
                               region->path, slot);
        else if (check_is_blank(&header, sizeof header) && region->header.generation < 2)
            continue; /* not written yet */
        else if (!region_check_header(&header, region->path, offset, region_file_bytes(region)))
            continue;
        check_found(check, "header");
    }
}

static void check_records(struct check_report *check)
{
    assert(check->journal->is_checkpointing);
    assert(!check->is_stopped);
    struct journal *journal = check->journal;
    struct record_walk walk;
    walk_begin(&walk, journal);
    const uint64_t last = journal->has_view ? journal->view_sequence : journal->durable_sequence;
    bool found = true;
    while (walk.sequence < last && found && !check->is_stopped) {
        if (walk_next(&walk, &found)) {
            check_found(check, "journal");
            break;
        }
    }
    if (walk.sequence < last && !found) {
        (void)base_fail(EVH_CORRUPT, walk.tail, "%s: journal: the record of commit %llu is damaged",
                        journal->region->path, (unsigned long long)walk.sequence + 1);
        check_found(check, "journal");
    }
    walk_end(&walk);
}

/* Whether the journal, and not home, says what is on a page. */
static bool check_is_covered(struct journal *journal, uint64_t page)
{
    assert(page >= SLICE_PAGES);
    assert(!journal->has_view || journal->region->mode != EVH_DURABLE);
    if (journal->has_view)
        return bits_has(&journal->overlaid, page) || bits_has(&journal->at_home, page);
    const struct journal_node *node = index_find(&journal->index, page);
    return node && !bulk_is_at_home(node);
}

/* Pages that live records name at home have their checksums there, until a checkpoint brings these
 * home as well. */
static void check_take_sums(struct journal *journal, uint64_t first, uint32_t sums[SLICE_PAGES])
{
    assert(first % SLICE_PAGES == 0);
    if (journal->has_view || journal->index.node_count == 0) return;
    assert(journal->region->mode == EVH_DURABLE);
    for (uint64_t i = 0; i < SLICE_PAGES; i++) {
        const struct journal_node *node = index_find(&journal->index, first + i);
        if (node && bulk_is_at_home(node)) sums[i] = node->checksum;
    }
}

/* Whether a page is what its checksum says. */
static bool check_page_is_sound(const struct region *region, uint64_t page,
                                const unsigned char *image, uint32_t sum)
{
    assert(page >= SLICE_PAGES);
    assert(image != NULL);
    if (sum == JOURNAL_SUM_UNKNOWN) return true;
    if (sum == JOURNAL_SUM_NONE) return page_is_zero(image);
    return page_checksum(region->header.uuid, page, image) == sum;
}

/* Verify the homes of one slice. `buffer` holds SLICE_BYTES. With `all`, also of pages that have no
 * checksum: of a slice that was never written, that is a read for nothing when a heap is opened. */
static evh_status check_slice(struct journal *journal, uint64_t slice, bool all,
                              unsigned char *buffer)
{
    assert(slice < region_file_bytes(journal->region) >> SLICE_SHIFT);
    assert(slice > 0);
    assert(buffer != NULL);
    struct region *region = journal->region;
    uint32_t sums[SLICE_PAGES];
    const uint64_t first = slice * SLICE_PAGES;
    const uint64_t at = checksum_offset(&journal->checksums, first);
    size_t done = 0;
    if (at == 0) return EVH_OK;
    int error = os->read(region->file, at, sums, sizeof sums, &done);
    if (error || done < sizeof sums)
        return base_fail_os(error ? error : EIO, at, "%s: cannot read page checksums",
                            region->path);
    check_take_sums(journal, first, sums);
    if (!all && check_is_blank(sums, sizeof sums)) return EVH_OK;
    error = os->read(region->file, slice << SLICE_SHIFT, buffer, SLICE_BYTES, &done);
    if (error || done < SLICE_BYTES)
        return base_fail_os(error ? error : EIO, slice << SLICE_SHIFT, "%s: cannot read a slice",
                            region->path);
    for (uint64_t i = 0; i < SLICE_PAGES; i++) {
        if ((!all && sums[i] == JOURNAL_SUM_NONE) || check_is_covered(journal, first + i)) continue;
        if (!check_page_is_sound(region, first + i, buffer + (i << PAGE_SHIFT), sums[i]))
            return base_fail(EVH_CORRUPT, (first + i) << PAGE_SHIFT,
                             "%s: page %llu does not match its checksum (at %llu): damaged on the "
                             "disk",
                             region->path, (unsigned long long)(first + i),
                             (unsigned long long)(at + i * 4));
    }
    return EVH_OK;
}

evh_status journal_verify_slice(struct journal *journal, uint64_t slice)
{
    assert(journal != NULL);
    uint64_t behind = 0;
    if (slice == 0 || checkpoint_owns_slice(journal, slice, &behind)) return EVH_OK;
    unsigned char *buffer = os->memory_allocate(SLICE_BYTES);
    if (!buffer) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to verify a slice");
    os->mutex_lock(journal->mutex);
    const uint64_t end =
        base_min(journal->last_state.heap_bytes, region_file_bytes(journal->region));
    const evh_status status =
        slice < end >> SLICE_SHIFT ? check_slice(journal, slice, false, buffer) : EVH_OK;
    os->mutex_unlock(journal->mutex);
    os->memory_free(buffer);
    return status;
}

static void check_pages(struct check_report *check)
{
    assert(!check->is_stopped);
    assert(check->journal->is_checkpointing);
    struct journal *journal = check->journal;
    struct region *region = journal->region;
    unsigned char *buffer = os->memory_allocate(SLICE_BYTES);
    if (!buffer) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to verify pages");
        check_found(check, "page");
        return;
    }
    const uint64_t end = base_min(journal->last_state.heap_bytes, region_file_bytes(region));
    for (uint64_t slice = 1; slice < end >> SLICE_SHIFT && !check->is_stopped; slice++) {
        uint64_t behind = 0;
        if (checkpoint_owns_slice(journal, slice, &behind)) {
            slice = behind - 1;
            continue;
        }
        os->mutex_lock(journal->mutex);
        const evh_status status = check_slice(journal, slice, true, buffer);
        os->mutex_unlock(journal->mutex);
        if (status) check_found(check, "page");
    }
    os->memory_free(buffer);
}

evh_status journal_check(struct journal *journal, evh_report *report, void *context)
{
    assert(journal->region != NULL);
    struct check_report check = {.journal = journal, .report = report, .context = context};
    /* No checkpoint meanwhile: header, records and homes stand still. */
    os->mutex_lock(journal->mutex);
    checkpoint_claim(journal);
    os->mutex_unlock(journal->mutex);
    check_headers(&check);
    if (!check.is_stopped) check_records(&check);
    if (!check.is_stopped) check_pages(&check);
    assert(!check.is_stopped || check.first.status != EVH_OK);
    os->mutex_lock(journal->mutex);
    checkpoint_release(journal);
    os->mutex_unlock(journal->mutex);
    if (check.first.status == EVH_OK) return EVH_OK;
    if (!journal_view_valid(journal))
        return base_fail(EVH_STALE, NO_OFFSET,
                         "%s: the view of commit %llu was revoked while it was checked: refresh it",
                         journal->region->path, (unsigned long long)journal->view_sequence);
    return base_fail(check.first.status, check.first.offset, "%s", check.first.message);
}
