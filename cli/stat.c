/* stat.c -- `everheap stat`: what is in use, by size, once or with every commit. */
#define _POSIX_C_SOURCE 200809L /* nanosleep() */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STAT_FOLLOW, STAT_EVERY, STAT_COUNT, STAT_METRICS };

static bool stat_collect(evh_heap *heap, void *report)
{
    return evh_monitor_read(heap, report) == EVH_OK;
}

/* "12.3 %" of a part between 0 and 1. Static, valid until four calls later. */
static const char *stat_percent(double part)
{
    static char texts[4][16];
    static unsigned next;
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0], "%.1f %%", part * 100);
    return text;
}

static void stat_text(const char *path, const evh_monitor *monitor)
{
    cli_put_escaped(stdout, path, strlen(path));
    printf("\n  last commit    %s\n", cli_count(monitor->commit_sequence));
    printf("  live           %s, %s\n", cli_plural(monitor->live_blocks, "block"),
           cli_exact_size(monitor->live_bytes));
    printf("  heap           %s\n", cli_exact_size(monitor->heap_bytes));
    printf("  free           %s\n", cli_exact_size(monitor->free_bytes));
    printf("  fragmentation  %s of what is free lies apart from the longest run\n",
           stat_percent(monitor->fragmentation));
    printf("  utilisation    %s of what is not free is in live blocks\n",
           stat_percent(monitor->utilisation));
    printf("  blocks by size\n");
    for (unsigned i = 0; i < EVH_MONITOR_SIZES; i++)
        if (monitor->size_blocks[i])
            printf("    to %-12s %s\n", cli_size((uint64_t)1 << i),
                   cli_count(monitor->size_blocks[i]));
}

static void stat_line(const evh_monitor *monitor, bool is_first)
{
    if (is_first)
        printf("%12s %12s %14s %14s %8s %8s\n", "commit", "blocks", "live bytes", "peak bytes",
               "frag", "used");
    printf("%12llu %12llu %14llu %14llu %8s %8s\n", (unsigned long long)monitor->commit_sequence,
           (unsigned long long)monitor->live_blocks, (unsigned long long)monitor->live_bytes,
           (unsigned long long)monitor->peak_bytes, stat_percent(monitor->fragmentation),
           stat_percent(monitor->utilisation));
}

static void stat_json(const char *path, const evh_monitor *monitor)
{
    struct cli_json json;
    cli_json_begin(&json, stdout);
    cli_json_string(&json, "path", path);
    cli_json_number(&json, "commit_sequence", monitor->commit_sequence);
    cli_json_number(&json, "live_blocks", monitor->live_blocks);
    cli_json_number(&json, "live_bytes", monitor->live_bytes);
    cli_json_number(&json, "peak_bytes", monitor->peak_bytes);
    cli_json_number(&json, "heap_bytes", monitor->heap_bytes);
    cli_json_number(&json, "free_bytes", monitor->free_bytes);
    cli_json_number(&json, "metadata_bytes", monitor->metadata_bytes);
    cli_json_number(&json, "fragmentation_permille", (uint64_t)(monitor->fragmentation * 1000));
    cli_json_number(&json, "utilisation_permille", (uint64_t)(monitor->utilisation * 1000));
    cli_json_array(&json, "blocks_by_size");
    for (unsigned i = 0; i < EVH_MONITOR_SIZES; i++) {
        if (!monitor->size_blocks[i]) continue;
        cli_json_object(&json, NULL);
        cli_json_number(&json, "bytes_max", (uint64_t)1 << i);
        cli_json_number(&json, "blocks", monitor->size_blocks[i]);
        cli_json_close(&json);
    }
    cli_json_close(&json);
    cli_json_end(&json);
}

static void stat_metrics(const char *path, const evh_monitor *monitor)
{
    const size_t size = evh_monitor_text(monitor, path, NULL, 0) + 1;
    char *text = cli_resize(NULL, size, 1);
    (void)evh_monitor_text(monitor, path, text, size);
    fputs(text, stdout);
    free(text);
}

static void stat_print(const struct cli_request *request, const evh_monitor *monitor)
{
    const char *const path = request->arguments[0];
    if (request->values[STAT_METRICS].is_given)
        stat_metrics(path, monitor);
    else if (request->json)
        stat_json(path, monitor);
    else
        stat_text(path, monitor);
}

static void stat_wait(uint64_t milliseconds)
{
    const struct timespec time = {(time_t)(milliseconds / 1000),
                                  (long)(milliseconds % 1000 * 1000000)};
    nanosleep(&time, NULL);
}

/* Whether there is something new: a commit, or, as a live heap has none, other counts. */
static bool stat_is_new(const evh_monitor *before, const evh_monitor *now)
{
    return now->commit_sequence != before->commit_sequence ||
           now->live_blocks != before->live_blocks || now->live_bytes != before->live_bytes ||
           now->heap_bytes != before->heap_bytes || now->free_bytes != before->free_bytes;
}

/* Print what each new commit changed, until the heap is gone or `--count` are printed. */
static enum cli_exit stat_follow(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    evh_monitor monitor = {0}, last = {0};
    evh_error error;
    uint64_t printed = 0;
    const uint64_t count = request->values[STAT_COUNT].number;
    const bool has_lines = !request->json && !request->values[STAT_METRICS].is_given;
    for (;;) { /* until it is told enough */
        if (cli_read(path, stat_collect, &monitor, &error))
            return cli_complain(request, path, &error);
        if (printed == 0 || stat_is_new(&last, &monitor)) {
            if (has_lines)
                stat_line(&monitor, printed == 0);
            else
                stat_print(request, &monitor);
            if (fflush(stdout) != 0) return cli_finish(request, CLI_FAILED);
            last = monitor;
            if (++printed == count) return CLI_FINE;
        }
        stat_wait(request->values[STAT_EVERY].number);
    }
}

static enum cli_exit stat_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    evh_monitor monitor = {0};
    evh_error error;
    if (request->values[STAT_FOLLOW].is_given) return stat_follow(request);
    if (cli_read(path, stat_collect, &monitor, &error)) return cli_complain(request, path, &error);
    stat_print(request, &monitor);
    return cli_finish(request, CLI_FINE);
}

const struct cli_command cli_stat = {
    .name = "stat",
    .summary = "Count blocks by size, and show how full and how fragmented a heap is.",
    .description =
        "Shows the newest commit, of a live heap the moment. With --follow it goes on, and prints "
        "a\n"
        "line when there is a new one, or other counts; the peak is the most that it saw.",
    .arguments = {{"FILE", false, "the heap"}},
    .options = {{"follow", 'f', CLI_FLAG, NULL, 0, "print a line for each change"},
                {"every", 0, CLI_NUMBER, "MS", 1000, "look that often"},
                {"count", 0, CLI_NUMBER, "N", 0, "with --follow: end after N lines"},
                {"metrics", 0, CLI_FLAG, NULL, 0, "print OpenMetrics text"}},
    .examples = {{"everheap stat app.heap", "what is in use, by size"},
                 {"everheap stat --follow app.heap", "watch a program while it runs"},
                 {"everheap stat --metrics app.heap", "for a collector of metrics"}},
    .run = stat_run,
};
