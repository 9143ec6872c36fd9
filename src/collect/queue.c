/* queue.c -- rings: one block, a head of 32 bytes and the items, the oldest anywhere in them. */
#include "collect/items.h"

static const uint32_t queue_word = COLLECT_WORD(COLLECT_QUEUE, 1);

static struct collect_items *queue_head(const evh_heap *heap, const evh_queue *queue)
{
    struct collect_items *const head = queue ? items_head(heap, queue->offset, queue_word) : NULL;
    if (head) assert(head->count <= head->capacity);
    if (head) assert(head->first <= head->capacity);
    return head;
}

/* Where item `index` lies, counted from the oldest. */
static uint64_t queue_place(const struct collect_items *head, uint64_t index)
{
    assert(index < head->capacity);
    assert(head->first <= head->capacity);
    const uint64_t rest = head->capacity - head->first;
    return index < rest ? head->first + index : index - rest;
}

/* A block of twice the size with the items in order; the head, or NULL. */
static struct collect_items *queue_grow(evh_heap *heap, evh_queue *queue,
                                        struct collect_items *head, size_t item_size)
{
    assert(heap != NULL);
    assert(!head || head->count == head->capacity);
    uint64_t bytes;
    if (items_block_bytes(item_size, head ? 2 * head->capacity + 1 : 6, &bytes)) return NULL;
    if (head && collect_check_block(heap, queue->offset,
                                    sizeof *head + head->capacity * (uint64_t)head->item_size))
        return NULL;
    struct collect_items *const made = items_make(heap, queue_word, item_size, bytes);
    if (!made) return NULL;
    if (head) {
        const uint64_t rest = base_min(head->count, head->capacity - head->first);
        memcpy(items_at(made, 0), items_at(head, head->first), rest * item_size);
        memcpy(items_at(made, rest), items_at(head, 0), (head->count - rest) * item_size);
        made->count = head->count;
        assert(made->count < made->capacity);
        evh_free(heap, head);
    }
    queue->offset = collect_offset(heap, made);
    return made;
}

evh_status evh_queue_push(evh_heap *heap, evh_queue *queue, size_t item_size, const void *item)
{
    const evh_status status = collect_writable(heap, queue);
    if (status) return status;
    struct collect_items *head = queue_head(heap, queue);
    if (!head && queue->offset) return EVH_CORRUPT;
    if (!items_size_fits(head, item_size)) return EVH_INVALID;
    if (!head || head->count == head->capacity) head = queue_grow(heap, queue, head, item_size);
    if (!head) return collect_failed();
    unsigned char *const place = items_at(head, queue_place(head, head->count));
    if (item)
        memcpy(place, item, item_size);
    else
        memset(place, 0, item_size);
    head->count++;
    assert(head->count <= head->capacity);
    assert(head->first <= head->capacity);
    return EVH_OK;
}

bool evh_queue_pop(evh_heap *heap, evh_queue *queue, void *item)
{
    if (collect_writable(heap, queue)) return false;
    struct collect_items *const head = queue_head(heap, queue);
    if (!head || head->count == 0) return false;
    const uint64_t place = queue_place(head, 0);
    if (item) memcpy(item, items_at(head, place), head->item_size);
    head->first = place + 1;
    head->count--;
    if (head->count == 0) head->first = 0;
    assert(head->first <= head->capacity);
    assert(head->count < head->capacity);
    return true;
}

void *evh_queue_at(const evh_heap *heap, const evh_queue *queue, size_t index)
{
    struct collect_items *const head = queue_head(heap, queue);
    if (head) assert(head->count <= head->capacity);
    if (head) assert(head->first <= head->capacity);
    return head && index < head->count ? items_at(head, queue_place(head, index)) : NULL;
}

size_t evh_queue_count(const evh_heap *heap, const evh_queue *queue)
{
    const struct collect_items *const head = queue_head(heap, queue);
    if (head) assert(head->count <= head->capacity);
    if (head) assert(head->first <= head->capacity);
    return head ? head->count : 0;
}

size_t evh_queue_item_size(const evh_heap *heap, const evh_queue *queue)
{
    const struct collect_items *const head = queue_head(heap, queue);
    if (head) assert(head->item_size > 0);
    if (head) assert(head->item_size <= EVH_ITEM_SIZE_MAX);
    return head ? head->item_size : 0;
}

evh_status evh_queue_clear(evh_heap *heap, evh_queue *queue)
{
    const evh_status status = collect_writable(heap, queue);
    return status ? status : items_clear(heap, &queue->offset);
}

evh_status evh_queue_check(evh_heap *heap, const evh_queue *queue)
{
    if (!heap || !queue) return base_fail(EVH_INVALID, NO_OFFSET, "no queue: it is null");
    return items_check(heap, queue->offset, queue_word, true);
}
