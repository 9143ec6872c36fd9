/* os_linux_exit.c -- what a thread does when it ends. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

#include <errno.h>
#include <pthread.h>

enum { EXIT_MAX = 4 };

/* One key for each function, made at its first use and kept. */
static struct {
    void (*run)(void *); /* atomic: the slot is taken when it is not NULL */
    pthread_key_t key;
    int is_ready; /* atomic */
} exit_slots[EXIT_MAX];

/* The slot of `exit`, made if it is not there; NULL if there is no key for it. */
static pthread_key_t *exit_key(void (*exit)(void *))
{
    for (unsigned i = 0; i < EXIT_MAX; i++)
        if (__atomic_load_n(&exit_slots[i].run, __ATOMIC_ACQUIRE) == exit &&
            __atomic_load_n(&exit_slots[i].is_ready, __ATOMIC_ACQUIRE) != 0)
            return &exit_slots[i].key;

    pthread_key_t *key = NULL;
    os_process_lock();
    for (unsigned i = 0; i < EXIT_MAX && key == NULL; i++) {
        if (exit_slots[i].run != NULL && exit_slots[i].run != exit) continue;
        if (exit_slots[i].is_ready == 0) {
            if (pthread_key_create(&exit_slots[i].key, exit) != 0) break;
            __atomic_store_n(&exit_slots[i].run, exit, __ATOMIC_RELEASE);
            __atomic_store_n(&exit_slots[i].is_ready, 1, __ATOMIC_RELEASE);
        }
        key = &exit_slots[i].key;
    }
    os_process_unlock();
    return key;
}

EVH_INTERNAL int os_at_thread_exit(void (*exit)(void *), void *value)
{
    assert(exit != NULL);
    assert(value != NULL); /* the system does not call for a null value */

    const pthread_key_t *key = exit_key(exit);
    if (key == NULL) return ENOMEM;
    return pthread_setspecific(*key, value) == 0 ? 0 : ENOMEM;
}
