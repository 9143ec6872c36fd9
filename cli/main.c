/* main.c -- the command `everheap`: find the subcommand, parse its options, run it. */
#include "cli.h"

#include <string.h>

static const struct cli_command *const commands[] = {
    &cli_info, &cli_check, &cli_map,          &cli_dump,    &cli_log,     &cli_digest,
    &cli_stat, &cli_trim,  &cli_json_command, &cli_autopsy, &cli_salvage, &cli_repair,
    &cli_tail, &cli_serve, &cli_completion,   &cli_manual,
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

const struct cli_option cli_main_options[] = {
    {"help", 'h', CLI_FLAG, NULL, 0, "print this"},
    {"version", 'V', CLI_FLAG, NULL, 0, "print the version"},
    {NULL, 0, CLI_FLAG, NULL, 0, NULL},
};
const char *const cli_main_summary = "Look into a heap file, dead or in use.";
const char *const cli_main_description =
    "All commands but trim, repair and json open the heap read-only: they see the newest commit,\n"
    "work beside a program that writes to the heap, and change nothing.\n"
    "'everheap COMMAND --help' explains a command and gives examples.";
const char *const cli_exit_status = "0 fine, 1 findings (damage, a difference), 2 could not run.";

const struct cli_command *cli_command_at(size_t index)
{
    return index < COMMAND_COUNT ? commands[index] : NULL;
}

const struct cli_command *cli_command_find(const char *name)
{
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    }
    return NULL;
}

static void print_help(FILE *file)
{
    fprintf(file, "Usage: everheap COMMAND [OPTION]... FILE\n%s\n\nCommands:\n", cli_main_summary);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        fprintf(file, "  %-12s%s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(file, "\nOptions:\n");
    for (const struct cli_option *option = cli_main_options; option->name; option++) {
        fprintf(file, "  -%c, --%-10s%s\n", option->letter, option->name, option->help);
    }
    fprintf(file, "\n%s\n\nExit status: %s\n", cli_main_description, cli_exit_status);
}

/* `everheap`, `everheap --help`, `everheap --version`, `everheap help [COMMAND]`. */
static enum cli_exit run_without_command(int count, char **words)
{
    const struct cli_request request = {0};
    if (count < 2) {
        print_help(stderr);
        return CLI_FAILED;
    }
    const char *const word = words[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("everheap %s\n", evh_version());
        return cli_finish(&request, CLI_FINE);
    }
    const bool is_help = strcmp(word, "help") == 0;
    if (is_help || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        const struct cli_command *const command =
            is_help && count > 2 ? cli_command_find(words[2]) : NULL;
        if (command)
            cli_help(command);
        else
            print_help(stdout);
        return cli_finish(&request, CLI_FINE);
    }
    fprintf(stderr, "everheap: unknown %s '", word[0] == '-' ? "option" : "command");
    cli_put_escaped(stderr, word, strlen(word));
    fprintf(stderr, "'\nTry 'everheap --help'.\n");
    return CLI_FAILED;
}

int main(int count, char **words)
{
    const struct cli_command *const command = count > 1 ? cli_command_find(words[1]) : NULL;
    if (!command) return (int)run_without_command(count, words);

    struct cli_request request = {.command = command};
    if (!cli_parse(&request, count - 2, words + 2)) return CLI_FAILED;
    if (request.help) {
        cli_help(command);
        return (int)cli_finish(&request, CLI_FINE);
    }
    return (int)command->run(&request);
}
