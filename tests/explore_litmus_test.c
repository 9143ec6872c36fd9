/* explore_litmus_test.c -- the explorer of interleavings finds exactly what C11 allows.
 *
 * Small programs whose outcomes are known from the literature: message passing (MP), store
 * buffering (SB), coherence (CoRR, CoWR), independent readers (IRIW), write-to-read causality
 * (WRC), 2+2W (Alglave, Maranget, Tautschnig: "Herding cats", TOPLAS 2014), release sequences,
 * and algorithms with a bug planted: ABA, relaxed publication, a missing re-check. An outcome is a
 * number that the judge makes of the registers; the set of all must be the one expected.
 */
#include "support/interleave.h"
#include "test.h"

#include <string.h>

#define LOAD(variable, order) __atomic_load_n(&(variable), __ATOMIC_##order)
#define STORE(variable, value, order) __atomic_store_n(&(variable), value, __ATOMIC_##order)
#define ADD(variable, value, order) __atomic_fetch_add(&(variable), value, __ATOMIC_##order)

static uint32_t x, y, data;
static uint32_t registers[4];

/* All registers in one number, two bits each. */
static const char *judge_registers(void)
{
    unsigned outcome = 0;
    for (unsigned i = 3; i-- > 0;) outcome = outcome * 4 + registers[i];
    interleave_outcome(outcome);
    return NULL;
}

enum { SC, WEAK };

static struct interleave_result explored;

/* Explore 2 to 4 threads; the outcomes, as a set. */
static uint64_t outcomes(bool is_weak, const char *(*judge)(void), unsigned count,
                         void (*const run[])(void))
{
    if (!interleave_is_built()) SKIP("only the build of `make explore` is instrumented");
    struct interleave_plan plan = {.thread_count = count, .judge = judge, .is_weak = is_weak};
    for (unsigned i = 0; i < count; i++) plan.run[i] = run[i];
    x = y = data = 0;
    memset(registers, 0, sizeof registers);
    if (!interleave_run(&plan, &explored)) test_fail(__FILE__, __LINE__, "%s", explored.problem);
    CHECK(explored.problem[0] == 0);
    CHECK(explored.is_complete);
    return explored.outcomes;
}

#define THREADS_OF(...) ((void (*const[])(void)){__VA_ARGS__})
#define SET(a) (1ull << (a))

/* ---- store buffering ---- */

static void sb_relaxed_1(void)
{
    STORE(x, 1, RELAXED);
    registers[0] = LOAD(y, RELAXED);
}
static void sb_relaxed_2(void)
{
    STORE(y, 1, RELAXED);
    registers[1] = LOAD(x, RELAXED);
}
static void sb_release_1(void)
{
    STORE(x, 1, RELEASE);
    registers[0] = LOAD(y, ACQUIRE);
}
static void sb_release_2(void)
{
    STORE(y, 1, RELEASE);
    registers[1] = LOAD(x, ACQUIRE);
}
static void sb_consistent_1(void)
{
    STORE(x, 1, SEQ_CST);
    registers[0] = LOAD(y, SEQ_CST);
}
static void sb_consistent_2(void)
{
    STORE(y, 1, SEQ_CST);
    registers[1] = LOAD(x, SEQ_CST);
}

TEST(store_buffers_are_seen_unless_all_is_sequentially_consistent)
{
    const uint64_t all = SET(0) | SET(1) | SET(4) | SET(5);
    CHECK_EQUAL(outcomes(WEAK, judge_registers, 2, THREADS_OF(sb_relaxed_1, sb_relaxed_2)), all);
    CHECK_EQUAL(outcomes(WEAK, judge_registers, 2, THREADS_OF(sb_release_1, sb_release_2)), all);
    CHECK_EQUAL(outcomes(WEAK, judge_registers, 2, THREADS_OF(sb_consistent_1, sb_consistent_2)),
                all & ~SET(0));
    CHECK_EQUAL(outcomes(SC, judge_registers, 2, THREADS_OF(sb_relaxed_1, sb_relaxed_2)),
                all & ~SET(0));
}

/* ---- message passing ---- */

static void mp_send_relaxed(void)
{
    STORE(data, 1, RELAXED);
    STORE(x, 1, RELAXED);
}
static void mp_send_release(void)
{
    STORE(data, 1, RELAXED);
    STORE(x, 1, RELEASE);
}
static void mp_receive(void)
{
    registers[0] = LOAD(x, ACQUIRE);
    registers[1] = LOAD(data, RELAXED);
}
static void mp_receive_relaxed(void)
{
    registers[0] = LOAD(x, RELAXED);
    registers[1] = LOAD(data, RELAXED);
}

TEST(a_message_arrives_before_its_flag_only_with_release_and_acquire)
{
    const uint64_t fine = SET(0) | SET(4) | SET(5);
    CHECK_EQUAL(outcomes(WEAK, judge_registers, 2, THREADS_OF(mp_send_release, mp_receive)), fine);
    CHECK_EQUAL(outcomes(WEAK, judge_registers, 2, THREADS_OF(mp_send_relaxed, mp_receive)),
                fine | SET(1));
    CHECK_EQUAL(outcomes(WEAK, judge_registers, 2, THREADS_OF(mp_send_release, mp_receive_relaxed)),
                fine | SET(1));
}

static void plain_send_release(void)
{
    data = 1;
    STORE(x, 1, RELEASE);
}
static void plain_send_relaxed(void)
{
    data = 1;
    STORE(x, 1, RELAXED);
}
static void plain_receive(void)
{
    if (LOAD(x, ACQUIRE)) registers[0] = 1 + data;
}

TEST(a_plain_message_races_unless_its_flag_is_released)
{
    CHECK_EQUAL(outcomes(WEAK, judge_registers, 2, THREADS_OF(plain_send_release, plain_receive)),
                SET(0) | SET(2));
    struct interleave_plan plan = {.thread_count = 2, .run = {plain_send_relaxed, plain_receive}};
    CHECK(!interleave_run(&plan, &explored));
    CHECK(strstr(explored.problem, "data race") != NULL);
}

/* ---- coherence ---- */

static void write_1_2(void)
{
    STORE(x, 1, RELAXED);
    STORE(x, 2, RELAXED);
}
static void read_twice(void)
{
    registers[0] = LOAD(x, RELAXED);
    registers[1] = LOAD(x, RELAXED);
}
static void write_read(void)
{
    STORE(x, 1, RELAXED);
    registers[0] = LOAD(x, RELAXED);
}
static void write_2(void)
{
    STORE(x, 2, RELAXED);
}

TEST(nobody_sees_one_variable_go_backwards)
{
    /* 00 01 02 11 12 22, the second register in the upper bits */
    CHECK_EQUAL(outcomes(WEAK, judge_registers, 2, THREADS_OF(write_1_2, read_twice)),
                SET(0) | SET(4) | SET(8) | SET(5) | SET(9) | SET(10));
    CHECK_EQUAL(outcomes(WEAK, judge_registers, 2, THREADS_OF(write_read, write_2)),
                SET(1) | SET(2));
}

/* ---- 2+2W ---- */

static void w2_1(void)
{
    STORE(x, 1, RELAXED);
    STORE(y, 2, RELAXED);
}
static void w2_2(void)
{
    STORE(y, 1, RELAXED);
    STORE(x, 2, RELAXED);
}

static const char *judge_memory(void)
{
    interleave_outcome(x * 4 + y);
    return NULL;
}

TEST(relaxed_stores_of_two_threads_order_freely)
{
    const uint64_t consistent = SET(1 * 4 + 2) | SET(2 * 4 + 1) | SET(2 * 4 + 2);
    CHECK_EQUAL(outcomes(WEAK, judge_memory, 2, THREADS_OF(w2_1, w2_2)),
                consistent | SET(1 * 4 + 1));
    CHECK_EQUAL(outcomes(SC, judge_memory, 2, THREADS_OF(w2_1, w2_2)), consistent);
}

/* ---- three and four threads ---- */

static void write_x(void)
{
    STORE(x, 1, RELAXED);
}
static void forward(void)
{
    registers[0] = LOAD(x, RELAXED);
    STORE(y, 1, RELEASE);
}
static void forward_acquire(void)
{
    registers[0] = LOAD(x, ACQUIRE);
    STORE(y, 1, RELEASE);
}
static void receive_both(void)
{
    registers[1] = LOAD(y, ACQUIRE);
    registers[2] = LOAD(x, RELAXED);
}

TEST(causality_is_passed_on)
{
    /* The forwarder saw x, the receiver saw its y: then it sees x. */
    const uint64_t forbidden = SET(1 + 4 + 0);
    CHECK(!(outcomes(WEAK, judge_registers, 3, THREADS_OF(write_x, forward, receive_both)) &
            forbidden));
    CHECK(!(outcomes(WEAK, judge_registers, 3, THREADS_OF(write_x, forward_acquire, receive_both)) &
            forbidden));
    CHECK(explored.outcomes & SET(0 + 4 + 0));
}

static void write_x_consistent(void)
{
    STORE(x, 1, SEQ_CST);
}
static void write_y_consistent(void)
{
    STORE(y, 1, SEQ_CST);
}
static void write_x_release(void)
{
    STORE(x, 1, RELEASE);
}
static void write_y_release(void)
{
    STORE(y, 1, RELEASE);
}
static void read_xy(void)
{
    registers[0] = LOAD(x, ACQUIRE) + 2 * LOAD(y, ACQUIRE);
}
static void read_yx(void)
{
    registers[1] = LOAD(y, ACQUIRE) * 2 + LOAD(x, ACQUIRE);
}
static void read_xy_consistent(void)
{
    registers[0] = LOAD(x, SEQ_CST) + 2 * LOAD(y, SEQ_CST);
}
static void read_yx_consistent(void)
{
    registers[1] = LOAD(y, SEQ_CST) * 2;
    registers[1] += LOAD(x, SEQ_CST);
}

TEST(independent_readers_agree_only_when_sequentially_consistent)
{
    const uint64_t disagree = SET(1 + 2 * 4); /* x before y, and y before x */
    CHECK(outcomes(WEAK, judge_registers, 4,
                   THREADS_OF(write_x_release, write_y_release, read_xy, read_yx)) &
          disagree);
    CHECK(!(outcomes(WEAK, judge_registers, 4,
                     THREADS_OF(write_x_consistent, write_y_consistent, read_xy_consistent,
                                read_yx_consistent)) &
            disagree));
}

/* ---- read-modify-writes ---- */

static void increment(void)
{
    registers[interleave_self()] = ADD(x, 1, RELAXED);
}

TEST(increments_are_never_lost)
{
    CHECK_EQUAL(outcomes(WEAK, judge_memory, 3, THREADS_OF(increment, increment, increment)),
                SET(12));
    CHECK_EQUAL(explored.executions, 6);
}

static void rs_head(void)
{
    STORE(data, 1, RELAXED);
    STORE(x, 1, RELEASE);
}
static void rs_update(void)
{
    ADD(x, 1, RELAXED);
}
static void rs_store(void)
{
    STORE(x, 2, RELAXED);
}
static void rs_read(void)
{
    registers[0] = LOAD(x, ACQUIRE);
    registers[1] = LOAD(data, RELAXED);
}

TEST(an_update_carries_on_a_release_and_a_store_does_not)
{
    const uint64_t lost = SET(2 + 0 * 4);
    CHECK(!(outcomes(WEAK, judge_registers, 3, THREADS_OF(rs_head, rs_update, rs_read)) & lost));
    CHECK(explored.outcomes & SET(2 + 1 * 4));
    CHECK(outcomes(WEAK, judge_registers, 3, THREADS_OF(rs_head, rs_store, rs_read)) & lost);
}

/* ---- bugs that must be found ---- */

/* A stack of numbered nodes, as Treiber's, without a count beside its head. */
enum { STACK_NODES = 4 };
static uint32_t stack_head, stack_next[STACK_NODES], stack_taken[STACK_NODES];

static uint32_t stack_pop(void)
{
    uint32_t head = LOAD(stack_head, ACQUIRE), next = 0;
    do {
        if (!head) return 0;
        next = LOAD(stack_next[head], RELAXED);
    } while (!__atomic_compare_exchange_n(&stack_head, &head, next, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    ADD(stack_taken[head], 1, RELAXED);
    return head;
}

static void stack_push(uint32_t node)
{
    ADD(stack_taken[node], (uint32_t)-1, RELAXED);
    uint32_t head = LOAD(stack_head, RELAXED);
    do STORE(stack_next[node], head, RELAXED);
    while (!__atomic_compare_exchange_n(&stack_head, &head, node, false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED));
}

static void stack_pop_one(void)
{
    (void)stack_pop();
}
static void stack_push_three(void)
{
    stack_push(3);
}

static void stack_pop_two_push_first(void)
{
    const uint32_t first = stack_pop();
    (void)stack_pop();
    if (first) stack_push(first);
}

static const char *judge_stack(void)
{
    uint32_t seen = 0;
    for (uint32_t node = stack_head, i = 0; node; node = stack_next[node], i++) {
        if (i == STACK_NODES) return "the stack is a ring";
        if (stack_taken[node]) return "a node is in the stack and taken";
        seen++;
    }
    for (uint32_t node = 1; node < STACK_NODES; node++) {
        if (stack_taken[node] > 1) return "a node was taken twice";
        seen += stack_taken[node];
    }
    return seen == STACK_NODES - 1 ? NULL : "a node is lost";
}

/* Explore two threads on a stack of nodes 1 and 2; 3 is not on it. */
static bool stack_explore(void (*one)(void), void (*other)(void), bool is_weak)
{
    if (!interleave_is_built()) SKIP("only the build of `make explore` is instrumented");
    const struct interleave_plan plan = {
        .thread_count = 2, .run = {one, other}, .judge = judge_stack, .is_weak = is_weak};
    stack_head = 1;
    stack_next[1] = 2;
    stack_next[2] = 0;
    memset(stack_taken, 0, sizeof stack_taken);
    stack_taken[3] = 1;
    return interleave_run(&plan, &explored);
}

TEST(a_planted_aba_is_found)
{
    CHECK(stack_explore(stack_pop_one, stack_push_three, WEAK));
    CHECK(explored.is_complete);
    CHECK(stack_explore(stack_pop_one, stack_pop_one, WEAK));
    CHECK(explored.is_complete);
    CHECK(!stack_explore(stack_pop_one, stack_pop_two_push_first, SC));
    CHECK(strcmp(explored.problem, "a node is in the stack and taken") == 0);
}

/* A worker rests when it finds no mail; a sender wakes a worker that rests. The worker has to look
 * again after it has said that it rests. */
static uint32_t mail, rests;
static bool looks_again;
static int rest_order;

static void mail_send(void)
{
    STORE(mail, 1, SEQ_CST);
    if (LOAD(rests, SEQ_CST)) STORE(rests, 0, RELAXED);
}

static void mail_look(void)
{
    if (LOAD(mail, RELAXED)) return;
    __atomic_store_n(&rests, 1, rest_order);
    if (looks_again && __atomic_load_n(&mail, rest_order == __ATOMIC_SEQ_CST ? __ATOMIC_SEQ_CST
                                                                             : __ATOMIC_ACQUIRE))
        STORE(rests, 0, RELAXED);
}

static const char *judge_mail(void)
{
    return mail && rests ? "there is mail, and the worker rests" : NULL;
}

static bool mail_explore(bool does_look_again, int order, bool is_weak)
{
    if (!interleave_is_built()) SKIP("only the build of `make explore` is instrumented");
    const struct interleave_plan plan = {
        .thread_count = 2, .run = {mail_send, mail_look}, .judge = judge_mail, .is_weak = is_weak};
    mail = rests = 0;
    looks_again = does_look_again;
    rest_order = order;
    return interleave_run(&plan, &explored);
}

TEST(a_missing_second_look_is_found)
{
    CHECK(mail_explore(true, __ATOMIC_SEQ_CST, WEAK));
    CHECK(!mail_explore(false, __ATOMIC_SEQ_CST, SC));
    CHECK(mail_explore(true, __ATOMIC_RELEASE, SC));
    CHECK(!mail_explore(true, __ATOMIC_RELEASE, WEAK)); /* only the orders are wrong */
}

/* ---- the reduction loses nothing ---- */

enum { PROGRAM_STEPS = 3, PROGRAM_VARIABLES = 2 };

struct program_step {
    unsigned kind, variable, order;
};

static struct program_step program[3][PROGRAM_STEPS];
static uint32_t variables[PROGRAM_VARIABLES], results[3];

static uint32_t run_program_step(const struct program_step *step)
{
    static const int loads[] = {__ATOMIC_RELAXED, __ATOMIC_ACQUIRE, __ATOMIC_SEQ_CST};
    static const int stores[] = {__ATOMIC_RELAXED, __ATOMIC_RELEASE, __ATOMIC_SEQ_CST};
    static const int updates[] = {__ATOMIC_RELAXED, __ATOMIC_ACQ_REL, __ATOMIC_SEQ_CST};
    uint32_t *variable = &variables[step->variable];
    uint32_t expected = 0;
    switch (step->kind) {
    case 0:
    case 1: return __atomic_load_n(variable, loads[step->order]);
    case 2:
    case 3: __atomic_store_n(variable, interleave_self() + 1, stores[step->order]); return 0;
    case 4: return __atomic_fetch_add(variable, 3, updates[step->order]);
    default:
        return __atomic_compare_exchange_n(variable, &expected, 7, step->kind == 6,
                                           updates[step->order], loads[step->order])
                   ? 100
                   : expected;
    }
}

static void run_program(void)
{
    const unsigned self = interleave_self();
    uint32_t sum = 0;
    for (unsigned i = 0; i < PROGRAM_STEPS; i++)
        sum = sum * 31 + run_program_step(&program[self][i]) + 1;
    results[self] = sum;
}

static const char *judge_program(void)
{
    uint64_t hash = 0;
    for (unsigned i = 0; i < 3; i++) hash = (hash + results[i]) * 0x9e3779b97f4a7c15u;
    for (unsigned i = 0; i < PROGRAM_VARIABLES; i++)
        hash = (hash + variables[i]) * 0x9e3779b97f4a7c15u;
    interleave_outcome((unsigned)(hash >> 58));
    return NULL;
}

static struct interleave_plan program_plan(uint64_t *random)
{
    struct interleave_plan plan = {.judge = judge_program, .is_weak = test_random(random) % 2};
    plan.thread_count = 2 + (unsigned)(test_random(random) % 2);
    for (unsigned i = 0; i < plan.thread_count; i++) {
        plan.run[i] = run_program;
        for (unsigned k = 0; k < PROGRAM_STEPS; k++)
            program[i][k] =
                (struct program_step){(unsigned)(test_random(random) % 7),
                                      (unsigned)(test_random(random) % PROGRAM_VARIABLES),
                                      (unsigned)(test_random(random) % 3)};
    }
    return plan;
}

TEST(what_the_reduction_leaves_out_makes_no_difference)
{
    if (!interleave_is_built()) SKIP("only the build of `make explore` is instrumented");
    uint64_t random = test_seed(), naive_count = 0, reduced_count = 0, skipped = 0;
    for (uint64_t i = 0; i < test_effort(60); i++) {
        struct interleave_plan plan = program_plan(&random);
        struct interleave_result naive;
        plan.is_naive = true;
        plan.executions_max = 100000;
        CHECK(interleave_run(&plan, &naive));
        plan.is_naive = false;
        CHECK(interleave_run(&plan, &explored));
        CHECK(explored.is_complete);
        if (naive.is_complete)
            CHECK_EQUAL(explored.outcomes, naive.outcomes);
        else
            CHECK_EQUAL(explored.outcomes & naive.outcomes, naive.outcomes);
        skipped += !naive.is_complete;
        naive_count += naive.executions;
        reduced_count += explored.executions;
    }
    printf("    %llu executions instead of %llu (%llu programs not complete)\n",
           (unsigned long long)reduced_count, (unsigned long long)naive_count,
           (unsigned long long)skipped);
}
