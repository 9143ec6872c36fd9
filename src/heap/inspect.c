/* inspect.c -- looking into a heap without changing it: check, walk, information, log. */
#include "heap/heap.h"

#include <stdio.h>

static evh_status inspect_allowed(const evh_heap *heap)
{
    if (!heap) return base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
    assert(heap->open_count > 0);
    assert(heap->view.base != NULL);
    assert(heap->compact || heap->has_slices);
    if (heap->is_forked)
        return base_fail(EVH_FORKED, NO_OFFSET, "%s: a forked child cannot use its parent's heap",
                         heap_path(heap));
    return EVH_OK;
}

bool heap_finding(evh_report *report, void *context, evh_status *first, uint64_t offset,
                  const char *object, const char *format, ...)
{
    assert(format != NULL);
    assert(first != NULL);
    assert(object != NULL);
    char message[sizeof((evh_error *)0)->message];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (!*first) *first = base_fail(EVH_CORRUPT, offset, "%s", message);
    if (!report) return false;
    const evh_finding finding = {
        .status = EVH_CORRUPT,
        .offset = offset,
        .object = object,
        .message = message,
    };
    return report(&finding, context);
}

/* ---- check ---- */

/* Stands between the parts of a check and the caller's report: keeps the first finding, and that
 * the caller wants no more. */
struct inspect_check {
    evh_report *report;
    void *context;
    evh_error first; /* status EVH_OK: nothing found */
    bool is_stopped;
};

static bool inspect_report(const evh_finding *finding, void *context)
{
    assert(finding != NULL);
    assert(finding->status != EVH_OK);
    assert(finding->message != NULL);
    struct inspect_check *check = context;
    if (!check->first.status) {
        check->first.status = finding->status;
        check->first.offset = finding->offset;
        (void)snprintf(check->first.message, sizeof check->first.message, "%s", finding->message);
    }
    check->is_stopped = !check->report || !check->report(finding, check->context);
    return !check->is_stopped;
}

/* A part came back: if it failed without a finding (no memory, a read error), that is
 * the result. */
static void inspect_part_done(struct inspect_check *check, evh_status status)
{
    assert(check != NULL);
    if (!status || check->first.status) return;
    check->first = *evh_last_error();
    assert(check->first.status == status);
    check->is_stopped = true;
}

evh_status evh_check(evh_heap *heap, evh_report *report, void *context)
{
    const evh_status allowed = inspect_allowed(heap);
    if (allowed) return allowed;
    struct inspect_check check = {.report = report, .context = context};
    if (heap->journal)
        inspect_part_done(&check, journal_check(heap->journal, inspect_report, &check));
    if (!check.is_stopped)
        inspect_part_done(&check, heap->compact ? compact_check(heap, inspect_report, &check)
                                                : slices_check(heap, inspect_report, &check));
    if (!check.is_stopped) inspect_part_done(&check, roots_check(heap, inspect_report, &check));
    if (!check.first.status) return EVH_OK;
    assert(check.first.message[0] != 0);
    return base_fail(check.first.status, check.first.offset, "%s", check.first.message);
}

/* ---- walk, log ---- */

evh_status heap_walk(evh_heap *heap, evh_visit *visit, void *context)
{
    assert(!heap || heap->view.base);
    const evh_status allowed = inspect_allowed(heap);
    if (allowed) return allowed;
    if (!visit)
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: walk: no visit: null", heap_path(heap));
    assert((heap->compact != NULL) != heap->has_slices);
    return heap->compact ? compact_walk(heap, visit, context) : slices_walk(heap, visit, context);
}

evh_status evh_walk(evh_heap *heap, evh_visit *visit, void *context)
{
    if (heap && heap->debug && visit) return heap_debug_walk(heap, visit, context);
    return heap_walk(heap, visit, context);
}

evh_status evh_log(evh_heap *heap, evh_commit_visit *visit, void *context)
{
    const evh_status allowed = inspect_allowed(heap);
    if (allowed) return allowed;
    if (!visit)
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: log: no visit: null", heap_path(heap));
    if (heap->live || heap->is_live_copy) return EVH_OK; /* no commits */
    if (!heap->journal)
        return base_fail(EVH_MODE, NO_OFFSET, "%s: a heap in memory has no journal",
                         heap_path(heap));
    assert(heap->has_slices);
    return journal_log(heap->journal, visit, context);
}

/* ---- information ---- */

static void inspect_describe(evh_heap *heap, evh_info *info)
{
    assert(heap->view.base != NULL);
    assert(info->heap_bytes == 0);
    info->mode = heap->mode;
    info->is_live = heap->live || heap->is_live_copy;
    if (heap->is_live_copy) info->processes = live_copy_processes(heap);
    info->is_compact = heap->compact != NULL;
    info->address = (uint64_t)(uintptr_t)heap->view.base;
    info->heap_bytes = base_load(&heap->state.heap_bytes, __ATOMIC_RELAXED);
    info->commits = base_load(&heap->commits, __ATOMIC_RELAXED);
    info->format_version = REGION_FORMAT_VERSION;
    info->size_max_bytes = info->heap_bytes;
    if (!heap->region) return;
    const struct region *region = heap->region;
    static_assert(sizeof info->uuid == sizeof region->header.uuid, "the same thing");
    memcpy(info->uuid, region->header.uuid, sizeof info->uuid);
    info->format_version = region->header.format_version;
    info->file_bytes = region_has_file(region) ? region->file_bytes : 0;
    info->size_max_bytes = region->reserved_bytes;
}

evh_status evh_get_info(evh_heap *heap, evh_info *info)
{
    evh_status status = inspect_allowed(heap);
    if (status) return status;
    if (!info) return base_fail(EVH_INVALID, NO_OFFSET, "%s: info: null", heap_path(heap));
    *info = (evh_info){0};
    inspect_describe(heap, info);
    status = heap->compact ? compact_info(heap, info) : slices_info(heap, info);
    if (status) return status;
    if (heap->journal) journal_info(heap->journal, info);
    assert(info->largest_free_bytes <= info->free_bytes);
    assert(info->free_bytes <= info->heap_bytes);
    /* In a live heap blocks may come and go while they are counted, and what the file says is
     * theirs may overlap. */
    assert(heap->live || info->live_bytes <= info->heap_bytes);
    return roots_count(heap, &info->roots);
}
