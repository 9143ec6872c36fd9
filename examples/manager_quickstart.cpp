/* manager_quickstart.cpp -- a persistent manager in a buffer: allocate, save, load elsewhere. */
#include "persist_memory_manager.h"

#include <cstdio>
#include <cstdlib>

/* Written for the documented interface of pmm::PersistMemoryManager; nothing of it is
 * everheap's. */
int main(int argc, char **argv)
{
    const char *filename = argc > 1 ? argv[1] : "heap.img";
    const std::size_t size = 1024 * 1024;

    void *memory = std::malloc(size);
    pmm::PersistMemoryManager *manager = pmm::PersistMemoryManager::create(memory, size);
    if (!manager) return 1;

    void *block1 = manager->allocate(256);
    void *block2 = manager->allocate(512, 32);
    block1 = manager->reallocate(block1, 1024);
    if (!block1 || !block2) return 1;

    pmm::pptr<int> numbers = manager->allocate_typed<int>(10);
    for (std::size_t i = 0; i < 10; i++) *numbers.resolve_at(manager, i) = static_cast<int>(i * i);
    const std::ptrdiff_t where = numbers.offset();

    manager->deallocate(block2);
    if (!manager->validate()) return 1;
    manager->dump_stats();
    const pmm::AllocationInfo info = pmm::get_info(manager, block1);
    std::printf("block of %zu bytes, aligned to %zu\n", info.size, info.alignment);

    if (!manager->save(filename)) return 1;
    manager->destroy();
    std::free(memory);

    /* Another run, another address. */
    void *other = std::malloc(2 * size);
    manager = pmm::PersistMemoryManager::load_from_file(filename, other, 2 * size);
    if (!manager || !manager->validate()) return 1;
    numbers = pmm::pptr<int>(where);
    std::printf("number 7 is %d\n", *numbers.resolve_at(manager, 7));
    manager->deallocate_typed(numbers);
    const pmm::MemoryStats stats = pmm::get_stats(manager);
    std::printf("%zu blocks, %zu free areas\n", stats.allocated_blocks, stats.free_blocks);
    manager->destroy();
    std::free(other);
    return 0;
}
