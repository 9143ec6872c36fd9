/* arena_boost.cpp -- Boost's and the C++ library's arenas, pools and stacks, for arena_bench. */
#include <boost/context/protected_fixedsize_stack.hpp>
#include <boost/pool/pool.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory_resource>
#include <vector>

namespace
{

constexpr unsigned rounds = 15, blocks = 20000, pairs = 200000, stacks = 4000;
constexpr std::size_t stack_bytes = 64 * 1024;

void keep(void *block)
{
    __asm__ volatile("" : : "r"(block) : "memory");
}

/* The median of `rounds` runs, in nanoseconds for each of `operations`. */
template <typename Run> void print(const char *name, unsigned operations, Run run)
{
    std::vector<double> figures;
    for (unsigned i = 0; i < rounds; i++) {
        const auto start = std::chrono::steady_clock::now();
        run();
        const std::chrono::duration<double, std::nano> elapsed =
            std::chrono::steady_clock::now() - start;
        figures.push_back(elapsed.count() / operations);
    }
    std::nth_element(figures.begin(), figures.begin() + rounds / 2, figures.end());
    std::printf("  %-34s %7.2f ns\n", name, figures[rounds / 2]);
}

} // namespace

int main()
{
    std::printf("\nBoost and the C++ library, the same work\n");
    std::vector<char> buffer(1 << 20);
    print("allocate 24: pmr::monotonic", blocks, [&] {
        std::pmr::monotonic_buffer_resource arena(buffer.data(), buffer.size());
        for (unsigned i = 0; i < blocks; i++) keep(arena.allocate(24, 8));
    });
    boost::pool<> pool(64);
    print("64 got and put: boost::pool", pairs, [&] {
        for (unsigned i = 0; i < pairs; i++) {
            void *block = pool.malloc();
            keep(block);
            pool.free(block);
        }
    });
    boost::context::protected_fixedsize_stack allocator(stack_bytes);
    print("stack, touched: protected_fixedsize", stacks, [&] {
        for (unsigned i = 0; i < stacks; i++) {
            auto stack = allocator.allocate();
            static_cast<char *>(stack.sp)[-1] = 1;
            allocator.deallocate(stack);
        }
    });
    std::vector<boost::context::stack_context> all(stacks);
    std::vector<double> figures;
    for (unsigned round = 0; round < rounds; round++) {
        const auto start = std::chrono::steady_clock::now();
        for (auto &stack : all) {
            stack = allocator.allocate();
            static_cast<char *>(stack.sp)[-1] = 1;
        }
        const std::chrono::duration<double, std::nano> elapsed =
            std::chrono::steady_clock::now() - start;
        figures.push_back(elapsed.count() / stacks);
        for (auto &stack : all) allocator.deallocate(stack);
    }
    std::nth_element(figures.begin(), figures.begin() + rounds / 2, figures.end());
    std::printf("  %-34s %7.2f ns\n", "new stack: protected_fixedsize", figures[rounds / 2]);
    return 0;
}
