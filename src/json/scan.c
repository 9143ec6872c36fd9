/* scan.c -- find the end of a string, and count lines, 16 or 32 bytes at once.
 *
 * Half of all strings have fewer than 16 bytes, so the first vector is looked at inline and is the
 * only one for most; longer ones go on with 32 bytes at once where the processor has AVX2 (asked
 * once, at run time). A byte is special if it is a quote, a backslash or below 0x20.
 */
#include "json/scan.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define SCAN_SSE2 1
#elif defined(__aarch64__)
#include <arm_neon.h>
#define SCAN_NEON 1
#endif

static inline bool scan_is_special(unsigned char byte)
{
    return byte == '"' || byte == '\\' || byte < 0x20;
}

static inline uint64_t scan_load(const char *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* The highest bit of each byte that is special; above the lowest such byte a bit may be wrong.
 * (Sean Anderson's "haszero" and "hasless", Bit Twiddling Hacks.) */
static inline uint64_t scan_word(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101ull;
    const uint64_t quotes = word ^ ones * '"';
    const uint64_t slashes = word ^ ones * '\\';
    const uint64_t found = ((quotes - ones) & ~quotes) | ((slashes - ones) & ~slashes) |
                           ((word - ones * 0x20) & ~word);
    return found & ones * 0x80;
}

const char *scan_portable(const char *text, const char *end, uint32_t *high)
{
    assert(text <= end);
    assert(high != NULL);
    uint64_t bits = 0;
    while (end - text >= 8) {
        const uint64_t word = scan_load(text);
        const uint64_t found = scan_word(word);
        if (found) {
            const uint32_t at = base_lowest_bit(found) / 8;
            bits |= at ? word << (64 - 8 * at) : 0;
            text += at;
            goto done;
        }
        bits |= word;
        text += 8;
    }
    for (; text < end && !scan_is_special((unsigned char)*text); text++)
        bits |= (uint64_t)(unsigned char)*text;
done:
    if (bits & 0x8080808080808080ull) *high |= 0x80000000u;
    return text;
}

const char *scan_exact(const char *text, const char *end)
{
    uint32_t high = 0;
    return scan_portable(text, end, &high);
}

#if SCAN_SSE2

static uint32_t scan_wide_state; /* 0: not asked yet, 1: no AVX2, 2: AVX2. Atomic. */

bool scan_has_wide(void)
{
    const uint32_t state = __atomic_load_n(&scan_wide_state, __ATOMIC_RELAXED);
    if (LIKELY(state)) return state == 2;
    const bool wide = __builtin_cpu_supports("avx2") != 0;
    __atomic_store_n(&scan_wide_state, wide ? 2u : 1u, __ATOMIC_RELAXED);
    return wide;
}

bool scan_use_wide(bool wide)
{
    const bool was = scan_has_wide();
    wide = wide && __builtin_cpu_supports("avx2") != 0;
    __atomic_store_n(&scan_wide_state, wide ? 2u : 1u, __ATOMIC_RELAXED);
    return was;
}

/* A bit for each special byte of 16; `*high` for each that is not ASCII. */
static inline uint32_t scan_vector(const char *text, uint32_t *high)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)text);
    const __m128i quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    const __m128i slashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    /* Below 0x20 if the smaller of byte and 0x1f, unsigned, is the byte. */
    const __m128i controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    *high = (uint32_t)_mm_movemask_epi8(bytes);
    return (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, slashes), controls));
}

/* Whether there is a special byte among those at `*text`, as `mask` tells; then `*text` is where it
 * is, or the end. What is not ASCII before it is noted. */
static inline bool scan_stops(const char **text, const char *end, uint32_t mask, uint32_t high_mask,
                              uint32_t *high)
{
    const uint32_t at = mask ? base_lowest_bit(mask) : 0;
    if (mask ? high_mask & ((1u << at) - 1) : high_mask) *high |= 0x80000000u;
    if (mask) *text = (size_t)(end - *text) > at ? *text + at : end;
    return mask != 0;
}

__attribute__((target("avx2"))) static const char *scan_wide(const char *text, const char *end,
                                                             uint32_t *high)
{
    const __m256i quote = _mm256_set1_epi8('"');
    const __m256i slash = _mm256_set1_epi8('\\');
    const __m256i control = _mm256_set1_epi8(0x1f);
    for (; text < end; text += 32) {
        const __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)text);
        const __m256i found = _mm256_or_si256(
            _mm256_or_si256(_mm256_cmpeq_epi8(bytes, quote), _mm256_cmpeq_epi8(bytes, slash)),
            _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, control), bytes));
        const uint32_t mask = (uint32_t)_mm256_movemask_epi8(found);
        const uint32_t high_mask = (uint32_t)_mm256_movemask_epi8(bytes);
        if (scan_stops(&text, end, mask, high_mask, high)) return text;
    }
    return end;
}

const char *scan_string(const char *text, const char *end, uint32_t *high)
{
    assert(text <= end);
    assert(high != NULL);
    for (int vectors = 0; text < end; text += 16, vectors++) {
        if (vectors == 2 && scan_has_wide()) return scan_wide(text, end, high);
        uint32_t high_mask = 0;
        const uint32_t mask = scan_vector(text, &high_mask);
        if (scan_stops(&text, end, mask, high_mask, high)) return text;
    }
    return end;
}

uint64_t scan_lines(const char *text, const char *end, const char **last)
{
    assert(text <= end);
    assert(last != NULL);
    uint64_t count = 0;
    const __m128i feed = _mm_set1_epi8('\n');
    for (; end - text >= 16; text += 16) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)text);
        const uint32_t mask = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, feed));
        if (!mask) continue;
        count += base_count_bits(mask);
        *last = text + base_highest_bit(mask) + 1;
    }
    for (; text < end; text++) {
        if (*text != '\n') continue;
        count++;
        *last = text + 1;
    }
    return count;
}

#else

bool scan_has_wide(void)
{
    return false;
}

bool scan_use_wide(bool wide)
{
    (void)wide;
    return false;
}

#if SCAN_NEON

const char *scan_string(const char *text, const char *end, uint32_t *high)
{
    assert(text <= end);
    assert(high != NULL);
    for (; text < end; text += 16) {
        const uint8x16_t bytes = vld1q_u8((const uint8_t *)text);
        const uint8x16_t found =
            vorrq_u8(vorrq_u8(vceqq_u8(bytes, vdupq_n_u8('"')), vceqq_u8(bytes, vdupq_n_u8('\\'))),
                     vcltq_u8(bytes, vdupq_n_u8(0x20)));
        /* Four bits for each byte: narrowing keeps the middle of each pair. */
        const uint64_t mask =
            vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(found), 4)), 0);
        const uint64_t high_mask =
            vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(
                              vreinterpretq_u16_u8(vcltzq_s8(vreinterpretq_s8_u8(bytes))), 4)),
                          0);
        if (mask) {
            const uint32_t at = base_lowest_bit(mask) / 4;
            if (at && high_mask << (64 - 4 * at)) *high |= 0x80000000u;
            text += at;
            return text < end ? text : end;
        }
        if (high_mask) *high |= 0x80000000u;
    }
    return end;
}

#else

const char *scan_string(const char *text, const char *end, uint32_t *high)
{
    return scan_portable(text, end, high);
}

#endif

uint64_t scan_lines(const char *text, const char *end, const char **last)
{
    assert(text <= end);
    assert(last != NULL);
    uint64_t count = 0;
    for (;;) {
        text = memchr(text, '\n', (size_t)(end - text));
        if (!text) return count;
        count++;
        *last = ++text;
    }
}

#endif
