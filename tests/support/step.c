/* step.c -- a process is stepped through an operation, and what it would leave is looked at. */
#include "support/step.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 512 << 20, POINTS_MAX = 20000000 };

enum phase { BEFORE, INSIDE, BEHIND };

/* A file that is watched: its pages, and a copy of what they were. */
struct watched {
    const char *path;
    bool exists;
    dev_t device;
    ino_t inode;
    size_t size;
    unsigned char *pages; /* mapped, `size` bytes */
    struct step_image image;
    size_t capacity; /* of image.bytes */
};

struct run {
    const struct step_plan *plan;
    struct step_result *result;
    struct watched files[STEP_FILES_MAX];
    pid_t child;
    volatile uint32_t *phase; /* shared with the child */
};

/* ---- files ---- */

/* Look whether the path names another file now, or one of another size. */
static void watched_refresh(struct watched *file)
{
    struct stat status;
    const bool exists = file->path && stat(file->path, &status) == 0;
    if (exists == file->exists &&
        (!exists || (status.st_ino == file->inode && status.st_dev == file->device &&
                     (size_t)status.st_size == file->size)))
        return;
    if (file->pages) munmap(file->pages, file->size);
    file->pages = NULL;
    file->exists = exists;
    file->size = 0;
    if (!exists) return;
    file->inode = status.st_ino;
    file->device = status.st_dev;
    file->size = (size_t)status.st_size;
    if (file->size > FILE_BYTES_MAX) abort();
    const int descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) abort();
    if (file->size) {
        file->pages = mmap(NULL, file->size, PROT_READ, MAP_SHARED, descriptor, 0);
        if (file->pages == MAP_FAILED) abort();
    }
    close(descriptor);
}

/* Copy [first, end) if it changed. */
static bool watched_copy_range(struct watched *file, size_t first, size_t end, bool is_certain)
{
    if (first >= end) return false;
    unsigned char *to = file->image.bytes + first;
    const unsigned char *from = file->pages + first;
    if (!is_certain && memcmp(to, from, end - first) == 0) return false;
    memcpy(to, from, end - first);
    return true;
}

/* Copy what changed. Returns whether anything did. */
static bool watched_copy(struct watched *file)
{
    struct step_image *image = &file->image;
    const bool is_other = image->exists != file->exists || image->size != file->size;
    if (file->size > file->capacity) {
        image->bytes = realloc(image->bytes, file->size);
        if (!image->bytes) abort();
        file->capacity = file->size;
    }
    image->exists = file->exists;
    image->size = file->size;
    const size_t first = image->skip.first < file->size ? (size_t)image->skip.first : file->size;
    const bool low = watched_copy_range(file, 0, first, is_other);
    const bool high = watched_copy_range(file, (size_t)image->skip.end, file->size, is_other);
    return is_other || low || high;
}

static void watched_end(struct watched *file)
{
    if (file->pages) munmap(file->pages, file->size);
    free(file->image.bytes);
}

/* ---- instructions ---- */

#if defined(__x86_64__)

/*
 * Whether the instruction at `code` may store into memory other than the stack. Those that are
 * known not to are those that compilers emit most; of all others it is believed. The child is a
 * fork of this process: its code is ours. (Intel's manual, volume 2, appendix A: opcode maps.)
 */
static bool may_store(const unsigned char *code)
{
    static const unsigned char harmless[] = {0x03, 0x0b, 0x13, 0x1b, 0x23, 0x2b, 0x33, 0x38, 0x39,
                                             0x3a, 0x3b, 0x3c, 0x3d, 0x63, 0x84, 0x85, 0x8a, 0x8b,
                                             0x8d, 0x90, 0xa8, 0xa9, 0xc3, 0xe8, 0xe9, 0xeb, 0x69,
                                             0x6b, 0x05, 0x0d, 0x25, 0x2d, 0x35, 0x98, 0x99};
    static const unsigned char storing[] = {/* to their operand, a register or memory */
                                            0x01, 0x09, 0x21, 0x29, 0x31, 0x81, 0x83, 0x88,
                                            0x89, 0xc1, 0xc7, 0xd1, 0xd3, 0xf7, 0xff};
    while (*code == 0x66 || *code == 0xf2 || *code == 0xf3) code++;
    const unsigned char rex = (*code & 0xf0) == 0x40 ? *code++ : 0;
    const unsigned char opcode = *code;
    if ((opcode & 0xf0) == 0x50 || (opcode & 0xf0) == 0x70 || (opcode & 0xf0) == 0xb0) return false;
    if (memchr(harmless, opcode, sizeof harmless)) return false;
    if (opcode == 0x0f) { /* conditional jumps and moves, extending moves, bit scans */
        const unsigned char second = code[1];
        return (second & 0xf0) != 0x80 && (second & 0xf0) != 0x40 && second != 0x1f &&
               second != 0xaf && second != 0xb6 && second != 0xb7 && (second & 0xfc) != 0xbc;
    }
    if (!memchr(storing, opcode, sizeof storing)) return true;
    const bool is_register = code[1] >> 6 == 3;
    const bool is_stack = (code[1] & 7) == 4 && (code[2] & 7) == 4 && !(rex & 1);
    return !is_register && !is_stack;
}

/* Where the child is, and whether its next instruction is a system call. */
static const unsigned char *next_instruction(pid_t child)
{
    errno = 0;
    const long place = ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, regs.rip), NULL);
    return errno ? NULL : (const unsigned char *)(uintptr_t)place;
}

static bool is_system_call(const unsigned char *code)
{
    return code[0] == 0x0f && code[1] == 0x05;
}

#else

static bool may_store(const unsigned char *code)
{
    (void)code;
    return true;
}

static const unsigned char *next_instruction(pid_t child)
{
    (void)child;
    return NULL;
}

static bool is_system_call(const unsigned char *code)
{
    (void)code;
    return true;
}

#endif

/* ---- stepping ---- */

__attribute__((noreturn)) static void child_run(const struct run *run)
{
    const struct step_plan *plan = run->plan;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL)) _exit(2);
    plan->prepare(plan->context);
    raise(SIGSTOP);
    *run->phase = INSIDE;
    plan->operate(plan->context);
    *run->phase = BEHIND;
    raise(SIGSTOP);
    _exit(0);
}

static bool problem(struct run *run, const char *what)
{
    snprintf(run->result->problem, sizeof run->result->problem, "at point %llu: %s",
             (unsigned long long)run->result->points, what);
    return false;
}

/* Take an image, if it is another one, and have it judged. */
static bool look(struct run *run)
{
    struct step_image images[STEP_FILES_MAX];
    bool changed = run->result->images == 0;
    for (unsigned i = 0; i < STEP_FILES_MAX; i++) {
        if (watched_copy(&run->files[i])) changed = true;
        images[i] = run->files[i].image;
    }
    if (!changed) return true;
    run->result->images++;
    const char *wrong = run->plan->judge(images, run->plan->context);
    return wrong ? problem(run, wrong) : true;
}

static void refresh(struct run *run)
{
    for (unsigned i = 0; i < STEP_FILES_MAX; i++) watched_refresh(&run->files[i]);
}

/* One instruction. Returns whether the child goes on; `*fine` whether all is well. */
static bool step_once(struct run *run, bool *fine)
{
    const unsigned char *code = next_instruction(run->child);
    int status = 0;
    if (ptrace(PTRACE_SINGLESTEP, run->child, NULL, NULL) ||
        waitpid(run->child, &status, 0) != run->child || !WIFSTOPPED(status)) {
        *fine = problem(run, "the child ended by itself");
        return false;
    }
    /* Its own SIGSTOP at the end, and what others send it without meaning harm. */
    const int signal = WSTOPSIG(status);
    if (signal != SIGTRAP && signal != SIGSTOP && signal != SIGCHLD && signal != SIGCONT) {
        char what[64];
        snprintf(what, sizeof what, "the child got signal %d", signal);
        *fine = problem(run, what);
        return false;
    }
    if (*run->phase == BEFORE) return true;
    /* A repeated instruction (a copy of many bytes) is one point, however often it stops. */
    if (!code || code != next_instruction(run->child)) run->result->points++;
    if (code && is_system_call(code)) refresh(run);
    if (!code || run->plan->compares_always || may_store(code)) *fine = look(run);
    return *fine && *run->phase == INSIDE && run->result->points < POINTS_MAX;
}

static bool step_all(struct run *run)
{
    int status = 0;
    bool fine = true;
    do { /* children of its own may have ended */
        if (waitpid(run->child, &status, 0) != run->child || !WIFSTOPPED(status))
            return problem(run, "the child did not get to the operation");
    } while ((WSTOPSIG(status) == SIGCHLD || WSTOPSIG(status) == SIGCONT) &&
             !ptrace(PTRACE_CONT, run->child, NULL, NULL));
    if (WSTOPSIG(status) != SIGSTOP) return problem(run, "the child got a signal");
    if (run->plan->skip) run->files[0].image.skip = *run->plan->skip;
    refresh(run);
    if (!look(run)) return false;
    while (step_once(run, &fine)) {
    }
    if (!fine) return false;
    refresh(run);
    return look(run);
}

/* Step the child to its place, or to its end. */
static bool step_to(struct run *run, uint64_t stop_at)
{
    int status = 0;
    while (*run->phase != BEHIND) {
        const unsigned char *code = next_instruction(run->child);
        if (*run->phase == INSIDE) {
            run->result->points++;
            if ((!code || may_store(code)) && ++run->result->stores == stop_at) return true;
        }
        if (ptrace(PTRACE_SINGLESTEP, run->child, NULL, NULL) ||
            waitpid(run->child, &status, 0) != run->child || !WIFSTOPPED(status))
            return problem(run, "the child ended by itself");
        const int signal = WSTOPSIG(status);
        if (signal != SIGTRAP && signal != SIGSTOP && signal != SIGCHLD && signal != SIGCONT)
            return problem(run, "the child got a signal");
    }
    return true;
}

/* Let the child go on until it has done all. */
static bool step_out(struct run *run)
{
    int status = 0;
    while (*run->phase != BEHIND)
        if (ptrace(PTRACE_CONT, run->child, NULL, NULL) ||
            waitpid(run->child, &status, 0) != run->child || !WIFSTOPPED(status))
            return problem(run, "the child ended by itself, beside others");
    return true;
}

static bool step_beside(struct run *run, uint64_t stop_at, const struct step_others *others)
{
    int status = 0;
    do { /* children of its own may have ended */
        if (waitpid(run->child, &status, 0) != run->child || !WIFSTOPPED(status))
            return problem(run, "the child did not get to the operation");
    } while ((WSTOPSIG(status) == SIGCHLD || WSTOPSIG(status) == SIGCONT) &&
             !ptrace(PTRACE_CONT, run->child, NULL, NULL));
    if (WSTOPSIG(status) != SIGSTOP) return problem(run, "the child got a signal");
    if (!step_to(run, stop_at)) return false;
    const char *wrong = others->beside(run->plan->context);
    if (wrong) return problem(run, wrong);
    if (!step_out(run)) return false;
    wrong = others->behind(run->plan->context);
    return wrong ? problem(run, wrong) : true;
}

static bool step_child(const struct step_plan *plan, uint64_t stop_at,
                       const struct step_others *others, struct step_result *result)
{
    *result = (struct step_result){0};
    struct run run = {.plan = plan, .result = result};
    run.phase = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run.phase == MAP_FAILED) abort();
    for (unsigned i = 0; i < STEP_FILES_MAX; i++) run.files[i].path = plan->paths[i];
    fflush(NULL);
    run.child = fork();
    if (run.child == 0) child_run(&run);
    const bool fine =
        run.child > 0 && (others ? step_beside(&run, stop_at, others) : step_all(&run));
    if (run.child > 0) {
        kill(run.child, SIGKILL);
        waitpid(run.child, NULL, 0);
    }
    for (unsigned i = 0; i < STEP_FILES_MAX; i++) watched_end(&run.files[i]);
    munmap((void *)(uintptr_t)run.phase, 4096);
    return fine;
}

bool step_run(const struct step_plan *plan, struct step_result *result)
{
    return step_child(plan, 0, NULL, result);
}

bool step_run_beside(const struct step_plan *plan, uint64_t stop_at,
                     const struct step_others *others, struct step_result *result)
{
    return step_child(plan, stop_at, others, result);
}

/* A loop of exclusive loads and stores, which is what atomic operations are on older processors for
 * aarch64, begins anew after each step: it would never end. */
static bool has_atomics(void)
{
#ifdef __aarch64__
    return (getauxval(AT_HWCAP) & HWCAP_ATOMICS) != 0;
#else
    return true;
#endif
}

static bool is_stepped(void)
{
    int status = 0;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL)) _exit(1);
        raise(SIGSTOP);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return false;
    const bool stepped = ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0 &&
                         waitpid(child, &status, 0) == child && WIFSTOPPED(status);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return stepped;
}

const char *step_obstacle(void)
{
    if (!has_atomics()) return "the processor has no atomic instructions (LSE) to step over";
    return is_stepped() ? NULL : "ptrace does not step through a program here";
}
