/* journal_index.c -- which pages live records changed, and sets of pages. */
#include "journal/journal_internal.h"

static uint32_t index_bucket(const struct journal_index *index, uint64_t page)
{
    assert(index->bucket_count > 0);
    assert(base_is_power_of_two(index->bucket_count));
    /* Fibonacci hashing: neighbours spread, the high bits are the best. */
    const uint64_t hash = page * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(hash >> 32) & (index->bucket_count - 1);
}

struct journal_node *index_find(struct journal_index *index, uint64_t page)
{
    assert(index != NULL);
    if (index->node_count == 0) return NULL;
    assert(index->buckets != NULL);
    uint32_t at = index->buckets[index_bucket(index, page)];
    while (at != JOURNAL_NO_NODE) {
        struct journal_node *node = &index->nodes[at];
        if (node->page == page) return node;
        at = node->next;
    }
    return NULL;
}

void index_expect(const struct journal_index *index, uint64_t page)
{
    assert(index != NULL);
    if (index->node_count) __builtin_prefetch(&index->buckets[index_bucket(index, page)]);
}

void index_expect_node(const struct journal_index *index, uint64_t page)
{
    assert(index != NULL);
    if (index->node_count == 0) return;
    const uint32_t at = index->buckets[index_bucket(index, page)];
    if (at == JOURNAL_NO_NODE) return;
    __builtin_prefetch(&index->nodes[at]);
    __builtin_prefetch((const unsigned char *)&index->nodes[at] + 64);
}

static void index_link(struct journal_index *index, uint32_t at)
{
    assert(at < index->node_top);
    assert(index->nodes[at].sequence != 0);
    const uint32_t bucket = index_bucket(index, index->nodes[at].page);
    index->nodes[at].next = index->buckets[bucket];
    index->buckets[bucket] = at;
}

/* Twice the buckets, all nodes in use linked anew. A free node has sequence 0. */
static evh_status index_rehash(struct journal_index *index, uint32_t bucket_count)
{
    assert(bucket_count >= index->bucket_count);
    assert(base_is_power_of_two(bucket_count));
    uint32_t *buckets = os->memory_allocate(bucket_count * sizeof *buckets);
    if (!buckets)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for the index of %u pages",
                         bucket_count);
    memset(buckets, 0xff, bucket_count * sizeof *buckets);
    os->memory_free(index->buckets);
    index->buckets = buckets;
    index->bucket_count = bucket_count;
    for (uint32_t at = 0; at < index->node_top; at++)
        if (index->nodes[at].sequence) index_link(index, at);
    return EVH_OK;
}

evh_status index_reserve(struct journal_index *index, uint32_t more)
{
    assert(index->node_count <= index->node_limit);
    const uint64_t need = (uint64_t)index->node_count + more;
    if (need >= JOURNAL_NO_NODE / 2)
        return base_fail(EVH_LIMIT, NO_OFFSET, "a commit of %llu pages is too large",
                         (unsigned long long)need);
    if (need > index->node_limit) {
        uint64_t limit = base_max(64, index->node_limit);
        while (limit < need) limit *= 2;
        struct journal_node *nodes = os->memory_resize(index->nodes, limit * sizeof *nodes);
        if (!nodes)
            return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for the index of %llu pages",
                             (unsigned long long)limit);
        if (index->node_limit == 0) index->free_list = JOURNAL_NO_NODE;
        index->nodes = nodes;
        index->node_limit = (uint32_t)limit;
    }
    assert(need <= index->node_limit);
    uint32_t buckets = index->bucket_count ? index->bucket_count : 64;
    while (buckets < need + need / 2) buckets *= 2; /* few chains of more than one node */
    if (buckets != index->bucket_count) return index_rehash(index, buckets);
    return EVH_OK;
}

struct journal_node *index_add(struct journal_index *index, uint64_t page)
{
    assert(index->node_count < index->node_limit);
    assert(index_find(index, page) == NULL);
    uint32_t at = index->free_list;
    if (at != JOURNAL_NO_NODE)
        index->free_list = index->nodes[at].next;
    else
        at = index->node_top++;
    assert(at < index->node_limit);
    struct journal_node *node = &index->nodes[at];
    memset(node, 0, sizeof *node);
    node->page = page;
    node->sequence = UINT64_MAX; /* in use; the caller sets the right one */
    index_link(index, at);
    index->node_count++;
    return node;
}

void index_remove(struct journal_index *index, uint64_t page)
{
    assert(index->node_count <= index->node_top);
    assert(index->node_top <= index->node_limit);
    if (index->node_count == 0) return;
    uint32_t *link = &index->buckets[index_bucket(index, page)];
    while (*link != JOURNAL_NO_NODE) {
        const uint32_t at = *link;
        struct journal_node *node = &index->nodes[at];
        if (node->page == page) {
            *link = node->next;
            node->sequence = 0;
            node->next = index->free_list;
            index->free_list = at;
            index->node_count--;
            return;
        }
        link = &node->next;
    }
}

void index_note(struct journal_node *node, struct journal_live *live,
                const struct journal_entry *entry, const unsigned char *record)
{
    assert(live->sequence != 0);
    assert(record != NULL);
    assert(node->page == entry->page);
    node->sequence = live->sequence;
    const uint64_t at = (uint64_t)entry->data_offset * 8;
    if (entry->kind == JOURNAL_HOME) {
        assert(bulk_is_at_home(node)); /* nothing older knows the page */
        node->checksum = entry->data_offset;
        return;
    }
    if (entry->kind != JOURNAL_RANGES) {
        node->image_in = live;
        node->image_at = entry->kind == JOURNAL_ZERO ? JOURNAL_ZERO_IMAGE : at;
        node->ranges_in = NULL;
        node->ranges_count = 0;
        memset(node->mask, 0, sizeof node->mask);
        return;
    }
    node->ranges_in = live;
    node->ranges_at = at;
    node->ranges_count = entry->count;
    node->checksum = page_ranges_checksum(record + at);
    page_apply_ranges(NULL, record + at, entry->count, node->mask);
}

void index_forget(struct journal_index *index, uint64_t sequence)
{
    assert(index->node_count <= index->node_limit);
    assert(index->node_count <= index->node_top);
    for (uint32_t bucket = 0; bucket < index->bucket_count && index->node_count; bucket++) {
        uint32_t *link = &index->buckets[bucket];
        while (*link != JOURNAL_NO_NODE) {
            const uint32_t at = *link;
            struct journal_node *node = &index->nodes[at];
            if (node->sequence > sequence) {
                /* Its base is home now; its ranges hold all that home may lack. */
                if (node->image_in && node->image_in->sequence <= sequence) node->image_in = NULL;
                link = &node->next;
                continue;
            }
            *link = node->next;
            node->sequence = 0;
            node->next = index->free_list;
            index->free_list = at;
            index->node_count--;
        }
    }
}

void index_end(struct journal_index *index)
{
    assert(index != NULL);
    assert(index->node_count <= index->node_limit);
    os->memory_free(index->nodes);
    os->memory_free(index->buckets);
    memset(index, 0, sizeof *index);
}

/* ---- sets of pages ---- */

static evh_status bits_reserve(struct journal_bits *bits, uint64_t page_count)
{
    assert(bits != NULL);
    assert(bits->count <= bits->word_count * 64);
    const uint64_t need = (page_count + 63) / 64;
    if (need <= bits->word_count) return EVH_OK;
    const uint64_t word_count = base_max(need, 2 * bits->word_count);
    uint64_t *words = os->memory_resize(bits->words, word_count * sizeof *words);
    if (!words)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for a set of %llu pages",
                         (unsigned long long)page_count);
    memset(words + bits->word_count, 0, (word_count - bits->word_count) * sizeof *words);
    bits->words = words;
    bits->word_count = word_count;
    return EVH_OK;
}

evh_status bits_add(struct journal_bits *bits, const struct os_pages *runs, size_t count)
{
    assert(bits != NULL);
    if (count == 0) return EVH_OK;
    const struct os_pages *last = &runs[count - 1];
    assert(last->count > 0);
    const evh_status status = bits_reserve(bits, last->first + last->count);
    if (status) return status;
    for (size_t i = 0; i < count; i++)
        for (uint64_t page = runs[i].first; page < runs[i].first + runs[i].count; page++) {
            const uint64_t bit = 1ull << (page % 64);
            bits->count += !(bits->words[page / 64] & bit);
            bits->words[page / 64] |= bit;
        }
    return EVH_OK;
}

void bits_remove(struct journal_bits *bits, uint64_t page)
{
    assert(bits != NULL);
    assert(bits->count <= bits->word_count * 64);
    if (page / 64 >= bits->word_count) return;
    const uint64_t bit = 1ull << (page % 64);
    bits->count -= !!(bits->words[page / 64] & bit);
    bits->words[page / 64] &= ~bit;
}

void bits_end(struct journal_bits *bits)
{
    assert(bits != NULL);
    assert(bits->words != NULL || bits->word_count == 0);
    os->memory_free(bits->words);
    memset(bits, 0, sizeof *bits);
}

static evh_status pages_reserve(struct journal_pages *pages, size_t limit)
{
    assert(pages->count <= pages->limit);
    if (limit <= pages->limit) return EVH_OK;
    size_t size = pages->limit ? pages->limit : 64;
    while (size < limit) size *= 2;
    assert(size >= limit);
    struct os_pages *runs = os->memory_resize(pages->runs, size * sizeof *runs);
    if (!runs) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for a set of %zu pages", size);
    pages->runs = runs;
    pages->limit = size;
    return EVH_OK;
}

/* Append behind the last run, or join it. Room is there. */
static void pages_append(struct journal_pages *pages, uint64_t first, uint64_t count)
{
    assert(count > 0);
    struct os_pages *last = pages->count ? &pages->runs[pages->count - 1] : NULL;
    if (last && first <= last->first + last->count) {
        const uint64_t end = base_max(last->first + last->count, first + count);
        last->count = end - last->first;
        return;
    }
    assert(pages->count < pages->limit);
    assert(pages->runs != NULL);
    pages->runs[pages->count++] = (struct os_pages){first, count};
}

evh_status pages_add(struct journal_pages *pages, uint64_t first, uint64_t count)
{
    assert(count > 0);
    assert(first <= UINT64_MAX - count);
    const struct os_pages run = {first, count};
    const struct os_pages *last = pages->count ? &pages->runs[pages->count - 1] : NULL;
    if (last && first < last->first) return pages_merge(pages, &run, 1);
    const evh_status status = pages_reserve(pages, pages->count + 1);
    if (status) return status;
    pages_append(pages, first, count);
    return EVH_OK;
}

evh_status pages_merge(struct journal_pages *pages, const struct os_pages *more, size_t count)
{
    assert(pages != NULL);
    if (count == 0) return EVH_OK;
    struct journal_pages merged = {NULL, 0, 0};
    if (pages->count == 0) { /* the common case, without a new array */
        merged = *pages;
        pages->runs = NULL;
        pages->limit = 0;
    }
    const evh_status status = pages_reserve(&merged, pages->count + count);
    if (status) {
        os->memory_free(merged.runs);
        return status;
    }
    size_t a = 0, b = 0;
    while (a < pages->count || b < count) {
        const bool take_a =
            b == count || (a < pages->count && pages->runs[a].first <= more[b].first);
        const struct os_pages run = take_a ? pages->runs[a++] : more[b++];
        if (run.count) pages_append(&merged, run.first, run.count);
    }
    assert(a == pages->count);
    assert(b == count);
    assert(merged.count <= merged.limit);
    os->memory_free(pages->runs);
    *pages = merged;
    return EVH_OK;
}

uint64_t pages_count(const struct journal_pages *pages)
{
    assert(pages->count <= pages->limit);
    assert(pages->runs != NULL || pages->count == 0);
    uint64_t count = 0;
    for (size_t i = 0; i < pages->count; i++) count += pages->runs[i].count;
    return count;
}

void pages_end(struct journal_pages *pages)
{
    assert(pages != NULL);
    assert(pages->count <= pages->limit);
    os->memory_free(pages->runs);
    memset(pages, 0, sizeof *pages);
}
