/* arena_misuse_test.c -- each misuse of arenas, pools and stacks, with its exact message. */
#include "support/misuse.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>

static const struct misuse no_letters = {.letters = ""};

static evh_heap *open_heap(const struct misuse *misuse)
{
    evh_heap *heap = evh_open_memory(NULL, 0, &(evh_options){.debug = misuse->letters});
    must(heap != NULL);
    return heap;
}

static evh_arena *open_arena(const struct misuse *misuse)
{
    evh_arena *arena =
        evh_arena_create(&(evh_arena_options){.name = "frame", .debug = misuse->letters});
    must(arena != NULL);
    return arena;
}

static unsigned char *arena_block(evh_arena *arena, size_t size)
{
    evh_debug_here("maker");
    unsigned char *block = evh_arena_alloc(arena, size, 16);
    must(block != NULL);
    return block;
}

static evh_pool *open_pool(const struct misuse *misuse, evh_heap *heap)
{
    evh_pool *pool = evh_pool_create(&(evh_pool_options){
        .size_bytes = 48, .name = "nodes", .heap = heap, .debug = misuse->letters});
    must(pool != NULL);
    return pool;
}

static unsigned char *pool_block(evh_pool *pool)
{
    evh_debug_here("maker");
    unsigned char *block = evh_pool_get(pool);
    must(block != NULL);
    return block;
}

static void put_at(evh_pool *pool, void *block, const char *site)
{
    evh_debug_here(site);
    evh_pool_put(pool, block);
}

static void put_twice_at(evh_pool *pool)
{
    unsigned char *block = pool_block(pool);
    put_at(pool, block, "first");
    put_at(pool, block, "second");
}

static void write_and_put(evh_pool *pool, long at)
{
    unsigned char *block = pool_block(pool);
    block[at] = 0;
    evh_pool_put(pool, block);
}

static evh_stack *open_stack(const struct misuse *misuse, evh_guard guard, evh_stacks **stacks)
{
    *stacks = evh_stacks_create(
        &(evh_stacks_options){.name = "fibers", .guard = guard, .debug = misuse->letters});
    if (!*stacks &&
        guard == EVH_GUARD_MARK) { /* this kernel has none: the other kind says the same */
        *stacks = evh_stacks_create(&(evh_stacks_options){
            .name = "fibers", .guard = EVH_GUARD_PROTECT, .debug = misuse->letters});
    }
    must(*stacks != NULL);
    evh_stack *stack = evh_stack_get(*stacks);
    must(stack != NULL);
    snprintf(stack->label, sizeof stack->label, "parser");
    return stack;
}

/* ---- arenas ---- */

MISUSE(arena_stale_mark, "arena", "release of a mark above the cursor", "", "at the release",
       SIGABRT,
       "everheap: EVH_STALE: arena 'frame': a mark that has ended: it was released below "
       "it, or reset")
{
    evh_arena *arena = open_arena(misuse);
    const evh_mark first = evh_arena_mark(arena);
    (void)arena_block(arena, 10);
    const evh_mark later = evh_arena_mark(arena);
    (void)evh_arena_release(arena, first);
    (void)evh_arena_release(arena, later);
}

MISUSE(arena_stale_mark_told, "arena", "release of a mark above the cursor", "R",
       "told by the status", 0,
       "EVH_STALE: arena 'frame': a mark that has ended: it was released below it, or reset")
{
    evh_arena *arena = open_arena(misuse);
    (void)arena_block(arena, 10);
    const evh_mark first = evh_arena_mark(arena);
    (void)arena_block(arena, 10);
    const evh_mark later = evh_arena_mark(arena);
    (void)evh_arena_release(arena, first);
    (void)evh_arena_release(arena, later);
}

MISUSE(arena_stale_mark_after_new_allocations, "arena",
       "release of a mark that ended, cursor below it again", "V", "at the release", SIGABRT,
       "everheap: EVH_STALE: arena 'frame': a mark that has ended: it was released below "
       "it, or reset")
{
    evh_arena *arena = open_arena(misuse);
    const evh_mark first = evh_arena_mark(arena);
    (void)arena_block(arena, 10);
    const evh_mark later = evh_arena_mark(arena);
    (void)evh_arena_release(arena, first);
    (void)arena_block(arena, 500);
    (void)evh_arena_release(arena, later);
}

MISUSE(arena_mark_before_a_reset, "arena", "release of a mark from before a reset", "",
       "at the release", SIGABRT,
       "everheap: EVH_STALE: arena 'frame': a mark that has ended: it was released below "
       "it, or reset")
{
    evh_arena *arena = open_arena(misuse);
    (void)arena_block(arena, 10);
    const evh_mark mark = evh_arena_mark(arena);
    evh_arena_reset(arena);
    (void)arena_block(arena, 100);
    (void)evh_arena_release(arena, mark);
}

MISUSE(arena_mark_of_another, "arena", "release of another arena's mark", "", "at the release",
       SIGABRT,
       "everheap: EVH_STALE: arena 'frame': a mark that has ended: it was released below "
       "it, or reset")
{
    evh_arena *arena = open_arena(misuse);
    evh_arena *other = open_arena(misuse);
    (void)arena_block(arena, 10);
    (void)arena_block(other, 10);
    (void)evh_arena_release(arena, evh_arena_mark(other));
}

MISUSE(arena_overflow_by_1, "arena", "overflow by 1", "C", "at the reset", SIGABRT,
       "everheap: EVH_OVERWRITTEN: arena 'frame': overflow: byte 0 behind a block of 100 "
       "bytes was written")
{
    evh_arena *arena = open_arena(misuse);
    arena_block(arena, 100)[100] = 0;
    evh_arena_reset(arena);
}

MISUSE(arena_overflow_by_8, "arena", "overflow by 8", "C", "at the release", SIGABRT,
       "everheap: EVH_OVERWRITTEN: arena 'frame': overflow: byte 7 behind a block of 100 "
       "bytes was written")
{
    evh_arena *arena = open_arena(misuse);
    const evh_mark mark = evh_arena_mark(arena);
    arena_block(arena, 100)[107] = 0;
    (void)evh_arena_release(arena, mark);
}

MISUSE(arena_overflow_with_site, "arena", "overflow by 1", "CS", "at the close", SIGABRT,
       "everheap: EVH_OVERWRITTEN: arena 'frame': overflow: byte 0 behind a block of 100 "
       "bytes made at maker was written")
{
    evh_arena *arena = open_arena(misuse);
    arena_block(arena, 100)[100] = 0;
    evh_arena_close(arena);
}

MISUSE(arena_overflow_found_by_a_check, "arena", "overflow by 1", "C", "at evh_arena_check()",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: arena 'frame': overflow: byte 0 behind a block of 100 "
       "bytes was written")
{
    evh_arena *arena = open_arena(misuse);
    arena_block(arena, 100)[100] = 0;
    (void)evh_arena_check(arena);
}

MISUSE(arena_overflow_found_by_the_next_operation, "arena", "overflow by 1", "CX1",
       "at the next allocation", SIGABRT,
       "everheap: EVH_OVERWRITTEN: arena 'frame': overflow: byte 0 behind a block of 100 "
       "bytes was written")
{
    evh_arena *arena = open_arena(misuse);
    arena_block(arena, 100)[100] = 0;
    (void)arena_block(arena, 1);
}

MISUSE(arena_underflow_by_1, "arena", "underflow by 1", "C", "at the reset", SIGABRT,
       "everheap: EVH_OVERWRITTEN: arena 'frame': underflow: byte 1 before a block of 100 "
       "bytes was written")
{
    evh_arena *arena = open_arena(misuse);
    arena_block(arena, 100)[-1] = 0;
    evh_arena_reset(arena);
}

MISUSE(arena_underflow_by_8, "arena", "underflow by 8", "C", "at the reset", SIGABRT,
       "everheap: EVH_OVERWRITTEN: arena 'frame': underflow: byte 8 before a block of 100 "
       "bytes was written")
{
    evh_arena *arena = open_arena(misuse);
    arena_block(arena, 100)[-8] = 0;
    evh_arena_reset(arena);
}

MISUSE(arena_write_after_release, "arena", "write after release", "J", "at the next allocation",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: arena 'frame': use after release: a byte of released "
       "memory, 1 below the cursor, was written")
{
    evh_arena *arena = open_arena(misuse);
    (void)arena_block(arena, 16);
    const evh_mark mark = evh_arena_mark(arena);
    unsigned char *block = arena_block(arena, 96);
    (void)evh_arena_release(arena, mark);
    block[96 - 1] = 0;
    (void)arena_block(arena, 96);
}

MISUSE(arena_read_after_release, "arena", "read after release", "J", "reads 0xdf", 0, "read df")
{
    evh_arena *arena = open_arena(misuse);
    unsigned char *block = arena_block(arena, 100);
    evh_arena_reset(arena);
    fprintf(stderr, "read %x\n", block[50]);
}

MISUSE(arena_unaligned, "arena", "an alignment of 24", "", "told by the status", 0,
       "EVH_INVALID: arena 'frame': an alignment of 24: no power of two to 64 MiB")
{
    evh_arena *arena = open_arena(misuse);
    (void)evh_arena_alloc(arena, 10, 24);
}

MISUSE(arena_unaligned_debugged, "arena", "an alignment of 24", "V", "at the allocation", SIGABRT,
       "everheap: EVH_INVALID: arena 'frame': an alignment of 24: no power of two to 64 MiB")
{
    evh_arena *arena = open_arena(misuse);
    (void)evh_arena_alloc(arena, 10, 24);
}

MISUSE(arena_used_up, "arena", "a fixed arena that is used up", "", "told by the status", 0,
       "EVH_LIMIT: arena 'fixed': no room for 1 bytes: it has 4096 and may not grow")
{
    evh_arena *arena = evh_arena_create(
        &(evh_arena_options){.name = "fixed", .size_bytes = 4096, .is_fixed = true, .debug = ""});
    (void)arena_block(arena, 4096);
    (void)evh_arena_alloc(arena, 1, 1);
}

MISUSE(arena_overflow_into_its_guard, "arena", "overflow behind the last byte", "guards",
       "at the access", SIGSEGV,
       "everheap: arena overflow: 'guarded': an access in the guard behind it, 0 bytes from "
       "its end")
{
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.name = "guarded",
                                                             .size_bytes = 4096 - 128,
                                                             .is_fixed = true,
                                                             .guards = true,
                                                             .debug = ""});
    must(arena != NULL);
    *(volatile unsigned char *)(arena_block(arena, 16) + 16 + 64) = 0;
}

MISUSE(arena_underflow_into_its_guard, "arena", "underflow before the first byte", "guards",
       "at the access", SIGSEGV,
       "everheap: arena underflow: 'guarded': an access in the guard before it, 1 bytes "
       "from its start")
{
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.name = "guarded",
                                                             .size_bytes = 4096 - 128,
                                                             .is_fixed = true,
                                                             .guards = true,
                                                             .debug = ""});
    must(arena != NULL);
    *(volatile unsigned char *)(arena_block(arena, 4096 - 128) - 64 - 1) = 0;
}

MISUSE(arena_footer, "arena", "overflow of a chunk into its footer", "C", "at evh_arena_check()",
       SIGABRT, "everheap: EVH_OVERWRITTEN: arena 'frame': byte 2 of a chunk's footer was written")
{
    evh_arena *arena = open_arena(misuse);
    arena_block(arena, 100)[128 + 2] = 0;
    (void)evh_arena_check(arena);
}

MISUSE(arena_after_its_heap, "arena", "use after the heap was closed", "", "told by the status", 0,
       "EVH_STALE: arena 'arena': its heap was closed, or rolled back to before it was made")
{
    evh_heap *heap = open_heap(misuse);
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.heap = heap, .debug = ""});
    evh_close(heap);
    (void)evh_arena_alloc(arena, 10, 1);
}

static evh_heap *open_live(void)
{
    const evh_options options = {.mode = EVH_LIVE};
    evh_heap *heap = evh_open(test_path("live"), &options);
    must(heap != NULL);
    return heap;
}

MISUSE(live_pool_double_put, "pool in a live heap", "double put", "", "at the second put", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: pool 'nodes': @@: it is free already")
{
    evh_pool *pool = open_pool(misuse, open_live());
    unsigned char *block = pool_block(pool);
    evh_pool_put(pool, block);
    evh_pool_put(pool, block);
}

MISUSE(live_pool_interior_put, "pool in a live heap", "put of a pointer into a block", "",
       "at the put", SIGABRT,
       "everheap: EVH_BAD_POINTER: pool 'nodes': @@: no block of this pool begins there")
{
    evh_pool *pool = open_pool(misuse, open_live());
    evh_pool_put(pool, pool_block(pool) + 8);
}

MISUSE(live_pool_foreign_put, "pool in a live heap", "put of a foreign pointer", "R",
       "told by the status", 0,
       "EVH_BAD_POINTER: pool 'nodes': @@: no block of this pool begins there")
{
    evh_heap *heap = open_live();
    evh_pool *pool = open_pool(misuse, heap);
    evh_pool_put(pool, evh_malloc(heap, 48));
}

MISUSE(live_arena_overtaken, "arena in a live heap", "two handles, one overtaken", "",
       "told by the status", 0,
       "EVH_STALE: arena 'frame': another handle has used it since this one was opened")
{
    evh_heap *heap = open_live();
    evh_arena *arena = evh_arena_create(
        &(evh_arena_options){.heap = heap, .name = "frame", .debug = misuse->letters});
    (void)arena_block(arena, 10);
    evh_arena *other = evh_arena_open(heap, evh_arena_ref(arena), NULL);
    (void)arena_block(other, 10);
    must(evh_arena_alloc(arena, 10000, 1) == NULL);
}

/* ---- pools ---- */

MISUSE(heap_pool_double_put, "pool on a heap", "double put", "", "at the second put", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: pool 'nodes': @@: it is free already")
{
    evh_heap *heap = open_heap(misuse);
    put_twice_at(open_pool(misuse, heap));
}

MISUSE(heap_pool_foreign, "pool on a heap", "put of a foreign pointer", "", "at the put", SIGABRT,
       "everheap: EVH_BAD_POINTER: pool 'nodes': @@: no block of this pool begins there")
{
    evh_heap *heap = open_heap(misuse);
    evh_pool *pool = open_pool(misuse, heap);
    unsigned char foreign[64];
    (void)pool_block(pool);
    evh_pool_put(pool, foreign);
}

MISUSE(heap_pool_interior, "pool on a heap", "put of a pointer into a block", "", "at the put",
       SIGABRT, "everheap: EVH_BAD_POINTER: pool 'nodes': @@: no block of this pool begins there")
{
    evh_heap *heap = open_heap(misuse);
    evh_pool *pool = open_pool(misuse, heap);
    evh_pool_put(pool, pool_block(pool) + 8);
}

MISUSE(heap_pool_of_another, "pool on a heap", "put into the wrong pool", "", "at the put", SIGABRT,
       "everheap: EVH_BAD_POINTER: pool 'nodes': @@: no block of this pool begins there")
{
    evh_heap *heap = open_heap(misuse);
    evh_pool *pool = open_pool(misuse, heap);
    evh_pool *other = open_pool(misuse, heap);
    (void)pool_block(pool);
    evh_pool_put(pool, pool_block(other));
}

MISUSE(heap_pool_double_put_told, "pool on a heap", "double put", "R", "told by the status", 0,
       "EVH_DOUBLE_FREE: pool 'nodes': @@: it is free already")
{
    evh_heap *heap = open_heap(misuse);
    put_twice_at(open_pool(misuse, heap));
}

MISUSE(heap_pool_double_put_with_sites, "pool on a heap", "double put", "QS", "at the second put",
       SIGABRT,
       "everheap: EVH_DOUBLE_FREE: pool 'nodes': @@: it is free already (made at maker, "
       "freed at first)")
{
    evh_heap *heap = open_heap(misuse);
    put_twice_at(open_pool(misuse, heap));
}

MISUSE(heap_pool_write_after_put, "pool on a heap", "write after put", "JQ1",
       "when the block leaves quarantine", SIGABRT,
       "everheap: EVH_OVERWRITTEN: pool 'nodes': use after free: byte 9 of block @@ was "
       "written")
{
    evh_heap *heap = open_heap(misuse);
    evh_pool *pool = open_pool(misuse, heap);
    unsigned char *block = pool_block(pool);
    unsigned char *other = pool_block(pool);
    evh_pool_put(pool, block);
    block[9] = 0;
    evh_pool_put(pool, other);
}

MISUSE(pool_double_put, "pool", "double put", "V", "at the second put", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: pool 'nodes': @@: it is free already")
{
    put_twice_at(open_pool(misuse, NULL));
}

MISUSE(pool_double_put_with_sites, "pool", "double put", "QS", "at the second put", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: pool 'nodes': @@: it is free already (made at maker, "
       "freed at first)")
{
    put_twice_at(open_pool(misuse, NULL));
}

MISUSE(pool_double_put_told, "pool", "double put", "VR", "told by the status", 0,
       "EVH_DOUBLE_FREE: pool 'nodes': @@: it is free already")
{
    put_twice_at(open_pool(misuse, NULL));
}

MISUSE(pool_foreign, "pool", "put of a foreign pointer", "V", "at the put", SIGABRT,
       "everheap: EVH_BAD_POINTER: pool 'nodes': @@: no block of this pool begins there")
{
    evh_pool *pool = open_pool(misuse, NULL);
    unsigned char foreign[64];
    (void)pool_block(pool);
    evh_pool_put(pool, foreign);
}

MISUSE(pool_interior, "pool", "put of a pointer into a block", "V", "at the put", SIGABRT,
       "everheap: EVH_BAD_POINTER: pool 'nodes': @@: no block of this pool begins there")
{
    evh_pool *pool = open_pool(misuse, NULL);
    evh_pool_put(pool, pool_block(pool) + 8);
}

MISUSE(pool_of_another, "pool", "put into the wrong pool", "V", "at the put", SIGABRT,
       "everheap: EVH_BAD_POINTER: pool 'nodes': @@: no block of this pool begins there")
{
    evh_pool *pool = open_pool(misuse, NULL);
    evh_pool *other = open_pool(misuse, NULL);
    (void)pool_block(pool);
    evh_pool_put(pool, pool_block(other));
}

MISUSE(pool_overflow_by_1, "pool", "overflow by 1", "C", "at the put", SIGABRT,
       "everheap: EVH_OVERWRITTEN: pool 'nodes': overflow: byte 0 behind block @@ was "
       "written")
{
    write_and_put(open_pool(misuse, NULL), 48);
}

MISUSE(pool_overflow_by_8, "pool", "overflow by 8", "C", "at the put", SIGABRT,
       "everheap: EVH_OVERWRITTEN: pool 'nodes': overflow: byte 7 behind block @@ was "
       "written")
{
    write_and_put(open_pool(misuse, NULL), 55);
}

MISUSE(pool_underflow_by_1, "pool", "underflow by 1", "CS", "at the put", SIGABRT,
       "everheap: EVH_OVERWRITTEN: pool 'nodes': underflow: byte 1 before block @@ was "
       "written (made at maker)")
{
    write_and_put(open_pool(misuse, NULL), -1);
}

MISUSE(pool_underflow_by_8, "pool", "underflow by 8", "CX1", "at the next operation", SIGABRT,
       "everheap: EVH_OVERWRITTEN: pool 'nodes': underflow: byte 8 before block @@ was "
       "written")
{
    evh_pool *pool = open_pool(misuse, NULL);
    pool_block(pool)[-8] = 0;
    (void)pool_block(pool);
}

MISUSE(pool_write_after_put, "pool", "write after put", "J", "when the block is used again",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: pool 'nodes': use after free: byte 47 of block @@ was "
       "written")
{
    evh_pool *pool = open_pool(misuse, NULL);
    unsigned char *block = pool_block(pool);
    evh_pool_put(pool, block);
    block[47] = 0;
    (void)pool_block(pool);
}

MISUSE(pool_write_after_put_in_quarantine, "pool", "write after put", "JQS", "at the close",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: pool 'nodes': use after free: byte 0 of block @@ was "
       "written (made at maker, freed at first)")
{
    evh_pool *pool = open_pool(misuse, NULL);
    unsigned char *block = pool_block(pool);
    put_at(pool, block, "first");
    block[0] = 0;
    evh_pool_close(pool);
}

MISUSE(pool_read_after_put, "pool", "read after put", "J", "reads 0xdf", 0, "read df")
{
    evh_pool *pool = open_pool(misuse, NULL);
    unsigned char *block = pool_block(pool);
    evh_pool_put(pool, block);
    fprintf(stderr, "read %x\n", block[20]);
}

MISUSE(pool_overflow_into_a_guard, "pool", "overflow by 1", "G", "at the access", SIGSEGV,
       "everheap: block of pool overflow: 'nodes': an access in the guard behind it, 0 "
       "bytes from its end")
{
    evh_pool *pool = open_pool(misuse, NULL);
    *(volatile unsigned char *)(pool_block(pool) + 48) = 0;
}

MISUSE(pool_slab_overflow, "pool", "overflow behind the last block", "guards", "at the access",
       SIGSEGV,
       "everheap: pool overflow: 'slab': an access in the guard behind it, 0 bytes from its "
       "end")
{
    evh_pool *pool = evh_pool_create(&(evh_pool_options){.size_bytes = 4096,
                                                         .alignment = 4096,
                                                         .count_max = 1,
                                                         .guards = true,
                                                         .name = "slab",
                                                         .debug = ""});
    must(pool != NULL);
    *(volatile unsigned char *)(pool_block(pool) + 4096) = 0;
}

MISUSE(pool_exhausted, "pool", "more blocks than count_max", "", "told by the status", 0,
       "EVH_LIMIT: pool 'two': all of its 2 blocks are in use")
{
    evh_pool *pool = evh_pool_create(
        &(evh_pool_options){.size_bytes = 8, .count_max = 2, .name = "two", .debug = ""});
    (void)pool_block(pool);
    (void)pool_block(pool);
    (void)evh_pool_get(pool);
}

MISUSE(pool_leaks, "pool", "3 blocks never put", "L", "at the close", 0,
       "everheap: pool 'nodes': 3 blocks of 48 bytes were never put back")
{
    evh_pool *pool = open_pool(misuse, NULL);
    for (unsigned i = 0; i < 3; i++) (void)pool_block(pool);
    evh_pool_close(pool);
}

MISUSE(pool_leak_with_site, "pool", "1 block never put", "LS", "at the close", 0,
       "everheap: pool 'nodes': 1 blocks of 48 bytes were never put back\neverheap:   @@, "
       "made at maker, operation 1")
{
    evh_pool *pool = open_pool(misuse, NULL);
    (void)pool_block(pool);
    evh_pool_close(pool);
}

/* ---- stacks ---- */

MISUSE(stack_overflow_into_a_mark, "stack", "overflow by 1", "guard marks", "at the access",
       SIGSEGV,
       "everheap: stack overflow: 'parser' on stack 0 of 'fibers': an access 1 bytes below "
       "its 65536 bytes")
{
    evh_stacks *stacks = NULL;
    evh_stack *stack = open_stack(&no_letters, EVH_GUARD_MARK, &stacks);
    *((volatile unsigned char *)stack->base - 1) = 0;
}

MISUSE(stack_overflow_into_a_protected_page, "stack", "overflow by 1", "mprotect() guards",
       "at the access", SIGSEGV,
       "everheap: stack overflow: 'parser' on stack 0 of 'fibers': an access 1 bytes below "
       "its 65536 bytes")
{
    evh_stacks *stacks = NULL;
    evh_stack *stack = open_stack(&no_letters, EVH_GUARD_PROTECT, &stacks);
    *((volatile unsigned char *)stack->base - 1) = 0;
}

MISUSE(stack_overflow_by_a_page, "stack", "overflow by 4096", "guard marks", "at the access",
       SIGSEGV,
       "everheap: stack overflow: 'parser' on stack 0 of 'fibers': an access 4096 bytes "
       "below its 65536 bytes")
{
    evh_stacks *stacks = NULL;
    evh_stack *stack = open_stack(&no_letters, EVH_GUARD_MARK, &stacks);
    *((volatile unsigned char *)stack->base - 4096) = 0;
}

MISUSE(stack_underflow, "stack", "an access behind the last stack", "guard marks", "at the access",
       SIGSEGV,
       "everheap: stack underflow: stack 0 of 'one': an access 0 bytes above its 134217728 "
       "bytes")
{
    evh_stacks *stacks = evh_stacks_create(
        &(evh_stacks_options){.name = "one", .size_bytes = 128 << 20, .debug = ""});
    evh_stack *stack = evh_stack_get(stacks);
    must(stack != NULL);
    *((volatile unsigned char *)stack->base + stack->size_bytes) = 0;
}

/* Above it there is room for more stacks, which nobody had yet. */
MISUSE(stack_underflow_of_the_newest, "stack", "an access behind the newest stack", "guard marks",
       "at the access", SIGSEGV,
       "everheap: stack underflow: 'parser' on stack 0 of 'fibers': an access 8 bytes above its "
       "65536 bytes")
{
    evh_stacks *stacks = NULL;
    const evh_stack *stack = open_stack(&no_letters, EVH_GUARD_MARK, &stacks);
    *((volatile unsigned char *)stack->base + stack->size_bytes + 8) = 0;
}

MISUSE(stack_overflow_without_guard, "stack", "overflow without a guard", "C", "at the put",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: stacks 'fibers': stack 0 'parser' overflowed: byte 63 at "
       "its end was written")
{
    evh_stacks *stacks = NULL;
    evh_stack *stack = open_stack(misuse, EVH_GUARD_NONE, &stacks);
    ((unsigned char *)stack->base)[63] = 0;
    evh_stack_put(stacks, stack);
}

MISUSE(stack_double_put, "stack", "double put", "", "at the second put", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: stacks 'fibers': stack 0 'parser': it is free already")
{
    evh_stacks *stacks = NULL;
    evh_stack *stack = open_stack(misuse, EVH_GUARD_AUTO, &stacks);
    evh_stack_put(stacks, stack);
    evh_stack_put(stacks, stack);
}

MISUSE(stack_double_put_told, "stack", "double put", "R", "told by the status", 0,
       "EVH_DOUBLE_FREE: stacks 'fibers': stack 0 'parser': it is free already")
{
    evh_stacks *stacks = NULL;
    evh_stack *stack = open_stack(misuse, EVH_GUARD_AUTO, &stacks);
    evh_stack_put(stacks, stack);
    evh_stack_put(stacks, stack);
}

MISUSE(stack_of_others, "stack", "put into the wrong stacks", "", "at the put", SIGABRT,
       "everheap: EVH_BAD_POINTER: stacks 'fibers': @@: no stack of theirs")
{
    evh_stacks *stacks = NULL;
    evh_stack *stack = open_stack(misuse, EVH_GUARD_AUTO, &stacks);
    evh_stacks *others = NULL;
    must(open_stack(misuse, EVH_GUARD_AUTO, &others) != NULL);
    evh_stack_put(others, stack);
}

MISUSE(stack_leak, "stack", "1 stack never put", "L", "at the close", 0,
       "everheap: stacks 'fibers': 1 stacks were never put back\neverheap:   stack 0 "
       "'parser'")
{
    evh_stacks *stacks = NULL;
    evh_stack *stack = open_stack(misuse, EVH_GUARD_AUTO, &stacks);
    must(stack != NULL);
    evh_stacks_close(stacks);
}

MISUSE(stacks_exhausted, "stack", "more stacks than count_max", "", "told by the status", 0,
       "EVH_LIMIT: stacks 'one': all of its 1 stacks are in use")
{
    evh_stacks *stacks =
        evh_stacks_create(&(evh_stacks_options){.name = "one", .count_max = 1, .debug = ""});
    must(evh_stack_get(stacks) != NULL);
    (void)evh_stack_get(stacks);
}

/* ---- an overflow that happens, not one that is written ---- */

static unsigned recurse(unsigned depth)
{
    volatile unsigned char frame[256];
    frame[depth % 256] = (unsigned char)depth;
    return depth == UINT32_MAX ? 0 : recurse(depth + 1) + frame[depth % 200];
}

static void overflow_main(void)
{
    (void)recurse(0);
}

static void overflow_by_recursion(void)
{
    static ucontext_t here, there;
    evh_stacks *stacks = NULL;
    evh_stack *stack = open_stack(&no_letters, EVH_GUARD_AUTO, &stacks);
    getcontext(&there);
    there.uc_stack.ss_sp = stack->base;
    there.uc_stack.ss_size = stack->size_bytes;
    there.uc_link = &here;
    makecontext(&there, overflow_main, 0);
    swapcontext(&here, &there);
}

TEST(a_recursion_without_end_is_named)
{
#if defined(__SANITIZE_ADDRESS__)
    SKIP("AddressSanitizer finds this first");
#endif
    int ends[2];
    char output[512] = "";
    int status = 0;
    CHECK_EQUAL(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        dup2(ends[1], STDERR_FILENO);
        overflow_by_recursion();
        _exit(0);
    }
    close(ends[1]);
    CHECK(read(ends[0], output, sizeof output - 1) > 0);
    close(ends[0]);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    const char *expected = "everheap: stack overflow: 'parser' on stack 0 of 'fibers': an access ";
    CHECK(strncmp(output, expected, strlen(expected)) == 0);
}

TEST(the_table_in_the_documentation_is_what_these_tests_show)
{
    misuse_check_table();
}
