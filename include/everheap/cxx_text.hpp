/* cxx_text.hpp -- strings in a heap, in C++: evh::str, and what all collections share. */
#ifndef EVERHEAP_CXX_TEXT_HPP
#define EVERHEAP_CXX_TEXT_HPP

#include <everheap/allocator.hpp>

#include <string_view>

namespace evh
{

namespace detail
{

/*
 * What all collections have in common: a handle of the C interface (text.h says what holds for
 * those), which finds its heap by where it lies. So a collection lies in a heap: in a root, in
 * another collection, in an object made by evh::heap::make. Its end frees what it owns. It can be
 * moved within its heap, for a moment also out of it, and not copied.
 */
template <typename Handle> class collection
{
  public:
    collection() noexcept = default;
    collection(collection &&other) noexcept : handle_(std::exchange(other.handle_, Handle{}))
    {
    }
    collection(const collection &) = delete;
    collection &operator=(const collection &) = delete;

    /** For the C interface, borrowed. */
    Handle *handle() noexcept
    {
        return &handle_;
    }
    const Handle *handle() const noexcept
    {
        return &handle_;
    }

  protected:
    ~collection() = default;

    evh_heap *here() const
    {
        return heap_at(this);
    }
    bool is_made() const noexcept
    {
        return handle_.offset != 0;
    }

    Handle handle_{};
};

/* The end of a collection. One that has items and lies in no heap was moved out of it, and is lost:
 * a bug of the program. */
template <typename Collection, typename Clear>
void drop(Collection &collection, Clear *clear) noexcept
{
    if (collection.handle()->offset == 0) return;
    evh_heap *heap = heap_of(&collection);
    assert(heap);
    if (heap) (void)clear(heap, collection.handle());
}

} // namespace detail

/** A string: bytes of any value, their number known. What holds for evh_str holds for it. */
class str : public detail::collection<evh_str>
{
  public:
    static constexpr std::size_t npos = std::string_view::npos;

    str() noexcept
    {
    }
    /** With these bytes, where it is made in a heap. */
    explicit str(std::string_view text)
    {
        *this = text;
    }
    str(str &&other) noexcept = default;
    str &operator=(str &&other) noexcept
    {
        if (this == &other) return *this;
        drop();
        handle_ = std::exchange(other.handle_, evh_str{});
        return *this;
    }
    str &operator=(std::string_view text)
    {
        detail::check(evh_str_set(here(), &handle_, text.data(), text.size()));
        return *this;
    }
    str &operator=(const str &other)
    {
        return *this = other.view();
    }
    str(const str &) = delete;
    ~str()
    {
        drop();
    }

    /** Borrowed until it changes. A zero follows the bytes. */
    std::string_view view() const
    {
        if (!is_made()) return std::string_view("", 0);
        std::size_t size = 0;
        const char *text = evh_str_text(here(), &handle_, &size);
        return std::string_view(text, size);
    }
    operator std::string_view() const
    {
        return view();
    }
    const char *c_str() const
    {
        return view().data();
    }
    std::size_t size() const
    {
        return view().size();
    }
    bool empty() const
    {
        return size() == 0;
    }
    char operator[](std::size_t index) const
    {
        return view()[index];
    }
    const char *begin() const
    {
        return view().data();
    }
    const char *end() const
    {
        const std::string_view text = view();
        return text.data() + text.size();
    }

    str &append(std::string_view text)
    {
        detail::check(evh_str_append(here(), &handle_, text.data(), text.size()));
        return *this;
    }
    str &operator+=(std::string_view text)
    {
        return append(text);
    }
    void push_back(char byte)
    {
        append(std::string_view(&byte, 1));
    }
    /** Replace `count` bytes (fewer at the end) from `at` on. */
    str &replace(std::size_t at, std::size_t count, std::string_view text)
    {
        const std::size_t size = this->size();
        if (at <= size && count > size - at) count = size - at;
        detail::check(evh_str_splice(here(), &handle_, at, count, text.data(), text.size()));
        return *this;
    }
    str &insert(std::size_t at, std::string_view text)
    {
        return replace(at, 0, text);
    }
    str &erase(std::size_t at = 0, std::size_t count = npos)
    {
        return replace(at, count, std::string_view());
    }
    void reserve(std::size_t size)
    {
        detail::check(evh_str_reserve(here(), &handle_, size));
    }
    void clear()
    {
        if (is_made()) detail::check(evh_str_clear(here(), &handle_));
    }
    std::size_t find(std::string_view needle, std::size_t from = 0) const
    {
        return view().find(needle, from);
    }

    friend bool operator==(const str &one, std::string_view other)
    {
        return one.view() == other;
    }
    friend bool operator==(std::string_view one, const str &other)
    {
        return one == other.view();
    }
    friend bool operator==(const str &one, const str &other)
    {
        return one.view() == other.view();
    }
    friend bool operator!=(const str &one, std::string_view other)
    {
        return one.view() != other;
    }
    friend bool operator!=(std::string_view one, const str &other)
    {
        return one != other.view();
    }
    friend bool operator!=(const str &one, const str &other)
    {
        return one.view() != other.view();
    }
    friend bool operator<(const str &one, const str &other)
    {
        return one.view() < other.view();
    }

  private:
    void drop() noexcept
    {
        detail::drop(*this, evh_str_clear);
    }
};

template <> struct is_relocatable<str> : std::true_type {
};
template <> struct is_zero_valid<str> : std::true_type {
};

static_assert(sizeof(str) == 8, "stored in files");

} // namespace evh

#endif
