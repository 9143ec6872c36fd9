/* strings_cxx.cpp -- strings.c in C++: a vector of strings that the next run finds again.
 *
 * Usage: strings_cxx FILE add TEXT... | del NUMBER... | list
 */
#include <everheap.hpp>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

using strings = std::vector<evh::str, evh::allocator<evh::str>>;

static void remove_at(strings &list, const char *number)
{
    const unsigned long index = std::strtoul(number, nullptr, 10);
    if (index < list.size())
        list.erase(list.begin() + static_cast<std::ptrdiff_t>(index));
    else
        std::fprintf(stderr, "strings: there is no number %s\n", number);
}

static void run(const char *path, std::string_view what, char **begin, char **end)
{
    evh::heap heap(path);
    evh::root<strings> list(heap, "strings");
    evh::commit_scope scope(heap); /* all of it, or nothing */
    for (char **argument = begin; argument != end; argument++) {
        if (what == "add")
            list->emplace_back(*argument);
        else
            remove_at(*list, *argument);
    }
    scope.commit();
    for (std::size_t i = 0; i < list->size(); i++) std::printf("%zu %s\n", i, (*list)[i].c_str());
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        std::fprintf(stderr, "usage: strings_cxx FILE add TEXT... | del NUMBER... | list\n");
        return 2;
    }
    try {
        run(argv[1], argv[2], argv + 3, argv + argc);
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "strings: %s\n", failure.what());
        return 1;
    }
}
