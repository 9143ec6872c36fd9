/* serve_answer.c -- answers to what the page of `everheap serve` asks.
 *
 * Most of them are what other subcommands print: the command runs itself, so that a damaged file
 * that ends a subcommand does not end the server, and what the page shows is what the terminal
 * shows.
 */
#define _GNU_SOURCE /* pipe2(), open_memstream(), environ */
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVE_ITEMS_MAX = 200, SERVE_PREVIEW_BYTES = 120, SERVE_WORDS_MAX = 8 };

static const char json_type[] = "application/json; charset=utf-8";

/* ---- text that is being made ---- */

struct serve_text {
    FILE *file;
    char *text;
    size_t size;
};

static bool text_begin(struct serve_text *made)
{
    *made = (struct serve_text){0};
    made->file = open_memstream(&made->text, &made->size);
    return made->file != NULL;
}

static struct serve_answer text_end(struct serve_text *made, unsigned status, const char *type)
{
    if (made->file) fclose(made->file);
    if (!made->text) made->text = cli_resize(NULL, 1, 1);
    return (struct serve_answer){status, type, made->text, made->size};
}

static struct serve_answer answer_error(unsigned status, const char *message)
{
    struct serve_text made;
    struct cli_json json;
    if (text_begin(&made)) {
        cli_json_begin(&json, made.file);
        cli_json_string(&json, "error", message);
        cli_json_end(&json);
    }
    return text_end(&made, status, json_type);
}

/* ---- what other subcommands print ---- */

static void child_read(int pipe_end, FILE *file)
{
    char buffer[16384];
    for (;;) { /* until the child has closed its end */
        const ssize_t got = read(pipe_end, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return;
        fwrite(buffer, 1, (size_t)got, file);
    }
}

/* Run this command with `words`, its output into `file`. Its status, or -1. */
static int child_run(const char *const *words, FILE *file)
{
    int ends[2];
    pid_t child = 0;
    if (pipe2(ends, O_CLOEXEC)) return -1;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    const int failed = posix_spawn(&child, "/proc/self/exe", &actions, NULL,
                                   (char *const *)(uintptr_t)words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    int status = -1;
    if (!failed) {
        child_read(ends[0], file);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    }
    close(ends[0]);
    return !failed && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct serve_route {
    const char *what;
    const char *words[5]; /* of the subcommand, before the file; ends at null */
    const char *type;
};

static const struct serve_route serve_routes[] = {
    {"info", {"info", "--json"}, json_type},
    {"map", {"map", "--json", "--rows", "40"}, json_type},
    {"log", {"log", "--json", "--last", "500"}, json_type},
    {"stat", {"stat", "--json"}, json_type},
    {"check", {"check", "--json"}, json_type},
    {"roots", {"dump", "--json"}, json_type},
    {"root", {"dump", "--json", "--depth", "1"}, json_type},
    {"metrics",
     {"stat", "--metrics"},
     "application/openmetrics-text; version=1.0.0; charset=utf-8"},
};

static struct serve_answer answer_child(const struct serve_question *question,
                                        const struct serve_route *route)
{
    const char *words[SERVE_WORDS_MAX + 3] = {"everheap"};
    int count = 1;
    for (int i = 0; route->words[i]; i++) words[count++] = route->words[i];
    words[count++] = "--";
    words[count++] = question->heap_path;
    if (strcmp(route->what, "root") == 0) words[count++] = question->text;
    struct serve_text made;
    if (!text_begin(&made)) return answer_error(500, "no memory");
    const int status = child_run(words, made.file);
    struct serve_answer answer = text_end(&made, 200, route->type);
    if (status == CLI_FINE || status == CLI_FINDINGS) return answer;
    const struct serve_answer refused = answer_error(status == CLI_FAILED ? 409 : 500,
                                                     answer.size ? answer.text : "it ended early");
    free(answer.text);
    return refused;
}

/* ---- the document: one container, or what a search finds ---- */

struct serve_look {
    const struct serve_question *question;
    struct cli_json *json;
    evh_db *db;
    uint64_t count; /* of what was told */
};

static void look_put_path(struct serve_look *look, const char *key, evh_value value)
{
    char buffer[1024] = "";
    const size_t size = evh_db_path(look->db, value, buffer, sizeof buffer);
    if (size == SIZE_MAX) return;
    if (size < sizeof buffer) {
        cli_json_bytes(look->json, key, buffer, size);
        return;
    }
    char *const path = cli_resize(NULL, size + 1, 1);
    if (evh_db_path(look->db, value, path, size + 1) == size)
        cli_json_bytes(look->json, key, path, size);
    free(path);
}

/* Type, count, and the beginning of what a value is. */
static void look_put_value(struct serve_look *look, evh_json *document, evh_value value)
{
    const evh_json_type type = evh_json_type_of(document, value);
    size_t size = 0;
    cli_json_string(look->json, "type", evh_json_type_name(type));
    if (type == EVH_JSON_ARRAY || type == EVH_JSON_OBJECT) {
        cli_json_number(look->json, "count", evh_json_count(document, value));
        return;
    }
    if (type == EVH_JSON_BYTES) {
        (void)evh_json_bytes(document, value, &size);
        cli_json_number(look->json, "count", size);
        return;
    }
    const bool is_text = type == EVH_JSON_STRING || type == EVH_JSON_REF;
    char *const printed = is_text ? NULL : evh_json_print(document, value, NULL, &size);
    const char *const text = is_text ? evh_json_text(document, value, &size) : printed;
    if (text) {
        cli_json_number(look->json, "count", size);
        cli_json_bytes(look->json, "text", text,
                       size < SERVE_PREVIEW_BYTES ? size : SERVE_PREVIEW_BYTES);
    }
    free(printed);
}

static bool look_referrer(evh_value reference, evh_status status, void *context)
{
    struct serve_look *const look = context;
    (void)status;
    look_put_path(look, NULL, reference);
    return ++look->count < SERVE_ITEMS_MAX;
}

static bool look_at_container(struct serve_look *look)
{
    const evh_node node = evh_db_peek(look->db, look->question->path);
    if (!evh_node_is(node)) return false;
    look_put_value(look, node.json, node.value);
    const evh_json_type type = evh_node_type(node);
    cli_json_array(look->json, "items");
    evh_cursor cursor = evh_cursor_begin(node);
    for (uint64_t i = 0; evh_cursor_next(&cursor) && look->count < SERVE_ITEMS_MAX; i++) {
        if (i < look->question->skip) continue;
        look->count++;
        cli_json_object(look->json, NULL);
        if (cursor.key)
            cli_json_bytes(look->json, "key", cursor.key, cursor.key_size);
        else
            cli_json_number(look->json, "index", i);
        look_put_value(look, node.json, cursor.value);
        cli_json_close(look->json);
    }
    cli_json_close(look->json);
    look->count = 0;
    cli_json_array(look->json, "referrers");
    if (node.json == evh_db_json(look->db) && (type == EVH_JSON_ARRAY || type == EVH_JSON_OBJECT))
        (void)evh_db_referrers(look->db, node.value, look_referrer, look);
    cli_json_close(look->json);
    return true;
}

static bool look_hit(const evh_db_hit *hit, void *context)
{
    struct serve_look *const look = context;
    cli_json_object(look->json, NULL);
    look_put_path(look, "path", hit->value);
    cli_json_string(look->json, "kind", hit->kind == EVH_DB_KEY ? "key" : "value");
    cli_json_bytes(look->json, "text", hit->text,
                   hit->size < SERVE_PREVIEW_BYTES ? hit->size : SERVE_PREVIEW_BYTES);
    cli_json_close(look->json);
    return true;
}

static bool look_search(struct serve_look *look)
{
    const evh_db_search_options options = {
        .ignore_case = true, .skip = look->question->skip, .limit = SERVE_ITEMS_MAX};
    uint64_t total = 0;
    cli_json_array(look->json, "hits");
    const evh_status status =
        evh_db_search(look->db, look->question->text, strlen(look->question->text), &options,
                      look_hit, look, &total);
    cli_json_close(look->json);
    cli_json_number(look->json, "total", total);
    return status == EVH_OK;
}

struct serve_made {
    const struct serve_question *question;
    struct serve_text text;
};

/* One reading, see cli_read(): it may be called again, and then starts afresh. */
static bool look_collect(evh_heap *heap, void *context)
{
    struct serve_made *const made = context;
    struct cli_json json;
    if (made->text.file) free(text_end(&made->text, 0, NULL).text);
    if (!text_begin(&made->text)) return false;
    evh_db *const db = evh_db_open_in(heap, NULL);
    if (!db) return false;
    struct serve_look look = {.question = made->question, .json = &json, .db = db};
    cli_json_begin(&json, made->text.file);
    const bool is_fine =
        strcmp(made->question->what, "search") == 0 ? look_search(&look) : look_at_container(&look);
    cli_json_end(&json);
    (void)evh_db_close(db); /* the heap stays open; a failure above stays the last error */
    return is_fine;
}

static struct serve_answer answer_look(const struct serve_question *question)
{
    struct serve_made made = {.question = question};
    evh_error error;
    const evh_status status = cli_read(question->heap_path, look_collect, &made, &error);
    struct serve_answer answer = text_end(&made.text, 200, json_type);
    if (!status) return answer;
    free(answer.text);
    return answer_error(status == EVH_NOT_FOUND ? 404 : 409, error.message);
}

/* ---- questions ---- */

struct serve_answer serve_reply(const struct serve_question *question)
{
    if (!*question->what) {
        struct serve_text made;
        if (text_begin(&made)) fputs(serve_page, made.file);
        return text_end(&made, 200, "text/html; charset=utf-8");
    }
    for (size_t i = 0; i < sizeof serve_routes / sizeof serve_routes[0]; i++)
        if (strcmp(serve_routes[i].what, question->what) == 0)
            return answer_child(question, &serve_routes[i]);
    if (strcmp(question->what, "tree") == 0 || strcmp(question->what, "search") == 0)
        return answer_look(question);
    return answer_error(404, "there is nothing of that name");
}
