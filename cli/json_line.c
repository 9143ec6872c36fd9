/* json_line.c -- lines of the shell: with history and completion of paths where libedit is.
 *
 * The library is loaded when a shell begins at a terminal, and not before: commands that answer in
 * less than a millisecond do not wait for it. Built without its header, or run where it is not
 * installed, lines are read as they come.
 */
#define _POSIX_C_SOURCE 200809L /* getline(), isatty() */

#include "json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_EDITLINE

#include <editline/readline.h>

/* What is used of libedit, under the names of readline. */
static struct {
    char *(*readline)(const char *prompt);
    int (*add_history)(const char *line);
    int (*read_history)(const char *path);
    int (*write_history)(const char *path);
    char **(*matches)(const char *text, rl_compentry_func_t *generator);
    rl_completion_func_t **completion;
    const char **breaks;
    int *append;
} line_library;

static bool line_load(const char *name, void *target, size_t size)
{
    static void *library;
    return cli_load(&library, "libedit.so.2", name, target, size);
}

/* ---- completion ---- */

static struct {
    evh_db *db;
    char *path;        /* owned: up to the last /, the container's */
    size_t path_size;  /* with that / */
    evh_cursor cursor; /* over its values */
    char *word;        /* owned: what is to be completed */
} line_state;

/* Whether the text and the escaped key fit; the whole path then, owned by the library. */
static char *line_match(const evh_cursor *cursor)
{
    char number[24];
    const char *key = cursor->key;
    size_t key_size = cursor->key_size;
    if (!key) {
        key_size = (size_t)snprintf(number, sizeof number, "%zu", cursor->position);
        key = number;
    }
    char *const match = malloc(line_state.path_size + 2 * key_size + 2);
    if (!match) return NULL;
    memcpy(match, line_state.path, line_state.path_size);
    char *at = match + line_state.path_size;
    for (size_t i = 0; i < key_size; i++) {
        const bool is_special = key[i] == '/' || key[i] == '~';
        if (is_special) *at++ = '~';
        *at++ = key[i] == '/' ? '1' : key[i] == '~' ? '0' : key[i];
    }
    const evh_json_type type = evh_json_type_of(cursor->json, cursor->value);
    if (type == EVH_JSON_OBJECT || type == EVH_JSON_ARRAY) *at++ = '/';
    *at = 0;
    if (strncmp(match, line_state.word, strlen(line_state.word)) == 0) return match;
    free(match);
    return NULL;
}

static char *line_generate(const char *text, int state)
{
    if (state == 0) {
        free(line_state.path);
        free(line_state.word);
        const char *const slash = strrchr(text, '/');
        line_state.path_size = slash ? (size_t)(slash - text) + 1 : 0;
        line_state.path = strdup(text);
        line_state.word = strdup(text);
        if (!line_state.path || !line_state.word || !slash) return NULL;
        line_state.path[line_state.path_size - 1] = 0;
        line_state.cursor = evh_cursor_begin(evh_db_get(line_state.db, line_state.path));
        line_state.path[line_state.path_size - 1] = '/';
    }
    while (evh_cursor_next(&line_state.cursor)) {
        char *const match = line_match(&line_state.cursor);
        if (match) return match;
    }
    return NULL;
}

static char **line_complete(const char *text, int from, int to)
{
    (void)to;
    if (from == 0 || text[0] != '/') return NULL;
    *line_library.append = 0; /* a container ends with a /, and may go on */
    return line_library.matches(text, line_generate);
}

static bool line_edits(evh_db *db)
{
#define LINE_LOAD(what, member) line_load(what, &line_library.member, sizeof line_library.member)
    const bool is_there =
        LINE_LOAD("readline", readline) && LINE_LOAD("add_history", add_history) &&
        LINE_LOAD("read_history", read_history) && LINE_LOAD("write_history", write_history) &&
        LINE_LOAD("rl_completion_matches", matches) &&
        LINE_LOAD("rl_attempted_completion_function", completion) &&
        LINE_LOAD("rl_completer_word_break_characters", breaks) &&
        LINE_LOAD("rl_completion_append_character", append);
#undef LINE_LOAD
    if (!is_there) return false;
    line_state.db = db;
    *line_library.completion = line_complete;
    *line_library.breaks = " \t";
    const char *const history = getenv("EVERHEAP_HISTORY");
    if (history) (void)line_library.read_history(history);
    return true;
}

static char *line_edited(const char *prompt)
{
    char *const line = line_library.readline(prompt);
    if (line && *line) (void)line_library.add_history(line);
    return line;
}

static void line_end_editing(void)
{
    const char *const history = getenv("EVERHEAP_HISTORY");
    if (history) (void)line_library.write_history(history);
    free(line_state.path);
    free(line_state.word);
    line_state.path = NULL;
    line_state.word = NULL;
}

#else

static bool line_edits(evh_db *db)
{
    (void)db;
    return false;
}

static char *line_edited(const char *prompt)
{
    (void)prompt;
    return NULL;
}

static void line_end_editing(void)
{
}

#endif

/* ---- lines ---- */

static bool line_is_terminal;
static bool line_is_edited;

bool json_line_begin(evh_db *db)
{
    line_is_terminal = isatty(STDIN_FILENO) == 1;
    line_is_edited = line_is_terminal && line_edits(db);
    return line_is_edited;
}

bool json_line_is_terminal(void)
{
    return line_is_terminal;
}

char *json_line(const char *prompt)
{
    fflush(stdout);
    if (line_is_edited) return line_edited(prompt);
    if (line_is_terminal) fputs(prompt, stdout);
    fflush(stdout);
    char *line = NULL;
    size_t room = 0;
    if (getline(&line, &room, stdin) >= 0) return line;
    free(line);
    return NULL;
}

void json_line_end(void)
{
    if (line_is_edited) line_end_editing();
}
