/* bench_dirty.c -- count the pages of private memory that a process writes to. */
#include "bench.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Every private anonymous mapping (which is where allocators keep blocks and their own records) is
 * registered with userfaultfd in asynchronous write-protect mode; PAGEMAP_SCAN then lists what was
 * written to since. What this file itself needs lies in shared memory, which is not counted; so
 * should the caller's own arrays. Stacks and the data of files are left out. Static variables and
 * thread-local ones are counted: a page or two.
 */

/* From Linux 6.7 (include/uapi/linux/fs.h, userfaultfd.h): the headers may be older. */
struct dirty_region {
    uint64_t start, end, categories;
};

struct dirty_request {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define DIRTY_SCAN _IOWR('f', 16, struct dirty_request)
#define DIRTY_WRITTEN 2u
#define DIRTY_PRESENT 8u
#define DIRTY_WP_ASYNC (1u << 15)
#define DIRTY_USER_MODE_ONLY 1

enum { REGIONS = 4096, TEXT_BYTES = 1 << 22 };

static struct {
    int uffd, pagemap;
    struct dirty_region *regions;
    char *text;
    uint64_t page_bytes;
} dirty = {.uffd = -1, .pagemap = -1};

static void *shared_memory(size_t size)
{
    void *const memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) bench_die("no memory");
    return memory;
}

bool bench_dirty_begin(void)
{
    /* A huge page would be one that was written to as a whole. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    dirty.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    dirty.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | DIRTY_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API, .features = DIRTY_WP_ASYNC};
    if (dirty.uffd < 0 || ioctl(dirty.uffd, UFFDIO_API, &api) != 0) return false;
    dirty.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (dirty.pagemap < 0) return false;
    dirty.regions = shared_memory(REGIONS * sizeof *dirty.regions);
    dirty.text = shared_memory(TEXT_BYTES);
    struct dirty_request request = {.size = sizeof request};
    return ioctl(dirty.pagemap, DIRTY_SCAN, &request) == 0;
}

/* Whether a line of /proc/self/maps is private anonymous memory that can be written to. */
static bool line_is_counted(const char *line, uint64_t *start, uint64_t *end)
{
    char access[5];
    unsigned long long first, last, inode;
    int name_at = 0;
    if (sscanf(line, "%llx-%llx %4s %*s %*s %llu %n", &first, &last, access, &inode, &name_at) < 4)
        return false;
    *start = first;
    *end = last;
    if (inode != 0 || access[1] != 'w' || access[3] != 'p') return false;
    const char *const name = line + name_at;
    return *name == 0 || strcmp(name, "[heap]") == 0 || strncmp(name, "[anon:", 6) == 0;
}

static void for_each_mapping(void (*visit)(uint64_t start, uint64_t end, uint64_t *sum),
                             uint64_t *sum)
{
    const int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t size = 0;
    for (ssize_t got; (got = read(file, dirty.text + size, TEXT_BYTES - size - 1)) > 0;)
        size += (size_t)got;
    close(file);
    dirty.text[size] = 0;
    for (char *line = dirty.text, *next; *line; line = next) {
        next = line + strcspn(line, "\n");
        if (*next) *next++ = 0;
        uint64_t start, end;
        if (line_is_counted(line, &start, &end)) visit(start, end, sum);
    }
}

static void protect_mapping(uint64_t start, uint64_t end, uint64_t *sum)
{
    (void)sum;
    const struct uffdio_range range = {.start = start, .len = end - start};
    struct uffdio_register request = {.range = range, .mode = UFFDIO_REGISTER_MODE_WP};
    struct uffdio_writeprotect protect = {.range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    if (ioctl(dirty.uffd, UFFDIO_REGISTER, &request) != 0 ||
        ioctl(dirty.uffd, UFFDIO_WRITEPROTECT, &protect) != 0)
        bench_die("the kernel does not watch %llx-%llx", (unsigned long long)start,
                  (unsigned long long)end);
}

void bench_dirty_reset(void)
{
    uint64_t unused = 0;
    for_each_mapping(protect_mapping, &unused);
}

static void count_mapping(uint64_t start, uint64_t end, uint64_t *sum)
{
    struct dirty_request request = {
        .size = sizeof request,
        .start = start,
        .end = end,
        .vec = (uint64_t)(uintptr_t)dirty.regions,
        .vec_len = REGIONS,
        .category_mask = DIRTY_WRITTEN | DIRTY_PRESENT,
        .return_mask = DIRTY_WRITTEN,
    };
    for (;;) {
        const int count = ioctl(dirty.pagemap, DIRTY_SCAN, &request);
        if (count < 0) bench_die("the kernel does not list written pages");
        for (int i = 0; i < count; i++)
            *sum += (dirty.regions[i].end - dirty.regions[i].start) / dirty.page_bytes;
        /* walk_end counts only when the vector was full. */
        if (count < REGIONS) return;
        request.start = request.walk_end;
    }
}

uint64_t bench_dirty_count(void)
{
    uint64_t sum = 0;
    for_each_mapping(count_mapping, &sum);
    return sum;
}
