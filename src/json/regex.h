/* regex.h -- interoperable regular expressions: RFC 9485. */
#ifndef EVERHEAP_JSON_REGEX_H
#define EVERHEAP_JSON_REGEX_H

#include "base/base.h"

struct regex;

/** Prepare an expression. NULL, without an error, if it is none (or larger than 10,000 steps);
 *  `*status` is EVH_NO_MEMORY if there was none. */
EVH_INTERNAL struct regex *regex_compile(const char *text, size_t size, evh_status *status);
EVH_INTERNAL void regex_end(struct regex *regex);

/** Whether the whole text matches, or a part of it. Linear in text x expression, never more. */
EVH_INTERNAL bool regex_match(struct regex *regex, const char *text, size_t size, bool is_whole);

#endif
