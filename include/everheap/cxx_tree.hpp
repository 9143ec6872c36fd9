/* cxx_tree.hpp -- ordered maps in a heap, in C++: evh::tree<K, V>. */
#ifndef EVERHEAP_CXX_TREE_HPP
#define EVERHEAP_CXX_TREE_HPP

#include <everheap/cxx_map.hpp>

namespace evh
{

namespace detail
{

/** The C interface of a tree: numbers in the order of their type. */
struct tree_calls : keyless_calls<evh_tree, evh_tree_cursor, evh_tree_next, evh_tree_count,
                                  evh_tree_value_size, evh_tree_clear, evh_tree_check> {
    template <typename K> static constexpr bool takes = !std::is_same_v<K, symbol>;

    template <typename K> static std::uint64_t number(K key) noexcept
    {
        if constexpr (std::is_enum_v<K>)
            return number(static_cast<std::underlying_type_t<K>>(key));
        else if constexpr (std::is_floating_point_v<K>)
            return evh_tree_real(key);
        else if constexpr (std::is_signed_v<K>)
            return evh_tree_signed(key);
        else
            return key;
    }
    template <typename K> static K from_number(std::uint64_t number) noexcept
    {
        if constexpr (std::is_enum_v<K>) {
            return static_cast<K>(from_number<std::underlying_type_t<K>>(number));
        } else if constexpr (std::is_floating_point_v<K>) {
            constexpr std::uint64_t top = std::uint64_t{1} << 63;
            const std::uint64_t bits = number & top ? number ^ top : ~number;
            K key;
            std::memcpy(&key, &bits, sizeof key);
            return key;
        } else if constexpr (std::is_signed_v<K>) {
            const std::uint64_t bits = evh_tree_signed(static_cast<std::int64_t>(number));
            return static_cast<K>(static_cast<std::int64_t>(bits));
        } else {
            return static_cast<K>(number);
        }
    }

    template <typename K>
    static void *put(evh_heap *heap, evh_tree *tree, const K &key, std::size_t value_size)
    {
        if constexpr (form_of<K>() == key_form::bytes)
            return evh_tree_put_bytes(heap, tree, key.data(), key.size(), value_size);
        else
            return evh_tree_put(heap, tree, number(key), value_size);
    }
    template <typename K> static void *get(const evh_heap *heap, const evh_tree *tree, const K &key)
    {
        if constexpr (form_of<K>() == key_form::bytes)
            return evh_tree_get_bytes(heap, tree, key.data(), key.size());
        else
            return evh_tree_get(heap, tree, number(key));
    }
    template <typename K> static bool erase(evh_heap *heap, evh_tree *tree, const K &key)
    {
        if constexpr (form_of<K>() == key_form::bytes)
            return evh_tree_erase_bytes(heap, tree, key.data(), key.size());
        else
            return evh_tree_erase(heap, tree, number(key));
    }
    template <typename K>
    static void seek(const evh_heap *heap, const evh_tree *tree, cursor *cursor, const K &key)
    {
        if constexpr (form_of<K>() == key_form::bytes)
            evh_tree_seek_bytes(heap, tree, cursor, key.data(), key.size());
        else
            evh_tree_seek(heap, tree, cursor, number(key));
    }
    template <typename K> static K key_at(const cursor &cursor) noexcept
    {
        if constexpr (form_of<K>() == key_form::bytes)
            return K(cursor.bytes, cursor.size);
        else
            return from_number<K>(cursor.key);
    }
};

} // namespace detail

/**
 * An ordered map from K (an integer, an enum or a double in the order of <, or std::string_view:
 * bytes that the tree copies, in the order of memcmp()) to V, as that of evh::map. What holds for
 * evh_tree holds for it: a value is borrowed until the tree changes.
 *
 *     for (auto [word, count] : tree.from("b"))           from the first word that is not below
 *     for (auto [word, count] : tree.between("b", "c"))   those, below "c"
 *     for (auto [word, count] : tree.backwards())         all, from the last
 */
template <typename K, typename V> class tree : public detail::keyed<detail::tree_calls, K, V>
{
    using calls = detail::tree_calls;

  public:
    using item = detail::item<K, V>;

    /** Steps through the items in order. The item it is at may be erased meanwhile, and others be
     *  put. Two are equal if both are at the end, or at the same key. */
    class iterator
    {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = item;
        using difference_type = std::ptrdiff_t;
        using pointer = detail::arrow<item>;
        using reference = item;

        iterator() noexcept = default;
        item operator*() const noexcept
        {
            return item{calls::key_at<K>(cursor_), *static_cast<V *>(cursor_.value)};
        }
        pointer operator->() const noexcept
        {
            return pointer{**this};
        }
        iterator &operator++()
        {
            step();
            return *this;
        }
        iterator operator++(int)
        {
            const iterator before = *this;
            step();
            return before;
        }
        friend bool operator==(const iterator &one, const iterator &other)
        {
            if (!one.tree_ || !other.tree_) return !one.tree_ && !other.tree_;
            return calls::key_at<K>(one.cursor_) == calls::key_at<K>(other.cursor_);
        }
        friend bool operator!=(const iterator &one, const iterator &other)
        {
            return !(one == other);
        }

      private:
        friend class tree;
        iterator(const tree &tree, bool is_backward) : is_backward_(is_backward)
        {
            if (tree.is_made()) tree_ = &tree;
        }
        void step()
        {
            if (!tree_->is_made() ||
                !(is_backward_ ? evh_tree_previous(tree_->here(), tree_->handle(), &cursor_)
                               : evh_tree_next(tree_->here(), tree_->handle(), &cursor_)))
                tree_ = nullptr;
        }

        const tree *tree_ = nullptr; /* null at the end */
        bool is_backward_ = false;
        evh_tree_cursor cursor_{};
    };

    struct range {
        iterator first;
        iterator last;
        iterator begin() const
        {
            return first;
        }
        iterator end() const
        {
            return last;
        }
    };

    tree() noexcept
    {
    }

    iterator begin() const
    {
        iterator first(*this, false);
        if (first.tree_) first.step();
        return first;
    }
    iterator end() const
    {
        return iterator();
    }
    /** The first item whose key is not below `key`. */
    iterator lower_bound(const K &key) const
    {
        iterator first(*this, false);
        if (!first.tree_) return first;
        calls::seek(this->here(), this->handle(), &first.cursor_, key);
        first.step();
        return first;
    }
    /** The items from `key` on. */
    range from(const K &key) const
    {
        return range{lower_bound(key), end()};
    }
    /** The items from `first` on and below `last`. The item that ends it must not be erased
     *  meanwhile. */
    range between(const K &first, const K &last) const
    {
        if (!(first < last)) return range{end(), end()};
        return range{lower_bound(first), lower_bound(last)};
    }
    /** All items, the last first. */
    range backwards() const
    {
        iterator first(*this, true);
        if (!first.tree_) return range{first, end()};
        evh_tree_seek_end(this->here(), this->handle(), &first.cursor_);
        first.step();
        return range{first, end()};
    }
    /** The items below `key`, the last first. */
    range backwards_from(const K &key) const
    {
        iterator first(*this, true);
        if (!first.tree_) return range{first, end()};
        calls::seek(this->here(), this->handle(), &first.cursor_, key);
        first.step();
        return range{first, end()};
    }
};

template <typename K, typename V> struct is_relocatable<tree<K, V>> : std::true_type {
};
template <typename K, typename V> struct is_zero_valid<tree<K, V>> : std::true_type {
};

static_assert(sizeof(tree<int, int>) == 8, "stored in files");

} // namespace evh

#endif
