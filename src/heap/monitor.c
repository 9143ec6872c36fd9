/* monitor.c -- watching a heap: counts, fragmentation, and both as OpenMetrics text. */
#include "heap/heap.h"

#include <everheap/debug.h>

#include <stdio.h>

static bool monitor_count(const evh_block *block, void *context)
{
    evh_monitor *monitor = context;
    assert(block->size > 0);
    uint32_t index = block->size > 1 ? base_highest_bit(block->size - 1) + 1 : 0;
    if (index >= EVH_MONITOR_SIZES) index = EVH_MONITOR_SIZES - 1;
    assert(index < EVH_MONITOR_SIZES);
    monitor->size_blocks[index]++;
    return true;
}

evh_status evh_monitor_read(evh_heap *heap, evh_monitor *monitor)
{
    evh_info info;
    if (!monitor) return base_fail(EVH_INVALID, NO_OFFSET, "no monitor to fill: it is null");
    evh_status status = evh_get_info(heap, &info);
    if (status) return status;
    memset(monitor->size_blocks, 0, sizeof monitor->size_blocks);
    assert(heap != NULL);
    status = heap_walk(heap, monitor_count, monitor);
    if (status) return status;
    monitor->live_blocks = info.live_blocks;
    monitor->live_bytes = info.live_bytes;
    monitor->peak_bytes = base_max(monitor->peak_bytes, info.live_bytes);
    monitor->heap_bytes = info.heap_bytes;
    monitor->free_bytes = info.free_bytes;
    monitor->metadata_bytes = info.metadata_bytes;
    monitor->commits = info.commits;
    monitor->commit_sequence = info.commit_sequence;
    monitor->fragmentation = 0;
    if (info.free_bytes > 0)
        monitor->fragmentation = 1 - (double)info.largest_free_bytes / (double)info.free_bytes;
    const uint64_t idle = info.free_bytes + info.metadata_bytes;
    monitor->utilisation = 0;
    if (info.heap_bytes > idle)
        monitor->utilisation = (double)info.live_bytes / (double)(info.heap_bytes - idle);
    heap_debug_counts(heap, &monitor->allocations, &monitor->frees);
    assert(monitor->peak_bytes >= monitor->live_bytes);
    return EVH_OK;
}

/* ---- text ---- */

struct monitor_text {
    char *buffer;
    size_t size, length; /* the length that the whole text has */
};

__attribute__((format(printf, 2, 3))) static void monitor_put(struct monitor_text *out,
                                                              const char *format, ...)
{
    va_list arguments;
    assert(format != NULL);
    assert(out->buffer || out->size == 0);
    char *at = out->length < out->size ? out->buffer + out->length : NULL;
    va_start(arguments, format);
    const int length = vsnprintf(at, at ? out->size - out->length : 0, format, arguments);
    va_end(arguments);
    if (length > 0) out->length += (size_t)length;
}

/* A label's value: backslash, quote and newline are escaped. */
static void monitor_put_label(struct monitor_text *out, const char *label)
{
    assert(label != NULL);
    assert(out != NULL);
    monitor_put(out, "{heap=\"");
    for (const char *c = label; *c; c++) {
        if (*c == '\\' || *c == '"')
            monitor_put(out, "\\%c", *c);
        else if (*c == '\n')
            monitor_put(out, "\\n");
        else
            monitor_put(out, "%c", *c);
    }
    monitor_put(out, "\"");
}

static void monitor_put_metric(struct monitor_text *out, const char *name, const char *type,
                               const char *help, const char *label, double value)
{
    assert(name != NULL);
    assert(type != NULL);
    assert(label != NULL);
    const char *suffix = strcmp(type, "counter") == 0 ? "_total" : "";
    monitor_put(out, "# TYPE everheap_%s %s\n# HELP everheap_%s %s\neverheap_%s%s", name, type,
                name, help, name, suffix);
    monitor_put_label(out, label);
    monitor_put(out, "} %.17g\n", value);
}

static void monitor_put_sizes(struct monitor_text *out, const evh_monitor *monitor,
                              const char *label)
{
    uint64_t sum = 0;
    assert(monitor != NULL);
    assert(label != NULL);
    monitor_put(out, "# TYPE everheap_block_bytes gaugehistogram\n"
                     "# HELP everheap_block_bytes Live blocks by size.\n");
    for (unsigned i = 0; i < EVH_MONITOR_SIZES; i++) {
        sum += monitor->size_blocks[i];
        if (monitor->size_blocks[i] == 0 && i + 1 < EVH_MONITOR_SIZES) continue;
        monitor_put(out, "everheap_block_bytes_bucket");
        monitor_put_label(out, label);
        if (i + 1 < EVH_MONITOR_SIZES)
            monitor_put(out, ",le=\"%llu\"} %llu\n", 1ull << i, (unsigned long long)sum);
        else
            monitor_put(out, ",le=\"+Inf\"} %llu\n", (unsigned long long)sum);
    }
    monitor_put(out, "everheap_block_bytes_gcount");
    monitor_put_label(out, label);
    monitor_put(out, "} %llu\neverheap_block_bytes_gsum", (unsigned long long)sum);
    monitor_put_label(out, label);
    monitor_put(out, "} %llu\n", (unsigned long long)monitor->live_bytes);
}

size_t evh_monitor_text(const evh_monitor *monitor, const char *heap_label, char *buffer,
                        size_t size)
{
    struct monitor_text out = {buffer, buffer ? size : 0, 0};
    if (!monitor) return 0;
    const char *label = heap_label ? heap_label : "";
    const struct {
        const char *name, *type, *help;
        double value;
    } metrics[] = {
        {"live_blocks", "gauge", "Blocks in use.", (double)monitor->live_blocks},
        {"live_bytes", "gauge", "Usable bytes in blocks in use.", (double)monitor->live_bytes},
        {"peak_bytes", "gauge", "The most that was seen in use.", (double)monitor->peak_bytes},
        {"heap_bytes", "gauge", "Bytes up to the highest slice.", (double)monitor->heap_bytes},
        {"free_bytes", "gauge", "Bytes in free slices.", (double)monitor->free_bytes},
        {"metadata_bytes", "gauge", "Bytes of metadata.", (double)monitor->metadata_bytes},
        {"fragmentation_ratio", "gauge", "1 - largest free run / free bytes.",
         monitor->fragmentation},
        {"utilisation_ratio", "gauge", "Live bytes / bytes that hold blocks.",
         monitor->utilisation},
        {"commit_sequence", "gauge", "The last durable commit.", (double)monitor->commit_sequence},
        {"commits", "counter", "Commits made by this process.", (double)monitor->commits},
        {"allocations", "counter", "Allocations of a debugged heap.", (double)monitor->allocations},
        {"frees", "counter", "Frees of a debugged heap.", (double)monitor->frees},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++)
        monitor_put_metric(&out, metrics[i].name, metrics[i].type, metrics[i].help, label,
                           metrics[i].value);
    monitor_put_sizes(&out, monitor, label);
    monitor_put(&out, "# EOF\n");
    return out.length;
}
