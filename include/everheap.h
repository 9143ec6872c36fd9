/* everheap.h -- a heap that lasts: everything a C or C++ program includes. */
#ifndef EVERHEAP_H
#define EVERHEAP_H

#include <everheap/collections.h>
#include <everheap/db.h>
#include <everheap/heap.h>
#include <everheap/inspect.h>
#include <everheap/json.h>
#include <everheap/json_query.h>

#endif
