/* heap_trim.c -- empty runs of slices go back to the file system.
 *
 * The order that keeps it safe at every instant:
 *
 *  1. Bring every commit home, and hold all writers still.
 *  2. Find runs that are free both in the working state and in the last commit.
 *  3. Mark their slices as holes in the committed image, by a commit of nothing but these marks.
 *     From here on whoever allocates them asks the file system for space first.
 *  4. Checkpoint: no journal record can write into them any more, and no reader holds a view in
 *     which they were in use. If a reader does, stop here: marks without holes do no harm.
 *  5. Punch.
 *  6. What the journal has grown to for one large commit goes too, where it lies behind the heap.
 */
#include "heap/heap.h"

#include <stdlib.h>

enum {
    TRIM_WORDS_MAX = 4096, /* marks in one commit: 4 segments */
};

struct trim {
    evh_heap *heap;
    uint64_t committed_bytes; /* the heap's end in the last commit */
    struct journal_run *runs; /* of free slices, ascending; owned */
    size_t run_count;
    size_t run_capacity;
    uint64_t image_page; /* which page `image` holds; NO_OFFSET: none */
    unsigned char image[PAGE_BYTES];
};

static evh_status trim_add(struct trim *trim, uint64_t first, uint64_t count)
{
    assert(count > 0);
    if (trim->run_count == trim->run_capacity) {
        const size_t capacity = trim->run_capacity ? trim->run_capacity * 2 : 64;
        void *runs = os->memory_resize(trim->runs, capacity * sizeof *trim->runs);
        if (!runs)
            return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to list free runs",
                             heap_path(trim->heap));
        trim->runs = runs;
        trim->run_capacity = capacity;
    }
    trim->runs[trim->run_count++] =
        (struct journal_run){first << SLICE_SHIFT, count << SLICE_SHIFT};
    assert(trim->run_count <= trim->run_capacity);
    return EVH_OK;
}

/* Whether `slice` is free in the last commit. */
static evh_status trim_is_free(struct trim *trim, uint64_t slice, bool *is_free)
{
    assert(is_free != NULL);
    assert(trim->heap->journal != NULL);
    evh_heap *heap = trim->heap;
    *is_free = false;
    if ((slice + 1) << SLICE_SHIFT > trim->committed_bytes) return EVH_OK;
    const uint64_t offset = slices_descriptor_offset(heap, slice);
    if (offset == 0) return EVH_OK;
    const uint64_t page = offset >> PAGE_SHIFT;
    if (page != trim->image_page) {
        const evh_status status = journal_committed_page(heap->journal, page, trim->image);
        trim->image_page = status ? NO_OFFSET : page;
        if (status) return status;
    }
    uint64_t descriptor;
    memcpy(&descriptor, trim->image + offset % PAGE_BYTES, sizeof descriptor);
    *is_free = descriptor == HEAP_FREE;
    return EVH_OK;
}

/* Of a run that is free now, list the parts that are free in the last commit too, however short:
 * of runs of 16 and more only, a fragmented heap kept twice as much. */
static evh_status trim_each_run(uint64_t first, uint64_t count, void *context)
{
    assert(count > 0);
    assert(context != NULL);
    struct trim *trim = context;
    uint64_t begin = first;
    for (uint64_t slice = first; slice <= first + count; slice++) {
        bool is_free = false;
        const evh_status status =
            slice < first + count ? trim_is_free(trim, slice, &is_free) : EVH_OK;
        if (status) return status;
        if (is_free) continue;
        if (slice > begin) {
            const evh_status added = trim_add(trim, begin, slice - begin);
            if (added) return added;
        }
        begin = slice + 1;
    }
    return EVH_OK;
}

/* ---- marking ---- */

static int trim_compare_words(const void *a, const void *b)
{
    assert(a != NULL);
    assert(b != NULL);
    const struct journal_word *left = a;
    const struct journal_word *right = b;
    return (left->offset > right->offset) - (left->offset < right->offset);
}

/* Mark up to TRIM_WORDS_MAX slices from the position {run, slice within it} on, as one commit, and
 * move the position behind them. */
static evh_status trim_mark_some(struct trim *trim, struct journal_word *words, size_t *run,
                                 uint64_t *done)
{
    assert(*run < trim->run_count);
    assert(*done < slices_count(trim->runs[*run].size));
    evh_heap *heap = trim->heap;
    size_t word_count = 0;
    const size_t from_run = *run;
    const uint64_t from_done = *done;
    while (*run < trim->run_count && word_count < TRIM_WORDS_MAX) {
        const uint64_t slice = slices_count(trim->runs[*run].offset) + *done;
        words[word_count++] = (struct journal_word){
            .offset = slices_descriptor_offset(heap, slice),
            .value = HEAP_FREE | (uint64_t)HEAP_HOLE << HEAP_ATTRIBUTE_SHIFT,
        };
        if (++*done < slices_count(trim->runs[*run].size)) continue;
        ++*run;
        *done = 0;
    }
    qsort(words, word_count, sizeof *words, trim_compare_words);
    const evh_status status = journal_patch(heap->journal, words, word_count);
    if (status) return status;
    for (size_t i = from_run; i <= *run && i < trim->run_count; i++) {
        const uint64_t first = i == from_run ? from_done : 0;
        const uint64_t end = i == *run ? *done : slices_count(trim->runs[i].size);
        const uint64_t slice = slices_count(trim->runs[i].offset);
        if (end > first) slices_set_hole(heap, slice + first, end - first, true);
    }
    return EVH_OK;
}

static evh_status trim_mark(struct trim *trim)
{
    assert(trim->heap->journal != NULL);
    assert(trim->run_count > 0);
    struct journal_word *words = os->memory_allocate(TRIM_WORDS_MAX * sizeof *words);
    if (!words)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to mark free runs",
                         heap_path(trim->heap));
    evh_status status = EVH_OK;
    size_t run = 0;
    uint64_t done = 0;
    while (!status && run < trim->run_count) status = trim_mark_some(trim, words, &run, &done);
    os->memory_free(words);
    return status;
}

/* ---- the whole ---- */

/* All writers are still. */
static evh_status trim_run(struct trim *trim, uint64_t *freed_bytes)
{
    assert(trim->run_count == 0);
    assert(*freed_bytes == 0);
    evh_heap *heap = trim->heap;
    trim->committed_bytes = journal_last_state(heap->journal).heap_bytes;
    slices_fold(heap);
    evh_status status = slices_each_free_run(heap, trim_each_run, trim);
    if (!status && trim->run_count > 0) {
        status = trim_mark(trim);
        if (!status) status = journal_checkpoint(heap->journal);
        if (!status)
            status = journal_punch(heap->journal, trim->runs, trim->run_count, freed_bytes);
    }
    if (status) return status;
    uint64_t journal_bytes = 0;
    assert(trim->run_count <= trim->run_capacity);
    status = journal_shrink(heap->journal, &journal_bytes);
    *freed_bytes += journal_bytes;
    return status;
}

/* Anonymous memory: nothing to mark, the pages read as zero when they are used again. */
static evh_status trim_memory(evh_heap *heap, uint64_t *freed_bytes)
{
    assert(heap->journal == NULL);
    assert(*freed_bytes == 0);
    if (heap->compact) return EVH_OK; /* the caller's to give */
    slices_fold(heap);
    /* What caches keep empty is given back with their slices. */
    for (struct cache *cache = slices_first_cache(heap); cache; cache = cache->next_of_heap)
        (void)owners_release_empty(cache);
    return heap_discard(heap, true, freed_bytes);
}

evh_status evh_trim(evh_heap *heap, uint64_t *freed_bytes)
{
    uint64_t freed = 0;
    if (freed_bytes) *freed_bytes = 0;
    evh_status status = heap_writable(heap);
    if (status) return status;
    if (heap->mode == EVH_PRIVATE)
        return base_fail(EVH_READ_ONLY, NO_OFFSET, "%s: it is open privately", heap_path(heap));
    if (heap->live) {
        status = live_trim(heap, &freed);
        if (freed_bytes) *freed_bytes = freed;
        return status;
    }
    if (gate_is_inside(heap))
        return base_fail(EVH_BUSY, NO_OFFSET, "%s: inside this thread's own evh_enter()",
                         heap_path(heap));
    struct trim *trim = os->memory_allocate(sizeof *trim);
    if (!trim) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to trim", heap_path(heap));
    assert(heap->view.base != NULL);
    trim->heap = heap;
    trim->image_page = NO_OFFSET;
    os->mutex_lock(heap->commit_mutex);
    /* From here on no commit is pending whose failure would make another one the last. */
    if (heap->journal) status = journal_checkpoint(heap->journal);
    if (!status) status = gate_close(heap);
    if (!status) {
        status = heap->journal ? trim_run(trim, &freed) : trim_memory(heap, &freed);
        gate_open(heap);
    }
    os->mutex_unlock(heap->commit_mutex);
    os->memory_free(trim->runs);
    os->memory_free(trim);
    if (freed_bytes) *freed_bytes = freed;
    return status;
}
