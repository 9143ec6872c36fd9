/* pointer.hpp -- pointers that may be stored in a heap.
 *
 * They store the distance from themselves to what they point at: 8 bytes, right wherever the heap
 * is mapped as long as both lie in it, and right in this run wherever they lie. All zero is null,
 * so zeroed memory holds null pointers. The distance is stored less one: the one address that
 * cannot be named is the pointer's own second byte.
 */
#ifndef EVERHEAP_POINTER_HPP
#define EVERHEAP_POINTER_HPP

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <type_traits>

namespace evh
{

namespace detail
{

/* An address that the compiler knows nothing about. It must not conclude that the sum of a
 * pointer's own address and a number lies in that pointer, as it would of &array[0] + number. */
inline std::uintptr_t opaque(std::uintptr_t address) noexcept
{
    __asm__("" : "+r"(address));
    return address;
}

/* Addresses are handed on as numbers: gcc warns of a pointer to const that is handed on before what
 * it points at has a value, and that is what pointers are made for. */
template <typename T> std::uintptr_t address_of(T *pointer) noexcept
{
    return opaque(reinterpret_cast<std::uintptr_t>(pointer));
}

/** What a pointer at `place` stores to point at `target`. */
inline std::uint64_t encode(std::uintptr_t place, std::uintptr_t target) noexcept
{
    if (target == 0) return 0;
    const std::uint64_t stored = target - place - 1;
    assert(stored != 0); /* its own second byte */
    return stored;
}

/** What a pointer at `place`, an opaque address, that stores `stored` points at. */
inline std::uintptr_t decode(std::uintptr_t place, std::uint64_t stored) noexcept
{
    return stored == 0 ? 0 : place + stored + 1;
}

/* What every pointer is. Containers look at a pointer to T as one to const T; that both have their
 * word from here tells the compiler that it is the same. */
class stored_distance
{
  protected:
    stored_distance() noexcept = default;
    stored_distance(const stored_distance &) noexcept = default;
    stored_distance &operator=(const stored_distance &) noexcept = default;
    ~stored_distance() = default;

    void set(std::uintptr_t target) noexcept
    {
        distance_ = encode(address_of(this), target);
    }
    void set_null() noexcept
    {
        distance_ = 0;
    }
    bool is_null() const noexcept
    {
        return distance_ == 0;
    }
    std::uintptr_t address() const noexcept
    {
        return decode(address_of(this), distance_);
    }
    /* Of a pointer that is not null: what it points at is used. */
    std::uintptr_t address_in_use() const noexcept
    {
        assert(distance_ != 0);
        return address_of(this) + distance_ + 1;
    }
    /* Point at what `other` does. Another place, so another distance. */
    void set_as(const stored_distance &other) noexcept
    {
        const std::uint64_t moved = address_of(&other) - address_of(this);
        const bool is_null = other.is_null();
        distance_ = is_null ? 0 : other.distance_ + moved;
        assert(is_null == this->is_null()); /* its own second byte */
    }
    /* Point so many bytes further. Null may be moved by none. */
    void move(std::uint64_t size) noexcept
    {
        if (distance_ == 0) {
            assert(size == 0);
            return;
        }
        distance_ += size;
        assert(distance_ != 0);
    }

  private:
    std::uint64_t distance_ = 0;
};

/* Stands for void& where a parameter needs a type. */
struct nothing;

template <typename To, typename From, typename = void> struct casts_to : std::false_type {
};
template <typename To, typename From>
struct casts_to<To, From, std::void_t<decltype(static_cast<To *>(std::declval<From *>()))>>
    : std::true_type {
};

} // namespace detail

template <typename T> class ptr;

namespace detail
{

/* Whether From * becomes To * as int ** becomes const int *const *, where the inner pointers are
 * ours: containers do that to theirs, and both are the same word. */
template <typename To, typename From>
inline constexpr bool adds_const =
    std::is_same_v<const To, const From> &&std::is_convertible_v<From *, To *>;
template <typename To, typename From> struct requalifies : std::false_type {
};
template <typename To, typename From>
struct requalifies<const ptr<To>, ptr<From>>
    : std::bool_constant<!std::is_same_v<To, From> && adds_const<To, From>> {
};
template <typename To, typename From>
struct requalifies<const ptr<To>, const ptr<From>>
    : std::bool_constant<!std::is_same_v<To, From> && adds_const<To, From>> {
};

} // namespace detail

/**
 * A pointer for data in a heap: random access iterator, fancy pointer of evh::allocator. Made from
 * and compared with plain pointers; get() gives the plain one. A copy points at the same object,
 * but its bytes differ: never memcpy() one, or a struct that has one (evh::vec and the values of
 * evh::map refuse them; there evh_ref is right).
 * Threads   as a plain variable; evh::atomic_ptr for several.
 * Cost      an addition where a plain pointer has nothing; a branch to copy. A loop over many
 *           items is as fast as any with the plain pointers of data() or get().
 */
template <typename T> class ptr : private detail::stored_distance
{
  public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using difference_type = std::ptrdiff_t;
    using pointer = ptr;
    using reference = std::conditional_t<std::is_void_v<T>, detail::nothing, T> &;
    using iterator_category = std::random_access_iterator_tag;

    ptr() noexcept = default;
    ptr(std::nullptr_t) noexcept
    {
    }
    template <typename U, std::enable_if_t<std::is_convertible_v<U *, T *>, int> = 0>
    ptr(U *target) noexcept
    {
        set(detail::address_of(static_cast<T *>(target)));
    }
    ptr(const ptr &other) noexcept : detail::stored_distance()
    {
        set_as(other);
    }
    template <typename U, std::enable_if_t<std::is_convertible_v<U *, T *>, int> = 0>
    ptr(const ptr<U> &other) noexcept : ptr(static_cast<T *>(other.get()))
    {
    }
    template <typename U,
              std::enable_if_t<!std::is_convertible_v<U *, T *> && detail::casts_to<T, U>::value,
                               int> = 0>
    explicit ptr(const ptr<U> &other) noexcept : ptr(static_cast<T *>(other.get()))
    {
    }
    template <typename U, std::enable_if_t<detail::requalifies<T, U>::value, int> = 0>
    explicit ptr(const ptr<U> &other) noexcept : ptr(reinterpret_cast<T *>(other.get()))
    {
    }
    ptr &operator=(const ptr &other) noexcept
    {
        set_as(other);
        return *this;
    }
    template <typename U, std::enable_if_t<std::is_convertible_v<U *, T *>, int> = 0>
    ptr &operator=(U *target) noexcept
    {
        set(detail::address_of(static_cast<T *>(target)));
        return *this;
    }
    ptr &operator=(std::nullptr_t) noexcept
    {
        set_null();
        return *this;
    }
    ~ptr() = default;

    template <typename U = T>
    static ptr pointer_to(
        std::conditional_t<std::is_void_v<U>, detail::nothing, U> &target) noexcept
    {
        return ptr(std::addressof(target));
    }

    T *get() const noexcept
    {
        return reinterpret_cast<T *>(address());
    }
    reference operator*() const noexcept
    {
        return *in_use();
    }
    /** Null for null: containers ask this way for the plain pointer to their items, also if they
     *  have none. */
    T *operator->() const noexcept
    {
        return get();
    }
    reference operator[](difference_type index) const noexcept
    {
        return in_use()[index];
    }
    explicit operator bool() const noexcept
    {
        return !is_null();
    }

    ptr &operator+=(difference_type count) noexcept
    {
        move(size_of(count));
        return *this;
    }
    ptr &operator-=(difference_type count) noexcept
    {
        move(0 - size_of(count));
        return *this;
    }
    ptr &operator++() noexcept
    {
        return *this += 1;
    }
    ptr &operator--() noexcept
    {
        return *this -= 1;
    }
    ptr operator++(int) noexcept
    {
        const ptr before = *this;
        ++*this;
        return before;
    }
    ptr operator--(int) noexcept
    {
        const ptr before = *this;
        --*this;
        return before;
    }
    friend ptr operator+(const ptr &from, difference_type count) noexcept
    {
        return ptr(from.get() + count);
    }
    friend ptr operator+(difference_type count, const ptr &from) noexcept
    {
        return ptr(from.get() + count);
    }
    friend ptr operator-(const ptr &from, difference_type count) noexcept
    {
        return ptr(from.get() - count);
    }
    friend difference_type operator-(const ptr &to, const ptr &from) noexcept
    {
        return to.get() - from.get();
    }

    friend bool operator==(const ptr &one, const ptr &other) noexcept
    {
        return one.get() == other.get();
    }
    friend bool operator!=(const ptr &one, const ptr &other) noexcept
    {
        return one.get() != other.get();
    }
    friend bool operator<(const ptr &one, const ptr &other) noexcept
    {
        return std::less<>()(one.get(), other.get());
    }
    friend bool operator>(const ptr &one, const ptr &other) noexcept
    {
        return other < one;
    }
    friend bool operator<=(const ptr &one, const ptr &other) noexcept
    {
        return !(other < one);
    }
    friend bool operator>=(const ptr &one, const ptr &other) noexcept
    {
        return !(one < other);
    }

  private:
    T *in_use() const noexcept
    {
        return reinterpret_cast<T *>(address_in_use());
    }
    static std::uint64_t size_of(difference_type count) noexcept
    {
        return static_cast<std::uint64_t>(count) * sizeof(T);
    }
};

static_assert(sizeof(ptr<int>) == 8, "stored in files");

} // namespace evh

template <typename T> struct std::hash<evh::ptr<T>> {
    std::size_t operator()(const evh::ptr<T> &pointer) const noexcept
    {
        return std::hash<T *>()(pointer.get());
    }
};

#endif
