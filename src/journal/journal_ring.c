/* journal_ring.c -- where records go: extents, used one after the other, round and round.
 *
 *      extent 0        extent 1                  extent 2
 *      [ live live | tail .... limit | live ]    [ free      ]
 *
 * A record lies in one extent. The free space at the tail ends at the extent's end or at the lowest
 * live record behind the tail. When it is too small, the next record goes to the start of another
 * extent, if that has room there. Space becomes free when the checkpoint of its record is durable,
 * and never before: recovery may need it until then.
 */
#include "journal/journal_internal.h"

uint32_t ring_extent_count(const struct region *region)
{
    assert(region != NULL);
    uint32_t count = 0;
    while (region_extent_at(region, count).slice_count) count++;
    assert(count <= REGION_EXTENT_MAX);
    return count + 1;
}

void ring_extent(const struct region *region, uint32_t number, uint64_t *offset, uint64_t *bytes)
{
    assert(offset != NULL);
    assert(bytes != NULL);
    assert(number <= REGION_EXTENT_MAX);
    if (number == 0) {
        *offset = REGION_FIRST_EXTENT_OFFSET;
        *bytes = REGION_FIRST_EXTENT_BYTES;
        return;
    }
    const struct region_extent extent = region_extent_at(region, number - 1);
    assert(extent.slice_count > 0);
    *offset = (uint64_t)extent.first_slice << SLICE_SHIFT;
    *bytes = (uint64_t)extent.slice_count << SLICE_SHIFT;
}

uint64_t ring_capacity(const struct region *region)
{
    assert(region != NULL);
    uint64_t capacity = 0;
    for (uint32_t i = 0; i < ring_extent_count(region); i++) {
        uint64_t offset = 0, bytes = 0;
        ring_extent(region, i, &offset, &bytes);
        capacity += bytes;
    }
    assert(capacity >= REGION_FIRST_EXTENT_BYTES);
    return capacity;
}

/* Where the free space that begins at `from` ends, in an extent that ends at `end`. */
static uint64_t ring_free_until(const struct journal *journal, uint64_t from, uint64_t end)
{
    assert(from <= end);
    uint64_t until = end;
    for (const struct journal_live *live = journal->live_first; live; live = live->next) {
        if (live->offset + live->bytes <= from || live->offset >= until) continue;
        until = base_max(live->offset, from);
    }
    assert(until >= from);
    assert(until <= end);
    return until;
}

void ring_seek(struct journal *journal, uint64_t tail)
{
    assert(tail % PAGE_BYTES == 0);
    for (uint32_t i = 0; i < ring_extent_count(journal->region); i++) {
        uint64_t offset = 0, bytes = 0;
        ring_extent(journal->region, i, &offset, &bytes);
        if (tail < offset || tail > offset + bytes) continue;
        journal->extent = i;
        journal->tail = tail;
        journal->tail_limit = ring_free_until(journal, tail, offset + bytes);
        if (tail < offset + bytes) return; /* an end may be another extent's start */
    }
    assert(journal->tail == tail);
}

bool ring_place(struct journal *journal, uint64_t bytes, uint64_t *offset)
{
    assert(journal_is_sound(journal));
    assert(journal->tail <= journal->tail_limit);
    assert(offset != NULL);
    assert(bytes > 0);
    assert(bytes % PAGE_BYTES == 0);
    if (bytes > journal->tail_limit - journal->tail) {
        const uint32_t count = ring_extent_count(journal->region);
        uint32_t tried = 0;
        for (; tried < count; tried++) {
            const uint32_t next = (journal->extent + 1 + tried) % count;
            uint64_t first = 0, size = 0;
            ring_extent(journal->region, next, &first, &size);
            if (size < bytes) continue;
            const uint64_t until = ring_free_until(journal, first, first + size);
            if (until - first < bytes) continue;
            journal->extent = next;
            journal->tail = first;
            journal->tail_limit = until;
            break;
        }
        if (tried == count) return false;
    }
    *offset = journal->tail;
    journal->tail += bytes;
    assert(journal->tail <= journal->tail_limit);
    return true;
}

void ring_add_live(struct journal *journal, struct journal_live *live)
{
    assert(live->offset % PAGE_BYTES == 0);
    assert(live->bytes % PAGE_BYTES == 0);
    assert(live->next == NULL);
    if (journal->live_last) {
        assert(journal->live_last->sequence + 1 == live->sequence);
        journal->live_last->next = live;
    } else {
        journal->live_first = live;
    }
    journal->live_last = live;
    journal->live_bytes += live->bytes;
}

/* A quarter of the heap, so that a small one stays small, and at most twice what may wait, so that
 * commits go on while a checkpoint runs. */
uint64_t ring_suitable(const struct journal *journal)
{
    assert(journal->options.checkpoint_bytes > 0);
    assert(journal->last_state.heap_bytes >= REGION_NEW_BYTES);
    const uint64_t quarter = journal->last_state.heap_bytes / 4;
    const uint64_t most =
        base_min(2 * journal->options.checkpoint_bytes, journal->options.journal_max_bytes);
    return base_max(base_min(quarter, most), REGION_FIRST_EXTENT_BYTES);
}

evh_status ring_write_header(struct journal *journal, struct region_header *next)
{
    struct region *region = journal->region;
    assert(journal->is_checkpointing);
    assert(next->sequence == region->header.sequence);
    bool flush_failed = false;
    const evh_status status = region_write_header(region, next, &flush_failed);
    if (status) return flush_failed ? flush_poison_unlocked(journal) : status;
    os->mutex_lock(journal->mutex);
    region_adopt_header(region, next);
    if (!journal->is_poisoned) region_publish_status(region); /* the header is flushed */
    os->mutex_unlock(journal->mutex);
    return EVH_OK;
}

/* Zero-write new space but for its first `skip` bytes: writing to space that is only allocated
 * makes each commit's flush update the file system's own metadata (measured: 738 against 195
 * microseconds). Space that one record will fill at once is spared that: it is zero, written or
 * not. */
static evh_status ring_zero(struct journal *journal, const struct region_extent *extent,
                            uint64_t skip)
{
    assert(journal->is_checkpointing);
    assert(extent->slice_count > 0);
    assert(skip % PAGE_BYTES == 0);
    struct region *region = journal->region;
    const uint64_t first = (uint64_t)extent->first_slice << SLICE_SHIFT;
    const uint64_t bytes = (uint64_t)extent->slice_count << SLICE_SHIFT;
    int error = bytes > skip ? bulk_write_zeroes(region, first + skip, bytes - skip) : 0;
    if (error) return base_fail_os(error, first, "%s: cannot extend its journal", region->path);
    error = os->flush(region->file);
    if (!error) return EVH_OK;
    (void)base_fail_os(error, first, "%s: cannot flush its journal's new extent", region->path);
    return flush_poison_unlocked(journal);
}

/* Add an extent of at least `bytes`, of which a record will fill the first `record_bytes`. Header
 * and home are claimed, growth is held back; the mutex is not held. */
static evh_status ring_extend(struct journal *journal, uint64_t bytes, uint64_t record_bytes)
{
    assert(journal->is_checkpointing);
    assert(bytes > 0);
    struct region *region = journal->region;
    const uint32_t number = ring_extent_count(region) - 1;
    if (number >= REGION_EXTENT_MAX)
        return base_fail(EVH_LIMIT, NO_OFFSET, "%s: its journal has all %u extents", region->path,
                         REGION_EXTENT_MAX + 1u);
    const uint64_t size = base_round_up(base_max(bytes, SLICE_BYTES), SLICE_BYTES);
    evh_status status = region_allocate_extent(region, journal->last_state.heap_bytes,
                                               (uint32_t)(size >> SLICE_SHIFT), number);
    if (status) return status;
    const struct region_extent extent = region_extent_at(region, number);
    status = ring_zero(journal, &extent, record_bytes);
    if (!status) {
        struct region_header next = region->header;
        status = ring_write_header(journal, &next);
    }
    if (status) region_drop_extent(region, number);
    return status;
}

/* With the mutex held on entry and return, and the header claimed meanwhile. `record_bytes`: as in
 * ring_extend(). */
static evh_status ring_try_extend(struct journal *journal, uint64_t bytes, uint64_t record_bytes)
{
    assert(journal_is_sound(journal));
    assert(bytes % PAGE_BYTES == 0);
    checkpoint_claim(journal);
    os->mutex_unlock(journal->mutex);
    /* A heap that grows meanwhile would leave the extent out, also if it fails: it waits. That is
     * for one extent of sixteen in a heap's life. */
    region_plan_begin(journal->region);
    const evh_status status = ring_extend(journal, bytes, record_bytes);
    region_plan_end(journal->region);
    os->mutex_lock(journal->mutex);
    checkpoint_release(journal);
    return status;
}

/*
 * The order: a ring that is too small for its heap grows; else a checkpoint frees what waits; else,
 * when a reader's view forbids that, the ring grows to its maximum; else the view is revoked. A
 * record larger than every extent gets one of its own whatever the maximum says.
 */
evh_status ring_make_room(struct journal *journal, uint64_t bytes)
{
    assert(journal_is_sound(journal));
    assert(bytes > 0);
    assert(journal->built == NULL);
    const uint64_t capacity = ring_capacity(journal->region);
    const uint64_t suitable = ring_suitable(journal);
    uint64_t largest = 0;
    for (uint32_t i = 0; i < ring_extent_count(journal->region); i++) {
        uint64_t offset = 0, size = 0;
        ring_extent(journal->region, i, &offset, &size);
        largest = base_max(largest, size);
    }
    evh_status status = EVH_OK;
    if (bytes > largest || capacity < suitable) {
        uint64_t more = base_min(capacity, suitable - base_min(capacity, suitable));
        /* Each larger than all before by half: sixteen extents hold any record there can be. */
        if (bytes > largest) more = base_max(more, 2 * largest);
        /* Larger than all others, it goes nowhere else. */
        status = ring_try_extend(journal, base_max(bytes, more), bytes > largest ? bytes : 0);
        if (!status || bytes > largest) return status;
        if (journal->is_poisoned) return flush_poisoned(journal);
    }
    status = flush_all(journal); /* only what is durable can go home */
    if (status) return status;
    const uint64_t before = journal->region->header.sequence;
    status = checkpoint_run(journal, CHECKPOINT_WHOLE);
    if (journal->region->header.sequence > before) return EVH_OK;
    if (status != EVH_BUSY) return status;
    if (capacity < journal->options.journal_max_bytes) {
        status = ring_try_extend(journal, base_max(bytes, capacity / 2), 0);
        if (!status) return EVH_OK;
        if (journal->is_poisoned) return status;
    }
    return checkpoint_run(journal, CHECKPOINT_FORCE);
}

/* ---- giving it back ---- */

/* How many of the header's extents stay: the last ones go while they lie behind the heap and the
 * ring is large enough without them, or they are far larger than suits. Extents that the heap has
 * grown around stay: their addresses are in nobody's hands. */
static uint32_t ring_keep(const struct journal *journal)
{
    const struct region *region = journal->region;
    const uint64_t suitable = ring_suitable(journal);
    uint64_t capacity = ring_capacity(region);
    uint32_t keep = ring_extent_count(region) - 1;
    assert(keep <= REGION_EXTENT_MAX);
    while (keep > 0) {
        uint64_t offset = 0, bytes = 0;
        ring_extent(region, keep, &offset, &bytes);
        if (offset < region->mapped_bytes) break;
        if (capacity - bytes < suitable && bytes <= 2 * suitable) break;
        capacity -= bytes;
        keep--;
    }
    assert(capacity >= REGION_FIRST_EXTENT_BYTES);
    return keep;
}

/* The header names `keep` extents, and marks the space of the others as holding anything. From here
 * on the ring is without them. */
static evh_status ring_drop(struct journal *journal, uint32_t keep, uint64_t end_bytes)
{
    struct region *region = journal->region;
    assert(journal->live_first == NULL);
    assert(keep + 1 < ring_extent_count(region));
    struct region_header next = region->header;
    memset(&next.extents[keep], 0, (REGION_EXTENT_MAX - keep) * sizeof next.extents[0]);
    next.tail_offset = REGION_FIRST_EXTENT_OFFSET; /* nothing is live: anywhere will do */
    next.incompatible |= REGION_FEATURE_BULK;
    next.bulk_bytes = end_bytes;
    const evh_status status = ring_write_header(journal, &next);
    if (status) return status;
    os->mutex_lock(journal->mutex); /* others ask how large the ring is */
    while (ring_extent_count(region) - 1 > keep)
        region_drop_extent(region, ring_extent_count(region) - 2);
    journal->settled.tail = next.tail_offset;
    ring_seek(journal, next.tail_offset);
    os->mutex_unlock(journal->mutex);
    return EVH_OK;
}

/*
 * The order: a header without the extents, with a mark; zero their space, durably, for whoever gets
 * it next relies on that; a header without the mark, so that neither slot names the extents; cut
 * the file off.
 */
static evh_status ring_shrink(struct journal *journal, uint32_t keep, uint64_t *freed_bytes)
{
    struct region *region = journal->region;
    assert(journal->is_checkpointing);
    assert(*freed_bytes == 0);
    const uint64_t before = ring_capacity(region);
    uint64_t end_bytes = 0;
    for (uint32_t i = keep + 1; i < ring_extent_count(region); i++) {
        uint64_t offset = 0, bytes = 0;
        ring_extent(region, i, &offset, &bytes);
        assert(offset >= region->mapped_bytes);
        end_bytes = base_max(end_bytes, offset + bytes);
    }
    evh_status status = ring_drop(journal, keep, end_bytes);
    if (status) return status;
    if (bulk_zero(region, region->mapped_bytes, end_bytes, false))
        return flush_poison_unlocked(journal);
    *freed_bytes = before - ring_capacity(region);
    struct region_header next = region->header;
    bulk_unmark(&next);
    status = ring_write_header(journal, &next);
    if (!status) status = region_shrink_file(region);
    if (status) return status;
    const int error = os->flush(region->file);
    if (!error) return EVH_OK;
    (void)base_fail_os(error, NO_OFFSET, "%s: trim: the flush failed", region->path);
    return flush_poison_unlocked(journal);
}

evh_status journal_shrink(struct journal *journal, uint64_t *freed_bytes)
{
    struct region *region = journal->region;
    assert(freed_bytes != NULL);
    assert(journal->watch != NULL);
    *freed_bytes = 0;
    os->mutex_lock(journal->mutex);
    evh_status status = flush_poisoned(journal);
    checkpoint_claim(journal);
    bool is_viewed = true;
    const uint32_t keep = ring_keep(journal);
    const bool is_wanted = !status && !journal->live_first && keep + 1 < ring_extent_count(region);
    if (is_wanted && os->lock_is_taken(region->lock_file, REGION_LOCK_VIEWS,
                                       INT64_MAX - REGION_LOCK_VIEWS, &is_viewed))
        is_viewed = true;
    if (is_wanted && !is_viewed) {
        os->mutex_unlock(journal->mutex);
        region_plan_begin(region);
        status = ring_shrink(journal, keep, freed_bytes);
        region_plan_end(region);
        os->mutex_lock(journal->mutex);
        journal->sized_bytes = base_min(journal->sized_bytes, region_file_bytes(region));
    }
    checkpoint_release(journal);
    os->mutex_unlock(journal->mutex);
    return status;
}
