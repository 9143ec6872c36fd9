/* compat_manager_file_test.cpp -- managers in files and mappings, damaged ones, and in threads. */
#include "persist_memory_manager.h"
#include "test.h"

#include <cerrno>
#include <csignal>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <vector>

#define main quickstart_main
#include "../examples/manager_quickstart.cpp"
#undef main

using pmm::PersistMemoryManager;
using pmm::pptr;

namespace
{

constexpr std::size_t kSize = 256 << 10;

unsigned char *buffer_of(int which)
{
    alignas(4096) static unsigned char buffers[3][kSize + 8192];
    std::memset(buffers[which], 0xa5, sizeof buffers[which]);
    return buffers[which];
}

PersistMemoryManager *manager_of(std::size_t size = kSize)
{
    PersistMemoryManager *manager = PersistMemoryManager::create(buffer_of(0), size);
    CHECK(manager != nullptr);
    return manager;
}

void write_file(const char *path, const void *bytes, std::size_t size)
{
    FILE *file = std::fopen(path, "wb");
    CHECK(file != nullptr);
    CHECK(size == 0 || std::fwrite(bytes, 1, size, file) == size);
    CHECK_EQUAL(std::fclose(file), 0);
}

std::size_t file_size_of(const char *path)
{
    struct stat status;
    CHECK_EQUAL(::stat(path, &status), 0);
    return static_cast<std::size_t>(status.st_size);
}

/* A saved manager with 100 numbers; where they are. */
std::ptrdiff_t save_numbers(const char *path)
{
    PersistMemoryManager *manager = manager_of();
    const pptr<int> numbers = manager->allocate_typed<int>(100);
    for (int i = 0; i < 100; i++) *numbers.resolve_at(manager, static_cast<std::size_t>(i)) = 3 * i;
    CHECK(manager->save(path));
    manager->destroy();
    return numbers.offset();
}

} // namespace

/* ---- save and load_from_file ---- */

TEST(a_saved_manager_loads_at_another_address)
{
    const char *path = test_path("saved.img");
    const pptr<int> numbers(save_numbers(path));
    CHECK_EQUAL(file_size_of(path), kSize);
    PersistMemoryManager *loaded =
        PersistMemoryManager::load_from_file(path, buffer_of(1) + 4096, kSize);
    CHECK(loaded != nullptr);
    CHECK_EQUAL(*numbers.resolve_at(loaded, 33), 99);
    CHECK(loaded->validate());
    CHECK(loaded->allocate(100) != nullptr);
    loaded->destroy();
}

TEST(a_larger_buffer_takes_the_size_of_the_file)
{
    const char *path = test_path("saved.img");
    (void)save_numbers(path);
    PersistMemoryManager *loaded =
        PersistMemoryManager::load_from_file(path, buffer_of(1), kSize + 8192);
    CHECK(loaded != nullptr);
    CHECK_EQUAL(loaded->total_size(), kSize);
    loaded->destroy();
}

TEST(a_manager_is_saved_and_loaded_many_times)
{
    const char *path = test_path("saved.img");
    const pptr<int> counter = [&] {
        PersistMemoryManager *manager = manager_of();
        const pptr<int> made = manager->allocate_typed<int>();
        *made.resolve(manager) = 0;
        CHECK(manager->save(path));
        return made;
    }();
    for (int run = 0; run < 10; run++) {
        PersistMemoryManager *manager =
            PersistMemoryManager::load_from_file(path, buffer_of(run % 3), kSize);
        CHECK(manager != nullptr);
        CHECK_EQUAL(*counter.resolve(manager), run);
        ++*counter.resolve(manager);
        CHECK(manager->save(path));
    }
}

TEST(load_from_file_refuses_null_arguments_and_small_buffers)
{
    const char *path = test_path("saved.img");
    (void)save_numbers(path);
    CHECK(PersistMemoryManager::load_from_file(nullptr, buffer_of(1), kSize) == nullptr);
    CHECK(PersistMemoryManager::load_from_file(path, nullptr, kSize) == nullptr);
    CHECK(PersistMemoryManager::load_from_file(path, buffer_of(1), 4095) == nullptr);
    CHECK(PersistMemoryManager::load_from_file(path, buffer_of(1), kSize - 1) == nullptr);
}

TEST(load_from_file_refuses_missing_empty_short_and_foreign_files)
{
    unsigned char *buffer = buffer_of(1);
    CHECK(PersistMemoryManager::load_from_file(test_path("none"), buffer, kSize) == nullptr);
    CHECK(PersistMemoryManager::load_from_file(test_directory(), buffer, kSize) == nullptr);
    const char *path = test_path("bad.img");
    write_file(path, "", 0);
    CHECK(PersistMemoryManager::load_from_file(path, buffer, kSize) == nullptr);
    const std::vector<unsigned char> zeros(kSize);
    write_file(path, zeros.data(), zeros.size());
    CHECK(PersistMemoryManager::load_from_file(path, buffer, kSize) == nullptr);
    const char *saved = test_path("saved.img");
    (void)save_numbers(saved);
    CHECK_EQUAL(::truncate(saved, kSize / 2), 0);
    CHECK(PersistMemoryManager::load_from_file(saved, buffer, kSize) == nullptr);
}

TEST(the_member_load_replaces_the_contents)
{
    const char *path = test_path("saved.img");
    const pptr<int> numbers(save_numbers(path));
    PersistMemoryManager *manager = manager_of();
    CHECK(manager->load(path));
    CHECK_EQUAL(*numbers.resolve_at(manager, 50), 150);
    CHECK(!manager->load(test_path("none")));
    CHECK(manager->validate());
}

TEST(save_refuses_null_and_paths_that_cannot_be_written)
{
    PersistMemoryManager *manager = manager_of();
    CHECK(!manager->save(nullptr));
    CHECK(!manager->save("/nowhere/at/all.img"));
    CHECK(!manager->save(test_directory()));
    CHECK(!manager->save("/dev/null"));
    manager->destroy();
    CHECK(!manager->save(test_path("destroyed.img")));
}

TEST(a_save_that_fails_leaves_the_old_file)
{
    if (::geteuid() == 0) SKIP("root may write anywhere");
    const std::string folder = test_path("closed");
    CHECK_EQUAL(::mkdir(folder.c_str(), 0700), 0);
    const std::string path = folder + "/saved.img";
    const pptr<int> numbers(save_numbers(path.c_str()));
    CHECK_EQUAL(::chmod(folder.c_str(), 0500), 0);
    CHECK(!manager_of()->save(path.c_str()));
    CHECK_EQUAL(::chmod(folder.c_str(), 0700), 0);
    PersistMemoryManager *loaded =
        PersistMemoryManager::load_from_file(path.c_str(), buffer_of(1), kSize);
    CHECK(loaded != nullptr);
    CHECK_EQUAL(*numbers.resolve_at(loaded, 2), 6);
}

TEST(a_save_follows_a_symbolic_link_and_leaves_nothing_beside)
{
    const std::string folder = test_path("folder");
    CHECK_EQUAL(::mkdir(folder.c_str(), 0700), 0);
    const std::string target = folder + "/target.img";
    const std::string link = folder + "/link.img";
    write_file(target.c_str(), "old", 3);
    CHECK_EQUAL(::symlink(target.c_str(), link.c_str()), 0);
    CHECK(manager_of()->save(link.c_str()));
    CHECK_EQUAL(file_size_of(target.c_str()), kSize);
    struct stat status;
    CHECK(::lstat(link.c_str(), &status) == 0 && S_ISLNK(status.st_mode));
    CHECK_EQUAL(::unlink(link.c_str()), 0);
    CHECK_EQUAL(::unlink(target.c_str()), 0);
    CHECK_EQUAL(::rmdir(folder.c_str()), 0);
}

/*
 * Strategy: a child saves over and over while it is killed. Invariant: the file is always one of
 * its images, whole.
 */
TEST(a_killed_save_leaves_an_image)
{
    const char *path = test_path("killed.img");
    uint64_t random = test_seed();
    PersistMemoryManager *manager = manager_of();
    const pptr<int> number = manager->allocate_typed<int>();
    CHECK(manager->save(path));
    for (int round = 0; round < 10; round++) {
        const pid_t child = ::fork();
        CHECK(child >= 0);
        if (child == 0)
            for (;; ++*number.resolve(manager)) (void)manager->save(path);
        ::usleep(static_cast<useconds_t>(test_random(&random) % 20000)); /* a moment of its life */
        CHECK_EQUAL(::kill(child, SIGKILL), 0);
        CHECK_EQUAL(::waitpid(child, nullptr, 0), child);
        PersistMemoryManager *loaded =
            PersistMemoryManager::load_from_file(path, buffer_of(1), kSize);
        CHECK(loaded != nullptr && loaded->validate());
    }
}

TEST(a_manager_works_in_a_mapped_file)
{
    const char *path = test_path("mapped.img");
    const int file = ::open(path, O_RDWR | O_CREAT, 0600);
    CHECK(file >= 0);
    CHECK_EQUAL(::ftruncate(file, kSize), 0);
    void *memory = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(memory != MAP_FAILED);
    PersistMemoryManager *manager = PersistMemoryManager::create(memory, kSize);
    const pptr<long> number = manager->allocate_typed<long>();
    *number.resolve(manager) = 123456;
    CHECK_EQUAL(::munmap(memory, kSize), 0); /* without destroy() */
    memory = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(memory != MAP_FAILED);
    PersistMemoryManager *loaded = PersistMemoryManager::load(memory, kSize);
    CHECK(loaded != nullptr);
    CHECK_EQUAL(*number.resolve(loaded), 123456);
    CHECK(loaded->validate());
    loaded->destroy();
    CHECK_EQUAL(::munmap(memory, kSize), 0);
    CHECK_EQUAL(::close(file), 0);
}

TEST(dump_stats_prints_to_standard_output)
{
    PersistMemoryManager *manager = manager_of();
    CHECK(manager->allocate(1000) != nullptr);
    const char *path = test_path("output");
    std::fflush(stdout);
    const int saved = ::dup(1);
    const int file = ::open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(saved >= 0 && file >= 0 && ::dup2(file, 1) == 1);
    manager->dump_stats();
    std::fflush(stdout);
    CHECK_EQUAL(::dup2(saved, 1), 1);
    (void)::close(saved);
    (void)::close(file);
    char text[2048] = "";
    FILE *output = std::fopen(path, "r");
    CHECK(output != nullptr);
    CHECK(std::fread(text, 1, sizeof text - 1, output) > 0);
    std::fclose(output);
    CHECK(std::strstr(text, "262144") != nullptr); /* total */
    CHECK(std::strstr(text, "1136") != nullptr);   /* used */
}

TEST(the_quick_start_runs_unchanged)
{
    char program[] = "quickstart";
    std::string path = test_path("quick.img");
    char *arguments[] = {program, path.data(), nullptr};
    CHECK_EQUAL(quickstart_main(2, arguments), 0);
    CHECK_EQUAL(file_size_of(path.c_str()), 1 << 20);
}

/* ---- damage ---- */

TEST(validate_finds_a_changed_header)
{
    for (std::size_t i = 0; i < 32; i++) {
        PersistMemoryManager *manager = manager_of();
        reinterpret_cast<unsigned char *>(manager)[i] ^= 4;
        CHECK(!manager->validate());
        CHECK(PersistMemoryManager::load(manager, kSize) == nullptr);
        reinterpret_cast<unsigned char *>(manager)[i] ^= 4;
        CHECK(manager->validate());
    }
}

TEST(validate_finds_overwritten_metadata)
{
    PersistMemoryManager *manager = manager_of();
    unsigned char *block = static_cast<unsigned char *>(manager->allocate(100));
    unsigned char *bytes = reinterpret_cast<unsigned char *>(manager);
    for (std::size_t i = 32; bytes + i + 64 < block; i += 64) {
        unsigned char kept[64];
        std::memcpy(kept, bytes + i, 64);
        std::memset(bytes + i, 0x55, 64);
        CHECK(!manager->validate());
        std::memcpy(bytes + i, kept, 64);
        CHECK(manager->validate());
    }
}

/* Strategy: flip bits of the metadata of an image. Invariant: it is refused, or works without doing
 * harm outside its buffer. */
TEST(no_damaged_image_harms)
{
    uint64_t random = test_seed();
    const std::size_t size = 8192;
    PersistMemoryManager *manager = manager_of(size);
    for (std::size_t i = 0; i < 20; i++) CHECK(manager->allocate(20 + 10 * i, 16) != nullptr);
    std::vector<unsigned char> image(size);
    std::memcpy(image.data(), manager, size);
    unsigned char *buffer = buffer_of(1);
    for (uint64_t round = 0; round < test_effort(3000); round++) {
        std::memset(buffer + size, 0x5a, 64);
        std::memcpy(buffer, image.data(), size);
        for (int flips = 0; flips < 3; flips++)
            buffer[test_random(&random) % 1200] ^=
                static_cast<unsigned char>(1 << test_random(&random) % 8);
        PersistMemoryManager *loaded = PersistMemoryManager::load(buffer, size);
        if (!loaded) continue;
        (void)pmm::get_stats(loaded);
        (void)loaded->used_size();
        while (void *block = loaded->allocate(32)) std::memset(block, 0, 32);
        for (std::size_t i = 0; i < size; i += 16) {
            (void)pmm::get_info(loaded, buffer + i);
            loaded->deallocate(buffer + i);
        }
        for (std::size_t i = 0; i < 64; i++) CHECK_EQUAL(buffer[size + i], 0x5a);
    }
}

/* ---- threads ---- */

/* Strategy: 8 threads allocate, fill, verify, resize and free in one small manager, which is often
 * full. Invariants: no block is damaged; once all is freed, one area is left. */
TEST(eight_threads_share_a_manager)
{
    PersistMemoryManager *manager = manager_of(64 << 10);
    const uint64_t seed = test_seed();
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 8; number++)
        threads.emplace_back([manager, seed, number] {
            uint64_t random = seed + number;
            std::vector<unsigned char *> blocks(20);
            std::vector<std::size_t> sizes(20);
            for (uint64_t round = 0; round < test_effort(4000); round++) {
                const std::size_t i = test_random(&random) % blocks.size();
                for (std::size_t k = 0; blocks[i] && k < sizes[i]; k++)
                    CHECK_EQUAL(blocks[i][k], number + 1);
                const std::size_t size = 1 + test_random(&random) % 900;
                if (test_random(&random) % 3 == 0) {
                    manager->deallocate(blocks[i]);
                    blocks[i] = nullptr;
                    continue;
                }
                void *block = manager->reallocate(blocks[i], size);
                if (!block) continue;
                if (!blocks[i] || size > sizes[i]) sizes[i] = size;
                blocks[i] = static_cast<unsigned char *>(block);
                std::memset(block, static_cast<int>(number + 1), sizes[i]);
            }
            for (unsigned char *block : blocks) manager->deallocate(block);
        });
    for (std::thread &thread : threads) thread.join();
    CHECK(manager->validate());
    CHECK_EQUAL(manager->fragmentation(), 0);
    CHECK_EQUAL(manager->used_size(), 136);
}

TEST(statistics_are_asked_for_while_other_threads_allocate)
{
    PersistMemoryManager *manager = manager_of(64 << 10);
    std::atomic<bool> stop{false};
    std::thread worker([&] {
        while (!stop) {
            void *block = manager->allocate(100, 64);
            manager->deallocate(block);
        }
    });
    for (int i = 0; i < 300; i++) {
        CHECK(pmm::get_stats(manager).allocated_blocks <= 1);
        CHECK(manager->used_size() <= 136 + 112);
        CHECK(manager->fragmentation() <= 1);
        CHECK(manager->free_size() > 0);
    }
    stop = true;
    worker.join();
    CHECK(manager->validate());
}

TEST(threads_make_and_end_managers_of_their_own)
{
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 4; number++)
        threads.emplace_back([] {
            std::vector<unsigned char> buffer(16384);
            for (int round = 0; round < 200; round++) {
                PersistMemoryManager *manager =
                    PersistMemoryManager::create(buffer.data(), buffer.size());
                CHECK(manager != nullptr);
                CHECK(manager->allocate(1000) != nullptr);
                CHECK(PersistMemoryManager::load(buffer.data(), buffer.size()) == manager);
                if (round % 2) manager->destroy();
            }
            reinterpret_cast<PersistMemoryManager *>(buffer.data())->destroy();
        });
    for (std::thread &thread : threads) thread.join();
}
