/* live_open.c -- live heaps are made, attached to, left, and inherited by forked children.
 *
 * A session lasts from the first process that attaches to the last one that leaves. Its number is
 * in the image and in the ephemeral file, so that nobody takes the file of another session, or of
 * another path to the same heap, for his own.
 */
#include "heap/heap.h"

#include <stdio.h>

enum { ATTACH_TRIES = 2000 };
#define ATTACH_PAUSE_NS 1000000ull

/* ---- a new file ---- */

static void open_write_header(unsigned char *image, const evh_options *options)
{
    assert(image != NULL);
    assert(options->mode == EVH_LIVE);
    struct region_header header = region_new_header(EVH_LIVE, options->size_max_bytes);
    header.generation = 1;
    header.created_ns = os->time_ns();
    header.preferred_address = options->preferred_address;
    header.heap_bytes = REGION_NEW_BYTES;
    os->random(header.uuid, sizeof header.uuid);
    header.crc = base_crc32c(0, &header, offsetof(struct region_header, crc));
    memcpy(image, &header, sizeof header);
}

EVH_INTERNAL evh_status live_create(const char *path, const evh_options *options)
{
    assert(path != NULL);
    assert(options->mode == EVH_LIVE);
    unsigned char *image = os->memory_allocate(REGION_NEW_BYTES);
    if (!image) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to create it", path);
    open_write_header(image, options);
    const struct live_area area = {.magic = LIVE_AREA_MAGIC,
                                   .end_slices = REGION_NEW_BYTES >> SLICE_SHIFT};
    memcpy(image + LIVE_AREA_OFFSET, &area, sizeof area);
    uint64_t descriptors[2] = {HEAP_JOURNAL, HEAP_META};
    static_assert(HEAP_FIRST_META_SLICE == 1, "the second of them");
    unsigned char *meta = image + SLICE_BYTES;
    memcpy(meta + HEAP_DESCRIPTORS_OFFSET, descriptors, sizeof descriptors);
    const struct heap_directory_entry entry = {.meta_slice = HEAP_FIRST_META_SLICE};
    memcpy(meta + HEAP_DIRECTORY_OFFSET, &entry, sizeof entry);
    const evh_status status =
        journal_save_bytes(image, REGION_NEW_BYTES, path, options->permissions, false);
    os->memory_free(image);
    return status;
}

/* ---- the ephemeral file ---- */

/* Map it as far as it may ever become. */
static evh_status open_map_session(struct live *live)
{
    assert(live->file >= 0);
    assert(live->mapped == NULL);
    const uint64_t segments = slices_segment_count(live->slice_max);
    const uint64_t size =
        base_round_up(LIVE_SEGMENTS_OFFSET + segments * sizeof(struct live_slices), SLICE_BYTES);
    int error = os->reserve(size, SLICE_BYTES, 0, &live->mapped);
    if (error) live->mapped = NULL;
    live->mapped_bytes = size;
    if (!error) error = os->map(live->mapped, size, OS_MAP_SHARED, live->file, 0);
    if (error)
        return base_fail_os(error, NO_OFFSET, "%s: cannot map %s", heap_path(live->heap),
                            live->path);
    unsigned char *bytes = live->mapped;
    live->session = (struct live_session *)(void *)bytes;
    live->processes = (struct live_process *)(void *)(bytes + LIVE_PROCESSES_OFFSET);
    live->threads = (struct live_thread *)(void *)(bytes + LIVE_SLOTS_OFFSET);
    live->segments = (struct live_slices *)(void *)(bytes + LIVE_SEGMENTS_OFFSET);
    return EVH_OK;
}

/*
 * A copy of the file that was made with holes where there were zeroes (cp --sparse, tar, rsync) has
 * no space for all slices, and a store to one without would end the program when the disk is full.
 * So what is missing is allocated; the heap's own holes stay. Files without holes are not looked
 * at.
 */
static evh_status open_fill_file(struct live *live)
{
    assert(live->heap->region->file >= 0);
    assert(live->area->magic == LIVE_AREA_MAGIC);
    struct os_file_info info = {0};
    const uint64_t end = live_end(live);
    const int file = live->heap->region->file;
    if (os->information(file, &info) || info.allocated_bytes >= info.size_bytes) return EVH_OK;
    const uint64_t hole = HEAP_FREE | (uint64_t)HEAP_HOLE << HEAP_ATTRIBUTE_SHIFT;
    for (uint64_t first = 0, slice = 1; slice <= end; slice++) {
        const uint64_t *descriptor = slice < end ? live_descriptor(live, slice) : NULL;
        if (descriptor && base_load(descriptor, __ATOMIC_RELAXED) != hole) continue;
        /* Also before a segment whose metadata is damaged: who uses it is told. */
        const uint64_t offset = first << SLICE_SHIFT;
        const int error = os->allocate(file, offset, (slice << SLICE_SHIFT) - offset);
        if (error)
            return base_fail_os(error, offset, "%s: cannot allocate what its file has left out",
                                heap_path(live->heap));
        first = slice + 1;
    }
    return EVH_OK;
}

/* Remember that a process has mapped the heap at `base`: pointers that it stores are followed by it
 * when it is dead. Of more than four addresses that differ one is lost. */
static void open_note_address(struct live *live, uint64_t base)
{
    enum { COUNT = sizeof live->area->earlier_addresses / sizeof live->area->address };
    uint64_t *const earlier = live->area->earlier_addresses;
    assert(live->area->magic == LIVE_AREA_MAGIC);
    unsigned vacant = (unsigned)(base / SEGMENT_BYTES % COUNT);
    if (base == 0 || base_load(&live->area->address, __ATOMIC_RELAXED) == base) return;
    for (unsigned i = 0; i < COUNT; i++) {
        const uint64_t address = base_load(&earlier[i], __ATOMIC_RELAXED);
        if (address == base) return;
        if (address == 0) vacant = i;
    }
    assert(vacant < COUNT);
    base_store(&earlier[vacant], base, __ATOMIC_RELAXED);
}

/* Nobody is attached: the lock on ATTACHED is exclusively ours. */
static evh_status open_begin_session(struct live *live)
{
    assert(live->file < 0);
    assert(live->mapped == NULL);
    const unsigned permissions = live->heap->options.permissions;
    int error = os->open_temporary(live->path, permissions ? permissions : 0600, &live->file);
    if (error) {
        live->file = -1;
        return base_fail_os(error, NO_OFFSET, "%s: cannot make %s", heap_path(live->heap),
                            live->path);
    }
    live->mapped_bytes = UINT64_MAX;
    evh_status status =
        live_extend_file(live, base_load(&live->area->end_slices, __ATOMIC_ACQUIRE));
    if (!status) status = open_map_session(live);
    if (!status) status = open_fill_file(live);
    if (status) return status;
    live_resolve_all(live); /* of sessions that all were killed in */
    do os->random(&live->number, sizeof live->number);
    while (live->number == 0);
    assert(live->session != NULL);
    assert(live->session->magic == 0); /* the file is new */
    live->session->session = live->number;
    live->session->layout = LIVE_LAYOUT_VERSION;
    live->session->magic = LIVE_SESSION_MAGIC;
    const uint64_t before = live->area->address;
    base_store(&live->area->address, (uint64_t)(uintptr_t)live->heap->view.base, __ATOMIC_RELAXED);
    open_note_address(live, before);
    base_store(&live->area->session, live->number, __ATOMIC_RELEASE);
    error = os->publish(live->file, live->path, true);
    if (!error)
        error = os->lock(live->heap->region->lock_file, REGION_LOCK_ATTACHED, 1, OS_LOCK_SHARED);
    if (!error) return EVH_OK;
    return base_fail_os(error, NO_OFFSET, "%s: cannot make %s", heap_path(live->heap), live->path);
}

/* Others are attached: our shared lock keeps the session alive. */
static evh_status open_join_session(struct live *live)
{
    assert(live->file < 0);
    assert(live->mapped == NULL);
    int error = os->open(live->path, OS_OPEN_WRITE, 0, &live->file);
    if (error) live->file = -1;
    if (error == ENOENT)
        return base_fail(EVH_BUSY, NO_OFFSET,
                         "%s: others use it, but %s is not there: it was deleted, or they opened "
                         "the heap by another path",
                         heap_path(live->heap), live->path);
    struct os_file_info info = {0};
    if (!error) error = os->information(live->file, &info);
    if (error)
        return base_fail_os(error, NO_OFFSET, "%s: cannot open %s", heap_path(live->heap),
                            live->path);
    evh_status status = EVH_OK;
    if (info.size_bytes >= LIVE_SEGMENTS_OFFSET) status = open_map_session(live);
    if (status) return status;
    live->number = base_load(&live->area->session, __ATOMIC_ACQUIRE);
    if (live->mapped && live->session->magic == LIVE_SESSION_MAGIC &&
        live->session->session == live->number && live->number != 0) {
        if (live->session->layout == LIVE_LAYOUT_VERSION) return EVH_OK;
        return base_fail(EVH_VERSION, NO_OFFSET,
                         "%s: in use by programs with another version of this library",
                         heap_path(live->heap));
    }
    return base_fail(EVH_BUSY, NO_OFFSET,
                     "%s: others use it, but %s is not of their session: they opened the heap by "
                     "another path, or their file was replaced",
                     heap_path(live->heap), live->path);
}

static evh_status open_session(struct live *live)
{
    assert(live->heap->region->lock_file >= 0);
    assert(live->file < 0);
    const int lock_file = live->heap->region->lock_file;
    for (unsigned i = 0; i < ATTACH_TRIES; i++) {
        int error = os->lock(lock_file, REGION_LOCK_ATTACHED, 1, OS_LOCK_EXCLUSIVE);
        if (!error) return open_begin_session(live);
        if (error == EAGAIN) error = os->lock(lock_file, REGION_LOCK_ATTACHED, 1, OS_LOCK_SHARED);
        if (!error) return open_join_session(live);
        if (error != EAGAIN)
            return base_fail_os(error, NO_OFFSET, "%s: cannot lock it", heap_path(live->heap));
        os->pause(ATTACH_PAUSE_NS);
    }
    return base_fail(EVH_BUSY, NO_OFFSET,
                     "%s: another process has been attaching to it for two seconds, and does not "
                     "get on",
                     heap_path(live->heap));
}

/* ---- attaching ---- */

static evh_status open_area(struct live *live)
{
    assert(live->area != NULL);
    assert(live->heap->mode == EVH_LIVE);
    evh_heap *heap = live->heap;
    if (live->area->magic != LIVE_AREA_MAGIC)
        return base_fail(EVH_CORRUPT, LIVE_AREA_OFFSET, "%s: live area: it does not begin as one",
                         heap_path(heap));
    const uint64_t end = base_load(&live->area->end_slices, __ATOMIC_ACQUIRE);
    const evh_status status = region_measure(heap->region);
    if (status) return status;
    if (end < REGION_NEW_BYTES >> SLICE_SHIFT || end > REGION_SIZE_MAX >> SLICE_SHIFT)
        return base_fail(EVH_CORRUPT, LIVE_AREA_OFFSET, "%s: live area: a heap of %llu slices",
                         heap_path(heap), (unsigned long long)end);
    if (end << SLICE_SHIFT > heap->region->file_bytes)
        return base_fail(EVH_TRUNCATED, heap->region->file_bytes,
                         "%s: the file ends at %llu, the heap at %llu: its end was cut off",
                         heap_path(heap), (unsigned long long)heap->region->file_bytes,
                         (unsigned long long)(end << SLICE_SHIFT));
    if (end > live->slice_max)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no addresses for %llu slices",
                         heap_path(heap), (unsigned long long)end);
    return EVH_OK;
}

/* The parts of the handle that need no other process. */
static evh_status open_handle(evh_heap *heap, struct live *live)
{
    assert(heap->region->base != NULL);
    assert(live->metas == NULL);
    unsigned char *base = heap->region->base;
    live->heap = heap;
    live->file = -1;
    live->slice_max = heap->region->reserved_bytes >> SLICE_SHIFT;
    live->free_from = 1;
    live->area = (struct live_area *)(void *)(base + LIVE_AREA_OFFSET);
    live->intents = (struct live_intent *)(void *)(base + LIVE_INTENTS_OFFSET);
    heap->view.base = base;
    heap->view.end_bytes = heap->region->reserved_bytes;
    /* The program may change its directory, and then means another file by a relative path. */
    char *path = os_absolute_path(heap->region->path);
    const size_t size = path ? strlen(path) + sizeof ".live" : 0;
    live->path = path ? os->memory_allocate(size) : NULL;
    if (live->path) (void)snprintf(live->path, size, "%s.live", path);
    os->memory_free(path);
    live->metas_bytes =
        base_round_up(slices_segment_count(live->slice_max) * sizeof *live->metas, SLICE_BYTES);
    if (!live->path)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to open it", heap_path(heap));
    void *metas = NULL;
    int error = os->reserve(live->metas_bytes, SLICE_BYTES, 0, &metas);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: no addresses", heap_path(heap));
    live->metas = metas;
    error = os->map(metas, live->metas_bytes, OS_MAP_ANONYMOUS, -1, 0);
    return error ? base_fail_os(error, NO_OFFSET, "%s: no memory", heap_path(heap)) : EVH_OK;
}

/* Ask for the address that the heap had the last time, unless the caller asks for another. What is
 * in the file is a wish: where that is taken, or no address at all, any other will do. */
static void open_prefer_address(struct region *region)
{
    assert(region->base == NULL);
    struct live_area area = {0};
    size_t done = 0;
    if (region->preferred_address) return;
    if (os->read(region->file, LIVE_AREA_OFFSET, &area, sizeof area, &done)) return;
    if (done == sizeof area && area.magic == LIVE_AREA_MAGIC)
        region->preferred_address = area.address;
    assert(done <= sizeof area);
}

EVH_INTERNAL evh_status live_attach(evh_heap *heap)
{
    assert(heap->mode == EVH_LIVE);
    assert(heap->live == NULL);
    open_prefer_address(heap->region);
    evh_status status = region_map(heap->region, REGION_NEW_BYTES);
    if (status) return status;
    struct live *live = os->memory_allocate(sizeof *live);
    if (!live) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory", heap_path(heap));
    heap->live = heap->quick_live = live;
    status = open_handle(heap, live);
    if (!status) status = open_area(live);
    live->process = LIVE_PROCESSES_MAX; /* none yet */
    if (!status) status = open_session(live);
    if (!status) status = live_take_process(live);
    if (status) return status;
    assert(live->process < LIVE_PROCESSES_MAX);
    assert(live->number != 0);
    open_note_address(live, (uint64_t)(uintptr_t)heap->view.base);
    heap->state.heap_bytes = live_end(live) << SLICE_SHIFT;
    return slices_open(heap);
}

/* Whether the ephemeral file's name is still that of ours. The heap may have been renamed, and
 * another one made in its place: its users need theirs. */
static bool open_has_name(const struct live *live)
{
    assert(live->path != NULL);
    struct os_file_info own = {0}, named = {0};
    if (live->file < 0 || os->information(live->file, &own)) return false;
    assert(own.is_regular);
    return !os->information_at(live->path, &named) && named.device == own.device &&
           named.inode == own.inode;
}

/* The last one leaves: a forked child that has not done anything yet must not go on with it. */
static void open_end_session(struct live *live)
{
    assert(live->area != NULL);
    assert(live->path != NULL);
    base_store(&live->area->session, 0, __ATOMIC_RELEASE);
    if (open_has_name(live)) (void)os->remove(live->path);
}

EVH_INTERNAL void live_detach(struct live *live)
{
    if (!live) return;
    assert(live->heap != NULL);
    assert(live->heap->live == live);
    const int lock_file = live->heap->region->lock_file;
    if (live->process < LIVE_PROCESSES_MAX && lock_file >= 0) {
        live_drop_process(live);
        /* Who gets it exclusively was the last: the next session makes a new file. */
        if (!base_load(&live->is_child, __ATOMIC_RELAXED) &&
            !os->lock(lock_file, REGION_LOCK_ATTACHED, 1, OS_LOCK_EXCLUSIVE))
            open_end_session(live);
    }
    if (live->mapped) (void)os->release(live->mapped, live->mapped_bytes);
    if (live->file >= 0) (void)os->close(live->file);
    if (live->metas) (void)os->release(live->metas, live->metas_bytes);
    live->heap->live = live->heap->quick_live = NULL;
    os->memory_free(live->path);
    os->memory_free(live);
}

/* ---- forked children ---- */

EVH_INTERNAL void live_forked(evh_heap *heap)
{
    assert(heap->live != NULL);
    assert(!heap->is_forked);
    struct live *live = heap->live;
    heap->stamp = heap_new_stamp(); /* no cache is valid */
    threads_forked_live(heap);
    live->is_child = 1;
    live->joining = 0;
    live->reaping = 0;
}

static evh_status open_rejoin(struct live *live)
{
    assert(live->is_child);
    assert(live->joining);
    evh_heap *heap = live->heap;
    assert(heap->live == live);
    evh_status status = region_lock_again(heap->region);
    if (status) return status;
    const int lock_file = heap->region->lock_file;
    const int error = os->lock(lock_file, REGION_LOCK_ATTACHED, 1, OS_LOCK_SHARED);
    if (error && error != EAGAIN)
        return base_fail_os(error, NO_OFFSET, "%s: cannot lock it", heap_path(heap));
    if (error || base_load(&live->area->session, __ATOMIC_ACQUIRE) != live->number)
        return base_fail(EVH_FORKED, NO_OFFSET,
                         "%s: all other processes have left it since this one was forked: open it "
                         "again",
                         heap_path(heap));
    status = live_take_process(live);
    heap->process = os->process();
    return status;
}

EVH_INTERNAL evh_status live_join(struct live *live)
{
    assert(live->heap != NULL);
    if (LIKELY(!base_load(&live->is_child, __ATOMIC_ACQUIRE))) return EVH_OK;
    uint32_t nobody = 0;
    if (!base_compare_exchange(&live->joining, &nobody, 1, false, __ATOMIC_ACQUIRE,
                               __ATOMIC_RELAXED))
        return base_fail(EVH_BUSY, NO_OFFSET,
                         "%s: another thread of this forked child is attaching it",
                         heap_path(live->heap));
    evh_status status = EVH_OK;
    if (base_load(&live->is_child, __ATOMIC_ACQUIRE)) status = open_rejoin(live);
    if (!status) base_store(&live->is_child, 0, __ATOMIC_RELEASE);
    base_store(&live->joining, 0, __ATOMIC_RELEASE);
    return status;
}

/* ---- on the disk ---- */

evh_status evh_sync(evh_heap *heap)
{
    const evh_status status = heap_writable(heap);
    if (status) return status;
    assert(heap->view.base != NULL);
    if (heap->live) return journal_flush_shared(heap->region);
    return base_fail(EVH_MODE, NO_OFFSET, "%s: not a live heap: evh_commit() or evh_save()",
                     heap_path(heap));
}
