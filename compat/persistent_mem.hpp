/* persistent_mem.hpp -- pointers, an allocator and a handle for persistent_mem.h, in C++17. */
#ifndef PERSISTENT_MEM_HPP
#define PERSISTENT_MEM_HPP

#include "persistent_mem.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace persistent_mem
{

namespace detail
{

/** A space, by its distance from this object: right wherever the heap is mapped, as long as both
 *  lie in it, and in one run if this object does not. */
class SpaceRef
{
  public:
    SpaceRef() noexcept = default;
    explicit SpaceRef(const allocator_space_t *space) noexcept
    {
        set(space);
    }
    SpaceRef(const SpaceRef &other) noexcept
    {
        set(other.get());
    }
    SpaceRef &operator=(const SpaceRef &other) noexcept
    {
        set(other.get());
        return *this;
    }

    allocator_space_t *get() const noexcept
    {
        if (distance_ == 0) return nullptr;
        return reinterpret_cast<allocator_space_t *>(address() - distance_);
    }
    void set(const allocator_space_t *space) noexcept
    {
        distance_ = space ? address() - reinterpret_cast<std::uintptr_t>(space) : 0;
    }

  private:
    std::uintptr_t address() const noexcept
    {
        return reinterpret_cast<std::uintptr_t>(this);
    }
    std::uintptr_t distance_ = 0; /* modulo 2^64; 0: no space */
};

/** The space that an address lies in, or null. */
inline allocator_space_t *space_of(const volatile void *address) noexcept
{
    evh_heap *heap = evh_heap_of(const_cast<const void *>(address));
    if (!heap) return nullptr;
    auto *space =
        static_cast<allocator_space_t *>(evh_root_find(heap, PERSISTENT_ROOT_NAME, nullptr));
    return persistent_heap(space) ? space : nullptr;
}

template <typename T> using NotVoid = std::conditional_t<std::is_void_v<T>, char, T>;

} // namespace detail

/**
 * A pointer into a space that stays right across restarts: an offset in the heap, and where the
 * space is, relative to the pointer itself. It may live in the space, on the stack or elsewhere. It
 * knows its space from its construction, or from the first pointer that is assigned to it; without
 * one it is null.
 */
template <typename T> class PersistentPtr
{
  public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using difference_type = std::ptrdiff_t;
    using pointer = PersistentPtr;
    using reference = std::add_lvalue_reference_t<T>;
    using iterator_category = std::random_access_iterator_tag;
    template <typename U> using rebind = PersistentPtr<U>;

    PersistentPtr() noexcept = default;
    PersistentPtr(std::nullptr_t) noexcept
    {
    }
    explicit PersistentPtr(allocator_space_t *space, T *address = nullptr) noexcept : space_(space)
    {
        set(address);
    }
    PersistentPtr(const PersistentPtr &other) noexcept = default;
    template <typename U, typename = std::enable_if_t<std::is_convertible_v<U *, T *>>>
    PersistentPtr(const PersistentPtr<U> &other) noexcept : space_(other.get_space())
    {
        set(other.get());
    }
    template <typename U, typename = std::enable_if_t<!std::is_convertible_v<U *, T *>>,
              typename = decltype(static_cast<T *>(std::declval<U *>()))>
    explicit PersistentPtr(const PersistentPtr<U> &other, int = 0) noexcept
        : space_(other.get_space())
    {
        set(static_cast<T *>(other.get()));
    }

    /** The right-hand side's space, if it has one, else this pointer's own. */
    PersistentPtr &operator=(const PersistentPtr &other) noexcept
    {
        T *address = other.get();
        if (other.get_space()) space_.set(other.get_space());
        set(address);
        return *this;
    }
    PersistentPtr &operator=(T *address) noexcept
    {
        if (!space_.get()) space_.set(detail::space_of(address));
        set(address);
        return *this;
    }
    PersistentPtr &operator=(std::nullptr_t) noexcept
    {
        data_offset_ = 0;
        return *this;
    }

    T *get() const noexcept
    {
        if (data_offset_ == 0) return nullptr;
        return reinterpret_cast<T *>(persistent_base(space_.get()) + data_offset_);
    }
    allocator_space_t *get_space() const noexcept
    {
        return space_.get();
    }
    persistent_offset_t get_data_offset() const noexcept
    {
        return data_offset_;
    }

    /** For containers: the object must lie in an open space. */
    static PersistentPtr pointer_to(detail::NotVoid<T> &object) noexcept
    {
        T *address = std::addressof(object);
        return PersistentPtr(detail::space_of(address), address);
    }

    template <typename U = T, typename = std::enable_if_t<!std::is_void_v<U>>>
    U &operator*() const noexcept
    {
        return *get();
    }
    T *operator->() const noexcept
    {
        return get();
    }
    template <typename U = T, typename = std::enable_if_t<!std::is_void_v<U>>>
    U &operator[](difference_type index) const noexcept
    {
        return get()[index];
    }
    explicit operator bool() const noexcept
    {
        return data_offset_ != 0;
    }

    PersistentPtr &operator+=(difference_type count) noexcept
    {
        data_offset_ += static_cast<persistent_offset_t>(count) * sizeof(T);
        return *this;
    }
    PersistentPtr &operator-=(difference_type count) noexcept
    {
        return *this += -count;
    }
    PersistentPtr &operator++() noexcept
    {
        return *this += 1;
    }
    PersistentPtr &operator--() noexcept
    {
        return *this += -1;
    }
    PersistentPtr operator++(int) noexcept
    {
        PersistentPtr before(*this);
        ++*this;
        return before;
    }
    PersistentPtr operator--(int) noexcept
    {
        PersistentPtr before(*this);
        --*this;
        return before;
    }
    friend PersistentPtr operator+(PersistentPtr pointer, difference_type count) noexcept
    {
        return pointer += count;
    }
    friend PersistentPtr operator+(difference_type count, PersistentPtr pointer) noexcept
    {
        return pointer += count;
    }
    friend PersistentPtr operator-(PersistentPtr pointer, difference_type count) noexcept
    {
        return pointer -= count;
    }
    friend difference_type operator-(const PersistentPtr &a, const PersistentPtr &b) noexcept
    {
        return a.get() - b.get();
    }

    void swap(PersistentPtr &other) noexcept
    {
        PersistentPtr kept(*this);
        *this = other;
        other = kept;
    }

  private:
    void set(T *address) noexcept
    {
        const allocator_space_t *space = space_.get();
        data_offset_ = address && space
                           ? static_cast<persistent_offset_t>(
                                 reinterpret_cast<std::uintptr_t>(address) -
                                 reinterpret_cast<std::uintptr_t>(persistent_base(space)))
                           : 0;
    }

    persistent_offset_t data_offset_ = 0;
    detail::SpaceRef space_;
};

static_assert(sizeof(PersistentPtr<int>) == 16, "two words, as it has always been");

template <typename T> void swap(PersistentPtr<T> &a, PersistentPtr<T> &b) noexcept
{
    a.swap(b);
}

template <typename T, typename U>
bool operator==(const PersistentPtr<T> &a, const PersistentPtr<U> &b) noexcept
{
    return a.get() == b.get();
}
template <typename T, typename U>
bool operator!=(const PersistentPtr<T> &a, const PersistentPtr<U> &b) noexcept
{
    return !(a == b);
}
template <typename T, typename U>
bool operator<(const PersistentPtr<T> &a, const PersistentPtr<U> &b) noexcept
{
    return a.get() < b.get();
}
template <typename T, typename U>
bool operator>(const PersistentPtr<T> &a, const PersistentPtr<U> &b) noexcept
{
    return b < a;
}
template <typename T, typename U>
bool operator<=(const PersistentPtr<T> &a, const PersistentPtr<U> &b) noexcept
{
    return !(b < a);
}
template <typename T, typename U>
bool operator>=(const PersistentPtr<T> &a, const PersistentPtr<U> &b) noexcept
{
    return !(a < b);
}
template <typename T> bool operator==(const PersistentPtr<T> &a, std::nullptr_t) noexcept
{
    return !a;
}
template <typename T> bool operator==(std::nullptr_t, const PersistentPtr<T> &a) noexcept
{
    return !a;
}
template <typename T> bool operator!=(const PersistentPtr<T> &a, std::nullptr_t) noexcept
{
    return static_cast<bool>(a);
}
template <typename T> bool operator!=(std::nullptr_t, const PersistentPtr<T> &a) noexcept
{
    return static_cast<bool>(a);
}

template <typename T>
PersistentPtr<T> make_persistent_ptr(allocator_space_t *space, T *address) noexcept
{
    return PersistentPtr<T>(space, address);
}

template <typename T> T *to_address(const PersistentPtr<T> &pointer) noexcept
{
    return pointer.get();
}
template <typename T> constexpr T *to_address(T *pointer) noexcept
{
    return pointer;
}

/**
 * A persistent pointer that threads and processes exchange: its offset is one atomic word. It has
 * the space that it was made with for good.
 */
template <typename T> class AtomicPersistentPtr
{
  public:
    explicit AtomicPersistentPtr(allocator_space_t *space, T *address = nullptr) noexcept
        : offset_(offset_of(space, address)), space_(space)
    {
    }
    AtomicPersistentPtr(const AtomicPersistentPtr &) = delete;
    AtomicPersistentPtr &operator=(const AtomicPersistentPtr &) = delete;

    allocator_space_t *get_space() const noexcept
    {
        return space_.get();
    }
    T *load(int order = __ATOMIC_SEQ_CST) const noexcept
    {
        return at(__atomic_load_n(&offset_, order));
    }
    void store(T *address, int order = __ATOMIC_SEQ_CST) noexcept
    {
        __atomic_store_n(&offset_, offset_of(space_.get(), address), order);
    }
    T *exchange(T *address, int order = __ATOMIC_SEQ_CST) noexcept
    {
        return at(__atomic_exchange_n(&offset_, offset_of(space_.get(), address), order));
    }
    /** True if it was `expected` and is `desired` now; else `expected` is what it was. */
    bool compare_exchange(T *&expected, T *desired) noexcept
    {
        persistent_offset_t found = offset_of(space_.get(), expected);
        const bool done =
            __atomic_compare_exchange_n(&offset_, &found, offset_of(space_.get(), desired), false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        if (!done) expected = at(found);
        return done;
    }

  private:
    static persistent_offset_t offset_of(const allocator_space_t *space, const T *address) noexcept
    {
        if (!space || !address) return 0;
        return static_cast<persistent_offset_t>(
            reinterpret_cast<std::uintptr_t>(address) -
            reinterpret_cast<std::uintptr_t>(persistent_base(space)));
    }
    T *at(persistent_offset_t offset) const noexcept
    {
        return offset ? reinterpret_cast<T *>(persistent_base(space_.get()) + offset) : nullptr;
    }

    persistent_offset_t offset_;
    detail::SpaceRef space_;
};

/** An allocator for containers: std::vector and std::deque may lie in a space with their items, and
 *  are found again in another run. (Which others work: docs/migration.md.) */
template <typename T> class Allocator
{
  public:
    using value_type = T;
    using pointer = PersistentPtr<T>;
    using const_pointer = PersistentPtr<const T>;
    using void_pointer = PersistentPtr<void>;
    using const_void_pointer = PersistentPtr<const void>;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using propagate_on_container_copy_assignment = std::true_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;
    using is_always_equal = std::false_type;

    explicit Allocator(allocator_space_t *space) noexcept : space_(space)
    {
    }
    Allocator(const Allocator &) noexcept = default;
    Allocator &operator=(const Allocator &) noexcept = default;
    template <typename U> Allocator(const Allocator<U> &other) noexcept : space_(other.get_space())
    {
    }

    pointer allocate(std::size_t count)
    {
        std::size_t size = 0;
        void *block = nullptr;
        if (!__builtin_mul_overflow(count, sizeof(T), &size))
            block = persistent_malloc(space_.get(), size ? size : 1);
        if (!block) throw std::bad_alloc();
        return pointer(space_.get(), static_cast<T *>(block));
    }
    void deallocate(pointer block, std::size_t) noexcept
    {
        persistent_free(space_.get(), const_cast<std::remove_cv_t<T> *>(block.get()));
    }
    allocator_space_t *get_space() const noexcept
    {
        return space_.get();
    }

  private:
    static_assert(alignof(T) <= 16, "blocks are aligned to 16 bytes");
    detail::SpaceRef space_;
};

template <typename T, typename U>
bool operator==(const Allocator<T> &a, const Allocator<U> &b) noexcept
{
    return a.get_space() == b.get_space();
}
template <typename T, typename U>
bool operator!=(const Allocator<T> &a, const Allocator<U> &b) noexcept
{
    return !(a == b);
}

/** A deleter: destroys an object and frees its block. Without a space it finds the object's. */
class free_persistent
{
  public:
    free_persistent() noexcept = default;
    explicit free_persistent(allocator_space_t *space) noexcept : space_(space)
    {
    }

    template <typename T> void operator()(T *object) const noexcept
    {
        if (!object) return;
        allocator_space_t *space = space_.get() ? space_.get() : detail::space_of(object);
        object->~T();
        persistent_free(space, const_cast<std::remove_cv_t<T> *>(object));
    }

  private:
    detail::SpaceRef space_;
};

/** A handle of an open space, which it does not end; it may lie in the space itself. */
class PersistentSpace
{
  public:
    PersistentSpace() noexcept = default;
    explicit PersistentSpace(allocator_space_t *space) noexcept : space_(space)
    {
    }

    allocator_space_t *unwrap() const noexcept
    {
        return space_.get();
    }
    explicit operator bool() const noexcept
    {
        return space_.get() != nullptr;
    }

    /** The newest root of the class, or null. */
    template <typename T> T *find_root(std::uint64_t root_class) const noexcept
    {
        return static_cast<T *>(persistent_find_root(space_.get(), root_class));
    }

    /** A new object, or null without room. */
    template <typename T, typename... Arguments> T *alloc(Arguments &&...arguments) const
    {
        static_assert(alignof(T) <= 16, "blocks are aligned to 16 bytes");
        void *block = persistent_malloc(space_.get(), sizeof(T));
        if (!block) return nullptr;
        try {
            return ::new (block) T(std::forward<Arguments>(arguments)...);
        } catch (...) {
            persistent_free(space_.get(), block);
            throw;
        }
    }

    /** `count` (of type std::size_t) new objects in a row, or null. */
    template <typename T> T *alloc(std::size_t count) const
    {
        static_assert(alignof(T) <= 16, "blocks are aligned to 16 bytes");
        std::size_t size = 0;
        if (__builtin_mul_overflow(count, sizeof(T), &size)) return nullptr;
        T *objects = static_cast<T *>(persistent_malloc(space_.get(), size));
        if (!objects) return nullptr;
        try {
            std::uninitialized_value_construct_n(objects, count);
        } catch (...) {
            persistent_free(space_.get(), objects);
            throw;
        }
        return objects;
    }

    /** A new object that later runs find by its class. It is not destroyed. */
    template <typename T, typename... Arguments>
    T *alloc_root(std::uint64_t root_class, Arguments &&...arguments) const
    {
        static_assert(alignof(T) <= 16, "blocks are aligned to 16 bytes");
        void *block = persistent_malloc_root(space_.get(), root_class, sizeof(T));
        return block ? ::new (block) T(std::forward<Arguments>(arguments)...) : nullptr;
    }

    /** Destroy one object and free its block; of an array, the first is destroyed. */
    template <typename T> void free(T *object) const noexcept
    {
        free_persistent{space_.get()}(object);
    }

    /** What a raw pointer of an earlier run points at: persistent_ptr(). */
    template <typename T> T *restore(T *address) const noexcept
    {
        return static_cast<T *>(persistent_ptr(space_.get(), address));
    }

  private:
    detail::SpaceRef space_;
};

} // namespace persistent_mem

#endif
