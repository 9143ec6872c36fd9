/* trigrams.c -- an index that tells which slabs of strings need not be searched.
 *
 * A string that contains a part contains every three bytes in a row of that part. Of each such
 * three, letters folded, 16 bits of a hash are taken; and for each of these 65536 hashes and each
 * slab there is a bit that says whether they occur in a string there. The bits of 64 slabs, a
 * group, lie in one word: a search reads as many words as its part has bytes, for every 4 MiB of
 * strings, and then the slabs whose bits were set in all of them. That is 128 bits for each KiB of
 * strings, an eighth more, and a slab whose strings are all different sets a quarter of its bits.
 * (Bits by hash instead of by document: "BitFunnel", B. Goodwin and others, 2017; trigrams: R. Cox,
 * "Regular Expression Matching with a Trigram Index", 2012.)
 *
 * Writing a string sets bits and never clears one, so what is erased or replaced leaves its bits: a
 * bit may be set for nothing, and costs the reading of a slab. When twice a slab's size of strings
 * has been written into it, its bits are made anew; likewise when its number is given to another.
 *
 * Strings that are blocks of their own are not in here: they are few, and are always searched.
 */
#include "json/json.h"

enum { INDEX_WORDS_BYTES = JSON_INDEX_HASHES * 8 };

/* The lower case of the letters A to Z. */
static inline uint32_t trigrams_fold(unsigned char byte)
{
    return (uint32_t)byte - 'A' < 26 ? byte | 0x20u : byte;
}

/* 16 bits of three folded bytes. */
static inline uint32_t trigrams_hash(uint32_t trigram)
{
    assert(trigram <= 0xffffff);
    return (trigram * 0x9e3779b1u) >> 16;
}

static struct json_index_group *trigrams_group_at(const struct evh_json *json, uint32_t group)
{
    const struct json_index *index = &json->root->index;
    if (group >= index->group_count || index->group_count > index->group_capacity) return NULL;
    struct json_index_group *groups =
        json_at(json, index->groups, (uint64_t)index->group_capacity * sizeof *groups);
    return groups ? groups + group : NULL;
}

static uint64_t *trigrams_words(const struct evh_json *json, const struct json_index_group *group)
{
    return json_at(json, group->words, INDEX_WORDS_BYTES);
}

/* The words that tell of a slab, and its bit there; NULL if it is in no index. */
static uint64_t *trigrams_words_of(const struct evh_json *json, const struct json_text_slab *slab,
                                   uint64_t *bit)
{
    assert(bit != NULL);
    if (slab->index_number == 0) return NULL;
    const uint32_t number = slab->index_number - 1;
    const struct json_index_group *group = trigrams_group_at(json, number / JSON_INDEX_SLABS);
    *bit = 1ull << number % JSON_INDEX_SLABS;
    return group ? trigrams_words(json, group) : NULL;
}

/* ---- bits ---- */

static void trigrams_set(uint64_t *words, uint64_t bit, const char *text, size_t size)
{
    assert(bit != 0);
    assert((bit & (bit - 1)) == 0);
    const unsigned char *bytes = (const unsigned char *)text;
    if (size < JSON_INDEX_PART_MIN) return;
    uint32_t trigram = trigrams_fold(bytes[0]) << 8 | trigrams_fold(bytes[1]);
    for (size_t i = 2; i < size; i++) {
        trigram = (trigram << 8 | trigrams_fold(bytes[i])) & 0xffffff;
        uint64_t *word = words + trigrams_hash(trigram);
        if (!(*word & bit)) *word |= bit; /* a page that is only read stays clean */
    }
}

/* The words of all trigrams of a part, taken together. */
static uint64_t trigrams_all(const uint64_t *words, const void *part, size_t size)
{
    const unsigned char *bytes = part;
    assert(size >= JSON_INDEX_PART_MIN);
    uint64_t all = UINT64_MAX;
    uint32_t trigram = trigrams_fold(bytes[0]) << 8 | trigrams_fold(bytes[1]);
    for (size_t i = 2; i < size && all; i++) {
        trigram = (trigram << 8 | trigrams_fold(bytes[i])) & 0xffffff;
        all &= words[trigrams_hash(trigram)];
    }
    return all;
}

static void trigrams_clear(uint64_t *words, uint64_t bit)
{
    assert(bit != 0);
    assert((bit & (bit - 1)) == 0);
    for (size_t i = 0; i < JSON_INDEX_HASHES; i++)
        if (words[i] & bit) words[i] &= ~bit;
}

/* Set the bits of every string in a slab. */
static void trigrams_fill(uint64_t *words, uint64_t bit, struct json_text_slab *slab)
{
    assert(bit != 0);
    slab->indexed_bytes = 0;
    for (uint32_t at = sizeof *slab; at < JSON_SLAB_BYTES;) {
        const struct json_text *entry = (const void *)((const char *)slab + at);
        const uint32_t bytes = 8u * entry->units;
        if (bytes == 0 || bytes > JSON_SLAB_BYTES - at) return; /* damage */
        if (entry->size != JSON_TEXT_FREE && sizeof *entry + entry->size < bytes) {
            trigrams_set(words, bit, (const char *)(entry + 1), entry->size);
            slab->indexed_bytes += entry->size;
        }
        at += bytes;
    }
}

void trigrams_add(struct evh_json *json, struct json_text_slab *slab, const char *text, size_t size)
{
    assert(trigrams_is_on(json));
    uint64_t bit = 0;
    uint64_t *words = trigrams_words_of(json, slab, &bit);
    if (!words) return;
    if (slab->indexed_bytes > JSON_INDEX_FULL) {
        trigrams_clear(words, bit);
        trigrams_fill(words, bit, slab);
    } else {
        trigrams_set(words, bit, text, size);
        slab->indexed_bytes += (uint32_t)size;
    }
}

/* ---- slabs that come and go ---- */

/* Make one more group. */
static evh_status trigrams_grow(struct evh_json *json)
{
    struct json_index *index = &json->root->index;
    void *address = NULL;
    if (index->group_count == index->group_capacity) {
        const uint32_t capacity = index->group_capacity ? 2 * index->group_capacity : 4;
        const uint64_t bytes = (uint64_t)capacity * sizeof(struct json_index_group);
        const uint64_t groups = json_allocate(json, bytes, &address);
        if (!groups) return evh_last_error()->status;
        const uint64_t old_bytes = (uint64_t)index->group_count * sizeof(struct json_index_group);
        const void *old = json_at(json, index->groups, old_bytes);
        if (old && old_bytes) memcpy(address, old, old_bytes);
        (void)json_free(json, index->groups);
        index->groups = groups;
        index->group_capacity = capacity;
    }
    const uint64_t words = json_allocate(json, INDEX_WORDS_BYTES, &address);
    if (!words) return evh_last_error()->status;
    memset(address, 0, INDEX_WORDS_BYTES);
    struct json_index_group *groups =
        json_at(json, index->groups, (uint64_t)index->group_capacity * sizeof *groups);
    if (!groups) return json_corrupt(index->groups, "an index that is none");
    groups[index->group_count++] = (struct json_index_group){.words = words};
    return EVH_OK;
}

evh_status trigrams_join(struct evh_json *json, struct json_text_slab *slab)
{
    struct json_index *index = &json->root->index;
    for (uint32_t tries = 0; tries < 2; tries++) {
        for (uint32_t i = 0; i < index->group_count; i++) {
            struct json_index_group *group = trigrams_group_at(json, i);
            if (!group) return json_corrupt(index->groups, "an index that is none");
            if (group->used == UINT64_MAX) continue;
            /* A number that leaves nothing to clear, if there is one. */
            const uint64_t clean = ~(group->used | group->stale);
            const uint32_t number = base_lowest_bit(clean ? clean : ~group->used);
            const uint64_t bit = 1ull << number;
            assert(!(group->used & bit));
            uint64_t *words = trigrams_words(json, group);
            if (!words) return json_corrupt(group->words, "an index that is none");
            if (group->stale & bit) trigrams_clear(words, bit);
            group->stale &= ~bit;
            group->used |= bit;
            group->slabs[number] = json_offset(json, slab);
            slab->index_number = i * JSON_INDEX_SLABS + number + 1;
            slab->indexed_bytes = 0;
            return EVH_OK;
        }
        const evh_status status = trigrams_grow(json);
        if (status) return status;
    }
    return json_corrupt(index->groups, "an index that is none");
}

void trigrams_leave(struct evh_json *json, struct json_text_slab *slab)
{
    if (slab->index_number == 0) return;
    const uint32_t number = slab->index_number - 1;
    struct json_index_group *group = trigrams_group_at(json, number / JSON_INDEX_SLABS);
    slab->index_number = 0;
    if (!group) return;
    group->used &= ~(1ull << number % JSON_INDEX_SLABS);
    group->stale |= 1ull << number % JSON_INDEX_SLABS;
    group->slabs[number % JSON_INDEX_SLABS] = 0;
}

/* ---- all of it ---- */

evh_status trigrams_make(struct evh_json *json)
{
    if (trigrams_is_on(json)) return EVH_OK;
    evh_status status = trigrams_grow(json);
    const uint64_t limit = text_slab_limit(json);
    uint64_t offset = json->root->texts.first_slab;
    for (uint64_t i = 0; !status && offset && i < limit; i++) {
        struct json_text_slab *slab = text_slab_at(json, offset);
        status = slab ? trigrams_join(json, slab) : EVH_CORRUPT;
        if (status) break;
        uint64_t bit = 0;
        uint64_t *words = trigrams_words_of(json, slab, &bit);
        if (words) trigrams_fill(words, bit, slab);
        offset = slab->next;
    }
    if (!status) return EVH_OK;
    const evh_error error = *evh_last_error();
    (void)trigrams_drop(json);
    return base_fail(error.status, error.offset, "%s", error.message);
}

evh_status trigrams_drop(struct evh_json *json)
{
    struct json_index *index = &json->root->index;
    uint64_t offset = json->root->texts.first_slab;
    const uint64_t limit = text_slab_limit(json);
    for (uint64_t i = 0; offset && i < limit; i++) {
        struct json_text_slab *slab = text_slab_at(json, offset);
        if (!slab) break;
        slab->index_number = 0;
        slab->indexed_bytes = 0;
        offset = slab->next;
    }
    evh_status status = EVH_OK;
    for (uint32_t i = 0; i < index->group_count && !status; i++) {
        const struct json_index_group *group = trigrams_group_at(json, i);
        status = group ? json_free(json, group->words)
                       : json_corrupt(index->groups, "an index that is none");
    }
    if (!status) status = json_free(json, index->groups);
    *index = (struct json_index){0};
    return status;
}

/* ---- asking ---- */

bool trigrams_select(const struct evh_json *json, uint32_t group, const void *part, size_t size,
                     uint64_t *bits, const uint64_t **slabs)
{
    assert(bits != NULL);
    assert(slabs != NULL);
    assert(size >= JSON_INDEX_PART_MIN);
    const struct json_index_group *found = trigrams_group_at(json, group);
    const uint64_t *words = found ? trigrams_words(json, found) : NULL;
    if (!words) return false;
    *bits = found->used & trigrams_all(words, part, size);
    *slabs = found->slabs;
    return true;
}

bool trigrams_has(const struct evh_json *json, const struct json_text_slab *slab, const char *text,
                  size_t size)
{
    assert(trigrams_is_on(json));
    uint64_t bit = 0;
    const uint64_t *words = trigrams_words_of(json, slab, &bit);
    return words && (size < JSON_INDEX_PART_MIN || trigrams_all(words, text, size) & bit);
}

bool trigrams_knows(const struct evh_json *json, const struct json_text_slab *slab)
{
    assert(trigrams_is_on(json));
    if (slab->index_number == 0) return false;
    const uint32_t number = slab->index_number - 1;
    const struct json_index_group *group = trigrams_group_at(json, number / JSON_INDEX_SLABS);
    return group && group->used >> number % JSON_INDEX_SLABS & 1 &&
           group->slabs[number % JSON_INDEX_SLABS] == json_offset(json, slab);
}

uint64_t trigrams_slabs(const struct evh_json *json)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < json->root->index.group_count; i++) {
        const struct json_index_group *group = trigrams_group_at(json, i);
        if (!group) break;
        count += base_count_bits(group->used);
    }
    return count;
}

uint64_t trigrams_bytes(const struct evh_json *json)
{
    const struct json_index *index = &json->root->index;
    return (uint64_t)index->group_count * INDEX_WORDS_BYTES +
           (uint64_t)index->group_capacity * sizeof(struct json_index_group);
}
