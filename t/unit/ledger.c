/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is noted of charges that Redis is to be told of later, and what is left of them by then.
 */

#include "redis/ledger.h"

#include "unit.h"

static void ledger_charge(rlp_charge_t *charge)
{
    const rlp_limit_t *limit = &unit_plan("rate=10/hour")->limits[0];

    rlp_charge_init(charge, "user:1", 6, rlp_signature("api", NULL, limit), limit);
    charge->rule = "api";
}

static void test_ledger(void **state)
{
    redis_ledger_t *ledger = redis_ledger_create(unit_pool());
    redis_debt_t *debts[2];
    rlp_charge_t charge;

    (void)state;
    ledger_charge(&charge);
    charge.decision.reset = 100;
    redis_ledger_note(ledger, &charge, -RLP_UNIT, 1, 0); /* of nothing, nothing comes back */
    assert_int_equal(redis_ledger_size(ledger), 0);
    redis_ledger_note(ledger, &charge, 4 * RLP_UNIT, 1, 1000);
    redis_ledger_note(ledger, &charge, 3 * RLP_UNIT, 1, 1050);
    redis_ledger_note(ledger, &charge, RLP_UNIT, 2, 1050);
    assert_int_equal(redis_ledger_size(ledger), 2);
    for (int i = 0; i < 2; i++) { /* two outages of one counter */
        debts[i] = redis_ledger_take(ledger);
        assert_non_null(debts[i]);
        assert_int_equal(redis_ledger_size(ledger), 1 - i);
    }
    const redis_debt_t *first = debts[0]->outage == 1 ? debts[0] : debts[1];

    assert_int_equal(first->units, 2 * RLP_UNIT + 3 * RLP_UNIT);
    assert_int_equal(first->at, 1050);
    assert_memory_equal(first->subject->bytes, "user:1", 6);
    assert_string_equal(first->subject->rule, "api");
    assert_null(redis_ledger_take(ledger));
    redis_debt_free(debts[0]);
    redis_debt_free(debts[1]);
    ledger_charge(&charge);
    charge.decision.reset = 100;
    for (int i = 0; i < REDIS_LEDGER_MAX + 10; i++) {
        charge.entry.key.identity = (const char *)&i;
        charge.entry.key.identity_len = sizeof(i);
        redis_ledger_note(ledger, &charge, 100 * RLP_UNIT, 1, 0);
    }
    assert_int_equal(redis_ledger_size(ledger), REDIS_LEDGER_MAX);
    debts[0] = redis_ledger_take(ledger);
    assert_non_null(debts[0]);
    assert_int_equal(debts[0]->units, 10 * RLP_UNIT);
    redis_debt_free(debts[0]);
}

static void test_left(void **state)
{
    const rlp_limit_t *bucket = &unit_plan("rate=10/hour")->limits[0];
    const rlp_limit_t *window = &unit_plan("rate=10/hour algorithm=fixed-window")->limits[0];

    (void)state;
    assert_int_equal(redis_left(bucket, 1000, 0, 100), 1000);
    assert_int_equal(redis_left(bucket, 1000, 25, 100), 750);
    assert_int_equal(redis_left(bucket, 1000, 100, 100), 0);
    assert_int_equal(redis_left(bucket, 1000, 1, 0), 0);
    assert_int_equal(redis_left(bucket, RLP_UNITS_MAX, RLP_SECOND, 1000000 * RLP_SECOND),
                     RLP_UNITS_MAX / 1000000 * 999999 + RLP_UNITS_MAX % 1000000 - 1);
    assert_int_equal(redis_left(window, 1000, 99, 100), 1000);
    assert_int_equal(redis_left(window, 1000, 100, 100), 0);
    assert_int_equal(redis_left(window, 1000, INT64_MAX, RLP_TIME_NEVER), 1000);
}

int main(void)
{
    unit_add("what is noted", test_ledger, NULL);
    unit_add("what is left after a while", test_left, NULL);
    return unit_run();
}
