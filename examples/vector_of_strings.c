/* vector_of_strings.c -- a persistent vector of strings: add, del, gc; without a command, list. */
#include "persistent_mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Written for the documented interface of persistent_mem.h; nothing of it is everheap's. */
#define VECTOR_CLASS 0x766563746f7231ull

struct vector {
    size_t count;
    size_t capacity;
    persistent_offset_t items; /* of an array of offsets of strings; 0 marks a deleted one */
};

static persistent_offset_t *vector_items(allocator_space_t *space, struct vector *vector)
{
    return (persistent_offset_t *)persistent_offset_to_ptr(space, vector->items);
}

static int vector_add(allocator_space_t *space, struct vector *vector, const char *text)
{
    if (vector->count == vector->capacity) {
        const size_t capacity = vector->capacity ? 2 * vector->capacity : 4;
        void *items = persistent_realloc(space, vector_items(space, vector),
                                         capacity * sizeof(persistent_offset_t));
        if (!items) return 1;
        vector->items = ptr_to_persistent_offset(space, items);
        vector->capacity = capacity;
    }
    char *copy = (char *)persistent_malloc(space, strlen(text) + 1);
    if (!copy) return 1;
    memcpy(copy, text, strlen(text) + 1);
    vector_items(space, vector)[vector->count++] = ptr_to_persistent_offset(space, copy);
    return 0;
}

static int vector_delete(allocator_space_t *space, struct vector *vector, size_t index)
{
    if (index >= vector->count) return 1;
    persistent_offset_t *items = vector_items(space, vector);
    persistent_free(space, persistent_offset_to_ptr(space, items[index]));
    items[index] = 0;
    return 0;
}

static int vector_collect(allocator_space_t *space, struct vector *vector)
{
    persistent_offset_t *items = vector_items(space, vector);
    size_t kept = 0;
    for (size_t i = 0; i < vector->count; i++)
        if (items[i]) items[kept++] = items[i];
    vector->count = kept;
    return 0;
}

static int vector_list(allocator_space_t *space, struct vector *vector)
{
    persistent_offset_t *items = vector_items(space, vector);
    for (size_t i = 0; i < vector->count; i++)
        if (items[i]) printf("%zu %s\n", i, (char *)persistent_offset_to_ptr(space, items[i]));
    printf("heap extent: %llu bytes\n", (unsigned long long)(space->heap_end - space->heap_start));
    return 0;
}

int main(int argc, char **argv)
{
    const char *file = argc > 1 ? argv[1] : "strings.heap";
    allocator_space_t *space = create_persistent_allocator(file, 1024 * 1024);
    if (!space) {
        fprintf(stderr, "%s: cannot be opened\n", file);
        return 1;
    }
    struct vector *vector = (struct vector *)persistent_find_root(space, VECTOR_CLASS);
    if (!vector) {
        vector = (struct vector *)persistent_malloc_root(space, VECTOR_CLASS, sizeof *vector);
        if (vector) memset(vector, 0, sizeof *vector);
    }
    int status = 1;
    if (vector && argc == 4 && strcmp(argv[2], "add") == 0)
        status = vector_add(space, vector, argv[3]);
    else if (vector && argc == 4 && strcmp(argv[2], "del") == 0)
        status = vector_delete(space, vector, (size_t)strtoul(argv[3], NULL, 10));
    else if (vector && argc == 3 && strcmp(argv[2], "gc") == 0)
        status = vector_collect(space, vector);
    else if (vector && argc <= 2)
        status = vector_list(space, vector);
    destroy_persistent_allocator(space);
    return status;
}
