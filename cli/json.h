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
};
enum { ARGUMENT_ACTION, ARGUMENT_FILE, ARGUMENT_PATH, ARGUMENT_VALUE };

struct json_action {
    const char *name;
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
/** Whether a line of a shell that is not a terminal failed: it was told already. */
bool json_shell_failed(void);

#endif
