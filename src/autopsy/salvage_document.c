/* salvage_document.c -- a damaged JSON document as text: every value that can be read, null where
 * one cannot, and members whose key is lost under a name that says so.
 *
 * What is written is well-formed whatever the document holds. Work is bounded by the length of the
 * heap, so that containers which hold each other end.
 */
#include "autopsy/salvage.h"

#include <stdio.h>
#include <stdlib.h>

enum { DOCUMENT_DEPTH = 512 };

struct document_frame {
    evh_value value;
    size_t position, count;
    bool is_object;
};

struct document {
    evh_json *json;
    FILE *file;
    uint64_t kept, lost;
    uint64_t left; /* values that may still be written */
    unsigned depth;
    struct document_frame frames[DOCUMENT_DEPTH];
};

static void document_lost(struct document *document)
{
    assert(document->file != NULL);
    document->lost++;
    (void)fputs("null", document->file);
}

static void document_indent(const struct document *document)
{
    assert(document->depth <= DOCUMENT_DEPTH);
    (void)putc('\n', document->file);
    for (unsigned i = 0; i < document->depth; i++) (void)putc(' ', document->file);
}

/* A key as a string; bytes that are no UTF-8 become question marks. */
static void document_key(struct document *document, const struct document_frame *frame)
{
    size_t size = 0;
    FILE *file = document->file;
    assert(frame->is_object);
    const char *key = evh_json_key(document->json, frame->value, frame->position - 1, &size);
    if (!key) {
        document->lost++;
        (void)fprintf(file, "\"(lost key %zu)\": ", frame->position);
        return;
    }
    const bool is_utf8 = utf8_check(key, key + size) == key + size;
    (void)putc('"', file);
    for (size_t at = 0; at < size; at++) {
        const unsigned char byte = (unsigned char)key[at];
        if (byte < 0x20 || byte == '"' || byte == '\\')
            (void)fprintf(file, "\\u%04x", byte);
        else
            (void)putc(byte < 0x80 || is_utf8 ? byte : '?', file);
    }
    (void)fputs("\": ", file);
}

/* Anything but an array or object. */
static void document_scalar(struct document *document, evh_value value)
{
    size_t size = 0;
    assert(document->json != NULL);
    char *text = evh_json_print(document->json, value, NULL, &size);
    if (!text) {
        document_lost(document);
        return;
    }
    (void)fwrite(text, 1, size, document->file);
    document->kept++;
    free(text);
}

static void document_value(struct document *document, evh_value value)
{
    const evh_json_type type = evh_json_type_of(document->json, value);
    assert(document->depth <= DOCUMENT_DEPTH);
    if (document->left == 0 || type == EVH_JSON_NONE) {
        document_lost(document);
        return;
    }
    document->left--;
    if (type != EVH_JSON_ARRAY && type != EVH_JSON_OBJECT) {
        document_scalar(document, value);
        return;
    }
    if (document->depth == DOCUMENT_DEPTH) {
        document_lost(document);
        return;
    }
    document->kept++;
    (void)putc(type == EVH_JSON_OBJECT ? '{' : '[', document->file);
    document->frames[document->depth++] =
        (struct document_frame){.value = value,
                                .count = evh_json_count(document->json, value),
                                .is_object = type == EVH_JSON_OBJECT};
}

static void document_write(struct document *document)
{
    document_value(document, evh_json_root(document->json));
    while (document->depth > 0) {
        struct document_frame *frame = &document->frames[document->depth - 1];
        assert(frame->position <= frame->count);
        if (frame->position == frame->count || document->left == 0) {
            const bool is_object = frame->is_object;
            document->depth--;
            document_indent(document);
            (void)putc(is_object ? '}' : ']', document->file);
            continue;
        }
        if (frame->position > 0) (void)putc(',', document->file);
        document_indent(document);
        frame->position++;
        if (frame->is_object) document_key(document, frame);
        document_value(document, evh_json_at(document->json, frame->value, frame->position - 1));
    }
    (void)putc('\n', document->file);
}

EVH_INTERNAL evh_status salvage_document(evh_heap *heap, const char *name, const char *path,
                                         uint64_t *kept, uint64_t *lost)
{
    assert(kept != NULL);
    assert(lost != NULL);
    struct document *document = os->memory_allocate(sizeof *document);
    if (!document) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory", path);
    evh_status status = EVH_OK;
    document->left = heap_end_bytes(heap) / 8;
    document->json = evh_json_open(heap, name);
    if (!document->json) status = evh_last_error()->status;
    if (!status) {
        document->file = fopen(path, "wx");
        if (!document->file) status = base_fail_os(errno, NO_OFFSET, "%s: cannot write it", path);
    }
    if (document->file) {
        document_write(document);
        if (ferror(document->file))
            status = base_fail_os(EIO, NO_OFFSET, "%s: cannot write it", path);
        if (fclose(document->file) && !status)
            status = base_fail_os(errno, NO_OFFSET, "%s: cannot write it", path);
    }
    *kept = document->kept;
    *lost = document->lost;
    evh_json_close(document->json);
    os->memory_free(document);
    return status;
}
