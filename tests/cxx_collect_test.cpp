/* cxx_collect_test.cpp -- evh::str, symbols, vec, map and tree. */
#include "test.h"

#include <everheap.hpp>

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace
{

struct note {
    evh::str title;
    evh::vec<int> numbers;
    int count = 7;
};

bool picky_refuses;

struct picky {
    int number = 1;
    picky()
    {
        if (picky_refuses) throw 1;
    }
};

/* Whether the work is left by picky's exception. */
template <typename Work> bool is_refused(Work &&work)
{
    picky_refuses = true;
    bool is_thrown = false;
    try {
        work();
    } catch (int) {
        is_thrown = true;
    }
    picky_refuses = false;
    return is_thrown;
}

template <typename Work> evh_status status_of(Work &&work)
{
    try {
        work();
    } catch (const evh::error &failure) {
        return failure.status();
    } catch (const evh::bad_alloc &failure) {
        return failure.status();
    }
    return EVH_OK;
}

} // namespace

template <> struct evh::is_relocatable<note> : std::true_type {
};

TEST(a_string_behaves_as_one)
{
    evh::heap heap = evh::heap::in_memory();
    evh::root<evh::str> text(heap, "text");
    CHECK(text->empty() && *text == "" && text->c_str()[0] == 0 && text->begin() == text->end());
    *text = "hello";
    *text += " world";
    text->push_back('!');
    CHECK(*text == "hello world!" && "hello world!" == *text && text->size() == 12);
    text->replace(0, 5, "good bye").insert(8, ",").erase(text->size() - 1);
    CHECK(*text == "good bye, world" && (*text)[5] == 'b' && *text != "x");
    CHECK_EQUAL(text->find("world"), 10);
    CHECK_EQUAL(text->find("nowhere"), evh::str::npos);
    *text += *text;
    CHECK_EQUAL(text->size(), 30);
    const std::string copy(text->begin(), text->end());
    CHECK(std::string_view(*text) == copy);
    auto *other = heap.make<evh::str>("abc");
    CHECK(*other < *text && *other != *text);
    *other = *text;
    CHECK(*other == *text && other->c_str() != text->c_str());
    *text = std::move(*other);
    CHECK(other->empty() && *text == copy);
    text->erase(4);
    CHECK(*text == "good");
    CHECK_EQUAL(status_of([&] { text->insert(5, "x"); }), EVH_INVALID);
    text->reserve(1000);
    text->clear();
    CHECK(text->empty());
    heap.destroy(other);
}

TEST(a_collection_outside_a_heap_is_empty_and_refuses_items)
{
    evh::str text;
    evh::vec<int> numbers;
    evh::map<int, int> map;
    CHECK(text.empty() && numbers.empty() && map.empty() && map.begin() == map.end());
    CHECK(!map.contains(1) && !map.erase(1) && numbers.begin() == numbers.end());
    CHECK_EQUAL(status_of([&] { text = "x"; }), EVH_INVALID);
    CHECK_EQUAL(status_of([&] { numbers.push_back(1); }), EVH_INVALID);
    CHECK_EQUAL(status_of([&] { map[1] = 1; }), EVH_INVALID);
}

TEST(a_symbol_is_there_once)
{
    evh::heap heap = evh::heap::in_memory();
    evh::root<evh::symbols> table(heap, "symbols");
    CHECK(table->empty() && !table->find("x") && table->begin() == table->end());
    const evh::symbol apple = table->intern("apple"), again = table->intern("apple");
    const evh::symbol pear = table->intern("pear"), apricot = table->intern("apricot");
    CHECK(apple == again && apple != pear && apple < pear && table->size() == 3);
    CHECK(table->text(apricot) == "apricot" && table->find("pear") == pear);
    CHECK_EQUAL(table->references(apple), 2);
    std::set<std::string> words;
    for (const evh::symbol symbol : *table) words.emplace(table->text(symbol));
    CHECK(words == std::set<std::string>({"apple", "apricot", "pear"}));
    int count = 0;
    for (const evh::symbol symbol : table->beginning_with("ap"))
        count += symbol == apple || symbol == apricot;
    for (const evh::symbol symbol : table->containing("ea")) count += symbol == pear;
    CHECK_EQUAL(count, 3);
    table->release(apple);
    table->retain(pear);
    table->release(apple);
    CHECK(!table->find("apple") && table->text(apple).data() == nullptr);
    CHECK_EQUAL(status_of([&] { table->release(apple); }), EVH_NOT_FOUND);
    evh::root<evh::map<evh::symbol, int>> prices(heap, "prices");
    (*prices)[pear] = 3;
    for (auto [symbol, price] : *prices) CHECK(symbol == pear && price == 3);
    table->clear();
    CHECK(table->empty());
    table->keep_all();
    CHECK_EQUAL(table->references(table->intern("kept")), 1);
}

TEST(an_array_agrees_with_one_in_memory)
{
    std::uint64_t random = test_seed();
    evh::heap heap = evh::heap::in_memory();
    evh::root<evh::vec<int>> actual(heap, "numbers");
    std::vector<int> expected;
    for (std::uint64_t i = 0; i < test_effort(20000); i++) {
        const int value = static_cast<int>(test_random(&random) % 1000);
        const auto place =
            static_cast<std::ptrdiff_t>(test_random(&random) % (expected.size() + 1));
        switch (test_random(&random) % 6) {
        case 0: actual->push_back(value), expected.push_back(value); break;
        case 1: actual->emplace_back(value), expected.emplace_back(value); break;
        case 2:
            CHECK_EQUAL(*actual->insert(actual->begin() + place, value), value);
            expected.insert(expected.begin() + place, value);
            break;
        case 3:
            if (static_cast<std::size_t>(place) == expected.size()) break;
            actual->erase(actual->begin() + place);
            expected.erase(expected.begin() + place);
            break;
        case 4:
            if (expected.empty()) break;
            actual->pop_back(), expected.pop_back();
            break;
        default:
            if (i % 100) break;
            actual->resize(expected.size() / 2), expected.resize(expected.size() / 2);
            actual->resize(expected.size() + 3), expected.resize(expected.size() + 3);
        }
        if (i % 100 == 0)
            CHECK(std::equal(actual->begin(), actual->end(), expected.begin(), expected.end()));
    }
    CHECK(std::equal(actual->begin(), actual->end(), expected.begin(), expected.end()));
    actual->push_back((*actual)[0]); /* an item of its own */
    CHECK(actual->back() == actual->front());
    const int more[3] = {1, 2, 3};
    actual->append(more, 3);
    CHECK(actual->at(actual->size() - 1) == 3);
    CHECK_EQUAL(status_of([&] { (void)actual->at(actual->size()); }), EVH_NOT_FOUND);
    actual->erase(actual->begin(), actual->end());
    CHECK(actual->empty());
    actual->reserve(100);
    actual->clear();
}

TEST(items_that_own_something_free_it_when_they_end)
{
    evh::heap heap = evh::heap::in_memory();
    evh::root<evh::vec<note>> notes(heap, "notes");
    evh::root<evh::map<int, note>> map(heap, "map");
    evh::root<evh::tree<std::string_view, evh::str>> tree(heap, "tree");
    const std::uint64_t before = heap.info().live_blocks;
    for (int i = 0; i < 200; i++) {
        note &made = notes->emplace_back();
        CHECK_EQUAL(made.count, 7);
        made.title = "title " + std::to_string(i);
        made.numbers.push_back(i);
        (*map)[i].title = "mapped " + std::to_string(i);
        CHECK_EQUAL((*map)[i].count, 7);
        (*tree)[std::to_string(i)] = "in a tree " + std::to_string(i);
    }
    notes->erase(notes->begin() + 50, notes->begin() + 100);
    notes->pop_back();
    CHECK(notes->at(50).title == "title 100" && notes->at(50).numbers[0] == 100);
    notes->insert(notes->begin() + 3, note{});
    CHECK(notes->at(3).title.empty() && notes->at(3).count == 7);
    notes->resize(300);
    CHECK(notes->back().count == 7);
    notes->resize(10);
    CHECK(map->erase(3) && !map->erase(3) && map->at(4).title == "mapped 4");
    CHECK(tree->erase("7") && tree->at("8") == "in a tree 8");
    evh::root<evh::vec<note>>::remove(heap, "notes");
    evh::root<evh::map<int, note>>::remove(heap, "map");
    tree->clear();
    evh::root<evh::tree<std::string_view, evh::str>>::remove(heap, "tree");
    CHECK_EQUAL(heap.info().live_blocks, before - 3);
}

TEST(strings_live_in_a_vector_of_the_standard_library)
{
    evh::heap heap = evh::heap::in_memory();
    using strings = std::vector<evh::str, evh::allocator<evh::str>>;
    evh::root<strings> words(heap, "words");
    for (int i = 0; i < 100; i++) words->emplace_back("word " + std::to_string(i));
    words->erase(words->begin() + 5);
    CHECK(words->size() == 99 && (*words)[5] == "word 6" && words->back() == "word 99");
}

TEST(a_map_agrees_with_one_in_memory)
{
    std::uint64_t random = test_seed();
    evh::heap heap = evh::heap::in_memory();
    evh::root<evh::map<std::string_view, int>> actual(heap, "words");
    evh::root<evh::map<int, long>> numbers(heap, "numbers");
    std::unordered_map<std::string, int> expected;
    for (std::uint64_t i = 0; i < test_effort(20000); i++) {
        const int number = static_cast<int>(test_random(&random) % 500) - 250;
        const std::string word = "w" + std::to_string(number);
        if (test_random(&random) % 3) {
            (*actual)[word] = static_cast<int>(i);
            numbers->put(number, static_cast<int>(i));
            expected[word] = static_cast<int>(i);
        } else {
            const bool was_there = expected.erase(word) != 0;
            CHECK(actual->erase(word) == was_there && numbers->erase(number) == was_there);
        }
        CHECK_EQUAL(actual->size(), expected.size());
    }
    std::size_t count = 0;
    for (auto [word, value] : *actual) {
        CHECK(expected.at(std::string(word)) == value);
        count++;
    }
    for (auto it = numbers->begin(); it != numbers->end(); it++)
        CHECK(expected.at("w" + std::to_string(it->key)) == it->value);
    CHECK_EQUAL(count, expected.size());
    for (auto [number, value] : *numbers) value = number; /* in its place */
    for (auto [number, value] : *numbers)
        if (value % 2) numbers->erase(number);
    for (auto [number, value] : *numbers) CHECK(number % 2 == 0 && value == number);
    CHECK_EQUAL(status_of([&] { (void)numbers->at(1001); }), EVH_NOT_FOUND);
    const auto &constant = *actual;
    CHECK(constant.find("nothing") == nullptr);
    CHECK(constant.empty() || constant.at(constant.begin()->key) == constant.begin()->value);
    actual->check();
}

TEST(a_tree_agrees_with_one_in_memory)
{
    std::uint64_t random = test_seed();
    evh::heap heap = evh::heap::in_memory();
    evh::root<evh::tree<int, int>> actual(heap, "numbers");
    evh::root<evh::tree<double, int>> reals(heap, "reals");
    std::map<int, int> expected;
    for (std::uint64_t i = 0; i < test_effort(5000); i++) {
        const int key = static_cast<int>(test_random(&random) % 1000) - 500;
        if (test_random(&random) % 3) {
            (*actual)[key] = expected[key] = static_cast<int>(i);
            (*reals)[key / 8.0] = key;
        } else {
            const bool was_there = expected.erase(key) != 0;
            CHECK(actual->erase(key) == was_there && reals->erase(key / 8.0) == was_there);
        }
        if (i % 50) continue;
        auto at = expected.lower_bound(key);
        for (auto [k, value] : actual->from(key)) {
            CHECK(at != expected.end() && k == at->first && value == at->second);
            ++at;
        }
        CHECK(at == expected.end());
        const int end = key + static_cast<int>(test_random(&random) % 200) - 20;
        at = expected.lower_bound(key);
        for (auto [k, value] : actual->between(key, end)) CHECK(k == (at++)->first && k < end);
        CHECK(end <= key || at == expected.lower_bound(end));
        auto back = std::make_reverse_iterator(expected.lower_bound(key));
        for (auto [k, value] : actual->backwards_from(key)) CHECK(k == (back++)->first);
        CHECK(back == expected.rend());
    }
    auto at = expected.begin();
    for (auto [key, value] : *reals) CHECK(value == (at++)->first && key == value / 8.0);
    CHECK(at == expected.end());
    auto back = expected.rbegin();
    for (auto it : actual->backwards()) CHECK(it.key == (back++)->first);
    CHECK(back == expected.rend());
    for (auto it = actual->begin(); it != actual->end(); ++it) actual->erase(it->key);
    CHECK(actual->empty() && actual->begin() == actual->end());
    actual->check();
}

TEST(a_tree_keeps_every_key_type_in_order)
{
    evh::heap heap = evh::heap::in_memory();
    enum class color : signed char { red = -1, green, blue };
    evh::root<evh::tree<color, char>> colors(heap, "colors");
    for (const color c : {color::blue, color::red, color::green}) (*colors)[c] = 'x';
    CHECK(colors->begin()->key == color::red && colors->backwards().begin()->key == color::blue);
    evh::root<evh::tree<std::uint64_t, char>> large(heap, "large");
    for (const std::uint64_t n : {UINT64_MAX, std::uint64_t{0}}) (*large)[n] = 1;
    CHECK(large->begin()->key == 0 && large->lower_bound(1)->key == UINT64_MAX);
    evh::root<evh::tree<std::int64_t, char>> both(heap, "both");
    for (const std::int64_t n : {INT64_MAX, INT64_MIN, std::int64_t{0}}) (*both)[n] = 1;
    CHECK(both->begin()->key == INT64_MIN && both->lower_bound(1)->key == INT64_MAX);
    evh::root<evh::tree<double, char>> reals(heap, "reals");
    for (const double n : {-1e300, 1e-300, -0.5, 2.0}) (*reals)[n] = 1;
    CHECK(reals->begin()->key == -1e300 && reals->from(0.0).begin()->key == 1e-300);
    evh::root<evh::tree<std::string_view, char>> words(heap, "words");
    for (const char *word : {"b", "a", "ab", "", "c"}) (*words)[word] = word[0];
    std::string all;
    for (auto [word, letter] : *words) all += std::string(word) + ",";
    CHECK(all == ",a,ab,b,c,");
    all.clear();
    for (auto [word, letter] : words->between("aa", "c")) all += std::string(word) + ",";
    CHECK(all == "ab,b,");
}

TEST(a_value_whose_constructor_throws_is_not_there)
{
    evh::heap heap = evh::heap::in_memory();
    evh::root<evh::map<int, picky>> map(heap, "map");
    evh::root<evh::tree<std::string_view, picky>> tree(heap, "tree");
    evh::root<evh::vec<picky>> vec(heap, "vec");
    (*map)[1].number = 5;
    (*tree)["one"].number = 5;
    vec->emplace_back();
    CHECK(is_refused([&] { (*map)[2]; }));
    CHECK(is_refused([&] { (*tree)["two"]; }));
    CHECK(is_refused([&] { vec->emplace_back(); }));
    CHECK(is_refused([&] { vec->resize(4); }));
    CHECK(map->size() == 1 && !map->contains(2) && map->at(1).number == 5);
    CHECK(tree->size() == 1 && !tree->contains("two") && tree->at("one").number == 5);
    CHECK(vec->size() == 1 && (*vec)[0].number == 1);
    map->check();
    tree->check();
}

TEST(collections_are_there_in_the_next_run_and_undone_by_a_rollback)
{
    const char *path = test_path("next");
    evh_options options{};
    for (int run = 0; run < 3; run++) {
        options.preferred_address = 0x200000000000u + 0x10000000000u * static_cast<unsigned>(run);
        evh::heap heap(path, options);
        evh::root<evh::map<std::string_view, evh::vec<int>>> index(heap, "index");
        CHECK_EQUAL(index->size(), run * 100);
        for (int i = 0; i < 100; i++)
            (*index)["key " + std::to_string(run * 100 + i)].push_back(run);
        heap.commit();
        (*index)["key 0"].push_back(99);
        (*index)["another"];
        heap.rollback();
        CHECK(index->at("key 0").size() == 1 && !index->contains("another"));
        index->check();
    }
}

TEST(a_full_heap_throws_and_leaves_collections_as_they_were)
{
    evh::heap heap = evh::heap::in_memory(nullptr, 256 << 10);
    evh::root<evh::vec<note>> notes(heap, "notes");
    evh_status status = EVH_OK;
    std::size_t count = 0;
    while (status == EVH_OK) {
        status = status_of([&] {
            notes->emplace_back().title = std::string(1000, 'x');
            count++;
        });
        CHECK(count < 1000);
    }
    CHECK(status == EVH_FULL || status == EVH_NO_MEMORY || status == EVH_LIMIT);
    CHECK(notes->size() == count || notes->size() == count + 1);
    for (std::size_t i = 0; i < count; i++) CHECK_EQUAL(notes->at(i).title.size(), 1000);
    notes->clear();
    notes->emplace_back().title = "room again";
    CHECK(notes->front().title == "room again");
}
