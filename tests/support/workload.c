/* workload.c -- random work on a heap in a simulated machine, and what may be left of it. */
#include "support/workload.h"

#include "test.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

/* ---- windows ---- */

static uint32_t window_position(const struct window *window, uint64_t id)
{
    uint32_t at = 0;
    while (at < window->count && window->ids[at] != id) at++;
    return at;
}

static void window_drop(struct window *window, uint32_t first, uint32_t count)
{
    const uint32_t behind = window->count - first - count;
    memmove(window->ids + first, window->ids + first + count, behind * sizeof *window->ids);
    memmove(window->hashes + first, window->hashes + first + count,
            behind * sizeof *window->hashes);
    window->count -= count;
}

void window_step(struct window *window, const struct sim_operation *mark)
{
    const uint64_t id = mark->value >> 8;
    const uint32_t at = window_position(window, id);
    switch ((enum mark)(mark->value & 0xff)) {
    case MARK_BEGIN:
        if (window->count == WINDOW_MAX) abort();
        window->ids[window->count] = id;
        window->hashes[window->count++] = mark->extra;
        break;
    case MARK_HANDED: window->handed = id; break;
    case MARK_ACKNOWLEDGED:
        if (at < window->count) window_drop(window, 0, at);
        window->may_be_absent = false;
        break;
    case MARK_FAILED:
        if (at < window->count) window_drop(window, at, 1);
        break;
    case MARK_ONLY:
        window->count = 1;
        window->ids[0] = id;
        window->hashes[0] = mark->extra;
        window->handed = id;
        window->may_be_absent = false;
        break;
    }
}

bool window_allows(const struct window *window, uint64_t hash, bool is_kill)
{
    for (uint32_t i = 0; i < window->count; i++)
        if (window->hashes[i] == hash && (!is_kill || window->ids[i] >= window->handed))
            return true;
    return false;
}

/* ---- content ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct hashing {
    uint64_t sum;
    evh_heap *heap;
};

static bool hash_block(const evh_block *block, void *context)
{
    struct hashing *hashing = context;
    const uint64_t crc = base_crc32c((uint32_t)block->ref.offset, block->address, block->size);
    hashing->sum = mix(hashing->sum ^ block->ref.offset << 20 ^ block->size << 44 ^ crc);
    return true;
}

uint64_t content_hash(evh_heap *heap)
{
    struct hashing hashing = {1, heap};
    if (evh_walk(heap, hash_block, &hashing)) return 0;
    uint64_t roots = 0;
    for (evh_root_info root = {0}; evh_root_next(heap, &root);)
        roots += mix(base_crc32c(0, root.name, strlen(root.name)) ^ root.tag << 32 ^
                     mix(root.block.offset ^ root.size << 40));
    return mix(hashing.sum ^ roots) | 1;
}

/* ---- marks ---- */

__attribute__((format(printf, 2, 3))) static void problem(struct workload *work, const char *format,
                                                          ...)
{
    if (work->problem[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(work->problem, sizeof work->problem, format, arguments);
    va_end(arguments);
}

static void mark(struct workload *work, enum mark kind, uint64_t id, uint64_t hash)
{
    /* A write that fails may take back what was handed over before it: its ticket says so,
     * later. */
    if (kind == MARK_HANDED && work->plan->fault_kinds) return;
    sim_mark(work->machine, id << 8 | kind, hash);
    const struct sim_log *log = sim_log(work->machine);
    window_step(&work->window, &log->operations[log->count - 1]);
}

/* ---- blocks: refs in a root's table ---- */

static evh_ref *table(struct workload *work)
{
    return evh_root(work->heap, "table", work->plan->slots * sizeof(evh_ref));
}

static uint64_t chance(struct workload *work, uint64_t limit)
{
    return test_random(&work->random) % limit;
}

/* Few sizes keep the heap small (each class has slices of its own), and images cheap. */
static size_t block_size(struct workload *work)
{
    static const size_t few[] = {48, 48, 112, 400, 2500};
    const bool is_varied = work->plan->varied;
    const uint64_t kind = chance(work, 100);
    if (kind < work->plan->large) return 70000 + chance(work, 200000);
    if (kind < work->plan->large + work->plan->medium)
        return is_varied ? 4000 + chance(work, 56000) : 7000;
    if (!is_varied) return few[chance(work, sizeof few / sizeof few[0])];
    return kind % 4 == 0 ? 300 + chance(work, 3000) : 16 + chance(work, 280);
}

/* Change a block: a few words, a run of bytes, all of it, or all of it to zero. */
static void change_block(struct workload *work, unsigned char *block, size_t size)
{
    if (!block) return;
    uint64_t value = test_random(&work->random);
    switch (chance(work, 6)) {
    case 0:
        for (size_t i = 0; i + 8 <= size; i += 8) {
            value = value * 6364136223846793005u + 1;
            memcpy(block + i, &value, 8);
        }
        break;
    case 1: memset(block, 0, size); break;
    case 2: {
        const size_t first = chance(work, size);
        memset(block + first, (int)(value & 0xff), base_min(size - first, 1 + value % 700));
        break;
    }
    default:
        for (uint64_t i = 0; i <= value % 5; i++)
            block[chance(work, size)] = (unsigned char)test_random(&work->random);
    }
}

static bool fault_was_planned(const struct workload *work)
{
    return work->plan->fault_kinds != 0;
}

static void change_slot(struct workload *work, evh_ref *slot)
{
    unsigned char *block = evh_at(work->heap, *slot);
    const size_t size = block_size(work);
    switch (chance(work, 8)) {
    case 0:
    case 1:
        if (block) {
            evh_free(work->heap, block);
            slot->offset = 0;
        }
        break;
    case 2: {
        unsigned char *moved = block ? evh_realloc(work->heap, block, size) : NULL;
        if (moved) *slot = evh_ref_to(work->heap, moved);
        break;
    }
    case 3:
        if (block && evh_free_from(work->heap, slot) &&
            !(fault_was_planned(work) && evh_last_error()->status == EVH_NO_MEMORY))
            problem(work, "evh_free_from failed: %s", evh_last_error()->message);
        if (evh_malloc_to(work->heap, slot, size)) slot->offset = 0;
        change_block(work, evh_at(work->heap, *slot), slot->offset ? size : 0);
        break;
    default:
        if (!block) {
            block =
                chance(work, 4) ? evh_malloc(work->heap, size) : evh_calloc(work->heap, 1, size);
            *slot = evh_ref_to(work->heap, block);
        }
        if (block) change_block(work, block, evh_usable_size(work->heap, block));
    }
}

static void change_root(struct workload *work)
{
    char name[] = "root 0";
    name[5] = (char)('0' + chance(work, 4));
    const uint64_t tag = chance(work, 3);
    const uint64_t action = chance(work, 4);
    if (action == 0) {
        (void)evh_root_remove(work->heap, name);
    } else if (action == 1) {
        (void)evh_root_remove_tagged(work->heap, tag);
    } else {
        unsigned char *root =
            action == 2 ? evh_root(work->heap, name, 64) : evh_root_tagged(work->heap, tag, 64);
        if (root) root[chance(work, 64)]++;
    }
}

static void mutate(struct workload *work)
{
    const uint64_t count = 1 + chance(work, 6);
    for (uint64_t i = 0; i < count; i++) {
        evh_ref *slots = table(work);
        if (!slots) return; /* a full disk, or no memory */
        if (chance(work, 12) == 0)
            change_root(work);
        else
            change_slot(work, &slots[chance(work, work->plan->slots)]);
    }
}

/* ---- commits ---- */

static bool is_poisoned(struct workload *work)
{
    evh_info info;
    return evh_get_info(work->heap, &info) != EVH_OK || info.is_poisoned;
}

/* A commit failed. Without a fault it may not; after a clean failure it must never appear. */
static void commit_failed(struct workload *work, uint64_t id, const char *what)
{
    if (!fault_was_planned(work)) problem(work, "%s failed: %s", what, evh_last_error()->message);
    if (!is_poisoned(work)) mark(work, MARK_FAILED, id, 0);
}

static void wait_all(struct workload *work)
{
    for (unsigned i = 0; i < work->pending_count && !work->problem[0]; i++) {
        if (evh_commit_wait(work->heap, work->tickets[i])) {
            commit_failed(work, work->pending_ids[i], "evh_commit_wait");
            continue;
        }
        mark(work, MARK_ACKNOWLEDGED, work->pending_ids[i], 0);
    }
    work->pending_count = 0;
}

static void commit(struct workload *work)
{
    const uint64_t hash = content_hash(work->heap);
    const uint64_t id = work->next_id++;
    if (hash == 0) {
        problem(work, "evh_walk failed: %s", evh_last_error()->message);
        return;
    }
    mark(work, MARK_BEGIN, id, hash);
    if (evh_commit(work->heap)) {
        commit_failed(work, id, "evh_commit");
        return;
    }
    if (content_hash(work->heap) != hash)
        problem(work, "a commit has changed what the program sees");
    /* Commits become durable in the order they were begun. */
    mark(work, MARK_HANDED, id, 0);
    mark(work, MARK_ACKNOWLEDGED, id, 0);
    work->last_hash = hash;
    work->commits++;
    if (!fault_was_planned(work) || chance(work, 2)) wait_all(work);
}

static void commit_begin(struct workload *work)
{
    if (work->pending_count == WINDOW_MAX / 2) wait_all(work);
    const uint64_t hash = content_hash(work->heap);
    const uint64_t id = work->next_id++;
    const unsigned at = work->pending_count;
    mark(work, MARK_BEGIN, id, hash);
    if (evh_commit_begin(work->heap, &work->tickets[at])) {
        commit_failed(work, id, "evh_commit_begin");
        return;
    }
    mark(work, MARK_HANDED, id, 0);
    work->pending_ids[at] = id;
    work->pending_count++;
    work->last_hash = hash;
    work->commits++;
}

static void rollback(struct workload *work)
{
    if (evh_rollback(work->heap)) {
        if (!fault_was_planned(work))
            problem(work, "evh_rollback failed: %s", evh_last_error()->message);
        return;
    }
    if (content_hash(work->heap) != work->last_hash && !fault_was_planned(work))
        problem(work, "after a rollback the heap is not what was committed last");
}

/* ---- opening ---- */

evh_options workload_options(const struct workload_plan *plan)
{
    return (evh_options){.no_thread = !plan->background,
                         .misuse = EVH_MISUSE_ABORT,
                         .detect = plan->real_tiers ? EVH_DETECT_AUTO : EVH_DETECT_COMPARE,
                         .checkpoint_bytes = plan->checkpoint_bytes,
                         .journal_max_bytes = plan->journal_max_bytes,
                         .private_max_bytes = plan->private_max_bytes,
                         .size_max_bytes =
                             plan->size_max_bytes ? plan->size_max_bytes : SIM_FILE_BYTES_MAX / 2};
}

/* After a close or a kill: what is there must be what may be there. */
static void reopen(struct workload *work, bool is_kill)
{
    sim_fail(work->machine, 0, 0, 0, 0);
    work->options.must_exist = true;
    work->heap = evh_open(WORKLOAD_PATH, &work->options);
    if (!work->heap) {
        problem(work, "reopening failed: %s", evh_last_error()->message);
        return;
    }
    const uint64_t hash = content_hash(work->heap);
    if (!window_allows(&work->window, hash, is_kill))
        problem(work, "a reopened heap is not what was committed");
    if (evh_check(work->heap, NULL, NULL))
        problem(work, "a reopened heap is damaged: %s", evh_last_error()->message);
    mark(work, MARK_ONLY, work->next_id++, hash);
    work->last_hash = hash;
}

static void close_and_reopen(struct workload *work)
{
    const bool was_poisoned = is_poisoned(work);
    const evh_status status = evh_close(work->heap);
    work->heap = NULL;
    if (status && !fault_was_planned(work))
        problem(work, "evh_close failed: %s", evh_last_error()->message);
    if (status == EVH_OK && !was_poisoned)
        for (unsigned i = 0; i < work->pending_count; i++)
            mark(work, MARK_ACKNOWLEDGED, work->pending_ids[i], 0);
    work->pending_count = 0;
    if (fault_was_planned(work) && chance(work, 2)) sim_drop_cache(work->machine);
    reopen(work, false);
}

void workload_abandon(struct workload *work)
{
    sim_kill(work->machine);
    (void)evh_close(work->heap);
    work->heap = NULL;
    work->pending_count = 0;
}

static void kill_and_reopen(struct workload *work)
{
    workload_abandon(work);
    sim_revive(work->machine);
    reopen(work, !fault_was_planned(work));
}

static void checkpoint(struct workload *work)
{
    if (evh_checkpoint(work->heap) && !fault_was_planned(work))
        problem(work, "evh_checkpoint failed: %s", evh_last_error()->message);
}

static void trim(struct workload *work)
{
    uint64_t freed;
    if (evh_trim(work->heap, &freed) && !fault_was_planned(work))
        problem(work, "evh_trim failed: %s", evh_last_error()->message);
}

static void plan_fault(struct workload *work)
{
    static const int errors[] = {EIO, ENOSPC};
    static const unsigned kinds[] = {SIM_FAULT_WRITE, SIM_FAULT_FLUSH, SIM_FAULT_ALLOCATE,
                                     SIM_FAULT_MEMORY};
    const uint64_t times = chance(work, 3) ? 1 : 1 + chance(work, 5);
    const unsigned kind = kinds[chance(work, sizeof kinds / sizeof kinds[0])];
    sim_fail(work->machine, work->plan->fault_kinds & kind, 1 + chance(work, 6),
             errors[chance(work, 2)], times);
}

/* ---- running ---- */

static void step(struct workload *work)
{
    const struct workload_plan *plan = work->plan;
    const unsigned weights[] = {plan->mutate,   plan->commit,     plan->group,
                                plan->rollback, plan->checkpoint, plan->trim,
                                plan->reopen,   plan->kill,       plan->fault};
    enum { ACTIONS = sizeof weights / sizeof weights[0] };
    uint64_t total = 0;
    for (int i = 0; i < ACTIONS; i++) total += weights[i];
    uint64_t pick = chance(work, total);
    unsigned action = 0;
    while (pick >= weights[action]) pick -= weights[action++];
    switch (action) {
    case 0: mutate(work); break;
    case 1: commit(work); break;
    case 2: chance(work, 3) ? commit_begin(work) : wait_all(work); break;
    case 3: rollback(work); break;
    case 4: checkpoint(work); break;
    case 5: trim(work); break;
    case 6: close_and_reopen(work); break;
    case 7: kill_and_reopen(work); break;
    default: plan_fault(work); break;
    }
    if (!work->problem[0] && work->heap && fault_was_planned(work) && is_poisoned(work))
        chance(work, 2) ? close_and_reopen(work) : kill_and_reopen(work);
}

static bool work_on(struct workload *work, unsigned steps)
{
    for (unsigned i = 0; i < steps && work->heap && !work->problem[0]; i++) step(work);
    if (work->heap && !work->problem[0]) commit(work);
    return !work->problem[0];
}

bool workload_run(struct workload *work, struct sim *machine, const struct workload_plan *plan,
                  uint64_t seed)
{
    *work = (struct workload){.machine = machine, .plan = plan, .random = seed, .next_id = 1};
    work->options = workload_options(plan);
    sim_set_compare(machine, !plan->real_tiers);
    sim_set_threads(machine, plan->background);
    sim_set_page_bytes(machine, plan->system_page_bytes);
    work->window.may_be_absent = true;
    /* What a new heap holds is known once it is made, and is allowed from the start. */
    struct sim_log *log = sim_log(machine);
    const size_t first = log->count;
    mark(work, MARK_BEGIN, work->next_id, 0);
    work->heap = evh_open(WORKLOAD_PATH, &work->options);
    if (!work->heap) {
        problem(work, "evh_open failed: %s", evh_last_error()->message);
        return false;
    }
    work->last_hash = content_hash(work->heap);
    log->operations[first].extra = work->last_hash;
    mark(work, MARK_ONLY, work->next_id++, work->last_hash);
    return work_on(work, plan->steps);
}

bool workload_continue(struct workload *work, struct sim *machine, evh_heap *heap,
                       const struct workload_plan *plan, const struct window *window, uint64_t seed,
                       unsigned steps)
{
    *work = (struct workload){.machine = machine, .plan = plan, .heap = heap, .random = seed};
    work->options = workload_options(plan);
    work->window = *window;
    work->next_id = 1;
    for (uint32_t i = 0; i < window->count; i++)
        work->next_id = base_max(work->next_id, window->ids[i] + 1);
    work->next_id = base_max(work->next_id, window->handed + 1);
    work->last_hash = content_hash(heap);
    mark(work, MARK_ONLY, work->next_id++, work->last_hash);
    return work_on(work, steps);
}
