/* query_parse.c -- the text of JSONPath queries: RFC 9535, by recursive descent.
 *
 * The depth of brackets, parentheses and functions is limited. What the grammar cannot say, that
 * functions and comparisons get operands of the right type, is checked as they are read.
 */
#include "json/query.h"
#include "os/os.h"

enum { QUERY_DEPTH_MAX = 100, QUERY_BYTES_MAX = 65536 };

#define QUERY_INTEGER_MAX 9007199254740991ll /* 2^53 - 1: RFC 9535, section 2.1 */

struct query_parser {
    struct evh_json_query *query;
    const char *text, *next, *end;
    uint32_t depth;
    evh_status status;
};

/* ---- basics ---- */

static bool query_fail(struct query_parser *parser, const char *expected)
{
    assert(parser->next <= parser->end);
    assert(expected != NULL);
    if (!parser->status)
        parser->status = base_fail(EVH_SYNTAX, NO_OFFSET, "json: query, byte %zu: expected %s",
                                   (size_t)(parser->next - parser->text), expected);
    return false;
}

/* Memory that lives as long as the query, zeroed. */
static void *query_allocate(struct query_parser *parser, size_t size)
{
    assert(size > 0);
    size = (size + 15) & ~(size_t)15;
    struct query_chunk *chunk = parser->query->chunks;
    if (!chunk || size > sizeof chunk->memory - chunk->used) {
        const size_t extra = size > sizeof chunk->memory ? size - sizeof chunk->memory : 0;
        chunk = os->memory_allocate(sizeof *chunk + extra);
        if (!chunk) {
            parser->status = base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for a query");
            return NULL;
        }
        chunk->next = parser->query->chunks;
        parser->query->chunks = chunk;
        if (extra) {
            chunk->used = sizeof chunk->memory;
            return chunk->memory;
        }
    }
    void *memory = chunk->memory + chunk->used;
    chunk->used += size;
    return memory;
}

static bool query_is_next(const struct query_parser *parser, char c)
{
    return parser->next < parser->end && *parser->next == c;
}

static bool query_take(struct query_parser *parser, const char *text)
{
    assert(text[0] != 0);
    assert(parser->next <= parser->end);
    const size_t size = strlen(text);
    if ((size_t)(parser->end - parser->next) < size || memcmp(parser->next, text, size) != 0)
        return false;
    parser->next += size;
    return true;
}

static void query_skip_blank(struct query_parser *parser)
{
    while (parser->next < parser->end && *parser->next && strchr(" \t\n\r", *parser->next))
        parser->next++;
}

static bool query_deeper(struct query_parser *parser)
{
    if (++parser->depth <= QUERY_DEPTH_MAX) return true;
    if (!parser->status)
        parser->status = base_fail(EVH_LIMIT, NO_OFFSET, "json: a query of more than %d levels",
                                   QUERY_DEPTH_MAX);
    return false;
}

/* ---- literals ---- */

static bool query_integer(struct query_parser *parser, int64_t *value)
{
    assert(value != NULL);
    const char *first = parser->next;
    const bool is_negative = query_take(parser, "-");
    int64_t number = 0;
    const char *digits = parser->next;
    while (parser->next < parser->end && *parser->next >= '0' && *parser->next <= '9') {
        if (number <= QUERY_INTEGER_MAX) number = number * 10 + (*parser->next - '0');
        parser->next++;
    }
    const bool is_zero = *digits == '0';
    if (parser->next == digits || (is_zero && (is_negative || parser->next - digits > 1)) ||
        number > QUERY_INTEGER_MAX) {
        parser->next = first;
        return query_fail(parser, "an integer");
    }
    *value = is_negative ? -number : number;
    return true;
}

/* A string in either quotes: its bytes, decoded. */
static bool query_string(struct query_parser *parser, const char **text, size_t *size)
{
    assert(text != NULL);
    assert(size != NULL);
    const char quote = *parser->next;
    assert(quote == '"' || quote == '\'');
    const char *first = parser->next + 1;
    const char *last = first;
    while (last < parser->end && *last != quote) {
        if ((unsigned char)*last < 0x20) break;
        last += *last == '\\' && last + 1 < parser->end ? 2 : 1;
    }
    char *target = query_allocate(parser, (size_t)(parser->end - first) + 1);
    if (!target) return false;
    if (last >= parser->end || *last != quote) return query_fail(parser, "a string that ends");
    /* In single quotes \' is an escape and \" is none: as JSON has it the other way round. */
    size_t bytes = 0;
    for (const char *from = first; from < last; from++) {
        if (*from == '\\' && quote == '\'' && from[1] == '"')
            return query_fail(parser, "an escape");
        if (*from == '\\' && quote == '\'' && from[1] == '\'')
            from++;
        else if (*from == '\\')
            target[bytes++] = *from++;
        target[bytes++] = *from;
    }
    const char *expected = "";
    if (escape_decode(target, target + bytes, target, size, &expected))
        return query_fail(parser, expected);
    *text = target;
    parser->next = last + 1;
    return true;
}

static struct query_expression *query_new(struct query_parser *parser,
                                          enum query_expression_kind kind)
{
    struct query_expression *expression = query_allocate(parser, sizeof *expression);
    if (expression) expression->kind = kind;
    return expression;
}

/* A literal, if one comes: true, false, null, a number, a string. NULL if none does. */
static struct query_expression *query_literal(struct query_parser *parser)
{
    struct query_expression literal = {.kind = QUERY_LITERAL};
    const char *first = parser->next;
    if (parser->next == parser->end) return NULL;
    if (*first == '"' || *first == '\'') {
        literal.literal.type = JSON_STRING;
        if (!query_string(parser, &literal.text, &literal.text_size)) return NULL;
    } else if (*first == '-' || (*first >= '0' && *first <= '9')) {
        static const uint8_t types[] = {JSON_INTEGER, JSON_UNSIGNED, JSON_REAL, JSON_REAL};
        struct number number;
        enum number_fault fault;
        const char *stop = number_read(first, parser->end, &number, &fault);
        if (fault) {
            parser->next = stop;
            query_fail(parser, "a number");
            return NULL;
        }
        if (number.kind == NUMBER_DIGITS) number.real = number_as_real(first, stop);
        literal.literal.type = types[number.kind];
        literal.literal.payload = number.natural;
        parser->next = stop;
    } else if (query_take(parser, "true") || query_take(parser, "false")) {
        literal.literal = (struct json_slot){.type = JSON_BOOLEAN, .payload = *first == 't'};
    } else if (query_take(parser, "null")) {
        literal.literal.type = JSON_NULL;
    } else {
        return NULL;
    }
    struct query_expression *made = query_new(parser, QUERY_LITERAL);
    if (made) *made = literal;
    return made;
}

/* ---- selectors and segments ---- */

static struct query_expression *query_or(struct query_parser *parser);

/* A name without quotes. */
static bool query_shorthand(struct query_parser *parser, struct query_selector *selector)
{
    const char *first = parser->next;
    while (parser->next < parser->end) {
        const unsigned char c = (unsigned char)*parser->next;
        const bool is_letter =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c > 0x7f;
        if (!is_letter && (parser->next == first || c < '0' || c > '9')) break;
        parser->next++;
    }
    if (parser->next == first) return query_fail(parser, "a name, * or [");
    selector->kind = QUERY_NAME;
    selector->name = first;
    selector->name_size = (size_t)(parser->next - first);
    return true;
}

/* What follows the first number, if any, of an index or slice. */
static bool query_slice(struct query_parser *parser, struct query_selector *selector)
{
    selector->kind = QUERY_INDEX;
    selector->step = 1;
    if (!query_is_next(parser, ':')) {
        selector->has_start = true;
        if (!query_integer(parser, &selector->start)) return false;
        const char *behind = parser->next;
        query_skip_blank(parser);
        if (!query_is_next(parser, ':')) {
            parser->next = behind;
            return true;
        }
    }
    selector->kind = QUERY_SLICE;
    parser->next++;
    query_skip_blank(parser);
    if (parser->next < parser->end && strchr("-0123456789", *parser->next)) {
        selector->has_end = true;
        if (!query_integer(parser, &selector->end)) return false;
        query_skip_blank(parser);
    }
    if (!query_take(parser, ":")) return true;
    query_skip_blank(parser);
    if (parser->next < parser->end && strchr("-0123456789", *parser->next))
        return query_integer(parser, &selector->step);
    return true;
}

static bool query_selector(struct query_parser *parser, struct query_selector *selector)
{
    if (query_is_next(parser, '"') || query_is_next(parser, '\'')) {
        selector->kind = QUERY_NAME;
        return query_string(parser, &selector->name, &selector->name_size);
    }
    if (query_take(parser, "*")) {
        selector->kind = QUERY_ALL;
        return true;
    }
    if (query_take(parser, "?")) {
        selector->kind = QUERY_FILTER;
        query_skip_blank(parser);
        selector->filter = query_or(parser);
        return selector->filter != NULL;
    }
    if (parser->next < parser->end && *parser->next && strchr("-0123456789:", *parser->next))
        return query_slice(parser, selector);
    return query_fail(parser, "a selector");
}

/* Behind [: selectors with commas between. */
static bool query_bracket(struct query_parser *parser, struct query_segment *segment)
{
    assert(segment->selectors == NULL);
    struct query_selector **last = &segment->selectors;
    if (!query_deeper(parser)) return false;
    do {
        query_skip_blank(parser);
        struct query_selector *selector = query_allocate(parser, sizeof *selector);
        if (!selector || !query_selector(parser, selector)) return false;
        *last = selector;
        last = &selector->next;
        query_skip_blank(parser);
    } while (query_take(parser, ","));
    parser->depth--;
    return query_take(parser, "]") || query_fail(parser, ", or ]");
}

/* The segments behind $ or @. White space behind the last one is left. */
static bool query_segments(struct query_parser *parser, struct query_path *path)
{
    assert(path->segments == NULL);
    struct query_segment **last = &path->segments;
    path->is_singular = true;
    for (;;) {
        const char *behind = parser->next;
        query_skip_blank(parser);
        if (!query_is_next(parser, '.') && !query_is_next(parser, '[')) {
            parser->next = behind;
            return true;
        }
        struct query_segment *segment = query_allocate(parser, sizeof *segment);
        if (!segment) return false;
        segment->is_descendant = query_take(parser, "..");
        const bool is_dotted = segment->is_descendant || query_take(parser, ".");
        const bool may_be_bracket = !is_dotted || segment->is_descendant;
        if (may_be_bracket && query_take(parser, "[")) {
            if (!query_bracket(parser, segment)) return false;
        } else {
            segment->selectors = query_allocate(parser, sizeof *segment->selectors);
            if (!segment->selectors) return false;
            if (query_take(parser, "*")) {
                segment->selectors->kind = QUERY_ALL;
            } else if (!query_shorthand(parser, segment->selectors)) {
                return false;
            }
        }
        const enum query_selector_kind kind = segment->selectors->kind;
        if (segment->is_descendant || segment->selectors->next ||
            (kind != QUERY_NAME && kind != QUERY_INDEX))
            path->is_singular = false;
        *last = segment;
        last = &segment->next;
    }
}

/* ---- expressions ---- */

static bool query_is_value(const struct query_expression *e)
{
    if (e->kind == QUERY_PATH) return e->path.is_singular;
    if (e->kind == QUERY_FUNCTION) return e->function <= QUERY_VALUE;
    return e->kind == QUERY_LITERAL;
}

static struct query_expression *query_operand(struct query_parser *parser);

/* Behind the parenthesis of a function. */
static bool query_arguments(struct query_parser *parser, struct query_expression *e)
{
    assert(e->kind == QUERY_FUNCTION);
    const bool takes_nodes = e->function == QUERY_COUNT || e->function == QUERY_VALUE;
    const bool takes_two = e->function >= QUERY_MATCH;
    struct query_expression **arguments[2] = {&e->left, &e->right};
    if (!query_deeper(parser)) return false;
    for (int i = 0; i < 1 + takes_two; i++) {
        query_skip_blank(parser);
        if (i == 1 && !query_take(parser, ",")) return query_fail(parser, "a second argument");
        query_skip_blank(parser);
        *arguments[i] = query_operand(parser);
        if (!*arguments[i]) return query_fail(parser, "an argument");
        if (takes_nodes ? (*arguments[i])->kind != QUERY_PATH : !query_is_value(*arguments[i]))
            return query_fail(parser, takes_nodes ? "a query as argument" : "a value as argument");
    }
    query_skip_blank(parser);
    parser->depth--;
    return query_take(parser, ")") || query_fail(parser, ") behind the arguments");
}

/* A literal, a query or a function. NULL if it is none. */
static struct query_expression *query_operand(struct query_parser *parser)
{
    static const char *const names[] = {"length(", "count(", "value(", "match(", "search("};
    struct query_expression *e = NULL;
    if (query_is_next(parser, '$') || query_is_next(parser, '@')) {
        e = query_new(parser, QUERY_PATH);
        if (!e) return NULL;
        e->path.is_absolute = *parser->next++ == '$';
        return query_segments(parser, &e->path) ? e : NULL;
    }
    for (unsigned i = 0; i < 5; i++) {
        if (!query_take(parser, names[i])) continue;
        e = query_new(parser, QUERY_FUNCTION);
        if (!e) return NULL;
        e->function = (enum query_function)i;
        return query_arguments(parser, e) ? e : NULL;
    }
    e = query_literal(parser);
    if (!e) query_fail(parser, "a value, a query or a function");
    return e;
}

static bool query_comparison(struct query_parser *parser, enum query_comparison *comparison)
{
    static const char *const operators[] = {"==", "!=", "<=", ">=", "<", ">"};
    static const enum query_comparison kinds[] = {QUERY_EQ, QUERY_NE, QUERY_LE,
                                                  QUERY_GE, QUERY_LT, QUERY_GT};
    for (unsigned i = 0; i < 6; i++) {
        *comparison = kinds[i];
        if (query_take(parser, operators[i])) return true;
    }
    return false;
}

/* A comparison, or a test of a query or function. */
static struct query_expression *query_test(struct query_parser *parser)
{
    struct query_expression *left = query_operand(parser);
    if (!left) return NULL;
    const char *behind = parser->next;
    enum query_comparison comparison = QUERY_EQ;
    query_skip_blank(parser);
    if (!query_comparison(parser, &comparison)) {
        parser->next = behind;
        const bool is_test = left->kind == QUERY_PATH ||
                             (left->kind == QUERY_FUNCTION && left->function >= QUERY_MATCH);
        if (is_test) return left;
        query_fail(parser, "a comparison");
        return NULL;
    }
    query_skip_blank(parser);
    struct query_expression *right = query_operand(parser);
    if (!right) return NULL;
    if (!query_is_value(left) || !query_is_value(right)) {
        query_fail(parser, "values to compare");
        return NULL;
    }
    struct query_expression *e = query_new(parser, QUERY_COMPARE);
    if (!e) return NULL;
    e->comparison = comparison;
    e->left = left;
    e->right = right;
    return e;
}

/* !, parentheses, or a test. */
static struct query_expression *query_basic(struct query_parser *parser)
{
    struct query_expression *outer = NULL;
    if (query_take(parser, "!")) {
        outer = query_new(parser, QUERY_NOT);
        if (!outer) return NULL;
        query_skip_blank(parser);
    }
    struct query_expression *inner = NULL;
    if (query_take(parser, "(")) {
        if (!query_deeper(parser)) return NULL;
        query_skip_blank(parser);
        inner = query_or(parser);
        query_skip_blank(parser);
        parser->depth--;
        if (!inner) return NULL;
        if (!query_take(parser, ")")) {
            query_fail(parser, ")");
            return NULL;
        }
    } else {
        inner = query_test(parser);
        if (inner && outer && inner->kind == QUERY_COMPARE) { /* !(a == b) it must be */
            query_fail(parser, "parentheses behind !");
            return NULL;
        }
    }
    if (!inner || !outer) return inner;
    outer->left = inner;
    return outer;
}

/* Operands with `sign` between them. */
static struct query_expression *query_chain(struct query_parser *parser, const char *sign,
                                            enum query_expression_kind kind,
                                            struct query_expression *(*part)(struct query_parser *))
{
    assert(kind == QUERY_OR || kind == QUERY_AND);
    assert(part != NULL);
    struct query_expression *left = part(parser);
    while (left) {
        const char *behind = parser->next;
        query_skip_blank(parser);
        if (!query_take(parser, sign)) {
            parser->next = behind;
            return left;
        }
        query_skip_blank(parser);
        struct query_expression *e = query_new(parser, kind);
        if (!e) return NULL;
        e->left = left;
        e->right = part(parser);
        left = e->right ? e : NULL;
    }
    return NULL;
}

static struct query_expression *query_and(struct query_parser *parser)
{
    return query_chain(parser, "&&", QUERY_AND, query_basic);
}

static struct query_expression *query_or(struct query_parser *parser)
{
    return query_chain(parser, "||", QUERY_OR, query_and);
}

/* ---- the whole ---- */

evh_json_query *evh_json_query_compile(const char *text, size_t size)
{
    if (!text || size > QUERY_BYTES_MAX) {
        (void)base_fail(text ? EVH_LIMIT : EVH_INVALID, NO_OFFSET,
                        text ? "json: a query of more than 64 KiB" : "json: no query");
        return NULL;
    }
    struct evh_json_query *query = os->memory_allocate(sizeof *query);
    if (!query) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for a query");
        return NULL;
    }
    struct query_parser parser = {.query = query};
    char *copy = query_allocate(&parser, size + 1);
    if (copy) {
        memcpy(copy, text, size);
        parser.text = copy;
        parser.next = copy;
        parser.end = copy + size;
        query->path.is_absolute = true;
        const char *bad = utf8_check(copy, copy + size);
        if (bad != copy + size) {
            parser.next = bad;
            query_fail(&parser, "well-formed UTF-8");
        } else if (!query_take(&parser, "$")) {
            query_fail(&parser, "$");
        } else if (query_segments(&parser, &query->path) && parser.next != parser.end) {
            query_fail(&parser, "a segment, or the end");
        }
    }
    if (!parser.status) return query;
    evh_json_query_end(query);
    return NULL;
}

void evh_json_query_end(evh_json_query *query)
{
    if (!query) return;
    for (uint32_t i = 0; i < query->regex_count; i++) regex_end(query->regexes[i]->regex);
    while (query->chunks) {
        struct query_chunk *chunk = query->chunks;
        query->chunks = chunk->next;
        os->memory_free(chunk);
    }
    os->memory_free(query);
}
