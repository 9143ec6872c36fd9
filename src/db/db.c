/* db.c -- databases: opening and committing, and whose a path is.
 *
 * /$metrics and /$sys are told from the document's paths by their first token alone, and only in
 * the functions of this layer: what is stored, references included, are plain JSON Pointers.
 */
#include "db/db.h"
#include "os/os.h"

/* ---- paths ---- */

/* Which of the reserved names the token is, behind any number of `*dollars`. */
static enum db_realm db_token_realm(const char *token, size_t size, size_t *dollars)
{
    static const char metrics[] = "metrics";
    static const char system[] = "sys";
    assert(token != NULL);
    assert(dollars != NULL);
    *dollars = 0;
    while (*dollars < size && token[*dollars] == '$') (*dollars)++;
    const char *name = token + *dollars;
    const size_t name_size = size - *dollars;
    if (*dollars == 0) return DB_DOCUMENT;
    if (name_size == sizeof metrics - 1 && memcmp(name, metrics, name_size) == 0) return DB_METRICS;
    if (name_size == sizeof system - 1 && memcmp(name, system, name_size) == 0) return DB_SYSTEM;
    return DB_DOCUMENT;
}

evh_status db_route(const char *path, struct db_route *route)
{
    assert(route != NULL);
    *route = (struct db_route){DB_DOCUMENT, path, 0, NULL};
    if (!path) return base_fail(EVH_INVALID, NO_OFFSET, "db: no path");
    route->size = strlen(path);
    if (route->size < 2 || path[0] != '/') return EVH_OK;
    const char *slash = memchr(path + 1, '/', route->size - 1);
    const size_t token_size = slash ? (size_t)(slash - path) - 1 : route->size - 1;
    size_t dollars = 0;
    const enum db_realm realm = db_token_realm(path + 1, token_size, &dollars);
    if (realm == DB_DOCUMENT) return EVH_OK;
    if (dollars == 1) {
        route->realm = realm;
        route->text = path + 1 + token_size;
        route->size -= 1 + token_size;
        return EVH_OK;
    }
    route->memory = os->memory_allocate(route->size);
    if (!route->memory) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "db: no memory for a path");
    assert(dollars > 1);
    route->memory[0] = '/';
    memcpy(route->memory + 1, path + 2, route->size - 2);
    route->text = route->memory;
    route->size--;
    return EVH_OK;
}

void db_route_end(struct db_route *route)
{
    assert(route != NULL);
    os->memory_free(route->memory);
    route->memory = NULL;
}

char *db_path_text(struct evh_db *db, evh_value value, size_t *size)
{
    assert(size != NULL);
    assert(db != NULL);
    const size_t bytes = evh_json_pointer(db->json, value, NULL, 0);
    char *text = bytes == SIZE_MAX ? NULL : os->memory_allocate(bytes + 2);
    if (!text) return NULL;
    (void)evh_json_pointer(db->json, value, text, bytes + 1);
    *size = bytes;
    if (bytes > 0) assert(text[0] == '/');
    size_t dollars = 0;
    const char *slash = bytes ? memchr(text + 1, '/', bytes - 1) : NULL;
    const size_t token_size = slash ? (size_t)(slash - text) - 1 : bytes ? bytes - 1 : 0;
    if (bytes && db_token_realm(text + 1, token_size, &dollars) != DB_DOCUMENT) {
        memmove(text + 2, text + 1, bytes);
        text[1] = '$';
        (*size)++;
    }
    return text;
}

size_t evh_db_path(evh_db *db, evh_value value, char *buffer, size_t size)
{
    size_t bytes = SIZE_MAX;
    if (!db || (!buffer && size)) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "db: no database, or no buffer");
        return SIZE_MAX;
    }
    char *text = db_path_text(db, value, &bytes);
    if (!text) return SIZE_MAX;
    if (size) {
        const size_t kept = bytes < size ? bytes : size - 1;
        assert(kept < size);
        memcpy(buffer, text + (bytes - kept), kept);
        buffer[kept] = 0;
    }
    os->memory_free(text);
    return bytes;
}

/* ---- databases ---- */

static evh_db *db_make(evh_heap *heap, const evh_db_options *options, bool owns_heap)
{
    assert(heap != NULL);
    struct evh_db *db = os->memory_allocate(sizeof *db);
    if (!db) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "db: no memory to open a database");
        return NULL;
    }
    db->heap = heap;
    db->owns_heap = owns_heap;
    db->references = options ? options->references : EVH_DB_REFERENCES_ALONE;
    db->json = evh_json_open(heap, options ? options->name : NULL);
    if (db->json) return db;
    os->memory_free(db);
    return NULL;
}

evh_db *evh_db_open(const char *path, const evh_db_options *options)
{
    evh_options heap_options = {.mode = EVH_DURABLE};
    if (options) {
        heap_options.mode = options->mode;
        heap_options.must_exist = options->must_exist;
        heap_options.guards = options->guards;
        heap_options.commit_sequence = options->commit_sequence;
    }
    evh_heap *heap = evh_open(path, &heap_options);
    if (!heap) return NULL;
    evh_db *db = db_make(heap, options, true);
    if (db) return db;
    const evh_error error = *evh_last_error();
    (void)evh_close(heap);
    (void)base_fail(error.status, error.offset, "%s", error.message);
    return NULL;
}

evh_db *evh_db_open_in(evh_heap *heap, const evh_db_options *options)
{
    if (heap) return db_make(heap, options, false);
    (void)base_fail(EVH_INVALID, NO_OFFSET, "db: no heap");
    return NULL;
}

evh_status evh_db_close(evh_db *db)
{
    if (!db) return EVH_OK;
    db_watches_end(db);
    os->memory_free(db->side.table);
    evh_json_close(db->metrics);
    (void)evh_close(db->metrics_heap);
    evh_json_close(db->json);
    const evh_status status = db->owns_heap ? evh_close(db->heap) : EVH_OK;
    os->memory_free(db);
    return status;
}

evh_status evh_db_commit(evh_db *db)
{
    if (!db) return base_fail(EVH_INVALID, NO_OFFSET, "db: no database");
    evh_status status = json_ready(db->json);
    if (!status) status = heap_writable(db->heap);
    if (status) return status;
    struct json_root *root = db->json->root;
    if (root->changes != root->commit_changes) { /* else a commit stays one of nothing */
        root->commit_changes = root->changes;
        root->commit_time_ns = os->time_ns();
    }
    status = evh_commit(db->heap);
    if (!status) assert(root->changes == root->commit_changes);
    if (!status) db_watches_tell(db);
    return status;
}

evh_status evh_db_rollback(evh_db *db)
{
    if (!db) return base_fail(EVH_INVALID, NO_OFFSET, "db: no database");
    const evh_status status = evh_rollback(db->heap);
    if (!status) db_watches_forget(&db->watches);
    return status;
}

evh_heap *evh_db_heap(evh_db *db)
{
    return db ? db->heap : NULL;
}

evh_json *evh_db_json(evh_db *db)
{
    return db ? db->json : NULL;
}

/* ---- reading ---- */

static const evh_node node_none = {NULL, {0, 0, 0}};

static evh_node db_find(struct evh_db *db, const char *path, bool follows)
{
    struct db_route route;
    if (!db) (void)base_fail(EVH_INVALID, NO_OFFSET, "db: no database");
    if (!db || db_route(path, &route)) return node_none;
    evh_node node = {db->json, {0, 0, 0}};
    if (route.realm == DB_METRICS) {
        node = db_metrics(db, route.text, route.size);
    } else if (route.realm == DB_SYSTEM) {
        (void)base_fail(EVH_NOT_FOUND, NO_OFFSET, "db: nothing at %.200s, which is reserved", path);
    } else {
        node.value = evh_json_find(db->json, evh_json_root(db->json), route.text, route.size);
        if (follows && evh_json_is(node.value)) node.value = evh_json_follow(db->json, node.value);
    }
    db_route_end(&route);
    return evh_json_is(node.value) ? node : node_none;
}

evh_node evh_db_get(evh_db *db, const char *path)
{
    return db_find(db, path, true);
}

evh_node evh_db_peek(evh_db *db, const char *path)
{
    return db_find(db, path, false);
}

bool evh_db_exists(evh_db *db, const char *path)
{
    return evh_node_is(db_find(db, path, false));
}

evh_json_path *evh_db_compile(evh_db *db, const char *path)
{
    struct db_route route;
    if (!db) (void)base_fail(EVH_INVALID, NO_OFFSET, "db: no database");
    if (!db || db_route(path, &route)) return NULL;
    evh_json_path *compiled = NULL;
    if (route.realm == DB_DOCUMENT) {
        compiled = evh_json_compile(db->json, route.text, route.size);
    } else {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "db: %.200s is no path of the document", path);
    }
    db_route_end(&route);
    return compiled;
}

evh_node evh_db_walk(evh_db *db, evh_json_path *path)
{
    if (!db) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "db: no database");
        return node_none;
    }
    evh_node node = {db->json, evh_json_walk(db->json, evh_json_root(db->json), path)};
    if (evh_json_is(node.value)) node.value = evh_json_follow(db->json, node.value);
    return evh_json_is(node.value) ? node : node_none;
}

/* ---- cursors ---- */

evh_cursor evh_cursor_begin(evh_node container)
{
    return (evh_cursor){.json = container.json, .container = container.value};
}

bool evh_cursor_next(evh_cursor *cursor)
{
    if (!cursor || !cursor->json) return false;
    const size_t position = cursor->has_begun ? cursor->position + 1 : 0;
    if (position >= evh_json_count(cursor->json, cursor->container)) return false;
    cursor->value = evh_json_at(cursor->json, cursor->container, position);
    if (!evh_json_is(cursor->value)) return false;
    assert(!cursor->has_begun || position == cursor->position + 1);
    cursor->position = position;
    cursor->has_begun = true;
    cursor->key = NULL;
    cursor->key_size = 0;
    if (evh_json_type_of(cursor->json, cursor->container) == EVH_JSON_OBJECT)
        cursor->key = evh_json_key(cursor->json, cursor->container, position, &cursor->key_size);
    return true;
}

evh_status evh_cursor_erase(evh_cursor *cursor)
{
    if (!cursor || !cursor->json || !cursor->has_begun || !evh_json_is(cursor->value))
        return base_fail(EVH_INVALID, NO_OFFSET, "db: a cursor that is at no value");
    const evh_status status = evh_json_erase(cursor->json, cursor->value);
    if (status) return status;
    cursor->value = value_none();
    cursor->key = NULL;
    if (cursor->position == 0) {
        cursor->has_begun = false;
    } else {
        cursor->position--;
    }
    return EVH_OK;
}
