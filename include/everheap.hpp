/* everheap.hpp -- a heap that lasts, for C++17: everything a C++ program includes.
 *
 * Header-only, over the C interface, which may be used beside it. docs/cplusplus.md is the guide.
 *
 *   error.hpp           evh::error, evh::bad_alloc: a status that is thrown
 *   pointer.hpp         evh::ptr<T>: pointers that may be stored in a heap
 *   atomic_pointer.hpp  evh::atomic_ptr<T>
 *   storable.hpp        what may not be stored, told at compile time
 *   allocator.hpp       evh::allocator<T> for containers, evh::memory_resource for this run
 *   cxx_heap.hpp        evh::heap, evh::commit_scope, evh::bracket, evh::root<T>
 *   cxx_text.hpp        evh::str
 *   cxx_symbols.hpp     evh::symbols, evh::symbol
 *   cxx_vec.hpp         evh::vec<T>
 *   cxx_map.hpp         evh::map<K, V>
 *   cxx_tree.hpp        evh::tree<K, V>
 */
#ifndef EVERHEAP_HPP
#define EVERHEAP_HPP

#include <everheap/allocator.hpp>
#include <everheap/atomic_pointer.hpp>
#include <everheap/cxx_heap.hpp>
#include <everheap/cxx_map.hpp>
#include <everheap/cxx_symbols.hpp>
#include <everheap/cxx_text.hpp>
#include <everheap/cxx_tree.hpp>
#include <everheap/cxx_vec.hpp>
#include <everheap/error.hpp>
#include <everheap/pointer.hpp>
#include <everheap/storable.hpp>

#endif
