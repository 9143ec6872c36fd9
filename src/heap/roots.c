/* roots.c -- blocks that the next run finds by name or by tag.
 *
 * The catalog, an ordinary block that header and record name, lists up to 26 chunks: hash tables of
 * 4, 8, 16, ... entries with linear probing, the next made when the one before is filled to 3/4. An
 * entry never moves, so an iteration is a position; a lookup asks each chunk, a few entries in
 * each.
 *
 * Invariants
 *  1. Chunks 0..n-1 exist, the others' refs are 0. Each is a live block.
 *  2. root_filled[i] counts the entries of chunk i that are not 0; it never falls, so a probe ends
 *     at an entry that was never used, as 1/4 of them are.
 *  3. An entry is found where its hash leads: between the hash's place and it, no entry is 0.
 *  4. An entry is published by storing its hash last, and removed by storing 1 there first.
 *
 * All of it comes from the file: a lookup checks what it follows, so that a heap with a damaged
 * catalog answers EVH_CORRUPT. Everything runs under roots_mutex; the allocator's lock is below it.
 */
#include "heap/heap.h"

enum {
    ROOT_NEVER = 0, /* hashes that stand for no root */
    ROOT_REMOVED = 1,
    ROOT_FIRST_HASH = 2,
};

/* ---- keys ---- */

/* The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t roots_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* FNV-1a over the name, or the tag, mixed. Part of the format. */
static uint64_t roots_hash(const char *name, size_t name_size, uint64_t tag)
{
    assert(!name || tag == 0); /* one or the other */
    assert(!name || name_size > 0);
    uint64_t hash = 0xcbf29ce484222325ull;
    if (name)
        for (size_t i = 0; i < name_size; i++)
            hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3ull;
    else
        hash = tag + 0x9e3779b97f4a7c15ull;
    hash = roots_mix(hash);
    return hash < ROOT_FIRST_HASH ? hash + ROOT_FIRST_HASH : hash;
}

static evh_status roots_key_of_name(const evh_heap *heap, const char *name, struct root_key *key)
{
    assert(key != NULL);
    *key = (struct root_key){0};
    if (!heap) return base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
    if (!name) return base_fail(EVH_INVALID, NO_OFFSET, "%s: root: no name: null", heap_path(heap));
    size_t size = 0;
    while (size <= EVH_NAME_SIZE_MAX && name[size]) size++;
    if (size == 0 || size > EVH_NAME_SIZE_MAX)
        return base_fail(EVH_INVALID, NO_OFFSET, "%s: root: a name has 1 to %d bytes, not %s",
                         heap_path(heap), EVH_NAME_SIZE_MAX, size ? "more" : "0");
    *key = (struct root_key){.name = name, .name_size = size};
    key->hash = roots_hash(name, size, 0);
    assert(key->hash >= ROOT_FIRST_HASH);
    return EVH_OK;
}

EVH_INTERNAL struct root_key roots_key_of_record(const struct heap_root *record)
{
    assert(record != NULL);
    size_t size = 0;
    while (size < EVH_NAME_SIZE_MAX && record->name[size]) size++;
    const char *name = size ? record->name : NULL;
    const uint64_t tag = name ? 0 : record->tag;
    assert(size <= EVH_NAME_SIZE_MAX);
    return (struct root_key){name, tag, roots_hash(name, size, tag), size, 0};
}

static evh_status roots_key_of_tag(const evh_heap *heap, uint64_t tag, struct root_key *key)
{
    assert(key != NULL);
    *key = (struct root_key){0};
    if (!heap) return base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
    *key = (struct root_key){.tag = tag, .hash = roots_hash(NULL, 0, tag)};
    assert(key->hash >= ROOT_FIRST_HASH);
    assert(key->name == NULL);
    return EVH_OK;
}

/* ---- the catalog ---- */

static uint64_t roots_chunk_entries(unsigned chunk)
{
    assert(chunk < HEAP_ROOT_CHUNKS);
    return (uint64_t)HEAP_ROOT_FIRST << chunk;
}

/* The live block of at least `size` bytes at `offset`; NULL if there is none. Errors: those of
 * loading the segment that it lies in, which say nothing about the block. */
static evh_status roots_block(evh_heap *heap, uint64_t offset, uint64_t size, void **block)
{
    assert(block != NULL);
    uint64_t usable = 0;
    *block = NULL;
    if (size == 0 || offset == 0 || offset >= heap_end_bytes(heap)) return EVH_OK;
    if (!heap->compact) {
        const evh_status status = slices_need(heap, offset >> SEGMENT_SHIFT);
        if (status) return status;
    }
    if (!heap_block_at(heap, offset, &usable) || usable < size) return EVH_OK;
    assert(base_in_range(offset, size, heap_end_bytes(heap)));
    *block = heap->view.base + offset;
    return EVH_OK;
}

/* `*catalog` is NULL, and the status EVH_OK, if a compact heap has none yet. */
static evh_status roots_catalog(evh_heap *heap, struct heap_catalog **catalog)
{
    assert(heap != NULL);
    assert(catalog != NULL);
    const uint64_t offset = heap->compact ? compact_catalog(heap) : heap->state.catalog;
    *catalog = NULL;
    if (offset == 0 && heap->compact) return EVH_OK;
    void *block = NULL;
    const evh_status status = roots_block(heap, offset, sizeof **catalog, &block);
    if (status) return status;
    struct heap_catalog *found = block;
    if (!found)
        return base_fail(EVH_CORRUPT, offset, "%s: catalog: no block of its size is at 0x%llx",
                         heap_path(heap), (unsigned long long)offset);
    if (found->magic != HEAP_CATALOG_MAGIC)
        return base_fail(EVH_CORRUPT, offset, "%s: catalog: it does not begin as one",
                         heap_path(heap));
    *catalog = found;
    return EVH_OK;
}

evh_status roots_create(evh_heap *heap)
{
    assert(heap != NULL);
    struct heap_catalog *catalog = evh_calloc(heap, 1, sizeof *catalog);
    if (!catalog) return evh_last_error()->status;
    catalog->magic = HEAP_CATALOG_MAGIC;
    heap->state.catalog = evh_ref_to(heap, catalog).offset;
    assert(heap->state.catalog != 0);
    if (heap->compact) compact_set_catalog(heap, heap->state.catalog);
    return EVH_OK;
}

/* The entries of a chunk that exists; EVH_OK and NULL behind the last one. */
static evh_status roots_chunk(evh_heap *heap, const struct heap_catalog *catalog, unsigned chunk,
                              struct heap_root **entries)
{
    assert(catalog != NULL);
    assert(entries != NULL);
    assert(chunk <= HEAP_ROOT_CHUNKS);
    *entries = NULL;
    if (chunk == HEAP_ROOT_CHUNKS) return EVH_OK;
    const uint64_t offset = catalog->root_chunks[chunk].offset;
    if (offset == 0) return EVH_OK;
    void *block = NULL;
    const evh_status status =
        roots_block(heap, offset, roots_chunk_entries(chunk) * sizeof **entries, &block);
    *entries = block;
    if (status || block) return status;
    const uint64_t at = evh_ref_to(heap, &catalog->root_chunks[chunk]).offset;
    return base_fail(EVH_CORRUPT, at, "%s: catalog: chunk %u: no block of its size is at 0x%llx",
                     heap_path(heap), chunk, (unsigned long long)offset);
}

/* ---- entries ---- */

static bool roots_matches(const struct heap_root *entry, const struct root_key *key)
{
    assert(entry != NULL);
    assert(key->hash >= ROOT_FIRST_HASH);
    if (entry->hash != key->hash) return false;
    if (!key->name) return entry->name[0] == 0 && entry->tag == key->tag;
    return memcmp(entry->name, key->name, key->name_size) == 0 && entry->name[key->name_size] == 0;
}

/* The entry of `key` in one chunk, or NULL; `*vacant` receives the first that could take it:
 * removed, or never used (`*is_fresh`). */
static struct heap_root *roots_probe(struct heap_root *entries, uint64_t entry_count,
                                     const struct root_key *key, struct heap_root **vacant,
                                     bool *is_fresh)
{
    assert(base_is_power_of_two(entry_count));
    assert(key->hash >= ROOT_FIRST_HASH);
    *vacant = NULL;
    *is_fresh = false;
    for (uint64_t i = 0; i < entry_count; i++) {
        struct heap_root *entry = &entries[(key->hash + i) & (entry_count - 1)];
        if (entry->hash == ROOT_NEVER) {
            *is_fresh = !*vacant;
            if (!*vacant) *vacant = entry;
            return NULL;
        }
        if (entry->hash == ROOT_REMOVED && !*vacant) *vacant = entry;
        if (roots_matches(entry, key)) return entry;
    }
    return NULL;
}

/* Find `key`; EVH_OK and NULL if it is not there. */
static evh_status roots_find(evh_heap *heap, const struct heap_catalog *catalog,
                             const struct root_key *key, struct heap_root **found)
{
    assert(key != NULL);
    assert(found != NULL);
    *found = NULL;
    for (unsigned chunk = 0; catalog && chunk < HEAP_ROOT_CHUNKS && !*found; chunk++) {
        struct heap_root *entries = NULL;
        struct heap_root *vacant = NULL;
        bool is_fresh = false;
        const evh_status status = roots_chunk(heap, catalog, chunk, &entries);
        if (status || !entries) return status;
        *found = roots_probe(entries, roots_chunk_entries(chunk), key, &vacant, &is_fresh);
    }
    return EVH_OK;
}

/* The block of an entry, checked. */
static evh_status roots_resolve(evh_heap *heap, const struct heap_root *entry, void **block)
{
    assert(entry != NULL);
    assert(block != NULL);
    const evh_status status = roots_block(heap, entry->block.offset, entry->size, block);
    if (status || *block) return status;
    return base_fail(EVH_CORRUPT, evh_ref_to(heap, entry).offset,
                     "%s: root \"%.*s\" (tag %llu): no block of %llu bytes is at 0x%llx",
                     heap_path(heap), EVH_NAME_SIZE_MAX, entry->name,
                     (unsigned long long)entry->tag, (unsigned long long)entry->size,
                     (unsigned long long)entry->block.offset);
}

/* ---- making a root ---- */

static void *roots_new_block(evh_heap *heap, const struct root_key *key, size_t size)
{
    assert(size > 0);
    assert(heap->live == NULL);
    if (key->type == 0 || heap->compact) return evh_calloc(heap, 1, size);
    void *block = evh_malloc_typed(heap, key->type, size);
    if (block) memset(block, 0, size);
    return block;
}

/* Make chunk `chunk`, empty. */
static evh_status roots_add_chunk(evh_heap *heap, struct heap_catalog *catalog, unsigned chunk,
                                  struct heap_root **entries)
{
    assert(heap->is_writable);
    assert(chunk <= HEAP_ROOT_CHUNKS);
    assert(entries != NULL);
    if (chunk == HEAP_ROOT_CHUNKS)
        return base_fail(EVH_LIMIT, NO_OFFSET, "%s: no more roots fit", heap_path(heap));
    assert(catalog->root_chunks[chunk].offset == 0);
    *entries = evh_calloc(heap, roots_chunk_entries(chunk), sizeof **entries);
    if (!*entries) return evh_last_error()->status;
    catalog->root_filled[chunk] = 0;
    catalog->root_chunks[chunk] = evh_ref_to(heap, *entries);
    return EVH_OK;
}

/* A free entry for `key`, which is in no chunk: in the first chunk that has one to give. */
static evh_status roots_vacant(evh_heap *heap, struct heap_catalog *catalog,
                               const struct root_key *key, struct heap_root **vacant,
                               uint32_t **filled)
{
    assert(catalog != NULL);
    assert(vacant != NULL);
    assert(filled != NULL);
    for (unsigned chunk = 0; chunk <= HEAP_ROOT_CHUNKS; chunk++) {
        struct heap_root *entries = NULL;
        bool is_fresh = false;
        evh_status status = roots_chunk(heap, catalog, chunk, &entries);
        if (!status && !entries) status = roots_add_chunk(heap, catalog, chunk, &entries);
        if (status) return status;
        const uint64_t entry_count = roots_chunk_entries(chunk);
        (void)roots_probe(entries, entry_count, key, vacant, &is_fresh);
        const bool is_filled = catalog->root_filled[chunk] >= entry_count / 4 * 3;
        if (!*vacant || (is_fresh && is_filled)) continue;
        *filled = is_fresh ? &catalog->root_filled[chunk] : NULL;
        assert((*vacant)->hash < ROOT_FIRST_HASH);
        return EVH_OK;
    }
    return base_fail(EVH_LIMIT, NO_OFFSET, "%s: no more roots fit", heap_path(heap));
}

static evh_status roots_make(evh_heap *heap, struct heap_catalog *catalog,
                             const struct root_key *key, size_t size, void **made)
{
    assert(size > 0);
    assert(made != NULL);
    assert(heap->is_writable);
    assert(catalog != NULL);
    struct heap_root *entry = NULL;
    uint32_t *filled = NULL;
    void *block = roots_new_block(heap, key, size);
    if (!block) return evh_last_error()->status;
    const evh_status status = roots_vacant(heap, catalog, key, &entry, &filled);
    if (status) {
        const evh_error why = *evh_last_error();
        evh_free(heap, block);
        return base_fail(why.status, why.offset, "%s", why.message);
    }
    assert(entry->hash < ROOT_FIRST_HASH);
    entry->tag = key->tag;
    entry->block = evh_ref_to(heap, block);
    entry->size = size;
    memset(entry->name, 0, sizeof entry->name);
    if (key->name) memcpy(entry->name, key->name, key->name_size);
    if (filled) ++*filled;
    catalog->root_count++;
    base_store(&entry->hash, key->hash, __ATOMIC_RELEASE);
    *made = block;
    return EVH_OK;
}

EVH_INTERNAL evh_status roots_enter(evh_heap *heap, const evh_root_info *root)
{
    assert(root != NULL);
    assert(!heap->live && !heap->is_live_copy);
    struct heap_catalog *catalog = NULL;
    struct heap_root *entry = NULL;
    uint32_t *filled = NULL;
    struct heap_root record = {.tag = root->tag, .block = root->block, .size = root->size};
    memcpy(record.name, root->name, sizeof record.name);
    const struct root_key key = roots_key_of_record(&record);
    evh_status status = roots_catalog(heap, &catalog);
    if (!status) status = roots_vacant(heap, catalog, &key, &entry, &filled);
    if (status) return status;
    assert(entry->hash < ROOT_FIRST_HASH);
    record.hash = key.hash;
    *entry = record;
    if (filled) ++*filled;
    catalog->root_count++;
    return EVH_OK;
}

/* The root of `key` if it is there: EVH_INVALID if it is smaller than `size`. */
static evh_status roots_take_found(evh_heap *heap, const struct heap_root *entry, size_t size,
                                   void **block)
{
    assert(block != NULL);
    assert(entry->hash >= ROOT_FIRST_HASH);
    if (entry->size >= size) return roots_resolve(heap, entry, block);
    return base_fail(EVH_INVALID, evh_ref_to(heap, entry).offset,
                     "%s: root \"%.*s\" (tag %llu) was made with %llu bytes, %zu are asked for",
                     heap_path(heap), EVH_NAME_SIZE_MAX, entry->name,
                     (unsigned long long)entry->tag, (unsigned long long)entry->size, size);
}

static evh_status roots_find_or_make(evh_heap *heap, const struct root_key *key, size_t size,
                                     void **block)
{
    assert(size > 0);
    assert(block != NULL);
    struct heap_catalog *catalog = NULL;
    struct heap_root *entry = NULL;
    evh_status status = roots_catalog(heap, &catalog);
    if (!status) status = roots_find(heap, catalog, key, &entry);
    if (status) return status;
    if (entry) return roots_take_found(heap, entry, size, block);
    status = heap_writable(heap);
    if (!status && !catalog) {
        status = roots_create(heap);
        if (!status) status = roots_catalog(heap, &catalog);
    }
    return status ? status : roots_make(heap, catalog, key, size, block);
}

static evh_status roots_absent(const evh_heap *heap, const struct root_key *key)
{
    assert(heap != NULL);
    assert(key != NULL);
    if (key->name)
        return base_fail(EVH_NOT_FOUND, NO_OFFSET, "%s: no root \"%s\"", heap_path(heap),
                         key->name);
    return base_fail(EVH_NOT_FOUND, NO_OFFSET, "%s: no root with tag %llu", heap_path(heap),
                     (unsigned long long)key->tag);
}

/* Whether the heap's roots are those of a live heap, attached or copied: live_roots.c. */
static bool roots_are_live(const evh_heap *heap)
{
    assert(heap != NULL);
    assert(!heap->live || !heap->is_live_copy);
    return heap->live || heap->is_live_copy;
}

static void *roots_open(evh_heap *heap, const struct root_key *key, size_t size)
{
    assert(heap != NULL);
    assert(key->hash >= ROOT_FIRST_HASH);
    void *block = NULL;
    if (size == 0) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "%s: root: 0 bytes", heap_path(heap));
        return NULL;
    }
    if (roots_are_live(heap)) {
        if (live_root_open(heap, key, size, true, &block, NULL)) return NULL;
        return block;
    }
    /* A bracket of our own: who waits for the lock inside a bracket of his must not wait for one
     * who waits for the gate. */
    evh_enter(heap);
    os->mutex_lock(heap->roots_mutex);
    const evh_status status = roots_find_or_make(heap, key, size, &block);
    os->mutex_unlock(heap->roots_mutex);
    evh_leave(heap);
    assert(status || block);
    return status ? NULL : block;
}

void *evh_root(evh_heap *heap, const char *name, size_t size)
{
    struct root_key key;
    return roots_key_of_name(heap, name, &key) ? NULL : roots_open(heap, &key, size);
}

void *evh_root_typed(evh_heap *heap, const char *name, uint32_t type, size_t size)
{
    struct root_key key;
    if (roots_key_of_name(heap, name, &key)) return NULL;
    key.type = type;
    return roots_open(heap, &key, size);
}

void *evh_root_tagged(evh_heap *heap, uint64_t tag, size_t size)
{
    struct root_key key;
    return roots_key_of_tag(heap, tag, &key) ? NULL : roots_open(heap, &key, size);
}

/* ---- finding and removing ---- */

static void *roots_look_up(evh_heap *heap, const struct root_key *key, size_t *size)
{
    assert(heap != NULL);
    assert(key->hash >= ROOT_FIRST_HASH);
    struct heap_catalog *catalog = NULL;
    struct heap_root *entry = NULL;
    void *block = NULL;
    if (roots_are_live(heap)) {
        if (live_root_open(heap, key, 0, false, &block, size) == EVH_NOT_FOUND)
            (void)roots_absent(heap, key);
        return block;
    }
    os->mutex_lock(heap->roots_mutex);
    evh_status status = roots_catalog(heap, &catalog);
    if (!status) status = roots_find(heap, catalog, key, &entry);
    if (!status && !entry) status = roots_absent(heap, key);
    if (!status) status = roots_resolve(heap, entry, &block);
    if (!status && size) *size = (size_t)entry->size;
    os->mutex_unlock(heap->roots_mutex);
    assert(status || block);
    return status ? NULL : block;
}

void *evh_root_find(evh_heap *heap, const char *name, size_t *size)
{
    struct root_key key;
    return roots_key_of_name(heap, name, &key) ? NULL : roots_look_up(heap, &key, size);
}

void *evh_root_find_tagged(evh_heap *heap, uint64_t tag, size_t *size)
{
    struct root_key key;
    return roots_key_of_tag(heap, tag, &key) ? NULL : roots_look_up(heap, &key, size);
}

static evh_status roots_remove_found(evh_heap *heap, struct heap_catalog *catalog,
                                     struct heap_root *entry)
{
    assert(entry->hash >= ROOT_FIRST_HASH);
    assert(catalog != NULL);
    assert(heap->is_writable);
    void *block = NULL;
    const evh_status status = roots_resolve(heap, entry, &block);
    if (status) return status;
    base_store(&entry->hash, ROOT_REMOVED, __ATOMIC_RELEASE);
    entry->tag = 0;
    entry->block.offset = 0;
    entry->size = 0;
    memset(entry->name, 0, sizeof entry->name);
    if (catalog->root_count > 0) catalog->root_count--;
    assert(block != NULL);
    evh_free(heap, block);
    return EVH_OK;
}

static evh_status roots_remove(evh_heap *heap, const struct root_key *key)
{
    assert(heap != NULL);
    assert(key->hash >= ROOT_FIRST_HASH);
    struct heap_catalog *catalog = NULL;
    struct heap_root *entry = NULL;
    evh_status status = heap_writable(heap);
    if (status) return status;
    if (roots_are_live(heap)) {
        status = live_root_remove(heap, key);
        return status == EVH_NOT_FOUND ? roots_absent(heap, key) : status;
    }
    evh_enter(heap);
    os->mutex_lock(heap->roots_mutex);
    status = roots_catalog(heap, &catalog);
    if (!status) status = roots_find(heap, catalog, key, &entry);
    if (!status)
        status = entry ? roots_remove_found(heap, catalog, entry) : roots_absent(heap, key);
    os->mutex_unlock(heap->roots_mutex);
    evh_leave(heap);
    return status;
}

evh_status evh_root_remove(evh_heap *heap, const char *name)
{
    struct root_key key;
    const evh_status status = roots_key_of_name(heap, name, &key);
    return status ? status : roots_remove(heap, &key);
}

evh_status evh_root_remove_tagged(evh_heap *heap, uint64_t tag)
{
    struct root_key key;
    const evh_status status = roots_key_of_tag(heap, tag, &key);
    return status ? status : roots_remove(heap, &key);
}

/* ---- iterating ---- */

/* Position n is entry n of all chunks in a row: chunk i begins at 4 x (2^i - 1). */
static unsigned roots_chunk_of(uint64_t position, uint64_t *entry)
{
    assert(entry != NULL);
    const unsigned chunk = base_highest_bit(position / HEAP_ROOT_FIRST + 1);
    *entry = position - (roots_chunk_entries(chunk) - HEAP_ROOT_FIRST);
    assert(*entry < roots_chunk_entries(chunk));
    return chunk;
}

EVH_INTERNAL void roots_describe(const struct heap_root *entry, evh_root_info *root)
{
    assert(entry->hash >= ROOT_FIRST_HASH);
    assert(root != NULL);
    memcpy(root->name, entry->name, sizeof root->name);
    root->name[EVH_NAME_SIZE_MAX] = 0; /* whatever the file says */
    root->tag = entry->tag;
    root->is_tagged = entry->name[0] == 0;
    root->block = entry->block;
    root->size = (size_t)entry->size;
}

/* With the roots' mutex held. */
static evh_status roots_step(evh_heap *heap, evh_root_info *root, bool *is_found)
{
    assert(root != NULL);
    assert(is_found != NULL);
    const uint64_t position_end = roots_chunk_entries(HEAP_ROOT_CHUNKS - 1) * 2 - HEAP_ROOT_FIRST;
    struct heap_catalog *catalog = NULL;
    *is_found = false;
    evh_status status = roots_catalog(heap, &catalog);
    if (status || !catalog) return status;
    while (root->position < position_end) {
        struct heap_root *entries = NULL;
        uint64_t entry = 0;
        const unsigned chunk = roots_chunk_of(root->position, &entry);
        status = roots_chunk(heap, catalog, chunk, &entries);
        if (status || !entries) return status;
        for (; entry < roots_chunk_entries(chunk); entry++) {
            root->position++;
            if (entries[entry].hash < ROOT_FIRST_HASH) continue;
            roots_describe(&entries[entry], root);
            *is_found = true;
            return EVH_OK;
        }
    }
    return EVH_OK;
}

evh_status roots_next(evh_heap *heap, evh_root_info *root, bool *is_found)
{
    assert(heap != NULL);
    assert(heap->roots_mutex != NULL);
    if (roots_are_live(heap)) return live_root_next(heap, root, is_found);
    os->mutex_lock(heap->roots_mutex);
    const evh_status status = roots_step(heap, root, is_found);
    os->mutex_unlock(heap->roots_mutex);
    assert(!status || !*is_found);
    return status;
}

bool evh_root_next(evh_heap *heap, evh_root_info *root)
{
    bool is_found = false;
    if (!heap || !root) return false;
    return !roots_next(heap, root, &is_found) && is_found;
}

/* ---- looking into the catalog ---- */

evh_status roots_count(evh_heap *heap, uint64_t *count)
{
    assert(count != NULL);
    assert(heap != NULL);
    if (roots_are_live(heap)) return live_roots_count(heap, count);
    assert(heap->roots_mutex != NULL);
    struct heap_catalog *catalog = NULL;
    os->mutex_lock(heap->roots_mutex);
    const evh_status status = roots_catalog(heap, &catalog);
    *count = catalog ? catalog->root_count : 0;
    os->mutex_unlock(heap->roots_mutex);
    return status;
}

void roots_each_internal(evh_heap *heap, void (*visit)(uint64_t offset, void *context),
                         void *context)
{
    assert(heap != NULL);
    assert(visit != NULL);
    if (roots_are_live(heap)) {
        live_roots_each_internal(heap, visit, context);
        return;
    }
    struct heap_catalog *catalog = NULL;
    os->mutex_lock(heap->roots_mutex);
    if (!roots_catalog(heap, &catalog) && catalog) {
        visit(evh_ref_to(heap, catalog).offset, context);
        for (unsigned i = 0; i < HEAP_ROOT_CHUNKS; i++)
            if (catalog->root_chunks[i].offset) visit(catalog->root_chunks[i].offset, context);
    }
    os->mutex_unlock(heap->roots_mutex);
}

/* ---- checking ---- */

/* A check on its way through the catalog. */
struct root_check {
    evh_heap *heap;
    evh_report *report;
    void *context;
    evh_status first; /* the first finding's; EVH_OK so far */
    bool is_stopped;  /* the report wants no more */
    uint64_t root_count;
};

/* Report one finding at an address in the heap. */
static void roots_finding(struct root_check *check, const void *at, const char *what)
{
    assert(check != NULL);
    assert(at != NULL);
    assert(what != NULL);
    const uint64_t offset = evh_ref_to(check->heap, at).offset;
    if (check->is_stopped) return;
    check->is_stopped = !heap_finding(check->report, check->context, &check->first, offset, "root",
                                      "%s: %s", heap_path(check->heap), what);
}

/* Report what a function of this file has just refused. */
static void roots_finding_error(struct root_check *check)
{
    assert(check != NULL);
    const evh_error why = *evh_last_error();
    assert(why.status != EVH_OK);
    if (check->is_stopped) return;
    check->is_stopped = !heap_finding(check->report, check->context, &check->first, why.offset,
                                      "root", "%s", why.message);
}

/* An entry that is a root: its name, its hash, its place, its block. */
static void roots_check_root(struct root_check *check, const struct heap_catalog *catalog,
                             const struct heap_root *entry)
{
    assert(catalog != NULL);
    assert(entry->hash >= ROOT_FIRST_HASH);
    size_t size = 0;
    while (size <= EVH_NAME_SIZE_MAX && entry->name[size]) size++;
    if (size > EVH_NAME_SIZE_MAX || !heap_is_zero(entry->name + size, sizeof entry->name - size)) {
        roots_finding(check, entry, "root: its name does not end");
        return;
    }
    const char *name = size ? entry->name : NULL;
    const uint64_t hash = roots_hash(name, size, name ? 0 : entry->tag);
    const struct root_key key = {name, entry->tag, hash, size, 0};
    if (name && entry->tag) roots_finding(check, entry, "root: it has a name and a tag");
    if (entry->hash != key.hash) {
        roots_finding(check, entry, "root: its hash is not that of its name");
        return;
    }
    struct heap_root *found = NULL;
    if (roots_find(check->heap, catalog, &key, &found)) return; /* the chunk's own finding */
    if (found != entry) roots_finding(check, entry, "root: a lookup does not find it, or a twin");
    void *block = NULL;
    if (roots_resolve(check->heap, entry, &block)) roots_finding_error(check);
    check->root_count++;
}

static void roots_check_chunk(struct root_check *check, const struct heap_catalog *catalog,
                              unsigned chunk, const struct heap_root *entries)
{
    assert(entries != NULL);
    assert(chunk < HEAP_ROOT_CHUNKS);
    uint64_t filled = 0;
    for (uint64_t i = 0; i < roots_chunk_entries(chunk) && !check->is_stopped; i++) {
        const struct heap_root *entry = &entries[i];
        filled += entry->hash != ROOT_NEVER;
        if (entry->hash >= ROOT_FIRST_HASH)
            roots_check_root(check, catalog, entry);
        else if (!heap_is_zero((const char *)entry + sizeof entry->hash,
                               sizeof *entry - sizeof entry->hash))
            roots_finding(check, entry, "root: an entry that is not in use is not zero");
    }
    if (filled != catalog->root_filled[chunk])
        roots_finding(check, &catalog->root_filled[chunk], "catalog: a chunk's count is wrong");
}

static void roots_check_chunks(struct root_check *check, const struct heap_catalog *catalog)
{
    assert(check->root_count == 0);
    assert(catalog != NULL);
    bool is_ended = false;
    for (unsigned chunk = 0; chunk < HEAP_ROOT_CHUNKS && !check->is_stopped; chunk++) {
        struct heap_root *entries = NULL;
        if (roots_chunk(check->heap, catalog, chunk, &entries))
            roots_finding_error(check);
        else if (entries && is_ended)
            roots_finding(check, &catalog->root_chunks[chunk], "catalog: a chunk behind the last");
        else if (entries)
            roots_check_chunk(check, catalog, chunk, entries);
        else if (catalog->root_filled[chunk])
            roots_finding(check, &catalog->root_filled[chunk], "catalog: a count without a chunk");
        is_ended |= catalog->root_chunks[chunk].offset == 0;
    }
}

evh_status roots_check(evh_heap *heap, evh_report *report, void *context)
{
    assert(heap != NULL);
    if (roots_are_live(heap)) return live_roots_check(heap, report, context);
    assert(heap->roots_mutex != NULL);
    struct root_check check = {.heap = heap, .report = report, .context = context};
    struct heap_catalog *catalog = NULL;
    os->mutex_lock(heap->roots_mutex);
    if (roots_catalog(heap, &catalog)) roots_finding_error(&check);
    if (catalog) {
        if (!heap_is_zero(catalog->reserved, sizeof catalog->reserved) || catalog->types.offset ||
            catalog->symbols.offset)
            roots_finding(&check, catalog, "catalog: a reserved field is not zero");
        roots_check_chunks(&check, catalog);
        if (!check.is_stopped && check.root_count != catalog->root_count)
            roots_finding(&check, &catalog->root_count, "catalog: the number of roots is wrong");
    }
    os->mutex_unlock(heap->roots_mutex);
    assert(!check.is_stopped || check.first);
    return check.first;
}
