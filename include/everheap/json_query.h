/* json_query.h -- JSON Patch, JSON Merge Patch and JSONPath on documents that live in a heap. */
#ifndef EVERHEAP_JSON_QUERY_H
#define EVERHEAP_JSON_QUERY_H

#include <everheap/json.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- patches -------------------------------------------------------------------------------- */

/*
 * Family: evh_json_patch, evh_json_patch_text, evh_json_merge, evh_json_merge_text.
 * Change `target` as a patch says: all of it, or nothing. Pointers of the patch begin at `target`.
 * {"$ref": ...} and {"$base64": ...} are values and no objects.
 * Errors    EVH_SYNTAX (no patch), EVH_NOT_FOUND (a path that leads nowhere), EVH_INVALID (a test
 *           that fails, a value moved into itself, a path through a value that is no container); as
 *           of every change. The message names the operation. The target is unchanged.
 * Crash     one change like any other: what is not committed never was.
 */
/** JSON Patch (RFC 6902): `patch` is an array of operations, in the same document or detached. */
EVH_API evh_status evh_json_patch(evh_json *json, evh_value target, evh_value patch);
/** The same from text. */
EVH_API evh_status evh_json_patch_text(evh_json *json, evh_value target, const char *patch,
                                       size_t size);
/** JSON Merge Patch (RFC 7396). */
EVH_API evh_status evh_json_merge(evh_json *json, evh_value target, evh_value patch);
/** The same from text. */
EVH_API evh_status evh_json_merge_text(evh_json *json, evh_value target, const char *patch,
                                       size_t size);

/* ---- queries -------------------------------------------------------------------------------- */

/** A JSONPath query (RFC 9535), prepared. */
typedef struct evh_json_query evh_json_query;

/**
 * Prepare a query, such as "$.store.book[?@.price < 10].title".
 * Returns   the query, owned: end it with evh_json_query_end(). NULL on failure.
 * Errors    EVH_SYNTAX (the message says where), EVH_LIMIT (longer or deeper than 64 KiB or 100
 *           levels), EVH_NO_MEMORY.
 */
EVH_API evh_json_query *evh_json_query_compile(const char *text, size_t size);
EVH_API void evh_json_query_end(evh_json_query *query);

/** Called for each value that a query finds, in order; returns false to stop. */
typedef bool evh_json_found(evh_value value, void *context);

/**
 * Call `found` for every value that the query finds below `from`, which its $ means. References are
 * not followed: they are values of their own. `found` must not change the document.
 * Errors    EVH_NO_MEMORY, EVH_CORRUPT, EVH_NOT_FOUND (`from` is no more).
 * Threads   one at a time for each query.
 */
EVH_API evh_status evh_json_query_run(evh_json *json, evh_value from, evh_json_query *query,
                                      evh_json_found *found, void *context);

/** The normalized path of a value (RFC 9535, section 2.7), such as $['a'][0]: stores at most `size`
 *  bytes with a zero behind them. Returns how many it has, SIZE_MAX if the value is no more. */
EVH_API size_t evh_json_normalized_path(evh_json *json, evh_value value, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif

#endif
