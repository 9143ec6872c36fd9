/* binding.h -- what the files of the module everheap.node share. */
#ifndef EVERHEAP_BINDINGS_NODE_BINDING_H
#define EVERHEAP_BINDINGS_NODE_BINDING_H

#define NAPI_VERSION 8
#include <node_api.h>

#include <everheap.h>

enum { BINDING_DEPTH_MAX = 512 };

/** Throw an Error of the last error. NULL. */
napi_value binding_fail(napi_env env);
/** undefined, or NULL after throwing the error of `status`. */
napi_value binding_done(napi_env env, evh_status status);
/** A JavaScript string of UTF-8; an argument's UTF-8, owned: free(). NULL after throwing. */
napi_value binding_string(napi_env env, const char *text, size_t size);
char *binding_text(napi_env env, napi_value value, size_t *size);

/** A value of a document as one of JavaScript; NULL after throwing (values.c). */
napi_value binding_read(napi_env env, evh_json *json, evh_value value, unsigned depth);
/** And back. False after throwing. */
bool binding_write(napi_env env, evh_json *json, evh_value value, napi_value from, unsigned depth);

#endif
