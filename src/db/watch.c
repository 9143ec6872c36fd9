/* watch.c -- who wants to know what changed, and what they are told after a commit.
 *
 * The document tells of each change before it is made (json_observe()). Its path is written down
 * there and then if a watch matches it: later the container may be gone. A change that is taken
 * back sets the observer's count back; what lies behind it is overwritten.
 */
#include "db/db.h"
#include "os/os.h"

enum { WATCH_PATHS_MAX = 65536 }; /* of one commit; more cost memory for nobody's use */

/* Whether a change at `path` concerns a watch: it is at, below or above what is watched. */
static bool watch_matches(const struct db_watch *watch, const char *path, size_t size)
{
    assert(watch->path != NULL);
    assert(path != NULL);
    const size_t common = size < watch->size ? size : watch->size;
    if (memcmp(path, watch->path, common) != 0) return false;
    if (size == watch->size) return true;
    return size > watch->size ? path[watch->size] == '/' : watch->path[size] == '/';
}

/* Write a path down; it is taken. */
static void watch_note(struct db_watches *watches, char *path)
{
    assert(path != NULL);
    assert(watches->observer.count <= watches->paths_kept);
    assert(watches->paths_kept <= watches->paths_capacity);
    const size_t count = watches->observer.count;
    const bool is_again = count > 0 && strcmp(watches->paths[count - 1], path) == 0;
    if (!is_again && count == watches->paths_capacity && count < WATCH_PATHS_MAX) {
        const size_t capacity = count ? 2 * count : 64;
        char **grown = os->memory_resize(watches->paths, capacity * sizeof *grown);
        if (grown) {
            watches->paths = grown;
            watches->paths_capacity = capacity;
        }
    }
    if (is_again || count == watches->paths_capacity) {
        if (!is_again) watches->overflows = true;
        os->memory_free(path);
        return;
    }
    if (count < watches->paths_kept) {
        os->memory_free(watches->paths[count]);
    } else {
        watches->paths_kept = count + 1;
    }
    watches->paths[count] = path;
    watches->observer.count = count + 1;
}

static void watch_change(struct json_observer *observer, struct evh_json *json, uint32_t number,
                         uint32_t position)
{
    assert(observer != NULL);
    assert(number != 0);
    struct evh_db *db = (void *)((char *)observer - offsetof(struct evh_db, watches.observer));
    assert(db->json == json);
    if (db->watches.count == 0 || !container_is_inside(json, number, json->root->document)) return;
    const struct json_container *container = container_peek(json, number);
    const struct json_slot *slot = NULL;
    if (position != JSON_ALL) slot = container_slot(json, container, position);
    size_t size = 0;
    char *path = db_path_text(
        db, slot ? value_of(json, number, position, slot) : value_of_container(number, container),
        &size);
    if (!path) {
        db->watches.overflows = true;
        return;
    }
    for (size_t i = 0; i < db->watches.count; i++) {
        if (!watch_matches(db->watches.list + i, path, size)) continue;
        watch_note(&db->watches, path);
        return;
    }
    os->memory_free(path);
}

/* ---- watching ---- */

evh_status evh_db_watch(evh_db *db, const char *path, evh_db_changed *changed, void *context,
                        uint64_t *watch)
{
    if (!db || !path || !changed || (path[0] && path[0] != '/'))
        return base_fail(EVH_INVALID, NO_OFFSET, "db: a path and a function are needed to watch");
    struct db_watches *watches = &db->watches;
    if (watches->count == watches->capacity) {
        void *grown = json_grow(watches->list, &watches->capacity, sizeof *watches->list);
        if (!grown) return EVH_NO_MEMORY;
        watches->list = grown;
    }
    size_t size = strlen(path);
    char *copy = os->memory_allocate(size + 1);
    if (!copy) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "db: no memory for a watch");
    memcpy(copy, path, size);
    watches->list[watches->count++] =
        (struct db_watch){++watches->numbers, copy, size, changed, context};
    watches->observer.change = watch_change;
    db->json->observer = &watches->observer;
    if (watch) *watch = watches->numbers;
    return EVH_OK;
}

evh_status evh_db_unwatch(evh_db *db, uint64_t watch)
{
    if (!db) return base_fail(EVH_INVALID, NO_OFFSET, "db: no database");
    struct db_watches *watches = &db->watches;
    for (size_t i = 0; i < watches->count; i++) {
        if (watches->list[i].number != watch) continue;
        os->memory_free(watches->list[i].path);
        watches->count--;
        memmove(watches->list + i, watches->list + i + 1,
                (watches->count - i) * sizeof *watches->list);
        if (watches->count == 0) {
            db->json->observer = NULL;
            db_watches_forget(watches);
        }
        return EVH_OK;
    }
    return base_fail(EVH_NOT_FOUND, NO_OFFSET, "db: no watch %llu", (unsigned long long)watch);
}

/* ---- telling ---- */

static void watch_free_paths(char **paths, size_t count)
{
    assert(paths != NULL || count == 0);
    for (size_t i = 0; i < count; i++) os->memory_free(paths[i]);
    os->memory_free(paths);
}

static int watch_compare(const void *first, const void *second)
{
    assert(first != NULL);
    assert(second != NULL);
    return strcmp(*(char *const *)first, *(char *const *)second);
}

void db_watches_tell(struct evh_db *db)
{
    assert(db->watches.observer.count <= db->watches.paths_kept);
    struct db_watches *watches = &db->watches;
    char **paths = watches->paths; /* a callback may change the database: those come next time */
    const size_t count = watches->observer.count;
    const size_t kept = watches->paths_kept;
    const bool overflows = watches->overflows;
    watches->paths = NULL;
    watches->observer.count = 0;
    watches->paths_kept = 0;
    watches->paths_capacity = 0;
    watches->overflows = false;
    if (count > 1) qsort(paths, count, sizeof *paths, watch_compare);
    for (size_t i = 0; i < watches->count; i++) {
        const struct db_watch watch = watches->list[i];
        for (size_t k = 0; k < count && !overflows; k++)
            if ((k == 0 || strcmp(paths[k], paths[k - 1]) != 0) &&
                watch_matches(&watch, paths[k], strlen(paths[k])))
                watch.changed(paths[k], watch.context);
        if (overflows) watch.changed(watch.path, watch.context);
    }
    watch_free_paths(paths, kept);
}

void db_watches_forget(struct db_watches *watches)
{
    assert(watches->observer.count <= watches->paths_kept);
    watch_free_paths(watches->paths, watches->paths_kept);
    watches->paths = NULL;
    watches->observer.count = 0;
    watches->paths_kept = 0;
    watches->paths_capacity = 0;
    watches->overflows = false;
}

void db_watches_end(struct evh_db *db)
{
    assert(db->json != NULL);
    db->json->observer = NULL;
    db_watches_forget(&db->watches);
    for (size_t i = 0; i < db->watches.count; i++) os->memory_free(db->watches.list[i].path);
    os->memory_free(db->watches.list);
}
