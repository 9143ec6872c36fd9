/* wordcount_demo.c -- kill the word counter 30 times, then compare every count with a plain run. */
#define _POSIX_C_SOURCE 200809L
#include "text.h"
#include "wordcount.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 *     wordcount_demo [DIRECTORY...]
 *
 *   1. count the words in ordinary memory, without interruption: the truth
 *   2. run wordcount on a new heap and kill it with SIGKILL 30 times, spread over the files, at
 *      random moments: while it counts, commits, grows its table, or (every fifth) while it opens
 *      the heap
 *   3. after each kill, see that it resumes at the file it was killed in, or right behind it if the
 *      commit was through already
 *   4. let it finish, check the heap, compare every count
 *
 * The counter says through a pipe what it is doing (its option -v): so a kill meets it at work.
 */

enum {
    KILLS = 30,
    OPENING_EVERY = 5,         /* every fifth kill strikes while the heap is opened */
    ATTEMPTS_MAX = 50 * KILLS, /* runs; with very little text most of them finish before the kill */
};

static double now_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* splitmix64 */
static uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void give_up(const char *format, const char *detail)
{
    fprintf(stderr, "wordcount_demo: ");
    fprintf(stderr, format, detail);
    fprintf(stderr, "\n");
    exit(1);
}

/* ---- the truth: the same count in ordinary memory ---- */

struct memory_word {
    char *text; /* NULL: a free place */
    uint64_t count;
};

struct memory_table {
    struct memory_word *words; /* open addressing, at most half full */
    size_t capacity;
    size_t word_count;
    uint64_t total;
    bool is_skipped[TEXT_FILES_MAX];
};

static void *need(void *memory)
{
    if (!memory) give_up("no %s", "memory");
    return memory;
}

/* The place of a word, or the free place where it belongs. */
static struct memory_word *memory_find(const struct memory_table *table, const char *text,
                                       size_t size)
{
    size_t i = text_hash(text, size) & (table->capacity - 1);
    while (table->words[i].text && strcmp(table->words[i].text, text) != 0) {
        i = (i + 1) & (table->capacity - 1);
    }
    return &table->words[i];
}

static void memory_grow(struct memory_table *table)
{
    struct memory_table larger = *table;
    larger.capacity = table->capacity ? 2 * table->capacity : 4096;
    larger.words = need(calloc(larger.capacity, sizeof *larger.words));
    for (size_t i = 0; i < table->capacity; i++) {
        const struct memory_word *const place = &table->words[i];
        if (place->text) *memory_find(&larger, place->text, strlen(place->text)) = *place;
    }
    free(table->words);
    *table = larger;
}

static struct memory_table *memory_count(const struct text_list *list)
{
    static char buffer[TEXT_FILE_BYTES_MAX + 1];
    struct memory_table *const table = need(calloc(1, sizeof *table));
    for (size_t i = 0; i < list->count; i++) {
        const struct text_file *const file = &list->files[i];
        table->is_skipped[i] = !text_read(file->path, file->size, file->modified_ns, buffer);
        if (table->is_skipped[i]) continue;
        char text[TEXT_WORD_MAX + 1];
        const char *cursor = buffer;
        for (size_t size; (size = text_next_word(&cursor, buffer + file->size, text)) > 0;) {
            if (2 * table->word_count >= table->capacity) memory_grow(table);
            struct memory_word *const place = memory_find(table, text, size);
            if (!place->text) {
                place->text = need(strdup(text));
                table->word_count++;
            }
            place->count++;
            table->total++;
        }
    }
    return table;
}

static void memory_free(struct memory_table *table)
{
    for (size_t i = 0; i < table->capacity; i++) free(table->words[i].text);
    free(table->words);
    free(table);
}

/* ---- running and killing the counter ---- */

/* When to kill a run: `delay_seconds` after it says that it opens the heap, or after it says that
 * it begins the file `file` or a later one. */
struct plan {
    bool is_kill;
    bool is_opening;
    uint64_t file;
    double delay_seconds;
};

struct demo {
    char program[4096];
    char heap[4096];
    char **words; /* of the counter's command line, ends at NULL */
    uint64_t file_count;
    uint64_t random;

    uint64_t at_file; /* what the counter was last heard to work on */
    bool has_resumed; /* this run has opened the heap */
    unsigned kills, opening_kills, recoveries, beginnings;
    double recovery_seconds, recovery_max_seconds;
};

static pid_t start_counter(const struct demo *demo, FILE **output)
{
    int ends[2];
    if (pipe(ends)) give_up("pipe: %s", strerror(errno));
    const pid_t process = fork();
    if (process < 0) give_up("fork: %s", strerror(errno));
    if (process == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execv(demo->program, demo->words);
        perror(demo->program);
        _exit(127);
    }
    close(ends[1]);
    *output = fdopen(ends[0], "r");
    if (!*output) give_up("fdopen: %s", strerror(errno));
    return process;
}

/* Wait without giving up the processor, because the moments of interest are microseconds apart. */
static void kill_after(pid_t process, double delay_seconds)
{
    const double end = now_seconds() + delay_seconds;
    while (now_seconds() < end) {
    }
    kill(process, SIGKILL);
}

/* A run has opened the heap: it must be where the one before it left off, neither earlier (a commit
 * was lost) nor later (one was invented). */
static void see_resumed(struct demo *demo, uint64_t file, double seconds, bool was_killed)
{
    if (file != demo->at_file && file != demo->at_file + 1) {
        char text[128];
        snprintf(text, sizeof text, "%llu after it was killed in file %llu",
                 (unsigned long long)file, (unsigned long long)demo->at_file);
        give_up("it resumed at file %s", text);
    }
    if (was_killed) {
        printf("%s in %.1f ms\n", file == demo->at_file ? "resumed there" : "resumed behind it",
               seconds * 1e3);
        demo->recoveries++;
        demo->recovery_seconds += seconds;
        if (seconds > demo->recovery_max_seconds) demo->recovery_max_seconds = seconds;
    }
    demo->at_file = file;
    demo->has_resumed = true;
}

/* One run of the counter. True if it was killed, false if it finished. */
static bool run_counter(struct demo *demo, struct plan plan, bool was_killed)
{
    FILE *output;
    const pid_t process = start_counter(demo, &output);
    char line[256];
    bool is_killed = false;
    demo->has_resumed = false;
    while (fgets(line, sizeof line, output)) {
        unsigned long long file = 0;
        double opening_ms = 0;
        bool is_moment = false;
        if (strcmp(line, "opening\n") == 0) {
            is_moment = plan.is_opening;
        } else if (sscanf(line, "resumed %llu %lf", &file, &opening_ms) == 2) {
            see_resumed(demo, file, opening_ms / 1e3, was_killed);
            was_killed = false;
        } else if (sscanf(line, "file %llu", &file) == 1) {
            demo->at_file = file;
            is_moment = !plan.is_opening && file >= plan.file;
        } else if (strcmp(line, "done\n") == 0) {
            demo->at_file = demo->file_count;
        } else if (!plan.is_kill) {
            fputs(line, stdout); /* its result */
        }
        if (plan.is_kill && is_moment && !is_killed) {
            kill_after(process, plan.delay_seconds);
            is_killed = true; /* go on reading what it said before it died */
        }
    }
    fclose(output);

    int status;
    if (waitpid(process, &status, 0) != process) give_up("wait: %s", strerror(errno));
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && is_killed) {
        if (!demo->has_resumed) {
            printf("killed again\n");
            demo->recovery_seconds += plan.delay_seconds;
        }
        return true;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status)) give_up("%s failed", demo->program);
    return false;
}

/* Kill it KILLS times. The places are spread over the files; a tenth is left for the last run. */
static void run_and_kill(struct demo *demo)
{
    bool was_killed = false;
    for (int attempt = 0; demo->kills < KILLS; attempt++) {
        if (attempt == ATTEMPTS_MAX) give_up("there is too little %s to be killed in", "text");
        const uint64_t share = demo->file_count * 9 / 10 + 1;
        struct plan plan = {.is_kill = true};
        plan.is_opening = was_killed && demo->kills % OPENING_EVERY == OPENING_EVERY - 1;
        plan.file = (demo->kills * share + random_next(&demo->random) % share) / KILLS;
        /* From 1 us to 4 ms (opening: to 1 ms), small ones as often as large ones. */
        plan.delay_seconds =
            (double)(1u << random_next(&demo->random) % (plan.is_opening ? 10 : 12)) *
            (1 + (double)(random_next(&demo->random) >> 11) / 0x1p53) / 1e6;
        if (!run_counter(demo, plan, was_killed)) {
            /* With very little text it may finish before the kill. Then it begins anew. */
            unlink(demo->heap);
            demo->at_file = 0;
            demo->beginnings++;
            was_killed = false;
            continue;
        }
        demo->kills++;
        if (!demo->has_resumed) demo->opening_kills++;
        printf("  kill %2u of %d at file %llu of %llu%s: ", demo->kills, KILLS,
               (unsigned long long)demo->at_file, (unsigned long long)demo->file_count,
               demo->has_resumed ? "" : ", while opening");
        fflush(stdout);
        was_killed = true;
    }
    run_counter(demo, (struct plan){0}, was_killed);
}

/* ---- comparing ---- */

/* See that the heap's list of files is ours, with the same files skipped. If not, somebody changed
 * the text while the demo ran, and no comparison means anything. */
static void compare_sources(const evh_heap *heap, const counter *c, const struct text_list *list,
                            const struct memory_table *truth)
{
    const source *const sources = source_at(heap, c->sources);
    if (c->source_count != list->count) give_up("the %s changed meanwhile; run it again", "text");
    for (size_t i = 0; i < list->count; i++) {
        const char *const path = evh_at(heap, sources[i].path);
        if (strcmp(path, list->files[i].path) != 0 || sources[i].size != list->files[i].size ||
            sources[i].modified_ns != list->files[i].modified_ns ||
            (sources[i].is_skipped != 0) != truth->is_skipped[i]) {
            give_up("%s changed meanwhile; run it again", list->files[i].path);
        }
    }
}

/* How many words of the heap or of the truth are missing from the other, or counted differently. */
static uint64_t compare_words(const evh_heap *heap, const counter *c,
                              const struct memory_table *truth)
{
    uint64_t same = 0, different = 0;
    const bucket *const buckets = bucket_at(heap, c->buckets);
    for (uint64_t i = 0; i < c->bucket_count; i++) {
        for (const word *w = word_at(heap, buckets[i].first); w; w = word_at(heap, w->next)) {
            const struct memory_word *const place = memory_find(truth, w->text, w->size);
            if (place->text && place->count == w->count)
                same++;
            else
                different++;
        }
    }
    return different + (truth->word_count - same) + (truth->total != c->total) +
           (truth->word_count != c->word_count);
}

/* The last step. True if every count is right. */
static bool compare(const struct demo *demo, const struct text_list *list,
                    const struct memory_table *truth)
{
    const evh_options options = {.mode = EVH_READ_ONLY};
    evh_heap *const heap = evh_open(demo->heap, &options);
    if (!heap) give_up("%s", evh_last_error()->message);
    const counter *const c = evh_root_find(heap, COUNTER_ROOT, NULL);
    if (!c) give_up("%s", evh_last_error()->message);
    if (evh_check(heap, NULL, NULL)) give_up("check: %s", evh_last_error()->message);
    compare_sources(heap, c, list, truth);
    const uint64_t differences = compare_words(heap, c, truth);
    evh_info info;
    if (evh_get_info(heap, &info)) give_up("%s", evh_last_error()->message);

    printf("\nfiles counted            %llu\n", (unsigned long long)c->source_count);
    printf("words                    %llu, %llu of them different\n", (unsigned long long)c->total,
           (unsigned long long)c->word_count);
    printf("blocks in the heap       %llu, %.1f MiB, check: clean\n",
           (unsigned long long)info.live_blocks, (double)info.live_bytes / 0x1p20);
    printf("commits                  %llu\n", (unsigned long long)info.commit_sequence);
    printf("kills survived           %u, %u of them while recovering\n", demo->kills,
           demo->opening_kills);
    printf("time lost to recovery    %.1f ms in all, %.1f ms at most\n",
           demo->recovery_seconds * 1e3, demo->recovery_max_seconds * 1e3);
    if (differences) printf("differences              %llu\n", (unsigned long long)differences);
    evh_close(heap);
    return differences == 0;
}

/* The counter and the heap lie beside this program. */
static void find_files(struct demo *demo, const char *self)
{
    const char *const slash = strrchr(self, '/');
    const int size = slash ? (int)(slash - self) : 1;
    const char *const directory = slash ? self : ".";
    snprintf(demo->program, sizeof demo->program, "%.*s/wordcount", size, directory);
    snprintf(demo->heap, sizeof demo->heap, "%.*s/wordcount.heap", size, directory);
}

int main(int count, char **words)
{
    char *const default_directories[] = {TEXT_DEFAULT_DIRECTORIES};
    char *const *const directories = count > 1 ? words + 1 : default_directories;
    const int directory_count = count > 1 ? count - 1 : 2;
    const double begin = now_seconds();
    static struct demo demo;
    find_files(&demo, words[0]);
    const char *const seed = getenv("SEED");
    demo.random = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;

    struct text_list *const list = need(text_list_make(directories, directory_count));
    if (list->count == 0) give_up("no text in %s", directories[0]);
    printf("Counting the words of %zu files, %.1f MiB, under %s%s%s (SEED=%llu).\n\n", list->count,
           (double)list->bytes / 0x1p20, directories[0], directory_count > 1 ? " and " : "",
           directory_count > 1 ? directories[1] : "", (unsigned long long)demo.random);
    fflush(stdout);
    struct memory_table *const truth = memory_count(list);
    printf("In ordinary memory, uninterrupted: %.2f s.\n", now_seconds() - begin);
    printf("In %s, a commit after each file, killed %d times:\n", demo.heap, KILLS);
    fflush(stdout);

    /* wordcount -v HEAP DIRECTORY... */
    demo.words = need(calloc((size_t)directory_count + 4, sizeof *demo.words));
    char verbose[] = "-v";
    demo.words[0] = demo.program;
    demo.words[1] = verbose;
    demo.words[2] = demo.heap;
    for (int i = 0; i < directory_count; i++) demo.words[3 + i] = directories[i];
    demo.file_count = list->count;
    unlink(demo.heap);
    run_and_kill(&demo);

    const bool is_identical = compare(&demo, list, truth);
    printf("time in all              %.1f s\n", now_seconds() - begin);
    printf("identical: %s\n", is_identical ? "yes" : "NO");
    free(demo.words);
    memory_free(truth);
    text_list_free(list);
    return is_identical ? 0 : 1;
}
