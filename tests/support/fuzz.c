/* fuzz.c -- one input of a fuzzer: a sound heap, edited, then read, checked, changed and saved. */
#include "fuzz.h"

#include "heap/heap.h"
#include "journal/journal_layout.h"

#include <everheap.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BASES = 5, BASE_MAX = 1 << 20, EDIT_BYTES = 8, EDITS_MAX = 64, WALK_MAX = 20000 };

enum edit_place {
    EDIT_HEADER,
    EDIT_STATUS,
    EDIT_SUMS,
    EDIT_RECORD,
    EDIT_ENTRY,
    EDIT_DESCRIPTOR,
    EDIT_DIRECTORY,
    EDIT_BITMAP,
    EDIT_CATALOG,
    EDIT_ROOTS,
    EDIT_TYPES,
    EDIT_BLOCK,
    EDIT_LIVE,
    EDIT_LENGTH,
    EDIT_PLACES
};

struct base {
    unsigned char *bytes;
    uint64_t size;
    uint64_t catalog, roots, types;
    uint64_t *blocks; /* offsets of live blocks */
    uint64_t block_count;
};

static struct base bases[BASES];
static char fuzz_path[100], fuzz_target[120];

/* ---- the sound heaps ---- */

static void fuzz_require(int condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "fuzz: %s: %s\n", what, evh_last_error()->message);
    abort();
}

static evh_options fuzz_options(evh_mode mode)
{
    return (evh_options){.mode = mode,
                         .no_thread = true,
                         .misuse = EVH_MISUSE_STATUS,
                         .detect = EVH_DETECT_COMPARE,
                         .size_max_bytes = 8 << 20};
}

static void fuzz_fill_types(evh_heap *heap)
{
    static const evh_field fields[] = {
        {"next", EVH_FIELD_REFERENCE, 0, 8, 1, "node", 0, 0, 0},
        {"inner", EVH_FIELD_STRUCT, 8, 16, 1, "inner", 0, 0, 0},
        {"refs", EVH_FIELD_REFERENCE, 24, 8, 0, NULL, 0, 0, 0},
        {"raw", EVH_FIELD_POINTER, 32, 8, 1, "node", 8, 4, 1},
    };
    static const evh_field inner[] = {{"self", EVH_FIELD_STRUCT, 0, 16, 1, "inner", 0, 0, 0},
                                      {"near", EVH_FIELD_DISTANCE, 8, 8, 1, NULL, 0, 0, 0}};
    const evh_type node_type = {"node", 40, fields, 4};
    const evh_type inner_type = {"inner", 16, inner, 2};
    const uint32_t number = evh_type_register(heap, &node_type);
    fuzz_require(evh_type_register(heap, &inner_type) != 0, "types");
    uint64_t *last = evh_root_typed(heap, "nodes", number, 40);
    for (unsigned i = 0; last && i < 20; i++) {
        uint64_t *node = heap->live ? evh_calloc(heap, 1, 40) : evh_new(heap, number);
        fuzz_require(node != NULL, "a node");
        *last = evh_ref_to(heap, node).offset;
        last = node;
    }
}

static void fuzz_fill_collections(evh_heap *heap)
{
    uint64_t *handles = evh_root(heap, "handles", 64);
    fuzz_require(handles != NULL, "handles");
    for (uint32_t i = 0; i < 60; i++) {
        char key[16];
        const int size = snprintf(key, sizeof key, "key %u", i);
        (void)evh_map_put_bytes(heap, (evh_map *)&handles[0], key, (size_t)size, 8);
        (void)evh_map_put(heap, (evh_map *)&handles[1], i, 8);
        (void)evh_tree_put_bytes(heap, (evh_tree *)&handles[2], key, (size_t)size, 8);
        (void)evh_tree_put(heap, (evh_tree *)&handles[3], i, 4);
        (void)evh_vec_push(heap, (evh_vec *)&handles[4], sizeof i, &i);
        (void)evh_str_append(heap, (evh_str *)&handles[5], key, (size_t)size);
        (void)evh_bitset_put(heap, (evh_bitset *)&handles[6], i * 3, true);
        (void)evh_queue_push(heap, (evh_queue *)&handles[7], sizeof i, &i);
    }
}

static void fuzz_fill_document(evh_heap *heap)
{
    static const char text[] =
        "{\"a\": [1, 2.5, -3, true, null, \"text\", 123456789012345678901234567890],"
        " \"b\": {\"c\": {\"$ref\": \"/a/5\"}, \"d\": {\"$base64\": \"AAEC\"}, \"e\": {}},"
        " \"keys\": {\"k1\": 1, \"k2\": 2, \"k3\": 3, \"k4\": 4, \"k5\": 5, \"k6\": 6, \"k7\": 7,"
        " \"k8\": 8, \"k9\": 9, \"k10\": 10, \"k11\": 11, \"k12\": 12, \"k13\": 13, \"k14\": 14,"
        " \"k15\": 15, \"k16\": 16, \"k17\": 17, \"k18\": 18}}";
    evh_json *json = evh_json_open(heap, NULL);
    fuzz_require(json != NULL, "a document");
    const evh_value root = evh_json_root(json);
    fuzz_require(!evh_json_parse(json, root, text, sizeof text - 1, NULL, NULL), "its text");
    evh_json_close(json);
}

static bool fuzz_note_block(const evh_block *block, void *context)
{
    struct base *base = context;
    base->blocks = realloc(base->blocks, (base->block_count + 1) * sizeof *base->blocks);
    if (!base->blocks) abort();
    base->blocks[base->block_count++] = block->ref.offset;
    return true;
}

static void fuzz_read(const char *path, struct base *base)
{
    FILE *file = fopen(path, "rb");
    base->bytes = calloc(1, BASE_MAX);
    fuzz_require(file && base->bytes, "reading");
    base->size = fread(base->bytes, 1, BASE_MAX, file);
    fclose(file);
}

/* Base 0: all that a heap knows, closed. 1: killed behind two commits. 2: live. 3: a document. 4:
 * collections. */
static void fuzz_make(unsigned number)
{
    struct base *base = &bases[number];
    evh_options options = fuzz_options(number == 2 ? EVH_LIVE : EVH_DURABLE);
    (void)unlink(fuzz_path);
    evh_heap *heap = evh_open(fuzz_path, &options);
    fuzz_require(heap != NULL, "a new heap");
    if (number <= 2) fuzz_fill_types(heap);
    if (number == 3) fuzz_fill_document(heap);
    if (number == 4) fuzz_fill_collections(heap);
    if (number == 2) {
        evh_recorder *recorder = evh_recorder_open(heap, "log", 16);
        EVH_RECORD(recorder, "begin %d %s", 7, "here");
        evh_recorder_close(recorder);
    }
    (void)evh_commit(heap);
    if (number == 1) {
        *(uint64_t *)evh_root(heap, "more", 5000) = 5;
        (void)evh_commit(heap);
        *(uint64_t *)evh_root(heap, "more", 5000) = 6;
        (void)evh_commit(heap);
    }
    base->catalog = heap->state.catalog;
    (void)evh_walk(heap, fuzz_note_block, base);
    evh_root_info root = {0};
    if (evh_root_next(heap, &root)) base->types = root.block.offset;
    if (!heap->live && base->catalog)
        base->roots = ((struct heap_catalog *)(void *)(heap->view.base + base->catalog))
                          ->root_chunks[0]
                          .offset;
    if (number == 1) fuzz_read(fuzz_path, base);
    fuzz_require(!evh_close(heap), "closing");
    if (number != 1) fuzz_read(fuzz_path, base);
    (void)unlink(fuzz_path);
}

static void fuzz_begin(void)
{
    if (bases[0].bytes) return;
    snprintf(fuzz_path, sizeof fuzz_path, "/dev/shm/everheap_fuzz.%d", (int)getpid());
    snprintf(fuzz_target, sizeof fuzz_target, "%s.saved", fuzz_path);
    for (unsigned i = 0; i < BASES; i++) fuzz_make(i);
}

/* ---- edits ---- */

struct edit {
    uint8_t place, how;
    uint16_t word;
    uint32_t value;
};

/* Where the edit begins; words are counted from there. */
static uint64_t edit_offset(const struct base *base, struct edit edit)
{
    const uint64_t word = edit.word;
    switch (edit.place % EDIT_PLACES) {
    case EDIT_HEADER: return (edit.word & 1) * REGION_SLOT_STRIDE + word / 2 % 64 * 8;
    case EDIT_STATUS: return REGION_STATUS_OFFSET + word % 16 * 8;
    case EDIT_SUMS: return REGION_CHECKSUM_OFFSET + word % 512 * 8;
    case EDIT_RECORD:
        return REGION_FIRST_EXTENT_OFFSET + word / 16 % 8 * PAGE_BYTES + word % 16 * 8;
    case EDIT_ENTRY: return REGION_FIRST_EXTENT_OFFSET + word % 6144 * 8;
    case EDIT_DESCRIPTOR: return SLICE_BYTES + word % 32 * 8;
    case EDIT_DIRECTORY: return SLICE_BYTES + HEAP_DIRECTORY_OFFSET + word % 512 * 8;
    case EDIT_BITMAP: return SLICE_BYTES + HEAP_POOL_OFFSET + word % 64 * 8;
    case EDIT_CATALOG: return base->catalog + word % 48 * 8;
    case EDIT_ROOTS: return base->roots + word % 48 * 8;
    case EDIT_TYPES: return base->types + word % 128 * 8;
    case EDIT_LIVE: return LIVE_AREA_OFFSET + word % 4096 * 8;
    default:
        if (base->block_count == 0) return 0;
        return base->blocks[word % base->block_count] + edit.value % 512 * 8;
    }
}

static void edit_apply(const struct base *base, unsigned char *bytes, uint64_t *size,
                       struct edit edit)
{
    if (edit.place % EDIT_PLACES == EDIT_LENGTH) {
        *size =
            edit.how & 1 ? edit.value % (base->size + 1) : edit.word * 512ull % (base->size + 1);
        return;
    }
    const uint64_t offset = edit_offset(base, edit);
    if (offset + 8 > base->size) return;
    uint64_t word;
    memcpy(&word, bytes + offset, sizeof word);
    const uint64_t value = edit.value;
    switch (edit.how % 8) {
    case 0: word = value; break;
    case 1: word += (uint64_t)(int64_t)(int32_t)edit.value; break;
    case 2: word ^= 1ull << value % 64; break;
    case 3: word = base->block_count ? base->blocks[value % base->block_count] : value; break;
    case 4: word = (word & 0xffffffffu) | value << 32; break;
    case 5: word = (word & ~0xffffffffull) | value; break;
    case 6: word = value % 2 ? UINT64_MAX - value : value << 16; break;
    default: word = value * 0x9e3779b97f4a7c15ull; break;
    }
    memcpy(bytes + offset, &word, sizeof word);
}

/* Make the checksums of headers, status and records right again, and those of all pages unknown. */
static void edit_seal(unsigned char *bytes, uint64_t size)
{
    if (size < SLICE_BYTES) return;
    for (unsigned i = 0; i < REGION_SLOT_COUNT; i++) {
        struct region_header *header = (void *)(bytes + i * REGION_SLOT_STRIDE);
        header->crc = base_crc32c(0, header, offsetof(struct region_header, crc));
    }
    struct region_status *status = (void *)(bytes + REGION_STATUS_OFFSET);
    status->crc = base_crc32c(0, status, offsetof(struct region_status, crc));
    const struct region_header *header = (const void *)bytes;
    if (header->mode == EVH_LIVE) return;
    for (uint64_t page = SLICE_PAGES; page < PAGE_BYTES / 4; page++)
        ((uint32_t *)(void *)(bytes + REGION_CHECKSUM_OFFSET))[page] = JOURNAL_SUM_UNKNOWN;
    for (uint64_t at = REGION_FIRST_EXTENT_OFFSET; at < SLICE_BYTES; at += PAGE_BYTES) {
        struct journal_record *record = (void *)(bytes + at);
        if (record->magic != JOURNAL_MAGIC) continue;
        uint64_t bytes_of = record->record_bytes;
        if (bytes_of < sizeof *record || bytes_of > SLICE_BYTES - at) bytes_of = PAGE_BYTES;
        record->body_crc = base_crc32c(0, record + 1, bytes_of - sizeof *record);
        record->header_crc = base_crc32c(0, record, offsetof(struct journal_record, header_crc));
    }
}

static void fuzz_write(const unsigned char *bytes, uint64_t size)
{
    const int file = open(fuzz_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || write(file, bytes, size) != (ssize_t)size) abort();
    close(file);
}

/* ---- what is done with it ---- */

static bool fuzz_see_block(const evh_block *block, void *context)
{
    uint64_t *state = context;
    state[0]++;
    for (uint64_t i = 0; i < block->size && i < 64; i++)
        state[1] += ((const unsigned char *)block->address)[i];
    return state[0] < WALK_MAX;
}

static bool fuzz_see_finding(const evh_finding *finding, void *context)
{
    uint64_t *state = context;
    return ++state[2] < 1000 && finding->message != NULL;
}

static bool fuzz_see_field(const evh_field_value *value, void *context)
{
    uint64_t *state = context;
    state[1] += value->number + strlen(value->name);
    return ++state[3] < 5000;
}

struct fuzz_objects {
    evh_autopsy *autopsy;
    uint64_t state[8];
};

static bool fuzz_see_object(const evh_object *object, void *context)
{
    struct fuzz_objects *objects = context;
    objects->state[1] += strlen(object->kind) + object->size;
    objects->state[3] = 0;
    evh_autopsy_fields(objects->autopsy, object, fuzz_see_field, objects->state);
    return ++objects->state[0] < WALK_MAX;
}

static bool fuzz_see_dangling(const evh_dangling *dangling, void *context)
{
    uint64_t *state = context;
    return ++state[4] < 1000 && dangling->kind > 0;
}

static bool fuzz_see_record(const evh_record *record, void *context)
{
    uint64_t *state = context;
    state[1] += strlen(record->text);
    return ++state[5] < 1000;
}

static bool fuzz_see_commit(const evh_commit_info *commit, void *context)
{
    uint64_t *state = context;
    state[1] += commit->pages;
    return ++state[6] < 1000;
}

static void fuzz_collections(evh_heap *heap)
{
    size_t size = 0;
    uint64_t *handles = evh_root_find(heap, "handles", &size);
    if (!handles || size < 64) return;
    (void)evh_map_check(heap, (evh_map *)&handles[0]);
    (void)evh_map_check(heap, (evh_map *)&handles[1]);
    (void)evh_tree_check(heap, (evh_tree *)&handles[2]);
    (void)evh_tree_check(heap, (evh_tree *)&handles[3]);
    (void)evh_vec_check(heap, (evh_vec *)&handles[4]);
    (void)evh_str_check(heap, (evh_str *)&handles[5]);
    (void)evh_bitset_check(heap, (evh_bitset *)&handles[6]);
    (void)evh_queue_check(heap, (evh_queue *)&handles[7]);
    (void)evh_map_get_bytes(heap, (evh_map *)&handles[0], "key 7", 5);
    (void)evh_map_get(heap, (evh_map *)&handles[1], 33);
    (void)evh_tree_get_bytes(heap, (evh_tree *)&handles[2], "key 9", 5);
    evh_map_cursor cursor = {0};
    for (unsigned i = 0; i < 500 && evh_map_next(heap, (evh_map *)&handles[0], &cursor); i++)
        continue;
    evh_tree_cursor tree = {0};
    for (unsigned i = 0; i < 500 && evh_tree_next(heap, (evh_tree *)&handles[3], &tree); i++)
        continue;
}

static void fuzz_change_collections(evh_heap *heap)
{
    size_t size = 0;
    uint64_t *handles = evh_root_find(heap, "handles", &size);
    if (!handles || size < 64) return;
    for (uint32_t i = 0; i < 8; i++) {
        (void)evh_map_put(heap, (evh_map *)&handles[1], 1000 + i, 8);
        (void)evh_map_erase_bytes(heap, (evh_map *)&handles[0], "key 3", 5);
        (void)evh_tree_put(heap, (evh_tree *)&handles[3], i * 7, 4);
        (void)evh_tree_erase_bytes(heap, (evh_tree *)&handles[2], "key 5", 5);
        (void)evh_vec_push(heap, (evh_vec *)&handles[4], sizeof i, &i);
        (void)evh_str_append(heap, (evh_str *)&handles[5], "more", 4);
        (void)evh_bitset_put(heap, (evh_bitset *)&handles[6], i * 100, true);
        (void)evh_queue_push(heap, (evh_queue *)&handles[7], sizeof i, &i);
    }
}

static void fuzz_document(evh_heap *heap, bool change)
{
    evh_json *json = evh_json_open(heap, NULL);
    if (!json) return;
    (void)evh_json_check(json);
    const evh_value root = evh_json_root(json);
    (void)evh_json_follow(json, evh_json_get(json, "/b/c"));
    char *text = evh_json_print(json, root, NULL, NULL);
    free(text);
    if (change) {
        const evh_value made = evh_json_make(json, root, "/new/path/0", 11);
        (void)evh_json_set_text(json, made, "text", 4);
        (void)evh_json_erase(json, evh_json_get(json, "/a/2"));
        (void)evh_json_erase(json, evh_json_get(json, "/keys"));
    }
    evh_json_close(json);
}

static void fuzz_change(evh_heap *heap)
{
    void *blocks[16];
    evh_root_info root = {0};
    for (unsigned i = 0; i < 16; i++) blocks[i] = evh_malloc(heap, 1u << i % 14);
    for (unsigned i = 0; i < 16; i += 2) evh_free(heap, blocks[i]);
    (void)evh_malloc_typed(heap, 1, 40);
    for (unsigned i = 0; i < 20 && evh_root_next(heap, &root); i++) {
        void *block = evh_at(heap, root.block);
        if (evh_usable_size(heap, block) >= root.size && root.name[0] == 'm')
            memset(block, 1, root.size);
    }
    fuzz_change_collections(heap);
    fuzz_document(heap, true);
    (void)evh_root(heap, "fuzz", 100);
    (void)evh_root_remove(heap, "more");
}

static void fuzz_read_heap(evh_mode mode, uint8_t what)
{
    uint64_t state[8] = {0};
    evh_options options = fuzz_options(mode);
    options.must_exist = true;
    options.verify = what & 1;
    evh_heap *heap = evh_open(fuzz_path, &options);
    if (!heap) return;
    evh_info info;
    unsigned char digest[32];
    (void)evh_check(heap, fuzz_see_finding, state);
    (void)evh_walk(heap, fuzz_see_block, state);
    (void)evh_get_info(heap, &info);
    (void)evh_log(heap, fuzz_see_commit, state);
    (void)evh_recorder_each(heap, "log", 0, fuzz_see_record, state, NULL);
    if (what & 2) (void)evh_digest(heap, digest);
    fuzz_collections(heap);
    fuzz_document(heap, false);
    if (mode != EVH_READ_ONLY) {
        fuzz_change(heap);
        if (mode == EVH_DURABLE) {
            (void)evh_commit(heap);
            fuzz_change(heap);
            (void)evh_rollback(heap);
        }
        (void)evh_check(heap, fuzz_see_finding, state);
    }
    (void)evh_close(heap);
}

static void fuzz_autopsy(void)
{
    struct fuzz_objects objects = {0};
    objects.autopsy = evh_autopsy_open(fuzz_path, NULL);
    if (!objects.autopsy) return;
    evh_autopsy_each(objects.autopsy, fuzz_see_object, &objects);
    evh_autopsy_dangling(objects.autopsy, fuzz_see_dangling, objects.state);
    evh_autopsy_compare(objects.autopsy, objects.autopsy, NULL, NULL);
    evh_autopsy_close(objects.autopsy);
}

static void fuzz_salvage(void)
{
    char document[160];
    evh_salvage_result result;
    (void)unlink(fuzz_target);
    if (!evh_salvage(fuzz_path, fuzz_target, NULL, NULL, &result)) {
        evh_options options = fuzz_options(EVH_DURABLE);
        options.size_max_bytes = 0;
        options.must_exist = true;
        evh_heap *heap = evh_open(fuzz_target, &options);
        /* What salvage makes is sound, always. */
        if (!heap || evh_check(heap, NULL, NULL)) fuzz_require(0, "a salvaged heap is not sound");
        (void)evh_close(heap);
    }
    (void)unlink(fuzz_target);
    snprintf(document, sizeof document, "%s.json.json", fuzz_target);
    (void)unlink(document);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    static unsigned char bytes[BASE_MAX];
    if (size < 3 + EDIT_BYTES) return 0;
    fuzz_begin();
    const struct base *base = &bases[data[0] % BASES];
    uint64_t length = base->size;
    memcpy(bytes, base->bytes, base->size);
    for (size_t i = 3, k = 0; i + EDIT_BYTES <= size && k < EDITS_MAX; i += EDIT_BYTES, k++) {
        struct edit edit;
        memcpy(&edit, data + i, sizeof edit);
        edit_apply(base, bytes, &length, edit);
    }
    if (data[1] & 1) edit_seal(bytes, length);
    fuzz_write(bytes, length);
    const bool is_live = data[0] % BASES == 2;
    switch (data[2] % 16) {
    case 0:
    case 1: fuzz_autopsy(); break;
    case 2: fuzz_salvage(); break;
    case 3:
    case 4: fuzz_read_heap(EVH_PRIVATE, data[1] >> 1); break;
    case 5:
    case 6:
    case 7:
    case 8: fuzz_read_heap(is_live ? EVH_LIVE : EVH_DURABLE, data[1] >> 1); break;
    case 9: (void)evh_repair(fuzz_path, true, NULL, NULL, NULL); break;
    default: fuzz_read_heap(EVH_READ_ONLY, data[1] >> 1); break;
    }
    char beside[160];
    snprintf(beside, sizeof beside, "%s.live", fuzz_path);
    if (is_live) (void)unlink(beside);
    (void)unlink(fuzz_path);
    return 0;
}
