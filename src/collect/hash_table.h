/* hash_table.h -- the table under maps and symbols: extendible hashing over small open tables.
 *
 * Extendible hashing (Fagin, Nievergelt, Pippenger, Strong 1979) for growth in parts: a full part
 * becomes two, and the words of the directory that led to it lead to these; nothing else changes.
 * Within a part, open addressing by groups of seven slots with a byte of the hash each, compared
 * at a time within a word (as Abseil's and Go's "Swiss tables" do). docs/collect.md has the
 * numbers. Invariants:
 *
 *  1. A probe passes over the groups at its start, + 1, + 3, + 6, ... and ends at one with an empty
 *     slot: so an erased slot becomes empty only if its group has another empty one, because then
 *     no probe ever went past it.
 *  2. A part always has an empty slot: at most 6/7 of its slots are not empty.
 *  3. Erasing moves no item, and no part is split by it; a part that is empty goes, if its twin is
 *     there, and the twin stands for both.
 */
#ifndef EVERHEAP_COLLECT_HASH_TABLE_H
#define EVERHEAP_COLLECT_HASH_TABLE_H

#include "collect/map_find.h"

/* A place where the items of a hash may be: a walk over groups and, in each, over the slots whose
 * control byte is that of the hash. */
struct hash_probe {
    unsigned char *groups; /* NULL: the table is damaged, or there is no part */
    uint64_t stride;       /* bytes of a group */
    uint64_t mask;         /* groups - 1 */
    uint64_t group;        /* the present one */
    uint64_t step;         /* groups looked at before */
    uint64_t tags;         /* the hash's control byte, eight times */
    uint64_t control;      /* the group's control word */
    uint64_t matches;      /* high bits of slots still to be looked at */
    uint64_t slot;         /* of the item that was found last */
    uint32_t item_size;
};

static inline uint64_t hash_stride(const struct hash_table *table)
{
    assert(table != NULL);
    return collect_group_bytes(table->item_size);
}

static inline uint64_t hash_control(const unsigned char *group)
{
    assert(group != NULL);
    uint64_t control;
    memcpy(&control, group, sizeof control);
    return control;
}

/* The slots whose control byte equals the tag: their high bits. A slot that is full may be named
 * wrongly (a borrow from the byte below), one that is not full never is. */
static inline uint64_t hash_matches(uint64_t control, uint64_t tags)
{
    assert((tags & HASH_HIGH_BITS) == 0);
    const uint64_t x = control ^ tags;
    return (x - HASH_LOW_BITS) & ~x & HASH_ITEM_BITS;
}

static inline uint64_t hash_empty_slots(uint64_t control)
{
    return control & ~(control << 6) & HASH_HIGH_BITS;
}

static inline uint64_t hash_slot_of(uint64_t bits)
{
    assert((bits & ~HASH_HIGH_BITS) == 0);
    assert(bits != 0);
    return base_lowest_bit(bits) / 8;
}

/** The word that leads to the part of `hash`: of the directory, or the table's root. NULL if the
 *  table is damaged (EVH_CORRUPT). */
static inline uint64_t *hash_word(const evh_heap *heap, const struct hash_table *table,
                                  uint64_t hash)
{
    assert(heap != NULL);
    if (table->depth == 0) return (uint64_t *)(uintptr_t)&table->root;
    if (UNLIKELY(table->depth > HASH_DEPTH_MAX)) {
        (void)collect_corrupt(table->root, "a directory of impossible depth");
        return NULL;
    }
    uint64_t *const words = collect_at(heap, table->root, 8ull << table->depth);
    return words ? words + (hash >> (64 - table->depth)) : NULL;
}

/** Begin a walk over the items that may have `hash`. */
static inline __attribute__((always_inline)) struct hash_probe hash_probe_begin(
    const evh_heap *heap, const struct hash_table *table, uint64_t hash)
{
    assert(heap != NULL);
    assert(table != NULL);
    struct hash_probe probe = {.item_size = table->item_size, .stride = hash_stride(table)};
    const uint64_t *const found = hash_word(heap, table, hash);
    const uint64_t word = LIKELY(found != NULL) ? *found : 0;
    if (UNLIKELY(word == 0)) return probe; /* damaged; or an empty table */
    const uint32_t group_bits = word & 15;
    struct hash_part *const part =
        collect_at(heap, word & ~15ull, sizeof *part + (probe.stride << group_bits));
    if (UNLIKELY(!part)) return probe;
    probe.groups = (unsigned char *)(part + 1);
    probe.mask = (1ull << group_bits) - 1;
    probe.tags = (hash & 0x7f) * HASH_LOW_BITS;
    probe.group = hash >> 7 & probe.mask;
    probe.control = hash_control(probe.groups + probe.group * probe.stride);
    probe.matches = hash_matches(probe.control, probe.tags);
    return probe;
}

/** The next item that may have the hash; NULL at the end. `probe->groups` is not NULL. */
static inline __attribute__((always_inline)) void *hash_probe_next(struct hash_probe *probe)
{
    assert(probe->stride > 0);
    assert(probe->groups != NULL);
    for (;;) {
        if (LIKELY(probe->matches != 0)) {
            probe->slot = hash_slot_of(probe->matches);
            probe->matches &= probe->matches - 1;
            return probe->groups + probe->group * probe->stride + 8 +
                   probe->slot * probe->item_size;
        }
        if (LIKELY(hash_empty_slots(probe->control) != 0)) return NULL;
        if (UNLIKELY(probe->step >= probe->mask)) return NULL; /* damaged: no slot is empty */
        probe->step++;
        probe->group = (probe->group + probe->step) & probe->mask;
        probe->control = hash_control(probe->groups + probe->group * probe->stride);
        probe->matches = hash_matches(probe->control, probe->tags);
    }
}

/** The control byte of the item that hash_probe_next() returned last. */
static inline unsigned char *hash_probe_control(const struct hash_probe *probe)
{
    assert(probe->groups != NULL);
    assert(probe->slot < HASH_SLOTS);
    return probe->groups + probe->group * probe->stride + probe->slot;
}

/** A table without items. `item_size` is a multiple of 8. */
EVH_INTERNAL void hash_table_begin(struct hash_table *table, uint32_t item_size, bool is_number);

/** A slot for a new item of `hash`, which no item has: the item, zeroed, counted. NULL if there is
 *  no space, and the table holds what it held. */
EVH_INTERNAL void *hash_table_add(evh_heap *heap, struct hash_table *table, uint64_t hash);

/** Remove an item of `hash`, whose control byte is `control`: where a probe found it. */
EVH_INTERNAL evh_status hash_table_remove(evh_heap *heap, struct hash_table *table, uint64_t hash,
                                          unsigned char *control);

/** Free the parts and the directory: an empty table. Of a damaged one what is found is freed, and
 *  EVH_CORRUPT returned. */
EVH_INTERNAL evh_status hash_table_clear(evh_heap *heap, struct hash_table *table);

/** An iteration over the items: all zero to begin. */
struct hash_walk {
    uint64_t prefix;   /* items whose hash is below were seen */
    uint64_t end;      /* where the part's hashes end; 0: 2^64 */
    uint64_t part;     /* its ref; 0: none entered yet */
    uint64_t visited;  /* bytes of the parts that were entered: bounds the walk */
    uint32_t slot;     /* the next one to look at */
    uint32_t is_ended; /* 1: nothing more */
};

/** The next item, or NULL. */
EVH_INTERNAL void *hash_walk_next(const evh_heap *heap, const struct hash_table *table,
                                  struct hash_walk *walk);

/** Verify structure and counts; `item` is called for each item and returns EVH_OK or
 *  EVH_CORRUPT. */
EVH_INTERNAL evh_status hash_table_check(
    evh_heap *heap, const struct hash_table *table, uint64_t offset,
    evh_status (*item)(evh_heap *heap, const void *item, void *context), void *context);

#endif
