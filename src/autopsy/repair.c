/* repair.c -- what can be mended in place without a guess, because the heap itself proves it.
 *
 * All of it is what opening a heap for writing does anyway, once it has recovered the last commit:
 * a header is written into the slot that is damaged, a status page into the place of one that is
 * none. So repair looks what is wrong with these, and then opens the heap, checkpoints it twice
 * (each writes one slot) and closes it. A heap that does not open is for salvage.
 */
#include "autopsy/salvage.h"

#include <stdio.h>

struct repair {
    const char *path;
    evh_salvage_visit *visit;
    void *context;
    uint64_t count;
    bool has_headers; /* something that opening mends */
    bool has_stale;   /* PATH.live */
};

static void repair_note(struct repair *repair, uint64_t offset, uint64_t size, const char *message)
{
    const evh_salvage_note note = {EVH_SALVAGE_FOUND, offset, size, message};
    assert(message != NULL);
    repair->count++;
    if (repair->visit) (void)repair->visit(&note, repair->context);
}

static void repair_look_at_slots(struct repair *repair, int file, uint64_t file_bytes)
{
    assert(file >= 0);
    for (unsigned i = 0; i < REGION_SLOT_COUNT; i++) {
        struct region_header header = {0};
        size_t done = 0;
        const uint64_t offset = (uint64_t)i * REGION_SLOT_STRIDE;
        if (os->read(file, offset, &header, sizeof header, &done) || done < sizeof header) continue;
        if (heap_is_zero(&header, sizeof header)) continue; /* not written yet */
        if (!region_check_header(&header, repair->path, offset, file_bytes)) continue;
        if (evh_last_error()->status != EVH_CORRUPT && evh_last_error()->status != EVH_NOT_HEAP)
            continue; /* a newer version's, or of a longer file: not ours to write over */
        repair->has_headers = true;
        repair_note(repair, offset, sizeof header, "a damaged header slot: write it again");
    }
}

static void repair_look_at_status(struct repair *repair, int file)
{
    struct region_status status = {0};
    size_t done = 0;
    assert(file >= 0);
    if (os->read(file, REGION_STATUS_OFFSET, &status, sizeof status, &done) ||
        done < sizeof status || heap_is_zero(&status, sizeof status))
        return;
    if (status.magic == REGION_STATUS_MAGIC &&
        base_crc32c(0, &status, offsetof(struct region_status, crc)) == status.crc)
        return;
    repair->has_headers = true;
    repair_note(repair, REGION_STATUS_OFFSET, sizeof status,
                "a status page that is none: write a new one");
}

/* The ephemeral file of a live heap that nobody has open. */
static void repair_look_beside(struct repair *repair, char *live_path, size_t size)
{
    struct os_file_info info;
    assert(size > 0);
    if (snprintf(live_path, size, "%s.live", repair->path) >= (int)size) return;
    if (os->information_at(live_path, &info)) return;
    repair->has_stale = true;
    repair_note(repair, NO_OFFSET, info.size_bytes, "a PATH.live that nobody has open: remove it");
}

static evh_status repair_headers(const struct repair *repair)
{
    const evh_options options = {.must_exist = true, .no_thread = true};
    evh_heap *heap = evh_open(repair->path, &options);
    if (!heap) return evh_last_error()->status;
    assert(repair->has_headers);
    evh_status status = EVH_OK;
    /* Each checkpoint of a commit writes the header into the other slot. */
    for (unsigned i = 0; i < REGION_SLOT_COUNT && !status; i++) {
        status = evh_commit(heap);
        if (!status) status = evh_checkpoint(heap);
    }
    const evh_status closed = evh_close(heap);
    return status ? status : closed;
}

evh_status evh_repair(const char *path, bool write, evh_salvage_visit *visit, void *context,
                      uint64_t *count)
{
    if (!path) return base_fail(EVH_INVALID, NO_OFFSET, "no path: it is null");
    struct repair repair = {.path = path, .visit = visit, .context = context};
    struct os_file_info info = {0};
    char live_path[4096];
    int file = -1;
    bool is_taken = false, is_attached = false;
    int error = os->open(path, 0, 0, &file);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot open it", path);
    error = os->information(file, &info);
    if (!error) error = os->lock_is_taken(file, REGION_LOCK_WRITER, 1, &is_taken);
    if (!error) error = os->lock_is_taken(file, REGION_LOCK_ATTACHED, 1, &is_attached);
    if (!error && !is_taken && !is_attached) {
        repair_look_at_slots(&repair, file, info.size_bytes);
        repair_look_at_status(&repair, file);
        repair_look_beside(&repair, live_path, sizeof live_path);
    }
    (void)os->close(file);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot read it", path);
    if (is_taken || is_attached)
        return base_fail(EVH_BUSY, NO_OFFSET, "%s: somebody has it open", path);
    if (count) *count = repair.count;
    evh_status status = EVH_OK;
    if (write && repair.has_headers) status = repair_headers(&repair);
    if (write && repair.has_stale && !status) {
        error = os->remove(live_path);
        if (error) status = base_fail_os(error, NO_OFFSET, "%s: cannot remove it", live_path);
    }
    return status;
}
