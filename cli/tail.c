/* tail.c -- `everheap tail`: the last records of a flight recorder, of a process alive or dead. */
#define _POSIX_C_SOURCE 200809L /* nanosleep() */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TAIL_NAME, TAIL_LINES, TAIL_FOLLOW };

struct tail_line {
    evh_record record;
    char text[512];
};

struct tail_report {
    const char *name;
    uint64_t after; /* the last number that was printed */
    uint64_t limit;
    struct tail_line *lines; /* owned: a ring of the last `limit` */
    size_t count;
    uint64_t missing;
};

static bool tail_add(const evh_record *record, void *context)
{
    struct tail_report *const report = context;
    if (report->count == report->limit) {
        memmove(report->lines, report->lines + 1, (report->limit - 1) * sizeof *report->lines);
        report->count--;
    }
    if ((report->count & (report->count - 1)) == 0)
        report->lines =
            cli_resize(report->lines, report->count ? 2 * report->count : 1, sizeof *report->lines);
    struct tail_line *const line = &report->lines[report->count++];
    line->record = *record;
    snprintf(line->text, sizeof line->text, "%s", record->text);
    return true;
}

static bool tail_collect(evh_heap *heap, void *context)
{
    struct tail_report *const report = context;
    report->count = 0;
    return evh_recorder_each(heap, report->name, report->after, tail_add, report,
                             &report->missing) == EVH_OK;
}

static void tail_text(const struct tail_report *report)
{
    if (report->missing && report->after)
        printf("(%s overwritten)\n", cli_plural(report->missing, "record"));
    for (size_t i = 0; i < report->count; i++) {
        const evh_record *const record = &report->lines[i].record;
        printf("%8llu  %s  %u.%u  ", (unsigned long long)record->number, cli_time(record->time_ns),
               record->process, record->thread);
        cli_put_escaped(stdout, report->lines[i].text, strlen(report->lines[i].text));
        printf("\n");
    }
    fflush(stdout);
}

static void tail_json(const char *path, const struct tail_report *report)
{
    struct cli_json json;
    cli_json_begin(&json, stdout);
    cli_json_bytes(&json, "path", path, strlen(path));
    cli_json_number(&json, "missing", report->missing);
    cli_json_array(&json, "records");
    for (size_t i = 0; i < report->count; i++) {
        const evh_record *const record = &report->lines[i].record;
        cli_json_object(&json, NULL);
        cli_json_number(&json, "number", record->number);
        cli_json_number(&json, "time_ns", record->time_ns);
        cli_json_number(&json, "process", record->process);
        cli_json_number(&json, "thread", record->thread);
        cli_json_bytes(&json, "text", report->lines[i].text, strlen(report->lines[i].text));
        cli_json_close(&json);
    }
    cli_json_close(&json);
    cli_json_end(&json);
}

static enum cli_exit tail_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    const struct cli_value name = request->values[TAIL_NAME];
    struct tail_report report = {.name = name.is_given ? name.text : "log",
                                 .limit = request->values[TAIL_LINES].number};
    if (report.limit == 0) report.limit = 1;
    evh_error error = {.status = EVH_OK};
    enum cli_exit end = CLI_FINE;
    do {
        if (cli_read(path, tail_collect, &report, &error)) {
            end = cli_complain(request, path, &error);
            break;
        }
        if (request->json)
            tail_json(path, &report);
        else
            tail_text(&report);
        if (report.count > 0) report.after = report.lines[report.count - 1].record.number;
        if (!request->values[TAIL_FOLLOW].is_given) break;
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    } while (!ferror(stdout));
    free(report.lines);
    return cli_finish(request, end);
}

const struct cli_command cli_tail = {
    .name = "tail",
    .summary = "Show what a flight recorder holds, of a program alive or dead.",
    .description =
        "Reads the ring that a program fills with EVH_RECORD, while it runs and after it died "
        "at\n"
        "any instruction: number, time, process and thread, text. Records that were overwritten,\n"
        "or half written when somebody was killed, are missing.",
    .arguments = {{"FILE", false, "the heap"}},
    .options = {{"name", 'r', CLI_TEXT, "ROOT", 0, "the recorder's root (log)"},
                {"lines", 'n', CLI_NUMBER, "N", 20, "show the last N records"},
                {"follow", 'f', CLI_FLAG, NULL, 0, "go on with what is recorded meanwhile"}},
    .examples = {{"everheap tail app.heap", "the last 20 records"},
                 {"everheap tail -f -n 5 app.heap", "and what comes"}},
    .run = tail_run,
};
