/* open_test.c -- opening: what it makes, and what it refuses without touching a byte. */
#include "heap/heap.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- files as bytes ---- */

enum { CONTENT_MAX = 4 << 20 };

struct content {
    unsigned char *bytes; /* static: tests stop anywhere */
    size_t size;
};

/* Two contents at a time: before and after. */
static struct content content_read(const char *path)
{
    static unsigned char buffers[2][CONTENT_MAX];
    static unsigned next;
    struct content content = {.bytes = buffers[next++ % 2]};
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    content.size = fread(content.bytes, 1, CONTENT_MAX, file);
    CHECK(content.size < CONTENT_MAX);
    (void)fclose(file);
    return content;
}

static void content_write(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_EQUAL(fwrite(bytes, 1, size, file), size);
    CHECK(fclose(file) == 0);
}

static void content_overwrite(const char *path, size_t offset, const void *bytes, size_t size)
{
    const int file = open(path, O_WRONLY);
    CHECK(file >= 0);
    CHECK_EQUAL(pwrite(file, bytes, size, (off_t)offset), size);
    CHECK(close(file) == 0);
}

static bool is_status_in(evh_status status, const evh_status *statuses, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (statuses[i] == status) return true;
    return false;
}

/* Opening in `options` is refused with one of the statuses; the message names the path; no byte has
 * changed. Returns the status. */
static evh_status refused(const char *path, const evh_options *options, const evh_status *statuses,
                          size_t status_count)
{
    const struct content before = content_read(path);
    evh_heap *heap = evh_open(path, options);
    const evh_error *error = evh_last_error();
    if (heap || !is_status_in(error->status, statuses, status_count))
        test_fail(__FILE__, __LINE__, "opened %d, %s: %s", heap != NULL,
                  evh_status_name(error->status), error->message);
    CHECK(heap == NULL);
    CHECK(is_status_in(error->status, statuses, status_count));
    CHECK(strstr(error->message, path) != NULL);
    const struct content after = content_read(path);
    CHECK_EQUAL(after.size, before.size);
    CHECK(memcmp(after.bytes, before.bytes, before.size) == 0);
    return error->status;
}

#define REFUSED(path, options, ...)                                                                \
    refused(path, options, (const evh_status[]){__VA_ARGS__},                                      \
            sizeof((const evh_status[]){__VA_ARGS__}) / sizeof(evh_status))

static const evh_options durable = {.must_exist = true};
static const evh_options reading = {.mode = EVH_READ_ONLY};
static const evh_options private = {.mode = EVH_PRIVATE};
static const evh_options *const modes[] = {&durable, &reading, &private};

/* A closed heap with a root "value" of 8 bytes that is `value`, after some commits. */
static const char *open_make(const char *name, uint64_t value)
{
    const char *path = test_path(name);
    evh_heap *heap = evh_open(path, NULL);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    uint64_t *root = evh_root(heap, "value", sizeof *root);
    CHECK(root != NULL);
    for (uint64_t i = 0; i <= value; i++) {
        *root = i;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    return path;
}

static void open_holds(const char *path, const evh_options *options, uint64_t value)
{
    evh_heap *heap = evh_open(path, options);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    uint64_t *root = evh_root_find(heap, "value", NULL);
    CHECK(root != NULL);
    CHECK_EQUAL(*root, value);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* Change the header records in the slots and make their checksums right again. */
static void open_edit_headers(const char *path, void (*edit)(struct region_header *header))
{
    const struct content content = content_read(path);
    for (size_t slot = 0; slot < REGION_SLOT_COUNT; slot++) {
        struct region_header header;
        memcpy(&header, content.bytes + slot * REGION_SLOT_STRIDE, sizeof header);
        if (header.magic != REGION_MAGIC) continue;
        edit(&header);
        header.crc = base_crc32c(0, &header, offsetof(struct region_header, crc));
        content_overwrite(path, slot * REGION_SLOT_STRIDE, &header, sizeof header);
    }
}

/* ---- what opening makes ---- */

TEST(a_new_heap_takes_at_most_256_kib_and_is_there_again)
{
    const char *path = open_make("new.heap", 5);
    struct stat info;
    CHECK(stat(path, &info) == 0);
    CHECK(info.st_size <= 256 * 1024);
    CHECK(info.st_blocks * 512 <= (256 + 4) * 1024); /* and a block of the file system's own */
    CHECK_EQUAL(info.st_mode & 0777, 0600);
    for (unsigned i = 0; i < 3; i++) open_holds(path, modes[i], 5);
}

TEST(a_new_heap_gets_the_permissions_asked_for)
{
    const char *path = test_path("permissions.heap");
    const mode_t mask = umask(0);
    evh_heap *heap = evh_open(path, &(evh_options){.permissions = 0640});
    (void)umask(mask);
    CHECK(heap != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    struct stat info;
    CHECK(stat(path, &info) == 0);
    CHECK_EQUAL(info.st_mode & 0777, 0640);
}

TEST(a_heap_that_is_closed_without_a_commit_exists_and_is_empty)
{
    const char *path = test_path("empty.heap");
    evh_heap *heap = evh_open(path, NULL);
    CHECK(heap != NULL);
    CHECK(evh_root(heap, "lost", 8) != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = evh_open(path, &durable);
    CHECK(heap != NULL);
    CHECK(evh_root_find(heap, "lost", NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(closing_null_is_fine)
{
    CHECK_EQUAL(evh_close(NULL), EVH_OK);
}

TEST(a_copy_opens_beside_its_original_at_another_address)
{
    const char *first = open_make("first.heap", 1);
    const char *second = test_path("second.heap");
    const struct content content = content_read(first);
    content_write(second, content.bytes, content.size);
    evh_heap *one = evh_open(first, NULL);
    evh_heap *two = evh_open(second, NULL);
    CHECK(one && two);
    CHECK(evh_at(one, (evh_ref){65536}) != evh_at(two, (evh_ref){65536}));
    uint64_t *a = evh_root_find(one, "value", NULL);
    uint64_t *b = evh_root_find(two, "value", NULL);
    CHECK(a && b && a != b && *a == 1 && *b == 1);
    CHECK(evh_heap_of(a) == one && evh_heap_of(b) == two);
    CHECK_EQUAL(evh_close(one), EVH_OK);
    CHECK_EQUAL(evh_close(two), EVH_OK);
}

TEST(heap_of_knows_whose_an_address_is)
{
    int outside = 0;
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    char *block = evh_malloc(heap, 100000);
    CHECK(block != NULL);
    CHECK(evh_heap_of(block) == heap);
    CHECK(evh_heap_of(block + 99999) == heap);
    CHECK(evh_heap_of(heap->view.base + heap->view.end_bytes) == NULL);
    CHECK(evh_heap_of(&outside) == NULL);
    CHECK(evh_heap_of(NULL) == NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK(evh_heap_of(block) == NULL);
}

TEST(a_thousand_heaps_are_open_at_once_and_the_1025th_is_refused)
{
    static evh_heap *heaps[1025];
    for (unsigned i = 0; i < 1024; i++) {
        heaps[i] = evh_open_memory(NULL, 4096, NULL);
        CHECK(heaps[i] != NULL);
    }
    CHECK(evh_open_memory(NULL, 4096, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
    for (unsigned i = 0; i < 1024; i++) CHECK(evh_heap_of(evh_malloc(heaps[i], 16)) == heaps[i]);
    CHECK_EQUAL(evh_close(heaps[500]), EVH_OK);
    heaps[500] = evh_open_memory(NULL, 4096, NULL);
    CHECK(heaps[500] != NULL);
    for (unsigned i = 0; i < 1024; i++) CHECK_EQUAL(evh_close(heaps[i]), EVH_OK);
}

/* ---- threads ---- */

static void *open_churn(void *stop)
{
    while (!__atomic_load_n((bool *)stop, __ATOMIC_ACQUIRE)) {
        evh_heap *heap = evh_open_memory(NULL, 8192, NULL);
        CHECK(heap != NULL);
        CHECK(evh_heap_of(evh_malloc(heap, 16)) == heap);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
    return NULL;
}

TEST(heap_of_is_right_while_other_heaps_come_and_go)
{
    enum { THREADS = 4 };
    bool stop = false;
    pthread_t threads[THREADS];
    evh_heap *heap = evh_open_memory(NULL, 100000, NULL);
    const void *block = evh_malloc(heap, 16);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, open_churn, &stop) == 0);
    bool is_right = true;
    for (unsigned i = 0; i < 100000; i++) is_right &= evh_heap_of(block) == heap;
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(is_right);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

struct open_racer {
    const char *path;
    evh_heap *heap;
    evh_status status;
};

static void *open_race(void *context)
{
    struct open_racer *racer = context;
    racer->heap = evh_open(racer->path, NULL);
    racer->status = racer->heap ? EVH_OK : evh_last_error()->status;
    return NULL;
}

TEST(of_threads_that_create_the_same_heap_one_gets_it)
{
    enum { THREADS = 8 };
    for (unsigned round = 0; round < 10; round++) {
        struct open_racer racers[THREADS];
        pthread_t threads[THREADS];
        const char *path = test_path("race.heap");
        unsigned winners = 0;
        for (unsigned i = 0; i < THREADS; i++) {
            racers[i] = (struct open_racer){.path = path};
            CHECK(pthread_create(&threads[i], NULL, open_race, &racers[i]) == 0);
        }
        for (unsigned i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
        for (unsigned i = 0; i < THREADS; i++) {
            winners += racers[i].heap != NULL;
            CHECK(racers[i].heap || racers[i].status == EVH_BUSY);
        }
        CHECK_EQUAL(winners, 1);
        for (unsigned i = 0; i < THREADS; i++) CHECK_EQUAL(evh_close(racers[i].heap), EVH_OK);
        CHECK(unlink(path) == 0);
    }
}

/* ---- arguments ---- */

TEST(a_path_that_is_null_or_empty_is_invalid)
{
    CHECK(evh_open(NULL, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_open("", NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
}

TEST(options_that_cannot_be_are_refused_before_anything_is_made)
{
    const char *path = test_path("options.heap");
    const struct {
        evh_options options;
        evh_status status;
    } cases[] = {
        {{.mode = 5}, EVH_INVALID},
        {{.mode = 99}, EVH_INVALID},
        {{.mode = EVH_MEMORY}, EVH_MODE},
        {{.must_exist = true, .must_create = true}, EVH_INVALID},
        {{.mode = EVH_READ_ONLY, .must_create = true}, EVH_INVALID},
        {{.mode = EVH_PRIVATE, .must_create = true}, EVH_INVALID},
        {{.detect = (evh_detect)77}, EVH_INVALID},
        {{.misuse = (evh_misuse)2}, EVH_INVALID},
        {{.permissions = 01000}, EVH_INVALID},
        {{.size_max_bytes = UINT64_MAX}, EVH_LIMIT},
        {{.size_max_bytes = (1ull << 47) + 1}, EVH_LIMIT},
        {{.size_max_bytes = 1}, EVH_INVALID},
        {{.checkpoint_bytes = 2 << 20, .journal_max_bytes = 1 << 20}, EVH_INVALID},
        {{.reserved = {0, 0, 0, 0, 0, 1}}, EVH_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK(evh_open(path, &cases[i].options) == NULL);
        CHECK_EQUAL(evh_last_error()->status, cases[i].status);
        CHECK(strstr(evh_last_error()->message, path) != NULL);
        CHECK(access(path, F_OK) != 0);
    }
}

TEST(memory_heaps_refuse_what_they_cannot_be)
{
    static unsigned char buffer[8192];
    CHECK(evh_open_memory(NULL, SIZE_MAX, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_open_memory(buffer, SIZE_MAX / 2, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_open_memory(buffer, 0, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_open_memory(buffer, sizeof buffer, &reading) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_open_memory(NULL, 0, &durable) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_HEAP);
    for (size_t i = 0; i < sizeof buffer; i++) CHECK_EQUAL(buffer[i], 0);
}

/* ---- paths that are no heap's ---- */

TEST(a_path_that_does_not_exist_is_not_found_and_not_made)
{
    const char *path = test_path("missing.heap");
    char deeper[600];
    (void)snprintf(deeper, sizeof deeper, "%s/deeper.heap", path);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(evh_open(path, modes[i]) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
        CHECK(strstr(evh_last_error()->message, path) != NULL);
    }
    CHECK(evh_open(deeper, NULL) == NULL); /* its directory is missing: nothing can be made */
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
    CHECK(strstr(evh_last_error()->message, deeper) != NULL);
    CHECK(access(path, F_OK) != 0);
}

TEST(must_create_refuses_what_is_there)
{
    const char *path = open_make("there.heap", 1);
    REFUSED(path, &(evh_options){.must_create = true}, EVH_EXISTS);
    open_holds(path, NULL, 1);
}

TEST(a_directory_a_fifo_and_a_device_are_no_heaps)
{
    const char *directory = test_path("directory");
    const char *fifo = test_path("fifo");
    CHECK(mkdir(directory, 0700) == 0);
    CHECK(mkfifo(fifo, 0600) == 0);
    const char *const paths[] = {directory, fifo, "/dev/null"};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned j = 0; j < 3; j++) {
            CHECK(evh_open(paths[i], modes[j]) == NULL);
            CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FILE);
            CHECK(strstr(evh_last_error()->message, paths[i]) != NULL);
        }
}

TEST(a_symbolic_link_is_followed_unless_told_otherwise)
{
    const char *path = open_make("target.heap", 1);
    const char *link_path = test_path("link.heap");
    CHECK(symlink(path, link_path) == 0);
    open_holds(link_path, NULL, 1);
    evh_options options = {.no_follow = true};
    CHECK(evh_open(link_path, &options) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FILE);
    const char *dangling = test_path("dangling.heap");
    CHECK(symlink(test_path("nowhere.heap"), dangling) == 0);
    CHECK(evh_open(dangling, NULL) == NULL); /* a heap is never made through a link */
    CHECK(evh_last_error()->status == EVH_NOT_FOUND || evh_last_error()->status == EVH_EXISTS);
}

/* Run `test` in a child that is an ordinary user, in a directory of its own. Root may open
 * anything. */
static void open_as_user(void (*test)(void))
{
    const char *directory = test_path("user");
    CHECK(mkdir(directory, 0777) == 0);
    CHECK(chmod(directory, 0777) == 0);
    (void)fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (chdir(directory)) _exit(2);
        if (geteuid() == 0 && (setgid(65534) || setuid(65534))) _exit(2);
        test();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 0);
}

static void child_check(bool condition, int code)
{
    if (condition) return;
    fprintf(stderr, "child: check %d: %s\n", code, evh_last_error()->message);
    _exit(code);
}

static void child_read_only_file(void)
{
    evh_heap *heap = evh_open("locked.heap", NULL);
    child_check(heap && evh_root(heap, "value", 8) && !evh_commit(heap) && !evh_close(heap), 10);
    child_check(chmod("locked.heap", 0400) == 0, 11);
    child_check(!evh_open("locked.heap", NULL), 12);
    child_check(evh_last_error()->status == EVH_ACCESS, 13);
    child_check(strstr(evh_last_error()->message, "locked.heap") != NULL, 14);
    heap = evh_open("locked.heap", &reading);
    child_check(heap && evh_root_find(heap, "value", NULL) && !evh_close(heap), 15);
    heap = evh_open("locked.heap", &private);
    child_check(heap && evh_malloc(heap, 100) && !evh_close(heap), 16);
    child_check(chmod("locked.heap", 0) == 0, 17);
    child_check(!evh_open("locked.heap", &reading), 18);
    child_check(evh_last_error()->status == EVH_ACCESS, 19);
}

TEST(a_file_that_may_only_be_read_opens_for_readers)
{
    open_as_user(child_read_only_file);
}

static void child_read_only_directory(void)
{
    child_check(mkdir("shut", 0555) == 0, 20);
    child_check(!evh_open("shut/new.heap", NULL), 21);
    child_check(evh_last_error()->status == EVH_ACCESS, 22);
    child_check(strstr(evh_last_error()->message, "shut/new.heap") != NULL, 23);
}

TEST(a_directory_that_may_not_be_written_gets_no_heap)
{
    open_as_user(child_read_only_directory);
}

static void child_full_disk(void)
{
    /* The process's limit on file sizes stands for a full disk: it refuses in the same places. */
    const struct rlimit limit = {128 * 1024, 128 * 1024};
    (void)signal(SIGXFSZ, SIG_IGN);
    child_check(setrlimit(RLIMIT_FSIZE, &limit) == 0, 30);
    child_check(!evh_open("full.heap", NULL), 31);
    child_check(evh_last_error()->status == EVH_FULL, 32);
    child_check(strstr(evh_last_error()->message, "full.heap") != NULL, 33);
    child_check(access("full.heap", F_OK) != 0, 34);
}

TEST(a_full_disk_gets_no_heap_and_no_half_of_one)
{
    open_as_user(child_full_disk);
}

/* ---- files that are no heap, or no longer one ---- */

TEST(a_file_of_something_else_is_no_heap)
{
    const char *path = test_path("text.txt");
    char text[20000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i % 26);
    for (size_t size = 1; size <= sizeof text; size += 1 + size / 3) {
        content_write(path, text, size);
        for (unsigned i = 0; i < 3; i++) REFUSED(path, modes[i], EVH_NOT_HEAP);
    }
}

TEST(an_empty_file_and_one_of_zeroes_are_no_heaps)
{
    const char *path = test_path("zero.heap");
    static const char zeroes[300000];
    content_write(path, zeroes, 0);
    REFUSED(path, NULL, EVH_NOT_HEAP);
    for (unsigned i = 0; i < 3; i++) REFUSED(path, modes[i], EVH_NOT_HEAP);
    content_write(path, zeroes, sizeof zeroes);
    for (unsigned i = 0; i < 3; i++) REFUSED(path, modes[i], EVH_NOT_HEAP);
}

TEST(a_heap_cut_off_at_any_length_up_to_8_kib_says_so)
{
    const char *path = open_make("cut.heap", 3);
    for (size_t size = 8193; size-- > 0;) { /* downwards: nothing is written again */
        CHECK(truncate(path, (off_t)size) == 0);
        /* A writer flushes before it believes, which takes its time: one in 64. */
        const evh_options *mode = size % 64 == 0 ? &durable : modes[1 + size % 2];
        const evh_status status = REFUSED(path, mode, EVH_TRUNCATED, EVH_NOT_HEAP);
        CHECK_EQUAL(status, size < 8 ? EVH_NOT_HEAP : EVH_TRUNCATED);
    }
}

TEST(a_heap_cut_off_at_any_page_says_so)
{
    const char *path = open_make("cut.heap", 3);
    static unsigned char whole[CONTENT_MAX];
    const struct content content = content_read(path);
    memcpy(whole, content.bytes, content.size);
    struct region_header header;
    memcpy(&header, whole, sizeof header);
    CHECK(header.heap_bytes <= content.size); /* the file may be longer than the heap */
    for (size_t size = 4096; size < header.heap_bytes; size += 4096) {
        content_write(path, whole, size);
        for (unsigned i = 0; i < 3; i++) REFUSED(path, modes[i], EVH_TRUNCATED);
    }
}

TEST(a_heap_that_became_longer_is_fine)
{
    const char *path = open_make("long.heap", 3);
    CHECK(truncate(path, 10 << 20) == 0);
    for (unsigned i = 0; i < 3; i++) open_holds(path, modes[i], 3);
    CHECK(truncate(path, (3 << 20) + 17) == 0);
    open_holds(path, &durable, 3);
}

/* ---- headers ---- */

static void edit_version(struct region_header *header)
{
    header->format_version = REGION_FORMAT_VERSION + 1;
}

static void edit_feature(struct region_header *header)
{
    header->incompatible = 1ull << 40;
}

static void edit_feature_for_readers(struct region_header *header)
{
    header->read_only_compatible = 1;
}

static void edit_feature_for_all(struct region_header *header)
{
    header->compatible = 1;
}

static void edit_order(struct region_header *header)
{
    header->magic = __builtin_bswap64(header->magic);
    header->byte_order = __builtin_bswap32(header->byte_order);
}

static void edit_mode(struct region_header *header)
{
    header->mode = 5;
}

static void edit_mode_live(struct region_header *header)
{
    header->mode = EVH_LIVE;
}

static void edit_mode_memory(struct region_header *header)
{
    header->mode = EVH_MEMORY;
}

static void edit_huge(struct region_header *header)
{
    header->heap_bytes = 1ull << 46;
}

static void edit_impossible(struct region_header *header)
{
    header->heap_bytes = UINT64_MAX - 65535;
}

static void edit_odd(struct region_header *header)
{
    header->heap_bytes += 4096;
}

static void edit_catalog(struct region_header *header)
{
    header->catalog = header->heap_bytes;
}

static void edit_catalog_wild(struct region_header *header)
{
    header->catalog = 77777;
}

static void edit_tail(struct region_header *header)
{
    header->tail_offset = 1ull << 60;
}

static void edit_extent(struct region_header *header)
{
    header->extents[0] = (struct region_extent){UINT32_MAX, UINT32_MAX};
}

static void edit_extent_low(struct region_header *header)
{
    header->extents[0] = (struct region_extent){0, 1};
}

TEST(a_header_that_cannot_be_is_refused_with_its_own_status)
{
    const struct {
        void (*edit)(struct region_header *header);
        evh_status status;
    } cases[] = {
        {edit_version, EVH_VERSION},    {edit_feature, EVH_VERSION},
        {edit_order, EVH_BYTE_ORDER},   {edit_mode, EVH_MODE},
        {edit_mode_memory, EVH_MODE},   {edit_huge, EVH_TRUNCATED},
        {edit_impossible, EVH_CORRUPT}, {edit_odd, EVH_CORRUPT},
        {edit_catalog, EVH_CORRUPT},    {edit_tail, EVH_CORRUPT},
        {edit_extent, EVH_TRUNCATED},   {edit_extent_low, EVH_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = open_make("edited.heap", 2);
        open_edit_headers(path, cases[i].edit);
        for (unsigned j = 0; j < 3; j++) {
            REFUSED(path, modes[j], cases[i].status);
            CHECK(evh_last_error()->offset != UINT64_MAX || cases[i].status == EVH_TRUNCATED);
        }
    }
}

TEST(a_durable_heap_whose_header_says_live_is_refused)
{
    const evh_options live = {.mode = EVH_LIVE};
    const char *path = open_make("edited.heap", 2);
    open_edit_headers(path, edit_mode_live);
    REFUSED(path, &durable, EVH_MODE);
    REFUSED(path, &live, EVH_CORRUPT);
    REFUSED(path, &reading, EVH_CORRUPT);
    REFUSED(path, &private, EVH_CORRUPT);
}

TEST(a_feature_that_only_readers_may_ignore_refuses_writers)
{
    const char *path = open_make("feature.heap", 2);
    open_edit_headers(path, edit_feature_for_readers);
    REFUSED(path, &durable, EVH_VERSION);
    open_holds(path, &reading, 2);
    open_edit_headers(path, edit_feature_for_all);
}

TEST(a_feature_that_all_may_ignore_refuses_nobody)
{
    const char *path = open_make("feature.heap", 2);
    open_edit_headers(path, edit_feature_for_all);
    for (unsigned i = 0; i < 3; i++) open_holds(path, modes[i], 2);
}

TEST(a_wild_catalog_is_corrupt_where_it_is_used)
{
    const char *path = open_make("wild.heap", 2);
    open_edit_headers(path, edit_catalog_wild);
    evh_heap *heap = evh_open(path, &reading);
    if (heap) { /* headers only are checked while opening */
        CHECK(evh_root_find(heap, "value", NULL) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
        CHECK(strstr(evh_last_error()->message, path) != NULL);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_CORRUPT);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    } else {
        CHECK_EQUAL(evh_last_error()->status, EVH_CORRUPT);
    }
}

TEST(a_damaged_byte_in_both_headers_is_always_refused)
{
    const char *path = open_make("flip.heap", 3);
    for (size_t i = 0; i < REGION_SLOT_BYTES; i++) {
        const struct content content = content_read(path);
        const unsigned char old[2] = {content.bytes[i], content.bytes[REGION_SLOT_STRIDE + i]};
        const unsigned char flip = (unsigned char)(1u << i % 8);
        const unsigned char changed[2] = {old[0] ^ flip, old[1] ^ flip};
        content_overwrite(path, i, &changed[0], 1);
        content_overwrite(path, REGION_SLOT_STRIDE + i, &changed[1], 1);
        const evh_status status = REFUSED(path, modes[i % 3], EVH_CORRUPT, EVH_NOT_HEAP);
        CHECK_EQUAL(status, i < 8 ? EVH_NOT_HEAP : EVH_CORRUPT);
        content_overwrite(path, i, &old[0], 1);
        content_overwrite(path, REGION_SLOT_STRIDE + i, &old[1], 1);
    }
    open_holds(path, &durable, 3);
}

/* One slot is damaged: the other one serves if it tells the last commit; if not, refused. */
TEST(a_damaged_byte_in_one_header_never_shows_an_older_commit)
{
    const char *path = open_make("flip.heap", 3);
    static unsigned char whole[CONTENT_MAX];
    const struct content content = content_read(path);
    const size_t size = content.size;
    memcpy(whole, content.bytes, size);
    for (size_t i = 0; i < 2 * REGION_SLOT_BYTES; i++) {
        const size_t at = i / REGION_SLOT_BYTES * REGION_SLOT_STRIDE + i % REGION_SLOT_BYTES;
        const unsigned char changed = whole[at] ^ (unsigned char)(1u << i % 8);
        const bool is_writer = i % 64 == 0; /* who may write, and so repair, what it opens */
        content_overwrite(path, at, &changed, 1);
        evh_heap *heap = evh_open(path, is_writer ? &durable : modes[1 + i % 2]);
        if (heap) {
            const uint64_t *root = evh_root_find(heap, "value", NULL);
            CHECK(root != NULL);
            CHECK_EQUAL(*root, 3);
            CHECK_EQUAL(evh_close(heap), EVH_OK);
        } else {
            CHECK(evh_last_error()->status == EVH_CORRUPT ||
                  evh_last_error()->status == EVH_NOT_HEAP);
        }
        if (is_writer)
            content_write(path, whole, size);
        else
            content_overwrite(path, at, &whole[at], 1);
    }
}

/* ---- opened twice ---- */

TEST(a_second_writer_is_refused_and_told_whose_it_is)
{
    const char *path = open_make("twice.heap", 2);
    evh_heap *heap = evh_open(path, NULL);
    CHECK(heap != NULL);
    char process[32];
    (void)snprintf(process, sizeof process, "%ld", (long)getpid());
    CHECK(evh_open(path, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_BUSY);
    CHECK(strstr(evh_last_error()->message, path) != NULL);
    CHECK(strstr(evh_last_error()->message, process) != NULL);
    evh_heap *reader = evh_open(path, &reading); /* readers are welcome */
    CHECK(reader != NULL);
    CHECK_EQUAL(evh_close(reader), EVH_OK);
    CHECK(evh_open(path, NULL) == NULL); /* closing the reader has not dropped the lock */
    CHECK_EQUAL(evh_last_error()->status, EVH_BUSY);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    open_holds(path, NULL, 2);
}

TEST(a_writer_in_another_process_is_refused_and_told_whose_it_is)
{
    const char *path = open_make("other.heap", 2);
    evh_heap *heap = evh_open(path, NULL);
    CHECK(heap != NULL);
    char process[32];
    (void)snprintf(process, sizeof process, "%ld", (long)getpid());
    (void)fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        child_check(!evh_open(path, NULL), 40);
        child_check(evh_last_error()->status == EVH_BUSY, 41);
        child_check(strstr(evh_last_error()->message, process) != NULL, 42);
        child_check(strstr(evh_last_error()->message, path) != NULL, 43);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- memory and buffers in the layout of slices ---- */

static unsigned char *open_buffer(size_t size)
{
    static unsigned char *buffers[32]; /* reachable: freed when the process ends */
    static size_t count;
    unsigned char *buffer = aligned_alloc(65536, size);
    CHECK(buffer != NULL && count < 32);
    buffers[count] = buffer;
    memset(buffers[count], 0xa5, size);
    return buffers[count++];
}

TEST(an_image_in_a_large_buffer_is_attached_wherever_it_is_copied)
{
    enum { SIZE = 8 << 20 };
    unsigned char *first = open_buffer(SIZE);
    unsigned char *second = open_buffer(SIZE);
    evh_heap *heap = evh_open_memory(first, SIZE, NULL);
    CHECK(heap != NULL && !heap->compact);
    evh_ref *root = evh_root(heap, "root", sizeof *root);
    uint32_t *numbers = evh_calloc(heap, 1000000, sizeof *numbers);
    CHECK(root && numbers);
    CHECK_EQUAL(numbers[999999], 0); /* the buffer was not zero */
    numbers[999999] = 17;
    *root = evh_ref_to(heap, numbers);
    memcpy(second, first, SIZE); /* at any quiet moment, without a word */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = evh_open_memory(second, SIZE, &durable);
    CHECK(heap != NULL);
    root = evh_root_find(heap, "root", NULL);
    CHECK(root != NULL);
    numbers = evh_at(heap, *root);
    CHECK(numbers != NULL && numbers[999999] == 17);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    while (evh_malloc(heap, 100000)) continue;
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_large_buffer_refuses_damaged_cut_and_misplaced_images)
{
    enum { SIZE = 2 << 20 };
    unsigned char *image = open_buffer(SIZE);
    unsigned char *buffer = open_buffer(2 * SIZE);
    evh_heap *heap = evh_open_memory(image, SIZE, NULL);
    CHECK(heap && evh_root(heap, "root", 8) && evh_malloc(heap, 500000));
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    for (size_t i = 0; i < REGION_SLOT_BYTES; i++) {
        memcpy(buffer, image, SIZE);
        buffer[i] ^= 1;
        CHECK(evh_open_memory(buffer, SIZE, &durable) == NULL);
        CHECK(is_status_in(evh_last_error()->status, (evh_status[]){EVH_CORRUPT, EVH_NOT_HEAP}, 2));
    }
    memcpy(buffer, image, SIZE);
    CHECK(evh_open_memory(buffer, 65536, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_TRUNCATED);
    CHECK(evh_open_memory(buffer, 262144 + 65536, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_TRUNCATED);
    memcpy(buffer + 4096, image, SIZE);
    CHECK(evh_open_memory(buffer + 4096, SIZE, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(memcmp(buffer + 4096, image, SIZE) == 0);
}

TEST(a_saved_heap_read_into_a_buffer_is_attached)
{
    const char *path = test_path("saved.heap");
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    uint64_t *value = evh_root(heap, "value", 8);
    CHECK(value != NULL);
    *value = 99;
    CHECK_EQUAL(evh_save(heap, path), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    open_holds(path, &durable, 99);
    const struct content content = content_read(path);
    unsigned char *buffer = open_buffer(4 << 20);
    memcpy(buffer, content.bytes, content.size);
    for (unsigned i = 0; i < 2; i++) { /* as a durable heap's image, then as a memory heap's */
        heap = evh_open_memory(buffer, 4 << 20, &durable);
        if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        CHECK(heap != NULL);
        value = evh_root_find(heap, "value", NULL);
        CHECK(value != NULL);
        CHECK_EQUAL(*value, 99 + i);
        ++*value;
        CHECK(evh_malloc(heap, 1 << 20) != NULL);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
}

TEST(the_image_of_a_heap_that_was_killed_is_for_recovery_not_for_a_buffer)
{
    const char *path = test_path("killed.heap");
    evh_heap *heap = evh_open(path, &(evh_options){.no_thread = true});
    uint64_t *value = evh_root(heap, "value", 8);
    CHECK(value != NULL);
    *value = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const struct content content = content_read(path); /* as if it were killed now */
    unsigned char *buffer = open_buffer(4 << 20);
    memcpy(buffer, content.bytes, content.size);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK(evh_open_memory(buffer, 4 << 20, NULL) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_MODE);
    CHECK(memcmp(buffer, content.bytes, content.size) == 0);
}

TEST(a_memory_heap_grows_to_its_size_and_no_further)
{
    evh_heap *heap = evh_open_memory(NULL, 4 << 20, NULL);
    CHECK(heap != NULL);
    uint64_t blocks = 0;
    while (evh_malloc(heap, 60000)) blocks++;
    CHECK_EQUAL(evh_last_error()->status, EVH_FULL);
    CHECK(blocks * 60000 > 3 << 20);
    CHECK(heap->view.end_bytes <= 4 << 20);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}
