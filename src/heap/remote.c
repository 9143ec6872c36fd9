/* remote.c -- frees by threads that do not own the slice: no lock, no waiting, no bit twice.
 *
 * The freer sets the block's bit in the slice's mirror, marks the mirror's word in a summary, flags
 * the slice, and pushes it on its owner's stack, unless it is there already. The owner pops the
 * slice and folds the mirror into the bitmap:
 *
 *     freer                                     owner
 *       the block's bit is 1, else a double free  is_pending = 0
 *       mirror |= bit; was set: a double free     owner &= ~SLICE_PENDING
 *       summary |= word, if it is not there       words = summary, summary = 0
 *       owner |= SLICE_PENDING, likewise          each word: bits &= ~mirror, mirror &= ~those
 *       is_pending = 1; was 0: push the slice
 *
 * Each side writes what the other reads before it reads what the other writes (Dekker), so what the
 * owner does not fold is announced again; these accesses are sequentially consistent. The bit is
 * looked at before the mirror: afterwards, the owner may have folded it. `is_pending` is a flag of
 * its own because a slice that is on the stack twice makes it a ring.
 *
 * The flag sends the owner's own frees in this slice the slow way, where the mirror is folded
 * first: a block that another thread has freed is not freed again.
 *
 * The owner may have changed when the freer pushes. Every popped slice is therefore looked at anew:
 * forwarded to its owner, or folded under the lock if it has none.
 */
#include "heap/heap.h"

static uint64_t *remote_mirror(const evh_heap *heap, const struct slice *slice)
{
    assert(heap->slices.mirrors != NULL);
    const uint64_t number = (uint64_t)(slice - heap->slices.table);
    assert(number < heap->slices.slice_max);
    return (uint64_t *)(void *)(heap->slices.mirrors + number * SLICE_MIRROR_BYTES);
}

static struct remote *remote_of(const evh_heap *heap, const struct slice *slice)
{
    assert(slice < heap->slices.table + heap->slices.slice_max);
    assert(slice >= heap->slices.table);
    return &heap->slices.remotes[slice - heap->slices.table];
}

/*
 * Put the slice on the stack of the cache that owns it, unless it is on one. It comes late if
 * another thread's announcement had our bit folded already: then the slice may have been given
 * back, and be anything by now. Only atomic members are touched.
 */
static void remote_announce(evh_heap *heap, struct slice *slice)
{
    struct remote *remote = remote_of(heap, slice);
    if (base_load(&remote->is_pending, __ATOMIC_SEQ_CST)) return;
    if (base_exchange(&remote->is_pending, 1, __ATOMIC_SEQ_CST)) return;
    struct cache *cache = base_load(&slice->cache, __ATOMIC_ACQUIRE);
    const uint32_t number = (uint32_t)(slice - heap->slices.table);
    assert(cache != NULL);
    assert(number != 0);
    assert(number < heap->slices.slice_max);
    uint32_t head = base_load(&cache->pending, __ATOMIC_RELAXED);
    do base_store(&remote->next, head, __ATOMIC_RELAXED);
    while (!base_compare_exchange(&cache->pending, &head, number, true, __ATOMIC_RELEASE,
                                  __ATOMIC_RELAXED));
}

EVH_INTERNAL evh_status remote_free(evh_heap *heap, struct slice *slice, uint32_t index)
{
    assert(slice->bits != NULL);
    struct remote *remote = remote_of(heap, slice);
    const uint32_t word = index / 64;
    const uint64_t bit = 1ull << index % 64;
    assert(index < slice->block_count);
    uint64_t *mirror = remote_mirror(heap, slice) + word;
    if (base_fetch_or(mirror, bit, __ATOMIC_SEQ_CST) & bit) return EVH_DOUBLE_FREE;
    const uint64_t word_bit = 1ull << word;
    if (!(base_load(&remote->summary, __ATOMIC_SEQ_CST) & word_bit))
        (void)base_fetch_or(&remote->summary, word_bit, __ATOMIC_SEQ_CST);
    if (!(base_load(&slice->owner, __ATOMIC_SEQ_CST) & SLICE_PENDING))
        (void)base_fetch_or(&slice->owner, SLICE_PENDING, __ATOMIC_SEQ_CST);
    remote_announce(heap, slice);
    return EVH_OK;
}

EVH_INTERNAL uint32_t remote_fold(evh_heap *heap, struct slice *slice)
{
    assert(slice->bits != NULL);
    assert(slice->word_count <= SLICE_MIRROR_WORDS);
    struct remote *remote = remote_of(heap, slice);
    uint64_t *mirror = remote_mirror(heap, slice);
    uint32_t freed = 0;
    if (base_load(&slice->owner, __ATOMIC_RELAXED) & SLICE_PENDING)
        (void)base_fetch_and(&slice->owner, ~(uint64_t)SLICE_PENDING, __ATOMIC_SEQ_CST);
    /* A late announcement may name words that a slice of another class no longer has; they are
     * 0. */
    for (uint64_t words = base_exchange(&remote->summary, 0, __ATOMIC_SEQ_CST); words;
         words &= words - 1) {
        const uint32_t word = base_lowest_bit(words);
        const uint64_t pending = base_load(&mirror[word], __ATOMIC_SEQ_CST);
        if (!pending) continue;
        assert(word < slice->word_count);
        const uint64_t live = base_load(&slice->bits[word], __ATOMIC_RELAXED);
        base_store(&slice->bits[word], live & ~pending, __ATOMIC_RELAXED);
        (void)base_fetch_and(&mirror[word], ~pending, __ATOMIC_ACQ_REL);
        freed += base_count_bits(live & pending);
    }
    assert(freed <= slice->block_count);
    return freed;
}

/* Whether nobody owns the slice; then its remote frees are folded. */
static bool remote_drain_nobodys(evh_heap *heap, struct slice *slice)
{
    assert(slice > heap->slices.table);
    heap_lock_take(&heap->slices.lock);
    const bool is_nobodys = slice_owner(slice) == NULL;
    const bool has_blocks = slice->kind == HEAP_SMALL || slice->kind == HEAP_MEDIUM;
    if (is_nobodys && has_blocks) owners_settle_nobodys(heap, slice);
    heap_lock_drop(&heap->slices.lock);
    return is_nobodys;
}

static void remote_drain_slice(struct cache *cache, struct slice *slice)
{
    assert(cache->heap != NULL);
    assert(slice > cache->heap->slices.table);
    evh_heap *heap = cache->heap;
    const struct cache *owner = slice_owner(slice);
    if (owner == cache)
        owners_settle(cache, slice);
    else if (owner || !remote_drain_nobodys(heap, slice))
        remote_announce(heap, slice); /* another cache owns it now */
}

EVH_INTERNAL void remote_drain(struct cache *cache)
{
    assert(cache->heap != NULL);
    struct heap_slices *slices = &cache->heap->slices;
    uint32_t number = base_exchange(&cache->pending, 0, __ATOMIC_ACQUIRE);
    while (number) {
        struct remote *remote = &slices->remotes[number];
        struct slice *slice = &slices->table[number];
        assert(base_load(&remote->is_pending, __ATOMIC_RELAXED));
        /* Once it is not pending, others may push it again and set `next`. */
        number = base_load(&remote->next, __ATOMIC_RELAXED);
        (void)base_exchange(&remote->is_pending, 0, __ATOMIC_SEQ_CST);
        remote_drain_slice(cache, slice);
    }
}

EVH_INTERNAL uint64_t remote_live_bits(const evh_heap *heap, const struct slice *slice,
                                       uint32_t word)
{
    assert(slice->bits != NULL);
    assert(word < slice->word_count);
    /* The mirror first: a fold clears the bitmap first, so who finds the mirror folded finds the
     * bitmap cleared. In the other order a block that is being folded would look live. */
    const uint64_t pending = base_load(remote_mirror(heap, slice) + word, __ATOMIC_ACQUIRE);
    const uint64_t bits = base_load(&slice->bits[word], __ATOMIC_RELAXED);
    return bits & ~pending & slice_valid_bits(slice, word);
}
