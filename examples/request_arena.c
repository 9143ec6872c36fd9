/* request_arena.c -- answer requests from one arena: everything a request made goes in one step.
 *
 *     request_arena [REQUESTS]
 *
 * Each request parses a query, builds lists and formats a page, and frees nothing: the scope around
 * it does. The arena keeps its working set, so that after the first request nothing is asked of the
 * system.
 */
#include <everheap.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct field {
    const char *name, *value;
    struct field *next;
};

/* "a=1&b=two" as a list, last field first. Names and values are copies in the arena. */
static struct field *parse_query(evh_arena *arena, const char *query)
{
    struct field *first = NULL;
    char *text = evh_arena_strdup(arena, query);
    while (text && *text) {
        char *end = text + strcspn(text, "&");
        char *next = *end ? end + 1 : end;
        *end = 0;
        char *equals = strchr(text, '=');
        if (equals) *equals = 0;
        struct field *field = evh_arena_alloc(arena, sizeof *field, _Alignof(struct field));
        if (!field) return NULL;
        *field = (struct field){text, equals ? equals + 1 : "", first};
        first = field;
        text = next;
    }
    return first;
}

static const char *find_field(const struct field *field, const char *name)
{
    while (field && strcmp(field->name, name) != 0) field = field->next;
    return field ? field->value : "nobody";
}

/* The length of the answer; the answer itself lives as long as the scope. */
static size_t answer(evh_arena *arena, unsigned long number)
{
    EVH_ARENA_SCOPE(arena);
    const char *query =
        evh_arena_printf(arena, "user=number%lu&page=%lu&lang=en", number, number % 7);
    const struct field *fields = query ? parse_query(arena, query) : NULL;
    const char *page = evh_arena_printf(arena, "Hello, %s! This is page %s.",
                                        find_field(fields, "user"), find_field(fields, "page"));
    if (!page) {
        fprintf(stderr, "request %lu: %s\n", number, evh_last_error()->message);
        return 0;
    }
    if (number == 0) puts(page);
    return strlen(page);
}

int main(int argc, char **argv)
{
    const unsigned long requests = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    evh_arena *arena = evh_arena_create(&(evh_arena_options){.name = "request"});
    if (!arena) {
        fprintf(stderr, "%s\n", evh_last_error()->message);
        return 1;
    }
    size_t bytes = 0;
    for (unsigned long i = 0; i < requests; i++) bytes += answer(arena, i);
    evh_arena_stats stats;
    evh_arena_get_stats(arena, &stats);
    printf("%lu requests, %zu bytes of answers, %llu bytes in use, %llu chunk\n", requests, bytes,
           (unsigned long long)stats.used_bytes, (unsigned long long)stats.chunks);
    evh_arena_close(arena);
    return 0;
}
