/* interleave_memory.c -- memory as C11 has it: what a load may find, and which accesses race.
 *
 * Every atomic location has a history: the stores to it in modification order. A load may find any
 * of them but those that coherence hides: older than one that the thread has seen, or that it knows
 * of through another thread. What a thread knows are clocks: how far each other thread's steps
 * happened before its next one. A store with release order carries its thread's clock, a load with
 * acquire order that finds it takes the clock over. The operational reading of C11 with histories
 * is that of CDSChecker (Norris, Demsky: "CDSChecker: checking concurrent data structures written
 * with C/C++ atomics", OOPSLA 2013) and of Relacy (Vyukov); a store may also come to lie before
 * newer ones of other threads that its thread has not seen. In detail:
 *
 *  - Read-modify-writes find a store that none has found yet, and lie directly behind it. They
 *    carry on its release; a plain store of the same thread does not (C++20's rule, weaker than
 *    C17's).
 *  - Sequentially consistent operations: their total order is the order of the steps. Such a load
 *    finds the last such store of its location, or a newer one; such a store lies behind it.
 *  - Plain accesses race if a conflicting access does not happen before them; then the program has
 *    no meaning, and the execution ends. So nothing needs to be known of what they would find.
 *  - A load that depends on itself through another thread (load buffering, values out of thin air)
 *    is not modelled, as in RC11 (Lahav, Vafeiadis, Kang, Hur, Dreyer, PLDI 2017).
 *  - A thread that has found the same old store twice in a row, with others newer, finds a newer
 *    one: memory is eventually seen, and a loop that waits for it ends.
 *
 * The bytes in memory are always those of the last store in modification order.
 */
#include "support/interleave_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    CELLS_MAX = 1 << 16,
    TABLE_ENTRIES = 1 << 18,
    LOCATIONS_MAX = 1 << 13,
    MESSAGES_MAX = 1 << 13,
    HISTORY_MAX = 64,
    SYNCHRONISERS_MAX = 64,
    SAVED_MAX = 1 << 17,
    SAVED_BYTES_MAX = 16 << 20,
    CELL_BYTES = 8,
    BULK_BYTES = 1024, /* of larger ranges, one byte of each line is looked at */
    LINE_BYTES = 64,
    NONE = -1,
    STALE_LOADS_MAX = 2,
};

/* A store. */
struct message {
    uint64_t value;
    struct clock clock; /* what finding it with acquire order teaches */
    unsigned thread;    /* who stored it; THREADS: it was there before */
    uint32_t time;      /* of that thread */
    int position;       /* in modification order */
    bool is_update;     /* a read-modify-write: directly behind what it found */
};

/* A thread has read or written this store; only its first time counts. */
struct sighting {
    uint32_t time;
    int message;
};

struct location {
    uintptr_t address;
    unsigned size;
    int next; /* location in the same cell */
    int order[HISTORY_MAX];
    int count;
    struct sighting sightings[THREADS][HISTORY_MAX];
    int sighting_count[THREADS];
    unsigned stale_loads[THREADS]; /* in a row, of the same message */
    int last_load[THREADS];
    int last_consistent; /* the last store that is sequentially consistent */
    bool is_overwritten; /* by a plain store, of: */
    unsigned writer;
    uint32_t written;
};

/* When each thread last accessed a byte. */
struct byte_times {
    uint32_t plain_read[THREADS], plain_write[THREADS];
    uint32_t atomic_read[THREADS], atomic_write[THREADS];
};

struct cell {
    uintptr_t address;
    bool is_saved;
    int location;
    struct byte_times bytes[CELL_BYTES];
};

/* What was there before it was written. */
struct saved {
    uintptr_t address;
    size_t size, at; /* in `saved_bytes` */
};

struct synchroniser {
    uintptr_t address;
    struct clock clock;
};

static struct {
    uint32_t epoch;
    int cell;
} table[TABLE_ENTRIES];

static struct cell *cells;
static int cell_count;
static struct saved saved[SAVED_MAX];
static int saved_count;
static unsigned char *saved_bytes;
static size_t saved_used;
static struct location locations[LOCATIONS_MAX];
static int location_count;
static struct message messages[MESSAGES_MAX];
static int message_count;
static struct synchroniser synchronisers[SYNCHRONISERS_MAX];
static int synchroniser_count;
static struct clock clocks[THREADS];
static uint32_t epoch;
static bool is_weak;

/* ---- cells ---- */

static struct cell *cell_of(uintptr_t address)
{
    const uintptr_t base = address & ~(uintptr_t)(CELL_BYTES - 1);
    uint64_t at = (base >> 3) * 0x9e3779b97f4a7c15u >> 46;
    for (; table[at % TABLE_ENTRIES].epoch == epoch; at++) {
        struct cell *cell = &cells[table[at % TABLE_ENTRIES].cell];
        if (cell->address == base) return cell;
    }
    if (cell_count == CELLS_MAX) interleave_fail("too much memory for the explorer");
    table[at % TABLE_ENTRIES].epoch = epoch;
    table[at % TABLE_ENTRIES].cell = cell_count;
    struct cell *cell = &cells[cell_count++];
    memset(cell, 0, sizeof *cell);
    cell->address = base;
    cell->location = NONE;
    return cell;
}

void memory_begin(bool weak)
{
    if (!cells) cells = calloc(CELLS_MAX, sizeof *cells);
    if (!saved_bytes) saved_bytes = malloc(SAVED_BYTES_MAX);
    if (!cells || !saved_bytes || ++epoch == 0) abort();
    is_weak = weak;
    cell_count = location_count = message_count = synchroniser_count = saved_count = 0;
    saved_used = 0;
    memset(clocks, 0, sizeof clocks);
    for (unsigned i = 0; i < THREADS; i++) clocks[i].of[i] = 1;
}

static void save(uintptr_t address, size_t size)
{
    if (saved_count == SAVED_MAX || size > SAVED_BYTES_MAX - saved_used)
        interleave_fail("too much is written for the explorer");
    saved[saved_count++] = (struct saved){address, size, saved_used};
    memcpy(saved_bytes + saved_used, (const void *)address, size);
    saved_used += size;
}

void memory_save(uintptr_t address, size_t size)
{
    const uintptr_t end = address + size;
    if (size >= BULK_BYTES) {
        save(address, size);
        return;
    }
    for (address &= ~(uintptr_t)(CELL_BYTES - 1); address < end; address += CELL_BYTES) {
        struct cell *cell = cell_of(address);
        if (!cell->is_saved) save(address, CELL_BYTES);
        cell->is_saved = true;
    }
}

void memory_undo(void)
{
    while (saved_count > 0) {
        const struct saved *last = &saved[--saved_count];
        memcpy((void *)last->address, saved_bytes + last->at, last->size);
    }
}

uint64_t memory_native(uintptr_t address, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, (const void *)address, size);
    return value;
}

static void memory_store_native(uintptr_t address, unsigned size, uint64_t value)
{
    memory_save(address, size);
    memcpy((void *)address, &value, size);
}

/* ---- races ---- */

/* Whether all these accesses happened before what `thread` does now. */
static bool happened_before(const uint32_t times[THREADS], unsigned thread)
{
    for (unsigned i = 0; i < THREADS; i++)
        if (i != thread && times[i] > clocks[thread].of[i]) return false;
    return true;
}

static const char *race_of(const struct byte_times *times, unsigned thread, bool is_plain,
                           bool is_write)
{
    if (!happened_before(times->plain_write, thread)) return "a plain store";
    if (is_write && !happened_before(times->plain_read, thread)) return "a plain load";
    if (!is_plain) return NULL;
    if (!happened_before(times->atomic_write, thread)) return "an atomic store";
    if (is_write && !happened_before(times->atomic_read, thread)) return "an atomic load";
    return NULL;
}

/* Note an access to bytes of one cell, after looking whether it races. */
static void cell_access(struct cell *cell, unsigned thread, unsigned first, unsigned end,
                        bool is_plain, bool is_write, const void *caller)
{
    for (unsigned i = first; i < end; i++) {
        struct byte_times *times = &cell->bytes[i];
        const char *other = race_of(times, thread, is_plain, is_write);
        if (other)
            interleave_fail("data race: thread %u's %s %s at %p, code at %p, and %s", thread,
                            is_plain ? "plain" : "atomic", is_write ? "store" : "load",
                            (void *)(cell->address + i), explore_code(caller), other);
        const uint32_t now = clocks[thread].of[thread];
        if (is_plain)
            (is_write ? times->plain_write : times->plain_read)[thread] = now;
        else
            (is_write ? times->atomic_write : times->atomic_read)[thread] = now;
    }
}

/* A plain store: histories of these bytes begin anew. */
static void cell_overwrite(const struct cell *cell, unsigned thread, unsigned first, unsigned end)
{
    for (int i = cell->location; i != NONE; i = locations[i].next) {
        struct location *location = &locations[i];
        const unsigned at = (unsigned)(location->address - cell->address);
        if (at >= end || at + location->size <= first) continue;
        location->is_overwritten = true;
        location->writer = thread;
        location->written = clocks[thread].of[thread];
    }
}

static void plain_range(unsigned thread, uintptr_t address, uintptr_t end, bool is_write,
                        const void *caller)
{
    while (address < end) {
        struct cell *cell = cell_of(address);
        const uintptr_t cell_end = cell->address + CELL_BYTES;
        const unsigned first = (unsigned)(address - cell->address);
        const unsigned stop = (unsigned)((end < cell_end ? end : cell_end) - cell->address);
        cell_access(cell, thread, first, stop, true, is_write, caller);
        if (is_write) cell_overwrite(cell, thread, first, stop);
        address = cell_end;
    }
}

/* Blocks are copied and cleared: a byte of each line will do, and all that is atomic. */
static void plain_bulk(unsigned thread, uintptr_t address, uintptr_t end, bool is_write,
                       const void *caller)
{
    for (int i = 0; i < location_count; i++) {
        const uintptr_t at = locations[i].address;
        if (at >= address && at < end)
            plain_range(thread, at, at + locations[i].size, is_write, caller);
    }
    for (; address < end; address += LINE_BYTES)
        plain_range(thread, address, address + 1, is_write, caller);
}

void memory_plain(unsigned thread, uintptr_t address, size_t size, bool is_write,
                  const void *caller)
{
    if (is_write) memory_save(address, size);
    if (size >= BULK_BYTES)
        plain_bulk(thread, address, address + size, is_write, caller);
    else
        plain_range(thread, address, address + size, is_write, caller);
}

/* ---- histories ---- */

static int message_new(uint64_t value, unsigned thread, uint32_t time)
{
    if (message_count == MESSAGES_MAX) interleave_fail("too many stores for the explorer");
    messages[message_count] = (struct message){.value = value, .thread = thread, .time = time};
    return message_count++;
}

static void history_begin(struct location *location, unsigned thread, uint32_t time)
{
    location->order[0] =
        message_new(memory_native(location->address, location->size), thread, time);
    location->count = 1;
    location->last_consistent = NONE;
    location->is_overwritten = false;
    for (unsigned i = 0; i < THREADS; i++) {
        location->sighting_count[i] = 0;
        location->last_load[i] = NONE;
        location->stale_loads[i] = 0;
    }
}

static struct location *location_of(const struct step *step)
{
    struct cell *cell = cell_of(step->address);
    for (int i = cell->location; i != NONE; i = locations[i].next) {
        struct location *location = &locations[i];
        if (location->address == step->address && location->size == step->size) {
            if (location->is_overwritten)
                history_begin(location, location->writer, location->written);
            return location;
        }
        if (location->address < step->address + step->size &&
            step->address < location->address + location->size)
            interleave_fail("atomic accesses of different sizes at %p", (void *)step->address);
    }
    if (location_count == LOCATIONS_MAX) interleave_fail("too many locations for the explorer");
    struct location *location = &locations[location_count];
    location->address = step->address;
    location->size = step->size;
    location->next = cell->location;
    cell->location = location_count++;
    history_begin(location, THREADS, 0);
    return location;
}

/* The oldest store that `thread` may still find. */
static int oldest_visible(const struct location *location, unsigned thread, bool is_consistent)
{
    int oldest = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        const struct sighting *sightings = location->sightings[i];
        for (int k = location->sighting_count[i]; k-- > 0;) {
            if (i != thread && sightings[k].time > clocks[thread].of[i]) continue;
            const int position = messages[sightings[k].message].position;
            if (oldest < position) oldest = position;
            break;
        }
    }
    if (is_consistent && location->last_consistent != NONE) {
        const int position = messages[location->last_consistent].position;
        if (oldest < position) oldest = position;
    }
    return is_weak ? oldest : location->count - 1;
}

static void see(struct location *location, unsigned thread, int message)
{
    const int count = location->sighting_count[thread];
    struct sighting *sightings = location->sightings[thread];
    if (count > 0 && sightings[count - 1].message == message) return;
    if (count == HISTORY_MAX) interleave_fail("too many loads for the explorer");
    sightings[count] = (struct sighting){clocks[thread].of[thread], message};
    location->sighting_count[thread] = count + 1;
}

static bool has_update(const struct location *location, int position)
{
    return position + 1 < location->count && messages[location->order[position + 1]].is_update;
}

/* Put a store at `position` of the modification order. */
static void history_insert(struct location *location, int message, int position)
{
    if (location->count == HISTORY_MAX) interleave_fail("too many stores for the explorer");
    for (int i = location->count++; i > position; i--) {
        location->order[i] = location->order[i - 1];
        messages[location->order[i]].position = i;
    }
    location->order[position] = message;
    messages[message].position = position;
    if (position == location->count - 1)
        memory_store_native(location->address, location->size, messages[message].value);
}

/* ---- orders ---- */

static bool order_acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order == __ATOMIC_ACQ_REL ||
           order == __ATOMIC_SEQ_CST;
}

static bool order_releases(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

/* ---- steps ---- */

static void load(struct location *location, unsigned thread, int position, int order,
                 struct step *step)
{
    const int message = location->order[position];
    step->found = messages[message].value;
    location->stale_loads[thread] =
        message == location->last_load[thread] ? location->stale_loads[thread] + 1 : 1;
    location->last_load[thread] = message;
    see(location, thread, message);
    if (order_acquires(order)) clock_join(&clocks[thread], &messages[message].clock);
}

/* Whether the thread would find the same old store once too often. */
static bool is_too_stale(const struct location *location, unsigned thread, int position)
{
    return position < location->count - 1 &&
           location->order[position] == location->last_load[thread] &&
           location->stale_loads[thread] >= STALE_LOADS_MAX;
}

static void step_load(struct location *location, unsigned thread, struct step *step)
{
    const int oldest = oldest_visible(location, thread, step->order == __ATOMIC_SEQ_CST);
    int candidates[HISTORY_MAX];
    unsigned count = 0;
    for (int i = location->count; i-- > oldest;)
        if (!is_too_stale(location, thread, i)) candidates[count++] = i;
    const int position = candidates[count > 1 ? explore_choose(count) : 0];
    load(location, thread, position, step->order, step);
}

static void store(struct location *location, unsigned thread, int position, int order,
                  uint64_t value, int found)
{
    const int message = message_new(value, thread, clocks[thread].of[thread]);
    messages[message].is_update = found != NONE;
    if (order_releases(order)) messages[message].clock = clocks[thread];
    if (found != NONE) clock_join(&messages[message].clock, &messages[found].clock);
    history_insert(location, message, position);
    see(location, thread, message);
    if (order == __ATOMIC_SEQ_CST) location->last_consistent = message;
}

static void step_store(struct location *location, unsigned thread, struct step *step)
{
    const int oldest = oldest_visible(location, thread, step->order == __ATOMIC_SEQ_CST);
    int candidates[HISTORY_MAX];
    unsigned count = 0;
    for (int i = location->count; i > oldest; i--)
        if (!has_update(location, i - 1)) candidates[count++] = i;
    const int position = candidates[count > 1 ? explore_choose(count) : 0];
    store(location, thread, position, step->order, step->value, NONE);
}

static uint64_t updated(const struct step *step, uint64_t old)
{
    const uint64_t mask = step->size == 8 ? UINT64_MAX : (1ull << step->size * 8) - 1;
    switch (step->kind) {
    case STEP_ADD: return (old + step->value) & mask;
    case STEP_SUBTRACT: return (old - step->value) & mask;
    case STEP_AND: return old & step->value;
    case STEP_OR: return old | step->value;
    case STEP_XOR: return old ^ step->value;
    default: return step->value;
    }
}

/* Find the store at `position`, and put the new value behind it. */
static void update(struct location *location, unsigned thread, int position, struct step *step)
{
    const int found = location->order[position];
    load(location, thread, position, step->order, step);
    store(location, thread, position + 1, step->order, updated(step, step->found), found);
}

static void step_update(struct location *location, unsigned thread, struct step *step)
{
    const int oldest = oldest_visible(location, thread, step->order == __ATOMIC_SEQ_CST);
    int candidates[HISTORY_MAX];
    unsigned count = 0;
    for (int i = location->count; i-- > oldest;)
        if (!has_update(location, i)) candidates[count++] = i;
    update(location, thread, candidates[count > 1 ? explore_choose(count) : 0], step);
}

static void step_compare(struct location *location, unsigned thread, struct step *step)
{
    /* Outcomes: stores that are found, positive where the exchange fails, else ~position. */
    int outcomes[2 * HISTORY_MAX];
    unsigned count = 0;
    const int oldest =
        oldest_visible(location, thread,
                       step->order == __ATOMIC_SEQ_CST || step->failure_order == __ATOMIC_SEQ_CST);
    for (int i = location->count; i-- > oldest;) {
        const bool is_expected = messages[location->order[i]].value == step->expected;
        if (is_expected && !has_update(location, i)) outcomes[count++] = ~i;
        const bool may_fail = !is_expected || (step->kind == STEP_COMPARE_WEAK && is_weak &&
                                               location->stale_loads[thread] < STALE_LOADS_MAX);
        if (may_fail && !is_too_stale(location, thread, i)) outcomes[count++] = i;
    }
    const int outcome = outcomes[count > 1 ? explore_choose(count) : 0];
    step->succeeded = outcome < 0;
    if (step->succeeded)
        update(location, thread, ~outcome, step);
    else
        load(location, thread, outcome, step->failure_order, step);
}

/* Everything that any thread has done happened before all that any does now. */
static void step_barrier(void)
{
    struct clock all = {0};
    for (unsigned i = 0; i < THREADS; i++) clock_join(&all, &clocks[i]);
    for (unsigned i = 0; i < THREADS; i++) {
        clocks[i] = all;
        clocks[i].of[i]++;
    }
}

void memory_step(unsigned thread, struct step *step)
{
    if (step->kind == STEP_BARRIER) {
        step_barrier();
        return;
    }
    struct location *location = location_of(step);
    switch (step->kind) {
    case STEP_LOAD: step_load(location, thread, step); break;
    case STEP_STORE: step_store(location, thread, step); break;
    case STEP_COMPARE:
    case STEP_COMPARE_WEAK: step_compare(location, thread, step); break;
    default: step_update(location, thread, step); break;
    }
    struct cell *cell = cell_of(step->address);
    const unsigned first = (unsigned)(step->address - cell->address);
    const bool compares = step->kind == STEP_COMPARE || step->kind == STEP_COMPARE_WEAK;
    const bool is_write = compares ? step->succeeded : step->kind != STEP_LOAD;
    cell_access(cell, thread, first, first + step->size, false, is_write, step->caller);
    clocks[thread].of[thread]++;
}

/* ---- locks and futexes ---- */

static struct clock *synchroniser_of(uintptr_t address)
{
    for (int i = 0; i < synchroniser_count; i++)
        if (synchronisers[i].address == address) return &synchronisers[i].clock;
    if (synchroniser_count == SYNCHRONISERS_MAX) interleave_fail("too many locks");
    synchronisers[synchroniser_count] = (struct synchroniser){.address = address};
    return &synchronisers[synchroniser_count++].clock;
}

void memory_acquire(unsigned thread, uintptr_t address)
{
    clock_join(&clocks[thread], synchroniser_of(address));
    clocks[thread].of[thread]++;
}

void memory_release(unsigned thread, uintptr_t address)
{
    clock_join(synchroniser_of(address), &clocks[thread]);
    clocks[thread].of[thread]++;
}
