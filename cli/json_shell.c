/* json_shell.c -- `everheap json watch` and `everheap json shell`: actions that go on. */
#define _POSIX_C_SOURCE 200809L /* nanosleep() */

#include "json.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- watch ---- */

enum {
    WATCH_PAUSE_MS = 20
}; /* between two looks; a look at an unchanged heap is a few microseconds */

/* The value at the path as text, owned: end it with free(). "" if there is none. */
static char *watch_text(const struct cli_request *request, evh_db *db)
{
    const char *path = request->arguments[ARGUMENT_PATH];
    const evh_node node = evh_db_get(db, path ? path : "");
    char *text = NULL;
    if (evh_node_is(node)) {
        const evh_json_write_options options = {
            .indent = request->values[OPTION_PRETTY].is_given ? 2 : 0,
            .sort_keys = request->values[OPTION_SORT].is_given,
        };
        text = evh_json_print(node.json, node.value, &options, NULL);
    } else if (evh_last_error()->status == EVH_NOT_FOUND ||
               evh_last_error()->status == EVH_DANGLING) {
        text = calloc(1, 1);
    }
    return text;
}

/* Look at a heap until a whole look was at one commit. */
static char *watch_look(const struct cli_request *request, evh_db *db, evh_status *status)
{
    for (;;) {
        char *text = NULL;
        *status = evh_refresh(evh_db_heap(db));
        if (!*status) text = watch_text(request, db);
        if (*status || evh_view_valid(evh_db_heap(db))) {
            if (!*status && !text) *status = evh_last_error()->status;
            return text;
        }
        free(text);
    }
}

evh_status json_watch(const struct cli_request *request, evh_db *db)
{
    const uint64_t limit = request->values[OPTION_LIMIT].number;
    evh_status status = EVH_OK;
    char *last = NULL;
    for (uint64_t told = 0; limit == 0 || told < limit;) {
        char *text = watch_look(request, db, &status);
        if (status) break;
        if (!last || strcmp(text, last) != 0) {
            printf("%s\n", text);
            if (fflush(stdout)) {
                free(text);
                break;
            }
            told++;
        }
        free(last);
        last = text;
        const struct timespec pause = {0, WATCH_PAUSE_MS * 1000000l};
        if (limit == 0 || told < limit) nanosleep(&pause, NULL);
    }
    free(last);
    return status;
}

/* ---- shell ---- */

static const char shell_help[] =
    "get [PATH], dump [PATH], keys [PATH], query QUERY, search TEXT, stat, refs, check\n"
    "put PATH JSON, push PATH JSON, erase PATH, patch PATH JSON, merge PATH JSON\n"
    "begin: changes wait for commit, or rollback; without it each is a commit\n"
    "help, quit\n";

struct shell {
    const struct cli_request *request;
    evh_db *db;
    bool is_open; /* between begin and commit */
    bool has_failed;
    bool is_edited;
};

static bool shell_has_failed; /* a line of the last shell */

bool json_shell_failed(void)
{
    return shell_has_failed;
}

/* Cut the next word off a line; the rest is what follows the spaces. NULL at the end. */
static char *shell_word(char **line)
{
    char *word = *line + strspn(*line, " \t\r\n");
    if (!*word) return NULL;
    char *end = word + strcspn(word, " \t\r\n");
    *line = end + (*end != 0);
    *end = 0;
    return word;
}

/* The rest of a line without spaces around it; NULL if that is nothing. */
static char *shell_rest(char *line)
{
    char *rest = line + strspn(line, " \t\r\n");
    size_t size = strlen(rest);
    while (size > 0 && strchr(" \t\r\n", rest[size - 1])) rest[--size] = 0;
    return size ? rest : NULL;
}

static void shell_complain(struct shell *shell, const char *message)
{
    fflush(stdout);
    fprintf(stderr, "everheap json: %s\n", message);
    shell->has_failed = true;
}

/* An action of the command's, with the words of a line. */
static void shell_act(struct shell *shell, const struct json_action *action, char *line)
{
    struct cli_request request = *shell->request;
    const bool takes_text =
        strcmp(action->choice.name, "query") == 0 || strcmp(action->choice.name, "search") == 0;
    request.arguments[ARGUMENT_PATH] = takes_text ? shell_rest(line) : shell_word(&line);
    request.arguments[ARGUMENT_VALUE] = takes_text ? NULL : shell_rest(line);
    const char *path = request.arguments[ARGUMENT_PATH];
    if (path && strcmp(path, "''") == 0) request.arguments[ARGUMENT_PATH] = "";
    const bool takes_value = action->is_change && strcmp(action->choice.name, "erase") != 0;
    if ((action->needs_path && !path) || (takes_value && !request.arguments[ARGUMENT_VALUE])) {
        shell_complain(shell, "something is missing: try 'help'");
        return;
    }
    evh_status status = action->run(&request, shell->db);
    if (!status && action->is_change && !shell->is_open) status = evh_db_commit(shell->db);
    if (!status) return;
    shell_complain(shell, evh_last_error()->message);
    if (action->is_change && !shell->is_open) (void)evh_db_rollback(shell->db);
}

/* begin, commit, rollback. */
static void shell_bracket(struct shell *shell, const char *word)
{
    const bool begins = strcmp(word, "begin") == 0;
    if (begins == shell->is_open) {
        shell_complain(shell, begins ? "changes are waiting already" : "no begin");
        return;
    }
    evh_status status = EVH_OK;
    if (strcmp(word, "commit") == 0) status = evh_db_commit(shell->db);
    if (strcmp(word, "rollback") == 0) status = evh_db_rollback(shell->db);
    if (status) shell_complain(shell, evh_last_error()->message);
    if (!status) shell->is_open = begins;
}

/* Carry a line out. False: to quit. */
static bool shell_line(struct shell *shell, char *line)
{
    const char *word = shell_word(&line);
    if (!word || word[0] == '#') return true;
    if (strcmp(word, "quit") == 0 || strcmp(word, "exit") == 0) return false;
    if (strcmp(word, "help") == 0) {
        fputs(shell_help, stdout);
        if (shell->is_edited) fputs("The tabulator key completes paths.\n", stdout);
    } else if (strcmp(word, "begin") == 0 || strcmp(word, "commit") == 0 ||
               strcmp(word, "rollback") == 0) {
        shell_bracket(shell, word);
    } else {
        const struct json_action *action = json_find_action(word);
        if (action &&
            (action->run == json_shell || action->run == json_watch || strcmp(word, "load") == 0))
            action = NULL;
        if (action) {
            shell_act(shell, action, line);
        } else {
            shell_complain(shell, "no such command: try 'help'");
        }
    }
    return true;
}

evh_status json_shell(const struct cli_request *request, evh_db *db)
{
    struct shell shell = {.request = request, .db = db, .is_edited = json_line_begin(db)};
    for (bool goes_on = true; goes_on;) {
        char *line = json_line(shell.is_open ? "json* > " : "json > ");
        shell.has_failed = shell.has_failed && !json_line_is_terminal();
        goes_on = line && shell_line(&shell, line);
        free(line);
    }
    json_line_end();
    if (shell.is_open) {
        (void)evh_db_rollback(db);
        fprintf(stderr, "everheap json: what waited for commit is undone\n");
    }
    shell_has_failed = shell.has_failed;
    return EVH_OK;
}
