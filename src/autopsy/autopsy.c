/* autopsy.c -- a heap is opened, privately, and its blocks are put into order.
 *
 * Invariants
 *  1. Objects are live blocks as evh_walk() gave them: inside the heap, ascending, not overlapping
 *     (what does not ascend is damage, and ends the collecting).
 *  2. All that is read of a block lies inside it; nothing that it holds is believed.
 *  3. Nothing is written through the heap's mapping, and no file but the copy is.
 */
#include "autopsy/autopsy.h"

#include <stdio.h>

#define AUTOPSY_COPY_BYTES (2ull << 30)

/* ---- collecting ---- */

static bool autopsy_collect(const evh_block *block, void *context)
{
    evh_autopsy *autopsy = context;
    const uint64_t end = heap_end_bytes(autopsy->heap);
    const struct autopsy_object *last =
        autopsy->count ? &autopsy->objects[autopsy->count - 1] : NULL;
    assert(block != NULL);
    assert(autopsy->count <= autopsy->capacity);
    if (!base_in_range(block->ref.offset, block->size, end) ||
        (last && block->ref.offset < last->offset + last->size)) {
        autopsy->status = base_fail(EVH_CORRUPT, block->ref.offset, "%s: blocks overlap",
                                    heap_path(autopsy->heap));
        return false;
    }
    if (autopsy->count == autopsy->capacity) {
        const uint64_t capacity = autopsy->capacity ? 2 * autopsy->capacity : 1024;
        void *grown = os->memory_resize(autopsy->objects, capacity * sizeof *autopsy->objects);
        if (!grown || capacity > UINT32_MAX) {
            autopsy->status = base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for %llu blocks",
                                        (unsigned long long)capacity);
            if (grown) autopsy->objects = grown;
            return false;
        }
        autopsy->objects = grown;
        autopsy->capacity = capacity;
    }
    assert(autopsy->objects != NULL);
    autopsy->objects[autopsy->count++] = (struct autopsy_object){.offset = block->ref.offset,
                                                                 .size = block->size,
                                                                 .type = block->type,
                                                                 .root = EVH_NO_ROOT,
                                                                 .parent = AUTOPSY_NONE};
    return true;
}

static void autopsy_note_damage(evh_autopsy *autopsy)
{
    assert(autopsy != NULL);
    assert(evh_last_error()->status != EVH_OK);
    if (!autopsy->info.damage.status) autopsy->info.damage = *evh_last_error();
}

static evh_status autopsy_collect_roots(evh_autopsy *autopsy)
{
    evh_root_info root = {0};
    uint32_t capacity = 0;
    bool is_found = true;
    assert(autopsy->root_count == 0);
    assert(autopsy->roots == NULL);
    while (autopsy->root_count < AUTOPSY_ROOTS_MAX) {
        if (roots_next(autopsy->heap, &root, &is_found)) {
            autopsy_note_damage(autopsy);
            return EVH_OK;
        }
        if (!is_found) break;
        if (autopsy->root_count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            void *grown = os->memory_resize(autopsy->roots, capacity * sizeof *autopsy->roots);
            if (!grown) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for roots");
            autopsy->roots = grown;
        }
        autopsy->roots[autopsy->root_count++] = root;
    }
    return EVH_OK;
}

static evh_status autopsy_index_pages(evh_autopsy *autopsy)
{
    assert(autopsy->page_first == NULL);
    autopsy->page_count = heap_end_bytes(autopsy->heap) / PAGE_BYTES + 1;
    assert(autopsy->page_count > 0);
    autopsy->page_first = os->memory_allocate((autopsy->page_count + 1) * sizeof(uint32_t));
    if (!autopsy->page_first)
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to index the blocks");
    uint64_t index = 0;
    for (uint64_t page = 0; page <= autopsy->page_count; page++) {
        while (index < autopsy->count && autopsy->objects[index].offset < page << PAGE_SHIFT)
            index++;
        autopsy->page_first[page] = (uint32_t)index;
    }
    return EVH_OK;
}

EVH_INTERNAL int64_t autopsy_index(const evh_autopsy *autopsy, uint64_t offset)
{
    const uint64_t page = offset >> PAGE_SHIFT;
    assert(autopsy->page_first != NULL);
    if (page >= autopsy->page_count) return AUTOPSY_NONE;
    /* The last object that begins at or before it. */
    uint64_t first = autopsy->page_first[page];
    uint64_t end = autopsy->page_first[page + 1];
    while (first < end) {
        const uint64_t middle = first + (end - first) / 2;
        if (autopsy->objects[middle].offset <= offset)
            first = middle + 1;
        else
            end = middle;
    }
    assert(first <= autopsy->count);
    if (first == 0) return AUTOPSY_NONE;
    const struct autopsy_object *object = &autopsy->objects[first - 1];
    return offset - object->offset < object->size ? (int64_t)(first - 1) : AUTOPSY_NONE;
}

EVH_INTERNAL const unsigned char *autopsy_bytes(const evh_autopsy *autopsy,
                                                const struct autopsy_object *object)
{
    assert(base_in_range(object->offset, object->size, heap_end_bytes(autopsy->heap)));
    assert(object->size > 0);
    return autopsy->heap->view.base + object->offset;
}

EVH_INTERNAL uint64_t autopsy_follow_address(const evh_autopsy *autopsy, uint64_t address)
{
    const uint64_t end = heap_end_bytes(autopsy->heap);
    assert(end > 0);
    for (unsigned i = 0; i < EVH_ADDRESSES && autopsy->info.addresses[i]; i++) {
        const uint64_t offset = address - autopsy->info.addresses[i];
        if (offset < end && autopsy_index(autopsy, offset) >= 0) return offset;
    }
    return 0;
}

evh_ref evh_autopsy_relocate(evh_autopsy *autopsy, uint64_t address)
{
    evh_ref ref = {0};
    if (autopsy) ref.offset = autopsy_follow_address(autopsy, address);
    return ref;
}

/* ---- describing ---- */

static void autopsy_add_address(evh_autopsy_info *info, uint64_t address)
{
    assert(info != NULL);
    if (address == 0) return;
    for (unsigned i = 0; i + 1 < EVH_ADDRESSES; i++) {
        if (info->addresses[i] == address) return;
        if (info->addresses[i]) continue;
        info->addresses[i] = address;
        return;
    }
}

static void autopsy_collect_addresses(evh_autopsy *autopsy, const evh_autopsy_options *options)
{
    const struct region *region = autopsy->heap->region;
    assert(autopsy->info.addresses[0] == 0);
    /* This process stored nothing in a copy: where that is comes last. */
    if (!autopsy->owns_heap)
        autopsy_add_address(&autopsy->info, (uint64_t)(uintptr_t)autopsy->heap->view.base);
    if (region) {
        const struct region_header *header = &region->header;
        for (unsigned i = 0; i < sizeof header->earlier_addresses / sizeof(uint64_t); i++)
            autopsy_add_address(&autopsy->info, header->earlier_addresses[i]);
        autopsy_add_address(&autopsy->info, header->preferred_address);
    }
    for (unsigned i = 0; options && i < 4; i++)
        autopsy_add_address(&autopsy->info, options->addresses[i]);
}

static bool autopsy_last_commit(const evh_commit_info *commit, void *context)
{
    evh_autopsy_info *info = context;
    assert(commit != NULL);
    info->changed_ns = commit->time_ns;
    return true;
}

static void autopsy_count(evh_autopsy *autopsy)
{
    evh_autopsy_info *info = &autopsy->info;
    assert(info->blocks == 0);
    for (uint64_t i = 0; i < autopsy->count; i++) {
        const struct autopsy_object *object = &autopsy->objects[i];
        info->blocks++;
        info->block_bytes += object->size;
        if (evh_type_get(autopsy->heap, object->type)) info->typed++;
        if (object->root >= 0) {
            info->reached++;
            info->reached_bytes += object->size;
        } else if (object->root == EVH_INTERNAL_ROOT) {
            info->internal++;
            info->internal_bytes += object->size;
        } else {
            info->orphans++;
            info->orphan_bytes += object->size;
        }
    }
    assert(info->blocks == autopsy->count);
}

static bool autopsy_count_dangling(const evh_dangling *dangling, void *context)
{
    evh_autopsy_info *info = context;
    (void)dangling;
    assert(info != NULL);
    info->dangling++;
    return true;
}

/* Fill an autopsy whose heap is open. */
static evh_status autopsy_fill(evh_autopsy *autopsy, const evh_autopsy_options *options)
{
    evh_heap *heap = autopsy->heap;
    assert(heap != NULL);
    assert(autopsy->count == 0);
    if (evh_get_info(heap, &autopsy->info.heap)) {
        autopsy->info.heap = (evh_info){0};
        autopsy_note_damage(autopsy);
    }
    autopsy_collect_addresses(autopsy, options);
    (void)evh_log(heap, autopsy_last_commit, &autopsy->info);
    if (evh_walk(heap, autopsy_collect, autopsy)) autopsy_note_damage(autopsy);
    if (autopsy->status == EVH_CORRUPT) {
        autopsy_note_damage(autopsy);
        autopsy->status = EVH_OK;
    }
    if (!autopsy->status) autopsy->status = autopsy_index_pages(autopsy);
    if (!autopsy->status) autopsy->status = autopsy_collect_roots(autopsy);
    if (!autopsy->status) autopsy->status = reach_all(autopsy);
    if (autopsy->status) return autopsy->status;
    autopsy_count(autopsy);
    evh_autopsy_dangling(autopsy, autopsy_count_dangling, &autopsy->info);
    return EVH_OK;
}

/* ---- opening ---- */

static evh_autopsy *autopsy_new(void)
{
    evh_autopsy *autopsy = os->memory_allocate(sizeof *autopsy);
    if (!autopsy) {
        (void)base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory for an autopsy");
        return NULL;
    }
    autopsy->copy_file = -1;
    assert(autopsy->count == 0);
    return autopsy;
}

/* Read all of a file into one that only this process has. */
static evh_status autopsy_copy(const char *path, int file, uint64_t size, int *copy)
{
    enum { CHUNK_BYTES = 1 << 20 };
    int error = os_memory_file(copy);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: no memory to read it", path);
    unsigned char *chunk = os->memory_allocate(CHUNK_BYTES);
    error = chunk ? os->truncate(*copy, size) : ENOMEM;
    assert(*copy >= 0);
    for (uint64_t at = 0; at < size && !error; at += CHUNK_BYTES) {
        size_t done = 0;
        error = os->read(file, at, chunk, CHUNK_BYTES, &done);
        assert(done <= CHUNK_BYTES);
        if (!error && done > 0 && !heap_is_zero(chunk, done))
            error = os->write(*copy, at, chunk, base_min(done, size - at));
    }
    os->memory_free(chunk);
    if (!error) return EVH_OK;
    (void)os->close(*copy);
    *copy = -1;
    return base_fail_os(error, NO_OFFSET, "%s: cannot read it into memory", path);
}

/* Whether anybody has the file open for writing, or is attached to it. */
static bool autopsy_is_in_use(int file)
{
    bool is_writing = false, is_attached = false;
    assert(file >= 0);
    (void)os->lock_is_taken(file, REGION_LOCK_WRITER, 1, &is_writing);
    (void)os->lock_is_taken(file, REGION_LOCK_ATTACHED, 1, &is_attached);
    return is_writing || is_attached;
}

/* What the status page says, if it is one. A label, for people. */
static void autopsy_read_status(evh_autopsy *autopsy, int file)
{
    struct region_status status;
    size_t done = 0;
    assert(file >= 0);
    assert(autopsy != NULL);
    if (os->read(file, REGION_STATUS_OFFSET, &status, sizeof status, &done) ||
        done < sizeof status || status.magic != REGION_STATUS_MAGIC ||
        base_crc32c(0, &status, offsetof(struct region_status, crc)) != status.crc)
        return;
    autopsy->info.writer_process = status.writer_process;
    autopsy->info.opened_ns = status.opened_ns;
}

/* Decide how the file is opened: `*opened` is the path to open. */
static evh_status autopsy_prepare(evh_autopsy *autopsy, const char *path, uint64_t copy_max_bytes,
                                  char copy_path[OS_FILE_PATH_SIZE], const char **opened)
{
    int file = -1;
    struct os_file_info info = {0};
    evh_status status = EVH_OK;
    *opened = path;
    assert(autopsy->copy_file < 0);
    int error = os->open(path, 0, 0, &file);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot open it", path);
    error = os->information(file, &info);
    autopsy->info.is_in_use = !error && autopsy_is_in_use(file);
    if (!error) autopsy_read_status(autopsy, file);
    if (!error && info.is_regular && !autopsy->info.is_in_use && info.size_bytes > 0 &&
        info.size_bytes <= copy_max_bytes) {
        status = autopsy_copy(path, file, info.size_bytes, &autopsy->copy_file);
        if (!status && os_path_of_file(autopsy->copy_file, copy_path)) {
            *opened = copy_path;
            autopsy->info.is_copy = true;
        }
    }
    (void)os->close(file);
    return status;
}

/* The last error named the copy: it is to name the file. */
static void autopsy_rename_error(const char *copy_path, const char *path)
{
    const evh_error why = *evh_last_error();
    const size_t size = strlen(copy_path);
    assert(why.status != EVH_OK);
    if (strncmp(why.message, copy_path, size) != 0) return;
    (void)base_fail(why.status, why.offset, "%s%s", path, why.message + size);
    assert(evh_last_error()->status == why.status);
}

static evh_heap *autopsy_open_heap(const char *path, uint64_t commit_sequence)
{
    assert(path != NULL);
    const evh_options options = {
        .mode = EVH_READ_ONLY, .must_exist = true, .commit_sequence = commit_sequence};
    return evh_open(path, &options);
}

evh_autopsy *evh_autopsy_open(const char *path, const evh_autopsy_options *options)
{
    char copy_path[OS_FILE_PATH_SIZE] = "";
    const char *opened = path;
    if (!path) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "no path: it is null");
        return NULL;
    }
    evh_autopsy *autopsy = autopsy_new();
    if (!autopsy) return NULL;
    const uint64_t asked = options ? options->copy_max_bytes : 0;
    evh_status status =
        autopsy_prepare(autopsy, path, asked ? asked : AUTOPSY_COPY_BYTES, copy_path, &opened);
    if (!status) {
        autopsy->heap = autopsy_open_heap(opened, options ? options->commit_sequence : 0);
        autopsy->owns_heap = true;
        if (!autopsy->heap) status = evh_last_error()->status;
    }
    if (!status) status = autopsy_fill(autopsy, options);
    if (!status) return autopsy;
    autopsy_rename_error(copy_path[0] ? copy_path : path, path);
    const evh_error why = *evh_last_error();
    evh_autopsy_close(autopsy);
    (void)base_fail(why.status, why.offset, "%s", why.message);
    return NULL;
}

evh_autopsy *evh_autopsy_of(evh_heap *heap, const evh_autopsy_options *options)
{
    if (!heap) {
        (void)base_fail(EVH_INVALID, NO_OFFSET, "no heap: it is null");
        return NULL;
    }
    evh_autopsy *autopsy = autopsy_new();
    if (!autopsy) return NULL;
    autopsy->heap = heap;
    assert(!autopsy->owns_heap);
    if (!autopsy_fill(autopsy, options)) return autopsy;
    evh_autopsy_close(autopsy);
    return NULL;
}

void evh_autopsy_close(evh_autopsy *autopsy)
{
    if (!autopsy) return;
    assert(autopsy->count <= autopsy->capacity);
    assert(autopsy->queue == NULL);
    if (autopsy->owns_heap) (void)evh_close(autopsy->heap);
    if (autopsy->copy_file >= 0) (void)os->close(autopsy->copy_file);
    os->memory_free(autopsy->objects);
    os->memory_free(autopsy->page_first);
    os->memory_free(autopsy->roots);
    os->memory_free(autopsy);
}

evh_heap *evh_autopsy_heap(evh_autopsy *autopsy)
{
    assert(!autopsy || autopsy->heap != NULL);
    return autopsy ? autopsy->heap : NULL;
}

void evh_autopsy_describe(evh_autopsy *autopsy, evh_autopsy_info *info)
{
    assert(info != NULL);
    *info = autopsy ? autopsy->info : (evh_autopsy_info){0};
}

/* ---- objects ---- */

/* What a block without a type begins with. */
static const char *autopsy_kind(const evh_autopsy *autopsy, const struct autopsy_object *object)
{
    uint64_t word = 0;
    assert(object->size > 0);
    const unsigned char *bytes = autopsy_bytes(autopsy, object);
    memcpy(&word, bytes, base_min(object->size, sizeof word));
    if (word == (JSON_MAGIC ^ object->offset) || word == JSON_MAGIC) return "json";
    if (word == HEAP_CATALOG_MAGIC) return "catalog";
    const uint32_t low = (uint32_t)word;
    const uint32_t kind = low >> 16 & 0xff;
    if (low != COLLECT_WORD(kind, 1)) return "block";
    switch (kind) {
    case COLLECT_HASH_PART: return "hash part";
    case COLLECT_TREE_LEAF: return "tree leaf";
    case COLLECT_TREE_INNER: return "tree node";
    case 0: return "block";
    default: return kind <= COLLECT_BITSET ? evh_kind_name((evh_kind)kind) : "block";
    }
}

EVH_INTERNAL evh_object autopsy_tell(evh_autopsy *autopsy, uint64_t index)
{
    assert(index < autopsy->count);
    const struct autopsy_object *object = &autopsy->objects[index];
    const evh_type *type = evh_type_get(autopsy->heap, object->type);
    evh_object told = {
        .ref = {object->offset},
        .size = object->size,
        .bytes = autopsy_bytes(autopsy, object),
        .type = type ? object->type : 0,
        .kind = type ? type->name : autopsy_kind(autopsy, object),
        .root = object->root,
        .depth = object->depth,
        .references = object->references,
    };
    assert(told.kind != NULL);
    if (object->parent >= 0) told.parent.offset = autopsy->objects[object->parent].offset;
    return told;
}

void evh_autopsy_each(evh_autopsy *autopsy, evh_object_visit *visit, void *context)
{
    if (!autopsy || !visit) return;
    assert(autopsy->heap != NULL);
    for (uint64_t i = 0; i < autopsy->count; i++) {
        const evh_object object = autopsy_tell(autopsy, i);
        if (!visit(&object, context)) return;
    }
}

bool evh_autopsy_find(evh_autopsy *autopsy, evh_ref ref, evh_object *object)
{
    assert(object != NULL);
    *object = (evh_object){0};
    const int64_t index = autopsy ? autopsy_index(autopsy, ref.offset) : AUTOPSY_NONE;
    if (index < 0) return false;
    *object = autopsy_tell(autopsy, (uint64_t)index);
    return true;
}

const evh_root_info *evh_autopsy_root(evh_autopsy *autopsy, int64_t index)
{
    if (!autopsy || index < 0 || index >= autopsy->root_count) return NULL;
    assert(autopsy->roots != NULL);
    return &autopsy->roots[index];
}
