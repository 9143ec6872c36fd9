/* cli_json_test.c -- `everheap json`: documents from a shell. */
#include <everheap.h>

#include "test.h"

#include <fcntl.h>
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
    snprintf(line, sizeof line, "{ %s json %s\n} 2>&1", command, words);
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

TEST(a_text_that_cannot_be_loaded_leaves_things_as_they_were)
{
    const char *path = test_path("none");
    check_refused(path, "load %s <<'E'\n[1,}\nE\n", "expected a value");
    CHECK(access(path, F_OK) != 0);
    check_run(path, "load %s <<'E'\n[1,2]\nE\n", "");
    check_refused(path, "load %s <<'E'\n[1,}\nE\n", "expected a value");
    check_run(path, "get %s", "[1,2]\n");
}

TEST(a_database_is_searched_and_tells_its_numbers)
{
    const char *path = test_path("cli");
    check_run(path, "load %s <<'E'\n{\"fox\":[\"a Fox\",\"hen\"],\"r\":{\"$ref\":\"/no\"}}\nE\n",
              "");
    check_run(path, "search %s fox -i", "key\t/fox\tfox\nvalue\t/fox/0\ta Fox\n");
    check_run(path, "search %s fox -i --skip 1 --limit 1", "value\t/fox/0\ta Fox\n");
    check_run(path, "get %s '/$metrics/strings'", "2\n");
    check_run(path, "refs %s", "/r\t/no\tleads nowhere\n1 reference that leads nowhere\n");
    check_refused(path, "put %s '/$metrics/strings' 1", "EVH_READ_ONLY");
    check_refused(path, "patch %s '/$metrics' '[]'", "EVH_READ_ONLY");
    check_run(path, "watch %s /fox/1 --limit 1", "\"hen\"\n");
    check_run(path, "stat %s | head -2", "{\n  \"values\": 5,\n");
}

TEST(a_shell_commits_each_change_or_those_between_begin_and_commit)
{
    const char *path = test_path("cli");
    check_run(path, "load %s <<'E'\n{}\nE\n", "");
    check_run(path,
              "shell %s <<'E'\nput /a {\"b\": 1}\nput /s \"two words\"\nget /a/b\nbegin\n"
              "erase /a\nrollback\nbegin\npush /l 1\ncommit\nbegin\npush /l 2\nE\n",
              "1\neverheap json: what waited for commit is undone\n");
    check_run(path, "get %s", "{\"a\":{\"b\":1},\"s\":\"two words\",\"l\":[1]}\n");
    check_refused(path, "shell %s <<'E'\nput /a [1,\nE\n", "expected a value");
    check_refused(path, "shell %s <<'E'\nput /x\nE\n", "something is missing");
    check_refused(path, "shell %s <<'E'\ncommit\nE\n", "no begin");
    check_run(path, "get %s /a", "{\"b\":1}\n");
}

TEST(an_index_is_kept_and_a_commit_that_is_gone_is_refused)
{
    const char *path = test_path("cli");
    check_run(path, "load %s <<'E'\n{\"a\":\"a Fox\"}\nE\n", "");
    check_run(path, "index %s", "");
    check_run(path, "get %s '/$metrics/index_bytes' | wc -c", "7\n");
    check_run(path, "put %s /b '\"the fox\"'", "");
    check_run(path, "search %s fox", "value\t/b\tthe fox\n");
    check_run(path, "check %s", "sound\n");
    check_run(path, "index %s off", "");
    check_run(path, "get %s '/$metrics/index_bytes'", "0\n");
    check_refused(path, "index %s perhaps", "on, or off");
    check_refused(path, "get %s --commit 99", "EVH_NOT_FOUND");
    check_refused(path, "get %s --commit 1", "EVH_STALE"); /* closing brings all home */
}

/* Read from a terminal until `part` was there, behind `before`. */
static void await(int terminal, const char *before, const char *part)
{
    size_t size = 0;
    output[0] = 0;
    for (const char *at = NULL; !(at = strstr(output, before)) || !strstr(at, part);) {
        const ssize_t more = read(terminal, output + size, sizeof output - 1 - size);
        if (more <= 0) test_fail(__FILE__, __LINE__, "no %s in %s", part, output);
        if (more <= 0) test_stop();
        size += (size_t)more;
        output[size] = 0;
    }
}

static void type(int terminal, const char *text)
{
    CHECK(write(terminal, text, strlen(text)) == (ssize_t)strlen(text));
}

TEST(a_shell_at_a_terminal_completes_paths)
{
    const char *path = test_path("cli");
    check_run(path, "load %s <<'E'\n{\"users\":[{\"na/me\":\"Ada\"}]}\nE\n", "");
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const char *command = getenv("EVERHEAP_COMMAND");
        if (!command) command = "build/everheap";
        setsid();
        const int end = open(ptsname(terminal), O_RDWR);
        if (end < 0 || dup2(end, 0) < 0 || dup2(end, 1) < 0 || dup2(end, 2) < 0) _exit(9);
        setenv("TERM", "dumb", 1);
        execlp(command, command, "json", "shell", path, (char *)NULL);
        _exit(9);
    }
    await(terminal, "", "json > ");
    type(terminal, "help\n");
    await(terminal, "quit", "json > ");
    const bool is_edited = strstr(output, "tabulator") != NULL;
    if (is_edited) {
        type(terminal, "get /us\t0/n\t\n");
        await(terminal, "", "\"Ada\"");
    }
    type(terminal, "quit\n");
    int status = 0;
    while (read(terminal, output, sizeof output) > 0) continue;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(terminal);
    if (!is_edited) SKIP("the command was built without libedit, or it is not installed");
}

TEST(a_watch_prints_what_another_process_commits)
{
    const char *path = test_path("cli");
    check_run(path, "load %s <<'E'\n{\"n\":0}\nE\n", "");
    char line[1000];
    const char *command = getenv("EVERHEAP_COMMAND");
    if (!command) command = "build/everheap";
    snprintf(line, sizeof line, "%s json watch %s /n --limit 2", command, path);
    FILE *watch = popen(line, "r");
    CHECK(watch != NULL);
    char text[16] = "";
    CHECK(fgets(text, sizeof text, watch) && strcmp(text, "0\n") == 0);
    check_run(path, "put %s /m 5", "");
    check_run(path, "put %s /n 7", "");
    CHECK(fgets(text, sizeof text, watch) && strcmp(text, "7\n") == 0);
    CHECK(pclose(watch) == 0);
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
