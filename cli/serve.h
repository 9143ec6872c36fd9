/* serve.h -- what the files of `everheap serve` share. */
#ifndef EVERHEAP_CLI_SERVE_H
#define EVERHEAP_CLI_SERVE_H

#include "cli.h"

/* What is answered to a request. */
struct serve_answer {
    unsigned status; /* of HTTP */
    const char *type;
    char *text; /* owned: free() */
    size_t size;
};

/* What a request asked for: what stands behind the token, and the values behind the question
 * mark. */
struct serve_question {
    const char *heap_path;
    const char *what;
    const char *path; /* "" where one was not given */
    const char *text;
    uint64_t skip;
};

/** The answer to a question (serve_answer.c). Looks at the heap anew each time. */
struct serve_answer serve_reply(const struct serve_question *question);

/** The page that asks the questions (serve_page.html). */
extern const char serve_page[];

#endif
