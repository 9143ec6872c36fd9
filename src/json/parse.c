/* parse.c -- JSON text straight into the heap: RFC 8259, without recursion.
 *
 * The values of an open container wait on a stack; when it is closed they become its body, of
 * exactly the right size, in one block. Containers with very many values put them away in portions,
 * so that memory is bounded by what is open and not by the text. Strings are copied once, from the
 * window to where they stay. What a text that is wrong has left is freed again.
 */
#include "json/parse.h"
#include "os/os.h"

#include <stdio.h>

/* ---- the stack ---- */

static bool parse_reserve(struct parser *parser)
{
    assert(parser->count <= parser->capacity);
    if (LIKELY(parser->count < parser->capacity)) return true;
    const size_t capacity = parser->capacity ? 2 * parser->capacity : 1024;
    struct json_slot *slots = os->memory_resize(parser->slots, capacity * sizeof *slots);
    if (slots) parser->slots = slots;
    uint32_t *keys = os->memory_resize(parser->keys, capacity * sizeof *keys);
    if (keys) parser->keys = keys;
    if (!slots || !keys) {
        (void)parse_fail_with(parser,
                              base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for values"));
        return false;
    }
    parser->capacity = capacity;
    assert(parser->count < parser->capacity);
    return true;
}

static inline struct parse_frame *parse_top(struct parser *parser)
{
    assert(parser->depth > 0);
    return parser->frames + parser->depth - 1;
}

/* Put the waiting values of a container into it. */
static enum parse_result parse_put_away(struct parser *parser, struct parse_frame *frame)
{
    assert(parser->count > frame->first);
    assert(frame == parse_top(parser));
    struct evh_json *json = parser->json;
    const uint32_t count = (uint32_t)(parser->count - frame->first);
    const struct json_slot *slots = parser->slots + frame->first;
    const uint32_t *keys = NULL;
    if (frame->kind == JSON_KIND_OBJECT) keys = parser->keys + frame->first;
    evh_status status = EVH_OK;
    if (frame->container->count == 0) {
        status = container_fill(json, frame->container, frame->number, slots, keys, count);
    } else {
        status = json_tree_append(json, frame->container, frame->number, slots, keys, count);
    }
    if (UNLIKELY(status)) return parse_fail_with(parser, status);
    parser->count = frame->first;
    return PARSE_DONE;
}

/* The key that a value was read for is there already. */
static enum parse_result parse_put_duplicate(struct parser *parser, struct parse_frame *frame,
                                             const struct json_slot *slot)
{
    assert(frame->duplicate > 0);
    assert(frame->kind == JSON_KIND_OBJECT);
    assert(parser->has_key);
    struct evh_json *json = parser->json;
    const uint64_t position = frame->duplicate - 1;
    const uint32_t put_away = frame->container->count;
    struct json_slot *there = parser->slots + frame->first + (position - put_away);
    if (position < put_away) there = container_slot(json, frame->container, (uint32_t)position);
    if (!there) return parse_fail_with(parser, EVH_CORRUPT);
    struct json_slot loser = *slot;
    if (parser->options.duplicates == EVH_JSON_DUPLICATES_LAST) {
        loser = *there;
        *there = *slot;
    }
    frame->duplicate = 0;
    parser->has_key = false;
    /* Symbols' references are what they should be; and none is remembered that may go now, with the
     * last member that has it. */
    parse_flush_keys(parser);
    parse_forget_keys(parser);
    key_release(json, parser->keys[parser->count]);
    value_free(json, &loser);
    return PARSE_DONE;
}

/* A value is complete. */
static inline enum parse_result parse_put(struct parser *parser, const struct json_slot *slot)
{
    assert(slot->type != JSON_NONE);
    parser->state = PARSE_BEHIND;
    if (UNLIKELY(parser->depth == 0)) {
        parser->result = *slot;
        parser->state = PARSE_END;
        return PARSE_DONE;
    }
    struct parse_frame *frame = parse_top(parser);
    if (UNLIKELY(frame->duplicate)) return parse_put_duplicate(parser, frame, slot);
    parser->slots[parser->count++] = *slot;
    parser->has_key = false;
    const size_t waiting = parser->count - frame->first;
    size_t limit = PARSE_ITEMS_MAX;
    if (frame->kind == JSON_KIND_OBJECT) /* they are searched for duplicates */
        limit = frame->container->count ? JSON_MEMBERS_MAX : JSON_FLAT_MAX + 1;
    if (UNLIKELY(waiting >= limit)) return parse_put_away(parser, frame);
    return PARSE_DONE;
}

/* ---- containers ---- */

static enum parse_result parse_open(struct parser *parser, uint32_t kind)
{
    assert(kind == JSON_KIND_ARRAY || kind == JSON_KIND_OBJECT);
    const uint64_t depth_max = (uint64_t)parser->options.depth_max + parser->options.lines;
    if (UNLIKELY(parser->depth >= depth_max))
        return parse_fail(parser, parser->next, EVH_LIMIT, "less deep nesting");
    if (UNLIKELY(parser->depth == parser->frame_capacity)) {
        void *grown = json_grow(parser->frames, &parser->frame_capacity, sizeof *parser->frames);
        if (!grown) return parse_fail_with(parser, EVH_NO_MEMORY);
        parser->frames = grown;
    }
    const uint32_t parent = parser->depth ? parse_top(parser)->number : parser->owner;
    struct parse_frame frame = {.kind = kind, .first = parser->count + parser->has_key};
    frame.number = container_make(parser->json, kind, parent, &frame.container);
    if (UNLIKELY(!frame.number)) return parse_fail_with(parser, evh_last_error()->status);
    parser->counts[kind]++;
    /* The key of the container itself stays below its values. */
    if (parser->has_key) parser->count++;
    parser->has_key = false;
    parser->frames[parser->depth++] = frame;
    return PARSE_DONE;
}

/* Close the topmost container; it is a value of the one below. */
static enum parse_result parse_close(struct parser *parser)
{
    assert(parser->depth > 0);
    assert(!parser->has_key);
    struct evh_json *json = parser->json;
    const struct parse_frame frame = *parse_top(parser);
    const size_t waiting = parser->count - frame.first;
    struct json_slot slot = {.type = (uint8_t)frame.kind,
                             .id = frame.number,
                             .payload = json_offset(json, frame.container)};
    bool is_special = false;
    if (frame.kind == JSON_KIND_OBJECT && waiting == 1 && frame.container->count == 0) {
        const uint32_t key = parser->keys[frame.first];
        if (key == parser->ref_key || key == parser->base64_key) {
            const uint32_t owner =
                parser->depth > 1 ? parser->frames[parser->depth - 2].number : parser->owner;
            const enum parse_result result =
                parse_special(parser, key, owner, parser->slots + frame.first, &is_special);
            if (result) return result;
            if (is_special) {
                slot = parser->slots[frame.first];
                parser->counts[JSON_OBJECT]--;
                parser->counts[JSON_STRING]--;
                parser->counts[slot.type]++;
                parser->special_uses[key == parser->ref_key]++;
                container_end(json, frame.number, frame.container);
                parser->count = frame.first;
            }
        }
    }
    if (!is_special && waiting > 0) {
        const enum parse_result result = parse_put_away(parser, parse_top(parser));
        if (UNLIKELY(result)) return result;
    }
    parser->depth--;
    if (parser->depth > 0 && parse_top(parser)->kind == JSON_KIND_OBJECT) {
        parser->count--; /* its key */
        parser->has_key = true;
    }
    return parse_put(parser, &slot);
}

/* ---- members ---- */

/* Whether the object has the key already: its position + 1. */
static uint64_t parse_find_duplicate(struct parser *parser, const struct parse_frame *frame,
                                     uint32_t key)
{
    assert(frame->kind == JSON_KIND_OBJECT);
    assert(key != 0);
    const uint32_t put_away = frame->container->count;
    const uint32_t waiting = (uint32_t)(parser->count - frame->first);
    const uint32_t at = keys_scan(parser->keys + frame->first, waiting, key);
    if (at < waiting) return (uint64_t)put_away + at + 1;
    uint32_t position = 0;
    if (put_away && object_find(parser->json, frame->container, key, &position))
        return (uint64_t)position + 1;
    return 0;
}

static enum parse_result parse_member_key(struct parser *parser)
{
    assert(*parser->next == '"');
    assert(!parser->has_key);
    assert(parse_top(parser)->kind == JSON_KIND_OBJECT);
    const char *text = NULL;
    const char *stop = NULL;
    size_t size = 0;
    const enum parse_result result = parse_string(parser, &text, &size, &stop);
    if (UNLIKELY(result)) return result;
    /* keys_scan() reads to a multiple of four. */
    if (UNLIKELY(parser->count + 4 >= parser->capacity)) {
        const size_t count = parser->count;
        parser->count = parser->capacity;
        const bool has_room = parse_reserve(parser);
        parser->count = count;
        if (!has_room) return PARSE_FAILED;
    }
    const uint32_t key = parse_key(parser, text, size, text != parser->scratch);
    if (UNLIKELY(!key)) return PARSE_FAILED;
    struct parse_frame *frame = parse_top(parser);
    const uint64_t bit = 1ull << (key_hash(key) >> 26);
    parser->keys[parser->count] = key;
    parser->has_key = true;
    if (UNLIKELY(frame->seen & bit)) {
        frame->duplicate = parse_find_duplicate(parser, frame, key);
        if (frame->duplicate && parser->options.duplicates == EVH_JSON_DUPLICATES_REFUSED)
            return parse_fail(parser, parser->next, EVH_SYNTAX, "a key that is not there yet");
    }
    frame->seen |= bit;
    parser->next = stop;
    parser->state = PARSE_COLON;
    return PARSE_DONE;
}

/* ---- values ---- */

static enum parse_result parse_literal(struct parser *parser)
{
    assert(parser->next < parser->end);
    static const struct {
        const char *text;
        size_t size;
        struct json_slot slot;
    } literals[] = {
        {"null", 4, {.type = JSON_NULL}},
        {"true", 4, {.type = JSON_BOOLEAN, .payload = 1}},
        {"false", 5, {.type = JSON_BOOLEAN, .payload = 0}},
    };
    const char *at = parser->next;
    const int which = *at == 'n' ? 0 : *at == 't' ? 1 : 2;
    const size_t size = literals[which].size;
    if (*at != literals[which].text[0]) return parse_fail(parser, at, EVH_SYNTAX, "a value");
    if (UNLIKELY((size_t)(parser->end - at) < size && !parser->is_final)) return PARSE_MORE;
    for (size_t i = 1; i < size; i++) {
        if (at + i < parser->end && at[i] == literals[which].text[i]) continue;
        return parse_fail(parser, at + i, EVH_SYNTAX, literals[which].text);
    }
    parser->next += size;
    parser->counts[literals[which].slot.type]++;
    return parse_put(parser, &literals[which].slot);
}

static enum parse_result parse_string_value(struct parser *parser)
{
    assert(*parser->next == '"');
    const char *text = NULL;
    const char *stop = NULL;
    size_t size = 0;
    const enum parse_result result = parse_string(parser, &text, &size, &stop);
    if (UNLIKELY(result)) return result;
    struct json_slot slot;
    const uint32_t owner = parser->depth ? parse_top(parser)->number : parser->owner;
    const evh_status status = text_make(parser->json, owner, text, size, &slot, NULL);
    if (UNLIKELY(status)) return parse_fail_with(parser, status);
    parser->next = stop;
    parser->counts[JSON_STRING]++;
    return parse_put(parser, &slot);
}

/* A value begins at next, which is no white space. */
static enum parse_result parse_value(struct parser *parser)
{
    assert(parser->next < parser->end);
    if (UNLIKELY(!parse_reserve(parser))) return PARSE_FAILED;
    const char first = *parser->next;
    if (first == '"') return parse_string_value(parser);
    if (first == '{' || first == '[') {
        const bool is_object = first == '{';
        const enum parse_result result =
            parse_open(parser, is_object ? JSON_KIND_OBJECT : JSON_KIND_ARRAY);
        if (UNLIKELY(result)) return result;
        parser->next++;
        parser->state = is_object ? PARSE_FIRST_KEY : PARSE_FIRST_VALUE;
        return PARSE_DONE;
    }
    if (first == '-' || (first >= '0' && first <= '9')) {
        struct json_slot slot = {.type = JSON_NONE};
        const enum parse_result result = parse_number(parser, &slot);
        if (UNLIKELY(result)) return result;
        parser->counts[slot.type]++;
        return parse_put(parser, &slot);
    }
    return parse_literal(parser);
}

/* Behind a value of a container. */
static enum parse_result parse_behind(struct parser *parser)
{
    assert(parser->state == PARSE_BEHIND);
    assert(!parser->has_key);
    const struct parse_frame *frame = parse_top(parser);
    const bool is_object = frame->kind == JSON_KIND_OBJECT;
    if (parser->options.lines && parser->depth == 1) { /* the next value, without a comma */
        parser->state = PARSE_VALUE;
        return PARSE_DONE;
    }
    const char byte = *parser->next;
    if (byte == ',') {
        parser->next++;
        parser->state = is_object ? PARSE_KEY : PARSE_VALUE;
        return PARSE_DONE;
    }
    if (byte != (is_object ? '}' : ']'))
        return parse_fail(parser, parser->next, EVH_SYNTAX, is_object ? ", or }" : ", or ]");
    parser->next++;
    return parse_close(parser);
}

/* One token, which begins at next. */
static inline enum parse_result parse_step(struct parser *parser)
{
    assert(parser->next < parser->end);
    const char byte = *parser->next;
    switch (parser->state) {
    case PARSE_FIRST_VALUE:
        if (byte == ']') {
            parser->next++;
            return parse_close(parser);
        }
        return parse_value(parser);
    case PARSE_VALUE: return parse_value(parser);
    case PARSE_FIRST_KEY:
        if (byte == '}') {
            parser->next++;
            return parse_close(parser);
        }
        if (byte != '"') return parse_fail(parser, parser->next, EVH_SYNTAX, "a key or }");
        return parse_member_key(parser);
    case PARSE_KEY:
        if (byte != '"') return parse_fail(parser, parser->next, EVH_SYNTAX, "a key");
        return parse_member_key(parser);
    case PARSE_COLON:
        if (byte != ':') return parse_fail(parser, parser->next, EVH_SYNTAX, "a colon");
        parser->next++;
        parser->state = PARSE_VALUE;
        return PARSE_DONE;
    case PARSE_BEHIND: return parse_behind(parser);
    default: return parse_fail(parser, parser->next, EVH_SYNTAX, "nothing behind the value");
    }
}

/* The text is at its end. */
static enum parse_result parse_finish(struct parser *parser)
{
    assert(parser->is_final);
    assert(parser->next == parser->end);
    static const char *const expected[] = {
        [PARSE_VALUE] = "a value",        [PARSE_FIRST_VALUE] = "a value or ]",
        [PARSE_FIRST_KEY] = "a key or }", [PARSE_KEY] = "a key",
        [PARSE_COLON] = "a colon",        [PARSE_BEHIND] = ", or the end of the container",
    };
    if (parser->options.lines && parser->depth == 1 &&
        (parser->state == PARSE_VALUE || parser->state == PARSE_BEHIND))
        return parse_close(parser);
    if (parser->state == PARSE_END) return PARSE_DONE;
    return parse_fail(parser, parser->end, EVH_SYNTAX, expected[parser->state]);
}

static enum parse_result parse_begin(struct parser *parser)
{
    assert(parser->depth == 0);
    assert(parser->count == 0);
    parser->state = PARSE_VALUE;
    while (parser->end - parser->next < 3 && parse_refill(parser)) continue;
    if (parser->status) return PARSE_FAILED;
    if (parser->end - parser->next >= 3 && memcmp(parser->next, "\xef\xbb\xbf", 3) == 0) {
        if (!parser->options.byte_order_mark)
            return parse_fail(parser, parser->next, EVH_SYNTAX, "a value, not a byte order mark");
        parser->next += 3;
    }
    if (!parser->options.plain) {
        parser->ref_key = key_intern(parser->json, "$ref", 4);
        parser->base64_key = key_intern(parser->json, "$base64", 7);
        if (!parser->ref_key || !parser->base64_key)
            return parse_fail_with(parser, evh_last_error()->status);
    }
    if (!parser->options.lines) return PARSE_DONE;
    const enum parse_result result = parse_open(parser, JSON_KIND_ARRAY);
    return result ? result : (enum parse_result)(parse_reserve(parser) ? PARSE_DONE : PARSE_FAILED);
}

static enum parse_result parse_run(struct parser *parser)
{
    enum parse_result result = parse_begin(parser);
    while (!result) {
        const char *next = parser->next;
        const char *const end = parser->end;
        while (next < end && (*next == ' ' || *next == '\n' || *next == '\r' || *next == '\t'))
            next++;
        parser->next = next;
        if (LIKELY(next < end)) result = parse_step(parser);
        if (LIKELY(next < end && result != PARSE_MORE)) continue;
        if (parse_refill(parser)) {
            result = PARSE_DONE;
            continue;
        }
        if (parser->status) return PARSE_FAILED;
        if (NEVER(result == PARSE_MORE)) return parse_fail(parser, end, EVH_SYNTAX, "more text");
        return parse_finish(parser);
    }
    return result;
}

/* ---- the whole ---- */

/* Free what is there of a value that will not be. */
static void parse_discard(struct parser *parser)
{
    assert(parser->status != EVH_OK);
    struct evh_json *json = parser->json;
    if (parser->state == PARSE_END) value_free(json, &parser->result);
    if (parser->has_key) key_release(json, parser->keys[parser->count]);
    while (parser->depth > 0) {
        struct parse_frame *frame = parse_top(parser);
        for (size_t i = frame->first; i < parser->count; i++) {
            if (frame->kind == JSON_KIND_OBJECT) key_release(json, parser->keys[i]);
            value_free(json, parser->slots + i);
        }
        parser->count = frame->first;
        const struct json_slot slot = {.type = (uint8_t)frame->kind,
                                       .id = frame->number,
                                       .payload = json_offset(json, frame->container)};
        value_free(json, &slot);
        parser->depth--;
        if (parser->depth > 0 && parse_top(parser)->kind == JSON_KIND_OBJECT)
            key_release(json, parser->keys[--parser->count]);
    }
}

static void parse_end(struct parser *parser)
{
    struct evh_json *json = parser->json;
    parse_flush_keys(parser);
    for (int type = 0; type < JSON_TYPE_COUNT; type++)
        json->root->counts[type] += parser->counts[type];
    if (parser->status) {
        const evh_error error = *evh_last_error();
        parse_discard(parser);
        (void)base_fail(parser->status, error.offset, "%s", error.message);
    }
    for (uint64_t i = 0; parser->base64_key && i <= parser->special_uses[0]; i++)
        key_release(json, parser->base64_key);
    for (uint64_t i = 0; parser->ref_key && i <= parser->special_uses[1]; i++)
        key_release(json, parser->ref_key);
    os->memory_free(parser->buffer);
    os->memory_free(parser->frames);
    os->memory_free(parser->slots);
    os->memory_free(parser->keys);
    os->memory_free(parser->scratch);
}

static evh_status parse_into(evh_json *json, evh_value value, struct parser *parser,
                             const evh_json_read_options *options, evh_json_fault *fault)
{
    struct json_place place;
    evh_status status = json_writable(json);
    if (!status) status = value_place(json, value, &place);
    if (status) return status;
    parser->json = json;
    parser->owner = place.number;
    parser->fault = fault;
    if (options) parser->options = *options;
    evh_json_read_options *limits = &parser->options;
    if (!limits->depth_max) limits->depth_max = PARSE_DEPTH_MAX;
    if (!limits->string_bytes_max) limits->string_bytes_max = 1ull << 30;
    if (!limits->number_bytes_max) limits->number_bytes_max = 1u << 16;
    if (fault) *fault = (evh_json_fault){0, 0, 0, ""};
    (void)parse_run(parser);
    parse_end(parser);
    if (parser->status) return parser->status;
    assert(parser->state == PARSE_END);
    assert(parser->depth == 0);
    assert(parser->count == 0);
    json_count(json, &parser->result, -1); /* value_replace() counts it */
    value_replace(json, &place, &parser->result);
    return EVH_OK;
}

static struct parser *parse_new(void)
{
    struct parser *parser = os->memory_allocate(sizeof *parser);
    if (!parser) (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for a parser");
    return parser;
}

evh_status evh_json_parse(evh_json *json, evh_value value, const char *text, size_t size,
                          const evh_json_read_options *options, evh_json_fault *fault)
{
    if (!text && size) return base_fail(EVH_INVALID, NO_OFFSET, "json: no text");
    struct parser *parser = parse_new();
    if (!parser) return EVH_NO_MEMORY;
    const size_t direct = size > PARSE_PADDING_BYTES ? size - PARSE_PADDING_BYTES : 0;
    parser->window = text ? text : "";
    parser->next = parser->window;
    parser->end = parser->window + direct;
    parser->rest = parser->end;
    parser->rest_bytes = size - direct;
    const evh_status status = parse_into(json, value, parser, options, fault);
    os->memory_free(parser);
    return status;
}

evh_status evh_json_read(evh_json *json, evh_value value, evh_json_source *source, void *context,
                         const evh_json_read_options *options, evh_json_fault *fault)
{
    if (!source) return base_fail(EVH_INVALID, NO_OFFSET, "json: no source");
    struct parser *parser = parse_new();
    if (!parser) return EVH_NO_MEMORY;
    parser->source = source;
    parser->context = context;
    const evh_status status = parse_into(json, value, parser, options, fault);
    os->memory_free(parser);
    return status;
}

static int parse_from_file(void *context, char *buffer, size_t size, size_t *done)
{
    assert(context != NULL);
    assert(done != NULL);
    FILE *file = context;
    *done = fread(buffer, 1, size, file);
    return *done == 0 && ferror(file) ? (errno ? errno : EIO) : 0;
}

evh_status evh_json_read_file(evh_json *json, evh_value value, FILE *file,
                              const evh_json_read_options *options, evh_json_fault *fault)
{
    if (!file) return base_fail(EVH_INVALID, NO_OFFSET, "json: no file");
    errno = 0;
    return evh_json_read(json, value, parse_from_file, file, options, fault);
}
