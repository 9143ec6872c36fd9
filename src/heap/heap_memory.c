/* heap_memory.c -- heaps without a file: in anonymous memory, or in a buffer of the caller's.
 *
 * A buffer of at least 1 MiB at a multiple of 64 KiB, and anonymous memory from there, has the
 * layout of a file: slices, and in slice 0 a header of mode EVH_MEMORY that always tells the heap's
 * end and its catalog, so that a copy of the buffer taken at any quiet moment is an image.
 * Everything else has the compact layout (compact.c), whose header does the same.
 *
 * An image is attached where it lies and recognised by its magic. The file of a durable heap, read
 * into a buffer, can be attached too, if its journal holds nothing: recovery is for files.
 * Attaching turns it into a memory heap's image, because changes made in memory would betray the
 * checksums that its old header vouches for.
 */
#include "heap/compact_layout.h"
#include "heap/heap.h"
#include "journal/journal_layout.h"

#define MEMORY_SLICES_MIN (1ull << 20) /* below, metadata in slices would take a fifth and more */

enum { MEMORY_BUFFER_MIN = 1024 };

static const char memory_path[] = "memory";

/* ---- the header in slice 0 ---- */

static uint32_t memory_crc(const struct region_header *header)
{
    assert(header != NULL);
    return base_crc32c(0, header, offsetof(struct region_header, crc));
}

void heap_store_header(evh_heap *heap)
{
    assert(heap->mode == EVH_MEMORY);
    assert(!heap->compact);
    struct region_header *header = &heap->region->header;
    header->heap_bytes = heap->state.heap_bytes;
    header->catalog = heap->state.catalog;
    header->crc = memory_crc(header);
    memcpy(heap->region->base, header, sizeof *header);
}

/* The header of an image made here. It names nothing random: the same operations give the same
 * bytes. */
static void memory_begin_header(struct region *region)
{
    assert(region->base != NULL);
    assert(!region_has_file(region));
    assert(region->mapped_bytes >= REGION_NEW_BYTES);
    region->header = region_new_header(EVH_MEMORY, region->reserved_bytes);
    region->header.generation = 1;
    memset(region->base, 0, REGION_FIRST_EXTENT_OFFSET);
}

/* Verify a header of either mode; `*is_memory` tells which. The region knows durable headers only,
 * so it is shown what this one would be as one. */
static evh_status memory_check_header(const struct region_header *header, uint64_t offset,
                                      uint64_t size, bool *is_memory)
{
    assert(header != NULL);
    assert(is_memory != NULL);
    assert(offset < size);
    struct region_header durable = *header;
    *is_memory = header->mode == EVH_MEMORY && header->crc == memory_crc(header);
    if (*is_memory) {
        durable.mode = EVH_DURABLE;
        durable.crc = memory_crc(&durable);
    }
    return region_check_header(&durable, memory_path, offset, size);
}

/* Choose the newest valid slot. */
static evh_status memory_read_header(const unsigned char *buffer, uint64_t size,
                                     struct region_header *header, bool *is_memory)
{
    assert(header != NULL);
    assert(is_memory != NULL);
    assert(size >= REGION_FIRST_EXTENT_OFFSET);
    evh_status status = EVH_OK;
    evh_error why = {0};
    bool is_found = false;
    for (unsigned slot = 0; slot < REGION_SLOT_COUNT; slot++) {
        struct region_header found;
        bool found_memory = false;
        const uint64_t offset = (uint64_t)slot * REGION_SLOT_STRIDE;
        memcpy(&found, buffer + offset, sizeof found);
        status = memory_check_header(&found, offset, size, &found_memory);
        if (status && (slot == 0 || why.status == EVH_NOT_HEAP)) why = *evh_last_error();
        if (status || (is_found && found.generation <= header->generation)) continue;
        *header = found;
        *is_memory = found_memory;
        is_found = true;
    }
    return is_found ? EVH_OK : base_fail(why.status, why.offset, "%s", why.message);
}

/* Whether the record after the checkpointed commit is at `offset`. */
static bool memory_has_record(const unsigned char *buffer, uint64_t size, uint64_t offset,
                              const struct region_header *header)
{
    assert(buffer != NULL);
    assert(header->magic == REGION_MAGIC);
    struct journal_record record;
    if (!base_in_range(offset, sizeof record, size)) return false;
    memcpy(&record, buffer + offset, sizeof record);
    return record.magic == JOURNAL_MAGIC && record.sequence == header->sequence + 1 &&
           record.previous_salt == header->chain_salt && record.previous_crc == header->chain_crc;
}

/* Whether a durable heap's image holds commits that are not at home. */
static bool memory_needs_recovery(const unsigned char *buffer, uint64_t size,
                                  const struct region_header *header)
{
    assert(buffer != NULL);
    assert(header->mode == EVH_DURABLE);
    if (header->incompatible & REGION_FEATURE_BULK) return true;
    if (memory_has_record(buffer, size, header->tail_offset, header)) return true;
    if (memory_has_record(buffer, size, REGION_FIRST_EXTENT_OFFSET, header)) return true;
    for (unsigned i = 0; i < REGION_EXTENT_MAX && header->extents[i].slice_count; i++) {
        const uint64_t offset = (uint64_t)header->extents[i].first_slice << SLICE_SHIFT;
        if (memory_has_record(buffer, size, offset, header)) return true;
    }
    return false;
}

/* ---- slices ---- */

static void memory_settle(evh_heap *heap)
{
    assert(!region_has_file(heap->region));
    assert(heap->region->mapped_bytes >= heap->state.heap_bytes);
    heap->view.base = heap->region->base;
    heap->view.end_bytes = heap->state.heap_bytes;
}

static evh_status memory_format(evh_heap *heap)
{
    assert(heap->mode == EVH_MEMORY);
    assert(heap->region != NULL);
    heap->state = (struct journal_state){.heap_bytes = REGION_NEW_BYTES};
    memory_settle(heap);
    memory_begin_header(heap->region);
    evh_status status = slices_create(heap);
    if (!status) status = slices_open(heap);
    if (status) return status;
    heap->has_slices = true;
    status = roots_create(heap);
    if (!status) heap_store_header(heap);
    return status;
}

static evh_status memory_open_anonymous(evh_heap *heap, uint64_t size_bytes)
{
    assert(heap->region == NULL);
    assert(heap->mode == EVH_MEMORY);
    const uint64_t size_max = size_bytes ? size_bytes : heap->options.size_max_bytes;
    const evh_status status = region_open_memory(size_max, REGION_NEW_BYTES,
                                                 heap->options.preferred_address, &heap->region);
    return status ? status : memory_format(heap);
}

static evh_status memory_attach(evh_heap *heap, unsigned char *buffer, uint64_t size)
{
    assert((uintptr_t)buffer % SLICE_BYTES == 0);
    assert(size >= REGION_NEW_BYTES);
    struct region_header header;
    bool is_memory = false;
    evh_status status = memory_read_header(buffer, size, &header, &is_memory);
    if (status) return status;
    if (!is_memory && memory_needs_recovery(buffer, size, &header))
        return base_fail(EVH_MODE, header.tail_offset,
                         "memory: the image has commits in its journal: open its file once with "
                         "evh_open(), which brings them home");
    status = region_open_buffer(buffer, size, &heap->region);
    if (status) return status;
    heap->state.heap_bytes = header.heap_bytes;
    heap->state.catalog = header.catalog;
    heap->region->header = header;
    heap->region->header.mode = EVH_MEMORY;
    memory_settle(heap);
    status = slices_open(heap);
    if (status) return status;
    heap->has_slices = true;
    if (is_memory) return EVH_OK;
    memset(buffer + REGION_SLOT_STRIDE, 0, REGION_SLOT_BYTES); /* slot B: of the durable heap */
    heap_store_header(heap);
    return EVH_OK;
}

/* ---- which layout a buffer gets, and which it has ---- */

static bool memory_is_slices_image(const unsigned char *buffer, uint64_t size)
{
    assert(buffer != NULL);
    uint64_t magic;
    if (NEVER(size < sizeof magic)) return false;
    memcpy(&magic, buffer, sizeof magic);
    return magic == REGION_MAGIC || magic == __builtin_bswap64(REGION_MAGIC);
}

/* Where a compact image begins: at the buffer's first address that is a multiple of 16. */
static unsigned char *memory_compact_start(void *buffer)
{
    assert(buffer != NULL);
    return (unsigned char *)buffer + (16 - (uintptr_t)buffer % 16) % 16;
}

/* The image is there, but not where it can be used: formatting over it would destroy it. */
static evh_status memory_misplaced(const void *buffer, const char *where)
{
    assert(buffer != NULL);
    assert(where != NULL);
    return base_fail(EVH_INVALID, NO_OFFSET,
                     "memory: the image in the buffer at %p needs an address that is %s", buffer,
                     where);
}

/* Attach the image that the buffer holds; EVH_OK and no layout if it holds none. */
static evh_status memory_attach_image(evh_heap *heap, unsigned char *buffer, uint64_t size)
{
    assert(buffer != NULL);
    assert(size >= MEMORY_BUFFER_MIN);
    assert(!heap->options.must_create);
    unsigned char *start = memory_compact_start(buffer);
    if (memory_is_slices_image(buffer, size)) {
        if (size < REGION_NEW_BYTES)
            return base_fail(EVH_TRUNCATED, size, "memory: the image's end is missing");
        if ((uintptr_t)buffer % SLICE_BYTES == 0) return memory_attach(heap, buffer, size);
        return memory_misplaced(buffer, "a multiple of 64 KiB");
    }
    for (unsigned skip = 0; skip < 16; skip++) {
        if (!compact_is_image(buffer + skip, size - skip)) continue;
        if (buffer + skip == start) return compact_open(heap, start, size - skip);
        return memory_misplaced(buffer, "as far from a multiple of 16 as that where it was made");
    }
    return EVH_OK;
}

static evh_status memory_open_buffer(evh_heap *heap, void *buffer, uint64_t size)
{
    assert(buffer != NULL);
    assert(heap->region == NULL);
    assert(size >= MEMORY_BUFFER_MIN);
    evh_status status = EVH_OK;
    if (!heap->options.must_create) status = memory_attach_image(heap, buffer, size);
    if (status || heap->compact || heap->region) return status;
    if (heap->options.must_exist)
        return base_fail(EVH_NOT_HEAP, 0, "memory: the buffer at %p holds no heap", buffer);
    if (heap->options.compact || (uintptr_t)buffer % SLICE_BYTES != 0 || size < MEMORY_SLICES_MIN) {
        unsigned char *start = memory_compact_start(buffer);
        return compact_create(heap, start, size - (uint64_t)(start - (unsigned char *)buffer));
    }
    status = region_open_buffer(buffer, size, &heap->region);
    return status ? status : memory_format(heap);
}

/* A small heap in memory of its own. */
static evh_status memory_open_small(evh_heap *heap, uint64_t size)
{
    assert(size < MEMORY_SLICES_MIN || heap->options.compact);
    assert(heap->memory == NULL);
    assert(size >= MEMORY_BUFFER_MIN);
    heap->memory_bytes = base_round_up(size, PAGE_BYTES);
    int error = os->reserve(heap->memory_bytes, PAGE_BYTES, 0, &heap->memory);
    if (error) heap->memory = NULL;
    if (!error) error = os->map(heap->memory, heap->memory_bytes, OS_MAP_ANONYMOUS, -1, 0);
    if (error)
        return base_fail_os(error, NO_OFFSET, "memory: no %llu bytes", (unsigned long long)size);
    return compact_create(heap, heap->memory, size);
}

static evh_status memory_open_new(evh_heap *heap, void *buffer, uint64_t size)
{
    assert(heap->mode == EVH_MEMORY);
    assert(heap->view.base == NULL);
    evh_status status = EVH_OK;
    if (buffer)
        status = memory_open_buffer(heap, buffer, size);
    else if (size && (size < MEMORY_SLICES_MIN || heap->options.compact))
        status = memory_open_small(heap, size);
    else
        status = memory_open_anonymous(heap, size);
    if (!status) heap_find_span(heap);
    if (!status) status = heap_debug_begin(heap);
    return status || heap->options.unlisted ? status : heap_table_add(heap);
}

/* Everything about the arguments that can be refused. */
static evh_status memory_check_arguments(const void *buffer, uint64_t size,
                                         const evh_options *given, evh_options *options)
{
    assert(options != NULL);
    const evh_status status = heap_options(memory_path, given, options);
    if (status) return status;
    if (options->mode != EVH_DURABLE && options->mode != EVH_MEMORY)
        return base_fail(EVH_INVALID, NO_OFFSET,
                         "memory: a heap in memory is neither read-only nor private");
    options->mode = EVH_MEMORY;
    if (size < MEMORY_BUFFER_MIN && (buffer || size))
        return base_fail(EVH_INVALID, NO_OFFSET, "memory: %llu bytes: a heap needs at least 1024",
                         (unsigned long long)size);
    if (size > REGION_SIZE_MAX)
        return base_fail(EVH_INVALID, NO_OFFSET, "memory: %llu bytes: above 128 TiB",
                         (unsigned long long)size);
    if ((uintptr_t)buffer > UINTPTR_MAX - size)
        return base_fail(EVH_INVALID, NO_OFFSET, "memory: the buffer at %p ends behind all memory",
                         buffer);
    if (!buffer && !size && options->compact)
        return base_fail(EVH_INVALID, NO_OFFSET, "memory: a compact heap needs a size");
    if (!buffer && options->must_exist)
        return base_fail(EVH_NOT_HEAP, NO_OFFSET, "memory: new memory holds no heap");
    return EVH_OK;
}

/* The heap that lives in the buffer already, counted; NULL and no failure if there is none. */
static evh_heap *memory_find_open(void *buffer, const evh_options *options, evh_status *status)
{
    assert(options != NULL);
    assert(status != NULL);
    *status = EVH_OK;
    if (!buffer || options->unlisted) return NULL;
    evh_heap *heap = heap_table_find(buffer);
    if (!heap) heap = heap_table_find(memory_compact_start(buffer));
    if (!heap) return NULL;
    if (options->must_create) {
        *status =
            base_fail(EVH_BUSY, NO_OFFSET, "memory: the heap in the buffer at %p is open", buffer);
        return NULL;
    }
    heap->open_count++;
    return heap;
}

static evh_heap *memory_open(void *buffer, uint64_t size_bytes, const evh_options *options,
                             bool has_magazines)
{
    evh_options chosen;
    if (memory_check_arguments(buffer, size_bytes, options, &chosen)) return NULL;
    /* Locked until the heap is known, so that a buffer is opened by one thread only. */
    if (heap_table_lock()) return NULL;
    evh_status status = EVH_OK;
    evh_heap *heap = memory_find_open(buffer, &chosen, &status);
    if (!heap && !status) {
        heap = heap_new(&chosen);
        if (heap) heap->has_magazines = has_magazines;
        status = heap ? memory_open_new(heap, buffer, size_bytes) : EVH_NO_MEMORY;
        if (heap && status) {
            heap_abandon(heap);
            heap = NULL;
        }
    }
    heap_table_unlock();
    assert(!heap || heap->open_count > 0);
    assert(!heap || heap->view.base);
    assert(!heap == (status != EVH_OK));
    return heap;
}

evh_heap *evh_open_memory(void *buffer, size_t size_bytes, const evh_options *options)
{
    return memory_open(buffer, size_bytes, options, false);
}

EVH_INTERNAL evh_heap *heap_open_magazines(uint64_t size_bytes, const evh_options *options)
{
    assert(!options || !options->compact);
    assert(size_bytes == 0 || size_bytes >= MEMORY_SLICES_MIN);
    return memory_open(NULL, size_bytes, options, true);
}
