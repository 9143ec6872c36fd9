/* match.c -- finding bytes in bytes, with or without regard to case, at the speed of memory.
 *
 * Places where both the first and the last byte of the pattern fit are found 64 at a time, with the
 * compiler's vectors, which are the processor's (AVX2 where it is there, SSE2, NEON); only those
 * are compared (W. Mula, "SIMD-friendly algorithms for substring searching", 2016). Letters that
 * differ in case differ in one bit, which both sides are given.
 */
#include "db/db.h"
#include "os/os.h"

typedef unsigned char match_vector __attribute__((vector_size(32)));
typedef uint64_t match_words __attribute__((vector_size(32)));

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

/* The first place of the pattern among `places`, whole steps only: `*at` is where they end. */
static inline __attribute__((always_inline)) const char *match_steps(
    const struct db_pattern *pattern, const char *text, size_t places, size_t *at)
{
    const match_vector first = (match_vector){0} + pattern->first;
    const match_vector last = (match_vector){0} + pattern->last;
    const match_vector first_mask = (match_vector){0} + pattern->first_mask;
    const match_vector last_mask = (match_vector){0} + pattern->last_mask;
    const size_t behind = pattern->size - 1;
    for (; places - *at >= MATCH_STEP; *at += MATCH_STEP) {
        const char *const here = text + *at;
        match_vector one, two, one_last, two_last;
        memcpy(&one, here, sizeof one);
        memcpy(&two, here + sizeof one, sizeof two);
        memcpy(&one_last, here + behind, sizeof one);
        memcpy(&two_last, here + behind + sizeof one, sizeof two);
        one = (match_vector)(((one | first_mask) == first) & ((one_last | last_mask) == last));
        two = (match_vector)(((two | first_mask) == first) & ((two_last | last_mask) == last));
        const match_words any = (match_words)(one | two);
        if (LIKELY(((any[0] | any[1]) | (any[2] | any[3])) == 0)) continue;
        unsigned char hits[MATCH_STEP];
        memcpy(hits, &one, sizeof one);
        memcpy(hits + sizeof one, &two, sizeof two);
        for (size_t i = 0; i < MATCH_STEP; i++)
            if (hits[i] && match_at(pattern, here + i)) return here + i;
    }
    return NULL;
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) static const char *match_steps_wide(
    const struct db_pattern *pattern, const char *text, size_t places, size_t *at)
{
    return match_steps(pattern, text, places, at);
}

static bool match_has_wide(void)
{
    static uint32_t known; /* 0: not asked yet, 1: no AVX2, 2: AVX2. Atomic. */
    const uint32_t state = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (LIKELY(state)) return state == 2;
    const bool wide = __builtin_cpu_supports("avx2") != 0;
    __atomic_store_n(&known, wide ? 2u : 1u, __ATOMIC_RELAXED);
    return wide;
}

#endif

const char *db_pattern_find(const struct db_pattern *pattern, const char *text, size_t size)
{
    const size_t part = pattern->size;
    assert(part > 0);
    if (size < part) return NULL;
    const size_t places = size - part + 1;
    size_t at = 0;
    const char *found = NULL;
#if defined(__x86_64__)
    if (places >= MATCH_STEP && match_has_wide()) {
        found = match_steps_wide(pattern, text, places, &at);
        if (found) return found;
    }
#endif
    found = match_steps(pattern, text, places, &at);
    if (found) return found;
    for (; at < places; at++)
        if (match_at(pattern, text + at)) return text + at;
    return NULL;
}
