/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The store in Redis, asked as a module asks any store, against a real server.
 */

#include "redis/store.h"

#include "algorithm/algorithms.h"
#include "redis_server.h"
#include "unit.h"

#include <apr_strings.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE (20 * RLP_SECOND) /* a slow machine may be slow */

static rlp_store_t *store_open(const char *path)
{
    const redis_store_settings_t made = {
        .endpoint = redis_server_endpoint(path, redis_store_script(unit_pool()), PATIENCE),
        .prefix = "t:",
        .timeout = PATIENCE
    };

    return redis_store_create(&made, unit_pool());
}

static rlp_store_t *store;

static void store_fresh(void)
{
    freeReplyObject(redis_server_ask("FLUSHALL"));
    freeReplyObject(redis_server_ask("CONFIG RESETSTAT"));
}

/* How often the server was asked to run the script. */
static int store_asked(void)
{
    redisReply *reply = redis_server_ask("INFO commandstats");
    const char *at = strstr(reply->str, "cmdstat_evalsha:calls=");
    const int calls = at ? atoi(at + strlen("cmdstat_evalsha:calls=")) : 0;

    freeReplyObject(reply);
    return calls;
}

static void charge_init(rlp_charge_t *charge, const char *identity, const char *rule,
                        const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];

    rlp_charge_init(charge, identity, strlen(identity), rlp_signature(rule, NULL, limit), limit);
    charge->rule = rule;
}

static rlp_answer_t store_take(rlp_charge_t charges[], int n)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_answer_t answer;

    assert_int_equal(rlp_check(store, charges, n, &question, &answer), APR_SUCCESS);
    return answer;
}

static void test_limit(void **state)
{
    const rlp_time_t begun = rlp_clock_monotonic();
    rlp_charge_t charge;

    (void)state;
    store_fresh();
    for (int i = 0; i < 5; i++) {
        charge_init(&charge, "user:42", "api", "rate=5/hour");
        assert_int_equal(store_take(&charge, 1).verdict, RLP_ALLOW);
        assert_int_equal(charge.decision.remaining, 4 - i);
        assert_true(charge.counted_at > 0);
    }
    const rlp_answer_t answer = store_take(&charge, 1);

    assert_int_equal(answer.verdict, RLP_DENY);
    assert_in_range(answer.retry, 719 * RLP_SECOND - (rlp_clock_monotonic() - begun),
                    720 * RLP_SECOND - 1);
    assert_int_equal(store_asked(), 6);
}

/* What one identity was charged comes back when another refuses. */
static void test_identities(void **state)
{
    rlp_charge_t charges[3];

    (void)state;
    store_fresh();
    for (int i = 0; i < 4; i++) {
        charge_init(&charges[0], "user:1", "api", "rate=10/hour");
        charge_init(&charges[1], "ip:192.0.2.1", "ip", "rate=2/hour");
        charge_init(&charges[2], "user:1", "places", "concurrent=10");
        const rlp_answer_t answer = store_take(charges, 3);

        assert_int_equal(answer.verdict, i < 2 ? RLP_ALLOW : RLP_DENY);
        assert_int_equal(answer.tightest, 1);
        assert_int_equal(charges[0].decision.remaining, i < 2 ? 9 - i : 8);
        assert_int_equal(charges[2].decision.remaining, i < 2 ? 9 - i : 8);
    }
    assert_int_equal(store_asked(), 2 * 2 + 2 * 4);
}

static void test_settle(void **state)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    store_fresh();
    charge_init(&charge, "user:1", "api", "rate=10/10weeks algorithm=fixed-window");
    charge.cost = 6 * RLP_UNIT;
    store_take(&charge, 1);
    assert_int_equal(charge.decision.remaining, 4);
    charge.cost = -2 * RLP_UNIT;
    assert_int_equal(rlp_settle(store, &charge, 1, &question, &answer), APR_SUCCESS);
    assert_int_equal(charge.decision.remaining, 6);
}

static rlp_verdict_t told_take(rlp_store_t *host, rlp_charge_t *charge, rlp_units_t cost,
                               rlp_time_t now)
{
    const rlp_question_t question = { .now = now };
    rlp_answer_t answer;

    charge_init(charge, "user:1", "api", "concurrent=1 lease=9s");
    charge->cost = cost;
    assert_int_equal(rlp_check(host, charge, 1, &question, &answer), APR_SUCCESS);
    return answer.verdict;
}

static void told_renew(rlp_store_t *host, rlp_time_t now)
{
    const rlp_question_t question = { .now = now };

    redis_store_renew(host, &question);
}

/* C-09: a place outlasts its lease while the process that has it renews it, in time and not before,
   and no longer. */
static void test_renewed(void **state)
{
    rlp_store_t *hosts[] = { redis_server_told(), redis_server_told() };
    rlp_question_t question = { .now = 1000 * RLP_SECOND };
    rlp_charge_t charges[2];
    rlp_answer_t answer;

    (void)state;
    store_fresh();
    assert_int_equal(told_take(hosts[0], &charges[0], RLP_UNIT, question.now), RLP_ALLOW);
    for (int i = 0; i < 20; i++) {
        question.now += 2 * RLP_SECOND;
        told_renew(hosts[0], question.now);
        told_renew(hosts[1], question.now);
        assert_int_equal(told_take(hosts[1], &charges[1], RLP_UNIT, question.now), RLP_DENY);
    }
    assert_int_equal(store_asked(), 1 + 20 + 10);
    assert_int_equal(rlp_release(hosts[0], &charges[0], 1, &question, &answer), APR_SUCCESS);
    question.now += 5 * RLP_SECOND;
    told_renew(hosts[0], question.now);
    assert_int_equal(store_asked(), 1 + 20 + 10 + 1);
    assert_int_equal(told_take(hosts[1], &charges[1], RLP_UNIT, question.now), RLP_ALLOW);
}

/* One that Redis has lost is asked for once more. */
static void test_lost(void **state)
{
    rlp_store_t *host = redis_server_told();
    rlp_time_t now = 1000 * RLP_SECOND;
    rlp_charge_t charge;

    (void)state;
    store_fresh();
    assert_int_equal(told_take(host, &charge, RLP_UNIT, now), RLP_ALLOW);
    freeReplyObject(redis_server_ask("FLUSHALL"));
    for (int i = 0; i < 3; i++) {
        now += 4 * RLP_SECOND;
        told_renew(host, now);
        assert_int_equal(store_asked(), 2);
    }
}

/* C-09: while Redis is away for half of the lease, the place is not lost. */
static void test_outage(void **state)
{
    rlp_store_t *hosts[] = { redis_server_told(), redis_server_told() };
    const rlp_time_t begin = 1000 * RLP_SECOND;
    rlp_charge_t charges[2];

    (void)state;
    store_fresh();
    assert_int_equal(told_take(hosts[0], &charges[0], RLP_UNIT, begin), RLP_ALLOW);
    freeReplyObject(redis_server_ask("CONFIG SET maxmemory 1"));
    for (int tenths = 20; tenths < 90; tenths++) {
        if (tenths == 65) {
            freeReplyObject(redis_server_ask("CONFIG SET maxmemory 0"));
        }
        told_renew(hosts[0], begin + tenths * RLP_SECOND / 10);
    }
    assert_int_equal(told_take(hosts[1], &charges[1], RLP_UNIT, begin + 9 * RLP_SECOND), RLP_DENY);
}

/* One that a free request did not take is not asked for. */
static void test_free_request(void **state)
{
    rlp_store_t *host = redis_server_told();
    rlp_charge_t charge;

    (void)state;
    store_fresh();
    assert_int_equal(told_take(host, &charge, 0, 1000 * RLP_SECOND), RLP_ALLOW);
    told_renew(host, 1004 * RLP_SECOND);
    assert_int_equal(store_asked(), 1);
}

static void test_places(void **state)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_charge_t charges[3];
    rlp_answer_t answer;

    (void)state;
    store_fresh();
    for (int i = 0; i < 3; i++) {
        charge_init(&charges[i], "user:1", "api", "concurrent=2");
        assert_int_equal(store_take(&charges[i], 1).verdict, i < 2 ? RLP_ALLOW : RLP_DENY);
    }
    assert_int_equal(rlp_release(store, &charges[0], 1, &question, &answer), APR_SUCCESS);
    charge_init(&charges[2], "user:1", "api", "concurrent=2");
    assert_int_equal(store_take(&charges[2], 1).verdict, RLP_ALLOW);
    /* a look is one of another request, whatever the charge has held */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rlp_peek(store, &charges[i], 1, &question, &answer), APR_SUCCESS);
        assert_int_equal(answer.verdict, RLP_DENY);
    }
}

static void test_keys(void **state)
{
    rlp_charge_t charge;

    (void)state;
    store_fresh();
    charge_init(&charge, "user:a}b c", "api", "rate=5/hour");
    store_take(&charge, 1);
    redisReply *keys = redis_server_ask("KEYS *");

    assert_int_equal(keys->elements, 1);
    assert_string_equal(keys->element[0]->str, "t:rlp:{user:a%7Db%20c}:api");
    redisReply *ttl = redis_server_ask("PTTL %s", keys->element[0]->str);

    assert_true(ttl->integer > 0);
    freeReplyObject(ttl);
    freeReplyObject(keys);
}

static void test_flushed(void **state)
{
    rlp_charge_t charge;

    (void)state;
    store_fresh();
    freeReplyObject(redis_server_ask("SCRIPT FLUSH"));
    charge_init(&charge, "user:1", "api", "rate=5/hour");
    assert_int_equal(store_take(&charge, 1).verdict, RLP_ALLOW);
    assert_int_equal(charge.decision.remaining, 4);
}

/* Nobody there: a status, and then when to ask again. */
static void test_away(void **state)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_store_t *away = store_open("/nonexistent/socket");
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    for (int i = 0; i < 4; i++) {
        charge_init(&charge, "user:1", "api", "rate=5/hour");
        assert_int_not_equal(rlp_check(away, &charge, 1, &question, &answer), APR_SUCCESS);
        assert_int_equal(charge.counted_at, 0);
        assert_true(i < 2 ? answer.retry == 0 : answer.retry > 0 && answer.retry <= RLP_SECOND);
    }
}

/* --- an algorithm that the script does not have */

static rlp_algorithm_t stranger; /* the fixed window under another name */

static void stranger_init(rlp_charge_t *charge, const char *identity, const char *rule,
                          const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];
    rlp_limit_t *own = apr_pmemdup(unit_pool(), limit, sizeof(*limit));

    assert_ptr_equal(limit->algorithm, &rlp_fixed_window);
    stranger = *limit->algorithm;
    stranger.name = "stranger";
    own->algorithm = &stranger;
    rlp_charge_init(charge, identity, strlen(identity), rlp_signature(rule, NULL, own), own);
    charge->rule = rule;
}

#define STRANGE "algorithm=fixed-window"

static void test_stranger(void **state)
{
    rlp_charge_t charge;

    (void)state;
    store_fresh();
    for (int i = 0; i < 5; i++) {
        stranger_init(&charge, "user:42", "api", "rate=5/10weeks " STRANGE);
        assert_int_equal(store_take(&charge, 1).verdict, RLP_ALLOW);
        assert_int_equal(charge.decision.remaining, 4 - i);
        assert_true(charge.counted_at > 0);
    }
    const int asked = store_asked();

    assert_int_equal(store_take(&charge, 1).verdict, RLP_DENY);
    assert_true(asked <= 2 * 5 + 2); /* a script that is not known is asked for once more */
    assert_int_equal(store_asked(), asked + 1);
    redisReply *keys = redis_server_ask("KEYS *");

    assert_int_equal(keys->elements, 1);
    assert_memory_equal(keys->element[0]->str, "t:rlp:{user:42}:api:", 20);
    assert_int_equal(keys->element[0]->len, 36);
    redisReply *ttl = redis_server_ask("PTTL %s", keys->element[0]->str);

    assert_in_range(ttl->integer, 1, INT64_C(70) * 24 * 3600 * 1000);
    freeReplyObject(ttl);
    freeReplyObject(keys);
}

static void test_stranger_settle(void **state)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    store_fresh();
    stranger_init(&charge, "user:1", "api", "rate=10/10weeks " STRANGE);
    charge.cost = 6 * RLP_UNIT;
    store_take(&charge, 1);
    assert_int_equal(charge.decision.remaining, 4);
    charge.cost = -2 * RLP_UNIT;
    assert_int_equal(rlp_settle(store, &charge, 1, &question, &answer), APR_SUCCESS);
    assert_int_equal(charge.decision.remaining, 6);
    assert_int_equal(rlp_peek(store, &charge, 1, &question, &answer), APR_SUCCESS);
    assert_int_equal(charge.decision.remaining, 6);
    assert_int_equal(rlp_release(store, &charge, 1, &question, &answer), APR_SUCCESS);
}

/* Beside limits of the script, and of several identities: all or none. */
static void test_stranger_beside(void **state)
{
    rlp_charge_t charges[3];

    (void)state;
    store_fresh();
    for (int i = 0; i < 4; i++) {
        charge_init(&charges[0], "user:1", "api", "rate=10/hour");
        stranger_init(&charges[1], "user:1", "strange", "rate=9/10weeks " STRANGE);
        stranger_init(&charges[2], "ip:192.0.2.1", "strange", "rate=2/10weeks " STRANGE);
        const rlp_answer_t answer = store_take(charges, 3);

        assert_int_equal(answer.verdict, i < 2 ? RLP_ALLOW : RLP_DENY);
        assert_int_equal(answer.tightest, 2);
        assert_int_equal(charges[0].decision.remaining, i < 2 ? 9 - i : 8);
        assert_int_equal(charges[1].decision.remaining, i < 2 ? 8 - i : 7);
    }
}

/* The key of a limit of user:1 under the rule api. */
static const char *stranger_key(const rlp_charge_t *charge)
{
    char *key = apr_palloc(unit_pool(), 64);

    snprintf(key, 64, "t:rlp:{user:1}:api:%016llx",
             (unsigned long long)charge->entry.key.signature);
    return key;
}

/* What is no state is taken for a new one. */
static void test_stranger_damaged(void **state)
{
    rlp_charge_t charge;

    (void)state;
    store_fresh();
    stranger_init(&charge, "user:1", "api", "rate=5/10weeks " STRANGE);
    freeReplyObject(redis_server_ask("LPUSH %s x", stranger_key(&charge)));
    store_take(&charge, 1);
    assert_int_equal(charge.decision.remaining, 4);
    freeReplyObject(redis_server_ask("SET %s x", stranger_key(&charge)));
    store_take(&charge, 1);
    assert_int_equal(charge.decision.remaining, 4);
    store_take(&charge, 1);
    assert_int_equal(charge.decision.remaining, 3);
}

/* A value of the limit, as another host would have left it: all of its window is used. */
static void stranger_put(const rlp_charge_t *charge, int64_t expires, size_t more)
{
    unsigned char value[12 + 64] = "rlc1";
    int64_t window[8] = { 0 };

    memcpy(value + 4, &expires, sizeof(expires));
    memset(window, 0x7f, sizeof(window));
    memcpy(value + 12, window, sizeof(window));
    freeReplyObject(redis_server_ask("SET %s %b", stranger_key(charge), value,
                                     12 + charge->entry.key.size + more));
}

/* What has expired is a new state, and so is what lies behind a longer one of no account. */
static void test_stranger_expired(void **state)
{
    const int64_t now = rlp_clock_wall();
    rlp_charge_t charge;

    (void)state;
    for (size_t more = 0; more <= 8; more += 8) {
        store_fresh();
        stranger_init(&charge, "user:1", "api", "rate=5/10weeks " STRANGE);
        stranger_put(&charge, now - RLP_SECOND, more);
        assert_int_equal(store_take(&charge, 1).verdict, RLP_ALLOW);
        assert_int_equal(charge.decision.remaining, 4);
    }
}

/* What has not expired comes as it was left, by whomever. */
static void test_stranger_kept(void **state)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    store_fresh();
    stranger_init(&charge, "user:1", "api", "rate=5/10weeks " STRANGE);
    charge.cost = 3 * RLP_UNIT;
    store_take(&charge, 1);
    redisReply *value = redis_server_ask("GET %s", stranger_key(&charge));

    store_fresh();
    assert_int_equal(rlp_peek(store, &charge, 1, &question, &answer), APR_SUCCESS);
    assert_int_equal(charge.decision.remaining, 5);
    freeReplyObject(
        redis_server_ask("SET %s %b", stranger_key(&charge), value->str, (size_t)value->len));
    assert_int_equal(rlp_peek(store, &charge, 1, &question, &answer), APR_SUCCESS);
    assert_int_equal(charge.decision.remaining, 2);
    freeReplyObject(value);
}

#define CROWD 6
#define CROWD_TRIES 20
#define CROWD_LIMIT 50

static atomic_int crowd_admitted;
static rlp_charge_t crowd_charge;

static void *crowd_run(void *data)
{
    (void)data;
    for (int i = 0; i < CROWD_TRIES; i++) {
        const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
        rlp_charge_t charge = crowd_charge;
        rlp_answer_t answer;
        apr_status_t rv;

        charge.entry.state = charge.room;
        do { /* who was overtaken all the time asks again */
            rv = rlp_check(store, &charge, 1, &question, &answer);
        } while (rv == APR_EAGAIN);
        if (rv == APR_SUCCESS && answer.verdict == RLP_ALLOW) {
            atomic_fetch_add(&crowd_admitted, 1);
        }
    }
    return NULL;
}

/* T-24: those who are overtaken step again. */
static void test_stranger_crowd(void **state)
{
    pthread_t threads[CROWD];

    (void)state;
    store_fresh();
    atomic_store(&crowd_admitted, 0);
    stranger_init(&crowd_charge, "user:1", "crowd", "rate=50/10weeks " STRANGE);
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_run, NULL), 0);
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&crowd_admitted), CROWD_LIMIT);
}

static void test_stranger_away(void **state)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_store_t *away = store_open("/nonexistent/socket");
    rlp_charge_t charges[2];
    rlp_answer_t answer;

    (void)state;
    charge_init(&charges[0], "user:1", "api", "rate=5/hour");
    stranger_init(&charges[1], "user:1", "strange", "rate=5/10weeks " STRANGE);
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(rlp_check(away, charges, 2, &question, &answer), APR_SUCCESS);
        assert_int_not_equal(rlp_check(away, &charges[1], 1, &question, &answer), APR_SUCCESS);
    }
    assert_in_range(answer.retry, 1, RLP_SECOND);
}

int main(void)
{
    if (!redis_server_start("the store in Redis")) {
        return unit_run();
    }
    store = store_open(redis_server_path());
    unit_add("a limit, in one round trip a request", test_limit, NULL);
    unit_add("all or none over several identities", test_identities, NULL);
    unit_add("a charge is corrected", test_settle, NULL);
    unit_add("places come back", test_places, NULL);
    unit_add("C-09: a place that is renewed", test_renewed, NULL);
    unit_add("C-09: a place in an outage", test_outage, NULL);
    unit_add("one that is lost", test_lost, NULL);
    unit_add("one that is free", test_free_request, NULL);
    unit_add("a key has a name without signs, and a TTL", test_keys, NULL);
    unit_add("T-28: the script is flushed", test_flushed, NULL);
    unit_add("the server is away", test_away, NULL);
    unit_add("an algorithm without a script", test_stranger, NULL);
    unit_add("its charge is corrected", test_stranger_settle, NULL);
    unit_add("all or none beside others", test_stranger_beside, NULL);
    unit_add("what is no state of it", test_stranger_damaged, NULL);
    unit_add("a state that has expired", test_stranger_expired, NULL);
    unit_add("a state that has not", test_stranger_kept, NULL);
    unit_add("T-24: many at once", test_stranger_crowd, NULL);
    unit_add("the server is away from it", test_stranger_away, NULL);
    return unit_run();
}
