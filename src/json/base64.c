/* base64.c -- base64 with padding, canonical: RFC 4648, sections 3.5 and 4. */
#include "json/scan.h"

static const char base64_letters[65] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int32_t base64_value(char letter)
{
    if (letter >= 'A' && letter <= 'Z') return letter - 'A';
    if (letter >= 'a' && letter <= 'z') return letter - 'a' + 26;
    if (letter >= '0' && letter <= '9') return letter - '0' + 52;
    if (letter == '+') return 62;
    return letter == '/' ? 63 : -1;
}

bool base64_decode(const char *text, size_t size, unsigned char *target, size_t *target_size)
{
    assert(text != NULL || size == 0);
    assert(target_size != NULL);
    if (size % 4) return false;
    size_t padding = 0;
    if (size) padding = (size_t)(text[size - 1] == '=') + (text[size - 2] == '=');
    if (padding == 2 && text[size - 1] != '=') return false;
    *target_size = size / 4 * 3 - padding;
    size_t stored = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < size; i++) {
        const bool is_padding = i >= size - padding;
        const int32_t value = is_padding ? 0 : base64_value(text[i]);
        if (value < 0) return false;
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 3) continue;
        for (int shift = 16; shift >= 0; shift -= 8) {
            const unsigned char byte = (unsigned char)(bits >> shift);
            if (stored == *target_size) {
                if (byte) return false; /* bits that nobody would read back */
                continue;
            }
            if (target) target[stored] = byte;
            stored++;
        }
        bits = 0;
    }
    assert(stored == *target_size);
    return true;
}

void base64_encode(const unsigned char *bytes, size_t size, char *target)
{
    assert(bytes != NULL || size == 0);
    assert(target != NULL || size == 0);
    for (size_t i = 0; i < size; i += 3, target += 4) {
        uint32_t bits = (uint32_t)bytes[i] << 16;
        if (i + 1 < size) bits |= (uint32_t)bytes[i + 1] << 8;
        if (i + 2 < size) bits |= bytes[i + 2];
        target[0] = base64_letters[bits >> 18];
        target[1] = base64_letters[bits >> 12 & 63];
        target[2] = i + 1 < size ? base64_letters[bits >> 6 & 63] : '=';
        target[3] = i + 2 < size ? base64_letters[bits & 63] : '=';
    }
}
