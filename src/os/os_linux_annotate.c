/* os_linux_annotate.c -- what ASan and Valgrind are told, so that they see what the library hands
 * out: Valgrind where its header was there to compile with, ASan where the program is linked with
 * it. Without one of them at work every call is a test. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

/* ASan's own, if the program is linked with it: that this library is compiled for it is not needed.
 * (sanitizer/asan_interface.h declares them, but not weak.) */
__attribute__((weak)) void __asan_poison_memory_region(void const volatile *, size_t);
__attribute__((weak)) void __asan_unpoison_memory_region(void const volatile *, size_t);

static bool annotate_has_asan(void)
{
    return __asan_poison_memory_region != NULL && __asan_unpoison_memory_region != NULL;
}

#if defined(__has_include) && !BASE_THREAD_SANITIZER
#if __has_include(<valgrind/memcheck.h>)
#define ANNOTATE_VALGRIND 1
#include <valgrind/memcheck.h>
#endif
#endif
#ifndef ANNOTATE_VALGRIND
#define ANNOTATE_VALGRIND 0
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_MAKE_MEM_NOACCESS(address, size) ((void)0)
#define VALGRIND_MAKE_MEM_UNDEFINED(address, size) ((void)0)
#define VALGRIND_MAKE_MEM_DEFINED(address, size) ((void)(address), (void)(size), 0)
#define VALGRIND_STACK_REGISTER(start, end) ((void)(start), (void)(end), 0u)
#define VALGRIND_STACK_DEREGISTER(number) ((void)(number))
#endif

/* Whether Valgrind's Memcheck listens. Its other tools do not answer (0): what they measure is to
 * be what there is without them. */
static bool annotate_has_memcheck(void)
{
    static int known = -1; /* atomic; asked once */
    int answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (answer < 0) {
        const char byte = 0;
        answer = RUNNING_ON_VALGRIND && VALGRIND_MAKE_MEM_DEFINED(&byte, sizeof byte) != 0;
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }
    return answer != 0;
}

EVH_INTERNAL bool os_is_annotated(void)
{
    return annotate_has_asan() || annotate_has_memcheck();
}

EVH_INTERNAL void os_annotate_closed(const void *address, size_t size)
{
    if (size == 0 || !os_is_annotated()) return;
    if (annotate_has_asan()) __asan_poison_memory_region(address, size);
    if (annotate_has_memcheck()) (void)VALGRIND_MAKE_MEM_NOACCESS(address, size);
}

EVH_INTERNAL void os_annotate_open(const void *address, size_t size)
{
    if (size == 0 || !os_is_annotated()) return;
    if (annotate_has_asan()) __asan_unpoison_memory_region(address, size);
    if (annotate_has_memcheck()) (void)VALGRIND_MAKE_MEM_UNDEFINED(address, size);
}

EVH_INTERNAL void os_annotate_defined(const void *address, size_t size)
{
    if (size == 0 || !os_is_annotated()) return;
    if (annotate_has_asan()) __asan_unpoison_memory_region(address, size);
    if (annotate_has_memcheck()) (void)VALGRIND_MAKE_MEM_DEFINED(address, size);
}

EVH_INTERNAL unsigned os_annotate_stack(const void *lowest, size_t size)
{
    if (!RUNNING_ON_VALGRIND) return 0;
    const unsigned char *end = (const unsigned char *)lowest + size;
    return (unsigned)VALGRIND_STACK_REGISTER(lowest, end);
}

EVH_INTERNAL void os_annotate_stack_end(unsigned number)
{
    if (RUNNING_ON_VALGRIND) VALGRIND_STACK_DEREGISTER(number);
}
