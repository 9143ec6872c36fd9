/* arena.c -- memory that is handed out by moving a cursor down: chunks, and the slow way.
 *
 * Estimate: the inline way is a load, a subtraction, a mask, two comparisons that are always false
 * and a store; downwards, because rounding the result down is its alignment (Fitzgerald: "Always
 * bump downwards"). A chunk of 64 KiB holds a thousand blocks of 64 bytes, so that the slow way,
 * about a microsecond for a new mapping, is a nanosecond for each.
 *
 * Invariants
 *  1. bump->start <= bump->current <= chunk->end, and bump->start is chunk->start, or above it in a
 *     live heap, where what is set apart begins.
 *  2. The view is closed (start is UINTPTR_MAX) if and only if bump is the hidden one, or there is
 *     no chunk.
 *  3. What lies between bump->current and chunk->end, and older chunks, is handed out.
 */
#include "arena/arena.h"

#include <stdio.h>

/* ---- names, stamps, options ---- */

void object_set_name(char name[EVH_OBJECT_NAME_MAX + 1], const char *given, const char *fallback)
{
    assert(name != NULL);
    assert(fallback != NULL);
    const char *text = given ? given : fallback;
    const size_t length = base_min(strlen(text), EVH_OBJECT_NAME_MAX);
    memcpy(name, text, length);
    name[length] = 0;
}

uint64_t arena_new_stamp(void)
{
    static uint64_t last; /* atomic */
    const uint64_t stamp = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
    assert(stamp != 0);
    assert(stamp != UINT64_MAX);
    return stamp;
}

static evh_status arena_refuse(const char *name, const char *why)
{
    assert(name != NULL);
    assert(why != NULL);
    return base_fail(EVH_INVALID, NO_OFFSET, "arena '%s': options: %s", name, why);
}

static evh_status arena_check_options(const char *name, const evh_arena_options *options)
{
    assert(name != NULL);
    assert(options != NULL);
    for (size_t i = 0; i < sizeof options->reserved / sizeof options->reserved[0]; i++)
        if (options->reserved[i]) return arena_refuse(name, "a reserved field is not zero");
    if (options->alignment &&
        (!base_is_power_of_two(options->alignment) || options->alignment > SEGMENT_BYTES))
        return arena_refuse(name, "an alignment that is no power of two to 64 MiB");
    if ((unsigned)options->misuse > EVH_MISUSE_STATUS)
        return arena_refuse(name, "no such answer to misuse");
    if (options->buffer && (options->heap || options->guards))
        return arena_refuse(name, "a buffer has neither a heap nor guards");
    if (options->buffer && options->size_bytes < ARENA_CHUNK_MIN_BYTES)
        return arena_refuse(name, "a buffer below 256 bytes");
    if (options->is_fixed && !options->size_bytes)
        return arena_refuse(name, "a fixed arena without size_bytes");
    if (options->size_bytes > REGION_SIZE_MAX || options->size_max_bytes > REGION_SIZE_MAX)
        return arena_refuse(name, "a size above 128 TiB");
    if (options->heap && (options->is_shared || options->guards))
        return base_fail(EVH_MODE, NO_OFFSET,
                         "arena '%s': on a heap it is neither shared nor guarded", name);
    return EVH_OK;
}

evh_status arena_usable(const evh_arena *arena)
{
    if (!arena) return base_fail(EVH_INVALID, NO_OFFSET, "no arena: it is null");
    assert(arena->bump != NULL);
    assert(arena->is_stale || !arena->options.heap || arena->heap);
    if (!arena->is_stale) return EVH_OK;
    return base_fail(EVH_STALE, NO_OFFSET,
                     "arena '%s': its heap was closed, or rolled back to before it was made",
                     arena->name);
}

/* ---- the cursor ---- */

void arena_set_cursor(evh_arena *arena, struct arena_chunk *chunk, uintptr_t current)
{
    assert(arena->bump == &arena->view || arena->bump == &arena->hidden);
    if (!chunk) {
        arena->bump->current = ARENA_CLOSED_CURSOR;
        arena->bump->start = UINTPTR_MAX;
        return;
    }
    assert(current >= chunk->start);
    assert(current <= chunk->end);
    arena->bump->current = current;
    arena->bump->start = chunk->start;
    if (arena->is_live) arena_live_set(arena, chunk, current);
    if (current < chunk->low) chunk->low = current;
}

uint64_t arena_used(evh_arena *arena)
{
    assert(arena != NULL);
    if (!arena->chunk) return 0;
    const uintptr_t current = arena_cursor(arena);
    assert(current >= arena->chunk->start);
    assert(current <= arena->chunk->end);
    if (current < arena->chunk->low) arena->chunk->low = current;
    const uint64_t used = arena->older_bytes + (arena->chunk->end - current);
    if (used > arena->peak_bytes) arena->peak_bytes = used;
    return used;
}

/* ---- chunks ---- */

/* Whether chunks have a header and a footer. */
static bool arena_has_edges(const evh_arena *arena)
{
    assert(!arena->heap || arena->options.heap == arena->heap);
    assert(arena != NULL);
    const bool has_canaries = arena->debug && (arena->debug->settings.letters & DEBUG_CANARY);
    return !arena->heap && !arena->options.buffer && (arena->options.guards || has_canaries);
}

/* A page without access before and behind the mapping. */
static evh_status arena_guard(evh_arena *arena, struct arena_chunk *chunk, uint64_t page)
{
    assert(arena->options.guards);
    assert(chunk->mapping_bytes > 2 * page);
    unsigned char *mapping = chunk->mapping;
    unsigned char *last = mapping + chunk->mapping_bytes - page;
    int error = os->guard(mapping, page, OS_GUARD_PROTECT);
    if (!error) error = os->guard(last, page, OS_GUARD_PROTECT);
    if (error)
        return base_fail_os(error, NO_OFFSET, "arena '%s': cannot guard a chunk", arena->name);
    chunk->start += page;
    chunk->end -= page;
    struct fault_range range = {.kind = "arena",
                                .start = (uintptr_t)mapping,
                                .end = (uintptr_t)mapping + chunk->mapping_bytes,
                                .guard_bytes = page};
    memcpy(range.name, arena->name, sizeof range.name);
    chunk->fault = fault_add(&range);
    return EVH_OK;
}

/* A chunk of the system of at least `bytes`. */
static evh_status arena_map_chunk(evh_arena *arena, struct arena_chunk *chunk, uint64_t bytes)
{
    assert(!arena->heap);
    assert(bytes > 0);
    const uint64_t page = os_page_bytes();
    const bool has_edges = arena_has_edges(arena);
    uint64_t size = bytes + (has_edges ? 2 * ARENA_EDGE_BYTES : 0);
    size = base_round_up(size, page) + (arena->options.guards ? 2 * page : 0);
    const int error = os->memory_map(size, false, &chunk->mapping);
    if (error)
        return base_fail_os(error, NO_OFFSET, "arena '%s': no chunk of %llu bytes", arena->name,
                            (unsigned long long)size);
    chunk->mapping_bytes = size;
    chunk->start = (uintptr_t)chunk->mapping;
    chunk->end = chunk->start + size;
    const evh_status status = arena->options.guards ? arena_guard(arena, chunk, page) : EVH_OK;
    if (status || !has_edges) return status;
    chunk->start += ARENA_EDGE_BYTES;
    chunk->end -= ARENA_EDGE_BYTES;
    if (arena->debug) arena_debug_edges(arena, chunk);
    return EVH_OK;
}

void arena_end_chunk(evh_arena *arena, struct arena_chunk *chunk)
{
    if (!chunk) return;
    assert(arena != NULL);
    assert(chunk != arena->chunk);
    assert(!arena->is_live); /* arena_live_drop() */
    if (chunk->fault) fault_remove(chunk->fault);
    if (!arena->options.heap) os_annotate_open((void *)chunk->start, chunk->end - chunk->start);
    if (chunk->mapping) (void)os->release(chunk->mapping, chunk->mapping_bytes);
    if (chunk->offset && arena->heap) evh_free(arena->heap, arena->heap->view.base + chunk->offset);
    os->memory_free(chunk);
}

/* How large the next chunk is, for `need` bytes. 0: the limit forbids one. */
static uint64_t arena_next_bytes(const evh_arena *arena, uint64_t need)
{
    assert(need > 0);
    assert(arena->next_bytes > 0);
    uint64_t bytes = base_max(arena->next_bytes, need);
    const uint64_t limit = arena->options.size_max_bytes;
    uint64_t reserved = arena->older_bytes;
    if (arena->chunk) reserved += arena->chunk->end - arena->chunk->start;
    if (limit && reserved >= limit) return 0;
    if (limit && bytes > limit - reserved) bytes = limit - reserved;
    return bytes >= need ? bytes : 0;
}

static evh_status arena_full(const evh_arena *arena, size_t size)
{
    assert(arena != NULL);
    const uint64_t reserved =
        arena->older_bytes + (arena->chunk ? arena->chunk->end - arena->chunk->start : 0);
    assert(arena->is_fixed || !arena->chunk || reserved > 0);
    return base_fail(EVH_LIMIT, NO_OFFSET,
                     "arena '%s': no room for %zu bytes: it has %llu and may not grow", arena->name,
                     size, (unsigned long long)reserved);
}

/* A chunk of `bytes`, in no list; NULL and the error. */
static struct arena_chunk *arena_new_chunk(evh_arena *arena, uint64_t bytes)
{
    assert(bytes > 0);
    assert(!arena->options.buffer);
    struct arena_chunk *chunk = os->memory_allocate(sizeof *chunk);
    if (!chunk) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "arena '%s': no memory", arena->name);
        return NULL;
    }
    const evh_status status =
        arena->heap ? arena_heap_add(arena, chunk, bytes) : arena_map_chunk(arena, chunk, bytes);
    if (!status) return chunk;
    if (chunk->fault) fault_remove(chunk->fault);
    if (chunk->mapping) (void)os->release(chunk->mapping, chunk->mapping_bytes);
    os->memory_free(chunk);
    return NULL;
}

/* The largest chunk that there is room for, of `bytes` or half that and so on down to `need`. */
static struct arena_chunk *arena_find_chunk(evh_arena *arena, uint64_t bytes, uint64_t need)
{
    assert(bytes >= need);
    assert(need > 0);
    for (;;) { /* it halves */
        struct arena_chunk *chunk = arena_new_chunk(arena, bytes);
        if (chunk || bytes == need || arena->is_fixed) return chunk;
        const evh_status why = evh_last_error()->status;
        if (why != EVH_FULL && why != EVH_LIMIT && why != EVH_NO_MEMORY) return NULL;
        bytes = base_max(bytes / 2, need);
    }
}

/* The newest chunk is used up: another one, of at least `need` bytes, becomes the newest. */
static evh_status arena_grow(evh_arena *arena, uint64_t need, size_t size)
{
    assert(!arena->options.buffer || arena->chunk);
    assert(need >= size);
    (void)arena_used(arena);
    struct arena_chunk *chunk = arena->spare;
    if (chunk && chunk->end - chunk->start >= need) {
        arena->spare = NULL;
    } else {
        const uint64_t bytes = arena_next_bytes(arena, need);
        if ((arena->is_fixed && arena->chunk) || bytes == 0) return arena_full(arena, size);
        chunk = arena_find_chunk(arena, bytes, need);
        if (!chunk) return evh_last_error()->status;
        chunk->low = chunk->end;
        if (arena->next_bytes < ARENA_CHUNK_MAX_BYTES) arena->next_bytes *= 2;
        arena_close_bytes(arena, chunk->start, chunk->end);
    }
    if (arena->chunk) arena->older_bytes += arena->chunk->end - arena->chunk->start;
    chunk->previous = arena->chunk;
    arena->chunk = chunk;
    arena->chunk_count++;
    arena_set_cursor(arena, chunk, chunk->end);
    return EVH_OK;
}

/* ---- allocating ---- */

/* The cursor moved down for the block, or 0: it does not fit. */
static uintptr_t arena_place(const evh_arena *arena, size_t size, size_t alignment)
{
    assert(arena->bump == &arena->view || arena->bump == &arena->hidden);
    assert(base_is_power_of_two(alignment));
    const struct evh_arena_view *bump = arena->bump;
    if (size > bump->current || bump->start == UINTPTR_MAX) return 0;
    const uintptr_t found = (bump->current - size) & ~(uintptr_t)(alignment - 1);
    return found >= bump->start ? found : 0;
}

void *arena_bump(evh_arena *arena, size_t size, size_t alignment)
{
    assert(base_is_power_of_two(alignment));
    uintptr_t found = arena_place(arena, size, alignment);
    if (!found) {
        uint64_t need = 0;
        if (!base_add(size, alignment, &need) || need > REGION_SIZE_MAX) {
            (void)base_fail(EVH_LIMIT, NO_OFFSET, "arena '%s': %zu bytes are too many", arena->name,
                            size);
            return NULL;
        }
        if (arena->is_live && !arena_live_is_ours(arena)) {
            (void)arena_live_refuse(arena);
            return NULL;
        }
        if (arena->is_live && arena_live_reserve(arena, size, alignment))
            found = arena_place(arena, size, alignment);
        else if (arena_grow(arena, need, size))
            return NULL;
        if (arena->is_live && !found) (void)arena_live_reserve(arena, size, alignment);
        if (!found) found = arena_place(arena, size, alignment);
    }
    assert(found != 0);
    arena->bump->current = found;
    return (void *)found;
}

void *evh_arena_alloc_slow(evh_arena *arena, size_t size, size_t alignment)
{
    if (arena_usable(arena)) return NULL;
    if (alignment == 0) alignment = arena->bump->alignment;
    if (!base_is_power_of_two(alignment) || alignment > SEGMENT_BYTES) {
        (void)debug_misuse(arena->debug ? arena->options.misuse : EVH_MISUSE_STATUS, EVH_INVALID,
                           NO_OFFSET, "arena '%s': an alignment of %zu: no power of two to 64 MiB",
                           arena->name, alignment);
        return NULL;
    }
    assert(base_is_power_of_two(alignment));
    assert(!arena->is_stale);
    if (arena->options.is_shared) return arena_shared_alloc(arena, size, alignment);
    if (arena->debug) return arena_debug_alloc(arena, size, alignment);
    void *memory = arena_bump(arena, size, alignment);
    if (memory && !arena->heap) os_annotate_open(memory, size);
    return memory;
}

/* ---- making and ending ---- */

/* Whether the inline way must stay closed: somebody has to see each allocation. */
static bool arena_is_watched(const evh_arena *arena)
{
    assert(!arena->options.is_shared || !arena->heap);
    assert(arena != NULL);
    return arena->options.is_shared || arena->debug || (!arena->options.heap && os_is_annotated());
}

evh_arena *arena_new(const evh_arena_options *given)
{
    const evh_arena_options options = given ? *given : (evh_arena_options){0};
    struct debug_settings settings;
    char name[EVH_OBJECT_NAME_MAX + 1];
    object_set_name(name, options.name, "arena");
    if (arena_check_options(name, &options)) return NULL;
    if (debug_read(options.debug, name, &settings)) return NULL;
    evh_arena *arena = os->memory_allocate(sizeof *arena);
    if (!arena) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "arena '%s': no memory", name);
        return NULL;
    }
    static uint32_t last_id; /* atomic */
    memcpy(arena->name, name, sizeof name);
    arena->options = options;
    arena->options.name = arena->name;
    arena->options.debug = NULL;
    arena->heap = options.heap;
    arena->is_live = options.heap && options.heap->live;
    arena->is_fixed = options.is_fixed || options.buffer;
    arena->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
    arena->stamp = arena_new_stamp();
    if (settings.letters & DEBUG_REPORT_ONLY) arena->options.misuse = EVH_MISUSE_STATUS;
    if (!options.keep_bytes) arena->options.keep_bytes = ARENA_KEEP_BYTES;
    arena->next_bytes = options.size_bytes ? options.size_bytes : ARENA_CHUNK_FIRST_BYTES;
    arena->next_bytes = base_max(arena->next_bytes, ARENA_CHUNK_MIN_BYTES);
    const uintptr_t alignment = options.alignment ? options.alignment : 16;
    arena->view = (struct evh_arena_view){ARENA_CLOSED_CURSOR, UINTPTR_MAX, alignment};
    arena->hidden = arena->view;
    arena->bump = &arena->view;
    if ((settings.letters & ~(unsigned)DEBUG_REPORT_ONLY) && arena_debug_create(arena, &settings)) {
        os->memory_free(arena);
        return NULL;
    }
    if (arena_is_watched(arena)) arena->bump = &arena->hidden;
    assert(arena->chunk == NULL);
    assert(base_is_power_of_two(arena->bump->alignment));
    if (arena->options.is_shared) fork_add(&arena->fork, &arena->lock);
    return arena;
}

void arena_free(evh_arena *arena)
{
    assert(arena->hooked == NULL);
    assert(arena != NULL);
    if (arena->debug) arena_debug_end(arena);
    if (arena->options.is_shared) fork_remove(&arena->fork);
    struct arena_chunk *chunk = arena->chunk;
    arena->chunk = NULL;
    while (chunk) {
        struct arena_chunk *previous = chunk->previous;
        arena_end_chunk(arena, chunk);
        chunk = previous;
    }
    arena_end_chunk(arena, arena->spare);
    os->memory_free(arena);
}

/* The caller's buffer is the only chunk. */
static evh_status arena_use_buffer(evh_arena *arena)
{
    assert(arena->options.buffer != NULL);
    assert(arena->chunk == NULL);
    struct arena_chunk *chunk = os->memory_allocate(sizeof *chunk);
    if (!chunk) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "arena '%s': no memory", arena->name);
    chunk->start = (uintptr_t)arena->options.buffer;
    chunk->end = chunk->start + arena->options.size_bytes;
    if (chunk->end < chunk->start) {
        os->memory_free(chunk);
        return arena_refuse(arena->name, "the buffer ends behind all memory");
    }
    chunk->low = chunk->end;
    arena->chunk = chunk;
    arena->chunk_count = 1;
    arena_close_bytes(arena, chunk->start, chunk->end);
    arena_set_cursor(arena, chunk, chunk->end);
    return EVH_OK;
}

evh_arena *evh_arena_create(const evh_arena_options *options)
{
    evh_arena *arena = arena_new(options);
    if (!arena) return NULL;
    evh_status status = arena->options.guards ? fault_install() : EVH_OK;
    assert(arena->record == 0);
    assert(!arena->options.buffer || arena->is_fixed);
    if (!status && arena->options.heap) status = arena_heap_create(arena);
    if (!status && arena->options.buffer)
        status = arena_use_buffer(arena);
    else if (!status && arena->is_fixed)
        status = arena_grow(arena, arena->next_bytes, arena->next_bytes);
    if (!status) return arena;
    (void)evh_arena_remove(arena);
    (void)status;
    return NULL;
}

void evh_arena_close(evh_arena *arena)
{
    if (!arena) return;
    assert(arena->bump != NULL);
    if (arena->options.heap) {
        arena_heap_close(arena);
        return;
    }
    arena_free(arena);
}
