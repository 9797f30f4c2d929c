/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * States that are read from a real server, stepped here and written back.
 */

#include "redis/swap.h"

#include "redis_server.h"
#include "unit.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "t:"
#define SWAP_HEAD 12 /* bytes before the state in a value */

static rlp_store_t *swap;

static rlp_store_t *swap_open(const char *path)
{
    const redis_store_settings_t made = { .endpoint =
                                              redis_server_endpoint(path, NULL, 20 * RLP_SECOND),
                                          .prefix = PREFIX,
                                          .timeout = 20 * RLP_SECOND };

    return redis_swap_create(&made, unit_pool());
}

static void server_do(const char *command)
{
    freeReplyObject(redis_server_ask(command));
}

static int64_t server_number(const char *format, const char *key)
{
    redisReply *reply = redis_server_ask(format, key);

    assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
    const int64_t number = reply->integer;

    freeReplyObject(reply);
    return number;
}

static void charge_init(rlp_charge_t *charge, const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];

    rlp_charge_init(charge, "user:1", 6, rlp_signature("api", NULL, limit), limit);
    charge->rule = "api";
    if (limit->state_size > sizeof(charge->room)) {
        charge->entry.state = apr_palloc(unit_pool(), limit->state_size);
    }
}

static rlp_answer_t swap_put(rlp_charge_t charges[], int n, rlp_op_kind_t kind)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_answer_t answer;

    assert_int_equal(swap->type->decide(swap, charges, n, &question, kind, &answer), APR_SUCCESS);
    return answer;
}

static const char *charge_key(const rlp_charge_t *charge)
{
    return apr_psprintf(unit_pool(), PREFIX "rlp:{user:1}:api:%016" APR_UINT64_T_HEX_FMT,
                        charge->entry.key.signature);
}

/* --- each algorithm */

/* Of which nothing comes back while the test runs. */
static const char *const limits[] = {
    "rate=5/365day",
    "rate=5/365day algorithm=stepped-bucket",
    "rate=5/365day algorithm=sliding-log",
    "quota=5",
};

static void test_limit(void **state)
{
    const char *words = unit_row(state);
    rlp_charge_t charge;

    server_do("FLUSHALL");
    charge_init(&charge, words);
    for (int i = 0; i < 2; i++) { /* neither a look nor what is free leaves anything */
        charge.cost = i * RLP_UNIT;
        assert_int_equal(swap_put(&charge, 1, i ? RLP_PEEK : RLP_TAKE).verdict, RLP_ALLOW);
        assert_int_equal(charge.decision.remaining, 5);
        assert_int_equal(server_number("DBSIZE", NULL), 0);
    }
    for (int left = 4; left >= 0; left--) {
        charge_init(&charge, words);
        assert_int_equal(swap_put(&charge, 1, RLP_TAKE).verdict, RLP_ALLOW);
        assert_int_equal(charge.decision.remaining, left);
        assert_true(charge.counted_at > 0);
    }
    assert_int_equal(server_number("STRLEN %s", charge_key(&charge)),
                     SWAP_HEAD + charge.limit->state_size);
    assert_true(server_number("PTTL %s", charge_key(&charge)) > 0);
    redisReply *before = redis_server_ask("GET %s", charge_key(&charge));

    const rlp_time_t counted_at = charge.counted_at;

    assert_memory_equal(before->str, "rlc1", 4);
    assert_true(swap_put(&charge, 1, RLP_TAKE).verdict > RLP_WAIT);
    redisReply *after = redis_server_ask("GET %s", charge_key(&charge));

    assert_int_equal(after->len, before->len); /* a refusal writes nothing */
    assert_memory_equal(after->str, before->str, before->len);
    freeReplyObject(before);
    freeReplyObject(after);
    charge.counted_at = counted_at;
    charge.cost = -RLP_UNIT;
    (void)swap_put(&charge, 1, RLP_SETTLE);
    charge.cost = RLP_UNIT;
    (void)swap_put(&charge, 1, RLP_PEEK);
    assert_int_equal(charge.decision.remaining, 1);
}

/* All limits of an identity, or none; one key each, in one slot. */
static void test_together(void **state)
{
    rlp_charge_t charges[3];

    (void)state;
    server_do("FLUSHALL");
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 3; k++) {
            charge_init(&charges[k], k == 1 ? "rate=2/365day" : limits[k]);
        }
        charges[1].entry.key.signature++; /* of another scope than the first */
        const rlp_answer_t answer = swap_put(charges, 3, RLP_TAKE);

        assert_int_equal(answer.verdict, i < 2 ? RLP_ALLOW : RLP_DENY);
        assert_int_equal(answer.tightest, 1);
        assert_int_equal(charges[0].decision.remaining, i < 2 ? 4 - i : 3);
        assert_int_equal(charges[2].decision.remaining, i < 2 ? 4 - i : 3);
    }
    assert_int_equal(server_number("DBSIZE", NULL), 3);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(server_number("EXISTS %s", charge_key(&charges[k])), 1);
    }
}

/* There are no places to be given back: nobody is asked. */
static void test_release(void **state)
{
    rlp_charge_t charge;

    (void)state;
    charge_init(&charge, limits[0]);
    server_do("FLUSHALL");
    server_do("CONFIG RESETSTAT");
    (void)swap_put(&charge, 1, RLP_RELEASE);
    assert_true(charge.spared);
    redisReply *reply = redis_server_ask("INFO commandstats");

    assert_null(strstr(reply->str, "cmdstat_eval"));
    freeReplyObject(reply);
}

/* --- what lies there already */

typedef struct {
    const char *name;
    const char *command; /* makes the key */
} found_t;

static const found_t founds[] = {
    { "a list", "LPUSH %s x" },
    { "a hash", "HSET %s a b" },
    { "nothing", "SET %s ''" },
    { "a letter", "SET %s r" },
    { "the magic alone", "SET %s rlc1" },
    { "one byte less than a head", "SET %s rlc1zzzzzzz" },
    { "another magic", "SET %s rlc2zzzzzzz\x7fzzzzzzzzzzzzzzzz" },
};

/* Taken for a new state, and replaced. */
static void test_found(void **state)
{
    const found_t *row = unit_row(state);
    rlp_charge_t charge;

    server_do("FLUSHALL");
    charge_init(&charge, limits[0]);
    freeReplyObject(redis_server_ask(row->command, charge_key(&charge)));
    for (int left = 4; left >= 3; left--) {
        assert_int_equal(swap_put(&charge, 1, RLP_TAKE).verdict, RLP_ALLOW);
        assert_int_equal(charge.decision.remaining, left);
    }
    assert_int_equal(server_number("STRLEN %s", charge_key(&charge)),
                     SWAP_HEAD + charge.limit->state_size);
}

/* --- an algorithm that writes down what it is given */

#define STATE_SIZE 64

static struct {
    int steps;
    int meddled;   /* of them, in which somebody else writes meanwhile */
    size_t filled; /* bytes of the state that are not zero, at the last step */
    const char *key;
} heard;

static void heard_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                       rlp_decision_t *decision)
{
    unsigned char *bytes = state;

    (void)op;
    heard.filled = 0;
    for (size_t i = 0; i < limit->state_size; i++) {
        heard.filled += bytes[i] != 0;
        bytes[i] = 'x';
    }
    if (heard.steps++ < heard.meddled) {
        freeReplyObject(redis_server_ask("SET %s by-another-%d", heard.key, heard.steps));
    }
    *decision = (rlp_decision_t){
        .verdict = RLP_ALLOW, .changed = true, .expires = RLP_TIME_NEVER, .remaining = heard.steps
    };
}

static const rlp_algorithm_t heard_algorithm = { .name = "heard", .step = heard_step };

static void heard_init(rlp_charge_t *charge, rlp_limit_t *limit, uint32_t size)
{
    *limit = unit_plan(limits[0])->limits[0];
    limit->algorithm = &heard_algorithm;
    limit->state_size = size;
    rlp_charge_init(charge, "user:1", 6, 42, limit);
    charge->rule = "api";
    charge->entry.state = apr_palloc(unit_pool(), size);
    heard.steps = 0;
    heard.meddled = 0;
    heard.key = charge_key(charge);
}

/* A longer state comes cut off, a shorter one with zeros behind it. */
static void test_sizes(void **state)
{
    static const uint32_t sizes[] = { 64, 8, 64, 65640, 40, SWAP_STATE_MAX };
    size_t before = 0;
    rlp_charge_t charge;
    rlp_limit_t limit;

    (void)state;
    server_do("FLUSHALL");
    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        heard_init(&charge, &limit, sizes[i]);
        (void)swap_put(&charge, 1, RLP_TAKE);
        assert_int_equal(heard.steps, 1);
        assert_int_equal(heard.filled, before < sizes[i] ? before : sizes[i]);
        assert_int_equal(server_number("STRLEN %s", heard.key), SWAP_HEAD + sizes[i]);
        before = sizes[i];
    }
    const int64_t ttl = server_number("PTTL %s", heard.key); /* even where it never expires */

    assert_in_range(ttl, INT64_C(9) * 366 * 86400 * 1000, INT64_C(10) * 366 * 86400 * 1000);
}

/* T-24: who is overtaken steps again, on what is there now. */
static void test_overtaken(void **state)
{
    static const int meddled[] = { 0, 1, 2, 99 };
    rlp_charge_t charge;
    rlp_limit_t limit;

    (void)state;
    for (size_t i = 0; i < UNIT_N(meddled); i++) {
        server_do("FLUSHALL");
        heard_init(&charge, &limit, STATE_SIZE);
        heard.meddled = meddled[i];
        assert_int_equal(swap_put(&charge, 1, RLP_TAKE).verdict, RLP_ALLOW);
        assert_int_equal(heard.steps, meddled[i] + 1);
        assert_int_equal(charge.decision.remaining, heard.steps);
        assert_int_equal(heard.filled, 0); /* the other's is no state */
        assert_int_equal(server_number("STRLEN %s", heard.key), SWAP_HEAD + STATE_SIZE);
    }
}

/* Who is overtaken all the time gives up, and has written nothing. */
static void test_overtaken_always(void **state)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_charge_t charge;
    rlp_limit_t limit;
    rlp_answer_t answer;

    (void)state;
    server_do("FLUSHALL");
    heard_init(&charge, &limit, STATE_SIZE);
    heard.meddled = 1000000;
    assert_int_equal(rlp_check(swap, &charge, 1, &question, &answer), APR_EAGAIN);
    assert_int_equal(charge.counted_at, 0);
    redisReply *reply = redis_server_ask("GET %s", heard.key);

    assert_string_equal(reply->str, apr_psprintf(unit_pool(), "by-another-%d", heard.steps));
    freeReplyObject(reply);
}

/* --- the server */

/* T-28: a server that has forgotten the script is told it again. */
static void test_flushed(void **state)
{
    rlp_charge_t charge;

    (void)state;
    server_do("FLUSHALL");
    for (int left = 4; left >= 2; left--) {
        charge_init(&charge, limits[0]);
        server_do("SCRIPT FLUSH");
        assert_int_equal(swap_put(&charge, 1, RLP_TAKE).verdict, RLP_ALLOW);
        assert_int_equal(charge.decision.remaining, left);
    }
}

/* One charge, never decided, or two: the failure is told, and when to ask again. */
static void test_away(void **state)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_store_t *away = swap_open("/nonexistent/socket");
    rlp_charge_t *charges = malloc(2 * sizeof(*charges)); /* what nobody has written is nobody's */
    rlp_answer_t answer;

    (void)state;
    assert_non_null(charges);
    memset(charges, 0x5a, 2 * sizeof(*charges));
    charge_init(&charges[0], limits[0]);
    charge_init(&charges[1], limits[1]);
    for (int n = 1; n <= 2; n++) {
        for (int i = 0; i < 3; i++) {
            answer.retry = -1;
            assert_int_not_equal(rlp_check(away, charges, n, &question, &answer), APR_SUCCESS);
            assert_int_equal(charges[0].counted_at, 0);
            assert_in_range(answer.retry, 0, RLP_SECOND);
        }
    }
    assert_in_range(answer.retry, 1, RLP_SECOND);
    free(charges);
}

static void add_with_server(void)
{
    swap = swap_open(redis_server_path());
    for (size_t i = 0; i < UNIT_N(limits); i++) {
        unit_add_case("swapped", limits[i], test_limit, limits[i]);
    }
    unit_add("all limits of an identity or none", test_together, NULL);
    unit_add("nothing to release", test_release, NULL);
    for (size_t i = 0; i < UNIT_N(founds); i++) {
        unit_add_case("what is no state", founds[i].name, test_found, &founds[i]);
    }
    unit_add("states of other sizes", test_sizes, NULL);
    unit_add("T-24: overtaken", test_overtaken, NULL);
    unit_add("T-24: overtaken all the time", test_overtaken_always, NULL);
    unit_add("T-28: the script is flushed", test_flushed, NULL);
}

int main(void)
{
    unit_add("the server is away", test_away, NULL);
    if (redis_server_start("with a server")) {
        add_with_server();
    }
    return unit_run();
}
