/* compare.c -- two states of a heap, block by block: both lists ascend, and are merged. */
#include "autopsy/autopsy.h"

static void compare_bytes(const evh_autopsy *older, const evh_autopsy *newer,
                          const struct autopsy_object *before, const struct autopsy_object *after,
                          evh_difference *difference)
{
    const unsigned char *a = autopsy_bytes(older, before);
    const unsigned char *b = autopsy_bytes(newer, after);
    assert(before->offset == after->offset);
    const uint64_t size = base_min(before->size, after->size);
    difference->changed_bytes = base_max(before->size, after->size) - size;
    difference->changed_offset = size;
    if (memcmp(a, b, size) == 0) return;
    for (uint64_t i = size; i-- > 0;) {
        if (a[i] == b[i]) continue;
        difference->changed_bytes++;
        difference->changed_offset = i;
    }
    assert(difference->changed_offset < size);
}

void evh_autopsy_compare(evh_autopsy *older, evh_autopsy *newer, evh_difference_visit *visit,
                         void *context)
{
    if (!older || !newer || !visit) return;
    assert(older->heap != NULL);
    assert(newer->heap != NULL);
    uint64_t i = 0, k = 0;
    while (i < older->count || k < newer->count) {
        const struct autopsy_object *before = i < older->count ? &older->objects[i] : NULL;
        const struct autopsy_object *after = k < newer->count ? &newer->objects[k] : NULL;
        evh_difference difference = {0};
        if (before && (!after || before->offset < after->offset)) {
            difference.change = EVH_FREED;
            difference.object = autopsy_tell(older, i++);
        } else if (!before || after->offset < before->offset) {
            difference.change = EVH_MADE;
            difference.object = autopsy_tell(newer, k++);
        } else {
            compare_bytes(older, newer, before, after, &difference);
            difference.change = EVH_CHANGED;
            difference.object = autopsy_tell(newer, k++);
            i++;
            if (difference.changed_bytes == 0) continue;
        }
        if (!visit(&difference, context)) return;
    }
}
