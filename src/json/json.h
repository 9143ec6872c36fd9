/* json.h -- a JSON document in a heap: what the files of this layer offer each other. */
#ifndef EVERHEAP_JSON_JSON_H
#define EVERHEAP_JSON_JSON_H

#include "collect/collect.h"
#include "heap/heap.h"
#include "json/json_layout.h"
#include "json/number.h"
#include "json/scan.h"

#include <everheap/json.h>
#include <everheap/text.h>

/* Is told of every change before it is made, if there is one. */
struct json_observer {
    /** Value `position` of a container comes, goes or becomes another; JSON_ALL: any of them. */
    void (*change)(struct json_observer *observer, struct evh_json *json, uint32_t container,
                   uint32_t position);
    size_t count; /* of what it wrote down: set back when changes are taken back */
};

#define JSON_ALL UINT32_MAX

enum {
    JSON_HINTS = 256, /* of keys: documents have a hundred that matter */
    JSON_SEEKS = 64,  /* of containers: the ones on the way to a value */
};

struct evh_json {
    evh_heap *heap;
    struct json_root *root;         /* in the heap */
    uint64_t stamp;                 /* of the heap's state in which `root` was found */
    struct json_observer *observer; /* borrowed; NULL: none */
    bool keeps_room; /* bodies do not shrink: what is taken out may have to be put back */
    char name[EVH_NAME_SIZE_MAX + 1];
    uint16_t hints[JSON_HINTS]; /* by key: where in an object it was found last. Atomic */
    uint64_t seeks[JSON_SEEKS]; /* by container: its number, and where something was found in it
                                   last, in the lower half. Atomic */
};

/* ---- places: every address that is computed from the file's content comes from here ---- */

/** Report damage at `offset`. Returns EVH_CORRUPT. */
EVH_INTERNAL evh_status json_corrupt(uint64_t offset, const char *what);

/** Whether all of [offset, offset + size) may be read: no journal, no end of the heap. */
static inline bool json_is_in(const struct evh_json *json, uint64_t offset, uint64_t size)
{
    return LIKELY(heap_span_has(json->heap, offset, size)) ||
           collect_is_mapped(json->heap, offset, size);
}

/** As json_is_in(), of `size` bytes of text and the zero behind them. */
static inline bool json_has_text(const struct evh_json *json, uint64_t offset, uint64_t size)
{
    return size < UINT64_MAX && json_is_in(json, offset, size + 1);
}

/** The address of `size` bytes at `offset`, a multiple of 8; NULL if they do not lie in the heap.
 *  Sets no error. */
static inline void *json_at(const struct evh_json *json, uint64_t offset, uint64_t size)
{
    if (UNLIKELY(offset % 8 != 0 || !json_is_in(json, offset, size))) return NULL;
    return json->heap->view.base + offset;
}

static inline uint64_t json_offset(const struct evh_json *json, const void *address)
{
    assert(address != NULL);
    return (uint64_t)((const unsigned char *)address - json->heap->view.base);
}

/** Look the root up again: the heap was rolled back or refreshed. */
EVH_INTERNAL evh_status json_find_root(struct evh_json *json);

/** Begin a call that reads: EVH_OK or the last error's status. */
static inline evh_status json_ready(struct evh_json *json)
{
    if (UNLIKELY(!json)) return base_fail(EVH_INVALID, NO_OFFSET, "json: no document");
    return LIKELY(json->stamp == json->heap->stamp) ? EVH_OK : json_find_root(json);
}

/** Tell of a change that is about to be made. */
static inline void json_observe(struct evh_json *json, uint32_t container, uint32_t position)
{
    if (UNLIKELY(json->observer)) json->observer->change(json->observer, json, container, position);
}

/** Begin a call that changes. */
EVH_INTERNAL evh_status json_writable(struct evh_json *json);

/** Free the block at `offset`; 0 is fine. A block that is none is damage, reported. */
EVH_INTERNAL evh_status json_free(struct evh_json *json, uint64_t offset);

/** A block of `size` bytes: its offset, 0 on failure. `*address` may be NULL. */
EVH_INTERNAL uint64_t json_allocate(struct evh_json *json, uint64_t size, void **address);
EVH_INTERNAL uint64_t json_allocate_aligned(struct evh_json *json, uint64_t size, void **address);

/** Twice the room for an array in memory that is full, of `*capacity` items of `item_bytes`: where
 *  it is now, or NULL and EVH_NO_MEMORY, and it stays as it was. */
EVH_INTERNAL void *json_grow(void *items, size_t *capacity, size_t item_bytes);

/* ---- cells.c ---- */

enum { JSON_CONTAINER_SHIFT = 5, JSON_REF_SHIFT = 6 };

static_assert(1 << JSON_CONTAINER_SHIFT == sizeof(struct json_container), "cells by shift");
static_assert(1 << JSON_REF_SHIFT == sizeof(struct json_ref), "cells by shift");

/** The address of cell `number`, whose size is 1 << shift; NULL if there is none. */
static inline void *cell_at(const struct evh_json *json, const struct json_cells *cells,
                            uint32_t number, uint32_t shift)
{
    const uint32_t slab = number >> (JSON_SLAB_SHIFT - shift);
    if (UNLIKELY(slab >= cells->slab_count || number >= cells->fresh)) return NULL;
    const uint64_t *directory = json_at(json, cells->directory, 8ull * cells->slab_count);
    if (UNLIKELY(!directory || directory[slab] % JSON_SLAB_BYTES)) return NULL;
    unsigned char *const first = json_at(json, directory[slab], JSON_SLAB_BYTES);
    const uint32_t index = number & ((1u << (JSON_SLAB_SHIFT - shift)) - 1);
    return LIKELY(first && index) ? first + ((uint64_t)index << shift) : NULL;
}

/** Take a cell: its number, 0 on failure. `*cell` receives its address; its serial is set, all else
 *  is the caller's to fill. */
EVH_INTERNAL uint32_t cell_take(struct evh_json *json, struct json_cells *cells, uint32_t shift,
                                void **cell);

/* ---- container.c ---- */

/** The container of a number, NULL and EVH_CORRUPT if there is none. */
EVH_INTERNAL struct json_container *container_of(struct evh_json *json, uint32_t number);

/** As container_of(), NULL without an error for a number that is none. */
static inline struct json_container *container_peek(const struct evh_json *json, uint32_t number)
{
    struct json_container *container =
        cell_at(json, &json->root->containers, number, JSON_CONTAINER_SHIFT);
    return container && container->kind != JSON_KIND_FREE ? container : NULL;
}

/** The container that a slot of type ARRAY or OBJECT leads to. NULL and EVH_CORRUPT otherwise. */
static inline struct json_container *container_in(const struct evh_json *json,
                                                  const struct json_slot *slot)
{
    struct json_container *container = json_at(json, slot->payload, sizeof *container);
    if (UNLIKELY(!container || container->kind != slot->type)) {
        (void)json_corrupt(slot->payload, "a container that is none");
        return NULL;
    }
    return container;
}

/** Whether container `number` is `above`, or below it. */
EVH_INTERNAL bool container_is_inside(const struct evh_json *json, uint32_t number, uint32_t above);

/** Make an empty container. Returns its number, 0 on failure; `*container` its address. */
EVH_INTERNAL uint32_t container_make(struct evh_json *json, uint32_t kind, uint32_t parent,
                                     struct json_container **container);

/** Free an empty container's cell and what leads to it. */
EVH_INTERNAL void container_end(struct evh_json *json, uint32_t number,
                                struct json_container *container);

/** A run of neighbouring values. */
struct json_span {
    struct json_slot *slots;
    const uint32_t *keys; /* NULL but for objects */
    uint32_t count;
};

/** The values from `position` on that lie together. False at the end, and on damage (reported). */
EVH_INTERNAL bool container_span(struct evh_json *json, const struct json_container *container,
                                 uint32_t position, struct json_span *span);

/** The slot at `position`, NULL if it is beyond the end or damaged (reported). */
static inline struct json_slot *container_slot(struct evh_json *json,
                                               const struct json_container *container,
                                               uint32_t position)
{
    struct json_span span;
    return container_span(json, container, position, &span) ? span.slots : NULL;
}

/** The slot of the member `key` of an object, or NULL. `position` may be NULL. */
EVH_INTERNAL struct json_slot *object_find(struct evh_json *json,
                                           const struct json_container *object, uint32_t key,
                                           uint32_t *position);

/** Find a value by what it leads to: its payload, and its type (a bit mask 1 << type). `number` is
 *  the container's. Cost: the values between it and what was found in the container before. */
EVH_INTERNAL bool container_seek(struct evh_json *json, const struct json_container *container,
                                 uint32_t number, uint32_t types, uint64_t payload,
                                 uint32_t *position);

/** Insert a value at `position` (at most count). `key` is 0 for arrays, and not yet a member of an
 *  object. On failure nothing has changed. */
EVH_INTERNAL evh_status container_insert(struct evh_json *json, struct json_container *container,
                                         uint32_t number, uint32_t position, uint32_t key,
                                         const struct json_slot *slot);

/** Take the value at `position` out; what it owns stays, and is the caller's. `key` and `slot`
 *  receive what was there. */
EVH_INTERNAL evh_status container_remove(struct evh_json *json, struct json_container *container,
                                         uint32_t number, uint32_t position, uint32_t *key,
                                         struct json_slot *slot);

/** Make room for `capacity` values, up to JSON_FLAT_MAX, in an empty container. */
EVH_INTERNAL evh_status container_reserve(struct evh_json *json, struct json_container *container,
                                          uint32_t capacity);

/** Fill an empty container with `count` values. Keys of an object are unlike. */
EVH_INTERNAL evh_status container_fill(struct evh_json *json, struct json_container *container,
                                       uint32_t number, const struct json_slot *slots,
                                       const uint32_t *keys, uint32_t count);

/** Give the member at `position` another key, which is no member yet. */
EVH_INTERNAL evh_status object_rename(struct evh_json *json, struct json_container *object,
                                      uint32_t position, uint32_t key);

/** Free the body and all pages, not the values. */
EVH_INTERNAL void container_clear(struct evh_json *json, struct json_container *container);

/* ---- pages.c ---- */

EVH_INTERNAL bool json_tree_span(struct evh_json *json, const struct json_container *container,
                                 uint32_t position, struct json_span *span);
EVH_INTERNAL evh_status json_tree_make(struct evh_json *json, struct json_container *container,
                                       uint32_t number);
EVH_INTERNAL evh_status json_tree_insert(struct evh_json *json, struct json_container *container,
                                         uint32_t number, uint32_t position, uint32_t key,
                                         const struct json_slot *slot);
/** Append `count` values; keys of an object are unlike each other and what is there. After a
 *  failure some of them are appended. */
EVH_INTERNAL evh_status json_tree_append(struct evh_json *json, struct json_container *container,
                                         uint32_t number, const struct json_slot *slots,
                                         const uint32_t *keys, uint32_t count);
EVH_INTERNAL evh_status json_tree_remove(struct evh_json *json, struct json_container *container,
                                         uint32_t position, uint32_t *key, struct json_slot *slot);
EVH_INTERNAL struct json_slot *json_tree_find(struct evh_json *json,
                                              const struct json_container *object, uint32_t key,
                                              uint32_t *position);
EVH_INTERNAL evh_status json_tree_rename(struct evh_json *json, struct json_container *object,
                                         uint32_t position, uint32_t key);
EVH_INTERNAL void json_tree_clear(struct evh_json *json, struct json_container *container);

/** The tree of a container of that form, a page of it: NULL and EVH_CORRUPT. */
EVH_INTERNAL struct json_tree *json_tree_of(const struct evh_json *json,
                                            const struct json_container *container);
EVH_INTERNAL struct json_page *page_at(const struct evh_json *json, uint32_t number, uint32_t kind);
/** The position of `key` in `keys`, of which `count` count and which reach to a multiple of 16
 *  bytes; `count` if it is not there. */
EVH_INTERNAL uint32_t keys_scan(const uint32_t *keys, uint32_t count, uint32_t key);
/** A new page: its number, 0 on failure. */
EVH_INTERNAL uint32_t page_make(struct evh_json *json, uint32_t kind, struct json_page **page);

static inline uint64_t page_offset(uint32_t number)
{
    return (uint64_t)number << JSON_PAGE_SHIFT;
}

/* ---- pages_index.c: from symbol to leaf ---- */

EVH_INTERNAL evh_status members_make(struct evh_json *json, struct json_tree *tree);
EVH_INTERNAL void members_clear(struct evh_json *json, struct json_tree *tree);
/** The leaf that has `key`, 0 if none. */
EVH_INTERNAL uint32_t members_find(struct evh_json *json, const struct json_tree *tree,
                                   uint32_t key);
EVH_INTERNAL evh_status members_insert(struct evh_json *json, struct json_tree *tree, uint32_t key,
                                       uint32_t leaf);
EVH_INTERNAL void members_remove(struct evh_json *json, struct json_tree *tree, uint32_t key);
/** `key` is in another leaf now. */
EVH_INTERNAL void members_move(struct evh_json *json, struct json_tree *tree, uint32_t key,
                               uint32_t leaf);

/** A number's hash: every bit depends on all. */
static inline uint32_t key_hash(uint32_t key)
{
    uint64_t product = key * 0x9e3779b97f4a7c15ull;
    product ^= product >> 32;
    product *= 0xd6e8feb86659fd93ull;
    return (uint32_t)(product >> 32);
}

/* ---- texts.c ---- */

/** How many slabs a walk along their list may meet at most. */
static inline uint64_t text_slab_limit(const struct evh_json *json)
{
    return base_min(json->root->texts.slab_count, heap_end_bytes(json->heap) / JSON_SLAB_BYTES);
}

/** The slab of texts at `offset`. NULL and EVH_CORRUPT. */
EVH_INTERNAL struct json_text_slab *text_slab_at(const struct evh_json *json, uint64_t offset);
/** Store `size` bytes as a string of container `owner`: fills type, flags and payload of `*slot`.
 *  `bytes` NULL: they are the caller's to store at `*room`. */
EVH_INTERNAL evh_status text_make(struct evh_json *json, uint32_t owner, const char *bytes,
                                  uint64_t size, struct json_slot *slot, char **room);
EVH_INTERNAL evh_status text_free(struct evh_json *json, const struct json_slot *slot);
/** The bytes of a STRING, with a zero behind them. NULL and EVH_CORRUPT. */
EVH_INTERNAL const char *text_of(const struct evh_json *json, const struct json_slot *slot,
                                 uint64_t *size);
/** Bytes that the string can have where it is. */
EVH_INTERNAL uint64_t text_capacity(const struct evh_json *json, const struct json_slot *slot);
/** It has `size` bytes now, at most its capacity; ends it with a zero. */
EVH_INTERNAL void text_resize(struct evh_json *json, const struct json_slot *slot, uint64_t size);
/** It belongs to another container. */
EVH_INTERNAL void text_own(struct evh_json *json, const struct json_slot *slot, uint32_t owner);

/* ---- trigrams.c: the index of strings, if there is one ---- */

static inline bool trigrams_is_on(const struct evh_json *json)
{
    return json->root->index.groups != 0;
}

/** Make an index of all strings, or free it. Nothing changes on failure. */
EVH_INTERNAL evh_status trigrams_make(struct evh_json *json);
EVH_INTERNAL evh_status trigrams_drop(struct evh_json *json);
/** A slab without strings comes into the index; one goes. */
EVH_INTERNAL evh_status trigrams_join(struct evh_json *json, struct json_text_slab *slab);
EVH_INTERNAL void trigrams_leave(struct evh_json *json, struct json_text_slab *slab);
/** There is a string with these bytes in a slab now. */
EVH_INTERNAL void trigrams_add(struct evh_json *json, struct json_text_slab *slab, const char *text,
                               size_t size);
/** Which slabs of a group may have a string with `part`, of JSON_INDEX_PART_MIN bytes at least, in
 *  any case of letters: bits of numbers, and offsets by number. False: no such group. */
EVH_INTERNAL bool trigrams_select(const struct evh_json *json, uint32_t group, const void *part,
                                  size_t size, uint64_t *bits, const uint64_t **slabs);
/** Whether a string's bits are there; whether what the index says of a slab is so. */
EVH_INTERNAL bool trigrams_has(const struct evh_json *json, const struct json_text_slab *slab,
                               const char *text, size_t size);
EVH_INTERNAL bool trigrams_knows(const struct evh_json *json, const struct json_text_slab *slab);
/** How many slabs it knows; bytes that it takes. */
EVH_INTERNAL uint64_t trigrams_slabs(const struct evh_json *json);
EVH_INTERNAL uint64_t trigrams_bytes(const struct evh_json *json);

/** A blob: DIGITS, BYTES, the path of a ref. Its offset, 0 on failure. */
EVH_INTERNAL uint64_t blob_make(struct evh_json *json, const void *bytes, uint64_t size);
EVH_INTERNAL const char *blob_of(const struct evh_json *json, uint64_t offset, uint64_t *size);

/* ---- keys ---- */

/** The symbol of a key with one reference more, 0 on failure; without, 0 if it is not there. */
EVH_INTERNAL uint32_t key_intern(struct evh_json *json, const char *text, uint64_t size);
EVH_INTERNAL uint32_t key_find(struct evh_json *json, const char *text, uint64_t size);
EVH_INTERNAL void key_retain(struct evh_json *json, uint32_t key, uint64_t count);
EVH_INTERNAL void key_release(struct evh_json *json, uint32_t key);
EVH_INTERNAL const char *key_text(struct evh_json *json, uint32_t key, uint64_t *size);

/* ---- value.c ---- */

/** Where a value is: its slot (in place) and what holds it. */
struct json_place {
    struct json_slot *slot;
    struct json_container *holder;
    uint32_t number;   /* of the holder */
    uint32_t position; /* in it */
};

/** What `value` names, copied: a container by itself, else by its place. EVH_NOT_FOUND if it is
 *  none (erased meanwhile, or never was). */
EVH_INTERNAL evh_status value_load(struct evh_json *json, evh_value value, struct json_slot *slot);
/** Where it is. Of a container: its holder is searched for it. */
EVH_INTERNAL evh_status value_place(struct evh_json *json, evh_value value,
                                    struct json_place *place);
/** The handle of a value at a place of a container. */
EVH_INTERNAL evh_value value_of(struct evh_json *json, uint32_t number, uint32_t position,
                                const struct json_slot *slot);
/** The handle of a container. */
EVH_INTERNAL evh_value value_of_container(uint32_t number, const struct json_container *container);
/** The container that `value` names; NULL and EVH_INVALID if it is of none of the kinds (a bit mask
 *  1 << kind), EVH_NOT_FOUND if it is none. `number` may be NULL. */
EVH_INTERNAL struct json_container *value_container(struct evh_json *json, evh_value value,
                                                    uint32_t kinds, uint32_t *number);
/** The position of container `number` in its parent; false on damage. */
EVH_INTERNAL bool value_position(struct evh_json *json, uint32_t number, uint32_t parent,
                                 uint32_t *position);
/** A value on a walk: its slot, and where that is. */
struct json_step {
    struct json_slot slot;
    uint32_t number;   /* of the container that holds it; 0: it is the start of the walk */
    uint32_t position; /* there; not known of members of large objects unless asked for */
};

/** Follow refs until a value is none; at most 32. */
EVH_INTERNAL evh_status value_follow(struct evh_json *json, struct json_step *at);
/** The handle of where a walk is. */
EVH_INTERNAL evh_value value_of_step(struct evh_json *json, const struct json_step *at);

#define JSON_SELF UINT64_MAX /* the position of a value that is a container by itself */

static inline evh_value value_none(void)
{
    const evh_value none = {0, 0, 0};
    return none;
}

enum { JSON_KINDS_BOTH = 1 << JSON_KIND_ARRAY | 1 << JSON_KIND_OBJECT };

/* ---- edit.c ---- */

/** Count a value that came or went. */
static inline void json_count(struct evh_json *json, const struct json_slot *slot, int64_t change)
{
    json->root->counts[slot->type < JSON_TYPE_COUNT ? slot->type : 0] += (uint64_t)change;
}

/** Free what a slot owns, with all below it, and count it. */
EVH_INTERNAL void value_free(struct evh_json *json, const struct json_slot *slot);
/** Put `slot` where `place` is, freeing what was there. */
EVH_INTERNAL void value_replace(struct evh_json *json, const struct json_place *place,
                                const struct json_slot *slot);
/** A slot is in container `owner` now: parents and owners follow. */
EVH_INTERNAL void value_adopt(struct evh_json *json, const struct json_slot *slot, uint32_t owner);

/* ---- copy.c ---- */

/** A deep copy of `source`, to be put into container `owner`. On failure nothing is left. */
EVH_INTERNAL evh_status value_copy(struct evh_json *json, const struct json_slot *source,
                                   uint32_t owner, struct json_slot *copy);
/** Whether two values are equal, numbers by value; `*equal`. */
EVH_INTERNAL evh_status value_equal(struct evh_json *json, const struct json_slot *first,
                                    const struct json_slot *second, bool *equal);

/* ---- ref.c ---- */

/** Make a ref with the text `path`. */
EVH_INTERNAL evh_status ref_make(struct evh_json *json, uint32_t owner, const char *path,
                                 uint64_t size, struct json_slot *slot);
EVH_INTERNAL void ref_free(struct evh_json *json, const struct json_slot *slot);
EVH_INTERNAL struct json_ref *ref_of(const struct evh_json *json, const struct json_slot *slot);
/** Take every ref that leads to a container, or into it, off: its target goes. */
EVH_INTERNAL void ref_loosen(struct evh_json *json, struct json_container *container);
/** The value that is ref `number`; none if there is no such ref. Its container is searched. */
EVH_INTERNAL evh_value ref_value(struct evh_json *json, uint32_t number);
/** One hop: where the ref leads. EVH_DANGLING, EVH_CYCLE. */
EVH_INTERNAL evh_status ref_step(struct evh_json *json, const struct json_slot *ref,
                                 struct json_step *target);

/* ---- path.c ---- */

/** One step down by a decoded token. EVH_NOT_FOUND (no error is set); the slot is no ref.
 *  `wants_position`: of members of large objects too. */
EVH_INTERNAL evh_status path_step(struct evh_json *json, struct json_step *at, const char *token,
                                  size_t size, bool wants_position);

/** What path_make() made, so that it can be taken back. */
struct path_made {
    evh_value first; /* the topmost value that was not there, or was a null; none: all was there */
    bool was_null;
    size_t observed; /* what the observer had written down before */
};

/** As evh_json_make(), in a document that can be written. */
EVH_INTERNAL evh_value path_make(struct evh_json *json, evh_value from, const char *pointer,
                                 size_t size, struct path_made *made);
/** Take back what was made, at once; the last error stays. */
EVH_INTERNAL void path_unmake(struct evh_json *json, struct path_made *made);

enum { JSON_HOPS_MAX = 32 };

#endif
