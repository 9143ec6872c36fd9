/* cxx_pointer_test.cpp -- evh::ptr, evh::atomic_ptr and evh::allocator. */
#include "test.h"

#include <everheap.hpp>

#include <algorithm>
#include <cstring>
#include <deque>
#include <numeric>
#include <thread>
#include <vector>

namespace
{

struct node {
    int value = 0;
    evh::ptr<node> next;
};
struct base {
    int first = 1;
};
struct derived : base {
    int second = 2;
};

template <typename T> using list = std::vector<T, evh::allocator<T>>;

} // namespace

TEST(a_pointer_of_zero_bytes_is_null)
{
    alignas(evh::ptr<int>) unsigned char bytes[sizeof(evh::ptr<int>)] = {};
    auto *pointer = reinterpret_cast<evh::ptr<int> *>(bytes);
    CHECK(!*pointer && *pointer == nullptr && pointer->get() == nullptr);
    evh::ptr<int> made, from_null = nullptr, from_zero = 0;
    CHECK(std::memcmp(&made, bytes, sizeof bytes) == 0);
    CHECK(made == from_null && from_null == from_zero);
}

TEST(a_pointer_names_every_place_around_it_and_itself)
{
    struct {
        char before[8];
        evh::ptr<char> pointer;
        char behind[8];
    } here;
    char *self = reinterpret_cast<char *>(&here.pointer);
    for (std::ptrdiff_t distance = -8; distance < 16; distance++) {
        if (distance == 1) continue; /* the one place that stands for null */
        here.pointer = self + distance;
        CHECK(here.pointer && here.pointer.get() == self + distance);
    }
}

TEST(a_copied_pointer_names_what_the_original_does)
{
    derived object;
    evh::ptr<derived> one = &object;
    const evh::ptr<derived> copy = one;
    const evh::ptr<base> up = one;
    evh::ptr<const void> plain = up;
    CHECK(copy.get() == &object && up.get() == &object && plain.get() == &object);
    CHECK(static_cast<evh::ptr<derived>>(up) == one);
    CHECK(static_cast<evh::ptr<const derived>>(plain)->second == 2);
    evh::ptr<derived> other;
    std::swap(one, other);
    CHECK(!one && other == &object && &object == other);
    const evh::ptr<derived> &same = other;
    other = same;
    CHECK(other->first == 1 && (*other).second == 2);
    CHECK_EQUAL(std::hash<evh::ptr<derived>>()(other), std::hash<derived *>()(&object));
}

TEST(a_pointer_is_a_random_access_iterator)
{
    int numbers[100];
    const evh::ptr<int> first = numbers, last = numbers + 100;
    std::iota(first, last, 0);
    CHECK_EQUAL(last - first, 100);
    CHECK_EQUAL(std::accumulate(first, last, 0), 4950);
    std::reverse(first, last);
    CHECK_EQUAL(numbers[0], 99);
    std::sort(first, last);
    CHECK(std::is_sorted(numbers, numbers + 100) && first[7] == 7 && *(first + 8) == 8);
    evh::ptr<int> step = first;
    CHECK(*step++ == 0 && *++step == 2 && *step-- == 2 && *--step == 0);
    CHECK(step == first && step < last && last > step && step <= first && last >= first);
    CHECK(*(3 + first) == 3 && *(last - 1) == 99);
    step += 50;
    step -= 49;
    CHECK(step - first == 1 && step.get() == numbers + 1);
    evh::ptr<int> none;
    none += 0;
    none -= 0;
    CHECK(none.operator->() == nullptr);
    CHECK(!none && none + 0 == nullptr && none - none == 0); /* the ends of an empty vector */
}

/* The compiler must not conclude from how a pointer is computed that it names nothing but
 * itself. */
TEST(stores_through_a_pointer_are_seen)
{
    int number = 1;
    evh::ptr<int> pointer = &number;
    *pointer = 2;
    CHECK_EQUAL(number, 2);
    number = 3;
    CHECK_EQUAL(*pointer, 3);
    evh::ptr<int> pointers[2] = {pointer, pointer};
    *pointers[1] = 4;
    CHECK_EQUAL(*pointers[0], 4);
    CHECK_EQUAL(number, 4);
}

TEST(an_atomic_pointer_behaves_as_that_of_the_standard_library)
{
    int one = 1, two = 2;
    evh::atomic_ptr<int> pointer;
    CHECK(pointer.load() == nullptr);
    pointer = &one;
    CHECK(pointer == &one && pointer.exchange(&two) == &one);
    int *expected = &one;
    CHECK(!pointer.compare_exchange_strong(expected, &one) && expected == &two);
    CHECK(pointer.compare_exchange_strong(expected, nullptr) && pointer.load() == nullptr);
    expected = nullptr;
    while (!pointer.compare_exchange_weak(expected, &one)) CHECK(expected == nullptr);
    CHECK(pointer.load(std::memory_order_acquire) == &one);
}

TEST(threads_push_to_one_stack_in_a_heap)
{
    struct item {
        evh::ptr<item> next;
        int number = 0;
    };
    constexpr int kThreads = 4, kItems = 2000;
    evh::heap heap = evh::heap::in_memory();
    auto *head = heap.make<evh::atomic_ptr<item>>();
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; i++)
        threads.emplace_back([&, i] {
            for (int j = 0; j < kItems; j++) {
                item *made = heap.make<item>();
                made->number = i * kItems + j;
                item *first = head->load();
                do made->next = first;
                while (!head->compare_exchange_weak(first, made));
            }
        });
    for (std::thread &thread : threads) thread.join();
    std::vector<bool> seen(kThreads * kItems);
    int count = 0;
    for (item *i = head->load(); i; i = i->next.get(), count++) {
        CHECK(!seen[static_cast<std::size_t>(i->number)]);
        seen[static_cast<std::size_t>(i->number)] = true;
    }
    CHECK_EQUAL(count, kThreads * kItems);
}

TEST(an_allocator_knows_its_heap_wherever_it_is_copied)
{
    evh::heap one = evh::heap::in_memory(), two = evh::heap::in_memory();
    const evh::allocator<int> of_one(one);
    auto *in_heap = two.make<evh::allocator<int>>(of_one);
    const evh::allocator<long> rebound = *in_heap;
    CHECK(*in_heap == of_one && rebound == of_one && !(rebound != of_one));
    CHECK(evh::allocator<int>(two) != of_one);
    auto *own = two.make<evh::allocator<int>>(); /* takes the heap that it lies in */
    CHECK(*own == evh::allocator<int>(two));
    CHECK(evh::allocator<int>(*own) == *own);
    evh::ptr<int> block = in_heap->allocate(10);
    CHECK(evh_heap_of(block.get()) == one.get());
    in_heap->deallocate(block, 10);
}

TEST(an_allocator_without_a_heap_throws)
{
    evh::allocator<int> none;
    bool is_thrown = false;
    try {
        (void)none.allocate(1);
    } catch (const std::bad_alloc &failure) {
        is_thrown = std::strstr(failure.what(), "heap") != nullptr;
    }
    CHECK(is_thrown);
    CHECK(none == evh::allocator<long>());
}

TEST(an_allocation_that_does_not_fit_throws_with_its_status)
{
    evh::heap heap = evh::heap::in_memory(nullptr, 1 << 20);
    auto *numbers = heap.make<list<int>>();
    evh_status status = EVH_OK;
    try {
        numbers->resize(1 << 22);
    } catch (const evh::bad_alloc &failure) {
        status = failure.status();
    }
    CHECK(status == EVH_FULL || status == EVH_LIMIT || status == EVH_NO_MEMORY);
    CHECK(numbers->empty());
    evh::allocator<int> allocator(heap);
    status = EVH_OK;
    try {
        (void)allocator.allocate(SIZE_MAX / 2);
    } catch (const evh::bad_alloc &failure) {
        status = failure.status();
    }
    CHECK_EQUAL(status, EVH_LIMIT);
}

TEST(a_container_stays_in_its_heap_when_another_is_assigned_to_it)
{
    evh::heap one = evh::heap::in_memory(), two = evh::heap::in_memory();
    auto *first = one.make<list<int>>(list<int>({1, 2, 3}, one));
    auto *second = two.make<list<int>>();
    *second = *first;
    CHECK(*second == *first && evh_heap_of(second->data()) == two.get());
    *second = std::move(*first);
    CHECK(second->size() == 3 && evh_heap_of(second->data()) == two.get());
    list<int> local(one);
    local.assign(100, 7);
    CHECK(evh_heap_of(local.data()) == one.get());
    const int *data = local.data();
    *first = std::move(local); /* the same heap: nothing is copied */
    CHECK(first->size() == 100 && first->data() == data);
}

TEST(containers_within_containers_take_the_heap_they_lie_in)
{
    evh::heap heap = evh::heap::in_memory();
    const std::uint64_t before = heap.info().live_blocks;
    auto *rows = heap.make<list<list<int>>>();
    for (int i = 0; i < 50; i++) {
        rows->emplace_back();
        for (int j = 0; j < i; j++) rows->back().push_back(j);
    }
    rows->erase(rows->begin() + 10, rows->begin() + 20);
    rows->insert(rows->begin(), list<int>({5, 6}, heap));
    rows->resize(60);
    rows->back().push_back(1);
    CHECK(rows->front()[1] == 6 && rows->at(11).size() == 20);
    for (const list<int> &row : *rows) CHECK(row.empty() || evh_heap_of(row.data()) == heap.get());
    heap.destroy(rows);
    CHECK_EQUAL(heap.info().live_blocks, before);
}

/* Strategy: random operations on a deque in a heap beside one in memory. Invariant: equal. */
TEST(a_deque_in_a_heap_agrees_with_one_in_memory)
{
    std::uint64_t random = test_seed();
    evh::heap heap = evh::heap::in_memory();
    auto *actual = heap.make<std::deque<int, evh::allocator<int>>>();
    std::deque<int> expected;
    for (std::uint64_t i = 0; i < test_effort(20000); i++) {
        const int value = static_cast<int>(test_random(&random) % 1000);
        const std::size_t at = expected.empty() ? 0 : test_random(&random) % expected.size();
        const auto place = static_cast<std::ptrdiff_t>(at);
        switch (test_random(&random) % 8) {
        case 0:
        case 1: actual->push_back(value), expected.push_back(value); break;
        case 2:
        case 3: actual->push_front(value), expected.push_front(value); break;
        case 4:
            if (!expected.empty()) actual->pop_front(), expected.pop_front();
            break;
        case 5:
            if (!expected.empty()) actual->pop_back(), expected.pop_back();
            break;
        case 6:
            actual->insert(actual->begin() + place, value);
            expected.insert(expected.begin() + place, value);
            break;
        default:
            if (expected.empty()) break;
            actual->erase(actual->begin() + place);
            expected.erase(expected.begin() + place);
        }
        if (i % 500 == 0)
            CHECK(std::equal(actual->begin(), actual->end(), expected.begin(), expected.end()));
    }
    CHECK(std::equal(actual->begin(), actual->end(), expected.begin(), expected.end()));
    const auto &constant = *actual;
    CHECK(std::equal(constant.rbegin(), constant.rend(), expected.rbegin(), expected.rend()));
    heap.destroy(actual);
}

#if defined(__cpp_lib_memory_resource)
TEST(polymorphic_containers_take_memory_from_a_heap)
{
    evh::heap heap = evh::heap::in_memory(), other = evh::heap::in_memory();
    const std::uint64_t before = heap.info().live_blocks;
    evh::memory_resource resource(heap), same(heap), different(other);
    CHECK(resource == same && resource != different && resource.get() == heap.get());
    {
        std::pmr::vector<std::pmr::string> words(&resource);
        for (int i = 0; i < 1000; i++) words.emplace_back(100, 'x');
        CHECK(evh_heap_of(words[500].data()) == heap.get());
        void *aligned = resource.allocate(100, 4096);
        CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(aligned) % 4096, 0);
        resource.deallocate(aligned, 100, 4096);
        resource.deallocate(resource.allocate(0), 0);
    }
    CHECK_EQUAL(heap.info().live_blocks, before);
}
#endif
