/* arena_shared.c -- one arena for several threads: each takes a piece of it under the lock, and
 * allocates from that without one.
 *
 * A thread's piece lies in memory of the thread, in a slot that the arena's number chooses; two
 * arenas that meet in one waste each other's rests. It is valid if its stamp is the arena's: a
 * reset takes a new stamp, and so need not tell any thread.
 */
#include "arena/arena.h"

enum {
    SHARED_SLOTS =
        8, /* few: a library that is loaded later finds 1.6 KiB for all threads' variables */
    SHARED_PIECE_BYTES = 16 * 1024,
    SHARED_LARGE_BYTES = SHARED_PIECE_BYTES / 4, /* above, a block is no business of a piece */
};

struct shared_piece {
    uint64_t stamp;
    uintptr_t current, start;
};

static _Thread_local struct shared_piece shared_pieces[SHARED_SLOTS];

static void *shared_take(evh_arena *arena, size_t size, size_t alignment)
{
    assert(arena->options.is_shared);
    assert(base_is_power_of_two(alignment));
    heap_lock_take(&arena->lock);
    void *memory = arena->debug ? arena_debug_alloc(arena, size, alignment)
                                : arena_bump(arena, size, alignment);
    heap_lock_drop(&arena->lock);
    return memory;
}

void *arena_shared_alloc(evh_arena *arena, size_t size, size_t alignment)
{
    assert(arena->options.is_shared);
    assert(base_is_power_of_two(alignment));
    struct shared_piece *piece = &shared_pieces[arena->id % SHARED_SLOTS];
    if (piece->stamp == arena->stamp && size <= piece->current) {
        const uintptr_t found = (piece->current - size) & ~(uintptr_t)(alignment - 1);
        if (found >= piece->start) {
            piece->current = found;
            os_annotate_open((void *)found, size);
            return (void *)found;
        }
    }
    if (arena->debug || size > SHARED_LARGE_BYTES || alignment > SHARED_LARGE_BYTES ||
        arena->is_fixed) {
        void *memory = shared_take(arena, size, alignment);
        if (memory) os_annotate_open(memory, size);
        return memory;
    }
    const uintptr_t start = (uintptr_t)shared_take(arena, SHARED_PIECE_BYTES, EVH_LINE_BYTES);
    if (!start) return NULL;
    piece->stamp = arena->stamp;
    piece->start = start;
    piece->current = (start + SHARED_PIECE_BYTES - size) & ~(uintptr_t)(alignment - 1);
    os_annotate_open((void *)piece->current, size);
    return (void *)piece->current;
}
