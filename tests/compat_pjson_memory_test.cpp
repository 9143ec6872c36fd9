/* compat_pjson_memory_test.cpp -- what the layers below pjson_db promise, one by one. */
#include "pjson_db.h"
#include "test.h"

#include <cstdio>
#include <map>

namespace
{

PersistentAddressSpace &pam()
{
    return PersistentAddressSpace::Get();
}

/* A space in a new file. */
std::string begin(const char *name = "pam")
{
    const std::string path = test_path(name);
    PersistentAddressSpace::Init(path.c_str());
    return path;
}

/* As another run of the program finds it. */
void again(const std::string &path)
{
    CHECK(pam().Save());
    PersistentAddressSpace::Init(path.c_str());
}

struct Point {
    int x, y;
};

} // namespace

/* ---- the space ---- */

TEST(without_a_file_the_space_is_in_memory)
{
    const fptr<int> number = AddressManager<int>::Create();
    CHECK(number != nullptr && *number == 0);
    CHECK(pam().Validate());
}

TEST(what_was_created_is_zero_and_is_found_by_its_name_again)
{
    const std::string path = begin();
    const std::uint64_t offset = pam().Create<Point>("origin");
    CHECK(offset != 0 && pam().Resolve<Point>(offset)->x == 0);
    pam().Resolve<Point>(offset)->y = 7;
    again(path);
    CHECK(pam().Find("origin") == offset);
    CHECK(pam().Resolve<Point>(offset)->y == 7);
    CHECK(std::strcmp(pam().GetName(offset), "origin") == 0);
    CHECK(pam().GetCount(offset) == 1 && pam().GetElemSize(offset) == sizeof(Point));
}

TEST(names_are_unique_and_have_63_bytes_at_most)
{
    begin();
    const std::string longest(63, 'n');
    CHECK(pam().Create<int>("one") != 0);
    CHECK(pam().Create<int>("one") == 0);
    CHECK(pam().Create<int>(longest.c_str()) != 0);
    CHECK(pam().Create<int>((longest + "n").c_str()) == 0);
    CHECK(pam().CreateArray<int>(0) == 0);
    CHECK(pam().GetNamedCount() == 2 && pam().GetSlotCount() == 2 && pam().GetTypeCount() == 1);
}

TEST(an_object_is_found_by_its_type_only)
{
    begin();
    const std::uint64_t offset = pam().Create<double>("pi");
    CHECK(pam().FindTyped<double>("pi") == offset);
    CHECK(pam().FindTyped<int>("pi") == 0);
    CHECK(pam().Find("tau") == 0 && pam().Find(nullptr) == 0);
}

TEST(a_deleted_object_frees_its_name)
{
    begin();
    const std::uint64_t offset = pam().Create<int>("x");
    pam().Delete(offset);
    CHECK(pam().Find("x") == 0 && pam().GetSlotCount() == 0);
    pam().Delete(offset);
    pam().Delete(0);
    CHECK(pam().Create<int>("x") != 0);
    CHECK(pam().Validate());
}

TEST(addresses_and_offsets_name_each_other)
{
    begin();
    const std::uint64_t offset = pam().CreateArray<int>(10);
    int *first = pam().Resolve<int>(offset);
    CHECK(pam().PtrToOffset(first) == offset && pam().FindByPtr(first) == offset);
    CHECK(pam().PtrToOffset(first + 3) == offset + 3 * sizeof(int));
    CHECK(pam().FindByPtr(first + 3) == 0);
    int outside = 0;
    CHECK(pam().PtrToOffset(&outside) == 0 && pam().PtrToOffset(nullptr) == 0);
    CHECK(pam().Resolve<int>(0) == nullptr && pam().Resolve<int>(UINT64_MAX) == nullptr);
    CHECK(pam().GetName(offset) == nullptr && pam().GetCount(12345) == 0);
}

TEST(an_index_beyond_the_end_is_a_zero_that_changes_nothing)
{
    begin();
    fptr<int> numbers;
    numbers.NewArray(3);
    numbers[2] = 5;
    numbers[3] = 9;
    CHECK(numbers[2] == 5 && numbers[3] == 0 && numbers.count() == 3);
}

TEST(an_array_grows_where_it_is_or_not_at_all)
{
    begin();
    const std::uint64_t offset = pam().CreateArray<char>(20);
    CHECK(pam().Realloc(offset, 20, 24, 1) == offset);
    CHECK(pam().GetCount(offset) == 24);
    CHECK(pam().Realloc(offset, 24, 1 << 20, 1) == 0);
    CHECK(pam().Realloc(offset, 20, 30, 1) == 0);
    CHECK(pam().GetCount(offset) == 24);
}

TEST(a_reset_space_is_empty)
{
    begin();
    fptr<pvector<int>> numbers;
    numbers.New("numbers");
    (void)pam_intern_string("word");
    pam().Reset();
    CHECK(pam().GetSlotCount() == 0 && pam().Find("numbers") == 0 && pam_all_strings().empty());
    CHECK(pam().Create<int>("numbers") != 0);
}

TEST(what_was_not_saved_is_saved_at_the_end)
{
    const std::string path = begin();
    *AddressManager<int>::Create("n") = 5;
    begin("another");
    PersistentAddressSpace::Init(path.c_str());
    CHECK(*fptr<int>("n") == 5);
}

TEST(a_file_that_is_no_heap_is_left_as_it_is)
{
    const std::string path = test_path("foreign");
    std::FILE *file = std::fopen(path.c_str(), "w");
    CHECK(file && std::fputs("this is text", file) >= 0 && std::fclose(file) == 0);
    PersistentAddressSpace::Init(path.c_str());
    CHECK(pam().Create<int>("n") != 0);
    CHECK(!pam().Save() && !pam().Validate());
    begin();
    char text[20] = "";
    file = std::fopen(path.c_str(), "r");
    CHECK(file && std::fgets(text, sizeof text, file) && std::fclose(file) == 0);
    CHECK(std::strcmp(text, "this is text") == 0);
}

/* ---- pointers ---- */

TEST(a_pointer_is_eight_bytes_and_leads_to_its_object)
{
    const std::string path = begin();
    fptr<Point> point;
    CHECK(point == nullptr && point.get() == nullptr);
    point.New("p");
    point->x = 1;
    (*point).y = 2;
    const std::uint64_t offset = point.addr();
    again(path);
    fptr<Point> found("p");
    CHECK(found.addr() == offset && found->x == 1 && found->y == 2);
    fptr<Point> same;
    same.set_addr(offset);
    CHECK(same == found);
    same.Delete();
    CHECK(same == nullptr && fptr<Point>("p") == nullptr);
}

TEST(a_pointer_in_the_image_leads_on)
{
    const std::string path = begin();
    fptr<fptr<int>> outer;
    outer.New("outer");
    outer->New();
    **outer = 42;
    again(path);
    CHECK(**fptr<fptr<int>>("outer") == 42);
}

TEST(a_persistent_number_is_as_large_as_the_number)
{
    begin();
    fptr<pdouble> number;
    number.New("d");
    *number = 2.5;
    const double &value = *number;
    CHECK(value == 2.5 && sizeof(pint) == sizeof(int));
}

/* ---- containers ---- */

TEST(a_vector_grows_by_doubling_from_four)
{
    const std::string path = begin();
    fptr<pvector<int>> numbers;
    numbers.New("numbers");
    CHECK(numbers->empty() && numbers->capacity() == 0);
    for (int i = 0; i < 1000; i++) {
        numbers->push_back(i);
        CHECK(numbers->capacity() >= 4 && (numbers->capacity() & (numbers->capacity() - 1)) == 0);
    }
    again(path);
    numbers.find("numbers");
    int sum = 0;
    for (int number : *numbers) sum += number;
    CHECK(sum == 499500 && numbers->front() == 0 && numbers->back() == 999);
    numbers->pop_back();
    numbers->erase_at(0);
    CHECK(numbers->size() == 998 && (*numbers)[0] == 1 && (*numbers)[998] == 0);
    const std::size_t room = numbers->capacity();
    numbers->clear();
    CHECK(numbers->empty() && numbers->capacity() == room);
    numbers->free();
    CHECK(numbers->capacity() == 0 && pam().Validate());
}

TEST(an_item_of_its_own_can_be_pushed)
{
    begin();
    fptr<pvector<int>> numbers;
    numbers.New();
    numbers->push_back(7);
    for (int i = 0; i < 100; i++) numbers->push_back(numbers->front());
    CHECK(numbers->back() == 7);
}

TEST(a_header_is_an_array_by_functions)
{
    begin();
    fptr<pmem_array_hdr> array;
    array.New();
    pmem_array_init(*array);
    const auto less = [](const int &a, const int &b) { return a < b; };
    for (int number : {5, 1, 3, 5, 2, 4}) pmem_array_insert_sorted<int>(*array, number, less);
    CHECK(pmem_array_size(*array) == 5);
    for (int i = 0; i < 5; i++)
        CHECK(pmem_array_at<int>(*array, static_cast<std::size_t>(i)) == i + 1);
    CHECK(*pmem_array_find_sorted<int>(*array, 3, less) == 3);
    CHECK(pmem_array_find_sorted<int>(*array, 9, less) == nullptr);
    pmem_array_erase_at<int>(*array, 0);
    pmem_array_push_back<int>(*array) = 6;
    pmem_array_pop_back<int>(*array);
    CHECK(pmem_array_push_back<int>(*array) == 0);
    pmem_array_free(*array);
    CHECK(pmem_array_capacity(*array) == 0);
}

/* Compared with std::map over random changes and a new run. */
TEST(a_map_is_in_the_order_of_its_keys)
{
    const std::string path = begin();
    fptr<pmap<int, Point>> map;
    map.New("map");
    std::map<int, int> model;
    std::uint64_t state = test_seed();
    for (int i = 0; i < 3000; i++) {
        const int key = static_cast<int>(test_random(&state) % 400);
        switch (test_random(&state) % 3) {
        case 0: CHECK(map->erase(key) == (model.erase(key) > 0)); break;
        case 1:
            map->insert(key, Point{i, 0});
            model[key] = i;
            break;
        default:
            (*map)[key].x += 1;
            model[key] += 1;
            break;
        }
    }
    again(path);
    map.find("map");
    CHECK(map->size() == model.size() && map->find(1000) == nullptr);
    auto expected = model.begin();
    for (const auto &entry : *map) {
        CHECK(entry.key == expected->first && entry.value.x == expected->second);
        ++expected;
    }
    map->clear();
    CHECK(map->empty());
    map->free();
}

TEST(a_string_is_assigned_and_compared)
{
    const std::string path = begin();
    fptr<pstring> text;
    text.New("text");
    CHECK(text->empty() && std::strcmp(text->c_str(), "") == 0);
    text->assign("one");
    *text = text->c_str();
    *text = "two";
    (*text)[0] = 'T';
    again(path);
    text.find("text");
    CHECK(*text == "Two" && *text != "two" && text->size() == 3 && (*text)[9] == 0);
    fptr<pstring> other;
    other.New();
    other->assign("Zwo");
    CHECK(*text < *other && *text != *other);
    text->assign(nullptr);
    CHECK(text->empty());
    other->clear();
    CHECK(*text == *other);
}

TEST(equal_strings_of_the_dictionary_have_equal_offsets)
{
    const std::string path = begin();
    fptr<pstringview> name;
    name.New("name");
    name->intern("path");
    const pam_interned first = pam_intern_string("path");
    CHECK(first.chars_offset == name->chars_offset && first.length == 4);
    CHECK(pam_intern_string("").chars_offset != 0);
    CHECK(pam_intern_string(nullptr).chars_offset == pam_intern_string("").chars_offset);
    for (int i = 0; i < 2000; i++) (void)pam_intern_string(std::to_string(i).c_str());
    again(path);
    name.find("name");
    pstringview same{};
    same.intern("path");
    CHECK(same == *name && same == "path" && same.size() == 4 && !same.empty());
    pstringview other{};
    other.intern("zebra");
    CHECK(other != *name && *name < other && pstringview_table::size() == 2003);
}

TEST(the_dictionary_is_searched_by_substrings)
{
    begin();
    for (const char *word : {"alpha", "alphabet", "beta"}) (void)pam_intern_string(word);
    CHECK(pam_search_strings("alpha").size() == 2);
    CHECK(pam_search_strings("bet").size() == 2);
    CHECK(pam_search_strings("x").empty());
    CHECK(pam_all_strings().size() == 3);
    for (const pam_found &found : pam_all_strings())
        CHECK(found.value == pam().Resolve<char>(found.chars_offset));
}

TEST(the_allocator_serves_containers_of_the_library)
{
    begin();
    std::vector<int, pallocator<int>> numbers;
    for (int i = 0; i < 1000; i++) numbers.push_back(i);
    CHECK(pam().PtrToOffset(numbers.data()) != 0 && numbers[999] == 999);
}

TEST(ten_thousand_objects_use_again_what_was_freed)
{
    const std::string path = begin();
    std::vector<std::uint64_t> all;
    for (int i = 0; i < 10000; i++) all.push_back(pam().Create<Point>());
    for (std::size_t i = 0; i < all.size(); i += 2) pam().Delete(all[i]);
    const std::size_t before = pam().GetDataSize();
    for (int i = 0; i < 5000; i++) CHECK(pam().Create<Point>() != 0);
    CHECK(pam().GetDataSize() == before);
    again(path);
    CHECK(pam().GetSlotCount() == 10000 && pam().Validate());
}
