/* write.c -- values as JSON text: compact, indented, with sorted keys; without recursion.
 *
 * The text goes through a buffer of 64 KiB. A container being written is a level of a stack: where
 * it is, and with sorted keys the order in which its members come. A sound document has each
 * container once; a damaged one that has more than exist is reported before it becomes endless.
 */
#include "json/json.h"
#include "os/os.h"

#include <errno.h>
#include <stdio.h>

enum {
    WRITE_BUFFER_BYTES = 1 << 16,
    WRITE_PIECE_BYTES = 4096, /* what one reservation may ask for */
    WRITE_KEY_CACHE = 256,
};

struct write_member {
    const char *text;
    uint64_t size;
    uint32_t position;
};

struct write_level {
    const struct json_container *container;
    struct json_span span;
    uint32_t done;                /* values that were begun */
    uint32_t in_span;             /* of them, in this span */
    struct write_member *members; /* owned: the order of sorted keys; NULL: as they come */
};

/* A key's text, with its quotes, if it needs no escapes. */
struct write_key {
    uint32_t key;
    uint32_t size;
    const char *text;
};

struct writer {
    struct evh_json *json;
    evh_json_write_options options;
    evh_json_sink *sink;
    void *context;
    evh_status status;
    char *next, *end; /* of the buffer */
    struct write_level *levels;
    size_t depth, capacity;
    uint64_t containers; /* begun */
    struct write_key keys[WRITE_KEY_CACHE];
    char buffer[WRITE_BUFFER_BYTES + SCAN_OVER_BYTES];
};

/* ---- the buffer ---- */

static bool write_flush(struct writer *writer)
{
    assert(writer->next >= writer->buffer);
    assert(writer->next <= writer->end);
    const size_t size = (size_t)(writer->next - writer->buffer);
    writer->next = writer->buffer;
    if (writer->status) return false;
    if (size == 0) return true;
    const int error = writer->sink(writer->context, writer->buffer, size);
    if (error) writer->status = base_fail_os(error, NO_OFFSET, "json: cannot write the text");
    return !writer->status;
}

/* Room for `size` bytes, at most WRITE_PIECE_BYTES. */
static inline bool write_room(struct writer *writer, size_t size)
{
    assert(size <= WRITE_PIECE_BYTES);
    return LIKELY((size_t)(writer->end - writer->next) >= size) || write_flush(writer);
}

static inline void write_byte(struct writer *writer, char byte)
{
    if (write_room(writer, 1)) *writer->next++ = byte;
}

static void write_bytes(struct writer *writer, const char *text, size_t size)
{
    while (size > 0) {
        const size_t part = base_min(size, WRITE_PIECE_BYTES);
        if (!write_room(writer, part)) return;
        memcpy(writer->next, text, part);
        writer->next += part;
        text += part;
        size -= part;
    }
}

static bool write_is_damaged(struct writer *writer, evh_status status)
{
    if (status) writer->status = status;
    return status != EVH_OK;
}

/* ---- strings ---- */

/* A character that is not ASCII, as one or two \u escapes. */
static void write_unicode(struct writer *writer, uint32_t code)
{
    static const char hex[] = "0123456789abcdef";
    uint32_t units[2] = {code, 0};
    int count = 1;
    if (code > 0xffff) {
        units[0] = 0xd800 + ((code - 0x10000) >> 10);
        units[1] = 0xdc00 + ((code - 0x10000) & 0x3ff);
        count = 2;
    }
    if (!write_room(writer, 12)) return;
    for (int i = 0; i < count; i++) {
        *writer->next++ = '\\';
        *writer->next++ = 'u';
        for (int shift = 12; shift >= 0; shift -= 4) *writer->next++ = hex[units[i] >> shift & 15];
    }
}

static void write_ascii(struct writer *writer, const char *text, const char *end)
{
    assert(text <= end);
    while (text < end) {
        size_t size = 1;
        const uint32_t code = utf8_get(text, end, &size);
        if (code >= 0x80) {
            write_unicode(writer, code);
        } else if (code < 0x20 || code == '"' || code == '\\') {
            if (!write_room(writer, ESCAPE_BYTES_MAX)) return;
            writer->next += escape_put(writer->next, (unsigned char)code);
        } else {
            write_byte(writer, (char)code);
        }
        text += size;
    }
}

/* The text with a zero behind it, which ends vectors' reading past it only by luck: what a vector
 * reads behind it is in the zero's page, or in the heap all the same, but at its end and before
 * slices of the journal, where bytes go one by one; and in a heap that is debugged, where what lies
 * behind a block may be a guard. */
static const char *write_scan(const struct writer *writer, const char *text, const char *end)
{
    assert(text <= end);
    uint32_t high = 0;
    if (UNLIKELY(writer->json->heap->debug != NULL)) return scan_exact(text, end);
    if (LIKELY((uintptr_t)end % PAGE_BYTES <= PAGE_BYTES - SCAN_OVER_BYTES) ||
        json_is_in(writer->json, json_offset(writer->json, end), SCAN_OVER_BYTES))
        return scan_string(text, end, &high);
    return scan_exact(text, end);
}

static void write_text(struct writer *writer, const char *text, uint64_t size)
{
    const char *const end = text + size;
    write_byte(writer, '"');
    if (UNLIKELY(writer->options.ascii)) {
        write_ascii(writer, text, end);
        text = end;
    }
    while (text < end) {
        const char *stop = write_scan(writer, text, end);
        write_bytes(writer, text, (size_t)(stop - text));
        text = stop;
        if (text == end || !write_room(writer, ESCAPE_BYTES_MAX)) break;
        writer->next += escape_put(writer->next, (unsigned char)*text++);
    }
    write_byte(writer, '"');
}

static void write_key(struct writer *writer, uint32_t key)
{
    struct write_key *entry = writer->keys + key % WRITE_KEY_CACHE;
    if (LIKELY(entry->key == key && key != 0)) {
        if (!write_room(writer, entry->size + 3)) return;
        *writer->next++ = '"';
        memcpy(writer->next, entry->text, entry->size);
        writer->next += entry->size;
        *writer->next++ = '"';
        *writer->next++ = ':';
    } else {
        uint64_t size = 0;
        const char *text = key_text(writer->json, key, &size);
        if (!text) {
            writer->status = EVH_CORRUPT;
            return;
        }
        write_text(writer, text, size);
        write_byte(writer, ':');
        if (size < WRITE_PIECE_BYTES - 3 && !writer->options.ascii &&
            write_scan(writer, text, text + size) == text + size)
            *entry = (struct write_key){key, (uint32_t)size, text};
    }
    if (writer->options.indent) write_byte(writer, ' ');
}

/* ---- other values ---- */

static void write_bytes_value(struct writer *writer, const char *bytes, uint64_t size)
{
    assert(bytes != NULL);
    const char *const space = writer->options.indent ? " " : "";
    write_bytes(writer, "{\"$base64\":", 11);
    write_bytes(writer, space, strlen(space));
    write_byte(writer, '"');
    while (size > 0) {
        const size_t part = (size_t)base_min(size, WRITE_PIECE_BYTES / 8 * 3); /* whole triples */
        static_assert(WRITE_PIECE_BYTES / 8 * 3 % 3 == 0, "no padding within");
        if (!write_room(writer, base64_size(part))) return;
        assert(part % 3 == 0 || part == size);
        base64_encode((const unsigned char *)bytes, part, writer->next);
        writer->next += base64_size(part);
        bytes += part;
        size -= part;
    }
    write_bytes(writer, "\"}", 2);
}

static void write_ref(struct writer *writer, const struct json_slot *slot)
{
    uint64_t size = 0;
    const struct json_ref *ref = ref_of(writer->json, slot);
    const char *path = ref ? blob_of(writer->json, ref->path, &size) : NULL;
    if (!path) {
        writer->status = EVH_CORRUPT;
        return;
    }
    const char *const space = writer->options.indent ? " " : "";
    write_bytes(writer, "{\"$ref\":", 8);
    write_bytes(writer, space, strlen(space));
    write_text(writer, path, size);
    write_byte(writer, '}');
}

static void write_blob(struct writer *writer, const struct json_slot *slot)
{
    uint64_t size = 0;
    const char *bytes = blob_of(writer->json, slot->payload, &size);
    if (!bytes) {
        writer->status = EVH_CORRUPT;
        return;
    }
    if (slot->type == JSON_DIGITS) {
        write_bytes(writer, bytes, size);
    } else {
        write_bytes_value(writer, bytes, size);
    }
}

static void write_number(struct writer *writer, const struct json_slot *slot)
{
    if (!write_room(writer, NUMBER_TEXT_MAX)) return;
    if (slot->type == JSON_INTEGER) {
        writer->next += number_write_integer(writer->next, (int64_t)slot->payload);
    } else if (slot->type == JSON_UNSIGNED) {
        writer->next += number_write_unsigned(writer->next, slot->payload);
    } else if ((slot->payload >> 52 & 0x7ff) == 0x7ff) {
        writer->status = json_corrupt(NO_OFFSET, "a number that is not finite");
    } else if (slot->flags & JSON_NO_POINT) { /* only -0 is read so */
        writer->next += number_write_integer(writer->next, 0);
        writer->next[-1] = '-';
        *writer->next++ = '0';
    } else {
        double real = 0;
        memcpy(&real, &slot->payload, sizeof real);
        writer->next += number_write_real(writer->next, real);
    }
}

/* ---- containers ---- */

static int write_compare(const void *first, const void *second)
{
    const struct write_member *one = first;
    const struct write_member *other = second;
    const int order = memcmp(one->text, other->text, base_min(one->size, other->size));
    if (order) return order;
    return one->size < other->size ? -1 : one->size > other->size;
}

/* The members of an object in the order of their keys. */
static evh_status write_sort(struct writer *writer, struct write_level *level)
{
    assert(level->members == NULL);
    assert(writer->options.sort_keys);
    const uint32_t count = level->container->count;
    level->members = os->memory_resize(NULL, count * sizeof *level->members);
    if (!level->members) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory to sort keys");
    struct json_span span;
    uint32_t done = 0;
    while (done < count && container_span(writer->json, level->container, done, &span)) {
        for (uint32_t i = 0; i < span.count && done < count; i++, done++) {
            struct write_member *member = level->members + done;
            member->position = done;
            member->text = key_text(writer->json, span.keys[i], &member->size);
            if (!member->text) return EVH_CORRUPT;
        }
    }
    if (done < count) return EVH_CORRUPT;
    qsort(level->members, count, sizeof *level->members, write_compare);
    return EVH_OK;
}

static evh_status write_open(struct writer *writer, const struct json_slot *slot)
{
    assert(writer->depth <= writer->capacity);
    if (writer->depth == writer->capacity) {
        void *grown = json_grow(writer->levels, &writer->capacity, sizeof *writer->levels);
        if (!grown) return EVH_NO_MEMORY;
        writer->levels = grown;
    }
    struct write_level level = {.container = container_in(writer->json, slot)};
    if (!level.container) return EVH_CORRUPT;
    if (writer->containers++ > writer->json->root->containers.used_count)
        return json_corrupt(slot->payload, "containers in a ring");
    write_byte(writer, slot->type == JSON_OBJECT ? '{' : '[');
    writer->levels[writer->depth] = level;
    if (slot->type == JSON_OBJECT && writer->options.sort_keys && level.container->count) {
        const evh_status status = write_sort(writer, writer->levels + writer->depth);
        if (status) {
            os->memory_free(writer->levels[writer->depth].members);
            return status;
        }
    }
    writer->depth++;
    return EVH_OK;
}

static void write_line(struct writer *writer)
{
    if (!writer->options.indent) return;
    write_byte(writer, '\n');
    for (uint64_t spaces = writer->depth * (uint64_t)writer->options.indent; spaces > 0;) {
        const size_t part = (size_t)base_min(spaces, WRITE_PIECE_BYTES);
        if (!write_room(writer, part)) return;
        memset(writer->next, ' ', part);
        writer->next += part;
        spaces -= part;
    }
}

static void write_value(struct writer *writer, const struct json_slot *slot)
{
    uint64_t size = 0;
    const char *text = NULL;
    switch (slot->type) {
    case JSON_NULL: write_bytes(writer, "null", 4); return;
    case JSON_BOOLEAN:
        write_bytes(writer, slot->payload ? "true" : "false", slot->payload ? 4 : 5);
        return;
    case JSON_INTEGER:
    case JSON_UNSIGNED:
    case JSON_REAL: write_number(writer, slot); return;
    case JSON_STRING:
        text = text_of(writer->json, slot, &size);
        if (text) {
            write_text(writer, text, size);
        } else {
            writer->status = EVH_CORRUPT;
        }
        return;
    case JSON_DIGITS:
    case JSON_BYTES: write_blob(writer, slot); return;
    case JSON_REF: write_ref(writer, slot); return;
    case JSON_ARRAY:
    case JSON_OBJECT: (void)write_is_damaged(writer, write_open(writer, slot)); return;
    default: writer->status = json_corrupt(NO_OFFSET, "a value of no type"); return;
    }
}

/* The next value of the topmost container, or its end. */
static void write_next(struct writer *writer)
{
    assert(writer->depth > 0);
    struct write_level *level = writer->levels + writer->depth - 1;
    const struct json_container *container = level->container;
    if (level->done == container->count) {
        writer->depth--;
        if (level->done) write_line(writer);
        write_byte(writer, container->kind == JSON_KIND_OBJECT ? '}' : ']');
        os->memory_free(level->members);
        return;
    }
    if (level->done) write_byte(writer, ',');
    write_line(writer);
    uint32_t position = level->done++;
    if (UNLIKELY(level->members != NULL)) {
        position = level->members[position].position;
        level->in_span = level->span.count;
    }
    if (level->in_span == level->span.count) {
        level->in_span = 0;
        if (!container_span(writer->json, container, position, &level->span)) {
            writer->status = EVH_CORRUPT;
            return;
        }
    }
    const uint32_t at = level->in_span++;
    if (level->span.keys) write_key(writer, level->span.keys[at]);
    write_value(writer, level->span.slots + at);
}

static evh_status write_slot(struct writer *writer, const struct json_slot *slot)
{
    assert(writer->depth == 0);
    writer->next = writer->buffer;
    writer->end = writer->buffer + WRITE_BUFFER_BYTES;
    write_value(writer, slot);
    while (writer->depth > 0 && !writer->status) write_next(writer);
    if (writer->depth > 0) assert(writer->status != EVH_OK);
    while (writer->depth > 0) os->memory_free(writer->levels[--writer->depth].members);
    os->memory_free(writer->levels);
    (void)write_flush(writer);
    return writer->status;
}

evh_status evh_json_write(evh_json *json, evh_value value, evh_json_sink *sink, void *context,
                          const evh_json_write_options *options)
{
    struct json_slot slot;
    evh_status status = json_ready(json);
    if (!status && !sink) status = base_fail(EVH_INVALID, NO_OFFSET, "json: no sink");
    if (!status) status = value_load(json, value, &slot);
    if (status) return status;
    struct writer *writer = os->memory_allocate(sizeof *writer);
    if (!writer) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "json: no memory for a writer");
    writer->json = json;
    writer->sink = sink;
    writer->context = context;
    if (options) writer->options = *options;
    status = write_slot(writer, &slot);
    os->memory_free(writer);
    return status;
}

static int write_to_file(void *context, const char *text, size_t size)
{
    FILE *file = context;
    errno = 0;
    if (fwrite(text, 1, size, file) == size) return 0;
    return errno ? errno : EIO;
}

evh_status evh_json_write_file(evh_json *json, evh_value value, FILE *file,
                               const evh_json_write_options *options)
{
    if (!file) return base_fail(EVH_INVALID, NO_OFFSET, "json: no file");
    const evh_status status = evh_json_write(json, value, write_to_file, file, options);
    errno = 0;
    if (status || fflush(file) == 0) return status;
    return base_fail_os(errno ? errno : EIO, NO_OFFSET, "json: cannot write the text");
}

struct write_memory {
    char *text;
    size_t size, capacity;
};

static int write_to_memory(void *context, const char *text, size_t size)
{
    assert(size > 0);
    struct write_memory *memory = context;
    if (size >= memory->capacity - memory->size) {
        const size_t capacity = 2 * memory->capacity + size + 1;
        char *grown = realloc(memory->text, capacity);
        if (!grown) return ENOMEM;
        memory->text = grown;
        memory->capacity = capacity;
    }
    memcpy(memory->text + memory->size, text, size);
    memory->size += size;
    assert(memory->size < memory->capacity);
    memory->text[memory->size] = 0;
    return 0;
}

char *evh_json_print(evh_json *json, evh_value value, const evh_json_write_options *options,
                     size_t *size)
{
    struct write_memory memory = {NULL, 0, 0};
    const evh_status status = evh_json_write(json, value, write_to_memory, &memory, options);
    if (status) {
        free(memory.text);
        return NULL;
    }
    if (size) *size = memory.size;
    return memory.text;
}
