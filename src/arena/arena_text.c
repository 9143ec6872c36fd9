/* arena_text.c -- zeroed arrays, copies of text and formatted text in an arena. */
#include "arena/arena.h"

#include <stdio.h>

void *evh_arena_calloc(evh_arena *arena, size_t count, size_t size, size_t alignment)
{
    size_t total = 0;
    if (arena_usable(arena)) return NULL;
    if (__builtin_mul_overflow(count, size, &total)) {
        (void)base_fail(EVH_LIMIT, NO_OFFSET, "arena '%s': %zu x %zu bytes: the product overflows",
                        arena->name, count, size);
        return NULL;
    }
    void *memory = evh_arena_alloc(arena, total, alignment);
    assert(count == 0 || total / count == size);
    assert(!memory || evh_arena_holds(arena, memory, total) || arena->options.is_shared);
    if (memory && total) memset(memory, 0, total);
    return memory;
}

char *evh_arena_strdup(evh_arena *arena, const char *text)
{
    if (arena_usable(arena)) return NULL;
    if (!text) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "arena '%s': no text: it is null", arena->name);
        return NULL;
    }
    const size_t size = strlen(text) + 1;
    char *copy = evh_arena_alloc(arena, size, 1);
    assert(size > 0);
    assert(!copy || copy != text);
    if (copy) memcpy(copy, text, size);
    return copy;
}

char *evh_arena_printf(evh_arena *arena, const char *format, ...)
{
    char small[256];
    va_list arguments, again;
    if (arena_usable(arena)) return NULL;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int length = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    char *text = NULL;
    assert(length < 0 || (size_t)length < SIZE_MAX);
    assert(format != NULL);
    if (length < 0)
        (void)base_fail(EVH_INVALID, NO_OFFSET, "arena '%s': printf() refuses \"%s\"", arena->name,
                        format);
    else
        text = evh_arena_alloc(arena, (size_t)length + 1, 1);
    if (text && (size_t)length < sizeof small)
        memcpy(text, small, (size_t)length + 1);
    else if (text)
        (void)vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}
