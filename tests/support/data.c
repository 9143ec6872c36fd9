/* data.c -- published test data, where it is there. */
#include "data.h"
#include "test.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *data_in(const char *folder, const char *name)
{
    static char paths[4][1024];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return access(path, R_OK) == 0 ? path : NULL;
}

const char *data_path(const char *name)
{
    const char *folder = getenv("EVERHEAP_TEST_DATA");
    const char *path = folder ? data_in(folder, name) : NULL;
    DIR *beside = path ? NULL : opendir("..");
    for (struct dirent *entry; !path && beside && (entry = readdir(beside));) {
        char other[600];
        if (entry->d_name[0] == '.') continue;
        snprintf(other, sizeof other, "../%s/data", entry->d_name);
        path = data_in(other, name);
    }
    if (beside) closedir(beside);
    if (!path) test_skip("the test data is not here: set EVERHEAP_TEST_DATA to its folder");
    return path;
}

char *data_read(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*size + 1);
    CHECK(text != NULL);
    CHECK(fread(text, 1, *size, file) == *size);
    text[*size] = 0;
    fclose(file);
    return text;
}

size_t data_each(const char *folder,
                 void (*visit)(const char *name, const char *path, void *context), void *context)
{
    DIR *directory = opendir(folder);
    CHECK(directory != NULL);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[1200];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        visit(entry->d_name, path, context);
        count++;
    }
    closedir(directory);
    return count;
}
