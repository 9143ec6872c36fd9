/* gdb_test.c -- tools/gdb.py shows refs, roots, collections and documents of a stopped process. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char output[1 << 20];

static int run_line(const char *line)
{
    FILE *const pipe = popen(line, "r");
    CHECK(pipe != NULL);
    output[fread(output, 1, sizeof output - 1, pipe)] = 0;
    return pclose(pipe);
}

TEST(refs_roots_collections_and_documents_are_shown)
{
    if (run_line("command -v gdb") != 0 || getenv("EVERHEAP_EMULATOR")) SKIP("gdb is not here");
    if (access("build/tests/programs/gdb_program", X_OK) != 0) SKIP("built elsewhere");
    (void)run_line(
        "gdb -q -batch -nx -ex run -ex 'source tools/gdb.py' -ex 'frame function stop_here' "
        "-ex 'up' -ex 'evh-heaps' -ex 'evh-roots' -ex 'evh-show handles[0]' "
        "-ex 'evh-show handles[1] heap' -ex 'evh-show handles[2]' "
        "-ex 'evh-show handles[3]' -ex 'print *(evh_str *)&handles[3]' "
        "-ex 'python for n, b, s in roots(find_heap(\"\")): show(find_heap(\"\"), b)' "
        "build/tests/programs/gdb_program 2>&1");
    if (strstr(output, "ptrace: Operation not permitted")) SKIP("gdb may not trace here");
    static const char *const wanted[] = {
        "memory  at 0x",
        "handles      ",
        "map of 100 items",
        "  'key ",
        "tree of 100 items",
        "  27: 9",
        "vec of 100 items",
        "  [7] 7",
        "str 'hello'",
        " (at 0x",
        "document {",
        "'a': [",
        "-2,\n    2.5,\n    true,\n    null,\n    'text'",
        "'b': {}",
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (!strstr(output, wanted[i]))
            test_fail(__FILE__, __LINE__, "no \"%s\" in:\n%s", wanted[i], output);
        CHECK(strstr(output, wanted[i]) != NULL);
    }
}
