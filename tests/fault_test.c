/* fault_test.c -- what does not write a heap: the n-th system call of it fails, for all n.
 *
 * Strategy: as sweep_test.c does it for the life of a heap that is written. Here a reader opens,
 * looks, checks, lists, hashes, refreshes; a heap is saved; heaps live in memory. The n-th call of
 * some kinds fails, once or from then on, or a read ends early as if the file did.
 * Invariants: a call succeeds with the right answer, or says why it failed; a file that is read
 * stays what it was; a file that is saved is whole or not there; nothing leaks.
 */
#include "heap/heap.h"
#include "support/os_fail.h"
#include "support/raw_heap.h"

#include <stdlib.h>
#include <unistd.h>

enum { COMMITS = 70, FAULTS_MAX = 5000 };

/* What all lives are about: a heap, and what is right about it. */
struct subject {
    const char *path;   /* the file that is read */
    const char *target; /* the file that is made */
    evh_heap *heap;     /* an open one: beside which it is read, or which is saved */
    bool is_written;    /* the life may change the file, but not what it says */
    evh_mode mode;
    unsigned char digest[32];
    uint64_t value, commits;
    struct file_bytes content;
};

/* A life says whether it went well; if not, the thread's last error says why. */
typedef evh_status life(struct subject *subject);

/* ---- files to read ---- */

static const evh_options writing = {
    .no_thread = true, .size_max_bytes = 64 << 20, .misuse = EVH_MISUSE_STATUS};

static evh_status subject_fill(evh_heap *heap, uint64_t value)
{
    uint64_t *number = evh_root(heap, "number", sizeof *number);
    evh_ref *blocks = number ? evh_root(heap, "blocks", 8 * sizeof *blocks) : NULL;
    if (!blocks) return evh_last_error()->status;
    *number = value;
    for (unsigned i = 0; i < 8; i++) {
        const size_t size = (size_t)24 << (i * 12 / 7); /* small to large: 96 KiB */
        if (blocks[i].offset) continue;
        const evh_status status = evh_malloc_to(heap, &blocks[i], size);
        if (status) return status;
        memset(evh_at(heap, blocks[i]), (int)i + 1, size);
    }
    return EVH_OK;
}

static evh_heap *subject_open(const char *path, const evh_options *options)
{
    evh_heap *heap = evh_open(path, options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

/* `is_killed`: its last COMMITS commits wait in the journal. */
static struct subject subject_make(const char *name, evh_mode mode, bool is_killed)
{
    struct subject subject = {.path = test_path(name), .mode = mode, .value = COMMITS};
    os_fail_use();
    evh_heap *heap = subject_open(subject.path, &writing);
    CHECK_EQUAL(subject_fill(heap, 0), EVH_OK);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    for (uint64_t i = 1; i <= COMMITS; i++) {
        CHECK_EQUAL(subject_fill(heap, i), EVH_OK);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    CHECK_EQUAL(evh_digest(heap, subject.digest), EVH_OK);
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    if (is_killed) os_fail_kill();
    const evh_status status = evh_close(heap);
    CHECK(is_killed || !status);
    os_fail_revive();
    subject.commits = is_killed ? info.commit_sequence - info.checkpoint_sequence : 0;
    subject.content = file_bytes_read(subject.path);
    return subject;
}

static void subject_end(struct subject *subject)
{
    file_bytes_end(&subject->content);
    os_fail_end();
}

/* ---- the sweep ---- */

static void fault_account(const struct os_fail_account *before, const char *what)
{
    const struct os_fail_account now = os_fail_account();
    if (memcmp(&now, before, sizeof now) == 0) return;
    test_fail(__FILE__, __LINE__, "%s: leaked %lld files, %lld reservations, %lld memory", what,
              (long long)(now.files - before->files),
              (long long)(now.reservations - before->reservations),
              (long long)(now.memory - before->memory));
    test_stop();
}

/* What was saved is all there, or nothing is. */
static void fault_target(const struct subject *subject, evh_status status)
{
    if (!subject->target) return;
    evh_heap *heap = evh_open(subject->target, &(evh_options){.mode = EVH_READ_ONLY});
    if (!heap) {
        CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
        CHECK(status != EVH_OK);
        return;
    }
    unsigned char digest[32];
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_digest(heap, digest), EVH_OK);
    CHECK(memcmp(digest, subject->digest, sizeof digest) == 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK(unlink(subject->target) == 0);
}

/* Whether a call failed. */
static bool fault_one(life *run, struct subject *subject, unsigned kinds, uint64_t n, int error,
                      bool is_sticky)
{
    const struct os_fail_account before = os_fail_account();
    char what[128];
    os_fail_at(kinds, n, error, is_sticky);
    (void)base_fail(EVH_UNSUPPORTED, NO_OFFSET, "none");
    const evh_status status = run(subject);
    const evh_error why = *evh_last_error();
    const bool struck = os_fail_struck();
    snprintf(what, sizeof what, "call %llu, %s, error %d, %s", (unsigned long long)n,
             os_fail_name(), error, is_sticky ? "and all later ones" : "once");
    os_fail_at(0, 0, 0, false);
    /* Only a file that ends early may look damaged. */
    const bool is_wrong = status == EVH_CORRUPT && !(kinds & OS_FAIL_SHORT);
    if (status && (!struck || why.status != status || !why.message[0] || is_wrong)) {
        test_fail(__FILE__, __LINE__, "%s: %s: %s", what, evh_status_name(status), why.message);
        test_stop();
    }
    fault_account(&before, what);
    if (subject->content.bytes && !subject->heap && !subject->is_written &&
        !file_bytes_are_same(subject->path, &subject->content)) {
        test_fail(__FILE__, __LINE__, "%s: the file has changed", what);
        test_stop();
    }
    fault_target(subject, status);
    return struck;
}

static void fault_sweep(life *run, struct subject *subject, unsigned kinds, int error,
                        bool is_sticky)
{
    uint64_t n = 1;
    while (n < FAULTS_MAX && fault_one(run, subject, kinds, n, error, is_sticky)) n++;
    CHECK(n > 1);
    CHECK(n < FAULTS_MAX);
}

static void fault_sweeps(life *run, struct subject *subject)
{
    CHECK_EQUAL(run(subject), EVH_OK); /* the library keeps what it keeps for ever */
    if (subject->target) CHECK(unlink(subject->target) == 0);
    fault_sweep(run, subject, OS_FAIL_SYSTEM | OS_FAIL_MEMORY, EIO, false);
    fault_sweep(run, subject, OS_FAIL_MEMORY | OS_FAIL_MAP, ENOMEM, true);
}

static void fault_sweeps_reads(life *run, struct subject *subject)
{
    fault_sweeps(run, subject);
    fault_sweep(run, subject, OS_FAIL_READ, EIO, true);
    fault_sweep(run, subject, OS_FAIL_SHORT, EIO, false);
    fault_sweep(run, subject, OS_FAIL_SHORT, EIO, true);
}

/* What a life returns after it has tidied up: its first failure, as the thread's last error too. */
static evh_status fault_result(const evh_error *why, evh_status status, evh_status closed)
{
    return status ? base_fail(status, why->offset, "%s", why->message) : closed;
}

/* ---- reading ---- */

static bool count_commit(const evh_commit_info *commit, void *context)
{
    CHECK(commit->sequence > 0);
    (*(uint64_t *)context)++;
    return true;
}

static bool count_finding(const evh_finding *finding, void *context)
{
    CHECK(finding->status != EVH_OK);
    CHECK(finding->message[0] != 0);
    (*(uint64_t *)context)++;
    return true;
}

/* The heap says what it should, or why not. `is_newest`: it shows the newest commit. */
static evh_status look(const struct subject *subject, evh_heap *heap, bool is_newest)
{
    unsigned char digest[32];
    uint64_t commits = 0, findings = 0;
    const uint64_t *number = evh_root_find(heap, "number", NULL);
    if (!number) return evh_last_error()->status;
    CHECK(*number <= subject->value);
    if (is_newest) CHECK_EQUAL(*number, subject->value);
    evh_status status = evh_log(heap, count_commit, &commits);
    if (!status && is_newest) CHECK_EQUAL(commits, subject->commits);
    evh_info info;
    if (!status) status = evh_get_info(heap, &info);
    if (!status) status = evh_digest(heap, digest);
    if (!status && is_newest) CHECK(memcmp(digest, subject->digest, sizeof digest) == 0);
    if (status) return status;
    status = evh_check(heap, count_finding, &findings);
    if (findings) CHECK(status != EVH_OK);
    return status;
}

static evh_status life_of_reader(struct subject *subject)
{
    const evh_options options = {.mode = subject->mode, .size_max_bytes = 64 << 20};
    evh_heap *heap = evh_open(subject->path, &options);
    if (!heap) return evh_last_error()->status;
    /* Beside a writer whose status page cannot be read, the view is of an older commit. */
    evh_status status = look(subject, heap, !subject->heap);
    if (!status && subject->mode == EVH_READ_ONLY) status = evh_refresh(heap);
    const uint64_t *number = status ? NULL : evh_root_find(heap, "number", NULL);
    if (!status && !number) status = evh_last_error()->status;
    if (number && !subject->heap) CHECK_EQUAL(*number, subject->value);
    const evh_error why = *evh_last_error();
    return fault_result(&why, status, evh_close(heap));
}

TEST(any_call_of_a_reader_may_fail)
{
    for (int is_killed = 0; is_killed < 2; is_killed++) {
        struct subject subject = subject_make("read", EVH_READ_ONLY, is_killed);
        fault_sweeps_reads(life_of_reader, &subject);
        subject_end(&subject);
    }
}

TEST(any_call_of_a_private_heap_may_fail)
{
    struct subject subject = subject_make("private", EVH_PRIVATE, true);
    fault_sweeps_reads(life_of_reader, &subject);
    subject_end(&subject);
}

TEST(any_call_of_a_reader_beside_a_writer_may_fail)
{
    struct subject subject = subject_make("beside", EVH_READ_ONLY, true);
    subject.heap = subject_open(subject.path, &writing);
    fault_sweeps_reads(life_of_reader, &subject);
    CHECK_EQUAL(look(&subject, subject.heap, true), EVH_OK);
    CHECK_EQUAL(evh_close(subject.heap), EVH_OK);
    subject_end(&subject);
}

static evh_status life_of_looker(struct subject *subject)
{
    return look(subject, subject->heap, true);
}

TEST(any_call_of_a_writer_that_looks_at_its_heap_may_fail)
{
    struct subject subject = subject_make("looker", EVH_DURABLE, true);
    subject.heap = subject_open(subject.path, &writing);
    CHECK_EQUAL(life_of_looker(&subject), EVH_OK);
    for (int is_sticky = 0; is_sticky < 2; is_sticky++) {
        fault_sweep(life_of_looker, &subject, OS_FAIL_READ | OS_FAIL_MEMORY, EIO, is_sticky);
        fault_sweep(life_of_looker, &subject, OS_FAIL_SHORT, EIO, is_sticky);
    }
    CHECK_EQUAL(life_of_looker(&subject), EVH_OK);
    CHECK_EQUAL(evh_close(subject.heap), EVH_OK);
    subject_end(&subject);
}

/* Recovery that succeeds is followed by a kill, and by the file as the first killed writer left it.
 * One that fails late has brought home what it recovered. */
static evh_status life_of_recoverer(struct subject *subject)
{
    evh_options options = writing;
    options.must_exist = true;
    evh_heap *heap = evh_open(subject->path, &options);
    if (!heap) return evh_last_error()->status;
    const uint64_t *number = evh_root_find(heap, "number", NULL);
    const evh_status status = number ? EVH_OK : evh_last_error()->status;
    if (number) CHECK_EQUAL(*number, subject->value);
    const evh_error why = *evh_last_error();
    os_fail_kill();
    (void)evh_close(heap);
    os_fail_revive();
    file_bytes_write(subject->path, &subject->content);
    return fault_result(&why, status, EVH_OK);
}

TEST(any_call_of_a_recovery_may_fail)
{
    struct subject subject = subject_make("recover", EVH_DURABLE, true);
    subject.is_written = true;
    fault_sweeps(life_of_recoverer, &subject);
    fault_sweep(life_of_recoverer, &subject, OS_FAIL_READ | OS_FAIL_OPEN, EIO, true);
    subject_end(&subject);
}

/* ---- saving ---- */

static evh_status life_of_saver(struct subject *subject)
{
    return evh_save(subject->heap, subject->target);
}

TEST(a_save_that_fails_leaves_no_half_a_file)
{
    struct subject subject = subject_make("save", EVH_DURABLE, true);
    subject.heap = subject_open(subject.path, &writing);
    subject.target = test_path("saved");
    fault_sweeps(life_of_saver, &subject);
    fault_sweep(life_of_saver, &subject, OS_FAIL_SYSTEM, ENOSPC, true);
    fault_sweep(life_of_saver, &subject, OS_FAIL_SHORT, EIO, false);
    CHECK_EQUAL(evh_close(subject.heap), EVH_OK);
    subject_end(&subject);
}

TEST(a_save_over_a_file_that_fails_leaves_the_old_file_or_the_new_one)
{
    struct subject subject = subject_make("save", EVH_DURABLE, false);
    const char *target = test_path("over");
    evh_heap *heap = subject_open(subject.path, &writing);
    bool struck = true;
    for (uint64_t n = 1; struck; n++) {
        CHECK_EQUAL(subject_fill(heap, 1), EVH_OK);
        CHECK_EQUAL(evh_save(heap, target), EVH_OK);
        CHECK_EQUAL(subject_fill(heap, 2), EVH_OK);
        os_fail_at(OS_FAIL_SYSTEM, n, EIO, false);
        const evh_status status = evh_save(heap, target);
        struck = os_fail_struck();
        os_fail_at(0, 0, 0, false);
        evh_heap *saved = subject_open(target, &(evh_options){.mode = EVH_READ_ONLY});
        const uint64_t number = *(uint64_t *)evh_root_find(saved, "number", NULL);
        CHECK(number == 2 || (number == 1 && status));
        CHECK(struck || !status);
        CHECK_EQUAL(evh_check(saved, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(saved), EVH_OK);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    subject_end(&subject);
}

TEST(a_save_of_an_image_that_fails_leaves_no_half_a_file)
{
    struct subject subject = {.target = test_path("small")};
    os_fail_use();
    subject.heap = evh_open_memory(NULL, 20000, NULL);
    CHECK(subject.heap != NULL);
    CHECK(evh_root(subject.heap, "number", 8) != NULL);
    CHECK_EQUAL(evh_digest(subject.heap, subject.digest), EVH_OK);
    fault_sweep(life_of_saver, &subject, OS_FAIL_SYSTEM, EIO, false);
    fault_sweep(life_of_saver, &subject, OS_FAIL_SYSTEM, ENOSPC, true);
    CHECK_EQUAL(evh_close(subject.heap), EVH_OK);
    os_fail_end();
}

/* ---- images ---- */

enum { IMAGE_NUMBER = 7 };

/* An image's heap holds the number. */
static evh_status look_at_image(const struct subject *subject, evh_heap *heap)
{
    unsigned char digest[32];
    const uint64_t *number = evh_root_find(heap, "number", NULL);
    if (!number) return evh_last_error()->status;
    CHECK_EQUAL(*number, IMAGE_NUMBER);
    evh_status status = evh_digest(heap, digest);
    if (!status) CHECK(memcmp(digest, subject->digest, sizeof digest) == 0);
    if (!status) status = evh_check(heap, NULL, NULL);
    return status;
}

static void image_fill(struct subject *subject, evh_heap *heap)
{
    CHECK(heap != NULL);
    uint64_t *number = evh_root(heap, "number", sizeof *number);
    CHECK(number != NULL);
    *number = IMAGE_NUMBER;
    CHECK_EQUAL(evh_digest(heap, subject->digest), EVH_OK);
}

static evh_status life_of_image(struct subject *subject)
{
    evh_heap *heap = evh_open(subject->path, &(evh_options){.mode = subject->mode});
    if (!heap) return evh_last_error()->status;
    const evh_status status = look_at_image(subject, heap);
    const evh_error why = *evh_last_error();
    return fault_result(&why, status, evh_close(heap));
}

TEST(any_call_of_an_image_that_is_read_from_a_file_may_fail)
{
    struct subject subject = {.path = test_path("image")};
    os_fail_use();
    evh_heap *heap = evh_open_memory(NULL, 20000, NULL);
    image_fill(&subject, heap);
    CHECK_EQUAL(evh_save(heap, subject.path), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    subject.content = file_bytes_read(subject.path);
    subject.mode = EVH_PRIVATE;
    fault_sweeps_reads(life_of_image, &subject);
    subject.mode = EVH_READ_ONLY;
    fault_sweeps_reads(life_of_image, &subject);
    subject_end(&subject);
}

/* The buffer of a heap in memory. */
static void *buffer;
static uint64_t buffer_bytes;

static evh_status life_in_buffer(struct subject *subject)
{
    evh_heap *heap = evh_open_memory(buffer, buffer_bytes, &(evh_options){.must_exist = true});
    if (!heap) return evh_last_error()->status;
    const evh_status status = look_at_image(subject, heap);
    const evh_error why = *evh_last_error();
    return fault_result(&why, status, evh_close(heap));
}

TEST(any_call_of_a_heap_in_a_buffer_may_fail)
{
    static const uint64_t sizes[] = {20000, 4 << 20};
    os_fail_use();
    for (size_t i = 0; i < 2; i++) {
        struct subject subject = {0};
        buffer_bytes = sizes[i];
        CHECK_EQUAL(os->reserve(4 << 20, SLICE_BYTES, 0, &buffer), 0);
        CHECK_EQUAL(os->map(buffer, 4 << 20, OS_MAP_ANONYMOUS, -1, 0), 0);
        evh_heap *heap = evh_open_memory(buffer, buffer_bytes, &(evh_options){.must_create = true});
        image_fill(&subject, heap);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        fault_sweeps(life_in_buffer, &subject);
        CHECK_EQUAL(life_in_buffer(&subject), EVH_OK);
        CHECK_EQUAL(os->release(buffer, 4 << 20), 0);
    }
    os_fail_end();
}

/* ---- memory ---- */

static evh_status memory_use(evh_heap *heap)
{
    unsigned char digest[32];
    evh_status status = subject_fill(heap, 1);
    if (status) return status;
    void *block = evh_aligned_alloc(heap, 4096, 100);
    if (!block) return evh_last_error()->status;
    void *grown = evh_realloc(heap, block, 70000);
    if (!grown) return evh_last_error()->status;
    evh_free(heap, grown);
    void *large = evh_malloc(heap, 3 << 20);
    if (!large) return evh_last_error()->status;
    evh_free(heap, large);
    uint64_t freed = 0;
    status = evh_trim(heap, &freed);
    if (!status) CHECK(freed >= 2 << 20);
    if (!status) status = evh_digest(heap, digest);
    if (!status) status = evh_root_remove(heap, "number");
    if (!status) CHECK(evh_root_find(heap, "number", NULL) == NULL);
    return status;
}

static evh_status life_in_memory(struct subject *subject)
{
    static const size_t sizes[] = {0, 500000, 8 << 20};
    (void)subject;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        evh_heap *heap = evh_open_memory(NULL, sizes[i], &writing);
        if (!heap) return evh_last_error()->status;
        evh_status status = sizes[i] == 500000 ? EVH_OK : memory_use(heap);
        const evh_error why = *evh_last_error();
        /* Whatever failed, it is sound; but a check needs memory too. */
        const evh_status checked = evh_check(heap, NULL, NULL);
        CHECK(checked != EVH_CORRUPT);
        status = fault_result(&why, status, checked);
        const evh_error met = *evh_last_error();
        status = fault_result(&met, status, evh_close(heap));
        if (status) return status;
    }
    return EVH_OK;
}

TEST(any_call_of_a_heap_in_memory_may_fail)
{
    struct subject subject = {0};
    os_fail_use();
    fault_sweeps(life_in_memory, &subject);
    os_fail_end();
}
