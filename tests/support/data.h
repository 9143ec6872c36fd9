/* data.h -- published test data, where it is there. */
#ifndef EVERHEAP_TESTS_DATA_H
#define EVERHEAP_TESTS_DATA_H

#include <stddef.h>

/**
 * The path of `name` below the folder of test data: $EVERHEAP_TEST_DATA, or a folder `data` within
 * a folder beside the repository. Skips the running test if it is not there. Static, valid until
 * four calls later.
 */
const char *data_path(const char *name);

/** The content of a file, with a zero behind it; owned: end it with free(). */
char *data_read(const char *path, size_t *size);

/** Call `visit` for every file in a folder, in no order. Returns how many there were. */
size_t data_each(const char *folder,
                 void (*visit)(const char *name, const char *path, void *context), void *context);

#endif
