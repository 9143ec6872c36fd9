/* dump_print.c -- what `everheap dump` found, as text and as JSON. */
#include "dump.h"

#include <string.h>

enum { LINE_BYTES = 16 };

/* The block that the word at `at` of a node's data names, or NULL. */
static const struct dump_block *node_ref(const struct dump_report *report,
                                         const struct dump_node *node, size_t at)
{
    uint64_t word;
    if (at % 8 || node->data_bytes < 8 || at > node->data_bytes - 8) return NULL;
    memcpy(&word, node->data + at, sizeof word);
    return word ? dump_find(report, word) : NULL;
}

static void text_root(const evh_root_info *root)
{
    if (root->is_tagged) {
        printf("tag %#llx", (unsigned long long)root->tag);
        return;
    }
    printf("\"");
    cli_put_escaped(stdout, root->name, strlen(root->name));
    printf("\"");
}

/* ---- text: the overview ---- */

static void text_overview(const struct dump_report *report)
{
    printf("roots: %s\n", cli_count(report->root_count));
    for (size_t i = 0; i < report->root_count; i++) {
        const evh_root_info *const root = &report->roots[i];
        printf("%#14llx  %14s  ", (unsigned long long)root->block.offset,
               cli_plural(root->size, "byte"));
        text_root(root);
        printf("\n");
    }
    printf("\nlive: %s, %s\n", cli_plural(report->block_count, "block"),
           cli_exact_size(report->live_bytes));
    if (report->block_count > 0) printf("%20s  %14s  %14s\n", "block size", "blocks", "bytes");
    for (size_t i = 0; i < DUMP_CLASS_COUNT; i++) {
        const struct dump_class *const class = &report->classes[i];
        if (class->count == 0) continue;
        printf("%8s%12s  %14s  %14s\n", i > DUMP_EXACT_MAX ? "up to" : "",
               cli_count(class->size_max), cli_count(class->count), cli_count(class->bytes));
    }
}

static void text_blocks(const struct dump_report *report)
{
    printf("\n%14s  %14s  %s\n", "offset", "bytes", "type");
    for (size_t i = 0; i < report->block_count; i++) {
        const struct dump_block *const block = &report->blocks[i];
        printf("%#14llx  %14s  ", (unsigned long long)block->offset, cli_count(block->size));
        if (block->type)
            printf("%u", block->type);
        else
            printf("-");
        printf("\n");
    }
}

/* ---- text: content ---- */

static void text_line(const struct dump_report *report, const struct dump_node *node, size_t first)
{
    const size_t rest = node->data_bytes - first;
    const size_t count = rest < LINE_BYTES ? rest : LINE_BYTES;
    printf("  %6zx ", first);
    for (size_t i = 0; i < LINE_BYTES; i++) {
        if (i % 8 == 0) printf(" ");
        if (i < count)
            printf("%02x ", node->data[first + i]);
        else
            printf("   ");
    }
    printf(" |");
    for (size_t i = 0; i < count; i++) {
        const unsigned char byte = node->data[first + i];
        putchar(byte >= 0x20 && byte < 0x7f ? byte : '.');
    }
    printf("|");
    for (size_t at = first; at < first + count; at += 8) {
        const struct dump_block *const target = node_ref(report, node, at);
        if (target) printf("  +%zx → %#llx", at, (unsigned long long)target->offset);
    }
    printf("\n");
}

/* Lines that repeat the one above are shown as one "*", as hexdump does. */
static void text_content(const struct dump_report *report, const struct dump_node *node)
{
    bool is_repeating = false;
    for (size_t first = 0; first < node->data_bytes; first += LINE_BYTES) {
        const bool is_same =
            first >= LINE_BYTES && node->data_bytes - first > LINE_BYTES &&
            memcmp(node->data + first, node->data + first - LINE_BYTES, LINE_BYTES) == 0;
        if (!is_same)
            text_line(report, node, first);
        else if (!is_repeating)
            printf("       *\n");
        is_repeating = is_same;
    }
    if (node->data_bytes < node->size) {
        printf("  %6s  %s more not shown; see --bytes\n", "...",
               cli_plural(node->size - node->data_bytes, "byte"));
    }
}

static void text_nodes(const struct dump_report *report)
{
    for (size_t i = 0; i < report->node_count; i++) {
        const struct dump_node *const node = &report->nodes[i];
        printf("%s%#llx  %s", i > 0 ? "\n" : "", (unsigned long long)node->offset,
               cli_plural(node->size, "byte"));
        const uint32_t type = report->blocks[node->block_index].type;
        if (type) printf("  type %u", type);
        if (report->request->values[DUMP_DEPTH].number > 0) {
            printf("  depth %llu", (unsigned long long)node->depth);
        }
        for (size_t k = 0; k < report->root_count; k++) {
            if (report->roots[k].block.offset != node->offset) continue;
            printf("  ");
            text_root(&report->roots[k]);
        }
        printf("\n");
        text_content(report, node);
        dump_text_collections(report, i);
    }
    if (report->is_limited) {
        printf("\nonly %s shown, there are more; see --limit\n",
               cli_plural(report->node_count, "block"));
    }
}

void dump_text(const struct dump_report *report)
{
    if (dump_wants_content(report->request))
        text_nodes(report);
    else
        text_overview(report);
    if (report->request->values[DUMP_BLOCKS].is_given) text_blocks(report);
}

/* ---- JSON ---- */

/* A tag is a string: many readers of JSON lose digits of numbers above 2^53. */
static void json_roots(struct cli_json *json, const struct dump_report *report)
{
    cli_json_array(json, "roots");
    for (size_t i = 0; i < report->root_count; i++) {
        const evh_root_info *const root = &report->roots[i];
        const size_t length = strlen(root->name);
        cli_json_object(json, NULL);
        if (root->is_tagged) {
            char tag[24];
            snprintf(tag, sizeof tag, "0x%llx", (unsigned long long)root->tag);
            cli_json_string(json, "tag", tag);
        } else {
            cli_json_bytes(json, "name", root->name, length);
            if (!cli_is_utf8(root->name, length)) {
                cli_json_hex(json, "name_bytes", (const unsigned char *)root->name, length);
            }
        }
        cli_json_number(json, "offset", root->block.offset);
        cli_json_number(json, "bytes", root->size);
        cli_json_close(json);
    }
    cli_json_close(json);
}

static void json_classes(struct cli_json *json, const struct dump_report *report)
{
    cli_json_array(json, "sizes");
    for (size_t i = 0; i < DUMP_CLASS_COUNT; i++) {
        const struct dump_class *const class = &report->classes[i];
        if (class->count == 0) continue;
        cli_json_object(json, NULL);
        cli_json_number(json, "size_max", class->size_max);
        cli_json_number(json, "blocks", class->count);
        cli_json_number(json, "bytes", class->bytes);
        cli_json_close(json);
    }
    cli_json_close(json);
}

static void json_blocks(struct cli_json *json, const struct dump_report *report)
{
    cli_json_array(json, "blocks");
    for (size_t i = 0; i < report->block_count; i++) {
        cli_json_object(json, NULL);
        cli_json_number(json, "offset", report->blocks[i].offset);
        cli_json_number(json, "bytes", report->blocks[i].size);
        cli_json_number(json, "type", report->blocks[i].type);
        cli_json_close(json);
    }
    cli_json_close(json);
}

static void json_nodes(struct cli_json *json, const struct dump_report *report)
{
    cli_json_bool(json, "is_limited", report->is_limited);
    cli_json_array(json, "content");
    for (size_t i = 0; i < report->node_count; i++) {
        const struct dump_node *const node = &report->nodes[i];
        cli_json_object(json, NULL);
        cli_json_number(json, "offset", node->offset);
        cli_json_number(json, "bytes", node->size);
        cli_json_number(json, "type", report->blocks[node->block_index].type);
        cli_json_number(json, "depth", node->depth);
        cli_json_hex(json, "data", node->data, node->data_bytes);
        cli_json_array(json, "refs");
        for (size_t at = 0; at < node->data_bytes; at += 8) {
            const struct dump_block *const target = node_ref(report, node, at);
            if (!target) continue;
            cli_json_object(json, NULL);
            cli_json_number(json, "at", at);
            cli_json_number(json, "offset", target->offset);
            cli_json_close(json);
        }
        cli_json_close(json);
        dump_json_collections(json, report, i);
        cli_json_close(json);
    }
    cli_json_close(json);
}

void dump_json(const struct dump_report *report)
{
    struct cli_json json;
    cli_json_begin(&json, stdout);
    cli_json_string(&json, "path", report->request->arguments[0]);
    if (dump_wants_content(report->request)) {
        json_nodes(&json, report);
    } else {
        json_roots(&json, report);
        cli_json_number(&json, "live_blocks", report->block_count);
        cli_json_number(&json, "live_bytes", report->live_bytes);
        json_classes(&json, report);
    }
    if (report->request->values[DUMP_BLOCKS].is_given) json_blocks(&json, report);
    cli_json_end(&json);
}
