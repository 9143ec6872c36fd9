/* fields.c -- a block, decoded by the description of its type.
 *
 * Structs inside structs are a stack of bounded depth. Every offset is checked against the block's
 * size before a byte is read: a description says what a struct has, not how large a block is.
 */
#include "autopsy/autopsy.h"

#include <stdio.h>

struct fields_frame {
    const evh_type *type;
    uint64_t base;  /* of the struct in the block */
    uint32_t field; /* the next */
    uint32_t item;  /* of that field */
    size_t name_size;
};

struct fields_walk {
    evh_autopsy *autopsy;
    const struct autopsy_object *object;
    const unsigned char *bytes;
    struct fields_frame frames[AUTOPSY_STRUCT_DEPTH];
    unsigned depth;
    evh_field_value value;
};

static uint64_t fields_read(const unsigned char *bytes, uint64_t size)
{
    uint64_t number = 0;
    assert(bytes != NULL);
    assert(size <= sizeof number);
    memcpy(&number, bytes, size);
    return number;
}

/* Where a reference of that kind at `at` in the block leads: an offset, whatever is there; 0: null,
 * or outside the heap. */
static uint64_t fields_target(const struct fields_walk *walk, evh_field_kind kind, uint64_t at,
                              uint64_t word)
{
    const uint64_t end = heap_end_bytes(walk->autopsy->heap);
    assert(at < walk->object->size);
    if (word == 0) return 0;
    if (kind == EVH_FIELD_POINTER) return autopsy_follow_address(walk->autopsy, word);
    const uint64_t target =
        kind == EVH_FIELD_DISTANCE ? walk->object->offset + at + word + 1 : word;
    assert(end > 0);
    return target < end ? target : 0;
}

/* Whether an address lies in a range where the heap was mapped. */
static bool fields_is_ours(const evh_autopsy *autopsy, uint64_t address)
{
    const uint64_t end = heap_end_bytes(autopsy->heap);
    assert(end > 0);
    for (unsigned i = 0; i < EVH_ADDRESSES && autopsy->info.addresses[i]; i++)
        if (address - autopsy->info.addresses[i] < end) return true;
    return false;
}

static void fields_reference(const struct fields_walk *walk, evh_field_value *value, bool to_end)
{
    const evh_autopsy *autopsy = walk->autopsy;
    assert(value->size == 8);
    value->number = fields_read(value->bytes, 8);
    const uint64_t target = fields_target(walk, value->kind, value->offset, value->number);
    const int64_t index = target ? autopsy_index(autopsy, target) : AUTOPSY_NONE;
    assert(index < (int64_t)autopsy->count);
    if (index >= 0) value->ref.offset = target;
    if (value->number == 0 || to_end) return;
    switch (value->kind) {
    case EVH_FIELD_POINTER: /* into a block is as good, and so is one to somewhere else */
        value->is_dangling = index < 0 && fields_is_ours(autopsy, value->number);
        break;
    case EVH_FIELD_DISTANCE: value->is_dangling = index < 0; break;
    default: value->is_dangling = index < 0 || autopsy->objects[index].offset != target; break;
    }
}

static void fields_number(evh_field_value *value)
{
    assert(value->size <= 8);
    value->number = fields_read(value->bytes, value->size);
    const unsigned unused = 64 - 8 * (unsigned)value->size;
    assert(unused < 64);
    if (value->kind == EVH_FIELD_SIGNED)
        value->number = (uint64_t)((int64_t)(value->number << unused) >> unused);
    if (value->kind != EVH_FIELD_REAL) return;
    if (value->size == sizeof(float)) {
        float real;
        memcpy(&real, value->bytes, sizeof real);
        value->real = (double)real;
    } else {
        memcpy(&value->real, value->bytes, sizeof value->real);
    }
}

/* Decode one item of a field. */
static void fields_decode(struct fields_walk *walk, const evh_field *field, bool to_end)
{
    evh_field_value *value = &walk->value;
    assert(field != NULL);
    assert(base_in_range(value->offset, value->size, walk->object->size));
    value->kind = field->kind;
    value->bytes = walk->bytes + value->offset;
    value->number = 0;
    value->real = 0;
    value->target = field->target;
    value->ref.offset = 0;
    value->is_dangling = false;
    switch (field->kind) {
    case EVH_FIELD_UNSIGNED:
    case EVH_FIELD_SIGNED:
    case EVH_FIELD_BOOLEAN:
    case EVH_FIELD_REAL: fields_number(value); break;
    case EVH_FIELD_REFERENCE:
    case EVH_FIELD_HANDLE:
    case EVH_FIELD_POINTER:
    case EVH_FIELD_DISTANCE: fields_reference(walk, value, to_end); break;
    case EVH_FIELD_BYTES:
    case EVH_FIELD_CHARS:
    case EVH_FIELD_STRUCT: break;
    }
}

/* Whether the field counts: the tag of its union says so. */
static bool fields_counts(const struct fields_walk *walk, const struct fields_frame *frame,
                          const evh_field *field)
{
    assert(field->tag_size <= 8);
    if (field->tag_size == 0) return true;
    const uint64_t at = frame->base + field->tag_offset;
    if (!base_in_range(at, field->tag_size, walk->object->size)) return false;
    assert(at >= frame->base);
    return fields_read(walk->bytes + at, field->tag_size) == field->tag_value;
}

/* Append "name" or "name[item]" to the path of the frame. */
static size_t fields_name(struct fields_walk *walk, const struct fields_frame *frame,
                          const evh_field *field)
{
    char *name = walk->value.name + frame->name_size;
    const size_t room = sizeof walk->value.name - frame->name_size;
    assert(frame->name_size < sizeof walk->value.name);
    const char *dot = frame->name_size ? "." : "";
    const int done = field->count == 1
                         ? snprintf(name, room, "%s%s", dot, field->name)
                         : snprintf(name, room, "%s%s[%u]", dot, field->name, frame->item);
    assert(done >= 0);
    return base_min(frame->name_size + (size_t)done, sizeof walk->value.name - 1);
}

/* The next field of the innermost frame; false: it has no more. */
static bool fields_next(struct fields_walk *walk, const evh_field **found)
{
    struct fields_frame *frame = &walk->frames[walk->depth - 1];
    assert(walk->depth > 0);
    for (; frame->field < frame->type->field_count; frame->field++, frame->item = 0) {
        const evh_field *field = &frame->type->fields[frame->field];
        const uint64_t at = frame->base + field->offset + (uint64_t)frame->item * field->size;
        assert(field->size > 0);
        if (field->count && frame->item >= field->count) continue;
        if (!base_in_range(at, field->size, walk->object->size)) continue;
        if (!fields_counts(walk, frame, field)) continue;
        walk->value.offset = at;
        walk->value.size = field->size;
        *found = field;
        return true;
    }
    return false;
}

static void fields_open_struct(struct fields_walk *walk, const evh_field *field, size_t name_size)
{
    assert(field->kind == EVH_FIELD_STRUCT);
    if (walk->depth == AUTOPSY_STRUCT_DEPTH || !field->target) return;
    const uint32_t number = evh_type_find(walk->autopsy->heap, field->target);
    const evh_type *type = evh_type_get(walk->autopsy->heap, number);
    if (!type || type->size > field->size) return;
    assert(type->size > 0);
    walk->frames[walk->depth++] =
        (struct fields_frame){.type = type, .base = walk->value.offset, .name_size = name_size};
}

EVH_INTERNAL void fields_visit(evh_autopsy *autopsy, uint64_t index, uint32_t type_number,
                               evh_field_visit *visit, void *context)
{
    const evh_type *type = evh_type_get(autopsy->heap, type_number);
    const evh_field *field = NULL;
    if (!type) return;
    assert(index < autopsy->count);
    struct fields_walk walk = {.autopsy = autopsy, .object = &autopsy->objects[index], .depth = 1};
    walk.bytes = autopsy_bytes(autopsy, walk.object);
    walk.frames[0].type = type;
    for (unsigned count = 0; walk.depth > 0 && count < AUTOPSY_FIELDS_MAX; count++) {
        struct fields_frame *frame = &walk.frames[walk.depth - 1];
        if (!fields_next(&walk, &field)) {
            walk.depth--;
            continue;
        }
        const size_t name_size = fields_name(&walk, frame, field);
        frame->item++;
        fields_decode(&walk, field, field->count == 0);
        if (!visit(&walk.value, context)) return;
        if (field->kind == EVH_FIELD_STRUCT) fields_open_struct(&walk, field, name_size);
    }
}

void evh_autopsy_fields(evh_autopsy *autopsy, const evh_object *object, evh_field_visit *visit,
                        void *context)
{
    if (!autopsy || !object || !visit) return;
    const int64_t index = autopsy_index(autopsy, object->ref.offset);
    if (index < 0) return;
    assert(autopsy->objects[index].offset <= object->ref.offset);
    fields_visit(autopsy, (uint64_t)index, object->type, visit, context);
}
