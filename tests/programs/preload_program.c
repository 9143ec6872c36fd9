/* preload_program.c -- what a program may expect of malloc(); preload_test.c starts it on ours. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The compiler knows what malloc() promises, and would leave the checks out. */
static void *hidden(void *pointer)
{
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

static size_t hidden_size(size_t size)
{
    __asm__ volatile("" : "+r"(size));
    return size;
}

static void check_sizes(void)
{
    for (size_t size = 0; size < 300000; size += size / 7 + 1) {
        unsigned char *block = hidden(malloc(size));
        EXPECT(block != NULL);
        EXPECT((uintptr_t)block % 16 == 0);
        EXPECT(malloc_usable_size(block) >= size);
        memset(block, 0xa5, malloc_usable_size(block));
        unsigned char *zeroed = hidden(calloc(1, size));
        EXPECT(zeroed != NULL);
        for (size_t i = 0; i < size; i++) EXPECT(zeroed[i] == 0);
        block = hidden(realloc(block, size + 100));
        EXPECT(block != NULL);
        for (size_t i = 0; i < size; i++) EXPECT(block[i] == 0xa5);
        memset(zeroed, 0xff, size);
        free(zeroed);
        free(block);
    }
}

static void check_zero_and_null(void)
{
    void *first = hidden(malloc(0));
    void *second = hidden(malloc(0));
    EXPECT(first != NULL && second != NULL && first != second);
    free(second);
    free(NULL);
    EXPECT(realloc(first, hidden_size(0)) == NULL);
    first = hidden(realloc(NULL, 10));
    EXPECT(first != NULL);
    free(first);
    EXPECT(malloc_usable_size(NULL) == 0);
}

static void check_alignment(void)
{
    for (size_t alignment = 8; alignment <= (size_t)1 << 22; alignment *= 2)
        for (size_t size = 0; size < 200000; size = size * 3 + 1) {
            void *block = NULL;
            EXPECT(posix_memalign(&block, alignment, size) == 0);
            EXPECT((uintptr_t)hidden(block) % alignment == 0);
            memset(block, 1, size);
            free(block);
            block = hidden(aligned_alloc(alignment, size));
            EXPECT(block != NULL && (uintptr_t)block % alignment == 0);
            free(block);
        }
    void *untouched = &untouched;
    EXPECT(posix_memalign(&untouched, hidden_size(24), 10) == EINVAL);
    EXPECT(posix_memalign(&untouched, hidden_size(4), 10) == EINVAL);
    EXPECT(untouched == &untouched);
    void *page = hidden(valloc(10));
    EXPECT((uintptr_t)page % 4096 == 0);
    free(page);
    page = hidden(pvalloc(5000));
    EXPECT((uintptr_t)page % 4096 == 0 && malloc_usable_size(page) >= 8192);
    free(page);
}

static void check_errors(void)
{
    errno = 0;
    EXPECT(malloc(hidden_size(SIZE_MAX)) == NULL && errno == ENOMEM);
    errno = 0;
    EXPECT(malloc(hidden_size((size_t)1 << 60)) == NULL && errno == ENOMEM);
    errno = 0;
    EXPECT(calloc(hidden_size((size_t)1 << 33), (size_t)1 << 33) == NULL && errno == ENOMEM);
    errno = 0;
    EXPECT(reallocarray(NULL, hidden_size((size_t)1 << 33), (size_t)1 << 33) == NULL);
    EXPECT(errno == ENOMEM);
    char *kept = hidden(strdup("kept"));
    errno = 0;
    EXPECT(realloc(kept, hidden_size(SIZE_MAX / 2)) == NULL && errno == ENOMEM);
    EXPECT(strcmp(kept, "kept") == 0);
    errno = 77;
    free(kept);
    free(hidden(malloc(1 << 20)));
    EXPECT(errno == 77);
}

/* How much of the process is in memory. */
static size_t resident_bytes(void)
{
    size_t size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT(file && fscanf(file, "%zu %zu", &size, &resident) == 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* A large table costs what is used of it, and is zero also where blocks were before. */
static void check_large(void)
{
    enum { SIZE = 256 << 20, STEP = 1 << 20 };
    const size_t before = resident_bytes();
    for (unsigned round = 0; round < 2; round++) {
        char *table = hidden(calloc(1, hidden_size(SIZE)));
        EXPECT(table != NULL);
        for (size_t i = 0; i < SIZE; i += STEP) EXPECT(table[i] == 0 && table[i + STEP - 1] == 0);
        EXPECT(resident_bytes() < before + SIZE / 4);
        memset(table, 1, SIZE / 8);
        free(table);
    }
}

/* ---- threads and forks ---- */

static void *exchanged[64];

static pthread_key_t key;

/* Runs while the thread ends: some of the time after the allocator's own. */
static void late(void *block)
{
    free(block);
    free(hidden(malloc(100)));
}

static void *thread_run(void *unused)
{
    uint64_t random = (uintptr_t)&random;
    pthread_setspecific(key, hidden(malloc(50)));
    for (unsigned i = 0; i < 20000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        void **slot = &exchanged[random >> 58];
        free(__atomic_exchange_n(slot, malloc(random >> 40 & 4095), __ATOMIC_ACQ_REL));
    }
    return unused;
}

static void check_threads(void)
{
    pthread_t threads[4];
    pthread_key_create(&key, late);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 4; i++)
            EXPECT(pthread_create(&threads[i], NULL, thread_run, NULL) == 0);
        for (unsigned i = 0; i < 4; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
    }
}

/* Children use what they inherited and allocate anew, while threads of the parent do the same. */
static void check_forks(void)
{
    pthread_t thread;
    pthread_key_create(&key, late);
    char *inherited = strdup("inherited");
    for (unsigned round = 0; round < 50; round++) {
        EXPECT(pthread_create(&thread, NULL, thread_run, NULL) == 0);
        const pid_t child = fork();
        EXPECT(child >= 0);
        if (child == 0) {
            inherited = realloc(inherited, 5000);
            EXPECT(inherited && strcmp(inherited, "inherited") == 0);
            free(inherited);
            check_sizes();
            for (unsigned i = 0; i < 64; i++) free(exchanged[i]);
            _exit(7);
        }
        int status = 0;
        EXPECT(waitpid(child, &status, 0) == child);
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        EXPECT(pthread_join(thread, NULL) == 0);
    }
    free(inherited);
}

/* Threads hold the C library's locks of streams while they allocate, and the heap's while they wait
 * for nothing: a fork takes both. */
static uint32_t streams_end;

static void *streams_flush(void *unused)
{
    while (!__atomic_load_n(&streams_end, __ATOMIC_RELAXED)) fflush(NULL);
    return unused;
}

static void *streams_read(void *file)
{
    while (!__atomic_load_n(&streams_end, __ATOMIC_RELAXED)) {
        char *line = NULL;
        size_t size = 0;
        rewind(file);
        EXPECT(getline(&line, &size, file) > 0);
        free(line);
    }
    return file;
}

static void *streams_allocate(void *unused)
{
    while (!__atomic_load_n(&streams_end, __ATOMIC_RELAXED)) {
        void *blocks[50];
        for (size_t i = 0; i < 50; i++) blocks[i] = hidden(malloc(100000 + i * 7000));
        for (size_t i = 0; i < 50; i++) free(blocks[i]);
    }
    return unused;
}

static void check_streams(void)
{
    FILE *file = tmpfile();
    EXPECT(file != NULL);
    for (unsigned i = 0; i < 3000000; i++) fputc('a', file);
    fputc('\n', file);
    pthread_t threads[3];
    alarm(120); /* whoever waits for ever ends */
    EXPECT(pthread_create(&threads[0], NULL, streams_flush, NULL) == 0);
    EXPECT(pthread_create(&threads[1], NULL, streams_read, file) == 0);
    EXPECT(pthread_create(&threads[2], NULL, streams_allocate, NULL) == 0);
    for (unsigned i = 0; i < 20; i++) {
        int status = 0;
        const pid_t child = fork();
        EXPECT(child >= 0);
        if (child == 0) {
            FILE *other = fopen("/dev/null", "w");
            EXPECT(other != NULL && fclose(other) == 0);
            _exit(0);
        }
        EXPECT(waitpid(child, &status, 0) == child && status == 0);
    }
    __atomic_store_n(&streams_end, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 3; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
    fclose(file);
    /* Alone, a child's streams work as well. */
    int status = 0;
    const pid_t child = fork();
    if (child == 0) _exit(fflush(NULL) ? 1 : 0);
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

/* ---- misuse ---- */

static void misuse_double(void)
{
    char *block = hidden(malloc(40));
    char *again = hidden(block + 1);
    free(block);
    free(hidden(again - 1));
}

static void misuse_interior(void)
{
    char *block = hidden(malloc(40));
    free(hidden(block + 16));
}

/* Blocks that are given back are looked at. */
static void misuse_late(void)
{
    misuse_double();
    (void)malloc_trim(0);
}

static void misuse_foreign(void)
{
    static char foreign[64];
    free(hidden(foreign));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"sizes", check_sizes},    {"null", check_zero_and_null}, {"alignment", check_alignment},
        {"errors", check_errors},  {"threads", check_threads},    {"forks", check_forks},
        {"double", misuse_double}, {"interior", misuse_interior}, {"foreign", misuse_foreign},
        {"streams", check_streams}, {"large", check_large},       {"late", misuse_late},
    };
    for (unsigned i = 0; argc > 1 && i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) != 0) continue;
        parts[i].run();
        printf("%s: fine\n", argv[1]);
        return 0;
    }
    return 2;
}
