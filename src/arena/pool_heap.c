/* pool_heap.c -- a pool whose slabs are blocks of a heap.
 *
 * As in the heap below, a bit in a bitmap is the truth: one 8-byte store hands a block out, one
 * takes it back, so that any moment is a valid image; a block that is free already, and a pointer
 * into one, are told exactly. What else is here (masks, lists, the hash of places) is derived from
 * the image and dropped by a rollback. A pool in a live heap is used by several processes:
 * pool_live.c.
 *
 * Estimate: get is a mask's lowest bit, two loads and two stores; put finds its slab by the slice
 * (or is in the current one) and its block by a multiplication: about 2 ns each.
 */
#include "arena/pool.h"

enum { POOL_PLACES_FIRST = 64 };

static struct pool_record *pool_record_of(const evh_pool *pool)
{
    assert(pool->heap != NULL);
    assert(pool->record != 0);
    return (struct pool_record *)(void *)(pool->heap->view.base + pool->record);
}

struct pool_slab_record *pool_slab_record_of(const evh_pool *pool, uint64_t offset)
{
    assert(pool->heap != NULL);
    assert(offset != 0);
    return (struct pool_slab_record *)(void *)(pool->heap->view.base + offset);
}

/* ---- which slab a block lies in ---- */

static uint64_t pool_slice_of(const evh_pool *pool, const void *address)
{
    assert(address != NULL);
    assert(pool->heap != NULL);
    return ((uintptr_t)address - (uintptr_t)pool->heap->view.base) >> SLICE_SHIFT;
}

static uint64_t pool_place_home(const evh_pool *pool, uint64_t slice)
{
    assert(pool->places != NULL);
    assert(base_is_power_of_two(pool->place_count));
    return (slice * 0x9e3779b97f4a7c15u >> 32) & (pool->place_count - 1);
}

/* Note the slab in a hash that has room, once for each slice that its blocks lie in. */
static void pool_note_places(evh_pool *pool, struct pool_slab *slab)
{
    const uint64_t first = pool_slice_of(pool, slab->blocks);
    const uint64_t last = pool_slice_of(pool, slab->blocks + slab->count * pool->stride - 1);
    assert(first <= last);
    for (uint64_t slice = first; slice <= last; slice++) {
        uint64_t at = pool_place_home(pool, slice);
        while (pool->places[at]) at = (at + 1) & (pool->place_count - 1);
        pool->places[at] = slab;
        pool->places_used++;
    }
    assert(pool->places_used < pool->place_count);
}

/* Make room for the slab and note it. */
static evh_status pool_add_places(evh_pool *pool, struct pool_slab *slab)
{
    assert(slab->count > 0);
    const uint64_t more = (slab->count * pool->stride >> SLICE_SHIFT) + 2;
    uint64_t count = pool->place_count ? pool->place_count : POOL_PLACES_FIRST;
    while (pool->places_used + more > count / 2) count *= 2;
    assert(base_is_power_of_two(count));
    if (count != pool->place_count) {
        struct pool_slab **places = os->memory_allocate(count * sizeof(struct pool_slab *));
        if (!places) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory", pool->name);
        os->memory_free(pool->places);
        pool->places = places;
        pool->place_count = count;
        pool->places_used = 0;
        for (struct pool_slab *other = pool->slabs; other; other = other->previous)
            pool_note_places(pool, other);
    }
    pool_note_places(pool, slab);
    return EVH_OK;
}

/* The slab that `block` lies in. Slabs of small heaps share slices: the search goes on. */
static struct pool_slab *pool_find_slab(const evh_pool *pool, const void *block)
{
    struct pool_slab *current = pool->current;
    assert(pool->heap != NULL);
    assert(pool->stride > 0);
    if (current && (uintptr_t)block - (uintptr_t)current->blocks < current->count * pool->stride)
        return current;
    if (pool->place_count == 0) return NULL;
    const uint64_t slice = pool_slice_of(pool, block);
    uint64_t at = pool_place_home(pool, slice);
    for (; pool->places[at]; at = (at + 1) & (pool->place_count - 1)) {
        struct pool_slab *slab = pool->places[at];
        if ((uintptr_t)block - (uintptr_t)slab->blocks < slab->count * pool->stride) return slab;
    }
    return NULL;
}

evh_status pool_heap_find(const evh_pool *pool, const void *block, struct pool_slab **slab,
                          uint64_t *index)
{
    assert(pool->heap != NULL);
    assert(slab != NULL);
    *slab = pool_find_slab(pool, block);
    if (!*slab) return EVH_BAD_POINTER;
    __extension__ typedef unsigned __int128 wide;
    const uint64_t offset = (uint64_t)((uintptr_t)block - (uintptr_t)(*slab)->blocks);
    /* Lemire, Kaser, Kurz, as size_class_divide(): exact below 2^32 for these strides. */
    const wide product = (wide)offset * pool->reciprocal;
    *index = (uint64_t)(product >> 64);
    if ((uint64_t)product >= pool->reciprocal) return EVH_BAD_POINTER;
    assert(*index == offset / pool->stride);
    assert(*index < (*slab)->count);
    const uint64_t word = __atomic_load_n(&(*slab)->bits[*index / 64], __ATOMIC_RELAXED);
    return word >> *index % 64 & 1 ? EVH_OK : EVH_DOUBLE_FREE;
}

/* ---- get and put ---- */

void pool_set_partial(evh_pool *pool, struct pool_slab *slab)
{
    assert(slab->free_words != 0);
    if (slab->is_partial || slab == pool->current) return;
    slab->is_partial = true;
    slab->next_partial = pool->partial;
    pool->partial = slab;
    assert(pool->partial == slab);
}

/* Put the next word with free blocks of the current slab into the mask. */
static bool pool_refill_current(evh_pool *pool)
{
    assert(pool->heap != NULL);
    struct pool_slab *slab = pool->current;
    if (!slab) return false;
    assert(pool->mask == 0);
    while (slab->free_words) {
        const uint32_t word = base_lowest_bit(slab->free_words);
        slab->free_words &= slab->free_words - 1;
        pool->mask = ~base_load(&slab->bits[word], __ATOMIC_RELAXED) & pool_valid_bits(slab, word);
        if (pool->mask == 0) continue;
        pool->word = &slab->bits[word];
        pool->at = slab->blocks + word * 64 * pool->stride;
        return true;
    }
    pool->word = NULL;
    return false;
}

static evh_status pool_add_heap_slab(evh_pool *pool);

/* The same, of the first slab in the list that has any. */
static bool pool_refill_partial(evh_pool *pool)
{
    assert(pool->mask == 0);
    while (pool->partial) {
        struct pool_slab *slab = pool->partial;
        assert(slab->is_partial);
        pool->partial = slab->next_partial;
        slab->next_partial = NULL;
        slab->is_partial = false;
        pool->current = slab;
        if (pool_refill_current(pool)) return true;
    }
    return false;
}

bool pool_refill_known(evh_pool *pool)
{
    assert(pool->mask == 0);
    assert(pool->heap != NULL);
    return pool_refill_current(pool) || pool_refill_partial(pool);
}

static evh_status pool_refill(evh_pool *pool)
{
    assert(pool->mask == 0);
    assert(!pool->heap->live);
    if (pool_refill_known(pool)) return EVH_OK;
    const evh_status status = pool_add_heap_slab(pool);
    if (status) return status;
    return NEVER(!pool_refill_partial(pool)) ? EVH_FULL : EVH_OK;
}

void *pool_heap_get(evh_pool *pool)
{
    assert(pool->heap != NULL);
    if (UNLIKELY(pool->mask == 0)) {
        if (heap_writable(pool->heap) || pool_refill(pool)) return NULL;
    }
    const uint64_t mask = pool->mask;
    const uint64_t bit = mask & (~mask + 1);
    const uint64_t live = __atomic_load_n(pool->word, __ATOMIC_RELAXED);
    assert((live & bit) == 0);
    pool->mask = mask ^ bit;
    __atomic_store_n(pool->word, live | bit, __ATOMIC_RELAXED);
    return pool->at + (size_t)base_lowest_bit(mask) * pool->stride;
}

evh_status pool_heap_put(evh_pool *pool, void *block)
{
    struct pool_slab *slab = NULL;
    uint64_t index = 0;
    const evh_status status = pool_heap_find(pool, block, &slab, &index);
    if (UNLIKELY(status == EVH_DOUBLE_FREE))
        return pool_misuse(pool, status, block, "it is free already");
    if (UNLIKELY(status != EVH_OK))
        return pool_misuse(pool, status, block, "no block of this pool begins there");
    uint64_t *word = &slab->bits[index / 64];
    assert(slab != NULL);
    assert(index < slab->count);
    const uint64_t bit = 1ull << index % 64;
    const uint64_t live = __atomic_load_n(word, __ATOMIC_RELAXED);
    __atomic_store_n(word, live & ~bit, __ATOMIC_RELAXED);
    if (word == pool->word) {
        pool->mask |= bit;
        return EVH_OK;
    }
    slab->free_words |= 1ull << index / 64;
    if (UNLIKELY(!slab->is_partial)) pool_set_partial(pool, slab);
    return EVH_OK;
}

/* ---- slabs ---- */

/* Its record, rounded so that the blocks are aligned. */
uint64_t pool_first_bytes(const evh_pool *pool)
{
    assert(pool->alignment >= sizeof(void *));
    assert(base_is_power_of_two(pool->alignment));
    return base_round_up(sizeof(struct pool_slab_record),
                         base_max(pool->alignment, EVH_LINE_BYTES));
}

static void pool_link_slab(evh_pool *pool, struct pool_slab *slab)
{
    assert(slab->bits != NULL);
    assert(slab->count > 0);
    slab->previous = pool->slabs;
    pool->slabs = slab;
    pool->slab_count++;
    pool->capacity += slab->count;
    slab->free_words = 0;
    for (uint64_t w = 0; w * 64 < slab->count; w++)
        if (~base_load(&slab->bits[w], __ATOMIC_RELAXED) & pool_valid_bits(slab, w))
            slab->free_words |= 1ull << w;
    if (slab->free_words) pool_set_partial(pool, slab);
}

/* What the process knows of the slab at `offset`. */
static struct pool_slab *pool_new_slab(const evh_pool *pool, uint64_t offset, uint64_t number)
{
    assert(offset != 0);
    assert(number > 0);
    struct pool_slab *slab = os->memory_allocate(sizeof *slab);
    if (!slab) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory", pool->name);
        return NULL;
    }
    struct pool_slab_record *record = pool_slab_record_of(pool, offset);
    slab->offset = offset;
    slab->number = number;
    slab->bits = record->bits;
    slab->blocks = (unsigned char *)record + pool_first_bytes(pool);
    slab->count = pool->slab_blocks;
    return slab;
}

evh_status pool_check_limit(const evh_pool *pool)
{
    const uint64_t limit = pool->options.count_max;
    assert(pool->heap != NULL);
    if (limit == 0 || pool->capacity < limit) return EVH_OK;
    assert(pool->slab_count > 0);
    return base_fail(EVH_LIMIT, NO_OFFSET, "pool '%s': all of its %llu blocks are in use",
                     pool->name, (unsigned long long)limit);
}

static evh_status pool_add_heap_slab(evh_pool *pool)
{
    assert(pool->mask == 0);
    const evh_status allowed = pool_check_limit(pool);
    if (allowed) return allowed;
    const uint64_t size = pool_first_bytes(pool) + pool->slab_blocks * pool->stride;
    const uint64_t alignment = base_max(pool->alignment, EVH_LINE_BYTES);
    unsigned char *block = evh_aligned_alloc(pool->heap, alignment, size);
    if (!block) return evh_last_error()->status;
    const uint64_t offset = evh_ref_to(pool->heap, block).offset;
    struct pool_slab_record *record = pool_slab_record_of(pool, offset);
    /* The newest, which chains (of a live heap that was saved) are not counted among. */
    const uint64_t newest = pool_record_of(pool)->slab;
    *record = (struct pool_slab_record){
        .magic = POOL_SLAB_MAGIC,
        .previous = newest,
        .pool = pool->record,
        .number = newest ? pool_slab_record_of(pool, newest)->number + 1 : 1,
        .first = pool_first_bytes(pool)};
    struct pool_slab *slab = pool_new_slab(pool, offset, record->number);
    if (!slab || pool_add_places(pool, slab)) {
        os->memory_free(slab);
        evh_free(pool->heap, block);
        return EVH_NO_MEMORY;
    }
    pool_link_slab(pool, slab);
    __atomic_store_n(&pool_record_of(pool)->slab, offset, __ATOMIC_RELEASE);
    assert(pool->partial == slab);
    return EVH_OK;
}

/* ---- loading ---- */

static evh_status pool_damaged(const evh_pool *pool, uint64_t offset, const char *what)
{
    assert(pool->heap != NULL);
    assert(what != NULL);
    return base_fail(EVH_CORRUPT, offset, "%s: pool '%s': %s", heap_path(pool->heap), pool->name,
                     what);
}

static evh_status pool_check_slab(const evh_pool *pool, uint64_t offset, uint64_t number,
                                  bool is_chained)
{
    assert(pool->stride > 0);
    uint64_t size = 0;
    assert(pool->slab_blocks > 0);
    const uint64_t need = pool_first_bytes(pool) + pool->slab_blocks * pool->stride;
    if (!heap_block_at(pool->heap, offset, &size) || size < need)
        return pool_damaged(pool, offset, "a slab that is no block, or too small");
    const struct pool_slab_record *record = pool_slab_record_of(pool, offset);
    const bool is_linked =
        is_chained ? record->previous == 0
                   : record->next == 0 && (record->previous == 0) == (record->number == 1);
    if (record->magic != POOL_SLAB_MAGIC || record->pool != pool->record || !is_linked ||
        record->first != pool_first_bytes(pool) || (number && record->number != number) ||
        record->number == 0 || record->number > heap_end_bytes(pool->heap) / need ||
        !heap_is_zero(record->reserved, sizeof record->reserved))
        return pool_damaged(pool, offset, "a slab's record is damaged");
    for (uint64_t w = 0; w < POOL_SLAB_WORDS; w++) {
        const uint64_t rest = pool->slab_blocks > w * 64 ? pool->slab_blocks - w * 64 : 0;
        const uint64_t valid = rest >= 64 ? UINT64_MAX : (1ull << rest) - 1;
        if (base_load(&record->bits[w], __ATOMIC_RELAXED) & ~valid)
            return pool_damaged(pool, offset, "a bit is set behind a slab's last block");
    }
    return EVH_OK;
}

static void pool_forget_slabs(evh_pool *pool)
{
    struct pool_slab *slab = pool->slabs;
    assert(pool->options.heap != NULL);
    while (slab) {
        struct pool_slab *previous = slab->previous;
        os->memory_free(slab);
        slab = previous;
    }
    pool->slabs = pool->current = pool->partial = NULL;
    pool->slab_count = pool->capacity = 0;
    pool->mask = 0;
    pool->word = NULL;
    os->memory_free(pool->places);
    os->memory_free(pool->tails);
    pool->places = NULL;
    pool->tails = NULL;
    pool->place_count = pool->places_used = 0;
    assert(pool->slabs == NULL);
}

/* Build the list: newest first, as the records are linked; its order is the list's. */
static evh_status pool_load_slabs(evh_pool *pool, uint64_t offset)
{
    struct pool_slab **link = &pool->slabs;
    assert(pool->slabs == NULL);
    uint64_t number = 0;
    for (bool is_first = true; offset != 0; is_first = false) {
        evh_status status = pool_check_slab(pool, offset, is_first ? 0 : number, false);
        if (status) return status;
        const struct pool_slab_record *record = pool_slab_record_of(pool, offset);
        number = record->number; /* it goes down to 1, which bounds this loop */
        struct pool_slab *slab = pool_new_slab(pool, offset, number);
        if (!slab) return EVH_NO_MEMORY;
        status = pool_add_places(pool, slab);
        if (status) {
            os->memory_free(slab);
            return status;
        }
        *link = slab;
        link = &slab->previous;
        offset = record->previous;
        number--;
    }
    struct pool_slab *slab = pool->slabs;
    pool->slabs = NULL;
    struct pool_slab *oldest = NULL; /* reversed, so that linking them puts the newest first */
    assert(pool->slab_count == 0);
    while (slab) {
        struct pool_slab *previous = slab->previous;
        slab->previous = oldest;
        oldest = slab;
        slab = previous;
    }
    while (oldest) {
        struct pool_slab *newer = oldest->previous;
        pool_link_slab(pool, oldest);
        oldest = newer;
    }
    return EVH_OK;
}

evh_status pool_learn_slab(evh_pool *pool, uint64_t offset, uint64_t number)
{
    assert(offset != 0);
    assert(pool->tails != NULL);
    evh_status status = pool_check_slab(pool, offset, number, true);
    if (status) return status;
    struct pool_slab *slab = pool_new_slab(pool, offset, pool_slab_record_of(pool, offset)->number);
    if (!slab) return EVH_NO_MEMORY;
    status = pool_add_places(pool, slab);
    if (status) {
        os->memory_free(slab);
        return status;
    }
    pool_link_slab(pool, slab);
    return EVH_OK;
}

/* A pool with chains: those, too, whatever the heap is now. */
static evh_status pool_load_chains(evh_pool *pool, uint64_t block_bytes)
{
    const struct pool_record *record = pool_record_of(pool);
    assert(pool->tails == NULL);
    if (record->chain_count == 0 && pool->heap->live)
        return base_fail(EVH_MODE, pool->record, "%s: pool '%s' was not made in a live heap",
                         heap_path(pool->heap), pool->name);
    if (record->chain_count == 0) return EVH_OK;
    assert(block_bytes >= sizeof *record);
    if (record->chain_count != POOL_CHAINS || block_bytes < sizeof(struct pool_live_record) ||
        (pool->heap->live && record->slab != 0))
        return pool_damaged(pool, pool->record, "its record is damaged");
    pool->tails = os->memory_allocate(POOL_CHAINS * sizeof *pool->tails);
    if (!pool->tails)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory", pool->name);
    return pool_live_look(pool);
}

static evh_status pool_heap_load(evh_pool *pool)
{
    uint64_t size = 0;
    assert(pool->record != 0);
    const struct pool_record *record = pool_record_of(pool);
    if (!heap_block_at(pool->heap, pool->record, &size) || size < sizeof *record ||
        record->magic != POOL_MAGIC)
        return base_fail(EVH_NOT_FOUND, pool->record, "%s: no pool there", heap_path(pool->heap));
    if (record->block_bytes == 0 || record->block_bytes > POOL_SIZE_MAX ||
        !base_is_power_of_two(record->alignment) || record->alignment < sizeof(void *) ||
        record->alignment > POOL_ALIGNMENT_MAX ||
        !heap_is_zero(record->reserved, sizeof record->reserved) || record->slab_blocks == 0 ||
        record->slab_blocks > POOL_SLAB_BLOCKS_MAX)
        return pool_damaged(pool, pool->record, "its record is damaged");
    pool_forget_slabs(pool);
    pool->options.size_bytes = record->block_bytes;
    pool->options.count_max = record->count_max;
    pool->alignment = record->alignment;
    pool->stride = base_round_up(base_max(record->block_bytes, sizeof(void *)), pool->alignment);
    pool->reciprocal = UINT64_MAX / pool->stride + 1;
    assert(pool->stride >= pool->options.size_bytes);
    pool->slab_blocks = record->slab_blocks;
    const evh_status status = pool_load_slabs(pool, record->slab);
    return status ? status : pool_load_chains(pool, size);
}

/* ---- what happens to the heap ---- */

static void pool_become_stale(evh_pool *pool)
{
    assert(pool != NULL);
    pool_forget_slabs(pool);
    pool->is_stale = true;
    pool->way = POOL_WAY_OTHER;
    pool->heap = NULL;
    assert(pool->mask == 0);
}

static void pool_on_event(struct heap_hook *hook, evh_heap *heap, enum heap_event event)
{
    evh_pool *pool = (void *)((unsigned char *)hook - offsetof(struct evh_pool, hook));
    assert(pool->stride > 0);
    assert(pool->is_stale || pool->heap == heap);
    (void)heap;
    if (event == HEAP_CLOSING) pool->hooked = NULL;
    if (pool->is_stale) return;
    switch (event) {
    case HEAP_BEFORE_COMMIT:
        if (pool->debug) pool_debug_drain(pool);
        return;
    case HEAP_COMMITTED: pool->is_committed = true; return;
    case HEAP_ROLLING_BACK: return;
    case HEAP_ROLLED_BACK:
        if (!pool->is_committed || pool_heap_load(pool)) pool_become_stale(pool);
        if (pool->debug) pool_debug_rolled_back(pool);
        return;
    case HEAP_CLOSING:
        if (pool->debug) pool_debug_drain(pool);
        pool_become_stale(pool);
        return;
    }
}

static void pool_heap_attach(evh_pool *pool)
{
    assert(pool->hooked == NULL);
    assert(pool->heap != NULL);
    pool->hook.run = pool_on_event;
    pool->hooked = pool->heap;
    if (!pool->options.is_shared && !pool->debug)
        pool->way = pool->heap->live ? POOL_WAY_LIVE : POOL_WAY_HEAP;
    heap_hook_add(pool->heap, &pool->hook);
}

static void pool_heap_detach(evh_pool *pool)
{
    assert(pool->options.heap != NULL);
    assert(!pool->heap || !pool->hooked || pool->heap == pool->hooked);
    if (pool->hooked) heap_hook_remove(pool->hooked, &pool->hook);
    pool->hooked = NULL;
}

/* ---- making and ending ---- */

evh_status pool_heap_create(evh_pool *pool)
{
    assert(pool->record == 0);
    assert(pool->heap != NULL);
    /* A slab with its record is whole slices where blocks are small; less in a small buffer. */
    uint64_t bytes = POOL_SLAB_BYTES;
    if (pool->heap->compact) bytes = base_max(heap_end_bytes(pool->heap) / 16, 1024);
    const uint64_t first = pool_first_bytes(pool);
    const uint64_t fitting = bytes > first ? (bytes - first) / pool->stride : 0;
    pool->slab_blocks = base_max(fitting, pool->heap->compact ? 1 : POOL_SLAB_BLOCKS_MIN);
    pool->slab_blocks = base_min(pool->slab_blocks, POOL_SLAB_BLOCKS_MAX);
    const uint64_t limit = pool->options.count_max;
    if (limit && limit < pool->slab_blocks) pool->slab_blocks = limit;
    /* Whole slabs: the limit is rounded up to them. */
    if (limit)
        pool->options.count_max =
            (limit + pool->slab_blocks - 1) / pool->slab_blocks * pool->slab_blocks;
    const bool is_live = pool->heap->live != NULL;
    struct pool_record *record =
        evh_calloc(pool->heap, 1, is_live ? sizeof(struct pool_live_record) : sizeof *record);
    if (!record) return evh_last_error()->status;
    *record = (struct pool_record){.magic = POOL_MAGIC,
                                   .chain_count = is_live ? POOL_CHAINS : 0,
                                   .count_max = pool->options.count_max,
                                   .block_bytes = pool->options.size_bytes,
                                   .alignment = (uint32_t)pool->alignment,
                                   .slab_blocks = (uint32_t)pool->slab_blocks};
    pool->record = evh_ref_to(pool->heap, record).offset;
    if (is_live) pool->tails = os->memory_allocate(POOL_CHAINS * sizeof *pool->tails);
    if (is_live && !pool->tails) {
        evh_free(pool->heap, record);
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "pool '%s': no memory", pool->name);
    }
    pool_heap_attach(pool);
    return EVH_OK;
}

evh_pool *evh_pool_open(evh_heap *heap, evh_ref ref, const evh_pool_options *options)
{
    if (heap_writable(heap)) return NULL;
    evh_pool_options chosen = {.heap = heap, .size_bytes = 1};
    if (options) {
        chosen.name = options->name;
        chosen.debug = options->debug;
        chosen.misuse = options->misuse;
        chosen.is_shared = options->is_shared;
    }
    evh_pool *pool = pool_new_handle(&chosen);
    if (!pool) return NULL;
    pool->record = ref.offset;
    evh_status status = EVH_OK;
    assert(pool->heap == heap);
    assert(pool->slabs == NULL);
    if (ref.offset == 0 || ref.offset > heap_end_bytes(heap))
        status = base_fail(EVH_NOT_FOUND, ref.offset, "%s: no pool there", heap_path(heap));
    if (!status) status = pool_heap_load(pool);
    if (status) {
        const evh_error why = *evh_last_error();
        pool_forget_slabs(pool);
        pool->options.is_shared = false; /* it is not in the registry */
        pool_free_handle(pool);
        (void)base_fail(why.status, why.offset, "%s", why.message);
        return NULL;
    }
    pool->is_committed = true;
    pool_heap_attach(pool);
    if (chosen.is_shared) pool_shared_begin(pool);
    return pool;
}

evh_ref evh_pool_ref(const evh_pool *pool)
{
    const evh_ref none = {0}, ref = {pool ? pool->record : 0};
    assert(!pool || pool->options.heap || pool->record == 0);
    return pool && !pool->is_stale && pool->heap ? ref : none;
}

void pool_heap_close(evh_pool *pool)
{
    assert(pool->options.heap != NULL);
    pool_heap_detach(pool);
    if (pool->debug && pool->heap) pool_debug_drain(pool);
    if (pool->heap) pool_forget_slabs(pool);
    assert(pool->slabs == NULL);
    pool_free_handle(pool);
}

evh_status evh_pool_remove(evh_pool *pool)
{
    if (!pool) return EVH_OK;
    if (!pool->options.heap) {
        pool_free_handle(pool);
        return EVH_OK;
    }
    evh_status status = pool_usable(pool);
    if (!status) status = heap_writable(pool->heap);
    assert(status || pool->record != 0);
    assert(status || pool->hooked == pool->heap);
    if (!status && pool->heap->live) {
        status = pool_live_remove(pool);
    } else if (!status) {
        if (pool->debug) pool_debug_drain(pool);
        /* The record first: a kill in between leaves slabs that nothing names. */
        evh_free(pool->heap, pool->heap->view.base + pool->record);
        for (const struct pool_slab *slab = pool->slabs; slab; slab = slab->previous)
            evh_free(pool->heap, pool->heap->view.base + slab->offset);
    }
    const evh_error why = *evh_last_error();
    pool_heap_close(pool);
    return status ? base_fail(why.status, why.offset, "%s", why.message) : EVH_OK;
}
