/* json_parsers.c -- parsers in C, as far as they are installed: jansson, yyjson. */
#include "json_peers.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_JANSSON

#include <jansson.h>

static void *jansson_parse(const char *text, size_t size)
{
    return json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

static size_t jansson_write(void *tree)
{
    char *const text = json_dumps(tree, JSON_COMPACT | JSON_ENCODE_ANY);
    const size_t size = text ? strlen(text) : 0;
    free(text);
    return size;
}

static void jansson_end(void *tree)
{
    json_decref(tree);
}

#endif

#ifdef HAVE_YYJSON

#include <yyjson.h>

static void *yyjson_parse(const char *text, size_t size)
{
    return yyjson_read(text, size, 0);
}

static size_t yyjson_write_text(void *tree)
{
    size_t size = 0;
    free(yyjson_write(tree, 0, &size));
    return size;
}

static void yyjson_end(void *tree)
{
    yyjson_doc_free(tree);
}

#endif

const struct json_parser json_parsers_c[] = {
#ifdef HAVE_YYJSON
    {"yyjson", yyjson_parse, yyjson_write_text, yyjson_end},
#endif
#ifdef HAVE_JANSSON
    {"jansson", jansson_parse, jansson_write, jansson_end},
#endif
    {NULL, NULL, NULL, NULL},
};

#ifndef HAVE_JSON_CXX
const struct json_parser json_parsers_cxx[] = {{NULL, NULL, NULL, NULL}};
#endif
