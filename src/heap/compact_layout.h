/* compact_layout.h -- a heap in a small or unaligned buffer. docs/format.md is
 * the specification. */
#ifndef EVERHEAP_HEAP_COMPACT_LAYOUT_H
#define EVERHEAP_HEAP_COMPACT_LAYOUT_H

#include "base/base.h"

/*
 *   0x00            header       128 bytes
 *   0x80            used         granule_count bits, padded to 64: the granule belongs to a block
 *   behind          start        as many: a block begins here
 *   behind          granules     granule_count x 16 bytes
 *
 * A block begins at a start bit and ends before the next start bit or the first unused granule.
 * The start bits are the truth about where blocks begin; a used granule without a block before it
 * is corruption. Padding bits are 0. Refs count from the header.
 */
enum {
    COMPACT_GRANULE_SHIFT = 4,
    COMPACT_GRANULE_BYTES = 1 << COMPACT_GRANULE_SHIFT,
    COMPACT_HEADER_BYTES = 128,
    COMPACT_SIZE_MIN = 1024 - COMPACT_GRANULE_BYTES, /* 1 KiB at an address that is not aligned */
    COMPACT_ALIGNMENT_MAX = 4096,
    COMPACT_FORMAT_VERSION = 1,
};

#define COMPACT_MAGIC 0x7463706d6f437665ull /* the letters "evCompct" */
#define COMPACT_BYTE_ORDER 0x01020304u
#define COMPACT_SIZE_MAX (1ull << 47) /* user addresses have 47 bits */

struct compact_header {
    uint64_t magic;
    uint32_t format_version;
    uint32_t byte_order;
    uint64_t size_bytes;    /* of the image, a multiple of 16 */
    uint64_t granule_count; /* as many as fit into size_bytes */
    uint32_t reserved0[7];  /* zero */
    uint32_t crc;           /* CRC-32C of the 60 bytes before it, which never change */
    uint64_t catalog;       /* ref of the catalog block; 0: no root was ever made */
    uint64_t reserved1[7];  /* zero */
};

static_assert(sizeof(struct compact_header) == COMPACT_HEADER_BYTES, "on disk");
static_assert(offsetof(struct compact_header, crc) == 60, "the crc covers what comes before it");
static_assert(COMPACT_HEADER_BYTES % COMPACT_GRANULE_BYTES == 0,
              "bitmaps and granules are aligned");

#endif
