/* arena_layout.h -- arenas and pools as they lie in a heap: docs/format.md, section 12. */
#ifndef EVERHEAP_ARENA_ARENA_LAYOUT_H
#define EVERHEAP_ARENA_ARENA_LAYOUT_H

#include "base/base.h"

#define ARENA_MAGIC 0x314e455241485645u       /* "EVHAREN1" */
#define ARENA_CHUNK_MAGIC 0x314b4e4843485645u /* "EVHCHNK1" */
#define POOL_MAGIC 0x314c4f4f50485645u        /* "EVHPOOL1" */
#define POOL_SLAB_MAGIC 0x3142414c53485645u   /* "EVHSLAB1" */

/* An arena: a block of the heap. Everything but the magic is written by commits. In a live heap
 * `current` and `chunk_count` are 0: the cursor is the newest chunk's own. */
struct arena_record {
    uint64_t magic;
    uint64_t chunk;          /* offset of the newest chunk's block; 0: none */
    uint64_t current;        /* offset of the cursor in it; 0: the chunk's own */
    uint64_t chunk_count;    /* 0: as many as there are */
    uint64_t next_bytes;     /* of the next chunk */
    uint64_t size_max_bytes; /* 0: no limit */
    uint32_t alignment;
    uint32_t is_fixed;
    uint64_t reserved;
};

static_assert(sizeof(struct arena_record) == 64, "on disk");

/* The first bytes of a chunk's block; what follows is the arena's. */
struct arena_chunk_record {
    uint64_t magic;
    uint64_t previous;   /* offset of the chunk before; 0: none */
    uint64_t size_bytes; /* of the chunk, this record included */
    uint64_t number;     /* rises with age: more than that of the chunk before */
    uint64_t current;    /* in a live heap: offset of what is handed out, perhaps; else 0 */
    uint64_t reserved[3];
};

static_assert(sizeof(struct arena_chunk_record) == 64, "on disk: keeps a chunk aligned to lines");

/* A pool: a block of the heap. */
struct pool_record {
    uint64_t magic;
    uint64_t slab;      /* offset of the newest slab's block; 0: none */
    uint64_t count_max; /* 0: no limit */
    uint64_t block_bytes;
    uint32_t alignment;
    uint32_t slab_blocks; /* blocks in a slab */
    uint64_t chain_count; /* 0, or POOL_CHAINS: then refs of so many slabs follow */
    uint64_t reserved[2];
};

static_assert(sizeof(struct pool_record) == 64, "on disk");

/* A pool of a live heap. Who is thread number n of the heap adds slabs to chain n, and nobody else
 * does; all take blocks from all. */
enum { POOL_CHAINS = 704 };

struct pool_live_record {
    struct pool_record pool;
    uint64_t chains[POOL_CHAINS]; /* offset of the chain's first slab; 0: none */
};

static_assert(sizeof(struct pool_live_record) == 64 + 8 * POOL_CHAINS, "on disk");

enum { POOL_SLAB_WORDS = 64 }; /* of a slab's bitmap: one line of bits to each cache line */

/* A slab: its bitmap is the truth. Bit b of word w: block 64 w + b is in use. */
struct pool_slab_record {
    uint64_t magic;
    uint64_t previous; /* offset of the slab before; 0: none, or it is in a chain */
    uint64_t pool;     /* offset of the pool's record */
    uint64_t number;   /* from 1, in order of age; in a chain, from its start */
    uint64_t first;    /* bytes from the slab's start to its first block */
    uint64_t next;     /* in a chain: offset of the slab behind; 0: none yet */
    uint64_t reserved[2];
    uint64_t bits[POOL_SLAB_WORDS];
};

static_assert(sizeof(struct pool_slab_record) == 64 + 8 * POOL_SLAB_WORDS, "on disk");

#endif
