/* persist_memory_manager.h -- the calls of a persistent heap in a caller's buffer, over
 * everheap. */
#ifndef PERSIST_MEMORY_MANAGER_H
#define PERSIST_MEMORY_MANAGER_H

#include <everheap.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <sys/stat.h>
#include <type_traits>
#include <unistd.h>
#include <utility>

/*
 * For programs written for `pmm::PersistMemoryManager`: they compile unchanged and link
 * libeverheap. docs/migration.md says what is different underneath, and how to go on from here.
 *
 * A manager is the buffer: the pointer that create() returns is the buffer's address. The buffer is
 *
 *     header    32 bytes: magic, size
 *     notes     a byte for each 16 bytes of the image: 0, or at the start of a block its alignment
 *               and how many of its bytes were not asked for
 *     image     a heap of the compact layout (docs/format.md, section 14), at a multiple of 16
 *
 * and holds all that is needed to load it elsewhere. What is ephemeral, the open heap, is found by
 * the buffer's address (detail::Session). A note is cleared before its block is freed and written
 * after it was allocated, so a note that is not 0 names a live block at any instant.
 *
 * Any thread may allocate, free, resize and ask at any time. No other thread may use a manager that
 * is created, loaded, destroyed or saved; what validate() and the statistics say is exact only if
 * nobody changes the heap meanwhile. Failures leave their reason in evh_last_error().
 */
namespace pmm
{

constexpr std::size_t kDefaultAlignment = 16;
constexpr std::size_t kMinAlignment = 8;
constexpr std::size_t kMaxAlignment = 4096;
constexpr std::size_t kMinMemorySize = 4096;
constexpr std::size_t kMinBlockSize = 32;
constexpr std::uint64_t kMagic = 0x504D4D5F56303130ULL; /* "PMM_V010" */

enum class ErrorCode {
    OK = 0,
    OUT_OF_MEMORY,
    INVALID_POINTER,
    INVALID_ALIGNMENT,
    CORRUPTED_METADATA,
    FILE_IO_ERROR,
};

struct Result {
    ErrorCode code;
    const char *message;
};

/** Areas are maximal: a free area lies between two blocks, or a block and an end. Sizes in
 *  bytes. */
struct MemoryStats {
    std::size_t total_blocks; /* free areas and blocks */
    std::size_t free_blocks;
    std::size_t allocated_blocks;
    std::size_t largest_free;
    std::size_t smallest_free;
    std::size_t total_fragmentation; /* free bytes behind the first free area */
};

struct AllocationInfo {
    void *ptr;
    std::size_t size; /* as it was asked for */
    std::size_t alignment;
    bool is_valid; /* false: no live block begins there, and size and alignment are 0 */
};

class PersistMemoryManager;

namespace detail
{

constexpr std::size_t kGranule = 16;      /* what the compact layout allocates in */
constexpr std::size_t kUsedAtFirst = 136; /* what used_size() has always said of an empty manager */
constexpr std::uint32_t kVersion = 1;

struct Header {
    std::uint64_t magic;
    std::uint64_t total_size;
    std::uint32_t version;
    std::uint32_t shift; /* the buffer's address modulo 16: the image fits no other */
    std::uint64_t reserved;
};
static_assert(sizeof(Header) == 32, "in the buffer");

inline evh_options image_options(bool create)
{
    evh_options options = evh_options();
    options.misuse = EVH_MISUSE_STATUS;
    options.compact = true;
    options.unlisted = true; /* a buffer may be gone without destroy() */
    options.must_create = create;
    options.must_exist = !create;
    return options;
}

/* The open heap of one buffer. */
class Session
{
  public:
    std::atomic<const void *> memory{nullptr}; /* null: not in use */
    evh_heap *heap = nullptr;
    unsigned char *notes = nullptr;
    unsigned char *image = nullptr;
    std::size_t total_size = 0;
    std::size_t image_size = 0;
    Session *next = nullptr;

    /** The session of a buffer, or null. Without a lock: sessions are never freed, only reused. */
    static Session *find(const void *memory)
    {
        const std::atomic<Session *> &first = buckets()[bucket_of(memory)];
        for (Session *session = first.load(std::memory_order_acquire); session;
             session = session->next)
            if (session->memory.load(std::memory_order_acquire) == memory) return session;
        return nullptr;
    }

    /** Format the buffer, or attach to the image in it, in place of its former session; null, and
     *  that session as it was, on failure. */
    static Session *open(void *memory, std::size_t size, bool create)
    {
        const std::lock_guard<std::mutex> guard(mutex());
        const std::size_t note_count = (size - sizeof(Header) + kGranule) / (kGranule + 1);
        unsigned char *notes = static_cast<unsigned char *>(memory) + sizeof(Header);
        unsigned char *image = notes + note_count;
        image += (kGranule - reinterpret_cast<std::uintptr_t>(image) % kGranule) % kGranule;
        const std::size_t image_size =
            size - static_cast<std::size_t>(image - static_cast<unsigned char *>(memory));
        const evh_options options = image_options(create);
        evh_heap *heap = evh_open_memory(image, image_size, &options);
        if (!heap) return nullptr;
        Session *session = find(memory);
        if (!session) session = spare(memory);
        if (!session) {
            (void)evh_close(heap);
            return nullptr;
        }
        (void)evh_close(session->heap);
        session->heap = heap;
        session->notes = notes;
        session->image = image;
        session->total_size = size;
        session->image_size = image_size;
        session->memory.store(memory, std::memory_order_release);
        if (create) std::memset(notes, 0, note_count);
        return session;
    }

    static void close(const void *memory)
    {
        const std::lock_guard<std::mutex> guard(mutex());
        Session *session = find(memory);
        if (!session) return;
        session->memory.store(nullptr, std::memory_order_release);
        (void)evh_close(session->heap);
        session->heap = nullptr;
    }

    /* ---- blocks ---- */

    void *allocate(std::size_t size, std::size_t alignment)
    {
        void *block = evh_aligned_alloc(heap, alignment < kGranule ? kGranule : alignment, size);
        if (block) set_note(note_of(block), make_note(size, alignment));
        return block;
    }

    void deallocate(void *block)
    {
        unsigned char *note = note_of(block);
        if (note) set_note(note, 0);
        evh_free(heap, block); /* what is no block is refused there */
    }

    /** Bytes asked for; 0 if no live block begins there. */
    std::size_t user_size(const void *block) const
    {
        const unsigned char *note = note_of(block);
        const std::size_t usable = note ? evh_usable_size(heap, block) : 0;
        return usable ? usable - get_note(note) % kGranule : 0;
    }

    std::size_t alignment_of(const void *block) const
    {
        const unsigned shift = get_note(note_of(block)) / 16u;
        return shift ? std::size_t(4) << shift : kDefaultAlignment;
    }

    /** A larger block with the same contents, in place if the area behind is free. */
    void *grow(void *block, std::size_t old_size, std::size_t size)
    {
        const std::size_t alignment = alignment_of(block);
        if (alignment > kGranule) {
            void *moved = allocate(size, alignment);
            if (!moved) return nullptr;
            std::memcpy(moved, block, old_size);
            deallocate(block);
            return moved;
        }
        unsigned char *note = note_of(block);
        const unsigned char old_note = get_note(note);
        set_note(note, 0);
        void *grown = evh_realloc(heap, block, size);
        set_note(grown ? note_of(grown) : note, grown ? make_note(size, alignment) : old_note);
        return grown;
    }

    /* ---- all blocks ---- */

    /** Bytes that were asked for. */
    std::size_t asked_size() const
    {
        evh_info info;
        if (evh_get_info(heap, &info)) return 0;
        std::size_t slack = 0;
        const std::size_t count = image_size / kGranule;
        for (std::size_t i = 0; i < count; i++) slack += get_note(&notes[i]) % kGranule;
        return info.live_bytes > slack ? static_cast<std::size_t>(info.live_bytes) - slack : 0;
    }

    /** Whether every note belongs to a live block and says what it can. */
    bool notes_hold() const
    {
        const std::size_t count = image_size / kGranule;
        for (std::size_t i = 0; i < count; i++) {
            const unsigned char note = get_note(&notes[i]);
            if (!note) continue;
            if (note / 16 < 1 || note / 16 > 10) return false;
            if (!evh_usable_size(heap, image + i * kGranule) && get_note(&notes[i])) return false;
        }
        return true;
    }

  private:
    static constexpr std::size_t kBucketShift = 10;

    static std::atomic<Session *> *buckets()
    {
        static std::atomic<Session *> heads[std::size_t(1) << kBucketShift];
        return heads;
    }

    static std::mutex &mutex()
    {
        static std::mutex all_sessions;
        return all_sessions;
    }

    static std::size_t bucket_of(const void *memory)
    {
        const std::uint64_t address = reinterpret_cast<std::uintptr_t>(memory);
        return static_cast<std::size_t>(address * 0x9e3779b97f4a7c15ULL >> (64 - kBucketShift));
    }

    /** A session of the buffer's bucket that is not in use. */
    static Session *spare(const void *memory)
    {
        std::atomic<Session *> &first = buckets()[bucket_of(memory)];
        for (Session *session = first.load(std::memory_order_acquire); session;
             session = session->next)
            if (!session->memory.load(std::memory_order_acquire)) return session;
        Session *session = new (std::nothrow) Session;
        if (!session) return nullptr;
        session->next = first.load(std::memory_order_relaxed);
        first.store(session, std::memory_order_release);
        return session;
    }

    unsigned char *note_of(const void *block) const
    {
        const std::size_t distance = static_cast<std::size_t>(
            reinterpret_cast<std::uintptr_t>(block) - reinterpret_cast<std::uintptr_t>(image));
        if (distance >= image_size || distance % kGranule) return nullptr;
        return &notes[distance / kGranule];
    }

    static unsigned char make_note(std::size_t size, std::size_t alignment)
    {
        const unsigned shift = static_cast<unsigned>(__builtin_ctzll(alignment)) - 2;
        return static_cast<unsigned char>(shift * 16u + (0 - size) % kGranule);
    }

    static unsigned char get_note(const unsigned char *note)
    {
        return __atomic_load_n(note, __ATOMIC_RELAXED);
    }

    static void set_note(unsigned char *note, unsigned char value)
    {
        __atomic_store_n(note, value, __ATOMIC_RELAXED);
    }
};

/* ---- files ---- */

/** The file's descriptor, closed at the end. */
class File
{
  public:
    explicit File(int file) : file_(file)
    {
    }
    File(const File &) = delete;
    File &operator=(const File &) = delete;
    ~File()
    {
        if (file_ >= 0) (void)::close(file_);
    }
    int get() const
    {
        return file_;
    }

  private:
    int file_;
};

inline bool write_all(int file, const unsigned char *bytes, std::size_t size)
{
    while (size > 0) {
        const ssize_t done = ::write(file, bytes, size);
        if (done <= 0) return false;
        bytes += done;
        size -= static_cast<std::size_t>(done);
    }
    return ::fsync(file) == 0;
}

inline bool read_all(int file, unsigned char *bytes, std::size_t size)
{
    while (size > 0) {
        const ssize_t done = ::read(file, bytes, size);
        if (done <= 0) return false;
        bytes += done;
        size -= static_cast<std::size_t>(done);
    }
    return true;
}

/** Write a file as a whole: after a crash there is the old one or the new one. */
inline bool replace_file(const char *name, const unsigned char *bytes, std::size_t size)
{
    static std::atomic<unsigned> serial{0};
    char *real = ::realpath(name, nullptr); /* a symbolic link stays one */
    const std::string target = real ? real : name;
    std::free(real);
    struct stat found;
    if (::stat(target.c_str(), &found) == 0 && !S_ISREG(found.st_mode)) return false;
    const std::string temporary =
        target + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(serial++);
    {
        const File file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
        if (file.get() < 0) return false;
        if (!write_all(file.get(), bytes, size) ||
            ::rename(temporary.c_str(), target.c_str()) != 0) {
            (void)::unlink(temporary.c_str());
            return false;
        }
    }
    const std::size_t slash = target.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : target.substr(0, slash + 1);
    const File directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return directory.get() >= 0 && ::fsync(directory.get()) == 0;
}

} // namespace detail

/* ---- pointers that persist
 * -------------------------------------------------------------------- */

/** An offset from the manager's start, in place of a pointer; 0 is null. */
template <typename T> class pptr
{
  public:
    pptr() noexcept = default;
    explicit pptr(std::ptrdiff_t offset) noexcept : offset_(offset)
    {
    }

    bool is_null() const noexcept
    {
        return offset_ == 0;
    }
    explicit operator bool() const noexcept
    {
        return offset_ != 0;
    }
    std::ptrdiff_t offset() const noexcept
    {
        return offset_;
    }

    /** The address in this process. Null for a null pointer or manager, and for an object that does
     *  not lie in the manager as a whole. */
    inline T *resolve(PersistMemoryManager *manager) const noexcept;
    inline const T *resolve(const PersistMemoryManager *manager) const noexcept;
    /** The same for element `index` of an array. */
    inline T *resolve_at(PersistMemoryManager *manager, std::size_t index) const noexcept;
    inline const T *resolve_at(const PersistMemoryManager *manager,
                               std::size_t index) const noexcept;
    T *get(PersistMemoryManager *manager) const noexcept
    {
        return resolve(manager);
    }
    const T *get(const PersistMemoryManager *manager) const noexcept
    {
        return resolve(manager);
    }

    bool operator==(const pptr &other) const noexcept
    {
        return offset_ == other.offset_;
    }
    bool operator!=(const pptr &other) const noexcept
    {
        return offset_ != other.offset_;
    }

  private:
    std::ptrdiff_t offset_ = 0;
};

/* ---- the manager
 * ------------------------------------------------------------------------------ */

class PersistMemoryManager
{
  public:
    PersistMemoryManager(const PersistMemoryManager &) = delete;
    PersistMemoryManager &operator=(const PersistMemoryManager &) = delete;
    ~PersistMemoryManager() = delete;

    /**
     * Format `memory`, `size` bytes that stay the caller's, as an empty manager.
     * Returns the manager, at the address of `memory`; null if that is null or size < 4096.
     */
    static PersistMemoryManager *create(void *memory, std::size_t size)
    {
        if (!memory || size < kMinMemorySize) return nullptr;
        if (!detail::Session::open(memory, size, true)) return nullptr;
        detail::Header header = {};
        header.magic = kMagic;
        header.total_size = size;
        header.version = detail::kVersion;
        header.shift = shift_of(memory);
        std::memcpy(memory, &header, sizeof header);
        return static_cast<PersistMemoryManager *>(memory);
    }

    /**
     * Attach to the image in `memory`, verifying all of it; also where it is in use already.
     * Returns the manager; null if its magic, its size (exactly `size`) or its structure is wrong,
     * and where the address modulo 16 is not that of the buffer it was made in. O(size).
     */
    static PersistMemoryManager *load(void *memory, std::size_t size)
    {
        if (!memory || size < kMinMemorySize || !header_holds(memory, size)) return nullptr;
        const detail::Session *former = detail::Session::find(memory);
        const detail::Session *session = detail::Session::open(memory, size, false);
        if (!session) return nullptr;
        if (session->notes_hold()) return static_cast<PersistMemoryManager *>(memory);
        if (!former) detail::Session::close(memory);
        return nullptr;
    }

    /** Read a file that save() wrote into `memory`, which may be larger, and load it. Null if the
     *  file is missing, short, larger than `size`, or no image. */
    static PersistMemoryManager *load_from_file(const char *filename, void *memory,
                                                std::size_t size)
    {
        if (!filename || !memory || size < kMinMemorySize) return nullptr;
        const detail::File file(::open(filename, O_RDONLY | O_CLOEXEC));
        struct stat status;
        if (file.get() < 0 || ::fstat(file.get(), &status) != 0) return nullptr;
        if (!S_ISREG(status.st_mode) || status.st_size < std::int64_t(kMinMemorySize) ||
            static_cast<std::uint64_t>(status.st_size) > size)
            return nullptr;
        const std::size_t file_size = static_cast<std::size_t>(status.st_size);
        if (!detail::read_all(file.get(), static_cast<unsigned char *>(memory), file_size))
            return nullptr;
        return load(memory, file_size);
    }

    /** Replace what is in this manager by the image in a file, which may not be larger. */
    bool load(const char *filename)
    {
        return load_from_file(filename, this, total_size()) != nullptr;
    }

    /** End the manager: its image is marked as ended and loads no more. The buffer is the
     *  caller's. */
    void destroy()
    {
        detail::Session::close(this);
        std::memset(static_cast<void *>(this), 0, sizeof(std::uint64_t));
    }

    /* ---- blocks ---- */

    /** A block of `size` bytes, not zeroed, at an address that is a multiple of `alignment`. Null
     *  for size 0, an alignment that is no power of two from 8 to 4096, and without space. */
    void *allocate(std::size_t size, std::size_t alignment = kDefaultAlignment)
    {
        detail::Session *session = detail::Session::find(this);
        if (!session || size == 0 || alignment < kMinAlignment || alignment > kMaxAlignment ||
            (alignment & (alignment - 1)) != 0)
            return nullptr;
        return session->allocate(size, alignment);
    }

    /** Free a block. Null, and whatever is not the start of a live block, is ignored. */
    void deallocate(void *ptr)
    {
        detail::Session *session = ptr ? detail::Session::find(this) : nullptr;
        if (session) session->deallocate(ptr);
    }

    /** Resize a block, which may move: null allocates, size 0 frees. The contents and the alignment
     *  are kept; a block never shrinks. Null, and the block as it was, without space. */
    void *reallocate(void *ptr, std::size_t new_size)
    {
        if (!ptr) return allocate(new_size);
        if (new_size == 0) {
            deallocate(ptr);
            return nullptr;
        }
        detail::Session *session = detail::Session::find(this);
        const std::size_t old_size = session ? session->user_size(ptr) : 0;
        if (old_size == 0) return nullptr;
        return new_size <= old_size ? ptr : session->grow(ptr, old_size, new_size);
    }

    /** Space for `count` objects; no constructor is run. */
    template <typename T> pptr<T> allocate_typed(std::size_t count = 1)
    {
        std::size_t size = 0;
        if (__builtin_mul_overflow(count, sizeof(T), &size)) return pptr<T>();
        void *block = allocate(size, alignof(T) < kMinAlignment ? kMinAlignment : alignof(T));
        return block ? pptr<T>(offset_of(block)) : pptr<T>();
    }

    template <typename T> void deallocate_typed(pptr<T> pointer)
    {
        deallocate(offset_to_ptr(pointer.offset()));
    }

    /** allocate_typed() and the constructor; destroy_typed() undoes both. */
    template <typename T, typename... Arguments> pptr<T> create_typed(Arguments &&...arguments)
    {
        const pptr<T> pointer = allocate_typed<T>();
        std::unique_ptr<T, Release> guard(pointer.resolve(this), Release{this});
        if (guard) {
            ::new (static_cast<void *>(guard.get())) T(std::forward<Arguments>(arguments)...);
            guard.release();
        }
        return pointer;
    }

    template <typename T> void destroy_typed(pptr<T> pointer)
    {
        T *object = pointer.resolve(this);
        if (!object) return;
        object->~T();
        deallocate(object);
    }

    /** The address of an offset; null for 0 and for one that lies outside. */
    void *offset_to_ptr(std::ptrdiff_t offset)
    {
        return at(offset, 1);
    }
    const void *offset_to_ptr(std::ptrdiff_t offset) const
    {
        return at(offset, 1);
    }

    /* ---- statistics ---- */

    std::size_t total_size() const
    {
        const detail::Session *session = detail::Session::find(this);
        return session ? session->total_size : 0;
    }

    /** 136, and the bytes that were asked for. O(size): 1 us for 64 KiB. */
    std::size_t used_size() const
    {
        const detail::Session *session = detail::Session::find(this);
        return session ? detail::kUsedAtFirst + session->asked_size() : 0;
    }

    std::size_t free_size() const
    {
        const std::size_t total = total_size();
        const std::size_t used = used_size();
        return total > used ? total - used : 0;
    }

    /** How many free areas there are beyond the first. */
    std::size_t fragmentation() const
    {
        evh_info info;
        if (evh_get_info(heap(), &info) || info.free_runs < 2) return 0;
        return static_cast<std::size_t>(info.free_runs) - 1;
    }

    /** Whether every structure holds. O(size). */
    bool validate() const
    {
        const detail::Session *session = detail::Session::find(this);
        return session && header_holds(this, session->total_size) &&
               !evh_check(session->heap, nullptr, nullptr) && session->notes_hold();
    }

    inline void dump_stats() const;

    /** Write the image to a file, which is replaced as a whole and flushed. */
    bool save(const char *filename) const
    {
        const std::size_t size = total_size();
        if (!filename || size == 0) return false;
        return detail::replace_file(filename, reinterpret_cast<const unsigned char *>(this), size);
    }

    /** The heap inside, borrowed: everything that everheap.h offers works on it (roots by name,
     *  evh_walk(), collections). Null after destroy(). */
    evh_heap *heap() const
    {
        const detail::Session *session = detail::Session::find(this);
        return session ? session->heap : nullptr;
    }

  private:
    template <typename T> friend class pptr;
    friend AllocationInfo get_info(const PersistMemoryManager *manager, void *ptr);

    struct Release {
        PersistMemoryManager *manager;
        void operator()(void *ptr) const
        {
            manager->deallocate(ptr);
        }
    };

    static std::uint32_t shift_of(const void *memory)
    {
        return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(memory) %
                                          detail::kGranule);
    }

    static bool header_holds(const void *memory, std::size_t size)
    {
        detail::Header header;
        std::memcpy(&header, memory, sizeof header);
        return header.magic == kMagic && header.total_size == size &&
               header.version == detail::kVersion && header.shift == shift_of(memory) &&
               header.reserved == 0;
    }

    std::ptrdiff_t offset_of(const void *address) const
    {
        return static_cast<const unsigned char *>(address) - header_;
    }

    /* The address of `size` bytes at `offset`, if they lie in the buffer. */
    void *at(std::ptrdiff_t offset, std::size_t size) const
    {
        std::uint64_t total;
        std::memcpy(&total, header_ + offsetof(detail::Header, total_size), sizeof total);
        if (offset <= 0 || static_cast<std::uint64_t>(offset) >= total) return nullptr;
        if (size > total - static_cast<std::uint64_t>(offset)) return nullptr;
        return const_cast<unsigned char *>(header_) + offset;
    }

    unsigned char header_[sizeof(detail::Header)]; /* bytes: the buffer has any alignment */
};

static_assert(alignof(PersistMemoryManager) == 1, "a buffer may begin anywhere");

/* ---- asking
 * ----------------------------------------------------------------------------------- */

namespace detail
{

struct StatsWalk {
    MemoryStats stats = {};
    std::uint64_t end = 0; /* offset behind the last block */
    std::uint64_t first_free = 0;

    void gap(std::uint64_t from, std::uint64_t to)
    {
        const std::size_t size = static_cast<std::size_t>(to - from);
        if (to <= from) return;
        if (stats.free_blocks++ == 0) first_free = size;
        if (size > stats.largest_free) stats.largest_free = size;
        if (stats.smallest_free == 0 || size < stats.smallest_free) stats.smallest_free = size;
        stats.total_fragmentation += size;
    }

    static bool visit(const evh_block *block, void *context)
    {
        StatsWalk *walk = static_cast<StatsWalk *>(context);
        walk->gap(walk->end, block->ref.offset);
        walk->end = block->ref.offset + block->size;
        walk->stats.allocated_blocks++;
        return true;
    }
};

} // namespace detail

/** Zeros for a null manager. O(blocks). */
inline MemoryStats get_stats(const PersistMemoryManager *manager)
{
    detail::StatsWalk walk;
    evh_info info;
    evh_heap *heap = manager ? manager->heap() : nullptr;
    if (!heap || evh_get_info(heap, &info)) return walk.stats;
    walk.end = info.metadata_bytes;
    if (evh_walk(heap, detail::StatsWalk::visit, &walk)) return MemoryStats();
    walk.gap(walk.end, info.metadata_bytes + info.live_bytes + info.free_bytes);
    walk.stats.total_blocks = walk.stats.free_blocks + walk.stats.allocated_blocks;
    walk.stats.total_fragmentation -= static_cast<std::size_t>(walk.first_free);
    return walk.stats;
}

inline AllocationInfo get_info(const PersistMemoryManager *manager, void *ptr)
{
    const detail::Session *session = manager ? detail::Session::find(manager) : nullptr;
    const std::size_t size = session && ptr ? session->user_size(ptr) : 0;
    if (size == 0) return AllocationInfo{ptr, 0, 0, false};
    return AllocationInfo{ptr, size, session->alignment_of(ptr), true};
}

/** Print the statistics to standard output. */
inline void PersistMemoryManager::dump_stats() const
{
    const MemoryStats stats = get_stats(this);
    std::printf("=== PersistMemoryManager at %p ===\n", static_cast<const void *>(this));
    std::printf("total size      %zu\nused size       %zu\nfree size       %zu\n", total_size(),
                used_size(), free_size());
    std::printf("blocks          %zu allocated, %zu free\n", stats.allocated_blocks,
                stats.free_blocks);
    std::printf("free areas      %zu to %zu bytes\n", stats.smallest_free, stats.largest_free);
    std::printf("fragmentation   %zu\n", fragmentation());
}

template <typename T>
T *pptr<T>::resolve_at(PersistMemoryManager *manager, std::size_t index) const noexcept
{
    std::ptrdiff_t distance = 0;
    std::ptrdiff_t offset = 0;
    if (!manager || offset_ <= 0 || __builtin_mul_overflow(index, sizeof(T), &distance) ||
        __builtin_add_overflow(offset_, distance, &offset))
        return nullptr;
    return static_cast<T *>(manager->at(offset, sizeof(T)));
}

template <typename T>
const T *pptr<T>::resolve_at(const PersistMemoryManager *manager, std::size_t index) const noexcept
{
    return resolve_at(const_cast<PersistMemoryManager *>(manager), index);
}

template <typename T> T *pptr<T>::resolve(PersistMemoryManager *manager) const noexcept
{
    return resolve_at(manager, 0);
}

template <typename T> const T *pptr<T>::resolve(const PersistMemoryManager *manager) const noexcept
{
    return resolve_at(manager, 0);
}

} // namespace pmm

#endif
