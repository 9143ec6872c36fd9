/* malloc_threads.c -- programs of several threads whose time goes into allocation. */
#include "malloc_programs.h"

#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 2 }; /* as many as the machines have that this is run on; stated in the output */

static uint64_t below(uint64_t *random, uint64_t limit)
{
    return (uint64_t)(((unsigned __int128)bench_random(random) * limit) >> 64);
}

static unsigned char *get(size_t size)
{
    unsigned char *const block = malloc(size);
    if (!block) bench_die("no memory");
    block[0] = (unsigned char)size;
    block[size - 1] = (unsigned char)size;
    return block;
}

struct worker {
    pthread_t thread;
    void *(*run)(void *);
    unsigned number;
    uint64_t scale, sum;
};

static void worker_start(struct worker *worker)
{
    if (pthread_create(&worker->thread, NULL, worker->run, worker)) bench_die("no thread");
}

/* Run the function in so many threads; the sum of what they found. */
/* Each on a processor of its own: else, from run to run, two share one, and take twice the time. */
static void worker_place(const struct worker *worker)
{
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof all, &all) || CPU_COUNT(&all) < THREADS) return;
    unsigned left = worker->number;
    for (unsigned i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &all) || left-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        (void)pthread_setaffinity_np(worker->thread, sizeof one, &one);
        return;
    }
}

static uint64_t in_threads(unsigned count, void *(*run)(void *), uint64_t scale)
{
    struct worker workers[THREADS];
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        workers[i] = (struct worker){.run = run, .number = i, .scale = scale};
        worker_start(&workers[i]);
        worker_place(&workers[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        sum += workers[i].sum;
    }
    return sum;
}

/* ---- every thread for itself: alloc-testN, glibc-thread ---- */

static void *own_thread(void *context)
{
    enum { SLOTS = 10000 };
    struct worker *const me = context;
    unsigned char **const blocks = calloc(SLOTS, sizeof *blocks);
    uint64_t random = me->number + 1;
    if (!blocks) bench_die("no memory");
    for (uint64_t i = 0; i < me->scale * 16000; i++) {
        unsigned char **const slot = &blocks[below(&random, SLOTS)];
        if (*slot) me->sum += **slot;
        free(*slot);
        /* Few are large. */
        const size_t shift = below(&random, 8);
        *slot = get(1 + below(&random, (size_t)16 << (shift * shift / 7)));
    }
    for (unsigned i = 0; i < SLOTS; i++) free(blocks[i]);
    free(blocks);
    return NULL;
}

static uint64_t run_own(uint64_t scale)
{
    return in_threads(THREADS, own_thread, scale);
}

static uint64_t run_own_alone(uint64_t scale)
{
    return in_threads(1, own_thread, scale);
}

/* ---- a server whose threads end and hand their blocks on: larson ---- */

enum { LARSON_SLOTS = 5000, LARSON_ROUNDS = 10000 };

struct larson {
    struct worker worker;
    unsigned char **blocks;
    uint64_t random, sum;
};

static void *larson_thread(void *context)
{
    struct larson *const me = context;
    for (unsigned i = 0; i < LARSON_ROUNDS; i++) {
        unsigned char **const slot = &me->blocks[below(&me->random, LARSON_SLOTS)];
        me->sum += **slot;
        free(*slot);
        *slot = get(10 + below(&me->random, 990));
    }
    return NULL;
}

static uint64_t run_larson(uint64_t scale)
{
    struct larson servers[THREADS];
    uint64_t sum = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        servers[i] = (struct larson){.worker.run = larson_thread, .random = i + 1};
        servers[i].blocks = calloc(LARSON_SLOTS, sizeof(unsigned char *));
        if (!servers[i].blocks) bench_die("no memory");
        for (unsigned k = 0; k < LARSON_SLOTS; k++)
            servers[i].blocks[k] = get(10 + below(&servers[i].random, 990));
    }
    for (uint64_t round = 0; round < scale * 6 / 10 + 1; round++) {
        /* Each round's threads inherit the blocks of the other's last. */
        unsigned char **const first = servers[0].blocks;
        for (unsigned i = 0; i + 1 < THREADS; i++) servers[i].blocks = servers[i + 1].blocks;
        servers[THREADS - 1].blocks = first;
        for (unsigned i = 0; i < THREADS; i++) worker_start(&servers[i].worker);
        for (unsigned i = 0; i < THREADS; i++) pthread_join(servers[i].worker.thread, NULL);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        for (unsigned k = 0; k < LARSON_SLOTS; k++) free(servers[i].blocks[k]);
        free(servers[i].blocks);
        sum += servers[i].sum & 0;
    }
    return sum;
}

/* ---- objects that migrate between threads: mstress ---- */

enum { TRANSFERS = 1000 };
static unsigned char *transfers[TRANSFERS];

static void *stress_thread(void *context)
{
    struct worker *const me = context;
    enum { KEPT = 4000 };
    unsigned char **const kept = calloc(KEPT, sizeof *kept);
    uint64_t random = me->number * 77 + me->scale + 1;
    if (!kept) bench_die("no memory");
    for (unsigned i = 0; i < 60000; i++) {
        const uint64_t choice = below(&random, 8);
        unsigned char **const slot = &kept[below(&random, KEPT)];
        if (choice < 4) {
            const size_t size = (size_t)8 << below(&random, below(&random, 32) ? 7 : 12);
            free(*slot);
            *slot = get(size);
        } else if (choice < 6) {
            free(*slot);
            *slot = NULL;
        } else {
            unsigned char **const place = &transfers[below(&random, TRANSFERS)];
            *slot = __atomic_exchange_n(place, *slot, __ATOMIC_ACQ_REL);
        }
    }
    for (unsigned i = 0; i < KEPT; i++) free(kept[i]);
    free(kept);
    return NULL;
}

static uint64_t run_stress(uint64_t scale)
{
    for (uint64_t round = 0; round < scale * 15 / 100 + 1; round++)
        (void)in_threads(THREADS, stress_thread, round);
    for (unsigned i = 0; i < TRANSFERS; i++) {
        free(transfers[i]);
        transfers[i] = NULL;
    }
    return 0;
}

/* ---- one thread allocates, the other frees, in batches: xmalloc-test ---- */

enum { PACKET = 120, PACKETS = 64 };

static struct {
    _Alignas(64) uint64_t put;
    _Alignas(64) uint64_t taken;
    _Alignas(64) unsigned char **packets[PACKETS];
} pipe_of_packets;

static void *pipe_thread(void *context)
{
    struct worker *const me = context;
    const uint64_t count = me->scale * 70;
    uint64_t random = 9;
    for (uint64_t i = 0; i < count; i++) {
        if (me->number == 0) {
            unsigned char **const packet = malloc(PACKET * sizeof *packet);
            if (!packet) bench_die("no memory");
            for (unsigned k = 0; k < PACKET; k++) packet[k] = get(8 + below(&random, 248));
            while (i - __atomic_load_n(&pipe_of_packets.taken, __ATOMIC_ACQUIRE) == PACKETS)
                sched_yield();
            pipe_of_packets.packets[i % PACKETS] = packet;
            __atomic_store_n(&pipe_of_packets.put, i + 1, __ATOMIC_RELEASE);
            continue;
        }
        while (__atomic_load_n(&pipe_of_packets.put, __ATOMIC_ACQUIRE) == i) sched_yield();
        unsigned char **const packet = pipe_of_packets.packets[i % PACKETS];
        __atomic_store_n(&pipe_of_packets.taken, i + 1, __ATOMIC_RELEASE);
        for (unsigned k = 0; k < PACKET; k++) {
            me->sum += packet[k][0];
            free(packet[k]);
        }
        free(packet);
    }
    return NULL;
}

static uint64_t run_pipe(uint64_t scale)
{
    pipe_of_packets.put = pipe_of_packets.taken = 0;
    return in_threads(THREADS, pipe_thread, scale);
}

/* ---- batches of each thread, a tenth freed by the other: sh8bench ---- */

enum { BATCH = 2000, PARCEL = BATCH / 10 };

static struct {
    _Alignas(64) unsigned char **parcel;
} mailboxes[THREADS];

static void parcel_free(unsigned char **parcel)
{
    for (unsigned i = 0; parcel && i < PARCEL; i++) free(parcel[i]);
    free(parcel);
}

static void *batch_thread(void *context)
{
    struct worker *const me = context;
    unsigned char **const batch = calloc(BATCH, sizeof *batch);
    if (!batch) bench_die("no memory");
    unsigned char ***const other = &mailboxes[(me->number + 1) % THREADS].parcel;
    for (uint64_t round = 0; round < me->scale * 9; round++) {
        unsigned char **const parcel = malloc(PARCEL * sizeof *parcel);
        if (!parcel) bench_die("no memory");
        for (size_t i = 0; i < BATCH; i++)
            batch[i] = get(1 + (i * (round % 5 + 1)) % (i % 10 ? 100 : 1000));
        for (size_t i = 0; i < PARCEL; i++) {
            parcel[i] = batch[i * 10 + round % 10];
            batch[i * 10 + round % 10] = NULL;
        }
        /* What the other one has not fetched yet is freed here. */
        parcel_free(__atomic_exchange_n(other, parcel, __ATOMIC_ACQ_REL));
        parcel_free(__atomic_exchange_n(&mailboxes[me->number].parcel, NULL, __ATOMIC_ACQ_REL));
        for (size_t i = 0; i < BATCH; i++) free(batch[i]);
    }
    free(batch);
    return NULL;
}

static uint64_t run_shared_batches(uint64_t scale)
{
    (void)in_threads(THREADS, batch_thread, scale);
    for (unsigned k = 0; k < THREADS; k++) parcel_free(mailboxes[k].parcel);
    return 0;
}

/* ---- blocks made by one thread are written and freed by others: cache-scratch ---- */

static void *scratch_thread(void *context)
{
    struct worker *const me = context;
    static unsigned char *given[THREADS];
    if (me->scale == 0) {
        given[me->number] = get(8);
        return NULL;
    }
    free(given[me->number]);
    given[me->number] = NULL;
    for (uint64_t i = 0; i < me->scale * 60; i++) {
        unsigned char *const block = get(8);
        for (unsigned k = 0; k < 4000; k++) {
            block[k % 8] = (unsigned char)(block[k % 8] + k);
            __asm__ volatile("" : : : "memory");
        }
        me->sum += block[0];
        free(block);
    }
    return NULL;
}

/* The first blocks come from one thread, one behind the other: an allocator that hands them out
 * again makes their new owners share a cache line. */
static uint64_t run_scratch(uint64_t scale)
{
    for (unsigned i = 0; i < THREADS; i++) {
        struct worker maker = {.number = i};
        (void)scratch_thread(&maker);
    }
    return in_threads(THREADS, scratch_thread, scale);
}

/* ---- the table ---- */

const struct malloc_program malloc_thread_programs[] = {
    {"own-1", "as own-2, by one thread: half the work", true, run_own_alone},
    {"own-2", "each thread replaces blocks of its own (alloc-testN)", true, run_own},
    {"larson-2", "short-lived threads hand their blocks on (larson)", true, run_larson},
    {"stress-2", "objects migrate between short-lived threads (mstress)", true, run_stress},
    {"pipe-2", "one thread allocates, the other frees (xmalloc-test)", true, run_pipe},
    {"batches-2", "batches, a tenth freed by the other thread (sh8bench)", true,
     run_shared_batches},
    {"scratch-2", "blocks of another thread are used again (cache-scratch)", true, run_scratch},
    {0},
};
