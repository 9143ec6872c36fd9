/* wordindex.c -- in which lines of which texts a word occurs, kept in order across runs.
 *
 * Usage: wordindex FILE add TEXT-FILE | find WORD | prefix BEGINNING
 *
 * A tree from words to vecs of places: a prefix is a range of it.
 */
#include <everheap.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct place {
    evh_symbol text; /* the name of its file, there once */
    uint32_t line;
};

EVH_VEC(places, struct place);

struct word_index {
    evh_tree words;      /* word -> places */
    evh_symbols sources; /* names of files */
};

static int fail(void)
{
    fprintf(stderr, "wordindex: %s\n", evh_last_error()->message);
    return 1;
}

static bool add_word(evh_heap *heap, struct word_index *index, const char *word, size_t size,
                     struct place place)
{
    places *const all = evh_tree_put_bytes(heap, &index->words, word, size, sizeof *all);
    return all && places_push(heap, all, place);
}

/* Add the words of a line: letters and digits, in lower case. */
static bool add_line(evh_heap *heap, struct word_index *index, const char *line, struct place place)
{
    char word[64];
    size_t size = 0;
    for (;; line++) {
        const bool is_letter = isalnum((unsigned char)*line) != 0;
        if (is_letter && size < sizeof word) word[size++] = (char)tolower((unsigned char)*line);
        if (is_letter) continue;
        if (size > 0 && !add_word(heap, index, word, size, place)) return false;
        size = 0;
        if (*line == 0) return true;
    }
}

static bool add_file(evh_heap *heap, struct word_index *index, const char *path)
{
    FILE *const file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "wordindex: cannot open %s\n", path);
        return true;
    }
    struct place place = {evh_symbol_intern(heap, &index->sources, path, strlen(path)), 0};
    bool is_fine = place.text != 0;
    char line[4096];
    while (is_fine && fgets(line, sizeof line, file)) {
        place.line++;
        is_fine = add_line(heap, index, line, place);
    }
    fclose(file);
    return is_fine;
}

static void show(evh_heap *heap, const struct word_index *index, const evh_tree_cursor *word)
{
    size_t count;
    const struct place *const all = places_data(heap, word->value, &count);
    printf("%s:", word->bytes);
    for (size_t i = 0; i < count; i++)
        printf(" %s:%u", evh_symbol_text(heap, &index->sources, all[i].text, NULL), all[i].line);
    printf("\n");
}

/* All words from `begin` on that begin with it; only itself if `is_whole`. */
static void find(evh_heap *heap, const struct word_index *index, const char *begin, bool is_whole)
{
    evh_tree_cursor word;
    evh_tree_seek_bytes(heap, &index->words, &word, begin, strlen(begin));
    while (evh_tree_next(heap, &index->words, &word)) {
        if (strncmp(word.bytes, begin, strlen(begin)) != 0) break;
        if (is_whole && word.size != strlen(begin)) break;
        show(heap, index, &word);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: wordindex FILE add TEXT-FILE | find WORD | prefix BEGINNING\n");
        return 2;
    }
    evh_heap *const heap = evh_open(argv[1], NULL);
    struct word_index *const index = heap ? evh_root(heap, "index", sizeof *index) : NULL;
    if (!index) return fail();
    if (strcmp(argv[2], "add") == 0) {
        if (!add_file(heap, index, argv[3]) || evh_commit(heap)) return fail();
    } else {
        find(heap, index, argv[3], strcmp(argv[2], "find") == 0);
    }
    return evh_close(heap) ? fail() : 0;
}
