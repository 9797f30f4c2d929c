/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Leases where there are several limits: of one counter, under the plan before and the one after or
 * in two sections; and of counters that must all admit.
 */

#include "lease_hosts.h"
#include "redis_server.h"
#include "unit.h"

#include <apr_strings.h>

#include <string.h>

static const rlp_store_type_t *exact_type;

/* --- one counter under two limits */

/* Limits of one counter each. */
static const char *const larger[] = { "rate=1000/10weeks",
                                      "rate=1000/10weeks algorithm=fixed-window",
                                      "rate=1000/10weeks algorithm=sliding-window",
                                      "quota=1000/year", "quota=1000" };
static const char *const smaller[] = { "rate=10/10weeks", "rate=10/10weeks algorithm=fixed-window",
                                       "rate=10/10weeks algorithm=sliding-window", "quota=10/year",
                                       "quota=10" };

/* A limit with a smaller count, of another section or of the plan that follows, refuses what the
   larger one has used, and gives none of it back. */
static void test_under_both(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(larger); i++) {
        int admitted = 0;

        hosts_fresh();
        for (int round = 0; round < 4; round++) {
            admitted += host_admits(0, 600, larger[i]) + host_admits(1, 10, larger[i]);
            assert_int_equal(host_admits(0, 20, smaller[i]), 0);
            lease_store_return(stores[1], true, &never);
            assert_int_equal(host_admits(1, 20, smaller[i]), 0);
        }
        assert_in_range(admitted, 500, 1001);
    }
}

/* What is charged under one limit and comes back to the lease frees the other of no more than it
   was charged: it may have been full; and of no less where it was not. */
static void test_back_under_both(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(larger); i++) {
        hosts_fresh();
        assert_int_equal(host_admits(0, 1, smaller[i]), 1);
        for (int round = 0; round < 60; round++) {
            rlp_charge_t charge;

            charge_init(&charge, "user:42", "api", larger[i]);
            assert_int_equal(host_take(0, &charge, 1).verdict, RLP_ALLOW);
            host_settle(charge, -RLP_UNIT);
            if (round >= 30) {
                assert_int_equal(host_admits(0, 20, smaller[i]), round == 30 ? 9 : 0);
            }
        }
    }
}

/* Another plan, with the same counter. */
static void test_upgrade(void **state)
{
    (void)state;
    hosts_fresh();
    assert_int_equal(host_admits(0, 8, "rate=5/10weeks"), 5);
    assert_int_equal(host_admits(0, 200, "rate=100/10weeks"), 95);
}

/* And back: what was drawn ahead under the larger plan, and not used, is not held against it. */
static void test_downgrade(void **state)
{
    static const char *const kinds[] = { "", " algorithm=fixed-window",
                                         " algorithm=sliding-window" };

    (void)state;
    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        hosts_fresh();
        assert_int_equal(host_admits(0, 4,
                                     apr_pstrcat(unit_pool(), "rate=100/10weeks", kinds[i], NULL)),
                         4);
        assert_int_equal(host_admits(0, 9,
                                     apr_pstrcat(unit_pool(), "rate=5/10weeks", kinds[i], NULL)),
                         1);
    }
}

/* --- what an administrator gives back */

/* As ratelimit-admin does: to the counter in Redis, whenever it was charged. */
static void give_back(const char *words, rlp_units_t units)
{
    static const rlp_terms_t terms = { .sync = RLP_SYNC_EXACT };
    rlp_question_t question = question_now();
    rlp_charge_t charge;
    rlp_answer_t answer;

    question.charged_at = RLP_TIME_EVER;
    charge_init(&charge, "user:42", "api", words);
    charge.terms = &terms;
    charge.cost = 0;
    assert_int_equal(rlp_check(stores[0], &charge, 1, &question, &answer), APR_SUCCESS);
    charge.cost = -units;
    charge.counted_at = charge.counted_at != 0 ? RLP_TIME_EVER : 0;
    assert_int_equal(rlp_settle(stores[0], &charge, 1, &question, &answer), APR_SUCCESS);
}

/* Units that hosts still hold are not given back: they would be spent beyond a full limit. */
static void test_give_back_all(void **state)
{
    static const char *const kinds[] = { "rate=1000/10weeks",
                                         "rate=1000/10weeks algorithm=fixed-window",
                                         "rate=1000/10weeks algorithm=sliding-window",
                                         "quota=1000/year", "quota=1000" };

    (void)state;
    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        hosts_fresh();
        assert_int_equal(host_admits(0, 300, kinds[i]), 300);
        assert_int_equal(host_admits(1, 300, kinds[i]), 300);
        give_back(kinds[i], 5000 * RLP_UNIT);
        assert_in_range(host_admits(1, 1500, kinds[i]) + host_admits(0, 1500, kinds[i]), 600, 1000);
    }
}

/* Nor are those that they have drawn under the other of two limits. */
static void test_give_back_both(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(larger); i++) {
        hosts_fresh();
        assert_int_equal(host_admits(0, 300, larger[i]), 300);
        assert_int_equal(host_admits(1, 300, larger[i]), 300);
        assert_int_equal(host_admits(0, 1, smaller[i]), 0);
        give_back(smaller[i], 5000 * RLP_UNIT);
        assert_in_range(host_admits(1, 1500, larger[i]) + host_admits(0, 1500, larger[i]), 600,
                        1000);
    }
}

/* --- several counters */

/* Leased or not, all must admit. */
static void test_mixed(void **state)
{
    rlp_charge_t charges[4];

    (void)state;
    hosts_fresh();
    for (int i = 0; i < 10; i++) {
        charge_init(&charges[0], "user:1", "api", "rate=100/10weeks");
        charge_init(&charges[1], "user:1", "places", "concurrent=5");
        charge_init(&charges[2], "ip:192.0.2.1", "ip", "rate=90/10weeks algorithm=fixed-window");
        charge_init(&charges[3], "ip:192.0.2.1", "day", "quota=80/year");
        const rlp_answer_t answer = host_take(0, charges, 4);

        assert_int_equal(answer.verdict, i < 5 ? RLP_ALLOW : RLP_DENY);
        assert_int_equal(answer.tightest, 1);
        assert_int_equal(charges[0].decision.remaining, i < 5 ? 99 - i : 95);
        assert_int_equal(charges[3].decision.remaining, i < 5 ? 79 - i : 75);
    }
    charge_init(&charges[1], "user:1", "tight", "rate=1/10weeks");
    assert_int_equal(host_take(0, charges, 2).verdict, RLP_ALLOW);
    for (int i = 0; i < 5; i++) {
        charges[0].spared = charges[1].spared = false;
        assert_int_equal(host_take(0, charges, 2).verdict, RLP_DENY);
        assert_int_equal(charges[0].decision.remaining, 94);
    }
}

/* All leases of the first host are given back, while a request asks about what is not leased. */
static apr_status_t decide_meanwhile(rlp_store_t *exact, rlp_charge_t *charges, int n,
                                     const rlp_question_t *question, rlp_op_kind_t kind,
                                     rlp_answer_t *answer)
{
    if (kind == RLP_TAKE) {
        lease_store_return(stores[0], true, &never);
    }
    return exact_type->decide(exact, charges, n, question, kind, answer);
}

/* Who is refused has paid nothing, even where the lease that paid has been reported by then. */
static void check_refused_meanwhile(const char *words)
{
    rlp_charge_t charges[2];
    rlp_store_type_t meanwhile;

    hosts_fresh();
    exact_type = exacts[0]->type;
    meanwhile = *exact_type;
    meanwhile.decide = decide_meanwhile;
    exacts[0]->type = &meanwhile;
    for (int i = 0; i < 6; i++) {
        charge_init(&charges[0], "user:1", "api", words);
        charge_init(&charges[1], "user:1", "log", "rate=1/10weeks algorithm=sliding-log");
        assert_int_equal(host_take(0, charges, 2).verdict, i < 1 ? RLP_ALLOW : RLP_DENY);
    }
    exacts[0]->type = exact_type;
    lease_store_return(stores[0], true, &never);
    charge_init(&charges[0], "user:1", "api", words);
    charges[0].max_wait = 1;
    assert_int_equal(host_take(1, charges, 1).verdict, RLP_ALLOW);
    assert_int_equal(charges[0].decision.remaining, 98);
}

static void test_refused_meanwhile(void **state)
{
    (void)state;
    check_refused_meanwhile("rate=100/10weeks");
    check_refused_meanwhile("rate=100/10weeks algorithm=fixed-window");
    check_refused_meanwhile("rate=100/10weeks algorithm=sliding-window");
    check_refused_meanwhile("quota=100/year");
    check_refused_meanwhile("quota=100");
}

/* docs/redis-format.md: under which signature it stands. */
static bool key_has_lease(const char *key, const char *rule, const char *words)
{
    uint64_t signature = ~rlp_signature(rule, NULL, &unit_plan(words)->limits[0]) & 0xff;
    redisReply *value = redis_server_ask("GET %s", key);
    unsigned char bytes[8];

    signature |= rlp_signature(rule, NULL, &unit_plan(words)->limits[0]) & ~UINT64_C(0xff);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)(signature >> 8 * i);
    }
    const bool has = value->type == REDIS_REPLY_STRING &&
                     memmem(value->str, value->len, bytes, sizeof(bytes)) != NULL;

    freeReplyObject(value);
    return has;
}

/* Leases are not lost where the key has many limits. */
static void test_many(void **state)
{
    int admitted = 0;

    (void)state;
    hosts_fresh();
    for (int i = 0; i < 20; i++) {
        admitted +=
            host_admits(0, i == 0 ? 40 : 5, apr_psprintf(unit_pool(), "rate=100/%dh", i + 1));
    }
    assert_int_equal(admitted, 40 + 19 * 5);
    assert_true(key_has_lease("t:rlp:{user:42}:api", "api", "rate=100/h"));
    admitted = host_admits(1, 100, "rate=100/h");
    admitted += host_admits(0, 100, "rate=100/h");
    assert_int_equal(admitted, 60);
}

int main(void)
{
    if (!redis_server_start("leases of several limits")) {
        return unit_run();
    }
    unit_add("under two limits", test_under_both, NULL);
    unit_add("P-07: a refund under two limits", test_back_under_both, NULL);
    unit_add("another plan counts at once", test_upgrade, NULL);
    unit_add("P-07: a plan for a time, and the one before", test_downgrade, NULL);
    unit_add("what is given back while hosts hold units", test_give_back_all, NULL);
    unit_add("the same under two limits", test_give_back_both, NULL);
    unit_add("leased and other limits, all or none", test_mixed, NULL);
    unit_add("who is refused pays nothing, whatever becomes of the lease", test_refused_meanwhile,
             NULL);
    unit_add("many limits of one key", test_many, NULL);
    return unit_run();
}
