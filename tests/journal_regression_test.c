/* journal_regression_test.c -- what a review found in the journal, each at its moment.
 *
 * The real system runs under a copy of its table: the call in whose middle a defect showed does
 * there what another thread, another process or the system did.
 */
#include "support/hooked_heap.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>

/* Settle or checkpoint as the background thread does. */
static evh_status checkpoint_now(struct journal *journal, enum checkpoint_kind kind)
{
    os->mutex_lock(journal->mutex);
    const evh_status status = checkpoint_run(journal, kind);
    os->mutex_unlock(journal->mutex);
    return status;
}

/* Words that no compression and no earlier content has. */
static void words_fill(void *block, size_t size, uint64_t seed)
{
    uint64_t *words = block;
    for (size_t i = 0; i < size / sizeof *words; i++) words[i] = test_random(&seed);
}

static bool words_are(const void *block, size_t size, uint64_t seed)
{
    const uint64_t *words = block;
    for (size_t i = 0; i < size / sizeof *words; i++)
        if (words[i] != test_random(&seed)) return false;
    return true;
}

static bool bytes_are(const unsigned char *block, size_t size, unsigned char value)
{
    for (size_t i = 0; i < size; i++)
        if (block[i] != value) return false;
    return true;
}

/* ---- trim beside a reader ---- */

enum { TRIM_BYTES = 4 << 20 };

/* The reader's view shows the block; the journal has ranges over its home; then it is freed. */
TEST(trim_takes_no_page_that_a_reader_sees_or_a_record_lies_over)
{
    const char *path = test_path("trim.heap");
    hooked_begin();
    evh_heap *heap = heap_open(path, &quietly);
    evh_ref *ref = evh_root(heap, "ref", sizeof *ref);
    unsigned char *block = evh_malloc(heap, TRIM_BYTES);
    CHECK(block != NULL);
    memset(block, 0x11, TRIM_BYTES);
    *ref = evh_ref_to(heap, block);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    *heap_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_heap *reader = heap_open(path, &reading);
    const unsigned char *seen = evh_at(reader, *ref);
    for (size_t at = 0; at < TRIM_BYTES; at += PAGE_BYTES) block[at] = 0x77;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    ref->offset = 0;
    evh_free(heap, block);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);

    CHECK_EQUAL(evh_trim(heap, NULL), EVH_BUSY);

    CHECK(evh_view_valid(reader));
    CHECK(bytes_are(seen, TRIM_BYTES, 0x11));
    CHECK_EQUAL(evh_check(reader, NULL, NULL), EVH_OK);
    heap_is_sound(heap_killed(path));
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    block = evh_calloc(heap, 1, TRIM_BYTES);
    CHECK(block != NULL);
    CHECK(bytes_are(block, TRIM_BYTES, 0));
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    CHECK(bytes_are(block, TRIM_BYTES, 0));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
}

/* A checkpoint that succeeded may have stopped at a view that is older than the mark. */
TEST(space_is_given_back_only_behind_the_header_that_knows_of_the_hole)
{
    struct raw raw = {.options = {.no_thread = true}};
    const char *path = test_path("punch");
    raw_create(&raw, path);
    raw_grow(&raw, 8 * SLICE_BYTES);
    memset(raw_word(&raw, SLICE_PAGES, 0), 0x33, SLICE_BYTES);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    const struct journal_word mark = {2 * SLICE_BYTES + 8, 1};
    CHECK_EQUAL(journal_patch(raw.journal, &mark, 1), EVH_OK);

    const struct journal_run hole = {3 * SLICE_BYTES, SLICE_BYTES};
    uint64_t freed = 0;
    CHECK_EQUAL(journal_punch(raw.journal, &hole, 1, &freed), EVH_BUSY);

    CHECK_EQUAL(freed, 0);
    CHECK(bytes_are((void *)raw_word(&raw, SLICE_PAGES, 0), SLICE_BYTES, 0x33));
    CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
    CHECK_EQUAL(journal_punch(raw.journal, &hole, 1, &freed), EVH_OK);
    CHECK_EQUAL(freed, SLICE_BYTES);
    CHECK(bytes_are((void *)raw_word(&raw, SLICE_PAGES, 0), SLICE_BYTES, 0));
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&raw);
}

/* ---- what a record that is taken back remembers ---- */

static bool live_has(const struct journal *journal, const struct journal_live *record)
{
    for (const struct journal_live *live = journal->live_first; live; live = live->next)
        if (live == record) return true;
    return record == NULL;
}

static bool index_names_live_records(const struct journal *journal)
{
    for (uint32_t i = 0; i < journal->index.node_top; i++) {
        const struct journal_node *node = &journal->index.nodes[i];
        if (node->sequence == 0) continue;
        if (!live_has(journal, node->image_in) || !live_has(journal, node->ranges_in)) return false;
    }
    return true;
}

/* Whoever looks at freed memory does not find what was there. */
static void free_scrubbed(void *memory)
{
    if (memory) memset(memory, 0xee, malloc_usable_size(memory));
    os_linux()->memory_free(memory);
}

/* Commit 1 has images, 2 ranges over them, 3 more ranges, pending. A checkpoint takes 1 home and
 * forgets its record, held back at 2 by a reader; then 3 fails: the page's newest change is that of
 * 2 again, whose base is home now. */
TEST(a_record_that_is_taken_back_brings_back_no_record_that_went_home_meanwhile)
{
    struct raw raw = {.options = {.no_thread = true}};
    struct raw reader = {0};
    uint64_t ticket = 0;
    const char *path = test_path("undo");
    hooked_begin();
    hooked.write_sync = hooked_fail_record;
    hooked.memory_free = free_scrubbed;
    raw_create(&raw, path);
    memset(raw_word(&raw, 0, 0), 1, 8 * PAGE_BYTES);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    raw_open(&reader, path, EVH_READ_ONLY);
    *raw_word(&raw, 0, 5) = 8;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    *raw_word(&raw, 0, 6) = 9;
    CHECK_EQUAL(raw_begin(&raw, &ticket), EVH_OK);
    CHECK_EQUAL(checkpoint_now(raw.journal, CHECKPOINT_WHOLE), EVH_OK);
    CHECK_EQUAL(raw.region->header.sequence, 1);
    records_to_fail = 1;

    CHECK_EQUAL(journal_wait(raw.journal, ticket), EVH_FULL);

    CHECK(index_names_live_records(raw.journal));
    CHECK_EQUAL(journal_rollback(raw.journal, &raw.state), EVH_OK);
    CHECK_EQUAL(*raw_word(&raw, 0, 5), 8);
    CHECK_EQUAL(*raw_word(&raw, 0, 6), 0x0101010101010101);
    raw_close(&reader);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&raw);
}

static void release_nothing(void *context)
{
    (void)context;
}

/* Its ranges lie over a base that will not be there. */
TEST(a_record_that_was_copied_over_one_that_fails_fails_with_it)
{
    struct raw raw = {.options = {.no_thread = true}};
    uint64_t tickets[2] = {0};
    hooked_begin();
    hooked.write_sync = hooked_fail_record;
    raw_create(&raw, test_path("copied"));
    *raw_word(&raw, 1, 0) = 7;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    memset(raw_word(&raw, 0, 0), 1, PAGE_BYTES);
    CHECK_EQUAL(raw_begin(&raw, &tickets[0]), EVH_OK);
    *raw_word(&raw, 0, 5) = 9;
    CHECK_EQUAL(journal_copy(raw.journal, &raw.state, &tickets[1]), EVH_OK);
    records_to_fail = 1;
    CHECK_EQUAL(journal_wait(raw.journal, tickets[0]), EVH_FULL);

    CHECK_EQUAL(journal_write(raw.journal, tickets[1], true, release_nothing, NULL), EVH_FULL);

    CHECK_EQUAL(raw_commit(&raw), EVH_OK); /* both changes, which are dirty still */
    CHECK_EQUAL(journal_rollback(raw.journal, &raw.state), EVH_OK);
    CHECK_EQUAL(*raw_word(&raw, 0, 5), 9);
    CHECK_EQUAL(*raw_word(&raw, 0, 6), 0x0101010101010101);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&raw);
}

/* ---- tickets ---- */

/* Commit 1 is begun, 2 cannot be placed, 3 fails and takes 1 with it. Later commits succeed and are
 * counted on from there: none of them may be taken for commit 1. */
TEST(a_ticket_whose_commit_failed_is_never_said_to_be_durable)
{
    enum { BIG = 9 << 20 };
    const char *path = test_path("ticket.heap");
    hooked_begin();
    hooked.write_sync = hooked_fail_record;
    evh_heap *heap = heap_open(path, &(evh_options){.no_thread = true, .size_max_bytes = 16 << 20});
    uint64_t *root = heap_root(heap);
    void *big = evh_root(heap, "big", BIG);
    CHECK(big != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    evh_ticket tickets[3];
    root[0] = 1;
    CHECK_EQUAL(evh_commit_begin(heap, &tickets[0]), EVH_OK);
    words_fill(big, BIG, 1);
    CHECK_EQUAL(evh_commit_begin(heap, &tickets[1]), EVH_FULL);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    root[1] = 1;
    CHECK_EQUAL(evh_commit_begin(heap, &tickets[2]), EVH_OK);
    records_to_fail = 1;
    CHECK_EQUAL(evh_commit_wait(heap, tickets[2]), EVH_FULL);
    CHECK_EQUAL(evh_commit_wait(heap, tickets[0]), EVH_FULL);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK_EQUAL(root[0], 0);

    for (uint64_t i = 1; i <= 3; i++) {
        root[2] = i;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_commit_wait(heap, tickets[0]), EVH_FULL);
        CHECK_EQUAL(evh_commit_wait(heap, tickets[2]), EVH_FULL);
    }

    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_commit_of_nothing_succeeds_after_a_failed_one_was_rolled_back)
{
    hooked_begin();
    hooked.write_sync = hooked_fail_record;
    evh_heap *heap = heap_open(test_path("nothing.heap"), &quietly);
    *heap_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    *heap_root(heap) = 2;
    records_to_fail = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_FULL);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);

    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);

    CHECK_EQUAL(*heap_root(heap), 1);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- addresses ---- */

static uint64_t reserved_limit, reserved_now;

static int reserve_within_limit(uint64_t size, uint64_t alignment, uint64_t preferred,
                                void **address)
{
    if (size > reserved_limit - reserved_now) return ENOMEM;
    const int error = os_linux()->reserve(size, alignment, preferred, address);
    if (!error) reserved_now += size;
    return error;
}

static int release_within_limit(void *address, uint64_t size)
{
    reserved_now -= size;
    return os_linux()->release(address, size);
}

/* A writer reserves the mapping, home as large, and of that 1/64 for the allocator's tables. */
TEST(where_addresses_are_limited_a_heap_opens_and_leaves_about_half_of_them)
{
    for (uint64_t limit = 1ull << 30; limit <= 1ull << 33; limit *= 2) {
        hooked_begin();
        hooked.reserve = reserve_within_limit;
        hooked.release = release_within_limit;
        reserved_limit = limit;
        reserved_now = 0;
        const char *path = test_path("addresses.heap");
        evh_heap *heap = heap_open(path, &quietly);
        CHECK(reserved_now <= limit / 2 + limit / 64);
        CHECK(reserved_now >= limit / 8);
        evh_heap *reader = heap_open(path, &reading);
        CHECK(reserved_now <= limit);
        *heap_root(heap) = 1;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_close(reader), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        CHECK_EQUAL(reserved_now, 0);
    }
}

/* ---- private copies ---- */

/* Some tiers take every private page for dirty at each commit: what is home and idle must be given
 * up all the same. */
TEST(idle_private_copies_are_given_up_whatever_finds_the_dirty_pages)
{
    enum { SIZE = 16 << 20, LIMIT = 1 << 20 };
    for (int detect = EVH_DETECT_WATCH; detect <= EVH_DETECT_COMPARE; detect++) {
        hooked_begin();
        const evh_options options = {
            .no_thread = true, .detect = (evh_detect)detect, .private_max_bytes = LIMIT};
        evh_heap *heap = evh_open(test_path("private.heap"), &options);
        if (!heap) { /* this system lacks the tier */
            CHECK_EQUAL(evh_last_error()->status, EVH_UNSUPPORTED);
            continue;
        }
        unsigned char *block = evh_root(heap, "block", SIZE);
        CHECK(block != NULL);
        memset(block, 1, SIZE);
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);

        for (unsigned i = 0; i < 3; i++) {
            block[i] = 9;
            CHECK_EQUAL(evh_commit(heap), EVH_OK);
            CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
        }

        evh_info info;
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        CHECK(info.private_bytes <= LIMIT);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
}

/* ---- a private heap beside a writer ---- */

static bool visit_nothing(const evh_commit_info *commit, void *context)
{
    (void)commit;
    (void)context;
    return true;
}

/* The file is longer than the heap, as after a crash. The private heap grows into that part in its
 * own memory; the writer gives it to the journal; the private heap looks at the journal. */
TEST(a_private_heap_that_lists_commits_keeps_its_blocks_where_the_journal_grew)
{
    enum { SMALL = 100 << 10, SIZE = 3 << 20 };
    const char *path = test_path("beside.heap");
    hooked_begin();
    evh_heap *heap = heap_open(path, &quietly);
    CHECK(evh_root(heap, "small", SMALL) != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK(evh_malloc(heap, 6 << 20) != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = heap_open(path, &quietly);
    evh_heap *private_heap = heap_open(path, &(evh_options){.mode = EVH_PRIVATE});
    uint64_t *block = evh_malloc(private_heap, SIZE);
    CHECK(block != NULL);
    words_fill(block, SIZE, 7);
    const evh_ref ref = evh_ref_to(private_heap, block);
    *heap_root(private_heap) = ref.offset;
    words_fill(evh_root(heap, "small", SMALL), SMALL, 8);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const struct region_extent extent = region_extent_at(heap->region, 0);
    CHECK(extent.slice_count > 0);
    CHECK((uint64_t)extent.first_slice << SLICE_SHIFT >= ref.offset);
    CHECK((uint64_t)extent.first_slice << SLICE_SHIFT < ref.offset + SIZE);

    CHECK_EQUAL(evh_log(private_heap, visit_nothing, NULL), EVH_OK);

    CHECK_EQUAL(evh_check(private_heap, NULL, NULL), EVH_OK);
    const char *saved = test_path("saved.heap");
    CHECK_EQUAL(evh_save(private_heap, saved), EVH_OK);
    evh_heap *copy = heap_open(saved, &verifying);
    CHECK_EQUAL(*heap_root(copy), ref.offset);
    CHECK(words_are(evh_at(copy, ref), SIZE, 7));
    CHECK_EQUAL(evh_close(copy), EVH_OK);
    CHECK_EQUAL(evh_close(private_heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- headers that count too far ---- */

/* Counting on from there must not overflow, or lose the commits that follow. */
TEST(a_header_that_counts_beyond_all_commits_is_not_counted_on_from)
{
    const uint64_t wild[] = {UINT64_MAX, UINT64_MAX - 1, 1ull << 62, REGION_SEQUENCE_MAX};
    for (unsigned i = 0; i < 8; i++) {
        const char *path = test_path("wild.heap");
        hooked_begin();
        evh_heap *heap = heap_open(path, &quietly);
        *heap_root(heap) = 1;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        struct file_bytes content = file_bytes_read(path);
        uint64_t offset = 0;
        struct region_header *header = file_header(&content, &offset);
        *(i % 2 ? &header->generation : &header->sequence) = wild[i / 2];
        file_header_seal(header);
        file_bytes_patch(path, offset, header, sizeof *header);
        file_bytes_end(&content);

        heap = evh_open(path, &quietly);
        if (!heap) {
            CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
            continue;
        }
        CHECK_EQUAL(*heap_root(heap), 1); /* by the other slot, and the journal */
        *heap_root(heap) = 2;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
        *heap_root(heap) = 3;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        heap = heap_open(path, &verifying);
        CHECK_EQUAL(*heap_root(heap), 3);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
}

/* ---- where a checkpoint puts checksums ---- */

enum { SUMS_BYTES = 6 << 20, SUMS_CHANGED = 64 << 10 };

/* A heap beyond the 4 MiB whose checksums are in slice 0; a commit that is not home. */
static evh_heap *sums_make(const char *path, unsigned char **block)
{
    hooked_begin();
    evh_heap *heap = heap_open(path, &quietly);
    *block = evh_root(heap, "block", SUMS_BYTES);
    CHECK(*block != NULL);
    memset(*block, 0x33, SUMS_BYTES);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    memset(*block + SUMS_BYTES - SUMS_CHANGED, 0x44, SUMS_CHANGED);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    return heap;
}

/* After a kill, everything committed is there, and vouched for. */
static void sums_are_right(const char *path)
{
    const char *killed = heap_killed(path);
    heap_is_sound(killed);
    evh_heap *heap = heap_open(killed, &verifying);
    const unsigned char *block = evh_root_find(heap, "block", NULL);
    CHECK(block != NULL);
    CHECK(bytes_are(block, SUMS_BYTES - SUMS_CHANGED, 0x33));
    CHECK(bytes_are(block + SUMS_BYTES - SUMS_CHANGED, SUMS_CHANGED, 0x44));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* Checkpoint while the working directory says `entry` of segment 0, and then again what it said. */
static void sums_checkpoint(evh_heap *heap, const char *path, uint64_t entry)
{
    uint64_t *working = slices_directory_entry(heap, 0);
    const uint64_t committed = *working;
    CHECK(committed != entry);
    *working = entry;

    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);

    sums_are_right(path);
    *working = committed;
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
}

TEST(an_uncommitted_store_into_the_directory_moves_no_checksums_of_a_checkpoint)
{
    const char *path = test_path("stray.heap");
    unsigned char *block = NULL;
    evh_heap *heap = sums_make(path, &block);
    const uint64_t victim = (evh_ref_to(heap, block).offset >> SLICE_SHIFT) + 2;
    sums_checkpoint(heap, path, HEAP_FIRST_META_SLICE | victim << 32);
}

/* A rollback puts pages together in place, base first: a checkpoint beside it would find the
 * directory as it was before the heap passed 4 MiB. */
TEST(a_checkpoint_beside_a_rollback_finds_the_checksums_of_the_last_commit)
{
    const char *path = test_path("rollback.heap");
    unsigned char *block = NULL;
    evh_heap *heap = sums_make(path, &block);
    sums_checkpoint(heap, path, HEAP_FIRST_META_SLICE);
}

/* ---- an extension of the journal that fails ---- */

/* The extension's first write fails. Before it does, another thread asks for more than the heap
 * has, and either has it or waits for the extension to end. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    evh_heap *heap; /* NULL: nothing is to fail */
    pthread_t thread;
    bool was_met;          /* the write came, and failed */
    bool is_planned;       /* whoever extends the journal holds growth back */
    bool is_done, is_held; /* the other thread: has its block, or is held back */
} extension = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static _Thread_local bool is_grower;

enum { EXTENSION_GROWTH = 8 << 20 };

static void extension_tell(bool *what)
{
    (void)pthread_mutex_lock(&extension.mutex);
    *what = true;
    (void)pthread_cond_broadcast(&extension.changed);
    (void)pthread_mutex_unlock(&extension.mutex);
}

static bool extension_is_plan(const struct os_mutex *mutex)
{
    return extension.heap && mutex == extension.heap->region->plan_mutex;
}

static void extension_lock(struct os_mutex *mutex)
{
    if (is_grower && extension_is_plan(mutex) && extension.is_planned)
        extension_tell(&extension.is_held);
    os_linux()->mutex_lock(mutex);
    if (!is_grower && extension_is_plan(mutex)) extension.is_planned = true;
}

static void extension_unlock(struct os_mutex *mutex)
{
    if (!is_grower && extension_is_plan(mutex)) extension.is_planned = false;
    os_linux()->mutex_unlock(mutex);
}

static void *extension_grow(void *context)
{
    evh_heap *heap = context;
    is_grower = true;
    evh_enter(heap);
    unsigned char *block = evh_malloc(heap, EXTENSION_GROWTH);
    if (block) memset(block, 5, EXTENSION_GROWTH);
    evh_leave(heap);
    extension_tell(&extension.is_done);
    return block;
}

static int extension_write(int file, uint64_t offset, const void *data, size_t size)
{
    /* The rest of the extent, behind the record that it is for: no write home is so large. */
    if (!extension.heap || extension.was_met || offset < SLICE_BYTES ||
        size <= JOURNAL_HOME_RUN_BYTES)
        return os_linux()->write(file, offset, data, size);
    extension.was_met = true;
    if (pthread_create(&extension.thread, NULL, extension_grow, extension.heap)) return ENOMEM;
    (void)pthread_mutex_lock(&extension.mutex);
    while (!extension.is_done && !extension.is_held)
        (void)pthread_cond_wait(&extension.changed, &extension.mutex);
    (void)pthread_mutex_unlock(&extension.mutex);
    return EIO;
}

/* Every slice that the heap counts as the journal's is one of an extent. */
static void journal_slices_are_extents(evh_heap *heap)
{
    for (uint64_t slice = 1; slice < heap->state.heap_bytes >> SLICE_SHIFT; slice++)
        if (*slices_descriptor(heap, slice) % 16 == HEAP_JOURNAL)
            CHECK(region_is_journal(heap->region, slice, NULL));
}

TEST(a_journal_that_fails_to_grow_leaves_no_slice_to_nobody)
{
    enum { SMALL = 90 << 10 };
    const char *path = test_path("extension.heap");
    hooked_begin();
    evh_heap *heap = heap_open(path, &quietly);
    void *small = evh_root(heap, "small", SMALL);
    CHECK(small != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    hooked.write = extension_write;
    hooked.mutex_lock = extension_lock;
    hooked.mutex_unlock = extension_unlock;
    heap = heap_open(path, &quietly);
    small = evh_root(heap, "small", SMALL);
    words_fill(small, SMALL, 2);
    extension.was_met = extension.is_planned = extension.is_done = extension.is_held = false;
    extension.heap = heap;

    CHECK_EQUAL(evh_commit(heap), EVH_IO);

    CHECK(extension.was_met);
    void *grown = NULL;
    CHECK(pthread_join(extension.thread, &grown) == 0);
    extension.heap = NULL;
    CHECK(grown != NULL);
    journal_slices_are_extents(heap);
    const char *saved = test_path("saved.heap");
    CHECK_EQUAL(evh_save(heap, saved), EVH_OK);
    heap_is_sound(saved);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    journal_slices_are_extents(heap);
    CHECK(bytes_are(grown, EXTENSION_GROWTH, 5));
    CHECK(words_are(small, SMALL, 2));
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
}

/* ---- readers that come while a writer settles ---- */

enum { SETTLE_BYTES = 512 << 10 };

static evh_heap *settle_heap; /* NULL: nothing happens meanwhile */
static bool settle_hides_status;

/* Another commit, written home, not flushed. */
static void settle_more(evh_heap *heap, unsigned char value)
{
    memset(evh_root_find(heap, "block", NULL), value, SETTLE_BYTES);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(checkpoint_now(heap->journal, CHECKPOINT_SETTLE), EVH_OK);
}

/* The reader knows which commit it wants, and has not locked it yet. */
static int settle_before_lock(int file, uint64_t offset, uint64_t size, enum os_lock_kind kind)
{
    evh_heap *heap = settle_heap;
    if (heap && kind == OS_LOCK_SHARED && offset >= REGION_LOCK_VIEWS) {
        settle_heap = NULL;
        settle_more(heap, 2);
    }
    return os_linux()->lock(file, offset, size, kind);
}

static int settle_write(int file, uint64_t offset, const void *data, size_t size)
{
    if (settle_hides_status && offset == REGION_STATUS_OFFSET) return ENOSPC;
    return os_linux()->write(file, offset, data, size);
}

static evh_heap *settle_begin(const char *path)
{
    hooked_begin();
    hooked.lock = settle_before_lock;
    hooked.write = settle_write;
    settle_hides_status = false;
    settle_heap = NULL;
    evh_heap *heap = heap_open(path, &quietly);
    unsigned char *block = evh_root(heap, "block", SETTLE_BYTES);
    CHECK(block != NULL);
    memset(block, 1, SETTLE_BYTES);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    *heap_root(heap) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    return heap;
}

/* The block is what it was in the commit that the view is said to be: 1 up to commit 2, then 2. */
static void settle_view_is_one_commit(evh_heap *reader)
{
    evh_info info;
    CHECK_EQUAL(evh_get_info(reader, &info), EVH_OK);
    const unsigned char *block = evh_root_find(reader, "block", NULL);
    CHECK(block != NULL);
    CHECK(bytes_are(block, SETTLE_BYTES, info.commit_sequence > 2 ? 2 : 1));
    CHECK_EQUAL(evh_check(reader, NULL, NULL), EVH_OK);
}

TEST(a_reader_that_locks_its_commit_too_late_takes_no_newer_home_for_it)
{
    const char *path = test_path("late.heap");
    evh_heap *heap = settle_begin(path);
    settle_heap = heap;

    evh_heap *reader = heap_open(path, &reading);

    CHECK(settle_heap == NULL);
    CHECK(evh_view_valid(reader));
    settle_view_is_one_commit(reader);
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

static struct raw *late_writer;

/* As settle_before_lock(), and the writer is killed: its locks are gone. */
static int late_lock(int file, uint64_t offset, uint64_t size, enum os_lock_kind kind)
{
    struct raw *raw = late_writer;
    if (raw && kind == OS_LOCK_SHARED && offset >= REGION_LOCK_VIEWS) {
        late_writer = NULL;
        *raw_word(raw, 0, 16) = 3;
        CHECK_EQUAL(raw_commit(raw), EVH_OK);
        CHECK_EQUAL(checkpoint_now(raw->journal, CHECKPOINT_SETTLE), EVH_OK);
        raw_kill(raw);
    }
    return os_linux()->lock(file, offset, size, kind);
}

TEST(a_reader_takes_no_newer_home_for_its_commit_though_who_wrote_it_was_killed)
{
    struct raw raw = {.options = {.no_thread = true}};
    struct raw reader = {0};
    const char *path = test_path("overtaken");
    hooked_begin();
    hooked.lock = late_lock;
    raw_create(&raw, path);
    *raw_word(&raw, 0, 0) = 1;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
    *raw_word(&raw, 0, 8) = 2;
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    late_writer = &raw;

    raw_open(&reader, path, EVH_READ_ONLY);

    CHECK(late_writer == NULL);
    CHECK_EQUAL(reader.journal->view_sequence, 3);
    CHECK_EQUAL(*raw_word(&reader, 0, 8), 2);
    CHECK_EQUAL(*raw_word(&reader, 0, 16), 3);
    raw_close(&reader);
}

/* The reader believes the last status that there is: a commit which home is beyond. */
TEST(a_reader_that_is_told_an_old_commit_takes_no_newer_home_for_it)
{
    const char *path = test_path("hidden.heap");
    evh_heap *heap = settle_begin(path);
    settle_hides_status = true;
    settle_more(heap, 2);

    evh_heap *reader = evh_open(path, &reading);

    if (!reader) CHECK_EQUAL(evh_last_error()->status, EVH_BUSY);
    if (reader && evh_view_valid(reader)) settle_view_is_one_commit(reader);
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    settle_hides_status = false;
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap_is_sound(path);
}

/* ---- a forced checkpoint that is killed ---- */

/* From its `kill_after`-th call on, nothing that the killed process does reaches a file. */
static uint64_t kill_after; /* 0: it lives */
static bool is_dead;

static bool kill_comes(void)
{
    if (!is_dead && kill_after > 0 && --kill_after == 0) is_dead = true;
    return is_dead;
}

static int kill_write(int file, uint64_t offset, const void *data, size_t size)
{
    return kill_comes() ? EIO : os_linux()->write(file, offset, data, size);
}

static int kill_write_sync(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                           bool *flush_failed)
{
    *flush_failed = false;
    return kill_comes() ? EIO : os_linux()->write_sync(file, offset, parts, count, flush_failed);
}

static int kill_flush(int file)
{
    return kill_comes() ? EIO : os_linux()->flush(file);
}

enum { FORCED_PAGES = 6 };

/* Change a word of every second page: other pages lie between, so that each is a write. */
static void forced_store(struct raw *raw, uint64_t word)
{
    for (uint64_t i = 0; i < FORCED_PAGES; i++) *raw_word(raw, 2 * i, 8 * word) = word;
}

static void forced_is(const struct raw *raw, uint64_t last)
{
    for (uint64_t i = 0; i < FORCED_PAGES; i++)
        for (uint64_t word = 1; word <= last; word++)
            CHECK_EQUAL(*raw_word(raw, 2 * i, 8 * word), word);
}

/*
 * Commit 1 is home, 2 is a reader's view, 3 waits. A forced checkpoint revokes the view and brings
 * 3 home; it is killed in its n-th call. The reader stays. The next writer must not bring home
 * what the journal says of commit 2: over a home that has commit 3 already, ranges of 2 make no
 * page that ever was. Returns whether the kill came before the end.
 */
static bool forced_run(uint64_t n, bool commits_more)
{
    struct raw raw = {.options = {.no_thread = true}};
    struct raw reader = {0};
    const char *path = test_path("forced");
    raw_create(&raw, path);
    for (uint64_t i = 0; i < FORCED_PAGES; i++) memset(raw_word(&raw, 2 * i, 0), 0x99, PAGE_BYTES);
    forced_store(&raw, 1);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    CHECK_EQUAL(journal_checkpoint(raw.journal), EVH_OK);
    forced_store(&raw, 2);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    raw_open(&reader, path, EVH_READ_ONLY);
    forced_store(&raw, 3);
    CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    kill_after = n;
    const evh_status status = checkpoint_now(raw.journal, CHECKPOINT_FORCE);
    const bool was_killed = is_dead;
    raw_kill(&raw);
    is_dead = false;
    kill_after = 0;
    CHECK(was_killed || status == EVH_OK);

    raw_open(&raw, path, EVH_DURABLE);

    forced_is(&raw, 3);
    uint64_t last = 3;
    if (commits_more) {
        forced_store(&raw, ++last);
        CHECK_EQUAL(raw_commit(&raw), EVH_OK);
    }
    const bool is_valid = journal_view_valid(reader.journal);
    if (is_valid) forced_is(&reader, 2);
    const evh_status again = journal_checkpoint(raw.journal);
    if (again) test_fail(__FILE__, __LINE__, "n %d: %s", (int)n, evh_last_error()->message);
    CHECK_EQUAL(again, EVH_OK);
    CHECK(raw.region->header.sequence == last || is_valid);
    if (is_valid && journal_view_valid(reader.journal)) forced_is(&reader, 2);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_kill(&raw);
    raw_open(&raw, path, EVH_DURABLE);
    forced_is(&raw, last);
    CHECK_EQUAL(journal_check(raw.journal, NULL, NULL), EVH_OK);
    raw_close(&reader);
    raw_close(&raw);
    CHECK(remove(path) == 0);
    return was_killed;
}

TEST(after_a_killed_forced_checkpoint_no_checkpoint_aims_below_the_view_it_revoked)
{
    for (int commits_more = 0; commits_more < 2; commits_more++) {
        hooked_begin();
        hooked.write = kill_write;
        hooked.write_sync = kill_write_sync;
        hooked.flush = kill_flush;
        uint64_t n = 1;
        while (forced_run(n, commits_more)) n++;
        CHECK(n > FORCED_PAGES); /* each page was a moment to be killed at */
    }
}

/* ---- many threads on a disk that is full now and then ---- */

/*
 * Strategy: threads count in a page of their own, change random words, allocate and free, and
 * commit, some without waiting; one in fifty writes fails as on a full disk.
 * Invariant: what a killed process leaves has every thread's count as of its last commit that was
 * acknowledged, or a later one; and it checks clean.
 */
enum { FULL_THREADS = 4, FULL_ROUNDS = 150, FULL_PAGE = PAGE_BYTES / 8 };

static struct {
    evh_heap *heap;
    uint64_t *counts; /* a page for each thread */
    uint64_t acknowledged[FULL_THREADS];
    uint64_t random; /* of all calls: atomic */
    bool is_full;
} full;

static bool full_now(void)
{
    if (!__atomic_load_n(&full.is_full, __ATOMIC_RELAXED)) return false;
    uint64_t state = __atomic_add_fetch(&full.random, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
    return test_random(&state) % 50 == 0;
}

static int full_write_sync(int file, uint64_t offset, const struct os_part *parts, unsigned count,
                           bool *flush_failed)
{
    *flush_failed = false;
    /* Taking a failed record back must not fail: that poisons. */
    if (offset >= REGION_FIRST_EXTENT_OFFSET && parts[0].size >= PAGE_BYTES && full_now())
        return ENOSPC;
    return os_linux()->write_sync(file, offset, parts, count, flush_failed);
}

static int full_write(int file, uint64_t offset, const void *data, size_t size)
{
    if (offset != REGION_STATUS_OFFSET && full_now()) return ENOSPC;
    return os_linux()->write(file, offset, data, size);
}

static void *full_work(void *context)
{
    const uint64_t number = (uint64_t)(uintptr_t)context;
    uint64_t random = test_seed() + number;
    evh_heap *heap = full.heap;
    for (uint64_t round = 1; round <= FULL_ROUNDS; round++) {
        evh_enter(heap);
        uint64_t *mine = full.counts + number * FULL_PAGE;
        *mine = round;
        for (unsigned i = 0; i < 20; i++)
            mine[1 + test_random(&random) % (FULL_PAGE - 1)] = test_random(&random);
        void *block = round % 10 ? NULL : evh_malloc(heap, 1 + test_random(&random) % 300000);
        evh_leave(heap);
        evh_ticket ticket = 0;
        evh_status status = evh_commit_begin(heap, &ticket);
        const bool waits = round % 3 != 0;
        if (!status && waits) status = evh_commit_wait(heap, ticket);
        if (status) CHECK_EQUAL(status, EVH_FULL);
        if (!status && waits) full.acknowledged[number] = round;
        evh_enter(heap);
        evh_free(heap, block);
        evh_leave(heap);
        if (round % 50 == 7) (void)evh_checkpoint(heap);
    }
    return NULL;
}

TEST(no_acknowledged_commit_of_many_threads_is_lost_where_the_disk_is_full_now_and_then)
{
    const char *path = test_path("full.heap");
    hooked_begin();
    hooked.write = full_write;
    hooked.write_sync = full_write_sync;
    full.random = test_seed();
    full.is_full = false;
    full.heap = heap_open(
        path, &(evh_options){.checkpoint_bytes = 128 << 10, .journal_max_bytes = 512 << 10});
    full.counts = evh_root(full.heap, "counts", FULL_THREADS * PAGE_BYTES);
    CHECK(full.counts != NULL);
    CHECK_EQUAL(evh_commit(full.heap), EVH_OK);
    __atomic_store_n(&full.is_full, true, __ATOMIC_RELAXED);
    pthread_t threads[FULL_THREADS];
    for (uintptr_t i = 0; i < FULL_THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, full_work, (void *)i) == 0);
    for (unsigned i = 0; i < FULL_THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    __atomic_store_n(&full.is_full, false, __ATOMIC_RELAXED);

    evh_heap *killed = heap_open(heap_killed(path), &verifying);

    const uint64_t *counts = evh_root_find(killed, "counts", NULL);
    CHECK(counts != NULL);
    for (unsigned i = 0; i < FULL_THREADS; i++)
        CHECK(counts[i * FULL_PAGE] >= full.acknowledged[i]);
    CHECK_EQUAL(evh_check(killed, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(killed), EVH_OK);
    (void)evh_close(full.heap); /* it tells of the commits that failed and nobody waited for */
    heap_is_sound(path);
}
