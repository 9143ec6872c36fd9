/* json_query_test.c -- JSONPath: the published suite, cases of our own, regular expressions. */
#include "data.h"
#include "json/json.h"
#include "json/regex.h"
#include "test.h"

#include <everheap/json_query.h>

#include <stdlib.h>

struct fixture {
    evh_heap *heap;
    evh_json *json;
};

static struct fixture begin(const char *text)
{
    struct fixture f = {evh_open_memory(NULL, 0, NULL), NULL};
    CHECK(f.heap != NULL);
    f.json = evh_json_open(f.heap, NULL);
    CHECK(f.json != NULL);
    CHECK(!text ||
          evh_json_parse(f.json, evh_json_root(f.json), text, strlen(text), NULL, NULL) == EVH_OK);
    return f;
}

static void end(struct fixture *f)
{
    evh_json_close(f->json);
    CHECK(evh_close(f->heap) == EVH_OK);
}

/* What a query found: an array of copies, and one of paths. */
struct found {
    evh_json *json;
    evh_value values[1000];
    size_t count;
};

static bool collect(evh_value value, void *context)
{
    struct found *found = context;
    CHECK(found->count < 1000);
    found->values[found->count++] = value;
    return true;
}

static bool is_list(evh_json *json, const struct found *found, evh_value list)
{
    if (evh_json_count(json, list) != found->count) return false;
    for (size_t i = 0; i < found->count; i++)
        if (!evh_json_equal(json, found->values[i], evh_json_at(json, list, i))) return false;
    return true;
}

static bool are_paths(evh_json *json, const struct found *found, evh_value list)
{
    for (size_t i = 0; i < found->count; i++) {
        char path[500];
        evh_json_normalized_path(json, found->values[i], path, sizeof path);
        const char *expected = evh_json_text(json, evh_json_at(json, list, i), NULL);
        if (!expected || strcmp(path, expected) != 0) return false;
    }
    return true;
}

static bool is_right(evh_json *json, evh_value item, const struct found *found)
{
    const evh_value result = evh_json_member(json, item, "result", 6);
    const evh_value results = evh_json_member(json, item, "results", 7);
    const evh_value paths = evh_json_member(json, item, "result_paths", 12);
    if (evh_json_is(result))
        return is_list(json, found, result) &&
               (!evh_json_is(paths) || are_paths(json, found, paths));
    for (size_t i = 0; i < evh_json_count(json, results); i++)
        if (is_list(json, found, evh_json_at(json, results, i))) return true;
    return false;
}

TEST(the_jsonpath_compliance_suite_is_passed)
{
    const char *path = data_path("json/jsonpath/cts.json");
    struct fixture f = begin(NULL);
    size_t size = 0;
    char *text = data_read(path, &size);
    const evh_value suite = evh_json_detached(f.json);
    CHECK(evh_json_parse(f.json, suite, text, size, &(evh_json_read_options){.plain = true},
                         NULL) == EVH_OK);
    free(text);
    const evh_value tests = evh_json_find(f.json, suite, "/tests", 6);
    size_t passed = 0;
    for (size_t i = 0; i < evh_json_count(f.json, tests); i++) {
        const evh_value item = evh_json_at(f.json, tests, i);
        size_t selector_size = 0;
        const char *selector =
            evh_json_text(f.json, evh_json_member(f.json, item, "selector", 8), &selector_size);
        const bool is_invalid =
            evh_json_boolean(f.json, evh_json_member(f.json, item, "invalid_selector", 16), NULL);
        evh_json_query *query = evh_json_query_compile(selector, selector_size);
        bool is_good = (query == NULL) == is_invalid;
        static struct found found;
        found = (struct found){.json = f.json};
        if (query && is_good) {
            /* The document is moved out, so that paths begin with it. */
            const evh_value document = evh_json_member(f.json, item, "document", 8);
            CHECK(evh_json_move(f.json, evh_json_root(f.json), document) == EVH_OK);
            CHECK(evh_json_query_run(f.json, evh_json_root(f.json), query, collect, &found) ==
                  EVH_OK);
            is_good = is_right(f.json, item, &found);
        }
        evh_json_query_end(query);
        passed += is_good;
        if (!is_good)
            test_fail(__FILE__, __LINE__, "%s: %s found %zu", selector,
                      evh_json_text(f.json, evh_json_member(f.json, item, "name", 4), NULL),
                      found.count);
    }
    CHECK_EQUAL(passed, 703);
    end(&f);
}

/* ---- our own ---- */

static const char bookstore[] = /* RFC 9535, section 1.5 */
    "{\"store\":{\"book\":[{\"category\":\"reference\",\"author\":\"Nigel "
    "Rees\",\"title\":\"Sayings of the "
    "Century\",\"price\":8.95},{\"category\":\"fiction\",\"author\":\"Evelyn "
    "Waugh\",\"title\":\"Sword of "
    "Honour\",\"price\":12.99},{\"category\":\"fiction\",\"author\":\"Herman "
    "Melville\",\"title\":\"Moby Dick\","
    "\"isbn\":\"0-553-21311-3\",\"price\":8.99},{\"category\":\"fiction\",\"author\":\"J. R. R. "
    "Tolkien\","
    "\"title\":\"The Lord of the "
    "Rings\",\"isbn\":\"0-395-19395-8\",\"price\":22.99}],\"bicycle\":{\"color\":"
    "\"red\",\"price\":399}}}";

static void check_query(struct fixture *f, const char *text, const char *paths)
{
    evh_json_query *query = evh_json_query_compile(text, strlen(text));
    if (!query) {
        test_fail(__FILE__, __LINE__, "%s: %s", text, evh_last_error()->message);
        return;
    }
    static struct found found;
    found = (struct found){.json = f->json};
    CHECK(evh_json_query_run(f->json, evh_json_root(f->json), query, collect, &found) == EVH_OK);
    char all[4000] = "";
    size_t used = 0;
    for (size_t i = 0; i < found.count; i++) {
        char path[200];
        evh_json_pointer(f->json, found.values[i], path, sizeof path);
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? " " : "", path);
    }
    if (strcmp(all, paths) != 0) test_fail(__FILE__, __LINE__, "%s found %s", text, all);
    evh_json_query_end(query);
}

TEST(the_examples_of_rfc_9535_find_what_it_says)
{
    struct fixture f = begin(bookstore);
    check_query(&f, "$", "");
    check_query(
        &f, "$.store.book[*].author",
        "/store/book/0/author /store/book/1/author /store/book/2/author /store/book/3/author");
    check_query(
        &f, "$..author",
        "/store/book/0/author /store/book/1/author /store/book/2/author /store/book/3/author");
    check_query(&f, "$.store.*", "/store/book /store/bicycle");
    check_query(&f, "$.store..price",
                "/store/book/0/price /store/book/1/price /store/book/2/price "
                "/store/book/3/price /store/bicycle/price");
    check_query(&f, "$..book[2]", "/store/book/2");
    check_query(&f, "$..book[2].publisher", "");
    check_query(&f, "$..book[-1]", "/store/book/3");
    check_query(&f, "$..book[0,1]", "/store/book/0 /store/book/1");
    check_query(&f, "$..book[:2]", "/store/book/0 /store/book/1");
    check_query(&f, "$..book[?@.isbn]", "/store/book/2 /store/book/3");
    check_query(&f, "$..book[?@.price<10]", "/store/book/0 /store/book/2");
    check_query(&f, "$..book[?match(@.author,'[A-J].*') && !(@.price > 20)].title",
                "/store/book/1/title /store/book/2/title");
    check_query(&f, "$.store.book[?count($..book.*) == 4 && length(@.title) == 9]",
                "/store/book/2");
    check_query(&f, "$.store.book[::-2]", "/store/book/3 /store/book/1");
    end(&f);
}

TEST(queries_that_are_none_are_refused)
{
    static const char *const texts[] = {"",
                                        "store",
                                        "$.",
                                        "$..",
                                        "$[",
                                        "$[]",
                                        "$[?]",
                                        "$[?true]",
                                        "$[?@.a==]",
                                        "$ ",
                                        " $",
                                        "$.a b",
                                        "$[01]",
                                        "$[-0]",
                                        "$[9007199254740992]",
                                        "$['a",
                                        "$[?count(@.a)]",
                                        "$[?length(@.*)>1]",
                                        "$[?@.*==1]",
                                        "$[?match(@.a,'x')==true]",
                                        "$[?unknown(@)]",
                                        "$['\\x']",
                                        "$[\"\\'\"]",
                                        "$[?!1==1]",
                                        "$[?count(1)==1]",
                                        "$[?(@.a]",
                                        "$.\xff"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        evh_json_query *query = evh_json_query_compile(texts[i], strlen(texts[i]));
        if (query) test_fail(__FILE__, __LINE__, "%s", texts[i]);
        evh_json_query_end(query);
    }
    char deep[2000] = "$[?";
    memset(deep + 3, '(', 1000);
    CHECK(evh_json_query_compile(deep, 1003) == NULL);
    CHECK(evh_last_error()->status == EVH_LIMIT);
}

static bool stop_at_third(evh_value value, void *context)
{
    (void)value;
    return ++*(size_t *)context < 3;
}

TEST(a_query_stops_when_it_is_told)
{
    struct fixture f = begin("[1,2,3,4,5,[6,7]]");
    evh_json_query *query = evh_json_query_compile("$..*", 4);
    size_t count = 0;
    CHECK(evh_json_query_run(f.json, evh_json_root(f.json), query, stop_at_third, &count) ==
          EVH_OK);
    CHECK_EQUAL(count, 3);
    evh_json_query_end(query);
    end(&f);
}

/* ---- regular expressions ---- */

static void check_regex(const char *pattern, const char *text, bool expected)
{
    evh_status status = EVH_OK;
    struct regex *regex = regex_compile(pattern, strlen(pattern), &status);
    if (!regex) {
        test_fail(__FILE__, __LINE__, "%s is none", pattern);
        return;
    }
    if (regex_match(regex, text, strlen(text), true) != expected)
        test_fail(__FILE__, __LINE__, "%s, %s", pattern, text);
    regex_end(regex);
}

TEST(expressions_match_what_rfc_9485_says)
{
    static const struct {
        const char *pattern, *yes[6], *no[6];
    } cases[] = {
        {"", {""}, {"a"}},
        {"abc", {"abc"}, {"ab", "abcd", "xabc"}},
        {"a*", {"", "a", "aaaa"}, {"b", "ab"}},
        {"a+b?", {"a", "aab"}, {"", "b", "abb"}},
        {"a{2}", {"aa"}, {"a", "aaa"}},
        {"a{2,}", {"aa", "aaaaa"}, {"a"}},
        {"a{2,4}", {"aa", "aaa", "aaaa"}, {"a", "aaaaa"}},
        {"a{0,2}b", {"b", "ab", "aab"}, {"aaab"}},
        {"xa{0}y", {"xy"}, {"xay"}},
        {"(ab|c)*d", {"d", "abcabd", "cd"}, {"ad", "abc"}},
        {"a|b|cd|", {"a", "b", "cd", ""}, {"c", "ab", "d"}},
        {"(a|b|c){2,3}x", {"abx", "cccx"}, {"ax", "abcax"}},
        {"((a|b)+c?)+", {"abc", "acbb"}, {"", "ca"}},
        {"x(a*)*y", {"xy", "xaaay"}, {"xby"}},
        {".", {"a", "\xc3\xa4", "\xf0\x9f\x98\x80"}, {"\n", "\r", "ab"}},
        {"[a-cx]", {"a", "b", "x"}, {"d", "-"}},
        {"[^a-c]", {"d", "\xc3\xa4"}, {"a", "c"}},
        {"[-a]", {"-", "a"}, {"b"}},
        {"[a-]", {"-", "a"}, {"b"}},
        {"[\\[\\]\\-]", {"[", "]", "-"}, {"a"}},
        {"\\p{Lu}\\p{L}*", {"Abc", "\xc3\x84ther"}, {"abc", "A1"}},
        {"\\P{Nd}+", {"abc"}, {"a1"}},
        {"[\\p{Lu}_]+", {"A_B"}, {"a"}},
        {"\\.\\*\\n\\t", {".*\n\t"}, {"xx"}},
        {"^a$", {"a"}, {"^a$", "ba"}},
        {"[$^]\\^", {"$^", "^^"}, {"a^"}},
        {"[\xc3\xa4-\xc3\xbc]", {"\xc3\xb6"}, {"o"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t j = 0; j < 6 && cases[i].yes[j]; j++)
            check_regex(cases[i].pattern, cases[i].yes[j], true);
        for (size_t j = 0; j < 6 && cases[i].no[j]; j++)
            check_regex(cases[i].pattern, cases[i].no[j], false);
    }
}

TEST(text_that_is_no_expression_is_told)
{
    static const char *const texts[] = {
        "(",      ")",   "a)",    "(a",  "[",      "[]",      "[a",      "[b-a]", "*",
        "+a",     "a**", "a{",    "a{}", "a{2,1}", "a{x}",    "a{1001}", "\\",    "\\d",
        "\\p{X}", "\\p", "\\p{}", "]",   "}",      "a{2}{3}", "(?:a)",   "[a[b]"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        evh_status status = EVH_OK;
        struct regex *regex = regex_compile(texts[i], strlen(texts[i]), &status);
        if (regex) test_fail(__FILE__, __LINE__, "%s", texts[i]);
        regex_end(regex);
    }
}

TEST(no_expression_takes_exponential_time)
{
    char text[2001];
    memset(text, 'a', 2000);
    text[2000] = 0;
    check_regex("(a*)*b", text, false);
    check_regex("(a|a)*b", text, false);
    check_regex("(a?){100}a{100}", text + 1900, true);
    evh_status status = EVH_OK;
    CHECK(regex_compile("((a{1000}){1000}){1000}", 23, &status) == NULL);
    CHECK(status == EVH_OK);
}
