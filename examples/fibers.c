/* fibers.c -- a hundred thousand fibers on guarded stacks, passing messages from a pool.
 *
 *     fibers [FIBERS [overflow]]
 *
 * Every fiber has a stack of its own from evh_stacks, and waits. A token runs through all of them
 * in a ring, a message from a pool that each fiber reads, puts back, and answers with a new one.
 * With "overflow" the last fiber then calls itself without end: the guard under its stack stops it,
 * and the message names it before the process ends with SIGSEGV.
 */
#define _GNU_SOURCE /* for ucontext */
#include <everheap.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

struct message {
    unsigned long from, hops;
};

struct fiber {
    ucontext_t context;
    evh_stack *stack;
    struct message *inbox;
    unsigned long number;
};

static struct fiber *fibers;
static unsigned long fiber_count;
static ucontext_t scheduler;
static struct fiber *running;
static evh_pool *messages;
static int last_overflows;

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, evh_last_error()->message);
    exit(1);
}

/* Back to the scheduler until there is a message. */
static struct message *receive(struct fiber *fiber)
{
    while (!fiber->inbox) swapcontext(&fiber->context, &scheduler);
    struct message *message = fiber->inbox;
    fiber->inbox = NULL;
    return message;
}

static unsigned long overflow(unsigned long depth)
{
    volatile char frame[1024];
    frame[depth % sizeof frame] = (char)depth;
    return depth == ~0ul ? 0 : overflow(depth + 1) + (unsigned char)frame[0];
}

static void fiber_main(void)
{
    struct fiber *fiber = running;
    struct message *message = receive(fiber);
    const struct message copy = *message;
    evh_pool_put(messages, message);
    if (fiber->number + 1 == fiber_count && last_overflows) {
        fflush(stdout);
        printf("%lu\n", overflow(0));
    }
    struct message *answer = evh_pool_get(messages);
    if (!answer) fail("a message");
    *answer = (struct message){fiber->number, copy.hops + 1};
    fibers[(fiber->number + 1) % fiber_count].inbox = answer;
    (void)receive(fiber); /* the end: nobody answers */
}

static void start_fiber(struct fiber *fiber, unsigned long number, evh_stacks *stacks)
{
    fiber->number = number;
    fiber->stack = evh_stack_get(stacks);
    if (!fiber->stack) fail("a stack");
    snprintf(fiber->stack->label, sizeof fiber->stack->label, "fiber %lu", number);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack->base;
    fiber->context.uc_stack.ss_size = fiber->stack->size_bytes;
    makecontext(&fiber->context, fiber_main, 0);
}

static void resume(struct fiber *fiber)
{
    running = fiber;
    swapcontext(&scheduler, &fiber->context);
}

int main(int argc, char **argv)
{
    fiber_count = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    last_overflows = argc > 2 && strcmp(argv[2], "overflow") == 0;
    if (fiber_count < 2) return 2;
    evh_stacks *stacks = evh_stacks_create(&(evh_stacks_options){.name = "fibers"});
    messages = evh_pool_create(
        &(evh_pool_options){.size_bytes = sizeof(struct message), .name = "messages"});
    fibers = calloc(fiber_count, sizeof *fibers);
    if (!stacks || !messages || !fibers) fail("the beginning");

    for (unsigned long i = 0; i < fiber_count; i++) start_fiber(&fibers[i], i, stacks);
    for (unsigned long i = 0; i < fiber_count; i++) resume(&fibers[i]);
    evh_stacks_stats stats;
    evh_stacks_get_stats(stacks, &stats);
    printf("%llu fibers wait on their own stacks\n", (unsigned long long)stats.live);
    struct message *token = evh_pool_get(messages);
    if (!token) fail("the token");
    *token = (struct message){0, 0};
    fibers[0].inbox = token;
    for (unsigned long i = 0; i < fiber_count; i++) resume(&fibers[i]);

    token = fibers[0].inbox;
    evh_pool_stats pool;
    evh_pool_get_stats(messages, &pool);
    printf("the token came back after %lu hops; %llu message is in use\n", token->hops,
           (unsigned long long)pool.live);
    for (unsigned long i = 0; i < fiber_count; i++) evh_stack_put(stacks, fibers[i].stack);
    evh_stacks_close(stacks);
    evh_pool_close(messages);
    free(fibers);
    return 0;
}
