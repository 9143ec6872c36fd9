/* os_sim_test.c -- the simulated machine loses, keeps and tears what its model says. */
#include "support/os_sim.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>

enum { FILE_BYTES = 64 << 10 };

/* A machine in use, with a device that follows its log. */
struct bench {
    struct sim *machine, *image;
    struct sim_disk *disk;
    size_t stepped;
    int file;
};

static struct bench bench_new(void)
{
    struct bench bench = {.machine = sim_create(1), .image = sim_create(2)};
    bench.disk = sim_disk_create();
    sim_use(bench.machine);
    CHECK_EQUAL(os->open("file", OS_OPEN_WRITE | OS_OPEN_CREATE, 0600, &bench.file), 0);
    CHECK_EQUAL(os->allocate(bench.file, 0, FILE_BYTES), 0);
    CHECK_EQUAL(os->flush(bench.file), 0);
    CHECK_EQUAL(os->flush_directory("file"), 0);
    return bench;
}

static void bench_end(struct bench *bench)
{
    sim_disk_end(bench->disk);
    sim_end(bench->image);
    sim_end(bench->machine);
}

/* The device follows the log to its end. */
static void bench_step(struct bench *bench)
{
    const struct sim_log *log = sim_log(bench->machine);
    while (bench->stepped < log->count) sim_disk_step(bench->disk, log, bench->stepped++);
}

static void put(const struct bench *bench, uint64_t offset, unsigned char value, size_t size)
{
    unsigned char bytes[8192];
    memset(bytes, value, size);
    CHECK_EQUAL(os->write(bench->file, offset, bytes, size), 0);
}

static void put_sync(const struct bench *bench, uint64_t offset, unsigned char value, size_t size)
{
    unsigned char bytes[8192];
    bool flush_failed;
    memset(bytes, value, size);
    const struct os_part parts[2] = {{bytes, size / 2}, {bytes, size - size / 2}};
    CHECK_EQUAL(os->write_sync(bench->file, offset, parts, 2, &flush_failed), 0);
}

/* The byte at `offset` after a power cut that loses all pending operations. */
static unsigned char after_cut(struct bench *bench, uint64_t offset)
{
    uint64_t size;
    bench_step(bench);
    sim_image_begin(bench->disk, bench->image, 1);
    const unsigned char *bytes = sim_bytes(bench->image, "file", &size);
    CHECK(bytes);
    CHECK(offset < size);
    return bytes[offset];
}

TEST(a_write_is_pending_until_the_flush)
{
    struct bench bench = bench_new();
    put(&bench, 4096, 7, 512);
    CHECK_EQUAL(after_cut(&bench, 4096), 0);
    CHECK_EQUAL(bench.disk->pending_count, 1);
    sim_image_apply(bench.disk, bench.image, 0);
    uint64_t size;
    CHECK_EQUAL(sim_bytes(bench.image, "file", &size)[4096], 7);
    CHECK_EQUAL(os->flush(bench.file), 0);
    CHECK_EQUAL(after_cut(&bench, 4096), 7);
    CHECK_EQUAL(bench.disk->pending_count, 0);
    bench_end(&bench);
}

TEST(write_sync_makes_its_own_range_durable_and_nothing_else)
{
    struct bench bench = bench_new();
    put(&bench, 4096, 1, 512);
    put_sync(&bench, 4608, 2, 1024);
    CHECK_EQUAL(after_cut(&bench, 4096), 0);
    CHECK_EQUAL(after_cut(&bench, 4608), 2);
    CHECK_EQUAL(after_cut(&bench, 5631), 2);
    CHECK_EQUAL(after_cut(&bench, 5632), 0);
    bench_end(&bench);
}

TEST(a_pending_write_does_not_undo_a_later_durable_one)
{
    struct bench bench = bench_new();
    put(&bench, 4096, 1, 1024);
    put_sync(&bench, 4096, 2, 512);
    CHECK_EQUAL(after_cut(&bench, 4096), 2);
    CHECK_EQUAL(bench.disk->pending_count, 1);
    sim_image_apply(bench.disk, bench.image, 0);
    uint64_t size;
    const unsigned char *bytes = sim_bytes(bench.image, "file", &size);
    CHECK_EQUAL(bytes[4096], 2);
    CHECK_EQUAL(bytes[4608], 1);
    bench_end(&bench);
}

TEST(a_write_tears_between_sectors)
{
    struct bench bench = bench_new();
    put(&bench, 4096, 9, 2048);
    CHECK_EQUAL(after_cut(&bench, 4096), 0);
    sim_image_apply_sectors(bench.disk, bench.image, 0, 1, 3);
    uint64_t size;
    const unsigned char *bytes = sim_bytes(bench.image, "file", &size);
    CHECK_EQUAL(bytes[4096], 0);
    CHECK_EQUAL(bytes[4608], 9);
    CHECK_EQUAL(bytes[5631], 9);
    CHECK_EQUAL(bytes[5632], 0);
    sim_image_lose_sector(bench.disk, bench.image, 0, 3, SIM_LOST_GARBAGE, 5);
    uint64_t sum = 0;
    for (int i = 0; i < SIM_SECTOR_BYTES; i++) sum += bytes[5632 + i];
    CHECK(sum > 0);
    bench_end(&bench);
}

TEST(a_small_write_persists_the_whole_sector_as_the_cache_holds_it)
{
    struct bench bench = bench_new();
    put(&bench, 4096, 1, 4);
    put(&bench, 4100, 2, 4);
    CHECK_EQUAL(after_cut(&bench, 4096), 0);
    sim_image_apply(bench.disk, bench.image, 1);
    uint64_t size;
    const unsigned char *bytes = sim_bytes(bench.image, "file", &size);
    CHECK_EQUAL(bytes[4096], 1);
    CHECK_EQUAL(bytes[4100], 2);
    bench_end(&bench);
}

TEST(growth_is_lost_without_a_flush)
{
    struct bench bench = bench_new();
    uint64_t size;
    CHECK_EQUAL(os->allocate(bench.file, FILE_BYTES, FILE_BYTES), 0);
    after_cut(&bench, 0);
    sim_bytes(bench.image, "file", &size);
    CHECK_EQUAL(size, FILE_BYTES);
    CHECK_EQUAL(os->flush(bench.file), 0);
    after_cut(&bench, 0);
    sim_bytes(bench.image, "file", &size);
    CHECK_EQUAL(size, 2 * FILE_BYTES);
    bench_end(&bench);
}

TEST(a_name_is_lost_without_a_flush_of_the_directory)
{
    struct bench bench = bench_new();
    int file;
    uint64_t size;
    CHECK_EQUAL(os->open_temporary("other", 0600, &file), 0);
    CHECK_EQUAL(os->write(file, 0, "x", 1), 0);
    CHECK_EQUAL(os->flush(file), 0);
    CHECK_EQUAL(os->publish(file, "other", false), 0);
    CHECK_EQUAL(os->publish(file, "other", false), EEXIST);
    after_cut(&bench, 0);
    CHECK(!sim_bytes(bench.image, "other", &size));
    CHECK_EQUAL(os->flush_directory("other"), 0);
    after_cut(&bench, 0);
    CHECK(sim_bytes(bench.image, "other", &size));
    CHECK_EQUAL(size, 1);
    bench_end(&bench);
}

TEST(after_a_failed_flush_the_cache_lies_until_it_is_dropped)
{
    struct bench bench = bench_new();
    sim_keep_disk(bench.machine);
    put(&bench, 4096, 3, 8192);
    sim_fail(bench.machine, SIM_FAULT_FLUSH, 1, EIO, 1);
    CHECK_EQUAL(os->flush(bench.file), EIO);
    CHECK_EQUAL(os->flush(bench.file), 0);
    unsigned char bytes[8192];
    size_t done;
    CHECK_EQUAL(os->read(bench.file, 4096, bytes, sizeof bytes, &done), 0);
    for (size_t i = 0; i < sizeof bytes; i++) CHECK_EQUAL(bytes[i], 3);
    os->drop_cache(bench.file, 0, FILE_BYTES);
    CHECK_EQUAL(os->read(bench.file, 4096, bytes, sizeof bytes, &done), 0);
    size_t kept = 0;
    for (size_t i = 0; i < sizeof bytes; i += SIM_SECTOR_BYTES) kept += bytes[i] == 3;
    CHECK(kept > 0);
    CHECK(kept < sizeof bytes / SIM_SECTOR_BYTES);
    for (uint64_t i = 0; i < sizeof bytes; i += SIM_SECTOR_BYTES)
        CHECK_EQUAL(after_cut(&bench, 4096 + i), bytes[i]);
    bench_end(&bench);
}

TEST(a_failed_write_sync_tells_whether_the_flush_failed)
{
    struct bench bench = bench_new();
    const struct os_part part = {"x", 1};
    bool flush_failed = true;
    sim_fail(bench.machine, SIM_FAULT_WRITE, 1, ENOSPC, 1);
    CHECK_EQUAL(os->write_sync(bench.file, 0, &part, 1, &flush_failed), ENOSPC);
    CHECK(!flush_failed);
    sim_fail(bench.machine, SIM_FAULT_FLUSH, 1, EIO, 1);
    CHECK_EQUAL(os->write_sync(bench.file, 0, &part, 1, &flush_failed), EIO);
    CHECK(flush_failed);
    CHECK(sim_has_failed(bench.machine));
    CHECK_EQUAL(os->write_sync(bench.file, 0, &part, 1, &flush_failed), 0);
    bench_end(&bench);
}

TEST(a_killed_machine_changes_nothing)
{
    struct bench bench = bench_new();
    sim_kill(bench.machine);
    CHECK_EQUAL(os->write(bench.file, 0, "x", 1), EIO);
    CHECK_EQUAL(os->flush(bench.file), EIO);
    CHECK_EQUAL(os->close(bench.file), 0);
    CHECK_EQUAL(after_cut(&bench, 0), 0);
    bench_end(&bench);
}

TEST(a_private_page_shows_later_writes_until_it_is_stored_to)
{
    struct bench bench = bench_new();
    void *address;
    CHECK_EQUAL(os->reserve(FILE_BYTES, 1 << 26, 0, &address), 0);
    CHECK_EQUAL((uintptr_t)address % (1 << 26), 0);
    CHECK_EQUAL(os->map(address, FILE_BYTES, OS_MAP_PRIVATE, bench.file, 0), 0);
    volatile unsigned char *bytes = address;
    CHECK_EQUAL(bytes[4096], 0);
    put(&bench, 4096, 5, 512);
    CHECK_EQUAL(bytes[4096], 5);
    bytes[4097] = 6;
    put(&bench, 4096, 8, 512);
    CHECK_EQUAL(bytes[4096], 5);
    CHECK_EQUAL(bytes[4097], 6);
    CHECK_EQUAL(os->discard(address, FILE_BYTES), 0);
    CHECK_EQUAL(bytes[4097], 8);
    CHECK_EQUAL(sim_counts(bench.machine)->reservations, 1);
    CHECK_EQUAL(os->release(address, FILE_BYTES), 0);
    CHECK_EQUAL(sim_counts(bench.machine)->reservations, 0);
    bench_end(&bench);
}

TEST(locks_belong_to_their_description)
{
    struct bench bench = bench_new();
    int other;
    bool taken;
    CHECK_EQUAL(os->open("file", OS_OPEN_WRITE, 0, &other), 0);
    CHECK_EQUAL(os->lock(bench.file, 10, 20, OS_LOCK_SHARED), 0);
    CHECK_EQUAL(os->lock(other, 15, 1, OS_LOCK_SHARED), 0);
    CHECK_EQUAL(os->lock(other, 15, 1, OS_LOCK_EXCLUSIVE), EAGAIN);
    CHECK_EQUAL(os->lock(other, 30, 5, OS_LOCK_EXCLUSIVE), 0);
    CHECK_EQUAL(os->lock(bench.file, 12, 4, OS_UNLOCK), 0);
    CHECK_EQUAL(os->lock(other, 12, 4, OS_LOCK_EXCLUSIVE), 0);
    CHECK_EQUAL(os->lock(other, 16, 1, OS_LOCK_EXCLUSIVE), EAGAIN);
    CHECK_EQUAL(os->lock_is_taken(bench.file, 13, 1, &taken), 0);
    CHECK(taken);
    CHECK_EQUAL(os->lock_is_taken(bench.file, 16, 1, &taken), 0);
    CHECK(!taken);
    CHECK_EQUAL(os->close(other), 0);
    CHECK_EQUAL(os->lock_is_taken(bench.file, 13, 1, &taken), 0);
    CHECK(!taken);
    bench_end(&bench);
}

TEST(a_punched_hole_is_found_and_reads_as_zero)
{
    struct bench bench = bench_new();
    uint64_t hole;
    put(&bench, 8192, 1, 4096);
    CHECK_EQUAL(os->flush(bench.file), 0);
    CHECK_EQUAL(os->find_hole(bench.file, 0, FILE_BYTES, &hole), 0);
    CHECK_EQUAL(hole, FILE_BYTES);
    CHECK_EQUAL(os->punch(bench.file, 8192, 4096), 0);
    CHECK_EQUAL(os->find_hole(bench.file, 0, FILE_BYTES, &hole), 0);
    CHECK_EQUAL(hole, 8192);
    CHECK_EQUAL(after_cut(&bench, 8192), 1);
    CHECK_EQUAL(os->flush(bench.file), 0);
    CHECK_EQUAL(after_cut(&bench, 8192), 0);
    bench_end(&bench);
}

static void random_operation(struct bench *bench, uint64_t *random)
{
    const uint64_t offset = test_random(random) % (FILE_BYTES - 8192);
    const size_t size = 1 + test_random(random) % 4096;
    const unsigned char value = (unsigned char)test_random(random);
    switch (test_random(random) % 8) {
    case 0: CHECK_EQUAL(os->flush(bench->file), 0); break;
    case 1: put_sync(bench, offset, value, size); break;
    case 2: CHECK_EQUAL(os->punch(bench->file, offset / 4096 * 4096, 4096), 0); break;
    default: put(bench, offset, value, size);
    }
}

static void random_image(struct bench *bench, struct sim *image, uint64_t seed)
{
    sim_image_begin(bench->disk, image, 1);
    for (size_t i = 0; i < bench->disk->pending_count; i++) {
        const uint64_t sectors = sim_pending_sectors(bench->disk, i);
        const uint64_t first = test_random(&seed) % sectors;
        sim_image_apply_sectors(bench->disk, image, i, first, sectors);
    }
}

/*
 * Strategy: random operations; after each, an image is built in a machine that had the previous one
 * (only changed pages are copied), and the same from a copy of the device in a fresh machine.
 * Invariants: the two are equal; with everything applied they are what the cache holds.
 */
TEST(an_image_built_from_the_previous_one_equals_a_fresh_one)
{
    uint64_t random = test_seed(), size;
    struct bench bench = bench_new();
    struct bench copy = {.disk = sim_disk_create()};
    for (int round = 0; round < 300; round++) {
        random_operation(&bench, &random);
        bench_step(&bench);
        const uint64_t seed = test_random(&random);
        random_image(&bench, bench.image, seed);
        sim_disk_copy(copy.disk, bench.disk);
        copy.image = sim_create(3);
        random_image(&copy, copy.image, seed);
        const unsigned char *built = sim_bytes(bench.image, "file", &size);
        CHECK(memcmp(built, sim_bytes(copy.image, "file", &size), size) == 0);
        sim_end(copy.image);
        for (size_t i = 0; i < bench.disk->pending_count; i++)
            sim_image_apply(bench.disk, bench.image, i);
        CHECK(memcmp(built, sim_bytes(bench.machine, "file", &size), size) == 0);
    }
    sim_disk_end(copy.disk);
    bench_end(&bench);
}
