/* json_suite_test.c -- published suites of JSON: what is accepted, and what comes back. */
#include "data.h"
#include "json/json.h"
#include "test.h"

#include <stdlib.h>

/* JSONTestSuite's cases in which RFC 8259 leaves the choice. Numbers of any size are accepted, and
 * kept; what is no Unicode, and a byte order mark, is not. */
static const char *const accepted_choices[] = {
    "i_number_double_huge_neg_exp.json",  "i_number_huge_exp.json",
    "i_number_neg_int_huge_exp.json",     "i_number_pos_double_huge_exp.json",
    "i_number_real_neg_overflow.json",    "i_number_real_pos_overflow.json",
    "i_number_real_underflow.json",       "i_number_too_big_neg_int.json",
    "i_number_too_big_pos_int.json",      "i_number_very_big_negative_int.json",
    "i_structure_500_nested_arrays.json",
};

struct tally {
    evh_json *json;
    size_t accepted, refused, chosen;
};

static bool is_accepted_choice(const char *name)
{
    for (size_t i = 0; i < sizeof accepted_choices / sizeof accepted_choices[0]; i++)
        if (strcmp(name, accepted_choices[i]) == 0) return true;
    return false;
}

static void try_file(const char *name, const char *path, void *context)
{
    struct tally *tally = context;
    size_t size = 0;
    char *text = data_read(path, &size);
    const evh_json_read_options first = {.duplicates = EVH_JSON_DUPLICATES_LAST};
    evh_json *json = tally->json;
    const evh_status status = evh_json_parse(json, evh_json_root(json), text, size, &first, NULL);
    const bool is_accepted = status == EVH_OK;
    const bool should_be = name[0] == 'y' || (name[0] == 'i' && is_accepted_choice(name));
    if (is_accepted != should_be)
        test_fail(__FILE__, __LINE__, "%s: %s", name, evh_status_name(status));
    if (name[0] == 'y') tally->accepted += is_accepted;
    if (name[0] == 'n') tally->refused += !is_accepted;
    if (name[0] == 'i') tally->chosen++;
    CHECK(evh_json_check(json) == EVH_OK);
    free(text);
}

TEST(the_parsing_test_suite_is_passed)
{
    const char *folder = data_path("json/JSONTestSuite/test_parsing");
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    struct tally tally = {.json = evh_json_open(heap, NULL)};
    data_each(folder, try_file, &tally);
    CHECK_EQUAL(tally.accepted, 95);
    CHECK_EQUAL(tally.refused, 188);
    CHECK_EQUAL(tally.chosen, 35);
    evh_json_close(tally.json);
    evh_close(heap);
}

/* What the files of test_transform become; NULL: they are refused. Numbers that no double holds
 * exactly are rounded, others kept; a key twice is an error. */
static const char *const transforms[][2] = {
    {"number_-9223372036854775808.json", "[-9223372036854775808]"},
    {"number_-9223372036854775809.json", "[-9223372036854775809]"},
    {"number_1.0.json", "[1.0]"},
    {"number_1.000000000000000005.json", "[1.0]"},
    {"number_1000000000000000.json", "[1000000000000000]"},
    {"number_10000000000000000999.json", "[10000000000000000999]"},
    {"number_1e-999.json", "[1E-999]"},
    {"number_1e6.json", "[1000000.0]"},
    {"number_9223372036854775807.json", "[9223372036854775807]"},
    {"number_9223372036854775808.json", "[9223372036854775808]"},
    {"object_key_nfc_nfd.json", "{\"\xc3\xa9\":\"NFC\",\"e\xcc\x81\":\"NFD\"}"},
    {"object_key_nfd_nfc.json", "{\"e\xcc\x81\":\"NFD\",\"\xc3\xa9\":\"NFC\"}"},
    {"object_same_key_different_values.json", NULL},
    {"object_same_key_same_value.json", NULL},
    {"object_same_key_unclear_values.json", NULL},
    {"string_1_escaped_invalid_codepoint.json", NULL},
    {"string_1_invalid_codepoint.json", NULL},
    {"string_2_escaped_invalid_codepoints.json", NULL},
    {"string_2_invalid_codepoints.json", NULL},
    {"string_3_escaped_invalid_codepoints.json", NULL},
    {"string_3_invalid_codepoints.json", NULL},
    {"string_with_escaped_NULL.json", "[\"A\\u0000B\"]"},
};

static void try_transform(const char *name, const char *path, void *context)
{
    evh_json *json = context;
    size_t size = 0;
    char *text = data_read(path, &size);
    const evh_status status = evh_json_parse(json, evh_json_root(json), text, size, NULL, NULL);
    free(text);
    for (size_t i = 0; i < sizeof transforms / sizeof transforms[0]; i++) {
        if (strcmp(name, transforms[i][0]) != 0) continue;
        char *back = status ? NULL : evh_json_print(json, evh_json_root(json), NULL, NULL);
        const char *expected = transforms[i][1];
        if (!back != !expected || (back && strcmp(back, expected) != 0))
            test_fail(__FILE__, __LINE__, "%s: %s", name, back ? back : "refused");
        free(back);
        return;
    }
    test_fail(__FILE__, __LINE__, "%s is not decided", name);
}

TEST(the_transformation_test_suite_is_decided)
{
    const char *folder = data_path("json/JSONTestSuite/test_transform");
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    CHECK_EQUAL(data_each(folder, try_transform, json), 22);
    evh_json_close(json);
    evh_close(heap);
}

/* Without white space, all else as it is. */
static size_t minify(char *text, size_t size)
{
    size_t kept = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        if (in_string && text[i] == '\\')
            text[kept++] = text[i++];
        else if (text[i] == '"')
            in_string = !in_string;
        if (in_string || !strchr(" \n\r\t", text[i])) text[kept++] = text[i];
    }
    return kept;
}

TEST(real_documents_come_back_byte_for_byte_after_reopening)
{
    static const char *const names[] = {"json/bench/twitter.json", "json/bench/citm_catalog.json",
                                        "json/bench/canada.json"};
    for (size_t i = 0; i < 3; i++) {
        size_t size = 0;
        char *text = data_read(data_path(names[i]), &size);
        const char *path = test_path("real");
        evh_heap *heap = evh_open(path, NULL);
        evh_json *json = evh_json_open(heap, NULL);
        const evh_json_read_options options = {.keep_digits = i == 2}; /* 17 digits where 16 do */
        CHECK(evh_json_parse(json, evh_json_root(json), text, size, &options, NULL) == EVH_OK);
        CHECK(evh_commit(heap) == EVH_OK);
        evh_json_close(json);
        CHECK(evh_close(heap) == EVH_OK);
        heap = evh_open(path, NULL);
        json = evh_json_open(heap, NULL);
        CHECK(evh_json_check(json) == EVH_OK);
        size_t written = 0;
        char *back = evh_json_print(json, evh_json_root(json), NULL, &written);
        CHECK_EQUAL(written, minify(text, size));
        CHECK(memcmp(back, text, written) == 0);
        free(back);
        free(text);
        evh_json_close(json);
        CHECK(evh_close(heap) == EVH_OK);
    }
}
