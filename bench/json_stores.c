/* json_stores.c -- databases that hold JSON, as far as they are installed: SQLite, LMDB. */
#include "json_peers.h"

#include "bench.h"

#include <stdlib.h>
#include <string.h>

/* Behind the quote that ends a string. */
static const char *text_skip(const char *at, const char *end)
{
    for (; at < end && *at != '"'; at++)
        if (*at == '\\') at++;
    return at + 1;
}

void json_each_item(const char *text, size_t size,
                    void (*each)(size_t number, const char *item, size_t size, void *context),
                    void *context)
{
    const char *const end = text + size;
    const char *at = memchr(text, '[', size);
    size_t number = 0;
    size_t depth = 0;
    for (const char *item = at ? ++at : end; at && at < end;) {
        const char byte = *at++;
        if (byte == '"') at = text_skip(at, end);
        if (byte == '{' || byte == '[') depth++;
        const bool ends = depth == 0 && (byte == ',' || byte == ']');
        if (ends) {
            each(number++, item, (size_t)(at - 1 - item), context);
            item = at;
        }
        if (ends && byte == ']') return;
        if (byte == '}' || byte == ']') depth--;
    }
}

#ifdef HAVE_SQLITE

#include <sqlite3.h>

/* One row of text for each status. WAL, synchronous=FULL, a cache that holds everything. */
struct rows {
    sqlite3 *database;
    sqlite3_stmt *add, *update, *read, *search;
};

static void rows_must(const struct rows *rows, int status, const char *what)
{
    if (status != SQLITE_OK && status != SQLITE_DONE && status != SQLITE_ROW)
        bench_die("SQLite: %s: %s", what, sqlite3_errmsg(rows->database));
}

static void rows_run(const struct rows *rows, const char *text)
{
    rows_must(rows, sqlite3_exec(rows->database, text, NULL, NULL, NULL), text);
}

static void *rows_open(const char *path, bool is_new)
{
    struct rows *const rows = bench_memory(1, sizeof *rows);
    rows_must(rows, sqlite3_open(path, &rows->database), "open");
    if (is_new) {
        rows_run(rows, "PRAGMA journal_mode=WAL");
        rows_run(rows, "CREATE TABLE status (number INTEGER PRIMARY KEY, text TEXT)");
    }
    rows_run(rows, "PRAGMA synchronous=FULL");
    rows_run(rows, "PRAGMA cache_size=-4000000");
    const char *const texts[] = {
        "INSERT INTO status VALUES (?1, ?2)",
        "UPDATE status SET text = json_set(text, '$.lang', ?2) WHERE number = ?1",
        "SELECT json_extract(text, '$.user.screen_name') FROM status WHERE number = ?1",
        "SELECT count(*) FROM status WHERE text LIKE ?1",
    };
    sqlite3_stmt **const statements[] = {&rows->add, &rows->update, &rows->read, &rows->search};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        rows_must(rows, sqlite3_prepare_v2(rows->database, texts[i], -1, statements[i], NULL),
                  texts[i]);
    return rows;
}

static void rows_begin(void *store)
{
    rows_run(store, "BEGIN");
}

static void rows_commit(void *store)
{
    rows_run(store, "COMMIT");
}

static void rows_add(size_t number, const char *item, size_t size, void *context)
{
    struct rows *const rows = context;
    sqlite3_bind_int64(rows->add, 1, (int64_t)number);
    sqlite3_bind_text(rows->add, 2, item, (int)size, SQLITE_STATIC);
    rows_must(rows, sqlite3_step(rows->add), "insert");
    sqlite3_reset(rows->add);
}

static void rows_load(void *store, const char *text, size_t size)
{
    rows_begin(store);
    json_each_item(text, size, rows_add, store);
    rows_commit(store);
}

static void rows_update(void *store, size_t status, const char letters[2])
{
    struct rows *const rows = store;
    sqlite3_bind_int64(rows->update, 1, (int64_t)status);
    sqlite3_bind_text(rows->update, 2, letters, 2, SQLITE_STATIC);
    rows_must(rows, sqlite3_step(rows->update), "update");
    sqlite3_reset(rows->update);
}

static size_t rows_read(void *store, size_t status, char *start, size_t start_size)
{
    struct rows *const rows = store;
    sqlite3_bind_int64(rows->read, 1, (int64_t)status);
    rows_must(rows, sqlite3_step(rows->read), "select");
    const size_t size = (size_t)sqlite3_column_bytes(rows->read, 0);
    const void *const text = sqlite3_column_text(rows->read, 0);
    if (text) memcpy(start, text, size < start_size ? size : start_size);
    sqlite3_reset(rows->read);
    return size;
}

static uint64_t rows_search(void *store, const char *part)
{
    struct rows *const rows = store;
    char pattern[100];
    snprintf(pattern, sizeof pattern, "%%%s%%", part);
    sqlite3_bind_text(rows->search, 1, pattern, -1, SQLITE_STATIC);
    rows_must(rows, sqlite3_step(rows->search), "search");
    const uint64_t count = (uint64_t)sqlite3_column_int64(rows->search, 0);
    sqlite3_reset(rows->search);
    return count;
}

/* Each string of each status in a row of its own besides, found by SQLite itself: what a search for
 * strings, not for statuses, has to look at. */
static void *strings_open(const char *path, bool is_new)
{
    struct rows *const rows = rows_open(path, is_new);
    const char *const search = "SELECT count(*) FROM string WHERE text LIKE ?1";
    if (is_new) rows_run(rows, "CREATE TABLE string (status INTEGER, path TEXT, text TEXT)");
    sqlite3_finalize(rows->search);
    rows_must(rows, sqlite3_prepare_v2(rows->database, search, -1, &rows->search, NULL), search);
    return rows;
}

static void strings_load(void *store, const char *text, size_t size)
{
    rows_load(store, text, size);
    rows_run(store, "INSERT INTO string SELECT number, fullkey, atom FROM status, "
                    "json_tree(status.text) WHERE type = 'text'");
}

static void rows_close(void *store)
{
    struct rows *const rows = store;
    sqlite3_stmt *const statements[] = {rows->add, rows->update, rows->read, rows->search};
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        sqlite3_finalize(statements[i]);
    sqlite3_close(rows->database);
    free(rows);
}

#endif

#ifdef HAVE_LMDB

#include <lmdb.h>

/* One value of text for each status. LMDB knows no JSON: what is in it is found by brackets and
 * quotes, as far as that goes; a part that is searched for may be a piece of anything. */
struct blobs {
    MDB_env *environment;
    MDB_dbi database;
    MDB_txn *change, *view;
};

static void blobs_must(int error, const char *what)
{
    if (error) bench_die("LMDB: %s: %s", what, mdb_strerror(error));
}

static void blobs_begin(void *store)
{
    struct blobs *const blobs = store;
    if (blobs->view) mdb_txn_abort(blobs->view);
    blobs->view = NULL;
    blobs_must(mdb_txn_begin(blobs->environment, NULL, 0, &blobs->change), "begin");
}

static void blobs_commit(void *store)
{
    struct blobs *const blobs = store;
    blobs_must(mdb_txn_commit(blobs->change), "commit");
    blobs->change = NULL;
}

static void *blobs_open(const char *path, bool is_new)
{
    struct blobs *const blobs = bench_memory(1, sizeof *blobs);
    blobs_must(mdb_env_create(&blobs->environment), "create");
    blobs_must(mdb_env_set_mapsize(blobs->environment, 8 * BENCH_GIB), "map size");
    blobs_must(mdb_env_open(blobs->environment, path, MDB_NOSUBDIR, 0600), "open");
    (void)is_new;
    blobs_begin(blobs);
    blobs_must(mdb_dbi_open(blobs->change, NULL, MDB_INTEGERKEY, &blobs->database), "database");
    blobs_commit(blobs);
    return blobs;
}

static void blobs_add(size_t number, const char *item, size_t size, void *context)
{
    struct blobs *const blobs = context;
    MDB_val key = {sizeof number, &number};
    MDB_val value = {size, (void *)(uintptr_t)item};
    blobs_must(mdb_put(blobs->change, blobs->database, &key, &value, MDB_APPEND), "put");
}

static void blobs_load(void *store, const char *text, size_t size)
{
    blobs_begin(store);
    json_each_item(text, size, blobs_add, store);
    blobs_commit(store);
}

/* The string of the member `key` on the top level of an object, without decoding. */
static const char *blob_member(const char *text, size_t size, const char *key, size_t *found)
{
    const char *const end = text + size;
    const size_t key_size = strlen(key);
    size_t depth = 0;
    for (const char *at = text; at < end;) {
        const char byte = *at++;
        if (byte == '{' || byte == '[') depth++;
        if (byte == '}' || byte == ']') depth--;
        if (byte != '"') continue;
        const char *const name = at;
        at = text_skip(at, end);
        const bool is_it = depth == 1 && (size_t)(at - 1 - name) == key_size && at < end &&
                           *at == ':' && memcmp(name, key, key_size) == 0;
        if (!is_it) continue;
        const char *const value = ++at;
        if (*value == '"') at = text_skip(at + 1, end);
        *found = *value == '"' ? (size_t)(at - value) : (size_t)(end - value);
        return value;
    }
    bench_die("LMDB: no member %s", key);
}

static MDB_val blobs_get(struct blobs *blobs, MDB_txn *transaction, size_t status)
{
    MDB_val key = {sizeof status, &status};
    MDB_val value;
    blobs_must(mdb_get(transaction, blobs->database, &key, &value), "get");
    return value;
}

static void blobs_update(void *store, size_t status, const char letters[2])
{
    struct blobs *const blobs = store;
    const MDB_val old = blobs_get(blobs, blobs->change, status);
    size_t size = 0;
    const char *const lang = blob_member(old.mv_data, old.mv_size, "lang", &size);
    const size_t at = (size_t)(lang - (const char *)old.mv_data);
    char *const copy = bench_memory(1, old.mv_size);
    memcpy(copy, old.mv_data, old.mv_size);
    if (size == 4) memcpy(copy + at + 1, letters, 2);
    MDB_val key = {sizeof status, &status};
    MDB_val value = {old.mv_size, copy};
    blobs_must(mdb_put(blobs->change, blobs->database, &key, &value, 0), "put");
    free(copy);
}

static size_t blobs_read(void *store, size_t status, char *start, size_t start_size)
{
    struct blobs *const blobs = store;
    if (!blobs->view)
        blobs_must(mdb_txn_begin(blobs->environment, NULL, MDB_RDONLY, &blobs->view), "begin");
    const MDB_val text = blobs_get(blobs, blobs->view, status);
    size_t size = 0;
    const char *const user = blob_member(text.mv_data, text.mv_size, "user", &size);
    const char *const name = blob_member(user, size, "screen_name", &size);
    memcpy(start, name + 1, size - 2 < start_size ? size - 2 : start_size);
    return size - 2;
}

static uint64_t blobs_search(void *store, const char *part)
{
    struct blobs *const blobs = store;
    char start[1];
    (void)blobs_read(blobs, 0, start, 1); /* there is a view now */
    MDB_cursor *cursor;
    blobs_must(mdb_cursor_open(blobs->view, blobs->database, &cursor), "cursor");
    MDB_val key;
    MDB_val value;
    uint64_t count = 0;
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0)
        count += memmem(value.mv_data, value.mv_size, part, strlen(part)) != NULL;
    mdb_cursor_close(cursor);
    return count;
}

static void blobs_close(void *store)
{
    struct blobs *const blobs = store;
    if (blobs->view) mdb_txn_abort(blobs->view);
    mdb_env_close(blobs->environment);
    free(blobs);
}

#endif

const struct json_store json_stores[] = {
#ifdef HAVE_SQLITE
    {"SQLite, a row each", rows_open, rows_load, rows_begin, rows_commit, rows_update, rows_read,
     rows_search, rows_close},
    {"SQLite, a row a string", strings_open, strings_load, rows_begin, rows_commit, NULL, NULL,
     rows_search, rows_close},
#endif
#ifdef HAVE_LMDB
    {"LMDB, a text each", blobs_open, blobs_load, blobs_begin, blobs_commit, blobs_update,
     blobs_read, blobs_search, blobs_close},
#endif
    {.name = NULL},
};
