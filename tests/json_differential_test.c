/* json_differential_test.c -- random texts, judged by us, by Python's json, and by jansson.
 *
 * Strategy: documents are made of every kind of token, then most are damaged a little: a byte is
 * changed, doubled, taken out, the end cut off. Python reads them from a file, decides, and writes
 * down what it has read; where jansson was there when this was built, it does so here. Invariants:
 * all accept and refuse the same texts; what is printed is the same, byte for byte (Python), or
 * means the same (jansson). Known differences are decided alike beforehand: our table of choices is
 * in docs/json.md.
 *
 * 20,000 documents, scaled by EFFORT.
 */
#include "test.h"

#include <everheap.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_JANSSON
#include <jansson.h>
#endif

enum { TEXT_MAX = 1 << 16 };

/* Integers keep their digits; what no double holds too. A lone surrogate is none of Unicode. */
static const char script[] =
    "import json, struct, sys\n"
    "class Number(str): pass\n"
    "def real(s):\n"
    "  f = float(s)\n"
    "  is_lost = f in (float('inf'), float('-inf')) or "
    "(f == 0 and any(c in '123456789' for c in s.lower().split('e')[0]))\n"
    "  return Number(s if is_lost else repr(f))\n"
    "def no(s): raise ValueError\n"
    "def show(v):\n"
    "  if isinstance(v, Number): return str(v)\n"
    "  if isinstance(v, list): return '[' + ','.join(map(show, v)) + ']'\n"
    "  if isinstance(v, dict): return '{' + ','.join(show(k) + ':' + show(x) "
    "for k, x in v.items()) + '}'\n"
    "  return json.dumps(v, ensure_ascii=False)\n"
    "data, out, at = open(sys.argv[1], 'rb').read(), open(sys.argv[2], 'wb'), 0\n"
    "while at < len(data):\n"
    "  size, = struct.unpack_from('<I', data, at)\n"
    "  try:\n"
    "    text = data[at + 4:at + 4 + size].decode('utf-8')\n"
    "    v = json.loads(text, parse_int=Number, parse_float=real, parse_constant=no)\n"
    "    result = b'+' + show(v).encode('utf-8')\n"
    "  except ValueError: result = b'-'\n"
    "  out.write(struct.pack('<I', len(result)) + result)\n"
    "  at += 4 + size\n";

/* ---- making texts ---- */

struct maker {
    uint64_t random;
    char text[TEXT_MAX];
    size_t size;
};

static uint64_t draw(struct maker *maker, uint64_t limit)
{
    return test_random(&maker->random) % limit;
}

static void put(struct maker *maker, const char *text)
{
    const size_t size = strlen(text);
    if (maker->size + size >= TEXT_MAX / 2) return;
    memcpy(maker->text + maker->size, text, size);
    maker->size += size;
}

static void make_string(struct maker *maker)
{
    static const char *const pieces[] = {
        "a",
        "key",
        " ",
        "\\n",
        "\\u0041",
        "\\ud83d\\ude00",
        "\\\"",
        "\\\\",
        "\\/",
        "\\u0000",
        "\xc3\xa9",
        "\xe2\x82\xac",
        "\xf0\x9f\x98\x80",
        "\x7f",
        "\\u001f",
        "\\u20ac",
        "long text without anything that is special, of more than sixty-four bytes!!"};
    put(maker, "\"");
    for (uint64_t i = draw(maker, 6); i > 0; i--)
        put(maker, pieces[draw(maker, sizeof pieces / sizeof pieces[0])]);
    put(maker, "\"");
}

static void make_number(struct maker *maker)
{
    static const char *const numbers[] = {"0",
                                          "-0",
                                          "-0.0",
                                          "1e5",
                                          "1E+5",
                                          "0.1",
                                          "-1.5e-7",
                                          "1e400",
                                          "-1e-400",
                                          "9223372036854775807",
                                          "-9223372036854775808",
                                          "9223372036854775808",
                                          "18446744073709551615",
                                          "18446744073709551616",
                                          "123456789012345678901234567890",
                                          "4.9e-324",
                                          "2.2250738585072011e-308",
                                          "1.7976931348623157e308",
                                          "100.0",
                                          "1e16",
                                          "123456789.123456789e-5"};
    char text[64];
    switch (draw(maker, 3)) {
    case 0: put(maker, numbers[draw(maker, sizeof numbers / sizeof numbers[0])]); return;
    case 1: snprintf(text, sizeof text, "%lld", (long long)test_random(&maker->random)); break;
    default:
        snprintf(text, sizeof text, "%.*ge%d", (int)draw(maker, 19) + 1,
                 (double)draw(maker, 1u << 30) / 1024, (int)draw(maker, 600) - 300);
        if (strchr(text, 'e') != strrchr(text, 'e')) *strrchr(text, 'e') = 0;
        break;
    }
    put(maker, text);
}

static void make_space(struct maker *maker)
{
    static const char *const spaces[] = {" ", "\n", "\t", "\r", "  \n "};
    if (draw(maker, 8) == 0) put(maker, spaces[draw(maker, 5)]);
}

static void make_value(struct maker *maker, int depth)
{
    static const char *const words[] = {"null", "true", "false"};
    make_space(maker);
    const uint64_t kind = draw(maker, depth < 8 ? 8 : 5);
    if (kind < 1) put(maker, words[draw(maker, 3)]);
    if (kind == 1 || kind == 2) make_number(maker);
    if (kind == 3 || kind == 4) make_string(maker);
    if (kind >= 5) {
        const bool is_array = kind == 5;
        put(maker, is_array ? "[" : "{");
        for (uint64_t i = draw(maker, draw(maker, 30) ? 5 : 40); i > 0; i--) {
            make_space(maker);
            if (!is_array) make_string(maker);
            if (!is_array) put(maker, ":");
            make_value(maker, depth + 1);
            if (i > 1) put(maker, ",");
        }
        make_space(maker);
        put(maker, is_array ? "]" : "}");
    }
    make_space(maker);
}

static void damage(struct maker *maker)
{
    static const char bytes[] = "{}[]:,\"\\0123456789+-.eE tfnu/\x01\x80\xff\xed\xa0";
    for (uint64_t i = draw(maker, 4); i > 0 && maker->size > 1; i--) {
        const size_t at = draw(maker, maker->size);
        char *const here = maker->text + at;
        switch (draw(maker, 5)) {
        case 0: *here = bytes[draw(maker, sizeof bytes - 1)]; break;
        case 1:
            memmove(here, here + 1, maker->size - at - 1);
            maker->size--;
            break;
        case 2:
            memmove(here + 1, here, maker->size - at);
            maker->size++;
            break;
        case 3:
            memmove(here + 1, here, maker->size - at);
            *here = bytes[draw(maker, sizeof bytes - 1)];
            maker->size++;
            break;
        default:
            if (draw(maker, 4) == 0) maker->size = at + 1;
            break;
        }
    }
}

/* A \u escape of a surrogate: whether it has its other half is where readers differ. */
static bool has_odd_surrogate(const struct maker *maker)
{
    for (size_t i = 0; i + 6 <= maker->size; i++) {
        const char *const at = maker->text + i;
        if (at[0] == '\\' && at[1] != 'u') i++;
        if (at[0] != '\\' || at[1] != 'u' || (at[2] | 0x20) != 'd') continue;
        if (strchr("89abABcdefCDEF", at[3]) == NULL) continue;
        if (memcmp(at, "\\ud83d\\ude00", 12) != 0 || i + 12 > maker->size) return true;
        i += 11;
    }
    return false;
}

/* ---- judging ---- */

static char *judge(evh_json *json, const char *text, size_t size)
{
    const evh_json_read_options options = {.duplicates = EVH_JSON_DUPLICATES_LAST, .plain = true};
    if (evh_json_parse(json, evh_json_root(json), text, size, &options, NULL)) {
        CHECK(evh_last_error()->status == EVH_SYNTAX);
        return NULL;
    }
    char *const printed = evh_json_print(json, evh_json_root(json), NULL, NULL);
    if (!printed)
        test_fail(__FILE__, __LINE__, "%s: not printed: %.*s", evh_last_error()->message,
                  (int)(size < 300 ? size : 300), text);
    if (!printed) test_stop();
    return printed;
}

static void differ(const char *who, const char *text, size_t size, const char *ours,
                   const char *theirs)
{
    test_fail(__FILE__, __LINE__, "%s: of %.*s we say %s, they say %s", who,
              (int)(size < 300 ? size : 300), text, ours ? ours : "no", theirs ? theirs : "no");
    test_stop();
}

#ifdef HAVE_JANSSON

static void ask_jansson(const char *text, size_t size, const char *ours)
{
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_error_t error;
    json_t *const theirs = json_loadb(text, size, flags, &error);
    const enum json_error_code code = json_error_code(&error);
    if (!theirs && (code == json_error_numeric_overflow || code == json_error_null_byte_in_key))
        return; /* what it does not support */
    if (!theirs != !ours) differ("jansson", text, size, ours, theirs ? "yes" : error.text);
    if (!theirs) return;
    json_t *const same = json_loads(ours, flags, &error);
    if (!json_equal(theirs, same)) differ("jansson", text, size, ours, "another value");
    json_decref(same);
    json_decref(theirs);
}

#else

static void ask_jansson(const char *text, size_t size, const char *ours)
{
    (void)text;
    (void)size;
    (void)ours;
}

#endif

/* Read a size and as many bytes; owned. */
static char *read_piece(FILE *file, size_t *size)
{
    uint32_t bytes = 0;
    CHECK(fread(&bytes, sizeof bytes, 1, file) == 1);
    char *const piece = malloc(bytes + 1u);
    CHECK(piece && fread(piece, 1, bytes, file) == bytes);
    piece[bytes] = 0;
    *size = bytes;
    return piece;
}

static void compare_with_python(evh_json *json, const char *texts_path, uint64_t count)
{
    char command[2000];
    char results_path[600];
    char script_path[600];
    snprintf(results_path, sizeof results_path, "%s.results", texts_path);
    snprintf(script_path, sizeof script_path, "%s.py", texts_path);
    FILE *const written = fopen(script_path, "w");
    CHECK(written && fputs(script, written) >= 0 && fclose(written) == 0);
    snprintf(command, sizeof command, "python3 '%s' '%s' '%s'", script_path, texts_path,
             results_path);
    if (system(command) != 0) SKIP("no python3 that runs a script");
    FILE *const texts = fopen(texts_path, "rb");
    FILE *const results = fopen(results_path, "rb");
    CHECK(texts && results);
    for (uint64_t i = 0; i < count; i++) {
        size_t size = 0;
        size_t result_size = 0;
        char *const text = read_piece(texts, &size);
        char *const result = read_piece(results, &result_size);
        char *const ours = judge(json, text, size);
        const char *const theirs = result[0] == '+' ? result + 1 : NULL;
        if (!ours != !theirs || (ours && strcmp(ours, theirs) != 0))
            differ("Python", text, size, ours, theirs);
        free(ours);
        free(result);
        free(text);
    }
    fclose(texts);
    fclose(results);
    unlink(results_path);
}

TEST(random_texts_are_read_as_others_read_them)
{
    static struct maker maker;
    maker.random = test_seed();
    evh_heap *const heap = evh_open_memory(NULL, 0, NULL);
    evh_json *const json = evh_json_open(heap, NULL);
    const uint64_t count = test_effort(20000);
    enum { BATCH = 20000 };
    uint64_t accepted = 0;
    for (uint64_t done = 0; done < count; done += BATCH) {
        const uint64_t batch = count - done < BATCH ? count - done : BATCH;
        const char *const path = test_path("texts");
        FILE *const file = fopen(path, "wb");
        CHECK(file != NULL);
        for (uint64_t i = 0; i < batch; i++) {
            do {
                maker.size = 0;
                make_value(&maker, 0);
                if (draw(&maker, 4)) damage(&maker);
            } while (has_odd_surrogate(&maker));
            const uint32_t size = (uint32_t)maker.size;
            CHECK(fwrite(&size, sizeof size, 1, file) == 1);
            CHECK(fwrite(maker.text, 1, size, file) == size);
            char *const ours = judge(json, maker.text, maker.size);
            accepted += ours != NULL;
            ask_jansson(maker.text, maker.size, ours);
            free(ours);
        }
        CHECK(fclose(file) == 0);
        compare_with_python(json, path, batch);
        unlink(path);
    }
    printf("    %llu of %llu texts accepted\n", (unsigned long long)accepted,
           (unsigned long long)count);
    CHECK(accepted > count / 10 && accepted < count);
    evh_json_close(json);
    evh_close(heap);
}
