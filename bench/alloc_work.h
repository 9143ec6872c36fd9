/* alloc_work.h -- the allocation workloads. Included once for each allocator interface. */

/*
 * No include guard: alloc_bench.c includes this file twice, so that calls to malloc() and to
 * evh_malloc() are both direct. It defines before each
 *
 *   WORK(name)                   the name of a function here
 *   ALLOCATE(size)               ALLOCATE_ZERO(size)   ALLOCATE_ALIGNED(alignment, size)
 *   RESIZE(block, size)          RELEASE(block)
 *
 * Every workload writes the first word of each block that it gets, as a program would, and returns
 * nanoseconds for one operation. What lives at the end is compared with what was written, untimed.
 */

/* A block for slot `slot`, marked as that slot's. */
static inline void *WORK(make)(size_t size, uint64_t slot)
{
    uint64_t *block = ALLOCATE(size);
    if (!block) bench_die("allocation of %zu bytes failed", size);
    *block = slot;
    __asm__ volatile("" : "+r"(block) : : "memory"); /* or the compiler leaves the pair out */
    return block;
}

static void WORK(check_and_release)(void **blocks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (*(const uint64_t *)blocks[i] != i) bench_die("block %zu holds another's mark", i);
        RELEASE(blocks[i]);
    }
}

/* Allocate and free at once. */
static double WORK(pair)(const struct alloc_test *test, uint64_t target_ns)
{
    enum { CHUNK = 20000 };
    struct alloc_clock clock = clock_start(target_ns);
    do {
        for (unsigned i = 0; i < CHUNK; i++) {
            void *const block = WORK(make)(test->size, i);
            RELEASE(block);
        }
    } while (clock_goes_on(&clock, CHUNK));
    return clock_result(&clock);
}

/* The oldest of `live` blocks is replaced. */
static double WORK(ring)(const struct alloc_test *test, uint64_t target_ns)
{
    void **const blocks = shared_memory(test->live * sizeof *blocks);
    for (size_t i = 0; i < test->live; i++) blocks[i] = WORK(make)(test->size, i);
    struct alloc_clock clock = clock_start(target_ns);
    do {
        for (size_t i = 0; i < test->live; i++) {
            RELEASE(blocks[i]);
            blocks[i] = WORK(make)(test->size, i);
        }
    } while (clock_goes_on(&clock, test->live));
    WORK(check_and_release)(blocks, test->live);
    return clock_result(&clock);
}

/* All blocks are allocated, then all freed in the test's order; one of the two is timed. */
static double WORK(batch)(const struct alloc_test *test, uint64_t target_ns)
{
    void **const blocks = shared_memory(test->live * sizeof *blocks);
    uint32_t *const order = shared_memory(test->live * sizeof *order);
    fill_order(order, test->live, test->order);
    struct alloc_clock clock = clock_start(target_ns);
    for (bool goes_on = true; goes_on;) {
        if (test->times_free) clock_pause(&clock);
        for (size_t i = 0; i < test->live; i++) blocks[i] = WORK(make)(test->size, i);
        if (test->times_free)
            clock_resume(&clock);
        else
            clock_pause(&clock);
        for (size_t i = 0; i < test->live; i++) RELEASE(blocks[order[i]]);
        if (!test->times_free) clock_resume(&clock);
        goes_on = clock_goes_on(&clock, test->live);
    }
    return clock_result(&clock);
}

/* A random one of `live` blocks is replaced by one of another size. */
static double WORK(mixed)(const struct alloc_test *test, uint64_t target_ns)
{
    enum { CHUNK = 10000 };
    void **const blocks = shared_memory(test->live * sizeof *blocks);
    const uint32_t *const sizes = alloc_sizes(test);
    uint64_t random = 1, next = 0;
    for (size_t i = 0; i < test->live; i++) blocks[i] = WORK(make)(sizes[next++ % SIZES], i);
    struct alloc_clock clock = clock_start(target_ns);
    do {
        for (unsigned k = 0; k < CHUNK; k++) {
            const size_t i = (size_t)((bench_random(&random) >> 32) * test->live >> 32);
            RELEASE(blocks[i]);
            blocks[i] = WORK(make)(sizes[next++ % SIZES], i);
        }
    } while (clock_goes_on(&clock, CHUNK));
    WORK(check_and_release)(blocks, test->live);
    return clock_result(&clock);
}

static double WORK(zeroed)(const struct alloc_test *test, uint64_t target_ns)
{
    enum { CHUNK = 5000 };
    struct alloc_clock clock = clock_start(target_ns);
    do {
        for (unsigned i = 0; i < CHUNK; i++) {
            unsigned char *block = ALLOCATE_ZERO(test->size);
            if (!block || block[0] || block[test->size - 1]) bench_die("calloc: not zero");
            memset(block, 255, 8);
            block[test->size - 1] = 255;
            __asm__ volatile("" : "+r"(block) : : "memory");
            RELEASE(block);
        }
    } while (clock_goes_on(&clock, CHUNK));
    return clock_result(&clock);
}

static double WORK(aligned)(const struct alloc_test *test, uint64_t target_ns)
{
    enum { CHUNK = 5000 };
    struct alloc_clock clock = clock_start(target_ns);
    do {
        for (unsigned i = 0; i < CHUNK; i++) {
            uint64_t *block = ALLOCATE_ALIGNED(test->live, test->size);
            if (!block || (uintptr_t)block % test->live) bench_die("aligned: wrong address");
            *block = i;
            __asm__ volatile("" : "+r"(block) : : "memory");
            RELEASE(block);
        }
    } while (clock_goes_on(&clock, CHUNK));
    return clock_result(&clock);
}

/* A block grows from 16 bytes to `size`, by half or by 16 bytes. An operation is one resizing. */
static double WORK(growth)(const struct alloc_test *test, uint64_t target_ns)
{
    struct alloc_clock clock = clock_start(target_ns);
    uint64_t steps;
    do {
        steps = 0;
        size_t size = 16;
        uint64_t *block = WORK(make)(size, 42);
        while (size < test->size) {
            size = test->live ? size + test->live : size + size / 2;
            block = RESIZE(block, size);
            if (!block) bench_die("realloc failed");
            ((unsigned char *)block)[size - 1] = 1;
            __asm__ volatile("" : "+r"(block) : : "memory");
            steps++;
        }
        if (*block != 42) bench_die("realloc lost the content");
        RELEASE(block);
    } while (clock_goes_on(&clock, steps));
    return clock_result(&clock);
}

/* ---- threads ---- */

struct WORK(runner) {
    const struct alloc_test *test;
    uint64_t target_ns;
    double result;
};

static double WORK(run)(const struct alloc_test *test, uint64_t target_ns);

static void *WORK(run_thread)(void *context)
{
    struct WORK(runner) *const runner = context;
    runner->result = WORK(run)(runner->test, runner->target_ns);
    return NULL;
}

/* The same work in two threads at once: the mean of what each measures. */
static double WORK(two)(const struct alloc_test *test, uint64_t target_ns)
{
    struct alloc_test alone = *test;
    alone.kind = test->thread_kind;
    struct WORK(runner) runners[2] = {{&alone, target_ns, 0}, {&alone, target_ns, 0}};
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, WORK(run_thread), &runners[i]))
            bench_die("no thread");
    for (unsigned i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    return (runners[0].result + runners[1].result) / 2;
}

static void *WORK(consume)(void *context)
{
    struct alloc_queue *const queue = context;
    uint64_t expected = 0;
    for (void *block; (block = queue_take(queue)); expected++) {
        if (*(const uint64_t *)block != expected) bench_die("the queue lost a block");
        RELEASE(block);
    }
    return NULL;
}

/* One thread allocates, another frees. An operation is one block's way. */
static double WORK(producer)(const struct alloc_test *test, uint64_t target_ns)
{
    enum { CHUNK = 10000 };
    struct alloc_queue *const queue = shared_memory(sizeof *queue);
    pthread_t consumer;
    if (pthread_create(&consumer, NULL, WORK(consume), queue)) bench_die("no thread");
    struct alloc_clock clock = clock_start(target_ns);
    uint64_t next = 0;
    do {
        for (unsigned i = 0; i < CHUNK; i++) queue_put(queue, WORK(make)(test->size, next++));
    } while (clock_goes_on(&clock, CHUNK));
    queue_put(queue, NULL);
    pthread_join(consumer, NULL);
    return clock_result(&clock);
}

static void *WORK(short_life)(void *context)
{
    enum { BLOCKS = 100 };
    const struct alloc_test *const test = context;
    void *blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) blocks[i] = WORK(make)(test->size, i);
    WORK(check_and_release)(blocks, BLOCKS);
    return NULL;
}

/* Threads that allocate a hundred blocks, free them and end. An operation is one thread. */
static double WORK(churn)(const struct alloc_test *test, uint64_t target_ns)
{
    struct alloc_clock clock = clock_start(target_ns);
    do {
        pthread_t thread;
        if (pthread_create(&thread, NULL, WORK(short_life), (void *)(uintptr_t)test))
            bench_die("no thread");
        pthread_join(thread, NULL);
    } while (clock_goes_on(&clock, 1));
    return clock_result(&clock);
}

static double WORK(run)(const struct alloc_test *test, uint64_t target_ns)
{
    switch (test->kind) {
    case ALLOC_PAIR: return WORK(pair)(test, target_ns);
    case ALLOC_RING: return WORK(ring)(test, target_ns);
    case ALLOC_BATCH: return WORK(batch)(test, target_ns);
    case ALLOC_MIXED: return WORK(mixed)(test, target_ns);
    case ALLOC_ZEROED: return WORK(zeroed)(test, target_ns);
    case ALLOC_ALIGNED: return WORK(aligned)(test, target_ns);
    case ALLOC_GROWTH: return WORK(growth)(test, target_ns);
    case ALLOC_TWO: return WORK(two)(test, target_ns);
    case ALLOC_PRODUCER: return WORK(producer)(test, target_ns);
    case ALLOC_CHURN: return WORK(churn)(test, target_ns);
    }
    return 0;
}

/* ---- pages dirtied ---- */

static void WORK(replace)(struct alloc_aged *aged, size_t i, bool fills)
{
    if (aged->blocks[i]) RELEASE(aged->blocks[i]);
    const uint32_t size = aged->sizes[aged->next++ % SIZES];
    aged->blocks[i] = WORK(make)(size, i);
    if (fills) memset((char *)aged->blocks[i] + 8, (int)i & 255, size - 8);
    if (aged->is_counting) aged_note(aged, aged->blocks[i], size);
}

/* A heap of a million live blocks that has been in use for a while. */
static void WORK(age)(struct alloc_aged *aged)
{
    for (size_t i = 0; i < AGED_BLOCKS; i++) WORK(replace)(aged, i, true);
    for (size_t i = 0; i < 3 * AGED_BLOCKS; i++) WORK(replace)(aged, aged_pick(aged), false);
    for (size_t i = 0; i < AGED_BLOCKS / 10; i++) {
        const size_t k = aged_pick(aged);
        if (aged->blocks[k]) RELEASE(aged->blocks[k]);
        aged->blocks[k] = NULL;
    }
    for (size_t i = 0; i < AGED_BLOCKS / 10; i++) {
        size_t k = aged_pick(aged);
        WORK(replace)(aged, k, false);
    }
}

static struct dirty_pages WORK(dirty_of_frees)(struct alloc_aged *aged, size_t count)
{
    aged_begin(aged);
    for (size_t i = 0; i < count;) {
        const size_t k = aged_pick(aged);
        if (!aged->blocks[k]) continue;
        RELEASE(aged->blocks[k]);
        aged->blocks[k] = NULL;
        i++;
    }
    const struct dirty_pages pages = aged_end(aged);
    for (size_t k = 0; k < AGED_BLOCKS; k++) /* as full as before */
        if (!aged->blocks[k] && count-- > 0) WORK(replace)(aged, k, false);
    return pages;
}

static struct dirty_pages WORK(dirty_of_replaces)(struct alloc_aged *aged, size_t count)
{
    aged_begin(aged);
    for (size_t i = 0; i < count;) {
        const size_t k = aged_pick(aged);
        if (!aged->blocks[k]) continue;
        WORK(replace)(aged, k, true);
        i++;
    }
    return aged_end(aged);
}

static void WORK(dirty)(struct alloc_aged *aged, struct dirty_pages pages[DIRTY_FIGURES])
{
    WORK(age)(aged);
    for (unsigned i = 0; i < DIRTY_FIGURES; i++)
        pages[i] = dirty_figures[i].is_replace
                       ? WORK(dirty_of_replaces)(aged, dirty_figures[i].count)
                       : WORK(dirty_of_frees)(aged, dirty_figures[i].count);
}
