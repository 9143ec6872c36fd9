/* trim.c -- `everheap trim`: give a heap's unused space back to the file system. */
#include "cli.h"

#include <string.h>

struct trim_report {
    uint64_t freed_bytes;
    uint64_t file_bytes_before;
    uint64_t file_bytes_after;
    uint64_t free_bytes; /* within the heap, holes included */
};

static bool trim_heap(evh_heap *heap, struct trim_report *report)
{
    evh_info info;
    if (evh_get_info(heap, &info)) return false;
    report->file_bytes_before = info.file_bytes;
    if (evh_trim(heap, &report->freed_bytes)) return false;
    if (evh_get_info(heap, &info)) return false;
    report->file_bytes_after = info.file_bytes;
    report->free_bytes = info.free_bytes;
    return true;
}

static void trim_text(const char *path, const struct trim_report *report)
{
    cli_put_escaped(stdout, path, strlen(path));
    printf(": %s given back", cli_exact_size(report->freed_bytes));
    if (report->file_bytes_after != report->file_bytes_before) {
        printf("; the file was %s and is %s", cli_size(report->file_bytes_before),
               cli_size(report->file_bytes_after));
    }
    printf("\n");
}

static void trim_json(const char *path, const struct trim_report *report)
{
    struct cli_json json;
    cli_json_begin(&json, stdout);
    cli_json_string(&json, "path", path);
    cli_json_number(&json, "freed_bytes", report->freed_bytes);
    cli_json_number(&json, "file_bytes_before", report->file_bytes_before);
    cli_json_number(&json, "file_bytes_after", report->file_bytes_after);
    cli_json_number(&json, "free_bytes", report->free_bytes);
    cli_json_end(&json);
}

static enum cli_exit trim_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    const evh_options options = {.must_exist = true, .no_thread = true};
    evh_heap *const heap = evh_open(path, &options);
    if (!heap) return cli_complain(request, path, evh_last_error());

    struct trim_report report = {0};
    if (!trim_heap(heap, &report)) {
        const evh_error error = *evh_last_error(); /* closing may fail too and hide it */
        evh_close(heap);
        return cli_complain(request, path, &error);
    }
    if (evh_close(heap)) return cli_complain(request, path, evh_last_error());
    if (request->json)
        trim_json(path, &report);
    else
        trim_text(path, &report);
    return cli_finish(request, CLI_FINE);
}

const struct cli_command cli_trim = {
    .name = "trim",
    .summary = "Give empty space back to the file system.",
    .description = "Opens the heap for writing, which recovers it after a crash, and gives back "
                   "what is free in\n"
                   "pieces of 64 KiB, and the unused end of the file. What the heap holds does "
                   "not change.\n"
                   "The one command that writes: it fails while another process has the heap open "
                   "for writing.",
    .arguments = {{"FILE", false, "the heap"}},
    .examples = {{"everheap trim app.heap", "says how much was given back"}},
    .run = trim_run,
};
