/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Several stores as one, some of which do not answer.
 */

#include "joint_parts.h"

typedef struct {
    const char *name;
    int gone;          /* bits: the parts that do not answer */
    int closed;        /* bits: those that would have nobody pass meanwhile */
    const char *asked; /* who has failed is not asked again */
    apr_status_t rv;
    int charged; /* bits: the parts that have charged for good */
} failure_t;

static const failure_t failures[] = {
    { "a near one", 1 << 0, 0, "acBD", APR_SUCCESS, 1 << 1 | 1 << 2 | 1 << 3 },
    { "a far one that is open", 1 << 1, 0, "acBD", APR_SUCCESS, 1 << 0 | 1 << 2 | 1 << 3 },
    { "all but one", 1 << 0 | 1 << 1 | 1 << 2, 0, "acBD", APR_SUCCESS, 1 << 3 },
    { "all: the first failure is told", 15, 0, "acBD", FAILURE(0), 0 },
    { "a far one that is closed", 1 << 1, 1 << 1, "acBac", FAILURE(1), 0 },
    { "the last one, closed", 1 << 3, 1 << 3, "acBDacB", FAILURE(3), 0 },
    { "one open, then one closed", 1 << 1 | 1 << 3, 1 << 3, "acBDac", FAILURE(1), 0 },
    { "one closed, then one open", 1 << 1 | 1 << 3, 1 << 1, "acBac", FAILURE(1), 0 },
    { "a near one, then one closed", 1 << 0 | 1 << 1, 1 << 1, "acBc", FAILURE(0), 0 },
};

static void failure_begin(const failure_t *row, rlp_charge_t charges[PARTS])
{
    joint_fresh();
    for (int i = 0; i < PARTS; i++) {
        joint_parts[i].fails_from = row->gone >> i & 1;
        joint_parts[i].closed = row->closed >> i & 1;
        joint_charge(&charges[i], i, FREE);
    }
}

static void test_failure(void **state)
{
    const failure_t *row = unit_row(state);
    rlp_charge_t charges[PARTS];
    rlp_answer_t answer;

    failure_begin(row, charges);
    assert_int_equal(rlp_check(joint, charges, PARTS, &joint_question, &answer), row->rv);
    assert_string_equal(joint_asked, row->asked);
    assert_true(answer.unasked);
    assert_int_equal(answer.refuses, row->closed != 0);
    if (row->rv == APR_SUCCESS) {
        assert_int_equal(answer.verdict, RLP_ALLOW);
    } else {
        assert_true(answer.told);
        assert_int_equal(answer.retry, row->closed ? 7 * RLP_SECOND : 0);
    }
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(part_left(i, FREE), row->charged >> i & 1 ? 4 : 5);
        assert_true(charges[i].spared || !(row->gone >> i & 1));
        assert_true(!charges[i].spared || !(row->charged >> i & 1));
    }
}

/* A look fails as the question would, and charges nothing. */
static void test_failure_look(void **state)
{
    const failure_t *row = unit_row(state);
    rlp_charge_t charges[PARTS];
    rlp_answer_t answer;

    failure_begin(row, charges);
    assert_int_equal(rlp_peek(joint, charges, PARTS, &joint_question, &answer), row->rv);
    assert_true(answer.unasked);
    assert_int_equal(answer.refuses, row->closed != 0);
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(part_left(i, FREE), 5);
    }
}

/* A correction is made wherever it can be, whatever a store says of requests. */
static void test_failure_settle(void **state)
{
    const failure_t *row = unit_row(state);
    rlp_charge_t charges[PARTS];
    rlp_answer_t answer;

    failure_begin(row, charges);
    for (int i = 0; i < PARTS; i++) {
        charges[i].cost = 2 * RLP_UNIT;
    }
    assert_int_equal(rlp_settle(joint, charges, PARTS, &joint_question, &answer),
                     row->gone == 15 ? FAILURE(0) : APR_SUCCESS);
    assert_string_equal(joint_asked, "acBD");
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(part_left(i, FREE), row->gone >> i & 1 ? 5 : 3);
    }
}

/* Places come back wherever they can. */
static void test_failure_release(void **state)
{
    const failure_t *row = unit_row(state);
    rlp_charge_t charges[PARTS];
    rlp_answer_t answer;

    failure_begin(row, charges);
    for (int i = 0; i < PARTS; i++) {
        joint_parts[i].fails_from *= 2; /* after the places were taken */
        joint_charge(&charges[i], i, "concurrent=3");
    }
    assert_int_equal(joint_take(charges, PARTS).verdict, RLP_ALLOW);
    joint_asked[0] = '\0';
    assert_int_equal(rlp_release(joint, charges, PARTS, &joint_question, &answer),
                     row->gone == 15 ? FAILURE(0) : APR_SUCCESS);
    assert_string_equal(joint_asked, "acBD");
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(part_left(i, "concurrent=3"), row->gone >> i & 1 ? 2 : 3);
    }
}

/* One that dies before it could give back keeps the charge; the others have theirs again. */
static void test_failure_return(void **state)
{
    rlp_charge_t charges[PARTS];

    (void)state;
    joint_fresh();
    part_spend(3, SPENT);
    joint_parts[2].fails_from = 2;
    for (int i = 0; i < PARTS; i++) {
        joint_charge(&charges[i], i, i == 3 ? SPENT : FREE);
    }
    assert_int_equal(joint_take(charges, PARTS).verdict, RLP_DENY);
    assert_string_equal(joint_asked, "acBDacB");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(part_left(i, FREE), i == 2 ? 4 : 5);
        assert_false(charges[i].spared);
    }
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(failures); i++) {
        unit_add_case("a question fails", failures[i].name, test_failure, &failures[i]);
        unit_add_case("a look fails", failures[i].name, test_failure_look, &failures[i]);
        unit_add_case("a correction fails", failures[i].name, test_failure_settle, &failures[i]);
        unit_add_case("a release fails", failures[i].name, test_failure_release, &failures[i]);
    }
    unit_add("one dies before it gives back", test_failure_return, NULL);
    return unit_run();
}
