/* binding.h -- what the files of the module everheap._everheap share. */
#ifndef EVERHEAP_BINDINGS_PYTHON_BINDING_H
#define EVERHEAP_BINDINGS_PYTHON_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <everheap.h>

/*
 * The module is thin: bytes in, bytes out, names of roots for collections. What makes it pleasant
 * is Python, in everheap/__init__.py. A collection is looked up by its root's name in every call,
 * so that no handle outlives a rollback or a close. Python's lock is held in every call but
 * Heap.commit(): calls that change something are bracketed with evh_enter(), so that a thread may
 * commit while others work.
 */

/** Raise everheap.Error of the last error. Returns NULL. */
PyObject *binding_fail(void);
/** None, or NULL after raising the error of `status`. */
PyObject *binding_done(evh_status status);

extern PyTypeObject binding_heap_type, binding_database_type;
extern PyMethodDef binding_collection_methods[]; /* of a heap (collections.c) */

typedef struct binding_heap {
    PyObject_HEAD evh_heap *heap; /* NULL when it is closed */
    unsigned commits;             /* that threads are in, without Python's lock */
} binding_heap;

/** The open heap of a Python object, or NULL after raising. */
evh_heap *binding_heap_of(PyObject *self);

#endif
