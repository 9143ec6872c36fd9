/* atomic_pointer.hpp -- a pointer that may be stored in a heap and changed by several threads. */
#ifndef EVERHEAP_ATOMIC_POINTER_HPP
#define EVERHEAP_ATOMIC_POINTER_HPP

#include <everheap/pointer.hpp>

#include <atomic>

namespace evh
{

/**
 * An atomic pointer for data in a heap: std::atomic<T *>, stored as a distance. Its place is fixed,
 * so it is neither copied nor moved. In a live heap all processes agree on it.
 * Threads   any; lock-free.
 */
template <typename T> class atomic_ptr
{
  public:
    using value_type = T *;
    static constexpr bool is_always_lock_free = std::atomic<std::uint64_t>::is_always_lock_free;
    static_assert(is_always_lock_free, "a lock would not be shared with other processes");

    atomic_ptr() noexcept = default;
    atomic_ptr(T *target) noexcept : stored_(encode(target))
    {
    }
    atomic_ptr(const atomic_ptr &) = delete;
    atomic_ptr &operator=(const atomic_ptr &) = delete;
    T *operator=(T *target) noexcept
    {
        store(target);
        return target;
    }
    operator T *() const noexcept
    {
        return load();
    }

    T *load(std::memory_order order = std::memory_order_seq_cst) const noexcept
    {
        return decode(stored_.load(order));
    }
    void store(T *target, std::memory_order order = std::memory_order_seq_cst) noexcept
    {
        stored_.store(encode(target), order);
    }
    T *exchange(T *target, std::memory_order order = std::memory_order_seq_cst) noexcept
    {
        const std::uint64_t stored = stored_.exchange(encode(target), order);
        return decode(stored);
    }
    /** As std::atomic's: on failure `expected` receives what was there. */
    bool compare_exchange_strong(T *&expected, T *target, std::memory_order success,
                                 std::memory_order failure) noexcept
    {
        std::uint64_t stored = encode(expected);
        if (stored_.compare_exchange_strong(stored, encode(target), success, failure)) return true;
        expected = decode(stored);
        return false;
    }
    bool compare_exchange_strong(T *&expected, T *target,
                                 std::memory_order order = std::memory_order_seq_cst) noexcept
    {
        std::uint64_t stored = encode(expected);
        if (stored_.compare_exchange_strong(stored, encode(target), order)) return true;
        expected = decode(stored);
        return false;
    }
    bool compare_exchange_weak(T *&expected, T *target,
                               std::memory_order order = std::memory_order_seq_cst) noexcept
    {
        std::uint64_t stored = encode(expected);
        if (stored_.compare_exchange_weak(stored, encode(target), order)) return true;
        expected = decode(stored);
        return false;
    }

  private:
    std::uint64_t encode(T *target) const noexcept
    {
        return detail::encode(detail::address_of(this), detail::address_of(target));
    }
    T *decode(std::uint64_t stored) const noexcept
    {
        return reinterpret_cast<T *>(detail::decode(detail::address_of(this), stored));
    }

    std::atomic<std::uint64_t> stored_{0};
};

static_assert(sizeof(atomic_ptr<int>) == 8, "stored in files");

} // namespace evh

#endif
