/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "lease_answers.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

lease_table_t *table;
lease_result_t result;
lease_question_t question;

lease_table_t *table_make(uint32_t leases)
{
    void *memory = aligned_alloc(64, (lease_table_size(leases) + 63) / 64 * 64);

    assert_non_null(memory);
    memset(memory, 0, lease_table_size(leases));
    return lease_table_make(memory, leases, PATIENCE);
}

void table_free(void)
{
    free(table);
    table = NULL;
}

void table_setup(void)
{
    table_free();
    table = table_make(LEASE_TABLE_STEP);
}

lease_charge_t charge_of(const char *words, rlp_units_t cost)
{
    return (lease_charge_t){
        .identity = 7, .signature = 42, .cost = cost, .limit = &unit_plan(words)->limits[0]
    };
}

lease_outcome_t spend(const lease_charge_t *charge, rlp_time_t now)
{
    lease_spend(table, charge, now, &result, &question);
    return result.outcome;
}

lease_answer_t answer_of(rlp_units_t granted, rlp_time_t now)
{
    return (lease_answer_t){ .now = now + AHEAD,
                             .decision = { .remaining = 500, .reset = HOUR },
                             .granted = granted,
                             .lasts = LEASE_SPAN,
                             .turns = RLP_TIME_NEVER };
}

lease_outcome_t granted(const lease_answer_t *answer, rlp_time_t now)
{
    question.key_len = 3;
    question.args_len = 4;
    memcpy(question.key, "key", 3);
    memcpy(question.args, "args", 4);
    lease_granted(table, &question, answer, now, &result);
    return result.outcome;
}

void lease_begin(const char *words, rlp_units_t units)
{
    const lease_charge_t charge = charge_of(words, RLP_UNIT);
    const lease_answer_t answer = answer_of(units, T0);

    table_setup();
    assert_int_equal(spend(&charge, T0), LEASE_ASK);
    assert_int_equal(granted(&answer, T0), LEASE_SPENT);
}
