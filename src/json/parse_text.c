/* parse_text.c -- tokens: strings, keys, numbers, and the two objects that mean something else. */
#include "json/parse.h"
#include "os/os.h"

/* ---- strings ---- */

/* Behind the backslash at `at` there is more: the closing quote. NULL: the text ends before. */
static const char *parse_skip_escapes(const char *at, const char *end, uint32_t *high)
{
    assert(*at == '\\');
    assert(high != NULL);
    while (at < end && *at == '\\') {
        if (end - at < 2) return NULL;
        at = scan_string(at + 2, end, high);
    }
    return at < end ? at : NULL;
}

static enum parse_result parse_decode(struct parser *parser, const char *first, const char *last,
                                      const char **text, size_t *size)
{
    assert(first <= last);
    if (parser->scratch_bytes > 0) assert(parser->scratch != NULL);
    const size_t bytes = (size_t)(last - first);
    if (bytes > parser->scratch_bytes) {
        char *grown = os->memory_resize(parser->scratch, 2 * bytes);
        if (!grown)
            return parse_fail_with(
                parser, base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for a string"));
        parser->scratch = grown;
        parser->scratch_bytes = 2 * bytes;
    }
    const char *expected = "";
    const char *wrong = escape_decode(first, last, parser->scratch, size, &expected);
    if (wrong) return parse_fail(parser, wrong, EVH_SYNTAX, expected);
    *text = parser->scratch;
    return PARSE_DONE;
}

enum parse_result parse_string(struct parser *parser, const char **text, size_t *size,
                               const char **stop)
{
    assert(*parser->next == '"');
    const char *const first = parser->next + 1;
    const char *const end = parser->end;
    assert(first <= end);
    uint32_t high = 0;
    const char *last = scan_string(first, end, &high);
    bool has_escapes = false;
    if (UNLIKELY(last < end && *last == '\\')) {
        has_escapes = true;
        last = parse_skip_escapes(last, end, &high);
    }
    if (UNLIKELY(!last || last == end)) {
        if (!parser->is_final) return PARSE_MORE;
        return parse_fail(parser, end, EVH_SYNTAX, "the quote that ends the string");
    }
    if (UNLIKELY(*last != '"'))
        return parse_fail(parser, last, EVH_SYNTAX, "no control character in a string");
    if (high) {
        const char *bad = utf8_check(first, last);
        if (bad != last) return parse_fail(parser, bad, EVH_SYNTAX, "well-formed UTF-8");
    }
    *stop = last + 1;
    *text = first;
    *size = (size_t)(last - first);
    if (UNLIKELY(*size > parser->options.string_bytes_max))
        return parse_fail(parser, parser->next, EVH_LIMIT, "a shorter string");
    return has_escapes ? parse_decode(parser, first, last, text, size) : PARSE_DONE;
}

/* ---- keys ---- */

/* Up to 8 bytes of a key, zero-padded. In the window more may be read than the key has. */
static inline uint64_t parse_key_word(const char *text, size_t size, bool is_in_window)
{
    assert(text != NULL || size == 0);
    uint64_t word = 0;
    if (size >= 8) {
        memcpy(&word, text, 8);
    } else if (is_in_window) {
        memcpy(&word, text, 8);
        word &= (1ull << (8 * size)) - 1;
    } else {
        memcpy(&word, text, size);
    }
    return word;
}

static void parse_flush_key(struct parser *parser, struct parse_key *entry)
{
    if (entry->uses > 0) assert(entry->key != 0);
    if (entry->uses) key_retain(parser->json, entry->key, entry->uses);
    entry->uses = 0;
}

void parse_flush_keys(struct parser *parser)
{
    for (int i = 0; i < PARSE_KEY_CACHE; i++) parse_flush_key(parser, parser->cache + i);
}

void parse_forget_keys(struct parser *parser)
{
    for (int i = 0; i < PARSE_KEY_CACHE; i++) parser->cache[i].key = 0;
}

uint32_t parse_key(struct parser *parser, const char *text, size_t size, bool is_in_window)
{
    assert(text != NULL);
    const uint64_t first = parse_key_word(text, size, is_in_window);
    const uint64_t last = size > 8 ? parse_key_word(text + size - 8, 8, is_in_window) : size;
    const uint64_t hash = (first ^ (last << 21 | last >> 43)) * 0x9e3779b97f4a7c15ull;
    struct parse_key *entry = parser->cache + (hash >> 54);
    if (LIKELY(entry->first == first && entry->last == last && entry->size == size &&
               entry->key != 0 &&
               (size <= 16 || memcmp(entry->text + 8, text + 8, size - 16) == 0))) {
        entry->uses++;
        return entry->key;
    }
    parse_flush_key(parser, entry);
    entry->key = 0;
    const uint32_t key = key_intern(parser->json, text, size);
    if (!key) {
        (void)parse_fail_with(parser, evh_last_error()->status);
        return 0;
    }
    uint64_t stored = 0;
    const char *kept = key_text(parser->json, key, &stored);
    if (kept && size <= UINT32_MAX)
        *entry = (struct parse_key){first, last, kept, (uint32_t)size, key, 0};
    return key;
}

/* ---- numbers ---- */

/* Whether a real is written as it was read. */
static bool parse_is_kept(const struct number *number, const char *text, size_t size)
{
    if (number->kind != NUMBER_REAL || number->is_plain) return true;
    char written[NUMBER_TEXT_MAX];
    return number_write_real(written, number->real) == size && memcmp(written, text, size) == 0;
}

enum parse_result parse_number(struct parser *parser, struct json_slot *slot)
{
    assert(slot != NULL);
    static const uint8_t types[] = {JSON_INTEGER, JSON_UNSIGNED, JSON_REAL, JSON_DIGITS};
    struct number number;
    enum number_fault fault = NUMBER_GOOD;
    const char *const text = parser->next;
    const char *stop = number_read(text, parser->end, &number, &fault);
    if (UNLIKELY(stop == parser->end && !parser->is_final)) return PARSE_MORE;
    if (UNLIKELY(fault)) {
        return parse_fail(parser, stop, EVH_SYNTAX,
                          fault == NUMBER_NO_DIGIT ? "a digit" : "no digit behind a leading 0");
    }
    const size_t size = (size_t)(stop - text);
    if (UNLIKELY(size > parser->options.number_bytes_max))
        return parse_fail(parser, text, EVH_LIMIT, "a shorter number");
    *slot = (struct json_slot){.type = types[number.kind], .payload = number.natural};
    if (number.kind == NUMBER_REAL && number.is_plain) slot->flags = JSON_NO_POINT;
    if (UNLIKELY(number.kind == NUMBER_DIGITS ||
                 (parser->options.keep_digits && !parse_is_kept(&number, text, size)))) {
        *slot =
            (struct json_slot){.type = JSON_DIGITS, .payload = blob_make(parser->json, text, size)};
        if (!slot->payload) return parse_fail_with(parser, evh_last_error()->status);
    }
    parser->next = stop;
    return PARSE_DONE;
}

/* ---- $ref and $base64 ---- */

static enum parse_result parse_special_ref(struct parser *parser, const char *text, uint64_t size,
                                           uint32_t owner, struct json_slot *slot, bool *is_special)
{
    assert(!*is_special);
    size_t fault = 0;
    const bool is_fragment = parser->options.fragments && size > 1 && text[0] == '#';
    const bool is_path = size > 0 && (text[0] == '/' || (is_fragment && text[1] == '/'));
    if (is_path && pointer_check(text + is_fragment, size - is_fragment, &fault)) {
        /* A fragment is percent-encoded; what follows the # is kept decoded. */
        char *target = NULL;
        size_t bytes = size - is_fragment;
        if (is_fragment) {
            target = os->memory_allocate(size);
            if (!target || !pointer_from_fragment(text + 1, size - 1, target, &bytes) ||
                utf8_check(target, target + bytes) != target + bytes ||
                !pointer_check(target, bytes, &fault)) {
                os->memory_free(target);
                return PARSE_DONE;
            }
        }
        const evh_status status =
            ref_make(parser->json, owner, target ? target : text, bytes, slot);
        os->memory_free(target);
        if (status) return parse_fail_with(parser, status);
        *is_special = true;
        return PARSE_DONE;
    }
    if (!parser->options.strict) return PARSE_DONE;
    return parse_fail(parser, parser->next, EVH_SYNTAX, "a JSON Pointer in $ref");
}

static enum parse_result parse_special_bytes(struct parser *parser, const char *text, uint64_t size,
                                             struct json_slot *slot, bool *is_special)
{
    assert(!*is_special);
    size_t bytes = 0;
    if (!base64_decode(text, size, NULL, &bytes)) {
        if (!parser->options.strict) return PARSE_DONE;
        return parse_fail(parser, parser->next, EVH_SYNTAX, "canonical base64 in $base64");
    }
    struct evh_json *json = parser->json;
    void *address = NULL;
    const uint64_t offset = json_allocate(json, sizeof(struct json_blob) + bytes + 1, &address);
    if (!offset) return parse_fail_with(parser, evh_last_error()->status);
    struct json_blob *blob = address;
    blob->size = bytes;
    unsigned char *target = (unsigned char *)(blob + 1);
    (void)base64_decode(text, size, target, &bytes);
    target[bytes] = 0;
    json->root->blob_bytes += bytes;
    *slot = (struct json_slot){.type = JSON_BYTES, .payload = offset};
    *is_special = true;
    return PARSE_DONE;
}

enum parse_result parse_special(struct parser *parser, uint32_t key, uint32_t owner,
                                struct json_slot *slot, bool *is_special)
{
    assert(key != 0);
    assert(key == parser->ref_key || key == parser->base64_key);
    *is_special = false;
    if (slot->type != JSON_STRING) {
        if (!parser->options.strict) return PARSE_DONE;
        return parse_fail(parser, parser->next, EVH_SYNTAX, "a string in $ref or $base64");
    }
    uint64_t size = 0;
    const char *text = text_of(parser->json, slot, &size);
    if (!text) return parse_fail_with(parser, EVH_CORRUPT);
    const struct json_slot before = *slot;
    enum parse_result result = PARSE_DONE;
    if (key == parser->ref_key) {
        result = parse_special_ref(parser, text, size, owner, slot, is_special);
    } else {
        result = parse_special_bytes(parser, text, size, slot, is_special);
    }
    if (*is_special) (void)text_free(parser->json, &before);
    return result;
}
