/* heap_layout.h -- what the heap keeps in the file, inside the committed image. docs/format.md. */
#ifndef EVERHEAP_HEAP_HEAP_LAYOUT_H
#define EVERHEAP_HEAP_HEAP_LAYOUT_H

#include "base/base.h"

/*
 * A segment (64 MiB, 1024 slices) has one metadata slice. Segment 0's is slice 1; another segment's
 * is normally its own first slice, and somewhere before it if the segment begins inside a large
 * run. The directory, in segment 0's metadata slice, says where.
 *
 *   0x0000  descriptors   1024 x 8 bytes, one per slice of the segment
 *   0x2000  directory     512 x 8 bytes (segment 0 only; zero elsewhere)
 *   0x3000  bitmap pool   52 KiB of bitmaps; more in slices of kind BITMAP in the same segment
 */
enum {
    HEAP_FIRST_META_SLICE = 1,
    HEAP_DESCRIPTORS_OFFSET = 0,
    HEAP_DIRECTORY_OFFSET = 0x2000,
    HEAP_POOL_OFFSET = 0x3000,
    HEAP_DIRECT_SEGMENTS = 256,  /* directory entries 0..255: segments 0..255 (16 GiB) */
    HEAP_INDIRECT_ENTRIES = 256, /* entries 256..511: slices of 8192 more entries each */
    HEAP_INDIRECT_SEGMENTS = SLICE_BYTES / 8,
};

/* A directory entry: where a segment keeps its metadata, and where its page checksums are (written
 * by the checkpoint, outside the committed image). An indirect entry has the slice of entries in
 * meta_slice and 0 in checksum_slice. All zero: the segment does not exist. Segment 0 gets its
 * checksum slice when it grows beyond 4 MiB; before that its checksums are in slice 0. */
struct heap_directory_entry {
    uint32_t meta_slice;
    uint32_t checksum_slice;
};

static_assert(sizeof(struct heap_directory_entry) == 8, "on disk");

/*
 * A slice's descriptor: one 64-bit word, so that one store changes its kind. All zero: free.
 *
 *   bits 0..3   kind
 *   bits 4..7   attributes
 *   bits 8..14  size class                     SMALL, MEDIUM
 *   bits 15..37 bitmap slot                    SMALL, MEDIUM
 *   bits 32..63 slice count of the run         LARGE
 *   bits 32..63 distance to the run's head     TAIL (of a MEDIUM or LARGE run), at least 1
 *   others      zero, checked
 *
 * A bitmap slot is {unit: 13 low bits, slice: 10 high bits}: 8-byte unit `unit` of slice `slice` of
 * the same segment, a slice of kind BITMAP; slice 0 means the segment's metadata slice. Bit i of a
 * bitmap is block i of the slice (or of the MEDIUM run); 1 is live. Bits beyond the last block are
 * 0. A LARGE run is one live block.
 */
enum heap_kind {
    HEAP_FREE = 0,
    HEAP_SMALL = 1,  /* one slice of blocks of one class */
    HEAP_MEDIUM = 2, /* the head of 8 slices of blocks of one class */
    HEAP_LARGE = 3,  /* the head of a run that is one block */
    HEAP_TAIL = 4,
    HEAP_BITMAP = 5,
    HEAP_META = 6,
    HEAP_DIRECTORY = 7, /* an indirect directory slice */
    HEAP_CHECKSUM = 8,
    HEAP_JOURNAL = 9, /* skipped when the heap grew over a journal extent, and slice 0 */
};

enum heap_attribute {
    HEAP_HOLE = 1, /* FREE: the space was given back; allocate it before use */
    HEAP_TYPED =
        6, /* SMALL..LARGE: blocks end in a 32-bit type id. Two bits, so that no flipped one
                       is taken for it */
};

enum {
    HEAP_KIND_BITS = 4,
    HEAP_ATTRIBUTE_SHIFT = 4,
    HEAP_CLASS_SHIFT = 8,
    HEAP_SLOT_SHIFT = 15,
    HEAP_COUNT_SHIFT = 32,
    HEAP_MEDIUM_SLICES = 8,
    HEAP_SMALL_MAX = 8192,   /* bytes; larger blocks are MEDIUM */
    HEAP_MEDIUM_MAX = 65536, /* bytes; larger blocks are LARGE */
};

/*
 * Size classes: 16, 32, ... 128, then eight per doubling (144, 160, ... 256, 288, ...) to 64 KiB.
 */
enum { HEAP_CLASS_COUNT = 8 + 9 * 8 };

/* ---- the catalog: an ordinary block; header and record carry its ref ---- */

enum {
    HEAP_ROOT_CHUNKS = 26, /* 200 million roots */
    HEAP_ROOT_FIRST = 4,   /* entries of chunk 0; small, because a heap may have 4 KiB in all */
};
#define HEAP_CATALOG_MAGIC 0x676f6c6174614365ull /* the letters "eCatalog" */

struct heap_catalog {
    uint64_t magic;
    uint64_t root_count;
    evh_ref types;   /* 0: none registered */
    evh_ref symbols; /* 0: none */
    uint64_t reserved[5];
    evh_ref root_chunks[HEAP_ROOT_CHUNKS];  /* chunk i: a block of 4 << i entries; 0: not made */
    uint32_t root_filled[HEAP_ROOT_CHUNKS]; /* entries of chunk i that are or were in use */
};

static_assert(sizeof(struct heap_catalog) == 384, "on disk");

/* A root. A chunk is a hash table with linear probing, filled to 3/4 before the next one is made;
 * an entry never moves. A removed entry is zero but for its hash. */
struct heap_root {
    uint64_t hash; /* of name or tag; 0: never used, 1: removed */
    uint64_t tag;
    evh_ref block;
    uint64_t size;                    /* bytes it was made with */
    char name[EVH_NAME_SIZE_MAX + 1]; /* zero-padded; "" for a tagged root */
};

static_assert(sizeof(struct heap_root) == 96, "on disk");
static_assert(sizeof(struct heap_catalog) == HEAP_ROOT_FIRST * sizeof(struct heap_root),
              "of one size class, so that a heap with a small root fits into four slices");

#endif
