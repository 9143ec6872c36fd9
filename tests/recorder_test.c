/* recorder_test.c -- a flight recorder: text as printf() makes it, threads, processes, kills. */
#include <everheap.h>

#include "debug/debug.h"
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static evh_heap *recorder_heap(const char *path)
{
    const evh_options options = {.mode = EVH_LIVE};
    evh_heap *heap = evh_open(path, &options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

struct seen {
    uint64_t count, first, last;
    char text[2000]; /* of the last */
    bool is_bad;
};

static bool recorder_see(const evh_record *record, void *context)
{
    struct seen *seen = context;
    if (seen->count++ == 0) seen->first = record->number;
    if (record->number <= seen->last) seen->is_bad = true;
    seen->last = record->number;
    snprintf(seen->text, sizeof seen->text, "%s", record->text);
    return true;
}

static struct seen recorder_read(evh_heap *heap, uint64_t *missing)
{
    struct seen seen = {0};
    const evh_status status = evh_recorder_each(heap, "log", 0, recorder_see, &seen, missing);
    if (status) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK_EQUAL(status, EVH_OK);
    CHECK(!seen.is_bad);
    return seen;
}

#define CHECK_TEXT(heap, recorder, expected, ...)                                                  \
    do {                                                                                           \
        EVH_RECORD(recorder, __VA_ARGS__);                                                         \
        const struct seen seen_here = recorder_read(heap, NULL);                                   \
        if (strcmp(seen_here.text, expected) != 0)                                                 \
            test_fail(__FILE__, __LINE__, "%s", seen_here.text);                                   \
        CHECK(strcmp(seen_here.text, expected) == 0);                                              \
    } while (0)

TEST(records_are_what_printf_would_print)
{
    evh_heap *heap = recorder_heap(test_path("texts"));
    evh_recorder *recorder = evh_recorder_open(heap, "log", 100);
    CHECK(recorder != NULL);
    CHECK_TEXT(heap, recorder, "plain", "plain");
    CHECK_TEXT(heap, recorder, "100 %", "%d %%", 100);
    CHECK_TEXT(heap, recorder, "-5 4000000000 ff", "%d %u %x", -5, 4000000000u, 255u);
    CHECK_TEXT(heap, recorder, "-1 18446744073709551615", "%ld %llu", -1L, ~0ull);
    CHECK_TEXT(heap, recorder, "a c 3.50 [  right]", "%s %c %.2f [%7s]", "a", 'c', 3.5, "right");
    CHECK_TEXT(heap, recorder, "size 12 0x10", "size %zu %p", (size_t)12, (void *)16);
    CHECK_TEXT(heap, recorder, "00042", "%05d", 42);
    char big[300];
    memset(big, 'x', sizeof big);
    big[299] = 0;
    EVH_RECORD(recorder, "%s|%d", big, 7); /* it is cut, and what has no room is told so */
    const struct seen seen = recorder_read(heap, NULL);
    CHECK_EQUAL(strspn(seen.text, "x"), 80);
    evh_recorder_close(recorder);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(the_last_records_are_kept_and_the_others_counted)
{
    evh_heap *heap = recorder_heap(test_path("last"));
    evh_recorder *recorder = evh_recorder_open(heap, "log", 60);
    for (unsigned i = 0; i < 1000; i++) EVH_RECORD(recorder, "number %u", i);
    uint64_t missing = 0;
    struct seen seen = recorder_read(heap, &missing);
    CHECK_EQUAL(seen.count, 64);
    CHECK_EQUAL(seen.first, 937);
    CHECK_EQUAL(missing, 936);
    CHECK(strcmp(seen.text, "number 999") == 0);
    evh_recorder_close(recorder);
    recorder = evh_recorder_open(heap, "log", 1); /* it is there: as it was made */
    EVH_RECORD(recorder, "more");
    seen = recorder_read(heap, NULL);
    CHECK_EQUAL(seen.count, 64);
    evh_recorder_close(recorder);
    CHECK(evh_recorder_open(heap, "log", 0) == NULL);
    CHECK(evh_root(heap, "other", 64) != NULL);
    CHECK(evh_recorder_open(heap, "other", 5) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
    CHECK_EQUAL(evh_recorder_each(heap, "nothing", 0, recorder_see, &seen, NULL), EVH_NOT_FOUND);
    EVH_RECORD(NULL, "nowhere");
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static void *recorder_thread(void *context)
{
    evh_recorder *recorder = context;
    for (unsigned i = 0; i < 20000; i++) EVH_RECORD(recorder, "%u %s", i, "from a thread");
    return NULL;
}

TEST(threads_record_side_by_side_and_none_is_lost)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    evh_heap *heap = recorder_heap(test_path("threads"));
    evh_recorder *recorder = evh_recorder_open(heap, "log", 1 << 17);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, recorder_thread, recorder), 0);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    uint64_t missing = 1;
    const struct seen seen = recorder_read(heap, &missing);
    CHECK_EQUAL(seen.count, THREADS * 20000);
    CHECK_EQUAL(missing, 0);
    evh_recorder_close(recorder);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* The child says through a pipe what it has recorded; killed anywhere, all of that is there. */
TEST(what_was_recorded_before_a_kill_is_there)
{
    uint64_t seed = test_seed();
    for (uint64_t round = 0; round < test_effort(20); round++) {
        const char *path = test_path("killed");
        int ends[2];
        CHECK_EQUAL(pipe(ends), 0);
        const pid_t child = fork();
        if (child == 0) {
            const evh_options options = {.mode = EVH_LIVE};
            evh_heap *heap = evh_open(path, &options);
            evh_recorder *recorder = evh_recorder_open(heap, "log", 1 << 12);
            for (uint32_t i = 0;; i++) {
                EVH_RECORD(recorder, "%u", i);
                if (write(ends[1], &i, sizeof i) != sizeof i) _exit(1);
            }
        }
        close(ends[1]);
        uint32_t last = 0, wanted = 1 + (uint32_t)(test_random(&seed) % 3000);
        while (last < wanted && read(ends[0], &last, sizeof last) == sizeof last) {
        }
        CHECK_EQUAL(kill(child, SIGKILL), 0);
        CHECK(waitpid(child, NULL, 0) == child);
        while (read(ends[0], &last, sizeof last) == sizeof last) {
        }
        close(ends[0]);
        evh_options options = {.mode = EVH_READ_ONLY};
        evh_heap *heap = evh_open(path, &options);
        CHECK(heap != NULL);
        uint64_t missing = 0;
        const struct seen seen = recorder_read(heap, &missing);
        const uint64_t there = strtoull(seen.text, NULL, 10);
        CHECK(there == last || there == last + 1); /* recorded, not yet told */
        CHECK(seen.count + missing >= last + 1);
        CHECK(missing <= 1 || last >= 4095);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        CHECK_EQUAL(unlink(path), 0);
        char beside[600];
        snprintf(beside, sizeof beside, "%s.live", path);
        (void)unlink(beside);
    }
}

TEST(a_ring_full_of_anything_harms_nobody)
{
    uint64_t seed = test_seed();
    evh_heap *heap = recorder_heap(test_path("hostile"));
    evh_recorder *recorder = evh_recorder_open(heap, "log", 16);
    for (unsigned i = 0; i < 40; i++) EVH_RECORD(recorder, "%s %d %f", "text", (int)i, 1.5);
    size_t size = 0;
    unsigned char *ring = evh_root_find(heap, "log", &size);
    for (uint64_t i = 0; i < test_effort(3000); i++) {
        const size_t at = test_random(&seed) % size;
        const unsigned char before = ring[at];
        ring[at] = (unsigned char)test_random(&seed);
        struct seen seen = {0};
        (void)evh_recorder_each(heap, "log", 0, recorder_see, &seen, NULL);
        if (i % 3) ring[at] = before;
        /* Whole records with formats that cannot be. */
        struct ring_record record = {.format = 1 + (uint32_t)(test_random(&seed) % 600),
                                     .size = (uint16_t)(test_random(&seed) % RING_DATA_BYTES)};
        for (unsigned k = 0; k < RING_DATA_BYTES; k++)
            record.data[k] = (unsigned char)test_random(&seed);
        if (ring_is_sound(ring, size))
            (void)ring_put(ring, ((struct ring_head *)(void *)ring)->record_count, &record);
    }
    evh_recorder_close(recorder);
    (void)evh_close(heap);
}
