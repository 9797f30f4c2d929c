/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Several stores as one: charges go where their terms say, in all stores or in none.
 */

#include "unit.h"

#include <string.h>

#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define PARTS 3 /* two near ones, and between them one that decides by itself */

/* Stands for a store far away: a store in memory behind a decide(), which may be gone. */
typedef struct {
    rlp_store_t head;
    rlp_store_t *behind;
    bool gone;
    bool closed; /* while it is gone nobody is to pass */
    int asked;
} far_t;

static far_t far;
static rlp_store_t *joint;
static const rlp_terms_t terms[PARTS] = { { .store = 0 }, { .store = 1 }, { .store = 2 } };

static apr_status_t far_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                               const rlp_question_t *question, rlp_op_kind_t kind,
                               rlp_answer_t *answer)
{
    far_t *store = (far_t *)head;

    store->asked++;
    if (store->gone) {
        answer->told = true;
        answer->refuses = store->closed;
        answer->retry = RLP_SECOND;
        return APR_EGENERAL;
    }
    switch (kind) {
    case RLP_TAKE:
        return rlp_check(store->behind, charges, n, question, answer);
    case RLP_PEEK:
        return rlp_peek(store->behind, charges, n, question, answer);
    case RLP_SETTLE:
        return rlp_settle(store->behind, charges, n, question, answer);
    default:
        return rlp_release(store->behind, charges, n, question, answer);
    }
}

static rlp_time_t far_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now;
}

static uint64_t far_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    (void)store;
    (void)identity;
    return len;
}

static const rlp_store_type_t far_type = {
    .name = "far", .time = far_time, .fingerprint = far_fingerprint, .decide = far_decide
};

/* Fresh stores, in each of which this process has a number. */
static int joint_setup(void **state)
{
    rlp_store_t *parts[PARTS];

    (void)state;
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(rlp_memory_create(&parts[i], unit_pool()), APR_SUCCESS);
    }
    far = (far_t){
        .head = { .type = &far_type, .owners = parts[1]->owners, .secret = parts[1]->secret },
        .behind = parts[1]
    };
    parts[1] = &far.head;
    joint = rlp_joint_create(parts, PARTS, NULL, unit_pool());
    for (int i = 0; i < PARTS; i++) {
        for (int k = 0; k < i; k++) {
            (void)rlp_owner_open(parts[i], 1); /* numbers differ */
        }
        rlp_joint_owner(joint, i, rlp_owner_open(parts[i], 1));
    }
    return 0;
}

static void charge_init(rlp_charge_t *charge, int part, const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];

    rlp_charge_init(charge, "ip:192.0.2.1", strlen("ip:192.0.2.1"),
                    rlp_signature("rule", NULL, limit), limit);
    charge->terms = &terms[part];
    if (limit->state_size > sizeof(charge->room)) {
        charge->entry.state = apr_palloc(unit_pool(), limit->state_size);
    }
}

static const rlp_question_t question = { .now = NOW };

static rlp_answer_t joint_take(rlp_charge_t charges[], int n)
{
    rlp_answer_t answer;

    assert_int_equal(rlp_check(joint, charges, n, &question, &answer), APR_SUCCESS);
    return answer;
}

/* What a store has left under the words. */
static int64_t joint_left(int part, const char *words)
{
    rlp_charge_t charge;
    rlp_answer_t answer;

    charge_init(&charge, part, words);
    assert_int_equal(rlp_peek(joint, &charge, 1, &question, &answer), APR_SUCCESS);
    return charge.decision.remaining;
}

static void test_apart(void **state)
{
    rlp_charge_t charges[PARTS];

    joint_setup(state);
    for (int k = 0; k < 3; k++) {
        charge_init(&charges[0], 2, "rate=5/hour");
        charge_init(&charges[1], 0, "rate=5/hour");
        charge_init(&charges[2], 1, "rate=5/hour");
        assert_int_equal(joint_take(charges, k == 0 ? 3 : 1).verdict, RLP_ALLOW);
    }
    assert_int_equal(joint_left(0, "rate=5/hour"), 4);
    assert_int_equal(joint_left(1, "rate=5/hour"), 4);
    assert_int_equal(joint_left(2, "rate=5/hour"), 2);
}

/* The far one refuses: what the near ones have charged comes back. */
static void test_far_refuses(void **state)
{
    rlp_charge_t charges[PARTS];
    rlp_answer_t answer = { .verdict = RLP_ALLOW };

    joint_setup(state);
    for (int k = 0; k < 3; k++) {
        charge_init(&charges[0], 1, "rate=2/hour");
        charge_init(&charges[1], 0, "rate=5/hour");
        charge_init(&charges[2], 2, "concurrent=5");
        answer = joint_take(charges, 3);
    }
    assert_int_equal(answer.verdict, RLP_DENY);
    assert_int_equal(answer.tightest, 0);
    assert_int_equal(answer.retry, INT64_C(1800) * RLP_SECOND);
    assert_int_equal(charges[1].decision.verdict, RLP_ALLOW);
    assert_int_equal(charges[1].decision.remaining, 3);
    assert_int_equal(joint_left(0, "rate=5/hour"), 3);
    assert_int_equal(joint_left(2, "concurrent=5"), 3);
}

/* A near one refuses: the far one is not asked. */
static void test_near_refuses(void **state)
{
    rlp_charge_t charges[2];

    joint_setup(state);
    for (int k = 0; k < 3; k++) {
        charge_init(&charges[0], 1, "rate=5/hour");
        charge_init(&charges[1], 2, "rate=1/hour");
        assert_int_equal(joint_take(charges, 2).verdict, k ? RLP_DENY : RLP_ALLOW);
    }
    assert_int_equal(far.asked, 1);
    assert_true(charges[0].spared);
    assert_false(charges[1].spared);
    assert_int_equal(joint_left(1, "rate=5/hour"), 4);
}

static void test_gone_open(void **state)
{
    rlp_charge_t charges[2];

    joint_setup(state);
    far.gone = true;
    charge_init(&charges[0], 1, "rate=5/hour");
    charge_init(&charges[1], 0, "rate=5/hour");
    const rlp_answer_t answer = joint_take(charges, 2);

    assert_int_equal(answer.verdict, RLP_ALLOW);
    assert_true(answer.unasked);
    assert_int_equal(answer.tightest, 1);
    assert_true(charges[0].spared);
    assert_int_equal(joint_left(0, "rate=5/hour"), 4);
}

static void test_gone_closed(void **state)
{
    rlp_charge_t charges[2];
    rlp_answer_t answer;

    joint_setup(state);
    far.gone = true;
    far.closed = true;
    charge_init(&charges[0], 1, "rate=5/hour");
    charge_init(&charges[1], 0, "rate=5/hour");
    assert_int_equal(rlp_check(joint, charges, 2, &question, &answer), APR_EGENERAL);
    assert_true(answer.refuses);
    assert_true(answer.told);
    assert_int_equal(answer.retry, RLP_SECOND);
    assert_int_equal(joint_left(0, "rate=5/hour"), 5);
}

/* Alone, a store that is gone has its failure told as it is. */
static void test_gone_alone(void **state)
{
    rlp_charge_t charge;
    rlp_answer_t answer;

    joint_setup(state);
    far.gone = true;
    charge_init(&charge, 1, "rate=5/hour");
    assert_int_equal(rlp_check(joint, &charge, 1, &question, &answer), APR_EGENERAL);
    assert_true(answer.told);
    assert_false(answer.refuses);
}

/* Places are those of this process's number in each store, and come back. */
static void test_places(void **state)
{
    const rlp_question_t later = { .now = NOW, .charged_at = NOW };
    rlp_charge_t charges[2];
    rlp_answer_t answer;

    joint_setup(state);
    charge_init(&charges[0], 2, "concurrent=1");
    charge_init(&charges[1], 0, "concurrent=1");
    assert_int_equal(joint_take(charges, 2).verdict, RLP_ALLOW);
    assert_int_equal(joint_take(charges, 2).verdict, RLP_DENY);
    assert_int_equal(rlp_release(joint, charges, 2, &later, &answer), APR_SUCCESS);
    assert_int_equal(joint_left(0, "concurrent=1"), 1);
    assert_int_equal(joint_left(2, "concurrent=1"), 1);
}

static void test_settle(void **state)
{
    const rlp_question_t later = { .now = NOW, .charged_at = NOW };
    rlp_charge_t charges[2];
    rlp_answer_t answer;

    joint_setup(state);
    charge_init(&charges[0], 1, "rate=5/hour");
    charge_init(&charges[1], 2, "rate=5/hour");
    assert_int_equal(joint_take(charges, 2).verdict, RLP_ALLOW);
    charges[0].cost = 2 * RLP_UNIT;
    charges[1].cost = -RLP_UNIT;
    assert_int_equal(rlp_settle(joint, charges, 2, &later, &answer), APR_SUCCESS);
    assert_int_equal(joint_left(1, "rate=5/hour"), 2);
    assert_int_equal(joint_left(2, "rate=5/hour"), 5);
}

/* A question changes nothing, and hears of all stores. */
static void test_peek(void **state)
{
    rlp_charge_t charges[PARTS];
    rlp_answer_t answer;

    joint_setup(state);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < PARTS; i++) {
            charge_init(&charges[i], i, "rate=5/hour");
        }
        assert_int_equal(rlp_peek(joint, charges, PARTS, &question, &answer), APR_SUCCESS);
        assert_int_equal(answer.verdict, RLP_ALLOW);
        for (int i = 0; i < PARTS; i++) {
            assert_false(charges[i].spared);
            assert_int_equal(charges[i].decision.remaining, 5);
        }
    }
}

/* Terms of a store that there is not are those of the first. */
static void test_nowhere(void **state)
{
    static const rlp_terms_t strange[] = { { .store = PARTS }, { .store = -1 } };
    rlp_charge_t charge;

    joint_setup(state);
    for (size_t i = 0; i < UNIT_N(strange); i++) {
        charge_init(&charge, 1, "rate=5/hour");
        charge.terms = &strange[i];
        assert_int_equal(joint_take(&charge, 1).verdict, RLP_ALLOW);
    }
    assert_int_equal(joint_left(0, "rate=5/hour"), 3);
    assert_int_equal(far.asked, 0);
}

int main(void)
{
    unit_add("charges go where their terms say", test_apart, NULL);
    unit_add("the far store refuses: nothing is charged", test_far_refuses, NULL);
    unit_add("a near store refuses: the far one is not asked", test_near_refuses, NULL);
    unit_add("the far store is gone: its charges pass", test_gone_open, NULL);
    unit_add("the far store is gone and closed: nothing is charged", test_gone_closed, NULL);
    unit_add("the far store is gone, and asked alone", test_gone_alone, NULL);
    unit_add("places of each store", test_places, NULL);
    unit_add("corrections", test_settle, NULL);
    unit_add("a look", test_peek, NULL);
    unit_add("no such store", test_nowhere, NULL);
    return unit_run();
}
