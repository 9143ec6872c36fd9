/* tree_cursor.c -- stepping through a tree that may change meanwhile.
 *
 * A cursor stands before an item, in a leaf that it knows, or at the end. That holds as long as
 * the tree does not change (its head counts changes); then the cursor finds its place again by the
 * key of its anchor. The item that was stepped over may be erased, so the anchor is the neighbour
 * on the other side: after a step forwards the item behind the cursor, after a step back the one
 * before it.
 */
#include "collect/tree.h"

enum cursor_flag {
    CURSOR_END = 1,   /* at the end; no leaf */
    CURSOR_BEGIN = 2, /* at the beginning; no anchor */
    CURSOR_AFTER = 4, /* the anchor is the item before the cursor */
};

/*
 * The fields of evh_tree_place:
 *
 *   leaf      ref of the leaf of the item behind the cursor; index, in that leaf
 *   changes   the tree's count of changes when that was so, plus 1; 0: never placed
 *   number    the anchor's key, or its first bytes; text, ref of its str, if it has bytes
 *   visited   steps to other leaves since the tree changed or the cursor turned: bounds them
 *   flags     enum cursor_flag
 */

/* ---- places and anchors ---- */

static inline void cursor_set_anchor(const struct collect_tree *head, struct tree_node *leaf,
                                     uint32_t index, evh_tree_place *place)
{
    assert(leaf->level == 0);
    assert(index < leaf->count);
    place->number = tree_keys(leaf)[index];
    place->text = tree_has_bytes(head) ? tree_texts(head, leaf)[index] : 0;
}

/* Stand before the item at the end of the path, or at the end of the tree if there is no path. The
 * anchor is that item. */
static void cursor_stand(const evh_heap *heap, const struct collect_tree *head,
                         const struct tree_path *path, evh_tree_place *place)
{
    assert(heap != NULL);
    assert(place != NULL);
    const uint64_t visited = place->visited;
    *place = (evh_tree_place){.changes = head->changes + 1, .visited = visited};
    if (!path) {
        place->flags = CURSOR_END;
        return;
    }
    assert(path->index[0] < path->nodes[0]->count);
    place->leaf = collect_offset(heap, path->nodes[0]);
    place->index = path->index[0];
    cursor_set_anchor(head, path->nodes[0], place->index, place);
}

/* Stand before the first item that is not below `key`; with `is_after`, not equal either. */
static void cursor_seek(const evh_heap *heap, const struct collect_tree *head,
                        const struct tree_key *key, bool is_after, evh_tree_place *place)
{
    assert((key->bytes != NULL) == tree_has_bytes(head));
    assert(place != NULL);
    struct tree_path path;
    bool is_there;
    bool is_found = tree_find(heap, head, key, &path, &is_there);
    if (is_found && is_there && is_after) path.index[0]++;
    if (is_found && path.index[0] >= path.nodes[0]->count)
        is_found = tree_step(heap, head, false, &path);
    cursor_stand(heap, head, is_found ? &path : NULL, place);
}

/* The tree has changed: find the place again. */
static __attribute__((noinline)) void cursor_find_again(const evh_heap *heap,
                                                        const struct collect_tree *head,
                                                        evh_tree_place *place)
{
    assert(heap != NULL);
    assert(place->changes != head->changes + 1);
    struct tree_path path;
    struct tree_key key = tree_key_number(place->number);
    place->visited = 0;
    if (place->flags & CURSOR_END) {
        cursor_stand(heap, head, NULL, place);
        return;
    }
    if (place->changes == 0 || place->flags & CURSOR_BEGIN) {
        cursor_stand(heap, head, tree_find_end(heap, head, false, &path) ? &path : NULL, place);
        return;
    }
    if (tree_has_bytes(head)) key.bytes = collect_text(heap, place->text, &key.size);
    if (key.bytes || !tree_has_bytes(head))
        cursor_seek(heap, head, &key, place->flags & CURSOR_AFTER, place);
    else
        cursor_stand(heap, head, NULL, place);
}

/* The leaf of the item behind the cursor; NULL at the end. */
static inline struct tree_node *cursor_leaf(const evh_heap *heap, const struct collect_tree *head,
                                            evh_tree_place *place)
{
    assert(heap != NULL);
    assert(place != NULL);
    if (place->changes != head->changes + 1) cursor_find_again(heap, head, place);
    if (place->flags & CURSOR_END) return NULL;
    struct tree_node *const leaf = tree_node_at(heap, head, place->leaf, 0);
    return leaf && place->index < leaf->count ? leaf : NULL;
}

/* The way to the first item of the next leaf, or to the last of the one before. Leaves that are
 * visited more often than the heap has room for are those of a damaged tree, which leads to them
 * again and again; a cursor that goes back asks twice for each. */
static bool cursor_other_leaf(const evh_heap *heap, const struct collect_tree *head,
                              struct tree_node *leaf, bool is_back, evh_tree_place *place,
                              struct tree_path *path)
{
    assert(leaf->count > 0);
    assert(path != NULL);
    bool is_there;
    const struct tree_key key = tree_item_key(heap, head, leaf, 0);
    if (tree_has_bytes(head) && !key.bytes) return false;
    if (++place->visited * tree_node_bytes(head, 0) / 2 > collect_end(heap)) {
        (void)collect_corrupt(place->leaf, "a tree has more leaves than the heap has room for");
        return false;
    }
    return tree_find(heap, head, &key, path, &is_there) && tree_step(heap, head, is_back, path);
}

/* Show the caller the item at `index`. */
static inline bool cursor_show(const evh_heap *heap, const struct collect_tree *head,
                               struct tree_node *leaf, uint32_t index, evh_tree_cursor *cursor)
{
    assert(index < leaf->count);
    assert(cursor != NULL);
    const struct tree_key key = tree_item_key(heap, head, leaf, index);
    cursor->key = key.number;
    cursor->bytes = key.bytes;
    cursor->size = key.size;
    cursor->value = tree_value(head, leaf, index);
    return key.bytes || !tree_has_bytes(head);
}

/* ---- steps ---- */

bool evh_tree_next(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor)
{
    const struct collect_tree *const head = tree_head(heap, tree);
    if (!head || !cursor) return false;
    evh_tree_place *const place = &cursor->place;
    if (place->flags & (CURSOR_AFTER | CURSOR_BEGIN)) place->visited = 0; /* it turns */
    struct tree_node *const leaf = cursor_leaf(heap, head, place);
    const bool is_shown = leaf && cursor_show(heap, head, leaf, place->index, cursor);
    if (is_shown) assert(place->index < leaf->count);
    if (is_shown) assert(cursor->value != NULL);
    if (is_shown && ++place->index < leaf->count) {
        cursor_set_anchor(head, leaf, place->index, place);
        place->flags = 0;
    } else if (is_shown) {
        struct tree_path path;
        const bool is_found = cursor_other_leaf(heap, head, leaf, false, place, &path);
        cursor_stand(heap, head, is_found ? &path : NULL, place);
    }
    return is_shown;
}

/* Move back over one item, and return its leaf. NULL at the beginning. */
static struct tree_node *cursor_back(const evh_heap *heap, const struct collect_tree *head,
                                     evh_tree_place *place)
{
    assert(heap != NULL);
    assert(place != NULL);
    struct tree_path path;
    struct tree_node *const leaf = cursor_leaf(heap, head, place);
    if (leaf && place->index > 0) {
        place->index--;
        return leaf;
    }
    const bool is_found = leaf
                              ? cursor_other_leaf(heap, head, leaf, true, place, &path)
                              : place->flags & CURSOR_END && tree_find_end(heap, head, true, &path);
    if (!is_found) return NULL;
    cursor_stand(heap, head, &path, place);
    return path.nodes[0];
}

bool evh_tree_previous(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor)
{
    const struct collect_tree *const head = tree_head(heap, tree);
    if (!head || !cursor) return false;
    evh_tree_place *const place = &cursor->place;
    if (!(place->flags & CURSOR_AFTER)) place->visited = 0; /* it turns */
    struct tree_node *const leaf = cursor_back(heap, head, place);
    const bool is_shown = leaf && cursor_show(heap, head, leaf, place->index, cursor);
    if (is_shown) assert(place->index < leaf->count);
    if (is_shown) assert(cursor->value != NULL);
    if (is_shown && place->index > 0) {
        cursor_set_anchor(head, leaf, place->index - 1, place);
        place->flags = CURSOR_AFTER;
    } else if (is_shown) {
        struct tree_path path;
        const bool is_found = cursor_other_leaf(heap, head, leaf, true, place, &path);
        if (is_found) cursor_set_anchor(head, path.nodes[0], path.index[0], place);
        place->flags = is_found ? CURSOR_AFTER : CURSOR_BEGIN;
    }
    return is_shown;
}

/* ---- seeking ---- */

static void tree_seek(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor,
                      const struct tree_key *key)
{
    assert(cursor != NULL);
    assert(key != NULL);
    const struct collect_tree *const head = tree_head(heap, tree);
    *cursor = (evh_tree_cursor){0};
    if (!head) return;
    if ((head->key_kind == EVH_KEY_BYTES) == (key->bytes != NULL)) {
        cursor_seek(heap, head, key, false, &cursor->place);
    } else {
        (void)base_fail(EVH_INVALID, tree->offset, "a tree's keys are of another kind");
        cursor_stand(heap, head, NULL, &cursor->place);
    }
}

void evh_tree_seek(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor,
                   uint64_t key)
{
    const struct tree_key wanted = tree_key_number(key);
    tree_seek(heap, tree, cursor, &wanted);
}

void evh_tree_seek_bytes(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor,
                         const void *key, size_t size)
{
    const struct tree_key wanted = tree_key_of(key ? key : "", key ? size : 0);
    tree_seek(heap, tree, cursor, &wanted);
}

void evh_tree_seek_end(const evh_heap *heap, const evh_tree *tree, evh_tree_cursor *cursor)
{
    (void)heap;
    (void)tree;
    *cursor = (evh_tree_cursor){.place.flags = CURSOR_END};
}
