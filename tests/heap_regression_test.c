/* heap_regression_test.c -- what a review found: failures and races at exactly the wrong moment.
 *
 * The real system runs under a copy of its table in which one call does something in between: it
 * fails, lets another heap open, or waits until another thread is where it hurts.
 */
#include "support/hooked_heap.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* ---- trim ---- */

/* A commit of a heap that has grown, and that becomes shorter again when the commit fails. */
static evh_heap *trim_begin(const char *path, evh_ticket *ticket)
{
    evh_heap *heap = heap_open(path, &quietly);
    *heap_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    evh_free(heap, evh_malloc(heap, 3 << 20));
    *heap_root(heap) = 2;
    records_to_fail = 1;
    CHECK_EQUAL(evh_commit_begin(heap, ticket), EVH_OK);
    return heap;
}

TEST(trim_marks_nothing_beyond_the_last_commit_when_a_begun_one_has_failed)
{
    const char *path = test_path("trim.heap");
    evh_ticket ticket = 0;
    hooked_begin();
    hooked.write_sync = hooked_fail_record;
    evh_heap *heap = trim_begin(path, &ticket);
    CHECK_EQUAL(evh_commit_wait(heap, ticket), EVH_FULL);

    CHECK_EQUAL(evh_trim(heap, NULL), EVH_OK);

    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
}

/* Another thread waits for the commit while trim is between its look at the last commit and its
 * marks: here it is this one, in the middle of trim. */
static evh_heap *trim_heap; /* NULL: nobody waits */
static evh_ticket trim_ticket;

static void unlock_and_wait(struct os_mutex *mutex)
{
    evh_heap *heap = trim_heap;
    os_linux()->mutex_unlock(mutex);
    if (!heap || mutex != heap->journal->mutex || heap->journal->is_flushing) return;
    trim_heap = NULL;
    CHECK_EQUAL(evh_commit_wait(heap, trim_ticket), EVH_FULL);
}

TEST(a_begun_commit_that_fails_under_trim_leaves_no_marks_beyond_the_last)
{
    const char *path = test_path("trim.heap");
    hooked_begin();
    hooked.write_sync = hooked_fail_record;
    hooked.mutex_unlock = unlock_and_wait;
    evh_heap *heap = trim_begin(path, &trim_ticket);
    trim_heap = heap;

    CHECK_EQUAL(evh_trim(heap, NULL), EVH_FULL);

    CHECK(trim_heap == NULL);
    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_trim(heap, NULL), EVH_OK);
    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- rollback ---- */

static unsigned looks_to_fail;
static unsigned looks;

static int fail_look(struct os_watch *watch, uint64_t end, const struct os_pages **runs,
                     size_t *count, bool *is_exact)
{
    looks++;
    if (looks_to_fail == 0) return os_linux()->watch_collect(watch, end, runs, count, is_exact);
    looks_to_fail--;
    *runs = NULL;
    *count = 0;
    *is_exact = false;
    return EIO;
}

TEST(a_rollback_that_fails_leaves_everything_as_it_is)
{
    const char *path = test_path("rollback.heap");
    hooked_begin();
    hooked.watch_collect = fail_look;
    evh_heap *heap = heap_open(path, &quietly);
    *heap_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    unsigned char *block = evh_malloc(heap, 8 << 20);
    CHECK(block != NULL);
    block[5 << 20] = 7;
    const evh_ref ref = evh_ref_to(heap, block);
    *heap_root(heap) = ref.offset;

    looks_to_fail = 1;
    CHECK_EQUAL(evh_rollback(heap), EVH_IO);

    CHECK_EQUAL(*heap_root(heap), ref.offset);
    CHECK(evh_at(heap, ref) == block);
    CHECK_EQUAL(block[5 << 20], 7);
    CHECK(evh_usable_size(heap, block) >= 8 << 20);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- views ---- */

TEST(a_refresh_that_fails_never_shows_bytes_that_are_not_mapped)
{
    const char *path = test_path("refresh.heap");
    hooked_begin();
    evh_heap *heap = heap_open(path, &quietly);
    *heap_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_heap *reader =
        heap_open(path, &(evh_options){.mode = EVH_READ_ONLY, .size_max_bytes = 1 << 20});
    const uint64_t end = heap_end_bytes(reader);
    CHECK(evh_malloc(heap, reader->region->reserved_bytes) != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);

    CHECK_EQUAL(evh_refresh(reader), EVH_NO_MEMORY);

    CHECK(heap_end_bytes(reader) <= reader->region->mapped_bytes);
    CHECK_EQUAL(reader->state.heap_bytes, heap_end_bytes(reader));
    CHECK_EQUAL(heap_end_bytes(reader), end);
    CHECK(evh_at(reader, (evh_ref){reader->region->mapped_bytes}) == NULL);
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_view_that_was_left_behind_cannot_be_saved)
{
    enum { SIZE = 2 << 20, PART = 256 << 10 };
    const char *path = test_path("stale.heap");
    hooked_begin();
    evh_heap *heap = heap_open(path, &(evh_options){.no_thread = true,
                                                    .checkpoint_bytes = 256 << 10,
                                                    .journal_max_bytes = 512 << 10});
    uint64_t *block = evh_root(heap, "block", SIZE);
    CHECK(block != NULL);
    memset(block, 1, SIZE);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    evh_heap *views[] = {heap_open(path, &reading),
                         heap_open(path, &(evh_options){.mode = EVH_PRIVATE})};
    CHECK_EQUAL(evh_save(views[0], test_path("saved.heap")), EVH_OK);
    uint64_t random = 1;
    for (unsigned i = 0; i < 300 && evh_view_valid(views[0]); i++) {
        uint64_t *part = block + i % (SIZE / PART) * (PART / 8);
        for (unsigned word = 0; word < PART / 8; word++) part[word] = test_random(&random);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    CHECK(!evh_view_valid(views[0]));

    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQUAL(evh_save(views[i], test_path("refused.heap")), EVH_STALE);
        CHECK(evh_open(test_path("refused.heap"), &verifying) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
        CHECK_EQUAL(evh_close(views[i]), EVH_OK);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- opening that fails ---- */

TEST(a_heap_that_fails_to_open_is_not_changed)
{
    const char *path = test_path("stray.heap");
    hooked_begin();
    evh_heap *heap = heap_open(path, &quietly);
    unsigned char *block = evh_root(heap, "block", 100 << 10);
    CHECK(block != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    memset(block, 3, 20 << 10);
    /* A stray store into a descriptor: committed, as everything is. */
    uint64_t *descriptor = slices_descriptor(heap, evh_ref_to(heap, block).offset >> SLICE_SHIFT);
    const uint64_t before = *descriptor;
    *descriptor |= 1ull << 60;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const char *killed = heap_killed(path);
    *descriptor = before;
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    struct file_bytes content = file_bytes_read(killed);

    CHECK(evh_open(killed, &verifying) == NULL);

    CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
    CHECK(file_bytes_are_same(killed, &content)); /* the status page included */
    file_bytes_end(&content);
}

static evh_heap *publish_winner;

/* Between the name and the creator's lock, another one opens the new heap. */
static int publish_and_lose(int file, const char *path, bool replace)
{
    const int error = os_linux()->publish(file, path, replace);
    if (error || publish_winner) return error;
    publish_winner = heap_open(path, &quietly);
    for (uint64_t value = 5; value <= 6; value++) {
        *heap_root(publish_winner) = value;
        CHECK_EQUAL(evh_commit(publish_winner), EVH_OK);
    }
    return 0;
}

TEST(who_loses_the_race_to_create_a_heap_publishes_nothing_in_it)
{
    const char *path = test_path("race.heap");
    hooked_begin();
    hooked.publish = publish_and_lose;
    publish_winner = NULL;

    CHECK(evh_open(path, &quietly) == NULL);

    CHECK_EQUAL(evh_last_error()->status, EVH_BUSY);
    CHECK(publish_winner != NULL);
    evh_heap *reader = heap_open(path, &reading);
    const uint64_t *seen = evh_root_find(reader, "root", NULL);
    CHECK(seen != NULL);
    CHECK_EQUAL(*seen, 6);
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    CHECK_EQUAL(evh_close(publish_winner), EVH_OK);
    heap_is_sound(path);
}

/* ---- saving ---- */

static int saved_file;

static int open_saved(const char *path, unsigned permissions, int *file)
{
    const int error = os_linux()->open_temporary(path, permissions, file);
    if (!error) saved_file = *file;
    return error;
}

static int close_badly(int file)
{
    const int error = os_linux()->close(file);
    if (file != saved_file) return error;
    saved_file = -1;
    return EIO;
}

TEST(a_save_whose_file_fails_to_close_says_so_and_is_whole)
{
    const char *path = test_path("saved.heap");
    hooked_begin();
    hooked.open_temporary = open_saved;
    hooked.close = close_badly;
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap != NULL);
    *heap_root(heap) = 1;

    CHECK_EQUAL(evh_save(heap, path), EVH_IO);

    CHECK(strstr(evh_last_error()->message, "cannot close it") != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    hooked_begin();
    heap_is_sound(path);
}

/* ---- dirty_max_bytes ---- */

/* A heap of this size grows by 1 MiB more than it needs. */
enum { DIRTY_MAX = 8 << 20, DIRTY_AHEAD = 2 << 20, DIRTY_BLOCK = 200000 };

/* Allocate until it is refused. Returns how many bytes that gave. */
static uint64_t dirty_fill(evh_heap *heap)
{
    for (uint64_t bytes = 0; bytes < 64 << 20; bytes += DIRTY_BLOCK) {
        if (evh_malloc(heap, DIRTY_BLOCK)) continue;
        CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
        return bytes;
    }
    return UINT64_MAX;
}

/* A heap with a bound, on a disk that can be full. */
static evh_heap *dirty_open(void)
{
    hooked_begin();
    hooked.write_sync = hooked_fail_record;
    evh_heap *heap = heap_open(test_path("dirty.heap"),
                               &(evh_options){.no_thread = true, .dirty_max_bytes = DIRTY_MAX});
    *heap_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    return heap;
}

TEST(loading_in_bulk_is_bounded_by_dirty_max_bytes)
{
    evh_heap *heap = dirty_open();
    for (unsigned round = 0; round < 4; round++) {
        const uint64_t bytes = dirty_fill(heap);
        CHECK(bytes >= DIRTY_MAX / 2);
        CHECK(bytes <= DIRTY_MAX + DIRTY_AHEAD);
        CHECK_EQUAL(round % 2 ? evh_rollback(heap) : evh_commit(heap), EVH_OK);
    }
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(what_a_failed_commit_leaves_counts_against_dirty_max_bytes)
{
    evh_heap *heap = dirty_open();
    unsigned char *block = evh_root(heap, "block", 2 * DIRTY_MAX);
    CHECK(block != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    memset(block, 1, 2 * DIRTY_MAX);
    records_to_fail = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_FULL);

    CHECK(evh_malloc(heap, DIRTY_BLOCK) == NULL);

    CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK(evh_malloc(heap, DIRTY_BLOCK) != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(growth_counts_again_after_a_failed_commit_was_rolled_back)
{
    evh_heap *heap = dirty_open();
    CHECK(dirty_fill(heap) >= DIRTY_MAX / 2);
    records_to_fail = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_FULL);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);

    CHECK(dirty_fill(heap) <= DIRTY_MAX + DIRTY_AHEAD);

    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* Other threads may be storing: a page that is looked at meanwhile can be lost. */
TEST(an_allocation_never_looks_for_dirty_pages)
{
    hooked_begin();
    hooked.watch_collect = fail_look;
    evh_heap *heap = heap_open(test_path("looks.heap"),
                               &(evh_options){.no_thread = true, .dirty_max_bytes = 1 << 30});
    *heap_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    looks = 0;
    for (size_t size = 16; size < 8 << 20; size *= 2)
        for (unsigned i = 0; i < 3; i++) CHECK(evh_malloc(heap, size) != NULL);
    CHECK_EQUAL(looks, 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- growth beside the journal's ---- */

/*
 * One thread has planned how the heap grows; before it carries the plan out, a commit that another
 * thread writes needs a new journal extent, behind what is mapped: where the plan lies. The planner
 * waits, in its first lock after planning, until the writer has the extent or waits for a lock that
 * the planner holds.
 */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    evh_heap *heap; /* NULL: nobody waits */
    bool is_planned, is_extended, is_blocked;
    struct os_mutex *held[8]; /* by the planner */
    unsigned held_count;
    size_t size;
} race = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static _Thread_local bool is_planner;
static _Thread_local bool is_extender;

static bool race_is_held(const struct os_mutex *mutex)
{
    for (unsigned i = 0; i < race.held_count; i++)
        if (race.held[i] == mutex) return true;
    return false;
}

static void race_before_lock(struct os_mutex *mutex)
{
    (void)pthread_mutex_lock(&race.mutex);
    if (is_planner && race.heap && mutex == race.heap->region->mutex && !race.is_planned) {
        race.is_planned = true;
        (void)pthread_cond_broadcast(&race.changed);
        while (!race.is_extended && !race.is_blocked)
            (void)pthread_cond_wait(&race.changed, &race.mutex);
    }
    if (is_extender && race_is_held(mutex)) {
        race.is_blocked = true;
        (void)pthread_cond_broadcast(&race.changed);
    }
    (void)pthread_mutex_unlock(&race.mutex);
}

static void race_lock(struct os_mutex *mutex)
{
    if (is_planner || is_extender) race_before_lock(mutex);
    os_linux()->mutex_lock(mutex);
    if (!is_planner) return;
    (void)pthread_mutex_lock(&race.mutex);
    race.held[race.held_count++] = mutex;
    (void)pthread_mutex_unlock(&race.mutex);
}

static void race_unlock(struct os_mutex *mutex)
{
    if (is_planner) {
        (void)pthread_mutex_lock(&race.mutex);
        for (unsigned i = 0; i < race.held_count; i++)
            if (race.held[i] == mutex) race.held[i--] = race.held[--race.held_count];
        (void)pthread_mutex_unlock(&race.mutex);
    }
    const bool is_growth = is_extender && race.heap && mutex == race.heap->region->mutex;
    os_linux()->mutex_unlock(mutex);
    if (!is_growth) return;
    (void)pthread_mutex_lock(&race.mutex);
    race.is_extended = region_extent_at(race.heap->region, 0).slice_count > 0;
    (void)pthread_cond_broadcast(&race.changed);
    (void)pthread_mutex_unlock(&race.mutex);
}

static void *race_plan(void *context)
{
    (void)context;
    is_planner = true;
    evh_enter(race.heap);
    unsigned char *block = evh_malloc(race.heap, race.size);
    if (block) memset(block, 1, race.size);
    evh_leave(race.heap);
    return block;
}

/* A heap without a free run of `size`, at the end of what is mapped. */
static void race_make(const char *path, size_t size)
{
    evh_heap *heap = heap_open(path, &quietly);
    evh_ref *ref = evh_root(heap, "ref", sizeof *ref);
    CHECK(ref != NULL);
    *ref = evh_ref_to(heap, evh_malloc(heap, 700 << 10));
    const uint64_t count = size >> SLICE_SHIFT;
    for (bool is_full = false; !is_full;) {
        uint64_t run = 0;
        uint64_t longest = 0;
        for (uint64_t slice = 1; slice < heap->state.heap_bytes >> SLICE_SHIFT; slice++) {
            run = runs_is_free(heap, slice) ? run + 1 : 0;
            longest = base_max(longest, run);
        }
        is_full = longest < count && heap->state.heap_bytes >= 4 << 20;
        if (!is_full) CHECK(evh_malloc(heap, size) != NULL);
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static void race_release(void *context)
{
    (void)context;
}

/* More than the first extent holds. */
static void race_dirty(evh_heap *heap)
{
    uint64_t random = 3;
    CHECK_EQUAL(slices_need(heap, 0), EVH_OK);
    for (uint64_t slice = 2; slice < heap->state.heap_bytes >> SLICE_SHIFT; slice++) {
        const uint64_t kind = *slices_descriptor(heap, slice) % 16;
        if (region_is_journal(heap->region, slice, NULL)) continue;
        if (kind != HEAP_LARGE && kind != HEAP_TAIL) continue;
        uint64_t *words = (uint64_t *)(void *)(heap->view.base + (slice << SLICE_SHIFT));
        for (unsigned i = 0; i < SLICE_BYTES / 8; i++) words[i] = test_random(&random);
    }
}

/* Write a commit while a thread that allocates `size` bytes is between its plan and its growth. */
static void race_run(evh_heap *heap, size_t size)
{
    pthread_t thread;
    void *block = NULL;
    uint64_t ticket = 0;
    race.size = size;
    race.is_planned = race.is_extended = race.is_blocked = false;
    CHECK_EQUAL(gate_close(heap), EVH_OK);
    slices_fold(heap);
    const struct journal_state state = heap->state;
    CHECK_EQUAL(journal_copy(heap->journal, &state, &ticket), EVH_OK);
    gate_open(heap);
    race.heap = heap;
    CHECK(pthread_create(&thread, NULL, race_plan, NULL) == 0);
    (void)pthread_mutex_lock(&race.mutex);
    while (!race.is_planned) (void)pthread_cond_wait(&race.changed, &race.mutex);
    (void)pthread_mutex_unlock(&race.mutex);
    is_extender = true;
    const evh_status status = journal_write(heap->journal, ticket, true, race_release, NULL);
    is_extender = false;
    CHECK(pthread_join(thread, &block) == 0);
    race.heap = NULL;
    CHECK_EQUAL(status, EVH_OK);
    CHECK(block != NULL);
    CHECK(race.is_extended || race.is_blocked);
    CHECK(region_extent_at(heap->region, 0).slice_count > 0);
}

TEST(a_heap_that_grows_while_a_commit_extends_its_journal_keeps_out_of_it)
{
    const size_t sizes[] = {3 << SLICE_SHIFT, 5 << 20, 80 << 20};
    for (unsigned i = 0; i < 3; i++) {
        const char *path = test_path("grow.heap");
        hooked_begin();
        hooked.mutex_lock = race_lock;
        hooked.mutex_unlock = race_unlock;
        race_make(path, 3 << SLICE_SHIFT);
        evh_heap *heap = heap_open(path, &quietly);
        race_dirty(heap);

        race_run(heap, sizes[i]);

        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        heap_is_sound(path);
        CHECK(remove(path) == 0);
    }
}
