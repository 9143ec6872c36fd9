/* roots_test.c -- what the next run finds by name or by tag, in every kind of heap. */
#include "heap/heap.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>

/* ---- the kinds of heap that every test runs on ---- */

enum roots_kind { ROOTS_COMPACT, ROOTS_MEMORY, ROOTS_FILE, ROOTS_KINDS };

static evh_heap *roots_open(enum roots_kind kind, const char *path)
{
    evh_heap *heap = NULL;
    if (kind == ROOTS_COMPACT) heap = evh_open_memory(NULL, 1000000, NULL);
    if (kind == ROOTS_MEMORY) heap = evh_open_memory(NULL, 0, NULL);
    if (kind == ROOTS_FILE) heap = evh_open(path, NULL);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

static evh_heap *roots_close(evh_heap *heap)
{
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    return NULL;
}

#define EACH_KIND(heap)                                                                            \
    for (unsigned kind = 0; kind < ROOTS_KINDS; kind++)                                            \
        for (evh_heap *heap = roots_open((enum roots_kind)kind, test_path("roots.heap")); heap;    \
             heap = roots_close(heap))

TEST(a_new_root_is_zero_and_is_found_again)
{
    EACH_KIND(heap)
    {
        unsigned char *root = evh_root(heap, "settings", 100);
        CHECK(root != NULL);
        for (size_t i = 0; i < 100; i++) CHECK_EQUAL(root[i], 0);
        root[99] = 7;
        CHECK(evh_root(heap, "settings", 100) == root);
        CHECK(evh_root(heap, "settings", 1) == root);
        size_t size = 0;
        CHECK(evh_root_find(heap, "settings", &size) == root);
        CHECK_EQUAL(size, 100);
        CHECK_EQUAL(root[99], 7);
    }
}

TEST(names_and_tags_are_separate)
{
    EACH_KIND(heap)
    {
        void *named = evh_root(heap, "1", 8);
        void *tagged = evh_root_tagged(heap, 1, 8);
        void *zero = evh_root_tagged(heap, 0, 8);
        void *last = evh_root_tagged(heap, UINT64_MAX, 8);
        CHECK(named && tagged && zero && last);
        CHECK(named != tagged && tagged != zero && zero != last);
        CHECK(evh_root_find_tagged(heap, 1, NULL) == tagged);
        CHECK(evh_root_find_tagged(heap, 0, NULL) == zero);
        CHECK(evh_root_find_tagged(heap, UINT64_MAX, NULL) == last);
        CHECK(evh_root_find(heap, "1", NULL) == named);
        CHECK(evh_root_find_tagged(heap, 2, NULL) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
    }
}

TEST(a_name_has_1_to_63_bytes)
{
    char name[65];
    memset(name, 'n', sizeof name);
    name[64] = 0;
    EACH_KIND(heap)
    {
        CHECK(evh_root(heap, name, 8) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
        CHECK(evh_root(heap, "", 8) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
        CHECK(evh_root(heap, NULL, 8) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
        void *longest = evh_root(heap, name + 1, 8);
        void *shorter = evh_root(heap, name + 2, 8); /* a prefix is another name */
        CHECK(longest && shorter && longest != shorter);
        CHECK(evh_root_find(heap, name + 1, NULL) == longest);
        CHECK_EQUAL(evh_root_remove(heap, ""), EVH_INVALID);
    }
}

TEST(a_root_of_0_bytes_or_too_many_is_refused_and_not_made)
{
    EACH_KIND(heap)
    {
        CHECK(evh_root(heap, "a", 0) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
        CHECK(evh_root(heap, "a", SIZE_MAX) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_LIMIT);
        CHECK(evh_root_find(heap, "a", NULL) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_NOT_FOUND);
    }
}

TEST(asking_for_more_than_a_root_has_names_both_sizes)
{
    EACH_KIND(heap)
    {
        CHECK(evh_root(heap, "small", 1234) != NULL);
        CHECK(evh_root(heap, "small", 5678) == NULL);
        CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
        CHECK(strstr(evh_last_error()->message, "1234") != NULL);
        CHECK(strstr(evh_last_error()->message, "5678") != NULL);
        CHECK(strstr(evh_last_error()->message, "small") != NULL);
    }
}

TEST(a_null_heap_is_invalid)
{
    evh_root_info root = {0};
    CHECK(evh_root(NULL, "a", 8) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK(evh_root_tagged(NULL, 1, 8) == NULL);
    CHECK(evh_root_find(NULL, "a", NULL) == NULL);
    CHECK_EQUAL(evh_root_remove(NULL, "a"), EVH_INVALID);
    CHECK_EQUAL(evh_root_remove_tagged(NULL, 1), EVH_INVALID);
    CHECK(!evh_root_next(NULL, &root));
}

TEST(a_removed_root_is_gone_and_its_block_is_free)
{
    EACH_KIND(heap)
    {
        void *root = evh_root(heap, "gone", 64);
        CHECK(root != NULL);
        const uint64_t offset = evh_ref_to(heap, root).offset;
        uint64_t size = 0;
        CHECK(heap_block_at(heap, offset, &size));
        CHECK_EQUAL(evh_root_remove(heap, "gone"), EVH_OK);
        CHECK(!heap_block_at(heap, offset, &size));
        CHECK(evh_root_find(heap, "gone", NULL) == NULL);
        CHECK_EQUAL(evh_root_remove(heap, "gone"), EVH_NOT_FOUND);
        CHECK(strstr(evh_last_error()->message, "gone") != NULL);
        CHECK(evh_root(heap, "gone", 4000) != NULL); /* another size is another root */
        CHECK_EQUAL(evh_root_remove_tagged(heap, 5), EVH_NOT_FOUND);
    }
}

/* Strategy: random makes and removals of 500 names and 500 tags against a list of what is there.
 * Invariants: found with its content if and only if there; the iteration sees each exactly once. */
enum { MANY = 500 };

static void roots_name(char name[16], unsigned i)
{
    (void)snprintf(name, 16, "root-%u", i);
}

static void roots_verify(evh_heap *heap, const bool there[2][MANY])
{
    bool seen[2][MANY] = {0};
    evh_root_info root = {0};
    while (evh_root_next(heap, &root)) {
        const unsigned i =
            root.is_tagged ? (unsigned)root.tag : (unsigned)strtoul(root.name + 5, NULL, 10);
        CHECK(i < MANY);
        CHECK(there[root.is_tagged][i]);
        CHECK(!seen[root.is_tagged][i]);
        seen[root.is_tagged][i] = true;
        const uint32_t *block = evh_at(heap, root.block);
        CHECK(block != NULL);
        CHECK_EQUAL(*block, i);
        CHECK_EQUAL(root.size, 4 + i);
    }
    CHECK(memcmp(seen, there, sizeof seen) == 0);
    for (unsigned i = 0; i < MANY; i++) {
        char name[16];
        roots_name(name, i);
        CHECK_EQUAL(evh_root_find(heap, name, NULL) != NULL, there[0][i]);
        CHECK_EQUAL(evh_root_find_tagged(heap, i, NULL) != NULL, there[1][i]);
    }
}

static void roots_change(evh_heap *heap, bool there[2][MANY], uint64_t *random)
{
    const unsigned i = (unsigned)(test_random(random) % MANY);
    const unsigned is_tagged = (unsigned)(test_random(random) % 2);
    char name[16];
    roots_name(name, i);
    if (there[is_tagged][i]) {
        CHECK_EQUAL(is_tagged ? evh_root_remove_tagged(heap, i) : evh_root_remove(heap, name),
                    EVH_OK);
    } else {
        uint32_t *block = is_tagged ? evh_root_tagged(heap, i, 4 + i) : evh_root(heap, name, 4 + i);
        CHECK(block != NULL);
        CHECK_EQUAL(*block, 0);
        *block = i;
    }
    there[is_tagged][i] = !there[is_tagged][i];
}

TEST(a_thousand_roots_made_and_removed_at_random_agree_with_a_model)
{
    uint64_t random = test_seed();
    EACH_KIND(heap)
    {
        bool there[2][MANY] = {0};
        const uint64_t steps = test_effort(5000);
        for (uint64_t step = 0; step < steps; step++) {
            roots_change(heap, there, &random);
            if (step % 1000 == 999) roots_verify(heap, (const bool(*)[MANY])there);
        }
        evh_info info;
        uint64_t expected = 0;
        for (unsigned i = 0; i < MANY; i++) expected += there[0][i] + there[1][i];
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        CHECK_EQUAL(info.roots, expected);
    }
}

TEST(making_and_removing_for_ever_does_not_grow_the_catalog)
{
    EACH_KIND(heap)
    {
        evh_info before;
        evh_info after;
        for (unsigned i = 0; i < 5000; i++) {
            char name[16];
            roots_name(name, i);
            CHECK(evh_root(heap, name, 16) != NULL);
            CHECK_EQUAL(evh_root_remove(heap, name), EVH_OK);
            if (i == 500) CHECK_EQUAL(evh_get_info(heap, &before), EVH_OK);
        }
        CHECK_EQUAL(evh_get_info(heap, &after), EVH_OK);
        CHECK(after.live_bytes <= before.live_bytes + 2 * 64 * sizeof(struct heap_root));
    }
}

TEST(removing_during_an_iteration_misses_no_other_root)
{
    EACH_KIND(heap)
    {
        for (uint64_t tag = 0; tag < 100; tag++) CHECK(evh_root_tagged(heap, tag, 8) != NULL);
        evh_root_info root = {0};
        unsigned seen = 0;
        while (evh_root_next(heap, &root)) {
            seen++;
            CHECK_EQUAL(evh_root_remove_tagged(heap, root.tag), EVH_OK);
        }
        CHECK_EQUAL(seen, 100);
        root = (evh_root_info){0};
        CHECK(!evh_root_next(heap, &root));
    }
}

/* ---- threads ---- */

struct roots_thread {
    evh_heap *heap;
    void *found[100];
};

static void *roots_thread_run(void *context)
{
    struct roots_thread *thread = context;
    for (unsigned i = 0; i < 100; i++) {
        char name[16];
        roots_name(name, i);
        thread->found[i] = evh_root(thread->heap, name, 24);
    }
    return NULL;
}

TEST(threads_that_ask_for_the_same_root_get_the_same_block)
{
    enum { THREADS = 8 };
    EACH_KIND(heap)
    {
        struct roots_thread threads[THREADS];
        pthread_t ids[THREADS];
        for (unsigned i = 0; i < THREADS; i++) {
            threads[i].heap = heap;
            CHECK(pthread_create(&ids[i], NULL, roots_thread_run, &threads[i]) == 0);
        }
        for (unsigned i = 0; i < THREADS; i++) CHECK(pthread_join(ids[i], NULL) == 0);
        for (unsigned i = 0; i < THREADS; i++)
            for (unsigned j = 0; j < 100; j++) {
                CHECK(threads[i].found[j] != NULL);
                CHECK(threads[i].found[j] == threads[0].found[j]);
            }
    }
}

/* ---- commits ---- */

TEST(roots_come_back_with_the_commit_and_leave_with_the_rollback)
{
    const char *path = test_path("roots.heap");
    evh_heap *heap = roots_open(ROOTS_FILE, path);
    *(uint32_t *)evh_root(heap, "kept", 4) = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    for (uint64_t tag = 0; tag < 50; tag++) CHECK(evh_root_tagged(heap, tag, 8) != NULL);
    CHECK_EQUAL(evh_root_remove(heap, "kept"), EVH_OK);
    CHECK_EQUAL(evh_rollback(heap), EVH_OK);
    CHECK(evh_root_find_tagged(heap, 0, NULL) == NULL);
    uint32_t *kept = evh_root_find(heap, "kept", NULL);
    CHECK(kept != NULL && *kept == 1);
    CHECK(evh_root(heap, "uncommitted", 8) != NULL);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    heap = roots_open(ROOTS_FILE, path);
    kept = evh_root_find(heap, "kept", NULL);
    CHECK(kept != NULL && *kept == 1);
    CHECK(evh_root_find(heap, "uncommitted", NULL) == NULL);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_reader_finds_roots_and_makes_none)
{
    const char *path = test_path("roots.heap");
    evh_heap *heap = roots_open(ROOTS_FILE, path);
    CHECK(evh_root(heap, "there", 8) != NULL);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    heap = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    CHECK(heap != NULL);
    CHECK(evh_root(heap, "there", 8) != NULL);
    CHECK(evh_root(heap, "not there", 8) == NULL);
    CHECK_EQUAL(evh_last_error()->status, EVH_READ_ONLY);
    CHECK_EQUAL(evh_root_remove(heap, "there"), EVH_READ_ONLY);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- damage ---- */

/* Every bit of the catalog and its chunks flipped in memory: the check finds it, and no lookup
 * crashes (ASan watches) or returns a block that is none. Only what could be true stays unseen: a
 * size that its block has, a ref to another block. The pages' checksums see those. */
static void roots_flip(evh_heap *heap, unsigned char *bytes, uint64_t size, bool are_entries)
{
    for (uint64_t bit = 0; bit < size * 8; bit++) {
        const uint64_t field = bit / 8 % sizeof(struct heap_root) / 8;
        const bool may_be_true = are_entries && (field == offsetof(struct heap_root, block) / 8 ||
                                                 field == offsetof(struct heap_root, size) / 8);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        const evh_status status = roots_check(heap, NULL, NULL);
        CHECK(status == EVH_CORRUPT || (may_be_true && status == EVH_OK));
        const void *found = evh_root_find(heap, "beta", NULL);
        uint64_t usable = 0;
        if (found)
            CHECK(heap_block_at(heap, evh_ref_to(heap, found).offset, &usable) && usable >= 8);
        else
            CHECK(evh_last_error()->status == EVH_CORRUPT ||
                  evh_last_error()->status == EVH_NOT_FOUND);
        evh_root_info root = {0};
        for (unsigned i = 0; evh_root_next(heap, &root); i++) CHECK(i < 100);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

TEST(every_flipped_bit_in_the_catalog_is_found_and_harms_nobody)
{
    EACH_KIND(heap)
    {
        CHECK(evh_root(heap, "alpha", 24) && evh_root(heap, "beta", 40) &&
              evh_root_tagged(heap, 77, 8) && evh_root(heap, "delta", 100));
        CHECK_EQUAL(evh_root_remove(heap, "alpha"), EVH_OK);
        const uint64_t offset = kind == ROOTS_COMPACT ? compact_catalog(heap) : heap->state.catalog;
        struct heap_catalog *catalog = evh_at(heap, (evh_ref){offset});
        CHECK(catalog != NULL);
        for (unsigned chunk = 0; catalog->root_chunks[chunk].offset; chunk++)
            roots_flip(heap, evh_at(heap, catalog->root_chunks[chunk]),
                       ((uint64_t)HEAP_ROOT_FIRST << chunk) * sizeof(struct heap_root), true);
        roots_flip(heap, (unsigned char *)catalog, sizeof *catalog, false);
        CHECK_EQUAL(roots_check(heap, NULL, NULL), EVH_OK);
    }
}

TEST(two_roots_of_one_name_are_found_by_the_check)
{
    EACH_KIND(heap)
    {
        CHECK(evh_root(heap, "one", 8) && evh_root(heap, "two", 8));
        const uint64_t offset = kind == ROOTS_COMPACT ? compact_catalog(heap) : heap->state.catalog;
        struct heap_catalog *catalog = evh_at(heap, (evh_ref){offset});
        struct heap_root *entries = evh_at(heap, catalog->root_chunks[0]);
        struct heap_root *roots[2];
        for (unsigned i = 0; i < HEAP_ROOT_FIRST; i++)
            if (entries[i].name[0]) roots[entries[i].name[0] == 't'] = &entries[i];
        const struct heap_root kept = *roots[1];
        roots[1]->hash = roots[0]->hash;
        memcpy(roots[1]->name, roots[0]->name, sizeof roots[1]->name);
        CHECK_EQUAL(roots_check(heap, NULL, NULL), EVH_CORRUPT);
        *roots[1] = kept;
    }
}

TEST(chunks_keep_a_quarter_of_their_entries_free_so_that_lookups_end)
{
    EACH_KIND(heap)
    {
        for (uint64_t tag = 0; tag < 300; tag++) CHECK(evh_root_tagged(heap, tag, 8) != NULL);
        const uint64_t offset = kind == ROOTS_COMPACT ? compact_catalog(heap) : heap->state.catalog;
        const struct heap_catalog *catalog = evh_at(heap, (evh_ref){offset});
        for (unsigned chunk = 0; chunk < HEAP_ROOT_CHUNKS; chunk++)
            CHECK(catalog->root_filled[chunk] <= ((uint64_t)HEAP_ROOT_FIRST << chunk) / 4 * 3);
    }
}

static bool roots_count_findings(const evh_finding *finding, void *context)
{
    CHECK(strcmp(finding->object, "root") == 0);
    CHECK(finding->offset != UINT64_MAX);
    ++*(unsigned *)context;
    return true;
}

TEST(a_check_of_the_roots_goes_on_while_the_report_wants_more)
{
    EACH_KIND(heap)
    {
        const uint64_t tags[] = {1, 2, 3};
        for (unsigned i = 0; i < 3; i++) CHECK(evh_root_tagged(heap, tags[i], 8) != NULL);
        const uint64_t offset = kind == ROOTS_COMPACT ? compact_catalog(heap) : heap->state.catalog;
        struct heap_catalog *catalog = evh_at(heap, (evh_ref){offset});
        struct heap_root *entries = evh_at(heap, catalog->root_chunks[0]);
        uint64_t sizes[HEAP_ROOT_FIRST];
        for (unsigned i = 0; i < HEAP_ROOT_FIRST; i++) {
            sizes[i] = entries[i].size;
            if (entries[i].hash > 1) entries[i].size = 1 << 30;
        }
        unsigned findings = 0;
        CHECK_EQUAL(evh_check(heap, roots_count_findings, &findings), EVH_CORRUPT);
        CHECK_EQUAL(findings, 3);
        for (unsigned i = 0; i < HEAP_ROOT_FIRST; i++) entries[i].size = sizes[i];
    }
}
