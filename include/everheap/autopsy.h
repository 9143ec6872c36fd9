/* autopsy.h -- read a heap that somebody else left behind: what is in it, what is lost, what
 * changed. */
#ifndef EVERHEAP_AUTOPSY_H
#define EVERHEAP_AUTOPSY_H

#include <everheap/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * An autopsy is a heap, opened read-only and private, and an index of its blocks: each with its
 * type, the root that it is reached from and the reference that led there first. Nothing in the
 * file is believed. A crash reporter may make one inside the program that crashed, of a heap that
 * is open (evh_autopsy_of).
 *
 * Unless a call says otherwise: Threads per autopsy. Memory: 48 bytes for each live block.
 */
typedef struct evh_autopsy evh_autopsy;

enum { EVH_ADDRESSES = 8, EVH_NO_ROOT = -1, EVH_INTERNAL_ROOT = -2 };

typedef struct evh_autopsy_options {
    uint64_t commit_sequence; /* as evh_options has it; 0: the newest */
    uint64_t copy_max_bytes;  /* a file up to this is read into memory first, if nobody has it open,
                                 so that nothing that happens to it matters; 0 means 2 GiB */
    uint64_t addresses[4];    /* where else processes had mapped the heap, if that is known */
    uint64_t reserved[8];     /* zero */
} evh_autopsy_options;

/**
 * Open the heap at `path`, whoever has it open or left it, and index its blocks.
 * `options` may be NULL.
 * Returns   the autopsy, owned: end it with evh_autopsy_close(). A heap that is damaged in parts
 *           gives one all the same: of what can be read (see evh_autopsy_info.damage).
 * Errors    as evh_open() in read-only mode.
 * Cost      reads the file (or what is reachable of it) once.
 */
EVH_API evh_autopsy *evh_autopsy_open(const char *path, const evh_autopsy_options *options);

/** As evh_autopsy_open(), of a heap that is open here, borrowed until the autopsy is closed. No
 *  other thread may change it meanwhile. */
EVH_API evh_autopsy *evh_autopsy_of(evh_heap *heap, const evh_autopsy_options *options);

/** End it; NULL is fine. */
EVH_API void evh_autopsy_close(evh_autopsy *autopsy);

/** Its heap, borrowed until the autopsy is closed: read-only. */
EVH_API evh_heap *evh_autopsy_heap(evh_autopsy *autopsy);

typedef struct evh_autopsy_info {
    evh_info heap;           /* of the heap as it was read; zero if it could not be counted */
    evh_error damage;        /* the first that was met; EVH_OK: none */
    bool is_copy;            /* it was read into memory first */
    uint64_t writer_process; /* who had it open for writing last, 0: not known */
    uint64_t opened_ns;      /* when that process opened it */
    uint64_t changed_ns;     /* when it last committed, as far as the journal tells; else 0 */
    bool is_in_use;          /* somebody has it open for writing, or is attached to it */
    uint64_t addresses[EVH_ADDRESSES]; /* where it was mapped, the latest first; 0 ends it */
    uint64_t blocks, block_bytes;
    uint64_t reached, reached_bytes;   /* from roots */
    uint64_t orphans, orphan_bytes;    /* from nowhere */
    uint64_t internal, internal_bytes; /* the heap's own */
    uint64_t typed;                    /* blocks of a known type */
    uint64_t dangling;
} evh_autopsy_info;

/** What was found, in numbers. */
EVH_API void evh_autopsy_describe(evh_autopsy *autopsy, evh_autopsy_info *info);

/* ---- objects -------------------------------------------------------------------------------- */

typedef struct evh_object {
    evh_ref ref;
    uint64_t size;       /* usable bytes */
    const void *bytes;   /* of them, borrowed until the autopsy is closed */
    uint32_t type;       /* its number, by itself or by the field that leads to it; 0: none */
    const char *kind;    /* the type's name; "str", "map", ... of a collection's block; "json";
                           "block" of one that nothing tells about. Borrowed */
    int64_t root;        /* index of the root that it was first reached from, EVH_NO_ROOT or
                           EVH_INTERNAL_ROOT */
    uint32_t depth;      /* references from there */
    uint32_t references; /* how many were met that lead to it */
    evh_ref parent;      /* the block whose reference led to it first; null: a root */
} evh_object;

/** Called for each object; returns false to stop. */
typedef bool evh_object_visit(const evh_object *object, void *context);

/** Visit every live block in order of its offset. */
EVH_API void evh_autopsy_each(evh_autopsy *autopsy, evh_object_visit *visit, void *context);

/** The live block that holds the byte at `ref`: true, and `*object`. */
EVH_API bool evh_autopsy_find(evh_autopsy *autopsy, evh_ref ref, evh_object *object);

/** Root number `index` of evh_object.root, borrowed; NULL if there is none. */
EVH_API const evh_root_info *evh_autopsy_root(evh_autopsy *autopsy, int64_t index);

typedef struct evh_field_value {
    char name[2 * EVH_NAME_SIZE_MAX]; /* "title", "sizes[2]", "inside.next" */
    evh_field_kind kind;
    uint64_t offset; /* in the object */
    uint64_t size;
    const void *bytes;
    uint64_t number;    /* of an integer or boolean, sign-extended; of a reference its value */
    double real;        /* of a real */
    const char *target; /* the name of the type it leads to, as declared; NULL */
    evh_ref ref;        /* of a reference that leads into a live block: there */
    bool is_dangling;   /* a reference that is not null, and leads to no live block's start */
} evh_field_value;

/** Called for each field; returns false to stop. */
typedef bool evh_field_visit(const evh_field_value *value, void *context);

/** Decode the object by its type: each field, structs and arrays opened up. Does nothing for an
 *  object without a type. At most 65,536 fields of one object. */
EVH_API void evh_autopsy_fields(evh_autopsy *autopsy, const evh_object *object,
                                evh_field_visit *visit, void *context);

/** Why a reference is no good. */
typedef enum evh_dangling_kind {
    EVH_DANGLING_FREE = 1, /* nothing live is there */
    EVH_DANGLING_INSIDE,   /* it leads into a block, not to its start */
    EVH_DANGLING_TYPE,     /* the block there is of another type than the field says */
} evh_dangling_kind;

typedef struct evh_dangling {
    evh_object object;
    evh_field_value field;
    evh_dangling_kind kind;
} evh_dangling;

/** Called for each dangling reference; returns false to stop. */
typedef bool evh_dangling_visit(const evh_dangling *dangling, void *context);

/** Visit the references of typed objects that are no good. */
EVH_API void evh_autopsy_dangling(evh_autopsy *autopsy, evh_dangling_visit *visit, void *context);

/**
 * What a pointer of a dead process named: its ref in this heap, if the heap was ever mapped where
 * it leads. Of several such mappings, the latest by which it leads into a live block. Null: none.
 */
EVH_API evh_ref evh_autopsy_relocate(evh_autopsy *autopsy, uint64_t address);

/* ---- what changed --------------------------------------------------------------------------- */

typedef enum evh_change {
    EVH_MADE = 1,
    EVH_FREED,
    EVH_CHANGED,
} evh_change;

typedef struct evh_difference {
    evh_change change;
    evh_object object;       /* in the newer one; of a freed block in the older */
    uint64_t changed_offset; /* EVH_CHANGED: the first byte that differs, in the block */
    uint64_t changed_bytes;  /* how many differ */
} evh_difference;

/** Called for each difference; returns false to stop. */
typedef bool evh_difference_visit(const evh_difference *difference, void *context);

/** Compare two states of one heap, block by block, in order of offset: two commits, or two
 *  files. */
EVH_API void evh_autopsy_compare(evh_autopsy *older, evh_autopsy *newer,
                                 evh_difference_visit *visit, void *context);

#ifdef __cplusplus
}
#endif

#endif
