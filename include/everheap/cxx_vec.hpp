/* cxx_vec.hpp -- an array in a heap, in C++: evh::vec<T>. */
#ifndef EVERHEAP_CXX_VEC_HPP
#define EVERHEAP_CXX_VEC_HPP

#include <everheap/cxx_text.hpp>

#include <memory>

namespace evh
{

/**
 * An array that grows, at both ends at constant cost. What holds for evh_vec holds for it: items
 * move when it grows, with memcpy(), so T is trivially copyable or a handle such as evh::str.
 * Iterators are plain pointers, borrowed until it changes. std::vector with evh::allocator is the
 * alternative for other types; it has 32 bytes instead of 8.
 */
template <typename T> class vec : public detail::collection<evh_vec>
{
  public:
    using value_type = T;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using reference = T &;
    using const_reference = const T &;
    using iterator = T *;
    using const_iterator = const T *;

    vec() noexcept
    {
    }
    vec(vec &&other) noexcept = default;
    vec &operator=(vec &&other) noexcept
    {
        if (this == &other) return *this;
        drop();
        handle_ = std::exchange(other.handle_, evh_vec{});
        return *this;
    }
    ~vec()
    {
        drop();
    }

    T *data()
    {
        return items(nullptr);
    }
    const T *data() const
    {
        return items(nullptr);
    }
    std::size_t size() const
    {
        return is_made() ? evh_vec_count(here(), &handle_) : 0;
    }
    bool empty() const
    {
        return size() == 0;
    }
    iterator begin()
    {
        return items(nullptr);
    }
    const_iterator begin() const
    {
        return items(nullptr);
    }
    iterator end()
    {
        std::size_t count = 0;
        T *first = items(&count);
        return first + count;
    }
    const_iterator end() const
    {
        std::size_t count = 0;
        const T *first = items(&count);
        return first + count;
    }
    T &operator[](std::size_t index)
    {
        assert(index < size());
        return items(nullptr)[index];
    }
    const T &operator[](std::size_t index) const
    {
        assert(index < size());
        return items(nullptr)[index];
    }
    /** As [], but an evh::error (EVH_NOT_FOUND) beyond the end. */
    T &at(std::size_t index)
    {
        check_index(index);
        return items(nullptr)[index];
    }
    const T &at(std::size_t index) const
    {
        check_index(index);
        return items(nullptr)[index];
    }
    T &front()
    {
        return (*this)[0];
    }
    T &back()
    {
        return (*this)[size() - 1];
    }

    template <typename U = T, std::enable_if_t<std::is_trivially_copyable_v<U>, int> = 0>
    void push_back(const T &item)
    {
        const T copy = item; /* which may lie in this vec */
        place(evh_vec_push(here(), &handle_, sizeof(T), &copy));
    }
    template <typename U = T, std::enable_if_t<!std::is_trivially_copyable_v<U>, int> = 0>
    void push_back(T &&item)
    {
        emplace_back(std::move(item));
    }
    template <typename... Arguments> T &emplace_back(Arguments &&...arguments)
    {
        static_assert(detail::must_be_relocatable<T>::value, "see above");
        if constexpr (std::is_trivially_copyable_v<T>) {
            const T item = make(std::forward<Arguments>(arguments)...);
            return *place(evh_vec_push(here(), &handle_, sizeof(T), &item));
        } else {
            /* Made in its place: such an item finds its heap by where it lies. */
            T *item = place(evh_vec_push(here(), &handle_, sizeof(T), nullptr));
            take_back guard{this, size() - 1};
            make_at(item, std::forward<Arguments>(arguments)...);
            guard.items = nullptr;
            return *item;
        }
    }
    /** Insert before `where`. Returns where it is now. */
    iterator insert(const_iterator where, T item)
    {
        const auto index = static_cast<std::size_t>(where - begin());
        T *made = place(evh_vec_insert(here(), &handle_, sizeof(T), index, nullptr, 1));
        return ::new (static_cast<void *>(made)) T(std::move(item));
    }
    /** Append `count` items at `first`, which do not lie in this vec. */
    template <typename U = T, std::enable_if_t<std::is_trivially_copyable_v<U>, int> = 0>
    void append(const T *first, std::size_t count)
    {
        if (count == 0) return;
        place(evh_vec_insert(here(), &handle_, sizeof(T), size(), first, count));
    }
    iterator erase(const_iterator where)
    {
        return erase(where, where + 1);
    }
    iterator erase(const_iterator first, const_iterator last)
    {
        const auto index = static_cast<std::size_t>(first - begin());
        const auto count = static_cast<std::size_t>(last - first);
        if (count == 0) return begin() + index;
        std::destroy_n(begin() + index, count);
        detail::check(evh_vec_erase(here(), &handle_, index, count));
        return begin() + index;
    }
    void pop_back()
    {
        assert(!empty());
        erase(end() - 1);
    }
    /** Cut off, or fill up with items that are zero, or as T() makes them. */
    void resize(std::size_t count)
    {
        const std::size_t before = size();
        if (count < before) std::destroy(begin() + count, end());
        detail::check(evh_vec_resize(here(), &handle_, sizeof(T), count));
        if constexpr (!is_zero_valid<T>::value) {
            if (count <= before) return;
            take_back guard{this, before};
            std::uninitialized_value_construct(begin() + before, end());
            guard.items = nullptr;
        }
    }
    void reserve(std::size_t count)
    {
        detail::check(evh_vec_reserve(here(), &handle_, sizeof(T), count));
    }
    void clear()
    {
        if (!is_made()) return;
        std::destroy(begin(), end());
        detail::check(evh_vec_clear(here(), &handle_));
    }

  private:
    T *items(std::size_t *count) const
    {
        static_assert(detail::must_be_relocatable<T>::value, "see above");
        return is_made() ? static_cast<T *>(evh_vec_data(here(), &handle_, count)) : nullptr;
    }
    static T *place(void *item)
    {
        if (!item) detail::fail_allocation();
        return static_cast<T *>(item);
    }
    template <typename... Arguments> static T make(Arguments &&...arguments)
    {
        if constexpr (std::is_constructible_v<T, Arguments &&...>)
            return T(std::forward<Arguments>(arguments)...);
        else
            return T{std::forward<Arguments>(arguments)...};
    }
    template <typename... Arguments> static void make_at(T *item, Arguments &&...arguments)
    {
        if constexpr (std::is_constructible_v<T, Arguments &&...>)
            ::new (static_cast<void *>(item)) T(std::forward<Arguments>(arguments)...);
        else
            ::new (static_cast<void *>(item)) T{std::forward<Arguments>(arguments)...};
    }
    /* Items whose constructor throws are not there. */
    struct take_back {
        vec *items;
        std::size_t kept;

        ~take_back()
        {
            if (items) (void)evh_vec_resize(items->here(), &items->handle_, sizeof(T), kept);
        }
    };
    void check_index(std::size_t index) const
    {
        if (index >= size()) detail::fail_with(EVH_NOT_FOUND, "an index beyond the end of a vec");
    }
    void drop() noexcept
    {
        if (!is_made()) return;
        if constexpr (!std::is_trivially_destructible_v<T>)
            if (detail::heap_of(this)) std::destroy(begin(), end());
        detail::drop(*this, evh_vec_clear);
    }
};

template <typename T> struct is_relocatable<vec<T>> : std::true_type {
};
template <typename T> struct is_zero_valid<vec<T>> : std::true_type {
};

static_assert(sizeof(vec<int>) == 8, "stored in files");

} // namespace evh

#endif
