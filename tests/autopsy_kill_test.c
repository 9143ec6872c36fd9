/* autopsy_kill_test.c -- an autopsy of a program that was killed says what the program said.
 *
 * Strategy: a child builds a list of typed objects, plants leaks and references that lead nowhere,
 * and tells through a pipe what it has, before and after each commit. It is killed at a random
 * moment.
 * Invariants: the autopsy agrees with the last state that was told, or with the one that was in
 * flight: objects reached, orphans, dangling references and their owner.
 */
#include <everheap.h>

#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct link {
    evh_ref next;
    evh_ref other;
    uint64_t number;
};

EVH_TYPE(link, struct link, EVH_FIELD_REF(struct link, next, "link"),
         EVH_FIELD_REF(struct link, other, "link"), EVH_FIELD(struct link, number))

/* What the child has. */
struct told {
    uint64_t sequence; /* even: about to commit this; odd: it is committed */
    uint64_t links, leaks, dangling;
};

static void child_tell(int pipe, const struct told *told)
{
    if (write(pipe, told, sizeof *told) != sizeof *told) _exit(3);
}

/* One step: a link, a leak or a dangling reference more. */
static void child_step(evh_heap *heap, uint32_t type, struct link **last, struct told *told,
                       uint64_t *seed)
{
    struct link *link = evh_new(heap, type);
    if (!link) _exit(4);
    const uint64_t what = test_random(seed) % 4;
    link->number = told->links;
    if (what == 0) { /* nothing leads to it */
        told->leaks++;
        return;
    }
    (*last)->next = evh_ref_to(heap, link);
    *last = link;
    told->links++;
    if (what != 1) return;
    link->other.offset = (1ull << 40) + told->dangling * 16; /* where nothing can be */
    told->dangling++;
}

static void child_run(const char *path, int pipe, uint64_t seed)
{
    evh_heap *heap = evh_open(path, NULL);
    if (!heap) _exit(1);
    const uint32_t type = evh_type_register(heap, &link_type);
    struct link *last = evh_root_typed(heap, "links", type, sizeof *last);
    struct told told = {0};
    if (!last || evh_commit(heap)) _exit(2);
    told.sequence = 1;
    child_tell(pipe, &told);
    for (;;) {
        const uint64_t steps = 1 + test_random(&seed) % 30;
        for (uint64_t i = 0; i < steps; i++) child_step(heap, type, &last, &told, &seed);
        told.sequence++;
        child_tell(pipe, &told); /* about to */
        if (evh_commit(heap)) _exit(2);
        told.sequence++;
        child_tell(pipe, &told);
    }
}

static bool parent_agrees(const evh_autopsy_info *info, const struct told *told)
{
    return info->orphans == told->leaks && info->dangling == told->dangling &&
           info->typed == 1 + told->links + told->leaks;
}

TEST(an_autopsy_agrees_with_what_a_killed_program_said)
{
    uint64_t seed = test_seed();
    const char *kills = getenv("KILLS");
    const uint64_t rounds = kills ? strtoull(kills, NULL, 10) : test_effort(25);
    uint64_t in_flight = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        const char *path = test_path("killed");
        int ends[2];
        CHECK_EQUAL(pipe(ends), 0);
        const uint64_t child_seed = test_random(&seed);
        const uint64_t wanted = 1 + test_random(&seed) % 40;
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            close(ends[0]);
            child_run(path, ends[1], child_seed);
        }
        close(ends[1]);
        struct told last = {0}, committed = {0}, one;
        for (uint64_t i = 0; i < wanted && read(ends[0], &one, sizeof one) == sizeof one; i++) {
            last = one;
            if (one.sequence % 2) committed = one;
        }
        CHECK_EQUAL(kill(child, SIGKILL), 0);
        CHECK(waitpid(child, NULL, 0) == child);
        while (read(ends[0], &one, sizeof one) == sizeof one) {
            last = one;
            if (one.sequence % 2) committed = one;
        }
        close(ends[0]);
        CHECK(last.sequence > 0);
        evh_autopsy *autopsy = evh_autopsy_open(path, NULL);
        if (!autopsy) test_fail(__FILE__, __LINE__, "%s", evh_last_error()->message);
        CHECK(autopsy != NULL);
        evh_autopsy_info info;
        evh_autopsy_describe(autopsy, &info);
        CHECK_EQUAL(info.damage.status, EVH_OK);
        CHECK(!info.is_in_use);
        CHECK_EQUAL(info.writer_process, (uint64_t)child);
        const bool is_committed = parent_agrees(&info, &committed);
        const bool is_last = parent_agrees(&info, &last);
        in_flight += is_last && !is_committed;
        CHECK(is_committed || is_last);
        evh_autopsy_close(autopsy);
        CHECK_EQUAL(unlink(path), 0);
    }
    if (kills)
        printf("%llu kills, all agree; %llu times the commit in flight was there\n",
               (unsigned long long)rounds, (unsigned long long)in_flight);
}
