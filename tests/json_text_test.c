/* json_text_test.c -- below the grammar: ends of strings, UTF-8, escapes, base64, pointers. */
#include "json/json.h"
#include "json/scan.h"
#include "test.h"

#include <stdlib.h>

/* ---- the end of a string ---- */

static const char *scan_by_bytes(const char *text, const char *end, uint32_t *high)
{
    for (; text < end; text++) {
        const unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\' || byte < 0x20) break;
        if (byte > 0x7f) *high = 0x80000000u;
    }
    return text;
}

static void check_scan(const char *text, size_t size)
{
    uint32_t expected_high = 0;
    uint32_t high = 0;
    const char *expected = scan_by_bytes(text, text + size, &expected_high);
    CHECK(scan_string(text, text + size, &high) == expected);
    if (expected < text + size || expected_high) CHECK_EQUAL(high, expected_high);
    high = 0;
    CHECK(scan_portable(text, text + size, &high) == expected);
    CHECK_EQUAL(high, expected_high);
    CHECK(scan_exact(text, text + size) == expected);
}

TEST(every_special_byte_ends_a_scan_at_every_place)
{
    static const unsigned char ends[] = {'"', '\\', 0, 1, 0x1f, 0x20, 0x7f, 0x80, 0xff, 0x21, 0x5b};
    for (int wide = 0; wide < 2; wide++) {
        const bool was = scan_use_wide(wide);
        for (size_t size = 0; size < 140; size++) {
            for (size_t e = 0; e < sizeof ends; e++) {
                char text[140 + SCAN_OVER_BYTES];
                memset(text, 'a', sizeof text);
                text[size] = '"'; /* behind the end: must not matter */
                for (size_t at = 0; at < size; at++) {
                    text[at] = (char)ends[e];
                    check_scan(text, size);
                    text[at] = 'a';
                }
            }
        }
        scan_use_wide(was);
    }
}

TEST(random_bytes_are_scanned_as_one_by_one)
{
    uint64_t state = test_seed();
    for (uint64_t round = test_effort(20000); round > 0; round--) {
        char text[200 + SCAN_OVER_BYTES];
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)(test_random(&state) % 64 == 0 ? test_random(&state)
                                                           : 'a' + test_random(&state) % 150);
        check_scan(text + test_random(&state) % 20, test_random(&state) % 180);
    }
}

TEST(lines_are_counted_and_the_last_one_found)
{
    uint64_t state = test_seed();
    char text[300];
    for (int round = 0; round < 2000; round++) {
        uint64_t expected = 0;
        const char *expected_last = text;
        const size_t size = test_random(&state) % sizeof text;
        for (size_t i = 0; i < size; i++) {
            text[i] = test_random(&state) % 20 ? 'x' : '\n';
            if (text[i] != '\n') continue;
            expected++;
            expected_last = text + i + 1;
        }
        const char *last = text;
        CHECK_EQUAL(scan_lines(text, text + size, &last), expected);
        CHECK(last == expected_last);
    }
}

/* ---- UTF-8 ---- */

TEST(every_code_point_but_surrogates_is_well_formed)
{
    for (uint32_t code = 1; code <= 0x10ffff; code++) {
        char text[8];
        if (code >= 0xd800 && code <= 0xdfff) continue;
        const size_t size = utf8_put(text, code);
        CHECK(utf8_check(text, text + size) == text + size);
        if (size > 1) CHECK(utf8_check(text, text + size - 1) == text);
        size_t got = 0;
        CHECK_EQUAL(utf8_get(text, text + size, &got), code);
        CHECK_EQUAL(got, size);
    }
}

TEST(malformed_utf8_is_found_where_it_begins)
{
    static const char *const texts[] = {
        "\x80",
        "\xbf",
        "\xc0\xaf",
        "\xc1\xbf",
        "\xc3(",
        "\xe0\x80\xaf",
        "\xe0\x9f\xbf",
        "\xe2\x28\xa1",
        "\xe2\x82\x28",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xf0\x80\x80\xaf",
        "\xf0\x8f\xbf\xbf",
        "\xf0\x28\x8c\xbc",
        "\xf0\x90\x28\xbc",
        "\xf0\x28\x8c\x28",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xf8\x88\x80\x80\x80",
        "\xfc\x84\x80\x80\x80\x80",
        "\xfe",
        "\xff",
        "\xc3",
        "\xe2\x82",
        "\xf0\x9f\x98",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[64];
        const int size = snprintf(text, sizeof text, "abcdefghijk\xc3\xa4%s", texts[i]);
        const char *bad = utf8_check(text, text + size);
        if (bad != text + 13) test_fail(__FILE__, __LINE__, "case %zu", i);
    }
}

/* ---- escapes ---- */

static void check_escape(const char *text, const char *expected, size_t expected_size)
{
    char target[64];
    size_t size = 0;
    const char *what = NULL;
    CHECK(escape_decode(text, text + strlen(text), target, &size, &what) == NULL);
    CHECK_EQUAL(size, expected_size);
    CHECK(memcmp(target, expected, size) == 0);
}

TEST(escapes_are_decoded)
{
    check_escape("a\\nb", "a\nb", 3);
    check_escape("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8);
    check_escape("\\u0041\\u00e4\\u20AC", "A\xc3\xa4\xe2\x82\xac", 6);
    check_escape("\\ud83d\\ude00!", "\xf0\x9f\x98\x80!", 5);
    check_escape("\\u0000", "\0", 1);
    check_escape("\\uDBFF\\uDFFF", "\xf4\x8f\xbf\xbf", 4);
}

TEST(wrong_escapes_are_refused_at_their_place)
{
    static const struct {
        const char *text;
        int where;
    } cases[] = {
        {"ab\\x", 2},          {"\\", 0},       {"a\\u12", 1},
        {"\\u12g4", 0},        {"\\ud800", 0},  {"\\udc00", 0},
        {"\\ud800\\u0041", 0}, {"\\ud800x", 0}, {"\\ud800\\n", 0},
        {"ok\\n\\uD83D\\", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char target[64];
        size_t size = 0;
        const char *what = NULL;
        const char *text = cases[i].text;
        CHECK(escape_decode(text, text + strlen(text), target, &size, &what) ==
              text + cases[i].where);
        CHECK(what != NULL && what[0]);
    }
}

TEST(bytes_that_need_it_are_escaped)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
        char text[ESCAPE_BYTES_MAX];
        const size_t size = escape_put(text, (unsigned char)byte);
        char back[8];
        size_t back_size = 0;
        const char *what = NULL;
        CHECK(escape_decode(text, text + size, back, &back_size, &what) == NULL);
        CHECK(back_size == 1 && (unsigned char)back[0] == byte);
    }
}

/* ---- base64 ---- */

TEST(base64_of_the_published_examples)
{
    static const char *const cases[][2] = {/* RFC 4648, section 10 */
                                           {"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[16] = "";
        unsigned char bytes[16];
        size_t size = 0;
        const size_t length = strlen(cases[i][0]);
        base64_encode((const unsigned char *)cases[i][0], length, text);
        CHECK_EQUAL(base64_size(length), strlen(cases[i][1]));
        CHECK(memcmp(text, cases[i][1], strlen(cases[i][1])) == 0);
        CHECK(base64_decode(text, strlen(cases[i][1]), bytes, &size));
        CHECK(size == length && memcmp(bytes, cases[i][0], size) == 0);
    }
}

TEST(base64_that_is_not_canonical_is_refused)
{
    static const char *const texts[] = {"Z",      "Zg",   "Zg=",  "Zh==",     "Zm9=",
                                        "Zm8",    "Z===", "====", "Zg==Zg==", "Zm 9v",
                                        "Zm9v\n", "Zm-_", "Z=g=", "=Zg="};
    size_t size = 0;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (base64_decode(texts[i], strlen(texts[i]), NULL, &size))
            test_fail(__FILE__, __LINE__, "%s", texts[i]);
}

/* ---- pointers ---- */

static void check_tokens(const char *text, const char *const *tokens)
{
    size_t fault = 0;
    CHECK(pointer_check(text, strlen(text), &fault));
    struct pointer pointer;
    pointer_begin(&pointer, text, strlen(text));
    for (; *tokens; tokens++) {
        CHECK(pointer_step(&pointer) == EVH_OK);
        CHECK_EQUAL(pointer.token_size, strlen(*tokens));
        CHECK(memcmp(pointer.token, *tokens, pointer.token_size) == 0);
    }
    CHECK(pointer_step(&pointer) == EVH_NOT_FOUND);
    pointer_end(&pointer);
}

TEST(pointers_are_split_into_tokens)
{
    check_tokens("", (const char *const[]){NULL});
    check_tokens("/", (const char *const[]){"", NULL});
    check_tokens("/a/b", (const char *const[]){"a", "b", NULL});
    check_tokens("//", (const char *const[]){"", "", NULL});
    check_tokens("/a~1b/m~0n/~01", (const char *const[]){"a/b", "m~n", "~1", NULL});
    char text[400] = "/";
    char token[400];
    memset(text + 1, 'x', 300);
    memcpy(text + 301, "~0", 3);
    memset(token, 'x', 300);
    memcpy(token + 300, "~", 2);
    check_tokens(text, (const char *const[]){token, NULL});
}

TEST(text_that_is_no_pointer_is_refused)
{
    static const char *const texts[] = {"a", "a/b", "/~", "/a~2", "/~~0", "/~a", "#/a", " /a"};
    size_t fault = 0;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        CHECK(!pointer_check(texts[i], strlen(texts[i]), &fault));
}

TEST(array_indices_have_no_leading_zeroes)
{
    uint64_t index = 0;
    CHECK(pointer_index("0", 1, &index) && index == 0);
    CHECK(pointer_index("9223372036854775807", 19, &index) && index == INT64_MAX);
    CHECK(!pointer_index("9223372036854775808", 19, &index));
    static const char *const texts[] = {
        "", "00", "01", "-1", "+1", "1.0", "1e0", " 1", "-", "99999999999999999999", "1a"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        CHECK(!pointer_index(texts[i], strlen(texts[i]), &index));
}

TEST(fragments_are_percent_decoded)
{
    char target[32];
    size_t size = 0;
    CHECK(pointer_from_fragment("/c%25d/e%5Ef", 12, target, &size));
    CHECK(size == 8 && memcmp(target, "/c%d/e^f", 8) == 0);
    CHECK(!pointer_from_fragment("/a%2", 4, target, &size));
    CHECK(!pointer_from_fragment("/a%zz", 5, target, &size));
}

TEST(tokens_are_escaped_as_they_are_read)
{
    char target[16];
    CHECK_EQUAL(pointer_escaped_size("a/~b", 4), 6);
    CHECK_EQUAL(pointer_escape("a/~b", 4, target), 6);
    CHECK(memcmp(target, "a~1~0b", 6) == 0);
}
