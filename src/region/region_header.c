/* region_header.c -- the two header slots and the status page.
 *
 * A header is one sector, written alternately into two pages, so that a torn or lost write leaves
 * the other slot whole. Invariants:
 *
 *  1. The valid slot with the highest generation is the header. Its generation is never written
 *     again; the next write goes to the other slot with generation + 1.
 *  2. Nothing that the header in use refers to is overwritten before a newer header is durable.
 *  3. The status page is for processes of one machine. It is exact in the cache that its writer
 *     left, and elsewhere believed only as far as being wrong can do no harm (docs/crash-model.md).
 */
#include "region/region.h"

static uint64_t header_slot_offset(unsigned slot)
{
    assert(slot < REGION_SLOT_COUNT);
    return (uint64_t)slot * REGION_SLOT_STRIDE;
}

static uint32_t header_crc(const struct region_header *header)
{
    assert(header != NULL);
    return base_crc32c(0, header, offsetof(struct region_header, crc));
}

struct region_header region_new_header(uint32_t mode, uint64_t size_max_bytes)
{
    assert(mode == EVH_DURABLE || mode == EVH_LIVE || mode == EVH_MEMORY);
    return (struct region_header){
        .magic = REGION_MAGIC,
        .format_version = REGION_FORMAT_VERSION,
        .byte_order = REGION_BYTE_ORDER,
        .page_bytes = PAGE_BYTES,
        .slice_shift = SLICE_SHIFT,
        .mode = mode,
        .size_max_bytes = size_max_bytes,
        .tail_offset = REGION_FIRST_EXTENT_OFFSET,
    };
}

/* The journal extents must be slice-aligned, apart from each other, and inside the file. */
static evh_status header_check_extents(const struct region_header *header, const char *path,
                                       uint64_t offset, uint64_t file_bytes)
{
    assert(header != NULL);
    assert(path != NULL);
    const uint64_t file_slices = file_bytes >> SLICE_SHIFT;
    bool ended = false;
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent *a = &header->extents[i];
        const uint64_t at = offset + offsetof(struct region_header, extents) + i * sizeof *a;
        if (a->slice_count == 0) {
            ended = true;
            continue;
        }
        if (ended || a->first_slice < 2)
            return base_fail(EVH_CORRUPT, at, "%s: header: journal extent %u is out of order", path,
                             i);
        if (!base_in_range(a->first_slice, a->slice_count, file_slices))
            return base_fail(EVH_TRUNCATED, at,
                             "%s: the file ends at %llu, inside journal extent %u", path,
                             (unsigned long long)file_bytes, i);
        for (unsigned j = 0; j < i; j++) {
            const struct region_extent *b = &header->extents[j];
            if ((uint64_t)a->first_slice < (uint64_t)b->first_slice + b->slice_count &&
                (uint64_t)b->first_slice < (uint64_t)a->first_slice + a->slice_count)
                return base_fail(EVH_CORRUPT, at, "%s: header: journal extents %u and %u overlap",
                                 path, j, i);
        }
    }
    return EVH_OK;
}

/* Whether the journal's tail lies in an extent (or at its end), on a page boundary. */
static bool header_tail_is_sound(const struct region_header *header)
{
    assert(header != NULL);
    const uint64_t tail = header->tail_offset;
    if (tail % PAGE_BYTES != 0) return false;
    if (tail >= REGION_FIRST_EXTENT_OFFSET && tail <= SLICE_BYTES) return true;
    for (unsigned i = 0; i < REGION_EXTENT_MAX && header->extents[i].slice_count; i++) {
        const uint64_t first = (uint64_t)header->extents[i].first_slice << SLICE_SHIFT;
        const uint64_t size = (uint64_t)header->extents[i].slice_count << SLICE_SHIFT;
        if (tail >= first && tail - first <= size) return true;
    }
    return false;
}

/* What a reader must know before it can trust the rest: whose file, which order, which version. */
static evh_status header_check_kind(const struct region_header *header, const char *path,
                                    uint64_t offset)
{
    assert(header != NULL);
    assert(path != NULL);
    assert(offset % REGION_SLOT_STRIDE == 0);
    if (header->magic == __builtin_bswap64(REGION_MAGIC) ||
        (header->magic == REGION_MAGIC &&
         header->byte_order == __builtin_bswap32(REGION_BYTE_ORDER)))
        return base_fail(EVH_BYTE_ORDER, offset,
                         "%s: a heap written on a machine of the other byte order", path);
    if (header->magic != REGION_MAGIC)
        return base_fail(EVH_NOT_HEAP, offset, "%s: no heap: it does not begin as one", path);
    if (header->crc != header_crc(header))
        return base_fail(EVH_CORRUPT, offset, "%s: header: its checksum is wrong", path);
    if (header->byte_order != REGION_BYTE_ORDER)
        return base_fail(EVH_CORRUPT, offset + offsetof(struct region_header, byte_order),
                         "%s: header: no byte order mark", path);
    if (header->format_version != REGION_FORMAT_VERSION)
        return base_fail(EVH_VERSION, offset + offsetof(struct region_header, format_version),
                         "%s: file format version %u, this library knows version %u", path,
                         header->format_version, REGION_FORMAT_VERSION);
    if (header->incompatible & ~(uint64_t)REGION_INCOMPATIBLE_KNOWN)
        return base_fail(EVH_VERSION, offset + offsetof(struct region_header, incompatible),
                         "%s: uses features 0x%llx that this library lacks", path,
                         (unsigned long long)header->incompatible);
    if (header->page_bytes != PAGE_BYTES || header->slice_shift != SLICE_SHIFT)
        return base_fail(EVH_VERSION, offset + offsetof(struct region_header, page_bytes),
                         "%s: pages of %u bytes, slices of 2^%u: not of this version", path,
                         header->page_bytes, header->slice_shift);
    return EVH_OK;
}

evh_status region_check_header(const struct region_header *header, const char *path,
                               uint64_t offset, uint64_t file_bytes)
{
    assert(header != NULL);
    assert(path != NULL);
    evh_status status = header_check_kind(header, path, offset);
    if (status) return status;
    if (header->mode != EVH_DURABLE && header->mode != EVH_LIVE)
        return base_fail(EVH_MODE, offset + offsetof(struct region_header, mode),
                         "%s: made for mode %u, which this library cannot open", path,
                         header->mode);
    if (header->heap_bytes < REGION_NEW_BYTES || header->heap_bytes % SLICE_BYTES != 0 ||
        header->heap_bytes > REGION_SIZE_MAX || header->size_max_bytes > REGION_SIZE_MAX)
        return base_fail(EVH_CORRUPT, offset + offsetof(struct region_header, heap_bytes),
                         "%s: header: a heap of %llu bytes cannot be", path,
                         (unsigned long long)header->heap_bytes);
    /* The file may end before it: its growth was not flushed when the power went. */
    if ((header->incompatible & REGION_FEATURE_BULK) &&
        (header->bulk_bytes % SLICE_BYTES != 0 || header->bulk_bytes > REGION_SIZE_MAX))
        return base_fail(EVH_CORRUPT, offset + offsetof(struct region_header, bulk_bytes),
                         "%s: header: a commit cannot have been written up to %llu", path,
                         (unsigned long long)header->bulk_bytes);
    if (header->heap_bytes > file_bytes)
        return base_fail(EVH_TRUNCATED, file_bytes,
                         "%s: the file ends at %llu, the heap at %llu: its end was cut off", path,
                         (unsigned long long)file_bytes, (unsigned long long)header->heap_bytes);
    /* No heap ever gets there by itself, and counting on must not overflow. */
    if (header->generation >= REGION_SEQUENCE_MAX || header->sequence >= REGION_SEQUENCE_MAX)
        return base_fail(EVH_CORRUPT, offset + offsetof(struct region_header, generation),
                         "%s: header: generation %llu, commit %llu cannot be", path,
                         (unsigned long long)header->generation,
                         (unsigned long long)header->sequence);
    status = header_check_extents(header, path, offset, file_bytes);
    if (status) return status;
    if (!header_tail_is_sound(header))
        return base_fail(EVH_CORRUPT, offset + offsetof(struct region_header, tail_offset),
                         "%s: header: the journal cannot continue at %llu", path,
                         (unsigned long long)header->tail_offset);
    /* A live heap's catalog and its end are in slice 0, in words that change by themselves. */
    if (header->mode == EVH_LIVE) return EVH_OK;
    if (header->catalog == 0 || header->catalog >= header->heap_bytes)
        return base_fail(EVH_CORRUPT, offset + offsetof(struct region_header, catalog),
                         "%s: header: the catalog cannot be at %llu", path,
                         (unsigned long long)header->catalog);
    return EVH_OK;
}

/* Read one slot. EVH_TRUNCATED if the file has no room for it. */
static evh_status header_read_slot(struct region *region, unsigned slot,
                                   struct region_header *header)
{
    assert(region_has_file(region));
    assert(header != NULL);
    size_t done = 0;
    const uint64_t offset = header_slot_offset(slot);
    const int error = os->read(region->file, offset, header, sizeof *header, &done);
    if (error) return base_fail_os(error, offset, "%s: cannot read its header", region->path);
    if (done < sizeof *header) {
        memset((char *)header + done, 0, sizeof *header - done);
        if (done >= sizeof header->magic && header->magic == REGION_MAGIC)
            return base_fail(EVH_TRUNCATED, offset + done, "%s: a heap cut off after %llu bytes",
                             region->path, (unsigned long long)(offset + done));
        return base_fail(EVH_NOT_HEAP, offset + done, "%s: no heap: too short", region->path);
    }
    return EVH_OK;
}

/* Verify a slot that was read. Beside a reader the file grows, always before a header that says so:
 * measured again, it is long enough. And it shrinks, behind headers that say so: the slot is read
 * again, too. */
static evh_status header_check_slot(struct region *region, unsigned slot,
                                    struct region_header *header)
{
    assert(slot < REGION_SLOT_COUNT);
    assert(header != NULL);
    const uint64_t offset = header_slot_offset(slot);
    evh_status status = region_check_header(header, region->path, offset, region->file_bytes);
    if (status == EVH_TRUNCATED && region->mode != EVH_DURABLE && !region_measure(region)) {
        status = header_read_slot(region, slot, header);
        if (!status) status = region_check_header(header, region->path, offset, region->file_bytes);
    }
    return status;
}

/* A failure that tells more than another: what to report when neither slot is usable. */
static int header_failure_rank(evh_status status)
{
    assert(status < EVH_STATUS_COUNT);
    switch (status) {
    case EVH_IO: return 6;
    case EVH_VERSION: return 5;
    case EVH_BYTE_ORDER: return 4;
    case EVH_TRUNCATED: return 3;
    case EVH_MODE: return 2;
    case EVH_CORRUPT: return 1;
    default: return 0;
    }
}

evh_status region_read_header(struct region *region)
{
    assert(region_has_file(region));
    struct region_header slots[REGION_SLOT_COUNT];
    evh_status results[REGION_SLOT_COUNT];
    evh_error errors[REGION_SLOT_COUNT];
    int best = -1;
    int worst = 0;
    for (unsigned i = 0; i < REGION_SLOT_COUNT; i++) {
        results[i] = header_read_slot(region, i, &slots[i]);
        if (!results[i]) results[i] = header_check_slot(region, i, &slots[i]);
        errors[i] = *evh_last_error();
        if (!results[i] && (best < 0 || slots[i].generation > slots[best].generation))
            best = (int)i;
        if (results[i] && header_failure_rank(results[i]) > header_failure_rank(results[worst]))
            worst = (int)i;
    }
    /* A newer slot that is sound but of a newer version, or cut off, must not be passed over in
     * favour of an older one: that would lose what it says. A corrupt one is what the other slot is
     * there for. */
    for (unsigned i = 0; i < REGION_SLOT_COUNT && best >= 0; i++) {
        if (results[i] == EVH_OK || results[i] == EVH_CORRUPT || results[i] == EVH_NOT_HEAP)
            continue;
        worst = (int)i;
        best = -1;
    }
    if (best < 0) {
        const evh_error *e = &errors[worst];
        return base_fail(e->status, e->offset, "%s", e->message);
    }
    region->header = slots[best];
    region->slot = (unsigned)best;
    assert(region->slot < REGION_SLOT_COUNT);
    assert(region->header.magic == REGION_MAGIC);
    const unsigned other = (region->slot + 1) % REGION_SLOT_COUNT;
    const bool is_unused = slots[other].magic == 0 && slots[best].generation < 2;
    region->is_slot_torn = results[other] != EVH_OK && !is_unused;
    return EVH_OK;
}

/* What a write that failed has left in a slot is not known: perhaps the header that was to come,
 * and the next one to read the file would take it for the one in use. Write the one in use there,
 * as a newer one. */
static bool header_restore(struct region *region, unsigned slot, uint64_t generation)
{
    assert(slot < REGION_SLOT_COUNT);
    assert(generation == region->header.generation + 1);
    bool flush_failed = false;
    struct region_header header = region->header;
    header.generation = generation;
    header.crc = header_crc(&header);
    const struct os_part part = {&header, sizeof header};
    if (os->write_sync(region->file, header_slot_offset(slot), &part, 1, &flush_failed))
        return false;
    region->slot = slot;
    region->header.generation = generation;
    return true;
}

evh_status region_write_header(struct region *region, struct region_header *next,
                               bool *flush_failed)
{
    assert(region->slot < REGION_SLOT_COUNT);
    assert(flush_failed != NULL);
    assert(region_has_file(region));
    assert(next->magic == REGION_MAGIC);
    assert(header_tail_is_sound(next));
    const unsigned slot = PLANTED(3) ? region->slot : (region->slot + 1) % REGION_SLOT_COUNT;
    next->generation = region->header.generation + 1;
    next->crc = header_crc(next);
    const struct os_part part = {next, sizeof *next};
    const int error =
        os->write_sync(region->file, header_slot_offset(slot), &part, 1, flush_failed);
    if (!error) {
        region->slot = slot;
        return EVH_OK;
    }
    const evh_status status =
        base_fail_os(error, header_slot_offset(slot), "%s: cannot write its header", region->path);
    if (!*flush_failed && !header_restore(region, slot, next->generation)) *flush_failed = true;
    return status;
}

void region_note_address(struct region_header *header, uint64_t address)
{
    enum { COUNT = sizeof header->earlier_addresses / sizeof header->earlier_addresses[0] };
    const uint64_t before = header->preferred_address;
    assert(address != 0);
    if (before == address) return;
    header->preferred_address = address;
    if (before == 0) return;
    unsigned last = 0; /* the place that goes: where the address was before, else the oldest */
    while (last < COUNT - 1 && header->earlier_addresses[last] != address) last++;
    assert(last < COUNT);
    for (; last > 0; last--) header->earlier_addresses[last] = header->earlier_addresses[last - 1];
    header->earlier_addresses[0] = before;
}

void region_adopt_header(struct region *region, const struct region_header *next)
{
    struct region_header *header = &region->header;
    assert(next->generation > header->generation);
    assert(next->sequence >= header->sequence);
    header->generation = next->generation;
    region->status.generation = next->generation;
    header->preferred_address = next->preferred_address;
    header->size_max_bytes = next->size_max_bytes;
    header->sequence = next->sequence;
    header->heap_bytes = next->heap_bytes;
    header->catalog = next->catalog;
    header->tail_offset = next->tail_offset;
    header->chain_salt = next->chain_salt;
    header->chain_crc = next->chain_crc;
    header->incompatible = next->incompatible;
    header->bulk_bytes = next->bulk_bytes;
}

static uint32_t status_crc(const struct region_status *status)
{
    assert(status != NULL);
    return base_crc32c(0, status, offsetof(struct region_status, crc));
}

void region_publish_status(struct region *region)
{
    assert(region->status.durable_sequence >= region->header.sequence);
    assert(region_has_file(region));
    struct region_status *status = &region->status;
    status->magic = REGION_STATUS_MAGIC;
    memcpy(status->uuid, region->header.uuid, sizeof status->uuid);
    status->crc = status_crc(status);
    (void)os->write(region->file, REGION_STATUS_OFFSET, status, sizeof *status);
}

bool region_read_status(struct region *region, struct region_status *status)
{
    assert(status != NULL);
    assert(region_has_file(region));
    /* A writer may be writing it at this moment: a torn copy fails its checksum, the next is
     * whole. */
    for (int attempt = 0; attempt < 100; attempt++) {
        size_t done = 0;
        const int error =
            os->read(region->file, REGION_STATUS_OFFSET, status, sizeof *status, &done);
        if (error || done < sizeof *status) return false;
        if (status->magic == REGION_STATUS_MAGIC && status->crc == status_crc(status) &&
            memcmp(status->uuid, region->header.uuid, sizeof status->uuid) == 0)
            return true;
        if (status->magic == 0) return false;
    }
    return false;
}
