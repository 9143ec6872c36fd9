/* json_layout.h -- how a JSON document lies in a heap. docs/json.md explains it. */
#ifndef EVERHEAP_JSON_JSON_LAYOUT_H
#define EVERHEAP_JSON_JSON_LAYOUT_H

#include "base/base.h"

#define JSON_MAGIC 0x6e6f736a52485645ull /* the letters "EVHRjson" */

enum {
    JSON_VERSION = 1,
    JSON_SLAB_BYTES = 65536, /* of cells, of texts: a block aligned to its size */
    JSON_SLAB_SHIFT = 16,
    JSON_PAGE_BYTES = 4096, /* of trees: likewise */
    JSON_PAGE_SHIFT = 12,
};

/* ---- values ---- */

enum json_type {
    JSON_NONE = 0,
    JSON_NULL = 1,
    JSON_BOOLEAN = 2,
    JSON_INTEGER = 3,
    JSON_UNSIGNED = 4,
    JSON_REAL = 5,
    JSON_DIGITS = 6,
    JSON_STRING = 7,
    JSON_BYTES = 8,
    JSON_ARRAY = 9,
    JSON_OBJECT = 10,
    JSON_REF = 11,
    JSON_TYPE_COUNT = 12,
};

enum json_slot_flags {
    JSON_TEXT_IS_LARGE = 1, /* STRING: the text is a block of its own */
    JSON_NO_POINT = 2,      /* REAL: written without a point, which only -0 is */
};

/* A value, inline in its container. All zero: no value. */
struct json_slot {
    uint8_t type;
    uint8_t flags;
    uint16_t reserved;
    uint32_t id;      /* ARRAY, OBJECT: the container's number; REF: its cell's; else 0 */
    uint64_t payload; /* BOOLEAN: 0 or 1. INTEGER, UNSIGNED, REAL: the number. STRING: offset of its
                         first byte. DIGITS, BYTES: offset of a json_blob. ARRAY, OBJECT: offset of
                         the json_container. REF: offset of the json_ref. */
};

static_assert(sizeof(struct json_slot) == 16, "on disk");

/* Digits of a number, or bytes: a block. `size` bytes follow, and a zero. */
struct json_blob {
    uint64_t size;
};

static_assert(sizeof(struct json_blob) == 8, "on disk");

/* ---- cells: structures of one size that never move, known by number ---- */

/* The numbers of slab i are i x per_slab ...; cell 0 of a slab is its header. A directory of slab
 * offsets leads from number to cell. A free cell stays a cell: a stale number never meets other
 * data, and the cell's serial tells it. */
struct json_cells {
    uint64_t directory; /* block of slab_capacity offsets */
    uint32_t slab_count;
    uint32_t slab_capacity;
    uint32_t free_first; /* cell number; 0: none */
    uint32_t fresh;      /* the next number that was never used */
    uint32_t used_count;
    uint32_t reserved;
};

static_assert(sizeof(struct json_cells) == 32, "on disk");

struct json_cell_slab {
    uint64_t magic; /* JSON_MAGIC ^ its own offset */
    uint32_t number;
    uint32_t cell_bytes;
    uint64_t reserved[2];
};

static_assert(sizeof(struct json_cell_slab) == 32, "on disk");

/* ---- containers ---- */

enum json_kind {
    JSON_KIND_FREE = 0,
    JSON_KIND_HOLDER = 1, /* exactly one value: a document's, or a detached one */
    JSON_KIND_ARRAY = JSON_ARRAY,
    JSON_KIND_OBJECT = JSON_OBJECT,
};

enum json_form {
    JSON_FLAT = 0,
    JSON_TREE = 1,
};

/* The stable part of an array, object or holder: a cell of 32 bytes. */
struct json_container {
    uint32_t serial; /* of this use of the cell */
    uint8_t kind;
    uint8_t form;
    uint16_t reserved;
    uint32_t count;     /* values in it */
    uint32_t capacity;  /* FLAT: slots of the body. TREE: 0 */
    uint64_t body;      /* FLAT: block; TREE: block of a json_tree; 0: none. FREE: the next cell */
    uint32_t parent;    /* number of the container that holds it; 0 of a holder */
    uint32_t first_ref; /* cell of the first json_ref that leads to it or to a value in it */
};

static_assert(sizeof(struct json_container) == 32, "on disk");

/*
 * A flat body is one block, for `capacity` values:
 *
 *   object   keys     capacity x 4 bytes, rounded up to 16: the symbols
 *            index    nothing up to JSON_SCAN_MAX members, else a hash table of position + 1
 *                     (0: empty) of uint8_t, from 256 members on of uint16_t
 *   both     slots    capacity x 16 bytes
 */
enum {
    JSON_SCAN_MAX = 16,   /* members that are looked through without an index */
    JSON_FLAT_MAX = 1024, /* values; more make a tree */
    JSON_FLAT_MIN = 384,  /* values; fewer make a tree flat again */
};

/* ---- trees: large arrays and objects ---- */

enum json_page_kind {
    JSON_PAGE_ITEMS = 0x6c61, /* leaf of an array */
    JSON_PAGE_MEMBERS = 0x6c6f,
    JSON_PAGE_INNER = 0x6e69,
    JSON_PAGE_BUCKET = 0x6275,
};

/* A page's number is its offset / 4096, so that 32 bits reach 16 TiB. */
struct json_page {
    uint16_t kind;
    uint16_t height; /* of an inner page: 1 above leaves. BUCKET: the bits that lead to it */
    uint32_t count;  /* values, children, entries */
    uint32_t parent; /* page; 0 of the root */
    uint32_t owner;  /* container */
    uint64_t reserved[2];
};

static_assert(sizeof(struct json_page) == 32, "on disk");

/*
 * Behind the header: ITEMS: slots. MEMBERS: JSON_MEMBERS_MAX keys of 4 bytes, then slots that end
 * with the page. INNER: JSON_CHILDREN_MAX ends of 4 bytes, then as many page numbers; end i is how
 * many values are below the children 0 to i. BUCKET: entries, a hash table with linear probing.
 */
struct json_entry {
    uint32_t key;  /* symbol; 0: empty */
    uint32_t leaf; /* page */
};

enum {
    JSON_PAGE_ROOM = JSON_PAGE_BYTES - (int)sizeof(struct json_page),
    JSON_ITEMS_MAX = JSON_PAGE_ROOM / 16,   /* 254 */
    JSON_MEMBERS_MAX = JSON_PAGE_ROOM / 20, /* 203: keys, then slots at the page's end */
    JSON_CHILDREN_MAX = JSON_PAGE_ROOM / 8, /* 508 */
    JSON_ENTRIES_MAX = JSON_PAGE_ROOM / 8,
    JSON_BUCKET_FULL = 440, /* entries at which a bucket splits: probes stay short */
    JSON_HEIGHT_MAX = 7,    /* inner levels: half-filled, 254^4 leaves already exceed 2^32 */
};

/* Order, and for objects the index: an extendible hash (R. Fagin and others, 1979) from symbol to
 * leaf. */
struct json_tree {
    uint64_t magic; /* JSON_MAGIC ^ its own offset */
    uint32_t root;  /* page */
    uint32_t height;
    uint64_t directory;       /* block of 2^depth page numbers; 0 of arrays */
    uint32_t directory_depth; /* bits */
    uint32_t bucket_count;
    uint64_t reserved[4];
};

static_assert(sizeof(struct json_tree) == 64, "on disk");

/* ---- texts: the strings ---- */

/*
 * A slab of texts is full of entries, end to end from byte 64 on: header, bytes, a zero, up to a
 * multiple of 8. A longer string than JSON_TEXT_SMALL_MAX is a block of its own, in a list.
 */
enum {
    JSON_TEXT_SMALL_MAX = 1000, /* larger ones would leave holes in slabs that nothing fits */
    JSON_TEXT_FREE = 0xffff,    /* `size` of an entry that is free */
};

struct json_text {
    uint16_t units; /* of 8 bytes, header included */
    uint16_t size;  /* bytes of the string */
    uint32_t owner; /* the container whose value it is */
};

static_assert(sizeof(struct json_text) == 8, "on disk");

struct json_text_slab {
    uint64_t magic; /* JSON_MAGIC ^ its own offset */
    uint64_t next;  /* slab: all of them */
    uint64_t previous;
    uint64_t next_sparse; /* slab: of those worth another filling */
    uint64_t previous_sparse;
    uint32_t live_bytes;
    uint32_t is_sparse; /* in that list */
    uint64_t reserved[2];
};

static_assert(sizeof(struct json_text_slab) == 64, "on disk");

struct json_large_text {
    uint64_t magic; /* JSON_MAGIC ^ its own offset */
    uint64_t next;
    uint64_t previous;
    uint64_t size;
    uint64_t capacity; /* bytes, without the zero */
    uint32_t owner;
    uint32_t reserved;
};

static_assert(sizeof(struct json_large_text) == 48, "on disk");

struct json_texts {
    uint64_t first_slab;
    uint64_t first_sparse;
    uint64_t slab;           /* the slab that is being filled; 0: none */
    uint32_t hole, hole_end; /* the part of it that is */
    uint64_t first_large;
    uint64_t slab_count;
};

static_assert(sizeof(struct json_texts) == 48, "on disk");

/* ---- refs ---- */

enum json_ref_state {
    JSON_REF_FREE = 0,
    JSON_REF_LOOSE = 1,  /* not resolved, or its target is gone */
    JSON_REF_WHOLE = 2,  /* leads to a container */
    JSON_REF_MEMBER = 3, /* leads to the member `place` (a symbol) of an object */
    JSON_REF_ITEM = 4,   /* leads to the value at `place` of an array */
};

/* A reference: a cell of 64 bytes. */
struct json_ref {
    uint32_t serial;
    uint8_t state;
    uint8_t reserved1[3];
    uint32_t owner;  /* the container whose value it is. FREE: the next cell */
    uint32_t target; /* container; not LOOSE: this ref is in its list */
    uint64_t place;
    uint32_t next; /* ref of the same target */
    uint32_t previous;
    uint64_t path; /* json_blob: the text as it was written */
    uint64_t reserved[3];
};

static_assert(sizeof(struct json_ref) == 64, "on disk");

/* ---- the root ---- */

/* A named root of the heap. */
struct json_root {
    uint64_t magic;
    uint32_t version;
    uint32_t document;  /* holder */
    uint64_t keys;      /* evh_symbols */
    uint64_t key_epoch; /* changes when a symbol's number may be given anew */
    struct json_cells containers;
    struct json_cells refs;
    struct json_texts texts;
    uint64_t counts[JSON_TYPE_COUNT]; /* of values by type */
    uint64_t string_bytes;
    uint64_t blob_bytes; /* of BYTES */
    uint64_t changes;    /* counts every change */
    uint64_t reserved[11];
};

static_assert(sizeof(struct json_root) == 32 + 32 + 32 + 48 + 96 + 24 + 88, "on disk");

#endif
