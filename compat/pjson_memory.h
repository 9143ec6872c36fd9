/* pjson_memory.h -- the layers that pjson_db stood on: an address space, pointers, containers. */
#ifndef PJSON_MEMORY_H
#define PJSON_MEMORY_H

#include <everheap.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <ostream>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

/*
 * For programs written for these layers, in C++17; header only, links libeverheap. Offsets are
 * those of a heap: 8 bytes, 0 is none, and an object stays where it is, also when others grow.
 *
 * What is different: Save() commits, all or nothing; what was not saved is lost with the process,
 * and saved by the end of the program. A file that is no heap, or is damaged, is left as it is: the
 * space is then empty and in memory, as if there were no file, but Save() returns false and
 * Validate() too. Indices beyond the end give a zero object of the program's, not the image's
 * first bytes. One thread at a time.
 */

namespace pjson_memory
{

/** What is known of an object that was created. */
struct slot_info {
    std::uint64_t count;
    std::uint64_t elem_size;
    evh_symbol name; /* 0: none */
    evh_symbol type;
};

/** The named root that leads to everything. */
struct space_root {
    evh_map slots;     /* by offset: slot_info */
    evh_map names;     /* by name: offset */
    evh_symbols words; /* names of objects and types */
    evh_symbols texts; /* the string dictionary; keeps */
    std::uint64_t string_table_offset;
};

/** A zeroed object for what lies outside. */
template <typename T> T &nowhere()
{
    static std::aligned_storage_t<sizeof(T), alignof(T)> zero;
    std::memset(&zero, 0, sizeof zero);
    return *reinterpret_cast<T *>(&zero);
}

} // namespace pjson_memory

/** The one space of a program. */
class PersistentAddressSpace
{
  public:
    static constexpr std::size_t NAME_SIZE_MAX = EVH_NAME_SIZE_MAX;

    /** Load the image, or begin an empty one that Save() writes there. */
    static void Init(const char *file)
    {
        Get().open(file);
    }
    static PersistentAddressSpace &Get()
    {
        static PersistentAddressSpace space;
        if (!space.heap_) space.open(nullptr);
        return space;
    }
    ~PersistentAddressSpace()
    {
        (void)Save();
        (void)evh_close(heap_);
    }
    PersistentAddressSpace(const PersistentAddressSpace &) = delete;
    PersistentAddressSpace &operator=(const PersistentAddressSpace &) = delete;

    /** Back to an empty space. */
    void Reset()
    {
        std::vector<std::uint64_t> all;
        evh_map_cursor cursor = {};
        while (evh_map_next(heap_, &root_->slots, &cursor)) all.push_back(cursor.key);
        for (std::uint64_t offset : all) Delete(offset);
        (void)evh_map_clear(heap_, &root_->slots);
        (void)evh_map_clear(heap_, &root_->names);
        (void)evh_symbols_clear(heap_, &root_->words);
        (void)evh_symbols_clear(heap_, &root_->texts);
        (void)evh_symbols_create(heap_, &root_->texts, EVH_SYMBOLS_KEEP);
        root_->string_table_offset = 0;
    }

    /* ---- objects ---- */

    /** A zeroed object. 0: no memory, a name that is taken or longer than 63 bytes. */
    template <typename T> std::uint64_t Create(const char *name = nullptr)
    {
        return CreateArray<T>(1, name);
    }
    template <typename T> std::uint64_t CreateArray(std::size_t count, const char *name = nullptr)
    {
        static_assert(std::is_trivially_copyable_v<T>, "objects are bytes in a file");
        static_assert(alignof(T) <= 16, "blocks are aligned to 16 bytes");
        const bool is_named = name && *name;
        if (count == 0 || (is_named && (std::strlen(name) > NAME_SIZE_MAX || Find(name)))) return 0;
        void *block = evh_calloc(heap_, count, sizeof(T));
        if (!block) return 0;
        const std::uint64_t offset = PtrToOffset(block);
        auto *slot = static_cast<pjson_memory::slot_info *>(
            evh_map_put(heap_, &root_->slots, offset, sizeof(pjson_memory::slot_info)));
        if (!slot) {
            evh_free(heap_, block);
            return 0;
        }
        const char *type = typeid(T).name();
        *slot = {count, sizeof(T), 0,
                 evh_symbol_intern(heap_, &root_->words, type, std::strlen(type))};
        if (!is_named) return offset;
        slot->name = evh_symbol_intern(heap_, &root_->words, name, std::strlen(name));
        auto *named = static_cast<std::uint64_t *>(
            evh_map_put_str(heap_, &root_->names, name, sizeof(std::uint64_t)));
        if (!slot->name || !named) {
            Delete(offset);
            return 0;
        }
        *named = offset;
        return offset;
    }
    /** Free an object, and forget its name. What is none is ignored. */
    void Delete(std::uint64_t offset)
    {
        const pjson_memory::slot_info *slot = slot_at(offset);
        if (!slot) return;
        if (slot->name) {
            std::size_t size = 0;
            const char *name = evh_symbol_text(heap_, &root_->words, slot->name, &size);
            if (name) (void)evh_map_erase_bytes(heap_, &root_->names, name, size);
            (void)evh_symbol_release(heap_, &root_->words, slot->name);
        }
        if (slot->type) (void)evh_symbol_release(heap_, &root_->words, slot->type);
        (void)evh_map_erase(heap_, &root_->slots, offset);
        evh_free(heap_, evh_at(heap_, {offset}));
    }
    /** Grow an array where it is: its offset, or 0 if there is no room. */
    std::uint64_t Realloc(std::uint64_t offset, std::size_t old_count, std::size_t new_count,
                          std::size_t elem_size)
    {
        pjson_memory::slot_info *slot = slot_at(offset);
        if (!slot || slot->count != old_count || slot->elem_size != elem_size || elem_size == 0 ||
            new_count < old_count || new_count > SIZE_MAX / elem_size)
            return 0;
        void *block = evh_at(heap_, {offset});
        if (evh_usable_size(heap_, block) < new_count * elem_size) return 0;
        std::memset(static_cast<char *>(block) + old_count * elem_size, 0,
                    (new_count - old_count) * elem_size);
        slot->count = new_count;
        return offset;
    }

    /* ---- finding ---- */

    std::uint64_t Find(const char *name) const
    {
        if (!name || !*name) return 0;
        auto *named =
            static_cast<const std::uint64_t *>(evh_map_get_str(heap_, &root_->names, name));
        return named ? *named : 0;
    }
    /** 0 too if it is of another type. */
    template <typename T> std::uint64_t FindTyped(const char *name) const
    {
        const std::uint64_t offset = Find(name);
        const pjson_memory::slot_info *slot = slot_at(offset);
        const char *type =
            slot ? evh_symbol_text(heap_, &root_->words, slot->type, nullptr) : nullptr;
        return type && std::strcmp(type, typeid(T).name()) == 0 ? offset : 0;
    }
    std::uint64_t FindByPtr(const void *address) const
    {
        const std::uint64_t offset = PtrToOffset(address);
        return slot_at(offset) ? offset : 0;
    }
    const char *GetName(std::uint64_t offset) const
    {
        const pjson_memory::slot_info *slot = slot_at(offset);
        if (!slot || !slot->name) return nullptr;
        return evh_symbol_text(heap_, &root_->words, slot->name, nullptr);
    }
    std::size_t GetCount(std::uint64_t offset) const
    {
        const pjson_memory::slot_info *slot = slot_at(offset);
        return slot ? slot->count : 0;
    }
    std::size_t GetElemSize(std::uint64_t offset) const
    {
        const pjson_memory::slot_info *slot = slot_at(offset);
        return slot ? slot->elem_size : 0;
    }
    /** 0 for what lies outside. */
    std::uint64_t PtrToOffset(const void *address) const
    {
        return address ? evh_ref_to(heap_, address).offset : 0;
    }
    template <typename T> T *Resolve(std::uint64_t offset) const
    {
        return offset ? static_cast<T *>(evh_at(heap_, {offset})) : nullptr;
    }
    template <typename T> T &ResolveElement(std::uint64_t offset, std::size_t index) const
    {
        const pjson_memory::slot_info *slot = slot_at(offset);
        T *first = Resolve<T>(offset);
        const bool is_inside = slot && index < slot->count && slot->elem_size >= sizeof(T);
        return is_inside && first ? first[index] : pjson_memory::nowhere<T>();
    }

    /* ---- numbers ---- */

    void ReserveSlots(std::size_t)
    {
    }
    std::size_t GetSlotCount() const
    {
        return evh_map_count(heap_, &root_->slots);
    }
    std::size_t GetSlotCapacity() const
    {
        return GetSlotCount();
    }
    std::size_t GetNamedCount() const
    {
        return evh_map_count(heap_, &root_->names);
    }
    /** Different types of objects. */
    std::size_t GetTypeCount() const
    {
        std::vector<bool> seen;
        std::size_t count = 0;
        evh_map_cursor cursor = {};
        while (evh_map_next(heap_, &root_->slots, &cursor)) {
            const auto type = static_cast<const pjson_memory::slot_info *>(cursor.value)->type;
            if (type >= seen.size()) seen.resize(type + 1);
            count += !seen[type];
            seen[type] = true;
        }
        return count;
    }
    std::size_t GetFreeListSize() const
    {
        return info().free_bytes;
    }
    std::size_t GetBump() const
    {
        return info().live_bytes;
    }
    std::size_t GetDataSize() const
    {
        return info().heap_bytes;
    }
    std::uint64_t GetStringTableOffset() const
    {
        return root_->string_table_offset;
    }
    void SetStringTableOffset(std::uint64_t offset)
    {
        root_->string_table_offset = offset;
    }

    /** Whether the file is one, and sound. */
    bool Validate() const
    {
        return !is_refused_ && evh_check(heap_, nullptr, nullptr) == EVH_OK &&
               evh_map_check(heap_, &root_->slots) == EVH_OK &&
               evh_map_check(heap_, &root_->names) == EVH_OK;
    }
    /** Make every change durable. */
    bool Save()
    {
        return heap_ && !is_refused_ && evh_commit(heap_) == EVH_OK;
    }

    /* ---- for the layers above ---- */

    evh_heap *heap() const
    {
        return heap_;
    }
    pjson_memory::space_root *root() const
    {
        return root_;
    }

  private:
    PersistentAddressSpace() = default;

    void open(const char *file)
    {
        if (heap_) {
            (void)Save();
            (void)evh_close(heap_);
        }
        heap_ = file && *file ? evh_open(file, nullptr) : nullptr;
        is_refused_ = file && *file && !heap_;
        if (!attach()) {
            (void)evh_close(heap_);
            is_refused_ = is_refused_ || heap_;
            heap_ = evh_open_memory(nullptr, 0, nullptr);
            if (!attach()) throw std::bad_alloc();
        }
    }
    bool attach()
    {
        root_ = heap_ ? static_cast<pjson_memory::space_root *>(
                            evh_root(heap_, "pjson.space", sizeof *root_))
                      : nullptr;
        if (root_ && root_->texts.offset == 0)
            (void)evh_symbols_create(heap_, &root_->texts, EVH_SYMBOLS_KEEP);
        return root_ != nullptr;
    }
    pjson_memory::slot_info *slot_at(std::uint64_t offset) const
    {
        if (offset == 0) return nullptr;
        return static_cast<pjson_memory::slot_info *>(evh_map_get(heap_, &root_->slots, offset));
    }
    evh_info info() const
    {
        evh_info info = {};
        (void)evh_get_info(heap_, &info);
        return info;
    }

    evh_heap *heap_ = nullptr;
    pjson_memory::space_root *root_ = nullptr;
    bool is_refused_ = false; /* the file is none, and stays as it is */
};

/** A place for a T in the image: as large as a T, and only there. */
template <typename T> class persist
{
    static_assert(std::is_trivially_copyable_v<T>, "objects are bytes in a file");

  public:
    operator T &()
    {
        return value_;
    }
    operator const T &() const
    {
        return value_;
    }
    persist &operator=(const T &value)
    {
        value_ = value;
        return *this;
    }

  private:
    persist() = default;
    T value_;
};

using pbool = persist<bool>;
using pint = persist<int>;
using puint = persist<unsigned>;
using pfloat = persist<float>;
using pdouble = persist<double>;

/** An offset of a T, 8 bytes; it may live anywhere. */
template <typename T> class fptr
{
  public:
    fptr() = default;
    fptr(std::nullptr_t)
    {
    }
    /** The object of that name, if it is a T. */
    explicit fptr(const char *name) : offset_(space().template FindTyped<T>(name))
    {
    }

    void New(const char *name = nullptr)
    {
        offset_ = space().template Create<T>(name);
    }
    void NewArray(std::size_t count, const char *name = nullptr)
    {
        offset_ = space().template CreateArray<T>(count, name);
    }
    void Delete()
    {
        space().Delete(offset_);
        offset_ = 0;
    }
    void DeleteArray()
    {
        Delete();
    }
    void find(const char *name)
    {
        offset_ = space().template FindTyped<T>(name);
    }

    std::uint64_t addr() const
    {
        return offset_;
    }
    void set_addr(std::uint64_t offset)
    {
        offset_ = offset;
    }
    std::size_t count() const
    {
        return space().GetCount(offset_);
    }
    T *get() const
    {
        return space().template Resolve<T>(offset_);
    }
    T &operator*() const
    {
        return *get();
    }
    T *operator->() const
    {
        return get();
    }
    T &operator[](std::size_t index) const
    {
        return space().template ResolveElement<T>(offset_, index);
    }
    explicit operator bool() const
    {
        return offset_ != 0;
    }
    friend bool operator==(const fptr &a, const fptr &b)
    {
        return a.offset_ == b.offset_;
    }
    friend bool operator!=(const fptr &a, const fptr &b)
    {
        return a.offset_ != b.offset_;
    }

  private:
    static PersistentAddressSpace &space()
    {
        return PersistentAddressSpace::Get();
    }
    std::uint64_t offset_ = 0;
};

static_assert(sizeof(fptr<int>) == 8 && sizeof(persist<double>) == sizeof(double), "as promised");
static_assert(std::is_trivially_copyable_v<fptr<int>>, "it lives in the image, too");

/** Objects of one type. */
template <typename T> struct AddressManager {
    static fptr<T> Create(const char *name = nullptr)
    {
        fptr<T> made;
        made.New(name);
        return made;
    }
    static fptr<T> CreateArray(std::size_t count, const char *name = nullptr)
    {
        fptr<T> made;
        made.NewArray(count, name);
        return made;
    }
    static void Delete(fptr<T> object)
    {
        object.Delete();
    }
    static fptr<T> Find(const char *name)
    {
        return fptr<T>(name);
    }
};

#include "pjson_containers.h"

#endif
