/* counter.cpp -- counter.c in C++: each counts on in the other's file. */
#include <everheap.hpp>

#include <cstdio>

int main(int count, char **arguments)
{
    if (count != 3) return 2;
    try {
        evh::heap heap(arguments[1]);
        evh::root<evh::map<std::string_view, std::uint32_t>> words(heap, "words");
        const std::uint32_t times = ++(*words)[arguments[2]];
        heap.commit();
        std::printf("everheap %s: %s %u\n", evh_version(), arguments[2], times);
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return 1;
    }
}
