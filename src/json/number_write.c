/* number_write.c -- a double in the fewest digits that read back as the same double.
 *
 * Raffaello Giulietti, "The Schubfach way to render doubles" (2021), sections 9 and 10: of the
 * decimals in the interval that rounds to the double, the shortest, and of those the nearest. Four
 * times the double, and the ends of its interval, are scaled by a power of ten from the table and
 * "rounded to odd", so that comparisons with whole numbers are right although the product is cut.
 */
#include "json/number.h"
#include "json/number_powers.h"

__extension__ typedef unsigned __int128 write_wide;

struct decimal {
    uint64_t digits;
    int32_t exponent;
};

/* floor(power x c / 2^128) with its lowest bit set if anything was cut off. */
static inline uint64_t write_round_to_odd(uint64_t high, uint64_t low, uint64_t c)
{
    const write_wide below = ((write_wide)low * c) >> 64;
    const write_wide sum = (write_wide)high * c + below;
    return (uint64_t)(sum >> 64) | ((uint64_t)sum > 1);
}

/* The shortest decimal. `fraction` and `field` are those of a finite double that is not zero. */
static struct decimal write_shortest(uint64_t fraction, uint32_t field)
{
    assert(field < 0x7ff);
    assert(field != 0 || fraction != 0);
    const uint64_t c = field ? fraction | 1ull << 52 : fraction;
    const int32_t q = (int32_t)(field ? field : 1) - 1075;
    if (q <= 0 && q > -53 && (c & ((1ull << -q) - 1)) == 0) /* a whole number below 2^53 */
        return (struct decimal){c >> -q, 0};

    const bool is_even = (c & 1) == 0;
    const bool is_lower_closer = fraction == 0 && field > 1; /* the interval is narrower below */
    /* k = floor(log10(2^q)), or of 3/4 of it; h makes room for the power's 128 bits. */
    const int32_t k = (int32_t)((q * 1262611ll - (is_lower_closer ? 524031 : 0)) >> 22);
    const int32_t h = q + (int32_t)((-k * 1741647ll) >> 19) + 1;
    assert(-k >= NUMBER_POWER_FIRST && -k <= NUMBER_POWER_LAST);
    assert(h >= 1 && h <= 4);
    const uint64_t *power = number_powers[-k - NUMBER_POWER_FIRST];
    /* The algorithm wants the power rounded up; the table is exact only for 10^0 to 10^55. */
    const bool is_exact = k <= 0 && k >= -55;
    const uint64_t low = power[1] + !is_exact;
    const uint64_t high = power[0] + (low == 0 && !is_exact);

    const uint64_t value = write_round_to_odd(high, low, (4 * c) << h);
    const uint64_t lower =
        write_round_to_odd(high, low, (4 * c - 2 + is_lower_closer) << h) + !is_even;
    const uint64_t upper = write_round_to_odd(high, low, (4 * c + 2) << h) - !is_even;

    const uint64_t s = value / 4;
    if (s >= 10) { /* one digit fewer? */
        const uint64_t tens = s / 10;
        const bool below_is_inside = lower <= 40 * tens;
        const bool above_is_inside = 40 * tens + 40 <= upper;
        if (below_is_inside != above_is_inside)
            return (struct decimal){tens + above_is_inside, k + 1};
    }
    const bool below_is_inside = lower <= 4 * s;
    const bool above_is_inside = 4 * s + 4 <= upper;
    if (below_is_inside != above_is_inside) return (struct decimal){s + above_is_inside, k};
    const uint64_t middle = 4 * s + 2;
    const bool goes_up = value > middle || (value == middle && (s & 1) != 0);
    return (struct decimal){s + goes_up, k};
}

static const char write_pairs[201] = "00010203040506070809101112131415161718192021222324"
                                     "25262728293031323334353637383940414243444546474849"
                                     "50515253545556575859606162636465666768697071727374"
                                     "75767778798081828384858687888990919293949596979899";

size_t number_write_unsigned(char *target, uint64_t value)
{
    assert(target != NULL);
    char text[20];
    char *first = text + sizeof text;
    for (; value >= 100; value /= 100) memcpy(first -= 2, write_pairs + value % 100 * 2, 2);
    if (value >= 10) {
        memcpy(first -= 2, write_pairs + value * 2, 2);
    } else {
        *--first = (char)('0' + value);
    }
    const size_t size = (size_t)(text + sizeof text - first);
    assert(size <= sizeof text);
    memcpy(target, first, size);
    return size;
}

size_t number_write_integer(char *target, int64_t value)
{
    assert(target != NULL);
    if (value >= 0) return number_write_unsigned(target, (uint64_t)value);
    *target = '-';
    return 1 + number_write_unsigned(target + 1, 0 - (uint64_t)value);
}

/* digits x 10^(point - count) in positional form: 123.4, 1200.0, 0.0012. */
static char *write_positional(char *target, const char *digits, int32_t count, int32_t point)
{
    if (point <= 0) {
        memcpy(target, "0.0000", 6);
        target += 2 - point;
        memcpy(target, digits, (size_t)count);
        return target + count;
    }
    const int32_t whole = point < count ? point : count;
    memcpy(target, digits, (size_t)whole);
    target += whole;
    memset(target, '0', (size_t)(point - whole));
    target += point - whole;
    *target++ = '.';
    if (whole == count) {
        *target++ = '0';
        return target;
    }
    memcpy(target, digits + whole, (size_t)(count - whole));
    return target + (count - whole);
}

/* d.ddde+XX, the exponent of two digits or more. */
static char *write_scientific(char *target, const char *digits, int32_t count, int32_t exponent)
{
    *target++ = digits[0];
    if (count > 1) {
        *target++ = '.';
        memcpy(target, digits + 1, (size_t)(count - 1));
        target += count - 1;
    }
    *target++ = 'e';
    *target++ = exponent < 0 ? '-' : '+';
    const uint64_t size = (uint64_t)(exponent < 0 ? -exponent : exponent);
    if (size < 10) *target++ = '0';
    return target + number_write_unsigned(target, size);
}

size_t number_write_real(char *target, double value)
{
    assert(target != NULL);
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t field = (uint32_t)(bits >> 52) & 0x7ff;
    const uint64_t fraction = bits & ((1ull << 52) - 1);
    assert(field != 0x7ff);
    char *next = target;
    if (bits >> 63) *next++ = '-';
    if (field == 0 && fraction == 0) {
        memcpy(next, "0.0", 3);
        return (size_t)(next + 3 - target);
    }
    struct decimal decimal = write_shortest(fraction, field);
    for (; decimal.digits % 10 == 0; decimal.digits /= 10) decimal.exponent++;
    char digits[20];
    const int32_t count = (int32_t)number_write_unsigned(digits, decimal.digits);
    const int32_t point = count + decimal.exponent; /* where it stands, from the first digit */
    next = point > -4 && point <= 16 ? write_positional(next, digits, count, point)
                                     : write_scientific(next, digits, count, point - 1);
    assert(next - target <= NUMBER_TEXT_MAX);
    return (size_t)(next - target);
}
