/* heap_debug.c -- a heap that is debugged: canaries, junk, quarantine, sites, leaks.
 *
 * Such a heap's caches are never the present one of a thread (threads_attach()), so that every
 * allocation and free leaves the fast path and comes here; the fast path has no test for it.
 *
 * Blocks lie where they would lie otherwise, so that a heap may be debugged in one run and not in
 * the next. What is known of a block (the bytes asked for, sites) is memory of the process: blocks
 * from before the heap was opened are checked by their bits alone. The canary fills the block from
 * the bytes asked for up to 64 more; an underflow is found in the canary of the block before.
 *
 * A block in quarantine is live in the image. A commit must not make that last: it empties the
 * quarantine first. After a rollback what was freed since the commit is live again, and what was
 * made since is forgotten.
 *
 * A heap that ASan or Valgrind watch is debugged, too, without letters (heap_annotate.c).
 */
#include "heap/checked.h"

#include <stdio.h>

enum { CANARY_MAX_BYTES = 64, JUNK_QUARANTINE_BLOCKS = 16, LEAK_LINES = 20 };

static unsigned char *checked_at(const evh_heap *heap, uint64_t offset)
{
    assert(offset != 0);
    assert(offset < heap_end_bytes(heap));
    return heap->view.base + offset;
}

/* ---- reporting ---- */

/* What is known of a block, for the end of a message. */
static void checked_describe(const evh_heap *heap, const struct debug_block *block, char *text,
                             size_t size)
{
    assert(block != NULL);
    assert(size > 0);
    text[0] = 0;
    if (!checked_has(heap, DEBUG_SITES)) return;
    if (block->is_free)
        (void)snprintf(text, size, " (made at %s, freed at %s)", block->made_at, block->freed_at);
    else
        (void)snprintf(text, size, " (made at %s)", block->made_at);
}

static evh_status checked_misuse(const evh_heap *heap, evh_status status, uint64_t offset,
                                 const struct debug_block *block, const char *what)
{
    char known[200] = "";
    assert(status != EVH_OK);
    assert(what != NULL);
    if (block) checked_describe(heap, block, known, sizeof known);
    return debug_misuse(heap->options.misuse, status, offset, "%s: block 0x%llx: %s%s",
                        heap_path(heap), (unsigned long long)offset, what, known);
}

/* ---- verifying ---- */

/* What a block has behind its start; 0: it is no block of the image any more. */
static uint64_t checked_usable(evh_heap *heap, const struct debug_block *block)
{
    uint64_t usable = 0;
    assert(block->key != 0);
    if (!heap_block_at(heap, block->key, &usable)) return 0;
    assert(usable >= block->size);
    return usable;
}

/* Bytes of canary behind the bytes asked for. */
static uint64_t checked_canary_bytes(evh_heap *heap, const struct debug_block *block)
{
    assert(block->key != 0);
    if (!checked_has(heap, DEBUG_CANARY)) return 0;
    uint64_t end = checked_usable(heap, block);
    if (checked_has(heap, DEBUG_GUARD)) end = base_min(end, guards_offset(block->size));
    assert(end == 0 || end >= block->size);
    return end > block->size ? base_min(end - block->size, CANARY_MAX_BYTES) : 0;
}

static evh_status checked_verify_bytes(evh_heap *heap, const struct debug_block *block)
{
    char what[120];
    size_t first = 0;
    assert(block->key != 0);
    assert(heap->debug != NULL);
    const unsigned char *bytes = checked_at(heap, block->key);
    const uint64_t canary = checked_canary_bytes(heap, block);
    if (canary && !debug_has_canary(bytes + block->size, canary, &first)) {
        (void)snprintf(what, sizeof what, "overflow: byte %zu behind its %llu was written", first,
                       (unsigned long long)block->size);
        return checked_misuse(heap, EVH_OVERWRITTEN, block->key, block, what);
    }
    if (!block->is_free || !checked_has(heap, DEBUG_JUNK)) return EVH_OK;
    if (debug_is_filled(bytes, block->size, DEBUG_FREE_BYTE, &first)) return EVH_OK;
    (void)snprintf(what, sizeof what, "use after free: byte %zu of %llu was written", first,
                   (unsigned long long)block->size);
    return checked_misuse(heap, EVH_OVERWRITTEN, block->key, block, what);
}

static evh_status checked_verify(evh_heap *heap, const struct debug_block *block)
{
    assert(block->key != 0);
    assert(heap->debug != NULL);
    if (block->is_free && checked_has(heap, DEBUG_GUARD)) return EVH_OK; /* nobody could */
    if (!heap->debug->is_annotated) return checked_verify_bytes(heap, block);
    const uint64_t usable = checked_usable(heap, block);
    const uint64_t open = block->is_free ? 0 : base_min(block->size, usable);
    const unsigned char *bytes = checked_at(heap, block->key);
    annotate_checking(heap, bytes + open, usable - open);
    const evh_status status = checked_verify_bytes(heap, block);
    annotate_checked(heap, bytes, open, usable);
    return status;
}

/* The canary of the block before, of the same slice: the bytes that an underflow writes. */
static evh_status checked_verify_before(evh_heap *heap, uint64_t offset)
{
    char what[120];
    uint64_t usable = 0;
    size_t first = 0;
    assert(offset != 0);
    if (!checked_has(heap, DEBUG_CANARY) || !heap_block_at(heap, offset, &usable)) return EVH_OK;
    if (usable >= offset) return EVH_OK;
    const struct debug_block *before = debug_table_find(&heap->debug->table, offset - usable);
    if (!before) return EVH_OK;
    const uint64_t canary = checked_canary_bytes(heap, before);
    if (before->size + canary != usable) return EVH_OK; /* it does not reach to this block */
    const unsigned char *start = checked_at(heap, before->key) + before->size;
    annotate_checking(heap, start, canary);
    const bool is_whole = debug_has_canary(start, canary, &first);
    annotate_checked(heap, start, 0, canary);
    if (is_whole) return EVH_OK;
    (void)snprintf(what, sizeof what,
                   "underflow: byte %llu before it was written, which is byte %zu behind block "
                   "0x%llx",
                   (unsigned long long)(canary - first), first, (unsigned long long)before->key);
    return checked_misuse(heap, EVH_OVERWRITTEN, offset,
                          debug_table_find(&heap->debug->table, offset), what);
}

static evh_status checked_verify_all(evh_heap *heap)
{
    const struct debug_table *table = &heap->debug->table;
    evh_status status = EVH_OK;
    assert(heap_lock_is_taken(&heap->debug->lock));
    for (size_t i = 0; i < table->slots && !status; i++)
        if (table->blocks[i].key) status = checked_verify(heap, &table->blocks[i]);
    assert(!status || evh_last_error()->status == status);
    return status;
}

/* The image is about to be read, or written, as it is: no guards, nothing closed. */
static void checked_bare(evh_heap *heap)
{
    assert(heap->view.base != NULL);
    assert(heap->debug != NULL);
    heap_lock_take(&heap->debug->lock);
    if (!heap->debug->is_bare) {
        guards_drop_all(heap);
        annotate_open_all(heap);
    }
    heap->debug->is_bare = true;
    heap_lock_drop(&heap->debug->lock);
}

/* It was. `is_still`: nobody else allocates or frees meanwhile. */
static void checked_dress(evh_heap *heap, bool is_still)
{
    assert(heap_lock_is_taken(&heap->debug->lock));
    assert(heap->debug->is_bare);
    heap->debug->is_bare = false;
    guards_set_all(heap);
    annotate_close_all(heap, is_still);
}

static void checked_dress_now(evh_heap *heap)
{
    assert(heap->debug != NULL);
    heap_lock_take(&heap->debug->lock);
    if (heap->debug->is_bare) checked_dress(heap, true);
    heap_lock_drop(&heap->debug->lock);
    assert(!heap->debug->is_bare);
}

/* Count an operation, log it, and verify everything if it is time. */
static void checked_operation(evh_heap *heap, const char *operation, const void *address,
                              uint64_t size, const char *site)
{
    struct heap_debug *debug = heap->debug;
    assert(heap_lock_is_taken(&debug->lock));
    assert(operation != NULL);
    debug->operations++;
    if (debug->is_bare) checked_dress(heap, false);
    if (checked_has(heap, DEBUG_LOG))
        (void)debug_log(operation, heap_path(heap), address, size, site);
    if (checked_has(heap, DEBUG_EVERY) && debug->operations % debug->settings.verify_every == 0)
        (void)checked_verify_all(heap);
}

/* ---- allocating ---- */

static void checked_note(evh_heap *heap, unsigned char *bytes, uint64_t size, const char *site)
{
    struct heap_debug *debug = heap->debug;
    const uint64_t offset = evh_ref_to(heap, bytes).offset;
    assert(offset != 0);
    assert(size > 0);
    heap_lock_take(&debug->lock);
    struct debug_block *block = debug_table_find(&debug->table, offset);
    if (block) debug_table_remove(&debug->table, block); /* a rollback brought it back unseen */
    block = debug_table_add(&debug->table, offset);
    if (block) {
        block->size = size;
        block->made_at = site;
        block->operation = debug->operations + 1;
        block->epoch = debug->epoch;
        block->thread = debug_thread();
        const uint64_t canary = checked_canary_bytes(heap, block);
        if (canary) debug_set_canary(bytes + size, canary);
    }
    debug->allocations++;
    checked_operation(heap, "alloc", bytes, size, site);
    heap_lock_drop(&debug->lock);
}

/* The bytes to ask the heap for; 0: too many. */
static uint64_t checked_total(const evh_heap *heap, uint64_t size)
{
    uint64_t total = 0;
    assert(heap->debug != NULL);
    assert(size > 0);
    if (checked_has(heap, DEBUG_GUARD)) return guards_bytes(size);
    const uint64_t canary = checked_has(heap, DEBUG_CANARY) ? DEBUG_CANARY_BYTES : 0;
    return base_add(size, canary, &total) ? total : 0;
}

/* A block that the heap gave gets its guard and its junk. */
static evh_status checked_furnish(evh_heap *heap, unsigned char *bytes, uint64_t size,
                                  uint64_t usable)
{
    assert(bytes != NULL);
    assert(size <= usable);
    annotate_checking(heap, bytes, usable);
    if (checked_has(heap, DEBUG_GUARD) && guards_set(heap, bytes, size, false)) {
        const evh_error why = *evh_last_error();
        (void)heap_raw_free(heap, bytes);
        return base_fail(why.status, why.offset, "%s", why.message);
    }
    if (checked_has(heap, DEBUG_JUNK)) memset(bytes, DEBUG_NEW_BYTE, size);
    return EVH_OK;
}

void *heap_debug_allocate(evh_heap *heap, size_t size, size_t alignment)
{
    assert(heap->debug != NULL);
    assert(size > 0);
    if (heap->live) return heap_log_allocate(heap, size, alignment);
    const char *site = debug_take_site();
    const uint64_t total = checked_total(heap, size);
    if (checked_has(heap, DEBUG_GUARD)) alignment = base_max(alignment, os_page_bytes());
    unsigned char *bytes = heap_raw_allocate(heap, total ? total : size, alignment);
    if (!bytes) return NULL;
    assert((uintptr_t)bytes % alignment == 0);
    uint64_t usable = size;
    if (heap->debug->is_annotated)
        (void)heap_block_at(heap, evh_ref_to(heap, bytes).offset, &usable);
    if (checked_furnish(heap, bytes, size, usable)) return NULL;
    checked_note(heap, bytes, size, site);
    annotate_made(heap, bytes, size, usable);
    return bytes;
}

uint64_t heap_debug_size(evh_heap *heap, const void *address)
{
    assert(heap->debug != NULL);
    uint64_t size = 0;
    heap_lock_take(&heap->debug->lock);
    const struct debug_block *block =
        debug_table_find(&heap->debug->table, evh_ref_to(heap, address).offset);
    if (block && !block->is_free) size = block->size;
    heap_lock_drop(&heap->debug->lock);
    assert(size <= heap_end_bytes(heap));
    return size;
}

void heap_debug_bare(evh_heap *heap)
{
    assert(heap->view.base != NULL);
    if (heap->debug) checked_bare(heap);
    assert(!heap->debug || heap->debug->is_bare);
}

struct checked_walk {
    evh_heap *heap;
    evh_visit *visit;
    void *context;
};

/* A visitor may read the blocks: those in quarantine may be closed, and are not shown then. */
static bool checked_visit(const evh_block *block, void *context)
{
    const struct checked_walk *walk = context;
    evh_heap *heap = walk->heap;
    assert(block->size > 0);
    assert(heap->debug != NULL);
    evh_block shown = *block;
    heap_lock_take(&heap->debug->lock);
    const struct debug_block *known = debug_table_find(&heap->debug->table, block->ref.offset);
    const bool is_closed =
        known && known->is_free && (heap->debug->is_annotated || checked_has(heap, DEBUG_GUARD));
    if (known && !known->is_free) shown.size = known->size;
    heap_lock_drop(&heap->debug->lock);
    return is_closed || walk->visit(&shown, walk->context);
}

evh_status heap_debug_walk(evh_heap *heap, evh_visit *visit, void *context)
{
    assert(heap->debug != NULL);
    assert(visit != NULL);
    struct checked_walk walk = {heap, visit, context};
    return heap_walk(heap, checked_visit, &walk);
}

/* ---- freeing ---- */

/* Free the block in the image, and forget it. */
static evh_status checked_release(evh_heap *heap, struct debug_block *block)
{
    assert(heap_lock_is_taken(&heap->debug->lock));
    assert(block->key != 0);
    unsigned char *bytes = checked_at(heap, block->key);
    const uint64_t usable = heap->debug->is_annotated ? checked_usable(heap, block) : 0;
    (void)checked_verify(heap, block);
    if (checked_has(heap, DEBUG_GUARD)) guards_drop(bytes, block->size);
    debug_table_remove(&heap->debug->table, block);
    annotate_freed(heap, bytes, usable);
    return heap_raw_free(heap, bytes);
}

/* The oldest block leaves the quarantine. */
static void checked_leave(evh_heap *heap)
{
    struct heap_debug *debug = heap->debug;
    assert(debug->count > 0);
    struct debug_block *block = debug_table_find(&debug->table, debug->quarantine[debug->first]);
    debug->first = (debug->first + 1) % debug->settings.quarantine_blocks;
    debug->count--;
    if (block) (void)checked_release(heap, block);
    assert(debug->count < debug->settings.quarantine_blocks);
}

static evh_status checked_retire(evh_heap *heap, struct debug_block *block, const char *site)
{
    struct heap_debug *debug = heap->debug;
    assert(!block->is_free);
    assert(block->key != 0);
    if (!debug->quarantine) return checked_release(heap, block);
    block->is_free = true;
    block->freed_at = site;
    const uint64_t offset = block->key;
    if (debug->is_annotated)
        annotate_freed(heap, checked_at(heap, offset), checked_usable(heap, block));
    if (checked_has(heap, DEBUG_GUARD))
        (void)guards_set(heap, checked_at(heap, offset), block->size, true);
    if (debug->count == debug->settings.quarantine_blocks) checked_leave(heap);
    const uint32_t at = (debug->first + debug->count++) % debug->settings.quarantine_blocks;
    debug->quarantine[at] = offset;
    return EVH_OK;
}

/* A block that this process did not make, or no block. */
static evh_status checked_free_unknown(evh_heap *heap, void *address)
{
    uint64_t size = 0;
    assert(address != NULL);
    const uint64_t offset = evh_ref_to(heap, address).offset;
    assert(!debug_table_find(&heap->debug->table, offset));
    const bool is_block = offset && heap_block_at(heap, offset, &size);
    if (is_block && checked_has(heap, DEBUG_JUNK)) memset(address, DEBUG_FREE_BYTE, size);
    if (is_block) annotate_freed(heap, address, size);
    return heap_raw_free(heap, address);
}

evh_status heap_debug_free(evh_heap *heap, void *address)
{
    struct heap_debug *debug = heap->debug;
    assert(address != NULL);
    assert(debug != NULL);
    if (heap->live) return heap_log_free(heap, address);
    const char *site = debug_take_site();
    const uint64_t offset = evh_ref_to(heap, address).offset;
    evh_status status = EVH_OK;
    heap_lock_take(&debug->lock);
    struct debug_block *block = debug_table_find(&debug->table, offset);
    checked_operation(heap, "free", address, block ? block->size : 0, site);
    if (block && block->is_free) {
        status = checked_misuse(heap, EVH_DOUBLE_FREE, offset, block, "it is free already");
    } else if (block) {
        status = checked_verify(heap, block);
        if (!status) status = checked_verify_before(heap, offset);
        if (!status && checked_has(heap, DEBUG_JUNK)) memset(address, DEBUG_FREE_BYTE, block->size);
        if (!status) status = checked_retire(heap, block, site);
    } else {
        status = checked_free_unknown(heap, address);
    }
    if (!status) debug->frees++;
    heap_lock_drop(&debug->lock);
    return status;
}

/* ---- commits, rollbacks ---- */

static void checked_drain(evh_heap *heap)
{
    assert(heap->debug != NULL);
    heap_lock_take(&heap->debug->lock);
    while (heap->debug->count > 0) checked_leave(heap);
    heap_lock_drop(&heap->debug->lock);
    assert(heap->debug->count == 0);
}

/* The image is that of the last commit: forget what was made since, take back what was freed. */
static void checked_rolled_back(evh_heap *heap)
{
    struct heap_debug *debug = heap->debug;
    struct debug_table kept = {0};
    assert(debug != NULL);
    assert(kept.slots == 0);
    heap_lock_take(&debug->lock);
    for (size_t i = 0; i < debug->table.slots; i++) {
        const struct debug_block *block = &debug->table.blocks[i];
        uint64_t size = 0;
        if (!block->key || block->epoch == debug->epoch) continue;
        if (!heap_block_at(heap, block->key, &size)) continue;
        struct debug_block *copy = debug_table_add(&kept, block->key);
        if (!copy) continue;
        *copy = *block;
        copy->is_free = false;
    }
    debug_table_end(&debug->table);
    debug->table = kept;
    debug->first = debug->count = 0;
    heap_lock_drop(&debug->lock);
}

struct leak_print {
    const evh_heap *heap;
    uint64_t left; /* lines */
};

static bool checked_print_leak(const evh_debug_leak *leak, void *context)
{
    struct leak_print *print = context;
    const evh_heap *heap = print->heap;
    assert(leak->size > 0);
    assert(heap->debug != NULL);
    if (print->left-- == 0) {
        debug_print("  and more");
        return false;
    }
    if (checked_has(heap, DEBUG_SITES))
        debug_print("  leak: block 0x%llx of %zu bytes, made at %s",
                    (unsigned long long)leak->ref.offset, leak->size, leak->site);
    else
        debug_print("  leak: block 0x%llx of %zu bytes", (unsigned long long)leak->ref.offset,
                    leak->size);
    return true;
}

static bool checked_skip_leak(const evh_debug_leak *leak, void *context)
{
    assert(leak != NULL);
    (void)context;
    return leak != NULL;
}

static void checked_report_leaks(evh_heap *heap)
{
    assert(checked_has(heap, DEBUG_LEAKS));
    assert(heap->open_count > 0);
    const uint64_t leaks = evh_debug_leaks(heap, checked_skip_leak, NULL);
    if (leaks == 0) return;
    debug_print("%s: %llu blocks were never freed, and nothing refers to them", heap_path(heap),
                (unsigned long long)leaks);
    struct leak_print print = {heap, LEAK_LINES};
    (void)evh_debug_leaks(heap, checked_print_leak, &print);
}

static void checked_on_event(struct heap_hook *hook, evh_heap *heap, enum heap_event event)
{
    assert(hook == &heap->debug->hook);
    assert(heap->debug != NULL);
    (void)hook;
    switch (event) {
    case HEAP_BEFORE_COMMIT:
        checked_drain(heap);
        checked_bare(heap);
        return;
    case HEAP_COMMITTED:
        heap->debug->epoch++;
        checked_dress_now(heap);
        return;
    case HEAP_ROLLING_BACK: checked_bare(heap); return;
    case HEAP_ROLLED_BACK:
        checked_rolled_back(heap);
        checked_dress_now(heap);
        return;
    case HEAP_CLOSING:
        (void)evh_debug_check(heap);
        checked_drain(heap);
        checked_bare(heap);
        if (checked_has(heap, DEBUG_LEAKS)) checked_report_leaks(heap);
        return;
    }
}

/* ---- making and ending ---- */

evh_status heap_debug_begin(evh_heap *heap)
{
    struct debug_settings settings;
    assert(heap->debug == NULL);
    const bool is_asked_for = heap->options.debug != NULL;
    const evh_status status = debug_read(heap->options.debug, heap_path(heap), &settings);
    heap->options.debug = NULL;
    if (status || !heap->is_writable) return status;
    if (settings.letters & DEBUG_REPORT_ONLY) heap->options.misuse = EVH_MISUSE_STATUS;
    const bool is_annotated = annotate_is_wanted(heap);
    if (!is_annotated && (settings.letters & ~(unsigned)DEBUG_REPORT_ONLY) == 0) return EVH_OK;
    /* Other processes free its blocks and use them again, unseen by this one's table. */
    enum { LIVE_LETTERS = DEBUG_LOG | DEBUG_SITES | DEBUG_REPORT_ONLY };
    if (heap->live && is_asked_for && (settings.letters & ~(unsigned)LIVE_LETTERS))
        return base_fail(EVH_MODE, NO_OFFSET, "%s: a live heap has no debug letters but O, S and R",
                         heap_path(heap));
    if (heap->live) settings.letters &= LIVE_LETTERS;
    if (heap->live && !(settings.letters & DEBUG_LOG)) return EVH_OK;
    if ((settings.letters & DEBUG_GUARD) && !guards_are_possible(heap)) {
        if (is_asked_for) return guards_refuse(heap);
        settings.letters &= ~(unsigned)DEBUG_GUARD; /* the environment is not meant for it */
    }
    struct heap_debug *debug = os->memory_allocate(sizeof *debug);
    if (!debug) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory", heap_path(heap));
    if ((settings.letters & DEBUG_JUNK) && !(settings.letters & DEBUG_QUARANTINE)) {
        settings.letters |= DEBUG_QUARANTINE; /* junk is looked at when a block leaves it */
        settings.quarantine_blocks = JUNK_QUARANTINE_BLOCKS;
    }
    if (settings.letters & DEBUG_QUARANTINE)
        debug->quarantine =
            os->memory_allocate(settings.quarantine_blocks * sizeof *debug->quarantine);
    if ((settings.letters & DEBUG_QUARANTINE) && !debug->quarantine) {
        os->memory_free(debug);
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory", heap_path(heap));
    }
    assert(!(settings.letters & DEBUG_QUARANTINE) || settings.quarantine_blocks > 0);
    debug->settings = settings;
    debug->hook.run = checked_on_event;
    debug->is_annotated = is_annotated;
    heap->debug = debug;
    if ((settings.letters & DEBUG_GUARD) && guards_begin(heap)) {
        heap_debug_end(heap);
        return evh_last_error()->status;
    }
    heap->quick_live = NULL;
    heap_hook_add(heap, &debug->hook);
    threads_close_fast_path(heap);
    assert(heap->slices.end_bytes == 0);
    return EVH_OK;
}

void heap_debug_forked(evh_heap *heap)
{
    assert(heap != NULL);
    if (heap->debug) heap->debug->lock.state = HEAP_LOCK_OPEN; /* whoever held it is gone */
    assert(!heap->debug || !heap_lock_is_taken(&heap->debug->lock));
}

void heap_debug_end(evh_heap *heap)
{
    struct heap_debug *debug = heap->debug;
    if (!debug) return;
    assert(heap->hooks == NULL || heap->open_count > 0);
    guards_end(heap);
    heap->debug = NULL;
    debug_table_end(&debug->table);
    os->memory_free(debug->quarantine);
    os->memory_free(debug);
    assert(heap->debug == NULL);
}

/* ---- what the program asks ---- */

evh_status evh_debug_check(evh_heap *heap)
{
    if (!heap) return base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
    if (!heap->debug) return EVH_OK;
    assert(heap->view.base != NULL);
    assert(heap->is_writable);
    heap_lock_take(&heap->debug->lock);
    const evh_status status = checked_verify_all(heap);
    heap_lock_drop(&heap->debug->lock);
    return status;
}

struct validate_search {
    evh_heap *heap;
    uint64_t offset, size;
    evh_debug_region region;
    bool is_found;
};

static bool validate_visit(const evh_block *block, void *context)
{
    struct validate_search *search = context;
    assert(block->size > 0);
    assert(search->offset > 0);
    if (block->ref.offset > search->offset) return false; /* they come in order */
    const uint64_t inside = search->offset - block->ref.offset;
    uint64_t size = block->size;
    const struct debug_block *known =
        search->heap->debug ? debug_table_find(&search->heap->debug->table, block->ref.offset)
                            : NULL;
    if (known) size = known->is_free ? 0 : known->size;
    assert(size <= block->size);
    if (!base_in_range(inside, search->size, size)) return true;
    search->is_found = true;
    search->region = (evh_debug_region){block->ref, size, inside, known ? known->made_at : "?"};
    return false;
}

evh_status evh_debug_validate(evh_heap *heap, const void *address, size_t size,
                              evh_debug_region *region)
{
    if (!heap) return base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
    struct validate_search search = {
        .heap = heap, .offset = evh_ref_to(heap, address).offset, .size = size};
    assert(heap->view.base != NULL);
    if (search.offset) {
        const evh_status status = evh_walk(heap, validate_visit, &search);
        if (status) return status;
    }
    if (region) *region = search.region;
    if (search.is_found) return EVH_OK;
    return base_fail(EVH_BAD_POINTER, search.offset ? search.offset : NO_OFFSET,
                     "%s: no live block holds %p and %zu bytes", heap_path(heap), address, size);
}

/* ---- leaks ---- */

static void leaks_mark(evh_heap *heap, uint64_t offset)
{
    assert(heap->debug != NULL);
    struct debug_block *block = debug_table_find(&heap->debug->table, offset);
    assert(!block || block->key == offset);
    if (block) block->is_seen = true;
}

/* Every word of a live block may be a ref, or, in memory heaps, a pointer. */
static bool leaks_scan_block(const evh_block *block, void *context)
{
    evh_heap *heap = context;
    assert(block->size > 0);
    assert(heap->debug != NULL);
    const struct debug_block *known = debug_table_find(&heap->debug->table, block->ref.offset);
    if (known && known->is_free) return true;
    const uint64_t base = (uintptr_t)heap->view.base;
    const uint64_t end = heap_end_bytes(heap);
    const uint64_t size = known ? known->size : block->size;
    for (size_t at = 0; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, (const unsigned char *)block->address + at, sizeof word);
        if (word - base < end) word -= base;
        if (word != block->ref.offset && word - 1 < end) leaks_mark(heap, word);
    }
    return true;
}

static void leaks_mark_internal(uint64_t offset, void *context)
{
    assert(offset != 0);
    assert(context != NULL);
    leaks_mark(context, offset);
}

static void leaks_mark_all(evh_heap *heap)
{
    evh_root_info root = {0};
    struct debug_table *table = &heap->debug->table;
    assert(heap->debug != NULL);
    assert(heap->view.base != NULL);
    for (size_t i = 0; i < table->slots; i++) table->blocks[i].is_seen = false;
    while (evh_root_next(heap, &root)) leaks_mark(heap, root.block.offset);
    roots_each_internal(heap, leaks_mark_internal, heap);
    (void)evh_walk(heap, leaks_scan_block, heap);
}

uint64_t evh_debug_leaks(evh_heap *heap, evh_debug_leak_visit *visit, void *context)
{
    uint64_t count = 0;
    if (!heap || !heap->debug || heap->live || !visit) return 0;
    leaks_mark_all(heap);
    const struct debug_table *table = &heap->debug->table;
    for (size_t i = 0; i < table->slots; i++) {
        const struct debug_block *block = &table->blocks[i];
        if (!block->key || block->is_free || block->is_seen) continue;
        assert(block->size > 0);
        const evh_debug_leak leak = {.address = checked_at(heap, block->key),
                                     .ref = {block->key},
                                     .size = block->size,
                                     .site = block->made_at,
                                     .operation = block->operation};
        count++;
        if (!visit(&leak, context)) break;
    }
    return count;
}

void heap_debug_counts(const evh_heap *heap, uint64_t *allocations, uint64_t *frees)
{
    assert(allocations != NULL);
    assert(frees != NULL);
    *allocations = heap->debug ? heap->debug->allocations : 0;
    *frees = heap->debug ? heap->debug->frees : 0;
}
