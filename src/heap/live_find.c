/* live_find.c -- where a cache of a live heap gets slices from, and what it gives back.
 *
 * The order: slices of the class that nobody owns, looked for a little at a time; free slices by
 * the shared hints; then a sweep over everything, with the dead reaped first; then the heap grows.
 * Hints and guesses are verified by claiming.
 */
#include "heap/heap.h"

enum {
    FIND_NEAR_SLICES = 256, /* looked at for a slice without owner, each time one is needed */
    FIND_NEAR_MATCHES = 32, /* of which so many are counted at most */
    FIND_AHEAD = 8,         /* slices whose bitmaps a sweep asks for before it looks at them */
};

/* ---- folding ---- */

EVH_INTERNAL uint32_t live_fold(evh_heap *heap, struct slice *slice)
{
    assert(slice->bits != NULL);
    assert(slice->word_count <= SLICE_MIRROR_WORDS);
    struct live *live = heap->live;
    const uint64_t number = (uint64_t)(slice - heap->slices.table);
    uint64_t *mirror = live_mirror(slice->bits);
    uint32_t freed = 0;
    bool is_held = false;
    for (uint32_t word = 0; word < slice->word_count; word++) {
        uint64_t pending = base_load(&mirror[word], __ATOMIC_SEQ_CST);
        if (!pending) continue;
        /* After the mirror: who set the bit inside evh_free_from() had said so before. */
        const uint64_t held = pending & live_held_bits(live, slice, word);
        is_held |= held != 0;
        pending &= ~held;
        if (!pending) continue;
        const uint64_t bits = base_load(&slice->bits[word], __ATOMIC_RELAXED);
        base_store(&slice->bits[word], bits & ~pending, __ATOMIC_RELAXED);
        (void)base_fetch_and(&mirror[word], ~pending, __ATOMIC_ACQ_REL);
        freed += base_count_bits(bits & pending);
    }
    if (is_held) live_set_pending(live, number); /* for the next one who looks */
    assert(freed <= slice->block_count);
    return freed;
}

/* Fold what is pending in the slices of one segment that are the cache's. */
static void find_drain_segment(struct cache *cache, uint64_t segment)
{
    assert(cache->tag != 0);
    struct live *live = cache->heap->live;
    struct live_slices *slices = live_segment(live, segment * SEGMENT_SLICES);
    for (uint32_t i = 0; i < LIVE_SEGMENT_WORDS; i++)
        for (uint64_t set = base_load(&slices->pending[i], __ATOMIC_SEQ_CST); set; set &= set - 1) {
            const uint32_t index = i * 64 + base_lowest_bit(set);
            if (base_load(&slices->owners[index], __ATOMIC_RELAXED) != cache->tag) continue;
            const uint64_t number = segment * SEGMENT_SLICES + index;
            struct slice *slice = &cache->heap->slices.table[number];
            if (!PLANTED(14)) live_clear_pending(live, number);
            assert(slice_owner(slice) == cache);
            owners_settle(cache, slice);
            if (PLANTED(14)) live_clear_pending(live, number); /* what came meanwhile is lost */
        }
}

EVH_INTERNAL void live_drain(struct cache *cache)
{
    assert(cache->heap->live != NULL);
    assert(cache->tag != 0);
    struct live *live = cache->heap->live;
    uint64_t *announced = &live->threads[cache->thread_slot].announced;
    if (LIKELY(!base_load(announced, __ATOMIC_RELAXED))) return;
    const uint64_t segments = slices_segment_count(live_end(live));
    for (uint64_t set = base_exchange(announced, 0, __ATOMIC_SEQ_CST); set; set &= set - 1)
        for (uint64_t i = base_lowest_bit(set); i < segments; i += 64) find_drain_segment(cache, i);
}

/* ---- adopting ---- */

/* The slice's class; HEAP_CLASS_COUNT if it has no blocks. */
static uint32_t find_class(struct live *live, uint64_t number)
{
    assert(number > 0);
    const uint64_t *place = live_descriptor(live, number);
    const uint64_t descriptor = place ? base_load(place, __ATOMIC_ACQUIRE) : 0;
    const uint32_t kind = descriptor_kind(descriptor);
    if (kind != HEAP_SMALL && kind != HEAP_MEDIUM) return HEAP_CLASS_COUNT;
    const uint32_t class_index = descriptor_class(descriptor);
    if (class_index >= HEAP_CLASS_COUNT) return HEAP_CLASS_COUNT;
    assert(number < live->slice_max);
    if (descriptor != live_blocks_descriptor(live, number, class_index)) return HEAP_CLASS_COUNT;
    return class_index;
}

/* What this process knows of a slice that is the cache's now. */
static struct slice *find_describe(struct cache *cache, uint64_t number, uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    struct live *live = cache->heap->live;
    struct slice *slice = &cache->heap->slices.table[number];
    assert(base_load(live_owner(live, number), __ATOMIC_RELAXED) == cache->tag);
    *slice = (struct slice){.kind = size_class_is_medium(class_index) ? HEAP_MEDIUM : HEAP_SMALL};
    slice_set_class(slice, class_index);
    slice->bits = (uint64_t *)(void *)live_place_of(live, number);
    slice->cache = cache;
    slice->owner = (uintptr_t)cache;
    return slice;
}

/* Claim a slice of blocks; its class is `class_index`, or any if that is HEAP_CLASS_COUNT. */
static struct slice *find_adopt(struct cache *cache, uint64_t number, uint32_t class_index)
{
    assert(number > 0);
    assert(cache->tag != 0);
    struct live *live = cache->heap->live;
    if (!live_claim(live, cache, number)) return NULL;
    const uint32_t found = find_class(live, number);
    if (found == HEAP_CLASS_COUNT || (class_index != HEAP_CLASS_COUNT && found != class_index)) {
        live_let_go(live, number);
        return NULL;
    }
    struct slice *slice = find_describe(cache, number, found);
    live_clear_pending(live, number);
    (void)live_fold(cache->heap, slice);
    uint32_t used = 0;
    for (uint32_t i = 0; i < slice->word_count; i++)
        used += base_count_bits(base_load(&slice->bits[i], __ATOMIC_RELAXED) &
                                slice_valid_bits(slice, i));
    slice_set_used(slice, used);
    return slice;
}

static bool find_is_dense(const struct slice *slice)
{
    assert(slice->block_count > 0);
    assert(slice->list == SLICE_IN_NONE);
    return slice->block_count - slice_used(slice) >= size_class_dense(slice->class_index);
}

/* An adopted slice is nobody's again. */
static void find_disown(struct cache *cache, struct slice *slice)
{
    assert(slice->list == SLICE_IN_NONE);
    assert(slice_owner(slice) == cache);
    slice->owner = 0;
    live_let_go(cache->heap->live, (uint64_t)(slice - cache->heap->slices.table));
}

/* Some slices from where the last look ended: one of the class that nobody owns. */
static struct slice *find_near(struct cache *cache, uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    struct live *live = cache->heap->live;
    const uint64_t end = live_end(live);
    const uint32_t looks = (uint32_t)base_min(FIND_NEAR_SLICES, end);
    uint64_t number = base_fetch_add(&live->cursor, looks, __ATOMIC_RELAXED) % end;
    uint32_t matches = 0;
    assert(end > 1);
    for (uint32_t i = 0; i < looks && matches < FIND_NEAR_MATCHES; i++, number++) {
        if (number >= end) number = 0;
        if (number == 0 ||
            !live_is_stale(live, base_load(live_owner(live, number), __ATOMIC_ACQUIRE)))
            continue;
        if (find_class(live, number) != class_index) continue;
        matches++;
        struct slice *slice = find_adopt(cache, number, class_index);
        if (!slice) continue;
        if (find_is_dense(slice)) return slice;
        find_disown(cache, slice);
    }
    return NULL;
}

/* ---- free slices ---- */

/* A run of slices that the hints call free, from `*from` on. */
static bool find_hinted(struct live *live, uint64_t count, uint64_t alignment, bool in_one_segment,
                        uint64_t *from)
{
    assert(count > 0);
    assert(base_is_power_of_two(alignment));
    const uint64_t end = live_end(live);
    uint64_t start = base_round_up(base_max(*from, 1), alignment);
    uint64_t slice = start;
    while (start + count <= end) { /* each turn goes forward */
        if (in_one_segment && start % SEGMENT_SLICES + count > SEGMENT_SLICES) {
            start = base_round_up(base_round_up(start, SEGMENT_SLICES), alignment);
            slice = start;
            continue;
        }
        if (slice == start + count) {
            *from = start;
            return true;
        }
        const uint64_t index = slice % SEGMENT_SLICES;
        const uint64_t rest =
            base_load(&live_segment(live, slice)->taken[index / 64], __ATOMIC_RELAXED) >>
            index % 64;
        const uint64_t run = rest ? base_lowest_bit(rest) : 64 - index % 64;
        if (run > 0) {
            slice = base_min(slice + run, start + count);
            continue;
        }
        const uint64_t skip = ~rest ? base_lowest_bit(~rest) : 64 - index % 64;
        start = base_round_up(slice + base_min(skip, 64 - index % 64), alignment);
        slice = start;
    }
    return false;
}

/* Claim a run of free slices. 0: none is known. */
static uint64_t find_claim(struct cache *cache, uint64_t count, uint64_t alignment,
                           bool in_one_segment, evh_status *status)
{
    assert(status != NULL);
    assert(count > 0);
    struct live *live = cache->heap->live;
    const uint64_t hint = base_load(&live->free_from, __ATOMIC_RELAXED);
    uint64_t first = hint;
    bool is_front = count == 1; /* nothing below `first` is free */
    *status = EVH_OK;
    while (find_hinted(live, count, alignment, in_one_segment, &first)) {
        uint64_t stopped_at = first;
        if (live_claim_run(live, cache, first, count, &stopped_at)) {
            for (uint64_t i = 0; i < count; i++) live_hint_taken(live, first + i, true);
            *status = live_fill_holes(live, first, count);
            if (!*status) {
                uint64_t before = hint;
                if (is_front)
                    (void)base_compare_exchange(&live->free_from, &before, first + 1, false,
                                                __ATOMIC_RELAXED, __ATOMIC_RELAXED);
                return first;
            }
            live_release_run(live, first, count);
            return 0;
        }
        if (live_is_takable(live, stopped_at))
            is_front = false; /* claimed by another, perhaps for a moment */
        else
            live_hint_taken(live, stopped_at, true);
        first = stopped_at + 1;
    }
    return 0;
}

/* Claimed slices become a slice of blocks, owned, empty. NULL and EVH_OK: they were needed for
 * bitmaps; try again. */
static struct slice *find_publish(struct cache *cache, uint64_t first, uint32_t class_index,
                                  evh_status *status)
{
    assert(first > 0);
    assert(class_index < HEAP_CLASS_COUNT);
    struct live *live = cache->heap->live;
    const uint32_t count = size_class_slices(class_index);
    bool is_used = false;
    *status = live_need_place(live, first, &is_used);
    if (*status || is_used) {
        if (is_used) live_let_go(live, first);
        if (!is_used) live_release_run(live, first, 1);
        if (count > 1) live_release_run(live, first + 1, count - 1);
        return NULL;
    }
    struct slice *slice = find_describe(cache, first, class_index);
    if (PLANTED(13)) /* published before it is initialised */
        base_store(live_descriptor(live, first), live_blocks_descriptor(live, first, class_index),
                   __ATOMIC_RELEASE);
    live_clear_pending(live, first);
    for (uint32_t i = 0; i < slice->word_count; i++) {
        base_store(&slice->bits[i], 0, __ATOMIC_RELAXED);
        base_store(&live_mirror(slice->bits)[i], 0, __ATOMIC_RELAXED);
    }
    slice_set_used(slice, 0);
    for (uint32_t i = 1; i < count; i++)
        base_store(live_descriptor(live, first + i), descriptor_of_run(HEAP_TAIL, i),
                   __ATOMIC_RELEASE);
    base_store(live_descriptor(live, first), live_blocks_descriptor(live, first, class_index),
               __ATOMIC_RELEASE);
    for (uint32_t i = 1; i < count; i++) live_let_go(live, first + i);
    return slice;
}

EVH_INTERNAL void live_give(struct cache *cache, struct slice *slice)
{
    assert(slice_used(slice) == 0);
    assert(slice->list == SLICE_IN_NONE);
    struct live *live = cache->heap->live;
    const uint64_t first = (uint64_t)(slice - cache->heap->slices.table);
    const uint32_t count = size_class_slices(slice->class_index);
    assert(base_load(live_owner(live, first), __ATOMIC_RELAXED) == cache->tag);
    slice->owner = 0;
    slice->kind = HEAP_FREE;
    base_store(live_descriptor(live, first), HEAP_FREE, __ATOMIC_RELEASE);
    live_free_tails(live, cache, first, 1, count);
    live_release_run(live, first, 1);
}

/* ---- sweeping ---- */

struct find_sweep {
    struct cache *cache;
    uint32_t class_index;
    struct slice *slice; /* of the class, adopted */
    bool all;            /* adopt whatever nobody owns, if only to see whether it is empty */
    bool found;
    uint64_t given; /* bit: that slice of the present 64 is free now; the hints do not know yet */
};

/* Whether a block of the slice is live: mostly the first word tells, and nothing is claimed. */
static bool find_has_live(uint64_t *bits, uint32_t class_index)
{
    assert(bits != NULL);
    assert(class_index < HEAP_CLASS_COUNT);
    for (uint32_t i = 0; i < size_classes[class_index].word_count; i++) {
        const uint64_t freed = base_load(&live_mirror(bits)[i], __ATOMIC_ACQUIRE);
        if (base_load(&bits[i], __ATOMIC_RELAXED) & ~freed) return true;
    }
    return false;
}

/* Make a small slice in which nothing is live free, without adopting it: what its bitmap and mirror
 * hold means nothing then. False: somebody may not have done with freeing a block in it. */
static bool find_give_empty(struct find_sweep *sweep, uint64_t number, uint32_t class_index,
                            uint64_t *bits)
{
    assert(!size_class_is_medium(class_index));
    assert(sweep->cache->tag != 0);
    struct live *live = sweep->cache->heap->live;
    uint64_t *descriptor = live_descriptor(live, number);
    const uint64_t expected = base_load(descriptor, __ATOMIC_RELAXED);
    if (!live_claim(live, sweep->cache, number)) return true;
    const bool is_same = base_load(descriptor, __ATOMIC_ACQUIRE) == expected &&
                         descriptor_kind(expected) == HEAP_SMALL &&
                         descriptor_class(expected) == class_index;
    if (!is_same || find_has_live(bits, class_index)) {
        live_let_go(live, number);
        return true;
    }
    /* After the mirror, as in live_fold(). */
    if (live_is_anybody_freeing(live)) {
        live_let_go(live, number);
        return false;
    }
    live_clear_pending(live, number);
    base_store(descriptor, HEAP_FREE, __ATOMIC_RELEASE);
    live_let_go(live, number);
    sweep->given |= 1ull << number % 64;
    sweep->found = true;
    return true;
}

/* Tell the hints what became free of the 64 slices that `number` is the last of. */
static void find_hint_given(struct find_sweep *sweep, uint64_t number)
{
    assert(number > 0);
    struct live *live = sweep->cache->heap->live;
    const uint64_t first = base_round_down(number, 64);
    if (!sweep->given) return;
    struct live_slices *slices = live_segment(live, first);
    const uint32_t word = (uint32_t)(first % SEGMENT_SLICES / 64);
    assert(word < LIVE_SEGMENT_WORDS);
    (void)base_fetch_and(&slices->taken[word], ~sweep->given, __ATOMIC_SEQ_CST);
    live_hint_free_from(live, first + base_lowest_bit(sweep->given));
    sweep->given = 0;
}

/* A slice of blocks that nobody owns. */
static void find_sweep_blocks(struct find_sweep *sweep, uint64_t number, uint32_t class_index,
                              bool was_owned)
{
    assert(class_index < HEAP_CLASS_COUNT);
    assert(number > 0);
    struct live *live = sweep->cache->heap->live;
    const uint64_t index = number % SEGMENT_SLICES;
    const bool is_pending =
        base_load(&live_segment(live, number)->pending[index / 64], __ATOMIC_RELAXED) >>
            index % 64 &
        1;
    const bool is_wanted = class_index == sweep->class_index && !sweep->slice;
    if (!sweep->all && !was_owned && !is_pending && !is_wanted) return;
    uint64_t *bits = (uint64_t *)(void *)live_place_of(live, number);
    if (!bits || (!is_wanted && find_has_live(bits, class_index))) return;
    if (!is_wanted && !size_class_is_medium(class_index) &&
        find_give_empty(sweep, number, class_index, bits))
        return;
    struct slice *slice = find_adopt(sweep->cache, number, HEAP_CLASS_COUNT);
    if (!slice) return;
    if (slice_used(slice) == 0) {
        live_give(sweep->cache, slice);
        sweep->found = true;
    } else if (is_wanted && slice->class_index == class_index && find_is_dense(slice)) {
        sweep->slice = slice;
        sweep->found = true;
    } else {
        find_disown(sweep->cache, slice);
    }
}

static void find_sweep_slice(struct find_sweep *sweep, uint64_t number)
{
    assert(number > 0);
    assert(sweep->cache->tag != 0);
    struct live *live = sweep->cache->heap->live;
    const uint64_t owner = base_load(live_owner(live, number), __ATOMIC_ACQUIRE);
    if (!live_is_stale(live, owner)) return;
    const uint32_t class_index = find_class(live, number);
    if (class_index < HEAP_CLASS_COUNT) {
        find_sweep_blocks(sweep, number, class_index, owner != 0);
        return;
    }
    const uint64_t index = number % SEGMENT_SLICES;
    const uint64_t taken =
        base_load(&live_segment(live, number)->taken[index / 64], __ATOMIC_RELAXED);
    if (!(taken >> index % 64 & 1)) return; /* whoever looks for space will find it */
    uint64_t stopped_at = 0;
    if (!live_claim_run(live, sweep->cache, number, 1, &stopped_at)) return;
    live_release_run(live, number, 1);
    sweep->found = true;
}

/* The bitmaps are 1 KiB apart: without this, each is waited for. */
static void find_prefetch(struct live *live, uint64_t number)
{
    assert(number > 0);
    const unsigned char *place = live_place_of(live, number);
    if (!place) return;
    assert(place > live->heap->view.base);
    __builtin_prefetch(place);
    __builtin_prefetch(place + LIVE_MIRROR_OFFSET);
}

EVH_INTERNAL bool live_sweep(struct cache *cache, uint32_t class_index, struct slice **slice)
{
    assert(cache->has_thread);
    assert(cache->tag != 0);
    struct live *live = cache->heap->live;
    struct find_sweep sweep = {.cache = cache, .class_index = slice ? class_index : UINT32_MAX};
    live_drain(cache);
    sweep.found = owners_release_empty(cache);
    const bool has_reaped = live_reap(live);
    const bool has_dissolved = live_dissolve_parked(live);
    sweep.all =
        has_reaped || has_dissolved || !base_exchange(&live->has_swept, 1, __ATOMIC_RELAXED);
    const uint64_t end = live_end(live);
    for (uint64_t number = 1; number < end; number++) {
        if (number + FIND_AHEAD < end) find_prefetch(live, number + FIND_AHEAD);
        find_sweep_slice(&sweep, number);
        if (number % 64 == 63 || number + 1 == end) find_hint_given(&sweep, number);
    }
    if (slice) *slice = sweep.slice;
    assert(slice || !sweep.slice);
    return sweep.found;
}

/* ---- finding ---- */

EVH_INTERNAL evh_status live_find_slice(struct cache *cache, uint32_t class_index,
                                        struct slice **slice)
{
    assert(class_index < HEAP_CLASS_COUNT);
    assert(cache->tag != 0);
    const uint32_t count = size_class_slices(class_index);
    evh_status status = EVH_OK;
    bool has_swept = false;
    for (;;) { /* each turn finds something, or fails, or the heap has grown */
        const uint64_t end = live_end(cache->heap->live);
        *slice = find_near(cache, class_index);
        if (*slice) return EVH_OK;
        uint64_t first = find_claim(cache, count, 1, count > 1, &status);
        if (!first && !status && !has_swept) {
            has_swept = true;
            const bool found = live_sweep(cache, class_index, slice);
            if (*slice) return EVH_OK;
            /* If somebody else has let it grow meanwhile, that may do. */
            if (found || live_end(cache->heap->live) != end) continue;
        }
        if (!first && !status) status = live_grow(cache, count, 1, end, &first);
        if (status) return status;
        if (!first) continue;
        *slice = find_publish(cache, first, class_index, &status);
        if (*slice || status) return status;
    }
}

EVH_INTERNAL uint64_t live_find_run(struct cache *cache, uint64_t count, uint64_t alignment)
{
    assert(count > 0);
    assert(base_is_power_of_two(alignment));
    assert(cache->tag != 0);
    evh_status status = EVH_OK;
    uint64_t first = 0;
    bool has_swept = false;
    while (!first && !status) { /* each turn has swept, or the heap has grown */
        const uint64_t end = live_end(cache->heap->live);
        first = find_claim(cache, count, alignment, false, &status);
        if (first || status) break;
        if (!has_swept) {
            has_swept = true;
            if (live_sweep(cache, 0, NULL)) continue;
        }
        status = live_grow(cache, count, alignment, end, &first);
    }
    assert(status || first % alignment == 0);
    return status ? 0 : first;
}
