/* slices_load.c -- a segment's metadata is validated, and its ephemeral state built from it.
 *
 * One reader serves loading and checking: an audit reads a segment's descriptors (a copy of them:
 * the pages of a revoked view may change at any moment), and finds whatever cannot be. Loading
 * stops at the first finding; checking reports them all and throws the result away. What holds:
 *
 *  1. Every descriptor is of a known kind, and its other bits are those of that kind.
 *  2. Every slice belongs to one run, and every run lies inside the heap: tails follow their heads.
 *     A MEDIUM run lies in one segment.
 *  3. Every bitmap lies in a pool of its segment, overlaps no other, and has no bit beyond its
 *     slice.
 *  4. The directory names each metadata slice and each checksum slice for one segment. They may lie
 *     in another one: before a run of several segments, or where there was room when a live heap
 *     was saved.
 *  5. The journal's slices are marked as such.
 */
#include "heap/heap.h"

#include <stdio.h>

struct audit {
    evh_heap *heap;
    evh_report *report;
    void *context;
    evh_status first; /* EVH_OK: nothing found */
    bool is_over;     /* no more findings are wanted */
    bool is_load;
    bool is_live;         /* of a live heap: orphans are free, checksums are nowhere */
    uint64_t first_slice; /* of the segment */
    uint32_t count;       /* its slices inside the heap */
    uint64_t place;       /* offset of its descriptors in the file */
    struct segment *segment;
    uint64_t descriptors[SEGMENT_SLICES];
};

/* Something cannot be right. */
static void audit_finding(struct audit *audit, uint64_t offset, const char *object,
                          const char *format, ...) __attribute__((format(printf, 4, 5)));

static void audit_finding(struct audit *audit, uint64_t offset, const char *object,
                          const char *format, ...)
{
    assert(object != NULL);
    assert(format != NULL);
    char message[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    const bool more = heap_finding(audit->report, audit->context, &audit->first, offset, object,
                                   "%s: %s: %s", heap_path(audit->heap), object, message);
    if (!more || audit->is_load) audit->is_over = true;
    assert(audit->first != EVH_OK);
}

/* A descriptor is wrong. `index` is the slice's in the segment. */
static void audit_descriptor(struct audit *audit, uint32_t index, const char *why)
{
    assert(why != NULL);
    assert(index < SEGMENT_SLICES);
    audit_finding(audit, audit->place + (uint64_t)index * 8, "descriptor",
                  "slice %llu: 0x%016llx: %s", (unsigned long long)(audit->first_slice + index),
                  (unsigned long long)audit->descriptors[index], why);
}

/* What another function failed with is a finding, too. */
static void audit_last_error(struct audit *audit, const char *object)
{
    assert(object != NULL);
    const evh_error why = *evh_last_error();
    assert(why.status != EVH_OK);
    if (heap_finding(audit->report, audit->context, &audit->first, why.offset, object, "%s",
                     why.message))
        audit->is_over = audit->is_load;
    else
        audit->is_over = true;
    if (audit->is_load) audit->first = why.status;
}

/* The descriptor of any slice of the heap, read where it lies. False: its segment's is damaged. */
static bool audit_peek(struct audit *audit, uint64_t slice, uint64_t *descriptor, uint64_t *place)
{
    assert(descriptor != NULL);
    assert(slice < slices_count(audit->heap->state.heap_bytes));
    const uint64_t *found = slices_find_descriptors(audit->heap, slice / SEGMENT_SLICES);
    if (!found) {
        audit_last_error(audit, "directory");
        return false;
    }
    found += slice % SEGMENT_SLICES;
    *descriptor = base_load(found, __ATOMIC_RELAXED);
    if (place) *place = (uint64_t)((const unsigned char *)found - audit->heap->view.base);
    return true;
}

/* ---- runs ---- */

/* Tails `distance`, `distance` + 1, ... follow at `index`, as far as the run of `count` slices
 * and the segment go. Returns the slice behind them. */
static uint32_t audit_tails(struct audit *audit, uint32_t index, uint64_t distance, uint64_t count)
{
    assert(index <= audit->count);
    assert(distance > 0);
    assert(distance <= count);
    while (index < audit->count && distance < count) {
        if (audit->descriptors[index] != descriptor_of_run(HEAP_TAIL, (uint32_t)distance)) {
            audit_descriptor(audit, index, "it is no tail of the run that it lies in");
            break;
        }
        index++;
        distance++;
    }
    return index;
}

/* How far a run that begins before the segment reaches into it, and the distance of the
 * segment's first slice from its head. 0: none does. */
static uint64_t audit_run_before(struct audit *audit, uint64_t *distance)
{
    assert(distance != NULL);
    uint64_t descriptor = 0, place = 0;
    const uint64_t last = audit->first_slice - 1;
    if (audit->first_slice == 0 || !audit_peek(audit, last, &descriptor, &place)) return 0;
    uint64_t head = last;
    if (descriptor_kind(descriptor) == HEAP_TAIL) {
        const uint64_t back = descriptor_count(descriptor);
        if (back == 0 || back >= last || !audit_peek(audit, last - back, &descriptor, NULL))
            goto bad;
        head = last - back;
        if (descriptor_kind(descriptor) == HEAP_MEDIUM && back < HEAP_MEDIUM_SLICES) return 0;
        if (descriptor_kind(descriptor) != HEAP_LARGE || descriptor_count(descriptor) <= back)
            goto bad;
    }
    if (descriptor_kind(descriptor) != HEAP_LARGE) return 0;
    *distance = audit->first_slice - head;
    const uint64_t run = descriptor_count(descriptor);
    const uint64_t end = slices_count(audit->heap->state.heap_bytes);
    return run > *distance && base_in_range(head, run, end) ? run : 0;

bad:
    if (!audit->is_over && !audit->is_live)
        audit_finding(audit, place, "descriptor", "slice %llu: a tail without its head",
                      (unsigned long long)last);
    return 0;
}

/* A run reaches beyond the segment: the next one must know. */
static void audit_run_behind(struct audit *audit, uint64_t distance)
{
    assert(distance > 0);
    const uint64_t next = audit->first_slice + SEGMENT_SLICES;
    uint64_t descriptor = 0, place = 0;
    assert(next < slices_count(audit->heap->state.heap_bytes));
    if (!audit_peek(audit, next, &descriptor, &place)) return;
    if (descriptor == descriptor_of_run(HEAP_TAIL, (uint32_t)distance)) return;
    audit_finding(audit, place, "descriptor", "slice %llu: 0x%016llx: no tail of its run",
                  (unsigned long long)next, (unsigned long long)descriptor);
}

static uint32_t audit_large(struct audit *audit, uint32_t index)
{
    assert(index < audit->count);
    assert(descriptor_kind(audit->descriptors[index]) == HEAP_LARGE);
    const uint64_t descriptor = audit->descriptors[index];
    const uint64_t run = descriptor_count(descriptor);
    const uint64_t slice = audit->first_slice + index;
    const bool is_typed = descriptor_is_typed(descriptor) && !audit->is_live;
    if (descriptor != descriptor_typed(descriptor_of_run(HEAP_LARGE, (uint32_t)run), is_typed)) {
        audit_descriptor(audit, index, "bits that a run does not have");
        return index + 1;
    }
    if (run == 0 || !base_in_range(slice, run, slices_count(audit->heap->state.heap_bytes))) {
        audit_descriptor(audit, index, "the run is empty, or ends outside the heap");
        return index + 1;
    }
    if (index + run > SEGMENT_SLICES) audit_run_behind(audit, SEGMENT_SLICES - index);
    return audit_tails(audit, index + 1, 1, run);
}

/* ---- slices of blocks ---- */

/* Bits behind the last block of a bitmap are 0. */
static void audit_bits(struct audit *audit, uint32_t index)
{
    assert(index < audit->count);
    assert(audit->segment != NULL);
    const uint64_t descriptor = audit->descriptors[index];
    const struct size_class *class = &size_classes[descriptor_class(descriptor)];
    const uint32_t used_bits = class->block_count % 64u;
    if (used_bits == 0) return;
    const uint64_t *word =
        pool_bits(audit->heap, audit->segment, descriptor_slot(descriptor)) + class->word_count - 1;
    const uint64_t value = base_load(word, __ATOMIC_RELAXED);
    if ((value >> used_bits) == 0) return;
    audit_finding(audit, (uint64_t)((const unsigned char *)word - audit->heap->view.base), "bitmap",
                  "slice %llu: a bit behind its last block is set",
                  (unsigned long long)(audit->first_slice + index));
}

static uint32_t audit_blocks(struct audit *audit, uint32_t index)
{
    assert(index < audit->count);
    assert(audit->segment != NULL);
    const uint64_t descriptor = audit->descriptors[index];
    const uint32_t class_index = descriptor_class(descriptor);
    const uint32_t slot = descriptor_slot(descriptor);
    const bool is_typed = descriptor_is_typed(descriptor) && !audit->is_live;
    if (class_index >= HEAP_CLASS_COUNT ||
        descriptor_typed(descriptor_of_blocks(class_index, slot), is_typed) != descriptor) {
        audit_descriptor(audit, index, "kind, class and attributes do not go together");
        return index + 1;
    }
    if (!pool_claim(audit->segment, slot_relative(slot), slot_unit(slot),
                    size_classes[class_index].slot_words))
        audit_descriptor(audit, index, "its bitmap is outside the pools, or overlaps another");
    else
        audit_bits(audit, index);
    const uint32_t slices = size_class_slices(class_index);
    if (index + slices > audit->count) {
        audit_descriptor(audit, index, "a medium run that ends outside its segment");
        return index + 1;
    }
    return slices == 1 ? index + 1 : audit_tails(audit, index + 1, 1, slices);
}

/* ---- slices of the heap's own ---- */

/* Whether the directory names the slice in the place that its kind asks for: almost always in the
 * entry of the slice's own segment, which is looked at first. */
static bool audit_is_named(struct audit *audit, uint64_t slice, uint32_t kind)
{
    assert(slice > 0);
    assert(kind == HEAP_META || kind == HEAP_CHECKSUM);
    evh_heap *heap = audit->heap;
    const uint64_t segments = slices_segment_count(slices_count(heap->state.heap_bytes));
    const unsigned shift = kind == HEAP_CHECKSUM ? 32 : 0;
    for (uint64_t i = slice / SEGMENT_SLICES, n = 0; n < segments; n++, i = (i + 1) % segments) {
        const uint64_t *entry = slices_directory_entry(heap, i);
        if (entry && (uint32_t)(base_load(entry, __ATOMIC_RELAXED) >> shift) == slice) return true;
    }
    return false;
}

static bool audit_is_directory(struct audit *audit, uint64_t slice)
{
    assert(slice > 0);
    const uint64_t *entries = slices_directory_entry(audit->heap, 0);
    assert(entries != NULL);
    for (uint32_t i = 0; i < HEAP_INDIRECT_ENTRIES; i++)
        if (base_load(&entries[HEAP_DIRECT_SEGMENTS + i], __ATOMIC_RELAXED) == slice) return true;
    return false;
}

/* A slice that is free; in a live heap also one that was left behind by a thread that died. */
static void audit_free(struct audit *audit, uint32_t index)
{
    assert(index < audit->count);
    const uint64_t descriptor = audit->descriptors[index];
    const bool is_orphan = descriptor_kind(descriptor) != HEAP_FREE;
    const uint64_t hole = (uint64_t)HEAP_HOLE << HEAP_ATTRIBUTE_SHIFT;
    assert(!is_orphan || audit->is_live);
    if (!is_orphan && descriptor != HEAP_FREE && descriptor != hole) {
        audit_descriptor(audit, index, "a free slice with bits that it does not have");
        return;
    }
    const uint64_t bit = 1ull << index % 64;
    audit->segment->free[index / 64] |= bit;
    audit->segment->free_count++;
    if (descriptor == hole) audit->segment->holes[index / 64] |= bit;
}

/* Kinds that are nothing but a kind. */
static void audit_plain(struct audit *audit, uint32_t index)
{
    assert(index < audit->count);
    assert(descriptor_kind(audit->descriptors[index]) >= HEAP_BITMAP);
    const uint64_t descriptor = audit->descriptors[index];
    const uint64_t slice = audit->first_slice + index;
    const uint32_t kind = descriptor_kind(descriptor);
    if (descriptor != kind) {
        audit_descriptor(audit, index, "bits that its kind does not have");
        return;
    }
    switch (kind) {
    case HEAP_META:
    case HEAP_CHECKSUM:
        if (audit_is_named(audit, slice, kind)) break;
        if (audit->is_live && kind == HEAP_META)
            audit_free(audit, index);
        else
            audit_descriptor(audit, index, "a metadata slice that the directory does not name");
        break;
    case HEAP_DIRECTORY:
        if (audit_is_directory(audit, slice)) break;
        if (audit->is_live)
            audit_free(audit, index);
        else
            audit_descriptor(audit, index, "a directory slice that the directory does not name");
        break;
    default: /* BITMAP and JOURNAL */ break;
    }
}

/* ---- a segment ---- */

/* One slice, and the tails of its run. Returns the slice behind. */
static uint32_t audit_slice(struct audit *audit, uint32_t index)
{
    assert(index < audit->count);
    assert(!audit->is_over);
    const uint32_t kind = descriptor_kind(audit->descriptors[index]);
    if (kind != HEAP_JOURNAL &&
        region_is_journal(audit->heap->region, audit->first_slice + index, NULL)) {
        audit_descriptor(audit, index, "the journal's, but not marked so");
        return index + 1;
    }
    switch (kind) {
    case HEAP_FREE: audit_free(audit, index); return index + 1;
    case HEAP_SMALL:
    case HEAP_MEDIUM: return audit_blocks(audit, index);
    case HEAP_LARGE: return audit_large(audit, index);
    case HEAP_TAIL:
        if (audit->is_live)
            audit_free(audit, index);
        else
            audit_descriptor(audit, index, "a tail without its head");
        return index + 1;
    case HEAP_BITMAP:
    case HEAP_META:
    case HEAP_DIRECTORY:
    case HEAP_CHECKSUM:
    case HEAP_JOURNAL: audit_plain(audit, index); return index + 1;
    default: audit_descriptor(audit, index, "of no known kind"); return index + 1;
    }
}

/* Whether another segment has one of these slices, too. */
static bool audit_is_shared(struct audit *audit, uint64_t number, uint64_t meta, uint64_t checksum)
{
    assert(meta < UINT32_MAX);
    evh_heap *heap = audit->heap;
    const uint64_t segments = slices_segment_count(slices_count(heap->state.heap_bytes));
    assert(number < segments);
    for (uint64_t i = 0; i < segments; i++) {
        const uint64_t *entry = i == number ? NULL : slices_directory_entry(heap, i);
        if (!entry) continue;
        const uint64_t names[] = {(uint32_t)*entry, *entry >> 32};
        for (unsigned k = 0; k < 2; k++)
            if (names[k] != 0 && (names[k] == meta || names[k] == checksum)) return true;
    }
    return false;
}

/* The directory's entry for the segment: its two slices are what it says, and no other's. Those
 * that lie in the segment itself cannot be another's that does. */
static void audit_entry(struct audit *audit, uint64_t number)
{
    assert(audit->segment != NULL);
    assert(number == audit->segment->number);
    evh_heap *heap = audit->heap;
    const uint64_t *entry = slices_directory_entry(heap, number);
    if (!entry) {
        audit_last_error(audit, "directory");
        return;
    }
    const uint64_t slice_count = slices_count(heap->state.heap_bytes);
    const uint64_t place = (uint64_t)((const unsigned char *)entry - heap->view.base);
    const uint64_t meta = (uint32_t)*entry, checksum = *entry >> 32;
    const bool needs_checksum = number > 0 || slice_count > SLICE_FIRST_CHECKSUM_SLICES;
    const bool is_home =
        meta / SEGMENT_SLICES == number && (checksum == 0 || checksum / SEGMENT_SLICES == number);
    if ((!audit->is_live && needs_checksum != (checksum != 0)) || meta >= slice_count ||
        checksum >= slice_count || meta == checksum ||
        (!is_home && audit_is_shared(audit, number, meta, checksum))) {
        audit_finding(audit, place, "directory", "segment %llu: slices %llu and %llu cannot be",
                      (unsigned long long)number, (unsigned long long)meta,
                      (unsigned long long)checksum);
        return;
    }
    uint64_t descriptor = 0;
    if (audit_peek(audit, meta, &descriptor, NULL) && descriptor != HEAP_META)
        audit_finding(audit, place, "directory", "segment %llu: slice %llu holds no metadata",
                      (unsigned long long)number, (unsigned long long)meta);
    if (checksum && audit_peek(audit, checksum, &descriptor, NULL) && descriptor != HEAP_CHECKSUM)
        audit_finding(audit, place, "directory", "segment %llu: slice %llu holds no checksums",
                      (unsigned long long)number, (unsigned long long)checksum);
}

/* Entries of segments that do not exist are zero. */
static void audit_directory(struct audit *audit)
{
    assert(audit->first_slice == 0);
    assert(!audit->is_over);
    const uint64_t segments = slices_segment_count(slices_count(audit->heap->state.heap_bytes));
    const uint64_t *entries = slices_directory_entry(audit->heap, 0);
    for (uint64_t i = 0; i < HEAP_DIRECT_SEGMENTS + HEAP_INDIRECT_ENTRIES; i++) {
        const uint64_t first =
            i < HEAP_DIRECT_SEGMENTS
                ? i
                : HEAP_DIRECT_SEGMENTS + (i - HEAP_DIRECT_SEGMENTS) * HEAP_INDIRECT_SEGMENTS;
        if (first < segments || entries[i] == 0 || audit->is_over) continue;
        audit_finding(audit,
                      (uint64_t)((const unsigned char *)&entries[i] - audit->heap->view.base),
                      "directory", "entry %llu of a segment that does not exist is not zero",
                      (unsigned long long)i);
    }
}

/* The committed pages of a slice of metadata are what was written. */
static bool audit_verify(struct audit *audit, uint64_t slice)
{
    assert(slice > 0);
    assert(!audit->is_over);
    struct journal *journal = audit->heap->journal;
    if (!audit->is_load || !journal) return true;
    const evh_status status = journal_verify_slice(journal, slice);
    if (!status) return true;
    audit->first = status;
    audit->is_over = true;
    return false;
}

/* The pools come first: slots of any slice may lie in any of them. */
static bool audit_pools(struct audit *audit, uint64_t meta)
{
    assert(meta > 0);
    assert(audit->segment->pools == NULL);
    if (!pool_new(audit->segment, meta, 0, HEAP_POOL_OFFSET / 8)) goto no_memory;
    for (uint32_t i = 1; i < audit->count; i++) {
        if (audit->descriptors[i] != HEAP_BITMAP) continue;
        const uint64_t slice = audit->first_slice + i;
        if (region_is_journal(audit->heap->region, slice, NULL)) continue; /* found below */
        if (!audit_verify(audit, slice)) return false;
        if (!pool_new(audit->segment, slice, i, 0)) goto no_memory;
    }
    return true;

no_memory:
    audit->first = base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to load a segment",
                             heap_path(audit->heap));
    audit->is_over = true;
    return false;
}

static void audit_slices(struct audit *audit)
{
    assert(audit->count <= SEGMENT_SLICES);
    assert(audit->segment->pools != NULL);
    uint64_t distance = 0;
    uint32_t index = 0;
    const uint64_t run = audit_run_before(audit, &distance);
    if (audit->is_over) return;
    if (run) index = audit_tails(audit, 0, distance, run);
    if (run && index == SEGMENT_SLICES && run > distance + SEGMENT_SLICES)
        audit_run_behind(audit, distance + SEGMENT_SLICES);
    while (index < audit->count && !audit->is_over) index = audit_slice(audit, index);
    if (audit->is_live) return; /* a thread that lets it grow writes there before the end moves */
    for (index = audit->count; index < SEGMENT_SLICES && !audit->is_over; index++)
        if (audit->descriptors[index]) audit_descriptor(audit, index, "behind the heap's end");
}

/* Read and validate a segment. Its state so far is in audit->segment, owned by the caller. */
static void audit_segment(struct audit *audit, uint64_t number)
{
    assert(audit->segment == NULL);
    assert(!audit->is_over);
    evh_heap *heap = audit->heap;
    const uint64_t slice_count = slices_count(heap->state.heap_bytes);
    audit->first_slice = number * SEGMENT_SLICES;
    assert(audit->first_slice < slice_count);
    audit->count = (uint32_t)base_min(slice_count - audit->first_slice, SEGMENT_SLICES);
    audit->is_live = heap->live || heap->is_live_copy;

    uint64_t *descriptors = slices_find_descriptors(heap, number);
    if (!descriptors) {
        audit_last_error(audit, "directory");
        return;
    }
    audit->place = (uint64_t)((unsigned char *)descriptors - heap->view.base);
    if (!audit_verify(audit, audit->place >> SLICE_SHIFT)) return;
    for (uint32_t i = 0; i < SEGMENT_SLICES; i++)
        audit->descriptors[i] = base_load(&descriptors[i], __ATOMIC_RELAXED);
    audit->segment = os->memory_allocate(sizeof *audit->segment);
    if (!audit->segment) {
        audit->first =
            base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to load a segment", heap_path(heap));
        audit->is_over = true;
        return;
    }
    audit->segment->number = number;
    audit->segment->descriptors = descriptors;
    audit_entry(audit, number);
    if (audit->is_over || !audit_pools(audit, audit->place >> SLICE_SHIFT)) return;
    audit_slices(audit);
    if (number == 0 && !audit->is_over && !audit->is_live) audit_directory(audit);
}

EVH_INTERNAL bool slices_audit(evh_heap *heap, uint64_t segment, evh_report *report, void *context,
                               evh_status *first)
{
    assert(first != NULL);
    assert(heap->compact == NULL);
    struct audit audit = {.heap = heap, .report = report, .context = context, .first = *first};
    audit_segment(&audit, segment);
    slices_end_segment(audit.segment);
    *first = audit.first;
    return !audit.is_over;
}

EVH_INTERNAL void slices_end_segment(struct segment *segment)
{
    if (!segment) return;
    for (struct pool *pool = segment->pools; pool;) {
        struct pool *next = pool->next;
        assert(next != pool);
        os->memory_free(pool);
        pool = next;
    }
    os->memory_free(segment);
}

/* ---- the ephemeral state ---- */

/* The loop is compiled twice: with the processor's instruction for counting bits, a slice of
 * 64-byte blocks loads in half the time. */
static inline __attribute__((always_inline)) uint32_t load_count_words(const uint64_t *bits,
                                                                       uint32_t word_count)
{
    uint32_t count = 0;
    assert(word_count > 0);
    assert(word_count <= SLICE_MIRROR_WORDS);
    for (uint32_t i = 0; i < word_count; i++)
        count += base_count_bits(base_load(&bits[i], __ATOMIC_RELAXED));
    return count;
}

#if defined(__x86_64__)
__attribute__((target("popcnt"))) static uint32_t load_count_popcnt(const uint64_t *bits,
                                                                    uint32_t word_count)
{
    return load_count_words(bits, word_count);
}
#endif

/* Live blocks of a bitmap whose slot was validated. */
static uint32_t load_count(const uint64_t *bits, uint32_t word_count)
{
    assert(bits != NULL);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("popcnt")) return load_count_popcnt(bits, word_count);
#endif
    return load_count_words(bits, word_count);
}

static void load_blocks(evh_heap *heap, const struct segment *segment, uint64_t number,
                        uint64_t descriptor)
{
    assert(number > 0);
    assert(segment != NULL);
    struct slice *slice = &heap->slices.table[number];
    const uint32_t class_index = descriptor_class(descriptor);
    assert(slice->owner == 0);
    slice_set_class(slice, class_index);
    slice->is_typed = descriptor_is_typed(descriptor);
    slice->bits = pool_bits(heap, segment, descriptor_slot(descriptor));
    uint32_t used = load_count(slice->bits, slice->word_count);
    if (heap->is_live_copy) live_copy_mirrors(heap, number, slice);
    /* A hostile image may change under us: never more than all. */
    if (used > slice->block_count) used = slice->block_count;
    slice_set_used(slice, used);
    if (!heap->is_writable || slice->block_count - used < size_class_dense(class_index)) return;
    uint32_t *list = used ? slices_adoptable(&heap->slices, slice) : &heap->slices.empty;
    slice->list = used ? SLICE_IN_ADOPTABLE : SLICE_IN_EMPTY;
    slice->next = *list;
    slice->previous = 0;
    if (*list) heap->slices.table[*list].previous = (uint32_t)number;
    *list = (uint32_t)number;
}

/* Fill the segment's part of the table. From its end, so that the lists begin with low slices. */
static void load_table(const struct audit *audit)
{
    assert(audit->first == EVH_OK);
    assert(audit->segment != NULL);
    evh_heap *heap = audit->heap;
    for (uint32_t i = audit->count; i-- > 0;) {
        const uint64_t descriptor = audit->descriptors[i];
        const uint32_t kind = descriptor_kind(descriptor);
        struct slice *slice = &heap->slices.table[audit->first_slice + i];
        if (kind == HEAP_FREE) continue;
        if (kind == HEAP_LARGE || kind == HEAP_TAIL) slice->run = descriptor_count(descriptor);
        slice->is_typed = kind == HEAP_LARGE && descriptor_is_typed(descriptor);
        if (kind == HEAP_SMALL || kind == HEAP_MEDIUM)
            load_blocks(heap, audit->segment, audit->first_slice + i, descriptor);
        base_store(&slice->kind, (uint8_t)kind, __ATOMIC_RELAXED);
    }
}

EVH_INTERNAL evh_status slices_load(evh_heap *heap, uint64_t number)
{
    assert(number < slices_segment_count(heap->slices.slice_max));
    struct heap_slices *slices = &heap->slices;
    struct audit audit = {.heap = heap, .is_load = true};
    assert(heap_lock_is_taken(&slices->lock));
    assert(slices->segments[number] == NULL);

    evh_status status = slices_map_tables(heap, slices_count(heap->state.heap_bytes));
    if (status) return status;
    audit_segment(&audit, number);
    const uint64_t mirror_bytes = SEGMENT_SLICES * SLICE_MIRROR_BYTES;
    if (!audit.first) {
        const int error =
            os->map(slices->mirrors + number * mirror_bytes, mirror_bytes, OS_MAP_ANONYMOUS, -1, 0);
        if (error)
            audit.first =
                base_fail_os(error, NO_OFFSET, "%s: no memory to load a segment", heap_path(heap));
    }
    if (audit.first) {
        slices_end_segment(audit.segment);
        return audit.first;
    }
    load_table(&audit);
    if (audit.segment->free_count) slices->free_hint = base_min(slices->free_hint, number);
    base_store(&slices->segments[number], audit.segment, __ATOMIC_RELEASE);
    return EVH_OK;
}

EVH_INTERNAL evh_status slices_need(evh_heap *heap, uint64_t number)
{
    assert(heap->slices.reserved != NULL);
    struct heap_slices *slices = &heap->slices;
    assert(number < slices_segment_count(slices->slice_max));
    if (heap->live) return EVH_OK; /* it reads descriptors where they are, and checks each */
    if (LIKELY(base_load(&slices->segments[number], __ATOMIC_ACQUIRE) != NULL)) return EVH_OK;
    heap_lock_take(&slices->lock);
    const evh_status status = slices->segments[number] ? EVH_OK : slices_load(heap, number);
    heap_lock_drop(&slices->lock);
    return status;
}
