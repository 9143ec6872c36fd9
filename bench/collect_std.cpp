/* collect_std.cpp -- std::unordered_map and std::map, for the benchmark of the collections. */
#include "collect_std.h"

#include <chrono>
#include <map>
#include <unordered_map>

namespace
{

double now_ns()
{
    return std::chrono::duration<double, std::nano>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

template <class Map>
void run(const uint64_t *keys, const uint64_t *queries, size_t count, collect_times *times)
{
    Map map;
    uint64_t sum = 0;
    const double start = now_ns();
    for (size_t i = 0; i < count; i++) map[keys[i]] = keys[i];
    const double put = now_ns();
    for (size_t i = 0; i < count; i++) sum += map.find(queries[i])->second;
    const double get = now_ns();
    for (size_t i = 0; i < count; i++) sum += map.find(queries[i] + 1) != map.end();
    const double absent = now_ns();
    for (const auto &item : map) sum += item.first;
    const double scan = now_ns();
    for (size_t i = 0; i < count; i++) map.erase(queries[i]);
    const double erase = now_ns();
    __asm__ volatile("" : : "r"(sum));
    *times = {put - start, get - put, absent - get, scan - absent, erase - scan};
}

} // namespace

bool collect_std_run(bool is_ordered, const uint64_t *keys, const uint64_t *queries, size_t count,
                     collect_times *times)
{
    if (is_ordered)
        run<std::map<uint64_t, uint64_t>>(keys, queries, count, times);
    else
        run<std::unordered_map<uint64_t, uint64_t>>(keys, queries, count, times);
    return true;
}
