/* pjson_containers.h -- arrays, maps, strings in the space of pjson_memory.h, which includes it. */
#ifndef PJSON_CONTAINERS_H
#define PJSON_CONTAINERS_H

#include "pjson_memory.h"

/* ---- arrays: a header, and the items behind an offset ---- */

struct pmem_array_hdr {
    std::uint64_t size;
    std::uint64_t capacity;
    std::uint64_t data_off;
};

inline void pmem_array_init(pmem_array_hdr &array)
{
    array = {0, 0, 0};
}
inline std::size_t pmem_array_size(const pmem_array_hdr &array)
{
    return array.size;
}
inline std::size_t pmem_array_capacity(const pmem_array_hdr &array)
{
    return array.capacity;
}
template <typename T> T *pmem_array_data(const pmem_array_hdr &array)
{
    return PersistentAddressSpace::Get().Resolve<T>(array.data_off);
}
/** Room for `capacity` items. Throws std::bad_alloc, and nothing has changed. */
template <typename T> void pmem_array_reserve(pmem_array_hdr &array, std::size_t capacity)
{
    static_assert(std::is_trivially_copyable_v<T>, "items are bytes in a file");
    if (capacity <= array.capacity) return;
    if (capacity > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
    PersistentAddressSpace &space = PersistentAddressSpace::Get();
    void *const block =
        evh_realloc(space.heap(), space.Resolve<void>(array.data_off), capacity * sizeof(T));
    if (!block) throw std::bad_alloc();
    array.data_off = space.PtrToOffset(block);
    array.capacity = capacity;
}
/** A zeroed item at the end; its place holds until the array grows. */
template <typename T> T &pmem_array_push_back(pmem_array_hdr &array)
{
    if (array.size == array.capacity)
        pmem_array_reserve<T>(array, array.capacity ? 2 * array.capacity : 4);
    T *const item = pmem_array_data<T>(array) + array.size++;
    std::memset(static_cast<void *>(item), 0, sizeof *item);
    return *item;
}
template <typename T> void pmem_array_pop_back(pmem_array_hdr &array)
{
    if (array.size) array.size--;
}
template <typename T> T &pmem_array_at(const pmem_array_hdr &array, std::size_t index)
{
    return index < array.size ? pmem_array_data<T>(array)[index] : pjson_memory::nowhere<T>();
}
template <typename T> void pmem_array_erase_at(pmem_array_hdr &array, std::size_t index)
{
    if (index >= array.size) return;
    T *const items = pmem_array_data<T>(array);
    std::memmove(static_cast<void *>(items + index), items + index + 1,
                 (array.size - index - 1) * sizeof *items);
    array.size--;
}
/** Where `key` is or belongs; `less(item, key)`. */
template <typename T, typename Key, typename Less>
std::size_t pmem_array_lower_bound(const pmem_array_hdr &array, const Key &key, Less less)
{
    const T *const items = pmem_array_data<T>(array);
    std::size_t first = 0;
    for (std::size_t count = array.size; count > 0;) {
        const std::size_t half = count / 2;
        if (less(items[first + half], key)) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}
/** The item that is neither less nor greater, or null. `less` takes items. */
template <typename T, typename Less>
T *pmem_array_find_sorted(const pmem_array_hdr &array, const T &wanted, Less less)
{
    const std::size_t at = pmem_array_lower_bound<T>(array, wanted, less);
    T *const items = pmem_array_data<T>(array);
    return at < array.size && !less(wanted, items[at]) ? items + at : nullptr;
}
/** Put an item where it belongs, in place of its equal. */
template <typename T, typename Less>
T &pmem_array_insert_sorted(pmem_array_hdr &array, const T &item, Less less)
{
    const T copy = item; /* it may be one of ours */
    if (T *const found = pmem_array_find_sorted<T>(array, copy, less)) return *found = copy;
    const std::size_t at = pmem_array_lower_bound<T>(array, copy, less);
    (void)pmem_array_push_back<T>(array);
    T *const items = pmem_array_data<T>(array);
    std::memmove(static_cast<void *>(items + at + 1), items + at,
                 (array.size - 1 - at) * sizeof *items);
    return items[at] = copy;
}
inline void pmem_array_clear(pmem_array_hdr &array)
{
    array.size = 0;
}
inline void pmem_array_free(pmem_array_hdr &array)
{
    PersistentAddressSpace &space = PersistentAddressSpace::Get();
    evh_free(space.heap(), space.Resolve<void>(array.data_off));
    pmem_array_init(array);
}

/** What a vector and a map have in common: items of one array in the image. */
template <typename T> class pmem_items
{
  public:
    using iterator = T *;
    using const_iterator = const T *;

    /** Empty it; its room stays. */
    void clear()
    {
        pmem_array_clear(array_);
    }
    void free()
    {
        pmem_array_free(array_);
    }
    std::size_t size() const
    {
        return array_.size;
    }
    bool empty() const
    {
        return array_.size == 0;
    }
    iterator begin()
    {
        return pmem_array_data<T>(array_);
    }
    iterator end()
    {
        return begin() + size();
    }
    const_iterator begin() const
    {
        return pmem_array_data<T>(array_);
    }
    const_iterator end() const
    {
        return begin() + size();
    }

  protected:
    pmem_array_hdr array_;
};

/** A vector in the image: New() one by an fptr. Has no destructor: free() ends it. */
template <typename T> class pvector : public pmem_items<T>
{
  public:
    using value_type = T;
    using pmem_items<T>::size;

    void push_back(const T &item)
    {
        const T copy = item; /* it may be one of ours, which move */
        pmem_array_push_back<T>(array_) = copy;
    }
    void pop_back()
    {
        pmem_array_pop_back<T>(array_);
    }
    T &operator[](std::size_t index)
    {
        return pmem_array_at<T>(array_, index);
    }
    const T &operator[](std::size_t index) const
    {
        return pmem_array_at<T>(array_, index);
    }
    T &front()
    {
        return (*this)[0];
    }
    T &back()
    {
        return (*this)[size() - 1];
    }
    void reserve(std::size_t capacity)
    {
        pmem_array_reserve<T>(array_, capacity);
    }
    void erase_at(std::size_t index)
    {
        pmem_array_erase_at<T>(array_, index);
    }
    std::size_t capacity() const
    {
        return array_.capacity;
    }

  private:
    using pmem_items<T>::array_;
};

/** What a map is an array of. */
template <typename K, typename V> struct pmap_entry {
    K key;
    V value;
};

/** A map in the image: an array in the order of its keys. */
template <typename K, typename V> class pmap : public pmem_items<pmap_entry<K, V>>
{
  public:
    using entry = pmap_entry<K, V>;
    using pmem_items<entry>::begin;

    /** Put, or replace. */
    void insert(const K &key, const V &value)
    {
        pmem_array_insert_sorted<entry>(array_, entry{key, value}, less);
    }
    V *find(const K &key)
    {
        const std::size_t at = place(key);
        return is_at(at, key) ? &begin()[at].value : nullptr;
    }
    const V *find(const K &key) const
    {
        return const_cast<pmap *>(this)->find(key);
    }
    bool erase(const K &key)
    {
        const std::size_t at = place(key);
        if (!is_at(at, key)) return false;
        pmem_array_erase_at<entry>(array_, at);
        return true;
    }
    /** The value, zero if it was not there. */
    V &operator[](const K &key)
    {
        const K copy = key;
        if (V *const found = find(copy)) return *found;
        entry made;
        std::memset(static_cast<void *>(&made), 0, sizeof made);
        made.key = copy;
        return pmem_array_insert_sorted<entry>(array_, made, less).value;
    }

  private:
    static bool less(const entry &a, const entry &b)
    {
        return a.key < b.key;
    }
    std::size_t place(const K &key) const
    {
        return pmem_array_lower_bound<entry>(
            array_, key, [](const entry &item, const K &wanted) { return item.key < wanted; });
    }
    bool is_at(std::size_t at, const K &key) const
    {
        return at < array_.size && !(key < begin()[at].key);
    }
    using pmem_items<entry>::array_;
};

/* ---- strings ---- */

/** A string in the image that is changed by assignment. */
class pstring
{
  public:
    void assign(const char *text)
    {
        const std::size_t size = text ? std::strlen(text) : 0;
        PersistentAddressSpace &space = PersistentAddressSpace::Get();
        char *made = nullptr;
        if (size) {
            made = static_cast<char *>(evh_malloc(space.heap(), size + 1));
            if (!made) throw std::bad_alloc();
            std::memcpy(made, text, size + 1); /* which may be the old one */
        }
        clear();
        length = size;
        chars = space.PtrToOffset(made);
    }
    pstring &operator=(const char *text)
    {
        assign(text);
        return *this;
    }
    const char *c_str() const
    {
        return length ? PersistentAddressSpace::Get().Resolve<char>(chars) : "";
    }
    std::size_t size() const
    {
        return length;
    }
    bool empty() const
    {
        return length == 0;
    }
    void clear()
    {
        PersistentAddressSpace &space = PersistentAddressSpace::Get();
        evh_free(space.heap(), space.Resolve<void>(chars));
        length = 0;
        chars = 0;
    }
    char &operator[](std::size_t index)
    {
        return index < length ? PersistentAddressSpace::Get().Resolve<char>(chars)[index]
                              : pjson_memory::nowhere<char>();
    }
    friend bool operator==(const pstring &a, const char *b)
    {
        return std::strcmp(a.c_str(), b ? b : "") == 0;
    }
    friend bool operator==(const pstring &a, const pstring &b)
    {
        return a.length == b.length && std::memcmp(a.c_str(), b.c_str(), a.length) == 0;
    }
    template <typename Other> friend bool operator!=(const pstring &a, const Other &b)
    {
        return !(a == b);
    }
    friend bool operator<(const pstring &a, const pstring &b)
    {
        return std::strcmp(a.c_str(), b.c_str()) < 0;
    }

    std::uint64_t length;
    std::uint64_t chars; /* offset */
};

/* ---- the string dictionary: each string once, never freed ---- */

struct pam_interned {
    std::uint64_t chars_offset;
    std::uint64_t length;
};

struct pam_found {
    std::string value;
    std::uint64_t chars_offset;
    std::uint64_t length;
};

/** The one entry of these characters; null is "". Throws std::bad_alloc. */
inline pam_interned pam_intern_string(const char *text)
{
    PersistentAddressSpace &space = PersistentAddressSpace::Get();
    evh_symbols *const texts = &space.root()->texts;
    if (!text) text = "";
    const evh_symbol symbol = evh_symbol_intern(space.heap(), texts, text, std::strlen(text));
    std::size_t size = 0;
    const char *const chars = evh_symbol_text(space.heap(), texts, symbol, &size);
    if (!chars) throw std::bad_alloc();
    return {space.PtrToOffset(chars), size};
}

/** The entries that contain `part`; null and "" are in all. */
inline std::vector<pam_found> pam_search_strings(const char *part)
{
    PersistentAddressSpace &space = PersistentAddressSpace::Get();
    const evh_symbols *const texts = &space.root()->texts;
    std::vector<pam_found> found;
    if (!part) part = "";
    const std::size_t part_size = std::strlen(part);
    for (evh_symbol symbol = 0;
         (symbol = evh_symbol_next(space.heap(), texts, symbol, EVH_MATCH_SUBSTRING, part,
                                   part_size)) != 0;) {
        std::size_t size = 0;
        const char *const chars = evh_symbol_text(space.heap(), texts, symbol, &size);
        if (chars) found.push_back({std::string(chars, size), space.PtrToOffset(chars), size});
    }
    return found;
}
inline std::vector<pam_found> pam_all_strings()
{
    return pam_search_strings("");
}

/** The dictionary, as an object. */
struct pstringview_table {
    static pam_interned intern(const char *text)
    {
        return pam_intern_string(text);
    }
    static std::size_t size()
    {
        PersistentAddressSpace &space = PersistentAddressSpace::Get();
        return evh_symbols_count(space.heap(), &space.root()->texts);
    }
};

/** A string of the dictionary: equal ones have equal offsets. */
class pstringview
{
  public:
    void intern(const char *text)
    {
        const pam_interned interned = pam_intern_string(text);
        length = interned.length;
        chars_offset = interned.chars_offset;
    }
    const char *c_str() const
    {
        return chars_offset ? PersistentAddressSpace::Get().Resolve<char>(chars_offset) : "";
    }
    std::size_t size() const
    {
        return length;
    }
    bool empty() const
    {
        return length == 0;
    }
    friend bool operator==(const pstringview &a, const pstringview &b)
    {
        return a.chars_offset == b.chars_offset;
    }
    friend bool operator==(const pstringview &a, const char *b)
    {
        return std::strcmp(a.c_str(), b ? b : "") == 0;
    }
    template <typename Other> friend bool operator!=(const pstringview &a, const Other &b)
    {
        return !(a == b);
    }
    friend bool operator<(const pstringview &a, const pstringview &b)
    {
        return std::strcmp(a.c_str(), b.c_str()) < 0;
    }

    std::uint64_t length;
    std::uint64_t chars_offset;
};

static_assert(std::is_trivially_copyable_v<pvector<int>> && std::is_trivially_copyable_v<pstring> &&
                  std::is_trivially_copyable_v<pstringview> &&
                  std::is_trivially_copyable_v<pmap<int, int>>,
              "they are bytes in a file");

/* ---- an allocator for containers that are in memory themselves ---- */

template <typename T> class pallocator
{
  public:
    using value_type = T;

    pallocator() = default;
    template <typename U> pallocator(const pallocator<U> &)
    {
    }
    T *allocate(std::size_t count)
    {
        if (count > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
        void *const block = evh_malloc(PersistentAddressSpace::Get().heap(), count * sizeof(T));
        if (!block) throw std::bad_alloc();
        return static_cast<T *>(block);
    }
    void deallocate(T *items, std::size_t)
    {
        evh_free(PersistentAddressSpace::Get().heap(), items);
    }
    template <typename U> friend bool operator==(const pallocator &, const pallocator<U> &)
    {
        return true;
    }
    template <typename U> friend bool operator!=(const pallocator &, const pallocator<U> &)
    {
        return false;
    }
};

#endif
