/* os_watch_protect.c -- dirty pages by write protection and SIGSEGV: tier PROTECT, and guards.
 *
 * The mapping is read-only; the first store into a slice of 64 KiB raises a signal, whose handler
 * notes it and makes the slice writable. A collect walks the words of the granules (2 MiB) and
 * makes what is open read-only again. With guards, where coarse is good enough, the fifth slice
 * opens its whole granule: 66 us when all its pages are resident, against 5.5 us for a slice.
 *
 * Each opened slice splits the kernel's list of mappings, which is limited (vm.max_map_count). Half
 * of the limit is ours: beyond it the handler opens whole granules, and if the kernel refuses that
 * too, everything at once. Coarser is never wrong, only slower.
 *
 * The handler runs at any moment in any thread, so it takes no locks and allocates nothing: it
 * finds the mapping in a table of slots that are read with a sequence count, and changes only words
 * of `granules`, atomically. Signals that are not ours go to the handler that was there before.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/os_watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

enum {
    PROTECT_SLOTS = 1024,
    PROTECT_GUARD_SLICES = 4, /* opened one by one in a granule, with guards */
};

/* Where the handler looks up an address. `sequence` is odd while the slot changes. */
struct protect_slot {
    uint32_t sequence;
    uintptr_t base;
    uintptr_t end; /* 0: the slot is free */
    struct os_watch *watch;
};

static struct protect_slot protect_slots[PROTECT_SLOTS];
static unsigned protect_slot_count;     /* slots at and above were never used */
static struct sigaction protect_before; /* the handler that was there; set once */
static bool protect_is_installed;
static uint32_t protect_open_slices; /* of all watches: each may have split a mapping */
static uint32_t protect_open_max;    /* beyond it, whole granules */

/* ---- opening and closing slices ---- */

/* The next run of set bits in `mask` at or above bit `*bit`: its length, 0 if there is none. */
static unsigned protect_next_run(uint32_t mask, unsigned *bit)
{
    if (*bit >= WATCH_GRANULE_SLICES) return 0;
    const uint32_t rest = mask >> *bit;
    if (rest == 0) return 0;
    *bit += base_lowest_bit(rest);
    const uint64_t above = ~((uint64_t)mask >> *bit);
    return base_lowest_bit(above);
}

/* mprotect() the slices of `mask` in a granule; 0 or an errno. */
static int protect_slices(const struct os_watch *watch, uint64_t granule, uint32_t mask,
                          int protection)
{
    unsigned bit = 0;
    for (;;) {
        const unsigned length = protect_next_run(mask, &bit);
        if (length == 0) return 0;
        unsigned char *at =
            watch->base + (granule << WATCH_GRANULE_SHIFT) + ((size_t)bit << SLICE_SHIFT);
        if (mprotect(at, (size_t)length << SLICE_SHIFT, protection) != 0) return errno;
        bit += length;
    }
}

/* The last resort: everything becomes writable and so counts as dirty. One call for each range,
 * because whole ranges merge mappings where parts of them would need more. */
static int protect_open_everything(struct os_watch *watch)
{
    __atomic_store_n(&watch->all_open, true, __ATOMIC_SEQ_CST);
    const uint64_t slices = watch->reserved_bytes >> SLICE_SHIFT;
    uint64_t first = 0; /* the range that ends before slice `i` */
    for (uint64_t i = 0; i <= slices; i++) {
        const struct watch_granule *entry = &watch->granules[i / WATCH_GRANULE_SLICES];
        const uint32_t covered = __atomic_load_n(&entry->covered, __ATOMIC_ACQUIRE);
        if (i < slices && (covered >> i % WATCH_GRANULE_SLICES & 1) != 0) continue;
        if (first < i && mprotect(watch->base + (first << SLICE_SHIFT), (i - first) << SLICE_SHIFT,
                                  PROT_READ | PROT_WRITE) != 0) {
            return errno;
        }
        first = i + 1;
        /* A granule without anything mapped is skipped whole. */
        if (covered == 0 && i % WATCH_GRANULE_SLICES == 0) {
            i += WATCH_GRANULE_SLICES - 1;
            first = i + 1;
        }
    }
    return 0;
}

/* Make the slices of `wanted` (a subset of what is covered) writable. Called by the handler. */
static int protect_open_slices_of(struct os_watch *watch, uint64_t granule, uint32_t wanted)
{
    struct watch_granule *entry = &watch->granules[granule];
    const uint32_t covered = __atomic_load_n(&entry->covered, __ATOMIC_ACQUIRE);
    const uint32_t used = __atomic_load_n(&protect_open_slices, __ATOMIC_RELAXED);
    const uint32_t open = __atomic_load_n(&entry->open, __ATOMIC_RELAXED);
    const bool is_busy = watch->has_guards && base_count_bits(open) >= PROTECT_GUARD_SLICES;
    if (is_busy || used >= protect_open_max) wanted = covered;

    for (;;) {
        /* Noted before it is possible: a store never precedes its note. */
        const uint32_t before = __atomic_fetch_or(&entry->open, wanted, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&protect_open_slices, base_count_bits(wanted & ~before),
                           __ATOMIC_RELAXED);
        const int error = protect_slices(watch, granule, wanted, PROT_READ | PROT_WRITE);
        if (error == 0) return 0;
        if (wanted == covered) return protect_open_everything(watch);
        wanted = covered;
    }
}

EVH_INTERNAL int watch_protect_touch(struct os_watch *watch, uint64_t first, uint64_t end)
{
    for (uint64_t at = base_round_down(first, SLICE_BYTES); at < end; at += SLICE_BYTES) {
        const uint64_t granule = at >> WATCH_GRANULE_SHIFT;
        const uint32_t bit = (uint32_t)1 << ((at >> SLICE_SHIFT) % WATCH_GRANULE_SLICES);
        struct watch_granule *entry = &watch->granules[granule];
        if ((__atomic_load_n(&entry->covered, __ATOMIC_ACQUIRE) & bit) == 0) return EFAULT;
        const int error = protect_open_slices_of(watch, granule, bit);
        if (error != 0) return error;
    }
    return 0;
}

EVH_INTERNAL int watch_protect_added(struct os_watch *watch, uint64_t first, uint64_t end)
{
    if (mprotect(watch->base + first, end - first, PROT_READ) != 0) return errno;
    for (uint64_t at = first; at < end; at += SLICE_BYTES) {
        struct watch_granule *entry = &watch->granules[at >> WATCH_GRANULE_SHIFT];
        const uint32_t bit = (uint32_t)1 << ((at >> SLICE_SHIFT) % WATCH_GRANULE_SLICES);
        const uint32_t before = __atomic_fetch_and(&entry->open, ~bit, __ATOMIC_SEQ_CST);
        if ((before & bit) != 0) __atomic_fetch_sub(&protect_open_slices, 1, __ATOMIC_RELAXED);
        __atomic_fetch_or(&entry->covered, bit, __ATOMIC_RELEASE);
    }
    return 0;
}

/* ---- collecting ---- */

EVH_INTERNAL void watch_protect_settle(struct os_watch *watch)
{
    if (!__atomic_exchange_n(&watch->all_open, false, __ATOMIC_SEQ_CST)) return;
    for (size_t i = 0; i < watch->range_count; i++) {
        const uint64_t last = (watch->ranges[i].end - 1) >> WATCH_GRANULE_SHIFT;
        for (uint64_t g = watch->ranges[i].first >> WATCH_GRANULE_SHIFT; g <= last; g++) {
            struct watch_granule *entry = &watch->granules[g];
            const uint32_t covered = __atomic_load_n(&entry->covered, __ATOMIC_RELAXED);
            const uint32_t before = __atomic_exchange_n(&entry->open, covered, __ATOMIC_SEQ_CST);
            __atomic_fetch_add(&protect_open_slices, base_count_bits(covered & ~before),
                               __ATOMIC_RELAXED);
        }
    }
}

EVH_INTERNAL bool watch_protect_next(const struct os_watch *watch, uint64_t first, uint64_t end,
                                     struct watch_range *open)
{
    uint64_t at = first;
    while (at < end) {
        const uint64_t granule = at >> WATCH_GRANULE_SHIFT;
        unsigned bit = (unsigned)((at >> SLICE_SHIFT) % WATCH_GRANULE_SLICES);
        const uint32_t mask = __atomic_load_n(&watch->granules[granule].open, __ATOMIC_RELAXED);
        const unsigned length = protect_next_run(mask, &bit);
        const uint64_t start = granule << WATCH_GRANULE_SHIFT;
        if (length == 0) {
            at = start + WATCH_GRANULE_BYTES;
            continue;
        }
        open->first = base_max(first, start + ((uint64_t)bit << SLICE_SHIFT));
        open->end = base_min(end, start + ((uint64_t)(bit + length) << SLICE_SHIFT));
        return open->first < open->end;
    }
    return false;
}

EVH_INTERNAL void watch_protect_again(struct os_watch *watch, uint64_t first, uint64_t end)
{
    assert(first >> WATCH_GRANULE_SHIFT == (end - 1) >> WATCH_GRANULE_SHIFT);
    const uint64_t granule = first >> WATCH_GRANULE_SHIFT;
    const unsigned low = (unsigned)((first >> SLICE_SHIFT) % WATCH_GRANULE_SLICES);
    const unsigned count = (unsigned)((end >> SLICE_SHIFT) - (first >> SLICE_SHIFT));
    if (count == 0) return; /* a slice that `end` cuts */
    const uint32_t mask = (uint32_t)(((uint64_t)1 << count) - 1) << low;
    if (protect_slices(watch, granule, mask, PROT_READ) != 0) {
        /* Too many mappings: it stays open, and so is returned again. */
        __atomic_fetch_or(&watch->granules[granule].open, mask, __ATOMIC_RELAXED);
        return;
    }
    const uint32_t before =
        __atomic_fetch_and(&watch->granules[granule].open, ~mask, __ATOMIC_SEQ_CST);
    __atomic_fetch_sub(&protect_open_slices, base_count_bits(before & mask), __ATOMIC_RELAXED);
}

/* ---- the signal ---- */

/* The watch whose mapping contains `address`; NULL if there is none. */
static struct os_watch *protect_find(uintptr_t address)
{
    const unsigned count = __atomic_load_n(&protect_slot_count, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < count; i++) {
        const struct protect_slot *slot = &protect_slots[i];
        const uint32_t sequence = __atomic_load_n(&slot->sequence, __ATOMIC_ACQUIRE);
        const uintptr_t base = __atomic_load_n(&slot->base, __ATOMIC_ACQUIRE);
        const uintptr_t end = __atomic_load_n(&slot->end, __ATOMIC_ACQUIRE);
        struct os_watch *watch = __atomic_load_n(&slot->watch, __ATOMIC_ACQUIRE);
        /* A slot that changes is that of a heap being opened or closed, in which nobody stores. */
        if (sequence % 2 != 0 || address < base || address >= end) continue;
        if (__atomic_load_n(&slot->sequence, __ATOMIC_ACQUIRE) == sequence) return watch;
    }
    return NULL;
}

/* Whether the processor reports a store. Loads never fault on what we protect, jumps always do. */
static bool protect_is_store(const void *context)
{
#if defined(__x86_64__)
    const ucontext_t *machine = context;
    return (machine->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#elif defined(__aarch64__)
    /* The kernel appends records of {magic, size, ...}; one holds the exception syndrome. */
    const ucontext_t *machine = context;
    const unsigned char *records = machine->uc_mcontext.__reserved;
    const size_t limit = sizeof machine->uc_mcontext.__reserved;
    for (size_t at = 0; at + 16 <= limit;) {
        uint32_t head[2];
        uint64_t syndrome;
        memcpy(head, records + at, sizeof head);
        if (head[0] == 0 || head[1] < 8) break;
        if (head[0] == 0x45535201 /* ESR_MAGIC */) {
            memcpy(&syndrome, records + at + 8, sizeof syndrome);
            return (syndrome & (1u << 6)) != 0; /* WnR: write, not read */
        }
        at += head[1];
    }
    return true;
#else
    (void)context;
    return true;
#endif
}

/* Handle a fault of ours; false if it is somebody else's. */
static bool protect_handle(const siginfo_t *info, const void *context)
{
    if (info->si_code != SEGV_ACCERR || !protect_is_store(context)) return false;
    const uintptr_t address = (uintptr_t)info->si_addr;
    struct os_watch *watch = protect_find(address);
    if (watch == NULL) return false;
    const uint64_t offset = address - (uintptr_t)watch->base;
    const int kept_errno = errno;
    const int error = watch_protect_touch(watch, offset, offset + 1);
    errno = kept_errno;
    return error == 0;
}

static void protect_on_signal(int number, siginfo_t *info, void *context)
{
    if (!protect_handle(info, context)) os_signal_pass_on(&protect_before, number, info, context);
}

/* ---- opening and closing ---- */

/* Install the handler, once in the process. It stays: who came after us may call it. The process
 * lock is held. */
static int protect_install(void)
{
    if (protect_is_installed) return 0;
    /* Half of the mappings, two for each open slice. */
    protect_open_max = (uint32_t)base_min(os_map_limit(), UINT32_MAX / 2) / 4;
    if (sigaction(SIGSEGV, NULL, &protect_before) != 0) return errno;
    struct sigaction ours = {
        .sa_sigaction = protect_on_signal,
        /* The alternate stack if the thread has one; not blocked, so that a handler to whom we pass
         * on may store into a heap. */
        .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART,
    };
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGSEGV, &ours, NULL) != 0) return errno;
    protect_is_installed = true;
    return 0;
}

static void protect_set_slot(struct protect_slot *slot, uintptr_t base, uintptr_t end,
                             struct os_watch *watch)
{
    __atomic_fetch_add(&slot->sequence, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&slot->base, base, __ATOMIC_SEQ_CST);
    __atomic_store_n(&slot->end, end, __ATOMIC_SEQ_CST);
    __atomic_store_n(&slot->watch, watch, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&slot->sequence, 1, __ATOMIC_SEQ_CST);
}

EVH_INTERNAL int watch_protect_open(struct os_watch *watch)
{
    const uint64_t granules = (watch->reserved_bytes >> WATCH_GRANULE_SHIFT) + 1;
    watch->granules = calloc(granules, sizeof *watch->granules);
    if (watch->granules == NULL) return ENOMEM;

    os_process_lock();
    int error = protect_install();
    unsigned slot = 0;
    while (slot < protect_slot_count && protect_slots[slot].end != 0) slot++;
    if (error == 0 && slot == PROTECT_SLOTS) error = ENOMEM;
    if (error == 0) {
        const uintptr_t base = (uintptr_t)watch->base;
        protect_set_slot(&protect_slots[slot], base, base + watch->reserved_bytes, watch);
        if (slot == protect_slot_count) {
            __atomic_store_n(&protect_slot_count, slot + 1, __ATOMIC_RELEASE);
        }
        watch->slot = slot;
        watch->is_protecting = true;
    }
    os_process_unlock();
    return error;
}

/* Give back what the watch's open slices took of the process's budget. */
static void protect_forget_slices(const struct os_watch *watch)
{
    for (size_t i = 0; i < watch->range_count; i++) {
        const uint64_t last = (watch->ranges[i].end - 1) >> WATCH_GRANULE_SHIFT;
        for (uint64_t g = watch->ranges[i].first >> WATCH_GRANULE_SHIFT; g <= last; g++) {
            const uint32_t open =
                __atomic_exchange_n(&watch->granules[g].open, 0, __ATOMIC_SEQ_CST);
            __atomic_fetch_sub(&protect_open_slices, base_count_bits(open), __ATOMIC_RELAXED);
        }
    }
}

EVH_INTERNAL void watch_protect_close(struct os_watch *watch)
{
    if (watch->is_protecting) {
        os_process_lock();
        protect_set_slot(&protect_slots[watch->slot], 0, 0, NULL);
        os_process_unlock();
        protect_forget_slices(watch);
    }
    free(watch->granules);
}
