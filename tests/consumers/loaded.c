/* loaded.c -- a program that loads the library while it runs, as interpreters do.
 *
 * None of the library's variables of threads may need more than a thread that is there has left. */
#include <everheap.h>

#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **arguments)
{
    if (count != 3) return 2;
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    evh_heap *(*open)(const char *, const evh_options *);
    void *(*root)(evh_heap *, const char *, size_t);
    evh_status (*commit)(evh_heap *), (*close)(evh_heap *);
    *(void **)&open = dlsym(library, "evh_open");
    *(void **)&root = dlsym(library, "evh_root");
    *(void **)&commit = dlsym(library, "evh_commit");
    *(void **)&close = dlsym(library, "evh_close");
    if (!open || !root || !commit || !close) return 1;
    evh_heap *heap = open(arguments[2], NULL);
    unsigned *runs = heap ? root(heap, "runs", sizeof *runs) : NULL;
    if (!runs || (++*runs, commit(heap)) || (printf("run %u\n", *runs), close(heap))) return 1;
    return 0;
}
