/* cli_test.c -- the command `everheap` on real heaps: what it prints, refuses and leaves alone. */
#include <everheap.h>

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- running the command ---- */

enum { OUTPUT_MAX = 1 << 20 };

struct result {
    int exit_code; /* -1: killed by a signal */
    char output[OUTPUT_MAX];
    char errors[OUTPUT_MAX];
};

static struct result result; /* of the last run */

static const char *command_path(void)
{
    const char *const path = getenv("EVERHEAP_COMMAND");
    return path ? path : "build/everheap";
}

static size_t read_file(const char *path, char *buffer, size_t size_max)
{
    FILE *const file = fopen(path, "rb");
    CHECK(file != NULL);
    const size_t size = fread(buffer, 1, size_max, file);
    fclose(file);
    return size;
}

/* As test_path(), but valid until this test binary ends. */
static const char *lasting_path(const char *name)
{
    static char paths[128][512];
    static unsigned count;
    CHECK(count < sizeof paths / sizeof paths[0]);
    snprintf(paths[count], sizeof paths[0], "%s", test_path(name));
    return paths[count++];
}

/* Run the command with standard output to `output_path`. */
static void run_to(const char *output_path, const char *const words[])
{
    static const char *errors_path;
    if (!errors_path) errors_path = lasting_path("cli_errors");
    char *arguments[16] = {(char *)(uintptr_t)command_path()};
    for (int i = 0; words[i]; i++) arguments[i + 1] = (char *)(uintptr_t)words[i];

    const int writing = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_t actions;
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output_path, writing, 0600);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors_path, writing, 0600);
    pid_t process;
    const int error = posix_spawn(&process, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    CHECK_EQUAL(error, 0);

    int status;
    CHECK(waitpid(process, &status, 0) == process);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.errors[read_file(errors_path, result.errors, OUTPUT_MAX - 1)] = 0;
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})
static void run(const char *const words[])
{
    static const char *output_path;
    if (!output_path) output_path = lasting_path("cli_output");
    run_to(output_path, words);
    result.output[read_file(output_path, result.output, OUTPUT_MAX - 1)] = 0;
}

static void need_command(void)
{
    if (access(command_path(), X_OK)) SKIP("no command: build it, or set EVERHEAP_COMMAND");
}

/* Check that the output, or the errors, contain a text. Says what they are if not. */
#define CHECK_OUTPUT(...) check_contains(__LINE__, "output", result.output, __VA_ARGS__)
#define CHECK_ERRORS(...) check_contains(__LINE__, "errors", result.errors, __VA_ARGS__)
__attribute__((format(printf, 4, 5))) static void check_contains(int line, const char *what,
                                                                 const char *text,
                                                                 const char *format, ...)
{
    char wanted[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(wanted, sizeof wanted, format, arguments);
    va_end(arguments);
    if (strstr(text, wanted)) return;
    test_fail(__FILE__, line, "the %s lack '%s':\n%.2000s", what, wanted, text);
    test_stop();
}

#define CHECK_EXIT(expected) check_exit(__LINE__, expected)
static void check_exit(int line, int expected)
{
    if (result.exit_code == expected) return;
    test_fail(__FILE__, line, "exit code %d, expected %d; errors: %.500s", result.exit_code,
              expected, result.errors);
    test_stop();
}

/* ---- a small, strict reader of JSON (RFC 8259): the command's writer is not its own judge ---- */

static const char *json_value(const char *text, int depth);

static const char *json_space(const char *text)
{
    return text + strspn(text, " \t\r\n");
}

/* Valid UTF-8 of more than one byte; NULL if it is not. */
static const char *json_utf8(const char *text)
{
    const unsigned char *const bytes = (const unsigned char *)text;
    const int length = bytes[0] >= 0xf0 ? 4 : bytes[0] >= 0xe0 ? 3 : 2;
    if (bytes[0] < 0xc2 || bytes[0] > 0xf4) return NULL;
    for (int i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) return NULL;
    }
    if (bytes[0] == 0xe0 && bytes[1] < 0xa0) return NULL;
    if (bytes[0] == 0xed && bytes[1] > 0x9f) return NULL;
    if (bytes[0] == 0xf0 && bytes[1] < 0x90) return NULL;
    if (bytes[0] == 0xf4 && bytes[1] > 0x8f) return NULL;
    return text + length;
}

static const char *json_string(const char *text)
{
    if (*text++ != '"') return NULL;
    while (text && *text != '"') {
        if ((unsigned char)*text < 0x20) return NULL; /* also the end */
        if ((unsigned char)*text >= 0x80) {
            text = json_utf8(text);
        } else if (*text != '\\') {
            text++;
        } else if (text[1] == 'u') {
            if (strspn(text + 2, "0123456789abcdefABCDEF") < 4) return NULL;
            text += 6;
        } else {
            if (!text[1] || !strchr("\"\\/bfnrt", text[1])) return NULL;
            text += 2;
        }
    }
    return text ? text + 1 : NULL;
}

static const char *json_digits(const char *text)
{
    const size_t count = strspn(text, "0123456789");
    return count > 0 ? text + count : NULL;
}

static const char *json_number(const char *text)
{
    if (*text == '-') text++;
    if (*text == '0' && text[1] >= '0' && text[1] <= '9') return NULL;
    text = json_digits(text);
    if (text && *text == '.') text = json_digits(text + 1);
    if (text && (*text == 'e' || *text == 'E')) {
        text++;
        if (*text == '+' || *text == '-') text++;
        text = json_digits(text);
    }
    return text;
}

static const char *json_items(const char *text, char closer, int depth)
{
    text = json_space(text + 1);
    if (*text == closer) return text + 1;
    for (;;) {
        if (closer == '}') {
            text = json_string(text);
            if (!text) return NULL;
            text = json_space(text);
            if (*text++ != ':') return NULL;
            text = json_space(text);
        }
        text = json_value(text, depth + 1);
        if (!text) return NULL;
        text = json_space(text);
        if (*text == closer) return text + 1;
        if (*text++ != ',') return NULL;
        text = json_space(text);
    }
}

/* The text behind the value that begins at `text`; NULL if there is none. */
static const char *json_value(const char *text, int depth)
{
    if (depth > 32) return NULL;
    if (*text == '{') return json_items(text, '}', depth);
    if (*text == '[') return json_items(text, ']', depth);
    if (*text == '"') return json_string(text);
    if (strncmp(text, "true", 4) == 0) return text + 4;
    if (strncmp(text, "false", 5) == 0) return text + 5;
    if (strncmp(text, "null", 4) == 0) return text + 4;
    return json_number(text);
}

static bool is_json_object(const char *text)
{
    text = json_space(text);
    if (*text != '{') return false;
    text = json_value(text, 0);
    return text && *json_space(text) == 0;
}

#define CHECK_JSON() check_json(__LINE__)
static void check_json(int line)
{
    if (is_json_object(result.output)) return;
    test_fail(__FILE__, line, "not one JSON object:\n%.2000s", result.output);
    test_stop();
}

TEST(the_json_reader_of_this_test_is_strict)
{
    static const char *const good[] = {"{}",
                                       "{\"a\": [1, -0.5e+3, \"\\u00e9\\n\xc3\xa9\", true]}\n"};
    static const char *const bad[] = {
        "",
        "[]",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\" 1}",
        "{a:1}",
        "{} x",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\xc3\"}",
        "{\"a\":1 2}",
        "{\"a\":[1,]}",
        "{\"a\":\"\xed\xa0\x80\"}",
        "{\"a\":nul}",
        "{\"a\":\"\\u12\"}",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) CHECK(is_json_object(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) CHECK(!is_json_object(bad[i]));
}

/* ---- the heaps ---- */

/* A list of three notes under the root "notes", and a root of a tag. */
struct note {
    evh_ref next;
    uint64_t number;
    char text[32];
};

enum { NOTES = 3 };

static void fill_heap(evh_heap *heap)
{
    evh_ref *const first = evh_root(heap, "notes", sizeof *first);
    CHECK(first != NULL);
    for (uint64_t i = 0; i < NOTES; i++) {
        struct note *const note = evh_calloc(heap, 1, sizeof *note);
        CHECK(note != NULL);
        note->next = *first;
        note->number = i;
        snprintf(note->text, sizeof note->text, "note number %u", (unsigned)i);
        *first = evh_ref_to(heap, note);
    }
    CHECK(evh_root_tagged(heap, 0xfeedbeef12345678u, 64) != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
}

static evh_heap *open_heap(const char *path)
{
    const evh_options options = {.no_thread = true};
    evh_heap *const heap = evh_open(path, &options);
    CHECK(heap != NULL);
    return heap;
}

/* A closed heap at a new path. */
static const char *make_heap(const char *name)
{
    need_command();
    const char *const path = lasting_path(name);
    evh_heap *const heap = open_heap(path);
    fill_heap(heap);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    return path;
}

static const char *make_file(const char *name, const char *content, size_t size)
{
    const char *const path = lasting_path(name);
    FILE *const file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK(fwrite(content, 1, size, file) == size);
    CHECK(fclose(file) == 0);
    return path;
}

static void flip_byte(const char *path, off_t offset)
{
    const int file = open(path, O_RDWR | O_CLOEXEC);
    CHECK(file >= 0);
    unsigned char byte;
    CHECK(pread(file, &byte, 1, offset) == 1);
    byte ^= 0x55;
    CHECK(pwrite(file, &byte, 1, offset) == 1);
    close(file);
}

static const char *const readers[] = {"info", "check", "map", "dump", "log", "digest"};
enum { READER_COUNT = sizeof readers / sizeof readers[0] };

/* ---- every subcommand ---- */

TEST(each_reader_prints_text_and_json)
{
    const char *const path = make_heap("each.heap");
    for (int i = 0; i < READER_COUNT; i++) {
        RUN(readers[i], path);
        CHECK_EXIT(0);
        CHECK(result.output[0] != 0 && result.errors[0] == 0);
        RUN(readers[i], "--json", path);
        CHECK_EXIT(0);
        CHECK_JSON();
        CHECK(result.errors[0] == 0);
    }
}

TEST(info_tells_the_figures_of_the_heap)
{
    const char *const path = make_heap("info.heap");
    const evh_options options = {.mode = EVH_READ_ONLY};
    evh_heap *const heap = evh_open(path, &options);
    evh_info info;
    CHECK(heap != NULL);
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    evh_close(heap);

    RUN("info", "-j", path);

    CHECK_EXIT(0);
    CHECK_JSON();
    CHECK_OUTPUT("\"file_bytes\": %llu,", (unsigned long long)info.file_bytes);
    CHECK_OUTPUT("\"live_blocks\": %llu,", (unsigned long long)info.live_blocks);
    CHECK_OUTPUT("\"live_bytes\": %llu,", (unsigned long long)info.live_bytes);
    CHECK_OUTPUT("\"commit_sequence\": %llu,", (unsigned long long)info.commit_sequence);
    CHECK_OUTPUT("\"roots\": 2,");
    CHECK_OUTPUT("\"writer_process\": 0,");
}

TEST(info_shows_sizes_rounded_and_exact)
{
    const char *const path = make_heap("sizes.heap");
    struct stat status;
    CHECK(stat(path, &status) == 0);

    RUN("info", path);

    CHECK_EXIT(0);
    CHECK(status.st_size % 1024 == 0 && status.st_size < 1000 << 10);
    CHECK_OUTPUT("%u.0 KiB (%u,%03u bytes)", (unsigned)status.st_size >> 10,
                 (unsigned)status.st_size / 1000, (unsigned)status.st_size % 1000);
}

TEST(stat_counts_blocks_by_size)
{
    const char *const path = make_heap("stat.heap");
    RUN("stat", path);
    CHECK_EXIT(0);
    CHECK_OUTPUT("blocks by size");
    RUN("stat", "--json", path);
    CHECK_EXIT(0);
    CHECK_JSON();
    RUN("stat", "--metrics", path);
    CHECK_EXIT(0);
    CHECK_OUTPUT("# TYPE everheap_live_bytes gauge\n");
    CHECK_OUTPUT("# EOF\n");
    RUN("stat", "--follow", "--count", "1", path);
    CHECK_EXIT(0);
    CHECK_OUTPUT("peak bytes");
}

TEST(check_calls_a_good_heap_clean)
{
    const char *const path = make_heap("clean.heap");
    RUN("check", path);
    CHECK_EXIT(0);
    CHECK_OUTPUT(": clean (");
}

TEST(check_lists_damage_and_exits_with_1)
{
    const char *const path = make_heap("damaged.heap");
    /* The notes' committed bytes are in the file: damage the one that is easy to find. */
    static char bytes[1 << 20];
    const size_t size = read_file(path, bytes, sizeof bytes);
    char *const found = memmem(bytes + 0x10000, size - 0x10000, "note number 1", 13);
    CHECK(found != NULL);
    flip_byte(path, found - bytes);

    RUN("check", path);
    CHECK_EXIT(1);
    CHECK_OUTPUT("EVH_CORRUPT");
    CHECK_OUTPUT("0x%llx", (unsigned long long)(found - bytes) & ~0xfffull);
    RUN("check", "--json", path);
    CHECK_EXIT(1);
    CHECK_JSON();
    CHECK_OUTPUT("\"is_clean\": false");
    CHECK_OUTPUT("\"offset\": ");
}

TEST(check_counts_a_heap_that_does_not_open_for_damage_as_a_finding)
{
    const char *const path = make_heap("headers.heap");
    flip_byte(path, 200); /* both header slots, behind the magic */
    flip_byte(path, 4096 + 200);

    RUN("check", "--json", path);

    CHECK_EXIT(1);
    CHECK_JSON();
    CHECK_OUTPUT("\"is_clean\": false");
    CHECK_OUTPUT("\"finding_count\": 1,");
}

TEST(map_draws_lines_of_64_characters_within_the_rows_wanted)
{
    const char *const path = make_heap("map.heap");

    RUN("map", "--rows", "2", path);

    CHECK_EXIT(0);
    int rows = 0;
    for (const char *line = result.output; line; line = strchr(line, '\n')) {
        const char *const bar = strchr(++line, '|');
        const char *const end = strchr(line, '\n');
        if (!end) break;
        if (!bar || bar > end) continue;
        CHECK(bar[65] == '|');
        if (rows == 0) CHECK(bar[1] == 'J'); /* the headers */
        rows++;
    }
    CHECK(rows >= 1 && rows <= 2);
    CHECK_OUTPUT("a character is ");
}

TEST(map_shows_where_the_live_blocks_are)
{
    need_command();
    const char *const path = lasting_path("map_large.heap");
    evh_heap *const heap = open_heap(path);
    void **const root = evh_root(heap, "large", 8);
    void *const large = evh_malloc(heap, 8 << 20);
    CHECK(root != NULL && large != NULL);
    memset(large, 1, 8 << 20);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const uint64_t offset = evh_ref_to(heap, large).offset;
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    RUN("map", "--json", path);

    CHECK_EXIT(0);
    CHECK_JSON();
    CHECK_OUTPUT("################################");
    unsigned long long cell_bytes = 0;
    sscanf(strstr(result.output, "\"cell_bytes\": ") + 14, "%llu", &cell_bytes);
    CHECK(cell_bytes >= 4096);
    /* The cell in the middle of the block is full. */
    const uint64_t cell = (offset + (4 << 20)) / cell_bytes;
    const char *rows = strstr(result.output, "\"rows\": [");
    CHECK(rows != NULL);
    for (uint64_t row = 0; row <= cell / 64; row++) rows = strchr(rows, '\n') + 1;
    CHECK_EQUAL(strchr(rows, '"')[1 + cell % 64], '#');
}

TEST(dump_lists_roots_by_name_and_by_tag)
{
    const char *const path = make_heap("roots.heap");
    RUN("dump", path);
    CHECK_EXIT(0);
    CHECK_OUTPUT("\"notes\"");
    CHECK_OUTPUT("tag 0xfeedbeef12345678");
    RUN("dump", "--json", path);
    CHECK_JSON();
    CHECK_OUTPUT("\"name\": \"notes\"");
    CHECK_OUTPUT("\"tag\": \"0xfeedbeef12345678\"");
}

TEST(dump_follows_refs_to_the_depth_wanted)
{
    const char *const path = make_heap("depth.heap");
    RUN("dump", path, "notes");
    CHECK_EXIT(0);
    CHECK_OUTPUT("\xe2\x86\x92 0x"); /* an arrow */
    CHECK(strstr(result.output, "|note number") == NULL);
    RUN("dump", path, "notes", "--depth", "1");
    CHECK_OUTPUT("|note number 2");
    CHECK(strstr(result.output, "|note number 1") == NULL);
    RUN("dump", path, "notes", "-d9");
    CHECK_OUTPUT("|note number 0");
    RUN("dump", path, "notes", "--depth=9", "--limit=2");
    CHECK_EXIT(0);
    CHECK_OUTPUT("only 2 blocks shown");
    RUN("dump", path, "notes", "--depth=9", "--json");
    CHECK_JSON();
    CHECK_OUTPUT("\"depth\": 3,");
}

struct shelf {
    evh_map counts;
    evh_tree titles;
    evh_vec numbers;
    evh_symbols names;
    evh_bitset bits;
    evh_str label;
};

static const char *make_shelf(void)
{
    const char *const path = make_heap("shelf.heap");
    evh_heap *const heap = open_heap(path);
    struct shelf *const shelf = evh_root(heap, "shelf", sizeof *shelf);
    CHECK(shelf != NULL);
    uint64_t *const count = evh_map_put_str(heap, &shelf->counts, "books\033[2J", sizeof *count);
    evh_str *const title = evh_tree_put(heap, &shelf->titles, 7, sizeof *title);
    CHECK(count && title);
    *count = 42;
    CHECK_EQUAL(evh_str_assign(heap, title, "A heap that lasts"), EVH_OK);
    for (uint64_t i = 0; i < 200; i++)
        CHECK(evh_vec_push(heap, &shelf->numbers, sizeof i, &i) != NULL);
    CHECK(evh_symbol_intern(heap, &shelf->names, "Ann", 3) == 1);
    CHECK_EQUAL(evh_bitset_put(heap, &shelf->bits, 77, true), EVH_OK);
    CHECK_EQUAL(evh_str_assign(heap, &shelf->label, "top shelf"), EVH_OK);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    return path;
}

TEST(dump_prints_collections_by_their_kind)
{
    const char *const path = make_shelf();
    RUN("dump", path, "shelf");
    CHECK_EXIT(0);
    CHECK_OUTPUT("+0  map, 1 item\n    \"books\\x1b[2J\": 42\n");
    CHECK_OUTPUT("tree, 1 item\n    7: \"A heap that lasts\"\n");
    CHECK_OUTPUT("vec, 200 items\n    0: 0\n    1: 1\n");
    CHECK_OUTPUT("    ... 100 more; see --limit\n");
    CHECK_OUTPUT("symbols, 1 item\n    1: \"Ann\"\n");
    CHECK_OUTPUT("bitset, 1 item\n    77\n");
    CHECK_OUTPUT("str, 9 bytes\n    \"top shelf\"\n");
    RUN("dump", path, "shelf", "--json", "--limit=3");
    CHECK_JSON();
    CHECK_OUTPUT("\"kind\": \"tree\"");
    CHECK_OUTPUT("\"text\": \"A heap that lasts\"");
}

TEST(dump_shows_a_tagged_root_and_a_block_by_offset)
{
    const char *const path = make_heap("tag.heap");
    RUN("dump", path, "--tag", "0xfeedbeef12345678");
    CHECK_EXIT(0);
    unsigned long long offset = 0;
    CHECK(sscanf(result.output, "0x%llx", &offset) == 1);
    char text[32];
    snprintf(text, sizeof text, "%llu", offset);
    RUN("dump", path, "--at", text);
    CHECK_EXIT(0);
    CHECK_OUTPUT("tag 0xfeedbeef12345678");
}

TEST(dump_refuses_what_is_not_there)
{
    const char *const path = make_heap("absent.heap");
    RUN("dump", path, "no such root");
    CHECK_EXIT(2);
    CHECK_ERRORS("EVH_NOT_FOUND");
    RUN("dump", path, "--tag", "1");
    CHECK_EXIT(2);
    CHECK_ERRORS("EVH_NOT_FOUND");
    RUN("dump", path, "--at", "3");
    CHECK_EXIT(2);
    RUN("dump", path, "--at", "0xffffffffffffffff");
    CHECK_EXIT(2);
    RUN("dump", path, "notes", "--tag", "1");
    CHECK_EXIT(2);
    CHECK_ERRORS("--help");
}

TEST(dump_lists_all_blocks)
{
    const char *const path = make_heap("blocks.heap");
    const evh_options options = {.mode = EVH_READ_ONLY};
    evh_heap *const heap = evh_open(path, &options);
    CHECK(heap != NULL);
    const evh_ref first = *(const evh_ref *)evh_root_find(heap, "notes", NULL);
    evh_close(heap);

    RUN("dump", path, "--blocks");
    CHECK_EXIT(0);
    CHECK_OUTPUT("%#14llx  ", (unsigned long long)first.offset);
    RUN("dump", path, "--blocks", "--json");
    CHECK_JSON();
    CHECK_OUTPUT("\"offset\": %llu,", (unsigned long long)first.offset);
}

TEST(bytes_of_the_heap_never_reach_the_terminal_raw)
{
    need_command();
    const char *const path = lasting_path("evil\033[31m\n.heap");
    evh_heap *const heap = open_heap(path);
    /* Escape sequences, a C1 control, an overlong form, a mark that turns text around. */
    static const char evil[] =
        "\033]0;title\007\r\n\x7f \xff\xc2\x9b\xe0\x81\x81 \xe2\x80\xae \\ \"";
    char *const block = evh_root(heap, evil, sizeof evil);
    CHECK(block != NULL);
    memcpy(block, evil, sizeof evil);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    for (int i = 0; i < READER_COUNT + 1; i++) {
        if (i < READER_COUNT)
            RUN(readers[i], path);
        else
            RUN("dump", path, evil);
        CHECK_EXIT(0);
        for (const char *c = result.output; *c; c++) {
            CHECK(*c == '\n' || ((unsigned char)*c >= 0x20 && *c != 0x7f));
        }
        CHECK(strstr(result.output, "\xff") == NULL);
        CHECK(strstr(result.output, "\xc2\x9b") == NULL);
        CHECK(strstr(result.output, "\xe0\x81\x81") == NULL);
        CHECK(strstr(result.output, "\xe2\x80\xae") == NULL);
    }
    RUN("dump", path, "--json");
    CHECK_JSON();
    CHECK_OUTPUT("\"name_bytes\": \"1b5d303b");
    RUN("info", lasting_path("missing\033[31m"));
    CHECK_EXIT(2);
    CHECK(strchr(result.errors, '\033') == NULL);
}

TEST(log_lists_the_commits_of_the_journal)
{
    need_command();
    const char *const path = lasting_path("log.heap");
    evh_heap *const heap = open_heap(path);
    fill_heap(heap);
    uint64_t *const number = evh_root(heap, "number", sizeof *number);
    for (int i = 0; i < 5; i++) {
        (*number)++;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);

    RUN("log", "--json", "--last", "2", path);
    CHECK_EXIT(0);
    CHECK_JSON();
    CHECK_OUTPUT("\"sequence\": %llu,", (unsigned long long)info.commit_sequence);
    CHECK_OUTPUT("\"sequence\": %llu,", (unsigned long long)info.commit_sequence - 1);
    char older[64];
    snprintf(older, sizeof older, "\"sequence\": %llu,",
             (unsigned long long)info.commit_sequence - 2);
    CHECK(strstr(result.output, older) == NULL);
    RUN("log", path);
    CHECK_EXIT(0);
    CHECK_OUTPUT("%12llu  2", (unsigned long long)info.commit_sequence - 2);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(digest_of_a_copy_is_the_same_and_of_a_change_is_not)
{
    const char *const path = make_heap("original.heap");
    const char *const copy = lasting_path("copy.heap");
    evh_heap *const heap = open_heap(path);
    CHECK_EQUAL(evh_save(heap, copy), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    RUN("digest", path, copy);
    CHECK_EXIT(0);
    CHECK_OUTPUT("\nsame\n");
    CHECK(strspn(result.output, "0123456789abcdef") == 64);

    evh_heap *const changed = open_heap(copy);
    struct note *const note = evh_at(changed, *(evh_ref *)evh_root_find(changed, "notes", NULL));
    note->number++;
    CHECK_EQUAL(evh_commit(changed), EVH_OK);
    CHECK_EQUAL(evh_close(changed), EVH_OK);

    RUN("digest", path, copy);
    CHECK_EXIT(1);
    CHECK_OUTPUT("\ndifferent\n");
    RUN("digest", "--json", path, copy);
    CHECK_EXIT(1);
    CHECK_JSON();
    CHECK_OUTPUT("\"is_same\": false");
}

TEST(trim_gives_space_back_and_keeps_the_content)
{
    const char *const path = make_heap("trim.heap");
    evh_heap *const heap = open_heap(path);
    void *const large = evh_malloc(heap, 16 << 20);
    CHECK(large != NULL);
    memset(large, 1, 16 << 20);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_free(heap, large);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    const char *const before = make_heap("trim_reference.heap");

    RUN("trim", "--json", path);

    CHECK_EXIT(0);
    CHECK_JSON();
    unsigned long long freed = 0;
    sscanf(strstr(result.output, "\"freed_bytes\": ") + 15, "%llu", &freed);
    CHECK(freed >= 15 << 20);
    RUN("check", path);
    CHECK_EXIT(0);
    RUN("digest", path, before);
    CHECK_EXIT(0);
}

/* ---- heaps in use, and dead ones ---- */

TEST(readers_see_the_last_commit_of_a_heap_that_is_open_and_change_nothing)
{
    need_command();
    static char before[4 << 20], after[4 << 20];
    const char *const path = lasting_path("open.heap");
    evh_heap *const heap = open_heap(path);
    fill_heap(heap);
    CHECK(evh_root(heap, "uncommitted", 8) != NULL);
    const size_t size = read_file(path, before, sizeof before);

    for (int i = 0; i < READER_COUNT; i++) {
        RUN(readers[i], path);
        CHECK_EXIT(0);
        CHECK(strstr(result.output, "uncommitted") == NULL);
        CHECK_EQUAL(read_file(path, after, sizeof after), size);
        CHECK(memcmp(before, after, size) == 0);
    }
    RUN("info", "--json", path);
    CHECK_OUTPUT("\"writer_process\": %d,", (int)getpid());
    RUN("dump", path, "notes", "--depth", "1");
    CHECK_OUTPUT("|note number 2");
    CHECK(evh_root_find(heap, "uncommitted", NULL) != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(trim_refuses_a_heap_that_is_open)
{
    need_command();
    const char *const path = lasting_path("busy.heap");
    evh_heap *const heap = open_heap(path);
    fill_heap(heap);

    RUN("trim", path);

    CHECK_EXIT(2);
    CHECK(result.output[0] == 0);
    CHECK_ERRORS("EVH_BUSY");
    CHECK_ERRORS("%d", (int)getpid());
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* A heap whose process was killed: commits wait in the journal. */
static const char *make_dead_heap(const char *name)
{
    need_command();
    const char *const path = lasting_path(name);
    const pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        const evh_options options = {.no_thread = true};
        evh_heap *const heap = evh_open(path, &options);
        evh_ref *const first = heap ? evh_root(heap, "notes", sizeof *first) : NULL;
        if (!first || evh_commit(heap)) _exit(1);
        if (!evh_malloc_to(heap, first, 100) && !evh_commit(heap)) raise(SIGKILL);
        _exit(1);
    }
    int status;
    CHECK(waitpid(process, &status, 0) == process);
    CHECK(WIFSIGNALED(status));
    return path;
}

TEST(readers_leave_every_byte_of_a_dead_heap_alone)
{
    static char before[4 << 20], after[4 << 20];
    const char *const path = make_dead_heap("dead.heap");
    const size_t size = read_file(path, before, sizeof before);

    for (int i = 0; i < READER_COUNT; i++) {
        RUN(readers[i], path);
        CHECK_EXIT(0);
        CHECK_EQUAL(read_file(path, after, sizeof after), size);
        CHECK(memcmp(before, after, size) == 0);
    }
    RUN("dump", path, "notes"); /* and yet they see what only the journal has */
    CHECK_OUTPUT("\xe2\x86\x92 0x");
}

/* ---- bad input ---- */

/* Each reader, and trim, refuses `path` with 2 (check: or 1, where damage is a finding). */
static void check_refused(const char *path, const char *status, bool is_damage)
{
    for (int i = 0; i < READER_COUNT + 1; i++) {
        const char *const command = i < READER_COUNT ? readers[i] : "trim";
        const bool is_finding = is_damage && strcmp(command, "check") == 0;
        RUN(command, path);
        CHECK_EXIT(is_finding ? 1 : 2);
        if (is_finding) {
            CHECK_OUTPUT("%s", status);
            continue;
        }
        CHECK(result.output[0] == 0);
        CHECK_ERRORS("everheap %s: ", command);
        CHECK_ERRORS("%s", path);
        CHECK_ERRORS("[%s]", status);
    }
}

TEST(a_missing_file_is_refused_and_not_created)
{
    need_command();
    const char *const path = lasting_path("missing.heap");
    check_refused(path, "EVH_NOT_FOUND", false);
    CHECK(access(path, F_OK) != 0 && errno == ENOENT);
}

TEST(a_directory_and_a_fifo_are_refused)
{
    need_command();
    const char *const fifo = lasting_path("fifo");
    CHECK(mkfifo(fifo, 0600) == 0);
    check_refused(test_directory(), "EVH_NOT_FILE", false);
    check_refused(fifo, "EVH_NOT_FILE", false);
}

TEST(a_file_that_is_no_heap_is_refused_and_unchanged)
{
    need_command();
    static char noise[256 << 10], after[256 << 10];
    uint64_t state = test_seed();
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (char)test_random(&state);
    const char *const path = make_file("noise", noise, sizeof noise);
    check_refused(path, "EVH_NOT_HEAP", false);
    CHECK_EQUAL(read_file(path, after, sizeof after), sizeof noise);
    CHECK(memcmp(noise, after, sizeof noise) == 0);
    check_refused(make_file("text", "hello\n", 6), "EVH_NOT_HEAP", false);
    check_refused(make_file("empty", "", 0), "EVH_NOT_HEAP", false);
}

TEST(a_damaged_header_is_refused_with_its_offset)
{
    const char *const path = make_heap("header.heap");
    flip_byte(path, 200);
    flip_byte(path, 4096 + 200);
    check_refused(path, "EVH_CORRUPT", true);
    RUN("info", path);
    CHECK_ERRORS("(at offset 0x");
}

TEST(a_heap_that_lost_its_end_is_refused)
{
    const char *const path = make_heap("short.heap");
    CHECK(truncate(path, 0x10000) == 0);
    check_refused(path, "EVH_TRUNCATED", true);
}

TEST(wrong_usage_exits_with_2_and_a_hint)
{
    const char *const path = make_heap("usage.heap");
    /* Where a FILE is given it does not exist: a command that went on would not print the hint. */
    static const char *const wrong[][6] = {
        {"nonsense", "x.heap"},
        {"--nonsense"},
        {"info"},
        {"map", "x.heap", "--rows"},
        {"map", "x.heap", "--rows", "x"},
        {"map", "x.heap", "--rows", "1x"},
        {"map", "x.heap", "--rows="},
        {"map", "x.heap", "--rows=-1"},
        {"map", "x.heap", "--rows", "99999999999999999999"},
        {"log", "x.heap", "-n"},
        {"info", "x.heap", "--nonsense"},
        {"info", "x.heap", "-x"},
        {"info", "x.heap", "--json=1"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        run(wrong[i]);
        CHECK_EXIT(2);
        CHECK(result.output[0] == 0);
        CHECK_ERRORS("--help'");
    }
    RUN("info", path, "more");
    CHECK_EXIT(2);
    CHECK_ERRORS("unexpected argument 'more'");
    run((const char *const[]){NULL});
    CHECK_EXIT(2);
    CHECK_ERRORS("Commands:");
}

TEST(a_file_name_that_begins_with_a_dash_follows_two_dashes)
{
    need_command();
    RUN("info", "--", "--no-such.heap");
    CHECK_EXIT(2);
    CHECK_ERRORS("EVH_NOT_FOUND");
}

TEST(help_and_version_are_printed_for_the_asking)
{
    need_command();
    RUN("--version");
    CHECK_EXIT(0);
    CHECK_OUTPUT("everheap %s\n", evh_version());
    RUN("--help");
    CHECK_EXIT(0);
    for (int i = 0; i < READER_COUNT + 1; i++) {
        const char *const command = i < READER_COUNT ? readers[i] : "trim";
        RUN(command, "--help");
        CHECK_EXIT(0);
        CHECK_OUTPUT("Usage: everheap %s [OPTION]... FILE", command);
        CHECK_OUTPUT("Examples:\n  everheap %s", command);
        CHECK_OUTPUT("--json");
    }
}

TEST(output_that_cannot_be_written_is_a_failure)
{
    const char *const path = make_heap("full.heap");
    if (access("/dev/full", W_OK)) SKIP("this system has no /dev/full");
    run_to("/dev/full", (const char *const[]){"dump", "--blocks", path, NULL});
    CHECK_EXIT(2);
    CHECK_ERRORS("standard output");
}
