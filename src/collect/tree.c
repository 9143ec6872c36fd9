/* tree.c -- putting, getting and erasing: splits and joins.
 *
 * A put that splits makes all nodes that it needs before it changes one, from the leaf up to the
 * first node that is not full, and the str that goes into their parents: so it fails as a whole.
 */
#include "collect/tree.h"

/* ---- heads ---- */

static struct collect_tree *tree_make(evh_heap *heap, evh_tree *tree, evh_key_kind key_kind,
                                      size_t value_size)
{
    assert(heap != NULL);
    assert(value_size <= EVH_ITEM_SIZE_MAX);
    assert(tree->offset == 0);
    struct collect_tree *const head = evh_calloc(heap, 1, sizeof *head);
    if (!head) return NULL;
    *head = (struct collect_tree){.word = COLLECT_WORD(COLLECT_TREE, 1),
                                  .key_kind = key_kind,
                                  .value_size = (uint32_t)value_size};
    const uint64_t item_bytes = tree_key_bytes(head) + tree_value_bytes(head);
    const uint64_t fit = (TREE_NODE_BYTES - sizeof(struct tree_node)) / item_bytes;
    head->leaf_capacity = (uint16_t)(base_max((fit + 1) / 8 * 8, 8) - 1);
    tree->offset = collect_offset(heap, head);
    assert(head->leaf_capacity >= TREE_LEAF_ITEMS_MIN);
    assert(tree_head(heap, tree) == head);
    return head;
}

/* The head of a tree of this kind: NULL and EVH_INVALID for another. */
static struct collect_tree *tree_head_of(const evh_heap *heap, const evh_tree *tree,
                                         evh_key_kind key_kind)
{
    assert(key_kind == EVH_KEY_NUMBER || key_kind == EVH_KEY_BYTES);
    struct collect_tree *const head = tree_head(heap, tree);
    if (head) assert(heap != NULL);
    if (!head || head->key_kind == (uint32_t)key_kind) return head;
    (void)base_fail(EVH_INVALID, tree->offset, "a tree's keys are of another kind");
    return NULL;
}

/* The head for a put: made if there is none. */
static struct collect_tree *tree_change(evh_heap *heap, evh_tree *tree, evh_key_kind key_kind,
                                        size_t value_size)
{
    assert(key_kind == EVH_KEY_NUMBER || key_kind == EVH_KEY_BYTES);
    if (collect_writable(heap, tree)) return NULL;
    if (value_size > EVH_ITEM_SIZE_MAX) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "a value of %zu bytes is too large", value_size);
        return NULL;
    }
    assert(heap != NULL);
    if (tree->offset == 0) return tree_make(heap, tree, key_kind, value_size);
    struct collect_tree *const head = tree_head_of(heap, tree, key_kind);
    if (!head || head->value_size == value_size) return head;
    (void)base_fail(EVH_INVALID, tree->offset, "a tree's values have %u bytes, not %zu",
                    head->value_size, value_size);
    return NULL;
}

/* ---- nodes ---- */

static struct tree_node *tree_new_node(evh_heap *heap, const struct collect_tree *head,
                                       uint32_t level)
{
    assert(heap != NULL);
    assert(level <= TREE_LEVELS_MAX);
    struct tree_node *const node = evh_malloc(heap, tree_node_bytes(head, level));
    if (!node) return NULL;
    *node = (struct tree_node){.word = tree_word(level), .level = (uint8_t)level};
    memset(tree_keys(node), 0xff, 8 * (size_t)tree_capacity(head, level));
    assert(tree_keys(node)[0] == TREE_NO_KEY);
    return node;
}

/* The node has `count` entries: what is behind them is no key. */
static void tree_set_count(struct tree_node *node, uint64_t count)
{
    assert(node != NULL);
    assert(count <= node->count);
    for (uint64_t i = count; i < node->count; i++) tree_keys(node)[i] = TREE_NO_KEY;
    node->count = (uint16_t)count;
}

/* The first key of an inner node is 0, without a str. */
static void tree_set_first(const struct collect_tree *head, struct tree_node *node)
{
    assert(head != NULL);
    assert(node->level > 0);
    tree_keys(node)[0] = 0;
    if (tree_has_bytes(head)) tree_texts(head, node)[0] = 0;
}

evh_status tree_free_node(evh_heap *heap, const struct collect_tree *head, struct tree_node *node)
{
    assert(heap != NULL);
    assert(node != NULL);
    evh_status status = EVH_OK;
    for (uint32_t i = 0; tree_has_bytes(head) && i < node->count; i++)
        if (collect_free(heap, tree_texts(head, node)[i])) status = EVH_CORRUPT;
    if (collect_free(heap, collect_offset(heap, node))) status = EVH_CORRUPT;
    return status;
}

/* Move `count` keys, texts and values or children from `from` of one node to `to` of another, or of
 * the same. Counts stay. */
static void tree_move(const struct collect_tree *head, struct tree_node *target, uint64_t to,
                      struct tree_node *source, uint64_t from, uint64_t count)
{
    assert(from + count <= tree_capacity(head, source->level));
    assert(target->level == source->level);
    assert(to + count <= tree_capacity(head, target->level));
    memmove(tree_keys(target) + to, tree_keys(source) + from, 8 * count);
    if (tree_has_bytes(head))
        memmove(tree_texts(head, target) + to, tree_texts(head, source) + from, 8 * count);
    if (target->level > 0)
        memmove(tree_children(head, target) + to, tree_children(head, source) + from, 8 * count);
    else
        memmove(tree_value(head, target, to), tree_value(head, source, from),
                count * tree_value_bytes(head));
}

/* What goes into a node: the key and, of a leaf, no child. */
struct tree_entry {
    uint64_t number;
    uint64_t text;
    uint64_t child;
};

/* Insert an entry into a node that has room. The value of a leaf is zeroed. */
static void tree_insert(const struct collect_tree *head, struct tree_node *node, uint64_t index,
                        const struct tree_entry *entry)
{
    assert(index <= node->count);
    assert(node->count < tree_capacity(head, node->level));
    tree_move(head, node, index + 1, node, index, node->count - index);
    tree_keys(node)[index] = entry->number;
    if (tree_has_bytes(head)) tree_texts(head, node)[index] = entry->text;
    if (node->level > 0)
        tree_children(head, node)[index] = entry->child;
    else
        memset(tree_value(head, node, index), 0, tree_value_bytes(head));
    node->count++;
    assert(node->count <= tree_capacity(head, node->level));
}

static void tree_remove(const struct collect_tree *head, struct tree_node *node, uint64_t index)
{
    assert(index < node->count);
    assert(node->count <= tree_capacity(head, node->level));
    tree_move(head, node, index, node, index + 1, node->count - index - 1u);
    tree_set_count(node, node->count - 1u);
}

/* ---- splitting ---- */

/* What a split needs, made before anything changes. */
struct tree_split {
    struct tree_node *made[TREE_LEVELS_MAX + 1]; /* by level: the new right neighbour */
    struct tree_node *root;                      /* a new root; NULL: none needed */
    uint64_t text;                               /* the key's own str, if it has bytes */
    uint64_t separator;                          /* the number that separates the leaves */
    uint64_t separator_text;
    uint32_t kept; /* items that the left leaf has afterwards */
    bool is_last;  /* the new key is the last of all: left neighbours stay full */
};

static void tree_split_undo(evh_heap *heap, const struct tree_split *split)
{
    assert(heap != NULL);
    assert(split != NULL);
    for (uint32_t level = 0; level <= TREE_LEVELS_MAX; level++) evh_free(heap, split->made[level]);
    evh_free(heap, split->root);
    if (split->text) evh_free(heap, heap->view.base + split->text);
    if (split->separator_text) evh_free(heap, heap->view.base + split->separator_text);
}

/* Whether the path leads to the end of the tree: then keys may be ascending. */
static bool path_is_last(const struct collect_tree *head, const struct tree_path *path)
{
    assert(head->levels <= TREE_LEVELS_MAX);
    assert(path->nodes[0]->level == 0);
    for (uint32_t level = 1; level <= head->levels; level++)
        if (path->index[level] + 1u < path->nodes[level]->count) return false;
    return path->index[0] == path->nodes[0]->count;
}

/* Item `index` of the leaf as it will be with the new key. */
static struct tree_key tree_split_item(const evh_heap *heap, const struct collect_tree *head,
                                       const struct tree_path *path, const struct tree_key *key,
                                       uint32_t index)
{
    assert(key != NULL);
    assert(index <= path->nodes[0]->count);
    if (index == path->index[0]) return *key;
    return tree_item_key(heap, head, path->nodes[0], index - (index > path->index[0]));
}

/*
 * What separates the leaves: as little as does it. The numbers if they differ; else the part of the
 * right one's bytes up to the first that differs from the left one's (prefix truncation, Bayer and
 * Unterauer 1977), in a str of its own.
 */
static bool tree_split_separator(evh_heap *heap, const struct collect_tree *head,
                                 const struct tree_path *path, const struct tree_key *key,
                                 struct tree_split *split)
{
    assert(split->kept > 0);
    assert(split->kept <= path->nodes[0]->count);
    const struct tree_key left = tree_split_item(heap, head, path, key, split->kept - 1);
    const struct tree_key right = tree_split_item(heap, head, path, key, split->kept);
    split->separator = right.number;
    if (!tree_has_bytes(head) || left.number != right.number) return true;
    if (!left.bytes || !right.bytes) return false;
    size_t common = 0;
    while (common < left.size && common < right.size && left.bytes[common] == right.bytes[common])
        common++;
    const size_t size = common < right.size ? common + 1 : right.size;
    assert(size <= right.size);
    assert(common <= left.size);
    split->separator_text = collect_new_text(heap, right.bytes, size);
    return split->separator_text != 0;
}

/* Make what the put of `key` at the path's end needs. False: nothing was made. */
static bool tree_split_prepare(evh_heap *heap, const struct collect_tree *head,
                               const struct tree_path *path, const struct tree_key *key,
                               struct tree_split *split)
{
    assert(head->root != 0);
    assert(head->levels <= TREE_LEVELS_MAX);
    *split = (struct tree_split){0};
    uint32_t level = 0;
    bool is_made = true;
    for (; level <= head->levels && is_made; level++) {
        if (path->nodes[level]->count < tree_capacity(head, level)) break;
        split->made[level] = tree_new_node(heap, head, level);
        is_made = split->made[level] != NULL;
    }
    if (is_made && level > head->levels) {
        if (head->levels == TREE_LEVELS_MAX)
            (void)base_fail(EVH_LIMIT, NO_OFFSET, "a tree has too many levels");
        else
            split->root = tree_new_node(heap, head, head->levels + 1u);
        is_made = split->root != NULL;
    }
    if (is_made && split->made[0]) {
        const uint32_t count = path->nodes[0]->count;
        split->is_last = path_is_last(head, path);
        split->kept = split->is_last ? count : (count + 1) / 2;
        is_made = tree_split_separator(heap, head, path, key, split);
    }
    if (is_made && key->bytes) {
        split->text = collect_new_text(heap, key->bytes, key->size);
        is_made = split->text != 0;
    }
    if (split->made[0] && is_made) assert(split->kept > 0);
    if (split->root && is_made) assert(split->made[head->levels] != NULL);
    if (!is_made) tree_split_undo(heap, split);
    return is_made;
}

/* Divide a full node and the new entry at `index` between it and its new neighbour: `kept` stay.
 * Returns the node that has the entry, and in `*index` where. */
static struct tree_node *tree_split_node(const struct collect_tree *head, struct tree_node *node,
                                         struct tree_node *made, uint32_t kept, uint32_t *index,
                                         const struct tree_entry *entry)
{
    assert(made->count == 0);
    assert(made->level == node->level);
    const bool is_left = *index < kept;
    const uint32_t from = kept - is_left;
    assert(kept > 0);
    assert(from <= node->count);
    tree_move(head, made, 0, node, from, node->count - from);
    made->count = (uint16_t)(node->count - from);
    tree_set_count(node, from);
    if (!is_left) *index -= kept;
    struct tree_node *const target = is_left ? node : made;
    tree_insert(head, target, *index, entry);
    assert(node->count == kept);
    assert(made->count > 0);
    return target;
}

/* Put the new neighbour of the node at `level - 1` into its parent, and so on up. */
static void tree_split_parents(evh_heap *heap, struct collect_tree *head, struct tree_path *path,
                               const struct tree_split *split)
{
    assert(split->made[0] != NULL);
    assert(head->root != 0);
    struct tree_entry entry = {split->separator, split->separator_text,
                               collect_offset(heap, split->made[0])};
    for (uint32_t level = 1; level <= head->levels; level++) {
        struct tree_node *const node = path->nodes[level];
        struct tree_node *const made = split->made[level];
        uint32_t index = path->index[level] + 1;
        if (!made) {
            tree_insert(head, node, index, &entry);
            return;
        }
        const uint32_t kept = split->is_last ? node->count : (node->count + 1u) / 2;
        (void)tree_split_node(head, node, made, kept, &index, &entry);
        /* The first key of the neighbour goes up. */
        entry = (struct tree_entry){tree_keys(made)[0], 0, collect_offset(heap, made)};
        if (tree_has_bytes(head)) entry.text = tree_texts(head, made)[0];
        tree_set_first(head, made);
    }
    const struct tree_entry first = {.child = head->root};
    assert(split->root != NULL);
    assert(head->levels < TREE_LEVELS_MAX);
    tree_insert(head, split->root, 0, &first);
    tree_insert(head, split->root, 1, &entry);
    head->root = collect_offset(heap, split->root);
    head->levels++;
}

/* ---- put ---- */

static bool tree_make_root(evh_heap *heap, struct collect_tree *head)
{
    assert(heap != NULL);
    assert(head->root == 0);
    struct tree_node *const leaf = tree_new_node(heap, head, 0);
    if (!leaf) return false;
    head->root = collect_offset(heap, leaf);
    head->levels = 0;
    return true;
}

/* The value of a new key at the end of the path. */
static void *tree_add(evh_heap *heap, struct collect_tree *head, struct tree_path *path,
                      const struct tree_key *key)
{
    assert(path->nodes[0]->level == 0);
    assert(path->index[0] <= path->nodes[0]->count);
    struct tree_split split;
    if (!tree_split_prepare(heap, head, path, key, &split)) return NULL;
    const struct tree_entry entry = {.number = key->number, .text = split.text};
    struct tree_node *leaf = path->nodes[0];
    uint32_t index = path->index[0];
    if (split.made[0]) {
        leaf = tree_split_node(head, leaf, split.made[0], split.kept, &index, &entry);
        tree_split_parents(heap, head, path, &split);
    } else {
        tree_insert(head, leaf, index, &entry);
    }
    head->count++;
    head->changes++;
    assert(index < leaf->count);
    assert(tree_keys(leaf)[index] == key->number);
    return tree_value(head, leaf, index);
}

/* The first key of all: a leaf and, if need be, its str. */
static void *tree_add_first(evh_heap *heap, struct collect_tree *head, const struct tree_key *key)
{
    assert(head->root == 0);
    assert((key->bytes != NULL) == tree_has_bytes(head));
    uint64_t text = 0;
    if (key->bytes) text = collect_new_text(heap, key->bytes, key->size);
    if (key->bytes && text == 0) return NULL;
    if (!tree_make_root(heap, head)) {
        if (text) evh_free(heap, heap->view.base + text);
        return NULL;
    }
    struct tree_node *const leaf = (struct tree_node *)(void *)(heap->view.base + head->root);
    const struct tree_entry entry = {.number = key->number, .text = text};
    tree_insert(head, leaf, 0, &entry);
    head->count++;
    head->changes++;
    assert(leaf->count == 1);
    assert(tree_keys(leaf)[0] == key->number);
    return tree_value(head, leaf, 0);
}

static void *tree_put(evh_heap *heap, evh_tree *tree, const struct tree_key *key, size_t value_size)
{
    assert(key != NULL);
    struct tree_path path;
    bool is_there;
    const evh_key_kind key_kind = key->bytes ? EVH_KEY_BYTES : EVH_KEY_NUMBER;
    struct collect_tree *const head = tree_change(heap, tree, key_kind, value_size);
    if (!head) return NULL;
    if (head->root == 0) return tree_add_first(heap, head, key);
    if (!tree_find(heap, head, key, &path, &is_there)) return NULL;
    assert(path.nodes[0]->level == 0);
    if (is_there) return tree_value(head, path.nodes[0], path.index[0]);
    return tree_add(heap, head, &path, key);
}

static bool tree_is_key(const void *key, size_t size)
{
    if (key || size == 0) return true;
    assert(key == NULL);
    assert(size > 0);
    (void)base_fail(EVH_INVALID, NO_OFFSET, "no bytes for a key: they are null");
    return false;
}

void *evh_tree_put(evh_heap *heap, evh_tree *tree, uint64_t key, size_t value_size)
{
    const struct tree_key wanted = tree_key_number(key);
    return tree_put(heap, tree, &wanted, value_size);
}

void *evh_tree_put_bytes(evh_heap *heap, evh_tree *tree, const void *key, size_t size,
                         size_t value_size)
{
    if (!tree_is_key(key, size)) return NULL;
    const struct tree_key wanted = tree_key_of(key, size);
    return tree_put(heap, tree, &wanted, value_size);
}

/* ---- get ---- */

static void *tree_get(const evh_heap *heap, const evh_tree *tree, const struct tree_key *key)
{
    assert(key != NULL);
    struct tree_path path;
    bool is_there;
    const evh_key_kind key_kind = key->bytes ? EVH_KEY_BYTES : EVH_KEY_NUMBER;
    const struct collect_tree *const head = tree_head_of(heap, tree, key_kind);
    if (!head || !tree_find(heap, head, key, &path, &is_there) || !is_there) return NULL;
    assert(path.index[0] < path.nodes[0]->count);
    return tree_value(head, path.nodes[0], path.index[0]);
}

void *evh_tree_get(const evh_heap *heap, const evh_tree *tree, uint64_t key)
{
    const struct tree_key wanted = tree_key_number(key);
    return tree_get(heap, tree, &wanted);
}

void *evh_tree_get_bytes(const evh_heap *heap, const evh_tree *tree, const void *key, size_t size)
{
    if (!tree_is_key(key, size)) return NULL;
    const struct tree_key wanted = tree_key_of(key, size);
    return tree_get(heap, tree, &wanted);
}

/* ---- erase ---- */

/* Take child `index` out of its parent, and its key: of the first child, the next one's. */
static evh_status erase_child(evh_heap *heap, const struct collect_tree *head,
                              struct tree_node *parent, uint32_t index)
{
    assert(parent->level > 0);
    assert(index < parent->count);
    const uint32_t key = index == 0 && parent->count > 1 ? 1 : index;
    const uint64_t freed = tree_has_bytes(head) ? tree_texts(head, parent)[key] : 0;
    assert(key < parent->count);
    tree_remove(head, parent, index);
    if (index == 0 && parent->count > 0) tree_set_first(head, parent);
    return collect_free(heap, freed);
}

/* Join child `index` of the parent with the one behind it, if both are there and together half full
 * at most. `*is_joined`. */
static evh_status erase_join(evh_heap *heap, const struct collect_tree *head,
                             struct tree_node *parent, uint32_t index, bool *is_joined)
{
    assert(parent->level > 0);
    assert(is_joined != NULL);
    *is_joined = false;
    if (index + 1u >= parent->count) return EVH_OK;
    const uint64_t *const children = tree_children(head, parent);
    const uint32_t level = parent->level - 1u;
    struct tree_node *const left = tree_node_at(heap, head, children[index], level);
    struct tree_node *const right = tree_node_at(heap, head, children[index + 1], level);
    if (!left || !right) return EVH_CORRUPT;
    const uint32_t total = (uint32_t)left->count + right->count;
    if (total > tree_capacity(head, level) / 2 || left == right) return EVH_OK;
    if (collect_check_block(heap, children[index], tree_node_bytes(head, level)))
        return EVH_CORRUPT;

    assert(total <= tree_capacity(head, level));
    tree_move(head, left, left->count, right, 0, right->count);
    if (level > 0) { /* what separated the two separates their children now */
        tree_keys(left)[left->count] = tree_keys(parent)[index + 1];
        if (tree_has_bytes(head)) {
            tree_texts(head, left)[left->count] = tree_texts(head, parent)[index + 1];
            tree_texts(head, parent)[index + 1] = 0;
        }
    }
    left->count = (uint16_t)total;
    assert(left != right);
    assert(left->level == level);
    *is_joined = true;
    const uint64_t freed = children[index + 1];
    const evh_status status = erase_child(heap, head, parent, index + 1);
    return status ? status : collect_free(heap, freed);
}

/* While the root is an inner node with one child, that child is the root. */
static evh_status erase_root(evh_heap *heap, struct collect_tree *head)
{
    assert(heap != NULL);
    assert(head->root != 0);
    while (head->levels > 0) {
        struct tree_node *const root = tree_node_at(heap, head, head->root, head->levels);
        if (!root) return EVH_CORRUPT;
        if (root->count > 1) return EVH_OK;
        assert(root->count == 1);
        assert(root->level == head->levels);
        const uint64_t child = tree_children(head, root)[0];
        if (collect_free(heap, head->root)) return EVH_CORRUPT;
        head->root = child;
        head->levels--;
    }
    return EVH_OK;
}

/* After an item went: nodes that are empty go, such as are small are joined with a neighbour. */
static evh_status erase_balance(evh_heap *heap, struct collect_tree *head,
                                const struct tree_path *path)
{
    assert(head->root != 0);
    assert(path->nodes[0]->level == 0);
    for (uint32_t level = 0; level < head->levels; level++) {
        struct tree_node *const node = path->nodes[level];
        struct tree_node *const parent = path->nodes[level + 1];
        const uint32_t index = path->index[level + 1];
        evh_status status = EVH_OK;
        bool is_joined = false;
        if (node->count == 0) {
            status = collect_free(heap, collect_offset(heap, node));
            if (!status) status = erase_child(heap, head, parent, index);
        } else if (node->count > tree_capacity(head, level) / 4) {
            return EVH_OK;
        } else {
            status = erase_join(heap, head, parent, index, &is_joined);
            if (!status && !is_joined && index > 0)
                status = erase_join(heap, head, parent, index - 1, &is_joined);
            if (!status && !is_joined) return EVH_OK;
        }
        if (status) return status;
    }
    if (path->nodes[head->levels]->count > 0) return erase_root(heap, head);
    const uint64_t freed = head->root; /* the last item went */
    head->root = 0;
    head->levels = 0;
    return collect_free(heap, freed);
}

static bool tree_erase(evh_heap *heap, evh_tree *tree, const struct tree_key *key)
{
    assert(key != NULL);
    struct tree_path path;
    bool is_there;
    if (collect_writable(heap, tree)) return false;
    const evh_key_kind key_kind = key->bytes ? EVH_KEY_BYTES : EVH_KEY_NUMBER;
    struct collect_tree *const head = tree_head_of(heap, tree, key_kind);
    if (!head || !tree_find(heap, head, key, &path, &is_there) || !is_there) return false;
    assert(path.index[0] < path.nodes[0]->count);
    assert(head->root != 0);
    struct tree_node *const leaf = path.nodes[0];
    uint64_t text = 0;
    if (key->bytes) text = tree_texts(head, leaf)[path.index[0]];
    if (text && collect_block_bytes(heap, text) == 0) return false;
    tree_remove(head, leaf, path.index[0]);
    head->count--;
    head->changes++;
    const evh_status status = collect_free(heap, text);
    return erase_balance(heap, head, &path) == EVH_OK && status == EVH_OK;
}

bool evh_tree_erase(evh_heap *heap, evh_tree *tree, uint64_t key)
{
    const struct tree_key wanted = tree_key_number(key);
    return tree_erase(heap, tree, &wanted);
}

bool evh_tree_erase_bytes(evh_heap *heap, evh_tree *tree, const void *key, size_t size)
{
    if (!tree_is_key(key, size)) return false;
    const struct tree_key wanted = tree_key_of(key, size);
    return tree_erase(heap, tree, &wanted);
}

/* ---- the whole tree ---- */

uint64_t evh_tree_count(const evh_heap *heap, const evh_tree *tree)
{
    const struct collect_tree *const head = tree_head(heap, tree);
    if (head) assert(heap != NULL);
    if (head) assert(head->key_kind != EVH_KEY_NONE);
    return head ? head->count : 0;
}

evh_key_kind evh_tree_key_kind(const evh_heap *heap, const evh_tree *tree)
{
    const struct collect_tree *const head = tree_head(heap, tree);
    if (head) assert(head->key_kind != EVH_KEY_NONE);
    if (head) assert(head->key_kind <= EVH_KEY_BYTES);
    return head ? (evh_key_kind)head->key_kind : EVH_KEY_NONE;
}

size_t evh_tree_value_size(const evh_heap *heap, const evh_tree *tree)
{
    const struct collect_tree *const head = tree_head(heap, tree);
    if (head) assert(head->value_size <= EVH_ITEM_SIZE_MAX);
    if (head) assert(head->leaf_capacity >= TREE_LEAF_ITEMS_MIN);
    return head ? head->value_size : 0;
}
