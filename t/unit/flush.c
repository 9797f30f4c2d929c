/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A store that is far too small, and somebody who wants his counter forgotten: whatever the others
 * are limited by, as many requests as he has made are not undone by fewer of each of theirs.
 */

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MB ((size_t)1024 * 1024)
#define UPTIME \
    (1000 * RLP_SECOND) /* where a window of a day, an hour, ten minutes or ten seconds begins */
#define WALL (INT64_C(1700006400) * RLP_SECOND)
#define OTHERS 60000 /* some five times as many as there is room for */
#define LIMITS_MAX 4

typedef struct {
    const char *name;
    const char *words; /* his plan */
    int requests;
    const char *other_words; /* that of the others, under another rule; NULL: the same */
    int others;              /* how many they are */
    int each;                /* requests of each */
    rlp_units_t cost;        /* of each of those */
    rlp_time_t after;        /* when they come, after his first */
    const char *other_again; /* under which each asks once more; NULL */
} flush_t;

static const flush_t flushes[] = {
    { "a plan of two limits", "rate=10/min rate=1000/day", 10, NULL, OTHERS, 1, RLP_UNIT, 0, NULL },
    { "and later, too", "rate=10/min rate=1000/day", 10, NULL, OTHERS, 1, RLP_UNIT, 50 * RLP_SECOND,
      NULL },
    { "a plan whose windows are fixed",
      "rate=10/h algorithm=fixed-window rate=1000/day algorithm=fixed-window", 10, NULL, OTHERS, 1,
      RLP_UNIT, 3599 * RLP_SECOND, NULL },
    { "a window that is nearly over", "rate=10/10s algorithm=fixed-window", 10, NULL, OTHERS, 1,
      RLP_UNIT, 9900 * RLP_SECOND / 1000, NULL },
    { "a log of which nearly all is over", "rate=5/10min algorithm=sliding-log", 5, NULL, 3000, 1,
      RLP_UNIT, 590 * RLP_SECOND, NULL },
    { "others whose limit is used up by one request", "rate=10/min", 10, "rate=1/min", OTHERS, 1,
      RLP_UNIT, 20 * RLP_SECOND, NULL },
    { "others whose requests cost more", "rate=10/min", 10, "quota=1000000000/day", OTHERS, 1,
      1000000 * RLP_UNIT, 0, NULL },
    { "others of whom much is left", "rate=10/min", 10, "quota=100000000000/year", OTHERS, 1,
      RLP_UNIT, 0, NULL },
    { "others who ask nine times each", "rate=10/min rate=1000/day", 10, NULL, OTHERS / 5, 9,
      RLP_UNIT, 0, NULL },
    { "others who have not all at first", "rate=10/min", 10, "rate=1000/min initial=1", OTHERS, 1,
      RLP_UNIT, 0, NULL },
    { "others whose packet is not full at first", "rate=10/min", 10, "quota=1000 initial=1", OTHERS,
      1, RLP_UNIT, 0, NULL },
    { "others whose steps fill a bucket", "rate=10/min", 10,
      "rate=1000/min initial=1 algorithm=stepped-bucket", OTHERS, 1, RLP_UNIT, 0, NULL },
    { "he has not had all at first", "rate=10/min initial=5", 5, "rate=10/min", OTHERS, 4, RLP_UNIT,
      0, NULL },
    { "a month that is nearly over", "quota=100/month", 100, "rate=10/min", OTHERS, 9, RLP_UNIT,
      (15 * 24 + 23) * INT64_C(3600) * RLP_SECOND, NULL },
    { "a sliding window that is nearly over", "rate=10/h algorithm=sliding-window", 10,
      "rate=10/min", OTHERS, 4, RLP_UNIT, 3599 * RLP_SECOND, NULL },
    { "a step that is nearly there", "rate=10/h algorithm=stepped-bucket", 10, "rate=10/min",
      OTHERS, 4, RLP_UNIT, 3599 * RLP_SECOND, NULL },
    { "others under two limits of one counter", "rate=10/min", 10, "rate=1/min", OTHERS, 1,
      RLP_UNIT, 0, "rate=1000/min" },
    { "others under two limits in steps", "rate=10/min", 10, "rate=1/min algorithm=stepped-bucket",
      OTHERS, 1, RLP_UNIT, 0, "rate=1000/min algorithm=stepped-bucket" },
    { "others under two limits in windows", "rate=10/min", 10, "rate=1/min algorithm=fixed-window",
      OTHERS, 1, RLP_UNIT, 0, "rate=1000/min algorithm=fixed-window" },
};

static rlp_store_t *store_new(rlp_segment_t *segment)
{
    char dir[] = "/tmp/rlp-unit.XXXXXX";
    char path[64];
    const rlp_clock_t clock = { .monotonic = UPTIME, .wall = WALL, .boot_id = "one" };
    const char *message;
    rlp_store_t *store;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/store", dir);
    assert_int_equal(rlp_segment_open(segment, path, MB, &clock, &message, unit_pool()),
                     APR_SUCCESS);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(rlp_shm_create(&store, segment, unit_pool()), APR_SUCCESS);
    return store;
}

/* What a plan has left of its limits after a request, or without one. */
static rlp_verdict_t ask(rlp_store_t *store, const char *identity, const char *rule,
                         const rlp_plan_t *plan, rlp_units_t cost, rlp_time_t at, int64_t left[])
{
    const rlp_question_t question = { .now = UPTIME + at, .wall = WALL + at };
    static uint64_t room[LIMITS_MAX][1200];
    rlp_charge_t charges[LIMITS_MAX];
    rlp_answer_t answer;

    for (int i = 0; i < plan->n; i++) {
        const rlp_limit_t *limit = &plan->limits[i];

        rlp_charge_init(&charges[i], identity, strlen(identity), rlp_signature(rule, NULL, limit),
                        limit);
        charges[i].cost = cost > 0 ? cost : RLP_UNIT;
        charges[i].entry.state = room[i];
    }
    assert_int_equal((cost > 0 ? rlp_check : rlp_peek)(store, charges, plan->n, &question, &answer),
                     APR_SUCCESS);
    for (int i = 0; i < plan->n; i++) {
        left[i] = charges[i].decision.remaining;
    }
    return answer.verdict;
}

static void test_flush(void **state)
{
    const flush_t *row = unit_row(state);
    const rlp_plan_t *plan = unit_plan(row->words);
    const rlp_plan_t *other = row->other_words == NULL ? plan : unit_plan(row->other_words);
    const rlp_plan_t *again = row->other_again == NULL ? NULL : unit_plan(row->other_again);
    const char *other_rule = row->other_words == NULL ? "site" : "other";
    rlp_segment_t segment;
    rlp_store_t *store = store_new(&segment);
    int64_t before[LIMITS_MAX];
    int64_t after[LIMITS_MAX];
    char identity[32];

    for (int i = 0; i < row->requests; i++) {
        assert_int_equal(ask(store, "user:he", "site", plan, RLP_UNIT, 0, before), RLP_ALLOW);
    }
    (void)ask(store, "user:he", "site", plan, 0, row->after, before);
    for (int i = 0; i < row->others; i++) {
        snprintf(identity, sizeof(identity), "ip:%d", i);
        for (int k = 0; k < row->each; k++) {
            assert_int_equal(ask(store, identity, other_rule, other, row->cost, row->after, after),
                             RLP_ALLOW);
        }
        if (again != NULL) {
            assert_int_equal(ask(store, identity, other_rule, again, row->cost, row->after, after),
                             RLP_ALLOW);
        }
    }
    (void)ask(store, "user:he", "site", plan, 0, row->after, after);
    for (int i = 0; i < plan->n; i++) {
        assert_int_equal(after[i], before[i]);
    }
    rlp_segment_close(&segment);
}

static const char *const refusals[] = {
    "rate=5/week",
    "rate=5/week algorithm=stepped-bucket",
    "rate=1/week burst=5 algorithm=leaky-bucket",
    "rate=5/week algorithm=fixed-window",
    "rate=5/week algorithm=sliding-window",
    "rate=5/week algorithm=sliding-log",
    "quota=5/month",
    "quota=5",
    "rate=5/week rate=1000/week quota=40000",
};

/* Who is refused more often than a counter of 16 bits can tell is refused still. */
static void test_refusals(void **state)
{
    const char *const *words = unit_row(state);
    const rlp_plan_t *plan = unit_plan(*words);
    rlp_segment_t segment;
    rlp_store_t *store = store_new(&segment);
    int64_t left[LIMITS_MAX];
    int admitted = 0;

    for (int i = 0; i < 140000; i++) {
        admitted += ask(store, "user:he", "site", plan, RLP_UNIT, i, left) == RLP_ALLOW;
        assert_true(i < 10 || left[0] == 0);
    }
    assert_in_range(admitted, 1, 5);
    rlp_segment_close(&segment);
}

/* The same store does give up those who have used least. */
static void test_some_go(void **state)
{
    const rlp_plan_t *plan = unit_plan("rate=10/min");
    rlp_segment_t segment;
    rlp_store_t *store = store_new(&segment);
    int64_t left[LIMITS_MAX];
    char identity[32];
    int kept = 0;

    (void)state;
    for (int i = 0; i < 2 * OTHERS; i++) {
        snprintf(identity, sizeof(identity), "ip:%d", i % OTHERS);
        if (i < OTHERS) {
            assert_int_equal(ask(store, identity, "site", plan, RLP_UNIT, 0, left), RLP_ALLOW);
        } else {
            (void)ask(store, identity, "site", plan, 0, 0, left);
            kept += left[0] == 9;
        }
    }
    assert_in_range(kept, 10000, 13000);
    rlp_segment_close(&segment);
}

#define CLIENTS 2000 /* a sixth of what there is room for */
#define ROUNDS 60    /* of all of them, one after the other */

/* Keys differ in one byte: by the other nine clients share their first set of eight. */
typedef struct {
    const char *name;
    unsigned char byte;
} crowd_t;

static const crowd_t crowds[] = {
    { "no set has more than it holds", 0 },
    { "one set has", 58 },
};

/* Nobody pushes anybody out: as many are admitted as the limit says. */
static void test_crowded_set(void **state)
{
    const crowd_t *row = unit_row(state);
    const rlp_clock_t clock = { .monotonic = UPTIME, .wall = WALL, .boot_id = "one" };
    const rlp_plan_t *plan = unit_plan("rate=5/week");
    const rlp_origin_t origin = { .key = { row->byte }, .offset = WALL - UPTIME };
    rlp_segment_t segment;
    rlp_store_t *store = store_new(&segment);
    int64_t left[LIMITS_MAX];
    char identity[32];
    uint64_t admitted = 0;

    assert_int_equal(rlp_segment_adopt(&segment, &origin, &clock), APR_SUCCESS);
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    for (int i = 0; i < ROUNDS * CLIENTS; i++) {
        snprintf(identity, sizeof(identity), "ip:10.0.0.%d", i % CLIENTS);
        admitted += ask(store, identity, "site", plan, RLP_UNIT, i, left) == RLP_ALLOW;
    }
    assert_int_equal(rlp_segment_look(&segment, UPTIME).evicted, 0);
    assert_int_equal(admitted, UINT64_C(5) * CLIENTS);
    rlp_segment_close(&segment);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(flushes); i++) {
        unit_add(flushes[i].name, test_flush, &flushes[i]);
    }
    for (size_t i = 0; i < UNIT_N(refusals); i++) {
        unit_add_case("refused 140 000 times", refusals[i], test_refusals, &refusals[i]);
    }
    unit_add("those who have used least go", test_some_go, NULL);
    for (size_t i = 0; i < UNIT_N(crowds); i++) {
        unit_add_case("a store that is nearly empty", crowds[i].name, test_crowded_set, &crowds[i]);
    }
    return unit_run();
}
