/* options.c -- read a command line, and print its help, from a subcommand's table. */
#include "cli.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* What every subcommand understands besides its own options. */
static const struct cli_option common_options[] = {
    {"json", 'j', CLI_FLAG, NULL, 0, "print one JSON object instead of text"},
    {"help", 'h', CLI_FLAG, NULL, 0, "print this and do nothing else"},
};
enum { COMMON_JSON, COMMON_HELP, COMMON_COUNT };

const struct cli_option *cli_option_at(const struct cli_command *command, size_t index)
{
    size_t own = 0;
    while (command->options[own].name && own < index) own++;
    if (command->options[own].name) return &command->options[own];
    const size_t common = index - own + (command->is_text ? COMMON_HELP : COMMON_JSON);
    return common < COMMON_COUNT ? &common_options[common] : NULL;
}

bool cli_is_file(const char *value_name)
{
    return value_name && strncmp(value_name, "FILE", 4) == 0;
}

static bool usage_fail(const struct cli_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool usage_fail(const struct cli_command *command, const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);

    fprintf(stderr, "everheap %s: ", command->name);
    cli_put_escaped(stderr, message, strlen(message));
    fprintf(stderr, "\nTry 'everheap %s --help'.\n", command->name);
    return false;
}

/* A word of the command line that is an option, taken apart. */
struct option_word {
    char letter;      /* of -j; 0 for a long one */
    const char *name; /* of --json, `name_size` bytes of it */
    size_t name_size;
    const char *value; /* behind '='; NULL if there is none */
};

static struct option_word option_split(const char *word)
{
    assert(word[0] == '-');
    struct option_word split = {0};
    if (word[1] != '-') {
        split.letter = word[1];
        if (word[2]) split.value = word + 2;
        return split;
    }
    split.name = word + 2;
    split.name_size = strcspn(split.name, "=");
    if (split.name[split.name_size] == '=') split.value = split.name + split.name_size + 1;
    return split;
}

static bool option_matches(const struct cli_option *option, const struct option_word *split)
{
    if (!split->name) return option->letter == split->letter;
    return strlen(option->name) == split->name_size &&
           memcmp(option->name, split->name, split->name_size) == 0;
}

static bool parse_number(const char *text, uint64_t *number)
{
    if (!isdigit((unsigned char)text[0])) return false; /* strtoull() accepts "-1" and " 1" */
    char *end;
    errno = 0;
    const bool is_hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const unsigned long long value = strtoull(text, &end, is_hexadecimal ? 16 : 10);
    if (errno || *end) return false;
    *number = value;
    return true;
}

/* Take the option in words[*index], and the word behind it if that is its value. */
static bool take_option(struct cli_request *request, int count, char **words, int *index)
{
    const struct cli_command *const command = request->command;
    const char *const word = words[*index];
    const struct option_word split = option_split(word);

    for (int i = command->is_text ? COMMON_HELP : COMMON_JSON; i < COMMON_COUNT; i++) {
        if (!option_matches(&common_options[i], &split)) continue;
        if (split.value) return usage_fail(command, "option '%s' takes no value", word);
        if (i == COMMON_JSON) request->json = true;
        if (i == COMMON_HELP) request->help = true;
        return true;
    }
    for (int i = 0; command->options[i].name; i++) {
        const struct cli_option *const option = &command->options[i];
        struct cli_value *const value = &request->values[i];
        if (!option_matches(option, &split)) continue;
        value->is_given = true;
        if (option->kind == CLI_FLAG) {
            if (split.value) return usage_fail(command, "option '%s' takes no value", word);
            return true;
        }
        const char *text = split.value;
        if (!text && *index + 1 < count) text = words[++*index];
        if (!text) return usage_fail(command, "option '%s' needs a value", word);
        value->text = text;
        if (option->kind == CLI_TEXT) return true;
        if (parse_number(text, &value->number)) return true;
        return usage_fail(command, "'%s' is not a number for --%s", text, option->name);
    }
    return usage_fail(command, "unknown option '%s'", word);
}

/* Whether the required arguments are there. */
static bool check_arguments(const struct cli_request *request, int given)
{
    for (int i = 0; request->command->arguments[i].name; i++) {
        const struct cli_argument *const argument = &request->command->arguments[i];
        if (i < given || argument->is_optional) continue;
        return usage_fail(request->command, "no %s given", argument->name);
    }
    return true;
}

bool cli_parse(struct cli_request *request, int count, char **words)
{
    const struct cli_command *const command = request->command;
    int argument_max = 0;
    while (command->arguments[argument_max].name) argument_max++;
    assert(argument_max <= CLI_ARGUMENT_MAX);
    for (int i = 0; command->options[i].name; i++) {
        assert(i < CLI_OPTION_MAX);
        request->values[i].number = command->options[i].number;
    }

    int given = 0;
    bool are_options_over = false; /* behind "--" */
    for (int i = 0; i < count; i++) {
        if (!are_options_over && strcmp(words[i], "--") == 0) {
            are_options_over = true;
        } else if (!are_options_over && words[i][0] == '-' && words[i][1]) {
            if (!take_option(request, count, words, &i)) return false;
        } else if (given == argument_max) {
            return usage_fail(command, "unexpected argument '%s'", words[i]);
        } else {
            request->arguments[given++] = words[i];
        }
    }
    return request->help || check_arguments(request, given);
}

/* ---- help ---- */

static void help_option(const struct cli_option *option)
{
    char form[40];
    snprintf(form, sizeof form, "--%s%s%s", option->name, option->value_name ? " " : "",
             option->value_name ? option->value_name : "");
    if (option->letter)
        printf("  -%c, %-18s%s", option->letter, form, option->help);
    else
        printf("      %-18s%s", form, option->help);
    if (option->kind == CLI_NUMBER && option->number > 0) {
        printf(" (default %llu)", (unsigned long long)option->number);
    }
    printf("\n");
}

static void help_choices(const struct cli_command *command)
{
    if (!command->choice) return;
    printf("\n%s is one of:\n", command->arguments[0].name);
    for (size_t i = 0; command->choice(i); i++) {
        const struct cli_choice *const choice = command->choice(i);
        char form[40];
        snprintf(form, sizeof form, "%s %s", choice->name, choice->form);
        printf("  %-24s%s\n", form, choice->help);
    }
}

void cli_help(const struct cli_command *command)
{
    printf("Usage: everheap %s [OPTION]...", command->name);
    for (int i = 0; command->arguments[i].name; i++) {
        const struct cli_argument *const argument = &command->arguments[i];
        printf(argument->is_optional ? " [%s]" : " %s", argument->name);
    }
    printf("\n%s\n\n%s\n\n", command->summary, command->description);

    printf("Arguments:\n");
    for (int i = 0; command->arguments[i].name; i++) {
        printf("  %-22s%s\n", command->arguments[i].name, command->arguments[i].help);
    }
    help_choices(command);
    printf("\nOptions:\n");
    for (size_t i = 0; cli_option_at(command, i); i++) help_option(cli_option_at(command, i));
    printf("\nExamples:\n");
    for (int i = 0; command->examples[i].line; i++) {
        printf("  %-44s  %s\n", command->examples[i].line, command->examples[i].what);
    }
    printf("\nExit status: %s\n", cli_exit_status);
}
