/* collect.h -- what the files of this layer offer each other: checked refs, blocks, hashes. */
#ifndef EVERHEAP_COLLECT_COLLECT_H
#define EVERHEAP_COLLECT_COLLECT_H

#include "collect/collect_layout.h"
#include "heap/heap.h"

#include <everheap/collections.h>

/* Whatever the file holds: an address that this layer computes from it comes from collect_at(), a
 * block that it frees or resizes was looked up before. */

/** Report damage: EVH_CORRUPT at `offset`. */
EVH_INTERNAL evh_status collect_corrupt(uint64_t offset, const char *what);

/** Where blocks may begin: slice 0 has none, and that of a file is not mapped. */
static inline uint64_t collect_begin(const evh_heap *heap)
{
    return heap->compact ? 16 : SLICE_BYTES;
}

/** The heap's end. A live one grows by other processes, too; its view ends where its addresses
 *  do. */
static inline uint64_t collect_end(const evh_heap *heap)
{
    return UNLIKELY(heap->live != NULL) ? live_end(heap->live) << SLICE_SHIFT
                                        : heap_end_bytes(heap);
}

/** Up to where all is mapped: the heap's end, or the lowest journal extent within it. */
static inline uint64_t collect_quick_end(const evh_heap *heap)
{
    if (!heap->journal) return collect_end(heap);
    const uint64_t end = heap_end_bytes(heap);
    const struct region_extent extent = region_extent_at(heap->region, 0);
    const uint64_t first = (uint64_t)extent.first_slice << SLICE_SHIFT;
    return extent.slice_count > 0 && first < end ? first : end;
}

/** Whether all of [offset, offset + bytes) is mapped, for an offset behind the lowest extent. */
EVH_INTERNAL bool collect_is_mapped(const evh_heap *heap, uint64_t offset, uint64_t bytes);

/** Whether `offset` is a multiple of 16, and followed by `bytes` bytes that may be read and
 *  written: no journal, no end of the heap. */
static inline bool collect_is_in(const evh_heap *heap, uint64_t offset, uint64_t bytes)
{
    if (UNLIKELY(!heap || offset < collect_begin(heap) || offset % 16 != 0)) return false;
    return LIKELY(base_in_range(offset, bytes, collect_quick_end(heap))) ||
           collect_is_mapped(heap, offset, bytes);
}

/** The address of `bytes` bytes at `offset`; NULL and EVH_CORRUPT if they are not in the heap or
 *  begin where no block does. */
static inline void *collect_at(const evh_heap *heap, uint64_t offset, uint64_t bytes)
{
    if (LIKELY(collect_is_in(heap, offset, bytes))) return heap->view.base + offset;
    (void)collect_corrupt(offset, "a ref of a collection leads nowhere");
    return NULL;
}

/** As collect_at() of a block that begins with `word`. */
static inline void *collect_find(const evh_heap *heap, uint64_t offset, uint64_t bytes,
                                 uint32_t word)
{
    assert(bytes >= sizeof word);
    uint32_t *const block = collect_at(heap, offset, bytes);
    if (UNLIKELY(block && *block != word)) {
        (void)collect_corrupt(offset, "a collection does not begin as its kind does");
        return NULL;
    }
    return block;
}

/** Whether a change may begin: EVH_OK, or the status of heap_writable(); EVH_INVALID if the handle
 *  is null. */
EVH_INTERNAL evh_status collect_writable(evh_heap *heap, const void *handle);

/** The offset of an address in the heap. */
static inline uint64_t collect_offset(const evh_heap *heap, const void *address)
{
    assert(address != NULL);
    return (uint64_t)((const unsigned char *)address - heap->view.base);
}

/** The usable bytes of the live block at `offset`; 0 and EVH_CORRUPT if none begins there. */
EVH_INTERNAL uint64_t collect_block_bytes(evh_heap *heap, uint64_t offset);

/** Free the block at `offset`; 0 is fine. EVH_CORRUPT if none begins there. */
EVH_INTERNAL evh_status collect_free(evh_heap *heap, uint64_t offset);

/** The status of the call that has just failed. */
static inline evh_status collect_failed(void)
{
    const evh_status status = evh_last_error()->status;
    assert(status != EVH_OK);
    return status;
}

/* ---- hashes (siphash.c) ---- */

/** A key that nobody can guess, another with each call. */
EVH_INTERNAL void collect_new_key(uint64_t key[2]);

/** SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012; one round per word
 *  and three at the end, as in hash tables of Rust and Python). */
EVH_INTERNAL uint64_t collect_hash_bytes(const uint64_t key[2], const void *bytes, size_t size);

/* ---- strings (str.c) ---- */

/** The text of the str at `ref` and its size, or NULL (EVH_CORRUPT). */
static inline const char *collect_text(const evh_heap *heap, uint64_t ref, size_t *size)
{
    const uint32_t word = COLLECT_WORD(COLLECT_STR, 1);
    const struct collect_str *const block = collect_find(heap, ref, sizeof *block + 1, word);
    if (UNLIKELY(!block)) return NULL;
    if (UNLIKELY(!collect_at(heap, ref, sizeof *block + (uint64_t)block->size + 1))) return NULL;
    *size = block->size;
    return (const char *)(block + 1);
}

/** Whether the str at `ref` is these bytes. */
static inline bool collect_text_is(const evh_heap *heap, uint64_t ref, const void *bytes,
                                   size_t size)
{
    size_t text_size = 0;
    const char *const text = collect_text(heap, ref, &text_size);
    return text && text_size == size && memcmp(text, bytes, size) == 0;
}

/** A new str of these bytes (may be none); its ref, or 0. */
EVH_INTERNAL uint64_t collect_new_text(evh_heap *heap, const void *bytes, size_t size);

/** Verify the str at `ref`: block, size, terminating zero. */
EVH_INTERNAL evh_status collect_check_text(evh_heap *heap, uint64_t ref);

/** Whether `size` bytes at `part` are in the text; size 0 always is. */
EVH_INTERNAL const char *collect_search(const char *text, size_t text_size, const void *part,
                                        size_t size);

/** Verify that a live block of at least `bytes` bytes begins at `ref`. */
EVH_INTERNAL evh_status collect_check_block(evh_heap *heap, uint64_t ref, uint64_t bytes);

/** As evh_symbol_retain(), `count` times at once. */
EVH_INTERNAL evh_status collect_symbol_retain(evh_heap *heap, evh_symbols *symbols,
                                              evh_symbol symbol, uint32_t count);

#endif
