/* tree_check.c -- freeing and checking whole trees, node by node, without recursion. */
#include "collect/tree.h"

/* ---- freeing ---- */

/* The node at `offset` if it is a live block, and sound; else NULL. */
static struct tree_node *tree_live_node(evh_heap *heap, const struct collect_tree *head,
                                        uint64_t offset, uint32_t level)
{
    assert(heap != NULL);
    assert(level <= head->levels);
    if (collect_check_block(heap, offset, tree_node_bytes(head, level))) return NULL;
    return tree_node_at(heap, head, offset, level);
}

/* Free the whole tree. A node that is damaged or no live block (any more) is passed over, and so a
 * damaged tree that leads to one twice frees it once; also an inner node is looked up each time, as
 * what is below it may have led to it. */
static evh_status tree_free_below(evh_heap *heap, const struct collect_tree *head)
{
    assert(heap != NULL);
    assert(head->levels <= TREE_LEVELS_MAX);
    struct tree_path path;
    evh_status status = EVH_OK;
    uint32_t level = head->levels;
    uint64_t offset = head->root;
    for (;;) {
        struct tree_node *node = tree_live_node(heap, head, offset, level);
        if (!node) status = EVH_CORRUPT;
        if (node && level > 0) {
            path.nodes[level] = node;
            path.index[level] = 0;
            offset = tree_children(head, node)[0];
            level--;
            continue;
        }
        if (node && tree_free_node(heap, head, node)) status = EVH_CORRUPT;
        for (;;) {
            if (++level > head->levels) return status;
            node = tree_live_node(heap, head, collect_offset(heap, path.nodes[level]), level);
            if (node && ++path.index[level] < node->count) break;
            if (!node || tree_free_node(heap, head, node)) status = EVH_CORRUPT;
        }
        offset = tree_children(head, node)[path.index[level]];
        level--;
    }
}

evh_status evh_tree_clear(evh_heap *heap, evh_tree *tree)
{
    evh_status status = collect_writable(heap, tree);
    if (status || tree->offset == 0) return status;
    struct collect_tree *const head = tree_head(heap, tree);
    if (!head || collect_check_block(heap, tree->offset, sizeof *head)) {
        tree->offset = 0;
        return EVH_CORRUPT;
    }
    assert(head->levels <= TREE_LEVELS_MAX);
    assert(tree->offset % 16 == 0);
    if (head->root) status = tree_free_below(heap, head);
    if (collect_free(heap, tree->offset)) status = EVH_CORRUPT;
    tree->offset = 0;
    return status;
}

/* ---- checking ---- */

struct tree_check {
    evh_heap *heap;
    const struct collect_tree *head;
    struct tree_path path;
    struct tree_key last; /* of the items so far */
    bool has_last;
    uint64_t item_count;
    uint64_t visited_bytes;
};

/* The key at `index` of a node, its str checked. `*is_prefix`: an inner node's without one. */
static evh_status check_key(struct tree_check *check, struct tree_node *node, uint32_t index,
                            struct tree_key *key, bool *is_prefix)
{
    assert(index < node->count);
    assert(key != NULL);
    assert(is_prefix != NULL);
    *key = tree_key_number(tree_keys(node)[index]);
    *is_prefix = false;
    if (!tree_has_bytes(check->head)) return EVH_OK;
    const uint64_t text = tree_texts(check->head, node)[index];
    *is_prefix = text == 0 && node->level > 0;
    if (*is_prefix) return EVH_OK;
    if (collect_check_text(check->heap, text)) return EVH_CORRUPT;
    key->bytes = collect_text(check->heap, text, &key->size);
    if (key->bytes && tree_key_of(key->bytes, key->size).number == key->number) return EVH_OK;
    return collect_corrupt(text, "a key of a tree does not begin as its node says");
}

/* The items of a leaf ascend, also from the ones before. */
static evh_status check_leaf(struct tree_check *check, struct tree_node *leaf)
{
    assert(leaf->level == 0);
    assert(leaf->count > 0);
    for (uint32_t i = 0; i < leaf->count; i++) {
        struct tree_key key;
        bool is_prefix;
        if (check_key(check, leaf, i, &key, &is_prefix)) return EVH_CORRUPT;
        if (check->has_last && tree_compare(&check->last, &key) >= 0)
            return collect_corrupt(collect_offset(check->heap, leaf), "keys do not ascend");
        check->last = key;
        check->has_last = true;
    }
    check->item_count += leaf->count;
    return EVH_OK;
}

/* Before child `index` of an inner node is entered: its key is above all items so far, and not
 * above the first of that child's. */
static evh_status check_separator(struct tree_check *check, struct tree_node *node, uint32_t index)
{
    assert(node->level > 0);
    assert(index < node->count);
    assert(check->has_last);
    struct tree_key key, first;
    bool is_prefix, is_first_prefix;
    struct tree_node *below = node;
    uint32_t place = index;
    if (check_key(check, node, index, &key, &is_prefix)) return EVH_CORRUPT;
    while (below->level > 0) {
        const uint64_t offset = tree_children(check->head, below)[place];
        below = tree_node_at(check->heap, check->head, offset, below->level - 1u);
        if (!below) return EVH_CORRUPT;
        place = 0;
    }
    if (check_key(check, below, 0, &first, &is_first_prefix)) return EVH_CORRUPT;
    const bool is_above =
        is_prefix ? check->last.number < key.number : tree_compare(&check->last, &key) < 0;
    const bool is_below = is_prefix ? first.number >= key.number : tree_compare(&key, &first) <= 0;
    if (is_above && is_below) return EVH_OK;
    return collect_corrupt(collect_offset(check->heap, node), "a key does not divide its children");
}

/* The first key of an inner node, and the keys behind the last one. */
static evh_status check_unused(struct tree_check *check, struct tree_node *node)
{
    assert(node->count > 0);
    assert(node->count <= tree_capacity(check->head, node->level));
    const uint64_t offset = collect_offset(check->heap, node);
    const bool has_text = tree_has_bytes(check->head) && tree_texts(check->head, node)[0];
    if (node->reserved || node->reserved2)
        return collect_corrupt(offset, "the head of a tree's node is not one");
    if (node->level > 0 && (tree_keys(node)[0] || has_text))
        return collect_corrupt(offset, "the first key of an inner node is not 0");
    for (uint32_t i = node->count; i < tree_capacity(check->head, node->level); i++)
        if (tree_keys(node)[i] != TREE_NO_KEY)
            return collect_corrupt(offset, "a key behind the last one");
    return EVH_OK;
}

static evh_status check_nodes(struct tree_check *check)
{
    assert(check->head->root != 0);
    assert(check->item_count == 0);
    const struct collect_tree *const head = check->head;
    struct tree_path *const path = &check->path;
    uint32_t level = head->levels;
    uint64_t offset = head->root;
    for (;;) {
        const uint64_t bytes = tree_node_bytes(head, level);
        if (collect_check_block(check->heap, offset, bytes)) return EVH_CORRUPT;
        struct tree_node *const node = tree_node_at(check->heap, head, offset, level);
        if (!node) return EVH_CORRUPT;
        check->visited_bytes += bytes;
        if (check->visited_bytes > collect_end(check->heap))
            return collect_corrupt(offset, "the nodes of a tree are larger than the heap");
        if (check_unused(check, node)) return EVH_CORRUPT;
        if (level == 0 && check_leaf(check, node)) return EVH_CORRUPT;
        path->nodes[level] = node;
        path->index[level] = 0;
        if (level == 0) {
            do level++;
            while (level <= head->levels && ++path->index[level] >= path->nodes[level]->count);
            if (level > head->levels) return EVH_OK;
            if (check_separator(check, path->nodes[level], path->index[level])) return EVH_CORRUPT;
        }
        offset = tree_children(head, path->nodes[level])[path->index[level]];
        level--;
    }
}

evh_status evh_tree_check(evh_heap *heap, const evh_tree *tree)
{
    if (!heap || !tree) return base_fail(EVH_INVALID, NO_OFFSET, "no tree: it is null");
    if (tree->offset == 0) return EVH_OK;
    const struct collect_tree *const head = tree_head(heap, tree);
    if (!head || collect_check_block(heap, tree->offset, sizeof *head)) return EVH_CORRUPT;
    assert(head->levels <= TREE_LEVELS_MAX);
    assert(tree->offset % 16 == 0);
    struct tree_check check = {.heap = heap, .head = head};
    if (head->root && check_nodes(&check)) return EVH_CORRUPT;
    if (check.item_count != head->count || (head->root == 0 && head->levels) || head->reserved)
        return collect_corrupt(tree->offset, "a tree counts wrongly");
    return EVH_OK;
}
