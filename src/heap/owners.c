/* owners.c -- slices of blocks, and the caches that allocate from them.
 *
 * A slice's life:
 *
 *     free ---> current ---> full ---> dense ---> current ...      owned by a cache
 *      ^          (bin)      (list)    (list)
 *      |                                 |
 *      +---------- empty <---------------+
 *
 *     adoptable (list) or nowhere: nobody owns it. After loading, or when its cache was dissolved.
 *     Adopted by the thread that needs such a slice, or that frees in it.
 *
 * A bin claims the free bits of one bitmap word at a time, in ascending order. A slice is allocated
 * from while at least an eighth of it is free (dense); below that, each block would dirty a page of
 * its own. (Measured: 1000 blocks dirty 69 pages so, 602 if every free slot is taken at once.)
 */
#include "heap/heap.h"

static uint32_t owners_number(const evh_heap *heap, const struct slice *slice)
{
    assert(slice > heap->slices.table);
    assert(slice < heap->slices.table + heap->slices.slice_max);
    return (uint32_t)(slice - heap->slices.table);
}

static uint32_t owners_free_count(const struct slice *slice)
{
    assert(slice->block_count > 0);
    return slice->block_count - slice_used(slice);
}

static uint32_t owners_dense_count(const evh_heap *heap, const struct slice *slice)
{
    assert(slice->class_index < HEAP_CLASS_COUNT);
    return heap->mode == EVH_MEMORY ? size_class_dense_in_memory(slice->class_index)
                                    : size_class_dense(slice->class_index);
}

static bool owners_is_dense(const evh_heap *heap, const struct slice *slice)
{
    assert(slice->class_index < HEAP_CLASS_COUNT);
    return owners_free_count(slice) >= owners_dense_count(heap, slice);
}

static bool owners_is_current(const struct cache *cache, const struct slice *slice)
{
    assert(cache->heap != NULL);
    assert(slice->class_index < HEAP_CLASS_COUNT);
    return cache->bins[slice->class_index].slice == owners_number(cache->heap, slice);
}

/* ---- lists ---- */

static uint32_t *owners_list(evh_heap *heap, struct cache *cache, const struct slice *slice)
{
    assert(slice->list != SLICE_IN_NONE);
    assert(cache || slice->list >= SLICE_IN_ADOPTABLE);
    switch (slice->list) {
    case SLICE_IN_DENSE: return &cache->dense[slice->class_index];
    case SLICE_IN_FULL: return &cache->full;
    case SLICE_IN_ADOPTABLE: return slices_adoptable(&heap->slices, slice);
    default: assert(slice->list == SLICE_IN_EMPTY); return &heap->slices.empty;
    }
}

static void owners_push(evh_heap *heap, struct cache *cache, struct slice *slice,
                        enum slice_list list)
{
    assert(slice->list == SLICE_IN_NONE);
    assert(list != SLICE_IN_NONE);
    slice->list = (uint8_t)list;
    uint32_t *head = owners_list(heap, cache, slice);
    const uint32_t number = owners_number(heap, slice);
    slice->next = *head;
    slice->previous = 0;
    if (*head) heap->slices.table[*head].previous = number;
    *head = number;
}

/* Take the slice out of the list it is in, if any. */
static void owners_unlink(evh_heap *heap, struct cache *cache, struct slice *slice)
{
    if (slice->list == SLICE_IN_NONE) return;
    struct slice *table = heap->slices.table;
    assert(slice->next < heap->slices.slice_max);
    assert(slice->previous < heap->slices.slice_max);
    uint32_t *head = owners_list(heap, cache, slice);
    if (slice->next) table[slice->next].previous = slice->previous;
    if (slice->previous) {
        assert(table[slice->previous].next == owners_number(heap, slice));
        table[slice->previous].next = slice->next;
    } else {
        assert(*head == owners_number(heap, slice));
        *head = slice->next;
    }
    slice->next = slice->previous = 0;
    slice->list = SLICE_IN_NONE;
}

/* Change the owner, keeping the flag that another thread may set at any moment. */
static void owners_set(struct slice *slice, const struct cache *cache)
{
    assert(slice->bits != NULL);
    const uint64_t owner = (uintptr_t)cache;
    uint64_t before = base_load(&slice->owner, __ATOMIC_RELAXED);
    uint64_t after = 0;
    assert((owner & SLICE_PENDING) == 0);
    do after = owner | (before & SLICE_PENDING);
    while (!base_compare_exchange(&slice->owner, &before, after, true, __ATOMIC_ACQ_REL,
                                  __ATOMIC_RELAXED));
}

/* The slice is the cache's, and not current: into the list where it belongs. */
static void owners_place(struct cache *cache, struct slice *slice)
{
    assert(slice_owner(slice) == cache);
    assert(!owners_is_current(cache, slice));
    assert(slice->floor == 0);
    if (owners_is_dense(cache->heap, slice)) {
        owners_push(cache->heap, cache, slice, SLICE_IN_DENSE);
        return;
    }
    owners_push(cache->heap, cache, slice, SLICE_IN_FULL);
    slice->floor = (uint16_t)(slice->block_count - owners_dense_count(cache->heap, slice));
    slice->countdown -= slice->floor;
    assert(slice->countdown > 0);
}

/* ---- giving slices back ---- */

/* An empty slice, in no list, becomes free. Under the lock. */
static void owners_give(evh_heap *heap, struct slice *slice)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(slice->kind == HEAP_SMALL || slice->kind == HEAP_MEDIUM);
    const uint64_t first = owners_number(heap, slice);
    const uint32_t slices = size_class_slices(slice->class_index);
    assert(slice_used(slice) == 0);
    assert(slice->list == SLICE_IN_NONE);
    owners_set(slice, NULL);
    pool_give(heap, heap->slices.segments[first / SEGMENT_SLICES], slice->bits,
              size_classes[slice->class_index].slot_words);
    for (uint32_t i = 0; i < slices; i++) slices_set_descriptor(heap, first + i, HEAP_FREE);
    runs_give(heap, first, slices);
}

static void owners_release(struct cache *cache, struct slice *slice)
{
    assert(slice_owner(slice) == cache);
    assert(slice_used(slice) == 0);
    evh_heap *heap = cache->heap;
    assert(!owners_is_current(cache, slice));
    owners_unlink(heap, cache, slice);
    if (heap->live) {
        live_give(cache, slice);
        return;
    }
    heap_lock_take(&heap->slices.lock);
    owners_give(heap, slice);
    heap_lock_drop(&heap->slices.lock);
}

/* Nothing in the slice is used any more. */
static void owners_emptied(struct cache *cache, struct slice *slice)
{
    assert(slice_owner(slice) == cache);
    const struct bin *bin = &cache->bins[slice->class_index];
    assert(slice_used(slice) == 0);
    if (owners_is_current(cache, slice)) return;
    /* The class's only slice with room stays: a program that allocates and frees one block would
     * take and give a slice each time. */
    assert(slice->list == SLICE_IN_DENSE);
    const bool is_only = slice->next == 0 && slice->previous == 0;
    if (is_only && bin->mask == 0) return;
    owners_release(cache, slice);
}

/* Fold what is pending in a slice that nobody else changes. */
static void owners_fold(evh_heap *heap, struct slice *slice)
{
    assert(slice->kind == HEAP_SMALL || slice->kind == HEAP_MEDIUM);
    const uint32_t freed = heap->live ? live_fold(heap, slice) : remote_fold(heap, slice);
    const uint32_t used = slice_used(slice);
    assert(freed <= used);
    slice_set_used(slice, used - freed);
}

EVH_INTERNAL void owners_settle(struct cache *cache, struct slice *slice)
{
    assert(slice->list != SLICE_IN_ADOPTABLE);
    assert(slice_owner(slice) == cache);
    owners_fold(cache->heap, slice);
    if (slice->list == SLICE_IN_FULL) {
        owners_unlink(cache->heap, cache, slice);
        owners_place(cache, slice);
    }
    if (slice_used(slice) == 0) owners_emptied(cache, slice);
}

EVH_INTERNAL void owners_settle_nobodys(evh_heap *heap, struct slice *slice)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(slice_owner(slice) == NULL);
    owners_fold(heap, slice);
    owners_unlink(heap, NULL, slice);
    if (slice_used(slice) == 0)
        owners_give(heap, slice);
    else if (owners_is_dense(heap, slice))
        owners_push(heap, NULL, slice, SLICE_IN_ADOPTABLE);
}

/* The bin no longer has a current slice. */
static struct slice *owners_end_bin(struct cache *cache, struct bin *bin)
{
    assert(bin->slice < cache->heap->slices.slice_max);
    struct slice *slice = &cache->heap->slices.table[bin->slice];
    assert(bin->slice != 0);
    slice_set_used(slice, slice_used(slice) - base_count_bits(bin->mask));
    bin->mask = 0;
    bin->word = NULL;
    bin->slice = 0;
    return slice;
}

/* The slice of blocks that `block` lies in. */
static struct slice *owners_slice_of(const evh_heap *heap, const void *block)
{
    const uint64_t offset = (uint64_t)((uintptr_t)block - (uintptr_t)heap->view.base);
    assert(offset >> SLICE_SHIFT < heap->slices.slice_max);
    struct slice *slice = &heap->slices.table[offset >> SLICE_SHIFT];
    if (slice->kind == HEAP_TAIL) slice -= slice->run;
    assert(slice->kind == HEAP_SMALL || slice->kind == HEAP_MEDIUM);
    return slice;
}

/* The cache's hot blocks are claimed no longer, its magazines empty. */
static void owners_cool(struct cache *cache)
{
    assert(cache->heap != NULL);
    magazine_give_all(cache);
    assert(cache->bins[HEAP_CLASS_COUNT].hot == NULL);
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        struct bin *bin = &cache->bins[i];
        while (bin->hot != bin->hot_start) {
            bin->hot--;
            struct slice *slice = owners_slice_of(cache->heap, bin->hot->block);
            assert(slice_owner(slice) == cache);
            assert(slice->countdown > 0);
            if (--slice->countdown == 0) owners_settle(cache, slice);
        }
    }
}

EVH_INTERNAL bool owners_release_empty(struct cache *cache)
{
    assert(cache->heap != NULL);
    bool found = false;
    struct slice *table = cache->heap->slices.table;
    owners_cool(cache);
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        struct bin *bin = &cache->bins[i];
        if (bin->slice && slice_used(&table[bin->slice]) == base_count_bits(bin->mask))
            owners_place(cache, owners_end_bin(cache, bin));
        for (uint32_t number = cache->dense[i]; number;) {
            struct slice *slice = &table[number];
            assert(slice->list == SLICE_IN_DENSE);
            number = slice->next;
            if (slice_used(slice)) continue;
            owners_release(cache, slice);
            found = true;
        }
    }
    return found;
}

EVH_INTERNAL bool owners_release_loaded(evh_heap *heap)
{
    assert(heap->is_writable);
    bool found = false;
    heap_lock_take(&heap->slices.lock);
    while (heap->slices.empty) {
        struct slice *slice = &heap->slices.table[heap->slices.empty];
        assert(slice_owner(slice) == NULL);
        owners_unlink(heap, NULL, slice);
        owners_give(heap, slice);
        found = true;
    }
    heap_lock_drop(&heap->slices.lock);
    return found;
}

/* ---- dissolving parked caches ---- */

/* Nobody owns the slice from now on. Under the lock. */
static void owners_abandon(struct cache *cache, struct slice *slice)
{
    assert(heap_lock_is_taken(&cache->heap->slices.lock));
    assert(slice_owner(slice) == cache);
    evh_heap *heap = cache->heap;
    owners_unlink(heap, cache, slice);
    owners_set(slice, NULL); /* slice->cache stays: a late remote free announces there */
    assert(slice->list == SLICE_IN_NONE);
    owners_settle_nobodys(heap, slice);
}

/* Take everything from a cache that has no thread, and that nobody else can reach. */
static bool owners_dissolve(struct cache *cache)
{
    assert(cache->heap != NULL);
    assert(cache->depth == 0);
    evh_heap *heap = cache->heap;
    bool found = false;
    assert(!cache->has_thread);
    remote_drain(cache);
    owners_cool(cache);
    heap_lock_take(&heap->slices.lock);
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        if (cache->bins[i].slice) {
            owners_abandon(cache, owners_end_bin(cache, &cache->bins[i]));
            found = true;
        }
        for (; cache->dense[i]; found = true)
            owners_abandon(cache, &heap->slices.table[cache->dense[i]]);
    }
    while (cache->full) owners_abandon(cache, &heap->slices.table[cache->full]);
    heap_lock_drop(&heap->slices.lock);
    return found;
}

EVH_INTERNAL bool owners_reclaim(struct cache *cache)
{
    assert(cache->has_thread);
    assert(cache->heap != NULL);
    evh_heap *heap = cache->heap;
    struct heap_slices *slices = &heap->slices;
    bool found = owners_release_empty(cache);
    if (owners_release_loaded(heap)) found = true;

    /* All parked caches at once, out of reach of threads that begin meanwhile. */
    heap_lock_take(&slices->lock);
    struct cache *parked = slices->parked;
    slices->parked = NULL;
    heap_lock_drop(&slices->lock);
    while (parked) {
        struct cache *next = parked->next_parked;
        assert(parked != cache);
        if (owners_dissolve(parked)) found = true;
        heap_lock_take(&slices->lock);
        parked->next_parked = slices->parked;
        slices->parked = parked;
        heap_lock_drop(&slices->lock);
        parked = next;
    }
    return found;
}

/* How many hot blocks a bin keeps: what the caches of a processor hold is worth keeping. */
static uint32_t owners_hot_count(uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    const uint32_t count = SLICE_BYTES / size_classes[class_index].block_bytes;
    assert(count > 0);
    return count > SLICE_HOT_MAX ? SLICE_HOT_MAX : count < SLICE_HOT_MIN ? SLICE_HOT_MIN : count;
}

EVH_INTERNAL uint32_t owners_hot_total(void)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) total += owners_hot_count(i);
    assert(total <= HEAP_CLASS_COUNT * SLICE_HOT_MAX);
    return total;
}

EVH_INTERNAL void owners_begin(struct cache *cache)
{
    assert(cache->heap != NULL);
    assert(!cache->hots || cache->heap->mode == EVH_MEMORY);
    memset(cache->bins, 0, sizeof cache->bins);
    magazine_begin(cache);
    if (!cache->hots) return;
    struct hot *next = cache->hots;
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        struct bin *bin = &cache->bins[i];
        bin->hot = bin->hot_start = next;
        next += owners_hot_count(i);
        bin->hot_end = next;
    }
    assert(next == cache->hots + owners_hot_total());
}

EVH_INTERNAL void owners_forget(struct cache *cache)
{
    assert(cache->heap != NULL);
    assert(cache != NULL);
    owners_begin(cache);
    memset(cache->dense, 0, sizeof cache->dense);
    memset(cache->hints, 0, sizeof cache->hints);
    cache->full = 0;
    base_store(&cache->pending, 0, __ATOMIC_RELAXED);
}

/* ---- taking slices ---- */

/* A slice that nobody owns becomes the cache's, in no list yet. Under the lock. */
static void owners_adopt(struct cache *cache, struct slice *slice)
{
    assert(slice->kind == HEAP_SMALL || slice->kind == HEAP_MEDIUM);
    evh_heap *heap = cache->heap;
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(slice_owner(slice) == NULL);
    assert((bool)slice->is_typed == cache->is_typed);
    owners_unlink(heap, cache, slice);
    owners_fold(heap, slice);
    base_store(&slice->cache, cache, __ATOMIC_RELEASE);
    owners_set(slice, cache);
}

/* Describe a slice of blocks in the table, its bitmap zeroed, and publish its descriptors. */
static struct slice *owners_publish(struct cache *cache, uint64_t first, uint32_t class_index,
                                    uint32_t slot)
{
    assert(first > 0);
    assert(class_index < HEAP_CLASS_COUNT);
    assert(heap_lock_is_taken(&cache->heap->slices.lock));
    evh_heap *heap = cache->heap;
    struct slice *slice = &heap->slices.table[first];
    const uint32_t slices = size_class_slices(class_index);
    assert(slice_owner(slice) == NULL);
    slice_set_class(slice, class_index);
    slice->is_typed = cache->is_typed;
    slice->bits = pool_bits(heap, heap->slices.segments[first / SEGMENT_SLICES], slot);
    slice_set_used(slice, 0);
    slice->cursor = 0;
    base_store(&slice->cache, cache, __ATOMIC_RELEASE);
    slices_zero(slice->bits, slice->word_count * 8u);
    for (uint32_t i = 1; i < slices; i++) {
        heap->slices.table[first + i].run = i;
        slices_set_descriptor(heap, first + i, descriptor_of_run(HEAP_TAIL, i));
    }
    slices_set_descriptor(
        heap, first, descriptor_typed(descriptor_of_blocks(class_index, slot), cache->is_typed));
    owners_set(slice, cache);
    return slice;
}

/*
 * A free slice for the class, with a bitmap; `grow` says how hard to try. NULL: none.
 * If the segment's pools are full and its last free slices are these, one of them becomes a pool.
 * (One that cannot, the first of a segment, is put aside while another is looked for.)
 */
static struct slice *owners_take(struct cache *cache, uint32_t class_index, bool grow)
{
    assert(class_index < HEAP_CLASS_COUNT);
    assert(heap_lock_is_taken(&cache->heap->slices.lock));
    enum { ASIDE_MAX = 8 };
    evh_heap *heap = cache->heap;
    const uint32_t count = size_class_slices(class_index);
    const bool is_run = count > 1;
    uint64_t aside[ASIDE_MAX];
    uint32_t aside_count = 0;
    struct slice *slice = NULL;
    while (!slice && aside_count < ASIDE_MAX) {
        const uint64_t first =
            grow ? runs_take(heap, count, 1, is_run) : runs_take_loaded(heap, count, 1, is_run);
        if (!first) break;
        struct segment *segment = heap->slices.segments[first / SEGMENT_SLICES];
        const uint32_t words = size_classes[class_index].slot_words;
        const uint32_t slot = pool_take(heap, segment, cache, words);
        if (slot != POOL_NONE) {
            slice = owners_publish(cache, first, class_index, slot);
            break;
        }
        runs_give(heap, first, count);
        if (pool_add(heap, segment)) continue;
        runs_mark_taken(heap, first, count);
        aside[aside_count++] = first;
    }
    if (aside_count == ASIDE_MAX)
        (void)base_fail(EVH_FULL, NO_OFFSET, "%s: no room for a bitmap", heap_path(heap));
    while (aside_count) runs_give(heap, aside[--aside_count], count);
    return slice;
}

/* Blocks in magazines keep slices from being empty: they are given back before more memory is used,
 * now and then. */
static void owners_reclaim_early(struct cache *cache)
{
    enum { STEP_MIN = 8, STEP_PART = 16 };
    struct heap_slices *slices = &cache->heap->slices;
    assert(cache->heap->has_magazines);
    heap_lock_take(&slices->lock);
    const uint64_t end = slices->taken_end;
    const bool is_time = end >= slices->reclaim_at;
    if (is_time) slices->reclaim_at = end + base_max(STEP_MIN, end / STEP_PART);
    assert(slices->reclaim_at > 0);
    heap_lock_drop(&slices->lock);
    if (is_time) (void)owners_reclaim(cache);
}

/* One for the class from anywhere: adopted, free, in segments not loaded yet, reclaimed, new. */
static evh_status owners_find(struct cache *cache, uint32_t class_index, struct slice **slice)
{
    assert(cache->has_thread);
    assert(cache->dense[class_index] == 0);
    evh_heap *heap = cache->heap;
    struct heap_slices *slices = &heap->slices;
    evh_status status = EVH_OK;
    *slice = NULL;
    if (heap->has_magazines) owners_reclaim_early(cache);
    heap_lock_take(&slices->lock);
    /* Once for each growth: classes that take turns would otherwise take each other's last
     * slice. */
    bool may_reclaim = slices->reclaimed_end != slices_count(heap->state.heap_bytes);
    for (;;) { /* each turn loads a segment, or is the one after reclaiming */
        const uint32_t adoptable =
            cache->is_typed ? slices->adoptable_typed[class_index] : slices->adoptable[class_index];
        if (adoptable) {
            *slice = &slices->table[adoptable];
            owners_adopt(cache, *slice);
            break;
        }
        *slice = owners_take(cache, class_index, false);
        if (*slice) break;
        if (runs_load_more(heap, &status)) continue;
        if (status) break;
        if (may_reclaim) {
            may_reclaim = false;
            slices->reclaimed_end = slices_count(heap->state.heap_bytes);
            heap_lock_drop(&slices->lock);
            const bool found = owners_reclaim(cache);
            if (!found) heap_discard_before_growth(cache);
            heap_lock_take(&slices->lock);
            if (found) continue;
        }
        *slice = owners_take(cache, class_index, true);
        if (!*slice) status = evh_last_error()->status;
        break;
    }
    if (*slice) slices->taken_end = base_max(slices->taken_end, owners_number(heap, *slice) + 1u);
    heap_lock_drop(&slices->lock);
    assert(status || *slice);
    return status;
}

/* ---- refilling ---- */

/* The free bits of bitmap word `word`. */
static uint64_t owners_free_bits(const struct slice *slice, uint32_t word)
{
    assert(word < slice->word_count);
    assert(slice->bits != NULL);
    const uint64_t live = base_load(&slice->bits[word], __ATOMIC_RELAXED);
    return ~live & slice_valid_bits(slice, word);
}

/* Claim the free bits of the slice's next word that has any, into the bin. */
static bool owners_claim_word(struct cache *cache, struct bin *bin, struct slice *slice)
{
    assert(slice->list == SLICE_IN_NONE);
    assert(slice->floor == 0);
    assert(slice_owner(slice) == cache);
    assert(bin->mask == 0);
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t word = slice->cursor; word < slice->word_count; word++) {
            const uint64_t free = owners_free_bits(slice, word);
            if (!free) continue;
            const uint32_t number = owners_number(cache->heap, slice);
            unsigned char *start = cache->heap->view.base + ((uint64_t)number << SLICE_SHIFT);
            bin->mask = free;
            bin->word = &slice->bits[word];
            bin->blocks = start + (uint64_t)word * 64 * slice->block_bytes;
            bin->block_bytes = slice->block_bytes;
            bin->slice = number;
            slice->countdown += base_count_bits(free);
            slice->cursor = (uint8_t)(word + 1);
            return true;
        }
        if (!owners_is_dense(cache->heap, slice)) return false;
        slice->cursor = 0; /* behind the cursor, enough became free */
    }
    return false;
}

/* The lowest `count` of `bits` of a word of the slice become hot blocks, the lowest on top, below
 * `behind`. */
static struct hot *owners_heat_word(const struct slice *slice, uint32_t word, uint64_t bits,
                                    uint32_t count, struct hot *behind, unsigned char *start)
{
    assert(count > 0);
    assert(word < slice->word_count);
    const uint64_t place = hot_place(&slice->bits[word], 0);
    const uint64_t size = slice->block_bytes;
    unsigned char *blocks = start + word * 64ull * size;
    assert(count <= 64);
    if (bits == UINT64_MAX) { /* of a new slice, most of all */
        for (uint64_t index = 0; index < count; index++, blocks += size)
            *--behind = (struct hot){blocks, place + index};
        return behind;
    }
    for (; count > 0; count--, bits &= bits - 1) {
        const uint64_t index = base_lowest_bit(bits);
        *--behind = (struct hot){blocks + index * size, place + index};
    }
    return behind;
}

/* Make free blocks of the slice hot: of one word after the other, until a quarter of the room is
 * used. What comes first goes on top. False: there is none behind the cursor. */
static bool owners_heat(struct cache *cache, struct bin *bin, struct slice *slice)
{
    assert(bin->hot == bin->hot_start);
    assert(slice->floor == 0);
    const uint32_t room = (uint32_t)(bin->hot_end - bin->hot_start);
    /* A program whose blocks are short-lived goes over the same memory again and again, not over
     * the whole slice. */
    uint32_t word = slice->countdown <= slice->block_count / 2u ? 0 : slice->cursor;
    const uint32_t number = owners_number(cache->heap, slice);
    unsigned char *start = cache->heap->view.base + ((uint64_t)number << SLICE_SHIFT);
    struct hot *next = bin->hot_end;
    uint32_t taken = 0;
    for (; word < slice->word_count && taken <= room / 4; word++) {
        const uint64_t bits = owners_free_bits(slice, word);
        if (!bits) continue;
        const uint32_t all = base_count_bits(bits);
        const uint32_t count = (uint32_t)base_min(all, room - taken);
        next = owners_heat_word(slice, word, bits, count, next, start);
        taken += count;
        if (count < all) break; /* it has more, for the next time */
    }
    slice->cursor = (uint8_t)word;
    slice->countdown += taken;
    bin->slice = number;
    bin->hot = bin->hot_start + taken;
    assert(taken <= room);
    assert(next == bin->hot_end - taken);
    if (taken && taken < room) memmove(bin->hot_start, next, taken * sizeof *next);
    return taken > 0;
}

static bool owners_claim_magazine(struct cache *cache, struct bin *bin, struct slice *slice)
{
    assert(slice->list == SLICE_IN_NONE);
    assert(slice_owner(slice) == cache);
    if (magazine_fill(cache, bin, slice)) return true;
    if (!owners_is_dense(cache->heap, slice)) return false;
    slice->cursor = 0; /* behind the cursor, enough became free */
    return magazine_fill(cache, bin, slice);
}

static bool owners_claim_hot(struct cache *cache, struct bin *bin, struct slice *slice)
{
    assert(slice->list == SLICE_IN_NONE);
    assert(slice_owner(slice) == cache);
    assert(bin->hot_end != NULL);
    if (owners_heat(cache, bin, slice)) return true;
    if (!owners_is_dense(cache->heap, slice)) return false;
    slice->cursor = 0; /* behind the cursor, enough became free */
    return owners_heat(cache, bin, slice);
}

/* Claim free blocks of the slice, which is in no list and becomes current. False: it is not worth
 * it. */
static bool owners_claim(struct cache *cache, struct bin *bin, struct slice *slice)
{
    assert(bin->mask == 0);
    assert(bin->hot == bin->hot_start);
    if (cache->magazines) return owners_claim_magazine(cache, bin, slice);
    return bin->hot_end ? owners_claim_hot(cache, bin, slice)
                        : owners_claim_word(cache, bin, slice);
}

EVH_INTERNAL evh_status owners_check_dirty(evh_heap *heap)
{
    const uint64_t limit = heap->options.dirty_max_bytes;
    if (LIKELY(limit == 0) || !heap->journal) return EVH_OK;
    /* Looking for dirty pages while threads store to them would lose stores. The heap's growth
     * since the last look is known without looking. */
    const uint64_t end = heap_end_bytes(heap);
    const uint64_t looked = base_load(&heap->looked_bytes, __ATOMIC_RELAXED);
    const uint64_t dirty = journal_dirty_bytes(heap->journal) + (end > looked ? end - looked : 0);
    if (dirty <= limit) return EVH_OK;
    return base_fail(EVH_LIMIT, NO_OFFSET,
                     "%s: %llu bytes are uncommitted, dirty_max_bytes allows %llu", heap_path(heap),
                     (unsigned long long)dirty, (unsigned long long)limit);
}

EVH_INTERNAL evh_status owners_refill(struct cache *cache, uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    assert(cache->bins[class_index].mask == 0);
    assert(cache->has_thread);
    struct bin *bin = &cache->bins[class_index];
    struct slice *table = cache->heap->slices.table;
    if (cache->magazines && magazine_unpack(cache, class_index)) return EVH_OK;
    evh_status status = owners_check_dirty(cache->heap);
    if (status) return status;
    if (cache->heap->live)
        live_drain(cache);
    else if (base_load(&cache->pending, __ATOMIC_RELAXED))
        remote_drain(cache);
    if (bin->slice) {
        struct slice *slice = &table[bin->slice];
        if (owners_claim(cache, bin, slice)) return EVH_OK;
        owners_place(cache, owners_end_bin(cache, bin));
        assert(slice->list == SLICE_IN_FULL);
    }
    struct slice *next = NULL;
    if (cache->dense[class_index]) {
        next = &table[cache->dense[class_index]];
        owners_unlink(cache->heap, cache, next);
    } else {
        status = cache->heap->live ? live_find_slice(cache, class_index, &next)
                                   : owners_find(cache, class_index, &next);
        if (status) return status;
    }
    next->cursor = 0;
    const bool claimed = owners_claim(cache, bin, next);
    if (NEVER(!claimed)) return base_fail(EVH_CORRUPT, NO_OFFSET, "a slice lost its free blocks");
    return EVH_OK;
}

/* ---- freeing ---- */

/* Free a block of a slice that the cache owns. */
static evh_status owners_free_own(struct cache *cache, struct slice *slice, uint32_t index)
{
    assert(slice_owner(slice) == cache);
    uint64_t *word = &slice->bits[index / 64];
    const uint64_t bit = 1ull << index % 64;
    const uint64_t live = base_load(word, __ATOMIC_RELAXED);
    struct bin *bin = &cache->bins[slice->class_index];
    assert(index < slice->block_count);
    if (!(live & bit)) return EVH_DOUBLE_FREE;
    base_store(word, live & ~bit, __ATOMIC_RELAXED);
    assert(slice->countdown > 0);
    if (bin->word == word)
        bin->mask |= bit; /* claimed again: still used */
    else
        slice->countdown--;
    owners_settle(cache, slice);
    return EVH_OK;
}

/* Make the slice the cache's if nobody owns it: freeing in it is then a matter of one thread. */
static evh_status owners_adopt_here(struct cache *cache, struct slice *slice)
{
    assert(cache->has_thread);
    assert(slice > cache->heap->slices.table);
    evh_heap *heap = cache->heap;
    evh_status status = EVH_OK;
    heap_lock_take(&heap->slices.lock);
    if (slice->kind != HEAP_SMALL && slice->kind != HEAP_MEDIUM)
        status = EVH_DOUBLE_FREE; /* it was given back meanwhile */
    else if (slice_owner(slice) == NULL)
        owners_adopt(cache, slice);
    heap_lock_drop(&heap->slices.lock);
    if (!status && slice_owner(slice) == cache) owners_place(cache, slice);
    return status;
}

/* By a thread without a cache, in a slice that nobody owns, if that is still so. EVH_BUSY: it has
 * an owner. */
static evh_status owners_free_nobodys(evh_heap *heap, struct slice *slice, uint32_t index)
{
    assert(slice > heap->slices.table);
    evh_status status = EVH_OK;
    heap_lock_take(&heap->slices.lock);
    if (slice->kind != HEAP_SMALL && slice->kind != HEAP_MEDIUM) {
        status = EVH_DOUBLE_FREE; /* it was given back meanwhile */
    } else if (slice_owner(slice) != NULL) {
        status = EVH_BUSY;
    } else if (!(remote_live_bits(heap, slice, index / 64) >> index % 64 & 1)) {
        status = EVH_DOUBLE_FREE;
    } else {
        assert(slice->countdown > 0);
        const uint64_t live = base_load(&slice->bits[index / 64], __ATOMIC_RELAXED);
        base_store(&slice->bits[index / 64], live & ~(1ull << index % 64), __ATOMIC_RELAXED);
        slice->countdown--;
        owners_settle_nobodys(heap, slice);
    }
    heap_lock_drop(&heap->slices.lock);
    return status;
}

EVH_INTERNAL evh_status owners_free(evh_heap *heap, struct cache *cache, struct slice *slice,
                                    uint32_t index)
{
    assert(slice->bits != NULL);
    assert(index < slice->block_count);
    const uint64_t live = remote_live_bits(heap, slice, index / 64);
    if (!(live >> index % 64 & 1)) return EVH_DOUBLE_FREE;
    if (slice->is_typed && cache && !cache->is_typed) cache = NULL; /* no thread's */
    if (slice_owner(slice) == NULL) {
        const evh_status status =
            cache ? owners_adopt_here(cache, slice) : owners_free_nobodys(heap, slice, index);
        if (!cache && status != EVH_BUSY) return status;
        if (cache && status) return status;
    }
    if (cache && slice_owner(slice) == cache) return owners_free_own(cache, slice, index);
    return remote_free(heap, slice, index);
}
