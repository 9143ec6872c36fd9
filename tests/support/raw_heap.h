/* raw_heap.h -- heaps of raw pages for the tests of region and journal, and their files as bytes.
 *
 * No allocator: slices from 2 on are the test's.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_RAW_HEAP_H
#define EVERHEAP_TESTS_SUPPORT_RAW_HEAP_H

#include "journal/journal_internal.h"
#include "test.h"

struct raw {
    struct region *region;
    struct journal *journal;
    struct journal_state state;
    evh_options options;
};

void raw_create(struct raw *raw, const char *path);
void raw_open(struct raw *raw, const char *path, evh_mode mode);
/** As raw_open(), and nothing is left behind if it fails. */
evh_status raw_try_open(struct raw *raw, const char *path, evh_mode mode);
void raw_close(struct raw *raw);
/** As a killed process leaves it: nothing flushed, nothing brought home. */
void raw_kill(struct raw *raw);
evh_status raw_commit(struct raw *raw);
/** The first half and the writing, without waiting. */
evh_status raw_begin(struct raw *raw, uint64_t *ticket);
/** A word of the test's page `page`. */
uint64_t *raw_word(const struct raw *raw, uint64_t page, uint64_t word);
void raw_grow(struct raw *raw, uint64_t heap_bytes);

/* ---- files ---- */

/** A file's bytes. Owned: file_bytes_end(). */
struct file_bytes {
    unsigned char *bytes;
    uint64_t size;
};

struct file_bytes file_bytes_read(const char *path);
void file_bytes_write(const char *path, const struct file_bytes *content);
/** Overwrite a part of the file. */
void file_bytes_patch(const char *path, uint64_t offset, const void *bytes, uint64_t size);
/** Whether the file is what it was. */
bool file_bytes_are_same(const char *path, const struct file_bytes *content);
void file_bytes_end(struct file_bytes *content);

/** The header in use, and its slot's offset. */
struct region_header *file_header(const struct file_bytes *content, uint64_t *offset);
/** Make the checksum of a header that was changed right again. */
void file_header_seal(struct region_header *header);
/** The record at `offset`. */
struct journal_record *file_record(const struct file_bytes *content, uint64_t offset);
struct journal_entry *file_entries(struct journal_record *record);
/** Make the checksums of a record that was changed right again; `bytes` are covered. */
void file_record_seal(struct journal_record *record, uint64_t bytes);

#endif
