/* output.c -- text and JSON that are safe to print, whatever bytes the heap holds. */
#include "cli.h"

#include <assert.h>
#include <string.h>
#include <time.h>

/* ---- UTF-8 ---- */

/*
 * The character at the start of `text` and how many bytes it takes. 0 bytes if they are not valid
 * UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
 */
static size_t utf8_decode(const unsigned char *text, size_t size, uint32_t *character)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    assert(size > 0);

    if (text[0] < 0x80) {
        *character = text[0];
        return 1;
    }
    const size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4 || length > size) return 0;

    uint32_t value = text[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (text[i] & 0x3fu);
    }
    if (value < least[length] || value > 0x10ffff) return 0;
    if (value >= 0xd800 && value <= 0xdfff) return 0;
    *character = value;
    return length;
}

/* Characters that act on a terminal or on the text around them instead of standing for themselves:
 * C0 and C1 controls, line and paragraph separators, and the marks that change direction. */
static bool is_active(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character < 0xa0) ||
           (character >= 0x200e && character <= 0x200f) ||
           (character >= 0x2028 && character <= 0x202e) ||
           (character >= 0x2066 && character <= 0x2069) || character == 0xfeff;
}

bool cli_is_utf8(const char *text, size_t size)
{
    uint32_t character;
    for (size_t i = 0; i < size;) {
        const size_t length = utf8_decode((const unsigned char *)text + i, size - i, &character);
        if (length == 0) return false;
        i += length;
    }
    return true;
}

void cli_put_escaped(FILE *file, const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < size;) {
        uint32_t character = 0;
        size_t length = utf8_decode(bytes + i, size - i, &character);
        const bool is_plain = length > 0 && !is_active(character) && character != '\\';
        if (length == 0) length = 1;
        if (is_plain)
            fwrite(bytes + i, 1, length, file);
        else if (character == '\\')
            fputs("\\\\", file);
        else
            for (size_t k = 0; k < length; k++) fprintf(file, "\\x%02x", bytes[i + k]);
        i += length;
    }
}

/* ---- numbers for people ---- */

enum { TEXT_BUFFER_BYTES = 64 };

/* One of eight buffers in turn, so that a printf may take several results at once. */
static char *text_buffer(void)
{
    static char buffers[8][TEXT_BUFFER_BYTES];
    static unsigned next;
    return buffers[next++ % 8];
}

const char *cli_count(uint64_t number)
{
    char *const buffer = text_buffer();
    char *digit = buffer + TEXT_BUFFER_BYTES - 1;
    *digit = 0;
    unsigned count = 0;
    do {
        if (count > 0 && count % 3 == 0) *--digit = ',';
        *--digit = (char)('0' + number % 10);
        number /= 10;
        count++;
    } while (number > 0);
    return digit;
}

const char *cli_plural(uint64_t number, const char *noun)
{
    char *const buffer = text_buffer();
    snprintf(buffer, TEXT_BUFFER_BYTES, "%s %s%s", cli_count(number), noun, number == 1 ? "" : "s");
    return buffer;
}

const char *cli_size(uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) return cli_plural(bytes, "byte");

    unsigned unit = 0;
    double value = (double)bytes / 1024;
    while (value >= 1023.95 && unit < 5) { /* what would print as 1024.0 */
        value /= 1024;
        unit++;
    }
    char *const buffer = text_buffer();
    snprintf(buffer, TEXT_BUFFER_BYTES, "%.1f %s", value, units[unit]);
    return buffer;
}

const char *cli_exact_size(uint64_t bytes)
{
    if (bytes < 1024) return cli_size(bytes);
    char *const buffer = text_buffer();
    snprintf(buffer, TEXT_BUFFER_BYTES, "%s (%s bytes)", cli_size(bytes), cli_count(bytes));
    return buffer;
}

const char *cli_time(uint64_t time_ns)
{
    char *const buffer = text_buffer();
    const time_t seconds = (time_t)(time_ns / 1000000000u);
    const struct tm *const utc = gmtime(&seconds);
    char date[32];
    if (!utc || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", utc) == 0) date[0] = 0;
    const unsigned milliseconds = (unsigned)(time_ns % 1000000000u / 1000000u);
    snprintf(buffer, TEXT_BUFFER_BYTES, "%s.%03uZ", date, milliseconds);
    return buffer;
}

/* ---- JSON ---- */

static void json_put_string(FILE *file, const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    fputc('"', file);
    for (size_t i = 0; i < size;) {
        uint32_t character = 0;
        const size_t length = utf8_decode(bytes + i, size - i, &character);
        if (length == 0)
            fputs("\\ufffd", file);
        else if (character == '"' || character == '\\')
            fprintf(file, "\\%c", (int)character);
        else if (character == '\n')
            fputs("\\n", file);
        else if (is_active(character))
            fprintf(file, "\\u%04x", (unsigned)character);
        else
            fwrite(bytes + i, 1, length, file);
        i += length > 0 ? length : 1;
    }
    fputc('"', file);
}

/* What precedes a value: the comma, the line, the key. */
static void json_before_value(struct cli_json *json, const char *key)
{
    assert(json->depth > 0);
    assert(json->depth <= CLI_JSON_DEPTH_MAX);
    const unsigned inside = json->depth - 1;
    assert((key != NULL) == (json->closers[inside] == '}'));

    fputs(json->has_items[inside] ? ",\n" : "\n", json->file);
    json->has_items[inside] = true;
    fprintf(json->file, "%*s", (int)(2 * json->depth), "");
    if (!key) return;
    json_put_string(json->file, key, strlen(key));
    fputs(": ", json->file);
}

static void json_open(struct cli_json *json, char opener, char closer)
{
    assert(json->depth < CLI_JSON_DEPTH_MAX);
    fputc(opener, json->file);
    json->closers[json->depth] = closer;
    json->has_items[json->depth] = false;
    json->depth++;
}

void cli_json_begin(struct cli_json *json, FILE *file)
{
    *json = (struct cli_json){.file = file};
    json_open(json, '{', '}');
}

void cli_json_object(struct cli_json *json, const char *key)
{
    json_before_value(json, key);
    json_open(json, '{', '}');
}

void cli_json_array(struct cli_json *json, const char *key)
{
    json_before_value(json, key);
    json_open(json, '[', ']');
}

void cli_json_close(struct cli_json *json)
{
    assert(json->depth > 0);
    json->depth--;
    if (json->has_items[json->depth]) {
        fprintf(json->file, "\n%*s", (int)(2 * json->depth), "");
    }
    fputc(json->closers[json->depth], json->file);
}

void cli_json_end(struct cli_json *json)
{
    assert(json->depth == 1);
    cli_json_close(json);
    fputc('\n', json->file);
}

void cli_json_number(struct cli_json *json, const char *key, uint64_t number)
{
    json_before_value(json, key);
    fprintf(json->file, "%llu", (unsigned long long)number);
}

void cli_json_bool(struct cli_json *json, const char *key, bool truth)
{
    json_before_value(json, key);
    fputs(truth ? "true" : "false", json->file);
}

void cli_json_bytes(struct cli_json *json, const char *key, const char *text, size_t size)
{
    json_before_value(json, key);
    json_put_string(json->file, text, size);
}

void cli_json_string(struct cli_json *json, const char *key, const char *text)
{
    cli_json_bytes(json, key, text, strlen(text));
}

void cli_json_hex(struct cli_json *json, const char *key, const unsigned char *bytes, size_t size)
{
    json_before_value(json, key);
    fputc('"', json->file);
    for (size_t i = 0; i < size; i++) fprintf(json->file, "%02x", bytes[i]);
    fputc('"', json->file);
}
