/* misuse.c -- running a misuse in a child, and comparing what it said. */
#include "support/misuse.h"

#include <sys/resource.h>
#include <sys/wait.h>

static struct misuse *all_misuses, **last_misuse = &all_misuses;

void misuse_add(struct misuse *misuse)
{
    *last_misuse = misuse;
    last_misuse = &misuse->next;
}

/* Leave out what a user-mode emulator adds when a process dies of a signal. */
static void remove_emulator(char *text)
{
    static const char starts[] = "qemu: uncaught target signal ";
    for (char *line = text; *line;) {
        const char *end = strchr(line, '\n');
        if (!end || strncmp(line, starts, sizeof starts - 1) != 0) {
            if (!end) return;
            line += end - line + 1;
        } else {
            memmove(line, end + 1, strlen(end + 1) + 1);
        }
    }
}

/* Replace what differs from run to run. */
static void normalise(char *text)
{
    char *target = text;
    for (const char *source = text; *source;) {
        if (source[0] != '0' || source[1] != 'x') {
            *target++ = *source++;
            continue;
        }
        source += 2 + strspn(source + 2, "0123456789abcdef");
        memcpy(target, "@@", 2); /* an address; not longer than what it replaces */
        target += 2;
    }
    *target = 0;
}

static void run_child(const struct misuse *misuse, int output)
{
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    dup2(output, STDERR_FILENO);
    unsetenv("EVERHEAP_DEBUG");
    misuse->run(misuse);
    if (misuse->signal == 0 && evh_last_error()->status != EVH_OK && strchr(misuse->message, '_'))
        fprintf(stderr, "%s: %s\n", evh_status_name(evh_last_error()->status),
                evh_last_error()->message);
    fflush(stderr);
    _exit(0);
}

void misuse_check(const struct misuse *misuse)
{
#if defined(__SANITIZE_ADDRESS__)
    SKIP("AddressSanitizer finds these first");
#endif
    (void)test_directory(); /* the child's files are removed with this process's */
    int ends[2];
    char output[4096] = "";
    char expected[1024];
    size_t length = 0;
    int status = 0;
    CHECK_EQUAL(pipe(ends), 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) run_child(misuse, ends[1]);
    close(ends[1]);
    for (;;) {
        const ssize_t got = read(ends[0], output + length, sizeof output - 1 - length);
        if (got <= 0) break;
        length += (size_t)got;
    }
    close(ends[0]);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    output[length] = 0;
    remove_emulator(output);
    normalise(output);
    snprintf(expected, sizeof expected, "%s\n", misuse->message);
    if (strcmp(output, expected) != 0) {
        test_fail(__FILE__, __LINE__, "said:\n%sexpected:\n%s", output, expected);
        test_stop();
    }
    if (misuse->signal)
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == misuse->signal);
    else
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void must(bool fine)
{
    if (fine) return;
    fprintf(stderr, "the case could not begin: %s\n", evh_last_error()->message);
    _exit(3);
}

static void misuse_line(const struct misuse *misuse, char *line, size_t size)
{
    snprintf(line, size, "| %s | %s | %s | %s |\n", misuse->object, misuse->what,
             misuse->letters[0] ? misuse->letters : "-", misuse->when);
}

/* Whether a case of this binary says so; lines about objects of other binaries are theirs. */
static bool is_shown(const char *table_line, size_t size)
{
    char line[512];
    bool is_ours = false;
    for (const struct misuse *misuse = all_misuses; misuse; misuse = misuse->next) {
        misuse_line(misuse, line, sizeof line);
        if (strlen(line) == size && memcmp(line, table_line, size) == 0) return true;
        const size_t object = strcspn(line + 2, "|") + 2;
        if (object < size && memcmp(line, table_line, object) == 0) is_ours = true;
    }
    return !is_ours;
}

void misuse_check_table(void)
{
    static char text[65536];
    char line[512];
    unsigned missing = 0, unshown = 0;
    FILE *file = fopen("docs/debug.md", "r");
    if (!file) SKIP("docs/debug.md is not here");
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    const char *table = strstr(text, "| object | misuse | letters | when |\n");
    CHECK(table != NULL);
    for (const struct misuse *misuse = all_misuses; misuse; misuse = misuse->next) {
        misuse_line(misuse, line, sizeof line);
        if (strstr(table, line)) continue;
        if (!missing++) printf("docs/debug.md lacks these lines:\n");
        printf("%s", line);
    }
    for (const char *at = table; (at = strchr(at, '\n')) != NULL && *++at == '|';) {
        const size_t size = strcspn(at, "\n") + 1;
        if (at[1] == '-' || is_shown(at, size)) continue;
        if (!unshown++) printf("no test shows these lines of docs/debug.md:\n");
        printf("%.*s", (int)size, at);
    }
    CHECK_EQUAL(missing, 0);
    CHECK_EQUAL(unshown, 0);
}
