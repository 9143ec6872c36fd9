/* open.c -- open a heap to read one commit of it, complain, show progress, finish. */
#define _POSIX_C_SOURCE 200809L /* pthread_cond_timedwait(), isatty() */
#include "cli.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- errors ---- */

enum cli_exit cli_complain(const struct cli_request *request, const char *path,
                           const evh_error *error)
{
    fprintf(stderr, "everheap %s: ", request->command->name);
    if (!strstr(error->message, path)) {
        cli_put_escaped(stderr, path, strlen(path));
        fputs(": ", stderr);
    }
    cli_put_escaped(stderr, error->message, strlen(error->message));
    if (error->offset != UINT64_MAX) {
        fprintf(stderr, " (at offset 0x%llx)", (unsigned long long)error->offset);
    }
    fprintf(stderr, " [%s]\n", evh_status_name(error->status));
    return CLI_FAILED;
}

void *cli_resize(void *items, size_t count, size_t size)
{
    size_t bytes;
    void *moved = NULL;
    if (!__builtin_mul_overflow(count, size, &bytes)) moved = realloc(items, bytes ? bytes : 1);
    if (moved) return moved;
    fprintf(stderr, "everheap: no memory for %s items\n", cli_count(count));
    exit(CLI_FAILED);
}

enum cli_exit cli_finish(const struct cli_request *request, enum cli_exit result)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return result;
    fprintf(stderr, "everheap%s%s: standard output: %s\n", request->command ? " " : "",
            request->command ? request->command->name : "", strerror(errno));
    return CLI_FAILED;
}

/* ---- reading one commit ---- */

/*
 * How often a view may be overtaken before the command gives up. The writer moves on only when its
 * journal is full, which takes it at least the time to write journal_max_bytes (64 MiB by default);
 * a command that loses such a race this often in a row would go on losing.
 */
enum { READ_ATTEMPTS = 5 };

evh_status cli_read(const char *path, bool (*collect)(evh_heap *heap, void *report), void *report,
                    evh_error *error)
{
    const evh_options options = {.mode = EVH_READ_ONLY, .must_exist = true};
    for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
        evh_heap *const heap = evh_open(path, &options);
        const bool is_collected = heap && collect(heap, report);
        if (!is_collected) *error = *evh_last_error();
        const bool is_valid = !heap || evh_view_valid(heap);
        evh_close(heap); /* nothing was written: there is nothing to lose in it */
        if (is_valid) return is_collected ? EVH_OK : error->status;
    }
    *error = (evh_error){.status = EVH_STALE, .offset = UINT64_MAX};
    snprintf(error->message, sizeof error->message, "%s: its writer overtook the reader %d times",
             path, READ_ATTEMPTS);
    return error->status;
}

/* ---- progress ---- */

/* The library gives no signs of life during a call, so a thread of our own shows the seconds. */
static struct {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool is_running;
    const char *verb;
    const char *path;
} progress = {.mutex = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

static void *progress_run(void *unused)
{
    (void)unused;
    struct timespec wake;
    clock_gettime(CLOCK_REALTIME, &wake);
    pthread_mutex_lock(&progress.mutex);
    for (unsigned seconds = 1; progress.is_running; seconds++) {
        wake.tv_sec++;
        while (progress.is_running &&
               pthread_cond_timedwait(&progress.ended, &progress.mutex, &wake) == 0) {
        }
        if (!progress.is_running) break;
        fprintf(stderr, "\r%s ", progress.verb);
        cli_put_escaped(stderr, progress.path, strlen(progress.path));
        fprintf(stderr, ": %u s", seconds);
    }
    pthread_mutex_unlock(&progress.mutex);
    return NULL;
}

void cli_progress_begin(const char *verb, const char *path)
{
    if (!isatty(STDERR_FILENO)) return;
    progress.verb = verb;
    progress.path = path;
    progress.is_running = true;
    if (pthread_create(&progress.thread, NULL, progress_run, NULL)) progress.is_running = false;
}

void cli_progress_end(void)
{
    pthread_mutex_lock(&progress.mutex);
    const bool was_running = progress.is_running;
    progress.is_running = false;
    pthread_cond_signal(&progress.ended);
    pthread_mutex_unlock(&progress.mutex);
    if (!was_running) return;
    pthread_join(progress.thread, NULL);
    fputs("\r\033[K", stderr);
}
