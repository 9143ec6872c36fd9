/* db_model_test.c -- a database beside a tree of plain nodes, over commits, rollbacks and kills.
 *
 * Strategy: random operations by path on a database in a file, and on a tree that is simple enough
 * to trust: linked members and items, copied as a whole at every commit. Operations also fail: what
 * the tree says cannot be done must be refused. In between it is committed, rolled back, opened
 * again, and a child that goes on is killed at random; operations are numbers, so that the parent
 * can follow. Invariants: the database is the tree, member for member in its order; its counts are
 * those of the tree; evh_json_check() finds nothing.
 *
 * 40,000 operations; OPERATIONS=n for more.
 */
#include "test.h"

#include <everheap.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NODES_MAX = 3000, PATH_MAX_BYTES = 2048, PER_COMMIT = 40 };

/* ---- the tree ---- */

struct node {
    evh_json_type type;
    bool boolean;
    int64_t integer;
    double real;
    char text[48];
    char key[8]; /* in its object */
    struct node *first, *next;
};

static size_t node_count; /* of all trees */

static struct node *node_new(evh_json_type type)
{
    struct node *const node = calloc(1, sizeof *node);
    CHECK(node != NULL);
    node->type = type;
    node_count++;
    return node;
}

static void node_clear(struct node *node)
{
    while (node->first) {
        struct node *const child = node->first;
        node->first = child->next;
        node_clear(child);
        free(child);
        node_count--;
    }
}

/* `node` becomes a copy of `source`, which is not below it; key and place stay. */
static void node_copy(struct node *node, const struct node *source)
{
    node_clear(node);
    node->type = source->type;
    node->boolean = source->boolean;
    node->integer = source->integer;
    node->real = source->real;
    memcpy(node->text, source->text, sizeof node->text);
    struct node **end = &node->first;
    for (const struct node *child = source->first; child; child = child->next) {
        *end = node_new(child->type);
        memcpy((*end)->key, child->key, sizeof child->key);
        node_copy(*end, child);
        end = &(*end)->next;
    }
}

static bool node_is_container(const struct node *node)
{
    return node->type == EVH_JSON_ARRAY || node->type == EVH_JSON_OBJECT;
}

/* Where a container's child with this token is linked, or NULL. */
static struct node **node_link(struct node *container, const char *token)
{
    if (!node_is_container(container)) return NULL;
    struct node **link = &container->first;
    if (container->type == EVH_JSON_OBJECT) {
        while (*link && strcmp((*link)->key, token) != 0) link = &(*link)->next;
    } else {
        if (strspn(token, "0123456789") != strlen(token)) return NULL;
        for (unsigned long index = strtoul(token, NULL, 10); *link && index > 0; index--)
            link = &(*link)->next;
    }
    return *link ? link : NULL;
}

/* The link of the node at a path; `root` for "". */
static struct node **tree_find(struct node **root, const char *path)
{
    struct node **link = root;
    char copy[PATH_MAX_BYTES];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *token = copy; *token && link;) {
        token++;
        char *const end = token + strcspn(token, "/");
        const bool is_last = *end == 0;
        *end = 0;
        link = node_link(*link, token);
        token = is_last ? end : end + 1;
        if (!is_last) *--token = '/';
    }
    return link;
}

/* The node at a path, made if only the last token is missing; NULL if it cannot be. */
static struct node *tree_make(struct node **root, const char *path)
{
    struct node **const found = tree_find(root, path);
    if (found) return *found;
    char parent_path[PATH_MAX_BYTES];
    snprintf(parent_path, sizeof parent_path, "%s", path);
    char *const slash = strrchr(parent_path, '/');
    *slash = 0;
    struct node **const parent = tree_find(root, parent_path);
    if (!parent) return NULL;
    if ((*parent)->type == EVH_JSON_NULL) /* becomes what the token asks for */
        (*parent)->type =
            strspn(slash + 1, "0123456789") == strlen(slash + 1) ? EVH_JSON_ARRAY : EVH_JSON_OBJECT;
    if (!node_is_container(*parent)) return NULL;
    struct node **end = &(*parent)->first;
    unsigned long count = 0;
    for (; *end; end = &(*end)->next) count++;
    if ((*parent)->type == EVH_JSON_ARRAY &&
        (strspn(slash + 1, "0123456789") != strlen(slash + 1) ||
         strtoul(slash + 1, NULL, 10) != count))
        return NULL;
    *end = node_new(EVH_JSON_NULL);
    if ((*parent)->type == EVH_JSON_OBJECT)
        snprintf((*end)->key, sizeof(*end)->key, "%s", slash + 1);
    return *end;
}

static void tree_unlink(struct node **link)
{
    struct node *const node = *link;
    *link = node->next;
    node_clear(node);
    free(node);
    node_count--;
}

/* ---- operations ---- */

/* A path that mostly exists; its last token may be a new one. */
static void choose_path(const struct node *root, uint64_t *random, char *path)
{
    size_t size = 0;
    const struct node *node = root;
    path[0] = 0;
    for (int depth = 0; depth < 6; depth++) {
        const uint64_t r = test_random(random);
        if (depth && r % 6 == 0) return;
        size_t count = 0;
        for (const struct node *child = node->first; child; child = child->next) count++;
        if (!node_is_container(node) || count == 0 || r % 8 == 1) { /* one that is not there */
            const size_t number = node->type == EVH_JSON_ARRAY ? count : (r >> 8) % 30;
            snprintf(path + size, PATH_MAX_BYTES - size,
                     node->type == EVH_JSON_ARRAY && r >> 20 & 7 ? "/%zu" : "/k%zu", number);
            return;
        }
        size_t at = (r >> 8) % count;
        size_t position = 0;
        for (node = node->first; position < at; position++) node = node->next;
        size +=
            (size_t)(node->key[0] ? snprintf(path + size, PATH_MAX_BYTES - size, "/%s", node->key)
                                  : snprintf(path + size, PATH_MAX_BYTES - size, "/%zu", at));
    }
}

struct both {
    evh_db *db; /* NULL: the tree alone */
    struct node **root;
};

/* The tree says whether it can be done; so must the database. */
static void agree(const struct both *both, bool can, evh_status status, const char *what,
                  const char *path)
{
    if (!both->db || can == (status == EVH_OK)) return;
    test_fail(__FILE__, __LINE__, "%s %s: %s, which the tree says it %s: %s", what, path,
              evh_status_name(status), can ? "can" : "cannot", evh_last_error()->message);
    test_stop();
}

static void put_scalar(const struct both *both, const char *path, uint64_t r)
{
    struct node *const node = tree_make(both->root, path);
    evh_db *const db = both->db;
    evh_status status = EVH_OK;
    const int64_t number = (int64_t)(r >> 32) - (1ll << 31);
    char text[40];
    memset(text, 'a' + (int)(r >> 8) % 26, sizeof text);
    text[(r >> 16) % sizeof text] = 0;
    static const evh_json_type types[] = {EVH_JSON_NULL,  EVH_JSON_BOOLEAN, EVH_JSON_INTEGER,
                                          EVH_JSON_REAL,  EVH_JSON_STRING,  EVH_JSON_ARRAY,
                                          EVH_JSON_OBJECT};
    const evh_json_type type = types[r % 7];
    if (node) {
        node_clear(node);
        node->type = type;
        node->boolean = r >> 8 & 1;
        node->integer = number;
        node->real = (double)number / 8;
        snprintf(node->text, sizeof node->text, "%s", text);
    }
    if (!db) return;
    switch (type) {
    case EVH_JSON_NULL: status = evh_db_put_null(db, path); break;
    case EVH_JSON_BOOLEAN: status = evh_db_put_boolean(db, path, r >> 8 & 1); break;
    case EVH_JSON_INTEGER: status = evh_db_put_integer(db, path, number); break;
    case EVH_JSON_REAL: status = evh_db_put_real(db, path, (double)number / 8); break;
    case EVH_JSON_STRING: status = evh_db_put_text(db, path, text, strlen(text)); break;
    case EVH_JSON_ARRAY: status = evh_db_put_array(db, path); break;
    default: status = evh_db_put_object(db, path); break;
    }
    agree(both, node != NULL, status, "put", path);
}

static void put_text_of_json(const struct both *both, const char *path, uint64_t r)
{
    char text[100];
    const int a = (int)(r >> 8 & 63);
    snprintf(text, sizeof text, "[%d,{\"k%d\":\"x%d\",\"k%d\":null},[]]", a, a % 5, a, 5 + a % 7);
    struct node *const node = tree_make(both->root, path);
    if (node) {
        node_clear(node);
        node->type = EVH_JSON_ARRAY;
        struct node *const first = node->first = node_new(EVH_JSON_INTEGER);
        first->integer = a;
        struct node *const object = first->next = node_new(EVH_JSON_OBJECT);
        object->next = node_new(EVH_JSON_ARRAY);
        struct node *const member = object->first = node_new(EVH_JSON_STRING);
        snprintf(member->key, sizeof member->key, "k%d", a % 5);
        snprintf(member->text, sizeof member->text, "x%d", a);
        member->next = node_new(EVH_JSON_NULL);
        snprintf(member->next->key, sizeof member->key, "k%d", 5 + a % 7);
    }
    if (both->db)
        agree(both, node != NULL, evh_db_put_json(both->db, path, text, strlen(text)), "put", path);
}

static void erase(const struct both *both, const char *path)
{
    struct node **const link = tree_find(both->root, path);
    if (link && path[0]) tree_unlink(link);
    if (both->db && path[0]) agree(both, link != NULL, evh_db_erase(both->db, path), "erase", path);
}

static void insert(const struct both *both, const char *path, uint64_t r)
{
    struct node **link = tree_find(both->root, path);
    const bool can = link && (*link)->type == EVH_JSON_ARRAY;
    size_t at = 0;
    if (can) {
        for (struct node *child = (*link)->first; child; child = child->next) at++;
        at = (r >> 8) % (at + 1);
        link = &(*link)->first;
        for (size_t i = 0; i < at; i++) link = &(*link)->next;
        struct node *const item = node_new(EVH_JSON_NULL);
        item->next = *link;
        *link = item;
    }
    char whole[PATH_MAX_BYTES + 24];
    snprintf(whole, sizeof whole, "%s/%zu", path, at);
    evh_value item;
    const bool is_array = link && both->db && can;
    if (is_array) agree(both, true, evh_db_insert(both->db, whole, &item), "insert", whole);
}

static void push(const struct both *both, const char *path)
{
    struct node **const link = tree_find(both->root, path);
    const bool can = link && (*link)->type == EVH_JSON_ARRAY;
    if (!link || (*link)->type == EVH_JSON_NULL) return; /* makes one: put does that too */
    if (can) {
        struct node **end = &(*link)->first;
        while (*end) end = &(*end)->next;
        *end = node_new(EVH_JSON_NULL);
    }
    evh_value item;
    if (both->db) agree(both, can, evh_db_push(both->db, path, &item), "push", path);
}

static void increment(const struct both *both, const char *path, uint64_t r)
{
    struct node **const link = tree_find(both->root, path);
    if (!link || (*link)->type == EVH_JSON_REAL || (*link)->type == EVH_JSON_NULL) return;
    const bool can = (*link)->type == EVH_JSON_INTEGER;
    if (can) (*link)->integer += (int64_t)(r & 0xffff);
    if (both->db)
        agree(both, can, evh_db_increment(both->db, path, (int64_t)(r & 0xffff)), "increment",
              path);
}

static void append(const struct both *both, const char *path)
{
    struct node **const link = tree_find(both->root, path);
    if (!link || (*link)->type == EVH_JSON_NULL) return;
    const bool can = (*link)->type == EVH_JSON_STRING;
    const size_t size = strlen((*link)->text);
    if (can && size + 2 >= sizeof(*link)->text) return;
    if (can) memcpy((*link)->text + size, "+-", 3);
    if (both->db) agree(both, can, evh_db_append(both->db, path, "+-", 2), "append", path);
}

static void rename_member(const struct both *both, const char *path, uint64_t r)
{
    struct node **const link = tree_find(both->root, path);
    char key[8];
    snprintf(key, sizeof key, "k%u", (unsigned)(r >> 8) % 30);
    bool can = link && path[0] && (*link)->key[0];
    if (can && strcmp((*link)->key, key) != 0) {
        char parent[PATH_MAX_BYTES];
        snprintf(parent, sizeof parent, "%s", path);
        *strrchr(parent, '/') = 0;
        can = node_link(*tree_find(both->root, parent), key) == NULL;
        if (can) memcpy((*link)->key, key, sizeof key);
    }
    if (both->db && path[0]) agree(both, can, evh_db_rename(both->db, path, key), "rename", path);
}

static bool is_below(const char *path, const char *top)
{
    const size_t size = strlen(top);
    return strncmp(path, top, size) == 0 && (path[size] == 0 || path[size] == '/');
}

/* Neither below the other, both members: what that means needs no explanation. */
static void move_or_copy(const struct both *both, const char *from, const char *to, bool moves)
{
    if (is_below(from, to) || is_below(to, from)) return;
    struct node **const source = tree_find(both->root, from);
    struct node *const target = source ? tree_make(both->root, to) : NULL;
    const bool can = target != NULL;
    if (can) {
        node_copy(target, *tree_find(both->root, from));
        if (moves) tree_unlink(tree_find(both->root, from));
    }
    if (!both->db) return;
    const evh_status status =
        moves ? evh_db_move(both->db, from, to) : evh_db_copy(both->db, from, to);
    agree(both, can, status, moves ? "move" : "copy", to);
}

/* A patch whose last operation fails, or does not. */
static void patch(const struct both *both, const char *path, uint64_t r)
{
    const bool fails = r >> 8 & 1;
    char text[2 * PATH_MAX_BYTES + 200];
    snprintf(text, sizeof text,
             "[{\"op\":\"add\",\"path\":\"/patched\",\"value\":[%u]},"
             "{\"op\":\"%s\",\"path\":\"%s\"},"
             "{\"op\":\"add\",\"path\":\"/patched/0\",\"value\":true}]",
             (unsigned)(r >> 40), fails ? "test\",\"value\":\"never" : "remove", path);
    struct node **const link = tree_find(both->root, path);
    const bool can = link && path[0] && !fails && (*both->root)->type == EVH_JSON_OBJECT &&
                     !is_below(path, "/patched");
    if (is_below(path, "/patched") || !path[0]) return;
    if (can) {
        tree_unlink(link);
        struct node *const made = tree_make(both->root, "/patched");
        node_clear(made);
        made->type = EVH_JSON_ARRAY;
        made->first = node_new(EVH_JSON_BOOLEAN);
        made->first->boolean = true;
        made->first->next = node_new(EVH_JSON_INTEGER);
        made->first->next->integer = (int64_t)(r >> 40 & 0xffffffff);
    }
    if (!both->db) return;
    evh_json *const json = evh_db_json(both->db);
    const evh_status status = evh_json_patch_text(json, evh_json_root(json), text, strlen(text));
    agree(both, can, status, "patch", path);
}

static void operate(evh_db *db, struct node **root, size_t others, uint64_t random)
{
    const struct both both = {db, root};
    char path[PATH_MAX_BYTES];
    char other[PATH_MAX_BYTES];
    choose_path(*root, &random, path);
    choose_path(*root, &random, other);
    uint64_t r = test_random(&random);
    uint64_t kind = test_random(&random) % 16;
    /* What has much below it mostly stays, or there would never be much. */
    struct node **const at = tree_find(root, path);
    struct node **const to = tree_find(root, other);
    const bool is_full = node_count - others > NODES_MAX;
    if (!is_full && r >> 24 & 31 && ((at && (*at)->first) || (to && (*to)->first))) {
        static const uint64_t harmless[] = {5, 6, 9, 11};
        kind = harmless[r >> 30 & 3];
        if (kind == 11 && to && (*to)->first) kind = 6;
    }
    if (is_full) kind = 15;
    if ((*root)->type != EVH_JSON_OBJECT && (*root)->type != EVH_JSON_ARRAY) kind = 0;
    if (kind == 0 && r % 7 < 5 && path[0] == 0) r += 5 - r % 7; /* the outermost: a container */
    switch (kind) {
    case 3:
    case 4: put_text_of_json(&both, path, r); break;
    case 5: insert(&both, path, r); break;
    case 6: push(&both, path); break;
    case 7: increment(&both, path, r); break;
    case 8: append(&both, path); break;
    case 9: rename_member(&both, path, r); break;
    case 10: move_or_copy(&both, path, other, true); break;
    case 11: move_or_copy(&both, path, other, false); break;
    case 12: patch(&both, path, r); break;
    case 13:
    case 15: erase(&both, path); break;
    default: put_scalar(&both, path, r); break;
    }
}

/* ---- comparing ---- */

struct tally {
    uint64_t counts[16];
};

static void compare(evh_json *json, evh_value value, const struct node *node, struct tally *tally)
{
    const evh_json_type type = evh_json_type_of(json, value);
    tally->counts[node->type]++;
    if (type != node->type)
        test_fail(__FILE__, __LINE__, "%s where the tree has %s", evh_json_type_name(type),
                  evh_json_type_name(node->type));
    CHECK(type == node->type);
    size_t size = 0;
    switch (type) {
    case EVH_JSON_BOOLEAN: CHECK(evh_json_boolean(json, value, NULL) == node->boolean); break;
    case EVH_JSON_INTEGER: CHECK(evh_json_integer(json, value, NULL) == node->integer); break;
    case EVH_JSON_REAL: CHECK(evh_json_real(json, value, NULL) == node->real); break;
    case EVH_JSON_STRING: {
        const char *const text = evh_json_text(json, value, &size);
        CHECK(size == strlen(node->text) && memcmp(text, node->text, size) == 0);
        break;
    }
    default: break;
    }
    if (!node_is_container(node)) return;
    evh_cursor cursor = evh_cursor_begin((evh_node){json, value});
    const struct node *child = node->first;
    for (; evh_cursor_next(&cursor); child = child->next) {
        CHECK(child != NULL);
        if (type == EVH_JSON_OBJECT) CHECK(strcmp(cursor.key, child->key) == 0);
        compare(json, cursor.value, child, tally);
    }
    CHECK(child == NULL);
}

static void verify(evh_db *db, const struct node *root)
{
    static const struct {
        const char *path;
        evh_json_type type;
    } metrics[] = {{"/$metrics/nulls", EVH_JSON_NULL},
                   {"/$metrics/strings", EVH_JSON_STRING},
                   {"/$metrics/arrays", EVH_JSON_ARRAY},
                   {"/$metrics/objects", EVH_JSON_OBJECT},
                   {"/$metrics/booleans", EVH_JSON_BOOLEAN}};
    evh_json *const json = evh_db_json(db);
    struct tally tally = {{0}};
    compare(json, evh_json_root(json), root, &tally);
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        const evh_node node = evh_db_get(db, metrics[i].path);
        CHECK_EQUAL(evh_json_unsigned(node.json, node.value, NULL), tally.counts[metrics[i].type]);
    }
    if (evh_json_check(json)) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
}

/* ---- the run ---- */

struct run {
    const char *path;
    evh_db *db;
    uint64_t *done; /* in the heap: operations that it has seen */
    uint64_t seed;  /* of the operations */
    uint64_t at;    /* operations that `tree` has seen */
    struct node *tree;
    uint64_t kept_at; /* as of the last commit */
    struct node *kept;
    size_t kept_count; /* nodes of it */
};

static uint64_t random_of(const struct run *run, uint64_t number)
{
    uint64_t state = run->seed + number * 0x9e3779b97f4a7c15u;
    return test_random(&state);
}

static void run_open(struct run *run)
{
    run->db = evh_db_open(run->path, &(evh_db_options){.guards = random_of(run, run->at) % 2});
    CHECK(run->db != NULL);
    run->done = evh_root(evh_db_heap(run->db), "done", sizeof *run->done);
    CHECK(run->done != NULL);
}

static size_t nodes_of(const struct node *node)
{
    size_t count = 1;
    for (const struct node *child = node->first; child; child = child->next)
        count += nodes_of(child);
    return count;
}

static void run_step(struct run *run, evh_db *db)
{
    operate(db, &run->tree, run->kept_count, random_of(run, run->at++));
    if (db) *run->done = run->at;
}

static void run_keep(struct run *run)
{
    node_copy(run->kept, run->tree);
    run->kept_count = nodes_of(run->kept);
    run->kept_at = run->at;
}

static void run_go_back(struct run *run)
{
    node_copy(run->tree, run->kept);
    run->at = run->kept_at;
}

static void run_commit(struct run *run)
{
    CHECK_EQUAL(evh_db_commit(run->db), EVH_OK);
    run_keep(run);
}

/* A child goes on and is killed; what it committed is followed. */
static void run_killed(struct run *run, uint64_t *random)
{
    run_commit(run);
    CHECK_EQUAL(evh_db_close(run->db), EVH_OK);
    int ends[2];
    CHECK(pipe(ends) == 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run_open(run);
        for (;;) {
            for (int i = 0; i < PER_COMMIT; i++) run_step(run, run->db);
            if (evh_db_commit(run->db) || write(ends[1], "c", 1) != 1) _exit(1);
        }
    }
    close(ends[1]);
    char byte;
    const uint64_t commits = 1 + test_random(random) % 6;
    for (uint64_t i = 0; i < commits; i++) CHECK_EQUAL(read(ends[0], &byte, 1), 1);
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    close(ends[0]);
    run_open(run);
    CHECK(*run->done >= run->at + commits * PER_COMMIT);
    while (run->at < *run->done) run_step(run, NULL);
    run_keep(run);
}

TEST(a_database_is_its_model_over_commits_rollbacks_and_kills)
{
    const char *const wanted = getenv("OPERATIONS");
    const uint64_t operations = wanted ? strtoull(wanted, NULL, 10) : test_effort(40000);
    uint64_t random = test_seed();
    struct run run = {.path = test_path("model"), .seed = test_random(&random)};
    run.tree = node_new(EVH_JSON_NULL);
    run.kept = node_new(EVH_JSON_NULL);
    run_open(&run);
    if (operations & 1) CHECK_EQUAL(evh_db_set_index(run.db, true), EVH_OK);
    run_commit(&run);
    uint64_t commits = 0, rollbacks = 0, reopenings = 0, kills = 0;
    for (uint64_t i = 0; i < operations; i++) {
        const uint64_t r = test_random(&random);
        run_step(&run, run.db);
        if (r % 200 == 0) {
            run_commit(&run);
            commits++;
        }
        if (r % 900 == 1) {
            CHECK_EQUAL(evh_db_rollback(run.db), EVH_OK);
            run_go_back(&run);
            run.seed += 7; /* else it would do the same again */
            run.done = evh_root(evh_db_heap(run.db), "done", sizeof *run.done);
            rollbacks++;
        }
        if (r % 2500 == 2) {
            CHECK_EQUAL(evh_db_close(run.db), EVH_OK);
            run_go_back(&run);
            run.seed += 7;
            run_open(&run);
            reopenings++;
        }
        if (r % 5000 == 3) {
            run_killed(&run, &random);
            kills++;
        }
        if (r % 900 == 1 || r % 2500 == 2 || r % 5000 == 3 || r % 2000 == 4)
            verify(run.db, run.tree);
    }
    verify(run.db, run.tree);
    printf("    %llu commits, %llu rollbacks, %llu reopenings, %llu kills, %zu values at the end\n",
           (unsigned long long)commits, (unsigned long long)rollbacks,
           (unsigned long long)reopenings, (unsigned long long)kills, nodes_of(run.tree));
    CHECK_EQUAL(evh_db_close(run.db), EVH_OK);
    node_clear(run.tree);
    node_clear(run.kept);
    free(run.tree);
    free(run.kept);
}
