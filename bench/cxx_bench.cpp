/* cxx_bench.cpp -- what C++'s pointers and containers cost in a heap, beside plain ones. */
#include <everheap.hpp>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <deque>
#include <exception>
#include <numeric>
#include <random>
#include <vector>

/*
 * Method
 *   A heap in memory, so that nothing but the pointers and the allocator differs. A hundred
 *   thousand items, about as much as the second-level cache holds. The rounds of the two columns
 *   alternate; each figure is the median, in processor time (other work on the machine is not
 *   counted), divided by the number of items. The first round, which touches the memory, is not
 *   counted.
 */

namespace
{

constexpr int kItems = 100000;
constexpr int kRounds = 31;

template <typename T> using in_heap = std::vector<T, evh::allocator<T>>;

double now_ns()
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

/* What the compiler must compute, and may not know. */
template <typename T> void use(T &value)
{
    __asm__ volatile("" : "+r"(value) : : "memory");
}

template <typename Work> double time_of(Work &work)
{
    const double start = now_ns();
    work();
    return (now_ns() - start) / kItems;
}

template <typename Plain, typename Ours> void compare(const char *name, Plain plain, Ours ours)
{
    std::vector<double> of_plain, of_ours;
    for (int round = 0; round <= kRounds; round++) {
        const double first = time_of(plain), second = time_of(ours);
        if (round == 0) continue;
        of_plain.push_back(first);
        of_ours.push_back(second);
    }
    std::sort(of_plain.begin(), of_plain.end());
    std::sort(of_ours.begin(), of_ours.end());
    const double plain_ns = of_plain[kRounds / 2], ours_ns = of_ours[kRounds / 2];
    std::printf("%-52s %8.2f %8.2f %7.1f x\n", name, plain_ns, ours_ns, ours_ns / plain_ns);
}

struct plain_node {
    long value;
    plain_node *next;
};
struct heap_node {
    long value;
    evh::ptr<heap_node> next;
};
struct ref_node {
    long value;
    evh_ref next;
};

/* Lists whose nodes are linked in the order of the addresses, or in any. */
void measure_lists(evh::heap &heap, bool is_shuffled)
{
    std::vector<std::size_t> order(kItems);
    std::iota(order.begin(), order.end(), 0u);
    if (is_shuffled) std::shuffle(order.begin(), order.end(), std::mt19937(1));
    std::vector<plain_node> plain(kItems);
    auto *ours = static_cast<heap_node *>(evh_calloc(heap.get(), kItems, sizeof(heap_node)));
    auto *refs = static_cast<ref_node *>(evh_calloc(heap.get(), kItems, sizeof(ref_node)));
    for (std::size_t i = 0; i + 1 < order.size(); i++) {
        plain[order[i]].next = &plain[order[i + 1]];
        ours[order[i]].next = &ours[order[i + 1]];
        refs[order[i]].next = heap.ref_to(&refs[order[i + 1]]);
    }
    const auto sum_plain = [&] {
        long sum = 0;
        for (const plain_node *n = &plain[order[0]]; n; n = n->next) sum += n->value;
        use(sum);
    };
    const auto sum_ours = [&] {
        long sum = 0;
        for (const heap_node *n = &ours[order[0]]; n; n = n->next.get()) sum += n->value;
        use(sum);
    };
    const auto sum_kept = [&] {
        long sum = 0;
        for (evh::ptr<const heap_node> n = &ours[order[0]]; n; n = n->next) sum += n->value;
        use(sum);
    };
    const auto sum_refs = [&] {
        long sum = 0;
        for (const ref_node *n = &refs[order[0]]; n; n = heap.at<ref_node>(n->next))
            sum += n->value;
        use(sum);
    };
    const char *how = is_shuffled ? "in any order" : "in order";
    char name[80];
    std::snprintf(name, sizeof name, "list %s: T * / evh::ptr, walked by T *", how);
    compare(name, sum_plain, sum_ours);
    std::snprintf(name, sizeof name, "list %s: T * / evh::ptr, walked by evh::ptr", how);
    compare(name, sum_plain, sum_kept);
    std::snprintf(name, sizeof name, "list %s: T * / evh_ref", how);
    compare(name, sum_plain, sum_refs);
    evh_free(heap.get(), ours);
    evh_free(heap.get(), refs);
}

/* Pointers in an array, each followed once: nothing waits for anything. */
void measure_follow(evh::heap &heap)
{
    auto *numbers = static_cast<long *>(evh_calloc(heap.get(), kItems, sizeof(long)));
    std::vector<long *> plain;
    auto *ours = heap.make<in_heap<evh::ptr<long>>>();
    std::mt19937 random(2);
    for (int i = 0; i < kItems; i++) plain.push_back(&numbers[random() % kItems]);
    ours->assign(plain.begin(), plain.end());
    const evh::ptr<long> *const first = &*ours->begin();
    compare(
        "array of pointers, each followed",
        [&] {
            long sum = 0;
            for (const long *pointer : plain) sum += *pointer;
            use(sum);
        },
        [&] {
            long sum = 0;
            for (int i = 0; i < kItems; i++) sum += *first[i];
            use(sum);
        });
    heap.destroy(ours);
    evh_free(heap.get(), numbers);
}

void measure_vector(evh::heap &heap)
{
    std::vector<int> plain(kItems, 1);
    auto *ours = heap.make<in_heap<int>>(plain.begin(), plain.end());
    auto *vec = heap.make<evh::vec<int>>();
    vec->append(plain.data(), plain.size());
    const auto sum_plain = [&] {
        int sum = 0;
        for (const int item : plain) sum += item;
        use(sum);
    };
    const auto sum_ours = [&] {
        int sum = 0;
        for (const int item : *ours) sum += item;
        use(sum);
    };
    const auto sum_indexed = [&] {
        int sum = 0;
        for (std::size_t i = 0; i < ours->size(); i++) sum += (*ours)[i];
        use(sum);
    };
    const auto sum_data = [&] {
        int sum = 0;
        const int *const data = ours->data();
        for (std::size_t i = 0, count = ours->size(); i < count; i++) sum += data[i];
        use(sum);
    };
    const auto sum_vec = [&] {
        int sum = 0;
        for (const int item : *vec) sum += item;
        use(sum);
    };
    compare("std::vector: sum, for (item : vector)", sum_plain, sum_ours);
    compare("std::vector: sum, vector[i]", sum_plain, sum_indexed);
    compare("std::vector: sum, vector.data()[i]", sum_plain, sum_data);
    compare("std::vector / evh::vec: sum, for (item : vec)", sum_plain, sum_vec);
    compare(
        "std::vector: std::sort of the ordered", [&] { std::sort(plain.begin(), plain.end()); },
        [&] { std::sort(ours->begin(), ours->end()); });
    heap.destroy(vec);
    heap.destroy(ours);
}

template <typename Vector> void push(Vector &vector, bool is_reserved)
{
    vector.clear();
    if (!is_reserved) Vector(vector.get_allocator()).swap(vector);
    for (int i = 0; i < kItems; i++) vector.push_back(i);
}

void measure_growth(evh::heap &heap)
{
    std::vector<int> plain;
    auto *ours = heap.make<in_heap<int>>();
    auto *vec = heap.make<evh::vec<int>>();
    const auto push_vec = [&] {
        vec->clear();
        for (int i = 0; i < kItems; i++) vec->push_back(i);
    };
    compare(
        "std::vector: push_back, growing", [&] { push(plain, false); },
        [&] { push(*ours, false); });
    compare(
        "std::vector: push_back, with room", [&] { push(plain, true); },
        [&] { push(*ours, true); });
    compare(
        "std::vector / evh::vec: push_back, growing", [&] { push(plain, false); }, push_vec);
    heap.destroy(vec);
    heap.destroy(ours);
    std::deque<int> queue;
    auto *of_heap = heap.make<std::deque<int, evh::allocator<int>>>();
    const auto turn = [](auto &items) {
        for (int i = 0; i < kItems; i++) {
            items.push_back(i);
            if (items.size() > 100) items.pop_front();
        }
    };
    compare(
        "std::deque: push_back and pop_front", [&] { turn(queue); }, [&] { turn(*of_heap); });
    heap.destroy(of_heap);
}

/* The wrappers of the collections, beside the C calls that they make. */
void measure_wrappers(evh::heap &heap)
{
    auto *map = heap.make<evh::map<int, long>>();
    for (int i = 0; i < 1000; i++) (*map)[i] = i;
    const evh_map *handle = map->handle();
    compare(
        "evh_map_get() / evh::map::find(), 1000 items",
        [&] {
            long sum = 0;
            for (int i = 0; i < kItems; i++)
                sum += *static_cast<long *>(
                    evh_map_get(heap.get(), handle, static_cast<std::uint64_t>(i % 1000)));
            use(sum);
        },
        [&] {
            long sum = 0;
            for (int i = 0; i < kItems; i++) sum += *map->find(i % 1000);
            use(sum);
        });
    heap.destroy(map);
}

} // namespace

int main()
{
    try {
        evh::heap heap = evh::heap::in_memory();
        std::printf("%-52s %8s %8s\n", "nanoseconds for an item", "plain", "heap");
        measure_lists(heap, false);
        measure_lists(heap, true);
        measure_follow(heap);
        measure_vector(heap);
        measure_growth(heap);
        measure_wrappers(heap);
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "cxx_bench: %s\n", failure.what());
        return 2;
    }
}
