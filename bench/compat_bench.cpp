/* compat_bench.cpp -- the figures of the compatibility headers: allocate, free, alternate. */
#include "persist_memory_manager.h"
#include "persistent_mem.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <string>
#include <vector>

/*
 * Method
 *   100,000 blocks of 64 bytes are allocated, then freed in the order of their allocation, in the
 *   reverse, and in random order; a million operations allocate and free one block in turn; and
 *   another million one of 1000 places, blocks of 16 to 256 bytes, half of them alive. Each figure
 *   is the median of the rounds in processor time, with the best beside it. The first round, which
 *   touches the memory, is not counted.
 */

namespace
{

constexpr std::size_t kBlocks = 100000;
constexpr int kRounds = 15;

/* Of processor time, so that other work on the machine is not counted. */
double now_ms()
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

struct Figure {
    std::vector<double> values;

    void print(const char *name, const char *target)
    {
        std::sort(values.begin(), values.end());
        std::printf("%-44s %8.2f ms   best %8.2f   %s\n", name, values[values.size() / 2],
                    values.front(), target);
    }
};

[[noreturn]] void die(const char *what)
{
    std::fprintf(stderr, "compat_bench: %s: %s\n", what, evh_last_error()->message);
    std::exit(2);
}

enum class Order { Same, Reverse, Random };

template <typename Allocate, typename Free>
void measure(const char *name, Allocate allocate, Free release)
{
    static const char *const orders[] = {"in order", "in reverse", "in any order"};
    std::mt19937 random(1);
    std::vector<void *> blocks(kBlocks);
    Figure allocations;
    char label[64];
    for (const Order order : {Order::Same, Order::Reverse, Order::Random}) {
        Figure frees;
        for (int round = 0; round <= kRounds; round++) {
            const double start = now_ms();
            for (void *&block : blocks) block = allocate(64);
            const double allocated = now_ms() - start;
            if (!blocks.back()) die("allocate");
            if (order == Order::Reverse) std::reverse(blocks.begin(), blocks.end());
            if (order == Order::Random) std::shuffle(blocks.begin(), blocks.end(), random);
            const double middle = now_ms();
            for (void *block : blocks) release(block);
            if (round > 0) allocations.values.push_back(allocated);
            if (round > 0) frees.values.push_back(now_ms() - middle);
        }
        std::snprintf(label, sizeof label, "%s: free 100,000 %s", name,
                      orders[static_cast<int>(order)]);
        frees.print(label, "target 2 ms");
    }
    std::snprintf(label, sizeof label, "%s: allocate 100,000 blocks", name);
    allocations.print(label, "target 1 ms");
}

template <typename Allocate, typename Free>
void alternate(const char *name, Allocate allocate, Free release)
{
    Figure pairs;
    for (int round = 0; round < 5; round++) {
        const double start = now_ms();
        for (int i = 0; i < 500000; i++) release(allocate(64));
        pairs.values.push_back(now_ms() - start);
    }
    char label[64];
    std::snprintf(label, sizeof label, "%s: 1,000,000 in turn", name);
    pairs.print(label, "before: 17.7 ms");

    std::mt19937 random(2);
    std::vector<void *> blocks(1000);
    std::vector<unsigned> choices(1000000);
    for (unsigned &choice : choices) choice = static_cast<unsigned>(random());
    Figure figure;
    for (int round = 0; round < 5; round++) {
        const double start = now_ms();
        for (const unsigned choice : choices) {
            void *&block = blocks[choice % 1000];
            if (block) release(block);
            block = block ? nullptr : allocate(16 + (choice >> 16) % 241);
        }
        figure.values.push_back(now_ms() - start);
    }
    for (void *block : blocks)
        if (block) release(block);
    std::snprintf(label, sizeof label, "%s: 1,000,000 of mixed sizes", name);
    figure.print(label, "");
}

} // namespace

int main()
{
    const std::size_t size = 32 << 20;
    std::vector<unsigned char> buffer(size);
    auto *manager = pmm::PersistMemoryManager::create(buffer.data(), size);
    if (!manager) die("create");
    const auto allocate = [manager](std::size_t bytes) { return manager->allocate(bytes); };
    const auto release = [manager](void *block) { manager->deallocate(block); };
    measure("manager", allocate, release);
    alternate("manager", allocate, release);
    manager->destroy();

    const char *directory = std::getenv("BENCH_DIR");
    const std::string path = std::string(directory ? directory : "/tmp") + "/compat-bench.heap";
    (void)std::remove(path.c_str());
    for (const std::size_t limit : {size, std::size_t(PERSISTENT_UNLIMITED)}) {
        const char *name = limit == size ? "space, 32 MiB" : "space, unlimited";
        allocator_space_t *space = create_persistent_allocator(path.c_str(), limit);
        if (!space) die(path.c_str());
        measure(
            name, [space](std::size_t bytes) { return persistent_malloc(space, bytes); },
            [space](void *block) { persistent_free(space, block); });
        destroy_persistent_allocator(space);
        (void)std::remove(path.c_str());
    }
    return 0;
}
