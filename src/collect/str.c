/* str.c -- strings that change: one block each, a head of 8 bytes, the text, a zero.
 *
 * The room is what the block holds: evh_malloc()'s classes leave an eighth at most, so a capacity
 * of its own would save little. Appending beyond it takes half as much again. A change that moves
 * the string makes the new block first, so that a failure leaves the old one.
 */
#include "collect/collect.h"

/* Bytes of a block for `size` bytes of text. */
static uint64_t str_block_bytes(uint64_t size)
{
    assert(size <= EVH_STR_SIZE_MAX);
    return sizeof(struct collect_str) + size + 1;
}

static char *str_text_of(struct collect_str *block)
{
    assert(block != NULL);
    return (char *)(block + 1);
}

/* Set the size of a text that is in its place. */
static void str_finish(struct collect_str *block, size_t size)
{
    assert(block != NULL);
    assert(size <= EVH_STR_SIZE_MAX);
    block->word = COLLECT_WORD(COLLECT_STR, 1);
    block->size = (uint32_t)size;
    str_text_of(block)[size] = 0;
    assert(block->size == size);
}

static evh_status str_too_long(void)
{
    return base_fail(EVH_LIMIT, NO_OFFSET, "a string is at most %llu bytes",
                     (unsigned long long)EVH_STR_SIZE_MAX);
}

uint64_t collect_new_text(evh_heap *heap, const void *bytes, size_t size)
{
    assert(heap != NULL);
    assert(bytes != NULL || size == 0);
    if (size > EVH_STR_SIZE_MAX) {
        (void)str_too_long();
        return 0;
    }
    struct collect_str *const block = evh_malloc(heap, str_block_bytes(size));
    if (!block) return 0;
    if (size > 0) memcpy(str_text_of(block), bytes, size);
    str_finish(block, size);
    assert(str_text_of(block)[size] == 0);
    return collect_offset(heap, block);
}

evh_status collect_check_text(evh_heap *heap, uint64_t ref)
{
    assert(heap != NULL);
    size_t size = 0;
    const char *const text = collect_text(heap, ref, &size);
    if (!text) return EVH_CORRUPT;
    assert(ref % 16 == 0);
    if (text[size] != 0) return collect_corrupt(ref, "a string does not end in a zero");
    return collect_check_block(heap, ref, str_block_bytes(size));
}

const char *collect_search(const char *text, size_t text_size, const void *part, size_t size)
{
    assert(text != NULL);
    assert(part != NULL || size == 0);
    if (size == 0) return text;
    const char *const bytes = part;
    const char *at = text;
    size_t rest = text_size;
    while (rest >= size) {
        const char *const found = memchr(at, bytes[0], rest - size + 1);
        if (!found) return NULL;
        assert((size_t)(found - text) + size <= text_size);
        if (memcmp(found, bytes, size) == 0) return found;
        rest -= (size_t)(found - at) + 1;
        at = found + 1;
    }
    return NULL;
}

/* ---- asking ---- */

const char *evh_str_text(const evh_heap *heap, const evh_str *string, size_t *size)
{
    size_t found_size = 0;
    const char *text = NULL;
    if (string && string->offset) text = collect_text(heap, string->offset, &found_size);
    if (size) *size = found_size;
    if (text) assert(heap != NULL);
    if (!text) assert(found_size == 0);
    return text ? text : "";
}

size_t evh_str_size(const evh_heap *heap, const evh_str *string)
{
    size_t size;
    (void)evh_str_text(heap, string, &size);
    if (size > 0) assert(heap != NULL);
    if (size > 0) assert(string->offset != 0);
    return size;
}

int evh_str_compare(const evh_heap *heap, const evh_str *first, const evh_str *second)
{
    size_t first_size, second_size;
    const char *const first_text = evh_str_text(heap, first, &first_size);
    const char *const second_text = evh_str_text(heap, second, &second_size);
    const size_t common = first_size < second_size ? first_size : second_size;
    assert(first_text != NULL);
    assert(second_text != NULL);
    const int order = memcmp(first_text, second_text, common);
    if (order) return order;
    return (first_size > second_size) - (first_size < second_size);
}

bool evh_str_equals(const evh_heap *heap, const evh_str *string, const void *bytes, size_t size)
{
    size_t text_size;
    const char *const text = evh_str_text(heap, string, &text_size);
    assert(text != NULL);
    if (text_size > 0) assert(string->offset != 0);
    return text_size == size && (size == 0 || memcmp(text, bytes, size) == 0);
}

size_t evh_str_find(const evh_heap *heap, const evh_str *string, size_t from, const void *needle,
                    size_t size)
{
    size_t text_size;
    const char *const text = evh_str_text(heap, string, &text_size);
    if (from > text_size || (!needle && size > 0)) return EVH_NOWHERE;
    const char *const found = collect_search(text + from, text_size - from, needle, size);
    if (found) assert(found >= text + from);
    if (found) assert(size <= text_size - (size_t)(found - text));
    return found ? (size_t)(found - text) : EVH_NOWHERE;
}

evh_status evh_str_check(evh_heap *heap, const evh_str *string)
{
    if (!heap || !string) return base_fail(EVH_INVALID, NO_OFFSET, "no string: it is null");
    return string->offset ? collect_check_text(heap, string->offset) : EVH_OK;
}

/* ---- changing ---- */

/* A string about to change: what is there. */
struct str_place {
    struct collect_str *block; /* NULL: none yet */
    uint64_t room;             /* bytes of text that the block holds */
    size_t size;
};

static evh_status str_begin(evh_heap *heap, const evh_str *string, struct str_place *place)
{
    assert(place != NULL);
    *place = (struct str_place){0};
    const evh_status status = collect_writable(heap, string);
    if (status || string->offset == 0) return status;
    if (!collect_text(heap, string->offset, &place->size)) return EVH_CORRUPT;
    const uint64_t bytes = collect_block_bytes(heap, string->offset);
    if (bytes < str_block_bytes(place->size))
        return bytes ? collect_corrupt(string->offset, "a string reaches beyond its block")
                     : EVH_CORRUPT;
    place->block = (struct collect_str *)(void *)(heap->view.base + string->offset);
    place->room = base_min(bytes - str_block_bytes(0), EVH_STR_SIZE_MAX);
    assert(place->size <= place->room);
    return EVH_OK;
}

/* Give the string a block of its own for `size` bytes that keeps the text. */
static evh_status str_grow(evh_heap *heap, evh_str *string, struct str_place *place, uint64_t size)
{
    assert(heap != NULL);
    assert(size <= EVH_STR_SIZE_MAX);
    assert(size > place->room);
    struct collect_str *const block = evh_realloc(heap, place->block, str_block_bytes(size));
    if (!block) return collect_failed();
    if (!place->block) str_finish(block, 0);
    place->block = block;
    place->room = size;
    assert(place->size <= place->room);
    string->offset = collect_offset(heap, block);
    return EVH_OK;
}

/* The new text in a block of its own, when its bytes come from the old one. */
static evh_status str_rebuild(evh_heap *heap, evh_str *string, const struct str_place *place,
                              size_t at, size_t erase_size, const void *bytes, size_t size)
{
    assert(at + erase_size <= place->size);
    assert(size > 0);
    const size_t total = place->size - erase_size + size;
    assert(total > 0);
    assert(place->block != NULL);
    struct collect_str *const block = evh_malloc(heap, str_block_bytes(total));
    if (!block) return collect_failed();
    char *const text = str_text_of(block);
    const char *const old = str_text_of(place->block);
    memcpy(text, old, at);
    memcpy(text + at, bytes, size);
    memcpy(text + at + size, old + at + erase_size, place->size - at - erase_size);
    str_finish(block, total);
    assert(block != place->block);
    string->offset = collect_offset(heap, block);
    evh_free(heap, place->block);
    return EVH_OK;
}

/* Whether the bytes lie in the string's own block. */
static bool str_is_own(const struct str_place *place, const void *bytes)
{
    assert(place->room <= EVH_STR_SIZE_MAX);
    assert(bytes != NULL);
    const uintptr_t first = (uintptr_t)place->block;
    const uintptr_t address = (uintptr_t)bytes;
    return place->block && address >= first && address < first + str_block_bytes(place->room);
}

evh_status evh_str_splice(evh_heap *heap, evh_str *string, size_t at, size_t erase_size,
                          const void *bytes, size_t size)
{
    struct str_place place;
    evh_status status = str_begin(heap, string, &place);
    if (status) return status;
    if (!base_in_range(at, erase_size, place.size) || (!bytes && size > 0))
        return base_fail(EVH_INVALID, NO_OFFSET, "no such part of a string of %zu bytes",
                         place.size);
    const size_t kept = place.size - erase_size;
    if (size > EVH_STR_SIZE_MAX - kept) return str_too_long();
    if (kept + size == 0) return evh_str_clear(heap, string);
    if (size > 0 && str_is_own(&place, bytes))
        return str_rebuild(heap, string, &place, at, erase_size, bytes, size);
    if (kept + size > place.room) {
        const uint64_t ample = place.room + place.room / 2;
        const uint64_t wanted = base_max(kept + size, base_min(ample, EVH_STR_SIZE_MAX));
        status = str_grow(heap, string, &place, wanted);
        if (status && wanted > kept + size) status = str_grow(heap, string, &place, kept + size);
        if (status) return status;
    }
    assert(place.block != NULL);
    assert(kept + size <= place.room);
    char *const text = str_text_of(place.block);
    memmove(text + at + size, text + at + erase_size, kept - at);
    if (size > 0) memcpy(text + at, bytes, size);
    str_finish(place.block, kept + size);
    return EVH_OK;
}

evh_status evh_str_set(evh_heap *heap, evh_str *string, const void *bytes, size_t size)
{
    struct str_place place;
    const evh_status status = str_begin(heap, string, &place);
    if (status) return status;
    if (!bytes && size > 0)
        return base_fail(EVH_INVALID, NO_OFFSET, "no bytes for a string: they are null");
    if (size == 0) return evh_str_clear(heap, string);
    assert(place.size <= place.room);
    if (size <= place.room && size >= place.room / 4) {
        assert(place.block != NULL);
        memmove(str_text_of(place.block), bytes, size);
        str_finish(place.block, size);
        return EVH_OK;
    }
    const uint64_t made = collect_new_text(heap, bytes, size);
    if (made == 0) return collect_failed();
    string->offset = made;
    evh_free(heap, place.block);
    return EVH_OK;
}

evh_status evh_str_append(evh_heap *heap, evh_str *string, const void *bytes, size_t size)
{
    const size_t end = evh_str_size(heap, string);
    if (size == 0) return collect_writable(heap, string);
    return evh_str_splice(heap, string, end, 0, bytes, size);
}

evh_status evh_str_reserve(evh_heap *heap, evh_str *string, size_t size)
{
    struct str_place place;
    const evh_status status = str_begin(heap, string, &place);
    if (status || size <= place.room) return status;
    if (size > EVH_STR_SIZE_MAX) return str_too_long();
    assert(size > place.size);
    assert(!place.block || string->offset != 0);
    return str_grow(heap, string, &place, size);
}

evh_status evh_str_clear(evh_heap *heap, evh_str *string)
{
    evh_status status = collect_writable(heap, string);
    if (status) return status;
    assert(heap != NULL);
    assert(string != NULL);
    status = collect_free(heap, string->offset);
    string->offset = 0;
    return status;
}
