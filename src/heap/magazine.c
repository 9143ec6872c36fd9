/* magazine.c -- blocks that a thread keeps for itself: the fast way of heaps that check no frees.
 *
 * A magazine is a stack of free blocks of one class whose bits stay 1: for the bitmap they are
 * live, so that allocating pops and freeing pushes, and neither looks at a bitmap: 16 and 22
 * instructions. Bits of blocks are claimed a word at a time, with one store.
 *
 *     slices --- fill ---> array --- pack ---> packets
 *       ^                    ^                    |
 *       |                    +----- unpack -------+
 *       +--- a block that finds array and packets full
 *
 * The array's end is aligned, and a null lies before its start: whether it is empty tells the word
 * below the top, whether it is full the top itself. Half of it is packed at a time, the half that
 * was freed first, so that a program that frees and allocates by turns does not move it to and fro.
 * What finds everything full goes to its bitmap at once: clearing the bits of many blocks together
 * took twice as long, because no branch predictor knows which of them share a word.
 *
 * What it costs: a double free, or the free of a pointer that no block begins at, is found when the
 * block is given back, if the block was not handed out meanwhile; then nobody finds it. Whoever
 * looks at the image (a walk, a copy of it) has all magazines given back first. In a forked child
 * those of other threads are lost, as all that these had.
 */
#include "heap/fast.h"

enum {
    MAGAZINE_KEPT_BYTES = 48 << 10,   /* of a class, packets included */
    MAGAZINE_PORTION = 64,            /* blocks that are claimed at a time, ... */
    MAGAZINE_PORTION_BYTES = 8 << 10, /* ... or fewer, so much of them, ... */
    MAGAZINE_MIN = 4,                 /* ... but no fewer */
};

/* Where the magazine of a cache that has none points: it is empty, and it is full. */
EVH_INTERNAL void *magazine_none[MAGAZINE_SLOTS] __attribute__((aligned(1024)));

/* ---- beginning and ending ---- */

EVH_INTERNAL size_t magazine_bytes(void)
{
    const size_t array = MAGAZINE_SLOTS * sizeof(void *);
    assert(base_is_power_of_two(array));
    return HEAP_CLASS_COUNT * (sizeof(struct magazine) + array) + array;
}

/* `bytes` worth of blocks of the class, but from MAGAZINE_MIN to `most`. */
static uint32_t magazine_worth(uint32_t class_index, uint32_t bytes, uint32_t most)
{
    assert(class_index < HEAP_CLASS_COUNT);
    const uint32_t count = bytes / size_classes[class_index].block_bytes;
    assert(most >= MAGAZINE_MIN);
    return count > most ? most : count < MAGAZINE_MIN ? MAGAZINE_MIN : count;
}

static uint32_t magazine_room(uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    return magazine_worth(class_index, SLICE_BYTES, MAGAZINE_BLOCKS);
}

/* How many blocks are claimed at a time. What is claimed comes before what other threads give back:
 * so, little of what is large. */
static uint32_t magazine_portion(uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    return magazine_worth(class_index, MAGAZINE_PORTION_BYTES, MAGAZINE_PORTION);
}

static uint32_t magazine_packet_max(uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    const uint32_t count = MAGAZINE_KEPT_BYTES / size_classes[class_index].block_bytes;
    if (count < MAGAZINE_BLOCKS) return 0;
    assert(magazine_room(class_index) == MAGAZINE_BLOCKS);
    return (count - MAGAZINE_BLOCKS) / MAGAZINE_PACKED;
}

static void magazine_free_packet(struct cache *cache, struct packet *packet)
{
    assert(packet != NULL);
    assert(packet != cache->free_packets);
    packet->next = cache->free_packets;
    cache->free_packets = packet;
}

EVH_INTERNAL void magazine_begin(struct cache *cache)
{
    assert(cache->heap != NULL);
    for (uint32_t i = 0; i <= HEAP_CLASS_COUNT; i++)
        cache->bins[i].top = magazine_none + MAGAZINE_SLOTS;
    if (!cache->magazines) return;
    const uint64_t array_bytes = MAGAZINE_SLOTS * sizeof(void *);
    uintptr_t end = base_round_up((uintptr_t)(cache->magazines + HEAP_CLASS_COUNT), array_bytes);
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        end += array_bytes;
        void **start = (void **)end - magazine_room(i);
        /* The null before it is there from the beginning: an array is not touched before it is
         * used. */
        assert(start[-1] == NULL);
        cache->magazines[i] =
            (struct magazine){.start = start, .packet_max = magazine_packet_max(i)};
        base_store(&cache->bins[i].top, start, __ATOMIC_RELAXED);
    }
    cache->free_packets = NULL;
    for (struct packets *packets = cache->packets; packets; packets = packets->next)
        for (uint32_t i = 0; i < MAGAZINE_PACKETS; i++)
            magazine_free_packet(cache, &packets->packet[i]);
    assert(end <= (uintptr_t)cache->magazines + magazine_bytes());
}

EVH_INTERNAL void magazine_end(struct cache *cache)
{
    assert(cache != NULL);
    assert(cache->magazines || !cache->packets);
    while (cache->packets) {
        struct packets *next = cache->packets->next;
        os->memory_free(cache->packets);
        cache->packets = next;
    }
}

EVH_INTERNAL uint64_t magazine_count(const struct cache *cache, uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    if (!cache->magazines) return 0;
    const struct magazine *magazine = &cache->magazines[class_index];
    void **const top = base_load(&cache->bins[class_index].top, __ATOMIC_RELAXED);
    const uint64_t packets = base_load(&magazine->packet_count, __ATOMIC_RELAXED);
    assert(top >= magazine->start);
    return (uint64_t)(top - magazine->start) + packets * MAGAZINE_PACKED;
}

/* ---- giving back ---- */

/* Clear the bits of those of `blocks` that are live blocks of the slice, as many in a row as are,
 * and as many as its countdown. Returns how many. */
static uint32_t magazine_clear(struct slice *slice, uintptr_t start, void *const *blocks,
                               uint32_t count)
{
    assert(count > 0);
    assert(slice->bits != NULL);
    const uint64_t size = (uint64_t)size_class_slices(slice->class_index) << SLICE_SHIFT;
    const uint64_t reciprocal = slice->reciprocal;
    uint64_t *word = slice->bits;
    uint64_t live = base_load(word, __ATOMIC_RELAXED);
    uint32_t done = 0;
    for (; done < count; done++) {
        const uint64_t within = (uintptr_t)blocks[done] - start;
        if (within >= size) break;
        bool is_block = false;
        const uint64_t index = size_class_divide(within, reciprocal, &is_block);
        uint64_t *its_word = &slice->bits[index / 64];
        if (UNLIKELY(!is_block)) break;
        if (its_word != word) { /* neighbours are often freed one after the other */
            base_store(word, live, __ATOMIC_RELAXED);
            word = its_word;
            live = base_load(word, __ATOMIC_RELAXED);
        }
        if (UNLIKELY(!fast_clear_bit(&live, index))) break;
    }
    base_store(word, live, __ATOMIC_RELAXED);
    assert(done <= count);
    return done;
}

/* Give back the first block, and those behind it that lie in the same slice; how many. One that is
 * no live block, by the program's mistake, is reported, and counts. */
static uint32_t magazine_give_some(struct cache *cache, void *const *blocks, uint32_t count)
{
    evh_heap *heap = cache->heap;
    struct fast_target target;
    assert(count > 0);
    uint32_t done = 0;
    if (fast_aim(heap, blocks[0], &target) && slice_owner(target.slice) == cache) {
        struct slice *slice = target.slice;
        const uint32_t limit = (uint32_t)base_min(count, slice->countdown);
        const uintptr_t start = (uintptr_t)blocks[0] - target.within;
        if (limit) done = magazine_clear(slice, start, blocks, limit);
        slice->countdown -= done;
        if (done && slice->countdown == 0) owners_settle(cache, slice);
    }
    if (done) return done;
    (void)heap_misuse(heap, EVH_DOUBLE_FREE, blocks[0], "it was freed twice, or is no block");
    return 1;
}

static void magazine_give(struct cache *cache, void *const *blocks, uint32_t count)
{
    assert(cache->heap != NULL);
    assert(count <= MAGAZINE_SLOTS);
    for (uint32_t done = 0; done < count;)
        done += magazine_give_some(cache, blocks + done, count - done);
}

static void magazine_forget(const evh_heap *heap, void *const *blocks, uint64_t count)
{
    assert(count <= MAGAZINE_SLOTS);
    for (uint64_t i = 0; i < count; i++) {
        struct fast_target target;
        if (!fast_aim(heap, blocks[i], &target) || target.slice->kind == HEAP_FREE) continue;
        (void)magazine_clear(target.slice, (uintptr_t)blocks[i] - target.within, &blocks[i], 1);
    }
    assert(heap->has_magazines);
}

EVH_INTERNAL void magazine_forked(struct cache *cache)
{
    assert(cache->heap != NULL);
    if (!cache->magazines) return;
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        const struct magazine *magazine = &cache->magazines[i];
        const struct packet *packet = magazine->packets;
        magazine_forget(cache->heap, magazine->start,
                        (uint64_t)(cache->bins[i].top - magazine->start));
        for (; packet; packet = packet->next)
            magazine_forget(cache->heap, packet->blocks, MAGAZINE_PACKED);
    }
}

EVH_INTERNAL void magazine_give_all(struct cache *cache)
{
    assert(cache->heap != NULL);
    if (!cache->magazines) return;
    assert(cache->heap->has_magazines);
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        struct bin *bin = &cache->bins[i];
        struct magazine *magazine = &cache->magazines[i];
        const uint32_t count = (uint32_t)(bin->top - magazine->start);
        assert(bin->top >= magazine->start);
        base_store(&bin->top, magazine->start, __ATOMIC_RELAXED);
        magazine_give(cache, magazine->start, count);
        while (magazine->packets) {
            struct packet *packet = magazine->packets;
            magazine->packets = packet->next;
            base_store(&magazine->packet_count, magazine->packet_count - 1, __ATOMIC_RELAXED);
            magazine_give(cache, packet->blocks, MAGAZINE_PACKED);
            magazine_free_packet(cache, packet);
        }
        assert(magazine->packet_count == 0);
    }
}

/* ---- packets ---- */

/* NULL: no memory. */
static struct packet *magazine_new_packet(struct cache *cache)
{
    assert(cache->magazines != NULL);
    if (!cache->free_packets) {
        struct packets *packets = os->memory_allocate(sizeof *packets);
        if (!packets) return NULL;
        packets->next = cache->packets;
        /* Seen complete in a forked child, too. */
        base_store(&cache->packets, packets, __ATOMIC_RELEASE);
        for (uint32_t i = MAGAZINE_PACKETS; i > 0; i--)
            magazine_free_packet(cache, &packets->packet[i - 1]);
    }
    struct packet *packet = cache->free_packets;
    cache->free_packets = packet->next;
    assert(packet != cache->free_packets);
    return packet;
}

/* The half of a full magazine that was freed first becomes a packet. False: it has as many as it
 * may, or there is no memory. */
static bool magazine_pack(struct cache *cache, struct magazine *magazine)
{
    assert(fast_is_full(cache->bins[magazine - cache->magazines].top));
    if (magazine->packet_count >= magazine->packet_max) return false;
    assert(magazine->packet_max > 0);
    struct packet *packet = magazine_new_packet(cache);
    if (!packet) return false;
    memcpy(packet->blocks, magazine->start, sizeof packet->blocks);
    packet->next = magazine->packets;
    magazine->packets = packet;
    base_store(&magazine->packet_count, magazine->packet_count + 1, __ATOMIC_RELAXED);
    return true;
}

EVH_INTERNAL void magazine_push(struct cache *cache, uint32_t class_index, void *block)
{
    assert(class_index < HEAP_CLASS_COUNT);
    struct bin *bin = &cache->bins[class_index];
    struct magazine *magazine = &cache->magazines[class_index];
    assert(bin->top >= magazine->start);
    assert(block != NULL);
    if (fast_is_full(bin->top)) {
        if (!magazine_pack(cache, magazine)) {
            magazine_give(cache, &block, 1);
            return;
        }
        void **rest = magazine->start + MAGAZINE_PACKED;
        memmove(magazine->start, rest, (size_t)(bin->top - rest) * sizeof *rest);
        base_store(&bin->top, bin->top - MAGAZINE_PACKED, __ATOMIC_RELAXED);
    }
    void **top = bin->top;
    *top = block;
    base_store(&bin->top, top + 1, __ATOMIC_RELAXED);
}

EVH_INTERNAL bool magazine_unpack(struct cache *cache, uint32_t class_index)
{
    assert(class_index < HEAP_CLASS_COUNT);
    struct bin *bin = &cache->bins[class_index];
    struct magazine *magazine = &cache->magazines[class_index];
    struct packet *packet = magazine->packets;
    assert(bin->top == magazine->start);
    assert(!packet == (magazine->packet_count == 0));
    if (!packet) return false;
    memcpy(magazine->start, packet->blocks, sizeof packet->blocks);
    magazine->packets = packet->next;
    base_store(&magazine->packet_count, magazine->packet_count - 1, __ATOMIC_RELAXED);
    base_store(&bin->top, bin->top + MAGAZINE_PACKED, __ATOMIC_RELAXED);
    magazine_free_packet(cache, packet);
    return true;
}

/* ---- filling ---- */

/* Put the blocks of `bits`, of a word whose first block is `blocks`, at `target`, the lowest
 * last. */
static void magazine_load_bits(void **target, uint64_t bits, uint32_t count, unsigned char *blocks,
                               uint64_t size)
{
    assert(count > 0);
    assert(base_count_bits(bits) == count);
    const uint32_t lowest = base_lowest_bit(bits);
    blocks += lowest * size;
    if (bits >> lowest == UINT64_MAX >> (64 - count)) { /* of a new slice, most of all */
        for (uint32_t i = 0; i < count; i++) target[count - 1 - i] = blocks + i * size;
        return;
    }
    for (bits >>= lowest; count > 0; bits &= bits - 1)
        target[--count] = blocks + base_lowest_bit(bits) * size;
}

/* The lowest `count` of the bits. */
static uint64_t magazine_lowest(uint64_t bits, uint32_t count)
{
    assert(count > 0);
    uint64_t rest = bits;
    assert(base_count_bits(bits) >= count);
    while (count-- > 0) rest &= rest - 1;
    return bits ^ rest;
}

EVH_INTERNAL bool magazine_fill(struct cache *cache, struct bin *bin, struct slice *slice)
{
    assert(slice_owner(slice) == cache);
    assert(slice->floor == 0);
    evh_heap *heap = cache->heap;
    struct magazine *magazine = &cache->magazines[bin - cache->bins];
    assert(bin->top == magazine->start);
    assert(slice->list == SLICE_IN_NONE);
    const uint32_t portion = magazine_portion(slice->class_index);
    assert(portion <= magazine_room(slice->class_index));
    const uint32_t number = (uint32_t)(slice - heap->slices.table);
    unsigned char *start = heap->view.base + ((uint64_t)number << SLICE_SHIFT);
    void *taken[MAGAZINE_BLOCKS];
    void **end = taken + MAGAZINE_BLOCKS; /* what comes first goes on top */
    void **next = end;
    /* A program whose blocks are short-lived goes over the same memory again and again, not over
     * the whole slice. */
    uint32_t word = slice->cursor;
    const uint32_t behind = (uint32_t)base_min(word * 64u, slice->block_count);
    if (slice->countdown + portion / 2 <= behind) word = 0;
    for (; word < slice->word_count && end - next <= portion / 2; word++) {
        const uint64_t live = base_load(&slice->bits[word], __ATOMIC_RELAXED);
        uint64_t bits = ~live & slice_valid_bits(slice, word);
        if (!bits) continue;
        const uint32_t all = base_count_bits(bits);
        const uint32_t count = (uint32_t)base_min(all, portion - (uint32_t)(end - next));
        if (count < all) bits = magazine_lowest(bits, count);
        next -= count;
        magazine_load_bits(next, bits, count, start + word * 64ull * slice->block_bytes,
                           slice->block_bytes);
        base_store(&slice->bits[word], live | bits, __ATOMIC_RELAXED);
        slice->countdown += count;
        if (count < all) break; /* it has more, for the next time */
    }
    slice->cursor = (uint8_t)word;
    const uint32_t count = (uint32_t)(end - next);
    assert(count <= portion);
    if (count == 0) return false;
    memcpy(magazine->start, next, count * sizeof *next);
    bin->slice = number;
    base_store(&bin->top, magazine->start + count, __ATOMIC_RELAXED);
    return true;
}

EVH_INTERNAL bool magazine_refill(struct cache *cache, uint32_t class_index)
{
    assert(cache->magazines != NULL);
    assert(class_index < HEAP_CLASS_COUNT);
    struct bin *bin = &cache->bins[class_index];
    assert(bin->mask == 0);
    assert(bin->hot == NULL);
    if (magazine_unpack(cache, class_index)) return true;
    if (base_load(&cache->pending, __ATOMIC_RELAXED)) remote_drain(cache);
    return bin->slice && magazine_fill(cache, bin, &cache->heap->slices.table[bin->slice]);
}
