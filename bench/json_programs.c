/* json_programs.c -- programs that read a JSON file anew each time: jq, python3, node. */
#include "json_peers.h"

#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const struct program {
    const char *name;
    const char *arguments[4]; /* in the third %zu is the status; the path follows */
} programs[JSON_PROGRAMS] = {
    {"jq", {"jq", "-r", ".statuses[%zu].user.screen_name", NULL}},
    {"python3",
     {"/usr/bin/python3", "-c",
      "import json,sys\n"
      "print(json.load(open(sys.argv[1]))['statuses'][%zu]['user']['screen_name'])",
      NULL}},
    {"node",
     {"node", "-e",
      "console.log(JSON.parse(require('fs').readFileSync(process.argv[1]))"
      ".statuses[%zu].user.screen_name)",
      NULL}},
};

const char *json_program_name(int program)
{
    return programs[program].name;
}

double json_program_run(int program, const char *path, size_t status)
{
    const struct program *const made = &programs[program];
    char script[200];
    snprintf(script, sizeof script, made->arguments[2], status);
    char *const arguments[] = {(char *)(uintptr_t)made->arguments[0],
                               (char *)(uintptr_t)made->arguments[1], script,
                               (char *)(uintptr_t)path, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    const uint64_t start = bench_now_ns();
    pid_t process;
    const int error = posix_spawnp(&process, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error) return 0;
    int result = 0;
    while (waitpid(process, &result, 0) < 0 && errno == EINTR) continue;
    return result == 0 ? (double)(bench_now_ns() - start) : 0;
}
