/* flip_test.c -- every bit of the metadata of a small heap, every length of its file.
 *
 * Strategy: a heap that was killed behind a commit, so that its journal is live; each bit of
 * header, status, checksums, journal, descriptors, directory and the pool's first bitmaps is
 * flipped by itself, and the file is cut off at every 16th byte, at last at every byte.
 * Invariants: nothing crashes; what a flipped bit changes is found (opening refuses, or evh_check()
 * complains), or what the heap holds is what it held: its last commit, bit for bit.
 */
#include "heap/heap.h"
#include "journal/journal_layout.h"
#include "support/raw_heap.h"

#include <everheap.h>
#include <stdlib.h>
#include <unistd.h>

static struct file_bytes flip_content;
static unsigned char flip_digest[32];
static char flip_path[500];

static void flip_make(void)
{
    const evh_options options = {.no_thread = true};
    (void)snprintf(flip_path, sizeof flip_path, "%s", test_path("flip"));
    evh_heap *heap = evh_open(flip_path, &options);
    CHECK(heap != NULL);
    for (unsigned i = 0; i < 3; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "r%u", i);
        uint64_t *root = evh_root(heap, name, 64);
        uint64_t *block = evh_calloc(heap, 1, 200 << i);
        root[0] = evh_ref_to(heap, block).offset;
        block[0] = i + 1;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    CHECK_EQUAL(evh_digest(heap, flip_digest), EVH_OK);
    flip_content = file_bytes_read(flip_path);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

enum flip_result { FLIP_REFUSED, FLIP_FOUND, FLIP_HARMLESS, FLIP_SILENT };

static bool flip_count(const evh_finding *finding, void *context)
{
    ++*(unsigned *)context;
    return finding->message != NULL;
}

static enum flip_result flip_look(void)
{
    const evh_options options = {.mode = EVH_READ_ONLY, .must_exist = true};
    unsigned char digest[32];
    unsigned findings = 0;
    evh_heap *heap = evh_open(flip_path, &options);
    if (!heap) return FLIP_REFUSED;
    const evh_status checked = evh_check(heap, flip_count, &findings);
    const bool is_same = !evh_digest(heap, digest) && memcmp(digest, flip_digest, 32) == 0;
    (void)evh_close(heap);
    if (checked || findings) return FLIP_FOUND;
    return is_same ? FLIP_HARMLESS : FLIP_SILENT;
}

TEST(no_flipped_bit_of_metadata_is_accepted_silently)
{
    static const struct {
        uint64_t from, end;
    } ranges[] = {
        {0, REGION_SLOT_BYTES},
        {REGION_SLOT_STRIDE, REGION_SLOT_STRIDE + REGION_SLOT_BYTES},
        {REGION_STATUS_OFFSET, REGION_STATUS_OFFSET + sizeof(struct region_status)},
        {REGION_CHECKSUM_OFFSET + SLICE_PAGES * 4, REGION_CHECKSUM_OFFSET + 64 * 4},
        {REGION_FIRST_EXTENT_OFFSET, SLICE_BYTES},
        {SLICE_BYTES, SLICE_BYTES + 64},
        {SLICE_BYTES + HEAP_DIRECTORY_OFFSET, SLICE_BYTES + HEAP_DIRECTORY_OFFSET + 64},
        {SLICE_BYTES + HEAP_POOL_OFFSET, SLICE_BYTES + HEAP_POOL_OFFSET + 512},
    };
    flip_make();
    file_bytes_write(flip_path, &flip_content);
    CHECK_EQUAL(flip_look(), FLIP_HARMLESS);
    const uint64_t step = test_effort(1) > 1 ? 1 : 7; /* a seventh, unless there is time */
    uint64_t counts[4] = {0}, bit_number = test_seed() % 7;
    for (unsigned i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        for (; bit_number < (ranges[i].end - ranges[i].from) * 8 ||
               (bit_number -= (ranges[i].end - ranges[i].from) * 8, false);
             bit_number += step) {
            const uint64_t at = ranges[i].from + bit_number / 8;
            /* Behind the records the journal holds nothing: a flip there is none. */
            if (i == 4 && at % 512 >= 16 && heap_is_zero(flip_content.bytes + at / 512 * 512, 512))
                continue;
            const unsigned char byte =
                (unsigned char)(flip_content.bytes[at] ^ 1 << bit_number % 8);
            file_bytes_patch(flip_path, at, &byte, 1);
            const enum flip_result result = flip_look();
            counts[result]++;
            if (result == FLIP_SILENT)
                test_fail(__FILE__, __LINE__, "bit %llu of byte 0x%llx was accepted",
                          (unsigned long long)bit_number % 8, (unsigned long long)at);
            CHECK(result != FLIP_SILENT);
            file_bytes_patch(flip_path, at, &flip_content.bytes[at], 1);
        }
    if (step == 1)
        printf("bits flipped: %llu refused, %llu found, %llu of no effect, %llu silent\n",
               (unsigned long long)counts[0], (unsigned long long)counts[1],
               (unsigned long long)counts[2], (unsigned long long)counts[3]);
    CHECK_EQUAL(flip_look(), FLIP_HARMLESS);
    CHECK(counts[FLIP_REFUSED] + counts[FLIP_FOUND] > 100);
    file_bytes_end(&flip_content);
}

TEST(every_length_of_a_file_is_an_error_or_the_whole_heap)
{
    flip_make();
    const uint64_t step = test_effort(1) > 1 ? 16 : 2039;
    file_bytes_write(flip_path, &flip_content);
    for (uint64_t size = flip_content.size; size > 0; size -= size < 600 ? 1 : step) {
        CHECK_EQUAL(truncate(flip_path, (off_t)size), 0);
        const enum flip_result result = flip_look();
        CHECK(result == FLIP_REFUSED || result == FLIP_FOUND || result == FLIP_HARMLESS);
        if (size % 64 == 0) evh_autopsy_close(evh_autopsy_open(flip_path, NULL));
    }
    file_bytes_end(&flip_content);
}
