/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a lease tells Redis without a request that waits for it: units that go back, those that are
 * drawn ahead, debts.
 */

#include "lease_answers.h"

#include "unit.h"

/* Idle units go back: at once if all do, else after a while. */
static void test_idle(void **state)
{
    static const struct {
        bool all;
        rlp_time_t after;
        bool due;
    } rows[] = {
        { false, 0, false }, { false, LEASE_IDLE - 1, false }, { false, LEASE_IDLE, true },
        { true, 0, true },   { true, LEASE_SPAN - 1, true },   { true, LEASE_SPAN, false }
    }; /* void already */

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        lease_begin(BUCKET, 6 * RLP_UNIT);
        assert_int_equal(lease_due(table, result.index, rows[i].all, T0 + rows[i].after, &question),
                         rows[i].due);
        if (rows[i].due) {
            assert_int_equal(question.need, 0);
            assert_int_equal(question.want, 0);
            assert_int_equal(question.has, 0);
            assert_int_equal(question.cost, 0);
            assert_int_equal(question.spent, RLP_UNIT);
            assert_memory_equal(question.key, "key", question.key_len);
            assert_memory_equal(question.args, "args", question.args_len);
            assert_int_equal(question.key_len, 3);
            assert_false(lease_due(table, result.index, true, T0 + rows[i].after, &question));
        }
    }
}

/* What is in use goes back before it is void, unless its window ends then. */
static void test_fades(void **state)
{
    static const struct {
        rlp_time_t turns; /* after the beginning */
        rlp_time_t after;
        bool due;
    } rows[] = {
        { RLP_TIME_NEVER, LEASE_SPAN - RLP_SECOND - 1, false },
        { RLP_TIME_NEVER, LEASE_SPAN - RLP_SECOND, true },
        { HOUR, LEASE_SPAN - RLP_SECOND, true },
        { HOUR, LEASE_SPAN, false }, /* void already */
        { LEASE_SPAN, LEASE_SPAN - RLP_SECOND, false },
    };
    const lease_charge_t charge = charge_of(WINDOW, RLP_UNIT);

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        lease_answer_t answer = answer_of(8 * RLP_UNIT, T0);

        answer.turns = rows[i].turns;
        table_setup();
        assert_int_equal(spend(&charge, T0), LEASE_ASK);
        assert_int_equal(granted(&answer, T0), LEASE_SPENT);
        assert_int_equal(spend(&charge, T0 + LEASE_SPAN - RLP_SECOND - 1), LEASE_SPENT);
        assert_int_equal(lease_due(table, result.index, false, T0 + rows[i].after, &question),
                         rows[i].due);
        if (rows[i].due) {
            assert_int_equal(question.has, 0);
            assert_int_equal(question.want, 0);
            assert_int_equal(question.spent, 2 * RLP_UNIT);
        }
    }
}

/* With half of it gone it is renewed: who spends is told so, now and then, while nobody asks. */
static void test_renewed(void **state)
{
    const lease_charge_t charge = charge_of(BUCKET, RLP_UNIT);
    rlp_time_t now = T0;

    (void)state;
    lease_begin(BUCKET, 16 * RLP_UNIT);
    for (int left = 14; left >= 8; left--) {
        assert_int_equal(spend(&charge, ++now), LEASE_SPENT);
        assert_false(result.renew);
        assert_false(lease_due(table, result.index, false, now, &question));
    }
    assert_int_equal(spend(&charge, now), LEASE_SPENT);
    assert_true(result.renew);
    assert_int_equal(spend(&charge, now), LEASE_SPENT);
    assert_false(result.renew);
    now += RLP_SECOND / 50;
    assert_int_equal(spend(&charge, now), LEASE_SPENT);
    assert_true(result.renew);
    assert_true(lease_due(table, result.index, false, now, &question));
    assert_int_equal(question.has, 5 * RLP_UNIT);
    assert_int_equal(question.need, 0);
    assert_int_equal(question.cost, 0);
    now += RLP_SECOND / 50;
    assert_int_equal(spend(&charge, now), LEASE_SPENT); /* goes on meanwhile */
    assert_false(result.renew);
    const lease_answer_t answer = answer_of(20 * RLP_UNIT, now);

    assert_int_equal(granted(&answer, now), LEASE_WAIT); /* there is no charge to be paid */
    for (int left = 23; left >= 0; left--) {
        assert_int_equal(spend(&charge, now), LEASE_SPENT);
    }
    assert_int_equal(spend(&charge, now), LEASE_ASK);
}

/* Units may be bytes: what is wanted follows the highest rates, up to its part of the burst. */
static void test_fast(void **state)
{
    const char *words = "quota=1000000000000/day";
    const rlp_units_t burst = INT64_C(1000000000000) * RLP_UNIT;
    lease_charge_t charge = charge_of(words, burst);

    (void)state;
    lease_begin(words, RLP_UNITS_MAX);
    for (int i = 0; i < 999; i++) {
        assert_int_equal(spend(&charge, T0), LEASE_SPENT);
    }
    charge.cost = RLP_UNITS_MAX - RLP_UNIT - 999 * burst;
    assert_int_equal(spend(&charge, T0), LEASE_SPENT);
    charge.cost = RLP_UNIT;
    assert_int_equal(spend(&charge, T0 + RLP_SECOND / 100), LEASE_ASK);
    assert_int_equal(question.need, RLP_UNIT);
    assert_int_equal(question.want, burst / 4);
}

/* A debt goes to Redis, and is paid by what it grants. */
static void test_debt(void **state)
{
    const lease_charge_t more = charge_of(BUCKET, 12 * RLP_UNIT);
    const lease_charge_t charge = charge_of(BUCKET, RLP_UNIT);

    (void)state;
    lease_begin(BUCKET, 10 * RLP_UNIT);
    assert_true(lease_settle(table, &more, result.id, T0 + AHEAD, T0));
    assert_int_equal(spend(&charge, T0 + LEASE_SPAN), LEASE_ASK); /* it is not void */
    assert_int_equal(question.has, -3 * RLP_UNIT);
    assert_int_equal(question.need, RLP_UNIT);
    const lease_answer_t answer = answer_of(5 * RLP_UNIT, T0 + LEASE_SPAN);

    assert_int_equal(granted(&answer, T0 + LEASE_SPAN), LEASE_SPENT);
    assert_int_equal(spend(&charge, T0 + LEASE_SPAN), LEASE_SPENT);
    assert_int_equal(spend(&charge, T0 + LEASE_SPAN), LEASE_ASK);
}

/* As a backend may say in header fields. */
static void test_debts(void **state)
{
    const lease_charge_t more = charge_of(BUCKET, RLP_UNITS_MAX);
    const lease_charge_t charge = charge_of(BUCKET, RLP_UNIT);

    (void)state;
    lease_begin(BUCKET, 10 * RLP_UNIT);
    for (int i = 0; i < 10; i++) {
        assert_true(lease_settle(table, &more, result.id, T0 + AHEAD, T0));
    }
    assert_int_equal(spend(&charge, T0), LEASE_ASK);
    assert_int_equal(question.has, -RLP_UNITS_MAX);
}

int main(void)
{
    unit_add("what is idle", test_idle, NULL);
    unit_add("what is in use goes back before its end", test_fades, NULL);
    unit_add("what is half gone", test_renewed, NULL);
    unit_add("the highest rates", test_fast, NULL);
    unit_add("a debt", test_debt, NULL);
    unit_add("debts upon debts", test_debts, NULL);
    const int failed = unit_run();

    table_free();
    return failed;
}
