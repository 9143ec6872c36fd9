/* debug.h -- what heaps, arenas, pools and stacks share in debug mode: letters, sites, canaries,
 * junk, the table of blocks, the log of operations, and how a misuse is reported.
 *
 * This layer knows no heap. An object that is debugged keeps its fast path closed, so that every
 * call meets the checks on its slow path; an object that is not never comes here.
 */
#ifndef EVERHEAP_DEBUG_DEBUG_H
#define EVERHEAP_DEBUG_DEBUG_H

#include "debug/ring_layout.h"
#include "os/os.h"

#include <everheap/debug.h>

/* ---- letters (debug.c) ---- */

enum debug_letter {
    DEBUG_CANARY = 1,        /* C */
    DEBUG_JUNK = 2,          /* J */
    DEBUG_QUARANTINE = 4,    /* Q, Q<blocks> */
    DEBUG_GUARD = 8,         /* G */
    DEBUG_SITES = 16,        /* S */
    DEBUG_LEAKS = 32,        /* L */
    DEBUG_VALIDATE = 64,     /* V */
    DEBUG_LOG = 128,         /* O */
    DEBUG_EVERY = 256,       /* X<operations> */
    DEBUG_REPORT_ONLY = 512, /* R */
};

struct debug_settings {
    unsigned letters;
    uint32_t quarantine_blocks;
    uint32_t verify_every; /* operations */
};

/** Read `letters`, or EVERHEAP_DEBUG if they are NULL. `what` is for the message. EVH_INVALID. */
EVH_INTERNAL evh_status debug_read(const char *letters, const char *what,
                                   struct debug_settings *settings);

/** Report a misuse as `policy` says: message and abort, or the last error. Returns `status`. */
EVH_INTERNAL evh_status debug_misuse(evh_misuse policy, evh_status status, uint64_t offset,
                                     const char *format, ...) __attribute__((format(printf, 4, 5)));

/** Print a line of a report on standard error. */
EVH_INTERNAL void debug_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** The site that this thread named with evh_debug_here(), once; "?" without one. */
EVH_INTERNAL const char *debug_take_site(void);

/** A small number for the calling thread, from 1. */
EVH_INTERNAL uint32_t debug_thread(void);

/* ---- patterns (debug.c) ---- */

enum {
    DEBUG_CANARY_BYTES = 16, /* behind a block; before it too where there is room */
    DEBUG_NEW_BYTE = 0xd0,   /* junk in new blocks, as jemalloc's 0xa5 */
    DEBUG_FREE_BYTE = 0xdf,  /* junk in free ones */
};

/** Fill with a canary that depends on the address, so that a copied one is no canary. */
EVH_INTERNAL void debug_set_canary(void *address, size_t size);
/** Whether it is whole; else `*first` is the offset of the first byte that is not. */
EVH_INTERNAL bool debug_has_canary(const void *address, size_t size, size_t *first);
/** Whether all bytes are `byte`; else `*first` is the offset of the first that is not. */
EVH_INTERNAL bool debug_is_filled(const void *address, size_t size, unsigned char byte,
                                  size_t *first);

/* ---- the table of blocks (debug_table.c) ---- */

struct debug_block {
    uint64_t key; /* address or offset; 0: no block */
    uint64_t size;
    const char *made_at; /* sites; static strings of the program */
    const char *freed_at;
    uint64_t operation; /* the number of the call that made it */
    uint64_t epoch;     /* the owner's */
    uint32_t thread;
    bool is_free; /* in quarantine */
    bool is_seen; /* the owner's, for marking */
};

/** A hash table with open addressing; its owner locks it. Zero is an empty one. */
struct debug_table {
    struct debug_block *blocks;
    size_t count, slots;
};

/** Add a block whose key is not in the table. NULL without memory. Pointers into the table hold
 *  until the next call that adds or removes. */
EVH_INTERNAL struct debug_block *debug_table_add(struct debug_table *table, uint64_t key);
EVH_INTERNAL struct debug_block *debug_table_find(const struct debug_table *table, uint64_t key);
EVH_INTERNAL void debug_table_remove(struct debug_table *table, struct debug_block *block);
EVH_INTERNAL void debug_table_end(struct debug_table *table);

/* ---- the log of operations (debug_log.c) ---- */

/** Note an operation in the process's ring, and in the file that EVERHEAP_DEBUG_LOG names. Returns
 *  its number. */
EVH_INTERNAL uint64_t debug_log(const char *operation, const char *object, const void *address,
                                uint64_t size, const char *site);

/* A ring in a live heap, which several processes write at once. */
struct debug_ring;
/** A zeroed block, or one that is in use, is a ring. */
EVH_INTERNAL void debug_ring_begin(struct debug_ring *ring);
/** Note an operation; a kill in the middle leaves no record of it, or all of it. */
EVH_INTERNAL void debug_ring_add(struct debug_ring *ring, const char *operation, const char *object,
                                 uint64_t address, uint64_t size, const char *site);
/** Visit what is in a block of `size` bytes, which may hold anything. EVH_CORRUPT,
 *  EVH_NO_MEMORY. */
EVH_INTERNAL evh_status debug_ring_visit(const struct debug_ring *ring, uint64_t size,
                                         evh_debug_operation_visit *visit, void *context);

/* ---- rings of records (debug_ring.c): no process that writes waits for another ---- */

/** The memory that a ring of so many records (a power of two) takes. */
EVH_INTERNAL uint64_t ring_bytes(uint64_t record_count);
/** Begin a ring in zeroed memory; of several who begin it at once all do the same. */
EVH_INTERNAL void ring_begin(void *memory, uint64_t record_count, uint64_t created_ns);
/** Whether `size` bytes hold a ring: its record_count can be believed then. */
EVH_INTERNAL bool ring_is_sound(const void *memory, uint64_t size);
/** Append a record; state and crc are set here. Returns its number. */
EVH_INTERNAL uint64_t ring_put(void *memory, uint64_t record_count, struct ring_record *record);
/** Record `number`, if it is there and whole. */
EVH_INTERNAL bool ring_get(const void *memory, uint64_t record_count, uint64_t number,
                           struct ring_record *record);

#endif
