/* matrix.cpp -- containers that one process fills and the next reads: tools/check_cxx.py. */
#include <everheap.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>
#if __has_include(<boost/container/map.hpp>)
#define HAS_BOOST 1
#include <boost/container/deque.hpp>
#include <boost/container/flat_map.hpp>
#include <boost/container/list.hpp>
#include <boost/container/map.hpp>
#include <boost/container/set.hpp>
#include <boost/container/slist.hpp>
#include <boost/container/small_vector.hpp>
#include <boost/container/stable_vector.hpp>
#include <boost/container/string.hpp>
#include <boost/container/vector.hpp>
#else
#define HAS_BOOST 0
#endif

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: CHECK(%s)\n", __FILE__, __LINE__, #condition);            \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

namespace
{

constexpr int kItems = 300; /* more than one block of any deque */

template <typename T> using in_heap = evh::allocator<T>;
template <typename T> using list = std::vector<T, in_heap<T>>;

struct node {
    int number = 0;
    evh::ptr<node> next;
    evh::ptr<node> self;
};

struct point {
    int x = 0, y = 0;
};

#if HAS_BOOST
namespace bc = boost::container;
using text = bc::basic_string<char, std::char_traits<char>, in_heap<char>>;

struct of_boost {
    bc::vector<int, in_heap<int>> vector;
    bc::deque<int, in_heap<int>> deque;
    bc::list<int, in_heap<int>> list;
    bc::slist<int, in_heap<int>> slist;
    bc::stable_vector<int, in_heap<int>> stable;
    bc::small_vector<int, 4, in_heap<int>> small;
    bc::map<int, text, std::less<int>, in_heap<std::pair<const int, text>>> map;
    bc::set<int, std::less<int>, in_heap<int>> set;
    bc::flat_map<int, int, std::less<int>, in_heap<std::pair<int, int>>> flat;
    text brief, lengthy;

    void fill(int round)
    {
        for (int i = 0; i < kItems; i++) {
            const int value = round * kItems + i;
            vector.push_back(value);
            deque.push_front(value);
            list.push_back(value);
            slist.push_front(value);
            stable.push_back(value);
            small.push_back(value);
            map.try_emplace(value).first->second = std::to_string(value).c_str();
            set.insert(value);
            flat[value] = value;
        }
        brief = "brief";
        lengthy.append(100, static_cast<char>('a' + round));
    }
    void check(int rounds) const
    {
        const int count = rounds * kItems;
        const auto size = static_cast<std::size_t>(count);
        CHECK(vector.size() == size && deque.size() == size && list.size() == size);
        CHECK(slist.size() == size && stable.size() == size && small.size() == size);
        CHECK(map.size() == size && set.size() == size && flat.size() == size);
        int i = 0;
        for (const int value : list) CHECK(value == i++);
        for (const int value : slist) CHECK(value == --i);
        for (const auto &[key, word] : map)
            CHECK(key == i++ && word == std::to_string(key).c_str());
        i = 0;
        for (const int value : set) CHECK(value == i++);
        for (i = 0; i < count; i++) {
            const auto at = static_cast<std::size_t>(i);
            CHECK(vector[at] == i && stable[at] == i && small[at] == i && flat.at(i) == i);
            CHECK(deque[at] == count - 1 - i && map.find(i) != map.end());
        }
        CHECK(brief == "brief" && lengthy.size() == static_cast<std::size_t>(rounds) * 100);
        CHECK(lengthy[0] == 'a' && lengthy.back() == 'a' + rounds - 1);
    }
};
#else
struct of_boost {
    void fill(int)
    {
    }
    void check(int) const
    {
    }
};
#endif

struct everything {
    int rounds = 0;
    evh_ref here{};
    std::uint64_t address = 0;
    list<int> numbers;
    list<point> points;
    list<list<int>> rows;
    list<evh::str> words;
    std::deque<int, in_heap<int>> deque;
    std::deque<point, in_heap<point>> queue;
    evh::ptr<node> first;
    evh::atomic_ptr<node> top;
    evh::vec<long> vec;
    evh::map<std::string_view, evh::vec<int>> map;
    evh::tree<int, int> tree;
    evh::symbols symbols;
    of_boost boost;

    void fill(evh::heap &heap)
    {
        for (int i = 0; i < kItems; i++) {
            const int value = rounds * kItems + i;
            numbers.push_back(value);
            points.push_back(point{value, -value});
            rows.emplace_back();
            rows.back().assign(static_cast<std::size_t>(i % 5), value);
            words.emplace_back("word " + std::to_string(value));
            deque.push_front(value);
            queue.push_back(point{value, value + 1});
            if (i % 3 == 0) queue.pop_front();
            node *made = heap.make<node>();
            made->number = value;
            made->next = first;
            made->self = made;
            first = made;
            vec.push_back(value);
            map["key " + std::to_string(i)].push_back(rounds);
            tree[-value] = value;
            (void)symbols.intern("symbol " + std::to_string(value));
        }
        top = first.get();
        boost.fill(rounds);
        rounds++;
    }
    void check(const evh::heap &heap) const
    {
        const int count = rounds * kItems;
        const auto size = static_cast<std::size_t>(count);
        CHECK(heap.at(here) == this);
        CHECK(numbers.size() == size && points.size() == size && rows.size() == size);
        CHECK(deque.size() == size && queue.size() == size - size / 3 && vec.size() == size);
        CHECK(map.size() == kItems && tree.size() == size && symbols.size() == size);
        for (int i = 0; i < count; i++) {
            const auto at = static_cast<std::size_t>(i);
            CHECK(numbers[at] == i && points[at].y == -i && deque[size - 1 - at] == i);
            CHECK(rows[at].size() == at % kItems % 5 && (rows[at].empty() || rows[at][0] == i));
            CHECK(words[at] == "word " + std::to_string(i) && vec[at] == i && tree.at(-i) == i);
            CHECK(symbols.find("symbol " + std::to_string(i)));
        }
        CHECK(queue.back().y == count && queue.front().x == count / 3);
        for (auto [key, values] : map) CHECK(values.size() == static_cast<std::size_t>(rounds));
        int expected = count;
        for (evh::ptr<node> n = first; n; n = n->next)
            CHECK(n->number == --expected && n->self == n);
        CHECK(expected == 0 && top.load() == first.get());
        boost.check(rounds);
    }
};

/* One run: check what the last one left, at another address than its, and add to it. */
void run(const char *path)
{
    std::uint64_t address = 0;
    {
        evh::heap heap(path);
        address = evh::root<everything>(heap, "everything")->address;
    }
    evh_options options{};
    options.preferred_address = address == 0x310000000000 ? 0x330000000000 : 0x310000000000;
    evh::heap heap(path, options);
    evh::root<everything> root(heap, "everything");
    const std::uint64_t now = heap.info().address;
    CHECK(now != address);
    root->address = now;
    root->here = heap.ref_to(root.get());
    if (root->rounds) root->check(heap);
    root->fill(heap);
    root->check(heap);
    heap.commit();
    std::printf("%d rounds, at %#llx%s\n", root->rounds, static_cast<unsigned long long>(now),
                HAS_BOOST ? ", with Boost" : "");
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    try {
        run(argv[1]);
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return 1;
    }
}
