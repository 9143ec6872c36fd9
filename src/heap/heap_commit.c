/* heap_commit.c -- commit, rollback, views, and what else moves between memory and the file.
 *
 * A commit stops the program's other threads only for the copy (evh_enter() brackets, or the
 * program's own word that none runs); writing and flushing happen beside them, and several commits
 * share a flush. The order of locks: commit_mutex, then the gate.
 */
#include "heap/heap.h"

/* ---- what may be asked of which heap ---- */

/* The heap can commit: it has a journal, and this process may write. Memory heaps are EVH_OK too,
 * with no journal. */
static evh_status commit_allowed(evh_heap *heap)
{
    const evh_status status = heap_writable(heap);
    if (status) return status;
    if (heap->mode == EVH_PRIVATE)
        return base_fail(EVH_READ_ONLY, NO_OFFSET,
                         "%s: it is open privately: evh_save() writes a copy", heap_path(heap));
    if (heap->mode == EVH_LIVE)
        return base_fail(EVH_MODE, NO_OFFSET,
                         "%s: a live heap has no commits: its stores are there at once; evh_sync() "
                         "puts them on the disk",
                         heap_path(heap));
    assert(heap->journal || heap->mode == EVH_MEMORY);
    assert(heap->mode != EVH_READ_ONLY);
    return EVH_OK;
}

/* Any use of the handle, reading included. */
static evh_status commit_usable(const evh_heap *heap)
{
    if (!heap) return base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
    assert(heap->open_count > 0);
    assert(heap->view.base != NULL);
    if (heap->is_forked)
        return base_fail(EVH_FORKED, NO_OFFSET, "%s: a forked child cannot use its parent's heap",
                         heap_path(heap));
    return EVH_OK;
}

/* Become the one who commits, and hold all writers still. Asking first whether this thread is
 * inside a bracket keeps it from waiting for a committer that waits for it. */
static evh_status commit_begin_quiet(evh_heap *heap)
{
    assert(heap->compact == NULL);
    assert(!heap->is_forked);
    if (gate_is_inside(heap))
        return base_fail(EVH_BUSY, NO_OFFSET, "%s: inside this thread's own evh_enter()",
                         heap_path(heap));
    os->mutex_lock(heap->commit_mutex);
    const evh_status status = gate_close(heap);
    if (status) os->mutex_unlock(heap->commit_mutex);
    return status;
}

static void commit_end_quiet(evh_heap *heap)
{
    assert(heap != NULL);
    assert(heap->compact == NULL);
    gate_open(heap);
    os->mutex_unlock(heap->commit_mutex);
}

/* ---- commit ---- */

static void commit_release(void *context)
{
    evh_heap *heap = context;
    assert(heap != NULL);
    assert(heap->journal != NULL);
    os->mutex_unlock(heap->commit_mutex);
}

/* Copy what changed, with all writers still. Leaves with commit_mutex held if it succeeds. */
static evh_status commit_copy(evh_heap *heap, uint64_t *ticket)
{
    assert(heap->is_writable);
    assert(ticket != NULL);
    assert(heap->journal != NULL);
    evh_status status = commit_begin_quiet(heap);
    if (status) return status;
    heap_run_hooks(heap, HEAP_BEFORE_COMMIT);
    slices_fold(heap);
    const struct journal_state state = heap->state; /* it changes as soon as the gate is open */
    status = journal_copy(heap->journal, &state, ticket);
    if (!status) heap_run_hooks(heap, HEAP_COMMITTED);
    gate_open(heap);
    if (status) {
        os->mutex_unlock(heap->commit_mutex);
        return status;
    }
    assert(state.catalog != 0);
    base_store(&heap->looked_bytes, state.heap_bytes, __ATOMIC_RELAXED);
    if (*ticket > heap->begun) base_store(&heap->begun, *ticket, __ATOMIC_RELEASE);
    return EVH_OK;
}

static evh_status commit_perform(evh_heap *heap, bool flush, uint64_t *ticket)
{
    assert(heap->mode == EVH_DURABLE);
    assert(ticket != NULL);
    assert(heap->journal != NULL);
    evh_status status = commit_copy(heap, ticket);
    if (status) return status;
    status = journal_write(heap->journal, *ticket, flush, commit_release, heap);
    if (!status) (void)base_add_fetch(&heap->commits, 1, __ATOMIC_RELAXED);
    return status;
}

evh_status evh_commit(evh_heap *heap)
{
    uint64_t ticket = 0;
    const evh_status status = commit_allowed(heap);
    if (status) return status;
    if (!heap->journal) {
        heap_run_hooks(heap, HEAP_BEFORE_COMMIT);
        return EVH_OK;
    }
    assert(heap->mode == EVH_DURABLE);
    return commit_perform(heap, true, &ticket);
}

evh_status evh_commit_begin(evh_heap *heap, evh_ticket *ticket)
{
    const evh_status status = commit_allowed(heap);
    if (status) return status;
    if (!ticket) return base_fail(EVH_INVALID, NO_OFFSET, "%s: no ticket: null", heap_path(heap));
    *ticket = 0;
    assert(heap->journal || heap->mode == EVH_MEMORY);
    return heap->journal ? commit_perform(heap, false, ticket) : EVH_OK;
}

evh_status evh_commit_wait(evh_heap *heap, evh_ticket ticket)
{
    const evh_status status = commit_usable(heap);
    if (status) return status;
    if (ticket > base_load(&heap->begun, __ATOMIC_ACQUIRE))
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: no commit %llu was begun", heap_path(heap),
                         (unsigned long long)ticket);
    const bool is_writer = heap->journal && heap->mode == EVH_DURABLE;
    assert(is_writer || ticket == 0);
    return is_writer ? journal_wait(heap->journal, ticket) : EVH_OK;
}

evh_status evh_rollback(evh_heap *heap)
{
    evh_status status = commit_allowed(heap);
    if (status) return status;
    if (!heap->journal)
        return base_fail(EVH_MODE, NO_OFFSET,
                         "memory: a heap in memory has no commit to go back to");
    status = commit_begin_quiet(heap);
    if (status) return status;
    /* Pending frees go into the bitmaps first: if the journal refuses, nothing is lost. */
    slices_fold(heap);
    heap_run_hooks(heap, HEAP_ROLLING_BACK);
    struct journal_state state = heap->state;
    status = journal_rollback(heap->journal, &state);
    if (!status) {
        assert(state.heap_bytes <= heap->region->mapped_bytes);
        assert(state.catalog < state.heap_bytes);
        heap->state = state;
        heap_set_end(heap, state.heap_bytes);
        base_store(&heap->looked_bytes, state.heap_bytes, __ATOMIC_RELAXED);
        slices_reset(heap);
        heap_run_hooks(heap, HEAP_ROLLED_BACK);
    }
    commit_end_quiet(heap);
    return status;
}

evh_status evh_checkpoint(evh_heap *heap)
{
    const evh_status status = commit_allowed(heap);
    if (status || !heap->journal) return status;
    assert(heap->mode == EVH_DURABLE);
    return journal_checkpoint(heap->journal);
}

/* ---- saving ---- */

/* Whether some heap, here or in another process, has the file at `path` open: it holds a lock on
 * the writer's byte, on that of its view, or of a live heap. */
static bool save_is_open(const char *path)
{
    assert(path != NULL);
    assert(path[0] != 0);
    int file = -1;
    bool is_taken = false;
    struct os_file_info info;
    if (os->information_at(path, &info) || !info.is_regular) return false;
    if (os->open(path, 0, 0, &file)) return false;
    static_assert(REGION_LOCK_VIEWS > REGION_LOCK_WRITER, "one range covers both");
    static_assert(REGION_LOCK_WRITER > REGION_LOCK_ATTACHED, "and these");
    if (os->lock_is_taken(file, REGION_LOCK_ATTACHED, INT64_MAX - REGION_LOCK_ATTACHED, &is_taken))
        is_taken = false;
    (void)os->close(file);
    return is_taken;
}

static evh_status save_image(evh_heap *heap, const char *path)
{
    assert(path != NULL);
    const unsigned permissions = heap->options.permissions ? heap->options.permissions : 0600;
    if (!heap->compact)
        return journal_save(heap->region, &heap->state, path, permissions, slices_checksum_slice,
                            heap, heap->journal);
    uint64_t size = 0;
    const void *image = compact_image(heap, &size);
    assert(size > 0);
    return journal_save_bytes(image, size, path, permissions, true);
}

evh_status evh_save(evh_heap *heap, const char *path)
{
    evh_status status = commit_usable(heap);
    if (status) return status;
    if (!path || !path[0])
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: no path to save to", heap_path(heap));
    if (save_is_open(path))
        return base_fail(EVH_BUSY, NO_OFFSET, "%s: an open heap: save to another path", path);
    if (heap->compact) {
        if (heap->is_writable) heap_run_hooks(heap, HEAP_BEFORE_COMMIT);
        return save_image(heap, path);
    }
    assert(heap->region != NULL);
    assert(heap->has_slices);
    if (heap->live || (heap->is_live_copy && !heap->is_writable)) return live_save(heap, path);
    status = commit_begin_quiet(heap);
    if (!status && heap->is_live_copy) {
        status = live_copy_convert(heap);
        if (status) commit_end_quiet(heap);
    }
    if (status) return status;
    if (heap->is_writable) heap_run_hooks(heap, HEAP_BEFORE_COMMIT);
    if (heap->is_writable) slices_fold(heap);
    status = save_image(heap, path);
    commit_end_quiet(heap);
    return status;
}

/* ---- readers ---- */

evh_status evh_refresh(evh_heap *heap)
{
    evh_status status = commit_usable(heap);
    if (status) return status;
    if (heap->mode != EVH_READ_ONLY)
        return base_fail(EVH_MODE, NO_OFFSET, "%s: it is not open read-only", heap_path(heap));
    if (heap->compact) return EVH_OK; /* an image in memory: there is nothing newer */
    if (heap->is_live_copy) {
        os->mutex_lock(heap->commit_mutex);
        status = live_copy_open(heap);
        slices_reset(heap);
        os->mutex_unlock(heap->commit_mutex);
        return status;
    }
    assert(heap->journal != NULL);
    assert(!heap->is_writable);
    os->mutex_lock(heap->commit_mutex);
    struct journal_state state = heap->state;
    status = journal_refresh(heap->journal, &state);
    if (!status) {
        heap->state = state;
        heap_set_end(heap, state.heap_bytes);
    }
    slices_reset(heap); /* also after a failure: the old view is gone, or its pages have changed */
    assert(heap->state.heap_bytes <= heap->region->mapped_bytes);
    os->mutex_unlock(heap->commit_mutex);
    return status;
}

bool evh_view_valid(const evh_heap *heap)
{
    if (!heap || !heap->journal) return true;
    assert(heap->mode != EVH_MEMORY);
    return journal_view_valid(heap->journal);
}

/* ---- system calls into the heap ---- */

/* A store makes a page writable, whatever watches it. This one changes nothing, not even for a
 * thread that stores there at the same moment. (Or-ing 0 would do, but clang makes it a load.) */
static void commit_touch_page(unsigned char *page)
{
    assert(page != NULL);
    unsigned char value = base_load(page, __ATOMIC_RELAXED);
    while (!base_compare_exchange(page, &value, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue; /* again only if another thread has just stored there */
}

evh_status evh_touch(evh_heap *heap, void *address, size_t size_bytes)
{
    const evh_status status = heap_writable(heap);
    if (status) return status;
    const uint64_t offset = (uint64_t)((uintptr_t)address - (uintptr_t)heap->view.base);
    if (!base_in_range(offset, size_bytes, heap_end_bytes(heap)))
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: %p and %zu bytes are not in the heap",
                         heap_path(heap), address, size_bytes);
    if (!heap->needs_touch || size_bytes == 0) return EVH_OK;
    unsigned char *first = heap->view.base + base_round_down(offset, PAGE_BYTES);
    unsigned char *end = heap->view.base + offset + size_bytes;
    assert(heap->journal != NULL);
    assert(first < end);
    for (unsigned char *page = first; page < end; page += PAGE_BYTES) commit_touch_page(page);
    return EVH_OK;
}
