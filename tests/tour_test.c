/* tour_test.c -- what the README shows, through the public interface alone. */
#include <everheap.h>

#include "test.h"

#include <string.h>

EVH_REF(note);
struct note {
    note_ref next;
    char text[56];
};

struct list {
    note_ref first;
};

static evh_heap *open_at(const char *path)
{
    evh_heap *heap = evh_open(path, NULL);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    if (!heap) test_stop();
    return heap;
}

static void push(evh_heap *heap, const char *text)
{
    struct list *list = evh_root(heap, "notes", sizeof *list);
    CHECK(list != NULL);
    note *n = evh_calloc(heap, 1, sizeof *n);
    CHECK(n != NULL);
    strncpy(n->text, text, sizeof n->text - 1);
    n->next = list->first;
    list->first = note_ref_to(heap, n);
}

/* The texts of all notes, newest first, each followed by a space. Static. */
static const char *texts(evh_heap *heap)
{
    static char all[256];
    size_t size = 0;
    const struct list *list = evh_root_find(heap, "notes", NULL);
    all[0] = 0;
    if (!list) return all;
    for (note *i = note_at(heap, list->first); i; i = note_at(heap, i->next)) {
        size += (size_t)snprintf(all + size, sizeof all - size, "%s ", i->text);
    }
    return all;
}

TEST(what_was_committed_is_there_in_the_next_run)
{
    const char *path = test_path("notes.heap");
    evh_heap *heap = open_at(path);
    push(heap, "one");
    push(heap, "two");
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    heap = open_at(path);
    CHECK(strcmp(texts(heap), "two one ") == 0);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(what_was_not_committed_is_gone_after_a_close)
{
    const char *path = test_path("notes.heap");
    evh_heap *heap = open_at(path);
    push(heap, "one");
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    push(heap, "two");
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    heap = open_at(path);
    CHECK(strcmp(texts(heap), "one ") == 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_rollback_undoes_stores_and_allocations)
{
    evh_heap *heap = open_at(test_path("notes.heap"));
    push(heap, "one");
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    evh_info before, after;
    CHECK_EQUAL(evh_get_info(heap, &before), EVH_OK);

    push(heap, "two");
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);

    CHECK(strcmp(texts(heap), "one ") == 0);
    CHECK_EQUAL(evh_get_info(heap, &after), EVH_OK);
    CHECK_EQUAL(after.live_blocks, before.live_blocks);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_reader_beside_the_writer_sees_the_newest_commit)
{
    const char *path = test_path("notes.heap");
    evh_heap *writer = open_at(path);
    push(writer, "one");
    CHECK_EQUAL(evh_commit(writer), EVH_OK);
    push(writer, "two");

    evh_heap *reader = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    CHECK(reader != NULL);
    CHECK(strcmp(texts(reader), "one ") == 0);
    CHECK_EQUAL(evh_commit(writer), EVH_OK);
    CHECK_EQUAL(evh_refresh(reader), EVH_OK);
    CHECK(strcmp(texts(reader), "two one ") == 0);
    CHECK(evh_view_valid(reader));
    CHECK_EQUAL(evh_commit(reader), EVH_READ_ONLY);

    CHECK_EQUAL(evh_close(reader), EVH_OK);
    CHECK_EQUAL(evh_close(writer), EVH_OK);
}

TEST(a_private_heap_may_be_changed_and_changes_nothing)
{
    const char *path = test_path("notes.heap");
    evh_heap *heap = open_at(path);
    push(heap, "one");
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    evh_heap *copy = evh_open(path, &(evh_options){.mode = EVH_PRIVATE});
    CHECK(copy != NULL);
    push(copy, "two");
    CHECK(strcmp(texts(copy), "two one ") == 0);
    CHECK_EQUAL(evh_close(copy), EVH_OK);

    heap = open_at(path);
    CHECK(strcmp(texts(heap), "one ") == 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_heap_in_memory_is_saved_to_a_file_that_opens)
{
    const char *path = test_path("saved.heap");
    evh_heap *memory = evh_open_memory(NULL, 0, NULL);
    CHECK(memory != NULL);
    push(memory, "one");
    CHECK_EQUAL(evh_save(memory, path), EVH_OK);
    CHECK_EQUAL(evh_close(memory), EVH_OK);

    evh_heap *heap = open_at(path);
    CHECK(strcmp(texts(heap), "one ") == 0);
    push(heap, "two");
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_heap_fits_into_four_kibibytes)
{
    static unsigned char buffer[4096];
    evh_heap *heap = evh_open_memory(buffer, sizeof buffer, NULL);
    CHECK(heap != NULL);
    push(heap, "one");
    CHECK(evh_heap_of(note_at(heap, ((struct list *)evh_root(heap, "notes", 8))->first)) == heap);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    static unsigned char moved[4096];
    memcpy(moved, buffer, sizeof moved);
    heap = evh_open_memory(moved, sizeof moved, NULL);
    CHECK(heap != NULL);
    CHECK(strcmp(texts(heap), "one ") == 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(several_commits_wait_for_one_flush)
{
    evh_heap *heap = open_at(test_path("notes.heap"));
    evh_ticket first, second;
    push(heap, "one");
    CHECK_EQUAL(evh_commit_begin(heap, &first), EVH_OK);
    push(heap, "two");
    CHECK_EQUAL(evh_commit_begin(heap, &second), EVH_OK);
    CHECK_EQUAL(evh_commit_wait(heap, second), EVH_OK);
    CHECK_EQUAL(evh_commit_wait(heap, first), EVH_OK);
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK_EQUAL(info.journal_used_bytes > 0, 1);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}
