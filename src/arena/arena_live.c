/* arena_live.c -- an arena in a live heap: it survives the process that is killed.
 *
 * Nothing tells that a kill is near, as a commit does, so the cursor has to be in the image at any
 * moment. It is not stored at each allocation: memory is set apart 4 KiB ahead, by one store into
 * the chunk's record, and then handed out by the inline way. What a kill leaves counts as handed
 * out down to there: up to 4 KiB are lost until the arena is released or reset, and nothing that
 * was handed out is handed out twice.
 *
 * Each step is one store: `chunk` of the record, or `previous` of a chunk's, names a chunk or no
 * longer, with an intent that lets a survivor free what nothing names (docs/live.md, 3.8 and 3.9);
 * `current` of the newest chunk rises or falls. A release or a reset that is killed in the middle
 * has taken back some chunks and not others.
 *
 * An arena has one handle at a time, in one process. Whoever breaks that is told as soon as he
 * needs more memory, releases or resets: the image is not as his handle left it, and stays as it
 * is. (Two that do so at the same moment are not told: a handle is no lock.)
 */
#include "arena/arena.h"

enum { LIVE_AHEAD_BYTES = 4096 };

static uint64_t arena_live_offset(const evh_arena *arena, uintptr_t address)
{
    assert(arena->heap != NULL);
    assert(address > (uintptr_t)arena->heap->view.base);
    return address - (uintptr_t)arena->heap->view.base;
}

/* What lies above is handed out, or set apart to be. */
static void arena_live_note(const evh_arena *arena, const struct arena_chunk *chunk,
                            uintptr_t limit)
{
    assert(limit >= chunk->start);
    assert(limit <= chunk->end);
    uint64_t *current = &arena_chunk_record_of(arena, chunk->offset)->current;
    const uint64_t next = arena_live_offset(arena, limit);
    if (base_load(current, __ATOMIC_RELAXED) != next) base_store(current, next, __ATOMIC_RELEASE);
}

bool arena_live_is_ours(const evh_arena *arena)
{
    assert(arena->is_live);
    assert(!arena->is_stale);
    const struct arena_chunk *chunk = arena->chunk;
    const struct arena_record *record = arena_record_of(arena);
    if (base_load(&record->chunk, __ATOMIC_ACQUIRE) != (chunk ? chunk->offset : 0)) return false;
    if (!chunk) return true;
    const struct arena_chunk_record *own = arena_chunk_record_of(arena, chunk->offset);
    return base_load(&own->current, __ATOMIC_RELAXED) ==
           arena_live_offset(arena, arena->bump->start);
}

evh_status arena_live_refuse(const evh_arena *arena)
{
    assert(arena->is_live);
    assert(!arena->is_stale);
    return base_fail(EVH_STALE, arena->record,
                     "arena '%s': another handle has used it since this one was opened",
                     arena->name);
}

void arena_live_set(evh_arena *arena, struct arena_chunk *chunk, uintptr_t current)
{
    assert(arena->is_live);
    assert(current >= chunk->start);
    arena_live_note(arena, chunk, current);
    arena->bump->start = current; /* the next allocation sets memory apart */
}

bool arena_live_reserve(evh_arena *arena, size_t size, size_t alignment)
{
    assert(arena->is_live);
    assert(base_is_power_of_two(alignment));
    const struct arena_chunk *chunk = arena->chunk;
    if (!chunk) return false;
    const uintptr_t current = arena_cursor(arena);
    if (size > current) return false;
    const uintptr_t found = (current - size) & ~(uintptr_t)(alignment - 1);
    if (found < chunk->start) return false;
    const uintptr_t limit = found - base_min(found - chunk->start, LIVE_AHEAD_BYTES);
    arena_live_note(arena, chunk, limit);
    arena->bump->start = limit;
    return true;
}

/* ---- chunks ---- */

struct live_filling {
    const evh_arena *arena;
    struct arena_chunk *chunk;
    uint64_t size;
};

static void arena_live_fill(void *block, void *context)
{
    const struct live_filling *filling = context;
    const evh_arena *arena = filling->arena;
    struct arena_chunk *chunk = filling->chunk;
    assert(filling->size > sizeof(struct arena_chunk_record));
    chunk->offset = evh_ref_to(arena->heap, block).offset;
    chunk->number = arena->chunk ? arena->chunk->number + 1 : 1;
    chunk->start = (uintptr_t)block + sizeof(struct arena_chunk_record);
    chunk->end = (uintptr_t)block + filling->size;
    assert(chunk->offset != 0);
    *(struct arena_chunk_record *)block =
        (struct arena_chunk_record){.magic = ARENA_CHUNK_MAGIC,
                                    .previous = arena->chunk ? arena->chunk->offset : 0,
                                    .size_bytes = filling->size,
                                    .number = chunk->number,
                                    .current = arena_live_offset(arena, chunk->end)};
}

evh_status arena_live_add(evh_arena *arena, struct arena_chunk *chunk, uint64_t size)
{
    assert(arena->is_live);
    assert(size > sizeof(struct arena_chunk_record));
    const evh_status status = heap_writable(arena->heap);
    if (status) return status;
    struct live_filling filling = {arena, chunk, size};
    const struct live_request request = {
        .size = size, .alignment = EVH_LINE_BYTES, .fill = arena_live_fill, .context = &filling};
    struct arena_record *record = arena_record_of(arena);
    return live_malloc_into(arena->heap, (evh_ref *)(void *)&record->chunk, &request);
}

void arena_live_drop(evh_arena *arena, struct arena_chunk *newer)
{
    assert(arena->is_live);
    struct arena_chunk **link = newer ? &newer->previous : &arena->chunk;
    struct arena_chunk *chunk = *link;
    assert(chunk != NULL);
    uint64_t *slot = newer ? &arena_chunk_record_of(arena, newer->offset)->previous
                           : &arena_record_of(arena)->chunk;
    const uint64_t next = arena_chunk_record_of(arena, chunk->offset)->previous;
    (void)live_free_from(arena->heap, (evh_ref *)(void *)slot, next);
    *link = chunk->previous;
    os->memory_free(chunk);
}

void arena_live_store(evh_arena *arena)
{
    assert(arena->is_live);
    assert(!arena->is_stale);
    if (!arena_live_is_ours(arena)) return;
    if (arena->chunk) arena_live_set(arena, arena->chunk, arena_cursor(arena));
    arena_record_of(arena)->next_bytes = arena->next_bytes;
}
