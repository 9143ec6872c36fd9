/* reader_test.c -- readers in other processes beside a writer, and both sides killed at random.
 *
 * Strategy: a writer commits states in which words in many pages all carry the commit's number;
 * eight reader processes open views, read all words, look at them again later, and refresh. The
 * parent kills and restarts either side at random.
 * Invariants: whenever evh_view_valid() says so, all words that a reader read are of one commit; it
 * was begun, and is not older than what was acknowledged when the view was taken; a view never goes
 * back; the writer never waits for a reader, not even for a stopped one, and its journal is
 * bounded.
 *
 * 5 seconds, scaled by EFFORT or set by SECONDS.
 */
#include "test.h"

#include <everheap/heap.h>

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    READERS = 8,
    WORDS = 24,
    BLOCK_BYTES = 5000,
    SECONDS_DEFAULT = 5,
    JOURNAL_MAX = 1 << 20,
    CHECKPOINT = 128 << 10
};

struct state {
    uint64_t number;
    uint64_t sum; /* of all words: WORDS * number */
    evh_ref blocks[WORDS];
};

/* Shared by all processes. */
struct oracle {
    uint64_t begun, acknowledged;
    uint64_t commits, views, refreshes, stale, reads;
    uint64_t journal_bytes; /* the largest seen */
    uint64_t stop;
    char error[256];
};

static struct oracle *oracle;

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void add(uint64_t *word)
{
    __atomic_fetch_add(word, 1, __ATOMIC_RELAXED);
}

__attribute__((noreturn, format(printf, 1, 2))) static void process_failed(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(oracle->error, sizeof oracle->error, format, arguments);
    va_end(arguments);
    _exit(1);
}

static evh_options options_of(evh_mode mode)
{
    return (evh_options){.mode = mode,
                         .must_exist = mode == EVH_READ_ONLY,
                         .checkpoint_bytes = CHECKPOINT,
                         .journal_max_bytes = JOURNAL_MAX};
}

/* ---- the writer ---- */

static struct state *state_of(evh_heap *heap)
{
    struct state *state = evh_root(heap, "state", sizeof *state);
    if (!state) process_failed("evh_root: %s", evh_last_error()->message);
    for (int i = 0; i < WORDS; i++)
        if (state->blocks[i].offset == 0 && evh_malloc_to(heap, &state->blocks[i], BLOCK_BYTES))
            process_failed("evh_malloc_to: %s", evh_last_error()->message);
    return state;
}

static void state_write(evh_heap *heap, struct state *state, uint64_t number)
{
    state->number = number;
    state->sum = WORDS * number;
    for (int i = 0; i < WORDS; i++) {
        uint64_t *words = evh_at(heap, state->blocks[i]);
        words[0] = words[BLOCK_BYTES / 8 - 1] = number;
        /* Sometimes most of the page changes, so that images are logged, not only ranges. */
        if (number % 7 == 0) memset(words + 1, (int)number, 3900);
    }
}

static void commit_next(evh_heap *heap, struct state *state)
{
    const uint64_t number = state->number + 1;
    state_write(heap, state, number);
    __atomic_store_n(&oracle->begun, number, __ATOMIC_RELEASE);
    if (evh_commit(heap)) process_failed("evh_commit: %s", evh_last_error()->message);
    __atomic_store_n(&oracle->acknowledged, number, __ATOMIC_RELEASE);
    add(&oracle->commits);
}

static void remember_journal(evh_heap *heap)
{
    evh_info info;
    if (evh_get_info(heap, &info)) process_failed("info: %s", evh_last_error()->message);
    if (info.journal_bytes > load(&oracle->journal_bytes))
        __atomic_store_n(&oracle->journal_bytes, info.journal_bytes, __ATOMIC_RELEASE);
}

__attribute__((noreturn)) static void writer(const char *path)
{
    const evh_options options = options_of(EVH_DURABLE);
    evh_heap *heap = evh_open(path, &options);
    if (!heap) process_failed("writer: evh_open: %s", evh_last_error()->message);
    struct state *state = state_of(heap);
    if (state->number < load(&oracle->acknowledged))
        process_failed("writer: commit %llu is lost, %llu is there",
                       (unsigned long long)load(&oracle->acknowledged),
                       (unsigned long long)state->number);
    for (unsigned i = 1; !load(&oracle->stop); i++) {
        commit_next(heap, state);
        if (i % 64 == 0) remember_journal(heap);
    }
    if (evh_close(heap)) process_failed("writer: evh_close: %s", evh_last_error()->message);
    _exit(0);
}

/* ---- a reader ---- */

/* Read all words: their number if they agree, 0 if not. */
static uint64_t state_read(evh_heap *heap, const struct state *state)
{
    const uint64_t number = state->number;
    bool agrees = state->sum == WORDS * number;
    for (int i = 0; i < WORDS; i++) {
        const uint64_t *words = evh_at(heap, state->blocks[i]);
        if (!words) return 0;
        agrees = agrees && words[0] == number && words[BLOCK_BYTES / 8 - 1] == number;
    }
    add(&oracle->reads);
    return agrees ? number : 0;
}

/* Look at one view several times. */
static void view_read(evh_heap *heap, uint64_t floor, uint64_t *last, uint64_t *random)
{
    const struct state *state = evh_root_find(heap, "state", NULL);
    uint64_t first = 0;
    for (uint64_t i = 0; i <= test_random(random) % 4; i++) {
        const uint64_t number = state ? state_read(heap, state) : 0;
        const uint64_t begun = load(&oracle->begun);
        if (!evh_view_valid(heap)) {
            add(&oracle->stale);
            return;
        }
        if (state && number == 0) process_failed("reader: a valid view is a mixture");
        if (number < floor)
            process_failed("reader: a view of %llu, but %llu was acknowledged before",
                           (unsigned long long)number, (unsigned long long)floor);
        if (number > begun) process_failed("reader: a view of a commit that was not begun");
        if (first && number != first) process_failed("reader: a valid view has changed");
        if (number < *last) process_failed("reader: a view has gone back");
        *last = first = number;
        const struct timespec pause = {0, (long)(test_random(random) % 3000000)};
        nanosleep(&pause, NULL);
    }
}

__attribute__((noreturn)) static void reader(const char *path, uint64_t random)
{
    const evh_options options = options_of(EVH_READ_ONLY);
    for (;;) {
        uint64_t floor = load(&oracle->acknowledged), last = 0;
        evh_heap *heap = evh_open(path, &options);
        if (!heap) process_failed("reader: evh_open: %s", evh_last_error()->message);
        add(&oracle->views);
        for (int i = 0; i < 20; i++) {
            view_read(heap, floor, &last, &random);
            if (load(&oracle->stop)) _exit(evh_close(heap) != EVH_OK);
            floor = load(&oracle->acknowledged);
            if (evh_refresh(heap)) process_failed("refresh: %s", evh_last_error()->message);
            add(&oracle->refreshes);
        }
        if (evh_close(heap)) process_failed("reader: evh_close: %s", evh_last_error()->message);
    }
}

/* ---- the parent ---- */

static pid_t start(const char *path, int which, uint64_t seed)
{
    fflush(stdout);
    const pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0 && which == READERS) writer(path);
    if (process == 0) reader(path, seed);
    return process;
}

static void check_no_error(void)
{
    if (!oracle->error[0]) return;
    test_fail(__FILE__, __LINE__, "%s", oracle->error);
    test_stop();
}

static void oracle_new(void)
{
    oracle = mmap(NULL, sizeof *oracle, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(oracle != MAP_FAILED);
}

/* A heap with one commit in it. */
static void heap_new(const char *path)
{
    const evh_options options = options_of(EVH_DURABLE);
    evh_heap *heap = evh_open(path, &options);
    CHECK(heap);
    commit_next(heap, state_of(heap));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static double seconds_wanted(void)
{
    const char *text = getenv("SECONDS");
    return text ? strtod(text, NULL) : (double)test_effort(SECONDS_DEFAULT * 1000) / 1000;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

TEST(a_valid_view_is_never_a_mixture_whoever_is_killed)
{
    uint64_t random = test_seed(), kills = 0;
    const char *path = test_path("read");
    pid_t processes[READERS + 1];
    oracle_new();
    heap_new(path);
    for (int i = 0; i <= READERS; i++) processes[i] = start(path, i, test_random(&random));
    const double end = now() + seconds_wanted();
    while (now() < end && !oracle->error[0]) {
        const struct timespec pause = {0, (long)(test_random(&random) % 40000000)};
        nanosleep(&pause, NULL);
        const int which = (int)(test_random(&random) % (READERS + 3));
        const int victim = which > READERS ? READERS : which;
        kill(processes[victim], SIGKILL);
        waitpid(processes[victim], NULL, 0);
        processes[victim] = start(path, victim, test_random(&random));
        kills++;
    }
    __atomic_store_n(&oracle->stop, 1, __ATOMIC_RELEASE);
    for (int i = 0; i <= READERS; i++) waitpid(processes[i], NULL, 0);
    check_no_error();
    printf("    %llu kills, %llu commits, %llu views, %llu refreshes, %llu readings, %llu stale, "
           "journal at most %llu KiB\n",
           (unsigned long long)kills, (unsigned long long)oracle->commits,
           (unsigned long long)oracle->views, (unsigned long long)oracle->refreshes,
           (unsigned long long)oracle->reads, (unsigned long long)oracle->stale,
           (unsigned long long)oracle->journal_bytes >> 10);
    CHECK(oracle->commits > 0);
    CHECK(oracle->reads > 0);
    CHECK(oracle->journal_bytes <= 2 * JOURNAL_MAX);
}

TEST(a_stopped_reader_does_not_stop_the_writer)
{
    const char *path = test_path("stopped");
    oracle_new();
    heap_new(path);
    const pid_t process = start(path, 0, test_seed());
    while (load(&oracle->reads) < 2) CHECK(!oracle->error[0]);
    kill(process, SIGSTOP);
    int status;
    CHECK_EQUAL(waitpid(process, &status, WUNTRACED), process);
    CHECK(WIFSTOPPED(status));

    const evh_options options = options_of(EVH_DURABLE);
    evh_heap *heap = evh_open(path, &options);
    CHECK(heap);
    struct state *state = state_of(heap);
    for (int i = 0; i < 500; i++) commit_next(heap, state);
    remember_journal(heap);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK(oracle->journal_bytes <= 2 * JOURNAL_MAX);

    /* The reader goes on, finds its view stale or whole, and refreshes. */
    const uint64_t refreshes = load(&oracle->refreshes);
    kill(process, SIGCONT);
    while (load(&oracle->refreshes) < refreshes + 3 && !oracle->error[0]) {
        const struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
    __atomic_store_n(&oracle->stop, 1, __ATOMIC_RELEASE);
    waitpid(process, NULL, 0);
    check_no_error();
}
