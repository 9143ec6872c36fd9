/* side.c -- pointers of the program's beside values: a hash table in memory, by the value's name.
 *
 * A container's name has a serial, so that a pointer never passes to another container that is
 * given the same number.
 */
#include "db/db.h"
#include "os/os.h"

static uint64_t side_hash(evh_value value)
{
    uint64_t hash =
        ((uint64_t)value.serial << 32 | value.container) ^ value.position * 0x9e3779b97f4a7c15ull;
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93ull;
    return hash ^ hash >> 32;
}

static bool side_is(const struct db_attached *entry, evh_value value)
{
    return entry->value.container == value.container && entry->value.serial == value.serial &&
           entry->value.position == value.position;
}

/* The entry of a value, or the empty one where it would be. There is one: see side_grow(). */
static struct db_attached *side_find(const struct db_side *side, evh_value value)
{
    assert(side->used < side->capacity);
    size_t at = side_hash(value) & (side->capacity - 1);
    while (side->table[at].value.container && !side_is(side->table + at, value))
        at = (at + 1) & (side->capacity - 1);
    return side->table + at;
}

/* Make room for one more: a table twice as large, without what was forgotten. */
static evh_status side_grow(struct db_side *side)
{
    assert(side->used <= side->capacity);
    if (4 * (side->used + 1) <= 3 * side->capacity) return EVH_OK;
    const struct db_side old = *side;
    size_t count = 0;
    for (size_t i = 0; i < old.capacity; i++) count += old.table[i].pointer != NULL;
    size_t capacity = 64;
    while (capacity < 2 * (count + 1)) capacity *= 2;
    struct db_attached *table = os->memory_allocate(capacity * sizeof *table);
    if (!table) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "db: no memory to attach a pointer");
    *side = (struct db_side){table, capacity, 0};
    for (size_t i = 0; i < old.capacity; i++) {
        if (!old.table[i].pointer) continue;
        *side_find(side, old.table[i].value) = old.table[i];
        side->used++;
    }
    assert(side->used == count);
    os->memory_free(old.table);
    return EVH_OK;
}

evh_status evh_db_attach(evh_db *db, evh_value value, void *pointer)
{
    if (!db || !evh_json_is(value))
        return base_fail(EVH_INVALID, NO_OFFSET, "db: no database, or no value");
    if (evh_json_type_of(db->json, value) == EVH_JSON_NONE)
        return base_fail(EVH_NOT_FOUND, NO_OFFSET, "db: the value is no more");
    const evh_status status = side_grow(&db->side);
    if (status) return status;
    assert(db->side.used < db->side.capacity); /* so that looking for what is not there ends */
    struct db_attached *entry = side_find(&db->side, value);
    if (!entry->value.container) {
        entry->value = value;
        db->side.used++;
    }
    entry->pointer = pointer;
    return EVH_OK;
}

void *evh_db_attached(evh_db *db, evh_value value)
{
    if (!db || !db->side.capacity || !evh_json_is(value)) return NULL;
    void *pointer = side_find(&db->side, value)->pointer;
    return pointer && evh_json_type_of(db->json, value) != EVH_JSON_NONE ? pointer : NULL;
}
