/* slices_grow.c -- the heap's end moves: more slices, and the metadata of new segments.
 *
 * A plan is made before anything changes: where the wanted run will lie, and where the heap's own
 * slices (the items) go, which new segments need: a metadata and a checksum slice each, and a
 * directory slice for every 8192 of them. Items are placed in order of their segments from the
 * start of the free slices at the heap's end, the run behind them; neither takes slices of the
 * journal:
 *
 *     ... used | free | old end                                   new end
 *              [items, ascending][ the run: `count` slices ][ a few more ]
 *
 * So the metadata of every segment that begins inside a large run lies before the run. Growth
 * beyond the need is an eighth of the heap, at most 16 MiB, and never begins another segment.
 *
 * A commit may give the journal a new extent meanwhile, behind what is mapped: where the plan lies.
 * region_plan_begin() keeps it from that until the plan is carried out.
 */
#include "heap/heap.h"

enum { GROW_SLICES_MAX = 256 };

struct grow_plan {
    evh_heap *heap;
    uint64_t count, alignment;
    bool in_one_segment;
    bool needs_first_checksum; /* segment 0 outgrows the checksums in slice 0 */
    uint64_t old_end;
    uint64_t start; /* of the free slices at the end */
    uint64_t run;   /* where the wanted slices will begin */
    uint64_t new_end;
    uint64_t meta; /* while items are written: the segment's metadata slice */
    evh_status status;
};

typedef void grow_visit(struct grow_plan *plan, uint64_t segment, enum heap_kind kind,
                        uint64_t slice);

/* ---- planning ---- */

/* The first slice from `slice` on that is not the journal's. */
static uint64_t grow_skip_journal(const struct grow_plan *plan, uint64_t slice)
{
    assert(slice > 0);
    uint64_t end = slice;
    for (unsigned i = 0; i <= REGION_EXTENT_MAX; i++) {
        if (!region_is_journal(plan->heap->region, end, &end)) break;
        assert(end > slice);
    }
    return end;
}

static uint64_t grow_item(struct grow_plan *plan, uint64_t segment, enum heap_kind kind,
                          uint64_t slice, grow_visit *visit)
{
    assert(slice > 0);
    assert(kind == HEAP_META || kind == HEAP_CHECKSUM || kind == HEAP_DIRECTORY);
    /* Never in a slice that held blocks: what the file has there, checksums of its pages
     * included, must not be taken for checksums. Behind the old end the file is zero. */
    slice = grow_skip_journal(plan, base_max(slice, plan->old_end));
    if (visit && !plan->status) visit(plan, segment, kind, slice);
    assert(slice >= plan->start);
    return slice + 1;
}

/* Go over the items of the plan. Returns the slice behind the last. */
static uint64_t grow_each_item(struct grow_plan *plan, grow_visit *visit)
{
    assert(plan->start > 0);
    assert(plan->start <= plan->old_end);
    const uint64_t run_end = plan->run + plan->count;
    uint64_t slice = plan->start;
    if (plan->needs_first_checksum) slice = grow_item(plan, 0, HEAP_CHECKSUM, slice, visit);
    for (uint64_t i = slices_segment_count(plan->old_end); i * SEGMENT_SLICES < run_end; i++) {
        assert(i > 0);
        if (i >= HEAP_DIRECT_SEGMENTS && (i - HEAP_DIRECT_SEGMENTS) % HEAP_INDIRECT_SEGMENTS == 0)
            slice = grow_item(plan, i, HEAP_DIRECTORY, slice, visit);
        slice = grow_item(plan, i, HEAP_META, slice, visit);
        slice = grow_item(plan, i, HEAP_CHECKSUM, slice, visit);
    }
    return slice;
}

/* The first place from `slice` on where the run may lie. */
static uint64_t grow_fit(const struct grow_plan *plan, uint64_t slice)
{
    assert(slice > 0);
    assert(base_is_power_of_two(plan->alignment));
    const struct region_extent *extents = plan->heap->region->header.extents;
    for (bool moved = true; moved;) { /* each turn passes an extent or a segment's end */
        moved = false;
        slice = base_round_up(slice, plan->alignment);
        if (plan->in_one_segment && slice % SEGMENT_SLICES + plan->count > SEGMENT_SLICES)
            slice = base_round_up(slice, SEGMENT_SLICES);
        for (unsigned i = 0; i < REGION_EXTENT_MAX && extents[i].slice_count; i++) {
            const uint64_t first = extents[i].first_slice;
            const uint64_t end = first + extents[i].slice_count;
            if (first >= slice + plan->count || end <= slice) continue;
            slice = end;
            moved = true;
        }
    }
    assert(slice % plan->alignment == 0);
    return slice;
}

/* Items and run depend on each other: the run moves up until the items fit before it. */
static bool grow_make_plan(struct grow_plan *plan)
{
    assert(plan->count > 0);
    evh_heap *heap = plan->heap;
    const uint64_t limit = heap->slices.slice_max;
    const uint64_t *entry = slices_directory_entry(heap, 0);
    const bool has_checksum = *entry >> 32 != 0;
    plan->old_end = slices_count(heap->state.heap_bytes);
    plan->start = plan->old_end;
    while (runs_is_free(heap, plan->start - 1) && !runs_is_hole(heap, plan->start - 1))
        plan->start--;
    plan->run = grow_fit(plan, plan->start);
    for (;;) {
        if (!base_in_range(plan->run, plan->count, limit)) return false;
        const uint64_t run_end = base_max(plan->run + plan->count, plan->old_end);
        plan->needs_first_checksum = !has_checksum && run_end > SLICE_FIRST_CHECKSUM_SLICES;
        const uint64_t run = grow_fit(plan, grow_each_item(plan, NULL));
        assert(run >= plan->run);
        if (run == plan->run) break;
        plan->run = run;
    }
    const uint64_t need = base_max(plan->run + plan->count, plan->old_end);
    const uint64_t more = base_min(plan->old_end / 8 + 1, GROW_SLICES_MAX);
    plan->new_end =
        base_min(base_max(need, plan->old_end + more), base_round_up(need, SEGMENT_SLICES));
    if (!has_checksum && !plan->needs_first_checksum)
        plan->new_end = base_min(plan->new_end, SLICE_FIRST_CHECKSUM_SLICES);
    plan->new_end = base_min(plan->new_end, limit);
    assert(plan->new_end >= need);
    return true;
}

/* ---- doing ---- */

/* The bytes up to the new end can be used, and the journal watches them. */
static evh_status grow_region(struct grow_plan *plan)
{
    assert(plan->new_end > 0);
    evh_heap *heap = plan->heap;
    struct region *region = heap->region;
    const uint64_t need = base_max(plan->run + plan->count, plan->old_end);
    uint64_t from = 0;
    evh_status status = region_grow(region, plan->new_end << SLICE_SHIFT, &from);
    if (status && plan->new_end > need) {
        plan->new_end = need;
        status = region_grow(region, need << SLICE_SHIFT, &from);
    }
    if (status) return status;
    assert(region->mapped_bytes >= plan->new_end << SLICE_SHIFT);
    if (heap->journal && region->mapped_bytes > heap->slices.told_bytes)
        status = journal_region_grew(heap->journal, heap->slices.told_bytes);
    if (!status) heap->slices.told_bytes = region->mapped_bytes;
    return status;
}

/* The ephemeral state of a new segment, and its metadata slice zeroed. */
static void grow_make_segment(struct grow_plan *plan, uint64_t number, enum heap_kind kind,
                              uint64_t slice)
{
    assert(slice > 0);
    assert(number > 0 || kind == HEAP_CHECKSUM);
    if (kind != HEAP_META) return;
    struct heap_slices *slices = &plan->heap->slices;
    assert(slices->segments[number] == NULL);
    unsigned char *meta = plan->heap->view.base + (slice << SLICE_SHIFT);
    const uint64_t mirror_bytes = SEGMENT_SLICES * SLICE_MIRROR_BYTES;
    struct segment *segment = os->memory_allocate(sizeof *segment);
    const int error =
        os->map(slices->mirrors + number * mirror_bytes, mirror_bytes, OS_MAP_ANONYMOUS, -1, 0);
    if (!segment || error || !pool_new(segment, slice, 0, HEAP_POOL_OFFSET / 8)) {
        slices_end_segment(segment);
        plan->status = base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory for a new segment",
                                 heap_path(plan->heap));
        return;
    }
    slices_zero(meta, SLICE_BYTES);
    segment->number = number;
    segment->descriptors = (uint64_t *)(void *)(meta + HEAP_DESCRIPTORS_OFFSET);
    base_store(&slices->segments[number], segment, __ATOMIC_RELEASE);
}

static void grow_undo_segments(struct grow_plan *plan)
{
    struct heap_slices *slices = &plan->heap->slices;
    const uint64_t end = slices_segment_count(plan->new_end);
    assert(plan->status != EVH_OK);
    for (uint64_t i = slices_segment_count(plan->old_end); i < end; i++) {
        slices_end_segment(slices->segments[i]);
        slices->segments[i] = NULL;
    }
}

/* The new slices are free, but for the journal's. */
static void grow_add_slices(struct grow_plan *plan)
{
    assert(plan->old_end <= plan->new_end);
    evh_heap *heap = plan->heap;
    for (uint64_t slice = plan->old_end; slice < plan->new_end; slice++) {
        if (region_is_journal(heap->region, slice, NULL)) {
            slices_set_descriptor(heap, slice, HEAP_JOURNAL);
        } else {
            assert(*slices_descriptor(heap, slice) == HEAP_FREE);
            runs_give(heap, slice, 1);
        }
    }
}

/* The directory slice is there before the entries in it. */
static void grow_write_directory(struct grow_plan *plan, uint64_t number, uint64_t slice)
{
    assert(slice > 0);
    evh_heap *heap = plan->heap;
    assert(number >= HEAP_DIRECT_SEGMENTS);
    slices_zero(heap->view.base + (slice << SLICE_SHIFT), SLICE_BYTES);
    uint64_t *entries = slices_directory_entry(heap, 0);
    const uint64_t index = (number - HEAP_DIRECT_SEGMENTS) / HEAP_INDIRECT_SEGMENTS;
    assert(index < HEAP_INDIRECT_ENTRIES);
    base_store(&entries[HEAP_DIRECT_SEGMENTS + index], slice, __ATOMIC_RELEASE);
}

static void grow_write_item(struct grow_plan *plan, uint64_t number, enum heap_kind kind,
                            uint64_t slice)
{
    assert(slice > 0);
    assert(plan->status == EVH_OK);
    evh_heap *heap = plan->heap;
    runs_mark_taken(heap, slice, 1);
    slices_set_descriptor(heap, slice, kind);
    if (kind == HEAP_DIRECTORY) grow_write_directory(plan, number, slice);
    if (kind == HEAP_META) plan->meta = slice;
    if (kind != HEAP_CHECKSUM) return;
    uint64_t *entry = slices_directory_entry(heap, number);
    const uint64_t meta = number ? plan->meta : HEAP_FIRST_META_SLICE;
    assert(entry != NULL);
    assert(slice > meta);
    base_store(entry, meta | slice << 32, __ATOMIC_RELEASE);
}

static evh_status grow_apply(struct grow_plan *plan)
{
    assert(plan->old_end <= plan->new_end);
    assert(plan->status == EVH_OK);
    evh_heap *heap = plan->heap;
    evh_status status = grow_region(plan);
    if (status) return status;
    status = slices_map_tables(heap, plan->new_end);
    if (status) return status;
    (void)grow_each_item(plan, grow_make_segment);
    if (plan->status) {
        grow_undo_segments(plan);
        return plan->status;
    }
    slices_set_end(heap, plan->new_end);
    grow_add_slices(plan);
    (void)grow_each_item(plan, grow_write_item);
    assert(plan->status == EVH_OK);
    return EVH_OK;
}

EVH_INTERNAL evh_status grow_heap(evh_heap *heap, uint64_t count, uint64_t alignment,
                                  bool in_one_segment)
{
    assert(count > 0);
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(base_is_power_of_two(alignment));
    struct grow_plan plan = {
        .heap = heap, .count = count, .alignment = alignment, .in_one_segment = in_one_segment};
    region_plan_begin(heap->region);
    const bool is_planned = grow_make_plan(&plan);
    const evh_status status = is_planned ? grow_apply(&plan) : EVH_FULL;
    region_plan_end(heap->region);
    if (is_planned) return status;
    return base_fail(EVH_FULL, NO_OFFSET,
                     "%s: full: no room for %llu bytes below its largest size of %llu",
                     heap_path(heap), (unsigned long long)(count << SLICE_SHIFT),
                     (unsigned long long)(heap->slices.slice_max << SLICE_SHIFT));
}

EVH_INTERNAL bool grow_to(evh_heap *heap, uint64_t end)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    const uint64_t old_end = slices_count(heap->state.heap_bytes);
    const uint64_t *entry = slices_directory_entry(heap, 0);
    assert(end > old_end);
    if (end > heap->slices.slice_max || old_end % SEGMENT_SLICES == 0) return false;
    if (slices_segment_count(end) != slices_segment_count(old_end)) return false;
    if (*entry >> 32 == 0 && end > SLICE_FIRST_CHECKSUM_SLICES) return false;
    if (!heap->slices.segments[old_end / SEGMENT_SLICES] &&
        slices_load(heap, old_end / SEGMENT_SLICES))
        return false;
    struct grow_plan plan = {.heap = heap, .count = end - old_end, .alignment = 1};
    plan.old_end = plan.start = plan.run = old_end;
    plan.new_end = end;
    region_plan_begin(heap->region);
    const evh_status status = grow_apply(&plan);
    region_plan_end(heap->region);
    return status == EVH_OK;
}
