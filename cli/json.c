/* json.c -- `everheap json`: the JSON document in a heap file, from a shell. */
#include "cli.h"

#include <everheap/json_query.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_PRETTY, OPTION_RAW, OPTION_SORT, OPTION_LINES, OPTION_FROM, OPTION_NAME };
enum { ARGUMENT_ACTION, ARGUMENT_FILE, ARGUMENT_PATH, ARGUMENT_VALUE };

struct json_action {
    const char *name;
    bool is_change;
    bool needs_path;
    evh_status (*run)(const struct cli_request *request, evh_json *json);
};

/* ---- input ---- */

/* What a path names; a message if it is none. */
static evh_value json_find(const struct cli_request *request, evh_json *json)
{
    const char *path = request->arguments[ARGUMENT_PATH];
    return evh_json_get(json, path ? path : "");
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

/* The value to change at a path, made with all that is missing on the way. */
static evh_status json_place(evh_json *json, const char *path, evh_value *place)
{
    *place = evh_json_make(json, evh_json_root(json), path, strlen(path));
    return evh_json_is(*place) ? EVH_OK : evh_last_error()->status;
}

/* ---- output ---- */

static evh_status json_print(const struct cli_request *request, evh_json *json, evh_value value)
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

static evh_status json_get(const struct cli_request *request, evh_json *json)
{
    evh_value value = json_find(request, json);
    if (evh_json_is(value)) value = evh_json_follow(json, value);
    return evh_json_is(value) ? json_print(request, json, value) : evh_last_error()->status;
}

static evh_status json_dump(const struct cli_request *request, evh_json *json)
{
    const evh_value value = json_find(request, json);
    return evh_json_is(value) ? json_print(request, json, value) : evh_last_error()->status;
}

static evh_status json_load(const struct cli_request *request, evh_json *json)
{
    evh_value place;
    const char *path = request->arguments[ARGUMENT_PATH];
    const evh_status status = json_place(json, path ? path : "", &place);
    return status ? status : json_read_stream(request, json, place);
}

static evh_status json_put(const struct cli_request *request, evh_json *json)
{
    evh_value place;
    const evh_status status = json_place(json, request->arguments[ARGUMENT_PATH], &place);
    return status ? status : json_read_value(request, json, place);
}

static evh_status json_push(const struct cli_request *request, evh_json *json)
{
    const evh_value array = json_find(request, json);
    evh_value item;
    if (!evh_json_is(array)) return evh_last_error()->status;
    const evh_status status = evh_json_append(json, evh_json_follow(json, array), &item);
    return status ? status : json_read_value(request, json, item);
}

static evh_status json_erase(const struct cli_request *request, evh_json *json)
{
    const evh_value value = json_find(request, json);
    return evh_json_is(value) ? evh_json_erase(json, value) : evh_last_error()->status;
}

/* patch and merge: FILE PATH [JSON], the path "" being all. */
static evh_status json_apply(const struct cli_request *request, evh_json *json,
                             evh_status (*apply)(evh_json *, evh_value, evh_value))
{
    const evh_value target = json_find(request, json);
    if (!evh_json_is(target)) return evh_last_error()->status;
    const evh_value patch = evh_json_detached(json);
    if (!evh_json_is(patch)) return evh_last_error()->status;
    evh_status status = json_read_value(request, json, patch);
    if (!status) status = apply(json, target, patch);
    return status ? status : evh_json_erase(json, patch);
}

static evh_status json_patch(const struct cli_request *request, evh_json *json)
{
    return json_apply(request, json, evh_json_patch);
}

static evh_status json_merge(const struct cli_request *request, evh_json *json)
{
    return json_apply(request, json, evh_json_merge);
}

struct json_finding {
    const struct cli_request *request;
    evh_json *json;
};

static bool json_show_found(evh_value value, void *context)
{
    const struct json_finding *finding = context;
    char path[4096];
    evh_json_pointer(finding->json, value, path, sizeof path);
    cli_put_escaped(stdout, path, strlen(path));
    putchar('\t');
    return json_print(finding->request, finding->json, value) == EVH_OK;
}

/* The query takes the place of the path. */
static evh_status json_query(const struct cli_request *request, evh_json *json)
{
    const char *text = request->arguments[ARGUMENT_PATH];
    evh_json_query *query = evh_json_query_compile(text, strlen(text));
    if (!query) return evh_last_error()->status;
    struct json_finding finding = {request, json};
    const evh_status status =
        evh_json_query_run(json, evh_json_root(json), query, json_show_found, &finding);
    evh_json_query_end(query);
    return status;
}

static evh_status json_keys(const struct cli_request *request, evh_json *json)
{
    evh_value value = json_find(request, json);
    if (evh_json_is(value)) value = evh_json_follow(json, value);
    if (!evh_json_is(value)) return evh_last_error()->status;
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

/* Which references lead nowhere. */
static evh_status json_refs(const struct cli_request *request, evh_json *json)
{
    (void)request;
    size_t loose = 0;
    const evh_status status = evh_json_resolve(json, &loose);
    if (!status)
        printf("%s that lead%s nowhere\n", cli_plural(loose, "reference"), loose == 1 ? "s" : "");
    return status;
}

static evh_status json_check(const struct cli_request *request, evh_json *json)
{
    (void)request;
    const evh_status status = evh_json_check(json);
    if (!status) printf("sound\n");
    return status;
}

static const struct json_action json_actions[] = {
    {"load", true, false, json_load},  {"get", false, false, json_get},
    {"put", true, true, json_put},     {"push", true, true, json_push},
    {"erase", true, true, json_erase}, {"patch", true, true, json_patch},
    {"merge", true, true, json_merge}, {"query", false, true, json_query},
    {"keys", false, false, json_keys}, {"dump", false, false, json_dump},
    {"refs", false, false, json_refs}, {"check", false, false, json_check},
};

static const struct json_action *json_find_action(const char *name)
{
    for (size_t i = 0; i < sizeof json_actions / sizeof json_actions[0]; i++)
        if (strcmp(json_actions[i].name, name) == 0) return json_actions + i;
    return NULL;
}

/* Open, act, commit, close. */
static evh_status json_act(const struct cli_request *request, const struct json_action *action,
                           evh_error *error)
{
    const evh_options options = {.mode = action->is_change ? EVH_DURABLE : EVH_READ_ONLY,
                                 .must_exist = !action->is_change || action->run != json_load,
                                 .no_thread = true};
    evh_heap *heap = evh_open(request->arguments[ARGUMENT_FILE], &options);
    evh_json *json = heap ? evh_json_open(heap, request->values[OPTION_NAME].text) : NULL;
    evh_status status = json ? action->run(request, json) : evh_last_error()->status;
    if (!status && action->is_change) status = evh_commit(heap);
    *error = *evh_last_error();
    evh_json_close(json);
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
    if (!action)
        missing = "an action is needed: load, get, put, push, erase, patch, merge, query, "
                  "keys, dump, refs or check";
    if (action && action->needs_path && !request->arguments[ARGUMENT_PATH])
        missing = "no PATH given";
    if (missing) {
        fprintf(stderr, "everheap json: %s\nTry 'everheap json --help'.\n", missing);
        return CLI_FAILED;
    }
    evh_error error;
    if (json_act(request, action, &error))
        return cli_complain(request, request->arguments[ARGUMENT_FILE], &error);
    return cli_finish(request, CLI_FINE);
}

const struct cli_command cli_json_command = {
    .name = "json",
    .summary = "Read and change the JSON document in a heap file.",
    .description =
        "ACTION is one of\n"
        "  load FILE [PATH]        read JSON from standard input (or --from), making FILE if need "
        "be\n"
        "  get FILE [PATH]         print a value; a reference is followed\n"
        "  put FILE PATH [JSON]    set a value, or add it\n"
        "  push FILE PATH [JSON]   append to an array\n"
        "  erase FILE PATH         take a value out\n"
        "  patch FILE PATH [JSON]  apply a JSON Patch (RFC 6902); PATH '' is all\n"
        "  merge FILE PATH [JSON]  apply a JSON Merge Patch (RFC 7396)\n"
        "  query FILE QUERY        print what a JSONPath query (RFC 9535) finds, with its paths\n"
        "  keys FILE [PATH]        print the keys of an object\n"
        "  dump FILE [PATH]        print a value as it is\n"
        "  refs FILE               count references that lead nowhere\n"
        "  check FILE              verify the document\n"
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
                {"name", 'n', CLI_TEXT, "NAME", 0, "the document's name, if it is not \"json\""}},
    .examples = {{"everheap json load app.heap < doc.json", "make a heap that holds a document"},
                 {"everheap json get app.heap /users/0/name -r", "one string, as it is"},
                 {"everheap json put app.heap /users/0/age 42", "change one value, durably"}},
    .run = json_run,
};
