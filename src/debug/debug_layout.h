/* debug_layout.h -- the log of operations, as it lies in a file and in a live heap: docs/format.md,
 * section 12. */
#ifndef EVERHEAP_DEBUG_DEBUG_LAYOUT_H
#define EVERHEAP_DEBUG_DEBUG_LAYOUT_H

#include "base/base.h"

#include <everheap/debug.h>

#define LOG_MAGIC 0x31474f4c48564540u  /* "@EVHLOG1", of every record */
#define LOG_RING_MAGIC 0x31474e4952564540u /* "@EVRING1" */

/* Of an operation. `operation.number` is stored last: 0 while the record is written. */
struct log_record {
    uint64_t magic;
    struct evh_debug_operation operation;
};

static_assert(sizeof(struct evh_debug_operation) == 128, "on disk");
static_assert(sizeof(struct log_record) == 136, "on disk");

enum { LOG_RING_RECORDS = 2048 };

/* In a live heap: the block of a root with the tag EVH_DEBUG_LOG_TAG. */
struct debug_ring {
    uint64_t magic;
    uint64_t count; /* operations so far, by all processes; atomic */
    uint64_t reserved[6];
    struct log_record records[LOG_RING_RECORDS]; /* number n is in record n % LOG_RING_RECORDS */
};

static_assert(sizeof(struct debug_ring) == 278592, "on disk");

#endif
