/* utf8.c -- well-formed UTF-8: RFC 3629, table 3-7 of the Unicode standard. */
#include "json/scan.h"

/* Whether the `count` bytes at `text` are of the form 10xxxxxx. */
static inline bool utf8_continues(const unsigned char *text, int count)
{
    for (int i = 0; i < count; i++)
        if ((text[i] & 0xc0) != 0x80) return false;
    return true;
}

/* Bytes of the character that begins with a byte above 0x7f; 0 if it is not well-formed. */
static inline size_t utf8_size(const unsigned char *text, size_t left)
{
    const unsigned char first = text[0];
    if (first < 0xc2) return 0;
    if (first < 0xe0) return left >= 2 && utf8_continues(text + 1, 1) ? 2 : 0;
    if (first < 0xf0) {
        if (left < 3 || !utf8_continues(text + 1, 2)) return 0;
        if (first == 0xe0 && text[1] < 0xa0) return 0; /* has a shorter form */
        if (first == 0xed && text[1] > 0x9f) return 0; /* a surrogate */
        return 3;
    }
    if (first > 0xf4 || left < 4 || !utf8_continues(text + 1, 3)) return 0;
    if (first == 0xf0 && text[1] < 0x90) return 0;
    if (first == 0xf4 && text[1] > 0x8f) return 0; /* above U+10FFFF */
    return 4;
}

/* Whether 3 bytes (4 are readable) are a character of most scripts beyond the Latin: in one
 * comparison, but for the lead bytes 0xe0 and 0xed, whose second byte needs a look. */
static inline bool utf8_is_plain_3(const unsigned char *text)
{
    uint32_t word = 0;
    memcpy(&word, text, sizeof word);
    return (word & 0x00c0c0f0) == 0x008080e0 && text[0] != 0xe0 && text[0] != 0xed;
}

const char *utf8_check(const char *text, const char *end)
{
    assert(text <= end);
    const unsigned char *next = (const unsigned char *)text;
    const unsigned char *const last = (const unsigned char *)end;
    while (next < last) {
        if (*next < 0x80) {
            uint64_t word = 0;
            if (last - next >= 8) {
                memcpy(&word, next, sizeof word);
                word &= 0x8080808080808080ull;
                next += word ? base_lowest_bit(word) / 8 : 8;
            } else {
                next++;
            }
            continue;
        }
        if (last - next >= 4 && utf8_is_plain_3(next)) {
            next += 3;
            continue;
        }
        const size_t size = utf8_size(next, (size_t)(last - next));
        if (size == 0) break;
        next += size;
    }
    assert(next <= last);
    return (const char *)next;
}

size_t utf8_put(char *target, uint32_t code)
{
    assert(target != NULL);
    assert(code <= 0x10ffff && (code < 0xd800 || code > 0xdfff));
    unsigned char *bytes = (unsigned char *)target;
    if (code < 0x80) {
        bytes[0] = (unsigned char)code;
        return 1;
    }
    if (code < 0x800) {
        bytes[0] = (unsigned char)(0xc0 | code >> 6);
        bytes[1] = (unsigned char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        bytes[0] = (unsigned char)(0xe0 | code >> 12);
        bytes[1] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
        bytes[2] = (unsigned char)(0x80 | (code & 0x3f));
        return 3;
    }
    bytes[0] = (unsigned char)(0xf0 | code >> 18);
    bytes[1] = (unsigned char)(0x80 | (code >> 12 & 0x3f));
    bytes[2] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
    bytes[3] = (unsigned char)(0x80 | (code & 0x3f));
    return 4;
}

uint32_t utf8_get(const char *text, const char *end, size_t *size)
{
    assert(text < end);
    assert(size != NULL);
    const unsigned char *bytes = (const unsigned char *)text;
    const size_t left = (size_t)(end - text);
    *size = 1;
    if (bytes[0] < 0x80) return bytes[0];
    const size_t whole = utf8_size(bytes, left);
    if (whole == 0) return 0xfffd; /* damage, not a character */
    *size = whole;
    uint32_t code = bytes[0] & (0xffu >> (whole + 1));
    for (size_t i = 1; i < whole; i++) code = code << 6 | (bytes[i] & 0x3f);
    return code;
}
