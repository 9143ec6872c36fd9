/* recorder.c -- printf() in two halves: arguments into a ring now, text when somebody reads.
 *
 * The first half looks at the format once for each place in the program and thread, and then only
 * stores: 8 bytes for each number, for a string a byte with its length and what fits of it. The
 * second half believes nothing: a format from the heap is walked by the same function, each of its
 * arguments must be there, and only what a conversion may hold is handed to snprintf().
 */
#include "autopsy/autopsy.h"

#include <everheap/recorder.h>
#include <stdio.h>

#define RECORDER_NUMBER_MAX (1ull << 60)

enum {
    RECORDER_ARGUMENTS = 11, /* as many as have room */
    RECORDER_FORMAT_MAX = 1000,
    RECORDER_TEXT_MAX = 2000,
    RECORDER_SPEC_MAX = 24,
    RECORDER_STRING_MAX = 80,
};

struct evh_recorder {
    evh_heap *heap;
    void *ring;
    uint64_t record_count;
    uint64_t serial; /* nobody else's in this process */
    uint32_t process;
};

/* ---- formats ---- */

/* A conversion of a format. */
struct conversion {
    char spec[RECORDER_SPEC_MAX]; /* flags, width and precision, "%-8.3" */
    char kind;                    /* 'i' signed, 'u' unsigned, 'f' real, 's' string, 'p' pointer,
                                     'c' character, '%'; 0: none that is known */
    char letter;
    unsigned long_count; /* 'l' is 1, 'll', 'j', 'z', 't' are 2 */
    size_t size;         /* of all of it in the format */
};

/* The conversion that begins at `text`, a '%'. */
static struct conversion recorder_convert(const char *text)
{
    struct conversion found = {.spec = "%"};
    size_t at = 1, spec = 1;
    assert(text[0] == '%');
    while (text[at] && strchr("-+ #0123456789.", text[at]) && spec + 8 < RECORDER_SPEC_MAX)
        found.spec[spec++] = text[at++];
    for (; text[at] && strchr("hlqjzt", text[at]); at++)
        if (text[at] == 'l')
            found.long_count++;
        else if (text[at] != 'h')
            found.long_count = 2;
    found.letter = text[at];
    found.size = at + (text[at] != 0);
    switch (text[at]) {
    case 'd':
    case 'i': found.kind = 'i'; break;
    case 'u':
    case 'x':
    case 'X':
    case 'o': found.kind = 'u'; break;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
    case 'a':
    case 'A': found.kind = 'f'; break;
    case 's':
    case 'c':
    case 'p':
    case '%': found.kind = text[at]; break;
    default: found.kind = 0; break;
    }
    assert(spec < RECORDER_SPEC_MAX);
    return found;
}

/* The place of a format in the ring's table, entered if need be; 0: there is no room. */
static uint32_t recorder_enter_format(const evh_recorder *recorder, const char *format)
{
    const size_t size = strlen(format) + 1;
    uint64_t *places =
        (uint64_t *)(void *)((unsigned char *)recorder->ring + sizeof(struct ring_head));
    const uint32_t first = base_crc32c(0, format, size) % RING_FORMATS;
    char *block = NULL;
    assert(recorder->ring != NULL);
    if (size > RECORDER_FORMAT_MAX) return 0;
    for (uint32_t i = 0; i < RING_FORMATS; i++) {
        uint64_t *place = &places[(first + i) % RING_FORMATS];
        uint64_t offset = base_load(place, __ATOMIC_ACQUIRE);
        uint64_t usable = 0;
        if (offset == 0) {
            if (!block) block = evh_malloc(recorder->heap, size);
            if (!block) return 0;
            memcpy(block, format, size);
            const uint64_t own = evh_ref_to(recorder->heap, block).offset;
            if (base_compare_exchange(place, &offset, own, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_ACQUIRE))
                return (first + i) % RING_FORMATS + 1;
        }
        if (heap_block_at(recorder->heap, offset, &usable) && usable >= size &&
            memcmp(recorder->heap->view.base + offset, format, size) == 0) {
            if (block) evh_free(recorder->heap, block);
            return (first + i) % RING_FORMATS + 1;
        }
    }
    if (block) evh_free(recorder->heap, block);
    return 0;
}

/* What the arguments of a format are: a letter for each, which also says its length in C. */
static void recorder_look_at(evh_record_site *site, const char *format)
{
    unsigned count = 0;
    assert(site != NULL);
    memset(site->kinds, 0, sizeof site->kinds);
    for (const char *at = strchr(format, '%'); at; at = strchr(at, '%')) {
        const struct conversion found = recorder_convert(at);
        at += found.size;
        if (found.kind == '%') continue;
        if (found.kind == 0 || count == RECORDER_ARGUMENTS) break;
        char kind = found.kind;
        if (kind == 'i') kind = found.long_count ? 'I' : 'i';
        if (kind == 'u') kind = found.long_count ? 'U' : 'u';
        site->kinds[count++] = kind;
    }
    assert(count <= RECORDER_ARGUMENTS);
}

/* ---- recording ---- */

static void recorder_put_word(struct ring_record *record, uint64_t word)
{
    assert(record->size <= RING_DATA_BYTES);
    if (record->size + sizeof word > RING_DATA_BYTES) return;
    memcpy(record->data + record->size, &word, sizeof word);
    record->size = (uint16_t)(record->size + sizeof word);
}

static void recorder_put_string(struct ring_record *record, const char *text)
{
    if (!text) text = "(null)";
    assert(record->size <= RING_DATA_BYTES);
    size_t room = RING_DATA_BYTES - record->size;
    if (room == 0) return;
    size_t size = 0;
    while (size < room - 1 && size < RECORDER_STRING_MAX && text[size]) size++;
    record->data[record->size] = (unsigned char)size;
    memcpy(record->data + record->size + 1, text, size);
    record->size = (uint16_t)(record->size + 1 + size);
}

void evh_record_at(evh_recorder *recorder, evh_record_site *site, const char *format, ...)
{
    if (!recorder || !site || !format) return;
    if (site->serial != recorder->serial) {
        site->format = recorder_enter_format(recorder, format);
        recorder_look_at(site, format);
        site->serial = recorder->serial;
    }
    assert(recorder->ring != NULL);
    struct ring_record record = {.time_ns = os->time_ns(),
                                 .process = recorder->process,
                                 .thread = debug_thread(),
                                 .format = site->format};
    va_list arguments;
    va_start(arguments, format);
    for (unsigned i = 0; i < RECORDER_ARGUMENTS && site->kinds[i]; i++) {
        double real = 0;
        uint64_t word = 0;
        switch (site->kinds[i]) {
        case 's': recorder_put_string(&record, va_arg(arguments, const char *)); continue;
        case 'f':
            real = va_arg(arguments, double);
            memcpy(&word, &real, sizeof word);
            break;
        case 'p': word = (uintptr_t)va_arg(arguments, void *); break;
        case 'I': word = (uint64_t)va_arg(arguments, long long); break;
        case 'U': word = va_arg(arguments, unsigned long long); break;
        case 'u': word = va_arg(arguments, unsigned); break;
        default: word = (uint64_t)(int64_t)va_arg(arguments, int); break;
        }
        recorder_put_word(&record, word);
    }
    va_end(arguments);
    (void)ring_put(recorder->ring, recorder->record_count, &record);
}

/* ---- opening ---- */

static void *recorder_find(evh_heap *heap, const char *name)
{
    size_t size = 0;
    void *ring = evh_root_find(heap, name, &size);
    if (!ring) return NULL;
    if (ring_is_sound(ring, size)) return ring;
    (void)base_fail(EVH_CORRUPT, evh_ref_to(heap, ring).offset, "%s: root \"%s\": no recorder",
                    heap_path(heap), name);
    return NULL;
}

evh_recorder *evh_recorder_open(evh_heap *heap, const char *name, uint64_t records)
{
    static uint64_t serials;
    if (heap_writable(heap)) return NULL;
    if (records == 0 || records > RING_RECORDS_MAX) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "%s: a recorder of %llu records", heap_path(heap),
                        (unsigned long long)records);
        return NULL;
    }
    uint64_t count = 1;
    while (count < records) count *= 2;
    size_t size = 0;
    if (!evh_root_find(heap, name, &size)) {
        void *made = evh_root(heap, name, ring_bytes(count));
        if (!made) return NULL;
        ring_begin(made, count, os->time_ns());
    }
    void *ring = recorder_find(heap, name);
    if (!ring) return NULL;
    evh_recorder *recorder = os->memory_allocate(sizeof *recorder);
    if (!recorder) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for a recorder");
        return NULL;
    }
    recorder->heap = heap;
    recorder->ring = ring;
    recorder->record_count = ((const struct ring_head *)ring)->record_count;
    recorder->serial = base_add_fetch(&serials, 1, __ATOMIC_RELAXED);
    recorder->process = (uint32_t)os->process();
    return recorder;
}

void evh_recorder_close(evh_recorder *recorder)
{
    os->memory_free(recorder);
}

/* ---- reading ---- */

/* The format of a record, copied: it ends, whatever the heap holds. False: there is none. */
static bool recorder_format(evh_heap *heap, const void *ring, uint32_t number,
                            char format[RECORDER_FORMAT_MAX])
{
    uint64_t size = 0;
    if (number == 0 || number > RING_FORMATS) return false;
    const uint64_t *places =
        (const uint64_t *)(const void *)((const unsigned char *)ring + sizeof(struct ring_head));
    const uint64_t offset = base_load(&places[number - 1], __ATOMIC_ACQUIRE);
    if (!heap_block_at(heap, offset, &size)) return false;
    size = base_min(size, RECORDER_FORMAT_MAX - 1);
    memcpy(format, heap->view.base + offset, size);
    format[size] = 0;
    return format[0] != 0;
}

struct recorder_text {
    char *text;
    size_t size;
    const struct ring_record *record;
    unsigned at; /* in its data */
};

static void recorder_append(struct recorder_text *text, const char *from, size_t size)
{
    assert(text->size < RECORDER_TEXT_MAX);
    const size_t room = RECORDER_TEXT_MAX - 1 - text->size;
    if (size > room) size = room;
    memcpy(text->text + text->size, from, size);
    text->size += size;
    text->text[text->size] = 0;
}

static bool recorder_take_word(struct recorder_text *text, uint64_t *word)
{
    assert(text->record->size <= RING_DATA_BYTES);
    if (text->at + sizeof *word > text->record->size) return false;
    memcpy(word, text->record->data + text->at, sizeof *word);
    text->at += (unsigned)sizeof *word;
    return true;
}

static bool recorder_take_string(struct recorder_text *text, char string[RECORDER_STRING_MAX + 1])
{
    assert(text->record->size <= RING_DATA_BYTES);
    if (text->at >= text->record->size) return false;
    size_t size = text->record->data[text->at++];
    size = base_min(size, base_min(text->record->size - text->at, RECORDER_STRING_MAX));
    memcpy(string, text->record->data + text->at, size);
    string[size] = 0;
    text->at += (unsigned)size;
    return true;
}

/* Width and precision from a file are no reason to write a million spaces. */
static bool recorder_spec_is_sane(const char *spec)
{
    unsigned number = 0;
    assert(spec[0] == '%');
    for (; *spec; spec++) {
        number = *spec >= '0' && *spec <= '9' ? number * 10 + (unsigned)(*spec - '0') : 0;
        if (number > 200) return false;
    }
    return true;
}

/* One conversion, with its argument. */
static void recorder_print(struct recorder_text *text, const struct conversion *conversion)
{
    char spec[RECORDER_SPEC_MAX + 4];
    char string[RECORDER_STRING_MAX + 1] = "";
    char out[600] = "";
    uint64_t word = 0;
    double real = 0;
    const bool is_there = conversion->kind == 's' ? recorder_take_string(text, string)
                                                  : recorder_take_word(text, &word);
    if (!is_there || !recorder_spec_is_sane(conversion->spec)) {
        recorder_append(text, "?", 1);
        return;
    }
    const bool is_number = conversion->kind == 'i' || conversion->kind == 'u';
    (void)snprintf(spec, sizeof spec, "%s%s%c", conversion->spec, is_number ? "ll" : "",
                   conversion->kind == 'p' ? 'p' : conversion->letter);
    memcpy(&real, &word, sizeof real);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    /* The format was made above, of a conversion that was looked at. */
    switch (conversion->kind) {
    case 's': (void)snprintf(out, sizeof out, spec, string); break;
    case 'f': (void)snprintf(out, sizeof out, spec, real); break;
    case 'p': (void)snprintf(out, sizeof out, "0x%llx", (unsigned long long)word); break;
    case 'c': (void)snprintf(out, sizeof out, spec, (int)(word & 0xff)); break;
    default: (void)snprintf(out, sizeof out, spec, (long long)word); break;
    }
#pragma GCC diagnostic pop
    recorder_append(text, out, strlen(out));
}

/* The text of a record. */
static void recorder_text(const char *format, const struct ring_record *record,
                          char out[RECORDER_TEXT_MAX])
{
    struct recorder_text text = {.text = out, .record = record};
    out[0] = 0;
    assert(format != NULL);
    while (*format) {
        const char *next = strchr(format, '%');
        if (!next) {
            recorder_append(&text, format, strlen(format));
            return;
        }
        recorder_append(&text, format, (size_t)(next - format));
        const struct conversion conversion = recorder_convert(next);
        if (conversion.kind == '%')
            recorder_append(&text, "%", 1);
        else if (conversion.kind)
            recorder_print(&text, &conversion);
        else
            recorder_append(&text, "?", 1);
        format = next + conversion.size;
    }
}

evh_status evh_recorder_each(evh_heap *heap, const char *name, uint64_t after,
                             evh_record_visit *visit, void *context, uint64_t *missing)
{
    char format[RECORDER_FORMAT_MAX], text[RECORDER_TEXT_MAX];
    uint64_t absent = 0;
    if (!heap || !name || !visit)
        return base_fail(EVH_INVALID, NO_OFFSET, "no heap, name or visit of records: null");
    const void *ring = recorder_find(heap, name);
    if (!ring) return evh_last_error()->status;
    const struct ring_head *head = ring;
    const uint64_t count = head->record_count;
    const uint64_t end = base_load(&head->next, __ATOMIC_ACQUIRE);
    assert(base_is_power_of_two(count));
    if (end >= RECORDER_NUMBER_MAX) /* nobody ever recorded so much */
        return base_fail(EVH_CORRUPT, evh_ref_to(heap, ring).offset,
                         "%s: root \"%s\": %llu records", heap_path(heap), name,
                         (unsigned long long)end);
    uint64_t number = end > count ? end - count + 1 : 1;
    if (number <= after)
        number = after + 1;
    else
        absent = number - 1 - after;
    for (; number <= end; number++) {
        struct ring_record record;
        if (!ring_get(ring, count, number, &record)) {
            absent++;
            continue;
        }
        if (recorder_format(heap, ring, record.format, format))
            recorder_text(format, &record, text);
        else
            (void)snprintf(text, sizeof text, "?");
        const evh_record told = {number, record.time_ns, record.process, record.thread, text};
        if (!visit(&told, context)) break;
    }
    if (missing) *missing = absent;
    return EVH_OK;
}
