/* hello.c -- the whole idea in ten lines: a number in a file that the next run finds again. */
#include <everheap.h>
#include <stdio.h>

int main(void)
{
    evh_heap *heap = evh_open("hello.heap", NULL); /* create it, or recover it */
    uint32_t *runs = heap ? evh_root(heap, "runs", sizeof *runs) : NULL; /* zero the first time */
    if (runs) printf("run %u\n", ++*runs);                               /* plain memory */
    if (!runs || evh_commit(heap)) fprintf(stderr, "%s\n", evh_last_error()->message);
    evh_close(heap); /* null is fine */
}
