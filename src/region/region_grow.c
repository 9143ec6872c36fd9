/* region_grow.c -- more space: in the file first, then at the end of the mapping.
 *
 * The file grows in steps that double from 256 KiB to 64 MiB, so that a small heap stays small and
 * a large one does not ask the system often. Space is allocated before it is mapped, so that no
 * store can meet a full disk. Nothing ever moves.
 */
#include "region/region.h"

bool region_is_journal(const struct region *region, uint64_t slice, uint64_t *end)
{
    assert(region != NULL);
    if (slice == 0) {
        if (end) *end = 1;
        return true;
    }
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent e = region_extent_at(region, i);
        if (e.slice_count == 0) break;
        if (slice >= e.first_slice && slice - e.first_slice < e.slice_count) {
            if (end) *end = (uint64_t)e.first_slice + e.slice_count;
            return true;
        }
    }
    return false;
}

/* The lowest journal slice at or behind `slice`, or `limit`. */
static uint64_t grow_next_journal(const struct region *region, uint64_t slice, uint64_t limit)
{
    assert(slice <= limit);
    uint64_t next = limit;
    if (slice == 0) return 0;
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent e = region_extent_at(region, i);
        if (e.slice_count == 0) break;
        if (e.first_slice >= slice && e.first_slice < next) next = e.first_slice;
    }
    assert(next >= slice);
    assert(next <= limit);
    return next;
}

void region_each_run(const struct region *region, uint64_t end_bytes,
                     void (*run)(uint64_t offset, uint64_t size, void *context), void *context)
{
    assert(run != NULL);
    assert(end_bytes % SLICE_BYTES == 0);
    const uint64_t limit = end_bytes >> SLICE_SHIFT;
    uint64_t slice = 0;
    while (slice < limit) { /* every turn goes forward: at most two per extent */
        uint64_t behind = 0;
        if (region_is_journal(region, slice, &behind)) {
            slice = behind;
            continue;
        }
        const uint64_t next = grow_next_journal(region, slice, limit);
        assert(next > slice);
        run(slice << SLICE_SHIFT, (next - slice) << SLICE_SHIFT, context);
        slice = next;
    }
}

/* The file's next length for a need: as much again, within 64 MiB, within the limits. */
static uint64_t grow_target(const struct region *region, uint64_t need_bytes)
{
    assert(need_bytes <= region->reserved_bytes);
    assert(need_bytes > region->mapped_bytes);
    const uint64_t step = base_min(region->mapped_bytes, SEGMENT_BYTES);
    uint64_t target = base_max(need_bytes, region->mapped_bytes + step);
    target = base_round_up(target, SLICE_BYTES);
    return base_min(target, region->reserved_bytes);
}

/* Map [from, to) in the region's mode, leaving out journal extents. */
static evh_status grow_map(struct region *region, uint64_t from, uint64_t to)
{
    assert(from <= to);
    assert(to <= region->reserved_bytes);
    assert(from % SLICE_BYTES == 0);
    assert(to % SLICE_BYTES == 0);
    const bool from_file = region->mode == EVH_DURABLE;
    for (uint64_t slice = from >> SLICE_SHIFT; slice < to >> SLICE_SHIFT;) {
        uint64_t next = 0;
        if (!region_is_journal(region, slice, &next)) {
            next = grow_next_journal(region, slice, to >> SLICE_SHIFT);
            const uint64_t offset = slice << SLICE_SHIFT;
            const int error =
                os->map(region->base + offset, (next - slice) << SLICE_SHIFT,
                        from_file ? OS_MAP_PRIVATE : OS_MAP_ANONYMOUS, region->file, offset);
            if (error)
                return base_fail_os(error, offset, "%s: cannot map its new space", region->path);
            if (from_file && os->expect_scattered)
                os->expect_scattered(region->base + offset, (next - slice) << SLICE_SHIFT);
        }
        slice = next;
    }
    return EVH_OK;
}

evh_status region_extend_home(struct region *region, uint64_t file_bytes)
{
    assert(file_bytes % SLICE_BYTES == 0);
    assert(file_bytes > region->file_bytes);
    assert(file_bytes <= region->reserved_bytes);
    if (region->home) {
        const int error = os->map((void *)(uintptr_t)(region->home + region->file_bytes),
                                  file_bytes - region->file_bytes, OS_MAP_SHARED_READ, region->file,
                                  region->file_bytes);
        if (error)
            return base_fail_os(error, region->file_bytes, "%s: cannot map its new space",
                                region->path);
        if (os->expect_scattered)
            os->expect_scattered((void *)(uintptr_t)(region->home + region->file_bytes),
                                 file_bytes - region->file_bytes);
    }
    __atomic_store_n(&region->file_bytes, file_bytes, __ATOMIC_RELAXED);
    return EVH_OK;
}

/* With the region's mutex held. */
static evh_status grow_locked(struct region *region, uint64_t need_bytes)
{
    assert(region->mapped_bytes <= region->reserved_bytes);
    assert(region->mode != EVH_READ_ONLY);
    if (need_bytes <= region->mapped_bytes) return EVH_OK;
    if (need_bytes > region->reserved_bytes)
        return base_fail(EVH_FULL, NO_OFFSET,
                         "%s: full: it may grow to %llu bytes (size_max_bytes), %llu are needed",
                         region->path, (unsigned long long)region->reserved_bytes,
                         (unsigned long long)need_bytes);
    uint64_t target = grow_target(region, need_bytes);
    if (region->mode == EVH_DURABLE) {
        /* Also where the file is long enough already: a copy of it may be sparse. */
        const uint64_t from = region->mapped_bytes;
        int error = os->allocate(region->file, from, target - from);
        if (error && target > need_bytes) { /* not that much left: just what is needed */
            target = base_round_up(need_bytes, SLICE_BYTES);
            error = os->allocate(region->file, from, target - from);
        }
        if (error)
            return base_fail_os(error, from, "%s: cannot grow to %llu bytes", region->path,
                                (unsigned long long)target);
    }
    evh_status status = EVH_OK;
    if (region->mode == EVH_DURABLE && target > region->file_bytes)
        status = region_extend_home(region, target);
    if (!status) status = grow_map(region, region->mapped_bytes, target);
    if (status) return status;
    region->mapped_bytes = target; /* last: whoever sees it may use all of it */
    assert(region->mapped_bytes >= need_bytes);
    return EVH_OK;
}

evh_status region_grow(struct region *region, uint64_t need_bytes, uint64_t *mapped_from)
{
    assert(region->base != NULL);
    assert(mapped_from != NULL);
    os->mutex_lock(region->mutex);
    *mapped_from = region->mapped_bytes;
    const evh_status status = grow_locked(region, need_bytes);
    os->mutex_unlock(region->mutex);
    return status;
}

/* Where a new extent may begin: behind everything that is mapped, for it must never take addresses
 * that the allocator has, and behind the other extents. */
static uint64_t grow_extent_floor(const struct region *region, uint64_t floor_bytes)
{
    assert(floor_bytes % SLICE_BYTES == 0);
    uint64_t first = base_max(floor_bytes, region->mapped_bytes) >> SLICE_SHIFT;
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent e = region_extent_at(region, i);
        if (e.slice_count == 0) break;
        first = base_max(first, (uint64_t)e.first_slice + e.slice_count);
    }
    assert(first >= region->mapped_bytes >> SLICE_SHIFT);
    return first;
}

/* With the region's mutex held. */
static evh_status grow_extent_locked(struct region *region, uint64_t floor_bytes,
                                     uint32_t slice_count, unsigned number)
{
    assert(slice_count > 0);
    assert(region->mode == EVH_DURABLE);
    assert(number < REGION_EXTENT_MAX);
    const uint64_t first = grow_extent_floor(region, floor_bytes);
    uint64_t end = 0;
    if (first > UINT32_MAX || !base_add(first, slice_count, &end) || end > UINT32_MAX ||
        end << SLICE_SHIFT > region->reserved_bytes)
        return base_fail(EVH_FULL, NO_OFFSET,
                         "%s: full: no room for a journal of %llu bytes below size_max_bytes",
                         region->path, (unsigned long long)slice_count << SLICE_SHIFT);
    const uint64_t end_bytes = end << SLICE_SHIFT;
    const uint64_t from = base_min(first << SLICE_SHIFT, region->file_bytes);
    const int error = os->allocate(region->file, from, end_bytes - from);
    if (error)
        return base_fail_os(error, from, "%s: cannot grow its journal to %llu", region->path,
                            (unsigned long long)end_bytes);
    if (end_bytes > region->file_bytes) {
        const evh_status status = region_extend_home(region, end_bytes);
        if (status) return status;
    }
    struct region_extent *extent = &region->header.extents[number];
    extent->first_slice = (uint32_t)first;
    __atomic_store_n(&extent->slice_count, slice_count, __ATOMIC_RELEASE);
    return EVH_OK;
}

void region_plan_begin(struct region *region)
{
    assert(region != NULL);
    assert(region->plan_mutex != NULL);
    os->mutex_lock(region->plan_mutex);
}

void region_plan_end(struct region *region)
{
    assert(region != NULL);
    assert(region->plan_mutex != NULL);
    os->mutex_unlock(region->plan_mutex);
}

evh_status region_allocate_extent(struct region *region, uint64_t floor_bytes, uint32_t slice_count,
                                  unsigned number)
{
    assert(slice_count > 0);
    assert(number < REGION_EXTENT_MAX);
    assert(region_extent_at(region, number).slice_count == 0);
    os->mutex_lock(region->mutex);
    const evh_status status = grow_extent_locked(region, floor_bytes, slice_count, number);
    os->mutex_unlock(region->mutex);
    return status;
}

void region_drop_extent(struct region *region, unsigned number)
{
    assert(number < REGION_EXTENT_MAX);
    struct region_extent *extent = &region->header.extents[number];
    assert(extent->slice_count != 0);
    assert(region_extent_at(region, number + 1).slice_count == 0);
    /* Nothing has grown over it, leaving it out. */
    assert((uint64_t)extent->first_slice << SLICE_SHIFT >= region->mapped_bytes);
    __atomic_store_n(&extent->slice_count, 0, __ATOMIC_RELEASE);
}

evh_status region_shrink_file(struct region *region)
{
    assert(region->mode == EVH_DURABLE);
    assert(region->home != NULL);
    os->mutex_lock(region->mutex);
    const uint64_t end = grow_extent_floor(region, REGION_NEW_BYTES) << SLICE_SHIFT;
    assert(end >= region->mapped_bytes);
    assert(end >= region->header.heap_bytes);
    int error = 0;
    /* The mapping goes first: beyond the end of its file a page would be a signal. */
    if (end < region->file_bytes) {
        error = os->map((void *)(uintptr_t)(region->home + end), region->file_bytes - end,
                        OS_MAP_NOTHING, -1, 0);
        if (!error) __atomic_store_n(&region->file_bytes, end, __ATOMIC_RELAXED);
        if (!error) error = os->truncate(region->file, end);
    }
    os->mutex_unlock(region->mutex);
    if (error) return base_fail_os(error, end, "%s: cannot shorten its file", region->path);
    return EVH_OK;
}
