/* region_open.c -- from a path, or memory, to a mapped region, and back.
 *
 * Opening never changes the file. A new heap is built in a file without a name and appears
 * complete, or not at all.
 */
#include "region/region.h"

/* A heap's addresses, unless an option says otherwise. ThreadSanitizer leaves few. */
#define REGION_RESERVE_DEFAULT (BASE_THREAD_SANITIZER ? 1ull << 33 : 1ull << 40)
#define REGION_RESERVE_MIN (1ull << 26)

static struct region *open_new_region(const char *path, evh_mode mode)
{
    assert(path != NULL);
    assert(mode <= EVH_MEMORY);
    struct region *region = os->memory_allocate(sizeof *region);
    if (!region) return NULL;
    const size_t size = strlen(path) + 1;
    region->path = os->memory_allocate(size);
    if (!region->path || os->mutex_create(&region->mutex) ||
        os->mutex_create(&region->plan_mutex)) {
        os->mutex_end(region->mutex);
        os->memory_free(region->path);
        os->memory_free(region);
        return NULL;
    }
    memcpy(region->path, path, size);
    region->file = -1;
    region->lock_file = -1;
    region->mode = mode;
    region->process = os->process();
    return region;
}

static evh_status open_no_memory(const char *path)
{
    assert(path != NULL);
    return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to open it", path);
}

/* End what was begun. Why it failed stays the thread's last error, also if closing fails as
 * well. */
static evh_status open_give_up(struct region *region, evh_status status)
{
    assert(region != NULL);
    const evh_error why = *evh_last_error();
    assert(why.status == status);
    if (region_close(region)) (void)base_fail(status, why.offset, "%s", why.message);
    return status;
}

/* The error of open(2), in words of ours. */
static evh_status open_failed(int error, const char *path, bool writing)
{
    assert(error != 0);
    assert(path != NULL);
    const evh_status status =
        base_fail_os(error, NO_OFFSET, "%s: cannot open it%s", path, writing ? " for writing" : "");
    return status;
}

static bool open_is_writing(const struct region *region)
{
    assert(region != NULL);
    return region->mode == EVH_DURABLE || region->mode == EVH_LIVE;
}

/* The file's kind, size and identity. */
static evh_status open_identify(struct region *region, const evh_options *options)
{
    assert(region_has_file(region));
    assert(options != NULL);
    struct os_file_info info;
    const int error = os->information(region->file, &info);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot ask for its size", region->path);
    if (info.is_directory)
        return base_fail(EVH_NOT_FILE, NO_OFFSET, "%s: a directory, not a heap", region->path);
    if (!info.is_regular)
        return base_fail(EVH_NOT_FILE, NO_OFFSET, "%s: no regular file", region->path);
    if (info.is_network && !options->network_file_system && open_is_writing(region))
        return base_fail(EVH_NOT_FILE, NO_OFFSET,
                         "%s: on a network file system, whose locks and flushes cannot be relied "
                         "on; the option network_file_system accepts it",
                         region->path);
    region->file_bytes = info.size_bytes;
    region->device = info.device;
    region->inode = info.inode;
    return EVH_OK;
}

/* Locks are held on a description of their own, which no mapping and no child can keep alive. */
static evh_status open_lock_file(struct region *region, const char *path)
{
    assert(region_has_file(region));
    assert(region->lock_file < 0);
    const unsigned flags = open_is_writing(region) ? OS_OPEN_WRITE : 0;
    int error = os->open(path, flags, 0, &region->lock_file);
    if (error) {
        region->lock_file = -1;
        return open_failed(error, region->path, flags != 0);
    }
    struct os_file_info info;
    error = os->information(region->lock_file, &info);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot identify it", region->path);
    if (info.device != region->device || info.inode != region->inode)
        return base_fail(EVH_BUSY, NO_OFFSET, "%s: replaced by another file while it was opened",
                         region->path);
    return EVH_OK;
}

static evh_status open_take_writer_lock(struct region *region)
{
    assert(region->lock_file >= 0);
    assert(region->mode == EVH_DURABLE);
    const int error = os->lock(region->lock_file, REGION_LOCK_WRITER, 1, OS_LOCK_EXCLUSIVE);
    if (!error) return EVH_OK;
    if (error != EAGAIN) return base_fail_os(error, NO_OFFSET, "%s: cannot lock it", region->path);
    struct region_status status;
    struct region_header header;
    size_t done = 0;
    /* Only for the message: whose uuid the status must carry. */
    for (unsigned slot = 0; slot < REGION_SLOT_COUNT; slot++) {
        if (os->read(region->file, slot * REGION_SLOT_STRIDE, &header, sizeof header, &done) ||
            done < sizeof header || header.magic != REGION_MAGIC)
            continue;
        memcpy(region->header.uuid, header.uuid, sizeof header.uuid);
        if (region_read_status(region, &status))
            return base_fail(EVH_BUSY, NO_OFFSET, "%s: process %llu has it open for writing%s",
                             region->path, (unsigned long long)status.writer_process,
                             status.writer_process == region->process ? " (this process)" : "");
    }
    return base_fail(EVH_BUSY, NO_OFFSET, "%s: another process has it open for writing",
                     region->path);
}

static void open_release(struct region *region)
{
    assert(!region->is_borrowed);
    assert(region->home == NULL || region->mode == EVH_DURABLE);
    if (region->home) (void)os->release((void *)(uintptr_t)region->home, region->reserved_bytes);
    if (region->base) (void)os->release(region->base, region->reserved_bytes);
    region->home = NULL;
    region->base = NULL;
}

/* One reservation of `size`, and for a writer's home another. ENOMEM: neither. */
static int open_reserve_pair(struct region *region, uint64_t size, uint64_t preferred)
{
    assert(region->base == NULL);
    assert(region->home == NULL);
    void *base = NULL;
    void *home = NULL;
    int error = os->reserve(size, SEGMENT_BYTES, preferred, &base);
    if (!error && region->mode == EVH_DURABLE) {
        error = os->reserve(size, SLICE_BYTES, 0, &home);
        if (error) (void)os->release(base, size);
    }
    if (error) return error;
    region->base = base;
    region->home = home;
    region->reserved_bytes = size;
    return 0;
}

/* Reserve addresses: as much as asked for, or at least what the heap needs now. Where the system
 * limits them, half of what it gives is left for the rest of the program. */
static evh_status open_reserve(struct region *region, uint64_t need, uint64_t preferred)
{
    assert(region->reserved_bytes >= need);
    assert(region->base == NULL);
    const uint64_t asked = base_round_up(region->reserved_bytes, SLICE_BYTES);
    uint64_t size = asked;
    int error = open_reserve_pair(region, size, preferred);
    while (error == ENOMEM && size / 2 >= base_max(need, REGION_RESERVE_MIN)) {
        size = base_round_up(size / 2, SLICE_BYTES);
        error = open_reserve_pair(region, size, preferred);
    }
    if (!error && size < asked && size / 2 >= base_max(need, REGION_RESERVE_MIN)) {
        open_release(region);
        size = base_round_up(size / 2, SLICE_BYTES);
        error = open_reserve_pair(region, size, preferred);
    }
    if (error)
        return base_fail_os(error, NO_OFFSET, "%s: cannot reserve %llu bytes of addresses",
                            region->path, (unsigned long long)size);
    return EVH_OK;
}

/* The limit on a heap's size: the caller's, else the file's, else the default. */
static uint64_t open_size_max(uint64_t asked, uint64_t stored, uint64_t need)
{
    assert(need % SLICE_BYTES == 0);
    assert(need <= REGION_SIZE_MAX);
    uint64_t size = asked ? asked : stored ? stored : REGION_RESERVE_DEFAULT;
    size = base_min(size, REGION_SIZE_MAX);
    size = base_max(size, need);
    return base_round_up(size, SLICE_BYTES);
}

/* A second mapping, of the file as it is: what commits are compared with. Writers only. */
static evh_status open_map_home(struct region *region)
{
    assert(region->home != NULL);
    assert(region->mode == EVH_DURABLE);
    const uint64_t size =
        base_min(base_round_down(region->file_bytes, SLICE_BYTES), region->reserved_bytes);
    const int error =
        os->map((void *)(uintptr_t)region->home, size, OS_MAP_SHARED_READ, region->file, 0);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot map it", region->path);
    region->file_bytes = size;
    return EVH_OK;
}

struct open_map_run {
    struct region *region;
    evh_status status;
};

/* A run, without what is mapped already. */
static void open_map_one(uint64_t offset, uint64_t size, void *context)
{
    assert(offset % SLICE_BYTES == 0);
    assert(size > 0);
    struct open_map_run *run = context;
    const uint64_t from = base_max(offset, run->region->mapped_bytes);
    if (run->status || from >= offset + size) return;
    size -= from - offset;
    offset = from;
    const int error =
        os->map(run->region->base + offset, size, OS_MAP_PRIVATE, run->region->file, offset);
    if (error)
        run->status = base_fail_os(error, offset, "%s: cannot map %llu bytes", run->region->path,
                                   (unsigned long long)size);
}

evh_status region_measure(struct region *region)
{
    assert(region_has_file(region));
    assert(region->mode != EVH_DURABLE);
    struct os_file_info info;
    const int error = os->information(region->file, &info);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot ask for its size", region->path);
    region->file_bytes = info.size_bytes;
    return EVH_OK;
}

/* All addresses at once, also behind the file's end: what any process adds there is there. The
 * headers stay out of reach. */
static evh_status open_map_live(struct region *region)
{
    assert(region->mode == EVH_LIVE);
    assert(region->base != NULL);
    const uint64_t from = REGION_FIRST_EXTENT_OFFSET;
    const int error = os->map(region->base + from, region->reserved_bytes - from, OS_MAP_SHARED,
                              region->file, from);
    if (error)
        return base_fail_os(error, NO_OFFSET, "%s: cannot map %llu bytes", region->path,
                            (unsigned long long)region->reserved_bytes);
    region->mapped_bytes = region->reserved_bytes;
    return EVH_OK;
}

evh_status region_map(struct region *region, uint64_t heap_bytes)
{
    assert(region->mode != EVH_MEMORY);
    assert(region_has_file(region));
    assert(heap_bytes % SLICE_BYTES == 0);
    if (heap_bytes <= region->mapped_bytes) return EVH_OK;
    if (region->base && heap_bytes > region->reserved_bytes)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET,
                         "%s: the heap has grown to %llu bytes, beyond the addresses reserved for "
                         "it; close and open it again",
                         region->path, (unsigned long long)heap_bytes);
    if (heap_bytes > region->file_bytes && region->mode != EVH_DURABLE) {
        const evh_status status = region_measure(region); /* it grew since */
        if (status) return status;
    }
    if (heap_bytes > region->file_bytes)
        return base_fail(EVH_TRUNCATED, region->file_bytes,
                         "%s: the file ends at %llu, the heap at %llu: its end was cut off",
                         region->path, (unsigned long long)region->file_bytes,
                         (unsigned long long)heap_bytes);
    evh_status status = EVH_OK;
    if (!region->base) {
        const uint64_t need = base_max(heap_bytes, base_round_up(region->file_bytes, SLICE_BYTES));
        region->reserved_bytes =
            open_size_max(region->reserved_bytes, region->header.size_max_bytes, need);
        const uint64_t preferred = region->preferred_address ? region->preferred_address
                                                             : region->header.preferred_address;
        status = open_reserve(region, need, preferred);
        if (!status && region->mode == EVH_DURABLE) status = open_map_home(region);
    }
    if (status) return status;
    if (region->mode == EVH_LIVE) return open_map_live(region);
    struct open_map_run run = {region, EVH_OK};
    region_each_run(region, heap_bytes, open_map_one, &run);
    if (run.status) return run.status;
    region->mapped_bytes = heap_bytes;
    region_note_address(&region->header, (uint64_t)(uintptr_t)region->base);
    return EVH_OK;
}

/* A file keeps the mode that it was made for. Readers and private copies take both. */
static evh_status open_check_mode(const struct region *region)
{
    assert(region->mode != EVH_MEMORY);
    const bool is_live = region->header.mode == EVH_LIVE;
    assert(is_live || region->header.mode == EVH_DURABLE);
    if (!open_is_writing(region) || is_live == (region->mode == EVH_LIVE)) return EVH_OK;
    return base_fail(EVH_MODE, offsetof(struct region_header, mode),
                     is_live ? "%s: a live heap: open it with EVH_LIVE; evh_save() makes a durable "
                               "copy of it"
                             : "%s: a durable heap: it cannot be opened with EVH_LIVE",
                     region->path);
}

evh_status region_open(const char *path, const evh_options *options, struct region **out)
{
    assert(out != NULL);
    assert(path != NULL);
    assert(options != NULL);
    struct region *region = open_new_region(path, options->mode);
    if (!region) return open_no_memory(path);
    const bool writing = options->mode == EVH_DURABLE || options->mode == EVH_LIVE;
    const unsigned flags =
        (writing ? OS_OPEN_WRITE : 0u) | (options->no_follow ? OS_OPEN_NO_FOLLOW : 0u);
    evh_status status = EVH_OK;
    const int error = os->open(path, flags, 0, &region->file);
    if (error) {
        region->file = -1;
        status = open_failed(error, path, writing);
        goto failed;
    }
    status = open_identify(region, options);
    if (!status) status = open_lock_file(region, region->path);
    if (!status && options->mode == EVH_DURABLE) status = open_take_writer_lock(region);
    if (!status) status = region_read_header(region);
    if (!status) status = open_check_mode(region);
    if (status) goto failed;
    if (writing &&
        (region->header.read_only_compatible & ~(uint64_t)REGION_READ_ONLY_COMPATIBLE_KNOWN)) {
        status = base_fail(EVH_VERSION, 0, "%s: a newer version made it; open it read-only", path);
        goto failed;
    }
    region->reserved_bytes = options->size_max_bytes;
    region->preferred_address = options->preferred_address;
    *out = region;
    return EVH_OK;
failed:
    return open_give_up(region, status);
}

evh_status region_create(const char *path, const evh_options *options, struct region **out)
{
    assert(path != NULL);
    assert(out != NULL);
    assert(options->mode == EVH_DURABLE);
    struct region *region = open_new_region(path, EVH_DURABLE);
    if (!region) return open_no_memory(path);
    const unsigned permissions = options->permissions ? options->permissions : 0600;
    int error = os->open_temporary(path, permissions, &region->file);
    evh_status status = EVH_OK;
    if (error) {
        region->file = -1;
        status = base_fail_os(error, NO_OFFSET, "%s: cannot create it", path);
        goto failed;
    }
    error = os->allocate(region->file, 0, REGION_NEW_BYTES);
    if (error) {
        status = base_fail_os(error, 0, "%s: no space for a new heap", path);
        goto failed;
    }
    status = open_identify(region, options);
    if (status) goto failed;
    struct region_header *header = &region->header;
    *header = region_new_header(EVH_DURABLE, options->size_max_bytes);
    header->created_ns = os->time_ns();
    header->heap_bytes = REGION_NEW_BYTES;
    os->random(header->uuid, sizeof header->uuid);
    os->random(&header->chain_salt, sizeof header->chain_salt);
    region->slot = REGION_SLOT_COUNT - 1; /* so that slot A is written first */
    region->reserved_bytes = options->size_max_bytes;
    status = region_map(region, REGION_NEW_BYTES);
    if (status) goto failed;
    *out = region;
    return EVH_OK;
failed:
    return open_give_up(region, status);
}

evh_status region_publish(struct region *region)
{
    assert(region->mode == EVH_DURABLE);
    assert(region_has_file(region));
    assert(region->lock_file < 0);
    const int error = os->publish(region->file, region->path, false);
    if (error == EEXIST)
        return base_fail(EVH_EXISTS, NO_OFFSET, "%s: another process has just created it",
                         region->path);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot give it its name", region->path);
    const evh_status status = open_lock_file(region, region->path);
    return status ? status : open_take_writer_lock(region);
}

evh_status region_open_memory(uint64_t size_max, uint64_t heap_bytes, uint64_t preferred,
                              struct region **out)
{
    assert(out != NULL);
    assert(heap_bytes % SLICE_BYTES == 0);
    struct region *region = open_new_region("memory", EVH_MEMORY);
    if (!region) return open_no_memory("memory");
    region->reserved_bytes = open_size_max(size_max, 0, heap_bytes);
    evh_status status = open_reserve(region, heap_bytes, preferred);
    if (!status) {
        const int error = os->map(region->base, heap_bytes, OS_MAP_ANONYMOUS, -1, 0);
        if (error) status = base_fail_os(error, NO_OFFSET, "memory: cannot map it");
    }
    if (status) return open_give_up(region, status);
    region->mapped_bytes = heap_bytes;
    *out = region;
    return EVH_OK;
}

evh_status region_open_buffer(void *buffer, uint64_t size, struct region **out)
{
    assert(out != NULL);
    assert(size >= SLICE_BYTES);
    assert(buffer != NULL);
    struct region *region = open_new_region("memory", EVH_MEMORY);
    if (!region) return open_no_memory("memory");
    region->base = buffer;
    region->mapped_bytes = base_round_down(size, SLICE_BYTES);
    region->reserved_bytes = region->mapped_bytes;
    region->is_borrowed = true;
    *out = region;
    return EVH_OK;
}

evh_status region_close(struct region *region)
{
    if (!region) return EVH_OK;
    evh_status status = EVH_OK;
    if (!region->is_borrowed) open_release(region);
    if (region->lock_file >= 0) {
        /* A child that was forked a moment ago may hold the description still. */
        if (open_is_writing(region))
            (void)os->lock(region->lock_file, REGION_LOCK_ATTACHED, 1ull << 62, OS_UNLOCK);
        (void)os->close(region->lock_file);
    }
    if (region->file >= 0) {
        const int error = os->close(region->file);
        if (error) status = base_fail_os(error, NO_OFFSET, "%s: cannot close it", region->path);
    }
    os->mutex_end(region->plan_mutex);
    os->mutex_end(region->mutex);
    os->memory_free(region->path);
    os->memory_free(region);
    return status;
}

evh_status region_lock_again(struct region *region)
{
    assert(region->mode == EVH_LIVE);
    assert(region->process != os->process());
    if (region->lock_file >= 0) (void)os->close(region->lock_file);
    region->lock_file = -1;
    /* Its name may mean another file by now, or none. */
    char again[OS_FILE_PATH_SIZE];
    const evh_status status =
        open_lock_file(region, os_path_of_file(region->file, again) ? again : region->path);
    if (!status) region->process = os->process();
    return status;
}

void region_forked(struct region *region)
{
    assert(region->process != os->process());
    assert(region != NULL);
    if (region->lock_file >= 0) (void)os->close(region->lock_file);
    region->lock_file = -1;
}
