/* recorder.h -- a flight recorder: the last things that happened, readable after any death. */
#ifndef EVERHEAP_RECORDER_H
#define EVERHEAP_RECORDER_H

#include <everheap/inspect.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A ring of records in a root of a heap; in a live heap it holds what was recorded up to the
 * instruction at which a process was killed. Arguments are stored as they are, and made text when
 * somebody reads: `everheap tail FILE`, while the program runs and after it is dead.
 *
 *     evh_recorder *recorder = evh_recorder_open(heap, "log", 4096);
 *     EVH_RECORD(recorder, "accepted %s:%d", host, port);
 *
 * A record takes 128 bytes: 88 for arguments (8 each; of a string as much as fits). Formats are
 * those of printf() without %n, %Lf and stars; a heap keeps up to 512 of them, each once.
 */
typedef struct evh_recorder evh_recorder;

/**
 * The recorder called `name` (a root), made with room for at least `records` records (at most
 * 16,777,216) if it is not there.
 * Returns   the recorder, owned: end it with evh_recorder_close() before the heap. A forked child
 *           opens its own.
 * Errors    as evh_root(); EVH_INVALID (no records), EVH_CORRUPT (the root is no recorder).
 */
EVH_API evh_recorder *evh_recorder_open(evh_heap *heap, const char *name, uint64_t records);
/** End it; NULL is fine. What it recorded stays. */
EVH_API void evh_recorder_close(evh_recorder *recorder);

/* What EVH_RECORD() remembers of a place in the program. */
typedef struct evh_record_site {
    uint64_t serial;
    uint32_t format;
    char kinds[12];
} evh_record_site;

/**
 * Record a format and its arguments. NULL recorder: nothing happens. The macro gives each place in
 * the program a `site` of its own, which remembers its format.
 * Threads   any, of any process (in a live heap); nobody waits.
 * Crash     it is there, or missing and counted.
 * Cost      about 100 ns, one cache miss.
 */
EVH_API void evh_record_at(evh_recorder *recorder, evh_record_site *site, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define EVH_RECORD(recorder, ...)                                                                  \
    do {                                                                                           \
        static __thread evh_record_site evh_record_site_here;                                      \
        evh_record_at(recorder, &evh_record_site_here, __VA_ARGS__);                               \
    } while (0)

typedef struct evh_record {
    uint64_t number;  /* from 1 */
    uint64_t time_ns; /* wall clock since 1970 */
    uint32_t process, thread;
    const char *text; /* borrowed until the callback returns; of what is no format, "?" */
} evh_record;

/** Called for each record; returns false to stop. */
typedef bool evh_record_visit(const evh_record *record, void *context);

/**
 * Visit the records of the recorder `name` with numbers above `after`, the oldest first. `missing`
 * (may be NULL) receives how many of those are not there: overwritten, or half written when
 * somebody was killed. `heap` may be read-only, of any process.
 * Errors    EVH_NOT_FOUND, EVH_CORRUPT, EVH_INVALID.
 */
EVH_API evh_status evh_recorder_each(evh_heap *heap, const char *name, uint64_t after,
                                     evh_record_visit *visit, void *context, uint64_t *missing);

#ifdef __cplusplus
}
#endif

#endif
