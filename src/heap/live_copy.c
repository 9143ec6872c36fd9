/* live_copy.c -- a live heap's file is opened private or read-only, perhaps while others change it.
 *
 * The metadata is copied first, into memory that nobody else changes, and then validated like that
 * of any file; payload shows through, as it is at any moment. A copy of several slices is not one
 * moment's: where it does not hold together while others are attached, it is made again.
 */
#include "heap/heap.h"

enum { COPY_TRIES = 50 };

/* A slice of the file, as it is now, takes the place of what is mapped there. */
static evh_status copy_slice(evh_heap *heap, uint64_t slice)
{
    assert(slice > 0);
    struct region *region = heap->region;
    const uint64_t offset = slice << SLICE_SHIFT;
    size_t done = 0;
    if (offset + SLICE_BYTES > region->mapped_bytes)
        return base_fail(EVH_CORRUPT, offset, "%s: metadata in slice %llu, behind its end",
                         heap_path(heap), (unsigned long long)slice);
    int error = os->map(region->base + offset, SLICE_BYTES, OS_MAP_ANONYMOUS, -1, 0);
    if (!error) error = os->read(region->file, offset, region->base + offset, SLICE_BYTES, &done);
    if (error) return base_fail_os(error, offset, "%s: cannot read its metadata", heap_path(heap));
    assert(done <= SLICE_BYTES);
    return EVH_OK;
}

/* The slices of entries, for the segments that are not in the directory itself. */
static evh_status copy_directory(evh_heap *heap, uint64_t segments)
{
    assert(segments > 0);
    evh_status status = copy_slice(heap, HEAP_FIRST_META_SLICE);
    const uint64_t *entries = slices_directory_entry(heap, 0);
    assert(entries != NULL);
    for (uint64_t i = 0; !status && i < HEAP_INDIRECT_ENTRIES; i++) {
        if (HEAP_DIRECT_SEGMENTS + i * HEAP_INDIRECT_SEGMENTS >= segments) break;
        const uint64_t slice = entries[HEAP_DIRECT_SEGMENTS + i];
        status = slice ? copy_slice(heap, slice)
                       : base_fail(EVH_CORRUPT, NO_OFFSET, "%s: directory: entry %llu is missing",
                                   heap_path(heap), (unsigned long long)i);
    }
    return status;
}

static evh_status copy_segment(evh_heap *heap, uint64_t segment)
{
    assert(heap->region != NULL);
    assert(heap->is_live_copy);
    const uint64_t *entry = slices_directory_entry(heap, segment);
    if (!entry) return evh_last_error()->status;
    evh_status status = EVH_OK;
    if (segment > 0) status = copy_slice(heap, (uint32_t)*entry);
    if (status) return status;
    const uint64_t *descriptors = slices_find_descriptors(heap, segment);
    if (!descriptors) return evh_last_error()->status;
    const uint64_t first = segment * SEGMENT_SLICES;
    const uint64_t end = slices_count(heap->state.heap_bytes);
    const uint64_t count = base_min(end - first, SEGMENT_SLICES);
    for (uint64_t i = 0; i < count && !status; i++)
        if (descriptors[i] == HEAP_BITMAP) status = copy_slice(heap, first + i);
    return status;
}

/* Whether a run reaches the tail that says so. */
static bool copy_is_orphan(evh_heap *heap, uint64_t slice, uint64_t descriptor)
{
    assert(slice > 0);
    assert(heap->is_live_copy);
    const uint64_t distance = descriptor_count(descriptor);
    if (descriptor_kind(descriptor) != HEAP_TAIL || distance == 0 || distance >= slice)
        return false;
    const uint64_t head = slice - distance;
    const uint64_t *descriptors = slices_find_descriptors(heap, head / SEGMENT_SLICES);
    if (!descriptors) return false;
    const uint64_t found = descriptors[head % SEGMENT_SLICES];
    if (descriptor_kind(found) == HEAP_LARGE) return descriptor_count(found) <= distance;
    return descriptor_kind(found) != HEAP_MEDIUM || distance >= HEAP_MEDIUM_SLICES;
}

/* What threads left behind, or were about to use, is free in the copy: nobody comes back for it. */
static evh_status copy_mend(evh_heap *heap, uint64_t segment)
{
    assert(heap->is_live_copy);
    uint64_t *descriptors = slices_find_descriptors(heap, segment);
    if (!descriptors) return evh_last_error()->status;
    const uint64_t first = segment * SEGMENT_SLICES;
    const uint64_t end = slices_count(heap->state.heap_bytes);
    assert(first < end);
    for (uint64_t i = segment ? 0 : 1; i < SEGMENT_SLICES; i++)
        if (first + i >= end || copy_is_orphan(heap, first + i, descriptors[i]))
            descriptors[i] = HEAP_FREE;
    return EVH_OK;
}

static evh_status copy_metadata(evh_heap *heap)
{
    assert(heap->is_live_copy);
    assert(heap->region != NULL);
    struct live_area area;
    size_t done = 0;
    struct region *region = heap->region;
    const int error = os->read(region->file, LIVE_AREA_OFFSET, &area, sizeof area, &done);
    if (error) return base_fail_os(error, LIVE_AREA_OFFSET, "%s: cannot read it", heap_path(heap));
    if (done < sizeof area || area.magic != LIVE_AREA_MAGIC)
        return base_fail(EVH_CORRUPT, LIVE_AREA_OFFSET, "%s: live area: it does not begin as one",
                         heap_path(heap));
    if (area.end_slices < REGION_NEW_BYTES >> SLICE_SHIFT ||
        area.end_slices > REGION_SIZE_MAX >> SLICE_SHIFT)
        return base_fail(EVH_CORRUPT, LIVE_AREA_OFFSET, "%s: live area: a heap of %llu slices",
                         heap_path(heap), (unsigned long long)area.end_slices);
    evh_status status = region_map(region, area.end_slices << SLICE_SHIFT);
    if (status) return status;
    for (unsigned i = 0; i < sizeof area.earlier_addresses / sizeof area.address; i++)
        if (area.earlier_addresses[i])
            region_note_address(&region->header, area.earlier_addresses[i]);
    if (area.address) region_note_address(&region->header, area.address);
    heap->state.heap_bytes = area.end_slices << SLICE_SHIFT;
    heap->state.catalog = area.catalog;
    heap->view.base = region->base;
    base_store(&heap->view.end_bytes, heap->state.heap_bytes, __ATOMIC_RELAXED);
    heap_find_span(heap);
    const uint64_t segments = slices_segment_count(area.end_slices);
    status = copy_directory(heap, segments);
    for (uint64_t i = 0; i < segments && !status; i++) status = copy_segment(heap, i);
    for (uint64_t i = 0; i < segments && !status; i++) status = copy_mend(heap, i);
    return status;
}

static bool copy_is_attached(evh_heap *heap)
{
    assert(heap->region->lock_file >= 0);
    assert(heap->is_live_copy);
    bool is_taken = false;
    return !os->lock_is_taken(heap->region->lock_file, REGION_LOCK_ATTACHED, 1, &is_taken) &&
           is_taken;
}

/* Whether the copy holds together. */
static evh_status copy_validate(evh_heap *heap)
{
    assert(heap->is_live_copy);
    assert(heap->state.heap_bytes > 0);
    evh_status first = EVH_OK;
    const uint64_t segments = slices_segment_count(slices_count(heap->state.heap_bytes));
    for (uint64_t i = 0; i < segments && !first; i++)
        (void)slices_audit(heap, i, NULL, NULL, &first);
    return first;
}

EVH_INTERNAL evh_status live_copy_open(evh_heap *heap)
{
    assert(heap->mode == EVH_PRIVATE || heap->mode == EVH_READ_ONLY);
    assert(heap->region->header.mode == EVH_LIVE);
    heap->is_live_copy = true;
    evh_status status = EVH_OK;
    for (unsigned i = 0; i < COPY_TRIES; i++) {
        const bool is_attached = copy_is_attached(heap);
        status = copy_metadata(heap);
        if (!is_attached) return status; /* it is validated where it is used */
        if (!status) status = copy_validate(heap);
        if (status != EVH_CORRUPT) return status;
    }
    return copy_metadata(heap); /* so it is damaged: whoever looks there is told */
}

EVH_INTERNAL uint64_t live_copy_processes(evh_heap *heap)
{
    assert(heap->is_live_copy);
    assert(heap->region->lock_file >= 0);
    uint64_t count = 0;
    bool is_taken = false;
    const int file = heap->region->lock_file;
    if (os->lock_is_taken(file, REGION_LOCK_PROCESSES, LIVE_PROCESSES_MAX, &is_taken)) return 0;
    for (uint32_t i = 0; is_taken && i < LIVE_PROCESSES_MAX; i++) {
        bool is_locked = false;
        count += !os->lock_is_taken(file, REGION_LOCK_PROCESSES + i, 1, &is_locked) && is_locked;
    }
    return count;
}

EVH_INTERNAL void live_copy_mirrors(evh_heap *heap, uint64_t slice, struct slice *described)
{
    assert(heap->is_live_copy);
    assert(described->bits != NULL);
    uint64_t *own = (uint64_t *)(void *)(heap->slices.mirrors + slice * SLICE_MIRROR_BYTES);
    const uint64_t *mirror = live_mirror(described->bits);
    for (uint32_t word = 0; word < described->word_count; word++) {
        const uint64_t pending = described->bits[word] & mirror[word];
        own[word] = pending;
        if (pending) heap->slices.remotes[slice].summary |= 1ull << word;
    }
}

/* ---- saving: the copy becomes a durable heap ---- */

/* Put what is pending in slices that nobody owns into their bitmaps. */
static evh_status copy_fold(evh_heap *heap)
{
    assert(heap->is_writable);
    const uint64_t end = slices_count(heap->state.heap_bytes);
    struct heap_slices *slices = &heap->slices;
    for (uint64_t slice = 1; slice < end; slice++) {
        const evh_status status = slices_need(heap, slice / SEGMENT_SLICES);
        if (status) return status;
        struct slice *found = &slices->table[slice];
        if (!slices->remotes[slice].summary || slice_owner(found)) continue;
        assert(found->kind == HEAP_SMALL || found->kind == HEAP_MEDIUM);
        heap_lock_take(&slices->lock);
        owners_settle_nobodys(heap, found);
        heap_lock_drop(&slices->lock);
    }
    return EVH_OK;
}

/* A slice for the checksums of a segment's pages: in the segment, or wherever there is one. */
static evh_status copy_add_checksum(evh_heap *heap, uint64_t segment, uint64_t *entry)
{
    assert(heap_lock_is_taken(&heap->slices.lock));
    assert(*entry >> 32 == 0);
    uint64_t slice = runs_take_in(heap, heap->slices.segments[segment]);
    if (!slice) slice = runs_take(heap, 1, 1, true);
    if (!slice) return evh_last_error()->status;
    if (*entry >> 32) { /* the heap grew for it, and that made segment 0 need one */
        runs_give(heap, slice, 1);
        return EVH_OK;
    }
    slices_set_descriptor(heap, slice, HEAP_CHECKSUM);
    slices_zero(heap->view.base + (slice << SLICE_SHIFT), SLICE_BYTES);
    *entry |= slice << 32;
    return EVH_OK;
}

/* Every segment of a durable heap has a slice for the checksums of its pages. Those that the heap
 * gets meanwhile have theirs. */
static evh_status copy_add_checksums(evh_heap *heap)
{
    assert(heap->is_writable);
    assert(slices_count(heap->state.heap_bytes) >= 4);
    for (uint64_t i = 0; i * SEGMENT_SLICES < slices_count(heap->state.heap_bytes); i++) {
        uint64_t *entry = slices_directory_entry(heap, i);
        if (!entry) return evh_last_error()->status;
        const uint64_t slice_count = slices_count(heap->state.heap_bytes);
        if (*entry >> 32 || (i == 0 && slice_count <= SLICE_FIRST_CHECKSUM_SLICES)) continue;
        evh_status status = slices_need(heap, i);
        if (status) return status;
        heap_lock_take(&heap->slices.lock);
        status = copy_add_checksum(heap, i, entry);
        heap_lock_drop(&heap->slices.lock);
        if (!status) continue;
        const evh_error why = *evh_last_error();
        return base_fail(status, why.offset, "%s: no place for the checksums of a durable heap: %s",
                         heap_path(heap), why.message);
    }
    return EVH_OK;
}

/* All roots, and then all that made them roots of a live heap. */
struct copy_roots {
    evh_root_info *roots; /* owned */
    uint64_t *old;        /* owned: offsets of blocks that go */
    uint64_t old_count, old_capacity;
};

static void copy_add_old(uint64_t offset, void *context)
{
    struct copy_roots *roots = context;
    assert(offset > 0);
    assert(roots->old_count < roots->old_capacity);
    roots->old[roots->old_count++] = offset;
}

static void copy_count_old(uint64_t offset, void *context)
{
    assert(offset > 0);
    assert(context != NULL);
    (void)offset;
    ++*(uint64_t *)context;
}

/* Free what made up the old roots: the file's word is not believed, and nothing aborts over it. */
static evh_status copy_free_old(evh_heap *heap, uint64_t offset)
{
    assert(offset > 0);
    assert(!heap->is_live_copy);
    uint64_t usable = 0;
    if (heap_block_at(heap, offset, &usable)) {
        evh_free(heap, heap->view.base + offset);
        return EVH_OK;
    }
    return base_fail(EVH_CORRUPT, offset, "%s: root: two are at 0x%llx, or none", heap_path(heap),
                     (unsigned long long)offset);
}

static evh_status copy_convert_roots(evh_heap *heap, struct copy_roots *roots)
{
    assert(heap->is_live_copy);
    assert(roots->roots == NULL);
    uint64_t count = 0, done = 0;
    evh_root_info root = {0};
    evh_status status = live_roots_count(heap, &count);
    if (status) return status;
    live_roots_each_internal(heap, copy_count_old, &roots->old_capacity);
    roots->roots = os->memory_allocate((size_t)(count + 1) * sizeof *roots->roots);
    roots->old = os->memory_allocate((size_t)(roots->old_capacity + 1) * sizeof *roots->old);
    if (!roots->roots || !roots->old)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to save it", heap_path(heap));
    for (bool is_found = true; done < count && is_found && !status;) {
        status = live_root_next(heap, &root, &is_found);
        if (is_found) roots->roots[done++] = root;
    }
    if (status) return status;
    live_roots_each_internal(heap, copy_add_old, roots);
    heap->is_live_copy = false; /* from here on it is like any other private heap */
    status = roots_create(heap);
    for (uint64_t i = 0; i < done && !status; i++) status = roots_enter(heap, &roots->roots[i]);
    for (uint64_t i = 0; i < roots->old_count && !status; i++)
        status = copy_free_old(heap, roots->old[i]);
    return status;
}

EVH_INTERNAL evh_status live_copy_convert(evh_heap *heap)
{
    assert(heap->is_live_copy);
    assert(heap->mode == EVH_PRIVATE);
    struct copy_roots roots = {0};
    evh_status status = copy_fold(heap);
    if (!status) status = copy_convert_roots(heap, &roots);
    if (!status) status = copy_add_checksums(heap);
    os->memory_free(roots.roots);
    os->memory_free(roots.old);
    return status;
}

/* What the copy said, of the heap: the copy was opened by another name. */
static evh_status save_failed(const evh_heap *heap, const char *copy_path)
{
    const evh_error why = *evh_last_error();
    const size_t size = strlen(copy_path);
    assert(why.status != EVH_OK);
    assert(heap_path(heap) != NULL);
    if (strncmp(why.message, copy_path, size) != 0) return why.status;
    return base_fail(why.status, why.offset, "%s%s", heap_path(heap), why.message + size);
}

EVH_INTERNAL evh_status live_save(evh_heap *heap, const char *path)
{
    assert(heap->live || heap->is_live_copy);
    assert(path != NULL);
    const evh_options options = {
        .mode = EVH_PRIVATE, .must_exist = true, .permissions = heap->options.permissions};
    /* By its name might be another heap by now, or none. */
    char again[OS_FILE_PATH_SIZE];
    const char *name = os_path_of_file(heap->region->file, again) ? again : heap_path(heap);
    evh_heap *copy = evh_open(name, &options);
    if (!copy) return save_failed(heap, name);
    evh_status status = EVH_OK;
    if (copy->region->device != heap->region->device || copy->region->inode != heap->region->inode)
        status = base_fail(EVH_BUSY, NO_OFFSET, "%s: another file has its name now", name);
    if (!status) status = evh_save(copy, path);
    if (status) status = save_failed(heap, name);
    const evh_error why = *evh_last_error();
    (void)evh_close(copy);
    return status ? base_fail(status, why.offset, "%s", why.message) : EVH_OK;
}
