/* sweep_test.c -- the n-th system call and the n-th allocation fails, for all n.
 *
 * Strategy: a heap's whole life (create, allocate, commit, grow, roll back, checkpoint, trim, group
 * commit, close, open, die, recover) runs against the real system, whose n-th call fails, once or
 * from then on (support/os_fail.h). Then the failure is over and the heap is opened again.
 * Invariants: nothing crashes or hangs; evh_check finds nothing; the content is that of the last
 * acknowledged commit or of one begun later that did not fail, and all of one commit; no
 * descriptor, map or memory is lost; a call that failed says why.
 */
#include "journal/journal_internal.h"
#include "support/os_fail.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCKS = 8, COMMITS_MAX = 64, SWEEP_MAX = 20000 };

/* The heap's root. The blocks carry the number of the commit, all over. */
struct state {
    uint64_t number;
    evh_ref blocks[BLOCKS];
    uint64_t sizes[BLOCKS];
};

/* One life and what may be left of it. */
struct life {
    const char *path;
    evh_options options;
    evh_heap *heap;
    uint64_t number;       /* of the last commit that was begun */
    uint64_t acknowledged; /* the last of those */
    bool failed[COMMITS_MAX];
    bool must_succeed; /* nothing is going to fail */
};

static void life_expect(const struct life *life, bool is_right)
{
    if (life->must_succeed && !is_right) {
        test_fail(__FILE__, __LINE__, "without a failure: %s", evh_last_error()->message);
        test_stop();
    }
}

static bool life_is_poisoned(const struct life *life)
{
    evh_info info;
    return evh_get_info(life->heap, &info) != EVH_OK || info.is_poisoned;
}

static void life_open(struct life *life)
{
    life->heap = evh_open(life->path, &life->options);
    life_expect(life, life->heap);
    if (!life->heap) CHECK(evh_last_error()->status != EVH_OK);
}

/* Where the number is: in every page, of large blocks in every 16th. */
static uint64_t stride_of(uint64_t size)
{
    return size > 65536 ? 65536 : 4096;
}

/* The number goes into every page of the state. */
static bool life_write(struct life *life)
{
    struct state *state = evh_root(life->heap, "state", sizeof *state);
    life_expect(life, state);
    if (!state) return false;
    state->number = life->number;
    for (int i = 0; i < BLOCKS; i++) {
        unsigned char *block = evh_at(life->heap, state->blocks[i]);
        for (uint64_t at = 0; block && at + 8 <= state->sizes[i]; at += stride_of(state->sizes[i]))
            memcpy(block + at, &life->number, sizeof life->number);
    }
    return true;
}

static void life_allocate(struct life *life, int i, size_t size)
{
    struct state *state = evh_root(life->heap, "state", sizeof *state);
    if (!state) return;
    unsigned char *block = evh_malloc(life->heap, size);
    life_expect(life, block);
    if (!block) return;
    evh_free(life->heap, evh_at(life->heap, state->blocks[i]));
    state->blocks[i] = evh_ref_to(life->heap, block);
    state->sizes[i] = size;
    for (uint64_t at = 0; at + 8 <= size; at += stride_of(size))
        memcpy(block + at, &state->number, sizeof state->number);
}

static void life_commit(struct life *life, bool is_group)
{
    if (!life->heap || life->number + 1 >= COMMITS_MAX) return;
    life->number++;
    evh_ticket ticket = 0;
    evh_status status = EVH_IO;
    if (!life_write(life)) {
        life->failed[life->number] = true;
        return;
    }
    status = is_group ? evh_commit_begin(life->heap, &ticket) : evh_commit(life->heap);
    if (is_group && !status) status = evh_commit_wait(life->heap, ticket);
    life_expect(life, !status);
    if (!status) life->acknowledged = life->number;
    if (status) CHECK_EQUAL(evh_last_error()->status, status);
    if (status && !life_is_poisoned(life)) life->failed[life->number] = true;
}

static void life_roll_back(struct life *life)
{
    if (!life->heap) return;
    life_allocate(life, 0, 5000);
    (void)evh_root(life->heap, "lost", 100);
    const evh_status status = evh_rollback(life->heap);
    life_expect(life, !status);
    if (!status) CHECK(!evh_root_find(life->heap, "lost", NULL));
}

static void life_end(struct life *life, bool is_killed)
{
    if (is_killed) os_fail_kill();
    const evh_status status = evh_close(life->heap);
    if (is_killed)
        os_fail_revive();
    else
        life_expect(life, !status);
    life->heap = NULL;
}

static void life_run(struct life *life)
{
    static const size_t sizes[BLOCKS] = {64, 200, 3000, 9000, 20000, 500, 40, 7000};
    life_open(life);
    for (int i = 0; i < BLOCKS && life->heap; i++) life_allocate(life, i, sizes[i]);
    for (int i = 0; i < 4; i++) life_commit(life, i % 2);
    if (life->heap) {
        life_allocate(life, 1, 300000);
        life_allocate(life, 2, 1500000);
        life_commit(life, false);
        life_expect(life, !evh_checkpoint(life->heap));
        life_roll_back(life);
        life_allocate(life, 2, 100);
        life_commit(life, true);
        life_expect(life, !evh_checkpoint(life->heap));
        life_expect(life, !evh_trim(life->heap, NULL));
        for (int i = 0; i < 6; i++) life_commit(life, false);
        life_end(life, false);
    }
    life_open(life);
    life_commit(life, false);
    life_commit(life, true);
    if (life->heap) life_end(life, true);
    life_open(life);
    life_commit(life, false);
    if (life->heap) life_end(life, false);
}

/* The failure is over: what is there? */
static void life_verify(struct life *life, const char *what)
{
    evh_options options = life->options;
    options.must_exist = true;
    evh_heap *heap = evh_open(life->path, &options);
    if (!heap && evh_last_error()->status == EVH_NOT_FOUND && life->acknowledged == 0) return;
    if (!heap || evh_check(heap, NULL, NULL)) {
        test_fail(__FILE__, __LINE__, "%s: %s", what, evh_last_error()->message);
        test_stop();
    }
    const struct state *state = evh_root_find(heap, "state", NULL);
    const uint64_t number = state ? state->number : 0;
    if (number < life->acknowledged || number > life->number || life->failed[number]) {
        test_fail(__FILE__, __LINE__, "%s: commit %llu is there; acknowledged %llu, begun %llu%s",
                  what, (unsigned long long)number, (unsigned long long)life->acknowledged,
                  (unsigned long long)life->number,
                  number < COMMITS_MAX && life->failed[number] ? ", and it failed" : "");
        test_stop();
    }
    for (int i = 0; state && i < BLOCKS; i++) {
        const unsigned char *block = evh_at(heap, state->blocks[i]);
        for (uint64_t at = 0; block && at + 8 <= state->sizes[i];
             at += stride_of(state->sizes[i])) {
            uint64_t found;
            memcpy(&found, block + at, sizeof found);
            CHECK_EQUAL(found, number);
        }
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static struct life life_new(const char *path, bool has_thread, evh_detect detect)
{
    return (struct life){.path = path,
                         .options = {.no_thread = !has_thread,
                                     .detect = detect,
                                     .size_max_bytes = 64 << 20,
                                     .checkpoint_bytes = 64 << 10}};
}

static void check_account(const struct os_fail_account *before, const char *what)
{
    const struct os_fail_account now = os_fail_account();
    if (memcmp(&now, before, sizeof now) == 0) return;
    test_fail(__FILE__, __LINE__,
              "%s: leaked %lld files, %lld reservations, %lld memory, %lld mutexes, %lld watches",
              what, (long long)(now.files - before->files),
              (long long)(now.reservations - before->reservations),
              (long long)(now.memory - before->memory), (long long)(now.mutexes - before->mutexes),
              (long long)(now.watches - before->watches));
    test_stop();
}

/* Thousands of lives flush a hundred times each: that is for memory, where there is some. */
static char in_memory[64];

static void swept_remove(void)
{
    unlink(in_memory);
}

static const char *swept_path(const char *name)
{
    if (access("/dev/shm", W_OK)) return test_path(name);
    if (!in_memory[0]) atexit(swept_remove); /* also when a check fails */
    snprintf(in_memory, sizeof in_memory, "/dev/shm/everheap-%s-%d", name, (int)getpid());
    unlink(in_memory);
    return in_memory;
}

/* A life whose n-th call of the kinds fails. False: it has fewer calls. */
static bool sweep_one(unsigned kinds, uint64_t n, int error, bool is_sticky, bool has_thread,
                      evh_detect detect)
{
    const char *path = swept_path("swept");
    char what[128];
    struct life life = life_new(path, has_thread, detect);
    const struct os_fail_account before = os_fail_account();
    os_fail_at(kinds, n, error, is_sticky);
    life_run(&life);
    const bool struck = os_fail_struck();
    snprintf(what, sizeof what, "call %llu, %s, error %d, %s", (unsigned long long)n,
             os_fail_name(), error, is_sticky ? "and all later ones" : "once");
    os_fail_at(0, 0, 0, false);
    life_verify(&life, what);
    check_account(&before, what);
    unlink(path);
    return struck;
}

/* All n. */
static void sweep(unsigned kinds, int error, bool is_sticky, bool has_thread, evh_detect detect)
{
    os_fail_use();
    os_fail_at(0, 0, 0, false);
    /* A first life without failure: it must succeed, and the library keeps what it keeps for
     * ever. */
    struct life life = life_new(swept_path("swept"), has_thread, detect);
    life.must_succeed = true;
    life_run(&life);
    life_verify(&life, "without failure");
    unlink(life.path);
    const char *from = getenv("SWEEP_FROM"); /* to repeat one call's failure */
    uint64_t n = from ? strtoull(from, NULL, 0) : 1;
    while (n < SWEEP_MAX && sweep_one(kinds, n, error, is_sticky, has_thread, detect)) n++;
    os_fail_end();
    CHECK(n > 20);
    CHECK(n < SWEEP_MAX);
    printf("    %llu calls, each failed\n", (unsigned long long)n - 1);
}

TEST(any_one_system_call_may_fail_with_an_input_output_error)
{
    sweep(OS_FAIL_SYSTEM, EIO, false, false, EVH_DETECT_AUTO);
}

TEST(all_system_calls_from_any_one_on_may_fail_with_an_input_output_error)
{
    sweep(OS_FAIL_SYSTEM, EIO, true, false, EVH_DETECT_AUTO);
}

TEST(the_disk_may_be_full_at_any_one_call)
{
    sweep(OS_FAIL_WRITE | OS_FAIL_SPACE | OS_FAIL_OPEN, ENOSPC, false, false, EVH_DETECT_AUTO);
}

TEST(the_disk_may_be_full_from_any_one_call_on)
{
    sweep(OS_FAIL_WRITE | OS_FAIL_SPACE | OS_FAIL_OPEN, ENOSPC, true, false, EVH_DETECT_AUTO);
}

TEST(any_one_flush_may_fail)
{
    sweep(OS_FAIL_FLUSH, EIO, false, false, EVH_DETECT_AUTO);
    sweep(OS_FAIL_FLUSH, ENOSPC, true, false, EVH_DETECT_AUTO);
}

TEST(any_one_allocation_may_fail)
{
    sweep(OS_FAIL_MEMORY | OS_FAIL_MAP, ENOMEM, false, false, EVH_DETECT_AUTO);
}

TEST(all_allocations_from_any_one_on_may_fail)
{
    sweep(OS_FAIL_MEMORY | OS_FAIL_MAP, ENOMEM, true, false, EVH_DETECT_AUTO);
}

TEST(any_one_call_may_fail_beside_the_background_thread)
{
    sweep(OS_FAIL_SYSTEM | OS_FAIL_MEMORY, EIO, false, true, EVH_DETECT_AUTO);
}

TEST(any_one_call_may_fail_where_pages_are_compared)
{
    sweep(OS_FAIL_WRITE | OS_FAIL_FLUSH | OS_FAIL_SPACE | OS_FAIL_MEMORY, EIO, false, false,
          EVH_DETECT_COMPARE);
}

/* Commits of few pages are large ones here. */
TEST(any_one_call_may_fail_where_new_pages_are_written_home_at_once)
{
    journal_bulk_pages_min = 8;
    sweep(OS_FAIL_SYSTEM, EIO, false, false, EVH_DETECT_AUTO);
    sweep(OS_FAIL_WRITE | OS_FAIL_SPACE, ENOSPC, false, false, EVH_DETECT_AUTO);
    sweep(OS_FAIL_WRITE | OS_FAIL_SPACE, ENOSPC, true, false, EVH_DETECT_AUTO);
    sweep(OS_FAIL_FLUSH, EIO, false, false, EVH_DETECT_COMPARE);
    sweep(OS_FAIL_MEMORY | OS_FAIL_MAP, ENOMEM, false, false, EVH_DETECT_AUTO);
}

/* ---- below the contract: interrupted and short calls ----
 *
 * The program's own definitions of these functions come before the C library's. */

static bool interrupts;
static uint64_t interrupted_calls;

static bool interrupt(void)
{
    if (!__atomic_load_n(&interrupts, __ATOMIC_RELAXED)) return false;
    if (__atomic_add_fetch(&interrupted_calls, 1, __ATOMIC_RELAXED) % 3 == 0) return false;
    errno = EINTR;
    return true;
}

/* Some calls move only a part. */
static size_t shortened(size_t size)
{
    if (!__atomic_load_n(&interrupts, __ATOMIC_RELAXED) || size < 2) return size;
    return interrupted_calls % 2 ? size : 1 + interrupted_calls * 797 % (size - 1);
}

ssize_t pread(int file, void *buffer, size_t size, off_t offset)
{
    return interrupt() ? -1 : syscall(SYS_pread64, file, buffer, shortened(size), offset);
}

ssize_t pwrite(int file, const void *buffer, size_t size, off_t offset)
{
    return interrupt() ? -1 : syscall(SYS_pwrite64, file, buffer, shortened(size), offset);
}

ssize_t pwritev2(int file, const struct iovec *vectors, int count, off_t offset, int flags)
{
    if (interrupt()) return -1;
    struct iovec first = vectors[0];
    first.iov_len = shortened(first.iov_len);
    if (first.iov_len < vectors[0].iov_len)
        return syscall(SYS_pwritev2, file, &first, 1, offset, 0L, flags);
    return syscall(SYS_pwritev2, file, vectors, count, offset, 0L, flags);
}

int fdatasync(int file)
{
    return interrupt() ? -1 : (int)syscall(SYS_fdatasync, file);
}

int fsync(int file)
{
    return interrupt() ? -1 : (int)syscall(SYS_fsync, file);
}

TEST(interrupted_and_short_calls_are_invisible)
{
    for (int has_thread = 0; has_thread < 2; has_thread++) {
        struct life life = life_new(test_path("interrupted"), has_thread, EVH_DETECT_AUTO);
        life.must_succeed = true;
        os_fail_use();
        interrupts = true;
        interrupted_calls = 0;
        life_run(&life);
        life_verify(&life, "interrupted");
        interrupts = false;
        os_fail_end();
        CHECK(interrupted_calls > 100);
    }
}
