/* commit_store.h -- a store of records, as the commit benchmark sees each of those it compares. */
#ifndef EVERHEAP_BENCH_COMMIT_STORE_H
#define EVERHEAP_BENCH_COMMIT_STORE_H

#include "bench.h"

/*
 * Each store holds the same records, numbered from 0: an 8-byte value and a body that never
 * changes. Four of them fill a page in all stores, so that changing values on `n` pages of the
 * heap means changing about `n` leaves of a tree. Every call dies if it fails.
 */
enum {
    STORE_RECORD_BYTES = 1000,
    STORE_BODY_WORDS = STORE_RECORD_BYTES / 8 - 1,
    STORE_RECORDS_PER_PAGE = 4,
    STORE_PAGE_BYTES = 4096,
    STORE_THREADS_MAX = 64,
};

struct store_record {
    uint64_t value;
    uint64_t body[STORE_BODY_WORDS];
};

struct store;

struct store_calls {
    /** Open it, made with `record_count` records of value 0 if `create`, every page read once. */
    void (*open)(struct store *store, bool create);
    void (*close)(struct store *store);
    /** One transaction of thread `thread`; other threads may be in theirs. */
    void (*begin)(struct store *store, unsigned thread);
    void (*update)(struct store *store, unsigned thread, uint64_t record, uint64_t value);
    void (*commit)(struct store *store, unsigned thread);
    /** Do now what the store has put off: its checkpoint. */
    void (*settle)(struct store *store);
    /** How many checkpoints it has made since it was opened. NULL: it has none. */
    uint64_t (*checkpoints)(struct store *store);
    /** Pages changed by all commits since it was opened. NULL: unknown. */
    uint64_t (*pages)(struct store *store);
    /** Commit without waiting for the disk, and wait. NULL: it cannot. */
    uint64_t (*commit_begin)(struct store *store);
    void (*commit_wait)(struct store *store, uint64_t ticket);
    /** Read a record. NULL: nothing is kept. */
    void (*read)(struct store *store, uint64_t record, struct store_record *content);
};

struct store {
    const char *name;
    const struct store_calls *calls;
    unsigned variant;      /* its own, of enum store_variant */
    bool is_one_page_only; /* take part in one-page commits only */
    bool is_floor;

    /* Set by the benchmark. */
    char *path;
    uint64_t record_count;
    uint64_t pages_per_commit; /* the floor writes so many blocks */
    unsigned thread_count;
    uint64_t *expected; /* the value of every record */

    void *state;
    char note[160]; /* version and settings, set by open */
};

enum store_variant { STORE_PLAIN = 0, STORE_GUARDS, STORE_NO_META_SYNC, STORE_DSYNC };

/** What the body of `record` holds. */
static inline uint64_t store_body_word(uint64_t record, unsigned word)
{
    return (record + 1) * 0x9e3779b97f4a7c15u + word;
}

static inline void store_record_fill(struct store_record *content, uint64_t record)
{
    content->value = 0;
    for (unsigned i = 0; i < STORE_BODY_WORDS; i++) content->body[i] = store_body_word(record, i);
}

extern const struct store_calls store_floor_calls;
extern const struct store_calls store_everheap_calls;
extern const struct store_calls store_lmdb_calls;   /* open is NULL: not built in */
extern const struct store_calls store_sqlite_calls; /* likewise */

/** What of a heap's open store the report names: the tier that finds dirty pages. */
evh_detect store_everheap_detect(const struct store *store);

#endif
