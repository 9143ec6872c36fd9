/* autopsy.h -- what `everheap autopsy` found: collected by autopsy.c, printed by the others. */
#ifndef EVERHEAP_CLI_AUTOPSY_H
#define EVERHEAP_CLI_AUTOPSY_H

#include "cli.h"

enum { AUTOPSY_DEPTH, AUTOPSY_LIMIT, AUTOPSY_SINCE, AUTOPSY_WITH, AUTOPSY_LOG, AUTOPSY_HTML };
enum { AUTOPSY_AGES = 4, AUTOPSY_COMMITS = 16, AUTOPSY_CELL_BYTES = 65536, AUTOPSY_TEXT = 96 };

/* Blocks that are alike: of one type, or of a kind that the library knows. */
struct autopsy_kind {
    char name[EVH_NAME_SIZE_MAX + 1];
    uint64_t blocks, bytes;
    uint64_t orphans, orphan_bytes;
};

struct autopsy_root {
    evh_root_info root;
    size_t kind;
    uint64_t blocks, bytes; /* that are nearest to it */
};

struct autopsy_block {
    uint64_t offset, size;
    size_t kind;
    char site[EVH_NAME_SIZE_MAX + 1]; /* where it was allocated, if a log tells; "" */
};

struct autopsy_bad {
    uint64_t offset;
    size_t kind;
    char field[AUTOPSY_TEXT];
    uint64_t value;
    evh_dangling_kind why;
};

/* A line of what is below a root: an object, or a field of one. */
struct autopsy_line {
    uint64_t depth;
    uint64_t offset; /* of an object; 0: a field */
    char text[2 * AUTOPSY_TEXT];
};

/* How the blocks of a kind, nearest to a root, changed. */
struct autopsy_delta {
    int64_t root;
    size_t kind;
    uint64_t made, freed, changed, changed_bytes;
};

/* 64 KiB of the heap. */
struct autopsy_cell {
    uint64_t live_bytes, orphan_bytes;
    size_t kind;         /* of its largest part */
    uint64_t kind_bytes; /* that part */
    unsigned age;        /* 0: changed by the last commit, ... AUTOPSY_AGES: not by those that are
                            remembered */
};

struct autopsy_report {
    const struct cli_request *request;
    evh_autopsy_info info;
    evh_commit_info commits[AUTOPSY_COMMITS]; /* the last, oldest first */
    uint64_t commit_count;
    struct autopsy_kind *kinds;
    size_t kind_count;
    struct autopsy_root *roots;
    size_t root_count;
    struct autopsy_block *orphans; /* the first of all */
    size_t orphan_count;
    struct autopsy_bad *bad;
    size_t bad_count;
    struct autopsy_line *lines;
    size_t line_count;
    bool is_limited; /* there was more below the roots */
    struct autopsy_delta *deltas;
    size_t delta_count;
    uint64_t since; /* the commit that the heap is compared with; 0: none */
    struct autopsy_cell *cells;
    size_t cell_count;
    evh_debug_operation *operations; /* the last of the log */
    size_t operation_count;
    size_t collecting; /* index of the cell, orphan, ... that a visit is at */
    evh_autopsy *autopsy;
};

void autopsy_text(const char *path, const struct autopsy_report *report);
void autopsy_json(FILE *file, const char *path, const struct autopsy_report *report);
void autopsy_html(FILE *file, const char *path, const struct autopsy_report *report);

/** The name of a root: of a tagged one "#tag". Static, valid until the next call. */
const char *autopsy_root_name(const struct autopsy_report *report, int64_t root);
/** Why a reference is no good. Static. */
const char *autopsy_why(evh_dangling_kind why);

extern const char *const autopsy_page[]; /* lines of the page before and behind the data */

#endif
