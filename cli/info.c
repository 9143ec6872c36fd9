/* info.c -- `everheap info`: what kind of heap this is, how large, how full. */
#include "cli.h"

#include <string.h>

static bool info_collect(evh_heap *heap, void *report)
{
    return evh_get_info(heap, report) == EVH_OK;
}

static const char *detect_name(evh_detect detect)
{
    static const char *const names[] = {
        [EVH_DETECT_AUTO] = "none",       [EVH_DETECT_WATCH] = "watch",
        [EVH_DETECT_SCAN] = "scan",       [EVH_DETECT_PAGEMAP] = "pagemap",
        [EVH_DETECT_PROTECT] = "protect", [EVH_DETECT_COMPARE] = "compare",
    };
    return (unsigned)detect < sizeof names / sizeof names[0] ? names[detect] : "?";
}

/* The uuid in its usual form, 8-4-4-4-12. */
static void uuid_format(const unsigned char uuid[16], char text[37])
{
    size_t length = 0;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text[length++] = '-';
        length += (size_t)snprintf(text + length, 37 - length, "%02x", uuid[i]);
    }
}

static void info_text_commits(const evh_info *info)
{
    printf("  mode          durable\n");
    if (info->writer_process) {
        printf("  writer        process %llu\n", (unsigned long long)info->writer_process);
    } else {
        printf("  writer        nobody\n");
    }
    printf("  last commit   %s", cli_count(info->commit_sequence));
    if (info->checkpoint_sequence == info->commit_sequence)
        printf(", all at home\n");
    else
        printf(", up to %s at home\n", cli_count(info->checkpoint_sequence));
}

static void info_text(const char *path, const evh_info *info)
{
    char uuid[37];
    uuid_format(info->uuid, uuid);
    cli_put_escaped(stdout, path, strlen(path));
    printf("\n  uuid          %s\n", uuid);
    printf("  format        version %u%s\n", info->format_version,
           info->is_compact ? ", compact" : "");
    if (info->is_live)
        printf("  mode          live, used by %s process%s\n", cli_count(info->processes),
               info->processes == 1 ? "" : "es");
    else
        info_text_commits(info);
    printf("  file          %s\n", cli_exact_size(info->file_bytes));
    printf("  heap          %s", cli_exact_size(info->heap_bytes));
    printf(", at most %s\n", cli_size(info->size_max_bytes));
    printf("  live          %s, %s\n", cli_plural(info->live_blocks, "block"),
           cli_exact_size(info->live_bytes));
    printf("  free          %s", cli_exact_size(info->free_bytes));
    printf(" in %s, the longest %s\n", cli_plural(info->free_runs, "run"),
           cli_size(info->largest_free_bytes));
    printf("  metadata      %s\n", cli_exact_size(info->metadata_bytes));
    if (!info->is_live) {
        printf("  journal       %s", cli_exact_size(info->journal_bytes));
        printf(", %s waiting for a checkpoint\n", cli_size(info->journal_used_bytes));
    }
    printf("  roots         %s\n", cli_count(info->roots));
    if (!info->is_live) printf("  detection     %s\n", detect_name(info->detect));
}

static void info_json(const char *path, const evh_info *info)
{
    char uuid[37];
    uuid_format(info->uuid, uuid);
    struct cli_json json;
    cli_json_begin(&json, stdout);
    cli_json_string(&json, "path", path);
    cli_json_string(&json, "uuid", uuid);
    cli_json_number(&json, "format_version", info->format_version);
    cli_json_bool(&json, "is_compact", info->is_compact);
    cli_json_bool(&json, "is_live", info->is_live);
    cli_json_number(&json, "processes", info->processes);
    cli_json_number(&json, "writer_process", info->writer_process);
    cli_json_number(&json, "commit_sequence", info->commit_sequence);
    cli_json_number(&json, "checkpoint_sequence", info->checkpoint_sequence);
    cli_json_number(&json, "file_bytes", info->file_bytes);
    cli_json_number(&json, "heap_bytes", info->heap_bytes);
    cli_json_number(&json, "size_max_bytes", info->size_max_bytes);
    cli_json_number(&json, "live_blocks", info->live_blocks);
    cli_json_number(&json, "live_bytes", info->live_bytes);
    cli_json_number(&json, "free_bytes", info->free_bytes);
    cli_json_number(&json, "free_runs", info->free_runs);
    cli_json_number(&json, "largest_free_bytes", info->largest_free_bytes);
    cli_json_number(&json, "metadata_bytes", info->metadata_bytes);
    cli_json_number(&json, "journal_bytes", info->journal_bytes);
    cli_json_number(&json, "journal_used_bytes", info->journal_used_bytes);
    cli_json_number(&json, "roots", info->roots);
    cli_json_string(&json, "detect", detect_name(info->detect));
    cli_json_end(&json);
}

static enum cli_exit info_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    evh_info info;
    evh_error error;
    if (cli_read(path, info_collect, &info, &error)) return cli_complain(request, path, &error);
    if (request->json)
        info_json(path, &info);
    else
        info_text(path, &info);
    return cli_finish(request, CLI_FINE);
}

const struct cli_command cli_info = {
    .name = "info",
    .summary = "Show what a heap is: sizes, blocks, commits, who writes to it.",
    .description =
        "Reads the headers and counts blocks and free space in the metadata; data is not read.\n"
        "Sizes are shown rounded and exact.",
    .arguments = {{"FILE", false, "the heap"}},
    .examples = {{"everheap info app.heap", "all there is to know at a glance"},
                 {"everheap info --json app.heap", "the same for a program"}},
    .run = info_run,
};
