/* live_file_test.c -- the file of a live heap is renamed, unlinked, replaced, copied with holes, or
 * limited, and a program that has it open changes its directory. */
#include "support/live_heap.h"
#include "test.h"

#include <everheap.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A new directory, and a path in it. Static, as test_path(). */
static const char *new_directory(char inside[1024])
{
    const char *path = test_path("directory");
    CHECK_EQUAL(mkdir(path, 0700), 0);
    snprintf(inside, 1024, "%s/heap", path);
    return path;
}

/* Whether a forked child can free `block`, and allocate. */
static bool child_can_work(evh_heap *heap, void *block)
{
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        evh_free(heap, block);
        _exit(evh_malloc(heap, 10) && evh_usable_size(heap, block) == 0 ? 0 : 1);
    }
    int status = -1;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return status == 0;
}

/* Two heaps called "heap" in two directories; the program goes from one to the other. */
struct places {
    char here[1024], there[1024];
    int start; /* the directory that the test began in */
    evh_heap *heap, *other;
};

static struct places go_elsewhere(void)
{
    struct places places = {.start = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    CHECK(places.start >= 0);
    const char *here = new_directory(places.here);
    const char *there = new_directory(places.there);
    places.other = live_open(places.there);
    CHECK_EQUAL(chdir(here), 0);
    places.heap = live_open("heap");
    CHECK_EQUAL(chdir(there), 0);
    return places;
}

static void go_back(struct places *places)
{
    CHECK_EQUAL(fchdir(places->start), 0);
    CHECK_EQUAL(close(places->start), 0);
}

TEST(a_program_that_changes_its_directory_saves_its_own_heap)
{
    struct places places = go_elsewhere();
    const char *saved = test_path("saved");
    CHECK(evh_root(places.heap, "ours", 8) != NULL);
    CHECK(evh_root(places.other, "other", 8) != NULL);
    const evh_status status = evh_save(places.heap, saved);
    go_back(&places);
    CHECK_EQUAL(status, EVH_OK);
    evh_heap *copy = evh_open(saved, NULL);
    CHECK(copy != NULL);
    CHECK(evh_root_find(copy, "ours", NULL) != NULL);
    CHECK(evh_root_find(copy, "other", NULL) == NULL);
    live_close(copy);
    live_close(places.heap);
    live_close(places.other);
}

TEST(a_program_that_changes_its_directory_removes_its_own_ephemeral_file)
{
    struct places places = go_elsewhere();
    char name[1100];
    live_close(places.heap);
    go_back(&places);
    snprintf(name, sizeof name, "%s.live", places.here);
    CHECK(access(name, F_OK) != 0);
    live_close(live_open(places.there)); /* who comes to the other finds its file */
    live_close(places.other);
}

TEST(a_forked_child_goes_on_wherever_the_heap_is)
{
    struct places places = go_elsewhere();
    void *block = evh_malloc(places.heap, 10);
    const bool in_directory = child_can_work(places.heap, block);
    go_back(&places);
    CHECK(in_directory);
    CHECK_EQUAL(rename(places.here, places.there), 0);
    CHECK(child_can_work(places.heap, evh_malloc(places.heap, 10)));
    CHECK_EQUAL(unlink(places.there), 0);
    CHECK(child_can_work(places.heap, evh_malloc(places.heap, 10)));
    live_close(places.heap);
    live_close(places.other);
}

TEST(a_heap_whose_name_another_has_leaves_the_others_ephemeral_file)
{
    char path[1024], moved[1100], saved[1100];
    (void)new_directory(path);
    snprintf(moved, sizeof moved, "%s.moved", path);
    snprintf(saved, sizeof saved, "%s.saved", path);
    evh_heap *old = live_open(path);
    CHECK(evh_root(old, "old", 8) != NULL);
    CHECK_EQUAL(rename(path, moved), 0);
    evh_heap *heap = live_open(path);
    CHECK_EQUAL(evh_save(old, saved), EVH_OK);
    live_close(old);
    live_close(live_open(path)); /* joins */
    live_close(heap);
    evh_heap *copy = evh_open(saved, NULL);
    CHECK(copy && evh_root_find(copy, "old", NULL));
    live_close(copy);
}

/* ---- addresses ---- */

TEST(who_has_fewer_addresses_than_the_heap_takes_breaks_nothing)
{
    const char *path = test_path("heap");
    const evh_options few = {
        .mode = EVH_LIVE, .misuse = EVH_MISUSE_STATUS, .size_max_bytes = 128 << 20};
    evh_heap *heap = live_open(path);
    evh_heap *small = evh_open(path, &few);
    CHECK(small != NULL);
    /* The metadata of the segments behind lies before the block, where both see it. */
    char *large = evh_malloc(heap, 300 << 20);
    CHECK(large != NULL);
    const evh_ref ref = evh_ref_to(heap, large);
    evh_ref *behind = evh_root(heap, "behind", sizeof *behind);
    CHECK(behind && evh_malloc_to(heap, behind, 1 << 20) == EVH_OK);
    CHECK(behind->offset > 128 << 20);
    for (unsigned i = 0; i < 300; i++) { /* it takes whatever it takes for free */
        void *block = evh_malloc(small, 60000);
        if (block) memset(block, 255, 60000);
    }
    CHECK(evh_malloc(small, 2 << 20) == NULL);
    CHECK(evh_at(small, *behind) == NULL);
    CHECK(evh_realloc(small, evh_at(small, ref), 100 << 20) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_NO_MEMORY);
    CHECK_EQUAL(evh_get_info(small, &(evh_info){0}), EVH_NO_MEMORY);
    CHECK_EQUAL(evh_check(small, NULL, NULL), EVH_NO_MEMORY);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(small), EVH_OK);
    small = live_open(path);
    CHECK(evh_usable_size(small, evh_at(small, *behind)) >= 1 << 20);
    live_close(small);
    live_close(heap);
}

/* ---- space ---- */

/* What cp --sparse=always does. */
static void copy_with_holes(const char *source, const char *target)
{
    enum { PAGE = 4096 };
    static const unsigned char zeroes[PAGE];
    unsigned char page[PAGE];
    struct stat status;
    const int from = open(source, O_RDONLY | O_CLOEXEC);
    const int to = open(target, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(from >= 0 && to >= 0);
    CHECK_EQUAL(fstat(from, &status), 0);
    CHECK_EQUAL(ftruncate(to, status.st_size), 0);
    for (off_t offset = 0; offset < status.st_size; offset += PAGE) {
        CHECK_EQUAL(pread(from, page, PAGE, offset), PAGE);
        if (memcmp(page, zeroes, PAGE) != 0) CHECK_EQUAL(pwrite(to, page, PAGE, offset), PAGE);
    }
    CHECK_EQUAL(close(from), 0);
    CHECK_EQUAL(close(to), 0);
}

static uint64_t allocated_bytes(const char *path)
{
    struct stat status;
    CHECK_EQUAL(stat(path, &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

TEST(a_copy_with_holes_gets_its_space_before_it_is_stored_to)
{
    enum { BLOCK = 4 << 20, HOLE = 2 << 20 };
    char path[1024], copied[1100];
    uint64_t freed = 0;
    (void)new_directory(path);
    snprintf(copied, sizeof copied, "%s.copied", path);
    evh_heap *heap = live_open(path);
    evh_ref *ref = evh_root(heap, "block", sizeof *ref);
    CHECK(ref != NULL);
    void *gone = evh_malloc(heap, HOLE);
    CHECK_EQUAL(evh_malloc_to(heap, ref, BLOCK), EVH_OK);
    evh_free(heap, gone);
    CHECK_EQUAL(evh_trim(heap, &freed), EVH_OK);
    live_close(heap);
    const uint64_t before = allocated_bytes(path);
    copy_with_holes(path, copied);
    if (allocated_bytes(copied) >= before) SKIP("this file system keeps no holes");
    heap = live_open(copied);
    CHECK(allocated_bytes(copied) >= before); /* what was a hole of the heap's own may be one */
    if (freed >= HOLE) CHECK(allocated_bytes(copied) < before + HOLE);
    ref = evh_root_find(heap, "block", NULL);
    CHECK(ref && evh_usable_size(heap, evh_at(heap, *ref)) >= BLOCK);
    live_close(heap);
}

/* In a child, because a limit cannot be raised again: how it ended, as waitpid() says. */
static int run_limited(evh_mode mode, const char *path, const char *saved)
{
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const struct rlimit limit = {8 << 20, 8 << 20};
        const evh_options options = {.mode = mode};
        signal(SIGXFSZ, SIG_DFL);
        evh_heap *heap = evh_open(path, &options);
        if (!heap || setrlimit(RLIMIT_FSIZE, &limit)) _exit(1);
        evh_status status = EVH_OK;
        for (unsigned i = 0; i < 1000 && !status; i++) {
            void *block = evh_malloc(heap, 60000);
            if (block) memset(block, 1, 60000);
            status = !block ? evh_last_error()->status : mode == EVH_LIVE ? 0 : evh_commit(heap);
        }
        if (status != EVH_FULL) _exit(2);
        const struct rlimit small = {1 << 20, 1 << 20};
        if (setrlimit(RLIMIT_FSIZE, &small) || evh_save(heap, saved) != EVH_FULL) _exit(3);
        _exit(evh_check(heap, NULL, NULL) ? 4 : 0);
    }
    int status = -1;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return status;
}

TEST(a_limit_on_file_sizes_is_an_error_and_no_signal)
{
    CHECK_EQUAL(run_limited(EVH_LIVE, test_path("heap"), test_path("saved")), 0);
    CHECK_EQUAL(run_limited(EVH_DURABLE, test_path("heap"), test_path("saved")), 0);
}
