/* misuse.h -- misuse in a child whose standard error is read: it dies, or is told, with exactly the
 * message that it should. Addresses in a message are written @@. */
#ifndef EVERHEAP_TESTS_SUPPORT_MISUSE_H
#define EVERHEAP_TESTS_SUPPORT_MISUSE_H

#include <everheap.h>

#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A case: a line of the table in docs/debug.md. */
struct misuse {
    const char *object, *what, *letters, *when;
    int signal; /* 0: it is told and goes on */
    const char *message;
    void (*run)(const struct misuse *misuse);
    struct misuse *next;
};

/** The cases of this binary are linked here, in the order of the file. */
void misuse_add(struct misuse *misuse);
/** Run the case and check what it did. */
void misuse_check(const struct misuse *misuse);
/** Check that the table in docs/debug.md has a line for each case, and, about the objects of this
 *  binary, no other; prints those that it lacks or that no case shows. */
void misuse_check_table(void);
/** End the child unless `fine`: the case could not begin. */
void must(bool fine);

/* A case, and the test that it behaves as it says; the body follows. */
#define MISUSE(name, ...)                                                                          \
    static void name##_run(const struct misuse *misuse);                                           \
    static struct misuse name##_case = {__VA_ARGS__, name##_run, NULL};                            \
    __attribute__((constructor)) static void name##_add(void)                                      \
    {                                                                                              \
        misuse_add(&name##_case);                                                                  \
    }                                                                                              \
    TEST(name)                                                                                     \
    {                                                                                              \
        misuse_check(&name##_case);                                                                \
    }                                                                                              \
    static void name##_run(__attribute__((unused)) const struct misuse *misuse)

#endif
