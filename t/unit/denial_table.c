/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Refusals that are remembered: what is in the memory by itself. What the store makes of it is in
 * redis_denial.c.
 */

#include "redis/denial.h"

#include "unit.h"

#include <pthread.h>
#include <string.h>

static redis_denials_t denials;

static void charge_init(rlp_charge_t *charge, const char *identity, const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];

    rlp_charge_init(charge, identity, strlen(identity), rlp_signature("api", NULL, limit), limit);
    charge->rule = "api";
}

static void denials_fresh(void)
{
    memset(&denials, 0, sizeof(denials));
    assert_int_equal(redis_denials_init(&denials), APR_SUCCESS);
}

static void learn(rlp_charge_t *charge, rlp_time_t asked, rlp_time_t server)
{
    const redis_told_t told = { .asked = asked, .lag = 100, .server = server };

    charge->spared = false;
    redis_denials_learn(&denials, &charge, 1, &told);
}

static void learn_denial(rlp_charge_t *charge, rlp_time_t asked)
{
    charge->decision = (rlp_decision_t){
        .verdict = RLP_DENY, .retry = 5 * RLP_SECOND, .next = RLP_SECOND, .reset = 9 * RLP_SECOND
    };
    learn(charge, asked, asked);
}

static bool refuses(rlp_charge_t *charge, rlp_time_t now, rlp_answer_t *answer)
{
    return redis_denials_refuse(&denials, charge, 1, now, answer);
}

#define T0 (1000 * RLP_SECOND)

static void test_times(void **state)
{
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    denials_fresh();
    charge_init(&charge, "user:1", "rate=5/hour");
    assert_false(refuses(&charge, T0, &answer));
    learn_denial(&charge, T0);
    for (rlp_time_t at = 0; at <= RLP_SECOND; at += RLP_SECOND / 4) {
        assert_true(refuses(&charge, T0 + at, &answer));
        assert_int_equal(answer.verdict, RLP_DENY);
        assert_int_equal(answer.retry, 5 * RLP_SECOND + 100 - at);
        assert_int_equal(charge.decision.reset, 9 * RLP_SECOND + 100 - at);
        assert_int_equal(charge.decision.remaining, 0);
    }
    assert_false(refuses(&charge, T0 + 5 * RLP_SECOND, &answer));
    assert_true(refuses(&charge, T0 - RLP_SECOND, &answer)); /* another thread's clock */
    assert_int_equal(answer.retry, 5 * RLP_SECOND + 100);
    assert_false(refuses(&charge, T0 - RLP_SECOND - 1, &answer)); /* another boot's */
}

/* How long a refusal is believed that would last for a day, by the limit. */
typedef struct {
    const char *words;
    rlp_time_t believed;
} belief_t;

static const belief_t beliefs[] = {
    { "rate=1000/s", RLP_SECOND },
    { "rate=3/s", RLP_SECOND },
    { "rate=1/s", 3 * RLP_SECOND },
    { "rate=10/min algorithm=fixed-window", 18 * RLP_SECOND },
    { "rate=6/min", 30 * RLP_SECOND },
    { "rate=1/min", 30 * RLP_SECOND },
    { "quota=1000/day", 30 * RLP_SECOND },
    { "quota=5", 30 * RLP_SECOND },
    { "quota=0/day", 30 * RLP_SECOND },
};

static void test_belief(void **state)
{
    const belief_t *row = unit_row(state);
    rlp_charge_t charge;
    rlp_answer_t answer;

    denials_fresh();
    charge_init(&charge, "user:1", row->words);
    charge.decision = (rlp_decision_t){ .verdict = RLP_DENY,
                                        .retry = 86400 * RLP_SECOND,
                                        .next = 86400 * RLP_SECOND,
                                        .reset = 86400 * RLP_SECOND };
    learn(&charge, T0, T0);
    assert_true(refuses(&charge, T0 + row->believed, &answer));
    assert_int_equal(answer.retry, 86400 * RLP_SECOND + 100 - row->believed);
    assert_false(refuses(&charge, T0 + row->believed + 1, &answer));
    charge.decision.verdict = RLP_NEVER;
    learn(&charge, T0, T0 + 1);
    assert_true(refuses(&charge, T0 + row->believed, &answer));
    assert_int_equal(answer.verdict, RLP_NEVER);
    assert_false(refuses(&charge, T0 + row->believed + 1, &answer));
}

/* One limit refuses for long; of the others it is told what was left of them, or all when they are
   full again. */
static void test_beside(void **state)
{
    rlp_charge_t charges[2];
    rlp_answer_t answer;

    (void)state;
    denials_fresh();
    charge_init(&charges[0], "user:1", "quota=5/day");
    learn_denial(&charges[0], T0);
    charge_init(&charges[1], "user:1", "rate=10/s");
    charges[1].decision = (rlp_decision_t){ .remaining = 7, .reset = RLP_SECOND };
    learn(&charges[1], T0, T0);
    assert_true(redis_denials_refuse(&denials, charges, 2, T0 + RLP_SECOND / 2, &answer));
    assert_int_equal(answer.tightest, 0);
    assert_int_equal(charges[1].decision.remaining, 7);
    assert_int_equal(charges[1].decision.reset, RLP_SECOND / 2 + 100);
    assert_true(redis_denials_refuse(&denials, charges, 2, T0 + 4 * RLP_SECOND, &answer));
    assert_int_equal(answer.tightest, 0);
    assert_int_equal(charges[1].decision.remaining, 10);
    assert_int_equal(charges[1].decision.reset, 0);
    charges[1].cost = 11 * RLP_UNIT; /* of which nothing is known */
    assert_false(redis_denials_refuse(&denials, charges, 2, T0, &answer));
}

/* What is full again has as much as its algorithm tells of a full one; places come back by nobody's
   clock. */
static const struct beside {
    const char *words;
    int64_t remaining; /* told with that left, */
    int64_t later;     /* and when it is over; -1: it has to be asked */
} besides[] = {
    { "rate=10/s algorithm=fixed-window", 0, 10 },
    { "rate=10/s algorithm=leaky-bucket burst=20", 0, 1 },
    { "concurrent=5", 3, 3 },
    { "concurrent=5", 0, -1 },
};

static void test_full_again(void **state)
{
    const struct beside *row = unit_row(state);
    rlp_charge_t charges[2];
    rlp_answer_t answer;

    denials_fresh();
    charge_init(&charges[0], "user:1", "quota=5/day");
    learn_denial(&charges[0], T0);
    charge_init(&charges[1], "user:1", row->words);
    charges[1].decision = (rlp_decision_t){ .remaining = row->remaining,
                                            .next = row->remaining ? 0 : RLP_SECOND,
                                            .reset = RLP_SECOND };
    learn(&charges[1], T0, T0);
    const bool refused = redis_denials_refuse(&denials, charges, 2, T0 + 4 * RLP_SECOND, &answer);

    assert_int_equal(refused, row->later >= 0);
    if (refused) {
        assert_int_equal(answer.tightest, 0);
        assert_int_equal(charges[1].decision.remaining, row->later);
    }
}

/* Which of two plans counts is known no longer than what the quota is believed. */
static void test_branch_belief(void **state)
{
    rlp_charge_t charges[2];
    rlp_answer_t answer;

    (void)state;
    denials_fresh();
    charge_init(&charges[0], "user:1", "quota=1000000/day");
    charge_init(&charges[1], "user:1", "rate=1/min");
    for (int i = 0; i < 2; i++) {
        charges[i].branch = RLP_FIRST;
    }
    charges[0].decision = (rlp_decision_t){ .remaining = 1, .reset = 86400 * RLP_SECOND };
    learn(&charges[0], T0, T0);
    charges[1].decision = (rlp_decision_t){
        .verdict = RLP_DENY, .retry = 60 * RLP_SECOND, .next = 60 * RLP_SECOND, .reset = RLP_SECOND
    };
    learn(&charges[1], T0, T0);
    assert_true(redis_denials_refuse(&denials, charges, 2, T0 + RLP_SECOND, &answer));
    assert_int_equal(answer.tightest, 1);
    assert_false(redis_denials_refuse(&denials, charges, 2, T0 + RLP_SECOND + 1, &answer));
}

/* ..., nor when the quota is renewed. */
static void test_branch_renewal(void **state)
{
    rlp_charge_t charges[2];
    rlp_charge_t *const quota = &charges[0];
    const redis_told_t told = { .asked = T0, .lag = 100, .server = T0 };
    rlp_answer_t answer;

    (void)state;
    denials_fresh();
    charge_init(quota, "user:1", "quota=1000/day");
    quota->branch = RLP_FIRST;
    quota->spared = true;
    quota->decision = (rlp_decision_t){ .reset = 5 * RLP_SECOND };
    redis_denials_learn(&denials, &quota, 1, &told);
    charge_init(&charges[1], "user:1", "rate=1/hour");
    charges[1].branch = RLP_INSTEAD;
    charges[1].decision = (rlp_decision_t){ .verdict = RLP_DENY,
                                            .retry = 3600 * RLP_SECOND,
                                            .next = 3600 * RLP_SECOND,
                                            .reset = 3600 * RLP_SECOND };
    learn(&charges[1], T0, T0);
    assert_true(redis_denials_refuse(&denials, charges, 2, T0 + 5 * RLP_SECOND - 1, &answer));
    assert_true(charges[0].spared);
    assert_int_equal(answer.tightest, 1);
    assert_false(redis_denials_refuse(&denials, charges, 2, T0 + 5 * RLP_SECOND, &answer));
}

/* Not a microsecond longer than Redis said, counted from when it was asked. */
static void test_end(void **state)
{
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    denials_fresh();
    charge_init(&charge, "user:1", "rate=5/s");
    charge.decision = (rlp_decision_t){ .verdict = RLP_DENY, .retry = 300, .next = 200 };
    learn(&charge, T0, 1);
    assert_true(refuses(&charge, T0 + 299, &answer));
    assert_int_equal(answer.retry, 101);
    assert_false(refuses(&charge, T0 + 300, &answer));
    charge.decision = (rlp_decision_t){ .verdict = RLP_ALLOW, .next = 200, .reset = 900 };
    learn(&charge, T0, 2);
    assert_true(refuses(&charge, T0 + 199, &answer));
    assert_int_equal(answer.verdict, RLP_DENY);
    assert_false(refuses(&charge, T0 + 200, &answer));
    charge.decision = (rlp_decision_t){ .verdict = RLP_NEVER, .next = RLP_TIME_NEVER };
    learn(&charge, T0, 3);
    assert_true(refuses(&charge, T0 + 200, &answer));
    assert_int_equal(answer.verdict, RLP_NEVER);
    assert_int_equal(answer.retry, 0);
}

static void test_cost(void **state)
{
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    denials_fresh();
    charge_init(&charge, "user:1", "rate=20/hour");
    charge.cost = 10 * RLP_UNIT;
    learn_denial(&charge, T0);
    assert_true(refuses(&charge, T0, &answer));
    charge.max_wait = 1;
    assert_false(refuses(&charge, T0, &answer));
    charge.max_wait = 0;
    charge.cost = 11 * RLP_UNIT; /* refused, too, but for how long? */
    assert_false(refuses(&charge, T0, &answer));
    charge.cost = RLP_UNIT;
    charge.decision.remaining = 4;
    charge.decision.verdict = RLP_ALLOW;
    learn(&charge, T0, T0 + 1);
    for (charge.cost = 0; charge.cost <= 20 * RLP_UNIT; charge.cost += RLP_UNIT / 2) {
        assert_false(refuses(&charge, T0, &answer));
    }
}

/* Who has another plan, rule or name is somebody else. */
static void test_others(void **state)
{
    static const char *const others[] = { "rate=6/hour", "rate=5/hour burst=6",
                                          "rate=5/hour initial=1" };
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    denials_fresh();
    charge_init(&charge, "user:1", "rate=5/hour");
    learn_denial(&charge, T0);
    for (size_t i = 0; i < UNIT_N(others); i++) {
        charge_init(&charge, "user:1", others[i]);
        assert_false(refuses(&charge, T0, &answer));
    }
    charge_init(&charge, "user:2", "rate=5/hour");
    assert_false(refuses(&charge, T0, &answer));
    charge_init(&charge, "user:1", "rate=5/hour");
    charge.entry.key.signature++;
    assert_false(refuses(&charge, T0, &answer));
}

/* A refund under one limit of a counter ends what is believed of the other, unless Redis said that
   afterwards. */
static void test_refund(void **state)
{
    static const struct {
        rlp_time_t asked, server; /* after the refund was */
        bool believed;
    } rows[] = {
        { -1, -1, false }, { 100, -1, true }, { 99, -1, false }, { 99, 0, true }, { -1, 1, true },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        rlp_charge_t charge, other, client;
        rlp_answer_t answer;

        denials_fresh();
        charge_init(&charge, "user:1", "rate=5/hour");
        charge_init(&other, "user:1", "rate=9/hour");
        charge_init(&client, "user:2", "rate=5/hour");
        learn_denial(&client, T0 - RLP_SECOND);
        charge.decision = (rlp_decision_t){ .verdict = RLP_DENY, .retry = 5 * RLP_SECOND };
        learn(&charge, T0 + rows[i].asked, T0 + rows[i].server);
        assert_true(refuses(&charge, T0 + 100, &answer));
        other.cost = -RLP_UNIT;
        other.decision = (rlp_decision_t){ .verdict = RLP_ALLOW, .remaining = 1 };
        learn(&other, T0, T0);
        assert_int_equal(refuses(&charge, T0 + 100, &answer), rows[i].believed);
        assert_true(refuses(&client, T0 + 100, &answer));
        learn_denial(&charge, T0 + 101);
        assert_true(refuses(&charge, T0 + 101, &answer));
    }
}

/* Of two refunds the later one counts, however they are learnt. */
static void test_refunds(void **state)
{
    static const struct {
        rlp_time_t asked, server; /* of the second to be learnt, after the first's */
        bool believed;            /* a refusal of 60 us before the first refund */
    } rows[] = {
        { -50, -50, false },
        { 50, -100, false },
        { -RLP_SECOND - 1, -50, true }, /* a clock that has begun anew */
        { -50, -REDIS_DENIAL_BELIEVED_MAX - 1, true },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        rlp_charge_t charge, other;
        rlp_answer_t answer;

        denials_fresh();
        charge_init(&charge, "user:1", "rate=5/hour");
        charge_init(&other, "user:1", "rate=9/hour");
        learn_denial(&charge, T0 - 60);
        other.cost = -RLP_UNIT;
        other.decision = (rlp_decision_t){ .verdict = RLP_ALLOW, .remaining = 1 };
        learn(&other, T0, T0);
        learn(&other, T0 + rows[i].asked, T0 + rows[i].server);
        assert_int_equal(refuses(&charge, T0 + 200, &answer), rows[i].believed);
    }
}

/* A refund in times to come is none: of a clock that has begun anew, or damaged. */
static void test_refund_to_come(void **state)
{
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    denials_fresh();
    charge_init(&charge, "user:1", "rate=5/hour");
    learn_denial(&charge, T0);
    for (size_t i = 0; i < REDIS_DENIALS / REDIS_DENIAL_WAYS; i++) {
        denials.refunds[i] = (redis_refund_t){ T0 + RLP_CLOCK_SKEW, INT64_MAX };
    }
    assert_false(refuses(&charge, T0, &answer));
    assert_true(refuses(&charge, T0 - 1, &answer));
}

/* What the server said earlier, but came later, is old. */
static void test_order(void **state)
{
    rlp_charge_t charge;
    rlp_answer_t answer;
    redis_level_t level;

    (void)state;
    denials_fresh();
    charge_init(&charge, "user:1", "rate=5/hour");
    charge.decision = (rlp_decision_t){ .verdict = RLP_ALLOW, .remaining = 3, .reset = 7 };
    learn(&charge, T0, 50);
    learn_denial(&charge, T0); /* at the server's T0, which is later */
    assert_true(refuses(&charge, T0, &answer));
    charge.decision = (rlp_decision_t){ .verdict = RLP_ALLOW, .remaining = 2, .reset = 8 };
    learn(&charge, T0, T0 - 1);
    assert_true(refuses(&charge, T0, &answer));
    charge.decision = (rlp_decision_t){ .verdict = RLP_ALLOW, .remaining = 2, .reset = 8 };
    learn(&charge, T0 + 2 * RLP_SECOND, 1); /* a server that has failed over, its clock behind */
    assert_true(redis_denials_level(&denials, &charge, T0 + 5 * RLP_SECOND, &level));
    assert_int_equal(level.remaining, 2);
    assert_int_equal(level.reset, 8);
    assert_int_equal(level.age, 3 * RLP_SECOND);
    assert_int_equal(level.server, 1);
}

/* The library's clock, while a test turns it: a millisecond each time that somebody looks. */
static rlp_time_t turned;

/* NOLINTBEGIN(bugprone-reserved-identifier): names of the linker's */
rlp_time_t __real_rlp_clock_monotonic(void);
rlp_time_t __wrap_rlp_clock_monotonic(void);

rlp_time_t __wrap_rlp_clock_monotonic(void)
{
    return turned == 0 ? __real_rlp_clock_monotonic() : (turned += RLP_SECOND / 1000);
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* A moment that has not come when it is used. */
static rlp_time_t later(void)
{
    return rlp_clock_monotonic() + 9 * RLP_SECOND / 10;
}

/* When it has ended one asks, and others wait for him, if he does not take too long. */
static void test_await(void **state)
{
    rlp_time_t *asking;
    rlp_time_t *other;
    rlp_charge_t charge;

    (void)state;
    turned = T0;
    denials_fresh();
    charge_init(&charge, "user:1", "rate=5/hour");
    assert_false(redis_denials_await(&denials, &charge, 1, later(), &asking)); /* of nothing */
    assert_null(asking);
    learn_denial(&charge, rlp_clock_monotonic() - 2 * RLP_SECOND);
    assert_false(redis_denials_await(&denials, &charge, 1, later(), &asking));
    assert_non_null(asking);
    *asking = later();
    const rlp_time_t end = rlp_clock_monotonic() + RLP_SECOND / 50;

    assert_true(redis_denials_await(&denials, &charge, 1, end, &other));
    assert_null(other);
    assert_in_range(rlp_clock_monotonic(), end, end + RLP_SECOND / 100);
    assert_false(redis_denials_await(&denials, &charge, 1, end, &other)); /* waits no more */
    assert_null(other);
    *asking = end; /* as if he had died */
    assert_false(redis_denials_await(&denials, &charge, 1, later(), &other));
    assert_ptr_equal(other, asking);
    redis_denials_asked(asking);
    assert_false(redis_denials_await(&denials, &charge, 1, later(), &other));
    assert_ptr_equal(other, asking);
    *asking = rlp_clock_monotonic() + 100 * RLP_SECOND; /* no time that anybody would name */
    assert_false(redis_denials_await(&denials, &charge, 1, later(), &other));
    assert_ptr_equal(other, asking);
    charge.cost = 3 * RLP_UNIT; /* of which nothing is known */
    assert_false(redis_denials_await(&denials, &charge, 1, later(), &other));
    assert_null(other);
    turned = 0;
}

/* Whatever bit of it is another, an entry is none. */
static void test_damaged(void **state)
{
    rlp_charge_t charge;
    rlp_answer_t answer;
    int found = 0;

    (void)state;
    denials_fresh();
    charge_init(&charge, "user:1", "rate=5/hour");
    learn_denial(&charge, T0);
    for (size_t i = 0; i < REDIS_DENIALS; i++) {
        uint64_t *words = denials.entries[i].words;

        for (int bit = 0; words[0] != 0 && bit < 64 * REDIS_DENIAL_WORDS; bit++) {
            words[bit / 64] ^= UINT64_C(1) << bit % 64;
            assert_false(refuses(&charge, T0, &answer));
            words[bit / 64] ^= UINT64_C(1) << bit % 64;
        }
        found += words[0] != 0;
    }
    assert_int_equal(found, 1);
    assert_true(refuses(&charge, T0, &answer));
}

/* A full table gives up what is oldest; nobody is taken for somebody else. */
static void test_full(void **state)
{
    enum { CLIENTS = REDIS_DENIALS * 2 };
    rlp_charge_t charge;
    rlp_answer_t answer;
    int known = 0;

    (void)state;
    denials_fresh();
    charge_init(&charge, "", "rate=5/hour");
    for (int i = 0; i < CLIENTS; i++) {
        charge.entry.key.identity = (const char *)&i;
        charge.entry.key.identity_len = sizeof(i);
        charge.decision = (rlp_decision_t){ .verdict = RLP_DENY, .retry = RLP_SECOND + i };
        learn(&charge, T0 + i, i);
    }
    for (int i = 0; i < CLIENTS; i++) {
        charge.entry.key.identity = (const char *)&i;
        charge.entry.key.identity_len = sizeof(i);
        if (refuses(&charge, T0 + CLIENTS, &answer)) {
            known++;
            assert_int_equal(answer.retry, RLP_SECOND + i + 100 - (CLIENTS - i));
        }
        assert_true(known > 0 || i < CLIENTS - REDIS_DENIALS / 8);
    }
    assert_true(known > REDIS_DENIALS * 9 / 10 && known <= REDIS_DENIALS);
}

/* Two limits that share all of the table's room, written and read by all threads. */
#define TORN_THREADS 4
#define TORN_ROUNDS 50000

typedef struct {
    pthread_t thread;
    uint64_t random;
    rlp_charge_t charges[2];
    int wrong;
} torn_t;

static void *torn_run(void *data)
{
    torn_t *torn = data;

    for (int i = 0; i < TORN_ROUNDS; i++) {
        rlp_charge_t *charge = &torn->charges[i & 1];
        const int64_t n = (int64_t)unit_below(&torn->random, 1000000);
        redis_level_t level;

        charge->decision = (rlp_decision_t){
            .verdict = RLP_ALLOW, .remaining = n, .next = n, .reset = n, .retry = n
        };
        learn(charge, T0, n);
        if (redis_denials_level(&denials, charge, T0, &level)) {
            torn->wrong += level.remaining != level.reset || level.server != level.reset;
        }
    }
    return NULL;
}

static void test_torn(void **state)
{
    torn_t torn[TORN_THREADS];

    (void)state;
    denials_fresh();
    for (int i = 0; i < TORN_THREADS; i++) {
        torn[i] = (torn_t){ .random = (uint64_t)i + 1 };
        charge_init(&torn[i].charges[0], "user:1", "rate=5/hour");
        charge_init(&torn[i].charges[1], "user:2", "rate=5/hour");
        assert_int_equal(pthread_create(&torn[i].thread, NULL, torn_run, &torn[i]), 0);
    }
    for (int i = 0; i < TORN_THREADS; i++) {
        pthread_join(torn[i].thread, NULL);
        assert_int_equal(torn[i].wrong, 0);
    }
}

int main(void)
{
    unit_add("a refusal grows old", test_times, NULL);
    unit_add("a refusal ends", test_end, NULL);
    for (size_t i = 0; i < UNIT_N(beliefs); i++) {
        unit_add_case("a refusal is believed", beliefs[i].words, test_belief, &beliefs[i]);
    }
    unit_add("what is told beside a refusal", test_beside, NULL);
    for (size_t i = 0; i < UNIT_N(besides); i++) {
        unit_add_case("what is full again beside a refusal", besides[i].words, test_full_again,
                      &besides[i]);
    }
    unit_add("which plan counts is believed", test_branch_belief, NULL);
    unit_add("a plan takes over until its quota is renewed", test_branch_renewal, NULL);
    unit_add("a refusal is of a cost", test_cost, NULL);
    unit_add("a refusal is of one limit of one identity", test_others, NULL);
    unit_add("something is given back", test_refund, NULL);
    unit_add("something is given back twice", test_refunds, NULL);
    unit_add("something is given back in times to come", test_refund_to_come, NULL);
    unit_add("the order of answers", test_order, NULL);
    unit_add("one asks for all", test_await, NULL);
    unit_add("a damaged entry", test_damaged, NULL);
    unit_add("a full table", test_full, NULL);
    unit_add("an entry that two threads write", test_torn, NULL);
    return unit_run();
}
