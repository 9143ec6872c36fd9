/* heap_open.c -- a heap is opened, checked before it is changed, and closed.
 *
 * Opening puts the layers on top of each other (region, journal, slices) and takes them apart again
 * in the opposite order when one of them refuses. It never changes a file that it cannot open.
 * Heaps in memory are opened by heap_memory.c.
 */
#include "heap/compact_layout.h"
#include "heap/heap.h"

#include <stdio.h>
#include <stdlib.h>

/* Of a compact image that is read into memory: such heaps are for buffers below 1 MiB, or for
 * larger ones that are not aligned; a file that claims more must not take all of the memory. */
#define COMPACT_FILE_MAX (1ull << 32)

/* ---- questions that every other file asks ---- */

const char *heap_path(const evh_heap *heap)
{
    assert(heap != NULL);
    assert(!heap->region || heap->region->path);
    return heap->region ? heap->region->path : "memory";
}

uint64_t heap_new_stamp(void)
{
    static uint64_t last;
    const uint64_t stamp = base_add_fetch(&last, 1, __ATOMIC_RELAXED);
    assert(stamp != 0);
    assert(stamp != UINT64_MAX);
    return stamp;
}

evh_status heap_writable(evh_heap *heap)
{
    if (UNLIKELY(!heap)) return base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
    assert(heap->open_count > 0);
    if (UNLIKELY(heap->is_forked))
        return base_fail(EVH_FORKED, NO_OFFSET,
                         "%s: a forked child cannot change its parent's heap", heap_path(heap));
    if (UNLIKELY(!heap->is_writable))
        return base_fail(EVH_READ_ONLY, NO_OFFSET, "%s: it is open read-only", heap_path(heap));
    return heap->journal ? journal_status(heap->journal) : EVH_OK;
}

evh_status heap_misuse(const evh_heap *heap, evh_status status, const void *pointer,
                       const char *what)
{
    assert(status == EVH_DOUBLE_FREE || status == EVH_BAD_POINTER);
    assert(what != NULL);
    const uint64_t offset = evh_ref_to(heap, pointer).offset;
    (void)base_fail(status, offset ? offset : NO_OFFSET, "%s: %p (offset 0x%llx): %s",
                    heap_path(heap), pointer, (unsigned long long)offset, what);
    if (heap->options.misuse == EVH_MISUSE_STATUS) return status;
    (void)fprintf(stderr, "everheap: %s: %s\n", evh_status_name(status), evh_last_error()->message);
    abort();
}

void heap_set_end(evh_heap *heap, uint64_t heap_bytes)
{
    assert(heap->compact == NULL);
    assert(heap_bytes % SLICE_BYTES == 0);
    assert(heap_bytes <= heap->region->reserved_bytes);
    base_store(&heap->state.heap_bytes, heap_bytes, __ATOMIC_RELAXED); /* evh_get_info() looks */
    base_store(&heap->view.end_bytes, heap_bytes, __ATOMIC_RELAXED);
    heap_find_span(heap);
    if (heap->mode == EVH_MEMORY) heap_store_header(heap);
}

/* ---- options ---- */

static evh_status options_refuse(evh_status status, const char *path, const char *why)
{
    assert(status != EVH_OK);
    assert(why != NULL);
    return base_fail(status, NO_OFFSET, "%s: options: %s", path, why);
}

static evh_status options_check_mode(const char *path, const evh_options *options)
{
    assert(path != NULL);
    assert(options != NULL);
    if (options->must_exist && options->must_create)
        return options_refuse(EVH_INVALID, path, "must_exist and must_create contradict");
    switch (options->mode) {
    case EVH_DURABLE:
    case EVH_LIVE:
    case EVH_MEMORY: return EVH_OK;
    case EVH_READ_ONLY:
    case EVH_PRIVATE:
        if (!options->must_create) return EVH_OK;
        return options_refuse(EVH_INVALID, path, "must_create needs the durable or the live mode");
    default: return options_refuse(EVH_INVALID, path, "no such mode");
    }
}

evh_status heap_options(const char *path, const evh_options *given, evh_options *options)
{
    assert(path != NULL);
    assert(options != NULL);
    *options = given ? *given : (evh_options){0};
    for (size_t i = 0; i < sizeof options->reserved / sizeof options->reserved[0]; i++)
        if (options->reserved[i])
            return options_refuse(EVH_INVALID, path, "a reserved field is not zero");
    if (options->commit_sequence && options->mode != EVH_READ_ONLY && options->mode != EVH_PRIVATE)
        return options_refuse(EVH_INVALID, path, "a past commit can only be read");
    if ((unsigned)options->detect > EVH_DETECT_COMPARE)
        return options_refuse(EVH_INVALID, path, "no such way to detect dirty pages");
    if ((unsigned)options->misuse > EVH_MISUSE_STATUS)
        return options_refuse(EVH_INVALID, path, "no such answer to misuse");
    if (options->permissions > 0777)
        return options_refuse(EVH_INVALID, path, "permissions above 0777");
    if (options->size_max_bytes > REGION_SIZE_MAX)
        return options_refuse(EVH_LIMIT, path, "size_max_bytes is above 128 TiB");
    if (options->size_max_bytes && options->size_max_bytes < REGION_NEW_BYTES)
        return options_refuse(EVH_INVALID, path, "size_max_bytes is below 256 KiB");
    if (options->journal_max_bytes && options->journal_max_bytes < options->checkpoint_bytes)
        return options_refuse(EVH_INVALID, path, "journal_max_bytes is below checkpoint_bytes");
    return options_check_mode(path, options);
}

/* ---- making and ending the handle ---- */

evh_heap *heap_new(const evh_options *options)
{
    assert(options->mode <= EVH_MEMORY);
    assert(options != NULL);
    evh_heap *heap = os->memory_allocate(sizeof *heap);
    if (!heap) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for a heap's handle");
        return NULL;
    }
    heap->view.end_bytes = 1; /* evh_at() subtracts 1 */
    heap->options = *options;
    heap->mode = options->mode;
    heap->is_writable = options->mode != EVH_READ_ONLY;
    heap->is_committed_by_save = options->mode == EVH_PRIVATE || options->mode == EVH_MEMORY;
    heap->stamp = heap_new_stamp();
    heap->open_count = 1;
    heap->process = os->process();
    int error = os->mutex_create(&heap->commit_mutex);
    if (!error) error = os->mutex_create(&heap->roots_mutex);
    if (!error) return heap;
    (void)base_fail_os(error, NO_OFFSET, "cannot make a heap's locks");
    heap_abandon(heap);
    return NULL;
}

evh_status heap_end(evh_heap *heap)
{
    assert(!heap->compact || !heap->has_slices);
    assert(heap != NULL);
    heap_debug_end(heap);
    types_end(heap);
    /* The journal's last checkpoint asks the slices where checksums are kept: it goes first. */
    evh_status status = journal_close(heap->journal);
    if (heap->compact)
        compact_close(heap);
    else if (heap->has_slices)
        slices_close(heap);
    live_detach(heap->live);
    const evh_status closed = region_close(heap->region);
    if (!status) status = closed;
    if (heap->memory) (void)os->release(heap->memory, heap->memory_bytes);
    if (heap->roots_mutex) os->mutex_end(heap->roots_mutex);
    if (heap->commit_mutex) os->mutex_end(heap->commit_mutex);
    os->memory_free(heap);
    return status;
}

void heap_abandon(evh_heap *heap)
{
    assert(heap != NULL);
    const evh_error why = *evh_last_error();
    assert(why.status != EVH_OK);
    /* Closing would checkpoint, into a file that is refused or that another process has. */
    if (heap->mode == EVH_DURABLE) {
        journal_abandon(heap->journal);
        heap->journal = NULL;
    }
    if (heap_end(heap)) (void)base_fail(why.status, why.offset, "%s", why.message);
}

/* ---- opening a file ---- */

/* The region and the journal are there: the rest of the handle follows from them. */
static void open_settle(evh_heap *heap)
{
    assert(heap->region != NULL);
    assert(heap->state.heap_bytes % SLICE_BYTES == 0);
    evh_info info = {0};
    heap->view.base = heap->region->base;
    heap->view.end_bytes = heap->state.heap_bytes;
    heap->looked_bytes = heap->state.heap_bytes;
    if (!heap->journal) return;
    journal_set_checksums(heap->journal, slices_checksum_slice, slices_is_checksum, heap);
    journal_info(heap->journal, &info);
    heap->needs_touch = info.detect == EVH_DETECT_PROTECT || heap->options.guards;
}

static void open_expect_run(uint64_t offset, uint64_t size, void *context)
{
    assert(size > 0);
    const struct region *region = context;
    if (os->expect_scattered) os->expect_scattered(region->base + offset, size);
}

static evh_status open_existing(evh_heap *heap, const char *path)
{
    assert(path != NULL);
    assert(heap->mode != EVH_MEMORY);
    assert(heap->region == NULL);
    evh_status status = region_open(path, &heap->options, &heap->region);
    if (status) return status;
    if (heap->mode == EVH_LIVE) {
        status = live_attach(heap);
        heap->has_slices = !status;
        return status;
    }
    if (heap->region->header.mode == EVH_LIVE) {
        status = live_copy_open(heap);
    } else {
        status = journal_open(heap->region, &heap->options, &heap->journal, &heap->state);
    }
    if (status) return status;
    if (heap->options.scattered)
        region_each_run(heap->region, heap->region->mapped_bytes, open_expect_run, heap->region);
    open_settle(heap);
    status = slices_open(heap);
    heap->has_slices = !status;
    return status;
}

/* Fill a new region: the allocator's metadata, then the catalog, which it allocates. */
static evh_status open_format(evh_heap *heap)
{
    assert(heap->region != NULL);
    assert(heap->journal == NULL);
    assert(heap->mode == EVH_DURABLE);
    heap->state = (struct journal_state){.heap_bytes = REGION_NEW_BYTES};
    open_settle(heap);
    evh_status status = slices_create(heap);
    if (status) return status;
    status = slices_open(heap);
    if (status) return status;
    heap->has_slices = true;
    return roots_create(heap);
}

/* Build the file out of sight, then give it its name. */
static evh_status open_create(evh_heap *heap, const char *path)
{
    assert(heap->region == NULL);
    assert(heap->mode == EVH_DURABLE);
    evh_status status = region_create(path, &heap->options, &heap->region);
    if (status) return status;
    status = open_format(heap);
    if (status) return status;
    slices_fold(heap);
    status = journal_create(heap->region, &heap->state, &heap->options, &heap->journal);
    if (status) return status;
    open_settle(heap);
    status = region_publish(heap->region);
    if (status) return status;
    return journal_published(heap->journal);
}

/* Whether the file at `path` begins as an image of the compact layout; its size. */
static bool open_is_compact(const char *path, int *file, uint64_t *size)
{
    assert(path != NULL);
    assert(file != NULL);
    assert(size != NULL);
    unsigned char start[64];
    struct os_file_info info;
    size_t done = 0;
    if (os->open(path, 0, 0, file)) return false;
    if (!os->information(*file, &info) && info.is_regular &&
        !os->read(*file, 0, start, sizeof start, &done) && done == sizeof start &&
        compact_is_image(start, info.size_bytes)) {
        *size = info.size_bytes;
        return true;
    }
    (void)os->close(*file);
    return false;
}

/* Read a whole file into memory of the heap's own. */
static evh_status open_read_file(evh_heap *heap, const char *path, int file, uint64_t size)
{
    assert(file >= 0);
    assert(size > 0);
    assert(heap->memory == NULL);
    heap->memory_bytes = base_round_up(size, PAGE_BYTES);
    int error = os->reserve(heap->memory_bytes, PAGE_BYTES, 0, &heap->memory);
    if (error) heap->memory = NULL;
    if (!error) error = os->map(heap->memory, heap->memory_bytes, OS_MAP_ANONYMOUS, -1, 0);
    if (error)
        return base_fail_os(error, NO_OFFSET, "%s: no %llu bytes of memory to read it", path,
                            (unsigned long long)size);
    size_t done = 0;
    error = os->read(file, 0, heap->memory, size, &done);
    if (error) return base_fail_os(error, 0, "%s: cannot read it", path);
    if (done < size)
        return base_fail(EVH_TRUNCATED, done, "%s: it became shorter while it was read", path);
    return EVH_OK;
}

/* A saved heap of the compact layout: nothing but memory can hold it. `refused` is what the region
 * said: the answer if it is no such image. */
static evh_status open_compact_file(evh_heap *heap, const char *path, evh_status refused)
{
    assert(heap->region == NULL);
    const evh_error why = *evh_last_error();
    assert(why.status == refused);
    int file = -1;
    uint64_t size = 0;
    if (!open_is_compact(path, &file, &size))
        return base_fail(refused, why.offset, "%s", why.message);
    evh_status status = EVH_OK;
    if (heap->mode == EVH_DURABLE)
        status = base_fail(EVH_MODE, NO_OFFSET,
                           "%s: the image of a heap in a small buffer: read it into a buffer for "
                           "evh_open_memory(), or open it private or read-only",
                           path);
    else if (size > COMPACT_FILE_MAX)
        status = base_fail(EVH_LIMIT, NO_OFFSET, "%s: %llu bytes are too large an image", path,
                           (unsigned long long)size);
    if (!status) status = open_read_file(heap, path, file, size);
    (void)os->close(file);
    if (status) return status;
    status = compact_open(heap, heap->memory, size);
    if (status) {
        const evh_error met = *evh_last_error();
        return base_fail(status, met.offset, "%s: %s", path, met.message);
    }
    if (heap->mode == EVH_READ_ONLY) (void)os->protect(heap->memory, heap->memory_bytes, false);
    return EVH_OK;
}

/* What a failed attempt put into the handle goes, so that another attempt can begin. */
static evh_status open_again(evh_heap **heap)
{
    assert(*heap != NULL);
    const evh_options options = (*heap)->options;
    heap_abandon(*heap);
    *heap = heap_new(&options);
    if (*heap) return EVH_OK;
    const evh_status status = evh_last_error()->status;
    return NEVER(status == EVH_OK) ? EVH_NO_MEMORY : status;
}

static evh_status open_path(evh_heap **heap, const char *path)
{
    assert(path != NULL);
    const evh_options options = (*heap)->options;
    struct os_file_info info;
    evh_status status = EVH_NOT_FOUND;
    if (options.must_create && !os->information_at(path, &info))
        return base_fail(EVH_EXISTS, NO_OFFSET, "%s: it exists already", path);
    if (!options.must_create) status = open_existing(*heap, path);
    if (status == EVH_NOT_HEAP) return open_compact_file(*heap, path, status);
    const bool makes = options.mode == EVH_DURABLE || options.mode == EVH_LIVE;
    if (status != EVH_NOT_FOUND || options.must_exist || !makes) return status;
    assert((*heap)->region == NULL);
    if (options.mode == EVH_LIVE) {
        status = live_create(path, &options);
        return status && (status != EVH_EXISTS || options.must_create) ? status
                                                                       : open_existing(*heap, path);
    }
    status = open_create(*heap, path);
    if (status != EVH_EXISTS || options.must_create) return status;
    /* Another process was faster: its heap is as good as ours. */
    status = open_again(heap);
    return status ? status : open_existing(*heap, path);
}

/* The heap, with its log of operations if it is to have one; it is closed if that cannot be. */
static evh_heap *open_log(evh_heap *heap)
{
    assert(heap->view.base != NULL);
    if (!heap->live || !heap_log_begin(heap)) return heap;
    const evh_error why = *evh_last_error();
    assert(why.status != EVH_OK);
    (void)evh_close(heap);
    (void)base_fail(why.status, why.offset, "%s", why.message);
    return NULL;
}

evh_heap *evh_open(const char *path, const evh_options *options)
{
    evh_options chosen;
    if (!path || !path[0]) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "no path: it is %s", path ? "empty" : "null");
        return NULL;
    }
    if (heap_options(path, options, &chosen)) return NULL;
    if (chosen.mode == EVH_MEMORY) {
        (void)base_fail(EVH_MODE, NO_OFFSET, "%s: a heap in memory has no path: evh_open_memory()",
                        path);
        return NULL;
    }
    chosen.compact = chosen.unlisted = false; /* for evh_open_memory() */
    evh_heap *heap = heap_new(&chosen);
    if (!heap) return NULL;
    evh_status status = open_path(&heap, path);
    if (!heap) return NULL;
    if (!status) status = heap_debug_begin(heap);
    if (!status) status = heap_table_lock();
    if (!status) {
        status = heap_table_add(heap);
        heap_table_unlock();
    }
    if (!status) {
        heap_find_span(heap);
        /* Last: an opening that fails leaves the status page as it was, too. */
        if (heap->journal && heap->mode == EVH_DURABLE) journal_announce(heap->journal);
        assert(heap->view.base != NULL);
        assert(heap->compact || heap->has_slices);
        return open_log(heap);
    }
    heap_abandon(heap);
    return NULL;
}

evh_status evh_close(evh_heap *heap)
{
    if (!heap) return EVH_OK;
    /* It can fail only in a forked child, which is alone in its process. */
    const evh_status locked = heap_table_lock();
    assert(heap->open_count > 0);
    assert(heap->view.base != NULL);
    if (heap->open_count == 1) heap_run_hooks(heap, HEAP_CLOSING);
    const bool is_last = --heap->open_count == 0;
    if (is_last && !heap->options.unlisted) heap_table_remove(heap);
    if (!locked) heap_table_unlock();
    return is_last ? heap_end(heap) : EVH_OK;
}
