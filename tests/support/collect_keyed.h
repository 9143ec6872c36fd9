/* collect_keyed.h -- what the tests of maps and trees beside a model share: both forms of keys.
 *
 * Before it is included: KEYS, how many keys there are; number_key(i) and text_key(i, text), the
 * i-th key as a number and as bytes. The model is an array of values, 0 where the key is not there.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_COLLECT_KEYED_H
#define EVERHEAP_TESTS_SUPPORT_COLLECT_KEYED_H

#include "support/collect_model.h"

struct keyed_model {
    uint64_t values[KEYS];
};

/* Calls for the i-th key of an evh_map or evh_tree. */
#define KEYED_CALLS(noun)                                                                          \
    static uint64_t *put_key(evh_heap *heap, evh_##noun *all, bool is_text, uint64_t i)            \
    {                                                                                              \
        char text[64];                                                                             \
        if (!is_text) return evh_##noun##_put(heap, all, number_key(i), 8);                        \
        const size_t size = text_key(i, text);                                                     \
        return evh_##noun##_put_bytes(heap, all, text, size, 8);                                   \
    }                                                                                              \
                                                                                                   \
    static uint64_t *get_key(evh_heap *heap, const evh_##noun *all, bool is_text, uint64_t i)      \
    {                                                                                              \
        char text[64];                                                                             \
        if (!is_text) return evh_##noun##_get(heap, all, number_key(i));                           \
        const size_t size = text_key(i, text);                                                     \
        return evh_##noun##_get_bytes(heap, all, text, size);                                      \
    }                                                                                              \
                                                                                                   \
    static bool erase_key(evh_heap *heap, evh_##noun *all, bool is_text, uint64_t i)               \
    {                                                                                              \
        char text[64];                                                                             \
        if (!is_text) return evh_##noun##_erase(heap, all, number_key(i));                         \
        const size_t size = text_key(i, text);                                                     \
        return evh_##noun##_erase_bytes(heap, all, text, size);                                    \
    }                                                                                              \
                                                                                                   \
    /* Put or erase it, unless the heap is null, and in the model. False: the heap is full. */     \
    static bool change_key(evh_heap *heap, evh_##noun *all, struct keyed_model *model,             \
                           bool is_text, uint64_t i, uint64_t random)                              \
    {                                                                                              \
        /* More puts than erasures in some stretches, fewer in others: it grows and shrinks. */    \
        if (random % 16 < ((model->values[0] & 1) ? 11 : 5)) {                                     \
            uint64_t *const value = heap ? put_key(heap, all, is_text, i) : NULL;                  \
            if (heap && !value) return false;                                                      \
            if (heap) CHECK_EQUAL(*value, model->values[i]);                                       \
            if (heap) *value = random | 2;                                                         \
            model->values[i] = random | 2;                                                         \
        } else {                                                                                   \
            if (heap) CHECK_EQUAL(erase_key(heap, all, is_text, i), model->values[i] != 0);        \
            model->values[i] = 0;                                                                  \
        }                                                                                          \
        return true;                                                                               \
    }                                                                                              \
                                                                                                   \
    static evh_status noun##_check(evh_heap *heap, void *root)                                     \
    {                                                                                              \
        return evh_##noun##_check(heap, root);                                                     \
    }                                                                                              \
                                                                                                   \
    static evh_status noun##_clear(evh_heap *heap, void *root)                                     \
    {                                                                                              \
        return evh_##noun##_clear(heap, root);                                                     \
    }                                                                                              \
    struct keyed_model /* the macro ends in a declaration */

/* A kind of one form of keys, by noun_step(), noun_verify() and noun_exercise(), which take that
 * last. */
#define KEYED_KIND(kind_name, noun, is_text)                                                       \
    static bool kind_name##_step(evh_heap *heap, void *root, void *model, uint64_t random)         \
    {                                                                                              \
        return noun##_step(heap, root, model, random, is_text);                                    \
    }                                                                                              \
    static void kind_name##_verify(evh_heap *heap, void *root, const void *model)                  \
    {                                                                                              \
        noun##_verify(heap, root, model, is_text);                                                 \
    }                                                                                              \
    static void kind_name##_exercise(evh_heap *heap, void *root, uint64_t random)                  \
    {                                                                                              \
        noun##_exercise(heap, root, random, is_text);                                              \
    }                                                                                              \
    static const struct collect_kind kind_name = {                                                 \
        .name = #kind_name,                                                                        \
        .model_bytes = sizeof(struct keyed_model),                                                 \
        .root_bytes = sizeof(evh_##noun),                                                          \
        .step = kind_name##_step,                                                                  \
        .verify = kind_name##_verify,                                                              \
        .exercise = kind_name##_exercise,                                                          \
        .check = noun##_check,                                                                     \
        .clear = noun##_clear,                                                                     \
    }

#endif
