/* cxx_heap.hpp -- a heap, its commits and its roots in C++. */
#ifndef EVERHEAP_CXX_HEAP_HPP
#define EVERHEAP_CXX_HEAP_HPP

#include <everheap/allocator.hpp>
#include <everheap/atomic_pointer.hpp>

#include <string>
#include <utility>

namespace evh
{

/**
 * An open heap, owned. Its calls are those of the same name in heap.h: the same promises, with an
 * exception where those return a status or NULL. What C++ adds is named here. Not to be moved while
 * a commit_scope uses it.
 * Ending it closes the heap: what was not committed is discarded, as by a kill.
 */
class heap
{
  public:
    /** No heap. */
    heap() noexcept = default;
    /** Create it or recover it, as evh_open(). Errors: evh::error. */
    explicit heap(const char *path, const evh_options &options = evh_options{})
        : heap_(evh_open(path, &options))
    {
        if (!heap_) detail::fail();
    }
    explicit heap(const std::string &path, const evh_options &options = evh_options{})
        : heap(path.c_str(), options)
    {
    }
    /** Take a heap that the C interface opened. */
    explicit heap(evh_heap *taken) noexcept : heap_(taken)
    {
    }
    /** As the constructor, but no heap (false, and evh_last_error() says why) instead of an
     *  exception. */
    static heap try_open(const char *path, const evh_options &options = evh_options{}) noexcept
    {
        return heap(evh_open(path, &options));
    }
    /** In memory, or in a `buffer` of the caller's, as evh_open_memory(). */
    static heap in_memory(void *buffer = nullptr, std::size_t size_bytes = 0,
                          const evh_options &options = evh_options{})
    {
        heap made(evh_open_memory(buffer, size_bytes, &options));
        if (!made) detail::fail();
        return made;
    }

    heap(heap &&other) noexcept
        : heap_(std::exchange(other.heap_, nullptr)), half_(std::exchange(other.half_, EVH_OK))
    {
    }
    heap &operator=(heap &&other) noexcept
    {
        if (this == &other) return *this;
        (void)evh_close(heap_);
        heap_ = std::exchange(other.heap_, nullptr);
        half_ = std::exchange(other.half_, EVH_OK);
        return *this;
    }
    heap(const heap &) = delete;
    heap &operator=(const heap &) = delete;
    ~heap()
    {
        (void)evh_close(heap_);
    }

    /** Close it now, and hear of errors. It is no heap afterwards, also after an error. */
    void close()
    {
        detail::check(evh_close(std::exchange(heap_, nullptr)));
    }
    explicit operator bool() const noexcept
    {
        return heap_ != nullptr;
    }
    /** For the C interface, borrowed. */
    evh_heap *get() const noexcept
    {
        return heap_;
    }
    /** Give it up: the caller ends it with evh_close(). */
    [[nodiscard]] evh_heap *release() noexcept
    {
        return std::exchange(heap_, nullptr);
    }

    void commit()
    {
        if (half_ != EVH_OK)
            detail::fail_with(half_, "the last rollback failed: this commit would be of half a "
                                     "change");
        detail::check(evh_commit(heap_));
    }
    /** As commit(), but returns the status. */
    [[nodiscard]] evh_status try_commit() noexcept
    {
        return half_ != EVH_OK ? half_ : evh_commit(heap_);
    }
    evh_ticket commit_begin()
    {
        evh_ticket ticket = 0;
        if (half_ != EVH_OK) commit();
        detail::check(evh_commit_begin(heap_, &ticket));
        return ticket;
    }
    void commit_wait(evh_ticket ticket)
    {
        detail::check(evh_commit_wait(heap_, ticket));
    }
    /** Undo; what was made since is gone, a root<T> that found it included. */
    void rollback()
    {
        detail::check(try_rollback());
    }
    /** As rollback(), but returns the status. While one has failed, commits are refused. */
    evh_status try_rollback() noexcept
    {
        half_ = evh_rollback(heap_);
        return half_;
    }
    void checkpoint()
    {
        detail::check(evh_checkpoint(heap_));
    }
    void sync()
    {
        detail::check(evh_sync(heap_));
    }
    void refresh()
    {
        detail::check(evh_refresh(heap_));
    }
    void save(const char *path)
    {
        detail::check(evh_save(heap_, path));
    }
    evh_info info() const
    {
        evh_info info{};
        detail::check(evh_get_info(heap_, &info));
        return info;
    }
    /** Verify all of it; an exception for the first finding. */
    void check() const
    {
        detail::check(evh_check(heap_, nullptr, nullptr));
    }

    /** A T in the heap, owned: end it with destroy(). Errors: evh::bad_alloc, and those of T. */
    template <typename T, typename... Arguments> [[nodiscard]] T *make(Arguments &&...arguments)
    {
        static_assert(detail::must_be_storable<T>::value, "see above");
        struct block_guard {
            evh_heap *heap;
            void *block;
            ~block_guard()
            {
                evh_free(heap, block);
            }
        } guard{heap_, detail::allocate(heap_, sizeof(T), alignof(T))};
        T *made = nullptr;
        if constexpr (std::is_constructible_v<T, Arguments &&...>)
            made = ::new (guard.block) T(std::forward<Arguments>(arguments)...);
        else
            made = ::new (guard.block) T{std::forward<Arguments>(arguments)...};
        guard.block = nullptr;
        return made;
    }
    /** Destroy a T and free its block. NULL is fine. */
    template <typename T> void destroy(T *object) noexcept
    {
        if (!object) return;
        object->~T();
        evh_free(heap_, object);
    }

    /** An address for a ref, and a ref for an address. */
    template <typename T = void> T *at(evh_ref ref) const noexcept
    {
        return static_cast<T *>(evh_at(heap_, ref));
    }
    evh_ref ref_to(const void *address) const noexcept
    {
        return evh_ref_to(heap_, address);
    }

  private:
    evh_heap *heap_ = nullptr;
    evh_status half_ = EVH_OK; /* why the last rollback failed */
};

template <typename T> allocator<T>::allocator(const heap &heap) noexcept : allocator(heap.get())
{
}

#if defined(__cpp_lib_memory_resource)
inline memory_resource::memory_resource(const heap &heap) noexcept : heap_(heap.get())
{
}
#endif

/**
 * Changes that belong together. Leaving the scope without commit(), by an exception for instance,
 * rolls the heap back to its last commit: all changes since then, by whomever. If that fails (a
 * heap in memory has no last commit), later commits of this heap are refused.
 * Threads   as evh_rollback().
 */
class commit_scope
{
  public:
    explicit commit_scope(heap &heap) noexcept : heap_(&heap)
    {
    }
    commit_scope(const commit_scope &) = delete;
    commit_scope &operator=(const commit_scope &) = delete;
    ~commit_scope()
    {
        if (heap_) (void)heap_->try_rollback();
    }
    /** Commit. The scope's work is done. After an exception it is not: leaving rolls back. */
    void commit()
    {
        if (!heap_) detail::fail_with(EVH_INVALID, "this commit_scope is done");
        heap_->commit();
        heap_ = nullptr;
    }
    /** Leave the changes to a later commit. */
    void keep() noexcept
    {
        heap_ = nullptr;
    }

  private:
    heap *heap_;
};

/** Call `change` and commit; roll back if it throws. Returns what it returns. */
template <typename Change> decltype(auto) atomically(heap &heap, Change &&change)
{
    commit_scope scope(heap);
    if constexpr (std::is_void_v<decltype(std::forward<Change>(change)())>) {
        std::forward<Change>(change)();
        scope.commit();
    } else {
        decltype(auto) result = std::forward<Change>(change)();
        scope.commit();
        return result;
    }
}

/** evh_enter() and evh_leave() around a thread's stores, so that another may commit meanwhile. */
class bracket
{
  public:
    explicit bracket(const heap &heap) noexcept : heap_(heap.get())
    {
        evh_enter(heap_);
    }
    bracket(const bracket &) = delete;
    bracket &operator=(const bracket &) = delete;
    ~bracket()
    {
        evh_leave(heap_);
    }

  private:
    evh_heap *heap_;
};

/**
 * The T that the next run finds by name; made if it is not there.
 *
 * A T for which zero bytes are valid (without constructors and member initialisers; or evh::str,
 * evh::vec and the like) is the block of the root itself, zeroed at first, and so the same as the C
 * interface's. Any other T is made by its constructor, in a block that the root points at with an
 * evh::atomic_ptr; also in a live heap, where several processes may make it at once and one wins.
 *
 * The root<T> is a plain pointer, good until the heap is closed, the root removed, or its making
 * rolled back. Its type is the program's to remember: only the size is checked.
 * Errors    evh::error: EVH_INVALID (a bad name; the root is of another size), EVH_CORRUPT,
 *           EVH_READ_ONLY and those of evh_root().
 */
template <typename T> class root
{
    static constexpr bool is_direct = is_zero_valid<T>::value && alignof(T) <= 16;
    struct root_block {
        atomic_ptr<T> object;
        std::atomic<std::uint64_t> size; /* of T */
    };
    static_assert(sizeof(root_block) == 16, "stored in files");

  public:
    /** Find it, or make it with `arguments`. */
    template <typename... Arguments>
    root(const heap &heap, const char *name, Arguments &&...arguments)
    {
        static_assert(detail::must_be_storable<T>::value, "see above");
        static_assert(!is_direct || sizeof...(Arguments) == 0,
                      "everheap: a root of this type begins as zero bytes");
        void *found = evh_root(heap.get(), name, is_direct ? sizeof(T) : sizeof(root_block));
        if (!found) detail::fail();
        if constexpr (is_direct)
            object_ = static_cast<T *>(found);
        else
            find_or_make(heap, *static_cast<root_block *>(found),
                         std::forward<Arguments>(arguments)...);
    }

    /** Whether there is a root called `name`. */
    static bool exists(const heap &heap, const char *name) noexcept
    {
        return evh_root_find(heap.get(), name, nullptr) != nullptr;
    }
    /** Destroy the T and remove its root. Nothing happens if there is none. */
    static void remove(const heap &heap, const char *name)
    {
        if (!exists(heap, name)) return;
        const root found(heap, name);
        found->~T();
        if (!is_direct) evh_free(heap.get(), found.get());
        detail::check(evh_root_remove(heap.get(), name));
    }

    T *get() const noexcept
    {
        return object_;
    }
    T &operator*() const noexcept
    {
        return *object_;
    }
    T *operator->() const noexcept
    {
        return object_;
    }

  private:
    template <typename... Arguments>
    void find_or_make(const heap &heap, root_block &block, Arguments &&...arguments)
    {
        object_ = block.object.load(std::memory_order_acquire);
        if (!object_) {
            evh::heap borrowed(heap.get());
            struct give_back {
                evh::heap &heap;
                ~give_back()
                {
                    (void)heap.release();
                }
            } guard{borrowed};
            block.size.store(sizeof(T), std::memory_order_relaxed);
            T *made = borrowed.make<T>(std::forward<Arguments>(arguments)...);
            if (block.object.compare_exchange_strong(object_, made))
                object_ = made;
            else
                borrowed.destroy(made); /* another process was first */
        }
        check_found(heap, block);
    }

    /* The block may be that of another type, or damaged. */
    void check_found(const heap &heap, const root_block &block) const
    {
        if (block.size.load(std::memory_order_relaxed) != sizeof(T))
            detail::fail_with(EVH_INVALID, "the root of this name is of another type");
        if (!evh_ref_to(heap.get(), object_).offset ||
            reinterpret_cast<std::uintptr_t>(object_) % alignof(T) != 0 ||
            evh_usable_size(heap.get(), object_) < sizeof(T))
            detail::fail_with(EVH_CORRUPT, "the root of this name points at no block of its size");
    }

    T *object_ = nullptr;
};

} // namespace evh

#endif
