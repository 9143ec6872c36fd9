/* json_ours.h -- everheap among the parsers and databases of json_peers.h. */
#ifndef EVERHEAP_BENCH_JSON_OURS_H
#define EVERHEAP_BENCH_JSON_OURS_H

#include "json_peers.h"

#include <everheap.h>

extern const struct json_parser json_ours_parser;
extern const struct json_store json_ours_store;
extern const struct json_store json_guarded_store; /* with guards, for changes */

/** Bytes in live blocks of the heap that the parser fills. */
uint64_t json_ours_bytes(void);
/** Values of the tree. */
uint64_t json_ours_values(void *tree);
/** Measure changes of very large containers (json_large.c). */
void json_large_run(void);
/** The database of a store. Borrowed. */
evh_db *json_ours_db(void *store);

#endif
