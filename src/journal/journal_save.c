/* journal_save.c -- write a heap, as it is now, as a new file: complete or not at all. */
#include "journal/journal_internal.h"

/* Take the finished temporary file to its name, or give it up. */
static evh_status save_finish(int file, const char *path, bool replace, evh_status status)
{
    assert(file >= 0);
    assert(path != NULL);
    int error = status ? 0 : os->flush(file);
    if (!status && !error) error = os->publish(file, path, replace);
    if (!status && error)
        status = base_fail_os(error, NO_OFFSET, "%s: cannot save a heap there", path);
    const int close_error = os->close(file);
    if (status) return status;
    error = os->flush_directory(path);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot make its name last", path);
    if (close_error) return base_fail_os(close_error, NO_OFFSET, "%s: cannot close it", path);
    return EVH_OK;
}

static evh_status save_begin(const char *path, unsigned permissions, uint64_t size, int *file)
{
    assert(size > 0);
    assert(file != NULL);
    int error = os->open_temporary(path, permissions ? permissions : 0600, file);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot save a heap there", path);
    error = os->allocate(*file, 0, size);
    if (!error) return EVH_OK;
    (void)os->close(*file);
    return base_fail_os(error, NO_OFFSET, "%s: no space to save %llu bytes there", path,
                        (unsigned long long)size);
}

evh_status journal_save_bytes(const void *data, uint64_t size, const char *path,
                              unsigned permissions, bool replace)
{
    assert(size > 0);
    assert(data != NULL);
    int file = -1;
    evh_status status = save_begin(path, permissions, size, &file);
    if (status) return status;
    const int error = os->write(file, 0, data, size);
    if (error) status = base_fail_os(error, 0, "%s: cannot write it", path);
    return save_finish(file, path, replace, status);
}

evh_status journal_flush_shared(struct region *region)
{
    assert(region->mode == EVH_LIVE);
    assert(region_has_file(region));
    const int error = os->flush(region->file);
    return error ? base_fail_os(error, NO_OFFSET, "%s: cannot write it to the disk", region->path)
                 : EVH_OK;
}

/* The slices that hold checksums: they are written by page, not copied. */
struct save_slices {
    uint32_t *slices;
    size_t count;
};

static evh_status save_find_checksums(uint64_t heap_bytes, journal_checksum_slice *find,
                                      void *context, struct save_slices *out)
{
    assert(out->count == 0);
    assert(heap_bytes > 0);
    const uint64_t segments = (heap_bytes + SEGMENT_BYTES - 1) >> SEGMENT_SHIFT;
    out->slices = os->memory_allocate(segments * sizeof *out->slices);
    if (!out->slices) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to save a heap");
    for (uint64_t segment = 0; segment < segments; segment++) {
        const uint64_t offset = find ? find(context, segment) : 0;
        if (offset) out->slices[out->count++] = (uint32_t)(offset >> SLICE_SHIFT);
    }
    return EVH_OK;
}

static bool save_is_checksum(const struct save_slices *set, uint64_t slice)
{
    assert(set != NULL);
    assert(slice > 0);
    for (size_t i = 0; i < set->count; i++)
        if (set->slices[i] == slice) return true;
    return false;
}

struct save_run {
    const struct region *source;
    struct region *target;
    const struct save_slices *checksums;
    struct checksum_writer sums;
    evh_status status;
};

static void save_slice(struct save_run *run, uint64_t slice)
{
    assert(slice > 0);
    assert(run->status == EVH_OK);
    const unsigned char *bytes = run->source->base + (slice << SLICE_SHIFT);
    bool is_zero = true;
    for (uint64_t i = 0; i < SLICE_PAGES && !run->status; i++) {
        const unsigned char *image = bytes + (i << PAGE_SHIFT);
        if (page_is_zero(image)) continue;
        is_zero = false;
        const uint64_t page = slice * SLICE_PAGES + i;
        run->status =
            checksum_put(&run->sums, page, page_checksum(run->target->header.uuid, page, image));
    }
    if (is_zero || run->status) return;
    const int error = os->write(run->target->file, slice << SLICE_SHIFT, bytes, SLICE_BYTES);
    if (error)
        run->status =
            base_fail_os(error, slice << SLICE_SHIFT, "%s: cannot write it", run->target->path);
}

static void save_one_run(uint64_t offset, uint64_t size, void *context)
{
    assert(offset % SLICE_BYTES == 0);
    assert(size % SLICE_BYTES == 0);
    struct save_run *run = context;
    const uint64_t end = (offset + size) >> SLICE_SHIFT;
    for (uint64_t slice = offset >> SLICE_SHIFT; slice < end && !run->status; slice++)
        if (!save_is_checksum(run->checksums, slice)) save_slice(run, slice);
}

/* The header of the copy: a heap of its own, with the same journal extents, all empty. */
static void save_header(const struct region *source, const struct journal_state *state,
                        struct region *target)
{
    assert(state->catalog != 0);
    assert(target != source);
    assert(source->base != NULL);
    struct region_header *header = &target->header;
    *header = region_new_header(EVH_DURABLE, source->header.size_max_bytes);
    header->created_ns = os->time_ns();
    header->preferred_address = (uint64_t)(uintptr_t)source->base;
    header->heap_bytes = state->heap_bytes;
    header->catalog = state->catalog;
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++)
        header->extents[i] = region_extent_at(source, i);
    os->random(header->uuid, sizeof header->uuid);
    os->random(&header->chain_salt, sizeof header->chain_salt);
    target->slot = REGION_SLOT_COUNT - 1;
}

/* The first extent is where the next commits go: written once, so that their flush need not touch
 * the file system's own metadata. */
static evh_status save_first_slice(struct region *target)
{
    assert(target->file >= 0);
    assert(target->lock_file < 0);
    unsigned char *zeroes = os->memory_allocate(SLICE_BYTES);
    if (!zeroes) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to save a heap");
    const int error = os->write(target->file, 0, zeroes, SLICE_BYTES);
    os->memory_free(zeroes);
    if (error) return base_fail_os(error, 0, "%s: cannot write it", target->path);
    return EVH_OK;
}

evh_status journal_save(const struct region *source, const struct journal_state *state,
                        const char *path, unsigned permissions, journal_checksum_slice *find,
                        void *context, struct journal *journal)
{
    assert(state->heap_bytes > 0);
    assert(path != NULL);
    assert(state->heap_bytes % SLICE_BYTES == 0);
    uint64_t end_bytes = state->heap_bytes;
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent e = region_extent_at(source, i);
        end_bytes = base_max(end_bytes, ((uint64_t)e.first_slice + e.slice_count) << SLICE_SHIFT);
    }
    char name[256];
    size_t length = strlen(path);
    if (length >= sizeof name) length = sizeof name - 1;
    memcpy(name, path + strlen(path) - length, length);
    name[length] = 0;
    struct region target = {.path = name, .file = -1, .lock_file = -1, .mode = EVH_DURABLE};
    struct save_slices checksums = {NULL, 0};
    evh_status status = save_begin(path, permissions, end_bytes, &target.file);
    if (status) return status;
    save_header(source, state, &target);
    status = save_find_checksums(state->heap_bytes, find, context, &checksums);
    if (!status) status = save_first_slice(&target);
    const struct journal_checksums where = {.find = find, .context = context};
    struct save_run run = {
        .source = source,
        .target = &target,
        .checksums = &checksums,
        .sums = {.region = &target, .checksums = &where},
        .status = status,
    };
    if (!status) region_each_run(source, state->heap_bytes, save_one_run, &run);
    if (!run.status) run.status = checksum_finish(&run.sums);
    if (!run.status) {
        struct region_header next = target.header;
        bool flush_failed = false;
        run.status = region_write_header(&target, &next, &flush_failed);
    }
    os->memory_free(checksums.slices);
    if (!run.status && journal && journal->has_view && !journal_view_valid(journal))
        run.status = base_fail(EVH_STALE, NO_OFFSET,
                               "%s: the view was left behind while it was saved", source->path);
    return save_finish(target.file, path, true, run.status);
}
