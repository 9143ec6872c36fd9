/* collect_layout.h -- what collections keep in the file: ordinary blocks of the heap.
 *
 * A handle is the ref of a collection's first block, which begins with a word that tells what it
 * is, and so do most blocks behind it. docs/collect.md draws them. Refs are multiples of 16.
 */
#ifndef EVERHEAP_COLLECT_COLLECT_LAYOUT_H
#define EVERHEAP_COLLECT_COLLECT_LAYOUT_H

#include "base/base.h"

/* The word: the letters "eC", the kind of block, the version of its layout. */
#define COLLECT_WORD(kind, version) (0x4365u | (uint32_t)(kind) << 16 | (uint32_t)(version) << 24)

/* Blocks that a handle names have the numbers of enum evh_kind; the others begin at 128. */
enum {
    COLLECT_STR = 1,
    COLLECT_SYMBOLS = 2,
    COLLECT_VEC = 3,
    COLLECT_MAP = 4,
    COLLECT_TREE = 5,
    COLLECT_QUEUE = 6,
    COLLECT_BITSET = 7,
    COLLECT_HASH_PART = 128,
    COLLECT_TREE_LEAF = 129,
    COLLECT_TREE_INNER = 130,
};

/* ---- str ---- */

/* The text follows, then a zero. Its room is what the block holds. */
struct collect_str {
    uint32_t word;
    uint32_t size; /* bytes of text: 1 to EVH_STR_SIZE_MAX; a key may have 0 */
};

static_assert(sizeof(struct collect_str) == 8, "on disk");

/* ---- hash tables: the map, and the index of symbols ---- */

enum {
    HASH_SLOTS = 8, /* of a group, numbered by their control bytes, which are one word ... */
    HASH_ITEMS = 7, /* ... and hold so many items: with the word, 7 items of 16 bytes are 2 lines */
    HASH_DEPTH_MAX = 31,
    HASH_GROUPS_BITS_MAX = 15, /* fits into the free low bits of a ref */
};

/*
 * A table is one part (depth 0), or a directory of 2^depth words that lead to parts: an item lives
 * in the part of the word that the upper `depth` bits of its hash count to. A word is the part's
 * ref, a multiple of 16, plus the binary logarithm of its number of groups, so that a lookup needs
 * no look at the part's head.
 */
struct hash_table {
    uint64_t count;     /* items */
    uint64_t root;      /* depth 0: the part's word; else the ref of the directory */
    uint32_t item_size; /* bytes: the hash or number first; a multiple of 8 */
    uint8_t depth;
    uint8_t is_number;   /* an item's first word is a number, to be hashed; else its hash */
    uint16_t reserved;   /* zero */
    uint64_t deep_count; /* parts whose own depth is the table's: when there are none, the directory
                            is halved */
    uint64_t key[2];     /* of the hash function */
};

static_assert(sizeof(struct hash_table) == 48, "on disk");

/*
 * A part: this head, then 2^n groups: a word of eight control bytes and seven items, filled up to
 * whole cache lines if that takes an eighth more at most. A control byte is 0..127, seven bits of
 * the hash of the item in that slot, or HASH_EMPTY or HASH_ERASED; the eighth is HASH_NO_SLOT.
 */
struct hash_part {
    uint32_t word;
    uint8_t depth;       /* upper bits of the hash that all its items share */
    uint8_t group_bits;  /* log2 of its groups */
    uint16_t reserved;   /* zero */
    uint32_t used_count; /* slots that are not empty */
    uint32_t item_count;
    uint64_t prefix;       /* these bits, in their place; the others zero */
    uint64_t reserved2[5]; /* zero */
};

static_assert(sizeof(struct hash_part) == 64, "on disk; a line, so that groups are lines");

enum { HASH_EMPTY = 0x80, HASH_ERASED = 0xfe, HASH_NO_SLOT = 0xff };

/* ---- symbols ---- */

enum {
    SYMBOL_CHUNKS = 26, /* chunk i: 64 << i entries; never moves */
    SYMBOL_CHUNK_BITS = 6,
};

struct collect_symbols {
    uint32_t word;
    uint32_t flags;  /* EVH_SYMBOLS_... */
    uint32_t filled; /* the highest number that was ever given */
    uint32_t free;   /* a number that is free, 0 if none; it leads to the next */
    struct hash_table index;
    uint64_t chunks[SYMBOL_CHUNKS]; /* refs; 0: not made */
};

static_assert(sizeof(struct collect_symbols) == 272, "on disk");

/* Symbol n is entry (n - 1 + 64 - (64 << i)) of chunk i, i the highest bit of n - 1 + 64 less 6. */
struct collect_symbol {
    uint64_t text;       /* ref of a str; 0: free */
    uint32_t references; /* 1 to 2^32 - 1; of a free one the next free number */
    uint32_t reserved;   /* zero */
};

static_assert(sizeof(struct collect_symbol) == 16, "on disk");

/* An item of the index. */
struct collect_symbol_item {
    uint64_t hash;
    uint32_t symbol;
    uint32_t reserved; /* zero */
};

static_assert(sizeof(struct collect_symbol_item) == 16, "on disk");

/* ---- map ---- */

struct collect_map {
    uint32_t word;
    uint32_t key_kind; /* enum evh_key_kind */
    uint32_t value_size;
    uint32_t reserved; /* zero */
    struct hash_table table;
};

static_assert(sizeof(struct collect_map) == 64, "on disk");

/* An item is a number or symbol and the value; or this and the value. */
struct collect_map_bytes {
    uint64_t hash;
    uint64_t text; /* ref of a str: the key, owned */
};

static_assert(sizeof(struct collect_map_bytes) == 16, "on disk");

/* ---- tree ---- */

enum {
    TREE_NODE_BYTES = 1024,
    TREE_LEVELS_MAX = 16, /* of inner nodes; 10 would hold 2^48 items in nodes half full */
    TREE_LEAF_ITEMS_MIN = 7,
    TREE_INNER_NUMBERS = 63, /* children of an inner node; of a tree of bytes: */
    TREE_INNER_BYTES = 39,
};

/* A key that is not there: a node's keys behind its count. No key is above it. */
#define TREE_NO_KEY UINT64_MAX

struct collect_tree {
    uint32_t word;
    uint32_t key_kind; /* EVH_KEY_NUMBER or EVH_KEY_BYTES */
    uint32_t value_size;
    uint16_t leaf_capacity; /* items of a leaf: 8n + 7 */
    uint8_t levels;         /* of inner nodes above the leaves */
    uint8_t reserved;       /* zero */
    uint64_t count;
    uint64_t root;    /* ref of a node; 0: no items */
    uint64_t changes; /* counts what may move items: cursors look */
    uint64_t reserved2[3];
};

static_assert(sizeof(struct collect_tree) == 64, "on disk");

/*
 * A node: this head, then arrays of its capacity: keys (numbers, or the first eight bytes as a
 * big-endian number); of a tree of bytes, refs of the str with all of them; of a leaf values, each
 * rounded up to 8 bytes, of an inner node refs of children. Child i has the keys from key i to
 * before key i + 1; key 0 is 0. A key of an inner node whose str is 0 stands before all bytes that
 * begin with its eight. Keys behind the count are TREE_NO_KEY, and a capacity is 8n + 7, so that a
 * search compares whole cache lines without looking at the count: tree_find.c.
 */
struct tree_node {
    uint32_t word;
    uint16_t count; /* items or children */
    uint8_t level;  /* 0: a leaf */
    uint8_t reserved;
    uint64_t reserved2;
};

static_assert(sizeof(struct tree_node) == 16, "on disk");

/* ---- vec, queue, bitset: one block each, its items behind the head ---- */

/* A vec's items are `count` from `first` on; a queue's likewise, `capacity` on from 0. */
struct collect_items {
    uint32_t word;
    uint32_t item_size; /* 1 to EVH_ITEM_SIZE_MAX */
    uint64_t first;
    uint64_t count;
    uint64_t capacity; /* items that the block has room for */
};

static_assert(sizeof(struct collect_items) == 32, "on disk");
static_assert(sizeof(struct collect_items) % 16 == 0, "items are aligned as the block is");

struct collect_bitset {
    uint32_t word;
    uint32_t reserved;   /* zero */
    uint64_t count;      /* bits that are 1 */
    uint64_t word_count; /* 64-bit words that follow; those behind are zero */
    uint64_t reserved2;  /* zero */
};

static_assert(sizeof(struct collect_bitset) == 32, "on disk");

#endif
