/* fuzz.h -- heaps that are changed where it hurts, and all that reads heaps let loose on them. */
#ifndef EVERHEAP_TESTS_SUPPORT_FUZZ_H
#define EVERHEAP_TESTS_SUPPORT_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/*
 * An input is a script: a byte that chooses the heap (durable, durable and killed, live, documents,
 * collections), one whose lowest bit says that checksums are made right again after the edits, one
 * of what is done with the heap, then edits of eight bytes each: where (header, status, checksums,
 * record, entries, descriptors, directory, bitmaps, catalog, roots, types, any word of a block, the
 * file's length), how (set, add, flip a bit, a value that is an offset in the heap), which word of
 * it, and a value.
 */

/** Run one input. Returns 0. Crashes, if anything does. */
int fuzz_one(const uint8_t *data, size_t size);

#endif
