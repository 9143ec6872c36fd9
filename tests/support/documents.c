/* documents.c -- what tests of documents and databases have in common. */
#include "support/documents.h"

#include "test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

void check_ok(evh_status status)
{
    if (!status) return;
    test_fail(__FILE__, __LINE__, "%s: %s", evh_status_name(status), evh_last_error()->message);
    test_stop();
}

evh_db *open_memory(evh_heap **heap)
{
    *heap = evh_open_memory(NULL, 0, NULL);
    evh_db *const db = evh_db_open_in(*heap, NULL);
    CHECK(db != NULL);
    return db;
}

uint64_t run_and_kill(void (*child)(const char *path, uint64_t seed, int pipe_end),
                      const char *path, uint64_t seed, uint64_t kill_after_us, uint64_t least)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    const pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        close(ends[0]);
        child(path, seed, ends[1]);
        _exit(4);
    }
    close(ends[1]);
    uint64_t acknowledged = 0;
    uint64_t word = 0;
    while (acknowledged < least && read(ends[0], &word, sizeof word) == sizeof word)
        acknowledged = word;
    CHECK(acknowledged == least);
    usleep((useconds_t)kill_after_us);
    kill(process, SIGKILL);
    while (read(ends[0], &word, sizeof word) == sizeof word) acknowledged = word;
    close(ends[0]);
    int status = 0;
    CHECK(waitpid(process, &status, 0) == process);
    return acknowledged;
}
