/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The table of leases: what requests spend, ask for, are refused and give back.
 */

#include "lease_answers.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

/* --- which charges */

typedef struct {
    const char *words;
    rlp_units_t cost;
    rlp_time_t max_wait;
    rlp_branch_t branch;
    bool fits;
} fit_t;

static const fit_t fits[] = {
    { "rate=10/s", RLP_UNIT, 0, RLP_ALWAYS, true },
    { "rate=10/s", 10 * RLP_UNIT, 0, RLP_ALWAYS, true },
    { "rate=10/s", 10 * RLP_UNIT + 1, 0, RLP_ALWAYS, false },
    { "rate=10/s", 1, 0, RLP_ALWAYS, true },
    { "rate=10/s", 0, 0, RLP_ALWAYS, false },
    { "rate=10/s", -1, 0, RLP_ALWAYS, false },
    { "rate=10/s", RLP_UNIT, 1, RLP_ALWAYS, false },
    { "rate=10/s", RLP_UNIT, 0, RLP_FIRST, false },
    { "rate=10/s", RLP_UNIT, 0, RLP_INSTEAD, false },
    { "rate=10/s algorithm=fixed-window", RLP_UNIT, 0, RLP_ALWAYS, true },
    { "rate=10/s algorithm=sliding-window", RLP_UNIT, 0, RLP_ALWAYS, true },
    { "quota=10/day", RLP_UNIT, 0, RLP_ALWAYS, true },
    { "quota=10", RLP_UNIT, 0, RLP_ALWAYS, true },
    { "quota=1", RLP_UNIT, 0, RLP_ALWAYS, true },
    { "rate=100/s burst=4", RLP_UNIT, 0, RLP_ALWAYS, true },
    { "rate=100/s burst=3.999", RLP_UNIT, 0, RLP_ALWAYS, false },
    { "rate=1/s", RLP_UNIT, 0, RLP_ALWAYS, false },
    { "quota=0", RLP_UNIT, 0, RLP_ALWAYS, false },
    { "rate=10/s algorithm=leaky-bucket", RLP_UNIT, 0, RLP_ALWAYS, false },
    { "rate=10/s algorithm=sliding-log", RLP_UNIT, 0, RLP_ALWAYS, false },
    { "rate=10/s algorithm=stepped-bucket", RLP_UNIT, 0, RLP_ALWAYS, false },
    { "concurrent=10", RLP_UNIT, 0, RLP_ALWAYS, false },
};

static void test_fits(void **state)
{
    const fit_t *row = unit_row(state);
    rlp_charge_t charge;

    rlp_charge_init(&charge, "user:1", 6, 42, &unit_plan(row->words)->limits[0]);
    charge.cost = row->cost;
    charge.max_wait = row->max_wait;
    charge.branch = row->branch;
    assert_int_equal(lease_fits(&charge), row->fits);
    assert_true(lease_fits_limit(charge.limit) || !row->fits);
}

/* --- the table */

static void test_table(void **state)
{
    static const uint32_t sizes[] = { LEASE_TABLE_STEP, 2 * LEASE_TABLE_STEP,
                                      5 * LEASE_TABLE_STEP };
    unsigned char secrets[UNIT_N(sizes)][16];
    size_t before = 0;

    (void)state;
    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        lease_table_t *made = table_make(sizes[i]);

        assert_int_equal(lease_table_room(made), sizes[i]);
        assert_true(lease_table_size(sizes[i]) > before);
        before = lease_table_size(sizes[i]);
        memcpy(secrets[i], lease_table_secret(made), 16);
        for (size_t k = 0; k < i; k++) {
            assert_memory_not_equal(secrets[i], secrets[k], 16);
        }
        for (uint32_t k = 0; k < sizes[i]; k++) { /* nothing to be done for an empty one */
            assert_false(lease_due(made, k, true, T0, &question));
        }
        free(made);
    }
}

/* One looks, and the others do not for a while; a clock that was set back is no reason to wait. */
static void test_turn(void **state)
{
    (void)state;
    table_setup();
    assert_true(lease_table_turn(table, T0));
    assert_false(lease_table_turn(table, T0));
    assert_false(lease_table_turn(table, T0 + RLP_SECOND / 4 - 1));
    assert_true(lease_table_turn(table, T0 + RLP_SECOND / 4));
    assert_true(lease_table_turn(table, T0));
    assert_false(lease_table_turn(table, T0 + 1));
}

/* Identities that meet in one place of the table: the last has no room until others are idle. */
static void test_crowded(void **state)
{
    lease_charge_t charge = charge_of(BUCKET, RLP_UNIT);
    uint64_t ids[8];

    (void)state;
    table_setup();
    charge.signature = 0;
    for (uint64_t i = 0; i < 8; i++) {
        charge.identity = 1 + i * LEASE_TABLE_STEP;
        assert_int_equal(spend(&charge, T0), LEASE_ASK);
        ids[i] = question.id;
        assert_int_not_equal(ids[i], 0);
        for (uint64_t k = 0; k < i; k++) {
            assert_int_not_equal(ids[i], ids[k]);
        }
    }
    charge.identity = 1 + 8 * LEASE_TABLE_STEP;
    assert_int_equal(spend(&charge, T0), LEASE_NONE);
    assert_int_equal(spend(&charge, T0 + PATIENCE), LEASE_NONE);
    assert_int_equal(spend(&charge, T0 + LEASE_IDLE + 1), LEASE_ASK);
    charge.identity = 2;
    assert_int_equal(spend(&charge, T0), LEASE_ASK); /* elsewhere there was room all the time */
}

/* --- asking */

/* One asks and the others wait, until it was not heard of for too long. */
static void test_claim(void **state)
{
    const lease_charge_t charge = charge_of(BUCKET, 3 * RLP_UNIT);
    const lease_answer_t answer = answer_of(10 * RLP_UNIT, T0);

    (void)state;
    table_setup();
    assert_int_equal(spend(&charge, T0), LEASE_ASK);
    assert_int_equal(question.need, 3 * RLP_UNIT);
    assert_int_equal(question.cost, 3 * RLP_UNIT);
    assert_true(question.want >= question.need);
    assert_int_equal(question.has, 0);
    assert_int_equal(question.spent, 0);
    assert_int_equal(question.sent, T0);
    assert_int_equal(question.patience, PATIENCE);
    assert_int_equal(question.key_len, 0);
    assert_in_range(question.index, 0, LEASE_TABLE_STEP - 1);
    const lease_question_t first = question;

    assert_int_equal(spend(&charge, T0), LEASE_WAIT);
    assert_int_equal(spend(&charge, T0 + PATIENCE - 1), LEASE_WAIT);
    assert_false(lease_due(table, first.index, true, T0 + PATIENCE - 1, &question));
    assert_int_equal(spend(&charge, T0 + PATIENCE), LEASE_ASK);
    assert_int_equal(question.id, first.id);
    assert_true(question.sequence > first.sequence);
    const lease_question_t second = question;

    question = first; /* its answer comes too late */
    assert_int_equal(granted(&answer, T0 + PATIENCE), LEASE_WAIT);
    question = second;
    assert_int_equal(granted(&answer, T0 + PATIENCE), LEASE_SPENT);
    assert_int_equal(granted(&answer, T0 + PATIENCE), LEASE_WAIT); /* each answer once */
    assert_int_equal(spend(&charge, T0 + PATIENCE), LEASE_SPENT);
    assert_int_equal(spend(&charge, T0 + PATIENCE), LEASE_SPENT);
    assert_int_equal(spend(&charge, T0 + PATIENCE), LEASE_ASK);
    assert_int_equal(question.has, RLP_UNIT);
    assert_int_equal(question.need, 2 * RLP_UNIT);
    assert_int_equal(question.spent, 9 * RLP_UNIT);
}

/* No answer, or that of a question that another was faster than: the next one asks. */
static void test_no_answer(void **state)
{
    const lease_charge_t charge = charge_of(BUCKET, RLP_UNIT);
    lease_answer_t overtaken = answer_of(10 * RLP_UNIT, T0);

    (void)state;
    table_setup();
    overtaken.lasts = 0;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(spend(&charge, T0 + i), LEASE_ASK);
        assert_int_equal(question.has, 0);
        assert_int_equal(granted(i % 2 ? &overtaken : NULL, T0 + i), LEASE_WAIT);
    }
}

/* What was paid is told with the time of Redis, and what is left with what Redis had. */
static void test_paid(void **state)
{
    const lease_charge_t charge = charge_of(BUCKET, RLP_UNIT);

    (void)state;
    lease_begin(BUCKET, 10 * RLP_UNIT);
    for (int i = 1; i < 10; i++) {
        assert_int_equal(result.decision.verdict, RLP_ALLOW);
        assert_int_equal(result.decision.remaining, 500 + 10 - i);
        assert_int_equal(result.decision.retry, 0);
        assert_int_equal(result.charged_at, T0 + AHEAD + i - 1);
        assert_int_equal(result.id, question.id);
        assert_int_equal(spend(&charge, T0 + i), LEASE_SPENT);
    }
    assert_int_equal(spend(&charge, T0 + 10), LEASE_ASK);
}

/* What is left at the end of a lease is void. */
static void test_ends(void **state)
{
    const lease_charge_t charge = charge_of(BUCKET, RLP_UNIT);

    (void)state;
    lease_begin(BUCKET, 10 * RLP_UNIT);
    assert_int_equal(spend(&charge, T0 + LEASE_SPAN - 1), LEASE_SPENT);
    assert_int_equal(spend(&charge, T0 + LEASE_SPAN), LEASE_ASK);
    assert_int_equal(question.has, 0);
    assert_int_equal(question.spent, 2 * RLP_UNIT);
}

/* An answer that arrives after its own end is worth nothing. */
static void test_late(void **state)
{
    const lease_charge_t charge = charge_of(BUCKET, RLP_UNIT);
    lease_answer_t answer = answer_of(10 * RLP_UNIT, T0);

    (void)state;
    table_setup();
    assert_int_equal(spend(&charge, T0), LEASE_ASK);
    answer.lasts = RLP_SECOND / 2;
    assert_int_equal(granted(&answer, T0 + RLP_SECOND / 2), LEASE_WAIT);
    assert_int_equal(spend(&charge, T0 + RLP_SECOND / 2), LEASE_ASK);
}

/* --- refusals */

typedef struct {
    const char *name;
    rlp_verdict_t verdict;
    rlp_time_t retry;
    rlp_units_t others;
    rlp_time_t believed; /* for so long */
} refusal_t;

static const refusal_t refusals[] = {
    { "until then", RLP_DENY, 3 * RLP_SECOND, 0, 3 * RLP_SECOND },
    { "no longer than ten seconds", RLP_DENY, HOUR, 0, 10 * RLP_SECOND },
    { "others may give back", RLP_DENY, HOUR, 5, RLP_SECOND },
    { "never", RLP_NEVER, 0, 0, 10 * RLP_SECOND },
};

static void test_refusal(void **state)
{
    const refusal_t *row = unit_row(state);
    const lease_charge_t charge = charge_of(BUCKET, 2 * RLP_UNIT);
    const lease_charge_t smaller = charge_of(BUCKET, RLP_UNIT);
    const lease_charge_t larger = charge_of(BUCKET, 9 * RLP_UNIT);
    lease_answer_t answer = answer_of(0, T0);

    table_setup();
    answer.decision.verdict = row->verdict;
    answer.decision.retry = row->retry;
    answer.others = row->others;
    assert_int_equal(spend(&charge, T0), LEASE_ASK);
    assert_int_equal(granted(&answer, T0), LEASE_REFUSED);
    assert_int_equal(result.decision.verdict, row->verdict);
    assert_int_equal(result.decision.retry, row->retry);
    for (rlp_time_t at = 0; at < row->believed; at += row->believed / 4) {
        assert_int_equal(spend(&charge, T0 + at), LEASE_REFUSED);
        assert_int_equal(result.decision.verdict, row->verdict);
        assert_int_equal(result.decision.retry, row->verdict == RLP_NEVER ? 0 : row->retry - at);
        assert_int_equal(spend(&larger, T0 + at), LEASE_REFUSED);
    }
    assert_int_equal(spend(&charge, T0 + row->believed - 1), LEASE_REFUSED);
    assert_int_equal(spend(&smaller, T0 + row->believed / 2), LEASE_ASK);
    assert_int_equal(granted(NULL, T0 + row->believed / 2), LEASE_WAIT);
    assert_int_equal(spend(&charge, T0 + row->believed), LEASE_ASK);
}

typedef struct {
    const char *words;
    rlp_units_t cost;
    rlp_time_t retry;
} held_off_t;

static const held_off_t held_off[] = {
    { "rate=10/10s", RLP_UNIT, 1600000 },
    { "rate=10/10s", 3 * RLP_UNIT, 3600000 },
    { "rate=10/10s", 2500, 3100000 },
    { "rate=10/10s algorithm=sliding-window", RLP_UNIT, 1600000 },
};

/* While nobody asks, because there is little, who is refused is told when there is enough. */
static void test_held_off(void **state)
{
    const held_off_t *row = unit_row(state);
    const lease_charge_t charge = charge_of(row->words, RLP_UNIT);
    const lease_charge_t refused = charge_of(row->words, row->cost);
    lease_answer_t answer = answer_of(0, T0);

    table_setup();
    answer.decision = (rlp_decision_t){ .verdict = RLP_DENY, .retry = 1, .next = 1, .reset = HOUR };
    assert_int_equal(spend(&charge, T0), LEASE_ASK);
    assert_int_equal(granted(&answer, T0), LEASE_REFUSED);
    answer = answer_of(RLP_UNIT, T0 + RLP_SECOND);
    answer.decision = (rlp_decision_t){ .next = 1600000, .reset = 10600000 };
    assert_int_equal(spend(&charge, T0 + RLP_SECOND), LEASE_ASK);
    question.want = 2 * RLP_UNIT; /* more than it gets */
    assert_int_equal(granted(&answer, T0 + RLP_SECOND), LEASE_SPENT);
    assert_int_equal(spend(&refused, T0 + RLP_SECOND), LEASE_REFUSED);
    assert_int_equal(result.decision.retry, row->retry);
    assert_int_equal(spend(&refused, T0 + RLP_SECOND + RLP_SECOND / 2), LEASE_ASK);
}

/* What was drawn under a larger plan is not spent under another, nor what comes too late. */
static void test_other_units(void **state)
{
    const lease_charge_t before = charge_of(BUCKET, RLP_UNIT);
    const lease_charge_t after = charge_of("rate=10/hour", RLP_UNIT);
    rlp_decision_t decision;

    (void)state;
    lease_begin(BUCKET, 100 * RLP_UNIT);
    const lease_answer_t late = answer_of(100 * RLP_UNIT, T0);

    assert_int_equal(spend(&before, T0), LEASE_SPENT);
    assert_false(lease_peek(table, &after, T0, &decision));
    assert_true(lease_peek(table, &before, T0, &decision));
    assert_int_equal(spend(&after, T0), LEASE_ASK);
    assert_int_equal(question.has, 0);
    assert_int_equal(question.spent, 2 * RLP_UNIT);
    assert_int_equal(spend(&before, T0), LEASE_ASK);
    const lease_question_t asked = question;

    assert_int_equal(spend(&after, T0), LEASE_ASK);
    question = asked;
    assert_int_equal(granted(&late, T0), LEASE_WAIT);
    assert_int_equal(spend(&after, T0), LEASE_WAIT);
}

/* Another count of the limit is another question. */
static void test_other_limit(void **state)
{
    const lease_charge_t before = charge_of("quota=10", RLP_UNIT);
    const lease_charge_t after = charge_of("quota=20", RLP_UNIT);
    lease_answer_t answer = answer_of(0, T0);

    (void)state;
    table_setup();
    answer.decision.verdict = RLP_NEVER;
    assert_int_equal(spend(&before, T0), LEASE_ASK);
    assert_int_equal(granted(&answer, T0), LEASE_REFUSED);
    assert_int_equal(spend(&before, T0 + RLP_SECOND), LEASE_REFUSED);
    assert_int_equal(spend(&after, T0 + RLP_SECOND), LEASE_ASK);
}

/* --- a look */

static void test_peek(void **state)
{
    const lease_charge_t charge = charge_of(BUCKET, 4 * RLP_UNIT);
    rlp_decision_t decision;

    (void)state;
    table_setup();
    assert_false(lease_peek(table, &charge, T0, &decision));
    lease_begin(BUCKET, 6 * RLP_UNIT);
    for (int i = 0; i < 3; i++) {
        assert_true(lease_peek(table, &charge, T0, &decision));
        assert_int_equal(decision.verdict, RLP_ALLOW);
        assert_int_equal(decision.remaining, 505);
    }
    assert_int_equal(spend(&charge, T0), LEASE_SPENT);
    assert_false(lease_peek(table, &charge, T0, &decision));
    assert_int_equal(spend(&charge, T0), LEASE_ASK);
}

/* --- corrections */

typedef struct {
    const char *name;
    const char *words;
    rlp_units_t cost;
    bool other_lease;
    rlp_time_t charged_at; /* of T0, on Redis' clock */
    rlp_time_t now;
    bool done;
    rlp_units_t left; /* of 9 units, now */
} correction_t;

static const correction_t corrections[] = {
    { "given back", BUCKET, -RLP_UNIT, false, 0, 0, true, 10000 },
    { "part of it", BUCKET, -RLP_UNIT / 4, false, 0, 0, true, 9250 },
    { "more than was spent", BUCKET, -RLP_UNIT - 1, false, 0, 0, false, 9000 },
    { "charged more", BUCKET, 4 * RLP_UNIT, false, 0, 0, true, 5000 },
    { "more than there is", BUCKET, 20 * RLP_UNIT, false, 0, 0, true, -11000 },
    { "of another lease", BUCKET, -RLP_UNIT, true, 0, 0, false, 9000 },
    { "charged to another", BUCKET, RLP_UNIT, true, 0, 0, false, 9000 },
    { "given back too late", BUCKET, -RLP_UNIT, false, 0, LEASE_SPAN, false, 0 },
    { "in its window", WINDOW, -RLP_UNIT, false, 0, 0, true, 10000 },
    { "of a window that is over", WINDOW, -RLP_UNIT, false, -1, 0, true, 9000 },
};

/* What the lease has afterwards, its next question says. */
static void test_correction(void **state)
{
    const correction_t *row = unit_row(state);
    const lease_charge_t charge = charge_of(row->words, row->cost);
    const lease_charge_t all = charge_of(row->words, 1000 * RLP_UNIT);

    lease_begin(row->words, 10 * RLP_UNIT);
    const uint64_t id = result.id + (row->other_lease ? 2 : 0);

    assert_false(lease_settle(table, &charge, 0, T0 + AHEAD, T0));
    assert_int_equal(lease_settle(table, &charge, id, T0 + AHEAD + row->charged_at, T0 + row->now),
                     row->done);
    assert_int_equal(spend(&all, T0 + row->now), LEASE_ASK);
    assert_int_equal(question.has, row->left);
    assert_int_equal(question.need, 1000 * RLP_UNIT - (row->left > 0 ? row->left : 0));
}

/* What is charged by a clock of Redis' that was set back is of this window, too. */
static void test_correction_set_back(void **state)
{
    const lease_charge_t charge = charge_of(WINDOW, RLP_UNIT);
    const lease_charge_t back = charge_of(WINDOW, -RLP_UNIT);
    const lease_charge_t all = charge_of(WINDOW, 1000 * RLP_UNIT);
    lease_answer_t answer = answer_of(20 * RLP_UNIT, T0);

    (void)state;
    lease_begin(WINDOW, 10 * RLP_UNIT);
    assert_int_equal(spend(&all, T0 + 1), LEASE_ASK);
    answer.now -= HOUR;
    granted(&answer, T0 + 1);
    assert_int_equal(spend(&charge, T0 + 1), LEASE_SPENT);
    assert_true(lease_settle(table, &back, result.id, result.charged_at, T0 + 1));
    assert_int_equal(spend(&all, T0 + 1), LEASE_ASK);
    assert_int_equal(question.has, 29 * RLP_UNIT);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(fits); i++) {
        unit_add_case("can it be leased", fits[i].words, test_fits, &fits[i]);
    }
    unit_add("tables", test_table, NULL);
    unit_add("one looks at a time", test_turn, NULL);
    unit_add("no room", test_crowded, NULL);
    unit_add("one asks at a time", test_claim, NULL);
    unit_add("no answer", test_no_answer, NULL);
    unit_add("what was paid", test_paid, NULL);
    unit_add("the end of a lease", test_ends, NULL);
    unit_add("an answer after its end", test_late, NULL);
    for (size_t i = 0; i < UNIT_N(refusals); i++) {
        unit_add_case("a refusal is believed", refusals[i].name, test_refusal, &refusals[i]);
    }
    for (size_t i = 0; i < UNIT_N(held_off); i++) {
        unit_add_case("held off", held_off[i].words, test_held_off, &held_off[i]);
    }
    unit_add("units of another limit", test_other_units, NULL);
    unit_add("another limit", test_other_limit, NULL);
    unit_add("a look", test_peek, NULL);
    for (size_t i = 0; i < UNIT_N(corrections); i++) {
        unit_add_case("a correction", corrections[i].name, test_correction, &corrections[i]);
    }
    unit_add("a correction, by a clock that was set back", test_correction_set_back, NULL);
    const int failed = unit_run();

    table_free();
    return failed;
}
