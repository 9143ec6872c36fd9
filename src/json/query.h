/* query.h -- a JSONPath query, as query_parse.c reads it and query_run.c carries it out. */
#ifndef EVERHEAP_JSON_QUERY_TREE_H
#define EVERHEAP_JSON_QUERY_TREE_H

#include "json/json.h"
#include "json/regex.h"

#include <everheap/json_query.h>

enum query_selector_kind {
    QUERY_NAME,
    QUERY_ALL, /* * */
    QUERY_INDEX,
    QUERY_SLICE,
    QUERY_FILTER,
};

struct query_selector {
    enum query_selector_kind kind;
    struct query_selector *next;
    const char *name; /* NAME */
    size_t name_size;
    int64_t start, end, step; /* INDEX: start */
    bool has_start, has_end;
    struct query_expression *filter;
};

struct query_segment {
    bool is_descendant;
    struct query_selector *selectors; /* at least one */
    struct query_segment *next;
};

struct query_path {
    bool is_absolute; /* $, else @ */
    bool is_singular; /* at most one value: names and indices only */
    struct query_segment *segments;
};

enum query_expression_kind {
    QUERY_OR,
    QUERY_AND,
    QUERY_NOT,
    QUERY_COMPARE,
    QUERY_PATH, /* whether it finds something; as an operand its value */
    QUERY_FUNCTION,
    QUERY_LITERAL,
};

enum query_comparison { QUERY_EQ, QUERY_NE, QUERY_LT, QUERY_LE, QUERY_GT, QUERY_GE };
enum query_function { QUERY_LENGTH, QUERY_COUNT, QUERY_VALUE, QUERY_MATCH, QUERY_SEARCH };

struct query_expression {
    enum query_expression_kind kind;
    enum query_comparison comparison;
    enum query_function function;
    struct query_expression *left, *right; /* operands, arguments */
    struct query_path path;
    struct json_slot literal; /* of a string: type only, its bytes are */
    const char *text;
    size_t text_size;
    struct regex *regex; /* of an argument that is a literal, made at first use */
    bool is_regex_checked;
};

struct query_chunk {
    struct query_chunk *next;
    uint64_t used;
    unsigned char memory[4000];
};

struct evh_json_query {
    struct query_chunk *chunks;
    struct query_path path;
    struct query_expression *regexes[32]; /* arguments that own one */
    uint32_t regex_count;
};

#endif
