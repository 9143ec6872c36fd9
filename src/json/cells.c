/* cells.c -- structures of one size that never move, known by number. */
#include "json/json.h"

/* Add a slab; its first cell is its header. */
static evh_status cell_grow(struct evh_json *json, struct json_cells *cells, uint32_t shift)
{
    assert(shift == JSON_CONTAINER_SHIFT || shift == JSON_REF_SHIFT);
    assert(cells == &json->root->containers || cells == &json->root->refs);
    const uint32_t per_slab = 1u << (JSON_SLAB_SHIFT - shift);
    if (cells->slab_count >= UINT32_MAX / per_slab)
        return base_fail(EVH_LIMIT, NO_OFFSET, "json: too many containers");
    if (cells->slab_count == cells->slab_capacity) {
        const uint32_t capacity = cells->slab_capacity ? 2 * cells->slab_capacity : 4;
        void *grown = NULL;
        const uint64_t directory = json_allocate(json, 8ull * capacity, &grown);
        if (!directory) return evh_last_error()->status;
        const void *old = json_at(json, cells->directory, 8ull * cells->slab_count);
        memset(grown, 0, 8ull * capacity);
        if (old) memcpy(grown, old, 8ull * cells->slab_count);
        if (old) (void)json_free(json, cells->directory);
        cells->directory = directory;
        cells->slab_capacity = capacity;
    }
    uint64_t *directory = json_at(json, cells->directory, 8ull * cells->slab_capacity);
    if (!directory || cells->slab_count > cells->slab_capacity)
        return json_corrupt(cells->directory, "a directory of cells outside the heap");
    void *address = NULL;
    const uint64_t slab = json_allocate_aligned(json, JSON_SLAB_BYTES, &address);
    if (!slab) return evh_last_error()->status;
    memset(address, 0, JSON_SLAB_BYTES);
    struct json_cell_slab *header = address;
    header->magic = JSON_MAGIC ^ slab;
    header->number = cells->slab_count;
    header->cell_bytes = 1u << shift;
    cells->fresh = cells->slab_count * per_slab + 1;
    assert(slab % JSON_SLAB_BYTES == 0);
    directory[cells->slab_count++] = slab;
    return EVH_OK;
}

uint32_t cell_take(struct evh_json *json, struct json_cells *cells, uint32_t shift, void **cell)
{
    assert(shift == JSON_CONTAINER_SHIFT || shift == JSON_REF_SHIFT);
    assert(cell != NULL);
    uint32_t number = cells->free_first;
    if (number) {
        *cell = cell_at(json, cells, number, shift);
        if (!*cell) {
            (void)json_corrupt(cells->directory, "a free cell that does not exist");
            return 0;
        }
        const struct json_container *container = *cell;
        const struct json_ref *ref = *cell;
        const bool is_container = shift == JSON_CONTAINER_SHIFT;
        if (is_container ? container->kind != JSON_KIND_FREE : ref->state != JSON_REF_FREE) {
            (void)json_corrupt(json_offset(json, *cell), "a cell in use among those that are free");
            return 0;
        }
        cells->free_first = is_container ? (uint32_t)container->body : ref->owner;
        cells->used_count++;
        return number;
    }
    if ((uint64_t)cells->fresh >= (uint64_t)cells->slab_count << (JSON_SLAB_SHIFT - shift) &&
        cell_grow(json, cells, shift))
        return 0;
    number = cells->fresh++;
    *cell = cell_at(json, cells, number, shift);
    if (!*cell) {
        cells->fresh--;
        (void)json_corrupt(cells->directory, "a slab of cells outside the heap");
        return 0;
    }
    cells->used_count++;
    return number;
}
