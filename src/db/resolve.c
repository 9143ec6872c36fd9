/* resolve.c -- relative paths for an interpreter, and pointers of its own beside values. */
#include "db/db.h"
#include "os/os.h"

enum { RESOLVE_EXTEND_MAX = 65536 };

/* What was made first, so that it can be taken back. */
struct resolve_made {
    evh_value container; /* none: nothing */
    size_t count;        /* values that it had */
    bool was_null;
};

struct resolve {
    struct evh_db *db;
    evh_value at;
    bool makes;
    struct resolve_made made;
};

void evh_db_set_first(evh_db *db, evh_db_first *first, void *context)
{
    if (!db) return;
    db->first = first;
    db->first_context = context;
}

/* ---- references ---- */

/* The path in the member "$ref" of an object, or NULL. */
static const char *resolve_among(struct evh_db *db, evh_value value, size_t *size)
{
    assert(db->references == EVH_DB_REFERENCES_AMONG);
    assert(size != NULL);
    if (evh_json_type_of(db->json, value) != EVH_JSON_OBJECT) return NULL;
    const evh_value member = evh_json_member(db->json, value, "$ref", 4);
    if (!evh_json_is(member) || evh_json_type_of(db->json, member) != EVH_JSON_STRING) return NULL;
    return evh_json_text(db->json, member, size);
}

/* Follow references of either style; none after an error. */
static evh_value resolve_follow(struct evh_db *db, evh_value value)
{
    for (int hops = 0; hops <= JSON_HOPS_MAX; hops++) {
        value = evh_json_follow(db->json, value);
        size_t size = 0;
        const char *path = NULL;
        if (evh_json_is(value) && db->references == EVH_DB_REFERENCES_AMONG)
            path = resolve_among(db, value, &size);
        if (!path) return value;
        char *pointer = os->memory_allocate(size + 2);
        if (!pointer) {
            (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "db: no memory for a path");
            return value_none();
        }
        pointer[0] = '/';
        memcpy(pointer + 1, path, size);
        const bool has_slash = size == 0 || path[0] == '/' || path[0] == '#';
        value = evh_json_find(db->json, evh_json_root(db->json), pointer + has_slash,
                              size + !has_slash);
        if (!evh_json_is(value) && evh_last_error()->status == EVH_NOT_FOUND)
            (void)base_fail(EVH_DANGLING, NO_OFFSET, "db: a reference to %.200s, where nothing is",
                            pointer + has_slash);
        os->memory_free(pointer);
        if (!evh_json_is(value)) return value;
    }
    (void)base_fail(EVH_CYCLE, NO_OFFSET, "db: more than %d references in a row", JSON_HOPS_MAX);
    return value_none();
}

/* ---- segments ---- */

static void resolve_note(struct resolve *resolve, size_t count, bool was_null)
{
    assert(evh_json_is(resolve->at));
    assert(resolve->makes);
    if (evh_json_is(resolve->made.container)) return;
    resolve->made = (struct resolve_made){resolve->at, count, was_null};
}

/* A null becomes what a segment asks for. */
static evh_status resolve_make_container(struct resolve *resolve, bool is_item)
{
    assert(resolve->makes);
    struct evh_json *json = resolve->db->json;
    struct json_place place;
    evh_status status = value_place(json, resolve->at, &place);
    if (status) return status;
    status =
        is_item ? evh_json_set_array(json, resolve->at) : evh_json_set_object(json, resolve->at);
    if (status) return status;
    resolve->at = value_of(json, place.number, place.position, place.slot);
    resolve_note(resolve, 0, true);
    return EVH_OK;
}

/* Extend an array so that it has item `index`. */
static evh_status resolve_extend(struct resolve *resolve, uint64_t index)
{
    assert(resolve->makes);
    assert(index >= evh_json_count(resolve->db->json, resolve->at));
    struct evh_json *json = resolve->db->json;
    const size_t count = evh_json_count(json, resolve->at);
    if (index - count >= RESOLVE_EXTEND_MAX)
        return base_fail(EVH_LIMIT, NO_OFFSET, "db: item %llu of an array of %zu",
                         (unsigned long long)index, count);
    resolve_note(resolve, count, false);
    evh_status status = EVH_OK;
    for (uint64_t i = count; i <= index && !status; i++)
        status = evh_json_append(json, resolve->at, NULL);
    return status;
}

static evh_status resolve_step(struct resolve *resolve, const char *token, size_t size)
{
    assert(token != NULL);
    struct evh_json *json = resolve->db->json;
    uint64_t index = 0;
    const bool is_item = pointer_index(token, size, &index);
    const evh_value at = resolve_follow(resolve->db, resolve->at);
    if (!evh_json_is(at)) return evh_last_error()->status;
    resolve->at = at;
    evh_status status = EVH_OK;
    if (resolve->makes && evh_json_type_of(json, at) == EVH_JSON_NULL)
        status = resolve_make_container(resolve, is_item);
    if (status) return status;
    const evh_json_type type = evh_json_type_of(json, resolve->at);
    evh_value below = value_none();
    if (type == EVH_JSON_ARRAY && is_item) {
        if (resolve->makes && index >= evh_json_count(json, resolve->at))
            status = resolve_extend(resolve, index);
        if (!status && index < evh_json_count(json, resolve->at))
            below = evh_json_at(json, resolve->at, index);
    } else if (type == EVH_JSON_OBJECT) {
        below = evh_json_member(json, resolve->at, token, size);
        if (!evh_json_is(below) && resolve->makes) {
            resolve_note(resolve, evh_json_count(json, resolve->at), false);
            status = evh_json_put(json, resolve->at, token, size, &below);
        }
    } else if (resolve->makes) {
        status = base_fail(EVH_INVALID, NO_OFFSET, "db: \"%.*s\" of %s", (int)base_min(size, 200),
                           token, evh_json_type_name(type));
    }
    if (status) return status;
    if (!evh_json_is(below))
        return base_fail(EVH_NOT_FOUND, NO_OFFSET, "db: nothing at \"%.*s\" of %s",
                         (int)base_min(size, 200), token, evh_json_type_name(type));
    resolve->at = below;
    return EVH_OK;
}

/* Take back what was made; the last error stays. */
static void resolve_unmake(struct resolve *resolve, size_t observed)
{
    if (!resolve->makes) assert(!evh_json_is(resolve->made.container));
    const struct resolve_made *made = &resolve->made;
    struct evh_json *json = resolve->db->json;
    if (!evh_json_is(made->container)) return;
    const evh_error error = *evh_last_error();
    if (made->was_null) {
        (void)evh_json_set_null(json, made->container);
    } else {
        for (size_t i = evh_json_count(json, made->container); i > made->count; i--)
            (void)evh_json_erase(json, evh_json_at(json, made->container, i - 1));
    }
    if (json->observer) json->observer->count = observed;
    (void)base_fail(error.status, error.offset, "%s", error.message);
}

static evh_value resolve_path(struct evh_db *db, evh_value from, const char *path, bool makes,
                              evh_db_stop *stop)
{
    if (stop) *stop = (evh_db_stop){0, 0, from};
    if (!db || !path) (void)base_fail(EVH_INVALID, NO_OFFSET, "db: no database, or no path");
    if (!db || !path) return value_none();
    struct resolve resolve = {.db = db, .at = from, .makes = makes};
    evh_status status = makes ? json_writable(db->json) : json_ready(db->json);
    const size_t observed = db->json->observer ? db->json->observer->count : 0;
    const size_t size = strlen(path);
    if (path[0] == '/') resolve.at = evh_json_root(db->json);
    size_t next = path[0] == '/';
    size_t offset = 0;
    bool is_first = path[0] != '/';
    while (!status && size > 0 && next <= size) {
        offset = next;
        const char *slash = memchr(path + next, '/', size - next);
        const size_t end = slash ? (size_t)(slash - path) : size;
        next = end + 1;
        char *text = os->memory_allocate(end - offset + 2); /* as a pointer of one token */
        size_t fault = 0;
        if (!text) {
            status = base_fail(EVH_NO_MEMORY, NO_OFFSET, "db: no memory for a path");
            break;
        }
        text[0] = '/';
        memcpy(text + 1, path + offset, end - offset);
        struct pointer token;
        pointer_begin(&token, text, end - offset + 1);
        if (!pointer_check(text, end - offset + 1, &fault))
            status = base_fail(EVH_SYNTAX, NO_OFFSET, "db: \"%.200s\" is no path", path);
        if (!status) status = pointer_step(&token);
        if (!status) {
            evh_value first = value_none();
            if (is_first && db->first)
                first = db->first(db->first_context, token.token, token.token_size);
            if (evh_json_is(first)) {
                resolve.at = first;
            } else {
                status = resolve_step(&resolve, token.token, token.token_size);
            }
        }
        is_first = false;
        pointer_end(&token);
        os->memory_free(text);
        if (status && stop) *stop = (evh_db_stop){offset, end - offset, resolve.at};
    }
    if (!status) {
        const evh_value found = resolve_follow(db, resolve.at);
        if (evh_json_is(found)) return found;
        if (stop) *stop = (evh_db_stop){offset, size - offset, resolve.at};
    }
    if (makes) resolve_unmake(&resolve, observed);
    return value_none();
}

evh_value evh_db_rvalue(evh_db *db, evh_value from, const char *path, evh_db_stop *stop)
{
    return resolve_path(db, from, path, false, stop);
}

evh_value evh_db_lvalue(evh_db *db, evh_value from, const char *path, evh_db_stop *stop)
{
    return resolve_path(db, from, path, true, stop);
}
