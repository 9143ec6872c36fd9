/* hello_cxx.cpp -- the idea in C++: a vector in a file that the next run finds again. */
#include <everheap.hpp>
#include <cstdio>
#include <vector>

int main()
{
    evh::heap heap("hello_cxx.heap"); /* create it, or recover it */
    evh::root<std::vector<int, evh::allocator<int>>> runs(heap, "runs"); /* made the first time */
    runs->push_back(static_cast<int>(runs->size()) + 1);
    for (const int run : *runs) std::printf("run %d\n", run);
    heap.commit(); /* both the item and the vector's growth, or neither */
}
