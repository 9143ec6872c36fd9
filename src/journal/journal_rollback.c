/* journal_rollback.c -- undo; and commits of the library's own: patches, and holes. */
#include "journal/journal_internal.h"

/* Put one page back to the last begun commit. */
static void rollback_page(struct journal *journal, uint64_t page)
{
    assert(page >= SLICE_PAGES);
    assert(journal->watch != NULL);
    struct region *region = journal->region;
    const struct journal_node *node = index_find(&journal->index, page);
    if (node) {
        page_compose(journal, node, page, region->base + (page << PAGE_SHIFT));
        return;
    }
    /* No live record changed it: without its private copy it shows its home. The system refuses to
     * drop a locked page (mlock): then the copy becomes what its home is. */
    unsigned char *address = region->base + (page << PAGE_SHIFT);
    if (os->discard(address, PAGE_BYTES))
        memcpy(address, region->home + (page << PAGE_SHIFT), PAGE_BYTES);
    else
        os->watch_discarded(journal->watch, page << PAGE_SHIFT, PAGE_BYTES);
}

/* With the mutex held and all threads still. */
static evh_status rollback_pages(struct journal *journal)
{
    assert(journal_is_sound(journal));
    assert(journal->built == NULL);
    struct region *region = journal->region;
    bool is_exact = false;
    evh_status status = collect_dirty(journal, &is_exact);
    if (status) return status;
    const uint64_t limit = region->mapped_bytes >> PAGE_SHIFT;
    for (size_t i = 0; i < journal->carry.count; i++) {
        const struct os_pages run = journal->carry.runs[i];
        for (uint64_t page = run.first; page < base_min(run.first + run.count, limit); page++) {
            uint64_t behind = 0;
            if (region_is_journal(region, page / SLICE_PAGES, &behind)) {
                page = behind * SLICE_PAGES - 1;
                continue;
            }
            rollback_page(journal, page);
        }
    }
    /* It is done, and must not fail any more. A private page that is not noted is never given up;
     * what was just put back counts as written, and what this does not pass over is compared
     * later. */
    (void)bits_add(&journal->private_pages, journal->carry.runs, journal->carry.count);
    journal->carry.count = 0;
    (void)collect_dirty(journal, &is_exact);
    journal->carry.count = 0;
    return EVH_OK;
}

evh_status journal_rollback(struct journal *journal, struct journal_state *state)
{
    assert(state != NULL);
    os->mutex_lock(journal->mutex);
    assert(journal->built == NULL);
    evh_status status = flush_poisoned(journal);
    if (!status) status = rollback_pages(journal);
    if (!status) *state = journal->last_state;
    journal->sums_heap_bytes = 0; /* the segments made since are gone */
    os->mutex_unlock(journal->mutex);
    return status;
}

evh_status journal_committed_page(struct journal *journal, uint64_t page,
                                  unsigned char image[PAGE_BYTES])
{
    assert(image != NULL);
    assert(page >= SLICE_PAGES);
    os->mutex_lock(journal->mutex);
    const struct journal_node *node = index_find(&journal->index, page);
    evh_status status = EVH_OK;
    if (!node && page >= region_file_bytes(journal->region) >> PAGE_SHIFT)
        status = base_fail(EVH_INVALID, page << PAGE_SHIFT, "%s: the file ends before page %llu",
                           journal->region->path, (unsigned long long)page);
    if (!status) page_compose(journal, node, page, image);
    os->mutex_unlock(journal->mutex);
    return status;
}

/* ---- patches ---- */

/* Build the record of the patched pages: committed content, with the words changed. */
static evh_status patch_build(struct journal *journal, const struct journal_word *words,
                              size_t word_count)
{
    assert(journal_is_sound(journal));
    assert(word_count > 0);
    assert(words != NULL);
    struct journal_pending *pending = commit_new_pending(journal, word_count, 0);
    if (!pending) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to mark free space");
    struct commit_builder builder;
    commit_builder_begin(&builder, journal, pending, word_count);
    unsigned char image[PAGE_BYTES];
    for (size_t i = 0; i < word_count;) {
        const uint64_t page = words[i].offset >> PAGE_SHIFT;
        if (page >= journal->last_state.heap_bytes >> PAGE_SHIFT) {
            pending_end(pending, journal);
            return base_fail(EVH_INVALID, words[i].offset,
                             "%s: a mark beyond the end of the last commit", journal->region->path);
        }
        page_compose(journal, index_find(&journal->index, page), page, image);
        for (; i < word_count && words[i].offset >> PAGE_SHIFT == page; i++) {
            assert(words[i].offset % 8 == 0);
            memcpy(image + words[i].offset % PAGE_BYTES, &words[i].value, sizeof words[i].value);
        }
        commit_page(&builder, page, image);
    }
    if (pending->entry_count == 0) {
        pending_end(pending, journal);
        return EVH_OK;
    }
    const struct journal_state state = journal->last_state;
    commit_builder_end(&builder, &state);
    journal->built = pending;
    (void)commit_hand_out(journal);
    return EVH_OK;
}

static void patch_release(void *context)
{
    assert(context == NULL);
    (void)context;
}

evh_status journal_patch(struct journal *journal, const struct journal_word *words,
                         size_t word_count)
{
    assert(words != NULL);
    os->mutex_lock(journal->mutex);
    assert(journal->built == NULL);
    evh_status status = flush_poisoned(journal);
    if (!status) status = journal_reserve_failures(journal);
    if (!status) status = patch_build(journal, words, word_count);
    const uint64_t ticket = journal->built ? journal->built->ticket : 0;
    os->mutex_unlock(journal->mutex);
    if (status || !ticket) return status;
    status = journal_write(journal, ticket, true, patch_release, NULL);
    if (status) return status;
    os->mutex_lock(journal->mutex);
    journal->patch_sequence = journal->durable_sequence;
    os->mutex_unlock(journal->mutex);
    for (size_t i = 0; i < word_count; i++)
        memcpy(journal->region->base + words[i].offset, &words[i].value, sizeof words[i].value);
    return EVH_OK;
}

/* ---- holes ---- */

/* Before space is given back its checksums must say "unknown", durably: the pages will read as
 * zeroes. Header and home are claimed. */
static evh_status punch_checksums(struct journal *journal,
                                  const struct journal_checksums *checksums,
                                  const struct journal_run *runs, size_t count)
{
    assert(journal->is_checkpointing);
    assert(count > 0);
    struct checksum_writer sums = {.region = journal->region, .checksums = checksums};
    evh_status status = EVH_OK;
    for (size_t i = 0; i < count && !status; i++) {
        const uint64_t end = (runs[i].offset + runs[i].size) >> PAGE_SHIFT;
        for (uint64_t page = runs[i].offset >> PAGE_SHIFT; page < end && !status; page++)
            status = checksum_put(&sums, page, JOURNAL_SUM_UNKNOWN);
    }
    if (!status) status = checksum_finish(&sums);
    if (status) return status;
    const int error = os->flush(journal->region->file);
    if (!error) return EVH_OK;
    (void)base_fail_os(error, runs[0].offset, "%s: a flush failed", journal->region->path);
    return flush_poison_unlocked(journal);
}

static evh_status punch_run(struct journal *journal, const struct journal_run *run)
{
    struct region *region = journal->region;
    assert(run->offset % SLICE_BYTES == 0);
    assert(run->size % SLICE_BYTES == 0);
    (void)os->discard(region->base + run->offset, run->size);
    os->watch_discarded(journal->watch, run->offset, run->size);
    const int error = os->punch(region->file, run->offset, run->size);
    if (!error) return EVH_OK;
    return base_fail_os(error, run->offset, "%s: cannot give space back", region->path);
}

/* A process that is killed before the holes are durable leaves a cache that shows them and a disk
 * that may not: while that is so, the status page says that the cache is not to be believed, and
 * the successor flushes. Its commits' ranges would be laid over what was there before. The mutex is
 * held. */
static void punch_announce(struct journal *journal, bool is_under_way)
{
    struct region_status *status = &journal->region->status;
    assert(journal->is_checkpointing);
    if (is_under_way || !os->boot(status->boot)) memset(status->boot, 0, sizeof status->boot);
    region_publish_status(journal->region);
}

/* Whatever was punched is made durable before anything is written over it. */
static evh_status punch_runs(struct journal *journal, const struct journal_run *runs, size_t count,
                             uint64_t *freed_bytes)
{
    struct region *region = journal->region;
    evh_status status = EVH_OK;
    assert(count > 0);
    for (size_t i = 0; i < count && !status; i++) {
        status = punch_run(journal, &runs[i]);
        if (!status) *freed_bytes += runs[i].size;
    }
    const evh_error failure = *evh_last_error();
    const int error = os->flush(region->lock_file);
    if (error) {
        (void)base_fail_os(error, runs[0].offset, "%s: trim: the flush failed", region->path);
        return flush_poison_unlocked(journal);
    }
    return status ? base_fail(failure.status, failure.offset, "%s", failure.message) : EVH_OK;
}

evh_status journal_punch(struct journal *journal, const struct journal_run *runs, size_t count,
                         uint64_t *freed_bytes)
{
    assert(journal->watch != NULL);
    assert(count > 0);
    struct region *region = journal->region;
    os->mutex_lock(journal->mutex);
    evh_status status = flush_poisoned(journal);
    checkpoint_claim(journal);
    struct journal_checksums checksums;
    if (!status) status = checksum_snapshot(journal, &checksums);
    const bool has_checksums = !status;
    /* Every valid view is at least as new as the header. It must be newer than the commit that says
     * these slices are holes. */
    if (!status && region->header.sequence < journal->patch_sequence)
        status = base_fail(EVH_BUSY, runs[0].offset,
                           "%s: a reader's view is older than its free space", region->path);
    if (!status) punch_announce(journal, true);
    const bool is_announced = !status;
    os->mutex_unlock(journal->mutex);
    if (!status) status = punch_checksums(journal, &checksums, runs, count);
    if (!status) status = punch_runs(journal, runs, count, freed_bytes);
    os->mutex_lock(journal->mutex);
    if (is_announced && !journal->is_poisoned) punch_announce(journal, false);
    if (has_checksums) checksum_snapshot_end(&checksums);
    checkpoint_release(journal);
    os->mutex_unlock(journal->mutex);
    return status;
}
