/* json_demo.c -- real JSON in a heap, asked from new processes, killed among its updates. */
#define _POSIX_C_SOURCE 200809L
#include <everheap.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 *     json_demo [COMMAND [FILE]]
 *
 * COMMAND is the program `everheap`, FILE a JSON text (twitter.json, or one of iso-codes). It is
 * loaded into a heap; then each step below is a process of its own, as a shell would start it:
 *
 *   1. a path is read, a reference is followed, a word is searched for, a patch is applied; the
 *      same asked of jq and python3, which read the text each time
 *   2. a process makes durable updates, one commit each; among 30 of them it is killed
 *   3. another opens what is left: no update that was acknowledged is missing, and there is no half
 *      of one
 */

extern char **environ;

enum { UPDATES = 30, OUTPUT_MAX = 1 << 16 };

static void give_up(const char *what)
{
    fprintf(stderr, "json_demo: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---- processes ---- */

static char output[OUTPUT_MAX];

/* Run a program; its standard output goes to `output`. Returns the seconds that it took; below 0 if
 * it is not installed or failed. */
static double run(const char *const *words)
{
    int ends[2];
    if (pipe(ends)) give_up("pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    const double start = now_seconds();
    pid_t process;
    const int error =
        posix_spawnp(&process, words[0], &actions, NULL, (char **)(uintptr_t)words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t size = 0;
    for (ssize_t more = 1; more > 0; size += more > 0 ? (size_t)more : 0) {
        char waste[4096];
        const bool is_full = size >= sizeof output - 1;
        more = read(ends[0], is_full ? waste : output + size,
                    is_full ? sizeof waste : sizeof output - 1 - size);
        if (is_full) size = sizeof output - 1 - (more > 0 ? (size_t)more : 0);
    }
    output[size] = 0;
    close(ends[0]);
    if (error) return -1;
    int status = 0;
    while (waitpid(process, &status, 0) < 0 && errno == EINTR) continue;
    const double seconds = now_seconds() - start;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? seconds : -1;
}

/* ---- the text ---- */

/* Where things are in a text of this kind. */
struct source {
    const char *file;
    const char *list;   /* path of an array */
    const char *jq;     /* the same for jq */
    const char *python; /* and for python3 */
    const char *name;   /* a member of its items */
    const char *word;   /* that occurs */
};

static const struct source sources[] = {
    {"twitter.json", "/statuses", ".statuses", "['statuses']", "text", "RT @"},
    {"iso_3166-2.json", "/3166-2", ".[\"3166-2\"]", "['3166-2']", "name", "Saint"},
    {"iso_639-3.json", "/639-3", ".[\"639-3\"]", "['639-3']", "name", "Sign"},
};

static const struct source made = {"made.json", "/items", ".items", "['items']", "name", "fox"};

/* Statuses are what one makes up when there is no real text. */
static void make_text(const char *path)
{
    FILE *const file = fopen(path, "w");
    if (!file) give_up(path);
    fputs("{\"items\":[", file);
    for (int i = 0; i < 20000; i++)
        fprintf(file,
                "%s{\"id\":%d,\"name\":\"the %d%s fox\",\"tags\":[\"a\",\"b%d\"],\"ok\":true}",
                i ? "," : "", i, i, i % 7 ? "th" : "th quick", i % 100);
    fputs("]}", file);
    if (fclose(file)) give_up(path);
}

/* Find a text: the one that is asked for, test data, Debian's iso-codes; or make one. */
static const struct source *find_text(const char *asked, char *path, size_t size)
{
    static const char *const folders[] = {"/usr/share/iso-codes/json"};
    const char *const data = getenv("EVERHEAP_TEST_DATA");
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        const size_t name_size = strlen(sources[i].file);
        if (asked && strlen(asked) >= name_size &&
            strcmp(asked + strlen(asked) - name_size, sources[i].file) == 0) {
            snprintf(path, size, "%s", asked);
            return &sources[i];
        }
        snprintf(path, size, "%s/json/bench/%s", data ? data : "", sources[i].file);
        if (!asked && data && access(path, R_OK) == 0) return &sources[i];
        snprintf(path, size, "%s/%s", folders[0], sources[i].file);
        if (!asked && access(path, R_OK) == 0) return &sources[i];
    }
    if (asked) give_up("twitter.json or a text of iso-codes is needed");
    return NULL;
}

/* ---- steps ---- */

struct demo {
    const char *command;
    const char *text;
    const char *heap;
    const char *python; /* the system's: a shim would be slower still */
    const struct source *source;
};

static void print_seconds(double seconds)
{
    if (seconds < 0)
        printf("%12s", "-");
    else
        printf("%9.1f ms", seconds * 1e3);
}

/* One line of the table, with the medians of some runs, and what everheap said. */
static void compare(const char *what, const char *const *ours, const char *const *jq,
                    const char *const *python)
{
    const char *const *const words[] = {ours, jq, python};
    char answer[60] = "";
    printf("%-30s", what);
    for (int i = 0; i < 3; i++) {
        double best = -1;
        for (int round = 0; round < 5 && words[i]; round++) {
            const double seconds = run(words[i]);
            if (i == 0 && seconds < 0) give_up(what);
            if (best < 0 || seconds < best) best = seconds;
        }
        if (i == 0) snprintf(answer, sizeof answer, "%.*s", (int)strcspn(output, "\n"), output);
        print_seconds(best);
        fflush(stdout);
    }
    size_t size = strlen(answer) < 32 ? strlen(answer) : 32;
    while (size > 0 && ((unsigned char)answer[size] & 0xc0) == 0x80) size--; /* whole characters */
    printf("   %.*s\n", (int)size, answer);
}

static void ask(const struct demo *demo)
{
    const struct source *const s = demo->source;
    char path[200], jq[200], python[400], search[300], pysearch[400], patched[300];
    snprintf(path, sizeof path, "%s/90/%s", s->list, s->name);
    snprintf(jq, sizeof jq, "%s[90].%s", s->jq, s->name);
    snprintf(python, sizeof python,
             "import json,sys\nprint(json.load(open(sys.argv[1]))%s[90]['%s'])", s->python,
             s->name);
    printf("\n%-30s%12s%12s%12s   everheap says\n", "a process each", "everheap", "jq", "python3");
    compare("read a path",
            (const char *const[]){demo->command, "json", "get", demo->heap, path, "--raw", NULL},
            (const char *const[]){"jq", "-r", jq, demo->text, NULL},
            (const char *const[]){demo->python, "-c", python, demo->text, NULL});
    char reference[300];
    snprintf(reference, sizeof reference, "{\"favourite\":{\"$ref\":\"%s/90\"}}", s->list);
    if (run((const char *const[]){demo->command, "json", "put", demo->heap, "/demo", reference,
                                  NULL}) < 0)
        give_up("put");
    snprintf(path, sizeof path, "/demo/favourite/%s", s->name);
    compare("follow a reference",
            (const char *const[]){demo->command, "json", "get", demo->heap, path, "--raw", NULL},
            NULL, NULL);
    snprintf(search, sizeof search, "[.. | strings | select(contains(\"%s\"))] | length", s->word);
    snprintf(pysearch, sizeof pysearch,
             "import json,sys\ndef f(v):\n  if isinstance(v,str): return '%s' in v\n"
             "  if isinstance(v,dict): v=v.values()\n"
             "  return sum(map(f,v)) if hasattr(v,'__iter__') else 0\n"
             "print(f(json.load(open(sys.argv[1]))))",
             s->word);
    compare("search for a word",
            (const char *const[]){demo->command, "json", "search", demo->heap, s->word, NULL},
            (const char *const[]){"jq", search, demo->text, NULL},
            (const char *const[]){demo->python, "-c", pysearch, demo->text, NULL});
    snprintf(patched, sizeof patched,
             "[{\"op\":\"add\",\"path\":\"%s/0/seen\",\"value\":true},"
             "{\"op\":\"test\",\"path\":\"/demo/favourite\",\"value\":{\"$ref\":\"%s/90\"}}]",
             s->list, s->list);
    snprintf(jq, sizeof jq, "%s[0].seen = true", s->jq);
    snprintf(python, sizeof python,
             "import json,sys\nd=json.load(open(sys.argv[1]))\nd%s[0]['seen']=True\n"
             "json.dumps(d)",
             s->python);
    compare("patch it (durably only here)",
            (const char *const[]){demo->command, "json", "patch", demo->heap, "", patched, NULL},
            (const char *const[]){"jq", "-c", jq, demo->text, NULL},
            (const char *const[]){demo->python, "-c", python, demo->text, NULL});
}

/* In a process of its own: update after update, told when it is durable. */
static void update(const char *heap, int told)
{
    evh_db *const db = evh_db_open(heap, NULL);
    for (uint64_t i = 1; db; i++) {
        const bool is_done = !evh_db_put_unsigned(db, "/demo/counter", i) &&
                             !evh_db_increment(db, "/demo/sum", (int64_t)i) &&
                             !evh_db_put_text(db, "/demo/last", "updated", 7) && !evh_db_commit(db);
        if (!is_done || write(told, &i, sizeof i) != sizeof i) break;
    }
    _exit(1);
}

/* Returns whether what is left is that of an update. */
static bool kill_among_updates(const struct demo *demo, uint64_t random)
{
    int ends[2];
    if (pipe(ends)) give_up("pipe");
    const pid_t process = fork();
    if (process < 0) give_up("fork");
    if (process == 0) update(demo->heap, ends[1]);
    close(ends[1]);
    uint64_t acknowledged = 0;
    const uint64_t until = 5 + random % (UPDATES - 5);
    const double start = now_seconds();
    while (acknowledged < until &&
           read(ends[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged)
        continue;
    const double seconds = now_seconds() - start;
    kill(process, SIGKILL);
    while (read(ends[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged) continue;
    waitpid(process, NULL, 0);
    close(ends[0]);
    printf("\nUpdates, a commit each: %.2f ms. Killed behind number %llu.\n",
           seconds * 1e3 / (double)until, (unsigned long long)acknowledged);
    const double opened =
        run((const char *const[]){demo->command, "json", "get", demo->heap, "/demo/counter", NULL});
    const uint64_t counter = strtoull(output, NULL, 10);
    (void)run((const char *const[]){demo->command, "json", "get", demo->heap, "/demo/sum", NULL});
    const uint64_t sum = strtoull(output, NULL, 10);
    const double checked =
        run((const char *const[]){demo->command, "json", "check", demo->heap, NULL});
    const bool is_right = checked >= 0 && counter >= acknowledged && counter <= acknowledged + 1 &&
                          sum == counter * (counter + 1) / 2;
    printf(
        "A new process, %.1f ms later, finds number %llu, its sum %llu, and a sound document: %s\n",
        opened * 1e3, (unsigned long long)counter, (unsigned long long)sum,
        is_right ? "yes" : "NO");
    return is_right;
}

int main(int count, char **words)
{
    char here[4096], command[4200], text[4200], heap[4200];
    const char *const slash = strrchr(words[0], '/');
    snprintf(here, sizeof here, "%.*s", slash ? (int)(slash - words[0]) : 1,
             slash ? words[0] : ".");
    snprintf(command, sizeof command, "%s/../everheap", here);
    snprintf(heap, sizeof heap, "%s/json.heap", here);
    struct demo demo = {.command = count > 1 ? words[1] : command, .text = text, .heap = heap};
    demo.python = access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : "python3";
    demo.source = find_text(count > 2 ? words[2] : NULL, text, sizeof text);
    if (!demo.source) {
        snprintf(text, sizeof text, "%s/%s", here, made.file);
        make_text(text);
        demo.source = &made;
    }
    unlink(heap);
    const double loaded =
        run((const char *const[]){demo.command, "json", "load", heap, "--from", text, NULL});
    if (loaded < 0) give_up("everheap json load");
    printf("%s: loaded and durable after %.1f ms.\n", text, loaded * 1e3);
    fflush(stdout);
    ask(&demo);
    fflush(stdout);
    const char *const seed = getenv("SEED");
    uint64_t random = (uint64_t)time(NULL);
    if (seed) random = strtoull(seed, NULL, 0);
    const bool is_right = kill_among_updates(&demo, random);
    unlink(heap);
    return is_right ? 0 : 1;
}
