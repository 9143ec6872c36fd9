/* cxx_map.hpp -- hash tables in a heap, in C++: evh::map<K, V>, and what evh::tree shares with
 * it. */
#ifndef EVERHEAP_CXX_MAP_HPP
#define EVERHEAP_CXX_MAP_HPP

#include <everheap/cxx_symbols.hpp>

#include <cstring>

namespace evh
{

namespace detail
{

/* How a key reaches the C interface: as a number, a symbol or bytes. */
enum class key_form { number, symbol, bytes, refused };

template <typename K> constexpr key_form form_of() noexcept
{
    static_assert(sizeof(K) <= 8 || std::is_same_v<K, std::string_view>, "a key has 64 bits");
    if (std::is_integral_v<K> || std::is_enum_v<K> || std::is_same_v<K, double>)
        return key_form::number;
    if (std::is_same_v<K, symbol>) return key_form::symbol;
    return std::is_same_v<K, std::string_view> ? key_form::bytes : key_form::refused;
}

/* An item as an iterator shows it: auto [key, value] of it. The value is the one in its place. */
template <typename K, typename V> struct item {
    K key;
    V &value;
};

template <typename Item> struct arrow {
    Item item;
    const Item *operator->() const noexcept
    {
        return &item;
    }
};

/*
 * What evh::map and evh::tree have in common. `Calls` leads to the C interface of one of them; it
 * turns a key into what that takes.
 */
template <typename Calls, typename K, typename V>
class keyed : public collection<typename Calls::handle>
{
    static_assert(
        form_of<K>() != key_form::refused && Calls::template takes<K>,
        "everheap: the key of an evh::map is an integer, an enum, an evh::symbol or bytes "
        "(std::string_view: the map keeps a copy); that of an evh::tree likewise, with "
        "double and without evh::symbol");

  public:
    using key_type = K;
    using mapped_type = V;
    using item = detail::item<K, V>;

    /** The value of `key`, made (zero, or V()) if it is not there. */
    V &operator[](const K &key)
    {
        static_assert(must_be_relocatable<V>::value, "see above");
        static_assert(alignof(V) <= 8, "everheap: values are aligned to 8 bytes");
        constexpr bool is_zero_made = is_zero_valid<V>::value;
        const std::size_t before = is_zero_made ? 0 : size();
        auto *value =
            static_cast<V *>(Calls::template put<K>(this->here(), this->handle(), key, sizeof(V)));
        if (!value) fail_allocation();
        if constexpr (!is_zero_made) {
            if (size() != before) {
                unmade guard{*this, key};
                ::new (static_cast<void *>(value)) V();
                guard.is_made = true;
            }
        }
        return *value;
    }
    /** Set the value of `key`. */
    template <typename Value> V &put(const K &key, Value &&value)
    {
        V &place = (*this)[key];
        place = std::forward<Value>(value);
        return place;
    }
    /** The value of `key`, or null. */
    V *find(const K &key)
    {
        return static_cast<V *>(get(key));
    }
    const V *find(const K &key) const
    {
        return static_cast<const V *>(get(key));
    }
    bool contains(const K &key) const
    {
        return get(key) != nullptr;
    }
    /** The value of `key`, or an evh::error (EVH_NOT_FOUND). */
    V &at(const K &key)
    {
        return *found(find(key));
    }
    const V &at(const K &key) const
    {
        return *found(find(key));
    }
    /** True if `key` was there, and is gone. */
    bool erase(const K &key)
    {
        V *value = find(key);
        if (!value) return false;
        if constexpr (!std::is_trivially_destructible_v<V>) remake(*value);
        if (!Calls::template erase<K>(this->here(), this->handle(), key)) fail();
        return true;
    }
    std::size_t size() const
    {
        return this->is_made() ? Calls::count(this->here(), this->handle()) : 0;
    }
    bool empty() const
    {
        return size() == 0;
    }
    void clear()
    {
        if (!this->is_made()) return;
        destroy_values(this->here());
        detail::check(Calls::clear(this->here(), this->handle()));
    }
    /** EVH_OK or EVH_CORRUPT, as an evh::error. Cost: reads all of it. */
    void check() const
    {
        if (this->is_made()) detail::check(Calls::check(this->here(), this->handle()));
    }

  protected:
    keyed() noexcept = default;
    keyed(keyed &&other) noexcept = default;
    keyed &operator=(keyed &&other) noexcept
    {
        if (this == &other) return *this;
        drop();
        this->handle_ = std::exchange(other.handle_, typename Calls::handle{});
        return *this;
    }
    ~keyed()
    {
        drop();
    }

  private:
    /* A value whose constructor throws is not there. */
    struct unmade {
        keyed &all;
        const K &key;
        bool is_made = false;

        ~unmade()
        {
            if (!is_made) (void)Calls::template erase<K>(all.here(), all.handle(), key);
        }
    };

    void *get(const K &key) const
    {
        if (!this->is_made()) return nullptr;
        evh_heap *heap = this->here();
        void *value = Calls::template get<K>(heap, this->handle(), key);
        assert(!value || Calls::value_size(heap, this->handle()) == sizeof(V));
        return value;
    }
    template <typename Value> static Value *found(Value *value)
    {
        if (!value) fail_with(EVH_NOT_FOUND, "no such key in a map or tree");
        return value;
    }
    static void remake(V &value)
    {
        value.~V();
        ::new (static_cast<void *>(&value)) V();
    }
    void destroy_values(evh_heap *heap)
    {
        if constexpr (!std::is_trivially_destructible_v<V>) {
            typename Calls::cursor cursor{};
            while (Calls::next(heap, this->handle(), &cursor))
                remake(*static_cast<V *>(cursor.value));
        }
    }
    void drop() noexcept
    {
        if (!this->is_made()) return;
        if (evh_heap *heap = detail::heap_of(this)) destroy_values(heap);
        detail::drop(*this, Calls::clear);
    }
};

/* The calls of the C interface that take no key. */
template <typename Handle, typename Cursor, auto Next, auto Count, auto ValueSize, auto Clear,
          auto Check>
struct keyless_calls {
    using handle = Handle;
    using cursor = Cursor;
    static constexpr auto next = Next;
    static constexpr auto count = Count;
    static constexpr auto value_size = ValueSize;
    static constexpr auto clear = Clear;
    static constexpr auto check = Check;
};

/** The C interface of a hash table. */
struct map_calls : keyless_calls<evh_map, evh_map_cursor, evh_map_next, evh_map_count,
                                 evh_map_value_size, evh_map_clear, evh_map_check> {
    template <typename K> static constexpr bool takes = !std::is_floating_point_v<K>;

    template <typename K>
    static void *put(evh_heap *heap, evh_map *map, const K &key, std::size_t value_size)
    {
        if constexpr (form_of<K>() == key_form::bytes)
            return evh_map_put_bytes(heap, map, key.data(), key.size(), value_size);
        else if constexpr (form_of<K>() == key_form::symbol)
            return evh_map_put_symbol(heap, map, key.number, value_size);
        else
            return evh_map_put(heap, map, static_cast<std::uint64_t>(key), value_size);
    }
    template <typename K> static void *get(const evh_heap *heap, const evh_map *map, const K &key)
    {
        if constexpr (form_of<K>() == key_form::bytes)
            return evh_map_get_bytes(heap, map, key.data(), key.size());
        else if constexpr (form_of<K>() == key_form::symbol)
            return evh_map_get_symbol(heap, map, key.number);
        else
            return evh_map_get(heap, map, static_cast<std::uint64_t>(key));
    }
    template <typename K> static bool erase(evh_heap *heap, evh_map *map, const K &key)
    {
        if constexpr (form_of<K>() == key_form::bytes)
            return evh_map_erase_bytes(heap, map, key.data(), key.size());
        else if constexpr (form_of<K>() == key_form::symbol)
            return evh_map_erase_symbol(heap, map, key.number);
        else
            return evh_map_erase(heap, map, static_cast<std::uint64_t>(key));
    }
    template <typename K> static K key_at(const cursor &cursor) noexcept
    {
        if constexpr (form_of<K>() == key_form::bytes)
            return K(cursor.bytes, cursor.size);
        else if constexpr (form_of<K>() == key_form::symbol)
            return K{static_cast<evh_symbol>(cursor.key)};
        else
            return static_cast<K>(cursor.key);
    }
};

} // namespace detail

/**
 * A hash table from K (an integer, an enum, an evh::symbol, or std::string_view: bytes that the map
 * copies) to V (trivially copyable, or a handle such as evh::str). What holds for evh_map holds for
 * it. A value is borrowed until a put makes another.
 *
 *     evh::root<evh::map<std::string_view, unsigned>> ages(heap, "ages");
 *     (*ages)["Ann"] = 41;
 *     for (auto [name, age] : *ages) ...
 *
 * Errors    evh::bad_alloc for a value that could not be made, else evh::error.
 */
template <typename K, typename V> class map : public detail::keyed<detail::map_calls, K, V>
{
  public:
    using item = detail::item<K, V>;

    /** Steps through the items in no order. Items may be erased meanwhile, this one and others;
     *  after a put that makes one, items may be missed or shown twice. */
    class iterator
    {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = item;
        using difference_type = std::ptrdiff_t;
        using pointer = detail::arrow<item>;
        using reference = item;

        iterator() noexcept = default;
        explicit iterator(const map &map) : map_(&map)
        {
            ++*this;
        }
        item operator*() const noexcept
        {
            return item{detail::map_calls::key_at<K>(cursor_), *static_cast<V *>(cursor_.value)};
        }
        pointer operator->() const noexcept
        {
            return pointer{**this};
        }
        iterator &operator++()
        {
            if (!map_->is_made() || !evh_map_next(map_->here(), map_->handle(), &cursor_))
                map_ = nullptr;
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
            return one.map_ == other.map_ &&
                   (!one.map_ || one.cursor_.value == other.cursor_.value);
        }
        friend bool operator!=(const iterator &one, const iterator &other) noexcept
        {
            return !(one == other);
        }

      private:
        const map *map_ = nullptr; /* null at the end */
        evh_map_cursor cursor_{};
    };

    map() noexcept
    {
    }

    iterator begin() const
    {
        return iterator(*this);
    }
    iterator end() const
    {
        return iterator();
    }
};

template <typename K, typename V> struct is_relocatable<map<K, V>> : std::true_type {
};
template <typename K, typename V> struct is_zero_valid<map<K, V>> : std::true_type {
};

static_assert(sizeof(map<int, int>) == 8, "stored in files");

} // namespace evh

#endif
