/* search.c -- keys and strings that contain something.
 *
 * Strings lie in slabs of their own, so that a slab is searched as one piece of text; where that
 * finds something, the entries are walked up to it, and what lies in no live string does not
 * count. Where there is an index (json/trigrams.c) slabs that it excludes are left out. The
 * string's owner leads to its value. Keys are symbols: those that match are marked, and
 * if there are any all objects are looked through for them.
 */
#include "db/db.h"
#include "os/os.h"

struct search {
    struct evh_json *json;
    struct db_pattern pattern;
    evh_db_search_options options;
    evh_db_found *found;
    void *context;
    bool counts;      /* to the end */
    bool is_stopped;  /* nothing more is told */
    bool has_outside; /* there are values outside the document, which are no hits */
    uint64_t hits;
    evh_status status;
};

/* Whether a container is in the document. */
static bool search_is_inside(const struct search *search, uint32_t number)
{
    const struct evh_json *json = search->json;
    return !search->has_outside || container_is_inside(json, number, json->root->document);
}

static bool search_goes_on(const struct search *search)
{
    return !search->status && (search->counts || !search->is_stopped);
}

/* Count a hit. Returns whether it is to be told. */
static bool search_count(struct search *search)
{
    if (search->is_stopped) assert(search->counts);
    const uint64_t index = search->hits++;
    if (search->is_stopped || index < search->options.skip) return false;
    return true;
}

static void search_tell(struct search *search, const evh_db_hit *hit)
{
    assert(hit->text != NULL);
    assert(!search->is_stopped);
    const evh_db_search_options *options = &search->options;
    if (search->found && !search->found(hit, search->context)) search->is_stopped = true;
    if (options->limit && search->hits - options->skip >= options->limit) search->is_stopped = true;
}

/* ---- strings ---- */

/* The string whose bytes are at `offset` is a hit. */
static void search_hit_text(struct search *search, uint32_t owner, uint64_t offset,
                            const char *text, size_t size)
{
    assert(text != NULL);
    assert(offset % 8 == 0);
    struct evh_json *json = search->json;
    if (!search_is_inside(search, owner) || !search_count(search)) return;
    const struct json_container *container = container_peek(json, owner);
    uint32_t position = 0;
    if (container && container_seek(json, container, owner, 1u << JSON_STRING, offset, &position)) {
        const evh_value value = {owner, container->serial, position};
        search_tell(search, &(evh_db_hit){EVH_DB_VALUE, value, text, size});
        return;
    }
    search->status = json_corrupt(offset, "a string that its container does not have");
}

/* Search the entries of one slab, which is at `offset`. NULL: there is none, which is reported. */
static void search_slab(struct search *search, uint64_t offset, const struct json_text_slab *found)
{
    assert(!search->status);
    if (found) assert(offset % JSON_SLAB_BYTES == 0);
    if (!found) {
        search->status = EVH_CORRUPT;
        return;
    }
    const char *slab = (const char *)found;
    const struct db_pattern *pattern = &search->pattern;
    size_t at = sizeof(struct json_text_slab); /* the entry that the walk is at */
    const char *hit = slab + at;
    while (search_goes_on(search) && at < JSON_SLAB_BYTES) {
        if (pattern->size) {
            hit = db_pattern_find(pattern, hit, (size_t)(slab + JSON_SLAB_BYTES - hit));
            if (!hit) return;
        }
        const struct json_text *entry = NULL;
        size_t end = at;
        do {
            at = end;
            if (at >= JSON_SLAB_BYTES) return;
            entry = (const void *)(slab + at);
            end = at + 8ull * entry->units;
            if (entry->units == 0 || end > JSON_SLAB_BYTES) {
                search->status = json_corrupt(offset + at, "a slab of strings that is not full");
                return;
            }
        } while ((size_t)(hit - slab) >= end);
        const char *text = slab + at + sizeof *entry;
        const bool is_live =
            entry->size != JSON_TEXT_FREE && sizeof *entry + entry->size < end - at;
        if (is_live && hit < text && pattern->size) { /* it begins in the header */
            hit = text;
            continue;
        }
        const bool is_hit = is_live && hit + pattern->size <= text + entry->size;
        if (is_hit || !pattern->size) {
            if (is_live)
                search_hit_text(search, entry->owner, offset + (uint64_t)(text - slab), text,
                                entry->size);
            at = end;
            hit = slab + end;
        } else {
            /* In a free entry, or reaching beyond the string: nothing more in this one. */
            hit = slab + end;
        }
    }
}

static void search_large(struct search *search)
{
    struct evh_json *json = search->json;
    uint64_t offset = json->root->texts.first_large;
    const uint64_t limit = heap_end_bytes(json->heap) / JSON_TEXT_SMALL_MAX;
    for (uint64_t i = 0; offset && i < limit && search_goes_on(search); i++) {
        const struct json_large_text *large = json_at(json, offset, sizeof *large);
        const struct json_slot slot = {
            .type = JSON_STRING, .flags = JSON_TEXT_IS_LARGE, .payload = offset + sizeof *large};
        uint64_t size = 0;
        const char *text = large ? text_of(json, &slot, &size) : NULL;
        if (!text) {
            search->status = json_corrupt(offset, "a string that is none");
            return;
        }
        if (!search->pattern.size || db_pattern_find(&search->pattern, text, size))
            search_hit_text(search, large->owner, slot.payload, text, size);
        offset = large->next;
    }
}

/* The slabs that the index does not exclude. */
static void search_index(struct search *search)
{
    assert(trigrams_is_on(search->json));
    assert(search->pattern.size >= JSON_INDEX_PART_MIN);
    struct evh_json *json = search->json;
    const struct db_pattern *pattern = &search->pattern;
    for (uint32_t i = 0; i < json->root->index.group_count && search_goes_on(search); i++) {
        uint64_t bits = 0;
        const uint64_t *slabs = NULL;
        if (!trigrams_select(json, i, pattern->bytes, pattern->size, &bits, &slabs)) {
            search->status = json_corrupt(json->root->index.groups, "an index that is none");
            return;
        }
        for (; bits && search_goes_on(search); bits &= bits - 1) {
            const uint64_t offset = slabs[base_lowest_bit(bits)];
            search_slab(search, offset, text_slab_at(json, offset));
        }
    }
}

static void search_texts(struct search *search)
{
    assert(search->status == EVH_OK);
    const struct evh_json *json = search->json;
    const struct json_texts *texts = &json->root->texts;
    if (trigrams_is_on(json) && search->pattern.size >= JSON_INDEX_PART_MIN) {
        search_index(search);
    } else {
        const uint64_t limit = text_slab_limit(json);
        uint64_t offset = texts->first_slab;
        for (uint64_t i = 0; offset && i < limit && search_goes_on(search); i++) {
            const struct json_text_slab *slab = text_slab_at(json, offset);
            search_slab(search, offset, slab);
            offset = slab ? slab->next : 0;
        }
    }
    search_large(search);
}

/* ---- keys ---- */

/* Bits of the symbols that match, owned; NULL if none does, or on failure. */
static uint64_t *search_symbols(struct search *search, evh_symbol *highest)
{
    assert(highest != NULL);
    struct evh_json *json = search->json;
    const evh_symbols keys = {json->root->keys};
    uint64_t *bits = NULL;
    size_t words = 0;
    for (evh_symbol symbol = 0; keys.offset;) {
        symbol = evh_symbol_next(json->heap, &keys, symbol, EVH_MATCH_SUBSTRING, NULL, 0);
        if (!symbol) break;
        size_t size = 0;
        const char *text = evh_symbol_text(json->heap, &keys, symbol, &size);
        if (!text || (search->pattern.size && !db_pattern_find(&search->pattern, text, size)))
            continue;
        if (symbol / 64 >= words) {
            const size_t wanted = base_max(symbol / 64 + 1, 2 * words);
            uint64_t *grown = os->memory_resize(bits, wanted * sizeof *bits);
            if (!grown) {
                os->memory_free(bits);
                search->status = base_fail(EVH_NO_MEMORY, NO_OFFSET, "db: no memory to search");
                return NULL;
            }
            memset(grown + words, 0, (wanted - words) * sizeof *bits);
            bits = grown;
            words = wanted;
        }
        bits[symbol / 64] |= 1ull << symbol % 64;
        *highest = symbol;
    }
    return bits;
}

static void search_object(struct search *search, uint32_t number,
                          const struct json_container *object, const uint64_t *bits,
                          evh_symbol highest)
{
    assert(bits != NULL);
    assert(object->kind == JSON_KIND_OBJECT);
    struct evh_json *json = search->json;
    const evh_symbols keys = {json->root->keys};
    struct json_span span;
    bool is_known = false; /* to be in the document */
    for (uint32_t done = 0; search_goes_on(search) && container_span(json, object, done, &span);
         done += span.count) {
        for (uint32_t i = 0; i < span.count && search_goes_on(search); i++) {
            const uint32_t key = span.keys[i];
            if (key > highest || !(bits[key / 64] >> key % 64 & 1)) continue;
            if (!is_known && !search_is_inside(search, number)) return;
            is_known = true;
            if (!search_count(search)) continue;
            evh_db_hit hit = {.kind = EVH_DB_KEY};
            hit.value = value_of(json, number, done + i, span.slots + i);
            hit.text = evh_symbol_text(json->heap, &keys, key, &hit.size);
            search_tell(search, &hit);
        }
    }
}

static void search_keys(struct search *search)
{
    assert(search->status == EVH_OK);
    struct evh_json *json = search->json;
    evh_symbol highest = 0;
    uint64_t *bits = search_symbols(search, &highest);
    const uint32_t end = bits ? json->root->containers.fresh : 0;
    for (uint32_t number = 1; number < end && search_goes_on(search); number++) {
        const struct json_container *container = container_peek(json, number);
        if (container && container->kind == JSON_KIND_OBJECT)
            search_object(search, number, container, bits, highest);
    }
    os->memory_free(bits);
}

evh_status evh_db_set_index(evh_db *db, bool on)
{
    if (!db) return base_fail(EVH_INVALID, NO_OFFSET, "db: no database");
    const evh_status status = json_writable(db->json);
    if (status) return status;
    if (on) return trigrams_make(db->json);
    return trigrams_is_on(db->json) ? trigrams_drop(db->json) : EVH_OK;
}

bool evh_db_has_index(evh_db *db)
{
    return db && !json_ready(db->json) && trigrams_is_on(db->json);
}

evh_status evh_db_search(evh_db *db, const char *part, size_t size,
                         const evh_db_search_options *options, evh_db_found *found, void *context,
                         uint64_t *total)
{
    if (!db || (!part && size) || (!found && !total))
        return base_fail(EVH_INVALID, NO_OFFSET, "db: nothing to search for, or nobody to tell");
    evh_status status = json_ready(db->json);
    if (status) return status;
    struct search search = {.json = db->json,
                            .found = found,
                            .context = context,
                            .counts = total != NULL,
                            .is_stopped = !found};
    if (options) search.options = *options;
    const uint32_t kinds = search.options.kinds ? search.options.kinds : EVH_DB_KEY | EVH_DB_VALUE;
    const struct json_root *root = db->json->root;
    const uint64_t inside = root->counts[JSON_ARRAY] + root->counts[JSON_OBJECT] + 1;
    search.has_outside = root->containers.used_count != inside;
    status = db_pattern_begin(&search.pattern, part, size, search.options.ignore_case);
    if (status) return status;
    if (kinds & EVH_DB_KEY) search_keys(&search);
    if (kinds & EVH_DB_VALUE && search_goes_on(&search)) search_texts(&search);
    db_pattern_end(&search.pattern);
    if (total) *total = search.hits;
    return search.status;
}
