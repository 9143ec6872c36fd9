/* preload_test.c -- libeverheap-malloc.so under programs: a small one that looks closely, and real
 * ones. */
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * The programs run as they are, with LD_PRELOAD; what they print has to be what they print without.
 * Sanitizers bring a malloc() of their own, so these tests are left out there.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

enum { PATH_SIZE = 4096, OUTPUT_SIZE = 1 << 16 };

/* The command that runs programs for the processor that the tests are built for ("qemu-aarch64"),
 * while they run under it themselves; empty on that processor. */
static const char *emulator(void)
{
    const char *text = getenv("EVERHEAP_EMULATOR");
    return text ? text : "";
}

/* Whether the program that was built starts, which it does with status 2 when it is told
 * nothing. */
static bool programs_start(void)
{
    char command[2 * PATH_SIZE];
    snprintf(command, sizeof command, "%s '%s' 2>/dev/null", emulator(),
             test_beside("programs/preload_program"));
    const int status = system(command);
    return WIFEXITED(status) && WEXITSTATUS(status) == 2;
}

static const char *library_path(void)
{
    const char *given = getenv("EVERHEAP_MALLOC");
    const char *path = given ? given : test_beside("../libeverheap-malloc.so");
    if (IS_SANITIZED) SKIP("sanitizers have a malloc() of their own");
    if (access(path, R_OK) != 0) SKIP("libeverheap-malloc.so is not built");
    if (!programs_start()) SKIP("this system starts no programs of the kind that was built");
    return path;
}

/* Run a shell command in this run's directory and keep what it prints, errors included. Returns as
 * waitpid(). */
static int run_shell(const char *command, char output[OUTPUT_SIZE])
{
    char whole[3 * PATH_SIZE];
    snprintf(whole, sizeof whole, "cd '%s' && { %s ; } 2>&1", test_directory(), command);
    FILE *pipe = popen(whole, "r");
    CHECK(pipe != NULL);
    const size_t size = fread(output, 1, OUTPUT_SIZE - 1, pipe);
    output[size] = 0;
    while (fgetc(pipe) != EOF) continue;
    return pclose(pipe);
}

/* ---- the small program ---- */

static int run_program(const char *environment, const char *part, char output[OUTPUT_SIZE])
{
    char command[2 * PATH_SIZE];
    /* An emulator is not to preload the library itself, but to have its program do it. */
    const char *name = emulator()[0] ? "QEMU_SET_ENV=LD_PRELOAD" : "LD_PRELOAD";
    snprintf(command, sizeof command, "%s %s='%s' %s '%s' %s", environment, name, library_path(),
             emulator(), test_beside("programs/preload_program"), part);
    return run_shell(command, output);
}

static void expect_fine(const char *part)
{
    static char output[OUTPUT_SIZE];
    char expected[64];
    const int status = run_program("", part, output);
    snprintf(expected, sizeof expected, "%s: fine\n", part);
    if (status || strcmp(output, expected) != 0)
        test_fail(__FILE__, __LINE__, "status %d: %s", status, output);
}

TEST(blocks_of_all_sizes_are_aligned_and_hold_what_is_written)
{
    expect_fine("sizes");
}

TEST(blocks_of_no_bytes_and_null_are_as_in_the_standard)
{
    expect_fine("null");
}

TEST(alignments_are_kept_and_wrong_ones_refused)
{
    expect_fine("alignment");
}

TEST(failures_set_errno_and_frees_keep_it)
{
    expect_fine("errors");
}

TEST(threads_that_end_may_free_and_allocate_to_the_last)
{
    expect_fine("threads");
}

TEST(forked_children_go_on_beside_threads_of_their_parent)
{
    expect_fine("forks");
}

TEST(a_fork_waits_for_no_stream_whose_holder_allocates)
{
    expect_fine("streams");
}

TEST(handlers_of_forks_that_others_set_first_may_allocate)
{
    static char output[OUTPUT_SIZE];
    char command[2 * PATH_SIZE];
    const char *source = "#include <pthread.h>\\n#include <stdlib.h>\\n"
                         "static void *kept;\\n"
                         "static void before(void) { kept = malloc(300000); }\\n"
                         "static void after(void) { free(kept); free(malloc(400000)); }\\n"
                         "__attribute__((constructor)) static void set(void)\\n"
                         "{ pthread_atfork(before, after, after); }\\n";
    snprintf(command, sizeof command, "printf '%s' > h.c && cc -shared -fPIC -o h.so h.c", source);
    if (emulator()[0]) SKIP("cc compiles for another processor");
    if (run_shell("command -v cc", output) != 0) SKIP("cc is not installed");
    const int made = run_shell(command, output);
    if (made) test_fail(__FILE__, __LINE__, "%d: %s", made, output);
    CHECK_EQUAL(made, 0);
    snprintf(command, sizeof command, "ulimit -t 60; LD_PRELOAD='./h.so %s' timeout 120 '%s' forks",
             library_path(), test_beside("programs/preload_program"));
    const int status = run_shell(command, output);
    if (status || strcmp(output, "forks: fine\n") != 0)
        test_fail(__FILE__, __LINE__, "status %d: %s", status, output);
}

TEST(a_large_table_costs_what_is_used_of_it)
{
    expect_fine("large");
}

TEST(programs_start_where_addresses_or_data_are_limited)
{
    static const char *const limits[] = {"-v 3000000", "-v 200000", "-d 1000000", "-d 100000"};
    static char output[OUTPUT_SIZE];
    char command[2 * PATH_SIZE];
    if (emulator()[0]) SKIP("the emulator needs more than these limits");
    for (unsigned i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        snprintf(command, sizeof command, "ulimit %s && LD_PRELOAD='%s' '%s' null", limits[i],
                 library_path(), test_beside("programs/preload_program"));
        const int status = run_shell(command, output);
        if (status || strcmp(output, "null: fine\n") != 0)
            test_fail(__FILE__, __LINE__, "%s: status %d: %s", limits[i], status, output);
    }
}

static void expect_abort(const char *environment, const char *part, const char *message)
{
    static char output[OUTPUT_SIZE];
    const int status = run_program(environment, part, output);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 128 + 6);
    if (!strstr(output, message)) test_fail(__FILE__, __LINE__, "it says: %s", output);
}

TEST(misuse_of_free_aborts_with_a_message)
{
    expect_abort("exec env EVERHEAP_CHECK=1", "double", "EVH_DOUBLE_FREE");
    expect_abort("exec env EVERHEAP_CHECK=1", "interior", "EVH_BAD_POINTER");
    expect_abort("exec env EVERHEAP_CHECK=1", "foreign", "EVH_BAD_POINTER");
    expect_abort("exec env EVERHEAP_CHECK=0", "foreign", "EVH_BAD_POINTER");
    expect_abort("exec env", "foreign", "EVH_BAD_POINTER");
}

TEST(without_checks_a_double_free_is_found_when_blocks_are_given_back)
{
    expect_abort("exec env", "late", "EVH_DOUBLE_FREE");
}

TEST(programs_run_with_all_checks)
{
    static char output[OUTPUT_SIZE];
    static const char *const parts[] = {"sizes", "null", "alignment", "threads", "forks"};
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (run_program("EVERHEAP_CHECK=1", parts[i], output))
            test_fail(__FILE__, __LINE__, "%s", output);
}

TEST(a_summary_is_printed_on_demand)
{
    static char output[OUTPUT_SIZE];
    CHECK_EQUAL(run_program("EVERHEAP_STATS=1", "null", output), 0);
    CHECK(strstr(output, "everheap: live at exit: ") != NULL);
    CHECK_EQUAL(run_program("EVERHEAP_STATS=0", "null", output), 0);
    CHECK(strstr(output, "everheap") == NULL);
}

TEST(a_heap_in_a_file_can_be_looked_at_afterwards)
{
    static char output[OUTPUT_SIZE];
    char command[2 * PATH_SIZE];
    CHECK_EQUAL(run_program("EVERHEAP_FILE=preload_%p.heap", "forks", output), 0);
    CHECK(strcmp(output, "forks: fine\n") == 0);
    snprintf(command, sizeof command, "'%s' check preload_*.heap && ls preload_*.heap | wc -l",
             getenv("EVERHEAP_COMMAND") ? getenv("EVERHEAP_COMMAND") : test_beside("../everheap"));
    const int status = run_shell(command, output);
    if (status || !strstr(output, "\n1\n")) test_fail(__FILE__, __LINE__, "%d: %s", status, output);
}

TEST(a_file_that_exists_is_left_alone)
{
    static char output[OUTPUT_SIZE];
    CHECK_EQUAL(run_shell("echo precious > precious", output), 0);
    CHECK_EQUAL(run_program("EVERHEAP_FILE=precious", "null", output), 0);
    CHECK(strstr(output, "memory is used instead") != NULL);
    CHECK_EQUAL(run_shell("cat precious", output), 0);
    CHECK(strcmp(output, "precious\n") == 0);
}

/* ---- real programs ---- */

/* The command, with and without; `needs` is the program that has to be there. */
static void expect_same(const char *needs, const char *command)
{
    static char plain[OUTPUT_SIZE], ours[OUTPUT_SIZE];
    char with[3 * PATH_SIZE];
    const char *library = library_path();
    if (emulator()[0]) SKIP("the programs that are installed are for another processor");
    snprintf(with, sizeof with, "command -v %s", needs);
    if (run_shell(with, plain) != 0) {
        snprintf(with, sizeof with, "%s is not installed", needs);
        SKIP(with);
    }
    const int expected = run_shell(command, plain);
    snprintf(with, sizeof with, "export LD_PRELOAD='%s'; %s", library, command);
    const int status = run_shell(with, ours);
    CHECK_EQUAL(status, expected);
    CHECK(plain[0] != 0);
    if (strcmp(plain, ours) != 0)
        test_fail(__FILE__, __LINE__, "it prints:\n%s\nnot:\n%s", ours, plain);
}

TEST(python_runs_on_it)
{
    expect_same("python3",
                "PYTHONMALLOC=malloc python3 -c 'import json, threading, subprocess\n"
                "rows = [{\"k\": str(i) * 3, \"v\": [i] * (i % 40)} for i in range(9000)]\n"
                "text = json.dumps(rows); back = json.loads(text)\n"
                "found = []\n"
                "def work(n): found.append(sum(len(r[\"v\"]) for r in back[n::4]))\n"
                "ts = [threading.Thread(target=work, args=(n,)) for n in range(4)]\n"
                "[t.start() for t in ts]; [t.join() for t in ts]\n"
                "print(len(text), back == rows, sorted(found))\n"
                "print(subprocess.check_output([\"echo\", \"child\"]))'");
}

TEST(perl_runs_on_it)
{
    expect_same("perl", "perl -e 'my %h; $h{$_ % 977} .= \"$_,\" for 1 .. 60000; print length(join "
                        "\"\", map { \"$_=$h{$_};\" } sort keys %h), \"\\n\"; print `echo child`'");
}

TEST(sqlite3_runs_on_it)
{
    expect_same(
        "sqlite3",
        "sqlite3 :memory: 'create table t(a, b); with recursive c(x) as (select 1 union all "
        "select x + 1 from c where x < 20000) insert into t select x, hex(x * 977) from c; "
        "create index i on t(b); select count(*), sum(a), min(b), max(b) from t where b > "
        "\"3\"; select group_concat(b) from t where a % 1000 = 0;'");
}

TEST(ghostscript_runs_on_it)
{
    expect_same("gs",
                "printf '%%!\\n0 1 300 { /i exch def 20 i moveto i 40 mod 300 lineto stroke } "
                "for showpage\\n' > p.ps && gs -q -dBATCH -dNOPAUSE -sDEVICE=pbmraw -r50 "
                "-sOutputFile=- p.ps | cksum");
}

TEST(gcc_runs_on_it)
{
    expect_same("gcc",
                "printf '#include <stdio.h>\\n#include <string.h>\\nint main(void) { char "
                "a[99]; return printf(\"%%d\\\\n\", (int)strlen(memset(a, 0, 99))) - 2; }\\n' "
                "> p.c && gcc -O2 -o p p.c && LD_PRELOAD= ./p && gcc -O2 -S -o - p.c | cksum");
}

TEST(git_runs_on_it)
{
    expect_same("git",
                "rm -rf r && git init -q -b main r && cd r && git config user.name a && git "
                "config user.email a@b && for i in 1 2 3 4; do seq $((i * 999)) > f$i && git "
                "add . && git commit -q --date=2020-01-01T00:00:00Z -m c$i; done; git gc -q; "
                "git log --stat --format=%s%ad && git show HEAD~1:f3 | cksum && git fsck");
}
