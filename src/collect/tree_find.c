/* tree_find.c -- looking for keys in nodes, and the way from the root to a leaf. */
#include "collect/tree.h"

/* ---- keys ---- */

struct tree_key tree_key_of(const void *bytes, size_t size)
{
    uint64_t number = 0;
    assert(bytes != NULL || size == 0);
    if (size >= 8) {
        memcpy(&number, bytes, 8);
        number = __builtin_bswap64(number);
    } else {
        const unsigned char *const at = bytes;
        for (size_t i = 0; i < size; i++) number |= (uint64_t)at[i] << (56 - 8 * i);
    }
    assert(size > 0 || number == 0);
    return (struct tree_key){.number = number, .bytes = size ? bytes : "", .size = size};
}

/* As tree_compare() when the numbers are equal: the bytes decide. */
static int tree_compare_bytes(const char *first, size_t first_size, const char *second,
                              size_t second_size)
{
    assert(first != NULL);
    assert(second != NULL);
    const size_t common = first_size < second_size ? first_size : second_size;
    const int order = memcmp(first, second, common);
    if (order) return order;
    return (first_size > second_size) - (first_size < second_size);
}

int tree_compare(const struct tree_key *first, const struct tree_key *second)
{
    assert(first != NULL);
    assert(second != NULL);
    if (first->number != second->number) return first->number < second->number ? -1 : 1;
    if (!first->bytes || !second->bytes) return 0;
    return tree_compare_bytes(first->bytes, first->size, second->bytes, second->size);
}

/* ---- in a node ---- */

/*
 * How many of a node's ascending keys are below `key`: first the lines of eight keys whose last is,
 * then the keys of the line in which they end; its eighth was compared already. No branch depends
 * on a key, and what is read does not depend on what was read but once, so that in a large tree,
 * where nothing is cached, the lines of a node come together. A binary search takes twice as long.
 */
static inline uint32_t tree_count_below(const uint64_t *keys, uint32_t capacity, uint64_t key)
{
    assert(keys != NULL);
    uint32_t line = 0;
    assert(capacity % 8 == 7);
    for (uint32_t i = 7; i < capacity; i += 8) line += keys[i] < key;
    const uint64_t *const k = keys + 8 * (uint64_t)line;
    return 8 * line + (k[0] < key) + (k[1] < key) + (k[2] < key) + (k[3] < key) + (k[4] < key) +
           (k[5] < key) + (k[6] < key);
}

/* How many are not above it. */
static inline uint32_t tree_count_to(const uint64_t *keys, uint32_t capacity, uint32_t count,
                                     uint64_t key)
{
    assert(count <= capacity);
    return key == UINT64_MAX ? count : tree_count_below(keys, capacity, key + 1);
}

/* How many keys from `first` on, up to `end`, are below the bytes (or not above them, if
 * `or_equal`): all of these have the key's number. A str of 0 stands before all bytes. Damage
 * counts as above. */
static uint32_t tree_count_bytes(const evh_heap *heap, const uint64_t *texts, uint32_t first,
                                 uint32_t end, const struct tree_key *key, bool or_equal)
{
    assert(heap != NULL);
    assert(key->bytes != NULL);
    while (first < end) {
        const uint32_t middle = first + (end - first) / 2;
        int order = -1;
        if (texts[middle] != 0) {
            size_t size = 0;
            const char *const text = collect_text(heap, texts[middle], &size);
            order = text ? tree_compare_bytes(text, size, key->bytes, key->size) : 1;
        }
        if (order < 0 || (order == 0 && or_equal))
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

/* Of the keys with the key's number, how many and all before are below it (or not above). A damaged
 * node may have keys behind its count: they do not count. */
static uint32_t tree_count_equal(const evh_heap *heap, const struct collect_tree *head,
                                 struct tree_node *node, uint32_t first, const struct tree_key *key,
                                 bool or_equal)
{
    assert(tree_has_bytes(head));
    assert(first < node->count);
    const uint32_t capacity = tree_capacity(head, node->level);
    const uint32_t to = tree_count_to(tree_keys(node), capacity, node->count, key->number);
    const uint32_t end = to < node->count ? to : node->count;
    return tree_count_bytes(heap, tree_texts(head, node), first, end, key, or_equal);
}

/* The index of the child that has the key. */
static inline uint32_t tree_child_index(const evh_heap *heap, const struct collect_tree *head,
                                        struct tree_node *node, const struct tree_key *key)
{
    assert(node->level > 0);
    assert(node->count > 0);
    const uint64_t *const keys = tree_keys(node);
    const uint32_t capacity = tree_capacity(head, node->level);
    uint32_t count;
    if (!tree_has_bytes(head)) {
        count = tree_count_to(keys, capacity, node->count, key->number);
    } else {
        count = tree_count_below(keys, capacity, key->number);
        if (count < node->count && keys[count] == key->number)
            count = tree_count_equal(heap, head, node, count, key, true);
    }
    if (UNLIKELY(count > node->count)) count = node->count;
    assert(count <= node->count);
    return count > 0 ? count - 1 : 0;
}

/* The index of the first item of a leaf that is not below the key. */
static inline uint32_t tree_item_index(const evh_heap *heap, const struct collect_tree *head,
                                       struct tree_node *leaf, const struct tree_key *key)
{
    assert(leaf->level == 0);
    assert(leaf->count > 0);
    const uint64_t *const keys = tree_keys(leaf);
    const uint32_t first = tree_count_below(keys, head->leaf_capacity, key->number);
    if (UNLIKELY(first >= leaf->count)) return leaf->count;
    if (!tree_has_bytes(head) || keys[first] != key->number) return first;
    return tree_count_equal(heap, head, leaf, first, key, false);
}

/* ---- ways ---- */

bool tree_find(const evh_heap *heap, const struct collect_tree *head, const struct tree_key *key,
               struct tree_path *path, bool *is_there)
{
    assert(heap != NULL);
    assert((key->bytes != NULL) == tree_has_bytes(head));
    uint64_t offset = head->root;
    *is_there = false;
    if (offset == 0) return false;
    for (uint32_t level = head->levels;; level--) {
        struct tree_node *const node = tree_node_at(heap, head, offset, level);
        if (!node) return false;
        path->nodes[level] = node;
        if (level == 0) break;
        path->index[level] = tree_child_index(heap, head, node, key);
        assert(path->index[level] < node->count);
        offset = tree_children(head, node)[path->index[level]];
    }
    struct tree_node *const leaf = path->nodes[0];
    const uint32_t index = tree_item_index(heap, head, leaf, key);
    assert(index <= leaf->count);
    path->index[0] = index;
    if (index == leaf->count || tree_keys(leaf)[index] != key->number) return true;
    *is_there = !tree_has_bytes(head) ||
                collect_text_is(heap, tree_texts(head, leaf)[index], key->bytes, key->size);
    return true;
}

/* Go down from the node at `level` of the path, always to the first or the last child. */
static bool tree_descend(const evh_heap *heap, const struct collect_tree *head, uint32_t level,
                         bool is_last, struct tree_path *path)
{
    assert(level <= head->levels);
    assert(path->index[level] < path->nodes[level]->count);
    for (; level > 0; level--) {
        const uint64_t offset = tree_children(head, path->nodes[level])[path->index[level]];
        struct tree_node *const node = tree_node_at(heap, head, offset, level - 1);
        if (!node) return false;
        path->nodes[level - 1] = node;
        path->index[level - 1] = is_last ? node->count - 1u : 0;
    }
    return true;
}

bool tree_find_end(const evh_heap *heap, const struct collect_tree *head, bool is_last,
                   struct tree_path *path)
{
    assert(heap != NULL);
    assert(head->levels <= TREE_LEVELS_MAX);
    if (head->root == 0) return false;
    struct tree_node *const root = tree_node_at(heap, head, head->root, head->levels);
    if (!root) return false;
    path->nodes[head->levels] = root;
    path->index[head->levels] = is_last ? root->count - 1u : 0;
    return tree_descend(heap, head, head->levels, is_last, path);
}

bool tree_step(const evh_heap *heap, const struct collect_tree *head, bool is_back,
               struct tree_path *path)
{
    assert(heap != NULL);
    assert(head->levels <= TREE_LEVELS_MAX);
    for (uint32_t level = 1; level <= head->levels; level++) {
        const uint32_t index = path->index[level];
        if (is_back ? index == 0 : index + 1 >= path->nodes[level]->count) continue;
        path->index[level] = is_back ? index - 1 : index + 1;
        return tree_descend(heap, head, level, is_back, path);
    }
    return false;
}
