/* stacks.c -- guarded stacks for fibers, from slabs of up to a thousand.
 *
 *      guard | stack 0 | guard | stack 1 | guard | ... | guard
 *
 * A slab is one mapping that takes memory when it is touched. A guard lies between neighbours, and
 * is set when the stack below it is handed out for the first time, or a few before. Marks in the
 * page table (MADV_GUARD_INSTALL) leave the slab one mapping, so that a hundred thousand stacks are
 * a hundred mappings; mprotect() makes two of each stack, and ends at vm.max_map_count.
 *
 * Estimate: a stack that was put lies with its thread, a load and two stores away. A new one costs
 * its guard (0.6 us, or 0.25 in a batch), and its first page when it is touched (1.2 us).
 *
 * A stack's state word says whose it is, and whether it is in use: a put that is wrong is told
 * without debugging. Threads keep stacks as they keep blocks of pools (pool_shared.c).
 */
#include "arena/arena.h"

#include <stdio.h>

enum {
    STACK_BYTES = 64 * 1024,
    STACK_SLAB_BYTES = 64 * 1024 * 1024,
    STACK_SLAB_COUNT = 1024,
    STACK_KEEP = 16, /* stacks that a thread keeps, and how many move at once */
    STACK_BATCH = 8,
    STACK_SLOTS = 8,
    STACK_CANARY_BYTES = 64,
    STACK_GUARDS_MAX = 32, /* set at once */
};

/* evh_stack.reserved */
enum { STACK_NEXT, STACK_STATE, STACK_VALGRIND };

struct stack_slab {
    struct stack_slab *previous; /* older */
    unsigned char *mapping;
    uint64_t mapping_bytes;
    evh_stack *stacks;
    uint64_t count;   /* that it has room for */
    uint64_t made;    /* that were handed out */
    uint64_t guarded; /* the guards above the first of them, and a few more, are set */
    uint32_t fault;
};

struct stack_magazine {
    evh_stack *free;
    uint32_t count; /* atomic: statistics read it */
    bool has_thread;
    struct stack_magazine *next;
};

struct evh_stacks {
    uint64_t stamp; /* never used twice */
    uint32_t id;
    struct fork_node fork;
    struct heap_lock lock; /* of all that follows */
    struct stack_slab *slabs;
    evh_stack *free;
    uint64_t free_count;
    uint64_t made;
    uint64_t stride, page;
    uint64_t slab_count;
    struct stack_magazine *magazines;
    evh_stacks *next;
    struct evh_stacks_options options;
    struct debug_settings debug;
    bool is_watched; /* a get is not only a pop: letters, ASan, Valgrind */
    char name[EVH_OBJECT_NAME_MAX + 1];
};

struct stack_slot {
    uint64_t stamp; /* 0: none */
    evh_stacks *stacks;
    struct stack_magazine *magazine;
};

static _Thread_local struct stack_slot stack_slots[STACK_SLOTS];
static struct heap_lock stacks_registry_lock;
static struct fork_node stacks_registry_fork = {.is_registry = true};
static evh_stacks *stacks_registry; /* those that are open */

/* ---- a stack's words ---- */

static evh_stack *stack_next(const evh_stack *stack)
{
    assert(stack->base != NULL);
    assert(stack != NULL);
    return (evh_stack *)(uintptr_t)stack->reserved[STACK_NEXT];
}

static void stack_set_next(evh_stack *stack, const evh_stack *next)
{
    assert(stack->base != NULL);
    assert(stack != next);
    stack->reserved[STACK_NEXT] = (uintptr_t)next;
}

static uint64_t stack_state(const evh_stacks *stacks, bool is_live)
{
    assert(stacks->stamp < UINT64_MAX / 2);
    assert(stacks->stamp != 0);
    return stacks->stamp * 2 + is_live;
}

/* ---- making ---- */

static evh_status stacks_refuse(const char *name, const char *why)
{
    assert(name != NULL);
    assert(why != NULL);
    return base_fail(EVH_INVALID, NO_OFFSET, "stacks '%s': options: %s", name, why);
}

static evh_status stacks_check_options(const char *name, const evh_stacks_options *options)
{
    assert(name != NULL);
    assert(options != NULL);
    for (size_t i = 0; i < sizeof options->reserved / sizeof options->reserved[0]; i++)
        if (options->reserved[i]) return stacks_refuse(name, "a reserved field is not zero");
    if (options->size_bytes > 1024u * 1024 * 1024) return stacks_refuse(name, "above 1 GiB");
    if ((unsigned)options->guard > EVH_GUARD_NONE) return stacks_refuse(name, "no such guard");
    if ((unsigned)options->misuse > EVH_MISUSE_STATUS)
        return stacks_refuse(name, "no such answer to misuse");
    return EVH_OK;
}

/* Find out, on a page of its own, whether the kernel has marks. */
static evh_status stacks_choose_guard(evh_stacks *stacks)
{
    assert(stacks->slabs == NULL);
    void *page = NULL;
    const evh_guard wish = stacks->options.guard;
    assert(stacks->page > 0);
    if (wish == EVH_GUARD_PROTECT || wish == EVH_GUARD_NONE) return EVH_OK;
    int error = os->memory_map(stacks->page, true, &page);
    if (error) return base_fail_os(error, NO_OFFSET, "stacks '%s': no memory", stacks->name);
    error = os->guard(page, stacks->page, OS_GUARD_MARK);
    (void)os->release(page, stacks->page);
    stacks->options.guard = error ? EVH_GUARD_PROTECT : EVH_GUARD_MARK;
    if (!error || wish == EVH_GUARD_AUTO) return EVH_OK;
    return base_fail(EVH_UNSUPPORTED, NO_OFFSET,
                     "stacks '%s': this kernel has no guard marks (Linux 6.13 has them)",
                     stacks->name);
}

evh_stacks *evh_stacks_create(const evh_stacks_options *given)
{
    const evh_stacks_options options = given ? *given : (evh_stacks_options){0};
    struct debug_settings debug;
    char name[EVH_OBJECT_NAME_MAX + 1];
    object_set_name(name, options.name, "stacks");
    if (stacks_check_options(name, &options) || debug_read(options.debug, name, &debug))
        return NULL;
    evh_stacks *stacks = os->memory_allocate(sizeof *stacks);
    if (!stacks) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "stacks '%s': no memory", name);
        return NULL;
    }
    static uint32_t last_id; /* atomic */
    memcpy(stacks->name, name, sizeof name);
    stacks->options = options;
    stacks->options.name = stacks->name;
    stacks->options.debug = NULL;
    stacks->debug = debug;
    if (debug.letters & DEBUG_REPORT_ONLY) stacks->options.misuse = EVH_MISUSE_STATUS;
    stacks->is_watched = debug.letters != 0 || os_is_annotated();
    stacks->stamp = arena_new_stamp();
    stacks->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
    stacks->page = os_page_bytes();
    const uint64_t size = options.size_bytes ? options.size_bytes : STACK_BYTES;
    stacks->stride = base_round_up(size, stacks->page) + stacks->page;
    stacks->slab_count = base_min(STACK_SLAB_BYTES / stacks->stride, STACK_SLAB_COUNT);
    if (stacks->slab_count == 0) stacks->slab_count = 1;
    assert(stacks->stride % stacks->page == 0);
    assert(stacks->stride > stacks->page);
    if (stacks_choose_guard(stacks) ||
        (stacks->options.guard != EVH_GUARD_NONE && fault_install())) {
        os->memory_free(stacks);
        return NULL;
    }
    fork_add(&stacks_registry_fork, &stacks_registry_lock);
    fork_add(&stacks->fork, &stacks->lock);
    heap_lock_take(&stacks_registry_lock);
    stacks->next = stacks_registry;
    stacks_registry = stacks;
    heap_lock_drop(&stacks_registry_lock);
    return stacks;
}

/* ---- ending ---- */

static void stacks_report_leaks(const evh_stacks *stacks)
{
    uint64_t leaks = 0;
    assert(stacks->debug.letters & DEBUG_LEAKS);
    const uint64_t live = stack_state(stacks, true);
    for (const struct stack_slab *slab = stacks->slabs; slab; slab = slab->previous)
        for (uint64_t i = 0; i < slab->made; i++)
            leaks += slab->stacks[i].reserved[STACK_STATE] == live;
    if (leaks == 0) return;
    assert(leaks <= stacks->made);
    debug_print("stacks '%s': %llu stacks were never put back", stacks->name,
                (unsigned long long)leaks);
    for (const struct stack_slab *slab = stacks->slabs; slab; slab = slab->previous)
        for (uint64_t i = 0; i < slab->made; i++)
            if (slab->stacks[i].reserved[STACK_STATE] == live)
                debug_print("  stack %llu '%s'", (unsigned long long)slab->stacks[i].number,
                            slab->stacks[i].label);
}

static void stacks_end_slab(struct stack_slab *slab)
{
    assert(slab->mapping || slab->made == 0);
    assert(slab->made <= slab->count);
    if (slab->fault) fault_remove(slab->fault);
    for (uint64_t i = 0; i < slab->made; i++) {
        const evh_stack *stack = &slab->stacks[i];
        os_annotate_open(stack->base, stack->size_bytes);
        os_annotate_stack_end((unsigned)stack->reserved[STACK_VALGRIND]);
    }
    if (slab->mapping) (void)os->release(slab->mapping, slab->mapping_bytes);
    os->memory_free(slab->stacks);
    os->memory_free(slab);
}

void evh_stacks_close(evh_stacks *stacks)
{
    if (!stacks) return;
    assert(stacks->stride > stacks->page);
    heap_lock_take(&stacks_registry_lock);
    evh_stacks **link = &stacks_registry;
    while (*link && *link != stacks) link = &(*link)->next;
    if (*link) *link = stacks->next;
    heap_lock_drop(&stacks_registry_lock);
    fork_remove(&stacks->fork);
    if (stacks->debug.letters & DEBUG_LEAKS) stacks_report_leaks(stacks);
    while (stacks->slabs) {
        struct stack_slab *slab = stacks->slabs;
        assert(slab->count > 0);
        stacks->slabs = slab->previous;
        stacks_end_slab(slab);
    }
    while (stacks->magazines) {
        struct stack_magazine *magazine = stacks->magazines;
        stacks->magazines = magazine->next;
        os->memory_free(magazine);
    }
    os->memory_free(stacks);
}

/* ---- slabs ---- */

static evh_status stacks_system_limit(const evh_stacks *stacks, int error, const char *what)
{
    assert(error != 0);
    assert(what != NULL);
    if (error == ENOMEM && stacks->options.guard == EVH_GUARD_PROTECT)
        return base_fail(EVH_LIMIT, NO_OFFSET,
                         "stacks '%s': cannot %s stack %llu: mprotect() guards take two mappings "
                         "each, and the system allows a process %llu (vm.max_map_count)",
                         stacks->name, what, (unsigned long long)stacks->made,
                         (unsigned long long)os_map_limit());
    return base_fail_os(error, NO_OFFSET, "stacks '%s': cannot %s stack %llu", stacks->name, what,
                        (unsigned long long)stacks->made);
}

static int stacks_guard(const evh_stacks *stacks, unsigned char *address)
{
    assert(address != NULL);
    assert((uintptr_t)address % stacks->page == 0);
    const evh_guard guard = stacks->options.guard;
    if (guard == EVH_GUARD_NONE) return 0;
    return os->guard(address, stacks->page,
                     guard == EVH_GUARD_MARK ? OS_GUARD_MARK : OS_GUARD_PROTECT);
}

/* The stack whose guard `address` is in: overflow is of the one above, underflow of the one below.
 * Guards lie at every multiple of the stride, and behind the last stack. Runs in a signal
 * handler. */
static bool stacks_describe(const struct fault_range *range, uintptr_t address,
                            struct fault_text *out)
{
    assert(range->owner != NULL);
    assert(range->stride > range->guard_bytes);
    const uint64_t count = (range->end - range->start) / range->stride;
    const uint64_t above = (address - range->start) / range->stride;
    const evh_stack *stacks = range->owner;
    /* A stack grows down into its low guard; nobody runs up into the high one by calling. But above
     * the newest stack there may be none yet. */
    const bool is_overflow = above < count && stacks[above].base;
    const evh_stack *stack = &stacks[is_overflow ? above : above - 1];
    if (!is_overflow && (above == 0 || !stack->base)) return false;
    fault_put(out, is_overflow ? "stack overflow: " : "stack underflow: ");
    if (stack->label[0]) {
        fault_put(out, "'");
        fault_put(out, stack->label);
        fault_put(out, "' on ");
    }
    fault_put(out, "stack ");
    fault_put_number(out, stack->number);
    fault_put(out, " of '");
    fault_put(out, range->name);
    fault_put(out, "': an access ");
    const uintptr_t base = (uintptr_t)stack->base;
    fault_put_number(out, is_overflow ? base - address : address - (base + stack->size_bytes));
    fault_put(out, is_overflow ? " bytes below its " : " bytes above its ");
    fault_put_number(out, stack->size_bytes);
    fault_put(out, " bytes\n");
    return true;
}

static evh_status stacks_add_slab(evh_stacks *stacks)
{
    assert(heap_lock_is_taken(&stacks->lock));
    struct stack_slab *slab = os->memory_allocate(sizeof *slab);
    if (slab) slab->stacks = os->memory_allocate(stacks->slab_count * sizeof *slab->stacks);
    if (!slab || !slab->stacks) {
        os->memory_free(slab);
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "stacks '%s': no memory", stacks->name);
    }
    void *mapping = NULL;
    slab->count = stacks->slab_count;
    slab->mapping_bytes = slab->count * stacks->stride + stacks->page;
    int error = os->memory_map(slab->mapping_bytes, true, &mapping);
    slab->mapping = error ? NULL : mapping;
    if (!error) error = stacks_guard(stacks, slab->mapping);
    if (error) {
        stacks_end_slab(slab);
        return stacks_system_limit(stacks, error, "map");
    }
    struct fault_range range = {.kind = "stack",
                                .start = (uintptr_t)slab->mapping,
                                .end = (uintptr_t)slab->mapping + slab->mapping_bytes,
                                .stride = stacks->stride,
                                .guard_bytes = stacks->page,
                                .describe = stacks_describe,
                                .owner = slab->stacks};
    memcpy(range.name, stacks->name, sizeof range.name);
    if (stacks->options.guard != EVH_GUARD_NONE) slab->fault = fault_add(&range);
    slab->previous = stacks->slabs;
    assert(slab->made == 0);
    stacks->slabs = slab;
    return EVH_OK;
}

/* Guards above the next stack, and above more of them the more there are: marks are cheap together,
 * and take no memory but the page table's, which the stacks will need. */
static evh_status stacks_guard_more(evh_stacks *stacks, struct stack_slab *slab)
{
    assert(slab->made == slab->guarded);
    assert(slab->made < slab->count);
    const bool has_marks = stacks->options.guard == EVH_GUARD_MARK;
    const uint64_t wanted = has_marks ? base_min(1 + stacks->made / 2, STACK_GUARDS_MAX) : 1;
    const uint64_t count = base_min(wanted, slab->count - slab->made);
    unsigned char *first = slab->mapping + (slab->made + 1) * stacks->stride;
    const int error = has_marks
                          ? os->guard_marks(first, stacks->page, stacks->stride, (unsigned)count)
                          : stacks_guard(stacks, first);
    if (error) return stacks_system_limit(stacks, error, "guard");
    slab->guarded += count;
    return EVH_OK;
}

/* A stack that nobody had; NULL on failure. */
static evh_stack *stacks_make(evh_stacks *stacks)
{
    assert(heap_lock_is_taken(&stacks->lock));
    struct stack_slab *slab = stacks->slabs;
    const uint64_t limit = stacks->options.count_max;
    if (limit && stacks->made >= limit) {
        (void)base_fail(EVH_LIMIT, NO_OFFSET, "stacks '%s': all of its %llu stacks are in use",
                        stacks->name, (unsigned long long)limit);
        return NULL;
    }
    if (!slab || slab->made == slab->count) {
        if (stacks_add_slab(stacks)) return NULL;
        slab = stacks->slabs;
    }
    unsigned char *low = slab->mapping + slab->made * stacks->stride;
    if (slab->made == slab->guarded && stacks_guard_more(stacks, slab)) return NULL;
    evh_stack *stack = &slab->stacks[slab->made++];
    assert(stack->base == NULL);
    stack->base = low + stacks->page;
    stack->size_bytes = stacks->stride - stacks->page;
    stack->number = stacks->made++;
    stack->reserved[STACK_VALGRIND] = os_annotate_stack(stack->base, stack->size_bytes);
    stack->reserved[STACK_STATE] = stack_state(stacks, false);
    return stack;
}

/* ---- threads ---- */

/* Nobody has the magazine any more: its stacks are for all. */
static void stacks_empty(evh_stacks *stacks, struct stack_magazine *magazine)
{
    assert(heap_lock_is_taken(&stacks->lock));
    assert(!magazine->has_thread);
    while (magazine->free) { /* STACK_KEEP of them at most */
        evh_stack *stack = magazine->free;
        magazine->free = stack_next(stack);
        stack_set_next(stack, stacks->free);
        stacks->free = stack;
        stacks->free_count++;
    }
    __atomic_store_n(&magazine->count, 0, __ATOMIC_RELAXED);
}

static void stacks_leave_slot(struct stack_slot *slot)
{
    assert(slot != NULL);
    if (slot->stamp == 0) return;
    heap_lock_take(&stacks_registry_lock);
    const evh_stacks *stacks = stacks_registry;
    while (stacks && (stacks != slot->stacks || stacks->stamp != slot->stamp))
        stacks = stacks->next;
    if (stacks) {
        assert(slot->magazine != NULL);
        heap_lock_take(&slot->stacks->lock);
        slot->magazine->has_thread = false;
        stacks_empty(slot->stacks, slot->magazine);
        heap_lock_drop(&slot->stacks->lock);
    }
    heap_lock_drop(&stacks_registry_lock);
    *slot = (struct stack_slot){0};
}

static void stacks_thread_ends(void *unused)
{
    assert(unused == stack_slots);
    (void)unused;
    for (unsigned i = 0; i < STACK_SLOTS; i++) stacks_leave_slot(&stack_slots[i]);
    assert(stack_slots[0].stamp == 0);
}

evh_status evh_stack_thread(void)
{
    const int error = os_fault_stack();
    if (error) return base_fail_os(error, NO_OFFSET, "no alternate signal stack for a thread");
    assert(error == 0);
    return EVH_OK;
}

/* A magazine for the calling thread; NULL on failure. */
static struct stack_magazine *stacks_attach(evh_stacks *stacks)
{
    struct stack_slot *slot = &stack_slots[stacks->id % STACK_SLOTS];
    assert(slot->stamp != stacks->stamp);
    stacks_leave_slot(slot);
    if (stacks->options.guard != EVH_GUARD_NONE && evh_stack_thread()) return NULL;
    struct stack_magazine *found = NULL;
    if (!os_at_thread_exit(stacks_thread_ends, stack_slots)) {
        heap_lock_take(&stacks->lock);
        found = stacks->magazines;
        while (found && found->has_thread) found = found->next;
        if (!found && (found = os->memory_allocate(sizeof *found)) != NULL) {
            found->next = stacks->magazines;
            stacks->magazines = found;
        }
        if (found) found->has_thread = true;
        heap_lock_drop(&stacks->lock);
    }
    if (!found) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "stacks '%s': no memory for a thread",
                        stacks->name);
        return NULL;
    }
    assert(found->has_thread);
    *slot = (struct stack_slot){stacks->stamp, stacks, found};
    return found;
}

static inline struct stack_magazine *stacks_magazine_of(evh_stacks *stacks)
{
    assert(stacks->stamp != 0);
    assert(stacks->slab_count > 0);
    const struct stack_slot *slot = &stack_slots[stacks->id % STACK_SLOTS];
    return LIKELY(slot->stamp == stacks->stamp) ? slot->magazine : stacks_attach(stacks);
}

static inline void stacks_push(struct stack_magazine *magazine, evh_stack *stack)
{
    assert(stack->base != NULL);
    assert(magazine->has_thread);
    stack_set_next(stack, magazine->free);
    magazine->free = stack;
    __atomic_store_n(&magazine->count, magazine->count + 1, __ATOMIC_RELAXED);
}

static inline evh_stack *stacks_pop(struct stack_magazine *magazine)
{
    evh_stack *stack = magazine->free;
    assert(stack != NULL);
    assert(magazine->count > 0);
    magazine->free = stack_next(stack);
    __atomic_store_n(&magazine->count, magazine->count - 1, __ATOMIC_RELAXED);
    return stack;
}

/* ---- get and put ---- */

/* Stacks that other threads put, or a new one. */
static bool stacks_fill(evh_stacks *stacks, struct stack_magazine *magazine)
{
    assert(magazine->free == NULL);
    assert(magazine->count == 0);
    heap_lock_take(&stacks->lock);
    while (stacks->free && magazine->count < STACK_BATCH) {
        evh_stack *stack = stacks->free;
        stacks->free = stack_next(stack);
        stacks->free_count--;
        stacks_push(magazine, stack);
    }
    if (!magazine->free) {
        evh_stack *stack = stacks_make(stacks);
        if (stack) stacks_push(magazine, stack);
    }
    heap_lock_drop(&stacks->lock);
    return magazine->free != NULL;
}

/* What debugging and annotations ask for when a stack is handed out. */
static __attribute__((noinline)) void stacks_debug_get(const evh_stacks *stacks, evh_stack *stack)
{
    assert(stacks->is_watched);
    const char *site = debug_take_site();
    assert(stack->base != NULL);
    os_annotate_open(stack->base, stack->size_bytes);
    if (stacks->debug.letters & DEBUG_CANARY) debug_set_canary(stack->base, STACK_CANARY_BYTES);
    if (stacks->debug.letters & DEBUG_LOG)
        (void)debug_log("get", stacks->name, stack->base, stack->size_bytes, site);
}

static __attribute__((noinline)) evh_status stacks_debug_put(const evh_stacks *stacks,
                                                             const evh_stack *stack)
{
    assert(stacks->debug.letters != 0);
    size_t first = 0;
    const char *site = debug_take_site();
    assert(stack->base != NULL);
    if (stacks->debug.letters & DEBUG_LOG)
        (void)debug_log("put", stacks->name, stack->base, stack->size_bytes, site);
    if (!(stacks->debug.letters & DEBUG_CANARY)) return EVH_OK;
    if (debug_has_canary(stack->base, STACK_CANARY_BYTES, &first)) return EVH_OK;
    return debug_misuse(stacks->options.misuse, EVH_OVERWRITTEN, NO_OFFSET,
                        "stacks '%s': stack %llu '%s' overflowed: byte %zu at its end was written",
                        stacks->name, (unsigned long long)stack->number, stack->label, first);
}

evh_stack *evh_stack_get(evh_stacks *stacks)
{
    if (UNLIKELY(!stacks)) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "no stacks: they are null");
        return NULL;
    }
    struct stack_magazine *magazine = stacks_magazine_of(stacks);
    if (UNLIKELY(!magazine)) return NULL;
    if (UNLIKELY(!magazine->free) && !stacks_fill(stacks, magazine)) return NULL;
    evh_stack *stack = stacks_pop(magazine);
    assert(stack->size_bytes == stacks->stride - stacks->page);
    assert(stack->reserved[STACK_STATE] == stack_state(stacks, false));
    stack->reserved[STACK_STATE] = stack_state(stacks, true);
    stack->label[0] = 0;
    stack->user = NULL;
    if (UNLIKELY(stacks->is_watched)) stacks_debug_get(stacks, stack);
    return stack;
}

static __attribute__((noinline)) void stacks_misuse(const evh_stacks *stacks,
                                                    const evh_stack *stack)
{
    assert(stack != NULL);
    assert(stack->reserved[STACK_STATE] != stack_state(stacks, true));
    const bool is_own = stack->reserved[STACK_STATE] == stack_state(stacks, false);
    if (is_own)
        (void)debug_misuse(stacks->options.misuse, EVH_DOUBLE_FREE, NO_OFFSET,
                           "stacks '%s': stack %llu '%s': it is free already", stacks->name,
                           (unsigned long long)stack->number, stack->label);
    else
        (void)debug_misuse(stacks->options.misuse, EVH_BAD_POINTER, NO_OFFSET,
                           "stacks '%s': %p: no stack of theirs", stacks->name,
                           (const void *)stack);
}

/* The half of what the thread keeps that lay longest goes to the others. */
static __attribute__((noinline)) void stacks_spill(evh_stacks *stacks,
                                                   struct stack_magazine *magazine)
{
    assert(magazine->count == STACK_KEEP);
    evh_stack *last = magazine->free;
    for (unsigned i = 1; i < STACK_KEEP - STACK_BATCH; i++) last = stack_next(last);
    evh_stack *spilled = stack_next(last);
    assert(spilled != NULL);
    stack_set_next(last, NULL);
    __atomic_store_n(&magazine->count, STACK_KEEP - STACK_BATCH, __ATOMIC_RELAXED);
    heap_lock_take(&stacks->lock);
    while (spilled) {
        evh_stack *next = stack_next(spilled);
        stack_set_next(spilled, stacks->free);
        stacks->free = spilled;
        stacks->free_count++;
        spilled = next;
    }
    heap_lock_drop(&stacks->lock);
}

void evh_stack_put(evh_stacks *stacks, evh_stack *stack)
{
    if (UNLIKELY(!stacks || !stack)) return;
    if (UNLIKELY(stack->reserved[STACK_STATE] != stack_state(stacks, true))) {
        stacks_misuse(stacks, stack);
        return;
    }
    if (UNLIKELY(stacks->debug.letters) && stacks_debug_put(stacks, stack)) return;
    assert(stack->base != NULL);
    assert(stack->size_bytes == stacks->stride - stacks->page);
    stack->reserved[STACK_STATE] = stack_state(stacks, false);
    struct stack_magazine *magazine = stacks_magazine_of(stacks);
    if (UNLIKELY(!magazine)) { /* no memory for this thread's: straight to the others */
        heap_lock_take(&stacks->lock);
        stack_set_next(stack, stacks->free);
        stacks->free = stack;
        stacks->free_count++;
        heap_lock_drop(&stacks->lock);
        return;
    }
    stacks_push(magazine, stack);
    if (UNLIKELY(magazine->count >= STACK_KEEP)) stacks_spill(stacks, magazine);
}

/* ---- looking, trimming ---- */

size_t evh_stack_used(const evh_stack *stack)
{
    uint64_t first = 0;
    if (!stack || os->find_resident(stack->base, stack->size_bytes, &first)) return 0;
    assert(first % os_page_bytes() == 0);
    assert(first <= stack->size_bytes);
    return stack->size_bytes - first;
}

static bool stacks_trim_one(const evh_stack *stack)
{
    assert(stack->size_bytes > 0);
    assert(stack->base != NULL);
    if (evh_stack_used(stack) == 0) return false;
    return os->discard(stack->base, stack->size_bytes) == 0;
}

uint64_t evh_stacks_trim(evh_stacks *stacks)
{
    uint64_t trimmed = 0;
    if (!stacks) return 0;
    heap_lock_take(&stacks->lock);
    for (const evh_stack *stack = stacks->free; stack; stack = stack_next(stack))
        trimmed += stacks_trim_one(stack);
    heap_lock_drop(&stacks->lock);
    const struct stack_slot *slot = &stack_slots[stacks->id % STACK_SLOTS];
    if (slot->stamp != stacks->stamp) return trimmed;
    assert(slot->stacks == stacks);
    assert(slot->magazine != NULL);
    for (const evh_stack *stack = slot->magazine->free; stack; stack = stack_next(stack))
        trimmed += stacks_trim_one(stack);
    return trimmed;
}

void evh_stacks_get_stats(evh_stacks *stacks, evh_stacks_stats *stats)
{
    if (!stats) return;
    *stats = (evh_stacks_stats){0};
    if (!stacks) return;
    heap_lock_take(&stacks->lock);
    uint64_t idle = stacks->free_count;
    assert(idle <= stacks->made);
    for (const struct stack_magazine *m = stacks->magazines; m; m = m->next)
        idle += __atomic_load_n(&m->count, __ATOMIC_RELAXED);
    stats->made = stacks->made;
    assert(stacks->free_count <= stacks->made);
    stats->live = stacks->made - base_min(idle, stacks->made);
    stats->guard = stacks->options.guard;
    for (const struct stack_slab *slab = stacks->slabs; slab; slab = slab->previous)
        stats->reserved_bytes += slab->mapping_bytes;
    heap_lock_drop(&stacks->lock);
}
