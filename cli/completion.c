/* completion.c -- `everheap completion`: a shell's script that completes this command line. */
#include "cli.h"

#include <string.h>

/* ---- bash ---- */

static const char bash_begin[] =
    "# bash completion for everheap, made by: everheap completion bash\n"
    "_everheap()\n"
    "{\n"
    "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
    "    local options= valued= filed= arguments= choices= index=0 i=2\n"
    "    COMPREPLY=()\n"
    "    case ${COMP_WORDS[1]} in\n";

/* What follows an option that takes a value is that; arguments are counted without options. */
static const char bash_end[] =
    "    esac\n"
    "    case \" $filed \" in\n"
    "    *\" $before \"*) arguments=FILE choices= i=$COMP_CWORD ;;\n"
    "    esac\n"
    "    case \" $valued \" in *\" $before \"*) return ;; esac\n"
    "    for (( ; i < COMP_CWORD; i++ )); do\n"
    "        case \" $valued $filed \" in *\" ${COMP_WORDS[i]} \"*) (( i++ )); continue ;; esac\n"
    "        case ${COMP_WORDS[i]} in -?*) ;; *) (( index++ )) ;; esac\n"
    "    done\n"
    "    if (( COMP_CWORD == 1 )); then\n"
    "        COMPREPLY=($(compgen -W \"$choices\" -- \"$word\"))\n"
    "    elif [[ $word == -* ]]; then\n"
    "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
    "    elif (( index == 0 )) && [[ $choices ]]; then\n"
    "        COMPREPLY=($(compgen -W \"$choices\" -- \"$word\"))\n"
    "    else\n"
    "        set -- $arguments\n"
    "        (( index < $# )) && [[ ${@:index+1:1} == FILE* ]] || return\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        local - IFS=$'\\n'\n"
    "        set -f\n"
    "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
    "    fi\n"
    "}\n"
    "complete -F _everheap everheap\n";

/* Which options: all, those that take a word, those that take the name of a file. */
enum bash_list { BASH_OPTIONS, BASH_VALUED, BASH_FILED };

/* " --name -n" for each option that belongs to the list. */
static void bash_options(const struct cli_command *command, enum bash_list list)
{
    for (size_t i = 0; cli_option_at(command, i); i++) {
        const struct cli_option *const option = cli_option_at(command, i);
        const bool is_filed = cli_is_file(option->value_name);
        if (list == BASH_VALUED && (option->kind == CLI_FLAG || is_filed)) continue;
        if (list == BASH_FILED && !is_filed) continue;
        printf(" --%s", option->name);
        if (option->letter) printf(" -%c", option->letter);
    }
}

static void bash_command(const struct cli_command *command)
{
    printf("    %s)\n        options='", command->name);
    bash_options(command, BASH_OPTIONS);
    printf("'\n        valued='");
    bash_options(command, BASH_VALUED);
    printf("'\n        filed='");
    bash_options(command, BASH_FILED);
    printf("'\n        arguments='");
    for (int i = 0; command->arguments[i].name; i++) printf(" %s", command->arguments[i].name);
    printf("'\n        choices='");
    for (size_t i = 0; command->choice && command->choice(i); i++)
        printf(" %s", command->choice(i)->name);
    printf("'\n        ;;\n");
}

static void bash_script(void)
{
    fputs(bash_begin, stdout);
    for (size_t i = 0; cli_command_at(i); i++) bash_command(cli_command_at(i));
    printf("    esac\n    case $COMP_CWORD in\n    1)\n        choices='help");
    for (size_t i = 0; cli_command_at(i); i++) printf(" %s", cli_command_at(i)->name);
    for (const struct cli_option *option = cli_main_options; option->name; option++)
        printf(" --%s -%c", option->name, option->letter);
    printf("'\n        ;;\n");
    fputs(bash_end, stdout);
}

/* ---- zsh ---- */

/* A text within single quotes, with a backslash before what `special` names. */
static void put_quoted(const char *text, const char *special)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(special, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void zsh_option(const struct cli_option *option)
{
    if (option->letter)
        printf(" \\\n            '(-%c --%s)'{-%c", option->letter, option->name, option->letter);
    else
        printf(" \\\n            ");
    const char *const equals = option->kind == CLI_FLAG ? "" : "=";
    if (option->letter)
        printf(",--%s%s}'[", option->name, equals);
    else
        printf("'--%s%s[", option->name, equals);
    put_quoted(option->help, "[]:\\");
    putchar(']');
    if (option->kind != CLI_FLAG)
        printf(":%s:%s", option->value_name, cli_is_file(option->value_name) ? "_files" : " ");
    putchar('\'');
}

static void zsh_command(const struct cli_command *command)
{
    printf("    %s)\n        _arguments -s", command->name);
    for (size_t i = 0; cli_option_at(command, i); i++) zsh_option(cli_option_at(command, i));
    for (int i = 0; command->arguments[i].name; i++) {
        const struct cli_argument *const argument = &command->arguments[i];
        printf(" \\\n            '%d:%s%s:", i + 1, argument->is_optional ? ":" : "",
               argument->name);
        if (i == 0 && command->choice) {
            printf("((");
            for (size_t k = 0; command->choice(k); k++) {
                printf(" %s\\:\"", command->choice(k)->name);
                put_quoted(command->choice(k)->help, "\":\\");
                putchar('"');
            }
            printf("))'");
        } else {
            printf("%s'", cli_is_file(argument->name) ? "_files" : " ");
        }
    }
    printf("\n        ;;\n");
}

static void zsh_script(void)
{
    printf("#compdef everheap\n"
           "# zsh completion for everheap, made by: everheap completion zsh\n"
           "_everheap()\n{\n    local -a commands\n    commands=(\n");
    for (size_t i = 0; cli_command_at(i); i++) {
        printf("        '%s:", cli_command_at(i)->name);
        put_quoted(cli_command_at(i)->summary, ":\\");
        printf("'\n");
    }
    printf("        'help:Explain a command.'\n");
    for (const struct cli_option *option = cli_main_options; option->name; option++)
        printf("        '--%s:%s'\n", option->name, option->help);
    printf("    )\n"
           "    if (( CURRENT == 2 )); then\n"
           "        _describe command commands\n"
           "        return\n"
           "    fi\n"
           "    local command=$words[2]\n"
           "    shift words\n"
           "    (( CURRENT-- ))\n"
           "    case $command in\n");
    for (size_t i = 0; cli_command_at(i); i++) zsh_command(cli_command_at(i));
    printf("    esac\n}\n"
           "if [[ $funcstack[1] == _everheap ]]; then _everheap; else compdef _everheap everheap; "
           "fi\n");
}

/* ---- fish ---- */

static void fish_complete(const char *condition, const char *command, int position)
{
    printf("complete -c everheap -n '%s", condition);
    if (command) printf(" %s", command);
    if (position >= 0) printf(" %d", position);
    printf("'");
}

static void fish_option(const struct cli_command *command, const struct cli_option *option)
{
    fish_complete("__everheap_is", command->name, -1);
    if (option->letter) printf(" -s %c", option->letter);
    printf(" -l %s", option->name);
    if (option->kind != CLI_FLAG) printf(cli_is_file(option->value_name) ? " -r -F" : " -x");
    printf(" -d '");
    put_quoted(option->help, "\\");
    printf("'\n");
}

static void fish_command(const struct cli_command *command)
{
    fish_complete("__everheap_at 1", NULL, -1);
    printf(" -a %s -d '", command->name);
    put_quoted(command->summary, "\\");
    printf("'\n");
    for (size_t i = 0; cli_option_at(command, i); i++)
        fish_option(command, cli_option_at(command, i));
    for (int i = 0; command->arguments[i].name; i++) {
        if (!cli_is_file(command->arguments[i].name)) continue;
        fish_complete("__everheap_is", command->name, i + 2);
        printf(" -F\n");
    }
    for (size_t i = 0; command->choice && command->choice(i); i++) {
        fish_complete("__everheap_is", command->name, 2);
        printf(" -a %s -d '", command->choice(i)->name);
        put_quoted(command->choice(i)->help, "\\");
        printf("'\n");
    }
}

/* Which options of a command take the word behind them. */
static void fish_valued(void)
{
    printf("function __everheap_takes_word\n    switch \"$argv[1]\"\n");
    for (size_t i = 0; cli_command_at(i); i++) {
        const struct cli_command *const command = cli_command_at(i);
        printf("    case %s\n        contains -- $argv[2]", command->name);
        bash_options(command, BASH_VALUED);
        bash_options(command, BASH_FILED);
        printf("\n");
    }
    printf("    case '*'\n        false\n    end\nend\n");
}

/* __everheap_at POSITION and __everheap_is NAME [POSITION] count words that are no options. */
static void fish_script(void)
{
    printf("# fish completion for everheap, made by: everheap completion fish\n");
    fish_valued();
    printf("function __everheap_words\n"
           "    set -l is_value false\n"
           "    set -l words (commandline -opc)\n"
           "    for word in $words\n"
           "        if $is_value\n"
           "            set is_value false\n"
           "        else if string match -q -- '-?*' $word\n"
           "            __everheap_takes_word \"$words[2]\" $word; and set is_value true\n"
           "        else\n"
           "            echo $word\n"
           "        end\n"
           "    end\n"
           "end\n"
           "function __everheap_at\n"
           "    test (count (__everheap_words)) -eq $argv[1]\n"
           "end\n"
           "function __everheap_is\n"
           "    set -l words (__everheap_words)\n"
           "    test (count $words) -ge 2; and test \"$words[2]\" = $argv[1]; or return 1\n"
           "    test (count $argv) -lt 2; or test (count $words) -eq $argv[2]\n"
           "end\n"
           "complete -c everheap -f\n"
           "complete -c everheap -n '__everheap_at 1' -a help -d 'Explain a command.'\n");
    for (const struct cli_option *option = cli_main_options; option->name; option++) {
        fish_complete("__everheap_at 1", NULL, -1);
        printf(" -s %c -l %s -d '%s'\n", option->letter, option->name, option->help);
    }
    for (size_t i = 0; cli_command_at(i); i++) fish_command(cli_command_at(i));
}

/* ---- the command ---- */

static const struct cli_choice completion_shells[] = {
    {"bash", "", "for ~/.local/share/bash-completion/completions/everheap"},
    {"zsh", "", "for _everheap in a directory of $fpath"},
    {"fish", "", "for ~/.config/fish/completions/everheap.fish"},
};

static const struct cli_choice *completion_choice(size_t index)
{
    const size_t count = sizeof completion_shells / sizeof completion_shells[0];
    return index < count ? &completion_shells[index] : NULL;
}

static enum cli_exit completion_run(const struct cli_request *request)
{
    static void (*const scripts[])(void) = {bash_script, zsh_script, fish_script};
    for (size_t i = 0; completion_choice(i); i++) {
        if (strcmp(completion_choice(i)->name, request->arguments[0]) != 0) continue;
        scripts[i]();
        return cli_finish(request, CLI_FINE);
    }
    fprintf(stderr, "everheap completion: SHELL is bash, zsh or fish\n"
                    "Try 'everheap completion --help'.\n");
    return CLI_FAILED;
}

const struct cli_command cli_completion = {
    .name = "completion",
    .summary = "Print a script by which a shell completes everheap's command lines.",
    .description = "The script knows the commands, options and arguments of this version. An\n"
                   "installation brings all three; this is for a command that was only built.",
    .arguments = {{"SHELL", false, "whose script"}},
    .examples = {{"eval \"$(everheap completion bash)\"", "in this shell, until it ends"}},
    .choice = completion_choice,
    .is_text = true,
    .run = completion_run,
};
