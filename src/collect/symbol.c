/* symbol.c -- interned strings: a number for each, found by hash; the string found by number.
 *
 * Entries lie in chunks of 64, 128, 256, ... that never move, so that a number leads to its entry
 * by one shift, growth copies nothing, and a change of one symbol dirties one page of entries. Free
 * numbers are linked through their entries. Invariants:
 *
 *  1. An entry whose text is not 0 has an item in the index, under the hash of its text, and a
 *     reference count of 1 or more (exactly 1 in a table that keeps).
 *  2. index.count + the number of free entries = filled.
 */
#include "collect/hash_table.h"

enum { SYMBOL_FIRST = 1 << SYMBOL_CHUNK_BITS };

/* ---- entries ---- */

/* The table's head; NULL for an empty or damaged one. */
static struct collect_symbols *symbols_head(const evh_heap *heap, const evh_symbols *symbols)
{
    if (!symbols || symbols->offset == 0) return NULL;
    struct collect_symbols *const head =
        collect_find(heap, symbols->offset, sizeof *head, COLLECT_WORD(COLLECT_SYMBOLS, 1));
    if (!head || head->index.item_size == sizeof(struct collect_symbol_item)) return head;
    (void)collect_corrupt(symbols->offset, "a table of symbols with items of another size");
    return NULL;
}

/* Where the entry of number `symbol` is: the chunk, and in it. */
static uint32_t symbol_chunk(evh_symbol symbol, uint64_t *index)
{
    assert(symbol != 0);
    const uint64_t place = (uint64_t)symbol - 1 + SYMBOL_FIRST;
    const uint32_t chunk = base_highest_bit(place) - SYMBOL_CHUNK_BITS;
    *index = place - ((uint64_t)SYMBOL_FIRST << chunk);
    assert(*index < (uint64_t)SYMBOL_FIRST << chunk);
    return chunk;
}

static uint64_t symbol_chunk_bytes(uint32_t chunk)
{
    assert(chunk < SYMBOL_CHUNKS + 1);
    return ((uint64_t)SYMBOL_FIRST << chunk) * sizeof(struct collect_symbol);
}

/* The entry of a number that was given, live or free; NULL if it was not, or the table is
 * damaged. */
static struct collect_symbol *symbol_entry(const evh_heap *heap, const struct collect_symbols *head,
                                           evh_symbol symbol)
{
    uint64_t index;
    if (symbol == 0 || symbol > head->filled) return NULL;
    const uint32_t chunk = symbol_chunk(symbol, &index);
    if (UNLIKELY(chunk >= SYMBOL_CHUNKS)) return NULL;
    struct collect_symbol *const entries =
        collect_at(heap, head->chunks[chunk], symbol_chunk_bytes(chunk));
    return entries ? entries + index : NULL;
}

/* The number of the string with this hash, and the control byte of its item in the index; 0 if it
 * is not there. */
static evh_symbol symbol_look_up(const evh_heap *heap, const struct collect_symbols *head,
                                 uint64_t hash, const void *bytes, size_t size,
                                 unsigned char **control)
{
    struct hash_probe probe = hash_probe_begin(heap, &head->index, hash);
    if (!probe.groups) return 0;
    for (struct collect_symbol_item *item; (item = hash_probe_next(&probe));) {
        if (item->hash != hash) continue;
        const struct collect_symbol *const entry = symbol_entry(heap, head, item->symbol);
        if (!entry || !collect_text_is(heap, entry->text, bytes, size)) continue;
        *control = hash_probe_control(&probe);
        return item->symbol;
    }
    return 0;
}

/* ---- making ---- */

evh_status evh_symbols_create(evh_heap *heap, evh_symbols *symbols, uint32_t flags)
{
    const evh_status status = collect_writable(heap, symbols);
    if (status) return status;
    if (symbols->offset)
        return base_fail(EVH_EXISTS, NO_OFFSET, "a table of symbols is there already");
    if (flags & ~(uint32_t)EVH_SYMBOLS_KEEP)
        return base_fail(EVH_INVALID, NO_OFFSET, "unknown flags of symbols: %#x", flags);
    struct collect_symbols *const head = evh_calloc(heap, 1, sizeof *head);
    if (!head) return collect_failed();
    head->word = COLLECT_WORD(COLLECT_SYMBOLS, 1);
    head->flags = flags;
    hash_table_begin(&head->index, sizeof(struct collect_symbol_item), false);
    symbols->offset = collect_offset(heap, head);
    return EVH_OK;
}

/* The head for a change: made if there is none, its block looked up. */
static struct collect_symbols *symbols_change(evh_heap *heap, evh_symbols *symbols)
{
    if (collect_writable(heap, symbols)) return NULL;
    if (symbols->offset == 0 && evh_symbols_create(heap, symbols, 0)) return NULL;
    struct collect_symbols *const head = symbols_head(heap, symbols);
    return head && !collect_check_block(heap, symbols->offset, sizeof *head) ? head : NULL;
}

/* A number for a new symbol: not taken yet. 0 on failure. */
static evh_symbol symbol_new_number(evh_heap *heap, struct collect_symbols *head)
{
    if (head->free != 0) {
        const struct collect_symbol *const entry = symbol_entry(heap, head, head->free);
        if (entry && entry->text == 0) return head->free;
        (void)collect_corrupt(collect_offset(heap, head), "a free symbol that is none");
        return 0;
    }
    uint64_t index;
    const uint64_t number = (uint64_t)head->filled + 1;
    const uint32_t chunk =
        number <= UINT32_MAX ? symbol_chunk((evh_symbol)number, &index) : SYMBOL_CHUNKS;
    if (chunk >= SYMBOL_CHUNKS) {
        (void)base_fail(EVH_LIMIT, NO_OFFSET, "a table of symbols is full");
        return 0;
    }
    if (head->chunks[chunk] == 0) { /* it stays if what follows fails */
        const void *const entries = evh_malloc(heap, symbol_chunk_bytes(chunk));
        if (!entries) return 0;
        head->chunks[chunk] = collect_offset(heap, entries);
    }
    return (evh_symbol)number;
}

/* Take a number for the text, whose item is in the index. */
static void symbol_take(struct collect_symbols *head, struct collect_symbol *entry,
                        evh_symbol symbol, uint64_t text)
{
    assert(text != 0);
    if (symbol == head->free)
        head->free = entry->references;
    else
        head->filled = symbol;
    *entry = (struct collect_symbol){.text = text, .references = 1};
}

static evh_symbol symbol_make(evh_heap *heap, struct collect_symbols *head, uint64_t hash,
                              const void *bytes, size_t size)
{
    const evh_symbol symbol = symbol_new_number(heap, head);
    if (symbol == 0) return 0;
    uint64_t index;
    const uint32_t chunk = symbol_chunk(symbol, &index);
    const uint64_t entries = head->chunks[chunk];
    if (collect_check_block(heap, entries, symbol_chunk_bytes(chunk))) return 0;
    struct collect_symbol *const entry =
        (struct collect_symbol *)(void *)(heap->view.base + entries) + index;
    const uint64_t text = collect_new_text(heap, bytes, size);
    if (text == 0) return 0;
    struct collect_symbol_item *const item = hash_table_add(heap, &head->index, hash);
    if (!item) {
        evh_free(heap, heap->view.base + text);
        return 0;
    }
    *item = (struct collect_symbol_item){.hash = hash, .symbol = symbol};
    symbol_take(head, entry, symbol, text);
    return symbol;
}

evh_symbol evh_symbol_intern(evh_heap *heap, evh_symbols *symbols, const void *bytes, size_t size)
{
    if (!bytes && size > 0) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "no bytes for a symbol: they are null");
        return 0;
    }
    struct collect_symbols *const head = symbols_change(heap, symbols);
    if (!head) return 0;
    unsigned char *control;
    const uint64_t hash = collect_hash_bytes(head->index.key, bytes, size);
    const evh_symbol symbol = symbol_look_up(heap, head, hash, bytes, size, &control);
    if (symbol == 0) return symbol_make(heap, head, hash, bytes, size);
    if (head->flags & EVH_SYMBOLS_KEEP) return symbol;
    return evh_symbol_retain(heap, symbols, symbol) ? 0 : symbol;
}

/* ---- references ---- */

/* The entry of a live symbol, for a change; NULL and EVH_NOT_FOUND otherwise. */
static struct collect_symbol *symbol_change(evh_heap *heap, evh_symbols *symbols, evh_symbol symbol,
                                            struct collect_symbols **head)
{
    if (collect_writable(heap, symbols)) return NULL;
    *head = symbols_head(heap, symbols);
    struct collect_symbol *const entry = *head ? symbol_entry(heap, *head, symbol) : NULL;
    if (entry && entry->text != 0) return entry;
    (void)base_fail(EVH_NOT_FOUND, NO_OFFSET, "there is no symbol %u", symbol);
    return NULL;
}

evh_status evh_symbol_retain(evh_heap *heap, evh_symbols *symbols, evh_symbol symbol)
{
    struct collect_symbols *head;
    struct collect_symbol *const entry = symbol_change(heap, symbols, symbol, &head);
    if (!entry) return collect_failed();
    if (head->flags & EVH_SYMBOLS_KEEP) return EVH_OK;
    if (entry->references == UINT32_MAX)
        return base_fail(EVH_LIMIT, NO_OFFSET, "symbol %u has too many references", symbol);
    entry->references++;
    return EVH_OK;
}

evh_status collect_symbol_retain(evh_heap *heap, evh_symbols *symbols, evh_symbol symbol,
                                 uint32_t count)
{
    struct collect_symbols *head;
    struct collect_symbol *const entry = symbol_change(heap, symbols, symbol, &head);
    if (!entry) return collect_failed();
    if (head->flags & EVH_SYMBOLS_KEEP) return EVH_OK;
    if (entry->references > UINT32_MAX - count)
        return base_fail(EVH_LIMIT, NO_OFFSET, "symbol %u has too many references", symbol);
    entry->references += count;
    return EVH_OK;
}

/* Free a symbol that nobody references. */
static evh_status symbol_end(evh_heap *heap, struct collect_symbols *head,
                             struct collect_symbol *entry, evh_symbol symbol)
{
    size_t size;
    const char *const text = collect_text(heap, entry->text, &size);
    if (!text || collect_block_bytes(heap, entry->text) == 0) return EVH_CORRUPT;
    unsigned char *control;
    const uint64_t hash = collect_hash_bytes(head->index.key, text, size);
    if (symbol_look_up(heap, head, hash, text, size, &control) != symbol)
        return collect_corrupt(collect_offset(heap, entry), "a symbol that its index lacks");
    const evh_status status = hash_table_remove(heap, &head->index, hash, control);
    if (status) return status;
    const uint64_t freed = entry->text;
    *entry = (struct collect_symbol){.references = head->free};
    head->free = symbol;
    return collect_free(heap, freed);
}

evh_status evh_symbol_release(evh_heap *heap, evh_symbols *symbols, evh_symbol symbol)
{
    struct collect_symbols *head;
    struct collect_symbol *const entry = symbol_change(heap, symbols, symbol, &head);
    if (!entry) return collect_failed();
    if (head->flags & EVH_SYMBOLS_KEEP) return EVH_OK;
    if (entry->references > 1) {
        entry->references--;
        return EVH_OK;
    }
    return symbol_end(heap, head, entry, symbol);
}

/* ---- asking ---- */

evh_symbol evh_symbol_find(const evh_heap *heap, const evh_symbols *symbols, const void *bytes,
                           size_t size)
{
    unsigned char *control;
    const struct collect_symbols *const head = symbols_head(heap, symbols);
    if (!head || (!bytes && size > 0)) return 0;
    const uint64_t hash = collect_hash_bytes(head->index.key, bytes, size);
    return symbol_look_up(heap, head, hash, bytes, size, &control);
}

const char *evh_symbol_text(const evh_heap *heap, const evh_symbols *symbols, evh_symbol symbol,
                            size_t *size)
{
    size_t text_size = 0;
    const struct collect_symbols *const head = symbols_head(heap, symbols);
    const struct collect_symbol *const entry = head ? symbol_entry(heap, head, symbol) : NULL;
    const char *text = NULL;
    if (entry && entry->text) text = collect_text(heap, entry->text, &text_size);
    if (size) *size = text_size;
    return text;
}

uint32_t evh_symbol_references(const evh_heap *heap, const evh_symbols *symbols, evh_symbol symbol)
{
    const struct collect_symbols *const head = symbols_head(heap, symbols);
    const struct collect_symbol *const entry = head ? symbol_entry(heap, head, symbol) : NULL;
    return entry && entry->text ? entry->references : 0;
}

uint64_t evh_symbols_count(const evh_heap *heap, const evh_symbols *symbols)
{
    const struct collect_symbols *const head = symbols_head(heap, symbols);
    return head ? head->index.count : 0;
}

evh_symbol evh_symbol_next(const evh_heap *heap, const evh_symbols *symbols, evh_symbol after,
                           evh_match match, const void *part, size_t size)
{
    const struct collect_symbols *const head = symbols_head(heap, symbols);
    if (!head || (!part && size > 0)) return 0;
    for (uint64_t symbol = (uint64_t)after + 1; symbol <= head->filled; symbol++) {
        const struct collect_symbol *const entry = symbol_entry(heap, head, (evh_symbol)symbol);
        if (!entry) return 0;
        if (entry->text == 0) continue;
        if (size == 0) return (evh_symbol)symbol;
        size_t text_size;
        const char *const text = collect_text(heap, entry->text, &text_size);
        if (!text) return 0;
        const bool is_found = match == EVH_MATCH_PREFIX
                                  ? text_size >= size && memcmp(text, part, size) == 0
                                  : collect_search(text, text_size, part, size) != NULL;
        if (is_found) return (evh_symbol)symbol;
    }
    return 0;
}

/* ---- ending and checking ---- */

evh_status evh_symbols_clear(evh_heap *heap, evh_symbols *symbols)
{
    evh_status status = collect_writable(heap, symbols);
    if (status || symbols->offset == 0) return status;
    struct collect_symbols *const head = symbols_head(heap, symbols);
    if (!head || collect_check_block(heap, symbols->offset, sizeof *head)) {
        symbols->offset = 0;
        return EVH_CORRUPT;
    }
    for (uint64_t symbol = 1; symbol <= head->filled; symbol++) {
        const struct collect_symbol *const entry = symbol_entry(heap, head, (evh_symbol)symbol);
        if (!entry) status = EVH_CORRUPT;
        if (!entry) break;
        if (collect_free(heap, entry->text)) status = EVH_CORRUPT;
    }
    for (uint32_t i = 0; i < SYMBOL_CHUNKS; i++)
        if (collect_free(heap, head->chunks[i])) status = EVH_CORRUPT;
    if (hash_table_clear(heap, &head->index)) status = EVH_CORRUPT;
    if (collect_free(heap, symbols->offset)) status = EVH_CORRUPT;
    symbols->offset = 0;
    return status;
}

/* An item of the index names a live symbol whose text has the item's hash. */
static evh_status symbol_check_item(evh_heap *heap, const void *item, void *context)
{
    const struct collect_symbols *const head = context;
    const struct collect_symbol_item *const given = item;
    const uint64_t offset = collect_offset(heap, item);
    const struct collect_symbol *const entry = symbol_entry(heap, head, given->symbol);
    if (!entry || entry->text == 0 || given->reserved != 0)
        return collect_corrupt(offset, "an item of the index names no symbol");
    if (collect_check_text(heap, entry->text)) return EVH_CORRUPT;
    size_t size = 0;
    const char *const text = collect_text(heap, entry->text, &size);
    unsigned char *control;
    if (!text || collect_hash_bytes(head->index.key, text, size) != given->hash ||
        symbol_look_up(heap, head, given->hash, text, size, &control) != given->symbol)
        return collect_corrupt(offset, "a symbol is not found under its text");
    return EVH_OK;
}

/* The entries: as many live ones as the index has, the free ones linked. */
static evh_status symbol_check_entries(evh_heap *heap, const struct collect_symbols *head,
                                       uint64_t offset)
{
    uint64_t live_count = 0, free_count = 0;
    for (uint64_t symbol = 1; symbol <= head->filled; symbol++) {
        const struct collect_symbol *const entry = symbol_entry(heap, head, (evh_symbol)symbol);
        if (!entry) return EVH_CORRUPT;
        live_count += entry->text != 0;
        if (entry->reserved || (entry->text && entry->references == 0))
            return collect_corrupt(collect_offset(heap, entry), "a symbol's entry is not one");
    }
    for (evh_symbol symbol = head->free; symbol; free_count++) {
        const struct collect_symbol *const entry = symbol_entry(heap, head, symbol);
        if (!entry || entry->text || free_count > head->filled)
            return collect_corrupt(offset, "the free symbols are not linked");
        symbol = entry->references;
    }
    if (live_count != head->index.count || live_count + free_count != head->filled)
        return collect_corrupt(offset, "a table of symbols counts wrongly");
    return EVH_OK;
}

evh_status evh_symbols_check(evh_heap *heap, const evh_symbols *symbols)
{
    if (!heap || !symbols) return base_fail(EVH_INVALID, NO_OFFSET, "no symbols: they are null");
    if (symbols->offset == 0) return EVH_OK;
    struct collect_symbols *const head = symbols_head(heap, symbols);
    if (!head || collect_check_block(heap, symbols->offset, sizeof *head)) return EVH_CORRUPT;
    if (head->flags & ~(uint32_t)EVH_SYMBOLS_KEEP || head->index.is_number)
        return collect_corrupt(symbols->offset, "a table of symbols with unknown flags");
    for (uint32_t i = 0; i < SYMBOL_CHUNKS; i++)
        if (head->chunks[i] && collect_check_block(heap, head->chunks[i], symbol_chunk_bytes(i)))
            return EVH_CORRUPT;
    const evh_status status = symbol_check_entries(heap, head, symbols->offset);
    if (status) return status;
    return hash_table_check(heap, &head->index, symbols->offset, symbol_check_item, head);
}
