/* cli_autopsy_test.c -- `everheap autopsy`: text, JSON, and a page that a browser shows. */
#include <everheap.h>

#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_MAX = 4 << 20 };
static char output[OUTPUT_MAX];

static const char *command_path(void)
{
    const char *const path = getenv("EVERHEAP_COMMAND");
    return path ? path : "build/everheap";
}

/* Run a line of the shell; its output is in `output`. Its exit status. */
static int run_line(const char *line)
{
    FILE *const pipe = popen(line, "r");
    CHECK(pipe != NULL);
    output[fread(output, 1, OUTPUT_MAX - 1, pipe)] = 0;
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run_autopsy(const char *words)
{
    char line[6000];
    snprintf(line, sizeof line, "%s autopsy %s 2>&1", command_path(), words);
    return run_line(line);
}

struct item {
    evh_ref next;
    uint64_t number;
    char name[24];
    evh_str text;
};

EVH_TYPE(item, struct item, EVH_FIELD_REF(struct item, next, "item"),
         EVH_FIELD(struct item, number), EVH_FIELD_TEXT(struct item, name),
         EVH_FIELD_COLLECTION(struct item, text))

/* A list of five, three orphans, one reference to a block that was freed. What it holds would be
 * markup, if a page took it for that. */
static const char *make_heap(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s", test_path("left.heap"));
    evh_heap *heap = evh_open(path, NULL);
    CHECK(heap != NULL);
    const uint32_t type = evh_type_register(heap, &item_type);
    struct item *last = evh_root_typed(heap, "</script><b>list", type, sizeof *last);
    for (unsigned i = 0; i < 8; i++) {
        struct item *item = evh_new(heap, type);
        item->number = 100 + i;
        snprintf(item->name, sizeof item->name, "<i>number %u", i);
        if (i >= 5) continue;
        last->next = evh_ref_to(heap, item);
        last = item;
    }
    CHECK_EQUAL(evh_str_set(heap, &last->text, "</script>", 9), EVH_OK);
    struct item *gone = evh_new(heap, type);
    last->next = evh_ref_to(heap, gone);
    evh_free(heap, gone);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    return path;
}

TEST(the_text_names_orphans_and_dangling_references)
{
    char words[1600];
    snprintf(words, sizeof words, "--depth 6 %s", make_heap());
    CHECK_EQUAL(run_autopsy(words), 1);
    CHECK(strstr(output, "Orphans: 3 blocks") != NULL);
    CHECK(strstr(output, "Dangling: 1 reference\n") != NULL);
    CHECK(strstr(output, "item.next = ") != NULL);
    CHECK(strstr(output, "nothing live is there") != NULL);
    CHECK(strstr(output, "number = 104") != NULL);
    CHECK(strstr(output, "name = \"<i>number 4\"") != NULL);
    CHECK(strstr(output, "number = 105") == NULL); /* nothing leads there */
}

TEST(the_json_says_the_same)
{
    char words[1600];
    snprintf(words, sizeof words, "--json %s", make_heap());
    CHECK_EQUAL(run_autopsy(words), 1);
    CHECK(strstr(output, "\"orphans\": 3") || strstr(output, "\"orphans\":3"));
    CHECK(strstr(output, "\"dangling\": 1") || strstr(output, "\"dangling\":1"));
}

TEST(a_difference_with_an_older_copy_is_told_by_root_and_type)
{
    char words[1600], older[512];
    const char *path = make_heap();
    snprintf(older, sizeof older, "%s", test_path("older.heap"));
    evh_heap *heap = evh_open(path, NULL);
    CHECK_EQUAL(evh_save(heap, older), EVH_OK);
    struct item *root = evh_root(heap, "</script><b>list", sizeof *root);
    root->number = 77;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    snprintf(words, sizeof words, "--with %s %s", older, path);
    CHECK_EQUAL(run_autopsy(words), 1);
    CHECK(strstr(output, "Since the other heap") != NULL);
    CHECK(strstr(output, "1 changed (1 bytes)") || strstr(output, "1 changed (1 byte)"));
}

TEST(what_is_no_heap_could_not_run)
{
    CHECK_EQUAL(run_autopsy("/etc/hostname"), 2);
    CHECK_EQUAL(run_autopsy("/nowhere"), 2);
}

/* The markup of `path` as a browser has it when its script has run. */
static bool browse(const char *page, const char *screenshot)
{
    char line[6000];
    if (run_line("command -v chromium") != 0) return false;
    snprintf(
        line, sizeof line,
        "timeout 100 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
        "--user-data-dir=%s/profile --window-size=1200,1500 --virtual-time-budget=4000 "
        "--screenshot=%s file://%s >/dev/null 2>&1; "
        "timeout 100 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
        "--user-data-dir=%s/profile --virtual-time-budget=4000 --dump-dom file://%s 2>/dev/null",
        test_directory(), screenshot, page, test_directory(), page);
    CHECK_EQUAL(run_line(line), 0);
    return true;
}

TEST(the_page_is_shown_by_a_browser_and_holds_no_markup_of_the_heap)
{
    char words[1600], page[512], screenshot[700];
    snprintf(page, sizeof page, "%s", test_path("page.html"));
    snprintf(words, sizeof words, "--html %s %s", page, make_heap());
    CHECK_EQUAL(run_autopsy(words), 1);
    FILE *file = fopen(page, "r");
    CHECK(file != NULL);
    output[fread(output, 1, OUTPUT_MAX - 1, file)] = 0;
    fclose(file);
    CHECK(strstr(output, "</script><b>") == NULL);
    CHECK(strstr(output, "http") == NULL); /* it asks nobody for anything */
    char *here = realpath("build", NULL);
    CHECK(here != NULL);
    snprintf(screenshot, sizeof screenshot, "%s/autopsy.png", here);
    free(here);
    (void)remove(screenshot);
    if (!browse(page, screenshot)) SKIP("chromium is not installed");
    CHECK(strstr(output, "data-ready=\"yes\"") != NULL);
    CHECK(strstr(output, "&lt;/script&gt;&lt;b&gt;list") != NULL);
    CHECK(strstr(output, "nothing live is there") != NULL);
    struct stat information;
    CHECK(stat(screenshot, &information) == 0);
    CHECK(information.st_size > 20000);
}
