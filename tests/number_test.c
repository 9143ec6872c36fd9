/* number_test.c -- numbers as JSON writes them, bit for bit as the C library reads them. */
#include "json/number.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static struct number read_all(const char *text)
{
    struct number number = {.kind = NUMBER_DIGITS};
    enum number_fault fault = NUMBER_GOOD;
    const char *end = text + strlen(text);
    const char *stop = number_read(text, end, &number, &fault);
    CHECK(fault == NUMBER_GOOD);
    CHECK(stop == end);
    return number;
}

/* Reading `text` as a real gives what strtod gives; digits are kept exactly where no double
 * does. */
static void check_reading(const char *text)
{
    const struct number number = read_all(text);
    const double expected = strtod(text, NULL);
    if (number.kind == NUMBER_DIGITS) {
        if (!(isinf(expected) || expected == 0.0)) test_fail(__FILE__, __LINE__, "%s", text);
        return;
    }
    CHECK(number.kind == NUMBER_REAL);
    if (bits_of(number.real) != bits_of(expected)) {
        test_fail(__FILE__, __LINE__, "%s: %a, expected %a", text, number.real, expected);
        test_stop();
    }
}

/* Writing `value` gives text that reads back, as short as any, and the nearest of that length. */
static void check_writing(double value)
{
    char text[NUMBER_TEXT_MAX + 1];
    const size_t size = number_write_real(text, value);
    CHECK(size <= NUMBER_TEXT_MAX);
    text[size] = 0;
    if (bits_of(strtod(text, NULL)) != bits_of(value)) {
        test_fail(__FILE__, __LINE__, "%s is not %a", text, value);
        test_stop();
    }
    if (bits_of(read_all(text).real) != bits_of(value)) {
        test_fail(__FILE__, __LINE__, "%s read back is not %a", text, value);
        test_stop();
    }
    if (value == 0.0) return;
    /* Count the significant digits: without sign, point, zeroes at either end, exponent. */
    int count = 0;
    int zeroes = 0;
    for (const char *c = text; *c && *c != 'e'; c++) {
        if (*c < '0' || *c > '9' || (count == 0 && *c == '0')) continue;
        count += 1 + (*c == '0' ? 0 : zeroes);
        zeroes = *c == '0' ? zeroes + 1 : 0;
        if (*c == '0') count--;
    }
    char other[64];
    if (count > 1) {
        snprintf(other, sizeof other, "%.*e", count - 2, value);
        if (bits_of(strtod(other, NULL)) == bits_of(value)) {
            test_fail(__FILE__, __LINE__, "%s: %s is shorter", text, other);
            test_stop();
        }
    }
    snprintf(other, sizeof other, "%.*e", count - 1, value);
    const bool is_power_of_two = (bits_of(value) & ((1ull << 52) - 1)) == 0;
    if (!is_power_of_two && bits_of(strtod(other, NULL)) == bits_of(value)) {
        char again[64]; /* the same digits, in the same form */
        snprintf(again, sizeof again, "%.*e", count - 1, strtod(text, NULL));
        const double ours = strtod(text, NULL);
        char exact[64];
        snprintf(exact, sizeof exact, "%.*e", count - 1, ours);
        CHECK(strcmp(other, exact) == 0);
    }
}

TEST(integers_of_64_bits_are_read_exactly)
{
    static const struct {
        const char *text;
        enum number_kind kind;
        uint64_t bits;
    } cases[] = {
        {"0", NUMBER_INTEGER, 0},
        {"-1", NUMBER_INTEGER, UINT64_MAX},
        {"9223372036854775807", NUMBER_INTEGER, INT64_MAX},
        {"-9223372036854775808", NUMBER_INTEGER, 1ull << 63},
        {"9223372036854775808", NUMBER_UNSIGNED, 1ull << 63},
        {"18446744073709551615", NUMBER_UNSIGNED, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct number number = read_all(cases[i].text);
        CHECK_EQUAL(number.kind, cases[i].kind);
        CHECK_EQUAL(number.natural, cases[i].bits);
        CHECK(number.is_plain);
    }
}

TEST(integers_beyond_64_bits_are_kept_as_digits)
{
    static const char *const texts[] = {
        "18446744073709551616", "-9223372036854775809",  "99999999999999999999",
        "28446744073709551615", "100000000000000000000", "-18446744073709551616",
        "36893488147419103232", "-18446744073709551615",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        CHECK_EQUAL(read_all(texts[i]).kind, NUMBER_DIGITS);
}

TEST(minus_zero_is_a_real_that_knows_how_it_was_written)
{
    CHECK_EQUAL(bits_of(read_all("-0").real), 1ull << 63);
    CHECK(read_all("-0").kind == NUMBER_REAL && read_all("-0").is_plain);
    CHECK(read_all("-0.0").kind == NUMBER_REAL && !read_all("-0.0").is_plain);
    CHECK_EQUAL(bits_of(read_all("-0e5").real), 1ull << 63);
}

TEST(what_no_double_holds_is_kept_as_digits)
{
    CHECK_EQUAL(read_all("1e400").kind, NUMBER_DIGITS);
    CHECK_EQUAL(read_all("-1e400").kind, NUMBER_DIGITS);
    CHECK_EQUAL(read_all("1e-400").kind, NUMBER_DIGITS);
    CHECK_EQUAL(read_all("1.8e308").kind, NUMBER_DIGITS);
    CHECK_EQUAL(read_all("1e999999999999999999999").kind, NUMBER_DIGITS);
    CHECK_EQUAL(read_all("0e999999999999999999999").kind, NUMBER_REAL);
    CHECK_EQUAL(read_all("0.0000e-99999").kind, NUMBER_REAL);
    CHECK_EQUAL(read_all("1.7976931348623157e308").kind, NUMBER_REAL);
}

TEST(text_that_is_no_number_is_refused_at_its_place)
{
    static const struct {
        const char *text;
        int where;
        enum number_fault fault;
    } cases[] = {
        {"", 0, NUMBER_NO_DIGIT},       {"-", 1, NUMBER_NO_DIGIT},
        {"01", 1, NUMBER_LEADING_ZERO}, {"-00", 2, NUMBER_LEADING_ZERO},
        {"1.", 2, NUMBER_NO_DIGIT},     {"1.e5", 2, NUMBER_NO_DIGIT},
        {"1e", 2, NUMBER_NO_DIGIT},     {"1e+", 3, NUMBER_NO_DIGIT},
        {".5", 0, NUMBER_NO_DIGIT},     {"+1", 0, NUMBER_NO_DIGIT},
        {"1.5E-", 5, NUMBER_NO_DIGIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct number number;
        enum number_fault fault = NUMBER_GOOD;
        const char *text = cases[i].text;
        CHECK(number_read(text, text + strlen(text), &number, &fault) == text + cases[i].where);
        CHECK_EQUAL(fault, cases[i].fault);
    }
}

TEST(reading_stops_behind_the_number)
{
    struct number number;
    enum number_fault fault = NUMBER_GOOD;
    const char *text = "12.5,";
    CHECK(number_read(text, text + 5, &number, &fault) == text + 4);
    CHECK(number.real == 12.5);
    CHECK(number_read(text, text + 1, &number, &fault) == text + 1);
    CHECK_EQUAL(number.integer, 1);
}

TEST(doubles_are_written_as_python_writes_them)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {100.0, "100.0"},
        {0.1, "0.1"},
        {1e15, "1000000000000000.0"},
        {9999999999999998.0, "9999999999999998.0"},
        {1e16, "1e+16"},
        {1e100, "1e+100"},
        {0.0001, "0.0001"},
        {0.00001, "1e-05"},
        {1.5e-7, "1.5e-07"},
        {5e-324, "5e-324"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {123456.789, "123456.789"},
        {-65.613616999999977, "-65.61361699999998"},
        {9007199254740993.0, "9007199254740992.0"},
        {2e-44, "2e-44"},
        {1.2345e22, "1.2345e+22"},
        {9.5367431640625e-07, "9.5367431640625e-07"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[NUMBER_TEXT_MAX + 1];
        text[number_write_real(text, cases[i].value)] = 0;
        if (strcmp(text, cases[i].text) != 0)
            test_fail(__FILE__, __LINE__, "%s, expected %s", text, cases[i].text);
    }
}

TEST(integers_are_written_exactly)
{
    uint64_t state = test_seed();
    char text[NUMBER_TEXT_MAX + 1];
    char expected[32];
    for (uint64_t round = test_effort(20000); round > 0; round--) {
        const uint64_t value = test_random(&state) >> test_random(&state) % 64;
        text[number_write_unsigned(text, value)] = 0;
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)value);
        CHECK(strcmp(text, expected) == 0);
        text[number_write_integer(text, (int64_t)(0 - value))] = 0;
        snprintf(expected, sizeof expected, "%lld", (long long)(0 - value));
        CHECK(strcmp(text, expected) == 0);
        CHECK_EQUAL(read_all(text).natural, 0 - value == 0 ? 0 : 0 - value);
    }
    text[number_write_integer(text, INT64_MIN)] = 0;
    CHECK(strcmp(text, "-9223372036854775808") == 0);
}

TEST(doubles_at_every_power_of_two_and_ten_are_exact_both_ways)
{
    char text[64];
    for (int power = -1074; power <= 1023; power++) {
        const uint64_t bits = bits_of(ldexp(1.0, power));
        check_writing(double_of(bits - 1));
        check_writing(double_of(bits));
        check_writing(double_of(bits + 1));
        snprintf(text, sizeof text, "%.17e", double_of(bits));
        check_reading(text);
    }
    for (int power = -345; power <= 310; power++) {
        for (int digit = 1; digit < 10; digit++) {
            snprintf(text, sizeof text, "%de%d", digit, power);
            check_reading(text);
            const double value = strtod(text, NULL);
            if (!isinf(value)) check_writing(value);
        }
        snprintf(text, sizeof text, "9999999999999999999e%d", power);
        check_reading(text);
    }
}

/* Strategy: doubles of random bits, decimal numbers of random length and exponent, and numbers that
 * lie exactly or nearly in the middle of two doubles. `EFFORT=400` makes 20 million doubles. */
TEST(random_doubles_are_exact_both_ways)
{
    uint64_t state = test_seed();
    for (uint64_t round = test_effort(50000); round > 0; round--) {
        const uint64_t bits = test_random(&state);
        if ((bits >> 52 & 0x7ff) == 0x7ff) continue;
        check_writing(double_of(bits));
    }
    for (uint64_t round = test_effort(10000); round > 0; round--) /* everyday numbers */
        check_writing((double)(test_random(&state) % 1000000000) / 1000.0);
}

TEST(random_decimal_numbers_are_read_exactly)
{
    uint64_t state = test_seed();
    for (uint64_t round = test_effort(50000); round > 0; round--) {
        char text[900];
        const int digits = 1 + (int)(test_random(&state) % (round % 64 == 0 ? 800 : 40));
        const int point = (int)(test_random(&state) % (uint64_t)(digits + 1));
        int size = 0;
        if (point == 0) size += snprintf(text, sizeof text, "0.");
        for (int i = 0; i < digits; i++) {
            if (i > 0 && i == point) text[size++] = '.';
            const int low = i == 0 && point > 1 ? 1 : 0;
            text[size++] = (char)('0' + low + (int)(test_random(&state) % (uint64_t)(10 - low)));
            if (i == 0 && point == 1 && digits > 1) continue;
        }
        const int exponent = (int)(test_random(&state) % 720) - 360 - digits / 2;
        snprintf(text + size, sizeof text - (size_t)size, "e%d", exponent);
        check_reading(text);
    }
}

TEST(numbers_in_the_middle_of_two_doubles_go_to_the_even_one)
{
    uint64_t state = test_seed();
    for (uint64_t round = test_effort(3000); round > 0; round--) {
        uint64_t bits = test_random(&state) & ~(1ull << 63);
        if (round % 4 == 0) bits &= (1ull << 56) - 1; /* subnormal, or nearly */
        if (bits >> 52 >= 0x7fe) continue;
        /* The middle has one more bit than a double: long double holds it, and glibc writes it with
         * all its digits. */
        const long double middle =
            ((long double)double_of(bits) + (long double)double_of(bits + 1)) / 2;
        static char text[1400];
        const int size = snprintf(text, sizeof text - 2, "%.800Le", middle);
        CHECK(size > 0 && size < (int)sizeof text - 2);
        check_reading(text);
        char *e = strchr(text, 'e');
        e[-1] = '1'; /* just above */
        check_reading(text);
        snprintf(text, sizeof text, "%.*Le", 20 + (int)(test_random(&state) % 30), middle);
        check_reading(text);
    }
}
