/* live_slices.c -- slices of a live heap: descriptors, places of bitmaps, and claims.
 *
 * The rule that everything rests on: a slice's descriptor is changed only by the thread whose tag
 * is in its owner word; a large run's head goes to FREE, or to another length, by compare-exchange.
 * Before a claim, what is read of a slice is a guess; after it, it stays.
 */
#include "heap/heap.h"

EVH_INTERNAL uint64_t live_end(const struct live *live)
{
    assert(live != NULL);
    assert(live->area != NULL);
    const uint64_t end = base_load(&live->area->end_slices, __ATOMIC_ACQUIRE);
    /* Beyond this process's addresses it can see nothing. */
    return base_min(end, live->slice_max);
}

EVH_INTERNAL bool live_is_beyond(const struct live *live)
{
    assert(live != NULL);
    assert(live->area != NULL);
    return base_load(&live->area->end_slices, __ATOMIC_ACQUIRE) > live->slice_max;
}

EVH_INTERNAL evh_status live_refuse_beyond(const struct live *live)
{
    assert(live->heap != NULL);
    assert(live->heap->live == live);
    return base_fail(EVH_NO_MEMORY, NO_OFFSET,
                     "%s: others have let the heap grow beyond the %llu bytes of addresses that "
                     "this process has reserved for it; close and open it again",
                     heap_path(live->heap), (unsigned long long)(live->slice_max << SLICE_SHIFT));
}

EVH_INTERNAL evh_status live_check_run(const struct live *live, uint64_t head, uint64_t count)
{
    assert(head > 0);
    assert(live->area != NULL);
    if (count > 0 && base_in_range(head, count, live_end(live))) return EVH_OK;
    if (count > 0 &&
        base_in_range(head, count, base_load(&live->area->end_slices, __ATOMIC_ACQUIRE)))
        return live_refuse_beyond(live);
    return base_fail(EVH_CORRUPT, head << SLICE_SHIFT,
                     "%s: slice %llu: a block of %llu slices ends behind the heap",
                     heap_path(live->heap), (unsigned long long)head, (unsigned long long)count);
}

/* ---- descriptors and places ---- */

/* The descriptors of a segment. Where they are never changes once the directory says so. */
static uint64_t *live_meta(struct live *live, uint64_t segment)
{
    assert(segment < slices_segment_count(live->slice_max));
    uint64_t *known = base_load(&live->metas[segment], __ATOMIC_ACQUIRE);
    if (LIKELY(known != NULL)) return known;
    uint64_t *found = slices_find_descriptors(live->heap, segment);
    assert(!found || (unsigned char *)found > live->heap->view.base);
    if (found) base_store(&live->metas[segment], found, __ATOMIC_RELEASE);
    return found;
}

EVH_INTERNAL uint64_t *live_descriptor(struct live *live, uint64_t slice)
{
    assert(slice < live->slice_max);
    assert(live->metas != NULL);
    uint64_t *meta = live_meta(live, slice / SEGMENT_SLICES);
    return meta ? &meta[slice % SEGMENT_SLICES] : NULL;
}

/* What a slice's descriptor holds now; JOURNAL, which nobody takes, if that cannot be read. */
static uint64_t live_read(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    assert(slice < live->slice_max);
    const uint64_t *descriptor = live_descriptor(live, slice);
    return descriptor ? base_load(descriptor, __ATOMIC_ACQUIRE) : HEAP_JOURNAL;
}

static uint64_t *live_group(struct live *live, uint64_t slice, uint32_t group)
{
    assert(group < LIVE_GROUP_COUNT);
    assert(slice < live->slice_max);
    unsigned char *meta = (unsigned char *)live_meta(live, slice / SEGMENT_SLICES);
    if (!meta) return NULL;
    struct live_groups *groups = (struct live_groups *)(void *)(meta + LIVE_GROUPS_OFFSET);
    return &groups->slices[group];
}

EVH_INTERNAL unsigned char *live_place_of(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    assert(slice < live->slice_max);
    const uint64_t index = slice % SEGMENT_SLICES;
    unsigned char *meta = (unsigned char *)live_meta(live, slice / SEGMENT_SLICES);
    if (!meta) return NULL;
    if (index < LIVE_FIRST_PLACES) return meta + LIVE_PLACES_OFFSET + index * LIVE_PLACE_BYTES;
    const uint32_t place = (uint32_t)index - LIVE_FIRST_PLACES;
    const uint64_t *group = live_group(live, slice, place / LIVE_GROUP_PLACES);
    const uint64_t relative = base_load(group, __ATOMIC_ACQUIRE);
    if (relative == 0 || relative >= SEGMENT_SLICES) return NULL;
    const uint64_t holder = base_round_down(slice, SEGMENT_SLICES) + relative;
    if (holder >= live->slice_max) return NULL;
    return live->heap->view.base + (holder << SLICE_SHIFT) +
           (uint64_t)(place % LIVE_GROUP_PLACES) * LIVE_PLACE_BYTES;
}

EVH_INTERNAL uint64_t live_blocks_descriptor(struct live *live, uint64_t slice,
                                             uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    const unsigned char *place = live_place_of(live, slice);
    if (!place) return HEAP_JOURNAL; /* matches nothing that has blocks */
    const uint64_t offset = (uint64_t)(place - live->heap->view.base);
    const uint64_t index = slice % SEGMENT_SLICES;
    const uint32_t relative =
        index < LIVE_FIRST_PLACES ? 0 : (uint32_t)((offset >> SLICE_SHIFT) % SEGMENT_SLICES);
    assert(offset % 8 == 0);
    return descriptor_of_blocks(class_index, relative << 13 | (uint32_t)(offset % SLICE_BYTES) / 8);
}

EVH_INTERNAL evh_status live_need_place(struct live *live, uint64_t slice, bool *is_used)
{
    assert(slice > 0);
    assert(is_used != NULL);
    const uint64_t index = slice % SEGMENT_SLICES;
    *is_used = false;
    if (live_place_of(live, slice)) return EVH_OK;
    if (index < LIVE_FIRST_PLACES) return evh_last_error()->status;
    uint64_t *group =
        live_group(live, slice, (uint32_t)(index - LIVE_FIRST_PLACES) / LIVE_GROUP_PLACES);
    uint64_t *descriptor = live_descriptor(live, slice);
    if (!group || !descriptor) return evh_last_error()->status;
    base_store(descriptor, HEAP_BITMAP, __ATOMIC_RELEASE);
    uint64_t none = 0;
    *is_used =
        base_compare_exchange(group, &none, index, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    if (!*is_used) {
        base_store(descriptor, HEAP_FREE, __ATOMIC_RELEASE); /* another made one meanwhile */
        if (!live_place_of(live, slice))
            return base_fail(EVH_CORRUPT, evh_ref_to(live->heap, group).offset,
                             "%s: a group of bitmaps in slice %llu cannot be",
                             heap_path(live->heap), (unsigned long long)none);
    }
    return EVH_OK;
}

/* ---- hints ---- */

static void live_set_bit(uint64_t *words, uint64_t index, bool value, int order)
{
    assert(index < SEGMENT_SLICES);
    uint64_t *word = &words[index / 64];
    const uint64_t bit = 1ull << index % 64;
    const bool is_set = (base_load(word, __ATOMIC_SEQ_CST) & bit) != 0;
    assert(order == __ATOMIC_SEQ_CST || order == __ATOMIC_RELAXED);
    (void)order;
    if (is_set == value) return;
    if (value)
        (void)base_fetch_or(word, bit, __ATOMIC_SEQ_CST);
    else
        (void)base_fetch_and(word, ~bit, __ATOMIC_SEQ_CST);
}

EVH_INTERNAL void live_hint_taken(struct live *live, uint64_t slice, bool taken)
{
    assert(slice > 0);
    assert(slice < live->slice_max);
    live_set_bit(live_segment(live, slice)->taken, slice % SEGMENT_SLICES, taken, __ATOMIC_RELAXED);
}

EVH_INTERNAL void live_set_pending(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    assert(slice < live->slice_max);
    live_set_bit(live_segment(live, slice)->pending, slice % SEGMENT_SLICES, true,
                 __ATOMIC_SEQ_CST);
}

EVH_INTERNAL void live_clear_pending(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    assert(slice < live->slice_max);
    const uint64_t index = slice % SEGMENT_SLICES;
    (void)base_fetch_and(&live_segment(live, slice)->pending[index / 64], ~(1ull << index % 64),
                         __ATOMIC_SEQ_CST);
}

/* ---- claims ---- */

EVH_INTERNAL bool live_claim(struct live *live, const struct cache *cache, uint64_t slice)
{
    assert(cache->tag != 0);
    assert(slice > 0);
    uint64_t *owner = live_owner(live, slice);
    uint64_t before = base_load(owner, PLANTED(15) ? __ATOMIC_RELAXED : __ATOMIC_ACQUIRE);
    if (!live_is_stale(live, before)) return false;
    return base_compare_exchange(owner, &before, cache->tag, false, __ATOMIC_ACQ_REL,
                                 __ATOMIC_RELAXED);
}

EVH_INTERNAL void live_let_go(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    assert(base_load(live_owner(live, slice), __ATOMIC_RELAXED) != 0);
    base_store(live_owner(live, slice), 0, __ATOMIC_RELEASE);
}

static bool live_is_named_group(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    assert(slice < live->slice_max);
    for (uint32_t i = 0; i < LIVE_GROUP_COUNT; i++) {
        const uint64_t *group = live_group(live, slice, i);
        if (!group || base_load(group, __ATOMIC_ACQUIRE) == slice % SEGMENT_SLICES) return true;
    }
    return false;
}

/* Whether the directory names a slice of metadata, or of entries. */
static bool live_is_named(struct live *live, uint64_t slice, uint32_t kind)
{
    assert(kind == HEAP_META || kind == HEAP_DIRECTORY);
    uint64_t *entries = slices_directory_entry(live->heap, 0);
    /* Also of segments that only others have addresses for: their metadata may lie here. */
    const uint64_t segments =
        HEAP_DIRECT_SEGMENTS + (uint64_t)HEAP_INDIRECT_ENTRIES * HEAP_INDIRECT_SEGMENTS;
    assert(entries != NULL);
    if (kind == HEAP_DIRECTORY) {
        for (uint32_t i = 0; i < HEAP_INDIRECT_ENTRIES; i++)
            if (base_load(&entries[HEAP_DIRECT_SEGMENTS + i], __ATOMIC_ACQUIRE) == slice)
                return true;
        return false;
    }
    const uint64_t *own = slices_directory_entry(live->heap, slice / SEGMENT_SLICES);
    if (own && (uint32_t)base_load(own, __ATOMIC_ACQUIRE) == slice) return true;
    for (uint64_t i = 0; i < segments; i++) {
        if (i >= HEAP_DIRECT_SEGMENTS &&
            !base_load(&entries[HEAP_DIRECT_SEGMENTS +
                                (i - HEAP_DIRECT_SEGMENTS) / HEAP_INDIRECT_SEGMENTS],
                       __ATOMIC_ACQUIRE))
            break;
        const uint64_t *entry = slices_directory_entry(live->heap, i);
        if (!entry || (uint32_t)base_load(entry, __ATOMIC_ACQUIRE) == slice) return true;
    }
    return false;
}

/* Whether the run that a tail says it is in does not reach it. */
static bool live_is_orphaned_tail(struct live *live, uint64_t slice, uint64_t descriptor)
{
    assert(descriptor_kind(descriptor) == HEAP_TAIL);
    const uint64_t distance = descriptor_count(descriptor);
    if (distance == 0 || distance >= slice) return false; /* never written like that */
    const uint64_t head = live_read(live, slice - distance);
    assert(slice > distance);
    switch (descriptor_kind(head)) {
    case HEAP_LARGE: return descriptor_count(head) <= distance;
    case HEAP_MEDIUM: return distance >= HEAP_MEDIUM_SLICES;
    default: return true;
    }
}

EVH_INTERNAL bool live_is_takable(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    const uint64_t descriptor = live_read(live, slice);
    assert(slice < live->slice_max);
    switch (descriptor_kind(descriptor)) {
    case HEAP_FREE: return true;
    case HEAP_TAIL: return live_is_orphaned_tail(live, slice, descriptor);
    case HEAP_BITMAP: return !live_is_named_group(live, slice);
    case HEAP_META:
    case HEAP_DIRECTORY: return !live_is_named(live, slice, descriptor_kind(descriptor));
    default: return false;
    }
}

/* Claim one slice that can be taken. */
static bool live_claim_takable(struct live *live, const struct cache *cache, uint64_t slice)
{
    assert(cache->tag != 0);
    assert(slice > 0);
    if (!live_is_takable(live, slice)) return false; /* a guess that saves most claims */
    if (!live_claim(live, cache, slice)) return false;
    if (live_is_takable(live, slice)) return true;
    live_let_go(live, slice);
    return false;
}

EVH_INTERNAL bool live_claim_run(struct live *live, const struct cache *cache, uint64_t first,
                                 uint64_t count, uint64_t *stopped_at)
{
    assert(first > 0);
    assert(count > 0);
    uint64_t claimed = 0;
    while (claimed < count && live_claim_takable(live, cache, first + claimed)) claimed++;
    *stopped_at = claimed < count ? first + claimed
                  : PLANTED(20)   ? 0
                                  : live_held_slice(live, first, count);
    if (*stopped_at == 0) return true;
    while (claimed > 0) live_let_go(live, first + --claimed);
    return false;
}

/* A slice of a claimed run is free: it may have been an orphan, and a hole stays one. */
static void live_set_free(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    uint64_t *descriptor = live_descriptor(live, slice);
    assert(descriptor != NULL);
    if (descriptor_kind(base_load(descriptor, __ATOMIC_RELAXED)) != HEAP_FREE)
        base_store(descriptor, HEAP_FREE, __ATOMIC_RELEASE);
}

EVH_INTERNAL void live_release_run(struct live *live, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(count > 0);
    for (uint64_t slice = first; slice < first + count; slice++) {
        live_set_free(live, slice);
        live_let_go(live, slice);
        live_hint_taken(live, slice, false);
    }
    live_hint_free_from(live, first);
}

EVH_INTERNAL void live_free_tails(struct live *live, const struct cache *cache, uint64_t first,
                                  uint64_t from, uint64_t to)
{
    assert(first > 0);
    assert(from <= to);
    for (uint64_t i = from; i < to; i++)
        /* Who else has claimed it finds an orphan, and knows what to do. */
        if (live_claim_takable(live, cache, first + i)) live_release_run(live, first + i, 1);
}

EVH_INTERNAL evh_status live_fill_holes(struct live *live, uint64_t first, uint64_t count)
{
    assert(first > 0);
    assert(count > 0);
    const uint64_t hole = HEAP_FREE | (uint64_t)HEAP_HOLE << HEAP_ATTRIBUTE_SHIFT;
    for (uint64_t slice = first; slice < first + count; slice++) {
        uint64_t *descriptor = live_descriptor(live, slice);
        if (!descriptor) return evh_last_error()->status;
        if (base_load(descriptor, __ATOMIC_RELAXED) != hole) continue;
        const uint64_t offset = slice << SLICE_SHIFT;
        const int error = os->allocate(live->heap->region->file, offset, SLICE_BYTES);
        if (error)
            return base_fail_os(error, offset, "%s: cannot allocate a slice that was given back",
                                heap_path(live->heap));
        base_store(descriptor, HEAP_FREE, __ATOMIC_RELEASE);
    }
    return EVH_OK;
}

EVH_INTERNAL void live_hint_free_from(struct live *live, uint64_t slice)
{
    assert(slice > 0);
    assert(slice < live->slice_max);
    uint64_t before = base_load(&live->free_from, __ATOMIC_RELAXED);
    while (slice < before && !base_compare_exchange(&live->free_from, &before, slice, true,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}
