/* database.c -- everheap.Database without its Python half: values by JSON Pointer. */
#include "binding.h"

typedef struct binding_database {
    PyObject_HEAD evh_db *db; /* NULL when it is closed */
} binding_database;

static evh_db *db_of(PyObject *self)
{
    evh_db *const db = ((binding_database *)self)->db;
    if (!db) PyErr_SetString(PyExc_ValueError, "the database is closed");
    return db;
}

/* Nothing there is a KeyError, everything else an Error. */
static PyObject *fail_at(const char *path)
{
    const evh_status status = evh_last_error()->status;
    if (status != EVH_NOT_FOUND && status != EVH_OK) return binding_fail();
    PyErr_SetString(PyExc_KeyError, path);
    return NULL;
}

/* ---- values of a document as values of Python ---- */

static PyObject *value_read(evh_json *json, evh_value value);

static PyObject *text_read(const char *text, size_t size)
{
    return PyUnicode_DecodeUTF8(text ? text : "", text ? (Py_ssize_t)size : 0, NULL);
}

static PyObject *digits_read(evh_json *json, evh_value value)
{
    const char *const text = evh_json_text(json, value, NULL);
    if (!text) return binding_fail();
    if (!strpbrk(text, ".eE")) return PyLong_FromString(text, NULL, 10);
    PyObject *const word = PyUnicode_FromString(text);
    PyObject *const number = word ? PyFloat_FromString(word) : NULL;
    Py_XDECREF(word);
    return number;
}

static PyObject *array_read(evh_json *json, evh_value array)
{
    const size_t count = evh_json_count(json, array);
    PyObject *const list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *const item = value_read(json, evh_json_at(json, array, i));
        if (!item) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *object_read(evh_json *json, evh_value object)
{
    PyObject *const dict = PyDict_New();
    evh_cursor cursor = evh_cursor_begin((evh_node){json, object});
    while (dict && evh_cursor_next(&cursor)) {
        PyObject *const key = text_read(cursor.key, cursor.key_size);
        PyObject *const member = key ? value_read(json, cursor.value) : NULL;
        const int failed = !member || PyDict_SetItem(dict, key, member);
        Py_XDECREF(key);
        Py_XDECREF(member);
        if (failed) {
            Py_DECREF(dict);
            return NULL;
        }
    }
    return dict;
}

static PyObject *leaf_read(evh_json *json, evh_value value)
{
    size_t size = 0;
    switch (evh_json_type_of(json, value)) {
    case EVH_JSON_NULL: Py_RETURN_NONE;
    case EVH_JSON_BOOLEAN: return PyBool_FromLong(evh_json_boolean(json, value, NULL));
    case EVH_JSON_INTEGER: return PyLong_FromLongLong(evh_json_integer(json, value, NULL));
    case EVH_JSON_UNSIGNED:
        return PyLong_FromUnsignedLongLong(evh_json_unsigned(json, value, NULL));
    case EVH_JSON_REAL: return PyFloat_FromDouble(evh_json_real(json, value, NULL));
    case EVH_JSON_DIGITS: return digits_read(json, value);
    case EVH_JSON_STRING: {
        const char *const text = evh_json_text(json, value, &size);
        return text_read(text, size);
    }
    case EVH_JSON_BYTES: {
        const void *const bytes = evh_json_bytes(json, value, &size);
        return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
    }
    case EVH_JSON_REF: {
        const char *const text = evh_json_text(json, value, &size);
        return Py_BuildValue("{ss#}", "$ref", text ? text : "", (Py_ssize_t)(text ? size : 0));
    }
    default: return binding_fail();
    }
}

static PyObject *value_read(evh_json *json, evh_value value)
{
    if (Py_EnterRecursiveCall(" in a document")) return NULL;
    const evh_json_type type = evh_json_type_of(json, value);
    PyObject *const result = type == EVH_JSON_ARRAY    ? array_read(json, value)
                             : type == EVH_JSON_OBJECT ? object_read(json, value)
                                                       : leaf_read(json, value);
    Py_LeaveRecursiveCall();
    return result;
}

/* ---- and back ---- */

static bool value_write(evh_json *json, evh_value value, PyObject *object);

static bool written(evh_status status)
{
    if (status) binding_fail();
    return !status;
}

static bool integer_write(evh_json *json, evh_value value, PyObject *object)
{
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (!overflow) return written(evh_json_set_integer(json, value, number));
    PyObject *const digits = PyNumber_ToBase(object, 10);
    Py_ssize_t size = 0;
    const char *const text = digits ? PyUnicode_AsUTF8AndSize(digits, &size) : NULL;
    const bool is_fine = text && written(evh_json_set_number(json, value, text, (size_t)size));
    Py_XDECREF(digits);
    return is_fine;
}

static bool list_write(evh_json *json, evh_value value, PyObject *object)
{
    if (!written(evh_json_set_array(json, value))) return false;
    PyObject *const items = PySequence_Fast(object, "a list");
    bool is_fine = items != NULL;
    for (Py_ssize_t i = 0; is_fine && i < PySequence_Fast_GET_SIZE(items); i++) {
        evh_value item;
        is_fine = written(evh_json_append(json, value, &item)) &&
                  value_write(json, item, PySequence_Fast_GET_ITEM(items, i));
    }
    Py_XDECREF(items);
    return is_fine;
}

static bool dict_write(evh_json *json, evh_value value, PyObject *object)
{
    PyObject *key, *member;
    Py_ssize_t at = 0, size = 0;
    if (PyDict_GET_SIZE(object) == 1 && PyDict_Next(object, &at, &key, &member) &&
        PyUnicode_Check(key) && PyUnicode_CompareWithASCIIString(key, "$ref") == 0 &&
        PyUnicode_Check(member)) {
        const char *const path = PyUnicode_AsUTF8AndSize(member, &size);
        return path && written(evh_json_set_ref(json, value, path, (size_t)size));
    }
    if (!written(evh_json_set_object(json, value))) return false;
    for (at = 0; PyDict_Next(object, &at, &key, &member);) {
        if (!PyUnicode_Check(key)) {
            PyErr_SetString(PyExc_TypeError, "keys are strings");
            return false;
        }
        const char *const text = PyUnicode_AsUTF8AndSize(key, &size);
        evh_value place;
        if (!text || !written(evh_json_put(json, value, text, (size_t)size, &place)) ||
            !value_write(json, place, member))
            return false;
    }
    return true;
}

static bool leaf_write(evh_json *json, evh_value value, PyObject *object)
{
    Py_ssize_t size = 0;
    char *bytes = NULL;
    if (object == Py_None) return written(evh_json_set_null(json, value));
    if (PyBool_Check(object)) return written(evh_json_set_boolean(json, value, object == Py_True));
    if (PyLong_Check(object)) return integer_write(json, value, object);
    if (PyFloat_Check(object))
        return written(evh_json_set_real(json, value, PyFloat_AS_DOUBLE(object)));
    if (PyUnicode_Check(object)) {
        const char *const text = PyUnicode_AsUTF8AndSize(object, &size);
        return text && written(evh_json_set_text(json, value, text, (size_t)size));
    }
    if (PyBytes_Check(object))
        return !PyBytes_AsStringAndSize(object, &bytes, &size) &&
               written(evh_json_set_bytes(json, value, bytes, (size_t)size));
    PyErr_Format(PyExc_TypeError, "%.100s is no value of a document", Py_TYPE(object)->tp_name);
    return false;
}

static bool value_write(evh_json *json, evh_value value, PyObject *object)
{
    if (Py_EnterRecursiveCall(" in a document")) return false;
    const bool is_fine = PyDict_Check(object) ? dict_write(json, value, object)
                         : PyList_Check(object) || PyTuple_Check(object)
                             ? list_write(json, value, object)
                             : leaf_write(json, value, object);
    Py_LeaveRecursiveCall();
    return is_fine;
}

/* ---- the object ---- */

static int db_begin(PyObject *self, PyObject *arguments, PyObject *names)
{
    static char *words[] = {"path", "mode", "must_exist", "name", "commit_sequence", NULL};
    PyObject *path = NULL;
    unsigned mode = EVH_DURABLE;
    int must_exist = 0;
    const char *name = NULL;
    unsigned long long sequence = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "O&|IpzK", words, PyUnicode_FSConverter,
                                     &path, &mode, &must_exist, &name, &sequence))
        return -1;
    const evh_db_options options = {
        .mode = mode, .must_exist = must_exist, .name = name, .commit_sequence = sequence};
    binding_database *const object = (binding_database *)self;
    (void)evh_db_close(object->db);
    object->db = evh_db_open(PyBytes_AS_STRING(path), &options);
    Py_DECREF(path);
    if (object->db) return 0;
    binding_fail();
    return -1;
}

static void db_end(PyObject *self)
{
    (void)evh_db_close(((binding_database *)self)->db);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *db_close(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    evh_db *const db = ((binding_database *)self)->db;
    ((binding_database *)self)->db = NULL;
    return binding_done(evh_db_close(db));
}

static PyObject *db_commit(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    evh_db *const db = db_of(self);
    return db ? binding_done(evh_db_commit(db)) : NULL;
}

static PyObject *db_rollback(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    evh_db *const db = db_of(self);
    return db ? binding_done(evh_db_rollback(db)) : NULL;
}

static PyObject *db_get(PyObject *self, PyObject *argument)
{
    evh_db *const db = db_of(self);
    const char *const path = db ? PyUnicode_AsUTF8(argument) : NULL;
    if (!path) return NULL;
    const evh_node node = evh_db_get(db, path);
    return evh_node_is(node) ? value_read(node.json, node.value) : fail_at(path);
}

/* (type, count) of what is at a path: a container need not be read as a whole. */
static PyObject *db_look(PyObject *self, PyObject *argument)
{
    evh_db *const db = db_of(self);
    const char *const path = db ? PyUnicode_AsUTF8(argument) : NULL;
    if (!path) return NULL;
    const evh_node node = evh_db_get(db, path);
    if (!evh_node_is(node)) return fail_at(path);
    return Py_BuildValue("(sn)", evh_json_type_name(evh_node_type(node)),
                         (Py_ssize_t)evh_json_count(node.json, node.value));
}

static PyObject *db_keys(PyObject *self, PyObject *argument)
{
    evh_db *const db = db_of(self);
    const char *const path = db ? PyUnicode_AsUTF8(argument) : NULL;
    if (!path) return NULL;
    const evh_node node = evh_db_get(db, path);
    if (!evh_node_is(node)) return fail_at(path);
    PyObject *const keys = PyList_New(0);
    evh_cursor cursor = evh_cursor_begin(node);
    while (keys && evh_cursor_next(&cursor) && cursor.key) {
        PyObject *const key = text_read(cursor.key, cursor.key_size);
        const int failed = !key || PyList_Append(keys, key);
        Py_XDECREF(key);
        if (failed) {
            Py_DECREF(keys);
            return NULL;
        }
    }
    return keys;
}

/* Built outside the document first, so that a value that cannot be one changes nothing. */
static PyObject *db_put(PyObject *self, PyObject *arguments)
{
    evh_db *const db = db_of(self);
    const char *path;
    PyObject *object;
    if (!db || !PyArg_ParseTuple(arguments, "sO", &path, &object)) return NULL;
    evh_json *const json = evh_db_json(db);
    const evh_value made = evh_json_detached(json);
    if (!evh_json_is(made)) return binding_fail();
    if (value_write(json, made, object)) {
        const evh_value target = evh_db_make(db, path);
        if (!evh_json_is(target))
            fail_at(path);
        else if (evh_json_move(json, target, made))
            binding_fail();
    }
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    (void)evh_json_erase(json, made);
    PyErr_Restore(type, value, trace);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *db_push(PyObject *self, PyObject *arguments)
{
    evh_db *const db = db_of(self);
    const char *path;
    PyObject *object;
    if (!db || !PyArg_ParseTuple(arguments, "sO", &path, &object)) return NULL;
    evh_json *const json = evh_db_json(db);
    evh_value item;
    if (evh_db_push(db, path, &item)) return fail_at(path);
    if (value_write(json, item, object)) Py_RETURN_NONE;
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    (void)evh_json_erase(json, item);
    PyErr_Restore(type, value, trace);
    return NULL;
}

static PyObject *db_erase(PyObject *self, PyObject *argument)
{
    evh_db *const db = db_of(self);
    const char *const path = db ? PyUnicode_AsUTF8(argument) : NULL;
    if (!path) return NULL;
    return evh_db_erase(db, path) ? fail_at(path) : Py_NewRef(Py_None);
}

static PyObject *db_exists(PyObject *self, PyObject *argument)
{
    evh_db *const db = db_of(self);
    const char *const path = db ? PyUnicode_AsUTF8(argument) : NULL;
    return path ? PyBool_FromLong(evh_db_exists(db, path)) : NULL;
}

static PyObject *db_increment(PyObject *self, PyObject *arguments)
{
    evh_db *const db = db_of(self);
    const char *path;
    PyObject *by;
    if (!db || !PyArg_ParseTuple(arguments, "sO", &path, &by)) return NULL;
    evh_status status = EVH_OK;
    if (PyFloat_Check(by)) {
        status = evh_db_increment_real(db, path, PyFloat_AS_DOUBLE(by));
    } else {
        const long long number = PyLong_AsLongLong(by);
        if (number == -1 && PyErr_Occurred()) return NULL;
        status = evh_db_increment(db, path, number);
    }
    return binding_done(status);
}

/* Apply a JSON Patch or a Merge Patch, which is a text. */
static PyObject *db_patch(PyObject *self, PyObject *arguments)
{
    evh_db *const db = db_of(self);
    const char *path, *text;
    Py_ssize_t size;
    int is_merge;
    if (!db || !PyArg_ParseTuple(arguments, "ss#p", &path, &text, &size, &is_merge)) return NULL;
    const evh_value target = evh_db_make(db, path);
    if (!evh_json_is(target)) return fail_at(path);
    evh_json *const json = evh_db_json(db);
    return binding_done(is_merge ? evh_json_merge_text(json, target, text, (size_t)size)
                                 : evh_json_patch_text(json, target, text, (size_t)size));
}

/* ---- what a query or a search finds ---- */

struct found {
    evh_db *db;
    PyObject *list; /* of paths */
};

static bool found_add(struct found *found, evh_value value)
{
    const size_t size = evh_db_path(found->db, value, NULL, 0);
    if (size == SIZE_MAX) return true; /* gone */
    char *const path = PyMem_Malloc(size + 1);
    if (!path) return PyErr_NoMemory() != NULL;
    evh_db_path(found->db, value, path, size + 1);
    PyObject *const text = text_read(path, size);
    const bool is_added = text && PyList_Append(found->list, text) == 0;
    Py_XDECREF(text);
    PyMem_Free(path);
    return is_added;
}

static bool query_found(evh_value value, void *context)
{
    return found_add(context, value);
}

static bool search_found(const evh_db_hit *hit, void *context)
{
    return found_add(context, hit->value);
}

static PyObject *found_end(struct found *found, evh_status status)
{
    if (!status && !PyErr_Occurred()) return found->list;
    Py_XDECREF(found->list);
    return PyErr_Occurred() ? NULL : binding_fail();
}

static PyObject *db_query(PyObject *self, PyObject *argument)
{
    evh_db *const db = db_of(self);
    Py_ssize_t size = 0;
    const char *const text = db ? PyUnicode_AsUTF8AndSize(argument, &size) : NULL;
    if (!text) return NULL;
    evh_json_query *const query = evh_json_query_compile(text, (size_t)size);
    if (!query) return binding_fail();
    struct found found = {db, PyList_New(0)};
    evh_json *const json = evh_db_json(db);
    const evh_status status =
        found.list ? evh_json_query_run(json, evh_json_root(json), query, query_found, &found)
                   : EVH_OK;
    evh_json_query_end(query);
    return found_end(&found, status);
}

static PyObject *db_search(PyObject *self, PyObject *arguments)
{
    evh_db *const db = db_of(self);
    const char *text;
    Py_ssize_t size;
    int ignore_case;
    unsigned long long limit;
    if (!db || !PyArg_ParseTuple(arguments, "s#pK", &text, &size, &ignore_case, &limit))
        return NULL;
    struct found found = {db, PyList_New(0)};
    const evh_db_search_options options = {.ignore_case = ignore_case, .limit = limit};
    const evh_status status =
        found.list ? evh_db_search(db, text, (size_t)size, &options, search_found, &found, NULL)
                   : EVH_OK;
    return found_end(&found, status);
}

static PyObject *db_dump(PyObject *self, PyObject *arguments)
{
    evh_db *const db = db_of(self);
    const char *path;
    unsigned indent;
    if (!db || !PyArg_ParseTuple(arguments, "sI", &path, &indent)) return NULL;
    const evh_node node = evh_db_get(db, path);
    if (!evh_node_is(node)) return fail_at(path);
    size_t size = 0;
    const evh_json_write_options options = {.indent = indent};
    char *const text = evh_json_print(node.json, node.value, &options, &size);
    PyObject *const result = text ? text_read(text, size) : binding_fail();
    free(text);
    return result;
}

static PyObject *db_load(PyObject *self, PyObject *arguments)
{
    evh_db *const db = db_of(self);
    const char *path, *text;
    Py_ssize_t size;
    if (!db || !PyArg_ParseTuple(arguments, "ss#", &path, &text, &size)) return NULL;
    return binding_done(evh_db_put_json(db, path, text, (size_t)size));
}

static PyMethodDef db_methods[] = {
    {"close", db_close, METH_NOARGS, "Close it; what was not committed is gone."},
    {"commit", db_commit, METH_NOARGS, "Make every change durable, all or nothing."},
    {"rollback", db_rollback, METH_NOARGS, "Undo every change since the last commit."},
    {"get_value", db_get, METH_O, "The value at a path, as a value of Python's."},
    {"look", db_look, METH_O, "(type, count) of what is at a path."},
    {"keys_at", db_keys, METH_O, "The keys of the object at a path."},
    {"put", db_put, METH_VARARGS, "put(path, value): set the value at a path."},
    {"push", db_push, METH_VARARGS, "push(path, value): append to the array at a path."},
    {"erase", db_erase, METH_O, "Take the value at a path out."},
    {"exists", db_exists, METH_O, "Whether there is something at a path."},
    {"increment", db_increment, METH_VARARGS, "increment(path, by): add to a number."},
    {"apply", db_patch, METH_VARARGS, NULL},
    {"query", db_query, METH_O, "The paths of what a JSONPath query (RFC 9535) finds."},
    {"search_paths", db_search, METH_VARARGS, NULL},
    {"dump_text", db_dump, METH_VARARGS, NULL},
    {"load_text", db_load, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyTypeObject binding_database_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "everheap._everheap.Database",
    .tp_basicsize = sizeof(binding_database),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_init = db_begin,
    .tp_dealloc = db_end,
    .tp_methods = db_methods,
};
