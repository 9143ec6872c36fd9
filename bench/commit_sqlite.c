/* commit_sqlite.c -- the records in a table of SQLite, in WAL mode with synchronous=FULL. */
#include "commit_store.h"

#ifdef HAVE_SQLITE

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

/*
 * A prepared UPDATE by primary key. The cache holds the whole table. Checkpoints are made as
 * SQLite's own default does, by the commit that finds 1000 pages in the log: a hook of ours does
 * the same in its place, and counts. Each thread has a connection.
 */
enum { SQLITE_CHECKPOINT_PAGES = 1000 };

struct sqlite_thread {
    sqlite3 *connection;
    sqlite3_stmt *begin, *update, *commit, *read;
};

struct sqlite {
    struct sqlite_thread threads[STORE_THREADS_MAX];
    uint64_t checkpoints; /* atomic */
};

static void sqlite_require(const struct sqlite_thread *thread, bool fine, const char *what)
{
    if (!fine) bench_die("SQLite: %s: %s", what, sqlite3_errmsg(thread->connection));
}

static void sqlite_run(struct sqlite_thread *thread, const char *statement)
{
    sqlite_require(thread,
                   sqlite3_exec(thread->connection, statement, NULL, NULL, NULL) == SQLITE_OK,
                   statement);
}

static void sqlite_checkpoint(struct sqlite *sqlite, sqlite3 *connection)
{
    const int status =
        sqlite3_wal_checkpoint_v2(connection, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (status == SQLITE_OK) __atomic_fetch_add(&sqlite->checkpoints, 1, __ATOMIC_RELAXED);
}

static int sqlite_on_commit(void *context, sqlite3 *connection, const char *name, int pages)
{
    (void)name;
    if (pages >= SQLITE_CHECKPOINT_PAGES) sqlite_checkpoint(context, connection);
    return SQLITE_OK;
}

static sqlite3_stmt *sqlite_prepare(struct sqlite_thread *thread, const char *text)
{
    sqlite3_stmt *statement = NULL;
    sqlite_require(thread,
                   sqlite3_prepare_v2(thread->connection, text, -1, &statement, NULL) == SQLITE_OK,
                   text);
    return statement;
}

static void sqlite_step(struct sqlite_thread *thread, sqlite3_stmt *statement, const char *what)
{
    const int status = sqlite3_step(statement);
    sqlite_require(thread, status == SQLITE_DONE, what);
    sqlite3_reset(statement);
}

static void sqlite_connect(struct store *store, struct sqlite_thread *thread, uint64_t cache_kib)
{
    const int status = sqlite3_open_v2(store->path, &thread->connection,
                                       SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    sqlite_require(thread, status == SQLITE_OK, "open");
    sqlite3_busy_timeout(thread->connection, 60000);
    sqlite_run(thread, "PRAGMA journal_mode=WAL");
    sqlite_run(thread, "PRAGMA synchronous=FULL");
    char text[64];
    snprintf(text, sizeof text, "PRAGMA cache_size=-%llu", (unsigned long long)cache_kib);
    sqlite_run(thread, text);
    sqlite_run(thread, "CREATE TABLE IF NOT EXISTS record"
                       "(name INTEGER PRIMARY KEY, value INTEGER NOT NULL, body BLOB NOT NULL)");
    sqlite3_wal_hook(thread->connection, sqlite_on_commit, store->state);
    thread->begin = sqlite_prepare(thread, "BEGIN IMMEDIATE");
    thread->update = sqlite_prepare(thread, "UPDATE record SET value = ?1 WHERE name = ?2");
    thread->commit = sqlite_prepare(thread, "COMMIT");
    thread->read = sqlite_prepare(thread, "SELECT value, body FROM record WHERE name = ?1");
}

static void sqlite_fill(struct store *store, struct sqlite_thread *thread)
{
    sqlite3_stmt *const insert = sqlite_prepare(thread, "INSERT INTO record VALUES(?1, 0, ?2)");
    sqlite_run(thread, "BEGIN");
    struct store_record content;
    for (uint64_t i = 0; i < store->record_count; i++) {
        store_record_fill(&content, i);
        sqlite3_bind_int64(insert, 1, (sqlite3_int64)i);
        sqlite3_bind_blob(insert, 2, content.body, sizeof content.body, SQLITE_STATIC);
        sqlite_step(thread, insert, "insert");
        if (i % 65536 == 65535) sqlite_run(thread, "COMMIT; BEGIN");
    }
    sqlite_run(thread, "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
    sqlite3_finalize(insert);
}

static void sqlite_open(struct store *store, bool create)
{
    struct sqlite *const sqlite = bench_memory(1, sizeof *sqlite);
    store->state = sqlite;
    struct sqlite_thread *const thread = &sqlite->threads[0];
    const uint64_t data_kib = store->record_count * STORE_RECORD_BYTES / BENCH_KIB;
    sqlite_connect(store, thread, data_kib * 3 / 2 + 8192);
    if (create) sqlite_fill(store, thread);
    sqlite_run(thread, "SELECT sum(length(body)) + sum(value) FROM record");
    snprintf(store->note, sizeof store->note,
             "SQLite %s, WAL, synchronous=FULL, checkpoint at %d pages", sqlite3_libversion(),
             SQLITE_CHECKPOINT_PAGES);
}

static void sqlite_close(struct store *store)
{
    struct sqlite *const sqlite = store->state;
    for (unsigned i = 0; i < STORE_THREADS_MAX; i++) {
        struct sqlite_thread *const thread = &sqlite->threads[i];
        if (!thread->connection) continue;
        sqlite3_finalize(thread->begin);
        sqlite3_finalize(thread->update);
        sqlite3_finalize(thread->commit);
        sqlite3_finalize(thread->read);
        sqlite_require(thread, sqlite3_close(thread->connection) == SQLITE_OK, "close");
    }
    free(sqlite);
}

static struct sqlite_thread *sqlite_thread_of(struct store *store, unsigned number)
{
    struct sqlite *const sqlite = store->state;
    struct sqlite_thread *const thread = &sqlite->threads[number];
    if (!thread->connection) sqlite_connect(store, thread, 8192);
    return thread;
}

static void sqlite_begin(struct store *store, unsigned number)
{
    struct sqlite_thread *const thread = sqlite_thread_of(store, number);
    sqlite_step(thread, thread->begin, "begin");
}

static void sqlite_update(struct store *store, unsigned number, uint64_t record, uint64_t value)
{
    struct sqlite_thread *const thread = sqlite_thread_of(store, number);
    sqlite3_bind_int64(thread->update, 1, (sqlite3_int64)value);
    sqlite3_bind_int64(thread->update, 2, (sqlite3_int64)record);
    sqlite_step(thread, thread->update, "update");
}

static void sqlite_commit(struct store *store, unsigned number)
{
    struct sqlite_thread *const thread = sqlite_thread_of(store, number);
    sqlite_step(thread, thread->commit, "commit");
}

static void sqlite_settle(struct store *store)
{
    struct sqlite *const sqlite = store->state;
    sqlite_checkpoint(sqlite, sqlite->threads[0].connection);
}

static uint64_t sqlite_checkpoints(struct store *store)
{
    struct sqlite *const sqlite = store->state;
    return __atomic_load_n(&sqlite->checkpoints, __ATOMIC_RELAXED);
}

static void sqlite_read(struct store *store, uint64_t record, struct store_record *content)
{
    struct sqlite_thread *const thread = sqlite_thread_of(store, 0);
    sqlite3_bind_int64(thread->read, 1, (sqlite3_int64)record);
    sqlite_require(thread, sqlite3_step(thread->read) == SQLITE_ROW, "read");
    content->value = (uint64_t)sqlite3_column_int64(thread->read, 0);
    sqlite_require(thread, sqlite3_column_bytes(thread->read, 1) == sizeof content->body, "size");
    memcpy(content->body, sqlite3_column_blob(thread->read, 1), sizeof content->body);
    sqlite3_reset(thread->read);
}

const struct store_calls store_sqlite_calls = {
    .open = sqlite_open,
    .close = sqlite_close,
    .begin = sqlite_begin,
    .update = sqlite_update,
    .commit = sqlite_commit,
    .settle = sqlite_settle,
    .checkpoints = sqlite_checkpoints,
    .read = sqlite_read,
};

#else

const struct store_calls store_sqlite_calls = {0};

#endif
