/* test.h -- the test harness: TEST defines and registers, CHECK fails a test, SKIP leaves it out.
 */
#ifndef EVERHEAP_TESTS_TEST_H
#define EVERHEAP_TESTS_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct test {
    const char *name;
    const char *file;
    void (*run)(void);
    struct test *next;
};

void test_register(struct test *test);
void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/** End the running test as skipped; does not return. */
void test_skip(const char *why) __attribute__((noreturn));
/** End the running test at once (after test_fail). */
void test_stop(void) __attribute__((noreturn));
/** A number from the command line's or the environment's SEED, printed when a test fails. */
uint64_t test_seed(void);
/** splitmix64: the next number of the sequence in `*state`. */
uint64_t test_random(uint64_t *state);
/** `count` times the environment's EFFORT (1 by default), at least 1: how often a random test goes
 *  round. */
uint64_t test_effort(uint64_t count);
/** Whether the process may reserve so many addresses: emulators and `ulimit -v` give few. */
bool test_has_addresses(uint64_t bytes);
/** A directory of this run's own, removed at its end; borrowed. On a real disk if there is one. */
const char *test_directory(void);
/** A path in it that no file has yet; static, valid until eight calls later. */
const char *test_path(const char *name);

/** A path relative to the directory of this test binary; good for three further calls. */
const char *test_beside(const char *relative);

#ifdef __cplusplus
}
#endif

#define TEST(test_name)                                                                            \
    static void test_name(void);                                                                   \
    __attribute__((constructor)) static void test_name##_register(void)                            \
    {                                                                                              \
        static struct test test = {#test_name, __FILE__, test_name, NULL};                         \
        test_register(&test);                                                                      \
    }                                                                                              \
    static void test_name(void)

/* A check that fails ends its test. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            test_fail(__FILE__, __LINE__, "CHECK(%s)", #condition);                                \
            test_stop();                                                                           \
        }                                                                                          \
    } while (0)

#define CHECK_EQUAL(actual, expected)                                                              \
    do {                                                                                           \
        const unsigned long long actual_value = (unsigned long long)(actual);                      \
        const unsigned long long expected_value = (unsigned long long)(expected);                  \
        if (actual_value != expected_value) {                                                      \
            test_fail(__FILE__, __LINE__, "%s is %llu (0x%llx), expected %s = %llu (0x%llx)",      \
                      #actual, actual_value, actual_value, #expected, expected_value,              \
                      expected_value);                                                             \
            test_stop();                                                                           \
        }                                                                                          \
    } while (0)

#define SKIP(why) test_skip(why)

#endif
