/* cxx_symbols.hpp -- interned strings in a heap, in C++: evh::symbols and evh::symbol. */
#ifndef EVERHEAP_CXX_SYMBOLS_HPP
#define EVERHEAP_CXX_SYMBOLS_HPP

#include <everheap/cxx_text.hpp>

namespace evh
{

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

    symbols() noexcept
    {
    }
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

template <> struct is_relocatable<symbols> : std::true_type {
};
template <> struct is_zero_valid<symbols> : std::true_type {
};

static_assert(sizeof(symbols) == 8 && sizeof(symbol) == 4, "stored in files");

} // namespace evh

template <> struct std::hash<evh::symbol> {
    std::size_t operator()(evh::symbol symbol) const noexcept
    {
        return std::hash<std::uint32_t>()(symbol.number);
    }
};

#endif
