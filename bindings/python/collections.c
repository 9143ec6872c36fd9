/* collections.c -- collections of a heap, by the name of their root: bytes in, bytes out. */
#include "binding.h"

/* A handle is 8 bytes in a root. Reading one that is not there reads an empty collection. */
static const uint64_t nothing_there;

static void *find_handle(PyObject *self, const char *name, bool is_change)
{
    evh_heap *const heap = binding_heap_of(self);
    if (!heap) return NULL;
    size_t size = 0;
    void *root = evh_root_find(heap, name, &size);
    if (!root && is_change) root = evh_root(heap, name, size = sizeof(uint64_t));
    if (!root && is_change) return binding_fail();
    if (root && size < sizeof(uint64_t)) {
        PyErr_Format(PyExc_TypeError, "the root '%s' is no collection", name);
        return NULL;
    }
    return root ? root : (void *)(uintptr_t)&nothing_there;
}

static PyObject *absent(PyObject *key)
{
    PyErr_SetObject(PyExc_KeyError, key);
    return NULL;
}

/* What a slot holds: its bytes, or of a slot that is a string the string's. */
static PyObject *slot_value(evh_heap *heap, const void *slot, size_t size, int is_text)
{
    if (!is_text) return PyBytes_FromStringAndSize(slot, (Py_ssize_t)size);
    const char *const text = evh_str_text(heap, slot, &size);
    return PyBytes_FromStringAndSize(text, (Py_ssize_t)size);
}

static evh_status slot_set(evh_heap *heap, void *slot, const Py_buffer *value, int is_text)
{
    if (is_text) return evh_str_set(heap, slot, value->buf, (size_t)value->len);
    memcpy(slot, value->buf, (size_t)value->len);
    return EVH_OK;
}

/* ---- str ---- */

static PyObject *str_get(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    if (!PyArg_ParseTuple(arguments, "O!s", &binding_heap_type, &self, &name)) return NULL;
    const evh_str *const handle = find_handle(self, name, false);
    return handle ? slot_value(binding_heap_of(self), handle, 8, true) : NULL;
}

static PyObject *str_put(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    Py_buffer text;
    int is_append;
    if (!PyArg_ParseTuple(arguments, "O!sy*p", &binding_heap_type, &self, &name, &text, &is_append))
        return NULL;
    evh_heap *const heap = binding_heap_of(self);
    if (heap) evh_enter(heap);
    evh_str *const handle = find_handle(self, name, true);
    evh_status status = EVH_OK;
    if (handle)
        status = is_append ? evh_str_append(heap, handle, text.buf, (size_t)text.len)
                           : evh_str_set(heap, handle, text.buf, (size_t)text.len);
    if (heap) evh_leave(heap);
    PyBuffer_Release(&text);
    return handle ? binding_done(status) : NULL;
}

/* ---- vec ---- */

static PyObject *vec_count(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    if (!PyArg_ParseTuple(arguments, "O!s", &binding_heap_type, &self, &name)) return NULL;
    const evh_vec *const handle = find_handle(self, name, false);
    return handle ? PyLong_FromSize_t(evh_vec_count(binding_heap_of(self), handle)) : NULL;
}

/* Whether the vec's items have this size, or there are none. */
static bool vec_fits(evh_heap *heap, const evh_vec *handle, Py_ssize_t size)
{
    const size_t actual = evh_vec_item_size(heap, handle);
    if (actual == 0 || actual == (size_t)size) return true;
    PyErr_Format(PyExc_TypeError, "items have %zu bytes, not %zd", actual, size);
    return false;
}

static PyObject *vec_get(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    Py_ssize_t index, size;
    int is_text;
    if (!PyArg_ParseTuple(arguments, "O!snnp", &binding_heap_type, &self, &name, &index, &size,
                          &is_text))
        return NULL;
    const evh_vec *const handle = find_handle(self, name, false);
    if (!handle || !vec_fits(binding_heap_of(self), handle, size)) return NULL;
    const void *const item =
        index < 0 ? NULL : evh_vec_at(binding_heap_of(self), handle, (size_t)index);
    if (item) return slot_value(binding_heap_of(self), item, (size_t)size, is_text);
    PyErr_SetString(PyExc_IndexError, "no such item");
    return NULL;
}

static PyObject *vec_data(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    if (!PyArg_ParseTuple(arguments, "O!s", &binding_heap_type, &self, &name)) return NULL;
    const evh_vec *const handle = find_handle(self, name, false);
    if (!handle) return NULL;
    size_t count = 0;
    evh_heap *const heap = binding_heap_of(self);
    const void *const items = evh_vec_data(heap, handle, &count);
    return PyBytes_FromStringAndSize(items, (Py_ssize_t)(count * evh_vec_item_size(heap, handle)));
}

/* Set the item at `index`, or insert one before it. */
static PyObject *vec_put(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    Py_ssize_t index, size;
    Py_buffer value;
    int is_insert, is_text;
    if (!PyArg_ParseTuple(arguments, "O!snny*pp", &binding_heap_type, &self, &name, &index, &size,
                          &value, &is_insert, &is_text))
        return NULL;
    evh_heap *const heap = binding_heap_of(self);
    if (heap) evh_enter(heap);
    evh_vec *const handle = find_handle(self, name, true);
    PyObject *result = NULL;
    if (handle && vec_fits(heap, handle, size) && index >= 0) {
        void *const item = is_insert
                               ? evh_vec_insert(heap, handle, (size_t)size, (size_t)index, NULL, 1)
                               : evh_vec_at(heap, handle, (size_t)index);
        if (item)
            result = binding_done(slot_set(heap, item, &value, is_text));
        else if (is_insert)
            binding_fail();
    }
    if (heap) evh_leave(heap);
    PyBuffer_Release(&value);
    if (!result && !PyErr_Occurred()) PyErr_SetString(PyExc_IndexError, "no such item");
    return result;
}

static PyObject *vec_erase(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    Py_ssize_t index, count;
    int is_text;
    if (!PyArg_ParseTuple(arguments, "O!snnp", &binding_heap_type, &self, &name, &index, &count,
                          &is_text))
        return NULL;
    evh_heap *const heap = binding_heap_of(self);
    if (heap) evh_enter(heap);
    evh_vec *const handle = find_handle(self, name, true);
    evh_status status = EVH_OK;
    for (Py_ssize_t i = 0; handle && is_text && i < count && !status; i++) {
        evh_str *const text = evh_vec_at(heap, handle, (size_t)(index + i));
        if (text) status = evh_str_clear(heap, text);
    }
    if (handle && !status) status = evh_vec_erase(heap, handle, (size_t)index, (size_t)count);
    if (heap) evh_leave(heap);
    return handle ? binding_done(status) : NULL;
}

/* ---- map and tree: one set of calls, `kind` chooses ---- */

enum kind { KIND_MAP, KIND_TREE };

struct key {
    Py_buffer bytes;
    uint64_t number;
    bool is_number;
};

/* "O&" of PyArg_ParseTuple(): an integer, or bytes. */
static int key_take(PyObject *object, void *context)
{
    struct key *const key = context;
    if (!object) {
        if (!key->is_number) PyBuffer_Release(&key->bytes);
        return 1;
    }
    key->is_number = PyLong_Check(object);
    if (!key->is_number)
        return PyObject_GetBuffer(object, &key->bytes, PyBUF_SIMPLE) ? 0 : Py_CLEANUP_SUPPORTED;
    key->number = PyLong_AsUnsignedLongLong(object);
    return PyErr_Occurred() ? 0 : Py_CLEANUP_SUPPORTED;
}

static void key_end(struct key *key)
{
    if (!key->is_number) PyBuffer_Release(&key->bytes);
}

static void *entry_get(evh_heap *heap, enum kind kind, void *handle, const struct key *key)
{
    if (key->is_number)
        return kind == KIND_MAP ? evh_map_get(heap, handle, key->number)
                                : evh_tree_get(heap, handle, key->number);
    const size_t size = (size_t)key->bytes.len;
    return kind == KIND_MAP ? evh_map_get_bytes(heap, handle, key->bytes.buf, size)
                            : evh_tree_get_bytes(heap, handle, key->bytes.buf, size);
}

static void *entry_put(evh_heap *heap, enum kind kind, void *handle, const struct key *key,
                       size_t size)
{
    if (key->is_number)
        return kind == KIND_MAP ? evh_map_put(heap, handle, key->number, size)
                                : evh_tree_put(heap, handle, key->number, size);
    const size_t key_size = (size_t)key->bytes.len;
    return kind == KIND_MAP ? evh_map_put_bytes(heap, handle, key->bytes.buf, key_size, size)
                            : evh_tree_put_bytes(heap, handle, key->bytes.buf, key_size, size);
}

static bool entry_erase(evh_heap *heap, enum kind kind, void *handle, const struct key *key)
{
    if (key->is_number)
        return kind == KIND_MAP ? evh_map_erase(heap, handle, key->number)
                                : evh_tree_erase(heap, handle, key->number);
    const size_t size = (size_t)key->bytes.len;
    return kind == KIND_MAP ? evh_map_erase_bytes(heap, handle, key->bytes.buf, size)
                            : evh_tree_erase_bytes(heap, handle, key->bytes.buf, size);
}

/* Whether its values have this size, or there are none. */
static bool entry_fits(evh_heap *heap, enum kind kind, const void *handle, Py_ssize_t size)
{
    const uint64_t count =
        kind == KIND_MAP ? evh_map_count(heap, handle) : evh_tree_count(heap, handle);
    const size_t actual =
        kind == KIND_MAP ? evh_map_value_size(heap, handle) : evh_tree_value_size(heap, handle);
    if (count == 0 || actual == (size_t)size) return true;
    PyErr_Format(PyExc_TypeError, "values have %zu bytes, not %zd", actual, size);
    return false;
}

static PyObject *dict_get(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    int kind, is_text;
    struct key key;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "O!isO&np", &binding_heap_type, &self, &kind, &name, key_take,
                          &key, &size, &is_text))
        return NULL;
    void *const handle = find_handle(self, name, false);
    PyObject *result = NULL;
    if (handle && entry_fits(binding_heap_of(self), (enum kind)kind, handle, size)) {
        const void *const slot = entry_get(binding_heap_of(self), (enum kind)kind, handle, &key);
        result = slot ? slot_value(binding_heap_of(self), slot, (size_t)size, is_text)
                      : absent(PyTuple_GET_ITEM(arguments, 3));
    }
    key_end(&key);
    return result;
}

static PyObject *dict_put(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self, *result = NULL;
    const char *name;
    int kind, is_text;
    struct key key;
    Py_ssize_t size;
    Py_buffer value;
    if (!PyArg_ParseTuple(arguments, "O!isO&ny*p", &binding_heap_type, &self, &kind, &name,
                          key_take, &key, &size, &value, &is_text))
        return NULL;
    evh_heap *const heap = binding_heap_of(self);
    if (heap) evh_enter(heap);
    void *const handle = find_handle(self, name, true);
    if (handle && entry_fits(heap, (enum kind)kind, handle, size)) {
        void *const slot = entry_put(heap, (enum kind)kind, handle, &key, (size_t)size);
        result = slot ? binding_done(slot_set(heap, slot, &value, is_text)) : binding_fail();
    }
    if (heap) evh_leave(heap);
    key_end(&key);
    PyBuffer_Release(&value);
    return result;
}

static PyObject *dict_erase(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    int kind, is_text;
    struct key key;
    if (!PyArg_ParseTuple(arguments, "O!isO&p", &binding_heap_type, &self, &kind, &name, key_take,
                          &key, &is_text))
        return NULL;
    evh_heap *const heap = binding_heap_of(self);
    if (heap) evh_enter(heap);
    void *const handle = find_handle(self, name, true);
    void *const slot = handle ? entry_get(heap, (enum kind)kind, handle, &key) : NULL;
    evh_status status = slot && is_text ? evh_str_clear(heap, slot) : EVH_OK;
    const bool is_gone = slot && !status && entry_erase(heap, (enum kind)kind, handle, &key);
    if (heap) evh_leave(heap);
    key_end(&key);
    if (!handle) return NULL;
    if (status) return binding_fail();
    return is_gone ? Py_NewRef(Py_None) : absent(PyTuple_GET_ITEM(arguments, 3));
}

static PyObject *dict_count(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    int kind;
    if (!PyArg_ParseTuple(arguments, "O!is", &binding_heap_type, &self, &kind, &name)) return NULL;
    const void *const handle = find_handle(self, name, false);
    if (!handle) return NULL;
    return PyLong_FromUnsignedLongLong(kind == KIND_MAP
                                           ? evh_map_count(binding_heap_of(self), handle)
                                           : evh_tree_count(binding_heap_of(self), handle));
}

/* ---- iteration: pages of items ---- */

enum { PAGE_ITEMS = 256 };

/* Append (key, value); false after raising. */
static bool page_add(PyObject *page, evh_heap *heap, bool is_number, uint64_t number,
                     const char *bytes, size_t key_size, const void *value, size_t size,
                     int is_text)
{
    PyObject *const key = is_number ? PyLong_FromUnsignedLongLong(number)
                                    : PyBytes_FromStringAndSize(bytes, (Py_ssize_t)key_size);
    PyObject *const item = key ? slot_value(heap, value, size, is_text) : NULL;
    PyObject *const pair = item ? PyTuple_Pack(2, key, item) : NULL;
    const bool is_added = pair && PyList_Append(page, pair) == 0;
    Py_XDECREF(pair);
    Py_XDECREF(item);
    Py_XDECREF(key);
    return is_added;
}

static bool page_of_map(PyObject *page, evh_heap *heap, const evh_map *map, Py_buffer *place,
                        size_t size, int is_text)
{
    evh_map_cursor *const cursor = place->buf;
    const bool is_number = evh_map_key_kind(heap, map) != EVH_KEY_BYTES;
    for (int i = 0; i < PAGE_ITEMS && evh_map_next(heap, map, cursor); i++)
        if (!page_add(page, heap, is_number, cursor->key, cursor->bytes, cursor->size,
                      cursor->value, size, is_text))
            return false;
    return true;
}

static bool page_of_tree(PyObject *page, evh_heap *heap, const evh_tree *tree, Py_buffer *place,
                         size_t size, int is_text)
{
    evh_tree_cursor *const cursor = place->buf;
    const bool is_number = evh_tree_key_kind(heap, tree) != EVH_KEY_BYTES;
    for (int i = 0; i < PAGE_ITEMS && evh_tree_next(heap, tree, cursor); i++)
        if (!page_add(page, heap, is_number, cursor->key, cursor->bytes, cursor->size,
                      cursor->value, size, is_text))
            return false;
    return true;
}

/* The next items; `place` is a bytearray that is the cursor, zeroed at the beginning. */
static PyObject *dict_page(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    int kind, is_text;
    Py_buffer place;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "O!isw*np", &binding_heap_type, &self, &kind, &name, &place,
                          &size, &is_text))
        return NULL;
    const void *const handle = find_handle(self, name, false);
    const size_t needed = kind == KIND_MAP ? sizeof(evh_map_cursor) : sizeof(evh_tree_cursor);
    PyObject *page = NULL;
    if (handle && (size_t)place.len >= needed &&
        entry_fits(binding_heap_of(self), (enum kind)kind, handle, size))
        page = PyList_New(0);
    evh_heap *const heap = page ? binding_heap_of(self) : NULL;
    if (page &&
        !(kind == KIND_MAP ? page_of_map(page, heap, handle, &place, (size_t)size, is_text)
                           : page_of_tree(page, heap, handle, &place, (size_t)size, is_text)))
        Py_CLEAR(page);
    PyBuffer_Release(&place);
    return page;
}

/* Put the cursor of a tree before the first key that is not below `key`. */
static PyObject *tree_seek(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *self;
    const char *name;
    struct key key;
    Py_buffer place;
    if (!PyArg_ParseTuple(arguments, "O!sw*O&", &binding_heap_type, &self, &name, &place, key_take,
                          &key))
        return NULL;
    const evh_tree *const handle = find_handle(self, name, false);
    if (handle && (size_t)place.len >= sizeof(evh_tree_cursor)) {
        if (key.is_number)
            evh_tree_seek(binding_heap_of(self), handle, place.buf, key.number);
        else
            evh_tree_seek_bytes(binding_heap_of(self), handle, place.buf, key.bytes.buf,
                                (size_t)key.bytes.len);
    }
    key_end(&key);
    PyBuffer_Release(&place);
    return handle ? Py_NewRef(Py_None) : NULL;
}

PyMethodDef binding_collection_methods[] = {
    {"str_get", str_get, METH_VARARGS, NULL},       {"str_put", str_put, METH_VARARGS, NULL},
    {"vec_count", vec_count, METH_VARARGS, NULL},   {"vec_get", vec_get, METH_VARARGS, NULL},
    {"vec_data", vec_data, METH_VARARGS, NULL},     {"vec_put", vec_put, METH_VARARGS, NULL},
    {"vec_erase", vec_erase, METH_VARARGS, NULL},   {"dict_get", dict_get, METH_VARARGS, NULL},
    {"dict_put", dict_put, METH_VARARGS, NULL},     {"dict_erase", dict_erase, METH_VARARGS, NULL},
    {"dict_count", dict_count, METH_VARARGS, NULL}, {"dict_page", dict_page, METH_VARARGS, NULL},
    {"tree_seek", tree_seek, METH_VARARGS, NULL},   {NULL, NULL, 0, NULL},
};
