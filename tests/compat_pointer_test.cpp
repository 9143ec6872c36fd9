/* compat_pointer_test.cpp -- PersistentPtr and what else persistent_mem offers in C++. */
#define PERSISTENT_REALLOC_LVALUE 1
#include "persistent_mem.h"
#include "test.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <numeric>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <vector>

using persistent_mem::Allocator;
using persistent_mem::AtomicPersistentPtr;
using persistent_mem::free_persistent;
using persistent_mem::make_persistent_ptr;
using persistent_mem::PersistentPtr;
using persistent_mem::PersistentSpace;

template class persistent_mem::PersistentPtr<int>; /* every member compiles */

namespace
{

constexpr std::size_t kSize = 4 << 20;

allocator_space_t *space_of(const char *path)
{
    allocator_space_t *space = create_persistent_allocator(path, kSize);
    CHECK(space != nullptr);
    return space;
}

/* Close the space and open it at another address. */
allocator_space_t *space_moved(allocator_space_t *space, const char *path)
{
    void *base = persistent_base(space);
    destroy_persistent_allocator(space);
    void *taken =
        ::mmap(base, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    space = space_of(path);
    CHECK(taken == MAP_FAILED || persistent_base(space) != base);
    if (taken != MAP_FAILED) (void)::munmap(taken, 4096);
    return space;
}

struct Node {
    int value = 0;
    PersistentPtr<Node> next;
};

struct Base {
    int number = 1;
};
struct Derived : Base {
    int more = 2;
};

} // namespace

TEST(a_pointer_is_null_until_it_is_given_something)
{
    allocator_space_t *space = space_of(test_path("null"));
    PersistentPtr<int> nothing;
    PersistentPtr<int> of_space(space);
    CHECK(!nothing && nothing == nullptr && nullptr == nothing && nothing.get() == nullptr);
    CHECK(!of_space && of_space.get_space() == space);
    CHECK_EQUAL(of_space.get_data_offset(), 0);
    int *number = PersistentSpace(space).alloc<int>(5);
    of_space = number;
    CHECK(of_space && of_space != nullptr && *of_space == 5);
    CHECK_EQUAL(of_space.get_data_offset(), ptr_to_persistent_offset(space, number));
    of_space = nullptr;
    CHECK(!of_space && of_space.get_space() == space);
    nothing = number; /* finds the space that the number lies in */
    CHECK(nothing.get() == number && nothing.get_space() == space);
    destroy_persistent_allocator(space);
}

TEST(a_copy_points_where_the_original_does_wherever_it_lies)
{
    allocator_space_t *space = space_of(test_path("copies"));
    int *number = PersistentSpace(space).alloc<int>(7);
    PersistentPtr<int> on_stack(space, number);
    auto *in_space = PersistentSpace(space).alloc<PersistentPtr<int>>(on_stack);
    const auto on_heap = std::make_unique<PersistentPtr<int>>(*in_space);
    CHECK(on_stack.get() == number && in_space->get() == number && on_heap->get() == number);
    PersistentPtr<int> assigned;
    assigned = *in_space;
    CHECK(assigned.get() == number && assigned.get_space() == space);
    PersistentPtr<int> moved = std::move(*on_heap);
    CHECK(moved == assigned);
    destroy_persistent_allocator(space);
}

TEST(pointers_in_a_space_are_right_at_another_address)
{
    const char *path = test_path("moved");
    allocator_space_t *space = space_of(path);
    auto *head = PersistentSpace(space).alloc_root<PersistentPtr<Node>>(1, space);
    for (int i = 0; i < 1000; i++) {
        Node *node = PersistentSpace(space).alloc<Node>();
        CHECK(node != nullptr);
        node->value = i;
        node->next = *head;
        *head = make_persistent_ptr(space, node);
    }
    for (int round = 0; round < 3; round++) {
        space = space_moved(space, path);
        head = PersistentSpace(space).find_root<PersistentPtr<Node>>(1);
        CHECK(head != nullptr && head->get_space() == space);
        int expected = 1000;
        for (PersistentPtr<Node> node = *head; node; node = node->next)
            CHECK_EQUAL(node->value, --expected);
        CHECK_EQUAL(expected, 0);
    }
    destroy_persistent_allocator(space);
}

TEST(pointers_count_like_pointers)
{
    allocator_space_t *space = space_of(test_path("arithmetic"));
    int *numbers = PersistentSpace(space).alloc<int>(std::size_t(100));
    for (int i = 0; i < 100; i++) numbers[i] = i;
    PersistentPtr<int> first(space, numbers);
    PersistentPtr<int> p = first + 10;
    CHECK(*p == 10 && p[5] == 15 && p[-5] == 5 && *(3 + p) == 13 && *(p - 4) == 6);
    CHECK_EQUAL(p - first, 10);
    CHECK(*p++ == 10 && *p == 11 && *++p == 12 && *p-- == 12 && *--p == 10);
    p += 20;
    CHECK_EQUAL(*p, 30);
    p -= 25;
    CHECK_EQUAL(*p, 5);
    CHECK_EQUAL(std::accumulate(first, first + 100, 0), 4950);
    destroy_persistent_allocator(space);
}

TEST(pointers_compare_like_pointers)
{
    allocator_space_t *space = space_of(test_path("compare"));
    int *numbers = PersistentSpace(space).alloc<int>(std::size_t(10));
    const PersistentPtr<int> a(space, numbers);
    const PersistentPtr<int> b(space, numbers + 1);
    const PersistentPtr<const int> same = a;
    CHECK(a == a && a != b && a < b && b > a && a <= b && b >= a && a <= a && a >= a);
    CHECK(!(a == b) && !(b < a) && same == a && same < b);
    CHECK(a != nullptr && nullptr != a);
    destroy_persistent_allocator(space);
}

TEST(pointers_convert_like_pointers)
{
    allocator_space_t *space = space_of(test_path("convert"));
    const PersistentPtr<Derived> derived(space, PersistentSpace(space).alloc<Derived>());
    const PersistentPtr<Base> base = derived;
    CHECK_EQUAL(base->number, 1);
    const auto back = static_cast<PersistentPtr<Derived>>(base);
    CHECK(back == derived && back->more == 2);
    const PersistentPtr<void> untyped = derived;
    CHECK(untyped.get() == derived.get());
    CHECK(static_cast<PersistentPtr<Derived>>(untyped) == derived);
    static_assert(!std::is_convertible_v<PersistentPtr<const int>, PersistentPtr<int>>, "const");
    static_assert(!std::is_constructible_v<PersistentPtr<int>, PersistentPtr<const int>>, "const");
    static_assert(!std::is_convertible_v<PersistentPtr<Base>, PersistentPtr<Derived>>, "explicit");
    destroy_persistent_allocator(space);
}

TEST(swap_to_address_and_pointer_traits_work)
{
    allocator_space_t *space = space_of(test_path("swap"));
    int *one = PersistentSpace(space).alloc<int>(1);
    int *two = PersistentSpace(space).alloc<int>(2);
    PersistentPtr<int> a(space, one);
    PersistentPtr<int> b(space, two);
    swap(a, b);
    CHECK(*a == 2 && *b == 1);
    a.swap(b);
    CHECK(*a == 1 && *b == 2);
    std::swap(a, b);
    CHECK(*a == 2 && *b == 1);
    CHECK(persistent_mem::to_address(a) == two && persistent_mem::to_address(one) == one);
    using Traits = std::pointer_traits<PersistentPtr<int>>;
    static_assert(std::is_same_v<Traits::element_type, int>, "traits");
    static_assert(std::is_same_v<Traits::rebind<char>, PersistentPtr<char>>, "traits");
    CHECK(Traits::pointer_to(*one).get() == one);
    destroy_persistent_allocator(space);
}

TEST(a_vector_and_a_deque_live_in_a_space)
{
    using Vector = std::vector<int, Allocator<int>>;
    using Nested = std::vector<Vector, Allocator<Vector>>;
    using Deque = std::deque<int, Allocator<int>>;
    const char *path = test_path("containers");
    allocator_space_t *space = space_of(path);
    PersistentSpace handle(space);
    auto *nested = handle.alloc_root<Nested>(1, Allocator<Vector>(space));
    auto *deque = handle.alloc_root<Deque>(2, Allocator<int>(space));
    for (int i = 0; i < 50; i++) {
        nested->emplace_back(Allocator<int>(space));
        for (int k = 0; k < i; k++) nested->back().push_back(k);
        deque->push_front(i);
    }
    space = space_moved(space, path);
    nested = PersistentSpace(space).find_root<Nested>(1);
    deque = PersistentSpace(space).find_root<Deque>(2);
    CHECK_EQUAL(nested->size(), 50);
    for (std::size_t i = 0; i < 50; i++) {
        CHECK_EQUAL((*nested)[i].size(), i);
        if (i > 0) CHECK_EQUAL((*nested)[i].back(), i - 1);
    }
    CHECK(deque->front() == 49 && deque->back() == 0);
    nested->insert(nested->begin(), Vector(3, 9, Allocator<int>(space)));
    nested->erase(nested->begin() + 10, nested->end());
    std::sort(deque->begin(), deque->end());
    CHECK(deque->front() == 0 && nested->front().size() == 3);
    destroy_persistent_allocator(space);
}

TEST(the_allocator_throws_without_room_and_compares_by_space)
{
    allocator_space_t *space = space_of(test_path("throws"));
    allocator_space_t *other = space_of(test_path("other"));
    Allocator<long> allocator(space);
    bool thrown = false;
    try {
        (void)allocator.allocate(kSize);
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown);
    CHECK(allocator == Allocator<char>(space) && allocator != Allocator<long>(other));
    const uint64_t used = space->used;
    allocator.deallocate(allocator.allocate(10), 10);
    CHECK_EQUAL(space->used, used);
    destroy_persistent_allocator(other);
    destroy_persistent_allocator(space);
}

TEST(eight_threads_push_on_an_atomic_pointer)
{
    struct Item {
        AtomicPersistentPtr<Item> next;
        unsigned thread;
    };
    allocator_space_t *space = space_of(test_path("atomic"));
    auto *head = PersistentSpace(space).alloc_root<AtomicPersistentPtr<Item>>(1, space);
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 8; number++)
        threads.emplace_back([=] {
            for (int i = 0; i < 500; i++) {
                void *block = persistent_malloc(space, sizeof(Item));
                CHECK(block != nullptr);
                Item *item = ::new (block) Item{AtomicPersistentPtr<Item>(space), number};
                Item *first = head->load();
                do item->next.store(first);
                while (!head->compare_exchange(first, item));
            }
        });
    for (std::thread &thread : threads) thread.join();
    int counts[8] = {};
    for (Item *item = head->load(); item; item = item->next.load()) counts[item->thread]++;
    for (int count : counts) CHECK_EQUAL(count, 500);
    Item *all = head->exchange(nullptr);
    CHECK(all != nullptr && head->load() == nullptr && head->get_space() == space);
    destroy_persistent_allocator(space);
}

TEST(a_space_handle_makes_and_frees_objects)
{
    static int alive;
    struct Counted {
        explicit Counted(int number) : value(number)
        {
            alive++;
        }
        ~Counted()
        {
            alive--;
        }
        int value;
    };
    alive = 0;
    allocator_space_t *space = space_of(test_path("handle"));
    const PersistentSpace handle(space);
    CHECK(handle && handle.unwrap() == space && !PersistentSpace());
    const uint64_t used = space->used;
    Counted *object = handle.alloc<Counted>(5);
    CHECK(object != nullptr && object->value == 5 && alive == 1);
    handle.free(object);
    handle.free(static_cast<Counted *>(nullptr));
    CHECK_EQUAL(alive, 0);
    {
        const std::unique_ptr<Counted, free_persistent> owned(handle.alloc<Counted>(6),
                                                              free_persistent(space));
        const std::unique_ptr<Counted, free_persistent> found(handle.alloc<Counted>(7));
        CHECK_EQUAL(alive, 2);
    }
    CHECK_EQUAL(alive, 0);
    int *zeros = handle.alloc<int>(std::size_t(100));
    CHECK(zeros != nullptr && std::all_of(zeros, zeros + 100, [](int z) { return z == 0; }));
    handle.free(zeros);
    CHECK_EQUAL(space->used, used);
    CHECK(handle.alloc<long>(SIZE_MAX / 4) == nullptr);
    destroy_persistent_allocator(space);
}

TEST(a_constructor_that_throws_leaves_no_block_in_the_space)
{
    struct Thrower {
        Thrower()
        {
            throw 7;
        }
    };
    allocator_space_t *space = space_of(test_path("thrower"));
    int caught = 0;
    try {
        (void)PersistentSpace(space).alloc<Thrower>();
    } catch (int number) {
        caught = number;
    }
    CHECK_EQUAL(caught, 7);
    CHECK_EQUAL(space->used, 0);
    destroy_persistent_allocator(space);
}

TEST(a_handle_that_lies_in_its_space_moves_with_it)
{
    const char *path = test_path("relocatable");
    allocator_space_t *space = space_of(path);
    auto *handle = PersistentSpace(space).alloc_root<PersistentSpace>(1, space);
    int **raw = handle->alloc_root<int *>(2, handle->alloc<int>(41));
    CHECK_EQUAL(**raw, 41);
    space = space_moved(space, path);
    handle = static_cast<PersistentSpace *>(persistent_find_root(space, 1));
    CHECK(handle->unwrap() == space);
    raw = handle->find_root<int *>(2);
    CHECK_EQUAL(*handle->restore(*raw), 41);
    CHECK(handle->find_root<int>(3) == nullptr);
    destroy_persistent_allocator(space);
}

TEST(the_later_form_of_realloc_takes_an_lvalue)
{
    allocator_space_t *space = space_of(test_path("lvalue"));
    char *text = static_cast<char *>(persistent_malloc(space, 8));
    std::memcpy(text, "lvalue", 7);
    CHECK(persistent_realloc(space, text, 10000));
    CHECK(std::string(text) == "lvalue");
    CHECK(!persistent_realloc(space, text, 0));
    char *null = nullptr;
    CHECK(!persistent_realloc(space, null, 10));
    destroy_persistent_allocator(space);
}
