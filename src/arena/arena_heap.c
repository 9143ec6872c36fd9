/* arena_heap.c -- an arena whose chunks are blocks of a heap.
 *
 * The cursor is memory of the process, and is written into the arena's record only before a commit:
 * between commits bumping makes no page dirty but those that the program writes to. What a rollback
 * takes back, the record takes back with it: the handle is set up anew from it.
 *
 * The record names the newest chunk, each chunk the one before; that numbers fall bounds the walk
 * over stored data. What is different in a live heap is arena_live.c's.
 */
#include "arena/arena.h"

struct arena_record *arena_record_of(const evh_arena *arena)
{
    assert(arena->heap != NULL);
    assert(arena->record != 0);
    return (struct arena_record *)(void *)(arena->heap->view.base + arena->record);
}

struct arena_chunk_record *arena_chunk_record_of(const evh_arena *arena, uint64_t offset)
{
    assert(arena->heap != NULL);
    assert(offset != 0);
    return (struct arena_chunk_record *)(void *)(arena->heap->view.base + offset);
}

/* ---- storing ---- */

/* Bring the record up to date; a record that is stays clean. */
static void arena_heap_store(evh_arena *arena)
{
    assert(!arena->is_stale);
    if (arena->is_live) {
        arena_live_store(arena);
        return;
    }
    const struct arena_chunk *chunk = arena->chunk;
    struct arena_record next = {
        .magic = ARENA_MAGIC,
        .chunk = chunk ? chunk->offset : 0,
        .current = chunk ? (uint64_t)(arena_cursor(arena) - (uintptr_t)arena->heap->view.base) : 0,
        .chunk_count = arena->chunk_count,
        .next_bytes = arena->next_bytes,
        .size_max_bytes = arena->options.size_max_bytes,
        .alignment = (uint32_t)arena->bump->alignment,
        .is_fixed = arena->is_fixed,
    };
    struct arena_record *record = arena_record_of(arena);
    assert(!chunk || chunk->offset != 0);
    if (memcmp(record, &next, sizeof next) != 0) *record = next;
}

evh_status arena_heap_add(evh_arena *arena, struct arena_chunk *chunk, uint64_t bytes)
{
    assert(arena->heap != NULL);
    assert(bytes > 0);
    uint64_t size = 0;
    if (!base_add(bytes, sizeof(struct arena_chunk_record) + EVH_LINE_BYTES - 1, &size))
        return base_fail(EVH_LIMIT, NO_OFFSET, "arena '%s': too large a chunk", arena->name);
    size = base_round_down(size, EVH_LINE_BYTES);
    /* A chunk of the usual sizes is whole slices, its record included. */
    if (bytes == arena->next_bytes && base_is_power_of_two(bytes) && bytes >= PAGE_BYTES)
        size = bytes;
    if (arena->is_live) return arena_live_add(arena, chunk, size);
    unsigned char *block = evh_aligned_alloc(arena->heap, EVH_LINE_BYTES, size);
    if (!block) return evh_last_error()->status;
    chunk->offset = evh_ref_to(arena->heap, block).offset;
    chunk->number = arena->chunk ? arena->chunk->number + 1 : 1;
    chunk->start = (uintptr_t)block + sizeof(struct arena_chunk_record);
    chunk->end = (uintptr_t)block + size;
    assert(chunk->offset != 0);
    *arena_chunk_record_of(arena, chunk->offset) =
        (struct arena_chunk_record){.magic = ARENA_CHUNK_MAGIC,
                                    .previous = arena->chunk ? arena->chunk->offset : 0,
                                    .size_bytes = size,
                                    .number = chunk->number};
    return EVH_OK;
}

void arena_heap_renumber(evh_arena *arena)
{
    struct arena_chunk *chunk = arena->chunk;
    assert(chunk != NULL);
    assert(arena->chunk_count == 1);
    struct arena_chunk_record *record = arena_chunk_record_of(arena, chunk->offset);
    if (chunk->number == 1) return;
    chunk->number = 1;
    record->number = 1;
    record->previous = 0;
}

/* ---- loading ---- */

static evh_status arena_damaged(const evh_arena *arena, uint64_t offset, const char *what)
{
    assert(arena != NULL);
    assert(what != NULL);
    return base_fail(EVH_CORRUPT, offset, "%s: arena '%s': %s", heap_path(arena->heap), arena->name,
                     what);
}

/* One chunk as the image has it, older than number `above`; `*previous` becomes the one before. */
static evh_status arena_load_chunk(const evh_arena *arena, uint64_t offset, uint64_t above,
                                   struct arena_chunk *chunk, uint64_t *previous)
{
    assert(chunk != NULL);
    assert(previous != NULL);
    uint64_t size = 0;
    if (!heap_block_at(arena->heap, offset, &size) || size < sizeof(struct arena_chunk_record))
        return arena_damaged(arena, offset, "a chunk that is no block");
    const struct arena_chunk_record *record = arena_chunk_record_of(arena, offset);
    if (record->magic != ARENA_CHUNK_MAGIC || record->number == 0 || record->number >= above ||
        record->size_bytes > size || record->size_bytes < sizeof *record ||
        (record->number == 1 && record->previous != 0) ||
        !heap_is_zero(record->reserved, sizeof record->reserved))
        return arena_damaged(arena, offset, "a chunk's record is damaged");
    chunk->offset = offset;
    chunk->number = record->number;
    chunk->start = (uintptr_t)(record + 1);
    chunk->end = (uintptr_t)record + record->size_bytes;
    chunk->low = chunk->end; /* nothing below the cursor is known to be junk */
    *previous = record->previous;
    return EVH_OK;
}

/* Build the list of chunks from the record: their numbers fall, which bounds the loop. What is
 * built when it fails is arena->chunk's. */
static evh_status arena_load_chunks(evh_arena *arena, const struct arena_record *record)
{
    assert(arena->chunk == NULL);
    assert(record != NULL);
    struct arena_chunk **link = &arena->chunk;
    uint64_t offset = record->chunk;
    uint64_t above = UINT64_MAX;
    arena->older_bytes = 0;
    arena->chunk_count = 0;
    while (offset != 0) {
        struct arena_chunk *chunk = os->memory_allocate(sizeof *chunk);
        if (!chunk)
            return base_fail(EVH_NO_MEMORY, NO_OFFSET, "arena '%s': no memory", arena->name);
        const evh_status status = arena_load_chunk(arena, offset, above, chunk, &offset);
        if (status) {
            os->memory_free(chunk);
            return status;
        }
        above = chunk->number;
        *link = chunk;
        link = &chunk->previous;
        arena->chunk_count++;
        if (chunk != arena->chunk) arena->older_bytes += chunk->end - chunk->start;
    }
    if (record->chunk_count && record->chunk_count != arena->chunk_count)
        return arena_damaged(arena, arena->record, "it has not as many chunks as it says");
    return EVH_OK;
}

static evh_status arena_check_record(const evh_arena *arena, const struct arena_record *record)
{
    assert(record != NULL);
    assert(arena->heap != NULL);
    if (!base_is_power_of_two(record->alignment) || record->alignment > SEGMENT_BYTES ||
        record->is_fixed > 1 || record->reserved != 0 || record->next_bytes == 0 ||
        record->next_bytes > REGION_SIZE_MAX || record->size_max_bytes > REGION_SIZE_MAX ||
        record->chunk_count > heap_end_bytes(arena->heap) / ARENA_CHUNK_MIN_BYTES ||
        (record->chunk == 0 && (record->chunk_count != 0 || record->current != 0)) ||
        (record->chunk_count == 0) != (record->current == 0))
        return arena_damaged(arena, arena->record, "its record is damaged");
    return EVH_OK;
}

/* Drop the nodes of the list: the blocks are the heap's business. */
static void arena_forget_chunks(evh_arena *arena)
{
    assert(arena != NULL);
    assert(arena->spare == NULL);
    struct arena_chunk *chunk = arena->chunk;
    arena->chunk = NULL;
    while (chunk) {
        struct arena_chunk *previous = chunk->previous;
        os->memory_free(chunk);
        chunk = previous;
    }
    arena_set_cursor(arena, NULL, 0);
}

/* Set the handle up from the record in the image. */
static evh_status arena_heap_load(evh_arena *arena)
{
    uint64_t size = 0;
    assert(arena->heap != NULL);
    assert(arena->record != 0);
    const struct arena_record *record = arena_record_of(arena);
    if (!heap_block_at(arena->heap, arena->record, &size) || size < sizeof *record ||
        record->magic != ARENA_MAGIC)
        return base_fail(EVH_NOT_FOUND, arena->record, "%s: no arena there",
                         heap_path(arena->heap));
    const struct arena_record stored = *record;
    evh_status status = arena_check_record(arena, &stored);
    if (status) return status;
    arena_forget_chunks(arena);
    status = arena_load_chunks(arena, &stored);
    arena->next_bytes = stored.next_bytes;
    arena->is_fixed = stored.is_fixed != 0;
    arena->options.size_max_bytes = stored.size_max_bytes;
    arena->view.alignment = arena->hidden.alignment = stored.alignment;
    if (status || !arena->chunk) return status;
    const struct arena_chunk *chunk = arena->chunk;
    const uint64_t cursor =
        stored.current ? stored.current : arena_chunk_record_of(arena, chunk->offset)->current;
    const uintptr_t current = (uintptr_t)arena->heap->view.base + cursor;
    if (current < chunk->start || current > chunk->end)
        return arena_damaged(arena, arena->record, "its cursor lies in no chunk");
    arena_set_cursor(arena, arena->chunk, current);
    return EVH_OK;
}

/* ---- what happens to the heap ---- */

/* The handle leads nowhere any more. */
static void arena_become_stale(evh_arena *arena)
{
    assert(arena != NULL);
    arena_forget_chunks(arena);
    arena->is_stale = true;
    arena->heap = NULL;
    assert(arena->view.start == UINTPTR_MAX);
}

static evh_arena *arena_of_hook(struct heap_hook *hook)
{
    assert(hook != NULL);
    evh_arena *arena = (void *)((unsigned char *)hook - offsetof(struct evh_arena, hook));
    assert(arena->bump != NULL);
    return arena;
}

static void arena_on_event(struct heap_hook *hook, evh_heap *heap, enum heap_event event)
{
    evh_arena *arena = arena_of_hook(hook);
    assert(arena->is_stale || arena->heap == heap);
    assert(arena->hooked == heap);
    if (arena->is_stale) {
        if (event == HEAP_CLOSING) arena->hooked = NULL;
        return;
    }
    switch (event) {
    case HEAP_BEFORE_COMMIT: arena_heap_store(arena); return;
    case HEAP_COMMITTED: arena->is_committed = true; return;
    case HEAP_ROLLING_BACK: return;
    case HEAP_ROLLED_BACK:
        arena->stamp = arena_new_stamp(); /* marks end */
        if (arena->debug) arena->debug->count = arena->debug->mark_count = 0;
        if (!arena->is_committed || arena_heap_load(arena)) arena_become_stale(arena);
        return;
    case HEAP_CLOSING:
        if (heap->mode == EVH_MEMORY || arena->is_live) arena_heap_store(arena);
        arena_become_stale(arena);
        arena->hooked = NULL;
        return;
    }
}

static void arena_heap_attach(evh_arena *arena)
{
    assert(arena->heap != NULL);
    assert(arena->hooked == NULL);
    arena->hook.run = arena_on_event;
    arena->hooked = arena->heap;
    heap_hook_add(arena->heap, &arena->hook);
}

static void arena_heap_detach(evh_arena *arena)
{
    assert(arena->options.heap != NULL);
    assert(!arena->heap || !arena->hooked || arena->heap == arena->hooked);
    if (arena->hooked) heap_hook_remove(arena->hooked, &arena->hook);
    arena->hooked = NULL;
}

/* ---- making and ending ---- */

evh_status arena_heap_create(evh_arena *arena)
{
    assert(arena->heap != NULL);
    assert(arena->record == 0);
    struct arena_record *record = evh_malloc(arena->heap, sizeof *record);
    if (!record) return evh_last_error()->status;
    *record = (struct arena_record){.magic = ARENA_MAGIC,
                                    .next_bytes = arena->next_bytes,
                                    .size_max_bytes = arena->options.size_max_bytes,
                                    .alignment = (uint32_t)arena->bump->alignment,
                                    .is_fixed = arena->is_fixed};
    arena->record = evh_ref_to(arena->heap, record).offset;
    arena_heap_attach(arena);
    return EVH_OK;
}

evh_arena *evh_arena_open(evh_heap *heap, evh_ref ref, const evh_arena_options *options)
{
    if (heap_writable(heap)) return NULL;
    evh_arena_options chosen = {.heap = heap};
    if (options) {
        chosen.name = options->name;
        chosen.debug = options->debug;
        chosen.misuse = options->misuse;
        chosen.keep_bytes = options->keep_bytes;
    }
    evh_arena *arena = arena_new(&chosen);
    if (!arena) return NULL;
    arena->record = ref.offset;
    evh_status status = EVH_OK;
    assert(arena->heap == heap);
    assert(arena->chunk == NULL);
    if (ref.offset == 0 || ref.offset > heap_end_bytes(heap))
        status = base_fail(EVH_NOT_FOUND, ref.offset, "%s: no arena there", heap_path(heap));
    if (!status) status = arena_heap_load(arena);
    if (!status) {
        arena->is_committed = true;
        arena_heap_attach(arena);
        return arena;
    }
    arena_forget_chunks(arena);
    arena->heap = NULL;
    arena_free(arena);
    return NULL;
}

evh_ref evh_arena_ref(const evh_arena *arena)
{
    const evh_ref none = {0}, ref = {arena ? arena->record : 0};
    assert(!arena || arena->options.heap || arena->record == 0);
    return arena && !arena->is_stale && arena->heap ? ref : none;
}

void arena_heap_close(evh_arena *arena)
{
    assert(arena->options.heap != NULL);
    if (arena->heap) {
        assert(!arena->is_stale);
        if (arena->hooked) arena_heap_store(arena);
        arena_forget_chunks(arena);
        arena->heap = NULL;
    }
    arena_heap_detach(arena);
    arena_free(arena);
}

evh_status evh_arena_remove(evh_arena *arena)
{
    if (!arena) return EVH_OK;
    if (!arena->options.heap) {
        arena_free(arena);
        return EVH_OK;
    }
    evh_status status = arena_usable(arena);
    if (!status) status = heap_writable(arena->heap);
    if (!status && arena->is_live && !arena_live_is_ours(arena)) status = arena_live_refuse(arena);
    if (!status) arena_heap_detach(arena);
    assert(status || arena->hooked == NULL);
    assert(status || arena->record != 0);
    while (!status && arena->is_live && arena->chunk) arena_live_drop(arena, NULL);
    if (!status && arena->record) evh_free(arena->heap, arena->heap->view.base + arena->record);
    if (status) {
        const evh_error why = *evh_last_error();
        arena_heap_close(arena);
        return base_fail(why.status, why.offset, "%s", why.message);
    }
    arena_free(arena); /* with the blocks of its chunks */
    return EVH_OK;
}
