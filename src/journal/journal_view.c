/* journal_view.c -- lay the journal's records over a mapping: recovery, and readers' views.
 *
 * Recovery (a writer opens). After a power cut, or a failed flush, everything is flushed and header
 * and journal dropped from the cache, so that what is read is what the device has. After a kill the
 * cache is the last writer's, and the status page in it tells what it had flushed; the rest of
 * header and journal is flushed now. Every valid record is indexed and laid over the private
 * mapping, in order; but what is settled, home in that cache shows already. No page and no whole
 * record is changed, only the remains of a torn one made void: recovery may be killed and repeated
 * at will. The writer goes on behind the last valid record, with a salt of its own.
 *
 * A view (a reader opens or refreshes) of commit s:
 *   1. learn s, the newest durable commit: from the writer's status page, or, without a writer,
 *      from the journal itself
 *   2. lock byte VIEWS + s, shared. Whoever brings home from commit `from` to T holds the bytes of
 *      `from` to T - 1 until the header says T, so from now on only T <= s can run
 *      (unless a newer one is published meanwhile: who published it may have brought it home and
 *      been killed, and his locks are gone; then it begins anew)
 *   3. read the header and the records up to s, lay them over the mapping
 *   4. read the header again: if a checkpoint has finished meanwhile, records that were read may
 *      have been overwritten, and it begins anew
 * A running checkpoint of T <= s is harmless: it turns home pages into what the view lays over
 * them.
 *
 * A view of an older commit (evh_options.commit_sequence) is the same, with one question more, once
 * its byte is locked: whether somebody who brought more home was killed, and his lock is gone with
 * him. He has said how far he would go, in the status page, between taking his locks and writing.
 */
#include "journal/journal_internal.h"

enum {
    VIEW_ATTEMPTS = 1000,
    /* How far behind the end of the chain later records are looked for: all of the journal would
     * make the first opening after a restart of the system read it once (tens of ms, cold). */
    VIEW_LATER_BYTES = 1 << 20,
};

/* One entry over the working mapping. The page lies below state.heap_bytes, which is mapped. */
static void view_apply_entry(const struct region *region, const struct journal_entry *entry,
                             const unsigned char *record)
{
    assert(entry->page >= SLICE_PAGES);
    assert((entry->page + 1) << PAGE_SHIFT <= region->mapped_bytes);
    unsigned char *page = region->base + (entry->page << PAGE_SHIFT);
    const unsigned char *data = record + (uint64_t)entry->data_offset * 8;
    switch (entry->kind) {
    case JOURNAL_ZERO: memset(page, 0, PAGE_BYTES); break;
    case JOURNAL_IMAGE: memcpy(page, data, PAGE_BYTES); break;
    case JOURNAL_HOME: break; /* the mapping shows it */
    default: page_apply_ranges(page, data, entry->count, NULL);
    }
}

/* ---- recovery ---- */

/* The status page, if the system's cache is still the one that the last writer filled: same boot,
 * same device, same inode. Then the page is exact, for nothing is acknowledged before it is
 * published there; and what the writer settled is in the cache, flushed or not. */
static bool view_cache_is_known(struct region *region, struct region_status *status)
{
    assert(region_has_file(region));
    assert(status != NULL);
    uint8_t boot[sizeof status->boot];
    if (!region_read_status(region, status) || !os->boot(boot)) return false;
    if (memcmp(status->boot, boot, sizeof boot) != 0) return false;
    return status->device == region->device && status->inode == region->inode;
}

void view_withdraw(struct region *region)
{
    assert(region->mode == EVH_DURABLE);
    assert(region_has_file(region));
    struct region_status old;
    if (!region_read_status(region, &old) || old.durable_sequence < region->header.sequence) return;
    region->status = old;
    memset(region->status.boot, 0, sizeof region->status.boot);
    region->status.settled_sequence = 0;
    region_publish_status(region);
}

/*
 * Before anything is believed. In a known cache (a process was killed) what was acknowledged is on
 * the device. What was not, a header or the last records, is made to last before anything follows
 * it. Nothing else is flushed: that would wait for all that was settled.
 * Otherwise everything is flushed and the cache dropped, so that what is read is what the device
 * has.
 */
static evh_status view_settle_cache(struct journal *journal)
{
    assert(journal->region->mode == EVH_DURABLE);
    assert(journal->live_first == NULL);
    struct region *region = journal->region;
    struct region_status status;
    /* A header that may not be flushed: writing it again could destroy it, flushing cannot. */
    journal->cache_is_known =
        view_cache_is_known(region, &status) && status.generation == region->header.generation;
    if (journal->cache_is_known) {
        journal->hint = status.settled_sequence;
        journal->was_closed =
            status.writer_process == 0 && status.durable_sequence == region->header.sequence;
        journal->flushed_sequence = status.durable_sequence;
        region->status.generation = status.generation;
        return EVH_OK;
    }
    if (os->flush(region->file))
        view_withdraw(region);
    else
        journal->sized_bytes = region_file_bytes(region);
    os->drop_cache(region->file, 0, SLICE_BYTES);
    const evh_status reread = region_read_header(region); /* what was read came from the cache */
    region->status.generation = region->header.generation;
    return reread;
}

/*
 * The next record that counts. One that a killed process may not have flushed is flushed now, and
 * read once more from the device: a flush that failed before does not fail again, and what the
 * cache shows may not be there.
 */
static evh_status view_next_kept(struct journal *journal, struct record_walk *walk, bool *found)
{
    assert(walk->journal == journal);
    assert(found != NULL);
    const struct journal_position before = walk_position(walk);
    evh_status status = walk_next(walk, found);
    if (status || !*found || walk->from_device) return status;
    if (walk->sequence <= journal->flushed_sequence) return EVH_OK;
    const int error = os->flush(journal->region->file);
    if (error)
        return base_fail_os(error, walk->record_offset, "%s: cannot flush the last commit",
                            journal->region->path);
    walk_end(walk);
    walk_begin_at(walk, journal, &before);
    walk->from_device = true;
    return walk_next(walk, found);
}

/* What the status page says was durable. Asked before the walk that must find it: afterwards a
 * writer may have come and gone. */
static uint64_t view_published(struct journal *journal)
{
    assert(journal->region->lock_file >= 0);
    assert(region_has_file(journal->region));
    struct region_status status;
    return region_read_status(journal->region, &status) ? status.durable_sequence : 0;
}

/* The chain ended at walk->sequence. Was more acknowledged? Whoever made a commit durable published
 * that in the status page. After a power cut that may be missing or old: then records behind the
 * end are asked. */
static evh_status view_check_end(struct journal *journal, const struct record_walk *walk,
                                 uint64_t published, bool status_is_exact)
{
    assert(walk->sequence >= journal->region->header.sequence);
    assert(walk->journal == journal);
    uint64_t durable = base_max(walk->durable, published);
    if (durable <= walk->sequence && !status_is_exact) {
        const evh_status status = walk_find_later(
            walk, journal->options.verify ? UINT64_MAX : VIEW_LATER_BYTES, &durable);
        if (status) return status;
    }
    if (durable <= walk->sequence) return EVH_OK;
    return base_fail(EVH_CORRUPT, walk->tail,
                     "%s: journal: commit %llu was durable, but its record (at %llu or at an "
                     "extent's start) is damaged; commits up to %llu are intact",
                     journal->region->path, (unsigned long long)walk->sequence + 1,
                     (unsigned long long)walk->tail, (unsigned long long)walk->sequence);
}

/* Note one recovered record as live, and index it. */
static evh_status view_index_record(struct journal *journal, const struct record_walk *walk)
{
    assert(journal->region->home != NULL);
    assert(walk->record != NULL);
    uint32_t count = 0;
    const struct journal_entry *entries = walk_entries(walk, &count);
    const evh_status status = index_reserve(&journal->index, count);
    if (status) return status;
    struct journal_live *live = os->memory_allocate(sizeof *live);
    if (!live) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to recover a commit");
    *live = (struct journal_live){
        .sequence = walk->sequence,
        .offset = walk->record_offset,
        .bytes = walk_record(walk)->record_bytes,
        .entries_total = journal->entries_total + count,
        .data = journal->region->home + walk->record_offset,
    };
    journal->entries_total = live->entries_total;
    ring_add_live(journal, live);
    for (uint32_t i = 0; i < count; i++) {
        if (i + 4 < count) index_expect_node(&journal->index, entries[i + 4].page);
        if (entries[i].kind == JOURNAL_HOME) journal->bulk_sequence = walk->sequence;
        struct journal_node *node = index_find(&journal->index, entries[i].page);
        if (!node) node = index_add(&journal->index, entries[i].page);
        index_note(node, live, &entries[i], walk->record);
    }
    return EVH_OK;
}

/* Go through the chain, calling `each` (if any) for every record up to `limit`. */
static evh_status view_walk(struct journal *journal, struct record_walk *walk, uint64_t limit,
                            evh_status (*each)(struct journal *, const struct record_walk *))
{
    assert(walk->journal == journal);
    assert(limit >= walk->sequence);
    evh_status status = EVH_OK;
    bool found = true;
    while (found && !status && walk->sequence < limit) {
        status = walk_next(walk, &found);
        if (!status && found && each) status = each(journal, walk);
    }
    return status;
}

/* The heap may have grown in this commit: its pages must be mapped before they are laid over. */
static evh_status view_map(struct journal *journal, const struct record_walk *walk)
{
    assert(journal->region == walk->journal->region);
    assert(walk->state.heap_bytes % SLICE_BYTES == 0);
    if (walk->state.heap_bytes <= journal->region->mapped_bytes) return EVH_OK;
    return region_map(journal->region, walk->state.heap_bytes);
}

static evh_status view_recover_record(struct journal *journal, const struct record_walk *walk)
{
    assert(journal->region->mode == EVH_DURABLE);
    assert(walk->sequence > journal->settled.sequence);
    uint32_t count = 0;
    const struct journal_entry *entries = walk_entries(walk, &count);
    const evh_status mapped = view_map(journal, walk);
    if (mapped) return mapped;
    const evh_status indexed = view_index_record(journal, walk);
    if (indexed) return indexed;
    if (walk->sequence <= journal->hint) { /* home shows it already */
        journal->settled = walk_position(walk);
        journal->settled_entries = journal->entries_total;
        return EVH_OK;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].kind == JOURNAL_HOME) continue;
        view_apply_entry(journal->region, &entries[i], walk->record);
        const struct os_pages run = {entries[i].page, 1};
        const evh_status status = bits_add(&journal->private_pages, &run, 1);
        if (status) return status;
    }
    return EVH_OK;
}

/* Once every record is laid over: the pages whose newest change are ranges must be what those made
 * of them. Commits up to `above` are not laid over, and not looked at. */
static evh_status view_verify(const struct journal *journal, uint64_t above)
{
    const struct region *region = journal->region;
    const struct journal_index *index = &journal->index;
    assert(index->node_top <= index->node_limit);
    for (uint32_t i = 0; i < index->node_top; i++) {
        const struct journal_node *node = &index->nodes[i];
        if (node->sequence <= above || !node->ranges_in) continue;
        assert((node->page + 1) << PAGE_SHIFT <= region->mapped_bytes);
        const unsigned char *image = region->base + (node->page << PAGE_SHIFT);
        if (page_checksum(region->header.uuid, node->page, image) == node->checksum) continue;
        return base_fail(EVH_CORRUPT, node->page << PAGE_SHIFT,
                         "%s: page %llu is damaged on the disk: with its changes in the journal it "
                         "is not what was committed",
                         region->path, (unsigned long long)node->page);
    }
    return EVH_OK;
}

evh_status view_recover(struct journal *journal, struct journal_state *state)
{
    assert(journal->live_first == NULL);
    assert(journal->begun_sequence == 0);
    assert(state != NULL);
    struct region *region = journal->region;
    struct record_walk walk;
    evh_status status = view_settle_cache(journal);
    if (status) return status;
    walk_begin(&walk, journal);
    walk.from_device = !journal->cache_is_known;
    journal->settled = walk_position(&walk);
    status = region_map(region, walk.state.heap_bytes);
    bool found = true;
    while (!status && found) {
        status = view_next_kept(journal, &walk, &found);
        if (!status && found) status = view_recover_record(journal, &walk);
    }
    if (!status)
        status = view_check_end(journal, &walk, view_published(journal), journal->cache_is_known);
    if (!status) status = view_verify(journal, journal->hint);
    if (!status && !journal->was_closed) status = walk_void_torn(&walk);
    if (!status) status = bulk_recover(journal, walk.state.heap_bytes);
    if (!status) {
        journal->begun_sequence = walk.sequence;
        journal->durable_sequence = walk.sequence;
        journal->last_salt = walk.salt;
        journal->last_crc = walk.crc;
        journal->last_state = walk.state;
        journal->durable_state = walk.state;
        *state = walk.state;
        /* No record outlives the growth that it tells of. */
        journal->sized_bytes = base_max(journal->sized_bytes, walk.state.heap_bytes);
        ring_seek(journal, walk.tail);
    }
    walk_end(&walk);
    return status;
}

/* ---- views ---- */

/* Whether a writer is at work whose status page is its own. While one is still recovering it
 * appends nothing, and the page is its predecessor's: then the journal alone tells what there
 * is. */
static evh_status view_has_writer(struct journal *journal, bool *has_writer)
{
    struct region *region = journal->region;
    assert(has_writer != NULL);
    assert(region->lock_file >= 0);
    const int error = os->lock_is_taken(region->lock_file, REGION_LOCK_READY, 1, has_writer);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot ask for its lock", region->path);
    return EVH_OK;
}

/* The newest durable commit: what the writer published, or the end of the journal. `*is_settled`
 * false: a writer began meanwhile, and what was found may be its unflushed work. */
static evh_status view_find_newest(struct journal *journal, uint64_t *sequence, bool *is_settled)
{
    struct region *region = journal->region;
    assert(sequence != NULL);
    assert(is_settled != NULL);
    bool has_writer = false;
    evh_status status = view_has_writer(journal, &has_writer);
    *is_settled = true;
    *sequence = region->header.sequence;
    if (status) return status;
    if (has_writer) {
        struct region_status published;
        if (!region_read_status(region, &published)) return EVH_OK;
        *sequence = base_max(*sequence, published.durable_sequence);
        *is_settled = *sequence >= published.revoked_sequence;
        return EVH_OK;
    }
    status = region_read_header(region);
    if (status) return status;
    const uint64_t generation = region->header.generation;
    const uint64_t published = view_published(journal);
    /* What a killed writer did not flush is not shown before its successor has. */
    struct region_status known;
    const bool is_known = view_cache_is_known(region, &known);
    const uint64_t limit =
        is_known ? base_max(known.durable_sequence, region->header.sequence) : UINT64_MAX;
    struct record_walk walk;
    walk_begin(&walk, journal);
    status = view_walk(journal, &walk, limit, NULL);
    *sequence = walk.sequence;
    if (!status) status = view_check_end(journal, &walk, published, is_known);
    walk_end(&walk);
    const evh_error failure = *evh_last_error();
    evh_status asked = view_has_writer(journal, &has_writer);
    if (!asked) asked = region_read_header(region);
    if (asked) return asked;
    *is_settled = !has_writer && region->header.generation == generation;
    if (status && *is_settled) return base_fail(status, failure.offset, "%s", failure.message);
    return EVH_OK;
}

static int view_lock(struct journal *journal, uint64_t sequence, enum os_lock_kind kind)
{
    assert(journal->region->lock_file >= 0);
    assert(sequence < REGION_LOCK_VIEWS);
    return os->lock(journal->region->lock_file, REGION_LOCK_VIEWS + sequence, 1, kind);
}

/* A reader's index lives while its view is built, to verify the pages. */
static evh_status view_apply_record(struct journal *journal, const struct record_walk *walk)
{
    assert(journal->region->mode != EVH_DURABLE);
    assert(journal->watch == NULL);
    uint32_t count = 0;
    const struct journal_entry *entries = walk_entries(walk, &count);
    struct journal_live live = {.sequence = walk->sequence};
    evh_status status = view_map(journal, walk);
    if (!status) status = index_reserve(&journal->index, count);
    for (uint32_t i = 0; i < count && !status; i++) {
        const struct os_pages run = {entries[i].page, 1};
        const bool is_at_home = entries[i].kind == JOURNAL_HOME;
        status = bits_add(is_at_home ? &journal->at_home : &journal->overlaid, &run, 1);
        if (status) break;
        view_apply_entry(journal->region, &entries[i], walk->record);
        struct journal_node *node = index_find(&journal->index, entries[i].page);
        if (!node) node = index_add(&journal->index, entries[i].page);
        index_note(node, &live, &entries[i], walk->record);
    }
    return status;
}

/* Show the file again where an earlier view lay over it. The system refuses to drop a locked page
 * (mlock): such pages stay in the set. */
static void view_uncover(struct journal *journal)
{
    assert(journal->region->mode != EVH_DURABLE);
    struct journal_bits *bits = &journal->overlaid;
    assert(bits->count == 0 || journal->region->base != NULL);
    for (uint64_t word = 0; word < bits->word_count; word++)
        for (uint64_t left = bits->words[word]; left; left &= left - 1) {
            const uint64_t page = word * 64 + base_lowest_bit(left);
            if (!os->discard(journal->region->base + (page << PAGE_SHIFT), PAGE_BYTES))
                bits_remove(bits, page);
        }
    if (bits->count == 0) bits_end(bits);
    bits_end(&journal->at_home);
}

/* Read into pages that are covered still what the file has there. */
static evh_status view_read_covered(struct journal *journal)
{
    const struct region *region = journal->region;
    const struct journal_bits *bits = &journal->overlaid;
    assert(region->mode != EVH_DURABLE);
    assert(bits->count == 0 || region->base != NULL);
    for (uint64_t word = 0; word < bits->word_count; word++)
        for (uint64_t left = bits->words[word]; left; left &= left - 1) {
            const uint64_t offset = (word * 64 + base_lowest_bit(left)) << PAGE_SHIFT;
            size_t done = 0;
            const int error =
                os->read(region->file, offset, region->base + offset, PAGE_BYTES, &done);
            if (error || done < PAGE_BYTES)
                return base_fail_os(error ? error : EIO, offset, "%s: cannot read page %llu",
                                    region->path, (unsigned long long)(offset >> PAGE_SHIFT));
        }
    return EVH_OK;
}

struct view_protection {
    const struct region *region;
    bool writable;
    int error; /* the first */
};

static void view_protect_run(uint64_t offset, uint64_t size, void *context)
{
    assert(offset % SLICE_BYTES == 0);
    assert(size > 0);
    struct view_protection *protection = context;
    const int error = os->protect(protection->region->base + offset, size, protection->writable);
    if (!protection->error) protection->error = error;
}

/* A reader's pages become writable for as long as a view is laid over them. */
static int view_protect(const struct journal *journal, bool writable)
{
    assert(journal->region->base != NULL || journal->region->mapped_bytes == 0);
    assert(journal->watch == NULL);
    struct view_protection protection = {journal->region, writable, 0};
    if (journal->region->mode != EVH_READ_ONLY) return 0;
    region_each_run(journal->region, journal->region->mapped_bytes, view_protect_run, &protection);
    return protection.error;
}

/* Steps 3 and 4, once commit `sequence` is locked. `*is_stable` false: begin anew. */
static evh_status view_build(struct journal *journal, uint64_t sequence,
                             struct journal_state *state, bool *is_stable)
{
    assert(!journal->has_view || journal->region->base != NULL);
    assert(state != NULL);
    assert(is_stable != NULL);
    struct region *region = journal->region;
    struct record_walk walk;
    *is_stable = false;
    evh_status status = region_read_header(region);
    if (status) return status;
    if (region->header.sequence > sequence) return EVH_OK; /* checkpointed beyond it meanwhile */
    const uint64_t generation = region->header.generation;
    walk_begin(&walk, journal);
    status = view_map(journal, &walk);
    if (!status) status = view_read_covered(journal);
    if (!status) status = view_walk(journal, &walk, sequence, view_apply_record);
    *is_stable = walk.sequence == sequence;
    *state = walk.state;
    walk_end(&walk);
    if (!status && *is_stable) status = view_verify(journal, 0);
    index_end(&journal->index);
    journal->index.free_list = JOURNAL_NO_NODE;
    /* Whatever went wrong may come of a checkpoint that finished in between. */
    const evh_error failure = *evh_last_error();
    const evh_status reread = region_read_header(region);
    if (reread) return reread;
    if (region->header.generation != generation) {
        *is_stable = false;
        return EVH_OK;
    }
    if (status) return base_fail(failure.status, failure.offset, "%s", failure.message);
    return EVH_OK;
}

/*
 * Whether home may hold commits beyond `sequence` although its byte could be locked: a writer that
 * brought them home kept readers out until it was killed, between our learning of `sequence` and
 * the lock. What goes home was published as durable before.
 */
static bool view_is_overtaken(struct region *region, uint64_t sequence)
{
    assert(region->lock_file >= 0);
    assert(sequence >= region->header.sequence);
    struct region_status status;
    return region_read_status(region, &status) && status.durable_sequence > sequence;
}

static evh_status view_is_gone(const struct region *region, uint64_t sequence)
{
    assert(sequence > 0);
    assert(region->mode != EVH_DURABLE);
    return base_fail(EVH_STALE, NO_OFFSET,
                     "%s: commit %llu cannot be shown any more: home has, or may have, later ones",
                     region->path, (unsigned long long)sequence);
}

/*
 * Whether commit `wanted`, which is not the newest, can be shown. Its byte is locked: a writer that
 * begins to bring home more from now on leaves it out. One that began before has said so in the
 * status page, if that can be believed: a writer is at work, or the cache is the last one's.
 */
static evh_status view_check_past(struct journal *journal, uint64_t wanted)
{
    assert(wanted > 0);
    assert(journal->region->mode != EVH_DURABLE);
    struct region *region = journal->region;
    struct region_status status;
    bool has_writer = false;
    const evh_status asked = view_has_writer(journal, &has_writer);
    if (asked) return asked;
    const bool is_known = view_cache_is_known(region, &status);
    if ((has_writer || is_known) && region_read_status(region, &status) &&
        status.settling_sequence <= wanted && status.revoked_sequence <= wanted)
        return EVH_OK;
    return view_is_gone(region, wanted);
}

/* The commit that is asked for, if it is not the newest: `*sequence`, which is that. */
static evh_status view_choose(const struct journal *journal, uint64_t *sequence)
{
    const struct region *region = journal->region;
    const uint64_t wanted = journal->options.commit_sequence;
    if (wanted == 0 || wanted == *sequence) return EVH_OK;
    if (wanted > *sequence)
        return base_fail(EVH_NOT_FOUND, NO_OFFSET,
                         "%s: commit %llu is not there: the newest is %llu", region->path,
                         (unsigned long long)wanted, (unsigned long long)*sequence);
    if (wanted < region->header.sequence) return view_is_gone(region, wanted);
    *sequence = wanted;
    return EVH_OK;
}

/* One attempt at a view of the newest commit, or of the one that is asked for. */
static evh_status view_attempt(struct journal *journal, struct journal_state *state,
                               uint64_t *sequence, bool *is_stable)
{
    assert(sequence != NULL);
    assert(is_stable != NULL);
    struct region *region = journal->region;
    *is_stable = false;
    evh_status status = region_measure(region);
    if (!status) status = region_read_header(region);
    if (status) return status;
    bool is_settled = false;
    status = view_find_newest(journal, sequence, &is_settled);
    if (status || !is_settled) return status;
    const uint64_t newest = *sequence;
    status = view_choose(journal, sequence);
    if (status) return status;
    const bool is_past = *sequence < newest;
    const int error = view_lock(journal, *sequence, OS_LOCK_SHARED);
    if (error == EAGAIN && is_past) return view_is_gone(region, *sequence);
    if (error == EAGAIN) return EVH_OK; /* a checkpoint beyond it runs: there is a newer commit */
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot lock a view", region->path);
    if (is_past) status = view_check_past(journal, *sequence);
    if (!status && (is_past || !view_is_overtaken(region, *sequence)))
        status = view_build(journal, *sequence, state, is_stable);
    if (!status && *is_stable) return EVH_OK;
    view_uncover(journal);
    if (*sequence != journal->view_sequence || !journal->has_view)
        (void)view_lock(journal, *sequence, OS_UNLOCK);
    return status;
}

static evh_status view_take(struct journal *journal, struct journal_state *state)
{
    assert(journal->region->mode != EVH_DURABLE);
    assert(journal->watch == NULL);
    const bool had_view = journal->has_view;
    const uint64_t old = journal->view_sequence;
    const int error = view_protect(journal, true);
    if (error) { /* it stays at the view it has */
        (void)view_protect(journal, false);
        return base_fail_os(error, NO_OFFSET, "%s: cannot make its pages writable",
                            journal->region->path);
    }
    view_uncover(journal);
    evh_status status = EVH_OK;
    bool is_stable = false;
    uint64_t sequence = 0;
    for (int i = 0; i < VIEW_ATTEMPTS && !status && !is_stable; i++)
        status = view_attempt(journal, state, &sequence, &is_stable);
    if (!status && !is_stable)
        status = base_fail(EVH_BUSY, NO_OFFSET, "%s: its writer checkpoints faster than it is read",
                           journal->region->path);
    if (had_view && (status || sequence != old)) (void)view_lock(journal, old, OS_UNLOCK);
    journal->has_view = !status;
    if (status) return status;
    journal->view_sequence = sequence;
    journal->last_state = *state;
    (void)view_protect(journal, false); /* it only stops strays */
    return EVH_OK;
}

evh_status view_open(struct journal *journal, struct journal_state *state)
{
    assert(!journal->has_view);
    assert(journal->begun_sequence == 0);
    return view_take(journal, state);
}

void view_lock_settled(struct journal *journal)
{
    assert(journal->region->mode == EVH_DURABLE);
    const uint64_t from = journal->region->header.sequence;
    const uint64_t settled = journal->settled.sequence;
    assert(settled >= from);
    /* Refused by a view that was revoked: it knows. */
    if (settled > from)
        (void)os->lock(journal->region->lock_file, REGION_LOCK_VIEWS + from, settled - from,
                       OS_LOCK_EXCLUSIVE);
}

void view_close(struct journal *journal)
{
    assert(journal != NULL);
    assert(!journal->has_view || journal->region->mode != EVH_DURABLE);
    if (journal->has_view && journal->region->lock_file >= 0)
        (void)view_lock(journal, journal->view_sequence, OS_UNLOCK);
    journal->has_view = false;
}

evh_status journal_refresh(struct journal *journal, struct journal_state *state)
{
    assert(state != NULL);
    if (journal->region->mode != EVH_READ_ONLY)
        return base_fail(EVH_MODE, NO_OFFSET, "%s: only a read-only heap can be refreshed",
                         journal->region->path);
    assert(journal->watch == NULL);
    journal->options.commit_sequence = 0; /* the newest */
    return view_take(journal, state);
}

bool journal_view_valid(const struct journal *journal)
{
    assert(journal != NULL);
    if (!journal->has_view) return journal->region->mode == EVH_DURABLE;
    assert(journal->region->mode != EVH_DURABLE);
    struct region_status status;
    if (!region_read_status(journal->region, &status))
        return true; /* nobody ever wrote beside us */
    return status.revoked_sequence <= journal->view_sequence;
}
