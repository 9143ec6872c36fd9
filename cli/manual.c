/* manual.c -- `everheap manual`: a manual page, from a subcommand's table. */
#include "cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The pages are mdoc(7), which every man(1) shows. mandoc's lint finds nothing in them. */
enum { MANUAL_COLUMNS = 76 };

/* A word of text or of a macro's line: nothing in it means anything to roff. */
static void manual_word(const char *word, size_t size, bool is_first)
{
    if (is_first && (word[0] == '.' || word[0] == '\'')) fputs("\\&", stdout);
    for (size_t i = 0; i < size; i++) {
        if (word[i] == '\\')
            fputs("\\e", stdout);
        else if (word[i] == '"')
            fputs("\\(dq", stdout);
        else
            putchar(word[i]);
    }
}

static bool manual_ends_sentence(const char *word, size_t size)
{
    while (size > 0 && (word[size - 1] == ')' || word[size - 1] == '"')) size--;
    return size > 0 && strchr(".!?", word[size - 1]);
}

/* Text as words in lines: as roff wants it, each sentence begins a line. */
static void manual_text(const char *text)
{
    size_t column = 0;
    for (text += strspn(text, " \n"); *text; text += strspn(text, " \n")) {
        const size_t size = strcspn(text, " \n");
        if (column > 0 && column + 1 + size > MANUAL_COLUMNS) {
            putchar('\n');
            column = 0;
        }
        if (column > 0) putchar(' ');
        manual_word(text, size, column == 0);
        column += size + 1;
        if (manual_ends_sentence(text, size) && text[size]) {
            putchar('\n');
            column = 0;
        }
        text += size;
    }
    putchar('\n');
}

/* One argument of a macro, whatever is in it. */
static void manual_argument(const char *text)
{
    fputs(" \"", stdout);
    manual_word(text, strlen(text), true);
    putchar('"');
}

static void manual_section(const char *name, const char *text)
{
    printf(".Sh %s\n", name);
    if (text) manual_text(text);
}

/* The summary without its period, as a name's line has it. */
static void manual_summary(const char *summary)
{
    char line[128];
    snprintf(line, sizeof line, "%s", summary);
    const size_t size = strlen(line);
    if (size > 0 && line[size - 1] == '.') line[size - 1] = 0;
    line[0] = (char)tolower((unsigned char)line[0]);
    printf(".Nd ");
    manual_word(line, strlen(line), true);
    printf("\n");
}

/* The page's date: that of the sources where a package says it. */
static void manual_title(const char *command)
{
    const char *const epoch = getenv("SOURCE_DATE_EPOCH");
    const time_t now = epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    const struct tm *const date = gmtime(&now);
    char text[40] = "January 1, 1970";
    if (date) {
        char month[16];
        strftime(month, sizeof month, "%B", date);
        snprintf(text, sizeof text, "%s %d, %d", month, date->tm_mday, 1900 + date->tm_year);
    }
    printf(".Dd %s\n.Dt EVERHEAP%s", text, *command ? "-" : "");
    for (const char *letter = command; *letter; letter++) putchar(toupper((unsigned char)*letter));
    printf(" 1\n.Os\n.Sh NAME\n.Nm everheap%s%s\n", *command ? "-" : "", command);
}

static void manual_option(const struct cli_option *option)
{
    printf(".It ");
    if (option->letter) printf("Fl %c , ", option->letter);
    printf("Fl -%s", option->name);
    if (option->value_name) printf(" Ar %s", option->value_name);
    printf("\n");
    manual_text(option->help);
    if (option->kind == CLI_NUMBER && option->number > 0)
        printf("(default %llu)\n", (unsigned long long)option->number);
}

static void manual_item(const char *macro, const char *name, const char *text)
{
    printf(".It %s", macro);
    manual_argument(name);
    printf("\n");
    manual_text(text);
}

static void manual_arguments(const struct cli_command *command)
{
    if (command->arguments[0].name) {
        printf("Arguments:\n.Bl -tag -width Ds\n");
        for (int i = 0; command->arguments[i].name; i++)
            manual_item("Ar", command->arguments[i].name, command->arguments[i].help);
        printf(".El\n");
    }
    if (!command->choice) return;
    printf(".Pp\n.Ar %s\nis one of:\n.Bl -tag -width Ds\n", command->arguments[0].name);
    for (size_t i = 0; command->choice(i); i++) {
        const struct cli_choice *const choice = command->choice(i);
        printf(".It Cm %s", choice->name);
        if (*choice->form) manual_argument(choice->form);
        printf("\n");
        manual_text(choice->help);
    }
    printf(".El\n");
}

static void manual_command(const struct cli_command *command)
{
    manual_title(command->name);
    manual_summary(command->summary);
    printf(".Sh SYNOPSIS\n.Nm everheap\n.Cm %s\n.Op Ar option ...\n", command->name);
    for (int i = 0; command->arguments[i].name; i++) {
        const struct cli_argument *const argument = &command->arguments[i];
        printf(argument->is_optional ? ".Op Ar %s\n" : ".Ar %s\n", argument->name);
    }
    manual_section("DESCRIPTION", command->description);
    printf(".Pp\n");
    manual_arguments(command);
    printf(".Pp\nOptions:\n.Bl -tag -width Ds\n");
    for (size_t i = 0; cli_option_at(command, i); i++) manual_option(cli_option_at(command, i));
    printf(".El\n");
    manual_section("EXIT STATUS", cli_exit_status);
    printf(".Sh EXAMPLES\n.Bl -tag -width Ds\n");
    for (int i = 0; command->examples[i].line; i++)
        manual_item("Li", command->examples[i].line, command->examples[i].what);
    printf(".El\n.Sh SEE ALSO\n.Xr everheap 1\n");
}

static void manual_all(void)
{
    manual_title("");
    manual_summary(cli_main_summary);
    printf(".Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar option ...\n.Ar FILE\n");
    manual_section("DESCRIPTION", cli_main_description);
    printf(".Pp\nCommands:\n.Bl -tag -width Ds\n");
    for (size_t i = 0; cli_command_at(i); i++) {
        printf(".It Xr everheap-%s 1\n", cli_command_at(i)->name);
        manual_text(cli_command_at(i)->summary);
    }
    printf(".El\n.Pp\nOptions:\n.Bl -tag -width Ds\n");
    for (const struct cli_option *option = cli_main_options; option->name; option++)
        manual_option(option);
    printf(".El\n");
    manual_section("EXIT STATUS", cli_exit_status);
    printf(".Sh SEE ALSO\n.Xr everheap 3\n");
}

static enum cli_exit manual_run(const struct cli_request *request)
{
    const char *const name = request->arguments[0];
    const struct cli_command *const command = name ? cli_command_find(name) : NULL;
    if (name && !command) {
        fprintf(stderr, "everheap manual: no such command\nTry 'everheap --help'.\n");
        return CLI_FAILED;
    }
    if (command)
        manual_command(command);
    else
        manual_all();
    return cli_finish(request, CLI_FINE);
}

const struct cli_command cli_manual = {
    .name = "manual",
    .summary = "Print a command's manual page.",
    .description =
        "The page is made from the same table as the command's help and completions. An\n"
        "installation brings the pages; this is for a command that was only built.",
    .arguments = {{"COMMAND", true, "whose page; left out: that of everheap"}},
    .examples = {{"everheap manual check | man -l -", "read it"}},
    .is_text = true,
    .run = manual_run,
};
