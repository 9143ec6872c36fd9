/* everheap.h -- a heap that lasts: everything a C or C++ program includes. */
#ifndef EVERHEAP_H
#define EVERHEAP_H

#include <everheap/collections.h>
#include <everheap/db.h>
#include <everheap/heap.h>
#include <everheap/inspect.h>
#include <everheap/live.h>
#include <everheap/arena.h>
#include <everheap/json.h>
#include <everheap/json_query.h>
#include <everheap/types.h>
#include <everheap/autopsy.h>
#include <everheap/salvage.h>
#include <everheap/recorder.h>
#include <everheap/debug.h> /* last: with EVH_DEBUG_SITES it puts macros over the calls */

#endif
