/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What stands in for Redis: shares of limits, what they begin with, and what Redis is told later.
 * Redis is a real server; the counters of this host are the oracle's. See ledger.c, too.
 */

#include "redis/local.h"
#include "redis/store.h"

#include "redis_server.h"
#include "unit.h"

#include <apr_strings.h>

#include <string.h>

#define PATIENCE (20 * RLP_SECOND)

static redis_denials_t denials;
static redis_local_shared_t shared;
static redis_endpoint_t *endpoint;
static rlp_store_t *redis;
static rlp_store_t *here;
static redis_local_t *local;

/* The library's clock: a machine that has just been started has no "half an hour ago". */
/* NOLINTBEGIN(bugprone-reserved-identifier): names of the linker's */
rlp_time_t __real_rlp_clock_monotonic(void);
rlp_time_t __wrap_rlp_clock_monotonic(void);

rlp_time_t __wrap_rlp_clock_monotonic(void)
{
    return __real_rlp_clock_monotonic() + 86400 * RLP_SECOND;
}
/* NOLINTEND(bugprone-reserved-identifier) */

static redis_hosts_settings_t hosts_of(const unsigned char *id)
{
    return (redis_hosts_settings_t){
        .endpoint = endpoint, .prefix = "t:", .id = id, .timeout = PATIENCE, .ttl = REDIS_HOSTS_TTL
    };
}

static void redis_open(void)
{
    const char *script = redis_store_script(unit_pool());

    endpoint = redis_server_endpoint(redis_server_path(), script, PATIENCE);
    redis = redis_store_create(&(const redis_store_settings_t){ .endpoint = endpoint,
                                                                .prefix = "t:",
                                                                .timeout = PATIENCE,
                                                                .denials = &denials,
                                                                .away = &shared.away },
                               unit_pool());
}

/* What counts here, and tells that store later. */
static redis_local_t *local_for(rlp_store_t *told, int64_t hosts)
{
    static const unsigned char id[REDIS_HOST_ID] = "nobody:";
    const redis_local_settings_t settings = { .redis = told,
                                              .local = here,
                                              .denials = &denials,
                                              .shared = &shared,
                                              .hosts = hosts,
                                              .own = hosts_of(id) };

    return redis_local_create(&settings, unit_pool());
}

/* An empty server, and a host that knows nothing, one of so many. */
static void fresh(int64_t hosts)
{
    freeReplyObject(redis_server_ask("FLUSHALL"));
    memset(&denials, 0, sizeof(denials));
    memset(&shared, 0, sizeof(shared));
    assert_int_equal(redis_denials_init(&denials), APR_SUCCESS);
    assert_int_equal(rlp_memory_create(&here, unit_pool()), APR_SUCCESS);
    local = local_for(redis, hosts);
}

static void charge_init(rlp_charge_t *charge, const char *identity, const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];

    rlp_charge_init(charge, identity, strlen(identity), rlp_signature("api", NULL, limit), limit);
    charge->rule = "api";
    if (limit->state_size > sizeof(charge->room)) {
        charge->entry.state = apr_palloc(unit_pool(), limit->state_size);
    }
}

static rlp_question_t question_now(void)
{
    return (rlp_question_t){ .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
}

static int admits_by(rlp_store_t *asked, const char *identity, const char *words, int n)
{
    int admitted = 0;

    for (int i = 0; i < n; i++) {
        const rlp_question_t question = question_now();
        rlp_charge_t charge;
        rlp_answer_t answer;

        charge_init(&charge, identity, words);
        assert_int_equal(asked != NULL
                             ? rlp_check(asked, &charge, 1, &question, &answer)
                             : redis_local_decide(local, &charge, 1, &question, RLP_TAKE, &answer),
                         APR_SUCCESS);
        assert_true(asked != NULL || charge.counted_at == 0);
        admitted += answer.verdict == RLP_ALLOW;
    }
    return admitted;
}

/* How many of n requests Redis admits. */
static int admits(const char *identity, const char *words, int n)
{
    return admits_by(redis, identity, words, n);
}

/* ... this host alone. */
static int admits_here(const char *identity, const char *words, int n)
{
    return admits_by(NULL, identity, words, n);
}

/* What Redis has left of a limit. */
static int64_t left(const char *identity, const char *words)
{
    const rlp_question_t question = question_now();
    rlp_charge_t charge;
    rlp_answer_t answer;

    charge_init(&charge, identity, words);
    charge.cost = 0;
    assert_int_equal(rlp_peek(redis, &charge, 1, &question, &answer), APR_SUCCESS);
    return charge.decision.remaining;
}

/* --- the share */

static const struct {
    const char *words;
    int64_t hosts;
    int admitted;
} shares[] = {
    { "rate=10/hour", 1, 10 },
    { "rate=10/hour", 2, 5 },
    { "rate=10/hour", 3, 3 },
    { "rate=10/hour", 100, 1 },
    { "rate=10/hour burst=40", 4, 10 },
    { "rate=10/10weeks algorithm=fixed-window", 2, 5 },
    { "rate=10/hour algorithm=sliding-log", 2, 5 },
    { "quota=10/year", 2, 5 },
};

static void test_share(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(shares); i++) {
        fresh(shares[i].hosts);
        assert_int_equal(admits_here("user:1", shares[i].words, 20), shares[i].admitted);
    }
}

/* ... of as many as Redis says live. */
static void test_share_living(void **state)
{
    (void)state;
    fresh(0);
    for (unsigned char i = 1; i <= 3; i++) {
        const unsigned char id[REDIS_HOST_ID] = { i };
        const redis_hosts_settings_t settings = hosts_of(id);

        shared.hosts.due = 0;
        assert_true(redis_hosts_tell(&shared.hosts, &settings, rlp_clock_monotonic()));
    }
    assert_int_equal(admits_here("user:1", "rate=30/hour", 40), 10);
}

/* --- what it begins with */

static const char *const seeded[] = {
    "rate=10/day",
    "rate=10/day algorithm=stepped-bucket",
    "rate=10/10weeks algorithm=fixed-window",
    "rate=10/10weeks algorithm=sliding-window",
    "rate=10/day algorithm=sliding-log",
    "quota=10/year",
    "quota=10",
};

/* 4 of 10 are used: of what is left, each of two hosts has a half. */
static void test_seed(void **state)
{
    const char *words = *(const char *const *)unit_row(state);

    fresh(2);
    assert_int_equal(admits("user:1", words, 4), 4);
    assert_int_equal(admits_here("user:1", words, 10), 3);
    assert_int_equal(admits_here("user:2", words, 10), 5);
    fresh(1);
    assert_int_equal(admits("user:1", words, 20), 10);
    assert_int_equal(admits_here("user:1", words, 10), 0);
}

/* What was used long ago has come back, or the window is over. */
static void test_seed_old(void **state)
{
    static const char *const words[] = { "rate=10/hour", "rate=10/hour algorithm=fixed-window" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        rlp_charge_t charge;
        rlp_charge_t *charges[] = { &charge };
        redis_told_t told = { .asked = rlp_clock_monotonic() - 1800 * RLP_SECOND };

        fresh(1);
        charge_init(&charge, "user:1", words[i]);
        charge.spared = false;
        charge.decision = (rlp_decision_t){ .reset = 3600 * RLP_SECOND };
        redis_denials_learn(&denials, charges, 1, &told);
        assert_int_equal(admits_here("user:1", words[i], 20), i ? 0 : 5);
        told.asked -= 1801 * RLP_SECOND;
        told.server = 1;
        charge_init(&charge, "user:2", words[i]);
        charge.spared = false;
        charge.decision = (rlp_decision_t){ .reset = 3600 * RLP_SECOND };
        redis_denials_learn(&denials, charges, 1, &told);
        assert_int_equal(admits_here("user:2", words[i], 20), 10);
    }
}

/* Each time that Redis has answered meanwhile, the host begins with what Redis said. */
static void test_seed_again(void **state)
{
    (void)state;
    fresh(1);
    assert_int_equal(admits("user:1", "rate=10/day", 4), 4);
    assert_int_equal(admits_here("user:1", "rate=10/day", 2), 2);
    assert_int_equal(admits("user:1", "rate=10/day", 1), 1);
    assert_int_equal(admits_here("user:1", "rate=10/day", 10), 5);
}

/* --- handing back */

static void test_hand_back(void **state)
{
    const char *words = *(const char *const *)unit_row(state);

    fresh(1);
    assert_int_equal(admits("user:1", words, 4), 4);
    shared.hosts.due = rlp_clock_monotonic() + REDIS_HOSTS_EVERY; /* not yet */
    assert_int_equal(admits_here("user:1", words, 3), 3);
    assert_int_equal(shared.away, 1);
    redis_local_maintain(local);
    assert_int_equal(left("user:1", words), 6);
    shared.away = 0;
    redis_local_maintain(local);
    assert_int_equal(left("user:1", words), 3);
    redis_local_maintain(local);
    assert_int_equal(left("user:1", words), 3);
}

/* A counter has been charged in two outages, or under two plans: Redis is told of both. */
static void test_hand_back_twice(void **state)
{
    const char *words = *(const char *const *)unit_row(state);

    fresh(1);
    assert_int_equal(admits("user:1", words, 1), 1);
    assert_int_equal(admits_here("user:1", words, 3), 3);
    assert_int_equal(admits("user:1", words, 1), 1);
    assert_int_equal(admits_here("user:1", words, 2), 2);
    for (int i = 0; i < 3; i++) {
        shared.away = 0;
        redis_local_maintain(local);
    }
    assert_int_equal(left("user:1", words), 3);
}

/* The same of a counter that was charged under two plans. */
static void test_hand_back_plans(void **state)
{
    (void)state;
    fresh(1);
    assert_int_equal(admits("user:1", "rate=10/day", 1), 1);
    assert_int_equal(admits("user:1", "rate=20/day", 1), 1);
    assert_int_equal(admits_here("user:1", "rate=10/day", 3), 3);
    assert_int_equal(admits_here("user:1", "rate=20/day", 4), 4);
    for (int i = 0; i < 3; i++) {
        shared.away = 0;
        redis_local_maintain(local);
    }
    assert_int_equal(left("user:1", "rate=20/day"), 20 - 9);
}

/* That this host can tell that it lives shows that Redis is back. */
static void test_back(void **state)
{
    (void)state;
    fresh(1);
    assert_int_equal(admits_here("user:1", "rate=10/day", 3), 3);
    assert_int_equal(shared.away, 1);
    redis_local_maintain(local);
    assert_int_equal(shared.away, 0);
    assert_int_equal(left("user:1", "rate=10/day"), 7);
}

/* Other hosts have used it up meanwhile: it is empty, and no more. */
static void test_hand_back_full(void **state)
{
    (void)state;
    fresh(1);
    assert_int_equal(admits_here("user:1", "rate=10/day", 20), 10);
    assert_int_equal(admits("user:1", "rate=10/day", 8), 8);
    redis_local_maintain(local);
    assert_int_equal(left("user:1", "rate=10/day"), 0);
    const rlp_question_t question = question_now();
    rlp_charge_t charge;
    rlp_answer_t answer;

    charge_init(&charge, "user:1", "rate=10/day");
    assert_int_equal(rlp_peek(redis, &charge, 1, &question, &answer), APR_SUCCESS);
    assert_in_range(answer.retry, 8630 * RLP_SECOND, 8640 * RLP_SECOND);
}

/* What is corrected here is told as corrected. */
static void test_correct(void **state)
{
    const rlp_question_t question = question_now();
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    fresh(1);
    assert_int_equal(admits("user:1", "rate=10/day", 1), 1);
    charge_init(&charge, "user:1", "rate=10/day");
    charge.cost = 6 * RLP_UNIT;
    assert_int_equal(redis_local_decide(local, &charge, 1, &question, RLP_TAKE, &answer),
                     APR_SUCCESS);
    assert_int_equal(charge.decision.remaining, 3);
    charge.cost = -4 * RLP_UNIT;
    assert_int_equal(redis_local_decide(local, &charge, 1, &question, RLP_SETTLE, &answer),
                     APR_SUCCESS);
    assert_int_equal(charge.decision.remaining, 7);
    redis_local_maintain(local);
    assert_int_equal(left("user:1", "rate=10/day"), 7);
}

static void test_peek(void **state)
{
    const rlp_question_t question = question_now();
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    fresh(1);
    charge_init(&charge, "user:1", "rate=10/day");
    assert_int_equal(redis_local_decide(local, &charge, 1, &question, RLP_PEEK, &answer),
                     APR_SUCCESS);
    assert_int_equal(charge.decision.remaining, 10);
    redis_local_maintain(local);
    assert_int_equal(left("user:1", "rate=10/day"), 10);
}

static void test_places(void **state)
{
    rlp_question_t question = question_now();
    rlp_charge_t charges[3];
    rlp_answer_t answer;

    (void)state;
    fresh(2);
    question.owner = rlp_owner_open(here, 1);
    for (int i = 0; i < 3; i++) {
        charge_init(&charges[i], "user:1", "concurrent=4");
        assert_int_equal(redis_local_decide(local, &charges[i], 1, &question, RLP_TAKE, &answer),
                         APR_SUCCESS);
        assert_int_equal(answer.verdict, i < 2 ? RLP_ALLOW : RLP_DENY);
    }
    assert_int_equal(redis_local_decide(local, &charges[0], 1, &question, RLP_RELEASE, &answer),
                     APR_SUCCESS);
    assert_int_equal(redis_local_decide(local, &charges[2], 1, &question, RLP_TAKE, &answer),
                     APR_SUCCESS);
    assert_int_equal(answer.verdict, RLP_ALLOW);
    redis_local_maintain(local);
    assert_int_equal(left("user:1", "concurrent=4"), 4);
}

/* A quota of which one is left, and what takes over then. */
static void test_branches(void **state)
{
    static const char *const words[] = { "quota=4/year", "rate=2/day" };
    rlp_charge_t charges[2];

    (void)state;
    fresh(1);
    assert_int_equal(admits("user:1", words[0], 3), 3);
    for (int i = 0; i < 5; i++) {
        const rlp_question_t question = question_now();
        rlp_answer_t answer;

        for (int k = 0; k < 2; k++) {
            charge_init(&charges[k], "user:1", words[k]);
            charges[k].branch = k == 0 ? RLP_FIRST : RLP_INSTEAD;
        }
        assert_int_equal(redis_local_decide(local, charges, 2, &question, RLP_TAKE, &answer),
                         APR_SUCCESS);
        assert_int_equal(answer.verdict, i < 3 ? RLP_ALLOW : RLP_DENY);
        assert_int_equal(charges[0].spared, i > 0);
    }
    redis_local_maintain(local);
    assert_int_equal(left("user:1", words[0]), 0);
    assert_int_equal(left("user:1", words[1]), 0);
}

/* A quota that Redis has said is used up is no fresh one while Redis is away. */
static void test_used_up(void **state)
{
    static const char *const words[] = { "quota=4/year", "rate=2/day" };
    rlp_charge_t charges[2];

    (void)state;
    fresh(1);
    assert_int_equal(admits("user:1", words[0], 4), 4);
    for (int i = 0; i < 3; i++) {
        const rlp_question_t question = question_now();
        rlp_answer_t answer;

        for (int k = 0; k < 2; k++) {
            charge_init(&charges[k], "user:1", words[k]);
            charges[k].branch = k == 0 ? RLP_FIRST : RLP_INSTEAD;
        }
        assert_int_equal(i == 0
                             ? rlp_check(redis, charges, 2, &question, &answer)
                             : redis_local_decide(local, charges, 2, &question, RLP_TAKE, &answer),
                         APR_SUCCESS);
        assert_true(charges[0].spared);
        assert_int_equal(answer.verdict, i < 2 ? RLP_ALLOW : RLP_DENY);
    }
}

/* One that the script does not have, with a state that no charge has room for. */
static void test_own_algorithm(void **state)
{
    rlp_limit_t limit = unit_plan("rate=10/day")->limits[0];
    rlp_algorithm_t own = *limit.algorithm;
    uint64_t room[40];
    rlp_question_t question = question_now();
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    fresh(1);
    own.name = "own";
    own.state_size = sizeof(room);
    limit.algorithm = &own;
    limit.state_size = sizeof(room);
    for (int i = 0; i < 3; i++) {
        rlp_charge_init(&charge, "user:1", 6, rlp_signature("api", NULL, &limit), &limit);
        charge.rule = "api";
        charge.entry.state = room;
        assert_int_equal(redis_local_decide(local, &charge, 1, &question, RLP_TAKE, &answer),
                         APR_SUCCESS);
    }
    assert_int_equal(charge.decision.remaining, 7);
    redis_local_maintain(local);
    charge.cost = 0;
    assert_int_equal(rlp_peek(redis, &charge, 1, &question, &answer), APR_SUCCESS);
    assert_int_equal(charge.decision.remaining, 7);
}

static int64_t keys(void)
{
    redisReply *reply = redis_server_ask("KEYS t:rlp:{*");
    const int64_t n = (int64_t)reply->elements;

    freeReplyObject(reply);
    return n;
}

/* A Redis of which the server of user:1 is away. */
static apr_status_t away_with;
static int away_asked;

static apr_status_t partly_decide(rlp_store_t *store, rlp_charge_t *charges, int n,
                                  const rlp_question_t *question, rlp_op_kind_t kind,
                                  rlp_answer_t *answer)
{
    (void)store;
    for (int i = 0; i < n; i++) {
        if (memcmp(charges[i].entry.key.identity, "user:1", 6) == 0 && away_with != APR_SUCCESS) {
            away_asked++;
            return away_with;
        }
    }
    return redis->type->decide(redis, charges, n, question, kind, answer);
}

static const struct {
    apr_status_t rv;
    int64_t left;
} unheard[] = {
    { APR_EAGAIN, 7 },
    { APR_ECONNREFUSED, 7 },
    { APR_TIMEUP, 10 },
    { APR_EOF, 10 },
};

static void fresh_partly(void)
{
    static rlp_store_type_t type;
    static rlp_store_t partly;

    type = *redis->type;
    partly = *redis;
    type.decide = partly_decide;
    partly.type = &type;
    fresh(1);
    local = local_for(&partly, 1);
    shared.hosts.due = rlp_clock_monotonic() + REDIS_HOSTS_EVERY;
}

/* What Redis has surely not heard it is told again, and others are told meanwhile. */
static void test_unheard(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(unheard); i++) {
        fresh_partly();
        assert_int_equal(admits_here("user:1", "rate=10/day", 3), 3);
        assert_int_equal(admits_here("user:2", "rate=10/day", 3), 3);
        for (int round = 0; round < 4; round++) {
            shared.away = 0;
            away_with = round < 2 ? unheard[i].rv : APR_SUCCESS;
            redis_local_maintain(local);
            assert_int_equal(left("user:1", "rate=10/day"), round < 2 ? 10 : unheard[i].left);
            assert_int_equal(left("user:2", "rate=10/day"), 7);
        }
    }
}

/* A part at a time; and who is there, but has not the slot, is not asked all the time. */
static void test_batches(void **state)
{
    (void)state;
    fresh_partly();
    for (int i = 100; i < 170; i++) {
        assert_int_equal(admits_here(apr_psprintf(unit_pool(), "user:%d", i), "rate=10/day", 1), 1);
    }
    away_asked = 0;
    for (int i = 0; i <= 4; i++) {
        shared.away = 0;
        away_with = i == 0 ? APR_EAGAIN : APR_SUCCESS;
        redis_local_maintain(local);
        assert_int_equal(away_asked, 8);
        assert_int_equal(keys(), i * 32 < 70 ? i * 32 : 70);
    }
}

static void add_with_server(void)
{
    redis_open();
    unit_add("K-14: each host has its share", test_share, NULL);
    unit_add("K-14: ... of the hosts that live", test_share_living, NULL);
    for (size_t i = 0; i < UNIT_N(seeded); i++) {
        unit_add_case("K-14: begins with what is left", seeded[i], test_seed, &seeded[i]);
        unit_add_case("K-14: told when it is back", seeded[i], test_hand_back, &seeded[i]);
        unit_add_case("K-14: told of each outage", seeded[i], test_hand_back_twice, &seeded[i]);
    }
    unit_add("what was said long ago", test_seed_old, NULL);
    unit_add("each outage begins anew", test_seed_again, NULL);
    unit_add("who tells that he lives hears that Redis does", test_back, NULL);
    unit_add("told of each plan", test_hand_back_plans, NULL);
    unit_add("never above a full limit", test_hand_back_full, NULL);
    unit_add("corrections", test_correct, NULL);
    unit_add("a server of several is away still", test_unheard, NULL);
    unit_add("a look charges nothing", test_peek, NULL);
    unit_add("places are this host's", test_places, NULL);
    unit_add("a plan that takes over", test_branches, NULL);
    unit_add("a plan that has taken over", test_used_up, NULL);
    unit_add("an algorithm without a script", test_own_algorithm, NULL);
    unit_add("a part at a time", test_batches, NULL);
}

int main(void)
{
    if (redis_server_start("with a server")) {
        add_with_server();
    }
    return unit_run();
}
