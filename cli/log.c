/* log.c -- `everheap log`: the commits that the journal still holds. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { LOG_LAST, LOG_OPERATIONS };

struct log_report {
    evh_commit_info *commits; /* owned */
    size_t count;
    size_t capacity;
};

static bool log_add(const evh_commit_info *commit, void *context)
{
    struct log_report *const report = context;
    if (report->count == report->capacity) {
        report->capacity = report->capacity ? 2 * report->capacity : 64;
        report->commits = cli_resize(report->commits, report->capacity, sizeof *report->commits);
    }
    report->commits[report->count++] = *commit;
    return true;
}

static bool log_collect(evh_heap *heap, void *context)
{
    struct log_report *const report = context;
    report->count = 0;
    return evh_log(heap, log_add, report) == EVH_OK;
}

static void log_text(const char *path, const struct log_report *report, size_t first)
{
    uint64_t pages = 0, changed_bytes = 0, record_bytes = 0;
    if (first < report->count) {
        printf("%12s  %-24s  %10s  %14s  %12s  %14s\n", "commit", "time", "pages", "changed bytes",
               "record bytes", "offset");
    }
    for (size_t i = first; i < report->count; i++) {
        const evh_commit_info *const commit = &report->commits[i];
        pages += commit->pages;
        changed_bytes += commit->changed_bytes;
        record_bytes += commit->record_bytes;
        printf("%12llu  %-24s  %10s  %14s  %12s  %#14llx\n", (unsigned long long)commit->sequence,
               cli_time(commit->time_ns), cli_count(commit->pages),
               cli_count(commit->changed_bytes), cli_count(commit->record_bytes),
               (unsigned long long)commit->offset);
    }
    cli_put_escaped(stdout, path, strlen(path));
    printf(": %s in the journal", cli_plural(report->count, "commit"));
    if (first > 0) printf(", the last %s shown", cli_count(report->count - first));
    if (first < report->count) {
        printf("; %s, %s changed, %s of records", cli_plural(pages, "page"),
               cli_size(changed_bytes), cli_size(record_bytes));
    }
    printf("\n");
}

static void log_json(const char *path, const struct log_report *report, size_t first)
{
    struct cli_json json;
    cli_json_begin(&json, stdout);
    cli_json_string(&json, "path", path);
    cli_json_number(&json, "commit_count", report->count);
    cli_json_array(&json, "commits");
    for (size_t i = first; i < report->count; i++) {
        const evh_commit_info *const commit = &report->commits[i];
        cli_json_object(&json, NULL);
        cli_json_number(&json, "sequence", commit->sequence);
        cli_json_number(&json, "time_ns", commit->time_ns);
        cli_json_string(&json, "time", cli_time(commit->time_ns));
        cli_json_number(&json, "pages", commit->pages);
        cli_json_number(&json, "changed_bytes", commit->changed_bytes);
        cli_json_number(&json, "record_bytes", commit->record_bytes);
        cli_json_number(&json, "offset", commit->offset);
        cli_json_number(&json, "heap_bytes", commit->heap_bytes);
        cli_json_close(&json);
    }
    cli_json_close(&json);
    cli_json_end(&json);
}

/* ---- the operations that a live heap has logged ---- */

struct log_operations {
    evh_debug_operation *operations; /* owned */
    size_t count;
};

static bool log_add_operation(const evh_debug_operation *operation, void *context)
{
    struct log_operations *const log = context;
    log->operations = cli_resize(log->operations, log->count + 1, sizeof *log->operations);
    log->operations[log->count++] = *operation;
    return true;
}

static bool log_collect_operations(evh_heap *heap, void *context)
{
    struct log_operations *const log = context;
    log->count = 0;
    return evh_debug_heap_log(heap, log_add_operation, log) == EVH_OK;
}

static void log_put_operation(const evh_debug_operation *operation)
{
    printf("%12llu  %8u  %6u  %-7s  %#14llx  %12llu  ", (unsigned long long)operation->number,
           operation->process, operation->thread, operation->operation,
           (unsigned long long)operation->address, (unsigned long long)operation->size);
    cli_put_escaped(stdout, operation->site, strlen(operation->site));
    printf("\n");
}

static void log_put_operation_json(struct cli_json *json, const evh_debug_operation *operation)
{
    cli_json_object(json, NULL);
    cli_json_number(json, "number", operation->number);
    cli_json_number(json, "process", operation->process);
    cli_json_number(json, "thread", operation->thread);
    cli_json_string(json, "operation", operation->operation);
    cli_json_number(json, "ref", operation->address);
    cli_json_number(json, "size", operation->size);
    cli_json_string(json, "site", operation->site);
    cli_json_close(json);
}

static enum cli_exit log_run_operations(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    const struct cli_value last = request->values[LOG_LAST];
    struct log_operations log = {NULL, 0};
    struct cli_json json;
    evh_error error;
    if (cli_read(path, log_collect_operations, &log, &error))
        return cli_complain(request, path, &error);
    size_t first = 0;
    if (last.is_given && last.number < log.count) first = log.count - (size_t)last.number;
    if (request->json) {
        cli_json_begin(&json, stdout);
        cli_json_string(&json, "path", path);
        cli_json_array(&json, "operations");
    } else {
        printf("%12s  %8s  %6s  %-7s  %14s  %12s  %s\n", "operation", "process", "thread", "what",
               "ref", "size", "site");
    }
    for (size_t i = first; i < log.count; i++) {
        if (request->json)
            log_put_operation_json(&json, &log.operations[i]);
        else
            log_put_operation(&log.operations[i]);
    }
    if (request->json) {
        cli_json_close(&json);
        cli_json_end(&json);
    }
    free(log.operations);
    return cli_finish(request, CLI_FINE);
}

/* ---- the commits ---- */

static enum cli_exit log_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    const struct cli_value last = request->values[LOG_LAST];
    struct log_report report = {0};
    evh_error error;
    if (request->values[LOG_OPERATIONS].is_given) return log_run_operations(request);
    if (cli_read(path, log_collect, &report, &error)) return cli_complain(request, path, &error);

    size_t first = 0;
    if (last.is_given && last.number < report.count) first = report.count - (size_t)last.number;
    if (request->json)
        log_json(path, &report, first);
    else
        log_text(path, &report, first);
    free(report.commits);
    return cli_finish(request, CLI_FINE);
}

const struct cli_command cli_log = {
    .name = "log",
    .summary = "List the commits in the journal with their sizes.",
    .description =
        "Oldest first: sequence number, time, pages changed, bytes that differ, the size of the\n"
        "record in the journal and its offset in the file. A checkpoint brings commits home and "
        "frees\n"
        "the journal, so older commits are no longer listed. With --operations: what the processes "
        "on\n"
        "a live heap did last that were debugged with letter O.",
    .arguments = {{"FILE", false, "the heap"}},
    .options = {{"last", 'n', CLI_NUMBER, "N", 0, "only the last N commits"},
                {"operations", 0, CLI_FLAG, NULL, 0, "the operations that a live heap has logged"}},
    .examples = {{"everheap log app.heap", "what was committed, and when"},
                 {"everheap log --last 1 --json app.heap", "the newest commit, for a program"}},
    .run = log_run,
};
