/* live_inspect.c -- looking into a live heap while others go on: nothing is changed, nothing waited
 * for, and the answer may be out of date when it is given. */
#include "heap/heap.h"

/* The live bits of a word, of blocks only. */
static uint64_t inspect_live_bits(uint64_t *bits, const struct size_class *class, uint32_t word)
{
    assert(bits != NULL);
    assert(word < class->word_count);
    const uint32_t rest = class->block_count - word * 64u;
    const uint64_t valid = rest >= 64 ? UINT64_MAX : (1ull << rest) - 1;
    /* The mirror first: live_free.c says why. */
    const uint64_t freed = base_load(&live_mirror(bits)[word], __ATOMIC_ACQUIRE);
    return base_load(&bits[word], __ATOMIC_RELAXED) & ~freed & valid;
}

/* The class of a slice's blocks, and its bitmap. False: it has none, or cannot have. */
static bool inspect_blocks(struct live *live, uint64_t number, uint64_t descriptor,
                           const struct size_class **class, uint64_t **bits)
{
    assert(class != NULL);
    assert(bits != NULL);
    const uint32_t kind = descriptor_kind(descriptor);
    if (kind != HEAP_SMALL && kind != HEAP_MEDIUM) return false;
    const uint32_t class_index = descriptor_class(descriptor);
    if (class_index >= HEAP_CLASS_COUNT) return false;
    if (descriptor != live_blocks_descriptor(live, number, class_index)) return false;
    *class = &size_classes[class_index];
    *bits = (uint64_t *)(void *)live_place_of(live, number);
    return *bits != NULL;
}

static bool inspect_walk_blocks(evh_heap *heap, uint64_t number, const struct size_class *class,
                                uint64_t *bits, evh_visit *visit, void *context)
{
    assert(visit != NULL);
    assert(class->word_count > 0);
    for (uint32_t word = 0; word < class->word_count; word++)
        for (uint64_t set = inspect_live_bits(bits, class, word); set; set &= set - 1) {
            const uint64_t index = word * 64u + base_lowest_bit(set);
            const uint64_t offset = (number << SLICE_SHIFT) + index * class->block_bytes;
            const evh_block block = {
                .address = heap->view.base + offset, .ref = {offset}, .size = class->block_bytes};
            if (!visit(&block, context)) return false;
        }
    return true;
}

EVH_INTERNAL evh_status live_walk(evh_heap *heap, evh_visit *visit, void *context)
{
    assert(heap->live != NULL);
    assert(visit != NULL);
    struct live *live = heap->live;
    const uint64_t end = live_end(live);
    if (live_is_beyond(live)) return live_refuse_beyond(live);
    for (uint64_t number = 1; number < end; number++) {
        const uint64_t *place = live_descriptor(live, number);
        if (!place) return evh_last_error()->status;
        const uint64_t descriptor = base_load(place, __ATOMIC_ACQUIRE);
        const struct size_class *class = NULL;
        uint64_t *bits = NULL;
        if (inspect_blocks(live, number, descriptor, &class, &bits)) {
            if (!inspect_walk_blocks(heap, number, class, bits, visit, context)) return EVH_OK;
        } else if (descriptor_kind(descriptor) == HEAP_LARGE) {
            const uint64_t run = descriptor_count(descriptor);
            const evh_status status = live_check_run(live, number, run);
            if (status) return status;
            const evh_block block = {.address = heap->view.base + (number << SLICE_SHIFT),
                                     .ref = {number << SLICE_SHIFT},
                                     .size = run << SLICE_SHIFT};
            if (!visit(&block, context)) return EVH_OK;
        }
    }
    return EVH_OK;
}

static void inspect_end_free(evh_info *info, uint64_t *run)
{
    assert(info != NULL);
    assert(info->heap_bytes > 0);
    if (*run == 0) return;
    info->free_runs++;
    info->free_bytes += *run << SLICE_SHIFT;
    info->largest_free_bytes = base_max(info->largest_free_bytes, *run << SLICE_SHIFT);
    *run = 0;
}

static void inspect_count_slice(struct live *live, uint64_t number, uint64_t descriptor,
                                evh_info *info)
{
    assert(number > 0);
    assert(info != NULL);
    const struct size_class *class = NULL;
    uint64_t *bits = NULL;
    switch (descriptor_kind(descriptor)) {
    case HEAP_SMALL:
    case HEAP_MEDIUM: {
        uint64_t count = 0;
        if (!inspect_blocks(live, number, descriptor, &class, &bits)) return;
        for (uint32_t word = 0; word < class->word_count; word++)
            count += base_count_bits(inspect_live_bits(bits, class, word));
        info->live_blocks += count;
        info->live_bytes += count * class->block_bytes;
        return;
    }
    case HEAP_LARGE:
        info->live_blocks++;
        info->live_bytes += (uint64_t)descriptor_count(descriptor) << SLICE_SHIFT;
        return;
    case HEAP_TAIL: return;
    default: info->metadata_bytes += SLICE_BYTES; return;
    }
}

EVH_INTERNAL evh_status live_info(evh_heap *heap, evh_info *info)
{
    assert(heap->live != NULL);
    assert(info != NULL);
    struct live *live = heap->live;
    const uint64_t end = live_end(live);
    uint64_t run = 0;
    if (live_is_beyond(live)) return live_refuse_beyond(live);
    info->heap_bytes = end << SLICE_SHIFT;
    info->metadata_bytes = SLICE_BYTES;
    for (uint64_t number = 1; number < end; number++) {
        const uint64_t *place = live_descriptor(live, number);
        if (!place) return evh_last_error()->status;
        const uint64_t descriptor = base_load(place, __ATOMIC_ACQUIRE);
        const uint32_t kind = descriptor_kind(descriptor);
        if (kind == HEAP_FREE || (kind == HEAP_TAIL && live_is_takable(live, number))) {
            run++;
            continue;
        }
        inspect_end_free(info, &run);
        const evh_status status = kind == HEAP_LARGE
                                      ? live_check_run(live, number, descriptor_count(descriptor))
                                      : EVH_OK;
        if (status) return status;
        inspect_count_slice(live, number, descriptor, info);
    }
    inspect_end_free(info, &run);
    for (uint32_t i = 0; i < LIVE_THREADS_MAX; i++)
        info->threads += (base_load(&live->threads[i].word, __ATOMIC_RELAXED) & 0xff) != 0;
    for (uint32_t i = 0; i < LIVE_PROCESSES_MAX; i++)
        info->processes += base_load(&live->processes[i].state, __ATOMIC_RELAXED) != 0;
    return EVH_OK;
}
