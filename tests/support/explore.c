/* explore.c -- power cuts and kills at every point of a log, and what the heap is after each.
 *
 * Which images. With k operations pending (written, not flushed), a cut may leave any subset of
 * them, each write in whole or in part. Of those, in this order of preference:
 *   nothing, everything (what a killed process leaves), every subset if k <= 8; else each alone,
 *   all but each, every prefix and suffix, random ones; of a write: prefixes, suffixes and random
 *   sets of its sectors, beside none or all of the others. Lost sectors of the journal and of the
 *   header may also hold zeroes or garbage: recovery must not care what a sector holds that it
 *   never flushed.
 * A cut has far more images than its share; it takes that many of them at random.
 */
#include "support/explore.h"

#include "journal/journal_internal.h"
#include "test.h"

#include <stdarg.h>
#include <stdlib.h>

enum { SEEN_BITS = 22, SEEN_LIMIT = (1 << SEEN_BITS) / 4 * 3, EXPLORE_SUBSETS_MAX = 8 };

/* One image to be: what reaches the device. */
enum choice_kind {
    CHOOSE_NONE,
    CHOOSE_ALL,
    CHOOSE_MASK,
    CHOOSE_ALONE,
    CHOOSE_BUT,
    CHOOSE_PREFIX,
    CHOOSE_SUFFIX,
    CHOOSE_RANDOM,
    CHOOSE_TORN,
};

struct choice {
    enum choice_kind kind;
    uint64_t which;      /* the mask, the operation, or the seed of a random subset */
    uint64_t others;     /* TORN: 0 none of the others, 1 all, 2 random */
    uint64_t first, end; /* TORN: the sectors that arrive; first > end: a random set */
    enum sim_lost lost;  /* TORN: what the sectors hold that do not */
    uint64_t seed;
};

static const char *const choice_names[] = {
    "nothing arrived", "everything arrived", "subset",        "alone", "all but",
    "prefix up to",    "suffix from",        "random subset", "torn"};

static uint64_t mixed(uint64_t x)
{
    return test_random(&x);
}

static uint64_t pick(struct explorer *explorer, uint64_t limit)
{
    return test_random(&explorer->random) % limit;
}

/* ---- building an image ---- */

/* Whether lost sectors of this write may hold anything: the journal's and the header's. */
static bool may_be_garbage(const struct sim_disk *disk, const struct sim_operation *operation)
{
    const uint64_t first = operation->offset;
    const uint64_t end = first + operation->size;
    if (end <= REGION_STATUS_OFFSET) return true;
    if (first >= REGION_FIRST_EXTENT_OFFSET && end <= SLICE_BYTES) return true;
    for (uint32_t slot = 0; slot < REGION_SLOT_COUNT; slot++) {
        struct region_header header;
        memcpy(&header, disk->files[operation->file].bytes + slot * REGION_SLOT_STRIDE,
               sizeof header);
        if (header.magic != REGION_MAGIC) continue;
        for (uint32_t i = 0; i < REGION_EXTENT_MAX; i++) {
            const uint64_t from = (uint64_t)header.extents[i].first_slice << SLICE_SHIFT;
            const uint64_t bytes = (uint64_t)header.extents[i].slice_count << SLICE_SHIFT;
            if (bytes && first >= from && end <= from + bytes) return true;
        }
    }
    return false;
}

static void build_torn(struct sim_disk *disk, struct sim *target, const struct choice *choice)
{
    const size_t i = choice->which;
    const uint64_t sectors = sim_pending_sectors(disk, i);
    const bool garbage =
        choice->lost != SIM_LOST_OLD && may_be_garbage(disk, sim_pending_operation(disk, i));
    for (uint64_t sector = 0; sector < sectors; sector++) {
        const bool arrives = choice->first > choice->end
                                 ? mixed(choice->seed + sector) & 1
                                 : sector >= choice->first && sector < choice->end;
        if (arrives)
            sim_image_apply_sectors(disk, target, i, sector, sector + 1);
        else if (garbage)
            sim_image_lose_sector(disk, target, i, sector, choice->lost, choice->seed + sector);
    }
}

static bool arrives_whole(const struct choice *choice, size_t i)
{
    switch (choice->kind) {
    case CHOOSE_NONE: return false;
    case CHOOSE_ALL: return true;
    case CHOOSE_MASK: return i < 64 && choice->which >> i & 1;
    case CHOOSE_ALONE: return i == choice->which;
    case CHOOSE_BUT: return i != choice->which;
    case CHOOSE_PREFIX: return i < choice->which;
    case CHOOSE_SUFFIX: return i >= choice->which;
    case CHOOSE_RANDOM: return mixed(choice->seed + i) & 1;
    case CHOOSE_TORN:
        return choice->others == 1 || (choice->others == 2 && mixed(choice->seed + ~i) & 1);
    }
    return false;
}

static void build(struct sim_disk *disk, struct sim *target, const struct choice *choice)
{
    sim_image_begin(disk, target, mixed(disk->identity ^ choice->seed));
    for (size_t i = 0; i < disk->pending_count; i++) {
        if (choice->kind == CHOOSE_TORN && i == choice->which)
            build_torn(disk, target, choice);
        else if (arrives_whole(choice, i))
            sim_image_apply(disk, target, i);
    }
}

/* The n-th kind of image of this cut, n from 0; what goes beyond the fixed ones is random. */
static struct choice choose(struct explorer *explorer, const struct sim_disk *disk, unsigned n)
{
    const uint64_t k = disk->pending_count;
    struct choice choice = {.seed = test_random(&explorer->random)};
    if (n == 0 || k == 0) {
        choice.kind = CHOOSE_NONE;
    } else if (n == 1) {
        choice.kind = CHOOSE_ALL;
    } else if (n % 2 == 0) {
        /* The operation that came last is torn most often: the others had their turn. */
        choice.kind = CHOOSE_TORN;
        choice.which = pick(explorer, 2) ? k - 1 : pick(explorer, k);
        const uint64_t sectors = sim_pending_sectors(disk, choice.which);
        choice.others = pick(explorer, 3);
        choice.lost = (enum sim_lost)pick(explorer, 3);
        const uint64_t at = pick(explorer, sectors + 1);
        const uint64_t shape = pick(explorer, 4);
        choice.first = shape == 0 ? at : shape == 1 ? 0 : shape == 2 ? at : 1;
        choice.end = shape == 0 ? sectors : shape == 1 ? at : shape == 2 ? at + 1 : 0;
    } else if (k <= EXPLORE_SUBSETS_MAX) {
        choice.kind = CHOOSE_MASK;
        choice.which = pick(explorer, 1ull << k);
    } else {
        static const enum choice_kind kinds[] = {CHOOSE_ALONE,  CHOOSE_BUT,    CHOOSE_PREFIX,
                                                 CHOOSE_SUFFIX, CHOOSE_RANDOM, CHOOSE_RANDOM};
        choice.kind = kinds[pick(explorer, 6)];
        choice.which = pick(explorer, k);
    }
    return choice;
}

/* ---- what was seen ---- */

/* True if the image was not yet seen under this window. */
static bool seen_add(struct explorer *explorer, uint64_t identity, const struct window *window,
                     bool is_kill)
{
    uint64_t key = identity;
    for (uint32_t i = 0; i < window->count; i++) key = mixed(key ^ window->hashes[i]);
    key = mixed(key + window->may_be_absent + 2 * is_kill + is_kill * window->handed * 4) | 1;
    if (explorer->seen_count >= SEEN_LIMIT) return true;
    size_t at = key >> (64 - SEEN_BITS);
    while (explorer->seen[at] && explorer->seen[at] != key) at = (at + 1) % (1 << SEEN_BITS);
    if (explorer->seen[at] == key) return false;
    explorer->seen[at] = key;
    explorer->seen_count++;
    return true;
}

/* ---- checking an image ---- */

struct cut {
    const struct sim_log *log;
    size_t index;
    bool in_flight;
    unsigned level;
    const struct choice *choice;
    const struct sim_disk *disk;
    const struct cut *parent; /* the crash that this machine has come from */
};

static const char *const operation_names[] = {
    "new file",          "write",           "write_sync", "flush", "failed flush",
    "failed write_sync", "allocate",        "truncate",   "punch", "create",
    "publish",           "flush_directory", "mark"};

static void trace_log(const struct sim_log *log, size_t count)
{
    static const char *const marks[] = {"?", "begin", "handed", "acknowledged", "failed", "only"};
    for (size_t i = 0; i < count; i++) {
        const struct sim_operation *operation = &log->operations[i];
        if (operation->kind == SIM_MARK)
            fprintf(stderr, "  %4zu %s %llu: %016llx\n", i, marks[operation->value & 7],
                    (unsigned long long)operation->value >> 8,
                    (unsigned long long)operation->extra);
        else
            fprintf(stderr, "  %4zu %-12s 0x%llx +%llu\n", i, operation_names[operation->kind],
                    (unsigned long long)operation->offset, (unsigned long long)operation->size);
    }
}

/* With CRASH_TRACE set: the whole story, the first machine's first. */
static void trace(const struct cut *cut)
{
    if (!cut) return;
    trace(cut->parent);
    fprintf(stderr, "machine at depth %u, cut %s operation %zu, %s %llu\n", cut->level,
            cut->in_flight ? "during" : "after", cut->index, choice_names[cut->choice->kind],
            (unsigned long long)cut->choice->which);
    trace_log(cut->log, cut->index + 1);
}

__attribute__((format(printf, 3, 4))) static void violate(struct explorer *explorer,
                                                          const struct cut *cut, const char *format,
                                                          ...)
{
    if (explorer->violation[0]) return;
    const struct sim_operation *operation = &cut->log->operations[cut->index];
    const struct choice *choice = cut->choice;
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    snprintf(explorer->violation, sizeof explorer->violation,
             "%s\n    plan %s, SEED=%llu, depth %u, image %llu\n"
             "    %s operation %zu of %zu: %s at 0x%llx, %llu bytes; %zu pending: %s %llu"
             " (others %llu, sectors %llu..%llu, lost %d)",
             what, explorer->plan->work->name, (unsigned long long)explorer->seed, cut->level,
             (unsigned long long)explorer->counts.images, cut->in_flight ? "during" : "after",
             cut->index, cut->log->count, operation_names[operation->kind],
             (unsigned long long)operation->offset, (unsigned long long)operation->size,
             cut->disk->pending_count, choice_names[choice->kind],
             (unsigned long long)choice->which, (unsigned long long)choice->others,
             (unsigned long long)choice->first, (unsigned long long)choice->end, (int)choice->lost);
    if (getenv("CRASH_TRACE")) trace(cut);
}

/* A finding is kept for the message. */
static bool keep_finding(const evh_finding *finding, void *context)
{
    snprintf(context, 200, "%s at 0x%llx: %s", finding->object, (unsigned long long)finding->offset,
             finding->message);
    return false;
}

/* Whether nothing is promised of an image: the disk lied, and the power went. A killed process
 * leaves its cache, whatever the disk does. */
static bool is_unpromised(const struct explorer *explorer, bool is_kill)
{
    return explorer->plan->disk_lies && !is_kill;
}

static bool check_open_failed(struct explorer *explorer, const struct cut *cut,
                              const struct window *window, bool is_kill)
{
    const evh_status status = evh_last_error()->status;
    if (status == EVH_NOT_FOUND && window->may_be_absent) return true;
    if (is_unpromised(explorer, is_kill)) {
        explorer->counts.refused++;
        return true;
    }
    violate(explorer, cut, "cannot be opened: %s", evh_last_error()->message);
    return false;
}

static bool check_content(struct explorer *explorer, const struct cut *cut, evh_heap *heap,
                          const struct window *window, bool is_kill)
{
    char finding[200] = "";
    if (evh_check(heap, keep_finding, finding)) {
        if (is_unpromised(explorer, is_kill)) {
            explorer->counts.refused++;
            return false;
        }
        violate(explorer, cut, "check: %s", finding[0] ? finding : evh_last_error()->message);
        return false;
    }
    const uint64_t hash = content_hash(heap);
    if (window_allows(window, hash, is_kill)) return true;
    bool is_old = false;
    for (size_t i = 0; i < explorer->history.count; i++)
        is_old = is_old || explorer->history.hashes[i] == hash;
    if (is_unpromised(explorer, is_kill)) {
        explorer->counts.older += is_old;
        explorer->counts.mixtures += !is_old;
        return false;
    }
    violate(explorer, cut, "%s",
            is_old ? "an acknowledged commit is lost, or a failed one is back"
                   : "the content is that of no commit");
    return false;
}

static void explore_log(struct explorer *explorer, const struct cut *parent,
                        const struct sim_log *log, struct sim_disk *disk, struct window window,
                        uint64_t images);

/* The machine of an image goes on: its recovery, some work and a close are explored as well. */
static void go_on(struct explorer *explorer, const struct cut *cut, struct sim *machine,
                  evh_heap *heap, struct window window)
{
    static const struct workload_plan after_plan = {.name = "after recovery",
                                                    .slots = 24,
                                                    .mutate = 6,
                                                    .commit = 3,
                                                    .checkpoint = 1,
                                                    .rollback = 1,
                                                    .group = 2,
                                                    .medium = 3,
                                                    .checkpoint_bytes = 24 << 10};
    const unsigned level = cut->level + 1;
    struct workload_plan plan = after_plan;
    plan.slots = explorer->plan->work->slots;
    plan.checkpoint_bytes = explorer->plan->work->checkpoint_bytes;
    plan.size_max_bytes = explorer->plan->work->size_max_bytes;
    plan.private_max_bytes = explorer->plan->work->private_max_bytes;
    plan.background = explorer->plan->work->background;
    /* Another bulk commit at the place of the one that a crash may have cut off. */
    if (explorer->plan->work->bulk_pages) plan.large = explorer->plan->work->large;
    plan.system_page_bytes = explorer->plan->work->system_page_bytes;
    struct workload work;
    const unsigned steps = (unsigned)pick(explorer, 8);
    const bool is_right = workload_continue(&work, machine, heap, &plan, &window,
                                            test_random(&explorer->random), steps);
    if (!is_right) violate(explorer, cut, "work after recovery: %s", work.problem);
    if (is_right && pick(explorer, 2)) {
        if (evh_close(work.heap))
            violate(explorer, cut, "close after recovery: %s", evh_last_error()->message);
        work.heap = NULL;
    }
    workload_abandon(&work);
    explore_log(explorer, cut, sim_log(machine), explorer->disks[level], window,
                1 + (explorer->plan->nested_images >> (2 * cut->level)));
}

/* Open the image that was built in the machine and check it; with `goes_on`, what follows too. */
static void check_image(struct explorer *explorer, const struct cut *cut,
                        const struct window *window, bool is_kill, bool goes_on)
{
    struct sim *machine = explorer->machines[cut->level + 1];
    sim_use(machine);
    sim_set_compare(machine, !explorer->plan->work->real_tiers);
    sim_set_threads(machine, explorer->plan->work->background);
    sim_set_page_bytes(machine, explorer->plan->work->system_page_bytes);
    evh_options options = workload_options(explorer->plan->work);
    options.must_exist = true;
    evh_heap *heap = evh_open(WORKLOAD_PATH, &options);
    bool is_right = heap ? check_content(explorer, cut, heap, window, is_kill)
                         : check_open_failed(explorer, cut, window, is_kill);
    if (heap && is_right && goes_on) {
        struct window after = *window;
        if (!is_kill) after.handed = 0; /* what was handed over, the power cut may have taken */
        go_on(explorer, cut, machine, heap, after);
    } else {
        sim_kill(machine);
        (void)evh_close(heap);
    }
    const struct sim_counts *counts = sim_counts(machine);
    if (counts->descriptors || counts->reservations)
        violate(explorer, cut, "leaked %llu descriptors, %llu reservations",
                (unsigned long long)counts->descriptors, (unsigned long long)counts->reservations);
}

/* ---- cuts ---- */

static void explore_cut(struct explorer *explorer, struct cut *cut, struct sim_disk *disk,
                        const struct window *window, uint64_t images)
{
    struct sim *target = explorer->machines[cut->level + 1];
    explorer->counts.cuts++;
    for (unsigned n = 0; n < images && !explorer->violation[0]; n++) {
        const struct choice choice = choose(explorer, disk, n);
        if (n > 0 && disk->pending_count == 0) return;
        const bool goes_on = explorer->plan->nested_every && cut->level < EXPLORE_DEPTH &&
                             pick(explorer, explorer->plan->nested_every >> 2 * cut->level) == 0;
        build(disk, target, &choice);
        const bool is_kill = choice.kind == CHOOSE_ALL;
        /* A killed process leaves the machine running, with all it had in its cache. */
        sim_set_boot(target, sim_boot(explorer->machines[cut->level]) + !is_kill);
        if (!seen_add(explorer, sim_image_identity(target), window, is_kill)) {
            explorer->counts.repeated++;
            continue;
        }
        cut->choice = &choice;
        if (goes_on && is_kill)
            sim_disk_copy(explorer->disks[cut->level + 1], disk);
        else if (goes_on)
            sim_disk_from(explorer->disks[cut->level + 1], target);
        explorer->counts.images++;
        explorer->counts.nested[cut->level]++;
        explorer->counts.kills += is_kill;
        explorer->counts.torn += choice.kind == CHOOSE_TORN;
        /* What follows has random numbers of its own: whether the image was seen before must not
         * change those that come after it, or no seed would repeat anything. */
        const uint64_t random = explorer->random;
        explorer->random = choice.seed;
        check_image(explorer, cut, window, is_kill, goes_on);
        explorer->random = random;
    }
}

static size_t changes_in(const struct sim_log *log)
{
    size_t count = 1;
    for (size_t i = 0; i < log->count; i++)
        count += log->operations[i].kind != SIM_MARK && log->operations[i].kind != SIM_NEW;
    return count;
}

/* About `images` of them over the whole log; 0: the plan's number at each cut. */
static void explore_log(struct explorer *explorer, const struct cut *parent,
                        const struct sim_log *log, struct sim_disk *disk, struct window window,
                        uint64_t images)
{
    const unsigned level = parent ? parent->level + 1 : 0;
    const size_t changes = changes_in(log);
    for (size_t i = 0; i < log->count && !explorer->violation[0]; i++) {
        const struct sim_operation *operation = &log->operations[i];
        uint64_t share = images ? images / changes : explorer->plan->images_per_cut;
        if (images && pick(explorer, changes) < images % changes) share++;
        struct cut cut = {.log = log, .index = i, .level = level, .disk = disk, .parent = parent};
        if (operation->kind == SIM_MARK) {
            window_step(&window, operation);
            continue;
        }
        if (operation->kind == SIM_WRITE_SYNC) {
            cut.in_flight = true;
            sim_disk_begin(disk, log, i);
            explore_cut(explorer, &cut, disk, &window, share);
            sim_disk_unbegin(disk);
            cut.in_flight = false;
        }
        sim_disk_step(disk, log, i);
        explore_cut(explorer, &cut, disk, &window, share);
        if (level == 0 && explorer->counts.images >= explorer->wanted) return;
    }
}

/* ---- workloads ---- */

struct explorer *explorer_create(const struct explore_plan *plan)
{
    struct explorer *explorer = calloc(1, sizeof *explorer);
    if (!explorer) abort();
    explorer->plan = plan;
    if (plan->work->bulk_pages) journal_bulk_pages_min = plan->work->bulk_pages;
    explorer->seen = calloc(1 << SEEN_BITS, sizeof *explorer->seen);
    if (!explorer->seen) abort();
    for (int i = 0; i < EXPLORE_DEPTH + 2; i++) explorer->machines[i] = sim_create((uint64_t)i);
    for (int i = 0; i < EXPLORE_DEPTH + 1; i++) explorer->disks[i] = sim_disk_create();
    return explorer;
}

void explorer_end(struct explorer *explorer)
{
    if (!explorer) return;
    sim_use(NULL);
    for (int i = 0; i < EXPLORE_DEPTH + 2; i++) sim_end(explorer->machines[i]);
    for (int i = 0; i < EXPLORE_DEPTH + 1; i++) sim_disk_end(explorer->disks[i]);
    free(explorer->history.hashes);
    free(explorer->seen);
    free(explorer);
}

/* All contents that the log's marks name. */
static void remember_history(struct explorer *explorer, const struct sim_log *log)
{
    struct window_history *history = &explorer->history;
    history->count = 0;
    for (size_t i = 0; i < log->count; i++) {
        const struct sim_operation *operation = &log->operations[i];
        if (operation->kind != SIM_MARK || operation->extra == 0) continue;
        if (history->count == history->capacity) {
            history->capacity = 2 * history->capacity + 64;
            history->hashes = realloc(history->hashes, history->capacity * sizeof(uint64_t));
            if (!history->hashes) abort();
        }
        history->hashes[history->count++] = operation->extra;
    }
}

static void explore_one(struct explorer *explorer, uint64_t seed)
{
    struct sim *machine = explorer->machines[0];
    explorer->seed = seed;
    explorer->random = seed;
    sim_reset(machine, seed);
    sim_use(machine);
    if (explorer->plan->work->fault_kinds) sim_keep_disk(machine);
    struct workload work;
    if (!workload_run(&work, machine, explorer->plan->work, seed))
        snprintf(explorer->violation, sizeof explorer->violation, "%s\n    plan %s, SEED=%llu",
                 work.problem, explorer->plan->work->name, (unsigned long long)seed);
    if (explorer->violation[0] && getenv("CRASH_TRACE"))
        trace_log(sim_log(machine), sim_log(machine)->count);
    if (work.heap && pick(explorer, 2)) {
        (void)evh_close(work.heap);
        work.heap = NULL;
    }
    workload_abandon(&work);
    explorer->counts.commits += work.commits;
    explorer->counts.workloads++;
    if (explorer->violation[0]) return;
    const struct window nothing = {.may_be_absent = true};
    remember_history(explorer, sim_log(machine));
    sim_disk_reset(explorer->disks[0]);
    explorer->disks[0]->ignores_flushes = explorer->plan->disk_lies;
    explore_log(explorer, NULL, sim_log(machine), explorer->disks[0], nothing, 0);
}

bool explore(struct explorer *explorer, uint64_t seed, uint64_t images)
{
    explorer->wanted = images;
    for (uint64_t i = 0; explorer->counts.images < images && !explorer->violation[0]; i++)
        explore_one(explorer, seed + i);
    sim_use(NULL);
    return !explorer->violation[0];
}

void explore_report(const struct explore_counts *counts, const char *name, double seconds)
{
    printf("    %s: %llu images (%llu/%llu/%llu by depth, %llu kills, %llu torn; %llu repeated), "
           "%llu cuts, %llu commits, %llu workloads, %.0f images/s",
           name, (unsigned long long)counts->images, (unsigned long long)counts->nested[0],
           (unsigned long long)counts->nested[1], (unsigned long long)counts->nested[2],
           (unsigned long long)counts->kills, (unsigned long long)counts->torn,
           (unsigned long long)counts->repeated, (unsigned long long)counts->cuts,
           (unsigned long long)counts->commits, (unsigned long long)counts->workloads,
           seconds > 0 ? (double)counts->images / seconds : 0);
    if (counts->refused)
        printf("; %llu refused, %llu older, %llu mixtures", (unsigned long long)counts->refused,
               (unsigned long long)counts->older, (unsigned long long)counts->mixtures);
    printf("\n");
}
