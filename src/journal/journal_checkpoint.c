/* journal_checkpoint.c -- bring committed pages home, and free the ring behind them.
 *
 * The order, each step after the one before is durable or done:
 *   1. choose T, the newest durable commit that every reader's view has reached; lock out older
 *      ones
 *   2. gather, from the records up to T, the newest base and ranges of every page they changed
 *   3. write these pages home, and their checksums: T is settled
 *   4. flush
 *   5. write and flush the header that says T
 *   6. forget the records up to T: their space may be used again
 *
 * Settling alone ends after 3: it costs no flush, and what it left to do is taken up by the next
 * checkpoint. Commits go on meanwhile. What they log is right over the old home and the new one
 * (see journal_layout.h). A power cut anywhere before 5 replays the same records; after 5, none of
 * them. After a kill, what is settled is there already (journal_view.c).
 */
#include "journal/journal_internal.h"

/* ---- page checksums ---- */

uint64_t checksum_offset(const struct journal_checksums *checksums, uint64_t page)
{
    assert(checksums != NULL);
    assert(page >= SLICE_PAGES);
    if (page < PAGE_BYTES / 4) return REGION_CHECKSUM_OFFSET + page * 4;
    const uint64_t segment = page / SEGMENT_PAGES;
    uint64_t slice = 0;
    if (checksums->slices)
        slice =
            segment < checksums->count ? (uint64_t)checksums->slices[segment] << SLICE_SHIFT : 0;
    else if (checksums->find)
        slice = checksums->find(checksums->context, segment);
    return slice ? slice + page % SEGMENT_PAGES * 4 : 0;
}

evh_status checksum_find_slices(struct journal *journal, uint64_t heap_bytes)
{
    assert(heap_bytes > 0);
    struct journal_checksums *checksums = &journal->checksums;
    assert(heap_bytes % SLICE_BYTES == 0);
    if (!checksums->find || journal->sums_heap_bytes == heap_bytes) return EVH_OK;
    const uint64_t count = (heap_bytes + SEGMENT_BYTES - 1) >> SEGMENT_SHIFT;
    uint32_t *slices = os->memory_allocate(count * sizeof *slices);
    if (!slices) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to find the page checksums");
    for (uint64_t segment = 0; segment < count; segment++)
        slices[segment] = (uint32_t)(checksums->find(checksums->context, segment) >> SLICE_SHIFT);
    os->memory_free(checksums->slices);
    checksums->slices = slices;
    checksums->count = count;
    journal->sums_heap_bytes = heap_bytes;
    return EVH_OK;
}

evh_status checksum_snapshot(const struct journal *journal, struct journal_checksums *snapshot)
{
    assert(snapshot != NULL);
    assert(journal->checksums.slices == NULL || journal->checksums.count > 0);
    *snapshot = journal->checksums;
    if (!snapshot->slices) return EVH_OK;
    const size_t size = snapshot->count * sizeof *snapshot->slices;
    snapshot->slices = os->memory_resize(NULL, size);
    if (!snapshot->slices)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to find the page checksums");
    memcpy(snapshot->slices, journal->checksums.slices, size);
    return EVH_OK;
}

void checksum_snapshot_end(struct journal_checksums *snapshot)
{
    assert(snapshot != NULL);
    os->memory_free(snapshot->slices);
    snapshot->slices = NULL;
}

bool checkpoint_owns_slice(const struct journal *journal, uint64_t slice, uint64_t *behind)
{
    assert(behind != NULL);
    if (region_is_journal(journal->region, slice, behind)) return true;
    const struct journal_checksums *checksums = &journal->checksums;
    *behind = slice + 1;
    return checksums->is_checksum && checksums->is_checksum(checksums->context, slice);
}

evh_status checksum_finish(struct checksum_writer *writer)
{
    assert(writer->at % PAGE_BYTES == 0);
    assert(!writer->is_dirty || writer->at != 0);
    if (!writer->is_dirty) return EVH_OK;
    writer->is_dirty = false;
    const int error = os->write(writer->region->file, writer->at, writer->entries, PAGE_BYTES);
    if (!error) return EVH_OK;
    return base_fail_os(error, writer->at, "%s: cannot write page checksums", writer->region->path);
}

evh_status checksum_put(struct checksum_writer *writer, uint64_t page, uint32_t value)
{
    assert(writer->region != NULL);
    assert(page >= SLICE_PAGES);
    const uint64_t offset = checksum_offset(writer->checksums, page);
    if (offset == 0) return EVH_OK;
    const uint64_t at = base_round_down(offset, PAGE_BYTES);
    if (at != writer->at) {
        const evh_status status = checksum_finish(writer);
        if (status) return status;
        size_t done = 0;
        const int error = os->read(writer->region->file, at, writer->entries, PAGE_BYTES, &done);
        if (error || done < PAGE_BYTES)
            return base_fail_os(error ? error : EIO, at, "%s: cannot read page checksums",
                                writer->region->path);
        writer->at = at;
    }
    const uint64_t entry = (offset - at) / 4;
    /* Also if it has that value already: the cache may show what a failed flush has lost. */
    writer->entries[entry] = value;
    writer->is_dirty = true;
    return EVH_OK;
}

/* ---- which pages, and what they become ---- */

/* One page of a checkpoint. Records are read through the home mapping: they are flushed and
 * stay. */
struct checkpoint_page {
    uint64_t page;
    const unsigned char *image;  /* NULL: home */
    const unsigned char *ranges; /* NULL: none */
    uint32_t ranges_count;
    uint32_t at_home; /* its checksum, if it was written home at once and nothing newer is known */
    bool is_zero;
};

struct checkpoint_set {
    struct journal_index index; /* page -> position in pages, in node->ranges_at */
    struct checkpoint_page *pages;
    uint64_t count, limit;
};

static evh_status checkpoint_add(struct checkpoint_set *set, const struct journal_entry *entry,
                                 const unsigned char *record)
{
    assert(set->count <= set->limit);
    assert(entry->page >= SLICE_PAGES);
    struct journal_node *node = index_find(&set->index, entry->page);
    if (!node) {
        const evh_status status = index_reserve(&set->index, 1);
        if (status) return status;
        if (set->count == set->limit) {
            const uint64_t limit = base_max(256, set->limit * 2);
            struct checkpoint_page *pages = os->memory_resize(set->pages, limit * sizeof *pages);
            if (!pages) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for a checkpoint");
            set->pages = pages;
            set->limit = limit;
        }
        node = index_add(&set->index, entry->page);
        node->ranges_at = set->count;
        set->pages[set->count++] = (struct checkpoint_page){.page = entry->page};
    }
    struct checkpoint_page *page = &set->pages[node->ranges_at];
    const unsigned char *data = record + (uint64_t)entry->data_offset * 8;
    page->at_home = entry->kind == JOURNAL_HOME ? entry->data_offset : 0;
    if (page->at_home) return EVH_OK;
    if (entry->kind == JOURNAL_RANGES) {
        page->ranges = data;
        page->ranges_count = entry->count;
        return EVH_OK;
    }
    page->is_zero = entry->kind == JOURNAL_ZERO;
    page->image = page->is_zero ? NULL : data;
    page->ranges = NULL;
    return EVH_OK;
}

/* All pages that the records up to `target` change. The walk verifies every record once more. */
static evh_status checkpoint_gather(struct journal *journal, uint64_t target,
                                    struct checkpoint_set *set, struct record_walk *walk)
{
    assert(journal->is_checkpointing);
    assert(target > walk->sequence);
    evh_status status = EVH_OK;
    while (walk->sequence < target && !status) {
        bool found = false;
        status = walk_next(walk, &found);
        if (status) break;
        if (!found)
            return base_fail(EVH_CORRUPT, walk->tail, "%s: journal: commit %llu has disappeared",
                             journal->region->path, (unsigned long long)walk->sequence + 1);
        uint32_t count = 0;
        const struct journal_entry *entries = walk_entries(walk, &count);
        const unsigned char *record = journal->region->home + walk->record_offset;
        for (uint32_t i = 0; i < count && !status; i++)
            status = checkpoint_add(set, &entries[i], record);
    }
    return status;
}

static int checkpoint_compare(const void *left, const void *right)
{
    assert(left != NULL);
    assert(right != NULL);
    const struct checkpoint_page *a = left;
    const struct checkpoint_page *b = right;
    return (a->page > b->page) - (a->page < b->page);
}

/* What the page becomes. If ranges do not make of its base what they made of it once, the base is
 * damaged: that must not go home with a new checksum. */
static evh_status checkpoint_compose(const struct journal *journal,
                                     const struct checkpoint_page *page, unsigned char *image,
                                     uint32_t *checksum)
{
    assert(page->page >= SLICE_PAGES);
    assert(!page->is_zero || !page->image);
    const struct region *region = journal->region;
    if (page->is_zero)
        memset(image, 0, PAGE_BYTES);
    else if (page->image)
        memcpy(image, page->image, PAGE_BYTES);
    else
        memcpy(image, region->home + (page->page << PAGE_SHIFT), PAGE_BYTES);
    if (page->ranges) page_apply_ranges(image, page->ranges, page->ranges_count, NULL);
    *checksum = page_checksum(region->header.uuid, page->page, image);
    if (!page->ranges || *checksum == page_ranges_checksum(page->ranges)) return EVH_OK;
    return base_fail(EVH_CORRUPT, page->page << PAGE_SHIFT,
                     "%s: page %llu is damaged on the disk: with its changes in the journal it is "
                     "not what was committed",
                     region->path, (unsigned long long)page->page);
}

static evh_status checkpoint_home_failed(const struct region *region, uint64_t page, int error)
{
    assert(error != 0);
    assert(page >= SLICE_PAGES);
    return base_fail_os(error, page << PAGE_SHIFT, "%s: checkpoint: cannot write home",
                        region->path);
}

/*
 * A page of which only words near each other change, as most do: write those alone, which spares
 * reading the page and its checksum, half of the cost. Its content is not verified by that, but the
 * checksum that is noted is the right page's: damage shows against it later as before. False: not
 * such a page.
 */
static bool checkpoint_write_words(struct journal *journal, const struct checkpoint_page *page,
                                   unsigned char *buffer, int *error)
{
    enum { SPAN_WORDS_MAX = 128 };
    assert(journal->is_checkpointing);
    *error = 0;
    /* Where a lost write is possible, the cache may show words that the device does not have. */
    if (!journal->home_is_sure || !page->ranges || page->image || page->is_zero) return false;
    const uint64_t offset = page->page << PAGE_SHIFT;
    const unsigned char *home = journal->region->home + offset;
    uint32_t first = 0;
    uint32_t behind = 0;
    page_ranges_span(home, page->ranges, page->ranges_count, &first, &behind);
    if (behind - first > SPAN_WORDS_MAX) return false;
    if (behind == 0) return true; /* the words it had before: the cache has them */
    memcpy(buffer + 8 * first, home + 8 * first, 8 * (behind - first));
    page_apply_ranges(buffer, page->ranges, page->ranges_count, NULL);
    *error = os->write(journal->region->file, offset + 8 * first, buffer + 8 * first,
                       8 * (behind - first));
    return true;
}

/* Write the pages home in order, neighbours together. */
static evh_status checkpoint_write_home(struct journal *journal,
                                        const struct journal_checksums *checksums,
                                        struct checkpoint_set *set, unsigned char *buffer)
{
    assert(journal->is_checkpointing);
    assert(buffer != NULL);
    struct region *region = journal->region;
    struct checksum_writer sums = {.region = region, .checksums = checksums};
    evh_status status = EVH_OK;
    if (set->count == 0) return EVH_OK;
    qsort(set->pages, set->count, sizeof *set->pages, checkpoint_compare);
    for (uint64_t i = 0; i < set->count && !status;) {
        const uint64_t first = set->pages[i].page;
        uint64_t bytes = 0;
        int error = 0;
        if (set->pages[i].at_home) {
            status = checksum_put(&sums, first, set->pages[i++].at_home);
            continue;
        }
        if (checkpoint_write_words(journal, &set->pages[i], buffer, &error)) {
            if (error) return checkpoint_home_failed(region, first, error);
            status = checksum_put(&sums, first, page_ranges_checksum(set->pages[i++].ranges));
            continue;
        }
        while (i < set->count && bytes < JOURNAL_HOME_RUN_BYTES && !status &&
               set->pages[i].page == first + (bytes >> PAGE_SHIFT) && !set->pages[i].at_home) {
            uint32_t checksum = 0;
            status = checkpoint_compose(journal, &set->pages[i], buffer + bytes, &checksum);
            if (!status) status = checksum_put(&sums, set->pages[i].page, checksum);
            bytes += PAGE_BYTES;
            i++;
        }
        if (status) return status;
        error = os->write(region->file, first << PAGE_SHIFT, buffer, bytes);
        if (error) return checkpoint_home_failed(region, first, error);
    }
    return status ? status : checksum_finish(&sums);
}

/* ---- readers' views ---- */

/*
 * Home is about to go from commit `from` to *target: lock out views of the commits between,
 * lowering *target while a reader's view refuses. The bytes stay locked until the header says what
 * home is: until then a reader that has learned of too old a commit must not take home for it.
 * Views before `from` are void or gone already.
 */
static evh_status checkpoint_lock_views(struct journal *journal, uint64_t from, uint64_t *target)
{
    assert(from >= journal->region->header.sequence);
    assert(journal->is_checkpointing);
    assert(*target > from);
    if (PLANTED(12)) return EVH_OK;
    const int file = journal->region->lock_file;
    /* Views below the revoked commit are void, and a forced checkpoint that was killed may have
     * taken home there already: never aim lower. */
    const uint64_t revoked = base_min(journal->region->status.revoked_sequence, *target);
    const uint64_t floor = base_max(from, revoked);
    if (floor == *target) return EVH_OK;
    const uint64_t first = REGION_LOCK_VIEWS + floor;
    int error = os->lock(file, first, *target - floor, OS_LOCK_EXCLUSIVE);
    uint64_t good = floor; /* what needs no lock */
    for (uint64_t bad = *target; error == EAGAIN && bad - good > 1;) {
        const uint64_t middle = good + (bad - good) / 2;
        const int tried = os->lock(file, first, middle - floor, OS_LOCK_EXCLUSIVE);
        if (tried && tried != EAGAIN) error = tried;
        if (!tried)
            good = middle;
        else
            bad = middle;
    }
    if (error == EAGAIN && good > from) {
        *target = good;
        return EVH_OK;
    }
    if (error == EAGAIN)
        return base_fail(EVH_BUSY, NO_OFFSET, "%s: a reader's view of commit %llu holds it",
                         journal->region->path, (unsigned long long)from);
    if (error)
        return base_fail_os(error, NO_OFFSET, "%s: cannot lock out old views",
                            journal->region->path);
    return EVH_OK;
}

/* The header says what home is: views before it are refused by looking at the header. */
static void checkpoint_unlock_views(struct journal *journal, uint64_t sequence)
{
    assert(journal->is_checkpointing);
    assert(sequence > 0);
    if (PLANTED(12)) return;
    (void)os->lock(journal->region->lock_file, REGION_LOCK_VIEWS, sequence, OS_UNLOCK);
}

/* ---- the steps ---- */

/* Steps 2 and 3. Header and home are claimed; the mutex is not held. */
static evh_status checkpoint_settle(struct journal *journal,
                                    const struct journal_checksums *checksums, uint64_t target)
{
    assert(journal->is_checkpointing);
    assert(target > journal->settled.sequence);
    struct checkpoint_set set = {0};
    struct record_walk walk;
    walk_begin_at(&walk, journal, &journal->settled);
    unsigned char *buffer = os->memory_allocate(JOURNAL_HOME_RUN_BYTES);
    evh_status status = buffer ? EVH_OK
                               : base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to checkpoint",
                                           journal->region->path);
    if (!status) status = checkpoint_gather(journal, target, &set, &walk);
    if (!status) status = checkpoint_write_home(journal, checksums, &set, buffer);
    if (!status) journal->settled = walk_position(&walk);
    os->memory_free(buffer);
    os->memory_free(set.pages);
    index_end(&set.index);
    walk_end(&walk);
    return status;
}

/* Steps 4 and 5: what is settled is made durable, and the header says so. */
static evh_status checkpoint_finish(struct journal *journal, struct region_header *next,
                                    uint64_t marked_until)
{
    assert(journal->is_checkpointing);
    struct region *region = journal->region;
    const struct journal_position *settled = &journal->settled;
    assert(settled->sequence >= region->header.sequence);
    if (!PLANTED(1)) {
        /* Through the description that only checkpoints flush: the system tells each description of
         * a failed write-back once, and a commit's flush must not hear of ours instead of us. */
        const int error = os->flush(region->lock_file);
        if (error && !PLANTED(9)) {
            (void)base_fail_os(error, NO_OFFSET, "%s: checkpoint: the flush failed", region->path);
            return flush_poison_unlocked(journal);
        }
    }
    *next = region->header;
    next->sequence = settled->sequence;
    next->heap_bytes = settled->state.heap_bytes;
    next->catalog = settled->state.catalog;
    next->tail_offset = settled->tail;
    next->chain_salt = settled->salt;
    next->chain_crc = settled->crc;
    const bool is_marked = (next->incompatible & REGION_FEATURE_BULK) != 0;
    if (is_marked && marked_until <= settled->sequence) bulk_unmark(next);
    bool flush_failed = false;
    const evh_status status = region_write_header(region, next, &flush_failed);
    return status && flush_failed && !PLANTED(9) ? flush_poison_unlocked(journal) : status;
}

/* Step 6, with the mutex held. */
static void checkpoint_forget(struct journal *journal, uint64_t sequence)
{
    assert(journal->is_checkpointing);
    assert(sequence <= journal->durable_sequence);
    index_forget(&journal->index, sequence);
    /* Pending records remember nodes that may name the records which go now. */
    for (struct journal_pending *p = journal->pending_first; p; p = p->next)
        for (uint32_t i = 0; i < p->entry_count; i++) {
            struct journal_node *before = &p->undo[i].before;
            if (before->sequence <= sequence)
                memset(before, 0, sizeof *before);
            else if (before->image_in && before->image_in->sequence <= sequence)
                before->image_in = NULL;
        }
    while (journal->live_first && journal->live_first->sequence <= sequence) {
        struct journal_live *live = journal->live_first;
        journal->live_first = live->next;
        if (!journal->live_first) journal->live_last = NULL;
        journal->live_bytes -= live->bytes;
        os->memory_free(live);
    }
    assert(journal->live_first == NULL || journal->live_first->sequence > sequence);
    ring_seek(journal, journal->tail);
}

void checkpoint_claim(struct journal *journal)
{
    assert(journal != NULL);
    while (journal->is_checkpointing) os->mutex_wait(journal->mutex);
    journal->is_checkpointing = true;
}

void checkpoint_release(struct journal *journal)
{
    assert(journal->is_checkpointing);
    journal->is_checkpointing = false;
    os->mutex_signal(journal->mutex);
}

/* Count the entries up to the settled record, while it is in the list of live ones. The mutex is
 * held. */
static void checkpoint_note_settled(struct journal *journal)
{
    assert(journal->is_checkpointing);
    const struct journal_live *live = journal->live_first;
    while (live && live->sequence < journal->settled.sequence) live = live->next;
    if (live && live->sequence == journal->settled.sequence)
        journal->settled_entries = live->entries_total;
    assert(journal->settled_entries <= journal->entries_total);
}

/* Tell other processes, and whoever opens the file after this one was killed, how far home is. The
 * mutex is held. */
static void checkpoint_publish_settled(struct journal *journal)
{
    assert(journal->is_checkpointing);
    assert(!journal->is_poisoned);
    journal->region->status.settled_sequence = journal->settled.sequence;
    journal->region->status.settling_sequence = journal->settled.sequence;
    region_publish_status(journal->region);
}

/* Say how far home is about to be written: older commits cannot be shown from then on, not even
 * when this process is killed and its locks are gone. */
static evh_status checkpoint_publish_settling(struct journal *journal, uint64_t target)
{
    assert(journal->is_checkpointing);
    assert(target > journal->settled.sequence);
    os->mutex_lock(journal->mutex);
    const evh_status status = flush_poisoned(journal); /* then nothing goes home */
    if (!status) {
        journal->region->status.settling_sequence = target;
        region_publish_status(journal->region);
    }
    os->mutex_unlock(journal->mutex);
    return status;
}

/* Without the mutex: settle as far as views allow, then finish if asked to. The header's mark stays
 * until commit `marked_until` is at home. */
static evh_status checkpoint_do(struct journal *journal, enum checkpoint_kind kind,
                                const struct journal_checksums *checksums, uint64_t target,
                                uint64_t marked_until, struct region_header *next)
{
    assert(journal->is_checkpointing);
    assert(target >= journal->settled.sequence);
    assert(journal->settled.sequence >= journal->region->header.sequence);
    const uint64_t from = journal->settled.sequence;
    evh_status status = EVH_OK;
    if (target > from) {
        if (kind != CHECKPOINT_FORCE) status = checkpoint_lock_views(journal, from, &target);
        if (!status) status = checkpoint_publish_settling(journal, target);
        if (!status) status = checkpoint_settle(journal, checksums, target);
    }
    if (kind == CHECKPOINT_SETTLE) return status;
    /* What was settled before can be finished although a view holds back the rest. */
    if (status && status != EVH_BUSY) return status;
    const struct region_header *header = &journal->region->header;
    const bool unmarks =
        (header->incompatible & REGION_FEATURE_BULK) && marked_until <= header->sequence;
    if (journal->settled.sequence == header->sequence && !unmarks) return status;
    return checkpoint_finish(journal, next, marked_until);
}

evh_status checkpoint_run(struct journal *journal, enum checkpoint_kind kind)
{
    assert(journal_is_sound(journal));
    assert(journal->region->home != NULL);
    checkpoint_claim(journal);
    struct region *region = journal->region;
    const uint64_t from = region->header.sequence;
    const uint64_t settled = journal->settled.sequence;
    const uint64_t target = journal->durable_sequence;
    evh_status status = flush_poisoned(journal);
    const bool is_done = kind == CHECKPOINT_SETTLE ? target == settled
                                                   : target == from && !bulk_is_over(journal, from);
    if (status || is_done) {
        checkpoint_release(journal);
        return status;
    }
    const uint64_t marked_until = journal->bulk_is_under_way ? UINT64_MAX : journal->bulk_sequence;
    if (PLANTED(5)) checkpoint_forget(journal, target);
    if (kind == CHECKPOINT_FORCE) {
        /* The reader learns of it before the first page of its view changes. */
        region->status.revoked_sequence = target;
        region_publish_status(region);
    }
    struct journal_checksums checksums;
    status = checksum_snapshot(journal, &checksums);
    if (status) {
        checkpoint_release(journal);
        return status;
    }
    os->mutex_unlock(journal->mutex);
    struct region_header next = {.generation = 0};
    status = checkpoint_do(journal, kind, &checksums, target, marked_until, &next);
    os->mutex_lock(journal->mutex);
    checksum_snapshot_end(&checksums);
    checkpoint_note_settled(journal);
    if (!status && next.generation > region->header.generation) {
        journal->home_is_sure = true; /* that flush has said so */
        region_adopt_header(region, &next);
        if (next.sequence > 0) checkpoint_unlock_views(journal, next.sequence);
        checkpoint_forget(journal, next.sequence);
        if (!journal->is_poisoned) region_publish_status(region); /* the header is flushed */
        journal->checkpoints++;
    }
    if (journal->settled.sequence > settled && !journal->is_poisoned)
        checkpoint_publish_settled(journal);
    /* While a reader forbids it, do not ask again at every commit. */
    journal->quiet_until_bytes =
        status ? journal->live_bytes + journal->options.checkpoint_bytes / 16 : 0;
    checkpoint_release(journal);
    return status;
}

evh_status journal_checkpoint(struct journal *journal)
{
    assert(journal->watch != NULL);
    assert(journal->region->mode == EVH_DURABLE);
    os->mutex_lock(journal->mutex);
    evh_status status = flush_all(journal);
    if (!status) status = checkpoint_run(journal, CHECKPOINT_WHOLE);
    os->mutex_unlock(journal->mutex);
    return status;
}

/* ---- when ---- */

/*
 * Two measures. A killed process's successor lays the commits that are not settled over its
 * mapping, page by page (1.7 us each): these are kept few by settling often, which costs no flush.
 * A flush pays for scattered pages one by one, for dense ones hardly: it waits until the journal is
 * half full, or the private copies that it keeps alive are many.
 *
 * Unsettled may be half as many pages as fit into checkpoint_bytes: 2048 by default. A test that
 * makes that small sees much settling (crash_test.c).
 */

/* Whether more than 1/part of what may wait waits for a whole checkpoint. */
static bool checkpoint_is_due(const struct journal *journal, uint64_t part)
{
    assert(journal_is_sound(journal));
    assert(part > 0);
    /* A ring that is too small for its heap is to grow, not to be emptied again and again. */
    const uint64_t capacity = base_max(ring_capacity(journal->region), ring_suitable(journal));
    const uint64_t bytes = base_min(journal->options.checkpoint_bytes, capacity);
    return journal->live_bytes > bytes / part ||
           journal->index.node_count > (journal->options.private_max_bytes >> PAGE_SHIFT) / part;
}

static bool checkpoint_must_settle(const struct journal *journal, uint64_t part)
{
    assert(part > 0);
    assert(journal->entries_total >= journal->settled_entries);
    const uint64_t pages = journal->options.checkpoint_bytes >> PAGE_SHIFT;
    return journal->entries_total - journal->settled_entries > pages / 2 / part;
}

static void checkpoint_wake(struct journal *journal)
{
    assert(journal != NULL);
    if (__atomic_exchange_n(&journal->thread_wanted, 1, __ATOMIC_RELEASE)) return;
    os->wake(&journal->thread_wanted);
}

static void checkpoint_background(void *context)
{
    assert(context != NULL);
    struct journal *journal = context;
    assert(!journal->options.no_thread);
    os->mutex_lock(journal->mutex);
    while (!journal->thread_stops) {
        if (!__atomic_exchange_n(&journal->thread_wanted, 0, __ATOMIC_ACQUIRE)) {
            os->mutex_unlock(journal->mutex);
            os->wait(&journal->thread_wanted, 0);
            os->mutex_lock(journal->mutex);
            continue;
        }
        journal->background_status = checkpoint_run(
            journal, checkpoint_is_due(journal, 2) ? CHECKPOINT_WHOLE : CHECKPOINT_SETTLE);
        os->mutex_signal(journal->mutex);
    }
    os->mutex_unlock(journal->mutex);
}

static bool checkpoint_has_thread(struct journal *journal)
{
    assert(journal->watch != NULL);
    assert(!journal->options.no_thread || !journal->thread);
    if (!journal->options.no_thread && !journal->thread &&
        os->thread_start(checkpoint_background, journal, &journal->thread))
        journal->options.no_thread = true; /* no thread to be had: in the foreground, then */
    return !journal->options.no_thread;
}

/* Start in the background at half of what may wait. At the whole the committer does it, or waits
 * for it; but for settling it does not wait while a thread is there. */
void checkpoint_consider(struct journal *journal)
{
    assert(journal_is_sound(journal));
    assert(journal->built == NULL);
    if (journal->is_poisoned || journal->live_bytes < journal->quiet_until_bytes) return;
    if (!checkpoint_is_due(journal, 2) && !checkpoint_must_settle(journal, 2)) return;
    const bool is_full = checkpoint_is_due(journal, 1);
    if (checkpoint_has_thread(journal)) {
        checkpoint_wake(journal);
        if (!is_full) return;
    }
    if (!is_full && !checkpoint_must_settle(journal, 1)) return;
    /* A failure is not the commit's: it is durable without. The next one that needs the room will
     * meet it. */
    if (flush_all(journal) == EVH_OK)
        (void)checkpoint_run(journal, is_full ? CHECKPOINT_WHOLE : CHECKPOINT_SETTLE);
}

void checkpoint_stop(struct journal *journal)
{
    assert(journal->built == NULL);
    if (!journal->thread) return;
    os->mutex_lock(journal->mutex);
    journal->thread_stops = true;
    checkpoint_wake(journal);
    os->mutex_unlock(journal->mutex);
    os->thread_join(journal->thread);
    assert(journal->thread_stops);
    journal->thread = NULL;
}
