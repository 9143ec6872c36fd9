/* module.c -- the module everheap._everheap: errors, and heaps without what is in them. */
#include "binding.h"

static PyObject *binding_error; /* everheap.Error */

PyObject *binding_fail(void)
{
    const evh_error *const error = evh_last_error();
    PyObject *const arguments =
        Py_BuildValue("(sis)", evh_status_name(error->status), error->os_error, error->message);
    PyObject *const exception = arguments ? PyObject_CallObject(binding_error, arguments) : NULL;
    Py_XDECREF(arguments);
    if (!exception) return NULL;
    PyObject *const offset = error->offset == UINT64_MAX
                                 ? Py_NewRef(Py_None)
                                 : PyLong_FromUnsignedLongLong(error->offset);
    if (offset) PyObject_SetAttrString(exception, "offset", offset);
    Py_XDECREF(offset);
    PyErr_SetObject(binding_error, exception);
    Py_DECREF(exception);
    return NULL;
}

PyObject *binding_done(evh_status status)
{
    if (status) return binding_fail();
    Py_RETURN_NONE;
}

evh_heap *binding_heap_of(PyObject *self)
{
    evh_heap *const heap = ((binding_heap *)self)->heap;
    if (!heap) PyErr_SetString(PyExc_ValueError, "the heap is closed");
    return heap;
}

/* ---- heaps ---- */

/* Whether nobody is in a commit, so that the heap may end; else an exception. */
static bool heap_is_quiet(PyObject *self)
{
    if (((binding_heap *)self)->commits == 0) return true;
    PyErr_SetString(PyExc_RuntimeError, "another thread is in a commit");
    return false;
}

static int heap_begin(PyObject *self, PyObject *arguments, PyObject *names)
{
    static char *words[] = {"path", "mode", "must_exist", "size_max_bytes", "commit_sequence",
                            NULL};
    PyObject *path = NULL;
    unsigned mode = EVH_DURABLE;
    int must_exist = 0;
    unsigned long long size_max = 0, sequence = 0;
    if (!heap_is_quiet(self)) return -1;
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "O&|IpKK", words, PyUnicode_FSConverter,
                                     &path, &mode, &must_exist, &size_max, &sequence))
        return -1;
    const evh_options options = {.mode = mode,
                                 .misuse = EVH_MISUSE_STATUS,
                                 .must_exist = must_exist,
                                 .size_max_bytes = size_max,
                                 .commit_sequence = sequence};
    binding_heap *const object = (binding_heap *)self;
    if (object->heap) (void)evh_close(object->heap);
    object->heap = evh_open(PyBytes_AS_STRING(path), &options);
    Py_DECREF(path);
    if (object->heap) return 0;
    binding_fail();
    return -1;
}

static void heap_end(PyObject *self)
{
    (void)evh_close(((binding_heap *)self)->heap);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *heap_close(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    if (!heap_is_quiet(self)) return NULL;
    evh_heap *const heap = ((binding_heap *)self)->heap;
    ((binding_heap *)self)->heap = NULL;
    return binding_done(evh_close(heap));
}

static PyObject *heap_commit(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    evh_heap *const heap = binding_heap_of(self);
    evh_status status = EVH_OK;
    if (!heap) return NULL;
    ((binding_heap *)self)->commits++;
    Py_BEGIN_ALLOW_THREADS /* others may work meanwhile, but not close it */
        status = evh_commit(heap);
    Py_END_ALLOW_THREADS;
    ((binding_heap *)self)->commits--;
    return binding_done(status);
}

static PyObject *heap_rollback(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    evh_heap *const heap = binding_heap_of(self);
    return heap ? binding_done(evh_rollback(heap)) : NULL;
}

static PyObject *heap_refresh(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    evh_heap *const heap = binding_heap_of(self);
    return heap ? binding_done(evh_refresh(heap)) : NULL;
}

static PyObject *heap_save(PyObject *self, PyObject *argument)
{
    evh_heap *const heap = binding_heap_of(self);
    PyObject *path = NULL;
    if (!heap || !PyUnicode_FSConverter(argument, &path)) return NULL;
    const evh_status status = evh_save(heap, PyBytes_AS_STRING(path));
    Py_DECREF(path);
    return binding_done(status);
}

static PyObject *heap_info(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    evh_heap *const heap = binding_heap_of(self);
    evh_info info;
    if (!heap) return NULL;
    if (evh_get_info(heap, &info)) return binding_fail();
    return Py_BuildValue(
        "{sK sK sK sK sK sK sK sK}", "file_bytes", (unsigned long long)info.file_bytes,
        "heap_bytes", (unsigned long long)info.heap_bytes, "live_blocks",
        (unsigned long long)info.live_blocks, "live_bytes", (unsigned long long)info.live_bytes,
        "free_bytes", (unsigned long long)info.free_bytes, "commit_sequence",
        (unsigned long long)info.commit_sequence, "roots", (unsigned long long)info.roots,
        "format_version", (unsigned long long)info.format_version);
}

static PyObject *heap_roots(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    evh_heap *const heap = binding_heap_of(self);
    PyObject *const names = heap ? PyList_New(0) : NULL;
    evh_root_info root = {0};
    while (names && evh_root_next(heap, &root)) {
        if (root.is_tagged) continue;
        PyObject *const name =
            PyUnicode_DecodeUTF8(root.name, (Py_ssize_t)strlen(root.name), "surrogateescape");
        const int failed = !name || PyList_Append(names, name);
        Py_XDECREF(name);
        if (failed) {
            Py_DECREF(names);
            return NULL;
        }
    }
    return names;
}

static bool heap_report(const evh_finding *finding, void *context)
{
    PyObject *const told =
        Py_BuildValue("(sKss)", evh_status_name(finding->status),
                      (unsigned long long)finding->offset, finding->object, finding->message);
    const int failed = !told || PyList_Append(context, told);
    Py_XDECREF(told);
    return !failed;
}

static PyObject *heap_check(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    evh_heap *const heap = binding_heap_of(self);
    PyObject *const findings = heap ? PyList_New(0) : NULL;
    if (!findings) return NULL;
    const evh_status status = evh_check(heap, heap_report, findings);
    if (!PyErr_Occurred() && (!status || PyList_GET_SIZE(findings) > 0)) return findings;
    Py_DECREF(findings);
    return PyErr_Occurred() ? NULL : binding_fail();
}

static PyMethodDef heap_methods[] = {
    {"close", heap_close, METH_NOARGS, "Close it; what was not committed is gone."},
    {"commit", heap_commit, METH_NOARGS, "Make every change durable, all or nothing."},
    {"rollback", heap_rollback, METH_NOARGS, "Undo every change since the last commit."},
    {"refresh", heap_refresh, METH_NOARGS, "Read-only: go to the newest commit."},
    {"save", heap_save, METH_O, "Write an image to a path."},
    {"info", heap_info, METH_NOARGS, "Sizes and counts, as a dict."},
    {"roots", heap_roots, METH_NOARGS, "The names of the roots."},
    {"check", heap_check, METH_NOARGS, "Verify all; a list of (status, offset, object, message)."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject binding_heap_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "everheap._everheap.Heap",
    .tp_basicsize = sizeof(binding_heap),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_init = heap_begin,
    .tp_dealloc = heap_end,
    .tp_methods = heap_methods,
};

/* ---- the module ---- */

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "everheap._everheap",
                                    .m_size = -1, .m_methods = binding_collection_methods};

PyMODINIT_FUNC PyInit__everheap(void);

PyMODINIT_FUNC PyInit__everheap(void)
{
    PyObject *const made = PyModule_Create(&module);
    if (!made || PyType_Ready(&binding_heap_type) || PyType_Ready(&binding_database_type))
        return NULL;
    binding_error = PyErr_NewExceptionWithDoc(
        "everheap.Error",
        "A call failed: args are status, errno and message; offset is where in "
        "the file, or None.",
        NULL, NULL);
    if (!binding_error || PyModule_AddObjectRef(made, "Error", binding_error) ||
        PyModule_AddType(made, &binding_heap_type) ||
        PyModule_AddType(made, &binding_database_type) ||
        PyModule_AddStringConstant(made, "version", evh_version()) ||
        PyModule_AddIntConstant(made, "DURABLE", EVH_DURABLE) ||
        PyModule_AddIntConstant(made, "READ_ONLY", EVH_READ_ONLY) ||
        PyModule_AddIntConstant(made, "PRIVATE", EVH_PRIVATE) ||
        PyModule_AddIntConstant(made, "LIVE", EVH_LIVE))
        return NULL;
    return made;
}
