/* journal_layout.h -- one commit's record in the journal. docs/format.md is the specification. */
#ifndef EVERHEAP_JOURNAL_JOURNAL_LAYOUT_H
#define EVERHEAP_JOURNAL_JOURNAL_LAYOUT_H

#include "base/base.h"

/*
 * A record lies in one extent, begins on a page boundary and is a multiple of a page long:
 *
 *   header    128 bytes
 *   data      the images and ranges that the entries name, each 8-byte aligned
 *   entries   entry_count x 16 bytes at entries_offset, in ascending order of page
 *   zero      to the end of the page
 *
 * It is valid if and only if magic, uuid and both checksums are right, its sequence is one more
 * than its predecessor's, and previous_salt and previous_crc are its predecessor's. The first of a
 * chain follows the commit that the region's header calls checkpointed.
 */
#define JOURNAL_MAGIC 0x64726f6365527665ull /* the letters "evRecord" */

struct journal_record {
    uint64_t magic;
    uint8_t uuid[16];
    uint64_t sequence;
    uint64_t salt; /* random, one for each time the heap was opened for writing */
    uint64_t previous_salt;
    uint32_t previous_crc; /* the predecessor's header_crc */
    uint32_t entry_count;
    uint64_t record_bytes;     /* the whole record, a multiple of 4096 */
    uint64_t entries_offset;   /* from the start of the record; a multiple of 8 */
    uint64_t heap_bytes;       /* the heap's end after this commit */
    uint64_t catalog;          /* ref of the catalog block after this commit */
    uint64_t time_ns;          /* wall clock, a label */
    uint64_t changed_bytes;    /* sum over entries, a label */
    uint64_t durable_sequence; /* commits up to this one were flushed when this one was made */
    uint64_t reserved;         /* zero */
    uint32_t body_crc;         /* CRC-32C of the record behind this header */
    uint32_t header_crc;       /* CRC-32C of the 124 bytes before it */
};

static_assert(sizeof(struct journal_record) == 128, "on disk");

enum journal_kind {
    JOURNAL_IMAGE = 1,  /* 4096 bytes of data: the page */
    JOURNAL_RANGES = 2, /* a head, `count` ranges padded to 8 bytes, then their words */
    JOURNAL_ZERO = 3,   /* the page is zero; no data */
    JOURNAL_HOME = 4,   /* the page is at home already; `data_offset` is its checksum */
};

/*
 * One page's change. An image or zero entry is the whole page. Ranges are words to be laid over the
 * page's base: its newest image since the checkpoint, or its home if there is none. They hold every
 * 8-byte word that differs from the base, and every word that an earlier entry over the same base
 * holds (it may have gone back to the old value). So base and newest ranges make the page, whatever
 * part of an older or newer image the home holds already: replay may be interrupted and repeated,
 * and a checkpoint may run meanwhile.
 *
 * A page at home was written there and flushed before its record was written. That is allowed
 * behind the end of the heap before this commit only, where no older commit sees it.
 */
struct journal_entry {
    uint64_t page;        /* number: offset / 4096 */
    uint32_t data_offset; /* from the start of the record, in units of 8 bytes; see JOURNAL_HOME */
    uint16_t kind;
    uint16_t count; /* of ranges; 0 for the other kinds */
};

static_assert(sizeof(struct journal_entry) == 16, "on disk");

/* Before the ranges of an entry: what the page must be when they have been laid over its base. A
 * base that is damaged on the disk is found by it, and not taken for good. */
struct journal_ranges_head {
    uint32_t checksum; /* of the page: as in the checksum slices */
    uint32_t reserved; /* zero */
};

static_assert(sizeof(struct journal_ranges_head) == 8, "on disk");

struct journal_range {
    uint16_t first_word; /* 0..511 */
    uint16_t word_count; /* 1..512 */
};

static_assert(sizeof(struct journal_range) == 4, "on disk");

/* What a page's checksum can say instead of a checksum. */
enum {
    JOURNAL_SUM_NONE = 0,    /* no checkpoint has written the page home: it is zero */
    JOURNAL_SUM_UNKNOWN = 1, /* its space was to be given back: it is zero, or what it was */
    JOURNAL_SUM_FIRST = 2,   /* the lowest checksum: a CRC-32C below it is put 2 higher */
};

enum {
    JOURNAL_PAGE_WORDS = PAGE_BYTES / 8,
    JOURNAL_RANGES_BYTES_MAX = 3072, /* above, a whole image is written */
};

#endif
