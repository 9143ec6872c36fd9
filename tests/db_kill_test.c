/* db_kill_test.c -- a database after kills, power cuts and rollbacks is that of a commit.
 *
 * Strategy: random operations, some of which fail, some commits. The same operations from the same
 * seed are carried out in memory. Invariants: no acknowledged commit is lost; the document, its
 * metrics and its references are those of one commit; the document is sound.
 */
#include "support/os_sim.h"
#include "support/documents.h"
#include "test.h"

#include <everheap.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Many at once: an array or an object grows through its representations, or shrinks. */
static void change_many(evh_db *db, uint64_t *state)
{
    char path[64];
    evh_value item;
    const uint64_t kind = test_random(state) % 4;
    for (uint64_t i = 0; i < 400; i++) {
        const unsigned number = (unsigned)(test_random(state) % 1500);
        snprintf(path, sizeof path, kind % 2 ? "/map/k%u" : "/list/%u", number);
        if (kind >= 2) {
            (void)evh_db_erase(db, path);
        } else if (kind == 1) {
            check_ok(evh_db_put_integer(db, path, (int64_t)i));
        } else if (evh_db_push(db, "/list", &item) == EVH_OK) {
            check_ok(evh_json_set_integer(evh_db_json(db), item, (int64_t)i));
        }
    }
}

/* Operation number `n`: some of them fail, always the same ones. */
static void change(evh_db *db, uint64_t seed, uint64_t n)
{
    uint64_t state = seed + n * 1000003;
    const uint64_t random = test_random(&state);
    const unsigned small = (unsigned)(random >> 32) % 40;
    char path[64];
    char text[6000];
    if (n == 1) check_ok(evh_db_put_json(db, "", "{\"list\":[],\"map\":{}}", 20));
    memset(text, 'a' + (int)(small % 26), sizeof text);
    snprintf(path, sizeof path, "/tree/n%u/m%u", small % 7, small);
    switch (random % 13) {
    case 0: change_many(db, &state); break;
    case 1: check_ok(evh_db_put_text(db, path, text, (random >> 20) % sizeof text)); break;
    case 2: /* a subtree that is referenced comes and goes */
        check_ok(evh_db_put_json(db, path, "{\"x\":[1,{\"y\":2}]}", 17));
        snprintf(path, sizeof path, "/refs/%u", small % 10);
        snprintf(text, sizeof text, "/tree/n%u/m%u/x/1", small % 7, small);
        (void)evh_db_put_ref(db, path, text);
        check_ok(evh_json_resolve(evh_db_json(db), NULL));
        break;
    case 3: (void)evh_db_erase(db, path); break;
    case 4:
        snprintf(path, sizeof path, "/tree/n%u", small % 7);
        (void)evh_db_erase(db, path);
        break;
    case 5: check_ok(evh_db_increment(db, "/count", (int64_t)small)); break;
    case 6: check_ok(evh_db_append(db, "/text", text, small)); break;
    case 7:
        snprintf(text, sizeof text,
                 "[{\"op\":\"add\",\"path\":\"/list/0\",\"value\":{\"p\":[%u]}},"
                 "{\"op\":\"move\",\"from\":\"/map/k%u\",\"path\":\"/list/1\"}]",
                 small, (unsigned)(random >> 20) % 1500);
        (void)evh_json_patch_text(evh_db_json(db), evh_json_root(evh_db_json(db)), text,
                                  strlen(text));
        break;
    case 8: (void)evh_db_move(db, path, "/moved/x"); break;
    case 9: (void)evh_db_copy(db, "/tree", "/copied"); break;
    case 10: check_ok(evh_db_put_bytes(db, path, text, small)); break;
    case 11: check_ok(evh_db_set_index(db, small % 4 != 0)); break;
    default:
        snprintf(text, sizeof text, "new%u", small);
        (void)evh_db_rename(db, path, text);
        break;
    }
    check_ok(evh_db_put_unsigned(db, "/n", n));
}

static char *print(evh_db *db, const char *path)
{
    const evh_node node = evh_db_get(db, path);
    CHECK(evh_node_is(node));
    char *text = evh_json_print(node.json, node.value, NULL, NULL);
    CHECK(text != NULL);
    return text;
}

static bool count_reference(evh_value reference, evh_status status, void *context)
{
    uint64_t *sum = context;
    *sum += status == EVH_OK ? 1000003 : 1;
    return evh_json_is(reference);
}

static void check_same(evh_db *db, evh_db *model, const char *path)
{
    char *text = print(db, path);
    char *expected = print(model, path);
    if (strcmp(text, expected) != 0)
        test_fail(__FILE__, __LINE__, "%s is another one", path[0] ? path : "the document");
    free(text);
    free(expected);
}

/* Whether two databases are the same: values, metrics, references. */
static void check_equal(evh_db *db, evh_db *model)
{
    static const char *const counts[] = {"values",       "nulls",        "numbers", "strings",
                                         "string_bytes", "binary_bytes", "arrays",  "objects",
                                         "references",   "keys"};
    check_ok(evh_json_check(evh_db_json(db)));
    check_same(db, model, "");
    char path[40];
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        snprintf(path, sizeof path, "/$metrics/%s", counts[i]);
        check_same(db, model, path);
    }
    uint64_t references = 0;
    uint64_t expected = 0;
    check_ok(evh_db_references_check(db, false, count_reference, &references));
    check_ok(evh_db_references_check(model, false, count_reference, &expected));
    CHECK_EQUAL(references, expected);
    uint64_t hits = 0;
    uint64_t expected_hits = 0;
    check_ok(evh_db_search(db, "ccc", 3, NULL, NULL, NULL, &hits));
    check_ok(evh_db_search(model, "ccc", 3, NULL, NULL, NULL, &expected_hits));
    CHECK_EQUAL(hits, expected_hits);
}

/* ---- kills ---- */

static void run_child(const char *path, uint64_t seed, int pipe_end)
{
    evh_db *db = evh_db_open(path, &(evh_db_options){.guards = seed % 2});
    if (!db) _exit(2);
    for (uint64_t n = 1;; n++) {
        change(db, seed, n);
        if (evh_db_commit(db) || write(pipe_end, &n, sizeof n) != sizeof n) _exit(3);
    }
}

TEST(a_killed_database_is_that_of_a_commit)
{
    uint64_t state = test_seed();
    for (uint64_t round = 0; round < test_effort(12); round++) {
        const char *path = test_path("killed");
        const uint64_t seed = test_random(&state);
        const uint64_t acknowledged = run_and_kill(
            run_child, path, seed, test_random(&state) % 3000, 1 + test_random(&state) % 80);
        evh_db *db = evh_db_open(path, NULL);
        CHECK(db != NULL);
        const evh_node number = evh_db_get(db, "/n");
        const uint64_t n = evh_json_unsigned(number.json, number.value, NULL);
        CHECK(n == acknowledged || n == acknowledged + 1);
        evh_heap *heap;
        evh_db *model = open_memory(&heap);
        for (uint64_t i = 1; i <= n; i++) change(model, seed, i);
        check_equal(db, model);
        check_ok(evh_db_close(model));
        check_ok(evh_close(heap));
        check_ok(evh_db_close(db));
    }
}

/* ---- rollbacks and reopenings ---- */

/* The model of what was committed: operations first to last of each stretch that was. */
struct stretch {
    uint64_t first, last;
};

TEST(rollbacks_and_reopenings_lead_back_to_a_commit)
{
    uint64_t state = test_seed();
    for (uint64_t round = 0; round < test_effort(4); round++) {
        const char *path = test_path("rolled");
        const uint64_t seed = test_random(&state);
        evh_heap *heap;
        evh_db *model = open_memory(&heap); /* of what was committed */
        evh_db *db = evh_db_open(path, NULL);
        CHECK(db != NULL);
        struct stretch open = {1, 0};
        for (uint64_t n = 1; n < 250; n++) {
            change(db, seed, n);
            open.last = n;
            const uint64_t random = n == 1 ? 0 : test_random(&state) % 8;
            if (random > 2) continue;
            if (random == 0) {
                check_ok(evh_db_commit(db));
                for (uint64_t i = open.first; i <= open.last; i++) change(model, seed, i);
            } else if (random == 1) {
                check_ok(evh_db_rollback(db));
            } else {
                check_ok(evh_db_close(db));
                db = evh_db_open(path, NULL);
                CHECK(db != NULL);
            }
            check_equal(db, model);
            open = (struct stretch){n + 1, n};
        }
        check_ok(evh_db_close(model));
        check_ok(evh_close(heap));
        check_ok(evh_db_close(db));
    }
}

/* ---- power cuts ---- */

enum { POWER_OPERATIONS = 60 };

/* All that is to be the same after a crash, as text: values, metrics, references. */
static char *describe(evh_db *db)
{
    static const char *const paths[] = {"/$metrics/values",       "/$metrics/strings",
                                        "/$metrics/string_bytes", "/$metrics/binary_bytes",
                                        "/$metrics/references",   "/$metrics/keys",
                                        "/$metrics/changes",      ""};
    size_t size = 0;
    char *all = NULL;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char *text = print(db, paths[i]);
        all = realloc(all, size + strlen(text) + 40);
        CHECK(all != NULL);
        size += (size_t)snprintf(all + size, strlen(text) + 2, "%s\n", text);
        free(text);
    }
    uint64_t references = 0;
    check_ok(evh_db_references_check(db, false, count_reference, &references));
    snprintf(all + size, 30, "%llu", (unsigned long long)references);
    return all;
}

static const evh_options power_options = {.mode = EVH_DURABLE,
                                          .no_thread = true,
                                          .detect = EVH_DETECT_COMPARE,
                                          .size_max_bytes = SIM_FILE_BYTES_MAX / 2};

/* Open what a power cut left; check that it is the database of one of the commits that it may
 * be. */
static void check_after_cut(struct sim *machine, char **expected, uint64_t first, uint64_t final)
{
    sim_use(machine);
    evh_options options = power_options;
    options.must_exist = true;
    evh_heap *heap = evh_open("heap", &options);
    if (!heap) {
        test_fail(__FILE__, __LINE__, "not opened: %s", evh_last_error()->message);
        test_stop();
    }
    evh_db *db = evh_db_open_in(heap, NULL);
    CHECK(db != NULL);
    check_ok(evh_json_check(evh_db_json(db)));
    char *text = describe(db);
    bool is_one = false;
    for (uint64_t n = first; n <= final && !is_one; n++) is_one = strcmp(text, expected[n]) == 0;
    if (!is_one)
        test_fail(__FILE__, __LINE__, "neither commit %llu nor %llu", (unsigned long long)first,
                  (unsigned long long) final);
    free(text);
    check_ok(evh_db_close(db));
    sim_kill(machine);
    (void)evh_close(heap);
    CHECK(is_one);
}

/* Some of what is pending reaches the device: operations, or only sectors of them. */
static void cut_power(struct sim_disk *disk, struct sim *target, uint64_t *state)
{
    sim_image_begin(disk, target, test_random(state));
    const uint64_t bias = test_random(state) % 4;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const uint64_t random = test_random(state);
        const uint64_t sectors = sim_pending_sectors(disk, i);
        if (random % 4 < bias) continue;
        if (sectors > 1 && random % 8 == 7) {
            sim_image_apply_sectors(disk, target, i, 0, (random >> 8) % sectors);
        } else {
            sim_image_apply(disk, target, i);
        }
    }
}

/* Strategy: operations in a simulated machine, each a commit; power cuts at random points of what
 * the machine wrote. Invariant: the database is that of the last acknowledged commit, or the one
 * that was under way. */
TEST(a_power_cut_leaves_the_database_of_a_commit)
{
    uint64_t state = test_seed();
    for (uint64_t round = 0; round < test_effort(2); round++) {
        const uint64_t seed = test_random(&state);
        struct sim *machine = sim_create(seed);
        struct sim *target = sim_create(seed + 1);
        struct sim_disk *disk = sim_disk_create();
        char *expected[POWER_OPERATIONS + 2] = {NULL};
        sim_use(machine);
        evh_heap *heap = evh_open("heap", &power_options);
        evh_db *db = heap ? evh_db_open_in(heap, NULL) : NULL;
        CHECK(db != NULL);
        for (uint64_t n = 1; n <= POWER_OPERATIONS; n++) {
            change(db, seed, n);
            expected[n] = describe(db);
            sim_mark(machine, n, 0);
            check_ok(evh_db_commit(db));
            sim_mark(machine, n, 1);
        }
        const struct sim_log *log = sim_log(machine);
        uint64_t under_way = 0;
        uint64_t acknowledged = 0;
        for (size_t i = 0; i < log->count; i++) {
            const struct sim_operation *operation = log->operations + i;
            if (operation->kind == SIM_MARK && operation->extra == 0) under_way = operation->value;
            if (operation->kind == SIM_MARK && operation->extra) acknowledged = operation->value;
            sim_disk_step(disk, log, i);
            if (acknowledged == 0 || test_random(&state) % 3) continue;
            cut_power(disk, target, &state);
            check_after_cut(target, expected, acknowledged, under_way);
        }
        CHECK(acknowledged == POWER_OPERATIONS);
        sim_use(machine);
        sim_kill(machine);
        check_ok(evh_db_close(db));
        (void)evh_close(heap);
        sim_use(NULL);
        for (size_t n = 0; n < POWER_OPERATIONS + 2; n++) free(expected[n]);
        sim_disk_end(disk);
        sim_end(target);
        sim_end(machine);
    }
}
