/* salvage_test.c -- what is saved of damaged heaps: everything that lies on an undamaged page.
 *
 * Strategy: a heap of typed objects, one of plain blocks and one with a document; some pages of
 * their files are filled with random bytes, wherever they lie, headers and metadata included.
 * Invariants: the source is not changed; the target is clean to evh_check(); each object whose
 * bytes lie on undamaged pages is in it, at its offset, with its type and content.
 */
#include "support/raw_heap.h"

#include <everheap.h>

#include <stdlib.h>
#include <unistd.h>

struct thing {
    evh_ref next;
    uint64_t number;
    uint64_t check; /* ~number */
    char text[32];
};

struct wide {
    uint64_t number;
    unsigned char bytes[1000];
};

EVH_TYPE(thing, struct thing, EVH_FIELD_REF(struct thing, next, "thing"),
         EVH_FIELD(struct thing, number), EVH_FIELD(struct thing, check),
         EVH_FIELD_TEXT(struct thing, text))
EVH_TYPE(wide, struct wide, EVH_FIELD(struct wide, number), EVH_FIELD(struct wide, bytes))

/* What must be found again. */
struct known {
    uint64_t offset, size, number;
};

static struct known *known;
static uint64_t known_count;

static void known_begin(uint64_t count)
{
    free(known);
    known = calloc(count, sizeof *known);
    CHECK(known != NULL);
    known_count = 0;
}

static void known_add(evh_heap *heap, const void *block, uint64_t size, uint64_t number)
{
    known[known_count++] = (struct known){evh_ref_to(heap, block).offset, size, number};
}

/* A list of things, now and then a wide one beside it; a sixteenth is freed again. */
static const char *salvage_make(const char *name, uint64_t count)
{
    static char path[512];
    (void)snprintf(path, sizeof path, "%s", test_path(name));
    evh_heap *heap = evh_open(path, NULL);
    CHECK(heap != NULL);
    const uint32_t thing_number = evh_type_register(heap, &thing_type);
    const uint32_t wide_number = evh_type_register(heap, &wide_type);
    struct thing *last = evh_root_typed(heap, "things", thing_number, sizeof *last);
    last->check = ~last->number;
    known_begin(count + count / 16 + 2);
    for (uint64_t i = 0; i < count; i++) {
        struct thing *thing = evh_new(heap, thing_number);
        CHECK(thing != NULL);
        thing->number = i;
        thing->check = ~i;
        (void)snprintf(thing->text, sizeof thing->text, "thing %llu", (unsigned long long)i);
        if (i % 16 == 7) {
            evh_free(heap, thing);
            struct wide *wide = evh_new(heap, wide_number);
            wide->number = i;
            memset(wide->bytes, (int)i, sizeof wide->bytes);
            known_add(heap, wide, sizeof *wide, i);
            continue;
        }
        last->next = evh_ref_to(heap, thing);
        last = thing;
        known_add(heap, thing, sizeof *thing, i);
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    return path;
}

/* Fill `percent` of the file's pages with random bytes; `bad` receives a byte for each. */
static unsigned char *salvage_damage(const char *path, double percent, uint64_t *seed)
{
    struct file_bytes content = file_bytes_read(path);
    const uint64_t pages = content.size / PAGE_BYTES;
    unsigned char *bad = calloc(pages + 1, 1);
    CHECK(bad != NULL);
    for (uint64_t page = 0; page < pages; page++) {
        if ((double)(test_random(seed) % 1000000) >= percent * 10000) continue;
        bad[page] = 1;
        for (unsigned i = 0; i < PAGE_BYTES; i += 8) {
            const uint64_t random = test_random(seed);
            memcpy(content.bytes + page * PAGE_BYTES + i, &random, 8);
        }
    }
    file_bytes_write(path, &content);
    file_bytes_end(&content);
    return bad;
}

static bool salvage_is_whole(const unsigned char *bad, const struct known *one)
{
    for (uint64_t page = one->offset / PAGE_BYTES;
         page <= (one->offset + one->size - 1) / PAGE_BYTES; page++)
        if (bad[page]) return false;
    return true;
}

/* How many of the known objects on undamaged pages are not in the heap as they were. */
static uint64_t salvage_count_missing(evh_heap *heap, const unsigned char *bad, uint64_t *whole)
{
    uint64_t missing = 0;
    *whole = 0;
    for (uint64_t i = 0; i < known_count; i++) {
        const struct known *one = &known[i];
        if (!salvage_is_whole(bad, one)) continue;
        ++*whole;
        const void *block = evh_at(heap, (evh_ref){one->offset});
        /* The number: what it stands for may be lost with the page that said so. */
        if (!block || evh_type_of(heap, block) != (one->size == sizeof(struct thing) ? 1 : 2)) {
            missing++;
        } else if (one->size == sizeof(struct thing)) {
            const struct thing *thing = block;
            missing += thing->number != one->number || thing->check != ~one->number;
        } else {
            const struct wide *wide = block;
            missing +=
                wide->number != one->number || wide->bytes[999] != (unsigned char)one->number;
        }
    }
    return missing;
}

static void salvage_run(const char *path, const char *target, evh_salvage_result *result)
{
    const struct file_bytes before = file_bytes_read(path);
    const evh_status status = evh_salvage(path, target, NULL, NULL, result);
    if (status) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
    CHECK_EQUAL(status, EVH_OK);
    CHECK(file_bytes_are_same(path, &before));
    struct file_bytes owned = before;
    file_bytes_end(&owned);
}

TEST(every_typed_object_on_an_undamaged_page_is_saved)
{
    uint64_t seed = test_seed();
    const char *count_text = getenv("SALVAGE_OBJECTS");
    const uint64_t count = count_text ? strtoull(count_text, NULL, 10) : 60000;
    for (uint64_t round = 0; round < test_effort(4); round++) {
        const char *path = salvage_make("typed", count);
        const char *target = test_path("saved");
        unsigned char *bad = salvage_damage(path, 1.0, &seed);
        evh_salvage_result result;
        salvage_run(path, target, &result);
        evh_heap *heap = evh_open(target, NULL);
        CHECK(heap != NULL);
        CHECK_EQUAL(evh_check(heap, NULL, NULL), EVH_OK);
        uint64_t whole = 0;
        const uint64_t missing = salvage_count_missing(heap, bad, &whole);
        if (count_text)
            printf("%llu objects, %llu pages, %llu damaged: %llu objects on undamaged pages, %llu "
                   "missing; %llu blocks lost, %llu guessed\n",
                   (unsigned long long)known_count, (unsigned long long)result.pages,
                   (unsigned long long)result.bad_pages, (unsigned long long)whole,
                   (unsigned long long)missing, (unsigned long long)result.lost_blocks,
                   (unsigned long long)result.guessed_blocks);
        CHECK_EQUAL(missing, 0);
        CHECK(whole > count / 2);
        free(bad);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        CHECK_EQUAL(unlink(target), 0);
        CHECK_EQUAL(unlink(path), 0);
    }
}

TEST(a_sound_heap_is_saved_without_a_loss)
{
    const char *path = salvage_make("sound", 5000);
    const char *target = test_path("saved");
    evh_salvage_result result;
    salvage_run(path, target, &result);
    CHECK(result.is_lossless);
    CHECK_EQUAL(result.bad_pages, 0);
    evh_heap *before = evh_open(path, NULL), *after = evh_open(target, NULL);
    unsigned char digests[2][32];
    CHECK_EQUAL(evh_digest(before, digests[0]), EVH_OK);
    CHECK_EQUAL(evh_digest(after, digests[1]), EVH_OK);
    CHECK(memcmp(digests[0], digests[1], 32) == 0);
    CHECK_EQUAL(evh_close(before), EVH_OK);
    CHECK_EQUAL(evh_close(after), EVH_OK);
}

TEST(a_killed_heap_is_saved_as_of_its_last_commit)
{
    const char *path = salvage_make("killed", 2000);
    const char *copy = test_path("copy"), *target = test_path("saved");
    evh_options options = {.no_thread = true};
    evh_heap *heap = evh_open(path, &options);
    struct thing *root = evh_root(heap, "things", sizeof *root);
    root->number = 4711;
    void *block = evh_calloc(heap, 1, 3 << 20); /* it grows */
    memset(block, 7, 3 << 20);
    *(evh_ref *)evh_root(heap, "block", 8) = evh_ref_to(heap, block);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    root->number = 4712;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    struct file_bytes content = file_bytes_read(path);
    file_bytes_write(copy, &content);
    file_bytes_end(&content);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    evh_salvage_result result;
    salvage_run(copy, target, &result);
    CHECK(result.is_lossless);
    heap = evh_open(target, NULL);
    root = evh_root_find(heap, "things", NULL);
    CHECK_EQUAL(root->number, 4712);
    const unsigned char *bytes = evh_at(heap, *(evh_ref *)evh_root_find(heap, "block", NULL));
    for (unsigned i = 0; i < 3 << 20; i++) CHECK_EQUAL(bytes[i], 7);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_file_that_was_cut_off_gives_what_is_left)
{
    for (unsigned i = 1; i < 8; i++) {
        const char *path = salvage_make("cut", 20000);
        const char *target = test_path("saved");
        struct file_bytes content = file_bytes_read(path);
        const uint64_t left = content.size / PAGE_BYTES * i / 8 * PAGE_BYTES;
        unsigned char *bad = calloc(content.size / PAGE_BYTES + 1, 1);
        memset(bad + left / PAGE_BYTES, 1, (content.size - left) / PAGE_BYTES);
        file_bytes_end(&content);
        CHECK_EQUAL(truncate(path, (off_t)left), 0);
        evh_salvage_result result;
        salvage_run(path, target, &result);
        evh_heap *heap = evh_open(target, NULL);
        CHECK(heap != NULL);
        uint64_t whole = 0;
        CHECK_EQUAL(salvage_count_missing(heap, bad, &whole), 0);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
        free(bad);
        CHECK_EQUAL(unlink(target), 0);
        CHECK_EQUAL(unlink(path), 0);
    }
}

/* ---- untyped blocks ---- */

TEST(every_reachable_block_on_an_undamaged_page_is_saved)
{
    enum { COUNT = 20000 };
    uint64_t seed = test_seed();
    const char *path = test_path("plain"), *target = test_path("saved");
    evh_heap *heap = evh_open(path, NULL);
    uint64_t *index = evh_calloc(heap, COUNT, sizeof *index); /* a long block */
    const uint64_t index_offset = evh_ref_to(heap, index).offset;
    *(evh_ref *)evh_root(heap, "index", 8) = evh_ref_to(heap, index);
    known_begin(COUNT);
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t *block = evh_malloc(heap, i % 3 ? 48 : 640);
        memset(block, 0x7f, i % 3 ? 48 : 640);
        *block = ~i;
        index[i] = evh_ref_to(heap, block).offset;
        known_add(heap, block, i % 3 ? 48 : 640, i);
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    unsigned char *bad = salvage_damage(path, 1.0, &seed);
    evh_salvage_result result;
    salvage_run(path, target, &result);
    heap = evh_open(target, NULL);
    CHECK(heap != NULL);
    uint64_t missing = 0, whole = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        /* What a damaged page of the index named is not reachable any more. */
        const struct known reference = {index_offset + i * sizeof *index, sizeof *index, i};
        if (!salvage_is_whole(bad, &known[i]) || !salvage_is_whole(bad, &reference)) continue;
        whole++;
        const uint64_t *block = evh_at(heap, (evh_ref){known[i].offset});
        missing += evh_usable_size(heap, block) < known[i].size || *block != ~i;
    }
    CHECK(whole > COUNT / 2);
    CHECK_EQUAL(missing, 0);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    free(bad);
}

/* ---- documents ---- */

static char *salvage_document_text(unsigned count, size_t *size)
{
    char *text = malloc(count * 100 + 10);
    CHECK(text != NULL);
    *size = 0;
    text[(*size)++] = '[';
    for (unsigned i = 0; i < count; i++)
        *size += (size_t)snprintf(text + *size, 100,
                                  "%s{\"id\": %u, \"name\": \"the name of number %u\"}",
                                  i ? "," : "", i, i);
    text[(*size)++] = ']';
    return text;
}

TEST(a_damaged_document_is_written_as_text_with_all_that_can_be_read)
{
    enum { COUNT = 20000 };
    uint64_t seed = test_seed();
    const char *path = test_path("document"), *target = test_path("saved");
    char written[600];
    size_t size = 0;
    evh_heap *heap = evh_open(path, NULL);
    evh_json *json = evh_json_open(heap, NULL);
    char *text = salvage_document_text(COUNT, &size);
    CHECK_EQUAL(evh_json_parse(json, evh_json_root(json), text, size, NULL, NULL), EVH_OK);
    free(text);
    evh_json_close(json);
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    /* Pages in the middle of the heap: of texts, containers and bodies. */
    struct file_bytes content = file_bytes_read(path);
    const uint64_t pages = content.size / PAGE_BYTES;
    unsigned damaged = 0;
    for (uint64_t page = pages / 3; page < pages; page++)
        if (test_random(&seed) % 100 == 0) {
            memset(content.bytes + page * PAGE_BYTES, 0xee, PAGE_BYTES);
            damaged++;
        }
    file_bytes_write(path, &content);
    file_bytes_end(&content);
    evh_salvage_result result;
    salvage_run(path, target, &result);
    CHECK_EQUAL(result.documents, 1);
    if (damaged == 0 || result.document_values == 0) return; /* it hit nothing of the document */
    (void)snprintf(written, sizeof written, "%s.json.json", target);
    FILE *file = fopen(written, "r");
    CHECK(file != NULL);
    heap = evh_open_memory(NULL, 0, NULL);
    json = evh_json_open(heap, NULL);
    CHECK_EQUAL(evh_json_read_file(json, evh_json_root(json), file, NULL, NULL), EVH_OK);
    fclose(file);
    unsigned found = 0;
    const evh_value list = evh_json_root(json);
    for (size_t i = 0; i < evh_json_count(json, list); i++) {
        const evh_value item = evh_json_at(json, list, i);
        const evh_value name = evh_json_member(json, item, "name", 4);
        size_t name_size = 0;
        const char *name_text = evh_json_text(json, name, &name_size);
        if (name_text && name_size > 19 && memcmp(name_text, "the name of number ", 19) == 0)
            found++;
    }
    /* A page of 4096 bytes holds at most 254 values of a body, or 64 containers, or 102 texts: what
     * is lost is in proportion. */
    CHECK(found >= COUNT - damaged * 400);
    evh_json_close(json);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    CHECK_EQUAL(unlink(written), 0);
}

/* ---- refusals, repair ---- */

TEST(what_is_no_heap_or_is_there_already_is_refused)
{
    const char *path = salvage_make("good", 10), *text = test_path("text");
    FILE *file = fopen(text, "w");
    for (unsigned i = 0; i < 5000; i++) fputs("no heap ", file);
    fclose(file);
    CHECK_EQUAL(evh_salvage(path, path, NULL, NULL, NULL), EVH_EXISTS);
    CHECK_EQUAL(evh_salvage(text, test_path("out"), NULL, NULL, NULL), EVH_NOT_HEAP);
    CHECK_EQUAL(evh_salvage("/nowhere", test_path("out"), NULL, NULL, NULL), EVH_NOT_FOUND);
    CHECK_EQUAL(evh_salvage(NULL, path, NULL, NULL, NULL), EVH_INVALID);
}

TEST(repair_writes_a_damaged_slot_again_and_only_if_it_is_told_to)
{
    const char *path = salvage_make("slots", 100);
    evh_heap *heap = evh_open(path, NULL);
    *(uint64_t *)evh_root(heap, "number", 8) = 5;
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    struct file_bytes content = file_bytes_read(path);
    uint64_t used = 0;
    CHECK(file_header(&content, &used) != NULL);
    const uint64_t other = used ? 0 : REGION_SLOT_STRIDE;
    file_bytes_end(&content);
    const uint64_t garbage = 0x1234567890abcdef;
    file_bytes_patch(path, other + 100, &garbage, 8);
    uint64_t count = 0;
    CHECK_EQUAL(evh_repair(path, false, NULL, NULL, &count), EVH_OK);
    CHECK_EQUAL(count, 1);
    CHECK_EQUAL(evh_repair(path, true, NULL, NULL, &count), EVH_OK);
    CHECK_EQUAL(count, 1);
    CHECK_EQUAL(evh_repair(path, false, NULL, NULL, &count), EVH_OK);
    CHECK_EQUAL(count, 0);
    heap = evh_open(path, NULL);
    CHECK_EQUAL(*(uint64_t *)evh_root_find(heap, "number", NULL), 5);
    CHECK_EQUAL(evh_repair(path, true, NULL, NULL, &count), EVH_BUSY);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}
