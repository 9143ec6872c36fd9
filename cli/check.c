/* check.c -- `everheap check`: verify everything that is written, list what is wrong. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { CHECK_LIMIT };

struct check_finding {
    evh_status status;
    uint64_t offset;
    char object[32];
    char message[sizeof((evh_error *)0)->message];
};

struct check_report {
    struct check_finding *findings; /* owned: the first `kept_count` of `count` */
    size_t kept_count;
    uint64_t count;
    uint64_t limit;
    evh_info info; /* zero if the heap did not open */
};

static void check_add(struct check_report *report, evh_status status, uint64_t offset,
                      const char *object, const char *message)
{
    report->count++;
    if (report->kept_count >= report->limit) return;
    /* Grow at powers of two: findings are few, or the file is hopeless and the limit ends it. */
    if ((report->kept_count & (report->kept_count - 1)) == 0) {
        const size_t capacity = report->kept_count ? 2 * report->kept_count : 1;
        report->findings = cli_resize(report->findings, capacity, sizeof *report->findings);
    }
    struct check_finding *const finding = &report->findings[report->kept_count++];
    *finding = (struct check_finding){.status = status, .offset = offset};
    snprintf(finding->object, sizeof finding->object, "%s", object);
    snprintf(finding->message, sizeof finding->message, "%s", message);
}

static bool check_found(const evh_finding *finding, void *context)
{
    check_add(context, finding->status, finding->offset, finding->object, finding->message);
    return true;
}

/* Damage of the file, in contrast to a check that could not be made. */
static bool is_damage(evh_status status)
{
    return status == EVH_CORRUPT || status == EVH_TRUNCATED;
}

static bool check_collect(evh_heap *heap, void *context)
{
    struct check_report *const report = context;
    report->count = 0;
    report->kept_count = 0;
    free(report->findings);
    report->findings = NULL;

    const evh_status status = evh_check(heap, check_found, report);
    const evh_error *const error = evh_last_error();
    if (status && report->count == 0) {
        if (!is_damage(status)) return false;
        check_add(report, status, error->offset, "heap", error->message);
    }
    if (evh_get_info(heap, &report->info)) report->info = (evh_info){0}; /* damaged: not counted */
    return true;
}

static void check_text(const char *path, const struct check_report *report)
{
    for (size_t i = 0; i < report->kept_count; i++) {
        const struct check_finding *const finding = &report->findings[i];
        if (finding->offset == UINT64_MAX)
            printf("%14s  ", "-");
        else
            printf("%#14llx  ", (unsigned long long)finding->offset);
        cli_put_escaped(stdout, finding->object, strlen(finding->object));
        printf(": ");
        cli_put_escaped(stdout, finding->message, strlen(finding->message));
        printf(" [%s]\n", evh_status_name(finding->status));
    }
    if (report->count > report->kept_count) {
        printf("%14s  %s more not shown; see --limit\n", "...",
               cli_count(report->count - report->kept_count));
    }
    cli_put_escaped(stdout, path, strlen(path));
    if (report->count > 0)
        printf(": %s\n", cli_plural(report->count, "finding"));
    else
        printf(": clean (%s, %s, commit %s)\n", cli_plural(report->info.live_blocks, "block"),
               cli_size(report->info.heap_bytes), cli_count(report->info.commit_sequence));
}

static void check_json(const char *path, const struct check_report *report)
{
    struct cli_json json;
    cli_json_begin(&json, stdout);
    cli_json_string(&json, "path", path);
    cli_json_bool(&json, "is_clean", report->count == 0);
    cli_json_number(&json, "finding_count", report->count);
    cli_json_number(&json, "commit_sequence", report->info.commit_sequence);
    cli_json_number(&json, "live_blocks", report->info.live_blocks);
    cli_json_number(&json, "heap_bytes", report->info.heap_bytes);
    cli_json_array(&json, "findings");
    for (size_t i = 0; i < report->kept_count; i++) {
        const struct check_finding *const finding = &report->findings[i];
        cli_json_object(&json, NULL);
        cli_json_string(&json, "status", evh_status_name(finding->status));
        if (finding->offset != UINT64_MAX) cli_json_number(&json, "offset", finding->offset);
        cli_json_string(&json, "object", finding->object);
        cli_json_string(&json, "message", finding->message);
        cli_json_close(&json);
    }
    cli_json_close(&json);
    cli_json_end(&json);
}

static enum cli_exit check_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    struct check_report report = {.limit = request->values[CHECK_LIMIT].number};
    evh_error error;
    cli_progress_begin("checking", path);
    const evh_status status = cli_read(path, check_collect, &report, &error);
    cli_progress_end();

    /* A heap that is too damaged to be opened is a finding too. */
    if (is_damage(status))
        check_add(&report, status, error.offset, "heap", error.message);
    else if (status)
        return cli_complain(request, path, &error);

    if (request->json)
        check_json(path, &report);
    else
        check_text(path, &report);
    const enum cli_exit result = report.count > 0 ? CLI_FINDINGS : CLI_FINE;
    free(report.findings);
    return cli_finish(request, result);
}

const struct cli_command cli_check = {
    .name = "check",
    .summary = "Verify a whole heap and list every damage found.",
    .description =
        "Verifies headers, journal, page checksums, descriptors, bitmaps and roots of the newest\n"
        "commit. Each finding is a line with its offset in the file, the object, and what is "
        "wrong.\n"
        "Reads every committed page once. A file that is no heap at all is an error, not a "
        "finding.",
    .arguments = {{"FILE", false, "the heap"}},
    .options = {{"limit", 'n', CLI_NUMBER, "N", 1000, "list at most N findings; all are counted"}},
    .examples = {{"everheap check app.heap", "exit status 0: clean, 1: damaged"},
                 {"everheap check --json app.heap", "the findings for a program"}},
    .run = check_run,
};
