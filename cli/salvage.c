/* salvage.c -- `everheap salvage` and `everheap repair`: out of a damaged heap, and in place. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { SALVAGE_LIMIT };
enum { REPAIR_WRITE };

struct salvage_line {
    evh_salvage_kind kind;
    uint64_t offset, size;
    char message[256];
};

struct salvage_report {
    struct salvage_line *lines; /* owned: the first `line_count` of `count` */
    size_t line_count;
    uint64_t count, limit;
};

static const char *salvage_kind(evh_salvage_kind kind)
{
    switch (kind) {
    case EVH_SALVAGE_FOUND: return "found";
    case EVH_SALVAGE_GUESSED: return "guessed";
    case EVH_SALVAGE_LOST: return "lost";
    case EVH_SALVAGE_WROTE: return "wrote";
    }
    return "?";
}

static bool salvage_add(const evh_salvage_note *note, void *context)
{
    struct salvage_report *const report = context;
    report->count++;
    if (report->line_count >= report->limit) return true;
    if ((report->line_count & (report->line_count - 1)) == 0)
        report->lines = cli_resize(report->lines, report->line_count ? 2 * report->line_count : 1,
                                   sizeof *report->lines);
    struct salvage_line *const line = &report->lines[report->line_count++];
    *line = (struct salvage_line){.kind = note->kind, .offset = note->offset, .size = note->size};
    snprintf(line->message, sizeof line->message, "%s", note->message);
    return true;
}

static void salvage_print_lines(const struct salvage_report *report)
{
    for (size_t i = 0; i < report->line_count; i++) {
        const struct salvage_line *const line = &report->lines[i];
        if (line->offset == UINT64_MAX)
            printf("%14s", "-");
        else
            printf("%#14llx", (unsigned long long)line->offset);
        printf("  %-8s ", salvage_kind(line->kind));
        cli_put_escaped(stdout, line->message, strlen(line->message));
        if (line->size) printf(" (%s)", cli_size(line->size));
        printf("\n");
    }
    if (report->count > report->line_count)
        printf("%14s  %s more not shown; see --limit\n", "...",
               cli_count(report->count - report->line_count));
}

static void salvage_json_lines(struct cli_json *json, const struct salvage_report *report)
{
    cli_json_number(json, "note_count", report->count);
    cli_json_array(json, "notes");
    for (size_t i = 0; i < report->line_count; i++) {
        const struct salvage_line *const line = &report->lines[i];
        cli_json_object(json, NULL);
        cli_json_string(json, "kind", salvage_kind(line->kind));
        if (line->offset != UINT64_MAX) cli_json_number(json, "offset", line->offset);
        cli_json_number(json, "size", line->size);
        cli_json_bytes(json, "message", line->message, strlen(line->message));
        cli_json_close(json);
    }
    cli_json_close(json);
}

static void salvage_text(const char *path, const struct salvage_report *report,
                         const evh_salvage_result *result)
{
    salvage_print_lines(report);
    cli_put_escaped(stdout, path, strlen(path));
    printf("\n  pages      %s, %s damaged, %s without a checksum to go by\n",
           cli_count(result->pages), cli_count(result->bad_pages),
           cli_count(result->unverified_pages));
    printf("  saved      %s, %s", cli_plural(result->blocks, "block"),
           cli_size(result->block_bytes));
    if (result->guessed_blocks) printf(", %s by their looks", cli_count(result->guessed_blocks));
    printf("\n  lost       %s, %s; %s have holes of zeroes\n",
           cli_plural(result->lost_blocks, "block"), cli_size(result->lost_bytes),
           cli_count(result->cut_blocks));
    printf("  lost       %s, %s; %s set to null\n", cli_plural(result->lost_roots, "root"),
           cli_plural(result->lost_commits, "commit"),
           cli_plural(result->cleared_refs, "reference"));
    if (result->documents)
        printf("  documents  %s, %s written as text, %s lost\n", cli_count(result->documents),
               cli_plural(result->document_values, "value"), cli_count(result->lost_values));
    printf("  %s\n", result->is_lossless ? "nothing was lost" : "something was lost");
}

static void salvage_json(const char *path, const struct salvage_report *report,
                         const evh_salvage_result *result)
{
    struct cli_json json;
    cli_json_begin(&json, stdout);
    cli_json_bytes(&json, "path", path, strlen(path));
    cli_json_bool(&json, "is_lossless", result->is_lossless);
    cli_json_number(&json, "pages", result->pages);
    cli_json_number(&json, "bad_pages", result->bad_pages);
    cli_json_number(&json, "unverified_pages", result->unverified_pages);
    cli_json_number(&json, "blocks", result->blocks);
    cli_json_number(&json, "block_bytes", result->block_bytes);
    cli_json_number(&json, "lost_blocks", result->lost_blocks);
    cli_json_number(&json, "lost_bytes", result->lost_bytes);
    cli_json_number(&json, "cut_blocks", result->cut_blocks);
    cli_json_number(&json, "guessed_blocks", result->guessed_blocks);
    cli_json_number(&json, "lost_roots", result->lost_roots);
    cli_json_number(&json, "lost_commits", result->lost_commits);
    cli_json_number(&json, "cleared_refs", result->cleared_refs);
    cli_json_number(&json, "documents", result->documents);
    cli_json_number(&json, "document_values", result->document_values);
    cli_json_number(&json, "lost_values", result->lost_values);
    salvage_json_lines(&json, report);
    cli_json_end(&json);
}

static enum cli_exit salvage_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    struct salvage_report report = {.limit = request->values[SALVAGE_LIMIT].number};
    evh_salvage_result result;
    cli_progress_begin("salvaging", path);
    const evh_status status =
        evh_salvage(path, request->arguments[1], salvage_add, &report, &result);
    cli_progress_end();
    enum cli_exit end = CLI_FAILED;
    if (status) {
        cli_complain(request, path, evh_last_error());
    } else {
        end = result.is_lossless ? CLI_FINE : CLI_FINDINGS;
        if (request->json)
            salvage_json(path, &report, &result);
        else
            salvage_text(path, &report, &result);
    }
    free(report.lines);
    return cli_finish(request, end);
}

const struct cli_command cli_salvage = {
    .name = "salvage",
    .summary = "Save what can be saved of a damaged heap, as a new one.",
    .description =
        "Reads IN, which is not changed, and writes a sound heap to OUT, which must not exist: "
        "all\n"
        "that lies on undamaged pages, at the same offsets, so that references stay right. "
        "Damaged\n"
        "metadata is made up from types and references; references of typed blocks to what is "
        "lost\n"
        "become null. Documents that are damaged are written to OUT.NAME.json. Each decision is a\n"
        "line. Exit status: 0 nothing was lost, 1 something was, 2 nothing could be saved.",
    .arguments = {{"FILE", false, "the damaged heap"}, {"OUT", false, "the new heap"}},
    .options = {{"limit", 'n', CLI_NUMBER, "N", 100, "print at most N decisions"}},
    .examples = {{"everheap salvage broken.heap saved.heap", "save what can be saved"},
                 {"everheap salvage --json broken.heap saved.heap", "the report for a program"}},
    .run = salvage_run,
};

static enum cli_exit repair_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    const bool write = request->values[REPAIR_WRITE].is_given;
    struct salvage_report report = {.limit = 1000};
    uint64_t count = 0;
    const evh_status status = evh_repair(path, write, salvage_add, &report, &count);
    enum cli_exit end = CLI_FAILED;
    if (status) {
        cli_complain(request, path, evh_last_error());
    } else if (request->json) {
        struct cli_json json;
        cli_json_begin(&json, stdout);
        cli_json_bytes(&json, "path", path, strlen(path));
        cli_json_bool(&json, "is_written", write);
        salvage_json_lines(&json, &report);
        cli_json_end(&json);
    } else {
        salvage_print_lines(&report);
        cli_put_escaped(stdout, path, strlen(path));
        if (count == 0)
            printf(": nothing to repair\n");
        else
            printf(": %s%s\n", cli_plural(count, "repair"),
                   write ? " made" : " to make; --write makes them");
    }
    if (!status) end = count && !write ? CLI_FINDINGS : CLI_FINE;
    free(report.lines);
    return cli_finish(request, end);
}

const struct cli_command cli_repair = {
    .name = "repair",
    .summary = "Mend in place what needs no guess; only tell, unless told.",
    .description =
        "A header slot that is damaged beside a good one, a status page that is none, a FILE.live\n"
        "that nobody has open: the heap itself proves what belongs there. Anything else is for\n"
        "'everheap salvage'. Without --write it says what it would do, and changes nothing.",
    .arguments = {{"FILE", false, "the heap"}},
    .options = {{"write", 'w', CLI_FLAG, NULL, 0, "do it"}},
    .examples = {{"everheap repair app.heap", "what there is to mend"},
                 {"everheap repair --write app.heap", "mend it"}},
    .run = repair_run,
};
