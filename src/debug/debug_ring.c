/* debug_ring.c -- records in a ring, by any number of threads and processes, none of which waits.
 *
 * A writer takes a number with one addition, and with it a place, marks the place as being written,
 * fills it and says that it is whole. A reader believes a record whose number belongs to the place
 * and whose checksum is right: one whose writer was killed, or was overtaken by a whole lap, is
 * missing, and no other suffers. Words are stored one by one and atomically, since a reader and a
 * writer that was overtaken may be there at the same time.
 */
#include "debug/debug.h"

enum { RING_WORDS = sizeof(struct ring_record) / sizeof(uint64_t) };

static struct ring_record *ring_record_at(void *memory, uint64_t number, uint64_t record_count)
{
    assert(number > 0);
    assert(base_is_power_of_two(record_count));
    unsigned char *records =
        (unsigned char *)memory + sizeof(struct ring_head) + RING_FORMATS * sizeof(uint64_t);
    return (struct ring_record *)(void *)records + ((number - 1) & (record_count - 1));
}

static uint32_t ring_crc(struct ring_record record, uint64_t number)
{
    assert(number > 0);
    record.state = number;
    record.crc = 0;
    return base_crc32c(0, &record, sizeof record);
}

uint64_t ring_bytes(uint64_t record_count)
{
    assert(base_is_power_of_two(record_count));
    assert(record_count <= RING_RECORDS_MAX);
    return sizeof(struct ring_head) + RING_FORMATS * sizeof(uint64_t) +
           record_count * sizeof(struct ring_record);
}

void ring_begin(void *memory, uint64_t record_count, uint64_t created_ns)
{
    struct ring_head *head = memory;
    uint64_t none = 0;
    assert(base_is_power_of_two(record_count));
    base_store(&head->record_count, record_count, __ATOMIC_RELAXED);
    base_store(&head->created_ns, created_ns, __ATOMIC_RELAXED);
    (void)base_compare_exchange(&head->magic, &none, RING_MAGIC, false, __ATOMIC_RELEASE,
                                __ATOMIC_RELAXED);
}

bool ring_is_sound(const void *memory, uint64_t size)
{
    const struct ring_head *head = memory;
    assert(memory != NULL);
    if (size < sizeof *head || base_load(&head->magic, __ATOMIC_ACQUIRE) != RING_MAGIC)
        return false;
    const uint64_t count = base_load(&head->record_count, __ATOMIC_RELAXED);
    return base_is_power_of_two(count) && count <= RING_RECORDS_MAX && ring_bytes(count) <= size;
}

uint64_t ring_put(void *memory, uint64_t record_count, struct ring_record *record)
{
    struct ring_head *head = memory;
    assert(record->size <= RING_DATA_BYTES);
    const uint64_t number = base_fetch_add(&head->next, 1, __ATOMIC_RELAXED) + 1;
    struct ring_record *place = ring_record_at(memory, number, record_count);
    uint64_t words[RING_WORDS];
    record->crc = ring_crc(*record, number);
    memcpy(words, record, sizeof words);
    /* What follows is not stored before this: a reader that sees any of it sees the mark, too. */
    (void)base_exchange(&place->state, 2 * number + 1, __ATOMIC_ACQ_REL);
    uint64_t *target = (uint64_t *)(void *)place;
    for (unsigned i = 1; i < RING_WORDS; i++) base_store(&target[i], words[i], __ATOMIC_RELAXED);
    base_store(&place->state, 2 * number, __ATOMIC_RELEASE);
    assert(number > 0);
    return number;
}

bool ring_get(const void *memory, uint64_t record_count, uint64_t number,
              struct ring_record *record)
{
    const struct ring_record *place =
        ring_record_at((void *)(uintptr_t)memory, number, record_count);
    uint64_t words[RING_WORDS];
    assert(record != NULL);
    if (base_load(&place->state, __ATOMIC_ACQUIRE) != 2 * number) return false;
    const uint64_t *source = (const uint64_t *)(const void *)place;
    for (unsigned i = 0; i < RING_WORDS; i++) words[i] = base_load(&source[i], __ATOMIC_RELAXED);
    memcpy(record, words, sizeof *record);
    if (record->size > RING_DATA_BYTES) return false;
    return ring_crc(*record, number) == record->crc;
}
