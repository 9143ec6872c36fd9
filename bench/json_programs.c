/* json_programs.c -- programs that print one path: our command, sqlite3, jq, python3, node. */
#include "json_peers.h"

#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const struct program {
    const char *name;
    const char *arguments[6]; /* "FILE": the path; a %zu is the status */
} programs[JSON_PROGRAMS] = {
    {"everheap json get",
     {"everheap", "json", "get", "FILE", "/statuses/%zu/user/screen_name", NULL}},
    {"sqlite3",
     {"sqlite3", "FILE",
      "SELECT json_extract(text, '$.user.screen_name') FROM status WHERE number = %zu", NULL}},
    {"jq", {"jq", "-r", ".statuses[%zu].user.screen_name", "FILE", NULL}},
    {"python3",
     {"/usr/bin/python3", "-c",
      "import json,sys\n"
      "print(json.load(open(sys.argv[1]))['statuses'][%zu]['user']['screen_name'])",
      "FILE", NULL}},
    {"node",
     {"node", "-e",
      "console.log(JSON.parse(require('fs').readFileSync(process.argv[1]))"
      ".statuses[%zu].user.screen_name)",
      "FILE", NULL}},
};

const char *json_program_name(int program)
{
    return programs[program].name;
}

/* The command that was built with this program, which is in another folder. */
static void find_command(char *path, size_t size)
{
    const ssize_t length = readlink("/proc/self/exe", path, size - 20);
    path[length > 0 ? length : 0] = 0;
    char *const slash = strrchr(path, '/');
    if (slash) memcpy(slash, "/../everheap", 13);
}

double json_program_run(int program, const char *path, size_t status)
{
    char command[4200];
    char script[200];
    char *arguments[6] = {NULL};
    for (int i = 0; i < 5 && programs[program].arguments[i]; i++) {
        const char *const argument = programs[program].arguments[i];
        arguments[i] = (char *)(uintptr_t)(strcmp(argument, "FILE") == 0 ? path : argument);
        if (!strstr(argument, "%zu")) continue;
        snprintf(script, sizeof script, argument, status);
        arguments[i] = script;
    }
    find_command(command, sizeof command);
    if (program == JSON_OURS) arguments[0] = command;
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
