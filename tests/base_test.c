/* base_test.c -- checksums, statuses, checked arithmetic and bits. */
#include "base/base.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* ---- CRC-32C ---- */

/* One bit at a time, as the definition says it. */
static uint32_t crc_by_bits(uint32_t crc, const unsigned char *data, size_t size)
{
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1)));
    }
    return ~crc;
}

typedef uint32_t crc_function(uint32_t crc, const void *data, size_t size);
static crc_function *const crc_functions[] = {base_crc32c, base_crc32c_portable};

TEST(crc32c_of_the_published_examples)
{
    unsigned char zeroes[32] = {0};
    unsigned char ones[32];
    unsigned char rising[32];
    unsigned char falling[32];
    memset(ones, 0xff, sizeof ones);
    for (unsigned i = 0; i < 32; i++) {
        rising[i] = (unsigned char)i;
        falling[i] = (unsigned char)(31 - i);
    }
    for (int f = 0; f < 2; f++) { /* RFC 3720, appendix B.4 */
        CHECK_EQUAL(crc_functions[f](0, "123456789", 9), 0xe3069283u);
        CHECK_EQUAL(crc_functions[f](0, zeroes, 32), 0x8a9136aau);
        CHECK_EQUAL(crc_functions[f](0, ones, 32), 0x62a8ab43u);
        CHECK_EQUAL(crc_functions[f](0, rising, 32), 0x46dd794eu);
        CHECK_EQUAL(crc_functions[f](0, falling, 32), 0x113fdb5cu);
        CHECK_EQUAL(crc_functions[f](0, NULL, 0), 0);
    }
}

TEST(crc32c_of_every_small_size_and_alignment_follows_the_definition)
{
    enum { SIZE = 700 };
    unsigned char data[SIZE + 8];
    uint64_t state = test_seed();
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)test_random(&state);
    for (size_t size = 0; size <= SIZE; size++) {
        const unsigned char *start = data + size % 8;
        const uint32_t expected = crc_by_bits(0, start, size);
        CHECK_EQUAL(base_crc32c(0, start, size), expected);
        CHECK_EQUAL(base_crc32c_portable(0, start, size), expected);
    }
}

TEST(crc32c_of_large_sizes_is_the_same_by_hardware_and_without)
{
    enum { SIZE = 70000 };
    unsigned char *data = malloc(SIZE);
    CHECK(data != NULL);
    uint64_t state = test_seed();
    for (size_t i = 0; i < SIZE; i++) data[i] = (unsigned char)test_random(&state);
    for (uint64_t round = test_effort(500); round > 0; round--) {
        const size_t first = test_random(&state) % SIZE;
        const size_t size = test_random(&state) % (SIZE - first + 1);
        const uint32_t before = (uint32_t)test_random(&state);
        CHECK_EQUAL(base_crc32c(before, data + first, size),
                    base_crc32c_portable(before, data + first, size));
    }
    CHECK_EQUAL(base_crc32c(7, data, 4096), crc_by_bits(7, data, 4096));
    free(data);
}

TEST(crc32c_continues_where_it_stopped)
{
    unsigned char data[5000];
    uint64_t state = test_seed();
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)test_random(&state);
    const uint32_t whole = base_crc32c(0, data, sizeof data);
    for (int round = 0; round < 200; round++) {
        const size_t cut = test_random(&state) % (sizeof data + 1);
        for (int f = 0; f < 2; f++) {
            const uint32_t first = crc_functions[f](0, data, cut);
            CHECK_EQUAL(crc_functions[1 - f](first, data + cut, sizeof data - cut), whole);
        }
    }
}

static void *crc_in_thread(void *context)
{
    *(uint32_t *)context = base_crc32c_portable(0, "123456789", 9);
    return NULL;
}

TEST(crc32c_tables_are_made_by_whichever_threads_come_first)
{
    pthread_t threads[4];
    uint32_t results[4];
    for (int i = 0; i < 4; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, crc_in_thread, &results[i]), 0);
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) CHECK_EQUAL(results[i], 0xe3069283u);
}

/* ---- status ---- */

TEST(every_status_has_its_own_name)
{
    for (int i = 0; i < EVH_STATUS_COUNT; i++) {
        const char *name = evh_status_name((evh_status)i);
        CHECK(strncmp(name, "EVH_", 4) == 0);
        CHECK(strcmp(name, "EVH_?") != 0);
        for (int j = 0; j < i; j++) CHECK(strcmp(name, evh_status_name((evh_status)j)) != 0);
    }
    CHECK(strcmp(evh_status_name(EVH_STATUS_COUNT), "EVH_?") == 0);
    CHECK(strcmp(evh_status_name((evh_status)-1), "EVH_?") == 0);
    CHECK(strcmp(evh_status_name(EVH_DOUBLE_FREE), "EVH_DOUBLE_FREE") == 0);
}

TEST(the_version_is_that_of_the_header)
{
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", EVH_VERSION_MAJOR, EVH_VERSION_MINOR,
             EVH_VERSION_PATCH);
    CHECK(strcmp(evh_version(), expected) == 0);
}

TEST(a_failure_tells_status_offset_and_message)
{
    errno = EDOM;

    CHECK_EQUAL(base_fail(EVH_CORRUPT, 4711, "%s: page %d is bad", "x.heap", 3), EVH_CORRUPT);

    const evh_error *error = evh_last_error();
    CHECK_EQUAL(error->status, EVH_CORRUPT);
    CHECK_EQUAL(error->os_error, 0);
    CHECK_EQUAL(error->offset, 4711);
    CHECK(strcmp(error->message, "x.heap: page 3 is bad") == 0);
    CHECK_EQUAL(errno, EDOM);
}

TEST(a_refusal_of_the_system_tells_its_reason)
{
    CHECK_EQUAL(base_fail_os(ENOSPC, NO_OFFSET, "%s: cannot grow", "x.heap"), EVH_FULL);

    const evh_error *error = evh_last_error();
    CHECK_EQUAL(error->status, EVH_FULL);
    CHECK_EQUAL(error->os_error, ENOSPC);
    CHECK_EQUAL(error->offset, UINT64_MAX);
    CHECK(strcmp(error->message, "x.heap: cannot grow: No space left on device") == 0);
}

TEST(a_message_may_quote_the_one_before)
{
    base_fail(EVH_IO, NO_OFFSET, "inner: why");
    base_fail(EVH_IO, NO_OFFSET, "outer: %s", evh_last_error()->message);
    CHECK(strcmp(evh_last_error()->message, "outer: inner: why") == 0);
}

TEST(a_message_that_is_too_long_is_cut)
{
    char longest[2000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';

    base_fail_os(EIO, NO_OFFSET, "%s", longest);

    CHECK_EQUAL(strlen(evh_last_error()->message), sizeof evh_last_error()->message - 1);
    CHECK_EQUAL(evh_last_error()->status, EVH_IO);
}

static void *fail_in_thread(void *context)
{
    *(evh_status *)context = evh_last_error()->status;
    base_fail(EVH_LIMIT, 1, "other: thread");
    return NULL;
}

TEST(a_failure_belongs_to_its_thread)
{
    base_fail(EVH_BUSY, 2, "this: thread");
    pthread_t thread;
    evh_status at_start = EVH_IO;
    CHECK_EQUAL(pthread_create(&thread, NULL, fail_in_thread, &at_start), 0);
    pthread_join(thread, NULL);
    CHECK_EQUAL(at_start, EVH_OK);
    CHECK_EQUAL(evh_last_error()->status, EVH_BUSY);
}

TEST(errors_of_the_system_become_statuses)
{
    static const struct {
        int os_error;
        evh_status status;
    } expected[] = {
        {ENOSPC, EVH_FULL},      {EDQUOT, EVH_FULL},      {EFBIG, EVH_FULL},
        {ENOMEM, EVH_NO_MEMORY}, {EMFILE, EVH_NO_MEMORY}, {ENOENT, EVH_NOT_FOUND},
        {EEXIST, EVH_EXISTS},    {EACCES, EVH_ACCESS},    {EPERM, EVH_ACCESS},
        {EROFS, EVH_ACCESS},     {EISDIR, EVH_NOT_FILE},  {ELOOP, EVH_NOT_FILE},
        {ENXIO, EVH_NOT_FILE},   {EAGAIN, EVH_BUSY},      {EOPNOTSUPP, EVH_UNSUPPORTED},
        {EIO, EVH_IO},           {EINVAL, EVH_IO},        {12345, EVH_IO},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        CHECK_EQUAL(base_status_of(expected[i].os_error), expected[i].status);
    }
}

/* ---- arithmetic and bits ---- */

TEST(checked_arithmetic_tells_when_a_result_does_not_fit)
{
    uint64_t result;
    CHECK(base_add(UINT64_MAX - 1, 1, &result) && result == UINT64_MAX);
    CHECK(!base_add(UINT64_MAX, 1, &result));
    CHECK(base_multiply(UINT32_MAX, UINT32_MAX, &result));
    CHECK(!base_multiply((uint64_t)1 << 33, (uint64_t)1 << 31, &result));
}

TEST(a_range_lies_in_a_limit_only_if_its_end_does)
{
    CHECK(base_in_range(0, 0, 0));
    CHECK(base_in_range(10, 0, 10));
    CHECK(base_in_range(3, 7, 10));
    CHECK(!base_in_range(4, 7, 10));
    CHECK(!base_in_range(11, 0, 10));
    CHECK(!base_in_range(UINT64_MAX, 2, 10));
    CHECK(!base_in_range(2, UINT64_MAX, 10));
}

TEST(rounding_and_bits_at_their_boundaries)
{
    CHECK_EQUAL(base_round_up(0, 4096), 0);
    CHECK_EQUAL(base_round_up(1, 4096), 4096);
    CHECK_EQUAL(base_round_up(4096, 4096), 4096);
    CHECK_EQUAL(base_round_up(UINT64_MAX - 4095, 4096), UINT64_MAX - 4095);
    CHECK_EQUAL(base_round_down(4097, 4096), 4096);
    CHECK(base_is_power_of_two(1));
    CHECK(base_is_power_of_two((uint64_t)1 << 63));
    CHECK(!base_is_power_of_two(0));
    CHECK(!base_is_power_of_two(3));
    CHECK_EQUAL(base_lowest_bit((uint64_t)1 << 63), 63);
    CHECK_EQUAL(base_highest_bit(1), 0);
    CHECK_EQUAL(base_highest_bit(UINT64_MAX), 63);
    CHECK_EQUAL(base_count_bits(0xf0f0), 8);
    CHECK_EQUAL(base_min(1, 2), 1);
    CHECK_EQUAL(base_max(1, 2), 2);
}
