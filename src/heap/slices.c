/* slices.c -- the allocator's tables, the segment directory, and their life from open to close.
 *
 * The tables are arrays over slice numbers in one reservation of addresses, as large as the heap
 * may become. The slices' lines are mapped up to the heap's end, so that evh_free() needs one
 * bound; the mirrors are mapped segment by segment as these are loaded. Untouched memory costs
 * nothing:
 *
 *     table      64 bytes per slice      mapped up to the heap's end
 *     remotes    64 bytes per slice      mapped up to the heap's end
 *     mirrors    512 bytes per slice     mapped where segments are loaded
 *     segments   8 bytes per segment     mapped
 */
#include "heap/heap.h"

/* ---- descriptors and the directory ---- */

EVH_INTERNAL uint64_t *slices_descriptor(evh_heap *heap, uint64_t slice)
{
    assert(slice < heap->slices.slice_max);
    const struct segment *segment = heap->slices.segments[slice / SEGMENT_SLICES];
    assert(segment != NULL);
    assert(segment->number == slice / SEGMENT_SLICES);
    return &segment->descriptors[slice % SEGMENT_SLICES];
}

EVH_INTERNAL void slices_set_descriptor(evh_heap *heap, uint64_t slice, uint64_t descriptor)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(slice < slices_count(heap->state.heap_bytes));
    base_store(slices_descriptor(heap, slice), descriptor, __ATOMIC_RELEASE);
    base_store(&heap->slices.table[slice].kind, (uint8_t)descriptor_kind(descriptor),
               __ATOMIC_RELEASE);
}

/* Whether a slice that the image names can be read: inside the heap, and the heap's own. */
static bool slices_is_readable(const evh_heap *heap, uint64_t slice)
{
    assert(heap->region != NULL);
    const uint64_t end_bytes = base_load(&heap->view.end_bytes, __ATOMIC_RELAXED);
    if (slice == 0 || slice >= slices_count(end_bytes)) return false;
    return !region_is_journal(heap->region, slice, NULL);
}

static uint64_t *slices_directory(const evh_heap *heap)
{
    assert(heap->view.base != NULL);
    assert(heap->compact == NULL);
    return (uint64_t *)(void *)(heap->view.base + (HEAP_FIRST_META_SLICE << SLICE_SHIFT) +
                                HEAP_DIRECTORY_OFFSET);
}

EVH_INTERNAL uint64_t *slices_directory_entry(evh_heap *heap, uint64_t segment)
{
    assert(heap->compact == NULL);
    assert(heap->view.base != NULL);
    uint64_t *directory = slices_directory(heap);
    if (segment < HEAP_DIRECT_SEGMENTS) return &directory[segment];

    const uint64_t beyond = segment - HEAP_DIRECT_SEGMENTS;
    if (beyond / HEAP_INDIRECT_SEGMENTS >= HEAP_INDIRECT_ENTRIES) {
        (void)base_fail(EVH_LIMIT, NO_OFFSET, "%s: the format has no segment %llu", heap_path(heap),
                        (unsigned long long)segment);
        return NULL;
    }
    uint64_t *indirect = &directory[HEAP_DIRECT_SEGMENTS + beyond / HEAP_INDIRECT_SEGMENTS];
    const uint64_t entry = base_load(indirect, __ATOMIC_ACQUIRE);
    if (!slices_is_readable(heap, entry)) { /* the upper half is zero, too */
        (void)base_fail(EVH_CORRUPT, (uint64_t)((unsigned char *)indirect - heap->view.base),
                        "%s: directory: an entry names slice %llu, which is no part of the heap",
                        heap_path(heap), (unsigned long long)entry);
        return NULL;
    }
    uint64_t *entries = (uint64_t *)(void *)(heap->view.base + (entry << SLICE_SHIFT));
    return &entries[beyond % HEAP_INDIRECT_SEGMENTS];
}

EVH_INTERNAL uint64_t *slices_find_descriptors(evh_heap *heap, uint64_t segment)
{
    assert(heap->compact == NULL);
    uint64_t *entry = slices_directory_entry(heap, segment);
    if (!entry) return NULL;
    const uint64_t meta = (uint32_t)base_load(entry, __ATOMIC_ACQUIRE);
    if (!slices_is_readable(heap, meta) || (segment == 0) != (meta == HEAP_FIRST_META_SLICE)) {
        (void)base_fail(
            EVH_CORRUPT, (uint64_t)((unsigned char *)entry - heap->view.base),
            "%s: directory: segment %llu has its metadata in slice %llu, which cannot be",
            heap_path(heap), (unsigned long long)segment, (unsigned long long)meta);
        return NULL;
    }
    static_assert(HEAP_DESCRIPTORS_OFFSET == 0, "the descriptors begin the metadata slice");
    return (uint64_t *)(void *)(heap->view.base + (meta << SLICE_SHIFT));
}

EVH_INTERNAL uint64_t slices_descriptor_offset(evh_heap *heap, uint64_t slice)
{
    assert(heap->compact == NULL);
    if (slice >= slices_count(heap->state.heap_bytes)) return 0;
    const uint64_t *descriptors = slices_find_descriptors(heap, slice / SEGMENT_SLICES);
    if (!descriptors) return 0;
    const unsigned char *place = (const unsigned char *)&descriptors[slice % SEGMENT_SLICES];
    assert(place > heap->view.base);
    return (uint64_t)(place - heap->view.base);
}

/* The checkpointer's thread asks this while others allocate: entries are set once, in one store. */
EVH_INTERNAL uint64_t slices_checksum_slice(void *heap_pointer, uint64_t segment)
{
    assert(heap_pointer != NULL);
    evh_heap *heap = heap_pointer;
    const uint64_t end_bytes = base_load(&heap->view.end_bytes, __ATOMIC_RELAXED);
    if (heap->compact || segment >= slices_segment_count(slices_count(end_bytes))) return 0;
    const uint64_t *entry = slices_directory_entry(heap, segment);
    if (!entry) return 0;
    const uint64_t slice = base_load(entry, __ATOMIC_ACQUIRE) >> 32;
    if (slice == 0 || slice >= slices_count(end_bytes)) return 0;
    assert(slice != HEAP_FIRST_META_SLICE);
    return slice << SLICE_SHIFT;
}

EVH_INTERNAL bool slices_is_checksum(void *heap_pointer, uint64_t slice)
{
    evh_heap *heap = heap_pointer;
    assert(heap != NULL);
    const uint64_t end_bytes = base_load(&heap->view.end_bytes, __ATOMIC_RELAXED);
    assert(end_bytes % SLICE_BYTES == 0);
    if (heap->compact || slice >= slices_count(end_bytes)) return false;
    const uint64_t *descriptors = slices_find_descriptors(heap, slice / SEGMENT_SLICES);
    if (!descriptors) return false;
    return base_load(&descriptors[slice % SEGMENT_SLICES], __ATOMIC_RELAXED) == HEAP_CHECKSUM;
}

EVH_INTERNAL void slices_zero(void *bytes, uint64_t size)
{
    assert(bytes != NULL);
    assert(size % 8 == 0);
    /* A page that is zero already is not stored into: it stays clean, and its commit free. */
    for (uint64_t done = 0; done < size;) {
        uint64_t *words = (uint64_t *)(void *)((unsigned char *)bytes + done);
        const uint64_t part = base_min(size - done, PAGE_BYTES - (uintptr_t)words % PAGE_BYTES);
        uint64_t any = 0;
        for (uint64_t i = 0; i < part / 8; i++) any |= words[i];
        if (any) memset(words, 0, part);
        done += part;
    }
}

EVH_INTERNAL evh_status slices_create(evh_heap *heap)
{
    const uint64_t slice_count = slices_count(heap->state.heap_bytes);
    assert(slice_count >= 4);
    assert(slice_count <= SEGMENT_SLICES);

    unsigned char *meta = heap->view.base + (HEAP_FIRST_META_SLICE << SLICE_SHIFT);
    slices_zero(meta, SLICE_BYTES);
    uint64_t *descriptors = (uint64_t *)(void *)meta;
    descriptors[0] = HEAP_JOURNAL;
    descriptors[HEAP_FIRST_META_SLICE] = HEAP_META;
    uint64_t checksum = 0;
    if (slice_count > SLICE_FIRST_CHECKSUM_SLICES) {
        checksum = HEAP_FIRST_META_SLICE + 1;
        descriptors[checksum] = HEAP_CHECKSUM;
    }
    *slices_directory(heap) = HEAP_FIRST_META_SLICE | checksum << 32;
    return EVH_OK;
}

/* ---- life ---- */

EVH_INTERNAL evh_status slices_map_tables(evh_heap *heap, uint64_t slice_count)
{
    assert(heap->slices.reserved != NULL);
    struct heap_slices *slices = &heap->slices;
    const uint64_t from = slices->mapped_segments;
    const uint64_t to = slices_segment_count(slice_count);
    assert(slice_count <= slices->slice_max);
    if (to <= from) return EVH_OK;

    const uint64_t size = (to - from) * SEGMENT_SLICES * sizeof(struct slice);
    static_assert(sizeof(struct slice) == sizeof(struct remote), "both tables have one size");
    int error = os->map(slices->table + from * SEGMENT_SLICES, size, OS_MAP_ANONYMOUS, -1, 0);
    if (!error)
        error = os->map(slices->remotes + from * SEGMENT_SLICES, size, OS_MAP_ANONYMOUS, -1, 0);
    if (error)
        return base_fail_os(error, NO_OFFSET, "%s: no memory for the tables of %llu slices",
                            heap_path(heap), (unsigned long long)slice_count);
    slices->mapped_segments = to;
    return EVH_OK;
}

/* Frees go the fast way below this. */
static void slices_open_fast_path(evh_heap *heap)
{
    assert(heap->slices.reserved != NULL);
    const uint64_t mapped = heap->slices.mapped_segments << SEGMENT_SHIFT;
    const uint64_t end = base_min(heap->state.heap_bytes, mapped);
    assert(end % SLICE_BYTES == 0);
    const bool is_fast = heap->is_writable && !heap->debug;
    base_store(&heap->slices.end_bytes, is_fast ? end : 0, __ATOMIC_RELAXED);
}

EVH_INTERNAL void slices_set_end(evh_heap *heap, uint64_t slice_count)
{
    assert(slice_count >= slices_count(heap->state.heap_bytes));
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(slices_segment_count(slice_count) <= heap->slices.mapped_segments);
    heap_set_end(heap, slice_count << SLICE_SHIFT);
    slices_open_fast_path(heap);
}

/* Reserve addresses for the tables, and divide them. */
static evh_status slices_reserve(evh_heap *heap)
{
    assert(heap->slices.reserved == NULL);
    struct heap_slices *slices = &heap->slices;
    slices->slice_max = heap->region->reserved_bytes >> SLICE_SHIFT;
    slices->told_bytes = heap->region->mapped_bytes;
    assert(slices->slice_max >= 4);

    const uint64_t segment_max = slices_segment_count(slices->slice_max);
    const uint64_t table_bytes = segment_max * SEGMENT_SLICES * sizeof(struct slice);
    const uint64_t mirror_bytes = segment_max * SEGMENT_SLICES * SLICE_MIRROR_BYTES;
    const uint64_t pointer_bytes = base_round_up(segment_max * sizeof(void *), SLICE_BYTES);
    const uint64_t label_bytes = segment_max * SEGMENT_SLICES;
    slices->reserved_bytes =
        2 * table_bytes + mirror_bytes + pointer_bytes + base_round_up(label_bytes, SLICE_BYTES);
    int error = os->reserve(slices->reserved_bytes, SLICE_BYTES, 0, &slices->reserved);
    if (error)
        return base_fail_os(error, NO_OFFSET, "%s: no addresses for the allocator's tables",
                            heap_path(heap));
    unsigned char *next = slices->reserved;
    slices->table = (struct slice *)(void *)next;
    slices->remotes = (struct remote *)(void *)(next + table_bytes);
    slices->mirrors = next + 2 * table_bytes;
    slices->segments = (struct segment **)(void *)(next + 2 * table_bytes + mirror_bytes);
    slices->labels = (unsigned char *)slices->segments + pointer_bytes;
    error = os->map(slices->segments, pointer_bytes, OS_MAP_ANONYMOUS, -1, 0);
    if (!error) return EVH_OK;
    (void)os->release(slices->reserved, slices->reserved_bytes);
    slices->reserved = NULL;
    return base_fail_os(error, NO_OFFSET, "%s: no memory for the allocator's tables",
                        heap_path(heap));
}

EVH_INTERNAL unsigned char *slices_map_labels(evh_heap *heap)
{
    struct heap_slices *slices = &heap->slices;
    if (!slices->reserved) return NULL;
    assert(slices->labels != NULL);
    assert(slices->slice_max > 0);
    const uint64_t size = base_round_up(slices->slice_max, SLICE_BYTES);
    return os->map(slices->labels, size, OS_MAP_ANONYMOUS, -1, 0) ? NULL : slices->labels;
}

/* A live heap keeps nothing here but what its own threads own: frees go their own way (end_bytes is
 * 0), and others may let the heap grow at any moment, so all of the table is there. */
static evh_status slices_open_live(evh_heap *heap)
{
    assert(heap->live != NULL);
    assert(heap->slices.end_bytes == 0);
    struct heap_slices *slices = &heap->slices;
    const uint64_t size =
        (uint64_t)((unsigned char *)slices->remotes - (unsigned char *)slices->table);
    const int error = os->map(slices->table, size, OS_MAP_ANONYMOUS, -1, 0);
    if (!error) return EVH_OK;
    (void)os->release(slices->reserved, slices->reserved_bytes);
    slices->reserved = NULL;
    return base_fail_os(error, NO_OFFSET, "%s: no memory for the allocator's tables",
                        heap_path(heap));
}

EVH_INTERNAL evh_status slices_open(evh_heap *heap)
{
    assert(heap->compact == NULL);
    assert(heap->view.base == heap->region->base);

    struct heap_slices *slices = &heap->slices;
    const uint64_t slice_count = slices_count(heap->state.heap_bytes);
    *slices = (struct heap_slices){.gate = heap->live ? 0 : GATE_UNPREPARED};
    if (slice_count < 4 || heap->state.heap_bytes > heap->region->mapped_bytes)
        return base_fail(EVH_CORRUPT, NO_OFFSET, "%s: header: a heap of %llu bytes cannot be",
                         heap_path(heap), (unsigned long long)heap->state.heap_bytes);
    evh_status status = slices_reserve(heap);
    if (status) return status;
    if (heap->live) return slices_open_live(heap);
    status = slices_map_tables(heap, slice_count);
    for (uint64_t i = 0; !status && heap->options.verify && i < slices->mapped_segments; i++)
        status = slices_need(heap, i);
    if (status) {
        const evh_error why = *evh_last_error();
        slices_close(heap);
        return base_fail(status, why.offset, "%s", why.message);
    }
    slices_open_fast_path(heap);
    return EVH_OK;
}

static void slices_unload_all(evh_heap *heap)
{
    assert(heap->slices.reserved != NULL);
    assert(heap->slices.end_bytes == 0);
    struct heap_slices *slices = &heap->slices;
    for (uint64_t i = 0; i < slices->mapped_segments; i++) {
        if (!slices->segments[i]) continue;
        slices_end_segment(slices->segments[i]);
        slices->segments[i] = NULL;
    }
    slices->free_hint = 0;
    slices->unloaded_hint = 0;
}

EVH_INTERNAL void slices_close(evh_heap *heap)
{
    struct heap_slices *slices = &heap->slices;
    assert(!heap_lock_is_taken(&slices->lock) || heap->is_forked);
    slices->end_bytes = 0;
    threads_detach_heap(heap);
    if (!slices->reserved) return;
    slices_unload_all(heap);
    (void)os->release(slices->reserved, slices->reserved_bytes);
    slices->reserved = NULL;
    slices->mapped_segments = 0;
}

/* Make table memory zero again, giving it back to the system where that works. */
static void slices_clear(void *bytes, uint64_t size)
{
    assert(bytes != NULL);
    assert(size > 0);
    if (os->discard(bytes, size)) memset(bytes, 0, size);
}

EVH_INTERNAL void slices_reset(evh_heap *heap)
{
    assert(heap->compact == NULL);
    struct heap_slices *slices = &heap->slices;
    assert(slices->reserved != NULL);

    heap_lock_take(&slices->lock);
    slices->end_bytes = 0;
    heap->stamp = heap_new_stamp();
    threads_restamp(heap);
    for (uint64_t i = 0; i < slices->mapped_segments; i++)
        if (slices->segments[i])
            slices_clear(slices->mirrors + i * SEGMENT_SLICES * SLICE_MIRROR_BYTES,
                         SEGMENT_SLICES * SLICE_MIRROR_BYTES);
    slices_unload_all(heap);
    const uint64_t size = slices->mapped_segments * SEGMENT_SLICES * sizeof(struct slice);
    slices_clear(slices->table, size);
    slices_clear(slices->remotes, size);
    memset(slices->adoptable, 0, sizeof slices->adoptable);
    memset(slices->adoptable_typed, 0, sizeof slices->adoptable_typed);
    slices->empty = 0;
    base_store(&heap->view.end_bytes, heap->state.heap_bytes, __ATOMIC_RELAXED);
    /* Without memory, slices_load() tries again and fails: nothing is lost. */
    (void)slices_map_tables(heap, slices_count(heap->state.heap_bytes));
    slices_open_fast_path(heap);
    heap_lock_drop(&slices->lock);
}

/* ---- commits and forks ---- */

EVH_INTERNAL struct cache *slices_first_cache(evh_heap *heap)
{
    heap_lock_take(&heap->slices.lock);
    struct cache *first = heap->slices.caches;
    heap_lock_drop(&heap->slices.lock);
    assert(!first || first->heap == heap);
    assert(heap->compact == NULL || !first);
    return first;
}

EVH_INTERNAL void slices_fold(evh_heap *heap)
{
    if (heap->compact) return;
    struct cache *first = slices_first_cache(heap);
    assert(heap->has_slices || heap->journal == NULL);
    /* Draining may forward a slice to the cache that owns it now, once: so two rounds, and a third
     * that finds nothing. */
    for (struct cache *cache = first; cache; cache = cache->next_of_heap) magazine_give_all(cache);
    for (bool again = true; again;) {
        again = false;
        for (struct cache *cache = first; cache; cache = cache->next_of_heap) {
            if (!base_load(&cache->pending, __ATOMIC_ACQUIRE)) continue;
            remote_drain(cache);
            again = true;
        }
    }
    for (const struct cache *cache = first; cache; cache = cache->next_of_heap)
        assert(base_load(&cache->pending, __ATOMIC_RELAXED) == 0);
}

/* A memory heap goes on in the child: what other threads had freed remotely is put into the
 * bitmaps, then everything else that they left behind is forgotten. */
static void slices_fold_forked(evh_heap *heap)
{
    assert(!heap->is_forked);
    assert(heap->slices.reserved != NULL);
    struct heap_slices *slices = &heap->slices;
    for (uint64_t i = 0; i < slices->mapped_segments * SEGMENT_SLICES; i++) {
        const struct slice *slice = &slices->table[i];
        if (!slices->remotes[i].summary || !slice->bits) continue;
        const uint64_t *mirror = (uint64_t *)(void *)(slices->mirrors + i * SLICE_MIRROR_BYTES);
        assert(slice->word_count <= SLICE_MIRROR_WORDS);
        for (uint32_t word = 0; word < slice->word_count; word++)
            slice->bits[word] &= ~mirror[word];
    }
}

EVH_INTERNAL void slices_forked(evh_heap *heap)
{
    assert(heap->compact == NULL);
    struct heap_slices *slices = &heap->slices;
    if (!slices->reserved) return;
    if (heap->live) {
        live_forked(heap);
        return;
    }
    const bool is_still = !heap_lock_is_taken(&slices->lock) && threads_is_alone(heap);
    slices->lock.state = HEAP_LOCK_OPEN; /* its holder is gone */
    slices->typed_lock.state = HEAP_LOCK_OPEN;
    heap->types_lock.state = HEAP_LOCK_OPEN;
    slices->gate &= (uint32_t)~GATE_CLOSED;
    slices->gate_guests = 0;
    if (heap->is_forked) {
        heap->stamp = heap_new_stamp(); /* no cache is valid, and frees are refused */
        slices->end_bytes = 0;
        return;
    }
    if (is_still) return; /* no other thread can have left anything half done */
    struct cache *cache = threads_present(heap);
    if (cache) magazine_forked(cache);
    slices_fold_forked(heap);
    threads_forked(heap);
    slices_reset(heap);
    assert(!heap_lock_is_taken(&slices->lock));
}
