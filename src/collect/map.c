/* map.c -- hash tables from numbers, symbols or bytes to values of one size.
 *
 * A head that leads to the table (hash_table.h). An item is the number and the value, side by side;
 * or, for bytes, their hash, the ref of a str that holds them, and the value. The hash spares
 * comparisons of strings, and splits of parts need not read the strings.
 */
#include "collect/hash_table.h"

static_assert(sizeof(struct hash_walk) == sizeof((evh_map_cursor *)0)->position,
              "a cursor's position is a walk");

/* Bytes of an item before its value. */
static uint32_t map_key_bytes(uint32_t key_kind)
{
    assert(key_kind <= EVH_KEY_BYTES);
    assert(key_kind != EVH_KEY_NONE);
    return key_kind == EVH_KEY_BYTES ? sizeof(struct collect_map_bytes) : 8;
}

static uint32_t map_item_size(uint32_t key_kind, uint64_t value_size)
{
    assert(key_kind - 1 < EVH_KEY_BYTES);
    assert(value_size <= EVH_ITEM_SIZE_MAX);
    return map_key_bytes(key_kind) + (uint32_t)base_round_up(value_size, 8);
}

/* The map's head, its sizes checked; NULL for an empty or damaged one. */
static inline struct collect_map *map_head(const evh_heap *heap, const evh_map *map)
{
    if (UNLIKELY(!map || map->offset == 0)) return NULL;
    struct collect_map *const head =
        collect_find(heap, map->offset, sizeof *head, COLLECT_WORD(COLLECT_MAP, 1));
    if (UNLIKELY(!head)) return NULL;
    assert(heap != NULL);
    assert(map->offset % 16 == 0);
    if (LIKELY(head->key_kind - 1 < EVH_KEY_BYTES && head->value_size <= EVH_ITEM_SIZE_MAX &&
               head->table.item_size == map_item_size(head->key_kind, head->value_size) &&
               head->table.is_number == (head->key_kind != EVH_KEY_BYTES)))
        return head;
    (void)collect_corrupt(map->offset, "the head of a map is not one");
    return NULL;
}

/* The head of a map of this kind of keys, if it begins as one; else NULL and no error. */
static inline __attribute__((always_inline)) struct collect_map *map_quick_head(
    const evh_heap *heap, const evh_map *map, evh_key_kind key_kind, struct heap_starts *starts)
{
    assert(key_kind != EVH_KEY_NONE);
    static_assert(sizeof(struct collect_map) <= HEAP_SPAN_SMALL, "one comparison");
    if (UNLIKELY(!map || !heap)) return NULL;
    *starts = heap_find_starts(heap);
    const uint64_t offset = map->offset;
    if (UNLIKELY(offset % 16 != 0 ||
                 !heap_starts_have(*starts, offset, sizeof(struct collect_map))))
        return NULL;
    struct collect_map *const head = (struct collect_map *)(void *)(heap->view.base + offset);
    uint64_t begins; /* word and key_kind */
    memcpy(&begins, head, sizeof begins);
    const uint64_t as = COLLECT_WORD(COLLECT_MAP, 1) | (uint64_t)key_kind << 32;
    return LIKELY(begins == as) ? head : NULL;
}

/* As map_head() for a map of this kind of keys: NULL and EVH_INVALID for another. */
static inline struct collect_map *map_head_of(const evh_heap *heap, const evh_map *map,
                                              evh_key_kind key_kind)
{
    assert(key_kind != EVH_KEY_NONE);
    struct collect_map *const head = map_head(heap, map);
    if (UNLIKELY(!head)) return NULL;
    assert(head->value_size < head->table.item_size);
    if (LIKELY(head->key_kind == (uint32_t)key_kind)) return head;
    (void)base_fail(EVH_INVALID, map->offset, "a map's keys are of another kind");
    return NULL;
}

static struct collect_map *map_make(evh_heap *heap, evh_map *map, evh_key_kind key_kind,
                                    size_t value_size)
{
    assert(heap != NULL);
    assert(value_size <= EVH_ITEM_SIZE_MAX);
    assert(map->offset == 0);
    struct collect_map *const head = evh_calloc(heap, 1, sizeof *head);
    if (!head) return NULL;
    head->word = COLLECT_WORD(COLLECT_MAP, 1);
    head->key_kind = key_kind;
    head->value_size = (uint32_t)value_size;
    hash_table_begin(&head->table, map_item_size(key_kind, value_size), key_kind != EVH_KEY_BYTES);
    map->offset = collect_offset(heap, head);
    assert(map_head(heap, map) == head);
    return head;
}

/* The head for a put: made if there is none. */
static inline struct collect_map *map_change(evh_heap *heap, evh_map *map, evh_key_kind key_kind,
                                             size_t value_size)
{
    assert(key_kind != EVH_KEY_NONE);
    if (UNLIKELY(collect_writable(heap, map))) return NULL;
    if (UNLIKELY(value_size > EVH_ITEM_SIZE_MAX)) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "a value of %zu bytes is too large", value_size);
        return NULL;
    }
    assert(heap != NULL);
    if (UNLIKELY(map->offset == 0)) return map_make(heap, map, key_kind, value_size);
    struct collect_map *const head = map_head_of(heap, map, key_kind);
    if (UNLIKELY(!head)) return NULL;
    if (LIKELY(head->value_size == value_size)) return head;
    (void)base_fail(EVH_INVALID, map->offset, "a map's values have %u bytes, not %zu",
                    head->value_size, value_size);
    return NULL;
}

/* ---- numbers ---- */

static __attribute__((noinline)) unsigned char *map_find_number(const evh_heap *heap,
                                                                const struct collect_map *head,
                                                                uint64_t hash, uint64_t key,
                                                                unsigned char **control)
{
    assert(head->table.is_number);
    assert(control != NULL);
    struct hash_probe probe = hash_probe_begin(heap, &head->table, hash);
    if (UNLIKELY(!probe.groups)) return NULL;
    for (unsigned char *item; (item = hash_probe_next(&probe));) {
        uint64_t found;
        memcpy(&found, item, sizeof found);
        if (UNLIKELY(found != key)) continue;
        *control = hash_probe_control(&probe);
        return item;
    }
    return NULL;
}

/* The value of a new number, whose hash is known and which is not there. */
static void *map_add_number(evh_heap *heap, struct collect_map *head, uint64_t hash, uint64_t key)
{
    assert(heap != NULL);
    assert(head->table.is_number);
    unsigned char *const item = hash_table_add(heap, &head->table, hash);
    if (!item) return NULL;
    memcpy(item, &key, sizeof key);
    return item + 8;
}

static __attribute__((noinline)) void *map_put_slowly(evh_heap *heap, evh_map *map,
                                                      evh_key_kind key_kind, uint64_t key,
                                                      size_t value_size)
{
    assert(key_kind != EVH_KEY_BYTES);
    assert(key_kind != EVH_KEY_NONE);
    struct collect_map *const head = map_change(heap, map, key_kind, value_size);
    if (!head) return NULL;
    bool is_absent;
    unsigned char *control;
    const uint64_t hash = collect_hash_number(head->table.key, key);
    unsigned char *item = map_find(heap, head, hash, key, &is_absent, &control);
    if (!item && !is_absent) item = map_find_number(heap, head, hash, key, &control);
    return item ? item + 8 : map_add_number(heap, head, hash, key);
}

static inline __attribute__((always_inline)) void *map_put_number(evh_heap *heap, evh_map *map,
                                                                  evh_key_kind key_kind,
                                                                  uint64_t key, size_t value_size)
{
    assert(key_kind != EVH_KEY_BYTES);
    struct heap_starts starts;
    struct collect_map *const head = map_quick_head(heap, map, key_kind, &starts);
    if (LIKELY(head && head->value_size == value_size)) {
        bool is_absent;
        const uint64_t hash = collect_hash_number(head->table.key, key);
        unsigned char *const item = map_find_first(heap, starts, head, hash, key, &is_absent);
        if (LIKELY(item && heap->is_writable && !heap->is_forked)) return item + 8;
        if (is_absent && !heap_writable(heap) && map_head(heap, map))
            return map_add_number(heap, head, hash, key);
    }
    return map_put_slowly(heap, map, key_kind, key, value_size);
}

static __attribute__((noinline)) void *map_get_slowly(const evh_heap *heap, const evh_map *map,
                                                      evh_key_kind key_kind, uint64_t key)
{
    assert(key_kind != EVH_KEY_BYTES);
    assert(key_kind != EVH_KEY_NONE);
    const struct collect_map *const head = map_head_of(heap, map, key_kind);
    if (!head) return NULL;
    bool is_absent;
    unsigned char *control;
    const uint64_t hash = collect_hash_number(head->table.key, key);
    unsigned char *item = map_find(heap, head, hash, key, &is_absent, &control);
    if (!item && !is_absent) item = map_find_number(heap, head, hash, key, &control);
    return item ? item + 8 : NULL;
}

static inline __attribute__((always_inline)) void *map_get_number(const evh_heap *heap,
                                                                  const evh_map *map,
                                                                  evh_key_kind key_kind,
                                                                  uint64_t key)
{
    assert(key_kind != EVH_KEY_BYTES);
    struct heap_starts starts;
    const struct collect_map *const head = map_quick_head(heap, map, key_kind, &starts);
    if (LIKELY(head != NULL)) {
        bool is_absent;
        const uint64_t hash = collect_hash_number(head->table.key, key);
        unsigned char *const item = map_find_first(heap, starts, head, hash, key, &is_absent);
        if (LIKELY(item != NULL)) return item + 8;
        if (is_absent) return NULL;
    }
    return map_get_slowly(heap, map, key_kind, key);
}

static inline bool map_erase_number(evh_heap *heap, evh_map *map, evh_key_kind key_kind,
                                    uint64_t key)
{
    assert(key_kind != EVH_KEY_BYTES);
    assert(key_kind != EVH_KEY_NONE);
    if (collect_writable(heap, map)) return false;
    struct collect_map *const head = map_head_of(heap, map, key_kind);
    if (!head) return false;
    bool is_absent;
    unsigned char *control;
    const uint64_t hash = collect_hash_number(head->table.key, key);
    unsigned char *item = map_find(heap, head, hash, key, &is_absent, &control);
    if (item) assert(!is_absent);
    if (is_absent) return false;
    if (!item) item = map_find_number(heap, head, hash, key, &control);
    return item && hash_table_remove(heap, &head->table, hash, control) == EVH_OK;
}

void *evh_map_put(evh_heap *heap, evh_map *map, uint64_t key, size_t value_size)
{
    return map_put_number(heap, map, EVH_KEY_NUMBER, key, value_size);
}

void *evh_map_get(const evh_heap *heap, const evh_map *map, uint64_t key)
{
    return map_get_number(heap, map, EVH_KEY_NUMBER, key);
}

bool evh_map_erase(evh_heap *heap, evh_map *map, uint64_t key)
{
    return map_erase_number(heap, map, EVH_KEY_NUMBER, key);
}

void *evh_map_put_symbol(evh_heap *heap, evh_map *map, evh_symbol key, size_t value_size)
{
    return map_put_number(heap, map, EVH_KEY_SYMBOL, key, value_size);
}

void *evh_map_get_symbol(const evh_heap *heap, const evh_map *map, evh_symbol key)
{
    return map_get_number(heap, map, EVH_KEY_SYMBOL, key);
}

bool evh_map_erase_symbol(evh_heap *heap, evh_map *map, evh_symbol key)
{
    return map_erase_number(heap, map, EVH_KEY_SYMBOL, key);
}

/* ---- bytes ---- */

static struct collect_map_bytes *map_find_bytes(const evh_heap *heap,
                                                const struct collect_map *head, uint64_t hash,
                                                const void *key, size_t size,
                                                unsigned char **control)
{
    assert(head->key_kind == EVH_KEY_BYTES);
    assert(key != NULL || size == 0);
    assert(control != NULL);
    struct hash_probe probe = hash_probe_begin(heap, &head->table, hash);
    if (UNLIKELY(!probe.groups)) return NULL;
    for (struct collect_map_bytes *item; (item = hash_probe_next(&probe));)
        if (item->hash == hash && collect_text_is(heap, item->text, key, size)) {
            *control = hash_probe_control(&probe);
            return item;
        }
    return NULL;
}

/* Whether the caller gave bytes. */
static bool map_is_key(const void *key, size_t size)
{
    if (key || size == 0) return true;
    assert(key == NULL);
    assert(size > 0);
    (void)base_fail(EVH_INVALID, NO_OFFSET, "no bytes for a key: they are null");
    return false;
}

void *evh_map_put_bytes(evh_heap *heap, evh_map *map, const void *key, size_t size,
                        size_t value_size)
{
    if (!map_is_key(key, size)) return NULL;
    struct collect_map *const head = map_change(heap, map, EVH_KEY_BYTES, value_size);
    if (!head) return NULL;
    unsigned char *control;
    const uint64_t hash = collect_hash_bytes(head->table.key, key, size);
    struct collect_map_bytes *item = map_find_bytes(heap, head, hash, key, size, &control);
    if (item) return item + 1;
    const uint64_t text = collect_new_text(heap, key, size);
    if (text == 0) return NULL;
    item = hash_table_add(heap, &head->table, hash);
    if (!item) {
        evh_free(heap, heap->view.base + text);
        return NULL;
    }
    assert(item->hash == 0);
    assert(text % 16 == 0);
    *item = (struct collect_map_bytes){.hash = hash, .text = text};
    return item + 1;
}

void *evh_map_get_bytes(const evh_heap *heap, const evh_map *map, const void *key, size_t size)
{
    if (!map_is_key(key, size)) return NULL;
    const struct collect_map *const head = map_head_of(heap, map, EVH_KEY_BYTES);
    if (!head) return NULL;
    unsigned char *control;
    const uint64_t hash = collect_hash_bytes(head->table.key, key, size);
    struct collect_map_bytes *const item = map_find_bytes(heap, head, hash, key, size, &control);
    if (item) assert(item->hash == hash);
    if (item) assert(item->text != 0);
    return item ? item + 1 : NULL;
}

bool evh_map_erase_bytes(evh_heap *heap, evh_map *map, const void *key, size_t size)
{
    if (collect_writable(heap, map) || !map_is_key(key, size)) return false;
    struct collect_map *const head = map_head_of(heap, map, EVH_KEY_BYTES);
    if (!head) return false;
    unsigned char *control;
    const uint64_t hash = collect_hash_bytes(head->table.key, key, size);
    struct collect_map_bytes *const item = map_find_bytes(heap, head, hash, key, size, &control);
    if (!item || collect_block_bytes(heap, item->text) == 0) return false;
    const uint64_t text = item->text;
    assert(item->hash == hash);
    assert(text != 0);
    return hash_table_remove(heap, &head->table, hash, control) == EVH_OK &&
           collect_free(heap, text) == EVH_OK;
}

/* ---- the whole map ---- */

uint64_t evh_map_count(const evh_heap *heap, const evh_map *map)
{
    const struct collect_map *const head = map_head(heap, map);
    if (head) assert(heap != NULL);
    if (head) assert(head->key_kind != EVH_KEY_NONE);
    return head ? head->table.count : 0;
}

evh_key_kind evh_map_key_kind(const evh_heap *heap, const evh_map *map)
{
    const struct collect_map *const head = map_head(heap, map);
    if (head) assert(head->key_kind != EVH_KEY_NONE);
    if (head) assert(head->key_kind <= EVH_KEY_BYTES);
    return head ? (evh_key_kind)head->key_kind : EVH_KEY_NONE;
}

size_t evh_map_value_size(const evh_heap *heap, const evh_map *map)
{
    const struct collect_map *const head = map_head(heap, map);
    if (head) assert(head->value_size <= EVH_ITEM_SIZE_MAX);
    if (head) assert(head->value_size < head->table.item_size);
    return head ? head->value_size : 0;
}

bool evh_map_next(const evh_heap *heap, const evh_map *map, evh_map_cursor *cursor)
{
    const struct collect_map *const head = map_head(heap, map);
    if (!head) return false;
    struct hash_walk walk;
    memcpy(&walk, cursor->position, sizeof walk);
    unsigned char *const item = hash_walk_next(heap, &head->table, &walk);
    memcpy(cursor->position, &walk, sizeof walk);
    if (!item) return false;
    memcpy(&cursor->key, item, sizeof cursor->key);
    cursor->bytes = NULL;
    cursor->size = 0;
    cursor->value = item + map_key_bytes(head->key_kind);
    assert(cursor->value != NULL);
    assert(map_key_bytes(head->key_kind) + head->value_size <= head->table.item_size);
    if (head->key_kind != EVH_KEY_BYTES) return true;
    const struct collect_map_bytes *const key = (const struct collect_map_bytes *)(void *)item;
    cursor->bytes = collect_text(heap, key->text, &cursor->size);
    return cursor->bytes != NULL;
}

/* Free the keys that are strings. */
static evh_status map_clear_keys(evh_heap *heap, const struct collect_map *head)
{
    assert(heap != NULL);
    assert(head != NULL);
    evh_status status = EVH_OK;
    struct hash_walk walk = {0};
    if (head->key_kind != EVH_KEY_BYTES) return EVH_OK;
    for (struct collect_map_bytes *item; (item = hash_walk_next(heap, &head->table, &walk));)
        if (collect_free(heap, item->text)) status = EVH_CORRUPT;
    return status;
}

evh_status evh_map_clear(evh_heap *heap, evh_map *map)
{
    evh_status status = collect_writable(heap, map);
    if (status || map->offset == 0) return status;
    struct collect_map *const head = map_head(heap, map);
    if (!head || collect_check_block(heap, map->offset, sizeof *head)) {
        map->offset = 0;
        return EVH_CORRUPT;
    }
    status = map_clear_keys(heap, head);
    if (hash_table_clear(heap, &head->table)) status = EVH_CORRUPT;
    assert(head->table.root == 0);
    assert(head->table.count == 0);
    if (collect_free(heap, map->offset)) status = EVH_CORRUPT;
    map->offset = 0;
    return status;
}

/* A key that is a string is sound, and its hash is that of the item. */
static evh_status map_check_bytes(evh_heap *heap, const void *item, void *context)
{
    assert(item != NULL);
    assert(context != NULL);
    const struct collect_map *const head = context;
    const struct collect_map_bytes *const key = item;
    size_t size = 0;
    if (collect_check_text(heap, key->text)) return EVH_CORRUPT;
    const char *const text = collect_text(heap, key->text, &size);
    if (!text || collect_hash_bytes(head->table.key, text, size) != key->hash)
        return collect_corrupt(collect_offset(heap, item), "a key of a map has another hash");
    return EVH_OK;
}

evh_status evh_map_check(evh_heap *heap, const evh_map *map)
{
    if (!heap || !map) return base_fail(EVH_INVALID, NO_OFFSET, "no map: it is null");
    if (map->offset == 0) return EVH_OK;
    struct collect_map *const head = map_head(heap, map);
    if (!head || collect_check_block(heap, map->offset, sizeof *head)) return EVH_CORRUPT;
    assert(head->key_kind - 1 < EVH_KEY_BYTES);
    assert(map->offset % 16 == 0);
    if (head->reserved) return collect_corrupt(map->offset, "the head of a map is not one");
    return hash_table_check(heap, &head->table, map->offset,
                            head->key_kind == EVH_KEY_BYTES ? map_check_bytes : NULL, head);
}
