/* live_layout.h -- what a live heap adds to the image, and its ephemeral file. docs/live.md. */
#ifndef EVERHEAP_HEAP_LIVE_LAYOUT_H
#define EVERHEAP_HEAP_LIVE_LAYOUT_H

#include "heap/heap_layout.h"

/*
 * Slice 0 of a live heap, behind headers and status. There is no journal.
 *
 *   0x4000  struct live_area
 *   0x5000  struct live_intent, one for each thread slot
 *
 * The metadata slice of each segment:
 *
 *   0x3000  struct live_groups
 *   0x3400  places of the segment's first 51 slices: LIVE_PLACE_BYTES each
 *
 * A place is the bitmap of a slice, and 512 bytes behind it its mirror: the frees by threads that
 * do not own the slice, until the owner folds them in. Places of other slices lie in BITMAP slices
 * of the segment, 64 in each, in order; `live_groups` says in which.
 */
enum {
    LIVE_AREA_OFFSET = 0x4000,
    LIVE_INTENTS_OFFSET = 0x5000,
    LIVE_THREADS_MAX = 704, /* intents that fit */
    LIVE_GROUPS_OFFSET = 0x3000,
    LIVE_PLACES_OFFSET = 0x3400,
    LIVE_PLACE_BYTES = 1024,
    LIVE_MIRROR_OFFSET = 512, /* in a place */
    LIVE_FIRST_PLACES = 51,   /* in the metadata slice */
    LIVE_GROUP_PLACES = 64,   /* in a BITMAP slice */
    LIVE_GROUP_COUNT = 16,
    LIVE_ROOT_WORDS = 64,  /* words of root chunk 0; each further chunk has twice as many */
    LIVE_ROOT_PROBES = 8,  /* words of a chunk in which a key may be */
    LIVE_ROOT_CHUNKS = 24, /* of the catalog */
};
#define LIVE_AREA_MAGIC 0x616572416576696cull    /* the letters "liveArea" */
#define LIVE_CATALOG_MAGIC 0x746f6f526576696cull /* the letters "liveRoot" */

static_assert(LIVE_FIRST_PLACES * LIVE_PLACE_BYTES + LIVE_PLACES_OFFSET == SLICE_BYTES,
              "all of it");
static_assert(LIVE_FIRST_PLACES + LIVE_GROUP_COUNT * LIVE_GROUP_PLACES >= SEGMENT_SLICES,
              "every slice has a place");
static_assert(LIVE_GROUP_PLACES * LIVE_PLACE_BYTES == SLICE_BYTES, "a BITMAP slice");

struct live_area {
    uint64_t magic;
    uint64_t end_slices; /* the heap's end; only rises */
    uint64_t catalog;    /* ref; 0: no root was ever made */
    uint64_t session;    /* number of the last session of attached processes; 0: none yet */
    uint64_t address;    /* where the one who began it mapped the heap: a hint */
    uint64_t earlier_addresses[3]; /* others at which it was mapped; 0: none */
};

/* What the thread in a slot is doing, as far as a kill in the middle must be mended. */
struct live_intent {
    uint64_t block;  /* offset of the block that it is about; 0: void */
    uint64_t slot;   /* offset of the word that decides; 0: it is outside the heap */
    uint64_t kind;   /* enum live_intent_kind; from bit 8 on, how many intents there were */
    uint64_t second; /* another block that nobody gets meanwhile; what for, says the kind */
    uint64_t reserved[4];
};

enum live_intent_kind {
    LIVE_INTENT_NAMED = 0, /* free the block unless `slot` names it */
    LIVE_INTENT_ROOT = 1,  /* `block` is a root's record; named: free `second`, the one before it;
                             else free it and its root's block */
    LIVE_INTENT_GONE = 2, /* `block` is a root's; if `slot` says removed, by this thread, free it */
    LIVE_INTENT_MADE = 3, /* of ROOT became this: it was named, free `second` */
    LIVE_INTENT_FREE = 4, /* of GONE became this: it was removed, free `block` */
    LIVE_INTENT_KINDS
};

struct live_groups {
    uint64_t slices[LIVE_GROUP_COUNT]; /* relative to the segment; 0: none yet */
};

static_assert(sizeof(struct live_area) == 64, "on disk");
static_assert(sizeof(struct live_intent) == 64, "on disk");
static_assert(sizeof(struct live_groups) == 128, "on disk");
static_assert(LIVE_INTENTS_OFFSET + LIVE_THREADS_MAX * sizeof(struct live_intent) == SLICE_BYTES,
              "to the end of slice 0");

/* The catalog of a live heap: an ordinary block. Chunk i is a block of LIVE_ROOT_WORDS << i words,
 * each a ref to a struct heap_root in a block of its own. */
struct live_catalog {
    uint64_t magic;
    uint64_t reserved[7];
    uint64_t chunks[LIVE_ROOT_CHUNKS]; /* refs; 0: not made yet */
};

static_assert(sizeof(struct live_catalog) == 256, "on disk");

/* A word of a chunk. */
#define LIVE_ROOT_REMOVED 1ull      /* bit: the root is gone, its record keeps the place */
enum { LIVE_ROOT_BUSY_SHIFT = 48 }; /* above: thread slot + 1 of whose intent names the record */

/* ---- the ephemeral file: of one session, never believed by another ---- */

/*
 *   0x0     struct live_session
 *   0x1000  struct live_process, LIVE_PROCESSES_MAX of them
 *   0x9000  struct live_thread, LIVE_THREADS_MAX of them
 *   0x14000 struct live_slices, one for each segment
 */
enum {
    LIVE_PROCESSES_MAX = 512,
    LIVE_PROCESSES_OFFSET = 0x1000,
    LIVE_SLOTS_OFFSET = 0x9000,
    LIVE_SEGMENTS_OFFSET = 0x14000,
    LIVE_SEGMENT_WORDS = SEGMENT_SLICES / 64,
};
#define LIVE_SESSION_MAGIC 0x737365536576696cull /* the letters "liveSess" */

struct live_session {
    uint64_t magic;
    uint64_t session; /* as in the image */
    uint64_t layout;  /* LIVE_LAYOUT_VERSION */
    uint64_t reserved[5];
    uint64_t freeing[LIVE_THREADS_MAX / 64]; /* bit per thread slot: frees what its intent names */
};

enum { LIVE_LAYOUT_VERSION = 2 };

struct live_process {
    uint64_t state; /* 0: free */
    uint64_t pid;   /* for people */
    uint64_t since; /* likewise */
    uint64_t reserved[5];
};

struct live_thread {
    uint64_t word;      /* generation << 32 | process slot << 8 | enum live_thread_state */
    uint64_t announced; /* bit s % 64: in segment s slices of this thread have pending frees */
    uint64_t reserved[6];
};

enum live_thread_state {
    LIVE_THREAD_FREE = 0,
    LIVE_THREAD_USED = 1,
    LIVE_THREAD_PARKED = 2, /* its thread has ended; what it has is the process's */
};

struct live_slices {
    uint64_t owners[SEGMENT_SLICES]; /* tags; 0: nobody's */
    uint64_t pending[LIVE_SEGMENT_WORDS];
    uint64_t taken[LIVE_SEGMENT_WORDS];
    uint64_t reserved[32];
};

static_assert(sizeof(struct live_process) == 64, "a cache line");
static_assert(sizeof(struct live_thread) == 64, "a cache line");
static_assert(sizeof(struct live_slices) == 8704, "shared by processes of different builds");
static_assert(LIVE_PROCESSES_OFFSET + LIVE_PROCESSES_MAX * sizeof(struct live_process) ==
                  LIVE_SLOTS_OFFSET,
              "one behind the other");
static_assert(LIVE_SLOTS_OFFSET + LIVE_THREADS_MAX * sizeof(struct live_thread) ==
                  LIVE_SEGMENTS_OFFSET,
              "one behind the other");

#endif
