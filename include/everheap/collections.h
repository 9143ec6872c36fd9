/* collections.h -- strings, symbols, arrays, maps and trees that live in a heap.
 *
 *   text.h   str (a string that changes), symbol (interned), and what holds for all collections
 *   vec.h    vec (an array that grows), queue (a ring), bitset
 *   map.h    map (hash table)
 *   tree.h   tree (ordered map)
 */
#ifndef EVERHEAP_COLLECTIONS_H
#define EVERHEAP_COLLECTIONS_H

#include <everheap/map.h>
#include <everheap/text.h>
#include <everheap/tree.h>
#include <everheap/vec.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum evh_kind {
    EVH_KIND_NONE = 0,
    EVH_KIND_STR,
    EVH_KIND_SYMBOLS,
    EVH_KIND_VEC,
    EVH_KIND_MAP,
    EVH_KIND_TREE,
    EVH_KIND_QUEUE,
    EVH_KIND_BITSET,
} evh_kind;

/** What a handle that is not zero leads to. */
typedef struct evh_collection {
    evh_kind kind;
    evh_key_kind key_kind; /* map, tree; else EVH_KEY_NONE */
    uint64_t item_size;    /* of a vec's or queue's item, a map's or tree's value; str: 1 */
    uint64_t count;        /* items; bytes of a str; symbols; bits that are 1 */
} evh_collection;

/** Whether `ref` (of a handle's value) is that of a collection, told by the word that each begins
 *  with, and what it is. `*collection` is zeroed otherwise. Never an error. */
EVH_API bool evh_collection_at(const evh_heap *heap, evh_ref ref, evh_collection *collection);

/** The name of a kind, such as "map"; "?" for a number that is none. Static. */
EVH_API const char *evh_kind_name(evh_kind kind);

#ifdef __cplusplus
}
#endif

#endif
