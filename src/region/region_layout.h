/* region_layout.h -- slice 0 of a heap file. docs/format.md is the specification. */
#ifndef EVERHEAP_REGION_REGION_LAYOUT_H
#define EVERHEAP_REGION_REGION_LAYOUT_H

#include "base/base.h"

/*
 *   0x0000  header slot A     one record of 512 bytes, the rest of the page zero
 *   0x1000  header slot B
 *   0x2000  status page       volatile: published for other processes, never flushed, never trusted
 *                             by recovery
 *   0x3000  page checksums    of the heap's first 1024 pages (4 MiB); see checksum_slice
 *   0x4000  journal extent 0  48 KiB
 *   0x10000 slice 1           the metadata of segment 0 (heap_layout.h)
 */
enum {
    REGION_SLOT_BYTES = 512,
    REGION_SLOT_COUNT = 2,
    REGION_SLOT_STRIDE = 4096,
    REGION_STATUS_OFFSET = 0x2000,
    REGION_CHECKSUM_OFFSET = 0x3000,
    REGION_FIRST_EXTENT_OFFSET = 0x4000,
    REGION_FIRST_EXTENT_BYTES = SLICE_BYTES - REGION_FIRST_EXTENT_OFFSET,
    REGION_EXTENT_MAX = 16,             /* journal extents besides the first */
    REGION_NEW_BYTES = 4 * SLICE_BYTES, /* a new heap's file */
};

#define REGION_MAGIC 0x7061656872657665ull        /* the letters "everheap" */
#define REGION_STATUS_MAGIC 0x7375746174537665ull /* the letters "evStatus" */
#define REGION_FORMAT_VERSION 1u
#define REGION_BYTE_ORDER 0x01020304u
#define REGION_SEQUENCE_MAX (1ull << 60) /* of commits and of header generations */
#define REGION_SIZE_MAX (1ull << 47)     /* of a heap: user addresses have 47 bits */

/* Feature flags. Unknown bits in `incompatible` refuse opening, in `read_only_compatible` refuse
 * writing, in `compatible` mean nothing. */
enum {
    /* The journal may hold entries of kind JOURNAL_HOME, and `bulk_bytes` counts. */
    REGION_FEATURE_BULK = 1,
    REGION_INCOMPATIBLE_KNOWN = REGION_FEATURE_BULK,
    REGION_READ_ONLY_COMPATIBLE_KNOWN = 0,
};

/* A run of slices that the journal owns, outside the allocator's and rollback's reach. */
struct region_extent {
    uint32_t first_slice;
    uint32_t slice_count; /* 0: this entry and all behind it are unused */
};

/*
 * One header record. The valid slot with the higher `generation` is the heap's header. It describes
 * the checkpointed state: what the file holds at home without any journal record.
 */
struct region_header {
    uint64_t magic;
    uint32_t format_version;
    uint32_t byte_order;
    uint64_t incompatible;
    uint64_t read_only_compatible;
    uint64_t compatible;
    uint8_t uuid[16];
    uint32_t page_bytes;  /* 4096 on every system */
    uint32_t slice_shift; /* 16 */
    uint32_t mode;        /* EVH_DURABLE or EVH_LIVE; EVH_MEMORY in images */
    uint32_t reserved0;
    uint64_t generation; /* of the header: one more with every write */
    uint64_t created_ns; /* wall clock, a label */
    uint64_t preferred_address;
    uint64_t size_max_bytes;
    /* The checkpointed commit. */
    uint64_t sequence;             /* commits up to this one are at home */
    uint64_t heap_bytes;           /* the heap's end, a multiple of the slice size */
    uint64_t catalog;              /* ref of the heap's catalog block */
    uint64_t earlier_addresses[4]; /* where it was mapped before, the latest first; 0: nowhere */
    /* Where its successor's record is: right behind its own record, or at an extent's start. */
    uint64_t tail_offset; /* in the file; 4 KiB-aligned, inside an extent or at its end */
    uint64_t chain_salt;  /* of the checkpointed commit's record */
    uint32_t chain_crc;   /* likewise */
    uint32_t reserved1;
    struct region_extent extents[REGION_EXTENT_MAX];
    /* From the end of the last commit's heap up to here the file may hold what a commit that never
     * became durable has left: it is zeroed before anything else. 0 without the feature. */
    uint64_t bulk_bytes;
    uint8_t reserved2[188];
    uint32_t crc; /* CRC-32C of the 508 bytes before it */
};

static_assert(sizeof(struct region_extent) == 8, "on disk");
static_assert(sizeof(struct region_header) == REGION_SLOT_BYTES,
              "one sector, so that it cannot tear");
static_assert(offsetof(struct region_header, crc) == REGION_SLOT_BYTES - 4, "the crc comes last");

/*
 * The status page: how a writer talks to readers in other processes. Written with plain writes into
 * the system's cache, which all processes of this machine see at once. After a power cut it may
 * hold anything older, and counts for nothing; when it counts, docs/crash-model.md says.
 */
struct region_status {
    uint64_t magic;
    uint8_t uuid[16];
    uint64_t writer_process; /* who has the heap open for writing, if the writer's lock is held */
    uint64_t opened_ns;
    uint64_t durable_sequence; /* commits up to this one are flushed */
    uint64_t revoked_sequence; /* views of commits below this one are void: EVH_STALE */
    /* How far home pages are written, flushed or not. True for a file that this boot of the system
     * has kept in its cache ever since: same boot, same device, same inode; a hint that spares
     * recovery work after a killed process, and nothing after a power cut. */
    uint64_t settled_sequence;
    uint8_t boot[16];
    uint64_t device;
    uint64_t inode;
    uint64_t generation; /* of the newest header that is known to be flushed */
    /* How far home pages may be written: published before the first of them is. */
    uint64_t settling_sequence;
    uint64_t reserved;
    uint32_t reserved1;
    uint32_t crc; /* of the 124 bytes before it */
};

static_assert(sizeof(struct region_status) == 128, "on disk");

/* Bytes of the lock file description, far behind any data. */
#define REGION_LOCK_WRITER ((1ull << 62) - 1) /* held exclusively by the one writer */
/* Likewise, from when its status page is published: before that, the page is its predecessor's. */
#define REGION_LOCK_READY ((1ull << 62) - 2)
/* Byte REGION_LOCK_VIEWS + s: a reader's view of commit s. */
#define REGION_LOCK_VIEWS (1ull << 62)

/* Live heaps: byte REGION_LOCK_ATTACHED is held shared by whoever is attached, exclusively while
 * the first one attaches; byte REGION_LOCK_PROCESSES + p exclusively by the process in slot p. */
#define REGION_LOCK_ATTACHED ((1ull << 61) - 1)
#define REGION_LOCK_PROCESSES (1ull << 61)

#endif
