/* values.c -- values of a document as values of JavaScript, and back. */
#include "binding.h"

#include <math.h>
#include <stdlib.h>

static const double safe_max = 9007199254740991.0; /* 2^53 - 1: integers to here are numbers */

static napi_value too_deep(napi_env env)
{
    napi_throw_range_error(env, NULL, "nested too deeply, or in itself");
    return NULL;
}

/* ---- to JavaScript ---- */

static napi_value read_array(napi_env env, evh_json *json, evh_value array, unsigned depth)
{
    const size_t count = evh_json_count(json, array);
    napi_value made;
    if (napi_create_array_with_length(env, count, &made)) return NULL;
    for (size_t i = 0; i < count; i++) {
        napi_handle_scope scope;
        if (napi_open_handle_scope(env, &scope)) return NULL;
        const napi_value item = binding_read(env, json, evh_json_at(json, array, i), depth + 1);
        const bool is_set = item && !napi_set_element(env, made, (uint32_t)i, item);
        napi_close_handle_scope(env, scope);
        if (!is_set) return NULL;
    }
    return made;
}

static napi_value read_object(napi_env env, evh_json *json, evh_value object, unsigned depth)
{
    napi_value made;
    if (napi_create_object(env, &made)) return NULL;
    evh_cursor cursor = evh_cursor_begin((evh_node){json, object});
    while (evh_cursor_next(&cursor)) {
        napi_handle_scope scope;
        if (napi_open_handle_scope(env, &scope)) return NULL;
        const napi_value key = binding_string(env, cursor.key, cursor.key_size);
        const napi_value member = key ? binding_read(env, json, cursor.value, depth + 1) : NULL;
        /* As JSON.parse() does it: a key "__proto__" is a member like others. */
        bool is_set = false;
        if (member) {
            const napi_property_descriptor property = {
                .name = key,
                .value = member,
                .attributes = napi_writable | napi_enumerable | napi_configurable};
            is_set = !napi_define_properties(env, made, 1, &property);
        }
        napi_close_handle_scope(env, scope);
        if (!is_set) return NULL;
    }
    return made;
}

static napi_value read_integer(napi_env env, int64_t number)
{
    napi_value made = NULL;
    if (fabs((double)number) <= safe_max)
        (void)napi_create_int64(env, number, &made);
    else
        (void)napi_create_bigint_int64(env, number, &made);
    return made;
}

static napi_value read_leaf(napi_env env, evh_json *json, evh_value value)
{
    napi_value made = NULL;
    size_t size = 0;
    switch (evh_json_type_of(json, value)) {
    case EVH_JSON_NULL: (void)napi_get_null(env, &made); return made;
    case EVH_JSON_BOOLEAN:
        (void)napi_get_boolean(env, evh_json_boolean(json, value, NULL), &made);
        return made;
    case EVH_JSON_INTEGER: return read_integer(env, evh_json_integer(json, value, NULL));
    case EVH_JSON_UNSIGNED:
        (void)napi_create_bigint_uint64(env, evh_json_unsigned(json, value, NULL), &made);
        return made;
    case EVH_JSON_REAL:
    case EVH_JSON_DIGITS:
        (void)napi_create_double(env, evh_json_real(json, value, NULL), &made);
        return made;
    case EVH_JSON_STRING: {
        const char *const text = evh_json_text(json, value, &size);
        return binding_string(env, text, size);
    }
    case EVH_JSON_BYTES: {
        const void *const bytes = evh_json_bytes(json, value, &size);
        if (bytes) (void)napi_create_buffer_copy(env, size, bytes, NULL, &made);
        return made;
    }
    case EVH_JSON_REF: {
        const char *const text = evh_json_text(json, value, &size);
        const napi_value path = binding_string(env, text, size);
        if (!path || napi_create_object(env, &made)) return NULL;
        return napi_set_named_property(env, made, "$ref", path) ? NULL : made;
    }
    default: return binding_fail(env);
    }
}

napi_value binding_read(napi_env env, evh_json *json, evh_value value, unsigned depth)
{
    if (depth > 2 * BINDING_DEPTH_MAX) return too_deep(env);
    const evh_json_type type = evh_json_type_of(json, value);
    if (type == EVH_JSON_ARRAY) return read_array(env, json, value, depth);
    if (type == EVH_JSON_OBJECT) return read_object(env, json, value, depth);
    return read_leaf(env, json, value);
}

/* ---- from JavaScript ---- */

static bool written(napi_env env, evh_status status)
{
    if (status) binding_fail(env);
    return !status;
}

static bool write_text(napi_env env, evh_json *json, evh_value value, napi_value from)
{
    size_t size = 0;
    char *const text = binding_text(env, from, &size);
    const bool is_fine = text && written(env, evh_json_set_text(json, value, text, size));
    free(text);
    return is_fine;
}

static bool write_number(napi_env env, evh_json *json, evh_value value, napi_value from)
{
    double number = 0;
    if (napi_get_value_double(env, from, &number)) return false;
    const bool is_integer =
        fabs(number) <= safe_max && number == floor(number) && !(number == 0 && signbit(number));
    return written(env, is_integer ? evh_json_set_integer(json, value, (int64_t)number)
                                   : evh_json_set_real(json, value, number));
}

static bool write_bigint(napi_env env, evh_json *json, evh_value value, napi_value from)
{
    napi_value digits;
    size_t size = 0;
    if (napi_coerce_to_string(env, from, &digits)) return false;
    char *const text = binding_text(env, digits, &size);
    const bool is_fine = text && written(env, evh_json_set_number(json, value, text, size));
    free(text);
    return is_fine;
}

static bool write_array(napi_env env, evh_json *json, evh_value value, napi_value from,
                        unsigned depth)
{
    uint32_t count = 0;
    if (napi_get_array_length(env, from, &count)) return false;
    if (!written(env, evh_json_set_array(json, value))) return false;
    for (uint32_t i = 0; i < count; i++) {
        napi_handle_scope scope;
        napi_value item;
        evh_value place;
        if (napi_open_handle_scope(env, &scope)) return false;
        const bool is_set = !napi_get_element(env, from, i, &item) &&
                            written(env, evh_json_append(json, value, &place)) &&
                            binding_write(env, json, place, item, depth + 1);
        napi_close_handle_scope(env, scope);
        if (!is_set) return false;
    }
    return true;
}

/* One member of an object; "$ref" alone is a reference. */
static bool write_member(napi_env env, evh_json *json, evh_value value, napi_value from,
                         napi_value key, bool is_alone, unsigned depth)
{
    napi_value member;
    napi_valuetype type = napi_undefined;
    size_t size = 0, path_size = 0;
    evh_value place;
    if (napi_get_property(env, from, key, &member) || napi_typeof(env, member, &type)) return false;
    if (type == napi_undefined) return true; /* as JSON.stringify() leaves it out */
    char *const text = binding_text(env, key, &size);
    if (!text) return false;
    bool is_fine;
    if (is_alone && strcmp(text, "$ref") == 0 && type == napi_string) {
        char *const path = binding_text(env, member, &path_size);
        is_fine = path && written(env, evh_json_set_ref(json, value, path, path_size));
        free(path);
    } else {
        is_fine = written(env, evh_json_put(json, value, text, size, &place)) &&
                  binding_write(env, json, place, member, depth + 1);
    }
    free(text);
    return is_fine;
}

static bool write_object(napi_env env, evh_json *json, evh_value value, napi_value from,
                         unsigned depth)
{
    napi_value keys;
    uint32_t count = 0;
    if (napi_get_all_property_names(env, from, napi_key_own_only,
                                    napi_key_enumerable | napi_key_skip_symbols,
                                    napi_key_numbers_to_strings, &keys) ||
        napi_get_array_length(env, keys, &count))
        return false;
    if (!written(env, evh_json_set_object(json, value))) return false;
    for (uint32_t i = 0; i < count; i++) {
        napi_handle_scope scope;
        napi_value key;
        if (napi_open_handle_scope(env, &scope)) return false;
        const bool is_set = !napi_get_element(env, keys, i, &key) &&
                            write_member(env, json, value, from, key, count == 1, depth);
        napi_close_handle_scope(env, scope);
        if (!is_set) return false;
    }
    return true;
}

static bool write_container(napi_env env, evh_json *json, evh_value value, napi_value from,
                            unsigned depth)
{
    bool is = false;
    if (depth >= BINDING_DEPTH_MAX) return too_deep(env) != NULL;
    if (!napi_is_buffer(env, from, &is) && is) {
        void *bytes = NULL;
        size_t size = 0;
        if (napi_get_buffer_info(env, from, &bytes, &size)) return false;
        return written(env, evh_json_set_bytes(json, value, size ? bytes : "", size));
    }
    if (!napi_is_array(env, from, &is) && is) return write_array(env, json, value, from, depth);
    return write_object(env, json, value, from, depth);
}

bool binding_write(napi_env env, evh_json *json, evh_value value, napi_value from, unsigned depth)
{
    napi_valuetype type = napi_undefined;
    bool boolean = false;
    if (napi_typeof(env, from, &type)) return false;
    switch (type) {
    case napi_null: return written(env, evh_json_set_null(json, value));
    case napi_boolean:
        (void)napi_get_value_bool(env, from, &boolean);
        return written(env, evh_json_set_boolean(json, value, boolean));
    case napi_number: return write_number(env, json, value, from);
    case napi_bigint: return write_bigint(env, json, value, from);
    case napi_string: return write_text(env, json, value, from);
    case napi_object: return write_container(env, json, value, from, depth);
    default:
        napi_throw_type_error(env, NULL, "undefined, symbols and functions are no values");
        return false;
    }
}
