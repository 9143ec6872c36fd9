/* ring_layout.h -- a ring of records in memory that outlives whoever writes it. docs/format.md. */
#ifndef EVERHEAP_DEBUG_RING_LAYOUT_H
#define EVERHEAP_DEBUG_RING_LAYOUT_H

#include "base/base.h"

#define RING_MAGIC 0x676e695252485645ull /* the letters "EVHRRing" */

enum {
    RING_DATA_BYTES = 88,
    RING_FORMATS = 512, /* places for formats: a hash table with linear probing */
    RING_RECORDS_MAX = 1 << 24,
};

/* Then come RING_FORMATS refs (of the heap that it lies in; 0: none), then the records. */
struct ring_head {
    uint64_t magic;
    uint64_t record_count; /* a power of two */
    uint64_t next;         /* how many were begun */
    uint64_t created_ns;
    uint64_t reserved[4];
};

static_assert(sizeof(struct ring_head) == 64, "shared by processes of different builds");

/* Record number n, from 1 on, is at place n - 1 modulo record_count. */
struct ring_record {
    uint64_t state; /* 2n: it is whole; 2n + 1: it is being written; 0: never */
    uint64_t time_ns;
    uint32_t process;
    uint32_t thread;
    uint32_t format; /* place of its format, from 1 on; 0: the data says by itself */
    uint16_t size;   /* of data */
    uint16_t reserved;
    uint32_t crc; /* CRC-32C of the number and of all of the record but state and crc */
    uint32_t reserved2;
    unsigned char data[RING_DATA_BYTES];
};

static_assert(sizeof(struct ring_record) == 128, "two cache lines");

#endif
