/* counter.c -- a program of somebody else's: it counts how often it was called with a word. */
#include <everheap.h>

#include <stdio.h>

EVH_MAP_STR(words, uint32_t);

int main(int count, char **arguments)
{
    if (count != 3) return 2;
    evh_heap *heap = evh_open(arguments[1], NULL);
    words *seen = heap ? evh_root(heap, "words", sizeof *seen) : NULL;
    uint32_t *times = seen ? words_put(heap, seen, arguments[2]) : NULL; /* found, or 0 */
    if (!times || (++*times, evh_commit(heap))) {
        fprintf(stderr, "%s\n", evh_last_error()->message);
        return 1;
    }
    printf("everheap %s: %s %u\n", evh_version(), arguments[2], *times);
    return evh_close(heap) != EVH_OK;
}
