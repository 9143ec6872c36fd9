/* change.c -- changing a database by path: each call changes all that it says, or nothing. */
#include "db/db.h"
#include "os/os.h"

/* A path that is about to change. */
struct change {
    struct evh_json *json;
    struct db_route route;
    struct path_made made;
    evh_value value; /* at it, made with what was missing */
};

/* End a change: take back what was made for one that failed. */
static evh_status change_end(struct change *change, evh_status status)
{
    assert(change != NULL);
    if (change->route.memory) assert(change->json != NULL);
    if (status && change->json) path_unmake(change->json, &change->made);
    db_route_end(&change->route);
    return status;
}

/* Begin a change at a path of the document. One that cannot begin is ended. */
static evh_status change_route(struct evh_db *db, const char *path, struct change *change)
{
    assert(change != NULL);
    *change = (struct change){.json = db ? db->json : NULL};
    if (!db) return base_fail(EVH_INVALID, NO_OFFSET, "db: no database");
    evh_status status = json_writable(db->json);
    if (!status) status = db_route(path, &change->route);
    if (!status && change->route.realm != DB_DOCUMENT)
        status = base_fail(EVH_READ_ONLY, NO_OFFSET, "db: %.200s cannot be changed", path);
    return status ? change_end(change, status) : EVH_OK;
}

/* The same, making the value. */
static evh_status change_begin(struct evh_db *db, const char *path, struct change *change)
{
    assert(change != NULL);
    const evh_status status = change_route(db, path, change);
    if (status) return status;
    change->value = path_make(db->json, evh_json_root(db->json), change->route.text,
                              change->route.size, &change->made);
    return evh_json_is(change->value) ? EVH_OK : change_end(change, evh_last_error()->status);
}

/* The same of a value that has to be there: not followed at its end. */
static evh_status change_find(struct evh_db *db, const char *path, struct change *change)
{
    assert(change != NULL);
    const evh_status status = change_route(db, path, change);
    if (status) return status;
    change->value =
        evh_json_find(db->json, evh_json_root(db->json), change->route.text, change->route.size);
    return evh_json_is(change->value) ? EVH_OK : change_end(change, evh_last_error()->status);
}

/* ---- put ---- */

evh_status evh_db_put_null(evh_db *db, const char *path)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status : change_end(&change, evh_json_set_null(change.json, change.value));
}

evh_status evh_db_put_boolean(evh_db *db, const char *path, bool boolean)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status
                  : change_end(&change, evh_json_set_boolean(change.json, change.value, boolean));
}

evh_status evh_db_put_integer(evh_db *db, const char *path, int64_t integer)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status
                  : change_end(&change, evh_json_set_integer(change.json, change.value, integer));
}

evh_status evh_db_put_unsigned(evh_db *db, const char *path, uint64_t natural)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status
                  : change_end(&change, evh_json_set_unsigned(change.json, change.value, natural));
}

evh_status evh_db_put_real(evh_db *db, const char *path, double real)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status
                  : change_end(&change, evh_json_set_real(change.json, change.value, real));
}

evh_status evh_db_put_text(evh_db *db, const char *path, const char *text, size_t size)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status
                  : change_end(&change, evh_json_set_text(change.json, change.value, text, size));
}

evh_status evh_db_put_bytes(evh_db *db, const char *path, const void *bytes, size_t size)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status
                  : change_end(&change, evh_json_set_bytes(change.json, change.value, bytes, size));
}

evh_status evh_db_put_ref(evh_db *db, const char *path, const char *pointer)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status
                  : change_end(&change, evh_json_set_ref(change.json, change.value, pointer,
                                                         pointer ? strlen(pointer) : 0));
}

evh_status evh_db_put_array(evh_db *db, const char *path)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status : change_end(&change, evh_json_set_array(change.json, change.value));
}

evh_status evh_db_put_object(evh_db *db, const char *path)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status : change_end(&change, evh_json_set_object(change.json, change.value));
}

evh_status evh_db_put_json(evh_db *db, const char *path, const char *text, size_t size)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status
                  : change_end(&change,
                               evh_json_parse(change.json, change.value, text, size, NULL, NULL));
}

evh_status evh_db_put_value(evh_db *db, const char *path, evh_value value)
{
    struct change change;
    const evh_status status = change_begin(db, path, &change);
    return status ? status : change_end(&change, evh_json_copy(change.json, change.value, value));
}

/* ---- containers ---- */

evh_value evh_db_make(evh_db *db, const char *path)
{
    struct change change;
    if (change_begin(db, path, &change)) return value_none();
    (void)change_end(&change, EVH_OK);
    return change.value;
}

evh_status evh_db_erase(evh_db *db, const char *path)
{
    struct change change;
    const evh_status status = change_find(db, path, &change);
    return status ? status : change_end(&change, evh_json_erase(change.json, change.value));
}

evh_status evh_db_push(evh_db *db, const char *path, evh_value *item)
{
    struct change change;
    evh_status status = change_begin(db, path, &change);
    if (status) return status;
    evh_value array = evh_json_follow(change.json, change.value);
    if (!evh_json_is(array)) status = evh_last_error()->status;
    if (!status && evh_json_type_of(change.json, array) == EVH_JSON_NULL) {
        if (!evh_json_is(change.made.first)) {
            change.made.first = array;
            change.made.was_null = true;
        }
        status = evh_json_set_array(change.json, array);
        array = evh_json_follow(change.json, change.value); /* its name is that of an array now */
    }
    if (!status) status = evh_json_append(change.json, array, item);
    return change_end(&change, status);
}

/* The value that would hold what a path names, and the last token, which is not unescaped. */
static evh_value change_holder(const struct change *change, const char **token, size_t *size)
{
    assert(token != NULL);
    assert(size != NULL);
    assert(change->route.realm == DB_DOCUMENT);
    const struct db_route *route = &change->route;
    size_t end = route->size;
    while (end > 0 && route->text[end - 1] != '/') end--;
    *token = route->text + end;
    *size = route->size - end;
    if (end == 0) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "db: the path of an item is needed");
        return value_none();
    }
    const evh_value holder =
        evh_json_find(change->json, evh_json_root(change->json), route->text, end - 1);
    return evh_json_is(holder) ? evh_json_follow(change->json, holder) : holder;
}

evh_status evh_db_insert(evh_db *db, const char *path, evh_value *item)
{
    struct change change;
    evh_status status = change_route(db, path, &change);
    if (status) return status;
    const char *token = NULL;
    size_t size = 0;
    uint64_t index = 0;
    const evh_value array = change_holder(&change, &token, &size);
    if (!evh_json_is(array)) return change_end(&change, evh_last_error()->status);
    if (size == 1 && token[0] == '-') {
        status = evh_json_append(change.json, array, item);
    } else if (pointer_index(token, size, &index)) {
        status = evh_json_insert(change.json, array, index, item);
    } else {
        status = base_fail(EVH_INVALID, NO_OFFSET, "db: %.200s names no item", path);
    }
    return change_end(&change, status);
}

evh_status evh_db_rename(evh_db *db, const char *path, const char *key)
{
    struct change change;
    if (!key) return base_fail(EVH_INVALID, NO_OFFSET, "db: no key");
    const evh_status status = change_find(db, path, &change);
    if (status) return status;
    return change_end(&change, evh_json_rename(change.json, change.value, key, strlen(key)));
}

/* Whether `value` is `above`, or below it. */
static bool change_is_inside(struct evh_json *json, evh_value value, evh_value above)
{
    assert(evh_json_is(value));
    assert(evh_json_is(above));
    const uint32_t limit = json->root->containers.fresh;
    for (uint32_t level = 0; evh_json_is(value) && level <= limit; level++) {
        if (memcmp(&value, &above, sizeof value) == 0) return true;
        value = evh_json_parent(json, value);
    }
    return false;
}

evh_status evh_db_move(evh_db *db, const char *from, const char *to)
{
    struct change source;
    evh_status status = change_find(db, from, &source);
    if (status) return status;
    struct change target;
    status = change_begin(db, to, &target);
    if (!status && change_is_inside(target.json, source.value, target.value)) {
        /* What is moved would be freed with what it replaces, or is there already. */
        if (memcmp(&source.value, &target.value, sizeof source.value) != 0)
            status = base_fail(EVH_INVALID, NO_OFFSET, "db: %.200s contains what is moved", to);
    } else if (!status) {
        struct json_place place;
        status = value_place(source.json, source.value, &place);
        if (!status) status = evh_json_move(source.json, target.value, source.value);
        if (!status && place.number != source.json->root->document)
            status = evh_json_erase(
                source.json, value_of(source.json, place.number, place.position, place.slot));
    }
    status = change_end(&target, status);
    (void)change_end(&source, EVH_OK);
    return status;
}

evh_status evh_db_copy(evh_db *db, const char *from, const char *to)
{
    struct change source;
    evh_status status = change_find(db, from, &source);
    if (status) return status;
    struct change target;
    status = change_begin(db, to, &target);
    if (!status)
        status = change_end(&target, evh_json_copy(target.json, target.value, source.value));
    (void)change_end(&source, EVH_OK);
    return status;
}

/* ---- numbers and strings ---- */

/* The sum of an integer, as its slot holds it, and `by`. */
static evh_status change_add(struct evh_json *json, evh_value value, int64_t by)
{
    assert(evh_json_type_of(json, value) != EVH_JSON_REAL);
    const bool is_unsigned = evh_json_type_of(json, value) == EVH_JSON_UNSIGNED;
    __int128 sum = is_unsigned ? (__int128)evh_json_unsigned(json, value, NULL)
                               : (__int128)evh_json_integer(json, value, NULL);
    sum += by;
    if (sum < INT64_MIN || sum > UINT64_MAX)
        return base_fail(EVH_LIMIT, NO_OFFSET, "db: a sum that no integer holds");
    return sum < 0 ? evh_json_set_integer(json, value, (int64_t)sum)
                   : evh_json_set_unsigned(json, value, (uint64_t)sum);
}

static evh_status change_add_real(struct evh_json *json, evh_value value, double by)
{
    assert(json != NULL);
    const double sum = evh_json_real(json, value, NULL) + by;
    const evh_status status = evh_json_set_real(json, value, sum);
    if (status != EVH_INVALID) return status;
    return base_fail(EVH_LIMIT, NO_OFFSET, "db: a sum that is not finite");
}

/* The value at a path, followed, which is made 0 if nothing is there. */
static evh_status change_number(struct evh_db *db, const char *path, struct change *change)
{
    assert(change != NULL);
    evh_status status = change_begin(db, path, change);
    if (status) return status;
    change->value = evh_json_follow(change->json, change->value);
    if (!evh_json_is(change->value)) return evh_last_error()->status;
    const evh_json_type type = evh_json_type_of(change->json, change->value);
    if (type == EVH_JSON_NULL && evh_json_is(change->made.first))
        return evh_json_set_integer(change->json, change->value, 0);
    if (type == EVH_JSON_INTEGER || type == EVH_JSON_UNSIGNED || type == EVH_JSON_REAL)
        return EVH_OK;
    return base_fail(EVH_INVALID, NO_OFFSET, "db: %.200s is no number that can be added to", path);
}

evh_status evh_db_increment(evh_db *db, const char *path, int64_t by)
{
    struct change change;
    evh_status status = change_number(db, path, &change);
    if (!status)
        status = evh_json_type_of(change.json, change.value) == EVH_JSON_REAL
                     ? change_add_real(change.json, change.value, (double)by)
                     : change_add(change.json, change.value, by);
    return change_end(&change, status);
}

evh_status evh_db_increment_real(evh_db *db, const char *path, double by)
{
    struct change change;
    evh_status status = change_number(db, path, &change);
    if (!status) status = change_add_real(change.json, change.value, by);
    return change_end(&change, status);
}

evh_status evh_db_append(evh_db *db, const char *path, const char *text, size_t size)
{
    struct change change;
    evh_status status = change_begin(db, path, &change);
    if (status) return status;
    change.value = evh_json_follow(change.json, change.value);
    if (!evh_json_is(change.value)) status = evh_last_error()->status;
    const bool is_new = !status && evh_json_is(change.made.first);
    if (is_new && evh_json_type_of(change.json, change.value) == EVH_JSON_NULL)
        status = evh_json_set_text(change.json, change.value, "", 0);
    if (!status) status = evh_json_append_text(change.json, change.value, text, size);
    return change_end(&change, status);
}
