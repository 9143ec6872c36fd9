/* dump.h -- what `everheap dump` found: collected by dump.c, printed by dump_print.c. */
#ifndef EVERHEAP_CLI_DUMP_H
#define EVERHEAP_CLI_DUMP_H

#include "cli.h"

enum { DUMP_DEPTH, DUMP_LIMIT, DUMP_BYTES, DUMP_TAG, DUMP_AT, DUMP_BLOCKS };

struct dump_block {
    uint64_t offset;
    uint64_t size; /* usable bytes */
    uint32_t type;
};

/* Blocks of one size; above DUMP_EXACT_MAX, of sizes over half of size_max up to size_max. */
struct dump_class {
    uint64_t size_max;
    uint64_t count;
    uint64_t bytes;
};

enum {
    DUMP_EXACT_MAX = 64 << 10, /* the largest block that has a size class of its own */
    DUMP_CLASS_COUNT = DUMP_EXACT_MAX + 1 + 64,
};

/* A block whose content is shown. */
struct dump_node {
    uint64_t offset;
    uint64_t size;
    uint64_t depth; /* 0: the one asked for */
    size_t block_index;
    unsigned char *data; /* owned: a copy of the first `data_bytes` */
    size_t data_bytes;
};

struct dump_report {
    const struct cli_request *request;
    struct dump_block *blocks; /* owned, in order of their offset */
    size_t block_count, block_capacity;
    uint64_t live_bytes;
    evh_root_info *roots; /* owned */
    size_t root_count, root_capacity;
    struct dump_class *classes; /* owned: DUMP_CLASS_COUNT, most of them empty */
    struct dump_node *nodes;    /* owned, breadth-first */
    size_t node_count, node_capacity;
    bool is_limited; /* there was more to follow */
};

/** Whether a content was asked for: ROOT, --tag or --at. Otherwise the overview is. */
bool dump_wants_content(const struct cli_request *request);
/** The live block that starts at `offset`, or NULL. */
const struct dump_block *dump_find(const struct dump_report *report, uint64_t offset);

void dump_text(const struct dump_report *report);
void dump_json(const struct dump_report *report);

#endif
