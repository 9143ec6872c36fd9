/* strings.c -- a list of strings that the next run finds again: add, delete, list.
 *
 * Usage: strings FILE add TEXT... | del NUMBER... | list
 */
#include <everheap.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

EVH_VEC(strings, evh_str);

static int fail(void)
{
    fprintf(stderr, "strings: %s\n", evh_last_error()->message);
    return 1;
}

static bool add(evh_heap *heap, strings *list, const char *text)
{
    evh_str *const item = strings_push(heap, list, (evh_str){0}); /* an empty string */
    return item && evh_str_assign(heap, item, text) == EVH_OK;
}

static bool remove_at(evh_heap *heap, strings *list, const char *number)
{
    const size_t index = strtoull(number, NULL, 10);
    evh_str *const item = strings_at(heap, list, index);
    if (!item) {
        fprintf(stderr, "strings: there is no number %s\n", number);
        return true;
    }
    return evh_str_clear(heap, item) == EVH_OK && strings_erase(heap, list, index, 1) == EVH_OK;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: strings FILE add TEXT... | del NUMBER... | list\n");
        return 2;
    }
    evh_heap *const heap = evh_open(argv[1], NULL);
    strings *const list = heap ? evh_root(heap, "strings", sizeof *list) : NULL;
    if (!list) return fail();

    bool is_fine = true;
    const bool is_adding = strcmp(argv[2], "add") == 0;
    for (int i = 3; i < argc && is_fine; i++)
        is_fine = is_adding ? add(heap, list, argv[i]) : remove_at(heap, list, argv[i]);
    if (!is_fine || evh_commit(heap)) return fail(); /* all of it, or nothing */

    for (size_t i = 0; i < strings_count(heap, list); i++)
        printf("%zu %s\n", i, evh_str_text(heap, strings_at(heap, list, i), NULL));
    return evh_close(heap) ? fail() : 0;
}
