/* map.h -- hash tables that live in a heap.
 *
 * What holds for all collections stands at the head of text.h.
 */
#ifndef EVERHEAP_MAP_H
#define EVERHEAP_MAP_H

#include <everheap/text.h>

#ifdef __cplusplus
extern "C" {
#endif

/** From keys to values of one size. */
typedef struct evh_map {
    uint64_t offset;
} evh_map;

/** What the keys of a map or tree are: its first put decides. */
typedef enum evh_key_kind {
    EVH_KEY_NONE = 0,
    EVH_KEY_NUMBER, /* a 64-bit number */
    EVH_KEY_SYMBOL, /* an evh_symbol; the map counts no references */
    EVH_KEY_BYTES,  /* bytes: the map keeps a copy */
} evh_key_kind;

/*
 * Families: evh_map_put, evh_map_get, evh_map_erase; each for keys that are numbers, symbols, bytes
 * and C strings (bytes without their terminating zero). EVH_INVALID for a key of another kind than
 * the map's, or another `value_size` (0 to EVH_ITEM_SIZE_MAX: a set has values of 0 bytes).
 *
 *   put     makes the key's value, zeroed, if it is not there. Returns the value, in place and
 *           aligned to 8 bytes, borrowed until a put makes another; NULL on failure.
 *   get     the value, borrowed likewise; NULL if the key is not there.
 *   erase   true if the key was there, and is gone. Moves no other value.
 *
 * Cost      constant. Numbers are hashed with a key of the map's own, bytes with SipHash-1-3, so
 *           that nobody who cannot read the heap chooses keys that collide. The table grows in
 *           parts of some 8 KiB: one put changes two of them at most, and the directory of parts.
 */
/** The value of a number, made if need be. */
EVH_API void *evh_map_put(evh_heap *heap, evh_map *map, uint64_t key, size_t value_size);
/** The value of a number. */
EVH_API void *evh_map_get(const evh_heap *heap, const evh_map *map, uint64_t key);
/** Remove a number. */
EVH_API bool evh_map_erase(evh_heap *heap, evh_map *map, uint64_t key);

/** The value of a symbol, made if need be. */
EVH_API void *evh_map_put_symbol(evh_heap *heap, evh_map *map, evh_symbol key, size_t value_size);
/** The value of a symbol. */
EVH_API void *evh_map_get_symbol(const evh_heap *heap, const evh_map *map, evh_symbol key);
/** Remove a symbol. */
EVH_API bool evh_map_erase_symbol(evh_heap *heap, evh_map *map, evh_symbol key);

/** The value of `size` bytes, made if need be. */
EVH_API void *evh_map_put_bytes(evh_heap *heap, evh_map *map, const void *key, size_t size,
                                size_t value_size);
/** The value of `size` bytes. */
EVH_API void *evh_map_get_bytes(const evh_heap *heap, const evh_map *map, const void *key,
                                size_t size);
/** Remove `size` bytes. */
EVH_API bool evh_map_erase_bytes(evh_heap *heap, evh_map *map, const void *key, size_t size);

static inline void *evh_map_put_str(evh_heap *heap, evh_map *map, const char *key,
                                    size_t value_size)
{
    return evh_map_put_bytes(heap, map, key, strlen(key), value_size);
}
static inline void *evh_map_get_str(const evh_heap *heap, const evh_map *map, const char *key)
{
    return evh_map_get_bytes(heap, map, key, strlen(key));
}
static inline bool evh_map_erase_str(evh_heap *heap, evh_map *map, const char *key)
{
    return evh_map_erase_bytes(heap, map, key, strlen(key));
}

/** How many keys it has. */
EVH_API uint64_t evh_map_count(const evh_heap *heap, const evh_map *map);
/** What its keys are; EVH_KEY_NONE of a zero handle. */
EVH_API evh_key_kind evh_map_key_kind(const evh_heap *heap, const evh_map *map);
/** The size of a value. */
EVH_API size_t evh_map_value_size(const evh_heap *heap, const evh_map *map);
/** Free it. */
EVH_API evh_status evh_map_clear(evh_heap *heap, evh_map *map);
/** EVH_OK or EVH_CORRUPT. Cost: reads all of it. */
EVH_API evh_status evh_map_check(evh_heap *heap, const evh_map *map);

/** An iteration, and the item it is at. */
typedef struct evh_map_cursor {
    uint64_t key;      /* a number or symbol; of bytes their hash */
    const char *bytes; /* bytes, with a zero behind them, borrowed until the key is removed */
    size_t size;       /* of them */
    void *value;       /* borrowed */
    uint64_t position[5];
} evh_map_cursor;

/**
 * Step through the items in no order: start with a zeroed `cursor`; each call that returns true
 * filled it with the next item. Items may be erased meanwhile, this one and others: no other is
 * missed. After a put that makes an item the iteration may miss items or show them twice.
 */
EVH_API bool evh_map_next(const evh_heap *heap, const evh_map *map, evh_map_cursor *cursor);

/**
 * EVH_MAP(counts, uint64_t, uint32_t) declares a handle type `counts` and its calls with the types
 * of keys and values: counts_put, counts_get, counts_erase, counts_count, counts_clear. The key's
 * type is uint64_t or another integer; with EVH_MAP_STR(ages, uint32_t) it is a C string.
 */
#define EVH_MAP(name, key_type, value_type)                                                        \
    EVH_MAP_OF_(name, key_type, value_type, evh_map_put, evh_map_get, evh_map_erase, (uint64_t))
#define EVH_MAP_STR(name, value_type)                                                              \
    EVH_MAP_OF_(name, const char *, value_type, evh_map_put_str, evh_map_get_str,                  \
                evh_map_erase_str, )

#define EVH_MAP_OF_(name, key_type, value_type, put_call, get_call, erase_call, convert)           \
    typedef struct name {                                                                          \
        evh_map map;                                                                               \
    } name;                                                                                        \
    static inline __attribute__((unused))                                                          \
    value_type *name##_put(evh_heap *heap, name *map, key_type key)                                \
    {                                                                                              \
        return (value_type *)put_call(heap, &map->map, convert key, sizeof(value_type));           \
    }                                                                                              \
    static inline __attribute__((unused))                                                          \
    value_type *name##_get(const evh_heap *heap, const name *map, key_type key)                    \
    {                                                                                              \
        return (value_type *)get_call(heap, &map->map, convert key);                               \
    }                                                                                              \
    static inline                                                                                  \
        __attribute__((unused)) bool name##_erase(evh_heap *heap, name *map, key_type key)         \
    {                                                                                              \
        return erase_call(heap, &map->map, convert key);                                           \
    }                                                                                              \
    static inline __attribute__((unused))                                                          \
    uint64_t name##_count(const evh_heap *heap, const name *map)                                   \
    {                                                                                              \
        return evh_map_count(heap, &map->map);                                                     \
    }                                                                                              \
    static inline __attribute__((unused)) evh_status name##_clear(evh_heap *heap, name *map)       \
    {                                                                                              \
        return evh_map_clear(heap, &map->map);                                                     \
    }                                                                                              \
    struct name /* the macro ends in a declaration: write a semicolon after it */

#ifdef __cplusplus
}
#endif

#endif
