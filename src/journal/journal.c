/* journal.c -- create, open and close a journal; what it can tell about itself. */
#include "journal/journal_internal.h"

enum {
    JOURNAL_CHECKPOINT_DEFAULT = 16 << 20,
    JOURNAL_MAX_DEFAULT = 64 << 20,
    JOURNAL_PRIVATE_DEFAULT = 512 << 20,
    /* Where every private page is compared at every commit, few are kept. */
    JOURNAL_PRIVATE_INEXACT = 4 << 20,
};

static struct journal *journal_new(struct region *region, const evh_options *options)
{
    assert(region != NULL);
    assert(options != NULL);
    struct journal *journal = os->memory_allocate(sizeof *journal);
    if (!journal || os->mutex_create(&journal->mutex)) {
        os->memory_free(journal);
        return NULL;
    }
    journal->region = region;
    journal->options = *options;
    evh_options *o = &journal->options;
    if (!o->checkpoint_bytes) o->checkpoint_bytes = JOURNAL_CHECKPOINT_DEFAULT;
    if (!o->journal_max_bytes) o->journal_max_bytes = JOURNAL_MAX_DEFAULT;
    if (!o->private_max_bytes) o->private_max_bytes = JOURNAL_PRIVATE_DEFAULT;
    journal->index.free_list = JOURNAL_NO_NODE;
    return journal;
}

void journal_abandon(struct journal *journal)
{
    if (!journal) return;
    checkpoint_stop(journal);
    assert(journal->thread == NULL);
    if (journal->watch) os->watch_close(journal->watch);
    while (journal->pending_first) {
        struct journal_pending *pending = journal->pending_first;
        journal->pending_first = pending->next;
        pending->live = NULL; /* in the list below */
        pending_end(pending, journal);
    }
    while (journal->live_first) {
        struct journal_live *live = journal->live_first;
        journal->live_first = live->next;
        os->memory_free(live);
    }
    index_end(&journal->index);
    os->memory_free(journal->checksums.slices);
    pages_end(&journal->carry);
    bits_end(&journal->private_pages);
    bits_end(&journal->overlaid);
    bits_end(&journal->at_home);
    os->memory_free(journal->spare);
    os->memory_free(journal->failure);
    os->mutex_end(journal->mutex);
    os->memory_free(journal);
}

static evh_status journal_no_memory(const struct region *region)
{
    assert(region != NULL);
    assert(region->path != NULL);
    return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory for its journal", region->path);
}

/* ---- watching ---- */

struct journal_watch_run {
    struct journal *journal;
    uint64_t from;
    int error;
};

static void journal_watch_one(uint64_t offset, uint64_t size, void *context)
{
    assert(size > 0);
    assert(offset % SLICE_BYTES == 0);
    struct journal_watch_run *run = context;
    const uint64_t from = base_max(offset, run->from);
    if (run->error || from >= offset + size) return;
    run->error = os->watch_add(run->journal->watch, from, offset + size - from);
}

struct journal_state journal_last_state(struct journal *journal)
{
    assert(journal != NULL);
    os->mutex_lock(journal->mutex);
    const struct journal_state state = journal->last_state;
    os->mutex_unlock(journal->mutex);
    assert(state.heap_bytes % SLICE_BYTES == 0);
    return state;
}

static evh_status journal_watch_grown(struct journal *journal, uint64_t from)
{
    assert(from <= journal->region->mapped_bytes);
    assert(from % SLICE_BYTES == 0);
    if (!journal->watch) return EVH_OK;
    struct journal_watch_run run = {journal, from, 0};
    region_each_run(journal->region, journal->region->mapped_bytes, journal_watch_one, &run);
    if (run.error)
        return base_fail_os(run.error, from, "%s: cannot watch its new pages",
                            journal->region->path);
    return EVH_OK;
}

evh_status journal_region_grew(struct journal *journal, uint64_t from)
{
    assert(journal != NULL);
    assert(journal->watch == NULL || journal->region->mode == EVH_DURABLE);
    os->mutex_lock(journal->mutex); /* nobody collects meanwhile */
    const evh_status status = journal_watch_grown(journal, from);
    os->mutex_unlock(journal->mutex);
    return status;
}

static evh_status journal_watch(struct journal *journal)
{
    assert(journal->watch == NULL);
    struct region *region = journal->region;
    assert(region->mode == EVH_DURABLE);
    const int error = os->watch_open(region->base, region->reserved_bytes, journal->options.detect,
                                     journal->options.guards, &journal->watch);
    if (error == ENOTSUP)
        return base_fail(EVH_UNSUPPORTED, NO_OFFSET,
                         "%s: this system cannot find dirty pages in the way that was asked for",
                         region->path);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot watch its pages", region->path);
    const evh_detect tier = os->watch_tier(journal->watch);
    if (tier == EVH_DETECT_SCAN || tier == EVH_DETECT_PAGEMAP)
        journal->options.private_max_bytes =
            base_min(journal->options.private_max_bytes, JOURNAL_PRIVATE_INEXACT);
    return journal_watch_grown(journal, 0);
}

/* ---- creating ---- */

/* The whole new file in one piece, zeroes included, so that the file system keeps it in one piece
 * too: what the heap layer has filled, and before it slice 0, empty but for the checksums. */
static evh_status create_write_pages(struct region *region, uint64_t heap_bytes)
{
    assert(heap_bytes >= REGION_NEW_BYTES);
    assert(heap_bytes <= PAGE_BYTES / 4 * PAGE_BYTES);
    unsigned char *bytes = os->memory_allocate(heap_bytes);
    if (!bytes) return journal_no_memory(region);
    uint32_t *sums = (uint32_t *)(void *)(bytes + REGION_CHECKSUM_OFFSET);
    memcpy(bytes + SLICE_BYTES, region->base + SLICE_BYTES, heap_bytes - SLICE_BYTES);
    for (uint64_t page = SLICE_PAGES; page < heap_bytes >> PAGE_SHIFT; page++) {
        const unsigned char *image = bytes + (page << PAGE_SHIFT);
        if (!page_is_zero(image)) sums[page] = page_checksum(region->header.uuid, page, image);
    }
    int error = os->write(region->file, 0, bytes, heap_bytes);
    os->memory_free(bytes);
    if (!error) error = os->flush(region->file);
    if (!error) return EVH_OK;
    return base_fail_os(error, NO_OFFSET, "%s: cannot write the new heap", region->path);
}

evh_status journal_create(struct region *region, const struct journal_state *state,
                          const evh_options *options, struct journal **out)
{
    assert(state->heap_bytes <= region->mapped_bytes);
    assert(out != NULL);
    assert(region->mode == EVH_DURABLE);
    assert(state->catalog != 0);
    evh_status status = create_write_pages(region, state->heap_bytes);
    if (status) return status;
    struct region_header next = region->header;
    next.heap_bytes = state->heap_bytes;
    next.catalog = state->catalog;
    region_note_address(&next, (uint64_t)(uintptr_t)region->base);
    bool flush_failed = false;
    status = region_write_header(region, &next, &flush_failed);
    if (status) return status;
    region_adopt_header(region, &next);

    struct journal *journal = journal_new(region, options);
    if (!journal) return journal_no_memory(region);
    os->random(&journal->salt, sizeof journal->salt);
    journal->last_salt = next.chain_salt;
    journal->last_crc = next.chain_crc;
    journal->last_state = *state;
    journal->durable_state = *state;
    journal->sized_bytes = region_file_bytes(region);
    journal->settled = (struct journal_position){next.sequence, next.chain_salt, next.chain_crc,
                                                 next.tail_offset, *state};
    ring_seek(journal, next.tail_offset);
    status = journal_watch(journal);
    if (status) {
        journal_abandon(journal);
        return status;
    }
    *out = journal;
    return EVH_OK;
}

/* A crash in the middle of a header's write leaves a slot without a sound header: make it one
 * again, so that there are two. And one in the middle of a bulk commit leaves the mark. Failing to
 * is no harm: the slot in use is whole, and the mark stays. */
static evh_status journal_mend_header(struct journal *journal)
{
    struct region *region = journal->region;
    assert(region->mode == EVH_DURABLE);
    assert(journal->thread == NULL);
    const bool is_over = bulk_is_over(journal, region->header.sequence);
    if (!region->is_slot_torn && !is_over) return EVH_OK;
    struct region_header next = region->header;
    if (is_over) bulk_unmark(&next);
    bool flush_failed = false;
    const evh_status status = region_write_header(region, &next, &flush_failed);
    if (status) return flush_failed ? status : EVH_OK;
    region_adopt_header(region, &next);
    region->is_slot_torn = false;
    return EVH_OK;
}

/* A heap without a commit may be one whose creator was killed before it made the name last: then
 * that is done before the first commit. */
static evh_status journal_keep_name(struct journal *journal)
{
    assert(journal->region->mode == EVH_DURABLE);
    assert(journal->begun_sequence == journal->durable_sequence);
    if (journal->durable_sequence > 0) return EVH_OK;
    const int error = os->flush_directory(journal->region->path);
    if (!error) return EVH_OK;
    return base_fail_os(error, NO_OFFSET, "%s: cannot make its name last", journal->region->path);
}

void journal_announce(struct journal *journal)
{
    assert(journal->region->mode == EVH_DURABLE);
    assert(journal->settled.sequence <= journal->durable_sequence);
    struct region *region = journal->region;
    struct region_status old;
    if (region_read_status(region, &old)) region->status.revoked_sequence = old.revoked_sequence;
    region->status.writer_process = region->process;
    region->status.opened_ns = os->time_ns();
    region->status.durable_sequence = journal->durable_sequence;
    /* A boot that cannot be told is none: the next to open will not take the cache for known. */
    if (!os->boot(region->status.boot)) memset(region->status.boot, 0, sizeof region->status.boot);
    region->status.settled_sequence = journal->settled.sequence;
    /* What a predecessor may have brought home when it was killed is not known. */
    region->status.settling_sequence = journal->durable_sequence;
    region->status.device = region->device;
    region->status.inode = region->inode;
    region_publish_status(region);
    view_lock_settled(journal);
    /* From here on readers believe the page; without the lock they read the journal themselves. */
    (void)os->lock(region->lock_file, REGION_LOCK_READY, 1, OS_LOCK_EXCLUSIVE);
}

evh_status journal_published(struct journal *journal)
{
    assert(journal->region->lock_file >= 0);
    assert(journal->begun_sequence == 0);
    const evh_status status = journal_keep_name(journal);
    if (status) return status;
    journal->home_is_sure = true; /* the new file was flushed before it got its name */
    return EVH_OK;
}

/* ---- opening and closing ---- */

evh_status journal_open(struct region *region, const evh_options *options, struct journal **out,
                        struct journal_state *state)
{
    assert(out != NULL);
    assert(state != NULL);
    assert(region_has_file(region));
    struct journal *journal = journal_new(region, options);
    if (!journal) return journal_no_memory(region);
    evh_status status = EVH_OK;
    if (region->mode == EVH_DURABLE) {
        os->random(&journal->salt, sizeof journal->salt);
        status = view_recover(journal, state);
        if (!status) status = journal_mend_header(journal);
        if (!status) status = journal_keep_name(journal);
        if (!status) status = journal_watch(journal);
        /* With nothing left in the journal, home is what a flushed header says. */
        journal->home_is_sure = journal->live_first == NULL;
    } else {
        status = view_open(journal, state);
    }
    if (status) {
        if (region->mode == EVH_DURABLE && (status == EVH_IO || status == EVH_FULL))
            view_withdraw(region); /* it may have been a flush that failed */
        view_close(journal);
        journal_abandon(journal);
        return status;
    }
    *out = journal;
    return EVH_OK;
}

/* Bring everything home. A reader's old view is no failure: what it holds back stays in the
 * journal. */
static evh_status journal_finish(struct journal *journal)
{
    assert(journal->region->mode == EVH_DURABLE);
    assert(journal->watch != NULL);
    assert(journal->built == NULL);
    checkpoint_stop(journal);
    os->mutex_lock(journal->mutex);
    evh_status status = flush_all(journal);
    if (!status) status = checkpoint_run(journal, CHECKPOINT_WHOLE);
    if (status == EVH_BUSY) status = EVH_OK;
    if (!status) status = flush_unreported(journal);
    if (!journal->is_poisoned) {
        journal->region->status.writer_process = 0;
        region_publish_status(journal->region);
    }
    os->mutex_unlock(journal->mutex);
    return status;
}

evh_status journal_close(struct journal *journal)
{
    if (!journal) return EVH_OK;
    assert(journal->region != NULL);
    assert(region_has_file(journal->region));
    evh_status status = EVH_OK;
    const bool is_child = os->process() != journal->region->process;
    if (!is_child && journal->region->mode == EVH_DURABLE) status = journal_finish(journal);
    if (!is_child) view_close(journal);
    if (is_child) journal->thread = NULL; /* it runs in the parent only */
    journal_abandon(journal);
    return status;
}

void journal_set_checksums(struct journal *journal, journal_checksum_slice *find,
                           journal_is_checksum *is_checksum, void *context)
{
    assert(find != NULL);
    assert(is_checksum != NULL);
    journal->checksums.find = find;
    journal->checksums.is_checksum = is_checksum;
    journal->checksums.context = context;
    /* The working image is the committed one now. Without memory each page is asked for. */
    os->mutex_lock(journal->mutex);
    if (journal->watch) (void)checksum_find_slices(journal, journal->last_state.heap_bytes);
    os->mutex_unlock(journal->mutex);
}

/* ---- what it knows ---- */

void journal_info(struct journal *journal, evh_info *info)
{
    assert(journal != NULL);
    assert(info != NULL);
    struct region *region = journal->region;
    os->mutex_lock(journal->mutex);
    const bool is_writer = region->mode == EVH_DURABLE;
    info->detect = journal->watch ? os->watch_tier(journal->watch) : EVH_DETECT_AUTO;
    info->is_poisoned = journal->is_poisoned;
    info->has_thread = journal->thread != NULL;
    info->journal_bytes = ring_capacity(region);
    info->journal_used_bytes = journal->live_bytes;
    info->commit_sequence = is_writer ? journal->durable_sequence : journal->view_sequence;
    info->checkpoint_sequence = region->header.sequence;
    info->commits = journal->commits;
    info->checkpoints = journal->checkpoints;
    info->pages_committed = journal->pages_committed;
    info->private_bytes = journal->private_pages.count << PAGE_SHIFT;
    info->writer_process = is_writer ? region->process : 0;
    if (!is_writer) {
        bool taken = false;
        struct region_status status;
        info->private_bytes = journal->overlaid.count << PAGE_SHIFT;
        if (!os->lock_is_taken(region->lock_file, REGION_LOCK_WRITER, 1, &taken) && taken &&
            region_read_status(region, &status))
            info->writer_process = status.writer_process;
    }
    os->mutex_unlock(journal->mutex);
}

uint64_t journal_dirty_bytes(struct journal *journal)
{
    assert(journal != NULL);
    /* Looking at the pages while threads store into them would lose stores: only commits look. */
    os->mutex_lock(journal->mutex);
    const uint64_t bytes = pages_count(&journal->carry) << PAGE_SHIFT;
    os->mutex_unlock(journal->mutex);
    return bytes;
}

/* A commit is missing: it was taken from under a view, or it is damaged. */
static evh_status log_ended(const struct journal *journal, const struct record_walk *walk)
{
    assert(walk->journal == journal);
    assert(walk->sequence < journal->durable_sequence || journal->has_view);
    const unsigned long long next = (unsigned long long)walk->sequence + 1;
    if (!journal_view_valid(journal))
        return base_fail(EVH_STALE, NO_OFFSET, "%s: commit %llu was checkpointed meanwhile",
                         journal->region->path, next);
    return base_fail(EVH_CORRUPT, walk->tail, "%s: journal: the record of commit %llu is damaged",
                     journal->region->path, next);
}

/* The records held now, copied, so that the callback may do what it likes. */
static evh_status log_gather(struct journal *journal, evh_commit_info **out, size_t *count)
{
    assert(journal->is_checkpointing);
    assert(out != NULL);
    assert(count != NULL);
    struct record_walk walk;
    size_t limit = 0;
    evh_commit_info *commits = NULL;
    *count = 0;
    walk_begin(&walk, journal);
    const uint64_t last = journal->has_view ? journal->view_sequence : journal->durable_sequence;
    evh_status status = EVH_OK;
    bool found = true;
    while (!status && found && walk.sequence < last) {
        status = walk_next(&walk, &found);
        if (status || !found) break;
        if (*count == limit) {
            limit = limit ? 2 * limit : 64;
            evh_commit_info *grown = os->memory_resize(commits, limit * sizeof *grown);
            if (!grown) {
                status = journal_no_memory(journal->region);
                break;
            }
            commits = grown;
        }
        const struct journal_record *record = walk_record(&walk);
        commits[(*count)++] = (evh_commit_info){
            .sequence = record->sequence,
            .time_ns = record->time_ns,
            .offset = walk.record_offset,
            .record_bytes = record->record_bytes,
            .pages = record->entry_count,
            .changed_bytes = record->changed_bytes,
            .heap_bytes = record->heap_bytes,
        };
    }
    if (!status && walk.sequence < last) status = log_ended(journal, &walk);
    walk_end(&walk);
    *out = commits;
    return status;
}

evh_status journal_log(struct journal *journal, evh_commit_visit *visit, void *context)
{
    assert(journal != NULL);
    assert(visit != NULL);
    evh_commit_info *commits = NULL;
    size_t count = 0;
    os->mutex_lock(journal->mutex);
    checkpoint_claim(journal);
    os->mutex_unlock(journal->mutex);
    evh_status status = EVH_OK;
    /* A reader's header is that of its view; the newest is looked at, and put away again. */
    const struct region_header header = journal->region->header;
    if (journal->has_view) status = region_read_header(journal->region);
    if (!status) status = log_gather(journal, &commits, &count);
    if (journal->has_view) journal->region->header = header;
    os->mutex_lock(journal->mutex);
    checkpoint_release(journal);
    os->mutex_unlock(journal->mutex);
    for (size_t i = 0; i < count && !status; i++)
        if (!visit(&commits[i], context)) break;
    os->memory_free(commits);
    return status;
}
