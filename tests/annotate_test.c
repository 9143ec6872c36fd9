/* annotate_test.c -- ASan and Valgrind, watching a program, see what the library hands out. */
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* annotated_program does what its first argument says; the message names the function that did. */
static const struct {
    const char *what;
    bool is_write;
} misuses[] = {
    {"heap_read_behind", false},
    {"heap_write_behind", true},
    {"heap_read_freed", false},
    {"heap_write_freed", true},
    {"heap_read_freed_large", false},
    {"heap_read_freed_before_a_commit", false},
    {"heap_read_behind_after_a_commit", false},
    {"memory_read_freed", false},
    {"arena_read_released", false},
    {"pool_read_put", false},
};

enum { OUTPUT_SIZE = 1 << 16 };

/* What the program says on standard error, and how it ends. */
static int run(const char *before, const char *program, const char *what, char *output)
{
    char command[3 * 4096];
    snprintf(command, sizeof command, "%s '%s' %s '%s' 2>&1", before, test_beside(program), what,
             test_path("annotated.heap"));
    FILE *pipe = popen(command, "r");
    CHECK(pipe != NULL);
    const size_t size = fread(output, 1, OUTPUT_SIZE - 1, pipe);
    output[size] = 0;
    while (fgetc(pipe) != EOF) {
    }
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void check_says(const char *output, const char *what)
{
    if (!strstr(output, what)) test_fail(__FILE__, __LINE__, "no \"%s\" in:\n%s", what, output);
}

static void need_plain_build(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP("a sanitizer is at work already");
#endif
    if (getenv("EVERHEAP_EMULATOR")) SKIP("not under an emulator");
}

static void need_asan(void)
{
    need_plain_build();
    if (access(test_beside("programs/annotated_program_asan"), X_OK))
        SKIP("the compiler has no AddressSanitizer");
}

static void need_valgrind(void)
{
    need_plain_build();
#if defined(__has_include)
#if !__has_include(<valgrind/memcheck.h>)
    SKIP("built without valgrind/memcheck.h");
#endif
#endif
    if (access(test_beside("programs/annotated_program"), X_OK))
        SKIP("the program to watch is not built");
    if (system("valgrind --version >/dev/null 2>&1")) SKIP("valgrind is not installed");
}

#define VALGRIND "valgrind -q --error-exitcode=9"

TEST(asan_names_whoever_touches_what_is_not_his)
{
    static char output[OUTPUT_SIZE];
    need_asan();
    for (unsigned i = 0; i < sizeof misuses / sizeof misuses[0]; i++) {
        const int status = run("", "programs/annotated_program_asan", misuses[i].what, output);
        CHECK_EQUAL(status, 1);
        check_says(output, "ERROR: AddressSanitizer: use-after-poison");
        check_says(output, misuses[i].is_write ? "WRITE of size 1" : "READ of size 1");
        check_says(output, misuses[i].what);
    }
}

TEST(asan_finds_nothing_in_a_program_without_misuse)
{
    static char output[OUTPUT_SIZE];
    need_asan();
    CHECK_EQUAL(run("", "programs/annotated_program_asan", "nothing", output), 0);
    if (output[0]) test_fail(__FILE__, __LINE__, "it says:\n%s", output);
}

TEST(valgrind_names_whoever_touches_what_is_not_his)
{
    static char output[OUTPUT_SIZE];
    need_valgrind();
    /* One of each kind: it is slow. */
    for (unsigned i = 0; i < sizeof misuses / sizeof misuses[0]; i += 5) {
        CHECK_EQUAL(run(VALGRIND, "programs/annotated_program", misuses[i].what, output), 9);
        check_says(output,
                   misuses[i].is_write ? "Invalid write of size 1" : "Invalid read of size 1");
        check_says(output, misuses[i].what);
    }
}

TEST(valgrind_finds_nothing_in_a_program_without_misuse)
{
    static char output[OUTPUT_SIZE];
    need_valgrind();
    CHECK_EQUAL(run(VALGRIND, "programs/annotated_program", "nothing", output), 0);
    CHECK(strstr(output, "Invalid") == NULL);
    CHECK(strstr(output, "uninitialised") == NULL);
}
