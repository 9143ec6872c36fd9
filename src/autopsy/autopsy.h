/* autopsy.h -- an index of the blocks of a heap that cannot be believed. */
#ifndef EVERHEAP_AUTOPSY_AUTOPSY_H
#define EVERHEAP_AUTOPSY_AUTOPSY_H

#include "collect/collect.h"
#include "heap/heap.h"
#include "json/json.h"

#include <everheap/autopsy.h>
#include <everheap/salvage.h>

enum {
    AUTOPSY_STRUCT_DEPTH = 8,    /* structs inside structs */
    AUTOPSY_FIELDS_MAX = 65536,  /* of one object */
    AUTOPSY_NONE = -1,           /* no object */
    AUTOPSY_ROOTS_MAX = 1 << 20, /* that are listed */
};

/* A live block. */
struct autopsy_object {
    uint64_t offset;
    uint64_t size;
    uint32_t type; /* 0: none */
    int32_t root;
    uint32_t depth;
    uint32_t references;
    int64_t parent; /* index of an object, or AUTOPSY_NONE */
};

struct evh_autopsy {
    evh_heap *heap;
    bool owns_heap;
    int copy_file; /* -1: none */
    evh_autopsy_info info;
    struct autopsy_object *objects; /* by offset */
    uint64_t count, capacity;
    /* The first object of each page of the heap or behind it, so that finding one looks at a
     * page's: 256 at most. */
    uint32_t *page_first;
    uint64_t page_count;
    evh_root_info *roots;
    uint32_t root_count;
    uint64_t *queue; /* indices of objects that were reached, in this order */
    uint64_t queue_end;
    evh_status status; /* of collecting */
};

/* ---- autopsy.c ---- */

/** The object that holds the byte at `offset`, or AUTOPSY_NONE. */
EVH_INTERNAL int64_t autopsy_index(const evh_autopsy *autopsy, uint64_t offset);

/** What evh_autopsy_each() tells of object number `index`. */
EVH_INTERNAL evh_object autopsy_tell(evh_autopsy *autopsy, uint64_t index);

/** The bytes of an object. */
EVH_INTERNAL const unsigned char *autopsy_bytes(const evh_autopsy *autopsy,
                                                const struct autopsy_object *object);

/** What a word that may be an address leads to; 0: nothing live. */
EVH_INTERNAL uint64_t autopsy_follow_address(const evh_autopsy *autopsy, uint64_t address);

/* ---- fields.c ---- */

/** As evh_autopsy_fields(), of a type that need not be the object's. */
EVH_INTERNAL void fields_visit(evh_autopsy *autopsy, uint64_t index, uint32_t type,
                               evh_field_visit *visit, void *context);

/* ---- reach.c ---- */

/** Find out what is reached from where. EVH_NO_MEMORY. */
EVH_INTERNAL evh_status reach_all(evh_autopsy *autopsy);

#endif
