/* map.c -- `everheap map`: used and free space as a picture of characters. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { MAP_ROWS };

enum {
    MAP_COLUMNS = 64,
    MAP_ROWS_MAX = 4096,
    MAP_CELL_MIN_BYTES = 4096,
    MAP_CELL_MIN_COMPACT_BYTES = 16,
};

/*
 * Where metadata is known to lie without reading it (docs/format.md): the headers and the first
 * journal extent fill slice 0, and a segment's metadata is normally its first slice, in segment 0
 * the second one. Journal records are known from evh_log(). Other metadata (bitmap slices, the
 * unused part of the journal) looks free or unused here; the legend says so, the totals are exact.
 */
enum { MAP_SLICE_BYTES = 64 << 10, MAP_SEGMENT_BYTES = 64 << 20 };

struct map_cell {
    uint64_t live_bytes;
    uint64_t meta_bytes;
};

struct map_report {
    evh_info info;
    uint64_t rows_max;
    uint64_t cell_bytes; /* a power of two */
    size_t cell_count;
    struct map_cell *cells; /* owned */
};

/* ---- collect ---- */

/* The smallest cells that show the whole file in no more than the wanted rows. */
static void map_scale(struct map_report *report)
{
    const evh_info *const info = &report->info;
    const uint64_t end = info->file_bytes > info->heap_bytes ? info->file_bytes : info->heap_bytes;
    uint64_t cell = info->is_compact ? MAP_CELL_MIN_COMPACT_BYTES : MAP_CELL_MIN_BYTES;
    while (end / cell >= MAP_COLUMNS * report->rows_max && cell < 1ull << 62) cell *= 2;
    report->cell_bytes = cell;
    report->cell_count = (size_t)(end / cell + (end % cell != 0));
    report->cells = cli_resize(report->cells, report->cell_count, sizeof *report->cells);
    for (size_t i = 0; i < report->cell_count; i++) report->cells[i] = (struct map_cell){0};
}

/* Count [offset, offset + size) in its cells. What is outside the picture is left out. */
static void map_add(struct map_report *report, uint64_t offset, uint64_t size, bool is_meta)
{
    size_t cell = (size_t)(offset / report->cell_bytes);
    uint64_t room = report->cell_bytes - offset % report->cell_bytes;
    for (; size > 0 && cell < report->cell_count; cell++) {
        const uint64_t part = size < room ? size : room;
        if (is_meta)
            report->cells[cell].meta_bytes += part;
        else
            report->cells[cell].live_bytes += part;
        size -= part;
        room = report->cell_bytes;
    }
}

static bool map_block(const evh_block *block, void *context)
{
    map_add(context, block->ref.offset, block->size, false);
    return true;
}

static bool map_record(const evh_commit_info *commit, void *context)
{
    if (commit->offset >= MAP_SLICE_BYTES) { /* slice 0 is counted already */
        map_add(context, commit->offset, commit->record_bytes, true);
    }
    return true;
}

static void map_metadata(struct map_report *report)
{
    map_add(report, 0, 2 * MAP_SLICE_BYTES, true);
    for (uint64_t offset = MAP_SEGMENT_BYTES; offset < report->info.heap_bytes;
         offset += MAP_SEGMENT_BYTES) {
        const size_t cell = (size_t)(offset / report->cell_bytes);
        /* A cell full of live blocks: a run that began in the segment before covers this place. */
        if (report->cells[cell].live_bytes + MAP_SLICE_BYTES > report->cell_bytes &&
            report->cell_bytes >= MAP_SLICE_BYTES)
            continue;
        if (report->cells[cell].live_bytes > 0 && report->cell_bytes < MAP_SLICE_BYTES) continue;
        map_add(report, offset, MAP_SLICE_BYTES, true);
    }
}

static bool map_collect(evh_heap *heap, void *context)
{
    struct map_report *const report = context;
    if (evh_get_info(heap, &report->info)) return false;
    map_scale(report);
    if (evh_walk(heap, map_block, report)) return false;
    if (report->info.is_compact) return true;
    map_metadata(report);
    return evh_log(heap, map_record, report) == EVH_OK;
}

/* ---- print ---- */

static char map_character(const struct map_report *report, size_t cell)
{
    const struct map_cell *const counts = &report->cells[cell];
    const uint64_t start = cell * report->cell_bytes;
    if (counts->live_bytes == 0) {
        if (counts->meta_bytes > 0) return 'J';
        return start >= report->info.heap_bytes ? ' ' : '.';
    }
    const uint64_t meta = counts->meta_bytes < report->cell_bytes ? counts->meta_bytes : 0;
    const double fill = (double)counts->live_bytes / (double)(report->cell_bytes - meta);
    if (fill < 0.25) return ':';
    if (fill < 0.50) return '+';
    if (fill < 0.75) return '*';
    return fill < 0.95 ? '%' : '#';
}

/* One row of the picture; returns how many characters it has. */
static int map_row(const struct map_report *report, size_t first, char row[MAP_COLUMNS + 1])
{
    int length = 0;
    for (size_t i = first; i < report->cell_count && length < MAP_COLUMNS; i++) {
        row[length++] = map_character(report, i);
    }
    row[length] = 0;
    return length;
}

static void map_text(const char *path, const struct map_report *report)
{
    const evh_info *const info = &report->info;
    char row[MAP_COLUMNS + 1];
    cli_put_escaped(stdout, path, strlen(path));
    printf(": a character is %s, a line %s\n\n", cli_size(report->cell_bytes),
           cli_size(report->cell_bytes * MAP_COLUMNS));
    for (size_t first = 0; first < report->cell_count; first += MAP_COLUMNS) {
        map_row(report, first, row);
        const uint64_t offset = first * report->cell_bytes;
        printf("%#14llx |%-*s|\n", (unsigned long long)offset, MAP_COLUMNS, row);
    }
    printf(
        "\n  live:  ':' below 25 %%  '+' below 50 %%  '*' below 75 %%  '%%' below 95 %%  '#' full\n"
        "  '.' no live block: free, or metadata whose place is not known here\n"
        "  'J' headers, journal, metadata    ' ' beyond the heap: journal, or not used yet\n\n");
    printf("  file     %s, heap %s\n", cli_exact_size(info->file_bytes),
           cli_exact_size(info->heap_bytes));
    printf("  live     %s in %s\n", cli_exact_size(info->live_bytes),
           cli_plural(info->live_blocks, "block"));
    printf("  free     %s in %s of whole slices\n", cli_exact_size(info->free_bytes),
           cli_plural(info->free_runs, "run"));
    printf("  metadata %s\n", cli_exact_size(info->metadata_bytes));
    printf("  journal  %s\n", cli_exact_size(info->journal_bytes));
}

static void map_json(const char *path, const struct map_report *report)
{
    struct cli_json json;
    char row[MAP_COLUMNS + 1];
    cli_json_begin(&json, stdout);
    cli_json_string(&json, "path", path);
    cli_json_number(&json, "file_bytes", report->info.file_bytes);
    cli_json_number(&json, "heap_bytes", report->info.heap_bytes);
    cli_json_number(&json, "live_bytes", report->info.live_bytes);
    cli_json_number(&json, "free_bytes", report->info.free_bytes);
    cli_json_number(&json, "metadata_bytes", report->info.metadata_bytes);
    cli_json_number(&json, "journal_bytes", report->info.journal_bytes);
    cli_json_number(&json, "cell_bytes", report->cell_bytes);
    cli_json_number(&json, "columns", MAP_COLUMNS);
    cli_json_array(&json, "rows");
    for (size_t first = 0; first < report->cell_count; first += MAP_COLUMNS) {
        map_row(report, first, row);
        cli_json_string(&json, NULL, row);
    }
    cli_json_close(&json);
    cli_json_array(&json, "cell_live_bytes");
    for (size_t i = 0; i < report->cell_count; i++) {
        cli_json_number(&json, NULL, report->cells[i].live_bytes);
    }
    cli_json_close(&json);
    cli_json_end(&json);
}

static enum cli_exit map_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    struct map_report report = {.rows_max = request->values[MAP_ROWS].number};
    if (report.rows_max < 1) report.rows_max = 1;
    if (report.rows_max > MAP_ROWS_MAX) report.rows_max = MAP_ROWS_MAX;

    evh_error error;
    cli_progress_begin("reading", path);
    const evh_status status = cli_read(path, map_collect, &report, &error);
    cli_progress_end();
    if (status) {
        free(report.cells);
        return cli_complain(request, path, &error);
    }
    if (request->json)
        map_json(path, &report);
    else
        map_text(path, &report);
    free(report.cells);
    return cli_finish(request, CLI_FINE);
}

const struct cli_command cli_map = {
    .name = "map",
    .summary = "Draw used and free space as text.",
    .description = "One character stands for a piece of the file and shows how full it is with "
                   "live blocks. The\n"
                   "piece grows with the heap, so that the picture keeps to the rows wanted; the "
                   "scale and the\n"
                   "meaning of the characters are printed with it.",
    .arguments = {{"FILE", false, "the heap"}},
    .options = {{"rows", 'r', CLI_NUMBER, "N", 24, "at most N rows of 64 characters"}},
    .examples = {{"everheap map app.heap", "a picture that fits a terminal"},
                 {"everheap map --rows 200 app.heap", "a finer one"}},
    .run = map_run,
};
