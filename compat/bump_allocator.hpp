/* bump_allocator.hpp -- the bump allocator and fiber memory of earlier programs, over
 * everheap/arena.h.
 *
 * C++17, header only; link with everheap. What differs from the classes it stands in for: sizes
 * that overflow are std::bad_alloc and not a wrap; allocating in a BumpAllocator is not
 * synchronised, and SharedBumpAllocator is what several threads use; BumpAllocator is one class
 * template, of which `BumpAllocator allocator(size)` is the default. A name that earlier programs
 * gave to two classes, BumpAllocator<Size> with the memory inside, is fixed::BumpAllocator<Size>.
 *
 * All names are in namespace bump_memory; define BUMP_ALLOCATOR_NAMESPACE_ONLY to keep them there.
 */
#ifndef EVERHEAP_COMPAT_BUMP_ALLOCATOR_HPP
#define EVERHEAP_COMPAT_BUMP_ALLOCATOR_HPP

#include <everheap.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace bump_memory
{

constexpr std::size_t DEFAULT_ALIGNMENT = 16, CACHE_LINE_SIZE = 64, PAGE_SIZE_BYTES = 4096;
constexpr std::size_t SSE_ALIGNMENT = 16, AVX_ALIGNMENT = 32, AVX512_ALIGNMENT = 64;

constexpr bool is_power_of_two(std::size_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

/** `x` rounded up; the caller knows that it does not overflow. */
constexpr std::size_t align_up(std::size_t x, std::size_t alignment)
{
    return (x + alignment - 1) & ~(alignment - 1);
}

inline bool is_aligned(const void *address, std::size_t alignment)
{
    return is_power_of_two(alignment) && reinterpret_cast<std::uintptr_t>(address) % alignment == 0;
}

/** Fetch the cache line of an address that will be used soon. */
inline void prefetch(const void *address)
{
    EVH_PREFETCH(address);
}

/* ---- policies ---- */

/** What a policy says; one of a program's own is any type with these three. */
template <std::size_t Alignment, bool UseGuardPages = false, std::size_t MinSize = 1>
struct Policy {
    static constexpr std::size_t alignment = Alignment;
    static constexpr bool use_guard_pages = UseGuardPages;
    static constexpr std::size_t min_size = MinSize;
};

struct DefaultPolicy : Policy<DEFAULT_ALIGNMENT> {
};
struct HighPerformancePolicy : Policy<64> {
};
struct SafetyPolicy : Policy<16, true> {
};
struct CustomAlignmentConfig : Policy<32, true, 64> {
};
/** No alignment but what is asked for. */
struct PackedPolicy : Policy<1> {
};

/* ---- what is checked ---- */

struct DebugConfig {
    bool track_allocations = false; /* sites in messages, a report of leaks */
    bool validate_access = false;   /* marks and pointers exactly; junk in freed memory */
    bool check_corruption = false;  /* canaries */
    bool log_operations = false;

    /** The letters of everheap/debug.h. */
    std::string letters() const
    {
        std::string text;
        if (track_allocations) text += "SL";
        if (validate_access) text += "VJ";
        if (check_corruption) text += "C";
        if (log_operations) text += "O";
        return text;
    }
};

struct AllocationStats {
    std::size_t total_allocated = 0, peak_usage = 0, allocation_count = 0;
};

/* ---- stacks ---- */

struct FiberStack {
    void *stack_ptr = nullptr; /* its highest address: where a stack begins */
    std::size_t stack_size = 0;
    void *guard_low = nullptr, *guard_high = nullptr;
    void *base = nullptr;
    evh_stack *handle = nullptr;
};

struct StackAllocation {
    void *base = nullptr;
    std::size_t size = 0;
    void *guard_low = nullptr, *guard_high = nullptr;
    evh_stack *handle = nullptr;
};

/** What a context switch keeps; the switch itself is the program's (ucontext, Boost.Context). */
struct FiberContext {
    void *stack_pointer = nullptr, *instruction_pointer = nullptr;
    FiberStack stack;
};

/** Guarded stacks by size. Any thread. */
class FiberStackAllocator
{
  public:
    FiberStackAllocator() = default;
    FiberStackAllocator(const FiberStackAllocator &) = delete;
    FiberStackAllocator &operator=(const FiberStackAllocator &) = delete;

    ~FiberStackAllocator()
    {
        for (auto &entry : families_) evh_stacks_close(entry.second);
    }

    evh_stack *get(std::size_t size)
    {
        evh_stack *stack = evh_stack_get(family(size));
        if (!stack) throw std::bad_alloc();
        return stack;
    }

    void put(evh_stack *stack)
    {
        if (stack) evh_stack_put(family(stack->size_bytes), stack);
    }

    FiberStack allocate_fiber_stack(std::size_t size, const char *label = "")
    {
        evh_stack *stack = get(size);
        std::snprintf(stack->label, sizeof stack->label, "%s", label);
        char *base = static_cast<char *>(stack->base);
        char *top = base + stack->size_bytes;
        return {top, stack->size_bytes, base - PAGE_SIZE_BYTES, top, base, stack};
    }

    void deallocate_fiber_stack(const FiberStack &stack)
    {
        put(stack.handle);
    }

  private:
    evh_stacks *family(std::size_t size)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        size = size > SIZE_MAX - PAGE_SIZE_BYTES ? size : align_up(size, PAGE_SIZE_BYTES);
        if (size == 0) throw std::bad_alloc();
        auto found = families_.find(size);
        if (found != families_.end()) return found->second;
        evh_stacks_options options = {};
        options.size_bytes = size;
        options.name = "fiber stacks";
        evh_stacks *made = evh_stacks_create(&options);
        if (!made) throw std::bad_alloc();
        families_[size] = made;
        return made;
    }

    std::mutex mutex_;
    std::map<std::size_t, evh_stacks *> families_;
};

/* ---- the bump allocator ---- */

/**
 * A region of fixed size whose memory is given back all at once. Its layout with guard pages:
 * guard page, header of 64 bytes, usable memory, footer of 64 bytes, guard page. One thread.
 */
template <typename Policy = DefaultPolicy> class BumpAllocator
{
    static_assert(is_power_of_two(Policy::alignment), "an alignment is a power of two");

  public:
    explicit BumpAllocator(std::size_t size, const DebugConfig &debug = DebugConfig()) : size_(size)
    {
        const std::string letters = debug.letters();
        evh_arena_options options = {};
        options.size_bytes = size;
        options.is_fixed = true;
        options.alignment = Policy::alignment;
        options.guards = Policy::use_guard_pages;
        options.name = "bump allocator";
        options.debug = letters.empty() ? nullptr : letters.c_str();
        arena_ = evh_arena_create(&options);
        if (!arena_) throw std::bad_alloc();
    }

    ~BumpAllocator()
    {
        evh_arena_close(arena_);
    }

    BumpAllocator(const BumpAllocator &) = delete;
    BumpAllocator &operator=(const BumpAllocator &) = delete;

    /** Memory of `size` bytes, aligned as the policy says. std::bad_alloc when it is used up. */
    void *allocate(std::size_t size)
    {
        return allocate_aligned(size, Policy::alignment);
    }

    /** The same, or null. */
    void *try_allocate(std::size_t size, std::size_t alignment = Policy::alignment) noexcept
    {
        size = size < Policy::min_size ? Policy::min_size : size;
        void *memory = evh_arena_alloc(arena_, size, alignment ? alignment : 3);
        if (memory) note(size);
        return memory;
    }

    void *allocate_aligned(std::size_t size, std::size_t alignment)
    {
        void *memory = try_allocate(size, alignment);
        if (!memory) throw std::bad_alloc();
        return memory;
    }

    void *allocate_simd(std::size_t size)
    {
        return allocate_aligned(size, AVX512_ALIGNMENT);
    }

    void *allocate_cache_aligned(std::size_t size)
    {
        if (size > SIZE_MAX - CACHE_LINE_SIZE) throw std::bad_alloc();
        return allocate_aligned(align_up(size, CACHE_LINE_SIZE), CACHE_LINE_SIZE);
    }

    /** A stack between guard pages; it is the allocator's until reset() or its end. */
    StackAllocation allocate_stack(std::size_t size)
    {
        if (!stacks_) stacks_ = std::make_unique<FiberStackAllocator>();
        evh_stack *stack = stacks_->get(size);
        taken_.push_back(stack);
        char *base = static_cast<char *>(stack->base);
        return {base, stack->size_bytes, base - PAGE_SIZE_BYTES, base + stack->size_bytes, stack};
    }

    /** Build a T in the allocator; its destructor is not run. */
    template <typename T, typename... Arguments> T *create(Arguments &&...arguments)
    {
        return new (allocate_aligned(sizeof(T), alignof(T)))
            T(std::forward<Arguments>(arguments)...);
    }

    template <typename T> T *allocate_array(std::size_t count)
    {
        if (count > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
        return static_cast<T *>(allocate_aligned(count * sizeof(T), alignof(T)));
    }

    /** Take everything back. */
    void reset()
    {
        evh_arena_reset(arena_);
        for (evh_stack *stack : taken_) stacks_->put(stack);
        taken_.clear();
        stats_.total_allocated = stats_.allocation_count = 0;
    }

    evh_mark mark()
    {
        return evh_arena_mark(arena_);
    }

    void release(const evh_mark &mark)
    {
        (void)evh_arena_release(arena_, mark);
    }

    bool owns(const void *address, std::size_t size = 1) const
    {
        return evh_arena_holds(arena_, address, size);
    }

    bool validate_memory_region(const void *start, std::size_t size) const
    {
        return owns(start, size);
    }

    /** Whether every canary is whole; always true without DebugConfig::check_corruption. */
    bool check_corruption()
    {
        return evh_arena_check(arena_) == EVH_OK;
    }

    std::size_t size() const
    {
        return size_;
    }

    std::size_t used() const
    {
        evh_arena_stats stats;
        evh_arena_get_stats(arena_, &stats);
        return stats.used_bytes;
    }

    std::size_t available() const
    {
        evh_arena_stats stats;
        evh_arena_get_stats(arena_, &stats);
        return stats.free_bytes;
    }

    AllocationStats stats() const
    {
        return stats_;
    }

    evh_arena *native_handle()
    {
        return arena_;
    }

  private:
    void note(std::size_t size)
    {
        stats_.allocation_count++;
        stats_.total_allocated += size;
        if (stats_.total_allocated > stats_.peak_usage) stats_.peak_usage = stats_.total_allocated;
    }

    evh_arena *arena_ = nullptr;
    std::size_t size_;
    AllocationStats stats_;
    std::unique_ptr<FiberStackAllocator> stacks_;
    std::vector<evh_stack *> taken_;
};

explicit BumpAllocator(std::size_t)->BumpAllocator<DefaultPolicy>;
explicit BumpAllocator(std::size_t, const DebugConfig &)->BumpAllocator<DefaultPolicy>;

/** Several threads allocate in it at once; it grows. reset() while none does. */
class SharedBumpAllocator
{
  public:
    explicit SharedBumpAllocator(std::size_t size)
    {
        evh_arena_options options = {};
        options.size_bytes = size;
        options.is_shared = true;
        options.name = "shared bump allocator";
        arena_ = evh_arena_create(&options);
        if (!arena_) throw std::bad_alloc();
    }

    ~SharedBumpAllocator()
    {
        evh_arena_close(arena_);
    }

    SharedBumpAllocator(const SharedBumpAllocator &) = delete;
    SharedBumpAllocator &operator=(const SharedBumpAllocator &) = delete;

    void *allocate(std::size_t size, std::size_t alignment = DEFAULT_ALIGNMENT)
    {
        void *memory = evh_arena_alloc(arena_, size, alignment ? alignment : 3);
        if (!memory) throw std::bad_alloc();
        return memory;
    }

    void reset()
    {
        evh_arena_reset(arena_);
    }

  private:
    evh_arena *arena_ = nullptr;
};

/** Releases at its end what was allocated since it began. */
template <typename Allocator> class ScopedAllocation
{
  public:
    explicit ScopedAllocation(Allocator &allocator) : allocator_(allocator), mark_(allocator.mark())
    {
    }

    ~ScopedAllocation()
    {
        allocator_.release(mark_);
    }

    ScopedAllocation(const ScopedAllocation &) = delete;
    ScopedAllocation &operator=(const ScopedAllocation &) = delete;

    void *allocate(std::size_t size)
    {
        return allocator_.allocate(size);
    }

  private:
    Allocator &allocator_;
    evh_mark mark_;
};

/** For containers: memory from a bump allocator; deallocate() does nothing. */
template <typename T, typename Policy = DefaultPolicy> class StlBumpAllocator
{
  public:
    using value_type = T;
    template <typename U> struct rebind {
        using other = StlBumpAllocator<U, Policy>;
    };

    explicit StlBumpAllocator(BumpAllocator<Policy> &source) noexcept : source_(&source)
    {
    }

    template <typename U>
    StlBumpAllocator(const StlBumpAllocator<U, Policy> &other) noexcept : source_(other.source_)
    {
    }

    T *allocate(std::size_t count)
    {
        return source_->template allocate_array<T>(count);
    }

    void deallocate(T *, std::size_t) noexcept
    {
    }

    template <typename U> bool operator==(const StlBumpAllocator<U, Policy> &other) const noexcept
    {
        return source_ == other.source_;
    }

    template <typename U> bool operator!=(const StlBumpAllocator<U, Policy> &other) const noexcept
    {
        return source_ != other.source_;
    }

  private:
    template <typename U, typename P> friend class StlBumpAllocator;
    BumpAllocator<Policy> *source_;
};

/* ---- pools ---- */

struct PoolConfig {
    std::size_t block_size = 64;
    std::size_t block_count = 1024;
    bool use_guard_pages = false;
};

/** Blocks of one size; allocate() and deallocate() take constant time. One thread. */
class MemoryPool
{
  public:
    explicit MemoryPool(const PoolConfig &config, const DebugConfig &debug = DebugConfig())
        : config_(config)
    {
        const std::string letters = debug.letters();
        evh_pool_options options = {};
        options.size_bytes = config.block_size;
        options.count_max = config.block_count;
        options.guards = config.use_guard_pages;
        options.name = "memory pool";
        options.debug = letters.empty() ? nullptr : letters.c_str();
        pool_ = evh_pool_create(&options);
        if (!pool_) throw std::bad_alloc();
    }

    ~MemoryPool()
    {
        evh_pool_close(pool_);
    }

    MemoryPool(const MemoryPool &) = delete;
    MemoryPool &operator=(const MemoryPool &) = delete;

    void *allocate()
    {
        void *block = evh_pool_get(pool_);
        if (!block) throw std::bad_alloc();
        return block;
    }

    void *try_allocate() noexcept
    {
        return evh_pool_get(pool_);
    }

    void deallocate(void *block) noexcept
    {
        evh_pool_put(pool_, block);
    }

    std::size_t live() const
    {
        evh_pool_stats stats;
        evh_pool_get_stats(pool_, &stats);
        return stats.live;
    }

    const PoolConfig &config() const
    {
        return config_;
    }

  private:
    PoolConfig config_;
    evh_pool *pool_ = nullptr;
};

/** Pools by size: small blocks from a pool of their size, larger ones from the system. */
class MemoryManager
{
  public:
    explicit MemoryManager(std::size_t pooled_max = 1024)
        : pooled_max_(pooled_max), pools_(evh_pools_create(pooled_max, nullptr))
    {
        if (!pools_) throw std::bad_alloc();
    }

    ~MemoryManager()
    {
        evh_pools_close(pools_);
    }

    MemoryManager(const MemoryManager &) = delete;
    MemoryManager &operator=(const MemoryManager &) = delete;

    void *allocate(std::size_t size)
    {
        if (size == 0) size = 1;
        if (size > pooled_max_) return ::operator new(size);
        evh_pool *pool = evh_pools_of(pools_, size);
        void *block = pool ? evh_pool_get(pool) : nullptr;
        if (!block) throw std::bad_alloc();
        return block;
    }

    /** `size` is that of allocate(). */
    void deallocate(void *block, std::size_t size) noexcept
    {
        if (!block) return;
        if (size == 0) size = 1;
        if (size > pooled_max_)
            ::operator delete(block);
        else
            evh_pool_put(evh_pools_of(pools_, size), block);
    }

  private:
    std::size_t pooled_max_;
    evh_pools *pools_;
};

/* ---- leaks, watching ---- */

/** Counts what a program records. Any thread. */
class LeakDetector
{
  public:
    void record_allocation(const void *address, std::size_t size, const char *site = "?")
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        live_[address] = {size, site};
    }

    /** False: nothing was recorded there, or it was freed already. */
    bool record_deallocation(const void *address)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return live_.erase(address) > 0;
    }

    /** Print what is left, if `file` is not null. Returns how many. */
    std::size_t report_leaks(std::FILE *file = stderr) const
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (const auto &entry : live_)
            if (file)
                std::fprintf(file, "leak: %p, %zu bytes, made at %s\n", entry.first,
                             entry.second.first, entry.second.second);
        return live_.size();
    }

  private:
    mutable std::mutex mutex_;
    std::map<const void *, std::pair<std::size_t, const char *>> live_;
};

/** Totals that can be read at any time. Any thread. */
class MemoryMonitor
{
  public:
    struct Statistics {
        std::size_t total_allocated = 0, current_usage = 0, peak_usage = 0, allocation_count = 0;
        double fragmentation_ratio = 0; /* 1 - bytes asked for / bytes taken for them */
    };

    /** `taken`: bytes that were needed for it; 0: as many as asked for. */
    void record_allocation(std::size_t size, std::size_t taken = 0)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        statistics_.total_allocated += size;
        statistics_.current_usage += size;
        statistics_.allocation_count++;
        taken_ += taken ? taken : size;
        if (statistics_.current_usage > statistics_.peak_usage)
            statistics_.peak_usage = statistics_.current_usage;
    }

    void record_deallocation(std::size_t size, std::size_t taken = 0)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const std::size_t given = taken ? taken : size;
        statistics_.current_usage -=
            size < statistics_.current_usage ? size : statistics_.current_usage;
        taken_ -= given < taken_ ? given : taken_;
    }

    Statistics get_statistics() const
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        Statistics result = statistics_;
        if (taken_ > 0 && taken_ >= result.current_usage)
            result.fragmentation_ratio =
                1 - static_cast<double>(result.current_usage) / static_cast<double>(taken_);
        return result;
    }

  private:
    mutable std::mutex mutex_;
    Statistics statistics_;
    std::size_t taken_ = 0;
};

/* ---- memory inside the object ---- */

/** Bump upwards in `Size` bytes of the object; starts over when all was given back. */
template <std::size_t Size, bool IsAligned = true> class bump
{
  public:
    /** `count` uninitialised T; null when it is full. */
    template <typename T> T *alloc(std::size_t count = 1) noexcept
    {
        constexpr std::size_t alignment = IsAligned ? alignof(T) : 1;
        const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(memory_);
        const std::size_t first = ((start + position_ + alignment - 1) & ~(alignment - 1)) - start;
        if (first > Size || count > (Size - first) / sizeof(T)) return nullptr;
        position_ = first + count * sizeof(T);
        allocations_++;
        return reinterpret_cast<T *>(memory_ + first);
    }

    /** One allocation less; the last one takes everything back. */
    void dealloc() noexcept
    {
        if (allocations_ > 0 && --allocations_ == 0) position_ = 0;
    }

    std::size_t get_current_pos() const noexcept
    {
        return position_;
    }

    std::size_t get_allocation_count() const noexcept
    {
        return allocations_;
    }

    std::size_t get_available_space() const noexcept
    {
        return Size - position_;
    }

    std::size_t allocations() const noexcept
    {
        return allocations_;
    }

    std::size_t remaining_space() const noexcept
    {
        return Size - position_;
    }

    static constexpr std::size_t capacity() noexcept
    {
        return Size;
    }

  private:
    alignas(std::max_align_t) unsigned char memory_[Size];
    std::size_t position_ = 0, allocations_ = 0;
};

/** The same, downwards. */
template <std::size_t Size> class BumpDown
{
  public:
    template <typename T> T *alloc(std::size_t count = 1) noexcept
    {
        if (count > position_ / sizeof(T)) return nullptr;
        const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(memory_);
        const std::uintptr_t found =
            (start + position_ - count * sizeof(T)) & ~(std::uintptr_t{alignof(T)} - 1);
        if (found < start) return nullptr;
        position_ = found - start;
        allocations_++;
        return reinterpret_cast<T *>(memory_ + position_);
    }

    void dealloc() noexcept
    {
        if (allocations_ > 0 && --allocations_ == 0) position_ = Size;
    }

    std::size_t allocations() const noexcept
    {
        return allocations_;
    }

    std::size_t remaining_space() const noexcept
    {
        return position_;
    }

    static constexpr std::size_t capacity() noexcept
    {
        return Size;
    }

  private:
    alignas(std::max_align_t) unsigned char memory_[Size];
    std::size_t position_ = Size, allocations_ = 0;
};

namespace fixed
{
template <std::size_t Size> using BumpAllocator = bump<Size, false>;
}

} // namespace bump_memory

#ifndef BUMP_ALLOCATOR_NAMESPACE_ONLY
using namespace bump_memory;
#endif

#endif
