/* live_scenarios.c -- operations on live heaps at which a process is killed, and what they find. */
#include "support/live_scenarios.h"

#include "test.h"

#include <everheap/live.h>

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

enum { STAMP_BYTES = 48 };

static struct scenario_world *world;
static evh_heap *heap;
static const char *live_path;
static evh_ref *slots;

void scenario_use(const char *path, struct scenario_world *shared)
{
    live_path = path;
    world = shared;
}

__attribute__((noreturn)) static void child_failed(const char *what)
{
    snprintf(world->error, sizeof world->error, "%.60s: %.180s", what, evh_last_error()->message);
    world->has_failed = true;
    _exit(1);
}

static void *need(void *block)
{
    if (!block) child_failed("preparing");
    return block;
}

void scenario_stamp(void *block, uint64_t offset, size_t size)
{
    unsigned char *bytes = block;
    for (size_t i = 0; i < size && i < STAMP_BYTES; i++)
        bytes[i] = (unsigned char)(offset >> 4 ^ i * 13);
}

bool scenario_is_stamped(const void *block, uint64_t offset, size_t size)
{
    const unsigned char *bytes = block;
    for (size_t i = 0; i < size && i < STAMP_BYTES; i++)
        if (bytes[i] != (unsigned char)(offset >> 4 ^ i * 13)) return false;
    return true;
}

/* Allocate a block that must survive. */
static void *keep(size_t size)
{
    void *block = need(evh_malloc(heap, size));
    const uint64_t offset = evh_ref_to(heap, block).offset;
    if (world->kept_count == SCENARIO_KEPT_MAX) child_failed("too many blocks");
    scenario_stamp(block, offset, size);
    world->kept[world->kept_count++] = (struct kept){.offset = offset, .size = (uint32_t)size};
    return block;
}

static void keep_many(size_t size, unsigned count)
{
    for (unsigned i = 0; i < count; i++) (void)keep(size);
}

static void forget(const void *block)
{
    const uint64_t offset = evh_ref_to(heap, block).offset;
    for (uint32_t i = 0; i < world->kept_count; i++)
        if (world->kept[i].offset == offset) world->kept[i] = world->kept[--world->kept_count];
}

static void *target(size_t size)
{
    void *block = keep(size);
    world->target = evh_ref_to(heap, block).offset;
    return block;
}

static void *target_block(void)
{
    return evh_at(heap, (evh_ref){world->target});
}

static evh_options live_options(void)
{
    return (evh_options){
        .mode = EVH_LIVE, .misuse = EVH_MISUSE_STATUS, .size_max_bytes = SCENARIO_HEAP_BYTES_MAX};
}

static void open_heap(void)
{
    const evh_options options = live_options();
    heap = evh_open(live_path, &options);
    if (!heap) child_failed("evh_open");
}

static void prepare(void)
{
    open_heap();
    slots = evh_root(heap, "slots", SCENARIO_SLOTS * sizeof *slots);
    if (!slots) child_failed("evh_root");
    world->slots = evh_ref_to(heap, slots).offset;
    keep_many(SIZE_SMALL, 12);
    keep_many(1000, 4);
}

/* Run `work` as another process, which dies or stays when it is done. */
static void as_other(void (*work)(void), bool stays)
{
    int ends[2];
    char done = 0;
    if (pipe(ends)) child_failed("pipe");
    const pid_t other = fork();
    if (other < 0) child_failed("fork");
    if (other == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        work();
        if (write(ends[1], &done, 1) != 1) _exit(1);
        while (stays) pause();
        _exit(0);
    }
    close(ends[1]);
    if (read(ends[0], &done, 1) != 1) child_failed("the other process");
    close(ends[0]);
    if (!stays) waitpid(other, NULL, 0);
}

/* ---- scenarios: allocating ---- */

static void operate_malloc(void)
{
    (void)need(evh_malloc(heap, SIZE_SMALL));
}

static void operate_malloc_other(void)
{
    (void)need(evh_malloc(heap, SIZE_OTHER));
}

static void operate_malloc_medium(void)
{
    (void)need(evh_malloc(heap, SIZE_MEDIUM));
}

static void operate_malloc_large(void)
{
    (void)need(evh_malloc(heap, SIZE_LARGE));
}

static void operate_malloc_large_grown(void)
{
    (void)need(evh_malloc(heap, 2 << 20));
}

static void operate_aligned(void)
{
    (void)need(evh_aligned_alloc(heap, 1 << 18, 1000));
}

/* Free space in the heap, so that nothing has to grow. */
static void prepare_roomy(void)
{
    prepare();
    evh_free(heap, need(evh_malloc(heap, 1 << 20)));
}

/* A large block that must survive, full of what must not be taken for metadata when it is free. */
static void *keep_filled(size_t size)
{
    unsigned char *block = keep(size);
    const uint64_t offset = evh_ref_to(heap, block).offset;
    memset(block + STAMP_BYTES, 0xa5, size - STAMP_BYTES);
    world->skip.first = offset + 4096;
    world->skip.end = offset + size - 4096;
    return block;
}

/* Slices whose bitmaps lie in slices of their own, made of garbage. */
static void prepare_far(void)
{
    prepare();
    (void)keep_filled(3500 << 10);
    unsigned char *garbage = need(evh_malloc(heap, 1 << 20));
    memset(garbage, 0xff, 1 << 20);
    evh_free(heap, garbage);
}

/* The heap's first segment is all but full. */
static void prepare_full_segment(void)
{
    prepare();
    (void)keep_filled((63 << 20) + (200 << 10));
}

/* A slice of which every word but the last bits are used. */
static void prepare_refill(void)
{
    prepare_roomy();
    keep_many(SIZE_SMALL, 52);
}

static void other_keeps(void)
{
    keep_many(SIZE_OTHER, 40);
    keep_many(SIZE_SMALL, 40);
}

static void other_frees_half(void)
{
    other_keeps();
    for (uint32_t i = 0; i < world->kept_count; i += 2) {
        void *block = evh_at(heap, (evh_ref){world->kept[i].offset});
        if (world->kept[i].size != SIZE_OTHER) continue;
        forget(block);
        evh_free(heap, block);
    }
}

/* Another died, and nobody has noticed. */
static void prepare_dead_other(void)
{
    prepare_roomy();
    as_other(other_frees_half, false);
}

/* Another died, and its slices are nobody's. */
static void prepare_reaped_other(void)
{
    prepare_dead_other();
    if (!live_reap(heap->live)) child_failed("nobody was reaped");
}

static void prepare_living_other(void)
{
    prepare_roomy();
    as_other(other_keeps, true);
}

static void other_frees_mine(void)
{
    for (unsigned i = 0; i < 9; i++) {
        void *block = evh_at(heap, (evh_ref){world->kept[world->kept_count - 1].offset});
        forget(block);
        evh_free(heap, block);
    }
}

/* Others have freed blocks of this process, which is to hear of it. */
static void prepare_mail(void)
{
    prepare_roomy();
    keep_many(SIZE_OTHER, 93); /* a slice of them, all */
    as_other(other_frees_mine, false);
}

/* ---- freeing ---- */

static void operate_free_target(void)
{
    evh_free(heap, target_block());
}

static void prepare_target_small(void)
{
    prepare_roomy();
    (void)target(SIZE_SMALL);
}

static void prepare_target_last(void)
{
    prepare_roomy();
    (void)target(5000);
    keep_many(5000, 30); /* now other slices are in the bin, and full */
    for (uint32_t i = 0; i < world->kept_count; i++) {
        void *block = evh_at(heap, (evh_ref){world->kept[i].offset});
        if (world->kept[i].size != 5000 || world->kept[i].offset == world->target) continue;
        if (world->kept[i].offset >> SLICE_SHIFT != world->target >> SLICE_SHIFT) continue;
        forget(block);
        evh_free(heap, block);
        i--;
    }
}

static void prepare_target_medium(void)
{
    prepare_roomy();
    (void)target(SIZE_MEDIUM);
}

static void prepare_target_large(void)
{
    prepare_roomy();
    (void)target(SIZE_LARGE);
    keep_many(SIZE_LARGE, 1);
}

static void other_makes_target(void)
{
    other_keeps();
    (void)target(SIZE_OTHER);
}

static void prepare_target_living_others(void)
{
    prepare_roomy();
    as_other(other_makes_target, true);
}

static void prepare_target_dead_others(void)
{
    prepare_roomy();
    as_other(other_makes_target, false);
}

static void prepare_target_nobodys(void)
{
    prepare_target_dead_others();
    if (!live_reap(heap->live)) child_failed("nobody was reaped");
}

/* ---- realloc ---- */

static void operate_realloc(void)
{
    (void)need(evh_realloc(heap, target_block(), SIZE_OTHER));
}

static void operate_realloc_smaller(void)
{
    (void)need(evh_realloc(heap, target_block(), 20));
}

static void operate_shrink(void)
{
    (void)need(evh_realloc(heap, target_block(), SIZE_LARGE));
}

static void operate_grow_large(void)
{
    (void)need(evh_realloc(heap, target_block(), SIZE_LARGER));
}

/* Nothing is behind the block. */
static void prepare_target_large_alone(void)
{
    prepare_roomy();
    (void)target(SIZE_LARGE);
}

static void prepare_target_larger(void)
{
    prepare_roomy();
    (void)target(SIZE_LARGER);
    keep_many(SIZE_LARGE, 1);
}

/* ---- in one step with a ref ---- */

static void need_status(evh_status status)
{
    if (status) child_failed("an operation");
}

static void operate_malloc_to(void)
{
    need_status(evh_malloc_to(heap, &slots[0], SIZE_SMALL));
}

static void operate_malloc_to_other(void)
{
    need_status(evh_malloc_to(heap, &slots[0], SIZE_OTHER));
}

static void operate_malloc_to_large(void)
{
    need_status(evh_malloc_to(heap, &slots[0], SIZE_LARGE));
}

static void operate_free_from(void)
{
    need_status(evh_free_from(heap, &slots[1]));
}

static void prepare_slot_small(void)
{
    prepare_roomy();
    need_status(evh_malloc_to(heap, &slots[1], SIZE_SMALL));
}

static void prepare_slot_large(void)
{
    prepare_roomy();
    need_status(evh_malloc_to(heap, &slots[1], SIZE_LARGE));
}

static void other_fills_slot(void)
{
    other_keeps();
    need_status(evh_malloc_to(heap, &slots[1], SIZE_OTHER));
}

static void prepare_slot_others(void)
{
    prepare_roomy();
    as_other(other_fills_slot, true);
}

static void prepare_slot_nobodys(void)
{
    prepare_roomy();
    as_other(other_fills_slot, false);
    if (!live_reap(heap->live)) child_failed("nobody was reaped");
}

/* ---- roots ---- */

static void operate_root(void)
{
    (void)need(evh_root(heap, "another root", 100));
}

static void operate_root_tagged(void)
{
    (void)need(evh_root_tagged(heap, 77, 3000));
}

static void operate_root_remove(void)
{
    need_status(evh_root_remove(heap, "another root"));
}

static void prepare_no_root(void)
{
    open_heap();
    keep_many(SIZE_SMALL, 12);
}

static void prepare_root(void)
{
    prepare_roomy();
    operate_root();
}

static void prepare_removed_root(void)
{
    prepare_root();
    operate_root_remove();
}

/* Enough roots that the next one needs another chunk soon. */
static void prepare_many_roots(void)
{
    prepare_roomy();
    for (uint64_t tag = 100; tag < 180; tag++) (void)need(evh_root_tagged(heap, tag, 16));
}

/* ---- coming and going ---- */

static void operate_reap(void)
{
    (void)live_reap(heap->live);
}

static void operate_trim(void)
{
    need_status(evh_trim(heap, NULL));
}

static void operate_attach(void)
{
    open_heap();
}

static void operate_detach(void)
{
    need_status(evh_close(heap));
}

static void prepare_left(void)
{
    prepare_roomy();
    operate_detach();
}

static void other_prepares(void)
{
    prepare_roomy();
}

static void prepare_not_attached(void)
{
    as_other(other_prepares, true);
}

/* All were killed. */
static void prepare_dead_session(void)
{
    as_other(other_prepares, false);
}

static void operate_adopt_everything(void)
{
    struct slice *slice = NULL;
    operate_malloc_other();
    (void)live_sweep(heap_thread.cache, 0, NULL);
    (void)slice;
}

const struct scenario scenarios[] = {
    {"malloc", prepare_roomy, operate_malloc, LEAKS},
    {"malloc with a new bitmap word", prepare_refill, operate_malloc, LEAKS},
    {"malloc in a new class", prepare_roomy, operate_malloc_other, LEAKS},
    {"malloc of a medium block", prepare_roomy, operate_malloc_medium, LEAKS},
    {"malloc of a large block", prepare_roomy, operate_malloc_large, LEAKS},
    {"malloc of a medium block, with growth", prepare, operate_malloc_medium, LEAKS},
    {"malloc of a large block, with growth", prepare, operate_malloc_large, LEAKS},
    {"malloc in a new class, far", prepare_far, operate_malloc_other, LEAKS},
    {"malloc of a medium block, far", prepare_far, operate_malloc_medium, LEAKS},
    {"malloc of a medium block in a new segment", prepare_full_segment, operate_malloc_medium,
     LEAKS | LONG},
    {"malloc of a large block over two segments", prepare_full_segment, operate_malloc_large_grown,
     LEAKS | LONG},
    {"aligned_alloc", prepare_roomy, operate_aligned, LEAKS},
    {"malloc beside a dead process", prepare_dead_other, operate_malloc_other, LEAKS},
    {"malloc that adopts", prepare_reaped_other, operate_malloc_other, LEAKS},
    {"malloc beside another process", prepare_living_other, operate_malloc_other, LEAKS},
    {"malloc that hears of frees", prepare_mail, operate_malloc_other, LEAKS},
    {"sweep and adoption", prepare_reaped_other, operate_adopt_everything, LEAKS},
    {"free", prepare_target_small, operate_free_target, EXACT},
    {"free of a slice's last block", prepare_target_last, operate_free_target, EXACT},
    {"free of a medium block", prepare_target_medium, operate_free_target, EXACT},
    {"free of a large block", prepare_target_large, operate_free_target, EXACT},
    {"free of another's block", prepare_target_living_others, operate_free_target, EXACT},
    {"free of a dead process's block", prepare_target_dead_others, operate_free_target, EXACT},
    {"free of a block in nobody's slice", prepare_target_nobodys, operate_free_target, EXACT},
    {"realloc", prepare_target_small, operate_realloc, LEAKS | MOVES},
    {"realloc to a smaller block", prepare_target_small, operate_realloc_smaller, LEAKS | MOVES},
    {"realloc of another's block", prepare_target_living_others, operate_realloc_smaller,
     LEAKS | MOVES},
    {"realloc that shrinks a large block", prepare_target_larger, operate_shrink, LEAKS | MOVES},
    {"realloc that grows in place", prepare_target_large_alone, operate_grow_large, LEAKS | MOVES},
    {"realloc that moves a large block", prepare_target_large, operate_grow_large, LEAKS | MOVES},
    {"malloc_to", prepare_roomy, operate_malloc_to, EXACT},
    {"malloc_to in a new class", prepare_roomy, operate_malloc_to_other, EXACT},
    {"malloc_to of a large block", prepare_roomy, operate_malloc_to_large, EXACT},
    {"malloc_to of a large block, with growth", prepare, operate_malloc_to_large, EXACT},
    {"free_from", prepare_slot_small, operate_free_from, EXACT},
    {"free_from of a large block", prepare_slot_large, operate_free_from, EXACT},
    {"free_from of another's block", prepare_slot_others, operate_free_from, EXACT},
    {"free_from of a block in nobody's slice", prepare_slot_nobodys, operate_free_from, EXACT},
    {"the first root", prepare_no_root, operate_root, EXACT},
    {"another root", prepare_roomy, operate_root, EXACT},
    {"a tagged root beside many", prepare_many_roots, operate_root_tagged, EXACT},
    {"a root removed", prepare_root, operate_root_remove, LEAKS},
    {"a root made again", prepare_removed_root, operate_root, LEAKS},
    {"reaping", prepare_dead_other, operate_reap, VARIES},
    {"trim", prepare_roomy, operate_trim, EXACT},
    {"attaching to a session", prepare_not_attached, operate_attach, VARIES},
    {"attaching after a close", prepare_left, operate_attach, ALONE | LONG | VARIES},
    {"attaching after a kill of all", prepare_dead_session, operate_attach, ALONE | LONG | VARIES},
    {"leaving", prepare_roomy, operate_detach, ALONE},
    {"leaving others", prepare_living_other, operate_detach, EXACT},
};

const unsigned scenario_count = sizeof scenarios / sizeof scenarios[0];
