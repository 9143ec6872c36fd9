/* annotated_program.c -- one misuse, for ASan or Valgrind to find: annotate_test.c runs it under
 * them.
 *
 *   annotated_program MISUSE FILE     FILE is made anew where the misuse is in a heap file
 *
 * It ends with 0 if nobody stopped it.
 */
#include <everheap.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile unsigned char seen;

static void need(bool fine)
{
    if (fine) return;
    fprintf(stderr, "it could not begin: %s\n", evh_last_error()->message);
    exit(3);
}

static evh_heap *open_file(const char *path)
{
    (void)unlink(path);
    evh_heap *heap = evh_open(path, &(evh_options){.size_max_bytes = 64 << 20});
    need(heap != NULL);
    return heap;
}

static unsigned char *block_of(evh_heap *heap, size_t size)
{
    unsigned char *block = evh_malloc(heap, size);
    need(block != NULL);
    memset(block, 1, size);
    return block;
}

static void heap_read_behind(const char *path)
{
    evh_heap *heap = open_file(path);
    seen = block_of(heap, 100)[100];
}

static void heap_write_behind(const char *path)
{
    evh_heap *heap = open_file(path);
    block_of(heap, 100)[103] = 1;
}

static void heap_read_freed(const char *path)
{
    evh_heap *heap = open_file(path);
    unsigned char *block = block_of(heap, 100);
    evh_free(heap, block);
    seen = block[50];
}

static void heap_write_freed(const char *path)
{
    evh_heap *heap = open_file(path);
    unsigned char *block = block_of(heap, 5000);
    evh_free(heap, block);
    block[4999] = 1;
}

static void heap_read_freed_large(const char *path)
{
    evh_heap *heap = open_file(path);
    unsigned char *block = block_of(heap, 1 << 20);
    evh_free(heap, block);
    seen = block[100000];
}

/* Everything is opened for the commit, and closed again. */
static void heap_read_freed_before_a_commit(const char *path)
{
    evh_heap *heap = open_file(path);
    unsigned char *kept = block_of(heap, 100);
    unsigned char *block = block_of(heap, 100);
    unsigned char *last = block_of(heap, 100);
    evh_free(heap, block);
    need(!evh_commit(heap));
    seen = kept[99];
    seen = last[0];
    seen = block[50];
}

static void heap_read_behind_after_a_commit(const char *path)
{
    evh_heap *heap = open_file(path);
    const unsigned char *block = block_of(heap, 100);
    need(!evh_commit(heap));
    seen = block[99];
    seen = block[100];
}

static void memory_read_freed(const char *path)
{
    (void)path;
    evh_heap *heap = evh_open_memory(NULL, 16 << 20, NULL);
    need(heap != NULL);
    unsigned char *block = block_of(heap, 64);
    evh_free(heap, block);
    seen = block[0];
}

static void arena_read_released(const char *path)
{
    (void)path;
    evh_arena *arena = evh_arena_create(NULL);
    need(arena != NULL);
    const unsigned char *block = evh_arena_calloc(arena, 1, 100, 16);
    evh_arena_reset(arena);
    seen = block[50];
}

static void pool_read_put(const char *path)
{
    (void)path;
    evh_pool *pool = evh_pool_create(&(evh_pool_options){.size_bytes = 64});
    need(pool != NULL);
    unsigned char *block = evh_pool_get(pool);
    need(block != NULL);
    block[40] = 1;
    evh_pool_put(pool, block);
    seen = block[40];
}

static void fill(unsigned char **blocks, size_t count, evh_heap *heap, size_t size)
{
    for (size_t i = 0; i < count; i++) blocks[i] = block_of(heap, size + i % 7);
}

/* All that a program may do: nothing is to be found. */
static void nothing(const char *path)
{
    enum { COUNT = 300 };
    unsigned char *blocks[COUNT];
    evh_heap *heap = open_file(path);
    for (unsigned round = 0; round < 6; round++) {
        /* Sizes change, so that slices change what they hold. */
        fill(blocks, COUNT, heap, 40u << round * 2);
        for (unsigned i = 0; i < COUNT; i += 2) evh_free(heap, blocks[i]);
        if (round % 2) need(!evh_commit(heap));
        for (unsigned i = 0; i < COUNT; i += 2) blocks[i] = block_of(heap, 3000);
        if (round == 2) {
            need(!evh_rollback(heap)); /* to the commit of the round before */
            continue;
        }
        for (unsigned i = 0; i < COUNT; i++) {
            seen = blocks[i][0];
            blocks[i] = evh_realloc(heap, blocks[i], 500);
            need(blocks[i] != NULL);
            blocks[i][499] = 1;
            evh_free(heap, blocks[i]);
        }
    }
    need(evh_root(heap, "root", 1000) != NULL);
    evh_map map = {0};
    char key[32];
    for (unsigned i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "key %u", i);
        uint64_t *value = evh_map_put_str(heap, &map, key, sizeof *value);
        need(value != NULL);
        *value = i;
    }
    need(!evh_commit(heap));
    char copy[4096];
    snprintf(copy, sizeof copy, "%s.copy", path);
    (void)unlink(copy);
    need(!evh_save(heap, copy));
    need(!evh_trim(heap, NULL));
    need(!evh_check(heap, NULL, NULL));
    need(!evh_close(heap));
    heap = evh_open(path, NULL);
    need(heap != NULL);
    seen = *(unsigned char *)evh_root(heap, "root", 1000);
    need(!evh_close(heap));
    (void)unlink(copy);
}

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        void (*run)(const char *path);
    } all[] = {
        {"heap_read_behind", heap_read_behind},
        {"heap_write_behind", heap_write_behind},
        {"heap_read_freed", heap_read_freed},
        {"heap_write_freed", heap_write_freed},
        {"heap_read_freed_large", heap_read_freed_large},
        {"heap_read_freed_before_a_commit", heap_read_freed_before_a_commit},
        {"heap_read_behind_after_a_commit", heap_read_behind_after_a_commit},
        {"memory_read_freed", memory_read_freed},
        {"arena_read_released", arena_read_released},
        {"pool_read_put", pool_read_put},
        {"nothing", nothing},
    };
    if (count != 3) return 2;
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(arguments[1], all[i].name) == 0) {
            all[i].run(arguments[2]);
            return 0;
        }
    return 2;
}
