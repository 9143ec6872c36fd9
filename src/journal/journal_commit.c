/* journal_commit.c -- copy what changed, and hand it to the file.
 *
 * Cost of a commit, estimated: the watch's scan (1.1 ns per watched resident page), 0.3 us per
 * dirty page to compare it with its base and copy what differs, 0.16 us for each KiB of record, and
 * of a page that ranges are taken from, for the checksums, one write with one flush. A commit of
 * one changed word is a record of one page.
 */
#include "journal/journal_internal.h"

/* An entry finds its data with 32 bits, in units of 8 bytes: 32 GiB. */
enum { COMMIT_PAGES_MAX = (1 << 23) - (1 << 16) };

/* Room for a record of up to `pages` pages: a whole image each, its entry, the header; and for
 * pages at home an entry each. */
static uint64_t commit_record_bytes_max(uint64_t pages, uint64_t home_pages)
{
    assert(pages <= COMMIT_PAGES_MAX);
    assert(home_pages <= COMMIT_PAGES_MAX);
    return base_round_up(sizeof(struct journal_record) + pages * PAGE_BYTES +
                             (pages + home_pages) * sizeof(struct journal_entry),
                         PAGE_BYTES);
}

static unsigned char *commit_take_buffer(struct journal *journal, uint64_t bytes, uint64_t *size)
{
    assert(bytes > 0);
    assert(size != NULL);
    unsigned char *buffer = journal->spare;
    if (buffer && journal->spare_bytes >= bytes) {
        *size = journal->spare_bytes;
        journal->spare = NULL;
        return buffer;
    }
    *size = base_max(bytes, 16 * PAGE_BYTES);
    return os->memory_allocate(*size);
}

struct journal_pending *commit_new_pending(struct journal *journal, uint64_t pages,
                                           uint64_t home_pages)
{
    assert(journal != NULL);
    assert(pages + home_pages <= COMMIT_PAGES_MAX);
    struct journal_pending *pending = os->memory_allocate(sizeof *pending);
    if (!pending) return NULL;
    pending->buffer = commit_take_buffer(journal, commit_record_bytes_max(pages, home_pages),
                                         &pending->buffer_bytes);
    pending->live = os->memory_allocate(sizeof *pending->live);
    pending->undo = os->memory_allocate(base_max(pages + home_pages, 1) * sizeof *pending->undo);
    if (pending->buffer && pending->live && pending->undo) return pending;
    pending_end(pending, journal);
    return NULL;
}

static void commit_entry(struct commit_builder *builder, uint64_t page, enum journal_kind kind,
                         uint64_t data_at, uint32_t count)
{
    assert(kind == JOURNAL_RANGES || count == 0);
    assert(builder->pending->entry_count == 0 ||
           builder->entries[builder->pending->entry_count - 1].page < page);
    assert(builder->at <= builder->pending->buffer_bytes);
    assert(data_at % 8 == 0);
    builder->entries[builder->pending->entry_count++] = (struct journal_entry){
        .page = page,
        .data_offset = kind == JOURNAL_ZERO ? 0 : (uint32_t)(data_at / 8),
        .kind = (uint16_t)kind,
        .count = (uint16_t)count,
    };
}

void commit_home(struct commit_builder *builder, uint64_t page, uint32_t checksum)
{
    assert(checksum >= JOURNAL_SUM_FIRST);
    assert(page >= SLICE_PAGES);
    commit_entry(builder, page, JOURNAL_HOME, 0, 0);
    builder->entries[builder->pending->entry_count - 1].data_offset = checksum;
    builder->changed_bytes += PAGE_BYTES;
}

/* The same ranges with the same words as before: the page was stored to, but not changed. */
static bool commit_is_same(const struct journal_node *node, const unsigned char *data,
                           uint32_t size, uint32_t count)
{
    enum { HEAD = sizeof(struct journal_ranges_head) };
    assert(size > HEAD);
    assert(count > 0);
    if (!node || !node->ranges_in || node->ranges_count != count) return false;
    return memcmp(node->ranges_in->data + node->ranges_at + HEAD, data + HEAD, size - HEAD) == 0;
}

/* Write one page's change into the record. `page` is its present content. */
void commit_page(struct commit_builder *builder, uint64_t number, const unsigned char *page)
{
    assert(number >= SLICE_PAGES);
    assert(page != NULL);
    struct journal *journal = builder->journal;
    struct journal_node *node = index_find(&journal->index, number);
    unsigned char *data = builder->pending->buffer + builder->at;
    const bool is_new =
        builder->is_exact && !node && number >= journal->region->header.heap_bytes >> PAGE_SHIFT;
    uint64_t mask[JOURNAL_MASK_WORDS];
    if (!is_new) {
        page_compare(page, page_base(journal, node, number), mask);
        if (node && node->ranges_in)
            for (uint32_t i = 0; i < JOURNAL_MASK_WORDS; i++) mask[i] |= node->mask[i];
        const uint32_t bytes = page_ranges_bytes(mask);
        if (bytes == 0) return; /* as it was, and no ranges before */
        if (bytes <= JOURNAL_RANGES_BYTES_MAX) {
            uint32_t count = 0;
            const uint32_t used = page_write_ranges(page, mask, data, &count);
            if (commit_is_same(node, data, used, count)) return;
            const struct journal_ranges_head head = {
                .checksum = page_checksum(journal->region->header.uuid, number, page)};
            memcpy(data, &head, sizeof head);
            commit_entry(builder, number, JOURNAL_RANGES, builder->at, count);
            builder->at += used;
            builder->changed_bytes += used;
            return;
        }
    }
    builder->changed_bytes += PAGE_BYTES;
    if (page_is_zero(page)) {
        commit_entry(builder, number, JOURNAL_ZERO, 0, 0);
        return;
    }
    memcpy(data, page, PAGE_BYTES);
    commit_entry(builder, number, JOURNAL_IMAGE, builder->at, 0);
    builder->at += PAGE_BYTES;
}

void commit_builder_begin(struct commit_builder *builder, struct journal *journal,
                          struct journal_pending *pending, uint64_t pages)
{
    assert(pages <= COMMIT_PAGES_MAX);
    assert(pending->entry_count == 0);
    *builder = (struct commit_builder){
        .journal = journal,
        .pending = pending,
        .at = sizeof(struct journal_record),
    };
    const uint64_t entries_at = sizeof(struct journal_record) + pages * PAGE_BYTES;
    builder->entries = (struct journal_entry *)(void *)(pending->buffer + entries_at);
    assert(entries_at + pages * sizeof(struct journal_entry) <= pending->buffer_bytes);
}

/* Close the record: entries behind the data, zeroes to the end of the page, the header but for its
 * place in the chain. */
void commit_builder_end(struct commit_builder *builder, const struct journal_state *state)
{
    assert(state->catalog != 0);
    struct journal_pending *pending = builder->pending;
    const uint64_t size = pending->entry_count * sizeof(struct journal_entry);
    memmove(pending->buffer + builder->at, builder->entries, size);
    const uint64_t end = builder->at + size;
    pending->bytes = base_round_up(end, PAGE_BYTES);
    assert(builder->at % 8 == 0);
    assert(pending->bytes <= pending->buffer_bytes);
    memset(pending->buffer + end, 0, pending->bytes - end);
    pending->state = *state;
    struct journal_record *record = (struct journal_record *)(void *)pending->buffer;
    *record = (struct journal_record){
        .magic = JOURNAL_MAGIC,
        .entry_count = pending->entry_count,
        .record_bytes = pending->bytes,
        .entries_offset = builder->at,
        .heap_bytes = state->heap_bytes,
        .catalog = state->catalog,
        .time_ns = os->time_ns(),
        .changed_bytes = builder->changed_bytes,
    };
    memcpy(record->uuid, builder->journal->region->header.uuid, sizeof record->uuid);
}

/* Ask the watch; what it says joins the carry, which is then the set of dirty pages. */
evh_status collect_dirty(struct journal *journal, bool *is_exact)
{
    assert(journal_is_sound(journal));
    assert(journal->watch != NULL);
    assert(is_exact != NULL);
    const struct os_pages *runs = NULL;
    size_t count = 0;
    const int error =
        os->watch_collect(journal->watch, journal->region->mapped_bytes, &runs, &count, is_exact);
    if (error && error != ENOMEM)
        return base_fail_os(error, NO_OFFSET, "%s: cannot find its dirty pages",
                            journal->region->path);
    const evh_status status = pages_merge(&journal->carry, runs, count);
    if (status) {
        /* The runs have left the watch and found no room here: they would be lost. */
        journal->must_compare_all = true;
        return status;
    }
    if (error) return base_fail_os(error, NO_OFFSET, "no memory to find the dirty pages");
    if (!journal->must_compare_all) return EVH_OK;
    const struct os_pages all = {SLICE_PAGES,
                                 (journal->region->mapped_bytes >> PAGE_SHIFT) - SLICE_PAGES};
    const evh_status merged = pages_merge(&journal->carry, &all, 1);
    if (!merged) journal->must_compare_all = false;
    return merged;
}

/* Whether the built record changes a page. `*at` goes forward through its entries. */
static bool commit_changes(const struct journal *journal, uint32_t *at, uint64_t page)
{
    assert(at != NULL);
    const struct journal_pending *pending = journal->built;
    if (!pending) return false;
    const struct journal_record *record =
        (const struct journal_record *)(const void *)pending->buffer;
    const struct journal_entry *entries =
        (const struct journal_entry *)(const void *)(pending->buffer + record->entries_offset);
    assert(*at <= pending->entry_count);
    while (*at < pending->entry_count && entries[*at].page < page) ++*at;
    return *at < pending->entry_count && entries[*at].page == page;
}

/* Whether pages [first, end) show what their home has. `*at` as in commit_changes(). */
static bool commit_are_home(struct journal *journal, uint32_t *at, uint64_t first, uint64_t end)
{
    assert(at != NULL);
    assert(first < end);
    if (end > journal->region->mapped_bytes >> PAGE_SHIFT) return false;
    for (uint64_t page = first; page < end; page++) {
        if (commit_changes(journal, at, page)) return false;
        if (!PLANTED(11) && index_find(&journal->index, page)) return false;
    }
    return true;
}

/* Give up private copies that are home and idle when they are too many. The record is built; all
 * threads are still. A system whose pages are larger than ours drops all that are in one of its. */
static void commit_bound_private(struct journal *journal)
{
    assert(journal_is_sound(journal));
    assert(journal->options.private_max_bytes > 0);
    struct journal_bits *bits = &journal->private_pages;
    if (bits->count <= journal->options.private_max_bytes >> PAGE_SHIFT) return;
    const uint64_t step = base_max(os->page_bytes(), PAGE_BYTES) >> PAGE_SHIFT;
    assert(step <= SLICE_PAGES);
    uint64_t end = 0;
    uint32_t at = 0;
    for (uint64_t word = 0; word < bits->word_count; word++)
        for (uint64_t left = bits->words[word]; left; left &= left - 1) {
            const uint64_t first = base_round_down(word * 64 + base_lowest_bit(left), step);
            if (first < end) continue; /* was looked at with the one before it */
            end = first + step;
            if (!commit_are_home(journal, &at, first, end)) continue;
            const uint64_t offset = first << PAGE_SHIFT;
            if (os->discard(journal->region->base + offset, step << PAGE_SHIFT)) return;
            os->watch_discarded(journal->watch, offset, step << PAGE_SHIFT);
            for (uint64_t page = first; page < end; page++) bits_remove(bits, page);
        }
}

/*
 * Scattered pages wait for memory: for the index, then for the page and its home. Ask for them some
 * runs ahead.
 */
static void commit_look_ahead(const struct journal *journal, size_t run, uint64_t limit)
{
    enum { INDEX_AHEAD = 12, NODE_AHEAD = 8, PAGE_AHEAD = 2, LINE_BYTES = 64 };
    const struct journal_pages *carry = &journal->carry;
    assert(run < carry->count);
    if (run + INDEX_AHEAD < carry->count)
        index_expect(&journal->index, carry->runs[run + INDEX_AHEAD].first);
    if (run + NODE_AHEAD < carry->count)
        index_expect_node(&journal->index, carry->runs[run + NODE_AHEAD].first);
    if (run + PAGE_AHEAD >= carry->count) return;
    const uint64_t page = carry->runs[run + PAGE_AHEAD].first;
    if (page >= limit) return;
    const unsigned char *working = journal->region->base + (page << PAGE_SHIFT);
    const unsigned char *home = journal->region->home + (page << PAGE_SHIFT);
    for (uint32_t at = 0; at < PAGE_BYTES; at += LINE_BYTES) {
        __builtin_prefetch(working + at);
        __builtin_prefetch(home + at);
    }
}

/* A run of dirty pages, slice by slice: what the journal keeps for itself is none of a commit's. */
static void commit_run(struct commit_builder *builder, uint64_t page, uint64_t end)
{
    assert(builder->journal->built == NULL);
    assert(page >= SLICE_PAGES || page >= end);
    const struct region *region = builder->journal->region;
    while (page < end) {
        uint64_t behind = 0;
        if (checkpoint_owns_slice(builder->journal, page / SLICE_PAGES, &behind)) {
            page = behind * SLICE_PAGES;
            continue;
        }
        const uint64_t stop = base_min(end, (page / SLICE_PAGES + 1) * SLICE_PAGES);
        for (; page < stop; page++) {
            if (PLANTED(6) && page % 7 == 3 && end - page > 2) continue;
            commit_page(builder, page, region->base + (page << PAGE_SHIFT));
        }
    }
}

/* Those pages of the carry whose content goes into the record. */
static void commit_copy_pages(struct commit_builder *builder, uint64_t limit)
{
    struct journal *journal = builder->journal;
    assert(journal_is_sound(journal));
    assert(builder->pending->entry_count == 0);
    for (size_t i = 0; i < journal->carry.count; i++) {
        const struct os_pages run = journal->carry.runs[i];
        if (run.first >= limit) break;
        commit_look_ahead(journal, i, limit);
        commit_run(builder, run.first, base_min(run.first + run.count, limit));
    }
}

/* Build the record of all pages in the carry. */
static evh_status commit_build(struct journal *journal, const struct journal_state *state,
                               bool is_exact)
{
    assert(state->heap_bytes % SLICE_BYTES == 0);
    assert(journal->built == NULL);
    const uint64_t pages = pages_count(&journal->carry);
    if (pages > COMMIT_PAGES_MAX)
        return base_fail(EVH_LIMIT, NO_OFFSET,
                         "%s: %llu changed pages in one commit, at most %u fit: commit more often",
                         journal->region->path, (unsigned long long)pages, COMMIT_PAGES_MAX);
    struct bulk bulk;
    evh_status status = bulk_begin(journal, state, is_exact, &bulk);
    if (status) return status;
    struct journal_pending *pending =
        commit_new_pending(journal, pages - bulk.page_count, bulk.page_count);
    if (!pending) {
        journal->bulk_is_under_way = false; /* nothing is written yet */
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to copy %llu changed pages",
                         journal->region->path, (unsigned long long)pages);
    }
    struct commit_builder builder;
    commit_builder_begin(&builder, journal, pending, pages - bulk.page_count);
    builder.is_exact = is_exact;
    commit_copy_pages(&builder, bulk.first);
    journal->dirty_count = 0;
    if (bulk.page_count) status = bulk_write(&builder, &bulk);
    const bool is_same = state->heap_bytes == journal->last_state.heap_bytes &&
                         state->catalog == journal->last_state.catalog;
    if (status || (pending->entry_count == 0 && is_same)) {
        if (status) bulk_clear(journal, bulk.end_bytes);
        pending_end(pending, journal);
        return status;
    }
    commit_builder_end(&builder, state);
    journal->built = pending;
    return EVH_OK;
}

uint64_t commit_hand_out(struct journal *journal)
{
    assert(journal->last_ticket >= journal->durable_ticket);
    if (!journal->built) /* nothing changed: whoever waits, waits for what was begun before */
        return journal->pending_last ? journal->pending_last->ticket : journal->durable_ticket;
    journal->built_failures = journal->failures;
    journal->built->ticket = ++journal->last_ticket;
    assert(journal->built->ticket > journal->durable_ticket);
    return journal->last_ticket;
}

evh_status journal_copy(struct journal *journal, const struct journal_state *state,
                        uint64_t *ticket)
{
    assert(journal->watch != NULL);
    assert(state->heap_bytes <= journal->region->mapped_bytes);
    os->mutex_lock(journal->mutex);
    assert(journal->built == NULL);
    evh_status status = flush_poisoned(journal);
    bool is_exact = false;
    if (!status) status = journal_reserve_failures(journal);
    if (!status) status = checksum_find_slices(journal, state->heap_bytes);
    if (!status) status = collect_dirty(journal, &is_exact);
    if (!status)
        status = bits_add(&journal->private_pages, journal->carry.runs, journal->carry.count);
    if (!status) status = commit_build(journal, state, is_exact);
    if (!status) {
        journal->carry.count = 0; /* the record has them; if it fails they come back */
        *ticket = commit_hand_out(journal);
        commit_bound_private(journal);
    }
    os->mutex_unlock(journal->mutex);
    return status;
}

/* Give the built record its place in the chain. The mutex is held. */
static void commit_chain(struct journal *journal, struct journal_pending *pending)
{
    assert(journal_is_sound(journal));
    assert(pending->entry_count * sizeof(struct journal_entry) < pending->bytes);
    assert(pending->bytes % PAGE_BYTES == 0);
    struct journal_record *record = (struct journal_record *)(void *)pending->buffer;
    record->sequence = journal->begun_sequence + 1;
    record->salt = journal->salt;
    record->previous_salt = journal->last_salt;
    record->previous_crc = journal->last_crc;
    record->durable_sequence = journal->durable_sequence;
    record->body_crc =
        base_crc32c(0, pending->buffer + sizeof *record, pending->bytes - sizeof *record);
    record->header_crc = base_crc32c(0, record, offsetof(struct journal_record, header_crc));
}

/* Note in the index where the newest change of each page is, remembering how it was. Room for the
 * nodes is there. */
static void commit_index(struct journal *journal, struct journal_pending *pending)
{
    assert(pending->live->sequence == journal->begun_sequence + 1);
    const struct journal_record *record =
        (const struct journal_record *)(const void *)pending->buffer;
    assert(record->entry_count == pending->entry_count);
    const struct journal_entry *entries =
        (const struct journal_entry *)(const void *)(pending->buffer + record->entries_offset);
    for (uint32_t i = 0; i < pending->entry_count; i++) {
        const struct journal_entry *entry = &entries[i];
        struct journal_node *node = index_find(&journal->index, entry->page);
        struct journal_node *before = &pending->undo[i].before;
        if (node)
            *before = *node;
        else
            memset(before, 0, sizeof *before);
        if (!node) node = index_add(&journal->index, entry->page);
        index_note(node, pending->live, entry, pending->buffer);
    }
}

/* The built record did not get into the file: its pages are dirty again. */
static void commit_fail_built(struct journal *journal, struct journal_pending *pending)
{
    assert(pending->live->sequence == 0);
    assert(journal->built == NULL);
    pending_take_back(journal, pending, false);
    journal_note_failure(journal, pending->ticket, evh_last_error()->status, true);
    if (pending->bulk_bytes) bulk_clear(journal, pending->bulk_bytes);
    pending_end(pending, journal);
}

static evh_status commit_place(struct journal *journal, struct journal_pending *pending,
                               uint64_t *offset)
{
    assert(journal_is_sound(journal));
    assert(pending->bytes > 0);
    assert(offset != NULL);
    evh_status status = index_reserve(&journal->index, pending->entry_count);
    /* Each turn frees or adds space. Three see a ring grown, a checkpoint made, a view revoked;
     * more are needed where readers move on meanwhile, so that each checkpoint frees a little. */
    for (int turn = 0; turn < 64 && !status; turn++) {
        if (journal->built_failures != journal->failures)
            return base_fail(EVH_FULL, NO_OFFSET,
                             "%s: the commit before this one failed, and this one with it",
                             journal->region->path);
        if (journal->is_poisoned) return flush_poisoned(journal);
        if (ring_place(journal, pending->bytes, offset)) return EVH_OK;
        status = ring_make_room(journal, pending->bytes);
    }
    if (status) return status;
    return base_fail(EVH_FULL, NO_OFFSET, "%s: its journal has no room for %llu bytes",
                     journal->region->path, (unsigned long long)pending->bytes);
}

/* Place the built record, chain it, index it, queue it. The mutex is held. */
static evh_status commit_enqueue(struct journal *journal, struct journal_pending *pending)
{
    assert(journal_is_sound(journal));
    assert(pending->next == NULL);
    uint64_t offset = 0;
    const evh_status status = commit_place(journal, pending, &offset);
    if (status) return status;
    commit_chain(journal, pending);
    const struct journal_record *record =
        (const struct journal_record *)(const void *)pending->buffer;
    struct journal_live *live = pending->live;
    *live = (struct journal_live){
        .sequence = record->sequence,
        .offset = offset,
        .bytes = pending->bytes,
        .entries_total = journal->entries_total + pending->entry_count,
        .data = pending->buffer,
    };
    journal->entries_total = live->entries_total;
    commit_index(journal, pending);
    ring_add_live(journal, live);
    if (pending->bulk_bytes) {
        journal->bulk_sequence = record->sequence;
        journal->bulk_is_under_way = false;
    }
    journal->begun_sequence = record->sequence;
    journal->last_salt = record->salt;
    journal->last_crc = record->header_crc;
    journal->last_state = pending->state;
    if (journal->pending_last)
        journal->pending_last->next = pending;
    else
        journal->pending_first = pending;
    journal->pending_last = pending;
    journal->commits++;
    journal->pages_committed += pending->entry_count;
    return EVH_OK;
}

/* A record must never outlive the growth of the file that its heap lies in: recovery would find a
 * heap that is cut off. Growth doubles, so this flush is rare. Nor may it outlive the pages that it
 * names at home. The mutex is held, and released meanwhile. */
static evh_status commit_flush_before(struct journal *journal,
                                      const struct journal_pending *pending)
{
    const uint64_t heap_bytes = pending->state.heap_bytes;
    assert(heap_bytes % SLICE_BYTES == 0);
    const uint64_t file_bytes = region_file_bytes(journal->region);
    const bool has_bulk = pending->bulk_bytes != 0 && !PLANTED(22);
    if (heap_bytes <= journal->sized_bytes && !has_bulk) return EVH_OK;
    assert(heap_bytes <= file_bytes);
    os->mutex_unlock(journal->mutex);
    const int error = os->flush(journal->region->file);
    os->mutex_lock(journal->mutex);
    if (!error) {
        journal->sized_bytes = file_bytes;
        return EVH_OK;
    }
    (void)base_fail_os(error, NO_OFFSET, "%s: cannot make its growth durable",
                       journal->region->path);
    return flush_poison(journal);
}

evh_status journal_write(struct journal *journal, uint64_t ticket, bool flush,
                         void (*release)(void *context), void *context)
{
    assert(release != NULL);
    os->mutex_lock(journal->mutex);
    struct journal_pending *pending = journal->built;
    journal->built = NULL;
    const bool is_owner = pending != NULL;
    evh_status status = EVH_OK;
    if (pending) {
        assert(pending->ticket == ticket);
        status = commit_flush_before(journal, pending);
        if (!status) status = commit_enqueue(journal, pending);
        if (status) commit_fail_built(journal, pending);
        if (!status && !flush) status = flush_write_only(journal, pending);
        if (!status) checkpoint_consider(journal);
    }
    os->mutex_unlock(journal->mutex);
    release(context);
    if (status || !flush) return status;
    return flush_wait(journal, ticket, is_owner);
}
