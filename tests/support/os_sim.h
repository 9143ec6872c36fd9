/* os_sim.h -- a simulated machine behind the os contract: files in memory, power cuts, faults.
 *
 * A `struct sim` is a machine: files, names, locks, a clock and a source of random numbers, all
 * deterministic. sim_use() makes it the one that the library's calls reach. What reads and maps see
 * is the cached image of a file (a memfd, so that private and shared maps behave as the kernel's
 * own). Every call that changes something durable is recorded in the machine's log.
 *
 * A `struct sim_disk` is the other side: what a log leaves on the device. sim_disk_step() takes it
 * over one operation of the log; between the steps its durable bytes and its pending operations say
 * which images a power cut may leave there, and sim_image_*() build them in another machine.
 *
 * The model (docs/crash-model.md):
 *  1. A sector of 512 bytes is written as a whole or not at all. Pending writes reach the device in
 *     any order, sector by sector, or never. A sector is written as the cache held it at that time.
 *  2. flush makes everything of its file durable, size included. write_sync makes its own range
 *     durable, the size up to its end, and nothing else.
 *  3. A name is durable after flush_directory; before it, it is there or not.
 *  4. After a failed flush some of the pending sectors are on the device, the rest never will be
 *     unless they are written again; the cache shows them until it is dropped, and the next flush
 *     reports success.
 *  5. A killed process loses nothing that it handed to write.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_OS_SIM_H
#define EVERHEAP_TESTS_SUPPORT_OS_SIM_H

#include "os/os.h"

enum {
    SIM_SECTOR_BYTES = 512,
    SIM_FILE_BYTES_MAX = 128 << 20,
    SIM_FILE_MAX = 12, /* files that one machine ever has, until sim_reset() */
    SIM_NAME_MAX = 8,
    SIM_PATH_MAX = 64,
    SIM_DESCRIPTOR_MAX = 64,
    SIM_LOCK_MAX = 64,
    SIM_THREAD_MAX = 4,
    SIM_PAGE_WORDS =
        SIM_FILE_BYTES_MAX / PAGE_BYTES / 64, /* of a bitmap with a bit for each page */
};

/* ---- the log ---- */

enum sim_kind {
    SIM_NEW, /* the slot `file` is a new, empty file */
    SIM_WRITE,
    SIM_WRITE_SYNC,
    SIM_FLUSH,
    SIM_FLUSH_FAILED, /* value: the seed that decides which pending sectors reached the device */
    SIM_SYNC_FAILED,  /* a write_sync whose flush failed: data as in SIM_WRITE, value as above */
    SIM_ALLOCATE,
    SIM_TRUNCATE, /* offset: the new size */
    SIM_PUNCH,
    SIM_CREATE,  /* path in data; file gets a name */
    SIM_PUBLISH, /* likewise */
    SIM_FLUSH_DIRECTORY,
    SIM_MARK, /* the test's own: value and extra */
};

struct sim_operation {
    enum sim_kind kind;
    uint32_t file;
    uint64_t offset; /* of writes: rounded to whole sectors */
    uint64_t size;
    uint64_t end; /* of writes: where the write itself ended: the file is at least so long */
    uint64_t value;
    uint64_t extra;
    size_t data; /* of writes: where the bytes begin in the log */
};

struct sim_log {
    struct sim_operation *operations;
    size_t count, capacity;
    unsigned char *bytes;
    size_t byte_count, byte_capacity;
};

static inline const unsigned char *sim_log_data(const struct sim_log *log,
                                                const struct sim_operation *operation)
{
    return log->bytes + operation->data;
}

/* ---- the device ---- */

struct sim_pending {
    const struct sim_log *log; /* borrowed */
    uint32_t operation;
    uint32_t order; /* when it became pending */
};

struct sim_durable {
    unsigned char *bytes; /* SIM_FILE_BYTES_MAX of addresses */
    uint32_t *stamps;     /* of each sector: operations up to this order are superseded in it */
    uint64_t size;
    uint64_t extent;   /* bytes ever used: beyond, all is zero */
    uint64_t *changed; /* pages, since the last image */
    bool exists;
};

struct sim_name {
    char path[SIM_PATH_MAX];
    uint32_t file;
    bool used;
};

struct sim_disk {
    struct sim_durable files[SIM_FILE_MAX];
    struct sim_name names[SIM_NAME_MAX];
    struct sim_pending *pending;
    size_t pending_count, pending_capacity;
    uint32_t order;
    uint64_t identity;    /* a hash of all durable bytes and sizes */
    bool ignores_flushes; /* a disk that lies */
};

/* ---- the machine ---- */

enum sim_fault_kind {
    SIM_FAULT_WRITE = 1,
    SIM_FAULT_FLUSH = 2,
    SIM_FAULT_ALLOCATE = 4,
    SIM_FAULT_READ = 8,
    SIM_FAULT_MEMORY = 16
};

struct sim_counts {
    uint64_t writes, write_bytes, write_syncs, flushes, allocates, punches, reads, maps;
    uint64_t memory;       /* blocks of memory_allocate that were not freed */
    uint64_t reservations; /* that were not released */
    uint64_t descriptors;  /* that are open */
};

struct sim; /* os_sim.c */

/** The calls of the simulated machine in use. */
const struct os_calls *os_sim(void);

/** A machine without files. Owned: sim_end(). */
struct sim *sim_create(uint64_t seed);
void sim_end(struct sim *sim);
/** Forget all files, names, locks and the log; keep the memory for the next use. */
void sim_reset(struct sim *sim, uint64_t seed);
/** The library's calls go to `sim` from now on (os_use() is called). NULL: the real system. */
void sim_use(struct sim *sim);
/** The process that makes the calls: of os->process(). */
void sim_set_process(struct sim *sim, uint64_t process);
/** The machine's process was killed (or the power is off): calls that change anything fail with EIO
 *  and change nothing, so that a heap can be closed to free its memory. sim_reset() ends it, and
 *  sim_revive(): another process runs on the same machine. */
void sim_kill(struct sim *sim);
void sim_revive(struct sim *sim);
/** Which boot of the machine this is: the library asks whether the cache is still the one it
 *  knew. */
void sim_set_boot(struct sim *machine, uint64_t boot);
uint64_t sim_boot(const struct sim *machine);
/** Whether collect() answers with every page (true, the default) or asks the real tiers. */
void sim_set_compare(struct sim *sim, bool compare);
/** The machine's memory has pages of so many bytes, 0: of 4096, as far as dropping them goes: as a
 *  kernel does, a drop begins at a page, and ends where a page does, whatever was asked for. */
void sim_set_page_bytes(struct sim *sim, uint64_t page_bytes);
/** Whether threads can be started (no by default). They run one at a time, and take turns at calls
 *  to the system, as the machine's seed has it. */
void sim_set_threads(struct sim *sim, bool has_threads);
/** Fail the n-th call (1: the next) of the `kinds` with `error`, and `times` - 1 after it. */
void sim_fail(struct sim *sim, unsigned kinds, uint64_t nth, int error, uint64_t times);
/** Whether the planned fault has struck. */
bool sim_has_failed(const struct sim *sim);
/** Drop every clean page from the cache: lost writes disappear. */
void sim_drop_cache(struct sim *sim);
struct sim_log *sim_log(struct sim *sim);
/** Record a mark of the test's. */
void sim_mark(struct sim *sim, uint64_t value, uint64_t extra);
const struct sim_counts *sim_counts(const struct sim *sim);
/** The cached bytes of a named file, borrowed until the machine changes; NULL if there is none. */
unsigned char *sim_bytes(struct sim *sim, const char *path, uint64_t *size);
/** The test changed [offset, offset + size) of a named file through sim_bytes(). */
void sim_changed(struct sim *sim, const char *path, uint64_t offset, uint64_t size);
/** Keep a device beside the cache, so that failed flushes and dropped caches can be simulated. */
void sim_keep_disk(struct sim *sim);

/* ---- device and images (sim_disk.c) ---- */

/** An empty device. Owned: sim_disk_end(). */
struct sim_disk *sim_disk_create(void);
void sim_disk_end(struct sim_disk *disk);
void sim_disk_reset(struct sim_disk *disk);
/** Make `target` a copy of `source`, pending operations included (their logs stay borrowed). */
void sim_disk_copy(struct sim_disk *target, const struct sim_disk *source);
/** Make `disk` what `sim` caches, with nothing pending. */
void sim_disk_from(struct sim_disk *disk, struct sim *sim);
/** Take the device over one operation of the log. */
void sim_disk_step(struct sim_disk *disk, const struct sim_log *log, size_t index);
/** The operation is in flight: it is pending. sim_disk_unbegin() takes it back, before the step. */
void sim_disk_begin(struct sim_disk *disk, const struct sim_log *log, size_t index);
void sim_disk_unbegin(struct sim_disk *disk);
/** The operation behind pending[i]. */
const struct sim_operation *sim_pending_operation(const struct sim_disk *disk, size_t i);

enum sim_lost { SIM_LOST_OLD, SIM_LOST_ZERO, SIM_LOST_GARBAGE };

/** Begin an image of `disk` in `target` (reset by this): the durable bytes. */
void sim_image_begin(struct sim_disk *disk, struct sim *target, uint64_t seed);
/** Pending operation i reaches the device. */
void sim_image_apply(struct sim_disk *disk, struct sim *target, size_t i);
/** Only the sectors [first, end) of pending operation i, a write, reach the device. */
void sim_image_apply_sectors(struct sim_disk *disk, struct sim *target, size_t i, uint64_t first,
                             uint64_t end);
/** Sector `sector` of pending operation i holds what `lost` says. */
void sim_image_lose_sector(struct sim_disk *disk, struct sim *target, size_t i, uint64_t sector,
                           enum sim_lost lost, uint64_t seed);
/** A hash of the image that was built in `target`: equal images have the same. */
uint64_t sim_image_identity(struct sim *target);
/** How many sectors pending operation i writes; 1 for operations that are no writes. */
uint64_t sim_pending_sectors(const struct sim_disk *disk, size_t i);

/* ---- between os_sim.c and sim_disk.c ---- */

/** A file of a machine as an image builder sees it. */
struct sim_content {
    unsigned char *cached; /* SIM_FILE_BYTES_MAX of addresses */
    uint64_t *size;
    bool *exists;
    uint64_t *touched; /* pages that may differ from the image's base */
    uint64_t *used;    /* bytes beyond are zero */
};
struct sim_content sim_content(struct sim *sim, uint32_t file);
/** As sim_content(), all NULL if the machine never had that file. */
struct sim_content sim_content_if_used(struct sim *sim, uint32_t file);
struct sim_name *sim_names(struct sim *sim);
/** What device the machine's image was last built from; compared, never followed. */
const void **sim_image_base(struct sim *sim);
uint64_t *sim_identity(struct sim *sim);

#endif
