/* module.c -- the module everheap.node: databases by a handle, for index.js. */
#include "binding.h"

#include <stdlib.h>

/* ---- errors, texts ---- */

napi_value binding_fail(napi_env env)
{
    const evh_error *const last = evh_last_error();
    const char *const name = evh_status_name(last->status);
    napi_value code, message, error, offset;
    if (!napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &code) &&
        !napi_create_string_utf8(env, last->message, NAPI_AUTO_LENGTH, &message) &&
        !napi_create_error(env, code, message, &error)) {
        if (last->offset != UINT64_MAX && !napi_create_double(env, (double)last->offset, &offset))
            (void)napi_set_named_property(env, error, "offset", offset);
        (void)napi_throw(env, error);
    }
    return NULL;
}

static napi_value undefined(napi_env env)
{
    napi_value made = NULL;
    (void)napi_get_undefined(env, &made);
    return made;
}

napi_value binding_done(napi_env env, evh_status status)
{
    return status ? binding_fail(env) : undefined(env);
}

napi_value binding_string(napi_env env, const char *text, size_t size)
{
    napi_value made = NULL;
    (void)napi_create_string_utf8(env, text ? text : "", text ? size : 0, &made);
    return made;
}

char *binding_text(napi_env env, napi_value value, size_t *size)
{
    size_t needed = 0;
    if (napi_get_value_string_utf8(env, value, NULL, 0, &needed)) {
        napi_throw_type_error(env, NULL, "a string is needed");
        return NULL;
    }
    char *const text = malloc(needed + 1);
    if (!text || napi_get_value_string_utf8(env, value, text, needed + 1, size)) {
        free(text);
        napi_throw_error(env, NULL, "no memory for a string");
        return NULL;
    }
    return text;
}

/* ---- calls: what all have in common ---- */

struct handle {
    evh_db *db; /* NULL when it is closed */
};

enum { CALL_ARGUMENTS_MAX = 4 };

struct call {
    napi_env env;
    evh_db *db;
    napi_value arguments[CALL_ARGUMENTS_MAX];
    char *text; /* the one behind the handle, owned */
    size_t size;
    evh_json *json;
};

static bool call_begin(struct call *call, napi_env env, napi_callback_info info, bool has_text)
{
    size_t count = CALL_ARGUMENTS_MAX;
    struct handle *handle = NULL;
    *call = (struct call){.env = env};
    if (napi_get_cb_info(env, info, &count, call->arguments, NULL, NULL)) return false;
    if (napi_get_value_external(env, call->arguments[0], (void **)&handle) || !handle->db) {
        napi_throw_error(env, "EVH_INVALID", "the database is closed");
        return false;
    }
    call->db = handle->db;
    call->json = evh_db_json(handle->db);
    if (has_text) call->text = binding_text(env, call->arguments[1], &call->size);
    return call->text || !has_text;
}

static napi_value call_end(struct call *call, napi_value result)
{
    free(call->text);
    return result;
}

static bool call_flag(const struct call *call, int index)
{
    bool flag = false;
    (void)napi_get_value_bool(call->env, call->arguments[index], &flag);
    return flag;
}

/* Nothing there is undefined, everything else an error. */
static napi_value call_absent(struct call *call)
{
    const evh_status status = evh_last_error()->status;
    return call_end(call, status == EVH_NOT_FOUND || status == EVH_OK ? undefined(call->env)
                                                                      : binding_fail(call->env));
}

/* ---- opening and closing ---- */

static void handle_free(napi_env env, void *data, void *hint)
{
    (void)env;
    (void)hint;
    (void)evh_db_close(((struct handle *)data)->db);
    free(data);
}

static napi_value node_open(napi_env env, napi_callback_info info)
{
    size_t count = CALL_ARGUMENTS_MAX, size = 0;
    napi_value arguments[CALL_ARGUMENTS_MAX], made = NULL;
    uint32_t mode = 0;
    bool must_exist = false;
    if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) ||
        napi_get_value_uint32(env, arguments[1], &mode) ||
        napi_get_value_bool(env, arguments[2], &must_exist))
        return NULL;
    char *const path = binding_text(env, arguments[0], &size);
    char *const name = path ? binding_text(env, arguments[3], &size) : NULL;
    struct handle *const handle = name ? calloc(1, sizeof *handle) : NULL;
    if (handle) {
        const evh_db_options options = {
            .mode = mode, .must_exist = must_exist, .name = *name ? name : NULL};
        handle->db = evh_db_open(path, &options);
        if (!handle->db) binding_fail(env);
        if (!handle->db || napi_create_external(env, handle, handle_free, NULL, &made))
            handle_free(env, handle, NULL);
    }
    free(path);
    free(name);
    return made;
}

static napi_value node_close(napi_env env, napi_callback_info info)
{
    size_t count = 1;
    napi_value argument;
    struct handle *handle = NULL;
    if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) ||
        napi_get_value_external(env, argument, (void **)&handle))
        return NULL;
    evh_db *const db = handle->db;
    handle->db = NULL;
    return binding_done(env, evh_db_close(db));
}

static napi_value node_commit(napi_env env, napi_callback_info info)
{
    struct call call;
    return call_begin(&call, env, info, false) ? binding_done(env, evh_db_commit(call.db)) : NULL;
}

static napi_value node_rollback(napi_env env, napi_callback_info info)
{
    struct call call;
    return call_begin(&call, env, info, false) ? binding_done(env, evh_db_rollback(call.db)) : NULL;
}

/* ---- values ---- */

static napi_value node_get(napi_env env, napi_callback_info info)
{
    struct call call;
    if (!call_begin(&call, env, info, true)) return NULL;
    const evh_node node = evh_db_get(call.db, call.text);
    if (!evh_node_is(node)) return call_absent(&call);
    return call_end(&call, binding_read(env, node.json, node.value, 0));
}

/* Built outside the document first, so that a value that cannot be one changes nothing. */
static napi_value node_put(napi_env env, napi_callback_info info)
{
    struct call call;
    if (!call_begin(&call, env, info, true)) return NULL;
    const evh_value made = evh_json_detached(call.json);
    napi_value result = NULL;
    if (!evh_json_is(made)) {
        binding_fail(env);
    } else if (binding_write(env, call.json, made, call.arguments[2], 0)) {
        const evh_value target = evh_db_make(call.db, call.text);
        result = evh_json_is(target) ? binding_done(env, evh_json_move(call.json, target, made))
                                     : binding_fail(env);
    }
    if (evh_json_is(made)) (void)evh_json_erase(call.json, made);
    return call_end(&call, result);
}

static napi_value node_push(napi_env env, napi_callback_info info)
{
    struct call call;
    evh_value item;
    napi_value result = NULL;
    if (!call_begin(&call, env, info, true)) return NULL;
    if (evh_db_push(call.db, call.text, &item))
        binding_fail(env);
    else if (binding_write(env, call.json, item, call.arguments[2], 0))
        result = undefined(env);
    else
        (void)evh_json_erase(call.json, item);
    return call_end(&call, result);
}

static napi_value node_erase(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value result = NULL;
    if (!call_begin(&call, env, info, true)) return NULL;
    const evh_status status = evh_db_erase(call.db, call.text);
    if (status && status != EVH_NOT_FOUND)
        binding_fail(env);
    else
        (void)napi_get_boolean(env, status == EVH_OK, &result);
    return call_end(&call, result);
}

static napi_value node_exists(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value result = NULL;
    if (!call_begin(&call, env, info, true)) return NULL;
    (void)napi_get_boolean(env, evh_db_exists(call.db, call.text), &result);
    return call_end(&call, result);
}

static napi_value node_keys(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value list = NULL;
    uint32_t count = 0;
    if (!call_begin(&call, env, info, true)) return NULL;
    const evh_node node = evh_db_get(call.db, call.text);
    if (!evh_node_is(node)) return call_absent(&call);
    evh_cursor cursor = evh_cursor_begin(node);
    if (napi_create_array(env, &list)) return call_end(&call, NULL);
    while (evh_cursor_next(&cursor) && cursor.key) {
        const napi_value key = binding_string(env, cursor.key, cursor.key_size);
        if (!key || napi_set_element(env, list, count++, key)) return call_end(&call, NULL);
    }
    return call_end(&call, list);
}

static napi_value node_increment(napi_env env, napi_callback_info info)
{
    struct call call;
    double by = 0;
    if (!call_begin(&call, env, info, true)) return NULL;
    if (napi_get_value_double(env, call.arguments[2], &by)) {
        napi_throw_type_error(env, NULL, "a number is needed");
        return call_end(&call, NULL);
    }
    const bool is_integer = by == (double)(int64_t)(by < 9e18 && by > -9e18 ? by : 0);
    return call_end(&call,
                    binding_done(env, is_integer ? evh_db_increment(call.db, call.text, (int64_t)by)
                                                 : evh_db_increment_real(call.db, call.text, by)));
}

static napi_value node_apply(napi_env env, napi_callback_info info)
{
    struct call call;
    size_t size = 0;
    if (!call_begin(&call, env, info, true)) return NULL;
    char *const patch = binding_text(env, call.arguments[2], &size);
    if (!patch) return call_end(&call, NULL);
    const evh_value target = evh_db_make(call.db, call.text);
    napi_value result = NULL;
    if (!evh_json_is(target))
        binding_fail(env);
    else
        result = binding_done(env, call_flag(&call, 3)
                                       ? evh_json_merge_text(call.json, target, patch, size)
                                       : evh_json_patch_text(call.json, target, patch, size));
    free(patch);
    return call_end(&call, result);
}

static napi_value node_stringify(napi_env env, napi_callback_info info)
{
    struct call call;
    size_t size = 0;
    evh_json_write_options options = {0};
    if (!call_begin(&call, env, info, true)) return NULL;
    (void)napi_get_value_uint32(env, call.arguments[2], &options.indent);
    const evh_node node = evh_db_get(call.db, call.text);
    if (!evh_node_is(node)) return call_absent(&call);
    char *const text = evh_json_print(node.json, node.value, &options, &size);
    const napi_value result = text ? binding_string(env, text, size) : binding_fail(env);
    free(text);
    return call_end(&call, result);
}

/* ---- queries and searches: lists of paths ---- */

struct found {
    struct call *call;
    napi_value list;
    uint32_t count;
};

static bool found_add(struct found *found, evh_value value)
{
    evh_db *const db = found->call->db;
    const size_t size = evh_db_path(db, value, NULL, 0);
    if (size == SIZE_MAX) return true; /* gone */
    char *const path = malloc(size + 1);
    if (!path) return false;
    evh_db_path(db, value, path, size + 1);
    const napi_value text = binding_string(found->call->env, path, size);
    free(path);
    return text && !napi_set_element(found->call->env, found->list, found->count++, text);
}

static bool query_found(evh_value value, void *context)
{
    return found_add(context, value);
}

static bool search_found(const evh_db_hit *hit, void *context)
{
    return found_add(context, hit->value);
}

static napi_value node_query(napi_env env, napi_callback_info info)
{
    struct call call;
    if (!call_begin(&call, env, info, true)) return NULL;
    struct found found = {.call = &call};
    evh_json_query *const query = evh_json_query_compile(call.text, call.size);
    if (!query || napi_create_array(env, &found.list))
        return call_end(&call, query ? NULL : binding_fail(env));
    const evh_status status =
        evh_json_query_run(call.json, evh_json_root(call.json), query, query_found, &found);
    evh_json_query_end(query);
    return call_end(&call, status ? binding_fail(env) : found.list);
}

static napi_value node_search(napi_env env, napi_callback_info info)
{
    struct call call;
    if (!call_begin(&call, env, info, true)) return NULL;
    struct found found = {.call = &call};
    uint32_t limit = 0;
    (void)napi_get_value_uint32(env, call.arguments[3], &limit);
    const evh_db_search_options options = {.ignore_case = call_flag(&call, 2), .limit = limit};
    if (napi_create_array(env, &found.list)) return call_end(&call, NULL);
    const evh_status status =
        evh_db_search(call.db, call.text, call.size, &options, search_found, &found, NULL);
    return call_end(&call, status ? binding_fail(env) : found.list);
}

/* ---- the module ---- */

static bool set_number(napi_env env, napi_value exports, const char *name, uint32_t number)
{
    napi_value value;
    return !napi_create_uint32(env, number, &value) &&
           !napi_set_named_property(env, exports, name, value);
}

NAPI_MODULE_INIT()
{
    static const struct {
        const char *name;
        napi_callback call;
    } calls[] = {{"open", node_open},
                 {"close", node_close},
                 {"commit", node_commit},
                 {"rollback", node_rollback},
                 {"get", node_get},
                 {"put", node_put},
                 {"push", node_push},
                 {"erase", node_erase},
                 {"exists", node_exists},
                 {"keys", node_keys},
                 {"increment", node_increment},
                 {"apply", node_apply},
                 {"stringify", node_stringify},
                 {"query", node_query},
                 {"search", node_search}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        napi_value made;
        if (napi_create_function(env, calls[i].name, NAPI_AUTO_LENGTH, calls[i].call, NULL,
                                 &made) ||
            napi_set_named_property(env, exports, calls[i].name, made))
            return NULL;
    }
    const napi_value version = binding_string(env, evh_version(), strlen(evh_version()));
    if (!version || napi_set_named_property(env, exports, "version", version) ||
        !set_number(env, exports, "DURABLE", EVH_DURABLE) ||
        !set_number(env, exports, "READ_ONLY", EVH_READ_ONLY) ||
        !set_number(env, exports, "PRIVATE", EVH_PRIVATE))
        return NULL;
    return exports;
}
