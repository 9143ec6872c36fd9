/* load.c -- functions of libraries that are loaded when they are first asked for, not linked. */
#include "cli.h"

#include <dlfcn.h>
#include <string.h>

bool cli_load(void **library, const char *file, const char *name, void *target, size_t size)
{
    if (!*library) *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    void *const symbol = *library ? dlsym(*library, name) : NULL;
    if (symbol) memcpy(target, &symbol, size);
    return symbol != NULL;
}
