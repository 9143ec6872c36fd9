/* flight_recorder.c -- what a program did last, read after it was killed. */
#include <everheap.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A live heap is a file that is mapped shared: what is stored in it is there for everybody at once,
 * and stays when the process dies at any instruction. So a ring of records in it is a flight
 * recorder.
 *
 *     flight_recorder FILE        works, recording each step, until it is killed
 *     flight_recorder FILE 1000   as many steps
 *     everheap tail FILE          what it did last
 */
int main(int count, char **arguments)
{
    const evh_options options = {.mode = EVH_LIVE};
    if (count < 2) {
        fprintf(stderr, "usage: flight_recorder FILE [STEPS]\n");
        return 2;
    }
    const unsigned long steps = count > 2 ? strtoul(arguments[2], NULL, 10) : 0;
    evh_heap *heap = evh_open(arguments[1], &options);
    evh_recorder *recorder = heap ? evh_recorder_open(heap, "log", 4096) : NULL;
    if (!recorder) {
        fprintf(stderr, "%s\n", evh_last_error()->message);
        return 1;
    }
    EVH_RECORD(recorder, "begin, %d arguments", count);
    for (unsigned long step = 0; steps == 0 || step < steps; step++) {
        const double value = (double)step / 7;
        EVH_RECORD(recorder, "step %lu of %s: %.3f", step, "the work", value);
    }
    EVH_RECORD(recorder, "end");
    evh_recorder_close(recorder);
    evh_close(heap);
    return 0;
}
