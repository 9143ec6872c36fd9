/* kernel_test.c -- heaps on kernels that lack what newer ones have.
 *
 * Strategy: a child whose system calls are filtered, so that they fail as on such a kernel, opens,
 * commits and closes a heap again and again.
 * Invariants: everything works, and no descriptor is left behind.
 */
#include "support/hooked_heap.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 20, IS_LEAKING = 2, IS_WRONG = 3, HAS_NO_FILTER = 4 };

/* PAGEMAP_SCAN came with Linux 6.7, and userfaultfd() may be forbidden. */
static bool filter_calls(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xc0606610u, 1, 0), /* _IOWR('f', 16, 96 bytes) */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
    };
    const struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static unsigned count_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder) return 0;
    while (readdir(folder)) count++;
    (void)closedir(folder);
    return count;
}

static void child_run(const char *path, evh_detect detect)
{
    const evh_options options = {.no_thread = true, .detect = detect};
    unsigned before = 0;
    if (!filter_calls()) _exit(HAS_NO_FILTER);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        evh_heap *heap = evh_open(path, &options);
        uint64_t *root = heap ? evh_root(heap, "root", 64) : NULL;
        if (!root || root[0] != round) _exit(IS_WRONG);
        root[0]++;
        if (evh_commit(heap) || evh_close(heap)) _exit(IS_WRONG);
        if (round == 0) before = count_descriptors();
    }
    _exit(count_descriptors() == before ? 0 : IS_LEAKING);
}

TEST(a_kernel_without_scans_of_pages_loses_nothing_and_keeps_no_descriptors)
{
    static const evh_detect asked[] = {EVH_DETECT_AUTO, EVH_DETECT_PAGEMAP, EVH_DETECT_COMPARE};
    for (unsigned i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        const char *path = test_path("heap");
        fflush(NULL);
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) child_run(path, asked[i]);
        int status = 0;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status));
        if (WEXITSTATUS(status) == HAS_NO_FILTER) SKIP("system calls cannot be filtered here");
        CHECK_EQUAL(WEXITSTATUS(status), 0);
        (void)unlink(path);
    }
}
