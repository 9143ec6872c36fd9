/* digest.c -- a hash of a heap's content that does not depend on where the blocks lie.
 *
 * The blocks are numbered in the order of a breadth-first walk: the roots' blocks in the order of
 * their names, then of their tags, then what each block's words name, from its first word to its
 * last. A block is hashed as its size and its 8-byte words, where a word that is the offset of a
 * live block is replaced by that block's number; a second hash takes the positions of these words,
 * so that a number is never mistaken for a value. What no root reaches is hashed block by block
 * (references among such blocks count as references to "some block") and added up, which no order
 * changes.
 *
 *   digest = SHA-256( "everheap digest 1"
 *                     SHA-256 of the roots      name, tag, size, number of each
 *                     SHA-256 of the words      of reached blocks in order
 *                     SHA-256 of the positions  of the references among them
 *                     sum, 4 x 64 bits, of the SHA-256 of each block that was not reached
 *                     how many were reached, how many were not )
 *
 * The catalog and its chunks are left out: what they say is in the roots, and their layout depends
 * on history. Memory: 32 bytes per live block. The walk has no recursion: blocks wait in the order
 * of their numbers.
 */
#include "heap/heap.h"
#include "heap/sha256.h"

#include <stdlib.h>

#define DIGEST_UNSEEN UINT64_MAX         /* a block without a number */
#define DIGEST_INTERNAL (UINT64_MAX - 1) /* the catalog's: not part of the content */
#define DIGEST_SOME UINT64_MAX           /* stands for a block that no root reaches */

static const char digest_label[] = "everheap digest 1";

struct digest_block {
    uint64_t offset;
    uint64_t size;
    uint64_t number;
};

struct digest {
    evh_heap *heap;
    struct digest_block *blocks; /* owned; all live blocks, ascending */
    uint64_t *order;             /* owned; order[number] is an index into blocks */
    evh_root_info *roots;        /* owned; sorted */
    size_t block_count;
    size_t block_capacity;
    size_t root_count;
    uint64_t reached; /* blocks that have a number */
    uint64_t unreached;
    struct sha256 words;
    struct sha256 positions;
    uint64_t position; /* of the next word, among all that are hashed */
    uint64_t sum[4];
    evh_status status;
};

static evh_status digest_no_memory(const struct digest *digest)
{
    assert(digest != NULL);
    assert(digest->heap != NULL);
    return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: digest: no memory for %zu blocks",
                     heap_path(digest->heap), digest->block_count);
}

static void digest_add_number(struct sha256 *hash, uint64_t number)
{
    assert(hash != NULL);
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "as the file stores it");
    sha256_add(hash, &number, sizeof number);
}

/* ---- gathering ---- */

static bool digest_collect_block(const evh_block *block, void *context)
{
    struct digest *digest = context;
    if (digest->block_count == digest->block_capacity) {
        const size_t capacity = digest->block_capacity ? digest->block_capacity * 2 : 256;
        void *blocks = os->memory_resize(digest->blocks, capacity * sizeof *digest->blocks);
        if (!blocks) {
            digest->status = digest_no_memory(digest);
            return false;
        }
        digest->blocks = blocks;
        digest->block_capacity = capacity;
    }
    assert(digest->block_count == 0 ||
           digest->blocks[digest->block_count - 1].offset < block->ref.offset);
    digest->blocks[digest->block_count++] =
        (struct digest_block){block->ref.offset, block->size, DIGEST_UNSEEN};
    return true;
}

static int digest_compare_roots(const void *a, const void *b)
{
    assert(a != NULL);
    assert(b != NULL);
    const evh_root_info *left = a;
    const evh_root_info *right = b;
    if (left->is_tagged != right->is_tagged) return left->is_tagged ? 1 : -1;
    if (left->is_tagged) return (left->tag > right->tag) - (left->tag < right->tag);
    return strcmp(left->name, right->name);
}

static evh_status digest_collect_roots(struct digest *digest)
{
    assert(digest->roots == NULL);
    assert(digest->root_count == 0);
    uint64_t expected = 0;
    evh_status status = roots_count(digest->heap, &expected);
    if (status || expected == 0) return status;
    if (expected > digest->block_count) /* each has a block of its own */
        return base_fail(EVH_CORRUPT, digest->heap->state.catalog,
                         "%s: catalog: more roots than blocks", heap_path(digest->heap));
    digest->roots = os->memory_allocate((size_t)expected * sizeof *digest->roots);
    if (!digest->roots) return digest_no_memory(digest);
    evh_root_info root = {0};
    for (bool is_found = true; is_found && digest->root_count < expected;) {
        status = roots_next(digest->heap, &root, &is_found);
        if (status) return status;
        if (is_found) digest->roots[digest->root_count++] = root;
    }
    qsort(digest->roots, digest->root_count, sizeof *digest->roots, digest_compare_roots);
    return EVH_OK;
}

/* The live block at `offset`, or NULL. Most words are none, and fail at the first comparison. */
static struct digest_block *digest_find(const struct digest *digest, uint64_t offset)
{
    assert(digest != NULL);
    assert(digest->block_count <= digest->block_capacity);
    if (offset % 16 != 0 || offset >= digest->heap->view.end_bytes || offset == 0) return NULL;
    size_t low = 0;
    size_t high = digest->block_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (digest->blocks[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == digest->block_count || digest->blocks[low].offset != offset) return NULL;
    return &digest->blocks[low];
}

static void digest_mark_internal(uint64_t offset, void *context)
{
    assert(context != NULL);
    assert(offset != 0);
    struct digest_block *block = digest_find(context, offset);
    if (block) block->number = DIGEST_INTERNAL;
}

/* ---- walking ---- */

/* The block gets the next number, if it has none. */
static void digest_reach(struct digest *digest, struct digest_block *block)
{
    assert(block >= digest->blocks);
    if (block->number != DIGEST_UNSEEN) return;
    assert(digest->reached < digest->block_count);
    digest->order[digest->reached] = (uint64_t)(block - digest->blocks);
    block->number = digest->reached++;
}

/* The number that stands for a word, if the word is a reference. */
static bool digest_is_reference(struct digest *digest, uint64_t word, bool may_reach,
                                uint64_t *number)
{
    assert(word != 0);
    assert(number != NULL);
    struct digest_block *block = digest_find(digest, word);
    if (!block || block->number == DIGEST_INTERNAL) return false;
    if (may_reach) digest_reach(digest, block);
    *number = block->number == DIGEST_UNSEEN ? DIGEST_SOME : block->number;
    return true;
}

/* Hash a block's content into `words` and `positions`. */
static void digest_add_block(struct digest *digest, const struct digest_block *block,
                             bool may_reach, struct sha256 *words, struct sha256 *positions)
{
    assert(words != positions);
    assert(block->number != DIGEST_INTERNAL);
    assert(base_in_range(block->offset, block->size, digest->heap->view.end_bytes));
    const unsigned char *bytes = digest->heap->view.base + block->offset;
    uint64_t buffer[512];
    size_t buffered = 0;
    digest_add_number(words, block->size);
    for (uint64_t at = 0; at < block->size; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        uint64_t number = 0;
        memcpy(&word, bytes + at, (size_t)base_min(sizeof word, block->size - at));
        if (word && digest_is_reference(digest, word, may_reach, &number)) {
            digest_add_number(positions, digest->position + at / sizeof word);
            word = number;
        }
        buffer[buffered++] = word;
        if (buffered == sizeof buffer / sizeof buffer[0]) {
            sha256_add(words, buffer, sizeof buffer);
            buffered = 0;
        }
    }
    sha256_add(words, buffer, buffered * sizeof buffer[0]);
}

static evh_status digest_add_roots(struct digest *digest, struct sha256 *hash)
{
    assert(digest->reached == 0);
    assert(hash != NULL);
    for (size_t i = 0; i < digest->root_count; i++) {
        const evh_root_info *root = &digest->roots[i];
        struct digest_block *block = digest_find(digest, root->block.offset);
        if (!block || block->number == DIGEST_INTERNAL)
            return base_fail(EVH_CORRUPT, root->block.offset,
                             "%s: root \"%s\" (tag %llu): no block is at 0x%llx",
                             heap_path(digest->heap), root->name, (unsigned long long)root->tag,
                             (unsigned long long)root->block.offset);
        digest_reach(digest, block);
        sha256_add(hash, root->name, sizeof root->name);
        digest_add_number(hash, root->tag);
        digest_add_number(hash, root->size);
        digest_add_number(hash, block->number);
    }
    return EVH_OK;
}

static void digest_walk(struct digest *digest)
{
    assert(digest->order != NULL);
    assert(digest->position == 0);
    sha256_begin(&digest->words);
    sha256_begin(&digest->positions);
    for (uint64_t number = 0; number < digest->reached; number++) {
        const struct digest_block *block = &digest->blocks[digest->order[number]];
        assert(block->number == number);
        digest_add_block(digest, block, true, &digest->words, &digest->positions);
        digest->position += block->size / sizeof(uint64_t) + 1;
    }
}

/* What no root reaches: its blocks' hashes, added up. */
static void digest_add_unreached(struct digest *digest)
{
    assert(digest->unreached == 0);
    assert(digest->reached <= digest->block_count);
    digest->position = 0;
    for (size_t i = 0; i < digest->block_count; i++) {
        const struct digest_block *block = &digest->blocks[i];
        unsigned char of_positions[SHA256_BYTES];
        uint64_t lanes[4];
        struct sha256 words;
        struct sha256 positions;
        if (block->number != DIGEST_UNSEEN) continue;
        sha256_begin(&words);
        sha256_begin(&positions);
        digest_add_block(digest, block, false, &words, &positions);
        sha256_end(&positions, of_positions);
        sha256_add(&words, of_positions, sizeof of_positions);
        static_assert(sizeof lanes == SHA256_BYTES, "four words are a hash");
        sha256_end(&words, (unsigned char *)lanes);
        for (unsigned lane = 0; lane < 4; lane++) digest->sum[lane] += lanes[lane];
        digest->unreached++;
    }
}

/* ---- the whole ---- */

static evh_status digest_run(struct digest *digest, unsigned char result[SHA256_BYTES])
{
    assert(digest->heap != NULL);
    assert(result != NULL);
    assert(digest->blocks == NULL);
    unsigned char part[SHA256_BYTES];
    struct sha256 roots;
    struct sha256 whole;
    heap_debug_bare(digest->heap);
    evh_status status = heap_walk(digest->heap, digest_collect_block, digest);
    if (!status) status = digest->status;
    if (!status) status = digest_collect_roots(digest);
    if (status) return status;
    digest->order = os->memory_allocate((digest->block_count + 1) * sizeof *digest->order);
    if (!digest->order) return digest_no_memory(digest);
    roots_each_internal(digest->heap, digest_mark_internal, digest);
    sha256_begin(&roots);
    status = digest_add_roots(digest, &roots);
    if (status) return status;
    digest_walk(digest);
    digest_add_unreached(digest);
    sha256_begin(&whole);
    sha256_add(&whole, digest_label, sizeof digest_label - 1);
    sha256_end(&roots, part);
    sha256_add(&whole, part, sizeof part);
    sha256_end(&digest->words, part);
    sha256_add(&whole, part, sizeof part);
    sha256_end(&digest->positions, part);
    sha256_add(&whole, part, sizeof part);
    for (unsigned lane = 0; lane < 4; lane++) digest_add_number(&whole, digest->sum[lane]);
    digest_add_number(&whole, digest->reached);
    digest_add_number(&whole, digest->unreached);
    sha256_end(&whole, result);
    return EVH_OK;
}

evh_status evh_digest(evh_heap *heap, unsigned char digest[32])
{
    if (!heap) return base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
    if (!digest) return base_fail(EVH_INVALID, NO_OFFSET, "%s: digest: null", heap_path(heap));
    struct digest *run = os->memory_allocate(sizeof *run);
    if (!run) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: digest: no memory", heap_path(heap));
    run->heap = heap;
    assert(run->blocks == NULL);
    assert(run->roots == NULL);
    const evh_status status = digest_run(run, digest);
    os->memory_free(run->roots);
    os->memory_free(run->order);
    os->memory_free(run->blocks);
    os->memory_free(run);
    return status;
}
