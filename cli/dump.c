/* dump.c -- `everheap dump`: roots, blocks by size, and what a block holds and refers to. */
#include "dump.h"

#include <stdlib.h>
#include <string.h>

bool dump_wants_content(const struct cli_request *request)
{
    return request->arguments[1] || request->values[DUMP_TAG].is_given ||
           request->values[DUMP_AT].is_given;
}

const struct dump_block *dump_find(const struct dump_report *report, uint64_t offset)
{
    size_t first = 0;
    size_t end = report->block_count;
    while (first < end) {
        const size_t middle = first + (end - first) / 2;
        if (report->blocks[middle].offset == offset) return &report->blocks[middle];
        if (report->blocks[middle].offset < offset)
            first = middle + 1;
        else
            end = middle;
    }
    return NULL;
}

/* Room for one more item: `items`, moved if need be. */
static void *dump_grow(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) return items;
    *capacity = *capacity ? 2 * *capacity : 64;
    return cli_resize(items, *capacity, size);
}

/* ---- all blocks ---- */

static size_t class_index(uint64_t size, uint64_t *size_max)
{
    *size_max = size;
    if (size <= DUMP_EXACT_MAX) return (size_t)size;
    const unsigned bits = 64u - (unsigned)__builtin_clzll(size - 1); /* size <= 1 << bits */
    *size_max = bits < 64 ? 1ull << bits : UINT64_MAX;
    return DUMP_EXACT_MAX + bits;
}

static bool dump_add_block(const evh_block *block, void *context)
{
    struct dump_report *const report = context;
    report->blocks = dump_grow(report->blocks, report->block_count, &report->block_capacity,
                               sizeof *report->blocks);
    report->blocks[report->block_count++] =
        (struct dump_block){block->ref.offset, block->size, block->type};
    report->live_bytes += block->size;

    uint64_t size_max;
    struct dump_class *const class = &report->classes[class_index(block->size, &size_max)];
    class->size_max = size_max;
    class->count++;
    class->bytes += block->size;
    return true;
}

static void dump_collect_roots(evh_heap *heap, struct dump_report *report)
{
    evh_root_info root = {0};
    while (evh_root_next(heap, &root)) {
        report->roots = dump_grow(report->roots, report->root_count, &report->root_capacity,
                                  sizeof *report->roots);
        report->roots[report->root_count++] = root;
    }
}

/* ---- the content of blocks ---- */

static void dump_add_node(evh_heap *heap, struct dump_report *report,
                          const struct dump_block *block, uint64_t depth)
{
    report->nodes =
        dump_grow(report->nodes, report->node_count, &report->node_capacity, sizeof *report->nodes);
    struct dump_node *const node = &report->nodes[report->node_count++];
    const uint64_t bytes_max = report->request->values[DUMP_BYTES].number;
    *node = (struct dump_node){.offset = block->offset, .size = block->size, .depth = depth};
    node->block_index = (size_t)(block - report->blocks);
    node->data_bytes = (size_t)(block->size < bytes_max ? block->size : bytes_max);
    node->data = cli_resize(NULL, node->data_bytes, 1);
    memcpy(node->data, evh_at(heap, (evh_ref){block->offset}), node->data_bytes);
}

/* Append the blocks that words of `node` name and that are not there yet. */
static void dump_follow(evh_heap *heap, struct dump_report *report, struct dump_node node,
                        bool *is_seen)
{
    const unsigned char *const bytes = evh_at(heap, (evh_ref){node.offset});
    for (uint64_t at = 0; at + 8 <= node.size; at += 8) {
        uint64_t word;
        memcpy(&word, bytes + at, sizeof word);
        const struct dump_block *const block = word ? dump_find(report, word) : NULL;
        if (!block || is_seen[block - report->blocks]) continue;
        if (report->node_count >= report->request->values[DUMP_LIMIT].number) {
            report->is_limited = true;
            return;
        }
        is_seen[block - report->blocks] = true;
        dump_add_node(heap, report, block, node.depth + 1);
    }
}

/* Breadth-first from `start`: the array of nodes is its own queue. */
static void dump_collect_nodes(evh_heap *heap, struct dump_report *report,
                               const struct dump_block *start)
{
    const uint64_t depth_max = report->request->values[DUMP_DEPTH].number;
    bool *const is_seen = cli_resize(NULL, report->block_count, sizeof *is_seen);
    memset(is_seen, 0, report->block_count * sizeof *is_seen);
    is_seen[start - report->blocks] = true;
    dump_add_node(heap, report, start, 0);
    for (size_t i = 0; i < report->node_count && !report->is_limited; i++) {
        if (report->nodes[i].depth >= depth_max) break;
        dump_follow(heap, report, report->nodes[i], is_seen);
    }
    free(is_seen);
}

/* The address asked for, or NULL with the library's error. */
static const void *dump_start(evh_heap *heap, const struct cli_request *request)
{
    const struct cli_value tag = request->values[DUMP_TAG];
    const struct cli_value at = request->values[DUMP_AT];
    if (request->arguments[1]) return evh_root_find(heap, request->arguments[1], NULL);
    if (tag.is_given) return evh_root_find_tagged(heap, tag.number, NULL);
    const void *const address = evh_at(heap, (evh_ref){at.number});
    return evh_usable_size(heap, address) > 0 ? address : NULL;
}

/* ---- the command ---- */

static void dump_clear(struct dump_report *report)
{
    for (size_t i = 0; i < report->node_count; i++) free(report->nodes[i].data);
    dump_clear_collections(report);
    report->block_count = 0;
    report->root_count = 0;
    report->node_count = 0;
    report->live_bytes = 0;
    report->is_limited = false;
    memset(report->classes, 0, DUMP_CLASS_COUNT * sizeof *report->classes);
}

static bool dump_collect(evh_heap *heap, void *context)
{
    struct dump_report *const report = context;
    dump_clear(report);

    const void *start = NULL;
    if (dump_wants_content(report->request)) {
        start = dump_start(heap, report->request);
        if (!start) return false;
    }
    if (evh_walk(heap, dump_add_block, report)) return false;
    dump_collect_roots(heap, report);
    if (!start) return true;

    const struct dump_block *const block = dump_find(report, evh_ref_to(heap, start).offset);
    if (!block) return evh_usable_size(heap, start) > 0; /* a root that names no block: its error */
    dump_collect_nodes(heap, report, block);
    for (size_t i = 0; i < report->node_count; i++) dump_collect_collections(heap, report, i);
    return true;
}

static enum cli_exit dump_run(const struct cli_request *request)
{
    const char *const path = request->arguments[0];
    const int ways = (request->arguments[1] != NULL) + request->values[DUMP_TAG].is_given +
                     request->values[DUMP_AT].is_given;
    if (ways > 1) {
        fprintf(stderr, "everheap dump: give one of ROOT, --tag and --at\n"
                        "Try 'everheap dump --help'.\n");
        return CLI_FAILED;
    }
    struct dump_report report = {.request = request};
    report.classes = cli_resize(NULL, DUMP_CLASS_COUNT, sizeof *report.classes);
    evh_error error;
    cli_progress_begin("reading", path);
    const evh_status status = cli_read(path, dump_collect, &report, &error);
    cli_progress_end();

    if (status)
        cli_complain(request, path, &error);
    else if (request->json)
        dump_json(&report);
    else
        dump_text(&report);
    dump_clear(&report);
    free(report.blocks);
    free(report.roots);
    free(report.nodes);
    free(report.collections);
    free(report.classes);
    return cli_finish(request, status ? CLI_FAILED : CLI_FINE);
}

const struct cli_command cli_dump = {
    .name = "dump",
    .summary = "List roots and blocks, or show what a block holds.",
    .description = "Without ROOT: the roots, and the live blocks by size. With ROOT (a name), "
                   "--tag or --at: the\n"
                   "bytes of that block in hexadecimal and ASCII; a word that is the offset of a "
                   "live block is\n"
                   "shown as a reference (it may be a number that happens to look like one), and "
                   "a\ncollection that it is the handle of item by item. "
                   "--depth follows the\n"
                   "references breadth-first. A root's name may not be known: it is in the list.",
    .arguments = {{"FILE", false, "the heap"}, {"ROOT", true, "the name of a root to show"}},
    .options = {{"depth", 'd', CLI_NUMBER, "N", 0, "follow references N steps"},
                {"limit", 'n', CLI_NUMBER, "N", 100, "show at most N blocks' content"},
                {"bytes", 'b', CLI_NUMBER, "N", 1024, "show at most N bytes of each"},
                {"tag", 't', CLI_NUMBER, "N", 0, "show the root of tag N instead of a named one"},
                {"at", 'a', CLI_NUMBER, "OFFSET", 0, "show the block at OFFSET instead"},
                {"blocks", 0, CLI_FLAG, NULL, 0, "list all live blocks as well"}},
    .examples = {{"everheap dump app.heap", "roots, and blocks by size"},
                 {"everheap dump app.heap config --depth 2", "a root and what it leads to"},
                 {"everheap dump app.heap --at 0x20040", "a block that a dump referred to"}},
    .run = dump_run,
};
