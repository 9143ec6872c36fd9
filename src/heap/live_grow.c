/* live_grow.c -- a live heap's end moves, by several processes at once.
 *
 * What is wanted is claimed first, behind the end, where it is nobody's business yet; then the
 * segments that it reaches get their metadata; then the end is raised over all of it. Each of these
 * is one compare-exchange, and a grower that dies between them leaves claims that are stale and
 * segments that are prepared.
 *
 * Who finds that the end has moved since he looked for space looks again: forty threads that find
 * a heap full at the same time would let it grow by an eighth forty times.
 */
#include "heap/heap.h"

enum {
    LIVE_GROW_SLICES = 256, /* beyond the need, at most */
    LIVE_GROW_SPARE = 16,   /* more, each time that all of these are claimed */
};

struct live_growth {
    struct cache *cache;
    struct live *live;
    uint64_t count, alignment;
    uint64_t old_end;
    uint64_t run; /* where the wanted slices begin */
    uint64_t new_end;
    uint64_t floor; /* nothing below: another process has claimed there */
    uint64_t spare; /* slices beyond, if none was left for metadata */
};

/* ---- space in the files ---- */

EVH_INTERNAL evh_status live_extend_file(struct live *live, uint64_t slice_count)
{
    assert(slice_count > 0);
    assert(live->file >= 0);
    const uint64_t size =
        LIVE_SEGMENTS_OFFSET + slices_segment_count(slice_count) * sizeof(struct live_slices);
    assert(size <= live->mapped_bytes);
    const int error = os->allocate(live->file, 0, size);
    if (!error) return EVH_OK;
    return base_fail_os(error, NO_OFFSET, "%s: cannot grow %s to %llu bytes", heap_path(live->heap),
                        live->path, (unsigned long long)size);
}

static evh_status live_grow_files(struct live_growth *growth)
{
    assert(growth->new_end > growth->old_end);
    struct live *live = growth->live;
    struct region *region = live->heap->region;
    const uint64_t from = growth->old_end << SLICE_SHIFT;
    const uint64_t size = (growth->new_end << SLICE_SHIFT) - from;
    const int error = os->allocate(region->file, from, size);
    if (error)
        return base_fail_os(error, from, "%s: cannot grow to %llu bytes", region->path,
                            (unsigned long long)(from + size));
    assert(growth->new_end <= live->slice_max);
    if (slices_segment_count(growth->new_end) == slices_segment_count(growth->old_end))
        return EVH_OK;
    return live_extend_file(live, growth->new_end);
}

/* ---- metadata of new segments ---- */

/* Whether the directory has the segment. */
static bool live_grow_exists(const struct live *live, uint64_t segment)
{
    assert(live->heap != NULL);
    uint64_t *entries = slices_directory_entry(live->heap, 0);
    assert(entries != NULL);
    if (segment >= HEAP_DIRECT_SEGMENTS) {
        const uint64_t beyond = (segment - HEAP_DIRECT_SEGMENTS) / HEAP_INDIRECT_SEGMENTS;
        if (beyond >= HEAP_INDIRECT_ENTRIES ||
            !base_load(&entries[HEAP_DIRECT_SEGMENTS + beyond], __ATOMIC_ACQUIRE))
            return false;
    }
    const uint64_t *entry = slices_directory_entry(live->heap, segment);
    return entry && base_load(entry, __ATOMIC_ACQUIRE);
}

/* Claim a slice behind the end. One that a grower has prepared metadata in is not to be had. */
static bool live_grow_claim_one(struct live_growth *growth, uint64_t slice)
{
    assert(slice > 0);
    assert(slice < growth->live->slice_max);
    if (!live_claim(growth->live, growth->cache, slice)) return false;
    if (!live_grow_exists(growth->live, slice / SEGMENT_SLICES) ||
        live_is_takable(growth->live, slice))
        return true;
    live_let_go(growth->live, slice);
    return false;
}

/* The directory entry of a segment, made if it is in a slice of its own. NULL: failed. */
static uint64_t *live_grow_entry(struct live_growth *growth, uint64_t segment);

/* A claimed slice outside the run for metadata of `segment`; 0: none. Its own first slice if that
 * can be had. */
static uint64_t live_grow_item(struct live_growth *growth, uint64_t segment, bool own)
{
    assert(segment > 0);
    assert(growth->new_end > growth->old_end);
    struct live *live = growth->live;
    const uint64_t first = segment * SEGMENT_SLICES;
    const uint64_t run_end = growth->run + growth->count;
    if (own && (first < growth->run || first >= run_end) && live_grow_claim_one(growth, first))
        return first;
    for (uint64_t slice = growth->old_end; slice < growth->new_end; slice++) {
        if (slice >= growth->run && slice < run_end) slice = run_end;
        if (slice >= growth->new_end) break;
        const uint64_t holder = slice / SEGMENT_SLICES;
        if (slice % SEGMENT_SLICES == 0 || holder > segment) continue;
        if (holder == segment ? !own : !live_grow_exists(live, holder)) continue;
        if (live_grow_claim_one(growth, slice)) return slice;
    }
    return 0;
}

/* Put metadata into a claimed slice and have the word name it, once for all. */
static bool live_grow_name(struct live_growth *growth, uint64_t slice, uint64_t segment,
                           enum heap_kind kind, uint64_t *word)
{
    assert(slice > 0);
    assert(kind == HEAP_META || kind == HEAP_DIRECTORY);
    struct live *live = growth->live;
    unsigned char *bytes = live->heap->view.base + (slice << SLICE_SHIFT);
    slices_zero(bytes, SLICE_BYTES);
    uint64_t *descriptor = kind == HEAP_META && slice / SEGMENT_SLICES == segment
                               ? (uint64_t *)(void *)bytes + slice % SEGMENT_SLICES
                               : live_descriptor(live, slice);
    if (!descriptor) return false;
    base_store(descriptor, kind, __ATOMIC_RELEASE);
    uint64_t none = 0;
    if (base_compare_exchange(word, &none, slice, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        live_let_go(live, slice);
        return true;
    }
    base_store(descriptor, HEAP_FREE, __ATOMIC_RELEASE); /* another was faster */
    live_let_go(live, slice);
    return true;
}

static uint64_t *live_grow_entry(struct live_growth *growth, uint64_t segment)
{
    assert(segment > 0);
    evh_heap *heap = growth->live->heap;
    if (segment >= HEAP_DIRECT_SEGMENTS) {
        const uint64_t beyond = (segment - HEAP_DIRECT_SEGMENTS) / HEAP_INDIRECT_SEGMENTS;
        uint64_t *indirect = slices_directory_entry(heap, 0) + HEAP_DIRECT_SEGMENTS + beyond;
        if (beyond < HEAP_INDIRECT_ENTRIES && !base_load(indirect, __ATOMIC_ACQUIRE)) {
            const uint64_t slice = live_grow_item(growth, segment, false);
            if (!slice || !live_grow_name(growth, slice, segment, HEAP_DIRECTORY, indirect))
                return NULL;
        }
    }
    return slices_directory_entry(heap, segment);
}

/* A segment's metadata is there. False: no slice could be had for it. */
static bool live_grow_prepare(struct live_growth *growth, uint64_t segment)
{
    assert(segment > 0);
    uint64_t *entry = live_grow_entry(growth, segment);
    if (!entry) return false;
    if (base_load(entry, __ATOMIC_ACQUIRE)) return true;
    const uint64_t slice = live_grow_item(growth, segment, true);
    assert(slice < growth->live->slice_max);
    if (!slice) return base_load(entry, __ATOMIC_ACQUIRE) != 0; /* another was faster */
    return live_grow_name(growth, slice, segment, HEAP_META, entry);
}

/* ---- planning ---- */

/* How many slices the run leaves free before it for metadata. */
static uint64_t live_grow_items(const struct live_growth *growth, uint64_t run)
{
    assert(run > 0);
    assert(run >= growth->old_end);
    const uint64_t end = slices_segment_count(run + growth->count);
    uint64_t items = 0;
    for (uint64_t i = base_max(slices_segment_count(growth->old_end), 1); i < end; i++) {
        const uint64_t first = i * SEGMENT_SLICES;
        items += first >= run && first < run + growth->count;
        items +=
            i >= HEAP_DIRECT_SEGMENTS && (i - HEAP_DIRECT_SEGMENTS) % HEAP_INDIRECT_SEGMENTS == 0;
    }
    return items;
}

/* The first slice of a segment inside [run, run + count) that has its metadata there already. */
static uint64_t live_grow_obstacle(struct live_growth *growth, uint64_t run)
{
    assert(run > 0);
    for (uint64_t i = (run + SEGMENT_SLICES - 1) / SEGMENT_SLICES;
         i * SEGMENT_SLICES < run + growth->count; i++) {
        if (!live_grow_exists(growth->live, i)) continue;
        const uint64_t *entry = slices_directory_entry(growth->live->heap, i);
        assert(entry != NULL);
        const uint64_t first = i * SEGMENT_SLICES;
        if ((uint32_t)base_load(entry, __ATOMIC_ACQUIRE) == first) return first;
    }
    return 0;
}

/* Choose where the run will be. False: the heap would be too large. */
static bool live_grow_plan(struct live_growth *growth)
{
    assert(growth->count > 0);
    struct live *live = growth->live;
    growth->old_end = live_end(live);
    uint64_t run = base_max(growth->old_end, growth->floor);
    for (;;) { /* each turn moves the run upwards */
        /* A run that fits into a segment lies in one, behind the metadata. */
        if (growth->count < SEGMENT_SLICES - 1) {
            if (run % SEGMENT_SLICES == 0) run++;
            run = base_round_up(run, growth->alignment);
            if (run % SEGMENT_SLICES + growth->count > SEGMENT_SLICES) {
                run = base_round_up(run, SEGMENT_SLICES) + 1;
                continue;
            }
        }
        run = base_round_up(run, growth->alignment);
        if (!base_in_range(run, growth->count, live->slice_max)) return false;
        const uint64_t obstacle = live_grow_obstacle(growth, run);
        if (obstacle) {
            run = obstacle + 1;
            continue;
        }
        /* One more for the first slice of the segment at the end, which is no item. */
        const uint64_t need = live_grow_items(growth, run);
        const uint64_t least = base_max(growth->old_end, growth->floor) + (need ? need + 1 : 0);
        if (run >= least) break;
        run = least;
    }
    growth->run = run;
    const uint64_t need = run + growth->count;
    const uint64_t more = base_min(growth->old_end / 8 + 1, LIVE_GROW_SLICES) + growth->spare;
    growth->new_end = base_max(need + growth->spare, growth->old_end + more);
    growth->new_end = base_min(growth->new_end, base_round_up(need, SEGMENT_SLICES));
    growth->new_end = base_min(growth->new_end, live->slice_max);
    assert(growth->new_end >= need);
    return true;
}

/* ---- doing ---- */

/* Claim the run. False: another has claimed in it; the floor is behind. */
static bool live_grow_claim(struct live_growth *growth)
{
    assert(growth->run > 0);
    assert(growth->run + growth->count <= growth->new_end);
    for (uint64_t i = 0; i < growth->count; i++) {
        if (live_grow_claim_one(growth, growth->run + i)) continue;
        growth->floor = growth->run + i + 1;
        while (i > 0) live_let_go(growth->live, growth->run + --i);
        return false;
    }
    return true;
}

/* Metadata for all segments below the new end, then the end. False: the run is let go of. */
static bool live_grow_publish(struct live_growth *growth)
{
    assert(growth->new_end > growth->old_end);
    struct live *live = growth->live;
    const uint64_t segments = slices_segment_count(growth->new_end);
    for (uint64_t i = slices_segment_count(growth->old_end); i < segments; i++) {
        if (live_grow_prepare(growth, i)) continue;
        for (uint64_t k = 0; k < growth->count; k++) live_let_go(live, growth->run + k);
        /* Others, who are growing too, or stopped in it, have claimed all that is left. */
        growth->spare += LIVE_GROW_SPARE;
        if (growth->new_end % SEGMENT_SLICES == 0) {
            growth->floor = growth->new_end;
            growth->spare = 0;
        }
        return false;
    }
    uint64_t end = base_load(&live->area->end_slices, __ATOMIC_ACQUIRE);
    while (end < growth->new_end &&
           !base_compare_exchange(&live->area->end_slices, &end, growth->new_end, false,
                                  __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        continue;
    assert(live_end(live) >= growth->new_end);
    return true;
}

EVH_INTERNAL evh_status live_grow(struct cache *cache, uint64_t count, uint64_t alignment,
                                  uint64_t end, uint64_t *first)
{
    assert(count > 0);
    assert(base_is_power_of_two(alignment));
    struct live *live = cache->heap->live;
    struct live_growth growth = {
        .cache = cache, .live = live, .count = count, .alignment = alignment};
    assert(end > 0);
    *first = 0;
    for (;;) { /* again only if another process claims there; each time further up */
        if (live_end(live) != end) return EVH_OK;
        if (!live_grow_plan(&growth))
            return base_fail(EVH_FULL, NO_OFFSET,
                             "%s: full: no room for %llu bytes below its largest size of %llu",
                             heap_path(cache->heap), (unsigned long long)(count << SLICE_SHIFT),
                             (unsigned long long)(live->slice_max << SLICE_SHIFT));
        const evh_status status = live_grow_files(&growth);
        if (status) return status;
        if (live_grow_claim(&growth) && live_grow_publish(&growth)) break;
    }
    for (uint64_t i = 0; i < count; i++) live_hint_taken(live, growth.run + i, true);
    live_hint_free_from(live, growth.old_end);
    *first = growth.run;
    return EVH_OK;
}
