/* wordcount.h -- what the word counter keeps in its heap. */
#ifndef EVERHEAP_EXAMPLES_WORDCOUNT_H
#define EVERHEAP_EXAMPLES_WORDCOUNT_H

#include <everheap.h>

/*
 * These are ordinary C structures. The one difference to a program that keeps them in malloc'ed
 * memory: a structure that the next run shall find again holds *refs* instead of pointers. A ref is
 * an offset in the file, because the file may be mapped somewhere else next time.
 *
 * EVH_REF(word) declares the struct type `word`, the ref type `word_ref`, and
 *
 *     word *word_at(heap, ref)             where it is in this process
 *     word_ref word_ref_to(heap, pointer)  what to store
 *
 * so that a word_ref in place of a source_ref does not compile. A zeroed ref is null, and its
 * address NULL, so zeroed memory is an empty list or table.
 *
 *     root "counter" -> counter --> sources: source[] --> path
 *                               \-> buckets: bucket[] --> word --> word --> ...
 */
EVH_REF(word);
EVH_REF(bucket);
EVH_REF(source);

/* A word and how often it occurred, in the list of its bucket. */
struct word {
    word_ref next;
    uint64_t count;
    uint64_t size;
    char text[];
};

/* The hash table is an array of these. */
struct bucket {
    word_ref first;
};

/* A file to count. The list is made once and kept in the heap: "the fifth file" is the same one in
 * every run, whatever happens to the directory meanwhile. */
struct source {
    evh_ref path; /* a string */
    uint64_t size;
    uint64_t modified_ns;
    uint64_t is_skipped; /* unreadable, changed since it was listed, or no text */
};

/* Where everything starts. */
struct counter {
    source_ref sources;
    uint64_t source_count;
    uint64_t next_source; /* the position: all before it are counted */
    bucket_ref buckets;
    uint64_t bucket_count;
    uint64_t word_count; /* different words */
    uint64_t total;      /* words counted */
};
typedef struct counter counter;

#define COUNTER_ROOT "counter"

#endif
