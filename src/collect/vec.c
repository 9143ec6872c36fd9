/* vec.c -- arrays that grow: one block, a head of 32 bytes and the items.
 *
 * Items may begin behind an unused part, so that the front is erased and filled by moving a number
 * and not the items; in the middle the shorter side moves. When the end is reached, the items slide
 * to the front if that frees at least half of the block, else the block doubles: either way each
 * item moves a constant number of times on average.
 */
#include "collect/items.h"

enum {
    VEC_FIRST_BYTES = 96, /* of the first block: eight items of 8 bytes */
};

/* ---- shared with queue ---- */

bool items_size_fits(const struct collect_items *head, size_t item_size)
{
    if (head) assert(head->item_size > 0);
    if (head) assert(head->item_size <= EVH_ITEM_SIZE_MAX);
    if (item_size - 1 < EVH_ITEM_SIZE_MAX && (!head || head->item_size == item_size)) return true;
    (void)base_fail(EVH_INVALID, NO_OFFSET, "items of %zu bytes, not %u", item_size,
                    head ? head->item_size : 0);
    return false;
}

evh_status items_block_bytes(size_t item_size, uint64_t count, uint64_t *bytes)
{
    assert(item_size <= EVH_ITEM_SIZE_MAX);
    assert(bytes != NULL);
    uint64_t items_bytes;
    assert(item_size > 0);
    if (count >> ITEMS_COUNT_BITS != 0 || !base_multiply(count, item_size, &items_bytes) ||
        !base_add(items_bytes, sizeof(struct collect_items), bytes))
        return base_fail(EVH_LIMIT, NO_OFFSET, "too many items: %llu", (unsigned long long)count);
    return EVH_OK;
}

static uint64_t items_capacity(uint64_t bytes, size_t item_size)
{
    assert(bytes >= sizeof(struct collect_items));
    assert(item_size > 0);
    return (bytes - sizeof(struct collect_items)) / item_size;
}

struct collect_items *items_make(evh_heap *heap, uint32_t word, size_t item_size, uint64_t bytes)
{
    assert(heap != NULL);
    assert(bytes >= sizeof(struct collect_items));
    assert(item_size <= EVH_ITEM_SIZE_MAX);
    struct collect_items *const head = evh_malloc(heap, bytes);
    if (!head) return NULL;
    *head = (struct collect_items){.word = word,
                                   .item_size = (uint32_t)item_size,
                                   .capacity = items_capacity(bytes, item_size)};
    assert(head->capacity > 0);
    return head;
}

evh_status items_clear(evh_heap *heap, uint64_t *offset)
{
    assert(heap != NULL);
    assert(offset != NULL);
    const evh_status status = collect_free(heap, *offset);
    *offset = 0;
    return status;
}

evh_status items_check(evh_heap *heap, uint64_t offset, uint32_t word, bool is_ring)
{
    assert(heap != NULL);
    if (offset == 0) return EVH_OK;
    const struct collect_items *const head = items_head(heap, offset, word);
    if (!head) return EVH_CORRUPT;
    uint64_t bytes = 0;
    if (items_block_bytes(head->item_size, head->capacity, &bytes)) return EVH_CORRUPT;
    assert(head->count <= head->capacity);
    if (!is_ring && head->first > head->capacity - head->count)
        return collect_corrupt(offset, "a vec reaches beyond its block");
    return collect_check_block(heap, offset, bytes);
}

/* ---- asking ---- */

static const uint32_t vec_word = COLLECT_WORD(COLLECT_VEC, 1);

/* The head, its items within the capacity; NULL for an empty or damaged one. */
static inline struct collect_items *vec_head(const evh_heap *heap, const evh_vec *vec)
{
    if (UNLIKELY(!vec)) return NULL;
    struct collect_items *const head = items_head(heap, vec->offset, vec_word);
    if (UNLIKELY(!head)) return NULL;
    assert(head->count <= head->capacity);
    assert(head->item_size > 0);
    if (LIKELY(head->first <= head->capacity - head->count)) return head;
    (void)collect_corrupt(vec->offset, "a vec reaches beyond its block");
    return NULL;
}

void *evh_vec_at(const evh_heap *heap, const evh_vec *vec, size_t index)
{
    struct collect_items *const head = vec_head(heap, vec);
    if (!head || index >= head->count) return NULL;
    assert(head->first + index < head->capacity);
    assert(heap != NULL);
    return items_at(head, head->first + index);
}

void *evh_vec_data(const evh_heap *heap, const evh_vec *vec, size_t *count)
{
    struct collect_items *const head = vec_head(heap, vec);
    if (head) assert(head->count <= head->capacity);
    if (head) assert(head->first <= head->capacity - head->count);
    if (count) *count = head ? head->count : 0;
    return head && head->count > 0 ? items_at(head, head->first) : NULL;
}

size_t evh_vec_count(const evh_heap *heap, const evh_vec *vec)
{
    const struct collect_items *const head = vec_head(heap, vec);
    if (head) assert(head->count <= head->capacity);
    if (head) assert(head->first <= head->capacity - head->count);
    return head ? head->count : 0;
}

size_t evh_vec_item_size(const evh_heap *heap, const evh_vec *vec)
{
    const struct collect_items *const head = vec_head(heap, vec);
    if (head) assert(head->item_size > 0);
    if (head) assert(head->item_size <= EVH_ITEM_SIZE_MAX);
    return head ? head->item_size : 0;
}

size_t evh_vec_search(const evh_heap *heap, const evh_vec *vec, const void *item,
                      evh_compare *compare, void *context, bool *is_there)
{
    struct collect_items *const head = vec_head(heap, vec);
    size_t first = 0;
    size_t end = head ? head->count : 0;
    while (first < end) {
        const size_t middle = first + (end - first) / 2;
        if (compare(items_at(head, head->first + middle), item, context) < 0)
            first = middle + 1;
        else
            end = middle;
    }
    assert(first == end);
    if (head) assert(first <= head->count);
    if (is_there)
        *is_there = head && first < head->count &&
                    compare(items_at(head, head->first + first), item, context) == 0;
    return first;
}

/* ---- room ---- */

/* Slide the items to the front of the block. */
static void vec_slide(struct collect_items *head)
{
    assert(head->first > 0);
    assert(head->count <= head->capacity);
    memmove(items_at(head, 0), items_at(head, head->first), head->count * head->item_size);
    head->first = 0;
}

/* A block with room for `count` items in all, the items at its front. */
static struct collect_items *vec_grow(evh_heap *heap, evh_vec *vec, struct collect_items *head,
                                      size_t item_size, uint64_t count)
{
    assert(heap != NULL);
    assert(count > 0);
    assert(item_size <= EVH_ITEM_SIZE_MAX);
    uint64_t bytes = 0;
    if (items_block_bytes(item_size, count, &bytes)) return NULL;
    if (!head) {
        head = items_make(heap, vec_word, item_size, base_max(bytes, VEC_FIRST_BYTES));
        if (head) vec->offset = collect_offset(heap, head);
        return head;
    }
    if (collect_check_block(heap, vec->offset,
                            sizeof *head + head->capacity * (uint64_t)head->item_size))
        return NULL;
    if (head->first > 0) {
        struct collect_items *const made = items_make(heap, vec_word, item_size, bytes);
        if (!made) return NULL;
        assert(made->capacity >= head->count);
        made->count = head->count;
        memcpy(items_at(made, 0), items_at(head, head->first), head->count * item_size);
        evh_free(heap, head);
        vec->offset = collect_offset(heap, made);
        assert(made->first == 0);
        return made;
    }
    struct collect_items *const made = evh_realloc(heap, head, bytes);
    if (!made) return NULL;
    made->capacity = items_capacity(bytes, item_size);
    assert(made->capacity >= count);
    vec->offset = collect_offset(heap, made);
    return made;
}

/* Room for `count` items more behind the last. The head, or NULL: nothing has changed then. */
static struct collect_items *vec_make_room(evh_heap *heap, evh_vec *vec, size_t item_size,
                                           uint64_t count)
{
    assert(heap != NULL);
    assert(count > 0);
    struct collect_items *head = vec_head(heap, vec);
    if (!head && vec->offset) return NULL;
    if (!items_size_fits(head, item_size)) return NULL;
    if (count >> ITEMS_COUNT_BITS != 0) {
        (void)base_fail(EVH_LIMIT, NO_OFFSET, "too many items: %llu", (unsigned long long)count);
        return NULL;
    }
    if (!head) return vec_grow(heap, vec, NULL, item_size, count);
    if (count <= head->capacity - head->first - head->count) return head;
    const uint64_t wanted = head->count + count;
    if (head->first >= head->capacity / 2 && wanted <= head->capacity) {
        vec_slide(head);
        return head;
    }
    assert(wanted > head->count);
    const uint64_t ample = head->capacity + head->capacity / 2 + 1;
    struct collect_items *grown = NULL;
    if (wanted < ample) grown = vec_grow(heap, vec, head, item_size, ample);
    if (grown) return grown;
    if (wanted <= head->capacity) {
        vec_slide(head); /* there is no space to be generous */
        return head;
    }
    return vec_grow(heap, vec, head, item_size, wanted);
}

/* ---- changing ---- */

static void vec_fill(const struct collect_items *head, unsigned char *place, const void *items,
                     uint64_t count)
{
    assert(head != NULL);
    assert(place != NULL);
    if (items)
        memcpy(place, items, count * head->item_size);
    else
        memset(place, 0, count * head->item_size);
}

static __attribute__((noinline)) void *vec_push_slowly(evh_heap *heap, evh_vec *vec,
                                                       size_t item_size, const void *item)
{
    if (collect_writable(heap, vec)) return NULL;
    struct collect_items *const head = vec_make_room(heap, vec, item_size, 1);
    if (!head) return NULL;
    assert(head->item_size == item_size);
    assert(head->first + head->count < head->capacity);
    unsigned char *const place = items_at(head, head->first + head->count);
    vec_fill(head, place, item, 1);
    head->count++;
    return place;
}

/* The head of a vec that has room for an item behind the last; NULL for all that is unusual. */
static inline struct collect_items *vec_with_room(const evh_heap *heap, const evh_vec *vec,
                                                  size_t item_size)
{
    if (UNLIKELY(!heap || !vec || !heap->is_writable || heap->is_forked)) return NULL;
    const uint64_t offset = vec->offset;
    if (UNLIKELY(offset % 16 != 0 || !heap_span_has(heap, offset, sizeof(struct collect_items))))
        return NULL;
    struct collect_items *const head = (struct collect_items *)(void *)(heap->view.base + offset);
    if (UNLIKELY(head->word != vec_word || head->item_size != item_size)) return NULL;
    if (UNLIKELY(head->capacity >> ITEMS_COUNT_BITS != 0 || item_size - 1 >= EVH_ITEM_SIZE_MAX))
        return NULL;
    if (UNLIKELY(head->count >= head->capacity || head->first >= head->capacity - head->count))
        return NULL;
    assert(head->first + head->count < head->capacity);
    assert(item_size <= EVH_ITEM_SIZE_MAX);
    const uint64_t before = sizeof *head + (head->first + head->count) * item_size;
    return LIKELY(heap_span_has(heap, offset + before, item_size)) ? head : NULL;
}

/* Most pushes find room: they call nothing but, for items of an odd size, memcpy(). */
void *evh_vec_push(evh_heap *heap, evh_vec *vec, size_t item_size, const void *item)
{
    struct collect_items *const head = vec_with_room(heap, vec, item_size);
    if (UNLIKELY(!head || !item)) return vec_push_slowly(heap, vec, item_size, item);
    assert(head->item_size == item_size);
    assert(head->first + head->count < head->capacity);
    unsigned char *const place =
        (unsigned char *)(head + 1) + (head->first + head->count) * item_size;
    if (item_size == 8)
        memcpy(place, item, 8);
    else if (item_size == 4)
        memcpy(place, item, 4);
    else
        memcpy(place, item, item_size);
    head->count++;
    return place;
}

/* Open a gap of `count` items before `index`: the front moves into the unused part before it if it
 * is shorter and fits, else the end moves, where there is room. */
static unsigned char *vec_open_gap(struct collect_items *head, uint64_t index, uint64_t count)
{
    assert(index <= head->count);
    assert(count > 0);
    const uint64_t size = head->item_size;
    if (count <= head->first && index <= head->count / 2) {
        head->first -= count;
        memmove(items_at(head, head->first), items_at(head, head->first + count), index * size);
    } else {
        unsigned char *const place = items_at(head, head->first + index);
        memmove(place + count * size, place, (head->count - index) * size);
    }
    head->count += count;
    assert(head->first + head->count <= head->capacity);
    return items_at(head, head->first + index);
}

void *evh_vec_insert(evh_heap *heap, evh_vec *vec, size_t item_size, size_t index,
                     const void *items, size_t count)
{
    if (collect_writable(heap, vec)) return NULL;
    struct collect_items *head = vec_head(heap, vec);
    if (!head && vec->offset) return NULL;
    if (!items_size_fits(head, item_size)) return NULL;
    if (count == 0 || index > (head ? head->count : 0)) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "no such place in a vec of %zu items: %zu",
                        head ? (size_t)head->count : 0, index);
        return NULL;
    }
    const bool fits_before = head && count <= head->first && index <= head->count / 2;
    if (!fits_before) head = vec_make_room(heap, vec, item_size, count);
    if (!head) return NULL;
    assert(head->item_size == item_size);
    assert(head->count + count <= head->capacity);
    unsigned char *const place = vec_open_gap(head, index, count);
    vec_fill(head, place, items, count);
    return place;
}

void *evh_vec_insert_sorted(evh_heap *heap, evh_vec *vec, size_t item_size, const void *item,
                            evh_compare *compare, void *context)
{
    bool is_there = false;
    if (collect_writable(heap, vec)) return NULL;
    if (!item || !compare) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "no item, or nothing to compare it with");
        return NULL;
    }
    if (!items_size_fits(vec_head(heap, vec), item_size)) return NULL;
    const size_t index = evh_vec_search(heap, vec, item, compare, context, &is_there);
    if (!is_there) return evh_vec_insert(heap, vec, item_size, index, item, 1);
    void *const place = evh_vec_at(heap, vec, index);
    assert(place != NULL);
    assert(evh_vec_item_size(heap, vec) == item_size);
    memcpy(place, item, item_size);
    return place;
}

/* A change begins: `*head` is NULL if the vec is empty. */
static evh_status vec_change(evh_heap *heap, const evh_vec *vec, struct collect_items **head)
{
    assert(head != NULL);
    *head = NULL;
    const evh_status status = collect_writable(heap, vec);
    if (status) return status;
    *head = vec_head(heap, vec);
    assert(vec != NULL);
    return *head || vec->offset == 0 ? EVH_OK : EVH_CORRUPT;
}

evh_status evh_vec_erase(evh_heap *heap, evh_vec *vec, size_t index, size_t count)
{
    struct collect_items *head;
    const evh_status status = vec_change(heap, vec, &head);
    if (status) return status;
    const uint64_t present = head ? head->count : 0;
    if (!base_in_range(index, count, present))
        return base_fail(EVH_INVALID, NO_OFFSET, "no such items in a vec of %llu",
                         (unsigned long long)present);
    if (count == 0) return EVH_OK;
    const uint64_t behind = head->count - index - count;
    const uint64_t size = head->item_size;
    unsigned char *const place = items_at(head, head->first + index);
    assert(index + count + behind == head->count);
    if (index < behind) {
        memmove(items_at(head, head->first + count), items_at(head, head->first), index * size);
        head->first += count;
    } else {
        memmove(place, place + count * size, behind * size);
    }
    head->count -= count;
    if (head->count == 0) head->first = 0;
    assert(head->first + head->count <= head->capacity);
    return EVH_OK;
}

bool evh_vec_pop(evh_heap *heap, evh_vec *vec, void *item)
{
    if (collect_writable(heap, vec)) return false;
    struct collect_items *const head = vec_head(heap, vec);
    if (!head || head->count == 0) return false;
    head->count--;
    assert(head->count < head->capacity);
    if (item) memcpy(item, items_at(head, head->first + head->count), head->item_size);
    if (head->count == 0) head->first = 0;
    assert(head->first + head->count <= head->capacity);
    return true;
}

evh_status evh_vec_resize(evh_heap *heap, evh_vec *vec, size_t item_size, size_t count)
{
    struct collect_items *head;
    const evh_status status = vec_change(heap, vec, &head);
    if (status) return status;
    if (!items_size_fits(head, item_size)) return EVH_INVALID;
    const uint64_t present = head ? head->count : 0;
    if (count <= present) return evh_vec_erase(heap, vec, count, present - count);
    head = vec_make_room(heap, vec, item_size, count - present);
    if (!head) return collect_failed();
    assert(head->count == present);
    assert(head->first + count <= head->capacity);
    vec_fill(head, items_at(head, head->first + head->count), NULL, count - present);
    head->count = count;
    return EVH_OK;
}

evh_status evh_vec_reserve(evh_heap *heap, evh_vec *vec, size_t item_size, size_t count)
{
    struct collect_items *head;
    const evh_status status = vec_change(heap, vec, &head);
    if (status) return status;
    if (!items_size_fits(head, item_size)) return EVH_INVALID;
    if (head) assert(head->first <= head->capacity);
    if (count == 0 || (head && count <= head->capacity - head->first)) return EVH_OK;
    assert(!head || count > head->count);
    return vec_grow(heap, vec, head, item_size, count) ? EVH_OK : collect_failed();
}

evh_status evh_vec_clear(evh_heap *heap, evh_vec *vec)
{
    const evh_status status = collect_writable(heap, vec);
    return status ? status : items_clear(heap, &vec->offset);
}

evh_status evh_vec_check(evh_heap *heap, const evh_vec *vec)
{
    if (!heap || !vec) return base_fail(EVH_INVALID, NO_OFFSET, "no vec: it is null");
    return items_check(heap, vec->offset, vec_word, false);
}
