/* storable.hpp -- types that cannot be right in the next run, found at compile time.
 *
 * A heap lies elsewhere in the next run, and what the process kept outside it is gone. A type that
 * certainly holds an address of this run is refused with a message that names an alternative. The
 * members of a struct cannot be looked at: that none of them is a plain pointer is the program's.
 */
#ifndef EVERHEAP_STORABLE_HPP
#define EVERHEAP_STORABLE_HPP

#include <everheap/pointer.hpp>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#if __has_include(<memory_resource>)
#include <memory_resource>
#endif

namespace evh
{

template <typename T> class allocator;

/** Whether T may be moved with memcpy(), as evh::vec, evh::map and evh::tree do when they grow.
 *  True for what is trivially copyable and for handles such as evh::str. A program specialises it
 *  for a struct of such members: template <> struct evh::is_relocatable<note> : std::true_type
 *  {}; */
template <typename T> struct is_relocatable : std::is_trivially_copyable<T> {
};

/** Whether zero bytes are a T, so that its constructor need not be called. Likewise. */
template <typename T> struct is_zero_valid : std::is_trivially_default_constructible<T> {
};

namespace detail
{

template <typename> inline constexpr bool always_false = false;

/* Whether a template's argument shows that it keeps what it owns outside the heap. */
template <typename T> struct is_of_the_process : std::false_type {
};
template <typename T> struct is_of_the_process<std::allocator<T>> : std::true_type {
};
template <typename T> struct is_of_the_process<std::default_delete<T>> : std::true_type {
};
#if defined(__cpp_lib_memory_resource)
template <typename T>
struct is_of_the_process<std::pmr::polymorphic_allocator<T>> : std::true_type {
};
#endif

template <typename T>
struct holds_address : std::bool_constant<std::is_member_function_pointer_v<T>> {
};
template <typename T> struct holds_address<T *> : std::true_type {
};
template <typename T> struct holds_address<T &> : std::true_type {
};
template <typename T> struct holds_address<const T> : holds_address<T> {
};
template <typename T, std::size_t N> struct holds_address<T[N]> : holds_address<T> {
};
/* Strings and containers with the standard allocators, std::unique_ptr, ... */
template <template <typename...> typename Template, typename... Arguments>
struct holds_address<Template<Arguments...>> : std::disjunction<is_of_the_process<Arguments>...> {
};
template <typename T> struct holds_address<std::shared_ptr<T>> : std::true_type {
};
template <typename T> struct holds_address<std::weak_ptr<T>> : std::true_type {
};
template <typename C, typename Traits>
struct holds_address<std::basic_string_view<C, Traits>> : std::true_type {
};
template <typename First, typename Second>
struct holds_address<std::pair<First, Second>>
    : std::disjunction<holds_address<First>, holds_address<Second>> {
};
template <typename... Items>
struct holds_address<std::tuple<Items...>> : std::disjunction<holds_address<Items>...> {
};
template <typename... Items>
struct holds_address<std::variant<Items...>> : std::disjunction<holds_address<Items>...> {
};
template <typename T> struct holds_address<std::optional<T>> : holds_address<T> {
};
template <typename T, std::size_t N> struct holds_address<std::array<T, N>> : holds_address<T> {
};

/* Instantiated where a T is made in a heap, so T is complete. */
template <typename T> struct must_be_storable {
    static_assert(!holds_address<T>::value,
                  "everheap: this type holds an address that is wrong in the next run. Instead of "
                  "T* store evh::ptr<T>; of std::string and std::string_view, evh::str; of a "
                  "standard container, one with evh::allocator, or evh::vec, evh::map, evh::tree");
    static_assert(!std::is_polymorphic_v<T>,
                  "everheap: an object with virtual functions holds the address of its functions, "
                  "which is wrong in the next run. Store a tag, or std::variant");
    static constexpr bool value = true;
};

/* Whether U is an inner type of the standard library: its nodes, control blocks and the like have
 * names that begin with an underscore, in whatever namespaces it keeps within std. */
template <typename U> constexpr bool is_standard_inner() noexcept
{
    std::string_view name = __PRETTY_FUNCTION__; /* ... [with U = name] or ... [U = name] */
    name.remove_prefix(name.rfind("U = ", name.find(']')) + 4);
    if (name.substr(0, 5) != "std::") return false;
    name.remove_prefix(5);
    for (const std::string_view inner : {"__1::", "__cxx11::", "__debug::"})
        if (name.substr(0, inner.size()) == inner) name.remove_prefix(inner.size());
    return name.substr(0, 1) == "_";
}

template <typename T> struct is_ptr : std::false_type {
};
template <typename T> struct is_ptr<ptr<T>> : std::true_type {
};

template <typename T> struct must_be_relocatable : must_be_storable<T> {
    static_assert(is_relocatable<T>::value,
                  "everheap: evh::vec, evh::map and evh::tree move items with memcpy(). Use items "
                  "that are trivially copyable (evh_ref instead of evh::ptr), handles such as "
                  "evh::str, or say so with evh::is_relocatable; or std::vector with "
                  "evh::allocator");
    static_assert(alignof(T) <= 16, "everheap: items are aligned to 16 bytes at most");
};

} // namespace detail

} // namespace evh

/* A string keeps short texts in itself and then points into itself: in libstdc++ it does not
 * compile with a pointer like ours, in libc++ it depends on the version. */
template <typename C, typename Traits> class std::basic_string<C, Traits, evh::allocator<C>>
{
    static_assert(evh::detail::always_false<C>,
                  "everheap: std::basic_string with evh::allocator is not supported. Use evh::str, "
                  "or boost::container::basic_string");
};

#endif
