/* os_sim_memory.c -- the simulated machine's calls for maps, dirty pages, memory, chance and
 * time. */
#include "support/os_sim_machine.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* ---- maps: the kernel's own, of the memfd ---- */

static int call_reserve(uint64_t size, uint64_t alignment, uint64_t preferred, void **address)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (sim_fault(SIM_FAULT_MEMORY)) return ENOMEM;
    if (preferred) {
        void *wanted = (void *)(uintptr_t)preferred;
        void *got = mmap(wanted, size, PROT_NONE, flags | MAP_FIXED_NOREPLACE, -1, 0);
        if (got == wanted) {
            *address = got;
            sim->counts.reservations++;
            return 0;
        }
        if (got != MAP_FAILED) munmap(got, size);
    }
    if (size > UINT64_MAX - alignment) return ENOMEM;
    unsigned char *got = mmap(NULL, size + alignment, PROT_NONE, flags, -1, 0);
    if (got == MAP_FAILED) return ENOMEM;
    const uint64_t before = base_round_up((uintptr_t)got, alignment) - (uintptr_t)got;
    if (before) munmap(got, before);
    if (alignment > before) munmap(got + before + size, alignment - before);
    *address = got + before;
    sim->counts.reservations++;
    return 0;
}

static int call_map(void *address, uint64_t size, enum os_map_kind kind, int number,
                    uint64_t offset)
{
    if (sim_fault(SIM_FAULT_MEMORY)) return ENOMEM;
    int protection = PROT_READ | PROT_WRITE;
    int flags = MAP_FIXED | MAP_NORESERVE | MAP_PRIVATE;
    int memory = -1;
    sim->counts.maps++;
    if (kind == OS_MAP_NOTHING) protection = PROT_NONE;
    if (kind == OS_MAP_SHARED) return ENOTSUP; /* live heaps are no business of its disk */
    if (kind == OS_MAP_SHARED_READ) {
        protection = PROT_READ;
        flags = MAP_FIXED | MAP_NORESERVE | MAP_SHARED;
    }
    if (kind == OS_MAP_PRIVATE || kind == OS_MAP_SHARED_READ) {
        const struct sim_file *file = &sim->files[sim_descriptor_at(number)->file];
        if (offset + size > base_round_up(file->size, PAGE_BYTES))
            sim_die("a map beyond the end of the file: loads from it would be SIGBUS");
        memory = file->memory;
    } else {
        flags |= MAP_ANONYMOUS;
        offset = 0;
    }
    void *got = mmap(address, size, protection, flags, memory, (off_t)offset);
    return got == MAP_FAILED ? errno : 0;
}

static int call_protect(void *address, uint64_t size, bool is_writable)
{
    const int protection = is_writable ? PROT_READ | PROT_WRITE : PROT_READ;
    return mprotect(address, size, protection) ? errno : 0;
}

static uint64_t call_page_bytes(void)
{
    return sim->page_bytes ? sim->page_bytes : PAGE_BYTES;
}

/* As a kernel does it: whole pages, of those that are touched at all. */
static int call_discard(void *address, uint64_t size)
{
    const uint64_t page = call_page_bytes();
    if ((uintptr_t)address % page != 0) return EINVAL;
    return madvise(address, base_round_up(size, page), MADV_DONTNEED) ? errno : 0;
}

static int call_release(void *address, uint64_t size)
{
    sim->counts.reservations--;
    return munmap(address, size) ? errno : 0;
}

/* ---- dirty pages: every page, or the real tiers ---- */

enum { SIM_RUN_MAX = 64 };

struct sim_watch {
    struct os_watch *real; /* NULL: every page */
    struct os_pages added[SIM_RUN_MAX], runs[SIM_RUN_MAX];
    size_t added_count;
};

static struct sim_watch *watch_of(struct os_watch *watch)
{
    return (struct sim_watch *)(void *)watch;
}

static int call_watch_open(void *base, uint64_t reserved_bytes, evh_detect detect, bool guards,
                           struct os_watch **watch)
{
    struct sim_watch *mine = calloc(1, sizeof *mine);
    if (!mine) return ENOMEM;
    if (!sim->compare && detect != EVH_DETECT_COMPARE) {
        const int error = os_linux()->watch_open(base, reserved_bytes, detect, guards, &mine->real);
        if (error) {
            free(mine);
            return error;
        }
    }
    *watch = (struct os_watch *)(void *)mine;
    return 0;
}

static void call_watch_close(struct os_watch *watch)
{
    if (!watch) return;
    if (watch_of(watch)->real) os_linux()->watch_close(watch_of(watch)->real);
    free(watch_of(watch));
}

static evh_detect call_watch_tier(const struct os_watch *watch)
{
    const struct sim_watch *mine = (const struct sim_watch *)(const void *)watch;
    return mine->real ? os_linux()->watch_tier(mine->real) : EVH_DETECT_COMPARE;
}

static int call_watch_add(struct os_watch *watch, uint64_t offset, uint64_t size)
{
    struct sim_watch *mine = watch_of(watch);
    if (mine->real) return os_linux()->watch_add(mine->real, offset, size);
    const struct os_pages pages = {offset / PAGE_BYTES, size / PAGE_BYTES};
    struct os_pages *last = mine->added_count ? &mine->added[mine->added_count - 1] : NULL;
    if (last && last->first + last->count == pages.first) {
        last->count += pages.count;
        return 0;
    }
    if (mine->added_count == SIM_RUN_MAX) sim_die("too many watched runs");
    size_t at = mine->added_count++;
    for (; at > 0 && mine->added[at - 1].first > pages.first; at--)
        mine->added[at] = mine->added[at - 1];
    mine->added[at] = pages;
    return 0;
}

static int call_watch_collect(struct os_watch *watch, uint64_t end, const struct os_pages **runs,
                              size_t *run_count, bool *is_exact)
{
    struct sim_watch *mine = watch_of(watch);
    if (sim_fault(SIM_FAULT_MEMORY)) return ENOMEM;
    if (mine->real) return os_linux()->watch_collect(mine->real, end, runs, run_count, is_exact);
    const uint64_t end_page = end / PAGE_BYTES;
    *run_count = 0;
    for (size_t i = 0; i < mine->added_count; i++) {
        const struct os_pages added = mine->added[i];
        if (added.first >= end_page) continue;
        const uint64_t count = base_min(added.count, end_page - added.first);
        mine->runs[(*run_count)++] = (struct os_pages){added.first, count};
    }
    *runs = mine->runs;
    *is_exact = false;
    return 0;
}

static void call_watch_discarded(struct os_watch *watch, uint64_t offset, uint64_t size)
{
    if (watch_of(watch)->real) os_linux()->watch_discarded(watch_of(watch)->real, offset, size);
}

static int call_watch_touch(struct os_watch *watch, uint64_t offset, uint64_t size)
{
    if (!watch_of(watch)->real) return 0;
    return os_linux()->watch_touch(watch_of(watch)->real, offset, size);
}

/* ---- memory, chance and time ---- */

static void *call_memory_allocate(size_t size)
{
    if (sim_fault(SIM_FAULT_MEMORY)) return NULL;
    void *memory = calloc(1, size);
    if (memory) sim->counts.memory++;
    return memory;
}

static void *call_memory_resize(void *memory, size_t size)
{
    if (sim_fault(SIM_FAULT_MEMORY)) return NULL;
    void *resized = realloc(memory, size);
    if (resized && !memory) sim->counts.memory++;
    return resized;
}

static void call_memory_free(void *memory)
{
    if (memory) sim->counts.memory--;
    free(memory);
}

static void call_random(void *buffer, size_t size)
{
    unsigned char *bytes = buffer;
    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)sim_random_next(&sim->random_state);
}

static uint64_t call_time_ns(void)
{
    return sim->clock_ns += 1000;
}

static uint64_t call_process(void)
{
    return sim->process;
}

static bool call_boot(uint8_t id[16])
{
    memset(id, 0, 16);
    memcpy(id, &sim->boot, sizeof sim->boot);
    return true;
}

void sim_set_boot(struct sim *machine, uint64_t boot)
{
    machine->boot = boot;
}

uint64_t sim_boot(const struct sim *machine)
{
    return machine->boot;
}

void sim_memory_calls(struct os_calls *calls)
{
    calls->reserve = call_reserve;
    calls->map = call_map;
    calls->protect = call_protect;
    calls->page_bytes = call_page_bytes;
    calls->discard = call_discard;
    calls->release = call_release;
    calls->memory_map = os_linux()->memory_map; /* nothing of it reaches a file */
    calls->guard = os_linux()->guard;
    calls->guard_marks = os_linux()->guard_marks;
    calls->discard_later = os_linux()->discard_later;
    calls->find_resident = os_linux()->find_resident;
    calls->watch_open = call_watch_open;
    calls->watch_close = call_watch_close;
    calls->watch_tier = call_watch_tier;
    calls->watch_add = call_watch_add;
    calls->watch_collect = call_watch_collect;
    calls->watch_discarded = call_watch_discarded;
    calls->watch_touch = call_watch_touch;
    calls->memory_allocate = call_memory_allocate;
    calls->memory_resize = call_memory_resize;
    calls->memory_free = call_memory_free;
    calls->random = call_random;
    calls->time_ns = call_time_ns;
    calls->process = call_process;
    calls->boot = call_boot;
}
