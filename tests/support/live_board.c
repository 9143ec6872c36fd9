/* live_board.c -- a table in a live heap that several processes allocate into and free from. */
#include "live_board.h"

#include "test.h"

#include <everheap/inspect.h>

#include <stdlib.h>
#include <string.h>

struct board *board_open(evh_heap *heap)
{
    return evh_root(heap, "board", sizeof(struct board));
}

static size_t board_size(uint64_t *random)
{
    const uint64_t kind = test_random(random) % 1000;
    if (kind < 3) return 70000 + test_random(random) % 400000;
    if (kind < 20) return 9000 + test_random(random) % 50000;
    if (kind < 200) return 500 + test_random(random) % 7000;
    return 16 + test_random(random) % 400;
}

/* The first and the last whole words of the block; all of it would measure memcpy(). Atomic only
 * for ThreadSanitizer, which does not see what another process orders. */
static void board_fill(void *block, uint64_t size, uint64_t stamp)
{
    uint64_t *words = block;
    __atomic_store_n(&words[0], stamp, __ATOMIC_RELAXED);
    __atomic_store_n(&words[size / 8 - 1], stamp, __ATOMIC_RELAXED);
}

static bool board_is_filled(void *block, uint64_t size, uint64_t stamp)
{
    uint64_t *words = block;
    return __atomic_load_n(&words[0], __ATOMIC_RELAXED) == stamp &&
           __atomic_load_n(&words[size / 8 - 1], __ATOMIC_RELAXED) == stamp;
}

static const char *board_allocate(evh_heap *heap, struct board_slot *slot, uint64_t *random,
                                  bool in_one_step)
{
    const uint64_t size = board_size(random);
    slot->size = size;
    if (in_one_step) {
        if (evh_malloc_to(heap, &slot->block, size)) return evh_last_error()->message;
    } else {
        const void *block = evh_malloc(heap, size);
        if (!block) return evh_last_error()->message;
        __atomic_store_n(&slot->block.offset, evh_ref_to(heap, block).offset, __ATOMIC_RELEASE);
    }
    const uint64_t stamp = test_random(random) | 1;
    board_fill(evh_at(heap, slot->block), size, stamp);
    __atomic_store_n(&slot->stamp, stamp, __ATOMIC_RELEASE);
    return NULL;
}

static const char *board_free(evh_heap *heap, struct board_slot *slot, bool in_one_step)
{
    void *block = evh_at(heap, slot->block);
    if (slot->stamp && !board_is_filled(block, slot->size, slot->stamp))
        return "a block does not hold what was stored in it";
    __atomic_store_n(&slot->stamp, 0, __ATOMIC_RELEASE);
    if (in_one_step) return evh_free_from(heap, &slot->block) ? evh_last_error()->message : NULL;
    __atomic_store_n(&slot->block.offset, 0, __ATOMIC_RELEASE);
    evh_free(heap, block);
    return NULL;
}

const char *board_step(evh_heap *heap, struct board *board, unsigned worker, uint64_t *random,
                       bool in_one_step)
{
    struct board_slot *slot = &board->slots[test_random(random) % BOARD_SLOTS];
    uint64_t nobody = 0;
    if (!__atomic_compare_exchange_n(&slot->busy, &nobody, worker + 1, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return NULL;
    const char *wrong = slot->block.offset ? board_free(heap, slot, in_one_step)
                                           : board_allocate(heap, slot, random, in_one_step);
    __atomic_store_n(&slot->busy, 0, __ATOMIC_RELEASE);
    (void)__atomic_fetch_add(&board->operations[worker], 1, __ATOMIC_RELAXED);
    return wrong;
}

void board_release(struct board *board, unsigned worker)
{
    for (unsigned i = 0; i < BOARD_SLOTS; i++) {
        uint64_t mine = worker + 1;
        (void)__atomic_compare_exchange_n(&board->slots[i].busy, &mine, 0, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED);
    }
}

/* ---- checking ---- */

struct board_walk {
    uint64_t *live; /* offsets, ascending */
    size_t count, capacity;
};

static bool board_visit(const evh_block *block, void *context)
{
    struct board_walk *walk = context;
    if (walk->count == walk->capacity) {
        walk->capacity = walk->capacity ? walk->capacity * 2 : 1024;
        walk->live = realloc(walk->live, walk->capacity * sizeof *walk->live);
        if (!walk->live) abort();
    }
    walk->live[walk->count++] = block->ref.offset;
    return true;
}

static int board_compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static bool board_finding(const evh_finding *finding, void *context)
{
    (void)context;
    fprintf(stderr, "finding: %s at 0x%llx: %s\n", finding->object,
            (unsigned long long)finding->offset, finding->message);
    return true;
}

static const char *board_check_slots(evh_heap *heap, const struct board *board,
                                     struct board_walk *walk, uint64_t *named)
{
    uint64_t *seen = calloc(walk->count + 1, sizeof *seen);
    const char *wrong = seen ? NULL : "no memory";
    for (unsigned i = 0; i < BOARD_SLOTS && !wrong; i++) {
        const struct board_slot *slot = &board->slots[i];
        if (!slot->block.offset) continue;
        const uint64_t *found = bsearch(&slot->block.offset, walk->live, walk->count,
                                        sizeof *walk->live, board_compare);
        if (!found)
            wrong = "a slot names a block that is not live";
        else if (seen[found - walk->live]++)
            wrong = "two slots name one block";
        else if (slot->stamp &&
                 !board_is_filled(evh_at(heap, slot->block), slot->size, slot->stamp))
            wrong = "a block does not hold what was stored in it";
        ++*named;
    }
    free(seen);
    return wrong;
}

const char *board_check(evh_heap *heap, uint64_t *leaked)
{
    struct board_walk walk = {0};
    evh_info info;
    uint64_t named = 0;
    const struct board *board = evh_root_find(heap, "board", NULL);
    if (!board) return "the board is gone";
    if (evh_check(heap, board_finding, NULL)) return evh_last_error()->message;
    if (evh_walk(heap, board_visit, &walk)) return evh_last_error()->message;
    if (evh_get_info(heap, &info)) return evh_last_error()->message;
    const char *wrong = board_check_slots(heap, board, &walk, &named);
    if (!wrong && info.live_blocks != walk.count)
        wrong = "the count of live blocks is not the walk's";
    /* The catalog, one chunk, the root's record, the board. */
    enum { INTERNAL = 4 };
    if (!wrong && walk.count < named + INTERNAL) wrong = "blocks are missing";
    *leaked = walk.count - named - INTERNAL;
    free(walk.live);
    return wrong;
}
