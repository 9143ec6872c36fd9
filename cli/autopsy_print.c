/* autopsy_print.c -- the report of `everheap autopsy`, as text and as JSON. */
#include "autopsy.h"

#include <inttypes.h>
#include <string.h>

/* ---- text ---- */

static void print_who(const struct autopsy_report *report)
{
    const evh_autopsy_info *const info = &report->info;
    if (info->is_in_use)
        printf("  in use        yes%s\n", info->heap.is_live ? "" : ", seen as of its last commit");
    else
        printf("  in use        no\n");
    if (info->writer_process) {
        printf("  opened by     process %" PRIu64 ", %s%s\n", info->writer_process,
               cli_time(info->opened_ns), info->is_in_use ? "" : "; it never closed it");
    }
    if (info->changed_ns) printf("  last commit   %s\n", cli_time(info->changed_ns));
    printf("  mapped at    ");
    for (unsigned i = 0; i < EVH_ADDRESSES && info->addresses[i]; i++)
        printf(" %#" PRIx64, info->addresses[i]);
    printf("\n");
    if (!info->damage.status) return;
    printf("  damage        ");
    cli_put_escaped(stdout, info->damage.message, strlen(info->damage.message));
    printf(" [%s]: run 'everheap check'\n", evh_status_name(info->damage.status));
}

static void print_commits(const struct autopsy_report *report)
{
    if (report->commit_count == 0) return;
    printf("\nLast commits\n");
    for (uint64_t i = 0; i < report->commit_count; i++) {
        const evh_commit_info *const commit = &report->commits[i];
        printf("  %12" PRIu64 "  %s  %s, %s\n", commit->sequence, cli_time(commit->time_ns),
               cli_plural(commit->pages, "page"), cli_size(commit->changed_bytes));
    }
}

static void print_deltas(const struct autopsy_report *report)
{
    if (!report->since && report->delta_count == 0) return;
    if (report->since)
        printf("\nSince commit %s\n", cli_count(report->since));
    else
        printf("\nSince the other heap\n");
    for (size_t i = 0; i < report->delta_count; i++) {
        const struct autopsy_delta *const delta = &report->deltas[i];
        printf("  %-24s %-24s", autopsy_root_name(report, delta->root),
               report->kinds[delta->kind].name);
        printf(" %8s made %8s freed %8s changed (%s)\n", cli_count(delta->made),
               cli_count(delta->freed), cli_count(delta->changed), cli_size(delta->changed_bytes));
    }
    if (report->delta_count == 0) printf("  nothing changed\n");
}

static void print_kinds(const struct autopsy_report *report)
{
    printf("\n%-32s %12s %14s %12s %14s\n", "Kind", "blocks", "bytes", "orphans", "bytes");
    for (size_t i = 0; i < report->kind_count; i++) {
        const struct autopsy_kind *const kind = &report->kinds[i];
        if (kind->blocks == 0) continue;
        printf("  ");
        cli_put_escaped(stdout, kind->name, strlen(kind->name));
        printf("%*s %12s %14s %12s %14s\n",
               strlen(kind->name) < 30 ? (int)(30 - strlen(kind->name)) : 0, "",
               cli_count(kind->blocks), cli_count(kind->bytes), cli_count(kind->orphans),
               cli_count(kind->orphan_bytes));
    }
    printf("\n%-32s %12s %14s  %s\n", "Root", "blocks", "bytes", "kind");
    for (size_t i = 0; i < report->root_count; i++) {
        const struct autopsy_root *const root = &report->roots[i];
        const char *const name = autopsy_root_name(report, (int64_t)i);
        printf("  ");
        cli_put_escaped(stdout, name, strlen(name));
        printf("%*s %12s %14s  %s\n", strlen(name) < 30 ? (int)(30 - strlen(name)) : 0, "",
               cli_count(root->blocks), cli_count(root->bytes), report->kinds[root->kind].name);
    }
}

static void print_lines(const struct autopsy_report *report)
{
    if (report->line_count > 0) printf("\nBelow the roots\n");
    for (size_t i = 0; i < report->line_count; i++) {
        const struct autopsy_line *const line = &report->lines[i];
        printf("  %*s", (int)(2 * line->depth), "");
        if (line->offset) printf("%#" PRIx64 "  ", line->offset);
        cli_put_escaped(stdout, line->text, strlen(line->text));
        printf("\n");
    }
    if (report->is_limited) printf("  ... more; see --depth and --limit\n");
}

static void print_orphans(const struct autopsy_report *report)
{
    const evh_autopsy_info *const info = &report->info;
    printf("\nOrphans: %s, %s, that no root reaches\n", cli_plural(info->orphans, "block"),
           cli_size(info->orphan_bytes));
    for (size_t i = 0; i < report->orphan_count; i++) {
        const struct autopsy_block *const orphan = &report->orphans[i];
        printf("  %#14" PRIx64 "  %12s  %s", orphan->offset, cli_size(orphan->size),
               report->kinds[orphan->kind].name);
        if (orphan->site[0]) {
            printf("  made at ");
            cli_put_escaped(stdout, orphan->site, strlen(orphan->site));
        }
        printf("\n");
    }
    if (info->orphans > report->orphan_count)
        printf("  ... %s more; see --limit\n", cli_count(info->orphans - report->orphan_count));
    printf("\nDangling: %s\n", cli_plural(info->dangling, "reference"));
    for (size_t i = 0; i < report->bad_count; i++) {
        const struct autopsy_bad *const bad = &report->bad[i];
        printf("  %#14" PRIx64 "  %s.", bad->offset, report->kinds[bad->kind].name);
        cli_put_escaped(stdout, bad->field, strlen(bad->field));
        printf(" = %#" PRIx64 ": %s\n", bad->value, autopsy_why(bad->why));
    }
    if (info->dangling > report->bad_count)
        printf("  ... %s more; see --limit\n", cli_count(info->dangling - report->bad_count));
}

static void print_operations(const struct autopsy_report *report)
{
    if (report->operation_count == 0) return;
    printf("\nLast operations\n");
    for (size_t i = 0; i < report->operation_count; i++) {
        const evh_debug_operation *const operation = &report->operations[i];
        printf("  %10" PRIu64 "  thread %-4u %-8s %#14" PRIx64 "  %10" PRIu64 "  ",
               operation->number, operation->thread, operation->operation, operation->address,
               operation->size);
        cli_put_escaped(stdout, operation->site, strlen(operation->site));
        printf("\n");
    }
}

void autopsy_text(const char *path, const struct autopsy_report *report)
{
    const evh_autopsy_info *const info = &report->info;
    cli_put_escaped(stdout, path, strlen(path));
    printf("\n  mode          %s\n", info->heap.is_live ? "live" : "durable");
    print_who(report);
    printf("  blocks        %s, %s; %s of known types\n", cli_plural(info->blocks, "block"),
           cli_size(info->block_bytes), cli_count(info->typed));
    print_commits(report);
    print_deltas(report);
    print_kinds(report);
    print_lines(report);
    print_orphans(report);
    print_operations(report);
}

/* ---- JSON ---- */

static void json_info(struct cli_json *json, const evh_autopsy_info *info)
{
    cli_json_bool(json, "is_live", info->heap.is_live);
    cli_json_bool(json, "is_in_use", info->is_in_use);
    cli_json_number(json, "writer_process", info->writer_process);
    cli_json_number(json, "opened_ns", info->opened_ns);
    cli_json_number(json, "changed_ns", info->changed_ns);
    cli_json_string(json, "damage", info->damage.status ? info->damage.message : "");
    cli_json_number(json, "commit_sequence", info->heap.commit_sequence);
    cli_json_number(json, "heap_bytes", info->heap.heap_bytes);
    cli_json_number(json, "blocks", info->blocks);
    cli_json_number(json, "block_bytes", info->block_bytes);
    cli_json_number(json, "reached", info->reached);
    cli_json_number(json, "reached_bytes", info->reached_bytes);
    cli_json_number(json, "orphans", info->orphans);
    cli_json_number(json, "orphan_bytes", info->orphan_bytes);
    cli_json_number(json, "internal", info->internal);
    cli_json_number(json, "typed", info->typed);
    cli_json_number(json, "dangling", info->dangling);
    cli_json_array(json, "addresses");
    for (unsigned i = 0; i < EVH_ADDRESSES && info->addresses[i]; i++)
        cli_json_number(json, NULL, info->addresses[i]);
    cli_json_close(json);
}

static void json_tables(struct cli_json *json, const struct autopsy_report *report)
{
    cli_json_array(json, "kinds");
    for (size_t i = 0; i < report->kind_count; i++) {
        const struct autopsy_kind *const kind = &report->kinds[i];
        cli_json_object(json, NULL);
        cli_json_bytes(json, "name", kind->name, strlen(kind->name));
        cli_json_number(json, "blocks", kind->blocks);
        cli_json_number(json, "bytes", kind->bytes);
        cli_json_number(json, "orphans", kind->orphans);
        cli_json_number(json, "orphan_bytes", kind->orphan_bytes);
        cli_json_close(json);
    }
    cli_json_close(json);
    cli_json_array(json, "roots");
    for (size_t i = 0; i < report->root_count; i++) {
        const struct autopsy_root *const root = &report->roots[i];
        const char *const name = autopsy_root_name(report, (int64_t)i);
        cli_json_object(json, NULL);
        cli_json_bytes(json, "name", name, strlen(name));
        cli_json_number(json, "offset", root->root.block.offset);
        cli_json_number(json, "size", root->root.size);
        cli_json_number(json, "kind", root->kind);
        cli_json_number(json, "blocks", root->blocks);
        cli_json_number(json, "bytes", root->bytes);
        cli_json_close(json);
    }
    cli_json_close(json);
    cli_json_array(json, "commits");
    for (uint64_t i = 0; i < report->commit_count; i++) {
        cli_json_object(json, NULL);
        cli_json_number(json, "sequence", report->commits[i].sequence);
        cli_json_number(json, "time_ns", report->commits[i].time_ns);
        cli_json_number(json, "pages", report->commits[i].pages);
        cli_json_number(json, "changed_bytes", report->commits[i].changed_bytes);
        cli_json_close(json);
    }
    cli_json_close(json);
}

static void json_findings(struct cli_json *json, const struct autopsy_report *report)
{
    cli_json_array(json, "orphan_list");
    for (size_t i = 0; i < report->orphan_count; i++) {
        cli_json_object(json, NULL);
        cli_json_number(json, "offset", report->orphans[i].offset);
        cli_json_number(json, "size", report->orphans[i].size);
        cli_json_number(json, "kind", report->orphans[i].kind);
        cli_json_bytes(json, "site", report->orphans[i].site, strlen(report->orphans[i].site));
        cli_json_close(json);
    }
    cli_json_close(json);
    cli_json_array(json, "dangling_list");
    for (size_t i = 0; i < report->bad_count; i++) {
        const struct autopsy_bad *const bad = &report->bad[i];
        cli_json_object(json, NULL);
        cli_json_number(json, "offset", bad->offset);
        cli_json_number(json, "kind", bad->kind);
        cli_json_bytes(json, "field", bad->field, strlen(bad->field));
        cli_json_number(json, "value", bad->value);
        cli_json_string(json, "why", autopsy_why(bad->why));
        cli_json_close(json);
    }
    cli_json_close(json);
    cli_json_number(json, "since", report->since);
    cli_json_array(json, "changes");
    for (size_t i = 0; i < report->delta_count; i++) {
        const struct autopsy_delta *const delta = &report->deltas[i];
        const char *const name = autopsy_root_name(report, delta->root);
        cli_json_object(json, NULL);
        cli_json_bytes(json, "root", name, strlen(name));
        cli_json_number(json, "kind", delta->kind);
        cli_json_number(json, "made", delta->made);
        cli_json_number(json, "freed", delta->freed);
        cli_json_number(json, "changed", delta->changed);
        cli_json_number(json, "changed_bytes", delta->changed_bytes);
        cli_json_close(json);
    }
    cli_json_close(json);
}

static void json_details(struct cli_json *json, const struct autopsy_report *report)
{
    cli_json_array(json, "tree");
    for (size_t i = 0; i < report->line_count; i++) {
        cli_json_object(json, NULL);
        cli_json_number(json, "depth", report->lines[i].depth);
        cli_json_number(json, "offset", report->lines[i].offset);
        cli_json_bytes(json, "text", report->lines[i].text, strlen(report->lines[i].text));
        cli_json_close(json);
    }
    cli_json_close(json);
    cli_json_array(json, "operations");
    for (size_t i = 0; i < report->operation_count; i++) {
        const evh_debug_operation *const operation = &report->operations[i];
        cli_json_object(json, NULL);
        cli_json_number(json, "number", operation->number);
        cli_json_bytes(json, "operation", operation->operation, strlen(operation->operation));
        cli_json_number(json, "address", operation->address);
        cli_json_number(json, "size", operation->size);
        cli_json_bytes(json, "site", operation->site, strlen(operation->site));
        cli_json_close(json);
    }
    cli_json_close(json);
    cli_json_number(json, "cell_bytes", AUTOPSY_CELL_BYTES);
    cli_json_array(json, "cells"); /* live bytes, orphan bytes, kind, age: four numbers each */
    for (size_t i = 0; i < report->cell_count; i++) {
        cli_json_number(json, NULL, report->cells[i].live_bytes);
        cli_json_number(json, NULL, report->cells[i].orphan_bytes);
        cli_json_number(json, NULL, report->cells[i].kind);
        cli_json_number(json, NULL, report->cells[i].age);
    }
    cli_json_close(json);
}

void autopsy_json(FILE *file, const char *path, const struct autopsy_report *report)
{
    struct cli_json json;
    cli_json_begin(&json, file);
    cli_json_bytes(&json, "path", path, strlen(path));
    json_info(&json, &report->info);
    json_tables(&json, report);
    json_findings(&json, report);
    json_details(&json, report);
    cli_json_end(&json);
}
