/* watch_signal_test.c -- the SIGSEGV handler of tier PROTECT and the program's own handlers.
 *
 * The library installs its handler once in a process: each test does everything in a child, and no
 * test of this file protects anything before.
 */
#include "os/os.h"
#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile unsigned char *slice;

/* Protect a slice of memory; NULL if this system lacks the tier. */
static struct os_watch *protect_slice(void)
{
    struct os_watch *watch;
    slice = mmap(NULL, SLICE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *base = (void *)(uintptr_t)slice;
    if (os->watch_open(base, SLICE_BYTES, EVH_DETECT_PROTECT, false, &watch) != 0) return NULL;
    return os->watch_add(watch, 0, SLICE_BYTES) == 0 ? watch : NULL;
}

static bool slice_is_dirty(struct os_watch *watch)
{
    const struct os_pages *runs;
    size_t run_count;
    bool is_exact;
    return os->watch_collect(watch, SLICE_BYTES, &runs, &run_count, &is_exact) == 0 &&
           run_count == 1 && runs[0].first == 0 && runs[0].count == SLICE_PAGES;
}

static volatile sig_atomic_t chained;
static void *chained_page;

static void chained_handler(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_addr != chained_page) _exit(3);
    chained++;
    mprotect(chained_page, PAGE_BYTES, PROT_READ | PROT_WRITE);
}

/* In a child: the handler of the process is set once. */
static int chain_to_the_handler_before(void)
{
    struct sigaction action = {.sa_sigaction = chained_handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    chained_page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct os_watch *watch = protect_slice();
    if (watch == NULL) return 0;

    slice[5] = 1;
    *(volatile unsigned char *)chained_page = 1;
    const bool is_found = slice_is_dirty(watch);

    os->watch_close(watch);
    return chained == 1 && is_found ? 0 : 1;
}

static int fault_that_is_nobodys(void)
{
    alarm(20); /* a handler that returns for ever would hang */
    if (protect_slice() == NULL) raise(SIGSEGV);
    slice[5] = 1;
    void *nothing = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(volatile unsigned char *)nothing = 1;
    return 0;
}

static int in_child(int (*run)(void))
{
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(run());
    int status = -1;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return status;
}

TEST(a_fault_of_the_program_goes_to_its_own_handler)
{
    CHECK_EQUAL(in_child(chain_to_the_handler_before), 0);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER
#endif
#endif

TEST(a_fault_that_is_nobodys_kills_the_program)
{
#ifdef HAS_SANITIZER
    SKIP("sanitizers catch the signal");
#endif
    const int status = in_child(fault_that_is_nobodys);
    CHECK(WIFSIGNALED(status));
    CHECK_EQUAL(WTERMSIG(status), SIGSEGV);
}

/* Handlers that were there before, of each form. */
static void plain_handler(int number)
{
    (void)number;
    mprotect(chained_page, PAGE_BYTES, PROT_READ | PROT_WRITE);
    slice[9] = 1; /* it may store into a heap itself */
    chained++;
}

static int chain_to_a_plain_handler(void)
{
    signal(SIGSEGV, plain_handler);
    chained_page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct os_watch *watch = protect_slice();
    if (watch == NULL) return 0;
    *(volatile unsigned char *)chained_page = 1;
    return chained == 1 && slice_is_dirty(watch) ? 0 : 1;
}

TEST(a_handler_that_the_fault_is_passed_to_may_store_into_a_heap)
{
#ifdef HAS_SANITIZER
    SKIP("ThreadSanitizer blocks all signals in handlers");
#endif
    CHECK_EQUAL(in_child(chain_to_a_plain_handler), 0);
}

static int a_signal_that_was_sent(void)
{
    alarm(20);
    signal(SIGSEGV, SIG_IGN);
    if (protect_slice() == NULL) return 0;
    raise(SIGSEGV); /* ignored before, ignored now */
    slice[5] = 1;
    return 0;
}

TEST(a_signal_that_was_sent_and_ignored_stays_ignored)
{
    CHECK_EQUAL(in_child(a_signal_that_was_sent), 0);
}

static int store_on_an_alternate_stack(void)
{
    static unsigned char stack[65536];
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    struct os_watch *watch = protect_slice();
    if (watch == NULL) return 0;
    slice[5] = 1;
    bool is_used = false;
    for (size_t i = 0; i < sizeof stack; i++) is_used = is_used || stack[i] != 0;
    return is_used && slice_is_dirty(watch) ? 0 : 1;
}

TEST(the_handler_runs_on_the_threads_alternate_stack)
{
    CHECK_EQUAL(in_child(store_on_an_alternate_stack), 0);
}

static int read_a_protected_page(void)
{
    alarm(20);
    struct os_watch *watch = protect_slice();
    if (watch == NULL) raise(SIGSEGV);
    union {
        unsigned char *data;
        void (*code)(void);
    } jump = {.data = (unsigned char *)(uintptr_t)slice};
    jump.code(); /* no store: not ours, though the address is */
    return 0;
}

TEST(a_jump_into_a_protected_page_kills_the_program)
{
#ifdef HAS_SANITIZER
    SKIP("sanitizers catch the signal");
#endif
#ifndef __x86_64__
    SKIP("only x86-64 tells a jump from a store here");
#endif
    const int status = in_child(read_a_protected_page);
    CHECK(WIFSIGNALED(status));
    CHECK_EQUAL(WTERMSIG(status), SIGSEGV);
}
