/* json.c -- `everheap json`: the JSON document in a heap file, from a shell. */
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- input ---- */

/* What a path of the document names. */
static evh_value json_find(const struct cli_request *request, evh_db *db)
{
    const char *path = request->arguments[ARGUMENT_PATH];
    const evh_node node = evh_db_peek(db, path ? path : "");
    if (node.json == evh_db_json(db)) return node.value;
    if (evh_node_is(node)) (void)evh_db_make(db, path); /* a path that cannot be changed says so */
    return (evh_value){0, 0, 0};
}

/* Read `value` from --from, or from standard input. */
static evh_status json_read_stream(const struct cli_request *request, evh_json *json,
                                   evh_value value)
{
    const char *name = request->values[OPTION_FROM].text;
    const bool is_standard = !name || strcmp(name, "-") == 0;
    FILE *file = is_standard ? stdin : fopen(name, "rb");
    if (!file) {
        fprintf(stderr, "everheap json: %s: %s\n", name, strerror(errno));
        return EVH_NOT_FOUND;
    }
    const evh_json_read_options options = {.lines = request->values[OPTION_LINES].is_given};
    cli_progress_begin("loading", is_standard ? "standard input" : name);
    const evh_status status = evh_json_read_file(json, value, file, &options, NULL);
    cli_progress_end();
    if (!is_standard) fclose(file);
    return status;
}

/* Read `value` from the command line, or else as above. */
static evh_status json_read_value(const struct cli_request *request, evh_json *json,
                                  evh_value value)
{
    const char *text = request->arguments[ARGUMENT_VALUE];
    if (!text || strcmp(text, "-") == 0) return json_read_stream(request, json, value);
    return evh_json_parse(json, value, text, strlen(text), NULL, NULL);
}

/* ---- output ---- */

evh_status json_print(const struct cli_request *request, evh_json *json, evh_value value)
{
    size_t size = 0;
    const char *text = NULL;
    if (request->values[OPTION_RAW].is_given && evh_json_type_of(json, value) == EVH_JSON_STRING)
        text = evh_json_text(json, value, &size);
    if (text) {
        fwrite(text, 1, size, stdout);
        putchar('\n');
        return EVH_OK;
    }
    const evh_json_write_options options = {
        .indent = request->values[OPTION_PRETTY].is_given ? 2 : 0,
        .sort_keys = request->values[OPTION_SORT].is_given,
    };
    const evh_status status = evh_json_write_file(json, value, stdout, &options);
    putchar('\n');
    return status;
}

/* ---- actions ---- */

static evh_status json_show(const struct cli_request *request, evh_node node)
{
    return evh_node_is(node) ? json_print(request, node.json, node.value)
                             : evh_last_error()->status;
}

static evh_status json_get(const struct cli_request *request, evh_db *db)
{
    const char *path = request->arguments[ARGUMENT_PATH];
    return json_show(request, evh_db_get(db, path ? path : ""));
}

static evh_status json_dump(const struct cli_request *request, evh_db *db)
{
    const char *path = request->arguments[ARGUMENT_PATH];
    return json_show(request, evh_db_peek(db, path ? path : ""));
}

static evh_status json_load(const struct cli_request *request, evh_db *db)
{
    const char *path = request->arguments[ARGUMENT_PATH];
    const evh_value place = evh_db_make(db, path ? path : "");
    return evh_json_is(place) ? json_read_stream(request, evh_db_json(db), place)
                              : evh_last_error()->status;
}

static evh_status json_put(const struct cli_request *request, evh_db *db)
{
    const char *path = request->arguments[ARGUMENT_PATH];
    const char *text = request->arguments[ARGUMENT_VALUE];
    if (!text || strcmp(text, "-") == 0) return json_load(request, db);
    return evh_db_put_json(db, path, text, strlen(text));
}

static evh_status json_push(const struct cli_request *request, evh_db *db)
{
    evh_value item;
    const evh_status status = evh_db_push(db, request->arguments[ARGUMENT_PATH], &item);
    return status ? status : json_read_value(request, evh_db_json(db), item);
}

static evh_status json_erase(const struct cli_request *request, evh_db *db)
{
    return evh_db_erase(db, request->arguments[ARGUMENT_PATH]);
}

/* patch and merge: FILE PATH [JSON], the path "" being all. */
static evh_status json_apply(const struct cli_request *request, evh_db *db,
                             evh_status (*apply)(evh_json *, evh_value, evh_value))
{
    evh_json *json = evh_db_json(db);
    const evh_value target = json_find(request, db);
    if (!evh_json_is(target)) return evh_last_error()->status;
    const evh_value patch = evh_json_detached(json);
    if (!evh_json_is(patch)) return evh_last_error()->status;
    evh_status status = json_read_value(request, json, patch);
    if (!status) status = apply(json, target, patch);
    return status ? status : evh_json_erase(json, patch);
}

static evh_status json_patch(const struct cli_request *request, evh_db *db)
{
    return json_apply(request, db, evh_json_patch);
}

static evh_status json_merge(const struct cli_request *request, evh_db *db)
{
    return json_apply(request, db, evh_json_merge);
}

struct json_finding {
    const struct cli_request *request;
    evh_db *db;
    evh_json *json;
};

static void json_put_path(evh_db *db, evh_value value)
{
    char path[4096];
    if (evh_db_path(db, value, path, sizeof path) == SIZE_MAX) path[0] = 0;
    cli_put_escaped(stdout, path, strlen(path));
}

static bool json_show_found(evh_value value, void *context)
{
    const struct json_finding *finding = context;
    json_put_path(finding->db, value);
    putchar('\t');
    return json_print(finding->request, finding->json, value) == EVH_OK;
}

/* The query takes the place of the path. */
static evh_status json_query(const struct cli_request *request, evh_db *db)
{
    evh_json *json = evh_db_json(db);
    const char *text = request->arguments[ARGUMENT_PATH];
    evh_json_query *query = evh_json_query_compile(text, strlen(text));
    if (!query) return evh_last_error()->status;
    struct json_finding finding = {request, db, json};
    const evh_status status =
        evh_json_query_run(json, evh_json_root(json), query, json_show_found, &finding);
    evh_json_query_end(query);
    return status;
}

static evh_status json_keys(const struct cli_request *request, evh_db *db)
{
    const char *path = request->arguments[ARGUMENT_PATH];
    const evh_node node = evh_db_get(db, path ? path : "");
    evh_json *json = node.json;
    const evh_value value = node.value;
    if (!evh_node_is(node)) return evh_last_error()->status;
    if (evh_json_type_of(json, value) != EVH_JSON_OBJECT) return EVH_OK;
    for (size_t i = 0; i < evh_json_count(json, value); i++) {
        size_t size = 0;
        const char *key = evh_json_key(json, value, i, &size);
        if (!key) return evh_last_error()->status;
        cli_put_escaped(stdout, key, size);
        putchar('\n');
    }
    return EVH_OK;
}

static bool json_show_hit(const evh_db_hit *hit, void *context)
{
    const struct json_finding *finding = context;
    printf("%s\t", hit->kind == EVH_DB_KEY ? "key" : "value");
    json_put_path(finding->db, hit->value);
    putchar('\t');
    cli_put_escaped(stdout, hit->text, hit->size < 200 ? hit->size : 200);
    putchar('\n');
    return true;
}

/* The text takes the place of the path. */
static evh_status json_search(const struct cli_request *request, evh_db *db)
{
    const struct cli_value *values = request->values;
    const evh_db_search_options options = {
        .ignore_case = values[OPTION_IGNORE_CASE].is_given,
        .skip = values[OPTION_SKIP].number,
        .limit = values[OPTION_LIMIT].number,
    };
    struct json_finding finding = {request, db, evh_db_json(db)};
    const char *text = request->arguments[ARGUMENT_PATH];
    return evh_db_search(db, text, strlen(text), &options, json_show_hit, &finding, NULL);
}

static bool json_show_reference(evh_value reference, evh_status status, void *context)
{
    const struct json_finding *finding = context;
    size_t size = 0;
    const char *path = evh_json_text(finding->json, reference, &size);
    json_put_path(finding->db, reference);
    fputs("\t", stdout);
    if (path) cli_put_escaped(stdout, path, size);
    printf("\t%s\n", status == EVH_CYCLE ? "in a ring" : "leads nowhere");
    return true;
}

/* Which references lead nowhere. */
static evh_status json_refs(const struct cli_request *request, evh_db *db)
{
    size_t loose = 0;
    struct json_finding finding = {request, db, evh_db_json(db)};
    evh_status status = evh_db_references_check(db, true, json_show_reference, &finding);
    if (!status) status = evh_json_resolve(finding.json, &loose);
    if (!status)
        printf("%s that lead%s nowhere\n", cli_plural(loose, "reference"), loose == 1 ? "s" : "");
    return status;
}

static evh_status json_stat(const struct cli_request *request, evh_db *db)
{
    struct cli_request pretty = *request;
    pretty.values[OPTION_PRETTY].is_given = true;
    return json_show(&pretty, evh_db_get(db, "/$metrics"));
}

/* on or off takes the place of the path. */
static evh_status json_index(const struct cli_request *request, evh_db *db)
{
    const char *word = request->arguments[ARGUMENT_PATH];
    return evh_db_set_index(db, !word || strcmp(word, "off") != 0);
}

static evh_status json_check(const struct cli_request *request, evh_db *db)
{
    (void)request;
    const evh_status status = evh_json_check(evh_db_json(db));
    if (!status) printf("sound\n");
    return status;
}

static const struct json_action json_actions[] = {
    {{"load", "FILE [PATH]", "read JSON from standard input (or --from), making FILE if need be"},
     true,
     false,
     json_load},
    {{"get", "FILE [PATH]", "print a value; a reference is followed"}, false, false, json_get},
    {{"put", "FILE PATH [JSON]", "set a value, or add it"}, true, true, json_put},
    {{"push", "FILE PATH [JSON]", "append to an array"}, true, true, json_push},
    {{"erase", "FILE PATH", "take a value out"}, true, true, json_erase},
    {{"patch", "FILE PATH [JSON]", "apply a JSON Patch (RFC 6902); PATH '' is all"},
     true,
     true,
     json_patch},
    {{"merge", "FILE PATH [JSON]", "apply a JSON Merge Patch (RFC 7396)"}, true, true, json_merge},
    {{"query", "FILE QUERY", "print what a JSONPath query (RFC 9535) finds, with its paths"},
     false,
     true,
     json_query},
    {{"keys", "FILE [PATH]", "print the keys of an object"}, false, false, json_keys},
    {{"dump", "FILE [PATH]", "print a value as it is"}, false, false, json_dump},
    {{"search", "FILE TEXT", "list keys and strings that contain a text, with their paths"},
     false,
     true,
     json_search},
    {{"refs", "FILE", "list references that lead nowhere"}, false, false, json_refs},
    {{"stat", "FILE", "print the database's metrics"}, false, false, json_stat},
    {{"index", "FILE [on|off]", "keep an index of the strings, for searches; or stop"},
     true,
     false,
     json_index},
    {{"check", "FILE", "verify the document"}, false, false, json_check},
    {{"watch", "FILE [PATH]", "print a value whenever a commit of another process changes it"},
     false,
     false,
     json_watch},
    {{"shell", "FILE", "read commands like these, without FILE, line by line"},
     true,
     false,
     json_shell},
};
enum { JSON_ACTION_COUNT = sizeof json_actions / sizeof json_actions[0] };

static const struct cli_choice *json_choice(size_t index)
{
    return index < JSON_ACTION_COUNT ? &json_actions[index].choice : NULL;
}

const struct json_action *json_find_action(const char *name)
{
    for (size_t i = 0; i < JSON_ACTION_COUNT; i++)
        if (strcmp(json_actions[i].choice.name, name) == 0) return json_actions + i;
    return NULL;
}

/* Whether an action looks at a few values only. */
static bool json_is_small(const struct cli_request *request, const struct json_action *action)
{
    static evh_status (*const small[])(const struct cli_request *, evh_db *) = {
        json_get, json_put, json_push, json_erase, json_keys};
    const char *path = request->arguments[ARGUMENT_PATH];
    if (!path || !*path) return false;
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        if (action->run == small[i]) return true;
    return false;
}

/* Open the heap of an action. Loading makes it, if need be: `*is_new`. */
static evh_heap *json_open(const struct cli_request *request, const struct json_action *action,
                           bool *is_new)
{
    const char *file = request->arguments[ARGUMENT_FILE];
    evh_options options = {.mode = action->is_change ? EVH_DURABLE : EVH_READ_ONLY,
                           .must_exist = action->run != json_load,
                           .must_create = action->run == json_load,
                           .no_thread = true,
                           .scattered = json_is_small(request, action),
                           .commit_sequence =
                               action->is_change ? 0 : request->values[OPTION_COMMIT].number};
    evh_heap *heap = evh_open(file, &options);
    *is_new = heap && options.must_create;
    if (heap || !options.must_create || evh_last_error()->status != EVH_EXISTS) return heap;
    options.must_create = false;
    return evh_open(file, &options);
}

/* Open, act, commit, close. A file that was made for a text that cannot be loaded is taken away
 * while this process has it open, so that nobody else has written to it. */
static evh_status json_act(const struct cli_request *request, const struct json_action *action,
                           evh_error *error)
{
    const evh_db_options names = {.name = request->values[OPTION_NAME].text};
    bool is_new = false;
    evh_heap *heap = json_open(request, action, &is_new);
    evh_db *db = heap ? evh_db_open_in(heap, &names) : NULL;
    evh_status status = db ? action->run(request, db) : evh_last_error()->status;
    if (!status && action->is_change) status = evh_db_commit(db);
    *error = *evh_last_error();
    if (status && is_new) (void)remove(request->arguments[ARGUMENT_FILE]);
    (void)evh_db_close(db);
    const evh_status closed = evh_close(heap);
    if (!status && heap && closed) {
        *error = *evh_last_error();
        status = closed;
    }
    return status;
}

static enum cli_exit json_run(const struct cli_request *request)
{
    const char *name = request->arguments[ARGUMENT_ACTION];
    const struct json_action *action = json_find_action(name);
    const char *missing = NULL;
    if (!action) missing = "an action is needed, the first argument is none";
    if (action && action->needs_path && !request->arguments[ARGUMENT_PATH])
        missing = "no PATH given";
    const char *path = request->arguments[ARGUMENT_PATH];
    if (action && action->run == json_index && path && strcmp(path, "on") && strcmp(path, "off"))
        missing = "index FILE on, or off";
    if (missing) {
        fprintf(stderr, "everheap json: %s\nTry 'everheap json --help'.\n", missing);
        return CLI_FAILED;
    }
    evh_error error;
    if (json_act(request, action, &error))
        return cli_complain(request, request->arguments[ARGUMENT_FILE], &error);
    return cli_finish(request, json_shell_failed() ? CLI_FAILED : CLI_FINE);
}

const struct cli_command cli_json_command = {
    .name = "json",
    .summary = "Read and change the JSON document in a heap file.",
    .description =
        "PATH is a JSON Pointer (RFC 6901). A change is one commit: all of it, or nothing.",
    .arguments = {{"ACTION", false, "what to do"},
                  {"FILE", false, "the heap"},
                  {"PATH", true, "a JSON Pointer, or the query"},
                  {"JSON", true, "a value; left out or -: standard input"}},
    .options = {{"pretty", 'p', CLI_FLAG, NULL, 0, "indent the output"},
                {"raw", 'r', CLI_FLAG, NULL, 0, "print a string without quotes and escapes"},
                {"sort", 's', CLI_FLAG, NULL, 0, "sort the keys of the output"},
                {"lines", 'l', CLI_FLAG, NULL, 0, "the input is lines of values: an array"},
                {"from", 'f', CLI_TEXT, "FILE", 0, "read the input from a file"},
                {"name", 'n', CLI_TEXT, "NAME", 0, "the document's name, if it is not \"json\""},
                {"ignore-case", 'i', CLI_FLAG, NULL, 0, "search for A to Z as for a to z"},
                {"skip", 0, CLI_NUMBER, "N", 0, "leave out the first N that are found"},
                {"limit", 0, CLI_NUMBER, "N", 0,
                 "end after N that are found, or watched; 0: never"},
                {"commit", 0, CLI_NUMBER, "N", 0,
                 "read commit N, which the journal must still hold"}},
    .examples = {{"everheap json load app.heap < doc.json", "make a heap that holds a document"},
                 {"everheap json get app.heap /users/0/name -r", "one string, as it is"},
                 {"everheap json put app.heap /users/0/age 42", "change one value, durably"}},
    .choice = json_choice,
    .run = json_run,
};
