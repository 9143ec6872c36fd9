/* salvage.h -- a damaged file in memory, on its way to become a sound heap. */
#ifndef EVERHEAP_AUTOPSY_SALVAGE_H
#define EVERHEAP_AUTOPSY_SALVAGE_H

#include "autopsy/autopsy.h"
#include "journal/journal_layout.h"

enum salvage_page {
    SALVAGE_UNVERIFIED, /* its checksum is missing, or damaged itself */
    SALVAGE_GOOD,       /* it is what was written */
    SALVAGE_BAD,
};

enum { SALVAGE_SUM_GROUP = 128, SALVAGE_SUM_BAD = 115 /* nine tenths */ };

struct salvage {
    const char *path;
    unsigned char *bytes; /* owned: the file, and zeroes up to the end of the heap */
    uint64_t bytes_size;  /* a multiple of SLICE_BYTES */
    uint64_t file_bytes;
    uint8_t *pages; /* owned: enum salvage_page of each page of the heap */
    uint64_t page_count;
    struct region_header header;
    uint64_t heap_bytes;
    uint64_t catalog;
    uint64_t *type_sizes; /* owned: by number; 0: unknown */
    uint32_t type_count;
    uint64_t *wanted; /* owned: a bit for each 16 bytes of the heap that a reference leads to */
    evh_salvage_visit *visit;
    void *context;
    evh_salvage_result result;
    bool is_stopped;
};

/** Tell what was found or decided. `offset` may be NO_OFFSET. */
EVH_INTERNAL void salvage_note(struct salvage *salvage, evh_salvage_kind kind, uint64_t offset,
                               uint64_t size, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/** Whether all pages of the range are as they were written, or nobody can say. */
static inline bool salvage_is_usable(const struct salvage *salvage, uint64_t offset, uint64_t size)
{
    if (!base_in_range(offset, size, salvage->heap_bytes) || size == 0) return false;
    for (uint64_t page = offset >> PAGE_SHIFT; page <= (offset + size - 1) >> PAGE_SHIFT; page++)
        if (salvage->pages[page] == SALVAGE_BAD) return false;
    return true;
}

/* ---- salvage_pages.c: header, journal, checksums ---- */

/** Choose or make up a header. EVH_NOT_HEAP: there is none. */
EVH_INTERNAL evh_status salvage_header(struct salvage *salvage);
/** Lay the journal's records over the pages. */
EVH_INTERNAL void salvage_journal(struct salvage *salvage);
/** Compare the other pages with their checksums. */
EVH_INTERNAL void salvage_checksums(struct salvage *salvage);
/** Write a header without a journal, and checksums that say nothing. */
EVH_INTERNAL evh_status salvage_seal(struct salvage *salvage);

/* ---- salvage_slices.c: descriptors and bitmaps ---- */

/** The directory's entry of a segment, mended if need be. */
EVH_INTERNAL struct heap_directory_entry salvage_entry(struct salvage *salvage, uint64_t segment);
/** Mend all metadata, and free the blocks that are lost. */
EVH_INTERNAL evh_status salvage_slices(struct salvage *salvage);

/* ---- salvage_document.c ---- */

/** Write the document of a root as JSON to `path`, as far as it can be read: how many values were,
 *  and how many could not. */
EVH_INTERNAL evh_status salvage_document(evh_heap *heap, const char *name, const char *path,
                                         uint64_t *kept, uint64_t *lost);

#endif
