/* collect_stores.c -- LMDB and SQLite as stores of numbers by numbers. */
#include "collect_std.h"

#include "bench.h"

#include <stdlib.h>

#ifdef HAVE_LMDB

#include <lmdb.h>

struct numbers_lmdb {
    MDB_env *environment;
    MDB_dbi database;
};

static void lmdb_must(int error, const char *what)
{
    if (error) bench_die("LMDB: %s: %s", what, mdb_strerror(error));
}

static void *lmdb_open_numbers(const char *path)
{
    struct numbers_lmdb *const lmdb = bench_memory(1, sizeof *lmdb);
    MDB_txn *transaction;
    lmdb_must(mdb_env_create(&lmdb->environment), "create");
    lmdb_must(mdb_env_set_mapsize(lmdb->environment, 8 * BENCH_GIB), "map size");
    lmdb_must(mdb_env_open(lmdb->environment, path, MDB_NOSUBDIR, 0600), "open");
    lmdb_must(mdb_txn_begin(lmdb->environment, NULL, 0, &transaction), "begin");
    lmdb_must(mdb_dbi_open(transaction, NULL, MDB_INTEGERKEY, &lmdb->database), "database");
    lmdb_must(mdb_txn_commit(transaction), "commit");
    return lmdb;
}

static void lmdb_put_numbers(void *store, const uint64_t *keys, const uint64_t *values,
                             size_t count)
{
    struct numbers_lmdb *const lmdb = store;
    MDB_txn *transaction;
    lmdb_must(mdb_txn_begin(lmdb->environment, NULL, 0, &transaction), "begin");
    for (size_t i = 0; i < count; i++) {
        uint64_t name = keys[i], content = values[i];
        MDB_val key = {sizeof name, &name}, value = {sizeof content, &content};
        lmdb_must(mdb_put(transaction, lmdb->database, &key, &value, 0), "put");
    }
    lmdb_must(mdb_txn_commit(transaction), "commit");
}

static void lmdb_relax(void *store, bool is_relaxed)
{
    struct numbers_lmdb *const lmdb = store;
    lmdb_must(mdb_env_set_flags(lmdb->environment, MDB_NOSYNC, is_relaxed), "flags");
    if (!is_relaxed) lmdb_must(mdb_env_sync(lmdb->environment, 1), "sync");
}

static void lmdb_close_numbers(void *store)
{
    struct numbers_lmdb *const lmdb = store;
    mdb_env_close(lmdb->environment);
    free(lmdb);
}

const struct collect_store collect_lmdb = {"LMDB", lmdb_open_numbers, lmdb_put_numbers, lmdb_relax,
                                           lmdb_close_numbers};

#else

const struct collect_store collect_lmdb = {"LMDB", NULL, NULL, NULL, NULL};

#endif

#ifdef HAVE_SQLITE

#include <sqlite3.h>

struct numbers_sqlite {
    sqlite3 *database;
    sqlite3_stmt *put;
};

static void sqlite_must(sqlite3 *database, int status, const char *what)
{
    if (status != SQLITE_OK && status != SQLITE_DONE)
        bench_die("SQLite: %s: %s", what, sqlite3_errmsg(database));
}

static void sqlite_run(sqlite3 *database, const char *text)
{
    sqlite_must(database, sqlite3_exec(database, text, NULL, NULL, NULL), text);
}

static void *sqlite_open_numbers(const char *path)
{
    struct numbers_sqlite *const sqlite = bench_memory(1, sizeof *sqlite);
    sqlite_must(NULL, sqlite3_open(path, &sqlite->database), "open");
    sqlite_run(sqlite->database, "PRAGMA journal_mode=WAL");
    sqlite_run(sqlite->database, "PRAGMA synchronous=FULL");
    sqlite_run(sqlite->database, "PRAGMA cache_size=-1000000");
    sqlite_run(sqlite->database, "CREATE TABLE numbers (key INTEGER PRIMARY KEY, value INTEGER)");
    sqlite_must(sqlite->database,
                sqlite3_prepare_v2(sqlite->database,
                                   "INSERT INTO numbers VALUES (?1, ?2) ON CONFLICT (key) "
                                   "DO UPDATE SET value = ?2",
                                   -1, &sqlite->put, NULL),
                "prepare");
    return sqlite;
}

static void sqlite_put_numbers(void *store, const uint64_t *keys, const uint64_t *values,
                               size_t count)
{
    struct numbers_sqlite *const sqlite = store;
    sqlite_run(sqlite->database, "BEGIN");
    for (size_t i = 0; i < count; i++) {
        sqlite3_bind_int64(sqlite->put, 1, (int64_t)keys[i]);
        sqlite3_bind_int64(sqlite->put, 2, (int64_t)values[i]);
        sqlite_must(sqlite->database, sqlite3_step(sqlite->put), "put");
        sqlite3_reset(sqlite->put);
    }
    sqlite_run(sqlite->database, "COMMIT");
}

static void sqlite_relax(void *store, bool is_relaxed)
{
    struct numbers_sqlite *const sqlite = store;
    sqlite_run(sqlite->database, is_relaxed ? "PRAGMA synchronous=OFF" : "PRAGMA synchronous=FULL");
    if (!is_relaxed) sqlite_run(sqlite->database, "PRAGMA wal_checkpoint(PASSIVE)");
}

static void sqlite_close_numbers(void *store)
{
    struct numbers_sqlite *const sqlite = store;
    sqlite3_finalize(sqlite->put);
    sqlite3_close(sqlite->database);
    free(sqlite);
}

const struct collect_store collect_sqlite = {"SQLite WAL, FULL", sqlite_open_numbers,
                                             sqlite_put_numbers, sqlite_relax,
                                             sqlite_close_numbers};

#else

const struct collect_store collect_sqlite = {"SQLite", NULL, NULL, NULL, NULL};

#endif
