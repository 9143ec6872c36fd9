/* inspect.h -- the roots of a heap, and looking into it: check, walk, info, log, digest, trim. */
#ifndef EVERHEAP_INSPECT_H
#define EVERHEAP_INSPECT_H

#include <everheap/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- roots ---------------------------------------------------------------------------------- */

enum { EVH_NAME_SIZE_MAX = 63 }; /* bytes of a root's name, without its terminating zero */

/*
 * A root is a block that the next run finds by name (1 to 63 bytes) or by tag (any 64-bit number).
 * Names and tags are separate. Roots are part of the commit like everything else.
 *
 * Family: evh_root, evh_root_tagged.
 * Returns   the root's block, borrowed until the root is removed: found, or allocated and zeroed.
 * Errors    as evh_malloc(); EVH_INVALID (a name empty, too long or not there; the root exists and
 *           is smaller than `size` bytes), EVH_READ_ONLY (it does not exist and may not be made).
 * Cost      logarithmic in the number of roots.
 */
/** The root called `name`, made with `size` zero bytes if it is not there. */
EVH_API void *evh_root(evh_heap *heap, const char *name, size_t size);
/** The root of `tag`, made with `size` zero bytes if it is not there. */
EVH_API void *evh_root_tagged(evh_heap *heap, uint64_t tag, size_t size);

/** The root called `name`, borrowed, or NULL with EVH_NOT_FOUND. `size` may be NULL; receives the
 *  bytes it was made with. */
EVH_API void *evh_root_find(evh_heap *heap, const char *name, size_t *size);
/** As evh_root_find(), by tag. */
EVH_API void *evh_root_find_tagged(evh_heap *heap, uint64_t tag, size_t *size);

/** Remove the root called `name` and free its block (not what the block refers to).
 *  Errors  EVH_NOT_FOUND, EVH_READ_ONLY, EVH_INVALID, EVH_FORKED. */
EVH_API evh_status evh_root_remove(evh_heap *heap, const char *name);
/** As evh_root_remove(), by tag. */
EVH_API evh_status evh_root_remove_tagged(evh_heap *heap, uint64_t tag);

typedef struct evh_root_info {
    uint64_t position;                /* of the iteration: start with 0, leave it alone */
    char name[EVH_NAME_SIZE_MAX + 1]; /* "" for a tagged root */
    uint64_t tag;                     /* 0 for a named root */
    bool is_tagged;
    evh_ref block;
    size_t size; /* bytes it was made with */
} evh_root_info;

/**
 * Step through the roots: start with a zeroed `root`; each call that returns true filled it with
 * the next one. A root that is removed or made meanwhile may or may not be seen; no other is
 * missed, unless the catalog is damaged (or memory short): then the steps end there, and
 * evh_check() tells.
 */
EVH_API bool evh_root_next(evh_heap *heap, evh_root_info *root);

/* ---- looking into a heap -------------------------------------------------------------------- */

typedef struct evh_finding {
    evh_status status;   /* EVH_CORRUPT, EVH_TRUNCATED, ... */
    uint64_t offset;     /* in the file */
    const char *object;  /* "header", "journal", "page", "descriptor", "bitmap", "root", ... */
    const char *message; /* borrowed until the callback returns */
} evh_finding;

/** Called for each finding; returns false to stop. */
typedef bool evh_report(const evh_finding *finding, void *context);

/**
 * Verify the whole heap: headers, journal, page checksums, descriptors, bitmaps, roots. `report`
 * may be NULL. Nothing is changed.
 * Returns   EVH_OK if nothing was found, else the first finding's status (and its message).
 *           EVH_STALE if a reader's view was revoked meanwhile: then findings mean nothing.
 * Threads   per heap: no other thread may write to the heap meanwhile.
 * Cost      reads all metadata and every committed page once.
 */
EVH_API evh_status evh_check(evh_heap *heap, evh_report *report, void *context);

typedef struct evh_block {
    void *address;
    evh_ref ref;
    size_t size;   /* usable bytes; of a debugged heap those asked for, as evh_usable_size() */
    uint32_t type; /* registered type id; 0 if untyped */
} evh_block;

/** Called for each live block; returns false to stop. */
typedef bool evh_visit(const evh_block *block, void *context);

/**
 * Visit every live block in order of its offset. The callback may free the block it is given, and
 * must not allocate.
 * Errors    EVH_CORRUPT, EVH_INVALID (null visit).
 * Threads   per heap: no other thread may allocate or free meanwhile.
 */
EVH_API evh_status evh_walk(evh_heap *heap, evh_visit *visit, void *context);

typedef struct evh_info {
    evh_mode mode;
    evh_detect detect; /* what is in use */
    bool is_compact;   /* the layout for small buffers */
    bool is_live;      /* a live heap, or a private or read-only copy of one */
    bool is_poisoned;
    bool has_thread; /* a background checkpointer */
    uint32_t format_version;
    unsigned char uuid[16];
    uint64_t address;    /* where it is mapped */
    uint64_t file_bytes; /* the file's length */
    uint64_t heap_bytes; /* up to the highest slice ever used */
    uint64_t size_max_bytes;
    uint64_t live_blocks;
    uint64_t live_bytes;         /* usable bytes in live blocks */
    uint64_t free_bytes;         /* whole free slices within heap_bytes */
    uint64_t largest_free_bytes; /* the longest run of them */
    uint64_t free_runs;
    uint64_t metadata_bytes;     /* headers, journal, descriptors, bitmaps, checksums */
    uint64_t journal_bytes;      /* its capacity */
    uint64_t journal_used_bytes; /* waiting for a checkpoint */
    uint64_t commit_sequence;    /* of the last durable commit */
    uint64_t checkpoint_sequence;
    uint64_t commits;         /* made through this handle */
    uint64_t checkpoints;     /* likewise */
    uint64_t pages_committed; /* likewise */
    uint64_t private_bytes;   /* memory held in private copies of pages */
    uint64_t roots;
    uint64_t threads;        /* that have allocated from it */
    uint64_t processes;      /* attached to a live heap; 0 for others */
    uint64_t writer_process; /* who has it open for writing; 0 nobody */
} evh_info;

/**
 * Fill `info`. Walks the metadata to count blocks.
 * Errors    EVH_INVALID, EVH_CORRUPT.
 */
EVH_API evh_status evh_get_info(evh_heap *heap, evh_info *info);

typedef struct evh_commit_info {
    uint64_t sequence;
    uint64_t time_ns;      /* wall clock since 1970: a label, nothing is decided by it */
    uint64_t offset;       /* of its record in the file */
    uint64_t record_bytes; /* in the journal */
    uint64_t pages;        /* that it changed */
    uint64_t changed_bytes;
    uint64_t heap_bytes;
} evh_commit_info;

/** Called for each commit; returns false to stop. */
typedef bool evh_commit_visit(const evh_commit_info *commit, void *context);

/**
 * Visit the commits that the journal holds, oldest first.
 * Errors    EVH_MODE (a memory heap has no journal), EVH_IO, EVH_INVALID.
 */
EVH_API evh_status evh_log(evh_heap *heap, evh_commit_visit *visit, void *context);

/**
 * Hash the live content, independent of where it lies: two heaps with the same roots, blocks and
 * references have the same digest wherever the blocks were placed. A block's content is all of its
 * usable bytes (evh_usable_size()): what lies behind the bytes asked for counts, and in a block
 * from evh_malloc() it is whatever was there. Words that name a live block count as references.
 * Errors    EVH_NO_MEMORY, EVH_CORRUPT, EVH_INVALID.
 * Cost      reads every live block; 32 bytes of memory per live block.
 */
EVH_API evh_status evh_digest(evh_heap *heap, unsigned char digest[32]);

/**
 * Give free slices of 64 KiB back to the file system, unused file space at the end, and what one
 * large commit has made of the journal, as far as no reader has a view. Only what is free in the
 * last commit is given back; of a heap in memory, all that holds no live block. `freed_bytes` may
 * be NULL.
 * Errors    EVH_READ_ONLY, EVH_IO, EVH_POISONED, EVH_BUSY (a reader holds an old view), EVH_FORKED.
 * Threads   per heap: no other thread may write to the heap meanwhile.
 * Crash     the heap is as before; part of the space may have been given back.
 * Cost      about 0.2 ms for each run of free slices, more on a busy disk; 10 us for each slice
 *           when it is used again.
 */
EVH_API evh_status evh_trim(evh_heap *heap, uint64_t *freed_bytes);

#ifdef __cplusplus
}
#endif

#endif
