/* commit_lmdb.c -- the records in LMDB, keyed by integer. */
#include "commit_store.h"

#ifdef HAVE_LMDB

#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

/*
 * The fast way to change eight bytes of a record in LMDB: a cursor set to the key, the record
 * copied, put back under the cursor. Records are loaded in order (MDB_APPEND), which fills the
 * leaves.
 */
struct lmdb_thread {
    MDB_txn *transaction;
    MDB_cursor *cursor;
};

struct lmdb {
    MDB_env *environment;
    MDB_dbi database;
    struct lmdb_thread threads[STORE_THREADS_MAX];
};

static void lmdb_require(int error, const char *what)
{
    if (error) bench_die("LMDB: %s: %s", what, mdb_strerror(error));
}

static void lmdb_fill(struct store *store)
{
    struct lmdb *const lmdb = store->state;
    struct store_record content;
    MDB_txn *transaction;
    lmdb_require(mdb_txn_begin(lmdb->environment, NULL, 0, &transaction), "begin");
    for (size_t i = 0; i < store->record_count; i++) {
        store_record_fill(&content, i);
        MDB_val key = {sizeof i, &i}, value = {sizeof content, &content};
        lmdb_require(mdb_put(transaction, lmdb->database, &key, &value, MDB_APPEND), "put");
        if (i % 65536 != 65535) continue;
        lmdb_require(mdb_txn_commit(transaction), "commit");
        lmdb_require(mdb_txn_begin(lmdb->environment, NULL, 0, &transaction), "begin");
    }
    lmdb_require(mdb_txn_commit(transaction), "commit");
}

/* Read all records, so that their pages are mapped. */
static void lmdb_touch(struct lmdb *lmdb)
{
    MDB_txn *transaction;
    MDB_cursor *cursor;
    lmdb_require(mdb_txn_begin(lmdb->environment, NULL, MDB_RDONLY, &transaction), "begin");
    lmdb_require(mdb_cursor_open(transaction, lmdb->database, &cursor), "cursor");
    MDB_val key, value;
    uint64_t sum = 0;
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0)
        sum += ((const unsigned char *)value.mv_data)[0];
    __asm__ volatile("" : : "r"(sum));
    mdb_cursor_close(cursor);
    mdb_txn_abort(transaction);
}

static void lmdb_open(struct store *store, bool create)
{
    struct lmdb *const lmdb = bench_memory(1, sizeof *lmdb);
    store->state = lmdb;
    const bool is_lazy = store->variant == STORE_NO_META_SYNC;
    lmdb_require(mdb_env_create(&lmdb->environment), "create");
    lmdb_require(mdb_env_set_mapsize(lmdb->environment,
                                     store->record_count * STORE_RECORD_BYTES * 4 + BENCH_GIB),
                 "map size");
    lmdb_require(mdb_env_open(lmdb->environment, store->path,
                              MDB_NOSUBDIR | (is_lazy ? MDB_NOMETASYNC : 0), 0600),
                 "open");
    MDB_txn *transaction;
    lmdb_require(mdb_txn_begin(lmdb->environment, NULL, 0, &transaction), "begin");
    lmdb_require(mdb_dbi_open(transaction, NULL, MDB_INTEGERKEY, &lmdb->database), "database");
    lmdb_require(mdb_txn_commit(transaction), "commit");
    if (create) lmdb_fill(store);
    lmdb_touch(lmdb);
    snprintf(store->note, sizeof store->note, "LMDB %d.%d.%d, %s", MDB_VERSION_MAJOR,
             MDB_VERSION_MINOR, MDB_VERSION_PATCH,
             is_lazy ? "MDB_NOMETASYNC: a power cut may undo the last commit"
                     : "default: every commit durable");
}

static void lmdb_close(struct store *store)
{
    struct lmdb *const lmdb = store->state;
    mdb_env_close(lmdb->environment);
    free(lmdb);
    /* Its lock file is the only second file of a store that stays. */
    char path[1100];
    snprintf(path, sizeof path, "%s-lock", store->path);
    remove(path);
}

static void lmdb_begin(struct store *store, unsigned number)
{
    struct lmdb *const lmdb = store->state;
    struct lmdb_thread *const thread = &lmdb->threads[number];
    lmdb_require(mdb_txn_begin(lmdb->environment, NULL, 0, &thread->transaction), "begin");
    lmdb_require(mdb_cursor_open(thread->transaction, lmdb->database, &thread->cursor), "cursor");
}

static void lmdb_update(struct store *store, unsigned number, uint64_t record, uint64_t value)
{
    struct lmdb *const lmdb = store->state;
    MDB_cursor *const cursor = lmdb->threads[number].cursor;
    size_t name = record;
    MDB_val key = {sizeof name, &name}, found;
    lmdb_require(mdb_cursor_get(cursor, &key, &found, MDB_SET_KEY), "get");
    struct store_record content;
    memcpy(&content, found.mv_data, sizeof content);
    content.value = value;
    MDB_val changed = {sizeof content, &content};
    lmdb_require(mdb_cursor_put(cursor, &key, &changed, MDB_CURRENT), "put");
}

static void lmdb_commit(struct store *store, unsigned number)
{
    struct lmdb *const lmdb = store->state;
    mdb_cursor_close(lmdb->threads[number].cursor);
    lmdb_require(mdb_txn_commit(lmdb->threads[number].transaction), "commit");
}

static void lmdb_settle(struct store *store)
{
    struct lmdb *const lmdb = store->state;
    lmdb_require(mdb_env_sync(lmdb->environment, 1), "sync");
}

static void lmdb_read(struct store *store, uint64_t record, struct store_record *content)
{
    struct lmdb *const lmdb = store->state;
    size_t name = record;
    MDB_val key = {sizeof name, &name}, found;
    MDB_txn *transaction;
    lmdb_require(mdb_txn_begin(lmdb->environment, NULL, MDB_RDONLY, &transaction), "begin");
    lmdb_require(mdb_get(transaction, lmdb->database, &key, &found), "get");
    memcpy(content, found.mv_data, sizeof *content);
    mdb_txn_abort(transaction);
}

const struct store_calls store_lmdb_calls = {
    .open = lmdb_open,
    .close = lmdb_close,
    .begin = lmdb_begin,
    .update = lmdb_update,
    .commit = lmdb_commit,
    .settle = lmdb_settle,
    .read = lmdb_read,
};

#else

const struct store_calls store_lmdb_calls = {0};

#endif
