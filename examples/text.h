/* text.h -- find the text files under directories, in a fixed order, and split them into words. */
#ifndef EVERHEAP_EXAMPLES_TEXT_H
#define EVERHEAP_EXAMPLES_TEXT_H

/*
 * Nothing here knows about heaps: the counter that keeps its counts in a heap (wordcount.c) and the
 * one that keeps them in ordinary memory (wordcount_demo.c) read the same text with this.
 */

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Enough text for a demonstration of some seconds, whatever directory it is pointed at. */
enum {
    TEXT_FILES_MAX = 2500,
    TEXT_BYTES_MAX = 48 << 20,
    TEXT_FILE_BYTES_MAX = 256 << 10,
    TEXT_DEPTH_MAX = 16,
    TEXT_WORD_MAX = 63,
};

/* Documentation and licences, present on any Debian system. */
#define TEXT_DEFAULT_DIRECTORIES "/usr/share/common-licenses", "/usr/share/doc"

struct text_file {
    char *path; /* owned */
    uint64_t size;
    uint64_t modified_ns;
};

struct text_list {
    struct text_file files[TEXT_FILES_MAX];
    size_t count;
    uint64_t bytes;
};

static inline uint64_t text_modified_ns(const struct stat *status)
{
    return (uint64_t)status->st_mtim.tv_sec * 1000000000u + (uint64_t)status->st_mtim.tv_nsec;
}

static inline bool text_is_full(const struct text_list *list)
{
    return list->count >= TEXT_FILES_MAX || list->bytes >= TEXT_BYTES_MAX;
}

/* Whether it may be text for people: neither compressed nor a picture, a page or a program. */
static inline bool text_has_wanted_name(const char *name)
{
    static const char *const unwanted[] = {".gz",  ".xz",  ".html", ".css", ".js", ".json",
                                           ".svg", ".xml", ".png",  ".pdf", ".po"};
    const char *const suffix = strrchr(name, '.');
    for (size_t i = 0; suffix && i < sizeof unwanted / sizeof unwanted[0]; i++) {
        if (strcmp(suffix, unwanted[i]) == 0) return false;
    }
    return name[0] != '.';
}

/* Byte order, the same in every locale. */
static inline int text_compare_names(const struct dirent **left, const struct dirent **right)
{
    return strcmp((*left)->d_name, (*right)->d_name);
}

/* Add the files under `directory`, sorted by name, those of a subdirectory in its place. */
static inline void text_list_add(struct text_list *list, const char *directory, int depth)
{
    struct dirent **entries = NULL;
    const int count = scandir(directory, &entries, NULL, text_compare_names);
    for (int i = 0; i < count; i++) {
        const char *const name = entries[i]->d_name;
        char path[4096];
        struct stat status;
        const int length = snprintf(path, sizeof path, "%s/%s", directory, name);
        const bool is_wanted = name[0] != '.' && length < (int)sizeof path && !text_is_full(list) &&
                               lstat(path, &status) == 0;
        if (is_wanted && S_ISDIR(status.st_mode) && depth < TEXT_DEPTH_MAX) {
            text_list_add(list, path, depth + 1);
        } else if (is_wanted && S_ISREG(status.st_mode) && status.st_size > 0 &&
                   status.st_size <= TEXT_FILE_BYTES_MAX && text_has_wanted_name(name)) {
            struct text_file *const file = &list->files[list->count];
            file->path = strdup(path);
            file->size = (uint64_t)status.st_size;
            file->modified_ns = text_modified_ns(&status);
            if (file->path) {
                list->count++;
                list->bytes += file->size;
            }
        }
        free(entries[i]);
    }
    free(entries);
}

/* The text files under `directories`: the same list whenever the same files are there. Owned: end
 * it with text_list_free(). NULL if there is no memory. */
static inline struct text_list *text_list_make(char *const *directories, int directory_count)
{
    struct text_list *const list = calloc(1, sizeof *list);
    if (!list) return NULL;
    for (int i = 0; i < directory_count; i++) text_list_add(list, directories[i], 0);
    return list;
}

static inline void text_list_free(struct text_list *list)
{
    if (!list) return;
    for (size_t i = 0; i < list->count; i++) free(list->files[i].path);
    free(list);
}

/*
 * Read a whole file into `buffer`. False if it is not the file that was listed (its size or time of
 * modification differ), cannot be read, or is no text (it has a zero byte): then it is skipped.
 */
static inline bool text_read(const char *path, uint64_t size, uint64_t modified_ns,
                             char buffer[TEXT_FILE_BYTES_MAX + 1])
{
    struct stat status;
    if (size > TEXT_FILE_BYTES_MAX || stat(path, &status)) return false;
    if ((uint64_t)status.st_size != size || text_modified_ns(&status) != modified_ns) return false;
    FILE *const file = fopen(path, "rb");
    if (!file) return false;
    const size_t count = fread(buffer, 1, size + 1, file);
    fclose(file);
    return count == size && !memchr(buffer, 0, size);
}

static inline bool text_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/*
 * The next word from `*cursor` on, in lower case: a run of ASCII letters. Longer runs than a word
 * may be (they are not words but encoded data) are passed over. Returns its size, 0 at the end.
 */
static inline size_t text_next_word(const char **cursor, const char *end,
                                    char word[TEXT_WORD_MAX + 1])
{
    const char *next = *cursor;
    size_t size = 0;
    while (next < end && size == 0) {
        while (next < end && !text_is_letter(*next)) next++;
        const char *const start = next;
        while (next < end && text_is_letter(*next)) next++;
        size = (size_t)(next - start);
        if (size > TEXT_WORD_MAX) size = 0;
        for (size_t i = 0; i < size; i++) word[i] = (char)(start[i] | 0x20);
    }
    word[size] = 0;
    *cursor = next;
    return size;
}

/* FNV-1a: short, and good enough for words. */
static inline uint64_t text_hash(const char *word, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)word[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

#endif
