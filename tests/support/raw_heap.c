/* raw_heap.c -- heaps of raw pages for the tests of region and journal, and their files as
 * bytes. */
#include "support/raw_heap.h"

#include <stdlib.h>

void raw_create(struct raw *raw, const char *path)
{
    raw->options.mode = EVH_DURABLE;
    CHECK_EQUAL(region_create(path, &raw->options, &raw->region), EVH_OK);
    raw->state = (struct journal_state){REGION_NEW_BYTES, 2 * SLICE_BYTES};
    CHECK_EQUAL(journal_create(raw->region, &raw->state, &raw->options, &raw->journal), EVH_OK);
    CHECK_EQUAL(region_publish(raw->region), EVH_OK);
    CHECK_EQUAL(journal_published(raw->journal), EVH_OK);
    journal_announce(raw->journal);
}

evh_status raw_try_open(struct raw *raw, const char *path, evh_mode mode)
{
    raw->options.mode = mode;
    raw->region = NULL;
    raw->journal = NULL;
    evh_status status = region_open(path, &raw->options, &raw->region);
    if (status) return status;
    status = journal_open(raw->region, &raw->options, &raw->journal, &raw->state);
    if (status) CHECK_EQUAL(region_close(raw->region), EVH_OK);
    if (!status && mode == EVH_DURABLE) journal_announce(raw->journal);
    return status;
}

void raw_open(struct raw *raw, const char *path, evh_mode mode)
{
    const evh_status status = raw_try_open(raw, path, mode);
    if (status) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK_EQUAL(status, EVH_OK);
}

void raw_close(struct raw *raw)
{
    CHECK_EQUAL(journal_close(raw->journal), EVH_OK);
    CHECK_EQUAL(region_close(raw->region), EVH_OK);
}

void raw_kill(struct raw *raw)
{
    journal_abandon(raw->journal);
    CHECK_EQUAL(region_close(raw->region), EVH_OK);
}

static void raw_release(void *context)
{
    (void)context;
}

evh_status raw_commit(struct raw *raw)
{
    uint64_t ticket = 0;
    const evh_status status = journal_copy(raw->journal, &raw->state, &ticket);
    return status ? status : journal_write(raw->journal, ticket, true, raw_release, NULL);
}

evh_status raw_begin(struct raw *raw, uint64_t *ticket)
{
    const evh_status status = journal_copy(raw->journal, &raw->state, ticket);
    return status ? status : journal_write(raw->journal, *ticket, false, raw_release, NULL);
}

uint64_t *raw_word(const struct raw *raw, uint64_t page, uint64_t word)
{
    return (uint64_t *)(void *)(raw->region->base + 2 * SLICE_BYTES + page * PAGE_BYTES) + word;
}

void raw_grow(struct raw *raw, uint64_t heap_bytes)
{
    uint64_t from = 0;
    CHECK_EQUAL(region_grow(raw->region, heap_bytes, &from), EVH_OK);
    CHECK_EQUAL(journal_region_grew(raw->journal, from), EVH_OK);
    raw->state.heap_bytes = heap_bytes;
}

/* ---- files ---- */

struct file_bytes file_bytes_read(const char *path)
{
    struct file_bytes content = {NULL, 0};
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    content.size = (uint64_t)ftell(file);
    rewind(file);
    content.bytes = malloc(content.size + 1);
    CHECK(content.bytes != NULL);
    CHECK_EQUAL(fread(content.bytes, 1, content.size, file), content.size);
    (void)fclose(file);
    return content;
}

void file_bytes_write(const char *path, const struct file_bytes *content)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_EQUAL(fwrite(content->bytes, 1, content->size, file), content->size);
    CHECK(fclose(file) == 0);
}

void file_bytes_patch(const char *path, uint64_t offset, const void *bytes, uint64_t size)
{
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL);
    CHECK(fseek(file, (long)offset, SEEK_SET) == 0);
    CHECK_EQUAL(fwrite(bytes, 1, size, file), size);
    CHECK(fclose(file) == 0);
}

bool file_bytes_are_same(const char *path, const struct file_bytes *content)
{
    struct file_bytes now = file_bytes_read(path);
    const bool is_same =
        now.size == content->size && memcmp(now.bytes, content->bytes, now.size) == 0;
    file_bytes_end(&now);
    return is_same;
}

void file_bytes_end(struct file_bytes *content)
{
    free(content->bytes);
    *content = (struct file_bytes){NULL, 0};
}

struct region_header *file_header(const struct file_bytes *content, uint64_t *offset)
{
    struct region_header *newest = NULL;
    for (uint64_t slot = 0; slot < REGION_SLOT_COUNT; slot++) {
        unsigned char *at = content->bytes + slot * REGION_SLOT_STRIDE;
        struct region_header *header = (struct region_header *)(void *)at;
        if (header->magic != REGION_MAGIC) continue;
        if (newest && newest->generation > header->generation) continue;
        newest = header;
        *offset = slot * REGION_SLOT_STRIDE;
    }
    CHECK(newest != NULL);
    return newest;
}

void file_header_seal(struct region_header *header)
{
    header->crc = base_crc32c(0, header, offsetof(struct region_header, crc));
}

struct journal_record *file_record(const struct file_bytes *content, uint64_t offset)
{
    CHECK(offset + sizeof(struct journal_record) <= content->size);
    return (struct journal_record *)(void *)(content->bytes + offset);
}

struct journal_entry *file_entries(struct journal_record *record)
{
    unsigned char *bytes = (unsigned char *)record;
    return (struct journal_entry *)(void *)(bytes + record->entries_offset);
}

void file_record_seal(struct journal_record *record, uint64_t bytes)
{
    record->body_crc = base_crc32c(0, record + 1, bytes - sizeof *record);
    record->header_crc = base_crc32c(0, record, offsetof(struct journal_record, header_crc));
}
