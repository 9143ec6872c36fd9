/* match.c -- finding bytes in bytes, with or without regard to case, at the speed of memory.
 *
 * Places where both the first and the last byte of the pattern fit are found 64 at a time, with
 * AVX2 where it is there, else with the compiler's vectors (SSE2, NEON); only those are compared
 * (W. Mula, "SIMD-friendly algorithms for substring searching", 2016). Letters that differ in case
 * differ in one bit, which both sides are given.
 */
#include "db/db.h"
#include "os/os.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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
    assert(pattern != NULL);
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
    assert(pattern != NULL);
    os->memory_free((void *)pattern->bytes);
    pattern->bytes = NULL;
}

/* Most differ in the first bytes: a call of memcmp() took a quarter of a search's time. */
static bool match_at(const struct db_pattern *pattern, const char *text)
{
    assert(pattern->bytes != NULL);
    assert(text != NULL);
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < pattern->size; i++)
        if ((pattern->folds ? match_fold(bytes[i]) : bytes[i]) != pattern->bytes[i]) return false;
    return true;
}

/* Go on from `*at` to the next of `places` where first and last byte fit, whole steps only. False:
 * there is none, and `*at` is where the steps end. What is found is compared elsewhere: a call in
 * here would take all vectors from their registers. */
static bool match_steps(const struct db_pattern *pattern, const char *text, size_t places,
                        size_t *at)
{
    assert(pattern->size > 0);
    assert(*at <= places);
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
        const unsigned char *const hit = memchr(hits, 0xff, sizeof hits);
        assert(hit != NULL);
        *at += (size_t)(hit - hits);
        return true;
    }
    return false;
}

#if defined(__x86_64__)

/* Whether 32 bytes, given the bits of `mask`, are `byte`: each byte of the result is 0 or 255. */
__attribute__((target("avx2"))) static inline __m256i match_wide(const char *text, __m256i mask,
                                                                 __m256i byte)
{
    const __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)text);
    return _mm256_cmpeq_epi8(_mm256_or_si256(bytes, mask), byte);
}

/* As match_steps(). The processor fetches ahead no further than to the end of a page. What it does
 * not is asked for here: a search of 170 MB took 11.0 ms without, 9.4 with 1024 bytes, 7.6 with
 * these. */
enum { MATCH_AHEAD = 4096 };

__attribute__((target("avx2"))) static bool match_steps_wide(const struct db_pattern *pattern,
                                                             const char *text, size_t places,
                                                             size_t *at)
{
    assert(pattern->size > 0);
    assert(*at <= places);
    const __m256i first = _mm256_set1_epi8((char)pattern->first);
    const __m256i last = _mm256_set1_epi8((char)pattern->last);
    const __m256i first_mask = _mm256_set1_epi8((char)pattern->first_mask);
    const __m256i last_mask = _mm256_set1_epi8((char)pattern->last_mask);
    const size_t behind = pattern->size - 1;
    for (; places - *at >= MATCH_STEP; *at += MATCH_STEP) {
        const char *const here = text + *at;
        __builtin_prefetch(here + MATCH_AHEAD);
        const __m256i low = _mm256_and_si256(match_wide(here, first_mask, first),
                                             match_wide(here + behind, last_mask, last));
        const __m256i high = _mm256_and_si256(match_wide(here + 32, first_mask, first),
                                              match_wide(here + 32 + behind, last_mask, last));
        const __m256i any = _mm256_or_si256(low, high);
        if (LIKELY(_mm256_testz_si256(any, any))) continue;
        const uint64_t bits = (uint32_t)_mm256_movemask_epi8(low) |
                              (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
        *at += base_lowest_bit(bits);
        return true;
    }
    return false;
}

#endif

const char *db_pattern_find(const struct db_pattern *pattern, const char *text, size_t size)
{
    assert(text != NULL || size == 0);
    const size_t part = pattern->size;
    assert(part > 0);
    if (size < part) return NULL;
    const size_t places = size - part + 1;
    bool (*steps)(const struct db_pattern *, const char *, size_t, size_t *) = match_steps;
#if defined(__x86_64__)
    if (places >= MATCH_STEP && scan_has_wide()) steps = match_steps_wide;
#endif
    size_t at = 0;
    for (; steps(pattern, text, places, &at); at++)
        if (match_at(pattern, text + at)) return text + at;
    for (; at < places; at++)
        if (match_at(pattern, text + at)) return text + at;
    return NULL;
}
