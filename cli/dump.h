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

/* The first `kept` of `size` bytes. */
struct dump_bytes {
    unsigned char *bytes; /* owned */
    size_t size, kept;
};

/* An item of a collection: a key, or the index, and a value. */
struct dump_item {
    uint64_t number; /* the key, the index, the symbol, the bit */
    bool has_key_text;
    bool is_value_text; /* the value is, or is a handle of, a string */
    struct dump_bytes key, value;
};

/* A collection that a word of a node is the handle of. */
struct dump_collection {
    size_t node_index, at; /* where the handle is */
    uint64_t offset;
    evh_collection collection;
    struct dump_item *items; /* owned; not all, if there are many */
    size_t item_count;
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
    bool is_limited;                     /* there was more to follow */
    struct dump_collection *collections; /* owned */
    size_t collection_count;
};

/** Whether a content was asked for: ROOT, --tag or --at. Otherwise the overview is. */
bool dump_wants_content(const struct cli_request *request);
/** The live block that starts at `offset`, or NULL. */
const struct dump_block *dump_find(const struct dump_report *report, uint64_t offset);

/** Add the collections that node `node_index` has handles of; forget them all. */
void dump_collect_collections(evh_heap *heap, struct dump_report *report, size_t node_index);
void dump_clear_collections(struct dump_report *report);
/** Print those of a node. */
void dump_text_collections(const struct dump_report *report, size_t node_index);
void dump_json_collections(struct cli_json *json, const struct dump_report *report,
                           size_t node_index);

void dump_text(const struct dump_report *report);
void dump_json(const struct dump_report *report);

#endif
