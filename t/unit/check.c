/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Several limits in one question, peek and refund, over every store: all are charged or none, and
 * the answer is the one to be told. Then one random script over all stores: they answer alike.
 */

#include "unit.h"

#include "store/slab.h"

#include <apr_errno.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define SCRIPT 100000
#define NOW (INT64_C(1700000000) * RLP_SECOND)

/* A question about one user under a plan. */
typedef struct {
    rlp_store_t *store;
    const rlp_plan_t *plan;
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_answer_t answer;
    rlp_time_t now;
} asker_t;

static rlp_store_t *memory_store(void)
{
    rlp_store_t *store;

    assert_int_equal(rlp_memory_create(&store, unit_pool()), APR_SUCCESS);
    return store;
}

/* On a segment without a file, from the pool, whose slab time is the caller's; *memory may be asked
   for. */
static rlp_store_t *shm_store(size_t size, void **memory)
{
    const unsigned char key[32] = "0123456789abcdefghijklmnopqrstu";
    const uintptr_t room = (uintptr_t)apr_palloc(unit_pool(), size + 4096);
    const rlp_segment_t segment = { .fd = -1,
                                    .memory = (void *)((room + 4095) / 4096 * 4096),
                                    .size = size };
    rlp_store_t *store;

    slab_format(segment.memory, size, key);
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    if (memory != NULL) {
        *memory = segment.memory;
    }
    return store;
}

static asker_t asker_of(rlp_store_t *store, const char *words)
{
    asker_t a = { .store = store, .plan = unit_plan(words), .now = NOW };

    return a;
}

static void asker_name(asker_t *a, const char *name)
{
    for (int i = 0; i < a->plan->n; i++) {
        rlp_charge_init(&a->charges[i], name, strlen(name),
                        rlp_signature("check", NULL, &a->plan->limits[i]), &a->plan->limits[i]);
    }
}

typedef apr_status_t ask_t(rlp_store_t *store, rlp_charge_t charges[], int n,
                           const rlp_question_t *question, rlp_answer_t *answer);

static rlp_verdict_t ask(asker_t *a, ask_t *how, rlp_units_t cost)
{
    const rlp_question_t question = { .now = a->now,
                                      .charged_at = rlp_store_time(a->store, a->now) };

    for (int i = 0; i < a->plan->n; i++) {
        a->charges[i].cost = how == rlp_settle ? -cost : cost;
    }
    assert_int_equal(how(a->store, a->charges, a->plan->n, &question, &a->answer), APR_SUCCESS);
    return a->answer.verdict;
}

/* What is left of each, as "3 4 5". */
static const char *rests(asker_t *a)
{
    const char *text = "";

    (void)ask(a, rlp_peek, 0);
    for (int i = 0; i < a->plan->n; i++) {
        text = apr_psprintf(unit_pool(), "%s%s%d", text, i ? " " : "",
                            (int)a->charges[i].decision.remaining);
    }
    return text;
}

/* --- tables: one user, one plan, one question after the other at the same instant */

typedef struct {
    char how; /* check, peek or refund */
    int cost; /* whole units */
    rlp_verdict_t verdict;
    int tightest;
    int64_t retry; /* seconds */
    const char *rests;
} line_t;

typedef struct {
    const char *name;
    const char *words;
    line_t lines[8];
} script_t;

static const script_t scripts[] = {
    { "H-11: all or none, the smallest rest is told",
      "rate=5/min rate=3/h rate=9/day",
      { { 'c', 1, RLP_ALLOW, 1, 0, "4 2 8" },
        { 'p', 2, RLP_ALLOW, 1, 0, "4 2 8" },
        { 'c', 2, RLP_ALLOW, 1, 0, "2 0 6" },
        { 'c', 1, RLP_DENY, 1, 1200, "2 0 6" },
        { 'r', 1, RLP_ALLOW, 1, 0, "3 1 7" },
        { 'c', 4, RLP_NEVER, 1, 0, "3 1 7" } } },
    { "the largest retry of several refusals",
      "rate=2/min rate=2/h rate=2/s",
      { { 'c', 2, RLP_ALLOW, 1, 0, "0 0 0" },
        { 'p', 1, RLP_DENY, 1, 1800, "0 0 0" },
        { 'c', 2, RLP_DENY, 1, 3600, "0 0 0" } } },
    { "of equal rests the longest time is told",
      "rate=4/min rate=4/day rate=4/h",
      { { 'c', 1, RLP_ALLOW, 1, 0, "3 3 3" } } },
    { "Q-07: never is told before not now, and without a retry",
      "rate=2/min quota=2",
      { { 'c', 2, RLP_ALLOW, 1, 0, "0 0" }, { 'c', 1, RLP_NEVER, 1, 0, "0 0" } } },
    { "P-09: a blocked plan charges nothing",
      "rate=2/min quota=0",
      { { 'c', 1, RLP_NEVER, 1, 0, "2 0" } } },
    { "B-21: a negative cost charges nothing",
      "rate=2/min rate=9/h",
      { { 'c', -1, RLP_NEVER, 0, 0, "2 9" } } },
    { "a refund never gives more than all",
      "rate=5/min rate=5/min algorithm=fixed-window rate=5/min algorithm=stepped-bucket quota=5",
      { { 'c', 3, RLP_ALLOW, 3, 0, "2 2 2 2" },
        { 'r', 1, RLP_ALLOW, 3, 0, "3 3 3 3" },
        { 'r', 9, RLP_ALLOW, 3, 0, "5 5 5 5" },
        { 'c', 5, RLP_ALLOW, 3, 0, "0 0 0 0" } } },
    { "a refund of what was never charged does nothing",
      "rate=5/min initial=2 quota=5 initial=2 rate=5/h initial=2 algorithm=stepped-bucket",
      { { 'r', 3, RLP_ALLOW, 1, 0, "2 2 2" } } },
};

static void run_script(const script_t *script, rlp_store_t *store)
{
    asker_t a = asker_of(store, script->words);

    asker_name(&a, script->name);
    for (const line_t *line = script->lines; line->rests != NULL; line++) {
        ask_t *how = line->how == 'c' ? rlp_check : line->how == 'p' ? rlp_peek : rlp_settle;

        assert_int_equal(ask(&a, how, line->cost * RLP_UNIT), line->verdict);
        assert_int_equal(a.answer.tightest, line->tightest);
        assert_int_equal(a.answer.retry, line->retry * RLP_SECOND);
        assert_string_equal(rests(&a), line->rests);
    }
}

static void test_script(void **state)
{
    run_script(unit_row(state), memory_store());
    run_script(unit_row(state), shm_store(RLP_SEGMENT_MIN, NULL));
}

/* --- the bounds of a question */

static void test_bounds(void **state)
{
    rlp_store_t *stores[] = { memory_store(), shm_store(RLP_SEGMENT_MIN, NULL) };
    static rlp_charge_t charges[RLP_ENTRIES_MAX + 1];
    const rlp_question_t one = { .now = NOW };
    const rlp_limit_t *limit = &unit_plan("rate=2/min")->limits[0];
    rlp_answer_t answer;

    (void)state;
    for (int i = 0; i <= RLP_ENTRIES_MAX; i++) {
        rlp_charge_init(&charges[i], "a", 1, (uint64_t)i + 1, limit);
    }
    for (size_t i = 0; i < UNIT_N(stores); i++) {
        assert_int_equal(rlp_check(stores[i], charges, 0, &one, &answer), APR_EINVAL);
        assert_int_equal(rlp_check(stores[i], charges, -1, &one, &answer), APR_EINVAL);
        assert_int_equal(rlp_check(stores[i], charges, RLP_ENTRIES_MAX + 1, &one, &answer),
                         APR_EINVAL);
        charges[0].cost = -RLP_UNITS_MAX - 1;
        assert_int_equal(rlp_settle(stores[i], charges, 1, &one, &answer), APR_EINVAL);
        charges[0].cost = RLP_UNITS_MAX + 1;
        assert_int_equal(rlp_settle(stores[i], charges, 1, &one, &answer), APR_EINVAL);
        assert_null(rlp_units_parse(&charges[0].cost, "999999999999999.999", unit_pool()));
        assert_int_equal(rlp_settle(stores[i], charges, 1, &one, &answer), APR_SUCCESS);
        charges[0].cost = -charges[0].cost;
        assert_int_equal(rlp_settle(stores[i], charges, 1, &one, &answer), APR_SUCCESS);
        charges[0].cost = RLP_UNIT;
        assert_int_equal(rlp_check(stores[i], charges, RLP_ENTRIES_MAX, &one, &answer),
                         APR_SUCCESS);
        assert_int_equal(answer.verdict, RLP_ALLOW);
    }
}

/* B-22: cost 0, a peek and a refund of nothing leave no trace of a key. */
static void test_nothing_written(void **state)
{
    void *memory;
    asker_t a = asker_of(shm_store(RLP_SEGMENT_MIN, &memory), "rate=2/min quota=5");
    unsigned char *before = malloc(RLP_SEGMENT_MIN);
    slab_t slab;

    (void)state;
    asker_name(&a, "nobody");
    (void)ask(&a, rlp_check, RLP_UNIT);
    memcpy(before, memory, RLP_SEGMENT_MIN);
    asker_name(&a, "somebody");
    assert_int_equal(ask(&a, rlp_check, 0), RLP_ALLOW);
    assert_int_equal(ask(&a, rlp_peek, RLP_UNIT), RLP_ALLOW);
    assert_int_equal(ask(&a, rlp_settle, RLP_UNIT), RLP_ALLOW);
    assert_int_equal(ask(&a, rlp_check, 3 * RLP_UNIT), RLP_NEVER);
    assert_null(slab_attach(&slab, memory, RLP_SEGMENT_MIN));
    const size_t from = slab.classes[0].offset; /* behind the locks */

    assert_memory_equal(before + from, slab.base + from, RLP_SEGMENT_MIN - from);
    free(before);
}

/* T-27: a state that no step has written is judged as new, and that is said. */
static void test_damaged(void **state)
{
    static const char *const plans[] = { "rate=2/min", "rate=2/min algorithm=fixed-window",
                                         "rate=2/min algorithm=stepped-bucket", "quota=2" };

    (void)state;
    for (size_t i = 0; i < UNIT_N(plans); i++) {
        void *memory;
        asker_t a = asker_of(shm_store(RLP_SEGMENT_MIN, &memory), plans[i]);
        slab_t slab;

        asker_name(&a, "user:1");
        assert_int_equal(ask(&a, rlp_check, RLP_UNIT), RLP_ALLOW);
        assert_false(a.answer.damaged);
        assert_null(slab_attach(&slab, memory, RLP_SEGMENT_MIN));
        for (size_t at = slab.classes[0].offset; at < slab.classes[1].offset; at += 64) {
            memset(slab.base + at + 24, 0xee, 40); /* every state */
        }
        assert_int_equal(ask(&a, rlp_check, RLP_UNIT), RLP_ALLOW);
        assert_true(a.answer.damaged);
        assert_int_equal(a.charges[0].decision.remaining, 1);
        assert_int_equal(ask(&a, rlp_check, RLP_UNIT), RLP_ALLOW);
        assert_false(a.answer.damaged);
        assert_int_not_equal(ask(&a, rlp_check, RLP_UNIT), RLP_ALLOW);
    }
}

/* A refund of a window that is over does nothing to the next one. */
static void test_old_refund(void **state)
{
    rlp_store_t *stores[] = { memory_store(), shm_store(RLP_SEGMENT_MIN, NULL) };

    (void)state;
    for (size_t i = 0; i < UNIT_N(stores); i++) {
        asker_t a = asker_of(stores[i], "rate=2/min algorithm=fixed-window");
        rlp_question_t question = { .now = a.now + 60 * RLP_SECOND,
                                    .charged_at = rlp_store_time(a.store, a.now) };

        asker_name(&a, "user:1");
        assert_int_equal(ask(&a, rlp_check, RLP_UNIT), RLP_ALLOW);
        a.now += 60 * RLP_SECOND;
        assert_int_equal(ask(&a, rlp_check, RLP_UNIT), RLP_ALLOW);
        a.charges[0].cost = -RLP_UNIT;
        assert_int_equal(rlp_settle(a.store, a.charges, 1, &question, &a.answer), APR_SUCCESS);
        assert_string_equal(rests(&a), "1");
        question.charged_at = rlp_store_time(a.store, a.now);
        a.charges[0].cost = -RLP_UNIT;
        assert_int_equal(rlp_settle(a.store, a.charges, 1, &question, &a.answer), APR_SUCCESS);
        assert_string_equal(rests(&a), "2");
    }
}

/* S-15: Two requests read the clock at the end of a window and meet the other way round: what the
   one that read it first was charged is found again. */
static void test_late(void **state)
{
    static const char *const plans[] = { "rate=3/min algorithm=sliding-log",
                                         "rate=3/min algorithm=sliding-window",
                                         "rate=3/min algorithm=fixed-window", "quota=3/day" };
    const rlp_time_t midnight = RLP_SECOND * 86400 * 20;

    (void)state;
    for (size_t i = 0; i < UNIT_N(plans); i++) {
        asker_t a = asker_of(shm_store(RLP_SEGMENT_MIN, NULL), plans[i]);
        rlp_question_t question = { .now = midnight, .wall = midnight };

        asker_name(&a, "user:1");
        assert_int_equal(rlp_check(a.store, a.charges, 1, &question, &a.answer), APR_SUCCESS);
        question.now = question.wall = midnight - 1;
        question.charged_at = rlp_store_time(a.store, question.now);
        assert_int_equal(rlp_check(a.store, a.charges, 1, &question, &a.answer), APR_SUCCESS);
        assert_int_equal(a.charges[0].decision.remaining, 1);
        a.charges[0].waited = rlp_waited(&a.charges[0]);
        a.charges[0].cost = -RLP_UNIT;
        question.now = question.wall = midnight + 5;
        assert_int_equal(rlp_settle(a.store, a.charges, 1, &question, &a.answer), APR_SUCCESS);
        assert_int_equal(a.charges[0].decision.remaining, 2);
    }
}

/* A state that is as good as new is not written again by a refund, whether the store has let go of
   it to the microsecond or not. */
static void test_expired_refund(void **state)
{
    rlp_store_t *stores[] = { memory_store(), shm_store(RLP_SEGMENT_MIN, NULL) };

    (void)state;
    for (size_t i = 0; i < UNIT_N(stores); i++) {
        asker_t a = asker_of(stores[i], "rate=2/s burst=4 algorithm=stepped-bucket");

        asker_name(&a, "user:1");
        assert_int_equal(ask(&a, rlp_check, RLP_UNIT), RLP_ALLOW);
        a.now = a.charges[0].entry.expires;
        (void)ask(&a, rlp_settle, RLP_UNIT);
        assert_false(a.charges[0].entry.dirty);
        a.now += 300000;
        assert_int_equal(ask(&a, rlp_check, RLP_UNIT), RLP_ALLOW);
        assert_int_equal(a.charges[0].decision.reset, RLP_SECOND);
    }
}

/* A wall clock set back, after the day had ended by the store's time, does not give the day's quota
   once more. */
static void test_wall_set_back(void **state)
{
    rlp_store_t *stores[] = { memory_store(), shm_store(RLP_SEGMENT_MIN, NULL) };
    const rlp_time_t hour = 3600 * RLP_SECOND;
    const rlp_time_t midnight = NOW - NOW % (24 * hour);

    (void)state;
    for (size_t i = 0; i < UNIT_N(stores); i++) {
        asker_t a = asker_of(stores[i], "quota=1/day");
        rlp_question_t question = { .now = a.now, .wall = midnight + 23 * hour };

        asker_name(&a, "user:1");
        assert_int_equal(rlp_check(a.store, a.charges, 1, &question, &a.answer), APR_SUCCESS);
        assert_int_equal(a.answer.verdict, RLP_ALLOW);
        question.now += 2 * hour;
        question.wall = midnight + 20 * hour;
        assert_int_equal(rlp_check(a.store, a.charges, 1, &question, &a.answer), APR_SUCCESS);
        assert_int_equal(a.answer.verdict, RLP_DENY);
        assert_int_equal(a.answer.retry, 4 * hour);
    }
}

/* --- every store answers as the memory store does */

static void same_answers(const asker_t *a, const asker_t *b)
{
    assert_int_equal(a->answer.verdict, b->answer.verdict);
    assert_int_equal(a->answer.tightest, b->answer.tightest);
    assert_int_equal(a->answer.retry, b->answer.retry);
    for (int i = 0; i < a->plan->n; i++) {
        const rlp_decision_t *da = &a->charges[i].decision;
        const rlp_decision_t *db = &b->charges[i].decision;

        assert_int_equal(da->verdict, db->verdict);
        assert_int_equal(da->remaining, db->remaining);
        assert_int_equal(da->retry, db->retry);
        assert_int_equal(da->reset, db->reset);
        assert_int_equal(da->next, db->next);
    }
}

/* H-11: what a refusal tells of the limits that would have admitted is what is left of them,
   whether the states are small or not. */
static void test_refused_alike(void **state)
{
    static const char *const plans[] = {
        "rate=5/min rate=7/h algorithm=fixed-window quota=9 rate=2/s",
        "rate=2/s rate=5/min rate=7/h algorithm=stepped-bucket",
        "rate=5/min rate=40/h algorithm=sliding-log rate=2/s",
    };
    rlp_store_t *stores[] = { memory_store(), shm_store(RLP_SEGMENT_MIN, NULL) };

    (void)state;
    for (size_t i = 0; i < UNIT_N(plans) * UNIT_N(stores); i++) {
        asker_t told = asker_of(stores[i % UNIT_N(stores)], plans[i / UNIT_N(stores)]);

        asker_name(&told, plans[i / UNIT_N(stores)]);
        for (int k = 0; k < told.plan->n; k++) {
            told.charges[k].entry.state = apr_palloc(unit_pool(), 512);
        }
        assert_int_equal(ask(&told, rlp_check, RLP_UNIT), RLP_ALLOW);
        assert_int_equal(ask(&told, rlp_check, 2 * RLP_UNIT), RLP_DENY);
        asker_t asked = told;

        assert_int_equal(ask(&asked, rlp_peek, 2 * RLP_UNIT), RLP_DENY);
        same_answers(&told, &asked);
    }
}

static void test_alike(void **state)
{
    static const char *const plans[] = {
        "rate=10/min quota=300",
        "rate=7/s burst=3.5 rate=50/min algorithm=fixed-window",
        "rate=3/700ms algorithm=stepped-bucket rate=2/s burst=20 algorithm=stepped-bucket",
        "rate=5/10s initial=0 rate=100/h",
    };
    rlp_store_t *stores[2] = { memory_store(), shm_store((size_t)8 * 1024 * 1024, NULL) };
    asker_t askers[UNIT_N(plans)][2];
    uint64_t random = unit_seed();
    rlp_time_t now = NOW;

    (void)state;
    for (size_t i = 0; i < UNIT_N(plans); i++) {
        askers[i][0] = asker_of(stores[0], plans[i]);
        askers[i][1] = asker_of(stores[1], plans[i]);
    }
    for (int i = 0; i < SCRIPT; i++) {
        asker_t *pair = askers[unit_below(&random, UNIT_N(plans))];
        const char name[] = { (char)('a' + unit_below(&random, 26)), 0 };
        const uint64_t what = unit_below(&random, 8);
        const rlp_units_t cost = (rlp_units_t)unit_below(&random, 4) * RLP_UNIT / 2;

        now += unit_below(&random, 4) ? 0 : (rlp_time_t)unit_below(&random, RLP_SECOND / 2);
        now += unit_below(&random, 5000) ? 0 : (rlp_time_t)unit_below(&random, 7200 * RLP_SECOND);
        for (int k = 0; k < 2; k++) {
            pair[k].now = now;
            asker_name(&pair[k], name);
            (void)ask(&pair[k], what == 0 ? rlp_settle : what == 1 ? rlp_peek : rlp_check, cost);
        }
        same_answers(&pair[0], &pair[1]);
    }
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(scripts); i++) {
        unit_add(scripts[i].name, test_script, &scripts[i]);
    }
    unit_add("the bounds of a question", test_bounds, NULL);
    unit_add("B-22: nothing is written for nothing", test_nothing_written, NULL);
    unit_add("T-27: a damaged state is judged as new", test_damaged, NULL);
    unit_add("a refund of an old window", test_old_refund, NULL);
    unit_add("S-15: a refund of what was charged late", test_late, NULL);
    unit_add("Q-08: the wall clock set back", test_wall_set_back, NULL);
    unit_add("a refund of what is as good as new", test_expired_refund, NULL);
    unit_add("H-11: a refusal tells what is left", test_refused_alike, NULL);
    unit_add("one random script: every store answers alike", test_alike, NULL);
    return unit_run();
}
