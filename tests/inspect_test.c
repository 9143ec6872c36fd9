/* inspect_test.c -- check, walk, information, log and digest: what a heap says about itself. */
#include "heap/heap.h"
#include "heap/sha256.h"
#include "test.h"

#include <stdlib.h>

static evh_heap *inspect_memory(void)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap != NULL);
    return heap;
}

static evh_heap *inspect_file(const char *path)
{
    evh_heap *heap = evh_open(path, NULL);
    if (!heap) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK(heap != NULL);
    return heap;
}

/* ---- SHA-256 ---- */

static void inspect_hash(const char *text, size_t repeat, const char *expected)
{
    struct sha256 hash;
    unsigned char digest[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1];
    sha256_begin(&hash);
    for (size_t i = 0; i < repeat; i++) sha256_add(&hash, text, strlen(text));
    sha256_end(&hash, digest);
    for (size_t i = 0; i < SHA256_BYTES; i++) (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    CHECK(strcmp(hex, expected) == 0);
}

TEST(sha256_agrees_with_the_examples_of_its_standard)
{
    inspect_hash("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    inspect_hash("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    inspect_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
                 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    inspect_hash("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* ---- arguments ---- */

static bool inspect_visit_none(const evh_block *block, void *context)
{
    (void)block;
    (void)context;
    return true;
}

static bool inspect_log_none(const evh_commit_info *commit, void *context)
{
    (void)commit;
    (void)context;
    return true;
}

TEST(null_arguments_are_invalid)
{
    unsigned char digest[32];
    evh_info info;
    CHECK_EQUAL(evh_check(NULL, NULL, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_walk(NULL, inspect_visit_none, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_get_info(NULL, &info), EVH_INVALID);
    CHECK_EQUAL(evh_log(NULL, inspect_log_none, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_digest(NULL, digest), EVH_INVALID);
    evh_heap *heap = inspect_memory();
    CHECK_EQUAL(evh_walk(heap, NULL, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_get_info(heap, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_log(heap, NULL, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_digest(heap, NULL), EVH_INVALID);
    CHECK_EQUAL(evh_log(heap, inspect_log_none, NULL), EVH_MODE);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- walk ---- */

struct inspect_walk {
    evh_heap *heap;
    uint64_t count;
    uint64_t last;
    uint64_t bytes;
    uint64_t stop_after;
    bool frees;
};

static bool inspect_visit(const evh_block *block, void *context)
{
    struct inspect_walk *walk = context;
    CHECK(block->ref.offset > walk->last);
    CHECK(evh_at(walk->heap, block->ref) == block->address);
    CHECK_EQUAL(evh_usable_size(walk->heap, block->address), block->size);
    walk->last = block->ref.offset;
    walk->bytes += block->size;
    walk->count++;
    if (walk->frees) evh_free(walk->heap, block->address);
    return walk->count != walk->stop_after;
}

/* Blocks of every kind: small, medium, large. */
static void inspect_fill(evh_heap *heap, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const size_t size = i % 50 == 0 ? 200000 : i % 20 == 0 ? 20000 : 16 + i % 500;
        CHECK(evh_malloc(heap, size) != NULL);
    }
}

TEST(a_walk_sees_every_live_block_once_in_order)
{
    evh_heap *heap = inspect_memory();
    evh_info info;
    inspect_fill(heap, 1000);
    struct inspect_walk walk = {.heap = heap};
    CHECK_EQUAL(evh_walk(heap, inspect_visit, &walk), EVH_OK);
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK_EQUAL(walk.count, 1000 + 1); /* and the catalog */
    CHECK_EQUAL(info.live_blocks, walk.count);
    CHECK_EQUAL(info.live_bytes, walk.bytes);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_walk_ends_when_the_visit_says_so)
{
    evh_heap *heap = inspect_memory();
    inspect_fill(heap, 100);
    struct inspect_walk walk = {.heap = heap, .stop_after = 7};
    CHECK_EQUAL(evh_walk(heap, inspect_visit, &walk), EVH_OK);
    CHECK_EQUAL(walk.count, 7);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_visit_may_free_the_block_it_is_given)
{
    evh_heap *heaps[] = {inspect_memory(), evh_open_memory(NULL, 500000, NULL)};
    for (unsigned i = 0; i < 2; i++) {
        struct inspect_walk walk = {.heap = heaps[i], .frees = true};
        for (unsigned j = 0; j < 300; j++) CHECK(evh_malloc(heaps[i], 16 + j) != NULL);
        CHECK_EQUAL(evh_walk(heaps[i], inspect_visit, &walk), EVH_OK);
        CHECK(walk.count >= 300);
        walk = (struct inspect_walk){.heap = heaps[i]};
        CHECK_EQUAL(evh_walk(heaps[i], inspect_visit, &walk), EVH_OK);
        CHECK_EQUAL(walk.count, 0);
        CHECK_EQUAL(evh_close(heaps[i]), EVH_OK);
    }
}

/* ---- information ---- */

TEST(a_heap_tells_what_it_is)
{
    const char *path = test_path("info.heap");
    evh_heap *heap = inspect_file(path);
    evh_info info;
    uint64_t *root = evh_root(heap, "root", 8);
    CHECK(root != NULL);
    *root = 1;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    *root = 2;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK_EQUAL(info.mode, EVH_DURABLE);
    CHECK(!info.is_compact && !info.is_poisoned);
    CHECK_EQUAL(info.address, (uintptr_t)heap->view.base);
    CHECK(info.detect != EVH_DETECT_AUTO);
    CHECK_EQUAL(info.format_version, 1);
    CHECK(info.file_bytes >= info.heap_bytes);
    CHECK(info.file_bytes <= 256 * 1024);
    CHECK(info.size_max_bytes >= 64 << 20); /* what addresses the system had to give */
    CHECK_EQUAL(info.roots, 1);
    CHECK(info.live_blocks >= 2);
    CHECK(info.live_bytes >= 8 + sizeof(struct heap_catalog));
    CHECK(info.metadata_bytes > 0);
    CHECK(info.journal_bytes > 0);
    CHECK(info.commit_sequence >= 2);
    CHECK_EQUAL(info.commits, 2);
    CHECK(info.pages_committed >= 2);
    CHECK(info.writer_process == os->process());
    static const unsigned char zero[16];
    CHECK(memcmp(info.uuid, zero, 16) != 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* An extent lies behind the heap's end first, and inside when the heap has grown. */
TEST(metadata_counts_the_journal_wherever_it_lies)
{
    enum { SIZE = 100 << 10 };
    evh_heap *heap = inspect_file(test_path("extents.heap"));
    uint64_t *block = evh_root(heap, "block", SIZE);
    CHECK(block != NULL);
    uint64_t random = 1;
    for (unsigned i = 0; i < SIZE / 8; i++) block[i] = test_random(&random);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    const struct region_extent extent = region_extent_at(heap->region, 0);
    for (unsigned round = 0; round < 2; round++) {
        evh_info info;
        CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
        const bool is_behind = (uint64_t)extent.first_slice << SLICE_SHIFT >= info.heap_bytes;
        CHECK_EQUAL(is_behind, round == 0);
        /* Slice 0 is the first extent's; its own metadata is in no other. */
        const uint64_t extents = info.journal_bytes - REGION_FIRST_EXTENT_BYTES;
        CHECK(extents > 0);
        CHECK(info.metadata_bytes >= SLICE_BYTES + extents);
        CHECK(info.metadata_bytes <= 8 * SLICE_BYTES + extents);
        CHECK(evh_malloc(heap, 2 << 20) != NULL);
    }
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_memory_heap_has_no_file_and_no_journal)
{
    evh_heap *heap = inspect_memory();
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    CHECK_EQUAL(info.mode, EVH_MEMORY);
    CHECK_EQUAL(info.file_bytes, 0);
    CHECK_EQUAL(info.journal_bytes, 0);
    CHECK_EQUAL(info.commit_sequence, 0);
    CHECK_EQUAL(info.live_blocks, 1); /* the catalog */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- log ---- */

struct inspect_log {
    uint64_t count;
    uint64_t last;
};

static bool inspect_log_visit(const evh_commit_info *commit, void *context)
{
    struct inspect_log *log = context;
    CHECK(log->last == 0 || commit->sequence == log->last + 1);
    CHECK(commit->pages > 0);
    CHECK(commit->record_bytes >= 4096);
    CHECK(commit->heap_bytes > 0);
    log->last = commit->sequence;
    log->count++;
    return log->count < 5;
}

TEST(the_log_lists_commits_in_order_and_stops_when_told)
{
    evh_heap *heap = inspect_file(test_path("log.heap"));
    uint64_t *root = evh_root(heap, "root", 8);
    for (unsigned i = 0; i < 3; i++) {
        ++*root;
        CHECK_EQUAL(evh_commit(heap), EVH_OK);
    }
    struct inspect_log log = {0};
    CHECK_EQUAL(evh_log(heap, inspect_log_visit, &log), EVH_OK);
    CHECK_EQUAL(log.count, 3);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- check ---- */

struct inspect_findings {
    unsigned count;
    unsigned stop_after;
};

static bool inspect_finding(const evh_finding *finding, void *context)
{
    struct inspect_findings *findings = context;
    CHECK(finding->status != EVH_OK);
    CHECK(finding->object && finding->message);
    findings->count++;
    return findings->count != findings->stop_after;
}

TEST(a_sound_heap_checks_clean)
{
    evh_heap *heap = inspect_file(test_path("check.heap"));
    struct inspect_findings findings = {0};
    inspect_fill(heap, 500);
    CHECK_EQUAL(evh_check(heap, inspect_finding, &findings), EVH_OK);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_check(heap, inspect_finding, &findings), EVH_OK);
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    CHECK_EQUAL(evh_check(heap, inspect_finding, &findings), EVH_OK);
    CHECK_EQUAL(findings.count, 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(the_first_finding_is_the_result_and_the_report_can_stop)
{
    evh_heap *heap = inspect_memory();
    struct heap_catalog *catalog = evh_at(heap, (evh_ref){heap->state.catalog});
    CHECK(catalog != NULL);
    CHECK(evh_root(heap, "a", 8) != NULL);
    catalog->root_count = 5;
    catalog->root_filled[0] = 2;
    catalog->reserved[1] = 1;
    struct inspect_findings all = {0};
    CHECK_EQUAL(evh_check(heap, inspect_finding, &all), EVH_CORRUPT);
    CHECK_EQUAL(all.count, 3);
    CHECK(strstr(evh_last_error()->message, "reserved") != NULL);
    struct inspect_findings first = {.stop_after = 1};
    CHECK_EQUAL(evh_check(heap, inspect_finding, &first), EVH_CORRUPT);
    CHECK_EQUAL(first.count, 1);
    CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_CORRUPT);
    CHECK_EQUAL(evh_last_error()->offset, heap->state.catalog);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* ---- digest ---- */

/* Strategy: the same graph (a list with a ring behind each item, a shared block, tags and names,
 * and blocks that nothing reaches) built in different orders, between junk that is freed again, in
 * heaps of different kinds. Invariant: one digest, until a value, a reference or a
 * block changes. */
enum { ITEMS = 60, ITEM_WORDS = 8, LARGE_WORDS = 20000 };

struct inspect_item {
    uint64_t value;
    evh_ref next, ring, shared;
    uint64_t rest[ITEM_WORDS - 4];
};

static uint64_t inspect_junk(evh_heap *heap, uint64_t *random, void **junk)
{
    for (unsigned i = 0; i < 3; i++) junk[i] = evh_malloc(heap, 16 + test_random(random) % 300);
    return test_random(random);
}

static evh_ref inspect_new_item(evh_heap *heap, uint64_t value, uint64_t *random)
{
    void *junk[3];
    (void)inspect_junk(heap, random, junk);
    struct inspect_item *item = evh_calloc(heap, 1, sizeof *item);
    CHECK(item != NULL);
    CHECK_EQUAL(evh_usable_size(heap, item), sizeof *item); /* no slack: all content is ours */
    item->value = value;
    for (unsigned i = 0; i < 3; i++) evh_free(heap, junk[i]);
    return evh_ref_to(heap, item);
}

static struct inspect_item *inspect_at(evh_heap *heap, evh_ref ref)
{
    struct inspect_item *item = evh_at(heap, ref);
    CHECK(item != NULL);
    return item;
}

/* Roots made in a different order each time lie in different chunks; what was removed in between
 * leaves its traces in the catalog, which is no content. */
static void inspect_build_roots(evh_heap *heap, uint64_t *random)
{
    const uint64_t step = 1 + 2 * (test_random(random) % 8);
    const uint64_t first = test_random(random) % 16;
    for (uint64_t i = 0; i < 16; i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "removed %u", (unsigned)test_random(random));
        CHECK(evh_root(heap, name, 16) != NULL);
        const uint64_t tag = (first + i * step) % 16;
        uint64_t *block = evh_root_tagged(heap, 100 + tag, 16);
        CHECK(block != NULL);
        block[1] = 5 * tag;
        CHECK_EQUAL(evh_root_remove(heap, name), EVH_OK);
    }
}

static void inspect_build(evh_heap *heap, uint64_t seed)
{
    uint64_t random = seed;
    evh_ref items[ITEMS];
    unsigned order[ITEMS];
    for (unsigned i = 0; i < ITEMS; i++) order[i] = i;
    for (unsigned i = ITEMS - 1; i > 0; i--) {
        const unsigned j = (unsigned)(test_random(&random) % (i + 1));
        const unsigned kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    for (unsigned i = 0; i < ITEMS; i++)
        items[order[i]] = inspect_new_item(heap, order[i] % 7, &random);
    uint64_t *large = evh_calloc(heap, LARGE_WORDS, sizeof *large);
    CHECK(large != NULL);
    for (unsigned i = 0; i < ITEMS; i++) {
        struct inspect_item *item = inspect_at(heap, items[i]);
        item->ring = items[i / 4 * 4 + (i + 1) % 4];
        item->shared = i % 5 ? evh_ref_to(heap, large) : (evh_ref){0};
        if (i + 4 < ITEMS) item->next = items[i + 4];
    }
    large[7] = 7; /* a small number is no reference */
    large[100] = items[ITEMS - 1].offset;
    const bool is_named_first = test_random(&random) % 2;
    for (unsigned i = 0; i < 2; i++) {
        if ((i == 0) == is_named_first)
            *(evh_ref *)evh_root(heap, "list", 16) = items[0];
        else
            *(evh_ref *)evh_root_tagged(heap, 9, 16) = items[2];
    }
    inspect_build_roots(heap, &random);
    for (unsigned i = 0; i < 10; i++)
        (void)inspect_new_item(heap, 1000 + (i * 3 + (unsigned)seed) % 10, &random);
}

static void inspect_digest(evh_heap *heap, unsigned char digest[32])
{
    CHECK_EQUAL(evh_digest(heap, digest), EVH_OK);
}

/* Usable sizes are part of the content, and a compact heap has others for large blocks: it is
 * compared with its own kind only. */
static evh_heap *inspect_built(uint64_t seed, bool is_compact)
{
    evh_heap *heap = evh_open_memory(NULL, is_compact ? 900000 : 0, NULL);
    CHECK(heap != NULL);
    inspect_build(heap, seed);
    return heap;
}

TEST(the_digest_does_not_depend_on_where_blocks_lie)
{
    for (unsigned is_compact = 0; is_compact < 2; is_compact++) {
        unsigned char expected[32];
        for (uint64_t i = 0; i < 8; i++) {
            unsigned char digest[32];
            evh_heap *heap = inspect_built(test_seed() + i, is_compact);
            inspect_digest(heap, i == 0 ? expected : digest);
            if (i > 0) CHECK(memcmp(expected, digest, 32) == 0);
            CHECK_EQUAL(evh_close(heap), EVH_OK);
        }
    }
}

TEST(the_digest_of_a_file_is_the_same_after_reopening_and_in_every_mode)
{
    const char *path = test_path("digest.heap");
    unsigned char expected[32];
    unsigned char digest[32];
    evh_heap *heap = inspect_file(path);
    inspect_build(heap, 5);
    inspect_digest(heap, expected);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    const evh_mode modes[] = {EVH_DURABLE, EVH_READ_ONLY, EVH_PRIVATE};
    for (unsigned i = 0; i < 3; i++) {
        heap = evh_open(path, &(evh_options){.mode = modes[i]});
        CHECK(heap != NULL);
        inspect_digest(heap, digest);
        CHECK(memcmp(expected, digest, 32) == 0);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
    heap = inspect_memory();
    inspect_build(heap, 77);
    inspect_digest(heap, digest);
    CHECK(memcmp(expected, digest, 32) == 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* Each change gives a digest that no other one gives; undone, the first comes back. */
TEST(every_change_of_content_changes_the_digest)
{
    evh_heap *heap = inspect_built(1, false);
    unsigned char digests[8][32];
    struct inspect_item *first = inspect_at(heap, *(evh_ref *)evh_root_find(heap, "list", NULL));
    const struct inspect_item kept = *first;
    inspect_digest(heap, digests[0]);
    first->value ^= 1;
    inspect_digest(heap, digests[1]);
    first->value ^= 1;
    first->next = first->ring; /* another reference */
    inspect_digest(heap, digests[2]);
    *first = kept;
    first->next.offset = 0;
    inspect_digest(heap, digests[3]);
    *first = kept;
    first->rest[0] = 4; /* a number that some reference has as its block's number */
    inspect_digest(heap, digests[4]);
    *first = kept;
    void *more = evh_calloc(heap, 1, 16); /* a block that nothing reaches */
    inspect_digest(heap, digests[5]);
    evh_free(heap, more);
    (void)evh_root(heap, "list 2", 16);
    inspect_digest(heap, digests[6]);
    CHECK_EQUAL(evh_root_remove(heap, "list 2"), EVH_OK);
    inspect_digest(heap, digests[7]);
    CHECK(memcmp(digests[0], digests[7], 32) == 0);
    for (unsigned i = 0; i < 7; i++)
        for (unsigned j = 0; j < i; j++) CHECK(memcmp(digests[i], digests[j], 32) != 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(the_digest_tells_a_reference_from_the_number_of_its_block)
{
    evh_heap *heap = inspect_memory();
    unsigned char digests[2][32];
    uint64_t *root = evh_root(heap, "root", 16); /* number 0 */
    void *block = evh_calloc(heap, 1, 16);       /* number 1 */
    CHECK(root && block);
    root[0] = root[1] = evh_ref_to(heap, block).offset;
    inspect_digest(heap, digests[0]);
    root[1] = 1;
    inspect_digest(heap, digests[1]);
    CHECK(memcmp(digests[0], digests[1], 32) != 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

/* More roots than the first chunk holds; the second chunk cannot be found. */
TEST(a_digest_whose_roots_cannot_be_read_is_refused)
{
    evh_heap *heap = inspect_memory();
    struct heap_catalog *catalog = evh_at(heap, (evh_ref){heap->state.catalog});
    CHECK(catalog != NULL);
    for (uint64_t tag = 1; tag <= 10; tag++) CHECK(evh_root_tagged(heap, tag, 16) != NULL);
    unsigned char digest[32];
    inspect_digest(heap, digest);
    const evh_ref chunk = catalog->root_chunks[1];
    catalog->root_chunks[1].offset += 16;

    CHECK_EQUAL(evh_digest(heap, digest), EVH_CORRUPT);

    CHECK(strstr(evh_last_error()->message, "chunk 1") != NULL);
    catalog->root_chunks[1] = chunk;
    inspect_digest(heap, digest);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_chain_of_200000_blocks_is_hashed_without_recursion)
{
    evh_heap *heap = inspect_memory();
    evh_ref *last = evh_root(heap, "chain", 16);
    CHECK(last != NULL);
    for (unsigned i = 0; i < 200000; i++) {
        evh_ref *next = evh_calloc(heap, 1, 16);
        CHECK(next != NULL);
        *last = evh_ref_to(heap, next);
        last = next;
    }
    unsigned char digest[32];
    inspect_digest(heap, digest);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}
