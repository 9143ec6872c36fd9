/* tree.h -- what the files of the tree share: keys, nodes, the way from the root to a leaf.
 *
 * A B+ tree. Nodes split when they are full and join when two neighbours are together half full, so
 * that neither insertions nor erasures at a boundary make them do so again and again; one that is
 * empty goes. Leaves are not linked: a cursor finds the next one from the root, which costs less
 * than the neighbours' pages that links would dirty. Invariants:
 *
 *  1. All leaves are at level 0, their parents at 1, ..., the root at `levels`.
 *  2. Keys ascend in a node, and lie between the keys of the parent on both sides of it.
 *  3. No node is empty.
 *  4. A str belongs to one key: of a leaf, or of an inner node, which has a copy of its own.
 */
#ifndef EVERHEAP_COLLECT_TREE_H
#define EVERHEAP_COLLECT_TREE_H

#include "collect/collect.h"

/* What is looked for. */
struct tree_key {
    uint64_t number;   /* or the first eight bytes, big-endian, filled up with zeroes */
    const char *bytes; /* NULL: a number */
    size_t size;
};

/* The way to a place in a leaf: nodes from the root on, and in each the index of the next one. */
struct tree_path {
    struct tree_node *nodes[TREE_LEVELS_MAX + 1]; /* by level */
    uint32_t index[TREE_LEVELS_MAX + 1];          /* by level; [0]: of the item */
};

static inline bool tree_has_bytes(const struct collect_tree *head)
{
    assert(head != NULL);
    return head->key_kind == EVH_KEY_BYTES;
}

/* Bytes of a key in a node, of a value, of a whole item. */
static inline uint64_t tree_key_bytes(const struct collect_tree *head)
{
    assert(head != NULL);
    return tree_has_bytes(head) ? 16 : 8;
}

static inline uint64_t tree_value_bytes(const struct collect_tree *head)
{
    assert(head->value_size <= EVH_ITEM_SIZE_MAX);
    return base_round_up(head->value_size, 8);
}

static inline uint32_t tree_capacity(const struct collect_tree *head, uint32_t level)
{
    assert(level <= TREE_LEVELS_MAX + 1);
    const uint32_t inner = tree_has_bytes(head) ? TREE_INNER_BYTES : TREE_INNER_NUMBERS;
    return level > 0 ? inner : head->leaf_capacity;
}

static inline uint64_t tree_node_bytes(const struct collect_tree *head, uint32_t level)
{
    assert(head != NULL);
    assert(level <= TREE_LEVELS_MAX + 1);
    const uint64_t rest = level > 0 ? 8 : tree_value_bytes(head);
    return sizeof(struct tree_node) + tree_capacity(head, level) * (tree_key_bytes(head) + rest);
}

static inline uint64_t *tree_keys(struct tree_node *node)
{
    assert(node != NULL);
    return (uint64_t *)(void *)(node + 1);
}

/* Of a tree of bytes. */
static inline uint64_t *tree_texts(const struct collect_tree *head, struct tree_node *node)
{
    assert(node != NULL);
    assert(tree_has_bytes(head));
    return tree_keys(node) + tree_capacity(head, node->level);
}

static inline unsigned char *tree_value(const struct collect_tree *head, struct tree_node *node,
                                        uint64_t index)
{
    assert(index < tree_capacity(head, 0) + 1u);
    assert(node->level == 0);
    return (unsigned char *)(node + 1) + tree_capacity(head, 0) * tree_key_bytes(head) +
           index * tree_value_bytes(head);
}

static inline uint64_t *tree_children(const struct collect_tree *head, struct tree_node *node)
{
    assert(head != NULL);
    assert(node->level > 0);
    return tree_keys(node) + tree_capacity(head, node->level) * (tree_key_bytes(head) / 8);
}

static inline uint32_t tree_word(uint32_t level)
{
    assert(level <= TREE_LEVELS_MAX);
    return level > 0 ? COLLECT_WORD(COLLECT_TREE_INNER, 1) : COLLECT_WORD(COLLECT_TREE_LEAF, 1);
}

/** The node at `offset`, which must be of `level`, its head checked; NULL and EVH_CORRUPT. */
static inline struct tree_node *tree_node_at(const evh_heap *heap, const struct collect_tree *head,
                                             uint64_t offset, uint32_t level)
{
    assert(heap != NULL);
    assert(level <= TREE_LEVELS_MAX);
    struct tree_node *const node =
        collect_find(heap, offset, tree_node_bytes(head, level), tree_word(level));
    if (UNLIKELY(!node)) return NULL;
    if (LIKELY(node->level == level && node->count - 1u < tree_capacity(head, level))) return node;
    (void)collect_corrupt(offset, "the head of a tree's node is not one");
    return NULL;
}

/** The tree's head, its sizes checked; NULL for an empty or damaged one. */
static inline struct collect_tree *tree_head(const evh_heap *heap, const evh_tree *tree)
{
    if (!tree || tree->offset == 0) return NULL;
    struct collect_tree *const head =
        collect_find(heap, tree->offset, sizeof *head, COLLECT_WORD(COLLECT_TREE, 1));
    if (UNLIKELY(!head)) return NULL;
    assert(heap != NULL);
    assert(tree->offset % 16 == 0);
    const bool is_kind = head->key_kind == EVH_KEY_NUMBER || head->key_kind == EVH_KEY_BYTES;
    if (LIKELY(is_kind && head->value_size <= EVH_ITEM_SIZE_MAX && head->leaf_capacity % 8 == 7 &&
               head->leaf_capacity < TREE_NODE_BYTES / 8 && head->levels <= TREE_LEVELS_MAX))
        return head;
    (void)collect_corrupt(tree->offset, "the head of a tree is not one");
    return NULL;
}

/** A key of bytes; of a number. */
EVH_INTERNAL struct tree_key tree_key_of(const void *bytes, size_t size);
static inline struct tree_key tree_key_number(uint64_t number)
{
    return (struct tree_key){.number = number};
}

/** The key of an item in a leaf. Damage gives one without bytes, and EVH_CORRUPT. */
static inline struct tree_key tree_item_key(const evh_heap *heap, const struct collect_tree *head,
                                            struct tree_node *leaf, uint64_t index)
{
    assert(leaf->level == 0);
    assert(index < leaf->count);
    struct tree_key key = {.number = tree_keys(leaf)[index]};
    if (tree_has_bytes(head))
        key.bytes = collect_text(heap, tree_texts(head, leaf)[index], &key.size);
    return key;
}

/** Below, equal to or above 0. */
EVH_INTERNAL int tree_compare(const struct tree_key *first, const struct tree_key *second);

/**
 * The way to the first item of the right leaf that is not below `key`: its index may be the leaf's
 * count. `*is_there` tells whether that item has the key. False if the tree has no root or is
 * damaged.
 */
EVH_INTERNAL bool tree_find(const evh_heap *heap, const struct collect_tree *head,
                            const struct tree_key *key, struct tree_path *path, bool *is_there);

/** The way to the first or last item of the tree. */
EVH_INTERNAL bool tree_find_end(const evh_heap *heap, const struct collect_tree *head, bool is_last,
                                struct tree_path *path);

/** Move to the first item of the next leaf, or the last of the one before. False if there is none,
 *  or for damage. */
EVH_INTERNAL bool tree_step(const evh_heap *heap, const struct collect_tree *head, bool is_back,
                            struct tree_path *path);

/** Free a node's block and, of a tree of bytes, its keys. */
EVH_INTERNAL evh_status tree_free_node(evh_heap *heap, const struct collect_tree *head,
                                       struct tree_node *node);

#endif
