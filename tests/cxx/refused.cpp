/* refused.cpp -- what must not compile, one case at a time: tools/check_cxx.py. */
#include <everheap.hpp>

#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

template <typename T> using in_heap = evh::allocator<T>;
template <typename T> using vector = std::vector<T, in_heap<T>>;

struct with_functions {
    virtual ~with_functions() = default;
};
struct plain {
    evh::ptr<plain> next;
};

/* Each case is compiled with REFUSED set to its number, and must fail with the words behind it. The
 * first must compile: what the others add is what is refused. */
void use(evh::heap &heap)
{
    (void)heap.make<vector<plain>>(3u);
#if REFUSED == 1 /* boost::container::list */
    heap.make<std::list<int, in_heap<int>>>()->push_back(1);
#elif REFUSED == 2  /* boost::container::list */
    heap.make<std::forward_list<int, in_heap<int>>>()->push_front(1);
#elif REFUSED == 3  /* evh::tree */
    (*heap.make<std::map<int, int, std::less<int>, in_heap<std::pair<const int, int>>>>())[1] = 2;
#elif REFUSED == 4  /* evh::tree */
    heap.make<std::set<int, std::less<int>, in_heap<int>>>()->insert(1);
#elif REFUSED == 5  /* evh::map */
    using pair = std::pair<const int, int>;
    (*heap.make<
        std::unordered_map<int, int, std::hash<int>, std::equal_to<int>, in_heap<pair>>>())[1] = 2;
#elif REFUSED == 6  /* evh::map */
    heap.make<std::unordered_set<int, std::hash<int>, std::equal_to<int>, in_heap<int>>>()->insert(
        1);
#elif REFUSED == 7  /* evh::str */
    (void)heap.make<std::basic_string<char, std::char_traits<char>, in_heap<char>>>();
#elif REFUSED == 8  /* evh_bitset */
    heap.make<vector<bool>>()->push_back(true);
#elif REFUSED == 9  /* evh::ptr<T> */
    heap.make<vector<int *>>()->push_back(nullptr);
#elif REFUSED == 10 /* evh::str */
    heap.make<vector<std::string>>()->emplace_back("text");
#elif REFUSED == 11 /* evh::allocator */
    evh::root<std::vector<int>> root(heap, "root");
#elif REFUSED == 12 /* evh::ptr<T> */
    (void)heap.make<std::unique_ptr<int>>();
#elif REFUSED == 13 /* std::variant */
    (void)heap.make<with_functions>();
#elif REFUSED == 14 /* evh::heap::make */
    (void)std::allocate_shared<int>(in_heap<int>(heap), 1);
#elif REFUSED == 15 /* evh_ref instead of evh::ptr */
    heap.make<evh::vec<plain>>()->emplace_back();
#elif REFUSED == 16 /* std::string_view: the map keeps a copy */
    evh::root<evh::map<std::string, int>> words(heap, "words");
    (*words)["a"] = 1;
#elif REFUSED == 17 /* evh::str */
    (void)heap.make<std::pair<int, std::optional<std::variant<int, std::string>>>>();
#elif REFUSED == 18 /* evh::ptr<T> */
    evh::root<void (*)()> function(heap, "function");
#elif REFUSED == 19 /* evh::ptr<T> */
    evh::root<evh::tree<int, const char *>> names(heap, "names");
    (*names)[1] = "one";
#elif REFUSED == 20 /* begins as zero bytes */
    evh::root<int> number(heap, "number", 5);
#elif REFUSED == 21 /* evh::str */
    std::deque<std::string_view, in_heap<std::string_view>>(heap).emplace_back("text");
#endif
}
