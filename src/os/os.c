/* os.c -- which system the library runs on: the table `os`. */
#include "os/os.h"

#include "os/os_linux.h"

EVH_INTERNAL const struct os_calls *os = &os_linux_calls;

EVH_INTERNAL void os_use(const struct os_calls *calls)
{
    os = calls != NULL ? calls : &os_linux_calls;
    assert(os->open != NULL);
    assert(os->watch_collect != NULL);
}

EVH_INTERNAL const struct os_calls *os_linux(void)
{
    return &os_linux_calls;
}
