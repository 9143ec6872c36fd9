/* wordcount.c -- count the words of many files; killed at any moment, the next run carries on. */
#define _POSIX_C_SOURCE 200809L
#include "text.h"
#include "wordcount.h"

#include <time.h>

/*
 *     wordcount [-v] HEAP [DIRECTORY...]
 *
 * A long job that must survive: the counts, and how far it got, live in the file HEAP. After each
 * file it commits. Kill it whenever you like and start it again: it goes on behind the last file it
 * committed, and no word is counted twice or left out, because the counts and the position are one
 * commit. There is no code for saving, loading or repairing here; wordcount.h has the structures.
 * With -v it says what it is doing (wordcount_demo.c listens, to kill it at the worst moments).
 *
 * Read main() first.
 */

enum { FIRST_BUCKETS = 1024, FREQUENT = 10 };

/* Whoever ends without a commit leaves the heap as the last commit made it: nothing to clean up. */
static void die(const char *what)
{
    fprintf(stderr, "wordcount: %s: %s\n", what, evh_last_error()->message);
    exit(1);
}

static void commit(evh_heap *heap)
{
    if (evh_commit(heap)) die("commit");
}

/* ---- the hash table ---- */

/* Twice as many buckets; each word moves to its new list. A kill in the middle of this does no
 * harm, and needs no thought: until the commit none of it has happened. */
static void grow_table(evh_heap *heap, counter *c)
{
    const uint64_t count = c->bucket_count ? 2 * c->bucket_count : FIRST_BUCKETS;
    bucket *const old_buckets = bucket_at(heap, c->buckets);
    bucket *const new_buckets = evh_calloc(heap, count, sizeof *new_buckets);
    if (!new_buckets) die("hash table");

    for (uint64_t i = 0; i < c->bucket_count; i++) {
        word *next;
        for (word *w = word_at(heap, old_buckets[i].first); w; w = next) {
            next = word_at(heap, w->next);
            bucket *const target = &new_buckets[text_hash(w->text, w->size) % count];
            w->next = target->first;
            target->first = word_ref_to(heap, w);
        }
    }
    evh_free(heap, old_buckets); /* NULL the first time, which is fine, as with free() */
    c->buckets = bucket_ref_to(heap, new_buckets);
    c->bucket_count = count;
}

static void count_word(evh_heap *heap, counter *c, const char *text, size_t size)
{
    bucket *const b = bucket_at(heap, c->buckets) + text_hash(text, size) % c->bucket_count;
    word *w = word_at(heap, b->first);
    while (w && (w->size != size || memcmp(w->text, text, size) != 0)) w = word_at(heap, w->next);
    if (!w) {
        w = evh_malloc(heap, sizeof *w + size + 1);
        if (!w) die("word");
        *w = (word){.next = b->first, .size = size};
        memcpy(w->text, text, size + 1);
        b->first = word_ref_to(heap, w);
        c->word_count++;
    }
    w->count++; /* a plain store: the commit finds out by itself what changed */
    c->total++;
}

/* ---- the files ---- */

/* Put the list of files into the heap. */
static void make_sources(evh_heap *heap, counter *c, char *const *directories, int directory_count)
{
    struct text_list *const list = text_list_make(directories, directory_count);
    if (!list || list->count == 0) {
        fprintf(stderr, "wordcount: there is no text\n");
        exit(1);
    }
    source *const sources = evh_calloc(heap, list->count, sizeof *sources);
    if (!sources) die("list of files");
    for (size_t i = 0; i < list->count; i++) {
        const struct text_file *const file = &list->files[i];
        char *const path = evh_malloc(heap, strlen(file->path) + 1);
        if (!path) die("list of files");
        memcpy(path, file->path, strlen(file->path) + 1);
        sources[i].path = evh_ref_to(heap, path);
        sources[i].size = file->size;
        sources[i].modified_ns = file->modified_ns;
    }
    c->sources = source_ref_to(heap, sources);
    c->source_count = list->count;
    text_list_free(list);
}

static void count_source(evh_heap *heap, counter *c, source *s)
{
    static char buffer[TEXT_FILE_BYTES_MAX + 1];
    if (!text_read(evh_at(heap, s->path), s->size, s->modified_ns, buffer)) {
        s->is_skipped = true;
        return;
    }
    char text[TEXT_WORD_MAX + 1];
    const char *cursor = buffer;
    for (size_t size; (size = text_next_word(&cursor, buffer + s->size, text)) > 0;) {
        if (c->word_count >= c->bucket_count) grow_table(heap, c);
        count_word(heap, c, text, size);
    }
}

/* ---- the result ---- */

/* Reading needs no calls: follow the refs as one follows pointers. */
static void print_frequent(const evh_heap *heap, const counter *c)
{
    const word *most[FREQUENT + 1] = {0}; /* sorted; one more, to push the last one out */
    const bucket *const buckets = bucket_at(heap, c->buckets);
    for (uint64_t i = 0; i < c->bucket_count; i++) {
        for (const word *w = word_at(heap, buckets[i].first); w; w = word_at(heap, w->next)) {
            int place = FREQUENT;
            for (; place > 0; place--) {
                const word *const above = most[place - 1];
                if (above && (above->count > w->count ||
                              (above->count == w->count && strcmp(above->text, w->text) < 0)))
                    break;
                most[place] = above;
            }
            most[place] = w;
        }
    }
    for (int i = 0; i < FREQUENT && most[i]; i++) {
        printf("%12llu  %s\n", (unsigned long long)most[i]->count, most[i]->text);
    }
}

/* ---- the program ---- */

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

int main(int count, char **words)
{
    char *const default_directories[] = {TEXT_DEFAULT_DIRECTORIES};
    const bool is_verbose = count > 1 && strcmp(words[1], "-v") == 0;
    char *const *const arguments = words + 1 + is_verbose;
    const int argument_count = count - 1 - is_verbose;
    if (argument_count < 1) {
        fprintf(stderr, "usage: wordcount [-v] HEAP [DIRECTORY...]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* each line is out before the next step begins */

    /* Open the heap. Whatever happened to the run before, this is its last commit. */
    if (is_verbose) printf("opening\n");
    const double begin = now_ms();
    evh_heap *const heap = evh_open(arguments[0], NULL);
    if (!heap) die("open");
    const double opening_ms = now_ms() - begin;

    /* From the root all else is found: it has a name, and is made of zero bytes the first time. */
    counter *const c = evh_root(heap, COUNTER_ROOT, sizeof *c);
    if (!c) die("root");

    /* The first time there is nothing yet. Growing the table first makes the buckets never null. */
    if (c->source_count == 0) {
        const bool has_directories = argument_count > 1;
        make_sources(heap, c, has_directories ? arguments + 1 : default_directories,
                     has_directories ? argument_count - 1 : 2);
        grow_table(heap, c);
        commit(heap);
    }
    if (is_verbose) printf("resumed %llu %.3f\n", (unsigned long long)c->next_source, opening_ms);

    /* Count a file, move on, commit: words, position and table become durable together. */
    source *const sources = source_at(heap, c->sources);
    while (c->next_source < c->source_count) {
        if (is_verbose) printf("file %llu\n", (unsigned long long)c->next_source);
        count_source(heap, c, &sources[c->next_source]);
        c->next_source++;
        commit(heap);
    }
    if (is_verbose) printf("done\n");
    print_frequent(heap, c);
    if (evh_close(heap)) die("close");
    return 0;
}
