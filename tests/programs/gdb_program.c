/* gdb_program.c -- a heap for tools/gdb.py to look at: it stops in the middle. */
#include <everheap.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

static void stop_here(evh_heap *heap, evh_str string)
{
    (void)heap;
    (void)string;
    raise(SIGTRAP);
}

int main(void)
{
    static const char text[] = "{\"a\": [1, -2, 2.5, true, null, \"text\"], \"b\": {}}";
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    uint64_t *handles = heap ? evh_root(heap, "handles", 64) : NULL;
    if (!handles) return 1;
    for (uint32_t i = 0; i < 100; i++) {
        char key[16];
        const int size = snprintf(key, sizeof key, "key %u", i);
        uint64_t *value = evh_map_put_bytes(heap, (evh_map *)&handles[0], key, (size_t)size, 8);
        uint64_t *leaf = evh_tree_put(heap, (evh_tree *)&handles[1], i * 3, 8);
        if (!value || !leaf || !evh_vec_push(heap, (evh_vec *)&handles[2], sizeof i, &i)) return 1;
        *value = *leaf = i;
    }
    if (evh_str_set(heap, (evh_str *)&handles[3], "hello", 5)) return 1;
    evh_json *json = evh_json_open(heap, NULL);
    if (!json || evh_json_parse(json, evh_json_root(json), text, sizeof text - 1, NULL, NULL))
        return 1;
    stop_here(heap, (evh_str){handles[3]});
    return 0;
}
