/* debug.c -- letters, sites, patterns, and what a misuse does. */
#include "debug/debug.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { QUARANTINE_BLOCKS = 256, VERIFY_EVERY = 1000, COUNT_MAX = 1000000 };

/* ---- letters ---- */

static unsigned debug_letter(char letter)
{
    switch (letter) {
    case 'C': return DEBUG_CANARY;
    case 'J': return DEBUG_JUNK;
    case 'Q': return DEBUG_QUARANTINE;
    case 'G': return DEBUG_GUARD;
    case 'S': return DEBUG_SITES;
    case 'L': return DEBUG_LEAKS;
    case 'V': return DEBUG_VALIDATE;
    case 'O': return DEBUG_LOG;
    case 'X': return DEBUG_EVERY;
    case 'R': return DEBUG_REPORT_ONLY;
    case 'A':
        return DEBUG_CANARY | DEBUG_JUNK | DEBUG_QUARANTINE | DEBUG_SITES | DEBUG_LEAKS |
               DEBUG_VALIDATE;
    default: return 0;
    }
}

/* The number behind a letter, 0 if there is none; `*text` moves behind it. */
static uint32_t debug_number(const char **text)
{
    uint32_t number = 0;
    for (; isdigit((unsigned char)**text); (*text)++)
        if (number <= COUNT_MAX) number = number * 10 + (uint32_t)(**text - '0');
    return number;
}

EVH_INTERNAL evh_status debug_read(const char *letters, const char *what,
                                   struct debug_settings *settings)
{
    assert(what != NULL);
    assert(settings != NULL);
    *settings = (struct debug_settings){0, QUARANTINE_BLOCKS, VERIFY_EVERY};
    if (!letters) letters = getenv("EVERHEAP_DEBUG");
    for (const char *next = letters; next && *next;) {
        const char letter = *next++;
        const unsigned bits = debug_letter(letter);
        const uint32_t number = debug_number(&next);
        if (bits == 0 || number > COUNT_MAX)
            return base_fail(EVH_INVALID, NO_OFFSET,
                             "%s: debug letters \"%s\": those are C J Q G S L V O X R A, and a "
                             "number to 1000000 behind Q and X",
                             what, letters);
        settings->letters |= bits;
        if (number && letter == 'Q') settings->quarantine_blocks = number;
        if (number && letter == 'X') settings->verify_every = number;
    }
    return EVH_OK;
}

/* ---- misuse ---- */

EVH_INTERNAL evh_status debug_misuse(evh_misuse policy, evh_status status, uint64_t offset,
                                     const char *format, ...)
{
    assert(status != EVH_OK);
    assert(format != NULL);
    char message[sizeof evh_last_error()->message];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    (void)base_fail(status, offset, "%s", message);
    if (policy == EVH_MISUSE_STATUS) return status;
    (void)fprintf(stderr, "everheap: %s: %s\n", evh_status_name(status), message);
    abort();
}

EVH_INTERNAL void debug_print(const char *format, ...)
{
    assert(format != NULL);
    char line[400];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "everheap: %s\n", line);
}

/* ---- sites and threads ---- */

static _Thread_local const char *debug_site;

void evh_debug_here(const char *site)
{
    debug_site = site;
}

EVH_INTERNAL const char *debug_take_site(void)
{
    const char *site = debug_site ? debug_site : "?";
    debug_site = NULL;
    return site;
}

EVH_INTERNAL uint32_t debug_thread(void)
{
    static uint32_t last; /* atomic */
    static _Thread_local uint32_t mine;
    if (mine == 0) mine = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
    assert(mine != UINT32_MAX);
    assert(mine != 0);
    return mine;
}

/* ---- patterns ---- */

/* Neighbouring addresses differ, and no byte is 0, which most overflows write. */
static unsigned char debug_canary_byte(uintptr_t address)
{
    return (unsigned char)((address * 0x9e3779b1u >> 24) | 0x81);
}

EVH_INTERNAL void debug_set_canary(void *address, size_t size)
{
    assert(address != NULL);
    unsigned char *bytes = address;
    for (size_t i = 0; i < size; i++) bytes[i] = debug_canary_byte((uintptr_t)bytes + i);
}

EVH_INTERNAL bool debug_has_canary(const void *address, size_t size, size_t *first)
{
    assert(address != NULL);
    assert(first != NULL);
    const unsigned char *bytes = address;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == debug_canary_byte((uintptr_t)bytes + i)) continue;
        *first = i;
        return false;
    }
    return true;
}

EVH_INTERNAL bool debug_is_filled(const void *address, size_t size, unsigned char byte,
                                  size_t *first)
{
    assert(address != NULL || size == 0);
    assert(first != NULL);
    const unsigned char *bytes = address;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == byte) continue;
        *first = i;
        return false;
    }
    return true;
}
