/* bump_allocator_test.cpp -- the classes of compat/bump_allocator.hpp, as earlier programs use
 * them. */
#include "bump_allocator.hpp"

extern "C" {
#include "test.h"
}

#include <cstring>
#include <list>
#include <set>
#include <thread>

template <typename Run> static bool is_refused(Run run)
{
    try {
        run();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

TEST(a_bump_allocator_aligns_to_16)
{
    BumpAllocator allocator(65536);
    for (std::size_t size = 1; size < 200; size++) CHECK(is_aligned(allocator.allocate(size), 16));
}

TEST(allocations_do_not_overlap)
{
    BumpAllocator allocator(1 << 20);
    std::vector<unsigned char *> all;
    for (int i = 0; i < 1000; i++) {
        all.push_back(static_cast<unsigned char *>(allocator.allocate(100)));
        std::memset(all.back(), i & 255, 100);
    }
    for (std::size_t i = 0; i < 1000; i++)
        for (int j = 0; j < 100; j++) CHECK_EQUAL(all[i][j], i & 255);
}

TEST(an_allocator_that_is_used_up_throws)
{
    BumpAllocator allocator(4096);
    (void)allocator.allocate(4096);
    CHECK(is_refused([&] { allocator.allocate(1); }));
    CHECK(allocator.try_allocate(1) == nullptr);
}

TEST(a_million_blocks_do_not_fit_into_a_mebibyte)
{
    BumpAllocator allocator(1 << 20);
    std::size_t got = 0;
    while (allocator.try_allocate(16)) got++;
    CHECK_EQUAL(got, 65536);
}

TEST(sizes_that_overflow_are_refused)
{
    BumpAllocator allocator(65536);
    CHECK(is_refused([&] { allocator.allocate(SIZE_MAX); }));
    CHECK(is_refused([&] { allocator.allocate(SIZE_MAX - 100); }));
    CHECK(is_refused([&] { allocator.allocate_cache_aligned(SIZE_MAX - 10); }));
    CHECK(is_refused([&] { allocator.allocate_array<std::uint64_t>(SIZE_MAX / 4); }));
}

TEST(any_power_of_two_is_an_alignment)
{
    BumpAllocator allocator(1 << 20);
    for (std::size_t alignment = 1; alignment <= 65536; alignment *= 2)
        CHECK(is_aligned(allocator.allocate_aligned(10, alignment), alignment));
}

TEST(other_numbers_are_no_alignment)
{
    BumpAllocator allocator(65536);
    for (std::size_t alignment :
         {std::size_t{0}, std::size_t{3}, std::size_t{24}, std::size_t{100}})
        CHECK(is_refused([&] { allocator.allocate_aligned(10, alignment); }));
}

TEST(vectors_are_aligned_to_64)
{
    BumpAllocator allocator(65536);
    (void)allocator.allocate(1);
    CHECK(is_aligned(allocator.allocate_simd(100), AVX512_ALIGNMENT));
    CHECK(is_aligned(allocator.allocate_cache_aligned(1), CACHE_LINE_SIZE));
}

TEST(a_reset_gives_all_of_it_back)
{
    BumpAllocator allocator(65536);
    void *first = allocator.allocate(60000);
    allocator.reset();
    CHECK_EQUAL(allocator.used(), 0);
    CHECK(allocator.allocate(60000) == first);
}

TEST(an_allocator_knows_its_size_and_what_is_left)
{
    BumpAllocator allocator(65536);
    CHECK_EQUAL(allocator.size(), 65536);
    CHECK_EQUAL(allocator.available(), 65536);
    (void)allocator.allocate(1024);
    CHECK_EQUAL(allocator.used(), 1024);
    CHECK_EQUAL(allocator.available(), 65536 - 1024);
}

TEST(the_fast_policy_aligns_to_64)
{
    BumpAllocator<HighPerformancePolicy> allocator(65536);
    for (int i = 0; i < 100; i++) CHECK(is_aligned(allocator.allocate(1), 64));
}

TEST(the_safe_policy_has_guard_pages)
{
    BumpAllocator<SafetyPolicy> allocator(65536);
    void *memory = allocator.allocate(65536);
    std::memset(memory, 1, 65536);
    CHECK(allocator.try_allocate(65536) == nullptr);
}

TEST(a_custom_policy_has_its_alignment_and_smallest_size)
{
    BumpAllocator<CustomAlignmentConfig> allocator(65536);
    const char *first = static_cast<char *>(allocator.allocate(1));
    const char *next = static_cast<char *>(allocator.allocate(1));
    CHECK(is_aligned(first, 32));
    CHECK_EQUAL(first - next, 64);
}

TEST(the_packed_policy_wastes_nothing)
{
    BumpAllocator<PackedPolicy> allocator(4096);
    for (int i = 0; i < 4096; i++) CHECK(allocator.try_allocate(1) != nullptr);
}

TEST(a_scope_releases_what_was_allocated_in_it)
{
    BumpAllocator allocator(65536);
    (void)allocator.allocate(16);
    const std::size_t used = allocator.used();
    for (int i = 0; i < 1000; i++) {
        ScopedAllocation scope(allocator);
        CHECK(scope.allocate(30000) != nullptr);
    }
    CHECK_EQUAL(allocator.used(), used);
}

TEST(objects_are_built_in_it)
{
    struct point {
        double x, y;
        point(double a, double b) : x(a), y(b)
        {
        }
    };
    BumpAllocator allocator(4096);
    const point *made = allocator.create<point>(1.5, 2.5);
    CHECK(made->x == 1.5 && made->y == 2.5);
    CHECK(is_aligned(made, alignof(point)));
}

TEST(containers_live_in_it)
{
    BumpAllocator allocator(1 << 20);
    using list_allocator = StlBumpAllocator<int>;
    std::list<int, list_allocator> list{list_allocator(allocator)};
    std::vector<int, list_allocator> vector{list_allocator(allocator)};
    for (int i = 0; i < 1000; i++) {
        list.push_back(i);
        vector.push_back(i);
    }
    int next = 0;
    for (int value : list) CHECK_EQUAL(value, next++);
    CHECK_EQUAL(vector[999], 999);
    CHECK(allocator.owns(vector.data(), 4000));
}

TEST(a_region_is_validated)
{
    BumpAllocator allocator(65536);
    const char *memory = static_cast<char *>(allocator.allocate(100));
    char outside;
    CHECK(allocator.validate_memory_region(memory, 100));
    CHECK(!allocator.validate_memory_region(&outside, 1));
}

TEST(statistics_count_and_remember_the_peak)
{
    BumpAllocator allocator(65536);
    for (int i = 0; i < 10; i++) (void)allocator.allocate(100);
    allocator.reset();
    (void)allocator.allocate(50);
    CHECK_EQUAL(allocator.stats().allocation_count, 1);
    CHECK_EQUAL(allocator.stats().total_allocated, 50);
    CHECK_EQUAL(allocator.stats().peak_usage, 1000);
}

TEST(corruption_is_found_where_it_is_asked_for)
{
    DebugConfig debug;
    debug.check_corruption = true;
    BumpAllocator allocator(65536, debug);
    char *memory = static_cast<char *>(allocator.allocate(100));
    std::memset(memory, 0, 100);
    CHECK(allocator.check_corruption());
}

TEST(stacks_are_guarded_and_given_back_by_a_reset)
{
    BumpAllocator allocator(65536);
    const StackAllocation stack = allocator.allocate_stack(32768);
    CHECK_EQUAL(stack.size, 32768);
    CHECK(static_cast<char *>(stack.guard_low) < stack.base);
    CHECK(stack.guard_high == static_cast<char *>(stack.base) + stack.size);
    std::memset(stack.base, 1, stack.size);
    allocator.reset();
    CHECK(allocator.allocate_stack(32768).base == stack.base);
}

TEST(fiber_stacks_come_by_size)
{
    FiberStackAllocator allocator;
    const FiberStack small = allocator.allocate_fiber_stack(16384, "small");
    const FiberStack large = allocator.allocate_fiber_stack(100000, "large");
    CHECK_EQUAL(small.stack_size, 16384);
    CHECK_EQUAL(large.stack_size, 102400);
    CHECK(std::strcmp(large.handle->label, "large") == 0);
    static_cast<char *>(small.stack_ptr)[-1] = 1;
    allocator.deallocate_fiber_stack(small);
    CHECK(allocator.allocate_fiber_stack(16384).stack_ptr == small.stack_ptr);
    CHECK(is_refused([&] { allocator.allocate_fiber_stack(SIZE_MAX); }));
    CHECK(is_refused([&] { allocator.allocate_fiber_stack(0); }));
}

TEST(a_hundred_thousand_fiber_stacks)
{
    bool has_marks = true;
    {
        FiberStackAllocator allocator; /* its end gives the mappings back, which SKIP() does not */
        try {
            for (int i = 0; i < 100000; i++) (void)allocator.allocate_fiber_stack(16384);
        } catch (const std::bad_alloc &) {
            has_marks = std::strstr(evh_last_error()->message, "mprotect()") == nullptr;
            CHECK(!has_marks);
        }
    }
    if (!has_marks) SKIP("this kernel has no guard marks");
}

TEST(a_pool_gives_its_blocks_and_no_more)
{
    PoolConfig config;
    config.block_size = 128;
    config.block_count = 100;
    MemoryPool pool(config);
    std::set<void *> all;
    for (int i = 0; i < 100; i++) all.insert(pool.allocate());
    CHECK_EQUAL(all.size(), 100);
    CHECK(is_refused([&] { pool.allocate(); }));
    CHECK(pool.try_allocate() == nullptr);
    for (void *block : all) pool.deallocate(block);
    CHECK_EQUAL(pool.live(), 0);
    CHECK(all.count(pool.allocate()) == 1);
}

TEST(a_pool_with_guard_pages_works_as_one_without)
{
    PoolConfig config;
    config.use_guard_pages = true;
    config.block_count = 10;
    DebugConfig debug;
    debug.validate_access = debug.check_corruption = true;
    MemoryPool pool(config, debug);
    void *block = pool.allocate();
    std::memset(block, 1, config.block_size);
    pool.deallocate(block);
    CHECK_EQUAL(pool.live(), 0);
}

TEST(a_manager_has_pools_for_small_sizes)
{
    MemoryManager manager(512);
    std::vector<std::pair<void *, std::size_t>> all;
    for (std::size_t size = 0; size < 2000; size++) {
        all.emplace_back(manager.allocate(size), size);
        std::memset(all.back().first, static_cast<int>(size & 255), size);
    }
    for (const auto &block : all)
        for (std::size_t i = 0; i < block.second; i++)
            CHECK_EQUAL(static_cast<unsigned char *>(block.first)[i], block.second & 255);
    for (const auto &block : all) manager.deallocate(block.first, block.second);
    manager.deallocate(nullptr, 5);
}

TEST(threads_share_the_shared_allocator)
{
    SharedBumpAllocator allocator(1 << 20);
    std::vector<std::thread> threads;
    std::vector<std::vector<std::uint64_t *>> blocks(8);
    for (std::size_t t = 0; t < 8; t++)
        threads.emplace_back([&, t] {
            for (std::uint64_t i = 0; i < 10000; i++) {
                auto *block = static_cast<std::uint64_t *>(allocator.allocate(16));
                *block = t << 32 | i;
                blocks[t].push_back(block);
            }
        });
    for (auto &thread : threads) thread.join();
    for (std::size_t t = 0; t < 8; t++)
        for (std::uint64_t i = 0; i < 10000; i++) CHECK_EQUAL(*blocks[t][i], t << 32 | i);
    allocator.reset();
    CHECK(is_refused([&] { allocator.allocate(16, 5); }));
}

TEST(leaks_are_what_was_not_deallocated)
{
    LeakDetector detector;
    int one = 0, two = 0;
    detector.record_allocation(&one, 4, "first");
    detector.record_allocation(&two, 4, "second");
    CHECK(detector.record_deallocation(&one));
    CHECK(!detector.record_deallocation(&one));
    CHECK_EQUAL(detector.report_leaks(nullptr), 1);
}

TEST(a_monitor_counts)
{
    MemoryMonitor monitor;
    monitor.record_allocation(100, 128);
    monitor.record_allocation(28, 32);
    monitor.record_deallocation(28, 32);
    const MemoryMonitor::Statistics statistics = monitor.get_statistics();
    CHECK_EQUAL(statistics.total_allocated, 128);
    CHECK_EQUAL(statistics.current_usage, 100);
    CHECK_EQUAL(statistics.peak_usage, 128);
    CHECK_EQUAL(statistics.allocation_count, 2);
    CHECK(statistics.fragmentation_ratio > 0.2 && statistics.fragmentation_ratio < 0.22);
}

TEST(memory_inside_the_object_starts_over_when_all_is_given_back)
{
    bump<64> small;
    CHECK(small.alloc<char>(3) != nullptr);
    CHECK(is_aligned(small.alloc<double>(), alignof(double)));
    CHECK_EQUAL(small.get_current_pos(), 16);
    CHECK_EQUAL(small.get_allocation_count(), 2);
    CHECK_EQUAL(small.get_available_space(), 48);
    CHECK(small.alloc<char>(49) == nullptr);
    CHECK(small.alloc<double>(SIZE_MAX / 4) == nullptr);
    small.dealloc();
    CHECK_EQUAL(small.get_current_pos(), 16);
    small.dealloc();
    CHECK_EQUAL(small.get_current_pos(), 0);
    small.dealloc();
    CHECK(small.alloc<char>(64) != nullptr);
}

TEST(the_packed_one_inside_the_object_is_not_aligned)
{
    fixed::BumpAllocator<16> packed;
    CHECK(packed.alloc<char>() != nullptr);
    CHECK(packed.alloc<char[8]>() != nullptr);
    CHECK_EQUAL(packed.allocations(), 2);
    CHECK_EQUAL(packed.remaining_space(), 7);
    CHECK_EQUAL(packed.capacity(), 16);
}

TEST(the_one_that_goes_down_ends_at_its_start)
{
    BumpDown<64> down;
    const char *first = down.alloc<char>();
    const double *next = down.alloc<double>(6);
    CHECK(reinterpret_cast<const char *>(next) < first);
    CHECK(down.alloc<double>(2) == nullptr);
    CHECK(down.alloc<double>() != nullptr);
    CHECK_EQUAL(down.remaining_space(), 0);
    for (int i = 0; i < 3; i++) down.dealloc();
    CHECK_EQUAL(down.remaining_space(), down.capacity());
}
