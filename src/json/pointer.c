/* pointer.c -- the text of JSON Pointers: RFC 6901. */
#include "json/scan.h"
#include "os/os.h"

bool pointer_check(const char *text, size_t size, size_t *fault)
{
    assert(text != NULL || size == 0);
    assert(fault != NULL);
    *fault = 0;
    if (size > 0 && text[0] != '/') return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] != '~') continue;
        *fault = i;
        if (i + 1 == size || (text[i + 1] != '0' && text[i + 1] != '1')) return false;
    }
    return true;
}

void pointer_begin(struct pointer *pointer, const char *text, size_t size)
{
    assert(pointer != NULL);
    assert(size == 0 || text[0] == '/');
    pointer->next = text;
    pointer->end = text + size;
    pointer->token = NULL;
    pointer->token_size = 0;
    pointer->memory = NULL;
}

evh_status pointer_step(struct pointer *pointer)
{
    if (pointer->next == pointer->end) return EVH_NOT_FOUND;
    assert(*pointer->next == '/');
    const char *first = pointer->next + 1;
    const char *stop = memchr(first, '/', (size_t)(pointer->end - first));
    if (!stop) stop = pointer->end;
    pointer->next = stop;
    pointer->token = first;
    pointer->token_size = (size_t)(stop - first);
    const char *tilde = memchr(first, '~', pointer->token_size);
    if (LIKELY(!tilde)) return EVH_OK;

    char *target = pointer->short_token;
    if (pointer->token_size > sizeof pointer->short_token) {
        target = os->memory_resize(pointer->memory, pointer->token_size);
        if (!target) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for a path");
        pointer->memory = target;
    }
    size_t size = 0;
    for (const char *from = first; from < stop; from++) {
        target[size] = *from;
        if (*from == '~' && from + 1 < stop) target[size] = *++from == '0' ? '~' : '/';
        size++;
    }
    assert(size <= pointer->token_size);
    pointer->token = target;
    pointer->token_size = size;
    return EVH_OK;
}

void pointer_end(struct pointer *pointer)
{
    os->memory_free(pointer->memory);
    pointer->memory = NULL;
}

bool pointer_index(const char *token, size_t size, uint64_t *index)
{
    assert(index != NULL);
    if (size == 0 || size > 19 || (size > 1 && token[0] == '0')) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        if (token[i] < '0' || token[i] > '9') return false;
        value = value * 10 + (uint64_t)(token[i] - '0');
    }
    *index = value;
    return value <= INT64_MAX;
}

size_t pointer_escaped_size(const char *token, size_t size)
{
    assert(token != NULL || size == 0);
    size_t total = size;
    for (size_t i = 0; i < size; i++) total += token[i] == '~' || token[i] == '/';
    return total;
}

size_t pointer_escape(const char *token, size_t size, char *target)
{
    assert(token != NULL || size == 0);
    size_t stored = 0;
    for (size_t i = 0; i < size; i++) {
        const bool is_special = token[i] == '~' || token[i] == '/';
        target[stored++] = is_special ? '~' : token[i];
        if (is_special) target[stored++] = token[i] == '~' ? '0' : '1';
    }
    return stored;
}

static int pointer_hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool pointer_from_fragment(const char *text, size_t size, char *target, size_t *target_size)
{
    assert(target != NULL || size == 0);
    size_t stored = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            if (size - i < 3) return false;
            const int high = pointer_hex(text[i + 1]);
            const int low = pointer_hex(text[i + 2]);
            if (high < 0 || low < 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        target[stored++] = c;
    }
    *target_size = stored;
    return true;
}
