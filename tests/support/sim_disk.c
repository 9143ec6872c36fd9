/* sim_disk.c -- the device under a simulated machine, and the images that a power cut leaves on
 * it. */
#include "support/os_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* What an operation is applied to: a durable file, or the cached one of a machine. */
struct surface {
    unsigned char *bytes;
    uint64_t *size;
    uint64_t *pages;        /* a bit for each page: changed */
    const uint32_t *stamps; /* sectors with a stamp above `order` are superseded */
    uint32_t order;
    uint64_t *identity;
};

static void *disk_map(size_t size)
{
    void *got = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) {
        fprintf(stderr, "sim_disk: no memory\n");
        abort();
    }
    return got;
}

enum {
    DISK_STAMPS_BYTES = SIM_FILE_BYTES_MAX / SIM_SECTOR_BYTES * sizeof(uint32_t),
    DISK_CHANGED_BYTES = SIM_PAGE_WORDS * sizeof(uint64_t)
};

struct sim_disk *sim_disk_create(void)
{
    struct sim_disk *disk = calloc(1, sizeof *disk);
    if (!disk) abort();
    return disk;
}

static void durable_prepare(struct sim_durable *file)
{
    if (file->bytes) return;
    file->bytes = disk_map(SIM_FILE_BYTES_MAX);
    file->stamps = disk_map(DISK_STAMPS_BYTES);
    file->changed = disk_map(DISK_CHANGED_BYTES);
}

void sim_disk_end(struct sim_disk *disk)
{
    if (!disk) return;
    for (int i = 0; i < SIM_FILE_MAX; i++) {
        struct sim_durable *file = &disk->files[i];
        if (!file->bytes) continue;
        munmap(file->bytes, SIM_FILE_BYTES_MAX);
        munmap(file->stamps, DISK_STAMPS_BYTES);
        munmap(file->changed, DISK_CHANGED_BYTES);
    }
    free(disk->pending);
    free(disk);
}

static void durable_clear(struct sim_durable *file)
{
    if (file->bytes) {
        memset(file->bytes, 0, file->extent);
        memset(file->stamps, 0,
               DISK_STAMPS_BYTES / (SIM_FILE_BYTES_MAX / PAGE_BYTES) *
                   ((file->extent + PAGE_BYTES - 1) / PAGE_BYTES));
        memset(file->changed, 0xff, DISK_CHANGED_BYTES);
    }
    file->size = file->extent = 0;
    file->exists = false;
}

void sim_disk_reset(struct sim_disk *disk)
{
    for (int i = 0; i < SIM_FILE_MAX; i++) durable_clear(&disk->files[i]);
    memset(disk->names, 0, sizeof disk->names);
    disk->pending_count = 0;
    disk->order = 0;
    disk->identity = 0;
    disk->ignores_flushes = false;
}

static void pending_reserve(struct sim_disk *disk, size_t count)
{
    if (count <= disk->pending_capacity) return;
    disk->pending_capacity = 2 * count + 64;
    disk->pending = realloc(disk->pending, disk->pending_capacity * sizeof *disk->pending);
    if (!disk->pending) abort();
}

void sim_disk_copy(struct sim_disk *target, const struct sim_disk *source)
{
    sim_disk_reset(target);
    for (int i = 0; i < SIM_FILE_MAX; i++) {
        const struct sim_durable *from = &source->files[i];
        if (!from->exists) continue;
        struct sim_durable *to = &target->files[i];
        durable_prepare(to);
        memcpy(to->bytes, from->bytes, from->extent);
        memcpy(to->stamps, from->stamps,
               (from->extent + SIM_SECTOR_BYTES - 1) / SIM_SECTOR_BYTES * sizeof(uint32_t));
        memset(to->changed, 0xff, DISK_CHANGED_BYTES);
        to->size = from->size;
        to->extent = from->extent;
        to->exists = true;
    }
    memcpy(target->names, source->names, sizeof target->names);
    pending_reserve(target, source->pending_count);
    if (source->pending_count)
        memcpy(target->pending, source->pending, source->pending_count * sizeof *source->pending);
    target->pending_count = source->pending_count;
    target->order = source->order;
    target->identity = source->identity;
    target->ignores_flushes = source->ignores_flushes;
}

void sim_disk_from(struct sim_disk *disk, struct sim *machine)
{
    sim_disk_reset(disk);
    for (uint32_t i = 0; i < SIM_FILE_MAX; i++) {
        const struct sim_content content = sim_content_if_used(machine, i);
        if (!content.cached || !*content.exists) continue;
        struct sim_durable *file = &disk->files[i];
        durable_prepare(file);
        file->size = *content.size;
        file->extent = base_round_up(file->size, PAGE_BYTES);
        file->exists = true;
        memcpy(file->bytes, content.cached, file->extent);
        memset(file->changed, 0xff, DISK_CHANGED_BYTES);
    }
    memcpy(disk->names, sim_names(machine), sizeof disk->names);
    disk->identity = *sim_identity(machine);
}

/* ---- one operation reaches a surface ---- */

static void surface_page(struct surface *surface, uint64_t offset)
{
    surface->pages[offset / PAGE_BYTES / 64] |= 1ull << offset / PAGE_BYTES % 64;
}

/* The identity of an image is the exclusive or of one such hash for each sector that is not zero,
 * and of one for each file's size: what changes is taken out and put in again. */
static uint64_t sector_hash(uint64_t sector, const unsigned char *bytes)
{
    uint64_t lanes[4] = {1, 2, 3, 4}, any = 0;
    for (size_t i = 0; i < SIM_SECTOR_BYTES; i += 32) {
        uint64_t words[4];
        memcpy(words, bytes + i, sizeof words);
        for (int k = 0; k < 4; k++) {
            lanes[k] = (lanes[k] ^ words[k]) * 0x9e3779b97f4a7c15u;
            lanes[k] ^= lanes[k] >> 29;
            any |= words[k];
        }
    }
    const uint64_t hash = (lanes[0] ^ lanes[1] * 3) + (lanes[2] * 5 ^ lanes[3] * 7);
    return any ? (hash ^ sector) * 0xbf58476d1ce4e5b9u ^ hash >> 31 : 0;
}

static void surface_resize(struct surface *surface, uint64_t size)
{
    *surface->identity ^= *surface->size * 0x94d049bb133111ebu ^ size * 0x94d049bb133111ebu;
    *surface->size = size;
}

static void surface_sector(struct surface *surface, uint64_t offset, const unsigned char *bytes)
{
    const uint64_t sector = offset / SIM_SECTOR_BYTES;
    if (surface->stamps && surface->stamps[sector] > surface->order) return;
    *surface->identity ^= sector_hash(sector, surface->bytes + offset);
    if (bytes) *surface->identity ^= sector_hash(sector, bytes);
    if (bytes)
        memcpy(surface->bytes + offset, bytes, SIM_SECTOR_BYTES);
    else
        memset(surface->bytes + offset, 0, SIM_SECTOR_BYTES);
    surface_page(surface, offset);
}

static bool is_write(const struct sim_operation *operation)
{
    return operation->kind == SIM_WRITE || operation->kind == SIM_WRITE_SYNC ||
           operation->kind == SIM_SYNC_FAILED;
}

/* The sectors [first, end) of a write; the file grows as far as the last of them. */
static void surface_write(struct surface *surface, const struct sim_log *log,
                          const struct sim_operation *operation, uint64_t first, uint64_t end)
{
    const unsigned char *data = sim_log_data(log, operation);
    if (first >= end) return;
    for (uint64_t i = first; i < end; i++)
        surface_sector(surface, operation->offset + i * SIM_SECTOR_BYTES,
                       data + i * SIM_SECTOR_BYTES);
    const uint64_t reached = operation->offset + end * SIM_SECTOR_BYTES;
    surface_resize(surface, base_max(*surface->size, base_min(reached, operation->end)));
}

static void surface_zero(struct surface *surface, uint64_t offset, uint64_t end)
{
    for (uint64_t at = base_round_up(offset, SIM_SECTOR_BYTES); at < end; at += SIM_SECTOR_BYTES)
        surface_sector(surface, at, NULL);
}

static void surface_apply(struct surface *surface, const struct sim_log *log,
                          const struct sim_operation *operation)
{
    const uint64_t end = operation->offset + operation->size;
    switch (operation->kind) {
    case SIM_WRITE:
    case SIM_WRITE_SYNC:
    case SIM_SYNC_FAILED:
        surface_write(surface, log, operation, 0, operation->size / SIM_SECTOR_BYTES);
        break;
    case SIM_ALLOCATE: surface_resize(surface, base_max(*surface->size, end)); break;
    case SIM_TRUNCATE:
        surface_zero(surface, operation->offset, *surface->size);
        surface_resize(surface, operation->offset);
        break;
    case SIM_PUNCH: surface_zero(surface, operation->offset, base_min(end, *surface->size)); break;
    default: break;
    }
}

static bool is_name(const struct sim_operation *operation)
{
    return operation->kind == SIM_CREATE || operation->kind == SIM_PUBLISH;
}

static void name_apply(struct sim_name *names, const struct sim_log *log,
                       const struct sim_operation *operation)
{
    const char *path = (const char *)sim_log_data(log, operation);
    struct sim_name *free_name = NULL;
    for (int i = 0; i < SIM_NAME_MAX; i++) {
        if (!names[i].used && !free_name) free_name = &names[i];
        if (!names[i].used || strcmp(names[i].path, path) != 0) continue;
        names[i].file = operation->file;
        return;
    }
    if (!free_name) abort();
    memcpy(free_name->path, path, strlen(path) + 1);
    free_name->file = operation->file;
    free_name->used = true;
}

/* ---- steps ---- */

static struct surface durable_surface(struct sim_disk *disk, uint32_t file, uint32_t order)
{
    struct sim_durable *durable = &disk->files[file];
    durable_prepare(durable);
    durable->exists = true;
    return (struct surface){durable->bytes,  &durable->size, durable->changed,
                            durable->stamps, order,          &disk->identity};
}

static void durable_reached(struct sim_durable *file, const struct sim_operation *operation)
{
    file->extent = base_max(file->extent, base_round_up(file->size, PAGE_BYTES));
    if (is_write(operation))
        file->extent = base_max(file->extent, operation->offset + operation->size);
}

const struct sim_operation *sim_pending_operation(const struct sim_disk *disk, size_t i)
{
    return &disk->pending[i].log->operations[disk->pending[i].operation];
}

static void pending_add(struct sim_disk *disk, const struct sim_log *log, size_t index)
{
    pending_reserve(disk, disk->pending_count + 1);
    disk->pending[disk->pending_count++] =
        (struct sim_pending){log, (uint32_t)index, ++disk->order};
}

void sim_disk_begin(struct sim_disk *disk, const struct sim_log *log, size_t index)
{
    pending_add(disk, log, index);
}

void sim_disk_unbegin(struct sim_disk *disk)
{
    disk->pending_count--;
}

/* A seeded half of a write's sectors. */
static void durable_apply_some(struct sim_disk *disk, const struct sim_log *log,
                               const struct sim_operation *operation, uint32_t order, uint64_t seed)
{
    struct surface surface = durable_surface(disk, operation->file, order);
    const uint64_t sectors = operation->size / SIM_SECTOR_BYTES;
    for (uint64_t i = 0; i < sectors; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        if (seed >> 63) surface_write(&surface, log, operation, i, i + 1);
    }
    durable_reached(&disk->files[operation->file], operation);
}

/* Pending operations of the file become durable (all, or a seeded half), in their order. */
static void disk_flush(struct sim_disk *disk, uint32_t file, bool only_sizes, const uint64_t *seed)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct sim_pending pending = disk->pending[i];
        const struct sim_operation *operation = sim_pending_operation(disk, i);
        const bool stays = operation->file != file || is_name(operation) ||
                           (only_sizes && operation->kind != SIM_TRUNCATE);
        if (stays) {
            disk->pending[kept++] = pending;
        } else if (seed && is_write(operation)) {
            durable_apply_some(disk, pending.log, operation, pending.order, *seed + i);
        } else {
            struct surface surface = durable_surface(disk, file, pending.order);
            surface_apply(&surface, pending.log, operation);
            durable_reached(&disk->files[file], operation);
        }
    }
    disk->pending_count = kept;
}

static void disk_write_sync(struct sim_disk *disk, const struct sim_log *log,
                            const struct sim_operation *operation)
{
    const uint32_t order = ++disk->order;
    disk_flush(disk, operation->file, true, NULL);
    struct surface surface = durable_surface(disk, operation->file, order);
    surface_apply(&surface, log, operation);
    durable_reached(&disk->files[operation->file], operation);
    uint32_t *stamps = disk->files[operation->file].stamps + operation->offset / SIM_SECTOR_BYTES;
    for (uint64_t i = 0; i < operation->size / SIM_SECTOR_BYTES; i++) stamps[i] = order;
}

static void disk_flush_directory(struct sim_disk *disk)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct sim_operation *operation = sim_pending_operation(disk, i);
        if (is_name(operation))
            name_apply(disk->names, disk->pending[i].log, operation);
        else
            disk->pending[kept++] = disk->pending[i];
    }
    disk->pending_count = kept;
}

void sim_disk_step(struct sim_disk *disk, const struct sim_log *log, size_t index)
{
    const struct sim_operation *operation = &log->operations[index];
    switch (operation->kind) {
    case SIM_WRITE_SYNC:
        if (disk->ignores_flushes)
            pending_add(disk, log, index);
        else
            disk_write_sync(disk, log, operation);
        break;
    case SIM_FLUSH:
        if (!disk->ignores_flushes) disk_flush(disk, operation->file, false, NULL);
        break;
    case SIM_FLUSH_FAILED: disk_flush(disk, operation->file, false, &operation->value); break;
    case SIM_SYNC_FAILED:
        durable_apply_some(disk, log, operation, ++disk->order, operation->value);
        break;
    case SIM_FLUSH_DIRECTORY:
        if (!disk->ignores_flushes) disk_flush_directory(disk);
        break;
    case SIM_NEW:
        durable_clear(&disk->files[operation->file]);
        durable_prepare(&disk->files[operation->file]);
        disk->files[operation->file].exists = true;
        break;
    case SIM_MARK: break;
    default: pending_add(disk, log, index); break;
    }
}

/* ---- images ---- */

uint64_t sim_pending_sectors(const struct sim_disk *disk, size_t i)
{
    const struct sim_operation *operation = sim_pending_operation(disk, i);
    return is_write(operation) ? operation->size / SIM_SECTOR_BYTES : 1;
}

static void image_copy_page(const struct sim_durable *file, struct sim_content *content,
                            uint64_t page)
{
    memcpy(content->cached + page * PAGE_BYTES, file->bytes + page * PAGE_BYTES, PAGE_BYTES);
}

/* All pages where the two may differ become equal. */
static void image_copy_changed(struct sim_durable *file, struct sim_content *content)
{
    const uint64_t end = base_max(file->extent, *content->used) / PAGE_BYTES;
    for (uint64_t word = 0; word <= end / 64; word++) {
        uint64_t bits = file->changed[word] | content->touched[word];
        for (; bits; bits &= bits - 1) {
            const uint64_t page = word * 64 + base_lowest_bit(bits);
            if (page < end) image_copy_page(file, content, page);
        }
        file->changed[word] = content->touched[word] = 0;
    }
}

static void image_copy_all(struct sim_durable *file, struct sim_content *content)
{
    memcpy(content->cached, file->bytes, file->extent);
    if (*content->used > file->extent)
        memset(content->cached + file->extent, 0, *content->used - file->extent);
    memset(file->changed, 0, DISK_CHANGED_BYTES);
    memset(content->touched, 0, DISK_CHANGED_BYTES);
}

void sim_image_begin(struct sim_disk *disk, struct sim *target, uint64_t seed)
{
    const bool is_known = *sim_image_base(target) == disk;
    sim_reset(target, seed);
    for (uint32_t i = 0; i < SIM_FILE_MAX; i++) {
        struct sim_durable *file = &disk->files[i];
        if (!file->exists) continue;
        struct sim_content content = sim_content(target, i);
        if (is_known)
            image_copy_changed(file, &content);
        else
            image_copy_all(file, &content);
        *content.used = file->extent;
        *content.size = file->size;
        *content.exists = true;
    }
    memcpy(sim_names(target), disk->names, sizeof disk->names);
    *sim_image_base(target) = disk;
    *sim_identity(target) = disk->identity;
}

uint64_t sim_image_identity(struct sim *target)
{
    uint64_t identity = *sim_identity(target);
    for (int i = 0; i < SIM_NAME_MAX; i++)
        if (sim_names(target)[i].used)
            identity = (identity ^ sim_names(target)[i].file) * 0x9e3779b97f4a7c15u + 1;
    return identity;
}

static struct surface image_surface(struct sim_disk *disk, struct sim *target, size_t i)
{
    const struct sim_operation *operation = sim_pending_operation(disk, i);
    struct sim_content content = sim_content(target, operation->file);
    durable_prepare(&disk->files[operation->file]);
    *content.exists = true;
    if (is_write(operation))
        *content.used =
            base_max(*content.used, base_round_up(operation->offset + operation->size, PAGE_BYTES));
    return (struct surface){content.cached,         content.size,
                            content.touched,        disk->files[operation->file].stamps,
                            disk->pending[i].order, sim_identity(target)};
}

void sim_image_apply(struct sim_disk *disk, struct sim *target, size_t i)
{
    const struct sim_pending pending = disk->pending[i];
    const struct sim_operation *operation = sim_pending_operation(disk, i);
    if (is_name(operation)) {
        name_apply(sim_names(target), pending.log, operation);
        struct sim_content content = sim_content(target, operation->file);
        *content.exists = true;
        return;
    }
    struct surface surface = image_surface(disk, target, i);
    surface_apply(&surface, pending.log, operation);
}

void sim_image_apply_sectors(struct sim_disk *disk, struct sim *target, size_t i, uint64_t first,
                             uint64_t end)
{
    const struct sim_operation *operation = sim_pending_operation(disk, i);
    if (!is_write(operation)) {
        if (first < end) sim_image_apply(disk, target, i);
        return;
    }
    struct surface surface = image_surface(disk, target, i);
    surface_write(&surface, disk->pending[i].log, operation, first, end);
}

void sim_image_lose_sector(struct sim_disk *disk, struct sim *target, size_t i, uint64_t sector,
                           enum sim_lost lost, uint64_t seed)
{
    const struct sim_operation *operation = sim_pending_operation(disk, i);
    if (!is_write(operation) || lost == SIM_LOST_OLD) return;
    struct surface surface = image_surface(disk, target, i);
    unsigned char bytes[SIM_SECTOR_BYTES] = {0};
    if (lost == SIM_LOST_GARBAGE) {
        for (size_t k = 0; k < sizeof bytes; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[k] = (unsigned char)(seed >> 56);
        }
    }
    surface_sector(&surface, operation->offset + sector * SIM_SECTOR_BYTES, bytes);
    const uint64_t reached = operation->offset + (sector + 1) * SIM_SECTOR_BYTES;
    surface_resize(&surface, base_max(*surface.size, base_min(reached, operation->end)));
}
