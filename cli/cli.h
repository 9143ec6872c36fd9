/* cli.h -- what the subcommands of `everheap` share: the option table, opening, output. */
#ifndef EVERHEAP_CLI_CLI_H
#define EVERHEAP_CLI_CLI_H

#include <everheap.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * A subcommand is one file with one table, `struct cli_command`. The table is all that the parser,
 * the help, the man pages and the shell completions read. Each run has three steps:
 *
 *   collect   fill one struct, the report, from the heap       (may be repeated, see cli_read)
 *   print     the report as text or as JSON                    (never touches the heap)
 *   finish    flush standard output and choose the exit code
 */
enum cli_exit {
    CLI_FINE = 0,
    CLI_FINDINGS = 1, /* it ran and found something: damage, a difference */
    CLI_FAILED = 2,   /* it could not run: wrong usage, no such file, not a heap */
};

/* ---- the option table (options.c) ---- */

enum cli_kind {
    CLI_FLAG,   /* --blocks */
    CLI_NUMBER, /* --depth N: decimal, or hexadecimal with 0x */
    CLI_TEXT,   /* --from FILE */
};

struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* of the short form, 0 if it has none */
    enum cli_kind kind;
    const char *value_name; /* NULL for a flag */
    uint64_t number;        /* when the option is not given */
    const char *help;
};

struct cli_argument {
    const char *name; /* FILE for what a shell completes as a file name */
    bool is_optional;
    const char *help;
};

/* A word that the first argument may be, if it may be only certain words. */
struct cli_choice {
    const char *name;
    const char *form; /* what follows it, such as "FILE [PATH]"; "" for nothing */
    const char *help;
};

struct cli_example {
    const char *line;
    const char *what;
};

/* What was given for the option of the same index in the command's table. */
struct cli_value {
    bool is_given;
    uint64_t number;
    const char *text; /* of a CLI_TEXT; borrowed from the command line */
};

enum { CLI_OPTION_MAX = 12, CLI_ARGUMENT_MAX = 4 };

struct cli_request {
    const struct cli_command *command;
    struct cli_value values[CLI_OPTION_MAX];
    const char *arguments[CLI_ARGUMENT_MAX]; /* NULL where an optional one was left out */
    bool json;
    bool help;
};

struct cli_command {
    const char *name;
    const char *summary;                                 /* one line, for the list of commands */
    const char *description;                             /* paragraphs, for its help */
    struct cli_argument arguments[CLI_ARGUMENT_MAX + 1]; /* ends at a null name */
    struct cli_option options[CLI_OPTION_MAX + 1];    /* likewise; --json and --help are implied */
    struct cli_example examples[4];                   /* ends at a null line */
    const struct cli_choice *(*choice)(size_t index); /* NULL at the end; NULL: any first word */
    bool is_text; /* what it prints is no report: there is no --json */
    enum cli_exit (*run)(const struct cli_request *request);
};

extern const struct cli_command cli_info, cli_check, cli_map, cli_dump, cli_log, cli_digest,
    cli_stat, cli_trim, cli_json_command, cli_autopsy, cli_salvage, cli_repair, cli_tail, cli_serve,
    cli_completion, cli_manual;

/** The subcommand at `index`, in the order of the help; NULL at the end (main.c). */
const struct cli_command *cli_command_at(size_t index);
/** The subcommand of that name, or NULL. */
const struct cli_command *cli_command_find(const char *name);

/** What `everheap` without a subcommand understands, and what is said of all: ends at a null name.
 */
extern const struct cli_option cli_main_options[];
extern const char *const cli_main_summary, *const cli_main_description, *const cli_exit_status;

/** Parse what follows the subcommand's name. False after a message about wrong usage. */
bool cli_parse(struct cli_request *request, int count, char **words);
/** Print the help of a subcommand to standard output. */
void cli_help(const struct cli_command *command);
/** The option at `index`: the command's own, then those of all; NULL at the end. */
const struct cli_option *cli_option_at(const struct cli_command *command, size_t index);
/** Whether an argument or an option's value is the name of a file. */
bool cli_is_file(const char *value_name);

/* ---- opening (open.c) ---- */

/**
 * Open the heap at `path` read-only, let `collect` fill `report`, close it. `collect` returns false
 * when a call on the heap failed. It is called again, and starts afresh, if the heap's writer
 * meanwhile overwrote what was read (evh_view_valid): a report always shows one commit.
 * Returns   EVH_OK, or the status of what failed; `error` then says why.
 */
evh_status cli_read(const char *path, bool (*collect)(evh_heap *heap, void *report), void *report,
                    evh_error *error);

/** An error as one line on standard error: command, path, message, offset, status. CLI_FAILED. */
enum cli_exit cli_complain(const struct cli_request *request, const char *path,
                           const evh_error *error);

/** Memory for `count` items of `size` bytes in place of `items`. Ends the program if it lacks. */
void *cli_resize(void *items, size_t count, size_t size);

/**
 * Store the address of function `name` in the `size` bytes at `target`. It is looked for in the
 * shared library `file`, which is loaded if `*library` is NULL. False if there is no such thing.
 */
bool cli_load(void **library, const char *file, const char *name, void *target, size_t size);

/** Show that long work goes on, if standard error is a terminal. Ended by cli_progress_end(). */
void cli_progress_begin(const char *verb, const char *path);
void cli_progress_end(void);

/** Flush standard output. `result`, or CLI_FAILED after a message if the output was not written. */
enum cli_exit cli_finish(const struct cli_request *request, enum cli_exit result);

/* ---- text (output.c) ---- */

/*
 * Bytes from a heap or a path never reach the terminal raw: control characters, invalid UTF-8 and
 * characters that change the direction of text are shown as \xNN.
 */
void cli_put_escaped(FILE *file, const char *text, size_t size);

/** "12,345". Static, valid until eight calls later; so are the next two. */
const char *cli_count(uint64_t number);
/** "1.5 MiB"; "12 bytes" below 1 KiB. */
const char *cli_size(uint64_t bytes);
/** "1.5 MiB (1,572,864 bytes)"; "12 bytes" below 1 KiB. */
const char *cli_exact_size(uint64_t bytes);
/** "1 block", "2 blocks": `noun` takes an s. */
const char *cli_plural(uint64_t number, const char *noun);
/** "2025-11-20T09:43:12.345Z" for nanoseconds since 1970. */
const char *cli_time(uint64_t time_ns);

/* ---- JSON (output.c) ---- */

/*
 * A writer that cannot write ill-formed JSON: commas, nesting and escapes are its own. Within an
 * object each value is given a key, within an array the key is NULL.
 */
enum { CLI_JSON_DEPTH_MAX = 16 };

struct cli_json {
    FILE *file;
    unsigned depth;
    char closers[CLI_JSON_DEPTH_MAX];
    bool has_items[CLI_JSON_DEPTH_MAX];
};

void cli_json_begin(struct cli_json *json, FILE *file); /* the outermost object */
void cli_json_end(struct cli_json *json);
void cli_json_object(struct cli_json *json, const char *key);
void cli_json_array(struct cli_json *json, const char *key);
void cli_json_close(struct cli_json *json); /* the innermost object or array */
void cli_json_number(struct cli_json *json, const char *key, uint64_t number);
void cli_json_bool(struct cli_json *json, const char *key, bool truth);
void cli_json_string(struct cli_json *json, const char *key, const char *text);
/** Any bytes as a string: what is not UTF-8 becomes U+FFFD. */
void cli_json_bytes(struct cli_json *json, const char *key, const char *text, size_t size);
/** Bytes as hexadecimal digits. */
void cli_json_hex(struct cli_json *json, const char *key, const unsigned char *bytes, size_t size);

/** Whether all of `text` is valid UTF-8, so that cli_json_bytes() loses nothing. */
bool cli_is_utf8(const char *text, size_t size);

#endif
