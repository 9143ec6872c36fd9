/* types_layout.h -- the registry of types: blocks under the root `$types`. docs/format.md. */
#ifndef EVERHEAP_HEAP_TYPES_LAYOUT_H
#define EVERHEAP_HEAP_TYPES_LAYOUT_H

#include "heap/heap_layout.h"

#define TYPES_ROOT "$types"
#define TYPES_TABLE_MAGIC 0x7365707954485645ull  /* the letters "EVHTypes" */
#define TYPES_RECORD_MAGIC 0x6570795474485645ull /* the letters "EVHtType" */

enum {
    TYPES_CHUNKS = 10,
    TYPES_FIRST = 64, /* refs of chunk 0; each further chunk has twice as many */
    TYPES_FIELDS_MAX = 4096,
};

/* Type n is ref n - 1 of all chunks together. A ref is stored once, and never changed. */
struct types_table {
    uint64_t magic;
    uint64_t reserved[5];
    evh_ref chunks[TYPES_CHUNKS]; /* 0: not made */
};

static_assert(sizeof(struct types_table) == 128, "on disk");

/* A type: this, and `field_count` fields. */
struct types_record {
    uint64_t magic; /* TYPES_RECORD_MAGIC */
    uint64_t size;
    uint32_t number;
    uint32_t field_count;
    uint64_t reserved;
    char name[EVH_NAME_SIZE_MAX + 1]; /* zero-padded */
};

static_assert(sizeof(struct types_record) == 96, "on disk");

struct types_field {
    uint32_t offset;
    uint32_t size;  /* of one item */
    uint32_t count; /* of items; 0: up to the end of the block */
    uint16_t kind;  /* enum evh_field_kind */
    uint16_t tag_size;
    uint32_t tag_offset; /* of an integer of tag_size bytes; tag_size 0: there is none */
    uint32_t reserved;
    uint64_t tag_value;
    char name[EVH_NAME_SIZE_MAX + 1];
    char target[EVH_NAME_SIZE_MAX + 1]; /* type of what it refers to, or of the struct; "": any */
};

static_assert(sizeof(struct types_field) == 160, "on disk");

#endif
