/* hash_table.c -- adding, removing, splitting, merging, walking and checking. */
#include "collect/hash_table.h"

enum {
    HASH_PART_BYTES = 9216, /* a block class; 64 groups of items of 16 bytes fit: 8256 */
    HASH_TRIES = HASH_DEPTH_MAX + HASH_GROUPS_BITS_MAX + 2,
    HASH_DIRECTORY_SLACK = 16, /* words of the directory per 64 items, at most */
};

/* ---- parts ---- */

static uint64_t part_bytes(const struct hash_table *table, uint32_t group_bits)
{
    assert(table->item_size > 0);
    assert(group_bits <= HASH_GROUPS_BITS_MAX);
    return sizeof(struct hash_part) + (hash_stride(table) << group_bits);
}

/* How many slots of a part may be in use: 6 of 7. */
static uint32_t part_limit(uint32_t group_bits)
{
    assert(group_bits <= HASH_GROUPS_BITS_MAX);
    return (HASH_ITEMS - 1u) << group_bits;
}

/* The size at which parts are split rather than doubled. */
static uint32_t part_best_bits(const struct hash_table *table)
{
    assert(table != NULL);
    assert(table->item_size > 0);
    uint32_t bits = 0;
    while (bits < HASH_GROUPS_BITS_MAX && part_bytes(table, bits + 1) <= HASH_PART_BYTES) bits++;
    assert(bits <= HASH_GROUPS_BITS_MAX);
    return bits;
}

static unsigned char *part_groups(struct hash_part *part)
{
    assert(part != NULL);
    return (unsigned char *)(part + 1);
}

static uint64_t hash_of_item(const struct hash_table *table, const void *item)
{
    assert(table != NULL);
    uint64_t first;
    assert(item != NULL);
    memcpy(&first, item, sizeof first);
    return table->is_number ? collect_hash_number(table->key, first) : first;
}

static void part_set_empty(const struct hash_table *table, struct hash_part *part)
{
    assert(part->group_bits <= HASH_GROUPS_BITS_MAX);
    assert(table->item_size > 0);
    const uint64_t empty = HASH_ITEM_BITS | (uint64_t)HASH_NO_SLOT << 56;
    const uint64_t stride = hash_stride(table);
    for (uint64_t i = 0; i < 1ull << part->group_bits; i++)
        memcpy(part_groups(part) + i * stride, &empty, sizeof empty);
    part->used_count = 0;
    part->item_count = 0;
}

/* A new part, empty; NULL without space. */
static struct hash_part *part_make(evh_heap *heap, const struct hash_table *table,
                                   uint32_t group_bits, uint32_t depth, uint64_t prefix)
{
    assert(group_bits <= HASH_GROUPS_BITS_MAX);
    assert(depth == 0 ? prefix == 0 : prefix << depth == 0);
    assert(depth <= HASH_DEPTH_MAX);
    struct hash_part *const part = evh_malloc(heap, part_bytes(table, group_bits));
    if (!part) return NULL;
    *part = (struct hash_part){.word = COLLECT_WORD(COLLECT_HASH_PART, 1),
                               .depth = (uint8_t)depth,
                               .group_bits = (uint8_t)group_bits,
                               .prefix = prefix};
    part_set_empty(table, part);
    return part;
}

/* The word that leads to a part. */
static uint64_t part_word(const evh_heap *heap, const struct hash_part *part)
{
    assert(part->group_bits <= HASH_GROUPS_BITS_MAX);
    const uint64_t offset = collect_offset(heap, part);
    assert(offset % 16 == 0);
    return offset | part->group_bits;
}

/* Whether `hash` belongs into a part of this prefix and depth. */
static bool part_has(uint64_t prefix, uint32_t depth, uint64_t hash)
{
    assert(depth <= HASH_DEPTH_MAX);
    return depth == 0 ? prefix == 0 : (prefix ^ hash) >> (64 - depth) == 0;
}

/* The part of `hash` that a word leads to, its head checked; NULL if it is damaged. */
static struct hash_part *part_find(const evh_heap *heap, const struct hash_table *table,
                                   uint64_t word, uint64_t hash)
{
    assert(table->depth <= HASH_DEPTH_MAX);
    assert(heap != NULL);
    const uint64_t offset = word & ~15ull;
    struct hash_part *const part = collect_find(heap, offset, part_bytes(table, word & 15),
                                                COLLECT_WORD(COLLECT_HASH_PART, 1));
    if (!part) return NULL;
    if (part->group_bits == (word & 15) && part->depth <= table->depth &&
        part->used_count <= part_limit(part->group_bits) && part->item_count <= part->used_count &&
        part_has(part->prefix, part->depth, hash) &&
        (part->depth == 0 || part->prefix << part->depth == 0))
        return part;
    (void)collect_corrupt(offset, "a part of a hash table is not what its directory says");
    return NULL;
}

/* As part_find(), for a change: also the block is checked. */
static struct hash_part *part_find_block(evh_heap *heap, const struct hash_table *table,
                                         uint64_t word, uint64_t hash)
{
    assert(heap != NULL);
    assert(table != NULL);
    struct hash_part *const part = part_find(heap, table, word, hash);
    if (!part || collect_check_block(heap, word & ~15ull, part_bytes(table, word & 15)))
        return NULL;
    return part;
}

/* The first slot on the way of `hash` that holds no item; NULL if there is none (damage). */
static unsigned char *part_free_slot(const struct hash_table *table, struct hash_part *part,
                                     uint64_t hash, uint64_t *slot)
{
    assert(part->group_bits <= HASH_GROUPS_BITS_MAX);
    assert(slot != NULL);
    const uint64_t stride = hash_stride(table);
    const uint64_t mask = (1ull << part->group_bits) - 1;
    uint64_t number = hash >> 7 & mask;
    for (uint64_t step = 0; step <= mask; number = (number + ++step) & mask) {
        unsigned char *const group = part_groups(part) + number * stride;
        const uint64_t bits = hash_control(group) & HASH_ITEM_BITS;
        if (bits == 0) continue;
        *slot = hash_slot_of(bits);
        assert(*slot < HASH_ITEMS);
        return group;
    }
    return NULL;
}

/* Put an item into a slot: its bytes are the caller's to write. */
static void *part_take(const struct hash_table *table, struct hash_part *part, unsigned char *group,
                       uint64_t slot, uint64_t hash)
{
    assert(slot != HASH_ITEMS);
    assert(slot < HASH_SLOTS);
    assert(group[slot] & 0x80);
    part->used_count += group[slot] == HASH_EMPTY;
    part->item_count++;
    group[slot] = hash & 0x7f;
    return group + 8 + slot * table->item_size;
}

/* Copy the items of a part into `parts`, by the bit of their hash; all into the first if there is
 * one only. False if they do not fit: the part is damaged. */
static bool part_copy(const struct hash_table *table, struct hash_part *part,
                      struct hash_part *parts[2])
{
    assert(parts[0] != NULL);
    assert(parts[0] != part);
    assert(parts[1] != part);
    const uint64_t stride = hash_stride(table);
    for (uint64_t i = 0; i < 1ull << part->group_bits; i++) {
        const unsigned char *const group = part_groups(part) + i * stride;
        uint64_t full = ~hash_control(group) & HASH_ITEM_BITS;
        for (; full; full &= full - 1) {
            const unsigned char *const item = group + 8 + hash_slot_of(full) * table->item_size;
            const uint64_t hash = hash_of_item(table, item);
            const uint64_t side = parts[1] ? hash >> (63 - part->depth) & 1 : 0;
            struct hash_part *const target = parts[side];
            uint64_t slot = 0;
            if (target->used_count >= part_limit(target->group_bits)) return false;
            unsigned char *const place = part_free_slot(table, target, hash, &slot);
            if (NEVER(!place)) return false;
            memcpy(part_take(table, target, place, slot, hash), item, table->item_size);
        }
    }
    return true;
}

/* ---- the directory ---- */

/* How many words lead to a part of this depth. */
static uint64_t words_of(const struct hash_table *table, uint32_t depth)
{
    assert(table->depth <= HASH_DEPTH_MAX);
    assert(depth <= table->depth);
    return 1ull << (table->depth - depth);
}

/* Let all words of a prefix lead to a part. */
static void words_set(uint64_t *words, const struct hash_table *table, uint64_t prefix,
                      uint32_t depth, uint64_t word)
{
    assert(words != NULL);
    assert(word != 0);
    const uint64_t first = table->depth == 0 ? 0 : prefix >> (64 - table->depth);
    assert((first & (words_of(table, depth) - 1)) == 0);
    for (uint64_t i = 0; i < words_of(table, depth); i++) words[first + i] = word;
}

/* The directory, or the one word that stands for it; NULL if it is damaged. */
static uint64_t *words_begin(const evh_heap *heap, struct hash_table *table)
{
    assert(heap != NULL);
    assert(table != NULL);
    return hash_word(heap, table, 0);
}

/* As words_begin(), for a change: also the block is checked. */
static uint64_t *words_change(evh_heap *heap, struct hash_table *table)
{
    assert(heap != NULL);
    assert(table != NULL);
    uint64_t *const words = words_begin(heap, table);
    if (!words || table->depth == 0) return words;
    return collect_check_block(heap, table->root, 8ull << table->depth) ? NULL : words;
}

/* A directory of twice the size for the table; its words lead where the old ones do. */
static uint64_t *words_double(evh_heap *heap, struct hash_table *table)
{
    assert(heap != NULL);
    assert(table->depth < HASH_DEPTH_MAX);
    const uint64_t *const words = words_begin(heap, table);
    if (!words) return NULL;
    const uint64_t count = 1ull << table->depth;
    uint64_t *const doubled = evh_malloc(heap, 16 * count);
    if (!doubled) return NULL;
    for (uint64_t i = 0; i < 2 * count; i++) doubled[i] = words[i / 2];
    return doubled;
}

/* Whether the directory may double: not if so few items have so long a prefix in common that their
 * hashes cannot be chance. Their part grows then. */
static bool words_may_double(const struct hash_table *table)
{
    assert(table != NULL);
    assert(table->item_size > 0);
    return table->depth < HASH_DEPTH_MAX &&
           2ull << table->depth <= HASH_DIRECTORY_SLACK * (table->count / 64 + 1);
}

/* Halve the directory while no part needs its last bit. */
static evh_status words_halve(evh_heap *heap, struct hash_table *table)
{
    assert(heap != NULL);
    assert(table != NULL);
    while (table->depth > 0 && table->deep_count == 0) {
        uint64_t *const words = words_change(heap, table);
        if (!words) return EVH_CORRUPT;
        const uint64_t count = 1ull << (table->depth - 1);
        for (uint64_t i = 0; i < count; i++) words[i] = words[2 * i];
        table->depth--;
        if (table->depth == 0) {
            table->root = words[0];
            table->deep_count = 1;
            evh_free(heap, words);
            return EVH_OK;
        }
        for (uint64_t i = 0; i < count; i += 2)
            if (words[i] != words[i + 1]) table->deep_count += 2;
        const uint64_t *const shrunk = evh_realloc(heap, words, 8 * count);
        if (shrunk) table->root = collect_offset(heap, shrunk); /* else it stays as large */
    }
    return EVH_OK;
}

/* ---- room for one more ---- */

/* Replace a part by one of `group_bits`. */
static evh_status table_rebuild(evh_heap *heap, struct hash_table *table, struct hash_part *part,
                                uint32_t group_bits)
{
    assert(part->depth <= table->depth);
    assert(part != NULL);
    if (group_bits > HASH_GROUPS_BITS_MAX)
        return base_fail(EVH_LIMIT, NO_OFFSET, "too many keys of a map have one hash");
    struct hash_part *const made = part_make(heap, table, group_bits, part->depth, part->prefix);
    if (!made) return collect_failed();
    struct hash_part *parts[2] = {made, NULL};
    uint64_t *const words = words_change(heap, table);
    if (!words || !part_copy(table, part, parts)) {
        evh_free(heap, made);
        return collect_corrupt(collect_offset(heap, part), "a part of a hash table is overfull");
    }
    assert(made->prefix == part->prefix);
    words_set(words, table, part->prefix, part->depth, part_word(heap, made));
    return collect_free(heap, collect_offset(heap, part));
}

/* What a split needs, made before anything changes. */
struct hash_split {
    struct hash_part *parts[2];
    uint64_t *doubled; /* a larger directory, if the split needs one */
};

static evh_status split_prepare(evh_heap *heap, struct hash_table *table, struct hash_part *part,
                                struct hash_split *split)
{
    assert(split->doubled == NULL);
    const uint32_t depth = part->depth + 1u;
    assert(depth <= HASH_DEPTH_MAX);
    for (uint64_t side = 0; side < 2; side++) {
        const uint64_t prefix = part->prefix | side << (64 - depth);
        split->parts[side] = part_make(heap, table, part->group_bits, depth, prefix);
        if (!split->parts[side]) return collect_failed();
    }
    if (part->depth == table->depth) {
        split->doubled = words_double(heap, table);
        if (!split->doubled) return collect_failed();
    }
    if (!part_copy(table, part, split->parts))
        return collect_corrupt(collect_offset(heap, part), "a part of a hash table is overfull");
    return EVH_OK;
}

static evh_status table_split(evh_heap *heap, struct hash_table *table, struct hash_part *part)
{
    assert(part->depth <= table->depth);
    assert(part->depth < HASH_DEPTH_MAX);
    struct hash_split split = {0};
    const uint64_t old_root = table->depth > 0 ? table->root : 0;
    if (!words_change(heap, table)) return EVH_CORRUPT;
    const evh_status status = split_prepare(heap, table, part, &split);
    if (status) {
        evh_free(heap, split.parts[0]);
        evh_free(heap, split.parts[1]);
        evh_free(heap, split.doubled);
        return status;
    }
    if (split.doubled) {
        assert(table->depth == part->depth);
        table->root = collect_offset(heap, split.doubled);
        table->depth++;
        table->deep_count = 0;
        if (collect_free(heap, old_root)) return EVH_CORRUPT;
    }
    assert(split.parts[0]->depth <= table->depth);
    assert(split.parts[0]->depth == split.parts[1]->depth);
    uint64_t *const words = words_begin(heap, table);
    if (NEVER(!words)) return EVH_CORRUPT;
    if (split.parts[0]->depth == table->depth) table->deep_count += 2;
    for (int side = 0; side < 2; side++) {
        const struct hash_part *const made = split.parts[side];
        words_set(words, table, made->prefix, made->depth, part_word(heap, made));
    }
    return collect_free(heap, collect_offset(heap, part));
}

/* Room for one item more in a part of which no slot may be used any more. */
static evh_status table_make_room(evh_heap *heap, struct hash_table *table, struct hash_part *part)
{
    assert(part->depth <= table->depth);
    const uint32_t limit = part_limit(part->group_bits);
    assert(part->used_count <= limit);
    if (collect_check_block(heap, collect_offset(heap, part), part_bytes(table, part->group_bits)))
        return EVH_CORRUPT;
    if (part->item_count <= limit - limit / 4) /* a quarter is erased slots */
        return table_rebuild(heap, table, part, part->group_bits);
    const bool needs_words = part->depth == table->depth;
    if (part->group_bits < part_best_bits(table) || part->depth >= HASH_DEPTH_MAX ||
        (needs_words && !words_may_double(table)))
        return table_rebuild(heap, table, part, part->group_bits + 1u);
    return table_split(heap, table, part);
}

/* ---- the table ---- */

void hash_table_begin(struct hash_table *table, uint32_t item_size, bool is_number)
{
    assert(item_size >= 8);
    assert(item_size % 8 == 0);
    *table = (struct hash_table){.item_size = item_size, .is_number = is_number};
    collect_new_key(table->key);
}

void *hash_table_add(evh_heap *heap, struct hash_table *table, uint64_t hash)
{
    assert(heap != NULL);
    assert(table->item_size >= 8);
    for (unsigned tries = 0; tries < HASH_TRIES; tries++) {
        uint64_t *const word = hash_word(heap, table, hash);
        if (!word) return NULL;
        if (*word == 0 && table->depth == 0) {
            struct hash_part *const first = part_make(heap, table, 0, 0, 0);
            if (!first) return NULL;
            *word = part_word(heap, first);
            table->deep_count = 1;
        }
        struct hash_part *const part = part_find(heap, table, *word, hash);
        if (!part) return NULL;
        uint64_t slot = 0;
        unsigned char *const group = part_free_slot(table, part, hash, &slot);
        if (!group) {
            (void)collect_corrupt(*word & ~15ull, "a part of a hash table has no empty slot");
            return NULL;
        }
        if (group[slot] == HASH_ERASED || part->used_count < part_limit(part->group_bits)) {
            void *const item = part_take(table, part, group, slot, hash);
            memset(item, 0, table->item_size);
            table->count++;
            assert(group[slot] == (hash & 0x7f));
            return item;
        }
        if (table_make_room(heap, table, part)) return NULL;
    }
    (void)base_fail(EVH_LIMIT, NO_OFFSET, "too many keys of a map have one hash");
    return NULL;
}

/* The twin of a part, if it is one part: the other half of the prefix one bit shorter. `*status`
 * tells damage. */
static struct hash_part *table_twin(evh_heap *heap, const struct hash_table *table,
                                    const uint64_t *words, const struct hash_part *part,
                                    evh_status *status)
{
    assert(part->depth <= table->depth);
    assert(*status == EVH_OK);
    assert(part->depth > 0);
    const uint64_t prefix = part->prefix ^ 1ull << (64 - part->depth);
    struct hash_part *const twin =
        part_find_block(heap, table, words[prefix >> (64 - table->depth)], prefix);
    if (!twin) *status = EVH_CORRUPT;
    return twin && twin->depth == part->depth ? twin : NULL;
}

/* A part is empty: its twin stands for both, and what comes of it for more, as long as of two twins
 * one is empty. No item moves. */
static evh_status table_merge(evh_heap *heap, struct hash_table *table, struct hash_part *part)
{
    assert(part->item_count == 0);
    assert(part->depth <= table->depth);
    evh_status status = EVH_OK;
    uint64_t *const words = words_change(heap, table);
    if (!words) return EVH_CORRUPT;
    while (part->depth > 0) {
        struct hash_part *const twin = table_twin(heap, table, words, part, &status);
        if (!twin || (part->item_count > 0 && twin->item_count > 0)) break;
        struct hash_part *const kept = part->item_count > 0 ? part : twin;
        struct hash_part *const dropped = part->item_count > 0 ? twin : part;
        assert(dropped->item_count == 0);
        assert(kept != dropped);
        words_set(words, table, dropped->prefix, dropped->depth, part_word(heap, kept));
        if (kept->depth == table->depth) table->deep_count -= base_min(2, table->deep_count);
        kept->prefix &= ~(1ull << (64 - kept->depth));
        kept->depth--;
        status = collect_free(heap, collect_offset(heap, dropped));
        if (status) break;
        part = kept;
    }
    if (part->item_count == 0 && part->used_count > 0) part_set_empty(table, part);
    return status ? status : words_halve(heap, table);
}

evh_status hash_table_remove(evh_heap *heap, struct hash_table *table, uint64_t hash,
                             unsigned char *control)
{
    assert(heap != NULL);
    assert(control != NULL);
    const uint64_t *const word = hash_word(heap, table, hash);
    if (!word) return EVH_CORRUPT;
    struct hash_part *const part = part_find(heap, table, *word, hash);
    if (!part) return EVH_CORRUPT;
    if (part->item_count == 0 || table->count == 0)
        return collect_corrupt(*word & ~15ull, "a part of a hash table counts too few items");
    assert(control > (unsigned char *)part);
    assert((*control & 0x80) == 0);
    const uint64_t slot = (uintptr_t)control % HASH_SLOTS; /* groups are aligned to 8 bytes */
    assert(slot != HASH_ITEMS);
    const bool may_be_empty = hash_empty_slots(hash_control(control - slot)) != 0;
    *control = may_be_empty ? HASH_EMPTY : HASH_ERASED;
    part->used_count -= may_be_empty;
    part->item_count--;
    table->count--;
    return part->item_count > 0 ? EVH_OK : table_merge(heap, table, part);
}

evh_status hash_table_clear(evh_heap *heap, struct hash_table *table)
{
    assert(heap != NULL);
    assert(table != NULL);
    evh_status status = EVH_OK;
    const uint64_t *const words = words_begin(heap, table);
    const uint64_t count = words ? 1ull << table->depth : 0;
    for (uint64_t i = 0; i < count && words[i] != 0;) {
        const uint64_t prefix = table->depth == 0 ? 0 : i << (64 - table->depth);
        const struct hash_part *const part = part_find(heap, table, words[i], prefix);
        i += part ? words_of(table, part->depth) : 1;
        if (!part || part->prefix != prefix || collect_free(heap, collect_offset(heap, part)))
            status = EVH_CORRUPT;
    }
    if (!words) status = EVH_CORRUPT;
    if (table->depth > 0 && collect_free(heap, table->root)) status = EVH_CORRUPT;
    table->root = 0;
    table->depth = 0;
    table->deep_count = 0;
    table->count = 0;
    return status;
}

/* ---- walking ---- */

/* The part of walk->prefix, entered if the walk is not in it. NULL at the end, or for damage. */
static struct hash_part *walk_part(const evh_heap *heap, const struct hash_table *table,
                                   struct hash_walk *walk)
{
    assert(heap != NULL);
    assert(!walk->is_ended);
    const uint64_t *word = hash_word(heap, table, walk->prefix);
    if (!word || *word == 0) return NULL;
    if (walk->slot > 0) {
        if (walk->part == (*word & ~15ull)) {
            struct hash_part *const same =
                collect_find(heap, walk->part, part_bytes(table, *word & 15),
                             COLLECT_WORD(COLLECT_HASH_PART, 1));
            return same && same->group_bits == (*word & 15) ? same : NULL;
        }
        walk->slot = 0; /* it was merged when it was empty, or split */
        walk->prefix = walk->end;
        if (walk->prefix == 0) return NULL;
        word = hash_word(heap, table, walk->prefix);
        if (!word || *word == 0) return NULL;
    }
    struct hash_part *const part = part_find(heap, table, *word, walk->prefix);
    if (!part) return NULL;
    walk->part = *word & ~15ull;
    walk->end = part->depth == 0 ? 0 : part->prefix + (1ull << (64 - part->depth));
    walk->visited += part_bytes(table, part->group_bits);
    if (walk->visited <= collect_end(heap)) return part;
    (void)collect_corrupt(walk->part, "the parts of a hash table are larger than the heap");
    return NULL;
}

/* The next item of the part that has not been seen, or NULL. */
static void *walk_item(const struct hash_table *table, struct hash_part *part,
                       struct hash_walk *walk)
{
    assert(part != NULL);
    assert(!walk->is_ended);
    const uint64_t stride = hash_stride(table);
    const uint64_t slot_count = (uint64_t)HASH_SLOTS << part->group_bits;
    while (walk->slot < slot_count) {
        unsigned char *const group = part_groups(part) + walk->slot / HASH_SLOTS * stride;
        const uint64_t full =
            ~hash_control(group) & HASH_ITEM_BITS & ~0ull << (walk->slot % HASH_SLOTS * 8);
        if (full == 0) {
            walk->slot = (uint32_t)base_round_down(walk->slot + HASH_SLOTS, HASH_SLOTS);
            continue;
        }
        const uint64_t slot = hash_slot_of(full);
        assert(slot < HASH_ITEMS);
        walk->slot = (uint32_t)(base_round_down(walk->slot, HASH_SLOTS) + slot + 1);
        assert(walk->slot <= slot_count);
        void *const item = group + 8 + slot * table->item_size;
        /* A part that took over its twin's hashes has items that were seen before. */
        if (part->prefix < walk->prefix && hash_of_item(table, item) < walk->prefix) continue;
        return item;
    }
    return NULL;
}

void *hash_walk_next(const evh_heap *heap, const struct hash_table *table, struct hash_walk *walk)
{
    assert(table != NULL);
    assert(walk != NULL);
    while (!walk->is_ended) {
        struct hash_part *const part = walk_part(heap, table, walk);
        void *const item = part ? walk_item(table, part, walk) : NULL;
        if (item) return item;
        walk->prefix = walk->end;
        walk->part = 0;
        walk->slot = 0;
        walk->is_ended = !part || walk->end == 0;
    }
    return NULL;
}

/* ---- checking ---- */

typedef evh_status hash_check_item(evh_heap *heap, const void *item, void *context);

/* Whether a probe for the item's hash comes to it. */
static bool check_is_found(const evh_heap *heap, const struct hash_table *table, const void *item)
{
    assert(heap != NULL);
    assert(item != NULL);
    struct hash_probe probe = hash_probe_begin(heap, table, hash_of_item(table, item));
    const void *found = NULL;
    if (!probe.groups) return false;
    do found = hash_probe_next(&probe);
    while (found && found != item);
    return found != NULL;
}

static evh_status check_part(evh_heap *heap, const struct hash_table *table, struct hash_part *part,
                             hash_check_item *check_item, void *context)
{
    assert(part->group_bits <= HASH_GROUPS_BITS_MAX);
    assert(part->depth <= table->depth);
    const uint64_t offset = collect_offset(heap, part);
    uint64_t used_count = 0, item_count = 0;
    for (uint64_t i = 0; i < 1ull << part->group_bits; i++) {
        const unsigned char *const group = part_groups(part) + i * hash_stride(table);
        const uint64_t control = hash_control(group);
        for (uint64_t slot = 0; slot < HASH_SLOTS; slot++) {
            const unsigned char *const item = group + 8 + slot * table->item_size;
            const bool is_last = slot == HASH_ITEMS;
            if (group[slot] > HASH_EMPTY && group[slot] != (is_last ? HASH_NO_SLOT : HASH_ERASED))
                return collect_corrupt(offset, "a control byte that is none");
            if (is_last && group[slot] != HASH_NO_SLOT)
                return collect_corrupt(offset, "a group of eight slots");
            if (group[slot] & 0x80) continue;
            item_count++;
            if (!check_is_found(heap, table, item) ||
                !part_has(part->prefix, part->depth, hash_of_item(table, item)))
                return collect_corrupt(collect_offset(heap, item), "an item is not found");
            if (check_item && check_item(heap, item, context)) return EVH_CORRUPT;
        }
        used_count += HASH_ITEMS - base_count_bits(hash_empty_slots(control));
    }
    if (used_count != part->used_count || item_count != part->item_count)
        return collect_corrupt(offset, "a part of a hash table counts wrongly");
    return EVH_OK;
}

evh_status hash_table_check(evh_heap *heap, const struct hash_table *table, uint64_t offset,
                            hash_check_item *check_item, void *context)
{
    assert(heap != NULL);
    assert(offset != 0);
    if (table->item_size < 8 || table->item_size % 8 != 0 ||
        table->item_size > 2 * EVH_ITEM_SIZE_MAX || table->is_number > 1 || table->reserved != 0 ||
        table->depth > HASH_DEPTH_MAX)
        return collect_corrupt(offset, "the head of a hash table is not one");
    if (table->root == 0)
        return table->count || table->depth ? collect_corrupt(offset, "items without a part")
                                            : EVH_OK;
    if (table->depth > 0 && collect_check_block(heap, table->root, 8ull << table->depth))
        return EVH_CORRUPT;
    const uint64_t *const words = hash_word(heap, table, 0);
    uint64_t item_count = 0, deep_count = 0;
    for (uint64_t i = 0; words && i < 1ull << table->depth;) {
        const uint64_t prefix = table->depth == 0 ? 0 : i << (64 - table->depth);
        struct hash_part *const part = part_find_block(heap, table, words[i], prefix);
        if (!part) return EVH_CORRUPT;
        if (part->prefix != prefix || part->reserved ||
            !heap_is_zero(part->reserved2, sizeof part->reserved2))
            return collect_corrupt(words[i] & ~15ull, "a part of a hash table in two places");
        for (uint64_t k = 1; k < words_of(table, part->depth); k++)
            if (words[i + k] != words[i])
                return collect_corrupt(table->root, "the words of a directory disagree");
        if (check_part(heap, table, part, check_item, context)) return EVH_CORRUPT;
        item_count += part->item_count;
        deep_count += part->depth == table->depth;
        i += words_of(table, part->depth);
    }
    if (!words) return EVH_CORRUPT;
    if (item_count != table->count || deep_count != table->deep_count)
        return collect_corrupt(offset, "a hash table counts wrongly");
    return EVH_OK;
}
