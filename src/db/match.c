/* match.c -- finding bytes in bytes, with or without regard to case, at the speed of memory.
 *
 * Places where both the first and the last byte of the pattern fit are found 64 at a time, with the
 * compiler's vectors, which are the processor's (SSE2, NEON); only those are compared (W. Mula,
 * "SIMD-friendly algorithms for substring searching", 2016). Letters that differ in case differ in
 * one bit, which both sides are given.
 */
#include "db/db.h"
#include "os/os.h"

typedef unsigned char match_vector __attribute__((vector_size(16)));
typedef uint64_t match_words __attribute__((vector_size(16)));

enum { MATCH_STEP = 64, MATCH_CASE = 0x20 };

static inline bool match_is_letter(unsigned char c)
{
    return (c | MATCH_CASE) >= 'a' && (c | MATCH_CASE) <= 'z';
}

static inline unsigned char match_fold(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? c | MATCH_CASE : c;
}

evh_status db_pattern_begin(struct db_pattern *pattern, const char *part, size_t size, bool folds)
{
    assert(part != NULL || size == 0);
    *pattern = (struct db_pattern){.size = size, .folds = folds};
    unsigned char *bytes = os->memory_allocate(size + 1);
    if (!bytes) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "db: no memory to search");
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)part[i];
        if (folds) bytes[i] = match_fold(bytes[i]);
    }
    pattern->bytes = bytes;
    if (size == 0) return EVH_OK;
    pattern->first = bytes[0];
    pattern->last = bytes[size - 1];
    if (folds && match_is_letter(pattern->first)) pattern->first_mask = MATCH_CASE;
    if (folds && match_is_letter(pattern->last)) pattern->last_mask = MATCH_CASE;
    return EVH_OK;
}

void db_pattern_end(struct db_pattern *pattern)
{
    os->memory_free((void *)pattern->bytes);
    pattern->bytes = NULL;
}

static bool match_at(const struct db_pattern *pattern, const char *text)
{
    const unsigned char *bytes = (const unsigned char *)text;
    if (!pattern->folds) return memcmp(bytes, pattern->bytes, pattern->size) == 0;
    for (size_t i = 0; i < pattern->size; i++)
        if (match_fold(bytes[i]) != pattern->bytes[i]) return false;
    return true;
}

static inline match_vector match_fill(unsigned char byte)
{
    return (match_vector){0} + byte;
}

static inline match_vector match_load(const char *text)
{
    match_vector vector;
    memcpy(&vector, text, sizeof vector);
    return vector;
}

const char *db_pattern_find(const struct db_pattern *pattern, const char *text, size_t size)
{
    const size_t part = pattern->size;
    assert(part > 0);
    if (size < part) return NULL;
    const match_vector first = match_fill(pattern->first);
    const match_vector last = match_fill(pattern->last);
    const match_vector first_mask = match_fill(pattern->first_mask);
    const match_vector last_mask = match_fill(pattern->last_mask);
    const size_t places = size - part + 1;
    size_t at = 0;
    for (; places - at >= MATCH_STEP; at += MATCH_STEP) {
        match_vector hits[4];
        for (size_t i = 0; i < 4; i++) {
            const char *here = text + at + 16 * i;
            hits[i] = (match_vector)(((match_load(here) | first_mask) == first) &
                                     ((match_load(here + part - 1) | last_mask) == last));
        }
        const match_words any = (match_words)(hits[0] | hits[1] | hits[2] | hits[3]);
        if (LIKELY((any[0] | any[1]) == 0)) continue;
        for (size_t i = 0; i < MATCH_STEP; i++)
            if (hits[i / 16][i % 16] && match_at(pattern, text + at + i)) return text + at + i;
    }
    for (; at < places; at++)
        if (match_at(pattern, text + at)) return text + at;
    return NULL;
}
