/* journal_flush.c -- pending records become durable, together; what happens when they do not.
 *
 * Whoever waits for a commit and finds nobody flushing flushes everything that is pending, in
 * order, for all who wait. One write covers every byte from the durable tail to the end of the
 * newest record, or one write for each stretch where the ring jumps: a flush never covers less than
 * what it acknowledges.
 *
 * A flush that fails poisons the heap: the system may have dropped the data and will not say so
 * again. A write that fails cleanly (a full disk) is taken back: the record's header is
 * overwritten, durably, before anything else can follow it, and its pages are dirty again.
 */
#include "journal/journal_internal.h"

evh_status flush_poison(struct journal *journal)
{
    assert(evh_last_error()->status != EVH_OK);
    if (!journal->is_poisoned) {
        journal->poison = *evh_last_error();
        /* Allocations ask without the mutex: who sees it sees the reason too. */
        __atomic_store_n(&journal->is_poisoned, true, __ATOMIC_RELEASE);
        /* What the cache shows of home may never reach the disk: no successor may take it for
         * settled. */
        memset(journal->region->status.boot, 0, sizeof journal->region->status.boot);
        journal->region->status.settled_sequence = 0;
        region_publish_status(journal->region);
    }
    assert(journal->poison.status != EVH_OK);
    return evh_last_error()->status;
}

evh_status flush_poison_unlocked(struct journal *journal)
{
    assert(evh_last_error()->status != EVH_OK);
    os->mutex_lock(journal->mutex);
    const evh_status status = flush_poison(journal);
    assert(status != EVH_OK);
    os->mutex_unlock(journal->mutex);
    return status;
}

evh_status flush_poisoned(const struct journal *journal)
{
    assert(journal != NULL);
    if (!__atomic_load_n(&journal->is_poisoned, __ATOMIC_ACQUIRE)) return EVH_OK;
    assert(journal->poison.status != EVH_OK);
    return base_fail(EVH_POISONED, journal->poison.offset,
                     "a flush failed earlier, only reopening tells what is on the disk (%.300s)",
                     journal->poison.message);
}

evh_status journal_status(const struct journal *journal)
{
    assert(journal != NULL);
    assert(journal->region != NULL);
    return flush_poisoned(journal);
}

void pending_end(struct journal_pending *pending, struct journal *journal)
{
    assert(journal != NULL);
    if (!pending) return;
    if (!journal->spare || journal->spare_bytes < pending->buffer_bytes) {
        unsigned char *smaller = journal->spare;
        journal->spare = pending->buffer;
        journal->spare_bytes = pending->buffer_bytes;
        pending->buffer = smaller;
    }
    os->memory_free(pending->buffer);
    os->memory_free(pending->live);
    os->memory_free(pending->undo);
    os->memory_free(pending);
}

void pending_take_back(struct journal *journal, struct journal_pending *pending, bool was_placed)
{
    assert(pending->buffer != NULL);
    assert(pending->bytes > 0);
    const struct journal_record *record =
        (const struct journal_record *)(const void *)pending->buffer;
    const struct journal_entry *entries =
        (const struct journal_entry *)(const void *)(pending->buffer + record->entries_offset);
    struct journal_pages pages = {NULL, 0, 0};
    for (uint32_t i = 0; i < pending->entry_count; i++) {
        const uint64_t page = entries[i].page;
        if (pages_add(&pages, page, 1)) journal->must_compare_all = true;
        if (!was_placed) continue;
        const struct journal_node *before = &pending->undo[i].before;
        if (before->sequence == 0) {
            index_remove(&journal->index, page);
            continue;
        }
        struct journal_node *node = index_find(&journal->index, page);
        if (NEVER(!node)) continue;
        const uint32_t next = node->next;
        *node = *before;
        node->next = next;
        /* A checkpoint may have gone home in between. */
        if (node->image_in && node->image_in->sequence <= journal->region->header.sequence)
            node->image_in = NULL;
        if (node->sequence <= journal->region->header.sequence) index_remove(&journal->index, page);
    }
    if (pages_merge(&journal->carry, pages.runs, pages.count)) journal->must_compare_all = true;
    pages_end(&pages);
}

/* Join failure `at` with the one before it, if both were told and are otherwise alike. */
static bool flush_join_failures(struct journal *journal, size_t at)
{
    assert(at <= journal->failure_count);
    if (at == 0 || at == journal->failure_count) return false;
    struct journal_failure *before = &journal->failure[at - 1];
    struct journal_failure *behind = &journal->failure[at];
    assert(before->last_ticket < behind->first_ticket);
    if (!before->is_reported || !behind->is_reported || before->status != behind->status ||
        before->last_ticket + 1 != behind->first_ticket)
        return false;
    before->last_ticket = behind->last_ticket;
    journal->failure_count--;
    memmove(behind, behind + 1, (journal->failure_count - at) * sizeof *behind);
    return true;
}

/* Somebody heard of failure `at`. Those that nobody heard of stay apart: one that is told must not
 * hide its neighbours from whoever closes the heap. */
static void flush_told(struct journal *journal, size_t at)
{
    assert(at < journal->failure_count);
    journal->failure[at].is_reported = true;
    (void)flush_join_failures(journal, at + 1);
    (void)flush_join_failures(journal, at);
    assert(journal->failure_count > 0);
}

void journal_note_failure(struct journal *journal, uint64_t ticket, evh_status status,
                          bool is_reported)
{
    assert(status != EVH_OK);
    assert(ticket <= journal->last_ticket);
    assert(journal->failure_count < journal->failure_limit);
    struct journal_failure *list = journal->failure;
    size_t at = journal->failure_count;
    while (at > 0 && list[at - 1].first_ticket > ticket) at--;
    /* It comes before list[at] and behind list[at - 1]. */
    memmove(&list[at + 1], &list[at], (journal->failure_count - at) * sizeof *list);
    list[at] = (struct journal_failure){ticket, ticket, status, false};
    journal->failure_count++;
    if (is_reported) flush_told(journal, at);
}

evh_status journal_reserve_failures(struct journal *journal)
{
    assert(journal->failure_count <= journal->failure_limit);
    /* Every pending record may fail, and so may the one that is about to be built. They are counted
     * by their sequences: who begins commits and waits for none may have thousands pending. */
    const struct journal_pending *const last = journal->pending_last;
    const uint64_t pending = last ? last->live->sequence - journal->durable_sequence : 0;
    const size_t need = journal->failure_count + 2 + (size_t)pending;
    if (need <= journal->failure_limit) return EVH_OK;
    struct journal_failure *grown = os->memory_resize(journal->failure, 2 * need * sizeof *grown);
    if (!grown) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for a commit's ticket");
    assert(journal->failure_limit < 2 * need);
    journal->failure = grown;
    journal->failure_limit = 2 * need;
    return EVH_OK;
}

static evh_status flush_report(const struct journal *journal, const struct journal_failure *failure)
{
    assert(failure->first_ticket <= failure->last_ticket);
    assert(failure->status != EVH_OK);
    return base_fail(failure->status, NO_OFFSET, "%s: a commit that was begun has failed: %s",
                     journal->region->path, evh_status_name(failure->status));
}

evh_status flush_unreported(const struct journal *journal)
{
    assert(journal != NULL);
    assert(journal->failure_count <= journal->failure_limit);
    for (size_t i = 0; i < journal->failure_count; i++)
        if (!journal->failure[i].is_reported) return flush_report(journal, &journal->failure[i]);
    return EVH_OK;
}

/* What became of a ticket: its failure; or `*is_durable`, or not yet. */
static evh_status flush_look_up(struct journal *journal, uint64_t ticket, bool is_owner,
                                bool *is_durable)
{
    assert(journal_is_sound(journal));
    assert(is_durable != NULL);
    *is_durable = ticket <= journal->durable_ticket;
    for (size_t i = 0; i < journal->failure_count; i++) {
        struct journal_failure *failure = &journal->failure[i];
        if (ticket < failure->first_ticket) break;
        if (ticket > failure->last_ticket) continue;
        const evh_status status = flush_report(journal, failure);
        if (is_owner) flush_told(journal, i);
        return status;
    }
    if (ticket > journal->last_ticket)
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: no commit was begun with ticket %llu",
                         journal->region->path, (unsigned long long)ticket);
    return EVH_OK;
}

/* A stretch of pending records that lie one behind the other in the file. */
struct flush_stretch {
    struct os_part parts[64];
    unsigned count;
    uint64_t offset;
    uint64_t last_sequence; /* of its last record: others queue behind it meanwhile */
};

/* Gather the first stretch. The mutex is held; the records stay as they are until it is flushed. */
static void flush_gather(const struct journal *journal, struct flush_stretch *stretch)
{
    assert(journal_is_sound(journal));
    assert(journal->is_flushing);
    struct journal_pending *pending = journal->pending_first;
    assert(pending != NULL);
    stretch->count = 0;
    stretch->offset = pending->live->offset;
    uint64_t next = stretch->offset;
    bool all_written = true;
    while (pending && stretch->count < sizeof stretch->parts / sizeof stretch->parts[0] &&
           pending->live->offset == next) {
        all_written = all_written && pending->is_written;
        stretch->parts[stretch->count++] = (struct os_part){pending->buffer, pending->bytes};
        stretch->last_sequence = pending->live->sequence;
        next += pending->bytes;
        pending = pending->next;
    }
    if (PLANTED(2) && all_written) {
        stretch->parts[0] = stretch->parts[stretch->count - 1];
        stretch->offset = next - stretch->parts[0].size;
        stretch->count = 1;
    }
}

static int flush_write(struct journal *journal, const struct flush_stretch *stretch,
                       bool *flush_failed)
{
    assert(stretch->count > 0);
    assert(flush_failed != NULL);
    *flush_failed = false;
    if (!PLANTED(4))
        return os->write_sync(journal->region->file, stretch->offset, stretch->parts,
                              stretch->count, flush_failed);
    uint64_t offset = stretch->offset;
    int error = 0;
    for (unsigned i = 0; i < stretch->count && !error; i++) {
        error = os->write(journal->region->file, offset, stretch->parts[i].data,
                          stretch->parts[i].size);
        offset += stretch->parts[i].size;
    }
    return error;
}

/* The records up to `sequence` are durable: their buffers are not needed any more. */
static void flush_done(struct journal *journal, uint64_t sequence)
{
    assert(journal->is_flushing);
    assert(sequence > journal->durable_sequence);
    while (journal->durable_sequence < sequence) {
        struct journal_pending *pending = journal->pending_first;
        assert(pending != NULL);
        assert(pending->live->sequence == journal->durable_sequence + 1);
        pending->live->data = journal->region->home + pending->live->offset;
        journal->durable_sequence = pending->live->sequence;
        journal->durable_state = pending->state;
        journal->durable_ticket = pending->ticket;
        journal->pending_first = pending->next;
        if (!journal->pending_first) journal->pending_last = NULL;
        pending->live = NULL; /* the ring's now */
        pending_end(pending, journal);
    }
    /* Before anybody may bring it home, or is told: readers rely on that. */
    journal->region->status.durable_sequence = journal->durable_sequence;
    region_publish_status(journal->region);
}

/* Overwrite the header of a record that may be on the disk in part, so that nobody finds it. */
static evh_status flush_void(struct journal *journal, uint64_t offset)
{
    assert(offset % PAGE_BYTES == 0);
    assert(offset >= REGION_FIRST_EXTENT_OFFSET);
    if (PLANTED(10)) return EVH_OK;
    static const struct journal_record nothing;
    const struct os_part part = {&nothing, sizeof nothing};
    bool flush_failed = false;
    const int error = os->write_sync(journal->region->file, offset, &part, 1, &flush_failed);
    if (!error) return EVH_OK;
    (void)base_fail_os(error, offset, "%s: cannot take a failed commit back",
                       journal->region->path);
    return flush_poison(journal);
}

/* The live records behind `sequence` are no more. Their memory is the caller's. */
static void flush_cut_live(struct journal *journal, uint64_t sequence)
{
    assert(sequence >= journal->region->header.sequence);
    struct journal_live *last = NULL;
    uint64_t bytes = 0;
    for (struct journal_live *live = journal->live_first; live && live->sequence <= sequence;
         live = live->next) {
        last = live;
        bytes += live->bytes;
    }
    assert(journal->live_bytes >= bytes);
    if (last)
        last->next = NULL;
    else
        journal->live_first = NULL;
    journal->live_last = last;
    journal->live_bytes = bytes;
    journal->entries_total = last ? last->entries_total : journal->settled_entries;
}

/* Cut the pending list before `from`; what was cut off comes back newest first. */
static struct journal_pending *flush_cut_pending(struct journal *journal,
                                                 struct journal_pending *from)
{
    assert(from != NULL);
    assert(journal->pending_first != NULL);
    struct journal_pending *last = NULL;
    for (struct journal_pending *p = journal->pending_first; p != from; p = p->next) last = p;
    if (last)
        last->next = NULL;
    else
        journal->pending_first = NULL;
    journal->pending_last = last;
    struct journal_pending *newest = NULL;
    while (from) {
        struct journal_pending *next = from->next;
        from->next = newest;
        newest = from;
        from = next;
    }
    assert(newest != NULL);
    return newest;
}

/* Take back `from` and every record behind it: newest first, so that the index ends as it was. */
static void flush_take_back(struct journal *journal, struct journal_pending *from,
                            evh_status status)
{
    assert(journal_is_sound(journal));
    assert(status != EVH_OK);
    assert(journal->pending_first != NULL);
    assert(from != NULL);
    const uint64_t tail = from->live->offset;
    const struct journal_record *first = (const struct journal_record *)(const void *)from->buffer;
    journal->begun_sequence = first->sequence - 1;
    journal->last_salt = first->previous_salt;
    journal->last_crc = first->previous_crc;
    uint64_t bulk_bytes = 0;
    struct journal_pending *newest = flush_cut_pending(journal, from);
    journal->last_state =
        journal->pending_last ? journal->pending_last->state : journal->durable_state;
    flush_cut_live(journal, journal->begun_sequence);
    while (newest) {
        struct journal_pending *pending = newest;
        newest = pending->next;
        bulk_bytes = base_max(bulk_bytes, pending->bulk_bytes);
        pending_take_back(journal, pending, true);
        journal_note_failure(journal, pending->ticket, status, false);
        pending_end(pending, journal);
    }
    ring_seek(journal, tail);
    journal->sums_heap_bytes = 0; /* what was taken back may have made segments */
    journal->failures++;
    if (bulk_bytes) bulk_clear(journal, bulk_bytes);
}

/* A stretch could not be written. The mutex is held. The failure stays the thread's last error. */
static evh_status flush_failed_turn(struct journal *journal, uint64_t offset, bool flush_failed)
{
    assert(journal_is_sound(journal));
    assert(journal->is_flushing);
    const evh_error failure = *evh_last_error();
    if (flush_failed)
        (void)flush_poison(journal);
    else if (!flush_void(journal, offset))
        flush_take_back(journal, journal->pending_first, failure.status);
    return base_fail(failure.status, failure.offset, "%s", failure.message);
}

/* The flusher's turn: everything pending now. The mutex is held, and released during the
 * writing. */
static evh_status flush_turn(struct journal *journal)
{
    assert(journal_is_sound(journal));
    assert(!journal->is_flushing);
    assert(journal->pending_first != NULL);
    journal->is_flushing = true;
    evh_status status = EVH_OK;
    const uint64_t goal = journal->begun_sequence;
    while (!status && journal->pending_first && journal->durable_sequence < goal) {
        struct flush_stretch stretch;
        bool flush_failed = false;
        flush_gather(journal, &stretch);
        os->mutex_unlock(journal->mutex);
        int error = flush_write(journal, &stretch, &flush_failed);
        if (PLANTED(9) && flush_failed) error = 0;
        if (error)
            status = base_fail_os(error, stretch.offset, "%s: cannot write a commit",
                                  journal->region->path);
        os->mutex_lock(journal->mutex);
        if (status)
            status = flush_failed_turn(journal, stretch.offset, flush_failed);
        else
            flush_done(journal, stretch.last_sequence);
    }
    journal->is_flushing = false;
    os->mutex_signal(journal->mutex);
    return status;
}

evh_status flush_write_only(struct journal *journal, struct journal_pending *pending)
{
    assert(journal_is_sound(journal));
    assert(pending == journal->pending_last);
    assert(!pending->is_written);
    const uint64_t offset = pending->live->offset;
    const uint64_t sequence = pending->live->sequence;
    const uint64_t ticket = pending->ticket;
    const uint64_t failures = journal->failures;
    const int error = os->write(journal->region->file, offset, pending->buffer, pending->bytes);
    if (!error) {
        pending->is_written = true;
        return EVH_OK;
    }
    (void)base_fail_os(error, offset, "%s: cannot write a commit", journal->region->path);
    const evh_error failure = *evh_last_error();
    while (journal->is_flushing) os->mutex_wait(journal->mutex);
    /* A flusher may have had better luck with it, or have taken it back. */
    if (journal->durable_sequence >= sequence) return EVH_OK;
    if (journal->failures == failures && !flush_void(journal, offset))
        flush_take_back(journal, pending, failure.status);
    bool is_durable = false;
    /* The caller is told now: closing need not tell again. */
    (void)flush_look_up(journal, ticket, true, &is_durable);
    return base_fail(failure.status, failure.offset, "%s", failure.message);
}

evh_status flush_all(struct journal *journal)
{
    assert(journal_is_sound(journal));
    evh_status status = flush_poisoned(journal);
    while (!status && (journal->pending_first || journal->is_flushing)) {
        if (journal->is_flushing)
            os->mutex_wait(journal->mutex);
        else
            status = flush_turn(journal);
    }
    return status;
}

evh_status journal_wait(struct journal *journal, uint64_t ticket)
{
    return flush_wait(journal, ticket, true);
}

evh_status flush_wait(struct journal *journal, uint64_t ticket, bool is_owner)
{
    assert(journal != NULL);
    os->mutex_lock(journal->mutex);
    evh_status status = EVH_OK;
    bool is_durable = false;
    while (!status && !is_durable) {
        status = flush_look_up(journal, ticket, is_owner, &is_durable);
        if (status || is_durable) break;
        status = flush_poisoned(journal);
        if (status) break;
        if (journal->is_flushing) {
            os->mutex_wait(journal->mutex);
            continue;
        }
        status = flush_turn(journal);
        if (!status) continue;
        /* The caller is told now: closing need not tell again. */
        const evh_error failure = *evh_last_error();
        (void)flush_look_up(journal, ticket, is_owner, &is_durable);
        status = base_fail(failure.status, failure.offset, "%s", failure.message);
    }
    os->mutex_unlock(journal->mutex);
    return status;
}
