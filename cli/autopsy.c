/* autopsy.c -- `everheap autopsy`: what is left of a program, read from its heap. */
#include "autopsy.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { AUTOPSY_ATTEMPTS = 5, AUTOPSY_FIELDS = 32, AUTOPSY_LINES_MAX = 100000 };

const char *autopsy_why(evh_dangling_kind why)
{
    switch (why) {
    case EVH_DANGLING_FREE: return "nothing live is there";
    case EVH_DANGLING_INSIDE: return "it leads into a block, not to its start";
    case EVH_DANGLING_TYPE: return "the block there is of another type";
    }
    return "?";
}

const char *autopsy_root_name(const struct autopsy_report *report, int64_t root)
{
    static char name[EVH_NAME_SIZE_MAX + 1];
    if (root == EVH_INTERNAL_ROOT) return "(the heap's own)";
    if (root < 0 || (uint64_t)root >= report->root_count) return "(no root)";
    const evh_root_info *const info = &report->roots[root].root;
    if (info->is_tagged)
        snprintf(name, sizeof name, "#%" PRIu64, info->tag);
    else
        snprintf(name, sizeof name, "%s", info->name);
    return name;
}

/* ---- kinds ---- */

static size_t autopsy_kind_of(struct autopsy_report *report, const char *name)
{
    for (size_t i = 0; i < report->kind_count; i++)
        if (strcmp(report->kinds[i].name, name) == 0) return i;
    report->kinds = cli_resize(report->kinds, report->kind_count + 1, sizeof *report->kinds);
    struct autopsy_kind *const kind = &report->kinds[report->kind_count];
    *kind = (struct autopsy_kind){.blocks = 0};
    snprintf(kind->name, sizeof kind->name, "%s", name);
    return report->kind_count++;
}

/* ---- all objects ---- */

static void autopsy_count_cells(struct autopsy_report *report, const evh_object *object,
                                size_t kind)
{
    uint64_t at = object->ref.offset;
    const uint64_t end = at + object->size;
    while (at < end) {
        const uint64_t index = at / AUTOPSY_CELL_BYTES;
        if (index >= report->cell_count) return;
        struct autopsy_cell *const cell = &report->cells[index];
        const uint64_t next = (index + 1) * AUTOPSY_CELL_BYTES;
        const uint64_t bytes = (next < end ? next : end) - at;
        cell->live_bytes += bytes;
        if (object->root == EVH_NO_ROOT) cell->orphan_bytes += bytes;
        /* The kind of the majority, if there is one (Boyer and Moore's vote). */
        if (cell->kind == kind) {
            cell->kind_bytes += bytes;
        } else if (cell->kind_bytes < bytes) {
            cell->kind = kind;
            cell->kind_bytes = bytes - cell->kind_bytes;
        } else {
            cell->kind_bytes -= bytes;
        }
        at = next;
    }
}

static bool autopsy_see_object(const evh_object *object, void *context)
{
    struct autopsy_report *const report = context;
    const size_t index = autopsy_kind_of(report, object->kind);
    struct autopsy_kind *const kind = &report->kinds[index];
    kind->blocks++;
    kind->bytes += object->size;
    autopsy_count_cells(report, object, index);
    if (object->root >= 0 && (uint64_t)object->root < report->root_count) {
        report->roots[object->root].blocks++;
        report->roots[object->root].bytes += object->size;
    }
    if (object->root != EVH_NO_ROOT) return true;
    kind->orphans++;
    kind->orphan_bytes += object->size;
    if (report->orphan_count >= report->request->values[AUTOPSY_LIMIT].number) return true;
    report->orphans =
        cli_resize(report->orphans, report->orphan_count + 1, sizeof *report->orphans);
    report->orphans[report->orphan_count++] =
        (struct autopsy_block){.offset = object->ref.offset, .size = object->size, .kind = index};
    return true;
}

static bool autopsy_see_bad(const evh_dangling *dangling, void *context)
{
    struct autopsy_report *const report = context;
    if (report->bad_count >= report->request->values[AUTOPSY_LIMIT].number) return false;
    report->bad = cli_resize(report->bad, report->bad_count + 1, sizeof *report->bad);
    struct autopsy_bad *const bad = &report->bad[report->bad_count++];
    *bad = (struct autopsy_bad){.offset = dangling->object.ref.offset,
                                .kind = autopsy_kind_of(report, dangling->object.kind),
                                .value = dangling->field.number,
                                .why = dangling->kind};
    snprintf(bad->field, sizeof bad->field, "%.*s", AUTOPSY_TEXT - 1, dangling->field.name);
    return true;
}

/* ---- below the roots ---- */

/* Bytes as text that may go anywhere: what is not plain ASCII is a point. */
static void autopsy_plain(char *target, size_t size, const void *bytes, size_t byte_count)
{
    const unsigned char *const from = bytes;
    size_t length = 0;
    for (; length < byte_count && length + 1 < size && from[length]; length++)
        target[length] = from[length] >= 0x20 && from[length] < 0x7f ? (char)from[length] : '.';
    target[length] = 0;
}

static struct autopsy_line *autopsy_add_line(struct autopsy_report *report, uint64_t depth)
{
    if (report->line_count >= AUTOPSY_LINES_MAX) return NULL;
    if ((report->line_count & (report->line_count - 1)) == 0)
        report->lines = cli_resize(report->lines, report->line_count ? 2 * report->line_count : 1,
                                   sizeof *report->lines);
    struct autopsy_line *const line = &report->lines[report->line_count++];
    *line = (struct autopsy_line){.depth = depth};
    return line;
}

static void autopsy_describe_value(char *text, size_t size, const evh_field_value *value)
{
    char plain[AUTOPSY_TEXT];
    switch (value->kind) {
    case EVH_FIELD_UNSIGNED: snprintf(text, size, "%" PRIu64, value->number); break;
    case EVH_FIELD_SIGNED: snprintf(text, size, "%" PRId64, (int64_t)value->number); break;
    case EVH_FIELD_BOOLEAN: snprintf(text, size, "%s", value->number ? "true" : "false"); break;
    case EVH_FIELD_REAL: snprintf(text, size, "%.17g", value->real); break;
    case EVH_FIELD_CHARS:
        autopsy_plain(plain, sizeof plain, value->bytes, value->size);
        snprintf(text, size, "\"%s\"", plain);
        break;
    case EVH_FIELD_REFERENCE:
    case EVH_FIELD_HANDLE:
    case EVH_FIELD_POINTER:
    case EVH_FIELD_DISTANCE:
        if (value->number == 0)
            snprintf(text, size, "null");
        else if (value->ref.offset)
            snprintf(text, size, "-> %#" PRIx64 "%s%s%s", value->ref.offset,
                     value->target ? " " : "", value->target ? value->target : "",
                     value->is_dangling ? " (dangling)" : "");
        else
            snprintf(text, size, "%#" PRIx64 "%s", value->number,
                     value->is_dangling ? " (dangling)" : "");
        break;
    case EVH_FIELD_BYTES:
    case EVH_FIELD_STRUCT: snprintf(text, size, "%" PRIu64 " bytes", value->size); break;
    }
}

/* An object that is shown, and those that its fields lead to. */
struct autopsy_shown {
    struct autopsy_report *report;
    uint64_t depth;
    unsigned fields;
    struct autopsy_queue {
        uint64_t *offsets; /* owned */
        uint64_t *depths;  /* owned */
        size_t count, capacity;
    } queue;
};

static void autopsy_enqueue(struct autopsy_shown *shown, uint64_t offset, uint64_t depth)
{
    struct autopsy_queue *const queue = &shown->queue;
    for (size_t i = 0; i < queue->count; i++)
        if (queue->offsets[i] == offset) return;
    if (queue->count >= shown->report->request->values[AUTOPSY_LIMIT].number) {
        shown->report->is_limited = true;
        return;
    }
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity ? 2 * queue->capacity : 64;
        queue->offsets = cli_resize(queue->offsets, queue->capacity, sizeof *queue->offsets);
        queue->depths = cli_resize(queue->depths, queue->capacity, sizeof *queue->depths);
    }
    queue->offsets[queue->count] = offset;
    queue->depths[queue->count++] = depth;
}

static bool autopsy_see_field(const evh_field_value *value, void *context)
{
    struct autopsy_shown *const shown = context;
    if (shown->fields++ >= AUTOPSY_FIELDS) {
        shown->report->is_limited = true;
        return false;
    }
    char text[AUTOPSY_TEXT * 2];
    autopsy_describe_value(text, sizeof text, value);
    struct autopsy_line *const line = autopsy_add_line(shown->report, shown->depth + 1);
    if (!line) return false;
    snprintf(line->text, sizeof line->text, "%.80s = %.100s", value->name, text);
    if (value->ref.offset && shown->depth < shown->report->request->values[AUTOPSY_DEPTH].number)
        autopsy_enqueue(shown, value->ref.offset, shown->depth + 1);
    return true;
}

static void autopsy_show_object(struct autopsy_shown *shown, uint64_t offset, uint64_t depth)
{
    struct autopsy_report *const report = shown->report;
    evh_object object;
    evh_collection collection;
    char more[AUTOPSY_TEXT] = "";
    if (!evh_autopsy_find(report->autopsy, (evh_ref){offset}, &object)) return;
    struct autopsy_line *const line = autopsy_add_line(report, depth);
    if (!line) return;
    evh_heap *const heap = evh_autopsy_heap(report->autopsy);
    if (!object.type && evh_collection_at(heap, object.ref, &collection)) {
        if (collection.kind == EVH_KIND_STR) {
            size_t size = 0;
            const evh_str string = {object.ref.offset};
            const char *const text = evh_str_text(heap, &string, &size);
            char plain[60];
            autopsy_plain(plain, sizeof plain, text ? text : "", size);
            snprintf(more, sizeof more, ": \"%s\"", plain);
        } else {
            snprintf(more, sizeof more, ": %" PRIu64 " items", collection.count);
        }
    }
    line->offset = object.ref.offset;
    snprintf(line->text, sizeof line->text, "%s, %" PRIu64 " bytes%s", object.kind, object.size,
             more);
    shown->depth = depth;
    shown->fields = 0;
    evh_autopsy_fields(report->autopsy, &object, autopsy_see_field, shown);
}

static void autopsy_show_roots(struct autopsy_report *report)
{
    for (size_t i = 0; i < report->root_count && i < report->request->values[AUTOPSY_LIMIT].number;
         i++) {
        struct autopsy_shown shown = {.report = report};
        struct autopsy_line *const line = autopsy_add_line(report, 0);
        if (!line) break;
        snprintf(line->text, sizeof line->text, "root %s", autopsy_root_name(report, (int64_t)i));
        autopsy_enqueue(&shown, report->roots[i].root.block.offset, 1);
        for (size_t k = 0; k < shown.queue.count; k++)
            autopsy_show_object(&shown, shown.queue.offsets[k], shown.queue.depths[k]);
        free(shown.queue.offsets);
        free(shown.queue.depths);
    }
}

/* ---- commits, differences, ages ---- */

static bool autopsy_see_commit(const evh_commit_info *commit, void *context)
{
    struct autopsy_report *const report = context;
    if (report->commit_count >= AUTOPSY_COMMITS)
        memmove(report->commits, report->commits + 1,
                (AUTOPSY_COMMITS - 1) * sizeof report->commits[0]);
    const uint64_t at =
        report->commit_count < AUTOPSY_COMMITS ? report->commit_count : AUTOPSY_COMMITS - 1;
    report->commits[at] = *commit;
    report->commit_count = at + 1;
    return true;
}

static bool autopsy_see_difference(const evh_difference *difference, void *context)
{
    struct autopsy_report *const report = context;
    const size_t kind = autopsy_kind_of(report, difference->object.kind);
    const int64_t root = difference->change == EVH_FREED ? EVH_NO_ROOT : difference->object.root;
    struct autopsy_delta *delta = NULL;
    for (size_t i = 0; i < report->delta_count && !delta; i++)
        if (report->deltas[i].root == root && report->deltas[i].kind == kind)
            delta = &report->deltas[i];
    if (!delta) {
        report->deltas =
            cli_resize(report->deltas, report->delta_count + 1, sizeof *report->deltas);
        delta = &report->deltas[report->delta_count++];
        *delta = (struct autopsy_delta){.root = root, .kind = kind};
    }
    delta->made += difference->change == EVH_MADE;
    delta->freed += difference->change == EVH_FREED;
    delta->changed += difference->change == EVH_CHANGED;
    delta->changed_bytes += difference->changed_bytes;
    return true;
}

static bool autopsy_see_age(const evh_difference *difference, void *context)
{
    struct autopsy_report *const report = context;
    const uint64_t offset = difference->object.ref.offset;
    uint64_t first = offset / AUTOPSY_CELL_BYTES;
    uint64_t last = (offset + difference->object.size - 1) / AUTOPSY_CELL_BYTES;
    if (difference->change == EVH_CHANGED)
        first = last = (offset + difference->changed_offset) / AUTOPSY_CELL_BYTES;
    for (; first <= last && first < report->cell_count; first++)
        if (report->cells[first].age > report->collecting)
            report->cells[first].age = (unsigned)report->collecting;
    return true;
}

/* Compare with the commit before the last, or the one or the file that was asked for; and colour
 * the map by the commits before. */
static void autopsy_compare_commits(const char *path, struct autopsy_report *report)
{
    const struct cli_value since = report->request->values[AUTOPSY_SINCE];
    const struct cli_value with = report->request->values[AUTOPSY_WITH];
    const uint64_t newest = report->info.heap.commit_sequence;
    for (unsigned age = 0; age < AUTOPSY_AGES; age++) {
        const uint64_t back = 1ull << 2 * age; /* 1, 4, 16, 64 commits ago */
        evh_autopsy_options options = {.commit_sequence = newest > back ? newest - back : 0};
        const bool is_asked = age == 0 && (since.is_given || with.is_given);
        if (is_asked) options.commit_sequence = with.is_given ? 0 : since.number;
        if (!options.commit_sequence && !(is_asked && with.is_given)) break;
        const char *const other = is_asked && with.is_given ? with.text : path;
        evh_autopsy *const older = evh_autopsy_open(other, &options);
        if (!older) {
            if (is_asked)
                fprintf(stderr, "everheap autopsy: cannot compare: %s\n",
                        evh_last_error()->message);
            break; /* older ones are not remembered either */
        }
        if (age == 0) {
            report->since = options.commit_sequence;
            evh_autopsy_compare(older, report->autopsy, autopsy_see_difference, report);
        }
        report->collecting = age;
        evh_autopsy_compare(older, report->autopsy, autopsy_see_age, report);
        evh_autopsy_close(older);
    }
}

/* ---- the log of operations ---- */

static bool autopsy_see_operation(const evh_debug_operation *operation, void *context)
{
    struct autopsy_report *const report = context;
    const uint64_t keep = report->request->values[AUTOPSY_LIMIT].number;
    const evh_ref ref = evh_autopsy_relocate(report->autopsy, operation->address);
    for (size_t i = 0; ref.offset && i < report->orphan_count; i++)
        if (report->orphans[i].offset == ref.offset && strstr(operation->operation, "free") == NULL)
            snprintf(report->orphans[i].site, sizeof report->orphans[i].site, "%s",
                     operation->site);
    if (keep == 0) return true;
    if (report->operation_count < keep) {
        report->operations =
            cli_resize(report->operations, report->operation_count + 1, sizeof *report->operations);
        report->operations[report->operation_count++] = *operation;
        return true;
    }
    memmove(report->operations, report->operations + 1,
            (report->operation_count - 1) * sizeof *report->operations);
    report->operations[report->operation_count - 1] = *operation;
    return true;
}

static void autopsy_read_log(struct autopsy_report *report)
{
    const struct cli_value log = report->request->values[AUTOPSY_LOG];
    if (!log.is_given) return;
    if (evh_debug_log(log.text, autopsy_see_operation, report))
        fprintf(stderr, "everheap autopsy: %s\n", evh_last_error()->message);
}

/* ---- the command ---- */

static void autopsy_clear(struct autopsy_report *report)
{
    free(report->kinds);
    free(report->roots);
    free(report->orphans);
    free(report->bad);
    free(report->lines);
    free(report->deltas);
    free(report->cells);
    free(report->operations);
    *report = (struct autopsy_report){.request = report->request};
}

static void autopsy_collect(const char *path, struct autopsy_report *report)
{
    evh_autopsy *const autopsy = report->autopsy;
    evh_autopsy_describe(autopsy, &report->info);
    const evh_root_info *root;
    for (int64_t i = 0; (root = evh_autopsy_root(autopsy, i)) != NULL; i++) {
        evh_object object;
        const bool is_found = evh_autopsy_find(autopsy, root->block, &object);
        report->roots = cli_resize(report->roots, report->root_count + 1, sizeof *report->roots);
        report->roots[report->root_count++] = (struct autopsy_root){
            .root = *root, .kind = autopsy_kind_of(report, is_found ? object.kind : "lost")};
    }
    report->cell_count = (size_t)(report->info.heap.heap_bytes / AUTOPSY_CELL_BYTES);
    report->cells = cli_resize(NULL, report->cell_count, sizeof *report->cells);
    for (size_t i = 0; i < report->cell_count; i++)
        report->cells[i] = (struct autopsy_cell){.age = AUTOPSY_AGES};
    evh_autopsy_each(autopsy, autopsy_see_object, report);
    evh_autopsy_dangling(autopsy, autopsy_see_bad, report);
    (void)evh_log(evh_autopsy_heap(autopsy), autopsy_see_commit, report);
    autopsy_show_roots(report);
    autopsy_compare_commits(path, report);
    autopsy_read_log(report);
}

/* A view of a heap in use may be overtaken by its writer: then all begins anew. */
static bool autopsy_examine(const char *path, struct autopsy_report *report, evh_error *error)
{
    for (int attempt = 0; attempt < AUTOPSY_ATTEMPTS; attempt++) {
        autopsy_clear(report);
        report->autopsy = evh_autopsy_open(path, NULL);
        if (!report->autopsy) {
            *error = *evh_last_error();
            return false;
        }
        autopsy_collect(path, report);
        const bool is_valid = evh_view_valid(evh_autopsy_heap(report->autopsy));
        evh_autopsy_close(report->autopsy);
        report->autopsy = NULL;
        if (is_valid) return true;
    }
    *error = (evh_error){.status = EVH_STALE, .offset = UINT64_MAX};
    snprintf(error->message, sizeof error->message, "its writer overtook the reader %d times",
             AUTOPSY_ATTEMPTS);
    return false;
}

static bool autopsy_write_html(const char *name, const char *path,
                               const struct autopsy_report *report)
{
    FILE *const file = strcmp(name, "-") == 0 ? stdout : fopen(name, "w");
    if (!file) {
        perror(name);
        return false;
    }
    autopsy_html(file, path, report);
    const bool is_written = !ferror(file);
    if (file != stdout && fclose(file) != 0) return false;
    return is_written;
}

static enum cli_exit autopsy_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    struct autopsy_report report = {.request = request};
    evh_error error = {.status = EVH_OK};
    cli_progress_begin("reading", path);
    const bool is_done = autopsy_examine(path, &report, &error);
    cli_progress_end();
    if (!is_done) {
        autopsy_clear(&report);
        return cli_complain(request, path, &error);
    }
    const struct cli_value html = request->values[AUTOPSY_HTML];
    bool is_written = true;
    if (html.is_given) is_written = autopsy_write_html(html.text, path, &report);
    if (request->json)
        autopsy_json(stdout, path, &report);
    else if (!html.is_given)
        autopsy_text(path, &report);
    const bool has_findings =
        report.info.damage.status || report.info.orphans || report.info.dangling;
    autopsy_clear(&report);
    return cli_finish(request, !is_written ? CLI_FAILED : has_findings ? CLI_FINDINGS : CLI_FINE);
}

const struct cli_command cli_autopsy = {
    .name = "autopsy",
    .summary = "Tell what a program left in its heap: objects, leaks, changes.",
    .description =
        "Reads a heap of any kind, in use or left by a dead process, without changing it: who had\n"
        "it open and when, the last commits, what the last of them changed, what lies below the\n"
        "roots (with types, if the program registered them), blocks that nothing reaches, and\n"
        "references that lead nowhere. Untyped blocks are followed by every word that may be a\n"
        "reference, so that an orphan is one; pointers of dead processes are followed through\n"
        "every address that the heap had. Orphans and dangling references are findings.",
    .arguments = {{"FILE", false, "the heap"}},
    .options = {{"depth", 'd', CLI_NUMBER, "N", 2, "follow references N steps below a root"},
                {"limit", 'n', CLI_NUMBER, "N", 20, "list at most N of each kind"},
                {"since", 's', CLI_NUMBER, "COMMIT", 0, "compare with this commit"},
                {"with", 'w', CLI_TEXT, "FILE", 0, "compare with this heap instead"},
                {"log", 'l', CLI_TEXT, "FILE", 0, "the operations that EVERHEAP_DEBUG_LOG kept"},
                {"html", 0, CLI_TEXT, "FILE", 0, "write a page with a map to explore (-: output)"}},
    .examples = {{"everheap autopsy app.heap", "what it left"},
                 {"everheap autopsy --html app.html app.heap", "the same to look around in"},
                 {"everheap autopsy --with old.heap app.heap", "what changed since a copy"}},
    .run = autopsy_run,
};
