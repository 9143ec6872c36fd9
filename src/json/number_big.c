/* number_big.c -- which of two neighbouring doubles a long decimal number is nearer to, exactly.
 *
 * Asked for more than 19 digits, and then only when they are that close to the middle. The number D
 * x 10^e is compared with the middle M x 2^f of the two doubles in whole numbers: the factors 5 and
 * 2 with negative exponents go to the other side (after William Clinger, "How to Read Floating
 * Point Numbers Accurately", PLDI 1990).
 */
#include "json/number.h"

enum {
    /* The middle of two doubles has at most 767 significant digits; one more that is not 0, however
     * far behind, decides. */
    BIG_DIGITS_MAX = 770,
    /* D below 2^2560; its factor 5^e and 2^n as large again, see big_compare(). */
    BIG_WORDS = 128,
};

struct big {
    uint32_t count;
    uint64_t words[BIG_WORDS]; /* lowest first */
};

__extension__ typedef unsigned __int128 big_wide;

static void big_multiply_add(struct big *big, uint64_t factor, uint64_t addend)
{
    uint64_t carry = addend;
    for (uint32_t i = 0; i < big->count; i++) {
        const big_wide product = (big_wide)big->words[i] * factor + carry;
        big->words[i] = (uint64_t)product;
        carry = (uint64_t)(product >> 64);
    }
    if (carry == 0) return;
    assert(big->count < BIG_WORDS);
    big->words[big->count++] = carry;
}

static void big_multiply_by_power_of_5(struct big *big, uint64_t exponent)
{
    for (; exponent >= 27; exponent -= 27) big_multiply_add(big, 7450580596923828125ull, 0);
    for (; exponent > 0; exponent--) big_multiply_add(big, 5, 0);
}

static void big_shift_left(struct big *big, uint64_t bits)
{
    const uint32_t words = (uint32_t)(bits / 64);
    big_multiply_add(big, 1ull << (bits % 64), 0);
    if (words == 0 || big->count == 0) return;
    assert(big->count + words <= BIG_WORDS);
    memmove(big->words + words, big->words, big->count * sizeof big->words[0]);
    memset(big->words, 0, words * sizeof big->words[0]);
    big->count += words;
}

static int big_compare(const struct big *a, const struct big *b)
{
    if (a->count != b->count) return a->count < b->count ? -1 : 1;
    for (uint32_t i = a->count; i-- > 0;)
        if (a->words[i] != b->words[i]) return a->words[i] < b->words[i] ? -1 : 1;
    return 0;
}

/* The digits as a whole number. `*exponent` grows by what is cut off; a tail that is not zero
 * becomes one digit 1. */
static void big_read(struct big *big, const char *text, const char *end, int64_t *exponent)
{
    big->count = 0;
    uint32_t taken = 0;
    bool has_tail = false;
    for (; text < end; text++) {
        if (*text == '.') continue;
        if (taken < BIG_DIGITS_MAX) {
            big_multiply_add(big, 10, (uint64_t)(*text - '0'));
            taken++;
        } else {
            has_tail |= *text != '0';
            *exponent += 1;
        }
    }
    if (!has_tail) return;
    big_multiply_add(big, 10, 1);
    *exponent -= 1;
}

uint64_t number_round(const char *text, const char *end, int64_t exponent, uint64_t near)
{
    assert(text < end);
    assert(near < 0x7ff0000000000000ull);
    struct big number;
    big_read(&number, text, end, &exponent);

    /* The middle between `near` and the next double: (2 m + 1) x 2^power. */
    const uint64_t field = near >> 52;
    const uint64_t fraction = near & ((1ull << 52) - 1);
    const uint64_t m = field ? fraction | 1ull << 52 : fraction;
    int64_t power = (int64_t)(field ? field : 1) - 1075 - 1;
    struct big middle = {.count = 1, .words = {2 * m + 1}};

    /* D x 5^e x 2^e against M x 2^power: e is above -1112 and below 309 here, power in -1075..971,
     * so each side stays below 2^(2560 + 2583 + 1024). */
    if (exponent < 0) {
        big_multiply_by_power_of_5(&middle, (uint64_t)-exponent);
    } else {
        big_multiply_by_power_of_5(&number, (uint64_t)exponent);
    }
    power -= exponent;
    if (power < 0) {
        big_shift_left(&number, (uint64_t)-power);
    } else {
        big_shift_left(&middle, (uint64_t)power);
    }
    const int order = big_compare(&number, &middle);
    if (order < 0 || (order == 0 && (m & 1) == 0)) return near;
    return near + 1; /* of the largest double: infinite */
}
