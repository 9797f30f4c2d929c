/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Refusals that are remembered, with a real server: what is not asked again, and what is answered
 * instead.
 */

#include "redis/denial.h"
#include "redis/store.h"

#include "redis_server.h"
#include "unit.h"

#include <apr_strings.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define T0 (1000 * RLP_SECOND)
#define PATIENCE (60 * RLP_SECOND)

static redis_denials_t denials;
static rlp_store_t *store;
static rlp_store_t *forgetful; /* the same counters, and no memory */

static void charge_init(rlp_charge_t *charge, const char *identity, const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];

    rlp_charge_init(charge, identity, strlen(identity), rlp_signature("api", NULL, limit), limit);
    charge->rule = "api";
}

/* All limits of a plan, for one identity. */
static int charges_init(rlp_charge_t charges[], const char *identity, const rlp_plan_t *plan)
{
    for (int i = 0; i < plan->n; i++) {
        rlp_charge_init(&charges[i], identity, strlen(identity),
                        rlp_signature("api", plan->name, &plan->limits[i]), &plan->limits[i]);
        charges[i].rule = "api";
        charges[i].spared = false;
    }
    return plan->n;
}

static void denials_fresh(void)
{
    memset(&denials, 0, sizeof(denials));
    assert_int_equal(redis_denials_init(&denials), APR_SUCCESS);
}

static rlp_store_t *store_open(redis_denials_t *memory)
{
    const redis_store_settings_t made = {
        .endpoint = redis_server_endpoint(redis_server_path(), redis_store_script(unit_pool()),
                                          20 * RLP_SECOND),
        .prefix = "t:",
        .timeout = 20 * RLP_SECOND,
        .denials = memory
    };

    return redis_store_create(&made, unit_pool());
}

static void server_fresh(void)
{
    denials_fresh();
    freeReplyObject(redis_server_ask("FLUSHALL"));
    freeReplyObject(redis_server_ask("CONFIG RESETSTAT"));
}

/* How often the server was asked to run the script. */
static int server_asked(void)
{
    redisReply *reply = redis_server_ask("INFO commandstats");
    const char *at = strstr(reply->str, "cmdstat_evalsha:calls=");
    const int calls = at ? atoi(at + strlen("cmdstat_evalsha:calls=")) : 0;

    freeReplyObject(reply);
    return calls;
}

static rlp_answer_t ask(rlp_store_t *asked, rlp_charge_t charges[], int n)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_answer_t answer;

    assert_int_equal(rlp_check(asked, charges, n, &question, &answer), APR_SUCCESS);
    return answer;
}

/* How often the server may have been asked whether a refusal still holds, where a unit comes each
   six minutes or later. */
static int beliefs_since(rlp_time_t begin)
{
    return (int)((rlp_clock_monotonic() - begin) / REDIS_DENIAL_BELIEVED_MAX);
}

/* One round trip for who is admitted, none for who is refused, but to see whether that is still
   so. */
static void test_round_trips(void **state)
{
    rlp_charge_t charge;

    (void)state;
    server_fresh();
    const rlp_time_t begin = rlp_clock_monotonic();

    for (int i = 0; i < 1000; i++) {
        charge_init(&charge, "user:42", "rate=10/hour");
        assert_int_equal(ask(store, &charge, 1).verdict, i < 10 ? RLP_ALLOW : RLP_DENY);
    }
    assert_in_range(server_asked(), 10, 10 + beliefs_since(begin));
}

/* What was said before a restart refuses nobody; but what was left is known. */
static void test_doubt(void **state)
{
    rlp_charge_t charge;
    redis_level_t level;

    (void)state;
    server_fresh();
    charge_init(&charge, "user:42", "rate=1/hour");
    assert_int_equal(ask(store, &charge, 1).verdict, RLP_ALLOW);
    assert_int_equal(ask(store, &charge, 1).verdict, RLP_DENY);
    redis_denials_doubt(&denials, rlp_clock_monotonic());
    assert_true(redis_denials_level(&denials, &charge, rlp_clock_monotonic(), &level));
    assert_int_equal(level.remaining, 0);
    freeReplyObject(redis_server_ask("FLUSHALL"));
    assert_int_equal(ask(store, &charge, 1).verdict, RLP_ALLOW);
}

/* For all of a second, in true time, and far above ten times what is admitted. */
static void test_hammer(void **state)
{
    const rlp_time_t begin = rlp_clock_monotonic();
    rlp_time_t now = begin;
    int admitted = 0;
    int refused = 0;
    rlp_charge_t charge;

    (void)state;
    server_fresh();
    for (; now < begin + RLP_SECOND || (refused < 2000 && now < begin + PATIENCE);
         now = rlp_clock_monotonic()) {
        charge_init(&charge, "user:42", "rate=100/s burst=10");
        if (ask(store, &charge, 1).verdict == RLP_ALLOW) {
            admitted++;
        } else {
            refused++;
        }
    }
    const int asked = server_asked();

    assert_in_range(admitted, 10, 11 + (now - begin) * 100 / RLP_SECOND);
    assert_true(asked - admitted <= refused / 20);
}

#define CROWD 8

typedef struct {
    pthread_t thread;
    rlp_charge_t charge;
    rlp_time_t end;
    int admitted;
    int refused;
} crowd_t;

static void *crowd_run(void *data)
{
    crowd_t *crowd = data;

    for (rlp_time_t now = 0; now < crowd->end || (crowd->refused <= 20 * crowd->admitted &&
                                                  now < crowd->end + PATIENCE);) {
        const rlp_question_t question = { .now = rlp_clock_monotonic() };
        rlp_answer_t answer = { .verdict = RLP_NEVER };

        if (rlp_check(store, &crowd->charge, 1, &question, &answer) == APR_SUCCESS) {
            crowd->admitted += answer.verdict == RLP_ALLOW;
            crowd->refused += answer.verdict == RLP_DENY;
        }
        now = rlp_clock_monotonic();
    }
    return NULL;
}

/* Many at once, for a second and until far more were refused than admitted: when there is something
   left again, not all of them ask. */
static void test_crowd(void **state)
{
    const rlp_time_t end = rlp_clock_monotonic() + RLP_SECOND;
    crowd_t crowd[CROWD];
    int admitted = 0;
    int refused = 0;

    (void)state;
    server_fresh();
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = (crowd_t){ .end = end };
        charge_init(&crowd[i].charge, "user:42", "rate=100/s burst=1");
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, crowd_run, &crowd[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(crowd[i].thread, NULL);
        admitted += crowd[i].admitted;
        refused += crowd[i].refused;
    }
    const int asked = server_asked();

    assert_true(admitted > 0 && refused > 20 * admitted);
    assert_true(asked - admitted <= refused / 20);
    assert_in_range(asked, admitted, 4 * admitted + CROWD); /* CROWD of each, if all asked */
}

/* Each algorithm, and several limits: what is remembered is what Redis says. */
static const char *const told_plans[] = {
    "rate=5/day",
    "rate=5/day algorithm=stepped-bucket",
    "rate=5/day algorithm=leaky-bucket burst=5",
    "rate=5/10weeks algorithm=fixed-window",
    "rate=5/10weeks algorithm=sliding-window",
    "rate=5/day algorithm=sliding-log",
    "quota=5/year",
    "quota=5",
    "rate=5/hour rate=100/day",
    "rate=100/day rate=5/hour quota=7/year",
    "rate=5/hour concurrent=50",
};

/* To a second, and what the machine has taken meanwhile. */
static void told_compare(const rlp_charge_t remembered[], const rlp_charge_t told[], int n,
                         rlp_time_t near)
{
    for (int i = 0; i < n; i++) {
        const rlp_decision_t *a = &remembered[i].decision;
        const rlp_decision_t *b = &told[i].decision;

        assert_int_equal(a->verdict, b->verdict);
        assert_int_equal(a->remaining, b->remaining);
        assert_true(llabs(a->retry - b->retry) <= near);
        assert_true(llabs(a->reset - b->reset) <= near);
        assert_true(a->next == b->next || llabs(a->next - b->next) <= near);
    }
}

static void test_told(void **state)
{
    const rlp_plan_t *plan = unit_plan(*(const char *const *)unit_row(state));
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_charge_t told[RLP_LIMITS_MAX];
    rlp_answer_t answer = { .verdict = RLP_ALLOW };
    rlp_time_t before = RLP_TIME_NEVER / 2;

    server_fresh();
    for (int i = 0; i < 7 && answer.verdict == RLP_ALLOW; i++) {
        charges_init(charges, "user:1", plan);
        answer = ask(store, charges, plan->n);
    }
    assert_true(answer.verdict > RLP_WAIT);
    const rlp_time_t begin = rlp_clock_monotonic();
    const int asked = server_asked();

    for (int i = 0; i < 20; i++) {
        const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
        rlp_answer_t other;

        charges_init(charges, "user:1", plan);
        charges_init(told, "user:1", plan);
        answer = ask(store, charges, plan->n);
        assert_int_equal(rlp_peek(forgetful, told, plan->n, &question, &other), APR_SUCCESS);
        assert_int_equal(answer.verdict, other.verdict);
        assert_int_equal(answer.tightest, other.tightest);
        const rlp_time_t passed = rlp_clock_monotonic() - question.now; /* between the two */

        assert_true(answer.retry <= before + RLP_SECOND / 100);
        told_compare(charges, told, plan->n, RLP_SECOND + passed);
        before = answer.retry;
    }
    /* of 40 questions, 20 went without memory */
    assert_in_range(server_asked() - asked, 20, 20 + beliefs_since(begin));
}

/* Who comes back when he was told to is served. */
static void test_honest(void **state)
{
    rlp_charge_t charge;

    (void)state;
    server_fresh();
    for (int i = 0; i < 20; i++) {
        charge_init(&charge, "user:1", "rate=100/s burst=1");
        rlp_answer_t answer = ask(store, &charge, 1);

        while (answer.verdict == RLP_ALLOW) {
            answer = ask(store, &charge, 1);
        }
        const rlp_time_t come = rlp_clock_monotonic() + answer.retry + 100;

        while (rlp_clock_monotonic() < come) {
        }
        assert_int_equal(ask(store, &charge, 1).verdict, RLP_ALLOW);
    }
}

/* What comes back is there at once. */
static void test_refund(void **state)
{
    const rlp_question_t question = { .now = T0, .wall = rlp_clock_wall() };
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    server_fresh();
    for (int i = 0; i < 6; i++) {
        charge_init(&charge, "user:1", "rate=5/hour");
        assert_int_equal(ask(store, &charge, 1).verdict, i < 5 ? RLP_ALLOW : RLP_DENY);
    }
    charge.cost = -2 * RLP_UNIT;
    charge.counted_at = 1;
    assert_int_equal(rlp_settle(store, &charge, 1, &question, &answer), APR_SUCCESS);
    for (int i = 0; i < 3; i++) {
        charge_init(&charge, "user:1", "rate=5/hour");
        assert_int_equal(ask(store, &charge, 1).verdict, i < 2 ? RLP_ALLOW : RLP_DENY);
    }
    charge.cost = RLP_UNIT / 2;
    assert_int_equal(ask(store, &charge, 1).verdict, RLP_DENY);
}

/* And to a limit of the same counter that another section or plan has. */
static void test_refund_of_both(void **state)
{
    const rlp_question_t question = { .now = T0, .wall = rlp_clock_wall() };
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    server_fresh();
    for (int i = 0; i < 4; i++) {
        charge_init(&charge, "user:1", i < 3 ? "rate=5/hour" : "rate=3/hour");
        assert_int_equal(ask(store, &charge, 1).verdict, i < 3 ? RLP_ALLOW : RLP_DENY);
    }
    charge_init(&charge, "user:1", "rate=5/hour");
    charge.cost = -RLP_UNIT;
    charge.counted_at = 1;
    assert_int_equal(rlp_settle(store, &charge, 1, &question, &answer), APR_SUCCESS);
    for (int i = 0; i < 2; i++) {
        charge_init(&charge, "user:1", "rate=3/hour");
        assert_int_equal(ask(store, &charge, 1).verdict, i < 1 ? RLP_ALLOW : RLP_DENY);
    }
}

/* A refund on another host is seen when the refusal is not believed any more. */
static void test_other_host(void **state)
{
    const rlp_question_t question = { .now = T0, .wall = rlp_clock_wall() };
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    server_fresh();
    charge_init(&charge, "user:1", "rate=7200/hour algorithm=fixed-window");
    charge.cost = 7200 * RLP_UNIT;
    assert_int_equal(ask(store, &charge, 1).verdict, RLP_ALLOW);
    charge.cost = RLP_UNIT;
    assert_int_equal(ask(store, &charge, 1).verdict, RLP_DENY);
    charge.cost = -RLP_UNIT;
    assert_int_equal(rlp_settle(forgetful, &charge, 1, &question, &answer), APR_SUCCESS);
    charge.cost = RLP_UNIT;
    const rlp_time_t begin = rlp_clock_monotonic();

    while (ask(store, &charge, 1).verdict == RLP_DENY) {
        assert_true(rlp_clock_monotonic() - begin < 20 * RLP_SECOND);
    }
}

static void test_places(void **state)
{
    rlp_charge_t charge;

    (void)state;
    server_fresh();
    for (int i = 0; i < 10; i++) {
        charge_init(&charge, "user:1", "concurrent=2");
        assert_int_equal(ask(store, &charge, 1).verdict, i < 2 ? RLP_ALLOW : RLP_DENY);
    }
    assert_int_equal(server_asked(), 10);
}

/* Two identities, of which the tight one refuses: what the other was charged had to come back. */
static void test_identities(void **state)
{
    rlp_charge_t charges[2];

    (void)state;
    server_fresh();
    const rlp_time_t begin = rlp_clock_monotonic();

    for (int i = 0; i < 50; i++) {
        charge_init(&charges[0], "ip:192.0.2.1", "rate=2/hour");
        charge_init(&charges[1], "user:1", "rate=100/hour");
        const rlp_answer_t answer = ask(store, charges, 2);

        assert_int_equal(answer.verdict, i < 2 ? RLP_ALLOW : RLP_DENY);
        assert_int_equal(answer.tightest, 0);
        assert_int_equal(charges[1].decision.remaining, i < 2 ? 99 - i : 98);
    }
    assert_in_range(server_asked(), 4, 4 + 4 * beliefs_since(begin));
}

/* A quota of 3, and another plan when it is used up: 2 more. */
static void test_branches(void **state)
{
    rlp_charge_t charges[3];

    (void)state;
    server_fresh();
    const rlp_time_t begin = rlp_clock_monotonic();

    for (int i = 0; i < 50; i++) {
        const char *const words[] = { "quota=3/year", "rate=50/hour",
                                      "rate=2/10weeks algorithm=fixed-window" };

        for (int k = 0; k < 3; k++) {
            charge_init(&charges[k], "user:1", words[k]);
            charges[k].branch = k < 2 ? RLP_FIRST : RLP_INSTEAD;
        }
        const rlp_answer_t answer = ask(store, charges, 3);

        assert_int_equal(answer.verdict, i < 5 ? RLP_ALLOW : RLP_DENY);
        assert_int_equal(answer.tightest, i < 3 ? 0 : 2);
        assert_int_equal(charges[0].spared, i >= 3);
        assert_int_equal(charges[1].spared, i >= 3);
        assert_int_equal(charges[2].spared, i < 3);
    }
    assert_in_range(server_asked(), 5, 5 + beliefs_since(begin));
}

/* While Redis is away, a quota that is used up stays so. */
static void test_branch_level(void **state)
{
    rlp_charge_t charges[2];
    redis_level_t level;

    (void)state;
    server_fresh();
    for (int i = 0; i < 4; i++) {
        charge_init(&charges[0], "user:1", "quota=3/year");
        charge_init(&charges[1], "user:1", "rate=2/hour");
        charges[0].branch = RLP_FIRST;
        charges[1].branch = RLP_INSTEAD;
        assert_int_equal(ask(store, charges, 2).verdict, RLP_ALLOW);
    }
    assert_true(charges[0].spared);
    assert_true(redis_denials_level(&denials, &charges[0], rlp_clock_monotonic(), &level));
    assert_int_equal(level.remaining, 0);
    assert_in_range(level.reset, 1, 366 * INT64_C(86400) * RLP_SECOND);
}

int main(void)
{
    if (!redis_server_start("with a server")) {
        return unit_run();
    }
    store = store_open(&denials);
    forgetful = store_open(NULL);
    unit_add("round trips of who is refused", test_round_trips, NULL);
    unit_add("what was said before a restart", test_doubt, NULL);
    unit_add("a client that does not let up", test_hammer, NULL);
    unit_add("a crowd of one client", test_crowd, NULL);
    for (size_t i = 0; i < UNIT_N(told_plans); i++) {
        unit_add_case("as Redis tells it", told_plans[i], test_told, &told_plans[i]);
    }
    unit_add("who waits as told is served", test_honest, NULL);
    unit_add("what is given back counts at once", test_refund, NULL);
    unit_add("what is given back counts at once, under another limit, too", test_refund_of_both,
             NULL);
    unit_add("what another host gives back counts soon", test_other_host, NULL);
    unit_add("places are asked for each time", test_places, NULL);
    unit_add("one of two identities refuses", test_identities, NULL);
    unit_add("a plan that takes over refuses", test_branches, NULL);
    unit_add("what is known of a quota that is used up", test_branch_level, NULL);
    return unit_run();
}
