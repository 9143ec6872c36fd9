#!/usr/bin/env python3
"""Print src/json/regex_categories.h: the general category of every Unicode code point.

    tools/make_categories.py > src/json/regex_categories.h

One word for each run of code points of one category: where it begins, and the category, which is its
place in NAMES."""
import sys
import unicodedata

NAMES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cs Cn".split()
runs, last = [], None
for code in range(sys.maxunicode + 1):
    category = NAMES.index(unicodedata.category(chr(code)))
    if category != last:
        runs.append(code << 5 | category)
        last = category

print(f"""/* regex_categories.h -- general categories of Unicode; made by tools/make_categories.py. */
#ifndef EVERHEAP_JSON_REGEX_CATEGORIES_H
#define EVERHEAP_JSON_REGEX_CATEGORIES_H

#include <stdint.h>

/* Unicode {unicodedata.unidata_version}. Two letters each: the names of the categories, by number. */
static const char regex_category_names[] = "{''.join(NAMES)}";

/* Where a run begins (shifted by 5), and its category. */
/* clang-format off */
static const uint32_t regex_category_runs[{len(runs)}] = {{""")
words = [f"0x{run:x}," for run in runs]
line = "   "
for word in words:
    if len(line) + 1 + len(word) > 100:
        print(line)
        line = "   "
    line += " " + word
print(line)
print("};\n/* clang-format on */\n\n#endif")
