/* tree_find.c -- looking for keys in nodes, and the way from the root to a leaf. */
#include "collect/tree.h"

enum { TREE_LINE_KEYS = 8 }; /* keys of a cache line */

struct collect_tree *tree_head(const evh_heap *heap, const evh_tree *tree)
{
    if (!tree || tree->offset == 0) return NULL;
    struct collect_tree *const head =
        collect_find(heap, tree->offset, sizeof *head, COLLECT_WORD(COLLECT_TREE, 1));
    if (UNLIKELY(!head)) return NULL;
    const bool is_kind = head->key_kind == EVH_KEY_NUMBER || head->key_kind == EVH_KEY_BYTES;
    if (LIKELY(is_kind && head->value_size <= EVH_ITEM_SIZE_MAX &&
               head->leaf_capacity >= TREE_LEAF_ITEMS_MIN &&
               head->leaf_capacity <= TREE_NODE_BYTES / 8 && head->levels <= TREE_LEVELS_MAX))
        return head;
    (void)collect_corrupt(tree->offset, "the head of a tree is not one");
    return NULL;
}

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
    return (struct tree_key){.number = number, .bytes = size ? bytes : "", .size = size};
}

/* As tree_compare() when the numbers are equal: the bytes decide. */
static int tree_compare_bytes(const char *first, size_t first_size, const char *second,
                              size_t second_size)
{
    const size_t common = first_size < second_size ? first_size : second_size;
    const int order = memcmp(first, second, common);
    if (order) return order;
    return (first_size > second_size) - (first_size < second_size);
}

int tree_compare(const struct tree_key *first, const struct tree_key *second)
{
    if (first->number != second->number) return first->number < second->number ? -1 : 1;
    if (!first->bytes || !second->bytes) return 0;
    return tree_compare_bytes(first->bytes, first->size, second->bytes, second->size);
}

struct tree_key tree_item_key(const evh_heap *heap, const struct collect_tree *head,
                              struct tree_node *leaf, uint64_t index)
{
    assert(index < leaf->count);
    struct tree_key key = {.number = tree_keys(leaf)[index]};
    if (tree_has_bytes(head))
        key.bytes = collect_text(heap, tree_texts(head, leaf)[index], &key.size);
    return key;
}

/* ---- in a node ---- */

/* How many of `count` ascending keys are below `key`. Without branches to be mispredicted; the
 * lines that the search may touch are asked for at once, for in a large tree none is cached. */
static inline uint32_t tree_count_below(const uint64_t *keys, uint32_t count, uint64_t key)
{
    const uint64_t *first = keys;
    for (uint32_t i = 0; i < count; i += TREE_LINE_KEYS) __builtin_prefetch(keys + i);
    for (uint32_t rest = count; rest > 0;) {
        const uint32_t half = (rest + 1) / 2;
        first += first[half - 1] < key ? half : 0;
        rest -= half;
    }
    return (uint32_t)(first - keys);
}

/* How many keys from `first` on, up to `end`, are below the bytes (or not above them, if
 * `or_equal`): all of these have the key's number. A str of 0 stands before all bytes. Damage
 * counts as above. */
static uint32_t tree_count_bytes(const evh_heap *heap, const uint64_t *texts, uint32_t first,
                                 uint32_t end, const struct tree_key *key, bool or_equal)
{
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

/* Where the keys that have the key's number end, the first of which is `first`. */
static uint32_t tree_run_end(const uint64_t *keys, uint32_t first, uint32_t count, uint64_t number)
{
    if (number == UINT64_MAX) return count;
    return first + tree_count_below(keys + first, count - first, number + 1);
}

/* The index of the child that has the key. */
static inline uint32_t tree_child_index(const evh_heap *heap, const struct collect_tree *head,
                                        struct tree_node *node, const struct tree_key *key)
{
    const uint64_t *const keys = tree_keys(node) + 1;
    const uint32_t count = node->count - 1u;
    if (!tree_has_bytes(head)) {
        if (key->number == UINT64_MAX) return count;
        return tree_count_below(keys, count, key->number + 1);
    }
    const uint32_t first = tree_count_below(keys, count, key->number);
    if (first == count || keys[first] != key->number) return first;
    const uint32_t end = tree_run_end(keys, first, count, key->number);
    return tree_count_bytes(heap, tree_texts(head, node) + 1, first, end, key, true);
}

/* The index of the first item of a leaf that is not below the key. */
static inline uint32_t tree_item_index(const evh_heap *heap, const struct collect_tree *head,
                                       struct tree_node *leaf, const struct tree_key *key)
{
    const uint64_t *const keys = tree_keys(leaf);
    const uint32_t first = tree_count_below(keys, leaf->count, key->number);
    if (!tree_has_bytes(head) || first == leaf->count || keys[first] != key->number) return first;
    const uint32_t end = tree_run_end(keys, first, leaf->count, key->number);
    return tree_count_bytes(heap, tree_texts(head, leaf), first, end, key, false);
}

/* ---- ways ---- */

bool tree_find(const evh_heap *heap, const struct collect_tree *head, const struct tree_key *key,
               struct tree_path *path, bool *is_there)
{
    uint64_t offset = head->root;
    *is_there = false;
    if (offset == 0) return false;
    for (uint32_t level = head->levels;; level--) {
        struct tree_node *const node = tree_node_at(heap, head, offset, level);
        if (!node) return false;
        path->nodes[level] = node;
        if (level == 0) break;
        path->index[level] = tree_child_index(heap, head, node, key);
        offset = tree_children(head, node)[path->index[level]];
    }
    struct tree_node *const leaf = path->nodes[0];
    const uint32_t index = tree_item_index(heap, head, leaf, key);
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
    for (uint32_t level = 1; level <= head->levels; level++) {
        const uint32_t index = path->index[level];
        if (is_back ? index == 0 : index + 1 >= path->nodes[level]->count) continue;
        path->index[level] = is_back ? index - 1 : index + 1;
        return tree_descend(heap, head, level, is_back, path);
    }
    return false;
}
