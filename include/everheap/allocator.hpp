/* allocator.hpp -- containers in a heap: evh::allocator<T>, and evh::memory_resource for this run.
 */
#ifndef EVERHEAP_ALLOCATOR_HPP
#define EVERHEAP_ALLOCATOR_HPP

#include <everheap/error.hpp>
#include <everheap/pointer.hpp>
#include <everheap/storable.hpp>

#include <limits>

namespace evh
{

class heap;

namespace detail
{

/** The heap that an object lies in, or null. */
template <typename T> evh_heap *heap_of(T *place) noexcept
{
    return evh_heap_of(reinterpret_cast<const void *>(address_of(place)));
}

/** The heap that an object lies in; an exception if it lies in none. */
template <typename T> evh_heap *heap_at(T *place)
{
    evh_heap *found = heap_of(place);
    if (!found)
        fail_with(EVH_INVALID, "this object lies in no open heap (or in one that is unlisted): "
                               "make it with evh::root or evh::heap::make");
    return found;
}

inline void *heap_base(const evh_heap *heap) noexcept
{
    return heap ? reinterpret_cast<const evh_heap_view *>(heap)->base : nullptr;
}

/** A block for `size` bytes, not 0. */
inline void *allocate(evh_heap *heap, std::size_t size, std::size_t alignment)
{
    void *block =
        alignment <= 16 ? evh_malloc(heap, size) : evh_aligned_alloc(heap, alignment, size);
    if (!block) fail_allocation();
    return block;
}

} // namespace detail

/**
 * The allocator for containers whose object lies in the heap (made with evh::root or
 * evh::heap::make), so that the next run finds them. It works with std::vector, std::deque and the
 * containers of Boost; others of the standard library keep plain pointers and are refused.
 *
 * It knows its heap by its distance from it, so it is right in the next run too. One that is made
 * without arguments where a heap is, an inner vector for instance, takes that heap; one that is
 * made elsewhere allocates nothing (evh::bad_alloc, EVH_INVALID). Allocators are equal if their
 * heap is. It does not propagate: a container stays in its heap when another is assigned to it.
 *
 * Errors    evh::bad_alloc, with the status.
 * Threads   as evh_malloc().
 * Cost      of an allocation, that of evh_malloc() and evh_heap_of().
 */
template <typename T> class allocator
{
    static_assert(!std::is_same_v<std::remove_cv_t<T>, bool>,
                  "everheap: std::vector<bool> keeps plain pointers. Use evh_bitset, or a vector "
                  "of char");

  public:
    using value_type = T;
    using pointer = ptr<T>;
    using const_pointer = ptr<const T>;
    using void_pointer = ptr<void>;
    using const_void_pointer = ptr<const void>;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using is_always_equal = std::false_type;
    using propagate_on_container_copy_assignment = std::false_type;
    using propagate_on_container_move_assignment = std::false_type;
    using propagate_on_container_swap = std::false_type;

    template <typename U> struct rebind {
        static_assert(std::is_same_v<T, U> || !detail::is_standard_inner<U>(),
                      "everheap: this standard container keeps plain pointers, which are wrong in "
                      "the next run. Instead of std::list and std::forward_list use evh::vec, "
                      "std::deque or boost::container::list; of std::map and std::set, evh::tree "
                      "or boost::container::map; of std::unordered_map and std::unordered_set, "
                      "evh::map; of std::allocate_shared, evh::heap::make");
        static_assert(std::is_same_v<T, U> || !std::is_pointer_v<U>,
                      "everheap: this container keeps plain pointers, which are wrong in the next "
                      "run: use std::vector, std::deque, a container of Boost, or evh::vec, "
                      "evh::map, evh::tree");
        using other = allocator<U>;
    };

    allocator() noexcept : base_(static_cast<char *>(detail::heap_base(detail::heap_of(this))))
    {
    }
    /** Of this heap, which is borrowed. */
    allocator(evh_heap *heap) noexcept : base_(static_cast<char *>(detail::heap_base(heap)))
    {
    }
    allocator(const heap &heap) noexcept; /* in cxx_heap.hpp */
    allocator(const allocator &other) noexcept : base_(other.base())
    {
    }
    template <typename U> allocator(const allocator<U> &other) noexcept : base_(other.base())
    {
    }
    allocator &operator=(const allocator &other) noexcept = default;
    ~allocator() = default;

    [[nodiscard]] pointer allocate(size_type count)
    {
        static_assert(detail::must_be_storable<T>::value, "see above");
        if (count > std::numeric_limits<size_type>::max() / sizeof(T))
            detail::raise<bad_alloc>(detail::describe(EVH_LIMIT, "more items than memory has"));
        evh_heap *heap = evh_heap_of(base());
        if (!heap)
            detail::raise<bad_alloc>(
                detail::describe(EVH_INVALID, "this allocator knows no open heap: give it one, or "
                                              "make the container in a heap"));
        const size_type size = count ? count * sizeof(T) : 1;
        return pointer(static_cast<T *>(detail::allocate(heap, size, alignof(T))));
    }
    void deallocate(const pointer &block, size_type) noexcept
    {
        evh_free(evh_heap_of(block.get()), block.get());
    }

    /** An address in the heap that is there as long as the heap is; null if it knows none. */
    char *base() const noexcept
    {
        if (base_) return base_.get();
        return static_cast<char *>(detail::heap_base(detail::heap_of(this)));
    }

    friend bool operator==(const allocator &one, const allocator &other) noexcept
    {
        return one.base() == other.base();
    }
    friend bool operator!=(const allocator &one, const allocator &other) noexcept
    {
        return one.base() != other.base();
    }

  private:
    ptr<char> base_;
};

template <typename T, typename U>
bool operator==(const allocator<T> &one, const allocator<U> &other) noexcept
{
    return one.base() == other.base();
}
template <typename T, typename U>
bool operator!=(const allocator<T> &one, const allocator<U> &other) noexcept
{
    return one.base() != other.base();
}

#if defined(__cpp_lib_memory_resource)

/**
 * Memory of a heap for the containers of std::pmr. They keep plain pointers, so what they hold is
 * good in this run only: for heaps in memory, and for scratch data that is gone before the next
 * commit. For data that lasts, use evh::allocator.
 */
class memory_resource : public std::pmr::memory_resource
{
  public:
    /** The heap is borrowed. */
    explicit memory_resource(evh_heap *heap) noexcept : heap_(heap)
    {
    }
    explicit memory_resource(const heap &heap) noexcept; /* in cxx_heap.hpp */

    evh_heap *get() const noexcept
    {
        return heap_;
    }

  private:
    void *do_allocate(std::size_t size, std::size_t alignment) override
    {
        return detail::allocate(heap_, size ? size : 1, alignment);
    }
    void do_deallocate(void *block, std::size_t, std::size_t) override
    {
        evh_free(heap_, block);
    }
    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override
    {
#if defined(__cpp_rtti)
        const auto *same = dynamic_cast<const memory_resource *>(&other);
        return same && same->heap_ == heap_;
#else
        return this == &other;
#endif
    }

    evh_heap *heap_;
};

#endif

} // namespace evh

#endif
