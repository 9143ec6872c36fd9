/* pages.c -- arrays and objects of many values: a counted B+ tree of 4 KiB pages.
 *
 * Leaves hold the values, inner pages how many values are below their first i + 1 children, so that
 * a position is found by one guess per level: leaves that were filled in order are equally full,
 * and the guess (position / total x children) is right or next to right. Inserting or erasing
 * anywhere changes one leaf and the counts above it: 2 to 4 pages.
 *
 * Which leaf a key is in is what pages_index.c knows; a page that splits or is joined tells it. The
 * position of a member is found upwards, by the pages' parents.
 */
#include "json/json.h"

/* The way from the root to a leaf. */
struct tree_way {
    uint32_t pages[JSON_HEIGHT_MAX + 1]; /* [0]: leaf */
    uint32_t index[JSON_HEIGHT_MAX + 1]; /* [h]: child of pages[h] on the way */
    uint32_t position;                   /* in the leaf */
};

/* ---- pages ---- */

struct json_page *page_at(const struct evh_json *json, uint32_t number, uint32_t kind)
{
    assert(kind == JSON_PAGE_ITEMS || kind == JSON_PAGE_MEMBERS || kind == JSON_PAGE_INNER ||
           kind == JSON_PAGE_BUCKET);
    struct json_page *page = json_at(json, page_offset(number), JSON_PAGE_BYTES);
    uint32_t limit = JSON_ITEMS_MAX;
    if (kind == JSON_PAGE_MEMBERS) limit = JSON_MEMBERS_MAX;
    if (kind == JSON_PAGE_INNER || kind == JSON_PAGE_BUCKET) limit = JSON_CHILDREN_MAX;
    if (LIKELY(page && page->kind == kind && page->count <= limit)) return page;
    (void)json_corrupt(page_offset(number), "a page of a container that is none");
    return NULL;
}

uint32_t page_make(struct evh_json *json, uint32_t kind, struct json_page **page)
{
    assert(page != NULL);
    void *address = NULL;
    const uint64_t offset = json_allocate_aligned(json, JSON_PAGE_BYTES, &address);
    if (!offset) return 0;
    if (offset >> JSON_PAGE_SHIFT > UINT32_MAX) {
        (void)json_free(json, offset);
        (void)base_fail(EVH_LIMIT, offset, "json: the heap is too large for a large container");
        return 0;
    }
    *page = address;
    memset(*page, 0, JSON_PAGE_BYTES);
    (*page)->kind = (uint16_t)kind;
    return (uint32_t)(offset >> JSON_PAGE_SHIFT);
}

static inline uint32_t *page_ends(struct json_page *page)
{
    return (uint32_t *)(void *)(page + 1);
}

static inline uint32_t *page_children(struct json_page *page)
{
    return page_ends(page) + JSON_CHILDREN_MAX;
}

static inline uint32_t *page_keys(struct json_page *page)
{
    return page->kind == JSON_PAGE_MEMBERS ? (uint32_t *)(void *)(page + 1) : NULL;
}

static inline struct json_slot *page_slots(struct json_page *page)
{
    if (page->kind == JSON_PAGE_ITEMS) return (struct json_slot *)(void *)(page + 1);
    return (struct json_slot *)(void *)((char *)page + JSON_PAGE_BYTES) - JSON_MEMBERS_MAX;
}

static inline uint32_t json_tree_leaf_kind(const struct json_container *container)
{
    return container->kind == JSON_KIND_OBJECT ? JSON_PAGE_MEMBERS : JSON_PAGE_ITEMS;
}

static inline uint32_t json_tree_leaf_max(const struct json_container *container)
{
    return container->kind == JSON_KIND_OBJECT ? JSON_MEMBERS_MAX : JSON_ITEMS_MAX;
}

struct json_tree *json_tree_of(const struct evh_json *json, const struct json_container *container)
{
    struct json_tree *tree = json_at(json, container->body, sizeof *tree);
    if (LIKELY(tree && tree->magic == (JSON_MAGIC ^ container->body) &&
               tree->height <= JSON_HEIGHT_MAX))
        return tree;
    (void)json_corrupt(container->body, "a large container that is none");
    return NULL;
}

/* ---- finding ---- */

/* The child of `inner` that has `position`, which becomes the position in it. A position at the end
 * is in the last one. False on damage. */
static inline bool json_tree_child(struct json_page *inner, uint32_t *position, uint32_t *index)
{
    assert(position != NULL);
    assert(index != NULL);
    const uint32_t count = inner->count;
    if (UNLIKELY(count == 0)) return false;
    const uint32_t *ends = page_ends(inner);
    const uint32_t total = ends[count - 1];
    uint32_t at = total ? (uint32_t)((uint64_t)*position * count / total) : 0;
    if (at >= count) at = count - 1;
    while (at > 0 && ends[at - 1] > *position) at--;
    while (at + 1 < count && ends[at] <= *position) at++;
    const uint32_t before = at ? ends[at - 1] : 0;
    if (UNLIKELY(*position < before)) return false;
    *position -= before;
    *index = at;
    return true;
}

static struct json_page *json_tree_walk_down(struct evh_json *json,
                                             const struct json_container *container,
                                             const struct json_tree *tree, uint32_t position,
                                             struct tree_way *path)
{
    assert(tree->height <= JSON_HEIGHT_MAX);
    uint32_t number = tree->root;
    for (uint32_t height = tree->height; height > 0; height--) {
        struct json_page *inner = page_at(json, number, JSON_PAGE_INNER);
        if (UNLIKELY(!inner)) return NULL;
        if (UNLIKELY(inner->height != height)) { /* so that no page is on the way twice */
            (void)json_corrupt(page_offset(number), "a page at the wrong height");
            return NULL;
        }
        if (UNLIKELY(!json_tree_child(inner, &position, &path->index[height]))) {
            (void)json_corrupt(page_offset(number), "a page that miscounts");
            return NULL;
        }
        path->pages[height] = number;
        number = page_children(inner)[path->index[height]];
    }
    struct json_page *leaf = page_at(json, number, json_tree_leaf_kind(container));
    if (UNLIKELY(!leaf)) return NULL;
    if (UNLIKELY(position > leaf->count)) {
        (void)json_corrupt(page_offset(number), "a page that miscounts");
        return NULL;
    }
    path->pages[0] = number;
    path->position = position;
    return leaf;
}

bool json_tree_span(struct evh_json *json, const struct json_container *container,
                    uint32_t position, struct json_span *span)
{
    assert(span != NULL);
    const struct json_tree *tree = json_tree_of(json, container);
    if (!tree) return false;
    struct tree_way path;
    struct json_page *leaf = json_tree_walk_down(json, container, tree, position, &path);
    if (!leaf) return false;
    if (path.position >= leaf->count) {
        (void)json_corrupt(page_offset(path.pages[0]), "a page that miscounts");
        return false;
    }
    span->slots = page_slots(leaf) + path.position;
    span->keys = leaf->kind == JSON_PAGE_MEMBERS ? page_keys(leaf) + path.position : NULL;
    span->count = leaf->count - path.position;
    return true;
}

/* The position of a leaf's first value, found upwards. */
static bool json_tree_position(struct evh_json *json, const struct json_tree *tree, uint32_t number,
                               uint32_t parent, uint32_t *position)
{
    *position = 0;
    for (uint32_t height = 0; height < tree->height; height++) {
        struct json_page *inner = page_at(json, parent, JSON_PAGE_INNER);
        if (!inner) return false;
        const uint32_t at = keys_scan(page_children(inner), inner->count, number);
        if (at == inner->count) {
            (void)json_corrupt(page_offset(parent), "a page that does not know its child");
            return false;
        }
        *position += at ? page_ends(inner)[at - 1] : 0;
        number = parent;
        parent = inner->parent;
    }
    return true;
}

struct json_slot *json_tree_find(struct evh_json *json, const struct json_container *object,
                                 uint32_t key, uint32_t *position)
{
    assert(object->kind == JSON_KIND_OBJECT);
    assert(key != 0);
    const struct json_tree *tree = json_tree_of(json, object);
    if (!tree) return NULL;
    const uint32_t number = members_find(json, tree, key);
    if (!number) return NULL;
    struct json_page *leaf = page_at(json, number, JSON_PAGE_MEMBERS);
    if (!leaf) return NULL;
    const uint32_t at = keys_scan(page_keys(leaf), leaf->count, key);
    if (at == leaf->count) {
        (void)json_corrupt(page_offset(number), "a page without a key that it should have");
        return NULL;
    }
    if (position) {
        if (!json_tree_position(json, tree, number, leaf->parent, position)) return NULL;
        *position += at;
        if (*position >= object->count) {
            (void)json_corrupt(page_offset(number), "a page that miscounts");
            return NULL;
        }
    }
    return page_slots(leaf) + at;
}

/* ---- growing ---- */

evh_status json_tree_make(struct evh_json *json, struct json_container *container, uint32_t number)
{
    assert(container->count == 0);
    assert(number != 0);
    void *address = NULL;
    const uint64_t offset = json_allocate(json, sizeof(struct json_tree), &address);
    if (!offset) return evh_last_error()->status;
    struct json_tree *tree = address;
    struct json_page *leaf = NULL;
    *tree = (struct json_tree){.magic = JSON_MAGIC ^ offset};
    tree->root = page_make(json, json_tree_leaf_kind(container), &leaf);
    evh_status status = tree->root ? EVH_OK : evh_last_error()->status;
    if (!status && container->kind == JSON_KIND_OBJECT) status = members_make(json, tree);
    if (status) {
        if (tree->root) (void)json_free(json, page_offset(tree->root));
        (void)json_free(json, offset);
        return status;
    }
    leaf->owner = number;
    container->form = JSON_TREE;
    container->body = offset;
    container->capacity = 0;
    return EVH_OK;
}

/* Pages that a split will need, made before anything changes. */
struct tree_spares {
    uint32_t numbers[JSON_HEIGHT_MAX + 2];
    struct json_page *pages[JSON_HEIGHT_MAX + 2];
    uint32_t count;
};

static void json_tree_spare_end(struct evh_json *json, struct tree_spares *spare)
{
    assert(spare->count <= JSON_HEIGHT_MAX + 2);
    for (uint32_t i = 0; i < spare->count; i++)
        (void)json_free(json, page_offset(spare->numbers[i]));
}

/* One for the leaf, one for each full page above it, one for a new root. */
static evh_status json_tree_spare_make(struct evh_json *json,
                                       const struct json_container *container,
                                       const struct json_tree *tree, const struct tree_way *path,
                                       uint32_t owner, struct tree_spares *spare)
{
    assert(owner != 0);
    spare->count = 0;
    for (uint32_t height = 0; height <= tree->height + 1; height++) {
        struct json_page *page = NULL;
        uint32_t kind = JSON_PAGE_INNER;
        if (height == 0) kind = json_tree_leaf_kind(container);
        if (height > JSON_HEIGHT_MAX)
            return json_corrupt(container->body, "a large container that is too high");
        if (height > 0 && height <= tree->height) {
            const struct json_page *inner = page_at(json, path->pages[height], JSON_PAGE_INNER);
            if (!inner) return EVH_CORRUPT;
            if (inner->count < JSON_CHILDREN_MAX) return EVH_OK;
        }
        const uint32_t number = page_make(json, kind, &page);
        if (!number) return evh_last_error()->status;
        page->height = (uint16_t)height;
        page->owner = owner;
        spare->numbers[spare->count] = number;
        spare->pages[spare->count++] = page;
    }
    return EVH_OK;
}

/* What came of a split: how many values are left and right now, and the page on the right. */
struct tree_halves {
    uint32_t left, right, page;
};

/* Put `split` for the child at `index` into an inner page that has room. */
static void json_tree_put_child(struct json_page *inner, uint32_t index,
                                const struct tree_halves *split)
{
    assert(inner->count < JSON_CHILDREN_MAX);
    assert(index < inner->count);
    uint32_t *ends = page_ends(inner);
    uint32_t *children = page_children(inner);
    const uint32_t before = index ? ends[index - 1] : 0;
    const uint32_t change = before + split->left + split->right - ends[index];
    const uint32_t behind = inner->count - index - 1;
    memmove(ends + index + 2, ends + index + 1, sizeof *ends * behind);
    memmove(children + index + 2, children + index + 1, sizeof *children * behind);
    ends[index] = before + split->left;
    ends[index + 1] = ends[index] + split->right;
    children[index + 1] = split->page;
    inner->count++;
    for (uint32_t i = index + 2; i < inner->count; i++) ends[i] += change;
}

/* Split a full inner page, then put the child into its half. */
static evh_status json_tree_split_inner(struct evh_json *json, uint32_t number,
                                        struct json_page *inner, uint32_t index,
                                        struct tree_halves *split, uint32_t right_number,
                                        struct json_page *right, bool is_leaf_below)
{
    assert(inner->count == JSON_CHILDREN_MAX);
    assert(right->count == 0);
    /* A child at the very end goes to a page of its own: so pages that are filled in order stay
     * full. */
    const bool is_at_end = index == inner->count - 1;
    const uint32_t keep = is_at_end ? inner->count : inner->count / 2;
    const uint32_t moved = inner->count - keep;
    uint32_t *ends = page_ends(inner);
    const uint32_t base = ends[keep - 1];
    for (uint32_t i = 0; i < moved; i++) {
        const uint32_t child = page_children(inner)[keep + i];
        struct json_page *below = json_at(json, page_offset(child), JSON_PAGE_BYTES);
        if (!below || (below->kind == JSON_PAGE_INNER) == is_leaf_below)
            return json_corrupt(page_offset(child), "a page of a container that is none");
        below->parent = right_number;
        page_ends(right)[i] = ends[keep + i] - base;
        page_children(right)[i] = child;
    }
    right->count = moved;
    right->parent = inner->parent;
    inner->count = keep;
    struct json_page *added = json_at(json, page_offset(split->page), JSON_PAGE_BYTES);
    if (is_at_end) {
        const uint32_t before = index ? ends[index - 1] : 0;
        ends[index] = before + split->left;
        page_ends(right)[0] = split->right;
        page_children(right)[0] = split->page;
        right->count = 1;
        added->parent = right_number;
    } else if (index < keep) {
        json_tree_put_child(inner, index, split);
        added->parent = number;
    } else {
        json_tree_put_child(right, index - keep, split);
        added->parent = right_number;
    }
    *split = (struct tree_halves){ends[inner->count - 1], page_ends(right)[right->count - 1],
                                  right_number};
    return EVH_OK;
}

static void json_tree_put_root(struct evh_json *json, struct json_tree *tree,
                               const struct tree_halves *split, uint32_t number,
                               struct json_page *root)
{
    assert(tree->height < JSON_HEIGHT_MAX);
    assert(root->count == 0);
    assert(split->page != 0);
    page_ends(root)[0] = split->left;
    page_ends(root)[1] = split->left + split->right;
    page_children(root)[0] = tree->root;
    page_children(root)[1] = split->page;
    root->count = 2;
    struct json_page *left = json_at(json, page_offset(tree->root), JSON_PAGE_BYTES);
    struct json_page *right = json_at(json, page_offset(split->page), JSON_PAGE_BYTES);
    left->parent = number;
    right->parent = number;
    tree->root = number;
    tree->height++;
    root->height = (uint16_t)tree->height;
}

static void leaf_put(struct json_page *leaf, uint32_t position, uint32_t key,
                     const struct json_slot *slot)
{
    assert(position <= leaf->count);
    assert(slot != NULL);
    struct json_slot *slots = page_slots(leaf);
    const uint32_t behind = leaf->count - position;
    memmove(slots + position + 1, slots + position, sizeof *slots * behind);
    slots[position] = *slot;
    uint32_t *keys = page_keys(leaf);
    if (keys) {
        memmove(keys + position + 1, keys + position, sizeof *keys * behind);
        keys[position] = key;
    }
    leaf->count++;
}

/* Add `change` to the counts above a leaf. */
static evh_status json_tree_recount(struct evh_json *json, const struct json_tree *tree,
                                    const struct tree_way *path, uint32_t change)
{
    assert(change != 0);
    for (uint32_t height = 1; height <= tree->height; height++) {
        struct json_page *inner = page_at(json, path->pages[height], JSON_PAGE_INNER);
        if (!inner) return EVH_CORRUPT;
        uint32_t *ends = page_ends(inner);
        for (uint32_t i = path->index[height]; i < inner->count; i++) ends[i] += change;
    }
    return EVH_OK;
}

/* Split the leaf of `path`, which is full, and what is full above it, putting the value in. */
static evh_status json_tree_insert_split(struct evh_json *json, struct json_tree *tree,
                                         struct tree_way *path, struct json_page *leaf,
                                         struct tree_spares *spare, uint32_t key,
                                         const struct json_slot *slot)
{
    assert(spare->count >= 1);
    uint32_t used = 0;
    struct json_page *right = spare->pages[used];
    const uint32_t right_number = spare->numbers[used++];
    const bool is_at_end = path->position == leaf->count;
    const uint32_t keep = is_at_end ? leaf->count : leaf->count / 2;
    right->count = leaf->count - keep;
    right->parent = leaf->parent;
    uint32_t *keys = page_keys(leaf);
    for (uint32_t i = 0; keys && i < right->count; i++) {
        page_keys(right)[i] = keys[keep + i];
        members_move(json, tree, keys[keep + i], right_number);
    }
    memcpy(page_slots(right), page_slots(leaf) + keep, sizeof *slot * right->count);
    leaf->count = keep;
    if (path->position > keep || is_at_end) {
        leaf_put(right, path->position - keep, key, slot);
        path->pages[0] = right_number;
    } else {
        leaf_put(leaf, path->position, key, slot);
    }
    struct tree_halves split = {leaf->count, right->count, right_number};
    uint32_t height = 1;
    for (; height <= tree->height; height++) {
        struct json_page *inner = page_at(json, path->pages[height], JSON_PAGE_INNER);
        if (!inner) return EVH_CORRUPT;
        if (inner->count < JSON_CHILDREN_MAX) {
            struct json_page *added = json_at(json, page_offset(split.page), JSON_PAGE_BYTES);
            added->parent = path->pages[height];
            json_tree_put_child(inner, path->index[height], &split);
            break;
        }
        const evh_status status =
            json_tree_split_inner(json, path->pages[height], inner, path->index[height], &split,
                                  spare->numbers[used], spare->pages[used], height == 1);
        if (status) return status;
        used++;
    }
    if (height > tree->height) {
        json_tree_put_root(json, tree, &split, spare->numbers[used], spare->pages[used]);
        used++;
    } else {
        for (height++; height <= tree->height; height++) {
            struct json_page *inner = page_at(json, path->pages[height], JSON_PAGE_INNER);
            if (!inner) return EVH_CORRUPT;
            uint32_t *ends = page_ends(inner);
            for (uint32_t i = path->index[height]; i < inner->count; i++) ends[i]++;
        }
    }
    assert(used == spare->count);
    spare->count = 0;
    return EVH_OK;
}

evh_status json_tree_insert(struct evh_json *json, struct json_container *container,
                            uint32_t number, uint32_t position, uint32_t key,
                            const struct json_slot *slot)
{
    assert(position <= container->count);
    assert(slot != NULL);
    struct json_tree *tree = json_tree_of(json, container);
    if (!tree) return EVH_CORRUPT;
    if (container->count == UINT32_MAX) return base_fail(EVH_LIMIT, NO_OFFSET, "json: 2^32 values");
    struct tree_way path;
    struct json_page *leaf = json_tree_walk_down(json, container, tree, position, &path);
    if (!leaf) return EVH_CORRUPT;
    evh_status status = EVH_OK;
    if (leaf->count < json_tree_leaf_max(container)) {
        leaf_put(leaf, path.position, key, slot);
        status = json_tree_recount(json, tree, &path, 1);
    } else {
        struct tree_spares spare = {.count = 0};
        status = json_tree_spare_make(json, container, tree, &path, number, &spare);
        if (!status) status = json_tree_insert_split(json, tree, &path, leaf, &spare, key, slot);
        if (status) json_tree_spare_end(json, &spare);
    }
    if (status) return status;
    container->count++;
    if (!key) return EVH_OK;
    status = members_insert(json, tree, key, path.pages[0]);
    if (status) { /* take it out again; the error stays that of the index */
        uint32_t gone = 0;
        struct json_slot was;
        const evh_error error = *evh_last_error();
        (void)json_tree_remove(json, container, position, &gone, &was);
        (void)base_fail(status, error.offset, "%s", error.message);
    }
    return status;
}

evh_status json_tree_append(struct evh_json *json, struct json_container *container,
                            uint32_t number, const struct json_slot *slots, const uint32_t *keys,
                            uint32_t count)
{
    assert(slots != NULL || count == 0);
    assert(number != 0);
    if (count > UINT32_MAX - container->count)
        return base_fail(EVH_LIMIT, NO_OFFSET, "json: 2^32 values");
    while (count > 0) {
        struct json_tree *tree = json_tree_of(json, container);
        if (!tree) return EVH_CORRUPT;
        struct tree_way path;
        struct json_page *leaf =
            json_tree_walk_down(json, container, tree, container->count, &path);
        if (!leaf) return EVH_CORRUPT;
        const uint32_t room = json_tree_leaf_max(container) - leaf->count;
        uint32_t part = (uint32_t)base_min(count, room);
        if (part == 0) { /* one by itself, which makes a new leaf */
            part = 1;
            const evh_status status = json_tree_insert(json, container, number, container->count,
                                                       keys ? *keys : 0, slots);
            if (status) return status;
        } else {
            memcpy(page_slots(leaf) + leaf->count, slots, sizeof *slots * part);
            if (keys) memcpy(page_keys(leaf) + leaf->count, keys, sizeof *keys * part);
            leaf->count += part;
            evh_status status = json_tree_recount(json, tree, &path, part);
            container->count += part;
            for (uint32_t i = 0; keys && !status && i < part; i++)
                status = members_insert(json, tree, keys[i], path.pages[0]);
            if (status) return status;
        }
        slots += part;
        if (keys) keys += part;
        count -= part;
    }
    return EVH_OK;
}

/* ---- shrinking ---- */

/* Take the child at path->index[height] out of its inner page, and that page too if nothing is left
 * in it. The counts are right already: the child has no values, or its values are in the one before
 * it, whose end was moved. */
static evh_status json_tree_drop_child(struct evh_json *json, struct json_tree *tree,
                                       struct tree_way *path, uint32_t height)
{
    assert(height >= 1);
    for (; height <= tree->height; height++) {
        struct json_page *inner = page_at(json, path->pages[height], JSON_PAGE_INNER);
        if (!inner || path->index[height] >= inner->count) return EVH_CORRUPT;
        const uint32_t index = path->index[height];
        const uint32_t behind = inner->count - index - 1;
        uint32_t *ends = page_ends(inner);
        uint32_t *children = page_children(inner);
        memmove(ends + index, ends + index + 1, sizeof *ends * behind);
        memmove(children + index, children + index + 1, sizeof *children * behind);
        inner->count--;
        if (inner->count > 0) break;
        if (height == tree->height) return json_corrupt(page_offset(tree->root), "an empty root");
        const evh_status status = json_free(json, page_offset(path->pages[height]));
        if (status) return status;
    }
    while (tree->height > 0) { /* a root with one child is none */
        const struct json_page *root = page_at(json, tree->root, JSON_PAGE_INNER);
        if (!root) return EVH_CORRUPT;
        if (root->count > 1) break;
        const uint32_t child = page_children((struct json_page *)(uintptr_t)root)[0];
        struct json_page *below = json_at(json, page_offset(child), JSON_PAGE_BYTES);
        if (!below) return json_corrupt(page_offset(child), "a page outside the heap");
        const uint32_t old = tree->root;
        below->parent = 0;
        tree->root = child;
        tree->height--;
        const evh_status status = json_free(json, page_offset(old));
        if (status) return status;
    }
    return EVH_OK;
}

/* Join a leaf that has become small with the one behind it, or it with the one before. */
static evh_status json_tree_join(struct evh_json *json, const struct json_container *container,
                                 struct json_tree *tree, struct tree_way *path)
{
    if (tree->height == 0) return EVH_OK;
    struct json_page *inner = page_at(json, path->pages[1], JSON_PAGE_INNER);
    if (!inner) return EVH_CORRUPT;
    const uint32_t kind = json_tree_leaf_kind(container);
    const uint32_t index = path->index[1];
    const uint32_t right_index = index + 1 < inner->count ? index + 1 : index;
    if (right_index == 0) return EVH_OK;
    const uint32_t left_number = page_children(inner)[right_index - 1];
    const uint32_t right_number = page_children(inner)[right_index];
    struct json_page *left = page_at(json, left_number, kind);
    struct json_page *right = page_at(json, right_number, kind);
    if (!left || !right) return EVH_CORRUPT;
    if (left->count + right->count > json_tree_leaf_max(container) * 3 / 4) return EVH_OK;
    const uint32_t *keys = page_keys(right);
    for (uint32_t i = 0; keys && i < right->count; i++) {
        page_keys(left)[left->count + i] = keys[i];
        members_move(json, tree, keys[i], left_number);
    }
    memcpy(page_slots(left) + left->count, page_slots(right),
           sizeof(struct json_slot) * right->count);
    left->count += right->count;
    page_ends(inner)[right_index - 1] = page_ends(inner)[right_index];
    path->index[1] = right_index;
    const evh_status status = json_tree_drop_child(json, tree, path, 1);
    return status ? status : json_free(json, page_offset(right_number));
}

evh_status json_tree_remove(struct evh_json *json, struct json_container *container,
                            uint32_t position, uint32_t *key, struct json_slot *slot)
{
    assert(position < container->count);
    assert(key != NULL);
    assert(slot != NULL);
    struct json_tree *tree = json_tree_of(json, container);
    if (!tree) return EVH_CORRUPT;
    struct tree_way path;
    struct json_page *leaf = json_tree_walk_down(json, container, tree, position, &path);
    if (!leaf) return EVH_CORRUPT;
    if (path.position >= leaf->count)
        return json_corrupt(page_offset(path.pages[0]), "a page that miscounts");
    struct json_slot *slots = page_slots(leaf);
    uint32_t *keys = page_keys(leaf);
    const uint32_t behind = leaf->count - path.position - 1;
    *slot = slots[path.position];
    *key = keys ? keys[path.position] : 0;
    if (keys) members_remove(json, tree, *key);
    memmove(slots + path.position, slots + path.position + 1, sizeof *slots * behind);
    if (keys) memmove(keys + path.position, keys + path.position + 1, sizeof *keys * behind);
    leaf->count--;
    container->count--;
    const evh_status status = json_tree_recount(json, tree, &path, (uint32_t)-1);
    if (status) return status;
    if (leaf->count == 0 && tree->height > 0) {
        const evh_status dropped = json_tree_drop_child(json, tree, &path, 1);
        return dropped ? dropped : json_free(json, page_offset(path.pages[0]));
    }
    if (leaf->count < json_tree_leaf_max(container) / 4)
        return json_tree_join(json, container, tree, &path);
    return EVH_OK;
}

evh_status json_tree_rename(struct evh_json *json, struct json_container *object, uint32_t position,
                            uint32_t key)
{
    assert(object->kind == JSON_KIND_OBJECT);
    assert(key != 0);
    struct json_tree *tree = json_tree_of(json, object);
    if (!tree) return EVH_CORRUPT;
    struct tree_way path;
    struct json_page *leaf = json_tree_walk_down(json, object, tree, position, &path);
    if (!leaf || path.position >= leaf->count) return EVH_CORRUPT;
    const evh_status status = members_insert(json, tree, key, path.pages[0]);
    if (status) return status;
    members_remove(json, tree, page_keys(leaf)[path.position]);
    page_keys(leaf)[path.position] = key;
    return EVH_OK;
}

/* Free all pages: the leftmost way down again and again, emptying inner pages from their end. */
void json_tree_clear(struct evh_json *json, struct json_container *container)
{
    assert(container->form == JSON_TREE);
    struct json_tree *tree = json_tree_of(json, container);
    container->form = JSON_FLAT;
    container->count = 0;
    if (!tree) return;
    if (container->kind == JSON_KIND_OBJECT) members_clear(json, tree);
    uint32_t stack[JSON_HEIGHT_MAX + 1];
    uint32_t height = tree->height;
    stack[height] = tree->root;
    while (height <= tree->height) {
        if (height > 0) {
            struct json_page *inner = page_at(json, stack[height], JSON_PAGE_INNER);
            if (!inner) return; /* damage: what is below is lost until the heap is checked */
            if (inner->count > 0) {
                stack[height - 1] = page_children(inner)[--inner->count];
                height--;
                continue;
            }
        }
        if (json_free(json, page_offset(stack[height]))) return;
        height++;
    }
    (void)json_free(json, container->body);
    container->body = 0;
}
