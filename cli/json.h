/* json.h -- what the files of `everheap json` share. */
#ifndef EVERHEAP_CLI_JSON_H
#define EVERHEAP_CLI_JSON_H

#include "cli.h"

enum {
    OPTION_PRETTY,
    OPTION_RAW,
    OPTION_SORT,
    OPTION_LINES,
    OPTION_FROM,
    OPTION_NAME,
    OPTION_IGNORE_CASE,
    OPTION_SKIP,
    OPTION_LIMIT,
    OPTION_COMMIT,
};
enum { ARGUMENT_ACTION, ARGUMENT_FILE, ARGUMENT_PATH, ARGUMENT_VALUE };

struct json_action {
    struct cli_choice choice; /* its name and help */
    bool is_change;
    bool needs_path;
    evh_status (*run)(const struct cli_request *request, evh_db *db);
};

/** The action of a name, or NULL. */
const struct json_action *json_find_action(const char *name);
/** Print a value as the options say, and a newline. */
evh_status json_print(const struct cli_request *request, evh_json *json, evh_value value);

/** Actions that go on (json_shell.c). */
evh_status json_watch(const struct cli_request *request, evh_db *db);
evh_status json_shell(const struct cli_request *request, evh_db *db);
/** Lines of a shell (json_line.c). True: with history and completion. */
bool json_line_begin(evh_db *db);
bool json_line_is_terminal(void);
/** The next line, owned: end it with free(). NULL at the end. */
char *json_line(const char *prompt);
void json_line_end(void);
/** Whether a line of a shell that is not a terminal failed: it was told already. */
bool json_shell_failed(void);

#endif
