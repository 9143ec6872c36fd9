/* collect_std.h -- what the collections are measured beside: C++ containers, LMDB, SQLite. */
#ifndef EVERHEAP_BENCH_COLLECT_STD_H
#define EVERHEAP_BENCH_COLLECT_STD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Nanoseconds of each phase, for all keys together. */
struct collect_times {
    double put, get, absent, scan, erase;
};

/** Put all keys into an std::unordered_map, or with `is_ordered` an std::map, look them up in the
 *  order of `queries`, step through it, erase them. False: built without a C++ compiler. */
bool collect_std_run(bool is_ordered, const uint64_t *keys, const uint64_t *queries, size_t count,
                     struct collect_times *times);

/** A store of 64-bit values by 64-bit keys. */
struct collect_store {
    const char *name;
    void *(*open)(const char *path); /* NULL: not built in */
    /** Put the values, in one transaction. */
    void (*put)(void *store, const uint64_t *keys, const uint64_t *values, size_t count);
    /** Whether the transactions from now on may be lost by a power cut, not by a kill: none waits
     *  for the disk. False makes all durable that were made before. */
    void (*relax)(void *store, bool is_relaxed);
    void (*close)(void *store);
};

extern const struct collect_store collect_lmdb, collect_sqlite;

#ifdef __cplusplus
}
#endif

#endif
