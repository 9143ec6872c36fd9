/* arena_mark.c -- going back: marks, releases, resets; and what an arena holds. */
#include "arena/arena.h"

/* Give what lies below the resident working set back: the cursor was there once. */
static void arena_purge(evh_arena *arena, struct arena_chunk *chunk)
{
    assert(chunk->low <= chunk->end);
    assert(!arena->heap);
    const uint64_t keep = arena->options.keep_bytes;
    if (chunk->end - chunk->low <= keep || !chunk->mapping || arena->debug) return;
    const uint64_t page = os_page_bytes();
    const uintptr_t first = base_round_up(chunk->low, page);
    const uintptr_t final = base_round_down(chunk->end - keep, page);
    if (final > first) os->discard_later((void *)first, final - first);
    chunk->low = chunk->end - keep;
}

evh_mark evh_arena_mark(evh_arena *arena)
{
    evh_mark mark = {NULL, 0, 0};
    if (!arena || arena->is_stale || arena->options.is_shared) return mark;
    assert(arena->bump != NULL);
    mark.chunk = arena->chunk;
    mark.current = arena_cursor(arena);
    mark.serial = arena->debug ? arena_debug_mark(arena) : arena->stamp;
    assert(mark.serial != 0);
    return mark;
}

static evh_status arena_stale_mark(const evh_arena *arena)
{
    assert(arena != NULL);
    assert(!arena->options.is_shared);
    return debug_misuse(arena->options.misuse, EVH_STALE, NO_OFFSET,
                        "arena '%s': a mark that has ended: it was released below it, or reset",
                        arena->name);
}

/* Whether the mark can be one of this arena: its chunk is there, and the cursor below it. */
static bool arena_has_mark(const evh_arena *arena, const evh_mark *mark)
{
    assert(arena->bump != NULL);
    assert(mark != NULL);
    if (mark->serial == 0) return false;
    if (!mark->chunk) return true; /* taken before the first chunk */
    const struct arena_chunk *chunk = arena->chunk;
    while (chunk && chunk != mark->chunk) chunk = chunk->previous;
    if (!chunk || mark->current < chunk->start || mark->current > chunk->end) return false;
    return chunk != arena->chunk || mark->current >= arena_cursor(arena);
}

/* The newest chunk goes: it becomes the spare one if it is larger than that. */
static void arena_drop_chunk(evh_arena *arena)
{
    struct arena_chunk *chunk = arena->chunk;
    assert(chunk != NULL);
    assert(arena->chunk_count > 0);
    if (arena->is_live)
        arena_live_drop(arena, NULL);
    else
        arena->chunk = chunk->previous;
    arena->chunk_count--;
    if (arena->chunk) arena->older_bytes -= arena->chunk->end - arena->chunk->start;
    if (arena->is_live) return;
    const bool is_larger =
        !arena->spare || chunk->end - chunk->start > arena->spare->end - arena->spare->start;
    /* On a heap a spare block would be committed as a leak. */
    if (arena->heap || !is_larger) {
        arena_end_chunk(arena, chunk);
        return;
    }
    arena_end_chunk(arena, arena->spare);
    if (arena->debug) arena_debug_junk(arena, chunk, chunk->end);
    arena_close_bytes(arena, chunk->start, chunk->end);
    arena->spare = chunk;
}

evh_status evh_arena_release(evh_arena *arena, evh_mark mark)
{
    evh_status status = arena_usable(arena);
    if (status) return status;
    if (arena->options.is_shared)
        return base_fail(EVH_MODE, NO_OFFSET, "arena '%s': it is shared: no marks", arena->name);
    if (arena->is_live && !arena_live_is_ours(arena)) return arena_live_refuse(arena);
    if (!arena_has_mark(arena, &mark)) return arena_stale_mark(arena);
    if (!arena->debug && mark.serial != arena->stamp) return arena_stale_mark(arena);
    if (arena->debug) {
        status = arena_debug_release(arena, mark.serial);
        if (status == EVH_STALE) return arena_stale_mark(arena);
        if (status) return status;
    }
    assert(!arena->is_stale);
    assert(!arena->options.is_shared);
    (void)arena_used(arena);
    /* Of a mark from before the first chunk, the first chunk stays, empty. */
    while (arena->chunk && arena->chunk != mark.chunk && (mark.chunk || arena->chunk->previous))
        arena_drop_chunk(arena);
    struct arena_chunk *chunk = arena->chunk;
    if (!chunk) return EVH_OK;
    const uintptr_t current = mark.chunk ? mark.current : chunk->end;
    if (arena->debug) arena_debug_junk(arena, chunk, current);
    arena_close_bytes(arena, chunk->start, current);
    arena_set_cursor(arena, chunk, current);
    return EVH_OK;
}

/* Of all chunks only `kept` stays. */
static void arena_keep(evh_arena *arena, const struct arena_chunk *kept)
{
    assert(arena->chunk != NULL || !kept);
    assert(!arena->is_live);
    struct arena_chunk *chunk = arena->chunk;
    arena->chunk = NULL;
    while (chunk) {
        struct arena_chunk *previous = chunk->previous;
        if (chunk != kept) arena_end_chunk(arena, chunk);
        chunk = previous;
    }
    arena_end_chunk(arena, arena->spare);
    arena->spare = NULL;
}

static void arena_keep_live(evh_arena *arena, struct arena_chunk *kept)
{
    assert(arena->is_live);
    assert(arena->spare == NULL);
    while (arena->chunk != kept) arena_live_drop(arena, NULL);
    while (kept && kept->previous) arena_live_drop(arena, kept);
}

/* A reset after growth: the largest chunk stays, and the next one holds all that was used. */
static __attribute__((noinline)) void arena_reset_slow(evh_arena *arena)
{
    assert(!arena->is_stale);
    assert(arena != NULL);
    const uint64_t used = arena_used(arena);
    if (arena->debug) arena_debug_reset(arena);
    struct arena_chunk *kept = arena->chunk;
    for (struct arena_chunk *chunk = kept; chunk; chunk = chunk->previous)
        if (chunk->end - chunk->start > kept->end - kept->start) kept = chunk;
    if (arena->is_live)
        arena_keep_live(arena, kept);
    else
        arena_keep(arena, kept);
    if (arena->chunk_count > 1 && !arena->heap) {
        const uint64_t largest = 16 * (uint64_t)ARENA_CHUNK_MAX_BYTES;
        while (arena->next_bytes < used && arena->next_bytes < largest) arena->next_bytes *= 2;
    }
    arena->chunk_count = kept ? 1 : 0;
    arena->older_bytes = 0;
    arena->chunk = kept;
    if (!kept) return;
    kept->previous = NULL;
    if (arena->debug) arena_debug_junk(arena, kept, kept->end);
    if (arena->heap && !arena->is_live)
        arena_heap_renumber(arena);
    else if (!arena->heap)
        arena_purge(arena, kept);
    arena_close_bytes(arena, kept->start, kept->end);
    arena_set_cursor(arena, kept, kept->end);
}

void evh_arena_reset(evh_arena *arena)
{
    if (!arena || arena->is_stale) return;
    struct arena_chunk *chunk = arena->chunk;
    if (arena->is_live && !arena_live_is_ours(arena)) {
        (void)arena_live_refuse(arena);
        return;
    }
    arena->resets++;
    /* Marks end. What threads keep of a shared arena, too: no arena has had its new stamp. */
    arena->stamp = arena->options.is_shared ? arena_new_stamp() : arena->stamp + 1;
    const uintptr_t current = arena_cursor(arena);
    if (UNLIKELY(!chunk || chunk->previous || arena->spare || arena->bump != &arena->view ||
                 arena->is_live || chunk->end - current > arena->options.keep_bytes)) {
        arena_reset_slow(arena);
        return;
    }
    assert(arena->bump == &arena->view);
    assert(!arena->debug);
    if (current < chunk->low) chunk->low = current;
    const uint64_t used = chunk->end - current;
    if (used > arena->peak_bytes) arena->peak_bytes = used;
    arena->view.current = chunk->end;
}

/* ---- looking ---- */

void evh_arena_get_stats(evh_arena *arena, evh_arena_stats *stats)
{
    if (!stats) return;
    *stats = (evh_arena_stats){0};
    if (!arena || arena->is_stale) return;
    heap_lock_take(&arena->lock);
    stats->used_bytes = arena_used(arena);
    assert(stats->used_bytes <= arena->peak_bytes);
    stats->peak_bytes = arena->peak_bytes;
    stats->reserved_bytes = arena->older_bytes;
    stats->chunks = arena->chunk_count;
    stats->resets = arena->resets;
    if (arena->chunk) {
        stats->free_bytes = arena_cursor(arena) - arena->chunk->start;
        assert(arena->chunk_count > 0);
        stats->reserved_bytes += arena->chunk->end - arena->chunk->start;
    }
    heap_lock_drop(&arena->lock);
}

bool evh_arena_holds(const evh_arena *arena, const void *address, size_t size)
{
    if (!arena || arena->is_stale) return false;
    const uintptr_t first = (uintptr_t)address;
    assert(!arena->chunk || arena->chunk_count > 0);
    assert(arena->bump != NULL);
    for (const struct arena_chunk *chunk = arena->chunk; chunk; chunk = chunk->previous) {
        const uintptr_t low = chunk == arena->chunk ? arena_cursor(arena) : chunk->start;
        if (first >= low && first <= chunk->end && size <= chunk->end - first) return true;
    }
    return false;
}

evh_status evh_arena_check(evh_arena *arena)
{
    const evh_status status = arena_usable(arena);
    if (status) return status;
    return arena->debug ? arena_debug_check(arena, 0) : EVH_OK;
}
