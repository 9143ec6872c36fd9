/* compact.c -- heaps in buffers that are too small or not aligned for slices.
 *
 * Two bitmaps over granules of 16 bytes are all there is: `used` says which granules belong to a
 * block, `start` where blocks begin. Free areas merge by nature. Placement is first fit in order of
 * address: low addresses fill first, so the end of the buffer stays in one piece, and where a block
 * goes depends on the image alone. Costs: an allocation looks at one word of bitmap per 1 KiB it
 * passes over, and begins behind what `hints` exclude; a free looks at one per 1 KiB of the block.
 *
 * Requests are sorted into classes by their count of granules: 1 to 16, then two per power of two.
 * Without hints[], a hole of one granule near the start would make each larger request look at all
 * that lies between (measured: 100,000 blocks behind one hole took 20 times as long).
 *
 * Invariants
 *  1. start is a subset of used; the first granule of every maximal run of used ones is a start.
 *  2. Bits at and behind granule_count are 0 in both.
 *  3. No free run that is as long as the shortest request of class c begins in a word of the
 *     bitmap below hints[c]; and hints[c] <= hints[c + 1].
 *
 * All of it runs under one lock, also check and info. Walking takes it for each step, so that the
 * callback may free. Only the report of a check that found something runs without it.
 */
#include "heap/compact_layout.h"
#include "heap/heap.h"
#include "heap/lock.h"

enum {
    COMPACT_EXACT = 16,      /* counts up to here have a class of their own */
    COMPACT_EXACT_SHIFT = 4, /* its logarithm */
    COMPACT_HINT_SHIFT = 16, /* runs of 2^16 granules, 1 MiB, and more share the last class */
    COMPACT_CLASSES = COMPACT_EXACT + 2 * (COMPACT_HINT_SHIFT - COMPACT_EXACT_SHIFT) + 1,
    COMPACT_LOOK = 64, /* how far a free looks for the ends of the run that it makes */
};

struct compact {
    struct compact_header *header; /* borrowed: the image */
    uint64_t *used;
    uint64_t *start;
    unsigned char *granules;
    uint64_t granule_count;
    struct heap_lock lock;
    uint64_t hints[COMPACT_CLASSES]; /* numbers of words */
};

/* ---- bitmaps: words at a time ---- */

/* The bits of word `index` that lie at or behind bit `from`. */
static uint64_t compact_mask_from(uint64_t from, uint64_t index)
{
    assert(from < (index + 1) * 64);
    assert(index < UINT64_MAX / 64);
    return from > index * 64 ? UINT64_MAX << (from % 64) : UINT64_MAX;
}

/* The first bit of [from, limit) that is set, or `limit`. */
static uint64_t compact_next_set(const uint64_t *bits, uint64_t from, uint64_t limit)
{
    assert(bits != NULL);
    if (from >= limit) return limit;
    for (uint64_t index = from / 64; index * 64 < limit; index++) {
        const uint64_t word = bits[index] & compact_mask_from(from, index);
        if (word) return base_min(index * 64 + base_lowest_bit(word), limit);
    }
    return limit;
}

/* The first bit of [from, limit) that is clear, or `limit`. */
static uint64_t compact_next_clear(const uint64_t *bits, uint64_t from, uint64_t limit)
{
    assert(bits != NULL);
    if (from >= limit) return limit;
    for (uint64_t index = from / 64; index * 64 < limit; index++) {
        const uint64_t word = ~bits[index] & compact_mask_from(from, index);
        if (word) return base_min(index * 64 + base_lowest_bit(word), limit);
    }
    return limit;
}

/* Set or clear the bits [first, end). */
static void compact_fill(uint64_t *bits, uint64_t first, uint64_t end, bool value)
{
    assert(bits != NULL);
    assert(first <= end);
    for (uint64_t index = first / 64; index * 64 < end; index++) {
        uint64_t mask = compact_mask_from(first, index);
        if (end < (index + 1) * 64) mask &= ~(UINT64_MAX << (end % 64));
        bits[index] = value ? bits[index] | mask : bits[index] & ~mask;
    }
}

static bool compact_bit(const uint64_t *bits, uint64_t index)
{
    assert(bits != NULL);
    return bits[index / 64] >> (index % 64) & 1;
}

/* The granule behind the block that begins at `first`: the next start, or the first unused one. */
static uint64_t compact_block_end(const struct compact *compact, uint64_t first)
{
    assert(first < compact->granule_count);
    assert(compact_bit(compact->used, first));
    assert(compact_bit(compact->start, first));
    const uint64_t limit = compact->granule_count;
    if (first + 1 >= limit) return limit;
    for (uint64_t index = (first + 1) / 64; index * 64 < limit; index++) {
        const uint64_t ends = compact->start[index] | ~compact->used[index];
        const uint64_t word = ends & compact_mask_from(first + 1, index);
        if (word) return base_min(index * 64 + base_lowest_bit(word), limit);
    }
    return limit;
}

/* How many granules before `first` are free, COMPACT_LOOK at most. */
static uint64_t compact_free_before(const struct compact *compact, uint64_t first)
{
    assert(first <= compact->granule_count);
    uint64_t count = 0;
    while (count < first && count < COMPACT_LOOK) {
        const uint64_t last = first - count - 1;
        const uint64_t word = compact->used[last / 64] << (63 - last % 64);
        const uint64_t free_bits = word ? (uint64_t)__builtin_clzll(word) : last % 64 + 1;
        count += free_bits;
        if (free_bits <= last % 64) break; /* it ended inside the word */
    }
    return base_min(count, COMPACT_LOOK);
}

/* ---- classes of requests ---- */

/* The class of a request for `count` granules: the largest one whose shortest request fits. Without
 * branches: what a free joins is of any length. */
static inline uint32_t compact_class_of(uint64_t count)
{
    assert(count > 0);
    const uint64_t longest = 3ull << (COMPACT_HINT_SHIFT - 1);
    const uint64_t rounded = base_min(base_max(count, COMPACT_EXACT), longest);
    const uint32_t shift = 63 - (uint32_t)__builtin_clzll(rounded);
    const uint32_t half = (uint32_t)(rounded >> (shift - 1)) & 1;
    const uint32_t inexact = COMPACT_EXACT - 1 + 2 * (shift - COMPACT_EXACT_SHIFT) + half;
    assert(inexact < COMPACT_CLASSES);
    return count <= COMPACT_EXACT ? (uint32_t)count - 1 : inexact;
}

/* The shortest request of a class. */
static inline uint64_t compact_class_minimum(uint32_t class_index)
{
    assert(class_index < COMPACT_CLASSES);
    if (class_index < COMPACT_EXACT) return class_index + 1;
    const uint32_t step = class_index - (COMPACT_EXACT - 1);
    return (2ull + (step & 1)) << (step / 2 + COMPACT_EXACT_SHIFT - 1);
}

/* No run of the class begins below `word`. */
static inline void compact_raise_hints(struct compact *compact, uint32_t class_index, uint64_t word)
{
    assert(class_index < COMPACT_CLASSES);
    assert(word <= compact->granule_count / 64 + 1);
    for (uint32_t i = class_index; i < COMPACT_CLASSES && compact->hints[i] < word; i++)
        compact->hints[i] = word;
}

/* A run of the class begins in `word`. */
static inline void compact_lower_hints(struct compact *compact, uint32_t class_index, uint64_t word)
{
    assert(class_index < COMPACT_CLASSES);
    assert(word <= compact->granule_count / 64);
    for (uint32_t i = class_index + 1; i > 0 && compact->hints[i - 1] > word; i--)
        compact->hints[i - 1] = word;
}

/*
 * [first, end) became free: keep invariant 3 for the run that it is part of. If what was free
 * before it is too long to look for its start, a hint of that run's class tells where it begins, or
 * something lower; if the whole is long, its class may be any.
 */
static void compact_freed(struct compact *compact, uint64_t first, uint64_t end)
{
    assert(first < end);
    assert(end <= compact->granule_count);
    const uint64_t lowest = compact->hints[compact_class_of(COMPACT_LOOK)];
    if (compact->hints[COMPACT_CLASSES - 1] == lowest && (lowest + 1) * 64 <= first) return;
    const uint64_t before = compact_free_before(compact, first);
    const uint64_t look_end = base_min(end + COMPACT_LOOK, compact->granule_count);
    const uint64_t behind = compact_next_set(compact->used, end, look_end) - end;
    uint64_t word = (first - before) / 64;
    uint32_t class_index = compact_class_of(before + (end - first) + behind);
    if (before == COMPACT_LOOK)
        word = base_min(compact->hints[compact_class_of(COMPACT_LOOK)], word);
    if (before == COMPACT_LOOK || behind == COMPACT_LOOK) class_index = COMPACT_CLASSES - 1;
    compact_lower_hints(compact, class_index, word);
}

/* ---- geometry ---- */

/* How many granules fit into an image: 64 of them need two words of bitmap. */
static uint64_t compact_granules_of(uint64_t size_bytes)
{
    assert(size_bytes >= COMPACT_HEADER_BYTES);
    const uint64_t unit = 64 * COMPACT_GRANULE_BYTES + 2 * sizeof(uint64_t);
    const uint64_t space = size_bytes - COMPACT_HEADER_BYTES;
    const uint64_t rest = space % unit;
    const uint64_t words = 2 * sizeof(uint64_t);
    const uint64_t more = rest > words ? (rest - words) / COMPACT_GRANULE_BYTES : 0;
    return space / unit * 64 + more;
}

static uint64_t compact_words_of(uint64_t granule_count)
{
    assert(granule_count <= COMPACT_SIZE_MAX >> COMPACT_GRANULE_SHIFT);
    return (granule_count + 63) / 64;
}

static uint64_t compact_offset_of(const struct compact *compact, uint64_t granule)
{
    assert(granule <= compact->granule_count);
    assert(compact->granules > (unsigned char *)compact->header);
    const uint64_t first = (uint64_t)(compact->granules - (unsigned char *)compact->header);
    return first + (granule << COMPACT_GRANULE_SHIFT);
}

/* Which granule begins at `pointer`; false if it is none. */
static inline bool compact_granule_at(const struct compact *compact, const void *pointer,
                                      uint64_t *granule)
{
    assert(compact != NULL);
    assert(granule != NULL);
    const uint64_t distance = (uint64_t)((uintptr_t)pointer - (uintptr_t)compact->granules);
    *granule = distance >> COMPACT_GRANULE_SHIFT;
    return distance % COMPACT_GRANULE_BYTES == 0 && *granule < compact->granule_count;
}

/* Set up the ephemeral state over a formatted image. */
static evh_status compact_attach(evh_heap *heap, void *image)
{
    assert((uintptr_t)image % COMPACT_GRANULE_BYTES == 0);
    assert(heap->compact == NULL);
    struct compact *compact = os->memory_allocate(sizeof *compact);
    if (!compact) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "memory: no memory to open the heap");
    compact->header = image;
    compact->granule_count = compact->header->granule_count;
    const uint64_t words = compact_words_of(compact->granule_count);
    unsigned char *bitmaps = (unsigned char *)image + COMPACT_HEADER_BYTES;
    compact->used = (uint64_t *)(void *)bitmaps;
    compact->start = compact->used + words;
    compact->granules = (unsigned char *)(compact->start + words);
    heap->compact = compact;
    heap->view.base = image;
    heap->view.end_bytes = compact->header->size_bytes;
    heap->state.heap_bytes = compact->header->size_bytes;
    heap->state.catalog = compact->header->catalog;
    return EVH_OK;
}

/* ---- opening ---- */

bool compact_is_image(const void *buffer, uint64_t size)
{
    assert(buffer != NULL);
    uint64_t magic;
    if (size < COMPACT_HEADER_BYTES) return false;
    memcpy(&magic, buffer, sizeof magic);
    return magic == COMPACT_MAGIC || magic == __builtin_bswap64(COMPACT_MAGIC);
}

evh_status compact_create(evh_heap *heap, void *buffer, uint64_t size)
{
    assert(buffer != NULL);
    assert((uintptr_t)buffer % COMPACT_GRANULE_BYTES == 0);
    if (size < COMPACT_SIZE_MIN)
        return base_fail(EVH_INVALID, NO_OFFSET, "memory: %llu bytes: a heap needs at least 1024",
                         (unsigned long long)size);
    if (size > COMPACT_SIZE_MAX)
        return base_fail(EVH_LIMIT, NO_OFFSET, "memory: %llu bytes: larger than any heap",
                         (unsigned long long)size);
    struct compact_header header = {
        .magic = COMPACT_MAGIC,
        .format_version = COMPACT_FORMAT_VERSION,
        .byte_order = COMPACT_BYTE_ORDER,
        .size_bytes = base_round_down(size, COMPACT_GRANULE_BYTES),
    };
    header.granule_count = compact_granules_of(header.size_bytes);
    header.crc = base_crc32c(0, &header, offsetof(struct compact_header, crc));
    const uint64_t bitmap_bytes = compact_words_of(header.granule_count) * 2 * sizeof(uint64_t);
    memset((unsigned char *)buffer + COMPACT_HEADER_BYTES, 0, bitmap_bytes);
    memcpy(buffer, &header, sizeof header);
    return compact_attach(heap, buffer);
}

/* Everything in the header that can be wrong by itself. */
static evh_status compact_check_header(const struct compact_header *header, uint64_t size)
{
    assert(header != NULL);
    assert(size >= sizeof *header);
    if (header->magic == __builtin_bswap64(COMPACT_MAGIC) ||
        header->byte_order == __builtin_bswap32(COMPACT_BYTE_ORDER))
        return base_fail(EVH_BYTE_ORDER, offsetof(struct compact_header, byte_order),
                         "memory: the image was made on a machine of the other byte order");
    if (header->magic != COMPACT_MAGIC)
        return base_fail(EVH_NOT_HEAP, 0, "memory: the buffer holds no heap");
    if (header->crc != base_crc32c(0, header, offsetof(struct compact_header, crc)))
        return base_fail(EVH_CORRUPT, offsetof(struct compact_header, crc),
                         "memory: the header's checksum is wrong");
    if (header->format_version != COMPACT_FORMAT_VERSION)
        return base_fail(EVH_VERSION, offsetof(struct compact_header, format_version),
                         "memory: the image has format version %u, this library knows %d",
                         (unsigned)header->format_version, COMPACT_FORMAT_VERSION);
    if (header->byte_order != COMPACT_BYTE_ORDER ||
        !heap_is_zero(header->reserved0, sizeof header->reserved0) ||
        !heap_is_zero(header->reserved1, sizeof header->reserved1))
        return base_fail(EVH_CORRUPT, 0, "memory: the header has a field that cannot be right");
    if (header->size_bytes < COMPACT_SIZE_MIN || header->size_bytes > COMPACT_SIZE_MAX ||
        header->size_bytes % COMPACT_GRANULE_BYTES ||
        header->granule_count != compact_granules_of(header->size_bytes))
        return base_fail(EVH_CORRUPT, offsetof(struct compact_header, size_bytes),
                         "memory: the header's sizes cannot be right");
    if (header->size_bytes > size)
        return base_fail(EVH_TRUNCATED, size, "memory: the image has %llu bytes, %llu are here",
                         (unsigned long long)header->size_bytes, (unsigned long long)size);
    return EVH_OK;
}

evh_status compact_open(evh_heap *heap, void *buffer, uint64_t size)
{
    assert(buffer != NULL);
    assert(size >= COMPACT_HEADER_BYTES);
    struct compact_header header;
    memcpy(&header, buffer, sizeof header);
    evh_status status = compact_check_header(&header, size);
    if (!status) status = compact_attach(heap, buffer);
    if (!status) status = compact_check(heap, NULL, NULL);
    if (status) compact_close(heap);
    return status;
}

void compact_forked(evh_heap *heap)
{
    assert(heap->compact != NULL);
    assert(heap->mode == EVH_MEMORY || heap->memory);
    heap->compact->lock.state = HEAP_LOCK_OPEN;
}

void compact_close(evh_heap *heap)
{
    assert(heap != NULL);
    os->memory_free(heap->compact);
    heap->compact = NULL;
    assert(!heap->compact);
}

/* ---- allocation: the lock is held ---- */

/* The first granule of [first, ...) at an address that is a multiple of `alignment`. */
static uint64_t compact_align(const struct compact *compact, uint64_t first, uint64_t alignment)
{
    assert(base_is_power_of_two(alignment));
    assert(first <= compact->granule_count);
    assert(alignment >= COMPACT_GRANULE_BYTES);
    const uintptr_t address = (uintptr_t)compact->granules + (first << COMPACT_GRANULE_SHIFT);
    const uint64_t skip = (0 - (uint64_t)address) & (alignment - 1);
    return first + (skip >> COMPACT_GRANULE_SHIFT);
}

/* Find `count` free granules, the lowest; false if there are none. */
static bool compact_find(struct compact *compact, uint64_t count, uint64_t alignment,
                         uint64_t *found)
{
    assert(found != NULL);
    assert(base_is_power_of_two(alignment));
    assert(count > 0);
    const uint64_t limit = compact->granule_count;
    const uint32_t class_index = compact_class_of(count);
    const uint64_t minimum = compact_class_minimum(class_index);
    uint64_t hint = limit; /* where the first run of the class begins */
    uint64_t free_first =
        compact_next_clear(compact->used, compact->hints[class_index] * 64, limit);
    while (free_first < limit && count <= limit - free_first) {
        const uint64_t first = compact_align(compact, free_first, alignment);
        /* Looking no further than what is needed keeps a search in one large run short. */
        const uint64_t need = base_min(first + count, limit);
        const uint64_t free_end = compact_next_set(compact->used, free_first, need);
        if (free_end - free_first >= minimum) hint = base_min(hint, free_first);
        if (free_end == first + count) {
            *found = first;
            /* Nothing of the class is left below what is about to be taken, or in front of it. */
            compact_raise_hints(compact, class_index, (hint == first ? free_end : hint) / 64);
            return true;
        }
        free_first = compact_next_clear(compact->used, free_end, limit);
    }
    compact_raise_hints(compact, class_index, base_min(hint, free_first) / 64);
    return false;
}

static void compact_take(struct compact *compact, uint64_t first, uint64_t count)
{
    assert(!compact_bit(compact->used, first));
    assert(count <= compact->granule_count - first);
    compact_fill(compact->used, first, first + count, true);
    compact_fill(compact->start, first, first + 1, true);
}

/* The free granules of word `index` of the bitmap. */
static inline uint64_t compact_free_word(const struct compact *compact, uint64_t index)
{
    assert(compact != NULL);
    const uint64_t first = index * 64;
    if (first >= compact->granule_count) return 0;
    const uint64_t left = compact->granule_count - first;
    return ~compact->used[index] & (left < 64 ? ~(UINT64_MAX << left) : UINT64_MAX);
}

/* Those of the positions at which a run of `length` bits begins where one of `wanted` does. */
static inline unsigned __int128 compact_longer(unsigned __int128 runs, uint64_t length,
                                               uint64_t wanted)
{
    assert(length > 0);
    assert(wanted <= 64);
    while (length < wanted) {
        const uint64_t step = base_min(length, wanted - length);
        runs &= runs >> step;
        length += step;
    }
    return runs;
}

/* The common case of compact_take_short(): the run lies in the word that its hint names. */
static inline bool compact_take_quickly(struct compact *compact, uint64_t count, uint64_t *found)
{
    assert(count > 0);
    assert(found != NULL);
    if (count > COMPACT_EXACT) return false;
    const uint64_t index = compact->hints[count - 1];
    if (index * 64 >= compact->granule_count) return false;
    uint64_t fits = ~compact->used[index]; /* bits at which a run of `length` free ones begins */
    for (uint64_t length = 1; length < count;) {
        const uint64_t step = base_min(length, count - length);
        fits &= fits >> step;
        length += step;
    }
    if (!fits) return false;
    const uint64_t shift = base_lowest_bit(fits);
    if (index * 64 + shift + count > compact->granule_count) return false;
    compact->used[index] |= UINT64_MAX >> (64 - count) << shift;
    compact->start[index] |= 1ull << shift;
    *found = index * 64 + shift;
    return true;
}

/* As compact_find() and compact_take() for up to 64 granules that need no more alignment, without
 * a step for each run: all runs that begin in a word are looked at together. */
static bool compact_take_short(struct compact *compact, uint64_t count, uint64_t *found)
{
    assert(count > 0);
    assert(count <= 64);
    assert(found != NULL);
    if (compact_take_quickly(compact, count, found)) return true;
    const uint32_t class_index = compact_class_of(count);
    const uint64_t minimum = compact_class_minimum(class_index);
    const uint64_t words = compact_words_of(compact->granule_count);
    uint64_t hint = words; /* the first word in which a run of the class begins */
    uint64_t word = compact_free_word(compact, compact->hints[class_index]);
    for (uint64_t index = compact->hints[class_index]; index < words; index++) {
        const uint64_t next = compact_free_word(compact, index + 1);
        unsigned __int128 runs = (unsigned __int128)next << 64 | word;
        runs = compact_longer(runs, 1, minimum);
        if ((uint64_t)runs) hint = base_min(hint, index);
        if ((uint64_t)runs) runs = compact_longer(runs, minimum, count);
        word = next;
        if (!(uint64_t)runs) continue;
        *found = index * 64 + base_lowest_bit((uint64_t)runs);
        compact_raise_hints(compact, class_index, hint);
        compact_take(compact, *found, count);
        return true;
    }
    compact_raise_hints(compact, class_index, hint);
    return false;
}

static void compact_give(struct compact *compact, uint64_t first, uint64_t end)
{
    assert(compact_bit(compact->used, first));
    assert(end <= compact->granule_count);
    compact_fill(compact->start, first, first + 1, false);
    compact_fill(compact->used, first, end, false);
    compact_freed(compact, first, end);
}

/* 64 bits of a bitmap, from bit `shift` of `word` on; `next` is the word behind it. */
static inline uint64_t compact_window(uint64_t word, uint64_t next, uint64_t shift)
{
    assert(shift < 64);
    return word >> shift | next << 1 << (63 - shift);
}

/*
 * The common case of compact_give(): a block of fewer than 64 granules. False if it is longer, and
 * nothing was done. `first` is the start of a block. All of it is in windows of 64 bits, wherever
 * words begin: with a branch for each word that a block or a run might reach into, a free in any
 * order waited a quarter of its time for wrong predictions.
 */
static inline bool compact_give_quickly(struct compact *compact, uint64_t first)
{
    assert(first < compact->granule_count);
    assert(compact_bit(compact->start, first));
    const uint64_t index = first / 64;
    const uint64_t shift = first % 64;
    const bool is_last = index + 1 >= compact_words_of(compact->granule_count);
    uint64_t *const used = compact->used + index;
    const uint64_t next = is_last ? UINT64_MAX : used[1];
    const uint64_t next_end = is_last ? UINT64_MAX : compact->start[index + 1] | ~next;
    const uint64_t ends = compact_window(compact->start[index] | ~*used, next_end, shift) >> 1;
    if (UNLIKELY(ends == 0)) return false;
    const uint64_t length = base_lowest_bit(ends) + 1;
    const uint64_t block = UINT64_MAX >> (64 - length);
    const uint64_t behind = compact_window(*used, next, shift) & ~block;
    const uint64_t before = compact_window(index == 0 ? UINT64_MAX : used[-1], *used, shift);
    const uint64_t high = block >> 1 >> (63 - shift); /* of the block in the next word */
    *used &= ~(block << shift);
    if (high) used[1] &= ~high;
    compact->start[index] &= ~(1ull << shift);
    if (LIKELY(before != 0 && behind != 0)) {
        const uint64_t free_before = 63 - base_highest_bit(before);
        const uint64_t free_count = free_before + base_lowest_bit(behind);
        compact_lower_hints(compact, compact_class_of(free_count), (first - free_before) / 64);
    } else {
        compact_freed(compact, first, first + length);
    }
    return true;
}

/* Check the request and turn it into granules. */
static evh_status compact_request(const struct compact *compact, uint64_t size, uint64_t alignment,
                                  uint64_t *count)
{
    assert(compact != NULL);
    assert(count != NULL);
    if (size == 0) return base_fail(EVH_INVALID, NO_OFFSET, "memory: a block of 0 bytes");
    if (!base_is_power_of_two(alignment))
        return base_fail(EVH_INVALID, NO_OFFSET, "memory: alignment %llu is no power of two",
                         (unsigned long long)alignment);
    if (alignment > COMPACT_ALIGNMENT_MAX)
        return base_fail(EVH_INVALID, NO_OFFSET,
                         "memory: alignment %llu: a heap in a small buffer aligns to %d at most",
                         (unsigned long long)alignment, COMPACT_ALIGNMENT_MAX);
    if (size > compact->granule_count << COMPACT_GRANULE_SHIFT) {
        const evh_status status = size > COMPACT_SIZE_MAX ? EVH_LIMIT : EVH_FULL;
        return base_fail(status, NO_OFFSET, "memory: %llu bytes are more than the buffer holds",
                         (unsigned long long)size);
    }
    *count = (size + COMPACT_GRANULE_BYTES - 1) >> COMPACT_GRANULE_SHIFT;
    return EVH_OK;
}

static void *compact_allocate_locked(struct compact *compact, uint64_t size, uint64_t alignment)
{
    assert(compact != NULL);
    assert(compact->granule_count > 0);
    uint64_t count = 0;
    uint64_t first = 0;
    if (compact_request(compact, size, alignment, &count)) return NULL;
    alignment = base_max(alignment, COMPACT_GRANULE_BYTES);
    const bool is_short = alignment == COMPACT_GRANULE_BYTES && count <= 64;
    if (is_short && compact_take_short(compact, count, &first))
        return compact->granules + (first << COMPACT_GRANULE_SHIFT);
    if (is_short || !compact_find(compact, count, alignment, &first)) {
        (void)base_fail(EVH_FULL, NO_OFFSET, "memory: full: no %llu bytes in one piece",
                        (unsigned long long)size);
        return NULL;
    }
    compact_take(compact, first, count);
    return compact->granules + (first << COMPACT_GRANULE_SHIFT);
}

void *compact_allocate(evh_heap *heap, uint64_t size, uint64_t alignment)
{
    assert(heap->compact != NULL);
    heap_lock_take(&heap->compact->lock);
    void *block = compact_allocate_locked(heap->compact, size, alignment);
    heap_lock_drop(&heap->compact->lock);
    assert(!block || (uintptr_t)block % base_max(alignment, COMPACT_GRANULE_BYTES) == 0);
    return block;
}

/* The live block at `pointer`. Else: free memory at a granule is a double free as far as anybody
 * can know, everything else is no block. */
static inline evh_status compact_block_of(const struct compact *compact, const void *pointer,
                                          uint64_t *first)
{
    assert(compact != NULL);
    assert(first != NULL);
    if (!compact_granule_at(compact, pointer, first)) return EVH_BAD_POINTER;
    if (compact_bit(compact->start, *first)) return EVH_OK;
    return compact_bit(compact->used, *first) ? EVH_BAD_POINTER : EVH_DOUBLE_FREE;
}

evh_status compact_free(evh_heap *heap, void *block)
{
    assert(block != NULL);
    assert(heap->compact != NULL);
    struct compact *compact = heap->compact;
    uint64_t first = 0;
    heap_lock_take(&heap->compact->lock);
    const evh_status status = compact_block_of(compact, block, &first);
    if (!status && !compact_give_quickly(compact, first))
        compact_give(compact, first, compact_block_end(compact, first));
    heap_lock_drop(&heap->compact->lock);
    if (!status) return EVH_OK;
    return heap_misuse(heap, status, block,
                       status == EVH_DOUBLE_FREE ? "it is free already"
                                                 : "no block of this heap begins there");
}

/* Resize the block at granule `first`, in place if the granules behind it are free, else
 * by moving. */
static void *compact_resize_locked(struct compact *compact, uint64_t first, uint64_t size)
{
    assert(first < compact->granule_count);
    assert(compact_bit(compact->start, first));
    uint64_t count = 0;
    if (compact_request(compact, size, COMPACT_GRANULE_BYTES, &count)) return NULL;
    unsigned char *block = compact->granules + (first << COMPACT_GRANULE_SHIFT);
    const uint64_t old_end = compact_block_end(compact, first);
    const uint64_t new_end = first + count;
    if (new_end < old_end) {
        compact_fill(compact->used, new_end, old_end, false);
        compact_freed(compact, new_end, old_end);
        return block;
    }
    if (new_end <= compact->granule_count &&
        compact_next_set(compact->used, old_end, new_end) == new_end) {
        compact_fill(compact->used, old_end, new_end, true);
        return block;
    }
    unsigned char *moved = compact_allocate_locked(compact, size, COMPACT_GRANULE_BYTES);
    if (!moved) return NULL;
    memcpy(moved, block, (old_end - first) << COMPACT_GRANULE_SHIFT);
    compact_give(compact, first, old_end);
    return moved;
}

void *compact_resize(evh_heap *heap, void *block, uint64_t size)
{
    assert(heap->compact != NULL);
    if (!block) return compact_allocate(heap, size, COMPACT_GRANULE_BYTES);
    uint64_t first = 0;
    void *resized = NULL;
    heap_lock_take(&heap->compact->lock);
    const evh_status status = compact_block_of(heap->compact, block, &first);
    if (!status) resized = compact_resize_locked(heap->compact, first, size);
    heap_lock_drop(&heap->compact->lock);
    if (status)
        (void)heap_misuse(heap, status, block,
                          status == EVH_DOUBLE_FREE ? "it is free"
                                                    : "no block of this heap begins there");
    assert(!resized || (uintptr_t)resized % COMPACT_GRANULE_BYTES == 0);
    return resized;
}

/* ---- questions ---- */

uint64_t compact_usable_size(evh_heap *heap, const void *block)
{
    assert(heap->compact != NULL);
    struct compact *compact = heap->compact;
    uint64_t first = 0;
    uint64_t size = 0;
    heap_lock_take(&heap->compact->lock);
    if (!compact_block_of(compact, block, &first))
        size = (compact_block_end(compact, first) - first) << COMPACT_GRANULE_SHIFT;
    heap_lock_drop(&heap->compact->lock);
    return size;
}

bool compact_block_at(evh_heap *heap, uint64_t offset, uint64_t *size)
{
    assert(size != NULL);
    *size = 0;
    if (offset >= heap->view.end_bytes) return false;
    *size = compact_usable_size(heap, heap->view.base + offset);
    return *size > 0;
}

uint64_t compact_catalog(evh_heap *heap)
{
    assert(heap->compact->header->size_bytes == heap->view.end_bytes);
    assert(heap->compact != NULL);
    return heap->compact->header->catalog;
}

void compact_set_catalog(evh_heap *heap, uint64_t catalog)
{
    assert(heap->compact != NULL);
    assert(catalog < heap->view.end_bytes);
    heap->compact->header->catalog = catalog;
}

const void *compact_image(evh_heap *heap, uint64_t *size)
{
    assert(size != NULL);
    assert(heap->compact != NULL);
    *size = heap->compact->header->size_bytes;
    return heap->compact->header;
}

evh_status compact_walk(evh_heap *heap, evh_visit *visit, void *context)
{
    assert(heap->compact != NULL);
    assert(visit != NULL);
    struct compact *compact = heap->compact;
    const uint64_t limit = compact->granule_count;
    uint64_t end = 0;
    for (uint64_t from = 0; from < limit; from = end) {
        heap_lock_take(&compact->lock);
        const uint64_t first = compact_next_set(compact->start, from, limit);
        if (first < limit) end = compact_block_end(compact, first);
        heap_lock_drop(&compact->lock);
        if (first == limit) break;
        const evh_block block = {
            .address = compact->granules + (first << COMPACT_GRANULE_SHIFT),
            .ref = {compact_offset_of(compact, first)},
            .size = (end - first) << COMPACT_GRANULE_SHIFT,
        };
        if (!visit(&block, context)) break;
    }
    return EVH_OK;
}

/* Invariants 1 and 2 for one word; what is wrong with it, or NULL. `carry` is the last bit of the
 * word before. */
static const char *compact_check_word(const struct compact *compact, uint64_t index, uint64_t carry)
{
    assert(index < compact_words_of(compact->granule_count));
    assert(carry <= 1);
    const uint64_t used = compact->used[index];
    const uint64_t start = compact->start[index];
    const uint64_t end = (index + 1) * 64;
    if (end > compact->granule_count) {
        const uint64_t beyond = UINT64_MAX << (compact->granule_count % 64);
        if ((used | start) & beyond) return "a bit behind the last granule";
    }
    if (start & ~used) return "a block that begins in a free granule";
    if (used & ~(used << 1 | carry) & ~start) return "a used granule without a block";
    return NULL;
}

static evh_status compact_check_all(evh_heap *heap, evh_report *report, void *context)
{
    assert(heap->view.base == (unsigned char *)heap->compact->header);
    assert(heap->compact != NULL);
    const struct compact *compact = heap->compact;
    evh_status first = EVH_OK;
    uint64_t carry = 0;
    const evh_status header_status = compact_check_header(compact->header, heap_end_bytes(heap));
    if (header_status) { /* what follows would be measured by it */
        const evh_error why = *evh_last_error();
        (void)heap_finding(report, context, &first, why.offset, "header", "%s", why.message);
        return header_status;
    }
    for (uint64_t index = 0; index < compact_words_of(compact->granule_count); index++) {
        const char *wrong = compact_check_word(compact, index, carry);
        carry = compact->used[index] >> 63;
        const uint64_t offset = COMPACT_HEADER_BYTES + index * sizeof(uint64_t);
        if (wrong && !heap_finding(report, context, &first, offset, "bitmap",
                                   "memory: the bitmaps have %s in word %llu", wrong,
                                   (unsigned long long)index))
            return first;
    }
    const struct compact_header *header = compact->header;
    if (header->catalog) {
        uint64_t granule = 0;
        const bool is_inside = header->catalog < header->size_bytes;
        const void *block = is_inside ? (const unsigned char *)header + header->catalog : NULL;
        if (!is_inside || compact_block_of(compact, block, &granule))
            (void)heap_finding(report, context, &first, offsetof(struct compact_header, catalog),
                               "header", "memory: the catalog's ref names no block");
    }
    return first;
}

evh_status compact_check(evh_heap *heap, evh_report *report, void *context)
{
    assert(heap->compact != NULL);
    assert(heap->view.base != NULL);
    heap_lock_take(&heap->compact->lock);
    const evh_status status = compact_check_all(heap, NULL, NULL);
    heap_lock_drop(&heap->compact->lock);
    return status && report ? compact_check_all(heap, report, context) : status;
}

evh_status compact_info(evh_heap *heap, evh_info *info)
{
    assert(heap->compact != NULL);
    assert(info != NULL);
    struct compact *compact = heap->compact;
    heap_lock_take(&compact->lock);
    const uint64_t limit = compact->granule_count;
    uint64_t used = 0;
    for (uint64_t index = 0; index < compact_words_of(limit); index++) {
        info->live_blocks += base_count_bits(compact->start[index]);
        used += base_count_bits(compact->used[index]);
    }
    for (uint64_t free_first = compact_next_clear(compact->used, 0, limit); free_first < limit;) {
        const uint64_t free_end = compact_next_set(compact->used, free_first, limit);
        const uint64_t bytes = (free_end - free_first) << COMPACT_GRANULE_SHIFT;
        info->largest_free_bytes = base_max(info->largest_free_bytes, bytes);
        info->free_runs++;
        free_first = compact_next_clear(compact->used, free_end, limit);
    }
    heap_lock_drop(&compact->lock);
    info->live_bytes = used << COMPACT_GRANULE_SHIFT;
    info->free_bytes = (limit - used) << COMPACT_GRANULE_SHIFT;
    info->metadata_bytes = compact_offset_of(compact, 0);
    assert(info->live_bytes + info->free_bytes + info->metadata_bytes <= info->heap_bytes ||
           info->heap_bytes == 0);
    return EVH_OK;
}
