/* fuzz_test.c -- what the fuzzer once found, and as many inputs again that nobody has seen. */
#include "support/fuzz.h"

#include "data.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static void replay_one(const char *name, const char *path, void *context)
{
    unsigned *count = context;
    size_t size = 0;
    (void)name;
    char *bytes = data_read(path, &size);
    CHECK_EQUAL(fuzz_one((const uint8_t *)bytes, size), 0);
    free(bytes);
    ++*count;
}

TEST(the_corpus_is_replayed)
{
    unsigned count = 0;
    CHECK(data_each("tests/corpus", replay_one, &count) > 0);
    CHECK(count > 0);
}

TEST(random_edits_of_every_kind_of_heap_harm_nobody)
{
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < test_effort(3000); i++) {
        uint8_t input[3 + 8 * 6];
        const size_t size = 3 + 8 * (1 + test_random(&seed) % 6);
        for (size_t k = 0; k < size; k++) input[k] = (uint8_t)test_random(&seed);
        CHECK_EQUAL(fuzz_one(input, size), 0);
    }
}
