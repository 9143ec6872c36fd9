/* os_linux_exit.c -- what a thread does when it ends. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

#include <errno.h>
#include <pthread.h>

static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;
static void (*exit_run)(void *);
static int exit_error;

static void exit_make_key(void)
{
    exit_error = pthread_key_create(&exit_key, __atomic_load_n(&exit_run, __ATOMIC_ACQUIRE));
}

EVH_INTERNAL int os_at_thread_exit(void (*exit)(void *), void *value)
{
    assert(exit != NULL);
    assert(value != NULL); /* the system does not call for a null value */

    void (*none)(void *) = NULL;
    (void)__atomic_compare_exchange_n(&exit_run, &none, exit, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_ACQUIRE);
    assert(__atomic_load_n(&exit_run, __ATOMIC_ACQUIRE) == exit);
    (void)pthread_once(&exit_once, exit_make_key);
    if (exit_error != 0) return ENOMEM;
    return pthread_setspecific(exit_key, value) == 0 ? 0 : ENOMEM;
}
