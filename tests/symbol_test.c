/* symbol_test.c -- interned strings. */
#include "support/collect_model.h"

#include <stdlib.h>
#include <string.h>

static evh_symbol intern(evh_heap *heap, evh_symbols *symbols, const char *text)
{
    const evh_symbol symbol = evh_symbol_intern(heap, symbols, text, strlen(text));
    CHECK(symbol);
    return symbol;
}

static bool is_text(evh_heap *heap, const evh_symbols *symbols, evh_symbol symbol, const char *text)
{
    size_t size;
    const char *found = evh_symbol_text(heap, symbols, symbol, &size);
    return found && size == strlen(text) && strcmp(found, text) == 0;
}

TEST(equal_strings_have_one_symbol)
{
    evh_heap *heap = collect_open_memory();
    evh_symbols symbols = {0};
    const evh_symbol red = intern(heap, &symbols, "red");
    const evh_symbol green = intern(heap, &symbols, "green");
    const evh_symbol none = intern(heap, &symbols, "");
    CHECK(red != green && green != none && red != none);
    CHECK_EQUAL(intern(heap, &symbols, "red"), red);
    CHECK_EQUAL(evh_symbol_find(heap, &symbols, "green", 5), green);
    CHECK_EQUAL(evh_symbol_find(heap, &symbols, "", 0), none);
    CHECK_EQUAL(evh_symbol_find(heap, &symbols, "blue", 4), 0);
    CHECK(is_text(heap, &symbols, green, "green"));
    CHECK(!evh_symbol_text(heap, &symbols, 0, NULL));
    CHECK(!evh_symbol_text(heap, &symbols, 4, NULL));
    CHECK_EQUAL(evh_symbols_count(heap, &symbols), 3);
    CHECK_EQUAL(evh_symbols_check(heap, &symbols), EVH_OK);
    evh_close(heap);
}

TEST(a_symbol_lives_as_long_as_it_is_referenced)
{
    evh_heap *heap = collect_open_memory();
    evh_symbols symbols = {0};
    const evh_symbol red = intern(heap, &symbols, "red");
    CHECK_EQUAL(intern(heap, &symbols, "red"), red);
    CHECK_EQUAL(evh_symbol_retain(heap, &symbols, red), EVH_OK);
    CHECK_EQUAL(evh_symbol_references(heap, &symbols, red), 3);
    for (int i = 0; i < 2; i++) CHECK_EQUAL(evh_symbol_release(heap, &symbols, red), EVH_OK);
    CHECK(is_text(heap, &symbols, red, "red"));
    CHECK_EQUAL(evh_symbol_release(heap, &symbols, red), EVH_OK);
    CHECK_EQUAL(evh_symbol_references(heap, &symbols, red), 0);
    CHECK_EQUAL(evh_symbol_find(heap, &symbols, "red", 3), 0);
    CHECK_EQUAL(evh_symbol_release(heap, &symbols, red), EVH_NOT_FOUND);
    CHECK_EQUAL(evh_symbol_retain(heap, &symbols, red), EVH_NOT_FOUND);
    CHECK_EQUAL(intern(heap, &symbols, "blue"), red); /* the number is given anew */
    CHECK_EQUAL(evh_symbols_check(heap, &symbols), EVH_OK);
    evh_close(heap);
}

TEST(a_table_that_keeps_frees_nothing)
{
    evh_heap *heap = collect_open_memory();
    evh_symbols symbols = {0};
    CHECK_EQUAL(evh_symbols_create(heap, &symbols, 8), EVH_INVALID);
    CHECK_EQUAL(evh_symbols_create(heap, &symbols, EVH_SYMBOLS_KEEP), EVH_OK);
    CHECK_EQUAL(evh_symbols_create(heap, &symbols, EVH_SYMBOLS_KEEP), EVH_EXISTS);
    const evh_symbol red = intern(heap, &symbols, "red");
    CHECK_EQUAL(intern(heap, &symbols, "red"), red);
    for (int i = 0; i < 5; i++) CHECK_EQUAL(evh_symbol_release(heap, &symbols, red), EVH_OK);
    CHECK_EQUAL(evh_symbol_references(heap, &symbols, red), 1);
    CHECK(is_text(heap, &symbols, red, "red"));
    CHECK_EQUAL(evh_symbols_check(heap, &symbols), EVH_OK);
    evh_close(heap);
}

TEST(symbols_are_the_same_after_reopening)
{
    const char *path = test_path("symbols.heap");
    evh_heap *heap = evh_open(path, NULL);
    CHECK(heap);
    evh_symbols *symbols = evh_root(heap, "symbols", sizeof *symbols);
    CHECK(symbols);
    char text[32];
    for (unsigned i = 1; i <= 5000; i++) {
        snprintf(text, sizeof text, "symbol %u", i);
        CHECK_EQUAL(intern(heap, symbols, text), i);
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    CHECK(heap);
    symbols = evh_root_find(heap, "symbols", NULL);
    CHECK(symbols);
    for (unsigned i = 1; i <= 5000; i++) {
        snprintf(text, sizeof text, "symbol %u", i);
        CHECK(is_text(heap, symbols, i, text));
        CHECK_EQUAL(evh_symbol_find(heap, symbols, text, strlen(text)), i);
    }
    CHECK_EQUAL(evh_symbol_intern(heap, symbols, "new", 3), 0);
    CHECK_EQUAL(evh_last_error()->status, EVH_READ_ONLY);
    evh_close(heap);
}

static unsigned matches(evh_heap *heap, const evh_symbols *symbols, evh_match match,
                        const char *part)
{
    unsigned count = 0;
    evh_symbol symbol = 0;
    while ((symbol = evh_symbol_next(heap, symbols, symbol, match, part, strlen(part)))) count++;
    return count;
}

TEST(symbols_are_found_by_prefix_and_part)
{
    evh_heap *heap = collect_open_memory();
    evh_symbols symbols = {0};
    static const char *const texts[] = {"user", "username", "last_user", "name", "", "use"};
    for (unsigned i = 0; i < 6; i++) intern(heap, &symbols, texts[i]);
    CHECK_EQUAL(matches(heap, &symbols, EVH_MATCH_SUBSTRING, "user"), 3);
    CHECK_EQUAL(matches(heap, &symbols, EVH_MATCH_PREFIX, "user"), 2);
    CHECK_EQUAL(matches(heap, &symbols, EVH_MATCH_PREFIX, "use"), 3);
    CHECK_EQUAL(matches(heap, &symbols, EVH_MATCH_SUBSTRING, "users"), 0);
    CHECK_EQUAL(matches(heap, &symbols, EVH_MATCH_SUBSTRING, ""), 6);
    CHECK_EQUAL(evh_symbol_release(heap, &symbols, 2), EVH_OK);
    CHECK_EQUAL(matches(heap, &symbols, EVH_MATCH_PREFIX, ""), 5);
    evh_close(heap);
}

TEST(a_null_is_refused)
{
    evh_heap *heap = collect_open_memory();
    evh_symbols symbols = {0};
    CHECK_EQUAL(evh_symbol_intern(NULL, &symbols, "x", 1), 0);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK_EQUAL(evh_symbol_intern(heap, NULL, "x", 1), 0);
    CHECK_EQUAL(evh_symbol_intern(heap, &symbols, NULL, 1), 0);
    CHECK_EQUAL(evh_symbol_find(heap, NULL, "x", 1), 0);
    CHECK_EQUAL(evh_symbols_check(heap, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_symbols_clear(heap, &symbols), EVH_OK);
    evh_close(heap);
}

/* ---- beside a model ---- */

enum { TEXTS = 6000 };

struct symbol_model {
    uint32_t references[TEXTS];
    evh_symbol symbols[TEXTS]; /* not known to a model that is brought up to date: 0 */
};

static size_t model_text(uint64_t number, char text[64])
{
    return (size_t)snprintf(text, 64, "%.*s%llu", (int)(number % 23), "a_prefix_that_is_common.",
                            (unsigned long long)number);
}

static bool symbol_step(evh_heap *heap, void *root, void *model, uint64_t random)
{
    evh_symbols *const symbols = root;
    struct symbol_model *const all = model;
    /* In turns more are interned, or released. */
    const uint64_t number = (random >> 8) % ((random >> 40) % 4 ? TEXTS : 100);
    const bool grows = random % 5 < 3;
    char text[64];
    const size_t size = model_text(number, text);
    if (grows || all->references[number] == 0) {
        if (heap) {
            const evh_symbol symbol = evh_symbol_intern(heap, symbols, text, size);
            if (symbol == 0) return false;
            if (all->references[number] && all->symbols[number])
                CHECK_EQUAL(symbol, all->symbols[number]);
            all->symbols[number] = symbol;
        }
        if (!heap && all->references[number] == 0) all->symbols[number] = 0;
        all->references[number]++;
        return true;
    }
    if (heap) {
        const evh_symbol symbol = evh_symbol_find(heap, symbols, text, size);
        CHECK(symbol);
        CHECK_EQUAL(evh_symbol_release(heap, symbols, symbol), EVH_OK);
    }
    all->references[number]--;
    return true;
}

static void symbol_verify(evh_heap *heap, void *root, const void *model)
{
    const evh_symbols *const symbols = root;
    const struct symbol_model *const all = model;
    uint64_t count = 0;
    for (uint64_t number = 0; number < TEXTS; number++) {
        char text[64];
        const size_t size = model_text(number, text);
        const evh_symbol symbol = evh_symbol_find(heap, symbols, text, size);
        CHECK_EQUAL(symbol != 0, all->references[number] != 0);
        CHECK_EQUAL(evh_symbol_references(heap, symbols, symbol), all->references[number]);
        if (symbol && all->symbols[number]) CHECK_EQUAL(symbol, all->symbols[number]);
        if (symbol) CHECK(is_text(heap, symbols, symbol, text));
        count += symbol != 0;
    }
    CHECK_EQUAL(evh_symbols_count(heap, symbols), count);
    evh_symbol symbol = 0;
    while ((symbol = evh_symbol_next(heap, symbols, symbol, EVH_MATCH_PREFIX, "", 0))) count--;
    CHECK_EQUAL(count, 0);
}

static void symbol_exercise(evh_heap *heap, void *root, uint64_t random)
{
    evh_symbols *const symbols = root;
    char text[64];
    const evh_symbol symbol = (evh_symbol)(random % 2000);
    size_t size = model_text(random % TEXTS, text);
    const evh_symbol made = evh_symbol_intern(heap, symbols, text, size);
    (void)evh_symbol_release(heap, symbols, symbol);
    (void)evh_symbol_release(heap, symbols, made);
    const char *found = evh_symbol_text(heap, symbols, symbol, &size);
    for (size_t i = 0; found && i < size; i++) random += (unsigned char)found[i];
    (void)evh_symbol_next(heap, symbols, 0, EVH_MATCH_SUBSTRING, "common.77", 9);
}

static evh_status symbol_check(evh_heap *heap, void *root)
{
    return evh_symbols_check(heap, root);
}

static evh_status symbol_clear(evh_heap *heap, void *root)
{
    return evh_symbols_clear(heap, root);
}

static const struct collect_kind symbols_kind = {
    .name = "symbols",
    .model_bytes = sizeof(struct symbol_model),
    .root_bytes = sizeof(evh_symbols),
    .step = symbol_step,
    .verify = symbol_verify,
    .exercise = symbol_exercise,
    .check = symbol_check,
    .clear = symbol_clear,
};

TEST(symbols_agree_with_a_model_over_commits_rollbacks_and_kills)
{
    collect_model_run(&symbols_kind, test_effort(100000));
}

TEST(symbols_in_a_full_heap_are_unchanged)
{
    collect_full_run(&symbols_kind, test_effort(40000), 64 << 10);
}

TEST(damaged_symbols_are_survived)
{
    collect_damage_run(&symbols_kind, test_effort(300));
}
