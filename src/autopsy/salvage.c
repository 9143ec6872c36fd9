/* salvage.c -- a damaged heap becomes a sound one in memory, where everything lies as it lay; then
 * it is opened, its roots and documents are looked at, and it is saved under another name.
 */
#include "autopsy/salvage.h"

#include <stdio.h>

#define SALVAGE_BYTES_MAX (64ull << 30) /* of a file, or a heap that a header claims */

EVH_INTERNAL void salvage_note(struct salvage *salvage, evh_salvage_kind kind, uint64_t offset,
                               uint64_t size, const char *format, ...)
{
    char message[256];
    va_list arguments;
    assert(format != NULL);
    if (kind == EVH_SALVAGE_LOST) salvage->result.is_lossless = false;
    if (!salvage->visit || salvage->is_stopped) return;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    const evh_salvage_note note = {kind, offset, size, message};
    salvage->is_stopped = !salvage->visit(&note, salvage->context);
}

/* ---- reading ---- */

static evh_status salvage_read(struct salvage *salvage)
{
    struct os_file_info info = {0};
    int file = -1;
    size_t done = 0;
    int error = os->open(salvage->path, 0, 0, &file);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot open it", salvage->path);
    error = os->information(file, &info);
    evh_status status = EVH_OK;
    if (!error && (!info.is_regular || info.size_bytes > SALVAGE_BYTES_MAX))
        status = base_fail(info.is_regular ? EVH_LIMIT : EVH_NOT_FILE, NO_OFFSET,
                           "%s: no regular file of up to 64 GiB", salvage->path);
    if (!error && !status && info.size_bytes < PAGE_BYTES)
        status = base_fail(EVH_NOT_HEAP, 0, "%s: no heap: too short", salvage->path);
    if (!error && !status) {
        salvage->file_bytes = info.size_bytes;
        salvage->bytes_size =
            base_max(base_round_up(info.size_bytes, SLICE_BYTES), REGION_NEW_BYTES);
        salvage->bytes = os->memory_allocate(salvage->bytes_size);
        error = salvage->bytes ? os->read(file, 0, salvage->bytes, info.size_bytes, &done) : ENOMEM;
    }
    (void)os->close(file);
    if (error) return base_fail_os(error, 0, "%s: cannot read it", salvage->path);
    assert(status || done <= salvage->bytes_size);
    return status;
}

/* The heap may be longer than what is left of the file. */
static evh_status salvage_make_room(struct salvage *salvage)
{
    uint64_t end = salvage->heap_bytes;
    assert(salvage->bytes != NULL);
    for (unsigned i = 0; i < REGION_EXTENT_MAX; i++) {
        const struct region_extent extent = salvage->header.extents[i];
        end = base_max(end, ((uint64_t)extent.first_slice + extent.slice_count) << SLICE_SHIFT);
    }
    if (end > SALVAGE_BYTES_MAX || end > 16 * salvage->file_bytes + SEGMENT_BYTES)
        return base_fail(EVH_LIMIT, 0, "%s: a heap of %llu bytes in a file of %llu", salvage->path,
                         (unsigned long long)end, (unsigned long long)salvage->file_bytes);
    if (end > salvage->bytes_size) {
        unsigned char *grown = os->memory_resize(salvage->bytes, end);
        if (!grown) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory", salvage->path);
        memset(grown + salvage->bytes_size, 0, end - salvage->bytes_size);
        salvage->bytes = grown;
        salvage->bytes_size = end;
        salvage_note(salvage, EVH_SALVAGE_LOST, salvage->file_bytes, end - salvage->file_bytes,
                     "the file ends here, the heap did not");
    }
    salvage->page_count = salvage->heap_bytes >> PAGE_SHIFT;
    salvage->pages = os->memory_allocate(salvage->page_count);
    if (!salvage->pages) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory", salvage->path);
    return EVH_OK;
}

/* ---- the new heap ---- */

/* Roots whose block is gone, and chunks of the catalog that are. */
static evh_status salvage_roots(struct salvage *salvage, evh_heap *heap)
{
    uint64_t size = 0;
    assert(heap->is_writable);
    if (!heap_block_at(heap, salvage->catalog, &size) || size < sizeof(struct heap_catalog) ||
        ((struct heap_catalog *)(void *)(heap->view.base + salvage->catalog))->magic !=
            HEAP_CATALOG_MAGIC) {
        salvage_note(salvage, EVH_SALVAGE_LOST, salvage->catalog, 0,
                     "the catalog: all roots have lost their names");
        salvage->result.lost_roots++;
        return roots_create(heap);
    }
    struct heap_catalog *catalog = (void *)(heap->view.base + salvage->catalog);
    catalog->root_count = 0;
    for (unsigned i = 0; i < HEAP_ROOT_CHUNKS; i++) {
        const uint64_t entries = (uint64_t)HEAP_ROOT_FIRST << i;
        const uint64_t offset = catalog->root_chunks[i].offset;
        if (offset == 0) break;
        if (!heap_block_at(heap, offset, &size) || size < entries * sizeof(struct heap_root)) {
            void *block = evh_calloc(heap, entries, sizeof(struct heap_root));
            if (!block) return evh_last_error()->status;
            catalog->root_chunks[i] = evh_ref_to(heap, block);
            catalog->root_filled[i] = 0;
            salvage->result.lost_roots++;
            salvage_note(salvage, EVH_SALVAGE_LOST, offset, 0, "up to %llu roots",
                         (unsigned long long)entries);
            continue;
        }
        struct heap_root *roots = (void *)(heap->view.base + offset);
        uint32_t filled = 0;
        for (uint64_t k = 0; k < entries; k++) {
            struct heap_root *root = &roots[k];
            if (root->hash == 0) continue;
            filled++;
            if (root->hash == 1) continue;
            if (heap_block_at(heap, root->block.offset, &size) && size >= root->size) {
                catalog->root_count++;
                continue;
            }
            salvage->result.lost_roots++;
            salvage_note(salvage, EVH_SALVAGE_LOST, root->block.offset, root->size,
                         "the root \"%.63s\"", root->name);
            *root = (struct heap_root){.hash = 1};
        }
        catalog->root_filled[i] = filled;
    }
    return EVH_OK;
}

static bool salvage_clear_ref(const evh_dangling *dangling, void *context)
{
    struct salvage *salvage = context;
    if (dangling->kind != EVH_DANGLING_FREE) return true;
    assert(dangling->field.size == sizeof(uint64_t));
    /* The heap is private and writable: the autopsy's bytes are its own. */
    memset((void *)(uintptr_t)dangling->field.bytes, 0, sizeof(uint64_t));
    salvage->result.cleared_refs++;
    return true;
}

/* References of typed objects that name what is gone become null. */
static evh_status salvage_clear_refs(struct salvage *salvage, evh_heap *heap)
{
    evh_autopsy *autopsy = evh_autopsy_of(heap, NULL);
    assert(heap->is_writable);
    if (!autopsy) return evh_last_error()->status;
    evh_autopsy_info info;
    evh_autopsy_describe(autopsy, &info);
    if (salvage->result.bad_pages > 0) evh_autopsy_dangling(autopsy, salvage_clear_ref, salvage);
    salvage->result.blocks = info.blocks;
    salvage->result.block_bytes = info.block_bytes;
    evh_autopsy_close(autopsy);
    return EVH_OK;
}

/* Documents that are not sound any more are written as text. */
static evh_status salvage_documents(struct salvage *salvage, evh_heap *heap, const char *target)
{
    evh_root_info root = {0};
    bool is_found = true;
    assert(target != NULL);
    while (!roots_next(heap, &root, &is_found) && is_found) {
        uint64_t size = 0, magic = 0;
        if (!root.name[0] || !heap_block_at(heap, root.block.offset, &size) || size < 8) continue;
        memcpy(&magic, heap->view.base + root.block.offset, sizeof magic);
        if (magic != JSON_MAGIC && magic != (JSON_MAGIC ^ root.block.offset)) continue;
        salvage->result.documents++;
        evh_json *json = evh_json_open(heap, root.name);
        const bool is_sound = json && evh_json_check(json) == EVH_OK;
        evh_json_close(json);
        if (is_sound) continue;
        char path[1024];
        uint64_t kept = 0, lost = 0;
        if (snprintf(path, sizeof path, "%s.%s.json", target, root.name) >= (int)sizeof path ||
            strchr(root.name, '/'))
            (void)snprintf(path, sizeof path, "%.900s.%llx.json", target,
                           (unsigned long long)root.block.offset);
        const evh_status status = salvage_document(heap, root.name, path, &kept, &lost);
        salvage->result.document_values += kept;
        salvage->result.lost_values += lost;
        if (status)
            salvage_note(salvage, EVH_SALVAGE_LOST, root.block.offset, 0, "the document \"%s\": %s",
                         root.name, evh_last_error()->message);
        else
            salvage_note(salvage, EVH_SALVAGE_WROTE, root.block.offset, 0,
                         "%s: %llu values, %llu lost", path, (unsigned long long)kept,
                         (unsigned long long)lost);
        if (lost) salvage->result.is_lossless = false;
    }
    return EVH_OK;
}

/* Whether there is such a file: salvage never writes over one. */
static evh_status salvage_check_target(const char *target)
{
    struct os_file_info info;
    assert(target != NULL);
    const int error = os->information_at(target, &info);
    if (error == ENOENT) return EVH_OK;
    if (!error) return base_fail(EVH_EXISTS, NO_OFFSET, "%s: it exists already", target);
    return base_fail_os(error, NO_OFFSET, "%s: cannot write there", target);
}

/* Write the mended image into memory that can be opened by a path. */
static evh_status salvage_open_image(const struct salvage *salvage, int *file, evh_heap **heap)
{
    char path[OS_FILE_PATH_SIZE] = "";
    const evh_options options = {
        .mode = EVH_PRIVATE, .must_exist = true, .misuse = EVH_MISUSE_STATUS};
    int error = os_memory_file(file);
    if (!error) error = os->truncate(*file, salvage->bytes_size);
    if (!error) error = os->write(*file, 0, salvage->bytes, salvage->bytes_size);
    if (!error && !os_path_of_file(*file, path)) error = ENOSYS;
    if (error) return base_fail_os(error, NO_OFFSET, "%s: no memory", salvage->path);
    assert(path[0] != 0);
    *heap = evh_open(path, &options);
    return *heap ? EVH_OK : evh_last_error()->status;
}

/* What is given out as sound is checked as a stranger would; else it is taken away again. */
static evh_status salvage_check_saved(const char *target)
{
    const evh_options options = {.mode = EVH_READ_ONLY, .must_exist = true, .verify = true};
    evh_heap *heap = evh_open(target, &options);
    assert(target != NULL);
    evh_status status = heap ? evh_check(heap, NULL, NULL) : evh_last_error()->status;
    const evh_error why = *evh_last_error();
    (void)evh_close(heap);
    if (!status) return EVH_OK;
    (void)os->remove(target);
    return base_fail(status, why.offset, "%s", why.message);
}

static evh_status salvage_finish(struct salvage *salvage, const char *target)
{
    int file = -1;
    evh_heap *heap = NULL;
    assert(target != NULL);
    evh_status status = salvage_open_image(salvage, &file, &heap);
    assert(status || heap);
    if (!status) status = salvage_roots(salvage, heap);
    if (!status) status = salvage_clear_refs(salvage, heap);
    if (!status) status = salvage_documents(salvage, heap, target);
    if (!status) status = evh_check(heap, NULL, NULL);
    if (!status) status = evh_save(heap, target);
    if (!status) status = salvage_check_saved(target);
    const evh_error why = *evh_last_error();
    (void)evh_close(heap);
    if (file >= 0) (void)os->close(file);
    return status ? base_fail(status, why.offset, "%s", why.message) : EVH_OK;
}

/* A live heap has neither journal nor checksums: what can be opened is saved. */
static evh_status salvage_live(struct salvage *salvage, const char *target)
{
    int file = -1;
    evh_heap *heap = NULL;
    assert(salvage->header.mode == EVH_LIVE);
    evh_status status = salvage_open_image(salvage, &file, &heap);
    assert(status || heap);
    if (!status) status = salvage_clear_refs(salvage, heap);
    if (!status) status = evh_save(heap, target);
    if (!status) status = salvage_check_saved(target);
    const evh_error why = *evh_last_error();
    (void)evh_close(heap);
    if (file >= 0) (void)os->close(file);
    return status ? base_fail(status, why.offset, "%s", why.message) : EVH_OK;
}

evh_status evh_salvage(const char *source, const char *target, evh_salvage_visit *visit,
                       void *context, evh_salvage_result *result)
{
    if (!source || !target)
        return base_fail(EVH_INVALID, NO_OFFSET, "no path to salvage from, or to: null");
    struct salvage salvage = {.path = source, .visit = visit, .context = context};
    salvage.result.is_lossless = true;
    evh_status status = salvage_check_target(target);
    if (!status) status = salvage_read(&salvage);
    if (!status) status = salvage_header(&salvage);
    if (!status) status = salvage_make_room(&salvage);
    if (!status && salvage.header.mode == EVH_LIVE) {
        status = salvage_live(&salvage, target);
    } else if (!status) {
        salvage_journal(&salvage);
        salvage_checksums(&salvage);
        status = salvage_slices(&salvage);
        if (!status) status = salvage_seal(&salvage);
        if (!status) status = salvage_finish(&salvage, target);
    }
    if (result) *result = salvage.result;
    os->memory_free(salvage.bytes);
    os->memory_free(salvage.pages);
    os->memory_free(salvage.type_sizes);
    os->memory_free(salvage.wanted);
    return status;
}
