/* snapshot_test.c -- a past commit that the journal holds is shown, or refused; never a mixture.
 *
 * Strategy: a writer commits states in which words in many pages carry the number of the commit;
 * others open views of commits that are not the newest, beside the writer and after it was killed.
 * Invariant: a view of commit s that opens, and is valid, shows the state of commit s.
 */
#include "test.h"

#include <everheap.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 24, BLOCK_BYTES = 5000 };

struct state {
    uint64_t sequence; /* of the commit that this is */
    evh_ref blocks[WORDS];
};

static uint64_t sequence_of(evh_heap *heap)
{
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    return info.commit_sequence;
}

static struct state *state_make(evh_heap *heap)
{
    CHECK(heap != NULL);
    struct state *state = evh_root(heap, "state", sizeof *state);
    CHECK(state != NULL);
    for (int i = 0; i < WORDS; i++)
        if (state->blocks[i].offset == 0)
            CHECK_EQUAL(evh_malloc_to(heap, &state->blocks[i], BLOCK_BYTES), EVH_OK);
    return state;
}

/* Change some of the words' pages a little, or all of one: the others stay as an older commit has
 * left them. */
static void commit_next(evh_heap *heap, struct state *state, uint64_t *random)
{
    const uint64_t sequence = sequence_of(heap) + 1;
    state->sequence = sequence;
    for (int i = 0; i < WORDS; i++) {
        if (i && test_random(random) % 4) continue;
        uint64_t *words = evh_at(heap, state->blocks[i]);
        words[1] = words[0]; /* the commit before that changed it */
        words[0] = sequence;
        if (test_random(random) % 7 == 0) memset(words + 2, (int)sequence, BLOCK_BYTES - 16);
    }
    CHECK_EQUAL(evh_commit(heap), EVH_OK);
    CHECK_EQUAL(sequence_of(heap), sequence);
}

/* Whether this is the state of commit `sequence`: none of its words is newer, and the first one is
 * as new. */
static bool is_state_of(evh_heap *heap, uint64_t sequence)
{
    const struct state *state = evh_root_find(heap, "state", NULL);
    if (!state || state->sequence != sequence) return false;
    for (int i = 0; i < WORDS; i++) {
        const uint64_t *words = evh_at(heap, state->blocks[i]);
        if (!words || words[0] > sequence || (words[0] && words[1] >= words[0])) return false;
        if (i == 0 && words[0] != sequence) return false;
    }
    return true;
}

static evh_heap *open_past(const char *path, evh_mode mode, uint64_t sequence)
{
    return evh_open(
        path, &(evh_options){.mode = mode, .commit_sequence = sequence, .scattered = sequence % 2});
}

static void check_refused(const char *path, uint64_t sequence, evh_status why)
{
    CHECK(!open_past(path, EVH_READ_ONLY, sequence));
    CHECK_EQUAL(evh_last_error()->status, why);
}

TEST(a_past_commit_is_shown_while_it_is_not_home)
{
    const char *const path = test_path("past");
    evh_heap *const heap = evh_open(path, &(evh_options){.no_thread = true});
    struct state *const state = state_make(heap);
    uint64_t random = test_seed();
    for (int i = 0; i < 150; i++) commit_next(heap, state, &random); /* the journal grows */
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    for (int i = 0; i < 10; i++) commit_next(heap, state, &random);
    const uint64_t newest = sequence_of(heap);
    uint64_t shown = 0;
    for (uint64_t sequence = newest; sequence > 0; sequence--) {
        evh_heap *const past =
            open_past(path, sequence % 2 ? EVH_READ_ONLY : EVH_PRIVATE, sequence);
        if (!past) {
            for (; sequence > 0; sequence--) check_refused(path, sequence, EVH_STALE);
            break;
        }
        shown++;
        CHECK(is_state_of(past, sequence));
        CHECK_EQUAL(sequence_of(past), sequence);
        CHECK_EQUAL(evh_check(past, NULL, NULL), EVH_OK);
        CHECK_EQUAL(evh_close(past), EVH_OK);
    }
    CHECK(shown > 1);
    check_refused(path, newest + 1, EVH_NOT_FOUND);
    CHECK(!evh_open(path, &(evh_options){.commit_sequence = newest}));
    CHECK_EQUAL(evh_last_error()->status, EVH_INVALID);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_past_view_stays_until_it_is_refreshed_or_closed)
{
    const char *const path = test_path("held");
    evh_heap *const heap = evh_open(path, &(evh_options){.no_thread = true});
    struct state *const state = state_make(heap);
    uint64_t random = test_seed();
    for (int i = 0; i < 10; i++) commit_next(heap, state, &random);
    const uint64_t middle = sequence_of(heap);
    evh_heap *const past = open_past(path, EVH_READ_ONLY, middle);
    CHECK(past != NULL);
    for (int i = 0; i < 30; i++) commit_next(heap, state, &random);
    (void)evh_checkpoint(heap); /* up to the view, not beyond */
    CHECK(evh_view_valid(past));
    CHECK(is_state_of(past, middle));
    check_refused(path, middle - 1, EVH_STALE);
    for (uint64_t sequence = middle; sequence <= middle + 30; sequence += 5) {
        evh_heap *const later = open_past(path, EVH_READ_ONLY, sequence);
        CHECK(later != NULL);
        CHECK(is_state_of(later, sequence));
        CHECK_EQUAL(evh_close(later), EVH_OK);
    }
    CHECK_EQUAL(evh_refresh(past), EVH_OK);
    CHECK(is_state_of(past, sequence_of(heap)));
    CHECK_EQUAL(evh_checkpoint(heap), EVH_OK);
    check_refused(path, middle, EVH_STALE);
    check_refused(path, sequence_of(heap) - 1, EVH_STALE);
    CHECK_EQUAL(evh_close(past), EVH_OK);
    evh_heap *const newest = open_past(path, EVH_READ_ONLY, sequence_of(heap));
    CHECK(newest != NULL);
    CHECK_EQUAL(evh_close(newest), EVH_OK);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
}

TEST(a_database_is_read_as_it_was)
{
    const char *const path = test_path("db");
    evh_db *const db = evh_db_open(path, NULL);
    CHECK_EQUAL(evh_db_put_json(db, "", "{\"name\":\"Ada\",\"list\":[1,2]}", 27), EVH_OK);
    CHECK_EQUAL(evh_db_commit(db), EVH_OK);
    const uint64_t before = sequence_of(evh_db_heap(db));
    CHECK_EQUAL(evh_db_put_text(db, "/name", "Grace", 5), EVH_OK);
    CHECK_EQUAL(evh_db_erase(db, "/list/0"), EVH_OK);
    CHECK_EQUAL(evh_db_commit(db), EVH_OK);
    evh_db *const past =
        evh_db_open(path, &(evh_db_options){.mode = EVH_READ_ONLY, .commit_sequence = before});
    CHECK(past != NULL);
    char *const text =
        evh_json_print(evh_db_json(past), evh_json_root(evh_db_json(past)), NULL, NULL);
    CHECK(strcmp(text, "{\"name\":\"Ada\",\"list\":[1,2]}") == 0);
    free(text);
    CHECK_EQUAL(evh_json_check(evh_db_json(past)), EVH_OK);
    CHECK_EQUAL(evh_db_close(past), EVH_OK);
    CHECK_EQUAL(evh_db_close(db), EVH_OK);
}

/* ---- kills ---- */

static void run_writer(const char *path, uint64_t random)
{
    evh_heap *heap = evh_open(path, &(evh_options){.checkpoint_bytes = 1 << 20});
    struct state *const state = state_make(heap);
    for (;;) commit_next(heap, state, &random);
}

struct tally {
    uint64_t shown, refused, overtaken;
};

/* Ask for a commit that is up to 100 older than the newest. */
static void try_past(const char *path, uint64_t *random, struct tally *tally)
{
    evh_heap *const newest = evh_open(path, &(evh_options){.mode = EVH_READ_ONLY});
    CHECK(newest != NULL);
    const uint64_t sequence = sequence_of(newest);
    CHECK_EQUAL(evh_close(newest), EVH_OK);
    const uint64_t back = test_random(random) % (test_random(random) % 4 ? 8 : 100);
    if (back >= sequence) return;
    evh_heap *const past = open_past(path, EVH_READ_ONLY, sequence - back);
    if (!past) {
        const evh_status why = evh_last_error()->status;
        if (why != EVH_STALE && why != EVH_BUSY)
            test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        tally->refused++;
        return;
    }
    const bool is_right = is_state_of(past, sequence - back);
    if (!evh_view_valid(past)) {
        tally->overtaken++;
    } else {
        CHECK(is_right);
        tally->shown += back > 0;
    }
    CHECK_EQUAL(evh_close(past), EVH_OK);
}

TEST(past_commits_are_right_or_refused_whoever_is_killed)
{
    uint64_t random = test_seed();
    const char *const path = test_path("killed");
    struct tally tally = {0, 0, 0};
    evh_heap *const heap = evh_open(path, NULL);
    struct state *const state = state_make(heap);
    for (int i = 0; i < 150; i++) commit_next(heap, state, &random); /* the journal grows */
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    /* However few rounds are asked for: until both answers were given. */
    const uint64_t rounds = test_effort(40);
    for (uint64_t round = 0;
         round < rounds || (round < 1000 && (tally.shown == 0 || tally.refused == 0)); round++) {
        const uint64_t seed = test_random(&random);
        const pid_t writer = fork();
        CHECK(writer >= 0);
        if (writer == 0) run_writer(path, seed);
        for (uint64_t i = 0; i < test_random(&random) % 60; i++) try_past(path, &random, &tally);
        kill(writer, SIGKILL);
        CHECK(waitpid(writer, NULL, 0) == writer);
        for (int i = 0; i < 10; i++) try_past(path, &random, &tally);
    }
    printf("    %llu shown, %llu refused, %llu overtaken\n", (unsigned long long)tally.shown,
           (unsigned long long)tally.refused, (unsigned long long)tally.overtaken);
    CHECK(tally.shown > 0);
    CHECK(tally.refused > 0);
}
