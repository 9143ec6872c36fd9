/* types.c -- the registry of types, in the heap, and the copies of it that a process has loaded.
 *
 * The registry is a root (types_layout.h). Records are only ever added, each published by storing
 * its ref; two processes that register at once in a live heap compete for a place by compare and
 * exchange. So a number, once seen, means the same until a rollback.
 *
 * What comes from the file is copied and checked once, when it is loaded: all that evh_type_get()
 * gives out is memory of the process, and sound. A record that is damaged has no type.
 */
#include "heap/heap.h"

enum { TYPES_MAX = TYPES_FIRST * ((1 << TYPES_CHUNKS) - 1) };

/* A loaded type; its fields and their names follow. */
struct types_loaded {
    evh_type type;
    char name[EVH_NAME_SIZE_MAX + 1];
    evh_field fields[];
};

struct types {
    uint64_t stamp; /* of the heap's state that was loaded */
    uint32_t count; /* numbers 1 to this were looked at */
    uint32_t capacity;
    struct types_loaded **loaded; /* by number - 1; NULL: damaged */
};

/* ---- the registry in the heap ---- */

static unsigned types_chunk_of(uint32_t index, uint32_t *within)
{
    assert(index < TYPES_MAX);
    assert(within != NULL);
    const unsigned chunk = base_highest_bit(index / TYPES_FIRST + 1);
    *within = index - (uint32_t)TYPES_FIRST * ((1u << chunk) - 1);
    return chunk;
}

static evh_status types_corrupt(const evh_heap *heap, uint64_t offset, const char *why)
{
    assert(why != NULL);
    assert(heap != NULL);
    return base_fail(EVH_CORRUPT, offset, "%s: types: %s", heap_path(heap), why);
}

/* The table; EVH_OK and NULL where there is none and `make` is false. */
static evh_status types_table(evh_heap *heap, bool make, struct types_table **table)
{
    size_t size = 0;
    assert(table != NULL);
    *table = evh_root_find(heap, TYPES_ROOT, &size);
    if (!*table) {
        if (evh_last_error()->status != EVH_NOT_FOUND) return evh_last_error()->status;
        if (!make) return EVH_OK;
        *table = evh_root(heap, TYPES_ROOT, sizeof **table);
        if (!*table) return evh_last_error()->status;
        size = sizeof **table;
    }
    const uint64_t offset = evh_ref_to(heap, *table).offset;
    if (size < sizeof **table) return types_corrupt(heap, offset, "the table is too small");
    uint64_t magic = base_load(&(*table)->magic, __ATOMIC_RELAXED);
    assert(offset != 0);
    if (magic == 0 && !make) { /* nothing was registered yet */
        *table = NULL;
        return EVH_OK;
    }
    if (magic == 0) {
        base_store(&(*table)->magic, TYPES_TABLE_MAGIC, __ATOMIC_RELAXED);
        magic = TYPES_TABLE_MAGIC;
    }
    return magic == TYPES_TABLE_MAGIC ? EVH_OK
                                      : types_corrupt(heap, offset, "no table begins there");
}

/* The place of the ref of type `index` + 1; NULL where its chunk is not made. */
static evh_status types_place(evh_heap *heap, struct types_table *table, uint32_t index,
                              uint64_t **place)
{
    uint32_t within = 0;
    uint64_t size = 0;
    const unsigned chunk = types_chunk_of(index, &within);
    const uint64_t offset = base_load(&table->chunks[chunk].offset, __ATOMIC_ACQUIRE);
    assert(chunk < TYPES_CHUNKS);
    assert(place != NULL);
    *place = NULL;
    if (offset == 0) return EVH_OK;
    if (offset % 8 != 0 || !heap_block_at(heap, offset, &size) ||
        size < ((uint64_t)TYPES_FIRST << chunk) * sizeof(evh_ref))
        return types_corrupt(heap, evh_ref_to(heap, &table->chunks[chunk]).offset,
                             "a chunk of the table is no block");
    *place = (uint64_t *)(void *)(heap->view.base + offset) + within;
    return EVH_OK;
}

static evh_status types_make_chunk(evh_heap *heap, struct types_table *table, uint32_t index)
{
    uint32_t within = 0;
    uint64_t none = 0;
    const unsigned chunk = types_chunk_of(index, &within);
    assert(chunk < TYPES_CHUNKS);
    void *block = evh_calloc(heap, (size_t)TYPES_FIRST << chunk, sizeof(evh_ref));
    if (!block) return evh_last_error()->status;
    assert(heap->is_writable);
    assert(within < (uint32_t)TYPES_FIRST << chunk);
    if (!base_compare_exchange(&table->chunks[chunk].offset, &none, evh_ref_to(heap, block).offset,
                               false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        evh_free(heap, block); /* another process was faster */
    return EVH_OK;
}

/* ---- loading ---- */

/* Whether an item of that kind may have that size. */
static bool types_kind_has_size(uint16_t kind, uint32_t size)
{
    static_assert(EVH_FIELD_BYTES == 0 && EVH_FIELD_STRUCT == 10, "kinds are part of the format");
    switch (kind) {
    case EVH_FIELD_UNSIGNED:
    case EVH_FIELD_SIGNED: return size == 1 || size == 2 || size == 4 || size == 8;
    case EVH_FIELD_BOOLEAN: return size == 1;
    case EVH_FIELD_REAL: return size == 4 || size == 8;
    case EVH_FIELD_REFERENCE:
    case EVH_FIELD_HANDLE:
    case EVH_FIELD_POINTER:
    case EVH_FIELD_DISTANCE: return size == 8;
    case EVH_FIELD_BYTES:
    case EVH_FIELD_CHARS:
    case EVH_FIELD_STRUCT: return size > 0;
    default: return false;
    }
}

/* Whether a field can be one of a type of that size. */
static bool types_field_fits(const struct types_field *field, uint64_t type_size)
{
    assert(field != NULL);
    assert(type_size > 0);
    if (!types_kind_has_size(field->kind, field->size)) return false;
    if (field->name[EVH_NAME_SIZE_MAX] != 0 || field->target[EVH_NAME_SIZE_MAX] != 0) return false;
    if (!base_in_range(field->offset, (uint64_t)field->size * field->count, type_size))
        return false;
    if (field->tag_size == 0) return true;
    return types_kind_has_size(EVH_FIELD_UNSIGNED, field->tag_size) &&
           base_in_range(field->tag_offset, field->tag_size, type_size);
}

/* A copy of a record that was checked; NULL if it is damaged, or without memory. */
static struct types_loaded *types_load_one(evh_heap *heap, uint64_t offset, uint32_t number)
{
    struct types_record record;
    uint64_t size = 0;
    assert(number > 0);
    if (offset % 8 != 0 || !heap_block_at(heap, offset, &size) || size < sizeof record) return NULL;
    memcpy(&record, heap->view.base + offset, sizeof record);
    if (record.magic != TYPES_RECORD_MAGIC || record.number != number || record.size == 0 ||
        record.size > REGION_SIZE_MAX || record.name[0] == 0 ||
        record.name[EVH_NAME_SIZE_MAX] != 0 || record.field_count > TYPES_FIELDS_MAX ||
        (size - sizeof record) / sizeof(struct types_field) < record.field_count)
        return NULL;
    struct types_loaded *loaded;
    assert(record.name[EVH_NAME_SIZE_MAX] == 0);
    const size_t names_size = record.field_count * (2 * (size_t)(EVH_NAME_SIZE_MAX + 1));
    loaded =
        os->memory_allocate(sizeof *loaded + record.field_count * sizeof(evh_field) + names_size);
    if (!loaded) return NULL;
    char *names = (char *)&loaded->fields[record.field_count];
    memcpy(loaded->name, record.name, sizeof loaded->name);
    for (uint32_t i = 0; i < record.field_count; i++) {
        struct types_field field;
        memcpy(&field, heap->view.base + offset + sizeof record + i * sizeof field, sizeof field);
        if (!types_field_fits(&field, record.size)) {
            os->memory_free(loaded);
            return NULL;
        }
        memcpy(names, field.name, sizeof field.name);
        memcpy(names + sizeof field.name, field.target, sizeof field.target);
        loaded->fields[i] = (evh_field){
            .name = names,
            .kind = (evh_field_kind)field.kind,
            .offset = field.offset,
            .size = field.size,
            .count = field.count,
            .target = field.target[0] ? names + sizeof field.name : NULL,
            .tag_offset = field.tag_offset,
            .tag_size = field.tag_size,
            .tag_value = field.tag_value,
        };
        names += sizeof field.name + sizeof field.target;
    }
    loaded->type = (evh_type){loaded->name, record.size, loaded->fields, record.field_count};
    return loaded;
}

static void types_drop(struct types *types)
{
    assert(types != NULL);
    assert(types->count <= types->capacity);
    for (uint32_t i = 0; i < types->count; i++) os->memory_free(types->loaded[i]);
    os->memory_free(types->loaded);
    os->memory_free(types);
}

EVH_INTERNAL void types_end(evh_heap *heap)
{
    assert(heap != NULL);
    assert(!heap_lock_is_taken(&heap->types_lock) || heap->is_forked);
    if (heap->types) types_drop(heap->types);
    heap->types = NULL;
}

static evh_status types_append(struct types *types, struct types_loaded *loaded)
{
    assert(types != NULL);
    assert(types->count <= types->capacity);
    if (types->count == types->capacity) {
        const uint32_t capacity = types->capacity ? 2 * types->capacity : 16;
        void *grown = os->memory_resize(types->loaded, capacity * sizeof(void *));
        if (!grown) {
            os->memory_free(loaded);
            return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for the types of a heap");
        }
        types->loaded = grown;
        types->capacity = capacity;
    }
    types->loaded[types->count++] = loaded;
    return EVH_OK;
}

/* Load what is not loaded yet. Under types_lock. */
static evh_status types_load(evh_heap *heap)
{
    struct types_table *table = NULL;
    assert(heap_lock_is_taken(&heap->types_lock));
    assert(heap->open_count > 0);
    assert(heap->view.base != NULL);
    if (heap->types && heap->types->stamp != heap->stamp) {
        types_drop(heap->types);
        heap->types = NULL;
    }
    if (!heap->types) {
        heap->types = os->memory_allocate(sizeof *heap->types);
        if (!heap->types) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for types");
        heap->types->stamp = heap->stamp;
    }
    evh_status status = types_table(heap, false, &table);
    while (!status && table && heap->types->count < TYPES_MAX) {
        uint64_t *place = NULL;
        status = types_place(heap, table, heap->types->count, &place);
        const uint64_t offset = !status && place ? base_load(place, __ATOMIC_ACQUIRE) : 0;
        if (offset == 0) break;
        status = types_append(heap->types, types_load_one(heap, offset, heap->types->count + 1));
    }
    return status;
}

/* ---- what programs ask ---- */

const evh_type *evh_type_get(evh_heap *heap, uint32_t number)
{
    if (!heap || number == 0 || number > TYPES_MAX) return NULL;
    assert(heap->view.base != NULL);
    heap_lock_take(&heap->types_lock);
    struct types *types = heap->types;
    if (!types || types->stamp != heap->stamp || number > types->count) (void)types_load(heap);
    types = heap->types;
    const struct types_loaded *loaded =
        types && number <= types->count ? types->loaded[number - 1] : NULL;
    heap_lock_drop(&heap->types_lock);
    assert(!loaded || loaded->type.size > 0);
    return loaded ? &loaded->type : NULL;
}

uint32_t evh_type_count(evh_heap *heap)
{
    if (!heap) return 0;
    assert(heap->open_count > 0);
    heap_lock_take(&heap->types_lock);
    (void)types_load(heap);
    const uint32_t count = heap->types ? heap->types->count : 0;
    heap_lock_drop(&heap->types_lock);
    assert(count <= TYPES_MAX);
    return count;
}

uint32_t evh_type_find(evh_heap *heap, const char *name)
{
    if (!heap || !name) return 0;
    assert(heap->open_count > 0);
    uint32_t found = 0;
    heap_lock_take(&heap->types_lock);
    (void)types_load(heap);
    const struct types *types = heap->types;
    assert(!types || types->stamp == heap->stamp);
    for (uint32_t i = types ? types->count : 0; i > 0 && !found; i--)
        if (types->loaded[i - 1] && strcmp(types->loaded[i - 1]->name, name) == 0) found = i;
    heap_lock_drop(&heap->types_lock);
    assert(found <= TYPES_MAX);
    return found;
}

/* ---- registering ---- */

static bool types_copy_name(char target[EVH_NAME_SIZE_MAX + 1], const char *name)
{
    assert(target != NULL);
    size_t size = 0;
    if (!name) return true;
    while (size <= EVH_NAME_SIZE_MAX && name[size]) size++;
    if (size > EVH_NAME_SIZE_MAX) return false;
    memcpy(target, name, size);
    assert(target[EVH_NAME_SIZE_MAX] == 0);
    return true;
}

static evh_status types_refuse(const evh_heap *heap, const evh_type *type, const char *why)
{
    assert(why != NULL);
    assert(type != NULL);
    return base_fail(EVH_INVALID, NO_OFFSET, "%s: type \"%.63s\": %s", heap_path(heap),
                     type->name ? type->name : "", why);
}

/* Lay a description out as a record, which is zero; all of it is checked. */
static evh_status types_describe(const evh_heap *heap, const evh_type *type,
                                 struct types_record *record)
{
    struct types_field *fields = (struct types_field *)(void *)(record + 1);
    assert(type->size > 0);
    assert(record->magic == 0);
    assert(type->field_count <= TYPES_FIELDS_MAX);
    *record = (struct types_record){
        .magic = TYPES_RECORD_MAGIC, .size = type->size, .field_count = type->field_count};
    if (!type->name || !type->name[0] || !types_copy_name(record->name, type->name))
        return types_refuse(heap, type, "its name has not 1 to 63 bytes");
    for (uint32_t i = 0; i < type->field_count; i++) {
        const evh_field *given = &type->fields[i];
        fields[i] = (struct types_field){
            .offset = given->offset,
            .size = given->size,
            .count = given->count,
            .kind = (uint16_t)given->kind,
            .tag_size = (uint16_t)given->tag_size,
            .tag_offset = given->tag_offset,
            .tag_value = given->tag_value,
        };
        if (!types_copy_name(fields[i].name, given->name) ||
            !types_copy_name(fields[i].target, given->target))
            return types_refuse(heap, type, "the name of a field has more than 63 bytes");
        if (given->tag_size > 8 || !types_field_fits(&fields[i], type->size))
            return types_refuse(heap, type, "a field lies outside it, or is of another size");
    }
    return EVH_OK;
}

/* The number of a registered type that is like `record`; 0: none, or (with a status) an error. The
 * first place that is free is `*free_index`. */
static evh_status types_search(evh_heap *heap, struct types_table *table,
                               struct types_record *record, size_t bytes, uint32_t *number,
                               uint32_t *free_index)
{
    assert(record->magic == TYPES_RECORD_MAGIC);
    assert(bytes >= sizeof *record);
    *number = 0;
    for (uint32_t index = 0; index < TYPES_MAX; index++) {
        uint64_t *place = NULL;
        uint64_t size = 0;
        const evh_status status = types_place(heap, table, index, &place);
        if (status) return status;
        const uint64_t offset = place ? base_load(place, __ATOMIC_ACQUIRE) : 0;
        *free_index = index;
        if (offset == 0) return EVH_OK;
        if (!heap_block_at(heap, offset, &size) || size < bytes) continue;
        record->number = index + 1;
        if (memcmp(heap->view.base + offset, record, bytes) != 0) continue;
        *number = index + 1;
        return EVH_OK;
    }
    return base_fail(EVH_LIMIT, NO_OFFSET, "%s: no more than %d types", heap_path(heap), TYPES_MAX);
}

/* Put a record into the registry, unless one like it is there. */
static evh_status types_enter(evh_heap *heap, struct types_record *record, size_t bytes,
                              uint32_t *number)
{
    struct types_table *table = NULL;
    void *block = NULL;
    uint32_t index = 0;
    assert(number != NULL);
    evh_status status = types_table(heap, heap->is_writable, &table);
    if (!status && !table) status = heap_writable(heap);
    while (!status) { /* each turn, another process took a place */
        uint64_t *place = NULL;
        uint64_t none = 0;
        status = types_search(heap, table, record, bytes, number, &index);
        if (status || *number) break;
        status = heap_writable(heap);
        if (!status) status = types_place(heap, table, index, &place);
        if (!status && !place) status = types_make_chunk(heap, table, index);
        if (!status && !place) status = types_place(heap, table, index, &place);
        if (status) break;
        if (!block) block = evh_malloc(heap, bytes);
        if (!block) return evh_last_error()->status;
        assert(place != NULL);
        record->number = index + 1;
        memcpy(block, record, bytes);
        if (!base_compare_exchange(place, &none, evh_ref_to(heap, block).offset, false,
                                   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            continue;
        *number = index + 1;
        return EVH_OK;
    }
    if (block) evh_free(heap, block);
    return status;
}

uint32_t evh_type_register(evh_heap *heap, const evh_type *type)
{
    uint32_t number = 0;
    if (!heap || !type) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "no heap, or no type to register: null");
        return 0;
    }
    if (type->size == 0 || type->size > REGION_SIZE_MAX || type->field_count > TYPES_FIELDS_MAX ||
        (type->field_count && !type->fields)) {
        (void)types_refuse(heap, type, "a size of 0, or more than 4096 fields");
        return 0;
    }
    assert(heap->open_count > 0);
    const size_t bytes =
        sizeof(struct types_record) + type->field_count * sizeof(struct types_field);
    struct types_record *record = os->memory_allocate(bytes);
    if (!record) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory for a type", heap_path(heap));
        return 0;
    }
    evh_status status = types_describe(heap, type, record);
    if (!status) {
        /* The bracket first: who waits for the lock in a bracket of his must not wait for one who
         * waits for the gate. */
        evh_enter(heap);
        heap_lock_take(&heap->types_lock);
        status = types_enter(heap, record, bytes, &number);
        heap_lock_drop(&heap->types_lock);
        evh_leave(heap);
    }
    os->memory_free(record);
    assert(status || number > 0);
    return status ? 0 : number;
}
