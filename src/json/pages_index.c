/* pages_index.c -- the members of a large object: an extendible hash from symbol to leaf.
 *
 * R. Fagin, J. Nievergelt, N. Pippenger, H. R. Strong, "Extendible Hashing", TODS 4 (1979). The
 * highest `directory_depth` bits of a symbol's hash choose a bucket, a page of entries with linear
 * probing. A full bucket splits by its next bit; only when its bits are all used does the directory
 * double, 4 bytes a bucket. So an insertion changes one page, seldom three, and never all of them.
 */
#include "json/json.h"

enum { INDEX_DEPTH_MAX = 26 };

static inline struct json_entry *members_entries(struct json_page *bucket)
{
    return (struct json_entry *)(void *)(bucket + 1);
}

static inline uint32_t members_home(uint32_t hash)
{
    return ((hash & 0xffff) * JSON_ENTRIES_MAX) >> 16;
}

static inline uint32_t members_slot(uint32_t hash, uint32_t depth)
{
    assert(depth <= INDEX_DEPTH_MAX);
    return depth ? hash >> (32 - depth) : 0;
}

/* The directory, and the bucket for a hash. NULL on damage. */
static struct json_page *members_bucket(const struct evh_json *json, const struct json_tree *tree,
                                        uint32_t hash, uint32_t *number)
{
    assert(number != NULL);
    const uint32_t depth = tree->directory_depth;
    const uint32_t *directory = NULL;
    if (depth <= INDEX_DEPTH_MAX) directory = json_at(json, tree->directory, 4ull << depth);
    if (!directory) {
        (void)json_corrupt(tree->directory, "the index of an object outside the heap");
        return NULL;
    }
    *number = directory[members_slot(hash, depth)];
    struct json_page *bucket = page_at(json, *number, JSON_PAGE_BUCKET);
    if (bucket && bucket->height > depth) {
        (void)json_corrupt(page_offset(*number), "a bucket deeper than its directory");
        return NULL;
    }
    return bucket;
}

/* Where `key` is in a bucket, or the empty entry where it would be; UINT32_MAX on damage. */
static uint32_t members_probe(struct json_page *bucket, uint32_t key, uint32_t hash)
{
    assert(bucket->kind == JSON_PAGE_BUCKET);
    const struct json_entry *entries = members_entries(bucket);
    uint32_t at = members_home(hash);
    for (uint32_t probes = 0; probes < JSON_ENTRIES_MAX; probes++) {
        if (entries[at].key == key || entries[at].key == 0) return at;
        at = at + 1 == JSON_ENTRIES_MAX ? 0 : at + 1;
    }
    return UINT32_MAX;
}

evh_status members_make(struct evh_json *json, struct json_tree *tree)
{
    assert(tree->directory == 0);
    struct json_page *bucket = NULL;
    const uint32_t number = page_make(json, JSON_PAGE_BUCKET, &bucket);
    if (!number) return evh_last_error()->status;
    void *directory = NULL;
    tree->directory = json_allocate(json, sizeof number, &directory);
    if (!tree->directory) {
        (void)json_free(json, page_offset(number));
        return evh_last_error()->status;
    }
    memcpy(directory, &number, sizeof number);
    tree->directory_depth = 0;
    tree->bucket_count = 1;
    return EVH_OK;
}

void members_clear(struct evh_json *json, struct json_tree *tree)
{
    const uint32_t depth = tree->directory_depth;
    const uint32_t *directory = NULL;
    if (depth <= INDEX_DEPTH_MAX) directory = json_at(json, tree->directory, 4ull << depth);
    for (uint64_t i = 0; directory && i < 1ull << depth;) {
        const struct json_page *bucket = page_at(json, directory[i], JSON_PAGE_BUCKET);
        if (!bucket || bucket->height > depth) break;
        const uint64_t shared = 1ull << (depth - bucket->height); /* neighbours lead to it too */
        if (json_free(json, page_offset(directory[i]))) break;
        i += shared;
    }
    (void)json_free(json, tree->directory);
    tree->directory = 0;
}

uint32_t members_find(struct evh_json *json, const struct json_tree *tree, uint32_t key)
{
    const uint32_t hash = key_hash(key);
    uint32_t number = 0;
    struct json_page *bucket = members_bucket(json, tree, hash, &number);
    if (!bucket || key == 0) return 0;
    const uint32_t at = members_probe(bucket, key, hash);
    if (at == UINT32_MAX) return 0;
    const struct json_entry *entry = members_entries(bucket) + at;
    return entry->key == key ? entry->leaf : 0;
}

static evh_status members_double(struct evh_json *json, struct json_tree *tree)
{
    const uint32_t depth = tree->directory_depth;
    if (depth == INDEX_DEPTH_MAX) return base_fail(EVH_LIMIT, NO_OFFSET, "json: too many members");
    void *address = NULL;
    const uint64_t offset = json_allocate(json, 8ull << depth, &address);
    if (!offset) return evh_last_error()->status;
    const uint32_t *directory = json_at(json, tree->directory, 4ull << depth);
    if (!directory) return json_corrupt(tree->directory, "the index of an object outside the heap");
    uint32_t *grown = address;
    for (uint64_t i = 0; i < 1ull << depth; i++) {
        grown[2 * i] = directory[i];
        grown[2 * i + 1] = directory[i];
    }
    const uint64_t before = tree->directory;
    tree->directory = offset;
    tree->directory_depth = depth + 1;
    return json_free(json, before);
}

static void members_store(struct json_page *bucket, struct json_entry entry)
{
    assert(entry.key != 0);
    const uint32_t at = members_probe(bucket, entry.key, key_hash(entry.key));
    if (NEVER(at == UINT32_MAX)) return;
    members_entries(bucket)[at] = entry;
    bucket->count++;
}

/* Split the full bucket that `hash` leads to. */
static evh_status members_split(struct evh_json *json, struct json_tree *tree, uint32_t hash)
{
    uint32_t number = 0;
    struct json_page *bucket = members_bucket(json, tree, hash, &number);
    if (!bucket) return EVH_CORRUPT;
    if (bucket->height == tree->directory_depth) {
        const evh_status status = members_double(json, tree);
        if (status) return status;
    }
    struct json_page *other = NULL;
    const uint32_t other_number = page_make(json, JSON_PAGE_BUCKET, &other);
    if (!other_number) return evh_last_error()->status;
    const uint32_t depth = tree->directory_depth;
    uint32_t *directory = json_at(json, tree->directory, 4ull << depth);
    if (!directory) return json_corrupt(tree->directory, "the index of an object outside the heap");
    bucket->height++;
    other->height = bucket->height;
    other->owner = bucket->owner;
    const uint32_t bit = 1u << (32 - bucket->height);
    struct json_entry entries[JSON_ENTRIES_MAX];
    memcpy(entries, members_entries(bucket), sizeof entries);
    memset(members_entries(bucket), 0, sizeof entries);
    bucket->count = 0;
    for (uint32_t i = 0; i < JSON_ENTRIES_MAX; i++) {
        if (entries[i].key == 0) continue;
        members_store(key_hash(entries[i].key) & bit ? other : bucket, entries[i]);
    }
    /* The directory's entries with the bit set lead to the new one: the upper half of the run. */
    const uint64_t run = 1ull << (depth - bucket->height);
    const uint64_t first = (members_slot(hash, depth) & ~(2 * run - 1)) + run;
    for (uint64_t i = first; i < first + run; i++) directory[i] = other_number;
    tree->bucket_count++;
    return EVH_OK;
}

evh_status members_insert(struct evh_json *json, struct json_tree *tree, uint32_t key,
                          uint32_t leaf)
{
    assert(leaf != 0);
    if (key == 0) return json_corrupt(tree->directory, "a key that is none");
    const uint32_t hash = key_hash(key);
    for (uint32_t splits = 0; splits <= INDEX_DEPTH_MAX; splits++) {
        uint32_t number = 0;
        struct json_page *bucket = members_bucket(json, tree, hash, &number);
        if (!bucket) return EVH_CORRUPT;
        if (bucket->count < JSON_BUCKET_FULL) {
            const uint32_t at = members_probe(bucket, key, hash);
            if (at == UINT32_MAX || members_entries(bucket)[at].key == key)
                return json_corrupt(page_offset(number), "a bucket that has the key already");
            members_entries(bucket)[at] = (struct json_entry){key, leaf};
            bucket->count++;
            return EVH_OK;
        }
        const evh_status status = members_split(json, tree, hash);
        if (status) return status;
    }
    return base_fail(EVH_LIMIT, NO_OFFSET, "json: too many members of one hash");
}

/* Linear probing without marks for what is gone: entries behind move up (Knuth, algorithm R). */
void members_remove(struct evh_json *json, struct json_tree *tree, uint32_t key)
{
    const uint32_t hash = key_hash(key);
    uint32_t number = 0;
    struct json_page *bucket = members_bucket(json, tree, hash, &number);
    if (!bucket) return;
    struct json_entry *entries = members_entries(bucket);
    uint32_t hole = members_probe(bucket, key, hash);
    if (hole == UINT32_MAX || entries[hole].key != key) return;
    uint32_t at = hole;
    for (uint32_t probes = 0; probes < JSON_ENTRIES_MAX; probes++) {
        at = at + 1 == JSON_ENTRIES_MAX ? 0 : at + 1;
        if (entries[at].key == 0) break;
        const uint32_t home = members_home(key_hash(entries[at].key));
        const bool is_between = hole < at ? home > hole && home <= at : home > hole || home <= at;
        if (is_between) continue;
        entries[hole] = entries[at];
        hole = at;
    }
    entries[hole] = (struct json_entry){0, 0};
    if (bucket->count > 0) bucket->count--;
}

void members_move(struct evh_json *json, struct json_tree *tree, uint32_t key, uint32_t leaf)
{
    assert(leaf != 0);
    const uint32_t hash = key_hash(key);
    uint32_t number = 0;
    struct json_page *bucket = members_bucket(json, tree, hash, &number);
    if (!bucket) return;
    const uint32_t at = members_probe(bucket, key, hash);
    if (at != UINT32_MAX && members_entries(bucket)[at].key == key)
        members_entries(bucket)[at].leaf = leaf;
}
