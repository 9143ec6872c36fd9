/* salvage_slices.c -- descriptors and bitmaps that hold together again, and keep what they can.
 *
 * What lies on a good page is believed as far as it does not contradict itself. What lies on a bad
 * one is guessed: the class of a slice from the numbers of types that its blocks end in, or from
 * where references lead into it; a block is live if it ends in the number of a type, or if a
 * reference leads to it. That may bring back blocks that were freed: better than losing one.
 */
#include "autopsy/salvage.h"

enum { MEND_UNKNOWN = 15 }; /* a descriptor that is not believed: no kind */

/* A segment on its way. */
struct mend {
    struct salvage *salvage;
    uint64_t number;
    uint64_t first; /* slice */
    uint32_t count;
    uint64_t meta; /* slice */
    uint64_t *descriptors;
    struct segment *segment; /* owned: which bitmaps' words are taken */
};

static uint64_t mend_slices(const struct salvage *salvage)
{
    assert(salvage->heap_bytes % SLICE_BYTES == 0);
    return salvage->heap_bytes >> SLICE_SHIFT;
}

static unsigned char *mend_slice(const struct salvage *salvage, uint64_t slice)
{
    assert(slice < salvage->bytes_size >> SLICE_SHIFT);
    return salvage->bytes + (slice << SLICE_SHIFT);
}

/* ---- the directory ---- */

static struct heap_directory_entry *mend_entry_place(struct salvage *salvage, uint64_t segment)
{
    struct heap_directory_entry *entries =
        (struct heap_directory_entry *)(void *)(mend_slice(salvage, HEAP_FIRST_META_SLICE) +
                                                HEAP_DIRECTORY_OFFSET);
    if (segment < HEAP_DIRECT_SEGMENTS) return &entries[segment];
    const uint64_t beyond = segment - HEAP_DIRECT_SEGMENTS;
    const uint64_t index = HEAP_DIRECT_SEGMENTS + beyond / HEAP_INDIRECT_SEGMENTS;
    if (index >= HEAP_DIRECT_SEGMENTS + HEAP_INDIRECT_ENTRIES) return NULL;
    const uint64_t slice = entries[index].meta_slice;
    assert(segment >= HEAP_DIRECT_SEGMENTS);
    if (slice == 0 || slice >= mend_slices(salvage)) return NULL;
    return (struct heap_directory_entry *)(void *)mend_slice(salvage, slice) +
           beyond % HEAP_INDIRECT_SEGMENTS;
}

/* Where a segment's metadata would be if nothing stood in the way. */
static struct heap_directory_entry mend_guess_entry(struct salvage *salvage, uint64_t segment)
{
    struct heap_directory_entry entry = {HEAP_FIRST_META_SLICE, 0};
    const uint64_t first = segment * SEGMENT_SLICES;
    assert(first < mend_slices(salvage));
    if (segment > 0) entry.meta_slice = (uint32_t)first;
    const uint64_t *descriptors =
        (const uint64_t *)(const void *)mend_slice(salvage, entry.meta_slice);
    for (uint64_t i = 1; i < SEGMENT_SLICES && first + i < mend_slices(salvage); i++)
        if (descriptors[i] == HEAP_CHECKSUM && !entry.checksum_slice)
            entry.checksum_slice = (uint32_t)(first + i);
    return entry;
}

static bool mend_entry_is_sound(const struct salvage *salvage, uint64_t segment,
                                struct heap_directory_entry entry)
{
    const uint64_t end = mend_slices(salvage);
    assert(end > 0);
    if ((segment == 0) != (entry.meta_slice == HEAP_FIRST_META_SLICE)) return false;
    if (entry.meta_slice == 0 || entry.meta_slice >= end || entry.checksum_slice >= end)
        return false;
    return entry.checksum_slice != entry.meta_slice &&
           entry.checksum_slice != HEAP_FIRST_META_SLICE;
}

EVH_INTERNAL struct heap_directory_entry salvage_entry(struct salvage *salvage, uint64_t segment)
{
    struct heap_directory_entry *place = mend_entry_place(salvage, segment);
    assert(segment <= mend_slices(salvage) / SEGMENT_SLICES);
    if (place && mend_entry_is_sound(salvage, segment, *place)) return *place;
    return mend_guess_entry(salvage, segment);
}

/* ---- what the registry of types tells ---- */

/* Records of types, wherever they lie: the registry itself may be damaged. */
static evh_status mend_find_types(struct salvage *salvage)
{
    enum { NUMBERS = 65536 };
    assert(salvage->type_sizes == NULL);
    salvage->type_sizes = os->memory_allocate(NUMBERS * sizeof *salvage->type_sizes);
    if (!salvage->type_sizes)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory", salvage->path);
    for (uint64_t at = SLICE_BYTES; at + sizeof(struct types_record) <= salvage->heap_bytes;
         at += 16) {
        struct types_record record;
        memcpy(&record, salvage->bytes + at, sizeof record.magic);
        if (record.magic != TYPES_RECORD_MAGIC || !salvage_is_usable(salvage, at, sizeof record))
            continue;
        memcpy(&record, salvage->bytes + at, sizeof record);
        if (record.number == 0 || record.number >= NUMBERS || record.size == 0) continue;
        salvage->type_sizes[record.number] = record.size;
        salvage->type_count = (uint32_t)base_max(salvage->type_count, record.number + 1);
    }
    assert(salvage->type_count <= NUMBERS);
    return EVH_OK;
}

/* Numbers whose record is lost: blocks that are certain say how large such a one is. */
static void mend_learn_types(struct salvage *salvage, uint64_t slice, uint64_t descriptor,
                             const uint64_t *bits)
{
    const struct size_class *class = &size_classes[descriptor_class(descriptor)];
    assert(descriptor_is_typed(descriptor));
    for (uint32_t i = 0; i < class->block_count; i++) {
        const uint64_t block = (slice << SLICE_SHIFT) + (uint64_t)i * class->block_bytes;
        uint32_t number = 0;
        if (!(bits[i / 64] >> i % 64 & 1)) continue;
        if (!salvage_is_usable(salvage, block, class->block_bytes)) continue;
        memcpy(&number, salvage->bytes + block + class->block_bytes - sizeof number, sizeof number);
        if (number == 0 || number > UINT16_MAX || salvage->type_sizes[number]) continue;
        salvage->type_sizes[number] = class->block_bytes - sizeof number;
        salvage->type_count = (uint32_t)base_max(salvage->type_count, number + 1);
    }
}

/* The size of the type whose number ends the block; 0: it ends in none. */
static uint64_t mend_type_size(const struct salvage *salvage, uint64_t block, uint64_t block_bytes)
{
    uint32_t number = 0;
    assert(base_in_range(block, block_bytes, salvage->heap_bytes));
    assert(block_bytes > SLICE_TYPE_BYTES);
    memcpy(&number, salvage->bytes + block + block_bytes - SLICE_TYPE_BYTES, sizeof number);
    return number < salvage->type_count ? salvage->type_sizes[number] : 0;
}

/* A bit for each 16 bytes to which a word on a good page leads, wherever that word is. */
static evh_status mend_find_wanted(struct salvage *salvage)
{
    const uint64_t bits = salvage->heap_bytes / 16;
    assert(salvage->wanted == NULL);
    salvage->wanted = os->memory_allocate(bits / 8 + 8);
    if (!salvage->wanted)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory", salvage->path);
    for (uint64_t page = SLICE_PAGES; page < salvage->page_count; page++) {
        if (salvage->pages[page] == SALVAGE_BAD) continue;
        const uint64_t *words =
            (const uint64_t *)(const void *)(salvage->bytes + (page << PAGE_SHIFT));
        for (unsigned i = 0; i < JOURNAL_PAGE_WORDS; i++)
            if (words[i] % 16 == 0 && words[i] / 16 < bits)
                salvage->wanted[words[i] / 1024] |= 1ull << words[i] / 16 % 64;
    }
    assert(bits > 0);
    /* Only the header leads to the catalog. */
    if (salvage->catalog % 16 == 0 && salvage->catalog < salvage->heap_bytes)
        salvage->wanted[salvage->catalog / 1024] |= 1ull << salvage->catalog / 16 % 64;
    return EVH_OK;
}

static bool mend_is_wanted(const struct salvage *salvage, uint64_t offset)
{
    assert(offset % 16 == 0);
    assert(offset < salvage->heap_bytes);
    return salvage->wanted[offset / 1024] >> offset / 16 % 64 & 1;
}

/* ---- bitmaps ---- */

static uint64_t *mend_bits(const struct mend *mend, uint32_t slot)
{
    const uint64_t slice = slot_relative(slot) ? mend->first + slot_relative(slot) : mend->meta;
    assert(slice < mend_slices(mend->salvage));
    return (uint64_t *)(void *)mend_slice(mend->salvage, slice) + slot_unit(slot);
}

/* A free slot for a bitmap, zeroed; POOL_NONE: there is no room. */
static uint32_t mend_take_slot(const struct mend *mend, uint32_t words)
{
    const uint32_t step = words < SLICE_LINE_UNITS ? words : SLICE_LINE_UNITS;
    assert(words > 0);
    for (uint32_t relative = 0; relative < mend->count; relative++) {
        if (relative && mend->descriptors[relative] != HEAP_BITMAP) continue;
        for (uint32_t unit = 0; unit + words <= SLICE_BYTES / 8; unit += step) {
            if (!pool_claim(mend->segment, relative, unit, words)) continue;
            const uint32_t slot = relative << 13 | unit;
            memset(mend_bits(mend, slot), 0, words * sizeof(uint64_t));
            return slot;
        }
    }
    assert(mend->segment->pools != NULL);
    return POOL_NONE;
}

/* Whether a block whose bit is damaged is to be kept. */
static bool mend_is_alive(const struct salvage *salvage, uint64_t block, uint64_t block_bytes,
                          bool is_typed)
{
    assert(block_bytes >= 16);
    if (!salvage_is_usable(salvage, block, block_bytes)) return false;
    if (!is_typed) return mend_is_wanted(salvage, block);
    const uint64_t size = mend_type_size(salvage, block, block_bytes);
    return size > 0 && (size + SLICE_TYPE_BYTES <= block_bytes || mend_is_wanted(salvage, block));
}

/* Set the bits of a word that lies on a bad page, or is new, from what the blocks look like. */
static void mend_guess_word(const struct mend *mend, uint64_t slice, uint64_t descriptor,
                            uint32_t word)
{
    struct salvage *salvage = mend->salvage;
    const struct size_class *class = &size_classes[descriptor_class(descriptor)];
    uint64_t *bits = mend_bits(mend, descriptor_slot(descriptor)) + word;
    assert(word < class->word_count);
    *bits = 0;
    for (uint32_t i = word * 64; i < class->block_count && i < word * 64 + 64; i++) {
        const uint64_t block = (slice << SLICE_SHIFT) + (uint64_t)i * class->block_bytes;
        if (!mend_is_alive(salvage, block, class->block_bytes, descriptor_is_typed(descriptor)))
            continue;
        *bits |= 1ull << i % 64;
        salvage->result.guessed_blocks++;
    }
}

/* ---- descriptors on bad pages ---- */

/* How much of a slice the blocks of a class would hold that end in a type of just that class. */
static uint64_t mend_vote(const struct salvage *salvage, uint64_t slice, uint32_t class_index)
{
    const struct size_class *class = &size_classes[class_index];
    uint64_t votes = 0;
    assert(class_index < HEAP_CLASS_COUNT);
    for (uint32_t i = 0; i < class->block_count; i++) {
        const uint64_t block = (slice << SLICE_SHIFT) + (uint64_t)i * class->block_bytes;
        if (!base_in_range(block, class->block_bytes, salvage->heap_bytes)) break;
        const uint64_t size = mend_type_size(salvage, block, class->block_bytes) + SLICE_TYPE_BYTES;
        if (size > SLICE_TYPE_BYTES && size <= HEAP_MEDIUM_MAX &&
            size_class_of(size) == class_index)
            votes++;
    }
    return votes * class->block_bytes;
}

/* The class of typed blocks that most of the slice looks like; HEAP_CLASS_COUNT: none. */
static uint32_t mend_vote_class(const struct salvage *salvage, uint64_t slice, uint64_t slices)
{
    uint32_t best = HEAP_CLASS_COUNT;
    uint64_t best_bytes = 0;
    assert(slices > 0);
    for (uint32_t i = 0; i < HEAP_CLASS_COUNT; i++) {
        if (size_class_slices(i) > slices) continue;
        const uint64_t bytes = mend_vote(salvage, slice, i);
        if (bytes <= best_bytes) continue;
        best = i;
        best_bytes = bytes;
    }
    return best;
}

/* The largest class whose blocks begin wherever references lead into the slice. */
static uint32_t mend_wanted_class(const struct salvage *salvage, uint64_t slice)
{
    uint64_t common = 0;
    bool is_any = false;
    assert(slice > 0);
    for (uint64_t at = 0; at < SLICE_BYTES; at += 16) {
        if (!mend_is_wanted(salvage, (slice << SLICE_SHIFT) + at)) continue;
        is_any = true;
        for (uint64_t rest = at; rest;) { /* the greatest common divisor */
            const uint64_t next = common % rest;
            common = rest;
            rest = next;
        }
    }
    if (!is_any) return HEAP_CLASS_COUNT;
    for (uint32_t i = HEAP_CLASS_COUNT; i-- > 0;)
        if (!size_class_is_medium(i) && common % size_classes[i].block_bytes == 0) return i;
    return 0;
}

/* A slice of blocks that nobody describes: describe it. Returns the slices it takes. */
static uint32_t mend_guess_slice(struct mend *mend, uint32_t index, uint32_t end)
{
    struct salvage *salvage = mend->salvage;
    const uint64_t slice = mend->first + index;
    uint32_t class_index = mend_vote_class(salvage, slice, end - index);
    const bool is_typed = class_index < HEAP_CLASS_COUNT;
    assert(index < end);
    mend->descriptors[index] = HEAP_FREE;
    if (!is_typed) class_index = mend_wanted_class(salvage, slice);
    if (class_index == HEAP_CLASS_COUNT) return 1;
    const uint32_t slot = mend_take_slot(mend, size_classes[class_index].slot_words);
    if (slot == POOL_NONE) {
        salvage_note(salvage, EVH_SALVAGE_LOST, slice << SLICE_SHIFT, SLICE_BYTES,
                     "slice %llu: no room for a new bitmap", (unsigned long long)slice);
        return 1;
    }
    const uint64_t descriptor = descriptor_typed(descriptor_of_blocks(class_index, slot), is_typed);
    mend->descriptors[index] = descriptor;
    for (uint32_t word = 0; word < size_classes[class_index].word_count; word++)
        mend_guess_word(mend, slice, descriptor, word);
    const uint32_t slices = size_class_slices(class_index);
    for (uint32_t i = 1; i < slices; i++)
        mend->descriptors[index + i] = descriptor_of_run(HEAP_TAIL, i);
    salvage_note(salvage, EVH_SALVAGE_GUESSED, slice << SLICE_SHIFT, slices * SLICE_BYTES,
                 "slice %llu: its descriptor is damaged; it looks like %s of %u bytes",
                 (unsigned long long)slice, is_typed ? "typed blocks" : "blocks",
                 size_classes[class_index].block_bytes);
    return slices;
}

/* ---- a segment ---- */

static bool mend_is_journal(const struct salvage *salvage, uint64_t slice)
{
    assert(slice < mend_slices(salvage));
    if (slice == 0) return true;
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent extent = salvage->header.extents[i];
        if (slice >= extent.first_slice && slice - extent.first_slice < extent.slice_count)
            return true;
    }
    return false;
}

/* What a slice must be for its place: 0, nothing in particular. */
static uint64_t mend_fixed_kind(struct salvage *salvage, uint64_t slice)
{
    const uint64_t segments = (mend_slices(salvage) + SEGMENT_SLICES - 1) / SEGMENT_SLICES;
    if (mend_is_journal(salvage, slice)) return HEAP_JOURNAL;
    for (uint64_t i = 0; i < segments; i++) {
        const struct heap_directory_entry entry = salvage_entry(salvage, i);
        if (entry.meta_slice == slice) return HEAP_META;
        if (entry.checksum_slice == slice) return HEAP_CHECKSUM;
    }
    const struct heap_directory_entry *indirect =
        (const struct heap_directory_entry *)(void *)(mend_slice(salvage, HEAP_FIRST_META_SLICE) +
                                                      HEAP_DIRECTORY_OFFSET);
    assert(segments > 0);
    for (uint64_t i = HEAP_DIRECT_SEGMENTS; i < HEAP_DIRECT_SEGMENTS + HEAP_INDIRECT_ENTRIES; i++)
        if (indirect[i].meta_slice == slice && slice) return HEAP_DIRECTORY;
    return 0;
}

/* Whether a descriptor of blocks holds together, and its bitmap is nobody else's. */
static bool mend_claim_blocks(const struct mend *mend, uint32_t index)
{
    const uint64_t descriptor = mend->descriptors[index];
    const uint32_t class_index = descriptor_class(descriptor);
    const uint32_t slot = descriptor_slot(descriptor);
    assert(index < mend->count);
    if (class_index >= HEAP_CLASS_COUNT ||
        descriptor != descriptor_typed(descriptor_of_blocks(class_index, slot),
                                       descriptor_is_typed(descriptor)) ||
        index + size_class_slices(class_index) > mend->count)
        return false;
    return pool_claim(mend->segment, slot_relative(slot), slot_unit(slot),
                      size_classes[class_index].slot_words);
}

/* A run of large slices, its tails written anew. Returns the slices inside the segment. */
static uint32_t mend_large(struct mend *mend, uint32_t index)
{
    const uint64_t descriptor = mend->descriptors[index];
    const uint64_t run = descriptor_count(descriptor);
    assert(index < mend->count);
    if (run == 0 || !base_in_range(mend->first + index, run, mend_slices(mend->salvage)) ||
        descriptor != descriptor_typed(descriptor_of_run(HEAP_LARGE, (uint32_t)run),
                                       descriptor_is_typed(descriptor))) {
        mend->descriptors[index] = HEAP_FREE;
        return 1;
    }
    for (uint64_t i = 1; i < run && index + i < mend->count; i++)
        mend->descriptors[index + i] = descriptor_of_run(HEAP_TAIL, (uint32_t)i);
    return (uint32_t)base_min(run, mend->count - index);
}

/* How many slices of this segment belong to a run that began before it. */
static uint32_t mend_run_before(struct mend *mend)
{
    struct salvage *salvage = mend->salvage;
    if (mend->number == 0) return 0;
    for (uint64_t back = 1; back <= mend->first; back++) {
        const uint64_t slice = mend->first - back;
        const struct heap_directory_entry entry = salvage_entry(salvage, slice / SEGMENT_SLICES);
        const uint64_t descriptor = ((const uint64_t *)(const void *)mend_slice(
            salvage, entry.meta_slice))[slice % SEGMENT_SLICES];
        if (descriptor_kind(descriptor) == HEAP_TAIL) {
            const uint64_t distance = descriptor_count(descriptor);
            if (distance == 0 || distance > slice) return 0;
            back += distance - 1;
            continue;
        }
        if (descriptor_kind(descriptor) != HEAP_LARGE || descriptor_count(descriptor) <= back)
            return 0;
        const uint64_t rest = descriptor_count(descriptor) - back;
        for (uint64_t i = 0; i < rest && i < mend->count; i++)
            mend->descriptors[i] = descriptor_of_run(HEAP_TAIL, (uint32_t)(back + i));
        return (uint32_t)base_min(rest, mend->count);
    }
    return 0;
}

static bool mend_is_on_bad_page(const struct mend *mend, const void *place)
{
    const uint64_t offset = (uint64_t)((const unsigned char *)place - mend->salvage->bytes);
    assert(offset >> PAGE_SHIFT < mend->salvage->page_count);
    return mend->salvage->pages[offset >> PAGE_SHIFT] == SALVAGE_BAD;
}

/* The words of a bitmap: those on bad pages are guessed, no bit is behind the last block. */
static void mend_bitmap(const struct mend *mend, uint32_t index)
{
    const uint64_t descriptor = mend->descriptors[index];
    const struct size_class *class = &size_classes[descriptor_class(descriptor)];
    uint64_t *bits = mend_bits(mend, descriptor_slot(descriptor));
    assert(class->word_count > 0);
    for (uint32_t word = 0; word < class->word_count; word++)
        if (mend_is_on_bad_page(mend, &bits[word]))
            mend_guess_word(mend, mend->first + index, descriptor, word);
    if (class->block_count % 64u)
        bits[class->word_count - 1] &= (1ull << class->block_count % 64u) - 1;
}

static bool mend_bits_are_good(const struct mend *mend, uint32_t index)
{
    const uint64_t descriptor = mend->descriptors[index];
    const uint64_t *bits = mend_bits(mend, descriptor_slot(descriptor));
    const uint32_t words = size_classes[descriptor_class(descriptor)].word_count;
    assert(words > 0);
    return !mend_is_on_bad_page(mend, bits) && !mend_is_on_bad_page(mend, bits + words - 1);
}

/* Slices whose descriptors are believed; the others are unknown. Pools are there. */
static void mend_believed(struct mend *mend)
{
    uint32_t index = mend_run_before(mend);
    assert(mend->segment != NULL);
    while (index < mend->count) {
        uint64_t *descriptor = &mend->descriptors[index];
        const uint64_t fixed = mend_fixed_kind(mend->salvage, mend->first + index);
        const uint32_t kind = descriptor_kind(*descriptor);
        if (fixed) {
            *descriptor = fixed;
        } else if (mend_is_on_bad_page(mend, descriptor)) {
            *descriptor = MEND_UNKNOWN;
        } else if (kind == HEAP_LARGE) {
            index += mend_large(mend, index);
            continue;
        } else if (kind == HEAP_SMALL || kind == HEAP_MEDIUM) {
            if (mend_claim_blocks(mend, index)) {
                const uint32_t slices = size_class_slices(descriptor_class(*descriptor));
                if (descriptor_is_typed(*descriptor) && mend_bits_are_good(mend, index))
                    mend_learn_types(mend->salvage, mend->first + index, *descriptor,
                                     mend_bits(mend, descriptor_slot(*descriptor)));
                for (uint32_t i = 1; i < slices; i++)
                    mend->descriptors[index + i] = descriptor_of_run(HEAP_TAIL, i);
                index += slices;
                continue;
            }
            *descriptor = MEND_UNKNOWN;
        } else if (*descriptor != HEAP_BITMAP) {
            *descriptor = kind == HEAP_FREE || kind == HEAP_JOURNAL ? HEAP_FREE : MEND_UNKNOWN;
        }
        index++;
    }
}

/* What is not believed is guessed, once all that can be learned was. */
static void mend_guessed(struct mend *mend)
{
    assert(mend->segment != NULL);
    for (uint32_t index = 0; index < mend->count; index++) {
        const uint32_t kind = descriptor_kind(mend->descriptors[index]);
        if (kind == HEAP_SMALL || kind == HEAP_MEDIUM) mend_bitmap(mend, index);
    }
    for (uint32_t index = 0; index < mend->count; index++) {
        if (mend->descriptors[index] != MEND_UNKNOWN) continue;
        uint32_t end = index;
        while (end < mend->count && mend->descriptors[end] == MEND_UNKNOWN) end++;
        while (index < end) index += mend_guess_slice(mend, index, end);
        index--;
    }
}

/* ---- blocks on bad pages ---- */

/* A block of more than a page keeps what is good of it; a smaller one goes. False: it is lost. */
static bool mend_block(struct salvage *salvage, uint64_t offset, uint64_t size, bool is_large)
{
    if (salvage_is_usable(salvage, offset, size)) return true;
    assert(size > 0);
    if (size <= PAGE_BYTES && !is_large) {
        salvage->result.lost_blocks++;
        salvage->result.lost_bytes += size;
        salvage_note(salvage, EVH_SALVAGE_LOST, offset, size, "a block on a damaged page");
        return false;
    }
    uint64_t lost = 0;
    for (uint64_t at = offset; at < offset + size;) {
        const uint64_t next = base_min(base_round_down(at, PAGE_BYTES) + PAGE_BYTES, offset + size);
        if (salvage->pages[at >> PAGE_SHIFT] == SALVAGE_BAD) {
            memset(salvage->bytes + at, 0, next - at);
            lost += next - at;
        }
        at = next;
    }
    salvage->result.cut_blocks++;
    salvage->result.lost_bytes += lost;
    salvage_note(salvage, EVH_SALVAGE_LOST, offset, lost,
                 "a block of %llu bytes: what lay on damaged pages is zero now",
                 (unsigned long long)size);
    return true;
}

static void mend_blocks(const struct mend *mend, uint32_t index)
{
    struct salvage *salvage = mend->salvage;
    const uint64_t descriptor = mend->descriptors[index];
    const uint64_t start = (mend->first + index) << SLICE_SHIFT;
    if (descriptor_kind(descriptor) == HEAP_LARGE)
        (void)mend_block(salvage, start, (uint64_t)descriptor_count(descriptor) << SLICE_SHIFT,
                         true);
    if (descriptor_kind(descriptor) != HEAP_SMALL && descriptor_kind(descriptor) != HEAP_MEDIUM)
        return;
    const struct size_class *class = &size_classes[descriptor_class(descriptor)];
    uint64_t *bits = mend_bits(mend, descriptor_slot(descriptor));
    assert(class->block_count > 0);
    for (uint32_t i = 0; i < class->block_count; i++) {
        if (!(bits[i / 64] >> i % 64 & 1)) continue;
        if (!mend_block(salvage, start + (uint64_t)i * class->block_bytes, class->block_bytes,
                        false))
            bits[i / 64] &= ~(1ull << i % 64);
    }
}

static evh_status mend_pools(struct mend *mend)
{
    assert(mend->segment == NULL);
    mend->segment = os->memory_allocate(sizeof *mend->segment);
    bool is_made = mend->segment && pool_new(mend->segment, mend->meta, 0, HEAP_POOL_OFFSET / 8);
    for (uint32_t i = 1; i < mend->count && is_made; i++)
        if (mend->descriptors[i] == HEAP_BITMAP &&
            !mend_is_on_bad_page(mend, &mend->descriptors[i]) &&
            !mend_fixed_kind(mend->salvage, mend->first + i))
            is_made = pool_new(mend->segment, mend->first + i, i, 0) != NULL;
    if (is_made) return EVH_OK;
    return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to mend it", mend->salvage->path);
}

static evh_status mend_segment(struct salvage *salvage, uint64_t number)
{
    const struct heap_directory_entry entry = salvage_entry(salvage, number);
    struct heap_directory_entry *place = mend_entry_place(salvage, number);
    struct mend mend = {.salvage = salvage,
                        .number = number,
                        .first = number * SEGMENT_SLICES,
                        .meta = entry.meta_slice};
    mend.count = (uint32_t)base_min(mend_slices(salvage) - mend.first, SEGMENT_SLICES);
    mend.descriptors = (uint64_t *)(void *)mend_slice(salvage, mend.meta);
    assert(mend.count > 0);
    if (place &&
        (place->meta_slice != entry.meta_slice || place->checksum_slice != entry.checksum_slice)) {
        salvage_note(salvage, EVH_SALVAGE_GUESSED, NO_OFFSET, 0,
                     "segment %llu: where its metadata is, is damaged: taken to be in slice %llu",
                     (unsigned long long)number, (unsigned long long)entry.meta_slice);
        *place = entry;
    }
    const evh_status status = mend_pools(&mend);
    if (!status) {
        mend_believed(&mend);
        mend_guessed(&mend);
        for (uint32_t i = mend.count; i < SEGMENT_SLICES; i++) mend.descriptors[i] = HEAP_FREE;
        for (uint32_t i = 0; i < mend.count; i++) mend_blocks(&mend, i);
    }
    slices_end_segment(mend.segment);
    return status;
}

/* Entries of segments that do not exist are zero. */
static void mend_directory(struct salvage *salvage, uint64_t segments)
{
    assert(segments > 0);
    struct heap_directory_entry *entries =
        (struct heap_directory_entry *)(void *)(mend_slice(salvage, HEAP_FIRST_META_SLICE) +
                                                HEAP_DIRECTORY_OFFSET);
    for (uint64_t i = segments; i < HEAP_DIRECT_SEGMENTS; i++)
        entries[i] = (struct heap_directory_entry){0, 0};
    for (uint64_t i = 0; i < HEAP_INDIRECT_ENTRIES; i++)
        if (HEAP_DIRECT_SEGMENTS + i * HEAP_INDIRECT_SEGMENTS >= segments)
            entries[HEAP_DIRECT_SEGMENTS + i] = (struct heap_directory_entry){0, 0};
    assert(entries[0].meta_slice == HEAP_FIRST_META_SLICE || segments > 0);
}

EVH_INTERNAL evh_status salvage_slices(struct salvage *salvage)
{
    const uint64_t segments = (mend_slices(salvage) + SEGMENT_SLICES - 1) / SEGMENT_SLICES;
    assert(segments > 0);
    evh_status status = mend_find_types(salvage);
    if (!status) status = mend_find_wanted(salvage);
    if (!status) mend_directory(salvage, segments);
    for (uint64_t i = 0; i < segments && !status; i++) status = mend_segment(salvage, i);
    return status;
}
