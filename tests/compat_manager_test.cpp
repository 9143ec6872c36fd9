/* compat_manager_test.cpp -- pmm::PersistMemoryManager behaves as its programs know it. */
#include "persist_memory_manager.h"
#include "test.h"

#include <algorithm>
#include <vector>

using pmm::PersistMemoryManager;
using pmm::pptr;

namespace
{

constexpr std::size_t kSize = 1 << 20;

/* A manager in a buffer of `size` bytes, `shift` behind a multiple of 4096; what was there before
 * is a used buffer, not a clean one. One at a time. */
unsigned char *buffer_of(std::size_t size, std::size_t shift = 0)
{
    alignas(4096) static unsigned char buffer[8 << 20];
    CHECK(size + shift <= sizeof buffer);
    std::memset(buffer, 0xa5, size + shift + 64);
    return buffer + shift;
}

PersistMemoryManager *manager_of(std::size_t size = kSize, std::size_t shift = 0)
{
    PersistMemoryManager *manager = PersistMemoryManager::create(buffer_of(size, shift), size);
    CHECK(manager != nullptr);
    return manager;
}

bool is_aligned(const void *address, std::size_t alignment)
{
    return reinterpret_cast<std::uintptr_t>(address) % alignment == 0;
}

unsigned char pattern_of(const void *block)
{
    return static_cast<unsigned char>(reinterpret_cast<std::uintptr_t>(block) >> 4 | 1);
}

bool holds(const void *block, unsigned char value, std::size_t size)
{
    const unsigned char *bytes = static_cast<const unsigned char *>(block);
    return std::all_of(bytes, bytes + size, [value](unsigned char b) { return b == value; });
}

} // namespace

/* ---- constants and create ---- */

TEST(the_constants_are_what_they_were)
{
    CHECK_EQUAL(pmm::kDefaultAlignment, 16);
    CHECK_EQUAL(pmm::kMinAlignment, 8);
    CHECK_EQUAL(pmm::kMaxAlignment, 4096);
    CHECK_EQUAL(pmm::kMinMemorySize, 4096);
    CHECK_EQUAL(pmm::kMinBlockSize, 32);
    CHECK_EQUAL(pmm::kMagic, 0x504D4D5F56303130ULL);
    CHECK_EQUAL(static_cast<int>(pmm::ErrorCode::OK), 0);
    CHECK_EQUAL(static_cast<int>(pmm::ErrorCode::FILE_IO_ERROR), 5);
    const pmm::Result result = {pmm::ErrorCode::OUT_OF_MEMORY, "full"};
    CHECK(result.code == pmm::ErrorCode::OUT_OF_MEMORY);
}

TEST(create_refuses_a_null_buffer)
{
    CHECK(PersistMemoryManager::create(nullptr, kSize) == nullptr);
}

TEST(create_refuses_less_than_4096_bytes)
{
    unsigned char *buffer = buffer_of(4096);
    CHECK(PersistMemoryManager::create(buffer, 4095) == nullptr);
    CHECK(PersistMemoryManager::create(buffer, 0) == nullptr);
    CHECK(holds(buffer, 0xa5, 4096));
    CHECK(PersistMemoryManager::create(buffer, 4096) != nullptr);
}

TEST(create_refuses_more_than_any_heap_holds)
{
    CHECK(PersistMemoryManager::create(buffer_of(4096), std::size_t(1) << 50) == nullptr);
}

TEST(the_manager_is_at_the_address_of_its_buffer)
{
    unsigned char *buffer = buffer_of(kSize);
    CHECK(static_cast<void *>(PersistMemoryManager::create(buffer, kSize)) == buffer);
    std::uint64_t magic = 0;
    std::memcpy(&magic, buffer, sizeof magic);
    CHECK_EQUAL(magic, pmm::kMagic);
}

TEST(a_new_manager_is_one_free_area)
{
    PersistMemoryManager *manager = manager_of();
    const pmm::MemoryStats stats = pmm::get_stats(manager);
    CHECK_EQUAL(stats.total_blocks, 1);
    CHECK_EQUAL(stats.free_blocks, 1);
    CHECK_EQUAL(stats.allocated_blocks, 0);
    CHECK_EQUAL(stats.largest_free, stats.smallest_free);
    CHECK_EQUAL(stats.total_fragmentation, 0);
    CHECK_EQUAL(manager->total_size(), kSize);
    CHECK_EQUAL(manager->used_size(), 136);
    CHECK_EQUAL(manager->free_size(), kSize - 136);
    CHECK_EQUAL(manager->fragmentation(), 0);
    CHECK(manager->validate());
}

TEST(at_least_nine_tenths_of_a_buffer_are_for_blocks)
{
    for (std::size_t size : {std::size_t(65536), kSize, std::size_t(7) << 20}) {
        PersistMemoryManager *manager = manager_of(size);
        CHECK(pmm::get_stats(manager).largest_free >= size / 10 * 9);
        CHECK(manager->allocate(size / 10 * 9) != nullptr);
    }
    CHECK(pmm::get_stats(manager_of(4096)).largest_free >= 3500);
}

TEST(create_formats_only_headers)
{
    unsigned char *buffer = buffer_of(kSize);
    CHECK(PersistMemoryManager::create(buffer, kSize) != nullptr);
    CHECK(holds(buffer + kSize / 8, 0xa5, kSize - kSize / 8));
}

TEST(nothing_is_written_outside_the_buffer)
{
    unsigned char *buffer = buffer_of(8192 + 64) + 32;
    for (std::size_t size = 4096; size < 8192; size += 37) {
        PersistMemoryManager *manager = PersistMemoryManager::create(buffer, size);
        CHECK(manager != nullptr);
        while (void *block = manager->allocate(24)) std::memset(block, 0x11, 24);
        CHECK(manager->validate());
        CHECK(holds(buffer - 32, 0xa5, 32));
        CHECK(holds(buffer + size, 0xa5, 32));
        std::memset(buffer, 0xa5, size);
    }
}

TEST(create_again_empties_a_buffer_whose_manager_was_never_destroyed)
{
    PersistMemoryManager *manager = manager_of();
    CHECK(manager->allocate(1000) != nullptr);
    CHECK(PersistMemoryManager::create(manager, kSize) == manager);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 0);
    CHECK(PersistMemoryManager::create(manager, kSize / 2) == manager);
    CHECK_EQUAL(manager->total_size(), kSize / 2);
    CHECK(manager->validate());
}

TEST(several_managers_work_side_by_side)
{
    unsigned char *buffer = buffer_of(3 * 65536);
    PersistMemoryManager *managers[3];
    for (std::size_t i = 0; i < 3; i++)
        managers[i] = PersistMemoryManager::create(buffer + i * 65536, 65536);
    for (int round = 0; round < 100; round++)
        for (std::size_t i = 0; i < 3; i++) {
            unsigned char *block = static_cast<unsigned char *>(managers[i]->allocate(100));
            CHECK(block > buffer + i * 65536 && block + 100 <= buffer + (i + 1) * 65536);
            std::memset(block, static_cast<int>(i), 100);
        }
    managers[1]->destroy();
    CHECK(managers[0]->validate() && managers[2]->validate());
    CHECK_EQUAL(pmm::get_stats(managers[2]).allocated_blocks, 100);
}

TEST(more_managers_than_any_table_holds_can_be_open)
{
    unsigned char *buffer = buffer_of(1800 * 4096);
    for (std::size_t i = 0; i < 1800; i++)
        CHECK(PersistMemoryManager::create(buffer + i * 4096, 4096) != nullptr);
    for (std::size_t i = 0; i < 1800; i++) {
        auto *manager = reinterpret_cast<PersistMemoryManager *>(buffer + i * 4096);
        CHECK(manager->allocate(64) != nullptr);
        manager->destroy();
    }
}

TEST(a_buffer_may_begin_at_any_address)
{
    for (std::size_t shift = 0; shift < 33; shift++) {
        PersistMemoryManager *manager = manager_of(8192, shift);
        std::vector<void *> blocks;
        while (void *block = manager->allocate(40)) {
            CHECK(is_aligned(block, 16));
            blocks.push_back(block);
        }
        CHECK(blocks.size() > 100);
        CHECK(manager->validate());
        manager->destroy();
    }
}

/* ---- load and destroy ---- */

TEST(load_attaches_to_an_image_that_is_in_use)
{
    PersistMemoryManager *manager = manager_of();
    int *number = static_cast<int *>(manager->allocate(sizeof(int)));
    *number = 42;
    PersistMemoryManager *loaded = PersistMemoryManager::load(manager, kSize);
    CHECK(loaded == manager);
    CHECK_EQUAL(*number, 42);
    CHECK(loaded->allocate(100) != nullptr);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 2);
}

TEST(load_refuses_null_small_and_foreign_memory)
{
    unsigned char *buffer = buffer_of(kSize);
    CHECK(PersistMemoryManager::load(nullptr, kSize) == nullptr);
    CHECK(PersistMemoryManager::load(buffer, 4095) == nullptr);
    CHECK(PersistMemoryManager::load(buffer, kSize) == nullptr);
    std::memset(buffer, 0, kSize);
    CHECK(PersistMemoryManager::load(buffer, kSize) == nullptr);
}

TEST(load_demands_the_exact_size_and_a_refusal_harms_nobody)
{
    PersistMemoryManager *manager = manager_of();
    CHECK(manager->allocate(10) != nullptr);
    CHECK(PersistMemoryManager::load(manager, kSize - 1) == nullptr);
    CHECK(PersistMemoryManager::load(manager, kSize + 1) == nullptr);
    CHECK(PersistMemoryManager::load(manager, kSize / 2) == nullptr);
    CHECK(manager->allocate(10) != nullptr);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 2);
    CHECK(PersistMemoryManager::load(manager, kSize) == manager);
}

TEST(a_destroyed_image_loads_no_more_and_serves_nothing)
{
    PersistMemoryManager *manager = manager_of();
    void *block = manager->allocate(10);
    manager->destroy();
    CHECK(PersistMemoryManager::load(manager, kSize) == nullptr);
    CHECK(manager->allocate(10) == nullptr);
    CHECK(manager->reallocate(block, 20) == nullptr);
    manager->deallocate(block);
    CHECK(!manager->validate());
    CHECK_EQUAL(manager->total_size(), 0);
    CHECK_EQUAL(manager->used_size(), 0);
    CHECK_EQUAL(manager->fragmentation(), 0);
    CHECK_EQUAL(pmm::get_stats(manager).total_blocks, 0);
    CHECK(manager->heap() == nullptr);
    manager->destroy();
}

TEST(a_copy_of_the_buffer_loads_at_another_address)
{
    PersistMemoryManager *manager = manager_of(65536);
    pptr<int> numbers = manager->allocate_typed<int>(100);
    for (int i = 0; i < 100; i++) *numbers.resolve_at(manager, static_cast<std::size_t>(i)) = i * i;
    unsigned char *copy = reinterpret_cast<unsigned char *>(manager) + 65536 + 4096;
    std::memcpy(copy, manager, 65536);
    std::memset(static_cast<void *>(manager), 0x77, 65536);
    PersistMemoryManager *loaded = PersistMemoryManager::load(copy, 65536);
    CHECK(loaded != nullptr);
    CHECK_EQUAL(*numbers.resolve_at(loaded, 99), 99 * 99);
    const pmm::AllocationInfo info = pmm::get_info(loaded, numbers.resolve(loaded));
    CHECK(info.is_valid);
    CHECK_EQUAL(info.size, 400);
    loaded->deallocate_typed(numbers);
    CHECK_EQUAL(loaded->used_size(), 136);
    CHECK(loaded->validate());
}

TEST(an_image_at_an_address_where_its_blocks_would_lose_their_alignment_is_refused)
{
    PersistMemoryManager *manager = manager_of(65536);
    unsigned char *copy = reinterpret_cast<unsigned char *>(manager) + 65536 + 8;
    std::memcpy(copy, manager, 65536);
    CHECK(PersistMemoryManager::load(copy, 65536) == nullptr);
}

TEST(a_snapshot_that_is_copied_back_is_loaded_as_it_was)
{
    PersistMemoryManager *manager = manager_of(65536);
    void *first = manager->allocate(100);
    std::vector<unsigned char> snapshot(65536);
    std::memcpy(snapshot.data(), manager, 65536);
    while (manager->allocate(100)) {
    }
    std::memcpy(static_cast<void *>(manager), snapshot.data(), 65536);
    CHECK(PersistMemoryManager::load(manager, 65536) == manager);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 1);
    CHECK(static_cast<unsigned char *>(manager->allocate(16)) ==
          static_cast<unsigned char *>(first) + 112);
}

/* ---- allocate ---- */

TEST(allocate_refuses_size_0)
{
    CHECK(manager_of()->allocate(0) == nullptr);
}

TEST(allocate_refuses_alignments_that_are_no_power_of_two_from_8_to_4096)
{
    PersistMemoryManager *manager = manager_of();
    for (std::size_t alignment : {0u, 1u, 2u, 4u, 7u, 12u, 24u, 48u, 4095u, 8192u})
        CHECK(manager->allocate(64, alignment) == nullptr);
    CHECK(manager->allocate(64, std::size_t(1) << 63) == nullptr);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 0);
}

TEST(allocate_aligns_the_absolute_address)
{
    for (std::size_t shift : {0u, 16u, 48u, 1040u, 4080u}) {
        PersistMemoryManager *manager = manager_of(kSize, shift);
        for (std::size_t alignment = 8; alignment <= 4096; alignment *= 2)
            for (std::size_t size : {1u, 17u, 100u, 5000u}) {
                void *block = manager->allocate(size, alignment);
                CHECK(block != nullptr);
                CHECK(is_aligned(block, alignment));
                std::memset(block, pattern_of(block), size);
            }
        CHECK(manager->validate());
    }
}

TEST(the_default_alignment_is_16)
{
    PersistMemoryManager *manager = manager_of();
    for (std::size_t size = 1; size < 200; size++) CHECK(is_aligned(manager->allocate(size), 16));
    CHECK_EQUAL(pmm::get_info(manager, manager->allocate(5)).alignment, 16);
}

TEST(blocks_do_not_overlap)
{
    PersistMemoryManager *manager = manager_of();
    std::vector<std::pair<unsigned char *, std::size_t>> blocks;
    for (std::size_t size = 1; size < 500; size += 7) {
        unsigned char *block = static_cast<unsigned char *>(manager->allocate(size));
        std::memset(block, pattern_of(block), size);
        blocks.emplace_back(block, size);
    }
    for (const auto &[block, size] : blocks) CHECK(holds(block, pattern_of(block), size));
}

TEST(a_full_manager_gives_null_and_goes_on_once_something_is_free)
{
    PersistMemoryManager *manager = manager_of(8192);
    std::vector<void *> blocks;
    while (void *block = manager->allocate(64)) blocks.push_back(block);
    CHECK(blocks.size() >= 100);
    CHECK(manager->allocate(1 << 20) == nullptr);
    CHECK(manager->allocate(SIZE_MAX) == nullptr);
    CHECK(manager->allocate(SIZE_MAX - 15) == nullptr);
    CHECK(manager->allocate(SIZE_MAX / 2, 4096) == nullptr);
    manager->deallocate(blocks[17]);
    CHECK(manager->allocate(64) == blocks[17]);
    CHECK(manager->validate());
}

TEST(the_overhead_of_a_block_is_below_32_bytes_and_a_tenth)
{
    PersistMemoryManager *manager = manager_of(kSize);
    std::size_t count = 0;
    while (manager->allocate(64)) count++;
    CHECK(count * 64 >= kSize / 10 * 9);
}

/* ---- deallocate ---- */

TEST(deallocate_ignores_null)
{
    PersistMemoryManager *manager = manager_of();
    manager->deallocate(nullptr);
    CHECK(manager->validate());
}

TEST(deallocate_ignores_foreign_and_interior_pointers)
{
    PersistMemoryManager *manager = manager_of();
    unsigned char *block = static_cast<unsigned char *>(manager->allocate(256));
    int on_the_stack = 0;
    manager->deallocate(&on_the_stack);
    manager->deallocate(block + 16);
    manager->deallocate(block + 1);
    manager->deallocate(block - 16);
    manager->deallocate(manager);
    manager->deallocate(reinterpret_cast<unsigned char *>(manager) + kSize);
    manager->deallocate(block + 512);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 1);
    const pmm::AllocationInfo info = pmm::get_info(manager, block);
    CHECK(info.is_valid);
    CHECK_EQUAL(info.size, 256);
    CHECK(manager->validate());
}

TEST(a_second_free_is_ignored_and_its_reason_told)
{
    PersistMemoryManager *manager = manager_of();
    void *first = manager->allocate(64);
    void *second = manager->allocate(64);
    manager->deallocate(first);
    manager->deallocate(first);
    CHECK_EQUAL(evh_last_error()->status, EVH_DOUBLE_FREE);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 1);
    CHECK(pmm::get_info(manager, second).is_valid);
    CHECK(manager->validate());
}

TEST(freeing_everything_in_any_order_leaves_one_area)
{
    PersistMemoryManager *manager = manager_of();
    const std::size_t free_at_first = manager->free_size();
    uint64_t random = test_seed();
    for (int order = 0; order < 3; order++) {
        std::vector<void *> blocks;
        for (std::size_t i = 0; i < 1000; i++) blocks.push_back(manager->allocate(1 + i % 300));
        if (order == 1) std::reverse(blocks.begin(), blocks.end());
        for (std::size_t i = blocks.size(); order == 2 && i > 1; i--)
            std::swap(blocks[i - 1], blocks[test_random(&random) % i]);
        for (void *block : blocks) manager->deallocate(block);
        CHECK_EQUAL(pmm::get_stats(manager).total_blocks, 1);
        CHECK_EQUAL(manager->fragmentation(), 0);
        CHECK_EQUAL(manager->used_size() + manager->free_size(), manager->total_size());
        CHECK_EQUAL(manager->free_size(), free_at_first);
    }
}

TEST(a_block_freed_between_two_used_ones_leaves_the_count_of_blocks)
{
    PersistMemoryManager *manager = manager_of();
    void *blocks[5];
    for (void *&block : blocks) block = manager->allocate(256);
    const std::size_t total = pmm::get_stats(manager).total_blocks;
    CHECK_EQUAL(total, 6);
    manager->deallocate(blocks[2]);
    CHECK_EQUAL(pmm::get_stats(manager).total_blocks, total);
    CHECK_EQUAL(manager->fragmentation(), 1);
}

TEST(a_block_freed_between_two_free_areas_lowers_the_count_by_two)
{
    PersistMemoryManager *manager = manager_of();
    void *blocks[5];
    for (void *&block : blocks) block = manager->allocate(256);
    manager->deallocate(blocks[1]);
    manager->deallocate(blocks[3]);
    const std::size_t total = pmm::get_stats(manager).total_blocks;
    manager->deallocate(blocks[2]);
    CHECK_EQUAL(pmm::get_stats(manager).total_blocks, total - 2);
    CHECK(manager->allocate(3 * 256) == blocks[1]);
}

TEST(a_block_freed_beside_a_free_area_lowers_the_count_by_one)
{
    PersistMemoryManager *manager = manager_of();
    void *first = manager->allocate(100);
    void *second = manager->allocate(100);
    CHECK(manager->allocate(100) != nullptr);
    manager->deallocate(first);
    const std::size_t total = pmm::get_stats(manager).total_blocks;
    manager->deallocate(second);
    CHECK_EQUAL(pmm::get_stats(manager).total_blocks, total - 1);
}

TEST(free_size_recovers)
{
    PersistMemoryManager *manager = manager_of();
    const std::size_t before = manager->free_size();
    void *block = manager->allocate(5000);
    CHECK(manager->free_size() <= before - 5000);
    manager->deallocate(block);
    CHECK(before - manager->free_size() <= 128);
}

TEST(what_is_used_and_free_is_never_more_than_the_whole_and_all_of_it_when_empty)
{
    PersistMemoryManager *manager = manager_of();
    std::uint64_t random = test_seed();
    std::vector<void *> blocks;
    for (int round = 0; round < 400; round++) {
        const std::uint64_t choice = test_random(&random);
        if (choice % 3 || blocks.empty()) {
            void *block = manager->allocate(1 + choice % 700, std::size_t(8) << choice % 6);
            if (block) blocks.push_back(block);
        } else {
            manager->deallocate(blocks.back());
            blocks.pop_back();
        }
        CHECK(manager->used_size() + manager->free_size() <= manager->total_size());
    }
    for (void *block : blocks) manager->deallocate(block);
    CHECK_EQUAL(manager->used_size() + manager->free_size(), manager->total_size());
    CHECK_EQUAL(manager->used_size(), 136);
}

/* ---- reallocate ---- */

TEST(reallocate_of_null_allocates)
{
    PersistMemoryManager *manager = manager_of();
    void *block = manager->reallocate(nullptr, 100);
    CHECK(is_aligned(block, 16));
    CHECK_EQUAL(pmm::get_info(manager, block).size, 100);
    CHECK_EQUAL(pmm::get_info(manager, block).alignment, 16);
    CHECK(manager->reallocate(nullptr, 0) == nullptr);
}

TEST(reallocate_to_0_frees)
{
    PersistMemoryManager *manager = manager_of();
    void *block = manager->allocate(100);
    CHECK(manager->reallocate(block, 0) == nullptr);
    CHECK(!pmm::get_info(manager, block).is_valid);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 0);
}

TEST(reallocate_of_what_is_no_block_gives_null)
{
    PersistMemoryManager *manager = manager_of();
    unsigned char *block = static_cast<unsigned char *>(manager->allocate(100));
    int on_the_stack = 0;
    CHECK(manager->reallocate(&on_the_stack, 10) == nullptr);
    CHECK(manager->reallocate(block + 16, 10) == nullptr);
    manager->deallocate(block);
    CHECK(manager->reallocate(block, 10) == nullptr);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 0);
}

TEST(reallocate_to_less_keeps_block_and_recorded_size)
{
    PersistMemoryManager *manager = manager_of();
    void *block = manager->allocate(1000);
    CHECK(manager->reallocate(block, 10) == block);
    CHECK(manager->reallocate(block, 1000) == block);
    CHECK_EQUAL(pmm::get_info(manager, block).size, 1000);
    CHECK_EQUAL(manager->used_size(), 1136);
}

TEST(reallocate_to_more_keeps_contents_and_counts)
{
    PersistMemoryManager *manager = manager_of();
    void *block = manager->allocate(100);
    void *behind = manager->allocate(100);
    std::memset(block, 0x3c, 100);
    void *grown = manager->reallocate(block, 5000);
    CHECK(grown != nullptr && grown != block);
    CHECK(holds(grown, 0x3c, 100));
    CHECK(!pmm::get_info(manager, block).is_valid);
    CHECK(pmm::get_info(manager, behind).is_valid);
    CHECK_EQUAL(pmm::get_info(manager, grown).size, 5000);
    CHECK_EQUAL(manager->used_size(), 136 + 100 + 5000);
    CHECK(manager->validate());
}

TEST(reallocate_grows_in_place_where_it_can)
{
    PersistMemoryManager *manager = manager_of();
    void *block = manager->allocate(100);
    CHECK(manager->reallocate(block, 112) == block);
    CHECK(manager->reallocate(block, 100000) == block);
    CHECK_EQUAL(pmm::get_info(manager, block).size, 100000);
}

TEST(reallocate_keeps_the_alignment)
{
    PersistMemoryManager *manager = manager_of();
    for (std::size_t alignment = 8; alignment <= 4096; alignment *= 2) {
        void *block = manager->allocate(50, alignment);
        CHECK(manager->allocate(50) != nullptr);
        std::memset(block, 0x21, 50);
        block = manager->reallocate(block, 700);
        CHECK(is_aligned(block, alignment));
        CHECK(holds(block, 0x21, 50));
        CHECK_EQUAL(pmm::get_info(manager, block).alignment, alignment);
    }
    CHECK(manager->validate());
}

TEST(reallocate_without_room_keeps_the_block)
{
    PersistMemoryManager *manager = manager_of(8192);
    void *block = manager->allocate(1000);
    void *aligned = manager->allocate(1000, 256);
    std::memset(block, 0x42, 1000);
    std::memset(aligned, 0x43, 1000);
    CHECK(manager->reallocate(block, 8000) == nullptr);
    CHECK(manager->reallocate(block, SIZE_MAX) == nullptr);
    CHECK(manager->reallocate(aligned, 8000) == nullptr);
    CHECK(holds(block, 0x42, 1000) && holds(aligned, 0x43, 1000));
    CHECK_EQUAL(pmm::get_info(manager, block).size, 1000);
    CHECK_EQUAL(pmm::get_info(manager, aligned).alignment, 256);
    CHECK(manager->validate());
}

/* ---- statistics ---- */

TEST(used_size_grows_by_what_was_asked_for)
{
    PersistMemoryManager *manager = manager_of();
    std::size_t used = 136;
    for (std::size_t size = 1; size < 100; size += 3) {
        CHECK(manager->allocate(size) != nullptr);
        used += size;
        CHECK_EQUAL(manager->used_size(), used);
        CHECK(manager->used_size() + manager->free_size() <= manager->total_size());
    }
}

TEST(fragmentation_counts_the_areas_beyond_the_first)
{
    PersistMemoryManager *manager = manager_of();
    std::vector<void *> blocks;
    for (int i = 0; i < 20; i++) blocks.push_back(manager->allocate(200));
    CHECK_EQUAL(manager->fragmentation(), 0);
    for (std::size_t i = 0; i < blocks.size(); i += 2) manager->deallocate(blocks[i]);
    CHECK_EQUAL(manager->fragmentation(), 10);
    for (std::size_t i = 1; i < blocks.size(); i += 2) manager->deallocate(blocks[i]);
    CHECK_EQUAL(manager->fragmentation(), 0);
}

TEST(get_stats_measures_areas)
{
    PersistMemoryManager *manager = manager_of();
    const std::size_t all = pmm::get_stats(manager).largest_free;
    void *blocks[4];
    for (std::size_t i = 0; i < 4; i++) blocks[i] = manager->allocate(160 * (i + 1));
    manager->deallocate(blocks[0]);
    manager->deallocate(blocks[2]);
    const pmm::MemoryStats stats = pmm::get_stats(manager);
    CHECK_EQUAL(stats.allocated_blocks, 2);
    CHECK_EQUAL(stats.free_blocks, 3);
    CHECK_EQUAL(stats.total_blocks, 5);
    CHECK_EQUAL(stats.smallest_free, 160);
    CHECK_EQUAL(stats.largest_free, all - 1600);
    CHECK_EQUAL(stats.total_fragmentation, 480 + all - 1600);
}

TEST(get_stats_of_a_full_manager_has_no_free_area)
{
    PersistMemoryManager *manager = manager_of(8192);
    CHECK(manager->allocate(pmm::get_stats(manager).largest_free) != nullptr);
    const pmm::MemoryStats stats = pmm::get_stats(manager);
    CHECK_EQUAL(stats.total_blocks, 1);
    CHECK_EQUAL(stats.free_blocks, 0);
    CHECK_EQUAL(stats.largest_free, 0);
    CHECK_EQUAL(stats.smallest_free, 0);
    CHECK(manager->allocate(1) == nullptr);
}

TEST(get_stats_of_null_is_zeros)
{
    const pmm::MemoryStats stats = pmm::get_stats(nullptr);
    CHECK_EQUAL(stats.total_blocks + stats.free_blocks + stats.allocated_blocks, 0);
    CHECK_EQUAL(stats.largest_free + stats.smallest_free + stats.total_fragmentation, 0);
}

TEST(get_info_tells_what_was_asked_for)
{
    PersistMemoryManager *manager = manager_of();
    for (std::size_t size : {1u, 15u, 16u, 17u, 31u, 32u, 33u, 1000u}) {
        void *block = manager->allocate(size, 64);
        const pmm::AllocationInfo info = pmm::get_info(manager, block);
        CHECK(info.is_valid && info.ptr == block);
        CHECK_EQUAL(info.size, size);
        CHECK_EQUAL(info.alignment, 64);
    }
}

TEST(get_info_is_invalid_for_all_that_is_no_live_block)
{
    PersistMemoryManager *manager = manager_of();
    unsigned char *block = static_cast<unsigned char *>(manager->allocate(100));
    int on_the_stack = 0;
    CHECK(!pmm::get_info(manager, nullptr).is_valid);
    CHECK(!pmm::get_info(nullptr, block).is_valid);
    CHECK(!pmm::get_info(manager, block + 16).is_valid);
    CHECK(!pmm::get_info(manager, block + 3).is_valid);
    CHECK(!pmm::get_info(manager, &on_the_stack).is_valid);
    CHECK(!pmm::get_info(manager, manager).is_valid);
    CHECK(!pmm::get_info(manager, block + kSize).is_valid);
    manager->deallocate(block);
    const pmm::AllocationInfo info = pmm::get_info(manager, block);
    CHECK(!info.is_valid && info.ptr == block);
    CHECK_EQUAL(info.size, 0);
}

TEST(typical_fragmentation_stays_below_15_percent)
{
    PersistMemoryManager *manager = manager_of(4 << 20);
    uint64_t random = test_seed();
    std::vector<void *> blocks(2000);
    for (int round = 0; round < 40000; round++) {
        void *&block = blocks[test_random(&random) % blocks.size()];
        manager->deallocate(block);
        block = manager->allocate(16 + test_random(&random) % 1000);
    }
    const pmm::MemoryStats stats = pmm::get_stats(manager);
    CHECK(stats.total_fragmentation - stats.largest_free < (4 << 20) * 15 / 100);
    CHECK(manager->validate());
}

/* ---- typed pointers ---- */

TEST(a_pptr_is_a_word_and_null_by_default)
{
    static_assert(sizeof(pptr<double>) == sizeof(void *), "one word");
    static_assert(std::is_trivially_copyable_v<pptr<double>>, "plain memory");
    static_assert(!std::is_convertible_v<std::ptrdiff_t, pptr<double>>, "explicit");
    const pptr<double> null;
    CHECK(null.is_null() && !null);
    CHECK_EQUAL(null.offset(), 0);
    CHECK(null == pptr<double>(0));
    CHECK(null.resolve(manager_of()) == nullptr);
}

TEST(a_pptr_resolves_against_its_manager)
{
    PersistMemoryManager *manager = manager_of();
    const PersistMemoryManager *constant = manager;
    pptr<long> pointer = manager->allocate_typed<long>();
    CHECK(pointer && !pointer.is_null());
    *pointer.resolve(manager) = 77;
    CHECK_EQUAL(*pointer.resolve(constant), 77);
    CHECK(pointer.get(manager) == pointer.resolve(manager));
    CHECK(pointer.resolve(static_cast<PersistMemoryManager *>(nullptr)) == nullptr);
    CHECK(manager->offset_to_ptr(pointer.offset()) == pointer.resolve(manager));
    CHECK(constant->offset_to_ptr(pointer.offset()) == pointer.resolve(constant));
    CHECK(pptr<long>(pointer.offset()) == pointer);
    CHECK(pptr<long>(pointer.offset() + 8) != pointer);
}

TEST(a_pptr_that_leads_out_of_the_buffer_is_null)
{
    PersistMemoryManager *manager = manager_of();
    const std::ptrdiff_t end = static_cast<std::ptrdiff_t>(kSize);
    CHECK(manager->offset_to_ptr(0) == nullptr);
    CHECK(manager->offset_to_ptr(-16) == nullptr);
    CHECK(manager->offset_to_ptr(end) == nullptr);
    CHECK(pptr<long>(end - 8).resolve(manager) != nullptr);
    CHECK(pptr<long>(end - 7).resolve(manager) == nullptr);
    CHECK(pptr<long>(PTRDIFF_MIN).resolve(manager) == nullptr);
    CHECK(pptr<long>(64).resolve_at(manager, SIZE_MAX) == nullptr);
    CHECK(pptr<long>(64).resolve_at(manager, SIZE_MAX / 8) == nullptr);
    CHECK(pptr<long>(64).resolve_at(manager, kSize) == nullptr);
}

TEST(allocate_typed_makes_arrays)
{
    PersistMemoryManager *manager = manager_of();
    struct alignas(64) Line {
        char bytes[64];
    };
    const pptr<Line> lines = manager->allocate_typed<Line>(10);
    CHECK(is_aligned(lines.resolve(manager), 64));
    CHECK(lines.resolve_at(manager, 9) == lines.resolve(manager) + 9);
    CHECK_EQUAL(pmm::get_info(manager, lines.resolve(manager)).size, 640);
    const pptr<char> bytes = manager->allocate_typed<char>(3);
    CHECK_EQUAL(pmm::get_info(manager, bytes.resolve(manager)).alignment, 8);
    CHECK(manager->allocate_typed<long>(0).is_null());
    CHECK(manager->allocate_typed<long>(SIZE_MAX / 2).is_null());
    CHECK(manager->allocate_typed<long>(SIZE_MAX / 8 + 2).is_null());
    CHECK(manager->allocate_typed<Line>(kSize).is_null());
}

TEST(deallocate_typed_frees_and_ignores_null)
{
    PersistMemoryManager *manager = manager_of();
    const pptr<int> numbers = manager->allocate_typed<int>(50);
    manager->deallocate_typed(pptr<int>());
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 1);
    manager->deallocate_typed(numbers);
    manager->deallocate_typed(numbers);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 0);
}

TEST(a_list_of_pptrs_lives_in_the_manager)
{
    struct Node {
        int value;
        pptr<Node> next;
    };
    PersistMemoryManager *manager = manager_of();
    pptr<Node> head;
    for (int i = 0; i < 1000; i++) {
        const pptr<Node> node = manager->allocate_typed<Node>();
        *node.resolve(manager) = {i, head};
        head = node;
    }
    int expected = 1000;
    for (pptr<Node> node = head; node; node = node.resolve(manager)->next)
        CHECK_EQUAL(node.resolve(manager)->value, --expected);
    CHECK_EQUAL(expected, 0);
}

TEST(typed_objects_can_be_constructed_and_destroyed)
{
    static int alive;
    struct Counted {
        explicit Counted(int number) : value(number)
        {
            alive++;
        }
        ~Counted()
        {
            alive--;
        }
        int value;
    };
    alive = 0;
    PersistMemoryManager *manager = manager_of(8192);
    const pptr<Counted> object = manager->create_typed<Counted>(5);
    CHECK_EQUAL(object.resolve(manager)->value, 5);
    CHECK_EQUAL(alive, 1);
    manager->destroy_typed(object);
    manager->destroy_typed(pptr<Counted>());
    CHECK_EQUAL(alive, 0);
    while (manager->allocate(16)) {
    }
    CHECK(manager->create_typed<Counted>(6).is_null());
    CHECK_EQUAL(alive, 0);
}

TEST(a_constructor_that_throws_leaves_no_block)
{
    struct Thrower {
        Thrower()
        {
            throw 7;
        }
    };
    PersistMemoryManager *manager = manager_of();
    int caught = 0;
    try {
        (void)manager->create_typed<Thrower>();
    } catch (int number) {
        caught = number;
    }
    CHECK_EQUAL(caught, 7);
    CHECK_EQUAL(pmm::get_stats(manager).allocated_blocks, 0);
}

TEST(the_heap_inside_has_roots_by_name)
{
    PersistMemoryManager *manager = manager_of(65536);
    long *visits = static_cast<long *>(evh_root(manager->heap(), "visits", sizeof(long)));
    CHECK(visits != nullptr);
    *visits = 3;
    CHECK(manager->validate());
    CHECK(PersistMemoryManager::load(manager, 65536) == manager);
    CHECK_EQUAL(*static_cast<long *>(evh_root(manager->heap(), "visits", sizeof(long))), 3);
}
