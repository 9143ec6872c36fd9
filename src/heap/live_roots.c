/* live_roots.c -- roots of live heaps: tables that any process changes at any moment.
 *
 * A chunk is an array of words; a word is 0 or names a record (struct heap_root), with two notes in
 * its unused bits. A key may be in the first LIVE_ROOT_PROBES words from its hash on, in each
 * chunk. A word never becomes 0 again. So the first word that is 0, or the key's own, is the same
 * for all who look for the key, and whoever makes its root does so there, by one compare-exchange.
 *
 * A removed root keeps its record, marked in the word: it holds the key's place until the same
 * root is made again. While what a word says decides about a thread's intent, the word says whose
 * (its busy bits), and others who want to change it write the decision into the intent first.
 * Records are freed by their mirrors, and their places held (live_intents.c) by who is about to
 * remove a root: so a word that names the same record names the same root.
 *
 * The same code reads the roots of a copy (private or read-only); there, nobody else is about.
 */
#include "heap/heap.h"

#define ROOT_REF_BITS ((1ull << LIVE_ROOT_BUSY_SHIFT) - 1)

/* A word that is, or could be, a key's. */
struct root_word {
    uint64_t *place;
    uint64_t value;          /* as it was read; 0: nobody's yet */
    struct heap_root record; /* a copy, if value is not 0 */
};

static uint64_t live_root_ref(uint64_t value)
{
    assert(value != 0); /* what it names is the file's word: live_root_block() looks at it */
    return value & ROOT_REF_BITS & ~LIVE_ROOT_REMOVED;
}

static bool live_root_is_there(uint64_t value)
{
    return value != 0 && !(value & LIVE_ROOT_REMOVED);
}

static uint64_t live_root_words(unsigned chunk)
{
    assert(chunk < LIVE_ROOT_CHUNKS);
    return (uint64_t)LIVE_ROOT_WORDS << chunk;
}

/* A live block of at least `size` bytes; NULL if there is none. */
static void *live_root_block(evh_heap *heap, uint64_t offset, uint64_t size)
{
    assert(size > 0);
    assert(heap->compact == NULL);
    uint64_t usable = 0;
    if (offset == 0 || !heap_block_at(heap, offset, &usable) || usable < size) return NULL;
    assert(base_in_range(offset, size, heap_end_bytes(heap)));
    return heap->view.base + offset;
}

/* ---- allocating what an intent, or a word that it leads to, notes beforehand ---- */

static void *root_allocate_small(struct cache *cache, size_t size, uint64_t *note)
{
    assert(size <= HEAP_MEDIUM_MAX);
    assert(note != NULL);
    const uint32_t class_index = size_class_of(size);
    struct bin *bin = &cache->bins[class_index];
    if (!bin->mask && owners_refill(cache, class_index)) return NULL;
    assert(bin->mask != 0);
    assert(bin->block_bytes >= size);
    const uint64_t bit = bin->mask & (~bin->mask + 1);
    unsigned char *block = bin->blocks + (size_t)base_lowest_bit(bit) * bin->block_bytes;
    memset(block, 0, size);
    base_store(note, (uint64_t)(block - cache->heap->view.base), __ATOMIC_RELEASE);
    bin->mask ^= bit;
    base_store(bin->word, base_load(bin->word, __ATOMIC_RELAXED) | bit, __ATOMIC_RELEASE);
    return block;
}

/* Free what the calling thread's intent says is to be freed; then it is void. */
static void live_root_free(evh_heap *heap, struct live_intent *intent, uint64_t offset,
                           uint64_t second)
{
    assert(heap->compact == NULL);
    assert(heap->is_writable);
    uint64_t usable = 0;
    if (heap->live && offset) {
        (void)live_free_intended(threads_attach(heap), offset, second);
        return;
    }
    const uint64_t offsets[] = {offset, second};
    for (unsigned i = 0; i < 2; i++)
        if (offsets[i] && heap_block_at(heap, offsets[i], &usable))
            evh_free(heap, heap->view.base + offsets[i]);
    live_intent_end(intent);
}

/* The thread's intent: a record that held a key's place is no longer needed. By its mirror: it may
 * be held, see live_root_hold(). */
static void live_root_free_record(evh_heap *heap, struct live_intent *intent, uint64_t record)
{
    assert(record % 16 == 0);
    assert(heap->is_writable);
    if (record == 0 || !heap->live || PLANTED(21)) {
        live_root_free(heap, intent, record, 0);
        return;
    }
    const uint32_t slot = threads_attach(heap)->thread_slot;
    live_set_freeing(heap->live, slot, true);
    live_free_quietly(heap->live, record);
    live_intent_end(intent);
    live_set_freeing(heap->live, slot, false);
}

/* A zeroed block; `*note` has its offset before it is live. */
static void *live_root_allocate(evh_heap *heap, size_t size, uint64_t *note)
{
    assert(size > 0);
    assert(note != NULL);
    void *block = NULL;
    if (!heap->live) {
        block = evh_calloc(heap, 1, size);
        if (block) *note = evh_ref_to(heap, block).offset;
        return block;
    }
    struct cache *cache = threads_attach(heap);
    if (!cache) return NULL;
    if (size <= HEAP_MEDIUM_MAX) return root_allocate_small(cache, size, note);
    block = live_large_allocate(heap, size, SLICE_BYTES, note);
    if (!block) return NULL;
    memset(block, 0, size);
    live_let_go(heap->live, evh_ref_to(heap, block).offset >> SLICE_SHIFT);
    return block;
}

/* The calling thread's intent; in a copy, one that nobody reads. */
static struct live_intent *live_root_intent(evh_heap *heap, struct live_intent *nobodys)
{
    assert(nobodys != NULL);
    assert(heap->is_writable);
    *nobodys = (struct live_intent){0};
    if (!heap->live) return nobodys;
    const struct cache *cache = threads_attach(heap);
    return cache ? &heap->live->intents[cache->thread_slot] : NULL;
}

/* ---- catalog and chunks ---- */

/* `*catalog` NULL and EVH_OK: there is none yet. */
static evh_status live_root_catalog(evh_heap *heap, struct live_catalog **catalog)
{
    assert(catalog != NULL);
    assert(heap->live || heap->is_live_copy);
    *catalog = NULL;
    const uint64_t offset =
        heap->live ? base_load(&heap->live->area->catalog, __ATOMIC_ACQUIRE) : heap->state.catalog;
    if (offset == 0) return EVH_OK;
    struct live_catalog *found = live_root_block(heap, offset, sizeof *found);
    if (!found || found->magic != LIVE_CATALOG_MAGIC)
        return base_fail(EVH_CORRUPT, offset, "%s: catalog: there is none at 0x%llx",
                         heap_path(heap), (unsigned long long)offset);
    *catalog = found;
    return EVH_OK;
}

/* Make a block and have `place` name it, once for all; another may be faster. */
static evh_status live_root_make_once(evh_heap *heap, uint64_t *place, size_t size, uint64_t magic)
{
    assert(place != NULL);
    assert(size % 8 == 0);
    assert(heap->is_writable);
    struct live_intent nobodys;
    struct live_intent *intent = live_root_intent(heap, &nobodys);
    if (!intent) return evh_last_error()->status;
    const uint64_t slot = (uint64_t)((unsigned char *)place - heap->view.base);
    live_intent_begin(intent, LIVE_INTENT_NAMED, slot < heap_end_bytes(heap) ? slot : 0, 0);
    uint64_t *block = live_root_allocate(heap, size, &intent->block);
    if (!block) return evh_last_error()->status;
    if (magic) block[0] = magic;
    uint64_t none = 0;
    const uint64_t offset = (uint64_t)((unsigned char *)block - heap->view.base);
    const bool made =
        base_compare_exchange(place, &none, offset, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    if (made)
        live_intent_end(intent);
    else
        live_root_free(heap, intent, offset, 0);
    return EVH_OK;
}

static evh_status live_root_need_catalog(evh_heap *heap, struct live_catalog **catalog)
{
    assert(catalog != NULL);
    evh_status status = live_root_catalog(heap, catalog);
    if (status || *catalog) return status;
    assert(heap->is_writable);
    status =
        live_root_make_once(heap, heap->live ? &heap->live->area->catalog : &heap->state.catalog,
                            sizeof **catalog, LIVE_CATALOG_MAGIC);
    return status ? status : live_root_catalog(heap, catalog);
}

/* The words of a chunk; NULL and EVH_OK: not made. */
static evh_status live_root_chunk(evh_heap *heap, struct live_catalog *catalog, unsigned chunk,
                                  uint64_t **words)
{
    assert(chunk < LIVE_ROOT_CHUNKS);
    assert(words != NULL);
    *words = NULL;
    const uint64_t offset = base_load(&catalog->chunks[chunk], __ATOMIC_ACQUIRE);
    if (offset == 0) return EVH_OK;
    *words = live_root_block(heap, offset, live_root_words(chunk) * sizeof **words);
    if (*words) return EVH_OK;
    return base_fail(EVH_CORRUPT, evh_ref_to(heap, &catalog->chunks[chunk]).offset,
                     "%s: catalog: chunk %u: no block of its size is at 0x%llx", heap_path(heap),
                     chunk, (unsigned long long)offset);
}

/* ---- words ---- */

/* Read a word and the record that it names: again if it changes meanwhile, because then the record
 * may be another's block already. */
static evh_status live_root_read(evh_heap *heap, struct root_word *word)
{
    assert(word->place != NULL);
    assert(heap->live || heap->is_live_copy);
    word->value = base_load(word->place, __ATOMIC_ACQUIRE);
    while (word->value) { /* each turn again because another made or removed this very root */
        uint64_t *record =
            live_root_block(heap, live_root_ref(word->value), sizeof(struct heap_root));
        uint64_t copy[sizeof(struct heap_root) / 8];
        for (size_t i = 0; record && i < sizeof copy / sizeof copy[0]; i++)
            copy[i] = base_load(&record[i], __ATOMIC_ACQUIRE);
        const uint64_t before = word->value;
        word->value = base_load(word->place, __ATOMIC_ACQUIRE);
        if (live_root_ref(before) != (word->value ? live_root_ref(word->value) : 0)) continue;
        if (!record)
            return base_fail(EVH_CORRUPT, evh_ref_to(heap, word->place).offset,
                             "%s: root: no record is at 0x%llx", heap_path(heap),
                             (unsigned long long)live_root_ref(before));
        memcpy(&word->record, copy, sizeof copy);
        return EVH_OK;
    }
    return EVH_OK;
}

static bool live_root_matches(const struct heap_root *record, const struct root_key *key)
{
    assert(record != NULL);
    assert(key != NULL);
    if (record->hash != key->hash) return false;
    if (!key->name) return record->name[0] == 0 && record->tag == key->tag;
    return memcmp(record->name, key->name, key->name_size) == 0 &&
           record->name[key->name_size] == 0;
}

/* The key's word: its own, or the first that nobody has. `place` NULL: there is none as yet; the
 * chunk that has to be made is `*chunk`. */
static evh_status live_root_locate(evh_heap *heap, struct live_catalog *catalog,
                                   const struct root_key *key, struct root_word *word,
                                   unsigned *chunk)
{
    assert(word != NULL);
    assert(chunk != NULL);
    for (*chunk = 0; *chunk < LIVE_ROOT_CHUNKS; ++*chunk) {
        uint64_t *words = NULL;
        evh_status status = live_root_chunk(heap, catalog, *chunk, &words);
        *word = (struct root_word){0};
        if (status || !words) return status;
        for (uint64_t i = 0; i < LIVE_ROOT_PROBES; i++) {
            word->place = &words[(key->hash + i) & (live_root_words(*chunk) - 1)];
            status = live_root_read(heap, word);
            if (status || word->value == 0 || live_root_matches(&word->record, key)) return status;
        }
    }
    *word = (struct root_word){0};
    return base_fail(EVH_LIMIT, NO_OFFSET, "%s: no more roots fit", heap_path(heap));
}

static uint64_t live_root_slot(const evh_heap *heap, const struct root_word *word)
{
    assert(word->place != NULL);
    assert((unsigned char *)word->place > heap->view.base);
    return (uint64_t)((unsigned char *)word->place - heap->view.base);
}

/* Before a word with busy bits is changed: what it says is written into the intent of the thread
 * that stored it, which goes on, or whose reaper goes on, with what is left to free. */
static void live_root_help(evh_heap *heap, struct root_word *word)
{
    assert(word->value != 0);
    assert(word->place != NULL);
    const uint64_t busy = word->value >> LIVE_ROOT_BUSY_SHIFT;
    if (busy == 0 || !heap->live) return;
    if (busy <= LIVE_THREADS_MAX)
        live_intent_decide(&heap->live->intents[busy - 1], live_root_slot(heap, word),
                           live_root_ref(word->value));
    uint64_t before = word->value;
    if (base_compare_exchange(word->place, &before, before & ROOT_REF_BITS, false, __ATOMIC_ACQ_REL,
                              __ATOMIC_ACQUIRE))
        word->value &= ROOT_REF_BITS;
    else
        word->value = before;
}

static uint64_t live_root_busy_bits(evh_heap *heap)
{
    if (!heap->live) return 0;
    const struct cache *cache = threads_present(heap);
    assert(cache != NULL);
    assert(cache->thread_slot < LIVE_THREADS_MAX);
    return (uint64_t)(cache->thread_slot + 1) << LIVE_ROOT_BUSY_SHIFT;
}

/* The thread has stored `value` into the word: that decides, and then it is not busy any more. */
static void live_root_settle(evh_heap *heap, struct live_intent *intent,
                             const struct root_word *word, uint64_t value)
{
    assert(value != 0);
    assert(word->place != NULL);
    live_intent_decide(intent, live_root_slot(heap, word), live_root_ref(value));
    (void)base_compare_exchange(word->place, &value, value & ROOT_REF_BITS, false, __ATOMIC_ACQ_REL,
                                __ATOMIC_RELAXED);
}

EVH_INTERNAL void live_root_resolve(struct live *live, uint32_t slot)
{
    assert(slot < LIVE_THREADS_MAX);
    assert(live->intents[slot].block != 0);
    evh_heap *heap = live->heap;
    const struct live_intent *intent = &live->intents[slot];
    const uint64_t block = intent->block;
    const uint64_t end_bytes = live_end(live) << SLICE_SHIFT;
    const bool has_word = intent->slot % 8 == 0 && intent->slot >= SLICE_BYTES &&
                          base_in_range(intent->slot, 8, end_bytes);
    const uint64_t *place = (const uint64_t *)(void *)(heap->view.base + intent->slot);
    const uint64_t value = has_word ? base_load(place, __ATOMIC_ACQUIRE) : 0;
    /* After the word: whoever changes it has changed the kind before. */
    switch (live_intent_kind(base_load(&intent->kind, __ATOMIC_ACQUIRE))) {
    case LIVE_INTENT_GONE:
        if (value >> LIVE_ROOT_BUSY_SHIFT == slot + 1 && (value & LIVE_ROOT_REMOVED))
            live_free_quietly(live, block);
        return;
    case LIVE_INTENT_FREE: live_free_quietly(live, block); return;
    case LIVE_INTENT_MADE: live_free_quietly(live, intent->second); return;
    case LIVE_INTENT_ROOT: break;
    default: return; /* of a damaged image: nothing is known */
    }
    if (value && live_root_ref(value) == block) { /* it was published */
        live_free_quietly(live, intent->second);
        return;
    }
    const struct heap_root *record = live_root_block(heap, block, sizeof *record);
    if (!record) return;
    if (record->block.offset) live_free_quietly(live, record->block.offset);
    live_free_quietly(live, block);
}

/* ---- making ---- */

/* A record with its block, noted in the intent. */
static struct heap_root *live_root_new(evh_heap *heap, struct live_intent *intent,
                                       const struct root_key *key, size_t size)
{
    assert(intent->block == 0);
    assert(size > 0);
    assert(key->hash != 0);
    live_intent_begin(intent, LIVE_INTENT_ROOT, 0, 0);
    struct heap_root *record = live_root_allocate(heap, sizeof *record, &intent->block);
    if (!record) return NULL;
    record->hash = key->hash;
    record->tag = key->tag;
    record->size = size;
    if (key->name) memcpy(record->name, key->name, key->name_size);
    if (live_root_allocate(heap, size, &record->block.offset)) return record;
    const evh_error why = *evh_last_error();
    live_root_free(heap, intent, intent->block, 0);
    (void)base_fail(why.status, why.offset, "%s", why.message);
    return NULL;
}

/* Another was faster: what we made goes. */
static void live_root_discard(evh_heap *heap, struct live_intent *intent, struct heap_root *record)
{
    assert(record != NULL);
    assert(intent != NULL);
    base_store(&intent->second, record->block.offset, __ATOMIC_RELEASE); /* nobody gets it yet */
    assert(intent->second != 0);
    live_root_free(heap, intent, intent->second, intent->block);
}

static evh_status live_root_make(evh_heap *heap, struct live_catalog *catalog,
                                 const struct root_key *key, size_t size, struct root_word *word)
{
    assert(heap->is_writable);
    assert(size > 0);
    struct live_intent nobodys;
    struct live_intent *intent = live_root_intent(heap, &nobodys);
    struct heap_root *record = intent ? live_root_new(heap, intent, key, size) : NULL;
    if (!record) return evh_last_error()->status;
    const uint64_t ref = evh_ref_to(heap, record).offset;
    evh_status status = EVH_OK;
    for (;;) { /* again only if the word changed meanwhile: somebody got on */
        unsigned chunk = 0;
        status = live_root_locate(heap, catalog, key, word, &chunk);
        if (!status && word->place && live_root_is_there(word->value)) break;
        if (status) break;
        if (!word->place) break; /* a chunk is missing: the caller makes it */
        if (word->value) live_root_help(heap, word);
        if (live_root_is_there(word->value)) continue;
        const uint64_t old = word->value ? live_root_ref(word->value) : 0; /* the place holder */
        const uint64_t value = ref | live_root_busy_bits(heap);
        uint64_t before = word->value;
        base_store(&intent->second, old, __ATOMIC_RELEASE);
        base_store(&intent->slot, live_root_slot(heap, word), __ATOMIC_RELEASE);
        if (!base_compare_exchange(word->place, &before, value, false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_RELAXED))
            continue;
        live_root_settle(heap, intent, word, value);
        live_root_free_record(heap, intent, old);
        word->value = ref;
        word->record = *record;
        return EVH_OK;
    }
    live_root_discard(heap, intent, record);
    return status;
}

/* The block of a root that is there. */
static evh_status live_root_take(evh_heap *heap, const struct root_word *word, size_t size,
                                 void **block, size_t *found_size)
{
    assert(block != NULL);
    assert(live_root_is_there(word->value));
    const struct heap_root *record = &word->record;
    if (record->size < size)
        return base_fail(EVH_INVALID, live_root_ref(word->value),
                         "%s: root \"%.*s\" (tag %llu) was made with %llu bytes, %zu are asked for",
                         heap_path(heap), EVH_NAME_SIZE_MAX, record->name,
                         (unsigned long long)record->tag, (unsigned long long)record->size, size);
    *block = record->size ? live_root_block(heap, record->block.offset, record->size) : NULL;
    if (found_size) *found_size = (size_t)record->size;
    if (*block) return EVH_OK;
    return base_fail(EVH_CORRUPT, live_root_ref(word->value),
                     "%s: root \"%.*s\" (tag %llu): no block of %llu bytes is at 0x%llx",
                     heap_path(heap), EVH_NAME_SIZE_MAX, record->name,
                     (unsigned long long)record->tag, (unsigned long long)record->size,
                     (unsigned long long)record->block.offset);
}

/* Whether the root was removed, or made anew, since its word was read. */
static bool live_root_has_changed(const struct root_word *word)
{
    assert(word->place != NULL);
    assert(word->value != 0);
    const uint64_t now = base_load(word->place, __ATOMIC_ACQUIRE);
    return ((now ^ word->value) & ROOT_REF_BITS) != 0;
}

EVH_INTERNAL evh_status live_root_open(evh_heap *heap, const struct root_key *key, size_t size,
                                       bool make, void **block, size_t *found_size)
{
    assert(block != NULL);
    assert(key != NULL);
    struct live_catalog *catalog = NULL;
    evh_status status = make && heap->is_writable ? live_root_need_catalog(heap, &catalog)
                                                  : live_root_catalog(heap, &catalog);
    if (status) return status;
    for (;;) { /* each turn makes a chunk, or ends, or somebody else has removed this very root */
        struct root_word word = {0};
        unsigned chunk = 0;
        if (catalog) status = live_root_locate(heap, catalog, key, &word, &chunk);
        if (status) return status;
        if (live_root_is_there(word.value)) {
            status = live_root_take(heap, &word, size, block, found_size);
            if (status == EVH_CORRUPT && live_root_has_changed(&word)) continue;
            return status;
        }
        if (!make) return EVH_NOT_FOUND; /* the caller says what */
        status = heap_writable(heap);
        if (status) return status;
        assert(catalog != NULL);
        if (!word.place) {
            status = live_root_make_once(heap, &catalog->chunks[chunk],
                                         live_root_words(chunk) * sizeof(uint64_t), 0);
            if (status) return status;
            continue;
        }
        status = live_root_make(heap, catalog, key, size, &word);
        if (status) return status;
        if (!live_root_is_there(word.value)) continue;
        status = live_root_take(heap, &word, size, block, found_size);
        if (status != EVH_CORRUPT || !live_root_has_changed(&word)) return status;
    }
}

/* ---- removing ---- */

/* Nothing comes of it. */
static void live_root_let_go(evh_heap *heap, struct live_intent *intent)
{
    assert(heap->is_writable);
    assert(intent != NULL);
    live_intent_end(intent);
    if (heap->live) live_set_freeing(heap->live, threads_present(heap)->thread_slot, false);
}

/* The calling thread's intent to remove the root of a word, void still; `*block` is the root's.
 * Until it ends nobody gets the record's place, so the word names it only if it is this root's.
 * False: the word has changed. */
static bool live_root_hold(evh_heap *heap, struct live_intent *intent, const struct root_word *word,
                           uint64_t *block)
{
    assert(live_root_is_there(word->value));
    assert(block != NULL);
    const uint64_t ref = live_root_ref(word->value);
    live_intent_begin(intent, LIVE_INTENT_GONE, live_root_slot(heap, word), ref);
    if (heap->live && !PLANTED(21))
        live_set_freeing(heap->live, threads_present(heap)->thread_slot, true);
    if (base_load(word->place, __ATOMIC_SEQ_CST) == word->value) {
        const struct heap_root *record = (const void *)(heap->view.base + ref);
        *block = base_load(&record->block.offset, __ATOMIC_ACQUIRE);
        return true;
    }
    live_root_let_go(heap, intent);
    return false;
}

EVH_INTERNAL evh_status live_root_remove(evh_heap *heap, const struct root_key *key)
{
    assert(heap->is_writable);
    assert(key != NULL);
    struct live_catalog *catalog = NULL;
    struct live_intent nobodys;
    evh_status status = live_root_catalog(heap, &catalog);
    if (status) return status;
    for (;;) { /* again only if the word changed meanwhile */
        struct root_word word = {0};
        unsigned chunk = 0;
        uint64_t block = 0;
        if (catalog) status = live_root_locate(heap, catalog, key, &word, &chunk);
        if (status) return status;
        if (!live_root_is_there(word.value)) return EVH_NOT_FOUND; /* the caller says what */
        live_root_help(heap, &word);
        if (!live_root_is_there(word.value)) continue;
        struct live_intent *intent = live_root_intent(heap, &nobodys);
        if (!intent) return evh_last_error()->status;
        if (!live_root_hold(heap, intent, &word, &block)) continue;
        if (block == 0) { /* what the file says: a root has a block */
            live_root_let_go(heap, intent);
            return base_fail(EVH_CORRUPT, live_root_ref(word.value), "%s: root: it has no block",
                             heap_path(heap));
        }
        base_store(&intent->block, block, __ATOMIC_RELEASE);
        uint64_t before = word.value;
        const uint64_t value =
            live_root_ref(before) | LIVE_ROOT_REMOVED | live_root_busy_bits(heap);
        if (!base_compare_exchange(word.place, &before, value, false, __ATOMIC_ACQ_REL,
                                   __ATOMIC_RELAXED)) {
            live_root_let_go(heap, intent);
            continue;
        }
        live_root_settle(heap, intent, &word, value);
        live_root_free(heap, intent, block, 0);
        return EVH_OK;
    }
}

/* ---- all of them ---- */

/* The word at a position: words of all chunks in a row. False: behind the last. */
static bool live_root_at(evh_heap *heap, struct live_catalog *catalog, uint64_t position,
                         struct root_word *word)
{
    assert(word != NULL);
    assert(catalog != NULL);
    for (unsigned chunk = 0; chunk < LIVE_ROOT_CHUNKS; chunk++) {
        uint64_t *words = NULL;
        if (live_root_chunk(heap, catalog, chunk, &words) || !words) return false;
        if (position < live_root_words(chunk)) {
            word->place = &words[position];
            return true;
        }
        position -= live_root_words(chunk);
    }
    return false;
}

EVH_INTERNAL evh_status live_root_next(evh_heap *heap, evh_root_info *root, bool *is_found)
{
    assert(root != NULL);
    assert(is_found != NULL);
    struct live_catalog *catalog = NULL;
    *is_found = false;
    evh_status status = live_root_catalog(heap, &catalog);
    if (status || !catalog) return status;
    struct root_word word = {0};
    while (!*is_found && live_root_at(heap, catalog, root->position, &word)) {
        root->position++;
        status = live_root_read(heap, &word);
        if (status) return status;
        if (!live_root_is_there(word.value)) continue;
        roots_describe(&word.record, root);
        *is_found = true;
    }
    return EVH_OK;
}

EVH_INTERNAL evh_status live_roots_count(evh_heap *heap, uint64_t *count)
{
    assert(count != NULL);
    assert(heap->live || heap->is_live_copy);
    evh_root_info root = {0};
    bool is_found = true;
    evh_status status = EVH_OK;
    *count = 0;
    while (!status && is_found) {
        status = live_root_next(heap, &root, &is_found);
        *count += is_found;
    }
    return status;
}

EVH_INTERNAL void live_roots_each_internal(evh_heap *heap,
                                           void (*visit)(uint64_t offset, void *context),
                                           void *context)
{
    assert(visit != NULL);
    assert(heap->live || heap->is_live_copy);
    struct live_catalog *catalog = NULL;
    if (live_root_catalog(heap, &catalog) || !catalog) return;
    visit(evh_ref_to(heap, catalog).offset, context);
    for (unsigned chunk = 0; chunk < LIVE_ROOT_CHUNKS; chunk++) {
        const uint64_t offset = base_load(&catalog->chunks[chunk], __ATOMIC_ACQUIRE);
        if (offset) visit(offset, context);
    }
    struct root_word word = {0};
    for (uint64_t i = 0; live_root_at(heap, catalog, i, &word); i++) {
        const uint64_t value = base_load(word.place, __ATOMIC_ACQUIRE);
        if (value) visit(live_root_ref(value), context);
    }
}

EVH_INTERNAL evh_status live_roots_check(evh_heap *heap, evh_report *report, void *context)
{
    assert(heap->compact == NULL);
    assert(heap->live || heap->is_live_copy);
    evh_status first = EVH_OK;
    struct live_catalog *catalog = NULL;
    bool more = true;
    if (live_root_catalog(heap, &catalog)) {
        const evh_error why = *evh_last_error();
        (void)heap_finding(report, context, &first, why.offset, "root", "%s", why.message);
        return first;
    }
    if (!catalog) return EVH_OK;
    struct root_word word = {0};
    for (uint64_t i = 0; more && live_root_at(heap, catalog, i, &word); i++) {
        void *block = NULL;
        struct root_word found = {0};
        unsigned chunk = 0;
        evh_status status = live_root_read(heap, &word);
        if (!status && word.value == 0) continue;
        const struct root_key key = roots_key_of_record(&word.record);
        if (!status && word.record.hash != key.hash)
            status = base_fail(EVH_CORRUPT, live_root_ref(word.value),
                               "%s: root: its hash is not that of its name", heap_path(heap));
        if (!status) status = live_root_locate(heap, catalog, &key, &found, &chunk);
        if (!status && found.place != word.place)
            status = base_fail(EVH_CORRUPT, live_root_ref(word.value),
                               "%s: root: a lookup does not find it, or a twin", heap_path(heap));
        if (!status && live_root_is_there(word.value))
            status = live_root_take(heap, &word, 0, &block, NULL);
        if (!status) continue;
        const evh_error why = *evh_last_error();
        more = heap_finding(report, context, &first, why.offset, "root", "%s", why.message);
    }
    return first;
}
