/* number.h -- numbers of JSON: their text, and what it stands for. No locale, no C library. */
#ifndef EVERHEAP_JSON_NUMBER_H
#define EVERHEAP_JSON_NUMBER_H

#include "base/base.h"

enum number_kind {
    NUMBER_INTEGER,  /* fits int64_t */
    NUMBER_UNSIGNED, /* fits uint64_t and not int64_t */
    NUMBER_REAL,     /* a double: finite, and zero only if all digits are */
    NUMBER_DIGITS,   /* none of these: its text is all there is */
};

struct number {
    enum number_kind kind;
    bool is_plain; /* written without fraction and exponent; tells -0 from -0.0 */
    union {
        int64_t integer;
        uint64_t natural;
        double real;
    };
};

/* Why text is no number. */
enum number_fault {
    NUMBER_GOOD,
    NUMBER_NO_DIGIT,     /* a digit is missing at the place returned */
    NUMBER_LEADING_ZERO, /* a digit behind a leading 0 */
};

/**
 * Read the number that begins at `text`, as RFC 8259 spells it; nothing at or behind `end` is read.
 * Returns where it stops: behind the number, or at what is wrong.
 */
EVH_INTERNAL const char *number_read(const char *text, const char *end, struct number *number,
                                     enum number_fault *fault);

/** The double nearest to any number, infinite if it is too large; 0 for text that is none. */
EVH_INTERNAL double number_as_real(const char *text, const char *end);

enum { NUMBER_TEXT_MAX = 32 }; /* bytes that the writers below may store */

/** Write `value` in the fewest digits that read back as the same double; the nearest of them. In
 *  the form of Python's repr: 100.0, 1e+100, 1e-05. NaN and infinities are the caller's to refuse.
 *  Returns how many bytes it wrote; no NUL. */
EVH_INTERNAL size_t number_write_real(char *target, double value);
EVH_INTERNAL size_t number_write_integer(char *target, int64_t value);
EVH_INTERNAL size_t number_write_unsigned(char *target, uint64_t value);

/* ---- for number_read.c ---- */

/**
 * Round `digits` x 10^exponent to a double, exactly, where `near` is the double at or just below
 * it. `text` to `end` are the decimal digits, of which one byte may be a point, without leading
 * zeroes; `exponent` counts from the last digit.
 */
EVH_INTERNAL uint64_t number_round(const char *text, const char *end, int64_t exponent,
                                   uint64_t near);

#endif
