/* live_step_test.c -- a process on a live heap is killed at every instruction of every operation.
 *
 * Strategy: a child prepares a live heap (with other processes that own slices, have freed its
 * blocks, are dead or go on) and is stepped through one operation (step.h). At every instruction
 * what its death would leave is a pair of files: the heap, and the ephemeral file. Where they
 * changed, copies are opened twice: as by a survivor that joins the session, with and without
 * reaping the dead one first, and as by the next one after all were killed, with and without the
 * ephemeral file. Each recovery then does 50 operations of its own.
 * Invariants: evh_check finds nothing; every block that was live and not the operation's is live
 * and keeps its contents; at most one block is live that nothing names, none with evh_malloc_to,
 * evh_free_from and new roots; what the survivor allocates and frees is right.
 */
#include "heap/heap.h"
#include "step.h"
#include "test.h"

#include <everheap/live.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    KEPT_MAX = 1200,
    STAMP_BYTES = 48,
    SURVIVOR_OPERATIONS = 50,
    SURVIVOR_BLOCKS = 16,
    HEAP_BYTES_MAX = 256 << 20,
    SIZE_SMALL = 64,
    SIZE_OTHER = 700,
    SIZE_MEDIUM = 20000,
    SIZE_LARGE = 70000,
    SIZE_LARGER = 200000,
    SLOTS = 8,
};

struct kept {
    uint64_t offset;
    uint32_t size;
    bool is_freed; /* by the survivor of this recovery */
};

/* What the child tells its parent. */
struct world {
    struct kept kept[KEPT_MAX];
    uint32_t kept_count;
    uint64_t target; /* the block that the operation ends, or moves; 0: none */
    uint64_t slots;  /* the block of refs */
    struct step_skip skip;
    bool has_failed;
    char error[256];
};

enum {
    EXACT = 0,
    LEAKS = 1, /* a block may be live that nothing names */
    MOVES = 2, /* the target may end only when another block took its place */
    ALONE = 4, /* nobody else is attached */
    LONG = 8,  /* hundreds of thousands of instructions: only with EFFORT=2 and more */
};

struct scenario {
    const char *name;
    void (*prepare)(void);
    void (*operate)(void);
    unsigned flags;
};

static struct world *world;
static evh_heap *heap;
static char live_path[256], copy_path[256], live_session_path[264], copy_session_path[264];
static evh_ref *slots;

/* ---- the child: what operations find ---- */

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

static void stamp(void *block, uint64_t offset, size_t size)
{
    unsigned char *bytes = block;
    for (size_t i = 0; i < size && i < STAMP_BYTES; i++)
        bytes[i] = (unsigned char)(offset >> 4 ^ i * 13);
}

static bool is_stamped(const void *block, uint64_t offset, size_t size)
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
    if (world->kept_count == KEPT_MAX) child_failed("too many blocks");
    stamp(block, offset, size);
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
        .mode = EVH_LIVE, .misuse = EVH_MISUSE_STATUS, .size_max_bytes = HEAP_BYTES_MAX};
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
    slots = evh_root(heap, "slots", SLOTS * sizeof *slots);
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

static const struct scenario scenarios[] = {
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
    {"reaping", prepare_dead_other, operate_reap, EXACT},
    {"trim", prepare_roomy, operate_trim, EXACT},
    {"attaching to a session", prepare_not_attached, operate_attach, EXACT},
    {"attaching after a close", prepare_left, operate_attach, ALONE | LONG},
    {"attaching after a kill of all", prepare_dead_session, operate_attach, ALONE | LONG},
    {"leaving", prepare_roomy, operate_detach, ALONE},
    {"leaving others", prepare_living_other, operate_detach, EXACT},
};

enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

/* ---- the parent: recovering ---- */

static char why[400];
static const struct scenario *scenario;
static uint64_t recoveries, judged;

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            snprintf(why, sizeof why, "%s (line %d; last error: %.200s)", #condition, __LINE__,    \
                     evh_last_error()->message);                                                   \
            return why;                                                                            \
        }                                                                                          \
    } while (0)

struct survivor {
    evh_heap *heap;
    uint64_t random;
    struct kept own[SURVIVOR_BLOCKS];
    /* What a walk of the heap found. */
    uint64_t visited, kept_seen, extra;
    bool target_seen;
};

static void *block_of(const struct survivor *survivor, uint64_t offset)
{
    return evh_at(survivor->heap, (evh_ref){offset});
}

static const char *check_kept(const struct survivor *survivor)
{
    for (uint32_t i = 0; i < world->kept_count; i++) {
        const struct kept *kept = &world->kept[i];
        if (kept->is_freed || kept->offset == world->target) continue;
        const void *block = block_of(survivor, kept->offset);
        REQUIRE(evh_usable_size(survivor->heap, block) >= kept->size);
        REQUIRE(is_stamped(block, kept->offset, kept->size));
    }
    return NULL;
}

static const char *survivor_allocate(struct survivor *survivor, struct kept *own)
{
    static const uint32_t sizes[] = {SIZE_SMALL, SIZE_SMALL,  SIZE_OTHER, 1000,
                                     24,         SIZE_MEDIUM, SIZE_LARGE, 5000};
    const uint64_t kind = test_random(&survivor->random) % 16;
    own->size = sizes[test_random(&survivor->random) % (sizeof sizes / sizeof sizes[0])];
    evh_ref ref = {0};
    if (kind < 4) {
        REQUIRE(evh_malloc_to(survivor->heap, &ref, own->size) == EVH_OK);
    } else {
        void *block = evh_malloc(survivor->heap, own->size);
        REQUIRE(block != NULL);
        ref = evh_ref_to(survivor->heap, block);
    }
    own->offset = ref.offset;
    stamp(block_of(survivor, own->offset), own->offset, own->size);
    return NULL;
}

static const char *survivor_free(struct survivor *survivor, struct kept *own)
{
    void *block = block_of(survivor, own->offset);
    evh_ref ref = {own->offset};
    REQUIRE(is_stamped(block, own->offset, own->size));
    if (test_random(&survivor->random) % 4 == 0) {
        REQUIRE(evh_free_from(survivor->heap, &ref) == EVH_OK);
    } else {
        evh_free(survivor->heap, block);
        REQUIRE(evh_usable_size(survivor->heap, block) == 0);
    }
    own->offset = 0;
    return NULL;
}

/* Free a block that the dead one, or another, left. */
static const char *survivor_free_kept(struct survivor *survivor)
{
    struct kept *kept = &world->kept[test_random(&survivor->random) % world->kept_count];
    if (kept->is_freed || kept->offset == world->target) return NULL;
    struct kept copy = *kept;
    kept->is_freed = true;
    return survivor_free(survivor, &copy);
}

static const char *survivor_work(struct survivor *survivor)
{
    for (unsigned i = 0; i < SURVIVOR_OPERATIONS; i++) {
        struct kept *own = &survivor->own[test_random(&survivor->random) % SURVIVOR_BLOCKS];
        const char *wrong = NULL;
        if (test_random(&survivor->random) % 6 == 0)
            wrong = survivor_free_kept(survivor);
        else if (own->offset)
            wrong = survivor_free(survivor, own);
        else
            wrong = survivor_allocate(survivor, own);
        if (wrong) return wrong;
    }
    for (unsigned i = 0; i < SURVIVOR_BLOCKS; i++) {
        const char *wrong =
            survivor->own[i].offset ? survivor_free(survivor, &survivor->own[i]) : NULL;
        if (wrong) return wrong;
    }
    return NULL;
}

/* ---- what is live at the end ---- */

/* Of each 16 bytes of the heap: what the block there is. */
enum mark { MARK_NONE, MARK_KEPT, MARK_NAMED };

static unsigned char marks[HEAP_BYTES_MAX / 16];

static void mark_internal(uint64_t offset, void *context)
{
    (void)context;
    marks[offset / 16] = MARK_NAMED;
}

static void mark_all(struct survivor *survivor, enum mark kept_mark, enum mark named_mark)
{
    const evh_ref *refs = world->slots ? block_of(survivor, world->slots) : NULL;
    for (uint32_t i = 0; i < world->kept_count; i++)
        if (!world->kept[i].is_freed) marks[world->kept[i].offset / 16] = (unsigned char)kept_mark;
    for (unsigned i = 0; refs && i < SLOTS; i++)
        marks[refs[i].offset / 16] = (unsigned char)named_mark;
    for (evh_root_info root = {0}; evh_root_next(survivor->heap, &root);)
        marks[root.block.offset / 16] = (unsigned char)named_mark;
    if (named_mark == MARK_NAMED) live_roots_each_internal(survivor->heap, mark_internal, NULL);
}

static bool classify(const evh_block *block, void *context)
{
    struct survivor *survivor = context;
    const unsigned char mark = marks[block->ref.offset / 16];
    survivor->visited++;
    if (block->ref.offset == world->target) survivor->target_seen = true;
    if (mark == MARK_KEPT) survivor->kept_seen++;
    if (mark == MARK_NONE) {
        survivor->extra++;
        if (getenv("V"))
            printf("    not named: 0x%llx, %zu bytes\n", (unsigned long long)block->ref.offset,
                   block->size);
    }
    return true;
}

/* Nothing was lost, and nothing is there that nobody names. */
static const char *check_blocks(struct survivor *survivor)
{
    uint64_t kept = 0;
    for (uint32_t i = 0; i < world->kept_count; i++) kept += !world->kept[i].is_freed;
    memset(marks, MARK_NONE, base_min(sizeof marks, live_end(survivor->heap->live) << 12));
    mark_all(survivor, MARK_KEPT, MARK_NAMED);
    REQUIRE(evh_walk(survivor->heap, classify, survivor) == EVH_OK);
    const bool target_ended = world->target != 0 && !survivor->target_seen;
    REQUIRE(survivor->kept_seen + target_ended == kept);
    REQUIRE(survivor->extra <= (scenario->flags & LEAKS));
    REQUIRE(!target_ended || !(scenario->flags & MOVES) || survivor->extra == 1);
    if (world->slots) {
        const evh_ref *refs = block_of(survivor, world->slots);
        for (unsigned i = 0; i < SLOTS; i++)
            REQUIRE(!refs[i].offset ||
                    evh_usable_size(survivor->heap, block_of(survivor, refs[i].offset)) > 0);
    }
    return NULL;
}

static const char *recover_in(struct survivor *survivor, bool reaps_first)
{
    if (reaps_first) (void)live_reap(survivor->heap->live);
    REQUIRE(evh_check(survivor->heap, NULL, NULL) == EVH_OK);
    const char *wrong = check_kept(survivor);
    if (!wrong) wrong = survivor_work(survivor);
    if (wrong) return wrong;
    (void)live_reap(survivor->heap->live);
    wrong = check_blocks(survivor);
    if (!wrong) wrong = check_kept(survivor);
    if (wrong) return wrong;
    REQUIRE(evh_check(survivor->heap, NULL, NULL) == EVH_OK);
    return NULL;
}

/* ---- copies ---- */

static int holder = -1; /* of the session's lock on the copy */

static bool write_range(int file, const struct step_image *image, uint64_t first, uint64_t end)
{
    if (first >= end) return true;
    const size_t size = (size_t)(end - first);
    return pwrite(file, image->bytes + first, size, (off_t)first) == (ssize_t)size;
}

static bool write_file(const char *path, const struct step_image *image)
{
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return false;
    const bool done = write_range(file, image, 0, base_min(image->skip.first, image->size)) &&
                      write_range(file, image, image->skip.end, image->size) &&
                      ftruncate(file, (off_t)image->size) == 0;
    close(file);
    return done;
}

static bool hold_session(bool holds)
{
    struct flock lock = {.l_type = holds ? F_RDLCK : F_UNLCK,
                         .l_whence = SEEK_SET,
                         .l_start = (off_t)REGION_LOCK_ATTACHED,
                         .l_len = 1};
    return fcntl(holder, F_OFD_SETLK, &lock) == 0;
}

static const char *recover(const struct step_image images[], bool joins, bool variant)
{
    struct survivor survivor = {.random = judged};
    const evh_options options = {.mode = EVH_LIVE,
                                 .misuse = EVH_MISUSE_STATUS,
                                 .must_exist = true,
                                 .size_max_bytes = HEAP_BYTES_MAX};
    REQUIRE(write_file(copy_path, &images[0]));
    (void)unlink(copy_session_path);
    const bool keeps_session_file = joins || variant;
    if (images[1].exists && keeps_session_file) REQUIRE(write_file(copy_session_path, &images[1]));
    REQUIRE(hold_session(joins));
    for (uint32_t i = 0; i < world->kept_count; i++) world->kept[i].is_freed = false;
    survivor.heap = evh_open(copy_path, &options);
    REQUIRE(survivor.heap != NULL);
    const char *wrong = recover_in(&survivor, variant);
    const evh_status status = evh_close(survivor.heap);
    if (wrong) return wrong;
    REQUIRE(status == EVH_OK);
    recoveries++;
    return NULL;
}

/* Both as a survivor, and as who comes when nobody survived. */
static const char *judge(const struct step_image images[], void *context)
{
    (void)context;
    judged++;
    if (!images[0].exists) return NULL;
    const char *wrong = NULL;
    if (!(scenario->flags & ALONE)) wrong = recover(images, true, judged % 2);
    if (!wrong) wrong = recover(images, false, judged / 2 % 2);
    return wrong;
}

/* ---- running ---- */

static void prepare_child(void *context)
{
    (void)context;
    scenario->prepare();
}

static void operate_child(void *context)
{
    (void)context;
    scenario->operate();
}

static void run_scenario(struct step_result *result)
{
    const struct step_plan plan = {.paths = {live_path, live_session_path},
                                   .prepare = prepare_child,
                                   .operate = operate_child,
                                   .judge = judge,
                                   .skip = &world->skip};
    (void)unlink(live_path);
    (void)unlink(live_session_path);
    memset(world, 0, sizeof *world);
    const bool fine = step_run(&plan, result);
    if (!fine)
        test_fail(__FILE__, __LINE__, "%s: %s %s", scenario->name, result->problem, world->error);
    CHECK(fine);
    if (getenv("V"))
        printf("    %-40s %7llu points, %5llu images\n", scenario->name,
               (unsigned long long)result->points, (unsigned long long)result->images);
}

static void set_up(void)
{
    if (!step_is_possible()) SKIP("ptrace is not allowed here");
    const char *directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : test_directory();
    snprintf(live_path, sizeof live_path, "%s/everheap-step.%d", directory, getpid());
    snprintf(copy_path, sizeof copy_path, "%s/everheap-copy.%d", directory, getpid());
    snprintf(live_session_path, sizeof live_session_path, "%s.live", live_path);
    snprintf(copy_session_path, sizeof copy_session_path, "%s.live", copy_path);
    world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(world != MAP_FAILED);
    holder = open(copy_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(holder >= 0);
}

static void tear_down(void)
{
    close(holder);
    munmap(world, sizeof *world);
    (void)unlink(live_path);
    (void)unlink(copy_path);
    (void)unlink(live_session_path);
    (void)unlink(copy_session_path);
}

TEST(a_kill_at_any_instruction_of_a_live_heap_breaks_nothing)
{
    uint64_t points = 0, images = 0;
    set_up();
    for (unsigned i = 0; i < SCENARIOS; i++) {
        struct step_result result;
        scenario = &scenarios[i];
        if (getenv("SCENARIO") && !strstr(scenario->name, getenv("SCENARIO"))) continue;
        if (scenario->flags & LONG && test_effort(1) < 2) continue;
        run_scenario(&result);
        points += result.points;
        images += result.images;
    }
    tear_down();
    printf("    %llu points, %llu different images, %llu recoveries, 0 bad\n",
           (unsigned long long)points, (unsigned long long)images, (unsigned long long)recoveries);
}
