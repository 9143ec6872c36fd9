/* os_sim.c -- the calls of the simulated machine: its files, locks, maps, clock and faults. */
#include "support/os_sim_machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct sim *sim;

uint64_t sim_random_next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void sim_die(const char *what)
{
    fprintf(stderr, "os_sim: %s\n", what);
    abort();
}

/* ---- faults ---- */

int sim_fault(unsigned kind)
{
    if (!(sim->fault_kinds & kind)) return 0;
    if (sim->fault_after > 1) {
        sim->fault_after--;
        return 0;
    }
    if (sim->fault_times == 0) return 0;
    sim->fault_times--;
    sim->fault_struck = true;
    return sim->fault_error;
}

void sim_fail(struct sim *machine, unsigned kinds, uint64_t nth, int error, uint64_t times)
{
    machine->fault_kinds = kinds;
    machine->fault_after = nth;
    machine->fault_error = error;
    machine->fault_times = times;
    machine->fault_struck = false;
}

bool sim_has_failed(const struct sim *machine)
{
    return machine->fault_struck;
}

/* ---- the log ---- */

static struct sim_operation *log_add(struct sim *machine, enum sim_kind kind, uint32_t file)
{
    struct sim_log *log = &machine->log;
    if (log->count == log->capacity) {
        log->capacity = log->capacity ? 2 * log->capacity : 256;
        log->operations = realloc(log->operations, log->capacity * sizeof *log->operations);
        if (!log->operations) sim_die("no memory for the log");
    }
    struct sim_operation *operation = &log->operations[log->count++];
    *operation = (struct sim_operation){.kind = kind, .file = file, .data = log->byte_count};
    return operation;
}

static void log_bytes(struct sim *machine, const void *bytes, size_t size)
{
    struct sim_log *log = &machine->log;
    if (log->byte_count + size > log->byte_capacity) {
        log->byte_capacity = 2 * (log->byte_count + size) + 65536;
        log->bytes = realloc(log->bytes, log->byte_capacity);
        if (!log->bytes) sim_die("no memory for the log");
    }
    memcpy(log->bytes + log->byte_count, bytes, size);
    log->byte_count += size;
}

/* The operation just recorded reaches the device that is kept beside the cache, if one is. */
static void log_done(struct sim *machine)
{
    if (machine->disk) sim_disk_step(machine->disk, &machine->log, machine->log.count - 1);
}

/* Record a write of [offset, end): whole sectors, as the cache now holds them. */
static void log_write(enum sim_kind kind, uint32_t file, uint64_t offset, uint64_t end,
                      uint64_t value)
{
    struct sim_operation *operation = log_add(sim, kind, file);
    operation->offset = base_round_down(offset, SIM_SECTOR_BYTES);
    operation->size = base_round_up(end, SIM_SECTOR_BYTES) - operation->offset;
    operation->end = end;
    operation->value = value;
    log_bytes(sim, sim->files[file].cached + operation->offset, operation->size);
    log_done(sim);
}

struct sim_log *sim_log(struct sim *machine)
{
    return &machine->log;
}

void sim_mark(struct sim *machine, uint64_t value, uint64_t extra)
{
    struct sim_operation *operation = log_add(machine, SIM_MARK, 0);
    operation->value = value;
    operation->extra = extra;
}

/* ---- machines ---- */

static void file_prepare(struct sim_file *file)
{
    if (!file->cached) {
        file->memory = memfd_create("os_sim", MFD_CLOEXEC);
        if (file->memory < 0 || ftruncate(file->memory, SIM_FILE_BYTES_MAX)) sim_die("no memfd");
        file->cached =
            mmap(NULL, SIM_FILE_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, file->memory, 0);
        if (file->cached == MAP_FAILED) sim_die("no map of a memfd");
        file->touched = calloc(2 * SIM_PAGE_WORDS, sizeof(uint64_t));
        if (!file->touched) sim_die("no memory");
        file->holes = file->touched + SIM_PAGE_WORDS;
    }
    file->size = 0;
    file->was_named = false;
    file->opens = 0;
}

struct sim *sim_create(uint64_t seed)
{
    static uint64_t machines;
    struct sim *machine = calloc(1, sizeof *machine);
    if (!machine) sim_die("no memory");
    for (int i = 0; i < SIM_FILE_MAX; i++) machine->files[i].memory = -1;
    machine->number = ++machines;
    machine->compare = true;
    sim_reset(machine, seed);
    return machine;
}

void sim_reset(struct sim *machine, uint64_t seed)
{
    for (int i = 0; i < SIM_FILE_MAX; i++) {
        struct sim_file *file = &machine->files[i];
        file->exists = false;
        if (file->has_holes) memset(file->holes, 0, SIM_PAGE_WORDS * sizeof(uint64_t));
        file->has_holes = false;
    }
    memset(machine->names, 0, sizeof machine->names);
    memset(machine->descriptors, 0, sizeof machine->descriptors);
    memset(machine->locks, 0, sizeof machine->locks);
    memset(&machine->counts, 0, sizeof machine->counts);
    machine->log.count = machine->log.byte_count = 0;
    machine->random_state = seed;
    machine->clock_ns = 1000000000;
    machine->process = 1;
    machine->is_killed = false;
    machine->fault_kinds = 0;
    if (machine->disk) sim_disk_end(machine->disk);
    machine->disk = NULL;
    sim_threads_reset(machine, seed);
}

void sim_end(struct sim *machine)
{
    if (!machine) return;
    if (sim == machine) sim_use(NULL);
    for (int i = 0; i < SIM_FILE_MAX; i++) {
        struct sim_file *file = &machine->files[i];
        if (!file->cached) continue;
        munmap(file->cached, SIM_FILE_BYTES_MAX);
        close(file->memory);
        free(file->touched);
    }
    sim_disk_end(machine->disk);
    sim_threads_end(machine);
    free(machine->log.operations);
    free(machine->log.bytes);
    free(machine);
}

void sim_use(struct sim *machine)
{
    sim = machine;
    os_use(machine ? os_sim() : NULL);
}

void sim_set_process(struct sim *machine, uint64_t process)
{
    machine->process = process;
}

void sim_kill(struct sim *machine)
{
    machine->is_killed = true;
}

void sim_revive(struct sim *machine)
{
    if (machine->counts.descriptors) sim_die("sim_revive: the killed process still has files open");
    machine->is_killed = false;
}

void sim_set_compare(struct sim *machine, bool compare)
{
    machine->compare = compare;
}

void sim_set_page_bytes(struct sim *machine, uint64_t page_bytes)
{
    machine->page_bytes = page_bytes;
}

void sim_set_threads(struct sim *machine, bool has_threads)
{
    machine->has_threads = has_threads;
}

const struct sim_counts *sim_counts(const struct sim *machine)
{
    return &machine->counts;
}

void sim_keep_disk(struct sim *machine)
{
    if (!machine->disk) machine->disk = sim_disk_create();
    sim_disk_from(machine->disk, machine);
}

struct sim_content sim_content(struct sim *machine, uint32_t number)
{
    struct sim_file *file = &machine->files[number];
    if (!file->cached) file_prepare(file);
    return (struct sim_content){file->cached, &file->size, &file->exists, file->touched,
                                &file->used};
}

struct sim_content sim_content_if_used(struct sim *machine, uint32_t number)
{
    if (!machine->files[number].cached) return (struct sim_content){0};
    return sim_content(machine, number);
}

struct sim_name *sim_names(struct sim *machine)
{
    return machine->names;
}

const void **sim_image_base(struct sim *machine)
{
    return &machine->base;
}

uint64_t *sim_identity(struct sim *machine)
{
    return &machine->identity;
}

/* ---- names and descriptors ---- */

static struct sim_name *name_find(struct sim *machine, const char *path)
{
    for (int i = 0; i < SIM_NAME_MAX; i++)
        if (machine->names[i].used && strcmp(machine->names[i].path, path) == 0)
            return &machine->names[i];
    return NULL;
}

static struct sim_name *name_new(const char *path)
{
    if (strlen(path) >= SIM_PATH_MAX) sim_die("path too long");
    for (int i = 0; i < SIM_NAME_MAX; i++) {
        struct sim_name *name = &sim->names[i];
        if (name->used) continue;
        memcpy(name->path, path, strlen(path) + 1);
        name->used = true;
        return name;
    }
    sim_die("too many names");
}

unsigned char *sim_bytes(struct sim *machine, const char *path, uint64_t *size)
{
    const struct sim_name *name = name_find(machine, path);
    if (!name) return NULL;
    *size = machine->files[name->file].size;
    return machine->files[name->file].cached;
}

static void touch(struct sim_file *file, uint64_t offset, uint64_t end)
{
    file->used = base_max(file->used, base_round_up(end, PAGE_BYTES));
    for (uint64_t page = offset / PAGE_BYTES; page < (end + PAGE_BYTES - 1) / PAGE_BYTES; page++) {
        file->touched[page / 64] |= 1ull << page % 64;
        file->holes[page / 64] &= ~(1ull << page % 64);
    }
}

void sim_changed(struct sim *machine, const char *path, uint64_t offset, uint64_t size)
{
    const struct sim_name *name = name_find(machine, path);
    if (!name) sim_die("sim_changed: no such file");
    touch(&machine->files[name->file], offset, offset + size);
}

struct sim_descriptor *sim_descriptor_at(int number)
{
    if (number < SIM_DESCRIPTOR_FIRST || number >= SIM_DESCRIPTOR_FIRST + SIM_DESCRIPTOR_MAX)
        sim_die("not a descriptor of this machine");
    struct sim_descriptor *descriptor = &sim->descriptors[number - SIM_DESCRIPTOR_FIRST];
    if (!descriptor->is_open) sim_die("use of a closed descriptor");
    return descriptor;
}

static struct sim_file *file_at(int number)
{
    return &sim->files[sim_descriptor_at(number)->file];
}

static int descriptor_new(uint32_t file, bool is_writable, int *number)
{
    for (int i = 0; i < SIM_DESCRIPTOR_MAX; i++) {
        struct sim_descriptor *descriptor = &sim->descriptors[i];
        if (descriptor->is_open) continue;
        *descriptor = (struct sim_descriptor){true, is_writable, file};
        sim->files[file].opens++;
        sim->counts.descriptors++;
        *number = SIM_DESCRIPTOR_FIRST + i;
        return 0;
    }
    return EMFILE;
}

static int file_new(uint32_t *number)
{
    for (uint32_t i = 0; i < SIM_FILE_MAX; i++) {
        struct sim_file *file = &sim->files[i];
        if (file->exists && (file->was_named || file->opens > 0)) continue;
        file_prepare(file);
        file->exists = true;
        memset(file->cached, 0, file->used);
        memset(file->touched, 0xff, SIM_PAGE_WORDS * sizeof(uint64_t));
        memset(file->holes, 0xff, SIM_PAGE_WORDS * sizeof(uint64_t));
        file->has_holes = true;
        log_add(sim, SIM_NEW, i);
        log_done(sim);
        *number = i;
        return 0;
    }
    return ENFILE;
}

/* ---- files ---- */

static int call_open(const char *path, unsigned flags, unsigned permissions, int *number)
{
    (void)permissions;
    const struct sim_name *name = name_find(sim, path);
    if (!(flags & OS_OPEN_CREATE)) {
        if (!name) return ENOENT;
        return descriptor_new(name->file, flags & OS_OPEN_WRITE, number);
    }
    if (name) return EEXIST;
    if (sim->is_killed) return EIO;
    uint32_t file;
    int error = file_new(&file);
    if (error) return error;
    struct sim_name *fresh = name_new(path);
    fresh->file = file;
    sim->files[file].was_named = true;
    log_add(sim, SIM_CREATE, file);
    log_bytes(sim, path, strlen(path) + 1);
    log_done(sim);
    return descriptor_new(file, flags & OS_OPEN_WRITE, number);
}

static int call_open_temporary(const char *path, unsigned permissions, int *number)
{
    (void)path;
    (void)permissions;
    uint32_t file;
    if (sim->is_killed) return EIO;
    int error = sim_fault(SIM_FAULT_ALLOCATE);
    if (!error) error = file_new(&file);
    return error ? error : descriptor_new(file, true, number);
}

static int call_publish(int number, const char *path, bool replace)
{
    struct sim_descriptor *descriptor = sim_descriptor_at(number);
    struct sim_name *name = name_find(sim, path);
    if (sim->is_killed) return EIO;
    if (name && !replace) return EEXIST;
    int error = sim_fault(SIM_FAULT_WRITE);
    if (error) return error;
    if (!name) name = name_new(path);
    name->file = descriptor->file;
    sim->files[name->file].was_named = true;
    log_add(sim, SIM_PUBLISH, name->file);
    log_bytes(sim, path, strlen(path) + 1);
    log_done(sim);
    return 0;
}

static int call_close(int number)
{
    struct sim_descriptor *descriptor = sim_descriptor_at(number);
    const uint32_t index = (uint32_t)(descriptor - sim->descriptors);
    for (int i = 0; i < SIM_LOCK_MAX; i++) {
        struct sim_lock *lock = &sim->locks[i];
        if (lock->end != lock->offset && lock->descriptor == index) lock->end = lock->offset;
    }
    sim->files[descriptor->file].opens--;
    sim->counts.descriptors--;
    descriptor->is_open = false;
    return 0;
}

static int call_information(int number, struct os_file_info *info)
{
    const struct sim_file *file = file_at(number);
    *info = (struct os_file_info){.size_bytes = file->size,
                                  .allocated_bytes = file->size,
                                  .device = 1,
                                  .inode = 1 + sim_descriptor_at(number)->file,
                                  .is_regular = true};
    return 0;
}

static int call_information_at(const char *path, struct os_file_info *info)
{
    const struct sim_name *name = name_find(sim, path);
    if (!name) return ENOENT;
    const uint64_t size = sim->files[name->file].size;
    *info = (struct os_file_info){.size_bytes = size,
                                  .allocated_bytes = size,
                                  .device = 1,
                                  .inode = 1 + name->file,
                                  .is_regular = true};
    return 0;
}

static int call_read(int number, uint64_t offset, void *buffer, size_t size, size_t *done)
{
    sim_turn();
    const struct sim_file *file = file_at(number);
    sim->counts.reads++;
    const int error = sim_fault(SIM_FAULT_READ);
    if (error) return error;
    *done = offset < file->size ? (size_t)base_min(size, file->size - offset) : 0;
    memcpy(buffer, file->cached + offset, *done);
    return 0;
}

/* Store into the cache; `size` of the parts together. */
static void cache_store(struct sim_file *file, uint64_t offset, const struct os_part *parts,
                        unsigned count, uint64_t limit)
{
    uint64_t at = offset;
    for (unsigned i = 0; i < count && at < limit; i++) {
        const size_t size = (size_t)base_min(parts[i].size, limit - at);
        memcpy(file->cached + at, parts[i].data, size);
        at += size;
    }
    if (at > file->size) file->size = at;
    touch(file, offset, at);
}

static int writable(int number, uint64_t offset, uint64_t size)
{
    if (!sim_descriptor_at(number)->is_writable) return EBADF;
    if (!base_in_range(offset, size, SIM_FILE_BYTES_MAX)) return EFBIG;
    return sim->is_killed ? EIO : 0;
}

/* How much of a write that fails is written: all of it, nothing, or some sectors. */
static uint64_t part_of(uint64_t size)
{
    const uint64_t chance = sim_random_next(&sim->random_state);
    if (chance % 3 == 0) return size;
    return chance % 3 == 1 ? 0 : chance % (size / SIM_SECTOR_BYTES + 1) * SIM_SECTOR_BYTES;
}

static int call_write(int number, uint64_t offset, const void *data, size_t size)
{
    int error = writable(number, offset, size);
    if (error || size == 0) return error;
    sim_turn();
    struct sim_file *file = file_at(number);
    const struct os_part part = {data, size};
    error = sim_fault(SIM_FAULT_WRITE);
    /* After an error an unknown part is written: here a random one, in whole sectors. */
    uint64_t end = offset + size;
    if (error) end = offset + part_of(size);
    if (end > offset) {
        cache_store(file, offset, &part, 1, end);
        log_write(SIM_WRITE, sim_descriptor_at(number)->file, offset, end, 0);
    }
    sim->counts.writes++;
    sim->counts.write_bytes += size;
    return error;
}

static int call_write_sync(int number, uint64_t offset, const struct os_part *parts, unsigned count,
                           bool *flush_failed)
{
    uint64_t size = 0;
    for (unsigned i = 0; i < count; i++) size += parts[i].size;
    *flush_failed = false;
    sim_turn();
    int error = writable(number, offset, size);
    if (error || size == 0) return error;
    struct sim_file *file = file_at(number);
    const uint32_t index = sim_descriptor_at(number)->file;
    sim->counts.write_syncs++;
    sim->counts.write_bytes += size;
    error = sim_fault(SIM_FAULT_WRITE);
    if (error) {
        const uint64_t part = part_of(size);
        if (part == 0) return error;
        cache_store(file, offset, parts, count, offset + part);
        log_write(SIM_WRITE, index, offset, offset + part, 0);
        return error;
    }
    cache_store(file, offset, parts, count, offset + size);
    error = sim_fault(SIM_FAULT_FLUSH);
    *flush_failed = error != 0;
    log_write(error ? SIM_SYNC_FAILED : SIM_WRITE_SYNC, index, offset, offset + size,
              error ? sim_random_next(&sim->random_state) : 0);
    return error;
}

static int call_flush(int number)
{
    sim_turn();
    const uint32_t index = sim_descriptor_at(number)->file;
    if (sim->is_killed) return EIO;
    sim->counts.flushes++;
    const int error = sim_fault(SIM_FAULT_FLUSH);
    struct sim_operation *operation = log_add(sim, error ? SIM_FLUSH_FAILED : SIM_FLUSH, index);
    if (error) operation->value = sim_random_next(&sim->random_state);
    log_done(sim);
    return error;
}

static int call_flush_directory(const char *path)
{
    (void)path; /* there is one directory */
    if (sim->is_killed) return EIO;
    const int error = sim_fault(SIM_FAULT_FLUSH);
    if (error) return error;
    log_add(sim, SIM_FLUSH_DIRECTORY, 0);
    log_done(sim);
    return 0;
}

static void call_write_back(int number, uint64_t offset, uint64_t size)
{
    (void)number;
    (void)offset;
    (void)size;
}

/* Whether a pending operation covers part of the page: then it is dirty and cannot be dropped. */
static bool page_is_dirty(const struct sim_disk *disk, uint32_t file, uint64_t page)
{
    const uint64_t first = page * PAGE_BYTES;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct sim_operation *operation = sim_pending_operation(disk, i);
        if (operation->file == file && operation->offset < first + PAGE_BYTES &&
            first < operation->offset + operation->size)
            return true;
    }
    return false;
}

static void drop_pages(struct sim *machine, uint32_t index, uint64_t offset, uint64_t end)
{
    struct sim_file *file = &machine->files[index];
    if (!machine->disk || !file->exists) return;
    end = base_min(end, base_round_up(file->size, PAGE_BYTES));
    for (uint64_t page = offset / PAGE_BYTES; page < end / PAGE_BYTES; page++) {
        unsigned char *cached = file->cached + page * PAGE_BYTES;
        const unsigned char *durable = machine->disk->files[index].bytes + page * PAGE_BYTES;
        if (page_is_dirty(machine->disk, index, page)) continue;
        if (memcmp(cached, durable, PAGE_BYTES) == 0) continue;
        memcpy(cached, durable, PAGE_BYTES);
        touch(file, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    }
}

static void call_drop_cache(int number, uint64_t offset, uint64_t size)
{
    const uint32_t index = sim_descriptor_at(number)->file;
    const uint64_t end =
        size == 0 || size > SIM_FILE_BYTES_MAX ? SIM_FILE_BYTES_MAX : offset + size;
    drop_pages(sim, index, offset, end);
}

void sim_drop_cache(struct sim *machine)
{
    for (uint32_t i = 0; i < SIM_FILE_MAX; i++) drop_pages(machine, i, 0, SIM_FILE_BYTES_MAX);
}

static int call_allocate(int number, uint64_t offset, uint64_t size)
{
    int error = writable(number, offset, size);
    if (!error) error = sim_fault(SIM_FAULT_ALLOCATE);
    if (error) return error;
    struct sim_file *file = file_at(number);
    sim->counts.allocates++;
    file->size = base_max(file->size, offset + size);
    for (uint64_t page = offset / PAGE_BYTES; page < (offset + size) / PAGE_BYTES; page++)
        file->holes[page / 64] &= ~(1ull << page % 64);
    struct sim_operation *operation = log_add(sim, SIM_ALLOCATE, sim_descriptor_at(number)->file);
    operation->offset = offset;
    operation->size = size;
    log_done(sim);
    return 0;
}

static int call_punch(int number, uint64_t offset, uint64_t size)
{
    int error = writable(number, offset, size);
    if (!error) error = sim_fault(SIM_FAULT_ALLOCATE);
    if (error) return error;
    struct sim_file *file = file_at(number);
    sim->counts.punches++;
    memset(file->cached + offset, 0, size);
    touch(file, offset, offset + size);
    file->has_holes = true;
    for (uint64_t page = offset / PAGE_BYTES; page < (offset + size) / PAGE_BYTES; page++)
        file->holes[page / 64] |= 1ull << page % 64;
    struct sim_operation *operation = log_add(sim, SIM_PUNCH, sim_descriptor_at(number)->file);
    operation->offset = offset;
    operation->size = size;
    log_done(sim);
    return 0;
}

static int call_truncate(int number, uint64_t size)
{
    int error = writable(number, 0, size);
    if (!error) error = sim_fault(SIM_FAULT_ALLOCATE);
    if (error) return error;
    struct sim_file *file = file_at(number);
    if (size < file->size) {
        memset(file->cached + size, 0, file->size - size);
        touch(file, size, file->size);
    }
    const uint64_t end_page = SIM_FILE_BYTES_MAX / PAGE_BYTES;
    file->has_holes = true;
    for (uint64_t page = base_round_up(size, PAGE_BYTES) / PAGE_BYTES; page < end_page; page++)
        file->holes[page / 64] |= 1ull << page % 64;
    file->size = size;
    log_add(sim, SIM_TRUNCATE, sim_descriptor_at(number)->file)->offset = size;
    log_done(sim);
    return 0;
}

static int call_find_hole(int number, uint64_t offset, uint64_t size, uint64_t *hole)
{
    const struct sim_file *file = file_at(number);
    *hole = offset + size;
    for (uint64_t page = offset / PAGE_BYTES; page * PAGE_BYTES < offset + size; page++) {
        if (page * PAGE_BYTES < file->size && !(file->holes[page / 64] >> page % 64 & 1)) continue;
        *hole = base_max(offset, page * PAGE_BYTES);
        break;
    }
    return 0;
}

/* ---- locks: of descriptions, as F_OFD_SETLK ---- */

static uint64_t lock_end(uint64_t offset, uint64_t size)
{
    return size == 0 || offset + size < offset ? UINT64_MAX : offset + size;
}

/* Whether the lock stands against `kind` on [offset, end) of the descriptor's file. */
static bool lock_refuses(const struct sim_lock *lock, uint32_t descriptor, uint64_t offset,
                         uint64_t end, enum os_lock_kind kind)
{
    if (lock->end == lock->offset || lock->descriptor == descriptor) return false;
    if (sim->descriptors[lock->descriptor].file != sim->descriptors[descriptor].file) return false;
    if (lock->end <= offset || end <= lock->offset) return false;
    return kind == OS_LOCK_EXCLUSIVE || lock->kind == OS_LOCK_EXCLUSIVE;
}

static int lock_add(uint32_t descriptor, uint64_t offset, uint64_t end, enum os_lock_kind kind)
{
    if (offset >= end) return 0;
    for (int i = 0; i < SIM_LOCK_MAX; i++) {
        struct sim_lock *lock = &sim->locks[i];
        if (lock->end != lock->offset) continue;
        *lock = (struct sim_lock){offset, end, descriptor, kind};
        return 0;
    }
    return ENOLCK;
}

static int call_lock(int number, uint64_t offset, uint64_t size, enum os_lock_kind kind)
{
    const struct sim_descriptor *owner = sim_descriptor_at(number);
    const uint32_t descriptor = (uint32_t)(owner - sim->descriptors);
    const uint64_t end = lock_end(offset, size);
    if (kind == OS_LOCK_EXCLUSIVE && !owner->is_writable) return EBADF;
    if (kind != OS_UNLOCK)
        for (int i = 0; i < SIM_LOCK_MAX; i++)
            if (lock_refuses(&sim->locks[i], descriptor, offset, end, kind)) return EAGAIN;
    /* The range replaces whatever this description held there. */
    for (int i = 0; i < SIM_LOCK_MAX; i++) {
        const struct sim_lock old = sim->locks[i];
        if (old.end == old.offset || old.descriptor != descriptor) continue;
        if (old.end <= offset || end <= old.offset) continue;
        sim->locks[i].end = sim->locks[i].offset;
        int error = lock_add(descriptor, old.offset, base_min(old.end, offset), old.kind);
        if (!error) error = lock_add(descriptor, base_max(end, old.offset), old.end, old.kind);
        if (error) return error;
    }
    return kind == OS_UNLOCK ? 0 : lock_add(descriptor, offset, end, kind);
}

static int call_lock_is_taken(int number, uint64_t offset, uint64_t size, bool *taken)
{
    const uint32_t descriptor = (uint32_t)(sim_descriptor_at(number) - sim->descriptors);
    const uint64_t end = lock_end(offset, size);
    *taken = false;
    for (int i = 0; i < SIM_LOCK_MAX; i++)
        if (lock_refuses(&sim->locks[i], descriptor, offset, end, OS_LOCK_EXCLUSIVE)) *taken = true;
    return 0;
}

const struct os_calls *os_sim(void)
{
    static struct os_calls calls = {
        .open = call_open,
        .open_temporary = call_open_temporary,
        .publish = call_publish,
        .close = call_close,
        .information = call_information,
        .information_at = call_information_at,
        .read = call_read,
        .write = call_write,
        .write_sync = call_write_sync,
        .flush = call_flush,
        .flush_directory = call_flush_directory,
        .write_back = call_write_back,
        .drop_cache = call_drop_cache,
        .allocate = call_allocate,
        .punch = call_punch,
        .truncate = call_truncate,
        .find_hole = call_find_hole,
        .lock = call_lock,
        .lock_is_taken = call_lock_is_taken,
    };
    if (!calls.map) sim_memory_calls(&calls);
    if (!calls.wait) sim_thread_calls(&calls);
    return &calls;
}
