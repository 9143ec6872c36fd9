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
    HASH_SLOTS = 8, /* of a group: their control bytes are one word */
    HASH_DEPTH_MAX = 32,
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
 * A part: this head, then 2^n groups: a word of eight control bytes and eight items. A control byte
 * is 0..127, seven bits of the hash of the item in that slot, or HASH_EMPTY or HASH_ERASED.
 */
struct hash_part {
    uint32_t word;
    uint8_t depth;       /* upper bits of the hash that all its items share */
    uint8_t group_bits;  /* log2 of its groups */
    uint16_t reserved;   /* zero */
    uint32_t used_count; /* slots that are not empty */
    uint32_t item_count;
    uint64_t prefix; /* these bits, in their place; the others zero */
    uint64_t reserved2;
};

static_assert(sizeof(struct hash_part) == 32, "on disk");

enum { HASH_EMPTY = 0x80, HASH_ERASED = 0xfe };

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

#endif
