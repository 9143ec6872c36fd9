/* parse_window.c -- the text that is being parsed, a window of it at a time, and places in it.
 *
 * A document in memory is read where it is but for its last 64 bytes, which are copied, so that
 * vectors may read behind the end. From a source 1 MiB is read at a time; a token that reaches over
 * the window's end is moved to the next one's beginning and begun again. The window grows only for
 * a token that is larger than half of it.
 */
#include "json/parse.h"
#include "os/os.h"

#include <stdio.h>

enum parse_result parse_fail_with(struct parser *parser, evh_status status)
{
    assert(status != EVH_OK);
    parser->status = status;
    return PARSE_FAILED;
}

enum parse_result parse_fail(struct parser *parser, const char *at, evh_status status,
                             const char *expected)
{
    assert(at >= parser->window);
    assert(at <= parser->end);
    assert(expected != NULL);
    const uint64_t offset = parser->window_offset + (uint64_t)(at - parser->window);
    const char *line = NULL;
    const uint64_t lines = parser->lines + scan_lines(parser->window, at, &line);
    uint64_t column = offset - parser->line_offset;
    if (line) column = (uint64_t)(at - line);
    evh_json_fault fault = {.offset = offset, .line = lines + 1, .column = column + 1};
    snprintf(fault.expected, sizeof fault.expected, "%s", expected);
    if (parser->fault) *parser->fault = fault;
    char found[24] = "the end";
    if (at < parser->end) {
        const unsigned char byte = (unsigned char)*at;
        if (byte > 0x20 && byte < 0x7f) {
            snprintf(found, sizeof found, "'%c'", byte);
        } else {
            snprintf(found, sizeof found, "byte 0x%02x", byte);
        }
    }
    return parse_fail_with(parser, base_fail(status, NO_OFFSET,
                                             "json: line %llu, column %llu (byte %llu): expected "
                                             "%s, found %s",
                                             (unsigned long long)fault.line,
                                             (unsigned long long)fault.column,
                                             (unsigned long long)offset, expected, found));
}

/* What is before `next` has been read: count its lines, and begin the window at `to`. */
static void parse_move_window(struct parser *parser, const char *to)
{
    assert(parser->window <= parser->next);
    assert(to != NULL);
    const char *line = NULL;
    parser->lines += scan_lines(parser->window, parser->next, &line);
    if (line) parser->line_offset = parser->window_offset + (uint64_t)(line - parser->window);
    parser->window_offset += (uint64_t)(parser->next - parser->window);
    parser->window = to;
    parser->next = to;
}

static bool parse_grow(struct parser *parser, size_t bytes)
{
    assert(bytes > 0);
    if (bytes <= parser->buffer_bytes) return true;
    char *grown = os->memory_resize(parser->buffer, bytes + PARSE_PADDING_BYTES);
    if (!grown) {
        (void)parse_fail_with(parser,
                              base_fail(EVH_NO_MEMORY, NO_OFFSET,
                                        "json: no memory for a window of %zu bytes", bytes));
        return false;
    }
    parser->buffer = grown;
    parser->buffer_bytes = bytes;
    return true;
}

/* The rest of a text in memory, with padding behind it. */
static bool parse_refill_rest(struct parser *parser)
{
    assert(!parser->source);
    assert(parser->next <= parser->end);
    const size_t left = (size_t)(parser->end - parser->next);
    const size_t total = left + parser->rest_bytes;
    const char *from = parser->next;
    if (!parse_grow(parser, total + 1)) return false;
    parse_move_window(parser, parser->buffer);
    memcpy(parser->buffer, from, left);
    memcpy(parser->buffer + left, parser->rest, parser->rest_bytes);
    memset(parser->buffer + total, 0, PARSE_PADDING_BYTES);
    parser->end = parser->buffer + total;
    parser->is_final = true;
    return true;
}

bool parse_refill(struct parser *parser)
{
    assert(parser->next <= parser->end);
    if (parser->is_final) return false;
    if (!parser->source) return parse_refill_rest(parser);
    const size_t left = (size_t)(parser->end - parser->next);
    const char *from = parser->next;
    if (parser->buffer && left > parser->buffer_bytes / 2) {
        if (left / 6 > base_max(parser->options.string_bytes_max, PARSE_WINDOW_BYTES)) {
            (void)parse_fail(parser, parser->next, EVH_LIMIT, "a shorter string");
            return false;
        }
        const size_t at = (size_t)(parser->next - parser->window);
        const size_t filled = (size_t)(parser->end - parser->window);
        if (!parse_grow(parser, 2 * parser->buffer_bytes)) return false;
        parser->window = parser->buffer;
        parser->next = parser->buffer + at;
        parser->end = parser->buffer + filled;
        from = parser->next;
    } else if (!parser->buffer && !parse_grow(parser, PARSE_WINDOW_BYTES)) {
        return false;
    }
    if (!parser->window) {
        parser->window = parser->buffer;
        parser->next = parser->buffer;
        from = parser->buffer;
    }
    parse_move_window(parser, parser->buffer);
    memmove(parser->buffer, from, left);
    size_t done = 0;
    const int error =
        parser->source(parser->context, parser->buffer + left, parser->buffer_bytes - left, &done);
    parser->end = parser->buffer + left;
    if (error) {
        (void)parse_fail_with(parser, base_fail_os(error, NO_OFFSET, "json: cannot read the text"));
        return false;
    }
    assert(done <= parser->buffer_bytes - left);
    parser->end += done;
    memset(parser->buffer + left + done, 0, PARSE_PADDING_BYTES);
    if (done == 0) parser->is_final = true;
    return true;
}
