#!/usr/bin/env python3
"""Print src/json/number_powers.h: the powers of ten that reading and writing of doubles needs.

    tools/make_powers.py > src/json/number_powers.h

Entry q is the 128 highest bits of 10^q, truncated: 10^q / 2^(floor(log2(10^q)) - 127)."""
FIRST, LAST = -342, 324


def power(q):
    if q >= 0:
        value = 10**q
        shift = value.bit_length() - 128
        return value >> shift if shift >= 0 else value << -shift
    divisor = 10**-q
    value = (1 << (divisor.bit_length() + 127)) // divisor
    return value >> (value.bit_length() - 128)


print(f"""/* number_powers.h -- powers of ten to 128 bits; made by tools/make_powers.py. */
#ifndef EVERHEAP_JSON_NUMBER_POWERS_H
#define EVERHEAP_JSON_NUMBER_POWERS_H

#include <stdint.h>

enum {{ NUMBER_POWER_FIRST = {FIRST}, NUMBER_POWER_LAST = {LAST} }};

/* Entry i: the 128 highest bits of 10^(NUMBER_POWER_FIRST + i), truncated; high word first. Exact
 * for 10^0 to 10^55. */
static const uint64_t number_powers[NUMBER_POWER_LAST - NUMBER_POWER_FIRST + 1][2] = {{""")
words = [f"{{0x{power(q) >> 64:016x}, 0x{power(q) & (1 << 64) - 1:016x}}}," for q in range(FIRST, LAST + 1)]
for i in range(0, len(words), 2):
    print("    " + " ".join(words[i:i + 2]))
print("};\n\n#endif")
