/* query_run.c -- carry out JSONPath queries: RFC 9535.
 *
 * Segments are carried out one after the other on lists of values; the last one hands its values
 * on. Descendants are visited with a stack of their own. Recursion follows the query, whose depth
 * is limited, and never the document.
 */
#include "json/query.h"
#include "os/os.h"

/* A list of values. */
struct query_list {
    struct json_step *steps;
    size_t count, capacity;
};

struct query_run {
    struct evh_json *json;
    struct evh_json_query *query;
    struct json_step root;
    evh_status status;
};

/* Takes a value; false stops. */
typedef bool query_emit(struct query_run *run, const struct json_step *at, void *context);

static bool query_fail_run(struct query_run *run, evh_status status)
{
    assert(status != EVH_OK);
    run->status = status;
    return false;
}

static bool query_append(struct query_run *run, const struct json_step *at, void *context)
{
    assert(at != NULL);
    struct query_list *list = context;
    if (list->count == list->capacity) {
        void *grown = json_grow(list->steps, &list->capacity, sizeof *list->steps);
        if (!grown) return query_fail_run(run, EVH_NO_MEMORY);
        list->steps = grown;
    }
    list->steps[list->count++] = *at;
    return true;
}

static bool query_is_container(const struct json_slot *slot)
{
    return slot->type == JSON_ARRAY || slot->type == JSON_OBJECT;
}

/* ---- selectors ---- */

static bool query_holds(struct query_run *run, const struct query_expression *e,
                        const struct json_step *current);

static bool query_emit_at(struct query_run *run, const struct json_slot *parent,
                          const struct json_slot *slot, uint32_t position, query_emit *emit,
                          void *context)
{
    assert(slot != NULL);
    const struct json_step child = {*slot, parent->id, position};
    return emit(run, &child, context);
}

/* All children, or those that a filter holds for. */
static bool query_select_all(struct query_run *run, const struct json_slot *parent,
                             const struct json_container *container,
                             const struct query_expression *filter, query_emit *emit, void *context)
{
    assert(container->kind == parent->type);
    struct json_span span;
    for (uint32_t done = 0; done < container->count; done += span.count) {
        if (!container_span(run->json, container, done, &span))
            return query_fail_run(run, EVH_CORRUPT);
        for (uint32_t i = 0; i < span.count; i++) {
            const struct json_step child = {span.slots[i], parent->id, done + i};
            if (filter && !query_holds(run, filter, &child)) {
                if (run->status) return false;
                continue;
            }
            if (!emit(run, &child, context)) return false;
        }
    }
    return true;
}

static int64_t query_clamp(int64_t value, int64_t low, int64_t high)
{
    assert(low <= high);
    return value < low ? low : value > high ? high : value;
}

/* RFC 9535, section 2.3.4.2. */
static bool query_select_slice(struct query_run *run, const struct json_slot *parent,
                               const struct json_container *array, const struct query_selector *s,
                               query_emit *emit, void *context)
{
    assert(s->kind == QUERY_SLICE);
    const int64_t count = array->count;
    if (s->step == 0) return true;
    const bool is_up = s->step > 0;
    int64_t start = s->has_start ? s->start : is_up ? 0 : count - 1;
    int64_t end = s->has_end ? s->end : is_up ? count : -count - 1;
    if (start < 0 && s->has_start) start += count;
    if (end < 0) end += count;
    start = is_up ? query_clamp(start, 0, count) : query_clamp(start, -1, count - 1);
    end = is_up ? query_clamp(end, 0, count) : query_clamp(end, -1, count - 1);
    for (int64_t i = start; is_up ? i < end : i > end; i += s->step) {
        const struct json_slot *slot = container_slot(run->json, array, (uint32_t)i);
        if (!slot) return query_fail_run(run, EVH_CORRUPT);
        if (!query_emit_at(run, parent, slot, (uint32_t)i, emit, context)) return false;
    }
    return true;
}

/* What one selector finds in one value. */
static bool query_select(struct query_run *run, const struct json_step *at,
                         const struct query_selector *s, query_emit *emit, void *context)
{
    if (!query_is_container(&at->slot)) return true;
    const struct json_container *container = container_in(run->json, &at->slot);
    if (!container) return query_fail_run(run, EVH_CORRUPT);
    if (s->kind == QUERY_ALL || s->kind == QUERY_FILTER)
        return query_select_all(run, &at->slot, container, s->filter, emit, context);
    const struct json_slot *slot = NULL;
    uint32_t position = 0;
    if (container->kind == JSON_KIND_OBJECT) {
        if (s->kind != QUERY_NAME) return true;
        const uint32_t key = key_find(run->json, s->name, s->name_size);
        if (key) slot = object_find(run->json, container, key, &position);
    } else {
        if (s->kind == QUERY_SLICE)
            return query_select_slice(run, &at->slot, container, s, emit, context);
        if (s->kind == QUERY_NAME) return true;
        const int64_t index = s->start < 0 ? s->start + container->count : s->start;
        if (index < 0 || index >= container->count) return true;
        position = (uint32_t)index;
        slot = container_slot(run->json, container, position);
    }
    return !slot || query_emit_at(run, &at->slot, slot, position, emit, context);
}

static bool query_select_each(struct query_run *run, const struct json_step *at,
                              const struct query_segment *segment, query_emit *emit, void *context)
{
    for (const struct query_selector *s = segment->selectors; s; s = s->next)
        if (!query_select(run, at, s, emit, context)) return false;
    return true;
}

/* A value and all below it, each before what it contains. A level of the stack is a container, and
 * where in it the next child is. */
static bool query_select_below(struct query_run *run, const struct json_step *at,
                               const struct query_segment *segment, query_emit *emit, void *context)
{
    assert(segment->is_descendant);
    struct query_list stack = {NULL, 0, 0};
    struct json_step level = {at->slot, at->number, 0};
    bool goes_on = query_select_each(run, at, segment, emit, context);
    if (goes_on && query_is_container(&at->slot)) goes_on = query_append(run, &level, &stack);
    uint64_t visited = 0;
    while (goes_on && stack.count > 0) {
        struct json_step *top = stack.steps + stack.count - 1;
        const struct json_container *container = container_in(run->json, &top->slot);
        struct json_span span;
        if (!container || (top->position < container->count &&
                           !container_span(run->json, container, top->position, &span))) {
            goes_on = query_fail_run(run, EVH_CORRUPT);
            break;
        }
        if (top->position >= container->count) {
            stack.count--;
            continue;
        }
        uint32_t i = 0; /* what is no container has nothing below it */
        while (i < span.count && !query_is_container(span.slots + i)) i++;
        const struct json_step child = {span.slots[i < span.count ? i : 0], top->slot.id,
                                        top->position + i};
        top->position += i + (i < span.count);
        if (i == span.count) continue;
        level = (struct json_step){child.slot, child.number, 0};
        if (visited++ > run->json->root->containers.used_count)
            goes_on = query_fail_run(run, json_corrupt(child.slot.payload, "containers in a ring"));
        if (goes_on) goes_on = query_select_each(run, &child, segment, emit, context);
        if (goes_on) goes_on = query_append(run, &level, &stack);
    }
    os->memory_free(stack.steps);
    return goes_on;
}

/* ---- paths ---- */

/* Hand on what a path finds from `current`. */
static bool query_walk(struct query_run *run, const struct query_path *path,
                       const struct json_step *current, query_emit *emit, void *context)
{
    const struct json_step *start = path->is_absolute ? &run->root : current;
    struct query_list lists[2] = {{NULL, 0, 0}, {NULL, 0, 0}};
    if (!path->segments) return emit(run, start, context);
    bool goes_on = query_append(run, start, &lists[0]);
    int now = 0;
    for (const struct query_segment *segment = path->segments; goes_on && segment;
         segment = segment->next) {
        lists[!now].count = 0;
        for (size_t i = 0; goes_on && i < lists[now].count; i++) {
            query_emit *to = segment->next ? query_append : emit;
            void *with = segment->next ? &lists[!now] : context;
            goes_on = segment->is_descendant
                          ? query_select_below(run, &lists[now].steps[i], segment, to, with)
                          : query_select_each(run, &lists[now].steps[i], segment, to, with);
        }
        now = !now;
    }
    os->memory_free(lists[0].steps);
    os->memory_free(lists[1].steps);
    return goes_on;
}

struct query_found {
    uint64_t count;
    uint64_t limit;
    struct json_step first;
};

static bool query_count_one(struct query_run *run, const struct json_step *at, void *context)
{
    (void)run;
    struct query_found *found = context;
    assert(found->count < found->limit);
    if (found->count++ == 0) found->first = *at;
    return found->count < found->limit;
}

/* ---- operands ---- */

/* A value, or nothing. */
struct query_result {
    bool is_nothing;
    struct json_slot slot;
    const char *text; /* STRING */
    uint64_t size;
};

static struct query_result query_of_slot(struct query_run *run, const struct json_slot *slot)
{
    struct query_result operand = {.slot = *slot};
    if (slot->type == JSON_STRING) {
        operand.text = text_of(run->json, slot, &operand.size);
        if (!operand.text) {
            run->status = EVH_CORRUPT;
            operand.is_nothing = true;
        }
    }
    return operand;
}

static struct query_result query_evaluate(struct query_run *run, const struct query_expression *e,
                                          const struct json_step *current);

/* How long: characters of a string, values of a container. */
static struct query_result query_length(struct query_run *run, const struct query_result *of)
{
    assert(of != NULL);
    struct query_result length = {.slot = {.type = JSON_INTEGER}};
    length.is_nothing = true;
    if (of->is_nothing) return length;
    if (of->slot.type == JSON_STRING) {
        length.is_nothing = false;
        for (uint64_t i = 0; i < of->size; i++)
            length.slot.payload += ((unsigned char)of->text[i] & 0xc0) != 0x80;
    } else if (query_is_container(&of->slot)) {
        const struct json_container *container = container_in(run->json, &of->slot);
        if (!container) return length;
        length.is_nothing = false;
        length.slot.payload = container->count;
    }
    return length;
}

static struct query_result query_evaluate(struct query_run *run, const struct query_expression *e,
                                          const struct json_step *current)
{
    struct query_result operand = {.is_nothing = true};
    struct query_found found = {.limit = 2};
    if (e->kind == QUERY_LITERAL)
        return (struct query_result){false, e->literal, e->text, e->text_size};
    if (e->kind == QUERY_PATH) {
        (void)query_walk(run, &e->path, current, query_count_one, &found);
        return found.count == 1 ? query_of_slot(run, &found.first.slot) : operand;
    }
    if (NEVER(e->kind != QUERY_FUNCTION)) return operand;
    if (e->function == QUERY_LENGTH) {
        operand = query_evaluate(run, e->left, current);
        return query_length(run, &operand);
    }
    if (e->function == QUERY_COUNT) found.limit = UINT64_MAX;
    (void)query_walk(run, &e->left->path, current, query_count_one, &found);
    if (e->function == QUERY_VALUE)
        return found.count == 1 ? query_of_slot(run, &found.first.slot) : operand;
    operand.is_nothing = false;
    operand.slot = (struct json_slot){.type = JSON_INTEGER, .payload = found.count};
    return operand;
}

/* ---- comparisons ---- */

static bool query_equal(struct query_run *run, const struct query_result *left,
                        const struct query_result *right)
{
    if (left->is_nothing || right->is_nothing) return left->is_nothing && right->is_nothing;
    if (left->slot.type == JSON_STRING || right->slot.type == JSON_STRING)
        return left->slot.type == right->slot.type && left->size == right->size &&
               memcmp(left->text, right->text, left->size) == 0;
    bool equal = false;
    const evh_status status = value_equal(run->json, &left->slot, &right->slot, &equal);
    if (status) run->status = status;
    return equal;
}

static bool query_is_number(const struct json_slot *slot)
{
    return slot->type >= JSON_INTEGER && slot->type <= JSON_DIGITS;
}

static double query_real(struct query_run *run, const struct json_slot *slot)
{
    assert(query_is_number(slot));
    double real = 0;
    uint64_t size = 0;
    if (slot->type == JSON_INTEGER) return (double)(int64_t)slot->payload;
    if (slot->type == JSON_UNSIGNED) return (double)slot->payload;
    if (slot->type == JSON_REAL) {
        memcpy(&real, &slot->payload, sizeof real);
        return real;
    }
    const char *digits = blob_of(run->json, slot->payload, &size);
    return digits ? number_as_real(digits, digits + size) : 0;
}

static bool query_less(struct query_run *run, const struct query_result *left,
                       const struct query_result *right)
{
    if (left->is_nothing || right->is_nothing) return false;
    const struct json_slot *one = &left->slot;
    const struct json_slot *other = &right->slot;
    if (one->type == JSON_STRING && other->type == JSON_STRING) {
        const int order = memcmp(left->text, right->text, base_min(left->size, right->size));
        return order < 0 || (order == 0 && left->size < right->size);
    }
    if (!query_is_number(one) || !query_is_number(other)) return false;
    if (one->type == JSON_INTEGER && other->type == JSON_INTEGER)
        return (int64_t)one->payload < (int64_t)other->payload;
    if (one->type == JSON_UNSIGNED && other->type == JSON_UNSIGNED)
        return one->payload < other->payload;
    return query_real(run, one) < query_real(run, other);
}

static bool query_compare(struct query_run *run, const struct query_expression *e,
                          const struct json_step *current)
{
    assert(e->kind == QUERY_COMPARE);
    const struct query_result left = query_evaluate(run, e->left, current);
    const struct query_result right = query_evaluate(run, e->right, current);
    if (run->status) return false;
    switch (e->comparison) {
    case QUERY_EQ: return query_equal(run, &left, &right);
    case QUERY_NE: return !query_equal(run, &left, &right);
    case QUERY_LT: return query_less(run, &left, &right);
    case QUERY_GT: return query_less(run, &right, &left);
    case QUERY_LE: return query_less(run, &left, &right) || query_equal(run, &left, &right);
    default: return query_less(run, &right, &left) || query_equal(run, &left, &right);
    }
}

/* match() and search(): what is no text, and an expression that is none, does not match. */
static bool query_matches(struct query_run *run, const struct query_expression *e,
                          const struct json_step *current)
{
    assert(e->kind == QUERY_FUNCTION);
    assert(e->function == QUERY_MATCH || e->function == QUERY_SEARCH);
    const struct query_result text = query_evaluate(run, e->left, current);
    const struct query_result pattern = query_evaluate(run, e->right, current);
    if (text.is_nothing || pattern.is_nothing || text.slot.type != JSON_STRING ||
        pattern.slot.type != JSON_STRING)
        return false;
    struct query_expression *argument = e->right;
    struct regex *regex = argument->regex;
    const bool is_whole = e->function == QUERY_MATCH;
    if (!argument->is_regex_checked) {
        evh_status status = EVH_OK;
        regex = regex_compile(pattern.text, pattern.size, &status);
        if (status) run->status = base_fail(status, NO_OFFSET, "json: no memory for an expression");
        struct evh_json_query *query = run->query;
        const uint32_t room = sizeof query->regexes / sizeof query->regexes[0];
        if (argument->kind != QUERY_LITERAL || status || query->regex_count == room) {
            const bool matches = regex && regex_match(regex, text.text, text.size, is_whole);
            regex_end(regex);
            return matches;
        }
        argument->is_regex_checked = true;
        argument->regex = regex;
        query->regexes[query->regex_count++] = argument;
    }
    return regex && regex_match(regex, text.text, text.size, is_whole);
}

static bool query_holds(struct query_run *run, const struct query_expression *e,
                        const struct json_step *current)
{
    struct query_found found = {.limit = 1};
    switch (e->kind) {
    case QUERY_OR: return query_holds(run, e->left, current) || query_holds(run, e->right, current);
    case QUERY_AND:
        return query_holds(run, e->left, current) && query_holds(run, e->right, current);
    case QUERY_NOT: return !query_holds(run, e->left, current);
    case QUERY_COMPARE: return query_compare(run, e, current);
    case QUERY_PATH:
        (void)query_walk(run, &e->path, current, query_count_one, &found);
        return found.count > 0;
    default: return query_matches(run, e, current);
    }
}

/* ---- the whole ---- */

struct query_call {
    evh_json_found *found;
    void *context;
};

static bool query_call(struct query_run *run, const struct json_step *at, void *context)
{
    const struct query_call *call = context;
    const evh_value value = value_of_step(run->json, at);
    if (!evh_json_is(value)) return query_fail_run(run, EVH_CORRUPT);
    return call->found(value, call->context);
}

evh_status evh_json_query_run(evh_json *json, evh_value from, evh_json_query *query,
                              evh_json_found *found, void *context)
{
    evh_status status = json_ready(json);
    if (!status && (!query || !found))
        status = base_fail(EVH_INVALID, NO_OFFSET, "json: no query, or nobody to tell");
    struct query_run run = {.json = json, .query = query};
    if (!status) status = value_load(json, from, &run.root.slot);
    if (status) return status;
    run.root.number = from.container;
    run.root.position = (uint32_t)from.position;
    struct query_call call = {found, context};
    (void)query_walk(&run, &query->path, &run.root, query_call, &call);
    return run.status;
}
