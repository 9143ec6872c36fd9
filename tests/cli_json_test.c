/* cli_json_test.c -- `everheap json`: documents from a shell. */
#include <everheap.h>

#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char output[1 << 16];

/* Run `everheap json` with these words, through a shell. Returns its exit status. */
static int run(const char *words)
{
    const char *command = getenv("EVERHEAP_COMMAND");
    if (!command) command = "build/everheap";
    if (access(command, X_OK)) SKIP("no command: build it, or set EVERHEAP_COMMAND");
    char line[4000];
    snprintf(line, sizeof line, "%s json %s 2>&1", command, words);
    FILE *pipe = popen(line, "r");
    CHECK(pipe != NULL);
    const size_t size = fread(output, 1, sizeof output - 1, pipe);
    output[size] = 0;
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_run(const char *path, const char *form, const char *expected)
{
    char words[3000];
    snprintf(words, sizeof words, form, path);
    const int status = run(words);
    if (status != 0 || strcmp(output, expected) != 0)
        test_fail(__FILE__, __LINE__, "%s: status %d, %s", words, status, output);
}

static void check_refused(const char *path, const char *form, const char *part)
{
    char words[3000];
    snprintf(words, sizeof words, form, path);
    const int status = run(words);
    if (status != 2 || !strstr(output, part))
        test_fail(__FILE__, __LINE__, "%s: status %d, %s", words, status, output);
}

TEST(a_document_is_loaded_read_changed_and_checked)
{
    const char *path = test_path("cli");
    check_run(path, "load %s <<'E'\n{\"a\":[1,2,{\"b\":\"text\"}],\"r\":{\"$ref\":\"/a/2\"}}\nE\n",
              "");
    check_run(path, "get %s /a/1", "2\n");
    check_run(path, "get %s /a/2/b --raw", "text\n");
    check_run(path, "get %s /r", "{\"b\":\"text\"}\n");
    check_run(path, "dump %s /r", "{\"$ref\":\"/a/2\"}\n");
    check_run(path, "put %s /new/list/- '[true]'", "");
    check_run(path, "push %s /new/list null", "");
    check_run(path, "put %s /a/0 <<'E'\n \"from standard input\"\nE\n", "");
    check_run(
        path, "get %s '' --sort",
        "{\"a\":[\"from standard input\",2,{\"b\":\"text\"}],\"new\":{\"list\":[[true],null]},"
        "\"r\":{\"$ref\":\"/a/2\"}}\n");
    check_run(path, "get %s /new -p",
              "{\n  \"list\": [\n    [\n      true\n    ],\n    null\n  ]\n}\n");
    check_run(path, "query %s '$..list[*]'", "/new/list/0\t[true]\n/new/list/1\tnull\n");
    check_run(path, "keys %s", "a\nr\nnew\n");
    check_run(path, "patch %s '' '[{\"op\":\"remove\",\"path\":\"/new\"}]'", "");
    check_run(path, "merge %s /a/2 '{\"b\":null,\"c\":1}'", "");
    check_run(path, "erase %s /a/0", "");
    check_run(path, "get %s", "{\"a\":[2,{\"c\":1}],\"r\":{\"$ref\":\"/a/2\"}}\n");
    check_run(path, "check %s", "sound\n");
}

TEST(what_cannot_be_done_is_told_and_changes_nothing)
{
    const char *path = test_path("cli");
    check_refused("", "%s", "ACTION");
    check_refused(path, "nonsense %s", "an action is needed");
    check_refused(path, "get %s", "No such file");
    check_run(path, "load %s <<'E'\n[1]\nE\n", "");
    check_refused(path, "get %s /7", "EVH_NOT_FOUND");
    check_refused(path, "put %s /0 '[1,'", "EVH_SYNTAX");
    check_refused(path, "put %s /new 1", "EVH_NOT_FOUND");
    check_refused(
        path, "patch %s '' '[{\"op\":\"remove\",\"path\":\"/0\"},{\"op\":\"no\",\"path\":\"\"}]'",
        "EVH_SYNTAX");
    check_refused(path, "query %s '$['", "EVH_SYNTAX");
    check_refused(path, "put %s", "no PATH");
    check_run(path, "get %s", "[1]\n");
}
