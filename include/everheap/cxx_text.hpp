/* cxx_text.hpp -- strings in a heap, in C++: evh::str and evh::symbols. */
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
template <typename Collection, typename Clear> void drop(Collection &collection, Clear *clear) noexcept
{
    if (collection.handle()->offset == 0) return;
    evh_heap *heap = evh_heap_of(&collection);
    assert(heap);
    if (heap) (void)clear(heap, collection.handle());
}

} // namespace detail

/** A string: bytes of any value, their number known. What holds for evh_str holds for it. */
class str : public detail::collection<evh_str>
{
  public:
    static constexpr std::size_t npos = std::string_view::npos;

    str() noexcept = default;
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

/** A string of an evh::symbols table: equal strings have equal symbols. False is none. */
struct symbol {
    evh_symbol number = 0;

    explicit operator bool() const noexcept
    {
        return number != 0;
    }
    friend bool operator==(symbol one, symbol other) noexcept
    {
        return one.number == other.number;
    }
    friend bool operator!=(symbol one, symbol other) noexcept
    {
        return one.number != other.number;
    }
    friend bool operator<(symbol one, symbol other) noexcept
    {
        return one.number < other.number;
    }
};

/** Strings that are there once, counted. What holds for evh_symbols holds for it. */
class symbols : public detail::collection<evh_symbols>
{
  public:
    /** Steps through the symbols that match; they may be released and interned meanwhile. */
    class iterator
    {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = symbol;
        using difference_type = std::ptrdiff_t;
        using pointer = const symbol *;
        using reference = symbol;

        iterator() noexcept = default;
        iterator(const symbols &table, evh_match match, std::string_view part)
            : table_(&table), match_(match), part_(part)
        {
            ++*this;
        }
        symbol operator*() const noexcept
        {
            return at_;
        }
        iterator &operator++()
        {
            at_.number = table_->is_made()
                             ? evh_symbol_next(table_->here(), &table_->handle_, at_.number, match_,
                                               part_.data(), part_.size())
                             : 0;
            return *this;
        }
        iterator operator++(int)
        {
            const iterator before = *this;
            ++*this;
            return before;
        }
        friend bool operator==(const iterator &one, const iterator &other) noexcept
        {
            return one.at_ == other.at_;
        }
        friend bool operator!=(const iterator &one, const iterator &other) noexcept
        {
            return one.at_ != other.at_;
        }

      private:
        const symbols *table_ = nullptr;
        evh_match match_ = EVH_MATCH_PREFIX;
        std::string_view part_;
        symbol at_;
    };
    struct range {
        iterator first;
        iterator begin() const
        {
            return first;
        }
        iterator end() const
        {
            return iterator();
        }
    };

    symbols() noexcept = default;
    symbols(symbols &&other) noexcept = default;
    symbols &operator=(symbols &&other) noexcept
    {
        if (this == &other) return *this;
        drop();
        handle_ = std::exchange(other.handle_, evh_symbols{});
        return *this;
    }
    ~symbols()
    {
        drop();
    }

    /** Count nothing and free nothing, decided while the table is empty. */
    void keep_all()
    {
        detail::check(evh_symbols_create(here(), &handle_, EVH_SYMBOLS_KEEP));
    }
    /** The symbol of `text` with one reference more: end it with release(). */
    symbol intern(std::string_view text)
    {
        const symbol made{evh_symbol_intern(here(), &handle_, text.data(), text.size())};
        if (!made) detail::fail();
        return made;
    }
    /** The symbol of `text`, or none. Counts no reference. */
    symbol find(std::string_view text) const
    {
        if (!is_made()) return symbol{};
        return symbol{evh_symbol_find(here(), &handle_, text.data(), text.size())};
    }
    /** Its bytes, borrowed until it is released for the last time; data() is null if there is no
     *  such symbol. A zero follows them. */
    std::string_view text(symbol symbol) const
    {
        std::size_t size = 0;
        const char *text =
            is_made() ? evh_symbol_text(here(), &handle_, symbol.number, &size) : nullptr;
        return text ? std::string_view(text, size) : std::string_view();
    }
    void retain(symbol symbol)
    {
        detail::check(evh_symbol_retain(here(), &handle_, symbol.number));
    }
    void release(symbol symbol)
    {
        detail::check(evh_symbol_release(here(), &handle_, symbol.number));
    }
    std::uint32_t references(symbol symbol) const
    {
        return is_made() ? evh_symbol_references(here(), &handle_, symbol.number) : 0;
    }
    std::size_t size() const
    {
        return is_made() ? evh_symbols_count(here(), &handle_) : 0;
    }
    bool empty() const
    {
        return size() == 0;
    }
    void clear()
    {
        if (is_made()) detail::check(evh_symbols_clear(here(), &handle_));
    }

    iterator begin() const
    {
        return iterator(*this, EVH_MATCH_PREFIX, std::string_view());
    }
    iterator end() const
    {
        return iterator();
    }
    /** Those that begin with `part`, or contain it; `part` is borrowed meanwhile. */
    range beginning_with(std::string_view part) const
    {
        return range{iterator(*this, EVH_MATCH_PREFIX, part)};
    }
    range containing(std::string_view part) const
    {
        return range{iterator(*this, EVH_MATCH_SUBSTRING, part)};
    }

  private:
    void drop() noexcept
    {
        detail::drop(*this, evh_symbols_clear);
    }
};

namespace detail
{

template <> struct is_relocatable<str> : std::true_type {
};
template <> struct is_zero_valid<str> : std::true_type {
};
template <> struct is_relocatable<symbols> : std::true_type {
};
template <> struct is_zero_valid<symbols> : std::true_type {
};

} // namespace detail

static_assert(sizeof(str) == 8 && sizeof(symbols) == 8 && sizeof(symbol) == 4, "stored in files");

} // namespace evh

template <> struct std::hash<evh::symbol> {
    std::size_t operator()(evh::symbol symbol) const noexcept
    {
        return std::hash<std::uint32_t>()(symbol.number);
    }
};

#endif
