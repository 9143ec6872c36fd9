/* number_read.c -- text to int64, uint64 or the nearest double.
 *
 * Doubles by the algorithm of Eisel and Lemire: Daniel Lemire, "Number Parsing at a Gigabyte per
 * Second", Software: Practice and Experience 51 (2021); that it needs no fallback for 19 digits is
 * shown in Noble Mushtak, Daniel Lemire, "Fast Number Parsing Without Fallback" (2023). Of longer
 * numbers the first 19 digits w are taken: if w and w + 1 give the same double, it is the one;
 * else number_big.c compares exactly.
 */
#include "json/number.h"
#include "json/number_powers.h"

enum {
    DIGITS_EXACT = 19,       /* 10^19 - 1 fits 64 bits */
    EXPONENT_CLAMP = 100000, /* beyond it every number is zero, or too large */
    DOUBLE_BIAS = 1023,
    DOUBLE_FRACTION_BITS = 52,
};

#define DOUBLE_INFINITE 0x7ff0000000000000ull

/* What the digits say, before it is rounded to anything. */
struct number_parts {
    const char *digits, *digits_end; /* of integer part and fraction, with the point between */
    const char *point;               /* NULL without one */
    uint64_t significand;            /* of all digits, modulo 2^64 */
    uint64_t digit_count;            /* with leading zeroes */
    int64_t exponent;                /* the number is significand x 10^exponent */
    bool is_negative;
    bool is_plain;
};

static inline bool number_is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

static const char *number_digits(const char *text, const char *end, uint64_t *significand)
{
    uint64_t value = *significand;
    while (text < end && number_is_digit(*text)) value = value * 10 + (uint64_t)(*text++ - '0');
    *significand = value;
    return text;
}

/* The exponent behind e or E. NULL if there is no digit; `*stop` is where it ended. */
static bool number_exponent(const char *text, const char *end, int64_t *exponent, const char **stop)
{
    bool is_negative = false;
    if (text < end && (*text == '+' || *text == '-')) is_negative = *text++ == '-';
    const char *first = text;
    int64_t value = 0;
    for (; text < end && number_is_digit(*text); text++)
        if (value < EXPONENT_CLAMP) value = value * 10 + (*text - '0');
    *stop = text;
    *exponent += is_negative ? -value : value;
    return text > first;
}

static const char *number_split(const char *text, const char *end, struct number_parts *parts,
                                enum number_fault *fault)
{
    *fault = NUMBER_NO_DIGIT;
    parts->is_negative = text < end && *text == '-';
    if (parts->is_negative) text++;
    parts->digits = text;
    parts->point = NULL;
    parts->significand = 0;
    parts->exponent = 0;
    parts->is_plain = true;
    text = number_digits(text, end, &parts->significand);
    if (text == parts->digits) return text;
    if (*parts->digits == '0' && text > parts->digits + 1) {
        *fault = NUMBER_LEADING_ZERO;
        return parts->digits + 1;
    }
    parts->digit_count = (uint64_t)(text - parts->digits);
    if (text < end && *text == '.') {
        parts->point = text;
        parts->is_plain = false;
        const char *first = text + 1;
        text = number_digits(first, end, &parts->significand);
        if (text == first) return text;
        parts->exponent = first - text;
        parts->digit_count += (uint64_t)(text - first);
    }
    parts->digits_end = text;
    if (text < end && (*text == 'e' || *text == 'E')) {
        parts->is_plain = false;
        if (!number_exponent(text + 1, end, &parts->exponent, &text)) return text;
    }
    *fault = NUMBER_GOOD;
    return text;
}

/* ---- the nearest double ---- */

__extension__ typedef unsigned __int128 number_wide;

/* The high 128 bits, nearly, of w (its highest bit set) times the 128 bits of 10^q. */
static number_wide number_product(uint64_t w, int64_t q)
{
    assert(q >= NUMBER_POWER_FIRST);
    assert(q <= NUMBER_POWER_LAST);
    const uint64_t *power = number_powers[q - NUMBER_POWER_FIRST];
    const uint64_t high = power[0];
    /* 10^-1 to 10^-27 are rounded up: then what is exactly halfway is seen as such. */
    const uint64_t low = power[1] + (q < 0 && q >= -27);
    number_wide product = (number_wide)w * high;
    const uint64_t unsure = UINT64_MAX >> (DOUBLE_FRACTION_BITS + 3);
    if (((uint64_t)(product >> 64) & unsure) == unsure) product += ((number_wide)w * low) >> 64;
    return product;
}

/* The bits of the double nearest to w x 10^q, ties to even; infinite if it is too large. */
static uint64_t number_nearest(uint64_t w, int64_t q)
{
    if (w == 0 || q < NUMBER_POWER_FIRST) return 0;
    if (q > 308) return DOUBLE_INFINITE;
    const int leading = __builtin_clzll(w);
    const number_wide product = number_product(w << leading, q);
    const uint64_t high = (uint64_t)(product >> 64);
    const int upper = (int)(high >> 63);
    const int shift = upper + 64 - DOUBLE_FRACTION_BITS - 3;
    uint64_t fraction = high >> shift;
    /* floor(log2(10^q)) + 63 is ((152170 + 65536) q >> 16) + 63 in this range. */
    int64_t power = ((217706 * q) >> 16) + 63 + upper - leading + DOUBLE_BIAS;
    if (power <= 0) { /* subnormal, or zero */
        if (1 - power >= 64) return 0;
        fraction >>= 1 - power;
        fraction = (fraction + (fraction & 1)) >> 1;
        return fraction; /* a carry into the exponent is right */
    }
    /* Exactly halfway, where only small powers of five can be exact: to even, downwards. */
    if ((uint64_t)product <= 1 && q >= -4 && q <= 23 && (fraction & 3) == 1 &&
        fraction << shift == high)
        fraction &= ~1ull;
    fraction = (fraction + (fraction & 1)) >> 1;
    if (fraction >= 2ull << DOUBLE_FRACTION_BITS) {
        fraction = 1ull << DOUBLE_FRACTION_BITS;
        power++;
    }
    if (power >= 0x7ff) return DOUBLE_INFINITE;
    return ((uint64_t)power << DOUBLE_FRACTION_BITS) | (fraction & ~(1ull << DOUBLE_FRACTION_BITS));
}

/* More than 19 digits. Leading zeroes do not count, so it may be fewer after all. */
static uint64_t number_nearest_long(const struct number_parts *parts)
{
    const char *text = parts->digits;
    const char *end = parts->digits_end;
    while (text < end && (*text == '0' || *text == '.')) text++;
    if (text == end) return 0;
    const char *const first = text;
    uint64_t significand = 0;
    int count = 0;
    for (; text < end && count < DIGITS_EXACT; text++) {
        if (*text == '.') continue;
        significand = significand * 10 + (uint64_t)(*text - '0');
        count++;
    }
    int64_t dropped = end - text;
    if (parts->point && parts->point >= text) dropped--;
    const uint64_t near = number_nearest(significand, parts->exponent + dropped);
    if (dropped == 0) return near;
    if (near == number_nearest(significand + 1, parts->exponent + dropped)) return near;
    return number_round(first, end, parts->exponent, near);
}

static inline uint64_t number_nearest_any(const struct number_parts *parts)
{
    if (LIKELY(parts->digit_count <= DIGITS_EXACT))
        return number_nearest(parts->significand, parts->exponent);
    return number_nearest_long(parts);
}

static void number_to_real(const struct number_parts *parts, struct number *number)
{
    uint64_t bits = number_nearest_any(parts);
    number->kind = NUMBER_REAL;
    if (bits == DOUBLE_INFINITE) number->kind = NUMBER_DIGITS;
    if (bits == 0) { /* zero, or too small? */
        for (const char *digit = parts->digits; digit < parts->digits_end; digit++)
            if (*digit != '0' && *digit != '.') number->kind = NUMBER_DIGITS;
    }
    bits |= (uint64_t)parts->is_negative << 63;
    memcpy(&number->real, &bits, sizeof bits);
}

const char *number_read(const char *text, const char *end, struct number *number,
                        enum number_fault *fault)
{
    assert(text <= end);
    assert(number != NULL);
    struct number_parts parts;
    text = number_split(text, end, &parts, fault);
    if (*fault) return text;
    number->is_plain = parts.is_plain;
    if (!parts.is_plain) {
        number_to_real(&parts, number);
        return text;
    }
    /* 20 digits may wrap around: 2^64 has 20 and begins with 1, so what wrapped is below 10^19. */
    bool fits = parts.digit_count < 20;
    if (parts.digit_count == 20)
        fits = *parts.digits == '1' && parts.significand >= 10000000000000000000ull;
    number->kind = NUMBER_DIGITS;
    if (!fits) return text;
    if (!parts.is_negative) {
        number->kind = parts.significand > INT64_MAX ? NUMBER_UNSIGNED : NUMBER_INTEGER;
        number->natural = parts.significand;
    } else if (parts.significand == 0) { /* -0 is no integer */
        number->kind = NUMBER_REAL;
        number->real = -0.0;
    } else if (parts.significand <= (uint64_t)INT64_MAX + 1) {
        number->kind = NUMBER_INTEGER;
        number->integer = (int64_t)(0 - parts.significand);
    }
    return text;
}

double number_as_real(const char *text, const char *end)
{
    assert(text <= end);
    struct number_parts parts;
    enum number_fault fault = NUMBER_GOOD;
    (void)number_split(text, end, &parts, &fault);
    if (fault) return 0;
    const uint64_t bits = number_nearest_any(&parts) | (uint64_t)parts.is_negative << 63;
    double real = 0;
    memcpy(&real, &bits, sizeof real);
    return real;
}
