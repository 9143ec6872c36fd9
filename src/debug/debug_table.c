/* debug_table.c -- what is known of each block: a hash table by address or offset.
 *
 * Open addressing with linear probing, at most three quarters full; a removal moves the blocks
 * behind it back (Knuth, volume 3, section 6.4, algorithm R), so that there are no tombstones.
 */
#include "debug/debug.h"

enum { TABLE_SLOTS_FIRST = 256 };

static size_t table_home(const struct debug_table *table, uint64_t key)
{
    assert(base_is_power_of_two(table->slots));
    return (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & (table->slots - 1);
}

/* The slot of `key`, or the empty one where it belongs. */
static struct debug_block *table_probe(const struct debug_table *table, uint64_t key)
{
    assert(table->count < table->slots);
    assert(key != 0);
    size_t slot = table_home(table, key);
    while (table->blocks[slot].key != 0 && table->blocks[slot].key != key)
        slot = (slot + 1) & (table->slots - 1);
    return &table->blocks[slot];
}

static bool table_grow(struct debug_table *table)
{
    struct debug_table larger = {.slots = table->slots ? table->slots * 2 : TABLE_SLOTS_FIRST};
    larger.blocks = os->memory_allocate(larger.slots * sizeof *larger.blocks);
    if (!larger.blocks) return false;
    for (size_t i = 0; i < table->slots; i++)
        if (table->blocks[i].key != 0)
            *table_probe(&larger, table->blocks[i].key) = table->blocks[i];
    larger.count = table->count;
    os->memory_free(table->blocks);
    *table = larger;
    return true;
}

EVH_INTERNAL struct debug_block *debug_table_add(struct debug_table *table, uint64_t key)
{
    assert(key != 0);
    if (table->count >= table->slots / 4 * 3 && !table_grow(table)) return NULL;
    struct debug_block *block = table_probe(table, key);
    assert(block->key == 0);
    *block = (struct debug_block){.key = key};
    table->count++;
    return block;
}

EVH_INTERNAL struct debug_block *debug_table_find(const struct debug_table *table, uint64_t key)
{
    if (table->count == 0 || key == 0) return NULL;
    struct debug_block *block = table_probe(table, key);
    return block->key != 0 ? block : NULL;
}

EVH_INTERNAL void debug_table_remove(struct debug_table *table, struct debug_block *block)
{
    assert(block >= table->blocks);
    assert(block->key != 0);
    const size_t mask = table->slots - 1;
    size_t hole = (size_t)(block - table->blocks);
    for (size_t next = (hole + 1) & mask; table->blocks[next].key != 0; next = (next + 1) & mask) {
        const size_t home = table_home(table, table->blocks[next].key);
        /* A block may move to the hole unless its home lies cyclically behind the hole. */
        if (((next - home) & mask) < ((next - hole) & mask)) continue;
        table->blocks[hole] = table->blocks[next];
        hole = next;
    }
    table->blocks[hole].key = 0;
    table->count--;
}

EVH_INTERNAL void debug_table_end(struct debug_table *table)
{
    os->memory_free(table->blocks);
    *table = (struct debug_table){0};
}
