/* os_linux_fault.c -- saying what a fault means before it ends the process.
 *
 * The handler asks one function of the library whether it knows the address: a guard page of a
 * stack, say. Then it prints one line and passes the signal on, to the handler that was there
 * before or to the default action, so that whoever collects core files still gets one.
 *
 * A stack that has overflowed has no room for the handler's frame: it runs on an alternate stack,
 * which each thread has to have of its own.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_linux.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FAULT_MESSAGE_BYTES = 400, FAULT_STACK_BYTES = 64 * 1024, FAULT_SIGNALS = 2 };

static const int fault_signals[FAULT_SIGNALS] = {SIGSEGV, SIGBUS};
static struct sigaction fault_before[FAULT_SIGNALS]; /* the handlers that were there; set once */
static os_explain *fault_explain;                    /* atomic; set last */

EVH_INTERNAL void os_signal_pass_on(const struct sigaction *before, int number, void *information,
                                    void *context)
{
    siginfo_t *info = information;
    if ((before->sa_flags & SA_SIGINFO) == 0 && before->sa_handler == SIG_IGN &&
        info->si_code <= 0) {
        return; /* sent by a process, and ignored; a true fault cannot be */
    }
    if ((before->sa_flags & SA_SIGINFO) == 0 &&
        (before->sa_handler == SIG_DFL || before->sa_handler == SIG_IGN)) {
        const struct sigaction standard = {.sa_handler = SIG_DFL};
        sigaction(number, &standard, NULL);
        /* A fault comes again when we return, and ends the process where it happened. */
        if (info->si_code <= 0) raise(number);
        return;
    }
    sigset_t mask = before->sa_mask;
    sigset_t kept;
    sigdelset(&mask, SIGSEGV); /* it may store into a heap */
    pthread_sigmask(SIG_BLOCK, &mask, &kept);
    if ((before->sa_flags & SA_SIGINFO) != 0)
        before->sa_sigaction(number, info, context);
    else
        before->sa_handler(number);
    pthread_sigmask(SIG_SETMASK, &kept, NULL);
}

static void fault_print(const char *message)
{
    size_t size = 0;
    while (size < FAULT_MESSAGE_BYTES && message[size] != 0) size++;
    while (size > 0) {
        const ssize_t done = write(STDERR_FILENO, message, size);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return;
        message += done;
        size -= (size_t)done;
    }
}

static void fault_on_signal(int number, siginfo_t *info, void *context)
{
    const int kept_errno = errno;
    char message[FAULT_MESSAGE_BYTES] = "";
    os_explain *explain = __atomic_load_n(&fault_explain, __ATOMIC_ACQUIRE);
    /* A positive code is the processor's fault and has an address. */
    if (explain != NULL && info->si_code > 0 && explain(info->si_addr, message, sizeof message))
        fault_print(message);
    errno = kept_errno;
    for (unsigned i = 0; i < FAULT_SIGNALS; i++)
        if (fault_signals[i] == number) os_signal_pass_on(&fault_before[i], number, info, context);
}

EVH_INTERNAL int os_at_fault(os_explain *explain)
{
    assert(explain != NULL);
    int error = 0;
    os_process_lock();
    const bool is_new = __atomic_load_n(&fault_explain, __ATOMIC_RELAXED) == NULL;
    struct sigaction ours = {
        .sa_sigaction = fault_on_signal,
        .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART,
    };
    sigemptyset(&ours.sa_mask);
    for (unsigned i = 0; is_new && !error && i < FAULT_SIGNALS; i++)
        if (sigaction(fault_signals[i], NULL, &fault_before[i]) != 0 ||
            sigaction(fault_signals[i], &ours, NULL) != 0)
            error = errno;
    if (is_new && !error) __atomic_store_n(&fault_explain, explain, __ATOMIC_RELEASE);
    os_process_unlock();
    return error;
}

/* ---- alternate stacks ---- */

static _Thread_local bool fault_has_stack;

static void fault_end_stack(void *memory)
{
    stack_t present;
    if (sigaltstack(NULL, &present) != 0 || present.ss_sp != memory) return; /* not ours any more */
    const stack_t none = {.ss_flags = SS_DISABLE};
    if (sigaltstack(&none, NULL) != 0) return;
    munmap(memory, FAULT_STACK_BYTES);
    fault_has_stack = false;
}

EVH_INTERNAL int os_fault_stack(void)
{
    if (fault_has_stack) return 0;
    stack_t present;
    if (sigaltstack(NULL, &present) != 0) return errno;
    if ((present.ss_flags & SS_DISABLE) == 0) { /* a sanitizer's, or the program's own */
        fault_has_stack = true;
        return 0;
    }
    void *memory = mmap(NULL, FAULT_STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) return errno;
    const stack_t ours = {.ss_sp = memory, .ss_size = FAULT_STACK_BYTES};
    int error = sigaltstack(&ours, NULL) == 0 ? 0 : errno;
    if (!error) error = os_at_thread_exit(fault_end_stack, memory);
    if (error) {
        munmap(memory, FAULT_STACK_BYTES);
        return error;
    }
    fault_has_stack = true;
    return 0;
}
