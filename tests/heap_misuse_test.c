/* heap_misuse_test.c -- each misuse of a heap, in each mode, with its exact message. */
#include "support/misuse.h"

static evh_heap *open_heap(const struct misuse *misuse)
{
    evh_heap *heap = evh_open_memory(NULL, 0, &(evh_options){.debug = misuse->letters});
    must(heap != NULL);
    return heap;
}

static unsigned char small_buffer[16384];

static evh_heap *open_small(const struct misuse *misuse)
{
    evh_heap *heap = evh_open_memory(small_buffer, sizeof small_buffer,
                                     &(evh_options){.debug = misuse->letters});
    must(heap != NULL);
    return heap;
}

static unsigned char *block_of(evh_heap *heap, size_t size)
{
    evh_debug_here("maker");
    unsigned char *block = evh_malloc(heap, size);
    must(block != NULL);
    return block;
}

static void free_at(evh_heap *heap, void *block, const char *site)
{
    evh_debug_here(site);
    evh_free(heap, block);
}

static void free_twice(evh_heap *heap, size_t size)
{
    unsigned char *block = block_of(heap, size);
    evh_free(heap, block);
    evh_free(heap, block);
}

static void free_twice_at(evh_heap *heap, size_t size)
{
    unsigned char *block = block_of(heap, size);
    free_at(heap, block, "first");
    free_at(heap, block, "second");
}

static void free_inside(evh_heap *heap, size_t size, size_t at)
{
    evh_free(heap, block_of(heap, size) + at);
}

static void write_and_free(evh_heap *heap, size_t size, long at)
{
    unsigned char *block = block_of(heap, size);
    block[at] = 0;
    evh_free(heap, block);
}

/* ---- heaps: what is freed ---- */

MISUSE(heap_double_free, "heap", "double free", "", "at the second free", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: memory: @@ (offset @@): it is free already")
{
    free_twice(open_heap(misuse), 100);
}

MISUSE(heap_double_free_of_a_medium_block, "heap", "double free, 40 KiB", "", "at the second free",
       SIGABRT, "everheap: EVH_DOUBLE_FREE: memory: @@ (offset @@): it is free already")
{
    free_twice(open_heap(misuse), 40000);
}

MISUSE(heap_double_free_of_a_large_block, "heap", "double free, 1 MiB", "", "at the second free",
       SIGABRT, "everheap: EVH_DOUBLE_FREE: memory: @@ (offset @@): it is free already")
{
    free_twice(open_heap(misuse), 1 << 20);
}

MISUSE(heap_double_free_with_sites, "heap", "double free", "QS", "at the second free", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: memory: block @@: it is free already (made at maker, "
       "freed at first)")
{
    free_twice_at(open_heap(misuse), 100);
}

MISUSE(heap_double_free_in_quarantine, "heap", "double free", "Q", "at the second free", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: memory: block @@: it is free already")
{
    free_twice(open_heap(misuse), 100);
}

MISUSE(heap_double_free_after_the_quarantine, "heap", "double free, one free between", "Q1",
       "at the second free", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: memory: @@ (offset @@): it is free already")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    unsigned char *other = block_of(heap, 100);
    evh_free(heap, block);
    evh_free(heap, other);
    evh_free(heap, block);
}

MISUSE(heap_double_free_told, "heap", "double free", "R", "told by the status", 0,
       "EVH_DOUBLE_FREE: memory: @@ (offset @@): it is free already")
{
    free_twice(open_heap(misuse), 100);
}

MISUSE(heap_double_free_told_with_sites, "heap", "double free", "QSR", "told by the status", 0,
       "EVH_DOUBLE_FREE: memory: block @@: it is free already (made at maker, freed at "
       "first)")
{
    free_twice_at(open_heap(misuse), 100);
}

MISUSE(heap_foreign_free, "heap", "free of a foreign pointer", "", "at the free", SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char foreign[64];
    evh_free(heap, foreign);
}

MISUSE(heap_foreign_free_debugged, "heap", "free of a foreign pointer", "A", "at the free", SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char foreign[64];
    evh_free(heap, foreign);
}

MISUSE(heap_free_of_malloc, "heap", "free of what malloc() made", "", "at the free", SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    evh_heap *heap = open_heap(misuse);
    evh_free(heap, malloc(100));
}

MISUSE(heap_wrong_heap, "heap", "free in the wrong heap", "", "at the free", SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    evh_heap *heap = open_heap(misuse);
    evh_heap *other = open_heap(misuse);
    evh_free(other, block_of(heap, 100));
}

MISUSE(heap_wrong_heap_debugged, "heap", "free in the wrong heap", "A", "at the free", SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    evh_heap *heap = open_heap(misuse);
    evh_heap *other = open_heap(misuse);
    evh_free(other, block_of(heap, 100));
}

MISUSE(heap_interior_free, "heap", "free of a pointer into a block", "", "at the free", SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    free_inside(open_heap(misuse), 100, 16);
}

MISUSE(heap_interior_free_by_one, "heap", "free of a pointer into a block, by 1", "", "at the free",
       SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    free_inside(open_heap(misuse), 100, 1);
}

MISUSE(heap_interior_free_of_a_large_block, "heap", "free of a pointer into 1 MiB", "",
       "at the free", SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    free_inside(open_heap(misuse), 1 << 20, 65536);
}

MISUSE(heap_interior_free_debugged, "heap", "free of a pointer into a block", "A", "at the free",
       SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    free_inside(open_heap(misuse), 100, 16);
}

MISUSE(heap_free_of_its_start, "heap", "free of the heap's first byte", "", "at the free", SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    evh_free(heap, block - evh_ref_to(heap, block).offset + 4096);
}

MISUSE(heap_realloc_of_a_free_block, "heap", "realloc of a free block", "", "at the realloc",
       SIGABRT, "everheap: EVH_DOUBLE_FREE: memory: @@ (offset @@): it is free already")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    evh_free(heap, block);
    must(evh_realloc(heap, block, 200) != NULL);
}

MISUSE(heap_realloc_of_a_foreign_pointer, "heap", "realloc of a foreign pointer", "",
       "at the realloc", SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char foreign[64];
    must(evh_realloc(heap, foreign, 200) != NULL);
}

MISUSE(heap_realloc_of_the_old_pointer, "heap", "use of the pointer before a realloc", "QS",
       "at the free", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: memory: block @@: it is free already (made at maker, "
       "freed at ?)")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    must(evh_realloc(heap, block, 101) != NULL);
    free_at(heap, block, "late");
}

MISUSE(heap_unaligned, "heap", "an alignment of 24", "", "told by the status", 0,
       "EVH_INVALID: memory: an alignment of 24: no power of two to 64 MiB")
{
    evh_heap *heap = open_heap(misuse);
    (void)evh_aligned_alloc(heap, 24, 100);
}

MISUSE(small_heap_double_free, "small heap", "double free", "", "at the second free", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: memory: @@ (offset @@): it is free already")
{
    free_twice(open_small(misuse), 100);
}

MISUSE(small_heap_interior_free, "small heap", "free of a pointer into a block", "", "at the free",
       SIGABRT,
       "everheap: EVH_BAD_POINTER: memory: @@ (offset @@): no block of this heap begins "
       "there")
{
    free_inside(open_small(misuse), 100, 16);
}

MISUSE(small_heap_overflow, "small heap", "overflow by 1", "C", "at the free", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 100 was "
       "written")
{
    write_and_free(open_small(misuse), 100, 100);
}

MISUSE(small_heap_double_free_in_quarantine, "small heap", "double free", "QS",
       "at the second free", SIGABRT,
       "everheap: EVH_DOUBLE_FREE: memory: block @@: it is free already (made at maker, "
       "freed at first)")
{
    free_twice_at(open_small(misuse), 100);
}

/* ---- heaps: what is written ---- */

MISUSE(heap_overflow_by_1, "heap", "overflow by 1", "C", "at the free", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 100 was "
       "written")
{
    write_and_free(open_heap(misuse), 100, 100);
}

MISUSE(heap_overflow_by_8, "heap", "overflow by 8", "C", "at the free", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 7 behind its 100 was "
       "written")
{
    write_and_free(open_heap(misuse), 100, 107);
}

MISUSE(heap_overflow_of_a_full_class, "heap", "overflow by 1 of 64 bytes", "C", "at the free",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 64 was "
       "written")
{
    write_and_free(open_heap(misuse), 64, 64);
}

MISUSE(heap_overflow_of_a_large_block, "heap", "overflow by 1 of 1 MiB", "C", "at the free",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 1048576 "
       "was written")
{
    write_and_free(open_heap(misuse), 1 << 20, 1 << 20);
}

MISUSE(heap_overflow_with_sites, "heap", "overflow by 1", "CS", "at the free", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 100 was "
       "written (made at maker)")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    block[100] = 0;
    free_at(heap, block, "free");
}

MISUSE(heap_overflow_found_by_a_check, "heap", "overflow by 1", "C", "at evh_debug_check()",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 100 was "
       "written")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    block[100] = 0;
    (void)evh_debug_check(heap);
}

MISUSE(heap_overflow_found_by_the_next_operation, "heap", "overflow by 1", "CX1",
       "at the next operation", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 100 was "
       "written")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    block[100] = 0;
    (void)block_of(heap, 5000);
}

MISUSE(heap_overflow_found_at_the_close, "heap", "overflow by 1", "C", "at the close", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 100 was "
       "written")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    block[100] = 0;
    evh_close(heap);
}

MISUSE(heap_overflow_told, "heap", "overflow by 1", "CR", "told by the status", 0,
       "EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 100 was written")
{
    write_and_free(open_heap(misuse), 100, 100);
}

MISUSE(heap_underflow_by_1, "heap", "underflow by 1", "C", "at the free", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: underflow: byte 1 before it was "
       "written, which is byte 27 behind block @@")
{
    evh_heap *heap = open_heap(misuse);
    (void)block_of(heap, 100);
    unsigned char *block = block_of(heap, 100);
    block[-1] = 0;
    evh_free(heap, block);
}

MISUSE(heap_underflow_by_8, "heap", "underflow by 8", "C", "at the free", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: underflow: byte 8 before it was "
       "written, which is byte 20 behind block @@")
{
    evh_heap *heap = open_heap(misuse);
    (void)block_of(heap, 100);
    unsigned char *block = block_of(heap, 100);
    block[-8] = 0;
    evh_free(heap, block);
}

MISUSE(heap_overflow_into_a_guard, "heap", "overflow by 1 of 4096 bytes", "G", "at the access",
       SIGSEGV, "everheap: heap overflow: memory: an access 0 bytes behind a block of 4096")
{
    evh_heap *heap = open_heap(misuse);
    *(volatile unsigned char *)(block_of(heap, 4096) + 4096) = 0;
}

MISUSE(heap_overflow_into_a_guard_with_sites, "heap", "overflow by 8 of 1 MiB", "GS",
       "at the access", SIGSEGV,
       "everheap: heap overflow: memory: an access 7 bytes behind a block of 1048576 (made at "
       "maker)")
{
    evh_heap *heap = open_heap(misuse);
    *(volatile unsigned char *)(block_of(heap, 1 << 20) + (1 << 20) + 7) = 0;
}

MISUSE(heap_overflow_before_a_guard, "heap", "overflow by 1 of 100 bytes", "CG", "at the free",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: overflow: byte 0 behind its 100 was "
       "written")
{
    write_and_free(open_heap(misuse), 100, 100);
}

MISUSE(heap_read_of_a_closed_block, "heap", "read after free", "GQ", "at the access", SIGSEGV,
       "everheap: heap use after free: memory: an access 5 bytes into a freed block of 100")
{
    evh_heap *heap = open_heap(misuse);
    const volatile unsigned char *block = block_of(heap, 100);
    evh_free(heap, (void *)(uintptr_t)block);
    fprintf(stderr, "read %x\n", block[5]);
}

MISUSE(heap_write_to_a_closed_block, "heap", "write after free", "GQS", "at the access", SIGSEGV,
       "everheap: heap use after free: memory: an access 99999 bytes into a freed block of 100000 "
       "(made at maker, freed at first)")
{
    evh_heap *heap = open_heap(misuse);
    volatile unsigned char *block = block_of(heap, 100000);
    free_at(heap, (void *)(uintptr_t)block, "first");
    block[99999] = 0;
}

MISUSE(small_heap_with_guards, "small heap", "guard pages", "G", "told by the status", 0,
       "EVH_MODE: memory: guard pages (letter G) are for heaps in the system's memory and those "
       "opened with EVH_PRIVATE")
{
    must(evh_open_memory(small_buffer, sizeof small_buffer,
                         &(evh_options){.debug = misuse->letters}) == NULL);
}

MISUSE(heap_write_after_free, "heap", "write after free", "J", "when the block is used again",
       SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: use after free: byte 5 of 100 was "
       "written")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    evh_free(heap, block);
    block[5] = 0;
    for (unsigned i = 0; i < 20; i++) evh_free(heap, block_of(heap, 100));
}

MISUSE(heap_write_after_free_with_sites, "heap", "write after free", "JS", "at the close", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: use after free: byte 5 of 100 was "
       "written (made at maker, freed at first)")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    free_at(heap, block, "first");
    block[5] = 0;
    evh_close(heap);
}

MISUSE(heap_write_after_free_found_by_the_next_operation, "heap", "write after free", "JX1",
       "at the next operation", SIGABRT,
       "everheap: EVH_OVERWRITTEN: memory: block @@: use after free: byte 99 of 100 was "
       "written")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    evh_free(heap, block);
    block[99] = 0;
    (void)block_of(heap, 5000);
}

MISUSE(heap_read_after_free, "heap", "read after free", "J", "reads 0xdf", 0, "read df df")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    block[0] = block[99] = 1;
    evh_free(heap, block);
    fprintf(stderr, "read %x %x\n", block[0], block[99]);
}

MISUSE(heap_read_before_write, "heap", "read of what was never written", "J", "reads 0xd0", 0,
       "read d0 d0")
{
    evh_heap *heap = open_heap(misuse);
    unsigned char *block = block_of(heap, 100);
    fprintf(stderr, "read %x %x\n", block[0], block[99]);
}

/* ---- heaps: what is left ---- */

MISUSE(heap_leaks, "heap", "2 blocks never freed", "L", "at the close", 0,
       "everheap: memory: 2 blocks were never freed, and nothing refers to them\neverheap:  "
       " leak: block @@ of 100 bytes\neverheap:   leak: block @@ of 100 bytes")
{
    evh_heap *heap = open_heap(misuse);
    (void)block_of(heap, 100);
    (void)block_of(heap, 100);
    evh_ref *root = evh_root(heap, "kept", sizeof *root);
    must(root && !evh_malloc_to(heap, root, 50));
    evh_close(heap);
}

MISUSE(heap_leak_with_site, "heap", "1 block never freed", "LS", "at the close", 0,
       "everheap: memory: 1 blocks were never freed, and nothing refers to them\neverheap:  "
       " leak: block @@ of 100 bytes, made at maker")
{
    evh_heap *heap = open_heap(misuse);
    (void)block_of(heap, 100);
    evh_close(heap);
}

MISUSE(heap_region, "heap", "a region that no block holds", "", "at evh_debug_validate()", 0,
       "EVH_BAD_POINTER: memory: no live block holds @@ and 200 bytes")
{
    evh_heap *heap = open_heap(misuse);
    (void)evh_debug_validate(heap, block_of(heap, 100), 200, NULL);
}

TEST(the_table_in_the_documentation_is_what_these_tests_show)
{
    misuse_check_table();
}
