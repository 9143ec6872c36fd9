/* arena_debug.c -- an arena that is debugged: canaries around blocks, junk, exact marks.
 *
 * Each block is laid out as canary, block, canary; the canary before it fills what alignment
 * leaves. The blocks are known in the order in which they were made, so that a release verifies the
 * last ones and forgets them.
 */
#include "arena/arena.h"

#include <stdio.h>

evh_status arena_debug_create(evh_arena *arena, const struct debug_settings *settings)
{
    assert(arena->debug == NULL);
    assert(settings->letters != 0);
    struct arena_debug *debug = os->memory_allocate(sizeof *debug);
    if (!debug) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "arena '%s': no memory", arena->name);
    debug->settings = *settings;
    arena->debug = debug;
    return EVH_OK;
}

static bool arena_debug_has(const evh_arena *arena, unsigned letter)
{
    assert(arena->debug != NULL);
    assert(letter != 0);
    return (arena->debug->settings.letters & letter) != 0;
}

/* One more element in an array that grows; NULL without memory. */
static void *arena_debug_push(void **array, size_t *count, size_t *limit, size_t size)
{
    assert(*count <= *limit);
    assert(size > 0);
    if (*count == *limit) {
        const size_t larger = *limit ? *limit * 2 : 64;
        void *grown = os->memory_resize(*array, larger * size);
        if (!grown) return NULL;
        *array = grown;
        *limit = larger;
    }
    return (unsigned char *)*array + (*count)++ * size;
}

/* ---- verifying ---- */

/* A text for messages: what is known of a block. */
struct arena_debug_text {
    char text[160];
};

static struct arena_debug_text arena_debug_text(const evh_arena *arena,
                                                const struct debug_block *block)
{
    struct arena_debug_text made;
    assert(block->key != 0);
    if (arena_debug_has(arena, DEBUG_SITES))
        (void)snprintf(made.text, sizeof made.text, "block of %llu bytes made at %s",
                       (unsigned long long)block->size, block->made_at);
    else
        (void)snprintf(made.text, sizeof made.text, "block of %llu bytes",
                       (unsigned long long)block->size);
    assert(made.text[0] != 0);
    return made;
}

static evh_status arena_debug_verify(evh_arena *arena, const struct debug_block *block)
{
    size_t first = 0;
    assert(arena_debug_has(arena, DEBUG_CANARY));
    assert(block->key > DEBUG_CANARY_BYTES);
    const unsigned char *address = (const unsigned char *)(uintptr_t)block->key;
    if (!arena->heap)
        os_annotate_defined(address - DEBUG_CANARY_BYTES, block->size + 2 * DEBUG_CANARY_BYTES);
    if (!debug_has_canary(address + block->size, DEBUG_CANARY_BYTES, &first))
        return debug_misuse(arena->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                            "arena '%s': overflow: byte %zu behind a %s was written", arena->name,
                            first, arena_debug_text(arena, block).text);
    if (!debug_has_canary(address - DEBUG_CANARY_BYTES, DEBUG_CANARY_BYTES, &first))
        return debug_misuse(arena->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                            "arena '%s': underflow: byte %zu before a %s was written", arena->name,
                            DEBUG_CANARY_BYTES - first, arena_debug_text(arena, block).text);
    return EVH_OK;
}

/* The header and the footer of the chunks. */
static evh_status arena_debug_verify_edges(evh_arena *arena)
{
    size_t first = 0;
    assert(arena_debug_has(arena, DEBUG_CANARY));
    assert(arena->debug != NULL);
    for (const struct arena_chunk *chunk = arena->chunk; chunk; chunk = chunk->previous) {
        if (!chunk->mapping) continue;
        if (!debug_has_canary((const void *)(chunk->start - ARENA_EDGE_BYTES), ARENA_EDGE_BYTES,
                              &first))
            return debug_misuse(arena->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                                "arena '%s': byte %zu of a chunk's header was written", arena->name,
                                first);
        if (!debug_has_canary((const void *)chunk->end, ARENA_EDGE_BYTES, &first))
            return debug_misuse(arena->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                                "arena '%s': byte %zu of a chunk's footer was written", arena->name,
                                first);
    }
    return EVH_OK;
}

evh_status arena_debug_check(evh_arena *arena, size_t first)
{
    assert(arena->debug != NULL);
    const struct arena_debug *debug = arena->debug;
    if (!arena_debug_has(arena, DEBUG_CANARY)) return EVH_OK;
    evh_status status = arena_debug_verify_edges(arena);
    for (size_t i = debug->count; i > first && !status; i--)
        status = arena_debug_verify(arena, &debug->blocks[i - 1]);
    assert(status == EVH_OK || evh_last_error()->status == status);
    return status;
}

void arena_debug_edges(evh_arena *arena, struct arena_chunk *chunk)
{
    assert(chunk->mapping != NULL);
    assert(chunk->start < chunk->end);
    if (!arena_debug_has(arena, DEBUG_CANARY)) return;
    debug_set_canary((void *)(chunk->start - ARENA_EDGE_BYTES), ARENA_EDGE_BYTES);
    debug_set_canary((void *)chunk->end, ARENA_EDGE_BYTES);
}

/* ---- junk ---- */

/* What lies between the deepest cursor and the present one was junked when it was released. */
static evh_status arena_debug_verify_junk(evh_arena *arena, uintptr_t first, uintptr_t end)
{
    size_t changed = 0;
    assert(first <= end);
    const struct arena_chunk *chunk = arena->chunk;
    assert(chunk != NULL);
    if (!arena_debug_has(arena, DEBUG_JUNK)) return EVH_OK;
    if (first < chunk->low) first = chunk->low;
    if (end <= first) return EVH_OK;
    os_annotate_defined((const void *)first, end - first);
    if (debug_is_filled((const void *)first, end - first, DEBUG_FREE_BYTE, &changed)) return EVH_OK;
    return debug_misuse(arena->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                        "arena '%s': use after release: a byte of released memory, %zu below the "
                        "cursor, was written",
                        arena->name, (size_t)(end - first - changed));
}

void arena_debug_junk(evh_arena *arena, struct arena_chunk *chunk, uintptr_t current)
{
    assert(current >= chunk->start);
    assert(current <= chunk->end);
    if (!arena_debug_has(arena, DEBUG_JUNK) || chunk->low >= current) return;
    os_annotate_open((void *)chunk->low, current - chunk->low);
    memset((void *)chunk->low, DEBUG_FREE_BYTE, current - chunk->low);
}

/* ---- allocating ---- */

static void arena_debug_every(evh_arena *arena)
{
    struct arena_debug *debug = arena->debug;
    assert(debug != NULL);
    assert(debug->settings.verify_every > 0);
    debug->operations++;
    if (!arena_debug_has(arena, DEBUG_EVERY)) return;
    if (debug->operations % debug->settings.verify_every == 0) (void)arena_debug_check(arena, 0);
}

void *arena_debug_alloc(evh_arena *arena, size_t size, size_t alignment)
{
    struct arena_debug *debug = arena->debug;
    assert(debug != NULL);
    assert(base_is_power_of_two(alignment));
    const char *site = debug_take_site();
    arena_debug_every(arena);
    const size_t canary = arena_debug_has(arena, DEBUG_CANARY) ? DEBUG_CANARY_BYTES : 0;
    size_t total = 0;
    if (__builtin_add_overflow(size, 2 * canary + alignment, &total)) total = SIZE_MAX;
    const struct arena_chunk *before = arena->chunk;
    const uintptr_t end = before ? arena_cursor(arena) : 0;
    unsigned char *place = arena_bump(arena, total, 1);
    if (!place) return NULL;
    const uintptr_t high = arena->chunk == before ? end : arena->chunk->end;
    if (arena_debug_verify_junk(arena, (uintptr_t)place, high)) return NULL;
    if ((uintptr_t)place < arena->chunk->low) arena->chunk->low = (uintptr_t)place;
    os_annotate_open(place, total);
    /* The block as high as it may lie: its end is then as near to its canary as it can be. */
    unsigned char *block = (unsigned char *)((high - canary - size) & ~(uintptr_t)(alignment - 1));
    assert(block >= place + canary);
    if (canary) debug_set_canary(place, (size_t)(block - place));
    if (canary) debug_set_canary(block + size, (size_t)(high - (uintptr_t)block - size));
    if (arena_debug_has(arena, DEBUG_JUNK)) memset(block, DEBUG_NEW_BYTE, size);
    if (arena_debug_has(arena, DEBUG_LOG)) (void)debug_log("alloc", arena->name, block, size, site);
    struct debug_block *made =
        arena_debug_push((void **)&debug->blocks, &debug->count, &debug->limit, sizeof *made);
    if (made)
        *made = (struct debug_block){.key = (uintptr_t)block,
                                     .size = size,
                                     .made_at = site,
                                     .operation = debug->operations,
                                     .thread = debug_thread()};
    arena_close_bytes(arena, (uintptr_t)place, (uintptr_t)block);
    return block;
}

/* ---- marks and releases ---- */

uint64_t arena_debug_mark(evh_arena *arena)
{
    struct arena_debug *debug = arena->debug;
    assert(debug != NULL);
    if (debug->mark_count && debug->marks[debug->mark_count - 1].count == debug->count)
        return debug->marks[debug->mark_count - 1].serial; /* nothing happened in between */
    struct arena_debug_mark *mark = arena_debug_push((void **)&debug->marks, &debug->mark_count,
                                                     &debug->mark_limit, sizeof *mark);
    if (!mark) return UINT64_MAX; /* no memory: a mark that releases nothing */
    mark->serial = ++debug->serial;
    mark->count = debug->count;
    assert(mark->serial != 0);
    return mark->serial;
}

evh_status arena_debug_release(evh_arena *arena, uint64_t serial)
{
    struct arena_debug *debug = arena->debug;
    assert(debug != NULL);
    assert(serial != 0);
    if (serial == UINT64_MAX)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "arena '%s': no memory to remember this mark",
                         arena->name);
    size_t at = debug->mark_count;
    while (at > 0 && debug->marks[at - 1].serial != serial) at--;
    if (at == 0) return EVH_STALE;
    const struct arena_debug_mark mark = debug->marks[at - 1];
    const evh_status status = arena_debug_check(arena, mark.count);
    if (status) return status;
    debug->mark_count = at;
    debug->count = mark.count;
    if (arena_debug_has(arena, DEBUG_LOG))
        (void)debug_log("release", arena->name, NULL, 0, debug_take_site());
    return EVH_OK;
}

void arena_debug_reset(evh_arena *arena)
{
    assert(arena->bump == &arena->hidden);
    assert(arena->debug != NULL);
    (void)arena_debug_check(arena, 0);
    arena->debug->count = 0;
    arena->debug->mark_count = 0;
    if (arena_debug_has(arena, DEBUG_LOG))
        (void)debug_log("reset", arena->name, NULL, 0, debug_take_site());
}

void arena_debug_end(evh_arena *arena)
{
    struct arena_debug *debug = arena->debug;
    assert(debug != NULL);
    if (!arena->is_stale) (void)arena_debug_check(arena, 0);
    arena->debug = NULL;
    os->memory_free(debug->blocks);
    os->memory_free(debug->marks);
    os->memory_free(debug);
    assert(arena->debug == NULL);
}
