/* escape.c -- the escapes of JSON strings: RFC 8259, section 7. */
#include "json/scan.h"

/* The value of four hexadecimal digits, or -1. */
static int32_t escape_hex(const char *text, const char *end)
{
    if (end - text < 4) return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        const char c = text[i];
        int32_t digit = -1;
        if (c >= '0' && c <= '9') digit = c - '0';
        if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
        if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Decode \uXXXX, `text` at the backslash: two of them for a code point above U+FFFF. Returns behind
 * it, or NULL. */
static const char *escape_unicode(const char *text, const char *end, uint32_t *code,
                                  const char **expected)
{
    const int32_t first = escape_hex(text + 2, end);
    *expected = "4 hexadecimal digits";
    if (first < 0) return NULL;
    *code = (uint32_t)first;
    if (first < 0xd800 || first > 0xdfff) return text + 6;
    *expected = "a high surrogate followed by a low one";
    if (first > 0xdbff || end - text < 12 || text[6] != '\\' || text[7] != 'u') return NULL;
    const int32_t second = escape_hex(text + 8, end);
    if (second < 0xdc00 || second > 0xdfff) return NULL;
    *code = 0x10000 + ((uint32_t)(first - 0xd800) << 10) + (uint32_t)(second - 0xdc00);
    return text + 12;
}

/* The character that a one-letter escape stands for, or 0. */
static char escape_letter(char letter)
{
    switch (letter) {
    case '"':
    case '\\':
    case '/': return letter;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return 0;
    }
}

const char *escape_decode(const char *text, const char *end, char *target, size_t *size,
                          const char **expected)
{
    assert(text <= end);
    assert(target != NULL);
    char *next = target;
    while (text < end) {
        const char *slash = memchr(text, '\\', (size_t)(end - text));
        const size_t plain = (size_t)((slash ? slash : end) - text);
        memmove(next, text, plain);
        next += plain;
        if (!slash) break;
        const char letter = end - slash >= 2 ? slash[1] : 0;
        if (letter == 'u') {
            uint32_t code = 0;
            text = escape_unicode(slash, end, &code, expected);
            if (!text) return slash;
            next += utf8_put(next, code);
            continue;
        }
        *next = escape_letter(letter);
        *expected = "one of \"\\/bfnrtu behind the backslash";
        if (!*next) return slash;
        next++;
        text = slash + 2;
    }
    *size = (size_t)(next - target);
    return NULL;
}

size_t escape_put(char *target, unsigned char byte)
{
    assert(target != NULL);
    assert(byte < 0x20 || byte == '"' || byte == '\\');
    static const char letters[] = "btn\0fr"; /* 8, 9, 10, 11, 12, 13 */
    static const char hex[] = "0123456789abcdef";
    target[0] = '\\';
    char letter = 0;
    if (byte >= 8 && byte <= 13) letter = letters[byte - 8];
    if (byte >= 0x20) letter = (char)byte;
    if (letter) {
        target[1] = letter;
        return 2;
    }
    memcpy(target + 1, "u00", 3);
    target[4] = hex[byte >> 4];
    target[5] = hex[byte & 15];
    return 6;
}
