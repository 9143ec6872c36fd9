/* debug_log.c -- the last operations, in a ring in memory and, if asked for, in a file.
 *
 * The file is written with plain writes into the system's cache, one for each operation, so that it
 * survives the process however that ends (not a power cut; it is a help, not data). It holds a
 * header and then a ring of records with their numbers: which is the oldest follows from them.
 */
#include "debug/debug.h"
#include "debug/debug_layout.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOG_RECORDS = 4096, LOG_FILE_RECORDS = 65536 };

static struct evh_debug_operation log_ring[LOG_RECORDS];
static uint64_t log_count; /* operations so far; atomic */
static int log_file = -1;  /* atomic: -1 before it is asked for, -2 if there is none */

static int log_open_file(void)
{
    int file = __atomic_load_n(&log_file, __ATOMIC_ACQUIRE);
    if (file != -1) return file;
    const char *path = getenv("EVERHEAP_DEBUG_LOG");
    int opened = -2;
    if (path && path[0]) {
        int error = os->open(path, OS_OPEN_WRITE | OS_OPEN_CREATE, 0600, &opened);
        if (error == EEXIST) error = os->open(path, OS_OPEN_WRITE, 0, &opened);
        if (!error) error = os->truncate(opened, 0);
        if (error) opened = -2;
    }
    int none = -1;
    if (__atomic_compare_exchange_n(&log_file, &none, opened, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return opened;
    if (opened >= 0) (void)os->close(opened);
    return none;
}

static void log_copy(char *target, size_t size, const char *source)
{
    assert(source != NULL);
    size_t length = strlen(source);
    const char *text =
        length < size ? source : source + (length - size + 1); /* its end tells more */
    if (length >= size) length = size - 1;
    memcpy(target, text, length);
    target[length] = 0;
}

static struct log_record log_describe(const char *operation, const char *object, uint64_t address,
                                      uint64_t size, const char *site)
{
    assert(operation != NULL);
    assert(object != NULL);
    struct log_record record = {.magic = LOG_MAGIC};
    record.operation.address = address;
    record.operation.size = size;
    record.operation.thread = debug_thread();
    record.operation.process = (uint32_t)os->process();
    log_copy(record.operation.operation, sizeof record.operation.operation, operation);
    log_copy(record.operation.object, sizeof record.operation.object, object);
    log_copy(record.operation.site, sizeof record.operation.site, site);
    return record;
}

EVH_INTERNAL uint64_t debug_log(const char *operation, const char *object, const void *address,
                                uint64_t size, const char *site)
{
    assert(operation != NULL);
    assert(object != NULL);
    struct log_record record = log_describe(operation, object, (uintptr_t)address, size, site);
    const uint64_t number = __atomic_add_fetch(&log_count, 1, __ATOMIC_RELAXED);
    record.operation.number = number;
    log_ring[number % LOG_RECORDS] = record.operation;
    const int file = log_open_file();
    if (file >= 0)
        (void)os->write(file, number % LOG_FILE_RECORDS * sizeof record, &record, sizeof record);
    return number;
}

/* ---- in a live heap ---- */

EVH_INTERNAL void debug_ring_begin(struct debug_ring *ring)
{
    assert(ring != NULL);
    static_assert(offsetof(struct log_record, operation.number) == 8, "an aligned word");
    /* Whoever is first; all of them store the same. */
    base_store(&ring->magic, LOG_RING_MAGIC, __ATOMIC_RELEASE);
    assert(ring->magic == LOG_RING_MAGIC);
}

EVH_INTERNAL void debug_ring_add(struct debug_ring *ring, const char *operation, const char *object,
                                 uint64_t address, uint64_t size, const char *site)
{
    assert(ring != NULL);
    const struct log_record record = log_describe(operation, object, address, size, site);
    const uint64_t number = base_add_fetch(&ring->count, 1, __ATOMIC_RELAXED);
    assert(number > 0);
    struct log_record *slot = &ring->records[number % LOG_RING_RECORDS];
    base_store(&slot->operation.number, 0, __ATOMIC_RELEASE);
    slot->magic = record.magic;
    memcpy((unsigned char *)&slot->operation + sizeof slot->operation.number,
           (const unsigned char *)&record.operation + sizeof record.operation.number,
           sizeof record.operation - sizeof record.operation.number);
    base_store(&slot->operation.number, number, __ATOMIC_RELEASE);
}

static evh_status log_visit_own(evh_debug_operation_visit *visit, void *context)
{
    const uint64_t end = __atomic_load_n(&log_count, __ATOMIC_ACQUIRE);
    for (uint64_t number = end < LOG_RECORDS ? 1 : end - LOG_RECORDS + 1; number <= end; number++)
        if (!visit(&log_ring[number % LOG_RECORDS], context)) break;
    return EVH_OK;
}

static int log_compare(const void *left, const void *right)
{
    const struct log_record *a = left, *b = right;
    return (a->operation.number > b->operation.number) -
           (a->operation.number < b->operation.number);
}

/* Bytes of a file end every text in it. */
static void log_visit_records(struct log_record *records, size_t count,
                              evh_debug_operation_visit *visit, void *context)
{
    assert(count <= LOG_FILE_RECORDS);
    qsort(records, count, sizeof *records, log_compare);
    for (size_t i = 0; i < count; i++) {
        struct evh_debug_operation *operation = &records[i].operation;
        if (records[i].magic != LOG_MAGIC) continue;
        operation->operation[sizeof operation->operation - 1] = 0;
        operation->object[sizeof operation->object - 1] = 0;
        operation->site[sizeof operation->site - 1] = 0;
        if (!visit(operation, context)) return;
    }
}

EVH_INTERNAL evh_status debug_ring_visit(const struct debug_ring *ring, uint64_t size,
                                         evh_debug_operation_visit *visit, void *context)
{
    assert(visit != NULL);
    if (size < sizeof *ring || ring->magic != LOG_RING_MAGIC)
        return base_fail(EVH_CORRUPT, NO_OFFSET, "the log of operations is damaged");
    struct log_record *records = os->memory_allocate(sizeof ring->records);
    if (!records) return base_fail(EVH_NO_MEMORY, NO_OFFSET, "no memory to read the log");
    size_t count = 0;
    for (size_t i = 0; i < LOG_RING_RECORDS; i++) {
        const struct log_record *from = &ring->records[i];
        const uint64_t number = base_load(&from->operation.number, __ATOMIC_ACQUIRE);
        records[count] = *from;
        /* Not while it is written, or was when its process was killed. */
        if (number == 0 || number % LOG_RING_RECORDS != i ||
            base_load(&from->operation.number, __ATOMIC_ACQUIRE) != number)
            continue;
        records[count++].operation.number = number;
    }
    log_visit_records(records, count, visit, context);
    os->memory_free(records);
    return EVH_OK;
}

evh_status evh_debug_log(const char *path, evh_debug_operation_visit *visit, void *context)
{
    if (!visit) return base_fail(EVH_INVALID, NO_OFFSET, "no visit of the log: it is null");
    if (!path) return log_visit_own(visit, context);
    int file = -1;
    int error = os->open(path, 0, 0, &file);
    if (error) return base_fail_os(error, NO_OFFSET, "%s: cannot open the log", path);
    evh_status status = EVH_OK;
    size_t done = 0;
    const size_t size = LOG_FILE_RECORDS * sizeof(struct log_record);
    struct log_record *records = os->memory_allocate(size);
    if (!records) {
        (void)os->close(file);
        return base_fail(EVH_NO_MEMORY, NO_OFFSET, "%s: no memory to read the log", path);
    }
    error = os->read(file, 0, records, size, &done);
    if (error) status = base_fail_os(error, 0, "%s: cannot read the log", path);
    const size_t count = done / sizeof *records;
    /* Record 0 is written last: until then it is a hole. */
    if (!status && (count < 2 || records[1].magic != LOG_MAGIC))
        status = base_fail(EVH_CORRUPT, 0, "%s: no log of operations", path);
    if (!status) log_visit_records(records, count, visit, context);
    os->memory_free(records);
    (void)os->close(file);
    return status;
}
