/* cli_live_test.c -- the command `everheap` looks at a live heap while processes change it. */
#include "live_board.h"
#include "test.h"

#include <everheap.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 2, ROUNDS = 5 };

static char output[1 << 16];
static char heap_path[512];

/* Run the command with these words and the heap's path, through a shell. Returns its exit
 * status. */
static int run(const char *words)
{
    const char *command = getenv("EVERHEAP_COMMAND");
    if (!command) command = "build/everheap";
    char line[1200];
    snprintf(line, sizeof line, "%s %s '%s' 2>&1", command, words, heap_path);
    FILE *pipe = popen(line, "r");
    CHECK(pipe != NULL);
    const size_t size = fread(output, 1, sizeof output - 1, pipe);
    output[size] = 0;
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect(const char *words, const char *part)
{
    const int status = run(words);
    if (status == 0 && strstr(output, part)) return;
    test_fail(__FILE__, __LINE__, "%s: status %d, without '%s': %.600s", words, status, part,
              output);
    test_stop();
}

__attribute__((noreturn)) static void change_for_ever(unsigned worker, uint64_t seed)
{
    const evh_options options = {.mode = EVH_LIVE};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    evh_heap *heap = evh_open(heap_path, &options);
    struct board *board = heap ? board_open(heap) : NULL;
    while (board && !board_step(heap, board, worker, &seed, worker % 2)) {
    }
    _exit(1);
}

/* The board of a new heap, and processes that change it. */
static const struct board *begin(pid_t *children)
{
    const char *command = getenv("EVERHEAP_COMMAND");
    if (access(command ? command : "build/everheap", X_OK))
        SKIP("no command: build it, or set EVERHEAP_COMMAND");
    const evh_options options = {.mode = EVH_LIVE};
    snprintf(heap_path, sizeof heap_path, "%s", test_path("heap"));
    evh_heap *heap = evh_open(heap_path, &options);
    CHECK(heap != NULL);
    const struct board *board = board_open(heap); /* the handle stays open with the test */
    CHECK(board != NULL);
    fflush(NULL);
    for (unsigned i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) change_for_ever(i, test_seed() + i);
    }
    for (unsigned i = 0; i < PROCESSES; i++)
        while (!__atomic_load_n(&board->operations[i], __ATOMIC_RELAXED)) usleep(100);
    return board;
}

TEST(the_command_looks_at_a_live_heap_beside_those_who_change_it)
{
    pid_t children[PROCESSES];
    const struct board *board = begin(children);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint64_t now = __atomic_load_n(&board->operations[0], __ATOMIC_RELAXED);
        expect("info", "live, used by 3 processes");
        expect("info --json", "\"is_live\": true");
        expect("check", "clean");
        expect("map", "live");
        expect("dump", "board");
        expect("stat --follow --every 10 --count 3", "live bytes"); /* there is no new commit */
        expect("dump --json", "\"board\"");
        /* They are not stopped by being looked at. */
        while (__atomic_load_n(&board->operations[0], __ATOMIC_RELAXED) == now) {
            CHECK_EQUAL(waitpid(children[0], NULL, WNOHANG), 0);
            usleep(100);
        }
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status = 0;
        CHECK_EQUAL(waitpid(children[i], &status, WNOHANG), 0);
        CHECK_EQUAL(kill(children[i], SIGKILL), 0);
        CHECK_EQUAL(waitpid(children[i], &status, 0), children[i]);
        CHECK(WIFSIGNALED(status));
    }
    expect("check", "clean"); /* what the dead left, before anybody has mended it */
    expect("info", "live, used by");
}

TEST(the_command_shows_what_a_dead_process_did_last)
{
    const char *command = getenv("EVERHEAP_COMMAND");
    if (access(command ? command : "build/everheap", X_OK))
        SKIP("no command: build it, or set EVERHEAP_COMMAND");
    snprintf(heap_path, sizeof heap_path, "%s", test_path("heap"));
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        evh_heap *heap = evh_open(heap_path, &(evh_options){.mode = EVH_LIVE, .debug = "O"});
        evh_debug_here("the last words");
        (void)evh_malloc(heap, 12345);
        (void)kill(getpid(), SIGKILL);
    }
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    expect("log --operations --last 1", "12345  the last words");
    expect("log --operations --json", "\"site\": \"the last words\"");
}
